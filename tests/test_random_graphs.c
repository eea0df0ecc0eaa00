/* test_random_graphs.c: random graphs, compiled with all passes for the fast kernels, against the reference with none.
 *
 *     test_random_graphs [GRAPHS [FIRST SEED]]
 *
 * A graph grows by the operators' own samples, so a new operator takes part without an edit here: what a sample asks for as operands is made
 * of nodes that are there already, brought to the wanted shape by views and into the wanted range by bounded functions. Operators
 * that jump (floor, comparisons) get operands that have the same bits on both sides. */
#include "test.h"

#include "core.h"

enum { POOL = 400, LEAVES = 4, ROOTS = 16, MAX_OPS = 256 };

static const nb_op *op_list[MAX_OPS];
static int64_t      op_count[MAX_OPS];
static int          op_samples[MAX_OPS];
static int          n_ops, fewest_nodes = 1 << 30, most_nodes, ill_conditioned;

typedef struct builder {
    nb_context  *nb;
    uint64_t     seed;
    nb_dtype     real;
    nb_tensor   *leaf[LEAVES], *param, *pool[POOL];
    int          n_pool, calls;
    const nb_op *op;
    nb_dims      shape; /* of the operands of an elementwise operator */
} builder;

static int64_t below(builder *b, int64_t n) { return (int64_t)(next_real(&b->seed) * (double)n); }
static bool    chance(builder *b, double p) { return next_real(&b->seed) < p; }

/* ------------------------------------------------------------------------------------------------------------------ growing a graph */

static bool jumps(const nb_op *op) {
    static const char *const names[] = {"floor", "ceil", "round", "trunc", "sign", "mod", "cast", "bernoulli"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], op->name)) return true;
    return !op->derivative && op->kind != NB_COMPOSITION;
}

static nb_dims reversed(nb_dims d) {
    nb_dims r = d;
    for (int i = 0; i < d.rank; i++) r.size[i] = d.size[d.rank - 1 - i];
    return r;
}

/* x with another shape: its elements in another order, repeated or cut. */
static nb_tensor *fit(builder *b, nb_tensor *x, nb_dims shape) {
    int64_t n = nb__dims_count(shape), m = nb_count(x);
    if (nb__dims_equal(x->shape, shape)) return shape.rank && chance(b, 0.2) ? nb_flip(x, nb_axes(below(b, shape.rank))) : x;
    if (nb__dims_equal(x->shape, reversed(shape))) {
        nb_dims axes = {.rank = shape.rank};
        for (int i = 0; i < shape.rank; i++) axes.size[i] = shape.rank - 1 - i;
        return nb_permute(x, axes);
    }
    if (m == 0 && n > 0) return fit(b, b->leaf[0], shape);
    x = nb_reshape(x, nb_shape(m));
    if (m < n) {
        int64_t times = (n + m - 1) / m;
        x = nb_reshape(nb_expand(x, nb_shape(times, m)), nb_shape(m * times));
        m *= times;
    }
    int64_t first = below(b, m - n + 1), step = chance(b, 0.2) && first + 2 * n <= m ? 2 : 1;
    return nb_reshape(nb_slice(x, 0, first, first + n * step, step), shape);
}

/* Into [low, high]. Leaves lie in [-1, 1], where a product and a sum do it, exactly alike everywhere. */
static nb_tensor *into_range(builder *b, nb_tensor *x, bool is_leaf, double low, double high) {
    nb_context *nb = b->nb;
    if (!is_leaf) {
        switch (below(b, 4)) {
        case 0: x = nb_tanh(x); break;
        case 1: x = nb_sin(x); break;
        case 2: x = nb_softsign(x); break;
        default: x = nb_clamp(x, -0.99, 0.99);
        }
    }
    return nb_add(nb_mul(x, nb_number(nb, 0.499 * (high - low))), nb_number(nb, 0.5 * (low + high)));
}

