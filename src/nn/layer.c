/* layer.c: what all layers have in common: their tensors, their names, and the tree they form.
 *
 * Names are PyTorch's: a layer is called by its place in its parent, a tensor by the path to it, "2.0.weight". A layer without a
 * name (the outermost, what a residual holds) adds nothing to the path. Walks over the tree go by nb__layer_next, without
 * recursion. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn.h"

double nb__or(double value, double otherwise) { return value == 0 ? otherwise : value == NB_NONE ? 0 : value; }

bool nb__same_shape(nb_dims a, nb_dims b) {
    bool same = a.rank == b.rank;
    for (int i = 0; same && i < a.rank; i++) same = a.size[i] == b.size[i];
    return same;
}

/* ------------------------------------------------------------------------------------------------------------ making, freeing */

/* Children first. At most NB__MAX_NESTING deep. */
static void free_tree(void *object) {
    nb_layer   *l = object;
    nb_context *nb = l->nb;
    for (int i = 0; i < l->n_inside; i++)
        if (l->inside[i]) free_tree(l->inside[i]);
    for (int i = 0; i < l->n_slots; i++) nb_release(l->slots[i].tensor);
    if (l->kind->free) l->kind->free(l);
    nb_free(nb, l->inside);
    nb_free(nb, l->slots);
    nb_free(nb, l);
}

void nb__layer_free(nb_layer *l) {
    if (!l) return;
    nb_disown(l->nb, l);
    free_tree(l);
}

nb_layer *nb__layer_begin(nb_context *nb, const nb__layer_kind *kind, int n_slots, int n_inside) {
    if (nb_error(nb)) return NULL;
    nb_layer *l = nb_alloc(nb, kind->size);
    if (!l) return NULL;
    *l = (nb_layer){.nb = nb, .kind = kind, .type = kind->type, .output = {.rank = -1}};
    if (!nb_own(nb, l, free_tree)) return NULL;
    l->slots = nb_alloc(nb, (size_t)n_slots * sizeof *l->slots);
    l->inside = nb_alloc(nb, (size_t)n_inside * sizeof *l->inside);
    if (l->slots && l->inside) {
        l->n_inside = n_inside;
        return l;
    }
    nb__layer_free(l);
    return NULL;
}

nb_tensor *nb__layer_slot(nb_layer *l, const char *name, nb__role role, nb_dims shape, double value) {
    if (!l) return NULL;
    nb_tensor *t = nb_param(l->nb, name, nb_full(l->nb, NB_F32, shape, value));
    l->slots[l->n_slots++] = (nb__slot){t, name, role};
    return t;
}

void nb__layer_adopt(nb_layer *l, int place, nb_layer *child, const char *name) {
    nb_disown(child->nb, child);
    l->inside[place] = child;
    child->parent = l;
    child->place = place;
    if (!child->is_named) snprintf(child->name, sizeof child->name, "%s", name);
    if (child->height + 1 > l->height) l->height = child->height + 1;
}

/* Tensors are named by the path to them, which changes when a layer gets a parent or a name. */
static void name_tensors(nb_layer *top) {
    char path[NB__MAX_NESTING * NB__NAME_SIZE], name[sizeof path + NB__NAME_SIZE];
    for (nb_layer *l = top; l; l = nb__layer_next(top, l)) {
        nb__layer_path(l, NULL, '.', path, sizeof path);
        for (int i = 0; i < l->n_slots; i++) {
            snprintf(name, sizeof name, "%s%s%s", path, path[0] ? "." : "", l->slots[i].name);
            if (strcmp(name, nb_name(l->slots[i].tensor)) != 0) nb_set_name(l->slots[i].tensor, name);
        }
    }
}

nb_layer *nb__layer_end(nb_layer *l) {
    if (!l) return NULL;
    if (l->n_inside) name_tensors(l);
    if (!nb_error(l->nb) || l->n_inside) return l; /* with layers inside, it stays: they belong to it now */
    nb__layer_free(l);
    return NULL;
}

void nb__init_weight_and_bias(nb_tensor *weight, nb_tensor *bias) {
    if (!weight || nb_has_failed(weight)) return;
    nb_dims s = nb_shape_of(weight);
    double  fan_in = 1;
    for (int i = 1; i < s.rank; i++) fan_in *= (double)s.size[i];
    double bound = fan_in > 0 ? 1 / sqrt(fan_in) : 0;
    if (nb_count(weight)) nb_init_kaiming_uniform(weight, nb_gain("leaky_relu", sqrt(5)), NB_FAN_IN);
    if (bias) nb_init_uniform(bias, -bound, bound);
}

/* ---------------------------------------------------------------------------------------------------------------------- apply */

nb_tensor *nb_layer_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    if (!l) return x ? nb_failed(nb_context_of(x)) : NULL;
    if (!x) return nb_fail(l->nb, NB_INVALID, "nb_layer_apply: x is NULL");
    if (l->name[0]) nb_scope_push(l->nb, l->name);
    nb_tensor *y = l->kind->apply(l, x, mode);
    if (l->name[0]) nb_scope_pop(l->nb);
    l->output = nb_has_failed(y) ? (nb_dims){.rank = -1} : nb_shape_of(y);
    l->first = nb_serial(x);
    l->last = nb_serial(y);
    return y;
}

