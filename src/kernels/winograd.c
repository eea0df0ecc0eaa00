/* winograd.c: 3x3 convolutions with steps of one pixel, and both gradients, with 4 multiplications an output pixel instead of 9.
 *
 * As in Winograd 1980 and Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2015: 2x2 pixels y of a channel are
 * made of the 4x4 pixels x around them and the window g as
 *
 *     y = A^T [ (G g G^T) (B^T x B) ] A          G = 1  0  0
 *                                                    1  1  1 / 2
 *                                                    1 -1  1 / 2
 *                                                    0  0  1
 *
 * with a product place by place. Summed over channels, each of the 16 places is a matrix product over tiles:
 *
 *     M[T,O] = V[T,C] U[C,O]
 *
 * The input gradient is the same with the windows turned around. The weight gradient is the adjoint with respect to g:
 *
 *     dU[O,C] = sum over tiles of (A dy A^T)[T,O]^T V[T,C]          dg = G^T dU G
 *
 * B adds and subtracts neighbours: an error is a few roundings of what the largest of the 4x4 pixels contributes, and what is not
 * finite makes the whole tile NaN. All else rounds as a sum over C channels does, which is shorter than one over 9 C products. */
#include <string.h>

#include "convolution.h"
#include "images.h"
#include "isa/winograd.h"
#include "numbers.h"

enum { SIDE = 2, PATCH = 4, PLACES = PATCH * PATCH };

typedef struct state {
    nb__convolution           v;
    const nb__gemm_loops     *loops;
    const nb__winograd_loops *transforms;
    bool                      copies_from, copies_to; /* by way of channels-last images in scratch memory */
    nb__copy                  from_copy, to_copy;
    int64_t                   in, out; /* channels of the images read, and of the others */
    int64_t                   from_h, from_w, to_h, to_w, top, left;
    int64_t                   down, across;        /* tiles of an image */
    int64_t                   block;               /* tiles at a time */
    int64_t                   images, unit, units; /* copied at a time; tiles a thread takes at a time, how often */
    int64_t                   from_step, to_step;  /* from place to place, of transformed tiles */
    int64_t                   place_floats;        /* of U, or of dU */
    int64_t                   from_floats, to_floats, thread_floats;
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    float          *shared; /* U by panels, or partial sums of dU */
    float          *scratch;
} run_call;

/* The scratch memory of a thread. */
typedef struct work {
    float *pack, *v, *m, *zeros, *beyond, *from, *to; /* beyond: for pixels that the result does not have */
} work;

static work work_of(const run_call *r, int thread) {
    const state *s = r->s;
    work         w = {.pack = r->scratch + thread * s->thread_floats};
    w.v = w.pack + nb__whole_lines(NB__PACK_FLOATS);
    w.m = w.v + PLACES * s->from_step;
    w.zeros = w.m + PLACES * s->to_step;
    w.beyond = w.zeros + nb__whole_lines(most(s->in, s->out));
    w.from = w.beyond + nb__whole_lines(s->out);
    w.to = w.from + s->from_floats;
    memset(w.zeros, 0, (size_t)most(s->in, s->out) * sizeof(float));
    return w;
}

/* -------------------------------------------------------------------------------------------------------------------- weights */

/* u = G g, for columns of g a step apart: from 3 numbers 4; and g = G^T u. */
static void widen(float *u, const float *g, int step) {
    float a = g[0], b = g[step], c = g[2 * step];
    u[0] = a;
    u[step] = (a + c + b) / 2;
    u[2 * step] = (a + c - b) / 2;
    u[3 * step] = c;
}

static void narrow(float *g, const float *u, int step) {
    float a = u[0], b = u[step], c = u[2 * step], d = u[3 * step];
    g[0] = a + (b + c) / 2;
    g[step] = (b - c) / 2;
    g[2 * step] = (b + c) / 2 + d;
}

