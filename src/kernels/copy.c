/* copy.c: an array's elements into another array of the same shape and type, at any strides.
 *
 * Where both run along the same axis, stretches of it are copied. Where they do not (a transposition), blocks that span a cache line of both
 * are, so that each line is fetched once. */
#include "kernels.h"
#include "space.h"

enum { BLOCK = 16, TASK = 16384 /* elements worth a task of a thread */ };

typedef struct copy {
    nb__space space;
    int64_t   to[NB_MAX_RANK], from[NB_MAX_RANK]; /* strides; the last axis is the result's innermost */
    int       across;                             /* the operand's innermost axis where it is another one, or -1 */
    int       size;
    int64_t   pieces;                             /* of the last axis, TASK elements each; 1 with `across` */
    int64_t   rows, rows_a_task;                  /* a row: a piece of the last axis; with `across`, BLOCK of them side by side */
} copy;

typedef struct job {
    const copy *copy;
    char       *to;
    const char *from;
} job;

/* to[i, k] = from[i, k] for m by n elements, both strides of each. */
#define COPY_BLOCK(type) \
    static void block_##type(type *to, int64_t to_m, int64_t to_n, const type *from, int64_t from_m, int64_t from_n, int64_t m, int64_t n) { \
        for (int64_t k = 0; k < n; k += BLOCK) { \
            int64_t end = n - k < BLOCK ? n : k + BLOCK; \
            for (int64_t i = 0; i < m; i++) \
                for (int64_t j = k; j < end; j++) to[i * to_m + j * to_n] = from[i * from_m + j * from_n]; \
        } \
    }
COPY_BLOCK(uint8_t)
COPY_BLOCK(uint32_t)
COPY_BLOCK(uint64_t)

/* Row r: an index of all axes but the last, and a piece of that; with `across`, that axis counts in blocks. */
static void copy_row(const job *j, int64_t r) {
    const copy *c = j->copy;
    int         inner = c->space.rank - 1;
    int64_t     first = r % c->pieces * TASK, n = c->space.shape[inner] - first, m = 1;
    int64_t     to = first * c->to[inner], from = first * c->from[inner];
    r /= c->pieces;
    for (int i = inner - 1; i >= 0; i--) {
        int64_t blocks = i == c->across ? (c->space.shape[i] + BLOCK - 1) / BLOCK : c->space.shape[i];
        int64_t at = r % blocks;
        r /= blocks;
        if (i == c->across) {
            at *= BLOCK;
            m = c->space.shape[i] - at < BLOCK ? c->space.shape[i] - at : BLOCK;
        }
        to += at * c->to[i];
        from += at * c->from[i];
    }
    char       *y = j->to + to * c->size;
    const char *x = j->from + from * c->size;
    if (c->across < 0) {
        nb__copy_run(c->size, y, c->to[inner], x, c->from[inner], n < TASK ? n : TASK);
        return;
    }
    int64_t to_m = c->to[c->across], to_n = c->to[inner], from_m = c->from[c->across], from_n = c->from[inner];
    if (c->size == 4) block_uint32_t((uint32_t *)y, to_m, to_n, (const uint32_t *)x, from_m, from_n, m, n);
    else if (c->size == 8) block_uint64_t((uint64_t *)y, to_m, to_n, (const uint64_t *)x, from_m, from_n, m, n);
    else block_uint8_t((uint8_t *)y, to_m, to_n, (const uint8_t *)x, from_m, from_n, m, n);
}

static void run_task(void *arg, int64_t task, int thread) {
    const job *j = arg;
    (void)thread;
    int64_t r = task * j->copy->rows_a_task, end = r + j->copy->rows_a_task;
    for (; r < end && r < j->copy->rows; r++) copy_row(j, r);
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const copy *c = plan->state;
    job         j = {c, call->c.out.data, call->c.in[0].data};
    (void)scratch;
    nb__parallel(pool, (c->rows + c->rows_a_task - 1) / c->rows_a_task, run_task, &j);
}

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

bool nb__plan_copy(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const nb_array *list[2] = {&call->c.out, &call->c.in[0]};
    int64_t         strides[2][NB_MAX_RANK];
    copy            c = {.across = -1, .size = (int)nb_dtype_size(call->c.out.dtype), .pieces = 1, .rows_a_task = 1};
    (void)threads;
    if (!isa->tiles) return false;
    nb__space_make(2, list, &c.space, strides);
    for (int i = 0; i < c.space.rank; i++) {
        c.to[i] = strides[0][i];
        c.from[i] = strides[1][i];
    }
    int inner = c.space.rank - 1, best = inner;
    for (int i = 0; i < inner; i++)
        if (c.from[i] != 0 && magnitude(c.from[i]) < magnitude(c.from[best])) best = i;
    if (best != inner && c.from[inner] != 0) c.across = best;
    else c.pieces = (c.space.shape[inner] + TASK - 1) / TASK;
    c.rows = c.pieces;
    for (int i = 0; i < inner; i++) c.rows *= i == c.across ? (c.space.shape[i] + BLOCK - 1) / BLOCK : c.space.shape[i];
    if (c.space.count == 0) c.rows = 0;
    else c.rows_a_task = TASK * c.rows / c.space.count > 1 ? TASK * c.rows / c.space.count : 1;
    copy *state = nb_alloc(nb, sizeof *state);
    if (!state) return false;
    *state = c;
    *plan = (nb__plan){.kernel = "copy", .run = run, .state = state};
    return true;
}
