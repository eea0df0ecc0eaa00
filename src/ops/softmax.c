/* softmax.c: exponentials along axes, shifted by their maximum so that none overflows. The shift changes no result.
 *
 * softmax and log_softmax bring their derivatives along: they are shorter than what the chain rule makes of the steps. */
#include <stdint.h>

#include "reduce.h"

static bool check(nb_tensor *x, const nb_op *op, int axis, int64_t *k) {
    *k = axis;
    return !nb__refuse(x->nb, x, 0, op->name) && nb__check_reals(x->nb, op->name, x->dtype) &&
           nb__check_axis(x->nb, op->name, x->shape.rank, k);
}

/* y, whose derivative for x is `derivative`; the axis travels in the place of a pointer. */
static nb_tensor *along(nb_tensor *y, nb_tensor *x, nb_derivative *derivative, int64_t axis) {
    return nb_with_derivative(y, nb_list_of(x->nb, x), derivative, (void *)(intptr_t)axis);
}

static nb_tensor *sum_along(nb_tensor *x, void *axis) { return nb_sum(x, nb_axes((intptr_t)axis), true); }

static nb_tensor *axis_sample(nb_sampler *s, int i, nb_tensor *(*f)(nb_tensor *x, int axis)) {
    switch (i) {
    case 0: return f(s->real(s, -3, 3, nb_shape(3, 4)), 1);
    case 1: return f(s->real(s, -3, 3, nb_shape(3, 4)), 0);
    case 2: return f(s->real(s, -3, 3, nb_shape(17)), -1);
    case 3: return f(s->real(s, -3, 3, nb_shape(2, 1)), 1);
    case 4: return f(s->real(s, -3, 3, nb_shape(0, 3)), 1);
    case 5: return f(s->real(s, -3, 3, nb_shape(2, 3, 2)), 1);
    case 6: return f(nb_mul(s->real(s, 1, 2, nb_shape(2, 3)), nb_number(s->nb, 100)), -1); /* e^x alone would overflow */
    case 7: return f(s->real(s, -3, 3, nb_shape(2, 0)), 1);
    default: return NULL;
    }
}

/* -------------------------------------------------------------------------------------------------------------------- softmax */

static void softmax_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *axis) {
    (void)xs;
    dx[0] = nb_mul(y, nb_sub(dy, sum_along(nb_mul(dy, y), axis)));
}

nb_tensor *nb_softmax(nb_tensor *x, int axis) {
    if (!x) return NULL;
    int64_t k;
    if (!check(x, &nb__op_softmax, axis, &k)) return nb_failed(x->nb);
    if (x->shape.size[k] == 0) return x; /* nothing, and nothing has no maximum */
    nb_group_push(x->nb, &nb__op_softmax);
    nb_tensor *e = nb_exp(nb_sub(x, nb_max(x, nb_axes(k), true)));
    nb_tensor *y = along(nb_div(e, nb_sum(e, nb_axes(k), true)), x, softmax_derivative, k);
    nb_group_pop(x->nb);
    return y;
}

static nb_tensor *softmax_sample(nb_sampler *s, int i) { return axis_sample(s, i, nb_softmax); }

const nb_op nb__op_softmax = {
    .name = "softmax",
    .formula = "y_i = e^{x_i} / \\sum_j e^{x_j}",
    .gradient = "dx_i = y_i \\left(dy_i - \\sum_j y_j\\,dy_j\\right)",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = softmax_sample,
};

/* ---------------------------------------------------------------------------------------------------------------- log_softmax */

static void log_softmax_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *axis) {
    (void)xs;
    dx[0] = nb_sub(dy, nb_mul(nb_exp(y), sum_along(dy, axis)));
}

nb_tensor *nb_log_softmax(nb_tensor *x, int axis) {
    if (!x) return NULL;
    int64_t k;
    if (!check(x, &nb__op_log_softmax, axis, &k)) return nb_failed(x->nb);
    if (x->shape.size[k] == 0) return x;
    nb_group_push(x->nb, &nb__op_log_softmax);
    nb_tensor *z = nb_sub(x, nb_max(x, nb_axes(k), true));
    nb_tensor *y = along(nb_sub(z, nb_log(nb_sum(nb_exp(z), nb_axes(k), true))), x, log_softmax_derivative, k);
    nb_group_pop(x->nb);
    return y;
}

static nb_tensor *log_softmax_sample(nb_sampler *s, int i) { return axis_sample(s, i, nb_log_softmax); }

const nb_op nb__op_log_softmax = {
    .name = "log_softmax",
    .formula = "y_i = x_i - \\log \\sum_j e^{x_j}",
    .gradient = "dx_i = dy_i - e^{y_i} \\sum_j dy_j",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = log_softmax_sample,
};

/* ------------------------------------------------------------------------------------------------------------------ logsumexp */

/* An infinite maximum must not be subtracted from itself; without a shift the result is right then: -inf or inf. */
nb_tensor *nb_logsumexp(nb_tensor *x, nb_dims axes, bool keepdim) {
    if (!x) return NULL;
    nb_context   *nb = x->nb;
    nb__axes_attr a;
    if (!nb__take_axes(x, "logsumexp", axes, &a) || !nb__check_reals(nb, "logsumexp", x->dtype)) return nb_failed(nb);
    nb_group_push(nb, &nb__op_logsumexp);
    nb_tensor *shift = nb__scalar(x, 0);
    if (nb_count(x)) {
        nb_tensor *largest = nb_stop_gradient(nb_max(x, a.axes, true));
        shift = nb_where(nb_isfinite(largest), largest, shift);
    }
    nb_tensor *y = nb_add(nb_log(nb_sum(nb_exp(nb_sub(x, shift)), a.axes, true)), shift);
    if (!keepdim) y = nb__drop_axes(y, a.axes);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *logsumexp_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i, -3, 3, false, nb_logsumexp); }

const nb_op nb__op_logsumexp = {
    .name = "logsumexp",
    .formula = "y = \\log \\sum_i e^{x_i}",
    .gradient = "dx_i = e^{x_i - y}\\, dy",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = logsumexp_sample,
};
