/* nets.c: milliseconds of one training step, one inference call, or one Hessian-vector product of the benchmark nets.
 *
 * Data are random, from a fixed seed, and in memory before the clock starts, so that only the net is measured. The figure is the
 * best of 9 blocks of means: noise of the machine only ever adds time. */
#include "clock.h"
#include "machine.h"
#include "workloads.h"

#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM_UP = 5, BLOCKS = 9 };

typedef struct settings {
    const workload *work;
    int             threads, steps, batch; /* steps: a block */
    bool            infer, hvp, json, turns, floor, start, first_step;
} settings;

typedef struct result {
    double         ms, first_loss, last_loss, gradient_ms, compile_ms; /* negative: not measured */
    workload_floor cost;
    char           digest[65];
} result;

static const char usage[] =
    "usage: nets --workload moons|mlp|cnn|lstm|gpt-s|gpt-m [options]\n"
    "  Measures a training step: forward, backward and update, data in memory, best of 9 blocks after 5 warm-up steps.\n"
    "  --threads N   threads that compute (1)\n"
    "  --steps K     steps a block\n"
    "  --infer       measure a call of the trained form instead\n"
    "  --hvp         measure a Hessian-vector product instead, beside one gradient\n"
    "  --start       measure from the start of a process to its first finished training step instead\n"
    "  --batch B     items a step (the workload's own)\n"
    "  --floor       what the machine needs at least: arithmetic at its peak plus one pass over memory\n"
    "  --turns       a block for each line of standard input, to take turns with other programs\n"
    "  --json        print one JSON object\n";

static void fail(const char *what, const char *value) {
    fprintf(stderr, "nets: %s%s%s\n%s", what, value ? ": " : "", value ? value : "", usage);
    exit(2);
}

static settings read_options(int argc, char **argv) {
    /* clang-format off */
    static const struct option known[] = {
        {"workload", required_argument, NULL, 'w'}, {"threads", required_argument, NULL, 't'},
        {"steps", required_argument, NULL, 's'},    {"batch", required_argument, NULL, 'b'},
        {"infer", no_argument, NULL, 'i'},          {"hvp", no_argument, NULL, 'v'},
        {"start", no_argument, NULL, 'a'},          {"first-step", no_argument, NULL, '1'},
        {"floor", no_argument, NULL, 'f'},          {"turns", no_argument, NULL, 'u'},
        {"json", no_argument, NULL, 'j'},           {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    settings s = {.threads = 1};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'w': if (!(s.work = find_workload(optarg))) fail("unknown workload", optarg); break;
        case 't': s.threads = whole_number("nets", "--threads", optarg, 256); break;
        case 's': s.steps = whole_number("nets", "--steps", optarg, INT_MAX / BLOCKS); break;
        case 'b': s.batch = whole_number("nets", "--batch", optarg, 1 << 20); break;
        case 'i': s.infer = true; break;
        case 'v': s.hvp = true; break;
        case 'a': s.start = true; break;
        case '1': s.first_step = true; break;
        case 'f': s.floor = true; break;
        case 'u': s.turns = true; break;
        case 'j': s.json = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2); /* getopt has said what is wrong */
        }
    }
    /* clang-format on */
    if (optind < argc) fail("not an option", argv[optind]);
    if (!s.work) fail("--workload is missing", NULL);
    if (s.infer + s.hvp + s.start > 1) fail("--infer, --hvp and --start exclude each other", NULL);
    if (s.turns && (s.hvp || s.start)) fail("--turns is for training steps and inference", NULL);
    if (!s.steps) s.steps = s.infer ? s.work->infer_steps : s.work->train_steps;
    if (!s.batch) s.batch = s.work->batch;
    return s;
}

static void run(nb_program *program) {
    if (!nb_run(program)) exit(2); /* the handler has spoken */
}

static nb_program *compile(nb_context *nb, nb_list roots, result *r) {
    double      start = now_ms();
    nb_program *program = nb_compile(nb, roots);
    r->compile_ms = now_ms() - start;
    return program;
}

/* The best of the blocks; with --turns these come when they are asked for, and `ready` is told before. */
static double measure(const settings *s, nb_program *program, const result *ready) {
    if (!s->turns) return best_of_blocks(program, s->steps, BLOCKS);
    double best = INFINITY;
    printf("{\"engine\": \"nabla\", \"compile_ms\": %.4g, \"first_loss\": %.6f}\n", ready->compile_ms, ready->first_loss);
    fflush(stdout);
    for (int c; (c = getchar()) != EOF;) {
        if (c != '\n') continue;
        run(program); /* others have used the caches meanwhile */
        double ms = best_of_blocks(program, s->steps, 1);
        best = fmin(best, ms);
        printf("{\"ms\": %.6g}\n", ms);
        fflush(stdout);
    }
    return best;
}

