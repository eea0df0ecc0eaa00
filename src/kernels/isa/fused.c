/* fused.c: the chains of fused.def as loops over n contiguous elements, made of the formulas of their rows; row by row where sums
 * of rows are among the steps, or operands have one element for a row. */
#include "rows.h"
#include "sums.h"

/* How many values each chain has, and how many sums. */
#define STEP(row, a, b) +1
#define KEEP STEP
#define SUM(a) +1
#define FUSED(name, operands, usual, steps) enum { name##_values = operands steps };
#include "fused.def"
#undef FUSED
#undef SUM
#undef KEEP
#undef STEP
#define STEP(row, a, b)
#define KEEP(row, a, b)
#define SUM(a) +1
#define FUSED(name, operands, usual, steps) enum { name##_sums = 0 steps };
#include "fused.def"
#undef FUSED
#undef STEP
#undef KEEP
#undef SUM

/* Sums are taken of two times 16 lanes, which are added up apart from each other. */
enum { PARTS = WIDE / LANES, UNITS = 2 * PARTS, STRETCH = 2 * WIDE * DEPTH, MOST_SUMS = 2 };

/* The oldest set is kept small: one loop for all cases. */
#if defined(__AVX2__)
enum { IS_SMALL = 0 };
#define UNROLL_UNITS UNROLL
#else
enum { IS_SMALL = 1 };
#define UNROLL_UNITS
#endif
#define USUAL(usual, ones) (!IS_SMALL && (ones) == (usual))

typedef struct sums {
    vector at[MOST_SUMS][UNITS];
    int    value[MOST_SUMS]; /* whose they are */
} sums;

INLINE half_doubles fold_units(const vector *at) {
    vector      part[PARTS];
    wide_floats all;
    UNROLL for (int u = 0; u < PARTS; u++) part[u] = at[u] + at[u + PARTS];
    memcpy(&all, part, sizeof all);
    return fold(&all);
}

/* ------------------------------------------------------------------------------------------------- the steps of each chain -- */

/* Elements i .. i + left - 1 of a row: a vector of them, or its first elements. */
typedef struct place {
    int64_t   i, left;
    int       unit;   /* of the sums */
    uintptr_t cached; /* of the last result: not past the caches */
} place;

INLINE vector operand(const float *x, place p) { return p.left >= LANES ? load(x + p.i) : load_part(x + p.i, p.left); }

INLINE void keep(float *y, vector x, place p, uintptr_t cached) {
    if (y && p.left >= LANES) put(y + p.i, x, cached);
    if (y && p.left < LANES) put_part(y + p.i, x, p.left, cached);
}

INLINE void add_term(sums *sum, int s, vector x, place p) { sum->at[s][p.unit] += p.left >= LANES ? x : first_of(x, p.left); }

/* All steps at one place; `one`: the operands of `ones`, which are one element, in all lanes. */
typedef void steps_at(void *const *value, const vector *one, unsigned ones, place p, sums *sum);

#define STEP(row, a, b) v[k] = row##_row(v[a], v[b], v[a], v[b]), k++;
#define KEEP(row, a, b) \
    STEP(row, a, b) \
    keep(value[k - 1], v[k - 1], p, k == values ? p.cached : 1);
#define SUM(a) add_term(sum, s, v[a], p), sum->value[s++] = k, v[k++] = v[a];
#define FUSED(name, operands, usual, steps) \
    INLINE void name##_at(void *const *value, const vector *one, unsigned ones, place p, sums *sum) { \
        enum { values = name##_values }; \
        vector v[values]; \
        int    k = operands, s = 0; \
        UNROLL for (int m = 0; m < operands; m++) v[m] = ones >> m & 1 ? one[m] : operand(value[m], p); \
        steps \
        (void)s, (void)sum; \
    }
#include "fused.def"
#undef FUSED

/* ---------------------------------------------------------------------------------------------------------- loops of them -- */

INLINE void loop(steps_at *at, void *const *value, const vector *one, unsigned ones, int64_t i, int64_t n, uintptr_t cached) {
    for (; i + LANES <= n && !IS_SMALL; i += LANES) at(value, one, ones, (place){i, LANES, 0, cached}, NULL);
    if (i < n && !IS_SMALL) at(value, one, ones, (place){i, n - i, 0, cached}, NULL);
    for (; i < n && IS_SMALL; i += LANES) at(value, one, ones, (place){i, n - i, 0, cached}, NULL);
}

