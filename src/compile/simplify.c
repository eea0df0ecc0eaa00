/* simplify.c: equal nodes become one, constants become single elements, and nodes that nobody needs go. None of it changes a bit of any
 * result. */
#include <string.h>

#include "ops.h"
#include "program.h"

uint64_t nb__hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *b = data;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 1099511628211u; /* FNV-1a */
    return h;
}

static uint64_t hash_node(const nb__node *n) {
    uint64_t h = nb__hash(NB__HASH_START, &n->op, sizeof n->op);
    h = nb__hash(h, n->in, (size_t)n->n_in * sizeof *n->in);
    h = nb__hash(h, n->shape.size, (size_t)n->shape.rank * sizeof *n->shape.size);
    return n->attr ? nb__hash(h, n->attr, n->op->attr_size) : h;
}

static bool equal(const nb__node *a, const nb__node *b) {
    return a->op == b->op && a->n_in == b->n_in && a->dtype == b->dtype && a->shape.rank == b->shape.rank &&
           !memcmp(a->shape.size, b->shape.size, (size_t)a->shape.rank * sizeof *a->shape.size) &&
           !memcmp(a->in, b->in, (size_t)a->n_in * sizeof *a->in) && (!a->attr || !memcmp(a->attr, b->attr, a->op->attr_size));
}

/* Common subexpressions. Random nodes are never merged: two draws are two draws. A watched node keeps its mark. */
static bool merge_equal(nb_program *p) {
    size_t room = 64;
    while (room < 2 * (size_t)p->n_nodes) room *= 2;
    int *table = nb__step_alloc(p->nb, room * sizeof *table), *same = nb__step_alloc(p->nb, (size_t)p->n_nodes * sizeof *same);
    if (!table || !same) return false;
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &p->node[i];
        same[i] = i;
        for (int k = 0; k < n->n_in; k++) n->in[k] = same[n->in[k]];
        if (n->source != NB__COMPUTED || n->op->kind == NB_RANDOM || n->op->kind == NB_ASSIGN) continue;
        for (size_t at = hash_node(n) & (room - 1);; at = (at + 1) & (room - 1)) {
            if (!table[at]) {
                table[at] = i + 1;
                break;
            }
            nb__node *other = &p->node[table[at] - 1];
            if (!equal(n, other)) continue;
            same[i] = table[at] - 1;
            other->is_watched |= n->is_watched;
            break;
        }
    }
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) p->root[i] = same[p->root[i]];
    for (int i = 0; i < p->n_commits; i++) p->commit[i].node = same[p->commit[i].node];
    return true;
}

static void mark_dead(nb_program *p, bool check_finite) {
    for (int i = 0; i < p->n_nodes; i++) p->node[i].is_dead = true;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) p->node[p->root[i]].is_dead = false;
    for (int i = 0; i < p->n_commits; i++) p->node[p->commit[i].node].is_dead = false;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        nb__node *n = &p->node[i];
        if (n->is_watched && check_finite && n->op->kind != NB_ASSIGN) n->is_dead = false;
        if (n->is_dead) continue;
        /* A view shows its first operand only; further ones matter to derivatives. */
        int used = n->op->kind == NB_VIEW && n->source == NB__COMPUTED ? 1 : n->n_in;
        for (int k = 0; k < used; k++) p->node[n->in[k]].is_dead = false;
    }
}

/* A tensor full of one value is that element, shown everywhere by strides of 0. */
static bool splat_constants(nb_program *p) {
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &p->node[i];
        if (n->source != NB__COMPUTED || n->op != &nb__op_full) continue;
        void *element = nb__program_alloc(p, NB__ALIGN);
        if (!element) return false;
        nb_call call = {.out = {.data = element, .dtype = n->dtype}, .attr = n->attr};
        n->op->run(&call);
        n->source = NB__CONSTANT;
        n->data = element;
        n->is_splat = true;
    }
    return true;
}

bool nb__simplify(nb_program *p, bool merge) {
    if (merge && !(merge_equal(p) && splat_constants(p))) return false;
    mark_dead(p, p->check_finite);
    return true;
}
