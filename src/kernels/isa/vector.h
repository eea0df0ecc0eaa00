/* vector.h: floats in vectors as wide as the instruction set has them: what C's vector types lack. Arithmetic, shifts and bits
 * come from those types; comparisons and choices do not, because v4 has registers of masks for them. */
#ifndef NB_VECTOR_H
#define NB_VECTOR_H

#include "width.h"

#if defined(__AVX2__)
#define HAS_FMA 1
#else
#define HAS_FMA 0
#endif

typedef int32_t  whole __attribute__((vector_size(4 * LANES)));
typedef uint32_t word __attribute__((vector_size(4 * LANES)));
typedef double   wide __attribute__((vector_size(4 * LANES))); /* half as many lanes */
typedef uint64_t wide_word __attribute__((vector_size(4 * LANES)));

/* All lanes x: x - 0 keeps -0. */
static inline vector splat(float x) { return x - (vector){0}; }
static inline wide   splat_wide(double x) { return x - (wide){0}; }
#define K(value) splat((float)(value))

static inline vector absolute(vector x) { return (vector)((whole)x & INT32_MAX); }
/* The magnitude of a and the sign of b. */
static inline vector with_sign(vector a, vector b) { return (vector)(((whole)a & INT32_MAX) | ((whole)b & INT32_MIN)); }

