/* test_simplify.c: the compiler's rules: each does its work, keeps results, and stays away where it must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "context.h"
#include "ops.h"
#include "program.h"

/* Values between -1 and 1. */
static nb_tensor *fill(nb_tensor *x) {
    static int seed;
    int64_t    n = nb_count(x);
    float     *v = nb_alloc(nb, (size_t)n * sizeof *v + 1);
    for (int64_t i = 0; i < n; i++) v[i] = sinf((float)(seed++) * 1.7f);
    assert_true(nb_set(x, v, nb_bytes(x)));
    nb_free(nb, v);
    return x;
}

static nb_tensor *input(nb_dims shape) { return fill(nb_input(nb, "x", NB_F32, shape)); }
static nb_tensor *param(nb_dims shape) { return fill(nb_param(nb, "w", nb_zeros(nb, NB_F32, shape))); }

static nb_program *compile(nb_list roots, const char *passes) {
    nb_program *p = nb_compile_with(nb, roots, &(nb_compile_options){.passes = passes});
    if (nb_error(nb)) fail_msg("%s", nb_error(nb));
    return p;
}

/* How many operators of this name a program computes, views and copies included. */
static int count(const nb_program *p, const char *name) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++)
        n += !p->node[i].is_dead && p->node[i].source == NB__COMPUTED && !strcmp(p->node[i].op->name, name);
    return n;
}

static int count_all(const nb_program *p) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++) n += !p->node[i].is_dead && p->node[i].source == NB__COMPUTED;
    return n;
}

/* How many elementwise operators of this shape a program computes. */
static int count_rows(const nb_program *p, nb_dims shape) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++)
        n += !p->node[i].is_dead && p->node[i].source == NB__COMPUTED && nb__row_of(p->node[i].op) >= 0 &&
             nb__dims_equal(p->node[i].shape, shape);
    return n;
}

/* Compiles with and without the rules, runs both, and compares: bits, or with a tolerance. */
static nb_program *compare(nb_list roots, double tolerance) {
    nb_program *p = compile(roots, "all"), *q = compile(roots, "none");
    assert_true(nb_run(p) && nb_run(q));
    for (int k = 0; k < roots.n; k++) {
        nb_tensor   *a = nb_output(p, k), *b = nb_output(q, k);
        const float *x = nb_data(a), *y = nb_data(b);
        double       scale = 1;
        for (int64_t i = 0; i < nb_count(b); i++) scale = fmax(scale, fabs((double)y[i]));
        if (tolerance == 0) assert_memory_equal(x, y, nb_bytes(b));
        for (int64_t i = 0; i < nb_count(b) && tolerance > 0; i++) {
            if (fabs((double)x[i] - (double)y[i]) > tolerance * scale)
                fail_msg("result %d, element %d: %.9g, without rules %.9g", k, (int)i, (double)x[i], (double)y[i]);
        }
    }
    return p;
}

static nb_program *same_bits(nb_tensor *y) { return compare(nb_list_of(nb, y), 0); }
static nb_tensor  *number(double v) { return nb_number(nb, v); }
static nb_tensor  *zeros(nb_dims shape) { return nb_zeros(nb, NB_F32, shape); }

/* What is left of a result that is only x: the copy that hands it out. */
static void assert_is_operand(nb_tensor *y) {
    nb_program *p = same_bits(y);
    assert_int_equal(count_all(p), 1);
    assert_int_equal(count(p, "copy"), 1);
}

/* -------------------------------------------------------------------------------------------------------------------- algebra */

static void test_neutral(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(3, 5));
    assert_is_operand(nb_mul(x, number(1)));
    assert_is_operand(nb_mul(nb_ones(nb, NB_F32, nb_shape(3, 5)), x));
    assert_is_operand(nb_div(x, number(1)));
    assert_is_operand(nb_sub(x, number(0)));
    assert_is_operand(nb_add(x, number(-0.0)));
    assert_is_operand(nb_pow(x, number(1)));
    assert_is_operand(nb_neg(nb_neg(x)));
    assert_is_operand(nb_cast(x, NB_F32));
    assert_is_operand(nb_stop_gradient(x));
    /* A neutral element that makes the result larger stays. */
    assert_int_equal(count(same_bits(nb_mul(input(nb_shape(3, 1)), nb_ones(nb, NB_F32, nb_shape(3, 5)))), "mul"), 1);
}

static void test_signs(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(7)), *y = input(nb_shape(7));
    nb_program *p = same_bits(nb_add(x, nb_neg(y)));
    assert_int_equal(count(p, "sub"), 1);
    assert_int_equal(count_all(p), 1);
    assert_int_equal(count_all(same_bits(nb_add(nb_neg(x), y))), 1);
    assert_int_equal(count_all(same_bits(nb_sub(x, nb_neg(y)))), 1);
    assert_int_equal(count_all(same_bits(nb_mul(nb_neg(x), nb_neg(y)))), 1);
    assert_int_equal(count_all(same_bits(nb_mul(nb_neg(x), number(3)))), 1);
    assert_int_equal(count_all(same_bits(nb_div(number(3), nb_neg(y)))), 1);
    assert_int_equal(count_all(same_bits(nb_mul(nb_neg(x), y))), 2);
}

