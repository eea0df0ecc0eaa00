/* conv.c: layers with a window over an image [N, C, H, W]. */
#include "nn.h"

#define NEEDS_IMAGE "it takes images [C,H,W]: put it before flatten"

/* --------------------------------------------------------------------------------------------------------------------- conv2d */

typedef struct conv_layer {
    nb_layer          layer;
    nb_conv2d_options options;
} conv_layer;

static nb_tensor *conv_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_conv2d(x, l->slots[0].tensor, l->n_slots > 1 ? l->slots[1].tensor : NULL, &((conv_layer *)l)->options);
}

static const nb__layer_kind conv2d = {"conv2d", sizeof(conv_layer), conv_apply, NULL};

nb_layer *nb_layer_conv2d(nb_context *nb, int64_t in, int64_t out, int64_t kernel_height, int64_t kernel_width, bool bias,
                          const nb_conv2d_options *options) {
    nb_conv2d_options o = options ? *options : (nb_conv2d_options){0};
    if (o.groups == 0) o.groups = 1;
    nb_layer *l = nb__layer_begin(nb, &conv2d, 2, 0);
    if (!l) return NULL;
    if (o.groups < 0 || in % o.groups || out % o.groups)
        nb_fail(nb, NB_INVALID, "conv2d: %lld groups do not divide %lld channels in and %lld out", (long long)o.groups,
                (long long)in, (long long)out);
    if (nb_error(nb)) return nb__layer_end(l);
    ((conv_layer *)l)->options = o;
    nb_tensor *w = nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(out, in / o.groups, kernel_height, kernel_width), 0);
    nb_tensor *b = bias ? nb__layer_slot(l, "bias", NB__WEIGHT, nb_shape(out), 0) : NULL;
    nb__init_weight_and_bias(w, b);
    return nb__layer_end(l);
}

/* The window must fit into the padded image. */
static bool check_window(nb__reader *r, const int64_t size[2], const int64_t padding[2], const int64_t dilation[2]) {
    for (int i = 0; i < 2; i++) {
        int64_t image = r->shape.size[1 + i] + 2 * padding[i], window = dilation[i] * (size[i] - 1) + 1;
        if (window <= image) continue;
        char text[128];
        nb__read_error(r, r->word,
                       "a window of %lld does not fit into the %s of %s, %lld with padding: use a smaller one, or pad",
                       (long long)window, i ? "width" : "height", nb__shape_text(r->shape, text, sizeof text), (long long)image);
        return false;
    }
    return true;
}

nb_layer *nb__read_conv(nb__reader *r) {
    nb_conv2d_options o = {.stride = {1, 1}, .dilation = {1, 1}};
    int64_t           out = nb__read_size(r, "out"), kernel[2] = {1, 1};
    nb__read_pair(r, "kernel", kernel);
    nb__option_pair(r, "stride", 1, o.stride);
    o.same = nb__option_pair_or(r, "pad", 0, o.padding, "same");
    nb__option_pair(r, "dilation", 1, o.dilation);
    o.groups = nb__option_size(r, "groups", 1);
    bool bias = nb__option_flag(r, "bias", true);
    if (!nb__read_rank(r, 3, 3, NEEDS_IMAGE)) return NULL;
    int64_t in = r->shape.size[0];
    if (in % o.groups || out % o.groups) {
        nb__read_error(r, r->word, "groups=%lld must divide both the %lld channels that come in and the %lld that go out",
                       (long long)o.groups, (long long)in, (long long)out);
        return NULL;
    }
    if (!o.same && !check_window(r, kernel, o.padding, o.dilation)) return NULL;
    return nb_layer_conv2d(r->nb, in, out, kernel[0], kernel[1], bias, &o);
}

/* ---------------------------------------------------------------------------------------------------------------------- pools */

typedef struct pool_layer {
    nb_layer          layer;
    nb_pool2d_options options;
} pool_layer;

static nb_tensor *max_pool_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_max_pool2d(x, &((pool_layer *)l)->options);
}

static nb_tensor *avg_pool_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_avg_pool2d(x, &((pool_layer *)l)->options);
}

static const nb__layer_kind max_pool = {"max_pool2d", sizeof(pool_layer), max_pool_apply, NULL};
static const nb__layer_kind avg_pool = {"avg_pool2d", sizeof(pool_layer), avg_pool_apply, NULL};

static nb_layer *new_pool(nb_context *nb, const nb__layer_kind *kind, const nb_pool2d_options *options) {
    nb_layer *l = nb__layer_begin(nb, kind, 0, 0);
    if (l && options) ((pool_layer *)l)->options = *options;
    return nb__layer_end(l);
}

