/* moments.c: sums of x - c and of its square, in double, where c is one of the x. Mean and variance follow without a second look
 * at x:
 *
 *   sum of squares around the mean = sum (x - c)^2 - (sum (x - c))^2 / n
 *
 * What cancels there is n (mean - c)^2. As c is one of the n numbers, (mean - c)^2 is at most the wanted sum itself, so that of
 * 53 bits log2 n are lost at most: 23 of them for 10^7 numbers, and a float needs 24. With c = 0 there would be no bound (Chan,
 * Golub and LeVeque, Algorithms for computing the sample variance, 1983). Equal numbers give exactly 0. */
#include "moments.h"

#include <stdbool.h>

#include "sums.h"
#include "vector.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline))

enum { HALF = LANES / 2, HALVES = WIDE / HALF, BLOCK = 8 /* rows that columns take at a time */ };

/* HALF floats as doubles, by loads: taking a register apart takes longer. */
INLINE wide widen(const float *x) {
#if defined(__AVX512F__)
    return (wide)_mm512_cvtps_pd(_mm256_loadu_ps(x));
#elif defined(__AVX2__)
    return (wide)_mm256_cvtps_pd(_mm_loadu_ps(x));
#else
    return (wide){(double)x[0], (double)x[1]};
#endif
}

typedef struct both {
    wide sum, squares;
} both;

INLINE void add_to(both *s, wide d) {
    s->sum += d;
    s->squares = fma_wide(d, d, s->squares);
}

/* 16 lanes, whatever a vector's width is, which meet in one tree. */
INLINE double add_lanes(const both *s, bool squares) {
    half_doubles all[2];
    for (int u = 0; u < HALVES; u++)
        memcpy((char *)all + (size_t)u * sizeof(wide), squares ? &s[u].squares : &s[u].sum, sizeof(wide));
    all[0] += all[1];
    return add_up(&all[0]);
}

static void row(double *sums, const float *x, int64_t n, float c) {
    both    s[HALVES] = {0};
    wide    centre = splat_wide((double)c);
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        for (int u = 0; u < HALVES; u++) add_to(&s[u], widen(x + i + u * HALF) - centre);
    if (i < n) {
        float last[WIDE];
        for (int k = 0; k < WIDE; k++) last[k] = i + k < n ? x[i + k] : c;
        for (int u = 0; u < HALVES; u++) add_to(&s[u], widen(last + u * HALF) - centre);
    }
    sums[0] += add_lanes(s, false);
    sums[1] += add_lanes(s, true);
}

/* HALF columns, or twice as many: their sums stay in registers for so many rows. fetches: the next rows, too, which the processor
 * does not foresee. */
INLINE void few_columns(double *sum, double *squares, const float *c, const float *x, int64_t rows, int64_t stride, int halves,
                        bool fetches) {
    both s[2];
    wide centre[2];
    for (int u = 0; u < halves; u++) {
        memcpy(&s[u].sum, sum + u * HALF, sizeof(wide));
        memcpy(&s[u].squares, squares + u * HALF, sizeof(wide));
        centre[u] = widen(c + u * HALF);
    }
    for (int64_t i = 0; i < rows; i++) {
        if (fetches) __builtin_prefetch(x + (rows + i) * stride, 0, 2);
        for (int u = 0; u < halves; u++) add_to(&s[u], widen(x + i * stride + u * HALF) - centre[u]);
    }
    for (int u = 0; u < halves; u++) {
        memcpy(sum + u * HALF, &s[u].sum, sizeof(wide));
        memcpy(squares + u * HALF, &s[u].squares, sizeof(wide));
    }
}

static void columns(double *sum, double *squares, const float *c, const float *x, int64_t rows, int64_t stride, int64_t n) {
    for (int64_t r = 0; r < rows; r += BLOCK, x += BLOCK * stride) {
        int64_t many = rows - r < BLOCK ? rows - r : BLOCK, j = 0;
        for (; j + LANES <= n && rows - r >= 2 * BLOCK; j += LANES)
            few_columns(sum + j, squares + j, c + j, x + j, BLOCK, stride, 2, true);
        for (; j + HALF <= n; j += HALF) few_columns(sum + j, squares + j, c + j, x + j, many, stride, 1, false);
        for (; j < n; j++)
            for (int64_t i = 0; i < many; i++) {
                double d = (double)x[i * stride + j] - (double)c[j];
                sum[j] += d;
                squares[j] = HAS_FMA ? __builtin_fma(d, d, squares[j]) : d * d + squares[j];
            }
    }
}

const nb__moment_loops JOIN(nb__moments_, NB__ISA) = {row, columns};
