/* simplify.c: rounds over the list of nodes. Each drops what nobody needs and builds the list anew: constants become single
 * elements, equal nodes one (merge), and rules put simpler nodes in place of others (algebra; rewrite.h names their files).
 * Rounds go on until none finds anything to do; each takes time in proportion to the number of nodes. */
#include <string.h>

#include "rewrite.h"

enum { MOST_ROUNDS = 24 };

static void mark_dead(nb_program *p) {
    for (int i = 0; i < p->n_nodes; i++) p->node[i].is_dead = true;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) p->node[p->root[i]].is_dead = false;
    for (int i = 0; i < p->n_commits; i++) p->node[p->commit[i].node].is_dead = false;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        nb__node *n = &p->node[i];
        if (n->is_watched && n->op->kind != NB_ASSIGN) n->is_dead = false;
        if (n->is_dead) continue;
        /* A view shows its first operand only; further ones matter to derivatives. */
        if (n->op->kind == NB_VIEW && n->source == NB__COMPUTED) n->n_in = 1;
        for (int k = 0; k < n->n_in; k++) p->node[n->in[k]].is_dead = false;
    }
}

/* ------------------------------------------------------------------------------------------------------------ one round */

static void count_users(nb__rewrite *r) {
    const nb_program *p = r->p;
    for (int i = 0; i < r->n_old; i++) {
        r->user[i] = -1;
        r->users[i] += r->old[i].is_watched;
        if (r->old[i].is_dead) continue;
        for (int k = 0; k < r->old[i].n_in; k++) {
            r->users[r->old[i].in[k]]++;
            r->user[r->old[i].in[k]] = i;
        }
    }
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) r->users[p->root[i]]++;
    for (int i = 0; i < p->n_commits; i++) r->users[p->commit[i].node]++;
}

static bool begin(nb__rewrite *r, bool merge, int level) {
    nb_program *p = r->p;
    size_t      n = (size_t)p->n_nodes;
    *r = (nb__rewrite){.p = p,
                       .merge = merge,
                       .level = level,
                       .n_old = p->n_nodes,
                       .old = p->node,
                       .n_buckets = 64,
                       .memory = {r->memory[0], r->memory[1]},
                       .turn = !r->turn};
    nb__arena_reset(&r->memory[r->turn]);
    while (r->n_buckets < 2 * n) r->n_buckets *= 2;
    r->users = nb__round_alloc(r, n * sizeof(int));
    r->user = nb__round_alloc(r, n * sizeof(int));
    r->to = nb__round_alloc(r, n * sizeof(int));
    r->terms = nb__round_alloc(r, (2 * n + 2) * sizeof(int));
    r->bucket = nb__round_alloc(r, r->n_buckets * sizeof(int));
    if (!r->users || !r->user || !r->to || !r->terms || !r->bucket) return false;
    for (size_t i = 0; i < r->n_buckets; i++) r->bucket[i] = -1;
    count_users(r);
    return level < NB__PRODUCTS || nb__find_lasting(p);
}

/* A tensor full of one value is that element, shown everywhere by strides of 0. */
static bool make_splat(nb_program *p, nb__node *n) {
    void *element = nb__program_alloc(p, NB__ALIGN);
    if (!element) return false;
    n->op->run(&(nb_call){.out = {.data = element, .dtype = n->dtype}, .attr = n->attr});
    n->source = NB__CONSTANT;
    n->attr = NULL;
    n->data = element;
    n->is_splat = true;
    return true;
}

/* What stands for old node i in the new list. */
static int translate(nb__rewrite *r, int i) {
    nb__node n = r->old[i];
    r->from = &r->old[i];
    if (nb__is_computed(&n, &nb__op_full) && !make_splat(r->p, &n)) return -1;
    if (!n.is_watched) {
        int made = nb__sums_rule(r, i);
        if (made < 0) made = nb__norm_rule(r, i);
        if (made < 0) made = nb__pool_rule(r, i);
        if (made < 0) made = nb__lookup_rule(r, i);
        if (made < 0) made = nb__flatten_rule(r, i);
        if (made < 0) made = nb__moments_rule(r, i);
        if (made >= 0) return made;
    }
    n.in = nb__round_alloc(r, (size_t)n.n_in * sizeof *n.in + 1);
    if (!n.in) return -1;
    for (int k = 0; k < n.n_in; k++) n.in[k] = r->to[r->old[i].in[k]];
    return nb__emit(r, &n);
}

/* Leaves stay, dead ones too: arguments are counted by their order. */
static bool rebuild(nb__rewrite *r) {
    for (int i = 0; i < r->n_old; i++) {
        const nb__node *n = &r->old[i];
        bool            is_leaf = n->source == NB__KEPT_LEAF || n->source == NB__ARGUMENT;
        r->to[i] = -1;
        if (n->is_dead && !is_leaf) continue;
        r->to[i] = translate(r, i);
        if (r->to[i] < 0 || r->p->nb->status != NB_OK) return false;
    }
    nb_program *p = r->p;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) p->root[i] = r->to[p->root[i]];
    for (int i = 0; i < p->n_commits; i++) {
        p->commit[i].node = r->to[p->commit[i].node];
        p->commit[i].leaf = r->to[p->commit[i].leaf];
    }
    p->node = r->node;
    p->n_nodes = r->n;
    mark_dead(p);
    return true;
}

/* The list into the program's own memory. */
static bool settle(nb_program *p, const nb__rewrite *last) {
    nb__node *node = nb__program_alloc(p, (size_t)p->n_nodes * sizeof *node);
    if (!node) return false;
    memcpy(node, last->node, (size_t)p->n_nodes * sizeof *node);
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &node[i];
        if (!n->n_in) continue;
        int *in = nb__program_alloc(p, (size_t)n->n_in * sizeof *in);
        if (!in) return false;
        n->in = memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    }
    p->node = node;
    p->node_room = p->n_nodes;
    return true;
}

/* Rounds, level by level. */
static bool rewrite(nb__rewrite *r, bool merge, bool algebra) {
    for (int round = 0, level = NB__MERGE; round < MOST_ROUNDS && level < NB__LEVELS; round++) {
        if (!begin(r, merge, level) || !rebuild(r)) return false;
        if (!algebra) break;
        if (!r->changed) level++;
    }
    return settle(r->p, r);
}

bool nb__simplify(nb_program *p, bool merge, bool algebra) {
    for (int i = 0; i < p->n_nodes; i++) p->node[i].is_watched &= p->check_finite;
    mark_dead(p);
    if (!merge && !algebra) return true;
    nb__rewrite r = {.p = p};
    bool        good = rewrite(&r, merge, algebra);
    for (int k = 0; k < 2; k++) nb__arena_free(p->nb, &r.memory[k]);
    return good;
}
