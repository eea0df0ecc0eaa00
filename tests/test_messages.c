/* test_messages.c: what operators say of operands that do not fit, word for word: the operator, the shapes, and what to do. */
#include "test.h"

static nb_context *nb;

static nb_tensor *made(nb_dtype dtype, nb_dims shape) { return nb_zeros(nb, dtype, shape); }
#define f(...) made(NB_F32, nb_shape(__VA_ARGS__))
#define d(...) made(NB_F64, nb_shape(__VA_ARGS__))
#define i(...) made(NB_I64, nb_shape(__VA_ARGS__))
#define b(...) made(NB_BOOL, nb_shape(__VA_ARGS__))

static void expect(nb_tensor *t, const char *message) {
    if (!nb_error(nb)) fail_msg("no error; expected \"%s\"", message);
    assert_true(nb_has_failed(t));
    assert_string_equal(nb_error(nb), message);
    nb_error_clear(nb);
}

static void wrong_elementwise(void **state) {
    (void)state;
    expect(nb_add(f(2, 3), f(4, 5)), "add: [2,3] and [4,5] do not broadcast: axis sizes 3 and 5 differ");
    expect(nb_mul(f(2, 3), f(2)), "mul: [2,3] and [2] do not broadcast: axis sizes 3 and 2 differ");
    expect(nb_sub(f(2), d(2)), "sub: f32 and f64 are different types; convert one with nb_cast");
    expect(nb_div(i(2), i(2)), "div: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_pow(f(3), f(2, 2)), "pow: [3] and [2,2] do not broadcast: axis sizes 3 and 2 differ");
    expect(nb_mod(b(2), b(2)), "mod: takes numbers, not bool; convert with nb_cast");
    expect(nb_minimum(f(2), i(2)), "minimum: f32 and i64 are different types; convert one with nb_cast");
    expect(nb_maximum(f(2, 3), f(3, 2)), "maximum: [2,3] and [3,2] do not broadcast: axis sizes 3 and 2 differ");
    expect(nb_atan2(i(2), i(2)), "atan2: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_equal(f(2), i(2)), "equal: f32 and i64 are different types; convert one with nb_cast");
    expect(nb_less(f(2), f(3)), "less: [2] and [3] do not broadcast: axis sizes 2 and 3 differ");
    expect(nb_and(f(2), b(2)), "and: takes bool, not f32; convert with nb_cast");
    expect(nb_not(f(2)), "not: takes bool, not f32; convert with nb_cast");
    expect(nb_where(f(2), f(2), f(2)), "where: the condition is f32, not bool; convert it with nb_cast");
    expect(nb_where(b(2), f(2), f(3)), "where: [2] and [3] do not broadcast: axis sizes 2 and 3 differ");
    expect(nb_exp(i(3)), "exp: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_sqrt(b(3)), "sqrt: takes f32 or f64, not bool; convert with nb_cast");
    expect(nb_abs(b(3)), "abs: takes numbers, not bool; convert with nb_cast");
    expect(nb_isnan(i(2)), "isnan: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_relu(i(2)), "relu: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_clamp(b(2), 0, 1), "clamp: takes numbers, not bool; convert with nb_cast");
    expect(nb_gelu(i(2)), "gelu: takes f32 or f64, not i64; convert with nb_cast");
    expect(nb_cast(f(2), NB_BF16), "cast: no operator takes bf16");
    expect(nb_prelu(f(2, 3), f(2)), "prelu: slope is [2]; it must be [1] or [3], the channels of [2,3]");
}

static void wrong_softmax_and_reductions(void **state) {
    (void)state;
    expect(nb_softmax(f(2, 3), 2), "softmax: there is no axis 2 in a tensor of rank 2");
    expect(nb_softmax(i(2, 3), 0), "softmax: takes f32 and f64, got i64; convert with nb_cast");
    expect(nb_log_softmax(f(2, 3), -3), "log_softmax: there is no axis -3 in a tensor of rank 2");
    expect(nb_logsumexp(f(2, 3), nb_axes(0, 0), false), "logsumexp: axis 0 is named twice");
    expect(nb_sum(f(2, 3), nb_axes(2), false), "sum: there is no axis 2 in a tensor of rank 2");
    expect(nb_sum(b(2), nb_axes(), false), "sum: takes f32, f64, i32, i64 and u8, got bool; convert with nb_cast");
    expect(nb_mean(i(2), nb_axes(), false), "mean: takes f32 and f64, got i64; convert with nb_cast");
    expect(nb_max(f(0, 3), nb_axes(0), false), "max: [0,3] has no elements along axis 0, and of none there is no max");
    expect(nb_min(f(2, 0), nb_axes(), true), "min: [0] has no elements along axis 0, and of none there is no min");
    expect(nb_prod(b(2), nb_axes(), false), "prod: takes f32, f64, i32, i64 and u8, got bool; convert with nb_cast");
    expect(nb_var(f(2), nb_axes(), false, -1), "var: the correction must not be negative, got -1");
    expect(nb_var(i(2), nb_axes(), false, 1), "var: takes f32 and f64, got i64; convert with nb_cast");
    expect(nb_std(f(2, 3), nb_axes(1, -1), false, 0), "std: axis 1 is named twice");
    expect(nb_norm(f(2), -1, nb_axes(), false), "norm: p is -1; it must be above 0, or infinity");
    expect(nb_norm(i(2), 2, nb_axes(), false), "norm: takes f32 and f64, got i64; convert with nb_cast");
    expect(nb_argmax(f(2, 0), 1, false), "argmax: [2,0] has no elements along axis 1, and of none there is no argmax");
    expect(nb_argmin(f(2), 1, false), "argmin: there is no axis 1 in a tensor of rank 1");
    expect(nb_any(f(2), nb_axes(), false), "any: takes bool, got f32; convert with nb_cast");
    expect(nb_all(i(2), nb_axes(), false), "all: takes bool, got i64; convert with nb_cast");
    expect(nb_cumsum(f(2), 1), "cumsum: there is no axis 1 in a tensor of rank 1");
    expect(nb_cumsum(b(2), 0), "cumsum: takes f32, f64, i32, i64 and u8, got bool; convert with nb_cast");
}

static void wrong_shapes(void **state) {
    (void)state;
    expect(nb_reshape(f(2, 3), nb_shape(4)), "reshape: [2,3] has 6 elements, [4] has 4");
    expect(nb_reshape(f(2, 3), nb_shape(-1, -1)), "reshape: more than one size of [-1,-1] is -1");
    expect(nb_reshape(f(2, 3), nb_shape(4, -1)), "reshape: the 6 elements of [2,3] do not divide into [4,-1]");
    expect(nb_permute(f(2, 3), nb_axes(0)), "permute: [2,3] has 2 axes, but 1 are named: name each once");
    expect(nb_permute(f(2, 3), nb_axes(0, 0)), "permute: axis 0 is named twice");
    expect(nb_transpose(f(2, 3), 0, 2), "transpose: there is no axis 2 in a tensor of rank 2");
    expect(nb_expand(f(2, 3), nb_shape(2, 4)), "expand: [2,3] does not broadcast to [2,4]");
    expect(nb_expand(f(2, 3), nb_shape(3)), "expand: [2,3] does not broadcast to [3]");
    expect(nb_squeeze(f(2, 3), nb_axes(0)), "squeeze: axis 0 of [2,3] has size 2, not 1");
    expect(nb_unsqueeze(f(2, 3), 4), "unsqueeze: the result: there is no axis 4 in a tensor of rank 3");
    expect(nb_flatten(f(2, 3), 1, 0), "flatten: the first axis, 1, comes after the last, 0");
    expect(nb_slice(f(5), 0, 0, 3, 0), "slice: the step is 0");
    expect(nb_slice(f(5), 1, 0, 3, 1), "slice: there is no axis 1 in a tensor of rank 1");
    expect(nb_flip(f(5), nb_axes(1)), "flip: there is no axis 1 in a tensor of rank 1");
    expect(nb_concat(nb_list_of(nb, f(2, 3), f(3, 3)), 1),
           "concat: operand 0 is [2,3], operand 1 is [3,3]: they may differ in axis 1 only");
    expect(nb_concat(nb_list_of(nb, f(2), d(2)), 0), "concat: operand 0 is f32, operand 1 is f64; convert one with nb_cast");
    expect(nb_concat(nb_list_of(nb, f(), f()), 0), "concat: there is no axis 0 in a tensor of rank 0");
    expect(nb_stack(nb_list_of(nb, f(2, 3), f(3, 2)), 0), "stack: operand 0 is [2,3], operand 1 is [3,2]: shapes must be equal");
    expect(nb_split(f(4), 0, 0).at[0], "split: pieces of 0; their size must be at least 1");
    expect(nb_pad(f(2, 3), nb_shape(1), nb_shape(1, 1), 0), "pad: [2,3] needs one entry an axis, before is [1] and after [1,1]");
    expect(nb_pad(f(2), nb_shape(-1), nb_shape(1), 0),
           "pad: before [-1], after [1]: entries must be at least 0; nb_slice cuts off");
    expect(nb_tril(f(3), 0), "tril: [3] is no matrix");
    expect(nb_triu(f(), 0), "triu: [] is no matrix");
}

static void wrong_computed_places(void **state) {
    (void)state;
    expect(nb_gather(f(2, 3), 1, f(2, 3)), "gather: the index is f32; it must be i32 or i64");
    expect(nb_gather(f(2, 3), 1, i(3, 3)), "gather: x is [2,3], the index [3,3]: they may differ in axis 1 only");
    expect(nb_gather(f(2, 3), 2, i(2, 3)), "gather: there is no axis 2 in a tensor of rank 2");
    expect(nb_scatter_add(f(2, 3), 1, i(2, 2), f(2, 3)),
           "scatter_add: the index is [2,2], the source [2,3]: shapes must be equal");
    expect(nb_scatter_add(f(2, 3), 1, i(2, 2), d(2, 2)),
           "scatter_add: x is f32, the source f64: they must be one type of number; convert with nb_cast");
    expect(nb_index_select(f(2, 3), 0, f(2)), "index_select: the index is f32; it must be i32 or i64");
    expect(nb_index_select(f(), 0, i(2)), "index_select: there is no axis 0 in a tensor of rank 0");
    expect(nb_one_hot(f(2), 3, NB_F32), "one_hot: the index is f32; it must be i32 or i64");
    expect(nb_one_hot(i(2), -1, NB_F32),
           "one_hot: -1 classes for an index [2]: needs at least 1 class and an index of at most 7 axes");
}

static void wrong_contractions(void **state) {
    (void)state;
    expect(nb_matmul(f(2, 3), f(4, 5)), "matmul: [2,3] x [4,5]: inner sizes 3 and 4 differ");
    expect(nb_matmul(f(), f(2, 2)), "matmul: [] x [2,2]: an operand is a scalar; nb_mul multiplies by scalars");
    expect(nb_matmul(f(2, 3), d(3, 2)), "matmul: the operands are f32 and f64; convert one with nb_cast");
    expect(nb_matmul(f(2, 2, 3), f(3, 3, 2)), "matmul: [2,2,3] x [3,3,2]: the leading sizes do not broadcast");
    expect(nb_matmul(b(2, 2), b(2, 2)), "matmul: takes numbers, not bool; convert with nb_cast");
    expect(nb_embedding(f(4), i(2)), "embedding: the weight is [4]; it must be [count,features]");
    expect(nb_embedding(i(4, 2), i(2)), "embedding: the weight is i64; it must be f32 or f64: convert with nb_cast");
    expect(nb_embedding(f(4, 2), f(2)), "embedding: takes whole numbers, i32 or i64, got f32; convert with nb_cast");
    expect(nb_attention(f(2, 3), f(4, 5), f(4, 2), NULL),
           "attention: q [2,3], k [4,5], v [4,2]: they must be [...,T,d], [...,S,d] and [...,S,e]");
    expect(nb_attention(f(2, 3), f(4, 3), f(3, 2), NULL),
           "attention: q [2,3], k [4,3], v [3,2]: they must be [...,T,d], [...,S,d] and [...,S,e]");
    expect(nb_attention(f(2, 2, 3), f(3, 4, 3), f(4, 2), NULL),
           "attention: q [2,2,3], k [3,4,3], v [4,2]: the leading sizes do not broadcast");
    expect(nb_attention(f(2, 2, 3), f(4, 3), f(3, 4, 2), NULL),
           "attention: q [2,2,3], k [4,3], v [3,4,2]: the leading sizes do not broadcast");
    expect(nb_attention(f(2, 3), f(4, 3), f(4, 2), &(nb_attention_options){.mask = i(2, 4)}),
           "attention: the mask is i64; it must be bool or, as q, f32: convert with nb_cast");
    expect(nb_attention(f(2, 3), f(4, 3), f(4, 2), &(nb_attention_options){.scale = NAN}),
           "attention: the scale is nan; it must be finite");
    expect(nb_attention(f(2, 3), f(4, 3), d(4, 2), NULL), "attention: the operands are f32 and f64; convert one with nb_cast");
    expect(nb_lstm(f(2, 3), f(8, 3), f(8, 2), NULL, NULL), "lstm: takes a batch of sequences [N,T,features], got [2,3]");
    expect(nb_lstm(f(2, 3, 4), f(8, 3), f(8, 2), NULL, NULL),
           "lstm: input [2,3,4]: the layer expects 3 features in the last axis");
    expect(nb_lstm(f(2, 3, 3), f(8, 3), f(8, 3), NULL, NULL),
           "lstm: weights [8,3] and [8,3]: they must be [4H,in] and [4H,H], biases [4H]");
    expect(nb_lstm(f(2, 3, 3), f(8, 3), f(8, 2), f(2), NULL),
           "lstm: weights [8,3] and [8,2]: they must be [4H,in] and [4H,H], biases [4H]");
    expect(nb_linear(f(2, 3), f(4, 5), NULL), "linear: input [2,3], weight [4,5]: the layer expects 5 features in the last axis");
    expect(nb_linear(f(2, 3), f(3), NULL), "linear: the weight is [3]; it must be [out,in]");
    expect(nb_linear(f(2, 3), f(4, 3), f(3)), "linear: weight [4,3], bias [3]: the bias must be [4]");
    expect(nb_conv2d(f(1, 2, 5, 5), f(3, 1, 3, 3), NULL, NULL),
           "conv2d: input [1,2,5,5] has 2 channels, weight [3,1,3,3] expects 1 x groups 1 = 1");
    expect(nb_conv2d(f(2, 5, 5), f(3, 2, 3, 3), NULL, NULL),
           "conv2d: input [2,5,5], weight [3,2,3,3]: they must be [N,C,H,W] and [O,C/groups,kH,kW]");
    expect(nb_conv2d(f(1, 2, 2, 2), f(3, 2, 3, 3), NULL, NULL),
           "conv2d: input [1,2,2,2], weight [3,2,3,3]: the window covers 3 of the height, the padded image has 2; pad more");
    expect(nb_conv2d(f(1, 2, 5, 5), f(3, 2, 3, 3), f(2), NULL), "conv2d: weight [3,2,3,3], bias [2]: the bias must be [3]");
    expect(nb_conv2d(f(1, 3, 5, 5), f(4, 1, 3, 3), NULL, &(nb_conv2d_options){.groups = 2}),
           "conv2d: input [1,3,5,5] has 3 channels, weight [4,1,3,3] expects 1 x groups 2 = 2");
    expect(nb_conv2d(f(1, 2, 5, 5), f(3, 2, 3, 3), NULL, &(nb_conv2d_options){.stride = {-1, 1}}),
           "conv2d: weight [3,2,3,3], height: stride, dilation and window must be at least 1, padding at least 0");
    expect(nb_conv2d_input_grad(f(1, 3, 3, 3), f(3, 2, 3, 3), nb_shape(1, 2, 9, 9), NULL),
           "conv2d_input_grad: input [1,2,9,9] with weight [3,2,3,3] gives [1,3,7,7], but dy is [1,3,3,3]");
    expect(nb_conv2d_weight_grad(f(1, 2, 5, 5), f(1, 3, 3, 3), nb_shape(3, 2, 4, 4), NULL),
           "conv2d_weight_grad: input [1,2,5,5] with weight [3,2,4,4] gives [1,3,2,2], but dy is [1,3,3,3]");
    expect(nb_max_pool2d(f(3, 3), NULL), "max_pool2d: takes images [N,C,H,W], got [3,3]");
    expect(nb_max_pool2d(f(1, 1, 3, 3), &(nb_pool2d_options){.size = {4, 4}}),
           "max_pool2d: input [1,1,3,3]: the window covers 4 of the height, the padded image has 3");
    expect(nb_max_pool2d(f(1, 1, 3, 3), &(nb_pool2d_options){.size = {2, 2}, .padding = {2, 2}}),
           "max_pool2d: padding 2 is more than half of the window, 2");
    expect(nb_avg_pool2d(i(1, 1, 3, 3), &(nb_pool2d_options){.size = {2, 2}}),
           "avg_pool2d: takes f32 and f64, not i64; convert with nb_cast");
    expect(nb_avg_pool2d(f(1, 1, 4, 4), &(nb_pool2d_options){.size = {2, 2}, .dilation = {2, 2}}),
           "avg_pool2d: dilation must be 1");
    expect(nb_adaptive_max_pool2d(f(3, 3), 1, 1), "max_pool2d: takes images [N,C,H,W], got [3,3]");
    expect(nb_global_avg_pool2d(f(3, 3)), "global_avg_pool2d: takes images [N,C,H,W], got [3,3]");
    expect(nb_global_max_pool2d(f(1, 1, 0, 3)), "max: [1,1,0] has no elements along axis 2, and of none there is no max");
}

static void wrong_creation_random_numbers(void **state) {
    (void)state;
    expect(nb_full(nb, NB_F16, nb_shape(2), 1), "full: no operator takes f16");
    expect(nb_arange(nb, NB_F32, 0, 1, 0), "arange: from 0 to 1 by 0 has no end");
    expect(nb_linspace(nb, NB_F32, 0, 1, -1), "linspace: a size of [-1] is negative");
    expect(nb_eye(nb, NB_F32, -1, 2), "eye: a size of [-1,2] is negative");
    expect(nb_uniform(nb, NB_I64, nb_shape(2), 0, 1), "uniform: makes f32 or f64, not i64");
    expect(nb_normal(nb, NB_F32, nb_shape(2), 0, -1), "normal: the standard deviation is -1; it must not be negative");
    expect(nb_bernoulli(f(2), nb_shape(3)), "bernoulli: p [2] does not broadcast to [3]");
    expect(nb_randperm(nb, -1), "randperm: a size of [-1] is negative");
    expect(nb_dropout(f(2), f(2)), "dropout: p is [2]; it must be a scalar");
    expect(nb_dropout_channels(f(2), nb_number(nb, 0.5)), "dropout_channels: [2] has no channels; it takes [N,C,...]");
    expect(nb_dropconnect_linear(f(2, 3), f(4, 5), NULL, nb_number(nb, 0.5)),
           "linear: input [2,3], weight [4,5]: the layer expects 5 features in the last axis");
}

static void wrong_state(void **state) {
    (void)state;
    expect(nb_assign(f(2), f(2)), "assign: the result of full is not a kept tensor (nb_param, nb_input)");
    expect(nb_assign(nb_input(nb, "w", NB_F32, nb_shape(2)), f(3)), "assign: w is f32 [2], the value f32 [3]");
    expect(nb_with_update(f(2), f(2)), "nb_with_update: the result of full is not an assign");
}

int main(void) {
    nb = nb_open(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_elementwise),  cmocka_unit_test(wrong_softmax_and_reductions),
        cmocka_unit_test(wrong_shapes),       cmocka_unit_test(wrong_computed_places),
        cmocka_unit_test(wrong_contractions), cmocka_unit_test(wrong_creation_random_numbers),
        cmocka_unit_test(wrong_state),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nb_close(nb);
    return failed;
}
