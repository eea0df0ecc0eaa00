/* test_accuracy.c: the errors of the vector functions of every instruction set in units in the last place (ulp), against the
 * formulas in double. LONG=1 goes through every float for those that promise a bound over all floats; else one in so many, and
 * all floats around the hard places. NABLA_ULP_ROW=sin measures one of them alone, NABLA_ULP_STEP=1 with every float. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "elementwise.h"
#include "draw.h"
#include "kernels.h"

static const char *const isas[] = {"baseline", "v3", "v4"};
enum { ISAS = 3, CHUNK = 4096 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOW = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SLOW = 1 };
#else
enum { SLOW = 0 };
#endif
#else
enum { SLOW = 0 };
#endif

static const struct {
    const char *name;
    int         operands;
    char        types;
    const char *result;
} rows[] = {
#define ROW(name, operands, parameters, types, result, formula, da, db, dc, math, gradient, low, high)                           \
    {#name, operands, #types[0], #result},
#include "elementwise.def"
#undef ROW
};

/* Largest errors allowed, in ulp; and an absolute error that is allowed anyway, as a part of |x|: 1 + erf(x / sqrt 2) and its
 * like cancel far out, where x times it is next to nothing. `promised`: over all floats. */
static const struct bound {
    int    row;
    double ulps, absolute;
    bool   promised;
} bounds[] = {
    {NB__ROW_exp, 2, 0, true},          {NB__ROW_log, 2, 0, true},          {NB__ROW_tanh, 2, 0, true},
    {NB__ROW_erf, 2, 0, true},          {NB__ROW_sin, 2, 0, true},          {NB__ROW_cos, 2, 0, true},
    {NB__ROW_sigmoid, 2, 0, true},      {NB__ROW_exp2, 2, 0, false},        {NB__ROW_expm1, 2, 0, false},
    {NB__ROW_log2, 2, 0, false},        {NB__ROW_log1p, 2, 0, false},       {NB__ROW_tan, 4, 0, false},
    {NB__ROW_asin, 3, 0, false},        {NB__ROW_acos, 3, 0, false},        {NB__ROW_atan, 3, 0, false},
    {NB__ROW_sinh, 3, 0, false},        {NB__ROW_cosh, 3, 0, false},        {NB__ROW_sqrt, 0.5, 0, false},
    {NB__ROW_softplus, 3, 0, false},    {NB__ROW_gelu, 3, 0x1p-24, false},  {NB__ROW_gelu_tanh, 4, 0x1p-24, false},
    {NB__ROW_silu, 3, 0x1p-126, false}, {NB__ROW_mish, 4, 0x1p-126, false}, {NB__ROW_pow, 1, 0, false},
    {NB__ROW_mod, 0.5, 0, false},       {NB__ROW_atan2, 3, 0, false},       {NB__ROW_gelu_tanh_grad, 4, 0x1p-22, false},
};

static struct bound bound_of(int row) {
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].row == row) return bounds[i];
    return (struct bound){row, 3, 0, false};
}

/* One ulp of a float near v, from v's exponent. */
static double ulp(double v) {
    union {
        double   f;
        uint64_t u;
    } x = {.f = v}, y;
    int64_t e = (int64_t)(x.u >> 52 & 0x7ff) - 23;
    if (e > 1023 + 104) e = 1023 + 104;
    if (e < 1023 - 149) e = 1023 - 149;
    y.u = (uint64_t)e << 52;
    return y.f;
}

/* Infinity, NaN and overflow agree. */
static bool same_edge(float got, double expected) {
    if (isnan(got) || isnan(expected)) return isnan(got) && isnan(expected);
    return got == (float)expected || (fabs(expected) > 0.9999999 * FLT_MAX && fabsf(got) > 0.9999999f * FLT_MAX);
}

typedef struct worst {
    double ulps[ISAS];
    float  at[ISAS], other[ISAS];
} worst;

static void check_chunk(int row, const float *x, const float *b, int n, worst *w) {
    static float  y[CHUNK];
    static double expected[CHUNK];
    struct bound  bound = bound_of(row);
    for (int i = 0; i < n; i++) expected[i] = nb__row_real(row, x[i], b ? b[i] : 0, 0, 0.25, 1.25);
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        isa->tiles[row](y, x, b, NULL, n, 0.25, 1.25, false);
        for (int i = 0; i < n; i++) {
            double spare = bound.absolute > 0 ? bound.absolute * fabs(b ? b[i] : x[i]) : 0;
            double error = (fabs(y[i] - expected[i]) - spare) / ulp(expected[i]);
            if (y[i] == 0 && expected[i] == 0 && !signbit(y[i]) != !signbit(expected[i]) && rows[row].operands == 1)
                fail_msg("%s %s(%a) is %a, not %a", isas[k], rows[row].name, x[i], y[i], expected[i]);
            if (error <= w->ulps[k]) continue;
            if (!isfinite((float)expected[i]) || !isfinite(y[i])) {
                if (!same_edge(y[i], expected[i]))
                    fail_msg("%s %s(%a, %a) is %a, not %a", isas[k], rows[row].name, x[i], b ? b[i] : 0, y[i], expected[i]);
                continue;
            }
            w->ulps[k] = error;
            w->at[k] = x[i];
            w->other[k] = b ? b[i] : 0;
        }
    }
}

