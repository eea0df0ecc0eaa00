/* create.c: tensors made of nothing: constants and ranges. The random ones are in random.c. */
#include <math.h>
#include <stdio.h>

#include "ops.h"

static bool create_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)nb, (void)in, (void)n_in;
    const nb__create_attr *a = attr;
    *out = (nb_type){(nb_dtype)a->dtype, a->shape};
    return true;
}

/* Fills out with a function of the index. */
static void fill(const nb_call *call, double (*value)(const nb__create_attr *attr, const int64_t *index)) {
    int64_t index[NB_MAX_RANK] = {0};
    for (int i = 0; i < call->out.rank; i++)
        if (!call->out.shape[i]) return;
    do nb__store(&call->out, nb__offset(&call->out, index), value(call->attr, index));
    while (nb__next_index(call->out.rank, call->out.shape, index));
}

static double full_value(const nb__create_attr *a, const int64_t *index) {
    (void)index;
    return a->p;
}

static double arange_value(const nb__create_attr *a, const int64_t *index) { return a->p + (double)index[0] * a->q; }

/* From the nearer end, so that both ends are exact. */
static double linspace_value(const nb__create_attr *a, const int64_t *index) {
    int64_t i = index[0], last = a->shape.size[0] - 1;
    if (last == 0) return a->p;
    double step = (a->q - a->p) / (double)last;
    return 2 * i <= last ? a->p + (double)i * step : a->q - (double)(last - i) * step;
}

static double eye_value(const nb__create_attr *a, const int64_t *index) {
    (void)a;
    return index[0] == index[1];
}

static void full_run(const nb_call *call) { fill(call, full_value); }
static void arange_run(const nb_call *call) { fill(call, arange_value); }
static void linspace_run(const nb_call *call) { fill(call, linspace_value); }
static void eye_run(const nb_call *call) { fill(call, eye_value); }

static void full_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "%g", ((const nb__create_attr *)attr)->p);
}

static void arange_describe(const void *attr, char *text, size_t size) {
    const nb__create_attr *a = attr;
    snprintf(text, size, "start=%g step=%g", a->p, a->q);
}

static void linspace_describe(const void *attr, char *text, size_t size) {
    const nb__create_attr *a = attr;
    snprintf(text, size, "from=%g to=%g", a->p, a->q);
}

/* The samples take a real operand along, so that there is something to differentiate. */
static nb_tensor *full_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(), nb_shape(3), nb_shape(2, 3), nb_shape(0, 3)};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, shapes[i]);
    return nb_mul(x, nb_full(s->nb, nb_dtype_of(x), shapes[i], 1.5));
}

static nb_tensor *arange_sample(nb_sampler *s, int i) {
    const double range[][3] = {{0, 5, 1}, {-1, 1, 0.25}, {3, 0, -1}, {0, 0, 1}};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, nb_shape(2, 1));
    return nb_mul(x, nb_arange(s->nb, nb_dtype_of(x), range[i][0], range[i][1], range[i][2]));
}

static nb_tensor *linspace_sample(nb_sampler *s, int i) {
    const int64_t count[] = {5, 1, 0, 8};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, nb_shape(2, 1));
    return nb_mul(x, nb_linspace(s->nb, nb_dtype_of(x), -1, 2, count[i]));
}

static nb_tensor *eye_sample(nb_sampler *s, int i) {
    const int64_t size[][2] = {{3, 3}, {2, 4}, {4, 1}, {0, 3}};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, nb_shape(size[i][0], size[i][1]));
    return nb_mul(x, nb_eye(s->nb, nb_dtype_of(x), size[i][0], size[i][1]));
}

#define CREATE(op, math, describe_) \
    const nb_op nb__op_##op = {.name = #op, \
                               .formula = math, \
                               .kind = NB_LEAF, \
                               .attr_size = sizeof(nb__create_attr), \
                               .infer = create_infer, \
                               .run = op##_run, \
                               .sample = op##_sample, \
                               .describe = describe_};
CREATE(full, "y = p", full_describe)
CREATE(arange, "y_i = p + q\\,i", arange_describe)
CREATE(linspace, "y_i = p + (q - p) \\frac{i}{n - 1}", linspace_describe)
CREATE(eye, "y_{ij} = [i = j]", NULL)

/* ------------------------------------------------------------------------------------------------------------ constructors -- */

