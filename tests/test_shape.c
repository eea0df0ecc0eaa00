/* test_shape.c: views of arrays in all memory layouts, Python's slices, and what is put together from parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arrays.h"
#include "ops.h"

/* Where an element of the result comes from: fills the operand's index. */
typedef void source_of(const nb_array *in, const void *attr, const nb_array *out, const int64_t *at, int64_t *from);

static void reshape_source(const nb_array *in, const void *attr, const nb_array *out, const int64_t *at, int64_t *from) {
    int64_t number = 0;
    (void)attr;
    for (int i = 0; i < out->rank; i++) number = number * out->shape[i] + at[i];
    for (int i = in->rank; i-- > 0; number /= in->shape[i]) from[i] = number % in->shape[i];
}

static void permute_source(const nb_array *in, const void *attr, const nb_array *out, const int64_t *at, int64_t *from) {
    (void)in;
    for (int i = 0; i < out->rank; i++) from[((const nb__dims_attr *)attr)->dims.size[i]] = at[i];
}

static void expand_source(const nb_array *in, const void *attr, const nb_array *out, const int64_t *at, int64_t *from) {
    (void)attr;
    for (int i = 0; i < in->rank; i++) from[i] = in->shape[i] == 1 ? 0 : at[i + out->rank - in->rank];
}

static void slice_source(const nb_array *in, const void *attr, const nb_array *out, const int64_t *at, int64_t *from) {
    const nb__slice_attr *a = attr;
    (void)out;
    for (int i = 0; i < in->rank; i++) from[i] = a->start.size[i] + at[i] * a->step.size[i];
}

static void compare(const nb_array *in, const void *attr, const nb_array *out, source_of *source) {
    int64_t at[NB_MAX_RANK] = {0}, from[NB_MAX_RANK] = {0};
    if (count_of(out->rank, out->shape) == 0) return;
    do {
        source(in, attr, out, at, from);
        float want = ((const float *)in->data)[place_of(in, from)], got = ((const float *)out->data)[place_of(out, at)];
        assert_true(got == want);
    } while (next_place(out->rank, out->shape, at));
}

/* The view of one array, if it has one, and the reference's copy, in every layout. Returns a bit for each layout that has a
 * view. */
static unsigned check_view(const nb_op *op, nb_dims from, nb_dims to, const void *attr, source_of *source) {
    unsigned shown = 0;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        float   *memory;
        void    *copy;
        int64_t  offset = 0;
        nb_array in = float_array(layout, (int)from.rank, from.size, &memory);
        nb_call  c = {.out = result_array(NB_F32, layout & 1 ? REVERSED : ROWS, (int)to.rank, to.size, &copy),
                      .n_in = 1,
                      .in = &in,
                      .attr = attr};
        op->run(&c);
        compare(&in, attr, &c.out, source);
        if (op->view(&in, attr, &c.out, &offset)) {
            shown |= 1u << layout;
            c.out.data = (float *)in.data + offset;
            compare(&in, attr, &c.out, source);
        }
        free(memory);
        free(copy);
    }
    return shown;
}

static const unsigned all_layouts = (1u << LAYOUTS) - 1;
static unsigned       bit(int layout) { return 1u << layout; }

static unsigned check_reshape(nb_dims from, nb_dims to) {
    nb__dims_attr attr = {to};
    return check_view(&nb__op_reshape, from, to, &attr, reshape_source);
}

/* Which layouts can be shown in another shape, and which need a copy. */
static void test_reshape(void **state) {
    (void)state;
    unsigned rows = bit(ROWS) | bit(SPREAD) | bit(FLIPPED);
    assert_int_equal(check_reshape(nb_shape(4, 6), nb_shape(2, 2, 3, 2)), all_layouts);    /* axes are only divided */
    assert_int_equal(check_reshape(nb_shape(4, 6), nb_shape(1, 4, 1, 6, 1)), all_layouts); /* size 1 comes */
    assert_int_equal(check_reshape(nb_shape(1, 4, 1, 6, 1), nb_shape(4, 6)), all_layouts); /* and goes */
    assert_int_equal(check_reshape(nb_shape(), nb_shape(1, 1)), all_layouts);
    assert_int_equal(check_reshape(nb_shape(0, 3), nb_shape(7, 0)), all_layouts);
    assert_int_equal(check_reshape(nb_shape(4, 6), nb_shape(24)), rows);
    assert_int_equal(check_reshape(nb_shape(4, 6), nb_shape(3, 8)), rows);
    assert_int_equal(check_reshape(nb_shape(2, 3, 4), nb_shape(6, 2, 2)), rows | bit(BROADCAST_LAST));
    assert_int_equal(check_reshape(nb_shape(2, 3, 4), nb_shape(2, 12)), rows | bit(BROADCAST_FIRST));
    check_reshape(nb_shape(2, 3, 4, 5), nb_shape(4, 6, 5));
    check_reshape(nb_shape(3, 1, 4, 2), nb_shape(2, 6, 2));
    float         x[5] = {0};
    int64_t       offset;
    nb__dims_attr attr = {nb_shape(6)};
    nb_array      in = {x, NB_F32, 2, {2, 3}, {0, 0}}, out = {NULL, NB_F32, 1, {6}, {9}};
    assert_true(nb__op_reshape.view(&in, &attr, &out, &offset)); /* all elements are one */
    assert_true(out.stride[0] == 0 && offset == 0);
}

