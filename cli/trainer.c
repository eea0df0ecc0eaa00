/* trainer.c: the loop of a training: steps, validation, checkpoints, and the way to a signal, to NaN or to the end.
 *
 * A training is a function of its options: where it was stopped and went on leaves no trace in its last state. So all that
 * the next step depends on is in train_state and in the tensors of net and optimiser. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train.h"

typedef struct trainer {
    nb_context           *nb;
    run_folder           *folder;
    const train_settings *settings;
    cli_data             *data;
    nb_net               *net;
    nb_optimizer         *optimizer;
    nb_schedule           schedule;
    nb_loader            *loader;
    nb_tensor            *x, *y;
    nb_program           *step;
    cli_scorer           *validation;
    json_t               *facts; /* about the data: compared when going on */
    train_state           state;
    progress              progress;
    int64_t               steps, point; /* of an epoch; of one point of the loss curve */
    int64_t               resumed_step;
    bool                  is_scoring; /* not in a training step */
    double                clock;      /* when state.seconds was last brought up to date */
} trainer;

/* The one thing a signal may touch. The second Ctrl-C ends the process at once. */
static volatile sig_atomic_t stopped;

/* A step may be long, so the answer comes from here, by a call that is allowed here. */
static void on_signal(int number) {
    static const char text[] = "\nnabla: stopping; saving the state ...\n";
    int               error = errno;
    ssize_t           n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n; /* nobody is left to be told */
    errno = error;
    stopped = number;
}

static void listen_to_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)}, old;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(SIGHUP, &a, NULL); /* nohup stays */
}

/* ----------------------------------------------------------------------------------------------------------------- setting up */

static nb_optimizer *make_optimizer(const train_settings *s, nb_list parameters) {
    double rate = s->lr, decay = s->weight_decay;
    if (strcmp(s->optimizer, "sgd") == 0) return nb_sgd(parameters, rate, &(nb_sgd_options){.weight_decay = decay});
    if (strcmp(s->optimizer, "momentum") == 0)
        return nb_sgd(parameters, rate, &(nb_sgd_options){.momentum = 0.9, .weight_decay = decay});
    if (strcmp(s->optimizer, "nesterov") == 0)
        return nb_sgd(parameters, rate, &(nb_sgd_options){.momentum = 0.9, .nesterov = true, .weight_decay = decay});
    if (strcmp(s->optimizer, "rmsprop") == 0) return nb_rmsprop(parameters, rate, &(nb_rmsprop_options){.weight_decay = decay});
    if (strcmp(s->optimizer, "adagrad") == 0) return nb_adagrad(parameters, rate, &(nb_adagrad_options){.weight_decay = decay});
    if (strcmp(s->optimizer, "adamw") == 0)
        return nb_adamw(parameters, rate, &(nb_adam_options){.weight_decay = decay > 0 ? decay : NB_NONE});
    return nb_adam(parameters, rate, &(nb_adam_options){.weight_decay = decay});
}

static nb_schedule make_schedule(const train_settings *s, int64_t steps_an_epoch) {
    static const char *const names[] = {"constant", "step", "exp", "cosine", "one-cycle"};
    nb_schedule_kind         kind = NB_CONSTANT;
    while (kind < NB_ONE_CYCLE && strcmp(s->schedule, names[kind]) != 0) kind++;
    nb_schedule schedule = {.kind = kind, .rate = s->lr, .steps = s->epochs * steps_an_epoch};
    if (kind == NB_EXPONENTIAL) schedule.every = steps_an_epoch;
    return schedule;
}

/* Sum of |w| over weights; biases and scales are left alone. */
static nb_tensor *penalty(trainer *t, double l1) {
    nb_list all = nb_net_parameters(t->net), weights = all;
    weights.n = 0;
    for (int i = 0; i < all.n; i++)
        if (nb_rank(all.at[i]) >= 2) weights.at[weights.n++] = all.at[i];
    return weights.n ? nb_mul(nb_number(t->nb, l1), nb_l1(weights)) : nb_number(t->nb, 0);
}

