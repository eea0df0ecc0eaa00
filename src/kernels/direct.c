/* direct.c: convolutions by own loops, all three as products with a matrix of windows.
 *
 * An image is copied into a frame of zeros, channels last. There the kW C numbers under one row of a window follow each other, so
 * that windows are the rows of a matrix without being made: each is kH runs of kW C numbers in the frame. Then, group by group,
 *
 *     y[P,O] = windows(x)[P,K] W[K,O]     dx[P,C] = windows(dy)[P,K'] W'[K',C]     dW[K,O] = windows(x)^T[K,P] dy[P,O]
 *
 * where P counts pixels of the result and K = kH kW C/groups. The input gradient is a convolution of dy, spread by the stride,
 * with the weights turned around. Where columns of the window are apart (dilation), each is a pass of its own, that adds to the
 * one before. */
#include <string.h>

#include "convolution.h"
#include "numbers.h"

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

    /* Tiles of 2 MFLOP at least. Weight gradients: 16 at most, and partial sums of 32 MB at most, unless that were fewer than
     * 4. */
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
            float *restrict to = c->parts + i * c->size;
            const float *restrict from = c->parts + (i + step) * c->size;
            for (int64_t j = first; j < last; j++) to[j] += from[j];
        }
}

void nb__add_parts(float *parts, int64_t n, int64_t size, nb_pool *pool) {
    parts_call c = {parts, n, size};
    if (n > 1) nb__parallel(pool, (size + PIECE - 1) / PIECE, add_piece, &c);
}

typedef struct state {
    nb__convolution       v;
    const nb__gemm_loops *loops;
    int64_t               channels, outputs;    /* of a group: of the image in the frame, of the other one */
    int64_t               rows, columns;        /* pixels of the result; of y for the weight gradient */
    int64_t               stride[2];            /* of windows in the frame */
    int64_t               top, left, spread[2]; /* where pixel (i,j) of the image lies in the frame */
    int64_t               strip, strips;        /* rows a tile; tiles an image */
    int64_t               frame_rows, frame_columns;
    int64_t               passes, run, depth; /* K = depth = passes kH run */
    int64_t               padded;             /* outputs, as panels have them */
    int64_t               shared_floats, frame_floats, copy_floats;
    int64_t               line;     /* floats from row to row of the frame */
    bool                  in_place; /* the image is its own frame */
    bool                  is_even;  /* pixels of the result, or of dy, follow each other evenly */
    bool                  copies_y; /* weight gradient: dy is copied as [P, padded] */
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    float          *shared; /* weights by panels [depth, width], or partial sums [depth, padded] */
    char           *scratch;
} run_call;

/* -------------------------------------------------------------------------------------------------------------------- frames */

static void zero(float *to, int64_t n) { memset(to, 0, (size_t)n * sizeof *to); }

/* A line of the image as a line of the frame. */
static void copy_line(const state *s, const nb_array *x, const float *line, float *to) {
    int64_t n = s->channels, step = x->stride[3], spread = s->spread[1], j = 0, last = x->shape[3];
    while (j < last && s->left + j * spread < 0) j++;
    while (last > j && s->left + (last - 1) * spread >= s->frame_columns) last--;
    int64_t begin = (s->left + j * spread) * n, end = begin + (last - j) * n;
    line += j * step;
    if (last == j || spread > 1)
        zero(to, s->line);
    else {
        zero(to, begin);
        zero(to + end, s->line - end);
    }
    if (spread == 1 && (x->stride[1] == 1 || n == 1) && step == n) {
        memcpy(to + begin, line, (size_t)((last - j) * n) * sizeof *to);
        return;
    }
    for (to += begin; j < last; j++, line += step, to += spread * n)
        for (int64_t c = 0; c < n; c++) to[c] = line[c * x->stride[1]];
}

/* The part of an image that windows of the result's rows `first` and on see. */
static const float *frame_of(const state *s, const nb_array *x, int64_t image, int64_t group, int64_t first, float *frame) {
    const float *from = (const float *)x->data + image * x->stride[0] + group * s->channels * x->stride[1];
    int64_t      shift = s->top - first * s->stride[0], spread = s->spread[0];
    if (s->in_place) return from - shift * s->line;
    for (int64_t at = 0; at < s->frame_rows; at++) {
        int64_t i = at - shift;
        if (i >= 0 && i % spread == 0 && i / spread < x->shape[2])
            copy_line(s, x, from + i / spread * x->stride[2], frame + at * s->line);
        else
            zero(frame + at * s->line, s->line);
    }
    return frame;
}

