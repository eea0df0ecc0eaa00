/* activation.c: activations as layers; the operators are in nabla/ops.h. A new one is a row of activations.def. */
#include <string.h>

#include "nn.h"

/* The axis of features: of [N,features] and images [N,C,...] the second, of sequences [N,T,features] the last. */
static int        features_axis(const nb_tensor *x) { return nb_rank(x) == 3 ? 2 : 1; }
static nb_tensor *softmax(nb_tensor *x) { return nb_softmax(x, features_axis(x)); }
static nb_tensor *log_softmax(nb_tensor *x) { return nb_log_softmax(x, features_axis(x)); }

static const struct {
    const char *name;
    nb_tensor *(*plain)(nb_tensor *x); /* one of the two */
    nb_tensor *(*with)(nb_tensor *x, double parameter);
    double      parameter; /* default */
    const char *parameter_name;
} table[] = {
#define ACTIVATION(name, plain, with, parameter, parameter_name) {#name, plain, with, parameter, parameter_name},
#include "activations.def"
#undef ACTIVATION
};

enum { TABLE_SIZE = sizeof table / sizeof *table };

typedef struct activation_layer {
    nb_layer layer;
    int      row;
    double   parameter;
} activation_layer;

static nb_tensor *activation_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    activation_layer *a = (activation_layer *)l;
    return table[a->row].plain ? table[a->row].plain(x) : table[a->row].with(x, a->parameter);
}

static const nb__layer_kind activation = {"activation", sizeof(activation_layer), activation_apply, NULL};

static nb_layer *new_activation(nb_context *nb, int row, double parameter) {
    nb_layer *l = nb__layer_begin(nb, &activation, 0, 0);
    if (!l) return NULL;
    l->type = table[row].name;
    ((activation_layer *)l)->row = row;
    ((activation_layer *)l)->parameter = parameter;
    return nb__layer_end(l);
}

nb_layer *nb_layer_activation(nb_context *nb, const char *name, double parameter) {
    if (!name) name = "";
    int row = nb__activation_find(name, (int)strlen(name));
    if (row >= 0) return new_activation(nb, row, nb__or(parameter, table[row].parameter));
    nb_fail(nb, NB_INVALID, "nb_layer_activation: there is no '%s'; nabla/nn.h lists them", name);
    return NULL;
}

const char *nb__activation_name(int i) { return i < TABLE_SIZE ? table[i].name : NULL; }
const char *nb__activation_usage(int i) { return table[i].with ? " [NUMBER]" : ""; }

int nb__activation_find(const char *name, int length) {
    for (int i = 0; i < TABLE_SIZE; i++)
        if (strlen(table[i].name) == (size_t)length && memcmp(table[i].name, name, (size_t)length) == 0) return i;
    return -1;
}

nb_layer *nb__read_activation(nb__reader *r, int i) {
    double p = 0;
    if (table[i].with) p = nb__read_real(r, table[i].parameter_name, table[i].parameter, -1e6, 1e6);
    bool has_axis = strstr(table[i].name, "softmax") != NULL;
    if (has_axis && !nb__read_rank(r, 1, NB_MAX_RANK - 1, "it needs features")) return NULL;
    return r->failed ? NULL : new_activation(r->nb, i, p);
}
