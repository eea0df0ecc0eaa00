/* select_region.c: a fused step as a region of instructions: kernels know no nodes, so members become instructions, and arrays
 * are described by the axes of the step's space. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* An array as the space sees it. Its wide axes are those of the space, for ROW without those of rows; `shape` tells which are
 * wide, where the array itself has been reduced. */
static nb_array in_space(const nb__step *s, nb__part part, const nb_array *a, const nb_array *shape) {
    nb_array b = {.dtype = a->dtype, .rank = s->space.rank};
    int      k = 0;
    memcpy(b.shape, s->space.shape, sizeof b.shape);
    for (int i = 0; i < b.rank; i++) {
        if (b.shape[i] == 1 || (part == NB__ROW && s->rows >> i & 1)) continue;
        while (k < shape->rank && shape->shape[k] == 1) k++;
        if (k == shape->rank) break;
        b.stride[i] = a->shape[k] == 1 ? 0 : a->stride[k];
        k++;
    }
    return b;
}

/* What operand m of member k is to the region. */
static nb_array operand_array(const nb_program *p, const nb__step *s, int k, int m, nb__part *part) {
    const nb__node *n = &p->node[s->node[k]];
    nb_array        a = nb__array_of(p, n->in[m]), own = nb__array_of(p, s->node[k]);
    *part = s->part[k];
    if (n->op == &nb__op_gather) {
        *part = m == 0 ? NB__FULL : NB__ROW;
    } else if (n->op == &nb__op_scatter_add) {
        *part = NB__ROW;
    } else if (nb__row_of(n->op) >= 0) {
        a = nb__broadcast_to(a, &own);
        return in_space(s, *part, &a, &own);
    } else if (n->op != &nb__op_cast) {
        *part = NB__FULL; /* of a sum over everything: ROW when it has only as many elements */
        if (s->part[k] == NB__TOTAL) {
            int64_t full = 1, count = 1;
            for (int i = 0; i < s->space.rank; i++) full *= s->space.shape[i];
            for (int i = 0; i < a.rank; i++) count *= a.shape[i];
            if (count < full) *part = NB__ROW;
        }
    }
    return in_space(s, *part, &a, &a);
}

static nb_array result_array(const nb_program *p, const nb__step *s, int k) {
    const nb__node *n = &p->node[s->node[k]];
    nb_array        a = nb__array_of(p, s->node[k]), from = n->n_in ? nb__array_of(p, n->in[0]) : a;
    if (s->part[k] == NB__COLUMN || s->part[k] == NB__TOTAL) {
        for (int i = 0; i < a.rank; i++)
            if (a.shape[i] == 1) a.stride[i] = 0;
        return in_space(s, NB__FULL, &a, &from);
    }
    return in_space(s, s->part[k], &a, &a);
}

/* The region's operands, each array once. */
typedef struct operands {
    int      n, node[NB__REGION_MAX];
    nb__part part[NB__REGION_MAX];
    nb_array array[NB__REGION_MAX];
} operands;

/* The number of an operand; -1: there are too many. */
static int operand(operands *o, int node, nb__part part, const nb_array *a) {
    int k = 0;
    while (k < o->n && !(o->node[k] == node && o->part[k] == part && !memcmp(o->array[k].stride, a->stride, sizeof a->stride)))
        k++;
    if (k == NB__REGION_MAX) return -1;
    if (k == o->n) {
        o->n++;
        o->node[k] = node;
        o->part[k] = part;
        o->array[k] = *a;
    }
    return k;
}

static int instruction_of(const nb_op *op) {
    if (op == &nb__op_cast) return NB__CAST;
    if (op == &nb__op_sum) return NB__SUM;
    if (op == &nb__op_max) return NB__MAX;
    if (op == &nb__op_min) return NB__MIN;
    if (op == &nb__op_gather) return NB__PICK;
    if (op == &nb__op_scatter_add) return NB__PLACE;
    return nb__row_of(op);
}

