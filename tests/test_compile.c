/* test_compile.c: what programs promise: assigns, outputs, updates, passes, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "nabla.h"

static nb_tensor *param(nb_context *nb, const char *name, float value) {
    return nb_param(nb, name, nb_full(nb, NB_F32, nb_shape(3), value));
}

static float first(nb_tensor *t) {
    const float *x = nb_data(t);
    return x ? x[0] : NAN;
}

/* Every read sees the value from before the run: two tensors change places. */
static void test_swap(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *a = param(nb, "a", 1), *b = param(nb, "b", 2);
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_assign(a, b), nb_assign(b, a)));
    assert_true(nb_run(p));
    assert_true(first(a) == 2 && first(b) == 1);
    assert_true(nb_run(p));
    assert_true(first(a) == 1 && first(b) == 2);
    assert_true(nb_output(p, 0) == a);
    nb_close(nb);
}

/* The same with arithmetic that could be done in place. */
static void test_old_values(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *a = param(nb, "a", 1), *b = param(nb, "b", 2);
    nb_tensor  *new_a = nb_add(a, b), *new_b = nb_sub(a, nb_mul(b, nb_number(nb, 3)));
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_sum(a, nb_axes(), false), nb_assign(a, new_a), nb_assign(b, new_b)));
    assert_true(nb_run(p));
    assert_true(nb_item(nb_output(p, 0)) == 3);
    assert_true(first(a) == 3 && first(b) == -5);
    nb_close(nb);
}

static void test_failed_run_changes_nothing(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *a = param(nb, "a", 1), *label = nb_input(nb, "label", NB_I64, nb_shape(1));
    nb_tensor  *picked = nb_gather(nb_add(a, a), 0, label);
    nb_program *p = nb_compile(nb, nb_list_of(nb, picked, nb_assign(a, nb_mul(a, nb_number(nb, 5)))));
    int64_t     bad = 7, good = 2;
    assert_true(nb_set(label, &bad, sizeof bad));
    assert_false(nb_run(p));
    assert_non_null(strstr(nb_error(nb), "7"));
    nb_error_clear(nb);
    assert_true(first(a) == 1);
    assert_true(nb_set(label, &good, sizeof good));
    assert_true(nb_run(p));
    assert_true(first(nb_output(p, 0)) == 2 && first(a) == 5);
    nb_close(nb);
}

static void test_assigned_twice(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *a = param(nb, "a", 1);
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_assign(a, nb_neg(a)), nb_assign(a, nb_exp(a))));
    assert_false(nb_run(p));
    assert_non_null(strstr(nb_error(nb), "a is assigned twice in one program"));
    nb_close(nb);
}

static void test_update_comes_along(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *count = param(nb, "count", 0), *x = param(nb, "x", 4);
    nb_tensor  *y = nb_with_update(nb_sqrt(x), nb_assign(count, nb_add(count, nb_number(nb, 1))));
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_neg(y)));
    for (int i = 0; i < 3; i++) assert_true(nb_run(p));
    assert_true(first(count) == 3 && first(nb_output(p, 0)) == -2);
    nb_close(nb);
}

/* Leaves, views, constants and the same tensor twice as results. */
static void test_outputs(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    float       v[6] = {1, 2, 3, 4, 5, 6}, want[6] = {1, 4, 2, 5, 3, 6};
    nb_tensor  *x = nb_param(nb, "x", nb_from(nb, NB_F32, nb_shape(2, 3), v)), *t = nb_transpose(x, 0, 1), *s = nb_square(x);
    nb_program *p = nb_compile(nb, nb_list_of(nb, x, t, s, s, nb_ones(nb, NB_F32, nb_shape(2)), nb_flip(x, nb_axes(1))));
    nb_next_step(nb); /* the program owns all it needs */
    assert_true(nb_run(p));
    assert_memory_equal(nb_data(nb_output(p, 0)), v, sizeof v);
    assert_memory_equal(nb_data(nb_output(p, 1)), want, sizeof want);
    for (int i = 0; i < 6; i++) {
        assert_true(((const float *)nb_data(nb_output(p, 2)))[i] == v[i] * v[i]);
        assert_true(((const float *)nb_data(nb_output(p, 3)))[i] == v[i] * v[i]);
    }
    assert_true(((const float *)nb_data(nb_output(p, 4)))[1] == 1);
    assert_true(first(nb_output(p, 5)) == 3);
    assert_true(nb_has_failed(nb_output(p, 6)));
    nb_close(nb);
}

