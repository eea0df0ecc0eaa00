/* pool2d.c: pools of f32.
 *
 * Windows that follow each other at one distance and have one size are a block; the loops in isa/ do a block of many windows in
 * one call, with a vector along channels (channels-last images) or along a row of windows (plain ones). The gradient of windows
 * that do not overlap writes each element once; where they overlap, windows add to zeros in their order, as the reference
 * does. */
#include <string.h>

#include "isa/pool.h"
#include "kernels.h"
#include "numbers.h"

typedef enum task { LARGEST, TAKE, PUT, MEAN, SPREAD } task;

/* Where vectors lie. */
typedef enum along { CHANNELS, COLUMNS, NEITHER } along;

/* Windows first .. first + count - 1 along one axis, `distance` apart, all of one size. */
typedef struct block {
    int64_t first, count, distance;
} block;

typedef struct axis {
    nb__window *window; /* of each output row or column; behind the state */
    block      *block;
    int64_t     n, blocks;
    bool        is_disjoint, is_covered; /* no element in two windows; each in one at least */
} axis;

typedef struct state {
    nb__pool_attr         a;
    const nb__pool_loops *loops;
    task                  what;
    along                 lanes;
    axis                  rows, columns;
    int32_t               pitch;
    bool                  is_wide, overlaps;
    int64_t               units, units_a_tile; /* a unit: an output row of an image, a plane, or part of the channels */
} state;

/* One run of a plan. The image is x or dx. */
typedef struct job {
    const state    *s;
    const nb_array *image, *y, *index; /* y: what has one element a window; it and the index may be missing */
} job;

enum { TILE = 16384 /* elements of the image */, CHANNELS_A_UNIT = 64 };

static int64_t offset(const nb_array *a, int64_t n, int64_t c, int64_t h, int64_t w) {
    return n * a->stride[0] + c * a->stride[1] + h * a->stride[2] + w * a->stride[3];
}

static double factor(const state *s, const nb__window *row, const nb__window *column) {
    if (s->what != MEAN && s->what != SPREAD) return 1;
    bool inside = s->a.exclude_padding || s->a.adaptive;
    if (inside) return 1 / ((double)(row->last - row->first) * (double)(column->last - column->first));
    return 1 / ((double)row->whole * (double)column->whole);
}

/* -------------------------------------------------------------------------------------------------------------------- windows */

/* A window adds to an image of any strides: all its places, or the one the index names. */
static void add_one(float *dx, const void *index, float dy, const nb__pool_place *w) {
    if (!index) {
        for (int64_t r = 0; r < w->rows; r++)
            for (int64_t c = 0; c < w->columns; c++) dx[r * w->row_step + c * w->column_step] += dy;
        return;
    }
    uint32_t k = w->is_wide ? (uint32_t) * (const int32_t *)index : *(const uint8_t *)index, r = k / (uint32_t)w->pitch;
    uint32_t c = k - r * (uint32_t)w->pitch;
    if (r < w->rows && c < w->columns) dx[r * w->row_step + c * w->column_step] += dy;
}

/* `many` channels from c on, of a block of rows and one of columns; one of the three is a single one, the lanes' axis any
 * count. */
static void do_windows(const job *j, int64_t n, int64_t c, int64_t many, const block *rows, const block *columns) {
    const state      *s = j->s;
    const nb_array   *x = j->image, *y = j->y, *index = j->index;
    const nb__window *row = &s->rows.window[rows->first], *column = &s->columns.window[columns->first];
    bool              down = s->lanes == COLUMNS; /* runs go from row to row, else from column to column */
    int64_t        runs = down ? rows->count : columns->count, windows = s->lanes == CHANNELS ? many : down ? columns->count : 1;
    nb__pool_place w = {.rows = divide_up(row->last - row->first, s->a.dilation[0]),
                        .columns = divide_up(column->last - column->first, s->a.dilation[1]),
                        .row_step = s->a.dilation[0] * x->stride[2],
                        .column_step = s->a.dilation[1] * x->stride[3],
                        .step = down ? columns->distance : 1,
                        .pitch = s->pitch,
                        .is_wide = s->is_wide};
    int64_t        step = down ? rows->distance * x->stride[2] : columns->distance * x->stride[3], to = down ? 2 : 3;
    float         *image = (float *)x->data + offset(x, n, c, row->first, column->first);
    float         *value = y ? (float *)y->data + offset(y, n, c, rows->first, columns->first) : NULL;
    char  *place = index ? (char *)index->data + offset(index, n, c, rows->first, columns->first) * (s->is_wide ? 4 : 1) : NULL;
    double f = factor(s, row, column);
    for (int64_t i = 0; i < runs; i++) {
        switch (s->what) {
        case LARGEST: s->loops->largest(value, place, image, &w, windows); break;
        case TAKE: s->loops->take(value, place, image, &w, windows); break;
        case MEAN: s->loops->mean(value, image, f, &w, windows); break;
        default:
            if (!s->overlaps)
                s->loops->put(image, place, value, (float)f, &w, windows);
            else if (s->lanes == CHANNELS)
                s->loops->add(image, place, value, (float)f, &w, windows);
            else
                add_one(image, place, *value * (float)f, &w);
        }
        image += step;
        if (value) value += y->stride[to];
        if (place) place += index->stride[to] * (s->is_wide ? 4 : 1);
    }
}

