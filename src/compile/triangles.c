/* triangles.c: products of matrices that are zero on one side of their diagonal, or of which nobody looks at one side: a causal
 * attention has three of each forward and back. A product leaves out what lies there, about half of its work.
 *
 * Zeros begin in constants, as a causal mask or nb_tril have them, and go where arithmetic takes them; where -infinity stands,
 * the exponential is zero. What nobody looks at is found from the readers: a choice by a mask, a product with zeros. There the
 * result is 0. So no number changes but in the sign of a zero; infinities and NaN that would have met a zero stay where they
 * are. */
#include <math.h>

#include "ops.h"
#include "program.h"

/* What is known of the two sides of a value's last two axes, as bits NB__ABOVE and NB__BELOW. */
typedef struct sides {
    unsigned zero;   /* zeros */
    unsigned least;  /* -infinity */
    unsigned idle;   /* nobody looks, whatever stands there */
    unsigned finite; /* or they only meet zeros in products: any finite number will do */
} sides;

/* Whether both have the same last two axes: element (i, j) of one is made of element (i, j) of the other. */
static bool is_same_matrix(nb_dims a, nb_dims b) {
    return a.rank >= 2 && b.rank >= 2 && a.size[a.rank - 1] == b.size[b.rank - 1] && a.size[a.rank - 2] == b.size[b.rank - 2];
}

static bool swaps_last(const nb__node *n) {
    int64_t        last = n->shape.rank - 1;
    const nb_dims *axes = &((const nb__dims_attr *)n->attr)->dims;
    return last > 0 && axes->size[last] == last - 1 && axes->size[last - 1] == last;
}

static bool keeps_last(const nb__node *n) {
    int64_t        last = n->shape.rank - 1;
    const nb_dims *axes = &((const nb__dims_attr *)n->attr)->dims;
    return last > 0 && axes->size[last] == last && axes->size[last - 1] == last - 1;
}

static sides turned(sides s) {
    return (sides){nb__other_side(s.zero), nb__other_side(s.least), nb__other_side(s.idle), nb__other_side(s.finite)};
}

/* On which sides each element of a constant is `value`. */
static unsigned constant_sides(const nb__node *n, double value) {
    enum { MOST = 1 << 23 };
    int64_t  rows = n->shape.rank >= 2 ? n->shape.size[n->shape.rank - 2] : 0, all = nb__dims_count(n->shape);
    nb_array a = {.data = (void *)(uintptr_t)n->data, .dtype = n->dtype};
    unsigned side = NB__ABOVE | NB__BELOW;
    if (n->is_splat) return nb__load(&a, 0) == value ? side : 0;
    if (all == 0 || !rows || all > MOST) return 0;
    int64_t columns = n->shape.size[n->shape.rank - 1];
    for (int64_t at = 0; side && at < all; at++) {
        int64_t  j = at % columns, i = at / columns % rows;
        unsigned where = j > i ? NB__ABOVE : j < i ? NB__BELOW : 0;
        if (side & where && nb__load(&a, at) != value) side &= ~where;
    }
    return side;
}

/* Constants that are the same along rows, [...,m,1], or along columns, [...,n]: of one matrix. */
static bool is_column_of(const nb__node *n, int64_t m) {
    int r = (int)n->shape.rank;
    return n->source == NB__CONSTANT && !n->is_splat && r >= 2 && n->shape.size[r - 2] == m && nb__dims_count(n->shape) == m;
}

static bool is_row_of(const nb__node *n, int64_t columns) {
    int r = (int)n->shape.rank;
    return n->source == NB__CONSTANT && !n->is_splat && r >= 1 && n->shape.size[r - 1] == columns &&
           nb__dims_count(n->shape) == columns;
}

static bool holds(enum nb__row row, double a, double b) {
    return row == NB__ROW_less ? a < b : row == NB__ROW_less_equal ? a <= b : row == NB__ROW_greater ? a > b : a >= b;
}

