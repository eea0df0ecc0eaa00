/* nets.c: milliseconds of one training step, one inference call, or one Hessian-vector product of the benchmark nets.
 *
 * Data are random, from a fixed seed, and in memory before the clock starts, so that only the net is measured. The figure is the
 * best of 9 blocks of means: noise of the machine only ever adds time. */
#include <nabla.h>

#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { WARM_UP = 5, BLOCKS = 9 };

typedef struct workload {
    const char *name, *net;
    nb_dims     item;
    int         batch, classes;
    bool        adam;                     /* Adam at 1e-3, else SGD at 0.01 */
    int         train_steps, infer_steps; /* a block */
} workload;

/* clang-format off */
static const workload workloads[] = {
    {"mlp", "linear 256, relu, linear 128, relu, linear 10", {1, {784}}, 64, 10, true, 100, 300},
    {"cnn", "conv 32 3 pad=1, batchnorm, relu, maxpool 2, conv 64 3 pad=1, batchnorm, relu, maxpool 2, flatten, "
            "linear 128, relu, dropout 0.5, linear 10", {3, {1, 28, 28}}, 64, 10, true, 8, 20},
    {"moons", "linear 16, relu, linear 16, relu, linear 2", {1, {2}}, 100, 2, false, 1000, 3000},
};
/* clang-format on */

typedef struct settings {
    const workload *work;
    int             threads, steps, batch; /* steps: a block */
    bool            infer, hvp, json;
} settings;

typedef struct result {
    double ms, first_loss, last_loss, gradient_ms; /* negative: not measured */
    char   digest[65];
} result;

static const char usage[] =
    "usage: nets --workload mlp|cnn|moons [options]\n"
    "  Measures a training step: forward, backward and update, data in memory, best of 9 blocks after 5 warm-up steps.\n"
    "  --threads N   threads that compute (1)\n"
    "  --steps K     steps a block\n"
    "  --infer       measure a call of the trained form instead\n"
    "  --hvp         measure a Hessian-vector product instead, beside one gradient\n"
    "  --batch B     items a step (the workload's own)\n"
    "  --json        print one JSON object\n";

static void fail(const char *what, const char *value) {
    fprintf(stderr, "nets: %s%s%s\n%s", what, value ? ": " : "", value ? value : "", usage);
    exit(2);
}

static int whole_number(const char *option, const char *text, int most) {
    char *end;
    long  n = strtol(text, &end, 10);
    char  what[80];
    snprintf(what, sizeof what, "%s must be a whole number from 1 to %d, but is", option, most);
    if (end == text || *end || n < 1 || n > most) fail(what, text);
    return (int)n;
}

static const workload *find_workload(const char *name) {
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (!strcmp(workloads[i].name, name)) return &workloads[i];
    fail("unknown workload", name);
    return NULL;
}

static settings read_options(int argc, char **argv) {
    /* clang-format off */
    static const struct option known[] = {
        {"workload", required_argument, NULL, 'w'}, {"threads", required_argument, NULL, 't'},
        {"steps", required_argument, NULL, 's'},    {"batch", required_argument, NULL, 'b'},
        {"infer", no_argument, NULL, 'i'},          {"hvp", no_argument, NULL, 'v'},
        {"json", no_argument, NULL, 'j'},           {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    settings s = {.threads = 1};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'w': s.work = find_workload(optarg); break;
        case 't': s.threads = whole_number("--threads", optarg, 256); break;
        case 's': s.steps = whole_number("--steps", optarg, INT_MAX / BLOCKS); break;
        case 'b': s.batch = whole_number("--batch", optarg, 1 << 20); break;
        case 'i': s.infer = true; break;
        case 'v': s.hvp = true; break;
        case 'j': s.json = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2); /* getopt has said what is wrong */
        }
    }
    /* clang-format on */
    if (optind < argc) fail("not an option", argv[optind]);
    if (!s.work) fail("--workload is missing", NULL);
    if (s.infer && s.hvp) fail("--infer and --hvp exclude each other", NULL);
    if (!s.steps) s.steps = s.infer ? s.work->infer_steps : s.work->train_steps;
    if (!s.batch) s.batch = s.work->batch;
    return s;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void run(nb_program *program) {
    if (!nb_run(program)) exit(2); /* the handler has spoken */
}

