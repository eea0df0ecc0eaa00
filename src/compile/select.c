/* select.c: a kernel for each step. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* Operators that have fast kernels. What is not here, and what a planner refuses, runs by the operator's reference. */
static const struct {
    const nb_op *op;
    nb__planner *plan;
} kernels[] = {
    {&nb__op_cast, nb__plan_cast},
    {&nb__op_copy, nb__plan_copy},
    {&nb__op_sum, nb__plan_sum},
    {&nb__op_moments, nb__plan_moments},
    {&nb__op_max, nb__plan_max},
    {&nb__op_min, nb__plan_min},
    {&nb__op_prod, nb__plan_prod},
    {&nb__op_argmax, nb__plan_argmax},
    {&nb__op_argmin, nb__plan_argmin},
    {&nb__op_cumsum, nb__plan_cumsum},
    {&nb__op_concat, nb__plan_concat},
    {&nb__op_pad, nb__plan_pad},
    {&nb__op_slice_grad, nb__plan_slice_grad},
    {&nb__op_full, nb__plan_full},
    {&nb__op_eye, nb__plan_eye},
    {&nb__op_one_hot, nb__plan_one_hot},
    {&nb__op_gather, nb__plan_gather},
    {&nb__op_scatter_add, nb__plan_scatter_add},
    {&nb__op_index_select, nb__plan_index_select},
    {&nb__op_uniform, nb__plan_uniform},
    {&nb__op_normal, nb__plan_normal},
    {&nb__op_matmul, nb__plan_matmul},
    {&nb__op_conv2d, nb__plan_conv2d},
    {&nb__op_conv2d_input_grad, nb__plan_conv2d_input_grad},
    {&nb__op_conv2d_weight_grad, nb__plan_conv2d_weight_grad},
    {&nb__op_max_pool2d_index, nb__plan_max_pool2d},
    {&nb__op_pool_take, nb__plan_pool_take},
    {&nb__op_pool_put, nb__plan_pool_put},
    {&nb__op_avg_pool2d, nb__plan_avg_pool2d},
    {&nb__op_avg_pool2d_grad, nb__plan_avg_pool2d_grad},
};

bool nb__make_arrays(nb_program *p, nb__step *s, int n_in, int n_out) {
    size_t n = (size_t)(n_in + n_out);
    s->array = nb__program_alloc(p, n * (sizeof *s->array + sizeof *s->offset + sizeof *s->buffer));
    if (!s->array) return false;
    s->offset = (int64_t *)(s->array + n);
    s->buffer = (int *)(s->offset + n);
    s->call.c.n_in = n_in;
    s->call.c.in = s->array;
    s->call.c.fault = p->fault;
    s->call.n_out = n_out;
    s->call.out = s->array + n_in;
    return true;
}

void nb__set_array(nb_program *p, nb__step *s, int k, int node, nb_array a) {
    s->array[k] = a;
    s->buffer[k] = p->node[p->node[node].base].buffer;
    s->offset[k] = p->node[node].offset * (int64_t)nb_dtype_size(a.dtype);
}

/* C^T = B^T A^T: a product whose result lies transposed is that of the transposed operands. */
static void transpose_product(nb__step *s) {
    for (int k = 0; k < 3; k++) {
        nb_array *a = &s->array[k];
        int       m = a->rank - 2, n = a->rank - 1;
        int64_t   size = a->shape[m], stride = a->stride[m];
        a->shape[m] = a->shape[n];
        a->stride[m] = a->stride[n];
        a->shape[n] = size;
        a->stride[n] = stride;
    }
    nb_array a = s->array[0];
    int      buffer = s->buffer[0];
    int64_t  offset = s->offset[0];
    s->array[0] = s->array[1];
    s->buffer[0] = s->buffer[1];
    s->offset[0] = s->offset[1];
    s->array[1] = a;
    s->buffer[1] = buffer;
    s->offset[1] = offset;
    s->call.triangles = nb__transposed(s->call.triangles);
}

typedef struct packing {
    int *products;       /* that read it, of each buffer */
    int  n_steps, *step; /* those that pack an operand, each operand once */
} packing;

/* Parameters that the program itself does not change, what is made of them alone, or, as they were before the run, parameters
 * that several products read: in a loop over time steps a weight is worth packing once a run. */
static bool is_lasting(const nb_program *p, int buffer, const packing *shared) {
    enum { SEVERAL = 4 };
    const nb__buffer *b = &p->buffer[buffer];
    if (b->place == NB__IN_LASTING) return true;
    if (b->place != NB__IN_KEPT || !b->storage->is_versioned) return false;
    if (shared->products[buffer] >= SEVERAL) return true;
    for (int c = 0; c < p->n_commits; c++)
        if (p->commit[c].storage == b->storage) return false;
    return true;
}

static bool start_packing(const nb_program *p, packing *shared) {
    shared->n_steps = 0;
    shared->products = nb__step_alloc(p->nb, (size_t)p->n_buffers * sizeof(int) + 1);
    shared->step = nb__step_alloc(p->nb, (size_t)p->n_steps * sizeof(int) + 1);
    if (!shared->products || !shared->step) return false;
    for (int s = 0; s < p->n_steps; s++) {
        const nb__node *n = &p->node[p->step[s].node[0]];
        for (int k = 0; n->op == &nb__op_matmul && k < 2; k++) shared->products[p->node[p->node[n->in[k]].base].buffer]++;
    }
    return true;
}

