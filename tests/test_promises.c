/* test_promises.c: what is promised of the six benchmark nets: the same bits for any number of threads and for every rerun;
 * fused, unfused and reference agree; a step allocates nothing; compiling is quick. Small batches and few steps; with LONG the
 * benchmark's batches besides, and 50 steps for the bits. */
#include <time.h>

#include "random_run.h"

typedef struct subject {
    const char *name, *net;
    nb_dims     batch; /* of the benchmark */
    int         classes, steps;
    int64_t     items, tokens; /* here */
} subject;

enum { SUBJECTS = 6 };

static subject subject_at(int i) {
    static const char *const name[SUBJECTS] = {"moons", "mlp", "cnn", "lstm", "gpt-s", "gpt-m"};
    const subject            all[SUBJECTS] = {
                   {name[0], "linear 16, relu, linear 16, relu, linear 2", {2, {100, 2}}, 2, 50, 100, 0},
                   {name[1], nb_net_preset("mlp"), {4, {64, 1, 28, 28}}, 10, 20, 9, 0},
                   {name[2], nb_net_preset("cnn"), {4, {64, 1, 28, 28}}, 10, 4, 5, 0},
                   {name[3], nb_net_preset("lstm"), {2, {32, 64}}, 65, 4, 3, 6},
                   {name[4], nb_net_preset("gpt-s"), {2, {12, 64}}, 65, 3, 2, 9},
                   {name[5], nb_net_preset("gpt-m"), {2, {4, 256}}, 65, 2, 2, 9},
    };
    subject s = all[i];
    assert_non_null(s.net);
    return s;
}

/* With the benchmark's batch, or the small one. */
static nb_dims batch_of(const subject *s, bool full) {
    nb_dims batch = s->batch;
    if (full) return batch;
    batch.size[0] = s->items;
    if (s->tokens) batch.size[1] = s->tokens;
    return batch;
}

static nb_tensor *random_input(nb_context *nb, const char *name, nb_tensor *values) {
    nb_tensor *input = nb_input(nb, name, nb_dtype_of(values), nb_shape_of(values));
    nb_set(input, nb_data(values), nb_bytes(values));
    return input;
}

static nb_tensor *random_classes(nb_context *nb, const char *name, nb_dims shape, int classes) {
    return random_input(nb, name, nb_cast(nb_uniform(nb, NB_F32, shape, 0, classes), NB_I64));
}

/* A training step. */
static nb_list step_of(nb_context *nb, const subject *s, bool full) {
    nb_dims batch = batch_of(s, full), item = {.rank = batch.rank - 1};
    memcpy(item.size, batch.size + 1, (size_t)item.rank * sizeof *item.size);
    bool       is_text = s->tokens > 0;
    nb_net    *net = nb_net_parse(nb, s->net, item);
    nb_list    w = nb_net_parameters(net);
    nb_tensor *x =
        is_text ? random_classes(nb, "x", batch, s->classes) : random_input(nb, "x", nb_normal(nb, NB_F32, batch, 0, 1));
    nb_tensor *y =
        random_classes(nb, "y", is_text ? nb_shape(batch.size[0] * batch.size[1]) : nb_shape(batch.size[0]), s->classes);
    nb_tensor    *scores = nb_reshape(nb_net_apply(net, x, NB_TRAIN), nb_shape(-1, s->classes));
    nb_optimizer *o = !strcmp(s->name, "moons") ? nb_sgd(w, 0.01, NULL)
                      : is_text                 ? nb_adamw(w, 1e-3, NULL)
                                                : nb_adam(w, 1e-3, NULL);
    return nb_update(o, nb_cross_entropy(scores, y, NULL));
}

/* ----------------------------------------------------------------------------------------------------------------------- bits */

/* The digest of all that is kept, and the losses' sum, after some steps. */
static double train(const subject *s, int threads, char digest[65]) {
    nb_context *nb = nb_open(&(nb_options){.threads = threads, .seed = 1});
    nb_program *p = nb_compile(nb, step_of(nb, s, is_long()));
    double      sum = 0;
    for (int i = 0; i < (is_long() ? 50 : s->steps); i++) {
        if (!nb_run(p)) fail_msg("%s: %s", s->name, nb_error(nb));
        sum += nb_item(nb_output(p, 0));
    }
    assert_true(nb_digest(nb_kept(nb), digest));
    nb_close(nb);
    return sum;
}

