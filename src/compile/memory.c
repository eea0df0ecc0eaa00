/* memory.c: places for all buffers in one workspace; what lasts lies apart, side by side.
 *
 * The steps are gone through in their order, as a run does, with a list of free stretches: a buffer takes the smallest stretch
 * that holds it when its step comes, and gives it back after its last reader. An elementwise step may write over an operand that
 * dies there. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* Stretches of free workspace, ascending, never touching. */
typedef struct stretch {
    size_t at, bytes;
} stretch;

typedef struct heap {
    nb_context *nb;
    stretch    *free;
    size_t      n, room, end;
} heap;

/* Check builds leave a guard behind each buffer, which run.c watches. */
static size_t rounded(size_t bytes) { return ((bytes + NB__ALIGN - 1) & ~(size_t)(NB__ALIGN - 1)) + NB__GUARD; }

static size_t take(heap *h, size_t bytes) {
    size_t best = h->n;
    for (size_t i = 0; i < h->n; i++)
        if (h->free[i].bytes >= bytes && (best == h->n || h->free[i].bytes < h->free[best].bytes)) best = i;
    if (best == h->n) {
        /* The last stretch may reach the end: grow from there. */
        size_t at = h->end;
        if (h->n && h->free[h->n - 1].at + h->free[h->n - 1].bytes == h->end) at = h->free[--h->n].at;
        h->end = at + bytes;
        return at;
    }
    size_t at = h->free[best].at;
    h->free[best].at += bytes;
    h->free[best].bytes -= bytes;
    if (!h->free[best].bytes) memmove(&h->free[best], &h->free[best + 1], (--h->n - best) * sizeof *h->free);
    return at;
}

static bool give(heap *h, size_t at, size_t bytes) {
    if (h->n == h->room) {
        size_t   room = h->room ? 2 * h->room : 64;
        stretch *more = nb__step_alloc(h->nb, room * sizeof *more);
        if (!more) return false;
        if (h->n) memcpy(more, h->free, h->n * sizeof *more);
        h->free = more;
        h->room = room;
    }
    size_t i = 0;
    while (i < h->n && h->free[i].at < at) i++;
    bool left = i > 0 && h->free[i - 1].at + h->free[i - 1].bytes == at, right = i < h->n && at + bytes == h->free[i].at;
    if (left && right) {
        h->free[i - 1].bytes += bytes + h->free[i].bytes;
        memmove(&h->free[i], &h->free[i + 1], (--h->n - i) * sizeof *h->free);
    } else if (left) {
        h->free[i - 1].bytes += bytes;
    } else if (right) {
        h->free[i].at = at;
        h->free[i].bytes += bytes;
    } else {
        memmove(&h->free[i + 1], &h->free[i], (h->n++ - i) * sizeof *h->free);
        h->free[i] = (stretch){at, bytes};
    }
    return true;
}

/* The workspace while steps are gone through. */
typedef struct places {
    nb_program *p;
    heap        heap;
    int        *last;      /* of each buffer: the last step that reads or writes it; n_steps: what the end of a run reads */
    bool       *is_placed; /* of each buffer: it has its place */
    bool       *is_gone;   /* the place was handed on */
} places;

static void find_last_uses(nb_program *p, int *last) {
    for (int s = 0; s < p->n_steps; s++) {
        for (int k = 0; k < p->step[s].n_nodes; k++) {
            const nb__node *n = &p->node[p->step[s].node[k]];
            if (n->buffer >= 0 && n->step == s) last[n->buffer] = s;
            for (int m = 0; m < n->n_in; m++) {
                int b = p->node[p->node[n->in[m]].base].buffer;
                if (b >= 0 && nb__member(p, &p->step[s], n->in[m]) < 0) last[b] = s;
            }
        }
    }
    for (int c = 0; c < p->n_commits; c++) last[p->node[p->commit[c].node].buffer] = p->n_steps;
    for (int i = 0; i < p->n_watched; i++) {
        int b = p->node[p->node[p->watched[i]].base].buffer;
        if (b >= 0) last[b] = p->n_steps;
    }
}

/* An operand of elementwise step s that dies there and lies exactly as result node n will. */
static int dying_twin(const places *w, int s, const nb__node *n) {
    const nb_program *p = w->p;
    for (int k = 0; k < p->step[s].n_nodes; k++) {
        const nb__node *node = &p->node[p->step[s].node[k]];
        if (!p->step[s].is_region && nb__row_of(node->op) < 0) return -1;
        for (int m = 0; m < node->n_in; m++) {
            const nb__node *in = &p->node[node->in[m]];
            int             b = p->node[in->base].buffer;
            if (b < 0 || p->buffer[b].place != NB__IN_WORKSPACE || w->last[b] != s || w->is_gone[b] ||
                nb__member(p, &p->step[s], node->in[m]) >= 0)
                continue;
            if (in->offset || p->buffer[b].bytes != (size_t)nb__dims_count(n->shape) * nb_dtype_size(n->dtype)) continue;
            if (in->dtype == n->dtype && nb__dims_equal(in->shape, n->shape) && !memcmp(in->stride, n->stride, sizeof n->stride))
                return b;
        }
    }
    return -1;
}

