/* gradcheck.c: derivatives against central differences, in double.
 *
 * One scheme serves every order. A function has points x and results y. With an upstream v for each y, s = sum v y is a scalar,
 * and its gradients g = ds/dx are what the engine claims. For order 2 the function is taken to be (x, v) -> g, and the same is
 * done once more. Differences are taken of y itself, never of s alone, so that an upstream of ones cannot hide a mistake.
 *
 *     J[j][i] = dy_j/dx_i     claimed: row j by v = e_j     measured: column i = (y(x + h e_i) - y(x - h e_i)) / 2h
 *
 * Where J has too many entries, random directions d and upstreams v take its place: v J d from both sides. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sampler.h"

enum {
    MAX_TENSORS = 64, /* points, or results */
    FULL = 512,       /* largest Jacobian that is compared entry by entry */
    DIRECTIONS = 4
};

static const double absolute = 1e-6, relative = 1e-5;
static const double step = 6e-6; /* about the cube root of DBL_EPSILON: truncation and rounding are both near 1e-10 */

/* Tensors as one long vector. */
typedef struct vector {
    int        n;
    nb_tensor *at[MAX_TENSORS];
    int64_t    size;
    double    *value; /* of points: what they are set to */
} vector;

typedef struct checker {
    nb_context         *nb;
    vector              x, v, y;
    int                 n_g;
    nb_tensor          *g[MAX_TENSORS];
    nb_program         *results, *gradients;
    nb_random_state     random; /* masks and the like are to be the same in every run */
    uint64_t            seed;
    nb_gradcheck_result out;
} checker;

