/* im2col.c: convolutions without oneDNN, as matrix products.
 *
 * The patches of an image are the rows of a matrix: patches[P,K], P the pixels of the result, K = kH kW C/groups in this order, so that
 * a pixel's channels stay together. Then, group by group,
 *
 *     y[P,O] = patches W[K,O]      patches = dy[P,O] W[O,K], added up where they overlap      dW[O,K] = dy^T[O,P] patches
 *
 * Chellapilla, Puri & Simard, High Performance Convolutional Neural Networks for Document Processing, 2006. Patches are made for some rows
 * of the result at a time, so that they stay in the L2 cache. */
#include <string.h>

#include "convolution.h"

enum { PATCH_FLOATS = 1 << 16 };

/* ------------------------------------------------------------------------------------------------------------------- geometry */

bool nb__convolution_of(const nb__call *call, nb__conv_kind kind, nb__convolution *v) {
    *v = (nb__convolution){.kind = kind, .a = *(const nb__conv_attr *)call->c.attr};
    const nb_array *x = nb__conv_x(v, call), *k = nb__conv_weight(v, call), *y = nb__conv_y(v, call);
    if (x->dtype != NB_F32 || k->dtype != NB_F32 || y->dtype != NB_F32) return false;
    for (int i = 0; i < 4; i++)
        if (x->shape[i] == 0 || k->shape[i] == 0 || y->shape[i] == 0) return false;
    v->n = x->shape[0], v->c = x->shape[1], v->h = x->shape[2], v->w = x->shape[3];
    v->o = k->shape[0], v->kh = k->shape[2], v->kw = k->shape[3];
    v->oh = y->shape[2], v->ow = y->shape[3];

    /* Tiles of 2 MFLOP at least. Weight gradients: 16 at most, and partial sums of 32 MB at most, unless that were fewer than 4. */
    double  flops = 2.0 * (double)(v->o * v->oh) * (double)(v->ow * k->shape[1]) * (double)(v->kh * v->kw);
    int64_t most = v->n;
    if (kind == NB__CONV_WEIGHT) {
        double parts = 8e6 / ((double)k->shape[0] * (double)(k->shape[1] * v->kh * v->kw));
        most = parts < 4 ? 4 : parts > 16 ? 16 : (int64_t)parts;
    }
    v->images = flops < 2e6 ? (int64_t)(2e6 / flops) : 1;
    if (v->images < (v->n + most - 1) / most) v->images = (v->n + most - 1) / most;
    if (v->images > v->n) v->images = v->n;
    v->tiles = (v->n + v->images - 1) / v->images;
    return true;
}

const nb_array *nb__conv_x(const nb__convolution *v, const nb__call *call) {
    return v->kind == NB__CONV_INPUT ? &call->c.out : &call->c.in[0];
}

const nb_array *nb__conv_weight(const nb__convolution *v, const nb__call *call) {
    return v->kind == NB__CONV_WEIGHT ? &call->c.out : &call->c.in[1];
}

const nb_array *nb__conv_y(const nb__convolution *v, const nb__call *call) {
    return v->kind == NB__CONV_FORWARD ? &call->c.out : v->kind == NB__CONV_INPUT ? &call->c.in[0] : &call->c.in[1];
}

/* --------------------------------------------------------------------------------------------------------------- partial sums */

enum { PIECE = 4096 };

typedef struct parts_call {
    float  *parts;
    int64_t n, size;
} parts_call;

static void add_piece(void *arg, int64_t tile, int thread) {
    const parts_call *c = arg;
    int64_t           first = tile * PIECE, last = c->size - first < PIECE ? c->size : first + PIECE;
    (void)thread;
    for (int64_t step = 1; step < c->n; step *= 2)
        for (int64_t i = 0; i + step < c->n; i += 2 * step) {
            float *restrict       to = c->parts + i * c->size;
            const float *restrict from = c->parts + (i + step) * c->size;
            for (int64_t j = first; j < last; j++) to[j] += from[j];
        }
}

void nb__add_parts(float *parts, int64_t n, int64_t size, nb_pool *pool) {
    parts_call c = {parts, n, size};
    if (n > 1) nb__parallel(pool, (size + PIECE - 1) / PIECE, add_piece, &c);
}

/* -------------------------------------------------------------------------------------------------------------------- patches */

