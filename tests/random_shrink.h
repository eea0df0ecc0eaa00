/* random_shrink.h: makes a graph that fails smaller, for test_random_graphs.c: fewer roots, and inner nodes replaced by inputs
 * that hold what the reference computed there, as long as it still fails. */
#ifndef RANDOM_SHRINK_H
#define RANDOM_SHRINK_H

#include "random_run.h"

typedef struct recipe_node {
    const nb_op *op;
    void        *attr, *value; /* value: of leaves, and of all once known */
    int          n_in, *in, first_user;
    nb_dtype     dtype;
    nb_dims      shape;
    size_t       bytes;
    bool         is_kept, is_input, is_cut;
} recipe_node;

typedef struct recipe {
    int          n, n_roots;
    recipe_node *node;
    int          root[MAX_PARTS];
} recipe;

/* Two contexts, what to compile with, and by how much they may differ. */
typedef struct duel {
    nb_context *reference, *fast;
    const char *passes;
    double      eps;
    int         runs;
} duel;

static void *copy_of(const void *data, size_t n) { return memcpy(malloc(n + 1), data, n); }

static int by_serial(const void *a, const void *b) {
    uint64_t x = (*(nb_tensor *const *)a)->serial, y = (*(nb_tensor *const *)b)->serial;
    return (x > y) - (x < y);
}

/* All nodes in the order of creation, so that a copy numbers its random nodes and kept tensors alike. */
static recipe recipe_of(const instance *g) {
    nb_list roots = g->roots, graph = nb_graph(g->nb, roots);
    for (int before = -1; before != roots.n;) { /* assigns that nodes bring along */
        before = roots.n;
        for (int i = 0; i < graph.n; i++)
            for (nb__update *u = graph.at[i]->updates; u; u = u->next) {
                bool known = false;
                for (int k = 0; k < roots.n; k++) known |= roots.at[k] == u->assign;
                if (!known) roots = nb_list_join(g->nb, roots, nb_list_of(g->nb, u->assign));
            }
        graph = nb_graph(g->nb, roots);
    }
    graph = nb_graph(g->nb, nb_list_join(g->nb, roots, nb_list_from(g->nb, g->n_kept, g->kept)));
    qsort(graph.at, (size_t)graph.n, sizeof *graph.at, by_serial);
    for (int i = 0; i < graph.n; i++) graph.at[i]->index = i;
    recipe r = {.n = graph.n, .node = calloc((size_t)graph.n + 1, sizeof *r.node)};
    for (int i = 0; i < graph.n; i++) {
        nb_tensor   *t = graph.at[i];
        recipe_node *n = &r.node[i];
        *n = (recipe_node){.op = t->op, .n_in = t->n_in, .dtype = t->dtype, .shape = t->shape, .bytes = nb_bytes(t)};
        n->in = calloc((size_t)t->n_in + 1, sizeof *n->in);
        for (int k = 0; k < t->n_in; k++) n->in[k] = (int)t->in[k]->index;
        if (t->op->attr_size) n->attr = copy_of(t->attr, t->op->attr_size);
        n->is_kept = t->storage != NULL;
        n->is_input = n->is_kept && !t->storage->is_versioned;
        if (n->is_kept) n->value = copy_of(t->storage->data, n->bytes);
        for (int k = 0; k < g->n_kept; k++)
            if (g->kept[k] == t) memcpy(n->value, g->start[k], n->bytes);
        if (!n->is_kept && !t->n_in && t->value) n->value = copy_of(t->value, n->bytes);
    }
    for (int i = 0; i < roots.n && i < MAX_PARTS; i++) r.root[r.n_roots++] = (int)roots.at[i]->index;
    return r;
}

static void recipe_free(recipe *r) {
    for (int i = 0; i < r->n; i++) {
        free(r->node[i].in);
        free(r->node[i].attr);
        free(r->node[i].value);
    }
    free(r->node);
}

/* Which nodes the roots need, given the cuts. */
static void mark_needed(const recipe *r, bool *needed) {
    memset(needed, 0, (size_t)r->n);
    for (int i = 0; i < r->n_roots; i++) needed[r->root[i]] = true;
    for (int i = r->n; i-- > 0;)
        for (int k = 0; needed[i] && !r->node[i].is_cut && k < r->node[i].n_in; k++) needed[r->node[i].in[k]] = true;
}

