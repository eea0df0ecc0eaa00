/* embed.c: a net inside a program that must not stop: a thermostat learns how its room answers the heater.
 *
 * All that can go wrong comes back as a value: a message and a status. The library prints nothing, never exits, and takes its
 * memory from where it is told: here a budget of 4 MB, and reaching it is one more error that is handled.
 *
 *     x [32,3]: room, outdoors, heater   ->   y [32,1]: change of the room's temperature in the next minute */
#include <nabla.h>

#include <stdio.h>
#include <stdlib.h>

/* Memory from a budget. One thread uses the context, so no lock is needed. */
typedef struct budget {
    size_t used, most, limit;
} budget;
static void *take(void *user, size_t size) {
    budget *b = user;
    if (size > b->limit - b->used) return NULL;
    max_align_t *block = malloc(sizeof(max_align_t) + size); /* the size is kept in front */
    if (!block) return NULL;
    *(size_t *)block = size;
    b->used += size;
    if (b->used > b->most) b->most = b->used;
    return block + 1;
}
static void give(void *user, void *pointer) {
    if (!pointer) return;
    max_align_t *block = (max_align_t *)pointer - 1;
    ((budget *)user)->used -= *(size_t *)block;
    free(block);
}

/* Reports what went wrong and arms the context again; the program goes on. */
static int recover(nb_context *nb, const char *what) {
    printf("%s: %s\n", what, nb_error(nb) ? nb_error(nb) : "no error");
    bool failed = nb_error(nb) != NULL;
    nb_error_clear(nb);
    nb_next_step(nb);
    return failed;
}

static void measure(unsigned *state, float x[32][3], float y[32][1]) {
    for (int i = 0; i < 32; i++) {
        for (int k = 0; k < 3; k++) x[i][k] = (float)((*state = *state * 1664525u + 1013904223u) >> 8) / 16777216.0f;
        y[i][0] = 0.3f * x[i][2] - 0.2f * (x[i][0] - x[i][1]) * x[i][0];
    }
}

int main(void) {
    budget       memory = {.limit = 4 << 20};
    nb_allocator allocator = {take, give, &memory};
    nb_context  *nb = nb_open(&(nb_options){.allocator = &allocator, .seed = 1});
    if (!nb) return 1;
    float    x[32][3], y[32][1];
    unsigned state = 1;
    int      handled = 0;

    nb_net       *net = nb_net_parse(nb, "linear 16, tanh, linear 1", nb_shape(3));
    nb_tensor    *in = nb_input(nb, "sensors", NB_F32, nb_shape(32, 3)), *out = nb_input(nb, "change", NB_F32, nb_shape(32, 1));
    nb_tensor    *loss = nb_mse(nb_net_apply(net, in, NB_TRAIN), out, NB_REDUCE_MEAN);
    nb_optimizer *adam = nb_adam(nb_net_parameters(net), 0.01, NULL);
    nb_program   *learn = nb_compile(nb, nb_update(adam, loss));

    nb_tensor *four = nb_zeros(nb, NB_F32, nb_shape(1, 4)); /* a wrong shape: the message names layer, shapes and remedy */
    if (!nb_eval(nb, nb_list_of(nb, nb_net_apply(net, four, NB_EVAL)))) handled += recover(nb, "a fourth sensor");
    nb_tensor *huge = nb_ones(nb, NB_F32, nb_shape(4096, 4096)); /* 64 MB are not in the budget */
    if (!nb_data(huge)) handled += recover(nb, "a plan too large");
    if (!nb_net_save(net, "no/such/folder/net.safetensors", 0, NULL)) handled += recover(nb, "a wrong path");

    double last = 1;
    for (int minute = 0; minute < 2000; minute++) {
        measure(&state, x, y);
        if (!nb_set(in, x, sizeof x) || !nb_set(out, y, sizeof y) || !nb_run(learn)) handled += recover(nb, "learning");
        last = nb_item(nb_output(learn, 0));
    }
    printf("mean squared error %s 0.001, in %zu KB\n", last < 1e-3 ? "below" : "NOT BELOW", memory.most >> 10);
    nb_close(nb);
    printf("embed: %d errors handled, %zu bytes left behind\n", handled, memory.used);
    return handled == 3 && last < 1e-3 && memory.used == 0 ? 0 : 1;
}
