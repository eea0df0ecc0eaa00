/* test_draw.c: pictures as graphviz source: what must stand in them, and what is refused. That graphviz accepts them is seen in
 * cli.sh. */
#include "test.h"

static int count(const char *text, const char *word) {
    int n = 0;
    for (; (text = strstr(text, word)); text += strlen(word)) n++;
    return n;
}

static void expect_text(nb_context *nb, const char *picture, const char *word) {
    if (!picture) fail_msg("no picture: %s", nb_error(nb));
    if (!strstr(picture, word)) fail_msg("\"%s\" is not in the picture:\n%s", word, picture);
}

/* The example of Wikipedia's article: values and gradients in the boxes. */
static void test_values(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *a = nb_param(nb, "a<b>", nb_full(nb, NB_F64, nb_shape(), 2)),
              *b = nb_param(nb, "b", nb_full(nb, NB_F64, nb_shape(), 3));
    nb_tensor      *y = nb_set_name(nb_add(nb_mul(a, b), nb_sin(a)), "y");
    nb_list         xs = nb_list_of(nb, a, b), roots = nb_list_of(nb, y);
    nb_draw_options options = {.values = true, .of = xs, .gradients = nb_grads(y, NULL, xs)};
    char           *picture = nb_draw_graph(nb, roots, &options);
    expect_text(nb, picture, "6.9093");
    expect_text(nb, picture, "2.5839");
    expect_text(nb, picture, "a&lt;b&gt;"); /* names cannot break the source */
    expect_text(nb, picture, "×");
    assert_int_equal(count(picture, "grad</font>"), 2);
    nb_free(nb, picture);
    options.gradients.n = 1;
    assert_null(nb_draw_graph(nb, roots, &options));
    expect_error(nb, "1 gradients for 2 tensors");
    nb_close(nb);
}

/* A composition is one box forward and one backward; layers are frames; parameters stand in theirs. */
static void test_folding(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, "linear 4 name=first, relu, linear 3", nb_shape(5));
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(2, 5)), *t = nb_input(nb, "t", NB_I64, nb_shape(2));
    nb_tensor  *loss = nb_set_name(nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), t, NULL), "loss");
    nb_list     roots = nb_list_join(nb, nb_list_of(nb, loss), nb_grads(loss, NULL, nb_net_parameters(net)));
    char       *picture = nb_draw_graph(nb, roots, NULL);
    expect_text(nb, picture, "cluster_first");
    expect_text(nb, picture, "first.weight");
    assert_int_equal(count(picture, "label=<<b>cross_entropy</b>>"), 1);
    assert_int_equal(count(picture, "cross_entropy backward"), 1);
    assert_int_equal(count(picture, "<b>linear</b>"), 2);
    assert_int_equal(count(picture, "linear backward"), 2);
    assert_int_equal(count(picture, "<b>loss</b>"), 1);
    expect_text(nb, picture, "label=\"2×4\"");
    nb_free(nb, picture);
    picture = nb_draw_net(net);
    expect_text(nb, picture, "24 parameters");
    assert_int_equal(count(picture, " -> "), 4);
    nb_free(nb, picture);
    picture = nb_draw_neurons(net);
    assert_int_equal(count(picture, "tooltip"), 5 * 4 + 4 * 3);
    expect_text(nb, picture, "positive weight");
    nb_free(nb, picture);
    expect_good(nb);
    nb_close(nb);
}

static void test_residual(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, "linear 8, residual(linear 8, relu), linear 2", nb_shape(4));
    char       *picture = nb_draw_net(net);
    assert_int_equal(count(picture, "subgraph"), 1);
    assert_int_equal(count(picture, "label=\"+\""), 1);
    assert_int_equal(count(picture, " -> "), 7); /* a chain of 4 layers, sum and output, and the way around */
    nb_free(nb, picture);
    assert_null(nb_draw_neurons(net));
    expect_error(nb, "residual");
    nb_close(nb);
}

/* Leaves in the words in which they were written, with the place or name that summaries and messages give; by type where there
 * are no words. */
static void test_words(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    const char *text = "# a remark, with (brackets)\n"
                       "conv 8 3x5 pad=same name=first, residual(conv 8 3 pad=1, sequential(relu)),\n"
                       "maxpool 3  stride=2 # another\n"
                       "dropout 0.2, flatten, linear 10";
    char       *picture = nb_draw_net(nb_net_parse(nb, text, nb_shape(1, 28, 28)));
    expect_text(nb, picture, ">first</font>  <b>conv 8 3x5 pad=same</b>");
    expect_text(nb, picture, "\"1  residual\"");
    expect_text(nb, picture, ">1.0</font>  <b>conv 8 3 pad=1</b>");
    expect_text(nb, picture, ">1.1.0</font>  <b>relu</b>");
    expect_text(nb, picture, ">2</font>  <b>maxpool 3 stride=2</b>");
    expect_text(nb, picture, ">3</font>  <b>dropout 0.2</b>");
    expect_text(nb, picture, ">5</font>  <b>linear 10</b>");
    assert_null(strstr(picture, "name=first"));
    nb_free(nb, picture);
    nb_layer *layers[] = {nb_layer_conv2d(nb, 1, 2, 3, 5, true, NULL), nb_layer_flatten(nb)};
    picture = nb_draw_net(nb_net_new(nb, nb_layer_sequential(nb, 2, layers), nb_shape(1, 8, 8)));
    expect_text(nb, picture, ">0</font>  <b>conv2d 3×5</b>");
    expect_text(nb, picture, ">1</font>  <b>flatten</b>");
    nb_free(nb, picture);
    nb_close(nb);
}

