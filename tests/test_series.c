/* test_series.c: series of elementwise instructions give the bits of the rows one after the other, whatever is asked for in
 * between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "draw.h"
#include "kernels.h"

enum { OPERANDS = 4, MOST = 2600, MOST_STEPS = 30, CASES = 400 };

static float any_float(void) {
    static const float special[] = {
        0, -0.0f, 1, -1, 1e38f, -1e38f, 1e-42f, __builtin_inff(), -__builtin_inff(), __builtin_nanf("")};
    return draw_below(6) ? (float)draw_below(4096) * 0x1p-9f - 4 : special[draw_below(sizeof special / sizeof *special)];
}

static const int arithmetic[] = {NB__ROW_add,     NB__ROW_sub,     NB__ROW_mul, NB__ROW_div,
                                 NB__ROW_minimum, NB__ROW_maximum, NB__ROW_exp},
                 alone[] = {NB__ROW_neg,        NB__ROW_abs,   NB__ROW_square, NB__ROW_relu,
                            NB__ROW_leaky_relu, NB__ROW_clamp, NB__ROW_sqrt},
                 comparisons[] = {NB__ROW_less, NB__ROW_less_equal, NB__ROW_greater, NB__ROW_greater_equal, NB__ROW_equal};

/* A value that is there already and of floats: most often the last one. */
static short pick(const nb__region *r) {
    for (;;) {
        int n = r->n_in + r->n_instructions, v = draw_below(3) && r->n_instructions ? n - 1 : (int)draw_below((uint32_t)n);
        if (v < r->n_in || r->instruction[v - r->n_in].dtype == NB_F32) return (short)v;
    }
}

static void add(nb__region *r, int row, nb_dtype dtype, int a, int b, int c) {
    r->instruction[r->n_instructions++] = (nb__instruction){.row = row, .dtype = dtype, .in = {a, b, c}, .store = -1};
}

/* Random work, in which much goes on with what was there before. How many results. */
static int write_region(nb__region *r) {
    int results = 0, steps = 2 + (int)draw_below(MOST_STEPS - 4);
    *r = (nb__region){.n_in = OPERANDS};
    while (r->n_instructions < steps) {
        uint32_t kind = draw_below(6);
        short    a = pick(r), b = pick(r), c = pick(r);
        if (kind == 0) {
            add(r, alone[draw_below(sizeof alone / sizeof *alone)], NB_F32, a, -1, -1);
            r->instruction[r->n_instructions - 1].p = -0.5;
            r->instruction[r->n_instructions - 1].q = 1.75;
        } else if (kind == 1) {
            add(r, comparisons[draw_below(5)], NB_BOOL, a, b, -1);
            if (!draw_below(4)) add(r, NB__ROW_neg, NB_F32, c, -1, -1);
            int at = r->n_in + r->n_instructions - 1;
            while (r->instruction[at - r->n_in].dtype != NB_BOOL) at--;
            add(r, NB__ROW_where, NB_F32, at, pick(r), c);
        } else {
            int row = arithmetic[draw_below(7)];
            add(r, row, NB_F32, a, row == NB__ROW_exp ? -1 : b, -1);
        }
    }
    for (int k = 0; k < r->n_instructions; k++)
        if (r->instruction[k].dtype == NB_F32 && (k == r->n_instructions - 1 || !draw_below(8)))
            r->instruction[k].store = results++;
    return results;
}

static float   operand[OPERANDS][MOST], result[MOST_STEPS][MOST];
static uint8_t expected[MOST_STEPS][MOST * sizeof(float)];

static void run_rows(const nb__isa *isa, const nb__region *r, int64_t n) {
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        const void            *in[3];
        for (int m = 0; m < 3; m++)
            in[m] = ins->in[m] < 0          ? NULL
                    : ins->in[m] < OPERANDS ? (void *)operand[ins->in[m]]
                                            : (void *)expected[ins->in[m] - OPERANDS];
        isa->tiles[ins->row](expected[k], in[0], in[1], in[2], n, ins->p, ins->q, false);
    }
}

/* The last result may lie where an operand does that nothing later reads. */
static int free_operand(const nb__region *r) {
    for (int v = 0; v < OPERANDS; v++) {
        bool is_read = false;
        for (int m = 0; m < 3; m++) is_read |= r->instruction[r->n_instructions - 1].in[m] == v;
        if (is_read) return v;
    }
    return -1;
}

