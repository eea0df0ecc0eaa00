/* train.h: what the files behind `nabla train` share: its settings, the folder of a run, the state of a training, its display. */
#ifndef CLI_TRAIN_H
#define CLI_TRAIN_H
#include <signal.h>

#include "cli.h"

typedef struct train_settings {
    const char *data, *net, *optimizer, *schedule, *out, *resume;
    const char *preset; /* the name of one when that was typed; net is its text then */
    int64_t     epochs, batch, seed, threads, save_every;
    double      lr, weight_decay, l1;
    bool        force, json, quiet;
} train_settings;

/* ----------------------------------------------------------------------------------------------------------- run_folder.c -- */

/* The folder of a run, locked while it is open: two trainers cannot spoil each other's files. */
typedef struct run_folder {
    char *path, *model, *checkpoint, *settings, *history, *loss, *net;
    int   lock;
    bool  is_new; /* it was made by this command */
} run_folder;

/* Before anything is read: could a run be written here? False after a message. */
bool run_folder_usable(const char *path, bool force);
/* Makes (or with `resume` finds) and locks it. With force, the files of an earlier run are removed: call it when all else is
 * ready. */
bool run_folder_open(run_folder *f, const char *path, bool resume, bool force);
void run_folder_give_up(const run_folder *f); /* removes it again if it was made for this run and is empty */
void run_folder_close(run_folder *f);

/* How far a training is. All of it is in the checkpoint; with the tensors it is all that going on needs. */
typedef struct train_state {
    int64_t epoch, batch, step;       /* finished epochs; batches done in this one; steps in all */
    double  loss_sum, correct;        /* of this epoch: sum over its batches of the mean loss, right answers */
    double  point_sum, point_steps;   /* of the point of the loss curve that is being made */
    int64_t best_epoch;               /* 0: none yet */
    double  best_loss, best_accuracy; /* of validation */
    double  seconds, step_seconds;    /* worked so far; in training steps alone */
    json_t *history;                  /* one object an epoch */
    json_t *curve;                    /* [step, mean loss since the last point] */
    json_t *result;                   /* of a finished training, as printed; NULL before */
} train_state;

void    train_state_init(train_state *s);
void    train_state_free(train_state *s);
json_t *train_state_to_json(const train_state *s);
bool    train_state_from_json(train_state *s, json_t *object);

/* The texts of a checkpoint. Opened before the options are known, thus before there is a net to fill. */
typedef struct checkpoint {
    nb_file *file;
    json_t  *settings, *state, *data;
} checkpoint;

bool checkpoint_save(nb_context *nb, const run_folder *f, nb_list tensors, const train_settings *settings,
                     const train_state *state, json_t *data);
/* False after a message. A run without a checkpoint gives file NULL and its settings.json. */
bool checkpoint_open(nb_context *nb, const run_folder *f, checkpoint *c);
/* False after a message, as for checkpoint_open. */
bool checkpoint_load(nb_context *nb, const run_folder *f, checkpoint *c, nb_list tensors, train_state *state);
void checkpoint_close(checkpoint *c);

bool history_save(nb_context *nb, const run_folder *f, const json_t *history);
bool settings_save(nb_context *nb, const run_folder *f, const train_settings *settings);

extern const cli_option train_options[];

/* ------------------------------------------------------------------------------------------------------------ progress.c -- */

/* What stands on stderr while training: on a terminal one live line, else one plain line an epoch; nothing with -q. */
typedef struct progress {
    bool    quiet, live, colour, utf8;
    int64_t epochs, steps, batch; /* in all; steps of an epoch; images of a step */
    int64_t first_step;           /* where this session began */
    double  started, last_drawn;
} progress;

void progress_start(progress *p, const train_settings *s, int64_t steps_an_epoch, int64_t step);
void progress_line(const progress *p, const char *format, ...) NB_PRINTF(2, 3); /* a whole line */
void progress_step(progress *p, const train_state *s);
void progress_validating(progress *p, const train_state *s);
void progress_epoch(progress *p, const train_state *s); /* the last row of the history */
void progress_end(progress *p);                         /* wipes the live line */

/* --------------------------------------------------------------------------------------------------------------- plots.c -- */

bool plot_loss(nb_context *nb, const run_folder *f, const train_state *s, int64_t steps_an_epoch); /* loss.svg */
bool plot_net(nb_context *nb, const run_folder *f, nb_net *net);                                   /* net.svg */

/* ------------------------------------------------------------------------------------------------------------- trainer.c -- */

/* Trains, or goes on, until the end or a signal. Returns the exit code. */
/* With a checkpoint it goes on with the run in f; else f is opened here, as the last thing that can fail before training. */
int train_run(nb_context *nb, run_folder *f, const train_settings *s, cli_data *d, nb_net *net, checkpoint *c);
/* The results of a finished training, on stdout. */
void train_print(const run_folder *f, const train_settings *s, const train_state *state);

#endif
