/* vmath.h: the words of elementwise.def's formulas for vectors of floats.
 *
 * There are no branches in what is used often; where an argument is rare and awkward (sin beyond 2^17, 0 to a power) its lanes
 * are done one by one by the C library. FMA is one rounding where the instruction set has it and two where not, everywhere alike.
 * Polynomials are minimax for the relative error of the function (Remez); ranges are reduced as in Cody & Waite, Software Manual
 * for the Elementary Functions, 1980.
 *
 * Largest errors in units in the last place, over all floats (sin, cos: up to 2^17, beyond the C library's), by
 * tests/test_accuracy.c:
 *
 *                 exp    log    tanh   erf    sin    cos    sigmoid
 *     baseline    1.03   0.92   1.60   1.51   1.58   1.59   1.78
 *     v3, v4      1.06   0.86   1.63   1.22   1.56   1.57   1.55
 *
 * and of samples, in any set: exp2 1.1, expm1 1.7, log2 2.0, log1p 1.5, sinh 1.6, cosh 1.5, tan 2.7, asin 2.3, acos 1.1, atan
 * 1.8, atan2 1.4, pow 0.53, softplus 1.7, silu 2.3, mish 3.9, mod 0.5.
 */
#ifndef NB_VMATH_H
#define NB_VMATH_H

#include <math.h>

#include "vector.h"

#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define NEG(a) (-(a))
#define WHERE pick
#define LESS less
#define GREATER(a, b) less(b, a)
#define ABS absolute
#define SQRT square_root
#define FMA fma_
#define FMA2 fma_wide
#define D splat_wide
#define INF splat(INFINITY)

/* A NaN comes through from both sides. */
static inline vector MIN(vector a, vector b) { return pick(is_nan(a), a, smaller(a, b)); }
static inline vector MAX(vector a, vector b) { return pick(is_nan(a), a, larger(a, b)); }
static inline vector SIGN(vector a) { return pick(less(K(0), a), K(1), pick(less(a, K(0)), K(-1), K(0))); }

/* ------------------------------------------------------------------------------------------- lane by lane: the C library's -- */

typedef float unary(float x);
typedef float binary(float a, float b);

/* y, but f(x) in the chosen lanes. */
static __attribute__((noinline)) vector by_lane(unary *f, vector x, vector y, lanes chosen) {
    for (int i = 0; i < LANES; i++)
        if (holds(chosen, i)) y[i] = f(x[i]);
    return y;
}

static __attribute__((noinline)) vector by_lane_2(binary *f, vector a, vector b, vector y, lanes chosen) {
    for (int i = 0; i < LANES; i++)
        if (holds(chosen, i)) y[i] = f(a[i], b[i]);
    return y;
}

/* ----------------------------------------------------------------------------------------------------------- whole numbers -- */

/* Rounds to a whole number by letting the fraction fall off the end: |x| < 2^22. As float it is k - ROUNDER, and its low bits are
 * those of the whole number. */
#define ROUNDER 12582912.0f /* 1.5 * 2^23 */
static inline whole low_bits(vector k) { return (whole)((word)k - 0x4b400000u); }

#ifdef TO_WHOLE
static inline vector FLOOR(vector x) { return TO_WHOLE(x, _MM_FROUND_TO_NEG_INF); }
static inline vector CEIL(vector x) { return TO_WHOLE(x, _MM_FROUND_TO_POS_INF); }
static inline vector ROUND(vector x) { return TO_WHOLE(x, _MM_FROUND_TO_NEAREST_INT); }
static inline vector TRUNC(vector x) { return TO_WHOLE(x, _MM_FROUND_TO_ZERO); }
#else
/* Adding 2^23 rounds |x| to nearest; floats of 2^23 and more are whole. */
static inline vector ROUND(vector x) {
    vector a = absolute(x), k = (a + 0x1p23f) - 0x1p23f;
    return pick(less(a, K(0x1p23)), with_sign(k, x), x);
}
static inline vector FLOOR(vector x) {
    vector k = ROUND(x);
    return with_sign(k - pick(less(x, k), K(1), K(0)), k);
}
static inline vector CEIL(vector x) {
    vector k = ROUND(x);
    return with_sign(k + pick(less(k, x), K(1), K(0)), x);
}
static inline vector TRUNC(vector x) {
    vector a = absolute(x), k = ROUND(a);
    return with_sign(k - pick(less(a, k), K(1), K(0)), x);
}
#endif

