/* test_kernels_elementwise.c: the elementwise tiles of every instruction set, regions, copies and random numbers against the
 * reference. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "elementwise.h"
#include "draw.h"
#include "kernels.h"

static const char *const isas[] = {"baseline", "v3", "v4"};
enum { ISAS = 3 };

static const struct {
    const char *name;
    int         operands, parameters;
    char        types;
    const char *result;
    float       low, high;
} rows[] = {
#define ROW(name, operands, parameters, types, result, formula, da, db, dc, math, gradient, low, high) \
    {#name, operands, parameters, #types[0], #result, low, high},
#include "elementwise.def"
#undef ROW
};

static bool makes_bool(int row) { return rows[row].result[0] == 'B'; }
static bool takes_bool(int row, int operand) { return rows[row].types == 'B' || (rows[row].types == 'W' && operand == 0); }

/* One unit in the last place of a float near v. */
static double ulp(double v) {
    int e;
    v = fmin(fabs(v), FLT_MAX);
    frexp(v, &e);
    return ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

/* Infinity, NaN and overflow agree. */
static bool same_edge(float got, double expected) {
    if (isnan(got) || isnan(expected)) return isnan(got) && isnan(expected);
    return got == (float)expected || (fabs(expected) > 0.9999999 * FLT_MAX && fabsf(got) > 0.9999999f * FLT_MAX);
}

/* --------------------------------------------------------------------------------------------------- every row, every size -- */

enum { MOST = 1040 };
typedef union buffer {
    float   f[MOST];
    uint8_t b[MOST];
} buffer;

static const float edges[] = {0,       -0.0f,    1,         -1,      0.5f, INFINITY, -INFINITY, NAN,
                              FLT_MIN, -FLT_MIN, 0x1p-149f, FLT_MAX, 3,    -3,       2,         100};
enum { EDGES = sizeof edges / sizeof *edges };

static void fill_operand(int row, int operand, buffer *x, int n, bool with_edges) {
    for (int i = 0; i < n; i++) {
        if (takes_bool(row, operand)) x->b[i] = draw() & 1;
        else if (with_edges && i < EDGES * EDGES) x->f[i] = edges[operand % 2 ? i % EDGES : i / EDGES];
        else x->f[i] = draw_between(rows[row].low, rows[row].high);
    }
}

static double element(int row, int operand, const buffer *x, int i) { return takes_bool(row, operand) ? x->b[i] : x->f[i]; }

static void check_size(int row, const nb__isa *isa, int n, bool with_edges) {
    static buffer in[3], out, one;
    const void   *at[3] = {NULL, NULL, NULL};
    double        p = rows[row].parameters == 2 ? -0.5 : 0.25, q = 1.25;
    size_t        size = makes_bool(row) ? 1 : 4;
    for (int k = 0; k < rows[row].operands; k++) {
        fill_operand(row, k, &in[k], n, with_edges);
        at[k] = &in[k];
    }
    memset(&out, 0x55, sizeof out);
    isa->tiles[row](&out, at[0], at[1], at[2], n, p, q, false);
    const uint8_t *bytes = (const uint8_t *)&out;
    for (size_t i = (size_t)n * size; i < ((size_t)n + 8) * size; i++)
        assert_int_equal(bytes[i], 0x55); /* not one element too many */
    for (int i = 0; i < n; i++) {
        double v[3] = {0};
        for (int k = 0; k < rows[row].operands; k++) v[k] = element(row, k, &in[k], i);
        double expected = nb__row_real(row, v[0], v[1], v[2], p, q), got = makes_bool(row) ? out.b[i] : out.f[i];
        double spare = rows[row].types == 'F' && rows[row].operands == 1 ? 0x1p-22 : 0;
        if (row == NB__ROW_gelu_tanh_grad) spare = 0x1p-22 * fabs(v[1]);
        bool   good = makes_bool(row) || !isfinite((float)expected)
                          ? same_edge((float)got, expected)
                          : fabs(got - expected) <= 4 * ulp(expected) + spare;
        if (!good) fail_msg("%s %s(%a, %a, %a) is %a, not %a", isa->name, rows[row].name, v[0], v[1], v[2], got, expected);
        /* The same bits wherever an element stands. */
        const void *alone[3] = {NULL, NULL, NULL};
        for (int k = 0; k < rows[row].operands; k++) alone[k] = takes_bool(row, k) ? (void *)&in[k].b[i] : (void *)&in[k].f[i];
        isa->tiles[row](&one, alone[0], alone[1], alone[2], 1, p, q, false);
        bool is_nan = !makes_bool(row) && isnan(out.f[i]); /* whose sign and payload say nothing */
        if (!is_nan && memcmp(bytes + (size_t)i * size, &one, size))
            fail_msg("%s %s: element %d of %d", isa->name, rows[row].name, i, n);
    }
}

static void test_sizes(void **state) {
    (void)state;
    const int sizes[] = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000};
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        for (int row = 0; row < NB__ROWS; row++) {
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_size(row, isa, sizes[i], false);
            check_size(row, isa, EDGES * EDGES, true);
        }
    }
}

