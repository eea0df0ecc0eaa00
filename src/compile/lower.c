/* lower.c: the graph below the roots as a list of nodes in topological order. */
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "program.h"

/* The updates that tensors bring along are roots too, and so are those in their graphs. */
static nb_list with_updates(nb_context *nb, nb_list roots) {
    nb_list all = roots;
    for (int seen = -1; seen != all.n;) {
        seen = all.n;
        nb_list  graph = nb__walk(nb, all, false);
        uint64_t mark = nb->walk;
        if (!graph.n) return graph;
        for (int i = 0; i < graph.n; i++) {
            for (nb__update *u = graph.at[i]->updates; u; u = u->next) {
                if (u->assign->mark == mark) continue;
                u->assign->mark = mark;
                all = nb_list_join(nb, all, nb_list_from(nb, 1, &u->assign));
            }
        }
    }
    return all;
}

static const char *copy_text(nb_program *p, const char *text) {
    size_t n = strlen(text) + 1;
    char  *copy = nb__program_alloc(p, n);
    return copy ? memcpy(copy, text, n) : "";
}

static void add_kept(nb_program *p, nb_tensor *t) {
    p->kept[p->n_kept] = t->storage;
    p->kept_name[p->n_kept++] = copy_text(p, t->name);
    t->storage->users++;
}

/* Random nodes are numbered in the order in which they were created, so that an equal program draws equal numbers. */
static int by_serial(const void *a, const void *b) {
    const nb__node *m = *(nb__node *const *)a, *n = *(nb__node *const *)b;
    return m->serial < n->serial ? -1 : m->serial > n->serial;
}

static bool number_random_nodes(nb_program *p) {
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++) n += p->node[i].op->kind == NB_RANDOM;
    if (!n) return true;
    nb__node **random = nb__program_alloc(p, (size_t)n * sizeof *random);
    if (!random) return false;
    for (int i = 0, k = 0; i < p->n_nodes; i++)
        if (p->node[i].op->kind == NB_RANDOM) random[k++] = &p->node[i];
    qsort(random, (size_t)n, sizeof *random, by_serial);
    for (int k = 0; k < n; k++) random[k]->stream = (uint32_t)k;
    return true;
}

/* The tensor as the next node: its operands are in the list already. */
static bool add(nb_program *p, nb_tensor *t, const nb__compile *how) {
    if (t->op == &nb__op_output && !how->arguments) {
        nb_fail(p->nb, NB_INVALID, "nb_compile: a result of another program is used; copy it into an nb_input or nb_param first");
        return false;
    }
    if (t->is_released) {
        nb_fail(p->nb, NB_INVALID, "%s was given back with nb_release, but the graph still uses it", t->name);
        return false;
    }
    nb__node n = {.op = t->op,
                  .dtype = t->dtype,
                  .shape = t->shape,
                  .scope = t->scope,
                  .serial = t->serial,
                  .number = p->n_nodes,
                  .is_watched = t->is_watched,
                  .is_backward = t->is_backward,
                  .step = -1,
                  .buffer = -1};
    if (t->storage) {
        n.source = NB__KEPT_LEAF;
        n.kept = t;
        add_kept(p, t);
    } else if (t->value && how->arguments) {
        n.source = NB__ARGUMENT;
        p->n_arguments++;
    } else if (t->op == &nb__op_data) {
        void *copy = nb__program_alloc(p, nb_bytes(t));
        if (!copy) return false;
        memcpy(copy, t->value, nb_bytes(t));
        n.source = NB__CONSTANT;
        n.data = copy;
    } else {
        n.n_in = t->n_in;
        n.in = nb__program_alloc(p, (size_t)t->n_in * sizeof *n.in + 1);
        void *attr = t->op->attr_size ? nb__program_alloc(p, t->op->attr_size) : NULL;
        if (!n.in || (t->op->attr_size && !attr)) return false;
        for (int k = 0; k < t->n_in; k++) n.in[k] = (int)t->in[k]->index;
        if (attr) n.attr = memcpy(attr, t->attr, t->op->attr_size);
    }
    p->has_random |= t->op->kind == NB_RANDOM && n.source == NB__COMPUTED;
    return nb__add_node(p, &n) >= 0;
}

