/* test_isa.c: every operator on every instruction set this processor has, against the reference, values and gradients in f32: on
 * the operators' own samples in all layouts, and at sizes around the vectors' lengths. And the same bits from two threads as from
 * one. */
#include "test.h"

#include "sampler.h"

enum { MAX_SETS = 8, MAX_RESULTS = 20 };

/* One way to compute: a context of its own. set[0] is the reference. */
typedef struct way {
    const char *kernels;
    int         threads;
    nb_context *nb;
} way;
static way set[MAX_SETS];
static int n_sets;

static int passed, failed;

/* A graph to be built in each context: `build` makes y from leaves of these shapes, filled by `fill`. */
typedef struct subject {
    const char *name;
    nb__case    sample;                                            /* of an operator */
    nb_tensor *(*build)(nb_context *nb, nb_tensor **x, int64_t n); /* or a function of a size */
    int64_t n;
} subject;

/* What one way computed. */
typedef struct results {
    int      n;
    nb_dtype dtype[MAX_RESULTS];
    int64_t  count[MAX_RESULTS];
    void    *data[MAX_RESULTS];
} results;

static void free_results(results *r) {
    for (int i = 0; i < r->n; i++) free(r->data[i]);
}

static nb_tensor *leaf(nb_context *nb, const nb__case *c, int i) {
    nb_tensor *x = nb_input(nb, "x", NB_F32, c->shape[i]);
    int64_t    n = nb_count(x);
    double    *wide = malloc((size_t)(n + 1) * sizeof *wide);
    float     *data = malloc((size_t)(n + 1) * sizeof *data);
    nb__case_fill(c, i, wide);
    for (int64_t k = 0; k < n; k++) data[k] = (float)wide[k];
    nb_set(x, data, (size_t)n * sizeof *data);
    free(wide);
    free(data);
    return x;
}

static bool is_real(nb_tensor *t) { return nb_dtype_of(t) == NB_F32 || nb_dtype_of(t) == NB_F64; }

static bool is_differentiable(nb_tensor *y, const nb__case *c) {
    return is_real(y) && c->n > 0 && (c->op->derivative || c->op->kind == NB_COMPOSITION);
}

/* y and its gradients for a random upstream. */
static results compute(nb_context *nb, const subject *s) {
    const nb__case *c = &s->sample;
    nb_tensor      *x[NB__MAX_LEAVES + 1];
    results         r = {0};
    for (int i = 0; i < c->n; i++) x[i] = leaf(nb, c, i);
    nb_tensor *y = s->build ? s->build(nb, x, s->n) : nb__case_build(nb, c, x), *u = NULL;
    nb_list    roots = nb_list_of(nb, y);
    if (!nb_error(nb) && is_differentiable(y, c)) {
        nb__case draw = {.op = nb_op_find("add"), .n = 1, .shape = {nb_shape_of(y)}, .low = {-1}, .high = {1}};
        u = leaf(nb, &draw, 0);
        roots = nb_list_join(nb, roots, nb_grads(y, nb_cast(u, nb_dtype_of(y)), nb_list_from(nb, c->n, x)));
    }
    nb_program *p = nb_compile(nb, roots);
    if (nb_run(p)) {
        for (; r.n < roots.n && r.n < MAX_RESULTS; r.n++) {
            nb_tensor *t = nb_output(p, r.n);
            r.dtype[r.n] = nb_dtype_of(t);
            r.count[r.n] = nb_count(t);
            r.data[r.n] = malloc(nb_bytes(t) + 1);
            memcpy(r.data[r.n], nb_data(t), nb_bytes(t));
        }
    }
    nb_program_free(p);
    for (int i = 0; i < c->n; i++) nb_release(x[i]);
    if (u) nb_release(u);
    nb_next_step(nb);
    return r;
}

/* Errors are measured against the largest element, and grow with the square root of the number of terms: at most that of all
 * leaves. */
static bool is_near(const float *a, const float *b, int64_t n, double terms, char *text, size_t size) {
    double largest = 1, tolerance = 3e-6 + 1e-7 * sqrt(terms);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(b[i]) && fabs(b[i]) > largest) largest = fabs(b[i]);
    for (int64_t i = 0; i < n; i++) {
        if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i])) || fabs((double)a[i] - b[i]) <= tolerance * largest) continue;
        snprintf(text, size, "[%d] is %.9g, the reference has %.9g", (int)i, (double)a[i], (double)b[i]);
        return false;
    }
    return true;
}

