/* layout.c: where the elements of each value lie.
 *
 * Shapes are logical; the order in memory is chosen here. Convolutions produce channels-last images (that is how their kernels
 * are fastest), and what follows keeps the order of its operands, so that no transposition is needed between them. A view costs
 * nothing: it is other strides over the same buffer. Only where strides cannot express it, and where values leave the program, a
 * copy is made. Images that leave at once, or after elementwise work, are row-major from the start. */
#include <string.h>

#include "ops.h"
#include "program.h"

static bool is_row_major(const nb__node *n) {
    int64_t s = 1;
    for (int i = (int)n->shape.rank - 1; i >= 0; i--) {
        if (n->shape.size[i] > 1 && n->stride[i] != s) return false;
        s *= n->shape.size[i];
    }
    return true;
}

/* Axes by falling strides, as they are nested in memory; false when some are repeated or reversed. */
static bool nesting(const nb__node *n, int *axis) {
    int rank = (int)n->shape.rank;
    for (int i = 0; i < rank; i++) {
        if (n->stride[i] <= 0 && n->shape.size[i] > 1) return false;
        int k = i;
        /* An axis of size 1 stays where it is: its stride means nothing. */
        while (k > 0 && n->shape.size[i] > 1 && n->shape.size[axis[k - 1]] > 1 && n->stride[axis[k - 1]] < n->stride[i]) {
            axis[k] = axis[k - 1];
            k--;
        }
        axis[k] = i;
    }
    return true;
}

static void nested_like(nb__node *n, const int *axis) {
    int64_t s = 1;
    for (int i = (int)n->shape.rank - 1; i >= 0; i--) {
        n->stride[axis[i]] = s;
        s *= n->shape.size[axis[i]] > 0 ? n->shape.size[axis[i]] : 1;
    }
}

int nb__leaders(const nb__node *node, const nb__node *n, int *leader) {
    const nb_op *op = n->op;
    int          count = 0;
    if (op == &nb__op_max_pool2d_index || op == &nb__op_avg_pool2d || op == &nb__op_avg_pool2d_grad || op == &nb__op_sum ||
        op == &nb__op_max || op == &nb__op_min || op == &nb__op_pad || op == &nb__op_concat)
        leader[count++] = n->in[0];
    if (op == &nb__op_gather || op == &nb__op_scatter_add || op == &nb__op_pool_take || op == &nb__op_pool_put)
        leader[count++] = n->in[1]; /* the index: of a pool, as the image was */
    for (int k = 0; nb__is_elementwise(op) && k < n->n_in; k++)
        if (nb__dims_equal(node[n->in[k]].shape, n->shape)) leader[count++] = n->in[k];
    return count;
}

/* The one among the leaders of node n whose order it takes; -1: row-major. */
static int choose_leader(const nb_program *p, const nb__node *n) {
    int leader[NB__MOST_LEADERS], count = nb__leaders(p->node, n, leader), first = -1, axis[NB_MAX_RANK];
    for (int k = 0; k < count; k++) {
        const nb__node *in = &p->node[leader[k]];
        if (n->shape.rank < 2 || in->shape.rank != n->shape.rank || !nesting(in, axis)) continue;
        bool plain = is_row_major(in);
        /* Matrices: kept ones are row-major, so that wins. Images: channels-last wins. */
        if (n->shape.rank <= 2 ? plain : !plain) return leader[k];
        if (first < 0) first = leader[k];
    }
    return first;
}

static const int channels_last_axes[4] = {0, 2, 3, 1};

/* shown_as: the axes of the one permute through which all users see the result; NULL. A product is then written in that order.
 * leaves: it leaves the program, by way of elementwise work at most, which needs it row-major. */
static void choose(const nb_program *p, nb__node *n, bool channels_last, const nb_dims *shown_as, bool leaves) {
    int axis[NB_MAX_RANK];
    nb__row_major(n);
    if (!channels_last) return;
    if (n->op == &nb__op_conv2d || n->op == &nb__op_conv2d_input_grad) {
        if (n->dtype == NB_F32 && !leaves) nested_like(n, channels_last_axes);
        return;
    }
    if (n->op == &nb__op_matmul && shown_as) {
        for (int i = 0; i < n->shape.rank; i++) axis[i] = (int)shown_as->size[i];
        nested_like(n, axis);
        return;
    }
    int like = choose_leader(p, n);
    if (like >= 0 && nesting(&p->node[like], axis)) nested_like(n, axis);
}

