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

static inline __attribute__((always_inline)) half_doubles fold_units(const vector *at) {
    vector      part[PARTS];
    wide_floats all;
    UNROLL for (int u = 0; u < PARTS; u++) part[u] = at[u] + at[u + PARTS];
    memcpy(&all, part, sizeof all);
    return fold(&all);
}

#define STEP(row, a, b) v[k] = row##_row(v[a], v[b], v[a], v[b]), k++;
#define KEEP(row, a, b) \
    STEP(row, a, b) \
    if (value[k - 1] && left >= LANES) put((float *)value[k - 1] + i, v[k - 1], k == sizeof v / sizeof *v ? cached : 1); \
    if (value[k - 1] && left < LANES) put_part((float *)value[k - 1] + i, v[k - 1], left, k == sizeof v / sizeof *v ? cached : 1);
#define SUM(a) sum->at[s][unit] += left >= LANES ? v[a] : first_of(v[a], left), sum->value[s++] = k, v[k++] = v[a];

/* A row; a loop for any operands that are one element, and a shorter one for those that usually are. Chains with sums have these
 * alone. */
#define FUSED(name, operands, usual, steps) \
    static inline __attribute__((always_inline)) void name##_at(const vector *one, void *const *value, unsigned ones, int64_t i, \
                                                                int64_t left, sums *sum, int unit, uintptr_t cached) { \
        vector v[name##_values]; \
        int    k = operands, s = 0; \
        UNROLL for (int m = 0; m < operands; m++) { \
            const float *x = (const float *)value[m] + i; \
            v[m] = ones >> m & 1 ? one[m] : left >= LANES ? load(x) : load_part(x, left); \
        } \
        steps \
        (void)s, (void)sum, (void)unit, (void)cached; \
    } \
    static inline __attribute__((always_inline)) void name##_loop(void *const *given, unsigned ones, int64_t from, int64_t n, bool streams) { \
        void        *value[name##_values]; /* in registers: what is stored does not change them */ \
        vector       one[operands]; \
        half_doubles all[MOST_SUMS] = {{0}}; \
        sums         sum; \
        int64_t      i = from; \
        uintptr_t    cached = !streams; \
        UNROLL for (int v = 0; v < name##_values; v++) value[v] = given[v]; \
        UNROLL for (int m = 0; m < operands; m++) one[m] = splat(*(const float *)value[m]); \
        if (!name##_sums) { \
            for (; i + LANES <= n && !IS_SMALL; i += LANES) name##_at(one, value, ones, i, LANES, &sum, 0, cached); \
            if (i < n && !IS_SMALL) name##_at(one, value, ones, i, n - i, &sum, 0, cached); \
            for (; i < n && IS_SMALL; i += LANES) name##_at(one, value, ones, i, n - i, &sum, 0, cached); \
        } \
        while (i < n && name##_sums) { \
            int64_t end = n - i > STRETCH ? i + STRETCH : n; \
            UNROLL for (int s = 0; s < MOST_SUMS; s++) UNROLL for (int u = 0; u < UNITS; u++) sum.at[s][u] = K(0); \
            for (; i + 2 * WIDE <= end && !IS_SMALL; i += 2 * WIDE) \
                UNROLL_UNITS for (int u = 0; u < UNITS; u++) name##_at(one, value, ones, i + u * LANES, LANES, &sum, u, 1); \
            for (; i < end; i += WIDE) \
                UNROLL_UNITS for (int u = 0; u < PARTS; u++) \
                    if (i + u * LANES < end) name##_at(one, value, ones, i + u * LANES, end - i - u * LANES, &sum, u, 1); \
            i = end; \
            UNROLL for (int s = 0; s < name##_sums; s++) all[s] += fold_units(sum.at[s]); \
        } \
        UNROLL for (int s = 0; s < name##_sums; s++) \
            if (value[sum.value[s]]) *(float *)value[sum.value[s]] = (float)add_up(&all[s]); \
    } \
    static __attribute__((noinline)) void name##_usual(void *const *value, int64_t from, int64_t n, bool streams) { \
        name##_loop(value, usual, from, n, streams); \
    } \
    static __attribute__((noinline)) void name##_any(void *const *value, unsigned ones, int64_t from, int64_t n, bool streams) { \
        if (!name##_sums) name##_loop(value, ones, from, n, streams); \
    } \
    static void name##_fused(void *const *value, const int *step, unsigned ones, int64_t rows, int64_t n, bool streams) { \
        void *at[name##_values]; \
        memcpy(at, value, sizeof at); \
        for (; rows > 0 && n > 0; rows--) { \
            int64_t head = streams ? nb__before_line(at[name##_values - 1], n) : 0; \
            for (int64_t from = 0, end = head ? head : n; from < n; from = end, end = n) { \
                if (name##_sums || USUAL(usual, ones)) name##_usual(at, from, end, streams); \
                else name##_any(at, ones, from, end, streams); \
            } \
            for (int v = 0; v < name##_values && rows > 1; v++) at[v] = at[v] ? (char *)at[v] + step[v] : NULL; \
        } \
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
