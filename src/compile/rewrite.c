/* rewrite.c: nodes of the new list: made, merged when equal, found again. */
#include <string.h>

#include "rewrite.h"

/* ---------------------------------------------------------------------------------------------------- equal nodes */

static bool can_merge(const nb__node *n) {
    if (n->source == NB__CONSTANT) return n->is_splat;
    return n->source == NB__COMPUTED && n->op->kind != NB_RANDOM && n->op->kind != NB_ASSIGN; /* two draws are two draws */
}

uint64_t nb__hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *b = data;
    for (uint64_t word; n >= sizeof word; n -= sizeof word, b += sizeof word) {
        memcpy(&word, b, sizeof word);
        h = (h ^ word) * 1099511628211u;
        h ^= h >> 29; /* a product's low bits do not depend on the high ones */
    }
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static uint64_t hash_node(const nb__node *n) {
    uint64_t h = nb__hash(NB__HASH_START, &n->op, sizeof n->op);
    h = nb__hash(h, n->in, (size_t)n->n_in * sizeof *n->in);
    h = nb__hash(h, n->shape.size, (size_t)n->shape.rank * sizeof *n->shape.size);
    if (n->is_splat) h = nb__hash(h, n->data, nb_dtype_size(n->dtype));
    return n->attr ? nb__hash(h, n->attr, n->op->attr_size) : h;
}

static bool equal(const nb__node *a, const nb__node *b) {
    if (a->op != b->op || a->source != b->source || a->n_in != b->n_in || a->dtype != b->dtype ||
        !nb__dims_equal(a->shape, b->shape))
        return false;
    if (a->n_in && memcmp(a->in, b->in, (size_t)a->n_in * sizeof *a->in) != 0) return false;
    if (a->is_splat && memcmp(a->data, b->data, nb_dtype_size(a->dtype)) != 0) return false;
    if (a->is_backward != b->is_backward && nb__is_zeros(a)) return false; /* one is a number, the other "no gradient" */
    return (!a->attr && !b->attr) || (a->attr && b->attr && !memcmp(a->attr, b->attr, a->op->attr_size));
}

/* ------------------------------------------------------------------------------------------------------ the list */

void *nb__round_alloc(nb__rewrite *r, size_t size) { return nb__arena_alloc(r->p->nb, &r->memory[r->turn], size); }

static bool grow(nb__rewrite *r) {
    int       room = r->room ? 2 * r->room : r->n_old + 64;
    nb__node *node = nb__round_alloc(r, (size_t)room * sizeof *node);
    int      *number = nb__round_alloc(r, 3 * (size_t)room * sizeof *number);
    if (!node || !number) return false;
    if (r->n) {
        memcpy(node, r->node, (size_t)r->n * sizeof *node);
        memcpy(number, r->next, (size_t)r->n * sizeof *number);
        memcpy(number + room, r->joined, (size_t)r->n * sizeof *number);
        memcpy(number + 2 * room, r->position, (size_t)r->n * sizeof *number);
    }
    r->node = node;
    r->next = number;
    r->joined = number + room;
    r->position = number + 2 * room;
    r->room = room;
    return true;
}

static void note_place(nb__rewrite *r, int in, int concat, int position) {
    if (r->joined[in] >= 0) return;
    r->joined[in] = concat;
    r->position[in] = position;
}

/* Operands of a concat remember it, also those that are reshaped for it: a concat of some of them in a row is a slice of it. */
static void note_joined(nb__rewrite *r, int concat) {
    const nb__node *n = &r->node[concat];
    for (int k = 0; k < n->n_in; k++) {
        note_place(r, n->in[k], concat, k);
        if (nb__is_computed(&r->node[n->in[k]], &nb__op_reshape)) note_place(r, r->node[n->in[k]].in[0], concat, k);
    }
}

static int append(nb__rewrite *r, const nb__node *node) {
    if (r->n == r->room && !grow(r)) return -1;
    int i = r->n++;
    r->node[i] = *node;
    r->next[i] = r->joined[i] = -1;
    if (nb__is_computed(node, &nb__op_concat)) note_joined(r, i);
    return i;
}

int nb__emit(nb__rewrite *r, const nb__node *node) {
    bool is_fixed = node->is_watched || node->source != NB__COMPUTED || r->level < NB__LOCAL;
    if (!is_fixed) {
        int made = nb__fold_rule(r, node);
        if (made < 0) made = nb__views_rule(r, node);
        if (made < 0) made = nb__algebra_rule(r, node);
        if (made >= 0) {
            r->changed = true;
            return made;
        }
    }
    if (!r->merge || !can_merge(node)) return append(r, node);
    int *bucket = &r->bucket[hash_node(node) & (r->n_buckets - 1)];
    for (int i = *bucket; i >= 0; i = r->next[i]) {
        if (!equal(node, &r->node[i])) continue;
        r->node[i].is_watched |= node->is_watched;
        return i;
    }
    int i = append(r, node);
    if (i >= 0) {
        r->next[i] = *bucket;
        *bucket = i;
    }
    return i;
}

/* ------------------------------------------------------------------------------------------------------- making nodes */

static nb__node blank(const nb__rewrite *r, const nb_op *op, nb_dtype dtype, nb_dims shape) {
    for (int i = (int)shape.rank; i < NB_MAX_RANK; i++) shape.size[i] = 0;
    return (nb__node){.op = op,
                      .dtype = dtype,
                      .shape = shape,
                      .scope = r->from->scope,
                      .serial = r->from->serial,
                      .is_backward = r->from->is_backward,
                      .step = -1,
                      .buffer = -1};
}

