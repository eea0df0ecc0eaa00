/* step.c: the program of a training step, or of a call of the trained form, of any net: for looking at. Its inputs hold noise. */
#include <string.h>

#include "cli.h"

/* [n, item...] */
static nb_dims batch_of(int64_t n, nb_dims item) {
    nb_dims shape = {.rank = item.rank + 1, .size = {n}};
    memcpy(shape.size + 1, item.size, (size_t)item.rank * sizeof *item.size);
    return shape;
}

/* The last axis of a sequence's results are the classes of each step, else axis 1 are those of each item. */
static nb_tensor *loss_of(nb_context *nb, nb_tensor *logits, cli_step *s) {
    if (nb_rank(logits) == 3) logits = nb_reshape(logits, nb_shape(nb_size(logits, 0) * nb_size(logits, 1), nb_size(logits, 2)));
    if (nb_rank(logits) != 2)
        return nb_fail(
            nb, NB_INVALID,
            "the net ends with %d axes for an item; a loss needs one number for each class: end it with 'flatten, linear 10'",
            nb_rank(logits) - 1);
    s->labels = nb_input(nb, "labels", NB_I64, nb_shape(nb_size(logits, 0)));
    return nb_set_name(nb_cross_entropy(logits, s->labels, NULL), "loss");
}

bool cli_step_make(nb_context *nb, nb_net *net, int64_t batch, bool infer, cli_step *s) {
    nb_dtype dtype = nb_net_input_dtype(net);
    nb_dims  shape = batch_of(batch, nb_net_input(net));
    s->x = nb_input(nb, dtype == NB_I64 ? "tokens" : "x", dtype, shape);
    if (dtype == NB_F32) {
        nb_tensor *noise = nb_normal(nb, NB_F32, shape, 0, 1);
        nb_set(s->x, nb_data(noise), nb_bytes(noise));
    }
    nb_tensor *y = nb_net_apply(net, s->x, infer ? NB_EVAL : NB_TRAIN);
    nb_list    roots = infer ? nb_list_of(nb, nb_set_name(y, "result"))
                             : nb_update(nb_adam(nb_net_parameters(net), 1e-3, NULL), loss_of(nb, y, s));
    s->program = nb_compile(nb, roots);
    nb_next_step(nb);
    if (nb_error_status(nb) == NB_NO_MEMORY)
        cli_error("a step with batch %lld does not fit: try a smaller --batch", (long long)batch);
    return !nb_error(nb);
}
