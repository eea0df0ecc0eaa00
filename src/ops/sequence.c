/* sequence.c: what nets over sequences are made of: embedding, attention, LSTM. All are made of other operators, which bring
 * their derivatives. */
#include <math.h>

#include "contraction.h"

/* ------------------------------------------------------------------------------------------------------------------ embedding */

nb_tensor *nb_embedding(nb_tensor *weight, nb_tensor *index) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){weight, index});
    if (!nb) return NULL;
    if (nb__refuse(nb, weight, 0, "embedding") || nb__refuse(nb, index, 1, "embedding")) return nb_failed(nb);
    if (weight->shape.rank != 2)
        return nb_fail(nb, NB_INVALID, "embedding: the weight is %s; it must be [count,features]",
                       nb__dims_text(weight->shape).at);
    if (!nb__is_float(weight->dtype))
        return nb_fail(nb, NB_INVALID, "embedding: the weight is %s; it must be f32 or f64: convert with nb_cast",
                       nb_dtype_name(weight->dtype));
    if (index->dtype != NB_I32 && index->dtype != NB_I64)
        return nb_fail(nb, NB_INVALID, "embedding: takes whole numbers, i32 or i64, got %s; convert with nb_cast",
                       nb_dtype_name(index->dtype));
    nb_group_push(nb, &nb__op_embedding);
    nb_tensor *y = nb_index_select(weight, 0, index);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *embedding_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_embedding(s->real(s, -2, 2, nb_shape(5, 3)), s->integer(s, NB_I64, 0, 5, nb_shape(2, 4)));
    case 1: return nb_embedding(s->real(s, -2, 2, nb_shape(3, 2)), s->integer(s, NB_I32, 0, 3, nb_shape()));
    case 2: return nb_embedding(s->real(s, -2, 2, nb_shape(2, 1)), s->integer(s, NB_I64, 0, 2, nb_shape(0)));
    default: return NULL;
    }
}

const nb_op nb__op_embedding = {
    .name = "embedding",
    .formula = "y_{ij} = W_{k_i j}",
    .gradient = "dW_{kj} = \\sum_{i : k_i = k} dy_{ij}",
    .kind = NB_COMPOSITION,
    .arity = 2,
    .sample = embedding_sample,
};

/* ------------------------------------------------------------------------------------------------------------------ attention */

/* The axes of x before its matrix; broadcast with those of `with`, if it has some that fit. */
static bool joins_leading(nb_dims *with, nb_dims x) {
    x.rank -= 2;
    return nb__broadcast(*with, x, with);
}

static bool attention_fits(nb_context *nb, const nb_tensor *q, const nb_tensor *k, const nb_tensor *v) {
    nb_dims a = q->shape, b = k->shape, c = v->shape, leading = {.rank = 0};
    if (a.rank < 2 || b.rank < 2 || c.rank < 2 || a.size[a.rank - 1] != b.size[b.rank - 1] ||
        b.size[b.rank - 2] != c.size[c.rank - 2]) {
        nb_fail(nb, NB_INVALID, "attention: q %s, k %s, v %s: they must be [...,T,d], [...,S,d] and [...,S,e]",
                nb__dims_text(a).at, nb__dims_text(b).at, nb__dims_text(c).at);
        return false;
    }
    if (!joins_leading(&leading, a) || !joins_leading(&leading, b) || !joins_leading(&leading, c)) {
        nb_fail(nb, NB_INVALID, "attention: q %s, k %s, v %s: the leading sizes do not broadcast", nb__dims_text(a).at,
                nb__dims_text(b).at, nb__dims_text(c).at);
        return false;
    }
    return nb__check_product(nb, "attention", q, k, false) && nb__check_product(nb, "attention", q, v, false);
}

/* s [...,T,S], and -infinity where `seen` (bool) is false: whatever stands there, NaN too, is never looked at. */
static nb_tensor *hide(nb_tensor *s, nb_tensor *seen) { return nb_where(seen, s, nb_number(s->nb, -INFINITY)); }

/* s with what may not be seen at -infinity. The causal part is one constant [T,S] for all of s. */
static nb_tensor *masked(nb_tensor *s, const nb_attention_options *o) {
    nb_context *nb = s->nb;
    nb_tensor  *mask = o->mask;
    if (o->causal) {
        nb_tensor *row = nb_unsqueeze(nb_arange(nb, NB_F32, 0, (double)nb_size(s, -2), 1), 1);
        s = hide(s, nb_greater_equal(row, nb_arange(nb, NB_F32, 0, (double)nb_size(s, -1), 1)));
    }
    if (!mask) return s;
    nb_dims both;
    if (nb__refuse(nb, mask, 3, "attention")) return nb_failed(nb);
    if (!nb__broadcast(s->shape, mask->shape, &both) || !nb__dims_equal(s->shape, both))
        return nb_fail(nb, NB_INVALID, "attention: the mask %s does not broadcast to the scores %s",
                       nb__dims_text(mask->shape).at, nb__dims_text(s->shape).at);
    if (mask->dtype != NB_BOOL && mask->dtype != s->dtype)
        return nb_fail(nb, NB_INVALID, "attention: the mask is %s; it must be bool or, as q, %s: convert with nb_cast",
                       nb_dtype_name(mask->dtype), nb_dtype_name(s->dtype));
    return mask->dtype == NB_BOOL ? hide(s, mask) : nb_add(s, mask);
}

