/* max_pool.c: max pools, in three steps.
 *
 * max_pool2d_index finds the place of the largest element in each window; pool_take takes the elements at such places, and
 * pool_put puts a gradient back to them. The last two are linear, each the other's derivative. A place is a number within its
 * window (nb__pool_pitch), a byte for most: the forward pass leaves little behind for the backward pass to read. */
#include <math.h>

#include "pooling.h"

/* ---------------------------------------------------------------------------------------------------------- max_pool2d_index */

static bool index_type(nb_context *nb, nb_dims x, nb_dtype dtype, const nb__pool_attr *a, nb_type *out) {
    if (!nb__pool_shape(nb, "max_pool2d", dtype, x, a, &out->shape)) return false;
    out->dtype = nb__pool_index_dtype(a, x.size[H], x.size[W]);
    if (x.size[H] == 0 || x.size[W] <= INT32_MAX / x.size[H]) return true;
    nb_fail(nb, NB_INVALID, "max_pool2d: input %s: a plane has more than 2^31 elements", nb__dims_text(x).at);
    return false;
}

static bool index_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    return index_type(nb, in[0]->shape, in[0]->dtype, attr, out);
}

/* The elements of the image where window (i[H], i[W]) begins and ends. */
typedef struct place {
    nb__window rows, columns;
} place;

static place window_at(const nb__pool_attr *a, const nb_array *x, const int64_t *i) {
    return (place){nb__pool_window(a, 0, x->shape[H], i[H]), nb__pool_window(a, 1, x->shape[W], i[W])};
}

/* index[n,c,i,j] = the first place of window (i,j) where x[n,c,h,w] is largest; NaN is larger than all */
static void index_run(const nb_call *call) {
    const nb__pool_attr *a = call->attr;
    const nb_array      *x = &call->in[0], *y = &call->out;
    int64_t              i[NB_MAX_RANK] = {0}, pitch = nb__pool_pitch(a, 1, x->shape[W]);
    for (int d = 0; d < 4; d++)
        if (y->shape[d] == 0) return;
    do {
        place   p = window_at(a, x, i);
        double  most = -INFINITY;
        int64_t where = 0, row = 0;
        for (int64_t h = p.rows.first; h < p.rows.last; h += a->dilation[0], row += pitch)
            for (int64_t w = p.columns.first, k = row; w < p.columns.last; w += a->dilation[1], k++) {
                int64_t at[] = {i[N], i[C], h, w};
                double  value = nb__load(x, nb__offset(x, at));
                if (!(value > most || (isnan(value) && !isnan(most)))) continue;
                most = value;
                where = k;
            }
        nb__store_int(y, nb__offset(y, i), where);
    } while (nb__next_index(4, y->shape, i));
}

/* Attributes and operand of sample i; NULL when there is none. */
static nb_tensor *image_sample(nb_sampler *s, int i, nb__pool_attr *a) {
    *a = nb__pool_adaptive(2, 3);
    if (i > NB__POOL_SAMPLES) return NULL;
    if (i < NB__POOL_SAMPLES && !nb__pool_resolve(s->nb, "max_pool2d", nb__pool_samples[i].x, &nb__pool_samples[i].o, a))
        return NULL;
    return s->real(s, -2, 2, i < NB__POOL_SAMPLES ? nb__pool_samples[i].x : nb_shape(1, 2, 5, 4));
}

static nb_tensor *index_sample(nb_sampler *s, int i) {
    nb__pool_attr a;
    nb_tensor    *x = image_sample(s, i, &a);
    return x ? nb_apply(s->nb, &nb__op_max_pool2d_index, 1, &x, &a) : NULL;
}

const nb_op nb__op_max_pool2d_index = {
    .name = "max_pool2d_index",
    .formula = "y_{ncij} = \\operatorname{argmax}_{(h,w) \\in \\mathrm{window}(i,j)} x_{nchw}",
    .kind = NB_INDEX,
    .arity = 1,
    .attr_size = sizeof(nb__pool_attr),
    .infer = index_infer,
    .run = index_run,
    .sample = index_sample,
    .describe = nb__pool_describe,
};

/* ----------------------------------------------------------------------------------------------------- pool_take and pool_put */

