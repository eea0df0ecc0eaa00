/* train.c: `nabla train`: its options, and all that must be right before training starts. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

#define FIELD(name) offsetof(train_settings, name)

static const char *const optimizers[] = {"sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", NULL};
static const char *const schedules[] = {"constant", "step", "exp", "cosine", "one-cycle", NULL};

const cli_option train_options[] = {
    {0, "data", CLI_TEXT, "DATA", FIELD(data), NULL, 0, 0, NULL, true,
     "fashion-mnist, or a folder with the four files of MNIST\n(see above); with --resume, where the same data are now"},
    {0, "net", CLI_TEXT, "NET", FIELD(net), NULL, 0, 0, NULL, true,
     "cnn, mlp, lenet, a text ('nabla help net'), or a file\nwith such a text"},
    {'e', "epochs", CLI_WHOLE, "N", FIELD(epochs), "5", 1, 100000, NULL, true, "times through the training images"},
    {'b', "batch", CLI_WHOLE, "N", FIELD(batch), "64", 1, 65536, NULL, true, "images of a step"},
    {0, "optimizer", CLI_CHOICE, "NAME", FIELD(optimizer), "adam", 0, 0, optimizers, true,
     "sgd, momentum (0.9), nesterov (0.9), rmsprop, adagrad,\nadam or adamw"},
    {0, "lr", CLI_REAL, "X", FIELD(lr), "1e-3", 1e-12, 1e38, NULL, true, "learning rate; of one-cycle its peak"},
    {0, "schedule", CLI_CHOICE, "NAME", FIELD(schedule), "constant", 0, 0, schedules, true,
     "rate over time: constant, step (a tenth after each third),\nexp (0.95 an epoch), cosine (to 0) or one-cycle"},
    {0, "weight-decay", CLI_REAL, "X", FIELD(weight_decay), "0", 0, 1e6, NULL, true,
     "pull of parameters to 0: added to gradients, but by adamw\nto the update"},
    {0, "l1", CLI_REAL, "X", FIELD(l1), "0", 0, 1e6, NULL, true, "penalty in the loss: X times the sum of |weight|"},
    {'s', "seed", CLI_WHOLE, "N", FIELD(seed), "0", 0, 4294967295.0, NULL, true,
     "of weights, order, dropout and validation images"},
    {'t', "threads", CLI_WHOLE, "N", FIELD(threads), NULL, 1, 256, NULL, true,
     "that compute; results do not depend on it [all cores]"},
    {'o', "out", CLI_TEXT, "DIR", FIELD(out), "run", 0, 0, NULL, false, "folder for all that is written"},
    {0, "force", CLI_FLAG, NULL, FIELD(force), NULL, 0, 0, NULL, false, "replace the run that DIR holds"},
    {0, "resume", CLI_TEXT, "DIR", FIELD(resume), NULL, 0, 0, NULL, false,
     "go on with the run in DIR, with its own options; the end is\nthe same as without the break"},
    {0, "save-every", CLI_WHOLE, "STEPS", FIELD(save_every), NULL, 1, 1e9, NULL, true, "steps between checkpoints [an epoch]"},
    {0, "json", CLI_FLAG, NULL, FIELD(json), NULL, 0, 0, NULL, false, "print the result as one line of JSON"},
    {'q', "quiet", CLI_FLAG, NULL, FIELD(quiet), NULL, 0, 0, NULL, false, "no progress on stderr"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

/* Options that the run itself fixes cannot come with --resume. */
static bool resume_is_alone(const cli_words *words, const train_settings *s) {
    for (const cli_option *o = train_options; o->name; o++) {
        bool is_free = strcmp(o->name, "resume") == 0 || strcmp(o->name, "data") == 0 || strcmp(o->name, "threads") == 0 ||
                       strcmp(o->name, "json") == 0 || strcmp(o->name, "quiet") == 0;
        if (is_free || !cli_was_given(&cli_train_command, words, o->name)) continue;
        cli_error("--%s cannot come with --resume, which restores all options of the run in %s; leave it out, or start "
                  "another run with -o ANOTHER-DIR",
                  o->name, s->resume);
        return false;
    }
    return true;
}

