/* random.h: the loops of random numbers, one set for each instruction set. Which bits belong to which element: ops/random.c. */
#ifndef NB_ISA_RANDOM_H
#define NB_ISA_RANDOM_H

#include <stdint.h>

enum { NB__RANDOM_TILE = 1024 }; /* elements; four a block of Philox */

/* What all tiles of a call share. */
typedef struct nb__random_source {
    uint32_t key[2];
    uint64_t step;
    float    p, q; /* uniform: low and high; normal: mean and standard deviation */
} nb__random_source;

/* A tile's numbers: those of the blocks from `block` on. */
typedef void nb__random_tile(const nb__random_source *source, uint64_t block, float *out);
typedef struct nb__random_loops {
    nb__random_tile *uniform, *normal;
} nb__random_loops;

extern const nb__random_loops nb__random_baseline, nb__random_v3, nb__random_v4;

#endif