double nb__random_real(uint64_t *seed) { /* in [0, 1): SplitMix64 (Steele et al., 2014) */
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static bool wrong(checker *c, const char *text) {
    if (!c->out.detail[0]) snprintf(c->out.detail, sizeof c->out.detail, "%s", text);
    c->out.passed = false;
    c->out.worst = INFINITY;
    return false;
}

static bool context_failed(checker *c) { return nb_error(c->nb) && !wrong(c, nb_error(c->nb)); }

/* ----------------------------------------------------------------------------------------------------------- the two programs */

static nb_tensor *add_point(checker *c, vector *p, nb_dims shape) {
    if (p->n == MAX_TENSORS) return nb_fail(c->nb, NB_INVALID, "nb_gradcheck: more than %d tensors", (int)MAX_TENSORS);
    nb_tensor *t = nb_input(c->nb, "gradcheck", NB_F64, shape);
    if (nb_has_failed(t)) return t;
    p->size += nb_count(t);
    return p->at[p->n++] = t;
}

/* Random in [-1, 1], not near 0. */
static double upstream(checker *c) {
    double u = 1.8 * nb__random_real(&c->seed) - 0.9;
    return u < 0 ? u - 0.1 : u + 0.1;
}

/* s = sum v y, and 0 x, so that a point of which a result does not depend has the derivative 0 instead of an error. */
static bool differentiate(checker *c) {
    nb_context *nb = c->nb;
    nb_tensor  *s = nb_zeros(nb, NB_F64, nb_shape());
    for (int i = 0; i < c->y.n; i++) {
        nb_tensor *v = add_point(c, &c->v, nb_shape_of(c->y.at[i]));
        s = nb_add(s, nb_sum(nb_mul(c->y.at[i], v), nb_axes(), false));
    }
    for (int i = 0; i < c->x.n; i++) s = nb_add(s, nb_mul(nb_sum(c->x.at[i], nb_axes(), false), nb_number(nb, 0)));
    nb_list g = nb_grads(s, NULL, nb_list_from(nb, c->x.n, c->x.at));
    if (context_failed(c)) return false;
    if (g.n != c->x.n) return wrong(c, "nb_grads: another number of gradients than points");
    c->n_g = g.n;
    for (int i = 0; i < g.n; i++) {
        c->g[i] = g.at[i];
        nb_dims a = nb_shape_of(g.at[i]), b = nb_shape_of(c->x.at[i]);
        if (nb_dtype_of(g.at[i]) != NB_F64) return wrong(c, "a gradient is not f64");
        if (a.rank != b.rank || memcmp(a.size, b.size, (size_t)a.rank * sizeof *a.size) != 0)
            return wrong(c, "a gradient has another shape than its point");
    }
    return true;
}

/* From (x -> y) to ((x, v) -> g). */
static bool next_order(checker *c) {
    if (c->x.n + c->v.n > MAX_TENSORS) return wrong(c, "too many tensors");
    for (int i = 0; i < c->v.n; i++) c->x.at[c->x.n++] = c->v.at[i];
    c->x.size += c->v.size;
    c->v = c->y = (vector){0};
    for (int i = 0; i < c->n_g; i++) {
        c->y.at[c->y.n++] = c->g[i];
        c->y.size += nb_count(c->g[i]);
    }
    return differentiate(c);
}

static bool write_points(checker *c, const vector *p, const double *value) {
    for (int i = 0; i < p->n; i++) {
        if (!nb_set(p->at[i], value, nb_bytes(p->at[i]))) return wrong(c, nb_error(c->nb));
        value += nb_count(p->at[i]);
    }
    return true;
}

/* Runs a program and copies all its outputs to `to`. */
static bool run(checker *c, nb_program *program, int n, double *to) {
    nb_set_random(c->nb, c->random);
    if (!nb_run(program)) return context_failed(c) ? false : wrong(c, "a run failed");
    for (int i = 0; i < n; i++) {
        nb_tensor  *t = nb_output(program, i);
        const void *data = nb_data(t);
        if (!data) return context_failed(c) ? false : wrong(c, "a result has no value");
        memcpy(to, data, nb_bytes(t));
        to += nb_count(t);
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------------- comparisons */

static void where(const vector *p, int64_t i, int *tensor, int64_t *element) {
    int t = 0;
    while (t + 1 < p->n && i >= nb_count(p->at[t])) i -= nb_count(p->at[t++]);
    *tensor = t;
    *element = i;
}

static bool is_worse(checker *c, double claimed, double measured) {
    double ratio = fabs(claimed - measured) / (absolute + relative * fabs(measured));
    if (!isfinite(claimed) || !isfinite(measured)) ratio = INFINITY;
    c->out.entries++;
    if (ratio > 1) c->out.passed = false;
    if (!(ratio > c->out.worst)) return false;
    c->out.worst = ratio;
    return true;
}

static void compare_entry(checker *c, int64_t j, int64_t i, double claimed, double measured) {
    if (!is_worse(c, claimed, measured)) return;
    int     y, x;
    int64_t k, l;
    where(&c->y, j, &y, &k);
    where(&c->x, i, &x, &l);
    snprintf(c->out.detail, sizeof c->out.detail,
             "largest deviation at d result%d[%lld] / d input%d[%lld]: derivative %.10g, difference %.10g", y, (long long)k, x,
             (long long)l, claimed, measured);
}

/* (y(x + d) - y(x - d)) / 2h, where d is h times the direction. `at` is room for one point, `out` for two results. */
static bool difference(checker *c, const double *d, double h, double *at, double *out) {
    int64_t n = c->x.size, m = c->y.size;
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++) at[i] = c->x.value[i] + (side ? -d[i] : d[i]);
        if (!write_points(c, &c->x, at) || !run(c, c->results, c->y.n, out + side * m)) return false;
    }
    for (int64_t j = 0; j < m; j++) out[j] = (out[j] - out[m + j]) / (2 * h);
    return write_points(c, &c->x, c->x.value);
}

static double reach(double x) { return fabs(x) > 1 ? fabs(x) : 1; }

static bool check_full(checker *c, double *at, double *d, double *out, double *g, double *v) {
    int64_t n = c->x.size, m = c->y.size;
    double  measured[FULL];
    for (int64_t i = 0; i < n; i++) {
        double h = step * reach(c->x.value[i]);
        d[i] = h;
        if (!difference(c, d, h, at, out)) return false;
        d[i] = 0;
        for (int64_t j = 0; j < m; j++) measured[j * n + i] = out[j];
    }
    for (int64_t j = 0; j < m; j++) {
        v[j] = 1;
        if (!write_points(c, &c->v, v) || !run(c, c->gradients, c->n_g, g)) return false;
        v[j] = 0;
        for (int64_t i = 0; i < n; i++) compare_entry(c, j, i, g[i], measured[j * n + i]);
    }
    return true;
}

static bool check_direction(checker *c, double *at, double *d, double *out, double *g, double *v) {
    int64_t n = c->x.size, m = c->y.size;
    double  claimed = 0, measured = 0;
    for (int64_t i = 0; i < n; i++) d[i] = step * upstream(c) * reach(c->x.value[i]);
    for (int64_t j = 0; j < m; j++) v[j] = upstream(c);
    if (!difference(c, d, step, at, out)) return false;
    if (!write_points(c, &c->v, v) || !run(c, c->gradients, c->n_g, g)) return false;
    for (int64_t j = 0; j < m; j++) measured += v[j] * out[j];
    for (int64_t i = 0; i < n; i++) claimed += g[i] * d[i] / step;
    if (is_worse(c, claimed, measured))
        snprintf(c->out.detail, sizeof c->out.detail,
                 "largest deviation along a random direction: derivative %.10g, difference %.10g", claimed, measured);
    return true;
}

/* The point at which it is checked: the contents of the caller's inputs, then random upstreams of the orders below. */
static bool choose_point(checker *c, nb_list inputs) {
    double *to = c->x.value;
    for (int i = 0; i < inputs.n; i++) {
        if (!nb_read(inputs.at[i], to, nb_bytes(inputs.at[i]))) return wrong(c, nb_error(c->nb));
        to += nb_count(inputs.at[i]);
    }
    while (to < c->x.value + c->x.size) *to++ = upstream(c);
    return write_points(c, &c->x, c->x.value);
}

static bool compare(checker *c, nb_list inputs) {
    int64_t n = c->x.size, m = c->y.size;
    double *memory = nb_alloc(c->nb, (size_t)(4 * n + 3 * m + 1) * sizeof *memory);
    if (!memory) return wrong(c, nb_error(c->nb));
    double *at = memory + n, *d = at + n, *g = d + n, *out = g + n, *v = out + 2 * m;
    c->x.value = memory;
    bool done = choose_point(c, inputs);
    /* First with zeros; programs of results without elements must run too. */
    done = done && write_points(c, &c->v, v) && run(c, c->results, c->y.n, out) && run(c, c->gradients, c->n_g, g);
    for (int64_t i = 0; i < n && done; i++)
        if (g[i] != 0) done = wrong(c, "an upstream gradient of zeros gives a gradient that is not zero");
    bool full = n <= FULL && m <= FULL && n * m <= FULL;
    if (n && m && done && full) done = check_full(c, at, d, out, g, v);
    for (int k = 0; k < (full ? 1 : DIRECTIONS) && n && m && done; k++) done = check_direction(c, at, d, out, g, v);
    nb_free(c->nb, memory);
    return done;
}

static bool build(checker *c, nb_function *function, void *user, nb_list inputs, int order) {
    nb_context *nb = c->nb;
    if (order < 1 || order > 2) return wrong(c, "nb_gradcheck: the order must be 1 or 2");
    if (context_failed(c)) return false;
    for (int i = 0; i < inputs.n; i++) {
        if (nb_dtype_of(inputs.at[i]) != NB_F64) return wrong(c, "nb_gradcheck: an input is not f64");
        add_point(c, &c->x, nb_shape_of(inputs.at[i]));
    }
    if (context_failed(c)) return false;
    nb_tensor *y = function(nb, nb_list_from(nb, c->x.n, c->x.at), user);
    if (!y) y = nb_fail(nb, NB_INVALID, "nb_gradcheck: the function returned NULL");
    if (context_failed(c)) return false;
    if (nb_dtype_of(y) != NB_F64) return wrong(c, "nb_gradcheck: the result is not f64");
    c->y = (vector){.n = 1, .at = {y}, .size = nb_count(y)};
    if (!differentiate(c)) return false;
    if (order == 2 && !next_order(c)) return false;
    c->results = nb_compile(nb, nb_list_from(nb, c->y.n, c->y.at));
    c->gradients = nb_compile(nb, nb_list_from(nb, c->n_g, c->g));
    return !context_failed(c);
}

nb_gradcheck_result nb_gradcheck(nb_context *nb, nb_function *function, void *user, nb_list inputs, int order) {
    checker c = {.nb = nb, .seed = 1, .out = {.passed = true}};
    c.random = nb_get_random(nb);
    if (build(&c, function, user, inputs, order)) compare(&c, inputs);
    if (c.results) nb_program_free(c.results);
    if (c.gradients) nb_program_free(c.gradients);
    for (int i = 0; i < c.x.n; i++) nb_release(c.x.at[i]);
    for (int i = 0; i < c.v.n; i++) nb_release(c.v.at[i]);
    nb_set_random(nb, c.random);
    return c.out;
}
