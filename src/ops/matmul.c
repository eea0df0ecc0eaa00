/* matmul.c: matrix products.
 *
 * The primitive takes A [...,m,k] and B [...,k,n] with equal leading sizes. Vectors and broadcast batches are views around it:
 * their own derivatives do the summing, so the primitive's is two plain products. */
#include "contraction.h"

double nb__dot(const nb_array *a, int64_t at_a, int64_t step_a, const nb_array *b, int64_t at_b, int64_t step_b, int64_t n) {
    double sum = 0;
    if (a->dtype == NB_F32 && b->dtype == NB_F32) {
        const float *p = a->data, *q = b->data;
        for (int64_t i = 0; i < n; i++) sum += (double)p[at_a + i * step_a] * (double)q[at_b + i * step_b];
    } else if (a->dtype == NB_F64 && b->dtype == NB_F64) {
        const double *p = a->data, *q = b->data;
        for (int64_t i = 0; i < n; i++) sum += p[at_a + i * step_a] * q[at_b + i * step_b];
    } else {
        for (int64_t i = 0; i < n; i++) sum += nb__load(a, at_a + i * step_a) * nb__load(b, at_b + i * step_b);
    }
    return sum;
}

bool nb__check_product(nb_context *nb, const char *user, const nb_tensor *a, const nb_tensor *b, bool integers) {
    nb_dtype p = a->dtype, q = b->dtype;
    if (p != q) {
        nb_fail(nb, NB_INVALID, "%s: the operands are %s and %s; convert one with nb_cast", user, nb_dtype_name(p),
                nb_dtype_name(q));
        return false;
    }
    if (nb__is_float(p) || (integers && nb__is_integer(p))) return true;
    nb_fail(nb, NB_INVALID, "%s: takes %s, not %s; convert with nb_cast", user, integers ? "numbers" : "f32 and f64",
            nb_dtype_name(p));
    return false;
}

/* --------------------------------------------------------------------------------------------------------------------- matmul */

/* Types and inner sizes of A [...,m,k] and B [...,k,n], either of which may still be a vector. */
static bool check(nb_context *nb, const nb_tensor *a, const nb_tensor *b) {
    nb_dims p = a->shape, q = b->shape;
    if (p.rank == 0 || q.rank == 0) {
        nb_fail(nb, NB_INVALID, "matmul: %s x %s: an operand is a scalar; nb_mul multiplies by scalars", nb__dims_text(p).at,
                nb__dims_text(q).at);
        return false;
    }
    int64_t k = p.size[p.rank - 1], l = q.size[q.rank == 1 ? 0 : q.rank - 2];
    if (k != l) {
        nb_fail(nb, NB_INVALID, "matmul: %s x %s: inner sizes %lld and %lld differ", nb__dims_text(p).at, nb__dims_text(q).at,
                (long long)k, (long long)l);
        return false;
    }
    return nb__check_product(nb, "matmul", a, b, true);
}

static nb_dims leading(nb_dims d) {
    d.rank -= 2;
    return d;
}

static nb_dims with_matrix(nb_dims batch, int64_t rows, int64_t columns) {
    batch.size[batch.rank] = rows;
    batch.size[batch.rank + 1] = columns;
    batch.rank += 2;
    return batch;
}

static bool matmul_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    (void)attr;
    if (!check(nb, in[0], in[1])) return false;
    nb_dims a = in[0]->shape, b = in[1]->shape;
    if (a.rank < 2 || b.rank < 2 || !nb__dims_equal(leading(a), leading(b))) {
        nb_fail(nb, NB_INVALID,
                "matmul: %s x %s: the operator itself takes matrices with equal leading sizes; nb_matmul broadcasts",
                nb__dims_text(a).at, nb__dims_text(b).at);
        return false;
    }
    *out = (nb_type){in[0]->dtype, with_matrix(leading(a), a.size[a.rank - 2], b.size[b.rank - 1])};
    return true;
}

/* dA = dC B^T, dB = A^T dC */
static void matmul_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_tensor *a = y->in[0], *b = y->in[1];
    if (want[0]) dx[0] = nb_matmul(dy, nb_transpose(b, -2, -1));
    if (want[1]) dx[1] = nb_matmul(nb_transpose(a, -2, -1), dy);
}

