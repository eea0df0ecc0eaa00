/* conv.c: two-dimensional convolution (cross-correlation) and its two adjoints.
 *
 * Sum over all n, o, c, i, j, u, v that meet in  dy[n,o,i,j] x[n,c,h,w] weight[o,c,u,v],  h = i sH + u dH - pH, w likewise. That
 * sum is linear in each of the three; conv2d, conv2d_input_grad and conv2d_weight_grad are its derivatives with respect to dy, x
 * and weight. So the derivative of each is made of the other two, and second order needs no further operator. */
#include <stdio.h>
#include <string.h>

#include "contraction.h"

enum { N, C, H, W }; /* axes of an image */

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Places of one axis that the window covers: the attribute with its shape of image and weight. */
static int64_t covered(const nb__conv_attr *a, nb_dims weight, int axis) {
    return a->dilation[axis] * (weight.size[2 + axis] - 1) + 1;
}

/* Not so large either that sums and products of two overflow. */
static bool within(int64_t value, int64_t least) { return value >= least && value <= INT32_MAX; }

/* Shape of conv2d's result; the checks are those of all three operators, `user` being the one. */
static bool result_shape(nb_context *nb, const char *user, nb_dims x, nb_dims w, const nb__conv_attr *a, nb_dims *out) {
    if (x.rank != 4 || w.rank != 4) {
        nb_fail(nb, NB_INVALID, "%s: input %s, weight %s: they must be [N,C,H,W] and [O,C/groups,kH,kW]", user,
                nb__dims_text(x).at, nb__dims_text(w).at);
        return false;
    }
    if (a->groups < 1 || a->groups > INT32_MAX || w.size[0] % a->groups != 0) {
        nb_fail(nb, NB_INVALID, "%s: weight %s has %lld output channels, which %lld groups do not divide", user,
                nb__dims_text(w).at, (long long)w.size[0], (long long)a->groups);
        return false;
    }
    if (x.size[C] % a->groups != 0 || x.size[C] / a->groups != w.size[1]) {
        nb_fail(nb, NB_INVALID, "%s: input %s has %lld channels, weight %s expects %lld x groups %lld = %lld", user,
                nb__dims_text(x).at, (long long)x.size[C], nb__dims_text(w).at, (long long)w.size[1], (long long)a->groups,
                (long long)((uint64_t)w.size[1] * (uint64_t)a->groups));
        return false;
    }
    *out = nb_shape(x.size[N], w.size[0], 0, 0);
    for (int i = 0; i < 2; i++) {
        const char   *word = i ? "width" : "height";
        const int64_t all[] = {a->stride[i], a->dilation[i], a->before[i], a->after[i], w.size[2 + i]};
        for (int k = 0; k < 5; k++) {
            if (all[k] <= INT32_MAX) continue;
            nb_fail(nb, NB_INVALID, "%s: weight %s, %s: %lld is too large for a stride, dilation, padding or window", user,
                    nb__dims_text(w).at, word, (long long)all[k]);
            return false;
        }
        if (!within(a->stride[i], 1) || !within(a->dilation[i], 1) || !within(a->before[i], 0) || !within(a->after[i], 0) ||
            !within(w.size[2 + i], 1)) {
            nb_fail(nb, NB_INVALID, "%s: weight %s, %s: stride, dilation and window must be at least 1, padding at least 0", user,
                    nb__dims_text(w).at, word);
            return false;
        }
        int64_t padded = x.size[2 + i] + a->before[i] + a->after[i], window = covered(a, w, i);
        if (window > padded) {
            nb_fail(nb, NB_INVALID,
                    "%s: input %s, weight %s: the window covers %lld of the %s, the padded image has %lld; pad more", user,
                    nb__dims_text(x).at, nb__dims_text(w).at, (long long)window, word, (long long)padded);
            return false;
        }
        out->size[2 + i] = (padded - window) / a->stride[i] + 1;
    }
    return true;
}

