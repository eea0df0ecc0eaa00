/* pools.c: a max pool goes before elementwise work that keeps the order of its elements, because it leaves less to be done:
 *
 *   max_pool(relu(x)) = relu(max_pool(x))     max_pool(x + v) = max_pool(x) + v, also x - v, for one v in each channel
 *
 * if nothing else reads what lies between, and nobody the places (a derivative would). Rounding keeps the order, so the values
 * are the same, except for the sign of a zero, and for what infinity - infinity makes where v itself is infinite. */
#include "rewrite.h"

/* The operand that is as large as the image, if work n on it keeps the order of its elements within a channel; -1. */
static int ordered_operand(const nb__rewrite *r, const nb__node *n) {
    int row = nb__row_of(n->op);
    if (n->source != NB__COMPUTED || n->is_watched || n->shape.rank != 4) return -1;
    if (row == NB__ROW_relu) return 0;
    if (row != NB__ROW_add && row != NB__ROW_sub) return -1;
    for (int k = 0; k < (row == NB__ROW_add ? 2 : 1); k++) {
        nb_dims v = r->old[n->in[1 - k]].shape;
        bool    by_channel = v.rank == 0 || v.size[v.rank - 1] == 1;
        if (v.rank > 1) by_channel &= v.size[v.rank - 2] == 1;
        if (by_channel && nb__dims_equal(r->old[n->in[k]].shape, n->shape)) return k;
    }
    return -1;
}

int nb__pool_rule(nb__rewrite *r, int old) {
    nb__node take = r->old[old];
    if (r->level < NB__LAST || !nb__is_computed(&take, &nb__op_pool_take)) return -1;
    int             image = take.in[0], index = take.in[1];
    const nb__node *find = &r->old[index];
    if (!nb__is_computed(find, &nb__op_max_pool2d_index) || find->in[0] != image || r->users[index] != 1 || r->users[image] != 2)
        return -1;
    nb__node work = r->old[image];
    int      k = ordered_operand(r, &work);
    if (k < 0) return -1;
    int x = r->to[work.in[k]];
    int places = nb__make(r, &nb__op_max_pool2d_index, 1, &x, find->dtype, find->shape, find->attr);
    int in[2];
    in[k] = nb__make(r, &nb__op_pool_take, 2, (int[]){x, places}, take.dtype, take.shape, take.attr);
    in[1 - k] = work.n_in > 1 ? r->to[work.in[1 - k]] : -1;
    int made = nb__make(r, work.op, work.n_in, in, take.dtype, take.shape, work.attr);
    if (made >= 0) r->changed = true;
    return made;
}
