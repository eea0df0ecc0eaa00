/* region_copy.c: the instructions of a region as they are run: numbers of rows spread where they are needed for each element,
 * cheap steps again for each reader, and work on rows put off. */
#include "region.h"

static const int operands_of_row[] = {
#define ROW(name, operands, ...) operands,
#include "elementwise.def"
#undef ROW
};

static int operands_of(const nb__instruction *ins) {
    if (ins->row >= 0) return operands_of_row[ins->row];
    return ins->row == NB__PICK || ins->row == NB__PLACE ? 2 : 1;
}

static nb__part part_of(const nb__region_plan *r, int value) {
    return value < r->n_in ? r->array[value].part : r->instruction[value - r->n_in].part;
}

/* Whether an instruction only moves an operand by one number for each row, as the first step of a layer norm does. Its readers
 * are better off doing that again than reading what it has written. */
static bool is_shift(const nb__region_plan *r, const nb__region *what, int k) {
    const nb__instruction *ins = &what->instruction[k];
    return r->row >= NB__LONG_ROW && ins->row == NB__ROW_sub && ins->part == NB__FULL && ins->dtype == NB_F32 && ins->store < 0 &&
           ins->in[0] < what->n_in && part_of(r, ins->in[0]) == NB__FULL && what->in_dtype[ins->in[0]] == NB_F32 &&
           (ins->in[1] < what->n_in ? part_of(r, ins->in[1]) : what->instruction[ins->in[1] - what->n_in].part) == NB__ROW;
}

/* Copies the instructions; where a FULL one reads ROW values, these are spread over a tile first, once each. */
void nb__copy_instructions(nb__region_plan *r, const nb__region *what) {
    int  number[2 * NB__REGION_MAX], spread[2 * NB__REGION_MAX]; /* of each value of `what`: here, and spread (-1: not yet) */
    int  written = -1; /* the last value that may lie where an operand did */
    int  spare = 0;    /* room for copies: of a value that is never spread */
    bool is_read[2 * NB__REGION_MAX] = {false}, is_small = 2 * what->n_instructions <= NB__REGION_MAX;
    for (int v = 0; v < what->n_in + what->n_instructions; v++) {
        number[v] = v;
        spread[v] = -1;
        spare += (v < what->n_in ? part_of(r, v) : what->instruction[v - what->n_in].part) != NB__ROW;
    }
    for (int k = 0; k < what->n_instructions; k++) {
        nb__instruction ins = what->instruction[k];
        int             operands = operands_of(&ins);
        for (int m = 0; m < 3; m++) {
            if (m >= operands) {
                ins.in[m] = -1;
                continue;
            }
            int v = ins.in[m], from = number[v];
            if (ins.row >= NB__CAST && ins.part == NB__FULL && part_of(r, from) == NB__ROW) {
                if (spread[v] < 0) {
                    nb_dtype dtype = from < r->n_in ? what->in_dtype[from] : r->instruction[from - r->n_in].dtype;
                    spread[v] = r->n_in + r->n_instructions;
                    r->instruction[r->n_instructions++] =
                        (nb__instruction){.row = NB__SPLAT, .part = NB__FULL, .dtype = dtype, .in = {from, -1, -1}, .store = -1};
                }
                from = spread[v];
            } else if (v >= what->n_in && is_small && is_shift(r, what, v - what->n_in)) {
                if (is_read[v] && spare > 0 && r->n_instructions < NB__REGION_MAX && written < from) {
                    spare--;
                    r->instruction[r->n_instructions++] = r->instruction[from - r->n_in];
                    from = r->n_in + r->n_instructions - 1;
                }
                is_read[v] = true;
            }
            ins.in[m] = from;
        }
        number[what->n_in + k] = r->n_in + r->n_instructions;
        if (ins.store >= 0 && !(what->fresh >> ins.store & 1)) written = r->n_in + r->n_instructions;
        r->instruction[r->n_instructions++] = ins;
    }
}

static bool reads_splat(const nb__region_plan *r, const nb__instruction *ins) {
    for (int m = 0; m < 3; m++)
        if (ins->in[m] >= r->n_in && r->instruction[ins->in[m] - r->n_in].row == NB__SPLAT) return true;
    return false;
}

/* Elementwise work on rows is put off until somebody needs it, so that it does not lie between reductions of one chain; not past
 * results, which may be written over its operands. */
void nb__put_off_row_work(nb__region_plan *r) {
    int             n = r->n_instructions, due[2 * NB__REGION_MAX], number[2 * NB__REGION_MAX], done = 0;
    nb__instruction list[2 * NB__REGION_MAX];
    for (int k = n - 1; k >= 0; k--) {
        const nb__instruction *ins = &r->instruction[k];
        due[k] = k;
        if ((ins->row < 0 && ins->row != NB__SPLAT) || (ins->row >= 0 && ins->part != NB__ROW && !reads_splat(r, ins)) ||
            ins->store >= 0)
            continue;
        due[k] = n - 1;
        for (int i = k + 1; i < n; i++) {
            const nb__instruction *user = &r->instruction[i];
            bool                   needs = user->in[0] == r->n_in + k || user->in[1] == r->n_in + k || user->in[2] == r->n_in + k;
            if ((needs || user->store >= 0) && due[i] < due[k]) due[k] = due[i];
        }
    }
    for (int at = 0; at < n; at++)
        for (int k = 0; k <= at; k++)
            if (due[k] == at) number[k] = done, list[done++] = r->instruction[k];
    for (int k = 0; k < n; k++) {
        for (int m = 0; m < 3; m++)
            if (list[k].in[m] >= r->n_in) list[k].in[m] = r->n_in + number[list[k].in[m] - r->n_in];
        r->instruction[k] = list[k];
    }
}
