/* kernels.h: what the kernels offer to the compiler. They know arrays (nb_array, nb_call), rows and attributes, nothing of the
 * graph.
 *
 * A kernel has two halves. Its planner looks at a call without data (shapes, strides, types, attributes) and either refuses or
 * fills an nb__plan; that happens once, when a program is compiled, and may allocate. Running a plan allocates nothing. What no
 * planner takes runs by the operator's own reference function. */
#ifndef NB_KERNELS_H
#define NB_KERNELS_H

#include "attrs.h"
#include "nabla.h"

/* --------------------------------------------------------------------------------------------------------- threads.c: threads */

/* Runs task(arg, tile, thread) once for each tile, on any of the pool's threads, and returns when all are done; NULL pool: all
 * here. What a tile computes must not depend on `thread`, which is for scratch memory only: 0 <= thread <
 * nb__pool_threads(pool). */
typedef void nb__task(void *arg, int64_t tile, int thread);
void nb__parallel(nb_pool *pool, int64_t tiles, nb__task *task, void *arg);
int  nb__pool_threads(const nb_pool *pool); /* 1 for NULL */
bool nb__pool_is_here(const nb_pool *pool); /* false in a process that was forked from the pool's: then nb__parallel would wait
                                               for ever */
/* Default rounding and no flush-to-zero in this thread: returns the state to be restored with nb__float_leave. The pool's threads
 * have it. */
unsigned nb__float_enter(void);
void     nb__float_leave(unsigned state);

/* ---------------------------------------------------------------------------------------------------- isa.c: instruction sets */

/* The elementwise operators by number. */
enum nb__row {
#define ROW(name, ...) NB__ROW_##name,
#include "elementwise.def"
#undef ROW
    NB__ROWS
};

/* How many of n floats come before the first whole line of memory. */
static inline int64_t nb__before_line(const float *y, int64_t n) {
    int64_t head = (int64_t)(-(uintptr_t)y % 64 / sizeof *y);
    return head < n ? head : n;
}

/* n elements of one row of elementwise.def over contiguous arrays: f32, and bool where the row has bool. p, q: nb__scalars. out
 * may be the same array as an operand. streams: floats are written past the caches. */
typedef void nb__tile(void *out, const void *a, const void *b, const void *c, int64_t n, double p, double q, bool streams);

/* `rows` rows of n elements of a chain of fused.def; value: operands, then the results of its steps (NULL: not wanted), in
 * the next row `step` bytes on. Bit m of ones: operand m is a single element, for the whole row. A result may be the same array
 * as an operand. streams: the last step's result is written past the caches. */
enum { NB__CHAIN_VALUES = 36 };
typedef void nb__chain_tile(void *const *value, const int *step, unsigned ones, int64_t rows, int64_t n, bool streams);

/* Elements from .. n - 1 through steps of which each goes on with the result of the one before; the first with `first`. */
typedef struct nb__series_step {
    int          code;  /* 2 row, + 1: the result before is the second operand. Of a comparison: yes where it holds, else no */
    const float *other; /* operand; of rows with one operand anything that can be read */
    const float *yes, *no;
    float        p, q;  /* the row's parameters */
    float       *keep;  /* where the result is wanted, or NULL; may be the array of an operand that no later step reads */
    bool         streams; /* it is written past the caches */
} nb__series_step;
typedef void nb__series_tile(const nb__series_step *step, int n_steps, const float *first, int64_t from, int64_t n);

/* n elements as another type: by the operand's and the result's. out may be the same array where both are of one size. */
enum { NB__CAST_TYPES = NB_BOOL + 1 };
typedef void nb__cast_tile(void *out, const void *in, int64_t n);

/* One set of loops, compiled for one instruction set. All sources in kernels/isa/ are compiled once for each. */
typedef struct nb__isa {
    const char             *name;      /* "reference", "baseline", "v3", "v4" */
    nb__tile *const        *tiles;     /* by row; NULL in "reference" */
    nb__chain_tile *const  *chains;    /* by pattern */
    nb__series_tile        *series;
    nb__cast_tile *const  (*casts)[NB__CAST_TYPES]; /* by type of operand and result; NULL in "reference" */
    const struct nb__loops *loops;     /* other loops that kernels share: isa/loops.h */
    /* Those of isa/moments.h, gemm.h, move.h, pool.h, random.h, winograd.h, peak.h. */
    const struct nb__moment_loops   *moments;
    const struct nb__gemm_loops     *gemm;
    const struct nb__move_loops     *move;
    const struct nb__pool_loops     *pool;
    const struct nb__random_loops   *random;
    const struct nb__winograd_loops *winograd;
    const struct nb__peak_loops     *peak;
} nb__isa;

