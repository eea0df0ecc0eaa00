/* copy.c: an array's elements into another array of the same shape and type, at any strides.
 *
 * Where both run along the same axis, stretches of it are copied. Where they do not (a transposition), blocks that span cache
 * lines of both are, so that each line is fetched once: in registers where elements are of 4 bytes and lie side by side. */
#include "copy.h"

#include <string.h>

enum {
    BLOCK = 16,
    WIDE_BLOCK = 32,   /* of a transposition in registers */
    LARGE_BLOCK = 128, /* of one past the caches: few pages are visited often, and it is put together in the second cache */
    LENGTH = 256,      /* elements of a stretch that is worth going past the caches */
    TASK = NB__COPY_TASK
};

/* to[i, k] = from[i, k] for m by n elements, both strides of each. */
#define COPY_BLOCK(type)                                                                                                         \
    static void block_##type(type *to, int64_t to_m, int64_t to_n, const type *from, int64_t from_m, int64_t from_n, int64_t m,  \
                             int64_t n) {                                                                                        \
        for (int64_t k = 0; k < n; k += BLOCK) {                                                                                 \
            int64_t end = n - k < BLOCK ? n : k + BLOCK;                                                                         \
            for (int64_t i = 0; i < m; i++)                                                                                      \
                for (int64_t j = k; j < end; j++) to[i * to_m + j * to_n] = from[i * from_m + j * from_n];                       \
        }                                                                                                                        \
    }
COPY_BLOCK(uint8_t)
COPY_BLOCK(uint32_t)
COPY_BLOCK(uint64_t)

/* m rows of n elements, from as many columns. */
static void transpose(const nb__copy *c, float *y, int64_t to_m, const float *x, int64_t from_n, int64_t m, int64_t n) {
    float part[LARGE_BLOCK * LARGE_BLOCK];
    if (!c->streams) {
        c->loops->transpose(y, to_m, x, from_n, m, n);
        return;
    }
    for (int64_t j = 0; j < n; j += LARGE_BLOCK) {
        int64_t many = n - j < LARGE_BLOCK ? n - j : LARGE_BLOCK;
        c->loops->transpose(part, LARGE_BLOCK, x + j * from_n, from_n, m, many);
        for (int64_t i = 0; i < m; i++) c->loops->stream(y + i * to_m + j, part + i * LARGE_BLOCK, (size_t)many * sizeof *y);
    }
}

static void copy_across(const nb__copy *c, char *y, const char *x, int64_t m, int64_t n) {
    int     inner = c->space.rank - 1;
    int64_t to_m = c->to[c->across], to_n = c->to[inner], from_m = c->from[c->across], from_n = c->from[inner];
    if (c->is_transposition)
        transpose(c, (float *)y, to_m, (const float *)x, from_n, m, n);
    else if (c->size == 4)
        block_uint32_t((uint32_t *)y, to_m, to_n, (const uint32_t *)x, from_m, from_n, m, n);
    else if (c->size == 8)
        block_uint64_t((uint64_t *)y, to_m, to_n, (const uint64_t *)x, from_m, from_n, m, n);
    else
        block_uint8_t((uint8_t *)y, to_m, to_n, (const uint8_t *)x, from_m, from_n, m, n);
}

static int64_t steps(const nb__copy *c, int axis) {
    return axis == c->across ? (c->space.shape[axis] + c->block - 1) / c->block : c->space.shape[axis];
}

