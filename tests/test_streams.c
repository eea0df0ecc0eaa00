/* test_streams.c: results that are too large for the caches, written past them, have the bits of smaller ones; and not over what
 * is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nabla.h"

enum { ROWS = 4200, COLUMNS = 1003, FEW = 40 }; /* 16.8 MB and a little */

/* What ends with a row of elementwise.def, a chain, a series, a choice (whose loop writes the usual way), and softmax both ways,
 * where one result is read again. */
typedef nb_list formula(nb_tensor *x, nb_tensor *scale);

static nb_tensor *normalised(nb_tensor *x) {
    nb_tensor *centred = nb_sub(x, nb_mean(x, nb_axes(1), true));
    return nb_mul(centred, nb_rsqrt(nb_mean(nb_square(centred), nb_axes(1), true)));
}

static nb_list row(nb_tensor *x, nb_tensor *scale) { return nb_list_of(nb_context_of(x), nb_exp(nb_mul(normalised(x), scale))); }
static nb_list chain(nb_tensor *x, nb_tensor *scale) {
    return nb_list_of(nb_context_of(x), nb_add(nb_mul(normalised(x), scale), scale));
}
static nb_list series(nb_tensor *x, nb_tensor *scale) {
    return nb_list_of(nb_context_of(x), nb_relu(nb_mul(nb_add(nb_square(nb_add(x, scale)), x), x)));
}
static nb_list choice(nb_tensor *x, nb_tensor *scale) {
    return nb_list_of(nb_context_of(x), nb_where(nb_less(x, scale), nb_exp(x), nb_abs(scale)));
}
static nb_list back(nb_tensor *x, nb_tensor *scale) {
    nb_tensor *y = nb_softmax(x, 1), *dy = nb_mul(scale, nb_square(x));
    return nb_list_join(nb_context_of(x), nb_list_of(nb_context_of(x), y), nb_grads(y, dy, nb_list_of(nb_context_of(x), x)));
}
enum { MOST = 2 };

static float *data_of(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)((i * 7919) % 1009) / 500 - 1;
    return x;
}

/* Results of a formula, of `rows` rows from `first` on, one behind the other. How many. */
static int run(formula *f, const char *kernels, int threads, const float *data, int64_t first, int64_t rows, float *y) {
    nb_context *nb = nb_open(&(nb_options){.threads = threads, .kernels = kernels});
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(rows, COLUMNS)), *scale = nb_input(nb, "scale", NB_F32, nb_shape(COLUMNS));
    assert_true(nb_set(x, data + first * COLUMNS, nb_bytes(x)) && nb_set(scale, data, nb_bytes(scale)));
    nb_list     list = f(x, scale);
    nb_program *p = nb_compile(nb, list);
    assert_true(nb_run(p));
    for (int i = 0; i < list.n; i++) memcpy(y + i * rows * COLUMNS, nb_data(nb_output(p, i)), nb_bytes(x));
    nb_close(nb);
    return list.n;
}

static void check(formula *f, const char *kernels, const float *data, float *one, float *two, float *few) {
    const int64_t row = COLUMNS;
    int           n = run(f, kernels, 1, data, 0, ROWS, one);
    run(f, kernels, 2, data, 0, ROWS, two);
    assert_memory_equal(one, two, (size_t)(n * ROWS * row) * sizeof *one);
    for (int64_t r = 0; r < ROWS; r += ROWS - FEW) {
        run(f, kernels, 1, data, r, FEW, few);
        for (int i = 0; i < n; i++)
            assert_memory_equal(few + i * FEW * row, one + (i * ROWS + r) * row, (size_t)(FEW * row) * sizeof *one);
    }
}

static void same_bits(void **state) {
    static const char *const kernels[] = {"baseline", "v3", "v4"};
    static formula *const    formulas[] = {row, chain, series, choice, back};
    const int64_t            n = (int64_t)ROWS * COLUMNS;
    float                   *data = data_of(n), *y = malloc((size_t)(MOST * (2 * n + FEW * COLUMNS)) * sizeof *y);
    (void)state;
    for (int k = 0; k < 3; k++) {
        nb_context *nb = nb_open(&(nb_options){.kernels = kernels[k]}); /* refused where the processor lacks it */
        for (int f = 0; f < 5 && !nb_error(nb); f++) check(formulas[f], kernels[k], data, y, y + MOST * n, y + 2 * MOST * n);
        nb_close(nb);
    }
    free(y);
    free(data);
}

/* A kept tensor that is written over by a formula of itself. */
static void in_place(void **state) {
    (void)state;
    const int64_t n = (int64_t)ROWS * COLUMNS;
    nb_context   *nb = nb_open(NULL);
    float        *data = data_of(n);
    nb_tensor    *w = nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(n), data));
    nb_program   *p = nb_compile(nb, nb_list_of(nb, nb_assign(w, nb_sub(nb_square(w), nb_abs(w)))));
    assert_true(nb_run(p));
    const float *got = nb_data(w);
    for (int64_t i = 0; i < n; i++) {
        float x = data[i], wanted = x * x - (x < 0 ? -x : x);
        assert_true(got[i] == wanted);
    }
    free(data);
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(in_place)};
    return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}