/* A value that is kept at strides of its own and read again in its region: its row must last until it is copied out. */
static void test_kept_and_read(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    float       v[12];
    for (int i = 0; i < 12; i++) v[i] = 0.1f * (float)i;
    nb_tensor  *x = nb_param(nb, "x", nb_from(nb, NB_F32, nb_shape(6, 2), v)), *y = nb_tanh(x);
    nb_tensor  *chain = nb_exp(nb_sub(nb_number(nb, 1), nb_square(y)));
    nb_program *p = nb_compile(
        nb, nb_list_of(nb, nb_concat(nb_list_of(nb, y, y), 1), nb_exp(nb_neg(chain)), nb_sum(chain, nb_axes(1), false)));
    assert_true(nb_run(p));
    const float *joined = nb_data(nb_output(p, 0));
    for (int i = 0; i < 24; i++) {
        double want = tanh(0.1 * (i / 4 * 2 + i % 2));
        assert_true(fabs((double)joined[i] - want) < 1e-6);
    }
    nb_close(nb);
}

/* A product of which only the transpose is used, as in the weight gradient of a linear layer. */
static void test_transposed_product(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    float       a[6] = {1, 2, 3, 4, 5, 6}, b[12] = {1, 0, 2, 1, 3, 1, 0, 2, 1, 1, 1, 1};
    nb_tensor  *x = nb_from(nb, NB_F32, nb_shape(2, 3), a), *y = nb_from(nb, NB_F32, nb_shape(3, 4), b);
    nb_tensor  *c = nb_matmul(x, y), *ct = nb_transpose(nb_matmul(x, y), 0, 1);
    assert_true(nb_eval(nb, nb_list_of(nb, c)) && nb_eval(nb, nb_list_of(nb, ct)));
    const float *p = nb_data(c), *q = nb_data(ct);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++) assert_true(p[4 * i + j] == q[2 * j + i]);
    nb_close(nb);
}

/* A small net, forward and backward, with an update in place: the passes change memory and calls, not results. */
static nb_program *small_net(nb_context *nb, const char *passes, nb_tensor **w) {
    float values[40];
    for (int i = 0; i < 40; i++) values[i] = (float)sin(i + 1.0);
    nb_tensor *x = nb_from(nb, NB_F32, nb_shape(8, 5), values);
    *w = nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(4, 5), values));
    nb_tensor *h = nb_tanh(nb_linear(x, *w, NULL)), *loss = nb_mean(nb_square(nb_sub(h, nb_number(nb, 0.3))), nb_axes(), false);
    nb_tensor *g = nb_grads(loss, NULL, nb_list_of(nb, *w)).at[0];
    nb_tensor *step = nb_assign(*w, nb_sub(*w, nb_mul(nb_number(nb, 0.5), g)));
    nb_compile_options o = {.passes = passes};
    return nb_compile_with(nb, nb_list_of(nb, loss, step), &o);
}

static void test_passes(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w_all, *w_none;
    nb_program *all = small_net(nb, "all", &w_all), *none = small_net(nb, "none", &w_none);
    for (int i = 0; i < 5; i++) assert_true(nb_run(all) && nb_run(none));
    for (int i = 0; i < 20; i++) {
        double a = ((const float *)nb_data(w_all))[i], b = ((const float *)nb_data(w_none))[i];
        assert_true(fabs(a - b) < 1e-5);
    }
    nb_program_info i = nb_program_describe(all), j = nb_program_describe(none);
    assert_true(i.calls <= j.calls && i.workspace_bytes <= j.workspace_bytes && i.kept_bytes > 0);
    nb_compile_options wrong = {.passes = "fuse,fussy"};
    assert_false(nb_run(nb_compile_with(nb, nb_list_of(nb, nb_neg(w_all)), &wrong)));
    assert_non_null(strstr(nb_error(nb), "\"fussy\" is none of simplify"));
    nb_error_clear(nb);
    wrong.passes = "none,fuse";
    assert_false(nb_run(nb_compile_with(nb, nb_list_of(nb, nb_neg(w_all)), &wrong)));
    assert_non_null(strstr(nb_error(nb), "passes: \"none\" stands alone, without other words"));
    nb_close(nb);
}

