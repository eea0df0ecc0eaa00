/* test_sequence.c: nets over sequences: their words, what they say of mistakes, and what PyTorch's numbers do not show: that
 * causal nets do not look ahead, that short sequences fit, that files keep them, second derivatives through whole layers. */
#include "test.h"

/* ---------------------------------------------------------------------------------------------------------------------- words */

static int64_t parameters_of(nb_net *net) {
    int64_t n = 0;
    for (int i = 0; i < nb_net_layer_count(net); i++) n += nb_net_layer_info(net, i).parameters;
    return n;
}

static void check_preset(const char *name, int64_t steps, int64_t parameters, int leaves) {
    nb_context *nb = nb_open(NULL);
    nb_dims     item = nb_net_preset_input(name);
    nb_net     *net = nb_net_parse(nb, nb_net_preset(name), item);
    expect_good(nb);
    assert_int_equal(item.rank, 1);
    assert_int_equal(item.size[0], steps);
    assert_int_equal(nb_net_input_dtype(net), NB_I64);
    assert_int_equal(parameters_of(net), parameters);
    assert_int_equal(nb_net_layer_count(net), leaves);
    assert_int_equal(nb_net_output(net).rank, 2);
    assert_int_equal(nb_net_output(net).size[0], steps);
    assert_int_equal(nb_net_output(net).size[1], 65);
    nb_close(nb);
}

static void test_presets(void **state) {
    (void)state;
    int64_t d = 128, block = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d; /* attention, two linear, two norms */
    check_preset("lstm", 64, 65 * 64 + 4 * 256 * (64 + 256 + 2) + 257 * 65, 3);
    check_preset("gpt-s", 64, 65 * d + 64 * d + 4 * block + 2 * d + 65 * d, 2 + 4 * 6 + 2);
    d = 384, block = 12 * d * d + 13 * d;
    check_preset("gpt-m", 256, 65 * d + 256 * d + 6 * block + 2 * d + 65 * d, 2 + 6 * 6 + 2);
    assert_int_equal(nb_net_preset_input("cnn").rank, 3);
    assert_int_equal(nb_net_preset_input("vgg").rank, -1);
}

static const struct {
    const char *text;
    nb_dims     item;
    const char *message;
} mistakes[] = {
    {"embedding 5", {1, {4}}, "net, layer 0, embedding: its features is missing: write embedding COUNT FEATURES"},
    {"embedding 5 4", {3, {1, 28, 28}}, "cannot take an image [1,28,28]: an item is a row of whole numbers, [64] say"},
    {"linear 4, embedding 5 4", {1, {4}}, "net, layer 1, embedding: it looks up whole numbers, but gets what the layer before"},
    {"residual(relu), embedding 5 4", {1, {4}}, "it must come first"},
    {"lstm 4", {1, {4}}, "net, layer 0, lstm: cannot take [4]: it takes [steps,features]: put embedding before it"},
    {"positions", {1, {4}}, "put embedding before it"},
    {"positions",
     {2, {0, 4}},
     "net, layer 0, positions: an item has 0 steps of 4 features; at least 1 of each\n    positions\n    ^"},
    {"attention 3", {2, {5, 0}}, "net, layer 0, attention: an item has 0 features; at least 1 of them\n    attention 3\n    ^"},
    {"embedding 5 4, batchnorm",
     {1, {3}},
     "net, layer 1, batchnorm: cannot take a sequence [3,4]: it would treat each step as a channel, not each feature"},
    {"prelu each=channel", {2, {5, 4}}, "cannot take a sequence [5,4]"},
    {"channeldropout", {2, {5, 4}}, "cannot take a sequence [5,4]"},
    {"attention 3", {2, {5, 4}}, "net, layer 0, attention: 4 features do not divide into 3 heads\n    attention 3\n    ^"},
    {"transformer 2 hiden=4", {2, {5, 4}}, "it has no option 'hiden'; did you mean 'hidden'?"},
    {"transformer 2 causal=maybe", {2, {5, 4}}, "causal is 'maybe'; it must be yes or no"},
    {"transformer", {2, {5, 4}}, "its heads is missing: write transformer HEADS [hidden=4*FEATURES] [causal=yes]"},
    {"transfomer 2", {2, {5, 4}}, "did you mean 'transformer'?"},
    {"layernorm axes=3", {2, {5, 4}}, "net, layer 0, layernorm: axes is 3, but an item has 2"},
    {"repeat 2", {1, {4}}, "it needs layers in brackets: write repeat N(LAYERS)"},
    {"repeat (relu)", {1, {4}}, "its N is missing: write repeat N(LAYERS)"},
    {"repeat 0 (relu)", {1, {4}}, "N is '0'; it must be a whole number from 1"},
    {"repeat 2 3 (relu)", {1, {4}}, "'3' is too much: write repeat N(LAYERS)"},
    {"repeat 2 (linear 3, reluu)", {1, {4}}, "did you mean 'relu'?\n    repeat 2 (linear 3, reluu)\n                        ^"},
    {"repeat 3 (maxpool 2)", {3, {1, 4, 4}}, "maxpool: a window of 2 does not fit into the height of [1,1,1]"},
    {"repeat 99999 (relu)", {1, {4}}, "net, layer 0, repeat: 99999 times are more than 10000 layers"},
    {"repeat 200 (repeat 200 (relu))", {1, {4}}, "net: these are more than 10000 layers"},
};

