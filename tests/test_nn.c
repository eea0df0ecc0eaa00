/* test_nn.c: layers, losses, optimisers, initial values and schedules against PyTorch's numbers, case by case as in
 * tools/torch_nn.py. */
#include "golden.h"

enum { STEPS = 20 };

/* Runs a training program and compares the losses, its first output. */
static void train(nb_context *nb, nb_list roots, const char *format, const char *name, double tolerance) {
    comparison  c = compare_with(format, name, tolerance);
    nb_program *p = nb_compile(nb, roots);
    for (int i = 0; i < STEPS; i++) {
        if (!nb_run(p)) fail_msg("%s: %s", c.name, nb_error(nb));
        compare_number(&c, nb_item(nb_output(p, 0)), NB_F64);
    }
    compare_end(&c);
    nb_program_free(p);
}

/* --------------------------------------------------------------------------------------------------------------------- layers */

static const struct {
    const char *name, *text;
    nb_dims     shape;
    nb_mode     mode;
} layers[] = {
    {"linear", "linear 3", {2, {3, 4}}, NB_TRAIN},
    {"linear_plain", "linear 3 bias=no", {2, {3, 4}}, NB_TRAIN},
    {"conv", "conv 3 3", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"conv_pad", "conv 3 3 pad=1 stride=2 bias=no", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"conv_same", "conv 2 2x3 pad=same", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"conv_groups", "conv 4 2 groups=2 dilation=2", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"maxpool", "maxpool 2", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"maxpool_pad", "maxpool 3 stride=2 pad=1 ceil=yes", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"avgpool", "avgpool 2", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"avgpool_pad", "avgpool 3 stride=2 pad=1 count_pad=no", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"adaptiveavgpool", "adaptiveavgpool 3x2", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"adaptivemaxpool", "adaptivemaxpool 3x2", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"globalavgpool", "globalavgpool", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"batchnorm", "batchnorm", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"batchnorm_rows", "batchnorm eps=1e-3 momentum=0.3", {2, {5, 3}}, NB_TRAIN},
    {"batchnorm_plain", "batchnorm affine=no", {2, {5, 3}}, NB_TRAIN},
    {"batchnorm_eval", "batchnorm", {4, {2, 2, 4, 4}}, NB_EVAL},
    {"layernorm", "layernorm axes=2", {3, {3, 2, 3}}, NB_TRAIN},
    {"layernorm_plain", "layernorm affine=no eps=0.001", {2, {3, 4}}, NB_TRAIN},
    {"layernorm_steps", "layernorm", {3, {2, 2, 3}}, NB_TRAIN},
    {"linear_steps", "linear 2", {3, {2, 2, 3}}, NB_TRAIN},
    {"embedding", "embedding 5 3", {2, {2, 4}}, NB_TRAIN},
    {"positions", "embedding 5 3, positions", {2, {2, 4}}, NB_TRAIN},
    {"lstm", "lstm 2", {3, {2, 4, 3}}, NB_TRAIN},
    {"lstm_plain", "lstm 3 bias=no", {3, {3, 2, 2}}, NB_TRAIN},
    {"attention", "attention 2", {3, {2, 3, 4}}, NB_TRAIN},
    {"attention_causal", "attention 2 causal=yes bias=no", {3, {2, 4, 4}}, NB_TRAIN},
    {"transformer", "transformer 2", {3, {2, 3, 4}}, NB_TRAIN},
    {"gpt",
     "embedding 5 4, positions, repeat 2 (transformer 2 hidden=4 causal=yes), layernorm, linear 5 bias=no",
     {2, {2, 4}},
     NB_TRAIN},
    {"flatten", "flatten", {3, {2, 2, 3}}, NB_TRAIN},
    {"prelu", "prelu", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"prelu_each", "prelu each=channel", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"residual", "linear 4, residual(linear 5, tanh, linear 4), linear 2", {2, {3, 4}}, NB_TRAIN},
    {"sequential", "conv 2 3\n sequential(batchnorm, relu)\n flatten, linear 3", {4, {2, 2, 4, 4}}, NB_TRAIN},
    {"relu", "linear 3, relu", {2, {3, 2}}, NB_TRAIN},
    {"leaky_relu", "linear 3, leaky_relu 0.1", {2, {3, 2}}, NB_TRAIN},
    {"elu", "linear 3, elu alpha=0.7", {2, {3, 2}}, NB_TRAIN},
    {"selu", "linear 3, selu", {2, {3, 2}}, NB_TRAIN},
    {"gelu", "linear 3, gelu", {2, {3, 2}}, NB_TRAIN},
    {"gelu_tanh", "linear 3, gelu_tanh", {2, {3, 2}}, NB_TRAIN},
    {"silu", "linear 3, silu", {2, {3, 2}}, NB_TRAIN},
    {"softplus", "linear 3, softplus", {2, {3, 2}}, NB_TRAIN},
    {"softsign", "linear 3, softsign", {2, {3, 2}}, NB_TRAIN},
    {"hardtanh", "linear 3, hardtanh", {2, {3, 2}}, NB_TRAIN},
    {"hardsigmoid", "linear 3, hardsigmoid", {2, {3, 2}}, NB_TRAIN},
    {"hardswish", "linear 3, hardswish", {2, {3, 2}}, NB_TRAIN},
    {"mish", "linear 3, mish", {2, {3, 2}}, NB_TRAIN},
    {"sigmoid", "linear 3, sigmoid", {2, {3, 2}}, NB_TRAIN},
    {"tanh", "linear 3, tanh", {2, {3, 2}}, NB_TRAIN},
    {"softmax", "linear 3, softmax", {2, {3, 2}}, NB_TRAIN},
    {"log_softmax", "linear 3, log_softmax", {2, {3, 2}}, NB_TRAIN},
};

