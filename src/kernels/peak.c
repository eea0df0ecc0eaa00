/* peak.c: what the machine can do at most, measured: the yardstick of profiles. Noise only ever adds time, so the best of several
 * tries counts. */
#include <string.h>
#include <time.h>

#include "isa/peak.h"
#include "kernels.h"

enum { TRIES = 25, TILES_A_THREAD = 8, TURNS = 60000 };
enum { COPY_TILE = 1 << 18, COPY_TILES = 64, COPY_TRIES = 7 }; /* floats a tile: 1 MB; two arrays of 64 MB are in no cache */

typedef struct work {
    const nb__peak_loops *loops;
    float                *x, *y;
    float                *seen; /* one a tile, so that no arithmetic is left out */
    bool                  plain;
} work;

static void arithmetic_tile(void *arg, int64_t tile, int thread) {
    work *w = arg;
    (void)thread;
    w->seen[tile] = w->loops->arithmetic(TURNS);
}

static void copy_tile(void *arg, int64_t tile, int thread) {
    work  *w = arg;
    float *y = w->y + tile * COPY_TILE, *x = w->x + tile * COPY_TILE;
    (void)thread;
    if (w->plain)
        memcpy(y, x, COPY_TILE * sizeof *y);
    else
        w->loops->copy(y, x, COPY_TILE);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double best_time(nb_pool *pool, int64_t tiles, nb__task *task, work *w, int tries) {
    double best = 0;
    for (int i = 0; i < tries; i++) {
        double start = now(), took;
        nb__parallel(pool, tiles, task, w);
        took = now() - start;
        if (i == 0 || took < best) best = took;
    }
    return best;
}

nb_machine nb__measure_machine(nb_context *nb, const nb__isa *isa, nb_pool *pool) {
    work    w = {.loops = isa->peak};
    int64_t tiles = (int64_t)TILES_A_THREAD * nb__pool_threads(pool);
    size_t  bytes = (size_t)COPY_TILES * COPY_TILE * sizeof *w.x;
    double  took[2] = {0};
    w.seen = nb_alloc(nb, (size_t)tiles * sizeof *w.seen);
    w.x = nb_alloc(nb, bytes);
    w.y = nb_alloc(nb, bytes);
    nb_machine m = {0};
    if (w.seen && w.x && w.y) {
        m.gflops = (double)tiles * TURNS * w.loops->flops / best_time(pool, tiles, arithmetic_tile, &w, TRIES) * 1e-9;
        for (int plain = 0; plain < 2; plain++) {
            w.plain = plain;
            took[plain] = best_time(pool, COPY_TILES, copy_tile, &w, COPY_TRIES);
        }
        m.gbytes = 2 * (double)bytes / (took[0] < took[1] ? took[0] : took[1]) * 1e-9;
    }
    nb_free(nb, w.seen);
    nb_free(nb, w.x);
    nb_free(nb, w.y);
    return m;
}
