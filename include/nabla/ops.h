/* nabla/ops.h: the operators. Included by nabla.h.
 *
 * Operands broadcast as in NumPy: shapes are aligned at the last axis, and an axis of size 1 (or a missing one) is repeated. All
 * operands of one operator have one type; only nb_number adapts. Types: F = f32 f64, N = F i32 i64 u8, A = N bool. Axes may be
 * negative, counted from the end. Derivatives at kinks and ties are PyTorch's unless stated.
 *
 * Arithmetic of whole numbers wraps around (two's complement), in sums and products of many too; nb_cast alone saturates. A NULL
 * operand beside a real one is an error of the context, as any other; all NULL gives NULL, for there is no context to fail in. */
#ifndef NABLA_OPS_H
#define NABLA_OPS_H
#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------------------- elementwise, two operands -- */

NB_API nb_tensor *nb_add(nb_tensor *a, nb_tensor *b);     /* a + b                                           N */
NB_API nb_tensor *nb_sub(nb_tensor *a, nb_tensor *b);     /* a - b                                           N */
NB_API nb_tensor *nb_mul(nb_tensor *a, nb_tensor *b);     /* a b                                             N */
NB_API nb_tensor *nb_div(nb_tensor *a, nb_tensor *b);     /* a / b                                           F */
NB_API nb_tensor *nb_pow(nb_tensor *a, nb_tensor *b);     /* a^b; NaN for a < 0 and b not whole              F */
NB_API nb_tensor *nb_mod(nb_tensor *a, nb_tensor *b);     /* a - b floor(a/b): the sign of b; whole numbers: 0 for b = 0   N */
NB_API nb_tensor *nb_minimum(nb_tensor *a, nb_tensor *b); /* the smaller; NaN if one is NaN; tie: half of dy to each       N */
NB_API nb_tensor *nb_maximum(nb_tensor *a, nb_tensor *b); /* the larger; likewise                            N */
NB_API nb_tensor *nb_atan2(nb_tensor *a, nb_tensor *b);   /* angle of the point (b, a)                       F */

