/* cases.h: the operator benchmarks: each builds a graph of about n elements, and says what it costs at least. */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include <nabla.h>

/* What a case has to work with, and what it tells. */
typedef struct bench {
    nb_context *nb;
    int64_t     n;          /* elements wanted */
    int64_t     rows, cols; /* a matrix of n elements: 10 x 100, 100 x 1000, 10000 x 1000 */
    int64_t     image[4];   /* [N,C,H,W] of about n elements */
    double      bytes;      /* that must be read and written: each operand and each result once */
    double      flops;      /* of contractions; else 0 */
} bench;

typedef struct bench_case {
    const char *name;
    nb_list (*build)(bench *b);
    bool has_own_sizes; /* matrix products: b->n is the side, 64, 256 or 1024 */
} bench_case;

extern const bench_case bench_cases[];
extern const int        bench_case_count;

#endif