static void test_permute_and_expand(void **state) {
    (void)state;
    nb__dims_attr a = {nb_axes(2, 0, 1)}, b = {nb_axes(1, 0)}, c = {nb_shape(2, 3, 4)}, d = {nb_shape(0, 3)},
                  e = {nb_shape(2, 2)};
    assert_int_equal(check_view(&nb__op_permute, nb_shape(2, 3, 4), nb_shape(4, 2, 3), &a, permute_source), all_layouts);
    assert_int_equal(check_view(&nb__op_permute, nb_shape(0, 4), nb_shape(4, 0), &b, permute_source), all_layouts);
    assert_int_equal(check_view(&nb__op_expand, nb_shape(3, 1), nb_shape(2, 3, 4), &c, expand_source), all_layouts);
    assert_int_equal(check_view(&nb__op_expand, nb_shape(1, 3), nb_shape(0, 3), &d, expand_source), all_layouts);
    assert_int_equal(check_view(&nb__op_expand, nb_shape(), nb_shape(2, 2), &e, expand_source), all_layouts);
}

static void test_slice_views(void **state) {
    (void)state;
    nb__slice_attr a = {nb_shape(1, 6), nb_shape(2, -3), nb_shape(2, 3)}, b = {nb_shape(0, 0), nb_shape(1, 1), nb_shape(4, 0)};
    assert_int_equal(check_view(&nb__op_slice, nb_shape(4, 7), nb_shape(2, 3), &a, slice_source), all_layouts);
    assert_int_equal(check_view(&nb__op_slice, nb_shape(4, 7), nb_shape(4, 0), &b, slice_source), all_layouts);
}

/* As Python's language reference defines x[start:stop:step]. */
static int python_slice(int n, int start, int stop, bool to_end, int step, int64_t *out) {
    int low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1, k = 0;
    start = start < 0 ? start + n : start;
    start = start < low ? low : start > high ? high : start;
    stop = stop < 0 ? stop + n : stop;
    stop = stop < low ? low : stop > high ? high : stop;
    if (to_end) stop = step > 0 ? n : -1;
    for (int i = start; step > 0 ? i < stop : i > stop; i += step) out[k++] = i;
    return k;
}

static void test_python_slices(void **state) {
    (void)state;
    for (int n = 0; n <= 5; n += 5) {
        for (int step = -3; step <= 3; step++) {
            for (int start = -7; step && start <= 7; start++) {
                for (int stop = -7; stop <= 8; stop++) { /* 8: to the end */
                    int64_t    want[8] = {0};
                    int        count = python_slice(n, start, stop, stop == 8, step, want);
                    nb_tensor *y = nb_slice(nb_arange(nb, NB_I64, 0, n, 1), 0, start, stop == 8 ? NB_END : stop, step);
                    assert_int_equal(nb_size(y, 0), count);
                    if (count) assert_memory_equal(nb_data(y), want, (size_t)count * sizeof *want);
                }
            }
            nb_next_step(nb);
        }
    }
    nb_tensor *x = nb_arange(nb, NB_I64, 0, 3, 1);
    assert_int_equal(nb_count(nb_slice(x, 0, INT64_MAX, INT64_MIN, INT64_MIN)), 1);
    assert_int_equal(nb_count(nb_slice(x, 0, INT64_MIN, INT64_MAX, INT64_MAX)), 1);
    assert_null(nb_error(nb));
    nb_next_step(nb);
}

static void check_values(nb_tensor *y, nb_dims shape, const int32_t *want) {
    assert_true(nb__dims_equal(nb_shape_of(y), shape));
    const int32_t *got = nb_data(y);
    assert_non_null(got);
    assert_memory_equal(got, want, (size_t)nb_count(y) * sizeof *want);
}

#define VALUES(...) ((const int32_t[]){__VA_ARGS__})

