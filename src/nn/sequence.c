/* sequence.c: layers over sequences: embedding, positions, LSTM, attention, and the transformer's block. The maths is in
 * ops/sequence.c; here are the tensors, named as PyTorch's. */
#include <math.h>
#include <string.h>

#include "nn.h"

static nb_tensor *slot(const nb_layer *l, int i) { return i < l->n_slots ? l->slots[i].tensor : NULL; }

#define EMBED_FIRST "it takes [steps,features]: put embedding before it"

/* n times k. What is too large is so large that no tensor has it, and is told there. */
static int64_t times(int64_t n, int64_t k) { return n > INT64_MAX / k ? INT64_MAX : n < 0 ? n : n * k; }

static bool is_sequence(const nb_layer *l, const nb_tensor *x, int64_t features) {
    if (nb_rank(x) == 3 && nb_size(x, 2) == features) return true;
    char text[128];
    nb_fail(l->nb, NB_INVALID, "%s: takes a batch of sequences [N,T,%lld], got %s", l->type, (long long)features,
            nb__shape_text(nb_shape_of(x), text, sizeof text));
    return false;
}

/* ------------------------------------------------------------------------------------------------------------------ embedding */

static nb_tensor *embedding_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    return nb_embedding(slot(l, 0), x);
}

static const nb__layer_kind embedding = {"embedding", sizeof(nb_layer), embedding_apply, NULL};

/* A layer with one table of numbers, from the normal law. */
static nb_layer *new_table(nb_context *nb, const nb__layer_kind *kind, const char *what, int64_t rows, int64_t features) {
    if (rows < 1 || features < 1)
        nb_fail(nb, NB_INVALID, "%s: %lld %s of %lld features; at least 1 of each", kind->type, (long long)rows, what,
                (long long)features);
    nb_layer  *l = nb__layer_begin(nb, kind, 1, 0);
    nb_tensor *w = nb__layer_slot(l, "weight", NB__WEIGHT, nb_shape(rows, features), 0);
    if (w) nb_init_normal(w, 0, 1);
    return nb__layer_end(l);
}

nb_layer *nb_layer_embedding(nb_context *nb, int64_t count, int64_t features) {
    nb_layer *l = new_table(nb, &embedding, "rows", count, features);
    if (l) l->takes_indices = true;
    return l;
}

nb_layer *nb__read_embedding(nb__reader *r) {
    int64_t count = nb__read_size(r, "count"), features = nb__read_size(r, "features");
    if (!nb__read_rank(r, 0, 2, "an item is a row of whole numbers, [64] say") || !nb__read_indices(r)) return NULL;
    return nb_layer_embedding(r->nb, count, features);
}

/* ------------------------------------------------------------------------------------------------------------------ positions */

/* weight [T,D]; shorter sequences use its first rows. */
static nb_tensor *positions_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    nb_tensor *w = slot(l, 0);
    int64_t    most = nb_size(w, 0);
    if (!is_sequence(l, x, nb_size(w, 1))) return nb_failed(l->nb);
    if (nb_size(x, 1) > most)
        return nb_fail(l->nb, NB_INVALID, "positions: a sequence of %lld steps, but there are %lld positions",
                       (long long)nb_size(x, 1), (long long)most);
    return nb_add(x, nb_size(x, 1) == most ? w : nb_slice(w, 0, 0, nb_size(x, 1), 1));
}

static const nb__layer_kind positions = {"positions", sizeof(nb_layer), positions_apply, NULL};

nb_layer *nb_layer_positions(nb_context *nb, int64_t steps, int64_t features) {
    return new_table(nb, &positions, "steps", steps, features);
}

nb_layer *nb__read_positions(nb__reader *r) {
    if (!nb__read_rank(r, 2, 2, EMBED_FIRST)) return NULL;
    if (r->shape.size[0] < 1 || r->shape.size[1] < 1) {
        nb__read_error(r, r->word, "an item has %lld steps of %lld features; at least 1 of each", (long long)r->shape.size[0],
                       (long long)r->shape.size[1]);
        return NULL;
    }
    return nb_layer_positions(r->nb, r->shape.size[0], r->shape.size[1]);
}

