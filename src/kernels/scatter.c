/* scatter.c: scatter_add for f32.
 *
 * It is cut by destination, so that sums have the same bits whoever computes them. Where one index stands for a whole row (an
 * embedding's gradient) the rows of the source are first sorted by destination, by counting: then each row of the result is
 * written once. Else a tile owns some rows of the result and looks for their indices in order. */
#include "index.h"
#include "numbers.h"

typedef struct state {
    nb__folded x, out, index, source;
    nb__tile  *add;
    int64_t    rows_a_tile; /* of outer; sorted: of the destination's axis */
    int64_t    parts;       /* of the destination's axis */
} state;

enum { TILE = 16384, MAX_PARTS = 16, AHEAD = 4 /* rows that are fetched before they are needed */ };

typedef struct job {
    const state   *s;
    const nb_call *c;
    const int32_t *end, *order; /* sorted: where the sources of a row end in the order of all */
} job;

static int64_t place_at(const job *j, int64_t offset, int64_t element, bool loud) {
    return nb__checked_place(j->c, "scatter_add", &j->c->in[1], offset, j->s->out.size[1], element, loud);
}

/* to += from, rows of the result's length. */
static void add_row(const state *s, float *to, const float *from) {
    int64_t n = s->out.size[2], to_step = s->out.stride[2], from_step = s->source.stride[2];
    if (to_step == 1 && from_step == 1) s->add(to, to, from, NULL, n, 0, 0, false);
    else
        for (int64_t i = 0; i < n; i++) to[i * to_step] += from[i * from_step];
}

static void copy_row(const state *s, float *out, const float *x) {
    nb__copy_run((int)sizeof *out, out, s->out.stride[2], x, s->x.stride[2], s->out.size[2]);
}

/* --------------------------------------------------------------------------------------------------------------- as they come */

/* Rows low..high-1 of the axis, for one index into outer. */
static void scatter_part(const job *j, int64_t o, int64_t low, int64_t high) {
    const state *s = j->s;
    const float *x = (const float *)j->c->in[0].data + o * s->x.stride[0],
                *source = (const float *)j->c->in[2].data + o * s->source.stride[0];
    float  *out = (float *)j->c->out.data + o * s->out.stride[0];
    int64_t count = s->source.size[1], inner = s->out.size[2];
    for (int64_t r = low; r < high; r++) copy_row(s, out + r * s->out.stride[1], x + r * s->x.stride[1]);
    for (int64_t k = 0; k < count && inner > 0; k++) {
        int64_t      at = o * s->index.stride[0] + k * s->index.stride[1], element = (o * count + k) * inner;
        const float *from = source + k * s->source.stride[1];
        if (s->index.stride[2]) {
            for (int64_t i = 0; i < inner; i++) {
                int64_t place = place_at(j, at + i * s->index.stride[2], element + i, low == 0);
                if (place >= low && place < high)
                    out[place * s->out.stride[1] + i * s->out.stride[2]] += from[i * s->source.stride[2]];
            }
        } else {
            int64_t place = place_at(j, at, element, low == 0);
            if (place >= low && place < high)
                add_row(s, out + place * s->out.stride[1], from);
        }
    }
}

static void scatter_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t n = s->out.size[1], part = tile % s->parts, first = tile / s->parts * s->rows_a_tile;
    int64_t end = least(first + s->rows_a_tile, s->out.size[0]);
    for (int64_t o = first; o < end; o++) scatter_part(j, o, part * n / s->parts, (part + 1) * n / s->parts);
}

static void run_as_they_come(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {.s = s, .c = &call->c};
    (void)scratch;
    nb__parallel(pool, divide_up(s->out.size[0], s->rows_a_tile) * s->parts, scatter_task, &j);
}

/* --------------------------------------------------------------------------------------------------------------------- sorted */