/* --------------------------------------------------------------------------------------------------- exponential functions -- */

/* log 2 in two pieces: multiples of the first by up to 2^15 are exact. */
#define LOG2_HIGH 0.693359375f
#define LOG2_LOW -2.12194440054690583e-4f

static inline vector power_of_2(whole n) { return (vector)((word)(n + 127) << 23); } /* -126 <= n <= 127 */

/* p 2^n with one rounding, be it below the smallest normal number; k is n as float, |n| <= 252. */
static inline vector scale(vector p, vector k, whole n) {
#if defined(__AVX512F__)
    (void)n;
    return (vector)_mm512_scalef_ps((__m512)p, (__m512)k);
#else
    whole half = n >> 1;
    (void)k;
    return p * power_of_2(half) * power_of_2(n - half);
#endif
}

/* e^x = 2^n (1 + t) with n = round(x / log 2) = k, t = e^r - 1, |r| <= log(2)/2; |x| <= 104. */
static inline vector exp_reduce(vector x, vector *k, whole *n) {
    vector rounded = FMA(x, K(1.44269504088896341), K(ROUNDER));
    *n = low_bits(rounded);
    *k = rounded - ROUNDER;
    vector r = FMA(*k, K(-LOG2_LOW), FMA(*k, K(-LOG2_HIGH), x));
    vector p = FMA(r, K(0.00139470174866), K(0.00836691119282));
    p = FMA(r, p, K(0.0416662744109));
    p = FMA(r, p, K(0.166665405473));
    p = FMA(r, p, K(0.500000006378));
    return FMA(r * r, p, r);
}

static inline vector EXP(vector a) {
    vector k, t;
    whole  n;
    t = exp_reduce(larger(K(-104), smaller(K(89), a)), &k, &n);
    return scale(t + 1, k, n);
}

/* 2^r for |r| <= 1/2 */
static inline vector exp2_near(vector r) {
    vector p = FMA(r, K(1.53533677803e-4), K(0.00133988785092));
    p = FMA(r, p, K(0.00961844064295));
    p = FMA(r, p, K(0.0555033385754));
    p = FMA(r, p, K(0.240226462483));
    p = FMA(r, p, K(0.693147182465));
    return FMA(r, p, K(1));
}

static inline vector EXP2(vector a) {
    vector x = larger(K(-151), smaller(K(129), a)), rounded = x + ROUNDER, k = rounded - ROUNDER;
    return scale(exp2_near(x - k), k, low_bits(rounded));
}

/* 2^x for |x| <= 126, whose result needs no care: the whole part is added to the exponent. Of a NaN anything. */
static inline vector exp2_inner(vector x) {
    vector rounded = x + ROUNDER;
    return (vector)((word)exp2_near(x - (rounded - ROUNDER)) + ((word)rounded << 23));
}

/* 2^n t + (2^n - 1), of halves, so that 2^128 does not overflow on the way. */
static inline vector EXPM1(vector a) {
    vector k, t, s;
    whole  n;
    t = exp_reduce(larger(K(-30), smaller(K(89), a)), &k, &n);
    s = power_of_2(n - 1);
    return pick(equal(a, K(0)), a, 2 * FMA(s, t, s - 0.5f)); /* keeps -0 */
}

/* e^a / 2 for 0 <= a: it does not overflow where sinh does not. */
static inline vector half_exp(vector a) {
    vector k, t;
    whole  n;
    t = exp_reduce(smaller(K(90), a), &k, &n);
    return scale(t + 1, k - 1, n - 1);
}

