/* Products, convolutions and pools: every planner on every instruction set of this processor against the operators' reference
 * loops; the same bits for any number of threads; and the threads themselves. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "convolution.h"
#include "kernels.h"
#include "ops.h"
#include "product.h"

static nb_context *nb;
static nb_pool    *pools[3]; /* of 1 (none), 2 and 4 threads */
static int         cases;

/* --------------------------------------------------------------------------------------------------------------------- arrays */

/* Orders of axes in memory, and what else strides can do. */
typedef enum layout { PLAIN, SWAPPED, CHANNELS_LAST, REVERSED, SPACED, REPEATED, LAYOUTS } layout;

typedef struct block {
    float  *memory;
    int64_t floats;
} block;

static uint32_t state;

static float next_value(void) {
    state = state * 1664525u + 1013904223u;
    return (float)((int32_t)(state >> 8) % 2001 - 1000) / 500.0f;
}

static int64_t count(const nb_array *a) {
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= a->shape[i];
    return n;
}

/* Strides of a layout over its own memory, of random values with a guard before and behind. */
static nb_array make_array(nb_dims shape, nb_dtype dtype, layout how, block *b) {
    enum { GUARD = 16 };
    nb_array a = {.dtype = dtype, .rank = (int)shape.rank};
    int      order[NB_MAX_RANK], r = a.rank;
    int64_t  step = how == SPACED ? 2 : 1, last = 0;
    for (int i = 0; i < r; i++) order[i] = i;
    if (how == SWAPPED && r > 1) order[r - 2] = r - 1, order[r - 1] = r - 2;
    if (how == CHANNELS_LAST && r == 4) order[1] = 2, order[2] = 3, order[3] = 1;
    for (int i = r - 1; i >= 0; i--) {
        int d = order[i];
        a.shape[d] = shape.size[d];
        a.stride[d] = how == REPEATED && d == 0 ? 0 : step;
        if (how != REPEATED || d != 0) step *= shape.size[d] > 0 ? shape.size[d] : 1;
        last += shape.size[d] > 0 ? (shape.size[d] - 1) * a.stride[d] : 0;
    }
    b->floats = last + 1 + 2 * GUARD;
    b->memory = aligned_alloc(64, ((size_t)b->floats * sizeof(float) + 63) / 64 * 64);
    assert_non_null(b->memory);
    for (int64_t i = 0; i < b->floats; i++) b->memory[i] = next_value();
    float *data = b->memory + GUARD;
    if (how == REVERSED && r > 0 && a.shape[r - 1] > 0) {
        data += (a.shape[r - 1] - 1) * a.stride[r - 1];
        a.stride[r - 1] = -a.stride[r - 1];
    }
    a.data = data;
    return a;
}

static nb_array dense_like(const nb_array *a, block *b) {
    return make_array(nb_dims_of(a->rank, a->shape), a->dtype, PLAIN, b);
}

/* Whether two memories differ anywhere but in the elements of `a`. */
static bool spilled(const nb_array *a, const block *b, const float *before) {
    int64_t at[NB_MAX_RANK] = {0};
    float  *copy = malloc((size_t)b->floats * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, before, (size_t)b->floats * sizeof *copy);
    if (count(a) > 0) do {
            int64_t i = (float *)a->data - b->memory + nb__offset(a, at);
            copy[i] = b->memory[i];
        } while (nb__next_index(a->rank, a->shape, at));
    bool differ = memcmp(copy, b->memory, (size_t)b->floats * sizeof *copy) != 0;
    free(copy);
    return differ;
}

/* --------------------------------------------------------------------------------------------------------------------- checks */

typedef struct planned {
    const char  *name;
    nb__planner *plan;
} planned;

static void run_plan(const nb__plan *plan, nb__call *call, nb_pool *pool) {
    call->prepared = plan->prepare ? aligned_alloc(64, (plan->prepared_bytes + 63) / 64 * 64) : NULL;
    if (plan->prepare) plan->prepare(plan, call, pool);
    void *scratch = plan->scratch_bytes ? aligned_alloc(64, (plan->scratch_bytes + 63) / 64 * 64) : NULL;
    if (plan->scratch_bytes) {
        assert_non_null(scratch);
        memset(scratch, 0xff, plan->scratch_bytes); /* NaN: what is read must have been written */
    }
    plan->run(plan, call, scratch, pool);
    free(scratch);
    free(call->prepared);
}

