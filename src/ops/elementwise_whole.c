/* elementwise_whole.c: the formulas of elementwise.def for whole numbers and bool. Computed as int64, which wraps around as all
 * processors do; elementwise.c cuts the result to its type. */
#include "elementwise.h"

#define WHERE(condition, a, b) ((condition) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* Unsigned, because overflow of signed numbers is undefined in C. */
static int64_t ADD(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t SUB(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
static int64_t MUL(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
static int64_t NEG(int64_t a) { return SUB(0, a); }
static int64_t ABS(int64_t a) { return a < 0 ? NEG(a) : a; }
static int64_t MAX(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t SIGN(int64_t a) { return (a > 0) - (a < 0); }

/* -1 is apart because INT64_MIN / -1 overflows. */
static int64_t MOD(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t m = a % b;
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

/* Which types have whole numbers. */
#define WHOLE_F(formula) 0
#define WHOLE_N(formula) (formula)
#define WHOLE_A(formula) (formula)
#define WHOLE_B(formula) (formula)
#define WHOLE_W(formula) (formula)

int64_t nb__row_whole(int row, int64_t a, int64_t b, int64_t c, int64_t p, int64_t q) {
    switch (row) {
#define ROW(name, operands, parameters, types, result, formula, ...) \
    case NB__ROW_NUMBER_##name: return WHOLE_##types(formula);
#include "elementwise.def"
#undef ROW
    default: return 0;
    }
}
