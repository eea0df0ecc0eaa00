/* options.c: reads what was typed by a command's table, and writes the table's help. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int cli_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("nabla: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_MEND;
}

cli_shell_word cli_shell(const char *word) {
    cli_shell_word w = {{0}};
    size_t         n = 0;
    if (*word && !word[strcspn(word, " \t\n\"'`$&|;<>()*?[]{}#~!\\^=")]) {
        snprintf(w.text, sizeof w.text, "%s", word);
        return w;
    }
    w.text[n++] = '\'';
    for (; *word && n + 6 < sizeof w.text; word++) {
        if (*word == '\'') { /* a quote ends the quoted part, stands by itself, and begins the next */
            memcpy(w.text + n, "'\\'", 3);
            n += 3;
        }
        w.text[n++] = *word;
    }
    w.text[n] = '\'';
    return w;
}

cli_shell_word cli_program(void) { return cli_shell(program_invocation_name); }

/* ---------------------------------------------------------------------------------------------------------------- suggestions */

/* Edit distance: insertions, deletions, replacements and swaps of neighbours (Damerau, 1964). Words are at most 31 letters. */
static int distance(const char *a, const char *b) {
    int row[3][32];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > 31 || m > 31) return 99;
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int cost = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < cost) cost = last[j] + 1;
            if (now[j - 1] + 1 < cost) cost = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < cost)
                cost = before[j - 2] + 1;
            now[j] = cost;
        }
    }
    return row[n % 3][m];
}

const char *cli_nearest(const char *typed, const char *const *words) {
    const char *best = NULL;
    size_t      length = strlen(typed);
    int         limit = length <= 2 ? 1 : length <= 4 ? 2 : 3, least = limit + 1;
    for (; *words; words++) {
        int d = distance(typed, *words);
        /* "epoch" for "epochs", "val" for "validation": the start of a word is near too. */
        if (length >= 3 && strncmp(typed, *words, length) == 0 && d > 1) d = 1;
        if (d < least && d < (int)strlen(*words)) {
            least = d;
            best = *words;
        }
    }
    return best;
}

/* --------------------------------------------------------------------------------------------------------------------- values */

static void *field(const cli_option *o, void *settings) { return (char *)settings + o->offset; }

static bool parse_whole(const cli_option *o, const char *text, int64_t *value) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool      whole = end != text && !*end && !isspace((unsigned char)*text);
    if (whole && !errno && (double)v >= o->low && (double)v <= o->high) {
        *value = v;
        return true;
    }
    cli_error("--%s %s: give a whole number from %.0f to %.0f", o->name, *text ? text : "''", o->low, o->high);
    return false;
}

static bool parse_real(const cli_option *o, const char *text, double *value) {
    char  *end;
    double v = strtod(text, &end);
    if (end != text && !*end && !isspace((unsigned char)*text) && isfinite(v) && v >= o->low && v <= o->high) {
        *value = v;
        return true;
    }
    cli_error("--%s %s: give a number from %g to %g", o->name, *text ? text : "''", o->low, o->high);
    return false;
}

/* "1,28,28" or "1x28x28". */
static bool parse_sizes(const cli_option *o, const char *text, nb_dims *value) {
    nb_dims d = {0};
    for (const char *p = text;; p++) {
        char *end;
        errno = 0;
        long long v = isdigit((unsigned char)*p) ? strtoll(p, &end, 10) : 0;
        if (v < 1 || errno || v > (1 << 24) || d.rank == NB_MAX_RANK - 1) break;
        d.size[d.rank++] = v;
        if (!*end) {
            *value = d;
            return true;
        }
        if (*end != ',' && *end != 'x') break;
        p = end;
    }
    cli_error("--%s %s: give sizes as in 1,28,28 (channels, height, width)", o->name, *text ? text : "''");
    return false;
}

