/* index.c: elements at computed places. gather reads them, scatter_add, its adjoint, adds to them; each is made of the other when
 * it is differentiated. Sums are made in the order of the index, so they are the same in every run. */
#include <stdio.h>
#include <string.h>

#include "ops.h"

/* ------------------------------------------------------------------------------------------------------------- what all share */

static bool check_index(nb_context *nb, const char *user, const nb_tensor *index) {
    if (index->dtype == NB_I32 || index->dtype == NB_I64) return true;
    nb_fail(nb, NB_INVALID, "%s: the index is %s; it must be i32 or i64", user, nb_dtype_name(index->dtype));
    return false;
}

/* Whether index has the shape of x but along the axis, which must be one of x. */
static bool check_shapes(nb_context *nb, const char *user, nb_dims x, nb_dims index, int64_t axis) {
    if (!nb__check_axis(nb, user, x.rank, &axis)) return false;
    nb_dims same = index;
    if (same.rank == x.rank) same.size[axis] = x.size[axis];
    if (nb__dims_equal(same, x)) return true;
    nb_fail(nb, NB_INVALID, "%s: x is %s, the index %s: they may differ in axis %lld only", user, nb__dims_text(x).at,
            nb__dims_text(index).at, (long long)axis);
    return false;
}

/* The index at an offset if it is in 0..n-1; else -1, and the run fails. element: its number, for the message of the first
 * one. */
static int64_t place_at(const nb_call *c, const char *user, const nb_array *index, int64_t offset, int64_t n, int64_t element) {
    int64_t place = nb__load_int(index, offset);
    if (place >= 0 && place < n) return place;
    if (n)
        nb_raise(c, element, "%s: index %lld is outside 0..%lld", user, (long long)place, (long long)n - 1);
    else
        nb_raise(c, element, "%s: index %lld into an axis of size 0", user, (long long)place);
    return -1;
}

static bool is_empty(const nb_array *a) {
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] == 0) return true;
    return false;
}

static void move_element(const nb_array *to, int64_t at, const nb_array *from, int64_t place) {
    size_t size = nb_dtype_size(to->dtype);
    memcpy((char *)to->data + at * (int64_t)size, (const char *)from->data + place * (int64_t)size, size);
}

static int64_t axis_of(const void *attr) { return ((const nb__axis_attr *)attr)->axis; }

static void axis_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axis=%lld", (long long)axis_of(attr));
}

/* An operator along an axis of its first operand, which may be negative. */
static nb_tensor *along_axis(const nb_op *op, int n, nb_tensor *const *in, int axis) {
    nb_context   *nb = nb__context_of(n, in);
    nb__axis_attr attr = {axis};
    if (!nb) return NULL;
    if (nb__refuse(nb, in[0], 0, op->name) || !nb__check_axis(nb, op->name, in[0]->shape.rank, &attr.axis)) return &nb->failed;
    return nb_apply(nb, op, n, in, &attr);
}

/* --------------------------------------------------------------------------------------------------------------------- gather */

static bool gather_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    if (!check_index(nb, "gather", in[1]) || !check_shapes(nb, "gather", in[0]->shape, in[1]->shape, axis_of(attr))) return false;
    *out = (nb_type){in[0]->dtype, in[1]->shape};
    return true;
}

static void gather_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = nb_scatter_add(nb__zeros_for(y->in[0]), (int)axis_of(y->attr), y->in[1], dy);
}

static void gather_run(const nb_call *c) {
    const nb_array *x = &c->in[0], *index = &c->in[1];
    int64_t         axis = axis_of(c->attr), at[NB_MAX_RANK] = {0}, element = 0;
    if (is_empty(&c->out)) return;
    do {
        int64_t place = place_at(c, "gather", index, nb__offset(index, at), x->shape[axis], element++);
        if (place >= 0)
            move_element(&c->out, nb__offset(&c->out, at), x, nb__offset(x, at) + (place - at[axis]) * x->stride[axis]);
    } while (nb__next_index(index->rank, index->shape, at));
}