/* The program of a step: loss, right answers, and the assigns of batch norms and the optimiser. */
static void compile_step(trainer *t) {
    nb_context *nb = t->nb;
    int64_t     batch = t->settings->batch;
    nb_dims     shape = nb_net_input(t->net);
    memmove(shape.size + 1, shape.size, (size_t)shape.rank++ * sizeof *shape.size);
    shape.size[0] = batch;
    t->x = nb_input(nb, "images", NB_F32, shape);
    t->y = nb_input(nb, "labels", NB_I64, nb_shape(batch));
    t->optimizer = make_optimizer(t->settings, nb_net_parameters(t->net));
    nb_tensor *logits = nb_net_apply(t->net, t->x, NB_TRAIN);
    nb_tensor *loss = nb_cross_entropy(logits, t->y, NULL);
    nb_tensor *goal = t->settings->l1 > 0 ? nb_add(loss, penalty(t, t->settings->l1)) : loss;
    nb_list    roots = nb_list_join(nb, nb_list_of(nb, loss, cli_count_right(logits, t->y)), nb_update(t->optimizer, goal));
    t->step = nb_compile_with(nb, roots, &(nb_compile_options){.check_finite = true});
    nb_next_step(nb);
}

static nb_list all_tensors(trainer *t) { return nb_list_join(t->nb, nb_net_state(t->net), nb_optimizer_state(t->optimizer)); }

static bool set_up(trainer *t) {
    const train_settings *s = t->settings;
    cli_data             *d = t->data;
    char                  checksum[17];
    t->loader = nb_loader_new(
        d->train,
        &(nb_loader_options){.batch = s->batch, .shuffle = true, .seed = (uint64_t)s->seed, .mean = d->mean, .std = d->std,
                             .no_thread = !cli_prepares_ahead(t->nb)});
    if (!t->loader) return false;
    t->steps = nb_loader_steps(t->loader);
    t->schedule = make_schedule(s, t->steps);
    t->point = s->epochs * t->steps / 100 + 1;
    cli_data_checksum(d, checksum);
    t->facts = json_pack("{sI sI sf sf ss}", "images", (json_int_t)nb_dataset_count(d->train), "classes",
                         (json_int_t)nb_dataset_classes(d->train), "mean", d->mean, "std", d->std, "checksum", checksum);
    compile_step(t);
    t->validation = nb_error(t->nb) ? NULL : cli_scorer_new(t->nb, t->net, d->validation, d->mean, d->std);
    return t->validation && t->facts;
}

static void tear_down(trainer *t) {
    cli_scorer_free(t->validation);
    if (t->loader) nb_loader_free(t->loader);
    json_decref(t->facts);
    train_state_free(&t->state);
}

/* --------------------------------------------------------------------------------------------------------------------- saving */

static void count_seconds(trainer *t) {
    double now = cli_now();
    t->state.seconds += now - t->clock;
    t->clock = now;
}

static bool save_checkpoint(trainer *t) {
    count_seconds(t);
    bool ok = checkpoint_save(t->nb, t->folder, all_tensors(t), t->settings, &t->state, t->facts);
    nb_next_step(t->nb);
    return ok;
}

/* All that prediction needs. */
static bool save_model(trainer *t) {
    char  mean[32], std[32], loss[32], epoch[24];
    char *names = json_dumps(t->data->class_names, JSON_COMPACT);
    snprintf(mean, sizeof mean, "%.17g", t->data->mean);
    snprintf(std, sizeof std, "%.17g", t->data->std);
    snprintf(loss, sizeof loss, "%.6f", t->state.best_loss);
    snprintf(epoch, sizeof epoch, "%lld", (long long)t->state.best_epoch);
    const nb_pair pairs[] = {{"mean", mean},     {"std", std},
                             {"classes", names}, {"data", t->settings->data},
                             {"epoch", epoch},   {"validation_loss", loss}};
    bool          ok = names && nb_net_save(t->net, t->folder->model, (int)(sizeof pairs / sizeof *pairs), pairs);
    free(names);
    return ok;
}

/* ------------------------------------------------------------------------------------------------------------------- the loop */

static bool one_step(trainer *t) {
    train_state *s = &t->state;
    double       start = cli_now();
    if (!nb_loader_next(t->loader, t->x, t->y))
        return nb_error(t->nb) ? false : (nb_fail(t->nb, NB_IO, "the training images ended before the epoch did"), false);
    if (!nb_optimizer_set_rate(t->optimizer, nb_schedule_rate(&t->schedule, s->step)) || !nb_run(t->step)) return false;
    double loss = nb_item(nb_output(t->step, 0));
    s->loss_sum += loss;
    s->correct += nb_item(nb_output(t->step, 1));
    s->step++;
    s->batch++;
    s->point_sum += loss;
    s->point_steps++;
    if (s->step % t->point == 0) {
        json_array_append_new(s->curve, json_pack("[If]", (json_int_t)s->step, s->point_sum / s->point_steps));
        s->point_sum = s->point_steps = 0;
    }
    s->step_seconds += cli_now() - start;
    return true;
}

