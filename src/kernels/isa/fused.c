/* fused.c: the chains of fused.def as loops over n contiguous elements, made of the formulas of their rows. */
#include "kernels.h"
#include "vmath.h"

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* The rows as functions. */
#define FUNCTION_F_SAME ROW_FUNCTION
#define FUNCTION_N_SAME ROW_FUNCTION
#define FUNCTION_F_BOOL NO_FUNCTION
#define FUNCTION_A_BOOL NO_FUNCTION
#define FUNCTION_B_BOOL NO_FUNCTION
#define FUNCTION_W_SAME NO_FUNCTION
#define NO_FUNCTION(...)
#define ROW_FUNCTION(name, formula) \
    static inline __attribute__((unused)) vector name##_row(vector a, vector b, vector p, vector q) { \
        (void)b, (void)p, (void)q; \
        return formula; \
    }
#define ROW(name, operands, parameters, types, result, formula, ...) FUNCTION_##types##_##result(name, formula)
#include "elementwise.def"
#undef ROW

/* How many values each chain has. */
#define STEP(row, a, b) +1
#define KEEP STEP
#define FUSED(name, operands, usual, steps) enum { name##_values = operands steps };
#include "fused.def"
#undef FUSED
#undef KEEP
#undef STEP

#define STEP(row, a, b) v[k] = row##_row(v[a], v[b], v[a], v[b]), k++;
#define KEEP(row, a, b) \
    STEP(row, a, b) \
    if (value[k - 1] && left >= LANES) store((float *)value[k - 1] + i, v[k - 1]); \
    if (value[k - 1] && left < LANES) store_part((float *)value[k - 1] + i, v[k - 1], left);

/* A loop for any operands that are one element, and a shorter one for those that usually are. */
#define FUSED(name, operands, usual, steps) \
    static inline __attribute__((always_inline)) void name##_at(const vector *one, void *const *value, unsigned ones, int64_t i, int64_t left) { \
        vector v[name##_values]; \
        int    k = operands; \
        UNROLL for (int m = 0; m < operands; m++) { \
            const float *x = (const float *)value[m] + i; \
            v[m] = ones >> m & 1 ? one[m] : left >= LANES ? load(x) : load_part(x, left); \
        } \
        steps \
    } \
    static inline __attribute__((always_inline)) void name##_loop(void *const *value, unsigned ones, int64_t n) { \
        vector  one[operands]; \
        int64_t i = 0; \
        UNROLL for (int m = 0; m < operands; m++) one[m] = splat(*(const float *)value[m]); \
        for (; i + LANES <= n; i += LANES) name##_at(one, value, ones, i, LANES); \
        if (i < n) name##_at(one, value, ones, i, n - i); \
    } \
    static void name##_fused(void *const *value, unsigned ones, int64_t n) { \
        void *at[name##_values]; /* of our own: what is stored does not change it */ \
        memcpy(at, value, sizeof at); \
        if (n < 1) return; \
        if (ones == (usual)) name##_loop(at, usual, n); \
        else name##_loop(at, ones, n); \
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
