/* regions.c: which nodes can be members of a region, and in which part.
 *
 * Axes of size 1 mean nothing: shapes are compared without them, so that [N,1] and [N] are one. A region's FULL space is the
 * shape of its largest members, with their order in memory; ROW members have its shape without the innermost axes, which form
 * rows. */
#include "regions.h"

#include <string.h>

#include "ops.h"

/* --------------------------------------------------------------------------------------------------------------- axes, shapes */

/* Axes of more than one element. */
static int wide_axes(const nb_array *a, int *axis) {
    int n = 0;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != 1) axis[n++] = i;
    return n;
}

/* Whether a has the wide axes of the space, those of `without` left out. */
static bool has_shape(const nb_array *a, const nb_array *space, unsigned without) {
    int mine[NB_MAX_RANK], theirs[NB_MAX_RANK], n = wide_axes(a, mine), m = wide_axes(space, theirs), k = 0;
    for (int i = 0; i < m; i++) {
        if (without >> theirs[i] & 1) continue;
        if (k == n || a->shape[mine[k]] != space->shape[theirs[i]]) return false;
        k++;
    }
    return k == n;
}

/* Bits of a's axes as bits of the space's axes; both have the same wide axes. */
static unsigned to_space(const nb_array *a, unsigned axes, const nb_array *space) {
    int      mine[NB_MAX_RANK], theirs[NB_MAX_RANK] = {0}, n = wide_axes(a, mine);
    unsigned bits = 0;
    wide_axes(space, theirs);
    for (int k = 0; k < n; k++)
        if (axes >> mine[k] & 1) bits |= 1u << theirs[k];
    return bits;
}

static unsigned wide_bits(const nb_array *a) {
    unsigned bits = 0;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != 1) bits |= 1u << i;
    return bits;
}

/* Whether the array's elements lie one after the other, in some order of the axes, and are not empty. */
static bool is_dense(const nb_array *a) {
    int     axis[NB_MAX_RANK], n = wide_axes(a, axis);
    int64_t expected = 1;
    for (int done = 0; done < n; done++) { /* the axis with the expected stride, n times */
        int k = 0;
        while (k < n && a->stride[axis[k]] != expected) k++;
        if (k == n || a->shape[axis[k]] == 0) return false;
        expected *= a->shape[axis[k]];
    }
    return true;
}

/* Elements of these axes when they are the innermost ones in the memory of a dense array; else 0. */
static int64_t innermost(const nb_array *a, unsigned axes) {
    int64_t count = 1, expected = 1;
    for (int i = 0; i < a->rank; i++)
        if (axes >> i & 1) count *= a->shape[i];
    while (expected < count) {
        int k = 0;
        while (k < a->rank && !((axes >> k & 1) && a->shape[k] != 1 && a->stride[k] == expected)) k++;
        if (k == a->rank) return 0;
        expected *= a->shape[k];
    }
    return count;
}

/* The array's shape, dense, its axes nested in memory as they are. */
static nb_array dense_like(const nb_array *a) {
    nb_array d = *a;
    int      axis[NB_MAX_RANK], n = wide_axes(a, axis);
    for (int i = 1; i < n; i++) /* by falling strides */
        for (int k = i; k > 0 && a->stride[axis[k]] > a->stride[axis[k - 1]]; k--) {
            int t = axis[k];
            axis[k] = axis[k - 1];
            axis[k - 1] = t;
        }
    int64_t stride = 1;
    for (int i = n - 1; i >= 0; i--) {
        d.stride[axis[i]] = stride;
        stride *= a->shape[axis[i]];
    }
    return d;
}

/* Whether so many elements can be a row that tiles hold whole. */
static bool is_unit(int64_t elements) { return elements > 1 && elements <= NB__UNIT_MAX; }

/* ---------------------------------------------------------------------------------------------------------------------- nodes */