static void free_plan(nb__plan *plan) {
    if (plan->free_state) plan->free_state(nb, plan->state);
    else nb_free(nb, plan->state);
}

/* The same bits where operands last from run to run and are prepared. */
static void run_lasting(planned p, const nb__isa *isa, nb__call *call, block *out, const float *first, nb_pool *pool,
                        const char *what) {
    nb__plan plan = {0};
    call->lasting = 3;
    assert_true(p.plan(nb, isa, call, nb__pool_threads(pool), &plan));
    run_plan(&plan, call, pool);
    call->lasting = 0;
    if (memcmp(first, out->memory, (size_t)out->floats * sizeof *first) != 0)
        fail_msg("%s, %s, %s: other bits when prepared", plan.kernel, isa->name, what);
    free_plan(&plan);
}

/* One call by a planner, with 1, 2 and 4 threads, against `exact`; an element may be off by 16 roundings of `size`, the same sum
 * over absolute values. */
static void check_plan(planned p, const nb__isa *isa, nb__call *call, block *out, const nb_array *exact, const nb_array *size,
                       const char *what) {
    nb_array *y = &call->c.out;
    float    *before = malloc((size_t)out->floats * sizeof *before), *first = malloc((size_t)out->floats * sizeof *first);
    assert_non_null(before);
    assert_non_null(first);
    for (int t = 0; t < 3; t++) {
        nb__plan plan = {0};
        for (int64_t i = 0; i < out->floats; i++) out->memory[i] = -77;
        memcpy(before, out->memory, (size_t)out->floats * sizeof *before);
        if (!p.plan(nb, isa, call, nb__pool_threads(pools[t]), &plan)) {
            assert_null(nb_error(nb));
            break; /* the reference runs */
        }
        run_plan(&plan, call, pools[t]);
        if (t == 0) memcpy(first, out->memory, (size_t)out->floats * sizeof *first);
        if (memcmp(first, out->memory, (size_t)out->floats * sizeof *first) != 0)
            fail_msg("%s, %s, %s: other bits with more threads", plan.kernel, isa->name, what);
        run_lasting(p, isa, call, out, first, pools[t], what);
        if (spilled(y, out, before)) fail_msg("%s, %s, %s: writes outside of the result", plan.kernel, isa->name, what);
        int64_t at[NB_MAX_RANK] = {0};
        if (t == 0 && count(y) > 0) do {
                double got = nb__load(y, nb__offset(y, at)), want = nb__load(exact, nb__offset(exact, at));
                double slack = size ? 16 * 1.2e-7 * nb__load(size, nb__offset(size, at)) + 1e-30 : 0;
                if (!(fabs(got - want) <= slack) && !(isnan(got) && isnan(want)))
                    fail_msg("%s, %s, %s: %g instead of %g (slack %g)", plan.kernel, isa->name, what, got, want, slack);
            } while (nb__next_index(y->rank, y->shape, at));
        free_plan(&plan);
        cases++;
    }
    free(before);
    free(first);
}

/* The same operands with absolute values, so that nothing cancels. */
static nb_array absolute(const nb_array *a, block *b) {
    nb_array p = dense_like(a, b);
    int64_t  at[NB_MAX_RANK] = {0};
    if (count(a) > 0) do nb__store(&p, nb__offset(&p, at), fabs(nb__load(a, nb__offset(a, at))));
        while (nb__next_index(a->rank, a->shape, at));
    return p;
}

