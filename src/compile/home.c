/* home.c: what is joined is written where it will lie.
 *
 * A concat whose operands are computed just for it needs no copies: each operand's values go straight into its stretch of the
 * result, their home (the steps of a recurrent net, the gradients of its gates). A concat may itself have its home in a further
 * one. Operands that have their memory elsewhere are copied into their stretch, so that such a concat is never more than a
 * name. */
#include "ops.h"
#include "program.h"

/* Whether kernels write the node's values to any strides, about as fast as elsewhere. */
static bool can_move(const nb__node *n) {
    if (n->source != NB__COMPUTED || n->is_watched || n->has_home) return false;
    return nb__is_elementwise(n->op) || n->op == &nb__op_matmul || n->op == &nb__op_concat;
}

/* The next axis of more than one element, from axis k on. */
static int wide_axis(const nb_dims *d, int k) {
    while (k < d->rank && d->size[k] == 1) k++;
    return k;
}

static bool same_but_for_ones(const nb_dims *a, const nb_dims *b) {
    int i = wide_axis(a, 0), k = wide_axis(b, 0);
    for (; i < a->rank && k < b->rank; i = wide_axis(a, i + 1), k = wide_axis(b, k + 1))
        if (a->size[i] != b->size[k]) return false;
    return i == a->rank && k == b->rank;
}

/* What a view shows that is at most other axes of one element. */
static int shown_by(const nb_program *p, int i) {
    while (nb__is_view(&p->node[i]) &&
           (p->node[i].op == &nb__op_reshape || p->node[i].op == &nb__op_with_derivative ||
            p->node[i].op == &nb__op_stop_gradient) &&
           same_but_for_ones(&p->node[i].shape, &p->node[p->node[i].in[0]].shape))
        i = p->node[i].in[0];
    return i;
}

/* The node whose buffer a concat's result lies in, and where its operand begins there. */
static int     buffer_of(const nb_program *p, int concat) { return p->node[concat].has_home ? p->node[concat].lies_in : concat; }
static int64_t first_of(const nb_program *p, int concat, int operand) {
    const nb__node *c = &p->node[concat];
    int64_t         axis = ((const nb__axis_attr *)c->attr)->axis, first = 0;
    for (int k = 0; k < operand; k++) first += p->node[c->in[k]].shape.size[axis];
    return c->offset + first * c->stride[axis];
}

bool nb__lies_there(const nb_program *p, int concat, int operand) {
    const nb__node *c = &p->node[concat], *in = &p->node[c->in[operand]], *of = &p->node[in->base];
    bool            there = of->has_home && of->lies_in == buffer_of(p, concat) && in->offset == first_of(p, concat, operand);
    for (int a = 0; a < in->shape.rank; a++) there &= in->shape.size[a] == 1 || in->stride[a] == c->stride[a];
    return there;
}

void nb__lie_in(nb_program *p, int i, int concat, int operand) {
    nb__node       *n = &p->node[i];
    const nb__node *c = &p->node[concat];
    const nb_dims  *part = &p->node[c->in[operand]].shape;
    n->has_home = true;
    n->lies_in = buffer_of(p, concat);
    n->lasts = c->lasts;
    n->offset = first_of(p, concat, operand);
    for (int a = 0, k = 0; a < n->shape.rank; a++) {
        n->stride[a] = 0;
        if (n->shape.size[a] == 1) continue;
        k = wide_axis(part, k);
        n->stride[a] = c->stride[k++];
    }
}

bool nb__find_homes(nb_program *p) {
    const bool *is_result = nb__find_results(p);
    if (!is_result) return false;
    for (int c = p->n_nodes - 1; c >= 0; c--) { /* a concat's own home is known before its operands' */
        nb__node *n = &p->node[c];
        if (n->source != NB__COMPUTED || n->op != &nb__op_concat || n->is_dead || nb__dims_count(n->shape) == 0) continue;
        if (!n->has_home) nb__row_major(n);
        for (int k = 0; k < n->n_in; k++) {
            int i = shown_by(p, n->in[k]);
            if (is_result[i] || !can_move(&p->node[i]) || p->node[i].lasts != n->lasts || nb__dims_count(p->node[i].shape) == 0)
                continue;
            n->is_joined = true;
            nb__lie_in(p, i, c, k);
        }
        n->is_joined |= n->has_home; /* its operands are copied straight into that home */
    }
    return true;
}
