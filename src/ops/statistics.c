/* statistics.c: mean, variance, standard deviation and norms, made of sums; and the two sums of a variance as one operator. */
#include <math.h>

#include "reduce.h"

/* How many elements of x one element of the result is made of. */
static double count_along(const nb_tensor *x, nb_dims axes) {
    double n = 1;
    for (int i = 0; i < axes.rank; i++) n *= (double)x->shape.size[axes.size[i]];
    return n;
}

/* Checks x and the axes; after it, axes are positive and never empty unless x is a scalar. */
static bool begin(nb_tensor *x, const nb_op *op, nb_dims *axes) {
    nb__axes_attr a;
    if (!nb__take_axes(x, op->name, *axes, &a) || !nb__check_reals(x->nb, op->name, x->dtype)) return false;
    *axes = a.axes;
    nb_group_push(x->nb, op);
    return true;
}

static nb_tensor *end(nb_tensor *y) {
    nb_group_pop(y->nb);
    return y;
}

/* f(v) for v >= 0, but 0 with all its derivatives where v is 0: there the argument is replaced by 1, and nothing flows back. */
static nb_tensor *zero_at_zero(nb_tensor *v, nb_tensor *(*f)(nb_tensor *v, double p), double p) {
    nb_tensor *is_zero = nb_equal(v, nb__scalar(v, 0));
    return nb_where(is_zero, nb__scalar(v, 0), f(nb_where(is_zero, nb__scalar(v, 1), v), p));
}

static nb_tensor *root(nb_tensor *v, double p) {
    (void)p;
    return nb_sqrt(v);
}

static nb_tensor *power(nb_tensor *v, double p) { return nb_pow(v, nb__scalar(v, p)); }

/* ----------------------------------------------------------------------------------------------------------------------- mean */

nb_tensor *nb_mean(nb_tensor *x, nb_dims axes, bool keepdim) {
    if (!x) return NULL;
    if (!begin(x, &nb__op_mean, &axes)) return nb_failed(x->nb);
    return end(nb_div(nb_sum(x, axes, keepdim), nb__scalar(x, count_along(x, axes))));
}

static nb_tensor *mean_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i, -2, 2, false, nb_mean); }

const nb_op nb__op_mean = {
    .name = "mean",
    .formula = "y = \\frac{1}{n} \\sum_i x_i",
    .gradient = "dx_i = dy / n",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = mean_sample,
};

/* -------------------------------------------------------------------------------------------------------------------- moments */

/* What the compiler makes of a variance and the mean in it, so that x is read once (compile/moments.c). The results lie side by
 * side along the first of the axes, of which there must be one. */
static bool moments_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    const nb_dims *axes = &((const nb__axes_attr *)attr)->axes;
    (void)n_in;
    if (!nb__check_reals(nb, "moments", in[0]->dtype)) return false;
    if (axes->rank == 0) {
        nb_fail(nb, NB_INVALID, "moments: needs an axis, along which its two results lie");
        return false;
    }
    *out = (nb_type){in[0]->dtype, nb__keep_axes(in[0]->shape, *axes)};
    out->shape.size[axes->size[0]] = 2;
    return true;
}

static void moments_one(const nb_call *c, const nb_array *part, int64_t at) {
    const nb_dims *axes = &((const nb__axes_attr *)c->attr)->axes;
    double         sums[2] = {0, 0}, n = 1;
    for (int i = 0; i < part->rank; i++) n *= (double)part->shape[i];
    for (int pass = 0; pass < 2 && n > 0; pass++) {
        double  mean = sums[0] / n;
        int64_t index[NB_MAX_RANK] = {0};
        do {
            double x = nb__load(part, nb__offset(part, index));
            sums[pass] += pass ? (x - mean) * (x - mean) : x;
        } while (nb__next_index(part->rank, part->shape, index));
    }
    nb__store(&c->out, at, sums[0]);
    nb__store(&c->out, at + c->out.stride[axes->size[0]], sums[1]);
}

static void moments_run(const nb_call *c) {
    const nb_dims *axes = &((const nb__axes_attr *)c->attr)->axes;
    nb_call        first = *c;
    first.out.shape[axes->size[0]] = 1;
    nb__for_each(&first, *axes, moments_one);
}

static void moments_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_tensor *x = y->in[0];
    nb_dims    axes = ((const nb__axes_attr *)y->attr)->axes;
    int        along = (int)axes.size[0];
    nb_tensor *centred = nb_sub(x, nb_mean(x, axes, true));
    (void)want;
    dx[0] = nb_add(nb_mul(nb_mul(nb__scalar(x, 2), centred), nb_slice(dy, along, 1, 2, 1)), nb_slice(dy, along, 0, 1, 1));
}

static double moments_flops(const nb_tensor *y) { return 4 * nb__reduce_flops(y); }

static nb_tensor *moments_of(nb_tensor *x, nb_dims axes, bool keepdim) {
    nb__axes_attr a;
    (void)keepdim;
    return nb__take_axes(x, "moments", axes, &a) ? nb_apply(x->nb, &nb__op_moments, 1, &x, &a) : nb_failed(x->nb);
}

/* Without that of no axes. */
static nb_tensor *moments_sample(nb_sampler *s, int i) { return nb__axes_sample(s, i < 4 ? i : i + 1, -2, 2, true, moments_of); }

