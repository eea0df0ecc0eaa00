/* reduce.c: sums, products and extremes along axes, by primitives that keep the reduced axes with size 1; the constructors drop
 * them.
 *
 * sum, any and all take any axes at once. max, min, prod and the two arg operators take one axis, because their derivatives and
 * ties need an order of the elements: several axes are first made one, in row-major order. */
#include <math.h>
#include <stdio.h>

#include "reduce.h"

/* ------------------------------------------------------------------------------------------------------------- what all share */

static bool refuse_type(nb_context *nb, const char *user, nb_dtype dtype, const char *takes) {
    nb_fail(nb, NB_INVALID, "%s: takes %s, got %s; convert with nb_cast", user, takes, nb_dtype_name(dtype));
    return false;
}

static bool check_numbers(nb_context *nb, const char *user, nb_dtype dtype) {
    return dtype != NB_BOOL || refuse_type(nb, user, dtype, "f32, f64, i32, i64 and u8");
}

bool nb__check_reals(nb_context *nb, const char *user, nb_dtype dtype) {
    return nb__is_float(dtype) || refuse_type(nb, user, dtype, "f32 and f64");
}

nb_dims nb__keep_axes(nb_dims shape, nb_dims axes) {
    for (int i = 0; i < axes.rank; i++) shape.size[axes.size[i]] = 1;
    return shape;
}

nb_tensor *nb__drop_axes(nb_tensor *y, nb_dims axes) {
    nb_dims d = {0};
    for (int i = 0, k = 0; i < y->shape.rank; i++) {
        if (k < axes.rank && axes.size[k] == i)
            k++;
        else
            d.size[d.rank++] = y->shape.size[i];
    }
    return d.rank == y->shape.rank ? y : nb_reshape(y, d);
}

void nb__for_each(const nb_call *c, nb_dims axes, nb__one_element *one) {
    const nb_array *in = &c->in[0];
    nb_array        part = {.dtype = in->dtype, .rank = (int)axes.rank};
    int64_t         index[NB_MAX_RANK] = {0};
    for (int i = 0; i < c->out.rank; i++)
        if (c->out.shape[i] == 0) return;
    for (int i = 0; i < part.rank; i++) {
        part.shape[i] = in->shape[axes.size[i]];
        part.stride[i] = in->stride[axes.size[i]];
    }
    do {
        part.data = (char *)in->data + nb__offset(in, index) * (int64_t)nb_dtype_size(in->dtype);
        one(c, &part, nb__offset(&c->out, index));
    } while (nb__next_index(c->out.rank, c->out.shape, index));
}

nb_dims nb__axis_of(const void *attr) { return (nb_dims){.rank = 1, .size = {((const nb__axis_attr *)attr)->axis}}; }
bool    nb__holds_reals(const nb_array *a) { return a->dtype == NB_F32 || a->dtype == NB_F64; }

static bool has_elements(const nb_array *a) {
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] == 0) return false;
    return true;
}

double nb__reduce_flops(const nb_tensor *y) { return (double)nb_count(y->in[0]); }

void nb__axes_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axes=%s", nb__dims_text(((const nb__axes_attr *)attr)->axes).at);
}

void nb__axis_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axis=%lld", (long long)((const nb__axis_attr *)attr)->axis);
}

bool nb__take_axes(nb_tensor *x, const char *user, nb_dims axes, nb__axes_attr *attr) {
    if (nb__refuse(x->nb, x, 0, user)) return false;
    *attr = (nb__axes_attr){nb_dims_of((int)axes.rank, axes.size)};
    return nb__check_axes(x->nb, user, x->shape.rank, &attr->axes);
}

static nb_tensor *over_axes(const nb_op *op, nb_tensor *x, nb_dims axes, bool keepdim) {
    if (!x) return NULL;
    nb__axes_attr attr;
    if (!nb__take_axes(x, op->name, axes, &attr)) return nb_failed(x->nb);
    nb_tensor *y = nb_apply(x->nb, op, 1, &x, &attr);
    return keepdim ? y : nb__drop_axes(y, attr.axes);
}

