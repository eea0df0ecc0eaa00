/* test_faults.c: the n-th allocation fails, for n = 1, 2, 3 ... until all goes through: through building, training, saving and
 * loading of a small net, and through the rest of what a user calls. Once only that allocation, once it and all after it. Each
 * time: an error value (or success where the loss was made up for), no leak, no crash, and a context that can be used again.
 * After SQLite's tests. */
#include <unistd.h>

#include "test.h"

#include "core.h"

typedef struct faulty {
    int64_t calls, fail_at;
    bool    for_ever;
    int64_t live;
} faulty;

static void *faulty_alloc(void *user, size_t size) {
    faulty *f = user;
    int64_t n = __atomic_add_fetch(&f->calls, 1, __ATOMIC_RELAXED); /* the loader's thread allocates too */
    if (f->fail_at && (n == f->fail_at || (f->for_ever && n > f->fail_at))) return NULL;
    void *p = malloc(size);
    if (p) __atomic_add_fetch(&f->live, 1, __ATOMIC_RELAXED);
    return p;
}

static void faulty_free(void *user, void *pointer) {
    faulty *f = user;
    if (pointer) __atomic_sub_fetch(&f->live, 1, __ATOMIC_RELAXED);
    free(pointer);
}

/* ------------------------------------------------------------------------------------------------------------------ scenarios */

/* Each returns true when all went well, false when the context failed. */
typedef bool scenario(nb_context *nb, const char *path);

static void fill(nb_tensor *x, nb_tensor *y) {
    float    data[8 * 36];
    int64_t  label[8];
    uint64_t seed = 5;
    for (int i = 0; i < 8 * 36; i++) data[i] = (float)next_real(&seed);
    for (int i = 0; i < 8; i++) label[i] = i % 3;
    nb_set(x, data, sizeof data);
    nb_set(y, label, sizeof label);
}

/* What a step is compiled from, so that a compilation that fails can be seen to have changed nothing. */
static struct {
    int  kept;
    bool has_run;
    char digest[65];
} before;

/* The kept tensors as they are when a step is about to be compiled: all are made. */
static void remember(nb_context *nb) {
    before.has_run = false;
    if (nb_error(nb) || before.kept) return;
    before.kept = nb_kept(nb).n;
    nb_digest(nb_kept(nb), before.digest);
}

/* Kept tensors after a failure, when all had been made and no step was run. */
static bool expect_unchanged(nb_context *nb) {
    char digest[65];
    if (!before.kept || before.has_run || nb_kept(nb).n != before.kept) return false;
    assert_true(nb_digest(nb_kept(nb), digest));
    if (strcmp(digest, before.digest)) fail_msg("a compilation that failed changed a kept tensor");
    return true;
}

static bool train_a_net(nb_context *nb, const char *path) {
    (void)path;
    nb_net *net =
        nb_net_parse(nb, "conv 2 3 pad=1, batchnorm, relu, maxpool 2, dropout 0.2, flatten, linear 3", nb_shape(1, 6, 6));
    nb_tensor    *x = nb_input(nb, "x", NB_F32, nb_shape(8, 1, 6, 6)), *y = nb_input(nb, "y", NB_I64, nb_shape(8));
    nb_tensor    *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_optimizer *adam = nb_adam(nb_net_parameters(net), 0.01, NULL);
    nb_optimizer_clip_norm(adam, 1);
    nb_list step = nb_list_join(nb, nb_list_of(nb, loss), nb_update(adam, loss));
    fill(x, y);
    remember(nb);
    nb_program *p = nb_compile_with(nb, step, &(nb_compile_options){.check_finite = true});
    bool        good = true;
    for (int i = 0; i < 3 && good; i++) good = before.has_run = nb_run(p);
    nb_program_free(p);
    if (good) nb_net_free(net); /* else its tensors are looked at */
    return good && !nb_error(nb);
}