static int count_series(const nb__region *r) {
    nb__instruction list[MOST_STEPS];
    nb__series      series[MOST_STEPS];
    memcpy(list, r->instruction, (size_t)r->n_instructions * sizeof *list);
    return nb__find_series(list, r->n_in, r->in_dtype, r->n_instructions, series);
}

static int check(nb_context *nb, const nb__isa *isa, int64_t n) {
    nb__region r;
    nb_array   in[OPERANDS], out[MOST_STEPS];
    int        results = write_region(&r);
    for (int v = 0; v < OPERANDS; v++) {
        for (int64_t i = 0; i < n; i++) operand[v][i] = any_float();
        in[v] = (nb_array){.data = operand[v], .dtype = NB_F32, .rank = 1, .shape = {n}, .stride = {1}};
    }
    run_rows(isa, &r, n);
    for (int s = 0; s < results; s++) {
        out[s] = in[0];
        out[s].data = result[s];
    }
    int place = free_operand(&r);
    if (place >= 0) out[results - 1].data = operand[place];
    r.space = out[0];
    nb__call call = {.c = {.out = out[0], .n_in = OPERANDS, .in = in}, .n_out = results, .out = out};
    nb__plan plan;
    assert_true(nb__plan_region(nb, isa, &r, &call, 1, &plan));
    void *scratch = nb_alloc(nb, plan.scratch_bytes + 1);
    plan.run(&plan, &call, scratch, NULL);
    for (int k = 0; k < r.n_instructions; k++) {
        int          s = r.instruction[k].store;
        const float *want = (const float *)(void *)expected[k], *got = s >= 0 ? out[s].data : want;
        for (int64_t i = 0; i < n; i++)
            if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(got[i] != got[i] && want[i] != want[i]))
                fail_msg("%s, %d elements: result %d, element %d: %g instead of %g", isa->name, (int)n, s, (int)i, (double)got[i],
                         (double)want[i]);
    }
    nb_free(nb, scratch);
    nb_free(nb, plan.state);
    return count_series(&r);
}

static void same_bits(void **state) {
    static const char *const isas[] = {"baseline", "v3", "v4"};
    const int64_t            sizes[] = {0, 1, 3, 15, 16, 17, 127, 128, 129, 1000, 2600};
    nb_context              *nb = nb_open(NULL);
    (void)state;
    for (int i = 0; i < 3; i++) {
        const nb__isa *isa = nb__isa_find(isas[i]);
        int            series = 0;
        for (int c = 0; isa && c < CASES; c++) series += check(nb, isa, sizes[draw_below(sizeof sizes / sizeof *sizes)]);
        assert_true(!isa || series > CASES);
    }
    nb_close(nb);
}

/* ((a + b) - c) * d as one; parts of it where something else comes between. */
static int series_of(int store_first, int store_between, int read_between) {
    nb__region r = {.n_in = 5};
    add(&r, NB__ROW_add, NB_F32, 0, 1, -1);
    add(&r, NB__ROW_exp, NB_F32, read_between ? 5 : 4, -1, -1);
    add(&r, NB__ROW_sub, NB_F32, 5, 2, -1);
    add(&r, NB__ROW_mul, NB_F32, 3, 7, -1);
    r.instruction[0].store = store_first;
    r.instruction[1].store = store_between;
    r.instruction[3].store = 0;
    nb__series series[4];
    int        n = nb__find_series(r.instruction, r.n_in, r.in_dtype, r.n_instructions, series);
    assert_int_equal(n, 1);
    assert_int_equal(series[0].at, 3);
    assert_int_equal(series[0].step[series[0].n_steps - 1].code, 2 * NB__ROW_mul + 1);
    return series[0].n_steps;
}

static void only_where_it_may(void **state) {
    (void)state;
    assert_int_equal(series_of(-1, -1, 0), 3);
    assert_int_equal(series_of(1, -1, 0), 3);
    assert_int_equal(series_of(-1, 1, 0), 2);
    assert_int_equal(series_of(-1, -1, 1), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(only_where_it_may)};
    return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
