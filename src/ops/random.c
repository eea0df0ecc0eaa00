/* random.c: random numbers, and what is built on them.
 *
 * Philox 4x32-10 is a block cipher: 128 bits of counter in, 128 random bits out, no state (Salmon et al., Parallel Random
 * Numbers: As Easy as 1, 2, 3, 2011). The key is (seed, stream), the counter (block, step), 64 bits each, low word first. An
 * element's block follows from its row-major number e, so its bits depend on neither layout nor threads:
 *     f32   word e % 4 of block e / 4; a number in [0, 1) is its high 24 bits / 2^24
 *     f64   half e % 2 of block e / 2; its high 53 bits / 2^53 */
#include <math.h>
#include <stdio.h>

#include "ops.h"

static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t m = UINT64_C(0xD2511F53) * c0, n = UINT64_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(n >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(m >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)n;
        c3 = (uint32_t)m;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void block_of(const nb_call *call, uint64_t block, uint32_t out[4]) {
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)call->counter, (uint32_t)(call->counter >> 32)};
    philox(counter, call->key, out);
}

static uint64_t bits_64(const uint32_t *word) { return (uint64_t)word[0] << 32 | word[1]; }

/* low + (high - low) u in the type's own arithmetic; rounding must not reach high. */
static double uniform_at(const nb_call *call, int64_t e) {
    const nb__create_attr *a = call->attr;
    uint32_t               w[4];
    if (call->out.dtype == NB_F32) {
        float low = (float)a->p, high = (float)a->q;
        block_of(call, (uint64_t)e / 4, w);
        float v = low + (high - low) * ((float)(w[e % 4] >> 8) * 0x1p-24f);
        return v < high ? v : fmaxf(low, nextafterf(high, low));
    }
    block_of(call, (uint64_t)e / 2, w);
    double v = a->p + (a->q - a->p) * ((double)(bits_64(&w[2 * (e % 2)]) >> 11) * 0x1p-53);
    return v < a->q ? v : fmax(a->p, nextafter(a->q, a->p));
}

/* Box & Muller, A Note on the Generation of Random Normal Deviates, 1958: from u in (0, 1] and v in [0, 1) come two,
 * sqrt(-2 log u) cos(2 pi v) and the same with sin. f32: of words 0, 1 and of words 2, 3; f64: of both halves of a block. */
static double normal_at(const nb_call *call, int64_t e) {
    const nb__create_attr *a = call->attr;
    uint32_t               w[4];
    double                 u, v;
    if (call->out.dtype == NB_F32) {
        block_of(call, (uint64_t)e / 4, w);
        const uint32_t *pair = &w[e % 4 & 2];
        u = ((double)(pair[0] >> 8) + 1) * 0x1p-24;
        v = (double)(pair[1] >> 8) * 0x1p-24;
    } else {
        block_of(call, (uint64_t)e / 2, w);
        u = ((double)(bits_64(&w[0]) >> 11) + 1) * 0x1p-53;
        v = (double)(bits_64(&w[2]) >> 11) * 0x1p-53;
    }
    double angle = 2 * 3.14159265358979323846 * v;
    return a->p + a->q * sqrt(-2 * log(u)) * (e % 2 ? sin(angle) : cos(angle));
}

static void fill(const nb_call *call, double (*value)(const nb_call *call, int64_t element)) {
    int64_t index[NB_MAX_RANK] = {0}, element = 0;
    for (int i = 0; i < call->out.rank; i++)
        if (!call->out.shape[i]) return;
    do nb__store(&call->out, nb__offset(&call->out, index), value(call, element++));
    while (nb__next_index(call->out.rank, call->out.shape, index));
}

static void uniform_run(const nb_call *call) { fill(call, uniform_at); }
static void normal_run(const nb_call *call) { fill(call, normal_at); }