static void test_powers(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(9));
    nb_program *p = same_bits(nb_div(x, number(-0.25)));
    assert_int_equal(count(p, "mul"), 1);
    assert_int_equal(count(p, "div"), 0);
    assert_int_equal(count(same_bits(nb_div(x, number(3))), "div"), 1);
    assert_int_equal(count(compare(nb_list_of(nb, nb_pow(x, number(2))), 1e-6), "square"), 1);
    assert_int_equal(count(compile(nb_list_of(nb, nb_pow(x, number(0.5))), "all"), "pow"),
                     1); /* sqrt(-0) is -0, its power is 0 */
}

/* Zeros and NaN that a careless rule would lose. */
static void test_special_values(void **state) {
    (void)state;
    float      v[4] = {-0.0f, NAN, INFINITY, -1};
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(4));
    assert_true(nb_set(x, v, sizeof v));
    assert_int_equal(count(same_bits(nb_add(x, number(0))), "add"), 1); /* -0 + 0 is 0 */
    nb_program *p = compile(nb_list_of(nb, nb_mul(x, number(0)), nb_sub(x, x), nb_div(x, x)), "all");
    assert_true(nb_run(p));
    for (int k = 0; k < 3; k++) {
        const float *y = nb_data(nb_output(p, k));
        assert_true(isnan(y[1]) && isnan(y[2]));
    }
}

static void test_constants(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(2, 3)), *c = nb_exp(nb_add(nb_mul(number(2), number(0.25)), number(1)));
    nb_program *p = compare(nb_list_of(nb, nb_mul(x, c)), 1e-6);
    assert_int_equal(count_all(p), 1);
    p = same_bits(nb_mul(x, nb_sum(nb_full(nb, NB_F32, nb_shape(4, 5), 0.5), nb_axes(), false)));
    assert_int_equal(count_all(p), 1);
    /* A triangle: the comparison of two ranges is known. */
    p = same_bits(nb_tril(input(nb_shape(5, 5)), 0));
    assert_int_equal(count_all(p), 1);
    assert_int_equal(count(p, "where"), 1);
    p = compile(nb_list_of(nb, nb_tril(input(nb_shape(600, 600)), 0)), "all"); /* too large to keep */
    assert_int_equal(count(p, "less_equal"), 1);
    assert_int_equal(count(same_bits(nb_mul(x, nb_expand(number(1), nb_shape(2, 3)))), "mul"), 0);
}

static void test_zero_products(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(4, 3)), *w = input(nb_shape(5, 2));
    nb_program *p =
        same_bits(nb_add(x, nb_slice(nb_matmul(zeros(nb_shape(4, 5)), nb_matmul(w, input(nb_shape(2, 3)))), 0, 0, 4, 1)));
    assert_int_equal(count(p, "matmul"), 0);
    assert_int_equal(count(p, "add"), 0);
}

/* ---------------------------------------------------------------------------------------------------------------------- views */

static void test_views(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(4, 6));
    assert_is_operand(nb_transpose(nb_transpose(x, 0, 1), 0, 1));
    assert_is_operand(nb_reshape(nb_reshape(x, nb_shape(24)), nb_shape(4, 6)));
    assert_is_operand(nb_slice(x, 1, 0, 6, 1));
    assert_is_operand(nb_flip(nb_flip(x, nb_axes(1)), nb_axes(1)));
    nb_program *p = same_bits(nb_neg(nb_slice(nb_slice(x, 0, 1, 4, 1), 0, 2, 0, -1)));
    assert_int_equal(count(p, "slice"), 1);
    p = same_bits(nb_neg(nb_permute(nb_permute(input(nb_shape(2, 3, 4)), nb_axes(2, 0, 1)), nb_axes(2, 0, 1))));
    assert_int_equal(count(p, "permute"), 1);
}

