/* threads.c: a pool of threads that cut a call into tiles.
 *
 * The one idea: `left` tells the tiles nobody has taken yet, as the first one and the end. Whoever moves one of these owns that
 * tile. A thread that wakes late finds none and touches nothing else, so the caller waits for tiles, never for threads: with all
 * others asleep it does the work alone. Every other thread takes tiles from the back: of two threads each has much the same half
 * in call after call, and finds in its own cache what it left there. A worker looks for work for some ten microseconds, giving
 * way to other threads meanwhile, and then sleeps. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
static void pause_briefly(void) { _mm_pause(); }
/* All exceptions masked, round to nearest, no flush to zero. */
enum { DEFAULT_MXCSR = 0x1f80 };
unsigned nb__float_enter(void) {
    unsigned state = _mm_getcsr();
    if (state != DEFAULT_MXCSR) _mm_setcsr(DEFAULT_MXCSR);
    return state;
}
void nb__float_leave(unsigned state) { _mm_setcsr(state); }
#else
static void pause_briefly(void) {}
unsigned nb__float_enter(void) { return 0; }
void     nb__float_leave(unsigned state) { (void)state; }
#endif

#if NB_DNNL
/* oneDNN threads with OpenMP: a tile must stay in its thread. The prototype stands here because <omp.h> needs -fopenmp with
 * clang. */
void omp_set_num_threads(int n);
#endif

enum { MAX_THREADS = 1024, SPINS = 2000, PAUSES_A_SPIN = 8 };

typedef struct worker {
    nb_pool  *pool;
    int       number; /* 1 .. n - 1; the caller is 0 */
    pthread_t thread;
} worker;

struct nb_pool {
    int             n;
    pid_t           process; /* whose threads they are: a fork takes none along */
    pthread_mutex_t call;  /* held by the one who calls nb__parallel */
    pthread_mutex_t sleep; /* guards waiting on wake */
    pthread_cond_t  wake;
    atomic_int      sleepers;
    atomic_bool     stop;

    /* The call. task and arg are written while nothing is left, and read only by owners of a tile. */
    nb__task *task;
    void     *arg;
    _Alignas(64) _Atomic uint64_t left; /* of two halves: first, end */
    _Alignas(64) _Atomic int64_t done;
    worker workers[];
};

/* The pool this thread computes for at the moment, for calls from within a task. */
static _Thread_local const nb_pool *inside;
static _Thread_local int            inside_number;

static uint32_t first_of(uint64_t left) { return (uint32_t)(left >> 32); }
static uint32_t end_of(uint64_t left) { return (uint32_t)left; }
static bool     is_any(uint64_t left) { return first_of(left) < end_of(left); }

/* Takes tiles until none is left. */
static void work(nb_pool *p, int number) {
    int64_t  done = 0;
    uint64_t left = atomic_load_explicit(&p->left, memory_order_acquire);
    while (is_any(left)) {
        bool     back = number & 1;
        uint64_t rest = back ? left - 1 : left + (UINT64_C(1) << 32);
        if (!atomic_compare_exchange_weak_explicit(&p->left, &left, rest, memory_order_acquire, memory_order_acquire)) continue;
        p->task(p->arg, back ? end_of(rest) : first_of(left), number);
        done++;
        left = atomic_load_explicit(&p->left, memory_order_acquire);
    }
    if (done) atomic_fetch_add_explicit(&p->done, done, memory_order_release);
}

static bool has_work(nb_pool *p) { return is_any(atomic_load(&p->left)) || atomic_load(&p->stop); }

/* Waits until there may be work: first awake, then asleep. */
static void await_work(nb_pool *p) {
    for (int i = 0; i < SPINS; i++) {
        for (int j = 0; j < PAUSES_A_SPIN; j++) {
            if (has_work(p)) return;
            pause_briefly();
        }
        if (i % 64 == 63) sched_yield();
    }
    pthread_mutex_lock(&p->sleep);
    atomic_fetch_add(&p->sleepers, 1); /* before the look at `left`: the caller writes that first and looks at this then */
    while (!has_work(p)) pthread_cond_wait(&p->wake, &p->sleep);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->sleep);
}

static void *worker_main(void *arg) {
    worker  *w = arg;
    nb_pool *p = w->pool;
    nb__float_enter();
#if NB_DNNL
    omp_set_num_threads(1);
#endif
    inside = p;
    inside_number = w->number;
    while (!atomic_load(&p->stop)) {
        await_work(p);
        work(p, w->number);
    }
    return NULL;
}

static void wake_all(nb_pool *p) {
    pthread_mutex_lock(&p->sleep);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->sleep);
}

void nb__parallel(nb_pool *p, int64_t tiles, nb__task *task, void *arg) {
    if (!p || p->n == 1 || tiles <= 1 || tiles > UINT32_MAX || inside) {
        int number = inside && inside == p ? inside_number : 0;
        for (int64_t i = 0; i < tiles; i++) task(arg, i, number);
        return;
    }
    pthread_mutex_lock(&p->call);
    inside = p;
    inside_number = 0;
    p->task = task;
    p->arg = arg;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->left, (uint64_t)tiles);
    if (atomic_load(&p->sleepers) > 0) wake_all(p);
    work(p, 0);
    for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < tiles; i++) {
        if (i < SPINS) pause_briefly();
        else sched_yield();
    }
    inside = NULL;
    pthread_mutex_unlock(&p->call);
}

int nb__pool_threads(const nb_pool *p) { return p ? p->n : 1; }

bool nb__pool_is_here(const nb_pool *p) { return !p || p->n == 1 || p->process == getpid(); }

/* Ends the first `started` workers and frees the pool. In a forked process there are none to end, and no lock can be relied
 * on. */
static void end(nb_pool *p, int started) {
    if (!nb__pool_is_here(p)) {
        free(p);
        return;
    }
    atomic_store(&p->stop, true);
    wake_all(p);
    for (int i = 0; i < started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->sleep);
    pthread_mutex_destroy(&p->call);
    free(p);
}

nb_pool *nb_pool_new(int n) {
    if (n < 1 || n > MAX_THREADS) return NULL;
    size_t   size = sizeof(nb_pool) + (size_t)(n - 1) * sizeof(worker);
    nb_pool *p = aligned_alloc(_Alignof(nb_pool), (size + _Alignof(nb_pool) - 1) / _Alignof(nb_pool) * _Alignof(nb_pool));
    if (!p) return NULL;
    p->n = n;
    p->process = getpid();
    p->task = NULL;
    p->arg = NULL;
    atomic_init(&p->sleepers, 0);
    atomic_init(&p->stop, false);
    atomic_init(&p->left, 0);
    atomic_init(&p->done, 0);
    if (pthread_mutex_init(&p->call, NULL) != 0) goto no_call;
    if (pthread_mutex_init(&p->sleep, NULL) != 0) goto no_sleep;
    if (pthread_cond_init(&p->wake, NULL) != 0) goto no_wake;
    for (int i = 0; i < n - 1; i++) {
        worker *w = &p->workers[i];
        w->pool = p;
        w->number = i + 1;
        if (pthread_create(&w->thread, NULL, worker_main, w) == 0) continue;
        end(p, i);
        return NULL;
    }
    return p;
no_wake:
    pthread_mutex_destroy(&p->sleep);
no_sleep:
    pthread_mutex_destroy(&p->call);
no_call:
    free(p);
    return NULL;
}

void nb_pool_free(nb_pool *p) {
    if (p) end(p, p->n - 1);
}