/* Whether operand k of both is the same and is packed in the same way. */
static bool pack_alike(const nb__step *s, const nb__step *t, int k) {
    const nb_array *a = &s->array[k], *b = &t->array[k];
    bool            same = s->plan.packs == t->plan.packs && s->plan.prepared_bytes == t->plan.prepared_bytes &&
                s->buffer[k] == t->buffer[k] && s->offset[k] == t->offset[k] && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i] && a->stride[i] == b->stride[i];
    return same;
}

/* Memory for what the step's plan packs: that of an earlier step, which then does it for both, or its own. */
static bool place_packed(nb_program *p, nb__step *s, packing *shared) {
    for (int i = 0; s->plan.packs && i < shared->n_steps; i++) {
        const nb__step *other = &p->step[shared->step[i]];
        if (!pack_alike(s, other, s->plan.packs == 1 ? 0 : 1)) continue;
        s->call.prepared = other->call.prepared;
        s->plan.prepare = NULL;
        return true;
    }
    if (s->plan.packs) shared->step[shared->n_steps++] = (int)(s - p->step);
    p->prepared_bytes += s->plan.prepared_bytes;
    s->call.prepared = nb__program_alloc(p, s->plan.prepared_bytes);
    return s->call.prepared != NULL;
}

static bool plan_one(nb_program *p, nb__step *s, nb__planner *plan, int threads, packing *shared) {
    s->call.lasting = 0;
    for (int k = 0; k < s->call.c.n_in && k < 32 && !s->lasts; k++)
        s->call.lasting |= (unsigned)is_lasting(p, s->buffer[k], shared) << k;
    if (!plan(p->nb, p->nb->isa, &s->call, threads, &s->plan)) return false;
    return !s->plan.prepare || place_packed(p, s, shared);
}

static bool select_one(nb_program *p, nb__step *s, int threads, packing *shared) {
    int             i = s->node[0];
    const nb__node *n = &p->node[i];
    if (!nb__make_arrays(p, s, n->n_in, 1)) return false;
    nb_array out = nb__array_of(p, i);
    for (int k = 0; k < n->n_in; k++) {
        nb_array a = nb__array_of(p, n->in[k]);
        nb__set_array(p, s, k, n->in[k], nb__row_of(n->op) >= 0 ? nb__broadcast_to(a, &out) : a);
    }
    nb__set_array(p, s, n->n_in, i, out);
    s->call.triangles = n->triangles;
    if (n->op == &nb__op_matmul && out.stride[out.rank - 1] != 1 && out.stride[out.rank - 2] == 1) transpose_product(s);
    s->call.c.out = s->call.out[0];
    s->call.c.attr = n->attr;
    if (n->is_joined) { /* its operands are in their places */
        s->plan = (nb__plan){.kernel = "joined", .run = nb__run_nothing};
        return true;
    }
    if (p->nb->isa->tiles) {
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
            if (kernels[k].op == n->op && plan_one(p, s, kernels[k].plan, threads, shared)) return true;
    }
    if (p->nb->status != NB_OK) return false;
    if (n->op->run) return true;
    nb_fail(p->nb, NB_INVALID, "%s has no kernel: its nb_op.run is missing", n->op->name);
    return false;
}

/* A max pool's index and its values, of one image; the index only if somebody else reads it. */
static bool select_pool(nb_program *p, nb__step *s, int threads) {
    int index = s->node[0], take = s->node[1], n_out = p->node[index].buffer >= 0 ? 2 : 1, image = p->node[index].in[0];
    if (!nb__make_arrays(p, s, 1, n_out)) return false;
    nb__set_array(p, s, 0, image, nb__array_of(p, image));
    if (n_out == 2) nb__set_array(p, s, 1, index, nb__array_of(p, index));
    nb__set_array(p, s, n_out, take, nb__array_of(p, take));
    s->call.c.out = s->call.out[0];
    s->call.c.attr = p->node[index].attr;
    return nb__plan_max_pool2d(p->nb, p->nb->isa, &s->call, threads, &s->plan);
}

/* One elementwise node whose types have a loop: a region of its own. */
static bool is_one_region(const nb_program *p, nb__step *s) {
    if (s->n_nodes > 1 || !p->nb->isa->tiles || !nb__has_tile(p, &p->node[s->node[0]])) return false;
    s->space = nb__array_of(p, s->node[0]);
    s->rows = s->columns = 0;
    s->part[0] = NB__FULL;
    return true;
}

bool nb__select(nb_program *p) {
    int         threads = nb__pool_threads(p->nb->pool);
    size_t      scratch = 0;
    nb__region *region = nb__step_alloc(p->nb, sizeof *region); /* large: one for all */
    packing     shared;
    if (!region || !start_packing(p, &shared)) return false;
    for (int s = 0; s < p->n_steps; s++) {
        nb__step *step = &p->step[s];
        bool      is_pool = step->n_nodes == 2 && p->node[step->node[0]].op == &nb__op_max_pool2d_index;
        bool      planned = is_pool ? select_pool(p, step, threads)
                                    : (step->is_region || is_one_region(p, step)) && nb__select_region(p, step, threads, region);
        if (!planned && (p->nb->status != NB_OK || step->n_nodes > 1)) {
            if (p->nb->status == NB_OK)
                nb_fail(p->nb, NB_INVALID, "no kernel takes a fused step that ends in %s",
                        p->node[step->node[step->n_nodes - 1]].op->name);
            return false;
        }
        if (!planned && !select_one(p, step, threads, &shared)) return false;
        if (step->plan.scratch_bytes > scratch) scratch = step->plan.scratch_bytes;
    }
    p->scratch_at = (p->workspace_bytes + NB__ALIGN - 1) & ~(size_t)(NB__ALIGN - 1);
    p->workspace_bytes = p->scratch_at + scratch;
    return true;
}