/* A row-major copy of a node, next in the order. Its number, or -1. */
static int add_copy(nb_program *p, int of) {
    int *in = nb__program_alloc(p, sizeof *in);
    if (!in) return -1;
    *in = of;
    const nb__node *n = &p->node[of];
    nb__node        copy = {.op = &nb__op_copy,
                            .n_in = 1,
                            .in = in,
                            .dtype = n->dtype,
                            .shape = n->shape,
                            .scope = n->scope,
                            .serial = n->serial,
                            .step = -1,
                            .buffer = -1,
                            .lasts = n->lasts,
                            .by_item = n->by_item};
    nb__row_major(&copy);
    copy.base = p->n_nodes;
    int i = nb__add_node(p, &copy);
    if (i >= 0) p->order[p->n_order++] = i;
    return i;
}

/* The gradient that a max pool's adjoint (node i) puts back, in the order of the places: its kernel goes along both, and a copy
 * of a few elements costs far less than going across one. */
static bool order_gradient(nb_program *p, int i) {
    int             axis[NB_MAX_RANK], gradient = p->node[i].in[0];
    const nb__node *places = &p->node[p->node[i].in[1]], *dy = &p->node[gradient];
    bool            same = true;
    if (!nesting(places, axis)) return true;
    nb__node want = *places;
    nested_like(&want, axis);
    for (int k = 0; k < want.shape.rank; k++) same &= want.shape.size[k] == 1 || want.stride[k] == dy->stride[k];
    if (same) return true;
    int copy = add_copy(p, gradient);
    if (copy < 0) return false;
    nested_like(&p->node[copy], axis);
    p->node[i].in[0] = copy;
    return true;
}

static bool resolve_view(nb_program *p, int i) {
    for (int attempt = 0; attempt < 2; attempt++) {
        nb__node *n = &p->node[i];
        int       of = n->in[0];
        nb_array  in = nb__array_of(p, of), out = {.dtype = n->dtype, .rank = (int)n->shape.rank};
        int64_t   offset = 0;
        memcpy(out.shape, n->shape.size, sizeof out.shape);
        if (n->op->view(&in, n->attr, &out, &offset)) {
            memcpy(n->stride, out.stride, sizeof n->stride);
            n->offset = p->node[of].offset + offset;
            n->base = p->node[of].base;
            return true;
        }
        if (attempt) break;
        int copy = add_copy(p, of);
        if (copy < 0) return false;
        p->node[i].in[0] = copy;
    }
    nb_fail(p->nb, NB_INVALID, "%s: its view refuses a contiguous operand", p->node[i].op->name);
    return false;
}

/* A node whose buffer can be handed out as it is: computed, row-major, nobody else's. */
static bool is_plain(const nb_program *p, int i) {
    const nb__node *n = &p->node[i];
    return n->source == NB__COMPUTED && n->base == i && !n->has_home && is_row_major(n);
}

/* How node n wants operand k to lie: in the order of a permute, or as its own users want it, if it is elementwise work on one
 * tensor and single numbers. */
static const nb_dims *wanted_order(const nb_program *p, const nb__node *n, int k, const nb_dims *own) {
    if (n->op == &nb__op_permute) return &((const nb__dims_attr *)n->attr)->dims;
    if (nb__row_of(n->op) < 0 || !own || !nb__dims_equal(p->node[n->in[k]].shape, n->shape)) return NULL;
    for (int m = 0; m < n->n_in; m++)
        if (m != k && nb__dims_count(p->node[n->in[m]].shape) != 1) return NULL;
    return own;
}

/* The order that all users of each node want, NULL when there is none. */
static const nb_dims **find_orders(const nb_program *p) {
    const nb_dims **order = nb__step_alloc(p->nb, (size_t)p->n_nodes * sizeof *order + 1);
    bool           *used = nb__find_results(p);
    if (!order || !used) return NULL;
    for (int i = p->n_nodes - 1; i >= 0; i--) { /* users come first */
        const nb__node *n = &p->node[i];
        if (n->is_dead || n->source != NB__COMPUTED) continue;
        for (int k = 0; k < n->n_in; k++) {
            int            in = n->in[k];
            const nb_dims *wanted = wanted_order(p, n, k, order[i]);
            bool           agrees = !used[in] || (wanted && order[in] && nb__dims_equal(*wanted, *order[in]));
            order[in] = agrees ? wanted : NULL;
            used[in] = true;
        }
    }
    return order;
}