/* Fisher & Yates' shuffle, from the last place to the first (Durstenfeld, 1964): place i swaps with one of 0..i. 64 random bits
 * times i + 1, divided by 2^64, is such a one; its bias of i / 2^64 cannot be seen. */
static void randperm_run(const nb_call *call) {
    int64_t *out = call->out.data, stride = call->out.stride[0];
    for (int64_t i = 0; i < call->out.shape[0]; i++) out[i * stride] = i;
    for (int64_t i = call->out.shape[0] - 1; i > 0; i--) {
        uint32_t w[4];
        block_of(call, (uint64_t)i / 2, w);
        uint64_t bits = bits_64(&w[2 * (i % 2)]), n = (uint64_t)i + 1;
        /* High 64 bits of the product, n below 2^32 or not. */
        uint64_t low = (bits & UINT32_MAX) * (n & UINT32_MAX), mid = (bits >> 32) * (n & UINT32_MAX) + (low >> 32);
        uint64_t mid2 = (bits & UINT32_MAX) * (n >> 32) + (mid & UINT32_MAX);
        int64_t  j = (int64_t)((bits >> 32) * (n >> 32) + (mid >> 32) + (mid2 >> 32));
        int64_t  t = out[i * stride];
        out[i * stride] = out[j * stride];
        out[j * stride] = t;
    }
}

/* ------------------------------------------------------------------------------------------------- nodes of random numbers -- */

static bool random_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)nb, (void)in, (void)n_in;
    const nb__create_attr *a = attr;
    *out = (nb_type){(nb_dtype)a->dtype, a->shape};
    return true;
}

static nb_tensor *random_node(nb_context *nb, const nb_op *op, nb_dtype dtype, nb_dims shape, double p, double q) {
    if (!nb__check_shape(nb, op->name, dtype, shape)) return &nb->failed;
    for (int64_t i = shape.rank; i < NB_MAX_RANK; i++) shape.size[i] = 0; /* attributes are compared as bytes */
    nb__create_attr attr = {.dtype = dtype, .shape = shape, .p = p, .q = q};
    return nb_apply(nb, op, 0, NULL, &attr);
}

nb_tensor *nb_uniform(nb_context *nb, nb_dtype dtype, nb_dims shape, double low, double high) {
    if (!nb__is_float(dtype)) return nb_fail(nb, NB_INVALID, "uniform: makes f32 or f64, not %s", nb_dtype_name(dtype));
    if (!(low <= high) || isinf(low) || isinf(high))
        return nb_fail(nb, NB_INVALID, "uniform: there is no range from %g to %g", low, high);
    return random_node(nb, &nb__op_uniform, dtype, shape, low, high);
}

nb_tensor *nb_normal(nb_context *nb, nb_dtype dtype, nb_dims shape, double mean, double std) {
    if (!nb__is_float(dtype)) return nb_fail(nb, NB_INVALID, "normal: makes f32 or f64, not %s", nb_dtype_name(dtype));
    if (!(std >= 0)) return nb_fail(nb, NB_INVALID, "normal: the standard deviation is %g; it must not be negative", std);
    return random_node(nb, &nb__op_normal, dtype, shape, mean, std);
}

nb_tensor *nb_randperm(nb_context *nb, int64_t n) { return random_node(nb, &nb__op_randperm, NB_I64, nb_shape(n), 0, 0); }

static nb_tensor *uniform_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(3, 4), nb_shape(), nb_shape(0, 3), nb_shape(7)};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, shapes[i]);
    return nb_mul(x, nb_uniform(s->nb, nb_dtype_of(x), shapes[i], -1, 2));
}

static nb_tensor *normal_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(3, 4), nb_shape(), nb_shape(0, 3), nb_shape(7)};
    if (i >= 4) return NULL;
    nb_tensor *x = s->real(s, -2, 2, shapes[i]);
    return nb_mul(x, nb_normal(s->nb, nb_dtype_of(x), shapes[i], 0.5, 2));
}

