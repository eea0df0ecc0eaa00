/* optimizers.c: the formulas of the optimisers, those of torch.optim. One block each: factors, update, constructor.
 *
 * Numbers that change from step to step (rate, bias corrections) are made of kept f64 tensors, once for all parameters of a
 * group, and then cast; the rest of an update is a short chain of elementwise operators, which the compiler makes into one
 * loop. */
#include <math.h>

#include "optim.h"

static nb_tensor *times(nb_tensor *x, double value) { return nb_mul(x, nb_number(nb_context_of(x), value)); }
static nb_tensor *plus(nb_tensor *x, double value) { return nb_add(x, nb_number(nb_context_of(x), value)); }
static nb_tensor *own_type(const nb__turn *k, nb_tensor *number) { return nb_cast(number, nb_dtype_of(k->entry->w)); }

/* share a + (1 - share) b: a moving average */
static nb_tensor *average(nb_tensor *a, double share, nb_tensor *b) { return nb_add(times(a, share), times(b, 1 - share)); }

/* ------------------------------------------------------------------------------------------------------------------------ sgd */

static void sgd_factors(nb__turn *k) {
    nb_context *nb = k->nb;
    k->factor[0] = own_type(k, k->rate);
    /* The first gradient is not dampened. */
    nb_tensor *first = nb_equal(k->t, nb_number(nb, 1)), *damped = nb_full(nb, NB_F64, nb_shape(), 1 - k->o->set.sgd.dampening);
    k->factor[1] = k->o->set.sgd.dampening != 0 ? own_type(k, nb_where(first, nb_number(nb, 1), damped)) : NULL;
}

static nb_tensor *sgd_update(nb__turn *k, nb_tensor *w, nb_tensor *g) {
    const nb_sgd_options *set = &k->o->set.sgd;
    if (set->momentum != 0) {
        nb_tensor *damped = k->factor[1] ? nb_mul(g, k->factor[1]) : g;
        nb_tensor *v = k->next[0] = nb_add(times(k->entry->slot[0], set->momentum), damped);
        g = set->nesterov ? nb_add(g, times(v, set->momentum)) : v;
    }
    return nb_sub(w, nb_mul(k->factor[0], g));
}

static const nb__rule sgd = {
    .op = {.name = "sgd", .formula = "v' = \\mu v + (1 - \\delta) g,\\ w' = w - \\eta v'", .kind = NB_COMPOSITION},
    .slots = {"v"},
    .factors = sgd_factors,
    .update = sgd_update,
};

nb_optimizer *nb_sgd(nb_list parameters, double rate, const nb_sgd_options *options) {
    nb_sgd_options set = options ? *options : (nb_sgd_options){0};
    nb_optimizer  *o = nb__optimizer_new(parameters, rate, &sgd, nb__or(set.weight_decay, 0));
    if (!o) return NULL;
    set.momentum = nb__or(set.momentum, 0);
    set.dampening = nb__or(set.dampening, 0);
    nb__optimizer_check(o, "momentum", set.momentum, INFINITY);
    nb__optimizer_check(o, "dampening", set.dampening, INFINITY);
    o->set.sgd = set;
    if (set.nesterov && (set.momentum == 0 || set.dampening != 0))
        nb_fail(o->nb, NB_INVALID, "nb_sgd: nesterov needs a momentum and no dampening");
    if (set.momentum != 0) nb__optimizer_slot(o, 0, 0);
    return nb__optimizer_end(o);
}

/* -------------------------------------------------------------------------------------------------------------------- rmsprop */

static void rate_factor(nb__turn *k) { k->factor[0] = own_type(k, k->rate); }

