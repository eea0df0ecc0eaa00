/* conv.c: which loops compute a convolution of f32 or an adjoint, and those of oneDNN; own ones are in pointwise.c, winograd.c
 * and direct.c.
 *
 * Each tile, some images, is one call of a single-threaded primitive. Images are channels-last: such arrays are used as they are,
 * others are copied, tile by tile. Weights are packed once a run into the layout that the primitive asks for; the weight
 * gradient's partial sums are added in that layout and unpacked at the end. */
#include "onednn.h"

#include "convolution.h"
#include "images.h"

#if NB_DNNL
#include <string.h>

typedef struct state {
    nb__convolution v;
    nb__primitive   primitive[2]; /* of a whole tile, and of the last one */
    nb__primitive   pack;         /* of weights; unpacks when they are the result */
    bool            copy_x, copy_y;
    nb__copy        from_x, from_y; /* an image into a channels-last one, or back where it is the result */
    int64_t         part_floats;    /* packed weights */
    int64_t         x_floats, y_floats, thread_bytes;
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    float          *weights;
    char           *scratch;
} run_call;

static bool make(nb_context *nb, state *s, nb__primitive *p, int64_t images, int threads) {
    static const int       args[][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                                        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    const nb__convolution *v = &s->v;
    int64_t                g = v->a.groups;
    int64_t                x_shape[] = {images, v->c, v->h, v->w}, x_stride[] = {v->h * v->w * v->c, 1, v->w * v->c, v->c};
    int64_t                y_shape[] = {images, v->o, v->oh, v->ow}, y_stride[] = {v->oh * v->ow * v->o, 1, v->ow * v->o, v->o};
    int64_t                w_shape[] = {g, v->o / g, v->c / g, v->kh, v->kw};
    /* oneDNN's type for sizes has room for twelve, and counts a dilation of 1 as 0. */
    dnnl_dims_t stride = {v->a.stride[0], v->a.stride[1]}, dilation = {v->a.dilation[0] - 1, v->a.dilation[1] - 1};
    dnnl_dims_t before = {v->a.before[0], v->a.before[1]}, after = {v->a.after[0], v->a.after[1]};

    dnnl_memory_desc_t      x = nb__dnnl_strided(4, x_shape, x_stride), y = nb__dnnl_strided(4, y_shape, y_stride);
    dnnl_memory_desc_t      w = g == 1 ? nb__dnnl_any(4, w_shape + 1) : nb__dnnl_any(5, w_shape);
    dnnl_convolution_desc_t d;
    dnnl_alg_kind_t         direct = dnnl_convolution_direct;
    dnnl_status_t           status;
    if (v->kind == NB__CONV_FORWARD)
        status = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_inference, direct, &x, &w, NULL, &y, stride,
                                                            dilation, before, after);
    else if (v->kind == NB__CONV_INPUT)
        status = dnnl_dilated_convolution_backward_data_desc_init(&d, direct, &x, &w, &y, stride, dilation, before, after);
    else
        status =
            dnnl_dilated_convolution_backward_weights_desc_init(&d, direct, &x, &w, NULL, &y, stride, dilation, before, after);
    return status == dnnl_success && nb__primitive_make(nb, p, &d, 3, args[v->kind], threads) && !p->is_slow;
}

/* The plain weights, whatever their strides, as the primitive's shape. */
static bool make_packing(nb_context *nb, state *s, const nb_array *k) {
    int64_t            g = s->v.a.groups, per_group = s->v.o / g;
    int64_t            shape[] = {g, per_group, k->shape[1], k->shape[2], k->shape[3]};
    int64_t            stride[] = {per_group * k->stride[0], k->stride[0], k->stride[1], k->stride[2], k->stride[3]};
    dnnl_memory_desc_t plain = g == 1 ? nb__dnnl_strided(4, shape + 1, stride + 1) : nb__dnnl_strided(5, shape, stride);
    dnnl_memory_desc_t packed = s->primitive[0].memory[1];
    for (int i = 0; i < 4; i++)
        if (k->stride[i] < 1 && k->shape[i] > 1) return false;
    bool back = s->v.kind == NB__CONV_WEIGHT;
    return nb__reorder_make(nb, &s->pack, back ? &packed : &plain, back ? &plain : &packed);
}

static void free_primitives(nb_context *nb, state *s) {
    nb__primitive_free(nb, &s->primitive[0]);
    nb__primitive_free(nb, &s->primitive[1]);
    nb__primitive_free(nb, &s->pack);
}

static void free_state(nb_context *nb, void *s) {
    free_primitives(nb, s);
    nb_free(nb, s);
}

static void failed(const nb__call *call) { nb_raise(&call->c, 0, "conv2d: oneDNN failed; is there memory left?"); }