int nb__make(nb__rewrite *r, const nb_op *op, int n_in, const int *in, nb_dtype dtype, nb_dims shape, const void *attr) {
    nb__node n = blank(r, op, dtype, shape);
    for (int k = 0; k < n_in; k++)
        if (in[k] < 0) return -1;
    n.n_in = n_in;
    n.in = nb__round_alloc(r, (size_t)n_in * sizeof *in + 1);
    void *copy = attr && op->attr_size ? nb__program_alloc(r->p, op->attr_size) : NULL;
    if (!n.in || (attr && op->attr_size && !copy)) return -1;
    memcpy(n.in, in, (size_t)n_in * sizeof *in);
    if (copy) n.attr = memcpy(copy, attr, op->attr_size);
    bool changed = r->changed; /* whether what is made here is used, its maker knows */
    int  i = nb__emit(r, &n);
    r->changed = changed;
    return i;
}

int nb__make_reshape(nb__rewrite *r, int of, nb_dims shape) {
    if (of < 0) return -1;
    nb__dims_attr attr = {nb_dims_of((int)shape.rank, shape.size)};
    return nb__make(r, &nb__op_reshape, 1, &of, r->node[of].dtype, shape, &attr);
}

int nb__make_permute(nb__rewrite *r, int of, nb_dims axes) {
    if (of < 0) return -1;
    nb__dims_attr attr = {nb_dims_of((int)axes.rank, axes.size)};
    nb_dims       shape = {.rank = axes.rank};
    for (int i = 0; i < axes.rank; i++) shape.size[i] = r->node[of].shape.size[axes.size[i]];
    return nb__make(r, &nb__op_permute, 1, &of, r->node[of].dtype, shape, &attr);
}

static nb__slice_attr whole_slice(nb_dims shape) {
    nb__slice_attr a = {.size = nb_dims_of((int)shape.rank, shape.size)};
    a.start.rank = a.step.rank = shape.rank;
    for (int i = 0; i < shape.rank; i++) a.step.size[i] = 1;
    return a;
}

int nb__make_slice(nb__rewrite *r, int of, int axis, int64_t start, int64_t size) {
    if (of < 0) return -1;
    nb__slice_attr attr = whole_slice(r->node[of].shape);
    attr.start.size[axis] = start;
    attr.size.size[axis] = size;
    return nb__make(r, &nb__op_slice, 1, &of, r->node[of].dtype, attr.size, &attr);
}

int nb__make_concat(nb__rewrite *r, int n, const int *in, int axis) {
    int64_t total = 0;
    for (int k = 0; k < n; k++) {
        if (in[k] < 0) return -1;
        total += r->node[in[k]].shape.size[axis];
    }
    nb_dims shape = r->node[in[0]].shape;
    shape.size[axis] = total;
    return nb__make(r, &nb__op_concat, n, in, r->node[in[0]].dtype, shape, &(nb__axis_attr){axis});
}

static const nb_op *add_op(void) { return &nb__elementwise[NB__ROW_add]; }

int nb__make_sum(nb__rewrite *r, int n, const int *in) {
    int sum = in[0];
    for (int k = 1; k < n && sum >= 0; k++)
        sum = in[k] < 0 ? -1 : nb__make(r, add_op(), 2, (int[]){sum, in[k]}, r->node[sum].dtype, r->node[sum].shape, NULL);
    return sum;
}

static nb__node splat(const nb__rewrite *r, nb_dtype dtype, nb_dims shape, const void *element) {
    nb__node n = blank(r, &nb__op_full, dtype, shape);
    n.source = NB__CONSTANT;
    n.is_splat = true;
    n.data = element;
    return n;
}

int nb__make_splat(nb__rewrite *r, nb_dtype dtype, nb_dims shape, const void *element) {
    nb__node n = splat(r, dtype, shape, element);
    return nb__emit(r, &n);
}

int nb__make_zeros(nb__rewrite *r, nb_dtype dtype, nb_dims shape) {
    static const double zero = 0; /* of every type */
    nb__node            n = splat(r, dtype, shape, &zero);
    n.is_backward = true;
    return nb__emit(r, &n);
}

int nb__make_number(nb__rewrite *r, nb_dtype dtype, nb_dims shape, double value) {
    void *element = nb__program_alloc(r->p, NB__ALIGN);
    if (!element) return -1;
    nb__store(&(nb_array){.data = element, .dtype = dtype}, 0, value);
    return nb__make_splat(r, dtype, shape, element);
}

/* ----------------------------------------------------------------------------------------------------- looking at nodes */

bool nb__swaps_matrix(const nb__node *n) {
    return nb__is_computed(n, &nb__op_permute) && n->shape.rank == 2 && ((const nb__dims_attr *)n->attr)->dims.size[0] == 1;
}

int nb__part_axis(const nb__slice_attr *a, nb_dims shape) {
    int axis = (int)shape.rank;
    for (int i = 0; i < shape.rank; i++) {
        if (a->size.size[i] > 1 && a->step.size[i] != 1) return -1;
        if (a->size.size[i] == shape.size[i]) continue;
        if (axis < shape.rank || a->size.size[i] == 0) return -1;
        axis = i;
    }
    return axis;
}