/* dy[P, padded] of one image and group. */
static void copy_outputs(const state *s, const nb_array *y, const float *from, float *to) {
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->columns; j++, to += s->padded) {
            const float *pixel = from + i * y->stride[2] + j * y->stride[3];
            for (int64_t o = 0; o < s->outputs; o++) to[o] = pixel[o * y->stride[1]];
            for (int64_t o = s->outputs; o < s->padded; o++) to[o] = 0;
        }
}

/* ------------------------------------------------------------------------------------------------------------------- weights */

/* The place in K of window element (u,t) and channel c. */
static int64_t place(const state *s, int64_t u, int64_t t, int64_t c) {
    return s->passes == 1 ? (u * s->v.kw + t) * s->channels + c : (t * s->v.kh + u) * s->run + c;
}

static int panel_columns(const state *s, int64_t panel) {
    return (int)least(s->outputs - panel * s->loops->width, s->loops->width);
}
static int panel_width(const state *s, int64_t panel) {
    return panel_columns(s, panel) <= s->loops->lanes ? s->loops->lanes : s->loops->width;
}
static int64_t panels(const state *s) { return (s->outputs + s->loops->width - 1) / s->loops->width; }

/* One panel of one group: [depth, width]. */
static void pack_panel(void *arg, int64_t tile, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    const nb_array *w = nb__conv_weight(&s->v, r->call);
    int64_t group = tile / panels(s), panel = tile % panels(s), width = panel_width(s, panel), n = panel_columns(s, panel);
    bool    turned = s->v.kind == NB__CONV_INPUT;
    int64_t step_o = w->stride[turned ? 1 : 0], step_c = w->stride[turned ? 0 : 1]; /* of outputs, of channels in the frame */
    const float *from =
        (const float *)w->data + group * (turned ? s->channels : s->outputs) * w->stride[0] + panel * s->loops->width * step_o;
    float *to = r->shared + tile * s->depth * s->loops->width;
    (void)thread;
    for (int64_t u = 0; u < s->v.kh; u++)
        for (int64_t t = 0; t < s->v.kw; t++)
            for (int64_t c = 0; c < s->channels; c++) {
                const float *line = from + c * step_c + (turned ? s->v.kh - 1 - u : u) * w->stride[2] +
                                    (turned ? s->v.kw - 1 - t : t) * w->stride[3];
                float *row = to + place(s, u, t, c) * width;
                for (int64_t o = 0; o < n; o++) row[o] = line[o * step_o];
                for (int64_t o = n; o < width; o++) row[o] = 0;
            }
}

static void unpack(const state *s, const nb_array *w, const float *sums) {
    for (int64_t o = 0; o < w->shape[0]; o++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t u = 0; u < s->v.kh; u++)
                for (int64_t t = 0; t < s->v.kw; t++)
                    ((float *)w->data)[o * w->stride[0] + c * w->stride[1] + u * w->stride[2] + t * w->stride[3]] =
                        sums[(o / s->outputs * s->depth + place(s, u, t, c)) * s->padded + o % s->outputs];
}

/* ---------------------------------------------------------------------------------------------------------------------- tiles */

/* Rows first to first + rows of the result, of one image and group, from the frame. */
static void convolve(const run_call *r, const float *frame, int64_t image, int64_t group, int64_t first, int64_t rows) {
    const state    *s = r->s;
    const nb_array *y = &r->call->c.out;
    int64_t         line = s->line, at_once = s->is_even ? rows : 1;
    float          *to = (float *)y->data + image * y->stride[0] + group * s->outputs * y->stride[1] + first * y->stride[2];
    for (int64_t panel = 0; panel < panels(s); panel++) {
        int64_t      width = panel_width(s, panel);
        const float *weights = r->shared + (group * panels(s) + panel) * s->depth * s->loops->width;
        for (int64_t pass = 0; pass < s->passes; pass++)
            for (int64_t i = 0; i < rows; i += at_once) {
                nb__windows w = {.a = frame + pass * s->v.a.dilation[1] * s->channels + i * s->stride[0] * line,
                                 .row = s->stride[1] * s->channels,
                                 .period = s->columns,
                                 .jump = s->stride[0] * line,
                                 .taps = s->v.kh,
                                 .tap = s->v.a.dilation[0] * line,
                                 .k = s->run,
                                 .step = 1,
                                 .b = weights + pass * s->v.kh * s->run * width,
                                 .step_b = width};
                nb__matrix  c = {to + i * y->stride[2] + panel * s->loops->width * y->stride[1], y->stride[3], y->stride[1]};
                s->loops->windows(&w, c, at_once * s->columns, panel_columns(s, panel), pass > 0);
            }
    }
}

