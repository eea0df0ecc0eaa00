/* constants.c: what is known before the first run is computed now, by the operator's reference: elementwise work, casts and
 * sums of constants that are the same everywhere, and small ranges with what is made of them (a causal mask). The result is
 * the reference's; a kernel may differ from it in the last bits. */
#include <string.h>

#include "rewrite.h"

enum {
    MOST_BYTES = 1 << 18, /* of a result that is kept in full */
    MOST_TERMS = 1 << 12  /* of a sum of one value */
};

static nb_array array_of(const nb__node *n) {
    nb_array a = {.data = (void *)(uintptr_t)n->data, .dtype = n->dtype, .rank = (int)n->shape.rank};
    int64_t  step = 1;
    for (int i = a.rank - 1; i >= 0; i--) {
        a.shape[i] = n->shape.size[i];
        a.stride[i] = n->is_splat ? 0 : step;
        step *= a.shape[i];
    }
    return a;
}

/* Runs the node once; a splat is computed at one place. */
static int compute(nb__rewrite *r, const nb__node *n, bool is_splat) {
    nb__node  made = *n;
    nb_array *in = nb__round_alloc(r, (size_t)n->n_in * sizeof *in + 1);
    size_t    elements = is_splat ? 1 : (size_t)nb__dims_count(n->shape);
    void     *data = nb__program_alloc(r->p, elements * nb_dtype_size(n->dtype) + NB__ALIGN);
    if (!in || !data) return -1;
    made.data = data;
    nb_array out = array_of(&made);
    for (int k = 0; k < n->n_in; k++) {
        in[k] = array_of(&r->node[n->in[k]]);
        if (nb__row_of(n->op) >= 0) in[k] = nb__broadcast_to(in[k], &out);
    }
    if (is_splat) {
        out.rank = 0;
        for (int k = 0; k < n->n_in && n->op != &nb__op_sum; k++) in[k].rank = 0;
        if (n->op == &nb__op_sum) out = (nb_array){.data = data, .dtype = n->dtype, .rank = (int)n->shape.rank};
        for (int i = 0; i < out.rank; i++) out.shape[i] = 1;
    }
    n->op->run(&(nb_call){.in = in, .n_in = n->n_in, .out = out, .attr = n->attr});
    if (is_splat) return nb__make_splat(r, n->dtype, n->shape, data);
    made.source = NB__CONSTANT;
    made.op = &nb__op_data;
    made.n_in = 0;
    made.attr = NULL;
    return nb__emit(r, &made);
}

/* How many elements a sum adds up for each of its own. */
static int64_t terms_of(const nb__node *x, const nb_dims *axes) {
    int64_t terms = 1;
    for (int i = 0; i < axes->rank; i++) terms *= x->shape.size[axes->size[i]];
    return terms;
}

static bool is_range(const nb_op *op) { return op == &nb__op_arange || op == &nb__op_linspace || op == &nb__op_eye; }

int nb__fold_rule(nb__rewrite *r, const nb__node *n) {
    bool is_elementwise = nb__is_elementwise(n->op);
    bool moves = n->op == &nb__op_reshape || n->op == &nb__op_permute || n->op == &nb__op_slice;
    bool is_splat = n->n_in > 0;
    if (!is_elementwise && !moves && n->op != &nb__op_sum && !is_range(n->op)) return -1;
    for (int k = 0; k < n->n_in; k++) {
        if (r->node[n->in[k]].source != NB__CONSTANT) return -1;
        is_splat &= r->node[n->in[k]].is_splat;
    }
    if (n->op == &nb__op_sum) {
        int64_t terms = is_splat ? terms_of(&r->node[n->in[0]], &((const nb__axes_attr *)n->attr)->axes) : 0;
        return is_splat && terms > 0 && terms <= MOST_TERMS ? compute(r, n, true) : -1;
    }
    if (is_splat) return moves ? -1 : compute(r, n, true);
    return nb__dims_count(n->shape) * (int64_t)nb_dtype_size(n->dtype) <= MOST_BYTES ? compute(r, n, false) : -1;
}
