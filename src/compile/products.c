/* products.c: rules for sums over t of products, which the backward of a loop over time steps makes:
 *
 *   sum of A_t^T B_t         A^T B, with the A_t one below the other in A, the B_t in B
 *   sum of column sums of B_t    column sums of B
 *
 * One product of k n_t inner terms reads and writes the result once instead of n_t times, and is larger. Where the A_t or
 * B_t are slices of one node, or operands of one concat (hidden states that were stacked, gradients that sums.c joined), A
 * or B is a view of it; else it is made by a copy, if that costs less than the additions. The inner sum runs in another
 * order: results differ by rounding.
 *
 * The rows of A and B may be in any order, if it is the same one: by t, then by row of A_t ("time first"), or by row, then
 * by t, which is how the elements lie when the node that is sliced is [rows,t,width]. */
#include <stdlib.h>

#include "rewrite.h"

/* Piece t of one side, as rows [k,w], and where it comes from: rows `at` ... of a matrix, or place `at` along an axis of a
 * [t,k,w] or [k,t,w]. */
typedef struct piece {
    int     node; /* the rows */
    int     of;   /* what it is a part of; -1: nothing in particular */
    int     axis;
    bool    is_unit; /* a place along an axis of its own, not some rows */
    int64_t at;
} piece;

typedef struct pair {
    piece a, b;
} pair;

/* How the pieces of one side go together. */
typedef struct side {
    int     of, axis; /* of: -1, a concat of pieces is made */
    bool    is_unit;
    int64_t at;
    bool    is_view[2]; /* without a copy, for rows in [time first, rows first] */
} side;

/* ------------------------------------------------------------------------------------------------- where pieces come from */

/* Whether `three` is the matrix `two` with an axis of size 1 more, the given one of its first two. */
static bool adds_axis(nb_dims three, nb_dims two, int64_t axis) {
    return three.rank == 3 && two.rank == 2 && axis < 2 && three.size[axis] == 1 && three.size[1 - axis] == two.size[0] &&
           three.size[2] == two.size[1];
}

/* As a slice: of rows, or, without its axis, of a tensor of rank 3. */
static bool find_slice(const nb__rewrite *r, piece *p) {
    const nb__node *n = &r->node[p->node], *x = n;
    if (nb__is_computed(n, &nb__op_reshape)) x = &r->node[n->in[0]];
    if (!nb__is_computed(x, &nb__op_slice)) return false;
    const nb__slice_attr *a = x->attr;
    p->of = x->in[0];
    p->axis = nb__part_axis(a, r->node[p->of].shape);
    p->is_unit = x != n;
    if (p->axis < 0 || (p->is_unit ? !adds_axis(x->shape, n->shape, p->axis) : p->axis != 0)) return false;
    p->at = a->start.size[p->axis];
    return true;
}

/* As an operand of a concat of operands of one size: as it is, or by way of a reshape that gives it an axis. */
static bool find_concat(const nb__rewrite *r, piece *p) {
    p->of = r->joined[p->node];
    if (p->of < 0) return false;
    const nb__node *whole = &r->node[p->of];
    int             position = r->position[p->node], in = whole->in[position];
    p->axis = (int)((const nb__axis_attr *)whole->attr)->axis;
    p->is_unit = in != p->node;
    if (p->is_unit ? !adds_axis(r->node[in].shape, r->node[p->node].shape, p->axis) : whole->shape.rank != 2 || p->axis != 0)
        return false;
    int64_t size = r->node[in].shape.size[p->axis];
    for (int k = 0; k < whole->n_in; k++)
        if (r->node[whole->in[k]].shape.size[p->axis] != size) return false;
    p->at = position * size;
    return true;
}

static piece piece_of(const nb__rewrite *r, int node) {
    piece p = {.node = node, .of = -1};
    if (!find_slice(r, &p) && !find_concat(r, &p)) p.of = -1;
    return p;
}

static int by_b(const void *a, const void *b) {
    const pair *p = a, *q = b;
    return p->b.at < q->b.at ? -1 : p->b.at > q->b.at;
}

static int by_a(const void *a, const void *b) {
    const pair *p = a, *q = b;
    return p->a.at < q->a.at ? -1 : p->a.at > q->a.at;
}

