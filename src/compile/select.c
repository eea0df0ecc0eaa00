/* select.c: a kernel for each step. */
#include <string.h>

#include "ops.h"
#include "program.h"

/* Operators that have fast kernels. What is not here, and what a planner refuses, runs by the operator's reference. */
static const struct {
    const nb_op *op;
    nb__planner *plan;
} kernels[] = {
    {&nb__op_copy, nb__plan_copy},
    {&nb__op_sum, nb__plan_sum},
    {&nb__op_max, nb__plan_max},
    {&nb__op_min, nb__plan_min},
    {&nb__op_prod, nb__plan_prod},
    {&nb__op_argmax, nb__plan_argmax},
    {&nb__op_argmin, nb__plan_argmin},
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

/* Operands of a region that members do not compute, each once. Their numbers in `operand`; the count, or -1 when there are too many. */
static int region_operands(const nb_program *p, const nb__step *s, int step, int *operand) {
    int n = 0;
    for (int k = 0; k < s->n_nodes; k++) {
        const nb__node *node = &p->node[s->node[k]];
        for (int m = 0; m < node->n_in; m++) {
            int  i = node->in[m];
            bool known = p->node[i].step == step && p->node[i].base == i;
            for (int j = 0; j < n && !known; j++) known = operand[j] == i;
            if (known) continue;
            if (n == NB__REGION_MAX) return -1;
            operand[n++] = i;
        }
    }
    return n;
}

/* An operand as the iteration space sees it: broadcast axes have stride 0. */
static nb_array broadcast_to(nb_array a, const nb_array *space) {
    nb_array b = {.dtype = a.dtype, .rank = space->rank};
    memcpy(b.shape, space->shape, sizeof b.shape);
    for (int i = 0; i < a.rank; i++) {
        int at = space->rank - a.rank + i;
        b.stride[at] = a.shape[i] == 1 ? 0 : a.stride[i];
    }
    return b;
}

static void describe_region(const nb_program *p, const nb__step *s, const int *operand, int n_in, nb__region *region) {
    int n_out = 0;
    region->n_in = n_in;
    region->n_instructions = s->n_nodes;
    for (int k = 0; k < n_in; k++) region->in_dtype[k] = p->node[operand[k]].dtype;
    for (int k = 0; k < s->n_nodes; k++) {
        const nb__node *node = &p->node[s->node[k]];
        const nb__scalars *scalars = node->op->attr_size == sizeof *scalars ? node->attr : NULL;
        nb__instruction *ins = &region->instruction[k];
        *ins = (nb__instruction){.row = node->op == &nb__op_cast ? NB__CAST : nb__row_of(node->op), .dtype = node->dtype, .store = -1};
        if (scalars && ins->row != NB__CAST) {
            ins->p = scalars->p;
            ins->q = scalars->q;
        }
        if (node->buffer >= 0) ins->store = n_out++;
        for (int m = 0; m < node->n_in; m++) {
            int value = -1;
            for (int j = 0; j < n_in && value < 0; j++)
                if (operand[j] == node->in[m]) value = j;
            for (int j = 0; j < k && value < 0; j++)
                if (s->node[j] == node->in[m]) value = n_in + j;
            ins->in[m] = value;
        }
    }
}

static bool make_arrays(nb_program *p, nb__step *s, int n_in, int n_out) {
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

static void set_array(nb_program *p, nb__step *s, int k, int node, nb_array a) {
    s->array[k] = a;
    s->buffer[k] = p->node[p->node[node].base].buffer;
    s->offset[k] = p->node[node].offset * (int64_t)nb_dtype_size(a.dtype);
}

static bool select_region(nb_program *p, nb__step *s, int step, int threads, nb__region *region) {
    int operand[NB__REGION_MAX], n_in = region_operands(p, s, step, operand), n_out = 0;
    for (int k = 0; k < s->n_nodes; k++) n_out += p->node[s->node[k]].buffer >= 0;
    if (n_in < 0 || !make_arrays(p, s, n_in, n_out)) return false;
    nb_array space = nb__array_of(p, s->node[s->n_nodes - 1]);
    for (int k = 0; k < n_in; k++) set_array(p, s, k, operand[k], broadcast_to(nb__array_of(p, operand[k]), &space));
    for (int k = 0, o = n_in; k < s->n_nodes; k++)
        if (p->node[s->node[k]].buffer >= 0) set_array(p, s, o++, s->node[k], nb__array_of(p, s->node[k]));
    s->call.c.out = s->call.out[0];
    describe_region(p, s, operand, n_in, region);
    return nb__plan_region(p->nb, p->nb->isa, region, &s->call, threads, &s->plan);
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
}

static bool select_one(nb_program *p, nb__step *s, int threads) {
    int             i = s->node[0];
    const nb__node *n = &p->node[i];
    if (!make_arrays(p, s, n->n_in, 1)) return false;
    nb_array out = nb__array_of(p, i);
    for (int k = 0; k < n->n_in; k++) {
        nb_array a = nb__array_of(p, n->in[k]);
        set_array(p, s, k, n->in[k], nb__row_of(n->op) >= 0 ? broadcast_to(a, &out) : a);
    }
    set_array(p, s, n->n_in, i, out);
    if (n->op == &nb__op_matmul && out.stride[out.rank - 1] != 1 && out.stride[out.rank - 2] == 1) transpose_product(s);
    s->call.c.out = s->call.out[0];
    s->call.c.attr = n->attr;
    if (n->op->flops && n->op->kind == NB_CONTRACTION) {
        nb_tensor header = {.shape = n->shape, .dtype = n->dtype, .op = n->op, .attr = (void *)(uintptr_t)n->attr, .n_in = n->n_in}, in[2], *list[2] = {&in[0], &in[1]};
        for (int k = 0; k < n->n_in && k < 2; k++) in[k] = (nb_tensor){.shape = p->node[n->in[k]].shape, .dtype = p->node[n->in[k]].dtype};
        header.in = list;
        if (n->n_in <= 2) p->flops += n->op->flops(&header);
    }
    if (p->nb->isa->tiles) {
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
            if (kernels[k].op == n->op && kernels[k].plan(p->nb, p->nb->isa, &s->call, threads, &s->plan)) return true;
    }
    if (p->nb->status != NB_OK) return false;
    if (n->op->run) return true;
    nb_fail(p->nb, NB_INVALID, "%s has no kernel: its nb_op.run is missing", n->op->name);
    return false;
}

bool nb__select(nb_program *p) {
    int    threads = nb__pool_threads(p->nb->pool);
    size_t scratch = 0;
    nb__region *region = nb__step_alloc(p->nb, sizeof *region); /* large: one for all */
    if (!region) return false;
    for (int s = 0; s < p->n_steps; s++) {
        nb__step       *step = &p->step[s];
        const nb__node *last = &p->node[step->node[step->n_nodes - 1]];
        bool            is_row = nb__row_of(last->op) >= 0 || last->op == &nb__op_cast, planned = false;
        nb_dtype        operand = last->n_in ? p->node[last->in[last->n_in - 1]].dtype : last->dtype;
        if (is_row && p->nb->isa->tiles && (last->dtype == NB_F32 || last->dtype == NB_BOOL) &&
            (step->n_nodes > 1 || last->op == &nb__op_cast || nb__row_has_tile(nb__row_of(last->op), operand)))
            planned = select_region(p, step, s, threads, region);
        if (!planned && (p->nb->status != NB_OK || step->n_nodes > 1)) {
            if (p->nb->status == NB_OK) nb_fail(p->nb, NB_INVALID, "no kernel takes a fused step that ends in %s", last->op->name);
            return false;
        }
        if (!planned && !select_one(p, step, threads)) return false;
        if (step->plan.scratch_bytes > scratch) scratch = step->plan.scratch_bytes;
    }
    p->scratch_at = (p->workspace_bytes + NB__ALIGN - 1) & ~(size_t)(NB__ALIGN - 1);
    p->workspace_bytes = p->scratch_at + scratch;
    return true;
}