static bool train_on_text(nb_context *nb, const char *path) {
    (void)path;
    int64_t words[8] = {0, 1, 2, 3, 4, 3, 2, 1};
    nb_net *net =
        nb_net_parse(nb, "embedding 5 4, positions, repeat 2 (transformer 2 hidden=3 causal=yes), lstm 3, linear 5", nb_shape(4));
    nb_tensor    *x = nb_input(nb, "x", NB_I64, nb_shape(2, 4)), *y = nb_input(nb, "y", NB_I64, nb_shape(8));
    nb_tensor    *loss = nb_cross_entropy(nb_reshape(nb_net_apply(net, x, NB_TRAIN), nb_shape(8, 5)), y, NULL);
    nb_optimizer *adam = nb_adamw(nb_net_parameters(net), 0.01, NULL);
    nb_list       step = nb_update(adam, loss);
    bool          good = nb_set(x, words, sizeof words) && nb_set(y, words, sizeof words);
    remember(nb);
    nb_program *p = nb_compile(nb, step);
    good = good && (before.has_run = nb_run(p));
    nb_program_free(p);
    if (good) nb_net_free(net); /* else its tensors are looked at */
    return good && !nb_error(nb);
}

/* Convolutions by products and by tiles of 2x2 pixels, and a causal attention: [N,2,12,12] to [N,18,12]. */
static nb_tensor *special(nb_tensor *x, nb_list w) {
    nb_tensor *y = nb_relu(nb_conv2d(x, nb_mul(w.at[0], w.at[1]), NULL, NULL));
    y = nb_relu(nb_conv2d(y, w.at[2], NULL, &(nb_conv2d_options){.padding = {1, 1}}));
    y = nb_reshape(nb_avg_pool2d(y, &(nb_pool2d_options){.size = {2, 6}}), nb_shape(nb_shape_of(x).size[0], 18, 12));
    return nb_attention(y, nb_tanh(y), y, &(nb_attention_options){.causal = true});
}

static nb_list special_weights(nb_context *nb) {
    return nb_list_of(nb, nb_param(nb, "w", nb_normal(nb, NB_F32, nb_shape(16, 2, 1, 1), 0, 1)),
                      nb_param(nb, "scale", nb_normal(nb, NB_F32, nb_shape(16, 1, 1, 1), 0, 1)),
                      nb_param(nb, "v", nb_normal(nb, NB_F32, nb_shape(18, 16, 3, 3), 0, 0.1)));
}

/* The kernels this is about are there. */
static void expect_special(nb_program *p) {
    static const char *const wanted[] = {"winograd", "conv2d product", "matmul of triangles"};
    nb_program_info          info = nb_program_describe(p);
    if (getenv("NABLA_KERNELS")) return;
    for (int k = 0; k < 3; k++) {
        int found = 0;
        for (int i = 0; i < info.calls; i++) found += strstr(nb_program_call(p, i).kernel, wanted[k]) != NULL;
        if (!found) fail_msg("no call of %s", wanted[k]);
    }
}

static nb_tensor *images(nb_context *nb) {
    static float data[8 * 2 * 12 * 12];
    uint64_t     seed = 5;
    nb_tensor   *x = nb_input(nb, "x", NB_F32, nb_shape(8, 2, 12, 12));
    for (size_t i = 0; i < sizeof data / sizeof *data; i++) data[i] = (float)next_real(&seed);
    nb_set(x, data, sizeof data);
    return x;
}

static bool train_special(nb_context *nb, const char *path) {
    (void)path;
    nb_list    w = special_weights(nb);
    nb_tensor *x = images(nb);
    nb_list    step = nb_update(nb_sgd(w, 0.01, NULL), nb_mean(nb_square(special(x, w)), nb_axes(), false));
    remember(nb);
    nb_program *p = nb_compile(nb, step);
    bool        good = before.has_run = nb_run(p);
    good = good && nb_run(p);
    if (good) expect_special(p);
    nb_program_free(p);
    return good && !nb_error(nb);
}