/* Row r: an index of all axes but the last, and a piece of that; with `across`, that axis counts in blocks. */
void nb__copy_rows(const nb__copy *c, void *to, const void *from, int64_t first_row, int64_t end) {
    int     inner = c->space.rank - 1;
    int64_t index[NB_MAX_RANK], r = first_row, left = r / c->pieces, piece = r % c->pieces, y = 0, x = 0;
    if (r >= end) return;
    for (int i = inner - 1; i >= 0; i--) {
        int64_t step = i == c->across ? c->block : 1;
        index[i] = left % steps(c, i);
        left /= steps(c, i);
        y += index[i] * step * c->to[i];
        x += index[i] * step * c->from[i];
    }
    for (int64_t many = 1; r < end; r += many) {
        int64_t     first = piece * TASK, n = c->space.shape[inner] - first;
        char       *row = (char *)to + (y + first * c->to[inner]) * c->size;
        const char *source = (const char *)from + (x + first * c->from[inner]) * c->size;
        if (c->across >= 0) {
            int64_t rest = c->space.shape[c->across] - index[c->across] * c->block;
            copy_across(c, row, source, rest < c->block ? rest : c->block, n);
        } else if (c->streams) {
            c->loops->stream(row, source, (size_t)((n < TASK ? n : TASK) * c->size));
        } else if (c->is_short) { /* as many as lie evenly */
            int64_t rest = c->space.shape[inner - 1] - index[inner - 1];
            many = rest < end - r ? rest : end - r;
            c->loops->copy_rows(row, c->to[inner - 1] * c->size, source, c->from[inner - 1] * c->size, many, n * c->size);
        } else {
            nb__copy_run(c->size, row, c->to[inner], source, c->from[inner], n < TASK ? n : TASK);
        }
        if (++piece < c->pieces) continue;
        piece = 0;
        for (int i = inner - 1; i >= 0; i--) { /* on to the next row */
            int64_t step = i == c->across ? c->block : 1, rows = i == inner - 1 ? many : 1;
            y += rows * step * c->to[i];
            x += rows * step * c->from[i];
            if ((index[i] += rows) < steps(c, i)) break;
            y -= index[i] * step * c->to[i];
            x -= index[i] * step * c->from[i];
            index[i] = 0;
        }
    }
    if (c->streams) c->loops->fence();
}

int64_t nb__array_bytes(const nb_array *a) {
    int64_t bytes = (int64_t)nb_dtype_size(a->dtype);
    for (int i = 0; i < a->rank; i++) bytes *= a->shape[i];
    return bytes;
}

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

void nb__copy_make(const nb__move_loops *loops, const nb_array *to, const nb_array *from, int64_t all_bytes, nb__copy *copy) {
    const nb_array *list[2] = {to, from};
    int64_t         strides[2][NB_MAX_RANK];
    nb__copy        c = {
               .loops = loops,
               .across = -1,
               .size = (int)nb_dtype_size(to->dtype),
               .pieces = 1,
    };
    nb__space_make(2, list, &c.space, strides);
    for (int i = 0; i < c.space.rank; i++) {
        c.to[i] = strides[0][i];
        c.from[i] = strides[1][i];
    }
    int inner = c.space.rank - 1, best = inner;
    for (int i = 0; i < inner; i++)
        if (c.from[i] != 0 && magnitude(c.from[i]) < magnitude(c.from[best])) best = i;
    if (best != inner && c.from[inner] != 0)
        c.across = best;
    else
        c.pieces = (c.space.shape[inner] + TASK - 1) / TASK;
    bool large = all_bytes >= NB__LARGE;
    c.is_transposition = c.across >= 0 && c.size == 4 && c.to[inner] == 1 && c.from[c.across] == 1;
    c.streams = large && (c.is_transposition ||
                          (c.across < 0 && c.to[inner] == 1 && c.from[inner] == 1 && c.space.shape[inner] >= LENGTH));
    bool side_by_side = c.to[inner] == 1 && c.from[inner] == 1;
    c.is_short = inner > 0 && c.across < 0 && !c.streams && side_by_side && c.space.shape[inner] <= LENGTH;
    c.block = !c.is_transposition ? BLOCK : c.streams ? LARGE_BLOCK : WIDE_BLOCK;
    c.rows = c.pieces;
    for (int i = 0; i < inner; i++) c.rows *= steps(&c, i);
    if (c.space.count == 0) c.rows = 0;
    *copy = c;
}

typedef struct job {
    const nb__copy *copy;
    void           *to;
    const void     *from;
    int64_t         tasks;
} job;

static void run_task(void *arg, int64_t task, int thread) {
    const job *j = arg;
    (void)thread;
    nb__copy_rows(j->copy, j->to, j->from, task * j->copy->rows / j->tasks, (task + 1) * j->copy->rows / j->tasks);
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const nb__copy *c = plan->state;
    job             j = {c, call->c.out.data, call->c.in[0].data, (c->space.count + TASK - 1) / TASK};
    (void)scratch;
    nb__parallel(pool, j.tasks, run_task, &j);
}

bool nb__plan_copy(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb__move_loops *loops = isa->move;
    (void)threads;
    if (!loops) return false;
    nb__copy *state = nb_alloc(nb, sizeof *state);
    if (!state) return false;
    nb__copy_make(loops, &call->c.out, &call->c.in[0], nb__array_bytes(&call->c.out), state);
    *plan = (nb__plan){.kernel = "copy", .run = run, .state = state};
    return true;
}