static nb_tensor *create(nb_context *nb, const nb_op *op, nb_dtype dtype, nb_dims shape, double p, double q) {
    if (!nb__check_shape(nb, op->name, dtype, shape)) return &nb->failed;
    for (int64_t i = shape.rank; i < NB_MAX_RANK; i++) shape.size[i] = 0; /* attributes are compared as bytes */
    return nb_apply(nb, op, 0, NULL, &(nb__create_attr){.dtype = dtype, .shape = shape, .p = p, .q = q});
}

/* Whether a type can hold a value: whole numbers and bool have no fractions and a range. False: the context has failed. */
static bool check_value(nb_context *nb, const char *user, nb_dtype dtype, double v) {
    double low = 0, high = 0;
    switch (dtype) {
    case NB_I32: low = INT32_MIN, high = INT32_MAX; break;
    case NB_I64: low = -0x1p63, high = 0x1p63 - 1024; break;
    case NB_U8: high = 255; break;
    case NB_BOOL: high = 1; break;
    default: return true;
    }
    if (v >= low && v <= high && v == floor(v)) return true;
    nb_fail(nb, NB_INVALID, "%s: %s cannot hold %g; choose another type, or convert with nb_cast", user, nb_dtype_name(dtype), v);
    return false;
}

nb_tensor *nb_full(nb_context *nb, nb_dtype dtype, nb_dims shape, double value) {
    if (!check_value(nb, "full", dtype, value)) return &nb->failed;
    return create(nb, &nb__op_full, dtype, shape, value, 0);
}

nb_tensor *nb_number(nb_context *nb, double value) {
    nb_tensor *t = nb_full(nb, NB_F32, nb_shape(), value);
    if (!t->is_failed) t->is_number = true;
    return t;
}

nb_tensor *nb__adapt(nb_tensor *t, const char *user, nb_dtype dtype) {
    if (!t->is_number || t->dtype == dtype) return t;
    double value = ((const nb__create_attr *)t->attr)->p;
    return check_value(t->nb, user, dtype, value) ? nb_full(t->nb, dtype, nb_shape(), value) : &t->nb->failed;
}

nb_tensor *nb_zeros(nb_context *nb, nb_dtype dtype, nb_dims shape) { return nb_full(nb, dtype, shape, 0); }
nb_tensor *nb_ones(nb_context *nb, nb_dtype dtype, nb_dims shape) { return nb_full(nb, dtype, shape, 1); }

static nb_tensor *full_like(nb_tensor *x, double value, const char *user) {
    if (!x) return NULL;
    nb_tensor *refused = nb__refuse(x->nb, x, 0, user);
    return refused ? refused : nb_full(x->nb, x->dtype, x->shape, value);
}

nb_tensor *nb_zeros_like(nb_tensor *x) { return full_like(x, 0, "zeros_like"); }
nb_tensor *nb_ones_like(nb_tensor *x) { return full_like(x, 1, "ones_like"); }

nb_tensor *nb_arange(nb_context *nb, nb_dtype dtype, double start, double stop, double step) {
    if (!isfinite(start) || !isfinite(stop) || !isfinite(step) || step == 0)
        return nb_fail(nb, NB_INVALID, "arange: from %g to %g by %g has no end", start, stop, step);
    double count = ceil((stop - start) / step);
    if (count > 0x1p40) return nb_fail(nb, NB_INVALID, "arange: %g elements are more than this machine can address", count);
    if (!check_value(nb, "arange", dtype, start)) return &nb->failed;
    if (count > 1 && !nb__is_float(dtype) && step != floor(step))
        return nb_fail(nb, NB_INVALID, "arange: steps of %g are not of type %s", step, nb_dtype_name(dtype));
    if (count > 1 && !check_value(nb, "arange", dtype, start + (count - 1) * step)) return &nb->failed;
    return create(nb, &nb__op_arange, dtype, nb_shape(count > 0 ? (int64_t)count : 0), start, step);
}

nb_tensor *nb_linspace(nb_context *nb, nb_dtype dtype, double first, double last, int64_t count) {
    if (!nb__is_float(dtype)) return nb_fail(nb, NB_INVALID, "linspace: makes f32 or f64, not %s", nb_dtype_name(dtype));
    return create(nb, &nb__op_linspace, dtype, nb_shape(count), first, last);
}

nb_tensor *nb_eye(nb_context *nb, nb_dtype dtype, int64_t rows, int64_t columns) {
    return create(nb, &nb__op_eye, dtype, nb_shape(rows, columns), 0, 0);
}