static void test_concats(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(6, 4)), *a = nb_exp(x), *b = nb_sin(x), *c = nb_tanh(x);
    nb_list    part = nb_split(x, 0, 2);
    assert_is_operand(nb_concat(part, 0));
    nb_program *p = same_bits(nb_neg(nb_concat(nb_list_from(nb, 2, part.at + 1), 0)));
    assert_int_equal(count(p, "concat"), 0);
    p = same_bits(nb_concat(nb_list_of(nb, part.at[1], part.at[0]), 0)); /* not in order */
    assert_int_equal(count(p, "concat"), 1);
    nb_tensor *abc = nb_concat(nb_list_of(nb, a, b, c), 1);
    p = compare(nb_list_of(nb, abc, nb_neg(nb_concat(nb_list_of(nb, b, c), 1))), 1e-6);
    assert_int_equal(count(p, "concat"), 1);
    p = compare(nb_list_of(nb, abc, nb_neg(nb_slice(abc, 1, 5, 7, 1))), 1e-6); /* within b */
    assert_int_equal(count(p, "concat"), 1);
    p = compare(nb_list_of(nb, nb_neg(nb_slice(abc, 1, 5, 7, 1))), 1e-6);
    assert_int_equal(count(p, "concat"), 0);
    assert_int_equal(count(p, "exp"), 0);
    p = compare(nb_list_of(nb, nb_neg(nb_slice(abc, 1, 3, 6, 1))), 1e-6); /* of two */
    assert_int_equal(count(p, "concat"), 1);
}

/* ------------------------------------------------------------------------------------------------------------- sums of parts */

static nb_tensor *gradient(nb_tensor *loss, nb_tensor *x) { return nb_grads(loss, NULL, nb_list_of(nb, x)).at[0]; }
static nb_tensor *total(nb_tensor *x) { return nb_sum(x, nb_axes(), false); }

static void test_parts(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(3, 8, 5)), *loss = number(0);
    for (int t = 0; t < 8; t++) loss = nb_add(loss, total(nb_square(nb_squeeze(nb_slice(x, 1, t, t + 1, 1), nb_axes(1)))));
    nb_program *p = same_bits(gradient(loss, x));
    assert_int_equal(count(p, "slice_grad"), 0);
    assert_int_equal(count(p, "concat"), 1);
    assert_int_equal(count(p, "add"), 0);
}

/* Gaps, a user of the whole, and two levels: time, then a part of the features. */
static void test_nested_parts(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(8, 6)), *loss = total(nb_exp(x));
    for (int t = 1; t < 8; t += 2) {
        nb_tensor *row = nb_slice(x, 0, t, t + 1, 1);
        loss = nb_add(loss, nb_add(total(nb_square(nb_slice(row, 1, 0, 3, 1))),
                                   total(nb_tanh(nb_slice(nb_slice(x, 0, t, t + 1, 1), 1, 4, 6, 1)))));
    }
    nb_program *p = compare(nb_list_of(nb, gradient(loss, x)), 1e-6);
    assert_int_equal(count(p, "slice_grad"), 0);
    assert_int_equal(count(p, "concat"), 5);
    assert_int_equal(count(p, "add"), 1);
}

static void test_overlapping_parts(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(9)), *y = nb_mul(nb_slice(x, 0, 0, 6, 1), nb_slice(x, 0, 3, 9, 1));
    nb_program *p = same_bits(gradient(total(y), x));
    assert_int_equal(count(p, "slice_grad"), 2);
    assert_int_equal(count(p, "concat"), 0);
    /* A part that is a result itself stays whole. */
    nb__slice_grad_attr low = {{nb_shape(0), nb_shape(1), nb_shape(4)}, nb_shape(9)},
                        high = {{nb_shape(4), nb_shape(1), nb_shape(5)}, nb_shape(9)};
    nb_tensor *a = nb_slice(x, 0, 0, 4, 1), *b = nb_slice(x, 0, 4, 9, 1);
    a = nb_apply(nb, &nb__op_slice_grad, 1, &a, &low);
    b = nb_apply(nb, &nb__op_slice_grad, 1, &b, &high);
    p = compare(nb_list_of(nb, nb_add(a, b), a), 0);
    assert_int_equal(count(p, "slice_grad"), 2);
    p = compare(nb_list_of(nb, nb_add(a, b)), 0);
    assert_int_equal(count(p, "slice_grad"), 0);
}

/* ----------------------------------------------------------------------------------------------------------- sums of products */

/* A recurrent net: h' = tanh(x_t + h W^T + b), from zeros; the states are stacked. Time is axis 0 or 1 of x and of the result. */
static nb_tensor *recurrent(nb_tensor *x, nb_tensor *w, nb_tensor *b, int axis, nb_tensor *first) {
    int64_t    steps = nb_size(x, axis), width = nb_size(x, 2), rows = nb_count(x) / steps / width;
    nb_tensor *h = first ? first : zeros(nb_shape(rows, width));
    nb_list    all = nb_list_new(nb, (int)steps);
    for (int t = 0; t < steps; t++) {
        nb_tensor *now = nb_squeeze(nb_slice(x, axis, t, t + 1, 1), nb_axes(axis));
        all.at[t] = h = nb_tanh(nb_add(now, nb_linear(h, w, b)));
    }
    return nb_stack(all, axis);
}