/* Whether `index` may be the index of an image of this shape. */
static bool check_index(nb_context *nb, const char *user, nb_dims image, nb_dtype dtype, const nb_tensor *index,
                        const nb__pool_attr *a) {
    nb_type want;
    if (!index_type(nb, image, dtype, a, &want)) return false;
    if (index->dtype == want.dtype && nb__dims_equal(index->shape, want.shape)) return true;
    nb_fail(nb, NB_INVALID, "%s: the index of image %s is %s %s, got %s %s", user, nb__dims_text(image).at,
            nb_dtype_name(want.dtype), nb__dims_text(want.shape).at, nb_dtype_name(index->dtype), nb__dims_text(index->shape).at);
    return false;
}

static bool take_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    *out = (nb_type){in[0]->dtype, in[1]->shape};
    return check_index(nb, "pool_take", in[0]->shape, in[0]->dtype, in[1], attr);
}

static bool put_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    nb_dims image = ((const nb__pool_attr *)attr)->other;
    *out = (nb_type){in[0]->dtype, image};
    if (!nb__check_shape(nb, "pool_put", out->dtype, image) || !check_index(nb, "pool_put", image, out->dtype, in[1], attr))
        return false;
    if (nb__dims_equal(in[0]->shape, in[1]->shape)) return true;
    nb_fail(nb, NB_INVALID, "pool_put: dy is %s, the index %s: shapes must be equal", nb__dims_text(in[0]->shape).at,
            nb__dims_text(in[1]->shape).at);
    return false;
}

/* Element of `image` (an array of its shape) that index[i] names; false where it names none. */
static bool find_place(const nb__pool_attr *a, const nb_array *image, const nb_array *index, const int64_t *i, int64_t *offset) {
    place   p = window_at(a, image, i);
    int64_t k = nb__load_int(index, nb__offset(index, i)), pitch = nb__pool_pitch(a, 1, image->shape[W]);
    int64_t at[] = {i[N], i[C], p.rows.first + k / pitch * a->dilation[0], p.columns.first + k % pitch * a->dilation[1]};
    if (k < 0 || at[H] >= p.rows.last || at[W] >= p.columns.last) return false;
    *offset = nb__offset(image, at);
    return true;
}

/* y[n,c,i,j] = x[n,c,h,w] at place index[n,c,i,j] of window (i,j) */
static void take_run(const nb_call *call) {
    const nb_array *x = &call->in[0], *index = &call->in[1], *y = &call->out;
    int64_t         i[NB_MAX_RANK] = {0}, from;
    for (int d = 0; d < 4; d++)
        if (y->shape[d] == 0) return;
    do nb__store(y, nb__offset(y, i), find_place(call->attr, x, index, i, &from) ? nb__load(x, from) : 0);
    while (nb__next_index(4, y->shape, i));
}

/* dx[n,c,h,w] = sum of dy[n,c,i,j] over the windows (i,j) whose place it is */
static void put_run(const nb_call *call) {
    const nb_array *dy = &call->in[0], *index = &call->in[1], *dx = &call->out;
    int64_t         i[NB_MAX_RANK] = {0}, to;
    nb__fill_elements(dx, 0);
    for (int d = 0; d < 4; d++)
        if (dy->shape[d] == 0) return;
    do
        if (find_place(call->attr, dx, index, i, &to)) nb__store(dx, to, nb__load(dx, to) + nb__load(dy, nb__offset(dy, i)));
    while (nb__next_index(4, dy->shape, i));
}

static void take_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = nb__pool_apply(y, &nb__op_pool_put, 2, (nb_tensor *[]){dy, y->in[1]}, y->in[0]->shape);
}

static void put_derivative(nb_tensor *z, nb_tensor *dz, const bool *want, nb_tensor **dx) {
    if (want[0]) dx[0] = nb__pool_apply(z, &nb__op_pool_take, 2, (nb_tensor *[]){dz, z->in[1]}, nb_shape());
}

static nb_tensor *take_sample(nb_sampler *s, int i) {
    nb__pool_attr a;
    nb_tensor    *x = image_sample(s, i, &a);
    if (!x) return NULL;
    nb_tensor *other = s->real(s, -2, 2, x->shape); /* whose largest are elsewhere */
    return nb_apply(s->nb, &nb__op_pool_take, 2, (nb_tensor *[]){x, nb_apply(s->nb, &nb__op_max_pool2d_index, 1, &other, &a)},
                    &a);
}

static nb_tensor *put_sample(nb_sampler *s, int i) {
    nb__pool_attr a;
    nb_tensor    *x = image_sample(s, i, &a);
    if (!x) return NULL;
    nb_tensor *index = nb_apply(s->nb, &nb__op_max_pool2d_index, 1, &x, &a), *dy = s->real(s, -2, 2, index->shape);
    a.other = x->shape;
    return nb_apply(s->nb, &nb__op_pool_put, 2, (nb_tensor *[]){dy, index}, &a);
}