static void test_joins(void **state) {
    (void)state;
    nb_tensor *a = nb_reshape(nb_arange(nb, NB_I32, 1, 5, 1), nb_shape(2, 2)), *b = nb_transpose(a, 0, 1);
    check_values(nb_concat(nb_list_of(nb, a, b), 0), nb_shape(4, 2), VALUES(1, 2, 3, 4, 1, 3, 2, 4));
    check_values(nb_concat(nb_list_of(nb, a, b), -1), nb_shape(2, 4), VALUES(1, 2, 1, 3, 3, 4, 2, 4));
    check_values(nb_stack(nb_list_of(nb, a, b), 0), nb_shape(2, 2, 2), VALUES(1, 2, 3, 4, 1, 3, 2, 4));
    check_values(nb_stack(nb_list_of(nb, a, b), -1), nb_shape(2, 2, 2), VALUES(1, 1, 2, 3, 3, 2, 4, 4));
    check_values(nb_pad(b, nb_shape(1, 0), nb_shape(0, 1), 9), nb_shape(3, 3), VALUES(9, 9, 9, 1, 3, 9, 2, 4, 9));
    check_values(nb_flip(a, nb_axes()), nb_shape(2, 2), VALUES(4, 3, 2, 1));
    check_values(nb_tril(a, 0), nb_shape(2, 2), VALUES(1, 0, 3, 4));
    check_values(nb_triu(a, 1), nb_shape(2, 2), VALUES(0, 2, 0, 0));
    check_values(nb_tril(a, -5), nb_shape(2, 2), VALUES(0, 0, 0, 0));
    nb_list parts = nb_split(nb_arange(nb, NB_I32, 0, 5, 1), 0, 2);
    assert_int_equal(parts.n, 3);
    check_values(parts.at[1], nb_shape(2), VALUES(2, 3));
    check_values(parts.at[2], nb_shape(1), VALUES(4));
    check_values(nb_reshape(b, nb_shape(-1)), nb_shape(4), VALUES(1, 3, 2, 4));
    check_values(nb_squeeze(nb_unsqueeze(a, -1), nb_axes(2)), nb_shape(2, 2), VALUES(1, 2, 3, 4));
    check_values(nb_flatten(nb_unsqueeze(b, 0), 0, -1), nb_shape(4), VALUES(1, 3, 2, 4));
    nb_next_step(nb);
}

static void check_error(nb_tensor *y, const char *message) {
    assert_true(nb_has_failed(y));
    assert_string_equal(nb_error(nb), message);
    nb_error_clear(nb);
}

static void test_errors(void **state) {
    (void)state;
    nb_tensor *m = nb_zeros(nb, NB_F32, nb_shape(3, 4)), *v = nb_zeros(nb, NB_F32, nb_shape(12)),
              *i = nb_zeros(nb, NB_I64, nb_shape(2, 2));
    check_error(nb_reshape(m, nb_shape(2, 2)), "reshape: [3,4] has 12 elements, [2,2] has 4");
    check_error(nb_reshape(m, nb_shape(5, -1)), "reshape: the 12 elements of [3,4] do not divide into [5,-1]");
    check_error(nb_reshape(m, nb_shape(-1, -1)), "reshape: more than one size of [-1,-1] is -1");
    check_error(nb_permute(m, nb_axes(1)), "permute: [3,4] has 2 axes, but 1 are named: name each once");
    check_error(nb_permute(m, nb_axes(1, -1)), "permute: axis 1 is named twice");
    check_error(nb_expand(m, nb_shape(3, 5)), "expand: [3,4] does not broadcast to [3,5]");
    check_error(nb_squeeze(m, nb_axes(1)), "squeeze: axis 1 of [3,4] has size 4, not 1");
    check_error(nb_slice(m, 2, 0, 1, 1), "slice: there is no axis 2 in a tensor of rank 2");
    check_error(nb_slice(m, 0, 0, 1, 0), "slice: the step is 0");
    check_error(nb_concat(nb_list_of(nb, m, v), 0),
                "concat: operand 0 is [3,4], operand 1 is [12]: they may differ in axis 0 only");
    check_error(nb_concat(nb_list_of(nb, m, nb_cast(m, NB_F64)), 0),
                "concat: operand 0 is f32, operand 1 is f64; convert one with nb_cast");
    check_error(nb_stack(nb_list_of(nb, m, v), 0), "stack: operand 0 is [3,4], operand 1 is [12]: shapes must be equal");
    check_error(nb_pad(m, nb_shape(1, -1), nb_shape(1, 0), 0),
                "pad: before [1,-1], after [1,0]: entries must be at least 0; nb_slice cuts off");
    check_error(nb_split(m, 0, 0).at[0], "split: pieces of 0; their size must be at least 1");
    check_error(nb_tril(v, 0), "tril: [12] is no matrix");
    check_error(nb_gather(m, 1, i), "gather: x is [3,4], the index [2,2]: they may differ in axis 1 only");
    check_error(nb_gather(m, 1, m), "gather: the index is f32; it must be i32 or i64");
    check_error(nb_scatter_add(m, 0, nb_zeros(nb, NB_I64, nb_shape(2, 4)), m),
                "scatter_add: the index is [2,4], the source [3,4]: shapes must be equal");
    check_error(nb_sum(m, nb_axes(0, 0), false), "sum: axis 0 is named twice");
    check_error(nb_sum(nb_equal(m, m), nb_axes(), false), "sum: takes f32, f64, i32, i64 and u8, got bool; convert with nb_cast");
    check_error(nb_max(nb_zeros(nb, NB_F32, nb_shape(3, 0)), nb_axes(1), false),
                "max: [3,0] has no elements along axis 1, and of none there is no max");
    check_error(nb_norm(m, 0, nb_axes(), false), "norm: p is 0; it must be above 0, or infinity");
    nb_next_step(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reshape),     cmocka_unit_test(test_permute_and_expand),
        cmocka_unit_test(test_slice_views), cmocka_unit_test(test_python_slices),
        cmocka_unit_test(test_joins),       cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
