/* cast.c: conversion between types. */
#include <stdio.h>

#include "ops.h"

static bool cast_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)nb, (void)n_in;
    *out = (nb_type){(nb_dtype)((const nb__cast_attr *)attr)->dtype, in[0]->shape};
    return true;
}

/* Between floats only: a whole number has no derivative. */
static void cast_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_tensor *x = y->in[0];
    if (want[0] && nb__is_float(x->dtype) && nb__is_float(y->dtype)) dx[0] = nb_cast(dy, x->dtype);
}

static void cast_run(const nb_call *call) {
    const nb_array *x = &call->in[0], *y = &call->out;
    int64_t         index[NB_MAX_RANK] = {0};
    for (int i = 0; i < y->rank; i++)
        if (!y->shape[i]) return;
    do {
        int64_t from = nb__offset(x, index), to = nb__offset(y, index);
        if (nb__is_float(x->dtype)) nb__store(y, to, nb__load(x, from));
        else nb__store_int(y, to, nb__load_int(x, from));
    } while (nb__next_index(y->rank, y->shape, index));
}

static nb_tensor *cast_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_cast(s->real(s, -2, 2, nb_shape(3, 4)), NB_F64);
    case 1: return nb_cast(s->real(s, -2, 2, nb_shape(2, 1, 3)), NB_F64);
    case 2: return nb_cast(nb_cast(s->real(s, -2, 2, nb_shape(5)), NB_F64), NB_F64);
    case 3: return nb_cast(s->real(s, -2, 2, nb_shape(0, 3)), NB_F64);
    case 4: return nb_cast(s->real(s, -2, 2, nb_shape()), NB_F64);
    default: return NULL;
    }
}

static void cast_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "%s", nb_dtype_name((nb_dtype)((const nb__cast_attr *)attr)->dtype));
}

const nb_op nb__op_cast = {
    .name = "cast",
    .formula = "y = x",
    .gradient = "dx = dy",
    .kind = NB_ELEMENTWISE,
    .arity = 1,
    .attr_size = sizeof(nb__cast_attr),
    .infer = cast_infer,
    .derivative = cast_derivative,
    .run = cast_run,
    .sample = cast_sample,
    .describe = cast_describe,
};

nb_tensor *nb_cast(nb_tensor *x, nb_dtype dtype) {
    if (!x) return NULL;
    if (nb__refuse(x->nb, x, 0, "cast")) return &x->nb->failed;
    /* A literal becomes a plain scalar. */
    if (x->is_number) return nb_apply(x->nb, &nb__op_cast, 1, &x, &(nb__cast_attr){dtype});
    return x->dtype == dtype ? x : nb_apply(x->nb, &nb__op_cast, 1, &x, &(nb__cast_attr){dtype});
}