/* A panel of all places of U. */
static void pack_panel(void *arg, int64_t panel, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    const nb_array *w = nb__conv_weight(&s->v, r->call);
    bool            turned = s->v.kind == NB__CONV_INPUT;
    int64_t         first = panel * s->loops->width, columns = least(s->loops->width, s->out - first);
    int64_t         width = columns <= s->loops->lanes ? s->loops->lanes : s->loops->width;
    float          *to = r->shared + first * s->in;
    (void)thread;
    for (int64_t c = 0; c < s->in; c++)
        for (int64_t o = 0; o < width; o++) {
            float        g[PLACES] = {0}, half[PLACES], u[PLACES];
            const float *from = (float *)w->data + (first + o) * w->stride[turned] + c * w->stride[!turned];
            for (int i = 0; i < 9 && o < columns; i++) {
                int place = turned ? 8 - i : i;
                g[i / 3 * PATCH + i % 3] = from[place / 3 * w->stride[2] + place % 3 * w->stride[3]];
            }
            for (int j = 0; j < 3; j++) widen(half + j, g + j, PATCH);
            for (int i = 0; i < PATCH; i++) widen(u + i * PATCH, half + i * PATCH, 1);
            for (int i = 0; i < PLACES; i++) to[i * s->place_floats + c * width + o] = u[i];
        }
}

static void pack(const state *s, const nb__call *call, float *to, nb_pool *pool) {
    run_call r = {s, call, to, NULL};
    nb__parallel(pool, divide_up(s->out, s->loops->width), pack_panel, &r);
}

/* The windows' gradients for one output channel. */
static void unpack_row(void *arg, int64_t o, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    const nb_array *w = &r->call->c.out;
    (void)thread;
    for (int64_t c = 0; c < s->in; c++) {
        float  u[PLACES], half[PLACES], g[PLACES];
        float *to = (float *)w->data + o * w->stride[0] + c * w->stride[1];
        for (int i = 0; i < PLACES; i++) u[i] = r->shared[i * s->place_floats + o * s->in + c];
        for (int j = 0; j < PATCH; j++) narrow(half + j, u + j, PATCH);
        for (int i = 0; i < 3; i++) narrow(g + i * PATCH, half + i * PATCH, 1);
        for (int i = 0; i < 9; i++) to[i / 3 * w->stride[2] + i % 3 * w->stride[3]] = g[i / 3 * PATCH + i % 3];
    }
}

/* ---------------------------------------------------------------------------------------------------------------------- tiles */

/* Where a tile lies: its image, and its first row and column in the result. */
typedef struct place {
    int64_t image, i, j;
} place;

static place place_of(const state *s, int64_t tile) {
    int64_t rest = tile % (s->down * s->across);
    return (place){tile / (s->down * s->across), rest / s->across * SIDE, rest % s->across * SIDE};
}

/* The pixels [count,count] of an image from row i and column j on; `other` stands for those that it does not have. */
static void pixels(float **at, int count, float *image, int64_t h, int64_t w, int64_t channels, int64_t i, int64_t j,
                   float *other) {
    for (int a = 0; a < count; a++)
        for (int b = 0; b < count; b++) {
            bool inside = i + a >= 0 && i + a < h && j + b >= 0 && j + b < w;
            at[a * count + b] = inside ? image + ((i + a) * w + j + b) * channels : other;
        }
}

/* V of tiles first to first + n; `from` is image number `base`. */
static void transform_images(const state *s, const work *k, float *from, int64_t base, int64_t first, int64_t n) {
    float *at[PLACES];
    for (int64_t t = 0; t < n; t++) {
        place p = place_of(s, first + t);
        pixels(at, PATCH, from + (p.image - base) * s->from_h * s->from_w * s->in, s->from_h, s->from_w, s->in, p.i - s->top,
               p.j - s->left, k->zeros);
        s->transforms->image(k->v + t * s->in, s->from_step, (const float *const *)at, s->in);
    }
}

/* The result's pixels from M, or M from dy. */
static void transform_results(const state *s, const work *k, float *to, int64_t base, int64_t first, int64_t n) {
    bool   is_sum = s->v.kind == NB__CONV_WEIGHT;
    float *at[SIDE * SIDE];
    for (int64_t t = 0; t < n; t++) {
        place p = place_of(s, first + t);
        pixels(at, SIDE, to + (p.image - base) * s->to_h * s->to_w * s->out, s->to_h, s->to_w, s->out, p.i, p.j,
               is_sum ? k->zeros : k->beyond);
        if (is_sum)
            s->transforms->spread(k->m + t * s->out, s->to_step, (const float *const *)at, s->out);
        else
            s->transforms->result(at, k->m + t * s->out, s->to_step, s->out);
    }
}