/* C[i,j] = sum_k A[i,k] B[k,j] */
static void matmul_run(const nb_call *call) {
    const nb_array *a = &call->in[0], *b = &call->in[1], *c = &call->out;
    int             r = c->rank;
    int64_t         index[NB_MAX_RANK] = {0}, k = a->shape[r - 1];
    int64_t         step_a = a->stride[r - 1], step_b = b->stride[r - 2];
    bool            whole = !(a->dtype == NB_F32 || a->dtype == NB_F64);
    for (int d = 0; d < r; d++)
        if (c->shape[d] == 0) return;
    do {
        int64_t row = index[r - 2], column = index[r - 1], at_a, at_b, at_c = nb__offset(c, index);
        index[r - 1] = 0;
        at_a = nb__offset(a, index);
        index[r - 2] = 0;
        index[r - 1] = column;
        at_b = nb__offset(b, index);
        index[r - 2] = row;
        if (whole) {
            uint64_t sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += (uint64_t)nb__load_int(a, at_a + i * step_a) * (uint64_t)nb__load_int(b, at_b + i * step_b);
            nb__store_wrapped(c, at_c, (int64_t)sum);
        } else {
            nb__store(c, at_c, nb__dot(a, at_a, step_a, b, at_b, step_b, k));
        }
    } while (nb__next_index(r, c->shape, index));
}

static double matmul_flops(const nb_tensor *y) { return 2.0 * (double)nb_count(y) * (double)nb_size(y->in[0], -1); }

static nb_tensor *matmul_sample(nb_sampler *s, int i) {
    static const struct {
        nb_dims a, b;
    } shape[] = {
        {{2, {3, 4}}, {2, {4, 5}}},    {{2, {1, 7}}, {2, {7, 1}}},
        {{2, {9, 8}}, {2, {8, 17}}},   {{3, {2, 3, 4}}, {3, {2, 4, 2}}},
        {{3, {2, 3, 4}}, {2, {4, 2}}}, {{4, {2, 1, 2, 3}}, {4, {1, 3, 3, 2}}},
        {{2, {2, 3}}, {3, {2, 3, 2}}}, {{1, {4}}, {2, {4, 3}}},
        {{2, {3, 4}}, {1, {4}}},       {{1, {5}}, {1, {5}}},
        {{1, {3}}, {3, {2, 3, 2}}},    {{2, {0, 3}}, {2, {3, 2}}},
        {{2, {2, 0}}, {2, {0, 3}}},    {{3, {0, 2, 3}}, {2, {3, 2}}},
    };
    int n = (int)(sizeof shape / sizeof *shape);
    if (i < n) return nb_matmul(s->real(s, -2, 2, shape[i].a), s->real(s, -2, 2, shape[i].b));
    if (i == n) return nb_matmul(nb_transpose(s->real(s, -2, 2, nb_shape(4, 3)), 0, 1), s->real(s, -2, 2, nb_shape(4, 2)));
    if (i == n + 1) return nb_matmul(s->real(s, -2, 2, nb_shape(3, 4)), nb_transpose(s->real(s, -2, 2, nb_shape(2, 4)), 0, 1));
    if (i == n + 2) return nb_matmul(nb_flip(s->real(s, -2, 2, nb_shape(3, 4)), nb_axes(1)), s->real(s, -2, 2, nb_shape(4, 2)));
    if (i == n + 3) {
        nb_tensor *a = s->real(s, -2, 2, nb_shape(3, 3));
        return nb_matmul(a, a);
    }
    return NULL;
}

const nb_op nb__op_matmul = {
    .name = "matmul",
    .formula = "C_{ij} = \\sum_k A_{ik} B_{kj}",
    .gradient = "dA = dC\\,B^{T},\\quad dB = A^{T}\\,dC",
    .kind = NB_CONTRACTION,
    .arity = 2,
    .infer = matmul_infer,
    .derivative = matmul_derivative,
    .run = matmul_run,
    .flops = matmul_flops,
    .sample = matmul_sample,
};

static nb_tensor *product(nb_tensor *a, nb_tensor *b) { return nb_apply(a->nb, &nb__op_matmul, 2, (nb_tensor *[]){a, b}, NULL); }

