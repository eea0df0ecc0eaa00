/* lookups.c: rules for products with rows that an index chooses from a table, as an embedding does: with fewer rows in the table
 * than are chosen, the table is multiplied, or what belongs to one of its rows is added up first.
 *
 *   E[i] B                  (E B)[i]
 *   G^T E[i]                S^T E, and E[i]^T G = E^T S, where row v of S, as high as E, is the sum of G's rows j with i_j = v
 *   sum of rows of G B      S B: the gradient of E; S is the same as above
 *
 * The rows may be seen in another order or shape: then their index is. The first keeps each bit; sums run in another order, and
 * infinities or NaN of rows that nobody chose, or of a B that no row would have met, come through as 0 times them. */
#include "rewrite.h"

enum {
    MOST_VIEWS = 8,
    LEAST_WIDTH = 32 /* terms of an inner sum: for fewer the product takes no longer than choosing or adding up rows */
};

static bool pays(int64_t chosen, int64_t rows, int64_t width) { return chosen >= 2 * rows && width >= LEAST_WIDTH; }

/* All axes but the last one, of sizes or of a permutation. */
static nb_dims without_last(nb_dims d) {
    d.rank--;
    d.size[d.rank] = 0;
    return d;
}

/* Whether a view shows rows of its operand as they are, in another order or on other axes. */
static bool keeps_rows(const nb__rewrite *r, const nb__node *n) {
    if (n->source != NB__COMPUTED || n->shape.rank < 1) return false;
    int64_t last = n->shape.rank - 1;
    nb_dims of = r->old[n->in[0]].shape;
    if (n->op == &nb__op_permute) return ((const nb__dims_attr *)n->attr)->dims.size[last] == last;
    return n->op == &nb__op_reshape && of.rank > 0 && of.size[of.rank - 1] == n->shape.size[last];
}

/* Whether old node i is rows of a table (an old node), each whole, and the index (a new one) of each: of i's shape but for the
 * last axis. */
static bool find_table(nb__rewrite *r, int i, int views, int *table, int *index) {
    const nb__node *n = &r->old[i];
    if (nb__is_computed(n, &nb__op_index_select)) {
        *table = n->in[0];
        *index = r->to[n->in[1]];
        return ((const nb__axis_attr *)n->attr)->axis == 0 && r->old[*table].shape.rank == 2;
    }
    if (views == MOST_VIEWS || !keeps_rows(r, n) || !find_table(r, n->in[0], views + 1, table, index)) return false;
    *index = n->op == &nb__op_permute ? nb__make_permute(r, *index, without_last(((const nb__dims_attr *)n->attr)->dims))
                                      : nb__make_reshape(r, *index, without_last(n->shape));
    return *index >= 0;
}

/* S[rows, n]: rows of g[M,n] added up by their index [M]. */
static int add_rows(nb__rewrite *r, int g, int index, int64_t rows) {
    if (g < 0 || index < 0) return -1;
    const nb__node *source = &r->node[g];
    nb_dims         shape = source->shape, sum = nb_shape(rows, shape.size[1]);
    nb_dtype        dtype = source->dtype;
    nb__dims_attr   all = {nb_dims_of(2, shape.size)};
    int             column = nb__make_reshape(r, index, nb_shape(shape.size[0], 1));
    int             places = column < 0 ? -1 : nb__make(r, &nb__op_expand, 1, &column, r->node[column].dtype, shape, &all);
    int             in[] = {nb__make_zeros(r, dtype, sum), places, g};
    return nb__make(r, &nb__op_scatter_add, 3, in, dtype, sum, &(nb__axis_attr){0});
}

static int multiply(nb__rewrite *r, int a, int b, nb_dtype dtype, nb_dims shape) {
    return nb__make(r, &nb__op_matmul, 2, (int[]){a, b}, dtype, shape, NULL);
}

static int turned(nb__rewrite *r, int a) { return nb__make_permute(r, a, nb_shape(1, 0)); }

