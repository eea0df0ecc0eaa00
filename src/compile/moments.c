/* moments.c: the sum of squares around a mean, and the mean's own sum, by one pass over memory instead of two:
 *
 *   sum(square(x - mean(x)))     moments(x)[1]
 *   sum(x)                       moments(x)[0], where there is such a mean
 *
 * and x + v, where v is the same along the axes that are summed (the bias of a convolution), counts with n v in the sum and not
 * at all in the squares. Variances and the statistics of a batch norm are made of these. Rounding differs: the squares are better
 * than those around a rounded mean (kernels/isa/moments.c), and no sum overflows on the way. The
 * operator is in ops/statistics.c, its kernel is planned in kernels/reduce.c.
 *
 * Rows that a region keeps in the cache, as a layer norm does, stay as they are, unless they come from memory and their variance
 * is all that is wanted; and so does what is made of elementwise work, which regions compute on the way. */
#include "rewrite.h"

enum {
    REACH = 16,        /* nodes from a sum to the squares around its mean: compositions make them one after the other */
    UNCACHED = 4 << 20 /* elements that no cache holds */
};

/* Old numbers. */
typedef struct found {
    int            sum, x; /* of the mean, and what it is the mean of */
    const nb_dims *axes;
    double         n; /* elements of a mean */
} found;

static const nb_dims *summed_axes(const nb__node *n) {
    return nb__is_computed(n, &nb__op_sum) ? &((const nb__axes_attr *)n->attr)->axes : NULL;
}

static int row_of(const nb__node *n) { return n->source == NB__COMPUTED ? nb__row_of(n->op) : -1; }

/* Whether node m is the mean of x along the axes: sum / n or sum * (1 / n). */
static bool is_mean(const nb__rewrite *r, int m, found *f) {
    const nb__node *mean = &r->old[m];
    int             row = row_of(mean);
    double          value;
    if ((row != NB__ROW_div && row != NB__ROW_mul) || !nb__splat_value(&r->old[mean->in[1]], &value)) return false;
    const nb__node *sum = &r->old[mean->in[0]];
    const nb_dims  *axes = summed_axes(sum);
    f->sum = mean->in[0];
    return axes && sum->in[0] == f->x && nb__dims_equal(*axes, *f->axes) && nb__dims_equal(sum->shape, mean->shape) &&
           (row == NB__ROW_div ? value == f->n : value * f->n == 1);
}

/* Whether the axes leave the outermost one alone, or nothing: what they sum up may then be a region's rows. Axes of size 1 do not
 * count. */
static bool may_be_rows(nb_dims shape, const nb_dims *axes, double n) {
    int outer = 0, k = 0;
    while (outer < shape.rank && shape.size[outer] == 1) outer++;
    while (k < axes->rank && axes->size[k] < outer) k++;
    bool is_outer = k < axes->rank && axes->size[k] == outer;
    return n <= NB__UNIT_MAX && (!is_outer || n == (double)nb__dims_count(shape));
}

/* Whether old node v is the sum of squares around a mean. */
static bool is_around_mean(const nb__rewrite *r, int v, found *f) {
    const nb__node *sum = &r->old[v];
    f->axes = summed_axes(sum);
    if (!f->axes || f->axes->rank == 0 || sum->dtype != NB_F32 || sum->is_watched) return false;
    const nb__node *square = &r->old[sum->in[0]], *centred = &r->old[square->n_in ? square->in[0] : 0];
    if (row_of(square) != NB__ROW_square || row_of(centred) != NB__ROW_sub) return false;
    f->x = centred->in[0];
    f->n = (double)nb__dims_count(centred->shape) / (double)nb__dims_count(sum->shape);
    if (!nb__dims_equal(r->old[f->x].shape, centred->shape) || !is_mean(r, centred->in[1], f)) return false;
    bool is_alone = r->users[sum->in[0]] == 1 && r->users[square->in[0]] == 1 && r->users[f->x] == 2;
    return !may_be_rows(centred->shape, f->axes, f->n) || (is_alone && nb__dims_count(centred->shape) >= UNCACHED);
}

/* Of x = y + v or y - v the operand that is y, if v is the same along the axes; -1. */
static int shifted(const nb__rewrite *r, const nb__node *x, const nb_dims *axes) {
    int row = row_of(x);
    if ((row != NB__ROW_add && row != NB__ROW_sub) || x->is_watched) return -1;
    for (int k = 0; k <= (row == NB__ROW_add); k++) {
        nb_dims v = r->old[x->in[1 - k]].shape;
        bool    is_same = nb__dims_equal(r->old[x->in[k]].shape, x->shape);
        for (int i = 0; i < axes->rank; i++) {
            int64_t at = axes->size[i] - (x->shape.rank - v.rank);
            is_same = is_same && (at < 0 || v.size[at] == 1);
        }
        if (is_same) return k;
    }
    return -1;
}

/* What stands for the sum (0) or the squares (1). */
static int make(nb__rewrite *r, const found *f, int number) {
    const nb__node *x = &r->old[f->x];
    int             k = shifted(r, x, f->axes), y = k < 0 ? f->x : x->in[k];
    if (nb__is_elementwise(r->old[y].op) && r->old[y].source == NB__COMPUTED) return -1;
    nb__axes_attr attr = {*f->axes};
    nb_dims       shape = r->old[f->sum].shape;
    shape.size[f->axes->size[0]] = 2;
    int both = nb__make(r, &nb__op_moments, 1, &r->to[y], NB_F32, shape, &attr);
    int made = nb__make_slice(r, both, (int)f->axes->size[0], number, 1);
    if (k < 0 || number == 1 || made < 0) return made;
    int v = r->to[x->in[1 - k]], n = nb__make_number(r, NB_F32, nb_shape(), f->n);
    int all = n < 0 ? -1 : nb__make(r, &nb__elementwise[NB__ROW_mul], 2, (int[]){v, n}, NB_F32, r->node[v].shape, NULL);
    return nb__make(r, x->op, 2, (int[]){made, all}, NB_F32, r->old[f->sum].shape, NULL);
}

int nb__moments_rule(nb__rewrite *r, int old) {
    found f;
    int   made = -1, end = old + REACH < r->n_old ? old + REACH : r->n_old;
    if (r->level < NB__LAST || !summed_axes(&r->old[old])) return -1;
    if (is_around_mean(r, old, &f)) made = make(r, &f, 1);
    for (int v = old + 1; v < end && made < 0; v++)
        if (!r->old[v].is_dead && is_around_mean(r, v, &f) && f.sum == old) made = make(r, &f, 0);
    if (made >= 0) r->changed = true;
    return made;
}