/* Zeros in rows from..to-1 of `many` channels. */
static void clear(const nb_array *x, int64_t n, int64_t c, int64_t many, int64_t from, int64_t to) {
    for (int64_t h = from; h < to; h++)
        for (int64_t w = 0; w < x->shape[3]; w++) {
            float *at = (float *)x->data + offset(x, n, c, h, w);
            if (x->stride[1] == 1)
                memset(at, 0, (size_t)many * sizeof *at);
            else
                for (int64_t i = 0; i < many; i++) at[i * x->stride[1]] = 0;
        }
}

/* Rows of windows of one image and `many` of its channels: all, or one. */
static void do_rows(const job *j, int64_t n, int64_t c, int64_t many, int64_t row, int64_t count) {
    const state *s = j->s;
    bool         clears = (s->what == PUT || s->what == SPREAD) && (s->overlaps || !s->rows.is_covered || !s->columns.is_covered);
    if (clears) { /* a row's share begins where its window does; the first and the last reach to the edges */
        int64_t from = row ? s->rows.window[row].first : 0, end = row + count;
        clear(j->image, n, c, many, from, end < s->rows.n ? s->rows.window[end].first : j->image->shape[2]);
    }
    if (s->lanes == COLUMNS && !s->overlaps) {
        for (int64_t b = 0; b < s->rows.blocks; b++)
            for (int64_t k = 0; k < s->columns.blocks; k++) do_windows(j, n, c, 1, &s->rows.block[b], &s->columns.block[k]);
        return;
    }
    for (int64_t i = row; i < row + count; i++) {
        block one = {i, 1, 0};
        for (int64_t k = 0; k < s->columns.blocks; k++) do_windows(j, n, c, many, &one, &s->columns.block[k]);
    }
}