static nb_tensor *rmsprop_update(nb__turn *k, nb_tensor *w, nb_tensor *g) {
    const nb_rmsprop_options *set = &k->o->set.rmsprop;
    nb_tensor                *s = k->next[0] = average(k->entry->slot[0], set->alpha, nb_square(g)), *spread = s;
    if (set->centered) {
        nb_tensor *mean = k->next[1] = average(k->entry->slot[1], set->alpha, g);
        spread = nb_sub(s, nb_square(mean));
    }
    nb_tensor *step = nb_div(g, plus(nb_sqrt(spread), set->eps));
    if (set->momentum != 0) step = k->next[2] = nb_add(times(k->entry->slot[2], set->momentum), step);
    return nb_sub(w, nb_mul(k->factor[0], step));
}

static const nb__rule rmsprop = {
    .op = {.name = "rmsprop",
           .formula = "s' = \\alpha s + (1 - \\alpha) g^2,\\ w' = w - \\eta g / (\\sqrt{s'} + \\epsilon)",
           .kind = NB_COMPOSITION},
    .slots = {"s", "mean", "v"},
    .factors = rate_factor,
    .update = rmsprop_update,
};

nb_optimizer *nb_rmsprop(nb_list parameters, double rate, const nb_rmsprop_options *options) {
    nb_rmsprop_options set = options ? *options : (nb_rmsprop_options){0};
    set.alpha = nb__or(set.alpha, 0.99);
    set.momentum = nb__or(set.momentum, 0);
    set.eps = nb__or(set.eps, 1e-8);
    nb_optimizer *o = nb__optimizer_new(parameters, rate, &rmsprop, nb__or(set.weight_decay, 0));
    if (!o) return NULL;
    nb__optimizer_check(o, "alpha", set.alpha, 1);
    nb__optimizer_check(o, "eps", set.eps, INFINITY);
    nb__optimizer_check(o, "momentum", set.momentum, INFINITY);
    o->set.rmsprop = set;
    nb__optimizer_slot(o, 0, 0);
    if (set.centered) nb__optimizer_slot(o, 1, 0);
    if (set.momentum != 0) nb__optimizer_slot(o, 2, 0);
    return nb__optimizer_end(o);
}

/* -------------------------------------------------------------------------------------------------------------------- adagrad */

static void adagrad_factors(nb__turn *k) {
    double decay = k->o->set.adagrad.rate_decay;
    k->factor[0] = own_type(k, decay != 0 ? nb_div(k->rate, plus(times(plus(k->t, -1), decay), 1)) : k->rate);
}

static nb_tensor *adagrad_update(nb__turn *k, nb_tensor *w, nb_tensor *g) {
    nb_tensor *s = k->next[0] = nb_add(k->entry->slot[0], nb_square(g));
    return nb_sub(w, nb_mul(k->factor[0], nb_div(g, plus(nb_sqrt(s), k->o->set.adagrad.eps))));
}

static const nb__rule adagrad = {
    .op = {.name = "adagrad", .formula = "s' = s + g^2,\\ w' = w - \\eta g / (\\sqrt{s'} + \\epsilon)", .kind = NB_COMPOSITION},
    .slots = {"s"},
    .factors = adagrad_factors,
    .update = adagrad_update,
};

nb_optimizer *nb_adagrad(nb_list parameters, double rate, const nb_adagrad_options *options) {
    nb_adagrad_options set = options ? *options : (nb_adagrad_options){0};
    set.rate_decay = nb__or(set.rate_decay, 0);
    set.initial = nb__or(set.initial, 0);
    set.eps = nb__or(set.eps, 1e-10);
    nb_optimizer *o = nb__optimizer_new(parameters, rate, &adagrad, nb__or(set.weight_decay, 0));
    if (!o) return NULL;
    nb__optimizer_check(o, "rate_decay", set.rate_decay, INFINITY);
    nb__optimizer_check(o, "initial", set.initial, INFINITY);
    nb__optimizer_check(o, "eps", set.eps, INFINITY);
    o->set.adagrad = set;
    nb__optimizer_slot(o, 0, set.initial);
    return nb__optimizer_end(o);
}