static void test_not_finite_is_named(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w = param(nb, "w", -1), *x = nb_input(nb, "x", NB_F32, nb_shape(3));
    float       one[3] = {1, 1, 1};
    nb_scope_push(nb, "fc1");
    nb_tensor *y = nb_log(nb_mul(w, x));
    nb_scope_pop(nb);
    nb_tensor *loss = nb_sum(nb_square(nb_exp(y)), nb_axes(), false);
    nb_compile_options o = {.check_finite = true};
    nb_program *p = nb_compile_with(nb, nb_list_of(nb, loss, nb_assign(w, nb_sub(w, y))), &o);
    assert_true(nb_set(x, one, sizeof one));
    assert_false(nb_run(p));
    assert_int_equal(nb_error_status(nb), NB_NOT_FINITE);
    assert_string_equal(nb_error(nb), "layer fc1: NaN or infinity in the first result: it arose first in log, result [3]");
    nb_error_clear(nb);
    assert_true(first(w) == -1);
    float minus[3] = {-1, -1, -1};
    assert_true(nb_set(x, minus, sizeof minus) && nb_run(p));
    nb_close(nb);
}

static void test_random(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_param(nb, "x", nb_ones(nb, NB_F32, nb_shape(1000)));
    nb_tensor  *y = nb_dropout(x, nb_number(nb, 0.5)), *g = nb_grads(nb_sum(y, nb_axes(), false), NULL, nb_list_of(nb, x)).at[0];
    nb_program *p = nb_compile(nb, nb_list_of(nb, y, g));
    float       before[1000];
    assert_true(nb_run(p));
    assert_memory_equal(nb_data(nb_output(p, 0)), nb_data(nb_output(p, 1)), 4000); /* one mask for both */
    memcpy(before, nb_data(nb_output(p, 0)), 4000);
    assert_true(nb_run(p));
    assert_memory_not_equal(nb_data(nb_output(p, 0)), before, 4000);
    nb_set_random(nb, (nb_random_state){.seed = 0, .step = 0});
    assert_true(nb_run(p));
    assert_memory_equal(nb_data(nb_output(p, 0)), before, 4000);
    /* Define-by-run: the same node has one value within its step, also when its graph is evaluated in parts. */
    assert_true(nb_eval(nb, nb_list_of(nb, y)) && nb_eval(nb, nb_list_of(nb, g)));
    assert_memory_equal(nb_data(y), nb_data(g), 4000);
    nb_close(nb);
}

static void test_out_of_date(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w = param(nb, "w", 1), *y = nb_neg(w);
    float       two[3] = {2, 2, 2};
    assert_true(nb_set(w, two, sizeof two));
    assert_true(isnan(first(y)));
    assert_non_null(strstr(nb_error(nb), "the result of neg was made from w before that changed"));
    nb_error_clear(nb);
    assert_true(first(nb_neg(w)) == -2);
    nb_close(nb);
}

static void expect_error(nb_context *nb, const char *part) {
    assert_non_null(nb_error(nb));
    if (!strstr(nb_error(nb), part)) fail_msg("\"%s\" is not in \"%s\"", part, nb_error(nb));
    nb_error_clear(nb);
}

/* A program's result is nothing before its first run, and no constant of another program. */
static void test_output_elsewhere(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w = param(nb, "w", 3);
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_square(w)));
    assert_true(isnan(first(nb_neg(nb_output(p, 0)))));
    expect_error(nb, "has not been run");
    assert_true(nb_run(p) && first(nb_neg(nb_output(p, 0))) == -9);
    assert_false(nb_run(nb_compile(nb, nb_list_of(nb, nb_neg(nb_output(p, 0))))));
    expect_error(nb, "a result of another program");
    nb_close(nb);
}