static void set_all(nb_context *nb, nb_list tensors, int seed) {
    for (int i = 0; i < tensors.n; i++) {
        nb_tensor *v = fill(nb, NB_F64, nb_shape_of(tensors.at[i]), seed + i);
        assert_true(nb_set(tensors.at[i], nb_data(v), nb_bytes(v)));
    }
}

/* Buffers of evaluation: |fill| + 0.5, as in the script. */
static void set_buffers(nb_context *nb, nb_list state, nb_list parameters) {
    int seed = 30;
    for (int i = 0; i < state.n; i++) {
        bool trained = false;
        for (int k = 0; k < parameters.n; k++) trained = trained || parameters.at[k] == state.at[i];
        if (trained) continue;
        nb_tensor *v = nb_add(nb_abs(fill(nb, NB_F64, nb_shape_of(state.at[i]), seed++)), nb_number(nb, 0.5));
        assert_true(nb_set(state.at[i], nb_data(v), nb_bytes(v)));
    }
}

static void check_names(const char *name, nb_list state) {
    char   names[1024] = "";
    record r = golden("%s.names", name);
    for (int i = 0; i < state.n; i++) {
        if (i) strcat(names, " ");
        strcat(names, nb_name(state.at[i]));
    }
    assert_string_equal(names, r.words);
}

/* Whole numbers 0..4 for an embedding of 5, as in the script. */
static nb_tensor *indices(nb_context *nb, nb_dims shape) {
    int64_t value[MOST];
    for (int i = 0; i < MOST; i++) value[i] = i * 7 % 5;
    return nb_from(nb, NB_I64, shape, value);
}

static void check_layer(int i) {
    const char *name = layers[i].name;
    nb_context *nb = nb_open(NULL);
    nb_dims     item = {.rank = layers[i].shape.rank - 1};
    for (int k = 0; k < item.rank; k++) item.size[k] = layers[i].shape.size[k + 1];
    nb_net *net = nb_net_parse(nb, layers[i].text, item);
    expect_good(nb);
    assert_true(nb_layer_cast(nb_net_root(net), NB_F64));
    nb_list w = nb_net_parameters(net);
    set_all(nb, w, 10);
    if (layers[i].mode == NB_EVAL) set_buffers(nb, nb_net_state(net), w);
    check_names(name, nb_net_state(net));
    bool       is_embedding = nb_net_input_dtype(net) == NB_I64;
    nb_tensor *x = nb_param(nb, "x", is_embedding ? indices(nb, layers[i].shape) : fill(nb, NB_F64, layers[i].shape, 1));
    nb_list    trained = is_embedding ? w : nb_list_join(nb, nb_list_of(nb, x), w);

    nb_tensor *y = nb_net_apply(net, x, layers[i].mode);
    nb_list    g = nb_grads(y, fill(nb, NB_F64, nb_shape_of(y), 2), trained);
    comparison c = compare_with("%s.y", name, 1e-9);
    compare_tensor(&c, y);
    compare_end(&c);
    c = compare_with("%s.gradients", name, 1e-9);
    for (int k = 0; k < g.n; k++) compare_tensor(&c, g.at[k]);
    compare_end(&c);

    nb_tensor    *loss = nb_mse(y, fill(nb, NB_F64, nb_shape_of(y), 3), NB_REDUCE_MEAN);
    nb_optimizer *sgd = nb_sgd(trained, 0.05, &(nb_sgd_options){.momentum = 0.9});
    train(nb, nb_update(sgd, loss), "%s.losses", name, 1e-9);
    c = compare_with("%s.state", name, 1e-9);
    nb_list state = nb_net_state(net);
    for (int k = 0; k < state.n; k++) compare_tensor(&c, state.at[k]);
    compare_end(&c);
    nb_close(nb);
}