/* -------------------------------------------------------------------------------------------------------------------------- adam
 *     m = beta1 m + (1 - beta1) g     v = beta2 v + (1 - beta2) g^2
 *     w -= rate / (1 - beta1^t)  m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 * with c = sqrt(1 - beta2^t) moved into the numbers, as the paper's section 2 proposes:
 *     w -= (rate c / (1 - beta1^t))  m / (sqrt(v) + eps c)
 * amsgrad: with the largest v so far. adamw: w shrinks by rate weight_decay first, apart from the gradient. */

static nb_tensor *one_minus_power(const nb__turn *k, double beta) {
    return nb_sub(nb_number(k->nb, 1), nb_pow(nb_number(k->nb, beta), k->t));
}

static void adam_factors(nb__turn *k) {
    const nb_adam_options *set = &k->o->set.adam;
    nb_tensor             *c = nb_sqrt(one_minus_power(k, set->beta2));
    k->factor[0] = own_type(k, nb_div(nb_mul(k->rate, c), one_minus_power(k, set->beta1)));
    k->factor[1] = own_type(k, times(c, set->eps));
}

static nb_tensor *adam_update(nb__turn *k, nb_tensor *w, nb_tensor *g) {
    const nb_adam_options *set = &k->o->set.adam;
    nb_tensor             *m = k->next[0] = average(k->entry->slot[0], set->beta1, g);
    nb_tensor             *v = k->next[1] = average(k->entry->slot[1], set->beta2, nb_square(g));
    if (set->amsgrad) v = k->next[2] = nb_maximum(k->entry->slot[2], v);
    nb_tensor *spread = nb_add(nb_sqrt(v), k->factor[1]);
    return nb_sub(w, nb_div(nb_mul(k->factor[0], m), spread));
}

static void adamw_factors(nb__turn *k) {
    adam_factors(k);
    k->factor[2] = own_type(k, nb_sub(nb_number(k->nb, 1), times(k->rate, k->entry->weight_decay)));
}

static nb_tensor *adamw_update(nb__turn *k, nb_tensor *w, nb_tensor *g) { return adam_update(k, nb_mul(w, k->factor[2]), g); }

static const nb__rule adam = {
    .op = {.name = "adam", .formula = "w' = w - \\eta \\hat m / (\\sqrt{\\hat v} + \\epsilon)", .kind = NB_COMPOSITION},
    .slots = {"m", "v", "vmax"},
    .factors = adam_factors,
    .update = adam_update,
};
static const nb__rule adamw = {
    .op = {.name = "adamw",
           .formula = "w' = (1 - \\eta \\lambda) w - \\eta \\hat m / (\\sqrt{\\hat v} + \\epsilon)",
           .kind = NB_COMPOSITION},
    .slots = {"m", "v", "vmax"},
    .decoupled = true,
    .factors = adamw_factors,
    .update = adamw_update,
};

static nb_optimizer *new_adam(nb_list parameters, double rate, const nb__rule *rule, double weight_decay,
                              const nb_adam_options *options) {
    nb_adam_options set = options ? *options : (nb_adam_options){0};
    set.beta1 = nb__or(set.beta1, 0.9);
    set.beta2 = nb__or(set.beta2, 0.999);
    set.eps = nb__or(set.eps, 1e-8);
    nb_optimizer *o = nb__optimizer_new(parameters, rate, rule, nb__or(set.weight_decay, weight_decay));
    if (!o) return NULL;
    nb__optimizer_check(o, "beta1", set.beta1, 1);
    nb__optimizer_check(o, "beta2", set.beta2, 1);
    nb__optimizer_check(o, "eps", set.eps, INFINITY);
    o->set.adam = set;
    nb__optimizer_slot(o, 0, 0);
    nb__optimizer_slot(o, 1, 0);
    if (set.amsgrad) nb__optimizer_slot(o, 2, 0);
    return nb__optimizer_end(o);
}

nb_optimizer *nb_adam(nb_list parameters, double rate, const nb_adam_options *options) {
    return new_adam(parameters, rate, &adam, 0, options);
}
nb_optimizer *nb_adamw(nb_list parameters, double rate, const nb_adam_options *options) {
    return new_adam(parameters, rate, &adamw, 0.01, options);
}
