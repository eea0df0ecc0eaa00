/* peak.h: loops that do nothing but work the processor, to find out what it can do. */
#ifndef NB_ISA_PEAK_H
#define NB_ISA_PEAK_H

#include <stdint.h>

typedef struct nb__peak_loops {
    int flops; /* of one turn: a multiplication and an addition in each lane are 2 */
    /* That many turns of independent multiply-adds in registers. The result depends on all of them. */
    float (*arithmetic)(int64_t turns);
    /* y = x for n floats, past the caches; both aligned to 64 bytes, n a multiple of 16. */
    void (*copy)(float *y, const float *x, int64_t n);
} nb__peak_loops;

extern const nb__peak_loops nb__peak_baseline, nb__peak_v3, nb__peak_v4;

#endif
