/* rows.c: many rows that lie one behind the other, each reduced to a number or made of one. A call for each row would cost more than a row of
 * some dozens of elements. */
#include <stdbool.h>

#include "loops.h"
#include "vector.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* Sixteen lanes whatever the instruction set, and their sum by a fixed tree: so that all sets agree. */
enum { PARTS = 16 / LANES };
typedef struct sixteen {
    vector part[PARTS];
} sixteen;

static inline void add_from(sixteen *s, const float *x) {
    for (int i = 0; i < PARTS; i++) s->part[i] += load(x + i * LANES);
}

static inline void add(sixteen *s, const sixteen *t) {
    for (int i = 0; i < PARTS; i++) s->part[i] += t->part[i];
}

/* Lane i + k, round the end, of a vector. */
static inline vector rotate(vector v, int k) {
    whole at = {0};
    for (int i = 0; i < LANES; i++) at[i] = (i + k) % LANES;
    return __builtin_shuffle(v, at);
}

/* Lanes 0 to 7 plus lanes 8 to 15, of these the first four plus the last four, and so on. */
static inline float add_lanes(sixteen *s) {
    for (int half = PARTS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s->part[i] += s->part[i + half];
    vector v = s->part[0];
    for (int half = LANES / 2; half > 0; half /= 2) v += rotate(v, half);
    return v[0];
}

/* Four times sixteen lanes of at most sixteen elements each; the few at the end are added last. */
static float sum_row(const float *x, int64_t n) {
    enum { DEEP = 1024 };
    double total = 0;
    while (n >= 16) {
        int64_t block = n < DEEP ? n : DEEP, i = 0;
        sixteen a = {0}, b = {0}, c = {0}, d = {0};
        for (; i + 64 <= block; i += 64) {
            add_from(&a, x + i);
            add_from(&b, x + i + 16);
            add_from(&c, x + i + 32);
            add_from(&d, x + i + 48);
        }
        for (; i + 16 <= block; i += 16) add_from(&a, x + i);
        add(&a, &c);
        add(&b, &d);
        add(&a, &b);
        total += (double)add_lanes(&a);
        x += i;
        n -= i;
    }
    for (int64_t i = 0; i < n; i++) total += (double)x[i];
    return (float)total;
}

static void sum_rows(float *y, const float *x, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++) y[r] = sum_row(x + r * n, n);
}

static inline vector better(bool largest, vector a, vector b) { return largest ? larger(a, b) : smaller(a, b); }

/* NaN where one element is. The last vector may overlap the one before. */
static inline float extreme(bool largest, const float *x, int64_t n) {
    if (n < LANES) {
        float best = x[0];
        for (int64_t i = 1; i < n; i++) best = ((largest ? x[i] > best : x[i] < best) | (x[i] != x[i])) ? x[i] : best;
        return best;
    }
    vector v = load(x);
    lanes  bad = is_nan(v);
    for (int64_t i = LANES; i < n; i += LANES) {
        vector next = load(x + (i + LANES <= n ? i : n - LANES));
        bad |= is_nan(next);
        v = better(largest, next, v);
    }
    for (int half = LANES / 2; half > 0; half /= 2) v = better(largest, rotate(v, half), v);
    return any(bad) ? __builtin_nanf("") : v[0];
}

static void max_rows(float *y, const float *x, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++) y[r] = extreme(true, x + r * n, n);
}

static void min_rows(float *y, const float *x, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++) y[r] = extreme(false, x + r * n, n);
}

static void spread_rows(float *y, const float *x, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, y += n) {
        vector v = splat(x[r]);
        if (n < LANES) {
            for (int64_t i = 0; i < n; i++) y[i] = x[r];
            continue;
        }
        for (int64_t i = 0; i + LANES < n; i += LANES) store(y + i, v);
        store(y + n - LANES, v);
    }
}

const struct nb__row_loops JOIN(nb__row_loops_, NB__ISA) = {sum_rows, max_rows, min_rows, spread_rows};