static void check(const nb_op *op, const planned *plans, int n_plans, int n_in, const nb_dims *shape, const layout *how,
                  nb_dims result, layout out_how, nb_dtype dtype, const void *attr, const char *what) {
    static const char *const isas[] = {"baseline", "v3", "v4"};
    block    b[2], ob, eb, ab[2], sb;
    nb_array in[2], in_abs[2], out = make_array(result, dtype, out_how, &ob);
    nb_array exact = dense_like(&out, &eb), size = dense_like(&out, &sb);
    for (int i = 0; i < n_in; i++) {
        in[i] = make_array(shape[i], NB_F32, how[i], &b[i]);
        in_abs[i] = absolute(&in[i], &ab[i]);
    }
    nb__call call = {.c = {.out = exact, .n_in = n_in, .in = in, .attr = attr}, .n_out = 1};
    op->run(&call.c);
    call.c.out = size;
    call.c.in = in_abs;
    bool is_sum = dtype == NB_F32;
    if (is_sum) op->run(&call.c);
    call.c.out = out;
    call.c.in = in;
    call.out = &call.c.out;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const nb__isa *isa = nb__isa_find(isas[i]);
        for (int p = 0; isa && p < n_plans; p++) check_plan(plans[p], isa, &call, &ob, &exact, is_sum ? &size : NULL, what);
    }
    for (int i = 0; i < n_in; i++) free(b[i].memory), free(ab[i].memory);
    free(ob.memory);
    free(eb.memory);
    free(sb.memory);
}

/* ------------------------------------------------------------------------------------------------------------------- products */

static const planned matmul_plans[] = {{"matmul", nb__plan_matmul}};

static void check_matmul(int64_t batch, int64_t m, int64_t n, int64_t k, layout a, layout b, layout c) {
    char    what[120];
    nb_dims shape[] = {nb_shape(batch, m, k), nb_shape(batch, k, n)};
    snprintf(what, sizeof what, "%d x [%d,%d] x [%d,%d], layouts %d %d %d", (int)batch, (int)m, (int)k, (int)k, (int)n, a, b, c);
    check(&nb__op_matmul, matmul_plans, 1, 2, shape, (layout[]){a, b}, nb_shape(batch, m, n), c, NB_F32, NULL, what);
}

static void products_of_odd_sizes(void **unused) {
    static const int64_t sizes[] = {0, 1, 7, 8, 9, 17, 33, 64};
    (void)unused;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            for (int l = 0; l < 8; l++)
                check_matmul(1, sizes[i], sizes[j], sizes[l], (layout)((i + l) % 2), (layout)((j + l) % 2), PLAIN);
}

static void products_of_any_strides(void **unused) {
    (void)unused;
    for (int a = 0; a < LAYOUTS; a++)
        for (int b = 0; b < LAYOUTS; b++)
            for (int c = 0; c < REPEATED; c++) {
                check_matmul(3, 9, 17, 8, (layout)a, (layout)b, (layout)c);
                check_matmul(2, 1, 33, 19, (layout)a, (layout)b, (layout)c);
                check_matmul(2, 35, 1, 18, (layout)a, (layout)b, (layout)c);
            }
    for (int a = 0; a < LAYOUTS; a++)
        for (int b = 0; b < LAYOUTS; b++) check_matmul(2, 70, 90, 65, (layout)a, (layout)b, a % 2 ? SWAPPED : PLAIN);
}