/* ------------------------------------------------------------------------------------------------------------------- the tree */

nb_layer *nb__layer_next(const nb_layer *top, const nb_layer *at) {
    if (at->n_inside) return at->inside[0];
    while (at != top) {
        const nb_layer *parent = at->parent;
        if (at->place + 1 < parent->n_inside) return parent->inside[at->place + 1];
        at = parent;
    }
    return NULL;
}

void nb__layer_path(const nb_layer *l, const nb_layer *top, char separator, char *text, size_t size) {
    size_t at = size - 1; /* written from its end, then moved to the front */
    text[at] = 0;
    for (; l && l != top; l = l->parent) {
        size_t n = strlen(l->name);
        if (!n || n + 1 > at) continue;
        if (text[at]) text[--at] = separator;
        at -= n;
        memcpy(text + at, l->name, n);
    }
    memmove(text, text + at, size - at);
}

const char *nb_layer_type(const nb_layer *l) { return l ? l->type : ""; }
const char *nb_layer_name(const nb_layer *l) { return l ? l->name : ""; }
int         nb_layer_count(const nb_layer *l) { return l ? l->n_inside : 0; }
nb_layer   *nb_layer_at(nb_layer *l, int i) { return l && i >= 0 && i < l->n_inside ? l->inside[i] : NULL; }

bool nb__is_number(const char *name) { return name[strspn(name, "0123456789")] == 0; }

void nb_layer_set_name(nb_layer *l, const char *name) {
    if (!l) return;
    if (!name) {
        nb_fail(l->nb, NB_INVALID, "nb_layer_set_name: the name is NULL");
        return;
    }
    if (strlen(name) >= sizeof l->name || strpbrk(name, "./")) {
        nb_fail(l->nb, NB_INVALID, "a layer's name has up to %d letters, no dots and no slashes; got '%s'", NB__NAME_SIZE - 1,
                name);
        return;
    }
    if (nb__is_number(name)) {
        nb_fail(l->nb, NB_INVALID, "a layer cannot be called '%s': layers without a name are called by their numbers", name);
        return;
    }
    for (int i = 0; l->parent && i < l->parent->n_inside; i++)
        if (i != l->place && strcmp(l->parent->inside[i]->name, name) == 0) {
            nb_fail(l->nb, NB_INVALID, "layer %d beside it is called '%s' already: give it another name", i, name);
            return;
        }
    strcpy(l->name, name);
    l->is_named = true;
    name_tensors(l);
}

nb_layer *nb_layer_find(nb_layer *top, const char *path) {
    char here[NB__MAX_NESTING * NB__NAME_SIZE];
    for (nb_layer *l = path ? top : NULL; l; l = nb__layer_next(top, l)) {
        nb__layer_path(l, top, '.', here, sizeof here);
        if (strcmp(here, path) == 0) return l;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------- tensors */

static bool listed(const nb_layer *l, const nb__slot *s, bool trained_only) {
    return trained_only ? s->role == NB__WEIGHT && !l->frozen : s->role != NB__SETTING;
}

static nb_list list_tensors(nb_layer *top, bool trained_only) {
    if (!top) return (nb_list){0};
    int n = 0, at = 0;
    for (nb_layer *l = top; l; l = nb__layer_next(top, l))
        for (int i = 0; i < l->n_slots; i++) n += listed(l, &l->slots[i], trained_only);
    nb_list list = nb_list_new(top->nb, n);
    for (nb_layer *l = top; l && list.n; l = nb__layer_next(top, l))
        for (int i = 0; i < l->n_slots; i++)
            if (listed(l, &l->slots[i], trained_only)) list.at[at++] = l->slots[i].tensor;
    return list;
}

nb_list nb_layer_parameters(nb_layer *layer) { return list_tensors(layer, true); }
nb_list nb_layer_state(nb_layer *layer) { return list_tensors(layer, false); }

void nb_layer_freeze(nb_layer *layer, bool frozen) {
    for (nb_layer *l = layer; l; l = nb__layer_next(layer, l)) l->frozen = frozen;
}

bool nb_layer_cast(nb_layer *layer, nb_dtype dtype) {
    if (!layer) return false;
    if (dtype != NB_F32 && dtype != NB_F64)
        nb_fail(layer->nb, NB_INVALID, "nb_layer_cast: layers are of f32 or f64, not %s", nb_dtype_name(dtype));
    for (nb_layer *l = layer; l && !nb_error(l->nb); l = nb__layer_next(layer, l)) {
        for (int i = 0; i < l->n_slots; i++) {
            nb_tensor *old = l->slots[i].tensor;
            if (nb_dtype_of(old) == dtype) continue;
            nb_tensor *t = nb_param(l->nb, nb_name(old), nb_cast(old, dtype));
            if (nb_has_failed(t)) return false;
            l->slots[i].tensor = t;
            nb_release(old);
        }
    }
    return !nb_error(layer->nb);
}
