/* sums.c: rules for chains of additions, as nb_grads makes them where a tensor has several users: ((g1 + g2) + g3) + ...
 *
 *   v(a) + v(b)           v(a + b), v a reshape, a permute or a slice_grad with the same attributes
 *   sum of slice_grads    concat of the pieces, zeros between: each was a tensor as large as the whole, nearly all of it zeros
 *
 * and those of products.c. Terms of other kinds follow in their order. A piece of a concat was x + 0 + 0 + ... before: the
 * same bits, but that -0 stays -0. With terms of other kinds among them, additions are done in another order than written. */
#include <stdlib.h>
#include <string.h>

#include "rewrite.h"

static bool is_add(const nb__node *n) { return nb__is_computed(n, &nb__elementwise[NB__ROW_add]); }

/* Whether an old addition only serves another one. */
static bool is_inner(const nb__rewrite *r, int i) {
    const nb__node *n = &r->old[i];
    if (n->is_watched || r->users[i] != 1 || r->user[i] < 0) return false;
    const nb__node *by = &r->old[r->user[i]];
    return is_add(n) && is_add(by) && nb__dims_equal(n->shape, by->shape);
}

/* Terms of the chain that ends in `last`, from left to right, as old numbers. r->terms has room for them and for the
 * additions still to be visited. */
static int collect(nb__rewrite *r, int last) {
    int *term = r->terms, n = 0, *open = r->terms + r->n_old + 1, n_open = 0;
    open[n_open++] = last;
    while (n_open) {
        int i = open[--n_open];
        if (i != last && !is_inner(r, i)) {
            term[n++] = i;
            continue;
        }
        open[n_open++] = r->old[i].in[1];
        open[n_open++] = r->old[i].in[0];
    }
    return n;
}

/* Takes out the terms that are -1 now. Returns how many are left. */
static int compact(int n, int *term, bool *once) {
    int left = 0;
    for (int k = 0; k < n; k++) {
        if (term[k] < 0) continue;
        once[left] = once[k];
        term[left++] = term[k];
    }
    return left;
}

/* ------------------------------------------------------------------------------------------- common views of the terms */

typedef struct viewed {
    uint64_t hash;
    int      term; /* its place in the chain */
} viewed;

static int by_hash(const void *a, const void *b) {
    const viewed *p = a, *q = b;
    if (p->hash != q->hash) return p->hash < q->hash ? -1 : 1;
    return p->term - q->term;
}

static bool is_linear_view(const nb__node *n) {
    return n->source == NB__COMPUTED && (n->op == &nb__op_reshape || n->op == &nb__op_permute || n->op == &nb__op_slice_grad);
}

static bool same_view(const nb__rewrite *r, const nb__node *a, const nb__node *b) {
    return a->op == b->op && nb__dims_equal(r->node[a->in[0]].shape, r->node[b->in[0]].shape) &&
           !memcmp(a->attr, b->attr, a->op->attr_size);
}

/* Gathers terms with one view around them. Returns how many terms there are then: new numbers. */
static int factor(nb__rewrite *r, int n, int *term, bool *once, viewed *list, int *inner) {
    int n_list = 0;
    for (int k = 0; k < n; k++) {
        const nb__node *t = &r->node[term[k]];
        if (!once[k] || !is_linear_view(t)) continue;
        uint64_t h = nb__hash(NB__HASH_START, &t->op, sizeof t->op);
        h = nb__hash(h, t->attr, t->op->attr_size);
        list[n_list++] = (viewed){nb__hash(h, &r->node[t->in[0]].shape, sizeof(nb_dims)), k};
    }
    qsort(list, (size_t)n_list, sizeof *list, by_hash);
    for (int k = 0; k < n_list;) {
        int      count = 0, first = list[k].term;
        nb__node view = r->node[term[first]];
        for (; k < n_list && same_view(r, &view, &r->node[term[list[k].term]]); k++)
            inner[count++] = r->node[term[list[k].term]].in[0];
        if (count == 0) k++;
        /* Beside other terms it would take a pass of its own: what nb_grads puts into a whole is worth that. */
        if (count < 2 || (count < n && view.op != &nb__op_slice_grad)) continue;
        int sum = nb__make_sum(r, count, inner);
        int made = nb__make(r, view.op, 1, &sum, view.dtype, view.shape, view.attr);
        if (made < 0) return -1;
        for (int m = k - count; m < k; m++) term[list[m].term] = -1;
        term[first] = made;
        r->changed = true;
    }
    return compact(n, term, once);
}

