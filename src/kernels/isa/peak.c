/* peak.c: as much arithmetic, and as much copying, as one core can do with an instruction set. */
#include "peak.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
/* Sums that wait for nothing but themselves: at two multiply-adds a cycle, each taking four or five, ten keep the units busy. */
enum { SUMS = 12 };

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static inline vector multiply_add(vector a, vector b, vector c) {
#if defined(__AVX512F__)
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* s = s / 2 + 1 goes to 2: neither overflow nor denormal numbers slow it down. */
static float arithmetic(int64_t turns) {
    const vector half = (vector){0} + 0.5f, one = (vector){0} + 1.0f;
    vector       s[SUMS], all = {0};
    float        lane[LANES];
    for (int i = 0; i < SUMS; i++) s[i] = one * (float)i;
    for (int64_t t = 0; t < turns; t++)
        for (int i = 0; i < SUMS; i++) s[i] = multiply_add(s[i], half, one);
    for (int i = 0; i < SUMS; i++) all += s[i];
    memcpy(lane, &all, sizeof lane);
    return lane[0];
}

/* Streaming stores: a line that is written whole need not be read first. */
static void copy(float *y, const float *x, int64_t n) {
#if defined(__AVX512F__)
    for (int64_t i = 0; i < n; i += LANES) _mm512_stream_ps(y + i, _mm512_load_ps(x + i));
    _mm_sfence();
#elif defined(__AVX2__)
    for (int64_t i = 0; i < n; i += LANES) _mm256_stream_ps(y + i, _mm256_load_ps(x + i));
    _mm_sfence();
#elif defined(__x86_64__)
    for (int64_t i = 0; i < n; i += LANES) _mm_stream_ps(y + i, _mm_load_ps(x + i));
    _mm_sfence();
#else
    memcpy(y, x, (size_t)n * sizeof *y);
#endif
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__peak_loops JOIN(nb__peak_, NB__ISA) = {2 * SUMS * LANES, arithmetic, copy};
