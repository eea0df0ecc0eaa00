/* test_edges.c: places where a formula alone is not enough: limits of whole numbers, derivatives at special points, missing
 * operands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "nabla.h"

static nb_tensor *f32(nb_context *nb, int64_t n, const float *x) { return nb_from(nb, NB_F32, nb_shape(n), x); }

static void test_whole_numbers(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    const int64_t large[1] = {INT64_MAX - 1};
    const uint8_t bytes[2] = {200, 100};
    assert_true(*(const int64_t *)nb_data(nb_clamp(nb_from(nb, NB_I64, nb_shape(1), large), -1e300, 1e300)) == INT64_MAX - 1);
    assert_true(nb_item(nb_sum(nb_from(nb, NB_U8, nb_shape(2), bytes), nb_axes(), false)) == 44); /* wraps, as addition does */
    nb_close(nb);
}

static double slope_at(nb_context *nb, nb_tensor *y, nb_tensor *x) {
    return nb_item(nb_grads(nb_sum(y, nb_axes(), false), NULL, nb_list_of(nb, x)).at[0]);
}

static void test_special_points(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *zero = f32(nb, 1, (float[]){0}), *nan = f32(nb, 1, (float[]){NAN}), *low = f32(nb, 1, (float[]){-30});
    assert_true(slope_at(nb, nb_atan2(zero, nb_zeros_like(zero)), zero) == 0);
    assert_true(isnan(slope_at(nb, nb_hardswish(nan), nan)));
    assert_true(fabs(slope_at(nb, nb_elu(low, 1), low) / exp(-30) - 1) < 1e-5);
    nb_tensor *w = nb_param(nb, "w", nb_zeros(nb, NB_F32, nb_shape(1, 1)));
    assert_true(isfinite(slope_at(nb, nb_max_norm(w, 1), w)));
    nb_close(nb);
}

/* A row whose label is ignored counts for nothing, whatever is in it. */
static void test_ignored_nan(void **state) {
    (void)state;
    nb_context      *nb = nb_open(NULL);
    const float      x[4] = {1, 2, NAN, NAN};
    const int64_t    t[2] = {1, -1};
    nb_class_options o = {.ignore = true, .ignore_index = -1};
    nb_tensor       *logits = nb_from(nb, NB_F32, nb_shape(2, 2), x);
    nb_tensor       *loss = nb_cross_entropy(logits, nb_from(nb, NB_I64, nb_shape(2), t), &o);
    assert_true(fabs(nb_item(loss) - log1p(exp(-1))) < 1e-6);
    const float *g = nb_data(nb_grads(loss, NULL, nb_list_of(nb, logits)).at[0]);
    assert_non_null(g);
    assert_true(isfinite(g[0]) && g[2] == 0 && g[3] == 0);
    nb_close(nb);
}

static void test_missing_operands(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = f32(nb, 1, (float[]){1});
    assert_null(nb_relu(NULL));
    assert_true(isnan(nb_item(NULL)) && !nb_data(NULL) && !nb_set(NULL, x, 4));
    nb_tensor *failed[] = {nb_add(x, NULL), nb_linear(x, NULL, NULL), nb_gather(x, 0, NULL), nb_assign(x, NULL),
                           nb_mse(x, NULL, NB_REDUCE_MEAN)};
    for (size_t i = 0; i < sizeof failed / sizeof *failed; i++) assert_true(failed[i] && nb_has_failed(failed[i]));
    assert_non_null(strstr(nb_error(nb), "operand 1 is NULL"));
    nb_close(nb);
}

static void test_options(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    nb_schedule   one = {.kind = NB_ONE_CYCLE, .rate = 0.5, .steps = 1};
    nb_tensor    *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(2)));
    nb_optimizer *o = nb_sgd(nb_list_of(nb, w), 0.1, &(nb_sgd_options){.momentum = NB_NONE});
    assert_true(nb_schedule_rate(&one, 0) == 0.5);
    assert_non_null(o);
    assert_false(nb_optimizer_set_rate(o, NAN));
    nb_error_clear(nb);
    assert_null(nb_sgd(nb_list_of(nb, w, w), 0.1, NULL));
    nb_error_clear(nb);
    nb_optimizer_free(o);
    assert_int_equal(nb_kept(nb).n, 1);
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_numbers),    cmocka_unit_test(test_special_points), cmocka_unit_test(test_ignored_nan),
        cmocka_unit_test(test_missing_operands), cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
