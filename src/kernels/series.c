/* series.c: looks for series among a region's instructions: elementwise work of which each goes on with the result of the one
 * before.
 *
 * A series begins at any instruction that can be a step and goes on with the first reader of its result, if that can be one, too.
 * It runs at the place of its last step: so nothing in between may read what a step makes, nor write a result, which might lie
 * where an operand does. */
#include "kernels.h"

typedef struct list {
    nb__instruction *ins;
    int              n_in, n;
    const nb_dtype  *in_dtype;
} list;

static bool is_float(const list *l, int value) {
    return (value < l->n_in ? l->in_dtype[value] : l->ins[value - l->n_in].dtype) == NB_F32;
}

/* The first reader of a value after instruction k; n: there is none. */
static int next_reader(const list *l, int value, int k) {
    do k++;
    while (k < l->n && !nb__reads(&l->ins[k], value));
    return k;
}

static bool has_one_operand(int row) {
    return row == NB__ROW_neg || row == NB__ROW_abs || row == NB__ROW_square || row == NB__ROW_relu ||
           row == NB__ROW_leaky_relu || row == NB__ROW_clamp || row == NB__ROW_sqrt;
}

static bool has_two_operands(int row) {
    return row == NB__ROW_add || row == NB__ROW_sub || row == NB__ROW_mul || row == NB__ROW_div || row == NB__ROW_minimum ||
           row == NB__ROW_maximum;
}

static bool compares(int row) {
    return row == NB__ROW_less || row == NB__ROW_less_equal || row == NB__ROW_greater || row == NB__ROW_greater_equal ||
           row == NB__ROW_equal;
}

bool nb__is_series_row(int row) { return has_one_operand(row) || has_two_operands(row) || compares(row); }

/* Instruction k as a step after `before`, a value; -1: as the first one, which takes its first operand for that. Returns the
 * instruction that has the step's result: k, or, of a comparison, its only reader, which chooses; -1: k is no step. */
static int make_step(const list *l, int k, int *before, nb__series_part *step) {
    const nb__instruction *ins = &l->ins[k];
    bool                   two = has_two_operands(ins->row) || compares(ins->row);
    if (!(two || has_one_operand(ins->row)) || !is_float(l, ins->in[0]) ||
        (two && (!is_float(l, ins->in[1]) || ins->in[0] == ins->in[1])))
        return -1;
    if (*before < 0) *before = ins->in[0];
    int turned = ins->in[0] != *before;
    *step = (nb__series_part){
        .code = (short)(2 * ins->row + turned), .other = (short)*before, .yes = (short)*before, .no = (short)*before,
        .p = (float)ins->p, .q = (float)ins->q};
    if (two) step->other = (short)ins->in[!turned];
    if (!compares(ins->row)) return k;
    int value = l->n_in + k, reader = next_reader(l, value, k);
    if (ins->store >= 0 || reader == l->n || next_reader(l, value, reader) < l->n) return -1;
    const nb__instruction *chooser = &l->ins[reader];
    if (chooser->row != NB__ROW_where || chooser->in[0] != value || chooser->part != ins->part) return -1;
    for (int m = 1; m < 3; m++)
        if (chooser->in[m] == value || chooser->in[m] == *before || !is_float(l, chooser->in[m])) return -1;
    step->yes = (short)chooser->in[1];
    step->no = (short)chooser->in[2];
    return reader;
}

/* Whether the series may run as late as instruction `to`: of those between, nobody reads what its members make, and nobody writes
 * a result. */
static bool may_wait(const list *l, const int *member, int n_members, int from, int to) {
    for (int i = from + 1; i < to; i++) {
        bool is_member = false, is_reader = false;
        for (int m = 0; m < n_members; m++) {
            is_member |= member[m] == i;
            is_reader |= nb__reads(&l->ins[i], l->n_in + member[m]);
        }
        if (!is_member && (is_reader || (l->ins[i].store >= 0 && l->ins[i].part <= NB__ROW))) return false;
    }
    return true;
}

/* The series that begins at instruction k; its members, in order. How many: 0 for none. */
static int collect(const list *l, int k, nb__series *s, int *member) {
    int before = -1, n = 0;
    *s = (nb__series){0};
    for (int next = k, last = k; next < l->n && s->n_steps < NB__SERIES_STEPS && l->ins[next].part == l->ins[k].part;
         next = next_reader(l, before, last)) {
        int made = make_step(l, next, &before, &s->step[s->n_steps]);
        if (made < 0) break;
        int count = n;
        member[count++] = next;
        if (made != next) member[count++] = made;
        if (!may_wait(l, member, count, last, made)) break;
        if (!n) s->first = (short)before;
        n = count;
        s->step[s->n_steps++].result = (short)(l->n_in + made);
        before = l->n_in + made;
        last = made;
    }
    return n;
}

/* Whether somebody other than the step behind it wants the result of step i. */
static bool is_wanted(const list *l, const nb__series *s, int i) {
    int value = s->step[i].result, k = value - l->n_in;
    if (i == s->n_steps - 1 || l->ins[k].store >= 0) return true;
    return next_reader(l, value, next_reader(l, value, k)) < l->n;
}

int nb__find_series(nb__instruction *instructions, int n_in, const nb_dtype *in_dtype, int n, nb__series *series) {
    list l = {instructions, n_in, n, in_dtype};
    int  found = 0, member[2 * NB__SERIES_STEPS];
    for (int k = 0; k < n; k++) {
        nb__series *s = &series[found];
        int         members = collect(&l, k, s, member);
        if (s->n_steps < 2) continue;
        s->at = (short)(s->step[s->n_steps - 1].result - n_in);
        for (int m = 0; m < members; m++) instructions[member[m]].row = NB__CHAIN_STEP;
        for (int i = 0; i < s->n_steps; i++) {
            if (is_wanted(&l, s, i))
                instructions[s->step[i].result - n_in].row = NB__CHAIN_KEEP;
            else
                s->step[i].result = -1;
        }
        instructions[s->at].row = NB__SERIES;
        instructions[s->at].chain = found++;
    }
    return found;
}
