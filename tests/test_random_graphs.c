/* test_random_graphs.c: random graphs, compiled with all passes, none, each one left out and a random choice of them, against the
 * reference.
 *
 *     test_random_graphs [GRAPHS [FIRST SEED]]
 *
 * Programs run more than once from the start: with assigns that change parameters, and with other inputs. Results are compared by
 * the scaled residual of LAPACK's tests: the difference in units of eps times the largest element, or, for a graph that enlarges
 * rounding errors by itself, in units of what the reference is off by (random_shrink.h). A rerun must give the same bits, and so
 * must another number of threads. Batches whose items keep apart run in blocks of a few items. */
#include "random_graph.h"
#include "random_run.h"
#include "random_shrink.h"

#include "program.h"

enum { CONTEXTS = 4, MAX_RUNS = 3, MAX_PASSES = 32, MAX_VARIANTS = MAX_PASSES + 3 };

typedef struct machine {
    nb_context *reference, *spare, *fast[CONTEXTS];
    char        variant[MAX_VARIANTS][320]; /* words of NABLA_PASSES: all, none, each one left out, and a random choice */
    int         n_passes, n_variants;
} machine;

static int     ill_conditioned, fewest_nodes = 1 << 30, most_nodes;
static int64_t n_programs, n_in_blocks;

/* --------------------------------------------------------------------------------------------------------------- which passes */

static void join_passes(const machine *m, uint32_t which, char *text, size_t size) {
    text[0] = 0;
    for (int i = 0; i < m->n_passes; i++)
        if (which >> i & 1) snprintf(text + strlen(text), size - strlen(text), "%s%s", text[0] ? "," : "", nb__pass_name(i));
    if (!text[0]) snprintf(text, size, "none");
}

static void list_variants(machine *m) {
    while (nb__pass_name(m->n_passes)) m->n_passes++;
    uint32_t all = (UINT32_C(1) << m->n_passes) - 1;
    join_passes(m, all, m->variant[0], sizeof m->variant[0]);
    join_passes(m, 0, m->variant[1], sizeof m->variant[1]);
    m->n_variants = 2;
    for (int i = 0; i < m->n_passes; i++, m->n_variants++)
        join_passes(m, all & ~(UINT32_C(1) << i), m->variant[m->n_variants], sizeof m->variant[0]);
    m->n_variants++; /* chosen for each graph */
}

/* ------------------------------------------------------------------------------------------------------------------- building */

static builder builder_of(nb_context *nb, uint64_t seed, nb_dtype type) {
    return (builder){.nb = nb, .seed = seed * 2654435761u + 12345, .real = type};
}

static instance grown(nb_context *nb, uint64_t seed, nb_dtype type) {
    builder b = builder_of(nb, seed, type);
    nb_list roots = build(&b, seed % 8 != 3);
    return instance_of(nb, roots);
}