/* ------------------------------------------------------------------------------------------------------------------------ sum */

static bool sum_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    if (!check_numbers(nb, "sum", in[0]->dtype)) return false;
    *out = (nb_type){in[0]->dtype, nb__keep_axes(in[0]->shape, ((const nb__axes_attr *)attr)->axes)};
    return true;
}

static void sum_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = nb_expand(dy, y->in[0]->shape);
}

static void sum_one(const nb_call *c, const nb_array *part, int64_t at) {
    int64_t  index[NB_MAX_RANK] = {0};
    double   sum = 0;
    uint64_t whole = 0;
    if (has_elements(part)) {
        do {
            if (nb__holds_reals(part))
                sum += nb__load(part, nb__offset(part, index));
            else
                whole += (uint64_t)nb__load_int(part, nb__offset(part, index));
        } while (nb__next_index(part->rank, part->shape, index));
    }
    if (nb__holds_reals(part))
        nb__store(&c->out, at, sum);
    else
        nb__store_wrapped(&c->out, at, (int64_t)whole);
}

static void sum_run(const nb_call *c) { nb__for_each(c, ((const nb__axes_attr *)c->attr)->axes, sum_one); }

nb_tensor *nb__axes_sample(nb_sampler *s, int i, double low, double high, bool empty, nb__reduction *reduce) {
    static const struct {
        nb_dims shape, axes;
    } c[] = {
        {{2, {3, 4}}, {1, {1}}},    {{2, {3, 4}}, {1, {0}}},    {{3, {2, 3, 2}}, {2, {0, 2}}},
        {{3, {2, 3, 2}}, {0, {0}}}, {{0, {0}}, {0, {0}}},       {{2, {1, 5}}, {1, {0}}},
        {{1, {17}}, {1, {-1}}},     {{3, {0, 2, 3}}, {1, {2}}}, {{2, {3, 0}}, {1, {1}}},
    };
    int n = (int)(sizeof c / sizeof *c) - !empty;
    if (i < n) return reduce(s->real(s, low, high, c[i].shape), c[i].axes, i & 1);
    if (i == n) return reduce(nb_transpose(s->real(s, low, high, nb_shape(2, 3)), 0, 1), nb_axes(1), false);
    if (i == n + 1) return reduce(nb_expand(s->real(s, low, high, nb_shape(3, 1)), nb_shape(3, 2)), nb_axes(0), true);
    return NULL;
}

static nb_tensor *sum_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i, -2, 2, true, nb_sum); }

const nb_op nb__op_sum = {
    .name = "sum",
    .formula = "y = \\sum_i x_i",
    .gradient = "dx_i = dy",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axes_attr),
    .infer = sum_infer,
    .derivative = sum_derivative,
    .run = sum_run,
    .flops = nb__reduce_flops,
    .sample = sum_sample,
    .describe = nb__axes_describe,
};

nb_tensor *nb_sum(nb_tensor *x, nb_dims axes, bool keepdim) { return over_axes(&nb__op_sum, x, axes, keepdim); }

/* ---------------------------------------------------------------------------------------------------------------- any and all */

static bool logic_infer(nb_context *nb, nb_tensor *const *in, const nb_op *op, const void *attr, nb_type *out) {
    if (in[0]->dtype != NB_BOOL) return refuse_type(nb, op->name, in[0]->dtype, "bool");
    *out = (nb_type){NB_BOOL, nb__keep_axes(in[0]->shape, ((const nb__axes_attr *)attr)->axes)};
    return true;
}

static bool any_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return logic_infer(nb, in, &nb__op_any, attr, out);
}

static bool all_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return logic_infer(nb, in, &nb__op_all, attr, out);
}

