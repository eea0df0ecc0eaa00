/* winograd.h: the transforms of 3x3 convolutions by tiles of 2x2 pixels (kernels/winograd.c), one set for each instruction set.
 * Pixels are n dense channels each. The 16 places of a tile that was transformed lie `step` floats apart. */
#ifndef NB_ISA_WINOGRAD_H
#define NB_ISA_WINOGRAD_H

#include <stdint.h>

typedef struct nb__winograd_loops {
    /* v = B^T x B of 4x4 pixels x */
    void (*image)(float *v, int64_t step, const float *const *x, int64_t n);
    /* y = A^T m A: 2x2 pixels; and its adjoint, e = A y A^T */
    void (*result)(float *const *y, const float *m, int64_t step, int64_t n);
    void (*spread)(float *e, int64_t step, const float *const *y, int64_t n);
} nb__winograd_loops;

extern const nb__winograd_loops nb__winograd_baseline, nb__winograd_v3, nb__winograd_v4;

#endif