nb_layer *nb_layer_max_pool2d(nb_context *nb, const nb_pool2d_options *options) { return new_pool(nb, &max_pool, options); }
nb_layer *nb_layer_avg_pool2d(nb_context *nb, const nb_pool2d_options *options) { return new_pool(nb, &avg_pool, options); }

/* What both kinds of pool take; false after an error. */
static bool read_pool(nb__reader *r, nb_pool2d_options *o) {
    nb__read_pair(r, "size", o->size);
    o->stride[0] = o->size[0];
    o->stride[1] = o->size[1];
    nb__option_pair(r, "stride", 1, o->stride);
    nb__option_pair(r, "pad", 0, o->padding);
    o->ceil_mode = nb__option_flag(r, "ceil", false);
    if (!nb__read_rank(r, 3, 3, NEEDS_IMAGE)) return false;
    if (2 * o->padding[0] > o->size[0] || 2 * o->padding[1] > o->size[1]) {
        nb__read_error(r, r->word, "pad is more than half the window: some windows would hold nothing");
        return false;
    }
    return check_window(r, o->size, o->padding, o->dilation);
}

nb_layer *nb__read_maxpool(nb__reader *r) {
    nb_pool2d_options o = {.size = {1, 1}, .dilation = {1, 1}};
    nb__option_pair(r, "dilation", 1, o.dilation);
    return read_pool(r, &o) ? nb_layer_max_pool2d(r->nb, &o) : NULL;
}

nb_layer *nb__read_avgpool(nb__reader *r) {
    nb_pool2d_options o = {.size = {1, 1}, .dilation = {1, 1}};
    o.exclude_padding = !nb__option_flag(r, "count_pad", true);
    return read_pool(r, &o) ? nb_layer_avg_pool2d(r->nb, &o) : NULL;
}

/* ------------------------------------------------------------------------------------------------------------- adaptive pools */

typedef struct adaptive_layer {
    nb_layer layer;
    int64_t  height, width;
} adaptive_layer;

static nb_tensor *adaptive_avg_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    adaptive_layer *a = (adaptive_layer *)l;
    return a->height == 1 && a->width == 1 ? nb_global_avg_pool2d(x) : nb_adaptive_avg_pool2d(x, a->height, a->width);
}

static nb_tensor *adaptive_max_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    adaptive_layer *a = (adaptive_layer *)l;
    return a->height == 1 && a->width == 1 ? nb_global_max_pool2d(x) : nb_adaptive_max_pool2d(x, a->height, a->width);
}

static const nb__layer_kind adaptive_avg = {"adaptive_avg_pool2d", sizeof(adaptive_layer), adaptive_avg_apply, NULL};
static const nb__layer_kind adaptive_max = {"adaptive_max_pool2d", sizeof(adaptive_layer), adaptive_max_apply, NULL};

static nb_layer *new_adaptive(nb_context *nb, const nb__layer_kind *kind, int64_t height, int64_t width) {
    nb_layer *l = nb__layer_begin(nb, kind, 0, 0);
    if (l && (height < 1 || width < 1)) nb_fail(nb, NB_INVALID, "%s: the size must be 1 or more", kind->type);
    if (l) {
        ((adaptive_layer *)l)->height = height;
        ((adaptive_layer *)l)->width = width;
    }
    return nb__layer_end(l);
}

nb_layer *nb_layer_adaptive_avg_pool2d(nb_context *nb, int64_t height, int64_t width) {
    return new_adaptive(nb, &adaptive_avg, height, width);
}
nb_layer *nb_layer_adaptive_max_pool2d(nb_context *nb, int64_t height, int64_t width) {
    return new_adaptive(nb, &adaptive_max, height, width);
}

static nb_layer *read_adaptive(nb__reader *r, const nb__layer_kind *kind) {
    int64_t size[2] = {1, 1};
    nb__read_pair(r, "size", size);
    if (!nb__read_rank(r, 3, 3, NEEDS_IMAGE)) return NULL;
    return new_adaptive(r->nb, kind, size[0], size[1]);
}

nb_layer *nb__read_adaptiveavgpool(nb__reader *r) { return read_adaptive(r, &adaptive_avg); }
nb_layer *nb__read_adaptivemaxpool(nb__reader *r) { return read_adaptive(r, &adaptive_max); }

nb_layer *nb__read_globalavgpool(nb__reader *r) {
    return nb__read_rank(r, 3, 3, NEEDS_IMAGE) ? nb_layer_adaptive_avg_pool2d(r->nb, 1, 1) : NULL;
}
