/* join.c: arrays put together from parts: concat, pad, slice_grad, full, eye.
 *
 * Every part is a copy (copy.h) into a piece of the result: of an operand, or of one constant seen at every place. Pieces that
 * others are written over come first, in a pass of their own. */
#include "copy.h"

typedef struct piece {
    nb__copy copy;
    int      operand; /* or CONSTANT, ONE */
    int64_t  to;      /* offset in the result, in bytes */
} piece;

enum { CONSTANT = -1, ONE = -2 };

typedef struct state {
    const nb__move_loops *loops;
    nb_array              out;           /* without data */
    uint64_t              constant, one; /* their bytes come first */
    int                   n, first_pass, room;
    piece                 piece[];
} state;

typedef struct job {
    const state   *s;
    const nb_call *c;
    int            first, end; /* pieces of the pass */
    int64_t        tasks;
} job;

/* A share of each piece: pieces that lie side by side have rows in the same lines of memory, which threads had better not
 * share. */
static void do_task(void *arg, int64_t task, int thread) {
    const job *j = arg;
    (void)thread;
    for (int i = j->first; i < j->end; i++) {
        const piece *p = &j->s->piece[i];
        const void  *from = p->operand == CONSTANT ? &j->s->constant : p->operand == ONE ? &j->s->one : j->c->in[p->operand].data;
        int64_t      rows = p->copy.rows;
        nb__copy_rows(&p->copy, (char *)j->c->out.data + p->to, from, task * rows / j->tasks, (task + 1) * rows / j->tasks);
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    const int    first[] = {0, s->first_pass, s->n};
    (void)scratch;
    for (int pass = 0; pass < 2; pass++) {
        job     j = {s, &call->c, first[pass], first[pass + 1], 0};
        int64_t elements = 0;
        for (int i = j.first; i < j.end; i++) elements += s->piece[i].copy.space.count;
        j.tasks = (elements + NB__COPY_TASK - 1) / NB__COPY_TASK;
        nb__parallel(pool, j.tasks, do_task, &j);
    }
}

/* The bytes of a value. */
static uint64_t bytes_of(nb_dtype dtype, double value) {
    union {
        uint64_t bytes;
        float    f32;
        double   f64;
        int32_t  i32;
        int64_t  i64;
        uint8_t  u8;
    } v = {.bytes = 0};
    switch (dtype) {
    case NB_F32: v.f32 = (float)value; break;
    case NB_F64: v.f64 = value; break;
    case NB_I32: v.i32 = (int32_t)value; break;
    case NB_I64: v.i64 = (int64_t)value; break;
    case NB_BOOL: v.u8 = value != 0; break;
    default: v.u8 = (uint8_t)value;
    }
    return v.bytes;
}

/* Room for n pieces of the call's result, the constant `value` at hand; NULL: out of memory, or the reference. */
static state *begin(nb_context *nb, const nb__isa *isa, const nb__call *call, int64_t n, double value) {
    const nb__move_loops *loops = isa->move;
    nb_dtype              dtype = call->c.out.dtype;
    bool                  whole = dtype != NB_F32 && dtype != NB_F64; /* whole numbers hold what fits them alone */
    if (!loops || n > 4096 || (whole && !(value >= -0x1p31 && value < 0x1p31))) return NULL;
    state *s = nb_alloc(nb, sizeof *s + (size_t)n * sizeof *s->piece);
    if (!s) return NULL;
    *s = (state){
        .loops = loops, .out = call->c.out, .constant = bytes_of(dtype, value), .one = bytes_of(dtype, 1), .room = (int)n};
    return s;
}

/* A piece of the result: `shape` elements from start[] on; from an operand of that shape, or a constant. */
static void add(state *s, const int64_t *start, const int64_t *shape, int operand, const nb_array *from) {
    nb_array to = s->out, one = s->out;
    piece   *p = &s->piece[s->n];
    p->operand = operand;
    p->to = 0;
    for (int i = 0; i < to.rank; i++) {
        if (shape[i] == 0) return;
        to.shape[i] = one.shape[i] = shape[i];
        one.stride[i] = 0;
        p->to += start[i] * to.stride[i] * (int64_t)nb_dtype_size(to.dtype);
    }
    nb__copy_make(s->loops, &to, from ? from : &one, nb__array_bytes(&s->out), &p->copy);
    s->n++;
}

/* The first pass ends here. */
static void end_pass(state *s) { s->first_pass = s->n; }

static bool end(state *s, const char *kernel, nb__plan *plan) {
    *plan = (nb__plan){.kernel = kernel, .run = run, .state = s};
    return true;
}

/* The constant around a box of the result: along each axis what lies before and behind, within the box's bounds of the axes
 * before it. */
static void add_frame(state *s, const int64_t *start, const int64_t *shape) {
    int64_t from[NB_MAX_RANK] = {0}, size[NB_MAX_RANK];
    for (int i = 0; i < s->out.rank; i++) size[i] = s->out.shape[i];
    for (int i = 0; i < s->out.rank; i++) {
        int64_t end_of = start[i] + shape[i];
        size[i] = start[i];
        add(s, from, size, CONSTANT, NULL);
        from[i] = end_of;
        size[i] = s->out.shape[i] - end_of;
        add(s, from, size, CONSTANT, NULL);
        from[i] = start[i];
        size[i] = shape[i];
    }
}

bool nb__plan_concat(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    int64_t axis = ((const nb__axis_attr *)call->c.attr)->axis, start[NB_MAX_RANK] = {0};
    state  *s = begin(nb, isa, call, call->c.n_in, 0);
    (void)threads;
    if (!s) return false;
    for (int i = 0; i < call->c.n_in; i++) {
        add(s, start, call->c.in[i].shape, i, &call->c.in[i]);
        start[axis] += call->c.in[i].shape[axis];
    }
    return end(s, "concat", plan);
}

bool nb__plan_pad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb__pad_attr *a = call->c.attr;
    const nb_array     *x = &call->c.in[0];
    state              *s = begin(nb, isa, call, 2 * x->rank + 1, a->value);
    (void)threads;
    if (!s) return false;
    add_frame(s, a->before.size, x->shape);
    add(s, a->before.size, x->shape, 0, x);
    return end(s, "pad", plan);
}

