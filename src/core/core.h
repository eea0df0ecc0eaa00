/* core.h: the graph. A tensor is a node; nothing is computed here.
 *
 * Nodes of a step live in one of two slabs of memory that take turns: nb_next_step changes over and empties the other, so that
 * the nodes of the last step can still be recognised as stale. Kept tensors are allocated one by one. */
#ifndef NB_CORE_H
#define NB_CORE_H

#include <stdatomic.h>

#include "nabla.h"

#define NB__KEPT UINT64_MAX      /* nb_tensor.step of a kept tensor */
#define NB__ALIGN 64             /* bytes: a cache line, a vector */
#define NB__MAX_BYTES (INT64_C(1) << 46)

/* Values of a kept tensor; shared with the programs that use it, hence counted. */
typedef struct nb__storage {
    void       *data;     /* own memory */
    const void *borrowed; /* nb_set_in_place: used instead until the next run returns */
    size_t      bytes;
    int         users;
    bool        is_released;
    bool        is_versioned; /* not an input */
    uint64_t    written;      /* serial at the last change: results made before are out of date */
} nb__storage;

/* A layer (nb_scope_push) or a composition (nb_group_push); interned in the context, so pointers can be compared. */
typedef struct nb__scope {
    struct nb__scope *parent, *child, *next;
    const char       *name, *path;  /* path: names of the layers down to here, with slashes */
    const char       *group;        /* the outermost composition within the innermost layer, or "" */
    bool              is_group;
} nb__scope;

/* What a random node of a step draws from: the same in every evaluation of the node. */
typedef struct nb__draw {
    nb_random_state random;
    uint32_t        stream; /* number of the node in its step */
} nb__draw;

/* An assign that a tensor brings along (nb_with_update). */
typedef struct nb__update {
    struct nb__update *next;
    nb_tensor         *assign;
} nb__update;

struct nb_tensor {
    nb_context   *nb;
    const nb_op  *op;
    uint64_t      step;    /* in which it was made, or NB__KEPT */
    uint64_t      serial;  /* order of creation */
    nb_dims       shape;
    nb_dtype      dtype;
    bool          is_number, is_failed, is_backward, is_watched, is_released;
    int           n_in;
    nb_tensor   **in;
    void         *attr;
    void         *value;   /* step tensor: its values once evaluated, in step memory */
    nb__storage  *storage; /* kept tensor */
    nb__update   *updates;
    nb__draw      draw;    /* random nodes */
    nb__scope    *scope;
    const char   *name;
    uint64_t      mark;    /* scratch for walks: see nb__walk */
    int64_t       index;
    nb_tensor    *next;    /* of the kept tensors */
};

/* The first bad value that kernels of a run met: see nb_raise. Kernels on several threads may report at once. */
struct nb_fault {
    atomic_flag lock;
    bool        is_set;
    int64_t     element;
    char        message[256];
};

typedef struct nb__chunk nb__chunk;
typedef struct nb__arena {
    nb__chunk *first, *current;
    size_t     used; /* of the current chunk */
} nb__arena;

typedef struct nb__owned {
    struct nb__owned *next;
    void             *object;
    void            (*free_object)(void *);
} nb__owned;

/* MT19937. */
typedef struct nb__twister {
    uint32_t state[624];
    int      next;
    bool     has_spare; /* nb_random_normal makes two numbers at a time */
    double   spare;
} nb__twister;

struct nb_context {
    nb_allocator      allocator;
    nb_error_handler *on_error;
    void             *on_error_user;
    nb_status         status;
    char              message[1024];

    nb__arena  slab[2]; /* of step s: slab[s & 1] */
    uint64_t   step, serial, walk;
    nb_tensor  failed;
    nb_tensor *failed_at[64]; /* for lists that got no memory: list.at[i] can still be read */
    nb_tensor *kept, **kept_end; /* in the order of creation */
    nb_tensor *released;         /* given back: storage gone, headers still there for who holds on to them */
    uint64_t   n_released;
    nb__scope  root_scope, *scope;
    int        backward_depth;   /* > 0 while nb_grads makes nodes */
    nb__owned *owned;

