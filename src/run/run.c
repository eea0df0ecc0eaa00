/* run.c: a run of a program: its calls one after the other, the checks, then what changes kept tensors. */
#include <stdio.h>
#include <string.h>

#include "ops.h"
#include "run.h"

/* Whether all values are finite; whole numbers are. An exponent of all ones is infinity or NaN. Block by block, without branches
 * in a block. */
static bool are_finite(nb_dtype dtype, const void *data, int64_t count) {
    enum { BLOCK = 1024 };
    const uint32_t *f = data, mask_f = 0x7f800000u;
    const uint64_t *d = data, mask_d = UINT64_C(0x7ff) << 52;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t  end = start + BLOCK < count ? start + BLOCK : count;
        uint32_t bad = 0;
        if (dtype == NB_F32)
            for (int64_t i = start; i < end; i++) bad |= (f[i] & mask_f) == mask_f;
        if (dtype == NB_F64)
            for (int64_t i = start; i < end; i++) bad |= (d[i] & mask_d) == mask_d;
        if (bad) return false;
    }
    return true;
}

static void *start_of(nb_program *p, const nb__buffer *b) {
    switch (b->place) {
    case NB__IN_KEPT: return b->storage->borrowed ? (void *)(uintptr_t)b->storage->borrowed : b->storage->data;
    case NB__IN_CONSTANT: return (void *)(uintptr_t)b->data;
    case NB__IN_ARGUMENT: return p->argument[b->number];
    case NB__IN_OUTPUT: return p->result[b->number];
    case NB__IN_COMMIT: return b->storage->data;
    case NB__IN_LASTING: return p->lasting + b->at;
    default: return p->workspace + b->at;
    }
}

static void *buffer_data(nb_program *p, const nb__buffer *b) {
    return (char *)start_of(p, b) + (size_t)p->first_item * b->item_bytes;
}

/* Streams of nodes in nb_eval are apart from those of compiled programs of the same step. */
static void set_draw(const nb_program *p, nb__step *s) {
    const nb__node *n = &p->node[s->node[0]];
    if (n->op->kind != NB_RANDOM) return;
    nb__draw d = {p->nb->random, n->stream};
    if (p->draw) {
        d = p->draw[n->number];
        d.stream |= UINT32_C(1) << 31;
    }
    s->call.c.key[0] = (uint32_t)(d.random.seed ^ d.random.seed >> 32);
    s->call.c.key[1] = d.stream;
    s->call.c.counter = d.random.step;
}

static void set_pointers(nb_program *p) {
    for (int s = 0; s < p->n_steps; s++) {
        nb__step *step = &p->step[s];
        int       n = step->call.c.n_in + step->call.n_out;
        for (int k = 0; k < n; k++) step->array[k].data = (char *)buffer_data(p, &p->buffer[step->buffer[k]]) + step->offset[k];
        step->call.c.out = step->call.out[0];
        set_draw(p, step);
    }
}

/* Check builds: the bytes behind each result of a step that is not handed out, set before it and looked at after it. */
static void guard_results(nb_program *p, const nb__step *s, bool look) {
    for (int k = 0; NB__GUARD && k < s->call.n_out; k++) {
        const nb__buffer *b = &p->buffer[s->buffer[s->call.c.n_in + k]];
        if (b->place != NB__IN_WORKSPACE && b->place != NB__IN_LASTING) continue;
        unsigned char *guard = (unsigned char *)start_of(p, b) + b->bytes;
        for (int i = 0; i < NB__GUARD; i++) {
            if (!look)
                guard[i] = 0xa5;
            else if (guard[i] != 0xa5)
                nb_fail(p->nb, NB_INVALID, "%s wrote behind its result", p->node[s->node[0]].op->name);
        }
    }
}

/* The version of a step's lasting operands, of all of a lasting step's: it grows whenever one of them is written, in whatever
 * context. 0: nobody knows, for what is borrowed may go back to what it was, and of inputs nothing is noted. */
static uint64_t version_of(const nb_program *p, const nb__step *s) {
    uint64_t version = 1;
    for (int k = 0; k < s->call.c.n_in; k++) {
        if (!s->lasts && !(k < 32 && s->call.lasting >> k & 1)) continue;
        const nb__buffer *b = &p->buffer[s->buffer[k]];
        if (b->place == NB__IN_KEPT && (b->storage->borrowed || !b->storage->is_versioned)) return 0;
        if (b->place == NB__IN_KEPT) version += b->storage->written;
        if (b->place == NB__IN_LASTING) version += b->written;
    }
    return version;
}

