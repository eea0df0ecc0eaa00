/* checkpoint.c: the files of a run that hold its state: settings.json, history.csv and the checkpoint, which alone is enough to
 * go on to the same end. It is a safetensors file: tensors, and three texts of JSON in its metadata. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

#define LIMIT (1 << 24) /* bytes of a settings.json that is taken for one */

void train_state_init(train_state *s) { *s = (train_state){.history = json_array(), .curve = json_array()}; }

void train_state_free(train_state *s) {
    json_decref(s->history);
    json_decref(s->curve);
    json_decref(s->result);
    *s = (train_state){0};
}

json_t *train_state_to_json(const train_state *s) {
    return json_pack("{sI sI sI sf sf sf sf sI sf sf sf sf sO sO sO*}", "epoch", (json_int_t)s->epoch, "batch",
                     (json_int_t)s->batch, "step", (json_int_t)s->step, "loss_sum", s->loss_sum, "correct", s->correct,
                     "point_sum", s->point_sum, "point_steps", s->point_steps, "best_epoch", (json_int_t)s->best_epoch,
                     "best_loss", s->best_loss, "best_accuracy", s->best_accuracy, "seconds", s->seconds, "step_seconds",
                     s->step_seconds, "history", s->history, "curve", s->curve, "result", s->result);
}

bool train_state_from_json(train_state *s, json_t *object) {
    json_int_t  epoch, batch, step, best_epoch;
    train_state n = {0};
    int         bad =
        json_unpack(object, "{sI sI sI sF sF sF sF sI sF sF sF sF so so s?o}", "epoch", &epoch, "batch", &batch, "step", &step,
                    "loss_sum", &n.loss_sum, "correct", &n.correct, "point_sum", &n.point_sum, "point_steps", &n.point_steps,
                    "best_epoch", &best_epoch, "best_loss", &n.best_loss, "best_accuracy", &n.best_accuracy, "seconds",
                    &n.seconds, "step_seconds", &n.step_seconds, "history", &n.history, "curve", &n.curve, "result", &n.result);
    if (bad || epoch < 0 || batch < 0 || step < 0 || !json_is_array(n.history) || !json_is_array(n.curve)) return false;
    n.epoch = epoch;
    n.batch = batch;
    n.step = step;
    n.best_epoch = best_epoch;
    json_incref(n.history);
    json_incref(n.curve);
    json_incref(n.result);
    train_state_free(s);
    *s = n;
    return true;
}

/* Numbers with 17 digits come back as they were. */
static char *dump(const json_t *value) { return json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17)); }

bool checkpoint_save(nb_context *nb, const run_folder *f, nb_list tensors, const train_settings *settings,
                     const train_state *state, json_t *data) {
    json_t         *s = cli_options_to_json(train_options, settings), *p = train_state_to_json(state);
    char           *settings_text = dump(s), *state_text = dump(p), *data_text = dump(data), random[64], machine[128];
    nb_random_state r = nb_get_random(nb);
    snprintf(random, sizeof random, "%" PRIu64 " %" PRIu64, r.seed, r.step);
    snprintf(machine, sizeof machine, "nabla %s, kernels %s, %s", NB_VERSION, nb_kernels(nb), nb_libraries());
    const nb_pair pairs[] = {
        {"settings", settings_text}, {"state", state_text}, {"data", data_text}, {"random", random}, {"machine", machine}};
    bool ok = settings_text && state_text && data_text;
    if (ok)
        ok = nb_save(nb, f->checkpoint, tensors, (int)(sizeof pairs / sizeof *pairs), pairs);
    else
        nb_fail(nb, NB_NO_MEMORY, "%s: no memory to write it", f->checkpoint);
    free(settings_text);
    free(state_text);
    free(data_text);
    json_decref(s);
    json_decref(p);
    return ok;
}

/* What is wrong with the checkpoint, and the way out. */
static bool refuse(nb_context *nb, const run_folder *f, const char *what) {
    if (!what && nb_error_status(nb) != NB_IO) return cli_report(nb), false;
    const char *anew = cli_exists(f->settings) ? "remove it, and --resume begins again from settings.json, or " : "";
    cli_error("%s. If it cannot be brought back, %strain anew with --force", what ? what : nb_error(nb), anew);
    return false;
}

