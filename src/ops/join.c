/* join.c: tensors put together from parts (concat, stack), put between constants (pad), or with one triangle set to zero. */
#include <stdio.h>

#include "ops.h"

void nb__fill_elements(const nb_array *out, double value) {
    uint64_t cell = 0;
    nb_array one = *out; /* the value, seen at every place */
    one.data = &cell;
    for (int i = 0; i < one.rank; i++) one.stride[i] = 0;
    nb__store(&one, 0, value);
    nb__copy_elements(out, &one);
}

/* The part of `whole` that begins at start[i] along each axis and has the given shape. */
static nb_array part_at(const nb_array *whole, const int64_t *start, const int64_t *shape) {
    nb_array part = *whole;
    bool     empty = false;
    for (int i = 0; i < part.rank; i++) {
        part.shape[i] = shape[i];
        empty |= shape[i] == 0;
    }
    if (!empty) part.data = (char *)whole->data + nb__offset(whole, start) * (int64_t)nb_dtype_size(whole->dtype);
    return part;
}

/* --------------------------------------------------------------------------------------------------------------------- concat */

static bool concat_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    int64_t axis = ((const nb__axis_attr *)attr)->axis, total = 0;
    nb_dims shape = in[0]->shape;
    if (!nb__check_axis(nb, "concat", shape.rank, &axis)) return false;
    for (int i = 0; i < n_in; i++) {
        nb_dims next = in[i]->shape;
        if (in[i]->dtype != in[0]->dtype) {
            nb_fail(nb, NB_INVALID, "concat: operand 0 is %s, operand %d is %s; convert one with nb_cast",
                    nb_dtype_name(in[0]->dtype), i, nb_dtype_name(in[i]->dtype));
            return false;
        }
        if (next.rank == shape.rank) {
            total += next.size[axis];
            next.size[axis] = shape.size[axis];
        }
        if (!nb__dims_equal(next, shape)) {
            nb_fail(nb, NB_INVALID, "concat: operand 0 is %s, operand %d is %s: they may differ in axis %lld only",
                    nb__dims_text(shape).at, i, nb__dims_text(in[i]->shape).at, (long long)axis);
            return false;
        }
        if (total > NB__MAX_BYTES) {
            nb_fail(nb, NB_INVALID, "concat: the result is more than this machine can address");
            return false;
        }
    }
    shape.size[axis] = total;
    *out = (nb_type){in[0]->dtype, shape};
    return true;
}

static void concat_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    int     axis = (int)((const nb__axis_attr *)y->attr)->axis;
    int64_t at = 0;
    for (int i = 0; i < y->n_in; i++) {
        int64_t n = y->in[i]->shape.size[axis];
        if (want[i]) dx[i] = nb_slice(dy, axis, at, at + n, 1);
        at += n;
    }
}

static void concat_run(const nb_call *c) {
    int64_t axis = ((const nb__axis_attr *)c->attr)->axis, start[NB_MAX_RANK] = {0};
    for (int i = 0; i < c->n_in; i++) {
        nb_array part = part_at(&c->out, start, c->in[i].shape);
        nb__copy_elements(&part, &c->in[i]);
        start[axis] += c->in[i].shape[axis];
    }
}

static void axis_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axis=%lld", (long long)((const nb__axis_attr *)attr)->axis);
}

static nb_tensor *concat_sample(nb_sampler *s, int i) {
    nb_tensor *a = s->real(s, -2, 2, nb_shape(2, 3));
    switch (i) {
    case 0: return nb_concat(nb_list_of(s->nb, a, s->real(s, -2, 2, nb_shape(4, 3))), 0);
    case 1: return nb_concat(nb_list_of(s->nb, a, s->real(s, -2, 2, nb_shape(2, 1)), s->real(s, -2, 2, nb_shape(2, 0))), -1);
    case 2: return nb_concat(nb_list_of(s->nb, a, a, nb_flip(a, nb_axes(1))), 1);
    case 3: return nb_concat(nb_list_of(s->nb, a), 0);
    case 4: return nb_concat(nb_list_of(s->nb, nb_transpose(s->real(s, -2, 2, nb_shape(3, 2)), 0, 1), a), 0);
    default: return NULL;
    }
}

const nb_op nb__op_concat = {
    .name = "concat",
    .formula = "y = (x^1, x^2, \\ldots)",
    .gradient = "(dx^1, dx^2, \\ldots) = dy",
    .kind = NB_OPAQUE,
    .arity = -1,
    .attr_size = sizeof(nb__axis_attr),
    .infer = concat_infer,
    .derivative = concat_derivative,
    .run = concat_run,
    .flops = nb__no_flops,
    .sample = concat_sample,
    .describe = axis_describe,
};

/* The context of a list after a look at all of it; NULL, and *failed is what to return, when the list is no good. An empty list
 * of nb_list_new has a first place too, by which its context is found. */