static void large_products(void **unused) {
    (void)unused;
    check_matmul(1, 64, 256, 784, PLAIN, SWAPPED, PLAIN);
    check_matmul(1, 64, 784, 256, PLAIN, PLAIN, PLAIN);
    check_matmul(1, 256, 784, 64, SWAPPED, PLAIN, PLAIN);
    check_matmul(1, 201, 333, 129, PLAIN, PLAIN, PLAIN);
    check_matmul(1, 333, 65, 600, SWAPPED, SWAPPED, SWAPPED);
    check_matmul(5, 64, 64, 300, PLAIN, SWAPPED, PLAIN);
    check_matmul(40, 33, 33, 33, PLAIN, PLAIN, PLAIN);
    check_matmul(1, 1024, 65, 40, SWAPPED, PLAIN, SWAPPED); /* columns and rows a multiple of a page apart */
    check_matmul(1, 70, 1024, 400, PLAIN, PLAIN, PLAIN);
    for (int i = 0; i < 8; i++) /* many rows: all of B is packed before the tiles */
        check_matmul(1, 530 + i, 137 + i, 390 + 3 * i, (layout)(i % 2), (layout)(i / 2 % 2), (layout)(i / 4));
    check_matmul(16, 110, 48, 1500, SPACED, SPACED, PLAIN); /* a tile has more rows than a packed piece of A */
    for (int i = 0; i < 4; i++) { /* long sums, in pieces */
        check_matmul(1, 41, 35, 1541, i / 2 ? SPACED : PLAIN, (layout)(i % 2), PLAIN);
        check_matmul(1, 515, 67, 1537, i % 2 ? SPACED : PLAIN, (layout)(i / 2), PLAIN);
    }
    check_matmul(1, 150, 560, 70, PLAIN, SPACED, PLAIN);
    check_matmul(1, 1, 1000, 1000, PLAIN, PLAIN, PLAIN);
    check_matmul(1, 1, 1000, 1000, PLAIN, SWAPPED, PLAIN);
    check_matmul(1, 1000, 1, 1000, PLAIN, PLAIN, PLAIN);
    check_matmul(1, 1000, 1, 1000, SWAPPED, PLAIN, PLAIN);
}

/* --------------------------------------------------------------------------------------------------------------- convolutions */

static bool own_forward(nb_context *c, const nb__isa *i, const nb__call *call, int threads, nb__plan *plan) {
    return nb__plan_conv_own(c, i, call, NB__CONV_FORWARD, threads, plan);
}

static bool own_input(nb_context *c, const nb__isa *i, const nb__call *call, int threads, nb__plan *plan) {
    return nb__plan_conv_own(c, i, call, NB__CONV_INPUT, threads, plan);
}

static bool own_weight(nb_context *c, const nb__isa *i, const nb__call *call, int threads, nb__plan *plan) {
    return nb__plan_conv_own(c, i, call, NB__CONV_WEIGHT, threads, plan);
}

typedef struct conv_case {
    int64_t       n, c, h, w, o, kh, kw;
    nb__conv_attr a;
} conv_case;

static void check_conv(const conv_case *q, layout x_how, layout w_how, layout y_how) {
    const planned forward[] = {{"conv2d", nb__plan_conv2d}, {"own", own_forward}};
    const planned input[] = {{"input", nb__plan_conv2d_input_grad}, {"own", own_input}};
    const planned weight[] = {{"weight", nb__plan_conv2d_weight_grad}, {"own", own_weight}};
    nb__conv_attr a = q->a;
    nb_dims       x = nb_shape(q->n, q->c, q->h, q->w), w = nb_shape(q->o, q->c / a.groups, q->kh, q->kw), y;
    char          what[320];
    y = nb_shape(q->n, q->o, (q->h + a.before[0] + a.after[0] - a.dilation[0] * (q->kh - 1) - 1) / a.stride[0] + 1,
                 (q->w + a.before[1] + a.after[1] - a.dilation[1] * (q->kw - 1) - 1) / a.stride[1] + 1);
    snprintf(what, sizeof what, "x %s, weight %s, layouts %d %d %d", nb__dims_text(x).at, nb__dims_text(w).at, x_how, w_how,
             y_how);
    check(&nb__op_conv2d, forward, 2, 2, (nb_dims[]){x, w}, (layout[]){x_how, w_how}, y, y_how, NB_F32, &a, what);
    if (x_how == REPEATED || w_how == REPEATED) return;
    a.other = x;
    check(&nb__op_conv2d_input_grad, input, 2, 2, (nb_dims[]){y, w}, (layout[]){y_how, w_how}, x, x_how, NB_F32, &a, what);
    a.other = w;
    check(&nb__op_conv2d_weight_grad, weight, 2, 2, (nb_dims[]){x, y}, (layout[]){x_how, y_how}, w, w_how, NB_F32, &a, what);
}