/* ----------------------------------------------------------------------------------------------------------------------- lstm */

static nb_tensor *lstm_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    if (!is_sequence(l, x, nb_size(slot(l, 0), 1))) return nb_failed(l->nb);
    return nb_lstm(x, slot(l, 0), slot(l, 1), slot(l, 2), slot(l, 3));
}

static const nb__layer_kind lstm = {"lstm", sizeof(nb_layer), lstm_apply, NULL};

nb_layer *nb_layer_lstm(nb_context *nb, int64_t in, int64_t hidden, bool bias) {
    if (in < 1 || hidden < 1)
        nb_fail(nb, NB_INVALID, "lstm: %lld features in and %lld hidden; at least 1 of each", (long long)in, (long long)hidden);
    nb_layer *l = nb__layer_begin(nb, &lstm, 4, 0);
    int64_t   gates = times(hidden, 4);
    nb__layer_slot(l, "weight_ih_l0", NB__WEIGHT, nb_shape(gates, in), 0);
    nb__layer_slot(l, "weight_hh_l0", NB__WEIGHT, nb_shape(gates, hidden), 0);
    if (bias) nb__layer_slot(l, "bias_ih_l0", NB__WEIGHT, nb_shape(gates), 0);
    if (bias) nb__layer_slot(l, "bias_hh_l0", NB__WEIGHT, nb_shape(gates), 0);
    double bound = 1 / sqrt((double)hidden);
    for (int i = 0; l && i < l->n_slots; i++) nb_init_uniform(slot(l, i), -bound, bound);
    return nb__layer_end(l);
}

nb_layer *nb__read_lstm(nb__reader *r) {
    int64_t hidden = nb__read_size(r, "hidden");
    bool    bias = nb__option_flag(r, "bias", true);
    if (!nb__read_rank(r, 2, 2, EMBED_FIRST)) return NULL;
    return nb_layer_lstm(r->nb, r->shape.size[1], hidden, bias);
}

/* ------------------------------------------------------------------------------------------------------------------ attention */

typedef struct attention_layer {
    nb_layer layer;
    int64_t  heads;
    bool     causal, bias;
} attention_layer;

/* q (k = 0), k (1) or v (2) of qkv [N,T,3D]: [N,heads,T,D/heads]. */
static nb_tensor *heads_of(nb_tensor *qkv, int k, int64_t heads) {
    int64_t    features = nb_size(qkv, 2) / 3;
    nb_tensor *part = nb_slice(qkv, 2, k * features, (k + 1) * features, 1);
    nb_dims    split = nb_shape(nb_size(qkv, 0), nb_size(qkv, 1), heads, features / heads);
    return nb_transpose(nb_reshape(part, split), 1, 2);
}

static nb_tensor *attention_apply(nb_layer *l, nb_tensor *x, nb_mode mode) {
    (void)mode;
    const attention_layer *a = (attention_layer *)l;
    nb_tensor             *in_bias = a->bias ? slot(l, 1) : NULL, *out_bias = a->bias ? slot(l, 3) : NULL;
    if (!is_sequence(l, x, nb_size(slot(l, 0), 1))) return nb_failed(l->nb);
    nb_tensor *qkv = nb_linear(x, slot(l, 0), in_bias);
    nb_tensor *y = nb_attention(heads_of(qkv, 0, a->heads), heads_of(qkv, 1, a->heads), heads_of(qkv, 2, a->heads),
                                &(nb_attention_options){.causal = a->causal});
    return nb_linear(nb_reshape(nb_transpose(y, 1, 2), nb_shape_of(x)), slot(l, a->bias ? 2 : 1), out_bias);
}

static const nb__layer_kind attention = {"attention", sizeof(attention_layer), attention_apply, NULL};

