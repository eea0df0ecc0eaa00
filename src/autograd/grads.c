/* grads.c: back-propagation as a walk over the graph that makes more graph.
 *
 * With L = sum(upstream * y), the nodes below y are visited users first. When a node's turn comes, all that flows into it has
 * been added up: dL/dnode. Its operator's derivative turns that into one term for each operand. Nodes that do not depend on any x
 * are left out, so only what is asked for is built. */
#include <string.h>

#include "autograd.h"
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

/* ------------------------------------------------------------------------- identity operators that only matter to derivatives */

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