/* Packs lasting operands if that has not been done since they were last written. */
static void prepare(nb_program *p, nb__step *s) {
    uint64_t version = version_of(p, s);
    if (version && s->prepared == version) return;
    s->plan.prepare(&s->plan, &s->call, p->nb->pool);
    s->prepared = version;
}

static void run_step(nb_program *p, nb__step *s) {
    guard_results(p, s, false);
    if (s->plan.prepare) prepare(p, s);
    if (s->plan.run)
        s->plan.run(&s->plan, &s->call, p->workspace + p->scratch_at, p->nb->pool);
    else
        p->node[s->node[0]].op->run(&s->call.c);
    guard_results(p, s, true);
}

/* A joined concat is no more than a name: its buffer is written by the steps of its operands. */
static bool is_fresh(const nb_program *p, const nb__step *s) {
    uint64_t version = version_of(p, s);
    return p->node[s->node[0]].is_joined || (version && s->prepared == version);
}

static void note_run(nb_program *p, nb__step *s) {
    for (int k = 0; k < s->call.n_out; k++) p->buffer[s->buffer[s->call.c.n_in + k]].written++;
    s->prepared = version_of(p, s);
}

static bool fail_step(nb_program *p, const nb__step *s) {
    nb_tensor where = {.nb = p->nb, .scope = p->node[s->node[0]].scope};
    nb__fail_at(&where, NB_INVALID, "%s", p->fault->message);
    return false;
}

/* ------------------------------------------------------------------------------------------------------------------ NaN check */

static bool array_is_finite(const nb_program *p, const nb__step *s, int k) {
    const nb__buffer *b = &p->buffer[s->buffer[k]];
    const nb_array   *a = &s->array[k];
    int64_t           count = 1, index[NB_MAX_RANK] = {0};
    for (int i = 0; i < a->rank; i++) count *= a->shape[i];
    if ((size_t)count * nb_dtype_size(a->dtype) >= b->bytes) /* all of its buffer, in whatever order */
        return are_finite(a->dtype, (const char *)a->data - s->offset[k], (int64_t)(b->bytes / nb_dtype_size(a->dtype)));
    if (!count) return true;
    do {
        const char *x = (const char *)a->data + nb__offset(a, index) * (int64_t)nb_dtype_size(a->dtype);
        if (!are_finite(a->dtype, x, 1)) return false;
    } while (nb__next_index(a->rank, a->shape, index));
    return true;
}

/* Runs the early steps again, each operator for itself, and names the first that makes NaN or infinity of finite operands. A
 * constant infinity (a mask) is not one; if nothing else is found, a parameter or an input held it before. */
static void find_source(nb_program *p, const char *seen_in) {
    nb_program *q = nb__unfused(p);
    if (!q) return;
    set_pointers(q);
    const char *leaf = NULL;
    for (int s = 0; s < q->n_steps && p->nb->status == NB_OK; s++) {
        nb__step       *step = &q->step[s];
        const nb__node *n = &q->node[step->node[0]];
        bool            fed_finite = true;
        for (int k = 0; k < step->call.c.n_in; k++) {
            if (array_is_finite(q, step, k)) continue;
            fed_finite = false;
            if (q->buffer[step->buffer[k]].place == NB__IN_KEPT)
                for (int i = 0; i < p->n_kept; i++)
                    if (!leaf && p->kept[i] == q->buffer[step->buffer[k]].storage) leaf = p->kept_name[i];
        }
        run_step(q, step);
        if (!fed_finite || n->op == &nb__op_full || array_is_finite(q, step, step->call.c.n_in)) continue;
        nb_tensor   where = {.nb = p->nb, .scope = n->scope};
        const char *group = n->scope->group, *part = n->is_backward ? "the backward part of " : "";
        nb__fail_at(&where, NB_NOT_FINITE, "NaN or infinity in %s: it arose first in %s%s%s%s%s, result %s", seen_in, part,
                    group[0] ? group : n->op->name, group[0] ? " (" : "", group[0] ? n->op->name : "", group[0] ? ")" : "",
                    nb__dims_text(n->shape).at);
    }
    if (leaf) nb_fail(p->nb, NB_NOT_FINITE, "NaN or infinity in %s: %s holds it already", seen_in, leaf);
    nb__program_free(q);
}

