/* nabla/draw.h: pictures as graphviz source, and tables. Included by nabla.h. All return text to be given back with nb_free, NULL
 * on an error. */
#ifndef NABLA_DRAW_H
#define NABLA_DRAW_H
#ifdef __cplusplus
extern "C" {
#endif

typedef struct nb_draw_options {
    bool values;       /* write the values of small tensors into the nodes; evaluates them */
    nb_list gradients; /* tensors to be shown as the gradients of `of`, one each: as "grad" in the same box */
    nb_list of;
} nb_draw_options;

/* The computation graph below the roots: data flow left to right, layers as boxes, the backward part in its own colour. */
NB_API char *nb_draw_graph(nb_context *nb, nb_list roots, const nb_draw_options *options);
/* A compiled program: a box for each kernel call with the operators in it and the values that it leaves, with their places in the
 * workspace; calls that may change kept tensors in a frame. At most 600 calls. */
NB_API char *nb_draw_program(nb_program *program);
/* The net's layers with shapes and parameter counts. */
NB_API char *nb_draw_net(nb_net *net);
/* Neurons and weights, for nets of at most 64 neurons a layer made of linear layers and activations. */
NB_API char *nb_draw_neurons(nb_net *net);

/* Not a picture but a table: the calls of a program that was run with nb_program_profile on, those alike in one row, the longest
 * first: milliseconds a run, share of the run, rates, share of what the machine can do (`peak`: nb_measure_machine), how many
 * calls, kernel, result, layers, operators; then sums. `rows`: how many to list, 0 for all. */
NB_API char *nb_draw_profile(nb_program *program, const nb_machine *peak, int rows);

#ifdef __cplusplus
}
#endif
#endif
