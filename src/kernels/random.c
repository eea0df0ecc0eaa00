/* random.c: uniform and normal numbers in f32, tile by tile. */
#include <string.h>

#include "isa/random.h"
#include "kernels.h"

void nb__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4], k[2] = {key[0], key[1]};
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        uint64_t m = UINT64_C(0xD2511F53) * c[0], n = UINT64_C(0xCD9E8D57) * c[2];
        uint32_t next[4] = {(uint32_t)(n >> 32) ^ c[1] ^ k[0], (uint32_t)n, (uint32_t)(m >> 32) ^ c[3] ^ k[1], (uint32_t)m};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
    memcpy(out, c, sizeof c);
}

enum { GROUP = 8, /* tiles a task */ TILE = NB__RANDOM_TILE };

typedef struct job {
    nb__random_source source;
    nb__random_tile  *tile;
    float            *out;
    int64_t           count;
} job;

static void run_group(void *arg, int64_t group, int thread) {
    const job *j = arg;
    (void)thread;
    for (int64_t first = group * GROUP * TILE, k = 0; k < GROUP && first < j->count; k++, first += TILE) {
        uint64_t block = (uint64_t)first / 4;
        if (j->count - first >= TILE) {
            j->tile(&j->source, block, j->out + first);
        } else {
            float last[TILE];
            j->tile(&j->source, block, last);
            memcpy(j->out + first, last, (size_t)(j->count - first) * sizeof *last);
        }
    }
}

/* A plan's state is the loop alone. */
typedef struct state {
    nb__random_tile *tile;
} state;

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const nb__create_attr *a = call->c.attr;
    const state           *s = plan->state;
    job j = {{{call->c.key[0], call->c.key[1]}, call->c.counter, (float)a->p, (float)a->q}, s->tile, call->c.out.data, 1};
    (void)scratch;
    for (int i = 0; i < call->c.out.rank; i++) j.count *= call->c.out.shape[i];
    nb__parallel(pool, (j.count + GROUP * TILE - 1) / (GROUP * TILE), run_group, &j);
}

/* f32, row-major. */
static bool plan_random(nb_context *nb, const nb__isa *isa, const nb__call *call, bool is_normal, nb__plan *plan) {
    const nb_array         *out = &call->c.out;
    const nb__random_loops *loops = isa->random;
    int64_t                 expected = 1;
    if (!loops || out->dtype != NB_F32) return false;
    for (int i = out->rank - 1; i >= 0; i--) {
        if (out->shape[i] != 1 && out->stride[i] != expected) return false;
        expected *= out->shape[i];
    }
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    s->tile = is_normal ? loops->normal : loops->uniform;
    *plan = (nb__plan){.kernel = is_normal ? "normal" : "uniform", .run = run, .state = s};
    return true;
}

bool nb__plan_uniform(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_random(nb, isa, call, false, plan);
}

bool nb__plan_normal(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_random(nb, isa, call, true, plan);
}
