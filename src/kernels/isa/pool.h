/* pool.h: the loops of pools over n windows of one shape, one set for each instruction set. The windows are those of neighbouring
 * channels of a channels-last image, or of one row of a plain one. */
#ifndef NB_ISA_POOL_H
#define NB_ISA_POOL_H

#include <stdbool.h>
#include <stdint.h>

/* `rows` times `columns` places; distances in elements of the image. Place (r, c) has the number r pitch + c. */
typedef struct nb__pool_place {
    int64_t rows, columns, row_step, column_step;
    int64_t step; /* from a window to the next one */
    int32_t pitch;
    bool    is_wide; /* an index is of i32, else of u8 */
} nb__pool_place;

/* x, dx: the image's element at place 0 of the first window; y, dy, index: one element a window. */
typedef struct nb__pool_loops {
    /* The largest and its place, the first of equals; NaN is larger than all. y or index may be NULL. */
    void (*largest)(float *y, void *index, const float *x, const nb__pool_place *w, int64_t n);
    void (*take)(float *y, const void *index, const float *x, const nb__pool_place *w, int64_t n);
    /* dx at the place = factor dy, 0 at the window's others; without an index at all places. */
    void (*put)(float *dx, const void *index, const float *dy, float factor, const nb__pool_place *w, int64_t n);
    void (*add)(float *dx, const void *index, const float *dy, float factor, const nb__pool_place *w, int64_t n); /* dx += that */
    void (*mean)(float *y, const float *x, double factor, const nb__pool_place *w, int64_t n); /* y = factor times the sum */
} nb__pool_loops;

extern const nb__pool_loops nb__pool_baseline, nb__pool_v3, nb__pool_v4;

#endif
