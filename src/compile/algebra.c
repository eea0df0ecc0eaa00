/* algebra.c: rules of arithmetic, by operator. Those that hold for every float, infinities and NaN included, and keep each bit:
 *
 *   x * 1, x / 1, x - 0, x + -0, x^1, --x, cast to its own type      x
 *   x + -y, -x + y, x - -y                                           x - y, y - x, x + y
 *   -x * -y, -x / -y, -x * c, -x / c                                 x * y, x / y, x * -c, x / -c
 *   x / c for a power of two c                                       x * (1/c)
 *
 * and those that differ where said:
 *
 *   x^2                 x * x: correctly rounded, which a power need not be
 *   x + 0               x in backward parts, where a zero stands for "no gradient": -0 stays -0
 *   A B, a zero matrix  zeros, also where the other holds infinities or NaN
 *
 * Rules that would lose a NaN elsewhere (x * 0, x - x) or round differently ((x * c) * d) are not here. */
#include <math.h>
#include <string.h>

#include "rewrite.h"

static const nb_op *row(enum nb__row number) { return &nb__elementwise[number]; }

/* Operand k, if the result has its shape. */
static int whole(const nb__rewrite *r, const nb__node *n, int k) {
    return nb__dims_equal(r->node[n->in[k]].shape, n->shape) ? n->in[k] : -1;
}

static bool has_value(const nb__rewrite *r, int i, double wanted) {
    double value;
    return nb__splat_value(&r->node[i], &value) && value == wanted;
}

/* What is negated, or -1. */
static int negated(const nb__rewrite *r, int i) {
    const nb__node *n = &r->node[i];
    return nb__is_computed(n, row(NB__ROW_neg)) ? n->in[0] : -1;
}

static int binary(nb__rewrite *r, const nb__node *n, enum nb__row number, int a, int b) {
    return nb__make(r, row(number), 2, (int[]){a, b}, n->dtype, n->shape, NULL);
}

/* A constant with the other sign, in its own shape; -1 for others. */
static int opposite(nb__rewrite *r, int i) {
    double value;
    if (!nb__splat_value(&r->node[i], &value)) return -1;
    return nb__make_number(r, r->node[i].dtype, r->node[i].shape, -value);
}

static int add_rule(nb__rewrite *r, const nb__node *n) {
    for (int k = 0; k < 2; k++) {
        const nb__node *c = &r->node[n->in[k]];
        double          value;
        if (!nb__splat_value(c, &value) || value != 0) continue;
        bool keeps_bits = !nb__is_float(n->dtype) || signbit(value);
        if (keeps_bits || n->is_backward || c->is_backward) return whole(r, n, 1 - k);
    }
    int a = negated(r, n->in[0]), b = negated(r, n->in[1]);
    if (b >= 0) return binary(r, n, NB__ROW_sub, n->in[0], b);
    return a >= 0 ? binary(r, n, NB__ROW_sub, n->in[1], a) : -1;
}

static int sub_rule(nb__rewrite *r, const nb__node *n) {
    double value;
    if (nb__splat_value(&r->node[n->in[1]], &value) && value == 0 && (!nb__is_float(n->dtype) || !signbit(value)))
        return whole(r, n, 0);
    int b = negated(r, n->in[1]);
    return b >= 0 ? binary(r, n, NB__ROW_add, n->in[0], b) : -1;
}

/* Products and quotients of reals: two minus signs go, one joins a constant. */
static int signs_rule(nb__rewrite *r, const nb__node *n, enum nb__row number) {
    if (!nb__is_float(n->dtype)) return -1;
    int a = negated(r, n->in[0]), b = negated(r, n->in[1]);
    if (a >= 0 && b >= 0) return binary(r, n, number, a, b);
    int c = a >= 0 ? opposite(r, n->in[1]) : b >= 0 ? opposite(r, n->in[0]) : -1;
    if (c < 0) return -1;
    return a >= 0 ? binary(r, n, number, a, c) : binary(r, n, number, c, b);
}

static int mul_rule(nb__rewrite *r, const nb__node *n) {
    for (int k = 0; k < 2; k++)
        if (has_value(r, n->in[k], 1)) return whole(r, n, 1 - k);
    return signs_rule(r, n, NB__ROW_mul);
}

static int div_rule(nb__rewrite *r, const nb__node *n) {
    double c;
    int    exponent;
    if (nb__splat_value(&r->node[n->in[1]], &c)) {
        if (c == 1) return whole(r, n, 0);
        /* Both the constant and its inverse are normal numbers then. */
        if (fabs(frexp(c, &exponent)) == 0.5 && exponent > -100 && exponent < 100)
            return binary(r, n, NB__ROW_mul, n->in[0], nb__make_number(r, n->dtype, r->node[n->in[1]].shape, 1 / c));
    }
    return signs_rule(r, n, NB__ROW_div);
}

static int pow_rule(nb__rewrite *r, const nb__node *n) {
    int x = whole(r, n, 0);
    if (x < 0) return -1;
    if (has_value(r, n->in[1], 1)) return x;
    return has_value(r, n->in[1], 2) ? nb__make(r, row(NB__ROW_square), 1, &x, n->dtype, n->shape, NULL) : -1;
}

static int matmul_rule(nb__rewrite *r, const nb__node *n) {
    if (r->level < NB__LAST || !(nb__is_zeros(&r->node[n->in[0]]) || nb__is_zeros(&r->node[n->in[1]]))) return -1;
    return nb__make_zeros(r, n->dtype, n->shape);
}

int nb__algebra_rule(nb__rewrite *r, const nb__node *n) {
    if (n->op == &nb__op_matmul) return matmul_rule(r, n);
    if (n->op == &nb__op_cast) return r->node[n->in[0]].dtype == n->dtype ? n->in[0] : -1;
    switch (nb__row_of(n->op)) {
    case NB__ROW_add: return add_rule(r, n);
    case NB__ROW_sub: return sub_rule(r, n);
    case NB__ROW_mul: return mul_rule(r, n);
    case NB__ROW_div: return div_rule(r, n);
    case NB__ROW_pow: return pow_rule(r, n);
    case NB__ROW_neg: return negated(r, n->in[0]);
    default: return -1;
    }
}
