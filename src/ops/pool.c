/* pool.c: average pools, global pools, and what all pools share: windows, their checks, their samples.
 *
 * An average pool and its adjoint are linear, each the other's derivative. Adaptive pools are the same operators with windows of
 * another rule. */
#include <stdio.h>

#include "pooling.h"

bool nb__pool_check_image(nb_context *nb, const char *user, nb_dtype dtype, nb_dims shape) {
    if (shape.rank != 4) {
        nb_fail(nb, NB_INVALID, "%s: takes images [N,C,H,W], got %s", user, nb__dims_text(shape).at);
        return false;
    }
    if (nb__is_float(dtype)) return true;
    nb_fail(nb, NB_INVALID, "%s: takes f32 and f64, not %s; convert with nb_cast", user, nb_dtype_name(dtype));
    return false;
}

static bool within(int64_t value, int64_t least) { return value >= least && value <= INT32_MAX; }

bool nb__pool_resolve(nb_context *nb, const char *user, nb_dims x, const nb_pool2d_options *options, nb__pool_attr *a) {
    nb_pool2d_options o = options ? *options : (nb_pool2d_options){.ceil_mode = false};
    *a = (nb__pool_attr){.exclude_padding = o.exclude_padding};
    for (int i = 0; i < 2; i++) {
        int64_t size = a->size[i] = o.size[i];
        int64_t stride = a->stride[i] = o.stride[i] ? o.stride[i] : size;
        int64_t dilation = a->dilation[i] = o.dilation[i] ? o.dilation[i] : 1, padding = a->padding[i] = o.padding[i];
        if (!within(size, 1) || !within(stride, 1) || !within(dilation, 1) || !within(padding, 0)) {
            nb_fail(nb, NB_INVALID, "%s: %s: size, stride and dilation must be from 1 to 2^31 - 1, padding from 0", user,
                    i ? "width" : "height");
            return false;
        }
        int64_t covered = dilation * (size - 1) + 1, padded = x.size[H + i] + 2 * padding;
        if (padding > covered / 2) {
            nb_fail(nb, NB_INVALID, "%s: padding %lld is more than half of the window, %lld", user, (long long)padding,
                    (long long)covered);
            return false;
        }
        /* Rounded up, a window larger than the image is an output too if the steps leave room for it. */
        int64_t room = padded - covered + (o.ceil_mode ? stride - 1 : 0);
        if (room < 0) {
            nb_fail(nb, NB_INVALID, "%s: input %s: the window covers %lld of the %s, the padded image has %lld", user,
                    nb__dims_text(x).at, (long long)covered, i ? "width" : "height", (long long)padded);
            return false;
        }
        int64_t n = room / stride + 1;
        if (o.ceil_mode && (n - 1) * stride >= x.size[H + i] + padding) n--;
        a->out[i] = n;
    }
    return true;
}

bool nb__pool_shape(nb_context *nb, const char *user, nb_dtype dtype, nb_dims x, const nb__pool_attr *a, nb_dims *out) {
    if (!nb__pool_check_image(nb, user, dtype, x)) return false;
    *out = nb_shape(x.size[N], x.size[C], a->out[0], a->out[1]);
    for (int axis = 0; axis < 2; axis++) {
        const char *word = axis ? "column" : "row";
        bool good = a->adaptive || (within(a->size[axis], 1) && within(a->stride[axis], 1) && within(a->dilation[axis], 1));
        if (!good || !within(a->out[axis], 0) || !within(x.size[H + axis], 0)) {
            nb_fail(nb, NB_INVALID, "%s: input %s: %lld %ss cannot be made of it", user, nb__dims_text(x).at,
                    (long long)a->out[axis], word);
            return false;
        }
        for (int64_t i = 0; i < a->out[axis]; i++) {
            nb__window w = nb__pool_window(a, axis, x.size[H + axis], i);
            if (w.first < w.last) continue;
            nb_fail(nb, NB_INVALID,
                    "%s: input %s: the window of output %s %lld lies outside the image; reduce padding or dilation", user,
                    nb__dims_text(x).at, word, (long long)i);
            return false;
        }
    }
    return nb__check_shape(nb, user, dtype, *out);
}

nb__pool_attr nb__pool_adaptive(int64_t height, int64_t width) {
    return (nb__pool_attr){.size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .out = {height, width}, .adaptive = true};
}

