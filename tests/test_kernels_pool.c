/* test_kernels_pool.c: every pool on every instruction set and memory layout, against the reference; the same bits for any number
 * of threads; ties, NaN, windows of other sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "arrays.h"
#include "ops.h"

enum { PLAIN, LAST, TURNED, APART, BACKWARDS, MEMORY_LAYOUTS, GUARD = 64 };

static int         compared;

/* Memory of an image in some order of its axes, all bytes `fill`, a guard before and behind. */
static nb_array image(nb_dtype dtype, int layout, nb_dims shape, int fill, char **memory, size_t *bytes) {
    static const int order[][4] = {{0, 1, 2, 3}, {0, 2, 3, 1}, {1, 0, 3, 2}, {0, 1, 2, 3}, {0, 1, 2, 3}};
    nb_array         a = {.dtype = dtype, .rank = 4};
    int64_t          step = layout == APART ? 3 : 1, size = (int64_t)nb_dtype_size(dtype);
    for (int i = 3; i >= 0; i--) {
        int axis = order[layout][i];
        a.shape[axis] = shape.size[axis];
        a.stride[axis] = step;
        step *= shape.size[axis] ? shape.size[axis] : 1;
    }
    *bytes = (size_t)(step * size) + 2 * GUARD;
    *memory = malloc(*bytes);
    memset(*memory, fill, *bytes);
    char *data = *memory + GUARD;
    if (layout == BACKWARDS && shape.size[3]) {
        data += (shape.size[3] - 1) * size;
        a.stride[3] = -1;
    }
    a.data = data;
    return a;
}

/* Small whole numbers, so that there are ties; now and then NaN or an infinity. */
static void fill(nb_array *a, bool special) {
    int64_t at[NB_MAX_RANK] = {0};
    if (count_of(4, a->shape) == 0) return;
    do {
        uint32_t bits = draw() >> 16;
        float    value = special && bits % 23 == 0 ? NAN : special && bits % 7 == 0 ? -INFINITY : (float)(bits % 9) / 4 - 1;
        nb__store(a, nb__offset(a, at), (double)value);
    } while (next_place(4, a->shape, at));
}

static void expect_equal(const nb_array *got, const nb_array *want, double slack, const char *what) {
    int64_t at[NB_MAX_RANK] = {0};
    if (count_of(4, got->shape) == 0) return;
    do {
        double g = nb__load(got, nb__offset(got, at)), w = nb__load(want, nb__offset(want, at));
        if (g != w && !(isnan(g) && isnan(w)) && !(fabs(g - w) <= slack * fabs(w) + slack))
            fail_msg("%s: [%d,%d,%d,%d] is %.9g, not %.9g", what, (int)at[0], (int)at[1], (int)at[2], (int)at[3], g, w);
    } while (next_place(4, got->shape, at));
}

/* Runs a plan of one or two results for 1, 2 and 3 threads on every instruction set. */
static void check(nb__planner *planner, int n_in, const nb_array *in, int n_out, const nb_array *want, int layout,
                  const void *attr, double slack, const char *what) {
    for (int i = 0; i < TEST_ISAS; i++) {
        char  *first[2] = {NULL, NULL}, *memory;
        size_t bytes;
        for (int t = 0; t < POOLS && nb__isa_find(test_isas[i]); t++) {
            nb_array out[2];
            char    *now[2] = {NULL, NULL};
            size_t   size[2] = {0, 0};
            nb__plan plan = {0};
            for (int k = 0; k < n_out; k++)
                out[k] = image(want[k].dtype, layout, nb_dims_of(4, want[k].shape), 0x55, &now[k], &size[k]);
            nb__call call = {.c = {.out = out[0], .n_in = n_in, .in = in, .attr = attr}, .n_out = n_out, .out = out};
            assert_true(planner(nb, nb__isa_find(test_isas[i]), &call, t + 1, &plan));
            plan.run(&plan, &call, NULL, pools[t]);
            nb_free(nb, plan.state);
            for (int k = 0; k < n_out; k++) {
                expect_equal(&out[k], &want[k], slack, what);
                if (t) assert_memory_equal(now[k], first[k], size[k]);
                /* Nothing but the result is written: a fresh memory with its elements is the same. */
                nb_array copy = image(out[k].dtype, layout, nb_dims_of(4, want[k].shape), 0x55, &memory, &bytes);
                nb__copy_elements(&copy, &out[k]);
                assert_memory_equal(memory, now[k], bytes);
                free(memory);
                if (t)
                    free(now[k]);
                else
                    first[k] = now[k];
            }
            compared++;
        }
        free(first[0]);
        free(first[1]);
    }
}