static inline vector SINH(vector x) {
    vector a = absolute(x), u = x * x, e = half_exp(a);
    vector p = FMA(u, K(2.816951224173e-6), K(0.0001983615978152));
    p = FMA(u, p, K(0.008333350058123));
    p = FMA(u, p, K(0.1666666649756));
    return with_sign(pick(less(a, K(1)), FMA(a * u, p, a), e - 0.25f / e), x);
}

static inline vector COSH(vector x) {
    vector e = half_exp(absolute(x));
    return e + 0.25f / e;
}

/* x + x^3 P(x^2) where small (and NaN), else 1 - 2 / (e^(2|x|) + 1) */
static inline vector TANH(vector x) {
    vector a = absolute(x), u = x * x, b = smaller(K(10), a) * 2.8853900817779268f; /* 2 log2(e) */
    vector p = FMA(u, K(-0.00571704536352), K(0.020650587756));
    p = FMA(u, p, K(-0.0537434983022));
    p = FMA(u, p, K(0.133314912912));
    p = FMA(u, p, K(-0.333332839256));
    return with_sign(pick(less(K(0.625), a), 1 - 2 / (exp2_inner(b) + 1), FMA(a * u, p, a)), x);
}

/* q = 1 / (1 + e) with e = e^-|x| = s (1 + t), s a power of 2, or q e where x < 0: that is s q (1 + t), where t is given what q
 * lacks to be exact, so that neither e nor 1 + e is rounded. */
static inline vector SIGMOID(vector x) {
    vector k, t;
    whole  n;
    t = exp_reduce(larger(K(-104), -absolute(x)), &k, &n);
    vector s = scale(K(1), k, n), q = 1 / FMA(s, t, 1 + s), part = pick(negative(x), s, K(1)) * q;
    t += FMA(-FMA(s, t, s), q, 1 - q);
    return pick(negative(x), FMA(part, t, part), q);
}

/* The derivative of gelu_tanh: s + x s (1 - s) v' with s = sigma(v), v = k x (1 + h x^2). With e = e^-|v|, q = 1 / (1 + e) and r
 * = e q, s is one of these two and 1 - s the other. Beyond 30 it is 0 or 1. */
static inline vector GELU_TANH_SLOPE(vector x) {
    vector t = larger(K(-30), smaller(K(30), x)), u = t * t; /* of a NaN the NaN */
    vector v = t * FMA(u, K(0.071354816272600248), K(1.5957691216057307));
    vector e = EXP(-absolute(v)), q = 1 / (1 + e), r = e * q;
    return FMA(q * r, t * FMA(u, K(0.21406444881780074), K(1.5957691216057307)), pick(negative(v), r, q));
}

/* tanh(log(1 + e^x)) = n / (n + 2) with n = (1 + e^x)^2 - 1 = e^x e^x + 2 e^x */
static inline vector TANH_SOFTPLUS(vector x) {
    vector e = EXP(smaller(K(20), x)), n = FMA(e, e, e + e);
    return n / (n + 2);
}

/* x + x P(x^2) where |x| < 1 (and NaN), else 1 - erfc |x| with a polynomial for log2 erfc */
static inline vector ERF(vector x) {
    vector a = absolute(x), u = x * x, b = smaller(K(4), a);
    vector p = FMA(u, K(7.8891216693e-5), K(-8.02084191463e-4));
    p = FMA(u, p, K(0.00518953541027));
    p = FMA(u, p, K(-0.0268544446289));
    p = FMA(u, p, K(0.112836001772));
    p = FMA(u, p, K(-0.376126271361));
    p = FMA(u, p, K(0.128379165914));
    vector q = FMA(b, K(0.000285970183632), K(-0.00442256473699));
    q = FMA(b, q, K(0.0321940367413));
    q = FMA(b, q, K(-0.150204268392));
    q = FMA(b, q, K(-0.918962256585));
    q = FMA(b, q, K(-1.62706747824));
    q = FMA(b, q, K(-0.000240135498948));
    return with_sign(pick(less(K(1), a), 1 - exp2_inner(q), FMA(a, p, a)), x);
}

/* -------------------------------------------------------------------------------------------------------------- logarithms -- */

