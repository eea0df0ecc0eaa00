/* test_chains.c: chains of instructions (fused.def) give the bits of the rows one after the other, sums of rows but for their
 * rounding, and are only made where they may be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "draw.h"
#include "kernels.h"

enum { END = -100 };

static const struct {
    const char *name;
    int         operands;
    unsigned    usual;
    struct {
        int row, a, b, is_kept;
    } step[NB__CHAIN_VALUES];
} patterns[] = {
#define STEP(row, a, b) {NB__ROW_##row, a, b, 0},
#define KEEP(row, a, b) {NB__ROW_##row, a, b, 1},
#define SUM(a) {NB__SUM, a, -1, 1},
#define FUSED(name, operands, usual, steps) {#name, operands, usual, {steps{END, 0, 0, 0}}},
#include "fused.def"
#undef FUSED
#undef STEP
#undef KEEP
#undef SUM
};
enum { PATTERNS = sizeof patterns / sizeof *patterns, MOST = 3001 };

static const char *const isas[] = {"baseline", "v3", "v4"};

static bool has_one_operand(int row) {
    return row == NB__ROW_square || row == NB__ROW_sqrt || row == NB__ROW_sigmoid || row == NB__ROW_tanh || row == NB__ROW_exp ||
           row == NB__ROW_gelu_tanh;
}

/* The instructions of pattern k, sums and products in either order; every KEEP is a result. How many results. */
static int write_out(int k, nb__region *r) {
    int results = 0;
    *r = (nb__region){.n_in = patterns[k].operands};
    for (int i = 0; patterns[k].step[i].row != END; i++) {
        int             row = patterns[k].step[i].row, a = patterns[k].step[i].a, b = patterns[k].step[i].b;
        nb__instruction ins = {
            .row = row, .dtype = NB_F32, .in = {a, b, -1}, .store = patterns[k].step[i].is_kept ? results++ : -1};
        if ((row == NB__ROW_add || row == NB__ROW_mul) && draw() & 1) ins.in[0] = b, ins.in[1] = a;
        if (has_one_operand(row)) ins.in[1] = -1;
        if (row == NB__SUM) ins.part = NB__ROW;
        r->instruction[r->n_instructions++] = ins;
    }
    return results;
}

static float operand[16][MOST], result[8][MOST], expected[NB__CHAIN_VALUES][MOST];

/* Arrays of the cases: [rows,n] within rows of `pitch` elements. Bit m of ones: operand m is one element; of row_ones: one for
 * each row. */
typedef struct cut {
    int64_t  rows, n, pitch;
    unsigned ones, row_ones;
} cut;

static bool is_one(cut c, int m) { return c.ones >> m & 1; }
static bool is_row(cut c, int m) { return c.row_ones >> m & 1; }

static void run_rows(const nb__isa *isa, const nb__region *r, cut c) {
    int64_t      n = c.rows * c.pitch;
    const void  *value[NB__CHAIN_VALUES];
    static float row[16][MOST];
    for (int m = 0; m < r->n_in; m++) {
        for (int64_t i = 0; i < n; i++) row[m][i] = operand[m][is_one(c, m) ? 0 : is_row(c, m) ? i / c.pitch : i];
        value[m] = row[m];
    }
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        if (ins->row == NB__SUM) continue;
        isa->tiles[ins->row](expected[k], value[ins->in[0]], ins->in[1] < 0 ? NULL : value[ins->in[1]], NULL, n, 0, 0, false);
        value[r->n_in + k] = expected[k];
    }
}

static nb_array array_of(float *data, cut c, bool is_one, bool is_row) {
    nb_array a = {.data = data, .dtype = NB_F32, .rank = 2, .shape = {c.rows, c.n}, .stride = {c.pitch, 1}};
    if (is_one || is_row) a.stride[0] = is_row, a.stride[1] = 0;
    return a;
}

