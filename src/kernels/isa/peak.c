/* peak.c: as much arithmetic, and as much copying, as one core can do with an instruction set. */
#include "peak.h"

#include "vector.h"

/* Sums that wait for nothing but themselves: at two multiply-adds a cycle, each taking four or five, ten keep the units busy. */
enum { SUMS = 12 };

/* s = s / 2 + 1 goes to 2: neither overflow nor denormal numbers slow it down. */
static float arithmetic(int64_t turns) {
    const vector half = (vector){0} + 0.5f, one = (vector){0} + 1.0f;
    vector       s[SUMS], all = {0};
    float        lane[LANES];
    for (int i = 0; i < SUMS; i++) s[i] = one * (float)i;
    for (int64_t t = 0; t < turns; t++)
        for (int i = 0; i < SUMS; i++) s[i] = fma_(s[i], half, one);
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