void nb__pool_describe(const void *attr, char *text, size_t size) {
    const nb__pool_attr *a = attr;
    if (a->adaptive) {
        snprintf(text, size, "out=%lldx%lld", (long long)a->out[0], (long long)a->out[1]);
        return;
    }
    int n = snprintf(text, size, "size=%lldx%lld, stride=%lldx%lld", (long long)a->size[0], (long long)a->size[1],
                     (long long)a->stride[0], (long long)a->stride[1]);
    if ((a->padding[0] || a->padding[1]) && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ", padding=%lldx%lld", (long long)a->padding[0], (long long)a->padding[1]);
}

const nb__pool_sample nb__pool_samples[NB__POOL_SAMPLES] = {
    {{4, {1, 1, 4, 4}}, {.size = {2, 2}}},
    {{4, {2, 3, 5, 7}}, {.size = {2, 3}}},
    {{4, {1, 2, 5, 5}}, {.size = {3, 3}, .stride = {1, 2}, .padding = {1, 1}}},
    {{4, {1, 2, 5, 5}}, {.size = {3, 3}, .stride = {2, 2}, .padding = {1, 0}, .exclude_padding = true}},
    {{4, {2, 1, 5, 6}}, {.size = {2, 2}, .ceil_mode = true}},
    {{4, {1, 1, 6, 7}}, {.size = {3, 2}, .stride = {2, 3}, .padding = {1, 1}, .ceil_mode = true}},
    {{4, {1, 1, 5, 5}}, {.size = {4, 4}, .stride = {3, 3}, .padding = {1, 1}, .ceil_mode = true, .exclude_padding = true}},
    {{4, {1, 1, 3, 4}}, {.size = {4, 4}, .stride = {2, 3}, .ceil_mode = true}},
    {{4, {1, 2, 3, 3}}, {.size = {1, 1}, .stride = {2, 2}}},
    {{4, {0, 2, 4, 4}}, {.size = {2, 2}}},
    {{4, {2, 0, 4, 4}}, {.size = {2, 2}}},
    {{4, {1, 1, 7, 8}}, {.size = {3, 2}, .dilation = {2, 3}, .stride = {1, 2}}},
    {{4, {1, 2, 6, 6}}, {.size = {2, 2}, .dilation = {2, 2}, .stride = {2, 2}, .padding = {1, 1}}},
};

/* ---------------------------------------------------------------------------------------------------------------- avg_pool2d */

static double weight_of(const nb__pool_attr *a, nb__window rows, nb__window columns) {
    bool inside = a->exclude_padding || a->adaptive;
    return 1.0 / (inside ? (double)(rows.last - rows.first) * (double)(columns.last - columns.first)
                         : (double)rows.whole * (double)columns.whole);
}

static bool avg_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    out->dtype = in[0]->dtype;
    return nb__pool_shape(nb, "avg_pool2d", in[0]->dtype, in[0]->shape, attr, &out->shape);
}

/* y[n,c,i,j] = (sum of x[n,c,h,w] over window (i,j)) / elements */
static void avg_run(const nb_call *call) {
    const nb__pool_attr *a = call->attr;
    const nb_array      *x = &call->in[0], *y = &call->out;
    int64_t              i[NB_MAX_RANK] = {0};
    for (int d = 0; d < 4; d++)
        if (y->shape[d] == 0) return;
    do {
        nb__window rows = nb__pool_window(a, 0, x->shape[H], i[H]), columns = nb__pool_window(a, 1, x->shape[W], i[W]);
        double     sum = 0;
        for (int64_t h = rows.first; h < rows.last; h++)
            for (int64_t w = columns.first; w < columns.last; w++) {
                int64_t at[] = {i[N], i[C], h, w};
                sum += nb__load(x, nb__offset(x, at));
            }
        nb__store(y, nb__offset(y, i), sum * weight_of(a, rows, columns));
    } while (nb__next_index(4, y->shape, i));
}

static double window_area(const nb_tensor *t, nb_dims image) {
    const nb__pool_attr *a = t->attr;
    if (!a->adaptive) return (double)a->size[0] * (double)a->size[1];
    double windows = (double)a->out[0] * (double)a->out[1];
    return windows > 0 ? (double)image.size[H] * (double)image.size[W] / windows : 0;
}

static double avg_flops(const nb_tensor *y) { return (double)nb_count(y) * window_area(y, y->in[0]->shape); }

nb_tensor *nb__pool_apply(const nb_tensor *like, const nb_op *op, int n, nb_tensor *const *in, nb_dims other) {
    nb__pool_attr a = *(const nb__pool_attr *)like->attr;
    a.other = other;
    return nb_apply(in[0]->nb, op, n, in, &a);
}

static void avg_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = nb__pool_apply(y, &nb__op_avg_pool2d_grad, 1, &dy, y->in[0]->shape);
}

