/* sampler.c: see sampler.h. A sample is called twice: once with operands of zeros, to learn what it asks for, and then with views
 * of leaves that were made accordingly. */
#include <string.h>

#include "sampler.h"

/* One call of a sample. */
typedef struct draw {
    nb_sampler        sampler;
    nb__case         *c;
    nb_tensor *const *leaves; /* NULL: the first call, which only describes */
    int               calls, integers;
} draw;

const char *nb__variant_name(nb__variant v) {
    static const char *const name[] = {"plain", "strided", "flipped", "transposed", "broadcast", "size 1", "size 0", "twice"};
    return (unsigned)v < NB__VARIANTS ? name[v] : "";
}

static uint64_t seed_of(const nb__case *c, int number) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *s = c->op->name; *s; s++) h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return h + (uint64_t)c->sample * 1000 + (uint64_t)number;
}

/* Where elementwise operators get other sizes than the sample says. The last axis is one that all operands share. */
static nb_dims resize(const nb__case *c, nb_dims shape, int call) {
    if (c->op->kind != NB_ELEMENTWISE) return shape;
    if (c->forced.rank >= 0) return c->forced;
    if (c->variant == NB__SIZE_ONE && call % 2 == 0)
        for (int i = 0; i < shape.rank; i++) shape.size[i] = 1;
    if (c->variant == NB__SIZE_ZERO && shape.rank > 0 && shape.size[shape.rank - 1] != 1) shape.size[shape.rank - 1] = 0;
    return shape;
}

static bool same(nb_dims a, nb_dims b) {
    return a.rank == b.rank && memcmp(a.size, b.size, (size_t)a.rank * sizeof *a.size) == 0;
}

static int wide_axis(nb_dims shape) {
    for (int i = 0; i < shape.rank; i++)
        if (shape.size[i] > 1) return i;
    return -1;
}

/* The shape of a leaf of which an operand of this shape is a view. */
static nb_dims leaf_shape(nb__variant variant, nb_dims shape) {
    nb_dims leaf = shape;
    if (variant == NB__STRIDED)
        for (int i = 0; i < shape.rank; i++) leaf.size[i] = 2 * shape.size[i] + 1;
    if (variant == NB__TRANSPOSED)
        for (int i = 0; i < shape.rank; i++) leaf.size[i] = shape.size[shape.rank - 1 - i];
    if (variant == NB__BROADCAST && wide_axis(shape) >= 0) leaf.size[wide_axis(shape)] = 1;
    return leaf;
}

static nb_tensor *view(nb__variant variant, nb_tensor *leaf, nb_dims shape) {
    nb_dims axes = {.rank = shape.rank};
    switch (variant) {
    case NB__STRIDED:
        for (int i = 0; i < shape.rank; i++) leaf = nb_slice(leaf, i, 1, NB_END, 2);
        return leaf;
    case NB__FLIPPED:
        for (int i = 0; i < shape.rank; i++) axes.size[i] = i;
        return nb_flip(leaf, axes);
    case NB__TRANSPOSED:
        for (int i = 0; i < shape.rank; i++) axes.size[i] = shape.rank - 1 - i;
        return nb_permute(leaf, axes);
    case NB__BROADCAST: return wide_axis(shape) >= 0 ? nb_expand(leaf, shape) : leaf;
    default: return leaf;
    }
}

static bool layout_applies(nb__variant variant, nb_dims shape) {
    int wide = wide_axis(shape);
    if (variant == NB__TRANSPOSED) return shape.rank > 1;
    return wide >= 0 && (variant == NB__STRIDED || variant == NB__FLIPPED || variant == NB__BROADCAST);
}

/* An earlier leaf of the same shape whose range meets this one: the same tensor then serves for both. */
static int twin(nb__case *c, nb_dims shape, double low, double high) {
    for (int i = 0; i < c->n && c->variant == NB__TWICE; i++) {
        double l = low > c->low[i] ? low : c->low[i], h = high < c->high[i] ? high : c->high[i];
        if (!same(shape, c->shape[i]) || h - l < 0.1) continue;
        c->low[i] = l;
        c->high[i] = h;
        c->applies = true;
        return i;
    }
    return -1;
}