static nb_tensor *randperm_sample(nb_sampler *s, int i) {
    const int64_t n[] = {5, 1, 0};
    if (i >= 3) return NULL;
    nb_tensor *x = s->real(s, -2, 2, nb_shape(n[i]));
    return nb_mul(x, nb_cast(nb_randperm(s->nb, n[i]), nb_dtype_of(x)));
}

static void random_describe(const void *attr, char *text, size_t size) {
    const nb__create_attr *a = attr;
    snprintf(text, size, "p=%g q=%g", a->p, a->q);
}

#define RANDOM(op, math, describe_)                                                                                              \
    const nb_op nb__op_##op = {.name = #op,                                                                                      \
                               .formula = math,                                                                                  \
                               .kind = NB_RANDOM,                                                                                \
                               .attr_size = sizeof(nb__create_attr),                                                             \
                               .infer = random_infer,                                                                            \
                               .run = op##_run,                                                                                  \
                               .sample = op##_sample,                                                                            \
                               .describe = describe_};
RANDOM(uniform, "y \\sim U[p, q)", random_describe)
RANDOM(normal, "y \\sim N(p, q^2)", random_describe)
RANDOM(randperm, "y = \\text{a permutation of } 0 \\ldots n - 1", NULL)

/* ------------------------------------------------------------------------------------------------------------ compositions -- */

nb_tensor *nb_bernoulli(nb_tensor *p, nb_dims shape) {
    if (!p) return NULL;
    nb_context *nb = p->nb;
    if (nb__refuse(nb, p, 0, "bernoulli")) return &nb->failed;
    nb_dims all;
    if (!nb__check_shape(nb, "bernoulli", p->dtype, shape)) return &nb->failed;
    if (!nb__broadcast(p->shape, shape, &all) || !nb__dims_equal(all, shape))
        return nb_fail(nb, NB_INVALID, "bernoulli: p %s does not broadcast to %s", nb__dims_text(p->shape).at,
                       nb__dims_text(shape).at);
    nb_group_push(nb, &nb__op_bernoulli);
    nb_tensor *y = nb_less(nb_uniform(nb, p->dtype, shape, 0, 1), p);
    nb_group_pop(nb);
    return y;
}

/* x / (1 - p) where a mask of the given shape keeps it. */
static nb_tensor *drop(nb_tensor *x, nb_tensor *p, nb_dims mask, const nb_op *op) {
    nb_context *nb = x->nb;
    if (!nb__is_float(x->dtype))
        return nb_fail(nb, NB_INVALID, "%s: takes f32 or f64, not %s; convert with nb_cast", op->name, nb_dtype_name(x->dtype));
    if (p->shape.rank && nb_count(p) != 1)
        return nb_fail(nb, NB_INVALID, "%s: p is %s; it must be a scalar", op->name, nb__dims_text(p->shape).at);
    double literal = p->is_number ? ((const nb__create_attr *)p->attr)->p : 0;
    if (!(literal >= 0 && literal < 1)) return nb_fail(nb, NB_INVALID, "%s: p is %g; it must be in [0,1)", op->name, literal);
    nb_group_push(nb, op);
    if (p->shape.rank) p = nb_reshape(p, nb_shape());
    nb_tensor *zero = nb_number(nb, 0), *one = nb_number(nb, 1);
    nb_tensor *scale = p->is_number ? nb_number(nb, 1 / (1 - literal)) : nb_div(one, nb_sub(one, p));
    nb_tensor *dropped = nb_less(nb_uniform(nb, x->dtype, mask, 0, 1), p);
    nb_tensor *y = nb_where(dropped, zero, nb_mul(x, scale));
    nb_group_pop(nb);
    return y;
}

nb_tensor *nb_dropout(nb_tensor *x, nb_tensor *p) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){x, p});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "dropout") || nb__refuse(nb, p, 1, "dropout")) return &nb->failed;
    return drop(x, p, x->shape, &nb__op_dropout);
}

