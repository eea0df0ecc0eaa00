/* gemm.h: the loops of own matrix products, one set for each instruction set. Sizes and strides in elements. */
#ifndef NB_ISA_GEMM_H
#define NB_ISA_GEMM_H

#include <stdbool.h>
#include <stdint.h>

enum { NB__GEMM_DEPTH = 256 }; /* steps of k between two visits of C: a packed panel of B stays in the L1 cache */

/* A matrix: element (i,j) at data[i row + j column]. */
typedef struct nb__matrix {
    float  *data;
    int64_t row, column;
} nb__matrix;

typedef struct nb__gemm_loops {
    int width; /* columns of a panel of B */
    /* C[m,n] = A[m,k] B[k,n], or that is added to C; any strides, k > 0. pack: scratch of NB__GEMM_DEPTH x width floats. */
    void (*product)(nb__matrix a, nb__matrix b, nb__matrix c, int64_t m, int64_t n, int64_t k, bool add, float *pack);
    /* y[n] = x[k] B[k,n]; x and y are dense and either the rows or the columns of B are (B.column = 1 or B.row = 1). */
    void (*vector)(const float *x, nb__matrix b, float *y, int64_t n, int64_t k);
} nb__gemm_loops;

extern const nb__gemm_loops nb__gemm_baseline, nb__gemm_v3, nb__gemm_v4;

#endif