/* All pools of an image that lies in one way, with results that lie in another. */
static void check_layouts(nb_dims x, nb__pool_attr a, int from, int to, bool special) {
    nb_dims  y = nb_shape(x.size[0], x.size[1], a.out[0], a.out[1]);
    char    *memory[6], what[400];
    size_t   bytes;
    nb_dtype index_dtype = nb__pool_index_dtype(&a, x.size[2], x.size[3]);
    nb_array in = image(NB_F32, from, x, 0, &memory[0], &bytes), dy = image(NB_F32, from, y, 0, &memory[1], &bytes);
    nb_array index = image(index_dtype, from, y, 0, &memory[2], &bytes), values = image(NB_F32, PLAIN, y, 0, &memory[3], &bytes);
    nb_array dx = image(NB_F32, PLAIN, x, 0, &memory[4], &bytes), mean = image(NB_F32, PLAIN, y, 0, &memory[5], &bytes);
    snprintf(what, sizeof what, "%s to %s, layouts %d and %d", nb__dims_text(x).at, nb__dims_text(y).at, from, to);
    fill(&in, special);
    fill(&dy, special);
    nb_call call = {.out = index, .n_in = 1, .in = &in, .attr = &a};
    nb__op_max_pool2d_index.run(&call);
    call = (nb_call){.out = values, .n_in = 2, .in = (nb_array[]){in, index}, .attr = &a};
    nb__op_pool_take.run(&call);
    check(nb__plan_max_pool2d, 1, &in, 2, (nb_array[]){index, values}, to, &a, 0, what);
    check(nb__plan_max_pool2d, 1, &in, 1, &index, to, &a, 0, what);
    check(nb__plan_max_pool2d, 1, &in, 1, &values, to, &a, 0, what);
    check(nb__plan_pool_take, 2, (nb_array[]){in, index}, 1, &values, to, &a, 0, what);
    nb__pool_attr put = a;
    put.other = x;
    call = (nb_call){.out = dx, .n_in = 2, .in = (nb_array[]){dy, index}, .attr = &put};
    nb__op_pool_put.run(&call);
    check(nb__plan_pool_put, 2, (nb_array[]){dy, index}, 1, &dx, to, &put, 1e-6, what);
    if (a.dilation[0] == 1 && a.dilation[1] == 1) {
        call = (nb_call){.out = mean, .n_in = 1, .in = &in, .attr = &a};
        nb__op_avg_pool2d.run(&call);
        check(nb__plan_avg_pool2d, 1, &in, 1, &mean, to, &a, 0, what);
        call = (nb_call){.out = dx, .n_in = 1, .in = &dy, .attr = &put};
        nb__op_avg_pool2d_grad.run(&call);
        check(nb__plan_avg_pool2d_grad, 1, &dy, 1, &dx, to, &put, 2e-6, what);
    }
    for (int i = 0; i < 6; i++) free(memory[i]);
}