/* `lanes`: the lanes for which something holds, to be combined with & | ~. pick: a where it holds, else b. */
#if defined(__AVX512F__)
typedef __mmask16    lanes;
static inline lanes  less(vector a, vector b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
static inline lanes  equal(vector a, vector b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
static inline lanes  is_nan(vector a) { return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q); }
static inline lanes  has_bits(word a, uint32_t bits) { return _mm512_test_epi32_mask((__m512i)a, _mm512_set1_epi32((int)bits)); }
static inline vector pick(lanes m, vector a, vector b) { return (vector)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
static inline int    any(lanes m) { return m != 0; }
static inline int    holds(lanes m, int i) { return m >> i & 1; }
static inline vector to_float(whole x) { return (vector)_mm512_cvtepi32_ps((__m512i)x); }
static inline whole  to_whole(vector x) { return (whole)_mm512_cvttps_epi32((__m512)x); }
static inline vector square_root(vector x) { return (vector)_mm512_sqrt_ps((__m512)x); }
static inline vector fma_(vector a, vector b, vector c) { return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
/* to_whole: towards zero; INT32_MIN of NaN and of what is out of range. first_of: the first n lanes of x, zeros behind them.
 * smaller, larger: a < b ? a : b and a > b ? a : b: of a NaN and another, b. */
static inline vector smaller(vector a, vector b) { return (vector)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vector larger(vector a, vector b) { return (vector)_mm512_max_ps((__m512)a, (__m512)b); }
#define TO_WHOLE(x, how) ((vector)_mm512_roundscale_ps((__m512)(x), (how) | _MM_FROUND_NO_EXC))
static inline vector load_part(const float *x, int64_t n) {
    return (vector)_mm512_mask_loadu_ps(_mm512_set1_ps(1), (__mmask16)((1u << n) - 1), x);
}
static inline void store_part(float *y, vector x, int64_t n) { _mm512_mask_storeu_ps(y, (__mmask16)((1u << n) - 1), (__m512)x); }
static inline vector first_of(vector x, int64_t n) { return (vector)_mm512_maskz_mov_ps((__mmask16)((1u << n) - 1), (__m512)x); }
static inline wide widen_low(vector x) { return (wide)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x)); }
static inline wide widen_high(vector x) { return (wide)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1)); }
static inline vector narrow(wide low, wide high) {
    return (vector)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)low)), _mm512_cvtpd_ps((__m512d)high), 1);
}
static inline wide fma_wide(wide a, wide b, wide c) { return (wide)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
static inline wide smaller_wide(wide a, wide b) { return (wide)_mm512_min_pd((__m512d)a, (__m512d)b); }
static inline wide larger_wide(wide a, wide b) { return (wide)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
typedef whole         lanes;
static inline vector  pick(lanes m, vector a, vector b) { return (vector)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m); }
static inline int     any(lanes m) { return _mm256_movemask_ps((__m256)m) != 0; }
static inline vector  to_float(whole x) { return (vector)_mm256_cvtepi32_ps((__m256i)x); }
static inline whole   to_whole(vector x) { return (whole)_mm256_cvttps_epi32((__m256)x); }
static inline vector  square_root(vector x) { return (vector)_mm256_sqrt_ps((__m256)x); }
static inline vector  fma_(vector a, vector b, vector c) { return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
static inline vector  smaller(vector a, vector b) { return (vector)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vector  larger(vector a, vector b) { return (vector)_mm256_max_ps((__m256)a, (__m256)b); }
#define TO_WHOLE(x, how) ((vector)_mm256_round_ps((__m256)(x), (how) | _MM_FROUND_NO_EXC))
static inline __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vector load_part(const float *x, int64_t n) {
    __m256i part = first_lanes(n);
    return pick((whole)part, (vector)_mm256_maskload_ps(x, part), splat(1));
}
static inline void   store_part(float *y, vector x, int64_t n) { _mm256_maskstore_ps(y, first_lanes(n), (__m256)x); }
static inline vector first_of(vector x, int64_t n) { return (vector)((whole)x & (whole)first_lanes(n)); }
static inline wide   widen_low(vector x) { return (wide)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x)); }
static inline wide   widen_high(vector x) { return (wide)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1)); }
static inline vector narrow(wide low, wide high) {
    return (vector)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
}
static inline wide fma_wide(wide a, wide b, wide c) { return (wide)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
static inline wide smaller_wide(wide a, wide b) { return (wide)_mm256_min_pd((__m256d)a, (__m256d)b); }
static inline wide larger_wide(wide a, wide b) { return (wide)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
typedef whole        lanes;
static inline vector pick(lanes m, vector a, vector b) { return (vector)((m & (whole)a) | (~m & (whole)b)); }
static inline int    any(lanes m) { return _mm_movemask_ps((__m128)m) != 0; }
static inline vector to_float(whole x) { return (vector)_mm_cvtepi32_ps((__m128i)x); }
static inline whole  to_whole(vector x) { return (whole)_mm_cvttps_epi32((__m128)x); }
static inline vector square_root(vector x) { return (vector)_mm_sqrt_ps((__m128)x); }
static inline vector fma_(vector a, vector b, vector c) { return a * b + c; }
static inline vector smaller(vector a, vector b) { return (vector)_mm_min_ps((__m128)a, (__m128)b); }
static inline vector larger(vector a, vector b) { return (vector)_mm_max_ps((__m128)a, (__m128)b); }
static inline vector load_part(const float *x, int64_t n) {
    vector v = splat(1);
    for (int64_t i = 0; i < n; i++) v[i] = x[i];
    return v;
}
static inline void store_part(float *y, vector x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
}
static inline vector first_of(vector x, int64_t n) {
    for (int64_t i = n; i < LANES; i++) x[i] = 0;
    return x;
}
static inline wide   widen_low(vector x) { return (wide)_mm_cvtps_pd((__m128)x); }
static inline wide   widen_high(vector x) { return (wide)_mm_cvtps_pd(_mm_movehl_ps((__m128)x, (__m128)x)); }
static inline vector narrow(wide low, wide high) {
    return (vector)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
}
static inline wide fma_wide(wide a, wide b, wide c) { return a * b + c; }
static inline wide smaller_wide(wide a, wide b) { return (wide)_mm_min_pd((__m128d)a, (__m128d)b); }
static inline wide larger_wide(wide a, wide b) { return (wide)_mm_max_pd((__m128d)a, (__m128d)b); }
#endif

#if !defined(__AVX512F__) /* all bits of a lane, or none */
static inline lanes less(vector a, vector b) { return a < b; }
static inline lanes equal(vector a, vector b) { return a == b; }
static inline lanes is_nan(vector a) { return a != a; }
static inline lanes has_bits(word a, uint32_t bits) { return (a & bits) != 0; }
static inline int   holds(lanes m, int i) { return m[i] != 0; }
#endif
/* Whether a sign bit is set. */
static inline lanes negative(vector a) { return has_bits((word)a, 0x80000000u); }

static inline vector load(const float *x) {
    vector v;
    memcpy(&v, x, sizeof v);
    return v;
}
static inline void store(float *y, vector x) { memcpy(y, &x, sizeof x); }
/* Past the caches, unless `cached` is 1 or y begins within a vector of memory. put_part: the first n elements; the usual way
 * these would fetch a line that is to be written, and all stores behind them would wait for it. */
static inline void put(float *y, vector x, uintptr_t cached) {
    if (((uintptr_t)y | cached) % sizeof x) {
        store(y, x);
        return;
    }
#if defined(__AVX512F__)
    _mm512_stream_ps(y, (__m512)x);
#elif defined(__AVX2__)
    _mm256_stream_ps(y, (__m256)x);
#else
    _mm_stream_ps(y, (__m128)x);
#endif
}
static inline void put_part(float *y, vector x, int64_t n, uintptr_t cached) {
    int32_t lane[LANES];
    if (cached) {
        store_part(y, x, n);
        return;
    }
    memcpy(lane, &x, sizeof x);
    for (int64_t i = 0; i < n; i++) _mm_stream_si32((int *)y + i, lane[i]);
}

#endif