/* Adds what one image and group contribute to sums[depth, padded]. */
static void correlate(const run_call *r, const float *frame, float *copy, int64_t image, int64_t group, bool add, float *sums) {
    const state    *s = r->s;
    const nb_array *y = nb__conv_y(&s->v, r->call);
    const float    *dy = (const float *)y->data + image * y->stride[0] + group * s->outputs * y->stride[1];
    int64_t         line = s->line;
    if (s->copies_y) copy_outputs(s, y, dy, copy);
    for (int64_t panel = 0; panel < panels(s); panel++)
        for (int64_t pass = 0; pass < s->passes; pass++) {
            nb__windows w = {.a = frame + pass * s->v.a.dilation[1] * s->channels,
                             .row = 1,
                             .period = s->run,
                             .jump = s->v.a.dilation[0] * line,
                             .taps = s->rows,
                             .tap = s->stride[0] * line,
                             .k = s->columns,
                             .step = s->stride[1] * s->channels,
                             .b = (s->copies_y ? copy : dy) + panel * s->loops->width,
                             .step_b = s->copies_y ? s->padded : y->stride[3]};
            nb__matrix  c = {sums + pass * s->v.kh * s->run * s->padded + panel * s->loops->width, s->padded, 1};
            s->loops->windows(&w, c, s->v.kh * s->run, panel_width(s, panel), add);
        }
}

static void run_tile(void *arg, int64_t tile, int thread) {
    const run_call        *r = arg;
    const state           *s = r->s;
    const nb__convolution *v = &s->v;
    const nb_array        *from = v->kind == NB__CONV_INPUT ? nb__conv_y(v, r->call) : nb__conv_x(v, r->call);
    float                 *frame = (float *)r->scratch + thread * (s->frame_floats + s->copy_floats);
    int64_t begin = tile / s->strips * v->images, end = least(begin + v->images, v->n), first = tile % s->strips * s->strip;
    for (int64_t image = begin; image < end; image++)
        for (int64_t group = 0; group < v->a.groups; group++) {
            const float *windows = frame_of(s, from, image, group, first, frame);
            if (v->kind != NB__CONV_WEIGHT)
                convolve(r, windows, image, group, first, least(s->strip, s->rows - first));
            else
                correlate(r, windows, frame + s->frame_floats, image, group, image > begin,
                          r->shared + tile * s->shared_floats + group * s->depth * s->padded);
        }
}

static void pack_panels(const state *s, const nb__call *call, float *to, nb_pool *pool) {
    run_call r = {s, call, to, NULL};
    nb__parallel(pool, s->v.a.groups * panels(s), pack_panel, &r);
}

static void prepare(const nb__plan *plan, const nb__call *call, nb_pool *pool) {
    pack_panels(plan->state, call, call->prepared, pool);
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    bool         is_sum = s->v.kind == NB__CONV_WEIGHT;
    int64_t      parts = is_sum ? s->v.tiles : 1;
    run_call     r = {s, call, plan->prepare ? call->prepared : scratch, scratch};
    if (!plan->prepare) r.scratch += (size_t)(parts * s->shared_floats) * sizeof(float);
    if (!plan->prepare && !is_sum) pack_panels(s, call, r.shared, pool);
    nb__parallel(pool, s->v.tiles * s->strips, run_tile, &r);
    if (!is_sum) return;
    nb__add_parts(r.shared, parts, s->shared_floats, pool);
    unpack(s, nb__conv_weight(&s->v, call), r.shared);
}

/* ------------------------------------------------------------------------------------------------------------------- planning */

/* Whether an image's pixels lie evenly, line after line. */
static bool is_even(const nb_array *y) { return y->shape[2] == 1 || y->stride[2] == y->shape[3] * y->stride[3]; }