/* Best mean over blocks of runs, in ms a run. */
static double measure(nb_program *program, int steps, int blocks) {
    double best = INFINITY;
    for (int block = 0; block < blocks; block++) {
        double start = now_ms();
        for (int i = 0; i < steps; i++) run(program);
        best = fmin(best, (now_ms() - start) / steps);
    }
    return best;
}

/* An input that holds the values of a random node. */
static nb_tensor *random_input(nb_context *nb, const char *name, nb_tensor *values) {
    nb_tensor *input = nb_input(nb, name, nb_dtype_of(values), nb_shape_of(values));
    nb_set(input, nb_data(values), nb_bytes(values));
    return input;
}

static nb_tensor *random_images(nb_context *nb, const settings *s) {
    nb_dims shape = {.rank = s->work->item.rank + 1};
    shape.size[0] = s->batch;
    for (int i = 0; i < s->work->item.rank; i++) shape.size[i + 1] = s->work->item.size[i];
    return random_input(nb, "x", nb_normal(nb, NB_F32, shape, 0, 1));
}

static nb_tensor *random_labels(nb_context *nb, const settings *s) {
    return random_input(nb, "y", nb_cast(nb_uniform(nb, NB_F32, nb_shape(s->batch), 0, s->work->classes), NB_I64));
}

static result measure_training(nb_context *nb, const settings *s, nb_net *net) {
    nb_tensor    *x = random_images(nb, s), *y = random_labels(nb, s);
    nb_tensor    *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_list       w = nb_net_parameters(net);
    nb_optimizer *o = s->work->adam ? nb_adam(w, 1e-3, NULL) : nb_sgd(w, 0.01, NULL);
    nb_program   *step = nb_compile(nb, nb_update(o, loss));
    result        r = {.gradient_ms = -1};
    for (int i = 0; i < WARM_UP; i++) {
        run(step);
        if (i == 0) r.first_loss = nb_item(nb_output(step, 0));
    }
    r.ms = measure(step, s->steps, BLOCKS);
    r.last_loss = nb_item(nb_output(step, 0));
    nb_digest(nb_net_state(net), r.digest);
    return r;
}

static result measure_inference(nb_context *nb, const settings *s, nb_net *net) {
    nb_program *call = nb_compile(nb, nb_list_of(nb, nb_net_apply(net, random_images(nb, s), NB_EVAL)));
    result      r = {.first_loss = -1, .last_loss = -1, .gradient_ms = -1};
    for (int i = 0; i < WARM_UP; i++) run(call);
    r.ms = measure(call, s->steps, BLOCKS);
    nb_digest(nb_list_of(nb, nb_output(call, 0)), r.digest);
    return r;
}

/* H v = d(g . v)/dw for the gradient g of the loss and a random v: two passes of reverse mode (Pearlmutter, Fast Exact
 * Multiplication by the Hessian, 1994). The loss is that of evaluation: no dropout. */
static result measure_hvp(nb_context *nb, const settings *s, nb_net *net) {
    nb_tensor *x = random_images(nb, s), *y = random_labels(nb, s);
    nb_tensor *loss = nb_cross_entropy(nb_net_apply(net, x, NB_EVAL), y, NULL);
    nb_list    w = nb_net_parameters(net), g = nb_grads(loss, NULL, w);
    nb_tensor *dot = NULL;
    for (int i = 0; i < w.n; i++) {
        nb_tensor *v = nb_param(nb, "v", nb_normal(nb, NB_F32, nb_shape_of(w.at[i]), 0, 1));
        nb_tensor *term = nb_sum(nb_mul(g.at[i], v), nb_axes(), false);
        dot = dot ? nb_add(dot, term) : term;
    }
    nb_list     hv = nb_grads(dot, NULL, w);
    nb_program *gradient = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, loss), g)), *product = nb_compile(nb, hv);
    for (int i = 0; i < WARM_UP; i++) {
        run(gradient);
        run(product);
    }
    result r = {.first_loss = nb_item(nb_output(gradient, 0)), .last_loss = -1, .gradient_ms = INFINITY, .ms = INFINITY};
    for (int block = 0; block < BLOCKS; block++) { /* by turns, for the sake of the ratio */
        r.gradient_ms = fmin(r.gradient_ms, measure(gradient, s->steps, 1));
        r.ms = fmin(r.ms, measure(product, s->steps, 1));
    }
    nb_list outputs = nb_list_new(nb, hv.n);
    for (int i = 0; i < hv.n; i++) outputs.at[i] = nb_output(product, i);
    nb_digest(outputs, r.digest);
    return r;
}

