/* dataset.c: labelled items in memory, and the random numbers that divide and shuffle them. */
#include <math.h>
#include <string.h>

#include "dataset.h"

/* ------------------------------------------------------------------------------------------------------------ random numbers */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t next_random(uint64_t *state) { return mix(*state += 0x9e3779b97f4a7c15u); }

/* Both words go through the mixer, so that neighbouring seeds and uses start far apart. */
uint64_t nb__stream(uint64_t seed, uint64_t use) {
    uint64_t state = seed;
    state = next_random(&state) ^ use;
    return next_random(&state);
}

/* The lowest 2^64 mod n numbers are refused: what is left divides evenly. */
uint64_t nb__random_below(uint64_t *state, uint64_t n) {
    uint64_t refuse = (0 - n) % n, r;
    do r = next_random(state);
    while (r < refuse);
    return r % n;
}

/* ----------------------------------------------------------------------------------------------------------------------- sets */

static void free_set(void *object) {
    nb_dataset *d = object;
    nb_free(d->nb, d->items);
    nb_free(d->nb, d->labels);
    nb_free(d->nb, d);
}

void nb_dataset_free(nb_dataset *d) {
    if (!d) return;
    nb_disown(d->nb, d);
    free_set(d);
}

nb_dataset *nb__dataset_new(nb_context *nb, nb_dtype dtype, int64_t count, nb_dims item, int64_t classes) {
    int64_t elements = 1, bytes, label_bytes;
    bool    too_large = false;
    for (int i = 0; i < item.rank; i++) too_large |= __builtin_mul_overflow(elements, item.size[i], &elements);
    too_large |= __builtin_mul_overflow(elements, (int64_t)nb_dtype_size(dtype), &bytes) ||
                 __builtin_mul_overflow(bytes, count, &bytes) ||
                 __builtin_mul_overflow(count, (int64_t)sizeof(int64_t), &label_bytes);
    if (too_large) {
        nb_fail(nb, NB_INVALID, "data set: %lld items of this shape are more than memory can address", (long long)count);
        return NULL;
    }
    nb_dataset *d = nb_alloc(nb, sizeof *d);
    if (!d) return NULL;
    *d = (nb_dataset){.nb = nb, .dtype = dtype, .count = count, .classes = classes, .item = item, .elements = elements};
    d->items = nb_alloc(nb, (size_t)bytes);
    d->labels = d->items ? nb_alloc(nb, (size_t)label_bytes) : NULL;
    if (d->labels) return nb_own(nb, d, free_set) ? d : NULL;
    free_set(d);
    return NULL;
}

static bool check_set(nb_context *nb, nb_dtype dtype, int64_t count, nb_dims item, const void *items, const int64_t *labels,
                      int64_t classes) {
    bool is_empty = count == 0;
    if (dtype != NB_U8 && dtype != NB_F32) {
        nb_fail(nb, NB_INVALID, "data set: items are u8 or f32, not %s: convert them first", nb_dtype_name(dtype));
        return false;
    }
    if (item.rank < 0 || item.rank >= NB_MAX_RANK) {
        nb_fail(nb, NB_INVALID, "data set: an item has rank 0 to %d, one less than a batch of them", NB_MAX_RANK - 1);
        return false;
    }
    for (int i = 0; i < item.rank; i++) {
        is_empty |= item.size[i] == 0;
        if (item.size[i] < 0) {
            nb_fail(nb, NB_INVALID, "data set: axis %d of the items has the negative size %lld", i, (long long)item.size[i]);
            return false;
        }
    }
    if (count < 0) {
        nb_fail(nb, NB_INVALID, "data set: a count of %lld items is negative", (long long)count);
        return false;
    }
    if ((count > 0 && !labels) || (!is_empty && !items)) {
        nb_fail(nb, NB_INVALID, "data set: %lld items, but %s is NULL", (long long)count, labels ? "items" : "labels");
        return false;
    }
    for (int64_t i = 0; i < count; i++)
        if (labels[i] < 0 || labels[i] >= classes) {
            nb_fail(nb, NB_INVALID, "data set: label %lld of item %lld is not in 0 to %lld, that is, below the number of classes",
                    (long long)labels[i], (long long)i, (long long)classes - 1);
            return false;
        }
    return true;
}

