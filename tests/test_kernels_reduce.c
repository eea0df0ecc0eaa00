/* test_kernels_reduce.c: every reduction kernel of every instruction set there is, on odd sizes and all memory layouts, against
 * plain loops; and the same bits for any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "arrays.h"

enum { SUM, PROD, MAX, MIN, ARGMAX, ARGMIN, KINDS };
static nb__planner *const planners[] = {nb__plan_sum, nb__plan_prod,   nb__plan_max,
                                        nb__plan_min, nb__plan_argmax, nb__plan_argmin};


/* The definition: a walk over all elements. magnitude: sum of |x|, the measure of a sum's rounding. */
static double expected(int kind, const nb_array *in, const bool *gone, const int64_t *at, double *magnitude) {
    int64_t index[NB_MAX_RANK], part[NB_MAX_RANK] = {0}, size[NB_MAX_RANK], n = 0, place = 0;
    double  value = kind == PROD;
    *magnitude = 0;
    for (int i = 0; i < in->rank; i++) size[i] = gone[i] ? in->shape[i] : 1;
    if (count_of(in->rank, size) == 0) return value;
    do {
        for (int i = 0; i < in->rank; i++) index[i] = gone[i] ? part[i] : at[i];
        double x = (double)((const float *)in->data)[place_of(in, index)];
        bool   better = kind == MAX || kind == ARGMAX ? x > value : x < value;
        *magnitude += fabs(x);
        if (kind == SUM)
            value += x;
        else if (kind == PROD)
            value *= x;
        else if (n == 0 || (!isnan(value) && (better || isnan(x))))
            value = x, place = n;
        n++;
    } while (next_place(in->rank, size, part));
    return kind >= ARGMAX ? (double)place : value;
}

static void check_values(int kind, const nb_call *c, const bool *gone) {
    int64_t at[NB_MAX_RANK] = {0};
    if (count_of(c->out.rank, c->out.shape) == 0) return;
    do {
        double  magnitude, want = expected(kind, &c->in[0], gone, at, &magnitude);
        int64_t place = place_of(&c->out, at);
        if (kind >= ARGMAX) {
            assert_int_equal(((const int64_t *)c->out.data)[place], (int64_t)want);
            continue;
        }
        double got = (double)((const float *)c->out.data)[place];
        double room = kind == SUM ? 5e-7 * magnitude + 1e-30 : kind == PROD ? 1e-6 * fabs(want) + 1e-37 : 0;
        if (got != want && !(fabs(got - want) <= room) && !(isnan(got) && isnan(want)))
            fail_msg("got %.9g, want %.9g", got, want);
    } while (next_place(c->out.rank, c->out.shape, at));
}

/* One reduction on every instruction set, with 1, 2 and 4 threads. */
static void check(int kind, nb_array in, const bool *gone, int out_layout) {
    nb__axes_attr axes = {.axes.rank = 0};
    nb__axis_attr axis = {0};
    int64_t       shape[NB_MAX_RANK];
    for (int i = 0; i < in.rank; i++) {
        shape[i] = gone[i] ? 1 : in.shape[i];
        if (gone[i]) axes.axes.size[axes.axes.rank++] = axis.axis = i;
    }
    nb_dtype dtype = kind >= ARGMAX ? NB_I64 : NB_F32;
    size_t   bytes = (size_t)count_of(in.rank, shape) * nb_dtype_size(dtype);
    for (int i = 0; i < TEST_ISAS; i++) {
        if (!nb__isa_find(test_isas[i])) continue;
        void *first = NULL;
        for (int t = 0; t < POOLS; t++) {
            void   *memory;
            nb_call c = {.out = result_array(dtype, out_layout, in.rank, shape, &memory), .n_in = 1, .in = &in};
            c.attr = kind == SUM ? (const void *)&axes : &axis;
            assert_true(run_planned(test_isas[i], planners[kind], &c, pools[t]));
            if (t == 0)
                check_values(kind, &c, gone);
            else
                assert_memory_equal(memory, first, bytes);
            if (t == 0)
                first = memory;
            else
                free(memory);
        }
        free(first);
    }
}

/* All axes that `mask` names, all layouts; the kinds that take one axis only when it names one that is not empty. */
static void check_shape(int rank, const int64_t *shape, unsigned mask) {
    bool gone[NB_MAX_RANK] = {0}, empty = false;
    int  n = 0;
    for (int i = 0; i < rank; i++)
        if ((gone[i] = mask >> i & 1)) n++, empty |= shape[i] == 0;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        float   *memory;
        nb_array in = float_array(layout, rank, shape, &memory);
        for (int kind = 0; kind < KINDS; kind++)
            if (kind == SUM || (n == 1 && (!empty || kind == PROD))) check(kind, in, gone, layout & 1 ? REVERSED : ROWS);
        free(memory);
    }
}