bool nb__shows_all(const nb_program *p, int view) {
    const nb__node *v = &p->node[view], *b = &p->node[v->base];
    nb_array        a = nb__array_of(p, view), c = nb__array_of(p, v->base);
    int             mine[NB_MAX_RANK], theirs[NB_MAX_RANK], n = wide_axes(&a, mine);
    if (v->offset != b->offset || v->dtype != b->dtype || n != wide_axes(&c, theirs)) return false;
    for (int k = 0; k < n; k++)
        if (a.shape[mine[k]] != c.shape[theirs[k]] || a.stride[mine[k]] != c.stride[theirs[k]]) return false;
    return true;
}

/* The axes, as bits of the operand's, that a sum or an extreme takes away; 0: it is none, or not of f32. */
static unsigned reduced_axes(const nb_program *p, const nb__node *n) {
    unsigned bits = 0;
    if (n->dtype != NB_F32 || n->n_in < 1 || p->node[n->in[0]].dtype != NB_F32) return 0;
    if (n->op == &nb__op_sum) {
        nb_dims axes = ((const nb__axes_attr *)n->attr)->axes;
        for (int i = 0; i < axes.rank; i++) bits |= 1u << axes.size[i];
    } else if (n->op == &nb__op_max || n->op == &nb__op_min) {
        bits = 1u << ((const nb__axis_attr *)n->attr)->axis;
    }
    return bits;
}

static bool is_number(nb_dtype d) { return d == NB_I32 || d == NB_I64; }

/* gather of one element a row. */
static bool is_pick(const nb_program *p, const nb__node *n, unsigned *axes) {
    if (n->op != &nb__op_gather || n->dtype != NB_F32 || !is_number(p->node[n->in[1]].dtype)) return false;
    int64_t axis = ((const nb__axis_attr *)n->attr)->axis;
    nb_dims want = p->node[n->in[0]].shape;
    want.size[axis] = 1;
    *axes = 1u << axis;
    return nb__dims_equal(want, p->node[n->in[1]].shape);
}

/* scatter_add of one element a row to zeros. */
static bool is_place(const nb_program *p, const nb__node *n, unsigned *axes) {
    if (n->op != &nb__op_scatter_add || n->dtype != NB_F32 || !is_number(p->node[n->in[1]].dtype)) return false;
    if (!nb__is_zeros(&p->node[p->node[n->in[0]].base])) return false;
    int64_t axis = ((const nb__axis_attr *)n->attr)->axis;
    nb_dims want = n->shape;
    want.size[axis] = 1;
    *axes = 1u << axis;
    return nb__dims_equal(want, p->node[n->in[1]].shape) && nb__dims_equal(want, p->node[n->in[2]].shape);
}

static bool is_cheap(const nb__node *n) {
    static const enum nb__row cheap[] = {
        NB__ROW_add,       NB__ROW_sub,   NB__ROW_mul,        NB__ROW_minimum, NB__ROW_maximum,       NB__ROW_equal,
        NB__ROW_not_equal, NB__ROW_less,  NB__ROW_less_equal, NB__ROW_greater, NB__ROW_greater_equal, NB__ROW_and,
        NB__ROW_or,        NB__ROW_not,   NB__ROW_where,      NB__ROW_abs,     NB__ROW_neg,           NB__ROW_square,
        NB__ROW_relu,      NB__ROW_clamp, NB__ROW_leaky_relu};
    int row = n->source == NB__COMPUTED ? nb__row_of(n->op) : -1;
    for (size_t k = 0; k < sizeof cheap / sizeof *cheap; k++)
        if ((int)cheap[k] == row) return true;
    return false;
}

/* By the group's members, which are few; a node's readers may be thousands. */
static bool is_read_by(const nb__fusion *f, int group, int i) {
    for (int e = f->group[group].first_entry; e >= 0; e = f->entry[e].next) {
        const nb__node *n = &f->p->node[f->entry[e].node];
        for (int m = 0; m < n->n_in; m++)
            if (n->in[m] == i) return true;
    }
    return false;
}

