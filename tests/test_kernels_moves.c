/* test_kernels_moves.c: what moves elements (copy, concat, pad, slice_grad, full, eye, one_hot, cumsum) on every instruction set
 * and memory layout, against the reference; the same bits for any number of threads; also results too large for a cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "arrays.h"
#include "program.h"
#include "ops.h"

static int         compared;

/* An array of random bytes (f32: numbers) in a layout. */
static nb_array array(nb_dtype dtype, int layout, int rank, const int64_t *shape, void **memory) {
    float *numbers;
    if (dtype == NB_F32) {
        nb_array a = float_array(layout, rank, shape, &numbers);
        *memory = numbers;
        return a;
    }
    nb_array a = {.dtype = dtype, .rank = rank};
    int64_t  offset, n, size = (int64_t)nb_dtype_size(dtype);
    memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    n = lay_out(layout, rank, shape, a.stride, &offset);
    *memory = malloc((size_t)(n * size + 1));
    for (int64_t i = 0; i < n * size; i++) ((uint8_t *)*memory)[i] = (uint8_t)(draw() >> 16);
    a.data = (char *)*memory + offset * size;
    return a;
}

/* The call on every instruction set and pool gives what the reference gives, to `slack` of an f32, and touches nothing else. */
static void check(const nb_op *op, nb__planner *planner, nb_call c, nb_dtype dtype, int layout, int rank, const int64_t *shape,
                  double slack) {
    int64_t stride[NB_MAX_RANK], offset, room = lay_out(layout, rank, shape, stride, &offset);
    size_t  bytes = (size_t)room * nb_dtype_size(dtype);
    void   *want, *got, *first = NULL;
    c.out = result_array(dtype, layout, rank, shape, &want);
    memset(want, 0x55, bytes);
    op->run(&c);
    for (int i = 0; i < TEST_ISAS; i++) {
        for (int t = 0; t < POOLS && nb__isa_find(test_isas[i]); t++) {
            c.out = result_array(dtype, layout, rank, shape, &got);
            memset(got, 0x55, bytes);
            assert_true(run_planned(test_isas[i], planner, &c, pools[t]));
            if (slack == 0) assert_memory_equal(got, want, bytes);
            for (int64_t k = 0; k < room && slack > 0; k++) {
                double g = (double)((float *)got)[k], w = (double)((float *)want)[k];
                if (g != w && !(fabs(g - w) <= slack)) fail_msg("%s: %.9g, not %.9g", op->name, g, w);
            }
            if (t) assert_memory_equal(got, first, bytes);
            if (t)
                free(got);
            else
                first = got;
            compared++;
        }
        free(first);
        first = NULL;
    }
    free(want);
}

static bool is_broadcast(int layout) { return layout == BROADCAST_FIRST || layout == BROADCAST_LAST; }

static const nb_dtype types[] = {NB_F32, NB_I64, NB_U8, NB_I32};

static void test_copy(void **state) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 0, 2}, {2, 15, 17}, {1, 33, 31}, {5, 16, 16}, {1, 67, 300}, {2, 300, 35}};
    (void)state;
    for (int i = 0; i < 7; i++)
        for (int from = 0; from < LAYOUTS; from++)
            for (int to = 0; to < LAYOUTS; to++) {
                void    *memory;
                nb_dtype dtype = types[(i + from + to) % 4];
                nb_array in = array(dtype, from, 3, sizes[i], &memory);
                if (!is_broadcast(to))
                    check(&nb__op_copy, nb__plan_copy, (nb_call){.n_in = 1, .in = &in}, dtype, to, 3, sizes[i], 0);
                free(memory);
            }
}

static void test_concat(void **state) {
    (void)state;
    for (int axis = 0; axis < 3; axis++)
        for (int layout = 0; layout < LAYOUTS; layout++) {
            static const int64_t along[] = {3, 0, 1, 40};
            int64_t              shape[] = {4, 5, 17};
            void                *memory[4];
            nb_array             in[4];
            nb__axis_attr        attr = {axis};
            nb_dtype             dtype = types[(axis + layout) % 4];
            for (int k = 0; k < 4; k++) {
                shape[axis] = along[k];
                in[k] = array(dtype, (layout + k) % LAYOUTS, 3, shape, &memory[k]);
            }
            shape[axis] = 44;
            int to = is_broadcast(layout) ? ROWS : layout;
            check(&nb__op_concat, nb__plan_concat, (nb_call){.n_in = 4, .in = in, .attr = &attr}, dtype, to, 3, shape, 0);
            for (int k = 0; k < 4; k++) free(memory[k]);
        }
}

static void test_pad(void **state) {
    static const int64_t sizes[][3] = {{3, 4, 5}, {1, 17, 33}, {2, 0, 3}};
    (void)state;
    for (int i = 0; i < 3; i++)
        for (int layout = 0; layout < LAYOUTS; layout++) {
            int64_t      shape[3];
            nb__pad_attr attr = {.before = nb_shape(1, 0, 3), .after = nb_shape(0, 2, layout), .value = layout % 2 ? 0 : 7};
            void        *memory;
            nb_dtype     dtype = types[(i + layout) % 4];
            nb_array     in = array(dtype, layout, 3, sizes[i], &memory);
            for (int k = 0; k < 3; k++) shape[k] = sizes[i][k] + attr.before.size[k] + attr.after.size[k];
            int to = is_broadcast(layout) ? REVERSED : layout;
            check(&nb__op_pad, nb__plan_pad, (nb_call){.n_in = 1, .in = &in, .attr = &attr}, dtype, to, 3, shape, 0);
            free(memory);
        }
}

