/* gradcheck.c: `nabla gradcheck`: derivatives against central differences, on the samples that operators declare. */
#include <stddef.h>
#include <stdio.h>

#include "cli.h"

typedef struct gradcheck_settings {
    int64_t order, seed;
} gradcheck_settings;

static const cli_option options[] = {
    {0, "order", CLI_WHOLE, "1|2", offsetof(gradcheck_settings, order), NULL, 1, 2, NULL, false,
     "first or second derivatives only [both]"},
    {'s', "seed", CLI_WHOLE, "N", offsetof(gradcheck_settings, seed), "0", 0, 4294967295.0, NULL, false,
     "of operands and upstream gradients"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

typedef struct tally {
    int64_t order, passed, failed, entries;
    int64_t all_passed, all_failed;
    double  worst;
} tally;

static void report(const nb_operator_check *c, void *user) {
    tally *t = user;
    if (t->order && c->order != t->order) return;
    t->entries += c->result.entries;
    if (!(c->result.worst <= t->worst)) t->worst = c->result.worst;
    if (c->result.passed) {
        t->passed++;
        return;
    }
    t->failed++;
    printf("FAILED %s, sample %d (%s), order %d: %s\n", c->op, c->sample, c->variant, c->order, c->result.detail);
}

static void check(nb_context *nb, const nb_op *op, tally *t) {
    t->passed = t->failed = t->entries = 0;
    t->worst = 0;
    int made = nb_check_operator(nb, op, report, t);
    if (nb_error(nb)) {
        printf("FAILED %s: %s\n", op->name, nb_error(nb));
        nb_error_clear(nb);
        t->failed++;
    }
    if (!made && !t->failed)
        printf("%-24s has no derivative\n", op->name);
    else
        printf("%-24s %4lld checks, %7lld entries, worst %.2g of what is allowed\n", op->name, (long long)(t->passed + t->failed),
               (long long)t->entries, t->worst);
    t->all_passed += t->passed;
    t->all_failed += t->failed;
    fflush(stdout);
}

/* A check that checks nothing must not look like one that passed. */
static int nothing(const cli_words *words, int64_t order) {
    const char *which = order == 1 ? "first " : order == 2 ? "second " : "";
    if (words->n == 1) return cli_error("nothing to check: %s has no %sderivative", words->at[0], which);
    return cli_error("nothing to check: none of these operators has a %sderivative", which);
}

static int run(const cli_words *words, void *settings) {
    const gradcheck_settings *s = settings;
    tally                     t = {.order = s->order};
    const nb_op              *op;
    for (int i = 0; i < words->n; i++)
        if (!cli_op_find(words->at[i])) return CLI_MEND;
    nb_context *nb = cli_open(1, (uint64_t)s->seed);
    if (!nb) return CLI_MEND;
    nb_program_free(nb_compile(nb, nb_list_of(nb, nb_number(nb, 1)))); /* what is wrong with NABLA_PASSES is told once */
    if (nb_error(nb)) return cli_report(nb), nb_close(nb), CLI_MEND;
    for (int i = 0; i < words->n; i++) check(nb, nb_op_find(words->at[i]), &t);
    for (int i = 0; !words->n && (op = nb_op_at(i)); i++) check(nb, op, &t);
    nb_close(nb);
    if (!t.all_passed && !t.all_failed) return nothing(words, s->order);
    printf("%lld passed, %lld failed\n", (long long)t.all_passed, (long long)t.all_failed);
    return t.all_failed ? CLI_NO : CLI_DONE;
}

const cli_command cli_gradcheck_command = {
    .name = "gradcheck",
    .usage = "gradcheck [OPERATOR...] [options]",
    .about = "check derivatives against central differences",
    .details =
        "Compares first and second derivatives with central differences in double, on the samples that each operator declares:\n"
        "random upstream gradients, strided and broadcast operands, sizes 0 and 1, one tensor as two operands. A check is one\n"
        "operator, sample and order, with all entries of its Jacobian. Exit code 1 if one fails.",
    .examples = "  nabla gradcheck\n"
                "  nabla gradcheck matmul conv2d --order 2\n",
    .options = options,
    .most = CLI_MAX_WORDS,
    .run = run,
    .size = sizeof(gradcheck_settings),
};