/* Numbers of the sources, those of the first row first, each row's in their order. end[r]: where those of row r end. */
static void sort(const job *j, int32_t *end, int32_t *order) {
    const state *s = j->s;
    int64_t      n = s->out.size[1], count = s->source.size[1], inner = s->out.size[2];
    memset(end, 0, (size_t)(n + 1) * sizeof *end);
    for (int64_t k = 0; k < count; k++)
        end[place_at(j, k * s->index.stride[1], k * inner, true) + 1]++; /* end[0]: those out of range */
    end[0] = 0;
    for (int64_t r = 0; r < n; r++) end[r + 1] += end[r]; /* now end[r] is where row r begins */
    for (int64_t k = 0; k < count; k++) {
        int64_t place = place_at(j, k * s->index.stride[1], 0, false);
        if (place >= 0) order[end[place]++] = (int32_t)k;
    }
}

static void sorted_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    const float *x = j->c->in[0].data, *source = j->c->in[2].data;
    int64_t      first = tile * s->rows_a_tile, last = least(first + s->rows_a_tile, s->out.size[1]);
    (void)thread;
    bool         is_dense = s->out.stride[2] == 1 && s->x.stride[2] == 1 && s->source.stride[2] == 1;
    int32_t      all = last > first ? j->end[last - 1] : 0;
    for (int64_t r = first; r < last; r++) {
        float       *to = (float *)j->c->out.data + r * s->out.stride[1];
        const float *from = x + r * s->x.stride[1];
        int32_t      k = r ? j->end[r - 1] : 0, end = j->end[r];
        if (is_dense && k < end) /* x and its first source in one go */
            s->add(to, from, source + j->order[k++] * s->source.stride[1], NULL, s->out.size[2], 0, 0, false);
        else
            copy_row(s, to, from);
        for (; k < end; k++) {
            if (k + AHEAD < all) __builtin_prefetch(source + j->order[k + AHEAD] * s->source.stride[1]);
            add_row(s, to, source + j->order[k] * s->source.stride[1]);
        }
    }
}

static void run_sorted(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    int32_t     *end = scratch, *order = end + s->out.size[1] + 1;
    job          j = {s, &call->c, end, order};
    sort(&j, end, order);
    nb__parallel(pool, divide_up(s->out.size[1], s->rows_a_tile), sorted_task, &j);
}

bool nb__plan_scatter_add(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    nb_array  array[4] = {call->c.out, call->c.in[0], call->c.in[1], call->c.in[2]};
    nb_array *out = &array[0], *x = &array[1], *index = &array[2], *source = &array[3];
    state     s = {.parts = 1};
    (void)threads;
    if (!isa->loops || x->dtype != NB_F32 || !nb__is_index(index->dtype)) return false;
    int a = nb__nest_axes(array, 4, (int)((const nb__axis_attr *)call->c.attr)->axis);
    if (!nb__fold(x, a, a + 1, &s.x) || !nb__fold(out, a, a + 1, &s.out) || !nb__fold(index, a, a + 1, &s.index) ||
        !nb__fold(source, a, a + 1, &s.source))
        return false;
    s.add = isa->tiles[NB__ROW_add];
    state *copy = nb_alloc(nb, sizeof *copy);
    if (!copy) return false;
    int64_t n = s.out.size[1], count = s.source.size[1], inner = s.out.size[2],
            work = (n + count) * inner; /* for one index into outer */
    bool sorted = s.out.size[0] == 1 && s.index.stride[2] == 0 && inner >= 4 && n > 1 && n < INT32_MAX && count < INT32_MAX;
    *plan = (nb__plan){.kernel = "scatter_add", .run = sorted ? run_sorted : run_as_they_come, .state = copy};
    if (sorted) {
        s.rows_a_tile = most(1, n * TILE / work);
        plan->scratch_bytes = ((size_t)(n + 1 + count) * sizeof(int32_t) + 63) & ~(size_t)63;
    } else {
        s.rows_a_tile = most(1, TILE / most(1, work));
        s.parts = s.out.size[0] >= MAX_PARTS ? 1 : most(1, least(least(n, MAX_PARTS), work / TILE));
    }
    *copy = s;
    return true;
}