const nb_op nb__op_moments = {
    .name = "moments",
    .formula = "y_0 = \\sum_i x_i,\\quad y_1 = \\sum_i (x_i - \\bar x)^2",
    .gradient = "dx_i = dy_0 + 2 (x_i - \\bar x)\\, dy_1",
    .kind = NB_REDUCE,
    .arity = 1,
    .attr_size = sizeof(nb__axes_attr),
    .infer = moments_infer,
    .derivative = moments_derivative,
    .run = moments_run,
    .flops = moments_flops,
    .sample = moments_sample,
    .describe = nb__axes_describe,
};

/* -------------------------------------------------------------------------------------------- variance and standard deviation */

nb_tensor *nb_var(nb_tensor *x, nb_dims axes, bool keepdim, int correction) {
    if (!x) return NULL;
    if (correction < 0) return nb_fail(x->nb, NB_INVALID, "var: the correction must not be negative, got %d", correction);
    if (!begin(x, &nb__op_var, &axes)) return nb_failed(x->nb);
    double     n = count_along(x, axes) - correction;
    nb_tensor *centred = nb_sub(x, nb_mean(x, axes, true));
    return end(nb_div(nb_sum(nb_square(centred), axes, keepdim), nb__scalar(x, n > 0 ? n : 0)));
}

/* As PyTorch's, its derivative is 0 where all elements are equal. */
nb_tensor *nb_std(nb_tensor *x, nb_dims axes, bool keepdim, int correction) {
    if (!x) return NULL;
    if (!begin(x, &nb__op_std, &axes)) return nb_failed(x->nb);
    return end(zero_at_zero(nb_var(x, axes, keepdim, correction), root, 0));
}

static nb_tensor *var_0(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_var(x, axes, keepdim, 0); }
static nb_tensor *std_0(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_std(x, axes, keepdim, 0); }

static nb_tensor *var_sample(nb_sampler *s, int i) {
    if (i < 2) return nb_var(s->real(s, -2, 2, nb_shape(3, 4)), nb_axes(i), i, 1);
    return nb__axes_sample(s, i - 2, -2, 2, false, var_0);
}

/* Where a variance is 0 by its shape (one element), so is the derivative. */
static nb_tensor *std_sample(nb_sampler *s, int i) {
    if (i < 2) return nb_std(s->real(s, -2, 2, nb_shape(3, 4)), nb_axes(i), i, 1);
    return nb__axes_sample(s, i - 2, -2, 2, false, std_0);
}

const nb_op nb__op_var = {
    .name = "var",
    .formula = "y = \\frac{1}{n - c} \\sum_i (x_i - \\bar x)^2",
    .gradient = "dx_i = \\frac{2}{n - c} (x_i - \\bar x)\\, dy",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = var_sample,
};

const nb_op nb__op_std = {
    .name = "std",
    .formula = "y = \\sqrt{\\frac{1}{n - c} \\sum_i (x_i - \\bar x)^2}",
    .gradient = "dx_i = \\frac{x_i - \\bar x}{(n - c)\\, y}\\, dy,\\quad 0 \\text{ where } y = 0",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = std_sample,
};

/* ----------------------------------------------------------------------------------------------------------------------- norm */

nb_tensor *nb_norm(nb_tensor *x, double p, nb_dims axes, bool keepdim) {
    if (!x) return NULL;
    if (!(p > 0)) return nb_fail(x->nb, NB_INVALID, "norm: p is %g; it must be above 0, or infinity", p);
    if (!begin(x, &nb__op_norm, &axes)) return nb_failed(x->nb);
    if (isinf(p)) return end(nb_max(nb_abs(x), axes, keepdim));
    if (p == 1) return end(nb_sum(nb_abs(x), axes, keepdim));
    if (p == 2) return end(zero_at_zero(nb_sum(nb_square(x), axes, keepdim), root, 0));
    return end(zero_at_zero(nb_sum(zero_at_zero(nb_abs(x), power, p), axes, keepdim), power, 1 / p));
}

static nb_tensor *norm_1(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_norm(x, 1, axes, keepdim); }
static nb_tensor *norm_2(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_norm(x, 2, axes, keepdim); }
static nb_tensor *norm_3(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_norm(x, 3, axes, keepdim); }
static nb_tensor *norm_max(nb_tensor *x, nb_dims axes, bool keepdim) { return nb_norm(x, INFINITY, axes, keepdim); }

/* Away from 0, where there are kinks. */
static nb_tensor *norm_sample(nb_sampler *s, int i) {
    static nb__reduction *const kind[] = {norm_2, norm_1, norm_3, norm_max};
    if (i == 0) return nb_norm(s->real(s, 0.3, 2, nb_shape(5)), 0.5, nb_axes(), false);
    if (i == 1) return nb_norm(s->real(s, -2, -0.3, nb_shape(2, 3)), 1.5, nb_axes(0), false);
    return nb__axes_sample(s, (i - 2) / 4, i & 4 ? 0.3 : -2, i & 4 ? 2 : -0.3, false, kind[i % 4]);
}

const nb_op nb__op_norm = {
    .name = "norm",
    .formula = "y = \\left(\\sum_i |x_i|^p\\right)^{1/p}",
    .gradient = "dx_i = \\operatorname{sign}(x_i) \\left(|x_i| / y\\right)^{p-1} dy,\\quad 0 \\text{ where } x_i = 0",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = norm_sample,
};
