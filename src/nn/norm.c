/* norm.c: batch and layer normalisation.
 *
 * Both are compositions with derivatives of their own: the textbook formulas need two sums, the chain rule step by step more.
 * They are made of operators, so that second derivatives come by themselves. */
#include "nn.h"

typedef struct norm_layer {
    nb_layer layer;
    double   eps, momentum;
    bool     plain;
    nb_dims  shape; /* layer norm */
} norm_layer;

static nb_tensor *plus(nb_tensor *x, double value) { return nb_add(x, nb_number(nb_context_of(x), value)); }
static nb_tensor *times(nb_tensor *x, double value) { return nb_mul(x, nb_number(nb_context_of(x), value)); }

static nb_layer *new_norm(nb_context *nb, const nb__layer_kind *kind, int n_slots, const nb_norm_options *options) {
    nb_norm_options o = options ? *options : (nb_norm_options){0};
    nb_layer       *l = nb__layer_begin(nb, kind, n_slots, 0);
    if (!l) return NULL;
    norm_layer *n = (norm_layer *)l;
    n->eps = nb__or(o.eps, 1e-5);
    n->momentum = nb__or(o.momentum, 0.1);
    n->plain = o.plain;
    if (!(n->eps >= 0) || !(n->momentum >= 0 && n->momentum <= 1))
        nb_fail(nb, NB_INVALID, "%s: eps must not be negative and momentum must be in [0,1], got %g and %g", kind->type, n->eps,
                n->momentum);
    return l;
}

/* ----------------------------------------------------------------------------------------------------------------- batch norm */

static const nb_op batch_norm_op = {
    .name = "batch_norm",
    .formula = "y = \\gamma \\hat x + \\beta,\\ \\hat x = (x - \\mu) / \\sqrt{\\sigma^2 + \\epsilon}",
    .gradient = "dx = \\gamma / \\sqrt{\\sigma^2 + \\epsilon}\\ (dy - \\overline{dy} - \\hat x\\, \\overline{dy\\, \\hat x})",
    .kind = NB_COMPOSITION};

/* All axes of x but 1. */
static nb_dims batch_axes(const nb_tensor *x) {
    nb_dims axes = {.rank = 0};
    for (int i = 0; i < nb_rank(x); i++)
        if (i != 1) axes.size[axes.rank++] = i;
    return axes;
}

/* v [C] beside x: [1, C, 1, ...] */
static nb_tensor *by_channel(nb_tensor *v, const nb_tensor *x) {
    nb_dims s = nb_shape_of(x);
    for (int i = 0; i < s.rank; i++)
        if (i != 1) s.size[i] = 1;
    return nb_reshape(v, s);
}

/* xs: x, gamma, beta; then x - mean and 1/std, which are functions of x.
 *     db = sum dy     dg = sum dy xhat     dx = gamma/std (dy - db/n - xhat dg/n) */
static void batch_norm_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)user;
    nb_tensor *x = xs.at[0], *gamma = xs.at[1], *inverse = xs.at[4];
    nb_tensor *xhat = nb_mul(xs.at[3], inverse);
    nb_dims    axes = batch_axes(x);
    double     n = (double)nb_count(y) / (double)nb_count(gamma);
    nb_tensor *db = nb_sum(dy, axes, true), *dg = nb_sum(nb_mul(dy, xhat), axes, true);
    nb_tensor *inner = nb_sub(nb_sub(dy, times(db, 1 / n)), nb_mul(xhat, times(dg, 1 / n)));
    dx[0] = nb_mul(nb_mul(gamma, inverse), inner);
    dx[1] = dg;
    dx[2] = db;
}