static bool has_random(nb_context *nb, nb_list roots) {
    nb_list graph = nb_graph(nb, roots);
    for (int i = 0; i < graph.n; i++)
        if (graph.at[i]->op->kind == NB_RANDOM) return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------------------------ comparing */

typedef struct trial {
    machine    *m;
    uint64_t    seed;
    nb_dtype    type;
    int         runs;
    double      eps;
    instance    reference, fast;
    nb_program *judge;
    results    *want;
    own_error   own;
    nb_context *context;
} trial;

/* Only when there is a difference to be judged. */
static const own_error *own_error_of(trial *t) {
    if (t->own.is_known) return &t->own;
    recipe r = recipe_of(&t->reference);
    find_own_error(t->m->spare, &r, t->runs, t->eps, t->want, &t->own);
    recipe_free(&r);
    return &t->own;
}

static void describe(const trial *t, const char *passes, const residual *r, const results *got) {
    const char *error = nb_error(t->fast.nb) ? nb_error(t->fast.nb) : nb_error(t->reference.nb);
    printf("seed %llu %s, kernels %s, %d threads, passes %s: ", (unsigned long long)t->seed, nb_dtype_name(t->type),
           nb_kernels(t->context), nb_threads(t->context), passes);
    if (error || !same_form(got, t->want)) {
        printf("%s\n", error ? error : "other results");
    } else {
        const results *w = t->want;
        int64_t        i = w->first[r->part] + r->at;
        int            root = w->root[r->part];
        printf("%s %d after run %d, element %lld: %.9g, not %.9g; scaled residual %.3g\n", root < 0 ? "kept tensor" : "root",
               root < 0 ? -1 - root : root, w->run[r->part], (long long)r->at, got->value[i], w->value[i], r->ratio);
    }
}

/* One choice of passes. */
static bool check_variant(trial *t, const char *passes) {
    static results got;
    nb_program    *p = nb_compile_with(t->fast.nb, t->fast.roots, &(nb_compile_options){.passes = passes});
    bool           ran = run_program(&t->fast, p, t->runs, 0, &got);
    residual       r = ran ? compare(&got, t->want, t->eps, NULL) : (residual){INFINITY, 0, 0};
    bool           needs_own = ran && r.ratio > MOST && same_form(&got, t->want);
    n_programs++;
    n_in_blocks += p && nb_program_describe(p).blocks > 1;
    if (needs_own) r = compare(&got, t->want, t->eps, own_error_of(t));
    if (r.ratio > MOST) describe(t, passes, &r, &got);
    nb_error_clear(t->fast.nb);
    nb_program_free(p);
    return r.ratio <= MOST;
}

static bool same_bits(const results *a, const results *b) {
    return same_form(a, b) && !memcmp(a->value, b->value, (size_t)a->first[a->parts] * sizeof *a->value);
}

/* All passes again, in the same context, and with another number of threads. */
static bool check_bits(trial *t) {
    static results got, again;
    nb_program    *p = nb_compile_with(t->fast.nb, t->fast.roots, NULL);
    bool           good = run_program(&t->fast, p, t->runs, 0, &got) && run_program(&t->fast, p, t->runs, 0, &again);
    nb_program_free(p);
    if (!good) return true; /* told by check_variant */
    if (!same_bits(&got, &again)) {
        printf("seed %llu, kernels %s: a rerun gives other bits\n", (unsigned long long)t->seed, nb_kernels(t->context));
        return false;
    }
    if (t->context != t->m->fast[0]) return true;
    instance other = grown(t->m->fast[1], t->seed, t->type);
    p = nb_compile_with(other.nb, other.roots, NULL);
    good = !run_program(&other, p, t->runs, 0, &again) || same_bits(&got, &again);
    if (!good)
        printf("seed %llu, kernels %s: 3 threads give other bits than 1\n", (unsigned long long)t->seed, nb_kernels(t->context));
    nb_program_free(p);
    instance_free(&other);
    return good;
}

/* Define-by-run, with the passes that are the default. */
static bool check_eval(trial *t) {
    static results got;
    if (t->seed % 8 != 3) return true;
    instance g = grown(t->context, t->seed, t->type);
    bool     good = nb_eval(g.nb, g.roots);
    got.parts = 0;
    if (!good) {
        printf("seed %llu: nb_eval: %s\n", (unsigned long long)t->seed, nb_error(g.nb));
    } else if (!has_random(g.nb, g.roots)) { /* they draw other numbers than a program's */
        results want = *t->want;
        for (int i = 0; i < g.roots.n; i++)
            keep(&got, 0, i, g.roots.at[i]->dtype, nb_data(g.roots.at[i]), nb_count(g.roots.at[i]));
        want.parts = got.parts;
        residual r = compare(&got, &want, t->eps, NULL);
        if (r.ratio > MOST) r = compare(&got, &want, t->eps, own_error_of(t));
        good = r.ratio <= MOST;
        if (!good) describe(t, "of nb_eval", &r, &got);
    }
    instance_free(&g);
    return good;
}

static void report(trial *t, const char *passes) {
    printf("  again: test_random_graphs 1 %llu\n", (unsigned long long)t->seed);
    duel d = {nb_open(&(nb_options){.kernels = "reference"}), nb_open(&(nb_options){.kernels = nb_kernels(t->context)}), passes,
              t->eps, t->runs};
    d.fast->block_items = t->context->block_items;
    nb_error_clear(t->fast.nb);
    shrink(&t->fast, &d);
    nb_close(d.reference);
    nb_close(d.fast);
    fflush(stdout);
}

static bool check(machine *m, uint64_t seed) {
    static results want;
    static trial   t;
    t = (trial){.m = m,
                .seed = seed,
                .type = seed % 5 == 4 ? NB_F64 : NB_F32,
                .want = &want,
                .runs = seed % 8 == 3 ? 1 : 1 + (int)(seed % MAX_RUNS)};
    t.eps = t.type == NB_F64 ? 0x1p-52 : 0x1p-23;
    t.context = m->fast[seed % CONTEXTS];
    t.reference = grown(m->reference, seed, t.type);
    count_operators(m->reference, t.reference.roots);
    int nodes = nb_graph(m->reference, t.reference.roots).n;
    if (nodes < fewest_nodes) fewest_nodes = nodes;
    if (nodes > most_nodes) most_nodes = nodes;
    t.judge = nb_compile_with(m->reference, t.reference.roots, &(nb_compile_options){.passes = "none"});
    t.fast = grown(t.context, seed, t.type);
    bool good = run_program(&t.reference, t.judge, t.runs, 0, &want);
    if (!good) printf("seed %llu: the reference fails: %s\n", (unsigned long long)seed, nb_error(m->reference));
    uint64_t    choice = seed;
    const char *failed = NULL;
    next_real(&choice);
    join_passes(m, (uint32_t)(next_real(&choice) * (double)(UINT32_C(1) << m->n_passes)), m->variant[m->n_variants - 1],
                sizeof m->variant[0]);
    for (int i = 0; good && i < m->n_variants; i++)
        if (!check_variant(&t, m->variant[i])) failed = failed ? failed : m->variant[i];
    good = good && check_bits(&t) && !failed;
    if (failed) report(&t, failed);
    good = good && check_eval(&t); /* last: it ends the step of the graph */
    ill_conditioned += t.own.is_known;
    nb_program_free(t.judge);
    instance_free(&t.reference);
    instance_free(&t.fast);
    return good;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
#ifdef NB_CHECK_BUILD
    const int64_t share = 1500;
#else
    const int64_t share = 3000;
#endif
    int64_t  graphs = argc > 1 ? atoll(argv[1]) : is_long() ? 10000 : share;
    uint64_t first = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    int      passed = 0, failed = 0, rare = 0;
    machine  m = {.reference = nb_open(&(nb_options){.kernels = "reference"})};
    m.spare = nb_open(&(nb_options){.kernels = "reference"});
    m.fast[0] = nb_open(NULL);
    m.fast[1] = nb_open(&(nb_options){.threads = 3});
    m.fast[2] = nb_open(&(nb_options){.kernels = "baseline"});
    m.fast[3] = nb_open(&(nb_options){.kernels = nb__isa_find("v3") ? "v3" : "baseline"});
    for (int i = 0; i < CONTEXTS; i++)
        m.fast[i]->block_items = i < 2 ? 3 : i == 2 ? 1 : 8; /* the first two are to have the same bits */
    list_operators(m.reference);
    list_variants(&m);
    for (int64_t i = 0; i < graphs && failed < 20; i++) {
        bool good = check(&m, first + (uint64_t)i);
        passed += good;
        failed += !good;
    }
    for (int k = 0; k < n_ops; k++) {
        printf("%s %lld  ", op_list[k]->name, (long long)op_count[k]);
        if (op_count[k] < 20 && graphs >= 2000) printf("(rare)  "), rare++;
    }
    if (graphs >= 1000 && n_in_blocks < graphs / 10) rare++;
    printf("\ngraphs of %d to %d nodes, %lld programs, %lld in blocks; %d graphs with differences above %g eps\n", fewest_nodes,
           most_nodes, (long long)n_programs, (long long)n_in_blocks, ill_conditioned, MOST);
    for (int i = 0; i < CONTEXTS; i++) nb_close(m.fast[i]);
    nb_close(m.spare);
    nb_close(m.reference);
    printf("%d passed, %d failed\n", passed, failed + rare);
    return failed + rare > 0;
}