static void run_tile(void *arg, int64_t tile, int thread) {
    const run_call        *r = arg;
    const state           *s = r->s;
    const nb__convolution *v = &s->v;
    const nb_array        *x = nb__conv_x(v, r->call), *y = nb__conv_y(v, r->call);
    int64_t                first = tile * v->images, images = v->n - first < v->images ? v->n - first : v->images;
    float                 *copy_x = (float *)(r->scratch + thread * s->thread_bytes), *copy_y = copy_x + s->x_floats;
    float                 *at_x = s->copy_x ? copy_x : (float *)x->data + first * v->c * v->h * v->w;
    float                 *at_y = s->copy_y ? copy_y : (float *)y->data + first * v->o * v->oh * v->ow;
    void                  *data[] = {at_x, r->weights + (v->kind == NB__CONV_WEIGHT ? tile * s->part_floats : 0), at_y};

    if (s->copy_x && v->kind != NB__CONV_INPUT) nb__copy_images(&s->from_x, x, first, images, at_x, false);
    if (s->copy_y && v->kind != NB__CONV_FORWARD) nb__copy_images(&s->from_y, y, first, images, at_y, false);
    if (!nb__primitive_run(&s->primitive[images < v->images], data, copy_y + s->y_floats, thread)) failed(r->call);
    if (s->copy_x && v->kind == NB__CONV_INPUT) nb__copy_images(&s->from_x, x, first, images, at_x, true);
    if (s->copy_y && v->kind == NB__CONV_FORWARD) nb__copy_images(&s->from_y, y, first, images, at_y, true);
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    bool         is_sum = s->v.kind == NB__CONV_WEIGHT;
    int64_t      parts = is_sum ? s->v.tiles : 1;
    void        *plain = nb__conv_weight(&s->v, call)->data;
    run_call     r = {s, call, scratch, (char *)scratch + (size_t)(parts * s->part_floats) * sizeof(float)};
    int          threads = nb__dnnl_enter();
    if (!is_sum && !nb__primitive_run(&s->pack, (void *[]){plain, r.weights}, r.scratch, 0)) failed(call);
    nb__parallel(pool, s->v.tiles, run_tile, &r);
    if (is_sum) {
        nb__add_parts(r.weights, parts, s->part_floats, pool);
        if (!nb__primitive_run(&s->pack, (void *[]){r.weights, plain}, r.scratch, 0)) failed(call);
    }
    nb__dnnl_leave(threads);
}

static bool plan_dnnl(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads, nb__plan *plan) {
    static const char *const names[] = {"dnnl conv2d", "dnnl conv2d input gradient", "dnnl conv2d weight gradient"};
    nb__convolution          v;
    if (!isa->gemm || !nb__convolution_of(call, kind, &v)) return false;
    /* Images of few channels, and one or two images, are faster by own loops. */
    if (v.a.groups == 1 && (v.c < 8 || v.n < 4)) return false;
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    *s = (state){.v = v};
    s->copy_x = !nb__is_channels_last(nb__conv_x(&v, call));
    s->copy_y = !nb__is_channels_last(nb__conv_y(&v, call));
    s->from_x = nb__images_copy(isa, nb__conv_x(&v, call), kind == NB__CONV_INPUT);
    s->from_y = nb__images_copy(isa, nb__conv_y(&v, call), kind == NB__CONV_FORWARD);
    if (s->copy_x) s->x_floats = nb__whole_lines(v.images * v.c * v.h * v.w);
    if (s->copy_y) s->y_floats = nb__whole_lines(v.images * v.o * v.oh * v.ow);

    int     before = nb__dnnl_enter();
    int64_t last = v.n % v.images;
    bool good = make(nb, s, &s->primitive[0], v.images, threads) && (last == 0 || make(nb, s, &s->primitive[1], last, threads)) &&
                make_packing(nb, s, nb__conv_weight(&v, call));
    /* One packing serves both primitives. */
    good = good && (last == 0 || dnnl_memory_desc_equal(&s->primitive[0].memory[1], &s->primitive[1].memory[1]));
    if (!good) free_primitives(nb, s);
    nb__dnnl_leave(before);
    if (!good) {
        nb_free(nb, s);
        return false;
    }
    size_t bytes = s->pack.scratch_bytes;
    for (int i = 0; i < 2; i++)
        if (s->primitive[i].scratch_bytes > bytes) bytes = s->primitive[i].scratch_bytes;
    s->part_floats = nb__whole_lines((int64_t)(dnnl_memory_desc_get_size(&s->primitive[0].memory[1]) / sizeof(float)));
    s->thread_bytes = (s->x_floats + s->y_floats) * (int64_t)sizeof(float) + ((int64_t)bytes + 63) / 64 * 64;
    int64_t parts = kind == NB__CONV_WEIGHT ? v.tiles : 1;
    *plan =
        (nb__plan){.kernel = names[kind],
                   .run = run,
                   .free_state = free_state,
                   .state = s,
                   .scratch_bytes = (size_t)(parts * s->part_floats) * sizeof(float) + (size_t)threads * (size_t)s->thread_bytes};
    return true;
}
#endif

static bool plan_conv(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads, nb__plan *plan) {
    if (nb__plan_pointwise(nb, isa, call, kind, threads, plan) || nb__plan_winograd(nb, isa, call, kind, threads, plan))
        return true;
    if (nb_error(nb)) return false;
#if NB_DNNL
    if (plan_dnnl(nb, isa, call, kind, threads, plan)) return true;
    if (nb_error(nb)) return false;
#endif
    return nb__plan_conv_own(nb, isa, call, kind, threads, plan);
}

bool nb__plan_conv2d(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    return plan_conv(nb, isa, call, NB__CONV_FORWARD, threads, plan);
}

bool nb__plan_conv2d_input_grad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    return plan_conv(nb, isa, call, NB__CONV_INPUT, threads, plan);
}

bool nb__plan_conv2d_weight_grad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    return plan_conv(nb, isa, call, NB__CONV_WEIGHT, threads, plan);
}
