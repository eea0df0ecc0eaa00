/* test_core.c: contexts, lifetimes, errors as values, random numbers, long chains, empty tensors. */
#include <pthread.h>

#include "test.h"

static nb_tensor *scalar(nb_context *nb, double value) { return nb_from(nb, NB_F64, nb_shape(), &value); }

/* --------------------------------------------------------------------------------------------------------------------- errors */

typedef struct seen {
    int       calls;
    nb_status status;
    char      message[256];
} seen;

static void note(nb_status status, const char *message, void *user) {
    seen *s = user;
    s->calls++;
    s->status = status;
    snprintf(s->message, sizeof s->message, "%s", message);
}

static void test_errors_stick(void **state) {
    (void)state;
    seen        s = {0};
    nb_context *nb = nb_open(&(nb_options){.on_error = note, .on_error_user = &s});
    nb_tensor  *a = nb_zeros(nb, NB_F32, nb_shape(2, 3)), *b = nb_zeros(nb, NB_F32, nb_shape(4, 5));
    nb_tensor  *bad = nb_relu(nb_add(nb_matmul(a, b), nb_number(nb, 1)));
    assert_true(nb_has_failed(bad));
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.status, NB_INVALID);
    assert_string_equal(s.message, "matmul: [2,3] x [4,5]: inner sizes 3 and 4 differ");
    assert_string_equal(nb_error(nb), s.message);
    nb_reshape(a, nb_shape(7)); /* later errors do not replace the first */
    assert_int_equal(s.calls, 1);
    assert_string_equal(nb_error(nb), s.message);
    assert_true(isnan(nb_item(bad)));
    assert_null(nb_data(bad));
    assert_false(nb_eval(nb, nb_list_of(nb, bad)));
    assert_false(nb_run(nb_compile(nb, nb_list_of(nb, bad))));
    nb_error_clear(nb);
    assert_null(nb_error(nb));
    assert_false(nb_run(nb_compile(nb, nb_list_of(nb, bad)))); /* still no good after the clear */
    nb_error_clear(nb);
    assert_true(nb_item(nb_add(scalar(nb, 1), scalar(nb, 2))) == 3);
    nb_close(nb);
}

static void test_messages_name_the_layer(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_scope_push(nb, "block1");
    nb_scope_push(nb, "fc2");
    nb_add(nb_zeros(nb, NB_F32, nb_shape(2)), nb_zeros(nb, NB_F32, nb_shape(3)));
    nb_scope_pop(nb);
    nb_scope_pop(nb);
    expect_error(nb, "layer block1/fc2: add: [2] and [3]");
    nb_add(nb_zeros(nb, NB_F32, nb_shape(2)), nb_zeros(nb, NB_F64, nb_shape(2)));
    expect_error(nb, "nb_cast");
    nb_close(nb);
}

static void test_bad_options(void **state) {
    (void)state;
    nb_context *nb = nb_open(&(nb_options){.kernels = "v9"});
    expect_error(nb, "v9");
    nb_close(nb);
    nb = nb_open(&(nb_options){.threads = -3});
    expect_error(nb, "threads");
    nb_close(nb);
    nb_close(NULL);
}

static void test_refused_shapes(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_zeros(nb, NB_F32, nb_shape(1, 1, 1, 1, 1, 1, 1, 1, 1));
    expect_error(nb, "0 to 8 axes");
    nb_zeros(nb, NB_F32, nb_shape(-1));
    expect_error(nb, "negative");
    nb_zeros(nb, NB_F32, nb_shape(INT64_MAX, INT64_MAX));
    expect_error(nb, "more than this machine");
    nb_zeros(nb, NB_F32, nb_shape(0, INT64_MAX, INT64_MAX));
    expect_error(nb, "more than this machine");
    nb_zeros(nb, NB_BF16, nb_shape(1));
    expect_error(nb, "bf16");
    nb_add(scalar(nb, 1), NULL);
    expect_error(nb, "NULL");
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------------ lifetimes */

static void test_stale_tensors(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL), *other = nb_open(NULL);
    nb_tensor  *old = nb_exp(scalar(nb, 1));
    nb_next_step(nb);
    nb_add(old, scalar(nb, 1));
    expect_error(nb, "exp from an earlier step");
    nb_tensor *here = scalar(nb, 1);
    assert_true(isnan(nb_item(old)));
    nb_error_clear(nb);
    nb_matmul(scalar(other, 1), here);
    expect_error(other, "another context");
    nb_close(nb);
    nb_close(other);
}

