/* fuse.c: which nodes one step computes.
 *
 * Nodes are looked at from the last to the first. One whose users lie in one region (elementwise work and reductions over one
 * space) joins it: its values then never leave the cache. This gathers whole expressions: an optimiser's update of one parameter,
 * a softmax with its loss, the backward of a normalisation. Three more rules, in this order, for a node with users in several
 * steps:
 *   join the regions   that read it, when they have one space and none needs another's results
 *   compute it again   in each that is left, when it is cheap and made of one large array that they do not read yet: reading that
 *                      takes no longer than reading the node; and where it is made of what they read, also if others need it in
 *                      memory
 *   keep it            in memory, as a second result of the first region that reads it
 * A max pool's index and values, of one image, are one kernel's work and so one step.
 * What may join what in which part (FULL, ROW ...) is regions.c. */
#include "ops.h"
#include "regions.h"

/* ------------------------------------------------------------------------------------------------------------ users of a node */

/* Use by member u of a region. */
typedef struct use {
    int user, seen; /* the member, and the node or view that it reads */
    int operand;
} use;

enum { MOST_USES = 64, MOST_VISITS = 512, MOST_GROUPS = 16, MOST_VIEWS = 64 };

/* Who reads a node: groups, and whether each could have it as a member. */
typedef struct readers {
    int  n, group[MOST_GROUPS];
    bool direct[MOST_GROUPS]; /* all its uses there are by members that see the node's own elements */
    int  n_uses, use_group[MOST_USES];
    use  use[MOST_USES];
    bool too_many;
} readers;

static int reader(readers *r, int group) {
    for (int i = 0; i < r->n; i++)
        if (r->group[i] == group) return i;
    if (r->n == MOST_GROUPS) {
        r->too_many = true;
        return 0;
    }
    r->group[r->n] = group;
    r->direct[r->n] = true;
    return r->n++;
}

static void drop_reader(readers *r, int k) {
    r->n--;
    r->group[k] = r->group[r->n];
    r->direct[k] = r->direct[r->n];
}

/* Adds those who read node `at`, which shows node i: as it is, or in another shape or order, by so many views of views. */
static void add_readers(const nb__fusion *f, readers *r, int at, bool direct, int views) {
    if (views > MOST_VIEWS) r->too_many = true; /* the call stack is finite */
    for (int u = f->first_use[at]; u < f->first_use[at + 1] && !r->too_many; u++) {
        int             user = f->use[u].node, operand = f->use[u].operand;
        const nb__node *n = &f->p->node[user];
        if (nb__is_view(n)) {
            if (operand == 0) add_readers(f, r, user, direct && nb__shows_all(f->p, user), views + 1);
            continue;
        }
        for (int e = f->entry_of[user]; e >= 0; e = f->entry[e].next_of_node) {
            int k = reader(r, nb__group_of(f, f->entry[e].group));
            if (!direct || r->n_uses == MOST_USES) {
                r->direct[k] = false;
                continue;
            }
            r->use_group[r->n_uses] = r->group[k];
            r->use[r->n_uses++] = (use){user, at, operand};
        }
    }
}

/* The part that node i would have in group g; false: it cannot be a member. */
static bool fits(nb__fusion *f, const readers *r, int i, int k, nb__part *part) {
    bool first = true;
    int  g = r->group[k];
    if (!r->direct[k] || !f->group[g].is_region || !nb__has_room(f, g, i)) return false;
    for (int u = 0; u < r->n_uses; u++) {
        if (r->use_group[u] != g) continue;
        nb__part here;
        if (!nb__part_for_use(f, g, r->use[u].user, r->use[u].operand, r->use[u].seen, i, &here) || (!first && here != *part))
            return false;
        *part = here;
        first = false;
    }
    return !first && nb__can_be(f, g, i, part);
}

/* Makes node i a member of group g, whose uses of it are then no operands of the region. */
static void add(nb__fusion *f, const readers *r, int g, int i, nb__part part) {
    nb__add_member(f, g, i, part);
    for (int u = 0; u < r->n_uses; u++) f->group[g].n_operands -= r->use_group[u] == g;
}

/* ------------------------------------------------------------------------------------------------------------- who needs whom */

/* The group that makes what node `in` shows for group g; -1: none does, or g does so itself. */
static int maker(const nb__fusion *f, int g, int in) {
    int base = f->p->node[in].base, owner = f->owner[base];
    return owner < 0 || nb__has_member(f, g, base) ? -1 : nb__group_of(f, owner);
}

/* Whether group g needs a result of one of the targets, directly or not. Only nodes behind place `from` in the order count: none
 * before it can lead to a target. Unsure after many visits: then yes. */