/* At rest: in blocks, with weights that last and are prepared, also in a context beside. */
static bool rest_special(nb_context *nb, const char *path) {
    (void)path;
    nb->block_items = 5;
    nb_list     w = special_weights(nb);
    nb_tensor  *x = images(nb);
    nb_program *p = nb_compile(nb, nb_list_of(nb, special(x, w)));
    float       scale[16] = {1, 2, 3};
    bool        good = nb_run(p) && nb_set(w.at[1], scale, sizeof scale) && nb_run(p);
    if (!good) return false;
    expect_special(p);
    assert_true(nb_program_describe(p).blocks == 2 && nb_program_describe(p).lasting_bytes > 0);
    nb_context *other = nb_open(&(nb_options){.allocator = &nb->allocator, .kernels = nb_kernels(nb)});
    nb_tensor  *own = other ? images(other) : NULL;
    nb_program *q = other ? nb_program_share(other, p, nb_list_of(nb, x), nb_list_of(other, own)) : NULL;
    good = q && nb_run(q);
    if (good) assert_memory_equal(nb_data(nb_output(p, 0)), nb_data(nb_output(q, 0)), nb_bytes(nb_output(p, 0)));
    if (!good && !nb_error(nb)) nb_fail(nb, NB_NO_MEMORY, "%s", other && nb_error(other) ? nb_error(other) : "no context");
    nb_close(other);
    return good && !nb_error(nb);
}

static bool look_at_a_program(nb_context *nb, const char *path) {
    (void)path;
    nb_net     *net = nb_net_parse(nb, "linear 3, relu, linear 2", nb_shape(2));
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(4));
    nb_program *p = nb_compile(
        nb, nb_update(nb_sgd(nb_net_parameters(net), 0.1, NULL), nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL)));
    char *picture = nb_draw_program(p), *table = nb_program_profile(p, true) && nb_run(p) ? nb_draw_profile(p, NULL, 3) : NULL;
    bool  good = picture && table && nb_program_describe(p).buffers > 0 && nb_program_call(p, 0).n_writes == 1;
    nb_free(nb, picture);
    nb_free(nb, table);
    nb_program_free(p);
    nb_net_free(net);
    return good && !nb_error(nb);
}

static bool save_and_load(nb_context *nb, const char *path) {
    nb_net *net = nb_net_parse(nb, "linear 4, relu, linear 2", nb_shape(3)), *again = NULL;
    nb_pair pair = {"note", "a test"};
    bool    good = net && nb_net_save(net, path, 1, &pair);
    if (good) again = nb_net_load(nb, path);
    nb_file *f = good ? nb_file_open(nb, path) : NULL;
    good = good && again && f && nb_file_load(f, nb_net_state(net));
    char a[65], b[65];
    good = good && nb_digest(nb_net_state(net), a) && nb_digest(nb_net_state(again), b);
    if (good) assert_memory_equal(a, b, sizeof a);
    nb_file_close(f);
    nb_net_free(again);
    nb_net_free(net);
    return good && !nb_error(nb);
}

static bool define_by_run(nb_context *nb, const char *path) {
    (void)path;
    nb_tensor *w = nb_param(nb, "w", nb_normal(nb, NB_F32, nb_shape(4, 4), 0, 1));
    for (int i = 0; i < 3; i++) {
        nb_tensor *y = nb_softmax(nb_matmul(w, nb_transpose(w, 0, 1)), 1);
        nb_tensor *g = nb_grads(nb_sum(nb_square(y), nb_axes(), false), NULL, nb_list_of(nb, w)).at[0];
        if (!nb_data(g) || isnan(nb_item(nb_norm(g, 2, nb_axes(), false)))) return false;
        nb_next_step(nb);
    }
    return !nb_error(nb);
}

static nb_tensor *cubed(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    (void)user;
    return nb_mul(in.at[0], nb_square(in.at[0]));
}

static bool check_gradients(nb_context *nb, const char *path) {
    (void)path;
    double v[] = {1, 2, 3};
    return nb_gradcheck(nb, cubed, NULL, nb_list_of(nb, nb_from(nb, NB_F64, nb_shape(3), v)), 2).passed && !nb_error(nb);
}

static bool draw_a_net(nb_context *nb, const char *path) {
    (void)path;
    nb_net       *net = nb_net_parse(nb, "linear 4, residual (linear 4, tanh), linear 2", nb_shape(3));
    nb_tensor    *x = nb_input(nb, "x", NB_F32, nb_shape(2, 3));
    nb_layer_info info = nb_net_layer_info(net, 0);
    nb_tensor    *y = nb_net_apply(net, x, NB_EVAL);
    bool          good = info.parameters > 0 && nb_eval(nb, nb_list_of(nb, y));
    nb_net_free(net);
    return good && !nb_error(nb);
}

