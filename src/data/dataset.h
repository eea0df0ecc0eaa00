/* dataset.h: what the files of this folder share. */
#ifndef NB_DATASET_H
#define NB_DATASET_H

#include "nabla.h"

struct nb_dataset {
    nb_context *nb;
    nb_dtype    dtype; /* u8 or f32 */
    int64_t     count, classes;
    nb_dims     item;
    int64_t     elements; /* of one item */
    char       *items;    /* [count, item...] */
    int64_t    *labels;   /* [count] */
};

/* A set with uninitialised contents that belongs to the context. NULL: the context has failed. */
nb_dataset *nb__dataset_new(nb_context *nb, nb_dtype dtype, int64_t count, nb_dims item, int64_t classes);

/* SplitMix64 (Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014): one word of state, and the same numbers
 * on every machine. A stream is the numbers that follow a start made of a seed and a word that tells its uses apart. */
uint64_t nb__stream(uint64_t seed, uint64_t use);
uint64_t nb__random_below(uint64_t *state, uint64_t n); /* uniform in [0, n), n > 0 */

#endif
