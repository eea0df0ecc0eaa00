/* peephole.c: looks for the chains of fused.def among a region's instructions.
 *
 * A chain is found from its last step backwards: each step's row must be that of the instruction that computes the value, and a value that
 * stands twice in the chain must be the same one. Sums and products are tried in both orders of their operands. A chain then runs as one,
 * at the place of its last instruction. */
#include <string.h>

#include "kernels.h"

enum { VALUES = NB__CHAIN_VALUES };

typedef struct step {
    int row, in[2]; /* row -1: beyond the last step */
    int is_kept;
} step;

typedef struct pattern {
    int  operands;
    step step[VALUES];
} pattern;

static const pattern patterns[] = {
#define STEP(row, a, b) {NB__ROW_##row, {a, b}, 0},
#define KEEP(row, a, b) {NB__ROW_##row, {a, b}, 1},
#define FUSED(name, operands, usual, steps) {operands, {steps{-1, {0, 0}, 0}}},
#include "fused.def"
#undef FUSED
#undef STEP
#undef KEEP
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

static int steps_of(const pattern *p) {
    int n = 0;
    while (p->step[n].row >= 0) n++;
    return n;
}

static bool has_two_orders(int row) { return row == NB__ROW_add || row == NB__ROW_mul; }

static bool bind(int *value, int at, int to) {
    if (value[at] < 0) value[at] = to;
    return value[at] == to;
}

/* Whether the pattern, with its last step at instruction `root`, fits; bit i of `order`: the i-th step of two orders, from the last one, is
 * turned around. value: what each value of the pattern is in the region. */
static bool fits(const nb__instruction *list, int n_in, const pattern *p, int root, unsigned order, int *value) {
    int n = steps_of(p);
    for (int v = 0; v < p->operands + n; v++) value[v] = -1;
    value[p->operands + n - 1] = n_in + root;
    for (int k = n - 1; k >= 0; k--) {
        const step *s = &p->step[k];
        int         at = value[p->operands + k];
        if (at < n_in) return false;
        const nb__instruction *ins = &list[at - n_in];
        if (ins->row != s->row || ins->dtype != NB_F32) return false;
        bool turned = has_two_orders(s->row) && order & 1;
        if (has_two_orders(s->row)) order >>= 1;
        if (!bind(value, s->in[0], ins->in[turned])) return false;
        if (ins->in[1] >= 0 && !bind(value, s->in[1], ins->in[!turned])) return false;
    }
    return true;
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

/* Whether all steps may run at the place of the last one: nobody else needs what stays inside, nobody needs the rest before, and no
 * other result is written in between, which might lie where an operand does. */
static bool is_movable(const nb__instruction *list, int n_in, int n, const pattern *p, const int *value) {
    int steps = steps_of(p), last = value[p->operands + steps - 1] - n_in, first = last;
    for (int v = 0; v < p->operands; v++)
        if (is_inside(p, value, value[v])) return false;
    for (int k = 0; k < steps; k++) {
        int at = value[p->operands + k] - n_in;
        for (int i = 0; i < k; i++)
            if (value[p->operands + i] == n_in + at) return false; /* one instruction, two steps */
        if (list[at].part != list[last].part) return false;
        if (list[at].store >= 0 && !p->step[k].is_kept) return false;
        if (next_reader(list, n_in, n, p, value, n_in + at, at) < (p->step[k].is_kept ? last : n)) return false;
        first = at < first ? at : first;
    }
    for (int i = first; i < last; i++)
        if (list[i].store >= 0 && !is_inside(p, value, n_in + i)) return false;
    return true;
}

static bool find(const nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, const pattern *p, int root, int *value) {
    int orders = 0;
    if (list[root].row != p->step[steps_of(p) - 1].row) return false;
    for (int k = 0; p->step[k].row >= 0; k++) orders += has_two_orders(p->step[k].row);
    for (unsigned order = 0; order < 1u << orders; order++) {
        if (!fits(list, n_in, p, root, order, value)) continue;
        bool floats = true;
        for (int v = 0; v < p->operands; v++)
            floats = floats && (value[v] < n_in ? in_dtype[value[v]] : list[value[v] - n_in].dtype) == NB_F32;
        if (floats && is_movable(list, n_in, n, p, value)) return true;
    }
    return false;
}

int nb__find_chains(nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, nb__chain *chain) {
    int found = 0, value[VALUES];
    for (int k = 0; k < PATTERNS; k++)
        for (int root = 0; root < n; root++) {
            const pattern *p = &patterns[k];
            if (!find(list, n_in, in_dtype, n, p, root, value)) continue;
            nb__chain *c = &chain[found];
            *c = (nb__chain){
                .pattern = (short)k, .operands = (short)p->operands, .n = (short)(p->operands + steps_of(p)), .at = (short)root};
            for (int v = 0; v < c->n; v++) c->value[v] = (short)value[v];
            for (int v = c->operands; v < c->n - 1; v++) {
                nb__instruction *ins = &list[value[v] - n_in];
                bool             wanted = ins->store >= 0 || next_reader(list, n_in, n, p, value, value[v], 0) < n;
                ins->row = wanted ? NB__CHAIN_KEEP : NB__CHAIN_STEP;
                if (!wanted) c->value[v] = -1;
            }
            list[root].row = NB__CHAIN;
            list[root].chain = found++;
        }
    return found;
}
