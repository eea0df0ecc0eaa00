/* vmath.h: the words of elementwise.def's formulas for float, written so that compilers turn loops over them into vector code: no branches
 * and no calls in what is used often.
 *
 * A loop's last elements, which do not fill a vector, get the same operations in the same order, hence the same bits. FMA is one rounding
 * where the instruction set has it and two where not, everywhere alike. Polynomials are minimax for the relative error of the function
 * (Remez); ranges are reduced as in Cody & Waite, Software Manual for the Elementary Functions, 1980. Errors, measured over all floats by
 * tests/test_kernels_elementwise.c, stay below 2.5 units in the last place. */
#ifndef NB_VMATH_H
#define NB_VMATH_H

#include <math.h>
#include <stdint.h>

#define K(value) ((float)(value))
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define NEG(a) (-(a))
#define WHERE(condition, a, b) ((condition) ? (a) : (b))
#define ABS __builtin_fabsf
#define SQRT __builtin_sqrtf
#define FLOOR __builtin_floorf
#define CEIL __builtin_ceilf
#define ROUND __builtin_rintf
#define TRUNC __builtin_truncf
/* Seldom in a hot loop: the C library's, one call an element. */
#define POW powf
#define ATAN2 atan2f
#define SIN sinf
#define COS cosf
#define TAN tanf
#define ASIN asinf
#define ACOS acosf
#define ATAN atanf
#define SINH sinhf
#define COSH coshf

#ifdef __FMA__
#define FMA __builtin_fmaf
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

static inline uint32_t bits_of(float x) {
    union { float f; uint32_t u; } v = {.f = x};
    return v.u;
}

static inline float float_of(uint32_t bits) {
    union { uint32_t u; float f; } v = {.u = bits};
    return v.f;
}

static inline float MIN(float a, float b) { return a < b || a != a ? a : b; }
static inline float MAX(float a, float b) { return a > b || a != a ? a : b; }
static inline float SIGN(float a) { return (float)((a > 0) - (a < 0)); }