nb_tensor *nb_dropout_channels(nb_tensor *x, nb_tensor *p) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){x, p});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "dropout_channels") || nb__refuse(nb, p, 1, "dropout_channels")) return &nb->failed;
    if (x->shape.rank < 2)
        return nb_fail(nb, NB_INVALID, "dropout_channels: %s has no channels; it takes [N,C,...]", nb__dims_text(x->shape).at);
    nb_dims mask = x->shape;
    for (int i = 2; i < mask.rank; i++) mask.size[i] = 1;
    return drop(x, p, mask, &nb__op_dropout_channels);
}

nb_tensor *nb_dropconnect_linear(nb_tensor *x, nb_tensor *weight, nb_tensor *bias, nb_tensor *p) {
    nb_context *nb = nb__context_of(4, (nb_tensor *[]){x, weight, bias, p});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "dropconnect_linear") || nb__refuse(nb, weight, 1, "dropconnect_linear") ||
        nb__refuse(nb, p, 3, "dropconnect_linear"))
        return &nb->failed;
    nb_group_push(nb, &nb__op_dropconnect_linear);
    nb_tensor *y = nb_linear(x, drop(weight, p, weight->shape, &nb__op_dropconnect_linear), bias);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *bernoulli_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(3, 4), nb_shape(), nb_shape(0, 3)};
    if (i >= 3) return NULL;
    nb_tensor *x = s->real(s, -2, 2, shapes[i]);
    nb_tensor *keep = nb_bernoulli(nb__scalar(x, 0.5), shapes[i]);
    return nb_where(keep, x, nb_square(x));
}

static nb_tensor *dropout_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(3, 4), nb_shape(), nb_shape(0, 3), nb_shape(9)};
    const double  p[] = {0.5, 0.2, 0.5, 0};
    return i < 4 ? nb_dropout(s->real(s, -2, 2, shapes[i]), nb_number(s->nb, p[i])) : NULL;
}

static nb_tensor *dropout_channels_sample(nb_sampler *s, int i) {
    const nb_dims shapes[] = {nb_shape(3, 4, 2, 2), nb_shape(2, 5), nb_shape(0, 3, 2)};
    return i < 3 ? nb_dropout_channels(s->real(s, -2, 2, shapes[i]), nb_number(s->nb, 0.4)) : NULL;
}

static nb_tensor *dropconnect_linear_sample(nb_sampler *s, int i) {
    if (i > 1) return NULL;
    nb_tensor *x = s->real(s, -2, 2, nb_shape(2, 3)), *w = s->real(s, -2, 2, nb_shape(4, 3));
    return nb_dropconnect_linear(x, w, i ? s->real(s, -2, 2, nb_shape(4)) : NULL, nb_number(s->nb, 0.3));
}

#define COMPOSITION(op, operands, math, gradient_)                                                                               \
    const nb_op nb__op_##op = {                                                                                                  \
        .name = #op, .formula = math, .gradient = gradient_, .kind = NB_COMPOSITION, .arity = operands, .sample = op##_sample};
COMPOSITION(bernoulli, 1, "P(y) = p", NULL)
COMPOSITION(dropout, 2, "y = m\\,x / (1 - p),\\; P(m = 0) = p", "dx = m\\,dy / (1 - p)")
COMPOSITION(dropout_channels, 2, "y_{nc} = m_{nc}\\,x_{nc} / (1 - p),\\; P(m = 0) = p", "dx_{nc} = m_{nc}\\,dy_{nc} / (1 - p)")
COMPOSITION(dropconnect_linear, -1, "y = x (m \\circ W)^T / (1 - p) + b,\\; P(m = 0) = p",
            "dx = dy\\,(m \\circ W) / (1 - p),\\quad dW = m \\circ (dy^T x) / (1 - p),\\quad db = \\sum dy")