static nb_tensor *gather_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_gather(s->real(s, -2, 2, nb_shape(3, 4)), 1, s->integer(s, NB_I64, 0, 4, nb_shape(3, 2)));
    case 1: return nb_gather(s->real(s, -2, 2, nb_shape(3, 4)), 0, s->integer(s, NB_I32, 0, 3, nb_shape(5, 4)));
    case 2: return nb_gather(s->real(s, -2, 2, nb_shape(7)), -1, s->integer(s, NB_I64, 0, 7, nb_shape(17)));
    case 3: return nb_gather(s->real(s, -2, 2, nb_shape(2, 3, 2)), 1, s->integer(s, NB_I64, 0, 3, nb_shape(2, 1, 2)));
    case 4: return nb_gather(s->real(s, -2, 2, nb_shape(2, 3)), 1, s->integer(s, NB_I64, 0, 3, nb_shape(2, 0)));
    case 5:
        return nb_gather(nb_transpose(s->real(s, -2, 2, nb_shape(2, 3)), 0, 1), 0, s->integer(s, NB_I64, 0, 3, nb_shape(4, 2)));
    default: return NULL;
    }
}

const nb_op nb__op_gather = {
    .name = "gather",
    .formula = "y_{ij} = x_{k_{ij} j}",
    .gradient = "dx_{kj} = \\sum_{i : k_{ij} = k} dy_{ij}",
    .kind = NB_INDEX,
    .arity = 2,
    .attr_size = sizeof(nb__axis_attr),
    .infer = gather_infer,
    .derivative = gather_derivative,
    .run = gather_run,
    .flops = nb__no_flops,
    .sample = gather_sample,
    .describe = axis_describe,
};

nb_tensor *nb_gather(nb_tensor *x, int axis, nb_tensor *index) {
    return along_axis(&nb__op_gather, 2, (nb_tensor *[]){x, index}, axis);
}

/* ---------------------------------------------------------------------------------------------------------------- scatter_add */

static bool scatter_add_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims index = in[1]->shape, source = in[2]->shape;
    if (!check_index(nb, "scatter_add", in[1]) || !check_shapes(nb, "scatter_add", in[0]->shape, index, axis_of(attr)))
        return false;
    if (!nb__dims_equal(index, source)) {
        nb_fail(nb, NB_INVALID, "scatter_add: the index is %s, the source %s: shapes must be equal", nb__dims_text(index).at,
                nb__dims_text(source).at);
        return false;
    }
    if (in[0]->dtype != in[2]->dtype || in[0]->dtype == NB_BOOL) {
        nb_fail(nb, NB_INVALID, "scatter_add: x is %s, the source %s: they must be one type of number; convert with nb_cast",
                nb_dtype_name(in[0]->dtype), nb_dtype_name(in[2]->dtype));
        return false;
    }
    *out = (nb_type){in[0]->dtype, in[0]->shape};
    return true;
}

static void scatter_add_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = dy;
    if (want[2]) dx[2] = nb_gather(dy, (int)axis_of(y->attr), y->in[1]);
}

static void scatter_add_run(const nb_call *c) {
    const nb_array *out = &c->out, *index = &c->in[1], *source = &c->in[2];
    int64_t         axis = axis_of(c->attr), at[NB_MAX_RANK] = {0}, element = 0;
    bool            real = out->dtype == NB_F32 || out->dtype == NB_F64;
    nb__copy_elements(out, &c->in[0]);
    if (is_empty(index)) return;
    do {
        int64_t place = place_at(c, "scatter_add", index, nb__offset(index, at), out->shape[axis], element++);
        if (place < 0) continue;
        int64_t to = nb__offset(out, at) + (place - at[axis]) * out->stride[axis], from = nb__offset(source, at);
        if (real)
            nb__store(out, to, nb__load(out, to) + nb__load(source, from));
        else
            nb__store_wrapped(out, to, (int64_t)((uint64_t)nb__load_int(out, to) + (uint64_t)nb__load_int(source, from)));
    } while (nb__next_index(index->rank, index->shape, at));
}

static double scatter_add_flops(const nb_tensor *y) { return (double)nb_count(y->in[2]); }

static nb_tensor *scatter_add_sample(nb_sampler *s, int i) {
    static const struct {
        int     axis;
        nb_dims x, index;
    } c[] = {
        {1, {2, {3, 4}}, {2, {3, 2}}},       {0, {2, {3, 4}}, {2, {5, 4}}}, {-1, {1, {3}}, {1, {17}}},
        {1, {3, {2, 3, 2}}, {3, {2, 1, 2}}}, {0, {1, {4}}, {1, {0}}},
    };
    if (i >= (int)(sizeof c / sizeof *c)) return NULL;
    nb_tensor *x = s->real(s, -2, 2, c[i].x), *source = s->real(s, -2, 2, c[i].index);
    return nb_scatter_add(x, c[i].axis, s->integer(s, i & 1 ? NB_I32 : NB_I64, 0, nb_size(x, c[i].axis), c[i].index), source);
}

