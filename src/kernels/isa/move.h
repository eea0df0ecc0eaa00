/* move.h: the loops that move elements, one set for each instruction set. */
#ifndef NB_ISA_MOVE_H
#define NB_ISA_MOVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nb__move_loops {
    /* memcpy of `count` bytes past the caches: for what is too large for them. Other threads see it after the fence. */
    void (*stream)(void *to, const void *from, size_t count);
    void (*fence)(void);
    /* rows of `count` bytes, `to_step` and `from_step` bytes apart; or those that begin at at[0], at[1] ... of `from` */
    void (*copy_rows)(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t rows, int64_t count);
    void (*pick_rows)(void *to, int64_t to_step, const void *from, const int64_t *at, int64_t rows, int64_t count, bool streams);
    /* to[i, j] = from[j, i] for i < m, j < n; rows of both are contiguous, `stride` apart. */
    void (*transpose)(float *to, int64_t to_stride, const float *from, int64_t from_stride, int64_t m, int64_t n);
    /* y[i] = start + x[0] + ... + x[i]; the last sum, in double, is the result. */
    double (*sum_up)(float *y, const float *x, int64_t n, double start);
    /* sum[i] += x[i], y[i] = sum[i] */
    void (*add_up)(float *y, double *sum, const float *x, int64_t n);
} nb__move_loops;

extern const nb__move_loops nb__move_baseline, nb__move_v3, nb__move_v4;

#endif