bool nb__plan_slice_grad(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb__slice_attr *a = &((const nb__slice_grad_attr *)call->c.attr)->slice;
    const nb_array       *x = &call->c.in[0], *out = &call->c.out;
    int64_t               start[NB_MAX_RANK] = {0}, zero[NB_MAX_RANK] = {0}, at[NB_MAX_RANK];
    bool                  dense = true, empty = false;
    state                *s = begin(nb, isa, call, 2 * out->rank + 2, 0);
    (void)threads;
    if (!s) return false;
    nb_array spread = *out; /* the elements of the result that the slice names */
    for (int i = 0; i < out->rank; i++) {
        int64_t step = a->step.size[i], n = x->shape[i];
        empty |= n == 0;
        at[i] = n ? a->start.size[i] : 0;
        start[i] = step < 0 && n > 0 ? at[i] + (n - 1) * step : at[i];
        dense &= n <= 1 || step == 1 || step == -1;
        spread.shape[i] = n;
        spread.stride[i] = n > 1 ? step * out->stride[i] : out->stride[i];
    }
    if (!dense || empty) {
        add(s, zero, out->shape, CONSTANT, NULL);
        end_pass(s);
    } else {
        add_frame(s, start, x->shape);
    }
    if (!empty) {
        nb_array whole = s->out;
        s->out = spread;
        add(s, zero, x->shape, 0, x);
        s->out = whole;
        piece *p = &s->piece[s->n - 1];
        for (int i = 0; i < out->rank; i++) p->to += at[i] * out->stride[i] * (int64_t)nb_dtype_size(out->dtype);
    }
    return end(s, "slice_grad", plan);
}

bool nb__plan_full(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    int64_t zero[NB_MAX_RANK] = {0};
    state  *s = begin(nb, isa, call, 1, ((const nb__create_attr *)call->c.attr)->p);
    (void)threads;
    if (!s) return false;
    add(s, zero, call->c.out.shape, CONSTANT, NULL);
    return end(s, "full", plan);
}

/* The diagonal is an array of one axis. */
bool nb__plan_eye(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *out = &call->c.out;
    int64_t         zero[NB_MAX_RANK] = {0}, n = out->shape[0] < out->shape[1] ? out->shape[0] : out->shape[1];
    state          *s = begin(nb, isa, call, 2, 0);
    (void)threads;
    if (!s) return false;
    add(s, zero, out->shape, CONSTANT, NULL);
    end_pass(s);
    s->out = (nb_array){.dtype = out->dtype, .rank = 1, .shape = {n}, .stride = {out->stride[0] + out->stride[1]}};
    add(s, zero, &n, ONE, NULL);
    return end(s, "eye", plan);
}