/* Every entry set; `same` resolved for the image x. Wrong entries are left for result_shape to name. */
static nb__conv_attr resolve(const nb_conv2d_options *options, nb_dims x, nb_dims w) {
    nb_conv2d_options o = options ? *options : (nb_conv2d_options){.groups = 0};
    nb__conv_attr     a = {.groups = o.groups ? o.groups : 1};
    for (int i = 0; i < 2; i++) {
        a.stride[i] = o.stride[i] ? o.stride[i] : 1;
        a.dilation[i] = o.dilation[i] ? o.dilation[i] : 1;
        a.before[i] = a.after[i] = o.padding[i];
        if (!o.same || x.rank != 4 || w.rank != 4 || !within(a.stride[i], 1) || !within(a.dilation[i], 1)) continue;
        if (!within(w.size[2 + i], 1)) continue;
        int64_t size = x.size[2 + i], need = (ceil_div(size, a.stride[i]) - 1) * a.stride[i] + covered(&a, w, i) - size;
        if (need < 0) need = 0;
        a.before[i] = need / 2;
        a.after[i] = need - need / 2;
    }
    return a;
}

static double flops_of(nb_dims out, nb_dims weight) {
    return 2.0 * (double)nb__dims_count(out) * (double)weight.size[1] * (double)weight.size[2] * (double)weight.size[3];
}

static void conv_describe(const void *attr, char *text, size_t size) {
    const nb__conv_attr *a = attr;
    int64_t              one = 1, zero = 0;
    const struct {
        const char    *name;
        const int64_t *value;
        int64_t        usual;
    } row[] = {{"stride", a->stride, one}, {"padding", a->before, zero}, {"dilation", a->dilation, one}};
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < 3 && n < size; i++) {
        const int64_t *v = row[i].value;
        if (v[0] == row[i].usual && v[1] == row[i].usual) continue;
        n += (size_t)snprintf(text + n, size - n, v[0] == v[1] ? "%s%s=%lld" : "%s%s=%lldx%lld", n ? ", " : "", row[i].name,
                              (long long)v[0], (long long)v[1]);
    }
    if (n < size && memcmp(a->before, a->after, sizeof a->before) != 0)
        n += (size_t)snprintf(text + n, size - n, "%spadding after=%lldx%lld", n ? ", " : "", (long long)a->after[0],
                              (long long)a->after[1]);
    if (n < size && a->groups != 1) snprintf(text + n, size - n, "%sgroups=%lld", n ? ", " : "", (long long)a->groups);
}

/* Which u in [*first, *last) of `count` places  at + u step  lie in [0, size); at may be negative, step is positive. */
static void inside(int64_t at, int64_t step, int64_t size, int64_t count, int64_t *first, int64_t *last) {
    *first = at < 0 ? ceil_div(-at, step) : 0;
    *last = at < size ? ceil_div(size - at, step) : 0;
    if (*last > count) *last = count;
    if (*first > *last) *first = *last;
}

/* --------------------------------------------------------------------------------------------------------------------- conv2d */

static bool conv2d_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    out->dtype = in[0]->dtype;
    return nb__check_product(nb, "conv2d", in[0], in[1], false) &&
           result_shape(nb, "conv2d", in[0]->shape, in[1]->shape, attr, &out->shape);
}

static nb__conv_attr attr_with(const nb_tensor *y, nb_dims other) {
    nb__conv_attr a = *(const nb__conv_attr *)y->attr;
    a.other = other;
    return a;
}

/* The three operators as nodes, from the attributes of one of them. */
static nb_tensor *forward(const nb_tensor *like, nb_tensor *x, nb_tensor *w) {
    nb__conv_attr a = attr_with(like, nb_shape());
    return nb_apply(like->nb, &nb__op_conv2d, 2, (nb_tensor *[]){x, w}, &a);
}

static nb_tensor *input_grad(const nb_tensor *like, nb_tensor *dy, nb_tensor *w, nb_dims x) {
    nb__conv_attr a = attr_with(like, x);
    return nb_apply(like->nb, &nb__op_conv2d_input_grad, 2, (nb_tensor *[]){dy, w}, &a);
}