#define GEOMETRY(s, p, d, g) {.stride = {s, s}, .before = {p, p}, .after = {p, p}, .dilation = {d, d}, .groups = g}
static const conv_case conv_cases[] = {
    {2, 1, 5, 5, 3, 3, 3, GEOMETRY(1, 1, 1, 1)},
    {3, 3, 9, 7, 8, 3, 3, GEOMETRY(1, 1, 1, 1)},
    {2, 8, 8, 8, 16, 3, 3, GEOMETRY(2, 1, 1, 1)},
    {2, 17, 7, 9, 9, 3, 2, GEOMETRY(1, 0, 1, 1)},
    {2, 6, 9, 9, 4, 3, 3, GEOMETRY(1, 2, 2, 2)},
    {2, 8, 7, 7, 8, 3, 3, GEOMETRY(1, 1, 1, 8)},
    {2, 20, 6, 6, 20, 3, 3, GEOMETRY(1, 1, 1, 4)},
    {3, 16, 6, 5, 24, 1, 1, GEOMETRY(1, 0, 1, 1)},
    {2, 8, 6, 6, 8, 1, 1, GEOMETRY(2, 0, 1, 1)},
    {1, 2, 1, 9, 3, 1, 3, GEOMETRY(1, 0, 1, 1)},
    {2, 3, 9, 1, 4, 3, 1, GEOMETRY(1, 0, 1, 1)},
    {1, 2, 10, 10, 2, 5, 5, GEOMETRY(3, 2, 1, 1)},
    {1, 4, 6, 6, 4, 2, 2, {.stride = {1, 2}, .before = {0, 0}, .after = {1, 1}, .dilation = {1, 1}, .groups = 1}},
    {0, 2, 4, 4, 2, 3, 3, GEOMETRY(1, 1, 1, 1)},
    {2, 0, 4, 4, 2, 3, 3, GEOMETRY(1, 1, 1, 1)},
};

static void convolutions(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++)
        for (int k = 0; k < 2; k++) {
            layout how = k ? CHANNELS_LAST : PLAIN;
            check_conv(&conv_cases[i], how, PLAIN, how);
        }
}

static void convolutions_of_any_strides(void **unused) {
    (void)unused;
    for (int x = 0; x < LAYOUTS; x++)
        for (int y = 0; y < REPEATED; y++) check_conv(&conv_cases[1], (layout)x, (layout)((x + y) % LAYOUTS), (layout)y);
}

static void large_convolutions(void **unused) {
    static const conv_case q[] = {
        {19, 1, 28, 28, 32, 3, 3, GEOMETRY(1, 1, 1, 1)},
        {33, 32, 14, 14, 64, 3, 3, GEOMETRY(1, 1, 1, 1)},
        {5, 3, 32, 32, 24, 5, 5, GEOMETRY(2, 2, 1, 1)},
        {3, 6, 14, 14, 16, 5, 5, GEOMETRY(1, 0, 1, 1)},
        {1, 33, 29, 31, 65, 3, 3, GEOMETRY(1, 1, 1, 1)}, /* one image: strips of rows */
        {1, 16, 40, 40, 48, 3, 3, GEOMETRY(2, 1, 1, 1)},
        {2, 9, 33, 20, 40, 3, 3, GEOMETRY(1, 2, 2, 1)},
        {6, 16, 15, 15, 32, 3, 3, GEOMETRY(2, 1, 1, 1)},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof q / sizeof *q; i++) check_conv(&q[i], i % 2 ? CHANNELS_LAST : PLAIN, PLAIN, CHANNELS_LAST);
}

/* By tiles of 2x2 pixels: odd sizes, margins, layouts, more channels than vectors. */
static void winograd_convolutions(void **unused) {
    static const conv_case q[] = {
        {13, 16, 7, 9, 17, 3, 3, GEOMETRY(1, 1, 1, 1)},  {4, 33, 12, 15, 40, 3, 3, GEOMETRY(1, 0, 1, 1)},
        {5, 20, 11, 11, 31, 3, 3, GEOMETRY(1, 2, 1, 1)}, {2, 17, 20, 21, 16, 3, 3, GEOMETRY(1, 3, 1, 1)},
        {9, 24, 9, 14, 33, 3, 3, {.stride = {1, 1}, .before = {0, 2}, .after = {3, 1}, .dilation = {1, 1}, .groups = 1}},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof q / sizeof *q; i++)
        for (int k = 0; k < 4; k++) check_conv(&q[i], k % 2 ? CHANNELS_LAST : PLAIN, (layout)k, k / 2 ? CHANNELS_LAST : PLAIN);
    for (int x = 0; x < LAYOUTS; x++) check_conv(&q[1], (layout)x, REVERSED, (layout)(x % REPEATED));
}

