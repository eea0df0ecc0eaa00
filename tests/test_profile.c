/* Looking at compiled programs: what the machine can do, what each call is and takes, where the memory is. */
#include "test.h"

static void test_machine(void **state) {
    (void)state;
    const char *const kernels[] = {"reference", "baseline", NULL};
    for (int i = 0; i < 3; i++) {
        nb_context *nb = nb_open(&(nb_options){.threads = 2, .kernels = kernels[i]});
        nb_machine  m = nb_measure_machine(nb);
        expect_good(nb);
        assert_true(m.gflops > 0.1 && m.gflops < 1e6);
        assert_true(m.gbytes > 0.01 && m.gbytes < 1e5);
        nb_close(nb);
    }
}

/* A small net with a loss: x [8,4] -> linear 16, relu, linear 3. */
static nb_program *small_step(nb_context *nb, const nb_compile_options *options) {
    nb_net    *net = nb_net_parse(nb, "linear 16, relu, linear 3", nb_shape(4));
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(8, 4)), *y = nb_input(nb, "y", NB_I64, nb_shape(8));
    nb_tensor *loss = nb_set_name(nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL), "loss");
    return nb_compile_with(nb, nb_update(nb_adam(nb_net_parameters(net), 0.01, NULL), loss), options);
}

static int find_call(nb_program *p, const char *operator, const char *layer) {
    int n = nb_program_describe(p).calls;
    for (int i = 0; i < n; i++) {
        nb_call_info c = nb_program_call(p, i);
        if (strstr(c.operators, operator) && strstr(c.layers, layer)) return i;
    }
    fail_msg("no call of %s in layer %s", operator, layer);
    return -1;
}

static nb_buffer_info find_buffer(nb_program *p, const char *name) {
    int n = nb_program_describe(p).buffers;
    for (int i = 0; i < n; i++)
        if (!strcmp(nb_program_buffer(p, i).name, name)) return nb_program_buffer(p, i);
    fail_msg("no buffer %s", name);
    return (nb_buffer_info){0};
}

/* The first product: its operands, result, arithmetic, traffic. Everything that is told agrees with everything else. */
static void test_calls(void **state) {
    (void)state;
    nb_context     *nb = nb_open(NULL);
    nb_program     *p = small_step(nb, NULL);
    nb_program_info info = nb_program_describe(p);
    nb_call_info    c = nb_program_call(p, find_call(p, "matmul", "0"));
    assert_true(info.calls > 5 && info.buffers > 10);
    assert_string_equal(c.groups, "linear");
    assert_true(c.flops == 2 * 8 * 4 * 16);
    assert_true(c.bytes_read == (8 * 4 + 4 * 16) * 4 && c.bytes_written == 8 * 16 * 4);
    assert_false(c.is_backward || c.is_late || c.is_reference);
    assert_int_equal(c.n_reads, 2);
    assert_int_equal(c.n_writes, 1);
    assert_string_equal(nb_program_buffer(p, c.reads[0]).name, "x");
    assert_string_equal(nb_program_buffer(p, c.reads[1]).name, "0.weight");
    nb_buffer_info weight = find_buffer(p, "0.weight"), loss = find_buffer(p, "loss");
    assert_int_equal(weight.place, NB_IN_KEPT);
    assert_string_equal(nb_name(weight.kept), "0.weight");
    assert_int_equal(weight.bytes, 16 * 4 * 4);
    assert_int_equal(loss.place, NB_IN_OUTPUT);
    assert_int_equal(loss.bytes, 4);
    int64_t kept = 0, inside = 0, outputs = 0;
    double  flops = 0;
    bool    is_late = false;
    for (int i = 0; i < info.calls; i++) {
        nb_call_info k = nb_program_call(p, i);
        assert_true(k.is_late || !is_late); /* late calls come last */
        is_late = k.is_late;
        if (strstr(k.operators, "matmul")) flops += k.flops;
        for (int r = 0; r < k.n_reads; r++) {
            nb_buffer_info b = nb_program_buffer(p, k.reads[r]);
            assert_true(b.first <= i && b.last >= i);
        }
        for (int w = 0; w < k.n_writes; w++) {
            nb_buffer_info b = nb_program_buffer(p, k.writes[w]);
            assert_true(b.first <= i && b.last >= i);
            assert_true(b.place != NB_IN_KEPT || k.is_late);
        }
    }
    assert_true(is_late);
    assert_true(flops == info.flops);
    for (int i = 0; i < info.buffers; i++) {
        nb_buffer_info b = nb_program_buffer(p, i);
        if (b.place == NB_IN_KEPT) kept += b.bytes;
        if (b.place == NB_IN_OUTPUT) outputs += b.bytes;
        if (b.place == NB_IN_WORKSPACE) {
            inside += b.bytes;
            assert_true(b.at + b.bytes <= info.workspace_bytes - info.scratch_bytes);
        }
    }
    assert_true(kept == info.kept_bytes && outputs == info.output_bytes);
    assert_true(inside <= info.unplanned_bytes && info.workspace_bytes <= info.unplanned_bytes + info.scratch_bytes + 64);
    nb_program_call(p, info.calls);
    expect_error(nb, "nb_program_call: the program has");
    nb_program_buffer(p, -1);
    expect_error(nb, "there is no buffer -1");
    nb_close(nb);
}

