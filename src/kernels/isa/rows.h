/* rows.h: the rows of floats of elementwise.def as functions of vectors, row_row(a, b, p, q), for loops over several of them. */
#ifndef NB_ISA_ROWS_H
#define NB_ISA_ROWS_H

#include "kernels.h"
#include "vmath.h"

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

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

#endif