static result measure_training(nb_context *nb, const settings *s, nb_net *net) {
    nb_tensor    *x = workload_items(nb, s->work, s->batch), *y = workload_labels(nb, s->work, s->batch);
    nb_optimizer *o = workload_optimizer(s->work, net);
    nb_list       roots = nb_update(o, workload_loss(s->work, net, x, y, NB_TRAIN));
    result        r = {.gradient_ms = -1, .last_loss = -1, .cost = workload_cost(nb, net, roots, workload_slots(s->work))};
    nb_program   *step = compile(nb, roots, &r);
    run(step);
    r.first_loss = nb_item(nb_output(step, 0));
    if (s->first_step) return r;
    for (int i = 1; i < WARM_UP; i++) run(step);
    r.ms = measure(s, step, &r);
    r.last_loss = nb_item(nb_output(step, 0));
    nb_digest(nb_net_state(net), r.digest);
    return r;
}

static result measure_inference(nb_context *nb, const settings *s, nb_net *net) {
    nb_list     roots = nb_list_of(nb, nb_net_apply(net, workload_items(nb, s->work, s->batch), NB_EVAL));
    result      r = {.first_loss = -1, .last_loss = -1, .gradient_ms = -1, .cost = workload_cost(nb, net, roots, -1)};
    nb_program *call = compile(nb, roots, &r);
    for (int i = 0; i < WARM_UP; i++) run(call);
    r.ms = measure(s, call, &r);
    nb_digest(nb_list_of(nb, nb_output(call, 0)), r.digest);
    return r;
}

/* H v = d(g . v)/dw for the gradient g of the loss and a random v: two passes of reverse mode (Pearlmutter, Fast Exact
 * Multiplication by the Hessian, 1994). The loss is that of evaluation: no dropout. */
static result measure_hvp(nb_context *nb, const settings *s, nb_net *net) {
    nb_tensor *x = workload_items(nb, s->work, s->batch), *y = workload_labels(nb, s->work, s->batch);
    nb_tensor *loss = workload_loss(s->work, net, x, y, NB_EVAL);
    nb_list    w = nb_net_parameters(net), g = nb_grads(loss, NULL, w);
    nb_tensor *dot = NULL;
    for (int i = 0; i < w.n; i++) {
        nb_tensor *v = nb_param(nb, "v", nb_normal(nb, NB_F32, nb_shape_of(w.at[i]), 0, 1));
        nb_tensor *term = nb_sum(nb_mul(g.at[i], v), nb_axes(), false);
        dot = dot ? nb_add(dot, term) : term;
    }
    nb_list     hv = nb_grads(dot, NULL, w);
    result      r = {.last_loss = -1, .gradient_ms = INFINITY, .ms = INFINITY, .cost = workload_cost(nb, net, hv, -1)};
    nb_program *gradient = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, loss), g)), *product = compile(nb, hv, &r);
    for (int i = 0; i < WARM_UP; i++) {
        run(gradient);
        run(product);
    }
    r.first_loss = nb_item(nb_output(gradient, 0));
    for (int block = 0; block < BLOCKS; block++) { /* by turns, for the sake of the ratio */
        r.gradient_ms = fmin(r.gradient_ms, best_of_blocks(gradient, s->steps, 1));
        r.ms = fmin(r.ms, best_of_blocks(product, s->steps, 1));
    }
    nb_list outputs = nb_list_new(nb, hv.n);
    for (int i = 0; i < hv.n; i++) outputs.at[i] = nb_output(product, i);
    nb_digest(outputs, r.digest);
    return r;
}

/* What is told beside the result. */
typedef struct surroundings {
    const char *mode, *kernels;
    char        processor[256];
    double      rss_mb, floor_ms; /* floor: 0 when it was not asked for */
} surroundings;

/* Arithmetic at the measured peak plus the bytes at the rate of a copy of as many. */
static double floor_ms(const workload_floor *cost, int threads) {
    double gflops = best_arithmetic(threads, NULL), gbytes = measure_copy((int64_t)(cost->bytes / 8) + 16, threads);
    return cost->flops / gflops * 1e-6 + cost->bytes / gbytes * 1e-6;
}

