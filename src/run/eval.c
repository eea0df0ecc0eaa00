/* eval.c: define-by-run. The graph below the tensors is turned into a key (operators, operands by number, attributes, shapes,
 * types); if a program with that key is known it runs again, else one is compiled. Values evaluated before and nb_from data are
 * arguments of the program, so that only structure counts. */
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "run.h"

enum { CACHE_SIZE = 256 };
static const size_t cache_bytes = (size_t)512 << 20; /* of their memory, at most, but for the program in use */

typedef struct cache {
    nb_program *program[CACHE_SIZE];
    uint64_t    clock, n_released;
} cache;

void nb__cache_free(nb_context *nb) {
    cache *c = nb->cache;
    for (int i = 0; c && i < CACHE_SIZE; i++)
        if (c->program[i]) nb__program_free(c->program[i]);
    nb_free(nb, c);
    nb->cache = NULL;
}

/* A growing key in step memory. */
typedef struct writer {
    nb_context *nb;
    char       *at;
    size_t      n, room;
} writer;

static bool put(writer *w, const void *data, size_t n) {
    if (w->n + n > w->room) {
        size_t room = w->room ? w->room : 4096;
        while (room < w->n + n) room *= 2;
        char *more = nb__step_alloc(w->nb, room);
        if (!more) return false;
        if (w->n) memcpy(more, w->at, w->n);
        w->at = more;
        w->room = room;
    }
    if (n) memcpy(w->at + w->n, data, n);
    w->n += n;
    return true;
}

static bool put_node(writer *w, const nb_tensor *t) {
    const void *what = t->storage ? (const void *)t->storage : t->value ? NULL : (const void *)t->op;
    int64_t     head[3] = {t->dtype, t->shape.rank, t->value ? 0 : t->n_in};
    if (!put(w, &what, sizeof what) || !put(w, head, sizeof head)) return false;
    if (!put(w, t->shape.size, (size_t)t->shape.rank * sizeof *t->shape.size)) return false;
    if (t->value || t->storage) return true;
    for (int k = 0; k < t->n_in; k++)
        if (!put(w, &t->in[k]->index, sizeof t->in[k]->index)) return false;
    return !t->op->attr_size || put(w, t->attr, t->op->attr_size);
}

/* Results made before a kept tensor changed would mix old and new. */
static bool up_to_date(nb_tensor *t) {
    for (int k = 0; k < t->n_in && !t->value; k++) {
        const nb_tensor *in = t->in[k];
        if (!in->storage || in->storage->written <= t->serial) continue;
        nb__fail_at(t, NB_INVALID,
                    "%s was made from %s before that changed (nb_set, nb_run or a load): build it again, or read nb_output of "
                    "the program",
                    nb__describe(t), in->name);
        return false;
    }
    return true;
}

static bool make_key(nb_context *nb, nb_list graph, nb_list roots, writer *w) {
    *w = (writer){.nb = nb};
    for (int i = 0; i < graph.n; i++) {
        nb_tensor *t = graph.at[i];
        if (t->op->kind == NB_ASSIGN && !t->value) {
            nb__fail_at(t, NB_INVALID, "nb_eval: only nb_run executes assigns (to %s)", t->in[0]->name);
            return false;
        }
        if (t->is_released) {
            nb_fail(nb, NB_INVALID, "%s was given back with nb_release, but the graph still uses it", t->name);
            return false;
        }
        if (!up_to_date(t) || !put_node(w, t)) return false;
    }
    for (int i = 0; i < roots.n; i++)
        if (!put(w, &roots.at[i]->index, sizeof roots.at[i]->index)) return false;
    return true;
}

static void drop(nb_program **slot) {
    nb__program_free(*slot);
    *slot = NULL;
}

/* Programs of kept tensors that were given back can never run again. */
static void drop_released(cache *c) {
    for (int i = 0; i < CACHE_SIZE; i++) {
        nb_program *p = c->program[i];
        bool        gone = false;
        for (int k = 0; p && k < p->n_kept; k++) gone |= p->kept[k]->is_released;
        if (gone) drop(&c->program[i]);
    }
}

