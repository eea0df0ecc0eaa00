/* lanes.h: vectors of an instruction set's width, for loops that compilers do not vectorise by themselves: choices lane by lane,
 * bytes beside floats, the part of a vector that a row's end needs. */
#ifndef NB_LANES_H
#define NB_LANES_H

#include "width.h"

typedef vector  floats;
typedef int32_t places __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

/* mask: which lanes. Of the functions below those with m touch lanes and memory 0..m-1 alone, 1 <= m <= LANES; the rest is 0. */
#if defined(__AVX512F__)

typedef __mmask16 mask;

static inline mask   first_lanes(int64_t m) { return (mask)((1u << m) - 1); }
static inline mask   first_mask(int64_t m) { return first_lanes(m); }
static inline floats load_floats(const float *x, int64_t m) { return (floats)_mm512_maskz_loadu_ps(first_lanes(m), x); }
static inline places load_places(const int32_t *x, int64_t m) { return (places)_mm512_maskz_loadu_epi32(first_lanes(m), x); }
static inline bytes  load_bytes(const uint8_t *x, int64_t m) { return (bytes)_mm_maskz_loadu_epi8(first_lanes(m), x); }
static inline void   store_floats(float *y, floats v, int64_t m) { _mm512_mask_storeu_ps(y, first_lanes(m), (__m512)v); }
static inline void   store_places(int32_t *y, places v, int64_t m) { _mm512_mask_storeu_epi32(y, first_lanes(m), (__m512i)v); }
static inline void   store_bytes(uint8_t *y, bytes v, int64_t m) { _mm_mask_storeu_epi8(y, first_lanes(m), (__m128i)v); }

/* Lanes where v comes before best: it is larger, or the first NaN. */
static inline mask is_larger(floats v, floats best) {
    __m512 a = (__m512)v, b = (__m512)best;
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ), b, b, _CMP_ORD_Q);
}
static inline mask     equal_places(places a, int32_t b) { return _mm512_cmpeq_epi32_mask((__m512i)a, _mm512_set1_epi32(b)); }
static inline mask     equal_bytes(bytes a, int32_t b) { return _mm_cmpeq_epi8_mask((__m128i)a, _mm_set1_epi8((char)b)); }
static inline floats   choose(mask m, floats a, floats b) { return (floats)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
static inline mask     either_nan(floats a, floats b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_UNORD_Q); }
static inline mask     equal_floats(floats a, float b) { return _mm512_cmp_ps_mask((__m512)a, _mm512_set1_ps(b), _CMP_EQ_OQ); }
static inline unsigned bits_of_mask(mask m) { return m; } /* a bit a lane */
/* b where either is NaN. */
static inline floats max_lanes(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }
static inline floats min_lanes(floats a, floats b) { return (floats)_mm512_min_ps((__m512)a, (__m512)b); }
static inline places choose_places(mask m, places a, places b) {
    return (places)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a);
}

#else

typedef places        mask; /* all ones or all zeros, lane by lane */

#if defined(__AVX2__)
static inline __m256i first_lanes(int64_t m) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)m), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline floats load_floats(const float *x, int64_t m) { return (floats)_mm256_maskload_ps(x, first_lanes(m)); }
static inline places load_places(const int32_t *x, int64_t m) { return (places)_mm256_maskload_epi32(x, first_lanes(m)); }
static inline void   store_floats(float *y, floats v, int64_t m) { _mm256_maskstore_ps(y, first_lanes(m), (__m256)v); }
static inline void   store_places(int32_t *y, places v, int64_t m) { _mm256_maskstore_epi32(y, first_lanes(m), (__m256i)v); }
#else
static inline floats load_floats(const float *x, int64_t m) {
    floats v = {0};
    for (int i = 0; i < m; i++) v[i] = x[i];
    return v;
}
static inline places load_places(const int32_t *x, int64_t m) {
    places v = {0};
    for (int i = 0; i < m; i++) v[i] = x[i];
    return v;
}
static inline void store_floats(float *y, floats v, int64_t m) {
    for (int i = 0; i < m; i++) y[i] = v[i];
}
static inline void store_places(int32_t *y, places v, int64_t m) {
    for (int i = 0; i < m; i++) y[i] = v[i];
}
#endif
static inline bytes  load_bytes(const uint8_t *x, int64_t m) {
     bytes v = {0};
     if (m == LANES)
        memcpy(&v, x, LANES);
    else
        for (int i = 0; i < m; i++) v[i] = x[i];
    return v;
}
static inline void store_bytes(uint8_t *y, bytes v, int64_t m) {
    if (m == LANES)
        memcpy(y, &v, LANES);
    else
        for (int i = 0; i < m; i++) y[i] = v[i];
}

static inline mask first_mask(int64_t m) {
    places number;
    for (int i = 0; i < LANES; i++) number[i] = i;
    return number < (int32_t)m - (places){0};
}
static inline mask     is_larger(floats v, floats best) { return ~(mask)(v <= best) & (mask)(best == best); }
static inline mask     equal_places(places a, int32_t b) { return a == b - (places){0}; }
static inline mask     equal_bytes(bytes a, int32_t b) { return equal_places(__builtin_convertvector(a, places), b); }
static inline places   choose_places(mask m, places a, places b) { return (m & a) | (~m & b); }
static inline floats   choose(mask m, floats a, floats b) { return (floats)choose_places(m, (places)a, (places)b); }
static inline mask     either_nan(floats a, floats b) { return (a != a) | (b != b); }
static inline mask     equal_floats(floats a, float b) { return a == b - (floats){0}; }
#if defined(__AVX2__)
static inline unsigned bits_of_mask(mask m) { return (unsigned)_mm256_movemask_ps((__m256)m); }
static inline floats   max_lanes(floats a, floats b) { return (floats)_mm256_max_ps((__m256)a, (__m256)b); }
static inline floats   min_lanes(floats a, floats b) { return (floats)_mm256_min_ps((__m256)a, (__m256)b); }
#else
static inline unsigned bits_of_mask(mask m) { return (unsigned)_mm_movemask_ps((__m128)m); }
static inline floats   max_lanes(floats a, floats b) { return (floats)_mm_max_ps((__m128)a, (__m128)b); }
static inline floats   min_lanes(floats a, floats b) { return (floats)_mm_min_ps((__m128)a, (__m128)b); }
#endif

#endif

/* Full vectors, which the compiler knows best. */
static inline floats load_all(const float *x) {
    floats v;
    memcpy(&v, x, sizeof v);
    return v;
}
static inline void store_all(float *y, floats v) { memcpy(y, &v, sizeof v); }

/* Every second element of a, b one behind the other: the even ones. */
#if defined(__AVX512F__)
static inline floats even(floats a, floats b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
#elif defined(__AVX2__)
static inline floats even(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
#else
static inline floats even(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
#endif

#endif
