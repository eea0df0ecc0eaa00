/* scan.c: running sums of f32 (cumsum): along rows in vectors; across rows for many columns side by side; else an element at a
 * time. */
#include "copy.h"

enum { WIDTH = 512 /* columns at a time: their sums stay in the first cache */, TILE = 16384 };

typedef struct state {
    const nb__move_loops *loops;
    nb__space             space; /* of the axes that stay */
    int64_t               to[NB_MAX_RANK], from[NB_MAX_RANK];
    int64_t               n, to_step, from_step; /* of the axis that is summed along */
    int64_t               pieces, width;         /* columns: of the space's last axis; else 1 */
    int64_t               units, units_a_tile;
} state;

typedef struct job {
    const state *s;
    float       *y;
    const float *x;
} job;

/* The columns of a unit; several sums at once. */
static void do_columns(const state *s, float *y, const float *x, int64_t width) {
    double sum[WIDTH] = {0};
    for (int64_t i = 0; i < s->n; i++) s->loops->add_up(y + i * s->to_step, sum, x + i * s->from_step, width);
}

static void do_tile(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    int64_t      first = tile * s->units_a_tile, end = first + s->units_a_tile < s->units ? first + s->units_a_tile : s->units;
    int          last = s->space.rank - 1;
    (void)thread;
    for (int64_t u = first; u < end; u++) {
        int64_t piece = u % s->pieces, index[NB_MAX_RANK];
        nb__space_index(&s->space, u / s->pieces * (s->width ? s->space.shape[last] : 1), index);
        float       *y = j->y + nb__space_offset(&s->space, s->to, index) + piece * s->width;
        const float *x = j->x + nb__space_offset(&s->space, s->from, index) + piece * s->width;
        if (s->width) {
            int64_t rest = s->space.shape[last] - piece * s->width;
            do_columns(s, y, x, rest < s->width ? rest : s->width);
        } else if (s->to_step == 1 && s->from_step == 1) {
            s->loops->sum_up(y, x, s->n, 0);
        } else {
            double sum = 0;
            for (int64_t i = 0; i < s->n; i++) y[i * s->to_step] = (float)(sum += (double)x[i * s->from_step]);
        }
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    job j = {plan->state, call->c.out.data, call->c.in[0].data};
    (void)scratch;
    nb__parallel(pool, (j.s->units + j.s->units_a_tile - 1) / j.s->units_a_tile, do_tile, &j);
}

bool nb__plan_cumsum(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb__move_loops *loops = isa->move;
    int64_t               axis = ((const nb__axis_attr *)call->c.attr)->axis, strides[2][NB_MAX_RANK];
    nb_array              out = call->c.out, in = call->c.in[0];
    const nb_array       *list[2] = {&out, &in};
    (void)threads;
    if (!loops || in.dtype != NB_F32) return false;
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    *s = (state){.loops = loops, .n = in.shape[axis], .to_step = out.stride[axis], .from_step = in.stride[axis], .pieces = 1};
    out.shape[axis] = in.shape[axis] = 1;
    nb__space_make(2, list, &s->space, strides);
    for (int i = 0; i < s->space.rank; i++) {
        s->to[i] = strides[0][i];
        s->from[i] = strides[1][i];
    }
    int     last = s->space.rank - 1;
    int64_t side = s->space.shape[last];
    s->units = s->n ? s->space.count : 0;
    bool along = s->to_step == 1 && s->from_step == 1;
    if (!along && s->units && side > 1 && s->to[last] == 1 && s->from[last] == 1) {
        s->width = side < WIDTH ? side : WIDTH;
        s->pieces = (side + WIDTH - 1) / WIDTH;
        s->units = s->space.count / side * s->pieces;
    }
    int64_t work = s->n * (s->width ? s->width : 1);
    s->units_a_tile = work && work < TILE ? TILE / work : 1;
    *plan = (nb__plan){.kernel = "cumsum", .run = run, .state = s};
    return true;
}
