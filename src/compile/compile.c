/* compile.c: the passes one after the other. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

static void free_program(void *object) {
    nb_program *p = object;
    nb_context *nb = p->nb;
    for (int s = 0; s < p->n_steps; s++) {
        nb__plan *plan = &p->step[s].plan;
        if (!plan->state) continue;
        if (plan->free_state)
            plan->free_state(nb, plan->state);
        else
            nb_free(nb, plan->state);
    }
    for (int i = 0; i < p->n_kept; i++) nb__storage_unuse(nb, p->kept[i]);
    nb_free(nb, p->workspace);
    nb__arena_free(nb, &p->arena);
    nb_free(nb, p);
}

void nb__program_free(nb_program *p) { free_program(p); }

/* The words of NABLA_PASSES, and what each switches. */
static const struct {
    const char *name;
    size_t      flag;
} pass[] = {
    {"simplify", offsetof(nb__compile, simplify)}, {"algebra", offsetof(nb__compile, algebra)},
    {"lasting", offsetof(nb__compile, lasting)},   {"blocks", offsetof(nb__compile, blocks)},
    {"triangles", offsetof(nb__compile, triangles)}, {"layout", offsetof(nb__compile, layout)},
    {"fuse", offsetof(nb__compile, fuse)}, {"memory", offsetof(nb__compile, memory)},
};
enum { PASSES = sizeof pass / sizeof *pass };

const char *nb__pass_name(int i) { return i >= 0 && i < PASSES ? pass[i].name : NULL; }