static nb_tensor *weight_grad(const nb_tensor *like, nb_tensor *x, nb_tensor *dy, nb_dims w) {
    nb__conv_attr a = attr_with(like, w);
    return nb_apply(like->nb, &nb__op_conv2d_weight_grad, 2, (nb_tensor *[]){x, dy}, &a);
}

static void conv2d_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_tensor *x = y->in[0], *w = y->in[1];
    if (want[0]) dx[0] = input_grad(y, dy, w, x->shape);
    if (want[1]) dx[1] = weight_grad(y, x, dy, w->shape);
}

/* y[n,o,i,j] = sum_{u,v} sum_c x[n,c,h,w] weight[o,c,u,v], where (h,w) lies in the image */
static void conv2d_run(const nb_call *call) {
    const nb__conv_attr *a = call->attr;
    const nb_array      *x = &call->in[0], *k = &call->in[1], *y = &call->out;
    int64_t              i[NB_MAX_RANK] = {0}, channels = k->shape[1], per_group = y->shape[1] / a->groups, u0, u1, v0, v1;
    for (int d = 0; d < 4; d++)
        if (y->shape[d] == 0) return;
    do {
        int64_t top = i[H] * a->stride[0] - a->before[0], left = i[W] * a->stride[1] - a->before[1];
        double  sum = 0;
        inside(top, a->dilation[0], x->shape[H], k->shape[2], &u0, &u1);
        inside(left, a->dilation[1], x->shape[W], k->shape[3], &v0, &v1);
        for (int64_t u = u0; u < u1; u++)
            for (int64_t v = v0; v < v1; v++) {
                int64_t at_x[] = {i[N], i[C] / per_group * channels, top + u * a->dilation[0], left + v * a->dilation[1]};
                int64_t at_k[] = {i[C], 0, u, v};
                sum += nb__dot(x, nb__offset(x, at_x), x->stride[C], k, nb__offset(k, at_k), k->stride[1], channels);
            }
        nb__store(y, nb__offset(y, i), sum);
    } while (nb__next_index(4, y->shape, i));
}

static double conv2d_flops(const nb_tensor *y) { return flops_of(y->shape, y->in[1]->shape); }

