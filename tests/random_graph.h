/* random_graph.h: random graphs for test_random_graphs.c.
 *
 * A graph grows by the operators' own samples, so a new operator takes part without an edit here, and by the structures of real
 * nets (random_structures.h). What either asks for as operands is made of nodes that are there already, brought to the wanted
 * shape by views and into the wanted range by bounded functions. Operators that jump (floor, comparisons) get operands that have
 * the same bits on both sides. */
#ifndef RANDOM_GRAPH_H
#define RANDOM_GRAPH_H

#include "test.h"

#include "core.h"

enum { POOL = 400, LEAVES = 4, PARAMS = 3, MAX_OPS = 320, MAX_ROOTS = 64, LARGEST = 5000 };

typedef struct builder {
    nb_context   *nb;
    uint64_t      seed;
    nb_dtype      real;
    nb_tensor    *leaf[LEAVES], *param[PARAMS], *running, *pool[POOL];
    int           n_pool, calls;
    const nb_op  *op;
    nb_dims       shape; /* of the operands of an elementwise operator */
    double        joins; /* random_items.h: how often items are joined */
    nb_optimizer *optimizer;
} builder;

/* The operators, how many samples each has, and how often each was used. */
static const nb_op *op_list[MAX_OPS];
static int64_t      op_count[MAX_OPS];
static int          op_samples[MAX_OPS], n_ops;

static inline int64_t below(builder *b, int64_t n) { return (int64_t)(next_real(&b->seed) * (double)n); }
static inline bool    chance(builder *b, double p) { return next_real(&b->seed) < p; }

static inline bool jumps(const nb_op *op) {
    static const char *const names[] = {"floor", "ceil", "round", "trunc", "sign", "mod", "cast", "bernoulli"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], op->name)) return true;
    return !op->derivative && op->kind != NB_COMPOSITION;
}

static inline nb_dims reversed(nb_dims d) {
    nb_dims r = d;
    for (int i = 0; i < d.rank; i++) r.size[i] = d.size[d.rank - 1 - i];
    return r;
}

/* x with another shape: its elements in another order, repeated or cut. */
static nb_tensor *fit(builder *b, nb_tensor *x, nb_dims shape) {
    int64_t n = nb__dims_count(shape), m = nb_count(x);
    if (nb__dims_equal(x->shape, shape)) return shape.rank && chance(b, 0.15) ? nb_flip(x, nb_axes(below(b, shape.rank))) : x;
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

static nb_tensor *bounded(builder *b, nb_tensor *x) {
    switch (below(b, 4)) {
    case 0: return nb_tanh(x);
    case 1: return nb_sin(x);
    case 2: return nb_softsign(x);
    default: return nb_clamp(x, -0.99, 0.99);
    }
}

/* Into [low, high]. Leaves lie in [-1, 1], where a product and a sum do it, exactly alike everywhere. */
static nb_tensor *into_range(builder *b, nb_tensor *x, bool is_leaf, double low, double high) {
    if (!is_leaf) x = bounded(b, x);
    if (low == -1 && high == 1) return x;
    return nb_add(nb_mul(x, nb_number(b->nb, 0.499 * (high - low))), nb_number(b->nb, 0.5 * (low + high)));
}

static bool is_leaf(builder *b, const nb_tensor *x) {
    for (int i = 0; i < LEAVES; i++)
        if (x == b->leaf[i]) return true;
    return false;
}

static nb_tensor *any_node(builder *b) { return b->pool[chance(b, 0.5) ? b->n_pool - 1 : below(b, b->n_pool)]; }

/* A node of this shape with elements in [-1, 1]. */
static nb_tensor *operand(builder *b, nb_dims shape) {
    nb_tensor *x = any_node(b);
    return fit(b, is_leaf(b, x) ? x : bounded(b, x), shape);
}

/* The same for what must have the same bits on both sides. */
static nb_tensor *exact_operand(builder *b, nb_dims shape) { return fit(b, b->leaf[below(b, LEAVES)], shape); }

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
    nb_tensor *x = jumps(b->op) || chance(b, 0.2) ? b->leaf[below(b, LEAVES)] : any_node(b);
    return into_range(b, fit(b, x, shape), is_leaf(b, x), low, high);
}

