/* machine.c: the bandwidth of this machine: a copy, because it reads and writes as most loops do. */
#include "machine.h"

#include "clock.h"

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 12, MOST_THREADS = 256 };

static void copy_plain(float *to, const float *from, int64_t n) { memcpy(to, from, (size_t)n * sizeof *to); }

/* Past the cache: without reading first what will be overwritten. n is a multiple of 4, to is aligned. */
static void copy_streaming(float *to, const float *from, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
    _mm_sfence();
}

/* One thread's part of a block. */
typedef struct task {
    void (*copy)(float *, const float *, int64_t);
    float       *to;
    const float *from;
    int64_t      n;
    int          repeat;
} task;

static void *work(void *p) {
    const task *t = p;
    for (int i = 0; i < t->repeat; i++) t->copy(t->to, t->from, t->n);
    return NULL;
}

/* Time of one block on so many threads, ms. Threads are started anew: a block is long enough for that not to matter. */
static double run_block(task *tasks, int threads) {
    pthread_t id[MOST_THREADS];
    double    start = now_ms();
    for (int i = 1; i < threads; i++)
        if (pthread_create(&id[i], NULL, work, &tasks[i])) {
            fprintf(stderr, "cannot start %d threads\n", threads);
            exit(2);
        }
    work(&tasks[0]);
    for (int i = 1; i < threads; i++) pthread_join(id[i], NULL);
    return now_ms() - start;
}

double measure_copy(int64_t n, int threads) {
    int64_t part = (n / threads + 15) / 16 * 16; /* a thread's share, in whole cache lines */
    size_t  bytes = (size_t)(part * threads) * sizeof(float);
    float  *from = aligned_alloc(64, bytes), *to = aligned_alloc(64, bytes);
    if (!from || !to || threads > MOST_THREADS) {
        fprintf(stderr, "no memory for copies of %zu bytes\n", bytes);
        exit(2);
    }
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    int    repeat = (int)(4e7 / (double)(part * threads)) + 1;
    double best = 0;
    for (int block = 0; block < BLOCKS; block++) {
        task tasks[MOST_THREADS];
        for (int i = 0; i < threads; i++)
            tasks[i] = (task){.copy = block % 2 ? copy_streaming : copy_plain,
                              .to = to + part * i,
                              .from = from + part * i,
                              .n = part,
                              .repeat = repeat};
        double ms = run_block(tasks, threads);
        best = fmax(best, 2.0 * (double)bytes * repeat / ms * 1e-6);
    }
    free(from);
    free(to);
    return best;
}

double measure_arithmetic(const char *isa, int threads) {
    nb_context *nb = nb_open(&(nb_options){.threads = threads, .kernels = isa});
    double      rate = nb && !nb_error(nb) ? nb_measure_machine(nb).gflops : 0;
    nb_close(nb);
    return rate;
}

double best_arithmetic(int threads, const char **isa) {
    static const char *const isas[] = {"baseline", "v3", "v4"};
    double                   best = 0;
    for (int i = 0; i < 3; i++) {
        double rate = measure_arithmetic(isas[i], threads);
        if (rate <= best) continue;
        best = rate;
        if (isa) *isa = isas[i];
    }
    return best;
}