/* One node has one value in its step, whatever runs or is seeded in between; equal seeds give equal numbers. */
static void test_one_draw(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_uniform(nb, NB_F32, nb_shape(3), 0, 1)));
    nb_tensor  *r = nb_uniform(nb, NB_F32, nb_shape(3), 0, 1), *a = nb_add(r, nb_number(nb, 0)), *b = nb_mul(r, nb_number(nb, 1));
    float       before = first(a);
    assert_true(nb_run(p));
    nb_seed(nb, 7);
    assert_true(first(b) == before);
    nb_tensor *c = nb_uniform(nb, NB_F32, nb_shape(3), 0, 1);
    nb_seed(nb, 7);
    assert_true(first(nb_uniform(nb, NB_F32, nb_shape(3), 0, 1)) == first(c));
    nb_close(nb);
}

static void test_borrow(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    static _Alignas(64) float data[3] = {1, 2, 4};
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(3));
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_sum(x, nb_axes(), false)));
    assert_true(nb_set_in_place(x, data, sizeof data) && first(nb_neg(x)) == -1); /* an evaluation does not end it */
    assert_true(nb_run(p) && nb_item(nb_output(p, 0)) == 7);
    assert_true(first(x) == 0); /* the run did */
    nb_close(nb);
}

static void test_misused_operators(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w = param(nb, "w", 3), *a = nb_assign(w, nb_square(w));
    assert_true(nb_has_failed(nb_add(a, w)));
    expect_error(nb, "operand 0 is an assign (to w), which has no value");
    nb_op view = {.name = "view", .kind = NB_VIEW, .arity = 1, .infer = nb_op_of(nb_neg(w))->infer};
    assert_true(nb_has_failed(nb_apply(nb, &view, 1, &w, NULL)));
    expect_error(nb, "nb_op.view is missing");
    nb_op blank = {.name = "blank", .kind = NB_OPAQUE, .arity = 1};
    assert_true(nb_has_failed(nb_apply(nb, &blank, 1, &w, NULL)));
    expect_error(nb, "nb_op.infer is missing");
    nb_close(nb);
}

/* Who holds on to a released tensor gets an error, however late. */
static void test_released_long_ago(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    nb_tensor    *x = param(nb, "x", 1);
    nb_net       *net = nb_net_parse(nb, "linear 3", nb_shape(4));
    nb_optimizer *o = nb_adam(nb_net_parameters(net), 1e-3, NULL);
    nb_net_free(net);
    for (int i = 0; i < 4; i++) nb_next_step(nb);
    nb_update(o, nb_sum(x, nb_axes(), false));
    expect_error(nb, "0.weight, was given back with nb_release");
    nb_close(nb);
}

/* A value that a fused step writes with gaps (into its stretch of a concat) and reads itself: its row in scratch memory lasts
 * until it is written. */
static void test_written_after_its_readers(void **state) {
    (void)state;
    static const char *const kernels[] = {"reference", NULL};
    float                    sum[2], y[2][20], data[35];
    for (int i = 0; i < 35; i++) data[i] = (float)(i % 7) / 7 - 0.4f;
    for (int k = 0; k < 2; k++) {
        nb_context *nb = nb_open(&(nb_options){.kernels = kernels[k]});
        nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 5)), *side = nb_input(nb, "side", NB_F32, nb_shape(4, 3));
        nb_tensor  *t = nb_tanh(x), *joined = nb_concat(nb_list_of(nb, side, t), 1);
        nb_tensor  *w = nb_input(nb, "w", NB_F32, nb_shape(4, 8));
        nb_tensor  *slope = nb_mul(x, nb_sub(nb_number(nb, 1), nb_square(t)));
        nb_program *p = nb_compile(
            nb, nb_list_of(nb, nb_sum(nb_mul(nb_slice(joined, 1, 2, 8, 1), nb_slice(w, 1, 2, 8, 1)), nb_axes(), false), slope));
        nb_set(x, data, 20 * sizeof *data);
        nb_set(side, data, 12 * sizeof *data);
        nb_set(w, data + 3, 32 * sizeof *data);
        assert_true(nb_run(p));
        sum[k] = (float)nb_item(nb_output(p, 0));
        nb_read(nb_output(p, 1), y[k], sizeof y[k]);
        nb_close(nb);
    }
    assert_true(fabsf(sum[0] - sum[1]) < 1e-5f);
    for (int i = 0; i < 20; i++) assert_true(fabsf(y[0][i] - y[1][i]) < 1e-6f);
}