/* x = 2^n (1 + r) with 1 + r in [sqrt(1/2), sqrt 2); x > 0 and finite. */
static inline vector log_split(vector x, vector *n) {
    lanes tiny = less(x, K(0x1p-126));
    word  i = (word)pick(tiny, x * 0x1p23f, x) - 0x3f3504f3u; /* of sqrt(1/2) */
    *n = to_float((whole)i >> 23) - pick(tiny, K(23), K(0));
    return (vector)((i & 0x7fffff) + 0x3f3504f3) - 1;
}

/* log(1 + r) - r */
static inline vector log_tail(vector r) {
    vector s = r * r, p = FMA(r, K(-0.0787319467895), K(0.129003160862));
    p = FMA(r, p, K(-0.131321734549));
    p = FMA(r, p, K(0.141787972773));
    p = FMA(r, p, K(-0.166240011186));
    p = FMA(r, p, K(0.200023761813));
    p = FMA(r, p, K(-0.250008266372));
    p = FMA(r, p, K(0.333333157803));
    return FMA(r * s, p, -0.5f * s);
}

/* What a logarithm is where x is not a positive finite number. */
static inline vector log_edges(vector x, vector y) {
    y = pick(less(x, INF), y, x);
    return pick(less(K(0), x), y, pick(equal(x, K(0)), -INF, K(NAN)));
}

static inline vector LOG(vector x) {
    vector n, r = log_split(x, &n);
    return log_edges(x, FMA(n, K(LOG2_HIGH), r + FMA(n, K(LOG2_LOW), log_tail(r))));
}

static inline vector LOG2(vector x) {
    vector n, r = log_split(x, &n), low = log_tail(r);
    /* log2(e) = 1.4375 + 0.0051950408889634 */
    return log_edges(x, n + FMA(r, K(1.4375), FMA(low, K(1.4426950408889634), r * 0.0051950408889634f)));
}

/* log u with u = 1 + x rounded, and what was lost by that added again: nothing beyond 2^64. */
static inline vector LOG1P(vector x) {
    vector u = 1 + x, n, r = log_split(u, &n);
    r += (x - (u - 1)) * power_of_2(-low_bits(smaller(K(64), n) + ROUNDER));
    vector y = log_edges(u, FMA(n, K(LOG2_HIGH), r + FMA(n, K(LOG2_LOW), log_tail(r))));
    return pick(equal(x, K(0)), x, y); /* keeps -0 */
}

/* log(1 + e^x) for x <= 0: with e = e^x log(1 + e) = n log 2 + log(1 + r), n = 0 or 1, and what the sum 1 + e has lost is in
 * r. */
static inline vector LOG1P_EXP(vector x) {
    vector e = EXP(x), u = 1 + e;
    lanes  large = less(K(1.41421356), u);
    vector scaled = pick(large, K(0.5), K(1)), r = (u * scaled - 1) + (e - (u - 1)) * scaled;
    return pick(large, K(LOG2_HIGH), K(0)) + (r + (pick(large, K(LOG2_LOW), K(0)) + log_tail(r)));
}

/* ------------------------------------------------------------------------------------------------------------------ powers -- */

/* 2^(b (n + log2 m)), m in [sqrt(1/2), sqrt 2): log2 m = s P(s^2) with s = (m - 1) / (m + 1) */
static inline wide wide_pow(wide m, wide n, wide b) {
    wide s = (m - 1) / (m + 1), u = s * s;
    wide p = FMA2(u, D(0.340732205244837294), D(0.41167261084793346));
    p = FMA2(u, p, D(0.577083586671360509));
    p = FMA2(u, p, D(0.961796673333422252));
    p = FMA2(u, p, D(2.88539008179009233));
    wide e = larger_wide(smaller_wide(b * FMA2(s, p, n), D(160)), D(-160));
    wide k = e + 0x1.8p52, r = e - (k - 0x1.8p52);
    wide q = FMA2(r, D(0.000153458041922480012), D(0.00133999310496393344));
    q = FMA2(r, q, D(0.00961848898598523589));
    q = FMA2(r, q, D(0.0555032877750978584));
    q = FMA2(r, q, D(0.240226468904053551));
    q = FMA2(r, q, D(0.693147205737108868));
    q = FMA2(r, q, D(1.00000000055422219));
    return (wide)((wide_word)q + ((wide_word)k << 52));
}

