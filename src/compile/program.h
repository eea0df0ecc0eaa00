/* program.h: from a graph to a list of kernel calls. The passes, each a file, in their order:
 *
 *   lower     the graph below the roots is copied into nodes with operands by number, in topological order
 *   simplify  nodes nobody needs go, equal ones become one; rules (algebra) put simpler nodes in place of others
 *   lasting   what is made of parameters alone is found: it is computed only when these were written
 *   blocks    of a large batch whose items keep apart, values are made for a block of items, and runs go from block to block
 *   triangles products with matrices that are zero, or unwanted, beside their diagonal leave that side out
 *   layout    each value gets a buffer and strides; views become strides of what they show
 *   fuse      elementwise nodes that feed only each other become one step
 *   schedule  steps in an order in which everything that can fail comes before anything that changes a kept tensor
 *   memory    buffers get places in one workspace, by lifetime
 *   select    each step gets a kernel, or the operator's reference
 */
#ifndef NB_PROGRAM_H
#define NB_PROGRAM_H

#include "core.h"
#include "kernels.h"

#ifdef NB_CHECK_BUILD
enum { NB__GUARD = 64 };
#else
enum { NB__GUARD = 0 };
#endif

typedef enum nb__source {
    NB__COMPUTED,
    NB__KEPT_LEAF,
    NB__CONSTANT, /* values in the program */
    NB__ARGUMENT  /* values given at each run (nb_eval) */
} nb__source;

typedef struct nb__node {
    const nb_op     *op;
    const void      *attr;
    int              n_in, *in;
    nb_dtype         dtype;
    nb_dims          shape;
    nb__source       source;
    nb_tensor       *kept;     /* KEPT_LEAF: the tensor, while compiling */
    const void      *data;     /* CONSTANT */
    nb__scope       *scope;
    uint64_t         serial;
    int              number;   /* in the graph's list (nb__walk) */
    uint32_t         stream;   /* random nodes */
    bool             is_watched, is_backward, is_dead;
    nb__triangles    triangles; /* of a matmul */
    bool             lasts;    /* from run to run, unless something is written: see lasting.c */
    bool             by_item;  /* its first axis is rows of items of a batch that runs in blocks, as many as in a block */
    bool             is_splat; /* CONSTANT: one element, all strides 0 */
    int64_t          stride[NB_MAX_RANK], offset; /* layout: in elements, in the buffer */
    int              base;     /* the node whose buffer it lies in: itself, or what it is a view of */
    int              buffer;   /* of a base */
    int              step;     /* that computes and keeps it, or -1 */
    bool             is_joined; /* concat: its operands are computed in their places in it */
    bool             has_home; /* computed as a part of a concat; its strides and offset are in the buffer of node lies_in */
    int              lies_in;
} nb__node;

typedef enum nb__place {
    NB__IN_WORKSPACE,
    NB__IN_LASTING, /* until what it is made of is written */
    NB__IN_KEPT,   /* as it was before the run */
    NB__IN_COMMIT, /* the new value of a kept tensor, written in place */
    NB__IN_CONSTANT,
    NB__IN_ARGUMENT,
    NB__IN_OUTPUT
} nb__place;

typedef struct nb__buffer {
    nb__place    place;
    size_t       bytes;
    size_t       at;      /* in the workspace or the lasting memory */
    uint64_t     written; /* lasting: how often */
    int          number;  /* argument's or output's */
    nb__storage *storage; /* kept */
    const void  *data;    /* constant */
    size_t       item_bytes; /* from an item to the next one, where a run goes along it block by block; 0 */
} nb__buffer;

/* Some nodes computed by one kernel call. A cheap node may be computed by several steps instead of being kept in memory. */
typedef struct nb__step {
    int       n_nodes, *node;  /* in topological order; one, unless fused */
    nb__part *part;            /* of each: its part in the step's space (kernels.h) */
    nb_array  space;           /* of a region: shape and order in memory of FULL values; no data */
    unsigned  rows, columns;   /* its axes, as bits: that form rows, that COLUMN sums keep */
    bool      is_region;       /* elementwise work and reductions, by region.c */
    nb__call  call;
    nb_array *array;           /* operands, then results */
    int      *buffer;          /* of each array */
    int64_t  *offset;          /* of each array, in bytes, in its buffer */
    nb__plan  plan;            /* plan.run NULL: the reference */
    bool      lasts;           /* all its nodes do: it is run when what it reads has been written */
    uint64_t  prepared;        /* the version of its lasting operands for which it was run, or they were packed; 0: do it */
    bool      is_late;         /* after the point of no return: only elementwise work that cannot fail */
} nb__step;

/* kept <- node, at the very end. */
typedef struct nb__commit {
    nb__storage *storage;
    int          node;
    int          leaf; /* its old value */
} nb__commit;