/* t, each element off by up to a rounding or some. */
static nb_tensor *blurred(nb_tensor *t, double noise, uint64_t *seed) {
    int64_t n = nb_count(t);
    double *factor = malloc((size_t)(n + 1) * sizeof *factor);
    for (int64_t i = 0; i < n; i++) factor[i] = 1 + noise * (2 * next_real(seed) - 1);
    t = nb_mul(t, nb_cast(nb_from(t->nb, NB_F64, nb_shape_of(t), factor), nb_dtype_of(t)));
    free(factor);
    return t;
}

/* `all`: every node but the assigns is a root. noise: of every node that computes real numbers. */
static instance instantiate(nb_context *nb, const recipe *r, bool all, double noise) {
    uint64_t    seed = 17 + (uint64_t)(noise * 1e18);
    bool       *needed = calloc((size_t)r->n + 1, sizeof *needed);
    nb_tensor **made = calloc((size_t)r->n + 1, sizeof *made), *in[256];
    int         n = 0;
    mark_needed(r, needed);
    for (int i = 0; i < r->n; i++) {
        const recipe_node *d = &r->node[i];
        if ((!needed[i] && !d->is_kept) || d->n_in > 256) continue;
        for (int k = 0; k < d->n_in && !d->is_cut; k++) in[k] = made[d->in[k]];
        if (d->is_cut || d->is_input)
            nb_set(made[i] = nb_input(nb, "x", d->dtype, d->shape), d->value, d->bytes);
        else if (d->is_kept)
            made[i] = nb_param(nb, "p", nb_from(nb, d->dtype, d->shape, d->value));
        else if (!d->n_in && d->value && d->op->kind == NB_LEAF && !d->attr)
            made[i] = nb_from(nb, d->dtype, d->shape, d->value);
        else
            made[i] = nb_apply(nb, d->op, d->n_in, in, d->attr);
        bool computes = !d->is_cut && d->op->kind != NB_LEAF && d->op->kind != NB_VIEW && d->op->kind != NB_ASSIGN;
        if (noise > 0 && computes && d->dtype <= NB_F64) made[i] = blurred(made[i], noise, &seed);
    }
    nb_tensor **root = calloc((size_t)(r->n + r->n_roots) + 1, sizeof *root);
    for (int i = 0; i < (all ? r->n : r->n_roots); i++) {
        nb_tensor *t = made[all ? i : r->root[i]];
        if (t && !(all && t->op->kind == NB_ASSIGN)) root[n++] = t;
    }
    instance g = instance_of(nb, nb_list_from(nb, n, root));
    free(root);
    free(made);
    free(needed);
    return g;
}

/* What the reference is off by when every value is: an unlucky graph (a kink, a pole, a sum that cancels) enlarges rounding
 * errors. In stochastic arithmetic as in Vignes, A stochastic arithmetic for reliable scientific computation, 1993. */
static void find_own_error(nb_context *reference, const recipe *r, int runs, double eps, const results *want, own_error *own) {
    static results off;
    own->is_known = true;
    for (int k = 0; k < MAX_PARTS; k++) own->part[k] = 0;
    for (int i = 1; i <= 6; i++) {
        instance    g = instantiate(reference, r, false, eps * (1 + i / 2));
        nb_program *p = nb_compile_with(g.nb, g.roots, &(nb_compile_options){.passes = "none"});
        if (run_program(&g, p, runs, eps, &off) && same_form(&off, want))
            for (int k = 0; k < want->parts; k++) own->part[k] = fmax(own->part[k], difference(&off, want, k, NULL));
        nb_program_free(p);
        instance_free(&g);
    }
}