static bool are_complete(const train_settings *s) {
    if (!s->data)
        return cli_error("--data is missing: add --data fashion-mnist, or a folder with the four files of MNIST"), false;
    if (!s->net)
        return cli_error("--net is missing: add --net cnn, mlp or lenet, or a text as in '%s help net'", cli_program().text),
               false;
    return true;
}

/* A preset ends with a number for each of 10 classes: the same with as many as the data have. To be freed; NULL after a
 * message. */
static char *fit_preset(const train_settings *s, const cli_data *d) {
    int64_t     classes = nb_dataset_classes(d->train);
    const char *text = nb_net_preset(s->preset), *last = strrchr(text, ' ');
    size_t      size = strlen(text) + 24;
    char       *fitted = malloc(size);
    if (!fitted) return cli_error("no memory for a net"), NULL;
    snprintf(fitted, size, "%.*s %lld", (int)(last - text), text, (long long)classes);
    if (strcmp(text, fitted) == 0) return fitted;
    if (*d->doubt) return cli_error("%s: %s", d->name, d->doubt), free(fitted), NULL;
    if (!s->quiet) fprintf(stderr, "%s, for the %lld classes of %s: %s\n", s->preset, (long long)classes, d->name, fitted);
    return fitted;
}

/* The loss of a training is made of the numbers before a softmax. */
static bool ends_with_softmax(nb_net *net) {
    const char *last = nb_net_layer_info(net, nb_net_layer_count(net) - 1).type;
    if (!last || !strstr(last, "softmax")) return false;
    return cli_error("the net ends with %s, which the loss does: leave it out", last), true;
}

static int train_net(nb_context *nb, run_folder *f, train_settings *s, cli_data *d, checkpoint *c) {
    nb_seed(nb, (uint64_t)s->seed);
    nb_net *net = nb_net_parse(nb, s->net, nb_dataset_item(d->train));
    if (!net) return cli_report(nb);
    if (!cli_fits(net, d) || ends_with_softmax(net)) return CLI_MEND;
    return train_run(nb, f, s, d, net, c);
}

/* Reads and checks everything. `c` is NULL for a new run. */
static int train_in(nb_context *nb, run_folder *f, train_settings *s, cli_data *d, checkpoint *c) {
    if (!cli_data_read(nb, d, true, (uint64_t)s->seed)) return CLI_MEND;
    int64_t images = nb_dataset_count(d->train);
    if (s->batch > images)
        return cli_error(
            "--batch %lld: there %s only %lld training image%s (1 in 12 is kept for validation); choose a smaller batch",
            (long long)s->batch, images == 1 ? "is" : "are", (long long)images, cli_s(images));
    if (s->preset && nb_net_preset_input(s->preset).rank != 3)
        return cli_error(
            "the net %s takes whole numbers, but %s has images; this command trains nets for images: cnn, mlp, lenet", s->preset,
            d->name);
    char *fitted = s->preset ? fit_preset(s, d) : NULL;
    if (s->preset && !fitted) return CLI_MEND;
    if (fitted) s->net = fitted;
    int code = train_net(nb, f, s, d, c);
    free(fitted);
    return code;
}

static int train_new(train_settings *s) {
    cli_data   d = {0};
    run_folder f = {.lock = -1};
    int        code = CLI_MEND;
    if (!are_complete(s) || !run_folder_usable(s->out, s->force) || !cli_data_find(&d, s->data))
        return cli_data_free(&d), CLI_MEND;
    char *text = cli_net_text(s->net);
    if (text) {
        nb_context *nb = cli_open(s->threads, (uint64_t)s->seed);
        s->preset = nb_net_preset(s->net) ? s->net : NULL;
        s->net = text;
        if (d.folder && strcmp(s->data, "fashion-mnist") != 0) s->data = d.folder;
        if (nb) code = train_in(nb, &f, s, &d, NULL);
        nb_close(nb);
    }
    free(text);
    cli_data_free(&d);
    run_folder_close(&f);
    return code;
}

