/* workloads.h: the benchmark nets: what is trained, on what, and what a step costs at least. tools/peers/ has the same ones. */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include <nabla.h>

typedef enum bench_rule { BENCH_SGD, BENCH_ADAM, BENCH_ADAMW } bench_rule; /* at 0.01, 1e-3, 1e-3 */

typedef struct workload {
    const char *name, *net;
    nb_dims     item;
    int         batch, classes;
    bool        is_text; /* items are words below `classes`, and there is a label for each */
    bench_rule  rule;
    int         train_steps, infer_steps; /* a block */
} workload;

extern const workload workloads[];
extern const int      workload_count;

const workload *find_workload(const char *name); /* NULL: unknown */

/* Random data, made once: an input that holds them. */
nb_tensor *workload_items(nb_context *nb, const workload *w, int batch);
nb_tensor *workload_labels(nb_context *nb, const workload *w, int batch);

nb_tensor    *workload_loss(const workload *w, nb_net *net, nb_tensor *x, nb_tensor *y, nb_mode mode);
nb_optimizer *workload_optimizer(const workload *w, nb_net *net);

/* What a program costs at least: the multiplications and additions of its contractions, and one pass over memory: what a
 * contraction reads or writes is written once and read once, however often it is used; parameters are read, and in training
 * written, together with the optimiser's `slots` values for each and their gradient; slots -1: inference. */
typedef struct workload_floor {
    double flops, bytes;
} workload_floor;
workload_floor workload_cost(nb_context *nb, nb_net *net, nb_list roots, int slots);
int            workload_slots(const workload *w); /* of its optimiser: 0 or 2 */

#endif
