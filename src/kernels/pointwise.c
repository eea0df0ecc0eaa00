/* pointwise.c: convolutions with windows of one pixel, which are matrix products.
 *
 * With the weights as W[O,C] and each image as X[C,P], P pixels:
 *
 *     Y[O,P] = W X[C,P]     dX[C,P] = W^T dY[O,P]     dW[O,C] = sum over images of dY[O,P] X[C,P]^T
 *
 * The loops of products read and write any strides, so images stay in the order they have. What lies plane by plane goes by way
 * of a strip of some pixels where it comes from memory or goes there: neighbours of a plane are fetched together. */
#include <string.h>

#include "convolution.h"
#include "copy.h"
#include "numbers.h"

enum { CACHED = 4 << 20 }; /* bytes that a cache may hold from one operator to the next */

/* Where the elements of an image lie. */
typedef struct image {
    int64_t step, channel, pixel; /* from image to image, ... */
} image;

typedef struct state {
    nb__convolution       v;
    const nb__gemm_loops *loops;
    const nb__move_loops *move;
    image                 from, to; /* of y and x for the weight gradient */
    int64_t               in, out;  /* channels of these */
    int64_t               n, pixels;
    bool                  joined;    /* images follow each other as pixels do: one image, but for the weight gradient */
    int64_t               weight[2]; /* strides of W, or of W^T: [out,in] */
    int64_t               strip, strips, images, tiles; /* pixels of a strip, strips an image; images a tile */
    int64_t               parts, rows;                  /* partial sums; rows of them a tile */
    int64_t               line;                         /* of a strip in scratch memory */
    bool                  by_pixels;                    /* rows of the product are pixels, else channels */
    bool                  gathers, streams;             /* by way of a strip in scratch memory */
    int64_t               thread_floats, shared_floats;
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    float          *shared; /* packed weights, or partial sums */
    float          *scratch;
} run_call;

/* ------------------------------------------------------------------------------------------------- forward, input gradient */

/* One strip: pixels first to first + n of an image. */
static void run_strip(const run_call *r, const float *x, float *y, int64_t n, float *scratch) {
    const state *s = r->s;
    float       *pack = scratch, *from = pack + NB__PACK_FLOATS, *to = from + (s->gathers ? s->in * s->line : 0);
    nb__matrix   a = {(float *)x, s->from.channel, s->from.pixel}, c = {y, s->to.channel, s->to.pixel};
    nb__matrix   w = {nb__conv_weight(&s->v, r->call)->data, s->weight[0], s->weight[1]};
    if (s->gathers) {
        for (int64_t i = 0; i < s->in; i++) memcpy(from + i * s->line, x + i * s->from.channel, (size_t)n * sizeof *x);
        a = (nb__matrix){from, s->line, 1};
    }
    if (s->streams) c = (nb__matrix){to, s->line, 1};
    if (s->by_pixels)
        s->loops->product((nb__matrix){a.data, a.column, a.row}, (nb__matrix){w.data, w.column, w.row},
                          (nb__matrix){c.data, c.column, c.row}, n, s->out, s->in, false, pack, r->shared);
    else
        s->loops->product(w, a, c, s->out, n, s->in, false, pack, NULL);
    for (int64_t i = 0; s->streams && i < s->out; i++)
        s->move->stream(y + i * s->to.channel, to + i * s->line, (size_t)n * sizeof *y);
}

static void run_tile(void *arg, int64_t tile, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    const float    *x = r->call->c.in[0].data;
    float          *y = r->call->c.out.data;
    int64_t         first = tile % s->strips * s->strip, begin = tile / s->strips * s->images;
    for (int64_t i = begin; i < least(begin + s->images, s->n); i++)
        run_strip(r, x + i * s->from.step + first * s->from.pixel, y + i * s->to.step + first * s->to.pixel,
                  least(s->strip, s->pixels - first), r->scratch + thread * s->thread_floats);
    if (s->streams) s->move->fence();
}