NB_API nb_tensor *nb_equal(nb_tensor *a, nb_tensor *b);         /* a = b  -> bool     A */
NB_API nb_tensor *nb_not_equal(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_less(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_less_equal(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_greater(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_greater_equal(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_and(nb_tensor *a, nb_tensor *b); /* of bool */
NB_API nb_tensor *nb_or(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_xor(nb_tensor *a, nb_tensor *b);
NB_API nb_tensor *nb_not(nb_tensor *x);

NB_API nb_tensor *nb_where(nb_tensor *condition, nb_tensor *a, nb_tensor *b); /* a where condition (bool) holds, else b   A */

/* ------------------------------------------------------------------------------------------------ elementwise, one operand -- */

NB_API nb_tensor *nb_abs(nb_tensor *x);        /* |x|; derivative 0 at 0                 N */
NB_API nb_tensor *nb_neg(nb_tensor *x);        /* -x                                     N */
NB_API nb_tensor *nb_sign(nb_tensor *x);       /* -1, 0 or 1                             N */
NB_API nb_tensor *nb_square(nb_tensor *x);     /* x^2                                    N */
NB_API nb_tensor *nb_sqrt(nb_tensor *x);       /* all below: F */
NB_API nb_tensor *nb_rsqrt(nb_tensor *x);      /* 1 / sqrt(x) */
NB_API nb_tensor *nb_reciprocal(nb_tensor *x); /* 1 / x */
NB_API nb_tensor *nb_exp(nb_tensor *x);
NB_API nb_tensor *nb_exp2(nb_tensor *x);       /* 2^x */
NB_API nb_tensor *nb_expm1(nb_tensor *x);      /* e^x - 1, exact near 0 */
NB_API nb_tensor *nb_log(nb_tensor *x);
NB_API nb_tensor *nb_log2(nb_tensor *x);
NB_API nb_tensor *nb_log1p(nb_tensor *x);      /* log(1 + x), exact near 0 */
NB_API nb_tensor *nb_sin(nb_tensor *x);
NB_API nb_tensor *nb_cos(nb_tensor *x);
NB_API nb_tensor *nb_tan(nb_tensor *x);
NB_API nb_tensor *nb_asin(nb_tensor *x);
NB_API nb_tensor *nb_acos(nb_tensor *x);
NB_API nb_tensor *nb_atan(nb_tensor *x);
NB_API nb_tensor *nb_sinh(nb_tensor *x);
NB_API nb_tensor *nb_cosh(nb_tensor *x);
NB_API nb_tensor *nb_tanh(nb_tensor *x);
NB_API nb_tensor *nb_sigmoid(nb_tensor *x);    /* 1 / (1 + e^-x) */
NB_API nb_tensor *nb_erf(nb_tensor *x);        /* 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x */
NB_API nb_tensor *nb_floor(nb_tensor *x);      /* derivative of the four: 0 */
NB_API nb_tensor *nb_ceil(nb_tensor *x);
NB_API nb_tensor *nb_round(nb_tensor *x);      /* half to even */
NB_API nb_tensor *nb_trunc(nb_tensor *x);
NB_API nb_tensor *nb_isnan(nb_tensor *x);      /* -> bool */
NB_API nb_tensor *nb_isinf(nb_tensor *x);
NB_API nb_tensor *nb_isfinite(nb_tensor *x);
NB_API nb_tensor *nb_clamp(nb_tensor *x, double low, double high); /* into [low, high]; derivative 0 at both ends     N */
NB_API nb_tensor *nb_cast(nb_tensor *x, nb_dtype dtype); /* to whole numbers: towards zero, saturating, NaN to 0; to bool: x !=
                                                            0   A */

/* --------------------------------------------------------------------------------------------------------- activations (F) -- */

NB_API nb_tensor *nb_relu(nb_tensor *x);                          /* max(0, x); derivative 0 at 0 */
NB_API nb_tensor *nb_leaky_relu(nb_tensor *x, double slope);      /* x > 0 ? x : slope x */
NB_API nb_tensor *nb_prelu(nb_tensor *x, nb_tensor *slope);       /* the same, slope learned: [1], or [C] along axis 1 of x */
NB_API nb_tensor *nb_elu(nb_tensor *x, double alpha);             /* x > 0 ? x : alpha (e^x - 1)   Clevert et al., 2015 */
NB_API nb_tensor *nb_selu(nb_tensor *x);                          /* scaled ELU                   Klambauer et al., 2017 */
NB_API nb_tensor *nb_gelu(nb_tensor *x); /* x Phi(x) = x/2 (1 + erf(x/sqrt 2))   Hendrycks & Gimpel, 2016 */
NB_API nb_tensor *nb_gelu_tanh(nb_tensor *x);                     /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
NB_API nb_tensor *nb_gelu_tanh_grad(nb_tensor *x, nb_tensor *dy); /* its derivative at x times dy */
NB_API nb_tensor *nb_silu(nb_tensor *x);                          /* x sigmoid(x) */
NB_API nb_tensor *nb_softplus(nb_tensor *x);                      /* log(1 + e^x) */
NB_API nb_tensor *nb_softsign(nb_tensor *x);                      /* x / (1 + |x|) */
NB_API nb_tensor *nb_hardtanh(nb_tensor *x);                      /* into [-1, 1]; derivative 0 at both ends */
NB_API nb_tensor *nb_hardsigmoid(nb_tensor *x);                   /* (x + 3)/6 into [0, 1] */
NB_API nb_tensor *nb_hardswish(nb_tensor *x);                     /* x hardsigmoid(x)             Howard et al., 2019 */
NB_API nb_tensor *nb_mish(nb_tensor *x);                          /* x tanh(softplus(x))          Misra, 2019 */
NB_API nb_tensor *nb_softmax(nb_tensor *x, int axis);             /* e^x / sum e^x along an axis, without overflow */
NB_API nb_tensor *nb_log_softmax(nb_tensor *x, int axis);         /* log of it, without underflow */
NB_API nb_tensor *nb_logsumexp(nb_tensor *x, nb_dims axes, bool keepdim); /* log sum e^x */

/* ------------------------------------------------------------------- reductions: nb_axes() means all axes; keepdim: size 1 -- */

NB_API nb_tensor *nb_sum(nb_tensor *x, nb_dims axes, bool keepdim);   /* N; of no elements: 0 */
NB_API nb_tensor *nb_mean(nb_tensor *x, nb_dims axes, bool keepdim);  /* F; of no elements: NaN */
NB_API nb_tensor *nb_max(nb_tensor *x, nb_dims axes, bool keepdim);   /* N; NaN if one is NaN; of no elements: an error; tie:
                                                                         dy to the first */
NB_API nb_tensor *nb_min(nb_tensor *x, nb_dims axes, bool keepdim);
NB_API nb_tensor *nb_prod(nb_tensor *x, nb_dims axes, bool keepdim);  /* N; derivative right where factors are 0, twice too.
                                                                      * A product of many in parts: if one part overflows f64 and
                                                                      * another is 0 by underflow, NaN */
NB_API nb_tensor *nb_var(nb_tensor *x, nb_dims axes, bool keepdim, int correction); /* sum (x - mean)^2 / (n - correction)  F */
NB_API nb_tensor *nb_std(nb_tensor *x, nb_dims axes, bool keepdim, int correction); /* its square root */
NB_API nb_tensor *nb_norm(nb_tensor *x, double p, nb_dims axes, bool keepdim);      /* (sum |x|^p)^(1/p), p > 0 or infinity;
                                                                                       derivative 0 at 0; tie: as max  F */
NB_API nb_tensor *nb_argmax(nb_tensor *x, int axis, bool keepdim);    /* -> i64, the first on ties; NaN counts as largest */
NB_API nb_tensor *nb_argmin(nb_tensor *x, int axis, bool keepdim);    /* -> i64, the first on ties; NaN counts as smallest */
NB_API nb_tensor *nb_any(nb_tensor *x, nb_dims axes, bool keepdim);   /* bool -> bool */
NB_API nb_tensor *nb_all(nb_tensor *x, nb_dims axes, bool keepdim);
NB_API nb_tensor *nb_cumsum(nb_tensor *x, int axis);                  /* y_i = x_0 + ... + x_i  N */

/* ----------------------------------------------------------------------------------------- shape: all types, no arithmetic -- */

NB_API nb_tensor *nb_reshape(nb_tensor *x, nb_dims shape);            /* one size may be -1: what is left */
NB_API nb_tensor *nb_permute(nb_tensor *x, nb_dims axes);             /* y's axis i is x's axis axes[i] */
NB_API nb_tensor *nb_transpose(nb_tensor *x, int axis0, int axis1);
NB_API nb_tensor *nb_expand(nb_tensor *x, nb_dims shape);             /* broadcast to a shape */
NB_API nb_tensor *nb_squeeze(nb_tensor *x, nb_dims axes);             /* drops axes of size 1; nb_axes(): all of them */
NB_API nb_tensor *nb_unsqueeze(nb_tensor *x, int axis);               /* a new axis of size 1 before `axis` of the result */
NB_API nb_tensor *nb_flatten(nb_tensor *x, int first, int last);      /* axes first..last as one */
/* x[start:stop:step] along one axis, as in Python: negative numbers from the end, clamped; NB_END as stop: to the end, in the
 * direction of step. */
#define NB_END INT64_MAX
NB_API nb_tensor *nb_slice(nb_tensor *x, int axis, int64_t start, int64_t stop, int64_t step);
NB_API nb_tensor *nb_flip(nb_tensor *x, nb_dims axes);
NB_API nb_tensor *nb_concat(nb_list xs, int axis);
NB_API nb_tensor *nb_stack(nb_list xs, int axis);                     /* along a new axis */
NB_API nb_list    nb_split(nb_tensor *x, int axis, int64_t size);     /* pieces of `size`, the last may be smaller */
NB_API nb_tensor *nb_pad(nb_tensor *x, nb_dims before, nb_dims after, double value); /* one entry an axis, >= 0 */
NB_API nb_tensor *nb_tril(nb_tensor *x, int64_t diagonal);            /* zeros above the diagonal of the last two axes */
NB_API nb_tensor *nb_triu(nb_tensor *x, int64_t diagonal);            /* zeros below */

/* ----------------------------------------- by computed places: indices i32 or i64; out of range fails the run and names it -- */

NB_API nb_tensor *nb_gather(nb_tensor *x, int axis, nb_tensor *index);      /* y[..i..] = x[..index[..i..]..]; shapes equal but
                                                                               along axis */
/* x, plus source at the places; the adjoint of gather */
NB_API nb_tensor *nb_scatter_add(nb_tensor *x, int axis, nb_tensor *index, nb_tensor *source);
NB_API nb_tensor *nb_index_select(nb_tensor *x, int axis, nb_tensor *index); /* rows (axis 0): index [any shape] replaces the
                                                                                axis; an embedding look-up */
NB_API nb_tensor *nb_one_hot(nb_tensor *index, int64_t classes, nb_dtype dtype); /* [..., classes]: 1 at the index, else 0 */
NB_API nb_tensor *nb_embedding(nb_tensor *weight, nb_tensor *index); /* rows of weight [V,D]: index [...] -> [...,D]   F */

/* ------------------------------------------------------------------------------------------------------------ contractions -- */

/* Matrix product.
 *
 *     A [..., m, k]   B [..., k, n]   ->   C [..., m, n]     C = A B
 *     dA = dC B^T     dB = A^T dC
 *
 * Leading axes are batches and broadcast. A vector [k] as A is a row, as B a column, and that axis is dropped from C.    N */
NB_API nb_tensor *nb_matmul(nb_tensor *a, nb_tensor *b);

/* y = x W^T + b:  x [..., in]   weight [out, in]   bias [out] or NULL   ->   [..., out].    F */
NB_API nb_tensor *nb_linear(nb_tensor *x, nb_tensor *weight, nb_tensor *bias);

/* Scaled dot products: each row of q looks at all rows of k, and takes of v what it finds.   Vaswani et al., 2017
 *
 *     q [..., T, d]   k [..., S, d]   v [..., S, e]   ->   [..., T, e]     y = softmax(scale q k^T + mask) v
 *
 * Leading axes broadcast as in nb_matmul. A row that may see nothing is NaN. What causal rows may not see is not computed where
 * that is whole parts of a product: NaN or infinities there need not come through as 0 times them.    F */
typedef struct nb_attention_options {
    bool       causal; /* row i sees rows 0..i of k only */
    double     scale;  /* 0: 1/sqrt(d) */
    nb_tensor *mask;   /* broadcast to [..., T, S]: bool, true where it may look, or F, added to the scores; NULL: none */
} nb_attention_options;
NB_API nb_tensor *nb_attention(nb_tensor *q, nb_tensor *k, nb_tensor *v, const nb_attention_options *options);

/* Long short-term memory over all steps, from a state of zeros; gates in the order i, f, g, o.   Hochreiter & Schmidhuber, 1997
 *
 *     x [N,T,in]   weight_ih [4H,in]   weight_hh [4H,H]   biases [4H] or NULL   ->   h [N,T,H]
 *     (i,f,g,o) = x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh
 *     c_t = sigmoid(f) c_(t-1) + sigmoid(i) tanh(g)     h_t = sigmoid(o) tanh(c_t)    F */
NB_API nb_tensor *nb_lstm(nb_tensor *x, nb_tensor *weight_ih, nb_tensor *weight_hh, nb_tensor *bias_ih, nb_tensor *bias_hh);

/* How a window moves over an image; entries are {height, width}. Zeros mean: stride 1, padding 0, dilation 1, groups 1. */
typedef struct nb_conv2d_options {
    int64_t stride[2], padding[2], dilation[2], groups;
    bool    same; /* instead of padding: zeros so that out = ceil(in / stride), the odd one at the end */
} nb_conv2d_options;

/* Cross-correlation, as every framework's convolution.
 *
 *     x [N, C, H, W]   weight [O, C/groups, kH, kW]   bias [O] or NULL   ->   [N, O, H', W']
 *     y[n,o,i,j] = bias[o] + sum_{c,u,v} x[n, c, i sH + u dH - pH, j sW + v dW - pW] weight[o,c,u,v]
 *     H' = floor((H + 2 pH - dH (kH - 1) - 1) / sH) + 1
 *
 * NULL options are all defaults. Numbers that are not finite may spread as NaN, where a sum would be infinite or would not meet
 * them: of weights over the channels that they make, of pixels to their neighbours. 3x3 windows are computed from sums of pixels
 * and of weights (Winograd): those must not overflow.    F */
NB_API nb_tensor *nb_conv2d(nb_tensor *x, nb_tensor *weight, nb_tensor *bias, const nb_conv2d_options *options);
/* Its two adjoints, operators themselves: dL/dx from dL/dy (also known as transposed convolution), dL/dweight from x and
 * dL/dy. */
NB_API nb_tensor *nb_conv2d_input_grad(nb_tensor *dy, nb_tensor *weight, nb_dims input_shape, const nb_conv2d_options *options);
NB_API nb_tensor *nb_conv2d_weight_grad(nb_tensor *x, nb_tensor *dy, nb_dims weight_shape, const nb_conv2d_options *options);

/* A pool's window. Zeros mean: stride = size, padding 0, dilation 1. Padding is at most half the size. */
typedef struct nb_pool2d_options {
    int64_t size[2], stride[2], padding[2], dilation[2];
    bool    ceil_mode;         /* round the output size up; windows that start in the padding on the right are dropped */
    bool    exclude_padding;   /* average: divide by the elements inside the image only */
} nb_pool2d_options;

NB_API nb_tensor *nb_max_pool2d(nb_tensor *x, const nb_pool2d_options *options); /* [N,C,H,W] -> [N,C,H',W']; tie: the
                                                                                    first   F */
NB_API nb_tensor *nb_avg_pool2d(nb_tensor *x, const nb_pool2d_options *options); /* dilation must be 1   F */
NB_API nb_tensor *nb_adaptive_avg_pool2d(nb_tensor *x, int64_t height, int64_t width); /* windows [floor(iH/h), ceil((i+1)H/h)) */
NB_API nb_tensor *nb_adaptive_max_pool2d(nb_tensor *x, int64_t height, int64_t width);
NB_API nb_tensor *nb_global_avg_pool2d(nb_tensor *x); /* [N,C,H,W] -> [N,C,1,1] */
NB_API nb_tensor *nb_global_max_pool2d(nb_tensor *x);

/* ---------------------------------------------------------------------------------------------------------------- creation -- */

NB_API nb_tensor *nb_zeros(nb_context *nb, nb_dtype dtype, nb_dims shape);
NB_API nb_tensor *nb_ones(nb_context *nb, nb_dtype dtype, nb_dims shape);
NB_API nb_tensor *nb_full(nb_context *nb, nb_dtype dtype, nb_dims shape, double value);
NB_API nb_tensor *nb_zeros_like(nb_tensor *x);
NB_API nb_tensor *nb_ones_like(nb_tensor *x);
/* start, start + step, ... before stop */
NB_API nb_tensor *nb_arange(nb_context *nb, nb_dtype dtype, double start, double stop, double step);
NB_API nb_tensor *nb_linspace(nb_context *nb, nb_dtype dtype, double first, double last, int64_t count); /* both ends included */
NB_API nb_tensor *nb_eye(nb_context *nb, nb_dtype dtype, int64_t rows, int64_t columns);
NB_API nb_tensor *nb_uniform(nb_context *nb, nb_dtype dtype, nb_dims shape, double low, double high); /* in [low, high) */
NB_API nb_tensor *nb_normal(nb_context *nb, nb_dtype dtype, nb_dims shape, double mean, double std);  /* Box & Muller, 1958 */
NB_API nb_tensor *nb_bernoulli(nb_tensor *p, nb_dims shape); /* bool, true with probability p (F, broadcast to shape) */
NB_API nb_tensor *nb_randperm(nb_context *nb, int64_t n);                    /* i64 [n]: 0..n-1 in random order */

/* Zero with probability p (a scalar in [0,1): nb_number, an input or a param), else x / (1 - p).   Srivastava et al., 2014   F */
NB_API nb_tensor *nb_dropout(nb_tensor *x, nb_tensor *p);
/* Whole channels at once: x [N,C,...].   Tompson et al., 2015 */
NB_API nb_tensor *nb_dropout_channels(nb_tensor *x, nb_tensor *p);
/* Linear layer, weights dropped by one mask a call.   Wan et al., Regularization of Neural Networks using DropConnect, 2013 */
NB_API nb_tensor *nb_dropconnect_linear(nb_tensor *x, nb_tensor *weight, nb_tensor *bias, nb_tensor *p);

#ifdef __cplusplus
}
#endif
#endif