static nb_context *check_list(nb_list xs, const char *user, nb_tensor **failed) {
    nb_context *nb = xs.at ? nb__context_of(xs.n > 0 ? xs.n : 1, xs.at) : NULL;
    *failed = NULL;
    if (!nb) return NULL;
    for (int i = 0; i < xs.n; i++)
        if ((*failed = nb__refuse(nb, xs.at[i], i, user))) return NULL;
    if (xs.n > 0) return nb;
    *failed = nb_fail(nb, NB_INVALID, "%s: the list is empty", user);
    return NULL;
}

nb_tensor *nb_concat(nb_list xs, int axis) {
    nb_tensor  *failed;
    nb_context *nb = check_list(xs, "concat", &failed);
    if (!nb) return failed;
    nb__axis_attr attr = {axis};
    if (!nb__check_axis(nb, "concat", xs.at[0]->shape.rank, &attr.axis)) return &nb->failed;
    return nb_apply(nb, &nb__op_concat, xs.n, xs.at, &attr);
}

/* Literals take the type of the first that is none. */
nb_tensor *nb_stack(nb_list xs, int axis) {
    nb_tensor  *failed;
    nb_context *nb = check_list(xs, "stack", &failed);
    if (!nb) return failed;
    nb_list    lifted = nb_list_new(nb, xs.n);
    nb_tensor *like = xs.at[0];
    for (int i = 1; i < xs.n && like->is_number; i++) like = xs.at[i];
    for (int i = 0; i < lifted.n; i++) {
        if (!nb__dims_equal(xs.at[i]->shape, xs.at[0]->shape))
            return nb_fail(nb, NB_INVALID, "stack: operand 0 is %s, operand %d is %s: shapes must be equal",
                           nb__dims_text(xs.at[0]->shape).at, i, nb__dims_text(xs.at[i]->shape).at);
    }
    nb_group_push(nb, &nb__op_stack);
    for (int i = 0; i < lifted.n; i++) lifted.at[i] = nb_unsqueeze(nb__adapt(xs.at[i], "stack", like->dtype), axis);
    nb_tensor *y = lifted.n ? nb_concat(lifted, axis) : &nb->failed;
    nb_group_pop(nb);
    return y;
}

static nb_tensor *stack_sample(nb_sampler *s, int i) {
    nb_tensor *a = s->real(s, -2, 2, nb_shape(2, 3)), *b = s->real(s, -2, 2, nb_shape(2, 3));
    switch (i) {
    case 0: return nb_stack(nb_list_of(s->nb, a, b), 0);
    case 1: return nb_stack(nb_list_of(s->nb, a, b, a), -1);
    case 2: return nb_stack(nb_list_of(s->nb, s->real(s, -2, 2, nb_shape()), s->real(s, -2, 2, nb_shape())), 0);
    default: return NULL;
    }
}

const nb_op nb__op_stack = {
    .name = "stack",
    .formula = "y_{k\\ldots} = x^k_{\\ldots}",
    .gradient = "dx^k_{\\ldots} = dy_{k\\ldots}",
    .kind = NB_COMPOSITION,
    .arity = -1,
    .sample = stack_sample,
};

/* ------------------------------------------------------------------------------------------------------------------------ pad */

static bool pad_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const nb__pad_attr *a = attr;
    nb_dims             shape = in[0]->shape;
    if (a->before.rank != shape.rank || a->after.rank != shape.rank) {
        nb_fail(nb, NB_INVALID, "pad: %s needs one entry an axis, before is %s and after %s", nb__dims_text(shape).at,
                nb__dims_text(a->before).at, nb__dims_text(a->after).at);
        return false;
    }
    for (int i = 0; i < shape.rank; i++) {
        int64_t before = a->before.size[i], after = a->after.size[i];
        if (before < 0 || after < 0 || before > NB__MAX_BYTES || after > NB__MAX_BYTES) {
            nb_fail(nb, NB_INVALID, "pad: before %s, after %s: entries must be at least 0%s", nb__dims_text(a->before).at,
                    nb__dims_text(a->after).at, before < 0 || after < 0 ? "; nb_slice cuts off" : " and fit into memory");
            return false;
        }
        shape.size[i] += before + after;
    }
    *out = (nb_type){in[0]->dtype, shape};
    return true;
}

static void pad_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    nb__slice_attr part = {.start = ((const nb__pad_attr *)y->attr)->before, .step.rank = y->shape.rank, .size = y->in[0]->shape};
    for (int i = 0; i < y->shape.rank; i++) {
        part.step.size[i] = 1;
        if (!part.size.size[i]) part.start.size[i] = 0;
    }
    dx[0] = nb_apply(y->nb, &nb__op_slice, 1, &dy, &part);
}

static void pad_run(const nb_call *c) {
    const nb__pad_attr *a = c->attr;
    nb_array            part = part_at(&c->out, a->before.size, c->in[0].shape);
    nb__fill_elements(&c->out, a->value);
    nb__copy_elements(&part, &c->in[0]);
}

