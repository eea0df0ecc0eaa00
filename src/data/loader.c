/* loader.c: batches, prepared ahead by a thread.
 *
 * A ring of slots, each with room for one batch. The thread fills slots in order and the caller copies them out in order; the
 * slot taken last stays the caller's until the next call, so that a call locks once. All memory is allocated beforehand and the
 * thread does arithmetic only, so that nothing in it can fail and nothing in it touches the context. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "dataset.h"

enum { SLOTS = 4 };

typedef struct slot {
    float   *x; /* [batch, item...] */
    int64_t *y; /* [batch] */
} slot;

struct nb_loader {
    nb_context       *nb;
    const nb_dataset *d;
    nb_loader_options options;
    int64_t           steps;
    int64_t          *order; /* [count]: which item comes when in this epoch */
    float             of_u8[256];
    slot              slots[SLOTS];
    bool              has_started, has_thread, has_locks;
    pthread_t         thread;
    pid_t             process; /* whose thread it is: a fork does not take it along */
    pthread_mutex_t   lock;    /* guards what follows */
    pthread_cond_t    changed;
    int64_t           filled;  /* batches before this one are ready */
    int64_t           free_to; /* batches before this one have room in the ring */
    int64_t           end;     /* where the epoch ends; for the thread to stop at */
    int64_t           taken;   /* the caller's next batch; the caller's alone */
    bool              is_filling, must_stop;
};

/* -------------------------------------------------------------------------------------------------------------------- batches */

/* Fisher & Yates, 1938, in the form of Durstenfeld: all orders are equally likely. */
static void make_order(nb_loader *l, int64_t epoch) {
    for (int64_t i = 0; i < l->d->count; i++) l->order[i] = i;
    if (!l->options.shuffle) return;
    uint64_t state = nb__stream(l->options.seed, (uint64_t)epoch);
    for (int64_t i = l->d->count - 1; i > 0; i--) {
        int64_t j = (int64_t)nb__random_below(&state, (uint64_t)i + 1), kept = l->order[i];
        l->order[i] = l->order[j];
        l->order[j] = kept;
    }
}

static void fill_item(const nb_loader *l, int64_t item, float *x) {
    const nb_dataset *d = l->d;
    if (d->dtype == NB_U8) {
        const unsigned char *v = (const unsigned char *)d->items + item * d->elements;
        for (int64_t i = 0; i < d->elements; i++) x[i] = l->of_u8[v[i]];
    } else {
        const float *v = (const float *)d->items + item * d->elements;
        for (int64_t i = 0; i < d->elements; i++) x[i] = (float)(((double)v[i] - l->options.mean) / l->options.std);
    }
}

/* Items come from anywhere in memory: the next one is on its way while this one is converted. */
static void fetch_item(const nb_dataset *d, int64_t item) {
    enum { LINE = 64 };
    size_t      bytes = (size_t)d->elements * nb_dtype_size(d->dtype);
    const char *at = d->items + (size_t)item * bytes;
    for (size_t i = 0; i < bytes && i < 64 * LINE; i += LINE) __builtin_prefetch(at + i);
}

static void fill(const nb_loader *l, int64_t batch) {
    const nb_dataset *d = l->d;
    slot              s = l->slots[batch % SLOTS];
    int64_t           size = l->options.batch, first = batch * size, n = d->count - first < size ? d->count - first : size;
    for (int64_t i = 0; i < n; i++) {
        int64_t item = l->order[first + i];
        if (i + 1 < n) fetch_item(d, l->order[first + i + 1]);
        fill_item(l, item, s.x + i * d->elements);
        s.y[i] = d->labels[item];
    }
    for (int64_t i = n; i < size; i++) {
        memset(s.x + i * d->elements, 0, (size_t)d->elements * sizeof *s.x);
        s.y[i] = -1;
    }
}

/* --------------------------------------------------------------------------------------------------------------------- thread */

