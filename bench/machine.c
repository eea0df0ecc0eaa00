/* machine.c: the arithmetic peak and the bandwidth of this machine.
 *
 * Arithmetic: twelve independent chains of multiply-adds hide the latency of each; nothing is loaded or stored. Bandwidth: a copy,
 * because it reads and writes as most loops do. Both are the best of many short blocks. */
#include "machine.h"

#include "clock.h"

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 20000, MOST_THREADS = 256 };

/* Written in assembly, because compilers keep such chains in memory or compute them beforehand. The numbers do not matter.
 * Each returns its operations. */
static double multiply_add_baseline(void) {
    for (int i = 0; i < TURNS; i++)
        __asm__ volatile("mulps %%xmm0, %%xmm0\n addps %%xmm8, %%xmm8\n"
                         "mulps %%xmm1, %%xmm1\n addps %%xmm9, %%xmm9\n"
                         "mulps %%xmm2, %%xmm2\n addps %%xmm10, %%xmm10\n"
                         "mulps %%xmm3, %%xmm3\n addps %%xmm11, %%xmm11\n"
                         "mulps %%xmm4, %%xmm4\n addps %%xmm12, %%xmm12\n"
                         "mulps %%xmm5, %%xmm5\n addps %%xmm13, %%xmm13\n"
                         "mulps %%xmm6, %%xmm6\n addps %%xmm14, %%xmm14\n"
                         "mulps %%xmm7, %%xmm7\n addps %%xmm15, %%xmm15" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                               "xmm12", "xmm13", "xmm14", "xmm15");
    return 4.0 * 16 * TURNS;
}

__attribute__((target("avx2,fma"))) static double multiply_add_v3(void) {
    for (int i = 0; i < TURNS; i++)
        __asm__ volatile("vfmadd231ps %%ymm0, %%ymm0, %%ymm0\n vfmadd231ps %%ymm1, %%ymm1, %%ymm1\n"
                         "vfmadd231ps %%ymm2, %%ymm2, %%ymm2\n vfmadd231ps %%ymm3, %%ymm3, %%ymm3\n"
                         "vfmadd231ps %%ymm4, %%ymm4, %%ymm4\n vfmadd231ps %%ymm5, %%ymm5, %%ymm5\n"
                         "vfmadd231ps %%ymm6, %%ymm6, %%ymm6\n vfmadd231ps %%ymm7, %%ymm7, %%ymm7\n"
                         "vfmadd231ps %%ymm8, %%ymm8, %%ymm8\n vfmadd231ps %%ymm9, %%ymm9, %%ymm9\n"
                         "vfmadd231ps %%ymm10, %%ymm10, %%ymm10\n vfmadd231ps %%ymm11, %%ymm11, %%ymm11" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
    _mm256_zeroupper();
    return 8.0 * 12 * TURNS * 2;
}

__attribute__((target("avx512f"))) static double multiply_add_v4(void) {
    for (int i = 0; i < TURNS; i++)
        __asm__ volatile("vfmadd231ps %%zmm0, %%zmm0, %%zmm0\n vfmadd231ps %%zmm1, %%zmm1, %%zmm1\n"
                         "vfmadd231ps %%zmm2, %%zmm2, %%zmm2\n vfmadd231ps %%zmm3, %%zmm3, %%zmm3\n"
                         "vfmadd231ps %%zmm4, %%zmm4, %%zmm4\n vfmadd231ps %%zmm5, %%zmm5, %%zmm5\n"
                         "vfmadd231ps %%zmm6, %%zmm6, %%zmm6\n vfmadd231ps %%zmm7, %%zmm7, %%zmm7\n"
                         "vfmadd231ps %%zmm8, %%zmm8, %%zmm8\n vfmadd231ps %%zmm9, %%zmm9, %%zmm9\n"
                         "vfmadd231ps %%zmm10, %%zmm10, %%zmm10\n vfmadd231ps %%zmm11, %%zmm11, %%zmm11" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
    _mm256_zeroupper();
    return 16.0 * 12 * TURNS * 2;
}

static void copy_plain(float *to, const float *from, int64_t n) { memcpy(to, from, (size_t)n * sizeof *to); }

/* Past the cache: without reading first what will be overwritten. n is a multiple of 4, to is aligned. */
static void copy_streaming(float *to, const float *from, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
    _mm_sfence();
}

/* What one thread does in a block: arithmetic or its part of a copy. */
typedef struct task {
    double (*arithmetic)(void);
    void (*copy)(float *, const float *, int64_t);
    float       *to;
    const float *from;
    int64_t      n;
    int          repeat;
    double       flops;
} task;

static void *work(void *p) {
    task *t = p;
    for (int i = 0; i < t->repeat; i++)
        if (t->arithmetic)
            t->flops += t->arithmetic();
        else
            t->copy(t->to, t->from, t->n);
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

double measure_arithmetic(const char *isa, int threads) {
    double (*arithmetic)(void) = multiply_add_baseline;
    if (!strcmp(isa, "v3")) arithmetic = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? multiply_add_v3 : NULL;
    if (!strcmp(isa, "v4")) arithmetic = __builtin_cpu_supports("avx512f") ? multiply_add_v4 : NULL;
    if (!arithmetic || threads > MOST_THREADS) return 0;
    double best = 0;
    for (int block = 0; block < 15; block++) {
        task   tasks[MOST_THREADS];
        double flops = 0;
        for (int i = 0; i < threads; i++) tasks[i] = (task){.arithmetic = arithmetic, .repeat = 50};
        double ms = run_block(tasks, threads);
        for (int i = 0; i < threads; i++) flops += tasks[i].flops;
        best = fmax(best, flops / ms * 1e-6);
    }
    return best;
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
    for (int block = 0; block < 12; block++) {
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