/* Drawn in PyTorch's order: the output's weight and a bias that then becomes 0, and the input's weight last. */
nb_layer *nb_layer_attention(nb_context *nb, int64_t features, int64_t heads, bool causal, bool bias) {
    if (features < 1 || heads < 1)
        nb_fail(nb, NB_INVALID, "attention: %lld features and %lld heads; at least 1 of each", (long long)features,
                (long long)heads);
    else if (features % heads)
        nb_fail(nb, NB_INVALID, "attention: %lld features do not divide into %lld heads", (long long)features, (long long)heads);
    nb_layer *l = nb__layer_begin(nb, &attention, 4, 0);
    if (l) ((attention_layer *)l)->heads = heads;
    if (l) ((attention_layer *)l)->causal = causal;
    if (l) ((attention_layer *)l)->bias = bias;
    nb_tensor *in = nb__layer_slot(l, "in_proj_weight", NB__WEIGHT, nb_shape(times(features, 3), features), 0);
    if (bias) nb__layer_slot(l, "in_proj_bias", NB__WEIGHT, nb_shape(times(features, 3)), 0);
    nb_tensor *out = nb__layer_slot(l, "out_proj.weight", NB__WEIGHT, nb_shape(features, features), 0);
    nb_tensor *out_bias = bias ? nb__layer_slot(l, "out_proj.bias", NB__WEIGHT, nb_shape(features), 0) : NULL;
    nb__init_weight_and_bias(out, out_bias);
    if (out_bias) nb_init_zeros(out_bias);
    if (in) nb_init_xavier_uniform(in, 1);
    return nb__layer_end(l);
}

/* Whether the features of each step divide into heads. */
static bool heads_fit(nb__reader *r, int64_t heads) {
    if (!nb__read_rank(r, 2, 2, EMBED_FIRST)) return false;
    int64_t features = r->shape.size[1];
    if (features < 1)
        nb__read_error(r, r->word, "an item has %lld features; at least 1 of them", (long long)features);
    else if (features % heads)
        nb__read_error(r, r->word, "%lld features do not divide into %lld heads", (long long)features, (long long)heads);
    return !r->failed;
}

nb_layer *nb__read_attention(nb__reader *r) {
    int64_t heads = nb__read_size(r, "heads");
    bool    causal = nb__option_flag(r, "causal", false), bias = nb__option_flag(r, "bias", true);
    return heads_fit(r, heads) ? nb_layer_attention(r->nb, r->shape.size[1], heads, causal, bias) : NULL;
}

/* ---------------------------------------------------------------------------------------------------------------- transformer */

static nb_layer *named(nb_layer *l, const char *name) {
    nb_layer_set_name(l, name);
    return l;
}

/* x + l1(x) + ..., in order. NULL after an error: then the layers that were made are given back. */
static nb_layer *residual_of(nb_context *nb, int n, nb_layer *const *layers) {
    nb_layer *list = nb_error(nb) ? NULL : nb_layer_sequential(nb, n, layers);
    if (list) return nb_layer_residual(nb, list);
    for (int i = 0; i < n; i++) nb__layer_free(layers[i]);
    return NULL;
}

/* Weights are drawn, and layers called, as in torch.nn.TransformerEncoderLayer with norm_first. */
nb_layer *nb_layer_transformer(nb_context *nb, int64_t features, int64_t heads, int64_t hidden, bool causal) {
    if (hidden == 0) hidden = times(features, 4);
    nb_layer *attend[2], *think[4];
    attend[1] = named(nb_layer_attention(nb, features, heads, causal, true), "self_attn");
    think[1] = named(nb_layer_linear(nb, features, hidden, true), "linear1");
    think[2] = named(nb_layer_activation(nb, "gelu_tanh", 0), "activation");
    think[3] = named(nb_layer_linear(nb, hidden, features, true), "linear2");
    attend[0] = named(nb_layer_layer_norm(nb, nb_shape(features), NULL), "norm1");
    think[0] = named(nb_layer_layer_norm(nb, nb_shape(features), NULL), "norm2");
    nb_layer *parts[] = {residual_of(nb, 2, attend), residual_of(nb, 4, think)};
    return nb__layer_group(nb, "transformer", 2, parts);
}

nb_layer *nb__read_transformer(nb__reader *r) {
    int64_t heads = nb__read_size(r, "heads");
    int64_t hidden = nb__option_size(r, "hidden", 0);
    bool    causal = nb__option_flag(r, "causal", false);
    return heads_fit(r, heads) ? nb_layer_transformer(r->nb, r->shape.size[1], heads, hidden, causal) : NULL;
}
