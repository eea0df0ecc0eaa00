/* reduce.h: what the files of reductions share; in reduce.c. */
#ifndef NB_REDUCE_H
#define NB_REDUCE_H

#include "ops.h"

/* False, and the context has failed, for all but f32 and f64. */
bool nb__check_reals(nb_context *nb, const char *user, nb_dtype dtype);
/* Axes as an attribute block: checked (x too), ascending, none named: all. */
bool nb__take_axes(nb_tensor *x, const char *user, nb_dims axes, nb__axes_attr *attr);
/* The shape after a reduction that keeps the axes with size 1. */
nb_dims nb__keep_axes(nb_dims shape, nb_dims axes);
/* y without the axes, which have size 1. */
nb_tensor *nb__drop_axes(nb_tensor *y, nb_dims axes);
/* op, which reduces one axis, over any axes: several are made one first. */
nb_tensor *nb__over_axis(const nb_op *op, nb_tensor *x, nb_dims axes, bool keepdim);
/* Shape rule of an op that reduces one axis; whether it may be empty; the result's type. */
bool nb__axis_infer(nb_context *nb, nb_tensor *const *in, const nb_op *op, const void *attr, bool empty, nb_dtype dtype,
                    nb_type *out);

/* Reference: calls one(c, part, at) for each element of the result; part holds the elements it comes from, at is its own
 * offset. */
typedef void nb__one_element(const nb_call *c, const nb_array *part, int64_t at);
void         nb__for_each(const nb_call *c, nb_dims axes, nb__one_element *one);
nb_dims      nb__axis_of(const void *attr); /* of an nb__axis_attr, as a list */
bool         nb__holds_reals(const nb_array *a);

double nb__reduce_flops(const nb_tensor *y); /* one an operand's element */
void   nb__axes_describe(const void *attr, char *text, size_t size);
void   nb__axis_describe(const void *attr, char *text, size_t size);

/* Samples of reductions: several axes, none, size 1; sums over empty axes if asked for. keepdim alternates. */
typedef nb_tensor *nb__reduction(nb_tensor *x, nb_dims axes, bool keepdim);
nb_tensor         *nb__axes_sample(nb_sampler *s, int i, double low, double high, bool empty, nb__reduction *reduce);

#endif
