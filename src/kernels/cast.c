/* cast.c: an array's elements as another type, at any strides; where arrays do not lie as the space does, by way of a row. */
#include "kernels.h"
#include "space.h"

enum { TILE = 1024, TASK = 32 /* tiles a task */ };

typedef struct state {
    nb__space      space;
    int64_t        to[NB_MAX_RANK], from[NB_MAX_RANK]; /* strides */
    bool           to_dense, from_dense;
    int            to_size, from_size;
    nb__cast_tile *tile;
} state;

typedef struct job {
    const state *s;
    char        *to;
    const char  *from;
} job;

static void run_task(void *arg, int64_t task, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    int64_t      first = task * TASK * TILE, end = first + TASK * TILE < s->space.count ? first + TASK * TILE : s->space.count;
    int64_t      in[TILE], out[TILE]; /* the widest type */
    (void)thread;
    for (; first < end; first += TILE) {
        int64_t n = end - first < TILE ? end - first : TILE;
        if (!s->from_dense) nb__gather(&s->space, s->from, s->from_size, j->from, first, n, in);
        s->tile(s->to_dense ? (void *)(j->to + first * s->to_size) : out,
                s->from_dense ? (const void *)(j->from + first * s->from_size) : in, n);
        if (!s->to_dense) nb__scatter(&s->space, s->to, s->to_size, j->to, first, n, out);
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, call->c.out.data, call->c.in[0].data};
    int64_t      count = s->space.count, tasks = (count + TASK * TILE - 1) / (TASK * TILE);
    (void)scratch;
    nb__parallel(pool, tasks, run_task, &j);
}

static bool is_dense(const nb__space *space, const int64_t *stride) {
    return space->rank == 1 && (stride[0] == 1 || space->shape[0] == 1);
}

bool nb__plan_cast(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *out = &call->c.out, *in = &call->c.in[0], *list[2] = {out, in};
    int64_t         strides[2][NB_MAX_RANK];
    (void)threads;
    if (!isa->casts || out->dtype > NB_BOOL || in->dtype > NB_BOOL) return false;
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    nb__space_make(2, list, &s->space, strides);
    for (int i = 0; i < s->space.rank; i++) {
        s->to[i] = strides[0][i];
        s->from[i] = strides[1][i];
    }
    s->to_dense = is_dense(&s->space, s->to);
    s->from_dense = is_dense(&s->space, s->from);
    s->to_size = (int)nb_dtype_size(out->dtype);
    s->from_size = (int)nb_dtype_size(in->dtype);
    s->tile = isa->casts[in->dtype][out->dtype];
    *plan = (nb__plan){.kernel = "cast", .run = run, .state = s};
    return true;
}
