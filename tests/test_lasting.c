/* test_lasting.c: what is made of parameters alone is computed when one of them was written, however that was done, and at no
 * other time. */
#include "test.h"

#include "core.h"
#include "nabla/data.h"
#include "nabla/nn.h"

enum { N = 6, CLASSES = 5 };
static const char without[] = "simplify,algebra,blocks,layout,fuse,memory";

/* A net at rest, as a program with what lasts and as one without. */
typedef struct twins {
    nb_context *nb;
    nb_net     *net;
    nb_tensor  *x;
    nb_program *p, *q;
} twins;

static void fill(nb_tensor *t, uint64_t draw, double least, double most) {
    int64_t n = nb_count(t);
    float  *v = malloc((size_t)n * sizeof *v + 1);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = (float)(least + (most - least) * next_real(&draw));
    assert_true(nb_set(t, v, nb_bytes(t)));
    free(v);
}

static nb_program *compile(nb_context *nb, nb_list roots, const char *passes) {
    nb_program *p = nb_compile_with(nb, roots, &(nb_compile_options){.passes = passes});
    expect_good(nb);
    return p;
}

static twins open_twins(int threads, int64_t items, int block_items) {
    twins t = {.nb = nb_open(&(nb_options){.seed = 4, .threads = threads})};
    t.nb->block_items = block_items;
    t.net = nb_net_parse(t.nb, "conv 8 3 pad=1, batchnorm, relu, maxpool 2, conv 12 3 pad=1, batchnorm, relu, flatten, linear 5",
                         nb_shape(3, 8, 8));
    expect_good(t.nb);
    nb_list state = nb_net_state(t.net);
    for (int i = 0; i < state.n; i++)
        if (nb_dtype_of(state.at[i]) == NB_F32) fill(state.at[i], 20 + (uint64_t)i, 0.2, 0.6);
    t.x = nb_input(t.nb, "x", NB_F32, nb_shape(items, 3, 8, 8));
    fill(t.x, 3, -1, 1);
    nb_list roots = nb_list_of(t.nb, nb_net_apply(t.net, t.x, NB_EVAL));
    t.p = compile(t.nb, roots, "all");
    t.q = compile(t.nb, roots, without);
    return t;
}

static void same_root(nb_program *p, nb_program *q, int root) {
    const float *x = nb_data(nb_output(p, root)), *y = nb_data(nb_output(q, root));
    double       scale = 0;
    for (int64_t i = 0; i < nb_count(nb_output(q, root)); i++) scale = fmax(scale, fabs((double)y[i]));
    for (int64_t i = 0; i < nb_count(nb_output(q, root)); i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= 2e-5 * scale))
            fail_msg("element %d: %g, computed in each run %g", (int)i, x[i], y[i]);
}

static void same(nb_program *p, nb_program *q) { same_root(p, q, 0); }

/* How many lasting calls there are, and how many of them the last profiled runs ran. */
static int count_lasting(nb_program *p, int64_t *ran) {
    int n = 0;
    *ran = 0;
    for (int i = 0; i < nb_program_describe(p).calls; i++) {
        nb_call_info c = nb_program_call(p, i);
        assert_true(c.is_lasting || c.runs == nb_program_describe(p).runs);
        n += c.is_lasting;
        if (c.is_lasting) *ran += c.runs;
    }
    return n;
}

/* Runs once. How many lasting calls ran. */
static int64_t run(nb_program *p) {
    int64_t ran;
    assert_true(nb_program_profile(p, true));
    assert_true(nb_run(p));
    count_lasting(p, &ran);
    return ran;
}

static int64_t run_twins(const twins *t) {
    int64_t ran = run(t->p);
    assert_int_equal(run(t->q), 0);
    same(t->p, t->q);
    assert_int_equal(run(t->p), 0); /* nothing was written */
    same(t->p, t->q);
    return ran;
}