INLINE void loop_with_sums(steps_at *at, const int n_sums, void *const *value, const vector *one, unsigned ones, int64_t i,
                           int64_t n) {
    half_doubles all[MOST_SUMS] = {{0}};
    sums         sum;
    while (i < n) {
        int64_t end = n - i > STRETCH ? i + STRETCH : n;
        UNROLL for (int s = 0; s < MOST_SUMS; s++) UNROLL for (int u = 0; u < UNITS; u++) sum.at[s][u] = K(0);
        for (; i + 2 * WIDE <= end && !IS_SMALL; i += 2 * WIDE)
            UNROLL_UNITS for (int u = 0; u < UNITS; u++) at(value, one, ones, (place){i + u * LANES, LANES, u, 1}, &sum);
        for (; i < end; i += WIDE)
            UNROLL_UNITS for (int u = 0; u < PARTS; u++)
                if (i + u * LANES < end) at(value, one, ones, (place){i + u * LANES, end - i - u * LANES, u, 1}, &sum);
        i = end;
        UNROLL for (int s = 0; s < n_sums; s++) all[s] += fold_units(sum.at[s]);
    }
    UNROLL for (int s = 0; s < n_sums; s++)
        if (value[sum.value[s]]) *(float *)value[sum.value[s]] = (float)add_up(&all[s]);
}

/* Elements from .. n - 1 of a row. */
INLINE void part_of_row(steps_at *at, const int operands, const int values, const int n_sums, void *const *given, unsigned ones,
                        int64_t from, int64_t n, bool streams) {
    void  *value[NB__CHAIN_VALUES]; /* in registers: what is stored does not change them */
    vector one[NB__CHAIN_VALUES];
    UNROLL for (int v = 0; v < values; v++) value[v] = given[v];
    UNROLL for (int m = 0; m < operands; m++) one[m] = splat(*(const float *)value[m]);
    if (n_sums)
        loop_with_sums(at, n_sums, value, one, ones, from, n);
    else
        loop(at, value, one, ones, from, n, !streams);
}

typedef void usual_part(void *const *value, int64_t from, int64_t n, bool streams);
typedef void any_part(void *const *value, unsigned ones, int64_t from, int64_t n, bool streams);

/* Row by row. */
INLINE void all_rows(usual_part *usual, any_part *unusual, bool is_usual, const int values, void *const *given, const int *step,
                     unsigned ones, int64_t rows, int64_t n, bool streams) {
    void *value[NB__CHAIN_VALUES];
    memcpy(value, given, (size_t)values * sizeof *value);
    for (; rows > 0 && n > 0; rows--) {
        int64_t head = streams ? nb__before_line(value[values - 1], n) : 0;
        for (int64_t from = 0, end = head ? head : n; from < n; from = end, end = n) {
            if (is_usual)
                usual(value, from, end, streams);
            else
                unusual(value, ones, from, end, streams);
        }
        /* A choice, no condition: a store of some lanes would hold up the loads after it. */
        for (int v = 0; v < values && rows > 1; v++) value[v] = value[v] ? (char *)value[v] + step[v] : NULL;
    }
}

/* A loop for any operands that are one element, and a shorter one for those that usually are. Chains with sums have these
 * alone. */
#define FUSED(name, operands, usual, steps) \
    static __attribute__((noinline)) void name##_usual(void *const *value, int64_t from, int64_t n, bool streams) { \
        part_of_row(name##_at, operands, name##_values, name##_sums, value, usual, from, n, streams); \
    } \
    static __attribute__((noinline)) void name##_any(void *const *value, unsigned ones, int64_t from, int64_t n, bool streams) { \
        if (name##_sums == 0) part_of_row(name##_at, operands, name##_values, name##_sums, value, ones, from, n, streams); \
    } \
    static void name##_fused(void *const *value, const int *step, unsigned ones, int64_t rows, int64_t n, bool streams) { \
        bool is_usual = name##_sums > 0 || USUAL(usual, ones); \
        all_rows(name##_usual, name##_any, is_usual, name##_values, value, step, ones, rows, n, streams); \
    }
#include "fused.def"
#undef FUSED

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
nb__chain_tile *const JOIN(nb__chains_, NB__ISA)[] = {
#define FUSED(name, ...) name##_fused,
#include "fused.def"
#undef FUSED
};