static void test_in_place(void **state) {
    (void)state;
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        for (int row = 0; row < NB__ROWS; row++) {
            static buffer in[3], expected;
            if (makes_bool(row) || takes_bool(row, 0)) continue;
            for (int m = 0; m < rows[row].operands; m++) fill_operand(row, m, &in[m], 1000, false);
            isa->tiles[row](&expected, &in[0], &in[1], &in[2], 1000, 0.25, 1.25, false);
            isa->tiles[row](&in[0], &in[0], &in[1], &in[2], 1000, 0.25, 1.25, false);
            assert_memory_equal(&expected, &in[0], 1000 * sizeof(float));
        }
    }
}

/* ----------------------------------------------------------------------------------------------------------------- regions -- */

/* Row-major, then with its axes in another order: order[i] is the axis that is i-th in memory, outermost first. */
static nb_array array_of(void *data, nb_dtype dtype, int rank, const int64_t *shape, const int *order) {
    nb_array a = {.data = data, .dtype = dtype, .rank = rank};
    int64_t  stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        a.stride[axis] = stride;
        stride *= shape[axis];
    }
    for (int i = 0; i < rank; i++) a.shape[i] = shape[i];
    return a;
}

/* Stride 0 along the axes of a mask. */
static nb_array repeated(nb_array a, unsigned mask) {
    int64_t stride = 1;
    for (int i = a.rank - 1; i >= 0; i--) {
        a.stride[i] = mask >> i & 1 ? 0 : stride;
        if (!(mask >> i & 1)) stride *= a.shape[i];
    }
    return a;
}

static const nb_op *operator_of(const nb__instruction *ins) {
    return ins->row == NB__CAST ? &nb__op_cast : &nb__elementwise[ins->row];
}

enum { SPACE = 40000 };
static uint8_t operand_data[4][SPACE * 8], result_data[2][2][SPACE * 4];
static float   between[NB__REGION_MAX][SPACE];

/* The same instructions, one after the other over the whole space, by the operators' reference; f32 between them. */
static void run_naively(const nb__region *region, const nb__call *call, int64_t count) {
    nb_array value[2 * NB__REGION_MAX];
    for (int i = 0; i < region->n_in; i++) value[i] = call->c.in[i];
    for (int k = 0; k < region->n_instructions; k++) {
        const nb__instruction *ins = &region->instruction[k];
        const nb_op           *op = operator_of(ins);
        nb_array               in[3], out = array_of(between[k], ins->dtype, call->c.out.rank, call->c.out.shape, NULL);
        for (int m = 0; m < op->arity; m++) in[m] = value[ins->in[m]];
        nb__scalars   scalars = {ins->p, ins->q};
        nb__cast_attr cast = {ins->dtype};
        assert_true(count <= SPACE);
        op->run(
            &(nb_call){.out = out, .n_in = op->arity, .in = in, .attr = ins->row == NB__CAST ? (void *)&cast : (void *)&scalars});
        if (ins->store >= 0) nb__copy_elements(&call->out[ins->store], &out);
        value[region->n_in + k] = out;
    }
}