static nb_tensor *named(const twins *t, const char *name) {
    nb_list state = nb_net_state(t->net);
    for (int i = 0; i < state.n; i++)
        if (!strcmp(nb_name(state.at[i]), name)) return state.at[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void save_and_load(const twins *t, bool load) {
    const char *path = "build/test_lasting.safetensors";
    if (!load) {
        assert_true(nb_save(t->nb, path, nb_net_state(t->net), 0, NULL));
        return;
    }
    nb_file *f = nb_file_open(t->nb, path);
    assert_true(nb_file_load(f, nb_net_state(t->net)));
    nb_file_close(f);
    remove(path);
}

static void test_ways_of_writing(void **unused) {
    (void)unused;
    for (int threads = 1; threads <= 2; threads++) {
        static _Alignas(64) float other[8 * 3 * 9];
        int64_t                   ran;
        twins                     t = open_twins(threads, N, 0);
        int                       all = count_lasting(t.p, &ran);
        uint64_t                  draw = 8;
        assert_true(all >= 4 && count_lasting(t.q, &ran) == 0);
        assert_int_equal(run_twins(&t), all);
        save_and_load(&t, false);
        fill(named(&t, "0.weight"), 77, -1, 1); /* the first weights with their scale, and nothing else */
        assert_int_equal(run_twins(&t), 1);
        fill(named(&t, "5.weight"), 78, -1, 1); /* a norm's: scale, shift, weights */
        ran = run_twins(&t);
        assert_true(ran > 1 && ran < all);
        fill(t.x, 79, -1, 1);
        assert_int_equal(run_twins(&t), 0);
        nb_tensor  *w = named(&t, "1.running_var");
        nb_program *assign = compile(t.nb, nb_list_of(t.nb, nb_assign(w, nb_mul(w, nb_number(t.nb, 1.5)))), "all");
        assert_true(nb_run(assign));
        assert_true(run_twins(&t) > 1);
        for (size_t i = 0; i < sizeof other / sizeof *other; i++) other[i] = (float)next_real(&draw);
        assert_true(nb_set_in_place(named(&t, "0.weight"), other, sizeof other)); /* for one run */
        assert_int_equal(run(t.p), 1);
        assert_true(nb_set_in_place(named(&t, "0.weight"), other, sizeof other));
        assert_int_equal(run(t.q), 0);
        same(t.p, t.q);
        assert_int_equal(run_twins(&t), 1);
        save_and_load(&t, true);
        assert_int_equal(run_twins(&t), all);
        nb_tensor  *y = nb_input(t.nb, "y", NB_I64, nb_shape(N));
        nb_tensor  *loss = nb_cross_entropy(nb_net_apply(t.net, t.x, NB_TRAIN), y, NULL);
        nb_program *step = nb_compile(t.nb, nb_update(nb_sgd(nb_net_parameters(t.net), 0.1, NULL), loss));
        expect_good(t.nb);
        for (int i = 0; i < 2; i++) {
            assert_true(nb_run(step));
            assert_int_equal(run_twins(&t), all);
        }
        nb_close(t.nb);
    }
}

/* Not block by block, and each context of a shared program for itself. */
static void test_blocks_and_contexts(void **unused) {
    (void)unused;
    twins       t = open_twins(1, 100, 7);
    int64_t     ran;
    int         all = count_lasting(t.p, &ran);
    nb_context *other = nb_open(&(nb_options){.threads = 2});
    nb_tensor  *own = nb_input(other, "x", NB_F32, nb_shape(100, 3, 8, 8));
    nb_program *r = nb_program_share(other, t.p, nb_list_of(t.nb, t.x), nb_list_of(other, own));
    expect_good(other);
    fill(own, 3, -1, 1);
    assert_true(nb_program_describe(t.p).blocks > 10);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(t.p), all);
        assert_int_equal(run(r), all);
        assert_int_equal(run(r), 0);
        assert_int_equal(run_twins(&t), 0);
        same(r, t.q);
        nb_list state = nb_net_state(t.net);
        for (int k = 0; k < state.n; k++)
            if (nb_dtype_of(state.at[k]) == NB_F32) fill(state.at[k], 50 + (uint64_t)k, 0.1, 0.7);
    }
    /* A parameter that the other context has its own of, and may write as an input. */
    nb_tensor  *w = named(&t, "1.weight"), *mine = nb_input(other, "w", NB_F32, nb_shape(8));
    nb_program *s = nb_program_share(other, t.p, nb_list_of(t.nb, t.x, w), nb_list_of(other, own, mine));
    expect_good(other);
    for (int i = 0; i < 3; i++) {
        fill(w, (uint64_t)i, 0.5, 1);
        fill(mine, (uint64_t)i, 0.5, 1);
        assert_true(run(s) > 0 && run(t.q) == 0);
        same(s, t.q);
    }
    nb_close(other);
    nb_close(t.nb);
}

