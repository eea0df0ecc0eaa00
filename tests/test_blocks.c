/* test_blocks.c: large batches whose items keep apart run in blocks: the same results, whatever the operators; and where items
 * meet, as a whole. */
#include "test.h"

enum { N = 333 };

static void draw_values(float *v, int64_t n, uint64_t draw) {
    for (int64_t i = 0; i < n; i++) v[i] = (float)(2 * next_real(&draw) - 1);
}

static nb_tensor *fill(nb_tensor *x, uint64_t draw) {
    int64_t n = nb_count(x);
    float  *v = malloc((size_t)n * sizeof *v + 1);
    assert_non_null(v);
    draw_values(v, n, draw);
    assert_true(nb_set(x, v, nb_bytes(x)));
    free(v);
    return x;
}

static nb_tensor *param(nb_context *nb, const char *name, nb_dims shape) {
    return nb_param(nb, name, nb_normal(nb, NB_F32, shape, 0, 0.3));
}

/* Convolutions, pools, views, products, reductions along items' own axes, a loop over parts: 40 kB of values an item and more. */
static nb_tensor *classify(nb_context *nb, nb_tensor *x) {
    nb_tensor *w = param(nb, "w", nb_shape(16, 3, 3, 3)), *b = param(nb, "b", nb_shape(16, 1, 1));
    nb_tensor *y = nb_relu(nb_add(nb_conv2d(x, w, NULL, &(nb_conv2d_options){.padding = {1, 1}}), b));
    nb_tensor *z = nb_max_pool2d(y, &(nb_pool2d_options){.size = {2, 2}}),
              *a = nb_avg_pool2d(y, &(nb_pool2d_options){.size = {2, 2}});
    nb_tensor *both = nb_concat(nb_list_of(nb, z, a), 1);
    nb_tensor *means = nb_mean(both, nb_axes(2, 3), false), *rows = nb_slice(both, 2, 1, 9, 2);
    nb_tensor *flat = nb_reshape(rows, nb_shape(N, -1));
    nb_tensor *scores = nb_linear(flat, param(nb, "v", nb_shape(10, 32 * 4 * 16)), param(nb, "c", nb_shape(10)));
    return nb_softmax(nb_add(scores, nb_slice(means, 1, 0, 10, 1)), 1);
}

/* [N,T,D] with heads: permutes, products by batches, a mask that is the same for all. */
static nb_tensor *attend(nb_context *nb, nb_tensor *x) {
    nb_tensor *flat = nb_reshape(x, nb_shape(N, 24, 128)), *w = param(nb, "q", nb_shape(128, 128));
    nb_tensor *q = nb_transpose(nb_reshape(nb_linear(flat, w, NULL), nb_shape(N, 24, 4, 32)), 1, 2);
    nb_tensor *y = nb_attention(q, nb_tanh(q), q, &(nb_attention_options){.causal = true});
    return nb_reshape(nb_transpose(y, 1, 2), nb_shape(N, 24 * 128));
}

static nb_tensor *image(nb_context *nb) { return nb_input(nb, "x", NB_F32, nb_shape(N, 3, 32, 32)); }

static nb_program *compile(nb_context *nb, nb_list roots, const char *passes) {
    nb_program *p = nb_compile_with(nb, roots, &(nb_compile_options){.passes = passes});
    expect_good(nb);
    return p;
}

static int blocks(nb_context *nb, nb_tensor *root) {
    return nb_program_describe(compile(nb, nb_list_of(nb, root), "all")).blocks;
}

static void compare(nb_program *p, nb_program *q, int root) {
    const float *x = nb_data(nb_output(p, root)), *y = nb_data(nb_output(q, root));
    for (int64_t i = 0; i < nb_count(nb_output(p, root)); i++)
        if (!(fabsf(x[i] - y[i]) <= 1e-5f)) fail_msg("result %d, element %d: %g, as a whole %g", root, (int)i, x[i], y[i]);
}

static void test_same_results(void **unused) {
    (void)unused;
    for (int threads = 1; threads <= 3; threads += 2) {
        nb_context *nb = nb_open(&(nb_options){.seed = 3, .threads = threads});
        nb_tensor  *x = fill(image(nb), 7), *scores = classify(nb, x), *attended = attend(nb, x);
        nb_list     roots = nb_list_of(nb, scores, attended, nb_argmax(scores, 1, false), nb_square(x),
                                       nb_max(nb_cumsum(attended, 1), nb_axes(1), true));
        nb_program *p = compile(nb, roots, "all");
        nb_program *q = compile(nb, roots, "simplify,algebra,lasting,triangles,layout,fuse,memory");
        assert_true(nb_program_describe(p).blocks > 2 && nb_program_describe(q).blocks == 1);
        assert_true(N % nb_program_describe(p).blocks != 0); /* the last block overlaps the one before */
        assert_true(2 * nb_program_describe(p).workspace_bytes < nb_program_describe(q).workspace_bytes);
        assert_true(nb_program_describe(p).flops >= nb_program_describe(q).flops);
        for (int run = 0; run < 2; run++) {
            assert_true(nb_run(p) && nb_run(q));
            for (int i = 0; i < roots.n; i++)
                if (i != 2) compare(p, q, i);
            assert_memory_equal(nb_data(nb_output(p, 2)), nb_data(nb_output(q, 2)), N * sizeof(int64_t));
            fill(x, 8);
        }
        nb_close(nb);
    }
}