static void test_odd_sizes(void **state) {
    (void)state;
    static const int64_t size[] = {0, 1, 15, 16, 17, 33, 1000};
    for (int i = 0; i < 7; i++) {
        check_shape(1, &size[i], 1);
        for (int k = 0; k < 7; k++)
            for (unsigned mask = 0; mask < 4; mask++) check_shape(2, (int64_t[]){size[i], size[k]}, mask);
    }
}

static void test_many_axes(void **state) {
    (void)state;
    for (unsigned mask = 0; mask < 8; mask++) {
        check_shape(3, (int64_t[]){3, 17, 5}, mask);
        check_shape(3, (int64_t[]){2, 1, 33}, mask);
        check_shape(3, (int64_t[]){4, 0, 3}, mask);
    }
    for (unsigned mask = 0; mask < 16; mask++) check_shape(4, (int64_t[]){3, 2, 5, 7}, mask);
    check_shape(0, (int64_t[]){1}, 0);
    check_shape(8, (int64_t[]){2, 1, 3, 2, 1, 2, 3, 2}, 0xa5);
}

/* Long enough to be cut into groups. */
static void test_long(void **state) {
    (void)state;
    check_shape(1, (int64_t[]){200001}, 1);
    check_shape(2, (int64_t[]){70001, 3}, 1);
    check_shape(2, (int64_t[]){3, 70001}, 2);
    check_shape(2, (int64_t[]){9001, 33}, 1);
    check_shape(2, (int64_t[]){130, 600}, 1);
    check_shape(2, (int64_t[]){300, 300}, 3);
    check_shape(4, (int64_t[]){16, 5, 60, 60}, 13);
    check_shape(4, (int64_t[]){16, 60, 60, 5}, 7);
}

static void test_accuracy(void **state) {
    (void)state;
    int64_t  n = 10000000;
    float   *memory;
    bool     gone[NB_MAX_RANK] = {true};
    nb_array in = float_array(ROWS, 1, &n, &memory);
    for (int64_t i = 0; i < n; i++) memory[i] = 0.1f;
    check(SUM, in, gone, ROWS);
    for (int64_t i = 0; i < n; i++) memory[i] = (memory[i] + draw_between(-1, 1)) * 100;
    check(SUM, in, gone, ROWS);
    free(memory);
}

/* The first NaN is the largest and the smallest; of equals the first counts. */
static void test_nan_and_ties(void **state) {
    (void)state;
    bool gone[NB_MAX_RANK] = {true};
    for (int64_t n = 1; n < 200; n += 13) {
        for (int layout = 0; layout < LAYOUTS; layout++) {
            if (layout == BROADCAST_FIRST || layout == BROADCAST_LAST) continue;
            float   *memory;
            nb_array in = float_array(layout, 1, &n, &memory);
            float   *x = in.data;
            for (int64_t i = 0; i < n; i++) x[i * in.stride[0]] = (float)(draw() >> 30);
            for (int kind = MAX; kind < KINDS; kind++) check(kind, in, gone, ROWS);
            x[n / 2 * in.stride[0]] = NAN;
            x[n * 3 / 4 * in.stride[0]] = -NAN;
            for (int kind = MAX; kind < KINDS; kind++) check(kind, in, gone, ROWS);
            for (int64_t i = 0; i < n; i++) x[i * in.stride[0]] = i & 1 ? INFINITY : -INFINITY;
            for (int kind = MAX; kind < KINDS; kind++) check(kind, in, gone, ROWS);
            free(memory);
        }
    }
}

static void test_refusals(void **state) {
    (void)state;
    nb__axes_attr axes = {.axes = {1, {0}}};
    double        x[4] = {0}, y;
    nb_array      in = {x, NB_F64, 1, {4}, {1}};
    nb_call       c = {.out = {&y, NB_F64, 1, {1}, {1}}, .n_in = 1, .in = &in, .attr = &axes};
    assert_false(run_planned("baseline", nb__plan_sum, &c, NULL));
    in.dtype = c.out.dtype = NB_F32;
    assert_false(run_planned("reference", nb__plan_sum, &c, NULL));
    assert_null(nb_error(nb));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_sizes), cmocka_unit_test(test_many_axes),    cmocka_unit_test(test_long),
        cmocka_unit_test(test_accuracy),  cmocka_unit_test(test_nan_and_ties), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