static json_t *parse_pair(nb_context *nb, const run_folder *f, nb_file *file, const char *key) {
    json_error_t error;
    char         what[512];
    const char  *text = nb_file_pair(file, key);
    json_t      *object = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!json_is_object(object)) {
        json_decref(object);
        snprintf(what, sizeof what, "%.400s is not a checkpoint of nabla train: its metadata has no %s", f->checkpoint, key);
        refuse(nb, f, what);
        return NULL;
    }
    return object;
}

static json_t *read_settings(nb_context *nb, const run_folder *f) {
    json_error_t error;
    size_t       size;
    char        *text = nb_read_file(nb, f->settings, LIMIT, &size);
    if (!text) return cli_report(nb), NULL;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!object) cli_error("%s, line %d: %s; mend it, or train anew with --force", f->settings, error.line, error.text);
    nb_free(nb, text);
    return object;
}

bool checkpoint_open(nb_context *nb, const run_folder *f, checkpoint *c) {
    *c = (checkpoint){0};
    if (!cli_exists(f->checkpoint)) {
        if (cli_exists(f->settings)) return (c->settings = read_settings(nb, f)) != NULL;
        cli_error("the folder %s holds no run: it has neither checkpoint nor settings.json; start one with -o %s", f->path,
                  cli_shell(f->path).text);
        return false;
    }
    c->file = nb_file_open(nb, f->checkpoint);
    if (!c->file) return refuse(nb, f, NULL);
    c->settings = parse_pair(nb, f, c->file, "settings");
    c->state = c->settings ? parse_pair(nb, f, c->file, "state") : NULL;
    c->data = c->state ? parse_pair(nb, f, c->file, "data") : NULL;
    return c->data != NULL;
}

bool checkpoint_load(nb_context *nb, const run_folder *f, checkpoint *c, nb_list tensors, train_state *state) {
    nb_random_state r;
    char            machine[128];
    const char     *random = nb_file_pair(c->file, "random"), *made = nb_file_pair(c->file, "machine");
    if (!train_state_from_json(state, c->state) || !random || sscanf(random, "%" SCNu64 " %" SCNu64, &r.seed, &r.step) != 2)
        nb_fail(nb, NB_IO, "%s: its state is incomplete", f->checkpoint);
    if (nb_error(nb) || !nb_file_load(c->file, tensors)) return refuse(nb, f, NULL);
    nb_set_random(nb, r);
    snprintf(machine, sizeof machine, "nabla %s, kernels %s, %s", NB_VERSION, nb_kernels(nb), nb_libraries());
    if (made && strcmp(made, machine) != 0)
        fprintf(stderr,
                "nabla: this run was begun by %s, and goes on with %s: its last bits may differ from those of a run without a "
                "break\n",
                made, machine);
    return true;
}

void checkpoint_close(checkpoint *c) {
    if (c->file) nb_file_close(c->file);
    json_decref(c->settings);
    json_decref(c->state);
    json_decref(c->data);
    *c = (checkpoint){0};
}

bool settings_save(nb_context *nb, const run_folder *f, const train_settings *settings) {
    json_t *object = cli_options_to_json(train_options, settings);
    char   *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    bool    ok = text && nb_write_file(nb, f->settings, text, strlen(text));
    if (!text) nb_fail(nb, NB_NO_MEMORY, "%s: no memory to write it", f->settings);
    free(text);
    json_decref(object);
    return ok;
}

bool history_save(nb_context *nb, const run_folder *f, const json_t *history) {
    static const char *const columns[] = {
        "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds"};
    enum { N = sizeof columns / sizeof *columns };
    char   *text = NULL;
    size_t  size = 0, i;
    FILE   *out = open_memstream(&text, &size);
    json_t *row;
    if (!out) return nb_fail(nb, NB_NO_MEMORY, "%s: no memory to write it", f->history), false;
    for (int c = 0; c < N; c++) fprintf(out, "%s%c", columns[c], c + 1 < N ? ',' : '\n');
    json_array_foreach(history, i, row) {
        for (int c = 0; c < N; c++)
            fprintf(out, "%.9g%c", json_number_value(json_object_get(row, columns[c])), c + 1 < N ? ',' : '\n');
    }
    bool ok = fclose(out) == 0 && nb_write_file(nb, f->history, text, size);
    free(text);
    return ok;
}