extern nb__tile *const nb__tiles_baseline[], *const nb__tiles_v3[], *const nb__tiles_v4[]; /* isa/tiles.c */
extern nb__chain_tile *const nb__chains_baseline[], *const nb__chains_v3[], *const nb__chains_v4[]; /* isa/fused.c */
nb__series_tile nb__series_baseline, nb__series_v3, nb__series_v4; /* isa/series.c */
extern nb__cast_tile *const nb__casts_baseline[][NB__CAST_TYPES], *const nb__casts_v3[][NB__CAST_TYPES],
    *const nb__casts_v4[][NB__CAST_TYPES]; /* isa/cast.c */

/* The best set this processor has (name NULL), or the named one; NULL when there is none of that name or the processor lacks
 * it. */
const nb__isa *nb__isa_find(const char *name);

/* ---------------------------------------------------------------------------------------------------------------------- plans */

/* The sides of a matrix's diagonal, as bits: elements (i, j) with j > i, and with j < i. */
enum { NB__ABOVE = 1, NB__BELOW = 2 };

/* Of a product C = A B: where A and B are zero, and where nobody looks at C, which is 0 there or as without this. */
typedef struct nb__triangles {
    unsigned char a, b, c;
} nb__triangles;
nb__triangles nb__transposed(nb__triangles t); /* of C^T = B^T A^T: matmul.c */

static inline unsigned nb__other_side(unsigned sides) { /* of the transposed matrix */
    return (sides & NB__ABOVE ? NB__BELOW : 0) | (sides & NB__BELOW ? NB__ABOVE : 0);
}

/* A call as programs make it: more results than one where operators were fused. c.out is out[0]. */
typedef struct nb__call {
    nb_call         c;
    int             n_out;
    const nb_array *out;
    unsigned        lasting;  /* operands, as bits, that stay the same from run to run but for rare changes: weights at
                                 inference */
    void           *prepared; /* the plan's lasting memory */
    nb__triangles   triangles; /* of a product */
} nb__call;

typedef struct nb__plan nb__plan;
struct nb__plan {
    const char *kernel;        /* for profiles: "region", "matmul" */
    void      (*run)(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool);
    void      (*free_state)(nb_context *nb, void *state); /* NULL: nb_free */
    void       *state;         /* read only while running */
    size_t      scratch_bytes; /* in all, for the number of threads planned for; aligned to 64 */
    /* What depends on lasting operands alone - packed weights - is made in call->prepared, before the first run and whenever one
     * of them may have changed. NULL: nothing. */
    void      (*prepare)(const nb__plan *plan, const nb__call *call, nb_pool *pool);
    size_t      prepared_bytes;
    unsigned    packs;         /* the operand, as a bit, whose elements are all of what is prepared: calls may share that; 0:
                                  they may not */
};
/* nb__plan.run of what has nothing to do (reduce.c). */
void nb__run_nothing(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool);

/* A planner. True: plan is filled. False: not for this kernel, or out of memory (then the context has failed). */
typedef bool nb__planner(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan);

/* region.c: elementwise operators and reductions as one pass over memory, tile by tile. The space is the shape of the largest
 * arrays; its innermost axes may form rows, which are never cut. Each value is of one part:
 *   FULL    an element for each point of the space
 *   ROW     one for each row: a reduction of it, or made of such
 *   COLUMN  a sum over all axes but the innermost ones: known after the last tile, so only a result
 *   TOTAL   a sum over everything, likewise
 * Value v < n_in is operand v (broadcast to its part by zero strides), value n_in + i the result of instruction i. */
enum { NB__REGION_MAX = 64 };
typedef enum nb__part { NB__FULL, NB__ROW, NB__COLUMN, NB__TOTAL } nb__part;
/* Instructions other than rows of elementwise.def, in their place. */
enum {
    NB__CAST = -1,
    NB__SUM = -2,   /* FULL to ROW, or FULL to COLUMN, or FULL or ROW to TOTAL, by the result's part */
    NB__MAX = -3,   /* FULL to ROW */
    NB__MIN = -4,
    NB__PICK = -5,  /* y[r] = a[r, b[r]]: FULL a and ROW b, whole numbers, to ROW */
    NB__PLACE = -6, /* y[r, j] = b[r] where j = a[r], else 0: ROW whole numbers and ROW to FULL */
    NB__SPLAT = -7, /* y[r, j] = a[r]: made by the planner */
    /* made by peephole.c, the rest of the instruction as it was: */
    NB__CHAIN = -8,      /* the last one of a chain: all of it runs here */
    NB__CHAIN_KEEP = -9, /* another one, whose result is wanted */
    NB__CHAIN_STEP = -10, /* one whose result stays in registers */
    NB__SERIES = -11     /* the last one of a series: all of it runs here; others as in a chain */
};
typedef struct nb__instruction {
    int      row;      /* of elementwise.def, or one of the above */
    nb__part part;     /* of the result */
    nb_dtype dtype;    /* of the result: f32 or bool (a cast reads any type) */
    int      in[3];
    int      store;    /* which result of the call it is, or -1 */
    int      chain;    /* NB__CHAIN, NB__SERIES: which */
    double   p, q;
} nb__instruction;
/* Whether an instruction has a value as an operand. */
static inline bool nb__reads(const nb__instruction *ins, int value) {
    return ins->in[0] == value || ins->in[1] == value || ins->in[2] == value;
}