/* E[i] B */
static int product_of_rows(nb__rewrite *r, const nb__node *n) {
    int table, index;
    if (!find_table(r, n->in[0], 0, &table, &index)) return -1;
    nb_dims of = r->old[table].shape;
    if (!pays(n->shape.size[0], of.size[0], of.size[1])) return -1;
    int all = multiply(r, r->to[table], r->to[n->in[1]], n->dtype, nb_shape(of.size[0], n->shape.size[1]));
    return nb__make(r, &nb__op_index_select, 2, (int[]){all, index}, n->dtype, n->shape, &(nb__axis_attr){0});
}

/* G^T E[i], E[i]^T G */
static int sum_of_rows(nb__rewrite *r, const nb__node *n) {
    const nb__node *a = &r->old[n->in[0]];
    int             table, index;
    if (!nb__swaps_matrix(a)) return -1;
    bool is_second = find_table(r, n->in[1], 0, &table, &index);
    if (!is_second && !find_table(r, a->in[0], 0, &table, &index)) return -1;
    nb_dims of = r->old[table].shape;
    if (!pays(a->shape.size[1], of.size[0], of.size[1])) return -1;
    int sums = add_rows(r, r->to[is_second ? a->in[0] : n->in[1]], index, of.size[0]);
    if (is_second) return multiply(r, turned(r, sums), r->to[table], n->dtype, n->shape);
    return multiply(r, turned(r, r->to[table]), sums, n->dtype, n->shape);
}

static nb_dims inverse(nb_dims axes) {
    nb_dims back = {.rank = axes.rank};
    for (int i = 0; i < axes.rank; i++) back.size[axes.size[i]] = i;
    return back;
}

/* Sums of rows of G B, which nobody else reads. */
static int rows_of_product(nb__rewrite *r, const nb__node *n) {
    const nb__node *places = &r->old[n->in[1]];
    if (((const nb__axis_attr *)n->attr)->axis != 0 || n->shape.rank != 2 || !nb__is_zeros(&r->old[n->in[0]])) return -1;
    if (!nb__is_computed(places, &nb__op_expand) ||
        !nb__dims_equal(r->old[places->in[0]].shape, nb_shape(places->shape.size[0], 1)) || places->shape.size[1] == 1)
        return -1;
    int index = nb__make_reshape(r, r->to[places->in[0]], nb_shape(places->shape.size[0])), at = n->in[2];
    for (int views = 0; views < MOST_VIEWS && r->users[at] == 1 && keeps_rows(r, &r->old[at]); views++) {
        const nb__node *view = &r->old[at];
        at = view->in[0];
        index = view->op == &nb__op_permute
                    ? nb__make_permute(r, index, without_last(inverse(((const nb__dims_attr *)view->attr)->dims)))
                    : nb__make_reshape(r, index, without_last(r->old[at].shape));
        if (index < 0) return -1;
    }
    const nb__node *product = &r->old[at];
    if (!nb__is_computed(product, &nb__op_matmul) || product->shape.rank != 2 || r->users[at] != 1) return -1;
    if (!pays(product->shape.size[0], n->shape.size[0], n->shape.size[1])) return -1;
    return multiply(r, add_rows(r, r->to[product->in[0]], index, n->shape.size[0]), r->to[product->in[1]], n->dtype, n->shape);
}

int nb__lookup_rule(nb__rewrite *r, int old) {
    const nb__node n = r->old[old];
    int            made = -1;
    if (r->level < NB__LAST) return -1;
    if (nb__is_computed(&n, &nb__op_matmul) && n.shape.rank == 2 && nb__is_float(n.dtype)) {
        made = product_of_rows(r, &n);
        if (made < 0) made = sum_of_rows(r, &n);
    } else if (nb__is_computed(&n, &nb__op_scatter_add)) {
        made = rows_of_product(r, &n);
    }
    if (made >= 0) r->changed = true;
    return made;
}
