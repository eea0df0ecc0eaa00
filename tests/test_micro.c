/* The engine of examples/micro.c and Nabla find the same gradients: of the whole net on all points, and of a long chain. */
#include "test.h"

int micro_main(void);
#define main micro_main
#include "../examples/micro.c"
#undef main

enum { MOST = 400 };

/* The loss of micro's net as one graph in f64; `parameters` are its weights [out,in] and biases [out], layer by layer. */
static nb_tensor *loss_in_nabla(nb_context *nb, const tape *t, double point[][2], const double *label, int n_parameters,
                                nb_list parameters) {
    double     minus_label[POINTS], all[MOST];
    nb_tensor *x = nb_from(nb, NB_F64, nb_shape(POINTS, 2), point);
    for (int i = 0; i < POINTS; i++) minus_label[i] = -label[i];
    for (int i = 0; i < n_parameters; i++) all[i] = t->at[i].data;
    const double *at = all;
    for (int l = 0; l < LAYERS; l++) {
        /* micro keeps each neuron's weights and bias together: a matrix [out, in + 1] */
        nb_tensor *both = nb_param(nb, "layer", nb_from(nb, NB_F64, nb_shape(width[l + 1], width[l] + 1), at));
        nb_tensor *weight = nb_slice(both, 1, 0, width[l], 1), *bias = nb_slice(both, 1, width[l], width[l] + 1, 1);
        parameters.at[l] = both;
        x = nb_linear(x, weight, nb_reshape(bias, nb_shape(width[l + 1])));
        if (l < LAYERS - 1) x = nb_relu(x);
        at += width[l + 1] * (width[l] + 1);
    }
    nb_tensor *slack = nb_mul(nb_from(nb, NB_F64, nb_shape(POINTS, 1), minus_label), x), *decay = nb_number(nb, 0);
    for (int l = 0; l < LAYERS; l++) decay = nb_add(decay, nb_sum(nb_square(parameters.at[l]), nb_axes(), false));
    return nb_add(nb_mean(nb_relu(nb_add(slack, nb_number(nb, 1))), nb_axes(), false), nb_mul(decay, nb_number(nb, 1e-4)));
}

static void gradients_of_the_net_agree(void **state) {
    (void)state;
    double   point[POINTS][2], label[POINTS];
    unsigned seed = 1;
    int      right;
    tape     t = {.at = malloc(ROOM * sizeof(value)), .room = ROOM};
    make_moons(point, label, &seed);
    int n = make_parameters(&t, &seed);
    assert_in_range(n, 1, MOST);
    for (int step = 0; step < 20; step++) {
        t.n = n;
        value *loss = loss_of(&t, n, point, label, &right);
        backward(loss);
        nb_context *nb = nb_open(NULL);
        nb_list     parameters = nb_list_new(nb, LAYERS);
        nb_tensor  *same = loss_in_nabla(nb, &t, point, label, n, parameters);
        nb_list     grads = nb_grads(same, NULL, parameters);
        assert_true(fabs(nb_item(same) - loss->data) < 1e-12);
        for (int l = 0, i = 0; l < LAYERS; l++) {
            const double *g = nb_data(grads.at[l]);
            expect_good(nb);
            for (int64_t k = 0; k < nb_count(grads.at[l]); k++, i++)
                if (fabs(g[k] - t.at[i].grad) > 1e-12)
                    fail_msg("step %d, parameter %d: Nabla says %.17g, micro %.17g", step, i, g[k], t.at[i].grad);
        }
        nb_close(nb);
        for (int i = 0; i < n; i++) t.at[i].data -= 0.5 * t.at[i].grad;
    }
    free(t.at);
}

/* y = x + x + ... : 100,000 values deep, and each the parent of the next one twice over. */
static void a_long_chain_needs_no_stack(void **state) {
    (void)state;
    tape   t = {.at = malloc(ROOM * sizeof(value)), .room = ROOM};
    value *x = number(&t, 2), *half = number(&t, 0.5), *y = x;
    for (int i = 0; i < 100000; i++) y = i % 2 ? mul(&t, y, half) : add(&t, y, y);
    backward(y);
    assert_true(y->data == 2 && x->grad == 1);
    backward(y); /* again: the same */
    assert_true(x->grad == 1);
    value *square = mul(&t, x, x);
    backward(square);
    assert_true(x->grad == 4);
    free(t.at);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_of_the_net_agree),
                                       cmocka_unit_test(a_long_chain_needs_no_stack)};
    return cmocka_run_group_tests_name("micro", tests, NULL, NULL);
}