const nb_op nb__op_pool_take = {
    .name = "pool_take",
    .formula = "y_{ncij} = x_{nchw},\\quad (h,w) = k_{ncij}",
    .gradient = "dx = \\mathrm{pool\\_put}(dy, k)",
    .kind = NB_OPAQUE,
    .arity = 2,
    .attr_size = sizeof(nb__pool_attr),
    .infer = take_infer,
    .derivative = take_derivative,
    .run = take_run,
    .flops = nb__no_flops,
    .sample = take_sample,
    .describe = nb__pool_describe,
};

const nb_op nb__op_pool_put = {
    .name = "pool_put",
    .formula = "z_{nchw} = \\sum_{ij\\,:\\,k_{ncij} = (h,w)} dy_{ncij}",
    .gradient = "d(dy) = \\mathrm{pool\\_take}(dz, k)",
    .kind = NB_OPAQUE,
    .arity = 2,
    .attr_size = sizeof(nb__pool_attr),
    .infer = put_infer,
    .derivative = put_derivative,
    .run = put_run,
    .flops = nb__no_flops,
    .sample = put_sample,
    .describe = nb__pool_describe,
};

/* ---------------------------------------------------------------------------------------------------------------- max_pool2d */

/* The largest of each window. */
static nb_tensor *max_pool(nb_tensor *x, const nb_op *group, const nb__pool_attr *a) {
    nb_group_push(x->nb, group);
    nb_tensor *in[] = {x, nb_apply(x->nb, &nb__op_max_pool2d_index, 1, &x, a)};
    nb_tensor *y = nb_apply(x->nb, &nb__op_pool_take, 2, in, a);
    nb_group_pop(x->nb);
    return y;
}

nb_tensor *nb_max_pool2d(nb_tensor *x, const nb_pool2d_options *options) {
    if (!x) return NULL;
    nb__pool_attr a;
    if (nb__refuse(x->nb, x, 0, "max_pool2d") || !nb__pool_check_image(x->nb, "max_pool2d", x->dtype, x->shape) ||
        !nb__pool_resolve(x->nb, "max_pool2d", x->shape, options, &a))
        return nb_failed(x->nb);
    return max_pool(x, &nb__op_max_pool2d, &a);
}

static nb_tensor *max_pool2d_sample(nb_sampler *s, int i) {
    return i < NB__POOL_SAMPLES ? nb_max_pool2d(s->real(s, -2, 2, nb__pool_samples[i].x), &nb__pool_samples[i].o) : NULL;
}

const nb_op nb__op_max_pool2d = {
    .name = "max_pool2d",
    .formula = "y_{ncij} = \\max_{(h,w) \\in \\mathrm{window}(i,j)} x_{nchw}",
    .gradient = "dx_{nchw} = \\sum_{ij\\,:\\,(h,w) = \\operatorname{argmax}} dy_{ncij}",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = max_pool2d_sample,
};

nb_tensor *nb_adaptive_max_pool2d(nb_tensor *x, int64_t height, int64_t width) {
    if (!x) return NULL;
    nb__pool_attr a = nb__pool_adaptive(height, width);
    return nb__refuse(x->nb, x, 0, "adaptive_max_pool2d") ? nb_failed(x->nb) : max_pool(x, &nb__op_adaptive_max_pool2d, &a);
}

static nb_tensor *adaptive_max_sample(nb_sampler *s, int i) {
    nb_dims x[] = {nb_shape(1, 2, 4, 4), nb_shape(2, 1, 5, 7), nb_shape(1, 1, 3, 2), nb_shape(0, 1, 4, 4)};
    return i < 4 ? nb_adaptive_max_pool2d(s->real(s, -2, 2, x[i]), 2, 3) : NULL;
}

const nb_op nb__op_adaptive_max_pool2d = {
    .name = "adaptive_max_pool2d",
    .formula = "y_{ncij} = \\max x_{nchw},\\; \\lfloor iH/H' \\rfloor \\le h < \\lceil (i+1)H/H' \\rceil",
    .gradient = "dx_{nchw} = \\sum_{ij\\,:\\,(h,w) = \\operatorname{argmax}} dy_{ncij}",
    .kind = NB_COMPOSITION,
    .arity = 1,
    .sample = adaptive_max_sample,
};
