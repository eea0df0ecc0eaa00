/* derivative.c: operators that show their operand as it is and only matter to derivatives: none, or one of the user's own. */
#include <string.h>

#include "ops.h"

static bool infer_first(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)nb;
    (void)n_in;
    (void)attr;
    *out = (nb_type){in[0]->dtype, in[0]->shape};
    return true;
}

static bool view_first(const nb_array *in, const void *attr, nb_array *out, int64_t *offset) {
    (void)attr;
    memcpy(out->stride, in->stride, sizeof out->stride);
    *offset = 0;
    return true;
}

const nb_op nb__op_stop_gradient = {.name = "stop_gradient",
                                    .formula = "y = x",
                                    .gradient = "dx = 0",
                                    .kind = NB_VIEW,
                                    .arity = 1,
                                    .infer = infer_first,
                                    .view = view_first};

nb_tensor *nb_stop_gradient(nb_tensor *x) { return !x ? NULL : nb_apply(x->nb, &nb__op_stop_gradient, 1, &x, NULL); }

/* Operands: y, then the xs. Only y is computed. */
typedef struct own_derivative {
    nb_derivative *derivative;
    void          *user;
} own_derivative;

static void derive_own(nb_tensor *node, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    (void)want;
    const own_derivative *own = node->attr;
    nb_list               xs = nb_list_from(node->nb, node->n_in - 1, node->in + 1);
    if (xs.n == node->n_in - 1) own->derivative(node, dy, xs, dx + 1, own->user);
}

const nb_op nb__op_with_derivative = {.name = "with_derivative",
                                      .formula = "y = y",
                                      .gradient = "dx = \\text{as given}",
                                      .kind = NB_VIEW,
                                      .arity = -1,
                                      .attr_size = sizeof(own_derivative),
                                      .infer = infer_first,
                                      .view = view_first,
                                      .derivative = derive_own};

nb_tensor *nb_with_derivative(nb_tensor *y, nb_list xs, nb_derivative *derivative, void *user) {
    if (!y) return NULL;
    nb_context *nb = y->nb;
    if (xs.n < 1 || !derivative) return nb_fail(nb, NB_INVALID, "nb_with_derivative: needs at least one tensor and a function");
    nb_list all = nb_list_join(nb, nb_list_from(nb, 1, &y), xs);
    return all.n ? nb_apply(nb, &nb__op_with_derivative, all.n, all.at, &(own_derivative){derivative, user}) : nb_failed(nb);
}