static nb_tensor *real(nb_sampler *s, double low, double high, nb_dims wanted) {
    builder *b = s->user;
    nb_dims  shape = wanted;
    if (b->op->kind == NB_ELEMENTWISE) {
        shape = b->shape;
        if (b->calls++ > 0 && shape.rank && chance(b, 0.3)) shape.size[below(b, shape.rank)] = 1;
        if (b->calls > 1 && shape.rank && chance(b, 0.1)) {
            for (int i = 1; i < shape.rank; i++) shape.size[i - 1] = shape.size[i];
            shape.rank--;
        }
    }
    bool       is_leaf = jumps(b->op) || chance(b, 0.2);
    nb_tensor *x = is_leaf ? b->leaf[below(b, LEAVES)] : b->pool[chance(b, 0.5) ? b->n_pool - 1 : below(b, b->n_pool)];
    for (int i = 0; i < LEAVES; i++) is_leaf |= x == b->leaf[i];
    return into_range(b, fit(b, x, shape), is_leaf, low, high);
}

static nb_tensor *integer(nb_sampler *s, nb_dtype dtype, int64_t low, int64_t high, nb_dims wanted) {
    builder *b = s->user;
    nb_dims  shape = b->op->kind == NB_ELEMENTWISE ? b->shape : wanted;
    int64_t  n = nb__dims_count(shape), *value = nb_alloc(s->nb, (size_t)(n + 1) * sizeof *value);
    for (int64_t i = 0; i < n; i++) value[i] = low + below(b, high - low);
    nb_tensor *t = nb_cast(nb_from(s->nb, NB_I64, shape, value), dtype);
    nb_free(s->nb, value);
    return t;
}

static void twice(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)xs;
    (void)user;
    dx[0] = nb_mul(dy, nb_number(nb_context_of(y), 2));
}

/* One more operator. */
static void grow(builder *b) {
    nb_sampler s = {b->nb, real, integer, b};
    int        which = (int)below(b, n_ops);
    b->op = op_list[which];
    b->shape = nb_shape_of(b->pool[below(b, b->n_pool)]);
    b->calls = 0;
    nb_tensor *x = b->pool[below(b, b->n_pool)], *y = NULL;
    if (!strcmp(b->op->name, "stop_gradient")) {
        y = nb_add(nb_stop_gradient(x), x);
    } else if (!strcmp(b->op->name, "with_derivative")) {
        y = nb_with_derivative(x, nb_list_of(b->nb, x), twice, NULL);
    } else if (b->op->sample) {
        y = b->op->sample(&s, (int)below(b, op_samples[which]));
        op_count[which]++;
    }
    if (!y) return;
    if (nb_dtype_of(y) != b->real) y = nb_cast(y, b->real);
    if (nb_count(y) > 5000) y = nb_slice(nb_reshape(y, nb_shape(nb_count(y))), 0, 7, 5000, 3);
    if (b->n_pool < POOL) b->pool[b->n_pool++] = y;
}

static void make_leaves(builder *b) {
    for (int i = 0; i < LEAVES; i++) {
        nb_dims shape = {.rank = i == 0 ? 2 : below(b, 5)};
        for (int k = 0; k < shape.rank; k++)
            shape.size[k] = i == 0 || chance(b, 0.97) ? 1 + below(b, chance(b, 0.1) ? 40 : 6) : 0;
        b->leaf[i] = b->pool[b->n_pool++] = nb_input(b->nb, "x", b->real, shape);
    }
    b->param = nb_param(b->nb, "p", nb_full(b->nb, b->real, nb_shape(3, 2), 0.25));
}

static void fill_leaves(builder *b, uint64_t seed, double noise) {
    for (int i = 0; i < LEAVES; i++) {
        int64_t n = nb_count(b->leaf[i]);
        double *x = calloc((size_t)n + 1, sizeof *x);
        float  *f = calloc((size_t)n + 1, sizeof *f);
        for (int64_t k = 0; k < n; k++) {
            x[k] = 2 * next_real(&seed) - 1;
            x[k] *= 1 + noise * (2 * next_real(&seed) - 1);
            f[k] = (float)x[k];
        }
        nb_set(b->leaf[i], b->real == NB_F32 ? (void *)f : (void *)x, nb_bytes(b->leaf[i]));
        free(x);
        free(f);
    }
}

