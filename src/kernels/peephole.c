/* peephole.c: looks for the chains of fused.def among a region's instructions.
 *
 * A chain is found from its last step backwards: each step's row must be that of the instruction that computes the value, and a
 * value that stands twice in the chain must be the same one. Sums and products are tried in both orders of their operands; a
 * result that no later step reads is looked for among all instructions. A chain then runs as one, at the place of the last of its
 * instructions. Where rows are long, what has one element for each is read as such. */
#include <string.h>

#include "kernels.h"

enum { VALUES = NB__CHAIN_VALUES, END = -100 };

typedef struct step {
    int row, in[2]; /* row END: beyond the last step */
    int is_kept;
} step;

typedef struct pattern {
    int      operands;
    unsigned usual;
    step     step[VALUES];
} pattern;

static const pattern patterns[] = {
#define STEP(row, a, b) {NB__ROW_##row, {a, b}, 0},
#define KEEP(row, a, b) {NB__ROW_##row, {a, b}, 1},
#define SUM(a) {NB__SUM, {a, a}, 1},
#define FUSED(name, operands, usual, steps) {operands, usual, {steps{END, {0, 0}, 0}}},
#include "fused.def"
#undef FUSED
#undef STEP
#undef KEEP
#undef SUM
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

static int steps_of(const pattern *p) {
    int n = 0;
    while (p->step[n].row != END) n++;
    return n;
}

static int sums_of(const pattern *p) {
    int n = 0;
    for (int k = 0; p->step[k].row != END; k++) n += p->step[k].row == NB__SUM;
    return n;
}

/* Whether each step goes on with the result before, and a series can do the same. */
static bool is_series(const pattern *p) {
    for (int k = 0; p->step[k].row != END; k++) {
        int before = p->operands + k - 1;
        if (!nb__is_series_row(p->step[k].row) || (k && p->step[k].in[0] != before && p->step[k].in[1] != before)) return false;
    }
    return true;
}

bool nb__has_chain_sums(const nb__chain *c) { return sums_of(&patterns[c->pattern]) > 0; }

bool nb__is_chain_sum(const nb__chain *c, int v) {
    return v >= c->operands && patterns[c->pattern].step[v - c->operands].row == NB__SUM;
}

static bool has_two_orders(int row) { return row == NB__ROW_add || row == NB__ROW_mul; }

static bool is_inside(const pattern *p, const int *value, int v) {
    for (int k = 0; k < steps_of(p); k++)
        if (value[p->operands + k] == v) return true;
    return false;
}

/* The first instruction from `from` on outside the chain that reads v; n: there is none. */
static int next_reader(const nb__instruction *list, int n_in, int n, const pattern *p, const int *value, int v, int from) {
    while (from < n && (!nb__reads(&list[from], v) || is_inside(p, value, n_in + from))) from++;
    return from;
}

/* Whether all steps may run at the place of the last one in the list: nobody else needs what stays inside, nobody needs the rest
 * before, and no other result is written in between, which might lie where an operand does. */
static bool is_movable(const nb__instruction *list, int n_in, int n, const pattern *p, const int *value) {
    int steps = steps_of(p), first = n, last = -1;
    for (int v = 0; v < p->operands; v++)
        if (is_inside(p, value, value[v])) return false;
    for (int k = 0; k < steps; k++) {
        int at = value[p->operands + k] - n_in;
        for (int i = 0; i < k; i++)
            if (value[p->operands + i] == n_in + at) return false; /* one instruction, two steps */
        first = at < first ? at : first;
        last = at > last ? at : last;
    }
    for (int k = 0; k < steps; k++) {
        int      at = value[p->operands + k] - n_in;
        nb__part part = sums_of(p) ? NB__FULL : list[last].part;
        if (list[at].part != (p->step[k].row == NB__SUM ? NB__ROW : part)) return false;
        if (list[at].store >= 0 && !p->step[k].is_kept) return false;
        if (next_reader(list, n_in, n, p, value, n_in + at, at) < (p->step[k].is_kept ? last : n)) return false;
    }
    for (int i = first; i < last; i++)
        if (list[i].store >= 0 && !is_inside(p, value, n_in + i)) return false;
    return true;
}

/* A pattern laid over a list. value: what each of its values is in the region, -1 where that is open. */
typedef struct search {
    const nb__instruction *list;
    int                    n_in, n;
    const nb_dtype        *in_dtype;
    const pattern         *p;
    int                   *value;
} search;

static bool is_complete(const search *s) {
    for (int v = 0; v < s->p->operands; v++)
        if ((s->value[v] < s->n_in ? s->in_dtype[s->value[v]] : s->list[s->value[v] - s->n_in].dtype) != NB_F32) return false;
    return is_movable(s->list, s->n_in, s->n, s->p, s->value);
}

static bool lay(search *s, int k);

/* Step k is instruction i, its operands in the one order or the other; then those before it. */
static bool lay_step(search *s, int k, int i, bool turned) {
    const step            *wanted = &s->p->step[k];
    const nb__instruction *ins = &s->list[i];
    int                    a = wanted->in[0], b = wanted->in[1], *value = s->value, old_a = value[a], old_b = value[b];
    bool                   has_two = ins->in[1] >= 0;
    if (old_a >= 0 && old_a != ins->in[turned]) return false;
    value[a] = ins->in[turned];
    bool fits = !has_two || value[b] < 0 || value[b] == ins->in[!turned];
    if (fits && has_two) value[b] = ins->in[!turned];
    if (fits && lay(s, k - 1)) return true;
    value[b] = old_b;
    value[a] = old_a;
    return false;
}

/* Steps k, k - 1 ... 0: a way that fits. */
static bool lay(search *s, int k) {
    if (k < 0) return is_complete(s);
    const step *wanted = &s->p->step[k];
    int        *at = &s->value[s->p->operands + k], known = *at;
    int         first = known < 0 ? 0 : known - s->n_in, end = known < 0 ? s->n : first + 1;
    if (first < 0) return false; /* an operand of the region */
    for (int i = first; i < end; i++) {
        if (s->list[i].row != wanted->row || s->list[i].dtype != NB_F32) continue;
        *at = s->n_in + i;
        if (lay_step(s, k, i, false) || (has_two_orders(wanted->row) && lay_step(s, k, i, true))) return true;
    }
    *at = known;
    return false;
}

static bool find(const nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, const pattern *p, int root, int *value) {
    search s = {list, n_in, n, in_dtype, p, value};
    int    steps = steps_of(p);
    if (steps > n) return false;
    for (int v = 0; v < p->operands + steps; v++) value[v] = -1;
    value[p->operands + steps - 1] = n_in + root;
    return lay(&s, steps - 1);
}

/* Of operands that a chain has as rows of one element, the element itself; those whose bits are in `which`. */
static void read_ones(const nb__instruction *list, int n_in, nb__chain *c, unsigned which) {
    for (int v = 0; v < c->operands; v++) {
        if (!(which >> v & 1) || c->value[v] < n_in || list[c->value[v] - n_in].row != NB__SPLAT) continue;
        c->value[v] = (short)list[c->value[v] - n_in].in[0];
        c->row_ones |= 1u << v;
    }
}

/* What no instruction and no chain reads any more is left out. */
static void drop_splats(nb__instruction *list, int n_in, int n, const nb__chain *chain, int chains) {
    for (int k = 0; k < n; k++) {
        bool is_read = list[k].row != NB__SPLAT;
        for (int i = k + 1; i < n && !is_read; i++) is_read = list[i].row > NB__CHAIN && nb__reads(&list[i], n_in + k);
        for (int c = 0; c < chains; c++)
            for (int v = 0; v < chain[c].operands; v++) is_read = is_read || chain[c].value[v] == n_in + k;
        if (!is_read) list[k].row = NB__CHAIN_STEP;
    }
}

int nb__find_chains(nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, bool by_rows, nb__chain *chain) {
    int found = 0, value[VALUES];
    for (int k = 0; k < PATTERNS; k++)
        for (int root = 0; root < n; root++) {
            const pattern *p = &patterns[k];
            if (sums_of(p) && !by_rows) continue;
            if (list[root].row != p->step[steps_of(p) - 1].row || !find(list, n_in, in_dtype, n, p, root, value)) continue;
            nb__chain *c = &chain[found];
            *c = (nb__chain){.pattern = (short)k, .operands = (short)p->operands, .n = (short)(p->operands + steps_of(p))};
            for (int v = 0; v < c->n; v++) c->value[v] = (short)value[v];
            if (by_rows) read_ones(list, n_in, c, sums_of(p) ? p->usual : ~0u);
            if (sums_of(p) && c->row_ones != p->usual) continue;
            if (is_series(p) && !c->row_ones) continue; /* a series is as fast, and may go on; a row by itself is, too */
            c->by_rows = c->row_ones || sums_of(p);
            for (int v = c->operands; v < c->n; v++) {
                nb__instruction *ins = &list[value[v] - n_in];
                bool             wanted = ins->store >= 0 || next_reader(list, n_in, n, p, value, value[v], 0) < n;
                ins->row = wanted ? NB__CHAIN_KEEP : NB__CHAIN_STEP;
                if (!wanted) c->value[v] = -1;
                if (value[v] - n_in > c->at) c->at = (short)(value[v] - n_in);
            }
            list[c->at].row = NB__CHAIN;
            list[c->at].chain = found++;
        }
    if (by_rows) drop_splats(list, n_in, n, chain, found);
    return found;
}