static nb_tensor *real(nb_sampler *s, double low, double high, nb_dims wanted) {
    draw     *d = s->user;
    nb__case *c = d->c;
    nb_dims   shape = resize(c, wanted, d->calls);
    int       call = d->calls++;
    if (call >= NB__MAX_LEAVES)
        return nb_fail(s->nb, NB_INVALID, "a sample of %s has more than %d operands", c->op->name, (int)NB__MAX_LEAVES);
    if (d->leaves) return view(c->variant, d->leaves[c->leaf_of[call]], shape);
    if (!same(shape, wanted) || layout_applies(c->variant, shape)) c->applies = true;
    int leaf = twin(c, shape, low, high);
    if (leaf < 0) {
        leaf = c->n++;
        c->shape[leaf] = leaf_shape(c->variant, shape);
        c->low[leaf] = low;
        c->high[leaf] = high;
    }
    c->leaf_of[call] = leaf;
    c->calls = d->calls;
    return nb_full(s->nb, c->dtype, shape, (low + high) / 2);
}

static nb_tensor *integer(nb_sampler *s, nb_dtype dtype, int64_t low, int64_t high, nb_dims wanted) {
    draw    *d = s->user;
    nb_dims  shape = resize(d->c, wanted, 1), leaf = leaf_shape(d->c->variant, shape);
    uint64_t seed = seed_of(d->c, 100 + d->integers++);
    int64_t  n = 1;
    for (int i = 0; i < leaf.rank; i++) n *= leaf.size[i];
    double *value = nb_alloc(s->nb, (size_t)(n + 1) * sizeof *value);
    if (!value) return nb_failed(s->nb);
    for (int64_t i = 0; i < n; i++) value[i] = (double)(low + (int64_t)((double)(high - low) * nb__random_real(&seed)));
    nb_tensor *t = nb_cast(nb_from(s->nb, NB_F64, leaf, value), dtype);
    nb_free(s->nb, value);
    return view(d->c->variant, t, shape);
}

static nb_tensor *call(nb_context *nb, nb__case *c, nb_tensor *const *leaves) {
    draw d = {.sampler = {nb, real, integer, NULL}, .c = c, .leaves = leaves};
    d.sampler.user = &d;
    return c->op->sample(&d.sampler, c->sample);
}

nb__case nb__case_sized(nb_context *nb, const nb_op *op, int sample, nb__variant variant, nb_dtype dtype, nb_dims shape) {
    nb__case c = {.op = op, .sample = sample, .variant = variant, .dtype = dtype, .forced = shape};
    /* Rows of the same operand would tie everywhere, where a standard deviation of 0 has no derivative. */
    bool excluded = variant == NB__BROADCAST && strcmp(op->name, "std") == 0;
    if (!op->sample) return c;
    c.exists = call(nb, &c, NULL) != NULL;
    if (variant == NB__PLAIN) c.applies = true;
    if (excluded) c.applies = false;
    return c;
}

nb__case nb__case_describe(nb_context *nb, const nb_op *op, int sample, nb__variant variant, nb_dtype dtype) {
    return nb__case_sized(nb, op, sample, variant, dtype, (nb_dims){.rank = -1});
}

nb_tensor *nb__case_build(nb_context *nb, const nb__case *c, nb_tensor *const *leaves) {
    nb__case copy = *c;
    return call(nb, &copy, leaves);
}

void nb__case_fill(const nb__case *c, int leaf, double *data) {
    uint64_t seed = seed_of(c, leaf);
    int64_t  n = 1;
    for (int i = 0; i < c->shape[leaf].rank; i++) n *= c->shape[leaf].size[i];
    for (int64_t i = 0; i < n; i++) data[i] = c->low[leaf] + (c->high[leaf] - c->low[leaf]) * nb__random_real(&seed);
}