static bool needs(nb__fusion *f, int g, const int *target, int n_targets, int from) {
    int stack[MOST_VISITS], n = 0, visits = 0;
    int mark = ++f->visit;
    stack[n++] = g;
    f->group[g].mark = mark;
    while (n) {
        int at = stack[--n];
        for (int e = f->group[at].first_entry; e >= 0; e = f->entry[e].next) {
            const nb__node *node = &f->p->node[f->entry[e].node];
            for (int m = 0; m < node->n_in; m++) {
                if (f->place[f->p->node[node->in[m]].base] <= from) continue;
                int to = maker(f, at, node->in[m]);
                if (to < 0 || f->group[to].mark == mark) continue;
                for (int t = 0; t < n_targets; t++)
                    if (to == target[t] && to != g) return true;
                f->group[to].mark = mark;
                if (++visits >= MOST_VISITS || n >= MOST_VISITS) return true;
                stack[n++] = to;
            }
        }
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------------------ the rules */

static bool compute_again(nb__fusion *f, const readers *r, int i) {
    nb__part part[MOST_GROUPS];
    for (int k = 0; k < r->n; k++)
        if (!nb__is_cheap_for(f, r->group[k], i, 1) || !fits(f, r, i, k, &part[k])) return false;
    for (int k = 0; k < r->n; k++) {
        fits(f, r, i, k, &part[k]); /* once more: f->change is to be this group's */
        add(f, r, r->group[k], i, part[k]);
    }
    return true;
}

/* In regions that read all it is made of; the others remain. */
static void compute_where_free(nb__fusion *f, readers *r, int i) {
    for (int k = r->n - 1; k >= 0; k--) {
        nb__part part;
        int      g = r->group[k];
        if (!f->group[g].is_region || !nb__is_cheap_for(f, g, i, 0) || !fits(f, r, i, k, &part)) continue;
        add(f, r, g, i, part);
        drop_reader(r, k);
    }
}

/* Joins regions that read node i. */
static void join_readers(nb__fusion *f, readers *r, int i) {
    for (int a = 0; a < r->n; a++) {
        for (int b = a + 1; b < r->n; b++) {
            int g = r->group[a], h = r->group[b];
            if (!nb__can_join(f, g, h) || needs(f, g, &h, 1, f->place[i]) || needs(f, h, &g, 1, f->place[i])) continue;
            nb__join(f, g, h);
            r->direct[a] &= r->direct[b];
            for (int u = 0; u < r->n_uses; u++)
                if (r->use_group[u] == h) r->use_group[u] = g;
            drop_reader(r, b);
            b = a; /* from the start: g is another one now */
        }
    }
}

/* The region that node i joins to be kept there, and its part: the first one that reads it. -1: none. */
static int find_keeper(nb__fusion *f, const readers *r, int i, nb__part *part) {
    int first = 0;
    for (int k = 1; k < r->n; k++)
        if (f->group[r->group[k]].last < f->group[r->group[first]].last) first = k;
    int g = r->n ? r->group[first] : -1;
    if (g < 0 || f->group[g].is_late != f->is_late[i] || f->group[g].lasts != f->p->node[i].lasts || !fits(f, r, i, first, part))
        return -1;
    if (!nb__lies_as(f, g, i, *part)) return -1;
    return needs(f, g, r->group, r->n, f->place[i]) ? -1 : g;
}

/* The group of the pool_take that node i, a max pool's index, is made for: one kernel finds places and values. -1: none. */
static int pool_of(const nb__fusion *f, int i) {
    const nb__node *n = &f->p->node[i];
    if (n->op != &nb__op_max_pool2d_index || f->is_result[i] || !f->p->nb->isa->tiles || f->p->node[n->in[0]].dtype != NB_F32)
        return -1;
    for (int u = f->first_use[i]; u < f->first_use[i + 1]; u++) {
        int             user = f->use[u].node, g = f->owner[user];
        const nb__node *take = &f->p->node[user];
        if (take->op == &nb__op_pool_take && take->in[0] == n->in[0] && f->group[g].n_nodes == 1 &&
            f->group[g].is_late == f->is_late[i] && f->group[g].lasts == n->lasts)
            return g;
    }
    return -1;
}

static void place_node(nb__fusion *f, int i, bool fuse) {
    readers  r = {0};
    nb__part part = NB__FULL;
    int      pool = fuse ? pool_of(f, i) : -1;
    if (pool >= 0) {
        f->change = (nb__change){0};
        f->owner[i] = pool;
        nb__add_member(f, pool, i, part);
        return;
    }
    if (fuse) add_readers(f, &r, i, true, 0);
    if (fuse && !r.too_many) {
        join_readers(f, &r, i);
        if (r.n == 1 && !f->is_result[i] && fits(f, &r, i, 0, &part) && (!f->group[r.group[0]].is_late || f->is_late[i])) {
            add(f, &r, r.group[0], i, part);
            return;
        }
        if (r.n > 1 && !f->is_result[i] && compute_again(f, &r, i)) return;
        compute_where_free(f, &r, i);
        int g = find_keeper(f, &r, i, &part);
        if (g >= 0) {
            f->owner[i] = g;
            add(f, &r, g, i, part);
            return;
        }
    }
    nb__new_group(f, i, fuse);
}

/* ------------------------------------------------------------------------------------------------------------------ the steps */

/* A heap of groups, the one whose last node comes first on top. */
static bool sooner(const nb__fusion *f, int a, int b) { return f->group[a].last < f->group[b].last; }

static void exchange(int *a, int *b) {
    int t = *a;
    *a = *b;
    *b = t;
}

static void heap_push(const nb__fusion *f, int *heap, int *n, int group) {
    int k = (*n)++;
    heap[k] = group;
    for (; k > 0 && sooner(f, heap[k], heap[(k - 1) / 2]); k = (k - 1) / 2) exchange(&heap[k], &heap[(k - 1) / 2]);
}

static int heap_pop(const nb__fusion *f, int *heap, int *n) {
    int top = heap[0];
    heap[0] = heap[--*n];
    for (int k = 0, child; (child = 2 * k + 1) < *n; k = child) {
        if (child + 1 < *n && sooner(f, heap[child + 1], heap[child])) child++;
        if (!sooner(f, heap[child], heap[k])) break;
        exchange(&heap[k], &heap[child]);
    }
    return top;
}

/* Groups in an order in which each comes after those it needs, otherwise in that of their last nodes: a heap of the ready
 * ones. */
static bool order_groups(nb__fusion *f, int *sorted, int *n_sorted) {
    const nb_program *p = f->p;
    size_t            room = (size_t)f->n_groups + 1, most = 1; /* of edges: from a group to one that needs it */
    for (int e = 0; e < f->n_entries; e++) most += (size_t)p->node[f->entry[e].node].n_in;
    int *waits = nb__step_alloc(p->nb, room * sizeof *waits), *heap = nb__step_alloc(p->nb, room * sizeof *heap), n = 0;
    int *first = nb__step_alloc(p->nb, room * sizeof *first), *next = nb__step_alloc(p->nb, most * sizeof *next);
    int *user = nb__step_alloc(p->nb, most * sizeof *user), n_edges = 0;
    if (!waits || !heap || !first || !next || !user) return false;
    for (int g = 0; g < f->n_groups; g++) first[g] = -1;
    for (int g = 0; g < f->n_groups; g++) {
        for (int e = f->group[g].joined < 0 ? f->group[g].first_entry : -1; e >= 0; e = f->entry[e].next) {
            const nb__node *node = &p->node[f->entry[e].node];
            for (int m = 0; m < node->n_in; m++) {
                int from = maker(f, g, node->in[m]);
                if (from < 0) continue;
                user[n_edges] = g;
                next[n_edges] = first[from];
                first[from] = n_edges++;
                waits[g]++;
            }
        }
    }
    for (int g = 0; g < f->n_groups; g++)
        if (f->group[g].joined < 0 && !waits[g]) heap_push(f, heap, &n, g);
    while (n) {
        int g = heap_pop(f, heap, &n);
        sorted[(*n_sorted)++] = g;
        for (int e = first[g]; e >= 0; e = next[e])
            if (--waits[user[e]] == 0) heap_push(f, heap, &n, user[e]);
    }
    return true;
}

static bool fill_step(nb__fusion *f, int g, nb__step *s) {
    nb_program      *p = f->p;
    const nb__group *group = &f->group[g];
    s->node = nb__program_alloc(p, (size_t)group->n_nodes * sizeof *s->node);
    s->part = nb__program_alloc(p, (size_t)group->n_nodes * sizeof *s->part);
    if (!s->node || !s->part) return false;
    for (int e = group->first_entry; e >= 0; e = f->entry[e].next) {
        int k = s->n_nodes++, i = f->entry[e].node; /* entries come in any order: sorted here */
        for (; k > 0 && f->place[s->node[k - 1]] > f->place[i]; k--) {
            s->node[k] = s->node[k - 1];
            s->part[k] = s->part[k - 1];
        }
        s->node[k] = i;
        s->part[k] = f->entry[e].part;
    }
    s->space = group->space;
    s->rows = group->rows;
    s->columns = group->columns;
    s->is_region = group->is_region && group->n_nodes > 1;
    s->lasts = group->lasts;
    for (int k = 0; k < s->n_nodes; k++) {
        int owner = f->owner[s->node[k]];
        if (owner >= 0 && nb__group_of(f, owner) == g) p->node[s->node[k]].step = (int)(s - p->step);
    }
    return true;
}

bool nb__fuse(nb_program *p, bool fuse) {
    nb__fusion f = {.p = p};
    if (!nb__fusion_begin(&f)) return false;
    for (int k = p->n_order - 1; k >= 0; k--) {
        int i = p->order[k];
        if (p->node[i].source == NB__COMPUTED && !nb__is_view(&p->node[i])) place_node(&f, i, fuse);
        if (f.failed) return false;
    }
    int *sorted = nb__step_alloc(p->nb, ((size_t)f.n_groups + 1) * sizeof *sorted), n = 0;
    p->step = nb__program_alloc(p, (size_t)f.n_groups * sizeof *p->step + 1);
    if (!p->step || !sorted || !order_groups(&f, sorted, &n)) return false;
    for (int k = 0; k < n; k++)
        if (!fill_step(&f, sorted[k], &p->step[p->n_steps++])) return false;
    return true;
}