static nb_program *check_recurrent(nb_dims shape, int axis, bool from_zeros) {
    nb_tensor *x = input(shape), *w = input(nb_shape(shape.size[2], shape.size[2])), *b = input(nb_shape(shape.size[2]));
    nb_tensor *first = from_zeros ? NULL : input(nb_shape(shape.size[1 - axis], shape.size[2]));
    nb_tensor *loss = total(nb_square(recurrent(x, w, b, axis, first)));
    nb_list    g = nb_grads(loss, NULL, nb_list_of(nb, x, w, b));
    return compare(nb_list_of(nb, loss, nb_neg(g.at[0]), nb_neg(g.at[1]), nb_neg(g.at[2])), 3e-6);
}

static void test_products(void **state) {
    (void)state;
    for (int axis = 0; axis < 2; axis++) {
        for (int zero = 0; zero < 2; zero++) {
            int         steps = 7, rows = 4;
            nb_program *p = check_recurrent(axis ? nb_shape(rows, steps, 16) : nb_shape(steps, rows, 16), axis, zero);
            /* Forward without the product of zeros, backward without the first, and all weight gradients at once. */
            assert_int_equal(count(p, "matmul"), (zero ? steps - 1 : steps) + (steps - 1) + 1);
            assert_int_equal(count(p, "sum"), 2);
            assert_int_equal(count(p, "slice_grad"), 0);
        }
    }
    check_recurrent(nb_shape(5, 1, 8), 0, true);
    check_recurrent(nb_shape(1, 5, 8), 1, true);
    check_recurrent(nb_shape(1, 2, 3), 1, false);
}

/* With time first, states and gradients lie as the product needs them: nothing is copied. */
static void test_products_are_views(void **state) {
    (void)state;
    nb_program *p = check_recurrent(nb_shape(6, 3, 8), 0, true);
    assert_int_equal(count(p, "concat"), 2); /* the states, the gradients */
    assert_int_equal(count(p, "copy"), 1);   /* the loss, to be handed out */
}

/* Terms of products that other nodes use, or that are too large to copy, stay. */
static void test_products_that_stay(void **state) {
    (void)state;
    nb_tensor  *a = input(nb_shape(3, 4)), *b = input(nb_shape(4, 5)), *c = input(nb_shape(3, 4)), *d = input(nb_shape(4, 5));
    nb_tensor  *ab = nb_matmul(nb_exp(a), b), *cd = nb_matmul(nb_exp(c), d);
    nb_program *p = compare(nb_list_of(nb, nb_add(ab, cd), ab), 1e-6);
    assert_int_equal(count(p, "matmul"), 2);
    a = input(nb_shape(3, 400)), b = input(nb_shape(400, 5)), c = input(nb_shape(3, 400)), d = input(nb_shape(400, 5));
    p = compare(nb_list_of(nb, nb_add(nb_matmul(a, b), nb_matmul(c, d))), 1e-5);
    assert_int_equal(count(p, "matmul"), 2);
    a = input(nb_shape(30, 2)), b = input(nb_shape(2, 50)), c = input(nb_shape(30, 2)), d = input(nb_shape(2, 50));
    p = compare(nb_list_of(nb, nb_add(nb_add(nb_matmul(a, b), input(nb_shape(30, 50))), nb_matmul(c, d))), 1e-6);
    assert_int_equal(count(p, "matmul"), 1);
    assert_int_equal(count(p, "add"), 1);
}

/* --------------------------------------------------------------------------------------------------------------- folded norms */

/* Scale and shift of channels, as a batch norm at rest applies them. */
static nb_tensor *norm(nb_tensor *x, nb_dims by) {
    nb_tensor *mean = param(by), *variance = nb_square(param(by)), *gamma = param(by), *beta = param(by);
    return nb_add(nb_mul(nb_sub(x, mean), nb_mul(gamma, nb_rsqrt(nb_add(variance, number(0.1))))), beta);
}

static nb_tensor *convolve(nb_tensor *x, nb_tensor *w) { return nb_conv2d(x, w, NULL, &(nb_conv2d_options){.padding = {1, 1}}); }

static void test_folded_norms(void **state) {
    (void)state;
    nb_tensor  *x = input(nb_shape(4, 2, 9, 8)), *w = param(nb_shape(4, 2, 3, 3)), *b = param(nb_shape(4, 1, 1));
    nb_program *p = compare(nb_list_of(nb, nb_relu(norm(nb_add(convolve(x, w), b), nb_shape(1, 4, 1, 1)))), 1e-5);
    assert_int_equal(count(p, "conv2d"), 1);
    assert_int_equal(count_rows(p, nb_shape(4, 4, 9, 8)), 2); /* an addition and relu */
    /* A product: its columns. */
    p = compare(
        nb_list_of(nb, norm(nb_linear(input(nb_shape(100, 6)), param(nb_shape(5, 6)), param(nb_shape(5))), nb_shape(1, 5))),
        1e-5);
    assert_int_equal(count_rows(p, nb_shape(100, 5)), 1);
    /* One number for all channels; a scale alone; weights that others read too. */
    compare(nb_list_of(nb, nb_add(nb_mul(convolve(x, w), number(3)), number(2))), 1e-5);
    compare(nb_list_of(nb, nb_sub(nb_div(convolve(x, w), param(nb_shape(4, 1, 1))), number(2))), 1e-3);
    p = compare(nb_list_of(nb, nb_mul(b, convolve(x, w)), nb_square(w)), 1e-5);
    assert_int_equal(count_rows(p, nb_shape(4, 4, 9, 8)), 0);
}

