/* fashion_cnn.c: a convolutional net on Fashion-MNIST: 240 steps, saved, loaded elsewhere, and asked about test pictures.
 *
 *     [64,1,28,28] -> conv 32, batch norm, relu, pool -> [64,32,14,14] -> conv 64, ... -> [64,64,7,7] -> 128 relu -> [64,10]
 *
 * The rate follows one cycle: up to a peak and down to nothing (Smith & Topin, Super-Convergence, 2018). It is a tensor of the
 * optimiser, so that the program compiled once follows it.
 * Run: fashion_cnn [FOLDER], the folder of the four IDX files. */
#include <nabla.h>

#include <stdio.h>

enum { BATCH = 64, STEPS = 240, ASKED = 2000 };
static const char text[] = "conv 32 3 pad=1, batchnorm, relu, maxpool 2, conv 64 3 pad=1, batchnorm, relu, maxpool 2, flatten, "
                           "linear 128, relu, dropout 0.5, linear 10";

static bool train(nb_context *nb, nb_dataset *d, const nb_loader_options *options, const char *path) {
    nb_net       *net = nb_net_parse(nb, text, nb_dataset_item(d));
    nb_tensor    *x = nb_input(nb, "x", NB_F32, nb_shape(BATCH, 1, 28, 28)), *y = nb_input(nb, "y", NB_I64, nb_shape(BATCH));
    nb_tensor    *loss = nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL);
    nb_optimizer *adam = nb_adam(nb_net_parameters(net), 3e-3, NULL);
    nb_program   *step = nb_compile(nb, nb_update(adam, loss));
    nb_schedule   schedule = {.kind = NB_ONE_CYCLE, .rate = 3e-3, .steps = STEPS};

    nb_loader *loader = nb_loader_new(d, options);
    nb_loader_start(loader, 0, 0);
    for (int i = 0; i < STEPS && nb_loader_next(loader, x, y); i++) {
        nb_optimizer_set_rate(adam, nb_schedule_rate(&schedule, i));
        if (!nb_run(step)) return false;
        if (i % 80 == 79) printf("step %d  loss %.4f\n", i + 1, nb_item(nb_output(step, 0)));
    }
    nb_loader_free(loader);
    bool saved = nb_net_save(net, path, 0, NULL); /* atomic: an old file stands until the new one is whole */
    nb_net_free(net);
    return saved;
}

/* Right answers among the first pictures of a set. Evaluation uses the batch norms' running values, and drops nothing out. */
static double ask(nb_context *nb, nb_dataset *d, nb_loader_options options, const char *path) {
    nb_net *net = nb_net_load(nb, path); /* text, input size and weights: nothing else is needed */
    options.batch = ASKED;
    options.shuffle = false;
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(ASKED, 1, 28, 28)), *y = nb_input(nb, "y", NB_I64, nb_shape(ASKED));
    nb_loader *loader = nb_loader_new(d, &options);
    nb_loader_start(loader, 0, 0);
    nb_loader_next(loader, x, y);
    double share = nb_item(nb_accuracy(nb_net_apply(net, x, NB_EVAL), y)); /* no program: the value is asked for, once */
    nb_loader_free(loader);
    return share;
}

int main(int argc, char **argv) {
    const char       *folder = argc > 1 ? argv[1] : "/usr/share/datasets/fashion-mnist", *path = "fashion_cnn.safetensors";
    nb_context       *nb = nb_open(&(nb_options){.on_error = nb_die, .threads = 2});
    nb_dataset       *train_set = nb_dataset_idx(nb, folder, NB_TRAIN_PART), *test_set = nb_dataset_idx(nb, folder, NB_TEST_PART);
    nb_loader_options options = {.batch = BATCH, .shuffle = true};
    nb_dataset_statistics(train_set, &options.mean, &options.std);

    if (!train(nb, train_set, &options, path)) return 1;
    double share = ask(nb, test_set, options, path);
    printf("wrote %s, accuracy on %d test pictures %.4f\n", path, ASKED, share);
    printf("fashion_cnn: accuracy %s 0.83\n", share > 0.83 ? "above" : "NOT ABOVE");
    nb_close(nb);
    return share > 0.83 ? 0 : 1;
}
