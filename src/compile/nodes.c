/* nodes.c: what passes share: a program's memory, its lists of nodes and buffers, and what they ask of a node. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* --------------------------------------------------------------------------------------------------------- the lists */

void *nb__program_alloc(nb_program *p, size_t size) { return nb__arena_alloc(p->nb, &p->arena, size); }

int nb__add_node(nb_program *p, const nb__node *node) {
    if (p->n_nodes == p->node_room) {
        int       room = p->node_room ? 2 * p->node_room : 64;
        nb__node *more = nb__program_alloc(p, (size_t)room * sizeof *more);
        if (!more) return -1;
        if (p->n_nodes) memcpy(more, p->node, (size_t)p->n_nodes * sizeof *more);
        p->node = more;
        p->node_room = room;
    }
    p->node[p->n_nodes] = *node;
    return p->n_nodes++;
}

void nb__add_buffer(nb_program *p, nb__node *n, nb__buffer buffer) {
    n->buffer = p->n_buffers;
    p->buffer[p->n_buffers++] = buffer;
}

bool *nb__find_results(const nb_program *p) {
    bool *is_result = nb__step_alloc(p->nb, (size_t)p->n_nodes + 1);
    if (!is_result) return NULL;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) is_result[p->root[i]] = true;
    for (int i = 0; i < p->n_commits; i++) is_result[p->commit[i].node] = true;
    return is_result;
}

/* ------------------------------------------------------------------------------------------------------------ kinds */

bool nb__is_computed(const nb__node *n, const nb_op *op) { return n->op == op && n->source == NB__COMPUTED; }

bool nb__is_view(const nb__node *n) { return n->source == NB__COMPUTED && n->op->kind == NB_VIEW; }

bool nb__is_elementwise(const nb_op *op) { return nb__row_of(op) >= 0 || op == &nb__op_cast; }

bool nb__has_tile(const nb_program *p, const nb__node *n) {
    if ((n->dtype != NB_F32 && n->dtype != NB_BOOL) || n->n_in < 1) return false;
    return n->op == &nb__op_cast || nb__row_has_tile(nb__row_of(n->op), p->node[n->in[n->n_in - 1]].dtype);
}

bool nb__splat_value(const nb__node *n, double *value) {
    if (n->source != NB__CONSTANT || !n->is_splat) return false;
    *value = nb__load(&(nb_array){.data = (void *)(uintptr_t)n->data, .dtype = n->dtype}, 0);
    return true;
}

bool nb__is_zeros(const nb__node *n) {
    double value;
    return nb__splat_value(n, &value) && value == 0;
}

/* ------------------------------------------------------------------------------------------------------ memory and steps */

void nb__row_major(nb__node *n) {
    int64_t s = 1;
    for (int i = (int)n->shape.rank - 1; i >= 0; i--) {
        n->stride[i] = s;
        s *= n->shape.size[i] > 0 ? n->shape.size[i] : 1;
    }
}

nb_array nb__array_of(const nb_program *p, int node) {
    const nb__node *n = &p->node[node];
    nb_array        a = {.dtype = n->dtype, .rank = (int)n->shape.rank};
    memcpy(a.shape, n->shape.size, sizeof a.shape);
    memcpy(a.stride, n->stride, sizeof a.stride);
    return a;
}

nb_array nb__broadcast_to(nb_array a, const nb_array *space) {
    nb_array b = {.data = a.data, .dtype = a.dtype, .rank = space->rank};
    memcpy(b.shape, space->shape, sizeof b.shape);
    for (int i = 0; i < a.rank; i++) {
        int at = space->rank - a.rank + i;
        b.stride[at] = a.shape[i] == 1 ? 0 : a.stride[i];
    }
    return b;
}

int nb__member(const nb_program *p, const nb__step *s, int i) {
    int of = nb__is_view(&p->node[i]) ? p->node[i].base : i;
    for (int k = 0; k < s->n_nodes; k++)
        if (s->node[k] == of) return k;
    return -1;
}