static void test_layers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) check_layer((int)i);
}

/* --------------------------------------------------------------------------------------------------------------------- losses */

enum { CLASSES, SOME_CLASSES, NUMBERS, SHARES, SIGNS, ROWS, OFF_NUMBERS };

static const struct {
    const char *name;
    int         target;
    bool        weights;
    double      smoothing;
} losses[] = {
    {"cross_entropy", CLASSES, false, 0},
    {"cross_entropy_weights", CLASSES, true, 0},
    {"cross_entropy_smooth", CLASSES, false, 0.1},
    {"cross_entropy_ignore", SOME_CLASSES, false, 0},
    {"cross_entropy_all", SOME_CLASSES, true, 0.2},
    {"cross_entropy_image", CLASSES, false, 0},
    {"nll", CLASSES, false, 0},
    {"nll_weights", SOME_CLASSES, true, 0},
    {"binary_cross_entropy", SHARES, false, 0},
    {"binary_cross_entropy_logits", SHARES, false, 0},
    {"hinge", SIGNS, false, 0},
    {"squared_hinge", SIGNS, false, 0},
    {"multi_class_hinge", CLASSES, false, 0},
    {"multi_class_hinge_2", CLASSES, false, 0},
    {"mse", NUMBERS, false, 0},
    {"mae", OFF_NUMBERS, false, 0},
    {"huber", NUMBERS, false, 0},
    {"kl_divergence", ROWS, false, 0},
};

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static nb_tensor *target_of(nb_context *nb, int i, nb_dtype dtype, nb_dims shape) {
    static const int64_t classes[] = {1, 4, 0, 1}, some[] = {1, -100, 0, 1}, image[] = {1, 0, 2, 1};
    nb_tensor           *numbers = fill(nb, NB_F64, shape, 3), *t = NULL;
    switch (losses[i].target) {
    case CLASSES: return shape.rank == 3 ? nb_from(nb, NB_I64, nb_shape(2, 2), image) : nb_from(nb, NB_I64, nb_shape(4), classes);
    case SOME_CLASSES: return nb_from(nb, NB_I64, nb_shape(4), some);
    case OFF_NUMBERS: t = nb_add(numbers, nb_number(nb, 0.003)); break;
    case SHARES: t = nb_abs(numbers); break;
    case SIGNS:
        t = nb_sub(nb_mul(nb_cast(nb_greater_equal(numbers, nb_number(nb, 0)), NB_F64), nb_number(nb, 2)), nb_number(nb, 1));
        break;
    case ROWS: {
        nb_tensor *row = nb_softmax(nb_mul(numbers, nb_number(nb, 2)), 1);
        t = nb_where(nb_less(row, nb_number(nb, 0.1)), nb_zeros_like(row), row);
        break;
    }
    default: t = numbers;
    }
    return dtype == NB_F64 ? t : nb_cast(t, dtype);
}

static nb_tensor *apply_loss(int i, nb_tensor *x, nb_reduction r) {
    static const double w[] = {0.5, 1.0, 2.0, 0.25, 1.5};
    const char         *name = losses[i].name;
    nb_context         *nb = nb_context_of(x);
    nb_dtype            dtype = nb_dtype_of(x);
    nb_tensor          *t = target_of(nb, i, dtype, nb_shape_of(x));
    nb_class_options    o = {.reduction = r, .label_smoothing = losses[i].smoothing, .ignore_index = -100};
    if (losses[i].weights) o.class_weights = nb_cast(nb_from(nb, NB_F64, nb_shape(5), w), dtype);
    o.ignore = losses[i].target == SOME_CLASSES;
    if (starts(name, "cross_entropy")) return nb_cross_entropy(x, t, &o);
    if (starts(name, "nll")) return nb_nll(x, t, &o);
    if (strcmp(name, "binary_cross_entropy") == 0) return nb_binary_cross_entropy(nb_sigmoid(x), t, r);
    if (starts(name, "binary")) return nb_binary_cross_entropy_logits(x, t, r);
    if (starts(name, "hinge")) return nb_hinge(x, t, r);
    if (starts(name, "squared")) return nb_squared_hinge(x, t, r);
    if (starts(name, "multi")) return nb_multi_class_hinge(x, t, strstr(name, "_2") ? 2 : 1, 0.8, r);
    if (starts(name, "mse")) return nb_mse(x, t, r);
    if (starts(name, "mae")) return nb_mae(x, t, r);
    if (starts(name, "huber")) return nb_huber(x, t, 0.7, r);
    return nb_kl_divergence(nb_log_softmax(x, 1), t, r);
}

