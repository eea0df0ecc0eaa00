/* gemm.h: the loops of own matrix products, one set for each instruction set. Sizes and strides in elements. */
#ifndef NB_ISA_GEMM_H
#define NB_ISA_GEMM_H

#include <stdbool.h>
#include <stdint.h>

/* k and the rows of A are cut into pieces: a packed panel of B, depth x width, stays in the L2 cache, and so does a packed
 * piece of A, rows x depth. The fewer pieces k has, the less often C is read and written. Where rows of B are read in place,
 * strides apart, fewer of them fit. */
enum { NB__GEMM_DEPTH = 1536, NB__GEMM_STRIDES = 384, NB__GEMM_ROWS = 256, NB__GEMM_PIECE = 384 * 256 };
/* Floats between lines that fall on one another in the L1 cache. */
enum { NB__GEMM_PAGE = 1024 };

/* A matrix: element (i,j) at data[i row + j column]. */
typedef struct nb__matrix {
    float  *data;
    int64_t row, column;
} nb__matrix;

/* Whether A lies dense neither by rows nor by columns, or by columns that fall on one another: `product` packs it for more
 * than one panel of B. */
static inline bool nb__is_scattered(nb__matrix a) { return a.column != 1 && (a.row != 1 || a.column % NB__GEMM_PAGE == 0); }

/* A matrix of windows, for convolutions too. Row i of A begins at a + i % period row + i / period jump and is `taps` runs of k
 * elements, `tap` apart, with steps between elements; B has taps k rows of `width` dense numbers, or half as many where that is
 * enough, step_b apart. */
typedef struct nb__windows {
    const float *a, *b;
    int64_t      row, period, jump, taps, tap, k, step, step_b;
} nb__windows;

typedef struct nb__gemm_loops {
    int width, lanes; /* columns of a panel of B: two vectors */
    int rows;         /* of a block of C */
    /* C[m,n] = A[m,k] B[k,n], or that is added to C; any strides, k > 0. pack: scratch of NB__PACK_FLOATS, aligned to 64 bytes;
     * panels: B as packed by `pack`, panel by panel, or NULL. An element of C is one chain of multiply-adds over k, whatever the
     * tile it is in. */
    void (*product)(nb__matrix a, nb__matrix b, nb__matrix c, int64_t m, int64_t n, int64_t k, bool add, float *pack,
                    const float *panels);
    /* A panel of B: [k, columns], columns <= width, as dense rows of `width` numbers, or half as many where that is enough; zeros
     * beyond. */
    void (*pack)(float *to, nb__matrix b, int64_t k, int columns);
    /* C[m,columns] = A B, columns <= width, or that is added to C. */
    void (*windows)(const nb__windows *w, nb__matrix c, int64_t m, int columns, bool add);
    /* y[n] = x[k] B[k,n]; x and y are dense and either the rows or the columns of B are (B.column = 1 or B.row = 1). */
    void (*vector)(const float *x, nb__matrix b, float *y, int64_t n, int64_t k);
} nb__gemm_loops;
/* Enough for the widest set: a panel of B, and A in pieces of six or eight rows, each with 16 floats more, the last one not
 * full. */
enum { NB__PACK_FLOATS = NB__GEMM_DEPTH * (32 + 8) + NB__GEMM_PIECE + (NB__GEMM_ROWS / 6 + 1) * 16 };

extern const nb__gemm_loops nb__gemm_baseline, nb__gemm_v3, nb__gemm_v4;

#endif