static void do_tile(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    int64_t      C = j->image->shape[1], rows = s->rows.n, first = tile * s->units_a_tile;
    (void)thread;
    for (int64_t u = first; u < least(first + s->units_a_tile, s->units); u++) {
        if (s->lanes != CHANNELS) {
            do_rows(j, u / C, u % C, 1, 0, rows);
        } else if (s->overlaps) {
            int64_t parts = divide_up(C, CHANNELS_A_UNIT), c = u % parts * CHANNELS_A_UNIT;
            do_rows(j, u / parts, c, least(C - c, CHANNELS_A_UNIT), 0, rows);
        } else {
            do_rows(j, u / rows, 0, C, u % rows, 1);
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------------------- plans */

/* Image, values and index of a call, whichever it has. */
static job arrays_of(const state *s, const nb__call *call) {
    const nb_array *in = call->c.in, *out = &call->c.out;
    switch (s->what) {
    case TAKE: return (job){s, &in[0], out, &in[1]};
    case PUT: return (job){s, out, &in[0], &in[1]};
    case MEAN: return (job){s, &in[0], out, NULL};
    case SPREAD: return (job){s, out, &in[0], NULL};
    default: break;
    }
    job j = {s, &in[0], NULL, NULL};
    for (int i = 0; i < (call->n_out > 1 ? call->n_out : 1); i++) {
        const nb_array *a = call->n_out > 1 ? &call->out[i] : out;
        if (a->dtype == NB_F32)
            j.y = a;
        else
            j.index = a;
    }
    return j;
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = arrays_of(s, call);
    (void)scratch;
    nb__parallel(pool, divide_up(s->units, s->units_a_tile), do_tile, &j);
}

static void cut(axis *x, const nb__pool_attr *a, int which, int64_t size) {
    const nb__window *w = x->window;
    x->is_disjoint = true;
    x->is_covered = a->dilation[which] == 1 && (x->n == 0 ? size == 0 : true);
    for (int64_t i = 0; i < x->n; i++) x->window[i] = nb__pool_window(a, which, size, i);
    for (int64_t i = 0; i < x->n; i++) {
        int64_t next = i + 1 < x->n ? w[i + 1].first : size;
        x->is_disjoint &= w[i].last <= next;
        x->is_covered &= w[i].last >= next && (i > 0 || w[i].first == 0);
        block  *b = x->block + (i ? x->blocks - 1 : 0);
        int64_t distance = i ? w[i].first - w[i - 1].first : 0;
        bool    same = i && w[i].last - w[i].first == w[i - 1].last - w[i - 1].first && w[i].whole == w[i - 1].whole;
        if (same && (b->count == 1 || b->distance == distance)) {
            b->distance = distance;
            b->count++;
        } else {
            x->block[x->blocks++] = (block){i, 1, 0};
        }
    }
}

static size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

static bool plan_pool(nb_context *nb, const nb__isa *isa, const nb__call *call, task what, const char *kernel, nb__plan *plan) {
    const nb__pool_attr  *a = call->c.attr;
    const nb__pool_loops *loops = isa->pool;
    job                   j = arrays_of(&(state){.what = what}, call);
    if (!loops || j.image->dtype != NB_F32 || (j.y && j.y->dtype != NB_F32)) return false;
    size_t head = aligned(sizeof(state)), windows = (size_t)(a->out[0] + a->out[1]);
    state *s = nb_alloc(nb, head + windows * (sizeof(nb__window) + sizeof(block)));
    if (!s) return false;
    *s = (state){.a = *a, .loops = loops, .what = what, .lanes = NEITHER, .rows.n = a->out[0], .columns.n = a->out[1]};
    s->rows.window = (nb__window *)((char *)s + head);
    s->columns.window = s->rows.window + a->out[0];
    s->rows.block = (block *)(s->columns.window + a->out[1]);
    s->columns.block = s->rows.block + a->out[0];
    const nb_array *image = j.image;
    cut(&s->rows, a, 0, image->shape[2]);
    cut(&s->columns, a, 1, image->shape[3]);
    bool puts = what == PUT || what == SPREAD, disjoint = s->rows.is_disjoint && s->columns.is_disjoint;
    s->overlaps = puts && (!disjoint || s->rows.n == 0 || s->columns.n == 0); /* no windows: zeros */
    s->pitch = (int32_t)nb__pool_pitch(a, 1, image->shape[3]);
    s->is_wide = j.index && j.index->dtype == NB_I32;
    bool channels = true, columns = true;
    for (int i = 0; i < 3; i++) {
        const nb_array *x = i == 0 ? image : i == 1 ? j.y : j.index;
        channels = channels && (!x || x->stride[1] == 1);
        columns = columns && (!x || x->stride[3] == 1);
    }
    int64_t N = image->shape[0], C = image->shape[1];
    columns = columns && !s->overlaps;
    if (channels && (C >= 4 || !columns))
        s->lanes = CHANNELS;
    else if (columns)
        s->lanes = COLUMNS;
    s->units = s->lanes != CHANNELS ? N * C : s->overlaps ? N * divide_up(C, CHANNELS_A_UNIT) : N * s->rows.n;
    int64_t all = N * C * image->shape[2] * image->shape[3];
    s->units_a_tile = s->units && all ? least(s->units, divide_up(TILE, divide_up(all, s->units))) : 1;
    *plan = (nb__plan){.kernel = kernel, .run = run, .state = s};
    return true;
}

bool nb__plan_max_pool2d(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, LARGEST, "max pool", plan);
}

bool nb__plan_pool_take(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, TAKE, "max pool values", plan);
}

bool nb__plan_pool_put(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, PUT, "max pool gradient", plan);
}

bool nb__plan_avg_pool2d(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, MEAN, "average pool", plan);
}

bool nb__plan_avg_pool2d_grad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, SPREAD, "average pool gradient", plan);
}