/* Gives back the programs that were not used for longest until the rest is small enough. */
static void drop_oldest(cache *c) {
    for (;;) {
        size_t bytes = 0;
        int    oldest = -1;
        for (int i = 0; i < CACHE_SIZE; i++) {
            if (!c->program[i]) continue;
            bytes += c->program[i]->workspace_bytes + c->program[i]->lasting_bytes + c->program[i]->prepared_bytes;
            if (oldest < 0 || c->program[i]->used < c->program[oldest]->used) oldest = i;
        }
        if (bytes <= cache_bytes || oldest < 0) return;
        drop(&c->program[oldest]);
    }
}

static nb_program *compile(nb_context *nb, nb_list roots, const writer *key, uint64_t h, nb_program **slot) {
    nb__compile how = {.arguments = true};
    nb__parse_passes(nb, getenv("NABLA_PASSES"), &how);
    nb_program *p = nb__compile_graph(nb, roots, &how);
    if (!p) return NULL;
    char *copy = p->is_good ? nb__program_alloc(p, key->n) : NULL;
    if (!copy) {
        nb__program_free(p);
        return NULL;
    }
    p->key = memcpy(copy, key->at, key->n);
    p->key_bytes = key->n;
    p->hash = h;
    if (*slot) nb__program_free(*slot);
    return *slot = p;
}

/* The program for a key: known, or compiled into the slot that was not used for longest. */
static nb_program *find_program(nb_context *nb, nb_list roots, const writer *key) {
    cache *c = nb->cache;
    if (!c && !(c = nb->cache = nb_alloc(nb, sizeof *c))) return NULL;
    if (c->n_released != nb->n_released) drop_released(c);
    c->n_released = nb->n_released;
    uint64_t     h = nb__hash(NB__HASH_START, key->at, key->n);
    nb_program **oldest = &c->program[0], *p = NULL;
    for (int i = 0; i < CACHE_SIZE && !p; i++) {
        nb_program *q = c->program[i];
        if (q && q->hash == h && q->key_bytes == key->n && !memcmp(q->key, key->at, key->n)) p = q;
        if (*oldest && (!q || q->used < (*oldest)->used)) oldest = &c->program[i];
    }
    if (!p) {
        drop_oldest(c);
        p = compile(nb, roots, key, h, oldest);
    }
    if (p) p->used = ++c->clock;
    return p;
}

bool nb_eval(nb_context *nb, nb_list tensors) {
    if (nb->status != NB_OK) return false;
    nb_list roots = nb_list_new(nb, tensors.n);
    int     n = 0;
    for (int i = 0; i < tensors.n; i++) {
        nb_tensor *t = tensors.at[i];
        if (nb__refuse(nb, t, i, "nb_eval")) return false;
        bool known = t->storage || t->value;
        for (int k = 0; k < n && !known; k++) known = roots.at[k] == t;
        if (!known && n < roots.n) roots.at[n++] = t;
    }
    roots.n = n;
    if (nb->status != NB_OK || !n) return nb->status == NB_OK;
    nb_list graph = nb__walk(nb, roots, true);
    writer  key;
    if (!graph.n || !make_key(nb, graph, roots, &key)) return false;
    int     n_leaves = 0;
    nb_list leaves = nb_list_new(nb, graph.n);
    for (int i = 0; i < leaves.n; i++)
        if (graph.at[i]->value && !graph.at[i]->storage) leaves.at[n_leaves++] = graph.at[i];
    nb_program *p = find_program(nb, roots, &key);
    if (!p) return false;
    for (int i = 0; i < n_leaves; i++) p->argument[i] = leaves.at[i]->value;
    for (int i = 0; i < n; i++) {
        p->result[i] = nb__step_alloc(nb, nb_bytes(roots.at[i]));
        if (!p->result[i]) return false;
    }
    nb__draw *draw = p->has_random ? nb__step_alloc(nb, (size_t)graph.n * sizeof *draw) : NULL;
    for (int i = 0; draw && i < graph.n; i++) draw[i] = graph.at[i]->draw;
    p->draw = draw;
    if ((p->has_random && !draw) || !nb__run(p)) return false;
    for (int i = 0; i < n; i++) roots.at[i]->value = p->result[i];
    return true;
}
