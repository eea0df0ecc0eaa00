/* view.c: the same elements in another shape or order.
 *
 * Four primitives show their operand's memory through other strides and compute nothing: reshape, permute, expand, slice. All the
 * rest is made of them. Only a reshape can ask for more than strides can say: then the compiler copies its operand into rows
 * first. */
#include <stdio.h>
#include <string.h>

#include "ops.h"

/* ---------------------------------------------------------------------------------------------- moving elements, by reference */

static void copy_run(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, size_t size) {
    if (to_step == 1 && from_step == 1) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    to_step *= (int64_t)size;
    from_step *= (int64_t)size;
    /* Sizes known to the compiler make one move of each memcpy. */
    if (size == 4)
        for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 4);
    else if (size == 8)
        for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 8);
    else
        for (int64_t i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
}

static bool is_empty(const nb_array *a) {
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] == 0) return true;
    return false;
}

/* Makes one axis of neighbours that lie evenly in both arrays, and drops size 1. */
static void merge_axes(nb_array *a, nb_array *b) {
    int n = 0;
    for (int i = 0; i < a->rank; i++) {
        int64_t size = a->shape[i];
        if (size == 1) continue;
        bool even = n && a->stride[n - 1] == size * a->stride[i] && b->stride[n - 1] == size * b->stride[i];
        if (!even) a->shape[n++] = 1;
        a->shape[n - 1] *= size;
        a->stride[n - 1] = a->stride[i];
        b->stride[n - 1] = b->stride[i];
    }
    a->rank = b->rank = n;
}

void nb__copy_elements(const nb_array *out, const nb_array *in) {
    if (is_empty(in)) return;
    nb_array from = *in, to = *out;
    merge_axes(&from, &to);
    size_t  size = nb_dtype_size(in->dtype);
    int     last = from.rank - 1;
    int64_t index[NB_MAX_RANK] = {0}, n = last < 0 ? 1 : from.shape[last];
    int64_t to_step = last < 0 ? 1 : to.stride[last], from_step = last < 0 ? 1 : from.stride[last];
    do {
        char       *t = (char *)to.data + nb__offset(&to, index) * (int64_t)size;
        const char *f = (const char *)from.data + nb__offset(&from, index) * (int64_t)size;
        copy_run(t, to_step, f, from_step, n, size);
    } while (nb__next_index(last, from.shape, index));
}

typedef bool view_function(const nb_array *in, const void *attr, nb_array *out, int64_t *offset);

/* What a view shows, written out. False: strides cannot show it. */
static bool copy_view(const nb_call *c, view_function *view) {
    nb_array shown = c->out;
    int64_t  offset = 0;
    if (!view(&c->in[0], c->attr, &shown, &offset)) return false;
    shown.data = (char *)c->in[0].data + offset * (int64_t)nb_dtype_size(shown.dtype);
    nb__copy_elements(&c->out, &shown);
    return true;
}

double nb__no_flops(const nb_tensor *y) {
    (void)y;
    return 0;
}

/* -------------------------------------------------------------------------------------------------------------------- reshape */

static bool reshape_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims to = ((const nb__dims_attr *)attr)->dims, from = in[0]->shape;
    if (!nb__check_shape(nb, "reshape", in[0]->dtype, to)) return false;
    if (nb__dims_count(from) != nb__dims_count(to)) {
        nb_fail(nb, NB_INVALID, "reshape: %s has %lld elements, %s has %lld", nb__dims_text(from).at,
                (long long)nb__dims_count(from), nb__dims_text(to).at, (long long)nb__dims_count(to));
        return false;
    }
    *out = (nb_type){in[0]->dtype, to};
    return true;
}

static void reshape_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = nb_reshape(dy, y->in[0]->shape);
}

/* Axes of both shapes are taken together, from the first on, until their sizes multiply to the same number. Such a group can be
 * shown if the operand's axes in it are one evenly spaced run of elements; the new axes then divide that run. Axes of size 1 have
 * no say. */