/* The scaled residual. */
static double judge(const recipe *r, const duel *d) {
    static results   want, got;
    static own_error own;
    double           ratio = 0;
    instance         a = instantiate(d->reference, r, false, 0), b = instantiate(d->fast, r, false, 0);
    nb_program      *p = nb_compile_with(a.nb, a.roots, &(nb_compile_options){.passes = "none"});
    nb_program      *q = nb_compile_with(b.nb, b.roots, &(nb_compile_options){.passes = d->passes});
    if (run_program(&a, p, d->runs, 0, &want)) {
        ratio = run_program(&b, q, d->runs, 0, &got) ? compare(&got, &want, d->eps, NULL).ratio : INFINITY;
        nb_program_free(p);
        instance_free(&a);
        p = NULL;
        if (ratio > MOST && same_form(&got, &want)) {
            find_own_error(d->reference, r, d->runs, d->eps, &want, &own);
            ratio = compare(&got, &want, d->eps, &own).ratio;
        }
    }
    nb_program_free(p);
    nb_program_free(q);
    instance_free(&a);
    instance_free(&b);
    return ratio;
}

/* What the reference computes at each node. */
static bool learn_values(recipe *r, const duel *d) {
    instance    g = instantiate(d->reference, r, true, 0);
    nb_program *p = nb_compile_with(g.nb, g.roots, &(nb_compile_options){.passes = "none"});
    nb_set_random(g.nb, (nb_random_state){7, 0});
    bool good = nb_run(p);
    for (int i = 0, at = 0; good && i < r->n; i++) {
        if (r->node[i].op->kind == NB_ASSIGN) continue;
        const void *value = nb_data(nb_output(p, at++));
        if (!r->node[i].value) r->node[i].value = copy_of(value, r->node[i].bytes);
    }
    nb_program_free(p);
    instance_free(&g);
    return good;
}

static void print_recipe(const recipe *r) {
    bool *needed = calloc((size_t)r->n + 1, sizeof *needed);
    int  *name = calloc((size_t)r->n + 1, sizeof *name), next = 0;
    mark_needed(r, needed);
    for (int i = 0; i < r->n; i++) {
        const recipe_node *n = &r->node[i];
        if (!needed[i]) continue;
        name[i] = next++;
        char attr[200] = "";
        if (n->op->describe && n->attr && !n->is_cut) n->op->describe(n->attr, attr, sizeof attr);
        printf("    %%%d = %s(", name[i], n->is_cut || n->is_input ? "input" : n->is_kept ? "param" : n->op->name);
        for (int k = 0; k < n->n_in && !n->is_cut; k++) printf("%s%%%d", k ? ", " : "", name[n->in[k]]);
        printf(")%s%s  %s %s\n", attr[0] ? " " : "", attr, nb_dtype_name(n->dtype), nb__dims_text(n->shape).at);
    }
    printf("    roots:");
    for (int i = 0; i < r->n_roots; i++) printf(" %%%d", name[r->root[i]]);
    printf("\n");
    free(name);
    free(needed);
}

/* Greedy: roots one by one, then cuts from the leaves up and from the roots down, again while that helps. */
static void shrink(const instance *g, const duel *d) {
    recipe r = recipe_of(g);
    double first = r.n ? judge(&r, d) : 0;
    if (!(first > MOST)) {
        printf("  a copy of its nodes agrees (scaled residual %.3g): look at scopes and at assigns that nodes bring along\n",
               first);
    } else {
        bool learnt = learn_values(&r, d);
        for (bool smaller = true; smaller;) {
            smaller = false;
            for (int i = r.n_roots; i-- > 0 && r.n_roots > 1;) {
                recipe less = r;
                memmove(&less.root[i], &less.root[i + 1], (size_t)(r.n_roots - i - 1) * sizeof *r.root);
                less.n_roots--;
                if (judge(&less, d) > MOST) r = less, smaller = true;
            }
            bool *needed = calloc((size_t)r.n + 1, sizeof *needed);
            for (int way = 0; way < 2; way++)
                for (int k = 0; learnt && k < r.n; k++) {
                    int          i = way ? k : r.n - 1 - k;
                    recipe_node *n = &r.node[i];
                    mark_needed(&r, needed);
                    if (!needed[i] || n->is_cut || n->is_kept || n->op->kind == NB_ASSIGN || !n->value) continue;
                    n->is_cut = true;
                    if (judge(&r, d) > MOST)
                        smaller = true;
                    else
                        n->is_cut = false;
                }
            free(needed);
        }
        printf("  the smallest that fails (scaled residual %.3g):\n", judge(&r, d));
        print_recipe(&r);
    }
    recipe_free(&r);
}

#endif