/* A row's number that two regions compute, each for itself, on rows that are no last axis. */
static void test_rows_again(void **state) {
    (void)state;
    static const char *const passes[] = {"all", "layout,fuse", "none"};
    float                    x[16 * 5 * 2], result[3][16 * 5 * 2];
    for (int i = 0; i < 160; i++) x[i] = sinf((float)i);
    for (int i = 0; i < 3; i++) {
        nb_context *nb = nb_open(NULL);
        nb_tensor  *p = nb_param(nb, "x", nb_from(nb, NB_F32, nb_shape(16, 5, 2), x)), *a = nb_permute(p, nb_axes(2, 1, 0));
        nb_tensor  *half = nb_mul(nb_sum(a, nb_axes(0), true), nb_number(nb, 0.5)), *b = nb_sub(a, half);
        nb_tensor  *y = nb_mul(nb_cumsum(nb_tanh(b), 0), b);
        nb_program *program = nb_compile_with(nb, nb_list_of(nb, y), &(nb_compile_options){.passes = passes[i]});
        assert_true(nb_run(program) && nb_read(nb_output(program, 0), result[i], sizeof result[i]));
        for (int k = 0; k < 160; k++) assert_true(fabsf(result[i][k] - result[0][k]) < 1e-5f);
        nb_close(nb);
    }
}

/* Views of views of views: no pass may need the call stack for them. */
/* A ReLU's derivative reads its result, unless the region reads what that is made of: then it is made once more. */
static void test_made_of_what_is_read(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_param(nb, "x", nb_normal(nb, NB_F32, nb_shape(64, 64), 0, 1));
    nb_tensor  *w = nb_param(nb, "w", nb_normal(nb, NB_F32, nb_shape(64, 64), 0, 1));
    for (int square = 0; square < 2; square++) {
        nb_tensor *y = nb_relu(square ? nb_square(x) : nb_mul(x, nb_number(nb, 2)));
        nb_tensor *loss = nb_sum(nb_matmul(y, w), nb_axes(0, 1), false);
        nb_list     gradients = nb_grads(loss, NULL, nb_list_of(nb, x));
        nb_program *p = nb_compile(nb, nb_list_of(nb, loss, gradients.at[0]));
        int         found = 0;
        for (int i = 0; i < nb_program_describe(p).calls; i++) {
            nb_call_info c = nb_program_call(p, i);
            if (!strstr(c.operators, "less_equal")) continue;
            found++;
            bool reads_x = false;
            for (int k = 0; k < c.n_reads; k++) reads_x |= nb_program_buffer(p, c.reads[k]).kept == x;
            assert_int_equal(reads_x, square);
            assert_int_equal(strstr(c.operators, "relu") != NULL, square);
        }
        assert_int_equal(found, 1);
    }
    nb_close(nb);
}

static void test_many_views(void **state) {
    (void)state;
    static const char *const passes[] = {"all", "fuse", "none"};
    nb_context              *nb = nb_open(NULL);
    nb_tensor               *x = param(nb, "x", 1), *y = nb_exp(x);
    for (int i = 0; i < 200000; i++) y = i % 2 ? nb_flip(y, nb_axes(0)) : nb_stop_gradient(y);
    y = nb_relu(y);
    for (int i = 0; i < 3; i++) {
        nb_program *p = nb_compile_with(nb, nb_list_of(nb, y), &(nb_compile_options){.passes = passes[i]});
        assert_true(nb_run(p));
        assert_true(fabsf(first(nb_output(p, 0)) - expf(1)) < 1e-6f);
    }
    nb_close(nb);
}

/* What a region has room for are its own nodes and the arrays that it reads, not all uses of them. */
static void test_long_regions(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    float       values[3] = {1, 2, 3};
    nb_tensor  *a = nb_input(nb, "a", NB_F32, nb_shape(3)), *b = nb_input(nb, "b", NB_F32, nb_shape(3)), *y = a;
    assert_true(nb_set(a, values, sizeof values) && nb_set(b, values, sizeof values));
    for (int i = 0; i < 30; i++) y = nb_sub(nb_mul(y, b), nb_tanh(y));
    nb_compile_options none = {.passes = "none"};
    nb_program        *p = nb_compile(nb, nb_list_of(nb, y)), *q = nb_compile_with(nb, nb_list_of(nb, y), &none);
    assert_true(nb_run(p) && nb_run(q));
    for (int i = 0; i < 3; i++) {
        double got = ((const float *)nb_data(nb_output(p, 0)))[i], expected = ((const float *)nb_data(nb_output(q, 0)))[i];
        assert_true(fabs(got - expected) <= 1e-4 * fabs(expected));
    }
    assert_int_equal(nb_program_describe(p).calls, 2); /* of 90 nodes */
    nb_close(nb);
}

