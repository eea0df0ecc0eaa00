/* custom_operator.c: two ways to an operator of your own.
 *
 * 1. A composition with a derivative of its own. Rounding has derivative 0, so nothing would be learned through it; the
 *    straight-through estimator pretends it is 1 (Bengio et al., Estimating or Propagating Gradients, 2013).
 * 2. One struct: shape rule, function on pointers and strides, derivative as a graph. Here squared distances between all rows:
 *
 *     a [n,d]   b [m,d]   ->   y [n,m]     y_ij = sum_k (a_ik - b_jk)^2
 *     da_i = 2 sum_j dy_ij (a_i - b_j)     db_j = 2 sum_i dy_ij (b_j - a_i)
 *
 * Its derivative is made of nodes, so it can be differentiated again. */
#include <nabla.h>

#include <stdio.h>

static void straight(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)y, (void)xs, (void)user;
    dx[0] = dy;
}

static bool distances_infer(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in, (void)attr;
    nb_dtype type = nb_dtype_of(in[0]);
    bool     real = (type == NB_F32 || type == NB_F64) && type == nb_dtype_of(in[1]);
    if (!real || nb_rank(in[0]) != 2 || nb_rank(in[1]) != 2 || nb_size(in[0], 1) != nb_size(in[1], 1))
        return nb_fail(nb, NB_INVALID, "distances: needs [n,d] and [m,d] of one type, f32 or f64"), false;
    *out = (nb_type){type, nb_shape(nb_size(in[0], 0), nb_size(in[1], 0))};
    return true;
}

static double get(const nb_array *a, int64_t i, int64_t k) {
    int64_t at = i * a->stride[0] + k * a->stride[1]; /* any strides: a view arrives without a copy */
    return a->dtype == NB_F64 ? ((const double *)a->data)[at] : (double)((const float *)a->data)[at];
}

static void distances_run(const nb_call *call) {
    const nb_array *a = &call->in[0], *b = &call->in[1], *y = &call->out;
    for (int64_t i = 0; i < y->shape[0]; i++)
        for (int64_t j = 0; j < y->shape[1]; j++) {
            double  sum = 0;
            int64_t at = i * y->stride[0] + j * y->stride[1];
            for (int64_t k = 0; k < a->shape[1]; k++) sum += (get(a, i, k) - get(b, j, k)) * (get(a, i, k) - get(b, j, k));
            if (y->dtype == NB_F64) ((double *)y->data)[at] = sum;
            if (y->dtype == NB_F32) ((float *)y->data)[at] = (float)sum;
        }
}

/* 2 (a sum_j dy_ij - dy b): the formula above as nodes; db is the same with the roles exchanged. */
static nb_tensor *pull(nb_tensor *a, nb_tensor *dy, nb_tensor *b) {
    return nb_mul(nb_number(nb_context_of(a), 2), nb_sub(nb_mul(a, nb_sum(dy, nb_axes(1), true)), nb_matmul(dy, b)));
}
static void distances_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    nb_tensor *a = nb_input_at(y, 0), *b = nb_input_at(y, 1);
    if (want[0]) dx[0] = pull(a, dy, b);
    if (want[1]) dx[1] = pull(b, nb_transpose(dy, 0, 1), a);
}

static const nb_op distances_op = {
    .name = "distances",
    .formula = "y_{ij} = \\sum_k (a_{ik} - b_{jk})^2",
    .gradient = "da_i = 2 \\sum_j dy_{ij} (a_i - b_j)",
    .kind = NB_OPAQUE,
    .arity = 2,
    .infer = distances_infer,
    .derivative = distances_derivative,
    .run = distances_run,
};

static nb_tensor *distances(nb_context *nb, nb_list in, void *user) {
    (void)user;
    return nb_apply(nb, &distances_op, in.n, in.at, NULL);
}

int main(void) {
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die, .seed = 1});

    nb_tensor *x = nb_from(nb, NB_F32, nb_shape(3), (float[]){0.2f, 1.7f, -0.6f});
    nb_list    xs = nb_list_of(nb, x);
    nb_tensor *y = nb_square(nb_with_derivative(nb_round(x), xs, straight, NULL));
    /* The derivative of round(x)^2, taken as 2 round(x). */
    const float *g = nb_data(nb_grads(nb_sum(y, nb_axes(), false), NULL, xs).at[0]);
    printf("straight through: %g %g %g\n", (double)g[0], (double)g[1], (double)g[2]);

    nb_list inputs = nb_list_of(nb, nb_normal(nb, NB_F64, nb_shape(3, 4), 0, 1), nb_normal(nb, NB_F64, nb_shape(2, 4), 0, 1));
    nb_gradcheck_result first = nb_gradcheck(nb, distances, NULL, inputs, 1),
                        second = nb_gradcheck(nb, distances, NULL, inputs, 2);
    printf("first derivatives: %s; %s\n", first.passed ? "right" : "WRONG", first.detail);
    printf("second derivatives: %s; %s\n", second.passed ? "right" : "WRONG", second.detail);
    bool right = first.passed && second.passed && g[0] == 0 && g[1] == 4 && g[2] == -2;
    printf("custom_operator: %s\n", right ? "both ways work" : "WRONG");
    nb_close(nb);
    return right ? 0 : 1;
}
