/* dense.c: linear layers, and those without a window: flatten, dropout, PReLU. */
#include "nn.h"

/* --------------------------------------------------------------------------------------------------------------------- linear */

static nb_tensor *slot(const nb_layer *l, int i) { return i < l->n_slots ? l->slots[i].tensor : NULL; }

static nb_tensor *linear_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_linear(x, slot(l, 0), slot(l, 1));
}

static const nb__layer_kind linear = {"linear", sizeof(nb_layer), linear_apply, NULL};

/* A layer for x [N,in] -> [N,out], or NULL. */
static nb_layer *begin_linear(nb_context *nb, const nb__layer_kind *kind, int n_slots, int64_t in, int64_t out) {
    if (in < 1 || out < 1)
        nb_fail(nb, NB_INVALID, "%s: %lld features in and %lld out; at least 1 of each", kind->type, (long long)in,
                (long long)out);
    return nb__layer_begin(nb, kind, n_slots, 0);
}

nb_layer *nb_layer_linear(nb_context *nb, int64_t in, int64_t out, bool bias) {
    nb_layer  *l = begin_linear(nb, &linear, 2, in, out);
    nb_tensor *w = nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(out, in), 0);
    nb_tensor *b = bias ? nb__layer_slot(l, "bias", NB__WEIGHT, nb_shape(out), 0) : NULL;
    nb__init_weight_and_bias(w, b);
    return nb__layer_end(l);
}

#define FLATTEN_FIRST "put flatten before it"

nb_layer *nb__read_linear(nb__reader *r) {
    int64_t out = nb__read_size(r, "out");
    bool    bias = nb__option_flag(r, "bias", true);
    if (!nb__read_rank(r, 1, 2, FLATTEN_FIRST)) return NULL;
    return nb_layer_linear(r->nb, r->shape.size[r->shape.rank - 1], out, bias);
}

/* ---------------------------------------------------------------------------------------------------------------- dropconnect */

/* p is a kept number, the layer's last slot: programs read it when they run. */
typedef struct dropconnect_layer {
    nb_layer layer;
    bool     bias;
} dropconnect_layer;

static nb_tensor *dropconnect_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    nb_tensor *b = ((dropconnect_layer *)l)->bias ? slot(l, 1) : NULL;
    if (mode == NB_EVAL) return nb_linear(x, slot(l, 0), b);
    return nb_dropconnect_linear(x, slot(l, 0), b, slot(l, l->n_slots - 1));
}

static const nb__layer_kind dropconnect = {"dropconnect", sizeof(dropconnect_layer), dropconnect_apply, NULL};

/* A kept number of a layer; a probability that is none is an error. */
static void add_probability(nb_layer *l, double p) {
    if (l && !(p >= 0 && p < 1)) nb_fail(l->nb, NB_INVALID, "%s: p is %g; a probability of dropping is in [0,1)", l->type, p);
    nb__layer_slot(l, "p", NB__SETTING, nb_shape(), p);
}

nb_layer *nb_layer_dropconnect(nb_context *nb, int64_t in, int64_t out, bool bias, double p) {
    nb_layer  *l = begin_linear(nb, &dropconnect, 3, in, out);
    nb_tensor *w = nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(out, in), 0);
    nb_tensor *b = bias ? nb__layer_slot(l, "bias", NB__WEIGHT, nb_shape(out), 0) : NULL;
    if (l) ((dropconnect_layer *)l)->bias = bias;
    nb__init_weight_and_bias(w, b);
    add_probability(l, p);
    return nb__layer_end(l);
}

nb_layer *nb__read_dropconnect(nb__reader *r) {
    int64_t out = nb__read_size(r, "out");
    double  p = nb__read_probability(r);
    bool    bias = nb__option_flag(r, "bias", true);
    if (!nb__read_rank(r, 1, 2, FLATTEN_FIRST)) return NULL;
    return nb_layer_dropconnect(r->nb, r->shape.size[r->shape.rank - 1], out, bias, p);
}

/* -------------------------------------------------------------------------------------------------------------------- dropout */

static nb_tensor *dropout_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    return mode == NB_EVAL ? x : nb_dropout(x, slot(l, 0));
}

static nb_tensor *dropout_channels_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    return mode == NB_EVAL ? x : nb_dropout_channels(x, slot(l, 0));
}

static const nb__layer_kind dropout = {"dropout", sizeof(nb_layer), dropout_apply, NULL};
static const nb__layer_kind dropout_channels = {"dropout_channels", sizeof(nb_layer), dropout_channels_apply, NULL};

static nb_layer *new_dropout(nb_context *nb, const nb__layer_kind *kind, double p) {
    nb_layer *l = nb__layer_begin(nb, kind, 1, 0);
    add_probability(l, p);
    return nb__layer_end(l);
}

nb_layer *nb_layer_dropout(nb_context *nb, double p) { return new_dropout(nb, &dropout, p); }
nb_layer *nb_layer_dropout_channels(nb_context *nb, double p) { return new_dropout(nb, &dropout_channels, p); }
nb_layer *nb__read_dropout(nb__reader *r) { return nb_layer_dropout(r->nb, nb__read_probability(r)); }

nb_layer *nb__read_channeldropout(nb__reader *r) {
    double p = nb__read_probability(r);
    if (!nb__read_rank(r, 2, NB_MAX_RANK, "after flatten there are no channels: use dropout") || !nb__read_channels(r))
        return NULL;
    return nb_layer_dropout_channels(r->nb, p);
}

/* -------------------------------------------------------------------------------------------------------------------- flatten */

static nb_tensor *flatten_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)l;
    (void)mode;
    if (nb_rank(x) < 1) return nb_fail(nb_context_of(x), NB_INVALID, "flatten: needs a batch [N, ...], got a scalar");
    return nb_rank(x) == 1 ? nb_unsqueeze(x, 1) : nb_flatten(x, 1, -1);
}

static const nb__layer_kind flatten = {"flatten", sizeof(nb_layer), flatten_apply, NULL};

nb_layer *nb_layer_flatten(nb_context *nb) { return nb__layer_end(nb__layer_begin(nb, &flatten, 0, 0)); }
nb_layer *nb__read_flatten(nb__reader *r) { return nb_layer_flatten(r->nb); }

/* ---------------------------------------------------------------------------------------------------------------------- prelu */

static nb_tensor *prelu_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_prelu(x, slot(l, 0));
}

static const nb__layer_kind prelu = {"prelu", sizeof(nb_layer), prelu_apply, NULL};

nb_layer *nb_layer_prelu(nb_context *nb, int64_t features) {
    nb_layer *l = nb__layer_begin(nb, &prelu, 1, 0);
    nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(features), 0.25);
    return nb__layer_end(l);
}

nb_layer *nb__read_prelu(nb__reader *r) {
    bool each = nb__option_word(r, "each", "channel");
    if (!nb__read_rank(r, 1, NB_MAX_RANK, "it needs features") || (each && !nb__read_channels(r))) return NULL;
    return nb_layer_prelu(r->nb, each ? r->shape.size[0] : 1);
}
