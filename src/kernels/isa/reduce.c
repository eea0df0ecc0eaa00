/* reduce.c: sums, products and extremes of rows and columns, compiled once for each instruction set.
 *
 * Sums: partial results in 16 lanes, whatever a vector's width is, combined in a fixed tree. A float lane adds up at most DEPTH
 * elements before it is added to a double: so sums of millions of floats are good to the last bits, at the speed of floats.
 * Extremes do not depend on the order. */
#include "loops.h"

#include <math.h>
#include <stdbool.h>

#include "lanes.h"
#include "sums.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 8 /* rows that columns take at a time */ };

INLINE wide_floats load_wide(const float *x) {
    wide_floats v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* The first m < WIDE elements, zeros behind them. */
INLINE wide_floats load_part(const float *x, int64_t m) {
    floats part[WIDE / LANES] = {{0}};
    wide_floats   v;
    for (int k = 0; k < WIDE / LANES; k++)
        if (m > k * LANES) part[k] = load_floats(x + k * LANES, m - k * LANES < LANES ? m - k * LANES : LANES);
    memcpy(&v, part, sizeof v);
    return v;
}

/* Loops that read memory in its order stay loops: unrolled as a whole, their loads come in any, which the processor does not
 * foresee. */
#ifdef __clang__
#define AS_A_LOOP _Pragma("clang loop unroll(disable)")
#else
#define AS_A_LOOP _Pragma("GCC unroll 1")
#endif

/* Up to 4 DEPTH vectors: at most DEPTH in each lane. */
INLINE half_doubles sum_block(const float *x, int64_t n) {
    wide_floats    a = {0}, b = {0}, c = {0}, d = {0};
    int64_t i = 0;
    AS_A_LOOP for (; i + 4 * WIDE <= n; i += 4 * WIDE) {
        a += load_wide(x + i);
        b += load_wide(x + i + WIDE);
        c += load_wide(x + i + 2 * WIDE);
        d += load_wide(x + i + 3 * WIDE);
    }
    if (i + 2 * WIDE <= n) {
        a += load_wide(x + i);
        b += load_wide(x + i + WIDE);
        i += 2 * WIDE;
    }
    if (i + WIDE <= n) {
        c += load_wide(x + i);
        i += WIDE;
    }
    if (i < n) d += load_part(x + i, n - i);
    a = (a + b) + (c + d);
    return fold(&a);
}

INLINE double sum_row(const float *x, int64_t n) {
    enum { STRETCH = 4 * DEPTH * WIDE };
    half_doubles total = {0};
    for (; n > STRETCH; n -= STRETCH, x += STRETCH) total += sum_block(x, STRETCH);
    total += sum_block(x, n);
    return add_up(&total);
}

static double sum(const float *x, int64_t n) { return sum_row(x, n); }

static double prod(const float *x, int64_t n) {
    double  lane[WIDE];
    int64_t i = 0;
    for (int k = 0; k < WIDE; k++) lane[k] = 1;
    for (; i + WIDE <= n; i += WIDE)
        for (int k = 0; k < WIDE; k++) lane[k] *= (double)x[i + k];
    for (int k = 0; i < n; i++, k++) lane[k] *= (double)x[i];
    for (int half = WIDE / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) lane[k] *= lane[k + half];
    return lane[0];
}

/* ------------------------------------------------------------------------------------------------------------------- extremes */

/* The `half` lanes from the half-th on in the place of the first; the others are of no interest. */
INLINE floats upper(floats v, int half) {
#if defined(__AVX512F__)
    if (half == 8) return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    if (half == 4) return __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
    if (half == 2) return __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3);
    return __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
#elif defined(__AVX2__)
    if (half == 4) return __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7);
    if (half == 2) return __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3);
    return __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1);
#else
    if (half == 2) return __builtin_shufflevector(v, v, 2, 3, 2, 3);
    return __builtin_shufflevector(v, v, 1, 1, 1, 1);
#endif
}

INLINE floats better(bool least, floats a, floats b) { return least ? min_lanes(a, b) : max_lanes(a, b); }