/* With other readers of the convolution, or weights or scales that change in each run, the norm stays. */
static void test_norms_that_stay(void **state) {
    (void)state;
    nb_dims     by = nb_shape(1, 4, 1, 1);
    nb_tensor  *x = input(nb_shape(3, 2, 9, 8)), *w = param(nb_shape(4, 2, 3, 3)), *y = convolve(x, w);
    nb_program *p = compare(nb_list_of(nb, norm(y, by), y), 1e-5);
    assert_int_equal(count(p, "sub"), 1);
    assert_int_equal(count(p, "conv2d"), 1);
    nb_tensor *z = norm(convolve(x, w), by), *g = gradient(total(nb_square(z)), w);
    p = compare(nb_list_of(nb, z, g), 1e-5);
    assert_int_equal(count(p, "conv2d"), 1);
    nb_tensor *scale = nb_mean(nb_slice(x, 1, 0, 1, 1), nb_axes(), false);
    p = compare(nb_list_of(nb, nb_mul(nb_add(convolve(x, w), number(1)), scale)), 1e-5);
    assert_int_equal(count(p, "mul"), 1);
    assert_int_equal(count(p, "add"), 1);
    p = compare(nb_list_of(nb, norm(convolve(x, input(nb_shape(4, 2, 3, 3))), by)), 1e-5);
    assert_int_equal(count_rows(p, nb_shape(3, 4, 9, 8)), 3);
    p = compile(nb_list_of(nb, norm(convolve(x, w), by), nb_assign(w, nb_square(w))), "all"); /* W is trained here */
    assert_int_equal(count_rows(p, nb_shape(3, 4, 9, 8)), 3);
}

/* ---------------------------------------------------------------------------------------------------------------------- pools */

static nb_tensor *pool(nb_tensor *x) { return nb_max_pool2d(x, &(nb_pool2d_options){.size = {3, 2}, .padding = {1, 1}}); }

static void test_pools_go_first(void **state) {
    (void)state;
    nb_dims     whole = nb_shape(2, 3, 9, 8);
    nb_tensor  *x = input(whole), *v = input(nb_shape(3, 1, 1)), *w = input(nb_shape(1, 3, 1, 1));
    nb_program *p = same_bits(pool(nb_relu(nb_sub(nb_add(v, x), w))));
    assert_int_equal(count_rows(p, whole), 0);
    assert_int_equal(count(p, "relu"), 1);
    assert_int_equal(count_rows(same_bits(pool(nb_add(x, number(2)))), whole), 0);
    /* Not where the order may turn, where a channel has more than one v, or where others read what lies between. */
    assert_int_equal(count_rows(same_bits(pool(nb_sub(v, x))), whole), 1);
    assert_int_equal(count_rows(same_bits(pool(nb_mul(x, v))), whole), 1);
    assert_int_equal(count_rows(same_bits(pool(nb_add(x, input(nb_shape(8))))), whole), 1);
    assert_int_equal(count_rows(same_bits(pool(nb_add(x, input(nb_shape(9, 1))))), whole), 1);
    nb_tensor *y = nb_relu(x), *z = pool(y);
    assert_int_equal(count_rows(compare(nb_list_of(nb, z, y), 0), whole), 1);
    p = compare(nb_list_of(nb, z, gradient(total(nb_square(z)), x)), 1e-6);
    assert_true(count_rows(p, whole) > 0);
}

/* -------------------------------------------------------------------------------------------------------------------- flatten */

static nb_tensor *flatten(nb_tensor *x) { return nb_reshape(x, nb_shape(nb_shape_of(x).size[0], -1)); }

/* Steps that copy something in each run. */
static int count_copies(nb_list roots) {
    nb_program *p = compare(roots, 1e-5);
    int         n = 0;
    for (int s = 0; s < p->n_steps; s++) n += !p->step[s].lasts && p->node[p->step[s].node[0]].op == &nb__op_copy;
    return n;
}

