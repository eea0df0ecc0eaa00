/* ops.c: `nabla ops`: the operators, from their own declarations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_option options[] = {{0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL}};

static const char *kind_name(nb_kind kind) {
    static const char *const names[] = {"leaf",  "elementwise", "reduction", "view",   "contraction",
                                        "index", "random",      "assign",    "opaque", "composition"};
    return names[kind];
}

/* Letters as a terminal counts them: bytes that neither continue a letter of UTF-8 nor stand above one. */
static int width(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80 && (unsigned char)*text != 0xcc;
    return n;
}

/* Text in a column. What is longer pushes the rest of its line. */
static void cell(const char *text, int column) { printf("%s%*s", text, width(text) + 2 < column ? column - width(text) : 2, ""); }

/* A formula as a terminal can show it, in a column. */
static void formula(const char *latex, int column) {
    char *text = latex ? cli_formula(latex) : NULL;
    if (column)
        cell(text ? text : "-", column);
    else
        puts(text ? text : "-");
    free(text);
}

static void list_all(void) {
    const nb_op *op;
    int          n = 0;
    cell("operator", 22), cell("kind", 13), cell("formula", 42), puts("derivative");
    for (; (op = nb_op_at(n)); n++) {
        cell(op->name, 22);
        cell(kind_name(op->kind), 13);
        formula(op->formula, 42);
        formula(op->gradient, 0);
    }
    printf("\n%d operators; 'nabla ops NAME' tells all of one\n", n);
}

static const char *kind_meaning(nb_kind kind) {
    switch (kind) {
    case NB_LEAF: return "has no operands";
    case NB_ELEMENTWISE: return "element i of the result from elements i of the operands, which are broadcast";
    case NB_REDUCE: return "folds axes";
    case NB_VIEW: return "the operand's elements at other places; nothing is computed";
    case NB_CONTRACTION: return "sums of products";
    case NB_INDEX: return "moves elements by computed places";
    case NB_RANDOM: return "draws from Philox 4x32-10";
    case NB_ASSIGN: return "new contents for a kept tensor";
    case NB_OPAQUE: return "one kernel";
    case NB_COMPOSITION: return "made of other operators, and differentiated through them";
    }
    return "";
}

/* How many samples an operator declares: they are what gradient checks, tests and benchmarks run. */
static nb_tensor *sample_real(nb_sampler *s, double low, double high, nb_dims shape) {
    (void)low;
    (void)high;
    return nb_input(s->nb, "x", NB_F64, shape);
}

static nb_tensor *sample_whole(nb_sampler *s, nb_dtype dtype, int64_t low, int64_t high, nb_dims shape) {
    (void)low;
    (void)high;
    return nb_input(s->nb, "i", dtype, shape);
}

static int count_samples(const nb_op *op) {
    int         n = 0;
    nb_context *nb = op->sample ? nb_open(NULL) : NULL;
    if (!nb) return 0;
    nb_sampler s = {.nb = nb, .real = sample_real, .integer = sample_whole};
    while (op->sample(&s, n) && !nb_error(nb)) n++;
    nb_close(nb);
    return n;
}

static void tell(const nb_op *op) {
    bool is_composition = op->kind == NB_COMPOSITION;
    printf("%s\n  formula     ", op->name);
    formula(op->formula, 0);
    printf("  derivative  ");
    if (op->gradient)
        formula(op->gradient, 0);
    else
        puts(is_composition ? "by the operators it is made of" : "none: a gradient that has to pass here is an error");
    printf("  kind        %s: %s\n", kind_name(op->kind), kind_meaning(op->kind));
    if (!is_composition && op->arity < 0) printf("  operands    one or more\n");
    if (!is_composition && op->arity >= 0) printf("  operands    %d\n", op->arity);
    printf("  samples     %d, for gradient checks and tests\n", count_samples(op));
    printf("  LaTeX       %s\n", op->formula);
    if (op->gradient) printf("              %s\n", op->gradient);
}

static int run(const cli_words *words, void *settings) {
    (void)settings;
    const nb_op *op[CLI_MAX_WORDS];
    if (!words->n) list_all();
    for (int i = 0; i < words->n; i++)
        if (!(op[i] = cli_op_find(words->at[i]))) return CLI_MEND;
    for (int i = 0; i < words->n; i++) {
        if (i) putchar('\n');
        tell(op[i]);
    }
    return CLI_DONE;
}

const nb_op *cli_op_find(const char *name) {
    enum { MOST = 511 };
    const char  *names[MOST + 1];
    const nb_op *op = nb_op_find(name);
    int          n = 0;
    if (op) return op;
    for (; n < MOST && (op = nb_op_at(n)); n++) names[n] = op->name;
    names[n] = NULL;
    const char *near = cli_nearest(name, names);
    if (near)
        cli_error("there is no operator '%s': did you mean '%s'? 'nabla ops' lists all", name, near);
    else
        cli_error("there is no operator '%s': 'nabla ops' lists all", name);
    return NULL;
}

const cli_command cli_ops_command = {
    .name = "ops",
    .usage = "ops [NAME...]",
    .about = "list the operators with formula and derivative",
    .details = "Lists every operator with its formula and its derivative (dy is the derivative of the loss by y, [c] is 1 where\n"
               "c holds and else 0); with names, all that is known of those.",
    .examples = "  nabla ops\n"
                "  nabla ops matmul softmax\n",
    .options = options,
    .most = CLI_MAX_WORDS,
    .run = run,
};