const nb_op nb__op_scatter_add = {
    .name = "scatter_add",
    .formula = "y_{kj} = x_{kj} + \\sum_{i : k_{ij} = k} s_{ij}",
    .gradient = "dx = dy,\\quad ds_{ij} = dy_{k_{ij} j}",
    .kind = NB_INDEX,
    .arity = 3,
    .attr_size = sizeof(nb__axis_attr),
    .infer = scatter_add_infer,
    .derivative = scatter_add_derivative,
    .run = scatter_add_run,
    .flops = scatter_add_flops,
    .sample = scatter_add_sample,
    .describe = axis_describe,
};

nb_tensor *nb_scatter_add(nb_tensor *x, int axis, nb_tensor *index, nb_tensor *source) {
    return along_axis(&nb__op_scatter_add, 3, (nb_tensor *[]){x, index, source}, axis);
}

/* --------------------------------------------------------------------------------------------------------------- index_select */

/* x's shape with its axis replaced by the index's axes. */
static bool index_select_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims x = in[0]->shape, index = in[1]->shape, shape = {0};
    int64_t axis = axis_of(attr);
    if (!check_index(nb, "index_select", in[1]) || !nb__check_axis(nb, "index_select", x.rank, &axis)) return false;
    if (x.rank - 1 + index.rank > NB_MAX_RANK) {
        nb_fail(nb, NB_INVALID, "index_select: x %s and index %s make more than %d axes", nb__dims_text(x).at,
                nb__dims_text(index).at, NB_MAX_RANK);
        return false;
    }
    for (int i = 0; i < axis; i++) shape.size[shape.rank++] = x.size[i];
    for (int i = 0; i < index.rank; i++) shape.size[shape.rank++] = index.size[i];
    for (int64_t i = axis + 1; i < x.rank; i++) shape.size[shape.rank++] = x.size[i];
    *out = (nb_type){in[0]->dtype, shape};
    return true;
}

/* A scatter_add whose index is the same all along the other axes. */
static void index_select_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    if (!want[0]) return;
    nb_tensor *x = y->in[0], *index = y->in[1];
    int64_t    axis = axis_of(y->attr), count = nb_count(index);
    nb_dims    rows = x->shape, line = {.rank = x->shape.rank};
    rows.size[axis] = count;
    for (int i = 0; i < line.rank; i++) line.size[i] = i == axis ? count : 1;
    nb_tensor *places = nb_expand(nb_reshape(index, line), rows);
    dx[0] = nb_scatter_add(nb__zeros_for(x), (int)axis, places, nb_reshape(dy, rows));
}

static void index_select_run(const nb_call *c) {
    const nb_array *x = &c->in[0], *index = &c->in[1], *out = &c->out;
    int             axis = (int)axis_of(c->attr), k = index->rank;
    int64_t         at[NB_MAX_RANK] = {0}, element = 0;
    nb_array        to = {.dtype = out->dtype, .rank = x->rank - 1}, from = to;
    for (int i = 0; i < to.rank; i++) { /* one row of the result, and one of x */
        int xi = i < axis ? i : i + 1, oi = i < axis ? i : i + k;
        to.shape[i] = from.shape[i] = x->shape[xi];
        to.stride[i] = out->stride[oi];
        from.stride[i] = x->stride[xi];
    }
    if (is_empty(index)) return;
    do {
        int64_t place = place_at(c, "index_select", index, nb__offset(index, at), x->shape[axis], element++), offset = 0;
        for (int i = 0; i < k; i++) offset += at[i] * out->stride[axis + i];
        if (place < 0) continue;
        to.data = (char *)out->data + offset * (int64_t)nb_dtype_size(out->dtype);
        from.data = (char *)x->data + place * x->stride[axis] * (int64_t)nb_dtype_size(out->dtype);
        nb__copy_elements(&to, &from);
    } while (nb__next_index(k, index->shape, at));
}