static nb_tensor *integer(nb_sampler *s, nb_dtype dtype, int64_t low, int64_t high, nb_dims wanted) {
    builder *b = s->user;
    nb_dims  shape = b->op && b->op->kind == NB_ELEMENTWISE ? b->shape : wanted;
    int64_t  n = nb__dims_count(shape), *value = malloc((size_t)(n + 1) * sizeof *value);
    for (int64_t i = 0; i < n; i++) value[i] = low + below(b, high - low);
    nb_tensor *t = nb_cast(nb_from(s->nb, NB_I64, shape, value), dtype);
    free(value);
    return t;
}

static void twice(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)xs;
    (void)user;
    dx[0] = nb_mul(dy, nb_number(nb_context_of(y), 2));
}

#include "random_structures.h"

static nb_tensor *sample_of_an_operator(builder *b) {
    nb_sampler s = {b->nb, real, integer, b};
    int        which = (int)below(b, n_ops);
    b->op = op_list[which];
    b->shape = nb_shape_of(b->pool[below(b, b->n_pool)]);
    b->calls = 0;
    nb_tensor *x = b->pool[below(b, b->n_pool)];
    if (!strcmp(b->op->name, "stop_gradient")) return nb_add(nb_stop_gradient(x), x);
    if (!strcmp(b->op->name, "with_derivative")) return nb_with_derivative(x, nb_list_of(b->nb, x), twice, NULL);
    if (!b->op->sample) return NULL;
    op_count[which]++;
    return b->op->sample(&s, (int)below(b, op_samples[which]));
}

/* One more operator or structure. */
static void grow(builder *b) {
    nb_tensor *y = NULL;
    if (chance(b, 0.2)) {
        b->op = NULL;
        y = structures[below(b, STRUCTURES)](b);
    } else {
        y = sample_of_an_operator(b);
    }
    if (!y) return;
    if (nb_dtype_of(y) != b->real) y = nb_cast(y, b->real);
    if (nb_count(y) > LARGEST) y = nb_slice(nb_reshape(y, nb_shape(nb_count(y))), 0, 7, LARGEST, 3);
    if (b->n_pool < POOL) b->pool[b->n_pool++] = y;
}

/* Random contents in [-1, 1] that f32 and f64 both have. */
static void *contents(builder *b, nb_dtype dtype, int64_t n) {
    void *data = calloc((size_t)n + 1, sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(2 * next_real(&b->seed) - 1);
        if (dtype == NB_F32)
            ((float *)data)[i] = v;
        else
            ((double *)data)[i] = v;
    }
    return data;
}

static nb_tensor *make_leaf(builder *b, nb_dims shape) {
    nb_tensor *x = nb_input(b->nb, "x", b->real, shape);
    void      *data = contents(b, b->real, nb_count(x));
    nb_set(x, data, nb_bytes(x));
    free(data);
    return x;
}

static void make_params(builder *b, int64_t width) {
    nb_dims shape[PARAMS] = {nb_shape(3, 2), nb_shape(width), nb_shape(1 + below(b, 6), width)};
    for (int i = 0; i < PARAMS; i++) {
        void *data = contents(b, b->real, nb__dims_count(shape[i]));
        b->param[i] = nb_param(b->nb, "p", nb_from(b->nb, b->real, shape[i], data));
        free(data);
    }
}

static void make_leaves(builder *b) {
    for (int i = 0; i < LEAVES; i++) {
        nb_dims shape = {.rank = i == 0 ? 2 : below(b, 5)};
        for (int k = 0; k < shape.rank; k++)
            shape.size[k] = i == 0 || chance(b, 0.97) ? 1 + below(b, chance(b, 0.1) ? 40 : 6) : 0;
        b->leaf[i] = b->pool[b->n_pool++] = make_leaf(b, shape);
    }
    make_params(b, b->leaf[0]->shape.size[1]);
    for (int i = 0; i < PARAMS; i++) b->pool[b->n_pool++] = b->param[i];
}

#include "random_items.h"

/* What changes the parameters: an optimiser's step, or a plain assign, or none. */
static void add_updates(builder *b, nb_tensor *loss, nb_tensor **root, int *n) {
    nb_list w = nb_list_from(b->nb, PARAMS, b->param);
    /* eps: Adam's quotient of a gradient that is rounding error alone would be rounding error enlarged to 1. */
    switch (below(b, 4)) {
    case 0:
        b->optimizer = nb_sgd(w, 0.01, &(nb_sgd_options){.momentum = 0.9, .nesterov = chance(b, 0.5), .weight_decay = 0.01});
        break;
    case 1: b->optimizer = nb_adam(w, 0.01, &(nb_adam_options){.eps = 0.1, .weight_decay = 0.01}); break;
    case 2: b->optimizer = nb_adamw(w, 0.01, &(nb_adam_options){.eps = 0.1, .weight_decay = 0.01}); break;
    default: {
        nb_tensor *p = b->param[below(b, PARAMS)];
        root[(*n)++] = nb_assign(p, nb_add(nb_mul(p, nb_number(b->nb, 0.5)), operand(b, nb_shape_of(p))));
        return;
    }
    }
    if (chance(b, 0.3)) nb_optimizer_clip_norm(b->optimizer, 1);
    nb_list update = nb_update(b->optimizer, loss);
    for (int i = 0; i < update.n && *n < MAX_ROOTS; i++) root[(*n)++] = update.at[i];
}

