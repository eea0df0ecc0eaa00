/* pool.h: the loops of pools over the channels of one pixel, n contiguous elements, one set for each instruction set. */
#ifndef NB_ISA_POOL_H
#define NB_ISA_POOL_H

#include <stdint.h>

/* A window of one channel or many: `rows` times `columns` places; distances in elements of x, and in places. */
typedef struct nb__pool_window_at {
    int64_t rows, columns, row_step, column_step;
    int32_t first, row_place, column_place;
} nb__pool_window_at;

typedef struct nb__pool_loops {
    /* The place of the first of the largest; NaN is larger than all. x[0] is the channels' first element of the window. */
    void (*find_largest)(int32_t *place, const float *x, const nb__pool_window_at *w, int64_t n);
    void (*add)(double *sum, const float *x, int64_t n);                 /* sum += x */
    void (*scale)(float *y, const double *sum, double factor, int64_t n); /* y = factor sum */
    void (*add_scaled)(float *y, const float *x, float factor, int64_t n); /* y += factor x */
} nb__pool_loops;

extern const nb__pool_loops nb__pool_baseline, nb__pool_v3, nb__pool_v4;

#endif