/* Results of a graph: some nodes, a sum's gradients for the leaves, and an assign. */
static nb_list build(builder *b, int *nodes) {
    nb_context *nb = b->nb;
    make_leaves(b);
    int      size = 5 + (int)below(b, 50);
    uint64_t start = nb->serial;
    for (*nodes = 0; *nodes < size && b->n_pool < POOL && !nb_error(nb);) {
        grow(b);
        int grown = (int)(nb->serial - start);
        if (grown > 60 && b->n_pool > LEAVES + 1) { /* the last was too large a piece */
            b->n_pool--;
            break;
        }
        *nodes = grown;
    }
    nb_tensor *loss = nb_zeros(nb, b->real, nb_shape());
    nb_list    roots = nb_list_new(nb, 2 + LEAVES + 3);
    for (int i = 0; i < 3; i++) {
        nb_tensor *y = b->pool[i == 0 ? b->n_pool - 1 : below(b, b->n_pool)];
        loss = nb_add(loss, nb_sum(nb_mul(y, fit(b, b->leaf[0], nb_shape_of(y))), nb_axes(), false));
        roots.at[i] = y;
    }
    nb_list g = nb_grads(loss, NULL, nb_list_from(nb, LEAVES, b->leaf));
    for (int i = 0; i < LEAVES; i++) roots.at[3 + i] = g.at[i];
    roots.at[3 + LEAVES] = loss;
    roots.at[4 + LEAVES] =
        nb_assign(b->param, nb_add(nb_mul(b->param, nb_number(nb, 0.5)), fit(b, b->pool[b->n_pool - 1], nb_shape(3, 2))));
    return roots;
}

/* -------------------------------------------------------------------------------------------------------------- running, comparing */

typedef struct results {
    int     n;
    int64_t count[ROOTS];
    double *value[ROOTS];
} results;

static void drop(results *r) {
    for (int i = 0; i < r->n; i++) free(r->value[i]);
    r->n = 0;
}