/* Inputs that are read in place, and programs for other contexts. */
static void test_shared(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(&(nb_options){.seed = 3}), *other = nb_open(&(nb_options){.threads = 2});
    nb_tensor  *x = fill(image(nb), 7), *own = fill(image(other), 9);
    nb_list     roots = nb_list_of(nb, classify(nb, x));
    nb_program *p = compile(nb, roots, "all"), *q = nb_program_share(other, p, nb_list_of(nb, x), nb_list_of(other, own));
    expect_good(other);
    assert_true(nb_run(q));
    static _Alignas(64) float values[N * 3 * 32 * 32];
    draw_values(values, sizeof values / sizeof *values, 9);
    assert_true(nb_set_in_place(x, values, sizeof values));
    assert_true(nb_run(p));
    compare(p, q, 0);
    nb_close(other);
    nb_close(nb);
}

static void test_as_a_whole(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = fill(image(nb), 7), *y = nb_exp(nb_square(nb_exp(nb_matmul(x, param(nb, "w", nb_shape(32, 32))))));
    assert_true(blocks(nb, y) > 1);
    assert_int_equal(blocks(nb, nb_mean(y, nb_axes(0), false)), 1);
    assert_int_equal(blocks(nb, nb_sum(y, nb_axes(0, 1, 2, 3), false)), 1);
    assert_int_equal(blocks(nb, nb_sub(y, nb_mean(y, nb_axes(0), true))), 1);            /* a batch norm that learns */
    assert_int_equal(blocks(nb, nb_add(y, param(nb, "each", nb_shape(N, 1, 1, 1)))), 1); /* of each item, but no input */
    assert_int_equal(blocks(nb, nb_transpose(y, 0, 1)), 1);
    assert_true(blocks(nb, nb_reshape(y, nb_shape(-1))) > 1); /* items in order, if not on an axis of their own */
    assert_int_equal(blocks(nb, nb_slice(y, 0, 1, 300, 1)), 1);
    assert_int_equal(blocks(nb, nb_cumsum(y, 0)), 1);
    assert_int_equal(blocks(nb, nb_concat(nb_list_of(nb, y, y), 0)), 1);
    assert_int_equal(blocks(nb, nb_dropout(y, nb_number(nb, 0.5))), 1);
    nb_tensor *state = param(nb, "state", nb_shape(1));
    nb_list    both = nb_list_of(nb, y, nb_assign(state, nb_add(state, nb_number(nb, 1))));
    assert_int_equal(nb_program_describe(compile(nb, both, "all")).blocks, 1);
    assert_int_equal(blocks(nb, nb_square(nb_input(nb, "empty", NB_F32, nb_shape(0, 5)))), 1);
    /* What fits in the caches, and items that are too large for blocks. */
    assert_int_equal(blocks(nb, nb_square(x)), 1);
    nb_tensor *large = nb_input(nb, "large", NB_F32, nb_shape(20, 1000, 1000));
    assert_int_equal(blocks(nb, nb_cumsum(nb_square(large), 1)), 1);
    /* A call by itself leaves nothing for another. */
    nb_tensor *many = nb_input(nb, "many", NB_F32, nb_shape(20000, 200));
    assert_int_equal(blocks(nb, nb_concat(nb_list_of(nb, many, nb_transpose(nb_transpose(many, 0, 1), 0, 1)), 1)), 1);
    assert_true(blocks(nb, nb_square(nb_concat(nb_list_of(nb, many, many), 1))) > 1);
    nb_close(nb);
}

static void test_not_finite(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = fill(image(nb), 7), *scores = classify(nb, x);
    nb_program *p = nb_compile_with(nb, nb_list_of(nb, scores), &(nb_compile_options){.passes = "all", .check_finite = true});
    assert_true(nb_program_describe(p).blocks > 1 && nb_run(p));
    float *values = malloc(nb_bytes(x));
    assert_true(values && nb_read(x, values, nb_bytes(x)));
    values[nb_count(x) - 5] = NAN; /* in the last block */
    assert_true(nb_set(x, values, nb_bytes(x)));
    assert_false(nb_run(p));
    expect_error(nb, "NaN or infinity in the first result");
    free(values);
    nb_close(nb);
}

/* A watched node is one of the program's like any other: here one where items meet. */
static void test_watched(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = fill(image(nb), 7), *y = nb_tanh(nb_square(nb_tanh(nb_matmul(x, param(nb, "w", nb_shape(32, 32))))));
    nb_list     roots = nb_list_of(nb, nb_mul(y, nb_watch(nb_sum(x, nb_axes(0), true))));
    nb_compile_options all = {.passes = "all", .check_finite = true}, none = {.passes = "none"};
    nb_program        *p = nb_compile_with(nb, roots, &all), *q = nb_compile_with(nb, roots, &none);
    assert_true(nb_run(p) && nb_run(q));
    const float *a = nb_data(nb_output(p, 0)), *b = nb_data(nb_output(q, 0));
    for (int64_t i = 0; i < nb_count(x); i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-3f + 1e-3f * fabsf(b[i]))) fail_msg("element %d: %g, as a whole %g", (int)i, a[i], b[i]);
    p = nb_compile_with(nb, nb_list_of(nb, nb_watch(y)), &all); /* in a result's memory: of a block only */
    assert_true(nb_program_describe(p).blocks > 1 && nb_run(p));
    float *values = malloc(nb_bytes(x));
    assert_true(values && nb_read(x, values, nb_bytes(x)));
    values[0] = NAN;
    assert_true(nb_set(x, values, nb_bytes(x)) && !nb_run(p));
    expect_error(nb, "NaN or infinity in a watched value");
    free(values);
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_results), cmocka_unit_test(test_shared),
                                       cmocka_unit_test(test_as_a_whole), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_watched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
