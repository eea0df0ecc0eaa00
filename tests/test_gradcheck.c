/* test_gradcheck.c: all operators pass their gradient checks, and the checks catch derivatives that are wrong. */
#include "test.h"

#include "core.h"
#include "sampler.h"

typedef struct tally {
    int passed, failed;
} tally;

static void count(const nb_operator_check *c, void *user) {
    tally *t = user;
    if (c->result.passed)
        t->passed++;
    else
        t->failed++;
    if (!c->result.passed) printf("%s, sample %d, %s, order %d: %s\n", c->op, c->sample, c->variant, c->order, c->result.detail);
}

static void test_operators(void **state) {
    (void)state;
    nb_context  *nb = nb_open(NULL);
    tally        all = {0};
    const nb_op *op;
    for (int i = 0; (op = nb_op_at(i)); i++) {
        int checks = nb_check_operator(nb, op, count, &all);
        printf("%s %d  ", op->name, checks);
        if (op->derivative && op->kind != NB_ASSIGN && strcmp(op->name, "with_derivative") != 0)
            if (checks < 10) fail_msg("%s has only %d checks", op->name, checks);
    }
    printf("\n%d gradient checks passed, %d failed\n", all.passed, all.failed);
    assert_int_equal(all.failed, 0);
    assert_true(all.passed >= 2000);
    nb_close(nb);
}

/* ------------------------------------------------------------------------------------------------- derivatives that are wrong */

typedef enum fault { SIGN, FACTOR, TRANSPOSE, MISSING, FAULTS } fault;
static const char *const fault_name[] = {"sign", "factor", "transpose", "missing accumulation"};

/* A copy of an operator whose derivative spoils what the original says. */
typedef struct mutant {
    nb_op        op; /* first: nodes point at it */
    const nb_op *original;
    fault        fault;
    int          swapped;
} mutant;

static nb_tensor *spoil(nb_tensor *dx, fault f) {
    nb_context *nb = nb_context_of(dx);
    switch (f) {
    case SIGN: return nb_neg(dx);
    case FACTOR: return nb_mul(dx, nb_number(nb, 1.001));
    case TRANSPOSE: return nb_reshape(nb_flip(nb_reshape(dx, nb_shape(nb_count(dx))), nb_axes(0)), nb_shape_of(dx));
    default: return NULL;
    }
}

static void wrong_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx) {
    const mutant *m = (const mutant *)y->op;
    y->op = m->original;
    y->op->derivative(y, dy, want, dx);
    y->op = &m->op;
    /* The last of the operands that have a derivative is the one that goes wrong. */
    for (int i = y->n_in - 1; i >= 0; i--) {
        if (!want[i] || !dx[i]) continue;
        dx[i] = spoil(dx[i], m->fault);
        return;
    }
}

typedef struct trial {
    mutant  *mutant;
    nb__case sample;
} trial;

static nb_tensor *mutated_sample(nb_context *nb, nb_list inputs, void *user) {
    trial     *t = user;
    nb_tensor *y = nb__case_build(nb, &t->sample, inputs.at);
    nb_list    graph = nb_graph(nb, nb_list_of(nb, y));
    for (int i = 0; i < graph.n; i++) {
        if (graph.at[i]->op != t->mutant->original) continue;
        graph.at[i]->op = &t->mutant->op;
        t->mutant->swapped++;
    }
    return y;
}

static bool is_caught(nb_context *nb, trial *t) {
    const nb__case *c = &t->sample;
    nb_list         leaves = nb_list_new(nb, c->n);
    double          data[4096];
    for (int i = 0; i < c->n; i++) {
        assert_true(nb__dims_count(c->shape[i]) <= 4096);
        nb__case_fill(c, i, data);
        leaves.at[i] = nb_from(nb, NB_F64, c->shape[i], data);
    }
    bool passed = nb_gradcheck(nb, mutated_sample, t, leaves, 1).passed;
    expect_good(nb);
    return !passed;
}