static bool reshape_view(const nb_array *in, const void *attr, nb_array *out, int64_t *offset) {
    (void)attr;
    int64_t size[NB_MAX_RANK], stride[NB_MAX_RANK], step = 1;
    int     axis[NB_MAX_RANK], n_old = 0, n_new = 0;
    *offset = 0;
    for (int i = out->rank; i-- > 0;) { /* as rows: right when there are no elements, and for axes of size 1 */
        out->stride[i] = step;
        step *= out->shape[i];
    }
    if (is_empty(out)) return true;
    for (int i = 0; i < in->rank; i++) {
        if (in->shape[i] == 1) continue;
        size[n_old] = in->shape[i];
        stride[n_old++] = in->stride[i];
    }
    for (int i = 0; i < out->rank; i++)
        if (out->shape[i] != 1) axis[n_new++] = i;
    for (int o = 0, n = 0; o < n_old && n < n_new;) {
        int64_t have = size[o], need = out->shape[axis[n]];
        int     first = n++;
        for (o++; have != need;) {
            if (have < need) {
                if (stride[o - 1] != size[o] * stride[o]) return false;
                have *= size[o++];
            } else {
                need *= out->shape[axis[n++]];
            }
        }
        step = stride[o - 1];
        for (int i = n; i-- > first;) {
            out->stride[axis[i]] = step;
            step *= out->shape[axis[i]];
        }
    }
    return true;
}

static void reshape_run(const nb_call *c) {
    const nb_array *in = &c->in[0], *out = &c->out;
    if (copy_view(c, reshape_view)) return;
    size_t  size = nb_dtype_size(in->dtype);
    int64_t i[NB_MAX_RANK] = {0}, o[NB_MAX_RANK] = {0};
    do {
        memcpy((char *)out->data + nb__offset(out, o) * (int64_t)size, (char *)in->data + nb__offset(in, i) * (int64_t)size,
               size);
        nb__next_index(in->rank, in->shape, i);
    } while (nb__next_index(out->rank, out->shape, o));
}

static void shape_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "shape=%s", nb__dims_text(((const nb__dims_attr *)attr)->dims).at);
}

static nb_tensor *reshape_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_reshape(s->real(s, -2, 2, nb_shape(2, 6)), nb_shape(3, -1));
    case 1: return nb_reshape(nb_permute(s->real(s, -2, 2, nb_shape(3, 4)), nb_axes(1, 0)), nb_shape(2, 6));
    case 2: return nb_reshape(s->real(s, -2, 2, nb_shape(1, 5, 1)), nb_shape(5));
    case 3: return nb_reshape(s->real(s, -2, 2, nb_shape(1)), nb_shape());
    case 4: return nb_reshape(s->real(s, -2, 2, nb_shape(0, 3)), nb_shape(2, 0));
    case 5: return nb_flatten(s->real(s, -2, 2, nb_shape(2, 3, 2)), 1, 2);
    case 6: return nb_unsqueeze(s->real(s, -2, 2, nb_shape(2, 3)), 1);
    case 7: return nb_squeeze(s->real(s, -2, 2, nb_shape(1, 2, 1, 3)), nb_axes());
    case 8: return nb_reshape(nb_flip(s->real(s, -2, 2, nb_shape(4, 3)), nb_axes(0)), nb_shape(2, 2, 3));
    default: return NULL;
    }
}

const nb_op nb__op_reshape = {
    .name = "reshape",
    .formula = "y = x \\text{ in another shape}",
    .gradient = "dx = dy \\text{ in the shape of } x",
    .kind = NB_VIEW,
    .arity = 1,
    .attr_size = sizeof(nb__dims_attr),
    .infer = reshape_infer,
    .derivative = reshape_derivative,
    .run = reshape_run,
    .view = reshape_view,
    .flops = nb__no_flops,
    .sample = reshape_sample,
    .describe = shape_describe,
};

nb_tensor *nb_reshape(nb_tensor *x, nb_dims shape) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, "reshape")) return &nb->failed;
    nb__dims_attr attr = {nb_dims_of((int)shape.rank, shape.size)};
    nb_dims      *d = &attr.dims;
    int           left = -1;
    for (int i = 0; i < d->rank; i++) {
        if (d->size[i] != -1) continue;
        if (left >= 0) return nb_fail(nb, NB_INVALID, "reshape: more than one size of %s is -1", nb__dims_text(shape).at);
        left = i;
        d->size[i] = 1;
    }
    if (left >= 0) {
        if (!nb__check_shape(nb, "reshape", x->dtype, *d)) return &nb->failed;
        int64_t count = nb_count(x), rest = nb__dims_count(*d);
        if (rest == 0 || count % rest)
            return nb_fail(nb, NB_INVALID, "reshape: the %lld elements of %s do not divide into %s", (long long)count,
                           nb__dims_text(x->shape).at, nb__dims_text(shape).at);
        d->size[left] = count / rest;
    }
    return nb_apply(nb, &nb__op_reshape, 1, &x, &attr);
}