/* A [...,m,k] with one matrix B [k,n]: the leading axes are more rows, so it is one product. */
static nb_tensor *fold(nb_tensor *a, nb_tensor *b) {
    nb_dims rows = a->shape, out = a->shape;
    int64_t n = 1, k = rows.size[rows.rank - 1];
    for (int i = 0; i + 1 < rows.rank; i++) n *= rows.size[i];
    out.size[out.rank - 1] = b->shape.size[1];
    return nb_reshape(product(nb_reshape(a, nb_shape(n, k)), b), out);
}

nb_tensor *nb_matmul(nb_tensor *a, nb_tensor *b) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){a, b});
    if (!nb) return NULL;
    if (nb__refuse(nb, a, 0, "matmul") || nb__refuse(nb, b, 1, "matmul") || !check(nb, a, b)) return nb_failed(nb);
    bool row = a->shape.rank == 1, column = b->shape.rank == 1;
    if (row || column) {
        nb_tensor *c = nb_matmul(row ? nb_unsqueeze(a, 0) : a, column ? nb_unsqueeze(b, 1) : b);
        if (column) c = nb_squeeze(c, nb_axes(-1));
        return row ? nb_squeeze(c, column ? nb_axes(-1) : nb_axes(-2)) : c;
    }
    nb_dims p = a->shape, q = b->shape, batch;
    if (q.rank == 2 && p.rank > 2) return fold(a, b);
    if (!nb__broadcast(leading(p), leading(q), &batch))
        return nb_fail(nb, NB_INVALID, "matmul: %s x %s: the leading sizes do not broadcast", nb__dims_text(p).at,
                       nb__dims_text(q).at);
    nb_dims wide_a = with_matrix(batch, p.size[p.rank - 2], p.size[p.rank - 1]);
    nb_dims wide_b = with_matrix(batch, q.size[q.rank - 2], q.size[q.rank - 1]);
    if (!nb__dims_equal(p, wide_a)) a = nb_expand(a, wide_a);
    if (!nb__dims_equal(q, wide_b)) b = nb_expand(b, wide_b);
    return product(a, b);
}

/* --------------------------------------------------------------------------------------------------------------------- linear */

nb_tensor *nb_linear(nb_tensor *x, nb_tensor *weight, nb_tensor *bias) {
    nb_context *nb = nb__context_of(3, (nb_tensor *[]){x, weight, bias});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "linear") || nb__refuse(nb, weight, 1, "linear") || (bias && nb__refuse(nb, bias, 2, "linear")))
        return nb_failed(nb);
    nb_dims s = x->shape, w = weight->shape;
    if (w.rank != 2) return nb_fail(nb, NB_INVALID, "linear: the weight is %s; it must be [out,in]", nb__dims_text(w).at);
    if (s.rank == 0 || s.size[s.rank - 1] != w.size[1])
        return nb_fail(nb, NB_INVALID, "linear: input %s, weight %s: the layer expects %lld features in the last axis",
                       nb__dims_text(s).at, nb__dims_text(w).at, (long long)w.size[1]);
    if (bias && (bias->shape.rank != 1 || bias->shape.size[0] != w.size[0]))
        return nb_fail(nb, NB_INVALID, "linear: weight %s, bias %s: the bias must be [%lld]", nb__dims_text(w).at,
                       nb__dims_text(bias->shape).at, (long long)w.size[0]);
    if (!nb__check_product(nb, "linear", x, weight, false)) return nb_failed(nb);
    nb_group_push(nb, &nb__op_linear);
    nb_tensor *y = nb_matmul(x, nb_transpose(weight, 0, 1));
    if (bias) y = nb_add(y, bias);
    nb_group_pop(nb);
    return y;
}

static nb_tensor *linear_sample(nb_sampler *s, int i) {
    nb_dims x[] = {nb_shape(3, 4), nb_shape(2, 3, 4), nb_shape(4), nb_shape(0, 4), nb_shape(2, 1, 2, 4)};
    if (i >= 2 * (int)(sizeof x / sizeof *x)) return NULL;
    nb_tensor *input = s->real(s, -2, 2, x[i / 2]), *weight = s->real(s, -1, 1, nb_shape(5, 4));
    return nb_linear(input, weight, i % 2 ? s->real(s, -1, 1, nb_shape(5)) : NULL);
}

const nb_op nb__op_linear = {
    .name = "linear",
    .formula = "y = x W^{T} + b",
    .gradient = "dx = dy\\,W,\\quad dW = dy^{T} x,\\quad db = \\sum dy",
    .kind = NB_COMPOSITION,
    .arity = -1,
    .sample = linear_sample,
};