static bool parse_choice(const cli_option *o, const char *text, const char **value) {
    for (const char *const *c = o->choices; *c; c++) {
        if (strcmp(text, *c) != 0) continue;
        *value = *c;
        return true;
    }
    const char *near = cli_nearest(text, o->choices);
    char        list[256];
    size_t      used = 0;
    for (const char *const *c = o->choices; *c && used < sizeof list; c++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", c == o->choices ? "" : c[1] ? ", " : " or ", *c);
    if (near)
        cli_error("--%s %s: did you mean %s? The choices are %s", o->name, text, near, list);
    else
        cli_error("--%s %s: choose %s", o->name, *text ? text : "''", list);
    return false;
}

static bool parse_value(const cli_option *o, const char *text, void *settings) {
    void *at = field(o, settings);
    switch (o->kind) {
    case CLI_FLAG: *(bool *)at = true; return true;
    case CLI_WHOLE: return parse_whole(o, text, at);
    case CLI_REAL: return parse_real(o, text, at);
    case CLI_SIZES: return parse_sizes(o, text, at);
    case CLI_CHOICE: return parse_choice(o, text, at);
    case CLI_TEXT:
        if (*text) {
            *(const char **)at = text;
            return true;
        }
        cli_error("--%s '': the text is empty; give %s", o->name, o->value);
        return false;
    }
    return false;
}

void cli_defaults(const cli_option *options, void *settings) {
    for (const cli_option *o = options; o->name; o++)
        if (o->preset) parse_value(o, o->preset, settings);
}

/* -------------------------------------------------------------------------------------------------------------------- parsing */

#define MAX_OPTIONS 64

static const cli_option *find_long(const cli_option *options, const char *name, size_t length) {
    for (const cli_option *o = options; o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
    return NULL;
}

static const cli_option *find_letter(const cli_option *options, char letter) {
    for (const cli_option *o = options; o->name; o++)
        if (o->letter && o->letter == letter) return o;
    return NULL;
}

/* "batch-size" for "batch", and what other tools call an option. */
static const char *near_option(const char *typed, const char *const *names) {
    static const char *const also[][2] = {{"learning-rate", "lr"}, {"lr-schedule", "schedule"}, {"dataset", "data"},
                                          {"model", "net"},        {"jobs", "threads"},         {"continue", "resume"}};
    const char              *near = cli_nearest(typed, names);
    for (; !near && *names; names++) {
        size_t length = strlen(*names);
        if (length >= 3 && strncmp(typed, *names, length) == 0 && typed[length] == '-') near = *names;
        for (size_t i = 0; !near && i < sizeof also / sizeof *also; i++)
            if (strcmp(typed, also[i][0]) == 0 && strcmp(*names, also[i][1]) == 0) near = *names;
    }
    return near;
}

static bool unknown(const cli_command *command, const char *typed, size_t length) {
    const char *names[MAX_OPTIONS + 2];
    int         n = 0;
    char        name[32];
    for (const cli_option *o = command->options; o->name && n < MAX_OPTIONS; o++) names[n++] = o->name;
    names[n++] = "help";
    names[n] = NULL;
    size_t dashes = strspn(typed, "-");
    snprintf(name, sizeof name, "%.*s", (int)(length - dashes), typed + dashes);
    const char *near = strlen(name) > 1 ? near_option(name, names) : NULL;
    if (near)
        cli_error("unknown option %.*s: did you mean --%s? See '%s help %s'", (int)length, typed, near, cli_program().text,
                  command->name);
    else
        cli_error("unknown option %.*s: see '%s help %s' for those there are", (int)length, typed, cli_program().text,
                  command->name);
    return false;
}

static bool missing_value(const cli_option *o) {
    cli_error("--%s: %s is missing after it", o->name, o->value);
    return false;
}

/* Stores one option; argv[*i] moves past its value. `inline_value` is what follows = or the letter, or NULL. */
static bool take(const cli_command *command, const cli_option *o, const char *inline_value, int argc, char **argv, int *i,
                 cli_words *words, void *settings) {
    const char *value = inline_value;
    if (o->kind == CLI_FLAG && value) {
        cli_error("--%s takes no value", o->name);
        return false;
    }
    if (o->kind != CLI_FLAG && !value) {
        if (*i + 1 >= argc) return missing_value(o);
        value = argv[++*i];
        /* "--out --json" forgot the value; "-0.5" is one. */
        if (value[0] == '-' && value[1] && !isdigit((unsigned char)value[1]) && value[1] != '.') return missing_value(o);
    }
    words->given |= UINT64_C(1) << (o - command->options);
    return parse_value(o, value, settings);
}

bool cli_parse(const cli_command *command, int argc, char **argv, cli_words *words, void *settings) {
    bool only_words = false;
    *words = (cli_words){0};
    cli_defaults(command->options, settings);
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (only_words || a[0] != '-' || !a[1]) {
            if (words->n == CLI_MAX_WORDS) return cli_error("too many words: at most %d", CLI_MAX_WORDS), false;
            words->at[words->n++] = a;
            continue;
        }
        if (strcmp(a, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            words->help = true;
            return true;
        }
        const cli_option *o;
        const char       *value = NULL;
        size_t            length = strcspn(a, "=");
        if (a[1] == '-') {
            o = find_long(command->options, a + 2, length - 2);
            if (a[length]) value = a + length + 1;
        } else {
            o = find_letter(command->options, a[1]);
            if (a[2] && o && o->kind == CLI_FLAG) o = NULL; /* letters are not joined: -qj is unknown */
            if (a[2]) value = a + 2 + (a[2] == '=');
        }
        if (!o) return unknown(command, a, length);
        if (!take(command, o, value, argc, argv, &i, words, settings)) return false;
    }
    if (words->n < command->least) {
        cli_error("%s is missing: nabla %s; see '%s help %s'", command->word, command->usage, cli_program().text, command->name);
        return false;
    }
    if (words->n > command->most) {
        cli_error("'%s' is one word too many: nabla %s; words with blanks need quotes", words->at[command->most], command->usage);
        return false;
    }
    return true;
}

bool cli_was_given(const cli_command *command, const cli_words *words, const char *option) {
    const cli_option *o = find_long(command->options, option, strlen(option));
    return o && (words->given >> (o - command->options) & 1);
}

/* ----------------------------------------------------------------------------------------------------------------------- help */

static void print_option(const cli_option *o, int width) {
    char        left[64];
    const char *text = o->about, *end;
    snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ', o->letter ? ", " : "  ",
             o->name, o->value ? " " : "", o->value ? o->value : "");
    printf("  %-*s", width, left);
    while ((end = strchr(text, '\n'))) {
        printf("  %.*s\n  %-*s", (int)(end - text), text, width, "");
        text = end + 1;
    }
    printf("  %s", text);
    if (o->preset) printf(" [%s]", o->preset);
    putchar('\n');
}

void cli_print_help(const cli_command *command) {
    static const cli_option help = {'h', "help", CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, "print this"};
    int                     width = 12;
    for (const cli_option *o = command->options; o->name; o++) {
        int w = 6 + (int)strlen(o->name) + (o->value ? 1 + (int)strlen(o->value) : 0);
        if (w > width) width = w;
    }
    printf("usage: nabla %s\n\n%s\n\noptions:\n", command->usage, command->details);
    for (const cli_option *o = command->options; o->name; o++) print_option(o, width);
    print_option(&help, width);
    if (command->examples) printf("\nexamples:\n%s", command->examples);
}

/* ----------------------------------------------------------------------------------------------------------------------- JSON */

static json_t *value_to_json(const cli_option *o, const void *at) {
    switch (o->kind) {
    case CLI_FLAG: return json_boolean(*(const bool *)at);
    case CLI_WHOLE: return json_integer(*(const int64_t *)at);
    case CLI_REAL: return json_real(*(const double *)at);
    case CLI_CHOICE:
    case CLI_TEXT: return json_string(*(const char *const *)at ? *(const char *const *)at : "");
    case CLI_SIZES: break; /* no saved option has sizes */
    }
    return NULL;
}

json_t *cli_options_to_json(const cli_option *options, const void *settings) {
    json_t *object = json_object();
    for (const cli_option *o = options; o->name; o++)
        if (o->is_saved) json_object_set_new(object, o->name, value_to_json(o, (const char *)settings + o->offset));
    return object;
}

static bool value_from_json(const cli_option *o, void *at, json_t *v) {
    switch (o->kind) {
    case CLI_FLAG: *(bool *)at = json_is_true(v); return json_is_boolean(v);
    case CLI_WHOLE: {
        json_int_t i = json_integer_value(v);
        *(int64_t *)at = i;
        /* 0 stands for a default that the table cannot name (threads: one for each core). */
        return json_is_integer(v) && (((double)i >= o->low && (double)i <= o->high) || (i == 0 && !o->preset));
    }
    case CLI_REAL:
        *(double *)at = json_number_value(v);
        return json_is_number(v) && json_number_value(v) >= o->low && json_number_value(v) <= o->high;
    case CLI_TEXT: *(const char **)at = json_string_value(v); return json_is_string(v) && *json_string_value(v);
    case CLI_CHOICE:
        for (const char *const *c = o->choices; json_is_string(v) && *c; c++) {
            if (strcmp(json_string_value(v), *c) != 0) continue;
            *(const char **)at = *c;
            return true;
        }
        return false;
    case CLI_SIZES: break;
    }
    return false;
}

bool cli_options_from_json(const cli_option *options, void *settings, json_t *object, const char *where) {
    for (const cli_option *o = options; o->name; o++) {
        if (!o->is_saved) continue;
        json_t *v = json_object_get(object, o->name);
        if (v && value_from_json(o, field(o, settings), v)) continue;
        if (v)
            cli_error("%s: \"%s\" has a value that --%s does not take; mend it, or train anew with --force", where, o->name,
                      o->name);
        else
            cli_error("%s: \"%s\" is missing; mend it, or train anew with --force", where, o->name);
        return false;
    }
    return true;
}