static void print_json(const settings *s, const result *r, const surroundings *e) {
    printf("{\"workload\": \"%s\", \"mode\": \"%s\", \"engine\": \"nabla\", \"threads\": %d, \"batch\": %d, \"ms\": %.6g, "
           "\"items_per_s\": %.6g, \"compile_ms\": %.4g, ",
           s->work->name, e->mode, s->threads, s->batch, r->ms, s->batch / r->ms * 1e3, r->compile_ms);
    if (r->gradient_ms >= 0) printf("\"gradient_ms\": %.6g, \"gradients\": %.4g, ", r->gradient_ms, r->ms / r->gradient_ms);
    if (r->first_loss >= 0) printf("\"first_loss\": %.6f, ", r->first_loss);
    if (r->last_loss >= 0) printf("\"last_loss\": %.6f, ", r->last_loss);
    printf("\"flops\": %.6g, \"bytes\": %.6g, \"gflop_per_s\": %.4g, ", r->cost.flops, r->cost.bytes,
           r->cost.flops / r->ms * 1e-6);
    if (e->floor_ms > 0) printf("\"floor_ms\": %.4g, \"share_of_floor\": %.3f, ", e->floor_ms, e->floor_ms / r->ms);
    printf("\"digest\": \"%s\", \"peak_rss_mb\": %.1f, \"kernels\": \"%s\", \"processor\": \"%s\"}\n", r->digest, e->rss_mb,
           e->kernels, e->processor);
}

static void print_text(const settings *s, const result *r, const surroundings *e) {
    printf("%s %s: %.4g ms, %.4g items/s, batch %d, %d thread%s, %.0f MB, kernels %s, %s\n", s->work->name, e->mode, r->ms,
           s->batch / r->ms * 1e3, s->batch, s->threads, s->threads == 1 ? "" : "s", e->rss_mb, e->kernels, e->processor);
    printf("compiled in %.3g ms; %.4g GFLOP/s in contractions", r->compile_ms, r->cost.flops / r->ms * 1e-6);
    if (e->floor_ms > 0) printf("; floor %.3g ms, of which %.0f%% are reached", e->floor_ms, e->floor_ms / r->ms * 100);
    putchar('\n');
    if (r->gradient_ms >= 0)
        printf("one gradient: %.4g ms; the product takes %.2f of them\n", r->gradient_ms, r->ms / r->gradient_ms);
    if (r->last_loss >= 0) printf("loss %.6f at the first step, %.6f at the last; ", r->first_loss, r->last_loss);
    printf("digest %s\n", r->digest);
}

/* From the start of a process to the end of its first training step: this program runs itself with --first-step and waits for a
 * line. */
static void measure_start(const settings *s) {
    char   threads[16], batch[16], processor[256];
    double best = INFINITY, rss_mb = 0;
    snprintf(threads, sizeof threads, "%d", s->threads);
    snprintf(batch, sizeof batch, "%d", s->batch);
    for (int i = 0; i < BLOCKS; i++) {
        int    ends[2];
        double start = now_ms(), mb = 0;
        pid_t  child = pipe(ends) ? -1 : fork();
        if (child < 0) fail("cannot start a process", NULL);
        if (child == 0) {
            dup2(ends[1], 1);
            execl("/proc/self/exe", "nets", "--workload", s->work->name, "--threads", threads, "--batch", batch, "--first-step",
                  (char *)NULL);
            _exit(127);
        }
        close(ends[1]);
        FILE *told = fdopen(ends[0], "r");
        if (!told || fscanf(told, "%lf", &mb) != 1) fail("the process did not finish its step", NULL);
        best = fmin(best, now_ms() - start);
        rss_mb = fmax(rss_mb, mb);
        fclose(told);
        waitpid(child, NULL, 0);
    }
    processor_name(processor, sizeof processor);
    if (s->json)
        printf("{\"workload\": \"%s\", \"mode\": \"start\", \"engine\": \"nabla\", \"threads\": %d, \"batch\": %d, \"ms\": %.4g, "
               "\"peak_rss_mb\": %.1f, \"processor\": \"%s\"}\n",
               s->work->name, s->threads, s->batch, best, rss_mb, processor);
    else
        printf("%s start: %.4g ms from the start of a process to its first finished training step, %.1f MB, %s\n", s->work->name,
               best, rss_mb, processor);
}

int main(int argc, char **argv) {
    settings s = read_options(argc, argv);
    if (s.start) {
        measure_start(&s);
        return 0;
    }
    nb_context *nb = nb_open(&(nb_options){.threads = s.threads, .on_error = nb_die, .seed = 1});
    if (!nb) fail("out of memory", NULL);
    nb_net *net = nb_net_parse(nb, s.work->net, s.work->item);
    result  r = s.infer ? measure_inference(nb, &s, net) : s.hvp ? measure_hvp(nb, &s, net) : measure_training(nb, &s, net);
    if (s.first_step) {
        printf("%.1f\n", peak_memory_mb());
    } else {
        surroundings e = {.mode = s.infer ? "infer"
                                  : s.hvp ? "hvp"
                                          : "train",
                          .kernels = nb_kernels(nb),
                          .rss_mb = peak_memory_mb()};
        processor_name(e.processor, sizeof e.processor);
        if (s.floor) e.floor_ms = floor_ms(&r.cost, s.threads);
        (s.json || s.turns ? print_json : print_text)(&s, &r, &e);
    }
    nb_close(nb);
    return 0;
}