static bool name_not_finite(nb_program *p, const char *seen_in) {
    find_source(p, seen_in);
    nb_fail(p->nb, NB_NOT_FINITE, "NaN or infinity in %s", seen_in);
    return false;
}

static bool check_finite(nb_program *p) {
    for (int i = 0; i < p->n_watched; i++) {
        const nb__node   *n = &p->node[p->watched[i]];
        const nb__buffer *b = &p->buffer[p->node[n->base].buffer];
        size_t            bytes = b->item_bytes ? b->item_bytes * (size_t)p->block : b->bytes;
        if (!are_finite(n->dtype, buffer_data(p, b), (int64_t)(bytes / nb_dtype_size(n->dtype))))
            return name_not_finite(p, n->is_backward ? "a gradient" : "a watched value");
    }
    for (int i = 0; i < p->n_roots; i++) {
        if (p->root[i] < 0) continue;
        const nb__node *n = &p->node[p->root[i]];
        if (!are_finite(n->dtype, buffer_data(p, &p->buffer[n->buffer]), nb__dims_count(n->shape)))
            return name_not_finite(p, p->output[i]->name[0] ? p->output[i]->name : i == 0 ? "the first result" : "a result");
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------------------------- runs */

static bool run_block(nb_program *p, bool is_timed) {
    int s = 0;
    set_pointers(p);
    if (NB__GUARD) memset(p->workspace, 0xff, p->workspace_bytes); /* what is read before it is written is NaN */
    if (is_timed) nb__profile_skip(p);
    p->fault->is_set = false;
    for (; s < p->n_steps && !p->step[s].is_late; s++) {
        nb__step *step = &p->step[s];
        if (step->lasts && (p->first_item || is_fresh(p, step))) continue; /* with the first block: for all of them */
        run_step(p, step);
        if (is_timed) nb__profile_call(p, s);
        if (p->fault->is_set) return fail_step(p, step);
        if (step->lasts) note_run(p, step);
    }
    if (p->check_finite && !check_finite(p)) return false;
    if (is_timed) nb__profile_skip(p);
    for (; s < p->n_steps; s++) {
        run_step(p, &p->step[s]);
        if (is_timed) nb__profile_call(p, s);
    }
    for (int c = 0; c < p->n_commits; c++) {
        const nb__commit *commit = &p->commit[c];
        void             *from = buffer_data(p, &p->buffer[p->node[commit->node].buffer]);
        if (from != commit->storage->data) memcpy(commit->storage->data, from, commit->storage->bytes);
    }
    return p->nb->status == NB_OK;
}

bool nb__has_threads(nb_context *nb, const char *user) {
    if (nb__pool_is_here(nb->pool)) return true;
    nb_fail(
        nb, NB_INVALID,
        "%s: this process was forked, and the context's %d threads stayed behind: fork before nb_open, or open a context with "
        "threads = 1",
        user, nb__pool_threads(nb->pool));
    return false;
}

bool nb__run(nb_program *p) {
    if (!nb__has_threads(p->nb, "nb_run")) return false;
    bool     is_timed = nb__profile_starts(p);
    unsigned state = nb__float_enter();
    bool     good = true;
    for (int i = 0, n = nb__blocks(p); i < n && good; i++) {
        int64_t first = i * p->block, last = p->items - p->block;
        p->first_item = first < last ? first : last;
        good = run_block(p, is_timed);
    }
    nb__float_leave(state);
    if (is_timed && good) nb__profile_ends(p);
    return good;
}

bool nb_run(nb_program *p) {
    if (!p || p->nb->status != NB_OK) return false;
    nb_context *nb = p->nb;
    if (!p->is_good) {
        nb_fail(nb, NB_INVALID, "nb_run: this program did not compile");
        return false;
    }
    bool good = nb__run(p);
    for (int i = 0; i < p->n_kept; i++) /* parameters of a shared program are only read */
        if (p->kept[i]->borrowed) p->kept[i]->borrowed = NULL;
    if (!good) return false;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) p->output[i]->value = p->result[i];
    if (p->has_random) nb->random.step++;
    nb->serial++;
    for (int c = 0; c < p->n_commits; c++)
        if (p->commit[c].storage->is_versioned) p->commit[c].storage->written = nb->serial;
    return true;
}