/* fmod has the sign of a. */
static inline float MOD(float a, float b) {
    float m = fmodf(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

/* Rounds to a whole number by letting the fraction fall off the end: |x| < 2^22. As float it is k - ROUNDER, and its low bits are
 * those of the whole number. */
#define ROUNDER 12582912.0f /* 1.5 * 2^23 */

/* log 2 in two pieces: multiples of the first by up to 2^15 are exact. */
#define LOG2_HIGH 0.693359375f
#define LOG2_LOW -2.12194440054690583e-4f

static inline float power_of_2(int32_t n) { return float_of((uint32_t)(n + 127) << 23); } /* -126 <= n <= 127 */

/* (e^r - 1 - r) / r^2 for |r| <= log(2)/2 */
static inline float exp_tail(float r) {
    float p = FMA(r, 0.00139470174866f, 0.00836691119282f);
    p = FMA(r, p, 0.0416662744109f);
    p = FMA(r, p, 0.166665405473f);
    return FMA(r, p, 0.500000006378f);
}

/* e^x = 2^n e^r with n = round(x / log 2); |x| <= 104. */
static inline float exp_reduce(float x, int32_t *n) {
    float k = FMA(x, 1.44269504088896341f, ROUNDER);
    *n = (int32_t)(bits_of(k) - bits_of(ROUNDER));
    k -= ROUNDER;
    return FMA(k, -LOG2_LOW, FMA(k, -LOG2_HIGH, x));
}

/* e^x for |x| <= 87, whose result needs no care. */
static inline float exp_inner(float x) {
    int32_t n;
    float   r = exp_reduce(x, &n);
    return (FMA(r * r, exp_tail(r), r) + 1) * power_of_2(n);
}

/* The power of 2 in two factors, so that results below the smallest normal number are rounded once. */
static inline float EXP(float a) {
    int32_t n;
    float   x = a > 89 ? 89 : a < -104 ? -104 : a;
    float   r = exp_reduce(x, &n);
    int32_t half = n >> 1;
    return (FMA(r * r, exp_tail(r), r) + 1) * power_of_2(half) * power_of_2(n - half);
}

/* 2^x = 2^n 2^r, r = x - n in [-1/2, 1/2] */
static inline float EXP2(float a) {
    float   x = a > 129 ? 129 : a < -151 ? -151 : a;
    float   k = x + ROUNDER;
    int32_t n = (int32_t)(bits_of(k) - bits_of(ROUNDER)), half = n >> 1;
    float   r = x - (k - ROUNDER);
    float   p = FMA(r, 1.53156986108e-5f, 1.54678768048e-4f);
    p = FMA(r, p, 0.00133334276939f);
    p = FMA(r, p, 0.00961803467617f);
    p = FMA(r, p, 0.0555041096609f);
    p = FMA(r, p, 0.240226510897f);
    p = FMA(r, p, 0.693147180541f);
    return FMA(r, p, 1.0f) * power_of_2(half) * power_of_2(n - half);
}

/* 2^n (e^r - 1) + (2^n - 1), of halves, so that 2^128 does not overflow on the way. */
static inline float EXPM1(float a) {
    int32_t n;
    float   x = a > 89 ? 89 : a < -30 ? -30 : a;
    float   r = exp_reduce(x, &n), s = power_of_2(n - 1);
    float   y = 2 * FMA(s, FMA(r * r, exp_tail(r), r), s - 0.5f);
    return x == 0 ? x : y; /* keeps -0 */
}

/* log x = n log 2 + log m with m in [sqrt(1/2), sqrt 2): *sum is log m; x > 0 and finite. */
static inline float log_reduce(float x, float *n, float *low) {
    int      tiny = x < 0x1p-126f;
    float    y = tiny ? x * 0x1p23f : x;
    uint32_t i = bits_of(y) - 0x3f3504f3; /* of sqrt(1/2) */
    *n = (float)((int32_t)i >> 23) - (tiny ? 23.0f : 0.0f);
    float r = float_of((i & 0x7fffff) + 0x3f3504f3) - 1, s = r * r;
    float p = FMA(r, -0.0787319467895f, 0.129003160862f);
    p = FMA(r, p, -0.131321734549f);
    p = FMA(r, p, 0.141787972773f);
    p = FMA(r, p, -0.166240011186f);
    p = FMA(r, p, 0.200023761813f);
    p = FMA(r, p, -0.250008266372f);
    p = FMA(r, p, 0.333333157803f);
    *low = FMA(r * s, p, -0.5f * s);
    return r;
}

/* What a logarithm is where x is not a positive finite number. */
static inline float log_edges(float x, float y) {
    y = x < INFINITY ? y : x; /* infinity, NaN */
    return x > 0 ? y : x == 0 ? -INFINITY : x < 0 ? NAN : x;
}

static inline float LOG(float x) {
    float n, low, high = log_reduce(x, &n, &low);
    low = FMA(n, LOG2_LOW, low);
    return log_edges(x, FMA(n, LOG2_HIGH, high + low));
}

static inline float LOG2(float x) {
    float n, low, high = log_reduce(x, &n, &low);
    /* log2(e) = 1.4375 + 0.0051950408889634 */
    float y = FMA(high, 1.4375f, FMA(low, 1.4426950408889634f, high * 0.0051950408889634f));
    return log_edges(x, n + y);
}

/* log u + (x - (u - 1)) / u with u = 1 + x rounded: the second term mends the rounding. */
static inline float LOG1P(float x) {
    float u = 1 + x, y = LOG(u) + (x - (u - 1)) / u;
    y = u < INFINITY ? y : u;
    return u > 0 ? (x == 0 ? x : y) : LOG(u); /* keeps -0 */
}

/* x + x^3 P(x^2) where small, else 1 - 2 / (e^(2|x|) + 1) */
static inline float TANH(float x) {
    float a = ABS(x), u = x * x;
    float p = FMA(u, -0.00571704536352f, 0.020650587756f);
    p = FMA(u, p, -0.0537434983022f);
    p = FMA(u, p, 0.133314912912f);
    p = FMA(u, p, -0.333332839256f);
    float near = FMA(x * u, p, x);
    float b = a > 20 ? 20 : a;
    float far = __builtin_copysignf(1 - 2 / (exp_inner(b + b) + 1), x);
    return a < 0.625f ? near : far;
}

/* 1 / (1 + e^-x), of e^-|x| that cannot overflow */
static inline float SIGMOID(float x) {
    float e = EXP(-ABS(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* tanh(log(1 + e^x)) = ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1) */
static inline float TANH_SOFTPLUS(float x) {
    float e = EXP(x > 20 ? 20 : x), n = e * (e + 2);
    return n / (n + 2);
}

/* x + x P(x^2) where |x| < 1, else 1 - erfc |x| with a polynomial for log erfc */
static inline float ERF(float x) {
    float a = ABS(x), u = x * x;
    float p = FMA(u, 7.8891216693e-5f, -8.02084191463e-4f);
    p = FMA(u, p, 0.00518953541027f);
    p = FMA(u, p, -0.0268544446289f);
    p = FMA(u, p, 0.112836001772f);
    p = FMA(u, p, -0.376126271361f);
    p = FMA(u, p, 0.128379165914f);
    float near = FMA(x, p, x);
    float b = a > 4 ? 4 : a;
    float q = FMA(b, 1.98219426509e-4f, -0.00306548827829f);
    q = FMA(b, q, 0.0223152057981f);
    q = FMA(b, q, -0.104113665144f);
    q = FMA(b, q, -0.636976097193f);
    q = FMA(b, q, -1.12779723512f);
    q = FMA(b, q, -1.66449244048e-4f);
    float far = __builtin_copysignf(1 - exp_inner(q), x);
    return a < 1 ? near : far;
}

#endif
