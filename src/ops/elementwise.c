/* elementwise.c: the operators of elementwise.def: shape rule, reference loop, samples, descriptors, constructors.
 *
 * A row is expanded six times: as enum, descriptor and constructor here, as double and whole formula, as derivative, and, in the
 * kernels, as a float loop for each instruction set. */
#include <math.h>
#include <stdio.h>

#include "elementwise.h"

typedef enum type_class { F, N, A, B, W } type_class;

static const struct row {
    const char *name;
    int         operands, parameters;
    type_class  types;
    bool        is_bool; /* the result */
    double      low, high;
} rows[] = {
#define SAME false
#define BOOL true
#define ROW(name, operands, parameters, types, result, formula, da, db, dc, math, gradient, low, high)                           \
    {#name, operands, parameters, types, result, low, high},
#include "elementwise.def"
#undef ROW
#undef SAME
#undef BOOL
};

/* -------------------------------------------------------------------------------------------------------------- shape rule -- */

static bool accepts(type_class types, nb_dtype dtype) {
    switch (types) {
    case F: return nb__is_float(dtype);
    case N: return nb__is_float(dtype) || nb__is_integer(dtype);
    case B: return dtype == NB_BOOL;
    default: return true;
    }
}

static const char *const accepted[] = {[F] = "f32 or f64", [N] = "numbers", [A] = "any type", [B] = "bool", [W] = "any type"};

static void fail_broadcast(nb_context *nb, const char *name, nb_dims a, nb_dims b) {
    for (int64_t i = 1; i <= a.rank && i <= b.rank; i++) {
        long long m = a.size[a.rank - i], n = b.size[b.rank - i];
        if (m == n || m == 1 || n == 1) continue;
        nb_fail(nb, NB_INVALID, "%s: %s and %s do not broadcast: axis sizes %lld and %lld differ", name, nb__dims_text(a).at,
                nb__dims_text(b).at, m, n);
        return;
    }
}

static bool infer_row(int number, nb_context *nb, nb_tensor *const *in, int n_in, nb_type *out) {
    const struct row *row = &rows[number];
    int               first = row->types == W; /* of the operands whose types must agree */
    nb_dtype          dtype = in[first]->dtype;
    if (row->types == W && in[0]->dtype != NB_BOOL) {
        nb_fail(nb, NB_INVALID, "%s: the condition is %s, not bool; convert it with nb_cast", row->name,
                nb_dtype_name(in[0]->dtype));
        return false;
    }
    for (int i = first; i < n_in; i++) {
        if (!accepts(row->types, in[i]->dtype)) {
            nb_fail(nb, NB_INVALID, "%s: takes %s, not %s; convert with nb_cast", row->name, accepted[row->types],
                    nb_dtype_name(in[i]->dtype));
            return false;
        }
        if (in[i]->dtype != dtype) {
            nb_fail(nb, NB_INVALID, "%s: %s and %s are different types; convert one with nb_cast", row->name,
                    nb_dtype_name(dtype), nb_dtype_name(in[i]->dtype));
            return false;
        }
    }
    out->dtype = row->is_bool ? NB_BOOL : dtype;
    out->shape = in[0]->shape;
    for (int i = 1; i < n_in; i++) {
        nb_dims so_far = out->shape;
        if (nb__broadcast(so_far, in[i]->shape, &out->shape)) continue;
        fail_broadcast(nb, row->name, so_far, in[i]->shape);
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- reference loop -- */

/* A bound of clamp for whole numbers, saturating. */
static int64_t bound(double v) { return v >= 0x1p63 ? INT64_MAX : v > -0x1p63 ? (int64_t)v : INT64_MIN; }

static void run_row(int number, const nb_call *call) {
    nb__scalars s = {0};
    if (call->attr) s = *(const nb__scalars *)call->attr;
    int64_t low = bound(ceil(s.p)), high = bound(floor(s.q));
    bool    real = nb__is_float(call->in[call->n_in - 1].dtype);
    int64_t index[NB_MAX_RANK] = {0};
    for (int i = 0; i < call->out.rank; i++)
        if (!call->out.shape[i]) return;
    do {
        int64_t at = nb__offset(&call->out, index);
        if (real) {
            double v[3] = {0};
            for (int i = 0; i < call->n_in; i++) v[i] = nb__load(&call->in[i], nb__offset(&call->in[i], index));
            nb__store(&call->out, at, nb__row_real(number, v[0], v[1], v[2], s.p, s.q));
        } else {
            int64_t v[3] = {0};
            for (int i = 0; i < call->n_in; i++) v[i] = nb__load_int(&call->in[i], nb__offset(&call->in[i], index));
            nb__store_wrapped(&call->out, at, nb__row_whole(number, v[0], v[1], v[2], low, high));
        }
    } while (nb__next_index(call->out.rank, call->out.shape, index));
}

/* ----------------------------------------------------------------------------------------------------------------- samples -- */

/* Shapes of the operands of one sample. Of three (where), the condition has the first. */
typedef struct shapes {
    nb_dims a, b, c;
} shapes;

static bool sample_shapes(int i, shapes *s) {
    const shapes list[] = {
        {nb_shape(3, 4), nb_shape(3, 4), nb_shape(3, 4)},
        {nb_shape(), nb_shape(), nb_shape()},
        {nb_shape(2, 1, 3), nb_shape(2, 1, 3), nb_shape(2, 1, 3)},
        {nb_shape(0, 3), nb_shape(1, 3), nb_shape(3)},
        {nb_shape(7), nb_shape(), nb_shape(7)},
        {nb_shape(4), nb_shape(3, 4), nb_shape(3, 1)},
        {nb_shape(3, 1), nb_shape(1, 4), nb_shape()},
        {nb_shape(2, 3, 2), nb_shape(3, 1), nb_shape(1, 1, 2)},
        {nb_shape(1), nb_shape(5), nb_shape(1)},
    };
    if (i < 0 || i >= (int)(sizeof list / sizeof *list)) return false;
    *s = list[i];
    return true;
}
enum { SAME_TWICE = 9 }; /* the sample after those */

static nb_tensor *sample_operand(const struct row *row, nb_sampler *s, int operand, nb_dims shape) {
    if (row->types == B || (row->types == W && operand == 0)) return s->integer(s, NB_BOOL, 0, 2, shape);
    return s->real(s, row->low, row->high, shape);
}

static nb_tensor *sample_row(int number, nb_sampler *s, int i) {
    const struct row *row = &rows[number];
    nb__scalars       scalars = {-0.5, 1.25};
    nb_tensor        *in[3];
    shapes            shape;
    if (row->parameters == 1) scalars = (nb__scalars){0.3, 0};
    if (i == SAME_TWICE && row->operands > 1) {
        int last = row->operands - 1;
        for (int k = 0; k < last; k++) in[k] = sample_operand(row, s, k, nb_shape(2, 3));
        in[last] = in[last - 1];
    } else {
        if (!sample_shapes(i, &shape)) return NULL;
        for (int k = 0; k < row->operands; k++) in[k] = sample_operand(row, s, k, k == 0 ? shape.a : k == 1 ? shape.b : shape.c);
    }
    return nb_apply(s->nb, &nb__elementwise[number], row->operands, in, row->parameters ? &scalars : NULL);
}

/* ------------------------------------------------------------------------------------------------------------- descriptors -- */

static void describe_1(const void *attr, char *text, size_t size) {
    snprintf(text, size, "p=%g", ((const nb__scalars *)attr)->p);
}

static void describe_2(const void *attr, char *text, size_t size) {
    const nb__scalars *s = attr;
    snprintf(text, size, "p=%g q=%g", s->p, s->q);
}

#define ROW(name, ...)                                                                                                           \
    static bool infer_##name(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {                   \
        (void)attr;                                                                                                              \
        return infer_row(NB__ROW_NUMBER_##name, nb, in, n_in, out);                                                              \
    }                                                                                                                            \
    static void       run_##name(const nb_call *call) { run_row(NB__ROW_NUMBER_##name, call); }                                  \
    static nb_tensor *sample_##name(nb_sampler *s, int i) { return sample_row(NB__ROW_NUMBER_##name, s, i); }
#include "elementwise.def"
#undef ROW

const nb_op nb__elementwise[] = {
#define DERIVATIVE_SAME nb__row_derivative
#define DERIVATIVE_BOOL NULL
#define ATTR_0 0
#define ATTR_1 sizeof(nb__scalars)
#define ATTR_2 sizeof(nb__scalars)
#define describe_0 NULL
#define ROW(name_, operands, parameters, types, result, formula_, da, db, dc, math, gradient_, low, high)                        \
    {.name = #name_,                                                                                                             \
     .formula = math,                                                                                                            \
     .gradient = gradient_,                                                                                                      \
     .kind = NB_ELEMENTWISE,                                                                                                     \
     .arity = operands,                                                                                                          \
     .attr_size = ATTR_##parameters,                                                                                             \
     .infer = infer_##name_,                                                                                                     \
     .derivative = DERIVATIVE_##result,                                                                                          \
     .run = run_##name_,                                                                                                         \
     .sample = sample_##name_,                                                                                                   \
     .describe = describe_##parameters},
#include "elementwise.def"
#undef ROW
};
const int nb__elementwise_count = NB__ROW_COUNT;

int nb__row_of(const nb_op *op) {
    uintptr_t at = (uintptr_t)op, first = (uintptr_t)nb__elementwise;
    return at >= first && at < first + sizeof nb__elementwise ? (int)((at - first) / sizeof *op) : -1;
}

/* ------------------------------------------------------------------------------------------------------------ constructors -- */

/* Literals (nb_number) take the type of the first operand that is none; the condition of `where` is apart. */
static bool adapt(const struct row *row, nb_tensor **in) {
    nb_tensor *like = NULL;
    for (int i = row->types == W; i < row->operands && !like; i++)
        if (!in[i]->is_number) like = in[i];
    for (int i = 0; i < row->operands; i++) {
        nb_dtype dtype = row->types == W && i == 0 ? NB_BOOL : like ? like->dtype : in[i]->dtype;
        in[i] = nb__adapt(in[i], row->name, dtype);
        if (in[i]->is_failed) return false;
    }
    return true;
}

static nb_tensor *build(int number, nb_tensor **in, const nb__scalars *scalars) {
    const struct row *row = &rows[number];
    nb_context       *nb = nb__context_of(row->operands, in);
    if (!nb) return NULL;
    for (int i = 0; i < row->operands; i++)
        if (nb__refuse(nb, in[i], i, row->name)) return &nb->failed;
    if (!adapt(row, in)) return &nb->failed;
    return nb_apply(nb, &nb__elementwise[number], row->operands, in, scalars);
}

#define BUILD_1_0(name)                                                                                                          \
    nb_tensor *nb_##name(nb_tensor *x) { return build(NB__ROW_NUMBER_##name, (nb_tensor *[]){x}, NULL); }
#define BUILD_1_1(name)                                                                                                          \
    nb_tensor *nb_##name(nb_tensor *x, double p) {                                                                               \
        return build(NB__ROW_NUMBER_##name, (nb_tensor *[]){x}, &(nb__scalars){p, 0});                                           \
    }
#define BUILD_1_2(name)                                                                                                          \
    nb_tensor *nb_##name(nb_tensor *x, double p, double q) {                                                                     \
        return build(NB__ROW_NUMBER_##name, (nb_tensor *[]){x}, &(nb__scalars){p, q});                                           \
    }
#define BUILD_2_0(name)                                                                                                          \
    nb_tensor *nb_##name(nb_tensor *a, nb_tensor *b) { return build(NB__ROW_NUMBER_##name, (nb_tensor *[]){a, b}, NULL); }
#define BUILD_3_0(name)                                                                                                          \
    nb_tensor *nb_##name(nb_tensor *a, nb_tensor *b, nb_tensor *c) {                                                             \
        return build(NB__ROW_NUMBER_##name, (nb_tensor *[]){a, b, c}, NULL);                                                     \
    }
#define ROW(name, operands, parameters, ...) BUILD_##operands##_##parameters(name)
#include "elementwise.def"
#undef ROW