static void check_loss(int i, nb_dtype dtype) {
    const char *name = losses[i].name;
    nb_context *nb = nb_open(NULL);
    nb_dims     shape = strstr(name, "image") ? nb_shape(2, 3, 2) : nb_shape(4, 5);
    nb_tensor  *x = nb_param(nb, "x", fill(nb, dtype, shape, 1)), *mean = apply_loss(i, x, NB_REDUCE_MEAN);
    if (dtype == NB_F64) {
        nb_tensor *each = apply_loss(i, x, NB_REDUCE_NONE);
        comparison c = compare_with("%s.y", name, 1e-9);
        compare_tensor(&c, each);
        compare_tensor(&c, mean);
        compare_tensor(&c, apply_loss(i, x, NB_REDUCE_SUM));
        compare_end(&c);
        c = compare_with("%s.gradients", name, 1e-9);
        compare_tensor(&c, nb_grads(mean, NULL, nb_list_of(nb, x)).at[0]);
        compare_tensor(&c, nb_grads(each, fill(nb, NB_F64, nb_shape_of(each), 2), nb_list_of(nb, x)).at[0]);
        compare_end(&c);
    }
    nb_optimizer *sgd = nb_sgd(nb_list_of(nb, x), 0.1, NULL);
    nb_list       roots = nb_update(sgd, mean);
    train(nb, roots, dtype == NB_F64 ? "%s.losses" : "%s.losses32", name, dtype == NB_F64 ? 1e-9 : 1e-4);
    nb_close(nb);
}

static void test_losses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        check_loss((int)i, NB_F64);
        check_loss((int)i, NB_F32);
    }
}

/* ----------------------------------------------------------------------------------------------------------------- optimisers */

static nb_optimizer *make_optimizer(const char *name, nb_list p) {
    nb_context *nb = nb_context_of(p.at[0]);
    bool        all = strstr(name, "_all") != NULL;
    if (strcmp(name, "sgd_momentum") == 0)
        return nb_sgd(p, 0.1, &(nb_sgd_options){.momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01});
    if (strcmp(name, "sgd_nesterov") == 0) return nb_sgd(p, 0.1, &(nb_sgd_options){.momentum = 0.9, .nesterov = true});
    if (starts(name, "sgd")) return nb_sgd(p, 0.1, NULL);
    if (starts(name, "rmsprop")) {
        nb_rmsprop_options o = {.alpha = 0.9, .eps = 1e-6, .momentum = 0.5, .centered = true, .weight_decay = 0.1};
        return nb_rmsprop(p, 0.01, all ? &o : NULL);
    }
    if (starts(name, "adagrad"))
        return nb_adagrad(p, 0.1, all ? &(nb_adagrad_options){.rate_decay = 0.05, .initial = 0.1, .weight_decay = 0.01} : NULL);
    if (starts(name, "adamw")) return nb_adamw(p, 0.05, all ? &(nb_adam_options){.weight_decay = 0.3, .amsgrad = true} : NULL);
    if (strcmp(name, "adam_all") == 0)
        return nb_adam(p, 0.05,
                       &(nb_adam_options){.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-5, .weight_decay = 0.1, .amsgrad = true});
    if (strcmp(name, "groups") == 0) {
        nb_optimizer *o = nb_adamw(p, 0.05, &(nb_adam_options){.weight_decay = 0.2});
        assert_true(nb_optimizer_group(o, nb_list_of(nb, p.at[1]), 0.4, 0));
        return o;
    }
    if (starts(name, "clip")) {
        nb_optimizer *o = nb_sgd(p, 0.5, NULL);
        if (strstr(name, "norm"))
            nb_optimizer_clip_norm(o, 0.1);
        else
            nb_optimizer_clip_value(o, 0.05);
        return o;
    }
    nb_optimizer *o = nb_adam(p, 0.05, NULL);
    if (strcmp(name, "max_norm") == 0) nb_optimizer_max_norm(o, 0.9);
    return o;
}