/* Packs W^T [in,out]. */
static void pack(const state *s, const nb__call *call, float *to, nb_pool *pool) {
    nb__matrix w = {nb__conv_weight(&s->v, call)->data, s->weight[1], s->weight[0]};
    nb__pack_panels(s->loops, w, s->in, s->out, to, pool);
}

static void prepare(const nb__plan *plan, const nb__call *call, nb_pool *pool) { pack(plan->state, call, call->prepared, pool); }

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    run_call     r = {s, call, plan->prepare ? call->prepared : scratch, (float *)scratch + s->shared_floats};
    if (s->by_pixels && !plan->prepare) pack(s, call, r.shared, pool);
    nb__parallel(pool, s->tiles, run_tile, &r);
}

/* --------------------------------------------------------------------------------------------------------- weight gradient */

/* Some rows of what a part of the images contribute. */
static void run_part(void *arg, int64_t tile, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    int64_t         blocks = divide_up(s->in, s->rows), part = tile / blocks, first = tile % blocks * s->rows;
    float          *sums = r->shared + part * s->shared_floats + first * s->out;
    int64_t         begin = part * s->images, end = least(begin + s->images, s->n), at_once = s->joined ? end - begin : 1;
    for (int64_t i = begin; i < end; i += at_once) {
        float *dy = (float *)r->call->c.in[1].data + i * s->from.step + first * s->from.channel;
        float *x = (float *)r->call->c.in[0].data + i * s->to.step;
        s->loops->product((nb__matrix){dy, s->from.channel, s->from.pixel}, (nb__matrix){x, s->to.pixel, s->to.channel},
                          (nb__matrix){sums, s->out, 1}, least(s->rows, s->in - first), s->out, at_once * s->pixels, i > begin,
                          r->scratch + thread * s->thread_floats, NULL);
    }
}

static void run_weight(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state    *s = plan->state;
    const nb_array *w = &call->c.out;
    run_call        r = {s, call, scratch, (float *)scratch + s->parts * s->shared_floats};
    nb__parallel(pool, s->parts * divide_up(s->in, s->rows), run_part, &r);
    nb__add_parts(r.shared, s->parts, s->shared_floats, pool);
    for (int64_t o = 0; o < s->in; o++)
        nb__copy_run(sizeof(float), (float *)w->data + o * w->stride[0], w->stride[1], r.shared + o * s->out, 1, s->out);
}

/* ---------------------------------------------------------------------------------------------------------------- planning */

/* False: an image's pixels do not lie evenly. */
static bool image_of(const nb_array *a, image *i) {
    int64_t h = a->shape[2], w = a->shape[3];
    *i = (image){a->stride[0], a->stride[1], w > 1 ? a->stride[3] : h > 1 ? a->stride[2] : a->stride[0]};
    return w == 1 || h == 1 || a->stride[2] == w * a->stride[3];
}

static bool is_joined(const state *s, const image *i) { return s->n == 1 || i->step == s->pixels * i->pixel; }

/* As large as scratch memory should be, for whole images are read and written from one end to the other; but some tiles for
 * threads. Small images are taken together. */
static void cut(state *s) {
    enum { STRIP = 1 << 20, SHORT = 64, TILES = 16 };
    const double enough = 1e6;
    double       pixel = 2.0 * (double)s->in * (double)s->out;
    s->strip = least(s->pixels, most(STRIP / (s->in + s->out), SHORT));
    while (s->strip > SHORT && s->n * divide_up(s->pixels, s->strip) < TILES && pixel * (double)s->strip > enough)
        s->strip = divide_up(s->strip / 2, 16) * 16;
    s->strips = divide_up(s->pixels, s->strip);
    double each = pixel * (double)s->pixels;
    s->images = s->strips == 1 && each < enough ? least((int64_t)(enough / each), s->n) : 1;
    s->tiles = divide_up(s->n, s->images) * s->strips;
}

