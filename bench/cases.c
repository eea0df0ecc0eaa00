/* cases.c: the operator benchmarks. tools/peers/ has the same cases under the same names.
 *
 * A case makes its operands with `real`, `whole` and `yes_no`, which count their bytes, and hands its results to `results`, which
 * counts theirs: the bytes of a case are what it would have to move if everything between were kept in registers. */
#include "cases.h"

#include <string.h>

/* -------------------------------------------------------------------------------------------------------------- operands -- */

static nb_tensor *operand(bench *b, nb_tensor *values) {
    nb_tensor *t = nb_input(b->nb, "x", nb_dtype_of(values), nb_shape_of(values));
    nb_set(t, nb_data(values), nb_bytes(values));
    b->bytes += (double)nb_bytes(values);
    return t;
}

static nb_tensor *real(bench *b, nb_dims shape) { return operand(b, nb_normal(b->nb, NB_F32, shape, 0, 1)); }

static nb_tensor *whole(bench *b, int64_t below, nb_dims shape) {
    return operand(b, nb_cast(nb_uniform(b->nb, NB_F32, shape, 0, (double)below), NB_I64));
}

static nb_tensor *yes_no(bench *b, nb_dims shape) { return operand(b, nb_bernoulli(nb_number(b->nb, 0.5), shape)); }

static nb_tensor *matrix(bench *b) { return real(b, nb_shape(b->rows, b->cols)); }

static nb_tensor *image(bench *b) { return real(b, nb_dims_of(4, b->image)); }

static nb_list results(bench *b, nb_list list) {
    for (int i = 0; i < list.n; i++) b->bytes += (double)nb_bytes(list.at[i]);
    return list;
}

static nb_list result(bench *b, nb_tensor *y) { return results(b, nb_list_of(b->nb, y)); }

/* y and dL/dx of each x, from an upstream gradient that is an operand too. */
static nb_list both_ways(bench *b, nb_tensor *y, nb_list xs) {
    return results(b, nb_list_join(b->nb, nb_list_of(b->nb, y), nb_grads(y, real(b, nb_shape_of(y)), xs)));
}

/* ----------------------------------------------------------------------------------------------------------- elementwise -- */

static nb_list add(bench *b) { return result(b, nb_add(matrix(b), matrix(b))); }
static nb_list mul_row(bench *b) { return result(b, nb_mul(matrix(b), real(b, nb_shape(b->cols)))); }
static nb_list mul_column(bench *b) { return result(b, nb_mul(matrix(b), real(b, nb_shape(b->rows, 1)))); }
static nb_list exp_of(bench *b) { return result(b, nb_exp(matrix(b))); }
static nb_list tanh_of(bench *b) { return result(b, nb_tanh(matrix(b))); }
static nb_list sigmoid(bench *b) { return result(b, nb_sigmoid(matrix(b))); }
static nb_list erf_of(bench *b) { return result(b, nb_erf(matrix(b))); }
static nb_list gelu(bench *b) { return result(b, nb_gelu(matrix(b))); }
static nb_list where(bench *b) { return result(b, nb_where(yes_no(b, nb_shape(b->rows, b->cols)), matrix(b), matrix(b))); }
static nb_list cast(bench *b) { return result(b, nb_cast(matrix(b), NB_I32)); }
static nb_list clamp(bench *b) { return result(b, nb_clamp(matrix(b), -0.5, 0.5)); }

/* ((x + a) b - x)^2, relu, + a, b, clamp, - x, |.|: ten cheap operators in a row. */
static nb_list chain(bench *b) {
    nb_tensor *x = matrix(b), *u = matrix(b), *v = matrix(b);
    nb_tensor *t = nb_relu(nb_square(nb_sub(nb_mul(nb_add(x, u), v), x)));
    return result(b, nb_abs(nb_sub(nb_clamp(nb_mul(nb_add(t, u), v), -3, 3), x)));
}

