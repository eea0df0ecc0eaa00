/* test_training.c: training as a whole: the same bits for any number of threads, on every instruction set; Hessian-vector
 * products; an operator of one's own from end to end. */
#include "test.h"

/* -------------------------------------------------------------------------------------------------------------- the same bits */

/* Trains a preset for some steps and gives the digest of its state. */
static void train(const char *preset, const char *kernels, int threads, uint64_t seed, int steps, char digest[65],
                  double *loss_out) {
    nb_context    *nb = nb_open(&(nb_options){.threads = threads, .seed = seed, .kernels = kernels});
    nb_net        *net = nb_net_parse(nb, nb_net_preset(preset), nb_shape(1, 28, 28));
    nb_tensor     *x = nb_input(nb, "x", NB_F32, nb_shape(64, 1, 28, 28)), *y = nb_input(nb, "y", NB_I64, nb_shape(64));
    nb_tensor     *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_optimizer  *adam = nb_adam(nb_net_parameters(net), 1e-3, NULL);
    nb_program    *p = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, loss), nb_update(adam, loss)));
    static float   data[64 * 784];
    static int64_t label[64];
    uint64_t       draw = 11;
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < 64 * 784; i++) data[i] = (float)next_real(&draw);
        for (int i = 0; i < 64; i++) label[i] = (int64_t)(10 * next_real(&draw));
        assert_true(nb_set(x, data, sizeof data) && nb_set(y, label, sizeof label));
        if (!nb_run(p)) fail_msg("%s", nb_error(nb));
    }
    *loss_out = nb_item(nb_output(p, 0));
    assert_true(nb_digest(nb_list_join(nb, nb_net_state(net), nb_optimizer_state(adam)), digest));
    nb_close(nb);
}

static void same_bits(const char *preset, const char *kernels, int steps) {
    char   one[65], other[65];
    double loss, loss_again;
    train(preset, kernels, 1, 3, steps, one, &loss);
    assert_true(isfinite(loss) && loss > 0 && loss < 5);
    for (int threads = 2; threads <= 4; threads += 2) {
        train(preset, kernels, threads, 3, steps, other, &loss_again);
        if (memcmp(one, other, sizeof one) != 0)
            fail_msg("%s with %s: other bits on %d threads", preset, kernels ? kernels : "the best", threads);
        assert_true(loss == loss_again);
    }
    train(preset, kernels, 1, 3, steps, other, &loss_again); /* a rerun */
    assert_memory_equal(one, other, sizeof one);
    train(preset, kernels, 1, 4, steps, other, &loss_again); /* another seed */
    assert_memory_not_equal(one, other, sizeof one);
}

static void test_mlp_bits(void **state) {
    (void)state;
    same_bits("mlp", NULL, 20);
    same_bits("mlp", "baseline", 5);
}

static void test_cnn_bits(void **state) {
    (void)state;
    same_bits("cnn", NULL, 5);
    same_bits("lenet", NULL, 5);
}

/* --------------------------------------------------------------------------------------------------------- second derivatives */

/* The Hessian of f(w) = sum(exp(w A w)) by products with unit vectors: forward over reverse equals reverse over reverse, and it
 * is symmetric. */
static void test_hessian_vector(void **state) {
    (void)state;
    enum { N = 4 };
    nb_context *nb = nb_open(NULL);
    double      a[N * N], w0[N], h[N][N];
    uint64_t    seed = 9;
    for (int i = 0; i < N * N; i++) a[i] = next_real(&seed) - 0.5;
    for (int i = 0; i < N; i++) w0[i] = next_real(&seed);
    nb_tensor  *w = nb_param(nb, "w", nb_from(nb, NB_F64, nb_shape(N), w0)), *v = nb_input(nb, "v", NB_F64, nb_shape(N));
    nb_tensor  *m = nb_from(nb, NB_F64, nb_shape(N, N), a), *f = nb_exp(nb_matmul(w, nb_matmul(m, w)));
    nb_tensor  *g = nb_grads(f, NULL, nb_list_of(nb, w)).at[0];
    nb_tensor  *reverse = nb_grads(nb_sum(nb_mul(g, v), nb_axes(), false), NULL, nb_list_of(nb, w)).at[0];
    nb_tensor  *forward = nb_jvp(g, nb_list_of(nb, w), nb_list_of(nb, v));
    nb_program *p = nb_compile(nb, nb_list_of(nb, reverse, forward));
    for (int i = 0; i < N; i++) {
        double e[N] = {0};
        e[i] = 1;
        assert_true(nb_set(v, e, sizeof e) && nb_run(p));
        const double *r = nb_data(nb_output(p, 0)), *t = nb_data(nb_output(p, 1));
        for (int j = 0; j < N; j++) {
            assert_true(fabs(r[j] - t[j]) < 1e-12);
            h[i][j] = r[j];
        }
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) assert_true(fabs(h[i][j] - h[j][i]) < 1e-12 && fabs(h[i][j]) > 1e-6);
    expect_good(nb);
    nb_close(nb);
}