static bool contains(const nb_array *part, bool value) {
    int64_t index[NB_MAX_RANK] = {0};
    if (!has_elements(part)) return false;
    do {
        if ((nb__load_int(part, nb__offset(part, index)) != 0) == value) return true;
    } while (nb__next_index(part->rank, part->shape, index));
    return false;
}

static void any_one(const nb_call *c, const nb_array *part, int64_t at) { nb__store_int(&c->out, at, contains(part, true)); }
static void all_one(const nb_call *c, const nb_array *part, int64_t at) { nb__store_int(&c->out, at, !contains(part, false)); }
static void any_run(const nb_call *c) { nb__for_each(c, ((const nb__axes_attr *)c->attr)->axes, any_one); }
static void all_run(const nb_call *c) { nb__for_each(c, ((const nb__axes_attr *)c->attr)->axes, all_one); }

static nb_tensor *logic_sample(nb_sampler *s, int i, nb__reduction *reduce) {
    nb_dims shape[] = {nb_shape(3, 4), nb_shape(5), nb_shape(0, 2), nb_shape()};
    if (i >= (int)(sizeof shape / sizeof *shape)) return NULL;
    return reduce(nb_greater(s->real(s, -1, 1, shape[i]), nb_number(s->nb, 0)), i ? nb_axes() : nb_axes(1), i & 1);
}

static nb_tensor *any_sample(nb_sampler *s, int i) { return logic_sample(s, i, nb_any); }
static nb_tensor *all_sample(nb_sampler *s, int i) { return logic_sample(s, i, nb_all); }

const nb_op nb__op_any = {
    .name = "any",
    .formula = "y = x_1 \\lor x_2 \\lor \\ldots",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axes_attr),
    .infer = any_infer,
    .run = any_run,
    .flops = nb__reduce_flops,
    .sample = any_sample,
    .describe = nb__axes_describe,
};

const nb_op nb__op_all = {
    .name = "all",
    .formula = "y = x_1 \\land x_2 \\land \\ldots",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axes_attr),
    .infer = all_infer,
    .run = all_run,
    .flops = nb__reduce_flops,
    .sample = all_sample,
    .describe = nb__axes_describe,
};

nb_tensor *nb_any(nb_tensor *x, nb_dims axes, bool keepdim) { return over_axes(&nb__op_any, x, axes, keepdim); }
nb_tensor *nb_all(nb_tensor *x, nb_dims axes, bool keepdim) { return over_axes(&nb__op_all, x, axes, keepdim); }

/* ------------------------------------------------------------------------------------------------ reductions of a single axis */

/* x with the axes as its last one, their elements in row-major order. */
static nb_tensor *merge_axes(nb_tensor *x, nb_dims axes) {
    nb_dims order = {.rank = x->shape.rank}, shape = {0};
    int64_t count = 1;
    int     n = 0;
    for (int i = 0, k = 0; i < x->shape.rank; i++) {
        if (k < axes.rank && axes.size[k] == i) {
            count *= x->shape.size[i];
            k++;
        } else {
            order.size[n++] = i;
            shape.size[shape.rank++] = x->shape.size[i];
        }
    }
    for (int k = 0; k < axes.rank; k++) order.size[n++] = axes.size[k];
    shape.size[shape.rank++] = count;
    bool in_order = true;
    for (int i = 0; i < order.rank; i++) in_order &= order.size[i] == i;
    return nb_reshape(in_order ? x : nb_permute(x, order), shape);
}

nb_tensor *nb__over_axis(const nb_op *op, nb_tensor *x, nb_dims axes, bool keepdim) {
    if (!x) return NULL;
    nb__axes_attr a;
    if (!nb__take_axes(x, op->name, axes, &a)) return nb_failed(x->nb);
    nb_dims    shape = nb__keep_axes(x->shape, a.axes);
    bool       one = a.axes.rank == 1;
    nb_tensor *merged = one ? x : merge_axes(x, a.axes);
    if (merged->is_failed) return merged;
    nb__axis_attr attr = {one ? a.axes.size[0] : merged->shape.rank - 1};
    nb_tensor    *y = nb_apply(x->nb, op, 1, &merged, &attr);
    if (y->is_failed) return y;
    if (!nb__dims_equal(y->shape, shape)) y = nb_reshape(y, shape);
    return keepdim ? y : nb__drop_axes(y, a.axes);
}

