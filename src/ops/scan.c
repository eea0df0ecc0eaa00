/* scan.c: prod, whose derivative needs the products of all elements but one, and cumsum. */
#include "reduce.h"

/* ----------------------------------------------------------------------------------------------------------------------- prod */

static bool prod_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return nb__axis_infer(nb, in, &nb__op_prod, attr, true, in[0]->dtype, out);
}

/* x moved d places along an axis, up or down; ones come in. 0 < d < n. */
static nb_tensor *shift(nb_tensor *x, int axis, int64_t d, bool up) {
    int64_t n = x->shape.size[axis];
    nb_dims before = {.rank = x->shape.rank}, after = before;
    if (up)
        before.size[axis] = d;
    else
        after.size[axis] = d;
    return nb_pad(nb_slice(x, axis, up ? 0 : d, up ? n - d : n, 1), before, after, 1);
}

/* Element i: the product of all elements before i (up), or behind it. In log2 n rounds, each doubling how far an element has
 * looked (Hillis & Steele, Data Parallel Algorithms, 1986). */
static nb_tensor *exclusive_products(nb_tensor *x, int axis, bool up) {
    nb_tensor *y = shift(x, axis, 1, up);
    for (int64_t d = 1, n = x->shape.size[axis]; d < n; d *= 2) y = nb_mul(y, shift(y, axis, d, up));
    return y;
}

/* Without a division, so that zeros do no harm, now or in the second derivative. */
static void prod_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    nb_tensor *x = y->in[0];
    int        axis = (int)((const nb__axis_attr *)y->attr)->axis;
    if (x->shape.size[axis] < 2)
        dx[0] = nb_expand(dy, x->shape);
    else
        dx[0] = nb_mul(dy, nb_mul(exclusive_products(x, axis, true), exclusive_products(x, axis, false)));
}

static void prod_one(const nb_call *c, const nb_array *part, int64_t at) {
    double   product = 1;
    uint64_t whole = 1;
    for (int64_t i = 0; i < part->shape[0]; i++) {
        if (nb__holds_reals(part))
            product *= nb__load(part, i * part->stride[0]);
        else
            whole *= (uint64_t)nb__load_int(part, i * part->stride[0]);
    }
    if (nb__holds_reals(part))
        nb__store(&c->out, at, product);
    else
        nb__store_wrapped(&c->out, at, (int64_t)whole);
}

static void prod_run(const nb_call *c) { nb__for_each(c, nb__axis_of(c->attr), prod_one); }

static nb_tensor *prod_sample(nb_sampler *s, int i) {
    nb_tensor *x = s->real(s, -2, 2, nb_shape(2, 3));
    nb_tensor *zero = nb_zeros_like(x);
    switch (i) {
    case 0: return nb_prod(nb_concat(nb_list_of(s->nb, x, zero), 1), nb_axes(1), false); /* several factors are 0 */
    case 1: return nb_prod(nb_concat(nb_list_of(s->nb, x, nb_slice(zero, 1, 0, 1, 1)), 1), nb_axes(1), true); /* one is */
    default: return nb__axes_sample(s, i - 2, -2, 2, true, nb_prod);
    }
}

const nb_op nb__op_prod = {
    .name = "prod",
    .formula = "y = \\prod_i x_i",
    .gradient = "dx_i = dy \\prod_{j \\ne i} x_j",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = prod_infer,
    .derivative = prod_derivative,
    .run = prod_run,
    .flops = nb__reduce_flops,
    .sample = prod_sample,
    .describe = nb__axis_describe,
};

nb_tensor *nb_prod(nb_tensor *x, nb_dims axes, bool keepdim) { return nb__over_axis(&nb__op_prod, x, axes, keepdim); }

/* --------------------------------------------------------------------------------------------------------------------- cumsum */

static bool cumsum_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    if (!nb__axis_infer(nb, in, &nb__op_cumsum, attr, true, in[0]->dtype, out)) return false;
    out->shape = in[0]->shape;
    return true;
}

static void cumsum_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    int64_t axis = ((const nb__axis_attr *)y->attr)->axis;
    dx[0] = nb_flip(nb_cumsum(nb_flip(dy, nb_axes(axis)), (int)axis), nb_axes(axis));
}

static void cumsum_one(const nb_call *c, const nb_array *part, int64_t at) {
    int64_t  step = c->out.stride[((const nb__axis_attr *)c->attr)->axis];
    double   sum = 0;
    uint64_t whole = 0;
    for (int64_t i = 0; i < part->shape[0]; i++) {
        if (nb__holds_reals(part))
            nb__store(&c->out, at + i * step, sum += nb__load(part, i * part->stride[0]));
        else
            nb__store_wrapped(&c->out, at + i * step, (int64_t)(whole += (uint64_t)nb__load_int(part, i * part->stride[0])));
    }
}

static void cumsum_run(const nb_call *c) {
    nb_call starts = *c; /* the result's elements with index 0 along the axis */
    starts.out.shape[((const nb__axis_attr *)c->attr)->axis] = 1;
    nb__for_each(&starts, nb__axis_of(c->attr), cumsum_one);
}

static nb_tensor *cumsum_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_cumsum(s->real(s, -2, 2, nb_shape(3, 4)), 1);
    case 1: return nb_cumsum(s->real(s, -2, 2, nb_shape(3, 4)), 0);
    case 2: return nb_cumsum(s->real(s, -2, 2, nb_shape(17)), -1);
    case 3: return nb_cumsum(s->real(s, -2, 2, nb_shape(2, 0)), 1);
    case 4: return nb_cumsum(nb_transpose(s->real(s, -2, 2, nb_shape(2, 1, 3)), 0, 2), 0);
    default: return NULL;
    }
}

const nb_op nb__op_cumsum = {
    .name = "cumsum",
    .formula = "y_i = \\sum_{j \\le i} x_j",
    .gradient = "dx_i = \\sum_{j \\ge i} dy_j",
    .kind = NB_OPAQUE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = cumsum_infer,
    .derivative = cumsum_derivative,
    .run = cumsum_run,
    .sample = cumsum_sample,
    .describe = nb__axis_describe,
};

nb_tensor *nb_cumsum(nb_tensor *x, int axis) {
    if (!x) return NULL;
    nb__axis_attr attr = {axis};
    if (nb__refuse(x->nb, x, 0, "cumsum") || !nb__check_axis(x->nb, "cumsum", x->shape.rank, &attr.axis)) return nb_failed(x->nb);
    return nb_apply(x->nb, &nb__op_cumsum, 1, &x, &attr);
}