/* Tiles first to last of channels-last images. sums: dU, to which is added or which is set. */
static void run_tiles(const run_call *r, const work *k, float *from, float *to, int64_t base, int64_t first, int64_t last,
                      float *sums, bool add) {
    const state *s = r->s;
    for (int64_t n; first < last; first += n, add = true) {
        n = least(s->block, last - first);
        transform_images(s, k, from, base, first, n);
        if (sums) transform_results(s, k, to, base, first, n);
        for (int i = 0; i < PLACES; i++) {
            nb__matrix v = {k->v + i * s->from_step, s->in, 1}, m = {k->m + i * s->to_step, s->out, 1};
            if (sums)
                s->loops->product((nb__matrix){m.data, 1, s->out}, v, (nb__matrix){sums + i * s->place_floats, s->in, 1}, s->out,
                                  s->in, n, add, k->pack, NULL);
            else
                s->loops->product(v, m, m, n, s->out, s->in, false, k->pack, r->shared + i * s->place_floats);
        }
        if (!sums) transform_results(s, k, to, base, first, n);
    }
}

/* All tiles of images first to last, by way of copies where they are needed. */
static void run_images(const run_call *r, const work *k, int64_t first, int64_t last, float *sums) {
    const state    *s = r->s;
    const nb_array *a = s->v.kind == NB__CONV_INPUT ? nb__conv_y(&s->v, r->call) : nb__conv_x(&s->v, r->call);
    const nb_array *b = s->v.kind == NB__CONV_INPUT ? nb__conv_x(&s->v, r->call) : nb__conv_y(&s->v, r->call);
    int64_t         tiles = s->down * s->across;
    for (int64_t i = first; i < last; i += s->images) {
        int64_t n = least(s->images, last - i);
        float  *from = s->copies_from ? k->from : (float *)a->data + i * s->from_h * s->from_w * s->in;
        float  *to = s->copies_to ? k->to : (float *)b->data + i * s->to_h * s->to_w * s->out;
        if (s->copies_from) nb__copy_images(&s->from_copy, a, i, n, from, false);
        if (s->copies_to && sums) nb__copy_images(&s->to_copy, b, i, n, to, false);
        run_tiles(r, k, from, to, i, i * tiles, (i + n) * tiles, sums, i > first);
        if (s->copies_to && !sums) nb__copy_images(&s->to_copy, b, i, n, to, true);
    }
}

static void run_unit(void *arg, int64_t unit, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    work            k = work_of(r, thread);
    if (s->v.kind == NB__CONV_WEIGHT) {
        run_images(r, &k, unit * s->v.images, least((unit + 1) * s->v.images, s->v.n),
                   r->shared + unit * PLACES * s->place_floats);
    } else if (s->copies_from || s->copies_to) {
        run_images(r, &k, unit * s->images, least((unit + 1) * s->images, s->v.n), NULL);
    } else {
        int64_t first = unit * s->unit;
        run_tiles(r, &k, r->call->c.in[0].data, r->call->c.out.data, 0, first,
                  least(first + s->unit, s->v.n * s->down * s->across), NULL, false);
    }
}

static void prepare(const nb__plan *plan, const nb__call *call, nb_pool *pool) { pack(plan->state, call, call->prepared, pool); }

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    bool         is_sum = s->v.kind == NB__CONV_WEIGHT;
    int64_t      size = PLACES * s->place_floats, parts = is_sum ? s->units : 1;
    run_call     r = {s, call, plan->prepare ? call->prepared : scratch, (float *)scratch + (plan->prepare ? 0 : parts * size)};
    if (!is_sum && !plan->prepare) pack(s, call, r.shared, pool);
    nb__parallel(pool, s->units, run_unit, &r);
    if (!is_sum) return;
    nb__add_parts(r.shared, parts, size, pool);
    nb__parallel(pool, s->out, unpack_row, &r);
}

/* ------------------------------------------------------------------------------------------------------------------- planning */

static void set_geometry(state *s, const nb__isa *isa, const nb_array *from, const nb_array *to) {
    bool is_sum = s->v.kind == NB__CONV_WEIGHT, turned = s->v.kind == NB__CONV_INPUT;
    s->in = from->shape[1];
    s->out = to->shape[1];
    s->from_h = from->shape[2];
    s->from_w = from->shape[3];
    s->to_h = to->shape[2];
    s->to_w = to->shape[3];
    s->top = turned ? 2 - s->v.a.before[0] : s->v.a.before[0];
    s->left = turned ? 2 - s->v.a.before[1] : s->v.a.before[1];
    s->down = divide_up(s->to_h, SIDE);
    s->across = divide_up(s->to_w, SIDE);
    s->copies_from = !nb__is_channels_last(from);
    s->copies_to = !nb__is_channels_last(to);
    s->from_copy = nb__images_copy(isa, from, false);
    s->to_copy = nb__images_copy(isa, to, !is_sum);
}