/* What the samples of all three operators run through; the options in the order stride, padding, dilation, groups, same. */
static const struct {
    nb_dims           x, w;
    nb_conv2d_options o;
} samples[] = {
    {{4, {1, 1, 3, 3}}, {4, {1, 1, 2, 2}}, {.groups = 1}},
    {{4, {2, 3, 5, 4}}, {4, {4, 3, 3, 3}}, {.padding = {1, 1}}},
    {{4, {2, 2, 5, 6}}, {4, {3, 2, 2, 3}}, {.stride = {2, 3}, .padding = {1, 0}}},
    {{4, {1, 2, 6, 5}}, {4, {2, 2, 3, 2}}, {.dilation = {2, 3}, .padding = {2, 1}}},
    {{4, {2, 4, 4, 4}}, {4, {6, 2, 3, 3}}, {.groups = 2, .padding = {1, 1}}},
    {{4, {1, 3, 4, 4}}, {4, {3, 1, 3, 3}}, {.groups = 3, .stride = {2, 2}, .padding = {1, 1}}},
    {{4, {2, 3, 3, 2}}, {4, {5, 3, 1, 1}}, {.groups = 1}},
    {{4, {1, 2, 5, 5}}, {4, {2, 2, 2, 4}}, {.same = true}},
    {{4, {1, 2, 5, 6}}, {4, {2, 2, 3, 3}}, {.same = true, .stride = {2, 2}, .dilation = {1, 2}}},
    {{4, {1, 1, 2, 2}}, {4, {2, 1, 1, 1}}, {.stride = {3, 3}, .padding = {1, 1}}},
    {{4, {0, 2, 3, 3}}, {4, {2, 2, 2, 2}}, {.groups = 1}},
    {{4, {2, 0, 3, 3}}, {4, {2, 0, 2, 2}}, {.groups = 1}},
    {{4, {1, 2, 3, 3}}, {4, {0, 2, 2, 2}}, {.groups = 1}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static nb_tensor *conv2d_sample(nb_sampler *s, int i) {
    if (i > SAMPLES) return NULL;
    int        row = i < SAMPLES ? i : 1; /* the last: with a bias */
    nb_tensor *x = s->real(s, -1, 1, samples[row].x), *w = s->real(s, -1, 1, samples[row].w);
    return nb_conv2d(x, w, i < SAMPLES ? NULL : s->real(s, -1, 1, nb_shape(4)), &samples[row].o);
}

const nb_op nb__op_conv2d = {
    .name = "conv2d",
    .formula = "y_{noij} = \\sum_{cuv} x_{n,c,\\,i s + u d - p,\\,j s + v d - p}\\, w_{ocuv}",
    .gradient = "dx = \\mathrm{conv2d\\_input\\_grad}(dy, w),\\quad dw = \\mathrm{conv2d\\_weight\\_grad}(x, dy)",
    .kind = NB_CONTRACTION,
    .arity = 2,
    .attr_size = sizeof(nb__conv_attr),
    .infer = conv2d_infer,
    .derivative = conv2d_derivative,
    .run = conv2d_run,
    .flops = conv2d_flops,
    .sample = conv2d_sample,
    .describe = conv_describe,
};

nb_tensor *nb_conv2d(nb_tensor *x, nb_tensor *weight, nb_tensor *bias, const nb_conv2d_options *options) {
    nb_context *nb = nb__context_of(3, (nb_tensor *[]){x, weight, bias});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "conv2d") || nb__refuse(nb, weight, 1, "conv2d") || (bias && nb__refuse(nb, bias, 2, "conv2d")))
        return nb_failed(nb);
    nb__conv_attr a = resolve(options, x->shape, weight->shape);
    nb_tensor    *y = nb_apply(nb, &nb__op_conv2d, 2, (nb_tensor *[]){x, weight}, &a);
    if (!bias || y->is_failed) return y;
    int64_t channels = weight->shape.size[0];
    if (bias->shape.rank != 1 || bias->shape.size[0] != channels)
        return nb_fail(nb, NB_INVALID, "conv2d: weight %s, bias %s: the bias must be [%lld]", nb__dims_text(weight->shape).at,
                       nb__dims_text(bias->shape).at, (long long)channels);
    return nb_add(y, nb_reshape(bias, nb_shape(1, channels, 1, 1)));
}

/* ---------------------------------------------------------------------------------------------------------- conv2d_input_grad */

static bool fits(nb_context *nb, const char *user, nb_dims x, nb_dims w, const nb_tensor *dy, const void *attr) {
    nb_dims y;
    if (!result_shape(nb, user, x, w, attr, &y)) return false;
    if (nb__dims_equal(y, dy->shape)) return true;
    nb_fail(nb, NB_INVALID, "%s: input %s with weight %s gives %s, but dy is %s", user, nb__dims_text(x).at, nb__dims_text(w).at,
            nb__dims_text(y).at, nb__dims_text(dy->shape).at);
    return false;
}

static bool input_grad_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const char *user = "conv2d_input_grad";
    *out = (nb_type){in[0]->dtype, ((const nb__conv_attr *)attr)->other};
    return nb__check_product(nb, user, in[0], in[1], false) && nb__check_shape(nb, user, out->dtype, out->shape) &&
           fits(nb, user, out->shape, in[1]->shape, in[0], attr);
}

static void input_grad_derivative(nb_tensor *z, nb_tensor *dz, const bool *want, nb_tensor **dx) {
    nb_tensor *dy = z->in[0], *w = z->in[1];
    if (want[0]) dx[0] = forward(z, dz, w);
    if (want[1]) dx[1] = weight_grad(z, dz, dy, w->shape);
}

/* Row (or column) of the result that the window's place u puts over h, or -1. */
static int64_t source(int64_t h, int64_t u, const nb__conv_attr *a, int axis, int64_t size) {
    int64_t at = h + a->before[axis] - u * a->dilation[axis];
    return at < 0 || at % a->stride[axis] != 0 || at / a->stride[axis] >= size ? -1 : at / a->stride[axis];
}