static void *work(void *loader) {
    nb_loader *l = loader;
    pthread_mutex_lock(&l->lock);
    while (!l->must_stop) {
        if (l->filled >= l->end || l->filled >= l->free_to) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        int64_t batch = l->filled;
        l->is_filling = true;
        pthread_mutex_unlock(&l->lock);
        fill(l, batch);
        pthread_mutex_lock(&l->lock);
        l->is_filling = false;
        l->filled++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Where no thread can be had, batches are prepared by nb_loader_next: they are the same. Signals are for the program's own
 * threads. */
static void start_thread(nb_loader *l) {
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return;
    l->has_thread = pthread_create(&l->thread, NULL, work, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ------------------------------------------------------------------------------------------------------------------ interface */

static void free_loader(void *object) {
    nb_loader *l = object;
    bool       is_here = l->process == getpid(); /* else there is no thread, and no lock can be relied on */
    if (l->has_thread && is_here) {
        pthread_mutex_lock(&l->lock);
        l->must_stop = true;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    if (l->has_locks && is_here) {
        pthread_cond_destroy(&l->changed);
        pthread_mutex_destroy(&l->lock);
    }
    for (int i = 0; i < SLOTS; i++) {
        nb_free(l->nb, l->slots[i].x);
        nb_free(l->nb, l->slots[i].y);
    }
    nb_free(l->nb, l->order);
    nb_free(l->nb, l);
}

void nb_loader_free(nb_loader *l) {
    if (!l) return;
    nb_disown(l->nb, l);
    free_loader(l);
}

static bool check_options(nb_context *nb, const nb_dataset *d, const nb_loader_options *o) {
    int64_t bytes;
    if (o->batch < 1) {
        nb_fail(nb, NB_INVALID, "data loader: a batch of %lld items; at least 1", (long long)o->batch);
        return false;
    }
    if (!(o->mean - o->mean == 0) || !(o->std - o->std == 0) || o->std < 0) {
        nb_fail(nb, NB_INVALID, "data loader: mean %g and std %g must be finite, std not negative", o->mean, o->std);
        return false;
    }
    if (__builtin_mul_overflow(o->batch, d->elements, &bytes) || __builtin_mul_overflow(bytes, (int64_t)sizeof(float), &bytes) ||
        o->batch > INT64_MAX / 16 - d->count) {
        nb_fail(nb, NB_INVALID, "data loader: a batch of %lld items is more than memory can address", (long long)o->batch);
        return false;
    }
    if (d->count < o->batch && !o->keep_last) {
        nb_fail(nb, NB_INVALID, "data loader: %lld items do not fill one batch of %lld: make batches smaller or set keep_last",
                (long long)d->count, (long long)o->batch);
        return false;
    }
    return true;
}

nb_loader *nb_loader_new(nb_dataset *d, const nb_loader_options *options) {
    if (!d || nb_error(d->nb)) return NULL;
    nb_loader_options o = options ? *options : (nb_loader_options){0};
    if (o.batch == 0) o.batch = 64;
    if (o.std == 0) o.std = 1;
    if (!check_options(d->nb, d, &o)) return NULL;
    nb_loader *l = nb_alloc(d->nb, sizeof *l);
    if (!l) return NULL;
    l->nb = d->nb;
    l->d = d;
    l->process = getpid();
    l->options = o;
    l->steps = (d->count + (o.keep_last ? o.batch - 1 : 0)) / o.batch;
    for (int i = 0; i < 256; i++) l->of_u8[i] = (float)((i / 255.0 - o.mean) / o.std);
    bool ok = (l->order = nb_alloc(l->nb, (size_t)d->count * sizeof *l->order)) != NULL;
    for (int i = 0; i < SLOTS && ok; i++) {
        ok = (l->slots[i].x = nb_alloc(l->nb, (size_t)(o.batch * d->elements) * sizeof(float))) != NULL &&
             (l->slots[i].y = nb_alloc(l->nb, (size_t)o.batch * sizeof(int64_t))) != NULL;
    }
    if (!ok) {
        free_loader(l);
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL); /* neither can fail with default attributes on the systems we know */
    pthread_cond_init(&l->changed, NULL);
    l->has_locks = true;
    if (!o.no_thread) start_thread(l);
    return nb_own(l->nb, l, free_loader) ? l : NULL;
}

static bool has_thread_here(const nb_loader *l, const char *user) {
    if (!l->has_thread || l->process == getpid()) return true;
    nb_fail(l->nb, NB_INVALID,
            "%s: this process was forked, and the loader's thread stayed behind: make a loader here, or one with no_thread",
            user);
    return false;
}

int64_t nb_loader_steps(const nb_loader *l) { return l ? l->steps : 0; }

bool nb_loader_start(nb_loader *l, int64_t epoch, int64_t batch) {
    if (!l || nb_error(l->nb) || !has_thread_here(l, "nb_loader_start")) return false;
    if (epoch < 0 || batch < 0 || batch > l->steps) {
        nb_fail(l->nb, NB_INVALID, "nb_loader_start: epoch %lld, batch %lld; an epoch has the batches 0 to %lld",
                (long long)epoch, (long long)batch, (long long)l->steps - 1);
        return false;
    }
    pthread_mutex_lock(&l->lock);
    l->end = 0; /* the thread rests ... */
    while (l->is_filling) pthread_cond_wait(&l->changed, &l->lock);
    make_order(l, epoch); /* ... while the order changes */
    l->filled = l->taken = batch;
    l->free_to = batch + SLOTS;
    l->end = l->steps;
    l->has_started = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return true;
}

/* x may have any shape of as many elements, [batch, 784] for images of 28 x 28. */
static bool check_tensors(const nb_loader *l, const nb_tensor *x, const nb_tensor *y) {
    int64_t batch = l->options.batch;
    if (!x || !y) {
        nb_fail(l->nb, NB_INVALID, "nb_loader_next: %s is NULL: it takes a tensor for the items and one for the labels",
                x ? "y" : "x");
        return false;
    }
    if (nb_dtype_of(x) != NB_F32 || nb_rank(x) < 1 || nb_size(x, 0) != batch || nb_count(x) != batch * l->d->elements) {
        nb_fail(l->nb, NB_INVALID,
                "nb_loader_next: x is %s with %lld elements, %lld the first size; needed is f32 with %lld items of %lld "
                "elements",
                nb_dtype_name(nb_dtype_of(x)), (long long)nb_count(x), (long long)(nb_rank(x) ? nb_size(x, 0) : 1),
                (long long)batch, (long long)l->d->elements);
        return false;
    }
    if (nb_dtype_of(y) != NB_I64 || nb_count(y) != batch) {
        nb_fail(l->nb, NB_INVALID, "nb_loader_next: y is %s with %lld elements; needed are %lld labels of i64",
                nb_dtype_name(nb_dtype_of(y)), (long long)nb_count(y), (long long)batch);
        return false;
    }
    return true;
}

bool nb_loader_next(nb_loader *l, nb_tensor *x, nb_tensor *y) {
    if (!l || nb_error(l->nb) || !has_thread_here(l, "nb_loader_next")) return false;
    if (!l->has_started) {
        nb_fail(l->nb, NB_INVALID, "nb_loader_next: no epoch was begun; call nb_loader_start first");
        return false;
    }
    if (!check_tensors(l, x, y) || l->taken == l->steps) return false;
    int64_t batch = l->taken++;
    if (l->has_thread) {
        pthread_mutex_lock(&l->lock);
        if (l->free_to < batch + SLOTS) { /* the slot of the batch before this one is free now */
            l->free_to = batch + SLOTS;
            pthread_cond_broadcast(&l->changed);
        }
        while (l->filled <= batch) pthread_cond_wait(&l->changed, &l->lock);
        pthread_mutex_unlock(&l->lock);
    } else {
        fill(l, batch);
    }
    slot s = l->slots[batch % SLOTS];
    return nb_set(x, s.x, nb_bytes(x)) && nb_set(y, s.y, nb_bytes(y));
}