/* "model name" of /proc/cpuinfo; what JSON would have to escape becomes a space. */
static void processor_name(char *name, size_t size) {
    char  line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10)) continue;
        snprintf(name, size, "%s", colon + 2);
        name[strcspn(name, "\n")] = 0;
        break;
    }
    if (f) fclose(f);
    for (char *c = name; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = ' ';
}

/* What is told beside the result. */
typedef struct surroundings {
    const char *mode, *kernels;
    char        processor[256];
    double      rss_mb;
} surroundings;

static void print_json(const settings *s, const result *r, const surroundings *e) {
    printf("{\"workload\": \"%s\", \"mode\": \"%s\", \"engine\": \"nabla\", \"threads\": %d, \"batch\": %d, \"ms\": %.6g, "
           "\"items_per_s\": %.6g, ",
           s->work->name, e->mode, s->threads, s->batch, r->ms, s->batch / r->ms * 1e3);
    if (r->gradient_ms >= 0) printf("\"gradient_ms\": %.6g, \"gradients\": %.4g, ", r->gradient_ms, r->ms / r->gradient_ms);
    if (r->first_loss >= 0) printf("\"first_loss\": %.6f, ", r->first_loss);
    if (r->last_loss >= 0) printf("\"last_loss\": %.6f, ", r->last_loss);
    printf("\"digest\": \"%s\", \"peak_rss_mb\": %.1f, \"kernels\": \"%s\", \"processor\": \"%s\"}\n", r->digest, e->rss_mb,
           e->kernels, e->processor);
}

static void print_text(const settings *s, const result *r, const surroundings *e) {
    printf("%s %s: %.4g ms, %.4g items/s, batch %d, %d thread%s, %.0f MB, kernels %s, %s\n", s->work->name, e->mode, r->ms,
           s->batch / r->ms * 1e3, s->batch, s->threads, s->threads == 1 ? "" : "s", e->rss_mb, e->kernels, e->processor);
    if (r->gradient_ms >= 0)
        printf("one gradient: %.4g ms; the product takes %.2f of them\n", r->gradient_ms, r->ms / r->gradient_ms);
    if (r->last_loss >= 0) printf("loss %.6f at the first step, %.6f at the last; ", r->first_loss, r->last_loss);
    printf("digest %s\n", r->digest);
}

int main(int argc, char **argv) {
    settings    s = read_options(argc, argv);
    nb_context *nb = nb_open(&(nb_options){.threads = s.threads, .on_error = nb_die, .seed = 1});
    if (!nb) fail("out of memory", NULL);
    nb_net *net = nb_net_parse(nb, s.work->net, s.work->item);
    result  r = s.infer ? measure_inference(nb, &s, net) : s.hvp ? measure_hvp(nb, &s, net) : measure_training(nb, &s, net);

    struct rusage memory;
    getrusage(RUSAGE_SELF, &memory);
    surroundings e = {.mode = s.infer ? "infer" : s.hvp ? "hvp" : "train", .kernels = nb_kernels(nb)};
    e.rss_mb = (double)memory.ru_maxrss / 1024;
    processor_name(e.processor, sizeof e.processor);
    (s.json ? print_json : print_text)(&s, &r, &e);
    nb_close(nb);
    return 0;
}