/* In double, whose rounding then does not show. */
static inline vector POW(vector a, vector b) {
    vector x = absolute(a), n, m = log_split(x, &n) + 1;
    vector y = narrow(wide_pow(widen_low(m), widen_low(n), widen_low(b)), wide_pow(widen_high(m), widen_high(n), widen_high(b)));
    lanes  below = less(a, K(0));
    if (any(below)) {
        y = pick(below & ~equal(ROUND(b * 0.5f) * 2, b), -y, y); /* odd */
        y = pick(below & ~equal(ROUND(b), b), K(NAN), y);
    }
    lanes edge = (lanes) ~(less(K(0), x) & less(x, INF) & less(absolute(b), INF));
    return any(edge) ? by_lane_2(powf, a, b, y, edge) : y;
}

/* fmod has the sign of a. */
static float mod_lane(float a, float b) {
    float m = fmodf(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

/* a - k b with k = round(a / b): exact in double for |k| <= 2^29. */
static inline wide wide_remainder(wide a, wide b) {
    wide k = (a / b + 0x1.8p52) - 0x1.8p52;
    return a - k * b;
}

static inline vector MOD(vector a, vector b) {
    vector m = narrow(wide_remainder(widen_low(a), widen_low(b)), wide_remainder(widen_high(a), widen_high(b)));
    lanes  zero = equal(m, K(0));
    m = pick(negative((vector)((word)m ^ (word)b)), m + b, m);
    m = pick(zero, with_sign(K(0), a), m);
    lanes edge = (lanes) ~(less(absolute(a), INF) & less(absolute(b), INF) & less(absolute(a / b), K(0x1p29)));
    return any(edge) ? by_lane_2(mod_lane, a, b, m, edge) : m;
}

/* ------------------------------------------------------------------------------------------------------------------ angles -- */

/* x = n pi/2 + r, |r| <= pi/4 and a little; |x| <= 2^17. The first piece of pi/2 times n taken from x is exact with FMA. */
static inline vector quarter_turns(vector x, whole *n) {
    vector rounded = FMA(x, K(0.63661977236758134), K(ROUNDER)), k = rounded - ROUNDER;
    *n = low_bits(rounded);
#if HAS_FMA
    return FMA(k, K(1.71512451e-15), FMA(k, K(4.37113883e-08), FMA(k, K(-1.57079637), x)));
#else
    wide k0 = widen_low(k), k1 = widen_high(k); /* the first piece has 33 bits */
    return narrow(widen_low(x) - k0 * 1.57079632673412561417 - k0 * 6.07710050650619224932e-11,
                  widen_high(x) - k1 * 1.57079632673412561417 - k1 * 6.07710050650619224932e-11);
#endif
}

static inline vector sin_near(vector r, vector u) {
    vector p = FMA(u, K(-0.0001951521833005), K(0.008332160293851));
    return FMA(r * u, FMA(u, p, K(-0.1666665460231)), r);
}

static inline vector cos_near(vector u) {
    vector p = FMA(u, K(2.443308196948e-5), K(-0.00138873156096));
    return FMA(u * u, FMA(u, p, K(0.04166664567)), FMA(u, K(-0.5), K(1)));
}

/* Sine of r + n quarter turns. */
static inline vector sin_turned(vector r, whole n) {
    vector u = r * r, y = pick(has_bits((word)n, 1), cos_near(u), sin_near(r, u));
    return (vector)((word)y ^ ((word)n << 30 & 0x80000000u));
}

static inline vector SIN(vector x) {
    whole  n;
    lanes  far = less(K(0x1p17), absolute(x));
    vector r = quarter_turns(x, &n), y = pick(equal(x, K(0)), x, sin_turned(r, n));
    return any(far) ? by_lane(sinf, x, y, far) : y;
}

static inline vector COS(vector x) {
    whole  n;
    lanes  far = less(K(0x1p17), absolute(x));
    vector r = quarter_turns(x, &n), y = sin_turned(r, n + 1);
    return any(far) ? by_lane(cosf, x, y, far) : y;
}

/* tan r = r + r^3 P(r^2), and after an odd number of quarter turns -1 / tan r */
static inline vector TAN(vector x) {
    whole  n;
    lanes  far = less(K(0x1p17), absolute(x));
    vector r = quarter_turns(x, &n), u = r * r;
    vector p = FMA(u, K(0.009387676577329), K(0.003116135293918));
    p = FMA(u, p, K(0.0244324581776));
    p = FMA(u, p, K(0.05341064144473));
    p = FMA(u, p, K(0.1333880698252));
    p = FMA(u, p, K(0.3333315656788));
    vector t = FMA(r * u, p, r), y = pick(equal(x, K(0)), x, pick(has_bits((word)n, 1), -1 / t, t));
    return any(far) ? by_lane(tanf, x, y, far) : y;
}

#define HALF_PI 1.57079637f
#define HALF_PI_LOW -4.37113883e-8f

/* asin s where s <= 1/2, u = s^2 */
static inline vector asin_near(vector s, vector u) {
    vector p = FMA(u, K(0.0421662875384), K(0.02417953140014));
    p = FMA(u, p, K(0.04547037130123));
    p = FMA(u, p, K(0.07495297695877));
    p = FMA(u, p, K(0.1666675248005));
    return FMA(s * u, p, s);
}

/* asin x = pi/2 - 2 asin sqrt((1 - x) / 2) */
static inline vector ASIN(vector x) {
    vector a = absolute(x);
    lanes  large = less(K(0.5), a);
    vector u = pick(large, 0.5f - 0.5f * a, a * a), t = asin_near(pick(large, square_root(u), a), u);
    return with_sign(pick(large, HALF_PI - (2 * t - HALF_PI_LOW), t), x);
}

static inline vector ACOS(vector x) {
    vector a = absolute(x);
    lanes  large = less(K(0.5), a);
    vector u = pick(large, 0.5f - 0.5f * a, a * a), t = asin_near(pick(large, square_root(u), a), u);
    vector far = pick(less(x, K(0)), 2 * HALF_PI - (2 * t - 2 * HALF_PI_LOW), 2 * t);
    return pick(large, far, HALF_PI - (with_sign(t, x) - HALF_PI_LOW));
}

/* atan z for 0 <= z <= 1 */
static inline vector atan_near(vector z) {
    vector u = z * z, p = FMA(u, K(0.002920659038667), K(-0.0163677933598));
    p = FMA(u, p, K(0.04321163886582));
    p = FMA(u, p, K(-0.07552195263377));
    p = FMA(u, p, K(0.1066599566133));
    p = FMA(u, p, K(-0.1421105304419));
    p = FMA(u, p, K(0.1999377256925));
    p = FMA(u, p, K(-0.3333315272636));
    return FMA(z * u, p, z);
}

static inline vector ATAN(vector x) {
    vector a = absolute(x);
    lanes  large = less(K(1), a);
    vector t = atan_near(pick(large, 1 / a, a));
    return with_sign(pick(large, HALF_PI - (t - HALF_PI_LOW), t), x);
}

/* The angle of the point (b, a), from the smaller over the larger of the two; zeros have signs. */
static inline vector ATAN2(vector a, vector b) {
    vector y = absolute(a), x = absolute(b), high = larger(y, x), low = smaller(y, x);
    vector z = pick(equal(high, low), pick(equal(high, K(0)), K(0), K(1)), low / high), t = atan_near(z);
    t = pick(less(x, y), HALF_PI - (t - HALF_PI_LOW), t);
    t = pick(negative(b), 2 * HALF_PI - (t - 2 * HALF_PI_LOW), t);
    return with_sign(pick((lanes)(is_nan(a) | is_nan(b)), K(NAN), t), a);
}

#endif