nb_tensor *nb_squeeze(nb_tensor *x, nb_dims axes) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    bool        every = axes.rank == 0;
    axes = nb_dims_of((int)axes.rank, axes.size);
    if (nb__refuse(nb, x, 0, "squeeze") || !nb__check_axes(nb, "squeeze", x->shape.rank, &axes)) return &nb->failed;
    nb_dims d = {0};
    for (int i = 0, k = 0; i < x->shape.rank; i++) {
        int64_t n = x->shape.size[i];
        bool    named = k < axes.rank && axes.size[k] == i;
        k += named;
        if (named && n == 1) continue;
        if (named && !every)
            return nb_fail(nb, NB_INVALID, "squeeze: axis %d of %s has size %lld, not 1", i, nb__dims_text(x->shape).at,
                           (long long)n);
        d.size[d.rank++] = n;
    }
    return nb_reshape(x, d);
}

nb_tensor *nb_unsqueeze(nb_tensor *x, int axis) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    int64_t     at = axis;
    if (nb__refuse(nb, x, 0, "unsqueeze") || !nb__check_axis(nb, "unsqueeze: the result", x->shape.rank + 1, &at))
        return &nb->failed;
    if (x->shape.rank == NB_MAX_RANK)
        return nb_fail(nb, NB_INVALID, "unsqueeze: %s has %d axes already, which is the most there can be",
                       nb__dims_text(x->shape).at, NB_MAX_RANK);
    nb_dims d = {.rank = x->shape.rank + 1};
    for (int i = 0, k = 0; i < d.rank; i++) d.size[i] = i == at ? 1 : x->shape.size[k++];
    return nb_reshape(x, d);
}

nb_tensor *nb_flatten(nb_tensor *x, int first, int last) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, "flatten")) return &nb->failed;
    int64_t rank = x->shape.rank, f = first, l = last;
    if (!rank && (first == 0 || first == -1) && (last == 0 || last == -1)) return nb_reshape(x, nb_shape(1));
    if (!nb__check_axis(nb, "flatten", rank, &f) || !nb__check_axis(nb, "flatten", rank, &l)) return &nb->failed;
    if (f > l) return nb_fail(nb, NB_INVALID, "flatten: the first axis, %d, comes after the last, %d", first, last);
    nb_dims d = {0};
    for (int i = 0; i < rank; i++) {
        if (i > f && i <= l)
            d.size[d.rank - 1] *= x->shape.size[i];
        else
            d.size[d.rank++] = x->shape.size[i];
    }
    return nb_reshape(x, d);
}

/* -------------------------------------------------------------------------------------------------------------------- permute */

static bool permute_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims axes = ((const nb__dims_attr *)attr)->dims, sorted = axes, x = in[0]->shape;
    if (axes.rank != x.rank) {
        nb_fail(nb, NB_INVALID, "permute: %s has %lld axes, but %lld are named: name each once", nb__dims_text(x).at,
                (long long)x.rank, (long long)axes.rank);
        return false;
    }
    if (x.rank && !nb__check_axes(nb, "permute", x.rank, &sorted)) return false;
    *out = (nb_type){in[0]->dtype, {.rank = x.rank}};
    for (int i = 0; i < x.rank; i++) out->shape.size[i] = x.size[axes.size[i]];
    return true;
}

static void permute_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    nb_dims axes = ((const nb__dims_attr *)y->attr)->dims, back = {.rank = axes.rank};
    for (int i = 0; i < axes.rank; i++) back.size[axes.size[i]] = i;
    dx[0] = nb_permute(dy, back);
}

static bool permute_view(const nb_array *in, const void *attr, nb_array *out, int64_t *offset) {
    nb_dims axes = ((const nb__dims_attr *)attr)->dims;
    *offset = 0;
    for (int i = 0; i < out->rank; i++) out->stride[i] = in->stride[axes.size[i]];
    return true;
}

static void permute_run(const nb_call *c) { copy_view(c, permute_view); }

static void axes_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axes=%s", nb__dims_text(((const nb__dims_attr *)attr)->dims).at);
}

static nb_tensor *permute_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_permute(s->real(s, -2, 2, nb_shape(2, 3, 4)), nb_axes(2, 0, 1));
    case 1: return nb_transpose(s->real(s, -2, 2, nb_shape(3, 2)), -1, 0);
    case 2: return nb_permute(s->real(s, -2, 2, nb_shape()), nb_axes());
    case 3: return nb_permute(s->real(s, -2, 2, nb_shape(2, 0, 3)), nb_axes(1, 2, 0));
    case 4: return nb_permute(s->real(s, -2, 2, nb_shape(1, 3, 2, 2)), nb_axes(0, 2, 3, 1));
    default: return NULL;
    }
}

