/* loops.h: the loops other than elementwise tiles that are compiled once for each instruction set. A processor's set is reached
 * through nb__isa.loops (isa.c). Sums are added in one order in every set, in 16 lanes, so that neither threads nor vectors
 * show. */
#ifndef NB_LOOPS_H
#define NB_LOOPS_H

#include <stdint.h>

/* `rows` rows of n contiguous elements, `stride` apart, each reduced to y[i * y_stride]: f32, or a place as i64. */
typedef void nb__row_loop(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n);

/* x: n contiguous elements, n >= 1 but for sum and prod. The largest and the smallest are NaN where one element is. */
struct nb__loops {
    double (*sum)(const float *x, int64_t n);
    double (*prod)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n);
    float (*min)(const float *x, int64_t n);
    int64_t (*find)(const float *x, int64_t n, float value); /* the first place of value (of any NaN for NaN); -1: nowhere */
    nb__row_loop *sum_rows, *max_rows, *min_rows, *argmax_rows, *argmin_rows;
    void (*spread_rows)(float *y, const float *x, int64_t rows, int64_t n); /* y[i, j] = x[i], [rows,n] without gaps */
    /* y[j] += x[0, j] + x[1, j] + ... for n columns of `rows` rows that lie `stride` apart; and likewise the larger and the
     * smaller. */
    void (*sum_columns)(double *y, const float *x, int64_t rows, int64_t stride, int64_t n);
    void (*max_columns)(double *y, const float *x, int64_t rows, int64_t stride, int64_t n);
    void (*min_columns)(double *y, const float *x, int64_t rows, int64_t stride, int64_t n);
    /* The rows are first, first + 1 ... : where one holds a larger (smaller) element than y[j], it and its number take the
     * place. */
    void (*argmax_columns)(double *y, int64_t *place, const float *x, int64_t first, int64_t rows, int64_t stride, int64_t n);
    void (*argmin_columns)(double *y, int64_t *place, const float *x, int64_t first, int64_t rows, int64_t stride, int64_t n);
};

extern const struct nb__loops nb__loops_baseline, nb__loops_v3, nb__loops_v4;

#endif