static void test_release(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    double      v[] = {1, 2, 3};
    nb_tensor  *p = nb_param(nb, "p", nb_from(nb, NB_F64, nb_shape(3), v));
    nb_program *twice = nb_compile(nb, nb_list_of(nb, nb_mul(p, nb_number(nb, 2))));
    assert_int_equal(nb_kept(nb).n, 1);
    nb_release(p);
    nb_release(p);
    assert_int_equal(nb_kept(nb).n, 0);
    nb_add(p, p);
    expect_error(nb, "nb_release");
    assert_true(nb_run(twice)); /* the program has its storage */
    assert_true(((const double *)nb_data(nb_output(twice, 0)))[2] == 6);
    nb_next_step(nb);
    nb_next_step(nb);
    nb_next_step(nb);
    assert_true(nb_run(twice));
    nb_program_free(twice);
    /* A program outlives the nodes it was made of. */
    nb_tensor  *x = nb_input(nb, "x", NB_F64, nb_shape(3));
    nb_program *square = nb_compile(nb, nb_list_of(nb, nb_square(x)));
    for (int i = 0; i < 3; i++) nb_next_step(nb);
    assert_true(nb_set(x, v, sizeof v));
    assert_true(nb_run(square));
    assert_true(((const double *)nb_data(nb_output(square, 0)))[2] == 9);
    expect_good(nb);
    nb_close(nb);
}

static void test_set(void **state) {
    (void)state;
    nb_context        *nb = nb_open(NULL);
    nb_tensor         *x = nb_input(nb, "pixels", NB_F32, nb_shape(16));
    _Alignas(64) float a[16] = {1}, b[16];
    assert_false(nb_set(x, a, 4));
    expect_error(nb, "pixels is f32 [16], 64 bytes; got 4");
    assert_false(nb_set(nb_exp(x), a, sizeof a));
    expect_error(nb, "not a kept tensor");
    nb_program *sum = nb_compile(nb, nb_list_of(nb, nb_sum(x, nb_axes(), false)));
    assert_true(nb_set_in_place(x, a, sizeof a));
    a[0] = 5; /* borrowed: seen */
    assert_true(nb_run(sum));
    assert_true(nb_item(nb_output(sum, 0)) == 5);
    memcpy(b, a, sizeof b);
    assert_true(nb_set(x, b, sizeof b));
    b[0] = 9; /* copied: not seen */
    assert_true(nb_run(sum));
    assert_true(nb_item(nb_output(sum, 0)) == 5);
    nb_close(nb);
}

typedef struct owned_thing {
    int *log, number;
} owned_thing;

static void log_free(void *object) {
    owned_thing *t = object;
    *t->log = *t->log * 10 + t->number;
}

static void test_own(void **state) {
    (void)state;
    int         log = 0;
    nb_context *nb = nb_open(NULL);
    owned_thing t[] = {{&log, 1}, {&log, 2}, {&log, 3}};
    for (int i = 0; i < 3; i++) assert_true(nb_own(nb, &t[i], log_free));
    nb_disown(nb, &t[1]);
    nb_close(nb);
    assert_int_equal(log, 31); /* latest first */
}

/* -------------------------------------------------------------------------------------------------------- sizes at the limits */

static void test_million_nodes(void **state) {
    (void)state;
#ifdef NB_CHECK_BUILD
    enum { N = 100000 }; /* sanitizers need several times the memory */
#else
    enum { N = 1000000 };
#endif
    nb_context *nb = nb_open(NULL);
    double      v = 0.5;
    nb_tensor  *x = nb_from(nb, NB_F64, nb_shape(), &v), *y = x;
    for (int i = 0; i < N; i++) y = i % 2 ? nb_neg(y) : nb_sin(y);
    nb_tensor *g = nb_grads(y, NULL, nb_list_of(nb, x)).at[0];
    assert_true(nb_eval(nb, nb_list_of(nb, y, g)));
    double value = nb_item(y), slope = nb_item(g), want = v, want_slope = 1;
    for (int i = 0; i < N; i++) {
        want_slope *= i % 2 ? -1 : cos(want);
        want = i % 2 ? -want : sin(want);
    }
    assert_true(fabs(value - want) < 1e-12);
    assert_true(fabs(slope - want_slope) < 1e-12 && slope != 0);
    nb_close(nb);
}

