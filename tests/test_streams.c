/* test_streams.c: results that are too large for the caches, written past them, have the bits of smaller ones; and not over what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nabla.h"

enum { ROWS = 4200, COLUMNS = 1003, FEW = 40 }; /* 16.8 MB and a little */

static nb_tensor *formula(nb_tensor *x, nb_tensor *scale) {
    nb_tensor *centred = nb_sub(x, nb_mean(x, nb_axes(1), true));
    return nb_mul(nb_exp(nb_mul(centred, nb_rsqrt(nb_mean(nb_square(centred), nb_axes(1), true)))), scale);
}

static float *data_of(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)((i * 7919) % 1009) / 500 - 1;
    return x;
}

/* The formula of `rows` rows from `first` on. */
static float *run(int threads, const float *data, int64_t first, int64_t rows) {
    nb_context *nb = nb_open(&(nb_options){.threads = threads});
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(rows, COLUMNS)), *scale = nb_input(nb, "scale", NB_F32, nb_shape(COLUMNS));
    assert_true(nb_set(x, data + first * COLUMNS, nb_bytes(x)) && nb_set(scale, data, nb_bytes(scale)));
    nb_program *p = nb_compile(nb, nb_list_of(nb, formula(x, scale)));
    assert_true(nb_run(p));
    float *y = malloc(nb_bytes(x));
    memcpy(y, nb_data(nb_output(p, 0)), nb_bytes(x));
    nb_close(nb);
    return y;
}

static void same_bits(void **state) {
    (void)state;
    float *data = data_of((int64_t)ROWS * COLUMNS), *one = run(1, data, 0, ROWS), *two = run(2, data, 0, ROWS);
    size_t row = COLUMNS * sizeof *data;
    assert_memory_equal(one, two, ROWS * row);
    for (int64_t r = 0; r < ROWS; r += ROWS - FEW) {
        float *few = run(1, data, r, FEW);
        assert_memory_equal(few, one + r * COLUMNS, FEW * row);
        free(few);
    }
    free(two);
    free(one);
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
