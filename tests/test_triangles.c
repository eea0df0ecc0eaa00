/* test_triangles.c: products with matrices that are zero, or that nobody looks at, on one side of their diagonal: they are found,
 * leave that side out, and give what the reference gives; and where somebody does look, nothing is left out. */
#include "test.h"

static const char *const sets[] = {"baseline", "v3", "v4"};

static nb_tensor *fill(nb_tensor *x, uint64_t draw) {
    int64_t n = nb_count(x);
    float  *v = malloc((size_t)n * sizeof *v + 1);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = (float)(2 * next_real(&draw) - 1);
    assert_true(nb_set(x, v, nb_bytes(x)));
    free(v);
    return x;
}

static nb_tensor *input(nb_context *nb, nb_dims shape, uint64_t draw) { return fill(nb_input(nb, "x", NB_F32, shape), draw); }

static int triangles(nb_program *p) {
    int n = 0;
    for (int i = 0; i < nb_program_describe(p).calls; i++) n += !strcmp(nb_program_call(p, i).kernel, "matmul of triangles");
    return n;
}

/* Builds the same graph for the reference and each set of kernels; `wanted` products must be found in it. */
static void compare(nb_list (*build)(nb_context *nb, const int64_t *size), const int64_t *size, int wanted) {
    nb_context *exact = nb_open(&(nb_options){.kernels = "reference"});
    nb_program *q = nb_compile(exact, build(exact, size));
    assert_true(nb_run(q));
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        nb_context *nb = nb_open(&(nb_options){.kernels = sets[s], .threads = 2});
        if (!nb || nb_error(nb)) { /* not of this processor */
            nb_close(nb);
            continue;
        }
        nb_list     roots = build(nb, size);
        nb_program *p = nb_compile(nb, roots);
        expect_good(nb);
        if (triangles(p) != wanted) fail_msg("%s, size %d: %d products, wanted %d", sets[s], (int)size[0], triangles(p), wanted);
        for (int run = 0; run < 2; run++) assert_true(nb_run(p));
        for (int k = 0; k < roots.n; k++) {
            const float *x = nb_data(nb_output(p, k)), *y = nb_data(nb_output(q, k));
            for (int64_t i = 0; i < nb_count(nb_output(q, k)); i++)
                if (!(fabsf(x[i] - y[i]) <= 2e-5f * (1 + fabsf(y[i]))))
                    fail_msg("%s, size %d, result %d, element %d: %g, by the reference %g", sets[s], (int)size[0], k, (int)i,
                             x[i], y[i]);
        }
        nb_close(nb);
    }
    nb_close(exact);
}

/* Each side of each matrix of products [2,m,k] x [2,k,n], from operands as they are and transposed; twice the same with two
 * sides. */
static nb_list all_sides(nb_context *nb, const int64_t *size) {
    int64_t    m = size[0], n = size[1], k = size[2];
    nb_tensor *a = input(nb, nb_shape(2, m, k), 1), *b = input(nb, nb_shape(2, k, n), 2), *at = input(nb, nb_shape(2, k, m), 3),
              *bt = input(nb, nb_shape(2, n, k), 4), *ta = nb_transpose(at, 1, 2), *tb = nb_transpose(bt, 1, 2);
    nb_tensor *y[] = {
        nb_matmul(nb_tril(a, 0), b),
        nb_matmul(nb_triu(a, 0), b),
        nb_matmul(nb_tril(ta, 0), tb),
        nb_matmul(nb_transpose(nb_tril(at, 0), 1, 2), b),
        nb_matmul(a, nb_tril(b, 0)),
        nb_matmul(a, nb_triu(tb, 0)),
        nb_matmul(ta, nb_transpose(nb_tril(bt, 0), 1, 2)),
        nb_tril(nb_matmul(a, b), 0),
        nb_triu(nb_matmul(a, tb), 0),
        nb_tril(nb_matmul(ta, tb), 0),
        nb_triu(nb_matmul(nb_tril(ta, 0), b), 0),
        nb_tril(nb_matmul(nb_tril(a, 0), nb_tril(b, 0)), 0),
        nb_matmul(nb_tril(nb_triu(a, 0), 0), b),
        nb_tril(nb_triu(nb_matmul(ta, b), 0), 0),
    };
    nb_list list = nb_list_new(nb, (int)(sizeof y / sizeof *y));
    memcpy(list.at, y, sizeof y);
    return list;
}

static void sides_of_products(void **unused) {
    static const int64_t sizes[][3] = {{7, 9, 8},     {33, 31, 64},    {64, 64, 64}, {70, 150, 33},
                                       {150, 40, 70}, {200, 200, 200}, {40, 70, 450}};
    (void)unused;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) compare(all_sides, sizes[i], 14);
}

/* An element beside the diagonal is no zero, or is looked at. */
static nb_list nearly(nb_context *nb, const int64_t *size) {
    nb_tensor *a = input(nb, nb_shape(size[0], size[0]), 1), *b = input(nb, nb_shape(size[0], size[0]), 2);
    nb_tensor *product = nb_matmul(b, a), *seen = nb_matmul(a, nb_sigmoid(b));
    return nb_list_of(nb, nb_matmul(nb_tril(a, 1), b), nb_matmul(nb_triu(a, -1), b), nb_tril(product, 1),
                      nb_sum(product, nb_axes(0), false), nb_tril(seen, 0), seen, nb_matmul(nb_exp(nb_tril(a, 0)), b),
                      nb_matmul(nb_add(nb_triu(a, 0), b), b),
                      nb_matmul(nb_where(nb_less(nb_tril(a, 0), nb_number(nb, 2)), a, b), b));
}