typedef struct nb__region {
    nb_array        space;         /* shape and order in memory; no data */
    unsigned        rows, columns; /* bit i: axis i belongs to rows; is kept by COLUMN sums. 0: there are none */
    int             n_in, n_instructions;
    nb_dtype        in_dtype[NB__REGION_MAX];
    nb__part        in_part[NB__REGION_MAX];
    nb__instruction instruction[NB__REGION_MAX];
    uint64_t        fresh; /* bit i: result i lies where no operand does */
} nb__region;
/* Elements of a row, or kept by a COLUMN sum, at most. */
enum { NB__UNIT_MAX = 8192 };
/* call->c.in: the operands; call->out: the results; all as the space's axes see them. */
bool nb__plan_region(nb_context *nb, const nb__isa *isa, const nb__region *region, const nb__call *call, int threads,
                     nb__plan *plan);
/* Whether a row has a tile for an operand of this type (f32; bool for logic). Of several operands: the type of the last. */
bool nb__row_has_tile(int row, nb_dtype operand);

/* peephole.c: instructions that one loop can compute (fused.def). */
typedef struct nb__chain {
    short    pattern, operands, n;    /* of n values the first are operands */
    short    at;                      /* the last instruction */
    short    value[NB__CHAIN_VALUES]; /* of the region; -1: stays in registers */
    unsigned ones;                    /* the operands that are one element for all: for the planner to tell */
    unsigned row_ones;                /* those that are one element a row */
    bool     by_rows;                 /* there are such, or sums of rows: row by row */
    int      step[NB__CHAIN_VALUES];  /* of each value, bytes from row to row: for the planner to tell */
} nb__chain;
/* Marks the instructions of chains in a list of n; chain: room for n. by_rows: chains may run row by row. How many there are. */
int nb__find_chains(nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, bool by_rows, nb__chain *chain);
/* Whether value v of a chain is a sum of rows; whether there are any. */
bool nb__is_chain_sum(const nb__chain *c, int v);
bool nb__has_chain_sums(const nb__chain *c);

/* A series found among a region's instructions, in values of the region. */
enum { NB__SERIES_STEPS = 20 };
typedef struct nb__series_part {
    short code, other, yes, no, result; /* as nb__series_step; result -1: stays in registers */
    float p, q;
} nb__series_part;
typedef struct nb__series {
    short           at; /* the place of its last instruction */
    short           first, n_steps;
    nb__series_part step[NB__SERIES_STEPS];
} nb__series;
/* Marks the instructions of series in what chains leave; series: room for n / 2 + 1. How many there are. */
int nb__find_series(nb__instruction *list, int n_in, const nb_dtype *in_dtype, int n, nb__series *series);
/* Whether a row can be a step of one. */
bool nb__is_series_row(int row);

nb__planner nb__plan_cast;               /* cast.c: any strides to any strides */
nb__planner nb__plan_copy;               /* copy.c: any strides to any strides, one type */
/* reduce.c, f32 */
nb__planner nb__plan_sum, nb__plan_moments, nb__plan_max, nb__plan_min, nb__plan_prod, nb__plan_argmax, nb__plan_argmin;
nb__planner nb__plan_concat, nb__plan_pad, nb__plan_slice_grad, nb__plan_full, nb__plan_eye; /* join.c: any type */
nb__planner nb__plan_gather, nb__plan_index_select, nb__plan_one_hot;     /* index.c: f32; one_hot of any type */
nb__planner nb__plan_scatter_add;        /* scatter.c, f32 */
nb__planner nb__plan_cumsum;             /* scan.c, f32 */
nb__planner nb__plan_uniform, nb__plan_normal;                            /* random.c */
nb__planner nb__plan_matmul;             /* matmul.c: every product of f32 */
nb__planner nb__plan_conv2d, nb__plan_conv2d_input_grad, nb__plan_conv2d_weight_grad; /* conv.c */
/* pool2d.c. Results of max_pool2d: the index, the largest values (f32), or both. */
nb__planner nb__plan_max_pool2d, nb__plan_pool_take, nb__plan_pool_put, nb__plan_avg_pool2d, nb__plan_avg_pool2d_grad;

/* random.c: Philox 4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011). */
void nb__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

nb_machine nb__measure_machine(nb_context *nb, const nb__isa *isa, nb_pool *pool); /* peak.c: see nb_measure_machine */

#endif
