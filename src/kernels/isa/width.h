/* width.h: the instruction set's vector of floats: what vector.h (arithmetic) and lanes.h (choices, bytes, parts) stand on. */
#ifndef NB_WIDTH_H
#define NB_WIDTH_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vector __attribute__((vector_size(4 * LANES)));

/* The elements of a and b by turns: those of the first halves, those of the second halves. */
#if defined(__AVX512F__)
static inline vector low_pairs(vector a, vector b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
static inline vector high_pairs(vector a, vector b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
static inline vector low_pairs(vector a, vector b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
static inline vector high_pairs(vector a, vector b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
static inline vector low_pairs(vector a, vector b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
static inline vector high_pairs(vector a, vector b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

#endif
