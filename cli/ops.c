/* ops.c: `nabla ops`: the operators, from their own declarations. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const cli_option options[] = {{0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL}};

static const char *kind_name(nb_kind kind) {
    static const char *const names[] = {"leaf",  "elementwise", "reduction", "view",   "contraction",
                                        "index", "random",      "assign",    "opaque", "composition"};
    return names[kind];
}

static const char *gradient(const nb_op *op) { return op->gradient ? op->gradient : "-"; }

/* Letters as a terminal counts them: bytes that do not continue a letter of UTF-8. */
static int width(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void cell(const char *text, int least) { printf("%s%*s", text, least > width(text) ? least - width(text) : 0, ""); }

/* One line an operator. A column is as wide as most of its entries need; longer ones push the rest of their line. */
static void list_all(void) {
    enum { LIMIT = 60 };
    int          name = 4, formula = 7, derivative = 10, n = 0;
    const nb_op *op;
    for (; (op = nb_op_at(n)); n++) {
        int f = width(op->formula), g = width(gradient(op));
        if (width(op->name) > name) name = width(op->name);
        if (f > formula && f <= LIMIT) formula = f;
        if (g > derivative && g <= LIMIT) derivative = g;
    }
    cell("operator", name + 2), cell("kind", 13), cell("formula", formula + 2), puts("derivative");
    for (int i = 0; (op = nb_op_at(i)); i++)
        cell(op->name, name + 2), cell(kind_name(op->kind), 13), cell(op->formula, formula + 2), puts(gradient(op));
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
    printf("%s\n", op->name);
    printf("  formula     %s\n", op->formula);
    printf("  derivative  %s\n", op->gradient                 ? op->gradient
                                 : op->kind == NB_COMPOSITION ? "by the operators it is made of"
                                                              : "none: it stops with an error here");
    printf("  kind        %s: %s\n", kind_name(op->kind), kind_meaning(op->kind));
    if (op->kind != NB_COMPOSITION && op->arity < 0) printf("  operands    one or more\n");
    if (op->kind != NB_COMPOSITION && op->arity >= 0) printf("  operands    %d\n", op->arity);
    printf("  samples     %d\n", count_samples(op));
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
    .details =
        "Lists every operator with its formula and its derivative (dy is the derivative of the loss by y), in LaTeX without\n"
        "dollars; with names, all that is known of those.",
    .examples = "  nabla ops\n"
                "  nabla ops matmul softmax\n",
    .options = options,
    .most = CLI_MAX_WORDS,
    .run = run,
};
