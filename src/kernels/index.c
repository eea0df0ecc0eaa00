/* index.c: gather and index_select for f32, and one_hot.
 *
 * Arrays are seen as [outer, axis, inner], each of the three with one stride; gather first puts the axes in the order of the
 * result's memory (channels-last images). What does not fold into that is left to the reference. */
#include "index.h"
#include "numbers.h"

typedef struct state {
    const nb__move_loops *loops;
    const char           *user;
    nb__folded            x, out, index;
    int64_t               rows_a_tile;      /* of outer x axis */
    bool                  is_even, streams; /* even: one index a row, whose elements lie side by side */
} state;

enum { TILE = 16384 };


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

bool nb__fold(const nb_array *a, int first, int last, nb__folded *f) {
    return fold_axes(a, 0, first, &f->size[0], &f->stride[0]) && fold_axes(a, first, last, &f->size[1], &f->stride[1]) &&
           fold_axes(a, last, a->rank, &f->size[2], &f->stride[2]);
}

int nb__nest_axes(nb_array *array, int n, int axis) {
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

int64_t nb__checked_place(const nb_call *c, const char *user, const nb_array *index, int64_t offset, int64_t n, int64_t element,
                  bool loud) {
    int64_t place = index->dtype == NB_I64 ? ((const int64_t *)index->data)[offset] : ((const int32_t *)index->data)[offset];
    if (place >= 0 && place < n) return place;
    if (!loud) return -1;
    if (n)
        nb_raise(c, element, "%s: index %lld is outside 0..%lld", user, (long long)place, (long long)n - 1);
    else
        nb_raise(c, element, "%s: index %lld into an axis of size 0", user, (long long)place);
    return -1;
}

typedef struct job {
    const state   *s;
    const nb_call *c;
} job;

/* ------------------------------------------------------------------------------------------------------------------ gathering */

enum { MANY = 64 /* rows that are picked in one go */ };

/* Some rows of one index into outer. */
static void pick_rows(const state *s, const nb_call *c, float *out, const float *x, int64_t index, int64_t many,
                      int64_t element) {
    int64_t at[MANY], inner = s->out.size[2];
    for (int64_t i = 0; i < many; i++) {
        int64_t offset = index + i * s->index.stride[1];
        int64_t place = nb__checked_place(c, s->user, &c->in[1], offset, s->x.size[1], element + i * inner, true);
        if (place < 0) return; /* the run fails */
        at[i] = place * s->x.stride[1] * (int64_t)sizeof *x;
    }
    s->loops->pick_rows(out, s->out.stride[1] * (int64_t)sizeof *x, x, at, many, inner * (int64_t)sizeof *x, s->streams);
}

/* A row of gather whose indices differ from element to element. */
static void pick_row(const state *s, const nb_call *c, float *out, const float *x, int64_t index, int64_t element) {
    for (int64_t i = 0; i < s->out.size[2]; i++) {
        int64_t place = nb__checked_place(c, s->user, &c->in[1], index + i * s->index.stride[2], s->x.size[1], element + i, true);
        if (place >= 0) out[i * s->out.stride[2]] = x[place * s->x.stride[1] + i * s->x.stride[2]];
    }
}

static void gather_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t count = s->out.size[1], inner = s->out.size[2], n = s->x.size[1];
    int64_t first = tile * s->rows_a_tile, end = least(first + s->rows_a_tile, s->out.size[0] * count);
    int64_t many = 1;
    for (int64_t row = first, o = first / count, k = first % count; row < end; row += many, k += many) {
        if (k == count) {
            k = 0;
            o++;
        }
        const float *x = (const float *)j->c->in[0].data + o * s->x.stride[0];
        float       *out = (float *)j->c->out.data + o * s->out.stride[0] + k * s->out.stride[1];
        int64_t      at = o * s->index.stride[0] + k * s->index.stride[1];
        if (s->is_even) {
            many = least(least(MANY, count - k), end - row);
            pick_rows(s, j->c, out, x, at, many, row * inner);
        } else if (s->index.stride[2]) {
            pick_row(s, j->c, out, x, at, row * inner);
        } else {
            int64_t place = nb__checked_place(j->c, s->user, &j->c->in[1], at, n, row * inner, true);
            if (place >= 0)
                nb__copy_run((int)sizeof *x, out, s->out.stride[2], x + place * s->x.stride[1], s->x.stride[2], inner);
        }
    }
    if (s->streams) s->loops->fence();
}

static void run_gather(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, &call->c};
    (void)scratch;
    nb__parallel(pool, divide_up(s->out.size[0] * s->out.size[1], s->rows_a_tile), gather_task, &j);
}