static void test_no_elements(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(0, 3)), *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(4, 3)));
    nb_tensor  *y = nb_relu(nb_linear(x, w, NULL)), *loss = nb_sum(nb_square(y), nb_axes(), false);
    nb_program *p =
        nb_compile(nb, nb_list_of(nb, loss, nb_grads(loss, NULL, nb_list_of(nb, w)).at[0], y, nb_mean(x, nb_axes(), false)));
    assert_true(nb_run(p));
    assert_true(nb_item(nb_output(p, 0)) == 0);
    const float *g = nb_data(nb_output(p, 1));
    for (int i = 0; i < 12; i++) assert_true(g[i] == 0);
    assert_int_equal(nb_count(nb_output(p, 2)), 0);
    assert_non_null(nb_data(nb_output(p, 2)));
    assert_true(isnan(nb_item(nb_output(p, 3))));
    nb_max(x, nb_axes(0), false);
    expect_error(nb, "max: [0,3] has no elements along axis 0");
    nb_close(nb);
}

static void test_eight_axes(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_reshape(nb_arange(nb, NB_F32, 0, 256, 1), nb_shape(2, 2, 2, 2, 2, 2, 2, 2));
    nb_tensor  *y = nb_sum(nb_permute(x, nb_axes(7, 5, 3, 1, 6, 4, 2, 0)), nb_axes(0, 2, 4, 6), false);
    assert_int_equal(nb_rank(y), 4);
    const float *v = nb_data(y);
    double       sum = 0;
    for (int i = 0; i < 16; i++) sum += (double)v[i];
    assert_true(sum == 255 * 128);
    nb_unsqueeze(x, 0);
    expect_error(nb, "8");
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------- random numbers */

/* torch.manual_seed(s); torch.empty(700, dtype=torch.int32).random_(): the first two and the last one. */
static void test_twister(void **state) {
    (void)state;
    static const struct {
        uint64_t seed;
        uint32_t first, second, last;
    } torch[] = {{0, 209652396, 398764591, 747805126},
                 {1, 1791095845, 2135392491, 366615029},
                 {42, 1608637542, 1273642419, 1861594770},
                 {4294967295u, 419326371, 479346978, 1315897766},
                 {1099511627783u, 327741615, 976413892, 45329313}};
    nb_context *nb = nb_open(NULL);
    for (size_t k = 0; k < sizeof torch / sizeof *torch; k++) {
        nb_seed(nb, torch[k].seed);
        uint32_t bits[700];
        for (int i = 0; i < 700; i++) bits[i] = nb_random_bits(nb) % 2147483648u;
        assert_int_equal(bits[0], torch[k].first);
        assert_int_equal(bits[1], torch[k].second);
        assert_int_equal(bits[699], torch[k].last);
    }
    nb_close(nb);
}

static void draw(uint64_t seed, uint64_t step, int threads, float *out, int n) {
    nb_context *nb = nb_open(&(nb_options){.seed = seed, .threads = threads});
    nb_set_random(nb, (nb_random_state){seed, step});
    assert_true(nb_read(nb_normal(nb, NB_F32, nb_shape(n), 0, 1), out, (size_t)n * sizeof *out));
    nb_close(nb);
}

static void test_random_operators_repeat(void **state) {
    (void)state;
    enum { N = 100000 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    draw(7, 3, 1, a, N);
    draw(7, 3, 2, b, N);
    assert_memory_equal(a, b, N * sizeof *a);
    draw(7, 4, 1, b, N);
    assert_memory_not_equal(a, b, N * sizeof *a);
    draw(8, 3, 1, b, N);
    assert_memory_not_equal(a, b, N * sizeof *a);
    double mean = 0, square = 0;
    for (int i = 0; i < N; i++) mean += (double)a[i] / N, square += (double)a[i] * (double)a[i] / N;
    assert_true(fabs(mean) < 0.02 && fabs(square - 1) < 0.03);
    free(a);
    free(b);
}

static void test_random_state(void **state) {
    (void)state;
    nb_context *nb = nb_open(&(nb_options){.seed = 5});
    nb_program *p =
        nb_compile(nb, nb_list_of(nb, nb_uniform(nb, NB_F64, nb_shape(), 0, 1), nb_uniform(nb, NB_F64, nb_shape(), 0, 1)));
    nb_random_state start = nb_get_random(nb);
    double          first[3], again[3];
    for (int i = 0; i < 3; i++) assert_true(nb_run(p)), first[i] = nb_item(nb_output(p, 0));
    assert_true(nb_item(nb_output(p, 0)) != nb_item(nb_output(p, 1))); /* two nodes: two streams */
    assert_true(first[0] != first[1] && first[1] != first[2]);
    nb_set_random(nb, start);
    for (int i = 0; i < 3; i++) assert_true(nb_run(p)), again[i] = nb_item(nb_output(p, 0));
    assert_memory_equal(first, again, sizeof first);
    nb_close(nb);
}

/* ---------------------------------------------------------------------------------------------------------------- allocations */

typedef struct counter {
    int64_t allocations, live;
} counter;

static void *counting_alloc(void *user, size_t size) {
    counter *c = user;
    c->allocations++;
    c->live++;
    return malloc(size);
}

static void counting_free(void *user, void *pointer) {
    if (pointer) ((counter *)user)->live--;
    free(pointer);
}

/* A steady loop allocates nothing, whether it runs a program or builds a graph anew each step. */
static void test_steady_loops(void **state) {
    (void)state;
    counter      c = {0};
    nb_allocator counting = {counting_alloc, counting_free, &c};
    nb_context  *nb = nb_open(&(nb_options){.allocator = &counting});
    nb_tensor   *x = nb_input(nb, "x", NB_F32, nb_shape(8, 4)), *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(3, 4)));
    nb_tensor   *loss = nb_mean(nb_square(nb_tanh(nb_linear(x, w, NULL))), nb_axes(), false);
    nb_tensor   *g = nb_grads(loss, NULL, nb_list_of(nb, w)).at[0];
    nb_program  *p = nb_compile(nb, nb_list_of(nb, loss, nb_assign(w, nb_sub(w, nb_mul(g, nb_number(nb, 0.1))))));
    assert_true(nb_run(p));
    int64_t before = c.allocations;
    for (int i = 0; i < 50; i++) assert_true(nb_run(p));
    assert_int_equal(c.allocations, before);
    for (int i = 0; i < 60; i++) {
        if (i == 10) before = c.allocations;
        loss = nb_mean(nb_square(nb_tanh(nb_linear(x, w, NULL))), nb_axes(), false);
        assert_false(isnan(nb_item(loss)));
        assert_false(isnan(nb_item(nb_sum(nb_grads(loss, NULL, nb_list_of(nb, w)).at[0], nb_axes(), false))));
        nb_next_step(nb);
    }
    assert_int_equal(c.allocations, before);
    nb_close(nb);
    assert_int_equal(c.live, 0);
}