static void test_mistakes(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        int before = nb_kept(nb).n;
        assert_null(nb_net_parse(nb, mistakes[i].text, mistakes[i].item));
        expect_error(nb, mistakes[i].message);
        assert_int_equal(nb_kept(nb).n, before); /* what was made already is given back */
        nb_next_step(nb);
    }
    nb_close(nb);
}

static void test_repeat(void **state) {
    (void)state;
    static const char *const paths[] = {"0.0.0", "0.0.1", "0.1.0", "0.1.1", "1.0", "1.1", "block.0.a", "block.1.a"};
    nb_context              *nb = nb_open(NULL);
    nb_net                  *net =
        nb_net_parse(nb, "repeat 2 (linear 4, relu), repeat 2 (linear 3), repeat 2 (tanh name=a) name=block", nb_shape(6));
    expect_good(nb);
    assert_int_equal(nb_net_layer_count(net), 8);
    for (int i = 0; i < 8; i++) assert_string_equal(nb_net_layer_info(net, i).path, paths[i]);
    assert_int_equal(parameters_of(net), 7 * 4 + 5 * 4 + 5 * 3 + 4 * 3); /* each copy gets what the one before gives */
    /* An embedding in brackets is the first layer too. */
    net = nb_net_parse(nb, "sequential(sequential(embedding 5 4), lstm 3), linear 2", nb_shape(6));
    expect_good(nb);
    assert_int_equal(nb_net_input_dtype(net), NB_I64);
    assert_int_equal(nb_net_output(net).size[1], 2);
    nb_close(nb);
}

/* --------------------------------------------------------------------------------------------------------------------- errors */

static void test_errors(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, "embedding 5 4 name=words, positions, transformer 2, lstm 3", nb_shape(3));
    nb_layer   *root = nb_net_root(net);
    nb_tensor  *x = nb_input(nb, "x", NB_I64, nb_shape(2, 3));
    int64_t     numbers[] = {0, 1, 2, 3, 5, 4};
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_net_apply(net, x, NB_EVAL)));
    expect_good(nb);
    assert_true(nb_set(x, numbers, sizeof numbers));
    assert_false(nb_run(p));
    expect_error(nb, "layer words: index_select: index 5 is outside 0..4");
    numbers[4] = 4;
    assert_true(nb_set(x, numbers, sizeof numbers) && nb_run(p));
    nb_net_apply(net, nb_zeros(nb, NB_F32, nb_shape(2, 3)), NB_EVAL);
    expect_error(nb, "layer words: embedding: takes whole numbers, i32 or i64, got f32; convert with nb_cast");
    nb_layer_apply(root, nb_zeros(nb, NB_I64, nb_shape(2, 4)), NB_EVAL);
    expect_error(nb, "layer 1: positions: a sequence of 4 steps, but there are 3 positions");
    nb_layer_apply(nb_layer_at(root, 2), nb_zeros(nb, NB_F32, nb_shape(2, 3, 6)), NB_EVAL);
    expect_error(nb, "layer 2/norm1: layer_norm: normalises the last axes [4], got [2,3,6]");
    nb_layer_apply(nb_layer_find(root, "2.self_attn"), nb_zeros(nb, NB_F32, nb_shape(2, 3, 6)), NB_EVAL);
    expect_error(nb, "attention: takes a batch of sequences [N,T,4], got [2,3,6]");
    nb_layer_apply(nb_layer_at(root, 3), nb_zeros(nb, NB_F32, nb_shape(3, 4)), NB_EVAL);
    expect_error(nb, "layer 3: lstm: takes a batch of sequences [N,T,4], got [3,4]");
    nb_tensor *none = nb_zeros(nb, NB_F32, nb_shape(2, 0, 4)), *gates = nb_zeros(nb, NB_F32, nb_shape(8, 4)); /* of no steps */
    nb_lstm(none, gates, nb_zeros(nb, NB_F32, nb_shape(8, 2)), NULL, nb_zeros(nb, NB_F64, nb_shape(8)));
    expect_error(nb, "lstm: the operands are f32 and f64; convert one with nb_cast");
    assert_null(nb_layer_embedding(nb, 0, 4));
    expect_error(nb, "embedding: 0 rows of 4 features; at least 1 of each");
    assert_null(nb_layer_positions(nb, 4, 0));
    expect_error(nb, "positions: 4 steps of 0 features; at least 1 of each");
    assert_null(nb_layer_lstm(nb, 0, 4, true));
    expect_error(nb, "lstm: 0 features in and 4 hidden; at least 1 of each");
    assert_null(nb_layer_lstm(nb, 4, INT64_MAX / 2, true));
    expect_error(nb, "[9223372036854775807,4] of f32 is more than this machine can address");
    assert_null(nb_layer_attention(nb, INT64_MAX, 1, true, true));
    expect_error(nb, "is more than this machine can address");
    assert_null(nb_layer_transformer(nb, INT64_MAX, 1, 0, true));
    expect_error(nb, "is more than this machine can address");
    assert_null(nb_layer_attention(nb, 5, 2, true, true));
    expect_error(nb, "attention: 5 features do not divide into 2 heads");
    assert_null(nb_layer_attention(nb, 0, 1, true, true));
    expect_error(nb, "attention: 0 features and 1 heads; at least 1 of each");
    assert_null(nb_layer_transformer(nb, 6, 4, 0, true));
    expect_error(nb, "attention: 6 features do not divide into 4 heads");
    nb_close(nb);
}