/* y0 = where(a > b, tanh(a * c), float(d)) and y1 = a > b: f32, bool and i64 operands, a value used twice, two results. */
static const nb__region mixed = {
    .n_in = 4,
    .n_instructions = 5,
    .in_dtype = {NB_F32, NB_F32, NB_F32, NB_I64},
    .instruction = {{.row = NB__ROW_greater, .dtype = NB_BOOL, .in = {0, 1, -1}, .store = 1},
                    {.row = NB__ROW_mul, .dtype = NB_F32, .in = {0, 2, -1}, .store = -1},
                    {.row = NB__ROW_tanh, .dtype = NB_F32, .in = {5, -1, -1}, .store = -1},
                    {.row = NB__CAST, .dtype = NB_F32, .in = {3, -1, -1}, .store = -1},
                    {.row = NB__ROW_where, .dtype = NB_F32, .in = {4, 6, 7}, .store = 0}},
};

static void check_region(nb_context *nb, nb_pool *pool, const nb__isa *isa, const int64_t *shape, const int *order_out,
                         const int *order_a, unsigned mask_b, unsigned mask_c, unsigned mask_d) {
    int64_t count = shape[0] * shape[1] * shape[2];
    for (int64_t i = 0; i < count; i++) {
        for (int k = 0; k < 3; k++) ((float *)operand_data[k])[i] = draw_between(-2, 2);
        ((float *)operand_data[2])[count + i] = draw_between(-2, 2);
        ((int64_t *)operand_data[3])[i] = (int64_t)(draw() % 7) - 3;
    }
    nb_array in[4] = {array_of(operand_data[0], NB_F32, 3, shape, order_a),
                      repeated(array_of(operand_data[1], NB_F32, 3, shape, NULL), mask_b),
                      repeated(array_of(operand_data[2], NB_F32, 3, shape, NULL), mask_c),
                      repeated(array_of(operand_data[3], NB_I64, 3, shape, NULL), mask_d)};
    for (int i = 0; i < 3; i++) in[2].stride[i] *= 2; /* one with gaps */
    nb_array out[2][2];
    nb__call call[2];
    memset(result_data, 0x55, sizeof result_data);
    for (int k = 0; k < 2; k++) {
        out[k][0] = array_of(result_data[k][0], NB_F32, 3, shape, order_out);
        out[k][1] = array_of(result_data[k][1], NB_BOOL, 3, shape, NULL);
        call[k] = (nb__call){.c = {.out = out[k][0], .n_in = 4, .in = in}, .n_out = 2, .out = out[k]};
    }
    nb__plan plan;
    int      threads = nb__pool_threads(pool);
    nb__region region = mixed;
    region.space = out[0][0];
    assert_true(nb__plan_region(nb, isa, &region, &call[0], threads, &plan));
    void *scratch = nb_alloc(nb, plan.scratch_bytes);
    plan.run(&plan, &call[0], scratch, pool);
    run_naively(&mixed, &call[1], count);
    for (int64_t i = 0; i < SPACE; i++) {
        float got = ((float *)result_data[0][0])[i], expected = ((float *)result_data[1][0])[i];
        if (!(fabsf(got - expected) <= 2e-6f) && memcmp(&got, &expected, 4))
            fail_msg("element %d: %a, not %a", (int)i, got, expected);
    }
    assert_memory_equal(result_data[0][1], result_data[1][1], sizeof result_data[0][1]);
    nb_free(nb, scratch);
    nb_free(nb, plan.state);
}

static void test_regions(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    nb_pool      *pool = nb_pool_new(3);
    const int64_t shapes[][3] = {{2, 3, 4},    {1, 1, 1},     {0, 3, 4},    {5, 1, 7},     {3, 5, 2000},
                                 {40, 30, 30}, {1, 1, 33333}, {7, 1024, 3}, {20, 1, 1025}, {6, 64, 16}};
    const int     orders[][3] = {{0, 1, 2}, {0, 2, 1}, {2, 1, 0}};
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int o = 0; o < 3; o++)
                for (int a = 0; a < 3; a++) {
                    check_region(nb, i % 2 ? pool : NULL, isa, shapes[i], orders[o], orders[a], 3, 7, 4);
                    check_region(nb, i % 2 ? NULL : pool, isa, shapes[i], orders[o], orders[a], 5, 3, 0);
                    check_region(nb, pool, isa, shapes[i], orders[o], orders[a], 1, 4, 0); /* many rows that repeat */
                }
    }
    nb_pool_free(pool);
    nb_close(nb);
}