/* Whether the sums of the rows are those of x but for some rounding. */
static bool are_sums(const float *got, const float *x, cut c) {
    for (int64_t i = 0; i < c.rows; i++) {
        double sum = 0, size = 0;
        for (int64_t j = 0; j < c.n; j++) sum += (double)x[i * c.pitch + j], size += fabs((double)x[i * c.pitch + j]);
        if (fabs((double)got[i] - sum) > 1e-6 * size) return false;
    }
    return true;
}

/* Whether result is as expected, and nothing is written between the rows. */
static bool is_as_expected(const float *got, const float *wanted, const float *between, cut c) {
    for (int64_t i = 0; i < c.rows; i++) {
        size_t of_row = (size_t)c.n * sizeof *got, left = (size_t)(c.pitch - c.n) * sizeof *got;
        if (memcmp(got + i * c.pitch, wanted + i * c.pitch, of_row)) return false;
        if (memcmp(got + i * c.pitch + c.n, between + i * c.pitch + c.n, left)) return false;
    }
    return true;
}

static void check(nb_context *nb, const nb__isa *isa, int k, cut c) {
    static float before[MOST];
    nb__region   r;
    int          results = write_out(k, &r), sums = 0;
    int64_t      n = c.rows * c.pitch;
    nb_array     in[16], out[8];
    for (int m = 0; m < r.n_in; m++) {
        for (int64_t i = 0; i < n || i < 1; i++)
            operand[m][i] = (float)(draw() % 4096) * 0x1p-9f + (float)(draw() % 4096) * 0x1p-24f;
        in[m] = array_of(operand[m], c, is_one(c, m), is_row(c, m));
    }
    run_rows(isa, &r, c);
    for (int i = 0; i < r.n_instructions; i++) {
        bool is_sum = r.instruction[i].row == NB__SUM;
        if (r.instruction[i].store >= 0) out[r.instruction[i].store] = array_of(result[r.instruction[i].store], c, false, is_sum);
        sums += is_sum;
    }
    if (sums && c.n < 2) return; /* no rows */
    r.rows = sums ? 2 : 0;
    memset(result, 0x55, sizeof result);
    memset(before, 0x55, sizeof before);
    /* A result over an operand, where elements are its own. */
    if (!is_one(c, 0) && !is_row(c, 0) && !sums) {
        out[results - 1].data = operand[0];
        for (int64_t i = 0; i < c.rows; i++)
            memcpy(operand[0] + i * c.pitch + c.n, before, (size_t)(c.pitch - c.n) * sizeof *before);
    }
    r.space = array_of(NULL, c, false, false);
    nb__call call = {.c = {.out = out[0], .n_in = r.n_in, .in = in}, .n_out = results, .out = out};
    nb__plan plan;
    assert_true(nb__plan_region(nb, isa, &r, &call, 1, &plan));
    void *scratch = nb_alloc(nb, plan.scratch_bytes);
    plan.run(&plan, &call, scratch, NULL);
    for (int i = 0; i < r.n_instructions; i++) {
        int s = r.instruction[i].store;
        if (s < 0) continue;
        bool good = r.instruction[i].row == NB__SUM ? are_sums(out[s].data, expected[r.instruction[i].in[0] - r.n_in], c)
                                                    : is_as_expected(out[s].data, expected[i], before, c);
        if (!good)
            fail_msg("%s, %s, %d rows of %d, ones %#x, %#x: result %d", patterns[k].name, isa->name, (int)c.rows, (int)c.n,
                     c.ones, c.row_ones, s);
    }
    nb_free(nb, scratch);
    nb_free(nb, plan.state);
}

static void check_all(int64_t rows, const int64_t *sizes, int n_sizes, int64_t between) {
    nb_context *nb = nb_open(NULL);
    for (int i = 0; i < 3; i++) {
        const nb__isa *isa = nb__isa_find(isas[i]);
        if (!isa) continue;
        for (int k = 0; k < PATTERNS; k++)
            for (int s = 0; s < n_sizes; s++) {
                const unsigned some[] = {0, patterns[k].usual, 0xa, 1, draw()};
                for (int o = 0; o < 10; o++) {
                    unsigned bits = some[o % 5] & ((1u << patterns[k].operands) - 1);
                    check(nb, isa, k, (cut){rows, sizes[s], sizes[s] + between, o < 5 ? bits : 0, o < 5 ? 0 : bits});
                }
            }
    }
    nb_close(nb);
}

