/* norms.c: scales and shifts of channels behind a convolution or a product, which is what a batch norm is when it does not
 * learn, go into the weights and one shift:
 *
 *   ((conv(x, W) + b) - mean) * scale + beta     conv(x, W * scale) + ((b - mean) * scale + beta)
 *
 * if nothing else reads what lies between, and W, scales and shifts last (lasting.c): they are then put together once. Rounding
 * differs: W * scale is rounded before the sum, not after. */
#include "rewrite.h"

enum { MOST_LINKS = 8 }; /* operators in a chain */

/* One operator of the chain: old numbers. */
typedef struct link {
    int row, main, vector;
} link;

static bool is_core(const nb__node *n) {
    bool is_product = n->op == &nb__op_matmul && n->shape.rank == 2;
    return n->source == NB__COMPUTED && nb__is_float(n->dtype) && (n->op == &nb__op_conv2d || is_product);
}

/* One number for each channel, or one for all. */
static bool is_vector(const nb__rewrite *r, int i, nb_dims whole, int axis) {
    const nb__node *v = &r->old[i];
    int             skip = (int)(whole.rank - v->shape.rank);
    if (!v->lasts || skip < 0) return false;
    for (int k = 0; k < v->shape.rank; k++)
        if (v->shape.size[k] != 1 && (k + skip != axis || v->shape.size[k] != whole.size[axis])) return false;
    return true;
}

static bool find_link(const nb__rewrite *r, int i, int axis, link *found) {
    const nb__node *n = &r->old[i];
    int             row = nb__row_of(n->op);
    bool            swaps = row == NB__ROW_add || row == NB__ROW_mul;
    if (n->source != NB__COMPUTED || n->is_watched || !(swaps || row == NB__ROW_sub || row == NB__ROW_div)) return false;
    for (int k = 0; k <= swaps; k++) {
        if (!nb__dims_equal(r->old[n->in[k]].shape, n->shape) || !is_vector(r, n->in[1 - k], n->shape, axis)) continue;
        *found = (link){row, n->in[k], n->in[1 - k]};
        return true;
    }
    return false;
}

/* The chain that ends in old node `last`, the core's reader first. Returns its length, 0: there is none. */
static int find_chain(const nb__rewrite *r, int last, link *chain, int *core) {
    link back[MOST_LINKS];
    int  n = 0, at = last, axis = r->old[last].shape.rank == 4 ? 1 : (int)r->old[last].shape.rank - 1;
    while (n < MOST_LINKS && (at == last || r->users[at] == 1) && find_link(r, at, axis, &back[n])) at = back[n++].main;
    if (!n || !is_core(&r->old[at]) || r->old[at].is_watched || r->users[at] != 1) return 0;
    for (int k = 0; k < n; k++) chain[k] = back[n - 1 - k];
    *core = at;
    return n;
}

static int combine(nb__rewrite *r, int row, int a, int b) {
    nb_dims shape;
    if (a < 0 || b < 0 || !nb__broadcast(r->node[a].shape, r->node[b].shape, &shape)) return -1;
    return nb__make(r, &nb__elementwise[row], 2, (int[]){a, b}, r->node[a].dtype, shape, NULL);
}

static bool has_scale(const link *chain, int n) {
    for (int k = 0; k < n; k++)
        if (chain[k].row == NB__ROW_mul || chain[k].row == NB__ROW_div) return true;
    return false;
}

/* The chain as x * scale + shift; -1: no shift. */
static bool sum_up(nb__rewrite *r, const link *chain, int n, int *scale, int *shift) {
    *scale = *shift = -1;
    for (int k = 0; k < n; k++) {
        int v = r->to[chain[k].vector], row = chain[k].row;
        int one = nb__make_number(r, r->node[v].dtype, nb_shape(), 1);
        int zero = nb__make_number(r, r->node[v].dtype, nb_shape(), -0.0);
        if (row == NB__ROW_add || row == NB__ROW_sub) {
            *shift = combine(r, row, *shift < 0 ? zero : *shift, v);
            if (*shift < 0) return false;
        } else {
            *scale = combine(r, row, *scale < 0 ? one : *scale, v);
            if (*shift >= 0) *shift = combine(r, row, *shift, v);
            if (*scale < 0) return false;
        }
    }
    return true;
}

/* W with the scale in it: along the first axis of a convolution's, along the last of a product's. */
static int scaled(nb__rewrite *r, const nb__node *core, int w, int scale) {
    int64_t count = nb__dims_count(r->node[scale].shape);
    if (core->op == &nb__op_conv2d) scale = nb__make_reshape(r, scale, nb_shape(count, 1, 1, 1));
    return combine(r, NB__ROW_mul, w, scale);
}

int nb__norm_rule(nb__rewrite *r, int old) {
    link chain[MOST_LINKS], next;
    int  core = -1, scale, shift, by = r->user[old], axis = r->old[old].shape.rank == 4 ? 1 : (int)r->old[old].shape.rank - 1;
    if (r->level < NB__PRODUCTS) return -1;
    if (r->users[old] == 1 && by >= 0 && find_link(r, by, axis, &next) && next.main == old) return -1; /* not the last */
    int n = find_chain(r, old, chain, &core);
    if (!has_scale(chain, n) || !r->old[r->old[core].in[1]].lasts || !sum_up(r, chain, n, &scale, &shift)) return -1;
    nb__node y = r->old[core];
    int      in[2] = {r->to[y.in[0]], scaled(r, &y, r->to[y.in[1]], scale)};
    int      made = nb__make(r, y.op, 2, in, y.dtype, y.shape, y.attr);
    if (shift >= 0) made = combine(r, NB__ROW_add, made, shift);
    if (made >= 0) r->changed = true;
    return made;
}