/* Validates; keeps the best; writes the row, the model if it is the best, the history, and then the checkpoint. */
static bool end_epoch(trainer *t) {
    train_state *s = &t->state;
    cli_score    score;
    progress_validating(&t->progress, s);
    t->is_scoring = true;
    if (!cli_scorer_run(t->validation, &score, &stopped)) return false;
    t->is_scoring = false;
    count_seconds(t);
    double images = (double)(s->batch * t->settings->batch);
    json_array_append_new(s->history,
                          json_pack("{sI sI sf sf sf sf sf sf}", "epoch", (json_int_t)s->epoch + 1, "step", (json_int_t)s->step,
                                    "learning_rate", nb_schedule_rate(&t->schedule, s->step - 1), "train_loss",
                                    s->loss_sum / (double)s->batch, "train_accuracy", s->correct / images, "validation_loss",
                                    score.loss, "validation_accuracy", score.accuracy, "seconds", s->seconds));
    s->epoch++;
    s->batch = 0;
    s->loss_sum = s->correct = 0;
    if (!s->best_epoch || score.loss < s->best_loss) {
        s->best_epoch = s->epoch;
        s->best_loss = score.loss;
        s->best_accuracy = score.accuracy;
        if (!save_model(t)) return false;
    }
    if (!history_save(t->nb, t->folder, s->history) || !save_checkpoint(t)) return false;
    progress_epoch(&t->progress, s);
    return true;
}

/* True when all epochs are done; false after a signal or an error. */
static bool run_epochs(trainer *t) {
    train_state *s = &t->state;
    while (s->epoch < t->settings->epochs && !stopped) {
        if (s->batch < t->steps && !nb_loader_start(t->loader, s->epoch, s->batch)) return false;
        while (s->batch < t->steps) {
            if (!one_step(t)) return false;
            progress_step(&t->progress, s);
            int64_t every = t->settings->save_every;
            if (every && s->step % every == 0 && !save_checkpoint(t)) return false;
            if (stopped) return false;
        }
        if (!end_epoch(t)) return false;
    }
    return !stopped;
}

/* ----------------------------------------------------------------------------------------------------------------------- ends */

/* The test images are read once, by the saved model. */
static bool test(trainer *t, cli_score *score) {
    nb_net     *best = nb_net_load(t->nb, t->folder->model);
    cli_scorer *scorer = best ? cli_scorer_new(t->nb, best, t->data->test, t->data->mean, t->data->std) : NULL;
    bool        ok = scorer && cli_scorer_run(scorer, score, &stopped);
    cli_scorer_free(scorer);
    if (best) nb_net_free(best);
    return ok;
}

/* A run without its pictures is a run all the same. */
static void plot(trainer *t) {
    if (plot_loss(t->nb, t->folder, &t->state, t->steps) && plot_net(t->nb, t->folder, t->net)) return;
    fprintf(stderr, "nabla: a picture is missing: %s\n", nb_error(t->nb) ? nb_error(t->nb) : "no memory to draw it");
    nb_error_clear(t->nb);
}

static bool finish(trainer *t) {
    train_state *s = &t->state;
    cli_score    score;
    char         digest[65];
    if (!test(t, &score) || !nb_digest(nb_net_state(t->net), digest)) return false;
    plot(t);
    count_seconds(t);
    s->result = json_pack("{sf sf sf sf sI sI ss}", "accuracy", score.accuracy, "loss", score.loss, "seconds", s->seconds,
                          "images_per_second", (double)(s->step * t->settings->batch) / s->step_seconds, "steps",
                          (json_int_t)s->step, "resumed_step", (json_int_t)t->resumed_step, "digest", digest);
    return save_checkpoint(t);
}

void train_print(const run_folder *f, const train_settings *s, const train_state *state) {
    if (s->json) {
        char *text = json_dumps(state->result, JSON_REAL_PRECISION(9));
        printf("%s\n", text ? text : "{}");
        free(text);
        return;
    }
    printf("best epoch     %lld of %lld: validation loss %.4f, accuracy %.4f\n", (long long)state->best_epoch,
           (long long)s->epochs, state->best_loss, state->best_accuracy);
    printf("time           %.1f s, %.0f images/s in training\n", json_real_value(json_object_get(state->result, "seconds")),
           json_real_value(json_object_get(state->result, "images_per_second")));
    printf("saved net      %s%s\n", f->model, cli_exists(f->model) ? "" : " (it is gone; train anew with --force)");
    if (cli_exists(f->loss)) printf("loss curve     %s\n", f->loss);
    if (cli_exists(f->net)) printf("picture        %s\n", f->net);
    printf("digest         %s\n", json_string_value(json_object_get(state->result, "digest")));
    printf("test loss      %.4f\n", json_real_value(json_object_get(state->result, "loss")));
    printf("test accuracy %.4f\n", json_real_value(json_object_get(state->result, "accuracy")));
}