static void test_same_bits(void **state) {
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) {
        static const int threads[] = {1, 2, 3, 4, 8};
        subject          s = subject_at(i);
        char             first[65], digest[65];
        double           want = train(&s, 1, first);
        assert_true(isfinite(want));
        for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
            double sum = train(&s, threads[k], digest);
            if (sum != want || strcmp(first, digest)) fail_msg("%s: other bits with %d threads", s.name, threads[k]);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------------ agreement */

/* How often each is run. The reference takes minutes for a step of gpt-m with the benchmark's batch: one shows each gradient, in
 * Adam's moments, and the update. */
typedef struct effort {
    int steps, beside; /* training steps; runs of the reference with its parameters and inputs off by a rounding */
} effort;

static effort effort_of(const subject *s, bool full) {
    return full && !strcmp(s->name, "gpt-m") ? (effort){1, 3} : (effort){5, 3};
}

/* The reference, and what its steps make of roundings: Adam's quotient enlarges the errors of gradients that are nearly zero. */
static void run_reference(const subject *s, bool full, double eps, results *want, own_error *own) {
    static results beside = {.last_only = true};
    effort         e = effort_of(s, full);
    nb_context    *nb = nb_open(&(nb_options){.kernels = "reference", .seed = 1});
    instance       g = instance_of(nb, step_of(nb, s, full));
    nb_program    *p = nb_compile_with(nb, g.roots, &(nb_compile_options){.passes = "none"});
    assert_true(run_program(&g, p, e.steps, 0, want));
    for (int k = 0; k < MAX_PARTS; k++) own->part[k] = 0;
    for (int n = 1; n <= e.beside; n++) {
        assert_true(run_program(&g, p, e.steps, n * eps, &beside));
        for (int k = 0; k < want->parts; k++) own->part[k] = fmax(own->part[k], difference(&beside, want, k, NULL));
    }
    instance_free(&g);
    nb_close(nb);
}

static void agree(const subject *s, bool full) {
    static const double      eps = 0x1p-23;
    static const char *const way[][2] = {{NULL, "all"}, {NULL, "none"}, {"v3", "all"}, {"baseline", "all"}};
    static results           want = {.last_only = true}, got = {.last_only = true};
    static own_error         own;
    run_reference(s, full, eps, &want, &own);
    for (size_t k = 0; k < sizeof way / sizeof *way; k++) {
        nb_context *nb = nb_open(&(nb_options){.kernels = way[k][0], .threads = k == 0 ? 2 : 1, .seed = 1});
        if (nb_error(nb)) { /* a processor without these instructions */
            nb_close(nb);
            continue;
        }
        instance    g = instance_of(nb, step_of(nb, s, full));
        nb_program *p = nb_compile_with(nb, g.roots, &(nb_compile_options){.passes = way[k][1]});
        if (!run_program(&g, p, effort_of(s, full).steps, 0, &got)) fail_msg("%s: %s", s->name, nb_error(nb));
        residual r = compare(&got, &want, eps, &own);
        printf("%s, %s batch, kernels %s, passes %s: scaled residual %.2g\n", s->name, full ? "whole" : "small", nb_kernels(nb),
               way[k][1], r.ratio);
        fflush(stdout);
        if (!(r.ratio <= MOST)) {
            int root = want.root[r.part];
            fail_msg("%s: %s differs from the reference", s->name, root < 0 ? nb_name(g.kept[-1 - root]) : "the loss");
        }
        instance_free(&g);
        nb_close(nb);
    }
}

static void test_agreement(void **state) {
    (void)state;
    for (int i = 0; i < SUBJECTS - !is_long(); i++) {
        subject s = subject_at(i);
        agree(&s, false);
        if (is_long()) agree(&s, true);
    }
}

/* ------------------------------------------------------------------------------------------------------------ memory and time */

/* Linked with --wrap: what Nabla's own code asks for comes by here; what oneDNN does inside does not. */
void          *__real_malloc(size_t n);
void          *__real_calloc(size_t n, size_t size);
void          *__real_realloc(void *p, size_t n);
void          *__real_aligned_alloc(size_t align, size_t n);
void          *__wrap_malloc(size_t n);
void          *__wrap_calloc(size_t n, size_t size);
void          *__wrap_realloc(void *p, size_t n);
void          *__wrap_aligned_alloc(size_t align, size_t n);
static int64_t allocations;

void *__wrap_malloc(size_t n) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t align, size_t n) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __real_aligned_alloc(align, n);
}

static void test_steady_steps(void **state) {
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) {
        subject     s = subject_at(i);
        nb_context *nb = nb_open(&(nb_options){.threads = 2});
        int64_t     before = allocations;
        nb_program *p = nb_compile(nb, step_of(nb, &s, false));
        assert_true(nb_run(p));
        assert_true(allocations > before);
        before = allocations;
        for (int k = 0; k < 3; k++) assert_true(nb_run(p));
        if (allocations != before) fail_msg("%s: %lld allocations in 3 steps", s.name, (long long)(allocations - before));
        nb_close(nb);
    }
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* 20 ms for cnn and 100 ms for gpt-m on a quiet machine; here three times that, at best of some. */
static void test_compile_time(void **state) {
    (void)state;
    static const struct {
        int    subject;
        double ms;
    } limit[] = {{2, 60}, {5, 300}};
    for (int i = 0; i < 2; i++) {
        subject     s = subject_at(limit[i].subject);
        nb_context *nb = nb_open(NULL);
        nb_list     roots = step_of(nb, &s, true);
        double      best = INFINITY;
        for (int k = 0; k < 5; k++) {
            double      start = now_ms();
            nb_program *p = nb_compile(nb, roots);
            best = fmin(best, now_ms() - start);
            expect_good(nb);
            nb_program_free(p);
        }
        nb_close(nb);
        printf("%s compiles in %.1f ms\n", s.name, best);
#ifndef NB_CHECK_BUILD
        if (best > limit[i].ms) fail_msg("%s takes %.1f ms to compile", s.name, best);
#endif
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_steady_steps),
        cmocka_unit_test(test_compile_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
