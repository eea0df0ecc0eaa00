/* compose.c: layers made of layers, and layers of the user's own. */
#include <stdio.h>
#include <string.h>

#include "nn.h"

/* Names of layers in one list differ, because their tensors are called by them. */
static void check_names(nb_context *nb, const char *type, int n, nb_layer *const *layers) {
    for (int i = 0; i < n && !nb_error(nb); i++)
        for (int k = 0; k < i && layers[i]->is_named; k++)
            if (layers[k]->is_named && strcmp(layers[k]->name, layers[i]->name) == 0)
                nb_fail(nb, NB_INVALID, "%s: layers %d and %d are both called '%s': give one another name", type, k, i,
                        layers[i]->name);
}

/* Whether the layers can be put into another one. */
static bool check_inside(nb_context *nb, const char *type, int n, nb_layer *const *layers) {
    if (n < 0 || (n > 0 && !layers)) nb_fail(nb, NB_INVALID, "%s: a list of %d layers%s", type, n, n > 0 ? " that is NULL" : "");
    for (int i = 0; i < n && !nb_error(nb); i++) {
        if (!layers[i])
            nb_fail(nb, NB_INVALID, "%s: layer %d is NULL", type, i);
        else if (layers[i]->nb != nb)
            nb_fail(nb, NB_INVALID, "%s: layer %d belongs to another context", type, i);
        else if (layers[i]->parent || layers[i]->is_root)
            nb_fail(nb, NB_INVALID, "%s: layer %d is inside another layer or a net already", type, i);
        else if (layers[i]->height + 1 >= NB__MAX_NESTING)
            nb_fail(nb, NB_INVALID, "%s: more than %d layers in layers", type, NB__MAX_NESTING);
    }
    for (int i = 0; i < n && !nb_error(nb); i++) layers[i]->place = i;
    for (int i = 0; i < n && !nb_error(nb); i++) /* one that is there twice got its last place */
        if (layers[i]->place != i) nb_fail(nb, NB_INVALID, "%s: layers %d and %d are the same one", type, i, layers[i]->place);
    check_names(nb, type, n, layers);
    return !nb_error(nb);
}

/* ----------------------------------------------------------------------------------------------------------------- sequential */

static nb_tensor *sequential_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    for (int i = 0; i < l->n_inside; i++) x = nb_layer_apply(l->inside[i], x, mode);
    return x;
}

static const nb__layer_kind sequential = {"sequential", sizeof(nb_layer), sequential_apply, NULL};

nb_layer *nb_layer_sequential(nb_context *nb, int n, nb_layer *const *layers) {
    if (!check_inside(nb, "sequential", n, layers)) return NULL;
    nb_layer *l = nb__layer_begin(nb, &sequential, 0, n);
    for (int i = n - 1; i >= 0 && l; i--) { /* from the last: what a context owns is looked for from the newest */
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        nb__layer_adopt(l, i, layers[i], name);
    }
    return nb__layer_end(l);
}

nb_layer *nb__layer_group(nb_context *nb, const char *type, int n, nb_layer *const *layers) {
    nb_layer *l = check_inside(nb, type, n, layers) ? nb__layer_begin(nb, &sequential, 0, n) : NULL;
    for (int i = n - 1; i >= 0; i--) {
        if (l)
            nb__layer_adopt(l, i, layers[i], "");
        else
            nb__layer_free(layers[i]);
    }
    if (l) l->type = type;
    return nb__layer_end(l);
}

/* ------------------------------------------------------------------------------------------------------------------- residual */

static nb_tensor *residual_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    nb_tensor *inner = nb_layer_apply(l->inside[0], x, mode);
    if (nb_has_failed(inner)) return inner;
    nb_dims a = nb_shape_of(x), b = nb_shape_of(inner);
    if (nb__same_shape(a, b)) return nb_add(x, inner);
    char from[128], to[128];
    return nb_fail(l->nb, NB_INVALID, "residual: the layers inside make %s of %s; to be added, both must be equal",
                   nb__shape_text(b, to, sizeof to), nb__shape_text(a, from, sizeof from));
}

static const nb__layer_kind residual = {"residual", sizeof(nb_layer), residual_apply, NULL};

nb_layer *nb_layer_residual(nb_context *nb, nb_layer *inner) {
    if (!check_inside(nb, "residual", 1, &inner)) return NULL;
    nb_layer *l = nb__layer_begin(nb, &residual, 0, 1);
    if (l) nb__layer_adopt(l, 0, inner, "");
    return nb__layer_end(l);
}

/* --------------------------------------------------------------------------------------------------------------------- custom */

typedef struct custom_layer {
    nb_layer           layer;
    nb_layer_function *function;
    void              *user;
    void (*free_user)(void *user);
    char *names; /* of type and tensors, one after the other */
} custom_layer;

static nb_tensor *custom_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    nb_list state = nb_list_new(l->nb, l->n_slots);
    for (int i = 0; i < state.n; i++) state.at[i] = l->slots[i].tensor;
    if (state.n < l->n_slots) return nb_failed(l->nb);
    nb_tensor *y = ((custom_layer *)l)->function(state, x, mode, ((custom_layer *)l)->user);
    return y ? y : nb_fail(l->nb, NB_INVALID, "custom layer %s returned NULL", l->type);
}

static void custom_free(nb_layer *l) {
    custom_layer *c = (custom_layer *)l;
    if (c->free_user) c->free_user(c->user);
    nb_free(l->nb, c->names);
}

static const nb__layer_kind custom = {"custom", sizeof(custom_layer), custom_apply, custom_free};

/* Copies a name into the block and moves on. */
static const char *keep_name(char **at, const char *name) {
    char  *copy = *at;
    size_t n = strlen(name) + 1;
    memcpy(copy, name, n);
    *at += n;
    return copy;
}

nb_layer *nb_layer_custom(nb_context *nb, const char *type, nb_layer_function *apply, nb_list state, int n_trainable, void *user,
                          void (*free_user)(void *user)) {
    if (!type || !apply) nb_fail(nb, NB_INVALID, "nb_layer_custom: it needs a type and a function");
    nb_layer *l = nb__layer_begin(nb, &custom, state.n, 0);
    if (!l) {
        if (free_user) free_user(user);
        return NULL;
    }
    custom_layer *c = (custom_layer *)l;
    c->function = apply;
    c->user = user;
    c->free_user = free_user;
    size_t bytes = strlen(type) + 1;
    for (int i = 0; i < state.n; i++) {
        if (!nb_is_kept(state.at[i]))
            nb_fail(nb, NB_INVALID, "%s: tensor %d of its state is not kept: make it with nb_param", type, i);
        bytes += strlen(nb_name(state.at[i])) + 1;
    }
    char *at = c->names = nb_alloc(nb, bytes);
    if (nb_error(nb)) return nb__layer_end(l);
    l->type = keep_name(&at, type);
    for (int i = 0; i < state.n; i++)
        l->slots[l->n_slots++] =
            (nb__slot){state.at[i], keep_name(&at, nb_name(state.at[i])), i < n_trainable ? NB__WEIGHT : NB__BUFFER};
    return nb__layer_end(l);
}