/* A zero there would become infinite on its way to the product with zeros, or its gradient would; rows that see nothing are
 * NaN. */
static nb_list not_finite(nb_context *nb, const int64_t *size) {
    int64_t    n = size[0];
    nb_tensor *a = nb_abs(input(nb, nb_shape(n, n), 1)), *b = nb_abs(input(nb, nb_shape(n, n), 2)),
              *c = input(nb, nb_shape(n), 3);
    nb_tensor *mask = nb_tril(nb_ones(nb, NB_F32, nb_shape(n, n)), 0), *one = nb_number(nb, 1);
    nb_tensor *d = nb_add(nb_abs(c), one), *product = nb_add(nb_matmul(a, b), nb_zeros(nb, NB_F32, nb_shape(n, n)));
    nb_tensor *y = nb_tril(nb_rsqrt(nb_mul(nb_matmul(b, a), d)), 0);
    return nb_list_join(nb,
                        nb_list_of(nb, nb_mul(mask, nb_log(product)), nb_mul(mask, nb_reciprocal(nb_matmul(a, nb_exp(b)))), y),
                        nb_grads(nb_sum(y, nb_axes(), false), NULL, nb_list_of(nb, c)));
}

static nb_list see_nothing(nb_context *nb, const int64_t *size) {
    nb_tensor *q = input(nb, nb_shape(2, size[0], 16), 1), *k = input(nb, nb_shape(2, size[1], 16), 2),
              *v = input(nb, nb_shape(2, size[1], 8), 3);
    nb_tensor *row = nb_unsqueeze(nb_arange(nb, NB_F32, 0, (double)size[0], 1), 1),
              *column = nb_arange(nb, NB_F32, 0, (double)size[1], 1);
    nb_tensor *y = nb_attention(q, k, v, &(nb_attention_options){.mask = nb_greater_equal(column, row)});
    return nb_list_of(nb, nb_cast(nb_isnan(y), NB_F32));
}

static void nothing_left_out(void **unused) {
    (void)unused;
    compare(nearly, (const int64_t[]){70}, 0);
    compare(not_finite, (const int64_t[]){70}, 0);
    compare(see_nothing, (const int64_t[]){70, 40}, 1); /* the scores */
}

static nb_tensor *loss_of(nb_tensor *y) { return nb_sum(nb_square(y), nb_axes(), false); }

/* Attention [2,3,T,16] over S steps, its gradients, and theirs. */
static nb_list attention(nb_context *nb, const int64_t *size) {
    nb_tensor *q = input(nb, nb_shape(2, 3, size[0], 16), 1), *k = input(nb, nb_shape(2, 3, size[1], 16), 2),
              *v = input(nb, nb_shape(2, 3, size[1], 8), 3);
    nb_tensor *y = nb_attention(q, k, v, &(nb_attention_options){.causal = size[2] != 0});
    return nb_list_join(nb, nb_list_of(nb, y), nb_grads(loss_of(y), NULL, nb_list_of(nb, q, k, v)));
}

static void attentions(void **unused) {
    (void)unused;
    compare(attention, (const int64_t[]){5, 5, true}, 6);
    compare(attention, (const int64_t[]){64, 64, true}, 6);
    compare(attention, (const int64_t[]){70, 70, true}, 6);
    compare(attention, (const int64_t[]){40, 70, true}, 6);
    compare(attention, (const int64_t[]){70, 40, true}, 6);
    compare(attention, (const int64_t[]){600, 600, true}, 6); /* the mask is too large to be a constant */
    compare(attention, (const int64_t[]){70, 70, false}, 0);
}

/* Also where what is left out would have been NaN: a step does not see the values of later ones. */
static void later_steps_are_not_seen(void **unused) {
    enum { T = 70 };
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *q = input(nb, nb_shape(T, 16), 1), *k = input(nb, nb_shape(T, 16), 2), *v = input(nb, nb_shape(T, 8), 3);
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_attention(q, k, v, &(nb_attention_options){.causal = true})));
    expect_good(nb);
    float *at = nb_alloc(nb, nb_bytes(v));
    assert_true(nb_read(v, at, nb_bytes(v)));
    for (int i = 64 * 8; i < T * 8; i++) at[i] = NAN;
    assert_true(nb_set(v, at, nb_bytes(v)) && nb_run(p));
    const float *y = nb_data(nb_output(p, 0));
    for (int i = 0; i < T * 8; i++)
        if (i < 64 * 8 ? !isfinite(y[i]) : i / 8 >= 64 && !isnan(y[i])) fail_msg("element %d is %g", i, y[i]);
    nb_free(nb, at);
    nb_close(nb);
}

static void passes(void **unused) {
    nb_context *nb = nb_open(NULL);
    nb_list     roots = attention(nb, (const int64_t[]){70, 70, true});
    (void)unused;
    assert_int_equal(
        triangles(nb_compile_with(nb, roots, &(nb_compile_options){.passes = "simplify,algebra,layout,fuse,memory"})), 0);
    assert_int_equal(triangles(nb_compile_with(nb, roots, &(nb_compile_options){.passes = "simplify,algebra,triangles"})), 6);
    expect_good(nb);
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides_of_products),        cmocka_unit_test(nothing_left_out), cmocka_unit_test(attentions),
        cmocka_unit_test(later_steps_are_not_seen), cmocka_unit_test(passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
