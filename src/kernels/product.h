/* product.h: a matrix product as kernels see it, and how it is cut into tiles. */
#ifndef NB_PRODUCT_H
#define NB_PRODUCT_H

#include "isa/gemm.h"
#include "kernels.h"

/* C = A B, or C^T = B^T A^T when `swapped`: then the fields are those of the swapped product, and operand 1 is A. The grid
 * depends on sizes only. */
typedef struct nb__product {
    int64_t       batches, m, n, k;
    bool          swapped;
    int64_t       a[2], b[2], c[2]; /* strides of rows and columns */
    nb__triangles triangles;
    bool          packed;                      /* B is, before the tiles run: they share it */
    int64_t       rows, columns, across, down; /* of a tile; tiles over n, over m */
    int64_t       batches_a_tile;
    int64_t       tiles;
} nb__product;

/* One tile: rows i to i + m, columns j to j + n of batches first to last. */
typedef struct nb__tile_of {
    int64_t first, last, i, j, m, n;
} nb__tile_of;

bool        nb__product_of(const nb__call *call, nb__product *p); /* false: not f32 */
void        nb__product_swap(nb__product *p);
void        nb__product_cut(nb__product *p);
nb__tile_of nb__product_tile(const nb__product *p, int64_t tile);
/* Where batch `batch` of an array begins. */
float *nb__product_batch(const nb_array *x, int64_t batch);

/* Packs B [k,n] as nb__gemm_loops.product reads it: nb__panels_floats numbers. */
void    nb__pack_panels(const nb__gemm_loops *loops, nb__matrix b, int64_t k, int64_t n, float *panels, nb_pool *pool);
int64_t nb__panels_floats(const nb__gemm_loops *loops, int64_t k, int64_t n);

enum { NB__PACK_BYTES = NB__PACK_FLOATS * (int)sizeof(float) };

#endif