/* The nodes that all users have leave the program, at once or after elementwise work. */
static bool *find_leaving(const nb_program *p) {
    bool *stays = nb__step_alloc(p->nb, (size_t)p->n_nodes + 1), *leaves = nb__find_results(p);
    if (!stays || !leaves) return NULL;
    for (int i = p->n_nodes - 1; i >= 0; i--) { /* users come first */
        const nb__node *n = &p->node[i];
        if (n->is_dead || n->source != NB__COMPUTED) continue;
        leaves[i] = leaves[i] && !stays[i];
        bool passes = leaves[i] && nb__is_elementwise(n->op);
        for (int k = 0; k < n->n_in; k++) *(passes ? &leaves[n->in[k]] : &stays[n->in[k]]) = true;
    }
    return leaves;
}

/* Copies what does not lie in its stretch of a joined concat already. */
static bool copy_operands(nb_program *p, int concat) {
    for (int k = 0; k < p->node[concat].n_in; k++) {
        int in = p->node[concat].in[k];
        if (nb__dims_count(p->node[in].shape) == 0 || nb__lies_there(p, concat, k)) continue;
        int copy = add_copy(p, in);
        if (copy < 0) return false;
        nb__lie_in(p, copy, concat, k);
        p->node[concat].in[k] = copy;
    }
    return true;
}

/* Where the result of node i lies; what it needs to be copied for that comes before it in the order. */
static bool lay_out(nb_program *p, int i, bool free_order, const nb_dims *shown_as, bool leaves) {
    nb__node *n = &p->node[i]; /* until a copy is added: that may move the list */
    if (n->is_splat) {
        memset(n->stride, 0, sizeof n->stride);
        return true;
    }
    if (n->source != NB__COMPUTED) {
        nb__row_major(n);
        return true;
    }
    if (n->op->kind == NB_VIEW) return resolve_view(p, i);
    if (n->is_joined) return copy_operands(p, i);
    if (n->has_home) return true;
    if (free_order && n->op == &nb__op_pool_put && !order_gradient(p, i)) return false;
    choose(p, &p->node[i], free_order, shown_as, leaves);
    return true;
}

/* A result or assigned value: a copy where it cannot be handed out as it is. */
static bool copy_result(nb_program *p, int *result, bool is_taken) {
    if (is_plain(p, *result) && !is_taken) return true;
    int copy = add_copy(p, *result);
    if (copy < 0) return false;
    p->node[copy].lasts = false;
    *result = copy;
    return true;
}

bool nb__layout(nb_program *p, bool free_order) {
    int n = p->n_nodes;
    /* Each node may bring one copy before it, a concat one of each operand; roots and commits one each at the end. */
    size_t room = 2 * (size_t)n + (size_t)p->n_roots + (size_t)p->n_commits;
    for (int i = 0; i < n; i++)
        if (nb__is_computed(&p->node[i], &nb__op_concat)) room += (size_t)p->node[i].n_in;
    if (free_order && !nb__find_homes(p)) return false;
    p->order = nb__program_alloc(p, room * sizeof *p->order);
    const nb_dims **shown_as = find_orders(p);
    const bool     *leaves = find_leaving(p);
    bool           *taken = nb__step_alloc(p->nb, room * sizeof *taken); /* by a root */
    if (!p->order || !shown_as || !leaves || !taken) return false;
    for (int i = 0; i < n; i++) {
        p->node[i].base = i;
        if (p->node[i].is_dead || (p->node[i].source == NB__COMPUTED && p->node[i].op->kind == NB_ASSIGN)) continue;
        if (!lay_out(p, i, free_order, shown_as[i], leaves[i])) return false;
        p->order[p->n_order++] = i;
    }
    for (int i = 0; i < p->n_roots; i++) {
        if (p->root[i] < 0) continue;
        if (!copy_result(p, &p->root[i], taken[p->root[i]])) return false;
        taken[p->root[i]] = true;
    }
    for (int i = 0; i < p->n_commits; i++)
        if (!copy_result(p, &p->commit[i].node, false)) return false;
    return true;
}

/* ------------------------------------------------------------------------------------------------------- copy, as an operator */

static bool infer_copy(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)nb;
    (void)n_in;
    (void)attr;
    *out = (nb_type){in[0]->dtype, in[0]->shape};
    return true;
}

static void run_copy(const nb_call *call) {
    const nb_array *x = &call->in[0], *y = &call->out;
    size_t          size = nb_dtype_size(y->dtype);
    int64_t         index[NB_MAX_RANK] = {0};
    for (int i = 0; i < y->rank; i++)
        if (y->shape[i] == 0) return;
    do
        memcpy((char *)y->data + (size_t)nb__offset(y, index) * size, (char *)x->data + nb__offset(x, index) * (int64_t)size,
               size);
    while (nb__next_index(y->rank, y->shape, index));
}

const nb_op nb__op_copy = {
    .name = "copy", .formula = "y = x", .kind = NB_OPAQUE, .arity = 1, .infer = infer_copy, .run = run_copy};