/* Whether member k of step s may write over buffer b: no later member reads it, and none at other places than are written. */
static bool may_write_over(const nb_program *p, int s, int b, int k) {
    const nb__node *n = &p->node[p->step[s].node[k]];
    for (int j = 0; j < p->step[s].n_nodes; j++) {
        const nb__node *node = &p->node[p->step[s].node[j]];
        for (int m = 0; m < node->n_in; m++) {
            const nb__node *in = &p->node[node->in[m]];
            if (p->node[in->base].buffer != b) continue;
            if (j > k || in->offset || !nb__dims_equal(in->shape, n->shape) || memcmp(in->stride, n->stride, sizeof n->stride))
                return false;
        }
    }
    return true;
}

/* Buffers for what leaves its step, because another one, the end of the run or the checks read it, and for what a step makes
 * alone. What lasts gets its place at once. */
static bool make_buffers(nb_program *p) {
    bool *leaves = nb__find_results(p);
    if (!leaves) return false;
    for (int s = 0; s < p->n_steps; s++) {
        for (int k = 0; k < p->step[s].n_nodes; k++) {
            const nb__node *n = &p->node[p->step[s].node[k]];
            for (int m = 0; m < n->n_in; m++)
                if (nb__member(p, &p->step[s], n->in[m]) < 0) leaves[p->node[n->in[m]].base] = true;
        }
    }
    for (int i = 0; i < p->n_watched; i++) leaves[p->node[p->watched[i]].base] = true;
    for (int s = 0; s < p->n_steps; s++) {
        bool lasts = p->step[s].lasts;
        for (int k = 0; k < p->step[s].n_nodes; k++) {
            int       i = p->step[s].node[k];
            nb__node *n = &p->node[i], *owner = n->has_home ? &p->node[n->lies_in] : n;
            if (n->buffer >= 0 || !(leaves[i] || p->step[s].n_nodes == 1)) continue;
            if (owner->buffer < 0) {
                size_t bytes = (size_t)nb__dims_count(owner->shape) * nb_dtype_size(owner->dtype),
                       at = lasts ? p->lasting_bytes : 0;
                nb__add_buffer(p, owner,
                               (nb__buffer){.place = lasts ? NB__IN_LASTING : NB__IN_WORKSPACE, .bytes = bytes, .at = at});
                if (lasts) p->lasting_bytes += rounded(bytes);
            }
            n->buffer = owner->buffer;
        }
    }
    return true;
}

/* Places for the results of step s in the workspace. */
static void place_results(places *w, int s, bool share) {
    nb_program *p = w->p;
    for (int k = 0; k < p->step[s].n_nodes; k++) {
        const nb__node *n = &p->node[p->step[s].node[k]];
        if (n->buffer < 0 || n->step != s || p->buffer[n->buffer].place != NB__IN_WORKSPACE || w->is_placed[n->buffer]) continue;
        nb__buffer *b = &p->buffer[n->buffer];
        size_t      bytes = rounded(b->bytes);
        int         twin = share && !n->has_home ? dying_twin(w, s, n) : -1;
        w->is_placed[n->buffer] = true;
        p->unplanned_bytes += bytes;
        if (twin >= 0 && may_write_over(p, s, twin, k)) {
            b->at = p->buffer[twin].at;
            w->is_gone[twin] = true;
        } else {
            b->at = take(&w->heap, bytes);
        }
    }
}

/* Gives back the places of operands whose last reader step s was, and of results that nobody reads. */
static bool give_back(places *w, int s) {
    nb_program *p = w->p;
    for (int k = 0; k < p->step[s].n_nodes; k++) {
        const nb__node *n = &p->node[p->step[s].node[k]];
        for (int m = -1; m < n->n_in; m++) {
            int b = m < 0 ? n->buffer : p->node[p->node[n->in[m]].base].buffer;
            if (b < 0 || p->buffer[b].place != NB__IN_WORKSPACE || w->last[b] != s || w->is_gone[b]) continue;
            w->is_gone[b] = true;
            if (!give(&w->heap, p->buffer[b].at, rounded(p->buffer[b].bytes))) return false;
        }
    }
    return true;
}

bool nb__plan_memory(nb_program *p, bool share) {
    if (!make_buffers(p)) return false;
    size_t n = (size_t)p->n_buffers + 1;
    places w = {.p = p,
                .heap = {.nb = p->nb},
                .last = nb__step_alloc(p->nb, n * sizeof *w.last),
                .is_placed = nb__step_alloc(p->nb, n),
                .is_gone = nb__step_alloc(p->nb, n)};
    if (!w.last || !w.is_placed || !w.is_gone) return false;
    find_last_uses(p, w.last);
    for (int s = 0; s < p->n_steps; s++) {
        place_results(&w, s, share);
        if (share && !give_back(&w, s)) return false;
    }
    p->workspace_bytes = w.heap.end;
    return true;
}