typedef struct state {
    nb__convolution       v;
    const nb__gemm_loops *loops;
    int64_t               channels, outputs, depth; /* of a group: C/groups, O/groups, K */
    int64_t               rows;                     /* of the result whose patches are made at a time */
    int64_t               shared_floats, thread_bytes;
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    float          *shared; /* weights in the order the products want, or partial sums of them */
    char           *scratch;
} run_call;

/* Where the window of (i,j) has its place (u,v), or NULL for padding. */
static float *at_place(const nb__convolution *v, const nb_array *x, float *image, int64_t i, int64_t j, int64_t u, int64_t t) {
    int64_t h = i * v->a.stride[0] + u * v->a.dilation[0] - v->a.before[0], w = j * v->a.stride[1] + t * v->a.dilation[1] - v->a.before[1];
    return h < 0 || h >= v->h || w < 0 || w >= v->w ? NULL : image + h * x->stride[2] + w * x->stride[3];
}

static void make_patches(const state *s, const nb_array *x, float *image, int64_t first, int64_t rows, float *to) {
    const nb__convolution *v = &s->v;
    int64_t                n = s->channels, step = x->stride[1];
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < v->ow; j++)
            for (int64_t u = 0; u < v->kh; u++)
                for (int64_t t = 0; t < v->kw; t++, to += n) {
                    const float *from = at_place(v, x, image, i, j, u, t);
                    if (!from) memset(to, 0, (size_t)n * sizeof *to);
                    else
                        for (int64_t c = 0; c < n; c++) to[c] = from[c * step];
                }
}

static void add_patches(const state *s, const nb_array *x, float *image, int64_t first, int64_t rows, const float *from) {
    const nb__convolution *v = &s->v;
    int64_t                n = s->channels, step = x->stride[1];
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < v->ow; j++)
            for (int64_t u = 0; u < v->kh; u++)
                for (int64_t t = 0; t < v->kw; t++, from += n) {
                    float *to = at_place(v, x, image, i, j, u, t);
                    for (int64_t c = 0; to && c < n; c++) to[c * step] += from[c];
                }
}

static void zero_image(const nb__convolution *v, const nb_array *x, float *image) {
    for (int64_t h = 0; h < v->h; h++)
        for (int64_t w = 0; w < v->w; w++)
            for (int64_t c = 0; c < v->c; c++) image[c * x->stride[1] + h * x->stride[2] + w * x->stride[3]] = 0;
}

/* --------------------------------------------------------------------------------------------------------------------- weights */

/* Element (group, o, u, t, c) of the products' weights: [K,O] for the forward product, [O,K] for the others. */
static float *shared_at(const state *s, float *weights, int64_t group, int64_t o, int64_t k) {
    float *w = weights + group * s->outputs * s->depth;
    return s->v.kind == NB__CONV_FORWARD ? w + k * s->outputs + o : w + o * s->depth + k;
}

/* Copies the weights there (from the array), or back. */
static void order_weights(const state *s, const nb_array *array, float *weights, bool back) {
    const nb__convolution *v = &s->v;
    for (int64_t o = 0; o < v->o; o++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t u = 0; u < v->kh; u++)
                for (int64_t t = 0; t < v->kw; t++) {
                    float *in_array = (float *)array->data + o * array->stride[0] + c * array->stride[1] + u * array->stride[2] +
                                      t * array->stride[3];
                    float *in_shared = shared_at(s, weights, o / s->outputs, o % s->outputs, (u * v->kw + t) * s->channels + c);
                    *(back ? in_array : in_shared) = *(back ? in_shared : in_array);
                }
}

/* ----------------------------------------------------------------------------------------------------------------------- tiles */