static nb_tensor *batch_norm_train(norm_layer *l, nb_tensor *x, nb_tensor *gamma, nb_tensor *beta, nb_tensor *mean,
                                   nb_tensor *var) {
    nb_context *nb = l->layer.nb;
    nb_dims     axes = batch_axes(x), features = nb_shape_of(mean);
    double      n = (double)nb_count(x) / (double)nb_count(mean);
    if (n <= 1) return nb_fail(nb, NB_INVALID, "batch_norm: one value a channel has no variance: train with more than one item");
    nb_tensor *m = nb_mean(x, axes, true), *centred = nb_sub(x, m);
    nb_tensor *v = nb_mean(nb_square(centred), axes, true), *inverse = nb_rsqrt(plus(v, l->eps));
    nb_tensor *y = nb_add(nb_mul(centred, nb_mul(inverse, gamma)), beta);
    y = nb_with_derivative(y, nb_list_of(nb, x, gamma, beta, centred, inverse), batch_norm_derivative, NULL);
    nb_tensor *batch_mean = nb_reshape(m, features), *batch_var = times(nb_reshape(v, features), n / (n - 1));
    nb_tensor *new_mean = nb_add(mean, times(nb_sub(batch_mean, mean), l->momentum));
    nb_tensor *new_var = nb_add(var, times(nb_sub(batch_var, var), l->momentum));
    return nb_with_update(nb_with_update(y, nb_assign(mean, new_mean)), nb_assign(var, new_var));
}

static nb_tensor *batch_norm_apply(nb_layer *layer, nb_tensor *x, nb_mode mode) {
    norm_layer *l = (norm_layer *)layer;
    nb_context *nb = layer->nb;
    nb_tensor  *mean = layer->slots[layer->n_slots - 2].tensor, *var = layer->slots[layer->n_slots - 1].tensor;
    if (nb_rank(x) < 2 || nb_size(x, 1) != nb_count(mean))
        return nb_fail(nb, NB_INVALID, "batch_norm: takes [N,%lld,...], got %lld features along axis 1: make it for that many",
                       (long long)nb_count(mean), (long long)(nb_rank(x) < 2 ? 0 : nb_size(x, 1)));
    nb_group_push(nb, &batch_norm_op);
    nb_dims    features = nb_shape_of(mean);
    nb_tensor *gamma = by_channel(l->plain ? nb_ones(nb, nb_dtype_of(mean), features) : layer->slots[0].tensor, x);
    nb_tensor *beta = by_channel(l->plain ? nb_zeros(nb, nb_dtype_of(mean), features) : layer->slots[1].tensor, x);
    nb_tensor *y;
    if (mode == NB_TRAIN && !layer->frozen) {
        y = batch_norm_train(l, x, gamma, beta, mean, var);
    } else {
        nb_tensor *scale = nb_mul(gamma, nb_rsqrt(plus(by_channel(var, x), l->eps)));
        y = nb_add(nb_mul(nb_sub(x, by_channel(mean, x)), scale), beta);
    }
    nb_group_pop(nb);
    return y;
}

static const nb__layer_kind batch_norm = {"batch_norm", sizeof(norm_layer), batch_norm_apply, NULL};

nb_layer *nb_layer_batch_norm(nb_context *nb, int64_t features, const nb_norm_options *options) {
    nb_layer *l = new_norm(nb, &batch_norm, 4, options);
    if (l && !((norm_layer *)l)->plain) {
        nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(features), 1);
        nb__layer_slot(l, "bias", NB__WEIGHT, nb_shape(features), 0);
    }
    nb__layer_slot(l, "running_mean", NB__BUFFER, nb_shape(features), 0);
    nb__layer_slot(l, "running_var", NB__BUFFER, nb_shape(features), 1);
    return nb__layer_end(l);
}

static double none_if_zero(double value) { return value == 0 ? NB_NONE : value; }

nb_layer *nb__read_batchnorm(nb__reader *r) {
    nb_norm_options o = {.eps = none_if_zero(nb__option_real(r, "eps", 1e-5, 0, 1e3)),
                         .momentum = none_if_zero(nb__option_real(r, "momentum", 0.1, 0, 1)),
                         .plain = !nb__option_flag(r, "affine", true)};
    if (!nb__read_rank(r, 1, NB_MAX_RANK - 1, "it needs features") || !nb__read_channels(r)) return NULL;
    return nb_layer_batch_norm(r->nb, r->shape.size[0], &o);
}

/* ----------------------------------------------------------------------------------------------------------------- layer norm */

