/* fuse.c: which nodes one step computes.
 *
 * An elementwise node whose users all lie in one step joins that step: its values then never leave the cache. Going from the last node
 * to the first, this gathers whole expressions (an optimiser's update of one parameter, the backward of an activation) and can never
 * make a cycle, because nothing outside a step but its last node is seen by other steps. A result that is only assigned to a kept tensor
 * may leave the step as well. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* Users of node i: one step's number, or these. */
enum { NO_USER = -1, SEVERAL = -2 };

/* Whether a region can compute the node. */
static bool fits_region(const nb_program *p, const nb__node *n) {
    if (!p->nb->isa->tiles || n->source != NB__COMPUTED || (n->dtype != NB_F32 && n->dtype != NB_BOOL)) return false;
    if (n->op == &nb__op_cast) return true;
    int row = nb__row_of(n->op);
    if (row < 0) return false;
    for (int k = 0; k < n->n_in; k++)
        if (p->node[n->in[k]].dtype != NB_F32 && p->node[n->in[k]].dtype != NB_BOOL) return false;
    return nb__row_has_tile(row, p->node[n->in[n->n_in - 1]].dtype);
}

typedef struct group {
    int     last;       /* its last node: shape and order in memory */
    int     n_nodes, n_operands;
} group;

static bool same_space(const nb__node *a, const nb__node *b) {
    if (!nb__dims_equal(a->shape, b->shape)) return false;
    for (int i = 0; i < a->shape.rank; i++)
        if (a->shape.size[i] > 1 && a->stride[i] != b->stride[i]) return false;
    return true;
}

/* Room for node n's operands and itself in a region. Counted generously: operands shared with others count twice. */
static bool has_room(const group *g, const nb__node *n) {
    return g->n_nodes + 1 + g->n_operands + n->n_in <= NB__REGION_MAX;
}

static bool gather_steps(nb_program *p, const int *step_of, const group *groups, int n_groups) {
    p->step = nb__program_alloc(p, (size_t)n_groups * sizeof *p->step + 1);
    int *number = nb__step_alloc(p->nb, (size_t)n_groups * sizeof *number + 1);
    if (!p->step || !number) return false;
    /* Steps stand in the order of their last nodes; within a step, nodes in theirs. */
    for (int k = 0; k < p->n_order; k++) {
        int i = p->order[k], g = step_of[i];
        if (g < 0 || groups[g].last != i) continue;
        number[g] = p->n_steps;
        nb__step *s = &p->step[p->n_steps++];
        if (!(s->node = nb__program_alloc(p, (size_t)groups[g].n_nodes * sizeof *s->node))) return false;
    }
    for (int k = 0; k < p->n_order; k++) {
        int i = p->order[k];
        if (step_of[i] < 0) continue;
        nb__step *s = &p->step[number[step_of[i]]];
        p->node[i].step = number[step_of[i]];
        s->node[s->n_nodes++] = i;
    }
    return true;
}

bool nb__fuse(nb_program *p, bool fuse) {
    size_t n = (size_t)p->n_nodes;
    int   *user = nb__step_alloc(p->nb, n * sizeof *user), *step_of = nb__step_alloc(p->nb, n * sizeof *step_of), n_groups = 0;
    group *groups = nb__step_alloc(p->nb, n * sizeof *groups);
    bool  *is_root = nb__step_alloc(p->nb, n * sizeof *is_root);
    if (!user || !step_of || !groups || !is_root) return false;
    for (size_t i = 0; i < n; i++) {
        user[i] = NO_USER;
        step_of[i] = -1;
    }
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) is_root[p->root[i]] = true;
    for (int k = p->n_order - 1; k >= 0; k--) {
        int             i = p->order[k];
        const nb__node *node = &p->node[i];
        if (node->source != NB__COMPUTED) continue;
        bool is_view = node->base != i;
        if (!is_view) {
            int g = user[i];
            bool joins = fuse && g >= 0 && !is_root[i] && !node->is_watched && fits_region(p, node) &&
                         fits_region(p, &p->node[groups[g].last]) && same_space(node, &p->node[groups[g].last]) && has_room(&groups[g], node);
            if (!joins) {
                g = n_groups++;
                groups[g].last = i;
            }
            step_of[i] = g;
            groups[g].n_nodes++;
            groups[g].n_operands += node->n_in;
        }
        /* What a view shows has other users than steps: it is materialised, so "several". */
        int used = is_view ? 1 : node->n_in, by = is_view ? SEVERAL : step_of[i];
        for (int m = 0; m < used; m++) {
            int *u = &user[node->in[m]];
            *u = *u == NO_USER || *u == by ? by : SEVERAL;
        }
    }
    return gather_steps(p, step_of, groups, n_groups);
}