/* dx[n,c,h,w] = sum_{u,v} sum_o dy[n,o,i,j] weight[o,c,u,v], where window (i,j) has its place (u,v) over (h,w) */
static void input_grad_run(const nb_call *call) {
    const nb__conv_attr *a = call->attr;
    const nb_array      *dy = &call->in[0], *k = &call->in[1], *dx = &call->out;
    int64_t              at[NB_MAX_RANK] = {0}, channels = k->shape[1], per_group = k->shape[0] / a->groups;
    for (int d = 0; d < 4; d++)
        if (dx->shape[d] == 0) return;
    do {
        int64_t first = at[C] / channels * per_group;
        double  sum = 0;
        for (int64_t u = 0; u < k->shape[2]; u++) {
            int64_t i = source(at[H], u, a, 0, dy->shape[H]);
            for (int64_t v = 0; v < k->shape[3] && i >= 0; v++) {
                int64_t j = source(at[W], v, a, 1, dy->shape[W]);
                if (j < 0 || per_group == 0) continue;
                int64_t at_y[] = {at[N], first, i, j}, at_k[] = {first, at[C] % channels, u, v};
                sum += nb__dot(dy, nb__offset(dy, at_y), dy->stride[C], k, nb__offset(k, at_k), k->stride[0], per_group);
            }
        }
        nb__store(dx, nb__offset(dx, at), sum);
    } while (nb__next_index(4, dx->shape, at));
}

static double input_grad_flops(const nb_tensor *z) { return flops_of(z->in[0]->shape, z->in[1]->shape); }

/* Shape of the result of sample row i. */
static nb_dims sample_result(nb_sampler *s, int i) {
    nb__conv_attr a = resolve(&samples[i].o, samples[i].x, samples[i].w);
    nb_dims       y = nb_shape();
    result_shape(s->nb, "conv2d", samples[i].x, samples[i].w, &a, &y);
    return y;
}

static nb_tensor *input_grad_sample(nb_sampler *s, int i) {
    if (i >= SAMPLES) return NULL;
    return nb_conv2d_input_grad(s->real(s, -1, 1, sample_result(s, i)), s->real(s, -1, 1, samples[i].w), samples[i].x,
                                &samples[i].o);
}

const nb_op nb__op_conv2d_input_grad = {
    .name = "conv2d_input_grad",
    .formula = "z_{nchw} = \\sum_{ouv} dy_{noij}\\, w_{ocuv},\\quad h = i s + u d - p,\\; w = j s + v d - p",
    .gradient = "d(dy) = \\mathrm{conv2d}(dz, w),\\quad dw = \\mathrm{conv2d\\_weight\\_grad}(dz, dy)",
    .kind = NB_CONTRACTION,
    .arity = 2,
    .attr_size = sizeof(nb__conv_attr),
    .infer = input_grad_infer,
    .derivative = input_grad_derivative,
    .run = input_grad_run,
    .flops = input_grad_flops,
    .sample = input_grad_sample,
    .describe = conv_describe,
};

nb_tensor *nb_conv2d_input_grad(nb_tensor *dy, nb_tensor *weight, nb_dims input_shape, const nb_conv2d_options *options) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){dy, weight});
    if (!nb) return NULL;
    if (nb__refuse(nb, dy, 0, "conv2d_input_grad") || nb__refuse(nb, weight, 1, "conv2d_input_grad") ||
        !nb__check_shape(nb, "conv2d_input_grad", dy->dtype, input_shape))
        return nb_failed(nb);
    nb__conv_attr a = resolve(options, input_shape, weight->shape);
    a.other = input_shape;
    return nb_apply(nb, &nb__op_conv2d_input_grad, 2, (nb_tensor *[]){dy, weight}, &a);
}

/* --------------------------------------------------------------------------------------------------------- conv2d_weight_grad */