static const nb_op layer_norm_op = {
    .name = "layer_norm",
    .formula = "y = \\gamma \\hat x + \\beta,\\ \\hat x = (x - \\mu) / \\sqrt{\\sigma^2 + \\epsilon}",
    .gradient =
        "d\\hat x = \\gamma dy,\\ "
        "dx = (d\\hat x - \\overline{d\\hat x} - \\hat x\\, \\overline{d\\hat x\\, \\hat x}) / \\sqrt{\\sigma^2 + \\epsilon}",
    .kind = NB_COMPOSITION};

/* xs: x; then 1/std, a function of x. y is xhat. Where 1/std has size 1, there was a mean (or the axis has one place only). */
static void normalise_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)user;
    nb_tensor *inverse = xs.at[1];
    nb_dims    axes = {.rank = 0};
    for (int i = 0; i < nb_rank(y); i++)
        if (nb_size(inverse, i) == 1) axes.size[axes.rank++] = i;
    nb_tensor *inner = nb_sub(nb_sub(dy, nb_mean(dy, axes, true)), nb_mul(y, nb_mean(nb_mul(dy, y), axes, true)));
    dx[0] = nb_mul(inner, inverse);
}

static nb_tensor *layer_norm_apply(nb_layer *layer, nb_tensor *x, nb_mode mode) {
    (void)mode;
    norm_layer *l = (norm_layer *)layer;
    nb_context *nb = layer->nb;
    int         rank = nb_rank(x), n = (int)l->shape.rank;
    nb_dims     axes = {.rank = 0};
    bool        fits = rank >= n;
    for (int i = 0; i < n && fits; i++) {
        axes.size[axes.rank++] = rank - n + i;
        fits = nb_size(x, rank - n + i) == l->shape.size[i];
    }
    if (!fits) {
        char want[128], got[128];
        return nb_fail(nb, NB_INVALID, "layer_norm: normalises the last axes %s, got %s",
                       nb__shape_text(l->shape, want, sizeof want), nb__shape_text(nb_shape_of(x), got, sizeof got));
    }
    nb_group_push(nb, &layer_norm_op);
    nb_tensor *centred = nb_sub(x, nb_mean(x, axes, true));
    nb_tensor *inverse = nb_rsqrt(plus(nb_mean(nb_square(centred), axes, true), l->eps));
    nb_tensor *y = nb_with_derivative(nb_mul(centred, inverse), nb_list_of(nb, x, inverse), normalise_derivative, NULL);
    if (!l->plain) y = nb_add(nb_mul(y, layer->slots[0].tensor), layer->slots[1].tensor);
    nb_group_pop(nb);
    return y;
}

static const nb__layer_kind layer_norm = {"layer_norm", sizeof(norm_layer), layer_norm_apply, NULL};

nb_layer *nb_layer_layer_norm(nb_context *nb, nb_dims shape, const nb_norm_options *options) {
    nb_layer *l = new_norm(nb, &layer_norm, 2, options);
    if (l && shape.rank < 1) nb_fail(nb, NB_INVALID, "layer_norm: needs the sizes of one axis or more");
    if (l) ((norm_layer *)l)->shape = shape;
    if (l && !((norm_layer *)l)->plain) {
        nb__layer_slot(l, "weight", NB__WEIGHT, shape, 1);
        nb__layer_slot(l, "bias", NB__WEIGHT, shape, 0);
    }
    return nb__layer_end(l);
}

nb_layer *nb__read_layernorm(nb__reader *r) {
    nb_norm_options o = {.eps = none_if_zero(nb__option_real(r, "eps", 1e-5, 0, 1e3)),
                         .plain = !nb__option_flag(r, "affine", true)};
    nb_dims         last = {.rank = nb__option_size(r, "axes", r->shape.rank == 2 ? 1 : r->shape.rank)};
    if (!nb__read_rank(r, 1, NB_MAX_RANK - 1, "it needs features")) return NULL;
    if (last.rank > r->shape.rank) {
        nb__read_error(r, r->word, "axes is %lld, but an item has %lld", (long long)last.rank, (long long)r->shape.rank);
        return NULL;
    }
    for (int i = 0; i < last.rank; i++) last.size[i] = r->shape.size[r->shape.rank - last.rank + i];
    return nb_layer_layer_norm(r->nb, last, &o);
}
