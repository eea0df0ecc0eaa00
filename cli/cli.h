/* cli.h: what the files of the command share. The command stands on nabla.h only; it adds options, folders, progress and
 * pictures.
 *
 * Exit codes: 0 done; 1 it ran and the answer is no; 2 something that the user can mend; 130 stopped by Ctrl-C with the state
 * saved. */
#ifndef CLI_H
#define CLI_H
#include <jansson.h>
#include <signal.h>

#include "nabla.h"

enum { CLI_DONE = 0, CLI_NO = 1, CLI_MEND = 2, CLI_STOPPED = 130 };

/* ----------------------------------------------------------------------------------------------------------------- options -- */

typedef enum cli_kind { CLI_FLAG, CLI_WHOLE, CLI_REAL, CLI_TEXT, CLI_CHOICE, CLI_SIZES } cli_kind;

/* One row of a command's table. The row drives parsing, help, suggestions and what settings.json says: there is no second
 * list. */
typedef struct cli_option {
    char               letter; /* 'e' for -e; 0: none */
    const char        *name;   /* "epochs" for --epochs; NULL ends the table */
    cli_kind           kind;
    const char        *value;     /* what the help calls it, "N" */
    size_t             offset;    /* of the field in the command's settings: bool, int64_t, double, const char *, nb_dims */
    const char        *preset;    /* the default, written as the user would; NULL: false, 0 or NULL */
    double             low, high; /* allowed range of numbers, both ends included */
    const char *const *choices;   /* words of a CLI_CHOICE, ended by NULL */
    bool               is_saved;  /* belongs to a run: kept in its settings.json and restored by --resume */
    const char        *about;     /* help; lines are broken by \n */
} cli_option;

#define CLI_MAX_WORDS 256

/* What was typed, checked and stored. */
typedef struct cli_words {
    int         n; /* words that are no options */
    const char *at[CLI_MAX_WORDS];
    uint64_t    given; /* bit i: row i of the table was typed */
    bool        help;  /* --help or -h was */
} cli_words;

typedef struct cli_command {
    const char       *name, *usage, *about; /* about: one line for the overview */
    const char       *details;              /* for its help: below the usage, above the options */
    const char       *examples;             /* below the options */
    const cli_option *options;
    int               least, most; /* words */
    const char       *word;        /* what a missing one is, for the message */
    int (*run)(const cli_words *words, void *settings);
    size_t size; /* of the settings; at most CLI_SETTINGS bytes */
} cli_command;

#define CLI_SETTINGS 512

extern const cli_command cli_train_command, cli_eval_command, cli_draw_command, cli_summary_command, cli_profile_command,
    cli_ops_command, cli_gradcheck_command, cli_version_command, cli_help_command;

const cli_command *cli_command_at(int i); /* NULL after the last */
const cli_command *cli_command_find(const char *name);

/* Fills settings with the defaults, then with what was typed. False after a message on stderr. */
void cli_defaults(const cli_option *options, void *settings);
bool cli_parse(const cli_command *command, int argc, char **argv, cli_words *words, void *settings);
bool cli_was_given(const cli_command *command, const cli_words *words, const char *option);
void cli_print_help(const cli_command *command);
/* The saved options as a JSON object, and back. Texts then belong to the object. False after a message that names `where`. */
json_t *cli_options_to_json(const cli_option *options, const void *settings);
bool    cli_options_from_json(const cli_option *options, void *settings, json_t *object, const char *where);

/* The word of a list (ended by NULL) that is nearest to what was typed, or NULL if none is near. */
const char *cli_nearest(const char *typed, const char *const *words);
/* "nabla: ", the message and a new line on stderr. Returns CLI_MEND, so that a command can return it. */
int cli_error(const char *format, ...) NB_PRINTF(1, 2);
/* A word as a shell takes it: in quotes where it needs them. For a message: cli_shell(path).text lives until the end of the
 * statement. */
typedef struct cli_shell_word {
    char text[8192];
} cli_shell_word;
cli_shell_word cli_shell(const char *word);
cli_shell_word cli_program(void); /* this command as it was typed, as a word for the shell */
/* The same with the context's first error. */
int cli_report(nb_context *nb);
/* A context with so many threads (0: one for each core), or NULL after a message. */
nb_context *cli_open(int64_t threads, uint64_t seed);
int         cli_cores(void);
/* Whether a thread prepares batches ahead: only where it takes no core from the threads that compute. Else it costs more than it
 * saves. */
bool        cli_prepares_ahead(nb_context *nb);

