/* optim.c: what optimisers have in common. One step is a list of assigns: of parameters, slots and the step count; a program runs
 * them together, after all reads. */
#include <math.h>
#include <stdio.h>

#include "optim.h"

/* ------------------------------------------------------------------------------------------------------------ making, freeing */

/* At nb_close: the context gives back the kept tensors itself. */
static void free_optimizer(void *object) {
    nb_optimizer *o = object;
    nb_context   *nb = o->nb;
    nb_free(nb, o->entries);
    nb_free(nb, o);
}

void nb_optimizer_free(nb_optimizer *o) {
    if (!o) return;
    nb_release(o->rate);
    nb_release(o->steps);
    for (int i = 0; i < o->n; i++)
        for (int k = 0; k < NB__SLOTS; k++) nb_release(o->entries[i].slot[k]);
    nb_disown(o->nb, o);
    free_optimizer(o);
}

static void check_parameter(nb_context *nb, const nb__rule *rule, nb_list parameters, int i) {
    const char *name = rule->op.name;
    nb_tensor  *w = parameters.at[i];
    if (!w) {
        nb_fail(nb, NB_INVALID, "nb_%s: parameter %d is NULL", name, i);
        return;
    }
    if (!nb_is_kept(w))
        nb_fail(nb, NB_INVALID, "nb_%s: parameter %d is not kept: make it with nb_param", name, i);
    else if (nb_dtype_of(w) != NB_F32 && nb_dtype_of(w) != NB_F64)
        nb_fail(nb, NB_INVALID, "nb_%s: parameter %s is %s; only f32 and f64 can be trained", name, nb_name(w),
                nb_dtype_name(nb_dtype_of(w)));
    for (int k = 0; k < i; k++)
        if (parameters.at[k] == w)
            nb_fail(nb, NB_INVALID, "nb_%s: parameters %d and %d are the same one, %s: list it once", name, k, i, nb_name(w));
}

static bool is_rate(double rate) { return rate >= 0 && isfinite(rate); }

void nb__optimizer_check(nb_optimizer *o, const char *option, double value, double limit) {
    if (value >= 0 && value < limit) return;
    if (isfinite(limit))
        nb_fail(o->nb, NB_INVALID, "nb_%s: %s is %g; it is in [0,%g)", o->rule->op.name, option, value, limit);
    else
        nb_fail(o->nb, NB_INVALID, "nb_%s: %s is %g; it must be finite and not negative", o->rule->op.name, option, value);
}

nb_optimizer *nb__optimizer_new(nb_list parameters, double rate, const nb__rule *rule, double weight_decay) {
    if (parameters.n < 1 || !parameters.at[0]) return NULL; /* no context to fail: nb_update says so */
    nb_context *nb = nb_context_of(parameters.at[0]);
    for (int i = 0; i < parameters.n && !nb_error(nb); i++) check_parameter(nb, rule, parameters, i);
    if (!is_rate(rate)) nb_fail(nb, NB_INVALID, "nb_%s: the rate is %g; it must be finite and not negative", rule->op.name, rate);
    if (nb_error(nb)) return NULL;
    nb_optimizer *o = nb_alloc(nb, sizeof *o);
    if (!o) return NULL;
    *o = (nb_optimizer){.nb = nb, .rule = rule};
    if (!nb_own(nb, o, free_optimizer)) return NULL;
    o->entries = nb_alloc(nb, (size_t)parameters.n * sizeof *o->entries);
    o->rate = nb_param(nb, "optimizer.rate", nb_full(nb, NB_F64, nb_shape(), rate));
    o->steps = nb_param(nb, "optimizer.steps", nb_zeros(nb, NB_I64, nb_shape()));
    if (!o->entries) return nb__optimizer_end(o);
    o->n = parameters.n;
    for (int i = 0; i < o->n; i++)
        o->entries[i] = (nb__entry){.w = parameters.at[i], .rate_scale = 1, .weight_decay = weight_decay};
    nb__optimizer_check(o, "weight_decay", weight_decay, INFINITY);
    return o;
}

void nb__optimizer_slot(nb_optimizer *o, int slot, double value) {
    for (int i = 0; i < o->n && !nb_error(o->nb); i++) {
        nb_tensor *w = o->entries[i].w;
        char       name[512];
        snprintf(name, sizeof name, "%s.%s", nb_name(w), o->rule->slots[slot]);
        o->entries[i].slot[slot] = nb_param(o->nb, name, nb_full(o->nb, nb_dtype_of(w), nb_shape_of(w), value));
    }
}

