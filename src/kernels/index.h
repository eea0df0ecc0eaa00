/* index.h: what kernels that go by indices share. */
#ifndef NB_INDEX_H
#define NB_INDEX_H

#include <string.h>

#include "copy.h"

/* An array seen as [outer, axis, inner], each of the three with one stride. */
typedef struct nb__folded {
    int64_t size[3], stride[3];
} nb__folded;

/* The axis is made of axes first..last-1; false if something does not lie evenly. */
bool nb__fold(const nb_array *a, int first, int last, nb__folded *f);
/* Gather and scatter_add treat all axes but one alike: nests them in all arrays as they lie in the first. The new place of that
 * axis. */
int nb__nest_axes(nb_array *array, int n, int axis);

static inline bool nb__is_index(nb_dtype dtype) { return dtype == NB_I32 || dtype == NB_I64; }

/* The index at an offset if it is below n; else -1, and the run fails if loud. element: its number, for the message of the first
 * one. */
int64_t nb__checked_place(const nb_call *c, const char *user, const nb_array *index, int64_t offset, int64_t n, int64_t element,
                  bool loud);

#endif