static bool same_results(const results *a, const results *b, double terms, bool same_bits, char *text, size_t size) {
    if (a->n != b->n) return !snprintf(text, size, ": another number of results");
    for (int k = 0; k < a->n; k++) {
        size_t bytes = (size_t)a->count[k] * nb_dtype_size(a->dtype[k]);
        int    at = k ? snprintf(text, size, ", gradient %d", k - 1) : 0;
        if (a->dtype[k] != b->dtype[k] || a->count[k] != b->count[k])
            return !snprintf(text + at, size - (size_t)at, ": another type");
        bool exact = same_bits || a->dtype[k] != NB_F32;
        if (exact && memcmp(a->data[k], b->data[k], bytes) != 0) return !snprintf(text + at, size - (size_t)at, ": other bits");
        if (!exact && !is_near(a->data[k], b->data[k], a->count[k], terms, text + at, size - (size_t)at)) return false;
    }
    return true;
}

static void check(const subject *s) {
    double  terms = 1;
    char    text[400];
    results want = compute(set[0].nb, s), one = {0};
    for (int i = 0; i < s->sample.n; i++) {
        double n = 1;
        for (int k = 0; k < s->sample.shape[i].rank; k++) n *= (double)s->sample.shape[i].size[k];
        terms += n;
    }
    for (int w = 0; w < n_sets; w++) {
        if (w == 0 && want.n) continue;
        results got = compute(set[w].nb, s);
        bool    good = got.n > 0 && same_results(&got, &want, terms, false, text, sizeof text);
        if (got.n == 0) snprintf(text, sizeof text, ": %s", nb_error(set[w].nb));
        /* With two threads: as with one. */
        if (good && set[w].threads == 2) good = same_results(&got, &one, terms, true, text, sizeof text);
        passed += good;
        failed += !good;
        if (!good)
            printf("%s, sample %d, %s, size %d, %s, %d threads%s\n", s->name, s->sample.sample,
                   nb__variant_name(s->sample.variant), (int)s->n, set[w].kernels, set[w].threads, text);
        nb_error_clear(set[w].nb);
        if (set[w].threads == 1) {
            free_results(&one);
            one = got;
        } else {
            free_results(&got);
        }
    }
    free_results(&want);
    free_results(&one);
}

/* ----------------------------------------------------------------------------------------------------- the operators' samples */

static const int64_t odd[] = {0,     1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 1023, 1025, 4099,
#ifndef NB_CHECK_BUILD /* long enough for several threads; too long for sanitizers */
                              100003
#endif
};
enum { ODD = sizeof odd / sizeof *odd };

static void check_samples(const nb_op *op) {
    nb_context *nb = set[0].nb;
    for (int i = 0;; i++) {
        for (int v = 0; v < NB__VARIANTS; v++) {
            subject s = {.name = op->name, .sample = nb__case_describe(nb, op, i, (nb__variant)v, NB_F32)};
            if (!s.sample.exists) return;
            if (s.sample.applies) check(&s);
        }
    }
}

static void check_sizes(const nb_op *op) {
    nb_context *nb = set[0].nb;
    for (int k = 0; k < ODD; k++) {
        subject s = {.name = op->name, .sample = nb__case_sized(nb, op, 0, NB__PLAIN, NB_F32, nb_shape(odd[k])), .n = odd[k]};
        if (s.sample.exists) check(&s);
        s.sample = nb__case_sized(nb, op, 0, NB__TRANSPOSED, NB_F32, nb_shape(3, odd[k]));
        if (s.sample.exists && k % 3 == 0) check(&s);
    }
}

/* ---------------------------------------------------------------------------------- other families at sizes around the lanes' */

