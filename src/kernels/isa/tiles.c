/* tiles.c: every row of elementwise.def as a loop over n contiguous elements, made of the row's own formula. Compiled once for
 * each instruction set. Rows of floats are made of vectors (vmath.h). Where bools come in or out, formulas are comparisons and
 * choices only: loops over single elements, of which compilers make good vector code that mixes both widths. */
#include "independent.h"
#include "kernels.h"
#include "vmath.h"

/* Which of the two, by the class of the operands and the result's type (see elementwise.def). */
#define FORM_F_SAME REALS
#define FORM_N_SAME REALS
#define FORM_F_BOOL TRUTHS
#define FORM_A_BOOL TRUTHS
#define FORM_B_BOOL TRUTHS
#define FORM_W_SAME TRUTHS
#define ROW(name, operands, parameters, types, result, formula, ...) \
    FORM_##types##_##result(name, operands, types, result, formula)

/* The operands that a row has. */
#define OPERANDS_1(A, B, C) A
#define OPERANDS_2(A, B, C) A B
#define OPERANDS_3(A, B, C) A B C

/* ------------------------------------------------------------------------------------------------------------------ floats -- */

/* In place, too: elements are read before their result is written. */
#define REALS(name, operands, types, result, formula) \
    static void name##_tile(void *out, const void *va, const void *vb, const void *vc, int64_t n, double p_, double q_, \
                            bool streams) { \
        const vector p = splat((float)p_), q = splat((float)q_); \
        const float *pa = va, *pb = vb; \
        float       *y = out; \
        uintptr_t    cached = !streams; \
        int64_t      i = 0; \
        (void)p, (void)q, (void)pb, (void)vc; \
        for (; i + LANES <= n; i += LANES) { \
            OPERANDS_##operands(const vector a = load(pa + i);, const vector b = load(pb + i);, ) \
            put(y + i, formula, cached); \
        } \
        if (i < n) { \
            OPERANDS_##operands(const vector a = load_part(pa + i, n - i);, const vector b = load_part(pb + i, n - i);, ) \
            put_part(y + i, formula, n - i, cached); \
        } \
    }
#define TRUTHS(...)
#include "elementwise.def"
#undef REALS
#undef TRUTHS

/* ------------------------------------------------------------------------------------------------------------------- bools -- */

/* Words for single elements, as far as these rows use them. */
#undef K
#undef ABS
#undef WHERE
#define K(value) ((float)(value))
#define ABS __builtin_fabsf
#define WHERE(condition, a, b) ((condition) ? (a) : (b))

#define A_F float
#define B_F float
#define A_A float
#define B_A float
#define A_B uint8_t
#define B_B uint8_t
#define A_W uint8_t
#define B_W float
#define OUT_SAME float
#define OUT_BOOL uint8_t

#define REALS(...)
#define TRUTHS(name, operands, types, result, formula) \
    static void name##_tile(void *out, const void *va, const void *vb, const void *vc, int64_t n, double p, double q, \
                            bool streams) { \
        OUT_##result    *y = out; \
        const A_##types *pa = va; \
        const B_##types *pb = vb; \
        const float     *pc = vc; \
        (void)pb, (void)pc, (void)p, (void)q, (void)streams; \
        INDEPENDENT \
        for (int64_t i = 0; i < n; i++) { \
            OPERANDS_##operands(const A_##types a = pa[i];, const B_##types b = pb[i];, const float c = pc[i];) \
            y[i] = (OUT_##result)(formula); \
        } \
    }
#include "elementwise.def"
#undef ROW

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
nb__tile *const JOIN(nb__tiles_, NB__ISA)[NB__ROWS] = {
#define ROW(name, ...) name##_tile,
#include "elementwise.def"
#undef ROW
};
