/* operator.c: gradient checks of an operator on all its samples. */
#include "sampler.h"

static nb_tensor *build(nb_context *nb, nb_list inputs, void *user) { return nb__case_build(nb, user, inputs.at); }

static bool can_check(const nb_op *op) { return op->sample && (op->derivative || op->kind == NB_COMPOSITION); }

/* The leaves of a case as step tensors. */
static nb_list leaves_of(nb_context *nb, const nb__case *c) {
    nb_list list = nb_list_new(nb, c->n);
    for (int i = 0; i < list.n; i++) {
        nb_tensor *zeros = nb_zeros(nb, NB_F64, c->shape[i]);
        double    *data = nb_alloc(nb, nb_bytes(zeros) + sizeof *data);
        if (!data) return list;
        nb__case_fill(c, i, data);
        list.at[i] = nb_from(nb, NB_F64, c->shape[i], data);
        nb_free(nb, data);
    }
    return list;
}

static int check_case(nb_context *nb, nb__case *c, nb_check_report *report, void *user) {
    for (int order = 1; order <= 2; order++) {
        nb_operator_check check = {
            .op = c->op->name, .variant = nb__variant_name(c->variant), .sample = c->sample, .order = order};
        check.result = nb_gradcheck(nb, build, c, leaves_of(nb, c), order);
        if (report) report(&check, user);
        nb_error_clear(nb);
        nb_next_step(nb);
    }
    return 2;
}

int nb_check_operator(nb_context *nb, const nb_op *op, nb_check_report *report, void *user) {
    int checks = 0;
    if (!can_check(op)) return 0;
    for (int sample = 0;; sample++) {
        for (int v = 0; v < NB__VARIANTS; v++) {
            nb__case c = nb__case_describe(nb, op, sample, (nb__variant)v, NB_F64);
            nb_error_clear(nb); /* an error of the sample comes back in the check, with its message */
            nb_next_step(nb);
            if (!c.exists) return checks;
            if (c.applies && c.n > 0) checks += check_case(nb, &c, report, user);
        }
    }
}