static void same_bits(void **state) {
    (void)state;
    const int64_t sizes[] = {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 1000, 1024, 1025, 3001};
    check_all(1, sizes, sizeof sizes / sizeof *sizes, 0);
}

/* Rows of one after the other: their single elements are read as such, and rows added up. */
static void rows(void **state) {
    (void)state;
    const int64_t sizes[] = {1, 2, 31, 32, 33, 47, 64, 65, 300, 511, 750};
    check_all(4, sizes, sizeof sizes / sizeof *sizes, 0);
}

/* Rows that are parts of longer ones: copied into tiles or out of them, or tiles of their own, which lie in place. */
static void parts_of_rows(void **state) {
    (void)state;
    const int64_t sizes[] = {0, 1, 9, 40, 127, 200, 513, 580};
    check_all(5, sizes, sizeof sizes / sizeof *sizes, 19);
}

static const nb_dtype floats[NB__REGION_MAX];

/* The same instructions in any order in which operands come first. */
static void shuffle(nb__region *r) {
    nb__region from = *r;
    int        number[NB__REGION_MAX]; /* of each value; -1: not yet there */
    for (int v = 0; v < from.n_in + from.n_instructions; v++) number[v] = v < from.n_in ? v : -1;
    for (int k = 0; k < from.n_instructions;) {
        int             i = (int)(draw() % (unsigned)from.n_instructions);
        nb__instruction ins = from.instruction[i];
        bool            is_ready = number[from.n_in + i] < 0;
        for (int m = 0; m < 2; m++) {
            is_ready = is_ready && (ins.in[m] < 0 || number[ins.in[m]] >= 0);
            if (is_ready && ins.in[m] >= 0) ins.in[m] = number[ins.in[m]];
        }
        if (!is_ready) continue;
        number[from.n_in + i] = from.n_in + k;
        r->instruction[k++] = ins;
    }
}

/* Puts a SPLAT of each usual operand before all, and lets the instructions read these. */
static void spread_usual(nb__region *r, unsigned usual) {
    nb__region from = *r;
    int        to[16], n = 0;
    for (int m = 0; m < r->n_in; m++) {
        to[m] = m;
        if (!(usual >> m & 1)) continue;
        to[m] = r->n_in + n;
        r->instruction[n++] = (nb__instruction){.row = NB__SPLAT, .dtype = NB_F32, .in = {m, -1, -1}, .store = -1};
    }
    for (int k = 0; k < from.n_instructions; k++) {
        nb__instruction ins = from.instruction[k];
        for (int m = 0; m < 2; m++)
            if (ins.in[m] >= 0) ins.in[m] = ins.in[m] < r->n_in ? to[ins.in[m]] : ins.in[m] + n;
        r->instruction[n + k] = ins;
    }
    r->n_instructions += n;
}

