/* workloads.c: see workloads.h. */
#include "workloads.h"

#include <stdlib.h>
#include <string.h>

/* clang-format off */
const workload workloads[] = {
    {"moons", "linear 16, relu, linear 16, relu, linear 2", {1, {2}}, 100, 2, false, BENCH_SGD, 1000, 3000},
    {"mlp", "linear 256, relu, linear 128, relu, linear 10", {1, {784}}, 64, 10, false, BENCH_ADAM, 100, 300},
    {"cnn", "conv 32 3 pad=1, batchnorm, relu, maxpool 2, conv 64 3 pad=1, batchnorm, relu, maxpool 2, flatten, "
            "linear 128, relu, dropout 0.5, linear 10", {3, {1, 28, 28}}, 64, 10, false, BENCH_ADAM, 8, 20},
    {"lstm", "embedding 65 64, lstm 256, linear 65", {1, {64}}, 32, 65, true, BENCH_ADAM, 8, 20},
    {"gpt-s", "embedding 65 128, positions, repeat 4(transformer 4 causal=yes), layernorm, linear 65 bias=no",
            {1, {64}}, 12, 65, true, BENCH_ADAMW, 6, 20},
    {"gpt-m", "embedding 65 384, positions, repeat 6(transformer 6 causal=yes), layernorm, linear 65 bias=no",
            {1, {256}}, 4, 65, true, BENCH_ADAMW, 1, 3},
};
/* clang-format on */
const int workload_count = sizeof workloads / sizeof *workloads;

const workload *find_workload(const char *name) {
    for (int i = 0; i < workload_count; i++)
        if (!strcmp(workloads[i].name, name)) return &workloads[i];
    return NULL;
}

/* An input that holds the values of a random node. */
static nb_tensor *random_input(nb_context *nb, const char *name, nb_tensor *values) {
    nb_tensor *input = nb_input(nb, name, nb_dtype_of(values), nb_shape_of(values));
    nb_set(input, nb_data(values), nb_bytes(values));
    return input;
}

static nb_dims batch_shape(const workload *w, int batch) {
    nb_dims shape = {.rank = w->item.rank + 1};
    shape.size[0] = batch;
    for (int i = 0; i < w->item.rank; i++) shape.size[i + 1] = w->item.size[i];
    return shape;
}

static nb_tensor *classes(nb_context *nb, const workload *w, nb_dims shape) {
    return nb_cast(nb_uniform(nb, NB_F32, shape, 0, w->classes), NB_I64);
}

nb_tensor *workload_items(nb_context *nb, const workload *w, int batch) {
    nb_dims shape = batch_shape(w, batch);
    return random_input(nb, "x", w->is_text ? classes(nb, w, shape) : nb_normal(nb, NB_F32, shape, 0, 1));
}

nb_tensor *workload_labels(nb_context *nb, const workload *w, int batch) {
    return random_input(nb, "y", classes(nb, w, w->is_text ? batch_shape(w, batch) : nb_shape(batch)));
}

nb_tensor *workload_loss(const workload *w, nb_net *net, nb_tensor *x, nb_tensor *y, nb_mode mode) {
    nb_tensor *scores = nb_net_apply(net, x, mode);
    if (w->is_text) return nb_cross_entropy(nb_flatten(scores, 0, 1), nb_flatten(y, 0, 1), NULL);
    return nb_cross_entropy(scores, y, NULL);
}

nb_optimizer *workload_optimizer(const workload *w, nb_net *net) {
    nb_list parameters = nb_net_parameters(net);
    if (w->rule == BENCH_SGD) return nb_sgd(parameters, 0.01, NULL);
    return w->rule == BENCH_ADAM ? nb_adam(parameters, 1e-3, NULL) : nb_adamw(parameters, 1e-3, NULL);
}

/* The tensor whose elements a chain of views shows. */
static nb_tensor *below_views(nb_tensor *t) {
    while (nb_op_of(t) && nb_op_of(t)->kind == NB_VIEW) t = nb_input_at(t, 0);
    return t;
}

static bool has_shape(const nb_tensor *t, nb_dims shape) {
    nb_dims own = nb_shape_of(t);
    return !memcmp(&own, &shape, sizeof shape);
}

/* Has it the shape of a parameter, or of its transposed? Then it is (part of) a gradient, which is counted with the
 * parameters. */
static bool is_gradient(const nb_tensor *t, nb_list parameters) {
    nb_dims own = nb_shape_of(t);
    if (own.rank < 2) return false;
    nb_dims turned = own;
    turned.size[own.rank - 1] = own.size[own.rank - 2];
    turned.size[own.rank - 2] = own.size[own.rank - 1];
    for (int i = 0; i < parameters.n; i++)
        if (has_shape(parameters.at[i], own) || has_shape(parameters.at[i], turned)) return true;
    return false;
}

static int by_address(const void *a, const void *b) {
    const nb_tensor *x = *(nb_tensor *const *)a, *y = *(nb_tensor *const *)b;
    return (x > y) - (x < y);
}

workload_floor workload_cost(nb_context *nb, nb_net *net, nb_list roots, int slots) {
    workload_floor cost = {0};
    nb_list        graph = nb_graph(nb, roots), parameters = nb_net_parameters(net);
    int            n = 0, room = 0;
    for (int i = 0; i < graph.n; i++) room += 1 + nb_input_count(graph.at[i]);
    nb_list moved = nb_list_new(nb, room); /* operands and results of contractions */
    for (int i = 0; i < graph.n && moved.n; i++) {
        const nb_op *op = nb_op_of(graph.at[i]);
        if (!op || op->kind != NB_CONTRACTION) continue;
        cost.flops += op->flops(graph.at[i]);
        moved.at[n++] = graph.at[i];
        for (int k = 0; k < nb_input_count(graph.at[i]); k++) moved.at[n++] = below_views(nb_input_at(graph.at[i], k));
    }
    qsort(moved.at, (size_t)n, sizeof *moved.at, by_address);
    for (int i = 0; i < n; i++)
        if ((i == 0 || moved.at[i] != moved.at[i - 1]) && !nb_is_kept(moved.at[i]) && !is_gradient(moved.at[i], parameters))
            cost.bytes += 2 * (double)nb_bytes(moved.at[i]);
    for (int i = 0; i < parameters.n; i++) cost.bytes += (slots < 0 ? 1 : 3 + 2 * slots) * (double)nb_bytes(parameters.at[i]);
    return cost;
}

int workload_slots(const workload *w) { return w->rule == BENCH_SGD ? 0 : 2; }