bool nb__axis_infer(nb_context *nb, nb_tensor *const *in, const nb_op *op, const void *attr, bool empty, nb_dtype dtype,
                    nb_type *out) {
    nb_dims axis = nb__axis_of(attr), x = in[0]->shape;
    if (!check_numbers(nb, op->name, in[0]->dtype) || !nb__check_axis(nb, op->name, x.rank, &axis.size[0])) return false;
    if (!empty && x.size[axis.size[0]] == 0) {
        nb_fail(nb, NB_INVALID, "%s: %s has no elements along axis %lld, and of none there is no %s", op->name,
                nb__dims_text(x).at, (long long)axis.size[0], op->name);
        return false;
    }
    *out = (nb_type){dtype, nb__keep_axes(x, axis)};
    return true;
}

/* The place of the first largest (sign 1) or smallest (sign -1) element; a NaN comes before all else. */
static int64_t extreme(const nb_array *part, int sign) {
    int64_t best = 0, n = part->shape[0], step = part->stride[0];
    for (int64_t i = 1; i < n; i++) {
        if (nb__holds_reals(part)) {
            double x = nb__load(part, i * step), y = nb__load(part, best * step);
            if (isnan(y)) break;
            if (isnan(x) || (sign > 0 ? x > y : x < y)) best = i;
        } else {
            int64_t x = nb__load_int(part, i * step), y = nb__load_int(part, best * step);
            if (sign > 0 ? x > y : x < y) best = i;
        }
    }
    return best;
}

static void copy_one(const nb_call *c, const nb_array *part, int64_t at, int64_t place) {
    if (nb__holds_reals(part))
        nb__store(&c->out, at, nb__load(part, place * part->stride[0]));
    else
        nb__store_int(&c->out, at, nb__load_int(part, place * part->stride[0]));
}

static void max_one(const nb_call *c, const nb_array *part, int64_t at) { copy_one(c, part, at, extreme(part, 1)); }
static void min_one(const nb_call *c, const nb_array *part, int64_t at) { copy_one(c, part, at, extreme(part, -1)); }
static void argmax_one(const nb_call *c, const nb_array *part, int64_t at) { nb__store_int(&c->out, at, extreme(part, 1)); }
static void argmin_one(const nb_call *c, const nb_array *part, int64_t at) { nb__store_int(&c->out, at, extreme(part, -1)); }
static void max_run(const nb_call *c) { nb__for_each(c, nb__axis_of(c->attr), max_one); }
static void min_run(const nb_call *c) { nb__for_each(c, nb__axis_of(c->attr), min_one); }
static void argmax_run(const nb_call *c) { nb__for_each(c, nb__axis_of(c->attr), argmax_one); }
static void argmin_run(const nb_call *c) { nb__for_each(c, nb__axis_of(c->attr), argmin_one); }

static bool max_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return nb__axis_infer(nb, in, &nb__op_max, attr, false, in[0]->dtype, out);
}

static bool min_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return nb__axis_infer(nb, in, &nb__op_min, attr, false, in[0]->dtype, out);
}

static bool argmax_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return nb__axis_infer(nb, in, &nb__op_argmax, attr, false, NB_I64, out);
}

static bool argmin_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return nb__axis_infer(nb, in, &nb__op_argmin, attr, false, NB_I64, out);
}

