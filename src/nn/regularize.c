/* regularize.c: penalties to add to a loss, and a limit for the norms of rows. */
#include "nn.h"

static const nb_op l1_op = {
    .name = "l1", .formula = "y = \\sum |w|", .gradient = "dw = \\mathrm{sign}(w)\\, dy", .kind = NB_COMPOSITION};
static const nb_op l2_op = {
    .name = "l2", .formula = "y = \\frac12 \\sum w^2", .gradient = "dw = w\\, dy", .kind = NB_COMPOSITION};
static const nb_op max_norm_op = {
    .name = "max_norm", .formula = "y_i = w_i \\min(1, c / \\|w_i\\|)", .gradient = "\\text{chain rule}", .kind = NB_COMPOSITION};

static nb_tensor *absolute(nb_tensor *w) { return nb_sum(nb_abs(w), nb_axes(), false); }
static nb_tensor *half_square(nb_tensor *w) {
    return nb_mul(nb_sum(nb_square(w), nb_axes(), false), nb_number(nb_context_of(w), 0.5));
}

/* The sum over the tensors, from the first to the last. None at all: there is no context to make even a 0 in, so NULL. */
static nb_tensor *sum_over(nb_list tensors, const nb_op *op, nb_tensor *(*penalty)(nb_tensor *w)) {
    nb_tensor *sum = NULL;
    for (int i = 0; i < tensors.n; i++) {
        nb_context *nb = nb_context_of(tensors.at[i]);
        nb_group_push(nb, op);
        nb_tensor *one = penalty(tensors.at[i]);
        sum = sum ? nb_add(sum, one) : one;
        nb_group_pop(nb);
    }
    return sum;
}

nb_tensor *nb_l1(nb_list tensors) { return sum_over(tensors, &l1_op, absolute); }
nb_tensor *nb_l2(nb_list tensors) { return sum_over(tensors, &l2_op, half_square); }

nb_tensor *nb_elastic(nb_list tensors, double l1, double l2) {
    if (!tensors.n) return NULL;
    nb_context *nb = nb_context_of(tensors.at[0]);
    return nb_add(nb_mul(nb_l1(tensors), nb_number(nb, l1)), nb_mul(nb_l2(tensors), nb_number(nb, l2)));
}

nb_tensor *nb_max_norm(nb_tensor *w, double limit) {
    nb_context *nb = nb_context_of(w);
    if (!(limit > 0)) return nb_fail(nb, NB_INVALID, "nb_max_norm: the limit must be above 0, got %g", limit);
    nb_dims rest = {.rank = 0};
    for (int i = 1; i < nb_rank(w); i++) rest.size[rest.rank++] = i;
    nb_group_push(nb, &max_norm_op);
    nb_tensor *norm = rest.rank ? nb_norm(w, 2, rest, true) : nb_abs(w); /* whose derivative at 0 is 0 */
    nb_tensor *shrink = nb_div(nb_number(nb, limit), nb_add(norm, nb_number(nb, 1e-7)));
    nb_tensor *y = nb_mul(w, nb_where(nb_greater(norm, nb_number(nb, limit)), shrink, nb_number(nb, 1)));
    nb_group_pop(nb);
    return y;
}
