/* ops.c: the list of operators, and what their reference loops and derivatives share. */
#include <math.h>
#include <string.h>

#include "ops.h"

/* ---------------------------------------------------------------------------------------------------------------- the list -- */

static const nb_op *const listed[] = {
#define OP(name) &nb__op_##name,
#include "list.def"
#undef OP
};

/* First the rows of elementwise.def, then list.def: together the order of nabla/ops.h, but for the types and compositions that
 * follow the rows. */
const nb_op *nb_op_at(int i) {
    if (i < 0) return NULL;
    if (i < nb__elementwise_count) return &nb__elementwise[i];
    i -= nb__elementwise_count;
    return i < (int)(sizeof listed / sizeof *listed) ? listed[i] : NULL;
}

const nb_op *nb_op_find(const char *name) {
    const nb_op *op;
    for (int i = 0; (op = nb_op_at(i)); i++)
        if (!strcmp(op->name, name)) return op;
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- graph helpers -- */

nb_context *nb__context_of(int n, nb_tensor *const *operands) {
    for (int i = 0; i < n; i++)
        if (operands[i]) return operands[i]->nb;
    return NULL;
}

nb_tensor *nb__scalar(nb_tensor *like, double value) {
    if (like->is_failed) return like;
    return nb_full(like->nb, like->dtype, nb_shape(), value);
}

nb_tensor *nb__sum_to(nb_tensor *x, nb_dims shape) {
    if (x->is_failed || nb__dims_equal(x->shape, shape)) return x;
    int64_t lead = x->shape.rank - shape.rank;
    nb_dims axes = {.rank = 0};
    for (int i = 0; i < x->shape.rank; i++)
        if (i < lead || x->shape.size[i] != shape.size[i - lead]) axes.size[axes.rank++] = i;
    return nb_reshape(nb_sum(x, axes, true), shape);
}

/* ---------------------------------------------------------------------------------------------------------- element access -- */

int64_t nb__offset(const nb_array *a, const int64_t *index) {
    int64_t offset = 0;
    for (int i = 0; i < a->rank; i++) offset += index[i] * a->stride[i];
    return offset;
}

bool nb__next_index(int rank, const int64_t *shape, int64_t *index) {
    for (int i = rank - 1; i >= 0; i--) {
        if (++index[i] < shape[i]) return true;
        index[i] = 0;
    }
    return false;
}

/* Towards zero; what is too large becomes the largest there is, NaN becomes 0. */
static int64_t whole(double v, int64_t low, int64_t high) {
    if (v != v) return 0;
    if (v <= (double)low) return low;
    return v >= (double)high ? high : (int64_t)v;
}

static int64_t within(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

double nb__load(const nb_array *a, int64_t i) {
    switch (a->dtype) {
    case NB_F32: return ((const float *)a->data)[i];
    case NB_F64: return ((const double *)a->data)[i];
    default: return (double)nb__load_int(a, i);
    }
}

int64_t nb__load_int(const nb_array *a, int64_t i) {
    switch (a->dtype) {
    case NB_I32: return ((const int32_t *)a->data)[i];
    case NB_I64: return ((const int64_t *)a->data)[i];
    case NB_U8: return ((const uint8_t *)a->data)[i];
    case NB_BOOL: return ((const uint8_t *)a->data)[i] != 0;
    default: return whole(nb__load(a, i), INT64_MIN, INT64_MAX);
    }
}

void nb__store(const nb_array *a, int64_t i, double v) {
    switch (a->dtype) {
    case NB_F32: ((float *)a->data)[i] = (float)v; break;
    case NB_F64: ((double *)a->data)[i] = v; break;
    case NB_BOOL: ((uint8_t *)a->data)[i] = v != 0; break;
    default: nb__store_int(a, i, whole(v, INT64_MIN, INT64_MAX));
    }
}

void nb__store_int(const nb_array *a, int64_t i, int64_t v) {
    switch (a->dtype) {
    case NB_F32: ((float *)a->data)[i] = (float)v; break;
    case NB_F64: ((double *)a->data)[i] = (double)v; break;
    case NB_I32: ((int32_t *)a->data)[i] = (int32_t)within(v, INT32_MIN, INT32_MAX); break;
    case NB_I64: ((int64_t *)a->data)[i] = v; break;
    case NB_U8: ((uint8_t *)a->data)[i] = (uint8_t)within(v, 0, 255); break;
    case NB_BOOL: ((uint8_t *)a->data)[i] = v != 0; break;
    default: break; /* f16 and bf16: no operator has them */
    }
}

void nb__store_wrapped(const nb_array *a, int64_t i, int64_t v) {
    uint64_t bits = (uint64_t)v;
    nb__store_int(a, i, a->dtype == NB_I32 ? (int32_t)(uint32_t)bits : a->dtype == NB_U8 ? (uint8_t)bits : v);
}