/* The same bits for any number of threads. */
static void test_region_threads(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    const int64_t shape[] = {10, 4, 1000};
    const int     order[] = {0, 2, 1};
    static float  expected[SPACE];
    for (int threads = 1; threads <= 4; threads++) {
        nb_pool *pool = nb_pool_new(threads);
        random_state = 99;
        check_region(nb, pool, nb__isa_find(NULL), shape, order, order, 5, 3, 2);
        if (threads == 1) memcpy(expected, result_data[0][0], sizeof expected);
        assert_memory_equal(expected, result_data[0][0], sizeof expected);
        nb_pool_free(pool);
    }
    nb_close(nb);
}

/* A long chain: as many instructions as there may be. */
static void test_region_chain(void **state) {
    (void)state;
    nb_context       *nb = nb_open(NULL);
    static nb__region region = {.n_in = 1, .n_instructions = NB__REGION_MAX, .in_dtype = {NB_F32}};
    static float      x[3000], y[3000];
    const int64_t     shape[] = {3000};
    for (int k = 0; k < NB__REGION_MAX; k++)
        region.instruction[k] =
            (nb__instruction){.row = NB__ROW_add, .dtype = NB_F32, .in = {k, 0, -1}, .store = k == NB__REGION_MAX - 1 ? 0 : -1};
    for (int i = 0; i < 3000; i++) x[i] = (float)(i % 17);
    nb_array in = array_of(x, NB_F32, 1, shape, NULL), out = array_of(y, NB_F32, 1, shape, NULL);
    nb__call call = {.c = {.out = out, .n_in = 1, .in = &in}, .n_out = 1, .out = &out};
    nb__plan plan;
    region.space = out;
    assert_true(nb__plan_region(nb, nb__isa_find(NULL), &region, &call, 1, &plan));
    void *scratch = nb_alloc(nb, plan.scratch_bytes);
    plan.run(&plan, &call, scratch, NULL);
    for (int i = 0; i < 3000; i++) assert_true(y[i] == (float)(NB__REGION_MAX + 1) * x[i]);
    nb_free(nb, scratch);
    nb_free(nb, plan.state);
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------------- casts -- */

static void fill_any(nb_array *x, int64_t i) {
    static const double hard[] = {0,
                                  -0.0,
                                  0.5,
                                  -0.5,
                                  255,
                                  256,
                                  255.9,
                                  -1,
                                  2147483647,
                                  2147483648.0,
                                  -2147483648.0,
                                  -2147483649.0,
                                  1e10,
                                  -1e10,
                                  9223372036854775807.0,
                                  -9223372036854775808.0,
                                  1e30,
                                  -1e30,
                                  INFINITY,
                                  -INFINITY,
                                  NAN,
                                  1e-40,
                                  16777217,
                                  1e300};
    enum { HARD = sizeof hard / sizeof *hard };
    double v = i % 3 ? hard[draw() % HARD] : (double)draw_between(-300, 300);
    if (x->dtype == NB_F32 || x->dtype == NB_F64) nb__store(x, i, v);
    else nb__store_int(x, i, (int64_t)((uint64_t)draw() << 32 | draw()) >> draw() % 60);
    if (x->dtype == NB_BOOL) ((uint8_t *)x->data)[i] = draw() & 1;
}

static void check_cast(nb_context *nb, nb_pool *pool, const nb__isa *isa, nb_dtype from, nb_dtype to, const int64_t *shape,
                       const int *order, unsigned mask) {
    static uint8_t source[SPACE * 8], result[2][SPACE * 8];
    nb_array       in = array_of(source, from, 3, shape, order), out[2];
    nb__call       call[2];
    nb__cast_attr  attr = {to};
    int64_t        count = shape[0] * shape[1] * shape[2];
    for (int64_t i = 0; i < count; i++) fill_any(&in, i);
    if (mask) in = repeated(in, mask);
    memset(result, 0x55, sizeof result);
    for (int k = 0; k < 2; k++) {
        out[k] = array_of(result[k], to, 3, shape, NULL);
        call[k] = (nb__call){.c = {.out = out[k], .n_in = 1, .in = &in, .attr = &attr}, .n_out = 1, .out = &out[k]};
    }
    nb__plan plan;
    assert_true(nb__plan_cast(nb, isa, &call[0], nb__pool_threads(pool), &plan));
    plan.run(&plan, &call[0], NULL, pool);
    nb__op_cast.run(&call[1].c);
    for (int64_t i = 0; i < count; i++) {
        double got = nb__load(&out[0], i), expected = nb__load(&out[1], i);
        if (got != expected && !(isnan(got) && isnan(expected)))
            fail_msg("%s: %s to %s, element %d: %.17g, not %.17g", isa->name, nb_dtype_name(from), nb_dtype_name(to), (int)i, got,
                     expected);
    }
    size_t used = (size_t)count * nb_dtype_size(to);
    assert_memory_equal(result[0] + used, result[1] + used, sizeof result[0] - used);
    nb_free(nb, plan.state);
}

static void test_casts(void **state) {
    (void)state;
    nb_context   *nb = nb_open(NULL);
    nb_pool      *pool = nb_pool_new(2);
    const int64_t shapes[][3] = {{2, 3, 4}, {1, 1, 1}, {0, 3, 4}, {1, 1, 31}, {17, 33, 19}, {1, 1, 40000}};
    const int     other[] = {2, 0, 1};
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        for (int from = 0; from < NB__CAST_TYPES; from++)
            for (int to = 0; to < NB__CAST_TYPES; to++)
                for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                    for (unsigned how = 0; how < 3; how++)
                        check_cast(nb, how ? pool : NULL, isa, (nb_dtype)from, (nb_dtype)to, shapes[i], how == 1 ? other : NULL,
                                   how == 2 ? 5 : 0);
    }
    nb_pool_free(pool);
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------------------------ copies -- */

static void check_copy(nb_context *nb, nb_pool *pool, nb_dtype dtype, const int64_t *shape, const int *to, const int *from,
                       unsigned mask, bool flipped) {
    static uint8_t source[SPACE * 8], result[2][SPACE * 8];
    for (size_t i = 0; i < sizeof source; i++) source[i] = (uint8_t)draw();
    nb_array in = array_of(source, dtype, 3, shape, from), out[2];
    if (mask) in = repeated(in, mask);
    if (flipped && shape[1] > 0) {
        in.data = (char *)in.data + in.stride[1] * (shape[1] - 1) * (int64_t)nb_dtype_size(dtype);
        in.stride[1] = -in.stride[1];
    }
    memset(result, 0x55, sizeof result);
    nb__call call[2];
    for (int k = 0; k < 2; k++) {
        out[k] = array_of(result[k], dtype, 3, shape, to);
        call[k] = (nb__call){.c = {.out = out[k], .n_in = 1, .in = &in}, .n_out = 1, .out = &out[k]};
    }
    nb__plan plan;
    assert_true(nb__plan_copy(nb, nb__isa_find(NULL), &call[0], nb__pool_threads(pool), &plan));
    plan.run(&plan, &call[0], NULL, pool);
    nb__copy_elements(&out[1], &in);
    assert_memory_equal(result[0], result[1], sizeof result[0]);
    nb_free(nb, plan.state);
}

static void test_copies(void **state) {
    (void)state;
    nb_context    *nb = nb_open(NULL);
    nb_pool       *pool = nb_pool_new(2);
    const int64_t  shapes[][3] = {{2, 3, 4}, {1, 1, 1}, {0, 3, 4}, {17, 33, 19}, {1, 1, 40000}, {1, 200, 200}, {3, 2, 5000}};
    const int      orders[][3] = {{0, 1, 2}, {0, 2, 1}, {2, 1, 0}, {1, 2, 0}};
    const nb_dtype types[] = {NB_F32, NB_BOOL, NB_I64};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 3; t++)
            for (int to = 0; to < 4; to++)
                for (int from = 0; from < 4; from++)
                    for (unsigned mask = 0; mask < 8; mask++)
                        check_copy(nb, mask & 1 ? pool : NULL, types[t], shapes[i], orders[to], orders[from], mask,
                                   mask % 3 == 0);
    nb_pool_free(pool);
    nb_close(nb);
}