static double nearer(bool is_least, double a, double b) { return is_least ? fmin(a, b) : fmax(a, b); }

/* On which sides a comparison of two ranges, like row >= column, is false: the nearest value there decides for each row. */
static unsigned comparison_sides(const nb_program *p, const nb__node *n) {
    enum nb__row row = (enum nb__row)nb__row_of(n->op);
    bool         is_less = row == NB__ROW_less || row == NB__ROW_less_equal;
    if ((!is_less && row != NB__ROW_greater && row != NB__ROW_greater_equal) || n->shape.rank < 2) return 0;
    int64_t         rows = n->shape.size[n->shape.rank - 2], columns = n->shape.size[n->shape.rank - 1];
    const nb__node *x = &p->node[n->in[0]], *y = &p->node[n->in[1]];
    bool            is_turned = is_column_of(y, rows) && is_row_of(x, columns);
    if (!is_turned && !(is_column_of(x, rows) && is_row_of(y, columns))) return 0;
    nb_array column = {.data = (void *)(uintptr_t)(is_turned ? y : x)->data, .dtype = x->dtype};
    nb_array along = {.data = (void *)(uintptr_t)(is_turned ? x : y)->data, .dtype = x->dtype};
    bool     is_least = is_turned != is_less; /* which of the values on a side it holds for first */
    unsigned side = NB__ABOVE | NB__BELOW;
    double   best = NAN; /* of none: no comparison holds */
    for (int64_t i = rows - 1, j = columns - 1; i >= 0; i--) {
        for (; j > i; j--) best = nearer(is_least, best, nb__load(&along, j));
        double value = nb__load(&column, i);
        if (is_turned ? holds(row, best, value) : holds(row, value, best)) side &= ~NB__ABOVE;
    }
    best = NAN;
    for (int64_t i = 0, j = 0; i < rows; i++) {
        for (; j < i && j < columns; j++) best = nearer(is_least, best, nb__load(&along, j));
        double value = nb__load(&column, i);
        if (is_turned ? holds(row, best, value) : holds(row, value, best)) side &= ~NB__BELOW;
    }
    return side;
}

/* What an operand shows of its sides in a result of this shape: all of it is the same, or its matrix is the result's. */
static sides seen(const nb_program *p, const sides *of, int i, nb_dims shape) {
    return p->node[i].is_splat || is_same_matrix(p->node[i].shape, shape) ? of[i] : (sides){0};
}

static sides computed_sides(const nb_program *p, const sides *of, const nb__node *n) {
    sides in[3] = {{0}}, s = {0};
    for (int k = 0; k < n->n_in && k < 3; k++) in[k] = seen(p, of, n->in[k], n->shape);
    if (n->op == &nb__op_permute) {
        sides x = of[n->in[0]];
        return keeps_last(n) ? x : swaps_last(n) ? turned(x) : (sides){0};
    }
    if (n->op == &nb__op_reshape || n->op == &nb__op_expand || n->op == &nb__op_cast) return in[0];
    switch (nb__row_of(n->op)) {
    case NB__ROW_where:
        s.zero = (in[0].zero | in[1].zero) & in[2].zero;
        s.least = (in[0].zero | in[1].least) & in[2].least;
        break;
    case NB__ROW_mul: s.zero = in[0].zero | in[1].zero; break;
    case NB__ROW_div: s.zero = in[0].zero & ~in[1].zero; break;
    case NB__ROW_neg: s.zero = in[0].zero; break;
    case NB__ROW_add: s = (sides){.zero = in[0].zero & in[1].zero, .least = in[0].least | in[1].least}; break;
    case NB__ROW_sub: s = (sides){.zero = in[0].zero & in[1].zero, .least = in[0].least}; break;
    case NB__ROW_exp: s.zero = in[0].least; break;
    default: s.zero = comparison_sides(p, n);
    }
    /* Rows below the last column are -infinity as a whole: less their largest element, they are NaN. */
    if (n->shape.rank >= 2 && n->shape.size[n->shape.rank - 2] > n->shape.size[n->shape.rank - 1]) s.least &= NB__ABOVE;
    return s;
}

