/* net.c: a net is its outermost layer, the shape of one item, and what a summary says of its leaves. */
#include <stdio.h>
#include <string.h>

#include "nn.h"

/* A layer without layers inside. */
typedef struct leaf {
    nb_layer *layer;
    char     *path;
    nb_dims   output; /* one item */
    double    flops;
} leaf;

struct nb_net {
    nb_context *nb;
    nb_layer   *root;
    nb_dims     input, output;
    char       *text;
    int64_t     value_size; /* bytes of one value between layers */
    int         n_leaves;
    leaf       *leaves;
};

/* Without the batch. */
static nb_dims item_of(nb_dims s) {
    nb_dims item = {.rank = s.rank < 1 ? -1 : s.rank - 1};
    for (int i = 0; i < item.rank; i++) item.size[i] = s.size[i + 1];
    return item;
}

static char *copy_text(nb_context *nb, const char *text) {
    size_t n = strlen(text) + 1;
    char  *copy = nb_alloc(nb, n);
    return copy ? memcpy(copy, text, n) : NULL;
}

static void free_net(void *object) {
    nb_net     *net = object;
    nb_context *nb = net->nb;
    nb__layer_free(net->root);
    for (int i = 0; i < net->n_leaves; i++) nb_free(nb, net->leaves[i].path);
    nb_free(nb, net->leaves);
    nb_free(nb, net->text);
    nb_free(nb, net);
}

void nb_net_free(nb_net *net) {
    if (!net) return;
    nb_disown(net->nb, net);
    free_net(net);
}

/* ------------------------------------------------------------------------------------------------------------------ a summary */

static double flops_of(const nb_tensor *t) {
    const nb_op *op = nb_op_of(t);
    if (op->flops) return op->flops(t);
    return op->kind == NB_LEAF || op->kind == NB_VIEW || op->kind == NB_ASSIGN ? 0 : (double)nb_count(t);
}

/* The leaf that made a node: leaves are applied in their order, so their serials ascend. NULL: made between two leaves, by a
 * residual. */