nb_optimizer *nb__optimizer_end(nb_optimizer *o) {
    if (!nb_error(o->nb)) return o;
    nb_optimizer_free(o);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------- settings */

bool nb_optimizer_group(nb_optimizer *o, nb_list parameters, double rate_scale, double weight_decay) {
    if (!o) return false;
    if (!is_rate(rate_scale) || (weight_decay != NB_NONE && !is_rate(weight_decay))) {
        nb_fail(o->nb, NB_INVALID, "nb_optimizer_group: rate_scale %g and weight_decay %g must be finite and not negative",
                rate_scale, weight_decay);
        return false;
    }
    for (int k = 0; k < parameters.n; k++) {
        int i = 0;
        while (i < o->n && o->entries[i].w != parameters.at[k]) i++;
        if (i == o->n) {
            nb_fail(o->nb, NB_INVALID, "nb_optimizer_group: %s is not among the optimizer's parameters",
                    parameters.at[k] ? nb_name(parameters.at[k]) : "NULL");
            return false;
        }
        o->entries[i].rate_scale = rate_scale;
        if (weight_decay != NB_NONE) o->entries[i].weight_decay = weight_decay;
    }
    return true;
}

static void set_limit(nb_optimizer *o, double *limit, double value, const char *user) {
    if (!(value > 0))
        nb_fail(o->nb, NB_INVALID, "%s: the limit must be above 0, got %g", user, value);
    else
        *limit = value;
}

void nb_optimizer_clip_norm(nb_optimizer *o, double limit) {
    if (o) set_limit(o, &o->clip_norm, limit, "nb_optimizer_clip_norm");
}
void nb_optimizer_clip_value(nb_optimizer *o, double limit) {
    if (o) set_limit(o, &o->clip_value, limit, "nb_optimizer_clip_value");
}
void nb_optimizer_max_norm(nb_optimizer *o, double limit) {
    if (o) set_limit(o, &o->max_norm, limit, "nb_optimizer_max_norm");
}

bool nb_optimizer_set_rate(nb_optimizer *o, double rate) {
    if (!o) return false;
    if (is_rate(rate)) return nb_set(o->rate, &rate, sizeof rate);
    nb_fail(o->nb, NB_INVALID, "nb_optimizer_set_rate: the rate is %g; it must be finite and not negative", rate);
    return false;
}

double nb_optimizer_rate(nb_optimizer *o) { return o ? nb_item(o->rate) : 0; }

nb_list nb_optimizer_state(nb_optimizer *o) {
    if (!o) return (nb_list){0};
    int n = 2, at = 2;
    for (int i = 0; i < o->n; i++)
        for (int k = 0; k < NB__SLOTS; k++) n += o->entries[i].slot[k] != NULL;
    nb_list list = nb_list_new(o->nb, n);
    if (!list.n) return list;
    list.at[0] = o->rate;
    list.at[1] = o->steps;
    for (int i = 0; i < o->n; i++)
        for (int k = 0; k < NB__SLOTS; k++)
            if (o->entries[i].slot[k]) list.at[at++] = o->entries[i].slot[k];
    return list;
}

/* --------------------------------------------------------------------------------------------------------------------- a step */

/* min(1, limit / (norm of all gradients together + 1e-6)): one number for all, so that the direction stays. */
static nb_tensor *clip_factor(const nb_optimizer *o, nb_list gradients) {
    nb_context *nb = o->nb;
    nb_tensor  *sum = NULL;
    for (int i = 0; i < o->n; i++) {
        nb_tensor *square = nb_cast(nb_sum(nb_square(gradients.at[i]), nb_axes(), false), NB_F64);
        sum = sum ? nb_add(sum, square) : square;
    }
    nb_tensor *factor = nb_div(nb_number(nb, o->clip_norm), nb_add(nb_sqrt(sum), nb_number(nb, 1e-6)));
    return nb_minimum(factor, nb_number(nb, 1));
}

static bool shares_factors(const nb__entry *a, const nb__entry *b) {
    return nb_dtype_of(a->w) == nb_dtype_of(b->w) && a->rate_scale == b->rate_scale && a->weight_decay == b->weight_decay;
}

/* The assigns of one parameter, from `at` on in the list: its number is known beforehand. */
static int update_one(nb__turn *k, nb_tensor *g, nb_list out, int at) {
    const nb_optimizer *o = k->o;
    nb_context         *nb = o->nb;
    const nb__entry    *e = k->entry;
    if (e->weight_decay != 0 && !o->rule->decoupled) g = nb_add(g, nb_mul(e->w, nb_number(nb, e->weight_decay)));
    nb_tensor *w = o->rule->update(k, e->w, g);
    if (o->max_norm > 0 && nb_rank(w) >= 2) w = nb_max_norm(w, o->max_norm);
    out.at[at++] = nb_assign(e->w, w);
    for (int i = 0; i < NB__SLOTS; i++)
        if (e->slot[i]) out.at[at++] = nb_assign(e->slot[i], k->next[i]);
    return at;
}

/* One gradient a parameter, of its shape. */
static bool check_gradients(const nb_optimizer *o, nb_list gradients) {
    if (gradients.n != o->n) {
        nb_fail(o->nb, NB_INVALID, "nb_update_with: %d gradients for %d parameters", gradients.n, o->n);
        return false;
    }
    for (int i = 0; i < o->n; i++) {
        nb_tensor *w = o->entries[i].w, *g = gradients.at[i];
        char       want[128], got[128];
        if (!g)
            nb_fail(o->nb, NB_INVALID, "nb_update_with: the gradient of parameter %s is NULL", nb_name(w));
        else if (!nb_has_failed(g) && !nb__same_shape(nb_shape_of(g), nb_shape_of(w)))
            nb_fail(o->nb, NB_INVALID, "nb_update_with: gradient %d is %s, but its parameter %s is %s", i,
                    nb__shape_text(nb_shape_of(g), got, sizeof got), nb_name(w),
                    nb__shape_text(nb_shape_of(w), want, sizeof want));
    }
    return !nb_error(o->nb);
}

nb_list nb_update_with(nb_optimizer *o, nb_list gradients) {
    if (!o) return (nb_list){0};
    nb_context *nb = o->nb;
    if (!check_gradients(o, gradients)) return nb_list_of(nb, nb_failed(nb));
    nb_group_push(nb, &o->rule->op);
    nb_tensor *factor = o->clip_norm > 0 ? clip_factor(o, gradients) : NULL;
    nb_tensor *next_step = nb_add(o->steps, nb_number(nb, 1));
    nb_tensor *t = nb_cast(next_step, NB_F64);
    nb__turn   k = {.nb = nb, .o = o};
    int        n = 1, at = 0;
    for (int i = 0; i < o->n; i++) {
        n++;
        for (int s = 0; s < NB__SLOTS; s++) n += o->entries[i].slot[s] != NULL;
    }
    nb_list out = nb_list_new(nb, n);
    for (int i = 0; i < o->n && out.n; i++) {
        const nb__entry *before = k.entry;
        k.entry = &o->entries[i];
        if (!before || !shares_factors(before, k.entry)) {
            k.t = t;
            k.rate = k.entry->rate_scale == 1 ? o->rate : nb_mul(o->rate, nb_number(nb, k.entry->rate_scale));
            o->rule->factors(&k);
        }
        nb_tensor *g = nb_watch(gradients.at[i]);
        if (factor) g = nb_mul(g, nb_cast(factor, nb_dtype_of(g)));
        if (o->clip_value > 0) g = nb_clamp(g, -o->clip_value, o->clip_value);
        at = update_one(&k, g, out, at);
    }
    if (out.n) out.at[at] = nb_assign(o->steps, next_step);
    nb_group_pop(nb);
    return out;
}

nb_list nb_update(nb_optimizer *o, nb_tensor *loss) {
    if (!o && !loss) return (nb_list){0};
    nb_context *nb = loss ? nb_context_of(loss) : o->nb;
    if (!loss) return nb_list_of(nb, nb_fail(nb, NB_INVALID, "nb_update: the loss is NULL"));
    if (!o) return nb_list_of(nb, nb_fail(nb, NB_INVALID, "nb_update: there is no optimizer: it was made without parameters"));
    nb_list parameters = nb_list_new(nb, o->n);
    for (int i = 0; i < parameters.n; i++) parameters.at[i] = o->entries[i].w;
    return nb_list_join(nb, nb_list_of(nb, loss), nb_update_with(o, nb_grads(loss, NULL, parameters)));
}