/* How many large operands of node i, each once, are neither read by the group nor made in a few cycles of what it reads. */
static int new_reads(const nb__fusion *f, int group, int i, int depth) {
    const nb__node *n = &f->p->node[i];
    int             found = 0;
    for (int m = 0; m < n->n_in; m++) {
        int             in = n->in[m];
        const nb__node *base = &f->p->node[f->p->node[in].base];
        if ((m && in == n->in[m - 1]) || base->is_splat || nb__dims_count(base->shape) < nb__dims_count(n->shape)) continue;
        bool is_made = depth > 0 && is_cheap(&f->p->node[in]) && new_reads(f, group, in, depth - 1) == 0;
        found += !is_made && !is_read_by(f, group, in);
    }
    return found;
}

bool nb__is_cheap_for(const nb__fusion *f, int group, int i, int reads) {
    enum { DEPTH = 6 };
    return is_cheap(&f->p->node[i]) && new_reads(f, group, i, DEPTH) <= reads;
}

/* ----------------------------------------------------------------------------------------------------------- parts of members */

/* Whether node i is a reduction, or elementwise work on reductions. Looked for among a few nodes only. */
static bool is_made_of_rows(const nb_program *p, int i) {
    enum { MOST = 16 };
    int      found[MOST], n = 0;
    unsigned axes;
    found[n++] = i;
    for (int k = 0; k < n; k++) {
        const nb__node *node = &p->node[found[k]];
        if (node->source != NB__COMPUTED) continue;
        if (reduced_axes(p, node) || is_pick(p, node, &axes)) return true;
        if (!nb__has_tile(p, node)) continue;
        for (int m = 0; m < node->n_in && n < MOST; m++) found[n++] = node->in[m];
    }
    return false;
}

bool nb__part_for_use(nb__fusion *f, int group, int user, int operand, int seen, int i, nb__part *part) {
    const nb_program *p = f->p;
    const nb__group  *g = &f->group[group];
    const nb__node   *u = &p->node[user];
    unsigned          axes;
    nb__part          mine = nb__part_in(f, group, user);
    f->change = (nb__change){0};
    if (reduced_axes(p, u)) {
        nb_array a = nb__array_of(p, u->in[0]);
        *part = mine == NB__TOTAL && g->rows && has_shape(&a, &g->space, g->rows) ? NB__ROW : NB__FULL;
        return true;
    }
    if (is_pick(p, u, &axes)) {
        *part = NB__FULL;
        return operand == 0;
    }
    if (is_place(p, u, &axes)) {
        *part = NB__ROW;
        return operand == 2;
    }
    /* Elementwise: an operand of the user's own shape, or one that is spread along rows. */
    nb_array a = nb__array_of(p, seen), to = nb__array_of(p, user);
    unsigned spread = 0;
    for (int k = 0; k < to.rank; k++) {
        int from = k - (to.rank - a.rank);
        if (to.shape[k] != 1 && (from < 0 || a.shape[from] == 1)) spread |= 1u << k;
    }
    *part = mine;
    if (!spread) return true;
    spread = mine == NB__FULL ? to_space(&to, spread, &g->space) : 0;
    *part = NB__ROW;
    if (g->rows) return spread == g->rows;
    /* The first reduction that joins makes rows, or the first node made of one. */
    if (!spread || !is_made_of_rows(p, i) || !is_unit(innermost(&g->space, spread))) return false;
    f->change.rows = spread;
    return true;
}

