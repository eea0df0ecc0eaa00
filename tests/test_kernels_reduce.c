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

/* ------------------------------------------------------------------------------------------------------------------- moments */

/* The definition, for one result: the sum, the sum of squares around the mean, and the measure of the sum's rounding. */
static void expected_moments(const nb_array *in, const bool *gone, const int64_t *at, double *sum, double *squares,
                             double *magnitude) {
    int64_t part[NB_MAX_RANK], index[NB_MAX_RANK], size[NB_MAX_RANK];
    double  n = 1, mean = 0;
    for (int i = 0; i < in->rank; i++) n *= (double)(size[i] = gone[i] ? in->shape[i] : 1);
    *sum = *squares = *magnitude = 0;
    for (int pass = 0; pass < 2 && n > 0; pass++) {
        memset(part, 0, sizeof part);
        do {
            for (int i = 0; i < in->rank; i++) index[i] = gone[i] ? part[i] : at[i];
            double x = (double)((const float *)in->data)[place_of(in, index)];
            if (pass)
                *squares += (x - mean) * (x - mean);
            else
                *sum += x, *magnitude += fabs(x);
        } while (next_place(in->rank, size, part));
        mean = *sum / n;
    }
}

static bool is_near(double got, double want, double room) {
    return got == want || fabs(got - want) <= room || (isnan(got) && isnan(want));
}

/* Both results lie along `first`, the first axis that goes. */
static void check_moment_values(const nb_call *c, const bool *gone, int first) {
    int64_t at[NB_MAX_RANK] = {0}, shape[NB_MAX_RANK];
    memcpy(shape, c->out.shape, sizeof shape);
    shape[first] = 1;
    if (count_of(c->out.rank, shape) == 0) return;
    do {
        double       sum, squares, magnitude;
        const float *got = (const float *)c->out.data + place_of(&c->out, at);
        expected_moments(&c->in[0], gone, at, &sum, &squares, &magnitude);
        double a = (double)got[0], b = (double)got[c->out.stride[first]];
        if (!is_near(a, sum, 5e-7 * magnitude)) fail_msg("sum: got %.9g, want %.9g", a, sum);
        if (!is_near(b, squares, 5e-7 * squares)) fail_msg("squares: got %.9g, want %.9g", b, squares);
    } while (next_place(c->out.rank, shape, at));
}

static void check_moments(nb_array in, const bool *gone, int out_layout) {
    nb__axes_attr axes = {.axes.rank = 0};
    int64_t       shape[NB_MAX_RANK];
    for (int i = 0; i < in.rank; i++) {
        shape[i] = gone[i] ? 1 : in.shape[i];
        if (gone[i]) axes.axes.size[axes.axes.rank++] = i;
    }
    int first = (int)axes.axes.size[0];
    shape[first] = 2;
    size_t bytes = (size_t)count_of(in.rank, shape) * sizeof(float);
    for (int i = 0; i < TEST_ISAS; i++) {
        if (!nb__isa_find(test_isas[i])) continue;
        void *one = NULL;
        for (int t = 0; t < 3; t++) {
            void   *memory;
            nb_call c = {.out = result_array(NB_F32, out_layout, in.rank, shape, &memory), .n_in = 1, .in = &in, .attr = &axes};
            assert_true(run_planned(test_isas[i], nb__plan_moments, &c, pools[t]));
            if (t == 0)
                check_moment_values(&c, gone, first);
            else
                assert_memory_equal(memory, one, bytes);
            if (t == 0)
                one = memory;
            else
                free(memory);
        }
        free(one);
    }
}

/* Values of a kind in an array of n: what makes variances go wrong. */
enum { PLAIN, FAR_OFF, OUTLIER_FIRST, EQUAL, WITH_NAN, WITH_INFINITY, INFINITY_FIRST, VALUES };