/* Many readers of work that is done again for each of them (rows less a number), and many results. */
static void test_shifted_rows(void **state) {
    (void)state;
    enum { ROWS = 20, COLUMNS = 128, MOST = 10 };
    nb_context *nb = nb_open(NULL);
    for (int n = 2; n <= MOST; n++) {
        nb_tensor *shifted[MOST], *last = NULL;
        nb_list    roots = nb_list_new(nb, 3 * (n - 1));
        for (int i = 0; i < n; i++) {
            nb_tensor *x = nb_param(nb, "x", nb_normal(nb, NB_F32, nb_shape(ROWS, COLUMNS), 0, 1));
            shifted[i] = nb_sub(x, nb_param(nb, "m", nb_normal(nb, NB_F32, nb_shape(ROWS, 1), 0, 1)));
            if (last) {
                nb_tensor *y[] = {nb_add(last, shifted[i]), nb_mul(last, shifted[i]), nb_minimum(shifted[i], shifted[0])};
                memcpy(roots.at + 3 * (i - 1), y, sizeof y);
            }
            last = shifted[i];
        }
        nb_program *p = nb_compile(nb, roots), *q = nb_compile_with(nb, roots, &(nb_compile_options){.passes = "none"});
        assert_true(nb_run(p) && nb_run(q));
        for (int k = 0; k < roots.n; k++)
            assert_memory_equal(nb_data(nb_output(p, k)), nb_data(nb_output(q, k)), nb_bytes(nb_output(q, k)));
    }
    assert_null(nb_error(nb));
    nb_close(nb);
}

/* Images that leave the program are written in the order in which they leave: no copy follows. */
static void test_images_that_leave(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_param(nb, "x", nb_normal(nb, NB_F32, nb_shape(4, 8, 6, 6), 0, 1));
    nb_tensor  *bias = nb_param(nb, "b", nb_zeros(nb, NB_F32, nb_shape(8)));
    nb_tensor *w[2] = {nb_param(nb, "w1", nb_normal(nb, NB_F32, nb_shape(8, 8, 1, 1), 0, 1)),
                       nb_param(nb, "w3", nb_normal(nb, NB_F32, nb_shape(8, 8, 3, 3), 0, 1))};
    for (int i = 0; i < 2; i++) {
        nb_tensor  *y = nb_conv2d(x, w[i], NULL, NULL), *z = nb_relu(nb_conv2d(x, w[i], bias, NULL));
        nb_tensor  *dy = nb_input(nb, i ? "dy3" : "dy1", NB_F32, nb_shape_of(y));
        nb_program *p = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, z), nb_grads(y, dy, nb_list_of(nb, x))));
        assert_true(nb_run(p));
        for (int k = 0; k < nb_program_describe(p).calls; k++) assert_null(strstr(nb_program_call(p, k).operators, "copy"));
    }
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_after_its_readers),
        cmocka_unit_test(test_many_views),
        cmocka_unit_test(test_rows_again),
        cmocka_unit_test(test_made_of_what_is_read),
        cmocka_unit_test(test_swap),
        cmocka_unit_test(test_old_values),
        cmocka_unit_test(test_failed_run_changes_nothing),
        cmocka_unit_test(test_assigned_twice),
        cmocka_unit_test(test_update_comes_along),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_kept_and_read),
        cmocka_unit_test(test_transposed_product),
        cmocka_unit_test(test_not_finite_is_named),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_out_of_date),
        cmocka_unit_test(test_output_elsewhere),
        cmocka_unit_test(test_one_draw),
        cmocka_unit_test(test_borrow),
        cmocka_unit_test(test_misused_operators),
        cmocka_unit_test(test_released_long_ago),
        cmocka_unit_test(test_long_regions),
        cmocka_unit_test(test_images_that_leave),
        cmocka_unit_test(test_shifted_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