/* Whether an image has no margin and its pixels, and the numbers of each, follow each other. */
static bool is_its_frame(const state *s, const nb_array *x) {
    return s->top == 0 && s->left == 0 && s->spread[0] == 1 && s->spread[1] == 1 && s->frame_columns <= x->shape[3] &&
           (s->rows - 1) * s->stride[0] + (s->v.kh - 1) * s->v.a.dilation[0] < x->shape[2] &&
           (x->stride[1] == 1 || s->channels == 1) && (x->stride[3] == s->channels || x->shape[3] == 1);
}

static void set_geometry(state *s, const nb_array *result) {
    const nb__convolution *v = &s->v;
    bool                   turned = v->kind == NB__CONV_INPUT;
    s->channels = (turned ? v->o : v->c) / v->a.groups;
    s->outputs = (turned ? v->c : v->o) / v->a.groups;
    s->rows = turned ? v->h : v->oh;
    s->columns = turned ? v->w : v->ow;
    for (int i = 0; i < 2; i++) {
        int64_t reach = ((i ? v->kw : v->kh) - 1) * v->a.dilation[i];
        s->stride[i] = turned ? 1 : v->a.stride[i];
        s->spread[i] = turned ? v->a.stride[i] : 1;
        *(i ? &s->left : &s->top) = turned ? reach - v->a.before[i] : v->a.before[i];
    }
    s->passes = v->a.dilation[1] == 1 ? 1 : v->kw;
    s->run = s->passes == 1 ? v->kw * s->channels : s->channels;
    s->depth = v->kh * v->kw * s->channels;
    s->is_even = is_even(result);
}

/* Few images are cut into strips of rows. */
static void cut(state *s) {
    enum { TILES = 8 };
    double flops = 2.0 * (double)(s->v.images * s->rows * s->columns) * (double)(s->outputs * s->depth * s->v.a.groups);
    s->strips = 1;
    while (s->v.kind != NB__CONV_WEIGHT && s->v.tiles * s->strips < TILES && flops / (double)s->strips > 4e5 &&
           s->strips < s->rows)
        s->strips *= 2;
    s->strip = (s->rows + s->strips - 1) / s->strips;
    s->strips = (s->rows + s->strip - 1) / s->strip;
}

bool nb__plan_conv_own(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads,
                       nb__plan *plan) {
    static const char *const names[] = {"conv2d", "conv2d input gradient", "conv2d weight gradient"};
    state                    s = {.loops = isa->gemm};
    if (!s.loops || !nb__convolution_of(call, kind, &s.v)) return false;
    const nb_array *y = nb__conv_y(&s.v, call);
    set_geometry(&s, kind == NB__CONV_WEIGHT ? y : &call->c.out);
    cut(&s);
    s.frame_rows = (s.strip - 1) * s.stride[0] + (s.v.kh - 1) * s.v.a.dilation[0] + 1;
    s.frame_columns = (s.columns - 1) * s.stride[1] + (s.v.kw - 1) * s.v.a.dilation[1] + 1;
    const nb_array *x = kind == NB__CONV_INPUT ? y : nb__conv_x(&s.v, call);
    s.in_place = is_its_frame(&s, x);
    s.line = s.in_place ? x->stride[2] : s.frame_columns * s.channels;
    s.padded = (s.outputs + s.loops->lanes - 1) / s.loops->lanes * s.loops->lanes;
    s.copies_y = kind == NB__CONV_WEIGHT && !(s.is_even && y->stride[1] == 1 && s.padded == s.outputs);
    s.frame_floats = s.in_place ? 0 : nb__whole_lines(s.frame_rows * s.line);
    s.copy_floats = s.copies_y ? nb__whole_lines(s.rows * s.columns * s.padded) : 0;
    s.shared_floats =
        nb__whole_lines(s.v.a.groups * s.depth * (kind == NB__CONV_WEIGHT ? s.padded : panels(&s) * s.loops->width));
    state *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    int64_t parts = kind == NB__CONV_WEIGHT ? s.v.tiles : 1, own = s.frame_floats + s.copy_floats;
    size_t  shared = (size_t)(parts * s.shared_floats) * sizeof(float);
    bool    is_prepared = kind != NB__CONV_WEIGHT && (call->lasting & 2); /* the weights */
    *plan = (nb__plan){.kernel = names[kind],
                       .run = run,
                       .state = kept,
                       .scratch_bytes = (is_prepared ? 0 : shared) + (size_t)(threads * own) * sizeof(float),
                       .prepare = is_prepared ? prepare : NULL,
                       .prepared_bytes = is_prepared ? shared : 0};
    return true;
}
