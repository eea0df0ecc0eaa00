/* test_net.c: the net language, the tree of layers, what PyTorch has no numbers for (dropout, custom layers, regularisers), and
 * errors. */
#include "test.h"

/* --------------------------------------------------------------------------------------------------------------- the language */

static const struct {
    const char *text, *message;
} mistakes[] = {
    {"conv 32 3 pad=1, maxpol 2",
     "net: there is no layer 'maxpol'; did you mean 'maxpool'?\n    conv 32 3 pad=1, maxpol 2\n                     ^"},
    {"conv 32 3, linear 10",
     "net, layer 1, linear: cannot take an image [32,26,26]: put flatten before it\n    conv 32 3, linear 10\n               ^"},
    {"conv 32 30",
     "net, layer 0, conv: a window of 30 does not fit into the height of [1,28,28], 28 with padding: use a smaller one, or pad"},
    {"flatten\nconv 3 3",
     "net, layer 1, conv: cannot take [784]: it takes images [C,H,W]: put it before flatten\n    conv 3 3\n    ^"},
    {"conv 32 3 strid=2", "it has no option 'strid'; did you mean 'stride'?\n    conv 32 3 strid=2\n              ^"},
    {"conv 3", "its kernel is missing: write conv OUT KERNEL [stride=1]"},
    {"flatten, linear 3 x", "net, layer 1, linear: 'x' is too much: write linear OUT [bias=no]"},
    {"linear x", "net, layer 0, linear: out is 'x'; it must be a whole number from 1 to 1000000000\n    linear x\n           ^"},
    {"linear 99999999999999999999", "must be a whole number from 1 to 1000000000"},
    {"linear 99999999999", "must be a whole number from 1 to 1000000000"},
    {"linear 1e99", "must be a whole number"},
    {"linear 2.5", "out is '2.5'; it must be a whole number"},
    {"conv 8 3x0",
     "kernel is '3x0'; it must be a whole number from 1 to 1000000000, or two as in 3x5\n    conv 8 3x0\n           ^"},
    {"conv 8 3x", "kernel is '3x'; it must be a whole number from 1 to 1000000000, or two as in 3x5"},
    {"conv 8 3 pad=sam", "pad is 'sam'; it must be a whole number from 0 to 1000000000, or two as in 3x5, or same"},
    {"conv 8 3 paddin=1", "it has no option 'paddin'; did you mean 'pad'?"},
    {"relu nam=a", "it has no option 'nam'; did you mean 'name'?"},
    {"prelu each=chanel", "each is 'chanel'; it can only be channel"},
    {"conv 8 3 groups=3", "groups=3 must divide both the 1 channels that come in and the 8 that go out"},
    {"conv 8 3 stride=1 stride=2", "stride is given twice"},
    {"conv 8 3 pad=", "a value is missing after '='"},
    {"conv 8 3 bias=maybe", "bias is 'maybe'; it must be yes or no"},
    {"conv 8 3 name=a.b", "a name has up to 63 letters, digits and _"},
    {"maxpool 2 pad=2", "pad is more than half the window"},
    {"dropout 1.5", "p is '1.5'; it must be 0 or more and below 1"},
    {"dropout 1", "p is '1'; it must be 0 or more and below 1\n    dropout 1\n            ^"},
    {"flatten, dropconnect 3 1", "p is '1'; it must be 0 or more and below 1"},
    {"relu 3", "net, layer 0, relu: '3' is too much: it takes no arguments\n    relu 3\n         ^"},
    {"relu(relu)", "it holds no other layers"},
    {"residual 3", "'3' is too much: write residual(LAYERS)"},
    {"residual", "it needs layers in brackets: write residual(LAYERS)"},
    {"residual()", "net: there are no layers\n    residual()\n            ^"},
    {"residual(relu", "net: this bracket is never closed\n    residual(relu\n            ^"},
    {"relu) ", "net: this bracket closes nothing\n    relu) \n        ^"},
    {"relu,,relu", "net: the name of a layer is missing here\n    relu,,relu\n         ^"},
    {"residual(relu) relu", "a comma is missing before 'relu'\n    residual(relu) relu\n                   ^"},
    {"flatten linear 3", "a comma is missing before 'linear'\n    flatten linear 3\n            ^"},
    {"dropout linear 3", "a comma is missing before 'linear'"},
    {"flatten; linear 3", "net, layer 0, flatten: write a comma instead of this: layers have commas or line ends between them\n  "
                          "  flatten; linear 3\n           ^"},
    {"LINEAR 3", "there is no layer 'LINEAR'; did you mean 'linear'?"},
    {"flatten, linear 3 name=a, linear 3 name=a",
     "net, layer 2, linear: layer 1 is called 'a' already: give this one another name\n    flatten, linear 3 name=a, linear 3 "
     "name=a\n                                            ^"},
    {"relu name=2", "a name needs a letter: layers without a name are called by their numbers\n    relu name=2\n              ^"},
    {"relu name=a, residual(relu) name=a", "net, layer 1, residual: layer 0 is called 'a' already"},
    {"residual name=a (relu) name=b", "name is given twice"},
    {"residual(relu) x", "net, layer 0, residual: 'x' is too much"},
    {"conv 8 3 pad=same, residual(conv 8 3, relu), flatten",
     "net, layer 1, residual: its layers make [8,26,26] of [8,28,28], but the two are to be added: keep the shape"},
    {"channeldropout, flatten, channeldropout", "after flatten there are no channels: use dropout"},
    {"  # nothing", "net: there are no layers"},
    {"", "net: there are no layers: write some, as in flatten, linear 10"},
    {"xyzzy", "net: there is no layer 'xyzzy'; there are linear conv maxpool"},
    {"\xc3\xa4, relu", "net: the name of a layer is missing here\n    \xc3\xa4, relu\n    ^"},
};

