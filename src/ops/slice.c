/* slice.c: parts of tensors. slice shows evenly spaced elements (a view); slice_grad, its adjoint, puts them back between zeros.
 * Each is the derivative of the other. */
#include <stdio.h>

#include "ops.h"

/* ---------------------------------------------------------------------------------------------------------------------- slice */

/* Whether the places that a slice names all lie in `shape`. */
static bool check_places(nb_context *nb, const char *user, const nb__slice_attr *a, nb_dims shape) {
    bool good = a->start.rank == shape.rank && a->step.rank == shape.rank && a->size.rank == shape.rank;
    for (int i = 0; good && i < shape.rank; i++) {
        int64_t first = a->start.size[i], step = a->step.size[i], size = a->size.size[i], n = shape.size[i];
        if (size == 0) continue;
        good = size > 0 && size <= n && first >= 0 && first < n && (size == 1 || (step > -n && step < n && step != 0));
        good = good && (size == 1 || (first + (size - 1) * step >= 0 && first + (size - 1) * step < n));
    }
    if (!good)
        nb_fail(nb, NB_INVALID, "%s: start %s, step %s, size %s reaches outside %s", user, nb__dims_text(a->start).at,
                nb__dims_text(a->step).at, nb__dims_text(a->size).at, nb__dims_text(shape).at);
    return good;
}

static bool slice_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const nb__slice_attr *a = attr;
    if (!check_places(nb, "slice", a, in[0]->shape)) return false;
    *out = (nb_type){in[0]->dtype, a->size};
    return true;
}

static void slice_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    nb__slice_grad_attr attr = {*(const nb__slice_attr *)y->attr, y->in[0]->shape};
    dx[0] = nb_apply(y->nb, &nb__op_slice_grad, 1, &dy, &attr);
}

static bool slice_view(const nb_array *in, const void *attr, nb_array *out, int64_t *offset) {
    const nb__slice_attr *a = attr;
    int64_t               at = 0, count = 1;
    for (int i = 0; i < out->rank; i++) {
        at += a->start.size[i] * in->stride[i];
        count *= a->size.size[i];
        out->stride[i] = in->stride[i] * a->step.size[i];
    }
    *offset = count ? at : 0; /* of nothing, stay inside */
    return true;
}

/* The part of a whole that a slice names. */
static nb_array part_of(const nb_array *whole, const nb__slice_attr *a) {
    nb_array part = *whole;
    int64_t  offset = 0;
    for (int i = 0; i < part.rank; i++) part.shape[i] = a->size.size[i];
    slice_view(whole, a, &part, &offset);
    part.data = (char *)whole->data + offset * (int64_t)nb_dtype_size(whole->dtype);
    return part;
}

static void slice_run(const nb_call *c) {
    nb_array part = part_of(&c->in[0], c->attr);
    nb__copy_elements(&c->out, &part);
}

static void slice_describe(const void *attr, char *text, size_t size) {
    const nb__slice_attr *a = attr;
    snprintf(text, size, "start=%s step=%s size=%s", nb__dims_text(a->start).at, nb__dims_text(a->step).at,
             nb__dims_text(a->size).at);
}

static nb_tensor *slice_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_slice(s->real(s, -2, 2, nb_shape(5, 3)), 0, 1, 4, 1);
    case 1: return nb_slice(s->real(s, -2, 2, nb_shape(2, 7)), -1, 1, NB_END, 3);
    case 2: return nb_slice(s->real(s, -2, 2, nb_shape(6)), 0, -1, NB_END, -2);
    case 3: return nb_slice(s->real(s, -2, 2, nb_shape(4, 2)), 0, 3, 1, 1);
    case 4: return nb_slice(s->real(s, -2, 2, nb_shape(3, 1, 2)), 1, 0, 1, 5);
    case 5: return nb_slice(nb_transpose(s->real(s, -2, 2, nb_shape(3, 5)), 0, 1), 0, -2, 0, -1);
    case 6: {
        nb_tensor *x = s->real(s, -2, 2, nb_shape(4));
        return nb_mul(nb_slice(x, 0, 0, 3, 1), nb_slice(x, 0, 1, 4, 1)); /* parts that overlap */
    }
    default: return NULL;
    }
}