static const piece *on(const pair *p, bool is_b) { return is_b ? &p->b : &p->a; }

static bool share_source(const pair *list, int n, bool is_b) {
    for (int k = 0; k < n; k++)
        if (on(&list[k], is_b)->of < 0 || on(&list[k], is_b)->of != on(&list[0], is_b)->of) return false;
    return true;
}

static side look(const nb__rewrite *r, const pair *list, int n, bool is_b) {
    const piece *first = on(list, is_b);
    side         s = {.of = -1};
    if (!share_source(list, n, is_b)) return s;
    int64_t size = first->is_unit ? 1 : r->node[first->node].shape.size[0];
    for (int k = 1; k < n; k++)
        if (on(&list[k], is_b)->at != first->at + k * size) return s;
    s = (side){first->of, first->axis, first->is_unit, first->at, {0}};
    s.is_view[0] = first->axis == 0;
    s.is_view[1] = first->axis == 1 && r->node[first->of].shape.size[1] == n;
    return s;
}

/* ---------------------------------------------------------------------------------------------------- joining pieces */

/* [t,k,w] or [k,t,w] as rows [t k,w] in the wanted order. */
static int as_rows(nb__rewrite *r, int three, int time_axis, bool rows_first) {
    if (three < 0) return -1;
    if (time_axis != rows_first) three = nb__make_permute(r, three, nb_shape(1, 0, 2));
    if (three < 0) return -1;
    nb_dims d = r->node[three].shape;
    return nb__make_reshape(r, three, nb_shape(d.size[0] * d.size[1], d.size[2]));
}

static int join(nb__rewrite *r, const pair *list, int n, bool is_b, const side *s, bool rows_first, int *scratch) {
    nb_dims d = r->node[on(list, is_b)->node].shape;
    int64_t k = d.size[0], w = d.size[1];
    if (s->of >= 0) {
        int part = nb__make_slice(r, s->of, s->axis, s->at, s->is_unit ? n : n * k);
        if (s->is_unit) return as_rows(r, part, s->axis, rows_first);
        return rows_first ? as_rows(r, nb__make_reshape(r, part, nb_shape(n, k, w)), 0, true) : part;
    }
    for (int t = 0; t < n; t++) {
        scratch[t] = on(&list[t], is_b)->node;
        if (rows_first) scratch[t] = nb__make_reshape(r, scratch[t], nb_shape(k, 1, w));
    }
    int whole = nb__make_concat(r, n, scratch, rows_first);
    return rows_first ? as_rows(r, whole, 1, true) : whole;
}

/* One way to do it: which terms, in which order of rows; elements to be copied. */
typedef struct way {
    const pair *list;
    int         n;
    bool        rows_first;
    side        a, b;
    double      copied;
} way;

/* The better order of rows for these terms. */
static way find_way(const nb__rewrite *r, pair *list, int n, bool has_a) {
    way best = {.list = list, .n = n};
    if (share_source(list, n, true))
        qsort(list, (size_t)n, sizeof *list, by_b);
    else if (has_a && share_source(list, n, false))
        qsort(list, (size_t)n, sizeof *list, by_a);
    best.b = look(r, list, n, true);
    if (has_a) best.a = look(r, list, n, false);
    const nb_dims db = r->node[list[0].b.node].shape, da = r->node[list[0].a.node].shape;
    double        rows = (double)n * (double)db.size[0];
    for (int rows_first = 0; rows_first < 2; rows_first++) {
        double copied = best.b.is_view[rows_first] ? 0 : rows * (double)db.size[1];
        if (has_a && !best.a.is_view[rows_first]) copied += rows * (double)da.size[1];
        if (rows_first && copied >= best.copied) break;
        best.copied = copied;
        best.rows_first = rows_first;
    }
    return best;
}

/* ---------------------------------------------------------------------------------------------------------- the two rules */

/* A [m,k] as rows [k,m]. */
static int rows_of(nb__rewrite *r, int a) {
    if (nb__swaps_matrix(&r->node[a])) return r->node[a].in[0];
    return nb__make_permute(r, a, nb_shape(1, 0));
}

static bool is_product(const nb__node *n) {
    return nb__is_computed(n, &nb__op_matmul) && n->shape.rank == 2 && nb__is_float(n->dtype);
}