static void test_mistakes(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        int before = nb_kept(nb).n;
        assert_null(nb_net_parse(nb, mistakes[i].text, nb_shape(1, 28, 28)));
        expect_error(nb, mistakes[i].message);
        assert_int_equal(nb_kept(nb).n, before); /* what was made already is given back */
        nb_next_step(nb);
    }
    char deep[4096] = "";
    for (int i = 0; i < 100; i++) strcat(deep, "residual(");
    assert_null(nb_net_parse(nb, deep, nb_shape(4)));
    expect_error(nb, "brackets are nested too deep");
    char late[4096] = "";
    for (int i = 0; i < 50; i++) strcat(late, "relu, ");
    assert_null(nb_net_parse(nb, strcat(late, "reluu, relu"), nb_shape(4)));
    expect_error(nb, "did you mean 'relu'?\n    ...");
    nb_close(nb);
}

static void check_preset(const char *name, int64_t parameters, int leaves) {
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, nb_net_preset(name), nb_shape(1, 28, 28));
    expect_good(nb);
    int64_t n = 0;
    double  flops = 0;
    for (int i = 0; i < nb_net_layer_count(net); i++) {
        n += nb_net_layer_info(net, i).parameters;
        flops += nb_net_layer_info(net, i).flops;
    }
    assert_int_equal(n, parameters);
    assert_true(flops > 2 * (double)n * 0.9); /* each weight is used once at least */
    assert_int_equal(nb_net_layer_count(net), leaves);
    assert_int_equal(nb_net_output(net).rank, 1);
    assert_int_equal(nb_net_output(net).size[0], 10);
    assert_string_equal(nb_net_text(net), nb_net_preset(name));
    nb_tensor *x = nb_zeros(nb, NB_F32, nb_shape(3, 1, 28, 28)), *y = nb_net_apply(net, x, NB_EVAL);
    assert_int_equal(nb_size(y, 0), 3);
    assert_true(nb_has_failed(nb_net_apply(net, nb_zeros(nb, NB_F32, nb_shape(3, 784)), NB_EVAL)));
    expect_error(nb, "the net takes a batch of items [1,28,28], got [3,784]");
    nb_close(nb);
}