/* Grows a graph. Its roots: some nodes, gradients of a sum of them for leaves and parameters, the sum, second derivatives at
 * times, and assigns. At times a view of a root, and one root twice. Or one of items that keep apart. */
static nb_list build(builder *b, bool assigns) {
    if (chance(b, 0.2)) return build_items(b);
    nb_context *nb = b->nb;
    nb_tensor  *root[MAX_ROOTS];
    int         n = 0, size = 5 + (int)below(b, 50);
    make_leaves(b);
    for (uint64_t start = nb->serial; (int)(nb->serial - start) < size && b->n_pool < POOL && !nb_error(nb);) grow(b);
    if (assigns && chance(b, 0.2)) { /* as the running values of a norm */
        int at = b->n_pool - 1;
        b->running = nb_param(nb, "running", nb_zeros(nb, b->real, nb_shape(4)));
        nb_tensor *next = nb_add(nb_mul(b->running, nb_number(nb, 0.9)), operand(b, nb_shape(4)));
        b->pool[at] = nb_with_update(nb_add(b->pool[at], nb_number(nb, 0.25)), nb_assign(b->running, next));
    }
    nb_tensor *loss = nb_zeros(nb, b->real, nb_shape());
    int        terms = 1 + (int)below(b, 3);
    for (int i = 0; i < terms; i++) {
        nb_tensor *y = b->pool[i == 0 ? b->n_pool - 1 : below(b, b->n_pool)];
        loss = nb_add(loss, nb_sum(nb_mul(y, fit(b, b->leaf[0], nb_shape_of(y))), nb_axes(), false));
        if (chance(b, 0.7)) root[n++] = y;
        if (chance(b, 0.1)) root[n++] = nb_flip(nb_reshape(y, nb_shape(nb_count(y))), nb_axes(0));
        if (chance(b, 0.05)) root[n++] = y;
    }
    nb_tensor *x[LEAVES + PARAMS];
    memcpy(x, b->leaf, sizeof b->leaf);
    memcpy(x + LEAVES, b->param, sizeof b->param);
    nb_list g = nb_grads(loss, NULL, nb_list_from(nb, LEAVES + PARAMS, x));
    for (int i = 0; i < g.n; i++)
        if (chance(b, 0.8)) root[n++] = g.at[i];
    if (chance(b, 0.08)) {
        nb_tensor *direction = nb_sum(nb_sin(g.at[0]), nb_axes(), false);
        nb_list    h = nb_grads(direction, NULL, nb_list_of(nb, b->leaf[0], b->leaf[1]));
        for (int i = 0; i < h.n; i++) root[n++] = h.at[i];
    }
    root[n++] = loss;
    if (assigns && chance(b, 0.6)) add_updates(b, loss, root, &n);
    return nb_list_from(nb, n, root);
}

static void list_operators(nb_context *nb) {
    for (; n_ops < MAX_OPS && nb_op_at(n_ops); n_ops++) {
        builder    b = {.nb = nb, .real = NB_F32, .op = nb_op_at(n_ops)};
        nb_sampler s = {nb, real, integer, &b};
        make_leaves(&b);
        b.shape = nb_shape_of(b.leaf[0]);
        op_list[n_ops] = b.op;
        while (b.op->sample && b.op->sample(&s, op_samples[n_ops])) op_samples[n_ops]++;
        nb_list kept = nb_kept(nb);
        for (int i = 0; i < kept.n; i++) nb_release(kept.at[i]);
        nb_next_step(nb);
    }
}

static void count_operators(nb_context *nb, nb_list roots) {
    nb_list graph = nb_graph(nb, roots);
    for (int i = 0; i < graph.n; i++)
        for (int k = 0; k < n_ops; k++)
            if (op_list[k] == graph.at[i]->op) op_count[k]++;
}

#endif