/* Some rows of one group of one image. */
static void rows_of(const run_call *r, int64_t image, int64_t group, int64_t first, int64_t rows, float *weights, bool add, float *pack) {
    const state    *s = r->s;
    const nb_array *x = nb__conv_x(&s->v, r->call), *y = nb__conv_y(&s->v, r->call);
    float          *from = (float *)x->data + image * x->stride[0] + group * s->channels * x->stride[1];
    float          *to = (float *)y->data + image * y->stride[0] + group * s->outputs * y->stride[1] + first * y->stride[2];
    float          *patches = pack + NB__PACK_BYTES / (int)sizeof *pack, *w = weights + group * s->outputs * s->depth;
    int64_t         pixels = rows * s->v.ow, k = s->depth, o = s->outputs;
    nb__matrix      p = {patches, k, 1}, q = {to, y->stride[3], y->stride[1]}; /* patches[P,K], y[P,O] */
    if (s->v.kind != NB__CONV_INPUT) make_patches(s, x, from, first, rows, patches);
    if (s->v.kind == NB__CONV_FORWARD) nb__gemm(s->loops, p, (nb__matrix){w, o, 1}, q, pixels, o, k, false, pack);
    else if (s->v.kind == NB__CONV_INPUT) nb__gemm(s->loops, q, (nb__matrix){w, k, 1}, p, pixels, k, o, false, pack);
    else nb__gemm(s->loops, (nb__matrix){to, y->stride[1], y->stride[3]}, p, (nb__matrix){w, k, 1}, o, k, pixels, add, pack);
    if (s->v.kind == NB__CONV_INPUT) add_patches(s, x, from, first, rows, patches);
}

static void run_tile(void *arg, int64_t tile, int thread) {
    const run_call        *r = arg;
    const state           *s = r->s;
    const nb__convolution *v = &s->v;
    const nb_array        *x = nb__conv_x(v, r->call);
    float                 *pack = (float *)(r->scratch + thread * s->thread_bytes);
    float                 *weights = r->shared + (v->kind == NB__CONV_WEIGHT ? tile * s->shared_floats : 0);
    int64_t                begin = tile * v->images, end = begin + v->images < v->n ? begin + v->images : v->n;
    for (int64_t image = begin; image < end; image++) {
        if (v->kind == NB__CONV_INPUT) zero_image(v, x, (float *)x->data + image * x->stride[0]);
        for (int64_t group = 0; group < v->a.groups; group++)
            for (int64_t i = 0; i < v->oh; i += s->rows)
                rows_of(r, image, group, i, v->oh - i < s->rows ? v->oh - i : s->rows, weights, image > begin || i > 0, pack);
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state    *s = plan->state;
    bool            is_sum = s->v.kind == NB__CONV_WEIGHT;
    const nb_array *weight = nb__conv_weight(&s->v, call);
    int64_t         parts = is_sum ? s->v.tiles : 1;
    run_call        r = {s, call, scratch, (char *)scratch + (size_t)(parts * s->shared_floats) * sizeof(float)};
    if (!is_sum) order_weights(s, weight, r.shared, false);
    nb__parallel(pool, s->v.tiles, run_tile, &r);
    if (!is_sum) return;
    nb__add_parts(r.shared, parts, s->shared_floats, pool);
    order_weights(s, weight, r.shared, true);
}

bool nb__plan_conv_own(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads, nb__plan *plan) {
    state s = {.loops = nb__gemm_of(isa)};
    if (!s.loops || !nb__convolution_of(call, kind, &s.v)) return false;
    const nb_array *y = nb__conv_y(&s.v, call);
    s.channels = s.v.c / s.v.a.groups;
    s.outputs = s.v.o / s.v.a.groups;
    s.depth = s.v.kh * s.v.kw * s.channels;
    /* Several rows are one matrix only where they follow each other evenly. */
    bool even = s.v.oh == 1 || s.v.ow == 1 || y->stride[2] == s.v.ow * y->stride[3];
    s.rows = even ? PATCH_FLOATS / (s.v.ow * s.depth) : 1;
    if (s.v.ow == 1 && s.v.oh > 1) s.rows = 1;
    if (s.rows < 1) s.rows = 1;
    if (s.rows > s.v.oh) s.rows = s.v.oh;
    s.shared_floats = (s.v.o * s.depth + 15) / 16 * 16;
    s.thread_bytes = (NB__PACK_BYTES + s.rows * s.v.ow * s.depth * (int64_t)sizeof(float) + 63) / 64 * 64;
    state *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    static const char *const names[] = {"own conv2d", "own conv2d input gradient", "own conv2d weight gradient"};
    int64_t                  parts = kind == NB__CONV_WEIGHT ? s.v.tiles : 1;
    *plan = (nb__plan){.kernel = names[kind],
                       .run = run,
                       .state = kept,
                       .scratch_bytes = (size_t)(parts * s.shared_floats) * sizeof(float) + (size_t)threads * (size_t)s.thread_bytes};
    return true;
}