static void report(int row, const worst *w) {
    printf("    %-12s", rows[row].name);
    for (int k = 0; k < ISAS; k++) printf("  %s %.3f at %a", isas[k], w->ulps[k], w->at[k]);
    printf("\n");
    fflush(stdout);
    for (int k = 0; k < ISAS; k++)
        if (w->ulps[k] > bound_of(row).ulps)
            fail_msg("%s %s(%a, %a): %g ulp, allowed are %g", isas[k], rows[row].name, w->at[k], w->other[k], w->ulps[k],
                     bound_of(row).ulps);
}

/* The floats whose bits are first, first + step, ... below end. */
static void check_range(int row, uint64_t first, uint64_t end, uint64_t step, worst *w) {
    static float x[CHUNK];
    for (uint64_t bits = first; bits < end;) {
        int n = 0;
        for (; n < CHUNK && bits < end; n++, bits += step) {
            uint32_t one = (uint32_t)bits;
            memcpy(&x[n], &one, 4);
        }
        check_chunk(row, x, NULL, n, w);
    }
}

/* Floats on both sides of where formulas change, overflow or cancel, and of multiples of pi/2. */
static void check_hard(int row, worst *w) {
    static const float hard[] = {0,       0x1p-149f,   FLT_MIN, 0x1p-12f,   0.25f,  0.34657359f, 0.41421356f, 0.5f,
                                 0.625f,  0.70710678f, 1,       1.4142136f, 2,      2.4142137f,  3.9f,        4,
                                 9,       10,          17.3f,   20,         30,     87.33f,      88.02f,      88.72f,
                                 89,      89.41f,      103.28f, 104,        126,    128,         149,         150,
                                 0x1p17f, 0x1p22f,     0x1p23f, 0x1p31f,    FLT_MAX,     3.2877851f};
    enum { AROUND = 200 };
    static float x[2 * AROUND];
    for (size_t i = 0; i < sizeof hard / sizeof *hard + 256; i++) {
        uint32_t bits;
        float    middle = i < 256 ? (float)(1.5707963267948966 * (double)(i < 128 ? i : i * i * 2)) : hard[i - 256];
        memcpy(&bits, &middle, 4);
        for (int k = 0; k < 2 * AROUND; k++) {
            int64_t  at = (int64_t)bits + k / 2 - AROUND / 2;
            uint32_t one = (uint32_t)(at < 0 ? 0 : at) | (k & 1 ? 0x80000000u : 0);
            memcpy(&x[k], &one, 4);
        }
        check_chunk(row, x, NULL, 2 * AROUND, w);
    }
}

static void test_one_operand(void **state) {
    (void)state;
    bool        is_long = getenv("LONG") && !SLOW;
    const char *step = getenv("NABLA_ULP_STEP"), *only = getenv("NABLA_ULP_ROW");
    printf("largest error in units in the last place\n");
    for (int row = 0; row < NB__ROWS; row++) {
        if (rows[row].operands != 1 || rows[row].types == 'B' || rows[row].result[0] == 'B') continue;
        if (only && strcmp(only, rows[row].name)) continue;
        worst w = {0};
        check_hard(row, &w);
        uint64_t by = step ? (uint64_t)atoi(step) : !is_long ? 20011 : bound_of(row).promised ? 1 : 101;
        bool is_near = row == NB__ROW_sin || row == NB__ROW_cos; /* beyond 2^17 they are the C library's */
        for (uint64_t sign = 0; sign <= 0x80000000; sign += 0x80000000) {
            uint64_t near = sign + (is_near ? 0x48000000 : 0x80000000);
            check_range(row, sign, near, by, &w);
            check_range(row, near, sign + 0x80000000, by > 1009 ? by : 1009, &w);
        }
        report(row, &w);
    }
}

static float draw_bits(void) {
    uint32_t bits = draw();
    float    x;
    memcpy(&x, &bits, 4);
    return isnan(x) ? NAN : x; /* signalling ones are something else in double */
}

/* pow, mod, atan2: any two floats; and pairs whose power, quotient or angle is a middling number. */
static void test_two_operands(void **state) {
    (void)state;
    static const int list[] = {NB__ROW_pow, NB__ROW_mod, NB__ROW_atan2, NB__ROW_gelu_tanh_grad};
    static float     a[CHUNK], b[CHUNK];
    for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
        worst w = {0};
        for (int round = 0; round < (getenv("LONG") && !SLOW ? 30000 : 120); round++) {
            for (int i = 0; i < CHUNK; i++) {
                float c = (float)(int32_t)draw() * 0x1p-24f; /* up to 128 */
                a[i] = draw_bits();
                b[i] = i % 4 == 0 ? draw_bits() : i % 4 == 1 ? rintf(c) : i % 4 == 2 ? a[i] * c : c;
                if (list[k] == NB__ROW_pow && i % 4 > 1) b[i] = c / log2f(fabsf(a[i]));
                if (list[k] == NB__ROW_pow && i % 8 == 7) a[i] = 1 + c * 0x1p-12f, b[i] = c * 32;
            }
            check_chunk(list[k], a, b, CHUNK, &w);
        }
        report(list[k], &w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_operand), cmocka_unit_test(test_two_operands)};
    return cmocka_run_group_tests_name("accuracy", tests, NULL, NULL);
}