static void test_optimizers(void **state) {
    (void)state;
    static const char *const names[] = {"sgd",       "sgd_momentum", "sgd_nesterov", "rmsprop",    "rmsprop_all",
                                        "adagrad",   "adagrad_all",  "adam",         "adam_all",   "adamw",
                                        "adamw_all", "groups",       "clip_norm",    "clip_value", "max_norm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        nb_context *nb = nb_open(NULL);
        nb_tensor  *w = nb_param(nb, "w", fill(nb, NB_F64, nb_shape(3, 4), 10)),
                  *b = nb_param(nb, "b", fill(nb, NB_F64, nb_shape(3), 11));
        nb_tensor    *y = nb_tanh(nb_linear(fill(nb, NB_F64, nb_shape(5, 4), 1), w, b));
        nb_tensor    *loss = nb_mse(y, fill(nb, NB_F64, nb_shape(5, 3), 3), NB_REDUCE_MEAN);
        nb_optimizer *o = make_optimizer(names[i], nb_list_of(nb, w, b));
        expect_good(nb);
        train(nb, nb_update(o, loss), "%s.losses", names[i], 1e-9);
        comparison c = compare_with("%s.state", names[i], 1e-9);
        compare_tensor(&c, w);
        compare_tensor(&c, b);
        compare_end(&c);
        nb_close(nb);
    }
}

/* ------------------------------------------------------------------------------------------------------------- initial values */

/* A kept tensor, just after nb_seed(nb, 7). */
static nb_tensor *zeros(nb_context *nb, nb_dtype dtype, nb_dims shape) {
    nb_tensor *t = nb_param(nb, "t", nb_zeros(nb, dtype, shape));
    nb_seed(nb, 7);
    return t;
}

static void check_init(nb_tensor *t, bool done, const char *name, double tolerance) {
    expect_good(nb_context_of(t));
    assert_true(done);
    comparison c = compare_with("init.%s", name, tolerance);
    compare_tensor(&c, t);
    compare_end(&c);
}

static nb_layer *make_embedding(nb_context *nb, int64_t n) { return nb_layer_embedding(nb, n, 4); }
static nb_layer *make_lstm(nb_context *nb, int64_t n) { return nb_layer_lstm(nb, n, 2, true); }
static nb_layer *make_attention(nb_context *nb, int64_t n) { return nb_layer_attention(nb, n, 2, false, true); }
static nb_layer *make_transformer(nb_context *nb, int64_t n) { return nb_layer_transformer(nb, n, 2, 8, true); }

static void check_layer_init(nb_context *nb, const char *name, int64_t n, double tolerance,
                             nb_layer *make(nb_context *nb, int64_t n)) {
    nb_seed(nb, 7);
    nb_list    w = nb_layer_parameters(make(nb, n));
    comparison c = compare_with("init.%s", name, tolerance);
    for (int i = 0; i < w.n; i++) compare_tensor(&c, w.at[i]);
    compare_end(&c);
}

