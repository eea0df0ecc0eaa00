/* test_steps.c: the losses of 20 training steps of the six benchmark nets, from the same weights, are PyTorch's to 1 in 10^4:
 * tests/golden/steps.txt, written by tools/torch_steps.py. Here they are computed in f32, there in double.
 *
 * Weights and data are too many to be stored: both sides make them from the same generator, seeded by the name of the tensor. So
 * names and layouts are PyTorch's too, or nothing would agree. Nets and batches are those of the benchmark, but for two: the
 * cnn's dropout, whose masks nobody can share, is 0, and gpt-m sees 2 x 64 tokens instead of 4 x 256, to save time.
 *
 * Where a ReLU or a max pool of the cnn is decided by the last bit, f32 and double go different ways, and Adam makes steps of
 * full length of what differs. So its rate is a tenth of the benchmark's, and its images are some that need no such decision. */
#include "test.h"

#define STEPS 20
#ifdef NB_CHECK_BUILD
#define RUN 4 /* with the sanitizers, which are slow, the first ones will do */
#else
#define RUN STEPS
#endif
#define TOLERANCE 1e-4

/* SplitMix64 (Steele et al., 2014) from the FNV-1a hash of the name; number i of the sequence, counted from 0. */
static uint64_t bits(const char *name, uint64_t i) {
    uint64_t z = 0xcbf29ce484222325u;
    for (; *name; name++) z = (z ^ (uint8_t)*name) * 0x100000001b3u;
    z += (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double real(const char *name, uint64_t i) { return (double)(bits(name, i) >> 40) / 8388608 - 1; } /* in [-1, 1) */

/* Matrices: within 1/sqrt(fan in). Vectors: within 0.1, of 1 where they scale, of 0 where they shift. */
static void set_weight(nb_tensor *w) {
    const char *name = nb_name(w), *dot = strrchr(name, '.');
    int64_t     n = nb_count(w), rows = nb_size(w, 0);
    bool        is_scale = strcmp(dot ? dot + 1 : name, "weight") == 0;
    float      *values = malloc((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) {
        double u = real(name, (uint64_t)i);
        values[i] = (float)(nb_rank(w) > 1 ? u / sqrt((double)(n / rows)) : u * 0.1 + is_scale);
    }
    assert_true(nb_set(w, values, (size_t)n * sizeof *values));
    free(values);
}

/* An input filled by the generator: numbers, or whole ones below `below`. */
static nb_tensor *filled(nb_context *nb, const char *name, nb_dims shape, uint64_t below) {
    nb_tensor *t = nb_input(nb, name, below ? NB_I64 : NB_F32, shape);
    int64_t    n = nb_count(t), *whole = malloc((size_t)n * sizeof *whole);
    float     *narrow = malloc((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++) {
        if (below)
            whole[i] = (int64_t)(bits(name, (uint64_t)i) % below);
        else
            narrow[i] = (float)real(name, (uint64_t)i);
    }
    assert_true(nb_set(t, below ? (void *)whole : narrow, nb_bytes(t)));
    free(whole);
    free(narrow);
    return t;
}

static void read_losses(const char *name, double losses[STEPS]) {
    char  line[1024], found[16];
    int   at;
    FILE *f = fopen("tests/golden/steps.txt", "r");
    if (!f) fail_msg("tests/golden/steps.txt cannot be read: run the tests in the project's folder");
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%15s%n", found, &at) != 1 || strcmp(found, name) != 0) continue;
        char *c = line + at;
        for (int i = 0; i < STEPS; i++) losses[i] = strtod(c, &c);
        fclose(f);
        return;
    }
    fail_msg("tests/golden/steps.txt has no %s", name);
}

typedef nb_optimizer *maker(nb_list parameters);
static nb_optimizer  *sgd(nb_list w) { return nb_sgd(w, 0.01, NULL); }
static nb_optimizer  *adam(nb_list w) { return nb_adam(w, 1e-3, NULL); }
static nb_optimizer  *slow_adam(nb_list w) { return nb_adam(w, 1e-4, NULL); }
static nb_optimizer  *adamw(nb_list w) { return nb_adamw(w, 1e-3, NULL); } /* decay 0.01 */

static void check(const char *name, const char *text, const char *data, nb_dims shape, int64_t classes, maker *make) {
    double expected[STEPS], worst = 0;
    read_losses(name, expected);
    nb_context *nb = nb_open(NULL);
    nb_dims     item = {.rank = shape.rank - 1}, labels = {.rank = 1, .size = {shape.size[0]}};
    for (int i = 0; i < item.rank; i++) item.size[i] = shape.size[i + 1];
    nb_net *net = nb_net_parse(nb, text, item);
    expect_good(nb);
    bool is_text = nb_net_input_dtype(net) == NB_I64; /* a label for each step, not for each item */
    if (is_text) labels.size[0] *= item.size[0];
    nb_list w = nb_net_parameters(net);
    for (int i = 0; i < w.n; i++) set_weight(w.at[i]);
    nb_tensor  *x = filled(nb, data, shape, is_text ? 65 : 0), *t = filled(nb, "targets", labels, (uint64_t)classes);
    nb_tensor  *scores = nb_reshape(nb_net_apply(net, x, NB_TRAIN), nb_shape(-1, classes));
    nb_program *step = nb_compile(nb, nb_update(make(w), nb_cross_entropy(scores, t, NULL)));
    for (int i = 0; i < RUN; i++) {
        if (!nb_run(step)) fail_msg("%s: %s", name, nb_error(nb));
        double loss = nb_item(nb_output(step, 0)), error = fabs(loss - expected[i]) / expected[i];
        if (!(error <= TOLERANCE)) fail_msg("%s: loss %d is %.9g; PyTorch has %.9g", name, i, loss, expected[i]);
        worst = fmax(worst, error);
    }
    printf("%s: worst error %.1e\n", name, worst);
    nb_close(nb);
}

static void test_moons(void **state) {
    (void)state;
    check("moons", "linear 16, relu, linear 16, relu, linear 2", "x", nb_shape(100, 2), 2, sgd);
}

static void test_mlp(void **state) {
    (void)state;
    check("mlp", nb_net_preset("mlp"), "x", nb_shape(64, 1, 28, 28), 10, adam);
}

static void test_cnn(void **state) {
    (void)state;
    check("cnn",
          "conv 32 3 pad=1, batchnorm, relu, maxpool 2, conv 64 3 pad=1, batchnorm, relu, maxpool 2, "
          "flatten, linear 128, relu, dropout 0, linear 10",
          "input", nb_shape(64, 1, 28, 28), 10, slow_adam);
}

static void test_lstm(void **state) {
    (void)state;
    check("lstm", nb_net_preset("lstm"), "x", nb_shape(32, 64), 65, adam);
}

static void test_gpt_s(void **state) {
    (void)state;
    check("gpt-s", nb_net_preset("gpt-s"), "x", nb_shape(12, 64), 65, adamw);
}

static void test_gpt_m(void **state) {
    (void)state;
    check("gpt-m", nb_net_preset("gpt-m"), "x", nb_shape(2, 64), 65, adamw);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moons), cmocka_unit_test(test_mlp),   cmocka_unit_test(test_cnn),
        cmocka_unit_test(test_lstm),  cmocka_unit_test(test_gpt_s), cmocka_unit_test(test_gpt_m),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