/* Two buffers of the workspace that live at one time never share bytes, but for one that is written over the other in place. */
static void test_lifetimes(void **state) {
    (void)state;
    nb_context     *nb = nb_open(NULL);
    nb_program     *p = small_step(nb, &(nb_compile_options){.check_finite = true});
    nb_program_info info = nb_program_describe(p);
    for (int i = 0; i < info.buffers; i++)
        for (int j = 0; j < i; j++) {
            nb_buffer_info a = nb_program_buffer(p, i), b = nb_program_buffer(p, j);
            if (a.place != NB_IN_WORKSPACE || b.place != NB_IN_WORKSPACE) continue;
            bool meet = a.first <= b.last && b.first <= a.last, share = a.at < b.at + b.bytes && b.at < a.at + a.bytes;
            if (meet && share && !(a.at == b.at && (a.first == b.last || b.first == a.last)))
                fail_msg("%s (%d to %d) and %s (%d to %d) share bytes", a.name, a.first, a.last, b.name, b.first, b.last);
        }
    nb_close(nb);
}

static void test_time(void **state) {
    (void)state;
    nb_context     *nb = nb_open(NULL);
    nb_program     *p = small_step(nb, NULL);
    nb_program_info info;
    assert_true(nb_run(p)); /* not timed */
    assert_null(nb_draw_profile(p, NULL, 0));
    expect_error(nb, "no run was timed");
    assert_true(nb_program_profile(p, true));
    for (int i = 0; i < 5; i++) assert_true(nb_run(p));
    assert_true(nb_program_profile(p, false));
    assert_true(nb_run(p)); /* not timed */
    info = nb_program_describe(p);
    assert_int_equal(info.runs, 5);
    double sum = 0;
    for (int i = 0; i < info.calls; i++) {
        double seconds = nb_program_call(p, i).seconds;
        assert_true(seconds > 0 && seconds < 10);
        sum += seconds;
    }
    assert_true(sum <= info.seconds * (1 + 1e-9));
    char *table = nb_draw_profile(p, &(nb_machine){100, 10}, 3);
    expect_good(nb);
    assert_non_null(strstr(table, "layers and operators"));
    assert_non_null(strstr(table, "mean of 5"));
    assert_non_null(strstr(table, "100.0 GFLOP/s or 10.0 GB/s"));
    nb_free(nb, table);
    assert_true(nb_program_profile(p, true)); /* from zero */
    assert_int_equal(nb_program_describe(p).runs, 0);
    assert_false(nb_program_profile(NULL, true));
    nb_close(nb);
}

/* Five products in a row of one shape and layer are one line; the calls of all lines are those of the program. */
static void test_alike(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(32, 32))), *x = nb_input(nb, "x", NB_F32, nb_shape(32, 32));
    nb_tensor  *wide = nb_param(nb, "wide", nb_ones(nb, NB_F32, nb_shape(32, 48)));
    for (int i = 0; i < 5; i++) x = nb_tanh(nb_matmul(x, w));
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_matmul(x, wide)));
    assert_true(nb_program_profile(p, true) && nb_run(p));
    char *table = nb_draw_profile(p, NULL, 0);
    expect_good(nb);
    assert_non_null(strstr(table, "     5  matmul                          32x32 "));
    assert_non_null(strstr(table, "     1  matmul                          32x48 "));
    assert_int_equal(nb_program_describe(p).calls, 11);
    assert_non_null(strstr(table, "in 11 calls"));
    nb_free(nb, table);
    table = nb_draw_profile(p, NULL, 1);
    assert_non_null(strstr(table, "more\n"));
    nb_free(nb, table);
    nb_close(nb);
}

