/* region.h: a planned region: what region_plan.c makes and region.c runs. */
#ifndef NB_REGION_H
#define NB_REGION_H

#include "isa/loops.h"
#include "isa/move.h"
#include "kernels.h"
#include "space.h"

enum { NB__LONG_ROW = 32 }; /* elements from which on rows are worth a loop each */
enum { NB__REGION_VALUES = 3 * NB__REGION_MAX }; /* operands, instructions, rows spread by the planner */

/* An operand or a result, FULL or ROW. */
typedef struct nb__region_array {
    nb__part part;
    bool     in_place;            /* lies in memory as each tile does */
    bool     dense;               /* in place, and element i of its space is element i of its memory */
    bool     once;                /* operand: the same for every tile */
    bool     is_one;              /* operand: a single element that chains read as a number */
    bool     is_fixed; /* operand: its memory is what each tile reads: a single element, or a row that chains read row by row */
    bool     streams;             /* result: too large for the caches, and written past them */
    bool     is_fetched;          /* operand: comes from memory, and is fetched a tile ahead */
    int      size;                /* bytes of an element */
    int64_t  stride[NB_MAX_RANK]; /* in the space of its part */
    size_t   row;                 /* offset in a thread's scratch, when not in place */
} nb__region_array;

/* A COLUMN or TOTAL result: each group of tiles adds into its own partial sums, which meet in the order of the groups. */
typedef struct nb__region_sum {
    int     result;              /* of the call */
    int64_t width;               /* sums: the columns, or 1 */
    size_t  at;                  /* offset of the partial sums [groups, width] in the scratch, doubles */
    int64_t stride[NB_MAX_RANK]; /* of the result in the innermost axes of the full space */
} nb__region_sum;

typedef struct nb__region_plan {
    nb__tile *const *tiles;
    nb__cast_tile *const (*casts)[NB__CAST_TYPES];
    const struct nb__loops *loops;
    const nb__move_loops   *moves;
    nb__chain_tile *const  *chain_tiles;
    nb__series_tile        *series_tile;
    nb__space               space[2];      /* of FULL and of ROW arrays: the second is the outer axes of the first */
    int64_t                 row;           /* elements of a row; 1 when there are none */
    int64_t                 columns;       /* that COLUMN sums keep: the innermost axes */
    int64_t                 length;        /* of a tile: whole units of the innermost axes, or a piece of the last one */
    int64_t                 pieces;        /* tiles in a row of the innermost axis; 0: a tile has whole units */
    int64_t                 n_tiles, groups;
    size_t                  thread_bytes, partial_at;
    int                     n_in, n_instructions, n_out, n_sums, n_chains, n_series;
    nb__region_array       *array;         /* operands, then results */
    int                     n_moving, *moving;   /* arrays to be found or copied for each tile */
    int                     n_leaving, *leaving; /* instructions whose result is copied out of a row */
    bool                    streams;             /* some result does */
    int                     n_passes;            /* instructions that go over all of a tile, if operands are fetched; else 0 */
    bool                    needs_index;         /* some array that moves is not dense */
    nb__region_sum         *sum;
    nb__chain              *chain;
    nb__series             *series;
    int                    *sum_of;        /* of each instruction: its nb__region_sum, or -1 */
    size_t                 *value_row;     /* of each instruction: as array.row, when its result is not written in place */
    nb__instruction        *instruction;
    nb_dtype                in_dtype[NB__REGION_MAX];
} nb__region_plan;

/* Whether an instruction writes where its result is to be. */
static inline bool nb__writes_in_place(const nb__region_plan *r, const nb__instruction *ins) {
    return ins->store >= 0 && ins->part <= NB__ROW && r->array[r->n_in + ins->store].in_place;
}

/* Whether it does so past the caches. */
static inline bool nb__streams(const nb__region_plan *r, const nb__instruction *ins) {
    return r->streams && nb__writes_in_place(r, ins) && r->array[r->n_in + ins->store].streams;
}

/* Whether an instruction reduces values; a chain that ends with ROW values most often does. */
static inline bool nb__reduces(const nb__instruction *ins) {
    return ins->row == NB__SUM || ins->row == NB__MAX || ins->row == NB__MIN || (ins->row == NB__CHAIN && ins->part == NB__ROW);
}

/* Whether an instruction goes over all elements of a tile, and not over one for each row only. */
static inline bool nb__is_pass(const nb__instruction *ins) {
    if (ins->row == NB__CHAIN_STEP || ins->row == NB__CHAIN_KEEP) return false;
    return ins->part == NB__FULL || nb__reduces(ins);
}

/* region_copy.c. There is room for twice as many instructions as `what` has, and one for each of its operands. */
void nb__copy_instructions(nb__region_plan *r, const nb__region *what);
void nb__put_off_row_work(nb__region_plan *r);
/* region.c */
void nb__run_region(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool);

#endif