/* NaN is looked for beside: max_lanes passes over it. The last vector overlaps the one before. */
INLINE float extreme(const float *x, int64_t n, bool least) {
    float  nothing = least ? INFINITY : -INFINITY;
    floats all = nothing - (floats){0}, a = all, b = all, c = all, d = all;
    mask   nan = either_nan(all, all);
    if (n < LANES) {
        floats v = load_floats(x, n);
        floats in = choose(first_mask(n), v, all);
        nan = either_nan(v, v);
        a = better(least, in, a);
    } else {
        int64_t i = 0;
        for (; i + 4 * LANES <= n; i += 4 * LANES) {
            floats p = load_all(x + i), q = load_all(x + i + LANES), r = load_all(x + i + 2 * LANES),
                   s = load_all(x + i + 3 * LANES);
            nan |= either_nan(p, q) | either_nan(r, s);
            a = better(least, p, a);
            b = better(least, q, b);
            c = better(least, r, c);
            d = better(least, s, d);
        }
        for (; i < n; i += LANES) {
            floats p = load_all(x + (i + LANES <= n ? i : n - LANES));
            nan |= either_nan(p, p);
            a = better(least, p, a);
        }
    }
    if (bits_of_mask(nan)) return NAN;
    a = better(least, better(least, a, b), better(least, c, d));
    for (int half = LANES / 2; half > 0; half /= 2) a = better(least, upper(a, half), a);
    return a[0];
}

static float max(const float *x, int64_t n) { return extreme(x, n, false); }
static float min(const float *x, int64_t n) { return extreme(x, n, true); }

INLINE unsigned is_value(floats v, float value) {
    return bits_of_mask(value == value ? equal_floats(v, value) : either_nan(v, v));
}

INLINE int64_t find_first(const float *x, int64_t n, float value) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        unsigned found = is_value(load_all(x + i), value);
        if (found) return i + __builtin_ctz(found);
    }
    for (; i < n; i++)
        if (x[i] == value || (value != value && x[i] != x[i])) return i;
    return -1;
}

static int64_t find(const float *x, int64_t n, float value) { return find_first(x, n, value); }

/* ----------------------------------------------------------------------------------------------------------------------- rows */

enum { FEW = 8 }; /* elements of a row for which a vector is more than is needed */

static void sum_rows(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows && n <= FEW; i++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++) sum += (double)x[i * stride + k];
        ((float *)y)[i * y_stride] = (float)sum;
    }
    if (n <= FEW) return;
    for (int64_t i = 0; i < rows; i++) ((float *)y)[i * y_stride] = (float)sum_row(x + i * stride, n);
}

/* The extreme of a row of few elements. */
INLINE float extreme_of_few(const float *x, int64_t n, bool smallest) {
    float best = x[0];
    for (int64_t k = 1; k < n; k++) best = ((smallest ? x[k] < best : x[k] > best) | (x[k] != x[k])) ? x[k] : best;
    return best;
}

static void max_rows(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows && n <= FEW; i++) ((float *)y)[i * y_stride] = extreme_of_few(x + i * stride, n, false);
    if (n <= FEW) return;
    for (int64_t i = 0; i < rows; i++) ((float *)y)[i * y_stride] = extreme(x + i * stride, n, false);
}

static void min_rows(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows && n <= FEW; i++) ((float *)y)[i * y_stride] = extreme_of_few(x + i * stride, n, true);
    if (n <= FEW) return;
    for (int64_t i = 0; i < rows; i++) ((float *)y)[i * y_stride] = extreme(x + i * stride, n, true);
}

static void argmax_rows(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++, x += stride) ((int64_t *)y)[i * y_stride] = find_first(x, n, extreme(x, n, false));
}

static void argmin_rows(void *y, int64_t y_stride, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++, x += stride) ((int64_t *)y)[i * y_stride] = find_first(x, n, extreme(x, n, true));
}

static void spread_rows(float *y, const float *x, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++, y += n) {
        const float v = x[i];
        int64_t     j = 0;
        for (; j + WIDE <= n; j += WIDE)
            for (int k = 0; k < WIDE; k++) y[j + k] = v;
        for (; j < n; j++) y[j] = v;
    }
}

/* -------------------------------------------------------------------------------------------------------------------- columns */

/* The columns' next BLOCK rows, behind those at x, if `rows` are left: the processor does not foresee so many streams by
 * itself. */
INLINE void fetch(const float *x, int64_t stride, int64_t rows) {
    if (rows < BLOCK) return;
    for (int i = 0; i < BLOCK; i++) __builtin_prefetch(x + (BLOCK + i) * stride, 0, 2);
}