/* A reduction of `from` along `axes` to ROW values of the group; FULL ones that it has become ROW if need be. */
static bool can_reduce(nb__fusion *f, const nb__group *g, nb_array from, unsigned axes, nb__part *part) {
    axes &= wide_bits(&from);
    if (*part == NB__ROW)
        return has_shape(&from, &g->space, 0) && to_space(&from, axes, &g->space) == (g->rows ? g->rows : f->change.rows);
    if (*part != NB__FULL || g->rows || g->columns || axes == wide_bits(&from)) return false;
    if (!is_dense(&from) || !is_unit(innermost(&from, axes))) return false;
    /* What is left of its memory without rows is the group's. */
    int64_t row = innermost(&from, axes);
    int     mine[NB_MAX_RANK], theirs[NB_MAX_RANK], n = wide_axes(&from, mine), m = wide_axes(&g->space, theirs), k = 0;
    for (int i = 0; i < n; i++) {
        if (axes >> mine[i] & 1) continue;
        if (k == m || from.shape[mine[i]] != g->space.shape[theirs[k]] ||
            from.stride[mine[i]] != row * g->space.stride[theirs[k]])
            return false;
        k++;
    }
    if (k != m) return false;
    f->change = (nb__change){.to_rows = true, .rows = axes, .space = from};
    *part = NB__ROW;
    return true;
}

bool nb__can_be(nb__fusion *f, int group, int i, nb__part *part) {
    const nb_program *p = f->p;
    const nb__group  *g = &f->group[group];
    const nb__node   *n = &p->node[i];
    unsigned          axes = reduced_axes(p, n);
    if (nb__has_tile(p, n)) return true;
    if (axes || is_pick(p, n, &axes)) return can_reduce(f, g, nb__array_of(p, n->in[0]), axes, part);
    if (is_place(p, n, &axes) && *part == NB__FULL) {
        nb_array a = nb__array_of(p, i);
        axes = to_space(&a, axes & wide_bits(&a), &g->space);
        if (g->rows) return axes == g->rows;
        if (!has_shape(&a, &g->space, 0) || !is_unit(innermost(&g->space, axes))) return false;
        f->change.rows = axes;
        return true;
    }
    return false;
}

bool nb__lies_as(const nb__fusion *f, int group, int i, nb__part part) {
    const nb__group *g = &f->group[group];
    const nb_array  *space = f->change.to_rows ? &f->change.space : &g->space;
    unsigned         rows = g->rows | f->change.rows;
    nb_array         a = nb__array_of(f->p, i);
    int64_t          row = part == NB__ROW ? innermost(space, rows) : 1;
    int              mine[NB_MAX_RANK], theirs[NB_MAX_RANK], m = wide_axes(space, theirs), k = 0;
    wide_axes(&a, mine);
    if (!has_shape(&a, space, part == NB__ROW ? rows : 0)) return false;
    if (f->p->node[i].has_home) return true; /* its kernel writes it to any strides */
    for (int t = 0; t < m; t++) {
        if (part == NB__ROW && rows >> theirs[t] & 1) continue;
        if (a.stride[mine[k++]] * row != space->stride[theirs[t]]) return false;
    }
    return true;
}

bool nb__begin_region(const nb__fusion *f, nb__group *g, int i, nb__part *part) {
    const nb_program *p = f->p;
    const nb__node   *n = &p->node[i];
    unsigned          axes = reduced_axes(p, n);
    *part = NB__FULL;
    if (nb__has_tile(p, n)) {
        nb_array own = nb__array_of(p, i);
        g->space = dense_like(&own);
        return true;
    }
    if (is_place(p, n, &axes)) {
        g->space = nb__array_of(p, i);
        g->rows = axes & wide_bits(&g->space);
        return is_dense(&g->space) && is_unit(innermost(&g->space, g->rows));
    }
    if (!axes && !is_pick(p, n, &axes)) return false;
    g->space = nb__array_of(p, n->in[0]);
    if (!is_dense(&g->space)) return false;
    axes &= wide_bits(&g->space);
    unsigned kept = wide_bits(&g->space) & ~axes;
    if (is_unit(innermost(&g->space, axes)) && (kept || n->op != &nb__op_sum)) {
        *part = NB__ROW;
        g->rows = axes;
        return true;
    }
    if (n->op != &nb__op_sum || !axes) return false;
    *part = kept ? NB__COLUMN : NB__TOTAL;
    g->columns = kept;
    return !kept || is_unit(innermost(&g->space, kept));
}