/* -------------------------------------------------------------------------------------------------------------- nets, data -- */

/* The text of a net: a preset's, that of a file, or the words themselves. A copy to be freed, or NULL after a message. */
char *cli_net_text(const char *typed);
/* A net from a folder of a run (or a weights file), or from a text as above. NULL after a message. */
nb_net *cli_net_open(nb_context *nb, const char *typed, nb_dims input);
bool    cli_is_saved_net(const char *typed); /* a folder, or a weights file: its net has its own input */
bool    cli_takes_input(const cli_command *command, const cli_words *words); /* false after a message: --input with such a one */
nb_dims cli_input(const cli_command *command, const cli_words *words, nb_dims input); /* --input, or what the preset is for */
char   *cli_model_path(const char *typed);  /* of the weights file; to be freed, or NULL after a message */
/* A step as `train` makes it (cross-entropy, Adam) on noise, or the trained form. False when the context has failed. */
typedef struct cli_step {
    nb_program *program;
    nb_tensor  *x, *labels; /* inputs; labels NULL in the trained form */
} cli_step;
bool cli_step_make(nb_context *nb, nb_net *net, int64_t batch, bool infer, cli_step *s);
/* The memory plan of a step, on stdout. False when the context has failed. */
bool cli_print_memory(nb_context *nb, nb_net *net, int64_t batch);
/* numbers.c */
const char *cli_s(int64_t n); /* "" for 1, else "s": the end of a noun */
const char *cli_scaled(double n, const char *unit, char text[32]); /* 1843200 -> "1.84 M" and the unit: thousands by 1000 */
const char *cli_shape(nb_dims d, char text[64]);                   /* "1x28x28" */
/* Where the time of a program went, on stderr; nothing unless NABLA_PROFILE=1 was set. */
void         cli_print_profile(nb_program *p, const char *title);
const nb_op *cli_op_find(const char *name); /* NULL after a message with a suggestion */
bool         cli_is_folder(const char *path);
bool         cli_exists(const char *path);
char        *cli_join(const char *folder, const char *name); /* folder/name, to be freed */

/* The two parts of a data set. */
typedef struct cli_data {
    char       *folder; /* absolute */
    const char *name;   /* "fashion-mnist", or the folder */
    nb_dataset *train, *validation, *test;
    json_t     *class_names;
    double      mean, std; /* of the training images */
    bool        is_fashion;
    char        doubt[320]; /* what a label that is too high may mean, or "" */
} cli_data;

/* Finds the folder; false after a message. */
bool cli_data_find(cli_data *d, const char *typed);
/* Reads the test part, and with `train` the training part, of which 1/12 by seed becomes validation. */
bool cli_data_read(nb_context *nb, cli_data *d, bool train, uint64_t seed);
void cli_data_free(cli_data *d);
bool cli_fits(nb_net *net, const cli_data *d); /* input and output sizes; false after a message */
/* Of the contents: two data sets with one checksum are taken for the same. As text for JSON. */
void cli_data_checksum(const cli_data *d, char text[17]);

/* Loss (mean) and share of right answers of a net over a data set. */
typedef struct cli_score {
    double loss, accuracy, seconds;
} cli_score;
typedef struct cli_scorer cli_scorer;
nb_tensor                *cli_count_right(nb_tensor *logits, nb_tensor *labels);
cli_scorer               *cli_scorer_new(nb_context *nb, nb_net *net, nb_dataset *d, double mean, double std);
void                      cli_scorer_free(cli_scorer *s);
void                      cli_scorer_profile(cli_scorer *s, const char *title); /* as cli_print_profile */
/* False when the context failed, or when *stop became true (NULL: never). */
bool cli_scorer_run(cli_scorer *s, cli_score *score, const volatile sig_atomic_t *stop);

/* ---------------------------------------------------------------------------------------------------------------- pictures -- */

/* Runs a program (found by PATH, never a shell) with `input` as its standard input and returns what it printed, to be freed. NULL
 * with a message, unless it is not installed: then *missing is true. */
char *cli_filter(const char *const argv[], const char *input, size_t *size, bool *missing);
/* Writes graphviz source as FILE.svg, .png, .pdf or .dot. Without graphviz the source goes to FILE.dot with a remark: *drawn is
 * false. */
bool cli_write_picture(nb_context *nb, const char *path, const char *dot, bool *drawn);

char  *cli_formula(const char *latex); /* as a terminal can show it; to be freed, NULL without memory */
double cli_now(void);                  /* seconds of a steady clock */
#endif