static nb_tensor *sum_last(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, (void)n, nb_sum(x[0], nb_axes(-1), false);
}
static nb_tensor *sum_first(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, (void)n, nb_sum(x[1], nb_axes(0), false);
}
static nb_tensor *mean_all(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, (void)n, nb_mean(nb_square(x[0]), nb_axes(), false);
}
static nb_tensor *max_last(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, n ? nb_max(x[0], nb_axes(-1), true) : x[0];
}
static nb_tensor *min_first(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, n ? nb_min(x[1], nb_axes(0), false) : x[1];
}
static nb_tensor *arg_last(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, n ? nb_argmax(x[0], -1, false) : x[0]; }
static nb_tensor *arg_first(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, n ? nb_argmin(x[1], 0, false) : x[1]; }
static nb_tensor *softmax_last(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, (void)n, nb_log_softmax(x[0], -1); }
static nb_tensor *softmax_first(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, (void)n, nb_softmax(x[1], 0); }
static nb_tensor *var_last(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, n > 1 ? nb_var(x[0], nb_axes(-1), true, 1) : x[0];
}
static nb_tensor *product(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, (void)n, nb_matmul(x[0], x[1]); }
static nb_tensor *outer(nb_context *nb, nb_tensor **x, int64_t n) { return (void)nb, n <= 200 ? nb_matmul(x[1], x[0]) : x[0]; }
static nb_tensor *row_product(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, (void)n, nb_linear(nb_slice(x[0], 0, 0, 1, 1), x[0], NULL);
}
static nb_tensor *to_transposed(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)nb, (void)n, nb_mul(nb_transpose(x[0], 0, 1), nb_flip(x[1], nb_axes(0)));
}
static nb_tensor *joined(nb_context *nb, nb_tensor **x, int64_t n) {
    return (void)n, nb_concat(nb_list_of(nb, x[0], nb_transpose(x[1], 0, 1), nb_exp(x[0])), 1);
}
static nb_tensor *picked(nb_context *nb, nb_tensor **x, int64_t n) {
    int64_t at[3] = {n - 1, 0, n / 2};
    return n ? nb_index_select(x[1], 0, nb_from(nb, NB_I64, nb_shape(3), at)) : x[1];
}
static nb_tensor *conv(nb_context *nb, nb_tensor **x, int64_t n) {
    if (n > 70) return x[0];
    nb_tensor *image = nb_reshape(x[0], nb_shape(1, 1, 3, n)),
              *w = nb_slice(nb_full(nb, NB_F32, nb_shape(4, 1, 3, 3), 0.25), 2, 0, NB_END, 1);
    return n < 2 ? x[0] : nb_conv2d(image, w, NULL, &(nb_conv2d_options){.padding = {1, 1}});
}
static nb_tensor *chain(nb_context *nb, nb_tensor **x, int64_t n) {
    (void)n;
    nb_tensor *a = nb_add(x[0], nb_number(nb, 1)), *b = nb_tanh(nb_mul(a, nb_transpose(x[1], 0, 1)));
    return nb_mul(nb_where(nb_greater(b, nb_number(nb, 0)), a, nb_square(b)), nb_sigmoid(a));
}

static const struct {
    const char *name;
    nb_tensor *(*build)(nb_context *nb, nb_tensor **x, int64_t n);
} sized[] = {
    {"sum last", sum_last},
    {"sum first", sum_first},
    {"mean all", mean_all},
    {"max last", max_last},
    {"min first", min_first},
    {"argmax last", arg_last},
    {"argmin first", arg_first},
    {"log_softmax last", softmax_last},
    {"softmax first", softmax_first},
    {"var last", var_last},
    {"matmul", product},
    {"matmul outer", outer},
    {"linear of one row", row_product},
    {"transposed", to_transposed},
    {"concat", joined},
    {"index_select", picked},
    {"conv2d", conv},
    {"chain", chain},
};

/* Leaves x[0] [3,n] and x[1] [n,3]. */
static void check_families(void) {
    for (size_t f = 0; f < sizeof sized / sizeof *sized; f++) {
        for (int k = 0; k < ODD; k++) {
            subject s = {.name = sized[f].name, .build = sized[f].build, .n = odd[k]};
            s.sample = (nb__case){.n = 2, .shape = {nb_shape(3, odd[k]), nb_shape(odd[k], 3)}, .low = {-2, -2}, .high = {2, 2}};
            s.sample.op = nb_op_find("sum"); /* whose gradient exists; the name seeds the contents */
            check(&s);
        }
    }
}

static void open_sets(void) {
    static const char *const names[] = {"reference", "baseline", "v3", "v4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int threads = 1; threads <= (i ? 2 : 1); threads++) {
            nb_context *nb = nb_open(&(nb_options){.kernels = names[i], .threads = threads});
            if (nb && !nb_error(nb))
                set[n_sets++] = (way){names[i], threads, nb};
            else
                nb_close(nb);
        }
    }
    for (int w = 0; w < n_sets; w++) printf("%s (%d)  ", set[w].kernels, set[w].threads);
    printf("\n");
}

int main(void) {
    const nb_op *op;
    open_sets();
    for (int i = 0; (op = nb_op_at(i)); i++) {
        if (!op->sample) continue;
        check_samples(op);
        if (op->kind == NB_ELEMENTWISE) check_sizes(op);
    }
    check_families();
    for (int w = 0; w < n_sets; w++) nb_close(set[w].nb);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