static bool plan_gather(nb_context *nb, const nb__isa *isa, const nb__call *call, const state *parts, nb__plan *plan) {
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    int64_t inner = parts->out.size[2];
    *s = *parts;
    s->is_even = inner > 1 && s->out.stride[2] == 1 && s->x.stride[2] == 1 && s->index.stride[2] == 0;
    s->loops = isa->move;
    s->rows_a_tile = most(1, TILE / most(1, inner));
    s->streams = s->is_even && inner >= 64 && nb__array_bytes(&call->c.out) >= NB__LARGE;
    *plan = (nb__plan){.kernel = parts->user, .run = run_gather, .state = s};
    return true;
}

bool nb__plan_gather(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    nb_array array[3] = {call->c.out, call->c.in[0], call->c.in[1]}, *out = &array[0], *x = &array[1], *index = &array[2];
    state    s = {.user = "gather"};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !nb__is_index(index->dtype)) return false;
    int axis = nb__nest_axes(array, 3, (int)((const nb__axis_attr *)call->c.attr)->axis);
    if (!nb__fold(x, axis, axis + 1, &s.x) || !nb__fold(out, axis, axis + 1, &s.out) ||
        !nb__fold(index, axis, axis + 1, &s.index))
        return false;
    return plan_gather(nb, isa, call, &s, plan);
}

bool nb__plan_index_select(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *x = &call->c.in[0], *index = &call->c.in[1], *out = &call->c.out;
    int             axis = (int)((const nb__axis_attr *)call->c.attr)->axis;
    state           s = {.user = "index_select"};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !nb__is_index(index->dtype)) return false;
    if (!nb__fold(x, axis, axis + 1, &s.x) || !nb__fold(out, axis, axis + index->rank, &s.out) ||
        !nb__fold(index, 0, index->rank, &s.index))
        return false;
    return plan_gather(nb, isa, call, &s, plan);
}

/* -------------------------------------------------------------------------------------------------------------------- one_hot */

enum { ONES = 16384 /* bytes that are put together before they go past the caches */ };

typedef struct ones {
    const nb__move_loops *loops;
    nb__folded            index;
    int64_t               classes, size, rows_a_tile;
    bool                  streams;
} ones;

typedef struct ones_job {
    const ones    *s;
    const nb_call *c;
} ones_job;

static void set_one(char *at, nb_dtype dtype) {
    switch (dtype) {
    case NB_F32: *(float *)(void *)at = 1; break;
    case NB_F64: *(double *)(void *)at = 1; break;
    case NB_I32: *(int32_t *)(void *)at = 1; break;
    case NB_I64: *(int64_t *)(void *)at = 1; break;
    default: *at = 1;
    }
}

/* Ones of some rows in zeroed memory. */
static void set_ones(const ones_job *j, char *rows, int64_t first, int64_t many) {
    const ones *s = j->s;
    for (int64_t r = first; r < first + many; r++) {
        int64_t at = nb__checked_place(j->c, "one_hot", &j->c->in[0], r * s->index.stride[1], s->classes, r, true);
        if (at >= 0) set_one(rows + ((r - first) * s->classes + at) * s->size, j->c->out.dtype);
    }
}

static void one_hot_task(void *arg, int64_t tile, int thread) {
    const ones_job *j = arg;
    const ones     *s = j->s;
    (void)thread;
    int64_t row = s->classes * s->size, first = tile * s->rows_a_tile, end = least(first + s->rows_a_tile, s->index.size[1]);
    char   *out = (char *)j->c->out.data + first * row, part[ONES] __attribute__((aligned(64)));
    if (!s->streams) {
        memset(out, 0, (size_t)((end - first) * row));
        set_ones(j, out, first, end - first);
        return;
    }
    for (int64_t many = ONES / row; first < end; first += many, out += many * row) {
        many = least(many, end - first);
        memset(part, 0, (size_t)(many * row));
        set_ones(j, part, first, many);
        s->loops->stream(out, part, (size_t)(many * row));
    }
    s->loops->fence();
}

static void run_one_hot(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    ones_job j = {plan->state, &call->c};
    (void)scratch;
    nb__parallel(pool, divide_up(j.s->index.size[1], j.s->rows_a_tile), one_hot_task, &j);
}

bool nb__plan_one_hot(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *index = &call->c.in[0], *out = &call->c.out;
    nb__folded      rows;
    ones s = {.loops = isa->move, .size = (int64_t)nb_dtype_size(out->dtype), .classes = out->shape[out->rank - 1]};
    (void)threads;
    if (!s.loops || !nb__fold(index, 0, index->rank, &s.index) || !nb__fold(out, 0, out->rank, &rows)) return false;
    if (rows.stride[1] != 1 && rows.size[1] > 1) return false;
    ones *copy = nb_alloc(nb, sizeof *copy);
    if (!copy) return false;
    s.streams = nb__array_bytes(out) >= NB__LARGE && s.classes * s.size <= ONES / 4;
    s.rows_a_tile = most(1, 4 * ONES / (s.classes * s.size));
    *copy = s;
    *plan = (nb__plan){.kernel = "one_hot", .run = run_one_hot, .state = copy};
    return true;
}