nb_dataset *nb_dataset_from(nb_context *nb, nb_dtype dtype, int64_t count, nb_dims item, const void *items, const int64_t *labels,
                            int64_t classes) {
    if (nb_error(nb) || !check_set(nb, dtype, count, item, items, labels, classes)) return NULL;
    nb_dataset *d = nb__dataset_new(nb, dtype, count, item, classes);
    size_t      item_bytes = d ? (size_t)d->elements * nb_dtype_size(dtype) : 0;
    if (!d || count == 0) return d;
    if (item_bytes > 0) memcpy(d->items, items, (size_t)count * item_bytes);
    memcpy(d->labels, labels, (size_t)count * sizeof *labels);
    return d;
}

/* Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S): item i is taken with probability (still
 * wanted) / (still to come). Every choice of `count` items is equally likely, and both sets keep their order. */
nb_dataset *nb_dataset_split(nb_dataset *d, int64_t count, uint64_t seed) {
    if (!d || nb_error(d->nb)) return NULL;
    if (count < 0 || count > d->count) {
        nb_fail(d->nb, NB_INVALID, "nb_dataset_split: %lld items cannot be taken out of a set of %lld", (long long)count,
                (long long)d->count);
        return NULL;
    }
    nb_dataset *taken = nb__dataset_new(d->nb, d->dtype, count, d->item, d->classes);
    if (!taken) return NULL;
    size_t   bytes = (size_t)d->elements * nb_dtype_size(d->dtype);
    int64_t  n_taken = 0, n_left = 0;
    uint64_t state = nb__stream(seed, 0x73706c6974u); /* "split": another stream than the loader's orders */
    for (int64_t i = 0; i < d->count; i++) {
        bool        take = nb__random_below(&state, (uint64_t)(d->count - i)) < (uint64_t)(count - n_taken);
        nb_dataset *to = take ? taken : d;
        int64_t     at = take ? n_taken++ : n_left++;
        memmove(to->items + (size_t)at * bytes, d->items + (size_t)i * bytes, bytes);
        to->labels[at] = d->labels[i];
    }
    d->count = n_left;
    return taken;
}

/* -------------------------------------------------------------------------------------------------------------------- queries */

int64_t  nb_dataset_count(const nb_dataset *d) { return d ? d->count : 0; }
int64_t  nb_dataset_classes(const nb_dataset *d) { return d ? d->classes : 0; }
nb_dims  nb_dataset_item(const nb_dataset *d) { return d ? d->item : (nb_dims){.rank = -1}; }
nb_dtype nb_dataset_dtype(const nb_dataset *d) { return d ? d->dtype : NB_U8; }
int64_t  nb_dataset_label(const nb_dataset *d, int64_t i) { return d && i >= 0 && i < d->count ? d->labels[i] : -1; }

const void *nb_dataset_values(const nb_dataset *d, int64_t i) {
    if (!d || i < 0 || i >= d->count) return NULL;
    return d->items + (size_t)i * (size_t)d->elements * nb_dtype_size(d->dtype);
}

/* u8: from counts of the 256 values, which are exact. */
static void statistics_u8(const nb_dataset *d, int64_t n, double *mean, double *variance) {
    int64_t              seen[256] = {0};
    const unsigned char *v = (const unsigned char *)d->items;
    for (int64_t i = 0; i < n; i++) seen[v[i]]++;
    double sum = 0, squares = 0;
    for (int i = 0; i < 256; i++) sum += (double)seen[i] * i;
    double m = sum / (double)n;
    for (int i = 0; i < 256; i++) squares += (double)seen[i] * (i - m) * (i - m);
    *mean = m / 255;
    *variance = squares / (double)n / (255.0 * 255.0);
}

static void statistics_f32(const nb_dataset *d, int64_t n, double *mean, double *variance) {
    const float *v = (const float *)d->items;
    double       sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += ((double)v[i] - *mean) * ((double)v[i] - *mean);
    *variance = squares / (double)n;
}

void nb_dataset_statistics(const nb_dataset *d, double *mean, double *std) {
    double  m = 0, variance = 0;
    int64_t n = d ? d->count * d->elements : 0;
    if (n > 0 && d->dtype == NB_U8)
        statistics_u8(d, n, &m, &variance);
    else if (n > 0)
        statistics_f32(d, n, &m, &variance);
    if (mean) *mean = m;
    if (std) *std = sqrt(variance);
}