static nb_list dropout(bench *b) { return result(b, nb_dropout(matrix(b), nb_number(b->nb, 0.5))); }
static nb_list normal(bench *b) { return result(b, nb_normal(b->nb, NB_F32, nb_shape(b->n), 0, 1)); }

/* ------------------------------------------------------------------------------------------------------------ reductions -- */

static nb_dims last_axis(void) { return nb_axes(1); }
static nb_dims first_axis(void) { return nb_axes(0); }
static nb_dims all_axes(void) { return nb_axes(); }

static nb_list sum_last(bench *b) { return result(b, nb_sum(matrix(b), last_axis(), false)); }
static nb_list sum_first(bench *b) { return result(b, nb_sum(matrix(b), first_axis(), false)); }
static nb_list sum_all(bench *b) { return result(b, nb_sum(matrix(b), all_axes(), false)); }
static nb_list mean_last(bench *b) { return result(b, nb_mean(matrix(b), last_axis(), false)); }
static nb_list mean_first(bench *b) { return result(b, nb_mean(matrix(b), first_axis(), false)); }
static nb_list mean_all(bench *b) { return result(b, nb_mean(matrix(b), all_axes(), false)); }
static nb_list max_last(bench *b) { return result(b, nb_max(matrix(b), last_axis(), false)); }
static nb_list max_first(bench *b) { return result(b, nb_max(matrix(b), first_axis(), false)); }
static nb_list max_all(bench *b) { return result(b, nb_max(matrix(b), all_axes(), false)); }
static nb_list var_last(bench *b) { return result(b, nb_var(matrix(b), last_axis(), false, 1)); }
static nb_list var_first(bench *b) { return result(b, nb_var(matrix(b), first_axis(), false, 1)); }
static nb_list var_all(bench *b) { return result(b, nb_var(matrix(b), all_axes(), false, 1)); }
static nb_list argmax_last(bench *b) { return result(b, nb_argmax(matrix(b), 1, false)); }
static nb_list argmax_first(bench *b) { return result(b, nb_argmax(matrix(b), 0, false)); }
static nb_list argmax_all(bench *b) { return result(b, nb_argmax(nb_flatten(matrix(b), 0, 1), 0, false)); }
static nb_list cumsum(bench *b) { return result(b, nb_cumsum(matrix(b), 1)); }

/* ------------------------------------------------------------------------------------------------ rows, losses and norms -- */

static nb_list softmax(bench *b) { return result(b, nb_softmax(matrix(b), 1)); }
static nb_list log_softmax(bench *b) { return result(b, nb_log_softmax(matrix(b), 1)); }

static nb_list softmax_both(bench *b) {
    nb_tensor *x = matrix(b);
    return both_ways(b, nb_softmax(x, 1), nb_list_of(b->nb, x));
}

static nb_list log_softmax_both(bench *b) {
    nb_tensor *x = matrix(b);
    return both_ways(b, nb_log_softmax(x, 1), nb_list_of(b->nb, x));
}

static nb_list cross_entropy(bench *b) {
    return result(b, nb_cross_entropy(matrix(b), whole(b, b->cols, nb_shape(b->rows)), NULL));
}

static nb_list cross_entropy_both(bench *b) {
    nb_tensor *x = matrix(b), *loss = nb_cross_entropy(x, whole(b, b->cols, nb_shape(b->rows)), NULL);
    return results(b, nb_list_join(b->nb, nb_list_of(b->nb, loss), nb_grads(loss, NULL, nb_list_of(b->nb, x))));
}

static nb_list normalised(bench *b, nb_layer *layer, nb_tensor *x, bool both) {
    nb_tensor *y = nb_layer_apply(layer, x, NB_TRAIN);
    if (!both) return result(b, y);
    return both_ways(b, y, nb_list_join(b->nb, nb_list_of(b->nb, x), nb_layer_parameters(layer)));
}