/* As products: odd sizes, any strides of both images, and what is read and written by way of strips. */
static void pointwise_convolutions(void **unused) {
    static const conv_case small[] = {
        {7, 5, 3, 3, 9, 1, 1, GEOMETRY(1, 0, 1, 1)},   {5, 17, 1, 1, 33, 1, 1, GEOMETRY(1, 0, 1, 1)},
        {2, 1, 4, 9, 1, 1, 1, GEOMETRY(1, 0, 1, 1)},   {1, 15, 1, 7, 31, 1, 1, GEOMETRY(1, 0, 1, 1)},
        {3, 400, 7, 1, 16, 1, 1, GEOMETRY(1, 0, 1, 1)}, {2, 3, 0, 4, 2, 1, 1, GEOMETRY(1, 0, 1, 1)},
    };
    static const conv_case large = {2, 60, 80, 81, 25, 1, 1, GEOMETRY(1, 0, 1, 1)};
    static const conv_case larger = {2, 3, 251, 257, 33, 1, 1, GEOMETRY(1, 0, 1, 1)};
    (void)unused;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        for (int x = 0; x < LAYOUTS; x++)
            for (int y = 0; y < REPEATED; y++) check_conv(&small[i], (layout)x, (layout)((x + y) % LAYOUTS), (layout)y);
    check_conv(&large, PLAIN, PLAIN, CHANNELS_LAST);
    check_conv(&large, CHANNELS_LAST, SWAPPED, PLAIN);
    check_conv(&larger, PLAIN, PLAIN, PLAIN);
}

/* ------------------------------------------------------------------------------------------------------ oneDNN, and no memory */

#if NB_DNNL
void omp_set_num_threads(int n);
int  omp_get_max_threads(void);
#endif

/* A 3x3 convolution of channels-last images as a call; the arrays are static. */
static nb__call usual_call(nb__conv_attr *a) {
    static float    x[4 * 8 * 8 * 8], w[16 * 8 * 3 * 3], y[4 * 16 * 8 * 8];
    static nb_array in[2];
    *a = (nb__conv_attr){.stride = {1, 1}, .before = {1, 1}, .after = {1, 1}, .dilation = {1, 1}, .groups = 1};
    in[0] = (nb_array){x, NB_F32, 4, {4, 8, 8, 8}, {512, 1, 64, 8}};
    in[1] = (nb_array){w, NB_F32, 4, {16, 8, 3, 3}, {72, 9, 3, 1}};
    return (nb__call){.c = {.out = {y, NB_F32, 4, {4, 16, 8, 8}, {1024, 1, 128, 16}}, .n_in = 2, .in = in, .attr = a},
                      .n_out = 1};
}

/* The usual shapes go to oneDNN, whose setting of threads is the host's own. */
static void onednn_is_used_quietly(void **unused) {
    (void)unused;
#if NB_DNNL
    nb__conv_attr a;
    nb__plan      plan;
    nb__call      call = usual_call(&a);
    int           before = omp_get_max_threads();
    omp_set_num_threads(3);
    assert_true(nb__plan_conv2d(nb, nb__isa_find(NULL), &call, 2, &plan));
    assert_string_equal(plan.kernel, "dnnl conv2d");
    run_plan(&plan, &call, pools[1]);
    free_plan(&plan);
    assert_int_equal(omp_get_max_threads(), 3);
    omp_set_num_threads(before);
    assert_non_null(strstr(nb_libraries(), "oneDNN"));
#else
    assert_null(strstr(nb_libraries(), "oneDNN"));
#endif
}