    nb_random_state random;
    uint32_t        streams; /* random nodes made in this step */
    nb__twister     twister;

    /* Of the upper folders; core only keeps them. */
    nb_pool    *pool;
    bool        pool_is_own;
    const struct nb__isa *isa; /* which kernels (kernels.h) */
    void       *cache;         /* programs of nb_eval (run.h) */
    int         block_items;   /* of a batch that runs in blocks (blocks.c); 0: what the caches hold. Tests set it */
    nb_program *inert;         /* what nb_compile returns when there is no memory for a program */
};

/* memory.c. All of it comes from the context's allocator and goes back at nb_close. */
void *nb__step_alloc(nb_context *nb, size_t size); /* zeroed, aligned to 64 from 256 bytes on; NULL: the context has failed */
void *nb__arena_alloc(nb_context *nb, nb__arena *arena, size_t size); /* the same in an arena of one's own */
char *nb__step_print(nb_context *nb, const char *format, ...) NB_PRINTF(2, 3);
void *nb__alloc_unset(nb_context *nb, size_t size);           /* nb_alloc without zeros: a workspace, written before it is read */
char *nb__strdup(nb_context *nb, const char *text);          /* to be given back with nb_free */
void  nb__arena_reset(nb__arena *arena);
void  nb__arena_free(nb_context *nb, nb__arena *arena);

/* context.c */
nb_context *nb__context_new(const nb_options *options);      /* without pool and kernels; NULL: no memory */
void        nb__context_free(nb_context *nb);
/* in the scope of a node */
nb_tensor  *nb__fail_at(const nb_tensor *where, nb_status status, const char *format, ...) NB_PRINTF(3, 4);

/* tensor.c */
nb_tensor *nb__kept_new(nb_context *nb, const char *name, nb_dtype dtype, nb_dims shape, bool is_input);
void       nb__storage_unuse(nb_context *nb, nb__storage *storage);
/* NULL when t can be an operand now; else the failed tensor (stale, failed, of another context; user is for the message). */
nb_tensor *nb__refuse(nb_context *nb, nb_tensor *t, int operand, const char *user);
const char *nb__describe(const nb_tensor *t); /* "w" or "result of matmul": for messages; in step memory or constant */
extern const nb_op nb__op_data, nb__op_output, nb__op_failed;

/* shape.c */
bool        nb__dims_equal(nb_dims a, nb_dims b);
int64_t     nb__dims_count(nb_dims d);
bool        nb__broadcast(nb_dims a, nb_dims b, nb_dims *out); /* false: they do not fit */
bool        nb__check_shape(nb_context *nb, const char *user, nb_dtype dtype, nb_dims shape); /* rank, signs, bytes < 2^46 */
bool        nb__check_axis(nb_context *nb, const char *user, int64_t rank, int64_t *axis);        /* makes it positive */
/* all positive, ascending; empty: all axes */
bool        nb__check_axes(nb_context *nb, const char *user, int64_t rank, nb_dims *axes);
typedef struct nb__text { char at[128]; } nb__text;
nb__text    nb__dims_text(nb_dims d);                          /* "[32,84]" */
bool        nb__is_float(nb_dtype dtype);                      /* f32, f64 */
bool        nb__is_integer(nb_dtype dtype);                    /* i32, i64, u8 */

/* graph.c: all nodes below the roots, operands before users, in step memory; iterative. Evaluated tensors and kept ones are
 * leaves when stop_at_values. Sets node->index to the place in the list and node->mark to nb->walk: t->mark == nb->walk tells who
 * was met. */
nb_list nb__walk(nb_context *nb, nb_list roots, bool stop_at_values);

#endif
