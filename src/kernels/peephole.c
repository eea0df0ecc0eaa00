/* peephole.c: looks for the chains of fused.def among a region's instructions.
 *
 * A chain is found from its last step backwards: each step's row must be that of the instruction that computes the value, and a value that
 * stands twice in the chain must be the same one. Sums and products are tried in both orders of their operands; a result that no later step reads
 * is looked for among all instructions. A chain then runs as one, at the place of the last of its instructions. Where rows are long, what has one element
 * for each is read as such. */
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

bool nb__has_chain_sums(const nb__chain *c) { return sums_of(&patterns[c->pattern]) > 0; }

bool nb__is_chain_sum(const nb__chain *c, int v) {
    return v >= c->operands && patterns[c->pattern].step[v - c->operands].row == NB__SUM;
}

static bool has_two_orders(int row) { return row == NB__ROW_add || row == NB__ROW_mul; }

static bool bind(int *value, int at, int to) {
    if (value[at] < 0) value[at] = to;
    return value[at] == to;
}

/* A way to lay a pattern over a list: for each step which choice was taken. Bit 0: its operands are turned around; the rest: which instruction it is,
 * where no later step tells. */
typedef struct way {
    unsigned choice[VALUES], choices[VALUES];
} way;

/* Goes from the last step, at instruction `root`, to the first, choosing as w says. value: what each value of the pattern is in the region. The
 * step that does not fit, or -1. */
static int misfit(const nb__instruction *list, int n_in, int n, const pattern *p, int root, way *w, int *value) {
    int steps = steps_of(p);
    for (int v = 0; v < p->operands + steps; v++) value[v] = -1;
    value[p->operands + steps - 1] = n_in + root;
    for (int k = steps - 1; k >= 0; k--) {
        const step *s = &p->step[k];
        int        *at = &value[p->operands + k];
        w->choices[k] = *at < 0 ? 2 * (unsigned)n : 2;
        if (*at < 0) *at = n_in + (int)(w->choice[k] >> 1);
        if (*at < n_in) return k;
        const nb__instruction *ins = &list[*at - n_in];
        bool                   turned = w->choice[k] & 1;
        if (ins->row != s->row || ins->dtype != NB_F32 || (turned && !has_two_orders(s->row))) return k;
        if (!bind(value, s->in[0], ins->in[turned])) return k;
        if (ins->in[1] >= 0 && !bind(value, s->in[1], ins->in[!turned])) return k;
    }
    return -1;
}

/* The next way that differs at step k or behind it. False: there is none. */
static bool next_way(way *w, int k, int steps) {
    for (int before = 0; before < k; before++) w->choice[before] = 0;
    for (; k < steps; k++) {
        if (++w->choice[k] < w->choices[k]) return true;
        w->choice[k] = 0;
    }
    return false;
}

static bool reads(const nb__instruction *ins, int value) {
    return ins->in[0] == value || ins->in[1] == value || ins->in[2] == value;
}

static bool is_inside(const pattern *p, const int *value, int v) {
    for (int k = 0; k < steps_of(p); k++)
        if (value[p->operands + k] == v) return true;
    return false;
}

/* The first instruction from `from` on outside the chain that reads v; n: there is none. */
static int next_reader(const nb__instruction *list, int n_in, int n, const pattern *p, const int *value, int v, int from) {
    while (from < n && (!reads(&list[from], v) || is_inside(p, value, n_in + from))) from++;
    return from;
}

/* Whether all steps may run at the place of the last one in the list: nobody else needs what stays inside, nobody needs the rest before, and no
 * other result is written in between, which might lie where an operand does. */
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
        int at = value[p->operands + k] - n_in;
        nb__part part = sums_of(p) ? NB__FULL : list[last].part;
        if (list[at].part != (p->step[k].row == NB__SUM ? NB__ROW : part)) return false;
        if (list[at].store >= 0 && !p->step[k].is_kept) return false;
        if (next_reader(list, n_in, n, p, value, n_in + at, at) < (p->step[k].is_kept ? last : n)) return false;
    }
    for (int i = first; i < last; i++)
        if (list[i].store >= 0 && !is_inside(p, value, n_in + i)) return false;
    return true;
}

static bool find(const nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, const pattern *p, int root, int *value) {
    way w = {{0}, {0}};
    int steps = steps_of(p), k;
    if (steps > n) return false;
    do {
        k = misfit(list, n_in, n, p, root, &w, value);
        if (k >= 0) continue;
        bool floats = true;
        for (int v = 0; v < p->operands; v++)
            floats = floats && (value[v] < n_in ? in_dtype[value[v]] : list[value[v] - n_in].dtype) == NB_F32;
        if (floats && is_movable(list, n_in, n, p, value)) return true;
        k = 0;
    } while (next_way(&w, k, steps));
    return false;
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
        for (int i = k + 1; i < n && !is_read; i++) is_read = list[i].row > NB__CHAIN && reads(&list[i], n_in + k);
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
            if (c->n == c->operands + 1 && !c->row_ones) continue; /* a row by itself is as fast */
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