/* The convolutions of the benchmark's net: never by the operator's reference loops. */
static void kernels_of_the_benchmark(void **unused) {
    static const struct {
        int64_t     n, c, size, o;
        const char *kernel;
    } layers[] = {{64, 1, 28, 32, "conv2d"}, {64, 32, 14, 64, "winograd conv2d"}, {1, 32, 14, 64, "conv2d"}};
    static nb__planner *const plans[] = {nb__plan_conv2d, nb__plan_conv2d_input_grad, nb__plan_conv2d_weight_grad};
    (void)unused;
    for (int i = 0; i < 3; i++) {
        int64_t       n = layers[i].n, c = layers[i].c, s = layers[i].size, o = layers[i].o;
        nb__conv_attr a = {.stride = {1, 1}, .before = {1, 1}, .after = {1, 1}, .dilation = {1, 1}, .groups = 1};
        nb_array      x = {NULL, NB_F32, 4, {n, c, s, s}, {c * s * s, 1, s * c, c}};
        nb_array      w = {NULL, NB_F32, 4, {o, c, 3, 3}, {c * 9, 9, 3, 1}};
        nb_array      y = {NULL, NB_F32, 4, {n, o, s, s}, {o * s * s, 1, s * o, o}};
        nb_array      in[3][2] = {{x, w}, {y, w}, {x, y}}, out[3] = {y, x, w};
        for (int kind = 0; kind < 3; kind++) {
            nb__call call = {.c = {.out = out[kind], .n_in = 2, .in = in[kind], .attr = &a}, .n_out = 1};
            nb__plan plan = {0};
            assert_true(plans[kind](nb, nb__isa_find(NULL), &call, 2, &plan));
            assert_memory_equal(plan.kernel, layers[i].kernel, strlen(layers[i].kernel));
            free_plan(&plan);
        }
    }
}

#if NB_DNNL
int dnnl_get_primitive_cache_capacity(int *capacity);
#endif

/* oneDNN keeps the primitives of the process in a cache of its own, which is bounded; it is left as it was. */
static void the_primitive_cache_is_bounded(void **unused) {
    (void)unused;
#if NB_DNNL
    int capacity = -1;
    assert_int_equal(dnnl_get_primitive_cache_capacity(&capacity), 0);
    assert_in_range(capacity, 1, 1024);
#endif
}

typedef struct short_memory {
    int left, live;
} short_memory;

static void *take(void *user, size_t size) {
    short_memory *m = user;
    if (m->left-- <= 0) return NULL;
    m->live++;
    return malloc(size);
}

static void give(void *user, void *pointer) {
    ((short_memory *)user)->live -= pointer != NULL;
    free(pointer);
}

/* The n-th allocation fails, for every n: an error and no leak. */
static void planning_without_memory(void **unused) {
    (void)unused;
    nb__conv_attr a;
    nb__call      conv = usual_call(&a);
    float         m[64 * 64];
    nb_array      in[] = {{m, NB_F32, 2, {64, 64}, {64, 1}}, {m, NB_F32, 2, {64, 64}, {64, 1}}};
    nb__call      product = {.c = {.out = in[0], .n_in = 2, .in = in}, .n_out = 1};
    for (int n = 0, whole = 0; !whole; n++) {
        short_memory memory = {.left = n};
        nb_allocator allocator = {take, give, &memory};
        nb_context  *c = nb_open(&(nb_options){.allocator = &allocator});
        whole = c && !nb_error(c);
        for (int i = 0; c && i < 2 && whole; i++) {
            static nb__planner *const plans[] = {nb__plan_conv2d, nb__plan_matmul};
            nb__plan                  plan;
            whole = plans[i](c, nb__isa_find(NULL), i ? &product : &conv, 2, &plan);
            if (!whole) assert_int_equal(nb_error_status(c), NB_NO_MEMORY);
            else if (plan.free_state) plan.free_state(c, plan.state);
            else nb_free(c, plan.state);
        }
        nb_close(c);
        assert_int_equal(memory.live, 0);
        assert_true(n < 1000);
    }
}

/* -------------------------------------------------------------------------------------------------------------------- threads */

typedef struct tally {
    atomic_int at[64];
    nb_pool   *pool;
    atomic_int wrong;
} tally;