static nb_list layer_norm(bench *b) {
    return normalised(b, nb_layer_layer_norm(b->nb, nb_shape(b->cols), NULL), matrix(b), false);
}
static nb_list layer_norm_both(bench *b) {
    return normalised(b, nb_layer_layer_norm(b->nb, nb_shape(b->cols), NULL), matrix(b), true);
}
static nb_list batch_norm(bench *b) { return normalised(b, nb_layer_batch_norm(b->nb, b->image[1], NULL), image(b), false); }
static nb_list batch_norm_both(bench *b) { return normalised(b, nb_layer_batch_norm(b->nb, b->image[1], NULL), image(b), true); }

/* --------------------------------------------------------------------------------------------------------- moving things -- */

static nb_list transpose(bench *b) { return result(b, nb_transpose(matrix(b), 0, 1)); }

static nb_list concat(bench *b) {
    nb_tensor *left = real(b, nb_shape(b->rows, b->cols / 2)), *right = real(b, nb_shape(b->rows, b->cols / 2));
    return result(b, nb_concat(nb_list_of(b->nb, left, right), 1));
}

static nb_list gather_rows(bench *b) { return result(b, nb_index_select(matrix(b), 0, whole(b, b->rows, nb_shape(b->rows)))); }

static nb_list scatter_add_rows(bench *b) {
    nb_tensor *x = matrix(b), *source = matrix(b), *rows = whole(b, b->rows, nb_shape(b->rows, 1));
    return result(b, nb_scatter_add(x, 0, nb_expand(rows, nb_shape(b->rows, b->cols)), source));
}

static nb_list one_hot(bench *b) { return result(b, nb_one_hot(whole(b, b->cols, nb_shape(b->rows)), b->cols, NB_F32)); }

/* ----------------------------------------------------------------------------------------------- images and contractions -- */

static nb_list pooled(bench *b, nb_tensor *(*pool)(nb_tensor *, const nb_pool2d_options *), bool both) {
    nb_tensor *x = image(b), *y = pool(x, &(nb_pool2d_options){.size = {2, 2}});
    return both ? both_ways(b, y, nb_list_of(b->nb, x)) : result(b, y);
}

static nb_list max_pool(bench *b) { return pooled(b, nb_max_pool2d, false); }
static nb_list max_pool_both(bench *b) { return pooled(b, nb_max_pool2d, true); }
static nb_list avg_pool(bench *b) { return pooled(b, nb_avg_pool2d, false); }
static nb_list avg_pool_both(bench *b) { return pooled(b, nb_avg_pool2d, true); }

/* As many channels out as in, size kept; backward: for the image and for the weight. */
static nb_list convolved(bench *b, int64_t side, bool both) {
    int64_t    c = b->image[1];
    nb_tensor *x = image(b), *w = real(b, nb_shape(c, c, side, side));
    nb_tensor *y = nb_conv2d(x, w, NULL, &(nb_conv2d_options){.padding = {side / 2, side / 2}});
    b->flops = 2.0 * (double)(c * side * side) * (double)nb_count(y) * (both ? 3 : 1);
    return both ? both_ways(b, y, nb_list_of(b->nb, x, w)) : result(b, y);
}

static nb_list conv3(bench *b) { return convolved(b, 3, false); }
static nb_list conv3_both(bench *b) { return convolved(b, 3, true); }
static nb_list conv1(bench *b) { return convolved(b, 1, false); }
static nb_list conv1_both(bench *b) { return convolved(b, 1, true); }

static nb_list product(bench *b, bool transpose_a, bool transpose_c) {
    nb_tensor *a = real(b, nb_shape(b->n, b->n)), *c = real(b, nb_shape(b->n, b->n));
    b->flops = 2.0 * (double)b->n * (double)b->n * (double)b->n;
    return result(b, nb_matmul(transpose_a ? nb_transpose(a, 0, 1) : a, transpose_c ? nb_transpose(c, 0, 1) : c));
}

