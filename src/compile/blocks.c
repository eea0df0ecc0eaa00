/* blocks.c: a program that treats the items of a batch alike, inference above all, runs block by block of them if what all items
 * need at once would not stay in the caches: values then are where the next call finds them, and the workspace is that of one
 * block.
 *
 * Items are the first axis of inputs. A node is computed from items if one of its operands is; where each such node keeps its
 * items apart and in order on its first axis, one or more rows for each, all of them, the results too, are made for a block of
 * items. Inputs and results stay whole: a run moves along them (run.c). Blocks have one size; the last one ends with the batch
 * and may compute again what the one before has. */
#include <string.h>

#include "ops.h"
#include "program.h"

enum {
    MOST_BYTES = 12 << 20, /* of values in a block */
    LEAST_ITEMS = 16,      /* smaller blocks would keep products from their peak, and threads from each other's company */
};

/* Whether operand k goes along with items or is the same for all of them, as in a[N,...] + b[...]. */
static bool follows(const nb_program *p, const nb__node *n, int k) {
    const nb__node *in = &p->node[n->in[k]];
    if (in->by_item) return in->shape.rank == n->shape.rank && in->shape.size[0] == n->shape.size[0];
    return in->shape.rank < n->shape.rank || in->shape.size[0] == 1;
}

static bool is_by_item(const nb_program *p, int i, int k) { return p->node[p->node[i].in[k]].by_item; }

/* Whether a reduction, or a running sum, leaves the first axis alone; axes ascend. */
static bool leaves_items(const nb__node *n) {
    if (n->op != &nb__op_sum && n->op != &nb__op_moments) return ((const nb__axis_attr *)n->attr)->axis > 0;
    const nb_dims *axes = &((const nb__axes_attr *)n->attr)->axes;
    return axes->rank == 0 || axes->size[0] > 0;
}

static bool reduces(const nb_op *op) {
    return op == &nb__op_sum || op == &nb__op_moments || op == &nb__op_max || op == &nb__op_min || op == &nb__op_prod ||
           op == &nb__op_argmax || op == &nb__op_argmin || op == &nb__op_cumsum;
}

/* Whether node i, with an operand by items, makes its result item by item, along the first axis. What can fail is not here: its
 * message names a place in the batch. */
static bool keeps_items(const nb_program *p, int i, int64_t items) {
    const nb__node *n = &p->node[i];
    const nb_op    *op = n->op;
    if (n->shape.rank == 0 || n->shape.size[0] % items != 0) return false;
    if (op == &nb__op_reshape) return true;
    if (n->shape.size[0] != p->node[n->in[0]].shape.size[0] && is_by_item(p, i, 0)) return false;
    if (nb__is_elementwise(op)) {
        for (int k = 0; k < n->n_in; k++)
            if (!follows(p, n, k)) return false;
        return true;
    }
    if (op == &nb__op_matmul)
        return is_by_item(p, i, 0) && follows(p, n, 0) && (n->shape.rank > 2 ? follows(p, n, 1) : !is_by_item(p, i, 1));
    if (op == &nb__op_conv2d) return is_by_item(p, i, 0) && !is_by_item(p, i, 1);
    if (op == &nb__op_pool_take) return is_by_item(p, i, 0) && is_by_item(p, i, 1);
    if (op == &nb__op_max_pool2d_index || op == &nb__op_avg_pool2d) return true;
    if (reduces(op)) return leaves_items(n);
    if (op == &nb__op_concat) {
        for (int k = 0; k < n->n_in; k++)
            if (!is_by_item(p, i, k)) return false;
        return ((const nb__axis_attr *)n->attr)->axis > 0;
    }
    if (op == &nb__op_permute) return ((const nb__dims_attr *)n->attr)->dims.size[0] == 0;
    if (op == &nb__op_expand) return follows(p, n, 0);
    if (op == &nb__op_slice) return ((const nb__slice_attr *)n->attr)->step.size[0] == 1;
    return false;
}