/* A bad index or a NaN among what lasts fails the run, and each run until it is mended. */
static void test_failures(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(2, 3)), *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(3, 4)));
    nb_tensor  *index = nb_param(nb, "index", nb_zeros(nb, NB_I64, nb_shape(3)));
    nb_tensor  *u = nb_index_select(nb_watch(nb_exp(w)), 0, index);
    nb_program *p = nb_compile_with(nb, nb_list_of(nb, nb_matmul(x, u)), &(nb_compile_options){.check_finite = true});
    fill(x, 1, 0, 1);
    const int64_t good[3] = {2, 1, 0}, bad[3] = {0, 3, 0};
    assert_true(nb_set(index, good, sizeof good) && nb_run(p));
    assert_true(nb_set(index, bad, sizeof bad));
    for (int i = 0; i < 2; i++) {
        assert_false(nb_run(p));
        expect_error(nb, "3");
    }
    assert_true(nb_set(index, good, sizeof good) && nb_run(p));
    const float large[12] = {0, 1000};
    assert_true(nb_set(w, large, sizeof large));
    for (int i = 0; i < 2; i++) {
        assert_false(nb_run(p));
        expect_error(nb, "exp");
    }
    fill(w, 5, 0, 1);
    assert_true(nb_run(p));
    nb_close(nb);
}

static int lasting_of(nb_context *nb, nb_list roots) {
    int64_t ran;
    return count_lasting(compile(nb, roots, "all"), &ran);
}

/* What lasts and what does not. */
static void test_what_lasts(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 8)), *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(8, 8)));
    nb_tensor  *u = nb_param(nb, "u", nb_ones(nb, NB_F32, nb_shape(8, 8))),
              *v = nb_param(nb, "v", nb_ones(nb, NB_F32, nb_shape(8)));
    nb_tensor *e = nb_exp(w);
    fill(x, 2, 0, 1);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, nb_matmul(e, u)))), 2);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, nb_reshape(nb_transpose(e, 0, 1), nb_shape(8, 8))))), 1);
    /* Results, in programs that write what it is made of, of random numbers, and where nothing else happens. */
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, e), e)), 0);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, e), nb_assign(w, u))), 0);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, nb_dropout(w, nb_number(nb, 0.5))))), 0);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(u, e))), 0);
    /* What a region makes along with the rest, or makes larger than it was. */
    assert_int_equal(
        lasting_of(nb, nb_list_of(nb, nb_mul(nb_slice(w, 0, 0, 4, 1), nb_exp(nb_add(x, nb_exp(nb_slice(u, 0, 0, 4, 1))))))), 0);
    assert_int_equal(lasting_of(nb, nb_list_of(nb, nb_matmul(x, nb_mul(nb_reshape(v, nb_shape(8, 1)), v)))), 0);
    nb_close(nb);
}

/* Joined with its like; joined with what changes in each run: then it is copied there; read by a region of each run too: then it
 * is not that one's. */
static void test_places(void **unused) {
    (void)unused;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 8)), *w = nb_param(nb, "w", nb_ones(nb, NB_F32, nb_shape(8, 8)));
    nb_tensor  *u = nb_param(nb, "u", nb_ones(nb, NB_F32, nb_shape(8, 8))), *z = nb_input(nb, "z", NB_F32, nb_shape(8, 8));
    nb_tensor  *e = nb_exp(w), *s = nb_exp(u), *both = nb_concat(nb_list_of(nb, e, nb_sin(u)), 0);
    nb_tensor  *mixed = nb_concat(nb_list_of(nb, e, nb_sin(x)), 0), *wide = nb_concat(nb_list_of(nb, x, nb_cos(x)), 1);
    nb_tensor  *read_twice = nb_add(nb_matmul(x, nb_mul(z, s)), nb_matmul(x, nb_sin(s)));
    nb_list     roots = nb_list_of(nb, nb_matmul(wide, both), nb_matmul(x, nb_transpose(mixed, 0, 1)), read_twice);
    fill(x, 2, 0, 1);
    fill(z, 3, 0, 1);
    nb_program *p = compile(nb, roots, "all"), *q = compile(nb, roots, without);
    int64_t     inside = 0;
    for (int i = 0; i < nb_program_describe(p).buffers; i++) {
        nb_buffer_info b = nb_program_buffer(p, i);
        if (b.place == NB_IN_LASTING) inside += b.bytes;
    }
    assert_int_equal(inside, (16 * 8 + 2 * 8 * 8) * sizeof(float));
    assert_true(nb_program_describe(p).lasting_bytes >= inside);
    for (int i = 0; i < 3; i++) {
        int64_t ran = run(p);
        assert_true(nb_run(q) && ran == (i == 0 ? 4 : 3));
        for (int k = 0; k < roots.n; k++) same_root(p, q, k);
        fill(u, (uint64_t)i, 0, 1);
    }
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ways_of_writing), cmocka_unit_test(test_blocks_and_contexts),
                                       cmocka_unit_test(test_failures), cmocka_unit_test(test_what_lasts),
                                       cmocka_unit_test(test_places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