/* ------------------------------------------------------------------------------------------------- parts of one whole */

typedef struct part {
    int64_t start, size;
    int     node; /* the piece */
    int     term;
} part;

static int by_start(const void *a, const void *b) {
    const part *p = a, *q = b;
    return p->start < q->start ? -1 : p->start > q->start;
}

/* The axis along which a term is a part between zeros, or -1. */
static int part_axis(const nb__node *t) {
    if (!nb__is_computed(t, &nb__op_slice_grad)) return -1;
    const nb__slice_grad_attr *a = t->attr;
    int                        axis = nb__part_axis(&a->slice, a->shape);
    return axis < t->shape.rank ? axis : -1;
}

/* The pieces in order, zeros in the gaps. */
static int concat_parts(nb__rewrite *r, const part *list, int n, int axis, nb_dtype dtype, nb_dims shape, int *pieces) {
    int     count = 0;
    int64_t end = shape.size[axis], at = 0;
    for (int k = 0; k <= n; k++) {
        int64_t next = k < n ? list[k].start : end;
        nb_dims gap = shape;
        gap.size[axis] = next - at;
        if (next > at) pieces[count++] = nb__make_zeros(r, dtype, gap);
        if (k == n) break;
        pieces[count++] = list[k].node;
        at = next + list[k].size;
    }
    return nb__make_concat(r, count, pieces, axis);
}

/* Makes one concat of the terms that are parts along the axis of the first such term. Returns how many terms there are then. */
static int join_parts(nb__rewrite *r, int n, int *term, bool *once, part *list, int *pieces) {
    int axis = -1, n_list = 0;
    for (int k = 0; k < n; k++) {
        const nb__node *t = &r->node[term[k]];
        int             along = once[k] ? part_axis(t) : -1;
        if (along < 0 || (axis >= 0 && along != axis)) continue;
        axis = along;
        const nb__slice_attr *a = &((const nb__slice_grad_attr *)t->attr)->slice;
        list[n_list++] = (part){a->start.size[axis], a->size.size[axis], t->in[0], k};
    }
    if (n_list < 2) return n;
    qsort(list, (size_t)n_list, sizeof *list, by_start);
    for (int k = 1; k < n_list; k++)
        if (list[k - 1].start + list[k - 1].size > list[k].start) return n; /* they overlap */
    int made = concat_parts(r, list, n_list, axis, r->node[term[0]].dtype, r->node[term[0]].shape, pieces);
    if (made < 0) return -1;
    for (int k = 1; k < n_list; k++) term[list[k].term] = -1;
    term[list[0].term] = made;
    r->changed = true;
    return compact(n, term, once);
}

/* ------------------------------------------------------------------------------------------ the rule */

int nb__sums_rule(nb__rewrite *r, int old) {
    const nb__node *last = &r->old[old];
    if (r->level < NB__PARTS || !is_add(last) || last->is_watched || is_inner(r, old)) return -1;
    int    before = collect(r, old), n = before, *old_term = r->terms;
    size_t room = (size_t)n + 1;
    for (int k = 0; k < n; k++)
        if (!nb__dims_equal(r->old[old_term[k]].shape, last->shape)) return -1;
    int    *term = nb__round_alloc(r, room * sizeof *term), *scratch = nb__round_alloc(r, 2 * room * sizeof *scratch);
    bool   *once = nb__round_alloc(r, room);
    viewed *views = nb__round_alloc(r, room * sizeof *views);
    part   *parts = nb__round_alloc(r, room * sizeof *parts);
    if (!term || !scratch || !once || !views || !parts) return -1;
    for (int k = 0; k < n; k++) {
        term[k] = r->to[old_term[k]];
        once[k] = r->users[old_term[k]] == 1 && !r->old[old_term[k]].is_watched;
    }
    n = factor(r, n, term, once, views, scratch);
    if (n == before) n = join_parts(r, n, term, once, parts, scratch);
    if (n == before && r->level >= NB__PRODUCTS) n = nb__products_rule(r, n, term, once);
    if (n < 0 || n == before) return -1;
    return nb__make_sum(r, n, term);
}