/* Marks nodes by items; false: some node, or a result, is not of the kind, or there are no items. */
static bool mark(nb_program *p, int64_t *items) {
    *items = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &p->node[i];
        if (n->is_dead) continue;
        if (n->source == NB__KEPT_LEAF && !n->kept->storage->is_versioned && n->shape.rank && n->shape.size[0]) {
            if (!*items) *items = n->shape.size[0];
            n->by_item = n->shape.size[0] == *items;
        }
        bool any = false;
        for (int k = 0; n->source == NB__COMPUTED && k < n->n_in; k++) any |= is_by_item(p, i, k);
        if (!any) continue;
        n->by_item = true;
        if (!keeps_items(p, i, *items)) return false;
    }
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] < 0 || !p->node[p->root[i]].by_item) return false;
    return *items > 0;
}

/* A call of its own. */
static bool is_call(const nb__node *n) {
    return n->source == NB__COMPUTED && (n->op->kind == NB_CONTRACTION || n->op->kind == NB_OPAQUE);
}

/* Whether one call leaves values for another: regions keep what lies between elementwise work and reductions in the first cache
 * anyway. */
static bool has_values_between(const nb_program *p) {
    for (int i = 0; i < p->n_nodes; i++) {
        const nb__node *n = &p->node[i];
        if (!n->by_item || n->source != NB__COMPUTED || nb__is_view(n)) continue;
        for (int k = 0; k < n->n_in; k++) {
            const nb__node *in = &p->node[n->in[k]];
            while (nb__is_view(in)) in = &p->node[in->in[0]];
            if (in->by_item && in->source == NB__COMPUTED && (is_call(n) || is_call(in))) return true;
        }
    }
    return false;
}

static double bytes_an_item(const nb_program *p, int64_t items) {
    double bytes = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        const nb__node *n = &p->node[i];
        if (n->by_item && n->source == NB__COMPUTED && n->op->kind != NB_VIEW)
            bytes += (double)nb__dims_count(n->shape) * (double)nb_dtype_size(n->dtype);
    }
    return bytes / (double)items;
}

/* The node's shape, and what its attributes say of it, for a block. */
static bool cut(nb_program *p, nb__node *n) {
    n->shape.size[0] = n->shape.size[0] / p->items * p->block;
    bool is_slice = n->op == &nb__op_slice, has_dims = n->op == &nb__op_reshape || n->op == &nb__op_expand;
    if (n->source != NB__COMPUTED || !(is_slice || has_dims)) return true;
    void *attr = nb__program_alloc(p, n->op->attr_size);
    if (!attr) return false;
    n->attr = memcpy(attr, n->attr, n->op->attr_size);
    (is_slice ? &((nb__slice_attr *)attr)->size : &((nb__dims_attr *)attr)->dims)->size[0] = n->shape.size[0];
    return true;
}

bool nb__cut_blocks(nb_program *p, bool cuts) {
    int64_t items, blocks = 0;
    bool    is_free = cuts && !p->n_commits && !p->n_arguments && !p->has_random && mark(p, &items) &&
                   (p->nb->block_items || has_values_between(p));
    if (is_free) {
        double block = p->nb->block_items, most = MOST_BYTES / (bytes_an_item(p, items) + 1);
        if (!p->nb->block_items && most >= LEAST_ITEMS) block = most;
        if (block >= 1 && block < (double)items) blocks = (items + (int64_t)block - 1) / (int64_t)block;
    }
    for (int i = 0; i < p->n_nodes; i++) p->node[i].by_item &= blocks > 1;
    if (blocks < 2) return true;
    p->items = items;
    p->block = (items + blocks - 1) / blocks;
    for (int i = 0; i < p->n_nodes; i++)
        if (p->node[i].by_item && !cut(p, &p->node[i])) return false;
    return true;
}

int nb__blocks(const nb_program *p) { return p->block ? (int)((p->items + p->block - 1) / p->block) : 1; }