static void unknown_pass(nb_context *nb, int n, const char *word) {
    char known[256] = "";
    for (int i = 0; i < PASSES; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", pass[i].name);
    bool is_alone = (n == 3 && !strncmp(word, "all", 3)) || (n == 4 && !strncmp(word, "none", 4));
    if (is_alone)
        nb_fail(nb, NB_INVALID, "passes: \"%.*s\" stands alone, without other words: or list some of %s", n, word, known);
    else
        nb_fail(nb, NB_INVALID, "passes: \"%.*s\" is none of %s, nor all or none", n, word, known);
}

/* Comma-separated passes; the reference kernels get none. */
bool nb__parse_passes(nb_context *nb, const char *text, nb__compile *how) {
    bool all = !text || !*text || !strcmp(text, "all");
    for (int i = 0; i < PASSES; i++) *(bool *)((char *)how + pass[i].flag) = all;
    if (all || !strcmp(text, "none")) return true;
    while (*text) {
        size_t n = strcspn(text, ",");
        int    i = 0;
        while (i < PASSES && (strlen(pass[i].name) != n || strncmp(pass[i].name, text, n) != 0)) i++;
        if (i == PASSES) {
            unknown_pass(nb, (int)n, text);
            return false;
        }
        *(bool *)((char *)how + pass[i].flag) = true;
        text += n + (text[n] == ',');
    }
    return true;
}

/* A workspace for one run at a time, memory for what lasts, and pointers into these. */
static bool make_workspace(nb_program *p) {
    p->workspace = nb__alloc_unset(p->nb, p->workspace_bytes);
    p->lasting = nb__program_alloc(p, p->lasting_bytes + 1);
    p->argument = nb__program_alloc(p, (size_t)p->n_arguments * sizeof *p->argument + 1);
    p->result = nb__program_alloc(p, (size_t)p->n_roots * sizeof *p->result + 1);
    if (!p->workspace || !p->lasting || !p->argument || !p->result) return false;
    for (int i = 0; i < p->n_buffers; i++)
        if (p->buffer[i].place == NB__IN_OUTPUT) p->output_bytes += p->buffer[i].bytes;
    return true;
}

nb_program *nb__unfused(nb_program *p) {
    nb_program *q = nb_alloc(p->nb, sizeof *q);
    if (!q) return NULL;
    q->nb = p->nb;
    q->n_nodes = q->node_room = p->n_nodes;
    q->n_order = p->n_order;
    q->order = p->order;
    q->n_roots = p->n_roots;
    q->root = p->root;
    q->output = p->output;
    q->fault = p->fault;
    q->has_random = p->has_random;
    q->items = p->items;
    q->block = p->block;
    q->first_item = p->first_item;
    q->node = nb__program_alloc(q, (size_t)q->n_nodes * sizeof *q->node);
    if (q->node) memcpy(q->node, p->node, (size_t)q->n_nodes * sizeof *q->node);
    for (int i = 0; q->node && i < q->n_nodes; i++) q->node[i].step = q->node[i].buffer = -1;
    if (q->node && nb__fuse(q, false) && nb__schedule(q) && nb__plan_memory(q, true) && nb__select(q) && make_workspace(q)) {
        q->argument = p->argument;
        q->result = p->result;
        return q;
    }
    free_program(q);
    return NULL;
}

/* Results with headers of the copy's context. */
static bool copy_outputs(nb_program *q, const nb_program *p) {
    q->output = nb__program_alloc(q, (size_t)p->n_roots * sizeof *q->output + 1);
    for (int i = 0; q->output && i < p->n_roots; i++) {
        q->output[i] = nb__program_alloc(q, sizeof *q->output[i]);
        if (!q->output[i]) return false;
        *q->output[i] = *p->output[i];
        q->output[i]->nb = q->nb;
        q->output[i]->scope = &q->nb->root_scope;
        q->output[i]->value = NULL;
    }
    return q->output != NULL;
}

/* Buffers of the workspace at the same places, and own[i] for input[i]. */
static bool copy_buffers(nb_program *q, const nb_program *p, nb_list input, nb_list own) {
    q->buffer = nb__program_alloc(q, (size_t)p->n_buffers * sizeof *q->buffer + 1);
    q->kept = nb__program_alloc(q, (size_t)input.n * sizeof *q->kept + 1);
    q->kept_name = nb__program_alloc(q, (size_t)input.n * sizeof *q->kept_name + 1);
    if (!q->buffer || !q->kept || !q->kept_name) return false;
    memcpy(q->buffer, p->buffer, (size_t)p->n_buffers * sizeof *q->buffer);
    for (int i = 0; i < input.n; i++) {
        for (int b = 0; b < p->n_buffers; b++)
            if (p->buffer[b].place == NB__IN_KEPT && p->buffer[b].storage == input.at[i]->storage)
                q->buffer[b].storage = own.at[i]->storage;
        own.at[i]->storage->users++;
        q->kept[q->n_kept] = own.at[i]->storage;
        q->kept_name[q->n_kept++] = own.at[i]->name;
    }
    return true;
}

nb_program *nb__copy_program(nb_context *nb, nb_program *p, nb_list input, nb_list own) {
    nb_program *q = nb_alloc(nb, sizeof *q);
    if (!q) return NULL;
    *q = *p; /* nodes, their order, constants and names stay p's */
    q->nb = nb;
    q->arena = (nb__arena){0};
    q->n_kept = 0;
    q->workspace = NULL;
    q->workspace_bytes = p->scratch_at;
    q->output_bytes = q->prepared_bytes = 0;
    q->profile = NULL;
    q->description = NULL;
    q->fault = nb__program_alloc(q, sizeof *q->fault);
    q->step = nb__program_alloc(q, (size_t)p->n_steps * sizeof *q->step + 1);
    if (!q->step) q->n_steps = 0;
    for (int s = 0; s < q->n_steps; s++) {
        q->step[s] = p->step[s];
        q->step[s].plan = (nb__plan){0};
        q->step[s].call = (nb__call){.n_out = 0};
        q->step[s].prepared = 0;
    }
    q->is_good =
        q->fault && q->step && copy_outputs(q, p) && copy_buffers(q, p, input, own) && nb__select(q) && make_workspace(q);
    return q;
}

nb_program *nb__compile_graph(nb_context *nb, nb_list roots, const nb__compile *how) {
    nb_program *p = nb_alloc(nb, sizeof *p);
    if (!p) return NULL;
    p->nb = nb;
    p->check_finite = how->check_finite;
    p->fault = nb__program_alloc(p, sizeof *p->fault);
    if (nb->status != NB_OK || !p->fault) return p;
    bool fast = nb->isa->tiles != NULL;
    p->keeps_lasting = how->lasting && fast;
    p->is_good = nb__lower(p, roots, how) && nb__simplify(p, how->simplify && fast, how->algebra && fast) &&
                 nb__find_lasting(p) && nb__cut_blocks(p, how->blocks && fast) &&
                 nb__find_triangles(p, how->triangles && fast) && nb__layout(p, how->layout && fast) &&
                 nb__fuse(p, how->fuse && fast) && nb__schedule(p) && nb__plan_memory(p, how->memory) && nb__select(p) &&
                 make_workspace(p);
    return p;
}
