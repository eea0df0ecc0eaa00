/* elementwise_real.c: the formulas of elementwise.def in double: the definition of what the rows compute. */
#include <math.h>

#include "elementwise.h"

#define K(value) (value)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define NEG(a) (-(a))
#define WHERE(condition, a, b) ((condition) ? (a) : (b))
#define LESS(a, b) ((a) < (b))
#define GREATER(a, b) ((a) > (b))
#define ABS fabs
#define POW pow
#define ATAN2 atan2
#define SQRT sqrt
#define EXP exp
#define EXP2 exp2
#define EXPM1 expm1
#define LOG log
#define LOG2 log2
#define LOG1P log1p
#define SIN sin
#define COS cos
#define TAN tan
#define ASIN asin
#define ACOS acos
#define ATAN atan
#define SINH sinh
#define COSH cosh
#define TANH tanh
#define ERF erf
#define FLOOR floor
#define CEIL ceil
#define ROUND rint
#define TRUNC trunc

static double MIN(double a, double b) { return a < b || a != a ? a : b; }
static double MAX(double a, double b) { return a > b || a != a ? a : b; }
static double SIGN(double a) { return (a > 0) - (a < 0); }

/* fmod has the sign of a. */
static double MOD(double a, double b) {
    double m = fmod(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

static double SIGMOID(double a) {
    double e = exp(-fabs(a));
    return (a < 0 ? e : 1) / (1 + e);
}

static double LOG1P_EXP(double a) { return log1p(exp(a)); } /* a <= 0 */

static double TANH_SOFTPLUS(double a) { return tanh(fmax(a, 0) + log1p(exp(-fabs(a)))); }

/* The derivative of gelu_tanh. Beyond 30 it is 0 or 1. */
static double GELU_TANH_SLOPE(double x) {
    const double k = 1.5957691216057307117, h = 0.044715;
    double       t = x > 30 ? 30 : x < -30 ? -30 : x, s = SIGMOID(k * t * (1 + h * t * t));
    return s + t * s * SIGMOID(-k * t * (1 + h * t * t)) * k * (1 + 3 * h * t * t);
}

double nb__row_real(int row, double a, double b, double c, double p, double q) {
    switch (row) {
#define ROW(name, operands, parameters, types, result, formula, ...) \
    case NB__ROW_NUMBER_##name: return formula;
#include "elementwise.def"
#undef ROW
    default: return NAN;
    }
}