/* dy goes to the place of the extreme, the rest is zero. */
static nb_tensor *to_place(nb_tensor *y, nb_tensor *dy, nb_tensor *(*place)(nb_tensor *x, int axis, bool keepdim)) {
    int axis = (int)((const nb__axis_attr *)y->attr)->axis;
    return nb_scatter_add(nb__zeros_for(y->in[0]), axis, place(y->in[0], axis, true), dy);
}

static void max_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = to_place(y, dy, nb_argmax);
}

static void min_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = to_place(y, dy, nb_argmin);
}

static nb_tensor *max_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i, -2, 2, false, nb_max); }
static nb_tensor *min_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i, -2, 2, false, nb_min); }

static nb_tensor *place_sample(nb_sampler *s, int i, nb_tensor *(*place)(nb_tensor *x, int axis, bool keepdim)) {
    switch (i) {
    case 0: return place(s->real(s, -2, 2, nb_shape(3, 4)), 1, false);
    case 1: return place(s->real(s, -2, 2, nb_shape(3, 4)), 0, true);
    case 2: return place(s->integer(s, NB_I32, 0, 3, nb_shape(2, 17)), -1, false); /* ties */
    case 3: return place(s->real(s, -2, 2, nb_shape(0, 4)), 1, false);
    default: return NULL;
    }
}

static nb_tensor *argmax_sample(nb_sampler *s, int i) { return place_sample(s, i, nb_argmax); }
static nb_tensor *argmin_sample(nb_sampler *s, int i) { return place_sample(s, i, nb_argmin); }

const nb_op nb__op_max = {
    .name = "max",
    .formula = "y = \\max_i x_i",
    .gradient = "dx_i = dy \\text{ for the first } i \\text{ with } x_i = y,\\quad 0 \\text{ else}",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = max_infer,
    .derivative = max_derivative,
    .run = max_run,
    .flops = nb__reduce_flops,
    .sample = max_sample,
    .describe = nb__axis_describe,
};

const nb_op nb__op_min = {
    .name = "min",
    .formula = "y = \\min_i x_i",
    .gradient = "dx_i = dy \\text{ for the first } i \\text{ with } x_i = y,\\quad 0 \\text{ else}",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = min_infer,
    .derivative = min_derivative,
    .run = min_run,
    .flops = nb__reduce_flops,
    .sample = min_sample,
    .describe = nb__axis_describe,
};

const nb_op nb__op_argmax = {
    .name = "argmax",
    .formula = "y = \\min \\{ i : x_i = \\max_j x_j \\}",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = argmax_infer,
    .run = argmax_run,
    .flops = nb__reduce_flops,
    .sample = argmax_sample,
    .describe = nb__axis_describe,
};

const nb_op nb__op_argmin = {
    .name = "argmin",
    .formula = "y = \\min \\{ i : x_i = \\min_j x_j \\}",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = argmin_infer,
    .run = argmin_run,
    .flops = nb__reduce_flops,
    .sample = argmin_sample,
    .describe = nb__axis_describe,
};

nb_tensor *nb_max(nb_tensor *x, nb_dims axes, bool keepdim) { return nb__over_axis(&nb__op_max, x, axes, keepdim); }
nb_tensor *nb_min(nb_tensor *x, nb_dims axes, bool keepdim) { return nb__over_axis(&nb__op_min, x, axes, keepdim); }

static nb_tensor *place_of(const nb_op *op, nb_tensor *x, int axis, bool keepdim) {
    if (!x) return NULL;
    int64_t k = axis;
    if (nb__refuse(x->nb, x, 0, op->name) || !nb__check_axis(x->nb, op->name, x->shape.rank, &k)) return nb_failed(x->nb);
    return nb__over_axis(op, x, nb_axes(k), keepdim);
}

nb_tensor *nb_argmax(nb_tensor *x, int axis, bool keepdim) { return place_of(&nb__op_argmax, x, axis, keepdim); }
nb_tensor *nb_argmin(nb_tensor *x, int axis, bool keepdim) { return place_of(&nb__op_argmin, x, axis, keepdim); }
