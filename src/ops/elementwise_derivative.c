/* elementwise_derivative.c: the derivatives of elementwise.def. They are graphs, so that they can be differentiated again. */
#include "elementwise.h"

#define K(value) nb__scalar(dy, value)
#define NONE NULL

/* Slopes in which a subgraph is used more than once. */

/* Phi(x) + x Phi'(x) = (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi) */
static nb_tensor *gelu_slope(nb_tensor *x) {
    nb_tensor *phi =
        nb_mul(nb__scalar(x, 0.5), nb_add(nb__scalar(x, 1), nb_erf(nb_mul(x, nb__scalar(x, 0.70710678118654752440)))));
    nb_tensor *density = nb_mul(nb__scalar(x, 0.39894228040143267794), nb_exp(nb_mul(nb__scalar(x, -0.5), nb_square(x))));
    return nb_add(phi, nb_mul(x, density));
}

/* The second derivative of gelu_tanh: s (1 - s) (2v' + x ((1 - 2s) v'^2 + v'')) with s = sigma(v), v = k x (1 + h x^2), v' = k (1
 * + 3h x^2), v'' = 6kh x; 1 - s as sigma(-v), which keeps its digits */
static nb_tensor *gelu_tanh_bend(nb_tensor *x) {
    const double k = 1.5957691216057307117, h = 0.044715;
    nb_tensor   *one = nb__scalar(x, 1), *two = nb__scalar(x, 2), *square = nb_square(x);
    nb_tensor   *v = nb_mul(nb_mul(nb__scalar(x, k), x), nb_add(one, nb_mul(nb__scalar(x, h), square)));
    nb_tensor   *s = nb_sigmoid(v), *rest = nb_sigmoid(nb_neg(v));
    nb_tensor   *v1 = nb_mul(nb__scalar(x, k), nb_add(one, nb_mul(nb__scalar(x, 3 * h), square)));
    nb_tensor   *v2 = nb_mul(nb__scalar(x, 6 * k * h), x);
    nb_tensor   *curve = nb_add(nb_mul(nb_sub(rest, s), nb_square(v1)), v2);
    return nb_mul(nb_mul(s, rest), nb_add(nb_mul(two, v1), nb_mul(x, curve)));
}

/* s (1 + x (1 - s)) with s = sigma(x) */
static nb_tensor *silu_slope(nb_tensor *x) {
    nb_tensor *one = nb__scalar(x, 1), *s = nb_sigmoid(x);
    return nb_mul(s, nb_add(one, nb_mul(x, nb_sub(one, s))));
}

/* t + x sigma(x) (1 - t^2) with t = tanh(log(1 + e^x)) */
static nb_tensor *mish_slope(nb_tensor *x) {
    nb_tensor *t = nb_tanh(nb_softplus(x));
    return nb_add(t, nb_mul(nb_mul(x, nb_sigmoid(x)), nb_sub(nb__scalar(x, 1), nb_square(t))));
}

/* x > 0 ? scale : scale alpha e^x. The exponential is of 0 where it is not used: it must not overflow. */
static nb_tensor *elu_slope(nb_tensor *x, double scale, double alpha) {
    nb_tensor *zero = nb__scalar(x, 0), *linear = nb_greater(x, zero);
    nb_tensor *bent = nb_mul(nb__scalar(x, scale * alpha), nb_exp(nb_where(linear, zero, x)));
    return nb_where(linear, nb__scalar(x, scale), bent);
}

/* x / (a^2 + b^2); at the origin 0, with all its derivatives. */
static nb_tensor *over_square(nb_tensor *x, nb_tensor *a, nb_tensor *b) {
    nb_tensor *zero = nb__scalar(x, 0), *origin = nb_and(nb_equal(a, zero), nb_equal(b, zero));
    nb_tensor *square = nb_where(origin, nb__scalar(x, 1), nb_add(nb_square(a), nb_square(b)));
    return nb_where(origin, zero, nb_div(x, square));
}

/* dL/d(operand i) of one row, of y's shape. */
static nb_tensor *slope(nb_tensor *y, nb_tensor *dy, int i) {
    nb_tensor  *a = y->in[0], *b = y->n_in > 1 ? y->in[1] : NULL, *c = y->n_in > 2 ? y->in[2] : NULL;
    nb__scalars s = {0};
    if (y->attr) s = *(const nb__scalars *)y->attr;
    double p = s.p, q = s.q;
    (void)c;
    switch (3 * nb__row_of(y->op) + i) {
#define ROW(name, operands, parameters, types, result, formula, da, db, dc, ...)                                                 \
    case 3 * NB__ROW_NUMBER_##name + 0: return da;                                                                               \
    case 3 * NB__ROW_NUMBER_##name + 1: return db;                                                                               \
    case 3 * NB__ROW_NUMBER_##name + 2:                                                                                          \
        return dc;
#include "elementwise.def"
#undef ROW
    default: return NULL;
    }
}

void nb__row_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    for (int i = 0; i < y->n_in; i++) {
        nb_tensor *d = want[i] ? slope(y, dy, i) : NULL;
        if (d) dx[i] = nb__sum_to(d, y->in[i]->shape);
    }
}