/* ---------------------------------------------------------------------------------------------------------- random numbers -- */

/* Of the authors' own tests (Random123, kat_vectors). */
static void test_philox(void **state) {
    (void)state;
    static const uint32_t known[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        nb__philox(known[i], known[i] + 4, out);
        assert_memory_equal(out, known[i] + 6, sizeof out);
    }
}

static void test_random_kernels(void **state) {
    (void)state;
    nb_context  *nb = nb_open(NULL);
    nb_pool     *pool = nb_pool_new(2);
    static float y[SPACE], expected[SPACE];
    for (int k = 0; k < ISAS; k++) {
        const nb__isa *isa = nb__isa_find(isas[k]);
        if (!isa) continue;
        for (int is_normal = 0; is_normal < 2; is_normal++)
            for (int64_t n = 0; n <= SPACE; n = n < 9 ? n + 1 : 4 * n + 3) {
                nb__create_attr attr = {.dtype = NB_F32, .shape = nb_shape(n), .p = -1, .q = 2};
                nb_array        out = array_of(expected, NB_F32, 1, &n, NULL);
                nb_call         call = {.out = out, .attr = &attr, .key = {7, 8}, .counter = UINT64_C(0x123456789abc)};
                (is_normal ? &nb__op_normal : &nb__op_uniform)->run(&call);
                call.out.data = y;
                nb__call call2 = {.c = call, .n_out = 1, .out = &call.out};
                nb__plan plan;
                assert_true((is_normal ? nb__plan_normal : nb__plan_uniform)(nb, isa, &call2, 2, &plan));
                plan.run(&plan, &call2, NULL, pool);
                for (int64_t i = 0; i < n; i++) {
                    if (is_normal) assert_true(fabsf(y[i] - expected[i]) <= 4e-6f);
                    else assert_true(y[i] == expected[i] && y[i] >= -1 && y[i] < 2);
                }
                nb_free(nb, plan.state);
            }
    }
    nb_pool_free(pool);
    nb_close(nb);
}