/* ------------------------------------------------------------------------------------------------------------------- contexts */

static double train_a_little(nb_pool *pool) {
    nb_context *nb = nb_open(&(nb_options){.seed = 1, .pool = pool});
    nb_net     *net = nb_net_parse(nb, "linear 16, relu, linear 3", nb_shape(5));
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(32, 5)), *y = nb_input(nb, "y", NB_I64, nb_shape(32));
    nb_tensor  *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_program *p = nb_compile(nb, nb_update(nb_adam(nb_net_parameters(net), 0.01, NULL), loss));
    float       data[160];
    int64_t     label[32];
    uint64_t    seed = 3;
    for (int i = 0; i < 160; i++) data[i] = (float)next_real(&seed);
    for (int i = 0; i < 32; i++) label[i] = i % 3;
    bool good = nb_set(x, data, sizeof data) && nb_set(y, label, sizeof label);
    for (int i = 0; i < 100 && good; i++) good = nb_run(p);
    double last = good ? nb_item(nb_output(p, 0)) : NAN;
    nb_close(nb);
    return last;
}

static void *train_in_thread(void *result) {
    for (int i = 0; i < 5; i++) *(double *)result = train_a_little(NULL);
    return NULL;
}

static void test_contexts_in_threads(void **state) {
    (void)state;
    pthread_t thread[4];
    double    result[4], want = train_a_little(NULL);
    assert_true(want > 0 && want < 1.1);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, train_in_thread, &result[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 4; i++) assert_true(result[i] == want);
}

static void test_shared_pool(void **state) {
    (void)state;
    nb_pool *pool = nb_pool_new(3);
    assert_non_null(pool);
    double a = train_a_little(pool), b = train_a_little(pool);
    nb_pool_free(pool);
    assert_true(a == b && a == train_a_little(NULL));
}