static leaf *leaf_of(nb_net *net, uint64_t serial) {
    int low = 0, high = net->n_leaves; /* the first leaf that was done by then */
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (net->leaves[middle].layer->last < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low < net->n_leaves && net->leaves[low].layer->first < serial ? &net->leaves[low] : NULL;
}

/* Applies the net to one item, without computing anything, and gives each node's arithmetic to the leaf that made it. */
static void measure(nb_net *net) {
    nb_context *nb = net->nb;
    nb_dims     batch = {.rank = net->input.rank + 1, .size = {1}};
    for (int i = 0; i < net->input.rank; i++) batch.size[i + 1] = net->input.size[i];
    nb_tensor *x = nb_zeros(nb, nb_net_input_dtype(net), batch);
    nb_tensor *y = nb_layer_apply(net->root, x, NB_EVAL);
    if (nb_error(nb)) return;
    net->output = item_of(nb_shape_of(y));
    net->value_size = (int64_t)nb_dtype_size(nb_dtype_of(y));
    char path[NB__MAX_NESTING * NB__NAME_SIZE];
    for (int i = 0; i < net->n_leaves; i++) {
        leaf     *f = &net->leaves[i];
        nb_layer *l = f->layer, *before = i ? net->leaves[i - 1].layer : l;
        if (l->last < before->last) l->last = before->last; /* it gave an older value: layers of the user's own may */
        if (i && l->first < before->last) l->first = before->last;
        f->output = item_of(l->output);
        nb__layer_path(l, NULL, '.', path, sizeof path);
        f->path = copy_text(nb, path);
    }
    nb_list nodes = nb_graph(nb, nb_list_of(nb, y));
    for (int i = 0; i < nodes.n; i++) {
        leaf *f = leaf_of(net, nb_serial(nodes.at[i]));
        if (f) f->flops += flops_of(nodes.at[i]);
    }
}

static bool add_leaves(nb_net *net) {
    int n = 0;
    for (nb_layer *l = net->root; l; l = nb__layer_next(net->root, l)) n += l->n_inside == 0;
    net->leaves = nb_alloc(net->nb, (size_t)n * sizeof *net->leaves);
    if (!net->leaves) return false;
    for (nb_layer *l = net->root; l; l = nb__layer_next(net->root, l))
        if (l->n_inside == 0) net->leaves[net->n_leaves++] = (leaf){.layer = l, .output = {.rank = -1}};
    return true;
}

nb_net *nb__net_new(nb_context *nb, nb_layer *root, nb_dims input, const char *text) {
    if (!root) return NULL;
    if (root->parent || root->is_root)
        nb_fail(nb, NB_INVALID, "nb_net_new: the layer is inside another one, or a net's already");
    else if (input.rank < 0 || input.rank >= NB_MAX_RANK)
        nb_fail(nb, NB_INVALID, "nb_net_new: the shape of one item has 0 to %d axes", NB_MAX_RANK - 1);
    nb_net *net = nb_error(nb) ? NULL : nb_alloc(nb, sizeof *net);
    if (!net) return NULL;
    *net = (nb_net){.nb = nb, .input = input, .output = {.rank = -1}};
    if (!nb_own(nb, net, free_net)) return NULL;
    nb_disown(nb, root);
    net->root = root;
    root->is_root = true;
    net->text = copy_text(nb, text);
    if (net->text && add_leaves(net)) measure(net);
    if (!nb_error(nb)) return net;
    nb_net_free(net);
    return NULL;
}

nb_net *nb_net_new(nb_context *nb, nb_layer *root, nb_dims input) { return nb__net_new(nb, root, input, ""); }

/* --------------------------------------------------------------------------------------------------------------------- in use */

nb_tensor *nb_net_apply(nb_net *net, nb_tensor *x, nb_mode mode) {
    if (!x) return net ? nb_fail(net->nb, NB_INVALID, "nb_net_apply: x is NULL") : NULL;
    nb_context *nb = nb_context_of(x);
    if (!net || nb_has_failed(x)) return nb_failed(nb);
    if (nb__same_shape(item_of(nb_shape_of(x)), net->input)) return nb_layer_apply(net->root, x, mode);
    char want[128], got[128];
    return nb_fail(nb, NB_INVALID,
                   "nb_net_apply: the net takes a batch of items %s, got %s: nb_reshape it, or make the net for that shape",
                   nb__shape_text(net->input, want, sizeof want), nb__shape_text(nb_shape_of(x), got, sizeof got));
}

nb_layer   *nb_net_root(nb_net *net) { return net ? net->root : NULL; }
nb_list     nb_net_parameters(nb_net *net) { return nb_layer_parameters(nb_net_root(net)); }
nb_list     nb_net_state(nb_net *net) { return nb_layer_state(nb_net_root(net)); }
nb_dims     nb_net_input(const nb_net *net) { return net ? net->input : (nb_dims){.rank = -1}; }
nb_dims     nb_net_output(nb_net *net) { return net ? net->output : (nb_dims){.rank = -1}; }
nb_context *nb_net_context(const nb_net *net) { return net ? net->nb : NULL; }
const char *nb_net_text(const nb_net *net) { return net ? net->text : ""; }
int         nb_net_layer_count(nb_net *net) { return net ? net->n_leaves : 0; }

nb_dtype nb_net_input_dtype(nb_net *net) {
    if (net && net->n_leaves && net->leaves[0].layer->takes_indices) return NB_I64;
    nb_list state = nb_net_state(net);
    return state.n ? nb_dtype_of(state.at[0]) : NB_F32;
}

nb_layer_info nb_net_layer_info(nb_net *net, int i) {
    if (!net || i < 0 || i >= net->n_leaves) return (nb_layer_info){.path = "", .type = "", .output = {.rank = -1}};
    const leaf   *f = &net->leaves[i];
    nb_layer_info info = {
        .path = f->path, .type = f->layer->type, .output = f->output, .flops = f->flops, .bytes = net->value_size};
    for (int k = 0; k < f->output.rank; k++) info.bytes *= f->output.size[k];
    for (int k = 0; k < f->layer->n_slots; k++) {
        const nb__slot *s = &f->layer->slots[k];
        if (s->role != NB__WEIGHT) continue;
        info.parameters += nb_count(s->tensor);
        if (!f->layer->frozen) info.trainable += nb_count(s->tensor);
    }
    return info;
}
