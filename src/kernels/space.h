/* space.h: the loops of kernels that go through arrays of one shape together. */
#ifndef NB_SPACE_H
#define NB_SPACE_H

#include "nabla.h"

/* An iteration space: axes of size 1 are gone, axes that lie one behind the other in every array are one, and the order is that
 * of the first array in memory, last axis innermost. Rank is 1 at least. */
typedef struct nb__space {
    int     rank;
    int64_t shape[NB_MAX_RANK], count;
} nb__space;

/* The space of n arrays of one logical shape, and the strides of each in it. */
void nb__space_make(int n, const nb_array *const *arrays, nb__space *space, int64_t (*strides)[NB_MAX_RANK]);
/* Index of an element in the space, from its number. */
void nb__space_index(const nb__space *space, int64_t element, int64_t *index);
/* Its offset in an array. */
int64_t nb__space_offset(const nb__space *space, const int64_t *stride, const int64_t *index);
/* Elements first .. first + n - 1 of the space, in its order, from an array of these strides into a row, or back. size: bytes of
 * one. */
void nb__gather(const nb__space *space, const int64_t *stride, int size, const void *array, int64_t first, int64_t n, void *row);
void nb__scatter(const nb__space *space, const int64_t *stride, int size, void *array, int64_t first, int64_t n, const void *row);
/* to[i * to_stride] = from[i * from_stride] for i < n */
void nb__copy_run(int size, void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t n);

#endif