static bool load_batches(nb_context *nb, const char *path) {
    (void)path;
    uint8_t     items[10 * 4] = {1, 2, 3};
    int64_t     labels[10] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    nb_dataset *d = nb_dataset_from(nb, NB_U8, 10, nb_shape(2, 2), items, labels, 2), *v = d ? nb_dataset_split(d, 2, 1) : NULL;
    nb_loader  *l = v ? nb_loader_new(d, &(nb_loader_options){.batch = 4, .shuffle = true}) : NULL;
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 2, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(4));
    bool        good = l && nb_loader_start(l, 0, 0);
    int         n = 0;
    while (good && nb_loader_next(l, x, y)) n++;
    nb_loader_free(l);
    nb_dataset_free(v);
    nb_dataset_free(d);
    return good && n == 2 && !nb_error(nb);
}

/* -------------------------------------------------------------------------------------------------------------------- harness */

static int compared; /* failures after which the kept tensors were as before */

static void attempt(scenario *run, const char *path, faulty *f, bool *good) {
    nb_allocator a = {faulty_alloc, faulty_free, f};
    nb_context  *nb = nb_open(&(nb_options){.allocator = &a, .kernels = getenv("NABLA_KERNELS")});
    *good = false;
    if (nb) {
        *good = !nb_error(nb) && run(nb, path);
        if (!*good && !nb_error(nb)) fail_msg("allocation %lld failed without an error of the context", (long long)f->fail_at);
        if (!*good && nb_error_status(nb) != NB_NO_MEMORY) fail_msg("allocation %lld: %s", (long long)f->fail_at, nb_error(nb));
        /* With memory again, the context works. */
        f->fail_at = 0;
        nb_error_clear(nb);
        nb_next_step(nb);
        if (!*good) compared += expect_unchanged(nb);
        double two = 2;
        assert_true(nb_item(nb_square(nb_from(nb, NB_F64, nb_shape(), &two))) == 4);
        nb_close(nb);
    }
    if (f->live) fail_msg("%lld blocks leaked", (long long)f->live);
}

static void fail_each(scenario *run, const char *name) {
    char path[] = "/tmp/nabla_faults_XXXXXX";
    int  file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    faulty none = {0};
    bool   good;
    before.kept = compared = 0;
    attempt(run, path, &none, &good);
    assert_true(good);
    int64_t total = none.calls;
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        int64_t n = 1, made_up = 0;
        for (; n <= total; n++) {
            faulty f = {.fail_at = n, .for_ever = for_ever};
            attempt(run, path, &f, &good);
            made_up += good;
        }
        /* Hardly anything is to be had without its memory, but for an arena, which asks again for less. */
        assert_true(made_up <= total / 3 + 4);
    }
    assert_true(!before.kept || compared > 10);
    printf("%s: each of %lld allocations failed; kept tensors compared after %d\n", name, (long long)total, compared);
    unlink(path);
}

static void test_training(void **state) { (void)state, fail_each(train_a_net, "training"); }
static void test_text(void **state) { (void)state, fail_each(train_on_text, "training on text"); }
static void test_special(void **state) { (void)state, fail_each(train_special, "training with special kernels"); }
static void test_rest(void **state) { (void)state, fail_each(rest_special, "a net at rest"); }
static void test_files(void **state) { (void)state, fail_each(save_and_load, "saving and loading"); }
static void test_define_by_run(void **state) { (void)state, fail_each(define_by_run, "define-by-run"); }
static void test_gradcheck(void **state) { (void)state, fail_each(check_gradients, "gradient checks"); }
static void test_nets(void **state) { (void)state, fail_each(draw_a_net, "nets"); }
static void test_look(void **state) { (void)state, fail_each(look_at_a_program, "looking at a program"); }
static void test_batches(void **state) { (void)state, fail_each(load_batches, "batches"); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),      cmocka_unit_test(test_text),      cmocka_unit_test(test_files),
        cmocka_unit_test(test_define_by_run), cmocka_unit_test(test_gradcheck), cmocka_unit_test(test_nets),
        cmocka_unit_test(test_batches),       cmocka_unit_test(test_look),      cmocka_unit_test(test_special),
        cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
