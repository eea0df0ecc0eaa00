/* test_kernels_index.c: gather, index_select and scatter_add on every instruction set and in all memory layouts, against the
 * reference; the same bits for any number of threads; indices out of range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arrays.h"
#include "ops.h"


/* An i32 or i64 array of numbers in 0..n-1. */
static nb_array index_array(nb_dtype dtype, int layout, int rank, const int64_t *shape, int64_t n, void **memory) {
    nb_array a = {.dtype = dtype, .rank = rank};
    int64_t  offset;
    memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    int64_t count = lay_out(layout, rank, shape, a.stride, &offset);
    *memory = malloc((size_t)count * 8 + 8);
    for (int64_t i = 0; i < count; i++) {
        int64_t place = (int64_t)draw_below((uint32_t)n);
        if (dtype == NB_I64)
            ((int64_t *)*memory)[i] = place;
        else
            ((int32_t *)*memory)[i] = (int32_t)place;
    }
    a.data = (char *)*memory + offset * (int64_t)nb_dtype_size(dtype);
    return a;
}

/* The call on every instruction set and pool gives what the reference gives. Returns how many runs were planned. */
static int check(const nb_op *op, nb__planner *planner, nb_call c, int layout, int rank, const int64_t *shape) {
    size_t bytes = (size_t)count_of(rank, shape) * sizeof(float);
    void  *want, *got;
    int    planned = 0;
    c.out = result_array(NB_F32, layout, rank, shape, &want);
    op->run(&c);
    for (int i = 0; i < TEST_ISAS; i++) {
        for (int t = 0; t < POOLS && nb__isa_find(test_isas[i]); t++) {
            c.out = result_array(NB_F32, layout, rank, shape, &got);
            if (run_planned(test_isas[i], planner, &c, pools[t])) {
                assert_memory_equal(got, want, bytes);
                planned++;
            }
            free(got);
        }
    }
    free(want);
    return planned;
}

/* One shape of x and count of indices, in all combinations of layouts. */
static int check_shape(int rank, const int64_t *shape, int axis, int64_t n) {
    nb__axis_attr attr = {axis};
    int64_t       index_shape[NB_MAX_RANK], line[NB_MAX_RANK];
    int           planned = 0, k = 0;
    for (int i = 0; i < rank; i++) index_shape[i] = i == axis ? n : shape[i];
    for (int i = 0; i < axis; i++) line[k++] = shape[i];
    line[k++] = n;
    for (int i = axis + 1; i < rank; i++) line[k++] = shape[i];
    for (int layout = 0; layout < LAYOUTS; layout++) {
        for (int il = 0; il < LAYOUTS; il++) {
            float   *x, *source;
            void    *index, *flat;
            nb_dtype dtype = (layout + il) & 1 ? NB_I32 : NB_I64;
            nb_array in[3] = {float_array(layout, rank, shape, &x),
                              index_array(dtype, il, rank, index_shape, shape[axis], &index),
                              float_array(il, rank, index_shape, &source)};
            nb_call  c = {.n_in = 3, .in = in, .attr = &attr};
            planned += check(&nb__op_gather, nb__plan_gather, c, il & 1, rank, index_shape);
            planned += check(&nb__op_scatter_add, nb__plan_scatter_add, c, il & 1, rank, shape);
            free(index);
            in[1] = index_array(dtype, il, 1, &n, shape[axis], &flat);
            planned += check(&nb__op_index_select, nb__plan_index_select, c, il & 1, rank, line);
            free(flat);
            free(x);
            free(source);
        }
    }
    return planned;
}

static void test_layouts(void **state) {
    (void)state;
    static const int64_t size[] = {1, 15, 16, 17, 33, 1000};
    int                  planned = 0;
    for (int i = 0; i < 6; i++) {
        planned += check_shape(1, &size[i], 0, 17);
        planned += check_shape(2, (int64_t[]){5, size[i]}, 0, 9);
        planned += check_shape(2, (int64_t[]){size[i], 5}, 1, 3);
        planned += check_shape(3, (int64_t[]){3, 4, size[i]}, 1, 6);
    }
    planned += check_shape(2, (int64_t[]){5, 0}, 0, 4);
    planned += check_shape(2, (int64_t[]){5, 3}, 0, 0);
    planned += check_shape(2, (int64_t[]){0, 3}, 1, 2);
    assert_true(planned > 1000);
}

/* Large enough to be cut by destination; one index for each row, as an embedding's gradient has. */
static void test_rows(void **state) {
    (void)state;
    int64_t       rows = 300, columns = 128, n = 2000, shape[] = {rows, columns}, many[] = {n, columns};
    nb__axis_attr attr = {0};
    float        *x, *source;
    void         *index;
    nb_array      in[3] = {float_array(ROWS, 2, shape, &x), index_array(NB_I64, ROWS, 1, &n, rows, &index),
                           float_array(ROWS, 2, many, &source)};
    in[1].rank = 2;
    in[1].shape[1] = columns;
    in[1].stride[1] = 0;
    nb_call c = {.n_in = 3, .in = in, .attr = &attr};
    assert_true(check(&nb__op_scatter_add, nb__plan_scatter_add, c, ROWS, 2, shape) >= 3);
    assert_true(check(&nb__op_gather, nb__plan_gather, c, ROWS, 2, many) >= 3);
    free(x);
    free(source);
    free(index);
}

/* The first bad index is named, whichever kernel meets it, and for any number of threads. */
static void test_out_of_range(void **state) {
    (void)state;
    static const char *const kernels[] = {"reference", "baseline", "v3", "v4"};
    for (int i = 0; i < 4; i++) {
        for (int threads = 1; threads <= 4; threads *= 2) {
            if (!nb__isa_find(kernels[i])) continue;
            nb_context *own = nb_open(&(nb_options){.threads = threads, .kernels = kernels[i]});
            nb_tensor  *x = nb_ones(own, NB_F32, nb_shape(10, 64)), *bad = nb_full(own, NB_I64, nb_shape(3000), 12);
            nb_tensor  *index = nb_concat(
                 nb_list_of(own, nb_zeros(own, NB_I64, nb_shape(9)), nb_sub(bad, nb_arange(own, NB_I64, 0, 3000, 1))), 0);
            nb_tensor *spread = nb_expand(nb_unsqueeze(index, 1), nb_shape(3009, 64));
            assert_null(nb_data(nb_index_select(x, 0, index)));
            assert_string_equal(nb_error(own), "index_select: index 12 is outside 0..9");
            nb_error_clear(own);
            assert_null(nb_data(nb_gather(x, 0, spread)));
            assert_string_equal(nb_error(own), "gather: index 12 is outside 0..9");
            nb_error_clear(own);
            assert_null(nb_data(nb_scatter_add(x, 0, spread, nb_ones(own, NB_F32, nb_shape(3009, 64)))));
            assert_string_equal(nb_error(own), "scatter_add: index 12 is outside 0..9");
            nb_error_clear(own);
            nb_tensor *none = nb_expand(nb_unsqueeze(index, 1), nb_shape(3009, 0)); /* rows of nothing: no index is looked at */
            x = nb_scatter_add(nb_ones(own, NB_F32, nb_shape(10, 0)), 0, none, nb_ones(own, NB_F32, nb_shape(3009, 0)));
            assert_true(nb_eval(own, nb_list_of(own, x)) && !nb_error(own));
            assert_null(nb_data(nb_one_hot(index, 10, NB_F32)));
            assert_string_equal(nb_error(own), "one_hot: index 12 is outside 0..9");
            nb_close(own);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts), cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_out_of_range)};
    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
