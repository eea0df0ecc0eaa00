/* index.c: gather, index_select and scatter_add for f32.
 *
 * All three see every array as [outer, axis, inner], each of the three with one stride; gather and scatter_add first put the axes in the
 * order of the result's memory (channels-last images). What does not fold into that is left to the reference. A scatter_add is cut by
 * destination: a tile owns some rows of the result and looks for their indices in order, so sums have the same bits whoever computes
 * them. */
#include <string.h>

#include "kernels.h"

typedef struct folded {
    int64_t size[3], stride[3]; /* outer, axis, inner */
} folded;

typedef struct state {
    const char *user;
    folded      x, out, index, source;
    bool        is_wide;     /* i64, else i32 */
    int64_t     rows_a_tile; /* gather: of outer x axis; scatter: of outer */
    int64_t     parts;       /* scatter: of the destination's axis */
} state;

enum { TILE = 16384, MAX_PARTS = 16 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Axes from..to-1 of an array as one; false if they do not lie evenly. */
static bool fold_axes(const nb_array *a, int from, int to, int64_t *size, int64_t *stride) {
    *size = 1;
    *stride = 0;
    for (int i = from; i < to; i++) {
        if (a->shape[i] == 1) continue;
        if (*size != 1 && *stride != a->shape[i] * a->stride[i]) return false;
        *size *= a->shape[i];
        *stride = a->stride[i];
    }
    return true;
}

/* The axis is made of axes first..last-1. */
static bool fold(const nb_array *a, int first, int last, folded *f) {
    return fold_axes(a, 0, first, &f->size[0], &f->stride[0]) && fold_axes(a, first, last, &f->size[1], &f->stride[1]) &&
           fold_axes(a, last, a->rank, &f->size[2], &f->stride[2]);
}

/* Gather and scatter_add treat all axes but one alike: nests them in all arrays as they lie in the first. The new place of that axis. */
static int nest_axes(nb_array *array, int n, int axis) {
    for (int i = 1; i < array[0].rank; i++) {
        for (int k = i; k > 0 && array[0].shape[k] > 1 && array[0].stride[k - 1] < array[0].stride[k]; k--) {
            for (int a = 0; a < n; a++) {
                int64_t size = array[a].shape[k], stride = array[a].stride[k];
                array[a].shape[k] = array[a].shape[k - 1];
                array[a].stride[k] = array[a].stride[k - 1];
                array[a].shape[k - 1] = size;
                array[a].stride[k - 1] = stride;
            }
            if (axis == k || axis == k - 1) axis = 2 * k - 1 - axis;
        }
    }
    return axis;
}

static bool is_index(nb_dtype dtype) { return dtype == NB_I32 || dtype == NB_I64; }

/* The index at an offset if it is below n; else -1, and the run fails if loud. */
static int64_t place_at(const state *s, const nb_call *c, int64_t offset, int64_t n, int64_t element, bool loud) {
    const void *data = c->in[1].data;
    int64_t     place = s->is_wide ? ((const int64_t *)data)[offset] : ((const int32_t *)data)[offset];
    if (place >= 0 && place < n) return place;
    if (!loud) return -1;
    if (n)
        nb_raise(c, element, "%s: index %lld is outside 0..%lld", s->user, (long long)place, (long long)n - 1);
    else
        nb_raise(c, element, "%s: index %lld into an axis of size 0", s->user, (long long)place);
    return -1;
}

typedef struct job {
    const state   *s;
    const nb_call *c;
} job;

/* ------------------------------------------------------------------------------------------------------------------------- reading */

static void copy_row(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t n) {
    if (to_step == 1 && from_step == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (to_step == 1 && from_step == 0)
        for (int64_t i = 0; i < n; i++) to[i] = *from;
    else
        for (int64_t i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
}

/* A row of gather whose indices differ from element to element. */
static void pick_row(const state *s, const nb_call *c, float *out, const float *x, int64_t index, int64_t element) {
    for (int64_t i = 0; i < s->out.size[2]; i++) {
        int64_t place = place_at(s, c, index + i * s->index.stride[2], s->x.size[1], element + i, true);
        if (place >= 0) out[i * s->out.stride[2]] = x[place * s->x.stride[1] + i * s->x.stride[2]];
    }
}

static void gather_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t count = s->out.size[1], inner = s->out.size[2], n = s->x.size[1];
    int64_t first = tile * s->rows_a_tile, end = least(first + s->rows_a_tile, s->out.size[0] * count);
    for (int64_t row = first; row < end; row++) {
        int64_t      o = row / count, k = row % count;
        const float *x = (const float *)j->c->in[0].data + o * s->x.stride[0];
        float       *out = (float *)j->c->out.data + o * s->out.stride[0] + k * s->out.stride[1];
        int64_t      at = o * s->index.stride[0] + k * s->index.stride[1];
        if (s->index.stride[2]) {
            pick_row(s, j->c, out, x, at, row * inner);
        } else {
            int64_t place = place_at(s, j->c, at, n, row * inner, true);
            if (place >= 0) copy_row(out, s->out.stride[2], x + place * s->x.stride[1], s->x.stride[2], inner);
        }
    }
}

static void run_gather(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, &call->c};
    (void)scratch;
    nb__parallel(pool, divide_up(s->out.size[0] * s->out.size[1], s->rows_a_tile), gather_task, &j);
}

/* Fills the plan from a state on the stack. */
static bool keep(nb_context *nb, const state *s, const char *kernel,
                 void (*run)(const nb__plan *, const nb__call *, void *, nb_pool *), nb__plan *plan) {
    state *copy = nb_alloc(nb, sizeof *copy);
    if (!copy) return false;
    *copy = *s;
    *plan = (nb__plan){.kernel = kernel, .run = run, .state = copy};
    return true;
}

bool nb__plan_gather(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    nb_array array[3] = {call->c.out, call->c.in[0], call->c.in[1]}, *out = &array[0], *x = &array[1], *index = &array[2];
    state    s = {.user = "gather", .is_wide = index->dtype == NB_I64};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !is_index(index->dtype)) return false;
    int axis = nest_axes(array, 3, (int)((const nb__axis_attr *)call->c.attr)->axis);
    if (!fold(x, axis, axis + 1, &s.x) || !fold(out, axis, axis + 1, &s.out) || !fold(index, axis, axis + 1, &s.index))
        return false;
    s.rows_a_tile = most(1, TILE / most(1, s.out.size[2]));
    return keep(nb, &s, "gather", run_gather, plan);
}

