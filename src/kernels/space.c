/* space.c: iteration spaces. */
#include "space.h"

#include <string.h>

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

/* Axes of more than one element, by falling strides of the first array. */
static int order_axes(const nb_array *first, int *axis) {
    int rank = 0;
    for (int i = 0; i < first->rank; i++) {
        if (first->shape[i] == 1) continue;
        int k = rank++;
        for (; k > 0 && magnitude(first->stride[axis[k - 1]]) < magnitude(first->stride[i]); k--) axis[k] = axis[k - 1];
        axis[k] = i;
    }
    return rank;
}

void nb__space_make(int n, const nb_array *const *arrays, nb__space *space, int64_t (*strides)[NB_MAX_RANK]) {
    int axis[NB_MAX_RANK], rank = order_axes(arrays[0], axis);
    *space = (nb__space){.rank = 0, .count = 1};
    for (int i = 0; i < rank; i++) {
        int64_t size = arrays[0]->shape[axis[i]];
        bool    joins = space->rank > 0;
        int     last = space->rank - 1;
        for (int k = 0; k < n && joins; k++) joins = strides[k][last] == arrays[k]->stride[axis[i]] * size;
        if (!joins) {
            last = space->rank++;
            space->shape[last] = 1;
        }
        space->shape[last] *= size;
        space->count *= size;
        for (int k = 0; k < n; k++) strides[k][last] = arrays[k]->stride[axis[i]];
    }
    if (space->rank) return;
    space->rank = 1;
    space->shape[0] = 1;
    for (int k = 0; k < n; k++) strides[k][0] = 1;
}

void nb__space_index(const nb__space *space, int64_t element, int64_t *index) {
    for (int i = space->rank - 1; i > 0; i--) {
        index[i] = element % space->shape[i];
        element /= space->shape[i];
    }
    index[0] = element;
}

int64_t nb__space_offset(const nb__space *space, const int64_t *stride, const int64_t *index) {
    int64_t offset = 0;
    for (int i = 0; i < space->rank; i++) offset += index[i] * stride[i];
    return offset;
}

#define COPY_RUN(type)                                                                                                           \
    static void copy_##type(type *to, int64_t to_stride, const type *from, int64_t from_stride, int64_t n) {                     \
        if (to_stride == 1 && from_stride == 0)                                                                                  \
            for (int64_t i = 0; i < n; i++) to[i] = from[0];                                                                     \
        else if (to_stride == 1 && from_stride == 1)                                                                             \
            for (int64_t i = 0; i < n; i++) to[i] = from[i];                                                                     \
        else                                                                                                                     \
            for (int64_t i = 0; i < n; i++) to[i * to_stride] = from[i * from_stride];                                           \
    }
COPY_RUN(uint8_t)
COPY_RUN(uint32_t)
COPY_RUN(uint64_t)

void nb__copy_run(int size, void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t n) {
    if (to_stride == 1 && from_stride == 1 && n * size >= 128)
        memcpy(to, from, (size_t)(n * size));
    else if (size == 4)
        copy_uint32_t(to, to_stride, from, from_stride, n);
    else if (size == 8)
        copy_uint64_t(to, to_stride, from, from_stride, n);
    else
        copy_uint8_t(to, to_stride, from, from_stride, n);
}

/* Calls nb__copy_run for each stretch of the innermost axis. */
static void move(const nb__space *space, const int64_t *stride, int size, char *array, int64_t first, int64_t n, char *row,
                 bool gather) {
    int64_t index[NB_MAX_RANK];
    int     inner = space->rank - 1;
    nb__space_index(space, first, index);
    int64_t offset = nb__space_offset(space, stride, index);
    for (int64_t done = 0; done < n;) {
        int64_t left = space->shape[inner] - index[inner], run = left < n - done ? left : n - done;
        char   *at = array + offset * size, *to = row + done * size;
        if (gather)
            nb__copy_run(size, to, 1, at, stride[inner], run);
        else
            nb__copy_run(size, at, stride[inner], to, 1, run);
        done += run;
        /* On to the next stretch: the innermost axis starts again, the next one out advances, and so on. */
        offset -= index[inner] * stride[inner];
        index[inner] = 0;
        for (int i = inner - 1; i >= 0; i--) {
            offset += stride[i];
            if (++index[i] < space->shape[i]) break;
            offset -= index[i] * stride[i];
            index[i] = 0;
        }
    }
}

void nb__gather(const nb__space *space, const int64_t *stride, int size, const void *array, int64_t first, int64_t n, void *row) {
    move(space, stride, size, (char *)(uintptr_t)array, first, n, row, true);
}

void nb__scatter(const nb__space *space, const int64_t *stride, int size, void *array, int64_t first, int64_t n,
                 const void *row) {
    move(space, stride, size, array, first, n, (char *)(uintptr_t)row, false);
}