/* -------------------------------------------------------------------------------------------------------------------- meaning */

enum { STEPS = 6, WORDS = 5 };

/* The scores of one sequence; float[steps][WORDS], to be freed. */
static float *scores_of(nb_context *nb, nb_net *net, const int64_t *words, int steps) {
    nb_tensor *x = nb_from(nb, NB_I64, nb_shape(1, steps), words);
    nb_tensor *y = nb_layer_apply(nb_net_root(net), x, NB_EVAL);
    size_t     bytes = sizeof(float) * (size_t)steps * WORDS;
    float     *copy = malloc(bytes);
    if (!nb_read(y, copy, bytes)) fail_msg("%s", nb_error(nb));
    return copy;
}

/* Whether the first rows of the two are equal to rounding: sums may be cut differently for another number of steps. */
static bool same(const float *a, const float *b, int steps) {
    for (int i = 0; i < steps * WORDS; i++)
        if (fabsf(a[i] - b[i]) > 1e-5f) return false;
    return true;
}

/* Later words change nothing of what came before, unless a step may see them. Shorter sequences fit. */
static void check_direction(const char *text, bool causal) {
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, text, nb_shape(STEPS));
    expect_good(nb);
    int64_t a[STEPS] = {0, 3, 1, 4, 2, 2}, b[STEPS] = {0, 3, 1, 4, 0, 1};
    float  *at_a = scores_of(nb, net, a, STEPS), *at_b = scores_of(nb, net, b, STEPS), *cut = scores_of(nb, net, a, 4);
    assert_int_equal(same(at_a, at_b, 4), causal);
    assert_int_equal(same(at_a, cut, 4), causal);
    assert_false(same(at_a, at_b, 5));
    free(at_a);
    free(at_b);
    free(cut);
    nb_close(nb);
}

static void test_direction(void **state) {
    (void)state;
    check_direction("embedding 5 8, lstm 7, linear 5", true);
    check_direction("embedding 5 8, positions, repeat 2 (transformer 2 causal=yes), layernorm, linear 5", true);
    check_direction("embedding 5 8, positions, attention 4 causal=yes, linear 5", true);
    check_direction("embedding 5 8, positions, transformer 2, linear 5", false);
    check_direction("embedding 5 8, attention 1, linear 5", false);
}