static void test_presets(void **state) {
    (void)state;
    check_preset("mlp", 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10, 6);
    check_preset("cnn", 320 + 64 + 18496 + 128 + 3136 * 128 + 128 + 1290, 13);
    check_preset("lenet", 156 + 2416 + 48120 + 10164 + 850, 12);
    assert_null(nb_net_preset("vgg"));
}

static void test_language(void **state) {
    (void)state;
    static const char *const words[] = {"linear OUT", "conv OUT", "maxpool",  "avgpool", "globalavgpool", "batchnorm",
                                        "layernorm",  "dropout",  "residual", "relu",    "log_softmax",   "name=NAME"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_non_null(strstr(nb_net_language(), words[i]));
    /* Remarks, line ends, a comma at the end, names. */
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(
            nb, "# a net\nconv 4 3 pad=1 name=stem # first\n\n"
            "  residual( conv 4 3 pad=same\n batchnorm )\nflatten, linear out=2,\n",
            nb_shape(1, 4, 4));
    expect_good(nb);
    assert_string_equal(nb_net_layer_info(net, 0).path, "stem");
    assert_string_equal(nb_net_layer_info(net, 2).path, "1.1");
    assert_string_equal(nb_net_layer_info(net, 2).type, "batch_norm");
    assert_string_equal(nb_name(nb_net_state(net).at[0]), "stem.weight");
    assert_string_equal(nb_name(nb_net_state(net).at[4]), "1.1.weight");
    /* The types that summaries show are words too; a name may come after the brackets, and again in another list. */
    net = nb_net_parse(nb,
                       "conv2d 2 3 pad=same, batch_norm, residual(batchnorm name=a) name=block, max_pool2d 2,"
                       "adaptive_avg_pool2d 2x1, residual name=a (relu, residual(relu name=a))",
                       nb_shape(1, 4, 4));
    expect_good(nb);
    static const char *const paths[] = {"0", "1", "block.a", "3", "4", "a.0", "a.1.a"};
    assert_int_equal(nb_net_layer_count(net), 7);
    for (int i = 0; i < 7; i++) {
        assert_string_equal(nb_net_layer_info(net, i).path, paths[i]);
        assert_true(i == 0 || nb_net_layer_info(net, i).flops > 0);
    }
    assert_true(nb_net_layer_info(net, 6).flops == 4); /* the sums around it are not its own */
    nb_close(nb);
}

/* In help, presets are as they are; lines do not end with blanks. */
static void test_help(void **state) {
    (void)state;
    static const char *const presets[] = {"mlp", "cnn", "lenet"};
    assert_null(strstr(nb_net_language(), " \n"));
    for (int i = 0; i < 3; i++) {
        const char *text = nb_net_preset(presets[i]);
        char        title[16];
        snprintf(title, sizeof title, "\n  %s\n", presets[i]);
        const char *shown = strstr(nb_net_language(), title);
        assert_non_null(shown);
        for (const char *c = text, *h = shown + strlen(title); *c; c++, h++) {
            while (*h == ' ' || *h == '\n') h++; /* the same but for blanks and line ends */
            while (*c == ' ') c++;
            assert_int_equal(*c, *h);
        }
    }
}

/* Thousands of layers: each has its own arithmetic, the last one too. */
static void test_long(void **state) {
    (void)state;
    enum { N = 4000 };
    static char text[6 * N + 16];
    nb_context *nb = nb_open(NULL);
    for (int i = 0; i < N; i++) strcpy(text + 6 * i, i + 1 < N ? "relu, " : "relu");
    nb_net *net = nb_net_parse(nb, text, nb_shape(4));
    expect_good(nb);
    assert_int_equal(nb_net_layer_count(net), N);
    assert_true(nb_net_layer_info(net, N - 1).flops == 4);
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------------- the tree */

static nb_tensor *scale(nb_list state, nb_tensor *x, nb_mode mode, void *user) {
    (void)mode;
    ++*(int *)user;
    return nb_mul(x, state.at[0]);
}

static void free_count(void *user) { *(int *)user = -1; }

static void test_tree(void **state) {
    (void)state;
    int         calls = 0;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *factor = nb_param(nb, "factor", nb_full(nb, NB_F32, nb_shape(), 3));
    nb_layer   *own = nb_layer_custom(nb, "scale", scale, nb_list_of(nb, factor), 1, &calls, free_count);
    nb_layer   *inner[] = {nb_layer_linear(nb, 4, 4, false), own};
    nb_layer   *block = nb_layer_residual(nb, nb_layer_sequential(nb, 2, inner));
    nb_layer   *outer[] = {nb_layer_dropout(nb, 0.5), block, nb_layer_batch_norm(nb, 4, NULL)};
    nb_layer_set_name(block, "block");
    nb_layer *top = nb_layer_sequential(nb, 3, outer);
    expect_good(nb);

    assert_ptr_equal(nb_layer_find(top, "block.1"), own);
    assert_ptr_equal(nb_layer_find(block, "1"), own);
    assert_ptr_equal(nb_layer_find(top, ""), top);
    assert_null(nb_layer_find(top, "block.2"));
    assert_string_equal(nb_layer_type(own), "scale");
    assert_string_equal(nb_layer_name(nb_layer_at(top, 2)), "2");
    assert_int_equal(nb_layer_count(top), 3);
    assert_string_equal(nb_name(factor), "block.1.factor");

    nb_list all = nb_layer_state(top), w = nb_layer_parameters(top);
    assert_int_equal(all.n, 6); /* dropout's p is neither */
    assert_int_equal(w.n, 4);
    assert_string_equal(nb_name(all.at[4]), "2.running_mean");
    nb_layer_freeze(nb_layer_find(top, "2"), true);
    assert_int_equal(nb_layer_parameters(top).n, 2);
    assert_int_equal(nb_layer_state(top).n, 6);

    nb_net *net = nb_net_new(nb, top, nb_shape(4));
    assert_int_equal(calls, 1);
    assert_int_equal(nb_net_layer_info(net, 3).trainable, 0);
    assert_int_equal(nb_net_layer_info(net, 3).parameters, 8);
    assert_int_equal(nb_net_layer_info(net, 1).bytes, 16);
    assert_true(nb_net_layer_info(net, 1).flops == 32);

    assert_null(nb_layer_residual(nb, own));
    expect_error(nb, "residual: layer 0 is inside another layer or a net already");
    nb_layer *twice[2];
    twice[0] = twice[1] = nb_layer_flatten(nb);
    assert_null(nb_layer_sequential(nb, 2, twice));
    expect_error(nb, "layers 0 and 1 are the same one");
    nb_layer *same[] = {nb_layer_flatten(nb), nb_layer_flatten(nb)};
    nb_layer_set_name(same[0], "a");
    nb_layer_set_name(same[1], "a");
    assert_null(nb_layer_sequential(nb, 2, same));
    expect_error(nb, "layers 0 and 1 are both called 'a'");
    nb_layer_set_name(same[1], "12");
    expect_error(nb, "a layer cannot be called '12'");
    nb_layer_set_name(nb_layer_at(top, 0), "block");
    expect_error(nb, "layer 1 beside it is called 'block' already");
    nb_layer_set_name(top, "a.b");
    expect_error(nb, "no dots");
    assert_null(nb_layer_activation(nb, "swash", 0));
    expect_error(nb, "there is no 'swash'");
    assert_null(nb_layer_conv2d(nb, 3, 4, 3, 3, true, &(nb_conv2d_options){.groups = 2}));
    expect_error(nb, "2 groups do not divide 3 channels in and 4 out");
    assert_null(nb_net_new(nb, top, nb_shape(4)));
    expect_error(nb, "inside another one, or a net's already");
    nb_net_free(net);
    assert_int_equal(calls, -1);
    nb_close(nb);
}

static void test_null_is_harmless(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_zeros(nb, NB_F32, nb_shape(2, 2));
    assert_true(nb_has_failed(nb_layer_apply(NULL, x, NB_EVAL)));
    assert_true(nb_has_failed(nb_net_apply(NULL, x, NB_EVAL)));
    assert_int_equal(nb_layer_parameters(NULL).n, 0);
    assert_int_equal(nb_net_state(NULL).n, 0);
    assert_int_equal(nb_net_output(NULL).rank, -1);
    assert_string_equal(nb_net_layer_info(NULL, 0).path, "");
    assert_null(nb_layer_find(NULL, "x"));
    assert_null(nb_layer_residual(nb, NULL));
    expect_error(nb, "residual: layer 0 is NULL");
    nb_layer_freeze(NULL, true);
    nb_layer_set_name(NULL, "x");
    nb_net_free(NULL);
    assert_false(nb_optimizer_set_rate(NULL, 1));
    assert_int_equal(nb_optimizer_state(NULL).n, 0);
    nb_update(NULL, x);
    expect_error(nb, "there is no optimizer");
    nb_close(nb);
}

/* A residual around layers that change the shape, and a batch norm that is applied twice in one program. */
static void test_layer_errors(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_zeros(nb, NB_F32, nb_shape(3, 4));
    nb_layer   *change = nb_layer_residual(nb, nb_layer_linear(nb, 4, 5, true));
    assert_true(nb_has_failed(nb_layer_apply(change, x, NB_TRAIN)));
    expect_error(nb, "residual: the layers inside make [3,5] of [3,4]");
    nb_layer *norm = nb_layer_batch_norm(nb, 4, NULL);
    nb_layer *stack = nb_layer_sequential(nb, 1, &norm);
    nb_layer_set_name(norm, "norm");
    nb_tensor  *y = nb_layer_apply(stack, nb_layer_apply(stack, x, NB_TRAIN), NB_TRAIN);
    nb_program *p = nb_compile(nb, nb_list_of(nb, y));
    assert_false(nb_run(p));
    expect_error(nb, "layer norm: norm.running_");
    nb_layer_apply(stack, nb_zeros(nb, NB_F32, nb_shape(3, 5)), NB_TRAIN);
    expect_error(nb, "layer norm: batch_norm: takes [N,4,...], got 5 features along axis 1");
    nb_layer_apply(stack, nb_zeros(nb, NB_F32, nb_shape(1, 4)), NB_TRAIN);
    expect_error(nb, "one value a channel has no variance");
    nb_layer_apply(nb_layer_layer_norm(nb, nb_shape(3, 5), NULL), x, NB_EVAL);
    expect_error(nb, "layer_norm: normalises the last axes [3,5], got [3,4]");
    nb_cross_entropy(x, nb_zeros(nb, NB_I64, nb_shape(4)), NULL);
    expect_error(nb, "cross_entropy: a prediction [3,4] needs a target [3], got [4]");
    nb_cross_entropy(x, nb_zeros(nb, NB_F32, nb_shape(3)), NULL);
    expect_error(nb, "class numbers, i64 or i32, got f32");
    nb_mse(x, nb_zeros(nb, NB_F32, nb_shape(4)), NB_REDUCE_MEAN);
    expect_error(nb, "mse: a prediction [3,4] needs a target [3,4], got [4]");
    nb_cross_entropy(x, nb_zeros(nb, NB_I64, nb_shape(3)), &(nb_class_options){.label_smoothing = 1});
    expect_error(nb, "label_smoothing is 1; it is in [0,1)");
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------ what was dropped, from the result */

static void test_dropout(void **state) {
    (void)state;
    enum { N = 4000 };
    nb_context *nb = nb_open(NULL);
    nb_layer   *drop = nb_layer_dropout(nb, 0.25);
    nb_tensor  *x = nb_param(nb, "x", nb_full(nb, NB_F32, nb_shape(N / 4, 4), 3));
    nb_tensor  *y = nb_layer_apply(drop, x, NB_TRAIN), *dx = nb_grads(nb_sum(y, nb_axes(), false), NULL, nb_list_of(nb, x)).at[0];
    assert_ptr_equal(nb_layer_apply(drop, x, NB_EVAL), x);
    nb_program *p = nb_compile(nb, nb_list_of(nb, y, dx));
    int         zeros[2] = {0, 0}, differ = 0;
    float       first[N];
    for (int run = 0; run < 2; run++) {
        assert_true(nb_run(p));
        const float *a = nb_data(nb_output(p, 0)), *b = nb_data(nb_output(p, 1));
        for (int i = 0; i < N; i++) {
            assert_true(a[i] == 0 ? b[i] == 0 : fabs(a[i] - 4) < 1e-6 && fabs(b[i] - 4.0 / 3) < 1e-6); /* one mask, both ways */
            zeros[run] += a[i] == 0;
            differ += run && (a[i] == 0) != (first[i] == 0);
            first[i] = a[i];
        }
    }
    for (int run = 0; run < 2; run++) assert_true(abs(zeros[run] - 1000) < 130);
    assert_true(differ > 1000); /* another mask each run */

    /* DropConnect: the identity shows the weights of this run; the derivative has the same mask. */
    nb_layer  *connect = nb_layer_dropconnect(nb, 3, 5, true, 0.5);
    nb_list    w = nb_layer_parameters(connect);
    nb_tensor *eye = nb_eye(nb, NB_F32, 3, 3), *z = nb_layer_apply(connect, eye, NB_TRAIN);
    nb_list    g = nb_grads(nb_sum(z, nb_axes(), false), NULL, w);
    assert_true(nb_eval(nb, nb_list_of(nb, z, g.at[0], g.at[1])));
    const float *out = nb_data(z), *weight = nb_data(w.at[0]), *bias = nb_data(w.at[1]), *dw = nb_data(g.at[0]);
    for (int i = 0; i < 15; i++) {
        double used = out[i % 3 * 5 + i / 3] - bias[i / 3];
        assert_true(dw[i] == 0 ? fabs(used) < 1e-6 : fabs(dw[i] - 2) < 1e-6 && fabs(used - 2 * weight[i]) < 1e-6);
    }
    nb_tensor *plain = nb_sub(nb_layer_apply(connect, eye, NB_EVAL), nb_linear(eye, w.at[0], w.at[1]));
    assert_true(nb_item(nb_sum(nb_abs(plain), nb_axes(), false)) == 0);
    assert_null(nb_layer_dropout(nb, 1));
    expect_error(nb, "dropout: p is 1; a probability of dropping is in [0,1)");
    nb_close(nb);
}

/* ----------------------------------------------------------------------------- derivatives that are not left to the operators */

static nb_tensor *layer_function(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    return nb_layer_apply(user, in.at[0], NB_TRAIN);
}

static nb_tensor *binary_function(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    (void)user;
    return nb_binary_cross_entropy(nb_sigmoid(in.at[0]), nb_sigmoid(in.at[1]), NB_REDUCE_NONE);
}

static void check_twice(nb_context *nb, nb_function *function, void *user, nb_list in) {
    for (int order = 1; order <= 2; order++) {
        nb_gradcheck_result r = nb_gradcheck(nb, function, user, in, order);
        if (!r.passed) fail_msg("order %d: %s", order, r.detail);
        assert_true(r.entries > 0);
    }
}

static nb_tensor *numbers(nb_context *nb, nb_dims shape, uint64_t seed) {
    double  v[64];
    int64_t n = 1;
    for (int i = 0; i < shape.rank; i++) n *= shape.size[i];
    for (int64_t i = 0; i < n; i++) v[i] = 2 * next_real(&seed) - 1;
    return nb_from(nb, NB_F64, shape, v);
}

static void test_own_derivatives(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_layer   *layers[] = {nb_layer_batch_norm(nb, 2, NULL), nb_layer_batch_norm(nb, 2, &(nb_norm_options){.plain = true}),
                            nb_layer_layer_norm(nb, nb_shape(2, 2), NULL)};
    for (int i = 0; i < 3; i++) {
        assert_true(nb_layer_cast(layers[i], NB_F64));
        check_twice(nb, layer_function, layers[i], nb_list_of(nb, numbers(nb, nb_shape(3, 2, 2), 1)));
    }
    check_twice(nb, binary_function, NULL, nb_list_of(nb, numbers(nb, nb_shape(5), 2), numbers(nb, nb_shape(5), 3)));
    nb_close(nb);
}

/* At the ends, where PyTorch clamps: finite values and derivatives. */
static void test_clamped(void **state) {
    (void)state;
    nb_context  *nb = nb_open(NULL);
    float        v[] = {0, 1, 0, 1}, t[] = {0, 1, 1, 0};
    nb_tensor   *p = nb_param(nb, "p", nb_from(nb, NB_F32, nb_shape(4), v)), *target = nb_from(nb, NB_F32, nb_shape(4), t);
    nb_tensor   *y = nb_binary_cross_entropy(p, target, NB_REDUCE_NONE);
    nb_tensor   *dp = nb_grads(nb_sum(y, nb_axes(), false), NULL, nb_list_of(nb, p)).at[0];
    const float *a = nb_data(y), *b = nb_data(dp);
    assert_true(a[0] == 0 && a[1] == 0 && a[2] == 100 && a[3] == 100);
    for (int i = 0; i < 4; i++) assert_true(isfinite(b[i]));
    float      q[] = {-INFINITY, -1, 0, -2}, zero[] = {0, 0.5f, 0.5f, 0};
    nb_tensor *log_q = nb_param(nb, "q", nb_from(nb, NB_F32, nb_shape(4), q)), *share = nb_from(nb, NB_F32, nb_shape(4), zero);
    assert_true(isfinite(nb_item(nb_kl_divergence(log_q, share, NB_REDUCE_SUM))));
    nb_close(nb);
}

/* --------------------------------------------------------------------------------------------------- regularisers, optimisers */

static void test_regularizers(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    float       v[] = {3, 4, -0.3f, 0.4f}, u[] = {-2};
    nb_tensor  *w = nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(2, 2), v)),
              *b = nb_param(nb, "b", nb_from(nb, NB_F32, nb_shape(1), u));
    nb_list both = nb_list_of(nb, w, b);
    assert_true(fabs(nb_item(nb_l1(both)) - 9.7) < 1e-5);
    assert_true(fabs(nb_item(nb_l2(both)) - 14.625) < 1e-5);
    assert_true(fabs(nb_item(nb_elastic(both, 0.1, 0.01)) - 1.11625) < 1e-5);
    nb_tensor   *dw = nb_grads(nb_elastic(both, 0.1, 0.01), NULL, nb_list_of(nb, w)).at[0];
    const float *d = nb_data(dw);
    assert_true(fabs(d[2] - (-0.1 - 0.003)) < 1e-6);
    const float *rows = nb_data(nb_max_norm(w, 1));
    assert_true(fabs(rows[0] - 0.6) < 1e-6 && fabs(rows[1] - 0.8) < 1e-6 && rows[2] == v[2] && rows[3] == v[3]);
    nb_max_norm(w, 0);
    expect_error(nb, "the limit must be above 0");
    nb_close(nb);
}

static void test_optimizer_state(void **state) {
    (void)state;
    nb_context              *nb = nb_open(NULL);
    nb_net                  *net = nb_net_parse(nb, "linear 2, linear 1", nb_shape(3));
    nb_optimizer            *o = nb_adam(nb_net_parameters(net), 0.5, NULL);
    static const char *const names[] = {"optimizer.rate", "optimizer.steps", "0.weight.m", "0.weight.v", "0.bias.m",
                                        "0.bias.v",       "1.weight.m",      "1.weight.v", "1.bias.m",   "1.bias.v"};
    nb_list                  s = nb_optimizer_state(o);
    assert_int_equal(s.n, 10);
    for (int i = 0; i < s.n; i++) assert_string_equal(nb_name(s.at[i]), names[i]);

    /* A program follows the rate: with 0 it changes nothing but slots and the count. */
    nb_tensor *x = nb_ones(nb, NB_F32, nb_shape(4, 3)),
              *loss = nb_mean(nb_square(nb_net_apply(net, x, NB_TRAIN)), nb_axes(), false);
    nb_program *p = nb_compile(nb, nb_update(o, loss));
    assert_true(nb_run(p) && nb_run(p));
    double before = nb_item(nb_output(p, 0));
    assert_true(nb_optimizer_set_rate(o, 0));
    assert_true(nb_optimizer_rate(o) == 0);
    assert_true(nb_run(p) && nb_run(p));
    double middle = nb_item(nb_output(p, 0));
    assert_true(nb_run(p));
    assert_true(nb_item(nb_output(p, 0)) == middle && middle != before);
    int64_t steps;
    assert_true(nb_read(s.at[1], &steps, sizeof steps));
    assert_int_equal(steps, 5);

    nb_optimizer_clip_norm(o, 0);
    expect_error(nb, "nb_optimizer_clip_norm: the limit must be above 0, got 0");
    assert_null(nb_sgd(nb_list_of(nb, x), 0.1, NULL));
    expect_error(nb, "nb_sgd: parameter 0 is not kept");
    assert_null(nb_sgd(nb_net_parameters(net), -1, NULL));
    expect_error(nb, "the rate is -1");
    assert_null(nb_sgd(nb_net_parameters(net), 1, &(nb_sgd_options){.nesterov = true}));
    expect_error(nb, "nesterov needs a momentum");
    nb_tensor *other = nb_param(nb, "other", nb_zeros(nb, NB_F32, nb_shape()));
    assert_false(nb_optimizer_group(o, nb_list_of(nb, other), 1, 0));
    expect_error(nb, "other is not among the optimizer's parameters");
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------- without memory */

typedef struct budget {
    long left, live;
} budget;

static void *spend(void *user, size_t size) {
    budget *b = user;
    if (b->left-- <= 0) return NULL;
    b->live++;
    return malloc(size);
}

static void give_back(void *user, void *pointer) {
    if (pointer) ((budget *)user)->live--;
    free(pointer);
}

/* Every allocation on the way to an optimiser fails once: an error, no leak, no crash. */
static bool build(long allocations) {
    budget       b = {.left = allocations};
    nb_allocator a = {spend, give_back, &b};
    nb_context  *nb = nb_open(&(nb_options){.allocator = &a});
    if (!nb) {
        assert_int_equal(b.live, 0);
        return false;
    }
    nb_net *net = nb_net_parse(nb, "conv 2 3 name=stem, batchnorm, residual(conv 2 3 pad=1), dropout, flatten, linear 2",
                               nb_shape(1, 5, 5));
    if (net) nb_layer_cast(nb_net_root(net), NB_F64);
    nb_optimizer *o = net && !nb_error(nb) ? nb_adam(nb_net_parameters(net), 0.1, NULL) : NULL;
    if (o) {
        nb_tensor *loss = nb_mean(nb_net_apply(net, nb_ones(nb, NB_F64, nb_shape(2, 1, 5, 5)), NB_TRAIN), nb_axes(), false);
        nb_update(o, loss);
    }
    bool done = o && !nb_error(nb);
    if (!done) assert_int_equal(nb_error_status(nb), NB_NO_MEMORY);
    if (net && allocations % 2) nb_net_free(net);
    nb_close(nb);
    assert_int_equal(b.live, 0);
    return done;
}

static void test_without_memory(void **state) {
    (void)state;
    long n = 0;
    while (!build(n)) n++;
    assert_true(n > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_language),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_null_is_harmless),
        cmocka_unit_test(test_layer_errors),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_own_derivatives),
        cmocka_unit_test(test_clamped),
        cmocka_unit_test(test_regularizers),
        cmocka_unit_test(test_optimizer_state),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
