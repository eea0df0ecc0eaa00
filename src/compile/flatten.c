/* flatten.c: images that a net flattens for a product lie channels-last (layout.c), so rows in the order of their channels would
 * be a copy in each run. Weights that last are put in the order of the image instead, once:
 *
 *   reshape(x[N,C,H,W], [N,CHW]) W     reshape(permute(x, NHWC), [N,HWC]) W'
 *
 * where W' are the rows of W in that order, and both of x's views show its memory. Sums run in another order. */
#include "rewrite.h"

/* Whether image i comes from a convolution through nothing but pools and elementwise work, which keep its order (layout.c). */
static bool is_channels_last(const nb__rewrite *r, int i) {
    enum { MOST = 128 };
    for (int steps = 0; steps < MOST; steps++) {
        const nb__node *n = &r->old[i];
        if (nb__is_computed(n, &nb__op_conv2d)) return n->dtype == NB_F32;
        bool is_pool = n->op == &nb__op_pool_take || n->op == &nb__op_max_pool2d_index || n->op == &nb__op_avg_pool2d;
        int  leader[NB__MOST_LEADERS];
        if (n->source != NB__COMPUTED || n->is_watched || !(is_pool || nb__is_elementwise(n->op))) return false;
        if (nb__leaders(r->old, n, leader) == 0) return false;
        i = leader[0];
    }
    return false;
}

/* Matrix v, with the channels, rows and columns of images `d` on one axis: in the order rows, columns, channels. */
static int reorder(nb__rewrite *r, int v, int axis, nb_dims d) {
    nb_dims shape = r->node[v].shape;
    int64_t other = shape.size[1 - axis];
    nb_dims split = axis ? nb_shape(other, d.size[1], d.size[2], d.size[3]) : nb_shape(d.size[1], d.size[2], d.size[3], other);
    int     turned = nb__make_permute(r, nb__make_reshape(r, v, split), axis ? nb_axes(0, 2, 3, 1) : nb_axes(1, 2, 0, 3));
    return nb__make_reshape(r, turned, shape);
}

int nb__flatten_rule(nb__rewrite *r, int old) {
    nb__node y = r->old[old];
    if (r->level < NB__LAST || !nb__is_computed(&y, &nb__op_matmul) || y.shape.rank != 2 || !r->old[y.in[1]].lasts) return -1;
    const nb__node *flat = &r->old[y.in[0]];
    if (!nb__is_computed(flat, &nb__op_reshape) || r->users[y.in[0]] != 1) return -1;
    int     image = flat->in[0], w = r->to[y.in[1]];
    nb_dims d = r->old[image].shape;
    if (d.rank != 4 || d.size[0] != y.shape.size[0] || d.size[1] == 1 || d.size[2] * d.size[3] == 1) return -1;
    if (nb__dims_count(d) == 0 || !is_channels_last(r, image)) return -1;
    int in[2] = {nb__make_reshape(r, nb__make_permute(r, r->to[image], nb_axes(0, 2, 3, 1)), flat->shape)};
    if (nb__swaps_matrix(&r->node[w]))
        in[1] = nb__make_permute(r, reorder(r, r->node[w].in[0], 1, d), nb_axes(1, 0));
    else
        in[1] = reorder(r, w, 0, d);
    int made = nb__make(r, y.op, 2, in, y.dtype, y.shape, y.attr);
    if (made >= 0) r->changed = true;
    return made;
}