/* Plain loops are told apart, and a program that did not compile has nothing to show. */
static void test_reference(void **state) {
    (void)state;
    nb_context *nb = nb_open(&(nb_options){.kernels = "reference"});
    nb_program *p = small_step(nb, NULL);
    assert_true(nb_program_call(p, 0).is_reference);
    assert_string_equal(nb_program_call(p, 0).kernel, "reference");
    assert_true(nb_program_profile(p, true) && nb_run(p));
    char *table = nb_draw_profile(p, NULL, 0);
    assert_non_null(strstr(table, "REFERENCE"));
    nb_free(nb, table);
    nb_program *bad = nb_compile(nb, nb_list_of(nb, nb_failed(nb)));
    nb_error_clear(nb);
    assert_false(nb_program_profile(bad, true));
    assert_int_equal(nb_program_describe(bad).calls, 0);
    assert_null(nb_draw_profile(bad, NULL, 0));
    assert_null(nb_draw_profile(NULL, NULL, 0));
    nb_close(nb);
}

static void test_environment(void **state) {
    (void)state;
    setenv("NABLA_PROFILE", "1", 1);
    nb_context *nb = nb_open(NULL);
    nb_program *p = small_step(nb, NULL);
    assert_true(nb_run(p));
    assert_int_equal(nb_program_describe(p).runs, 1);
    setenv("NABLA_PROFILE", "0", 1);
    p = small_step(nb, NULL);
    assert_true(nb_run(p));
    assert_int_equal(nb_program_describe(p).runs, 0);
    unsetenv("NABLA_PROFILE");
    nb_close(nb);
}

/* Bytes that an allocator has given out, now and at most. */
typedef struct tally {
    size_t live, peak;
    int    calls;
} tally;

static void *count_alloc(void *user, size_t size) {
    tally  *t = user;
    size_t *p = malloc(size + 16);
    if (!p) return NULL;
    *p = size;
    t->live += size;
    t->calls++;
    if (t->live > t->peak) t->peak = t->live;
    return (char *)p + 16;
}

static void count_free(void *user, void *pointer) {
    tally *t = user;
    if (!pointer) return;
    size_t *p = (size_t *)(void *)((char *)pointer - 16);
    t->live -= *p;
    free(p);
}

/* What the plan says before a run is what the allocator sees in the end: workspace and outputs, and little else; and a run takes
 * nothing more. Values are large here, beside the program's own tables. */
static void test_plan(void **state) {
    (void)state;
    tally        t = {0};
    nb_allocator allocator = {count_alloc, count_free, &t};
    nb_context  *nb = nb_open(&(nb_options){.allocator = &allocator});
    nb_net      *net = nb_net_parse(nb, "linear 64, relu, linear 64, tanh, linear 8", nb_shape(64));
    nb_tensor   *x = nb_input(nb, "x", NB_F32, nb_shape(32768, 64)), *y = nb_input(nb, "y", NB_I64, nb_shape(32768));
    nb_tensor   *logits = nb_net_apply(net, x, NB_TRAIN), *loss = nb_cross_entropy(logits, y, NULL);
    nb_list      roots = nb_list_join(nb, nb_list_of(nb, logits), nb_update(nb_adam(nb_net_parameters(net), 0.01, NULL), loss));
    size_t       before = t.live;
    t.peak = 0;
    nb_program *p = nb_compile(nb, roots);
    int         calls = t.calls;
    for (int i = 0; i < 3; i++) assert_true(nb_run(p));
    assert_int_equal(t.calls, calls);
    nb_program_info info = nb_program_describe(p);
    double          plan = (double)(info.workspace_bytes + info.output_bytes), seen = (double)(t.peak - before);
    assert_true(info.output_bytes == 32768 * 8 * 4 + 4);
    assert_true(info.workspace_bytes > 4 << 20 && info.unplanned_bytes > info.workspace_bytes);
    if (seen < plan || seen > 1.05 * plan) fail_msg("planned %.0f bytes, but the allocator saw %.0f", plan, seen);
    assert_true((double)before > (double)info.kept_bytes);
    nb_close(nb);
    assert_int_equal(t.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_machine),   cmocka_unit_test(test_calls),
                                       cmocka_unit_test(test_lifetimes), cmocka_unit_test(test_time),
                                       cmocka_unit_test(test_alike),
                                       cmocka_unit_test(test_reference), cmocka_unit_test(test_environment),
                                       cmocka_unit_test(test_plan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
