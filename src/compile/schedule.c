/* schedule.c: lasting steps, which only need each other; early steps, the point of no return, late steps.
 *
 * A run must leave every kept tensor as it was when something goes wrong: an index out of range, a NaN. Elementwise work cannot
 * go wrong. So the elementwise steps whose results only reach assigns are put last, after all checks, and may then write a kept
 * tensor's new value straight over the old one, if nobody reads the old one later. Other assigned values are copied at the very
 * end. */
#include <string.h>

#include "ops.h"
#include "program.h"

static bool cannot_fail(const nb_program *p, const nb__step *s) {
    for (int k = 0; k < s->n_nodes; k++) {
        if (!nb__is_elementwise(p->node[s->node[k]].op)) return false;
    }
    return true;
}

/* Marks steps late whose every user is late, users first. */
static bool mark_late(nb_program *p) {
    bool *pinned = nb__step_alloc(p->nb, (size_t)p->n_steps + 1); /* read by an early step, or looked at by the checks */
    if (!pinned) return false;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) pinned[p->node[p->root[i]].step] = true;
    for (int i = 0; i < p->n_nodes && p->check_finite; i++)
        if (p->node[i].is_watched && !p->node[i].is_dead && p->node[p->node[i].base].step >= 0)
            pinned[p->node[p->node[i].base].step] = true;
    for (int s = p->n_steps - 1; s >= 0; s--) {
        nb__step *step = &p->step[s];
        step->is_late = !pinned[s] && p->n_commits && !step->lasts && cannot_fail(p, step);
        if (step->is_late) continue;
        for (int k = 0; k < step->n_nodes; k++) {
            const nb__node *n = &p->node[step->node[k]];
            for (int m = 0; m < n->n_in; m++) {
                int from = p->node[p->node[n->in[m]].base].step;
                if (from >= 0 && from != s) pinned[from] = true;
            }
        }
    }
    return true;
}

static int turn_of(const nb__step *s) { return s->lasts ? 0 : s->is_late ? 2 : 1; }

static bool put_in_order(nb_program *p) {
    nb__step *sorted = nb__step_alloc(p->nb, (size_t)p->n_steps * sizeof *sorted + 1);
    if (!sorted) return false;
    int n = 0, *number = nb__step_alloc(p->nb, (size_t)p->n_steps * sizeof *number + 1);
    if (!number) return false;
    for (int turn = 0; turn < 3; turn++)
        for (int s = 0; s < p->n_steps; s++) {
            if (turn_of(&p->step[s]) != turn) continue;
            number[s] = n;
            sorted[n++] = p->step[s];
        }
    for (int s = 0; s < n; s++) p->step[s] = sorted[s];
    for (int i = 0; i < p->n_nodes; i++)
        if (p->node[i].step >= 0) p->node[i].step = number[p->node[i].step];
    return true;
}

/* The last step that reads each node's buffer, by the node whose buffer it is; -1. */
static int *last_readers(const nb_program *p) {
    int *last = nb__step_alloc(p->nb, (size_t)p->n_nodes * sizeof *last + 1);
    for (int i = 0; last && i < p->n_nodes; i++) last[i] = -1;
    for (int s = 0; last && s < p->n_steps; s++) {
        for (int k = 0; k < p->step[s].n_nodes; k++) {
            const nb__node *n = &p->node[p->step[s].node[k]];
            for (int m = 0; m < n->n_in; m++) last[p->node[n->in[m]].base] = s;
        }
    }
    return last;
}

/* Whether the step that computes node v may write over kept storage that node `leaf` reads: no later one reads it, and the step
 * itself may read element i until it has written element i. */
static bool may_overwrite(const nb_program *p, int leaf, int v, const int *last) {
    int             late = p->node[v].step;
    const nb__node *value = &p->node[v];
    bool            written = false; /* by the members of the step so far */
    if (last[leaf] > late) return false;
    for (int k = 0; k < p->step[late].n_nodes; k++) {
        const nb__node *n = &p->node[p->step[late].node[k]];
        for (int m = 0; m < n->n_in; m++) {
            const nb__node *in = &p->node[n->in[m]];
            if (in->base != leaf) continue;
            if (written || in->offset || !nb__dims_equal(in->shape, value->shape) ||
                memcmp(in->stride, value->stride, sizeof in->stride))
                return false;
        }
        written |= p->step[late].node[k] == v;
    }
    return true;
}

static bool place_commits(nb_program *p) {
    const int *last = last_readers(p);
    if (!last) return false;
    for (int c = 0; c < p->n_commits; c++) {
        nb__commit *commit = &p->commit[c];
        nb__node   *value = &p->node[commit->node];
        bool        free_value = p->step[value->step].is_late && value->buffer < 0;
        bool        is_read = !p->node[commit->leaf].is_dead;
        if (!free_value || (is_read && !may_overwrite(p, commit->leaf, commit->node, last))) continue;
        nb__add_buffer(p, value,
                       (nb__buffer){.place = NB__IN_COMMIT, .bytes = commit->storage->bytes, .storage = commit->storage});
    }
    return true;
}

static bool list_watched(nb_program *p) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++) n += p->node[i].is_watched && !p->node[i].is_dead;
    if (!p->check_finite || !n) return true;
    if (!(p->watched = nb__program_alloc(p, (size_t)n * sizeof *p->watched))) return false;
    for (int i = 0; i < p->n_nodes; i++)
        if (p->node[i].is_watched && !p->node[i].is_dead) p->watched[p->n_watched++] = i;
    return true;
}

static void add_leaf_buffers(nb_program *p) {
    int arguments = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node  *n = &p->node[i];
        nb__buffer b = {.number = arguments, .data = n->data, .storage = n->kept ? n->kept->storage : NULL};
        arguments += n->source == NB__ARGUMENT; /* dead ones count, too */
        if (n->source == NB__COMPUTED || n->is_dead) continue;
        b.place = n->source == NB__KEPT_LEAF ? NB__IN_KEPT : n->source == NB__CONSTANT ? NB__IN_CONSTANT : NB__IN_ARGUMENT;
        b.bytes = (n->is_splat ? 1 : (size_t)nb__dims_count(n->shape)) * nb_dtype_size(n->dtype);
        if (n->by_item) b.item_bytes = b.bytes / (size_t)p->block;
        nb__add_buffer(p, n, b);
    }
}

static void add_output_buffers(nb_program *p) {
    for (int i = 0; i < p->n_roots; i++) {
        if (p->root[i] < 0) continue;
        nb__node  *n = &p->node[p->root[i]];
        nb__buffer b = {.place = NB__IN_OUTPUT, .number = i, .bytes = nb_bytes(p->output[i])};
        if (n->by_item) b.item_bytes = b.bytes / (size_t)p->items;
        nb__add_buffer(p, n, b);
    }
}

bool nb__schedule(nb_program *p) {
    if (!mark_late(p) || !put_in_order(p)) return false;
    p->buffer = nb__program_alloc(p, ((size_t)p->n_nodes + 1) * sizeof *p->buffer);
    if (!p->buffer) return false;
    add_leaf_buffers(p);
    add_output_buffers(p);
    return place_commits(p) && list_watched(p);
}