static void keep(results *r, nb_tensor *t) {
    const void *data = nb_data(t);
    int64_t     n = nb_count(t);
    if (!data) return;
    r->count[r->n] = n;
    double *v = r->value[r->n++] = calloc((size_t)n + 1, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = nb_dtype_of(t) == NB_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void count_operators(nb_context *nb, nb_list roots) {
    nb_list graph = nb_graph(nb, roots);
    for (int i = 0; i < graph.n; i++)
        for (int k = 0; k < n_ops; k++)
            if (op_list[k] == graph.at[i]->op) op_count[k]++;
}

/* Builds and runs the graph of this seed in a context. noise > 0: with leaves that are a little off. */
static results compute(nb_context *nb, uint64_t seed, const char *passes, double noise, int *nodes) {
    builder b = {.nb = nb, .seed = seed * 2654435761u + 12345};
    results r = {0};
    b.real = seed % 5 == 4 ? NB_F64 : NB_F32;
    nb_set_random(nb, (nb_random_state){seed, 0});
    nb_list roots = build(&b, nodes);
    fill_leaves(&b, seed, noise);
    bool by_eval = seed % 4 == 3; /* define-by-run: no assigns there */
    if (by_eval) roots.n--;
    if (noise == 0 && !passes) count_operators(nb, roots);
    if (by_eval) {
        if (nb_eval(nb, roots))
            for (int i = 0; i < roots.n; i++) keep(&r, roots.at[i]);
    } else {
        nb_program *p = nb_compile_with(nb, roots, &(nb_compile_options){.passes = passes});
        if (nb_run(p)) {
            for (int i = 0; i + 1 < roots.n; i++) keep(&r, nb_output(p, i));
            keep(&r, b.param);
        }
        nb_program_free(p);
    }
    for (int i = 0; i < LEAVES; i++) nb_release(b.leaf[i]);
    nb_release(b.param);
    nb_next_step(nb);
    return r;
}

static double largest(const results *r, int k) {
    double m = 1;
    for (int64_t i = 0; i < r->count[k]; i++)
        if (isfinite(r->value[k][i]) && fabs(r->value[k][i]) > m) m = fabs(r->value[k][i]);
    return m;
}

/* The worst difference, in parts of the largest element; *result: in which. */
static double distance(const results *a, const results *b, int *result) {
    double worst = 0;
    *result = 0;
    if (a->n != b->n) return INFINITY;
    for (int k = 0; k < a->n; k++) {
        double scale = largest(b, k);
        for (int64_t i = 0; i < a->count[k]; i++) {
            double x = a->value[k][i], y = b->value[k][i], d = fabs(x - y) / scale;
            if (x == y || (isnan(x) && isnan(y))) continue;
            if (!(d <= worst)) worst = isnan(d) ? INFINITY : d, *result = k;
        }
    }
    return worst;
}

static const char *const result_name[] = {"a node",     "a node",     "a node",  "gradient 0", "gradient 1",
                                          "gradient 2", "gradient 3", "the sum", "the assign"};

/* An unlucky graph enlarges rounding errors by itself (a kink, a pole): how much, the reference tells from leaves that are a little off. */
static double own_error(nb_context *reference, uint64_t seed, const results *want, double noise) {
    double worst = 0;
    int    nodes, at;
    for (int i = 1; i <= 3; i++) {
        results off = compute(reference, seed, "none", noise * i, &nodes);
        double  d = distance(&off, want, &at);
        drop(&off);
        if (d > worst) worst = d;
    }
    return worst;
}

static bool check(nb_context *reference, nb_context *fast, uint64_t seed) {
    int     nodes = 0, at = 0;
    results want = compute(reference, seed, "none", 0, &nodes), got = compute(fast, seed, NULL, 0, &nodes);
    double  d = want.n && got.n ? distance(&got, &want, &at) : INFINITY, tolerance = seed % 5 == 4 ? 1e-11 : 3e-5;
    bool    good = d <= tolerance;
    if (!good && want.n && got.n) {
        double own = own_error(reference, seed, &want, seed % 5 == 4 ? 1e-15 : 3e-7);
        if (d <= 30 * own) good = true, ill_conditioned++;
    }
    if (nodes < fewest_nodes) fewest_nodes = nodes;
    if (nodes > most_nodes) most_nodes = nodes;
    if (!good) {
        const char *message = nb_error(fast) ? nb_error(fast) : nb_error(reference);
        printf("seed %llu, %d nodes, %s: %s differs by %.3g. Again: test_random_graphs 1 %llu\n", (unsigned long long)seed, nodes,
               nb_kernels(fast), message ? message : result_name[at], d, (unsigned long long)seed);
    }
    nb_error_clear(fast);
    nb_error_clear(reference);
    drop(&want);
    drop(&got);
    return good;
}

/* The operators, and how many samples each has. */
static void list_operators(nb_context *nb) {
    for (; n_ops < MAX_OPS && nb_op_at(n_ops); n_ops++) {
        builder    b = {.nb = nb, .real = NB_F32, .op = nb_op_at(n_ops)};
        nb_sampler s = {nb, real, integer, &b};
        make_leaves(&b);
        b.shape = nb_shape_of(b.leaf[0]);
        op_list[n_ops] = b.op;
        while (b.op->sample && b.op->sample(&s, op_samples[n_ops])) op_samples[n_ops]++;
        for (int i = 0; i < LEAVES; i++) nb_release(b.leaf[i]);
        nb_release(b.param);
        nb_next_step(nb);
    }
}

int main(int argc, char **argv) {
    int64_t     graphs = argc > 1 ? atoll(argv[1]) : is_long() ? 100000 : 2000;
    uint64_t    first = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    int         passed = 0, failed = 0;
    nb_context *reference = nb_open(&(nb_options){.kernels = "reference"});
    nb_context *fast[] = {nb_open(NULL), nb_open(&(nb_options){.threads = 2}), nb_open(&(nb_options){.kernels = "baseline"})};
    list_operators(reference);
    for (int64_t i = 0; i < graphs; i++) {
        bool good = check(reference, fast[(first + (uint64_t)i) % 3], first + (uint64_t)i);
        passed += good;
        failed += !good;
    }
    int rare = 0;
    for (int k = 0; k < n_ops; k++) {
        printf("%s %lld  ", op_list[k]->name, (long long)op_count[k]);
        if (op_count[k] < 20 && graphs >= 1000) printf("(rare)  "), rare++;
    }
    printf("\ngraphs of %d to %d nodes; %d with large rounding errors of their own\n", fewest_nodes, most_nodes, ill_conditioned);
    if (ill_conditioned > graphs / 50 + 1) printf("too many of those\n"), failed++;
    for (int i = 0; i < 3; i++) nb_close(fast[i]);
    nb_close(reference);
    printf("%d passed, %d failed\n", passed, failed + rare);
    return failed + rare > 0;
}