static void each_is_found(void **state) {
    (void)state;
    nb__chain chain[16];
    for (int k = 0; k < PATTERNS; k++)
        for (int turn = 0; turn < 20; turn++) {
            nb__region r;
            write_out(k, &r);
            shuffle(&r);
            if (r.n_instructions == 1) { /* only of an operand with one element a row */
                assert_int_equal(nb__find_chains(r.instruction, r.n_in, floats, 1, true, chain), 0);
                r.instruction[1] = r.instruction[0];
                r.instruction[0] = (nb__instruction){.row = NB__SPLAT, .dtype = NB_F32, .in = {1, -1, -1}, .store = -1};
                r.instruction[1].in[1] = 2;
                assert_int_equal(nb__find_chains(r.instruction, r.n_in, floats, ++r.n_instructions, true, chain), 1);
                assert_int_equal(chain[0].value[1], 1);
                assert_int_equal(r.instruction[0].row, NB__CHAIN_STEP);
                continue;
            }
            bool has_sums = false, is_series = true;
            for (int i = 0; i < r.n_instructions; i++) {
                has_sums |= r.instruction[i].row == NB__SUM;
                is_series &= nb__is_series_row(r.instruction[i].row) && (!i || nb__reads(&r.instruction[i], r.n_in + i - 1));
            }
            if (is_series) assert_int_equal(nb__find_chains(r.instruction, r.n_in, floats, r.n_instructions, true, chain), 0);
            if (has_sums || is_series) spread_usual(&r, patterns[k].usual);
            assert_int_equal(nb__find_chains(r.instruction, r.n_in, floats, r.n_instructions, true, chain), 1);
            assert_int_equal(chain[0].pattern, k);
            assert_int_equal(chain[0].at, r.n_instructions - 1);
            for (int i = 0; i < r.n_instructions - 1; i++)
                assert_int_equal(r.instruction[i].row, r.instruction[i].store < 0 ? NB__CHAIN_STEP : NB__CHAIN_KEEP);
        }
}

/* How many chains there are in a b + c d with something else done to it. */
static int chains_of(const nb__instruction *list, int n, nb_dtype first) {
    nb__instruction copy[8];
    nb__chain       chain[8];
    nb_dtype        types[4] = {first};
    memcpy(copy, list, (size_t)n * sizeof *list);
    return nb__find_chains(copy, 4, types, n, false, chain);
}

static void only_where_it_may(void **state) {
    (void)state;
    const nb__instruction product = {.row = NB__ROW_mul, .in = {0, 1, -1}, .store = -1},
                          other = {.row = NB__ROW_abs, .in = {3, -1, -1}, .store = 1};
    nb__instruction list[4] = {
        product, {.row = NB__ROW_mul, .in = {2, 3, -1}, .store = -1}, other, {.row = NB__ROW_add, .in = {5, 4, -1}, .store = 0}};
    assert_int_equal(chains_of(list, 4, NB_F32), 0); /* a result is written in between */
    list[2].store = -1;
    assert_int_equal(chains_of(list, 4, NB_F32), 1);
    assert_int_equal(chains_of(list, 4, NB_I32), 0);
    list[2].in[0] = 4; /* somebody else reads the product */
    assert_int_equal(chains_of(list, 4, NB_F32), 0);
    list[2].in[0] = 3;
    list[1].store = 1; /* a product that is not kept is a result */
    assert_int_equal(chains_of(list, 4, NB_F32), 0);
    list[1].store = -1;
    list[3].in[1] = 5; /* it is both operands */
    assert_int_equal(chains_of(list, 4, NB_F32), 0);
    list[3].in[1] = 4;
    list[3].part = NB__ROW; /* of another part */
    assert_int_equal(chains_of(list, 4, NB_F32), 0);
}

/* Of a chain with several results none may be needed before the last one is there. */
static void not_when_needed_before(void **state) {
    (void)state;
    nb__chain  chain[16];
    nb__region r;
    int        k = 0;
    while (strcmp(patterns[k].name, "adam") != 0) k++;
    for (int early = 0; early < 2; early++) {
        write_out(k, &r);
        int last = r.n_instructions - 1, at = early ? last : last + 1, m = r.n_in + 2; /* m' */
        r.instruction[last + 1] = r.instruction[last];
        r.instruction[at] = (nb__instruction){.row = NB__ROW_abs, .dtype = NB_F32, .in = {m, -1, -1}, .store = -1};
        nb__find_chains(r.instruction, r.n_in, floats, r.n_instructions + 1, true, chain);
        assert_int_equal(chain[0].pattern == k, !early);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits),         cmocka_unit_test(rows),
                                       cmocka_unit_test(parts_of_rows),     cmocka_unit_test(each_is_found),
                                       cmocka_unit_test(only_where_it_may), cmocka_unit_test(not_when_needed_before)};
    return cmocka_run_group_tests_name("chains", tests, NULL, NULL);
}