static void pools_of_all_kinds(void **state) {
    static const struct {
        nb_dims       x;
        nb__pool_attr a;
    } q[] = {
        {{4, {2, 3, 8, 8}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {4, 4}}},
        {{4, {3, 33, 9, 17}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {4, 8}}},
        {{4, {1, 2, 4, 68}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {2, 34}}},
        {{4, {2, 16, 4, 34}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {2, 17}}},
        {{4, {2, 15, 7, 66}}, {.size = {3, 2}, .stride = {3, 2}, .dilation = {1, 1}, .out = {2, 33}}},
        {{4, {1, 1, 6, 31}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {3, 15}}},
        {{4, {1, 3, 9, 99}}, {.size = {3, 3}, .stride = {3, 3}, .dilation = {1, 1}, .out = {3, 33}}},
        {{4, {1, 3, 9, 40}}, {.size = {2, 3}, .stride = {3, 4}, .dilation = {1, 1}, .out = {3, 10}}},
        {{4, {2, 8, 7, 9}}, {.size = {3, 3}, .stride = {2, 2}, .padding = {1, 1}, .dilation = {1, 1}, .out = {4, 5}}},
        {{4, {2, 130, 7, 41}}, {.size = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .dilation = {1, 1}, .out = {7, 41}}},
        {{4, {2, 17, 7, 9}},
         {.size = {3, 2}, .stride = {1, 2}, .padding = {1, 1}, .dilation = {1, 1}, .out = {7, 5}, .exclude_padding = 1}},
        {{4, {1, 5, 9, 10}}, {.size = {3, 2}, .stride = {1, 1}, .dilation = {2, 3}, .out = {5, 7}}},
        {{4, {1, 5, 9, 10}}, {.size = {2, 2}, .stride = {4, 4}, .padding = {1, 1}, .dilation = {2, 2}, .out = {3, 3}}},
        {{4, {1, 4, 5, 6}}, {.size = {2, 4}, .stride = {2, 3}, .padding = {0, 1}, .dilation = {1, 1}, .out = {3, 3}}},
        {{4, {2, 2, 40, 40}}, {.size = {17, 16}, .stride = {17, 16}, .dilation = {1, 1}, .out = {2, 2}}},
        {{4, {1, 20, 20, 20}}, {.size = {17, 16}, .stride = {1, 2}, .dilation = {1, 1}, .out = {4, 3}}},
        {{4, {2, 9, 7, 5}}, {.size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .out = {3, 2}, .adaptive = 1}},
        {{4, {2, 9, 8, 6}}, {.size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .out = {4, 3}, .adaptive = 1}},
        {{4, {1, 3, 2, 3}}, {.size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .out = {5, 4}, .adaptive = 1}},
        {{4, {1, 3, 2, 3}}, {.size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .out = {0, 4}, .adaptive = 1}},
        {{4, {0, 3, 4, 4}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {2, 2}}},
        {{4, {3, 0, 4, 4}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {2, 2}}},
        {{4, {8, 64, 14, 14}}, {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .out = {7, 7}}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof q / sizeof *q; i++)
        for (int from = 0; from < MEMORY_LAYOUTS; from++) {
            check_layouts(q[i].x, q[i].a, from, from, false);
            check_layouts(q[i].x, q[i].a, from, from ? PLAIN : LAST, true);
        }
    assert_true(compared > 1000);
}

/* NaN counts as largest, the first place wins ties, and padding is never chosen. */
static void places_of_special_values(void **state) {
    static const float values[8] = {-1, NAN, 5, 5, -INFINITY, -INFINITY, NAN, 7};
    static const int   want[4] = {1, 0, 0, 0};
    nb_tensor         *x = nb_from(nb, NB_F32, nb_shape(1, 1, 1, 8), values);
    nb__pool_attr      a = {.size = {1, 2}, .stride = {1, 2}, .dilation = {1, 1}, .out = {1, 4}};
    const uint8_t     *y = nb_data(nb_apply(nb, &nb__op_max_pool2d_index, 1, &x, &a));
    (void)state;
    assert_non_null(y);
    for (int i = 0; i < 4; i++) assert_int_equal(y[i], want[i]);
    const float *largest = nb_data(nb_max_pool2d(x, &(nb_pool2d_options){.size = {1, 3}, .padding = {0, 1}, .stride = {1, 3}}));
    assert_non_null(largest);
    assert_true(isnan(largest[0]) && largest[1] == 5 && isnan(largest[2]));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pools_of_all_kinds), cmocka_unit_test(places_of_special_values)};
    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
