/* moments.h: sums around a number, for means and variances (kernels/reduce.c), one set for each instruction set. */
#ifndef NB_ISA_MOMENTS_H
#define NB_ISA_MOMENTS_H

#include <stdint.h>

typedef struct nb__moment_loops {
    /* sums[0] += the sum of x - c, sums[1] += that of the squares (x - c)^2, of n contiguous x. */
    void (*row)(double *sums, const float *x, int64_t n, float c);
    /* The same for n columns of `rows` rows that lie `stride` apart, each around its own c. */
    void (*columns)(double *sum, double *squares, const float *c, const float *x, int64_t rows, int64_t stride, int64_t n);
} nb__moment_loops;

extern const nb__moment_loops nb__moments_baseline, nb__moments_v3, nb__moments_v4;

#endif
