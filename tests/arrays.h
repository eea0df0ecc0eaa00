/* arrays.h: arrays of all memory layouts for tests of kernels, pools of threads, and a way to run a plan. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "draw.h"
#include "kernels.h"

/* How an array lies in memory. */
enum { ROWS, REVERSED, BROADCAST_FIRST, BROADCAST_LAST, SPREAD, FLIPPED, FLIPPED_REVERSED, LAYOUTS };

static inline int64_t count_of(int rank, const int64_t *shape) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
}

/* Strides of a layout, and through `offset` where element 0 lies; the result is how many elements of memory that takes. */
static inline int64_t lay_out(int layout, int rank, const int64_t *shape, int64_t *stride, int64_t *offset) {
    int64_t step = layout == SPREAD ? 3 : 1, at = 0;
    bool reversed = layout == REVERSED || layout == FLIPPED_REVERSED, flipped = layout == FLIPPED || layout == FLIPPED_REVERSED;
    for (int k = 0; k < rank; k++) {
        int i = reversed ? k : rank - 1 - k;
        stride[i] = step;
        if ((layout == BROADCAST_FIRST && i == 0) || (layout == BROADCAST_LAST && i == rank - 1))
            stride[i] = 0;
        else
            step *= shape[i] ? shape[i] : 1;
        if (flipped && shape[i]) {
            at += (shape[i] - 1) * stride[i];
            stride[i] = -stride[i];
        }
    }
    *offset = at;
    return step;
}

/* An f32 array of random numbers. The memory is to be freed. */
static inline nb_array float_array(int layout, int rank, const int64_t *shape, float **memory) {
    nb_array a = {.dtype = NB_F32, .rank = rank};
    int64_t  offset, n;
    memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    n = lay_out(layout, rank, shape, a.stride, &offset);
    *memory = malloc((size_t)n * sizeof(float) + 1);
    for (int64_t i = 0; i < n; i++) (*memory)[i] = draw_between(-1, 1);
    a.data = *memory + offset;
    return a;
}

/* An array over memory of its own, zeroed; never broadcast. */
static inline nb_array result_array(nb_dtype dtype, int layout, int rank, const int64_t *shape, void **memory) {
    nb_array a = {.dtype = dtype, .rank = rank};
    int64_t  offset, n;
    memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    n = lay_out(layout, rank, shape, a.stride, &offset);
    *memory = calloc((size_t)n + 1, nb_dtype_size(dtype));
    a.data = (char *)*memory + offset * (int64_t)nb_dtype_size(dtype);
    return a;
}

static inline int64_t place_of(const nb_array *a, const int64_t *index) {
    int64_t at = 0;
    for (int i = 0; i < a->rank; i++) at += index[i] * a->stride[i];
    return at;
}

static inline bool next_place(int rank, const int64_t *shape, int64_t *index) {
    for (int i = rank; i-- > 0;) {
        if (++index[i] < shape[i]) return true;
        index[i] = 0;
    }
    return false;
}

/* Plans a call for a pool's threads and runs it; false: no plan. */
static inline bool run_planned(const char *isa, nb__planner *planner, const nb_call *c, nb_pool *pool) {
    nb__call call = {.c = *c, .n_out = 1, .out = &c->out};
    nb__plan plan = {0};
    if (!planner(nb, nb__isa_find(isa), &call, nb__pool_threads(pool), &plan)) return false;
    void *scratch = aligned_alloc(64, plan.scratch_bytes + 64);
    plan.run(&plan, &call, scratch, pool);
    free(scratch);
    if (plan.free_state)
        plan.free_state(nb, plan.state);
    else
        nb_free(nb, plan.state);
    return true;
}

enum { POOLS = 4 };
static nb_pool *pools[POOLS]; /* of 1 (none), 2, 3 and 4 threads */

static inline int open_pools(void **state) {
    int good = open_context(state);
    for (int t = 1; t < POOLS; t++) {
        pools[t] = nb_pool_new(t + 1);
        if (!pools[t]) good = -1;
    }
    return good;
}

static inline int close_pools(void **state) {
    for (int t = 1; t < POOLS; t++) nb_pool_free(pools[t]);
    return close_context(state);
}

static const char *const test_isas[] = {"baseline", "v3", "v4"};
enum { TEST_ISAS = 3 };

#endif