const nb_op nb__op_permute = {
    .name = "permute",
    .formula = "y_{ij\\ldots} = x_{\\pi(ij\\ldots)}",
    .gradient = "dx = dy \\text{ with the axes back in their order}",
    .kind = NB_VIEW,
    .arity = 1,
    .attr_size = sizeof(nb__dims_attr),
    .infer = permute_infer,
    .derivative = permute_derivative,
    .run = permute_run,
    .view = permute_view,
    .flops = nb__no_flops,
    .sample = permute_sample,
    .describe = axes_describe,
};

nb_tensor *nb_permute(nb_tensor *x, nb_dims axes) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, "permute")) return &nb->failed;
    nb__dims_attr attr = {nb_dims_of((int)axes.rank, axes.size)};
    for (int i = 0; i < axes.rank && axes.rank == x->shape.rank; i++)
        if (!nb__check_axis(nb, "permute", axes.rank, &attr.dims.size[i])) return &nb->failed;
    return nb_apply(nb, &nb__op_permute, 1, &x, &attr);
}

nb_tensor *nb_transpose(nb_tensor *x, int axis0, int axis1) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    int64_t     a = axis0, b = axis1;
    if (nb__refuse(nb, x, 0, "transpose")) return &nb->failed;
    if (!nb__check_axis(nb, "transpose", x->shape.rank, &a) || !nb__check_axis(nb, "transpose", x->shape.rank, &b))
        return &nb->failed;
    nb_dims axes = {.rank = x->shape.rank};
    for (int i = 0; i < axes.rank; i++) axes.size[i] = i == a ? b : i == b ? a : i;
    return nb_permute(x, axes);
}

/* --------------------------------------------------------------------------------------------------------------------- expand */

static bool expand_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims to = ((const nb__dims_attr *)attr)->dims, from = in[0]->shape, both;
    if (!nb__check_shape(nb, "expand", in[0]->dtype, to)) return false;
    if (!nb__broadcast(from, to, &both) || !nb__dims_equal(both, to)) {
        nb_fail(nb, NB_INVALID, "expand: %s does not broadcast to %s", nb__dims_text(from).at, nb__dims_text(to).at);
        return false;
    }
    *out = (nb_type){in[0]->dtype, to};
    return true;
}

static void expand_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    dx[0] = nb__sum_to(dy, y->in[0]->shape);
}

static bool expand_view(const nb_array *in, const void *attr, nb_array *out, int64_t *offset) {
    (void)attr;
    *offset = 0;
    for (int i = 0; i < out->rank; i++) {
        int k = i - (out->rank - in->rank);
        out->stride[i] = k < 0 || in->shape[k] != out->shape[i] ? 0 : in->stride[k];
    }
    return true;
}

static void expand_run(const nb_call *c) { copy_view(c, expand_view); }

static nb_tensor *expand_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_expand(s->real(s, -2, 2, nb_shape(3, 1)), nb_shape(2, 3, 4));
    case 1: return nb_expand(s->real(s, -2, 2, nb_shape()), nb_shape(2, 2));
    case 2: return nb_expand(s->real(s, -2, 2, nb_shape(2, 3)), nb_shape(2, 3));
    case 3: return nb_expand(s->real(s, -2, 2, nb_shape(1, 3)), nb_shape(0, 3));
    case 4: return nb_expand(s->real(s, -2, 2, nb_shape(1, 2, 1)), nb_shape(3, 2, 2));
    default: return NULL;
    }
}

const nb_op nb__op_expand = {
    .name = "expand",
    .formula = "y = x \\text{ repeated}",
    .gradient = "dx = \\sum dy \\text{ over what was repeated}",
    .kind = NB_VIEW,
    .arity = 1,
    .attr_size = sizeof(nb__dims_attr),
    .infer = expand_infer,
    .derivative = expand_derivative,
    .run = expand_run,
    .view = expand_view,
    .flops = nb__no_flops,
    .sample = expand_sample,
    .describe = shape_describe,
};

nb_tensor *nb_expand(nb_tensor *x, nb_dims shape) {
    if (!x) return NULL;
    nb__dims_attr attr = {nb_dims_of((int)shape.rank, shape.size)};
    return nb_apply(x->nb, &nb__op_expand, 1, &x, &attr);
}

nb_tensor *nb__zeros_for(nb_tensor *x) { return nb_expand(nb__scalar(x, 0), x->shape); }
