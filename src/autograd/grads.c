/* grads.c: back-propagation as a walk over the graph that makes more graph.
 *
 * With L = sum(upstream * y), the nodes below y are visited users first. When a node's turn comes, all that flows into it has
 * been added up: dL/dnode. Its operator's derivative turns that into one term for each operand. Nodes that do not depend on any x
 * are left out, so only what is asked for is built. */
#include "ops.h"

/* The walk's list with operands as positions in it: derivatives may walk themselves, which changes the marks in the nodes. */
typedef struct tape {
    nb_list     list;
    int64_t    *first;   /* of node i in operand; [n + 1] */
    int32_t    *operand; /* positions of operands */
    bool       *needed;  /* depends on an x through real numbers */
    nb_tensor **grad;    /* dL/dnode so far */
} tape;

static bool record(nb_context *nb, nb_tensor *y, nb_list xs, tape *t) {
    t->list = nb__walk(nb, nb_list_from(nb, 1, &y), false);
    size_t n = (size_t)t->list.n;
    if (!n) return false;
    t->first = nb__step_alloc(nb, (n + 1) * sizeof *t->first);
    t->needed = nb__step_alloc(nb, n * sizeof *t->needed);
    t->grad = nb__step_alloc(nb, n * sizeof(nb_tensor *));
    if (!t->first || !t->needed || !t->grad) return false;
    for (size_t i = 0; i < n; i++) t->first[i + 1] = t->first[i] + t->list.at[i]->n_in;
    t->operand = nb__step_alloc(nb, (size_t)t->first[n] * sizeof *t->operand + 1);
    if (!t->operand) return false;
    for (int k = 0; k < xs.n; k++)
        if (xs.at[k]->mark == nb->walk) t->needed[xs.at[k]->index] = true;
    for (size_t i = 0; i < n; i++) {
        nb_tensor *node = t->list.at[i];
        for (int k = 0; k < node->n_in; k++) {
            int32_t at = (int32_t)node->in[k]->index;
            t->operand[t->first[i] + k] = at;
            if (t->needed[at] && nb__is_float(node->dtype) && node->op != &nb__op_stop_gradient) t->needed[i] = true;
        }
    }
    return true;
}

/* Adds the terms for the operands of node i. */
static bool propagate(nb_context *nb, tape *t, int64_t i) {
    nb_tensor *node = t->list.at[i], *few_terms[8] = {0}, **dx = few_terms;
    bool       few_wants[8] = {0}, *want = few_wants, any = false;
    int        n = node->n_in;
    if (n > 8) {
        dx = nb__step_alloc(nb, (size_t)n * sizeof *dx);
        want = nb__step_alloc(nb, (size_t)n * sizeof *want);
        if (!dx || !want) return false;
    }
    for (int k = 0; k < n; k++) {
        int32_t at = t->operand[t->first[i] + k];
        want[k] = t->needed[at] && nb__is_float(t->list.at[at]->dtype);
        any |= want[k];
    }
    if (!any) return true;
    if (!node->op->derivative) {
        nb__fail_at(node, NB_INVALID,
                    "nb_grads: %s has no derivative; nb_stop_gradient or nb_with_derivative around it says what is meant",
                    node->op->name);
        return false;
    }
    nb->scope = node->scope;
    node->op->derivative(node, t->grad[i], want, dx);
    for (int k = 0; k < n; k++) {
        if (!want[k] || !dx[k]) continue;
        if (nb__refuse(nb, dx[k], k, node->op->name)) return false;
        nb_tensor *in = node->in[k], **sum = &t->grad[t->operand[t->first[i] + k]];
        if (!nb__dims_equal(dx[k]->shape, in->shape) || dx[k]->dtype != in->dtype) {
            nb__fail_at(node, NB_INVALID, "the derivative of %s for operand %d is %s %s; the operand is %s %s", node->op->name, k,
                        nb_dtype_name(dx[k]->dtype), nb__dims_text(dx[k]->shape).at, nb_dtype_name(in->dtype),
                        nb__dims_text(in->shape).at);
            return false;
        }
        *sum = *sum ? nb_add(*sum, dx[k]) : dx[k];
    }
    return nb->status == NB_OK;
}

