/* fashion_mlp.c: pictures of clothes (Xiao et al., Fashion-MNIST, 2017) told apart by a net of three linear layers.
 *
 *     x [64,1,28,28] -> flatten [64,784] -> 256 relu -> 128 relu -> scores [64,10]
 *     loss = mean of -log softmax(scores)[label]
 *
 * A training program per step, a second program that counts right answers: both read the same weights.
 * Run: fashion_mlp [FOLDER], the folder of the four IDX files (Debian: apt-get install dataset-fashion-mnist). */
#include <nabla.h>

#include <stdio.h>

enum { BATCH = 64, EPOCHS = 2 };

/* The share of items whose largest score is that of their label. */
static double accuracy(nb_context *nb, nb_net *net, nb_dataset *d, nb_loader_options options) {
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(BATCH, 1, 28, 28)), *y = nb_input(nb, "y", NB_I64, nb_shape(BATCH));
    nb_tensor  *guess = nb_argmax(nb_net_apply(net, x, NB_EVAL), 1, false);
    nb_tensor  *right = nb_sum(nb_cast(nb_equal(guess, y), NB_I64), nb_axes(), false);
    nb_program *score = nb_compile(nb, nb_list_of(nb, right));
    double      sum = 0;
    options.shuffle = false;
    options.keep_last = true; /* the last batch is filled up with labels -1, which no guess equals */
    nb_loader *loader = nb_loader_new(d, &options);
    for (nb_loader_start(loader, 0, 0); nb_loader_next(loader, x, y) && nb_run(score);) sum += nb_item(nb_output(score, 0));
    nb_loader_free(loader);
    nb_program_free(score);
    nb_release(x);
    nb_release(y);
    return sum / (double)nb_dataset_count(d);
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "/usr/share/datasets/fashion-mnist";
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die, .threads = 2});
    nb_dataset *train_set = nb_dataset_idx(nb, folder, NB_TRAIN_PART), *test_set = nb_dataset_idx(nb, folder, NB_TEST_PART);

    nb_loader_options options = {.batch = BATCH, .shuffle = true};
    nb_dataset_statistics(train_set, &options.mean, &options.std);
    nb_loader *loader = nb_loader_new(train_set, &options);

    nb_net       *net = nb_net_parse(nb, "flatten, linear 256, relu, linear 128, relu, linear 10", nb_dataset_item(train_set));
    nb_tensor    *x = nb_input(nb, "x", NB_F32, nb_shape(BATCH, 1, 28, 28)), *y = nb_input(nb, "y", NB_I64, nb_shape(BATCH));
    nb_tensor    *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_optimizer *adam = nb_adam(nb_net_parameters(net), 1e-3, NULL);
    nb_program   *train = nb_compile(nb, nb_update(adam, loss));

    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        double sum = 0;
        for (nb_loader_start(loader, epoch, 0); nb_loader_next(loader, x, y) && nb_run(train);)
            sum += nb_item(nb_output(train, 0));
        printf("epoch %d  loss %.4f\n", epoch + 1, sum / (double)nb_loader_steps(loader));
    }
    nb_loader_free(loader);

    double share = accuracy(nb, net, test_set, options);
    printf("test accuracy %.4f\n", share);
    printf("fashion_mlp: test accuracy %s 0.84\n", share > 0.84 ? "above" : "NOT ABOVE");
    nb_close(nb);
    return share > 0.84 ? 0 : 1;
}