bool nb__plan_index_select(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *x = &call->c.in[0], *index = &call->c.in[1], *out = &call->c.out;
    int             axis = (int)((const nb__axis_attr *)call->c.attr)->axis;
    state           s = {.user = "index_select", .is_wide = index->dtype == NB_I64};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !is_index(index->dtype)) return false;
    if (!fold(x, axis, axis + 1, &s.x) || !fold(out, axis, axis + index->rank, &s.out) || !fold(index, 0, index->rank, &s.index))
        return false;
    s.rows_a_tile = most(1, TILE / most(1, s.out.size[2]));
    return keep(nb, &s, "index_select", run_gather, plan);
}

/* -------------------------------------------------------------------------------------------------------------------------- adding */

static void add_row(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t n) {
    if (to_step == 1 && from_step == 1)
        for (int64_t i = 0; i < n; i++) to[i] += from[i];
    else
        for (int64_t i = 0; i < n; i++) to[i * to_step] += from[i * from_step];
}

/* Rows low..high-1 of the axis, for one index into outer. */
static void scatter_part(const state *s, const nb_call *c, int64_t o, int64_t low, int64_t high) {
    const float *x = (const float *)c->in[0].data + o * s->x.stride[0],
                *source = (const float *)c->in[2].data + o * s->source.stride[0];
    float  *out = (float *)c->out.data + o * s->out.stride[0];
    int64_t count = s->source.size[1], inner = s->out.size[2], n = s->out.size[1];
    for (int64_t r = low; r < high; r++)
        copy_row(out + r * s->out.stride[1], s->out.stride[2], x + r * s->x.stride[1], s->x.stride[2], inner);
    for (int64_t k = 0; k < count; k++) {
        int64_t      at = o * s->index.stride[0] + k * s->index.stride[1], element = (o * count + k) * inner;
        const float *from = source + k * s->source.stride[1];
        if (s->index.stride[2]) {
            for (int64_t i = 0; i < inner; i++) {
                int64_t place = place_at(s, c, at + i * s->index.stride[2], n, element + i, low == 0);
                if (place >= low && place < high)
                    out[place * s->out.stride[1] + i * s->out.stride[2]] += from[i * s->source.stride[2]];
            }
        } else {
            int64_t place = place_at(s, c, at, n, element, low == 0);
            if (place >= low && place < high)
                add_row(out + place * s->out.stride[1], s->out.stride[2], from, s->source.stride[2], inner);
        }
    }
}

static void scatter_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t n = s->out.size[1], part = tile % s->parts, first = tile / s->parts * s->rows_a_tile;
    int64_t end = least(first + s->rows_a_tile, s->out.size[0]);
    for (int64_t o = first; o < end; o++) scatter_part(s, j->c, o, part * n / s->parts, (part + 1) * n / s->parts);
}

static void run_scatter_add(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, &call->c};
    (void)scratch;
    nb__parallel(pool, divide_up(s->out.size[0], s->rows_a_tile) * s->parts, scatter_task, &j);
}

bool nb__plan_scatter_add(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    nb_array  array[4] = {call->c.out, call->c.in[0], call->c.in[1], call->c.in[2]};
    nb_array *out = &array[0], *x = &array[1], *index = &array[2], *source = &array[3];
    state     s = {.user = "scatter_add", .is_wide = index->dtype == NB_I64};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !is_index(index->dtype)) return false;
    int a = nest_axes(array, 4, (int)((const nb__axis_attr *)call->c.attr)->axis);
    if (!fold(x, a, a + 1, &s.x) || !fold(out, a, a + 1, &s.out) || !fold(index, a, a + 1, &s.index) ||
        !fold(source, a, a + 1, &s.source))
        return false;
    int64_t work = (s.out.size[1] + s.source.size[1]) * s.out.size[2]; /* for one index into outer */
    s.rows_a_tile = most(1, TILE / most(1, work));
    s.parts = s.out.size[0] >= MAX_PARTS ? 1 : most(1, least(least(s.out.size[1], MAX_PARTS), work / TILE));
    return keep(nb, &s, "scatter_add", run_scatter_add, plan);
}