static void plan_images(state *s) {
    s->by_pixels = s->to.pixel != 1 || s->pixels == 1;
    cut(s);
    int64_t bytes = s->n * s->pixels * (int64_t)sizeof(float);
    s->gathers = s->from.pixel == 1 && s->in > 1 && bytes * (s->in + s->out) >= CACHED;
    s->streams = s->to.pixel == 1 && bytes * s->out >= NB__LARGE;
    s->line = nb__whole_lines(s->strip) + 16;
    s->shared_floats = s->by_pixels ? nb__whole_lines(nb__panels_floats(s->loops, s->in, s->out)) : 0;
    s->thread_floats =
        nb__whole_lines(NB__PACK_FLOATS) + (s->gathers ? s->in * s->line : 0) + (s->streams ? s->out * s->line : 0);
}

/* Parts of so many pixels that adding them up costs little, and where these are few, tiles of some rows of each. */
static void plan_sums(state *s) {
    enum { PIXELS = 512, LEAST_ROWS = 64, TILES = 8 };
    s->images = most(s->v.images, least(divide_up(PIXELS, s->pixels), s->n));
    s->parts = divide_up(s->n, s->images);
    s->rows = s->in;
    double row = 2.0 * (double)s->out * (double)(s->images * s->pixels);
    while (s->parts * divide_up(s->in, s->rows) < TILES && s->rows > LEAST_ROWS && (double)s->rows * row > 4e6)
        s->rows = divide_up(s->rows / 2, 16) * 16;
    s->shared_floats = nb__whole_lines(s->in * s->out);
    s->thread_floats = NB__PACK_FLOATS;
}

bool nb__plan_pointwise(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads,
                        nb__plan *plan) {
    static const char *const names[] = {"conv2d product", "conv2d input product", "conv2d weight product"};
    state                    s = {.loops = isa->gemm, .move = isa->move};
    if (!s.loops || !nb__convolution_of(call, kind, &s.v)) return false;
    const nb__conv_attr *a = &s.v.a;
    if (s.v.kh != 1 || s.v.kw != 1 || a->groups != 1) return false;
    for (int i = 0; i < 2; i++)
        if (a->stride[i] != 1 || a->before[i] || a->after[i]) return false;
    const nb_array *x = nb__conv_x(&s.v, call), *y = nb__conv_y(&s.v, call), *w = nb__conv_weight(&s.v, call);
    bool            is_forward = kind == NB__CONV_FORWARD, is_sum = kind == NB__CONV_WEIGHT;
    if (!image_of(is_forward ? x : y, &s.from) || !image_of(is_forward ? y : x, &s.to)) return false;
    s.in = is_forward ? s.v.c : s.v.o;
    s.out = is_forward ? s.v.o : s.v.c;
    s.weight[0] = w->stride[!is_forward];
    s.weight[1] = w->stride[is_forward];
    s.n = s.v.n;
    s.pixels = s.v.h * s.v.w;
    s.joined = is_joined(&s, &s.from) && is_joined(&s, &s.to);
    if (is_sum) {
        plan_sums(&s);
    } else {
        if (s.joined) {
            s.pixels *= s.n;
            s.n = 1;
        }
        plan_images(&s);
    }
    bool   is_prepared = s.by_pixels && (call->lasting & 2); /* the weights */
    size_t shared = (size_t)((is_sum ? s.parts : 1) * s.shared_floats) * sizeof(float);
    if (is_prepared) s.shared_floats = 0;
    state *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    *plan = (nb__plan){.kernel = names[kind],
                       .run = is_sum ? run_weight : run,
                       .state = kept,
                       .scratch_bytes = (is_prepared ? 0 : shared) + (size_t)(threads * s.thread_floats) * sizeof(float),
                       .prepare = is_prepared ? prepare : NULL,
                       .prepared_bytes = is_prepared ? shared : 0};
    return true;
}