/* Large graphs are refused with a remedy, or folded by layers; never drawn as they are. */
static void test_large(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(2)), *y = x;
    for (int i = 0; i < 100000; i++) y = nb_sin(y);
    assert_null(nb_draw_graph(nb, nb_list_of(nb, y), NULL));
    expect_error(nb, "nb_scope_push");
    nb_next_step(nb);
    y = x;
    for (int i = 0; i < 100000; i++) {
        char layer[16];
        snprintf(layer, sizeof layer, "part%d", i / 20000);
        nb_scope_push(nb, layer);
        y = nb_sin(y);
        nb_scope_pop(nb);
    }
    char *picture = nb_draw_graph(nb, nb_list_of(nb, y), NULL);
    expect_text(nb, picture, "cluster_part4");
    assert_int_equal(count(picture, " -> "), 5);
    nb_free(nb, picture);
    nb_next_step(nb);
    assert_null(nb_draw_graph(nb, nb_list_of(nb, nb_failed(nb)), NULL));
    nb_error_clear(nb);
    picture = nb_draw_graph(nb, nb_list_of(nb, x), NULL);
    expect_text(nb, picture, "<b>x</b>");
    nb_free(nb, picture);
    assert_null(nb_draw_net(NULL));
    assert_null(nb_draw_neurons(NULL));
    nb_net *wide = nb_net_parse(nb, "linear 65", nb_shape(4));
    assert_null(nb_draw_neurons(wide));
    expect_error(nb, "too wide");
    nb_close(nb);
}

/* A box for each call, with what it computes, reads and writes; arrows for values on their way; late calls in a frame. */
static void test_program(void **state) {
    (void)state;
    nb_context *nb = nb_open(NULL);
    nb_net     *net = nb_net_parse(nb, "linear 16, relu, linear 3", nb_shape(4));
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(8, 4)), *y = nb_input(nb, "y", NB_I64, nb_shape(8));
    nb_tensor  *loss = nb_set_name(nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL), "loss");
    nb_program *p = nb_compile(nb, nb_update(nb_sgd(nb_net_parameters(net), 0.1, NULL), loss));
    char       *picture = nb_draw_program(p);
    expect_good(nb);
    assert_int_equal(count(picture, "style=\"rounded,filled\""), nb_program_describe(p).calls);
    expect_text(nb, picture, "<b>0.weight</b> 16×4");
    expect_text(nb, picture, "&rarr; <b>0.weight</b> 16×4");
    expect_text(nb, picture, "&rarr; <b>loss</b> scalar");
    expect_text(nb, picture, "cluster_late");
    expect_text(nb, picture, "result of ");
    expect_text(nb, picture, " [weight=12]");
    expect_text(nb, picture, "[dir=back weight=3");
    expect_text(nb, picture, "nslimit"); /* or graphviz takes many minutes for an LSTM */
    nb_free(nb, picture);
    /* Adam's number of steps is written in place, and read by later calls: an arrow from the one to each of these. */
    nb_program *adam = nb_compile(nb, nb_update(nb_adam(nb_net_parameters(net), 0.1, NULL), loss));
    picture = nb_draw_program(adam);
    int writer = -1, readers = 0;
    for (int i = 0; i < nb_program_describe(adam).calls; i++) {
        nb_call_info c = nb_program_call(adam, i);
        for (int k = 0; k < c.n_reads && writer >= 0; k++) {
            if (c.reads[k] != nb_program_call(adam, writer).writes[0]) continue;
            char arrow[40];
            snprintf(arrow, sizeof arrow, "  c%d -> c%d [", i, writer);
            assert_non_null(strstr(picture, arrow));
            readers++;
        }
        if (c.n_writes == 1 && strcmp(nb_program_buffer(adam, c.writes[0]).name, "optimizer.steps") == 0) writer = i;
    }
    assert_true(writer >= 0 && readers > 0);
    nb_free(nb, picture);
    nb_program *plain = nb_compile_with(nb, nb_list_of(nb, nb_sin(nb_cast(x, NB_F64))), NULL);
    picture = nb_draw_program(plain);
    expect_text(nb, picture, "#c03030");
    assert_null(strstr(picture, "cluster_late"));
    nb_free(nb, picture);
    nb_tensor *z = x;
    for (int i = 0; i < 700; i++) z = nb_sin(z);
    assert_null(nb_draw_program(nb_compile_with(nb, nb_list_of(nb, z), &(nb_compile_options){.passes = "none"})));
    expect_error(nb, "700 calls are more than can be read");
    assert_null(nb_draw_program(NULL));
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_folding),
                                       cmocka_unit_test(test_residual), cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_large), cmocka_unit_test(test_program)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