static bool weight_grad_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    const char *user = "conv2d_weight_grad";
    *out = (nb_type){in[0]->dtype, ((const nb__conv_attr *)attr)->other};
    return nb__check_product(nb, user, in[0], in[1], false) && nb__check_shape(nb, user, out->dtype, out->shape) &&
           fits(nb, user, in[0]->shape, out->shape, in[1], attr);
}

static void weight_grad_derivative(nb_tensor *z, nb_tensor *dz, const bool *want, nb_tensor **dx) {
    nb_tensor *x = z->in[0], *dy = z->in[1];
    if (want[0]) dx[0] = input_grad(z, dy, dz, x->shape);
    if (want[1]) dx[1] = forward(z, x, dz);
}

/* dw[o,c,u,v] = sum_{n,i} sum_j dy[n,o,i,j] x[n,c,h,w], where (h,w) lies in the image */
static void weight_grad_run(const nb_call *call) {
    const nb__conv_attr *a = call->attr;
    const nb_array      *x = &call->in[0], *dy = &call->in[1], *dw = &call->out;
    int64_t              at[NB_MAX_RANK] = {0}, channels = dw->shape[1], per_group = dw->shape[0] / a->groups, i0, i1, j0, j1;
    for (int d = 0; d < 4; d++)
        if (dw->shape[d] == 0) return;
    do {
        int64_t top = at[2] * a->dilation[0] - a->before[0], left = at[3] * a->dilation[1] - a->before[1];
        double  sum = 0;
        inside(top, a->stride[0], x->shape[H], dy->shape[H], &i0, &i1);
        inside(left, a->stride[1], x->shape[W], dy->shape[W], &j0, &j1);
        for (int64_t n = 0; n < x->shape[N]; n++)
            for (int64_t i = i0; i < i1 && j0 < j1; i++) {
                int64_t at_x[] = {n, at[0] / per_group * channels + at[1], top + i * a->stride[0], left + j0 * a->stride[1]};
                int64_t at_y[] = {n, at[0], i, j0};
                sum += nb__dot(x, nb__offset(x, at_x), x->stride[W] * a->stride[1], dy, nb__offset(dy, at_y), dy->stride[W],
                               j1 - j0);
            }
        nb__store(dw, nb__offset(dw, at), sum);
    } while (nb__next_index(4, dw->shape, at));
}

static double weight_grad_flops(const nb_tensor *z) { return flops_of(z->in[1]->shape, z->shape); }

static nb_tensor *weight_grad_sample(nb_sampler *s, int i) {
    if (i >= SAMPLES) return NULL;
    return nb_conv2d_weight_grad(s->real(s, -1, 1, samples[i].x), s->real(s, -1, 1, sample_result(s, i)), samples[i].w,
                                 &samples[i].o);
}

const nb_op nb__op_conv2d_weight_grad = {
    .name = "conv2d_weight_grad",
    .formula = "z_{ocuv} = \\sum_{nij} dy_{noij}\\, x_{n,c,\\,i s + u d - p,\\,j s + v d - p}",
    .gradient = "dx = \\mathrm{conv2d\\_input\\_grad}(dy, dz),\\quad d(dy) = \\mathrm{conv2d}(x, dz)",
    .kind = NB_CONTRACTION,
    .arity = 2,
    .attr_size = sizeof(nb__conv_attr),
    .infer = weight_grad_infer,
    .derivative = weight_grad_derivative,
    .run = weight_grad_run,
    .flops = weight_grad_flops,
    .sample = weight_grad_sample,
    .describe = conv_describe,
};

nb_tensor *nb_conv2d_weight_grad(nb_tensor *x, nb_tensor *dy, nb_dims weight_shape, const nb_conv2d_options *options) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){x, dy});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "conv2d_weight_grad") || nb__refuse(nb, dy, 1, "conv2d_weight_grad") ||
        !nb__check_shape(nb, "conv2d_weight_grad", dy->dtype, weight_shape))
        return nb_failed(nb);
    nb__conv_attr a = resolve(options, x->shape, weight_shape);
    a.other = weight_shape;
    return nb_apply(nb, &nb__op_conv2d_weight_grad, 2, (nb_tensor *[]){x, dy}, &a);
}