static void test_flattened_images(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(3, 2, 9, 8)), *y = pool(nb_relu(convolve(x, param(nb_shape(4, 2, 3, 3)))));
    nb_tensor *flat = flatten(y), *w = param(nb_shape(5, nb_shape_of(flat).size[1]));
    nb_tensor *v = param(nb_shape(nb_shape_of(flat).size[1], 5));
    assert_int_equal(count_copies(nb_list_of(nb, nb_tanh(nb_linear(flat, w, NULL)))), 0);
    assert_int_equal(count_copies(nb_list_of(nb, nb_tanh(nb_matmul(flat, v)))), 0);
    assert_int_equal(count_copies(nb_list_of(nb, nb_relu(nb_linear(flatten(nb_sub(y, number(1))), w, NULL)))), 0);
    assert_int_equal(count_copies(nb_list_of(nb, nb_relu(nb_matmul(flatten(nb_mul(y, y)), nb_exp(v))))), 0);
    /* With other readers, or weights that change in each run, a copy stays. Images of inputs lie in the order of their
     * channels. */
    assert_int_equal(count_copies(nb_list_of(nb, nb_tanh(nb_linear(flat, w, NULL)), nb_exp(flat))), 1);
    assert_int_equal(count_copies(nb_list_of(nb, nb_relu(nb_matmul(flat, input(nb_shape_of(v)))))), 1);
    nb_program *p = compare(nb_list_of(nb, nb_relu(nb_linear(flatten(x), param(nb_shape(5, 2 * 9 * 8)), NULL))), 1e-5);
    assert_int_equal(count(p, "copy"), 0);
}

/* -------------------------------------------------------------------------------------------------------------------- lookups */

enum { CHOSEN = 60 };

/* An index [6,10] of rows below `rows`. */
static nb_tensor *index_below(int64_t rows) {
    nb_tensor *index = nb_input(nb, "index", NB_I64, nb_shape(6, 10));
    int64_t    v[CHOSEN];
    for (int i = 0; i < CHOSEN; i++) v[i] = i * i % rows;
    assert_true(nb_set(index, v, sizeof v));
    return index;
}

/* How many products have as many rows, columns or inner terms as rows were chosen. */
static int count_large(const nb_program *p) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        const nb__node *m = &p->node[i];
        if (m->is_dead || m->source != NB__COMPUTED || m->op != &nb__op_matmul) continue;
        n += m->shape.size[0] == CHOSEN || m->shape.size[1] == CHOSEN || p->node[m->in[1]].shape.size[0] == CHOSEN;
    }
    return n;
}

/* Rows of a table times W, and both gradients: as they are chosen, or with the index's second axis first. */
static nb_list look_up(int64_t rows, int64_t width, bool turned, bool learns) {
    nb_tensor *table = input(nb_shape(rows, width)), *w = input(nb_shape(width, 24));
    nb_tensor *x = nb_index_select(table, 0, index_below(rows));
    nb_tensor *y = nb_matmul(nb_reshape(turned ? nb_transpose(x, 0, 1) : x, nb_shape(CHOSEN, width)), w);
    if (!learns) return nb_list_of(nb, y);
    nb_tensor *loss = total(nb_mul(nb_square(y), input(nb_shape(CHOSEN, 24))));
    return nb_list_of(nb, y, gradient(loss, table), gradient(loss, w));
}

static void test_lookups(void **state) {
    (void)state;
    for (int turned = 0; turned < 2; turned++) {
        assert_int_equal(count_large(compare(look_up(8, 40, turned, false), 0)), 0);
        assert_int_equal(count_large(compare(look_up(8, 40, turned, true), 1e-5)), 0);
    }
    /* Not where the table is high or narrow, where another axis is chosen from, or where others read what would be added up. */
    assert_int_equal(count_large(compare(look_up(31, 40, true, true), 1e-5)), 3);
    assert_int_equal(count_large(compare(look_up(8, 31, true, true), 1e-5)), 3);
    nb_tensor *table = input(nb_shape(CHOSEN, 8)), *w = input(nb_shape(60, 24)), *g = input(nb_shape(CHOSEN, 24));
    nb_tensor *b = input(nb_shape(24, 40));
    nb_tensor *across = nb_matmul(nb_reshape(nb_index_select(table, 1, index_below(8)), nb_shape(60, CHOSEN)), w);
    assert_int_equal(count_large(same_bits(across)), 1);
    nb_tensor *product = nb_matmul(g, b);
    nb_tensor *places = nb_expand(nb_reshape(index_below(8), nb_shape(CHOSEN, 1)), nb_shape(CHOSEN, 40));
    nb_tensor *sums = nb_scatter_add(zeros(nb_shape(8, 40)), 0, places, product);
    assert_int_equal(count_large(compare(nb_list_of(nb, sums), 1e-5)), 0);
    assert_int_equal(count_large(compare(nb_list_of(nb, sums, product), 1e-5)), 1);
    assert_int_equal(count_large(compare(nb_list_of(nb, nb_scatter_add(input(nb_shape(8, 40)), 0, places, product)), 1e-5)), 1);
    /* Nor where all rows go to one place, of which the index has only one. */
    nb_tensor *one = nb_input(nb, "place", NB_I64, nb_shape(1, 1));
    assert_true(nb_set(one, (int64_t[]){5}, sizeof(int64_t)));
    sums = nb_scatter_add(zeros(nb_shape(8, 40)), 0, nb_expand(one, nb_shape(CHOSEN, 40)), nb_matmul(g, b));
    assert_int_equal(count_large(compare(nb_list_of(nb, sums), 1e-5)), 1);
    /* An index out of range is told as before. */
    nb_tensor *index = nb_input(nb, "index", NB_I64, nb_shape(CHOSEN)), *rows = nb_index_select(input(nb_shape(8, 40)), 0, index);
    nb_program *p = compile(nb_list_of(nb, nb_matmul(rows, input(nb_shape(40, 24)))), "all");
    int64_t     v[CHOSEN] = {[17] = 8};
    assert_int_equal(count_large(p), 0);
    assert_true(nb_set(index, v, sizeof v));
    assert_false(nb_run(p));
    assert_non_null(strstr(nb_error(nb), "index 8 is outside 0..7"));
    nb_error_clear(nb);
}

