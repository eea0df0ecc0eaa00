/* pool2d.c: pools of f32.
 *
 * Where channels are contiguous (channels-last images) the loops run along them, place after place of the window; elsewhere a window is
 * done at a time. A tile is one row of results, or of a gradient one image. */
#include <string.h>

#include "isa/pool.h"
#include "kernels.h"

enum { CHUNK = 256 }; /* channels at a time: what is kept of them stays in the L1 cache */

typedef struct state {
    nb__pool_attr         a;
    const nb__pool_loops *loops;
    bool                  channels_last;
    nb__window           *rows, *columns; /* of each output row and column; behind this struct */
} state;

typedef struct run_call {
    const state    *s;
    const nb_array *x, *y; /* image and result; of the adjoint the other way round */
} run_call;

static const nb__pool_loops *loops_of(const nb__isa *isa) {
    static const struct {
        const char           *name;
        const nb__pool_loops *loops;
    } sets[] = {{"baseline", &nb__pool_baseline}, {"v3", &nb__pool_v3}, {"v4", &nb__pool_v4}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, isa->name) == 0) return sets[i].loops;
    return NULL;
}

static double factor(const state *s, const nb__window *row, const nb__window *column) {
    bool   inside = s->a.exclude_padding || s->a.adaptive;
    if (inside) return 1 / ((double)(row->last - row->first) * (double)(column->last - column->first));
    return 1 / ((double)row->whole * (double)column->whole);
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static float *at(const nb_array *a, int64_t n, int64_t c, int64_t h, int64_t w) {
    return (float *)a->data + n * a->stride[0] + c * a->stride[1] + h * a->stride[2] + w * a->stride[3];
}

/* ---------------------------------------------------------------------------------------------------------------- index of max */

static int32_t *place_at(const nb_array *a, int64_t n, int64_t c, int64_t h, int64_t w) {
    return (int32_t *)a->data + n * a->stride[0] + c * a->stride[1] + h * a->stride[2] + w * a->stride[3];
}

static void index_row(void *arg, int64_t tile, int thread) {
    const run_call   *r = arg;
    const state      *s = r->s;
    const nb_array   *x = r->x, *y = r->y;
    int64_t           n = tile / y->shape[2], i = tile % y->shape[2], C = y->shape[1], width = x->shape[3];
    const nb__window *row = &s->rows[i];
    (void)thread;
    for (int64_t j = 0; j < y->shape[3]; j++) {
        const nb__window  *column = &s->columns[j];
        nb__pool_window_at w = {
            .rows = ceil_div(row->last - row->first, s->a.dilation[0]),
            .columns = ceil_div(column->last - column->first, s->a.dilation[1]),
            .row_step = s->a.dilation[0] * x->stride[2],
            .column_step = s->a.dilation[1] * x->stride[3],
            .first = (int32_t)(row->first * width + column->first),
            .row_place = (int32_t)(s->a.dilation[0] * width),
            .column_place = (int32_t)s->a.dilation[1],
        };
        const float *from = at(x, n, 0, row->first, column->first);
        int32_t     *to = place_at(y, n, 0, i, j);
        if (s->channels_last) s->loops->find_largest(to, from, &w, C);
        else
            for (int64_t c = 0; c < C; c++) s->loops->find_largest(to + c * y->stride[1], from + c * x->stride[1], &w, 1);
    }
}

/* -------------------------------------------------------------------------------------------------------------------- average */

static void mean_of_channels(const run_call *r, int64_t n, int64_t i, int64_t j, int64_t c, int64_t many) {
    const state      *s = r->s;
    const nb__window *row = &s->rows[i], *column = &s->columns[j];
    double            sum[CHUNK] = {0};
    for (int64_t h = row->first; h < row->last; h++)
        for (int64_t w = column->first; w < column->last; w++) s->loops->add(sum, at(r->x, n, c, h, w), many);
    s->loops->scale(at(r->y, n, c, i, j), sum, factor(s, row, column), many);
}

static float mean_of_window(const run_call *r, int64_t n, int64_t c, const nb__window *row, const nb__window *column) {
    double sum = 0;
    for (int64_t h = row->first; h < row->last; h++)
        for (int64_t w = column->first; w < column->last; w++) sum += (double)*at(r->x, n, c, h, w);
    return (float)(sum * factor(r->s, row, column));
}

static void mean_row(void *arg, int64_t tile, int thread) {
    const run_call *r = arg;
    int64_t         n = tile / r->y->shape[2], i = tile % r->y->shape[2], C = r->y->shape[1], W = r->y->shape[3];
    (void)thread;
    if (r->s->channels_last) {
        for (int64_t j = 0; j < W; j++)
            for (int64_t c = 0; c < C; c += CHUNK) mean_of_channels(r, n, i, j, c, C - c < CHUNK ? C - c : CHUNK);
        return;
    }
    for (int64_t c = 0; c < C; c++)
        for (int64_t j = 0; j < W; j++) *at(r->y, n, c, i, j) = mean_of_window(r, n, c, &r->s->rows[i], &r->s->columns[j]);
}

/* The adjoint: x is dL/dy here and y, of the image's shape, dL/dx. Each window adds its share to the places it covers. */
static void spread_image(void *arg, int64_t n, int thread) {
    const run_call *r = arg;
    const state    *s = r->s;
    int64_t         C = r->y->shape[1], H = r->y->shape[2], W = r->y->shape[3];
    (void)thread;
    for (int64_t h = 0; h < H; h++)
        for (int64_t w = 0; w < W; w++)
            for (int64_t c = 0; c < C; c++) *at(r->y, n, c, h, w) = 0;
    for (int64_t i = 0; i < r->x->shape[2]; i++)
        for (int64_t j = 0; j < r->x->shape[3]; j++) {
            const nb__window *row = &s->rows[i], *column = &s->columns[j];
            float             share = (float)factor(s, row, column);
            for (int64_t h = row->first; h < row->last; h++)
                for (int64_t w = column->first; w < column->last; w++) {
                    if (s->channels_last) s->loops->add_scaled(at(r->y, n, 0, h, w), at(r->x, n, 0, i, j), share, C);
                    else
                        for (int64_t c = 0; c < C; c++) *at(r->y, n, c, h, w) += *at(r->x, n, c, i, j) * share;
                }
        }
}

/* ----------------------------------------------------------------------------------------------------------------------- plans */

static void run_rows(const nb__call *call, const nb__plan *plan, nb_pool *pool, nb__task *task) {
    run_call r = {plan->state, &call->c.in[0], &call->c.out};
    nb__parallel(pool, r.y->shape[0] * r.y->shape[2], task, &r);
}

static void run_index(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    (void)scratch;
    run_rows(call, plan, pool, index_row);
}

static void run_mean(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    (void)scratch;
    run_rows(call, plan, pool, mean_row);
}

static void run_spread(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    run_call r = {plan->state, &call->c.in[0], &call->c.out};
    (void)scratch;
    nb__parallel(pool, r.y->shape[0], spread_image, &r);
}

/* `image` is the array of the image's shape; `wanted` says what is to run. */
static bool plan_pool(nb_context *nb, const nb__isa *isa, const nb__call *call, const nb_array *image, nb__plan wanted, nb__plan *plan) {
    const nb_array       *in = &call->c.in[0], *out = &call->c.out;
    const nb__pool_attr  *a = call->c.attr;
    const nb__pool_loops *loops = loops_of(isa);
    if (!loops || in->dtype != NB_F32) return false;
    size_t head = (sizeof(state) + 15) / 16 * 16;
    state *s = nb_alloc(nb, head + (size_t)(a->out[0] + a->out[1]) * sizeof(nb__window));
    if (!s) return false;
    *s = (state){.a = *a, .loops = loops, .rows = (nb__window *)((char *)s + head)};
    s->columns = s->rows + a->out[0];
    s->channels_last = (in->stride[1] == 1 && out->stride[1] == 1);
    for (int64_t i = 0; i < a->out[0]; i++) s->rows[i] = nb__pool_window(a, 0, image->shape[2], i);
    for (int64_t i = 0; i < a->out[1]; i++) s->columns[i] = nb__pool_window(a, 1, image->shape[3], i);
    *plan = wanted;
    plan->state = s;
    return true;
}

bool nb__plan_max_pool2d_index(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, &call->c.in[0], (nb__plan){.kernel = "max pool", .run = run_index}, plan);
}

bool nb__plan_avg_pool2d(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, &call->c.in[0], (nb__plan){.kernel = "average pool", .run = run_mean}, plan);
}

bool nb__plan_avg_pool2d_grad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_pool(nb, isa, call, &call->c.out, (nb__plan){.kernel = "average pool gradient", .run = run_spread}, plan);
}