static nb_tensor *avg_sample(nb_sampler *s, int i) {
    return i < NB__POOL_FLAT_SAMPLES ? nb_avg_pool2d(s->real(s, -2, 2, nb__pool_samples[i].x), &nb__pool_samples[i].o) : NULL;
}

const nb_op nb__op_avg_pool2d = {
    .name = "avg_pool2d",
    .formula = "y_{ncij} = \\frac{1}{|\\mathrm{window}|} \\sum_{(h,w) \\in \\mathrm{window}(i,j)} x_{nchw}",
    .gradient = "dx = \\mathrm{avg\\_pool2d\\_grad}(dy)",
    .kind = NB_OPAQUE,
    .arity = 1,
    .attr_size = sizeof(nb__pool_attr),
    .infer = avg_infer,
    .derivative = avg_derivative,
    .run = avg_run,
    .flops = avg_flops,
    .sample = avg_sample,
    .describe = nb__pool_describe,
};

nb_tensor *nb_avg_pool2d(nb_tensor *x, const nb_pool2d_options *options) {
    if (!x) return NULL;
    nb__pool_attr a;
    if (nb__refuse(x->nb, x, 0, "avg_pool2d") || !nb__pool_check_image(x->nb, "avg_pool2d", x->dtype, x->shape) ||
        !nb__pool_resolve(x->nb, "avg_pool2d", x->shape, options, &a))
        return nb_failed(x->nb);
    if (a.dilation[0] != 1 || a.dilation[1] != 1) return nb_fail(x->nb, NB_INVALID, "avg_pool2d: dilation must be 1");
    return nb_apply(x->nb, &nb__op_avg_pool2d, 1, &x, &a);
}

nb_tensor *nb_adaptive_avg_pool2d(nb_tensor *x, int64_t height, int64_t width) {
    if (!x) return NULL;
    nb_context   *nb = x->nb;
    nb__pool_attr a = nb__pool_adaptive(height, width);
    nb_group_push(nb, &nb__op_adaptive_avg_pool2d);
    nb_tensor *y = nb_apply(nb, &nb__op_avg_pool2d, 1, &x, &a);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *adaptive_avg_sample(nb_sampler *s, int i) {
    nb_dims x[] = {nb_shape(1, 2, 4, 4), nb_shape(2, 1, 5, 7), nb_shape(1, 1, 3, 2), nb_shape(0, 1, 4, 4)};
    return i < 4 ? nb_adaptive_avg_pool2d(s->real(s, -2, 2, x[i]), 2, 3) : NULL;
}

const nb_op nb__op_adaptive_avg_pool2d = {
    .name = "adaptive_avg_pool2d",
    .formula = "y_{ncij} = \\mathrm{mean}\\, x_{nchw},\\; \\lfloor iH/H' \\rfloor \\le h < \\lceil (i+1)H/H' \\rceil",
    .gradient = "dx_{nchw} = \\sum_{ij} dy_{ncij} / |\\mathrm{window}|",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = adaptive_avg_sample,
};

/* ----------------------------------------------------------------------------------------------------------- avg_pool2d_grad */

static bool avg_grad_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims image = ((const nb__pool_attr *)attr)->other, y;
    *out = (nb_type){in[0]->dtype, image};
    if (!nb__check_shape(nb, "avg_pool2d_grad", out->dtype, image) ||
        !nb__pool_shape(nb, "avg_pool2d_grad", out->dtype, image, attr, &y))
        return false;
    if (nb__dims_equal(y, in[0]->shape)) return true;
    nb_fail(nb, NB_INVALID, "avg_pool2d_grad: image %s gives %s, but dy is %s", nb__dims_text(image).at, nb__dims_text(y).at,
            nb__dims_text(in[0]->shape).at);
    return false;
}

/* dx[n,c,h,w] = sum of dy[n,c,i,j] / elements over the windows (i,j) that hold (h,w) */
static void avg_grad_run(const nb_call *call) {
    const nb__pool_attr *a = call->attr;
    const nb_array      *dy = &call->in[0], *dx = &call->out;
    int64_t              at[NB_MAX_RANK] = {0};
    for (int d = 0; d < 4; d++)
        if (dx->shape[d] == 0) return;
    do {
        double sum = 0;
        for (int64_t i = 0; i < dy->shape[H]; i++) {
            nb__window rows = nb__pool_window(a, 0, dx->shape[H], i);
            if (at[H] < rows.first || at[H] >= rows.last) continue;
            for (int64_t j = 0; j < dy->shape[W]; j++) {
                nb__window columns = nb__pool_window(a, 1, dx->shape[W], j);
                if (at[W] < columns.first || at[W] >= columns.last) continue;
                int64_t from[] = {at[N], at[C], i, j};
                sum += nb__load(dy, nb__offset(dy, from)) * weight_of(a, rows, columns);
            }
        }
        nb__store(dx, nb__offset(dx, at), sum);
    } while (nb__next_index(4, dx->shape, at));
}