static void test_slice_grad(void **state) {
    static const struct {
        int64_t start[2], step[2], size[2];
    } part[] = {{{0, 0}, {1, 1}, {20, 30}}, {{3, 4}, {1, 1}, {5, 20}}, {{19, 2}, {-1, 1}, {20, 5}},  {{1, 29}, {3, -2}, {6, 15}},
                {{0, 0}, {1, 1}, {0, 5}},   {{5, 7}, {0, 0}, {1, 1}},  {{19, 29}, {-1, -1}, {4, 30}}};
    (void)state;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (int layout = 0; layout < LAYOUTS; layout++) {
            nb__slice_grad_attr attr = {{nb_dims_of(2, part[i].start), nb_dims_of(2, part[i].step), nb_dims_of(2, part[i].size)},
                                        nb_shape(20, 30)};
            void               *memory;
            nb_dtype            dtype = types[(i + (size_t)layout) % 4];
            nb_array            in = array(dtype, layout, 2, part[i].size, &memory);
            int                 to = is_broadcast(layout) ? FLIPPED : layout;
            check(&nb__op_slice_grad, nb__plan_slice_grad, (nb_call){.n_in = 1, .in = &in, .attr = &attr}, dtype, to, 2,
                  (int64_t[]){20, 30}, 0);
            free(memory);
        }
}

static void test_constants(void **state) {
    static const int64_t sizes[][2] = {{1, 1}, {0, 3}, {7, 5}, {16, 33}, {300, 100}};
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            nb__create_attr attr = {.dtype = types[k], .shape = nb_dims_of(2, sizes[i]), .p = 3};
            nb_call         c = {.attr = &attr};
            check(&nb__op_full, nb__plan_full, c, types[k], i % 2 ? REVERSED : ROWS, 2, sizes[i], 0);
            check(&nb__op_eye, nb__plan_eye, c, types[k], i % 2 ? SPREAD : ROWS, 2, sizes[i], 0);
        }
}

static void test_one_hot(void **state) {
    static const int64_t classes[] = {1, 3, 16, 100, 5000};
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            int64_t          n = 37, shape[] = {n, classes[i]}, numbers[37];
            nb__one_hot_attr attr = {classes[i], types[k]};
            for (int j = 0; j < n; j++) numbers[j] = (int64_t)draw_below((uint32_t)classes[i]);
            nb_array in = {numbers, NB_I64, 1, {n}, {1}};
            check(&nb__op_one_hot, nb__plan_one_hot, (nb_call){.n_in = 1, .in = &in, .attr = &attr}, types[k], ROWS, 2, shape, 0);
            in.data = numbers + n - 1;
            in.stride[0] = -1;
            check(&nb__op_one_hot, nb__plan_one_hot, (nb_call){.n_in = 1, .in = &in, .attr = &attr}, types[k], ROWS, 2, shape, 0);
        }
}

static void test_cumsum(void **state) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 0, 2}, {2, 15, 17}, {5, 16, 33}, {2, 1000, 3}, {3, 2, 1100}};
    (void)state;
    for (int i = 0; i < 6; i++)
        for (int layout = 0; layout < LAYOUTS; layout++)
            for (int64_t axis = 0; axis < 3; axis++) {
                float   *memory;
                nb_array in = float_array(layout, 3, sizes[i], &memory);
                int      to = is_broadcast(layout) ? ROWS : layout;
                check(&nb__op_cumsum, nb__plan_cumsum, (nb_call){.n_in = 1, .in = &in, .attr = &(nb__axis_attr){axis}}, NB_F32,
                      to, 3, sizes[i], 2e-5);
                free(memory);
            }
}

/* Past the caches: rows that begin anywhere in a line, and transpositions. */
static void test_large(void **state) {
    int64_t rows = 2011, columns = 2111, shape[] = {rows, columns}, joined[] = {2 * rows, columns}, wide[] = {rows, 2 * columns};
    nb__axis_attr first = {0}, last = {1};
    float        *memory[2];
    nb_array      in[] = {float_array(ROWS, 2, shape, &memory[0]), float_array(REVERSED, 2, shape, &memory[1])};
    (void)state;
    check(&nb__op_copy, nb__plan_copy, (nb_call){.n_in = 1, .in = in}, NB_F32, ROWS, 2, shape, 0);
    check(&nb__op_copy, nb__plan_copy, (nb_call){.n_in = 1, .in = in}, NB_F32, REVERSED, 2, shape, 0);
    check(&nb__op_copy, nb__plan_copy, (nb_call){.n_in = 1, .in = in}, NB_F32, FLIPPED, 2, shape, 0);
    check(&nb__op_concat, nb__plan_concat, (nb_call){.n_in = 2, .in = in, .attr = &first}, NB_F32, ROWS, 2, joined, 0);
    check(&nb__op_concat, nb__plan_concat, (nb_call){.n_in = 2, .in = in, .attr = &last}, NB_F32, ROWS, 2, wide, 0);
    free(memory[0]);
    free(memory[1]);
    int64_t  n = 50000, ones[] = {n, 100}, *numbers = malloc((size_t)n * sizeof *numbers);
    nb_array index = {numbers, NB_I64, 1, {n}, {1}};
    for (int64_t i = 0; i < n; i++) numbers[i] = (int64_t)draw_below(100);
    check(&nb__op_one_hot, nb__plan_one_hot, (nb_call){.n_in = 1, .in = &index, .attr = &(nb__one_hot_attr){100, NB_F32}}, NB_F32,
          ROWS, 2, ones, 0);
    free(numbers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),       cmocka_unit_test(test_concat),    cmocka_unit_test(test_pad),
        cmocka_unit_test(test_slice_grad), cmocka_unit_test(test_constants), cmocka_unit_test(test_one_hot),
        cmocka_unit_test(test_cumsum),     cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