/* Fills the instructions; operands that members do not compute are numbered for now from NB__REGION_MAX on. */
static bool list_instructions(const nb_program *p, const nb__step *s, operands *o, nb__region *r) {
    int n_out = 0;
    for (int k = 0; k < s->n_nodes; k++) {
        const nb__node    *n = &p->node[s->node[k]];
        const nb__scalars *scalars = nb__row_of(n->op) >= 0 && n->op->attr_size == sizeof *scalars ? n->attr : NULL;
        nb__instruction   *ins = &r->instruction[k];
        *ins = (nb__instruction){
            .row = instruction_of(n->op), .part = s->part[k], .dtype = n->dtype, .in = {-1, -1, -1}, .store = -1};
        if (scalars) {
            ins->p = scalars->p;
            ins->q = scalars->q;
        }
        if (n->buffer >= 0 && n->step == s - p->step) ins->store = n_out++; /* else it is computed again here */
        int first = n->op == &nb__op_scatter_add; /* the zeros it adds to are no operand */
        for (int m = first; m < n->n_in; m++) {
            int member = nb__member(p, s, n->in[m]);
            if (member >= 0 && member < k) {
                ins->in[m - first] = member;
                continue;
            }
            nb__part part;
            nb_array a = operand_array(p, s, k, m, &part);
            int      at = operand(o, n->in[m], part, &a);
            if (at < 0) return false;
            ins->in[m - first] = NB__REGION_MAX + at;
        }
    }
    r->n_instructions = s->n_nodes;
    return true;
}

/* Whether result `at` of the step's arrays lies where none of its n_in operands does. */
static bool is_fresh(const nb_program *p, const nb__step *s, int n_in, int at) {
    const nb__buffer *own = &p->buffer[s->buffer[at]];
    for (int i = 0; i < n_in; i++) {
        const nb__buffer *b = &p->buffer[s->buffer[i]];
        bool              in_workspace = b->place == NB__IN_WORKSPACE && own->place == NB__IN_WORKSPACE;
        if (b == own || (own->storage && b->storage == own->storage)) return false;
        if (in_workspace && b->at < own->at + own->bytes && own->at < b->at + b->bytes) return false;
    }
    return true;
}

bool nb__select_region(nb_program *p, nb__step *s, int threads, nb__region *r) {
    operands *o = nb__step_alloc(p->nb, sizeof *o);
    int       n_out = 0;
    if (!o || s->n_nodes > NB__REGION_MAX || !list_instructions(p, s, o, r)) return false;
    r->fresh = 0;
    r->space = s->space;
    r->rows = s->rows;
    r->columns = s->columns;
    r->n_in = o->n;
    for (int k = 0; k < s->n_nodes; k++) {
        n_out += r->instruction[k].store >= 0;
        for (int m = 0; m < 3; m++) {
            int *in = &r->instruction[k].in[m];
            *in = *in >= NB__REGION_MAX ? *in - NB__REGION_MAX : *in >= 0 ? *in + o->n : -1;
        }
    }
    if (!nb__make_arrays(p, s, o->n, n_out)) return false;
    for (int i = 0; i < o->n; i++) {
        nb__set_array(p, s, i, o->node[i], o->array[i]);
        r->in_dtype[i] = o->array[i].dtype;
        r->in_part[i] = o->part[i];
    }
    for (int k = 0, at = o->n; k < s->n_nodes; k++)
        if (r->instruction[k].store >= 0) nb__set_array(p, s, at++, s->node[k], result_array(p, s, k));
    s->call.c.out = s->call.out[0];
    for (int k = 0; k < n_out; k++)
        if (is_fresh(p, s, o->n, o->n + k)) r->fresh |= UINT64_C(1) << k;
    return nb__plan_region(p->nb, p->nb->isa, r, &s->call, threads, &s->plan);
}