nb_list nb_grads(nb_tensor *y, nb_tensor *upstream, nb_list xs) {
    if (!y) return (nb_list){0};
    nb_context *nb = y->nb;
    nb_list     out = nb_list_new(nb, xs.n);
    if (nb__refuse(nb, y, 0, "nb_grads") || (upstream && nb__refuse(nb, upstream, 1, "nb_grads"))) return out;
    for (int k = 0; k < xs.n; k++) {
        if (nb__refuse(nb, xs.at[k], k, "nb_grads")) return out;
        if (xs.at[k]->is_number) {
            nb_fail(nb, NB_INVALID,
                    "nb_grads: x %d is a literal (nb_number), which each operator adapts; use nb_full or nb_param", k);
            return out;
        }
        if (!nb__is_float(xs.at[k]->dtype)) {
            nb_fail(nb, NB_INVALID, "nb_grads: %s is %s; derivatives are for f32 and f64", nb__describe(xs.at[k]),
                    nb_dtype_name(xs.at[k]->dtype));
            return out;
        }
    }
    if (!nb__is_float(y->dtype)) {
        nb_fail(nb, NB_INVALID, "nb_grads: y, %s, is %s; derivatives are for f32 and f64", nb__describe(y),
                nb_dtype_name(y->dtype));
        return out;
    }
    if (!upstream && nb_count(y) != 1) {
        nb_fail(nb, NB_INVALID,
                "nb_grads: y, %s, is %s: give an upstream gradient of that shape, or reduce y to one number first",
                nb__describe(y), nb__dims_text(y->shape).at);
        return out;
    }
    if (upstream && upstream->is_number) upstream = nb_cast(upstream, y->dtype);
    if (upstream && (!nb__dims_equal(upstream->shape, y->shape) || upstream->dtype != y->dtype)) {
        nb_fail(nb, NB_INVALID, "nb_grads: upstream is %s %s, y is %s %s", nb_dtype_name(upstream->dtype),
                nb__dims_text(upstream->shape).at, nb_dtype_name(y->dtype), nb__dims_text(y->shape).at);
        return out;
    }
    tape t = {0};
    if (!record(nb, y, xs, &t)) return out;
    int64_t *place = nb__step_alloc(nb, (size_t)xs.n * sizeof *place + 1);
    if (!place) return out;
    for (int k = 0; k < xs.n; k++) place[k] = xs.at[k]->mark == nb->walk ? xs.at[k]->index : -1;

    nb__scope *scope = nb->scope;
    nb->backward_depth++;
    t.grad[t.list.n - 1] = upstream ? upstream : nb_ones_like(y);
    bool good = true;
    for (int64_t i = t.list.n - 1; i >= 0 && good; i--)
        if (t.needed[i] && t.grad[i]) good = propagate(nb, &t, i);
    nb->scope = scope;
    for (int k = 0; k < xs.n && good; k++)
        out.at[k] = place[k] >= 0 && t.grad[place[k]] ? t.grad[place[k]] : nb_zeros_like(xs.at[k]);
    nb->backward_depth--;
    return out;
}

nb_tensor *nb_jvp(nb_tensor *y, nb_list xs, nb_list vs) {
    if (!y) return NULL;
    nb_context *nb = y->nb;
    if (xs.n != vs.n) return nb_fail(nb, NB_INVALID, "nb_jvp: %d tensors but %d directions", xs.n, vs.n);
    /* The vjp is linear in its upstream u: its own vjp for u is the jvp, whatever u is. */
    nb_tensor *u = nb_zeros_like(y), *sum = NULL;
    nb_list    g = nb_grads(y, u, xs);
    for (int i = 0; i < g.n; i++) {
        nb_tensor *term = nb_sum(nb_mul(g.at[i], vs.at[i]), nb_dims_of(0, NULL), false);
        sum = sum ? nb_add(sum, term) : term;
    }
    if (!sum) return nb_zeros_like(y);
    return nb_grads(sum, NULL, nb_list_from(nb, 1, &u)).at[0];
}