static void set_values(float *x, int64_t n, int kind) {
    if (n == 0) return;
    for (int64_t i = 0; i < n; i++) x[i] = kind == EQUAL ? 0.1f : draw_between(-1, 1) + (kind == FAR_OFF ? 1e4f : 0);
    if (kind == OUTLIER_FIRST) x[0] = 1e6f;
    if (kind == WITH_NAN) x[n / 2] = NAN;
    if (kind == WITH_INFINITY) x[n / 2] = INFINITY;
    if (kind == INFINITY_FIRST) x[0] = -INFINITY;
}

static void check_moments_of_shape(int rank, const int64_t *shape, unsigned mask, int kinds) {
    bool gone[NB_MAX_RANK] = {0};
    for (int i = 0; i < rank; i++) gone[i] = mask >> i & 1;
    for (int layout = 0; layout < LAYOUTS; layout++)
        for (int kind = 0; kind < kinds; kind++) {
            float   *memory;
            int64_t  stride[NB_MAX_RANK], offset;
            nb_array in = float_array(layout, rank, shape, &memory);
            set_values(memory, lay_out(layout, rank, shape, stride, &offset), kind);
            check_moments(in, gone, layout & 1 ? REVERSED : ROWS);
            free(memory);
        }
}

static void test_moments(void **state) {
    (void)state;
    static const int64_t size[] = {0, 1, 7, 15, 16, 17, 33, 1000};
    for (int i = 0; i < 8; i++) {
        check_moments_of_shape(1, &size[i], 1, VALUES);
        for (int k = 0; k < 8; k++)
            for (unsigned mask = 1; mask < 4; mask++) check_moments_of_shape(2, (int64_t[]){size[i], size[k]}, mask, EQUAL);
    }
    for (unsigned mask = 1; mask < 3; mask++) check_moments_of_shape(2, (int64_t[]){33, 45}, mask, VALUES);
    for (unsigned mask = 1; mask < 16; mask++) check_moments_of_shape(4, (int64_t[]){3, 2, 5, 7}, mask, EQUAL);
    check_moments_of_shape(8, (int64_t[]){2, 1, 3, 2, 1, 2, 3, 2}, 0xa6, EQUAL);
    /* Long enough to be cut into groups. */
    check_moments_of_shape(1, (int64_t[]){200001}, 1, VALUES);
    check_moments_of_shape(2, (int64_t[]){70001, 3}, 1, OUTLIER_FIRST);
    check_moments_of_shape(2, (int64_t[]){9001, 33}, 1, VALUES);
    check_moments_of_shape(2, (int64_t[]){130, 2600}, 1, OUTLIER_FIRST);
    check_moments_of_shape(4, (int64_t[]){16, 5, 60, 60}, 13, OUTLIER_FIRST);
    check_moments_of_shape(4, (int64_t[]){16, 60, 60, 5}, 7, OUTLIER_FIRST);
}

/* Exactly 0, also where a mean is not one of the numbers. */
static void test_no_deviation(void **state) {
    (void)state;
    int64_t       shape[] = {70007, 19}, results[] = {2, 19};
    float        *memory;
    nb_array      in = float_array(ROWS, 2, shape, &memory);
    nb__axes_attr axes = {{1, {0}}};
    for (int64_t i = 0; i < shape[0] * shape[1]; i++) memory[i] = 0.1f * (float)(1 + i % shape[1]);
    for (int i = 0; i < TEST_ISAS; i++) {
        if (!nb__isa_find(test_isas[i])) continue;
        void   *out;
        nb_call c = {.out = result_array(NB_F32, ROWS, 2, results, &out), .n_in = 1, .in = &in, .attr = &axes};
        assert_true(run_planned(test_isas[i], nb__plan_moments, &c, pools[2]));
        for (int k = 0; k < 19; k++) assert_true(((float *)out)[19 + k] == 0);
        free(out);
    }
    free(memory);
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
        cmocka_unit_test(test_moments),   cmocka_unit_test(test_no_deviation),
    };
    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
