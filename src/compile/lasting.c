/* lasting.c: what of a program lasts from run to run: parameters that the program does not change, and what is made of these and
 * of constants alone, like the weights of a convolution with a norm's scale in them.
 *
 * What lasts is computed by steps of its own, first of all, into memory of its own, and again only when something it reads has
 * been written (run.c); products and convolutions may keep it packed, as they keep parameters. Not so random numbers and results
 * of the program; elementwise work that is larger than all it is made of, which a region makes faster than it reads it; and
 * nothing in a program that reads only what lasts: who runs that again has written something. */
#include "ops.h"
#include "program.h"

/* Elements in memory: a view may show more. */
static int64_t elements(const nb_program *p, int i) {
    while (nb__is_view(&p->node[i])) i = p->node[i].in[0];
    return p->node[i].is_splat ? 1 : nb__dims_count(p->node[i].shape);
}

static bool is_lasting(const nb_program *p, const nb__node *n) {
    if (n->source == NB__CONSTANT) return true;
    if (n->source == NB__KEPT_LEAF) return n->kept->storage->is_versioned;
    if (n->source != NB__COMPUTED || !n->n_in || n->op->kind == NB_RANDOM || n->op->kind == NB_ASSIGN) return false;
    if (nb__is_view(n)) return p->node[n->in[0]].lasts;
    bool is_constant = true, grows = nb__row_of(n->op) >= 0;
    for (int k = 0; k < n->n_in; k++) {
        const nb__node *in = &p->node[n->in[k]];
        if (!in->lasts) return false;
        is_constant &= in->source == NB__CONSTANT;
        grows = grows && elements(p, n->in[k]) < nb__dims_count(n->shape);
    }
    return !is_constant && !grows;
}

bool nb__find_lasting(nb_program *p) {
    bool  varies = false;
    bool *is_result = nb__find_results(p), *is_assigned = nb__step_alloc(p->nb, (size_t)p->n_nodes + 1);
    if (!is_result || !is_assigned) return false;
    for (int c = 0; c < p->n_commits; c++) is_assigned[p->commit[c].leaf] = true;
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &p->node[i];
        bool      is_looked_at = n->source == NB__COMPUTED && (is_result[i] || n->is_watched);
        n->lasts = p->keeps_lasting && !is_assigned[i] && !is_looked_at && is_lasting(p, n);
        varies |= !n->lasts && !n->is_dead && (n->source != NB__COMPUTED || n->op->kind == NB_RANDOM);
    }
    for (int i = 0; i < p->n_nodes; i++) p->node[i].lasts &= varies;
    return true;
}
