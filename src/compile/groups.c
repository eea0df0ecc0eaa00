/* groups.c: the groups that become steps, while nodes are looked at: who is in which, in which part; how groups grow, join and
 * begin. What a member may be is regions.c's business. */
#include "regions.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------------------ members */

int nb__group_of(const nb__fusion *f, int g) {
    while (f->group[g].joined >= 0) {
        int to = f->group[g].joined;
        if (f->group[to].joined >= 0) f->group[g].joined = f->group[to].joined; /* shorter next time */
        g = to;
    }
    return g;
}

/* Node i's entry in the group, or -1. */
static int entry_in(const nb__fusion *f, int group, int i) {
    int e = f->entry_of[i];
    while (e >= 0 && nb__group_of(f, f->entry[e].group) != group) e = f->entry[e].next_of_node;
    return e;
}

bool nb__has_member(const nb__fusion *f, int group, int i) { return entry_in(f, group, i) >= 0; }

nb__part nb__part_in(const nb__fusion *f, int group, int node) {
    int e = entry_in(f, group, node);
    return e < 0 ? NB__FULL : f->entry[e].part;
}

bool nb__has_room(const nb__fusion *f, int group, int node) {
    const nb__group *g = &f->group[group];
    return g->n_nodes + 1 + g->n_operands + f->p->node[node].n_in <= NB__REGION_MAX;
}

void nb__add_member(nb__fusion *f, int group, int node, nb__part part) {
    nb__group *g = &f->group[group];
    if (f->n_entries == f->entry_room) {
        int        room = f->entry_room ? 2 * f->entry_room : 256;
        nb__entry *more = nb__step_alloc(f->p->nb, (size_t)room * sizeof *more);
        if (!more) {
            f->failed = true;
            return;
        }
        if (f->n_entries) memcpy(more, f->entry, (size_t)f->n_entries * sizeof *more);
        f->entry = more;
        f->entry_room = room;
    }
    if (f->change.to_rows) {
        g->space = f->change.space;
        for (int e = g->first_entry; e >= 0; e = f->entry[e].next)
            if (f->entry[e].part == NB__FULL) f->entry[e].part = NB__ROW;
    }
    g->rows |= f->change.rows;
    f->change = (nb__change){0};
    f->entry[f->n_entries] = (nb__entry){node, group, g->first_entry, f->entry_of[node], part};
    g->first_entry = f->entry_of[node] = f->n_entries++;
    g->n_nodes++;
    g->n_operands += f->p->node[node].n_in;
}

/* ------------------------------------------------------------------------------------------------------------ groups */

void nb__new_group(nb__fusion *f, int node, bool fuse) {
    nb__group *g = &f->group[f->n_groups];
    nb__part   part = NB__FULL;
    *g = (nb__group){
        .is_late = f->is_late[node], .lasts = f->p->node[node].lasts, .first_entry = -1, .last = f->place[node], .joined = -1};
    g->is_region = fuse && nb__begin_region(f, g, node, &part);
    f->change = (nb__change){0};
    if (g->is_region && part == NB__ROW && !nb__lies_as(f, f->n_groups, node, part)) g->is_region = false;
    f->owner[node] = f->n_groups;
    nb__add_member(f, f->n_groups++, node, part);
}

static bool same_space(const nb_array *a, const nb_array *b) {
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->shape[i] == b->shape[i] && (a->shape[i] == 1 || a->stride[i] == b->stride[i]);
    return same;
}

bool nb__can_join(const nb__fusion *f, int a, int b) {
    const nb__group *g = &f->group[a], *h = &f->group[b];
    return g->is_region && h->is_region && g->is_late == h->is_late && g->lasts == h->lasts && same_space(&g->space, &h->space) &&
           (!g->rows || !h->rows || g->rows == h->rows) && (!g->columns || !h->columns || g->columns == h->columns) &&
           g->n_nodes + h->n_nodes + g->n_operands + h->n_operands <= NB__REGION_MAX;
}

void nb__join(nb__fusion *f, int to, int from) {
    nb__group *g = &f->group[to], *h = &f->group[from];
    int        e = h->first_entry;
    while (f->entry[e].next >= 0) e = f->entry[e].next;
    f->entry[e].next = g->first_entry;
    g->first_entry = h->first_entry;
    g->n_nodes += h->n_nodes;
    g->n_operands += h->n_operands;
    g->rows |= h->rows;
    g->columns |= h->columns;
    if (h->last > g->last) g->last = h->last;
    h->joined = to;
}

/* ------------------------------------------------------------------------------------------------------- the start */

static void list_uses(nb__fusion *f) {
    nb_program *p = f->p;
    for (int pass = 0; pass < 2; pass++) { /* count, then fill from the ends */
        for (int k = p->n_order - 1; k >= 0; k--) {
            const nb__node *n = &p->node[p->order[k]];
            if (n->source != NB__COMPUTED) continue;
            for (int m = 0; m < (nb__is_view(n) ? 1 : n->n_in); m++) {
                if (pass)
                    f->use[--f->first_use[n->in[m]]] = (nb__reading){p->order[k], m};
                else
                    f->first_use[n->in[m]]++;
            }
        }
        for (int i = 0; i < p->n_nodes && !pass; i++) f->first_use[i + 1] += f->first_use[i];
    }
}

/* Late: what only reaches assigns and cannot fail; it is computed with them, even if it lasts. Steps are told so from this by
 * schedule.c: here it keeps early and late nodes out of one group. */
static void find_late(nb__fusion *f, bool *early) {
    nb_program *p = f->p;
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0) early[p->root[i]] = true;
    for (int i = 0; i < p->n_nodes && p->check_finite; i++)
        if (p->node[i].is_watched && !p->node[i].is_dead) early[p->node[i].base] = f->is_result[p->node[i].base] = true;
    for (int k = p->n_order - 1; k >= 0; k--) {
        int       i = p->order[k];
        nb__node *n = &p->node[i];
        if (n->source != NB__COMPUTED || nb__is_view(n)) continue;
        f->is_late[i] = p->n_commits && !early[i] && nb__is_elementwise(n->op);
        n->lasts &= !f->is_late[i];
        for (int m = 0; m < n->n_in && !f->is_late[i]; m++) early[p->node[n->in[m]].base] = true;
    }
}

bool nb__fusion_begin(nb__fusion *f) {
    nb_program *p = f->p;
    size_t      n = (size_t)p->n_nodes + 1, uses = 1;
    for (int k = 0; k < p->n_order; k++) uses += (size_t)p->node[p->order[k]].n_in;
    f->place = nb__step_alloc(p->nb, n * sizeof *f->place);
    f->first_use = nb__step_alloc(p->nb, (n + 1) * sizeof *f->first_use);
    f->use = nb__step_alloc(p->nb, uses * sizeof *f->use);
    f->owner = nb__step_alloc(p->nb, n * sizeof *f->owner);
    f->entry_of = nb__step_alloc(p->nb, n * sizeof *f->entry_of);
    f->is_late = nb__step_alloc(p->nb, n);
    f->is_result = nb__find_results(p);
    f->group = nb__step_alloc(p->nb, n * sizeof *f->group);
    bool *early = nb__step_alloc(p->nb, n);
    if (!f->place || !f->first_use || !f->use || !f->owner || !f->entry_of || !f->is_late || !f->is_result || !f->group || !early)
        return false;
    for (size_t i = 0; i < n; i++) f->owner[i] = f->entry_of[i] = f->place[i] = -1;
    for (int k = 0; k < p->n_order; k++) f->place[p->order[k]] = k;
    list_uses(f);
    find_late(f, early);
    return true;
}