/* ------------------------------------------------------------------------------------------------------------------ attention */

/* Heads side by side again, [N,T,heads d]: the products write them there, so that no copy is made. */
static void test_heads(void **state) {
    (void)state;
    nb_tensor  *a = nb_exp(input(nb_shape(2, 3, 7, 5))), *b = nb_exp(input(nb_shape(2, 3, 5, 4))), *w = input(nb_shape(6, 12));
    nb_tensor  *y = nb_reshape(nb_transpose(nb_matmul(a, b), 1, 2), nb_shape(2, 7, 12));
    nb_program *p = compare(nb_list_of(nb, nb_neg(nb_linear(y, w, NULL))), 1e-5);
    assert_int_equal(count(p, "copy"), 0);
    y = nb_reshape(nb_transpose(nb_mul(nb_matmul(a, b), number(0.3)), 1, 2), nb_shape(2, 7, 12));
    p = compare(nb_list_of(nb, nb_neg(nb_linear(y, w, NULL))), 1e-5);
    assert_int_equal(count(p, "copy"), 0);
    /* Seen in two orders, and as a result. */
    nb_tensor *c = nb_matmul(a, b), *d = nb_transpose(c, 1, 2), *e = nb_transpose(c, 2, 3);
    compare(nb_list_of(nb, nb_neg(nb_reshape(d, nb_shape(2, 84))), nb_neg(nb_reshape(e, nb_shape(2, 84)))), 1e-5);
    compare(nb_list_of(nb, nb_neg(nb_reshape(d, nb_shape(2, 84))), c), 1e-5);
}

/* ------------------------------------------------------------------------------------------------------------ moments */

static nb_tensor *centre(nb_tensor *x, nb_dims axes) { return nb_sub(x, nb_mean(x, axes, true)); }

/* Compares, and looks how often variances are found, and how many other sums are left. */
static void expect_moments(nb_list roots, int moments, int sums) {
    nb_program *p = compare(roots, 1e-5);
    assert_int_equal(count(p, "moments"), moments);
    assert_int_equal(count(p, "sum"), sums);
}

static void test_moments(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(70, 90)), *image = input(nb_shape(4, 3, 6, 5)), *v = input(nb_shape(3, 1, 1));
    nb_tensor *large = input(nb_shape(4100, 1024)), *long_rows = input(nb_shape(2, 8193));
    for (int k = 0; k < 2; k++) {
        expect_moments(nb_list_of(nb, nb_var(x, nb_axes(0), k, k)), 1, 0);
        expect_moments(nb_list_of(nb, nb_var(large, nb_axes(1), k, k)), 1, 0);
        expect_moments(nb_list_of(nb, nb_var(large, nb_axes(), k, k)), 1, 0);
        expect_moments(nb_list_of(nb, nb_var(long_rows, nb_axes(1), k, k)), 1, 0);
        expect_moments(nb_list_of(nb, nb_var(nb_transpose(x, 0, 1), nb_axes(0), k, k)), 1, 0);
    }
    nb_dims    axes = nb_axes(0, 2, 3);
    nb_tensor *mean = nb_mean(image, axes, true), *var = nb_var(image, axes, true, 0);
    expect_moments(nb_list_of(nb, mean, var), 1, 0);
    expect_moments(nb_list_of(nb, nb_div(nb_sub(image, mean), nb_sqrt(var)), mean), 1, 0);
    /* What is the same for all that is summed only moves the mean. */
    nb_tensor *moved[] = {nb_add(image, v), nb_add(v, image), nb_sub(image, v)};
    for (int k = 0; k < 3; k++) {
        nb_tensor *m = nb_mean(moved[k], axes, true), *s = nb_var(moved[k], axes, true, 0);
        expect_moments(nb_list_of(nb, nb_div(nb_sub(moved[k], m), nb_sqrt(s)), m), 1, 0);
    }
    /* Sums, and sums of squares, of other things. */
    expect_moments(
        nb_list_of(nb, nb_var(image, axes, true, 0), nb_sum(image, nb_axes(1), true), nb_sum(nb_exp(image), axes, true)), 1, 2);
}