const nb_op nb__op_slice = {
    .name = "slice",
    .formula = "y_i = x_{a + s i}",
    .gradient = "dx_{a + s i} = dy_i,\\quad 0 \\text{ elsewhere}",
    .kind = NB_VIEW,
    .arity = 1,
    .attr_size = sizeof(nb__slice_attr),
    .infer = slice_infer,
    .derivative = slice_derivative,
    .run = slice_run,
    .view = slice_view,
    .flops = nb__no_flops,
    .sample = slice_sample,
    .describe = slice_describe,
};

/* All of x: to be narrowed axis by axis. */
static nb__slice_attr whole(nb_dims shape) {
    nb__slice_attr a = {.start.rank = shape.rank, .step.rank = shape.rank, .size = nb_dims_of((int)shape.rank, shape.size)};
    for (int i = 0; i < shape.rank; i++) a.step.size[i] = 1;
    return a;
}

/* A position as Python reads it: from the end if negative, then into [low, high]. */
static int64_t clamp_position(int64_t at, int64_t n, int64_t low, int64_t high) {
    if (at < 0) at = at < -n ? -1 : at + n;
    return at < low ? low : at > high ? high : at;
}

nb_tensor *nb_slice(nb_tensor *x, int axis, int64_t start, int64_t stop, int64_t step) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    int64_t     k = axis, size = 0;
    if (nb__refuse(nb, x, 0, "slice") || !nb__check_axis(nb, "slice", x->shape.rank, &k)) return &nb->failed;
    if (step == 0) return nb_fail(nb, NB_INVALID, "slice: the step is 0");
    int64_t n = x->shape.size[k], low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    start = clamp_position(start, n, low, high);
    stop = stop != NB_END ? clamp_position(stop, n, low, high) : step > 0 ? n : -1;
    if (step > 0 && stop > start) size = (stop - start - 1) / step + 1;
    if (step < 0 && stop < start) size = (stop - start + 1) / step + 1;
    nb__slice_attr attr = whole(x->shape);
    attr.start.size[k] = size ? start : 0;
    attr.step.size[k] = size > 1 ? step : 1;
    attr.size.size[k] = size;
    return nb_apply(nb, &nb__op_slice, 1, &x, &attr);
}

/* ----------------------------------------------------------------------------------------------------------------- slice_grad */

static bool slice_grad_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const nb__slice_grad_attr *a = attr;
    if (!nb__check_shape(nb, "slice_grad", in[0]->dtype, a->shape) || !check_places(nb, "slice_grad", &a->slice, a->shape))
        return false;
    if (!nb__dims_equal(in[0]->shape, a->slice.size)) {
        nb_fail(nb, NB_INVALID, "slice_grad: %s is to be written to places for %s", nb__dims_text(in[0]->shape).at,
                nb__dims_text(a->slice.size).at);
        return false;
    }
    *out = (nb_type){in[0]->dtype, a->shape};
    return true;
}

static void slice_grad_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = nb_apply(y->nb, &nb__op_slice, 1, &dy, &((const nb__slice_grad_attr *)y->attr)->slice);
}

static void slice_grad_run(const nb_call *c) {
    const nb__slice_grad_attr *a = c->attr;
    nb_array                   part = part_of(&c->out, &a->slice);
    nb__fill_elements(&c->out, 0);
    nb__copy_elements(&part, &c->in[0]);
}

static void slice_grad_describe(const void *attr, char *text, size_t size) {
    slice_describe(&((const nb__slice_grad_attr *)attr)->slice, text, size);
}

static nb_tensor *slice_grad_sample(nb_sampler *s, int i) {
    static const struct {
        nb_dims shape, start, step, size;
    } place[] = {
        {{1, {5}}, {1, {1}}, {1, {2}}, {1, {2}}},
        {{2, {3, 4}}, {2, {2, 0}}, {2, {-1, 3}}, {2, {3, 2}}},
        {{2, {2, 3}}, {2, {0, 0}}, {2, {1, 1}}, {2, {0, 3}}},
        {{2, {1, 3}}, {2, {0, 2}}, {2, {1, 1}}, {2, {1, 1}}},
    };
    if (i >= (int)(sizeof place / sizeof *place)) return NULL;
    nb_tensor          *x = s->real(s, -2, 2, place[i].size);
    nb__slice_grad_attr attr = {{place[i].start, place[i].step, place[i].size}, place[i].shape};
    return nb_apply(s->nb, &nb__op_slice_grad, 1, &x, &attr);
}