/* Whether a sample of the operator shows the fault. *met: whether a sample uses the operator at all. */
static bool some_sample_catches(nb_context *nb, mutant *m, bool *met) {
    bool caught = false;
    for (int i = 0; !caught; i++) {
        trial t = {m, nb__case_describe(nb, m->original, i, NB__PLAIN, NB_F64)};
        if (t.sample.exists && t.sample.n > 0) caught = is_caught(nb, &t);
        nb_next_step(nb);
        if (!t.sample.exists) break;
    }
    *met = m->swapped > 0;
    return caught;
}

/* Derivatives that are zero everywhere have no wrong sign or factor. */
static bool is_flat(const nb_op *op) {
    static const char *const flat[] = {"sign", "floor", "ceil", "round", "trunc"};
    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++)
        if (!strcmp(op->name, flat[i])) return true;
    return false;
}

static void test_wrong_derivatives(void **state) {
    (void)state;
    nb_context  *nb = nb_open(NULL);
    const nb_op *op;
    int          operators = 0, mutants = 0, escaped = 0;
    for (int i = 0; (op = nb_op_at(i)); i++) {
        if (!op->derivative || !op->sample || is_flat(op)) continue;
        bool met = false;
        for (fault f = 0; f < FAULTS; f++) {
            mutant m = {*op, op, f, 0};
            m.op.derivative = wrong_derivative;
            bool caught = some_sample_catches(nb, &m, &met);
            if (!met) break;
            mutants++;
            if (caught) continue;
            escaped++;
            printf("escaped: %s with a wrong %s\n", op->name, fault_name[f]);
        }
        operators += met;
    }
    printf("%d wrong derivatives seeded in %d operators, %d escaped\n", mutants, operators, escaped);
    assert_int_equal(escaped, 0);
    assert_true(operators >= 30);
    nb_close(nb);
}

/* -------------------------------------------------------------------------------------------------------- the public function */

static nb_tensor *smooth(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    (void)user;
    return nb_mul(nb_sin(nb_mul(in.at[0], in.at[1])), nb_exp(in.at[0]));
}

static nb_tensor *only_first(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    (void)user;
    return nb_square(in.at[0]);
}

static void half(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)xs;
    (void)user;
    dx[0] = nb_mul(dy, nb_number(nb_context_of(y), 0.5));
}

static nb_tensor *own_derivative(nb_context *nb, nb_list in, void *user) {
    (void)nb;
    (void)user;
    return nb_with_derivative(nb_stop_gradient(nb_square(in.at[0])), in, half, NULL);
}

static void test_function(void **state) {
    (void)state;
    nb_context         *nb = nb_open(NULL);
    double              a[] = {0.3, -1.2, 2.0}, b[] = {0.7, 0.1, -0.4};
    nb_tensor          *x = nb_from(nb, NB_F64, nb_shape(3), a), *k = nb_param(nb, "k", nb_from(nb, NB_F64, nb_shape(3), b));
    nb_list             both = nb_list_of(nb, x, k);
    int                 kept = nb_kept(nb).n;
    nb_gradcheck_result r = nb_gradcheck(nb, smooth, NULL, both, 1);
    assert_true(r.passed);
    assert_int_equal(r.entries, 3 * 6 + 1); /* the Jacobian and one random direction */
    assert_true(r.worst < 1);
    assert_true(nb_gradcheck(nb, smooth, NULL, both, 2).passed);
    assert_true(nb_gradcheck(nb, only_first, NULL, both, 2).passed);
    assert_false(nb_gradcheck(nb, own_derivative, NULL, nb_list_of(nb, x), 1).passed);
    expect_good(nb);
    assert_int_equal(nb_kept(nb).n, kept);
    r = nb_gradcheck(nb, smooth, NULL, both, 3);
    assert_false(r.passed);
    assert_non_null(strstr(r.detail, "order"));
    r = nb_gradcheck(nb, smooth, NULL, nb_list_of(nb, nb_cast(x, NB_F32), k), 1);
    assert_false(r.passed);
    assert_non_null(strstr(r.detail, "f64"));
    expect_good(nb);
    nb_close(nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_operators), cmocka_unit_test(test_wrong_derivatives),
                                       cmocka_unit_test(test_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