/* --------------------------------------------------------------------------------------------------- an operator of one's own */

/* y = x / (1 + x^2), whose derivative uses its own output: dx = dy (1 - 2 x y) / (1 + x^2) */
static bool bump_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)attr;
    (void)n_in;
    if (nb_dtype_of(in[0]) != NB_F64) {
        nb_fail(nb, NB_INVALID, "bump: takes f64");
        return false;
    }
    *out = (nb_type){NB_F64, nb_shape_of(in[0])};
    return true;
}

static void bump_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_context *nb = nb_context_of(y);
    nb_tensor  *x = nb_input_at(y, 0), *one = nb_number(nb, 1);
    (void)want;
    dx[0] = nb_mul(dy, nb_div(nb_sub(one, nb_mul(nb_number(nb, 2), nb_mul(x, y))), nb_add(one, nb_square(x))));
}

static void walk(const nb_call *call, int axis, const double *x, double *y) {
    if (axis == call->out.rank) {
        *y = *x / (1 + *x * *x);
        return;
    }
    for (int64_t i = 0; i < call->out.shape[axis]; i++)
        walk(call, axis + 1, x + i * call->in[0].stride[axis], y + i * call->out.stride[axis]);
}

static void bump_run(const nb_call *call) { walk(call, 0, call->in[0].data, call->out.data); }

static const nb_op bump;

static nb_tensor *bump_sample(nb_sampler *s, int i) {
    if (i > 1) return NULL;
    nb_tensor *x = s->real(s, -2, 2, i ? nb_shape(2, 3) : nb_shape());
    return nb_apply(s->nb, &bump, 1, &x, NULL);
}

static const nb_op bump = {.name = "bump",
                           .formula = "y = x / (1 + x^2)",
                           .gradient = "dx = dy (1 - 2xy) / (1 + x^2)",
                           .kind = NB_OPAQUE,
                           .arity = 1,
                           .infer = bump_infer,
                           .derivative = bump_derivative,
                           .run = bump_run,
                           .sample = bump_sample};

static void count_failures(const nb_operator_check *c, void *user) {
    if (!c->result.passed) ++*(int *)user, printf("%s: %s\n", c->variant, c->result.detail);
}

static void test_own_operator(void **state) {
    (void)state;
    int         failures = 0;
    nb_context *nb = nb_open(NULL);
    assert_true(nb_check_operator(nb, &bump, count_failures, &failures) >= 8);
    assert_int_equal(failures, 0);
    nb_tensor *bad = nb_ones(nb, NB_F32, nb_shape(2));
    nb_apply(nb, &bump, 1, &bad, NULL);
    expect_error(nb, "bump: takes f64");
    nb_apply(nb, &bump, 2, (nb_tensor *[]){bad, bad}, NULL);
    expect_error(nb, "bump: takes 1 operand");
    nb_close(nb);
}

static void test_missing_derivative(void **state) {
    (void)state;
    nb_op       mute = bump;
    nb_context *nb = nb_open(NULL);
    double      v = 1;
    nb_tensor  *x = nb_from(nb, NB_F64, nb_shape(), &v);
    mute.name = "mute";
    mute.derivative = NULL;
    nb_grads(nb_apply(nb, &mute, 1, &x, NULL), NULL, nb_list_of(nb, x));
    expect_error(nb, "mute has no derivative");
    nb_grads(nb_argmax(nb_reshape(x, nb_shape(1)), 0, false), NULL, nb_list_of(nb, x));
    expect_error(nb, "i64");
    nb_grads(nb_expand(x, nb_shape(3)), NULL, nb_list_of(nb, x));
    expect_error(nb, "upstream");
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp_bits),     cmocka_unit_test(test_cnn_bits),           cmocka_unit_test(test_hessian_vector),
        cmocka_unit_test(test_own_operator), cmocka_unit_test(test_missing_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