/* A mask of its own: nothing to look at is NaN, as in PyTorch; a mask and causal together. */
static void test_masks(void **state) {
    (void)state;
    nb_context    *nb = nb_open(NULL);
    static uint8_t chosen[] = {1, 1, 0, 0};
    nb_tensor     *q = nb_ones(nb, NB_F32, nb_shape(2, 2)), *v = nb_eye(nb, NB_F32, 2, 2);
    nb_tensor     *mask = nb_from(nb, NB_BOOL, nb_shape(2, 2), chosen);
    const float   *y = nb_data(nb_attention(q, q, v, &(nb_attention_options){.mask = mask}));
    assert_true(y[0] == 0.5f && y[1] == 0.5f && isnan(y[2]) && isnan(y[3]));
    y = nb_data(nb_attention(q, q, v, &(nb_attention_options){.mask = mask, .causal = true}));
    assert_true(y[0] == 1 && y[1] == 0);
    nb_attention(q, q, v, &(nb_attention_options){.mask = nb_zeros(nb, NB_F32, nb_shape(3, 2))});
    expect_error(nb, "attention: the mask [3,2] does not broadcast to the scores [2,2]");
    nb_attention(q, q, v, &(nb_attention_options){.mask = nb_zeros(nb, NB_F32, nb_shape(4, 2, 2))});
    expect_error(nb, "attention: the mask [4,2,2] does not broadcast to the scores [2,2]");
    nb_close(nb);
}

/* A causal step does not see a later one, even if that is NaN. */
static void test_hidden_nan(void **state) {
    (void)state;
    nb_context  *nb = nb_open(NULL);
    static float keys[] = {1, 2, NAN, 4};
    nb_tensor   *q = nb_ones(nb, NB_F32, nb_shape(2, 2)), *k = nb_from(nb, NB_F32, nb_shape(2, 2), keys);
    const float *y = nb_data(nb_attention(q, k, q, &(nb_attention_options){.causal = true}));
    assert_true(y[0] == 1 && y[1] == 1 && isnan(y[2]));
    nb_close(nb);
}

static nb_tensor *apply(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    return nb_layer_apply(user, in.at[0], NB_TRAIN);
}

/* First and second derivative through whole layers. */
static void test_derivatives(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_seed(nb, 3);
    nb_layer *layers[] = {nb_layer_positions(nb, 3, 4), nb_layer_lstm(nb, 4, 2, true), nb_layer_attention(nb, 4, 2, true, true),
                          nb_layer_transformer(nb, 4, 2, 3, true)};
    for (int i = 0; i < 4; i++) {
        double   v[24];
        uint64_t seed = 9;
        for (int k = 0; k < 24; k++) v[k] = 2 * next_real(&seed) - 1;
        assert_true(nb_layer_cast(layers[i], NB_F64));
        nb_list x = nb_list_of(nb, nb_from(nb, NB_F64, nb_shape(2, 3, 4), v));
        for (int order = 1; order <= 2; order++) {
            nb_gradcheck_result r = nb_gradcheck(nb, apply, layers[i], x, order);
            if (!r.passed) fail_msg("%s, order %d: %s", nb_layer_type(layers[i]), order, r.detail);
        }
    }
    nb_close(nb);
}

/* Files keep such nets, and give the same scores. */
static void test_files(void **state) {
    (void)state;
    char        path[] = "/tmp/nabla_sequence_XXXXXX";
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, "embedding 5 4, positions, repeat 2 (transformer 2), lstm 3, linear 5", nb_shape(STEPS));
    assert_true(mkstemp(path) >= 0 && nb_net_save(net, path, 0, NULL));
    nb_net *again = nb_net_load(nb, path);
    expect_good(nb);
    remove(path);
    int64_t words[STEPS] = {0, 3, 1, 4, 2, 2};
    float  *a = scores_of(nb, net, words, STEPS), *b = scores_of(nb, again, words, STEPS);
    assert_memory_equal(a, b, sizeof(float) * STEPS * WORDS);
    free(a);
    free(b);
    nb_close(nb);
}

/* Over the features of each step, not over the steps. */
static void test_softmax(void **state) {
    (void)state;
    static const char *const texts[] = {"embedding 5 4, softmax", "embedding 5 4, log_softmax"};
    const int64_t            words[] = {0, 1, 2};
    nb_context              *nb = nb_open(NULL);
    for (int i = 0; i < 2; i++) {
        nb_net      *net = nb_net_parse(nb, texts[i], nb_shape(3));
        const float *p = nb_data(nb_net_apply(net, nb_from(nb, NB_I64, nb_shape(1, 3), words), NB_EVAL));
        expect_good(nb);
        for (int t = 0; t < 3; t++) {
            float sum = 0;
            for (int k = 0; k < 4; k++) sum += i ? expf(p[4 * t + k]) : p[4 * t + k];
            assert_true(fabsf(sum - 1) < 1e-5f);
        }
    }
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),     cmocka_unit_test(test_mistakes),  cmocka_unit_test(test_repeat),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_direction), cmocka_unit_test(test_masks),
        cmocka_unit_test(test_derivatives), cmocka_unit_test(test_files),     cmocka_unit_test(test_hidden_nan),
        cmocka_unit_test(test_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