/* 3x3, step by step; channels enough that vectors are full and that products outweigh the transforms; and tiles enough that it is
 * worth transforming the weights. */
static bool is_worth_it(const state *s, bool is_prepared) {
    enum { CHANNELS = 16, TILES = 128, IMAGES = 4 };
    const nb__conv_attr *a = &s->v.a;
    int64_t              tiles = s->v.n * s->down * s->across;
    if (s->v.kh != 3 || s->v.kw != 3 || a->groups != 1 || s->in < CHANNELS || s->out < CHANNELS) return false;
    for (int i = 0; i < 2; i++)
        if (a->stride[i] != 1 || a->dilation[i] != 1) return false;
    if ((s->copies_from || s->copies_to) && s->v.n < IMAGES) return false;
    return (is_prepared || tiles >= TILES) && 10 * s->to_h * s->to_w >= 6 * SIDE * SIDE * s->down * s->across;
}

/* Transformed tiles stay in the second cache, but for sums, which are read and written once a block; images that are copied are
 * few at a time. */
static void cut(state *s) {
    enum { FLOATS = 6144, SHORT = 48, LONG = 96, OF_SUMS = 128, UNITS = 8, LEAST = 24 };
    int64_t tiles = s->down * s->across, all = s->v.n * tiles;
    s->block = s->v.kind == NB__CONV_WEIGHT ? OF_SUMS : least(most(FLOATS / (s->in + s->out), SHORT), LONG);
    s->images = s->copies_from || s->copies_to ? least(divide_up(s->block, tiles), s->v.n) : s->v.n;
    if (s->v.kind == NB__CONV_WEIGHT) {
        s->units = s->v.tiles;
    } else if (s->copies_from || s->copies_to) {
        s->units = divide_up(s->v.n, s->images);
    } else {
        while (s->block > LEAST && divide_up(all, s->block) < UNITS) s->block /= 2;
        s->unit = s->block;
        s->units = divide_up(all, s->unit);
    }
}

bool nb__plan_winograd(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads,
                       nb__plan *plan) {
    static const char *const names[] = {"winograd conv2d", "winograd conv2d input gradient", "winograd conv2d weight gradient"};
    state                    s = {.loops = isa->gemm, .transforms = isa->winograd};
    if (!s.loops || !s.transforms || !nb__convolution_of(call, kind, &s.v)) return false;
    const nb_array *x = nb__conv_x(&s.v, call), *y = nb__conv_y(&s.v, call);
    bool            is_sum = kind == NB__CONV_WEIGHT, is_prepared = !is_sum && (call->lasting & 2);
    set_geometry(&s, isa, kind == NB__CONV_INPUT ? y : x, kind == NB__CONV_INPUT ? x : y);
    if (!is_worth_it(&s, is_prepared)) return false;
    cut(&s);
    s.from_step = nb__whole_lines(s.block * s.in) + 16; /* the places of a tile do not fall on one another in the cache */
    s.to_step = nb__whole_lines(s.block * s.out) + 16;
    s.place_floats = nb__whole_lines(s.in * (is_sum ? s.out : divide_up(s.out, s.loops->width) * s.loops->width));
    s.from_floats = s.copies_from ? nb__whole_lines(s.images * s.from_h * s.from_w * s.in) : 0;
    s.to_floats = s.copies_to ? nb__whole_lines(s.images * s.to_h * s.to_w * s.out) : 0;
    s.thread_floats = nb__whole_lines(NB__PACK_FLOATS) + PLACES * (s.from_step + s.to_step) + nb__whole_lines(most(s.in, s.out)) +
                      nb__whole_lines(s.out) + s.from_floats + s.to_floats;
    state *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    size_t shared = (size_t)((is_sum ? s.units : 1) * PLACES * s.place_floats) * sizeof(float);
    *plan = (nb__plan){.kernel = names[kind],
                       .run = run,
                       .state = kept,
                       .scratch_bytes = (is_prepared ? 0 : shared) + (size_t)(threads * s.thread_floats) * sizeof(float),
                       .prepare = is_prepared ? prepare : NULL,
                       .prepared_bytes = is_prepared ? shared : 0};
    return true;
}