static nb_list matmul_nn(bench *b) { return product(b, false, false); }
static nb_list matmul_nt(bench *b) { return product(b, false, true); }
static nb_list matmul_tn(bench *b) { return product(b, true, false); }
static nb_list matmul_tt(bench *b) { return product(b, true, true); }

/* ------------------------------------------------------------------------------------------------------------ optimisers -- */

static nb_tensor *parameter(bench *b) { return nb_param(b->nb, "w", nb_normal(b->nb, NB_F32, nb_shape(b->n), 0, 1)); }

static nb_list adam(bench *b) {
    nb_tensor    *w = parameter(b), *g = real(b, nb_shape(b->n));
    nb_optimizer *o = nb_adam(nb_list_of(b->nb, w), 1e-3, NULL);
    b->bytes = 7 * 4.0 * (double)b->n; /* reads w, g, m, v; writes w, m, v */
    return nb_update_with(o, nb_list_of(b->nb, g));
}

static nb_list sgd(bench *b) {
    nb_tensor    *w = parameter(b), *g = real(b, nb_shape(b->n));
    nb_optimizer *o = nb_sgd(nb_list_of(b->nb, w), 0.01, NULL);
    b->bytes = 3 * 4.0 * (double)b->n;
    return nb_update_with(o, nb_list_of(b->nb, g));
}

/* clang-format off */
const bench_case bench_cases[] = {
    {"add", add, false}, {"mul_row", mul_row, false}, {"mul_column", mul_column, false}, {"exp", exp_of, false},
    {"tanh", tanh_of, false}, {"sigmoid", sigmoid, false}, {"erf", erf_of, false}, {"gelu", gelu, false}, {"where", where, false},
    {"cast", cast, false}, {"clamp", clamp, false}, {"chain", chain, false},
    {"sum_last", sum_last, false}, {"sum_first", sum_first, false}, {"sum_all", sum_all, false},
    {"mean_last", mean_last, false}, {"mean_first", mean_first, false}, {"mean_all", mean_all, false},
    {"max_last", max_last, false}, {"max_first", max_first, false}, {"max_all", max_all, false},
    {"var_last", var_last, false}, {"var_first", var_first, false}, {"var_all", var_all, false},
    {"argmax_last", argmax_last, false}, {"argmax_first", argmax_first, false}, {"argmax_all", argmax_all, false},
    {"softmax", softmax, false}, {"softmax_both", softmax_both, false},
    {"log_softmax", log_softmax, false}, {"log_softmax_both", log_softmax_both, false},
    {"cross_entropy", cross_entropy, false}, {"cross_entropy_both", cross_entropy_both, false},
    {"layer_norm", layer_norm, false}, {"layer_norm_both", layer_norm_both, false},
    {"batch_norm", batch_norm, false}, {"batch_norm_both", batch_norm_both, false},
    {"transpose", transpose, false}, {"concat", concat, false}, {"gather_rows", gather_rows, false},
    {"scatter_add_rows", scatter_add_rows, false}, {"one_hot", one_hot, false}, {"cumsum", cumsum, false},
    {"dropout", dropout, false}, {"normal", normal, false},
    {"max_pool", max_pool, false}, {"max_pool_both", max_pool_both, false},
    {"avg_pool", avg_pool, false}, {"avg_pool_both", avg_pool_both, false},
    {"adam", adam, false}, {"sgd", sgd, false},
    {"conv3", conv3, false}, {"conv3_both", conv3_both, false}, {"conv1", conv1, false}, {"conv1_both", conv1_both, false},
    {"matmul_nn", matmul_nn, true}, {"matmul_nt", matmul_nt, true},
    {"matmul_tn", matmul_tn, true}, {"matmul_tt", matmul_tt, true},
};
/* clang-format on */
const int bench_case_count = sizeof bench_cases / sizeof *bench_cases;
