/* sums.h: sums of floats in 16 lanes, whatever a vector's width is: a float lane adds up at most DEPTH elements before it is
 * added to a double, and the doubles meet in a fixed tree. So sums of millions of floats are good to the last bits, at the speed
 * of floats. */
#ifndef NB_SUMS_H
#define NB_SUMS_H

#include <stdint.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wpsabi" /* no call passes these by value: all that take one are inlined */

enum { WIDE = 16, DEPTH = 16 };

typedef float  wide_floats __attribute__((vector_size(WIDE * sizeof(float))));
typedef double half_doubles __attribute__((vector_size(WIDE / 2 * sizeof(double))));
typedef double double_4 __attribute__((vector_size(4 * sizeof(double))));
typedef double double_2 __attribute__((vector_size(2 * sizeof(double))));
typedef float  half_floats __attribute__((vector_size(WIDE / 2 * sizeof(float))));

/* Both halves of v as doubles, one added to the other. By address: passing 64 bytes by value depends on the compiler's
 * version. */
static inline __attribute__((always_inline)) half_doubles fold(const wide_floats *v) {
    half_floats h[2];
    memcpy(h, v, sizeof *v);
    return __builtin_convertvector(h[0], half_doubles) + __builtin_convertvector(h[1], half_doubles);
}

/* ((v0 + v4) + (v2 + v6)) + ((v1 + v5) + (v3 + v7)) */
static inline __attribute__((always_inline)) double add_up(const half_doubles *at) {
    double_4 h[2];
    double_2 q[2];
    memcpy(h, at, sizeof h);
    h[0] += h[1];
    memcpy(q, h, sizeof q);
    q[0] += q[1];
    return q[0][0] + q[0][1];
}

#endif