static void avg_grad_derivative(nb_tensor *z, nb_tensor *dz, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = nb__pool_apply(z, &nb__op_avg_pool2d, 1, &dz, nb_shape());
}

static double avg_grad_flops(const nb_tensor *z) { return (double)nb_count(z->in[0]) * window_area(z, z->shape); }

static nb_tensor *avg_grad_sample(nb_sampler *s, int i) {
    nb__pool_attr a = nb__pool_adaptive(2, 3);
    if (i > NB__POOL_FLAT_SAMPLES ||
        (i < NB__POOL_FLAT_SAMPLES &&
         !nb__pool_resolve(s->nb, "avg_pool2d_grad", nb__pool_samples[i].x, &nb__pool_samples[i].o, &a)))
        return NULL;
    nb_dims    x = a.other = i < NB__POOL_FLAT_SAMPLES ? nb__pool_samples[i].x : nb_shape(1, 2, 5, 4);
    nb_tensor *dy = s->real(s, -2, 2, nb_shape(x.size[N], x.size[C], a.out[0], a.out[1]));
    return nb_apply(s->nb, &nb__op_avg_pool2d_grad, 1, &dy, &a);
}

const nb_op nb__op_avg_pool2d_grad = {
    .name = "avg_pool2d_grad",
    .formula = "z_{nchw} = \\sum_{ij\\,:\\,(h,w) \\in \\mathrm{window}(i,j)} dy_{ncij} / |\\mathrm{window}|",
    .gradient = "d(dy) = \\mathrm{avg\\_pool2d}(dz)",
    .kind = NB_OPAQUE,
    .arity = 1,
    .attr_size = sizeof(nb__pool_attr),
    .infer = avg_grad_infer,
    .derivative = avg_grad_derivative,
    .run = avg_grad_run,
    .flops = avg_grad_flops,
    .sample = avg_grad_sample,
    .describe = nb__pool_describe,
};

/* -------------------------------------------------------------------------------------------------------------- global pools */

nb_tensor *nb_global_avg_pool2d(nb_tensor *x) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, "global_avg_pool2d") || !nb__pool_check_image(nb, "global_avg_pool2d", x->dtype, x->shape))
        return nb_failed(nb);
    nb_group_push(nb, &nb__op_global_avg_pool2d);
    nb_tensor *y = nb_mean(x, nb_axes(2, 3), true);
    nb_group_pop(nb);
    return y;
}

nb_tensor *nb_global_max_pool2d(nb_tensor *x) {
    if (!x) return NULL;
    nb_context *nb = x->nb;
    if (nb__refuse(nb, x, 0, "global_max_pool2d") || !nb__pool_check_image(nb, "global_max_pool2d", x->dtype, x->shape))
        return nb_failed(nb);
    nb_group_push(nb, &nb__op_global_max_pool2d);
    nb_tensor *y = nb_max(x, nb_axes(2, 3), true);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *global_avg_sample(nb_sampler *s, int i) {
    nb_dims x[] = {nb_shape(2, 3, 4, 5), nb_shape(1, 1, 1, 1), nb_shape(0, 2, 3, 3)};
    return i < 3 ? nb_global_avg_pool2d(s->real(s, -2, 2, x[i])) : NULL;
}

static nb_tensor *global_max_sample(nb_sampler *s, int i) {
    nb_dims x[] = {nb_shape(2, 3, 4, 5), nb_shape(1, 1, 1, 1), nb_shape(0, 2, 3, 3)};
    return i < 3 ? nb_global_max_pool2d(s->real(s, -2, 2, x[i])) : NULL;
}

const nb_op nb__op_global_avg_pool2d = {
    .name = "global_avg_pool2d",
    .formula = "y_{nc} = \\frac{1}{HW} \\sum_{hw} x_{nchw}",
    .gradient = "dx_{nchw} = dy_{nc} / HW",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = global_avg_sample,
};

const nb_op nb__op_global_max_pool2d = {
    .name = "global_max_pool2d",
    .formula = "y_{nc} = \\max_{hw} x_{nchw}",
    .gradient = "dx_{nchw} = dy_{nc}\\,[(h,w) = \\operatorname{argmax}]",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = global_max_sample,
};