/* The options come from the checkpoint, or, before the first one, from settings.json. */
static int train_on(nb_context *nb, run_folder *f, train_settings *s, checkpoint *c, const train_settings *typed) {
    cli_data    d = {0};
    const char *where = c->file ? f->checkpoint : f->settings;
    if (!cli_options_from_json(train_options, s, c->settings, where)) return CLI_MEND;
    s->out = typed->resume;
    if (typed->data) s->data = typed->data; /* the folder may have moved; that it holds the same is checked */
    if (typed->threads) s->threads = typed->threads;
    train_state state;
    train_state_init(&state);
    if (c->file && train_state_from_json(&state, c->state) && state.result) {
        train_print(f, s, &state);
        train_state_free(&state);
        return CLI_DONE;
    }
    train_state_free(&state);
    int code = CLI_MEND;
    if (cli_data_find(&d, s->data)) {
        if (strcmp(s->data, "fashion-mnist") != 0) s->data = d.folder;
        code = train_in(nb, f, s, &d, c);
    }
    cli_data_free(&d);
    return code;
}

/* A context is made with its threads, and how many the run had is in its checkpoint: so that is read first with a small one. */
static bool saved_threads(run_folder *f, int64_t *threads) {
    checkpoint  c = {0};
    nb_context *nb = cli_open(1, 0);
    bool        ok = nb && checkpoint_open(nb, f, &c);
    json_int_t  n = json_integer_value(json_object_get(c.settings, "threads"));
    if (ok && !*threads) *threads = n < 0 || n > 256 ? 0 : n;
    checkpoint_close(&c);
    nb_close(nb);
    return ok;
}

static int train_resume(train_settings *s) {
    train_settings typed = *s;
    run_folder     f = {.lock = -1};
    checkpoint     c = {0};
    int            code = CLI_MEND;
    int64_t        threads = s->threads;
    if (run_folder_open(&f, s->resume, true, false) && saved_threads(&f, &threads)) {
        nb_context *nb = cli_open(threads, 0);
        if (nb && checkpoint_open(nb, &f, &c)) code = train_on(nb, &f, s, &c, &typed);
        checkpoint_close(&c);
        nb_close(nb);
    }
    run_folder_close(&f);
    return code;
}

static int run(const cli_words *words, void *settings) {
    train_settings *s = settings;
    if (!s->resume) return train_new(s);
    return resume_is_alone(words, s) ? train_resume(s) : CLI_MEND;
}

const cli_command cli_train_command = {
    .name = "train",
    .usage = "train --data DATA --net NET [options]   or   train --resume DIR",
    .about = "train a net on labelled images",
    .details = "Trains a net on labelled images and scores it on the test images, which it has not seen.\n"
               "One training image in 12, chosen by the seed, is held back for validation: the epoch that does\n"
               "best there is kept. Progress is on stderr, results are on stdout; the last line is the test accuracy.\n"
               "Ctrl-C stops after the current step and saves the state; a second Ctrl-C ends at once.\n\n"
               "A folder of data has train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and\n"
               "t10k-labels-idx1-ubyte, each plain or with .gz. Labels count from 0.\n\n"
               "DIR then has: model.safetensors (the best epoch), checkpoint (the last state), settings.json,\n"
               "history.csv, loss.svg and net.svg.",
    .examples = "  nabla train --data fashion-mnist --net cnn --schedule one-cycle --lr 3e-3 -e 3\n"
                "  nabla train --data digits/ --net 'flatten, linear 100, relu, linear 10' -o run2\n"
                "  nabla train --resume run2\n",
    .options = train_options,
    .run = run,
    .size = sizeof(train_settings),
};
