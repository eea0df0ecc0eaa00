// cxx_train.cpp: everything is usable from C++17: trains a small net with a layer, a loss, an optimiser and an operator of its
// own.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "nabla.h"

static int passed, failed;

static void check(bool good, const char *what) {
    (good ? passed : failed)++;
    if (!good) std::printf("not ok: %s\n", what);
}

static void straight(nb_tensor *, nb_tensor *dy, nb_list, nb_tensor **dx, void *) { dx[0] = dy; }

static nb_tensor *rounded_layer(nb_list state, nb_tensor *x, nb_mode, void *) {
    nb_context *nb = nb_context_of(x);
    nb_tensor  *y = nb_mul(x, state.at[0]);
    return nb_add(y, nb_mul(nb_with_derivative(nb_round(y), nb_list_of(nb, y), straight, nullptr), nb_number(nb, 0.01)));
}

int main() {
    nb_options options = {};
    options.seed = 1;
    nb_context *nb = nb_open(&options);

    nb_tensor *scale = nb_param(nb, "scale", nb_ones(nb, NB_F32, nb_shape(2)));
    nb_layer  *layers[] = {
        nb_layer_custom(nb, "rounded", rounded_layer, nb_list_of(nb, scale), 1, nullptr, nullptr),
        nb_layer_linear(nb, 2, 16, true),
        nb_layer_activation(nb, "tanh", 0),
        nb_layer_linear(nb, 16, 2, true),
    };
    nb_net *net = nb_net_new(nb, nb_layer_sequential(nb, 4, layers), nb_shape(2));

    // XOR of the signs.
    const int            n = 64;
    std::vector<float>   points(2 * n);
    std::vector<int64_t> labels(n);
    for (int i = 0; i < n; i++) {
        points[2 * i] = static_cast<float>(std::sin(3.0 * i));
        points[2 * i + 1] = static_cast<float>(std::cos(5.0 * i));
        labels[i] = (points[2 * i] > 0) != (points[2 * i + 1] > 0);
    }
    nb_tensor    *x = nb_input(nb, "x", NB_F32, nb_shape(n, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(n));
    nb_tensor    *scores = nb_net_apply(net, x, NB_TRAIN), *loss = nb_cross_entropy(scores, y, nullptr);
    nb_optimizer *adam = nb_adam(nb_net_parameters(net), 0.02, nullptr);
    nb_tensor    *right = nb_mean(nb_cast(nb_equal(nb_argmax(scores, 1, false), y), NB_F32), nb_axes(), false);
    nb_program   *train = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, loss, right), nb_update(adam, loss)));

    check(nb_set(x, points.data(), points.size() * sizeof points[0]), "set x");
    check(nb_set(y, labels.data(), labels.size() * sizeof labels[0]), "set y");
    double first = NAN;
    bool   ran = true;
    for (int step = 0; step < 300 && ran; step++) {
        ran = nb_run(train);
        if (step == 0) first = nb_item(nb_output(train, 0));
    }
    check(ran, "300 steps");
    check(nb_item(nb_output(train, 0)) < 0.3 * first, "the loss falls");
    check(nb_item(nb_output(train, 1)) > 0.95, "the net is right");

    nb_matmul(nb_zeros(nb, NB_F32, nb_shape(2, 3)), nb_zeros(nb, NB_F32, nb_shape(2, 3)));
    check(nb_error(nb) != nullptr && nb_error_status(nb) == NB_INVALID, "errors are values");
    if (!ran) std::printf("%s\n", nb_error(nb));
    nb_close(nb);
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