static void inner(void *arg, int64_t tile, int thread) {
    tally *t = arg;
    (void)tile;
    if (thread < 0 || thread >= nb__pool_threads(t->pool)) atomic_fetch_add(&t->wrong, 1);
}

static void count_tile(void *arg, int64_t tile, int thread) {
    tally *t = arg;
    atomic_fetch_add(&t->at[tile], 1);
    if (thread < 0 || thread >= nb__pool_threads(t->pool)) atomic_fetch_add(&t->wrong, 1);
    if (tile % 16 == 3) nb__parallel(t->pool, 3, inner, t); /* from within: runs here */
}

/* Returns what went wrong, or NULL. */
static const char *many_calls(nb_pool *pool) {
    for (int i = 0; i < 4000; i++) {
        tally t = {.pool = pool};
        int   tiles = i % 64;
        nb__parallel(pool, tiles, count_tile, &t);
        for (int k = 0; k < 64; k++)
            if (atomic_load(&t.at[k]) != (k < tiles)) return "a tile was lost or run twice";
        if (atomic_load(&t.wrong)) return "a thread's number is out of range";
        if (i % 1000 == 999) { /* let the workers fall asleep */
            struct timespec pause = {.tv_nsec = 5000000};
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

typedef struct caller {
    nb_pool    *pool;
    const char *told;
} caller;

static void *call_elsewhere(void *arg) {
    caller *c = arg;
    c->told = many_calls(c->pool);
    return NULL;
}

static void threads_shared_by_two(void **unused) {
    (void)unused;
    for (int n = 1; n <= 5; n++) {
        caller    there = {.pool = nb_pool_new(n)};
        pthread_t other;
        assert_non_null(there.pool);
        assert_int_equal(pthread_create(&other, NULL, call_elsewhere, &there), 0);
        const char *here = many_calls(there.pool);
        pthread_join(other, NULL);
        nb_pool_free(there.pool);
        if (here || there.told) fail_msg("%d threads: %s", n, here ? here : there.told);
    }
    assert_int_equal(nb__pool_threads(NULL), 1);
    assert_null(nb_pool_new(0));
    nb_pool_free(NULL);
}

#if defined(__x86_64__)
#include <xmmintrin.h>
static void state_of(void *arg, int64_t tile, int thread) {
    (void)thread;
    ((unsigned *)arg)[tile] = _mm_getcsr() & ~0x3fu; /* without the flags of what has happened */
}

static void rounding_is_the_default(void **unused) {
    unsigned at[64], host = _mm_getcsr();
    (void)unused;
    _mm_setcsr(host | 0x8040); /* flush to zero, denormals are zero */
    unsigned before = nb__float_enter();
    nb__parallel(pools[2], 64, state_of, at);
    nb__float_leave(before);
    assert_int_equal(_mm_getcsr() & 0x8040, 0x8040);
    _mm_setcsr(host);
    for (int i = 0; i < 64; i++) assert_int_equal(at[i], 0x1f80);
}
#else
static void rounding_is_the_default(void **unused) { (void)unused; }
#endif

static int open_all(void **unused) {
    (void)unused;
    nb = nb_open(NULL);
    pools[1] = nb_pool_new(2);
    pools[2] = nb_pool_new(4);
    return nb && pools[1] && pools[2] ? 0 : -1;
}

static int close_all(void **unused) {
    (void)unused;
    print_message("%d runs of plans compared\n", cases);
    nb_pool_free(pools[1]);
    nb_pool_free(pools[2]);
    nb_close(nb);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_odd_sizes),
        cmocka_unit_test(products_of_any_strides),
        cmocka_unit_test(large_products),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(convolutions_of_any_strides),
        cmocka_unit_test(large_convolutions),
        cmocka_unit_test(pointwise_convolutions),
        cmocka_unit_test(winograd_convolutions),
        cmocka_unit_test(threads_shared_by_two),
        cmocka_unit_test(rounding_is_the_default),
        cmocka_unit_test(onednn_is_used_quietly),
        cmocka_unit_test(kernels_of_the_benchmark),
        cmocka_unit_test(the_primitive_cache_is_bounded),
        cmocka_unit_test(planning_without_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