static nb_tensor *index_select_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_index_select(s->real(s, -2, 2, nb_shape(3, 4)), 0, s->integer(s, NB_I64, 0, 3, nb_shape(5)));
    case 1: return nb_index_select(s->real(s, -2, 2, nb_shape(3, 4)), 1, s->integer(s, NB_I32, 0, 4, nb_shape(2, 3)));
    case 2: return nb_index_select(s->real(s, -2, 2, nb_shape(2, 3, 2)), 1, s->integer(s, NB_I64, 0, 3, nb_shape()));
    case 3: return nb_index_select(s->real(s, -2, 2, nb_shape(4)), -1, s->integer(s, NB_I64, 0, 4, nb_shape(0)));
    case 4:
        return nb_index_select(nb_transpose(s->real(s, -2, 2, nb_shape(2, 3)), 0, 1), 0,
                               s->integer(s, NB_I64, 0, 3, nb_shape(2, 2)));
    case 5: return nb_index_select(s->real(s, -2, 2, nb_shape(3, 17)), 0, s->integer(s, NB_I32, 0, 3, nb_shape(1)));
    default: return NULL;
    }
}

const nb_op nb__op_index_select = {
    .name = "index_select",
    .formula = "y_{ij} = x_{k_i j}",
    .gradient = "dx_{kj} = \\sum_{i : k_i = k} dy_{ij}",
    .kind = NB_INDEX,
    .arity = 2,
    .attr_size = sizeof(nb__axis_attr),
    .infer = index_select_infer,
    .derivative = index_select_derivative,
    .run = index_select_run,
    .flops = nb__no_flops,
    .sample = index_select_sample,
    .describe = axis_describe,
};

nb_tensor *nb_index_select(nb_tensor *x, int axis, nb_tensor *index) {
    return along_axis(&nb__op_index_select, 2, (nb_tensor *[]){x, index}, axis);
}

/* -------------------------------------------------------------------------------------------------------------------- one_hot */

static bool one_hot_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const nb__one_hot_attr *a = attr;
    nb_dims                 shape = in[0]->shape;
    if (!check_index(nb, "one_hot", in[0])) return false;
    if (a->classes < 1 || shape.rank == NB_MAX_RANK) {
        nb_fail(nb, NB_INVALID, "one_hot: %lld classes for an index %s: needs at least 1 class and an index of at most %d axes",
                (long long)a->classes, nb__dims_text(shape).at, NB_MAX_RANK - 1);
        return false;
    }
    shape.size[shape.rank++] = a->classes;
    *out = (nb_type){(nb_dtype)a->dtype, shape};
    return true;
}

static void one_hot_run(const nb_call *c) {
    const nb_array *index = &c->in[0];
    int64_t         at[NB_MAX_RANK] = {0}, element = 0;
    nb__fill_elements(&c->out, 0);
    if (is_empty(index)) return;
    do {
        int64_t  place = place_at(c, "one_hot", index, nb__offset(index, at), c->out.shape[index->rank], element++);
        nb_array row = c->out;
        row.rank = index->rank;
        if (place >= 0) nb__store(&c->out, nb__offset(&row, at) + place * c->out.stride[index->rank], 1);
    } while (nb__next_index(index->rank, index->shape, at));
}

static nb_tensor *one_hot_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_one_hot(s->integer(s, NB_I64, 0, 5, nb_shape(4)), 5, NB_F32);
    case 1: return nb_one_hot(s->integer(s, NB_I32, 0, 1, nb_shape(2, 3)), 1, NB_F64);
    case 2: return nb_one_hot(s->integer(s, NB_I64, 0, 3, nb_shape()), 3, NB_BOOL);
    case 3: return nb_one_hot(s->integer(s, NB_I64, 0, 3, nb_shape(0)), 3, NB_I32);
    default: return NULL;
    }
}

static void one_hot_describe(const void *attr, char *text, size_t size) {
    const nb__one_hot_attr *a = attr;
    snprintf(text, size, "classes=%lld dtype=%s", (long long)a->classes, nb_dtype_name((nb_dtype)a->dtype));
}

const nb_op nb__op_one_hot = {
    .name = "one_hot",
    .formula = "y_{ij} = [j = k_i]",
    .kind = NB_INDEX,
    .arity = 1,
    .attr_size = sizeof(nb__one_hot_attr),
    .infer = one_hot_infer,
    .run = one_hot_run,
    .flops = nb__no_flops,
    .sample = one_hot_sample,
    .describe = one_hot_describe,
};

nb_tensor *nb_one_hot(nb_tensor *index, int64_t classes, nb_dtype dtype) {
    nb__one_hot_attr attr = {classes, dtype};
    if (!index) return NULL;
    return nb_apply(index->nb, &nb__op_one_hot, 1, &index, &attr);
}