struct nb_program {
    nb_context *nb;
    bool        is_good;
    bool        check_finite;
    nb__arena   arena;      /* all below but the workspace and what plans hold */
    int         n_nodes, node_room;
    nb__node   *node;
    int         n_order, *order; /* nodes to be computed or viewed, operands before users */
    int         n_buffers;
    nb__buffer *buffer;
    int         n_steps;
    nb__step   *step;       /* lasting ones first, then early, then late */
    int         n_commits;
    nb__commit *commit;
    int         n_kept;     /* storages it uses, each once */
    nb__storage **kept;
    const char **kept_name;  /* of each */
    int         n_arguments;
    int         n_roots;
    int        *root;       /* node of each; -1 for an assign */
    nb_tensor **output;     /* each root's value: a header of the program's, or the kept tensor of an assign */
    int         n_watched, *watched; /* nodes to be checked for NaN; their bases own a buffer */
    bool        has_random;
    bool        keeps_lasting; /* the pass is on */
    int64_t     items, block; /* of a batch, and of a block of it; 0: it is run as a whole */
    int64_t     first_item;   /* of the block that is being run */
    const nb__draw *draw; /* by nb__node.number, for the coming run (nb_eval); NULL: the context's state, the program's streams */
    struct nb_fault *fault;
    char       *workspace;
    size_t      workspace_bytes, scratch_at, unplanned_bytes;
    char       *lasting;
    size_t      output_bytes, lasting_bytes, prepared_bytes;
    void      **argument;   /* data of arguments and outputs for the coming run */
    void      **result;
    struct nb__profile     *profile;     /* describe.c; NULL: never asked for */
    struct nb__description *description;
    /* nb_eval's cache */
    const char *key;
    size_t      key_bytes;
    uint64_t    hash, used;
};

/* The passes. False: the context has failed. */
typedef struct nb__compile {
    bool simplify, algebra, lasting, blocks, triangles, layout, fuse, memory; /* which optional parts are on */
    bool arguments;                      /* evaluated tensors and data are arguments, not constants */
    bool check_finite;
} nb__compile;
bool nb__lower(nb_program *p, nb_list roots, const nb__compile *how);
bool nb__simplify(nb_program *p, bool merge, bool algebra); /* dead nodes go in any case */
bool nb__find_lasting(nb_program *p); /* simplify's rules ask for it too */
bool nb__cut_blocks(nb_program *p, bool cuts);
int  nb__blocks(const nb_program *p); /* how many a run goes through */
bool nb__find_triangles(nb_program *p, bool finds);
/* What is left of a matrix without these sides, from 0 to 1. */
double nb__triangle_share(nb_dims shape, unsigned sides);
bool nb__layout(nb_program *p, bool channels_last);
bool nb__fuse(nb_program *p, bool fuse);
bool nb__schedule(nb_program *p);
bool nb__plan_memory(nb_program *p, bool share);
bool nb__select(nb_program *p);

/* nodes.c */
void    *nb__program_alloc(nb_program *p, size_t size); /* lives as long as the program */
int      nb__add_node(nb_program *p, const nb__node *node); /* its number, or -1 */
void     nb__add_buffer(nb_program *p, nb__node *n, nb__buffer buffer); /* the node's; there is room for one of each */
bool    *nb__find_results(const nb_program *p); /* of each node: whether it is a root, or is assigned; NULL: no memory */
bool     nb__is_computed(const nb__node *n, const nb_op *op); /* by this operator */
bool     nb__is_view(const nb__node *n); /* computes nothing: shows another node's memory */
bool     nb__is_elementwise(const nb_op *op); /* a row of elementwise.def, or a cast: cannot fail, and can write in place */
bool     nb__has_tile(const nb_program *p, const nb__node *n); /* elementwise, with a loop over tiles for its types */
bool     nb__splat_value(const nb__node *n, double *value); /* whether n is the same constant number everywhere */
bool     nb__is_zeros(const nb__node *n);
void     nb__row_major(nb__node *n); /* strides of rows in order */
nb_array nb__array_of(const nb_program *p, int node); /* without data */
nb_array nb__broadcast_to(nb_array a, const nb_array *space); /* as elementwise work sees it: repeated axes have stride 0 */
/* The place in step s of the member that computes node i, or whose values i shows as they are (a view); -1: none does. */
int nb__member(const nb_program *p, const nb__step *s, int i);

/* home.c: operands that are computed where a concat wants them; operand `operand` of a concat, or its copy, gets its place
 * there. */
bool nb__find_homes(nb_program *p);
void nb__lie_in(nb_program *p, int i, int concat, int operand);
bool nb__lies_there(const nb_program *p, int concat, int operand); /* does the operand lie in its place? */

/* layout.c: the operands, numbers in a list of nodes, of which the result of n takes the order in memory of one; how many. None
 * of an operator from outside: it may count on rows in order. */
enum { NB__MOST_LEADERS = 3 };
int nb__leaders(const nb__node *node, const nb__node *n, int *leader);

/* select.c: room for the arrays of a step's call; array k is node's. select_region.c: the kernel of a region, or of one
 * elementwise node. */
bool     nb__make_arrays(nb_program *p, nb__step *s, int n_in, int n_out);
void     nb__set_array(nb_program *p, nb__step *s, int k, int node, nb_array a);
bool     nb__select_region(nb_program *p, nb__step *s, int threads, nb__region *region);

/* rewrite.c: of bytes, by words as in FNV-1a, going on from h. */
#define NB__HASH_START UINT64_C(14695981039346656037)
uint64_t nb__hash(uint64_t h, const void *data, size_t n);

/* compile.c */
nb_program *nb__compile_graph(nb_context *nb, nb_list roots, const nb__compile *how); /* never NULL but without memory for the
                                                                                         struct */
void        nb__program_free(nb_program *p);
bool        nb__parse_passes(nb_context *nb, const char *text, nb__compile *how);
const char *nb__pass_name(int i); /* the words of NABLA_PASSES; NULL after the last */
/* The same program, every operator a step of its own: to find out where something arose. NULL: no memory. */
nb_program *nb__unfused(nb_program *p);
/* A program without assigns for another context: what a run writes is its own, input[i] of p is its own[i], all else is p's. */
nb_program *nb__copy_program(nb_context *nb, nb_program *p, nb_list input, nb_list own);

extern const nb_op nb__op_copy; /* same values, rows in order: made by layout */

#endif