static void test_initial_values(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_dims     small = nb_shape(3, 5), square = nb_shape(5, 5), matrix = nb_shape(3, 4), window = nb_shape(3, 4, 2, 2);
    nb_tensor  *t;
#define CHECK(name, dtype, shape, call, tolerance) t = zeros(nb, dtype, shape), check_init(t, call, name, tolerance)
    CHECK("uniform", NB_F32, small, nb_init_uniform(t, -0.3, 0.8), 0);
    CHECK("uniform_f64", NB_F64, small, nb_init_uniform(t, -0.3, 0.8), 0);
    CHECK("normal_small", NB_F32, nb_shape(3, 3), nb_init_normal(t, 1, 0.5), 1e-6);
    CHECK("normal", NB_F32, square, nb_init_normal(t, 1, 0.5), 1e-6);
    CHECK("normal_f64", NB_F64, square, nb_init_normal(t, 1, 0.5), 1e-12);
    CHECK("truncated_normal", NB_F32, square, nb_init_truncated_normal(t, 0.1, 0.5, -0.4, 0.6), 1e-6);
    CHECK("truncated_normal_tail", NB_F32, square, nb_init_truncated_normal(t, 0, 1, 1, 3), 1e-6);
    CHECK("xavier_uniform", NB_F32, matrix, nb_init_xavier_uniform(t, 2), 0);
    CHECK("xavier_normal", NB_F32, window, nb_init_xavier_normal(t, 2), 1e-6);
    CHECK("kaiming_uniform", NB_F32, window, nb_init_kaiming_uniform(t, nb_gain("relu", 0), NB_FAN_IN), 0);
    CHECK("kaiming_normal", NB_F32, window, nb_init_kaiming_normal(t, nb_gain("leaky_relu", 0.2), NB_FAN_OUT), 1e-6);
    CHECK("lecun_uniform", NB_F32, matrix, nb_init_lecun_uniform(t), 0);
    CHECK("lecun_normal", NB_F32, nb_shape(3, 6), nb_init_lecun_normal(t), 1e-6);
    CHECK("orthogonal", NB_F32, nb_shape(4, 6), nb_init_orthogonal(t, 1.5), 2e-6);
    CHECK("orthogonal_tall", NB_F32, nb_shape(3, 2, 1, 1), nb_init_orthogonal(t, 1), 2e-6);
    CHECK("identity", NB_F32, nb_shape(2, 3), nb_init_identity(t), 0);
    CHECK("dirac", NB_F32, nb_shape(4, 3, 3, 2), nb_init_dirac(t, 2), 0);
#undef CHECK

    /* Odd numbers of small normal draws: the second of a pair goes to the next tensor. */
    nb_tensor *three[3];
    for (int i = 0; i < 3; i++) three[i] = zeros(nb, NB_F32, nb_shape(3));
    comparison c = compare_with("%s", "init.pairs", 1e-6);
    for (int i = 0; i < 3; i++) assert_true(nb_init_normal(three[i], 0, 1));
    for (int i = 0; i < 3; i++) compare_tensor(&c, three[i]);
    compare_end(&c);

    /* A whole net, as torch.manual_seed(7) makes it. */
    nb_seed(nb, 7);
    nb_net *net = nb_net_parse(nb, "conv 2 3, batchnorm, flatten, linear 3", nb_shape(1, 4, 4));
    nb_list w = nb_net_parameters(net);
    c = compare_with("%s", "init.net", 0);
    for (int i = 0; i < w.n; i++) compare_tensor(&c, w.at[i]);
    compare_end(&c);
    check_layer_init(nb, "embedding", 5, 1e-6, make_embedding);
    check_layer_init(nb, "lstm", 3, 0, make_lstm);
    check_layer_init(nb, "attention", 4, 0, make_attention);
    check_layer_init(nb, "transformer", 4, 0, make_transformer);
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------------ schedules */

static void test_schedules(void **state) {
    (void)state;
    static const struct {
        const char *name;
        nb_schedule s;
    } cases[] = {
        {"constant", {.kind = NB_CONSTANT, .rate = 0.1}},
        {"step", {.kind = NB_STEP, .rate = 0.1, .every = 6, .gamma = 0.3}},
        {"exponential", {.kind = NB_EXPONENTIAL, .rate = 0.1, .gamma = 0.9}},
        {"cosine", {.kind = NB_COSINE, .rate = 0.1, .steps = 20, .last = 0.01}},
        {"one_cycle", {.kind = NB_ONE_CYCLE, .rate = 0.1, .steps = 30}},
        {"one_cycle_early", {.kind = NB_ONE_CYCLE, .rate = 0.1, .steps = 25, .peak_at = 0.2}},
        {"warm_up", {.kind = NB_EXPONENTIAL, .rate = 0.1, .gamma = 0.9, .warm_up = 5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        comparison c = compare_with("schedule.%s", cases[i].name, 1e-14);
        for (int t = 0; t < c.expected.count; t++) compare_number(&c, nb_schedule_rate(&cases[i].s, t), NB_F64);
    }
    /* Beyond the end they stay where they are. */
    assert_true(nb_schedule_rate(&cases[3].s, 1000) == 0.01);
    assert_true(fabs(nb_schedule_rate(&cases[4].s, 29) - 0.1 / 25e4) < 1e-18 &&
                nb_schedule_rate(&cases[4].s, 1000) == 0.1 / 25e4);
    assert_true(fabs(nb_schedule_rate(&(nb_schedule){.kind = NB_STEP, .rate = 1, .steps = 9}, 8) - 0.01) < 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),         cmocka_unit_test(test_losses),    cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_initial_values), cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
