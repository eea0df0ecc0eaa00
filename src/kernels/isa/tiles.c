/* tiles.c: every row of elementwise.def as a loop over n contiguous elements, made of the row's own formula. Compiled once for each
 * instruction set; compilers turn the loops into vector code. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* loops that call the C library stay as they are */
#endif

#include "kernels.h"
#include "vmath.h"

/* Element types of operands and result for each class of rows (see elementwise.def). */
#define A_F float
#define B_F float
#define C_F float
#define A_N float
#define B_N float
#define C_N float
#define A_A float
#define B_A float
#define C_A float
#define A_B uint8_t
#define B_B uint8_t
#define C_B uint8_t
#define A_W uint8_t
#define B_W float
#define C_W float
#define OUT_SAME float
#define OUT_BOOL uint8_t

/* The operands that a row has. */
#define LOAD_1(types) A_##types a = pa[i];
#define LOAD_2(types) LOAD_1(types) B_##types b = pb[i];
#define LOAD_3(types) LOAD_2(types) C_##types c = pc[i];

/* out may be an operand's array, at the same elements: the loop has no other dependence, and says so. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define ROW(name, operands, parameters, types, result, formula, ...) \
    static void name##_tile(void *out, const void *va, const void *vb, const void *vc, int64_t n, double p_, double q_) { \
        OUT_##result    *y = out; \
        const A_##types *pa = va; \
        const B_##types *pb = vb; \
        const C_##types *pc = vc; \
        const float      p = (float)p_, q = (float)q_; \
        (void)pb, (void)pc, (void)p, (void)q; \
        INDEPENDENT \
        for (int64_t i = 0; i < n; i++) { \
            LOAD_##operands(types) \
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
