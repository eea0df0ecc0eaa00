/* views.c: rules for views and concats. None changes a bit: the same elements are shown with fewer steps between.
 *
 *   stop_gradient(x), with_derivative(x, ...)       x: they matter to derivatives only
 *   reshape, permute, expand, slice to what is there   x
 *   reshape of reshape, permute of permute, expand of expand, slice of slice     one view
 *   a view of a constant that is the same everywhere                             that constant in another shape
 *   slice of a concat within one operand            slice of the operand
 *   slice_grad of a whole                           x
 *   concat of one                                   x
 *   concat of neighbouring slices of x              slice of x
 *   concat of neighbouring operands of a concat     slice of that concat */
#include <string.h>

#include "rewrite.h"

static const nb__node *operand(const nb__rewrite *r, const nb__node *n) { return &r->node[n->in[0]]; }

static int reshape_rule(nb__rewrite *r, const nb__node *n) {
    const nb__node *x = operand(r, n);
    if (nb__dims_equal(x->shape, n->shape)) return n->in[0];
    return nb__is_computed(x, &nb__op_reshape) ? nb__make_reshape(r, x->in[0], n->shape) : -1;
}

static int permute_rule(nb__rewrite *r, const nb__node *n) {
    const nb__node *x = operand(r, n);
    nb_dims         axes = ((const nb__dims_attr *)n->attr)->dims;
    bool            in_order = true;
    for (int i = 0; i < axes.rank; i++) in_order &= axes.size[i] == i;
    if (in_order) return n->in[0];
    if (!nb__is_computed(x, &nb__op_permute)) return -1;
    nb_dims inner = ((const nb__dims_attr *)x->attr)->dims;
    for (int i = 0; i < axes.rank; i++) axes.size[i] = inner.size[axes.size[i]];
    return nb__make_permute(r, x->in[0], axes);
}

static int expand_rule(nb__rewrite *r, const nb__node *n) {
    const nb__node *x = operand(r, n);
    if (nb__dims_equal(x->shape, n->shape)) return n->in[0];
    if (!nb__is_computed(x, &nb__op_expand)) return -1;
    return nb__make(r, &nb__op_expand, 1, x->in, n->dtype, n->shape, n->attr);
}

/* slice b of slice a: the places a.start + a.step (b.start + b.step i) */
static int slice_of_slice(nb__rewrite *r, const nb__node *n, const nb__node *x) {
    const nb__slice_attr *a = x->attr, *b = n->attr;
    nb__slice_attr        both = *b;
    for (int i = 0; i < n->shape.rank; i++) {
        both.start.size[i] = a->start.size[i] + a->step.size[i] * b->start.size[i];
        both.step.size[i] = b->size.size[i] > 1 ? a->step.size[i] * b->step.size[i] : 1;
        if (b->size.size[i] == 0) return -1;
    }
    return nb__make(r, &nb__op_slice, 1, x->in, n->dtype, n->shape, &both);
}

static int slice_of_concat(nb__rewrite *r, const nb__node *n, const nb__node *x) {
    const nb__slice_attr *a = n->attr;
    int                   axis = (int)((const nb__axis_attr *)x->attr)->axis, k = 0;
    int64_t size = a->size.size[axis], first = a->start.size[axis], last = first + (size - 1) * a->step.size[axis], at = 0;
    if (size == 0) return -1;
    while (k < x->n_in && at + r->node[x->in[k]].shape.size[axis] <= first) at += r->node[x->in[k++]].shape.size[axis];
    if (k == x->n_in || last < at || last >= at + r->node[x->in[k]].shape.size[axis]) return -1;
    nb__slice_attr part = *a;
    part.start.size[axis] -= at;
    return nb__make(r, &nb__op_slice, 1, &x->in[k], n->dtype, n->shape, &part);
}

static int slice_rule(nb__rewrite *r, const nb__node *n) {
    const nb__node       *x = operand(r, n);
    const nb__slice_attr *a = n->attr;
    if (nb__part_axis(a, x->shape) == x->shape.rank) return n->in[0];
    if (nb__is_computed(x, &nb__op_slice)) return slice_of_slice(r, n, x);
    return nb__is_computed(x, &nb__op_concat) ? slice_of_concat(r, n, x) : -1;
}

/* The node of which operand k is a slice along the axis, and where; -1. */
static int sliced_from(const nb__rewrite *r, int k, int axis, int64_t *start) {
    const nb__node *n = &r->node[k];
    if (!nb__is_computed(n, &nb__op_slice)) return -1;
    const nb__slice_attr *a = n->attr;
    if (nb__part_axis(a, r->node[n->in[0]].shape) != axis) return -1;
    *start = a->start.size[axis];
    return n->in[0];
}

static int concat_of_slices(nb__rewrite *r, const nb__node *n, int axis) {
    int64_t first, at, next;
    int     of = sliced_from(r, n->in[0], axis, &first);
    if (of < 0) return -1;
    next = first + operand(r, n)->shape.size[axis];
    for (int k = 1; k < n->n_in; k++) {
        if (sliced_from(r, n->in[k], axis, &at) != of || at != next) return -1;
        next += r->node[n->in[k]].shape.size[axis];
    }
    return nb__make_slice(r, of, axis, first, next - first);
}

static int concat_of_joined(nb__rewrite *r, const nb__node *n, int axis) {
    int c = r->joined[n->in[0]], from = r->position[n->in[0]];
    if (c < 0) return -1;
    const nb__node *whole = &r->node[c];
    if (((const nb__axis_attr *)whole->attr)->axis != axis || from + n->n_in > whole->n_in) return -1;
    if (memcmp(n->in, whole->in + from, (size_t)n->n_in * sizeof *n->in) != 0) return -1;
    int64_t start = 0;
    for (int k = 0; k < from; k++) start += r->node[whole->in[k]].shape.size[axis];
    return nb__make_slice(r, c, axis, start, n->shape.size[axis]);
}

static int concat_rule(nb__rewrite *r, const nb__node *n) {
    int axis = (int)((const nb__axis_attr *)n->attr)->axis;
    if (n->n_in == 1) return n->in[0];
    int made = concat_of_slices(r, n, axis);
    return made >= 0 ? made : concat_of_joined(r, n, axis);
}

static int slice_grad_rule(nb__rewrite *r, const nb__node *n) {
    const nb__slice_grad_attr *a = n->attr;
    (void)r;
    return nb__part_axis(&a->slice, a->shape) == a->shape.rank ? n->in[0] : -1;
}

int nb__views_rule(nb__rewrite *r, const nb__node *n) {
    if (n->op == &nb__op_concat) return concat_rule(r, n);
    if (n->op == &nb__op_slice_grad) return slice_grad_rule(r, n);
    if (n->op->kind != NB_VIEW) return -1;
    const nb__node *x = operand(r, n);
    if (n->op == &nb__op_stop_gradient || n->op == &nb__op_with_derivative) return n->in[0];
    bool is_known = n->op == &nb__op_reshape || n->op == &nb__op_permute || n->op == &nb__op_expand || n->op == &nb__op_slice;
    if (is_known && x->is_splat && x->is_backward && nb__is_zeros(x)) return nb__make_zeros(r, n->dtype, n->shape);
    if (is_known && x->is_splat) return nb__make_splat(r, n->dtype, n->shape, x->data);
    if (n->op == &nb__op_reshape) return reshape_rule(r, n);
    if (n->op == &nb__op_permute) return permute_rule(r, n);
    if (n->op == &nb__op_expand) return expand_rule(r, n);
    return n->op == &nb__op_slice ? slice_rule(r, n) : -1;
}