/* --------------------------------------------------------------------------------------------------- one net, several threads */

static const char small_net[] =
    "conv 4 3 pad=1, batchnorm, relu, maxpool 2, dropout 0.5, flatten, linear 16, tanh, linear 3, softmax";

typedef struct caller {
    nb_context *nb;
    nb_tensor  *x;
    nb_program *p;
    int         number;
    bool        good;
} caller;

enum { CALLERS = 3, CALLS = 40 };

/* A batch that depends on caller and call. */
static void fill_batch(nb_tensor *x, int number, int call) {
    float    data[2 * 36];
    uint64_t seed = (uint64_t)(number * 1000 + call);
    for (int i = 0; i < 72; i++) data[i] = (float)(2 * next_real(&seed) - 1);
    nb_set(x, data, sizeof data);
}

static void *call_often(void *arg) {
    caller *c = arg;
    c->good = true;
    for (int i = 0; i < CALLS && c->good; i++) {
        fill_batch(c->x, c->number, i);
        c->good = nb_run(c->p);
    }
    return NULL;
}

static void test_program_in_threads(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, small_net, nb_shape(1, 6, 6));
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(2, 1, 6, 6));
    caller      c[CALLERS] = {{.nb = nb, .x = x, .p = nb_compile(nb, nb_list_of(nb, nb_net_apply(net, x, NB_EVAL)))}};
    pthread_t   thread[CALLERS];
    assert_true(nb_run(c[0].p));
    for (int i = 1; i < CALLERS; i++) {
        c[i] = (caller){.nb = nb_open(&(nb_options){.threads = i}), .number = i};
        c[i].x = nb_input(c[i].nb, "x", NB_F32, nb_shape(2, 1, 6, 6));
        c[i].p = nb_program_share(c[i].nb, c[0].p, nb_list_of(nb, x), nb_list_of(c[i].nb, c[i].x));
        expect_good(c[i].nb);
    }
    for (int i = 0; i < CALLERS; i++) assert_int_equal(pthread_create(&thread[i], NULL, call_often, &c[i]), 0);
    for (int i = 0; i < CALLERS; i++) pthread_join(thread[i], NULL);
    float want[6];
    for (int i = 1; i < CALLERS; i++) { /* the first one computes what the others must have */
        float got[6];
        assert_true(c[0].good && c[i].good && nb_read(nb_output(c[i].p, 0), got, sizeof got));
        fill_batch(x, i, CALLS - 1);
        assert_true(nb_run(c[0].p) && nb_read(nb_output(c[0].p, 0), want, sizeof want));
        assert_memory_equal(got, want, sizeof got);
    }
    nb_context *other = c[1].nb;
    nb_tensor  *w = nb_net_parameters(net).at[0], *small = nb_input(other, "x", NB_F32, nb_shape(3));
    nb_program *step = nb_compile(nb, nb_list_of(nb, nb_assign(w, nb_mul(w, nb_number(nb, 2)))));
    nb_program_share(other, step, nb_list_of(nb, w), nb_list_of(other, c[1].x));
    expect_error(other, "changes kept tensors");
    nb_program_share(other, c[0].p, nb_list_of(nb, x), nb_list_of(other, small));
    expect_error(other, "is f32 [2,1,6,6], its own f32 [3]");
    nb_program_share(other, c[0].p, nb_list_of(nb, x), nb_list_of(other, x));
    expect_error(other, "no kept tensor of this context");
    assert_false(nb_run(nb_program_share(other, NULL, nb_list_of(nb, x), nb_list_of(other, c[1].x))));
    expect_error(other, "did not compile");
    for (int i = CALLERS; i-- > 0;) nb_close(c[i].nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_stick),
        cmocka_unit_test(test_messages_name_the_layer),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_refused_shapes),
        cmocka_unit_test(test_stale_tensors),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_million_nodes),
        cmocka_unit_test(test_no_elements),
        cmocka_unit_test(test_eight_axes),
        cmocka_unit_test(test_twister),
        cmocka_unit_test(test_random_operators_repeat),
        cmocka_unit_test(test_random_state),
        cmocka_unit_test(test_steady_loops),
        cmocka_unit_test(test_contexts_in_threads),
        cmocka_unit_test(test_shared_pool),
        cmocka_unit_test(test_program_in_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