/* The sums of BLOCK rows in float, then in double. */
static void sum_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    for (; rows >= BLOCK; rows -= BLOCK, x += BLOCK * stride) {
        int64_t j = 0;
        for (; j + WIDE <= n; j += WIDE) {
            wide_floats v[BLOCK];
            fetch(x + j, stride, rows - BLOCK);
            for (int i = 0; i < BLOCK; i++) v[i] = load_wide(x + i * stride + j);
            v[0] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
            half_floats h[2];
            memcpy(h, v, sizeof h);
            for (int k = 0; k < 2; k++) {
                half_doubles at;
                memcpy(&at, y + j + k * (WIDE / 2), sizeof at);
                at += __builtin_convertvector(h[k], half_doubles);
                memcpy(y + j + k * (WIDE / 2), &at, sizeof at);
            }
        }
        for (; j < n; j++) {
            const float *v = x + j;
            float        low = (v[0] + v[stride]) + (v[2 * stride] + v[3 * stride]);
            float        high = (v[4 * stride] + v[5 * stride]) + (v[6 * stride] + v[7 * stride]);
            y[j] += (double)(low + high);
        }
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) y[j] += (double)x[i * stride + j];
}

INLINE void extreme_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n, bool least) {
    for (int64_t r = 0; r < rows; r += BLOCK, x += BLOCK * stride) {
        int64_t many = rows - r < BLOCK ? rows - r : BLOCK;
        for (int64_t j = 0; j < n; j += LANES) {
            int64_t m = n - j < LANES ? n - j : LANES;
            fetch(x + j, stride, rows - r - BLOCK);
            floats best = load_floats(x + j, m);
            mask   nan = either_nan(best, best);
            for (int64_t i = 1; i < many; i++) {
                floats v = m == LANES ? load_all(x + i * stride + j) : load_floats(x + i * stride + j, m);
                nan |= either_nan(v, v);
                best = better(least, v, best);
            }
            float lane[LANES];
            store_all(lane, choose(nan, NAN - (floats){0}, best));
            for (int k = 0; k < m; k++) {
                double v = (double)lane[k], old = y[j + k];
                y[j + k] = (least ? v >= old : v <= old) || old != old ? old : v;
            }
        }
    }
}

static void max_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    extreme_columns(y, x, rows, stride, n, false);
}
static void min_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    extreme_columns(y, x, rows, stride, n, true);
}

/* A smaller one is larger with the sign turned. */
INLINE void place_columns(double *y, int64_t *place, const float *x, int64_t first, int64_t rows, int64_t stride, int64_t n,
                          bool least) {
    for (int64_t r = 0; r < rows; r += BLOCK, x += BLOCK * stride) {
        int64_t many = rows - r < BLOCK ? rows - r : BLOCK;
        for (int64_t j = 0; j < n; j += LANES) {
            int64_t m = n - j < LANES ? n - j : LANES;
            fetch(x + j, stride, rows - r - BLOCK);
            floats best = load_floats(x + j, m);
            places where = {0};
            if (least) best = -best;
            for (int64_t i = 1; i < many; i++) {
                floats v = m == LANES ? load_all(x + i * stride + j) : load_floats(x + i * stride + j, m);
                if (least) v = -v;
                mask take = is_larger(v, best);
                best = choose(take, v, best);
                where = choose_places(take, (int32_t)i - (places){0}, where);
            }
            float   lane[LANES];
            int32_t number[LANES];
            store_all(lane, least ? -best : best);
            memcpy(number, &where, sizeof number);
            for (int k = 0; k < m; k++) {
                double v = (double)lane[k], old = y[j + k];
                bool   keep = place[j + k] >= 0 && ((least ? v >= old : v <= old) || old != old);
                y[j + k] = keep ? old : v;
                place[j + k] = keep ? place[j + k] : first + r + number[k];
            }
        }
    }
}

static void argmax_columns(double *y, int64_t *place, const float *x, int64_t first, int64_t rows, int64_t stride, int64_t n) {
    place_columns(y, place, x, first, rows, stride, n, false);
}

static void argmin_columns(double *y, int64_t *place, const float *x, int64_t first, int64_t rows, int64_t stride, int64_t n) {
    place_columns(y, place, x, first, rows, stride, n, true);
}

const struct nb__loops JOIN(nb__loops_, NB__ISA) = {
    sum,         prod,        max,         min,         find,        sum_rows,    max_rows,       min_rows,
    argmax_rows, argmin_rows, spread_rows, sum_columns, max_columns, min_columns, argmax_columns, argmin_columns};