static int explain_failure(const trainer *t) {
    if (nb_error_status(t->nb) != NB_IO || !cli_exists(t->folder->checkpoint)) return cli_report(t->nb);
    return cli_error("%s; then go on: %s train --resume %s", nb_error(t->nb), cli_program().text,
                     cli_shell(t->folder->path).text);
}

/* Neither end nor memory of an end: what the user is told, and the exit code. */
static int explain(trainer *t) {
    nb_context        *nb = t->nb;
    const train_state *s = &t->state;
    progress_end(&t->progress);
    if (nb_error_status(nb) == NB_NOT_FINITE) {
        cli_error(
            "training stopped in epoch %lld, %s step %lld: %s. A smaller --lr may help (it is %g); with --force it replaces this "
            "run",
            (long long)s->epoch + 1, t->is_scoring ? "in the validation after" : "in", (long long)s->step + !t->is_scoring,
            nb_error(nb), t->settings->lr);
        return CLI_NO;
    }
    if (nb_error(nb) || !stopped || !save_checkpoint(t)) return explain_failure(t);
    fprintf(stderr, "nabla: stopped after step %lld; the state is saved. To go on: %s train --resume %s\n", (long long)s->step,
            cli_program().text, cli_shell(t->folder->path).text);
    return CLI_STOPPED;
}

static int64_t count(nb_list tensors) {
    int64_t n = 0;
    for (int i = 0; i < tensors.n; i++) n += nb_count(tensors.at[i]);
    return n;
}

static void introduce(trainer *t) {
    const cli_data *d = t->data;
    progress       *p = &t->progress;
    progress_start(p, t->settings, t->steps, t->state.step);
    progress_line(p, "%s: %lld training, %lld validation and %lld test image%s of %lld classes", d->name,
                  (long long)nb_dataset_count(d->train), (long long)nb_dataset_count(d->validation),
                  (long long)nb_dataset_count(d->test), cli_s(nb_dataset_count(d->test)),
                  (long long)nb_dataset_classes(d->train));
    progress_line(p, "net of %d layer%s and %lld parameters; %d thread%s, kernels %s", nb_net_layer_count(t->net),
                  cli_s(nb_net_layer_count(t->net)), (long long)count(nb_net_parameters(t->net)), nb_threads(t->nb),
                  cli_s(nb_threads(t->nb)), nb_kernels(t->nb));
    if (t->resumed_step)
        progress_line(p, "going on after step %lld of %lld", (long long)t->resumed_step,
                      (long long)(t->settings->epochs * t->steps));
    nb_next_step(t->nb);
}

/* False after a message. */
static bool restore(trainer *t, checkpoint *c) {
    if (!c->file) return true;
    if (!json_equal(c->data, t->facts))
        return cli_error("%s: the images or labels are no longer those that the run in %s began with; put the old data back, or "
                         "start another run with -o",
                         t->data->name, t->folder->path),
               false;
    if (!checkpoint_load(t->nb, t->folder, c, all_tensors(t), &t->state)) return false;
    t->resumed_step = t->state.step;
    nb_next_step(t->nb);
    return true;
}

/* False after a message. */
static bool begin(trainer *t) {
    const train_settings *s = t->settings;
    if (!run_folder_open(t->folder, s->out, false, s->force)) return false;
    if (settings_save(t->nb, t->folder, s)) return true;
    cli_report(t->nb);
    run_folder_give_up(t->folder);
    return false;
}

int train_run(nb_context *nb, run_folder *f, const train_settings *s, cli_data *d, nb_net *net, checkpoint *c) {
    trainer t = {.nb = nb, .folder = f, .settings = s, .data = d, .net = net, .clock = cli_now()};
    int     code = CLI_MEND;
    train_state_init(&t.state);
    listen_to_signals();
    if (!set_up(&t)) {
        code = cli_report(nb);
    } else if (c ? restore(&t, c) : begin(&t)) {
        introduce(&t);
        bool done = run_epochs(&t) && finish(&t);
        code = done ? CLI_DONE : explain(&t);
        if (done) {
            cli_print_profile(t.step, "a training step");
            cli_scorer_profile(t.validation, "validating a batch");
        }
        if (done) train_print(f, s, &t.state);
    }
    tear_down(&t);
    return code;
}
