/* test_prepared.c: weights that a program packs once: whatever writes them - nb_set, another program, borrowed data - shows in
 * its next run. */
#include "test.h"

enum { RUNS = 6, FROM_PRODUCT = 64 * 40, FROM_CONV = 20 * 12 * 12 };

typedef struct results {
    float product[RUNS][FROM_PRODUCT], conv[RUNS][FROM_CONV];
} results;

static void run(nb_program *p, results *r, int i) {
    assert_true(nb_run(p));
    assert_true(nb_read(nb_output(p, 0), r->product[i], sizeof r->product[i]));
    assert_true(nb_read(nb_output(p, 1), r->conv[i], sizeof r->conv[i]));
}

static nb_tensor *random_param(nb_context *nb, const char *name, nb_dims shape) {
    return nb_param(nb, name, nb_normal(nb, NB_F32, shape, 0, 1));
}

/* The same story for one set of kernels. */
static void tell(const char *kernels, int threads, results *r) {
    static _Alignas(64) float other[40 * 100];
    nb_context               *nb = nb_open(&(nb_options){.kernels = kernels, .seed = 5, .threads = threads});
    nb_tensor  *x = random_param(nb, "x", nb_shape(64, 100)), *image = random_param(nb, "image", nb_shape(1, 3, 12, 12));
    nb_tensor  *w = random_param(nb, "w", nb_shape(40, 100)), *k = random_param(nb, "k", nb_shape(20, 3, 3, 3));
    nb_program *p =
        nb_compile(nb, nb_list_of(nb, nb_linear(x, w, NULL), nb_conv2d(image, k, NULL, &(nb_conv2d_options){.padding = {1, 1}})));
    nb_program *q =
        nb_compile(nb, nb_list_of(nb, nb_assign(w, nb_mul(w, nb_number(nb, 1.5))), nb_assign(k, nb_sub(k, nb_number(nb, 0.25)))));
    uint64_t draw = 9;
    for (int i = 0; i < 40 * 100; i++) other[i] = (float)next_real(&draw);
    run(p, r, 0);
    run(p, r, 1);
    assert_true(nb_run(q));
    run(p, r, 2);
    assert_true(nb_set_in_place(w, other, sizeof other));
    run(p, r, 3);
    run(p, r, 4);
    assert_true(nb_set(w, other, sizeof other));
    run(p, r, 5);
    expect_good(nb);
    nb_close(nb);
}

static void compare(const float *got, const float *want, int n, int run_number) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) < 1e-3))
            fail_msg("run %d, element %d: %g, by the reference %g", run_number, i, got[i], want[i]);
}

static void test_packed_again(void **unused) {
    static results fast, slow;
    (void)unused;
    tell("reference", 1, &slow);
    for (int threads = 1; threads <= 2; threads++) {
        tell(NULL, threads, &fast);
        for (int i = 0; i < RUNS; i++) {
            compare(fast.product[i], slow.product[i], FROM_PRODUCT, i);
            compare(fast.conv[i], slow.conv[i], FROM_CONV, i);
        }
    }
}

/* A loop over steps with one weight, that the program changes at its end, and with halves of another: both packed once a run. */
enum { WIDE = 96 };

static nb_tensor *half(nb_tensor *w, int which) { return nb_slice(w, 0, which * WIDE, (which + 1) * WIDE, 1); }

/* The packed weights of its program, in bytes. */
static int64_t loop(const char *kernels, int steps, float *to) {
    nb_context *nb = nb_open(&(nb_options){.kernels = kernels, .seed = 6});
    nb_tensor  *w = random_param(nb, "w", nb_shape(WIDE, WIDE)), *halves = random_param(nb, "halves", nb_shape(2 * WIDE, WIDE));
    nb_tensor  *h = nb_normal(nb, NB_F32, nb_shape(32, WIDE), 0, 1);
    for (int i = 0; i < steps; i++) {
        h = nb_tanh(nb_mul(nb_linear(h, w, NULL), nb_number(nb, 0.2)));
        h = nb_tanh(nb_mul(nb_linear(h, half(halves, i % 2), NULL), nb_number(nb, 0.2)));
    }
    nb_program *p =
        nb_compile(nb, nb_list_of(nb, nb_sum(h, nb_shape(0, 1), false), nb_assign(w, nb_mul(w, nb_number(nb, 0.75)))));
    for (int i = 0; i < RUNS; i++) {
        assert_true(nb_run(p));
        assert_true(nb_read(nb_output(p, 0), to + i, sizeof *to));
    }
    nb_program_info info = nb_program_describe(p);
    expect_good(nb);
    nb_close(nb);
    return info.lasting_bytes;
}

static void test_packed_once_for_many(void **unused) {
    float fast[RUNS], slow[RUNS], other[RUNS];
    (void)unused;
    loop("reference", 8, slow);
    int64_t bytes = loop(NULL, 8, fast);
    compare(fast, slow, RUNS, 0);
    assert_int_equal(loop(NULL, 16, other), bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_packed_again), cmocka_unit_test(test_packed_once_for_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