static bool is_column_sum(const nb__rewrite *r, const nb__node *n) {
    if (!nb__is_computed(n, &nb__op_sum) || !nb__is_float(n->dtype) || n->shape.rank != 2) return false;
    nb_dims axes = ((const nb__axes_attr *)n->attr)->axes;
    return axes.rank == 1 && axes.size[0] == 0 && r->node[n->in[0]].shape.size[0] > 0;
}

/* Terms with one number of inner rows, k of the first. */
static int gather(nb__rewrite *r, int n, const int *term, const bool *once, bool products, pair *list, int *place) {
    int count = 0;
    for (int k = 0; k < n; k++) {
        nb__node t = r->node[term[k]];
        if (!once[k] || !(products ? is_product(&t) : is_column_sum(r, &t))) continue;
        pair one = {.b = piece_of(r, t.in[products])};
        if (products) {
            int rows = rows_of(r, t.in[0]);
            if (rows < 0) return -1;
            one.a = piece_of(r, rows);
        } else {
            one.a = one.b;
        }
        if (count && r->node[one.b.node].shape.size[0] != r->node[list[0].b.node].shape.size[0]) continue;
        place[count] = k;
        list[count++] = one;
    }
    return count;
}

/* Terms whose A is not all zeros. */
static int without_zeros(const nb__rewrite *r, const pair *list, int n, pair *rest) {
    int left = 0;
    for (int k = 0; k < n; k++)
        if (!nb__is_zeros(&r->node[list[k].a.node])) rest[left++] = list[k];
    return left;
}

static int make_product(nb__rewrite *r, const way *w, nb_dtype dtype, nb_dims shape, int *scratch) {
    int a = join(r, w->list, w->n, false, &w->a, w->rows_first, scratch),
        b = join(r, w->list, w->n, true, &w->b, w->rows_first, scratch);
    if (a < 0 || b < 0) return -1;
    int flat = nb__make_permute(r, a, nb_shape(1, 0));
    return nb__make(r, &nb__op_matmul, 2, (int[]){flat, b}, dtype, shape, NULL);
}

static int make_column_sum(nb__rewrite *r, const way *w, nb_dtype dtype, nb_dims shape, int *scratch) {
    int b = join(r, w->list, w->n, true, &w->b, w->rows_first, scratch);
    return nb__make(r, &nb__op_sum, 1, &b, dtype, shape, &(nb__axes_attr){nb_dims_of(1, (const int64_t[]){0})});
}

/* term[...] that were gathered become one. Returns how many terms are left. */
static int replace(int n, int *term, const int *place, int count, int made) {
    for (int k = 1; k < count; k++) term[place[k]] = -1;
    term[place[0]] = made;
    int left = 0;
    for (int k = 0; k < n; k++)
        if (term[k] >= 0) term[left++] = term[k];
    return left;
}

int nb__products_rule(nb__rewrite *r, int n, int *term, const bool *once) {
    size_t room = (size_t)n + 1;
    pair  *all = nb__round_alloc(r, 2 * room * sizeof *all), *rest = all + room;
    int   *place = nb__round_alloc(r, 2 * room * sizeof *place), *scratch = place + room;
    if (!all || !place) return -1;
    for (int products = 0; products < 2; products++) {
        int count = gather(r, n, term, once, products, all, place);
        if (count < 0) return -1;
        if (count < 2) continue;
        nb__node first = r->node[term[place[0]]]; /* its type and shape, which are those of the whole */
        way      best = find_way(r, all, count, products);
        if (products) {
            int left = without_zeros(r, all, count, rest);
            way other = left > 1 ? find_way(r, rest, left, true) : best;
            if (other.copied < best.copied || (other.copied == best.copied && other.n < best.n)) best = other;
        }
        /* The additions read two and write one. */
        if (best.copied > (products ? 2.0 * count * (double)nb__dims_count(first.shape) : 0)) continue;
        int made = products ? make_product(r, &best, first.dtype, first.shape, scratch)
                            : make_column_sum(r, &best, first.dtype, first.shape, scratch);
        if (made < 0) return -1;
        r->changed = true;
        return replace(n, term, place, count, made);
    }
    return n;
}
