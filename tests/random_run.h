/* random_run.h: runs graphs and compares what comes out, for test_random_graphs.c and test_promises.c. */
#ifndef RANDOM_RUN_H
#define RANDOM_RUN_H

#include "test.h"

#include "core.h"

enum { MAX_PARTS = 2048, MAX_KEPT = 1024 };
static const double MOST = 16; /* the largest scaled residual, as in LAPACK's tests */

/* A graph in a context, with what its kept tensors held at first. */
typedef struct instance {
    nb_context *nb;
    nb_list     roots;
    int         n_kept;
    nb_tensor  *kept[MAX_KEPT];
    void       *start[MAX_KEPT];
    uint64_t    random_step;
} instance;

/* The values of results and kept tensors after each run, or the last. */
typedef struct results {
    int     parts;
    int64_t first[MAX_PARTS + 1];
    int     run[MAX_PARTS], root[MAX_PARTS]; /* root -1 - i: the i-th kept tensor */
    double *value;
    int64_t room;
    bool    last_only;
} results;

static instance instance_of(nb_context *nb, nb_list roots) {
    instance g = {.nb = nb, .roots = roots};
    nb_list  kept = nb_kept(nb);
    for (int i = 0; i < kept.n && i < MAX_KEPT; i++) {
        g.kept[i] = kept.at[i];
        g.start[i] = malloc(nb_bytes(kept.at[i]) + 1);
        memcpy(g.start[i], kept.at[i]->storage->data, nb_bytes(kept.at[i]));
        g.n_kept = i + 1;
    }
    return g;
}

static void instance_free(instance *g) {
    for (int i = 0; i < g->n_kept; i++) {
        nb_release(g->kept[i]);
        free(g->start[i]);
    }
    g->n_kept = 0;
    nb_error_clear(g->nb);
    nb_next_step(g->nb);
}

static double number_at(nb_dtype dtype, const void *data, int64_t i) {
    switch (dtype) {
    case NB_F32: return (double)((const float *)data)[i];
    case NB_F64: return ((const double *)data)[i];
    case NB_I64: return (double)((const int64_t *)data)[i];
    case NB_I32: return ((const int32_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

static void keep(results *r, int run, int root, nb_dtype dtype, const void *data, int64_t n) {
    if (r->parts == MAX_PARTS) return;
    int64_t at = r->first[r->parts];
    if (at + n > r->room) {
        r->room = 2 * (at + n) + 1000;
        r->value = realloc(r->value, (size_t)r->room * sizeof *r->value);
    }
    for (int64_t i = 0; i < n; i++) r->value[at + i] = number_at(dtype, data, i);
    r->run[r->parts] = run;
    r->root[r->parts] = root;
    r->first[++r->parts] = at + n;
}

static bool is_assigned(const instance *g, const nb_tensor *kept) {
    for (int i = 0; i < g->roots.n; i++)
        if (g->roots.at[i]->op->kind == NB_ASSIGN && g->roots.at[i]->in[0] == kept) return true;
    return false;
}

/* Inputs hold other contents in the second run, and so does every other parameter that is not assigned: their elements turned by
 * one. noise: relative, of leaves. */
static void set_inputs(const instance *g, int run, double noise, uint64_t *seed) {
    for (int k = 0; k < g->n_kept; k++) {
        nb_tensor *t = g->kept[k];
        int64_t    n = nb_count(t);
        size_t     size = nb_dtype_size(nb_dtype_of(t));
        if (run && t->storage->is_versioned && (k % 2 || is_assigned(g, t))) continue;
        char *data = malloc((size_t)n * size + 1);
        for (int64_t i = 0; i < n; i++) {
            memcpy(data + (size_t)i * size, (char *)g->start[k] + (size_t)((i + run) % n) * size, size);
            if (noise == 0) continue;
            double factor = 1 + noise * (2 * next_real(seed) - 1);
            if (nb_dtype_of(t) == NB_F32) ((float *)data)[i] *= (float)factor;
            if (nb_dtype_of(t) == NB_F64) ((double *)data)[i] *= factor;
        }
        nb_set(t, data, nb_bytes(t));
        free(data);
    }
}

/* Runs a program from the start. False: the context has failed. */
static bool run_program(const instance *g, nb_program *p, int runs, double noise, results *r) {
    uint64_t seed = 99 + (uint64_t)(noise * 1e9);
    r->parts = 0;
    nb_set_random(g->nb, (nb_random_state){7, g->random_step});
    for (int run = 0; run < runs; run++) {
        set_inputs(g, run, noise, &seed);
        if (!nb_run(p)) return false;
        if (r->last_only && run + 1 < runs) continue;
        for (int i = 0; i < g->roots.n; i++) {
            const nb_tensor *t = g->roots.at[i];
            if (t->op->kind != NB_ASSIGN) keep(r, run, i, t->dtype, nb_data(nb_output(p, i)), nb_count(t));
        }
        for (int k = 0; k < g->n_kept; k++)
            if (g->kept[k]->storage->is_versioned)
                keep(r, run, -1 - k, g->kept[k]->dtype, g->kept[k]->storage->data, nb_count(g->kept[k]));
    }
    return !nb_error(g->nb);
}

static bool same_form(const results *a, const results *b) {
    return a->parts == b->parts && !memcmp(a->first, b->first, (size_t)(a->parts + 1) * sizeof *a->first);
}

static double largest(const results *r, int part) {
    double m = 0;
    for (int64_t i = r->first[part]; i < r->first[part + 1]; i++)
        if (isfinite(r->value[i]) && fabs(r->value[i]) > m) m = fabs(r->value[i]);
    return m;
}

/* The largest difference in a part; infinite where one is finite and the other is not. *at: where. */
static double difference(const results *a, const results *b, int part, int64_t *at) {
    double worst = 0;
    for (int64_t i = b->first[part]; i < b->first[part + 1]; i++) {
        double x = a->value[i], y = b->value[i], d = fabs(x - y);
        if (x == y || (isnan(x) && isnan(y))) continue;
        if (!(d <= worst)) {
            worst = isnan(d) ? INFINITY : d;
            if (at) *at = i - b->first[part];
        }
    }
    return worst;
}

/* What the reference is off by itself, for each part. */
typedef struct own_error {
    bool   is_known;
    double part[MAX_PARTS];
} own_error;

/* max |got - want| / (eps max |want| or what the reference is off by itself), of the worst part. */
typedef struct residual {
    double  ratio;
    int     part;
    int64_t at;
} residual;

static residual compare(const results *got, const results *want, double eps, const own_error *own) {
    residual worst = {0, 0, 0};
    if (!same_form(got, want)) return (residual){INFINITY, 0, 0};
    for (int k = 0; k < want->parts; k++) {
        int64_t at = 0;
        double  d = difference(got, want, k, &at), unit = eps * largest(want, k) + 1e-37;
        if (own && own->part[k] > unit) unit = own->part[k];
        double ratio = d / unit;
        if (isinf(d) && isinf(unit)) ratio = 0;
        if (ratio > worst.ratio) worst = (residual){ratio, k, at};
    }
    return worst;
}

#endif