static void pad_describe(const void *attr, char *text, size_t size) {
    const nb__pad_attr *a = attr;
    snprintf(text, size, "before=%s after=%s value=%g", nb__dims_text(a->before).at, nb__dims_text(a->after).at, a->value);
}

static nb_tensor *pad_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_pad(s->real(s, -2, 2, nb_shape(2, 3)), nb_shape(1, 0), nb_shape(0, 2), 0);
    case 1: return nb_pad(s->real(s, -2, 2, nb_shape(3)), nb_shape(2), nb_shape(2), -1.5);
    case 2: return nb_pad(s->real(s, -2, 2, nb_shape(2, 0)), nb_shape(0, 1), nb_shape(0, 1), 1);
    case 3: return nb_pad(s->real(s, -2, 2, nb_shape()), nb_shape(), nb_shape(), 0);
    case 4: return nb_pad(nb_transpose(s->real(s, -2, 2, nb_shape(2, 3)), 0, 1), nb_shape(0, 0), nb_shape(1, 1), 3);
    default: return NULL;
    }
}

const nb_op nb__op_pad = {
    .name = "pad",
    .formula = "y_{a + i} = x_i,\\quad c \\text{ elsewhere}",
    .gradient = "dx_i = dy_{a + i}",
    .kind = NB_OPAQUE,
    .arity = 1,
    .attr_size = sizeof(nb__pad_attr),
    .infer = pad_infer,
    .derivative = pad_derivative,
    .run = pad_run,
    .flops = nb__no_flops,
    .sample = pad_sample,
    .describe = pad_describe,
};

nb_tensor *nb_pad(nb_tensor *x, nb_dims before, nb_dims after, double value) {
    if (!x) return NULL;
    nb__pad_attr attr = {nb_dims_of((int)before.rank, before.size), nb_dims_of((int)after.rank, after.size), value};
    return nb_apply(x->nb, &nb__op_pad, 1, &x, &attr);
}

/* ------------------------------------------------------------------------------------------------------------------ triangles */

/* x where column - row <= diagonal (lower) or >= diagonal (upper), else 0. */
static nb_tensor *triangle(nb_tensor *x, const nb_op *op, bool lower, int64_t diagonal) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, op->name)) return &nb->failed;
    if (x->shape.rank < 2) return nb_fail(nb, NB_INVALID, "%s: %s is no matrix", op->name, nb__dims_text(x->shape).at);
    int64_t rows = nb_size(x, -2), columns = nb_size(x, -1);
    if (diagonal < -rows) diagonal = -rows;
    if (diagonal > columns) diagonal = columns;
    nb_dtype count = rows + columns < 1 << 23 ? NB_F32 : NB_F64; /* exact, and fast where there is a kernel */
    nb_group_push(nb, op);
    nb_tensor *row = nb_unsqueeze(nb_arange(nb, count, (double)diagonal, (double)(diagonal + rows), 1), 1);
    nb_tensor *column = nb_arange(nb, count, 0, (double)columns, 1);
    nb_tensor *kept = lower ? nb_less_equal(column, row) : nb_greater_equal(column, row);
    nb_tensor *y = nb_where(kept, x, nb__scalar(x, 0));
    nb_group_pop(nb);
    return y;
}

nb_tensor *nb_tril(nb_tensor *x, int64_t diagonal) { return triangle(x, &nb__op_tril, true, diagonal); }
nb_tensor *nb_triu(nb_tensor *x, int64_t diagonal) { return triangle(x, &nb__op_triu, false, diagonal); }

static nb_tensor *triangle_sample(nb_sampler *s, int i, nb_tensor *(*part)(nb_tensor *x, int64_t diagonal)) {
    switch (i) {
    case 0: return part(s->real(s, -2, 2, nb_shape(3, 4)), 0);
    case 1: return part(s->real(s, -2, 2, nb_shape(2, 4, 3)), -1);
    case 2: return part(s->real(s, -2, 2, nb_shape(3, 3)), 1);
    case 3: return part(s->real(s, -2, 2, nb_shape(0, 2)), 0);
    default: return NULL;
    }
}

static nb_tensor *tril_sample(nb_sampler *s, int i) { return triangle_sample(s, i, nb_tril); }
static nb_tensor *triu_sample(nb_sampler *s, int i) { return triangle_sample(s, i, nb_triu); }

const nb_op nb__op_tril = {
    .name = "tril",
    .formula = "y_{ij} = x_{ij} \\text{ for } j - i \\le d,\\quad 0 \\text{ else}",
    .gradient = "dx_{ij} = dy_{ij} \\text{ for } j - i \\le d,\\quad 0 \\text{ else}",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = tril_sample,
};

const nb_op nb__op_triu = {
    .name = "triu",
    .formula = "y_{ij} = x_{ij} \\text{ for } j - i \\ge d,\\quad 0 \\text{ else}",
    .gradient = "dx_{ij} = dy_{ij} \\text{ for } j - i \\ge d,\\quad 0 \\text{ else}",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = triu_sample,
};