const nb_op nb__op_slice_grad = {
    .name = "slice_grad",
    .formula = "y_{a + s i} = x_i,\\quad 0 \\text{ elsewhere}",
    .gradient = "dx_i = dy_{a + s i}",
    .kind = NB_OPAQUE,
    .arity = 1,
    .attr_size = sizeof(nb__slice_grad_attr),
    .infer = slice_grad_infer,
    .derivative = slice_grad_derivative,
    .run = slice_grad_run,
    .flops = nb__no_flops,
    .sample = slice_grad_sample,
    .describe = slice_grad_describe,
};

/* ------------------------------------------------------------------------------------------------------------- flip and split */

nb_tensor *nb_flip(nb_tensor *x, nb_dims axes) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    axes = nb_dims_of((int)axes.rank, axes.size);
    if (nb__refuse(nb, x, 0, "flip") || !nb__check_axes(nb, "flip", x->shape.rank, &axes)) return &nb->failed;
    nb__slice_attr attr = whole(x->shape);
    for (int i = 0; i < axes.rank; i++) {
        int64_t k = axes.size[i], n = x->shape.size[k];
        if (n < 2) continue;
        attr.start.size[k] = n - 1;
        attr.step.size[k] = -1;
    }
    nb_group_push(nb, &nb__op_flip);
    nb_tensor *y = nb_apply(nb, &nb__op_slice, 1, &x, &attr);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *flip_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_flip(s->real(s, -2, 2, nb_shape(3, 4)), nb_axes(1));
    case 1: return nb_flip(s->real(s, -2, 2, nb_shape(2, 3, 2)), nb_axes());
    case 2: return nb_flip(s->real(s, -2, 2, nb_shape(1, 0)), nb_axes(0, 1));
    case 3: return nb_flip(nb_transpose(s->real(s, -2, 2, nb_shape(2, 3)), 0, 1), nb_axes(-2));
    default: return NULL;
    }
}

const nb_op nb__op_flip = {
    .name = "flip",
    .formula = "y_i = x_{n - 1 - i}",
    .gradient = "dx_i = dy_{n - 1 - i}",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = flip_sample,
};

nb_list nb_split(nb_tensor *x, int axis, int64_t size) {
    if (!x) return (nb_list){0};
    nb_context *nb = x->nb;
    nb_list     failed = nb_list_new(nb, 1);
    int64_t     k = axis;
    if (nb__refuse(nb, x, 0, "split") || !nb__check_axis(nb, "split", x->shape.rank, &k)) return failed;
    int64_t n = x->shape.size[k];
    if (size < 1) {
        nb_fail(nb, NB_INVALID, "split: pieces of %lld; their size must be at least 1", (long long)size);
        return failed;
    }
    int64_t pieces = n > 0 ? (n - 1) / size + 1 : 1;
    if (pieces > INT32_MAX) {
        nb_fail(nb, NB_INVALID, "split: %lld pieces are too many", (long long)pieces);
        return failed;
    }
    nb_list list = nb_list_new(nb, (int)pieces);
    nb_group_push(nb, &nb__op_split);
    for (int i = 0; i < list.n; i++) list.at[i] = nb_slice(x, axis, i * size, i == list.n - 1 ? n : (i + 1) * size, 1);
    nb_group_pop(nb);
    return list;
}

static nb_tensor *split_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: {
        nb_list part = nb_split(s->real(s, -2, 2, nb_shape(6, 2)), 0, 3);
        return part.n == 2 ? nb_mul(part.at[0], part.at[1]) : nb_failed(s->nb);
    }
    case 1: {
        nb_list part = nb_split(s->real(s, -2, 2, nb_shape(2, 5)), 1, 4);
        return part.n == 2 ? nb_mul(part.at[0], part.at[1]) : nb_failed(s->nb);
    }
    default: return NULL;
    }
}

const nb_op nb__op_split = {
    .name = "split",
    .formula = "x = (y^1, y^2, \\ldots)",
    .gradient = "dx = (dy^1, dy^2, \\ldots)",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = split_sample,
};