static void test_moments_that_stay(void **state) {
    (void)state;
    nb_tensor *x = input(nb_shape(70, 90)), *w = input(nb_shape(70, 1)), *inverse = nb_rsqrt(nb_var(x, nb_axes(1), true, 0));
    /* Rows that stay in the cache. */
    expect_moments(nb_list_of(nb, nb_mul(centre(x, nb_axes(1)), inverse)), 0, 2);
    expect_moments(nb_list_of(nb, nb_mul(x, inverse)), 0, 2);
    expect_moments(nb_list_of(nb, nb_var(x, nb_axes(1), false, 0)), 0, 2);
    expect_moments(nb_list_of(nb, nb_var(x, nb_axes(), false, 0)), 0, 2);
    expect_moments(nb_list_of(nb, nb_var(input(nb_shape(1, 4, 9, 9)), nb_axes(0, 2, 3), false, 0)), 0, 2);
    nb_tensor *large = input(nb_shape(4100, 1024)), *var = nb_var(large, nb_axes(1), true, 0);
    expect_moments(nb_list_of(nb, nb_div(nb_sub(large, nb_mean(large, nb_axes(1), true)), var)), 0, 2);
    /* Elementwise work is computed on the way; what differs along the axis moves each square. */
    expect_moments(nb_list_of(nb, nb_var(nb_exp(x), nb_axes(0), false, 0)), 0, 2);
    expect_moments(nb_list_of(nb, nb_var(nb_add(x, w), nb_axes(0), false, 0)), 0, 2);
    /* Around something else than the mean. */
    nb_tensor *sum = nb_sum(x, nb_axes(0), true), *other = nb_mean(nb_neg(x), nb_axes(0), true);
    nb_tensor *off[] = {nb_sub(x, nb_mul(sum, number(1.0 / 71))), nb_sub(x, other), nb_sub(nb_mean(x, nb_axes(0), true), x)};
    for (int k = 0; k < 3; k++) expect_moments(nb_list_of(nb, nb_sum(nb_square(off[k]), nb_axes(0), false)), 0, 2);
    expect_moments(nb_list_of(nb, nb_sum(nb_square(centre(x, nb_axes(0))), nb_axes(), false)), 0, 2);
    nb_tensor  *wide = nb_cast(x, NB_F64);
    nb_program *p = compile(nb_list_of(nb, nb_var(wide, nb_axes(0), false, 0)), "all");
    assert_int_equal(count(p, "moments"), 0);
}

/* ------------------------------------------------------------------------------------------------------------------- the pass */

/* Each word of NABLA_PASSES alone and all but it give the same results. */
static void test_switches(void **state) {
    (void)state;
    const char *lists[] = {"simplify", "algebra", "simplify,algebra", "algebra,layout,fuse,memory",
                           "simplify,layout,fuse,memory"};
    nb_tensor  *x = input(nb_shape(5, 3, 8)), *w = input(nb_shape(8, 8)), *b = input(nb_shape(8));
    nb_tensor  *loss = total(nb_square(recurrent(x, w, b, 0, NULL)));
    nb_list     g = nb_grads(loss, NULL, nb_list_of(nb, w, b, x));
    nb_program *want = compile(g, "none");
    assert_true(nb_run(want));
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        nb_program *p = compile(g, lists[k]);
        assert_true(nb_run(p));
        assert_int_equal(count(p, "slice_grad") == 0, strstr(lists[k], "algebra") != NULL);
        for (int i = 0; i < 64; i++)
            assert_true(fabs((double)((const float *)nb_data(nb_output(p, 0)))[i] -
                             (double)((const float *)nb_data(nb_output(want, 0)))[i]) < 1e-3);
    }
}

/* A watched gradient stays a node of its own when it is checked. */
static void test_watched(void **state) {
    (void)state;
    nb_tensor         *x = input(nb_shape(4)), *y = nb_watch(nb_mul(x, number(1)));
    nb_compile_options o = {.check_finite = true};
    nb_program        *p = nb_compile_with(nb, nb_list_of(nb, nb_exp(y)), &o);
    assert_true(nb_run(p));
    assert_int_equal(count(p, "mul"), 1);
    assert_int_equal(count(compile(nb_list_of(nb, nb_exp(y)), "all"), "mul"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_neutral, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_signs, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_powers, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_special_values, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_constants, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_zero_products, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_views, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_concats, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_parts, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_nested_parts, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_overlapping_parts, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_products, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_products_are_views, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_products_that_stay, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_folded_norms, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_norms_that_stay, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_pools_go_first, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_flattened_images, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_lookups, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_heads, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_moments, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_moments_that_stay, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_switches, open_context, close_context),
        cmocka_unit_test_setup_teardown(test_watched, open_context, close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