nb_tensor *nb_attention(nb_tensor *q, nb_tensor *k, nb_tensor *v, const nb_attention_options *options) {
    nb_context          *nb = nb__context_of(3, (nb_tensor *[]){q, k, v});
    nb_attention_options o = options ? *options : (nb_attention_options){0};
    if (!nb) return NULL;
    if (nb__refuse(nb, q, 0, "attention") || nb__refuse(nb, k, 1, "attention") || nb__refuse(nb, v, 2, "attention") ||
        !attention_fits(nb, q, k, v))
        return nb_failed(nb);
    if (!isfinite(o.scale)) return nb_fail(nb, NB_INVALID, "attention: the scale is %g; it must be finite", o.scale);
    int64_t d = nb_size(q, -1);
    double  scale = o.scale != 0 ? o.scale : d ? 1 / sqrt((double)d) : 1;
    nb_group_push(nb, &nb__op_attention);
    nb_tensor *s = nb_mul(nb_matmul(q, nb_transpose(k, -2, -1)), nb_number(nb, scale));
    nb_tensor *y = nb_matmul(nb_softmax(masked(s, &o), -1), v);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *attention_sample(nb_sampler *s, int i) {
    static const struct {
        nb_dims              q, k, v;
        nb_attention_options o;
    } c[] = {
        {{2, {3, 2}}, {2, {3, 2}}, {2, {3, 2}}, {.causal = true}},
        {{4, {2, 2, 3, 2}}, {4, {2, 2, 3, 2}}, {4, {2, 2, 3, 1}}, {.causal = true, .scale = 0.3}},
        {{3, {2, 2, 3}}, {2, {4, 3}}, {2, {4, 2}}, {.scale = 0}},
        {{2, {1, 1}}, {2, {1, 1}}, {2, {1, 1}}, {.causal = true}},
        {{3, {0, 2, 1}}, {3, {0, 2, 1}}, {3, {0, 2, 2}}, {.scale = 0}},
        {{2, {2, 2}}, {2, {3, 2}}, {2, {3, 2}}, {.scale = 0}}, /* with a mask of numbers */
    };
    int n = (int)(sizeof c / sizeof *c);
    if (i >= n) return NULL;
    nb_attention_options o = c[i].o;
    nb_tensor           *q = s->real(s, -1, 1, c[i].q), *k = s->real(s, -1, 1, c[i].k), *v = s->real(s, -1, 1, c[i].v);
    if (i == n - 1) o.mask = s->real(s, -1, 1, nb_shape(2, 3));
    return nb_attention(q, k, v, &o);
}

const nb_op nb__op_attention = {
    .name = "attention",
    .formula = "y = P v,\\ P = \\operatorname{softmax}(\\alpha\\, q k^{T} + m)",
    .gradient =
        "dv = P^{T} dy,\\ dS = P \\circ (dP - \\textstyle\\sum P \\circ dP),\\ dP = dy\\, v^{T},\\ dq = \\alpha\\, dS\\, k,\\ "
        "dk = \\alpha\\, dS^{T} q",
    .kind = NB_COMPOSITION,
    .arity = -1,
    .sample = attention_sample,
};

/* ----------------------------------------------------------------------------------------------------------------------- lstm */

static bool lstm_fits(nb_context *nb, const nb_tensor *x, const nb_tensor *const w[4]) {
    nb_dims s = x->shape, ih = w[0]->shape, hh = w[1]->shape;
    if (s.rank != 3) {
        nb_fail(nb, NB_INVALID, "lstm: takes a batch of sequences [N,T,features], got %s", nb__dims_text(s).at);
        return false;
    }
    bool    good = ih.rank == 2 && hh.rank == 2 && hh.size[0] == 4 * hh.size[1] && ih.size[0] == hh.size[0];
    nb_dims gates = nb_shape(hh.size[0]);
    for (int i = 2; i < 4 && good; i++) good = !w[i] || nb__dims_equal(w[i]->shape, gates);
    if (!good)
        nb_fail(nb, NB_INVALID, "lstm: weights %s and %s: they must be [4H,in] and [4H,H], biases [4H]", nb__dims_text(ih).at,
                nb__dims_text(hh).at);
    else if (s.size[2] != ih.size[1])
        nb_fail(nb, NB_INVALID, "lstm: input %s: the layer expects %lld features in the last axis", nb__dims_text(s).at,
                (long long)ih.size[1]);
    good = good && s.size[2] == ih.size[1];
    for (int i = 0; i < 4 && good; i++) good = !w[i] || nb__check_product(nb, "lstm", x, w[i], false);
    return good;
}

/* The k-th of four gates that lie side by side: of z, plus of r unless that is NULL, [N,4H] both. Cut first, added then: so that
 * the sum is part of what is done with the gates, and not a result of its own. */
static nb_tensor *gate(nb_tensor *z, nb_tensor *r, int k) {
    int64_t    h = z->shape.size[1] / 4;
    nb_tensor *part = nb_slice(z, 1, k * h, (k + 1) * h, 1);
    return r ? nb_add(part, nb_slice(r, 1, k * h, (k + 1) * h, 1)) : part;
}

/* One step: z from the input, r from the last step (both NULL at first: r and the state c) -> h [N,H]. */
static nb_tensor *lstm_step(nb_tensor *z, nb_tensor *r, nb_tensor **c) {
    nb_tensor *i = nb_sigmoid(gate(z, r, 0)), *f = *c ? nb_sigmoid(gate(z, r, 1)) : NULL;
    nb_tensor *new = nb_mul(i, nb_tanh(gate(z, r, 2)));
    *c = *c ? nb_add(nb_mul(f, *c), new) : new;
    return nb_mul(nb_sigmoid(gate(z, r, 3)), nb_tanh(*c));
}

/* What x adds to the gates is one product for all steps. It lies with time first, so that a step is one piece of memory; steps
 * are slices of one tensor and outputs parts of one, so that in the backward pass the weights' gradients are one product over all
 * steps too. */
nb_tensor *nb_lstm(nb_tensor *x, nb_tensor *weight_ih, nb_tensor *weight_hh, nb_tensor *bias_ih, nb_tensor *bias_hh) {
    nb_tensor  *in[] = {x, weight_ih, weight_hh, bias_ih, bias_hh};
    nb_context *nb = nb__context_of(5, in);
    if (!nb) return NULL;
    for (int i = 0; i < 5; i++)
        if ((in[i] || i < 3) && nb__refuse(nb, in[i], i, "lstm")) return nb_failed(nb);
    if (!lstm_fits(nb, x, (const nb_tensor *const *)in + 1)) return nb_failed(nb);
    int64_t batch = nb_size(x, 0), steps = nb_size(x, 1), hidden = nb_size(weight_hh, 1);
    if (steps == 0) return nb_zeros(nb, x->dtype, nb_shape(batch, 0, hidden));
    nb_group_push(nb, &nb__op_lstm);
    nb_tensor *bias = bias_ih && bias_hh ? nb_add(bias_ih, bias_hh) : bias_ih ? bias_ih : bias_hh;
    nb_tensor *z = nb_linear(nb_transpose(x, 0, 1), weight_ih, bias), *w = nb_transpose(weight_hh, 0, 1), *h = NULL, *c = NULL;
    nb_list    outputs = nb_list_new(nb, (int)steps);
    for (int t = 0; t < outputs.n; t++) {
        nb_tensor *now = nb_reshape(nb_slice(z, 0, t, t + 1, 1), nb_shape(batch, 4 * hidden));
        outputs.at[t] = h = lstm_step(now, h ? nb_matmul(h, w) : NULL, &c);
    }
    nb_tensor *y = outputs.n ? nb_transpose(nb_stack(outputs, 0), 0, 1) : nb_failed(nb);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *lstm_sample(nb_sampler *s, int i) {
    static const struct {
        int64_t batch, steps, in, hidden;
        int     biases;
    } c[] = {{2, 3, 2, 2, 2}, {1, 4, 1, 3, 0}, {2, 1, 3, 1, 1}, {1, 0, 2, 1, 2}, {0, 2, 1, 2, 2}};
    if (i >= (int)(sizeof c / sizeof *c)) return NULL;
    int64_t    gates = 4 * c[i].hidden;
    nb_tensor *x = s->real(s, -1, 1, nb_shape(c[i].batch, c[i].steps, c[i].in));
    nb_tensor *ih = s->real(s, -1, 1, nb_shape(gates, c[i].in)), *hh = s->real(s, -1, 1, nb_shape(gates, c[i].hidden));
    nb_tensor *b[2] = {NULL, NULL};
    for (int k = 0; k < c[i].biases; k++) b[k] = s->real(s, -1, 1, nb_shape(gates));
    return nb_lstm(x, ih, hh, b[0], b[1]);
}

const nb_op nb__op_lstm = {
    .name = "lstm",
    .formula = "(i, f, g, o) = x_t W_{ih}^{T} + h_{t-1} W_{hh}^{T} + b,\\ c_t = \\sigma(f) c_{t-1} + \\sigma(i) \\tanh g,\\ "
               "h_t = \\sigma(o) \\tanh c_t",
    .gradient = "\\text{chain rule, from the last step to the first}",
    .kind = NB_COMPOSITION,
    .arity = -1,
    .sample = lstm_sample,
};