/* Moments and the share within one deviation. */
static void test_distributions(void **state) {
    (void)state;
    enum { N = 30000 };
    static float    y[N];
    const int64_t   n = N;
    nb__create_attr attr = {.dtype = NB_F32, .shape = nb_shape(N), .p = 3, .q = 5};
    nb_call         call = {.out = array_of(y, NB_F32, 1, &n, NULL), .attr = &attr, .key = {1, 2}};
    double          mean = 0, variance = 0;
    int             within = 0;
    nb__op_normal.run(&call);
    for (int i = 0; i < N; i++) mean += y[i] / N;
    for (int i = 0; i < N; i++) variance += (y[i] - mean) * (y[i] - mean) / N;
    for (int i = 0; i < N; i++) within += fabsf(y[i] - 3) < 5;
    assert_true(fabs(mean - 3) < 0.1 && fabs(variance - 25) < 0.8 && fabs(within / (double)N - 0.6827) < 0.01);
    nb__op_uniform.run(&call);
    mean = variance = 0;
    for (int i = 0; i < N; i++) mean += y[i] / N;
    for (int i = 0; i < N; i++) variance += (y[i] - mean) * (y[i] - mean) / N;
    assert_true(fabs(mean - 4) < 0.02 && fabs(variance - 4 / 12.0) < 0.01);
    static int64_t order[N];
    static bool    seen[N];
    call.out = array_of(order, NB_I64, 1, &n, NULL);
    nb__op_randperm.run(&call);
    int in_place = 0;
    for (int i = 0; i < N; i++) {
        assert_true(order[i] >= 0 && order[i] < N && !seen[order[i]]);
        seen[order[i]] = true;
        in_place += order[i] == i;
    }
    assert_true(in_place < 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_in_place),     cmocka_unit_test(test_regions),
        cmocka_unit_test(test_region_threads), cmocka_unit_test(test_region_chain), cmocka_unit_test(test_casts),
        cmocka_unit_test(test_copies),         cmocka_unit_test(test_philox),       cmocka_unit_test(test_random_kernels),
        cmocka_unit_test(test_distributions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