/* Each kept tensor may be assigned once. Marks them, with the place of the assign in the list. */
static bool check_assigns(nb_context *nb, nb_list roots) {
    uint64_t mark = ++nb->walk;
    for (int i = 0; i < roots.n; i++) {
        nb_tensor *a = roots.at[i], *target = a->op->kind == NB_ASSIGN ? a->in[0] : NULL;
        if (!target) continue;
        if (target->mark == mark && roots.at[target->index] != a) {
            nb__fail_at(
                a, NB_INVALID,
                "%s is assigned twice in one program; if a layer with running values is applied twice, use a layer of its own "
                "for each place, or NB_EVAL mode for one of them",
                target->name);
            return false;
        }
        target->mark = mark;
        target->index = i;
    }
    return true;
}

static nb_tensor *output_header(nb_program *p, const nb_tensor *t) {
    nb_tensor *o = nb__program_alloc(p, sizeof *o);
    if (!o) return NULL;
    *o = (nb_tensor){.nb = p->nb,
                     .op = &nb__op_output,
                     .step = NB__KEPT,
                     .serial = ++p->nb->serial,
                     .shape = t->shape,
                     .dtype = t->dtype,
                     .scope = &p->nb->root_scope,
                     .name = copy_text(p, t->name)};
    return o;
}

static bool make_tables(nb_program *p, nb_list graph, nb_list roots) {
    size_t n_kept = 0, n_roots = (size_t)roots.n;
    for (int i = 0; i < graph.n; i++) n_kept += graph.at[i]->storage != NULL;
    p->kept = nb__program_alloc(p, n_kept * sizeof *p->kept + 1);
    p->kept_name = nb__program_alloc(p, n_kept * sizeof *p->kept_name + 1);
    p->root = nb__program_alloc(p, n_roots * sizeof *p->root);
    p->commit = nb__program_alloc(p, n_roots * sizeof *p->commit);
    p->output = nb__program_alloc(p, n_roots * sizeof *p->output);
    return p->kept && p->kept_name && p->root && p->commit && p->output;
}

/* Roots as numbers, the first `given` of them the user's, and what is assigned, once however often it is listed. */
static bool list_roots(nb_program *p, nb_list roots, int given) {
    bool *seen = nb__step_alloc(p->nb, (size_t)p->n_nodes);
    if (!seen) return false;
    p->n_roots = given;
    for (int i = 0; i < roots.n; i++) {
        nb_tensor *t = roots.at[i];
        bool       is_assign = t->op->kind == NB_ASSIGN;
        if (i < given) {
            p->root[i] = is_assign ? -1 : (int)t->index;
            p->output[i] = is_assign ? t->in[0] : output_header(p, t);
            if (!p->output[i]) return false;
        }
        if (is_assign && !seen[t->index])
            p->commit[p->n_commits++] = (nb__commit){t->in[0]->storage, (int)t->in[1]->index, (int)t->in[0]->index};
        seen[t->index] = true;
    }
    return true;
}

bool nb__lower(nb_program *p, nb_list roots, const nb__compile *how) {
    nb_context *nb = p->nb;
    if (!roots.n) {
        nb_fail(nb, NB_INVALID, "nothing to compile: the list of roots is empty");
        return false;
    }
    for (int i = 0; i < roots.n; i++)
        if (nb__refuse(nb, roots.at[i], i, "nb_compile")) return false;
    int given = roots.n;
    if (!how->arguments) roots = with_updates(nb, roots);
    if (!roots.n || !check_assigns(nb, roots)) return false;
    /* A program computes anew what nb_eval has looked at already: kept tensors change between its runs. */
    nb_list graph = nb__walk(nb, roots, how->arguments);
    if (!graph.n) return false;
    if (!make_tables(p, graph, roots)) return false;
    for (int i = 0; i < graph.n; i++)
        if (!add(p, graph.at[i], how)) return false;
    if (!how->arguments && !number_random_nodes(p)) return false;
    return list_roots(p, roots, given);
}