/* On which sides reader n does not look at its operand k, or only at whether it is finite. */
static sides ignored(const nb_program *p, const sides *of, const nb__node *n, int k) {
    sides s = {.idle = of[n - p->node].idle, .finite = of[n - p->node].finite};
    if (n->op == &nb__op_permute) return keeps_last(n) ? s : swaps_last(n) ? turned(s) : (sides){0};
    if (!is_same_matrix(p->node[n->in[k]].shape, n->shape)) return (sides){0};
    if (n->op == &nb__op_reshape || n->op == &nb__op_cast) return s;
    switch (nb__row_of(n->op)) {
    case -1: return (sides){0};
    case NB__ROW_where: {
        unsigned hidden = k == 1 ? seen(p, of, n->in[0], n->shape).zero : 0;
        return (sides){.idle = s.idle | hidden, .finite = (k ? s.finite : s.idle) | hidden};
    }
    case NB__ROW_mul: return (sides){.idle = s.idle, .finite = s.finite | seen(p, of, n->in[1 - k], n->shape).zero};
    case NB__ROW_add:
    case NB__ROW_sub:
    case NB__ROW_neg: return s;
    default: return (sides){.idle = s.idle, .finite = s.idle};
    }
}

static bool find_idle(const nb_program *p, sides *of) {
    const bool *is_result = nb__find_results(p);
    if (!is_result) return false;
    for (int i = 0; i < p->n_nodes; i++) {
        bool is_inner = p->node[i].source == NB__COMPUTED && !p->node[i].is_watched && !is_result[i];
        of[i].idle = of[i].finite = is_inner ? NB__ABOVE | NB__BELOW : 0;
    }
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const nb__node *n = &p->node[i];
        for (int k = 0; !n->is_dead && n->source == NB__COMPUTED && k < n->n_in; k++) {
            sides s = ignored(p, of, n, k);
            of[n->in[k]].idle &= s.idle;
            of[n->in[k]].finite &= s.finite;
        }
    }
    return true;
}

double nb__triangle_share(nb_dims shape, unsigned zero) {
    double m = (double)shape.size[shape.rank - 2], n = (double)shape.size[shape.rank - 1], all = m * n, left = all;
    double least = fmin(m, n), diagonal = least * (least + 1) / 2; /* the elements with j <= i of the square part */
    if (zero & NB__ABOVE) left -= all - diagonal - (m > n ? (m - n) * n : 0);
    if (zero & NB__BELOW) left -= all - diagonal - (n > m ? (n - m) * m : 0);
    return all > 0 ? left / all : 1;
}

bool nb__find_triangles(nb_program *p, bool finds) {
    sides *of = finds ? nb__step_alloc(p->nb, (size_t)p->n_nodes * sizeof *of + 1) : NULL;
    if (!of) return !finds;
    for (int i = 0; i < p->n_nodes; i++) {
        const nb__node *n = &p->node[i];
        if (n->is_dead) continue;
        if (n->source == NB__CONSTANT)
            of[i] = (sides){.zero = constant_sides(n, 0), .least = constant_sides(n, -INFINITY)};
        else if (n->source == NB__COMPUTED && n->n_in)
            of[i] = computed_sides(p, of, n);
    }
    if (!find_idle(p, of)) return false;
    for (int i = 0; i < p->n_nodes; i++) {
        nb__node *n = &p->node[i];
        if (n->is_dead || n->source != NB__COMPUTED || n->op != &nb__op_matmul) continue;
        n->triangles = (nb__triangles){
            .a = (unsigned char)of[n->in[0]].zero, .b = (unsigned char)of[n->in[1]].zero, .c = (unsigned char)of[i].finite};
    }
    return true;
}
