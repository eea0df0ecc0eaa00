/* nabla.h: an autograd engine with neural nets on top.
 *
 *     nb_context *nb = nb_open(NULL);
 *     nb_tensor  *x  = nb_input(nb, "x", NB_F32, nb_shape(64, 784));
 *     nb_tensor  *w  = nb_param(nb, "w", nb_normal(nb, NB_F32, nb_shape(10, 784), 0, 0.05));
 *     nb_tensor  *t  = nb_input(nb, "t", NB_I64, nb_shape(64));
 *     nb_tensor  *loss = nb_cross_entropy(nb_linear(x, w, NULL), t, NULL);
 *     nb_list     g  = nb_grads(loss, NULL, nb_list_of(nb, w));
 *     nb_tensor  *step = nb_assign(w, nb_sub(w, nb_mul(nb_number(nb, 0.1), g.at[0])));
 *     nb_program *train = nb_compile(nb, nb_list_of(nb, loss, step));
 *     while (next_batch(x, t) && nb_run(train)) printf("%f\n", nb_item(nb_output(train, 0)));
 *
 * THE GRAPH. A tensor is a node of a graph. Calling an operator makes a node and computes nothing. nb_grads makes more nodes: a
 * derivative is a graph too. Values appear when a graph is compiled and run, or when asked for (nb_item, nb_data, nb_eval).
 *
 * LIFETIMES. Every tensor is of one of two sorts, and none is freed by hand one by one:
 *   kept   what nb_input and nb_param return: a name and storage of their own. They live until nb_release or nb_close (those of a
 *          net until nb_net_free).
 *   step   what operators return. They live until nb_next_step, which gives back all of them at once. Using one in the step
 *          after is an error that names it. A program (nb_compile) owns a copy of all it needs and outlives the nodes it is of.
 * A pointer from nb_data is borrowed: until the next run, assign or nb_next_step.
 *
 * ERRORS are values and stick. An operator of tensors returns a tensor, never NULL: what is wrong makes the context's failed
 * tensor, which flows through the rest, so that maths nests without checks. The first message is kept: nb_error(nb). It is seen
 * at the latest where values leave: nb_run and nb_eval return false, nb_item NaN, nb_data NULL. nb_error_clear arms the context
 * again. The library never prints, exits or aborts; with on_error = nb_die a program prints the first message and exits.
 *
 * THREADS. There is no global state. A context and what was made in it belong to one thread at a time. It computes with that one
 * alone unless asked for more. Results have the same bits for any number of threads. A forked process has none of the others:
 * a run there is an error, if there were any; open a context there instead. nb_close works.
 *
 * Shapes are logical, row-major, sizes int64_t, rank 0 to 8; a size may be 0. Images are [N,C,H,W]. */
#ifndef NABLA_H
#define NABLA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define NB_API __attribute__((visibility("default")))
#define NB_CHECKED __attribute__((warn_unused_result))
#define NB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define NB_API
#define NB_CHECKED
#define NB_PRINTF(f, a)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define NB_VERSION "0.1.0"
#define NB_MAX_RANK 8

typedef struct nb_context nb_context;
typedef struct nb_tensor  nb_tensor;
typedef struct nb_program nb_program;
typedef struct nb_pool    nb_pool;
struct nb_op;

/* Element types. f16 and bf16 are named for file formats; no operator takes them yet. */
typedef enum nb_dtype { NB_F32, NB_F64, NB_I32, NB_I64, NB_U8, NB_BOOL, NB_F16, NB_BF16 } nb_dtype;

NB_API const char *nb_dtype_name(nb_dtype dtype); /* "f32" ... */
NB_API size_t      nb_dtype_size(nb_dtype dtype); /* bytes of one element */

/* --------------------------------------------------------------------------------------------- shapes and lists of tensors -- */

/* A shape, or a list of axes. Pass by value. */
typedef struct nb_dims {
    int64_t rank; /* as wide as the sizes, so that blocks of attributes have no padding */
    int64_t size[NB_MAX_RANK];
} nb_dims;

NB_API nb_dims nb_dims_of(int rank, const int64_t *size); /* a rank outside 0..8 gives rank -1, which every operator refuses */

/* nb_shape(64, 784) is a shape, nb_shape() that of a scalar; nb_axes(0, 2) are axes, negative ones counted from the end. */
#ifndef __cplusplus
#define nb_shape(...) \
    nb_dims_of((int)(sizeof((int64_t[]){0, __VA_ARGS__}) / sizeof(int64_t)) - 1, (int64_t[]){0, __VA_ARGS__} + 1)
#define nb_axes(...) nb_shape(__VA_ARGS__)
#endif

/* An array of tensors in step memory. nb_list_of(nb, a, b, c) makes one; nb_list_new one of n failed tensors to be filled.
 * Without memory it has n = 0, and at[0] to at[63] are the failed tensor. */
typedef struct nb_list {
    int         n;
    nb_tensor **at;
} nb_list;

NB_API nb_list nb_list_new(nb_context *nb, int n);
NB_API nb_list nb_list_from(nb_context *nb, int n, nb_tensor *const *tensors);
NB_API nb_list nb_list_join(nb_context *nb, nb_list a, nb_list b);
#ifndef __cplusplus
#define nb_list_of(nb, ...) \
    nb_list_from(nb, (int)(sizeof((nb_tensor *[]){__VA_ARGS__}) / sizeof(nb_tensor *)), (nb_tensor *[]){__VA_ARGS__})
#endif

/* -------------------------------------------------------------------------------------------------------- contexts, errors -- */

typedef enum nb_status {
    NB_OK,
    NB_INVALID,    /* the caller can mend it: shapes, types, options, names */
    NB_NO_MEMORY,
    NB_IO,         /* a file: missing, damaged, not writable */
    NB_NOT_FINITE  /* the NaN check found one (nb_compile_options.check_finite) */
} nb_status;

/* Where all memory of a context comes from. alloc returns at least `size` bytes aligned as malloc does, or NULL. Called by the
 * thread that uses the context only. */
typedef struct nb_allocator {
    void *(*alloc)(void *user, size_t size);
    void  (*free)(void *user, void *pointer);
    void   *user;
} nb_allocator;

typedef void nb_error_handler(nb_status status, const char *message, void *user);

typedef struct nb_options {
    int                 threads;   /* that compute, the caller's among them; 0 means 1 */
    nb_pool            *pool;      /* use these threads instead (shared between contexts); outlives the context */
    const nb_allocator *allocator; /* NULL means malloc and free */
    nb_error_handler   *on_error;  /* called once for each first error */
    void               *on_error_user;
    const char         *kernels;   /* "reference", "baseline", "v3", "v4"; NULL: NABLA_KERNELS, or else the best there is */
    uint64_t            seed;      /* of the random operators */
} nb_options;

/* A context, or NULL when there is no memory for one. NULL options are all defaults. An option that cannot be met (unknown
 * kernels, say) gives a context that has failed already: look at nb_error. */
NB_API nb_context *nb_open(const nb_options *options);
NB_API void        nb_close(nb_context *nb); /* frees all that was made in it, programs and nets too; NULL is fine */

NB_API const char *nb_error(nb_context *nb);        /* the first message since the last clear, or NULL */
NB_API nb_status   nb_error_status(nb_context *nb);
NB_API void        nb_error_clear(nb_context *nb);
NB_API void        nb_die(nb_status status, const char *message, void *user); /* an on_error: prints to stderr, exit(2) */

/* Makes the context fail, unless it has failed already, and returns its failed tensor. For layers, operators and tools outside
 * the library too. The message gets the current layer scope in front. */
NB_API nb_tensor *nb_fail(nb_context *nb, nb_status status, const char *format, ...) NB_PRINTF(3, 4);
NB_API nb_tensor *nb_failed(nb_context *nb); /* the failed tensor itself */

/* Memory from the context's allocator, aligned to 64 bytes, zeroed. Failure is an error of the context and NULL. */
NB_API void *nb_alloc(nb_context *nb, size_t size);
NB_API void  nb_free(nb_context *nb, void *pointer);

/* Makes an object belong to the context: nb_close calls free_object(object), latest first, unless nb_disown came before. When
 * there is no memory to remember it, it is freed at once and the context fails. */
NB_API bool nb_own(nb_context *nb, void *object, void (*free_object)(void *object));
NB_API void nb_disown(nb_context *nb, void *object);

/* Threads to share between contexts; NULL when they cannot be had. n counts the caller. */
NB_API nb_pool *nb_pool_new(int n);
NB_API void     nb_pool_free(nb_pool *pool);

NB_API int         nb_threads(nb_context *nb);
NB_API const char *nb_kernels(nb_context *nb);   /* "v3", say */
NB_API const char *nb_libraries(void);           /* "oneDNN 2.6.3, zlib 1.2.13, jansson 2.14" */

/* What the machine can do at most with this context's threads and instruction set: the yardstick of profiles and benchmarks. */
typedef struct nb_machine {
    double gflops; /* 1e9 operations a second on f32 in registers; a multiply-add counts as two */
    double gbytes; /* 1e9 bytes a second, read and written, of a copy that no cache holds */
} nb_machine;
NB_API nb_machine nb_measure_machine(nb_context *nb); /* takes about a tenth of a second; zeros without memory */

/* ------------------------------------------------------------------------------------------------------------ leaf tensors -- */

/* A kept tensor to be filled before each run (nb_set); zeros at first. Its shape is fixed. */
NB_API nb_tensor *nb_input(nb_context *nb, const char *name, nb_dtype dtype, nb_dims shape);

/* A kept tensor with state: a parameter, a running mean, an optimiser's slot, a learning rate. `value` is evaluated now. */
NB_API nb_tensor *nb_param(nb_context *nb, const char *name, nb_tensor *value);

/* Gives a kept tensor back before nb_close. Programs that use it keep its storage until they are freed. */
NB_API void nb_release(nb_tensor *kept);

/* A step tensor with the given contents (row-major, copied). */
NB_API nb_tensor *nb_from(nb_context *nb, nb_dtype dtype, nb_dims shape, const void *data);

/* A literal: a scalar that takes the type of what it meets, f32 if it meets nothing. The one implicit conversion there is; all
 * others are nb_cast. Part of the graph's structure: one that changes makes nb_eval compile anew; use an nb_input for that. */
NB_API nb_tensor *nb_number(nb_context *nb, double value);

/* Contents of a kept tensor: copied at the call, row-major. `bytes` must be the tensor's size. */
NB_API bool nb_set(nb_tensor *kept, const void *data, size_t bytes);
/* The same without a copy: borrowed until an nb_run of a program that reads the tensor returns; then it holds again what it held
 * before. For inputs; data aligned to 64 bytes is used as it is, other data copied. */
NB_API bool nb_set_in_place(nb_tensor *input, const void *data, size_t bytes);

/* Ends a step: all step tensors and lists are given back. Needed in loops that build graphs; not in loops of nb_run. */
NB_API void nb_next_step(nb_context *nb);

/* -------------------------------------------------------------------------------------------------------------- evaluation -- */

typedef struct nb_compile_options {
    bool        check_finite; /* NaN or infinity in results and watched tensors fails the run before any assign, and is located */
    const char *passes;       /* all, none, some of "simplify,algebra,lasting,blocks,triangles,layout,fuse,memory"; NULL: the
                                 environment's NABLA_PASSES, else all */
} nb_compile_options;

/* Compiles the graph below the roots (results and assigns) into a program that can be run again and again without allocation.
 * Never NULL: a failure gives an inert program whose nb_run returns false. The context's, until nb_program_free. */
NB_API nb_program *nb_compile(nb_context *nb, nb_list roots);
NB_API nb_program *nb_compile_with(nb_context *nb, nb_list roots, const nb_compile_options *options);
NB_API void        nb_program_free(nb_program *program);

/* Runs a program. Every read of a kept tensor sees the value from before the run; assigns happen last and all together: when the
 * run fails (a label out of range, a NaN with check_finite), every kept tensor is as it was. */
NB_API bool       nb_run(nb_program *program) NB_CHECKED;
NB_API nb_tensor *nb_output(nb_program *program, int i); /* i-th root; its value is good until the next run or nb_program_free */

/* The same program for another context, and so another thread: inputs, workspace and results are its own. It reads own.at[i],
 * kept tensors of nb, where `program` reads inputs.at[i]; all other kept tensors are shared, and must not change while it runs.
 * For programs without assigns, such as inference. Make it while `program` does not run; then both may run at once. `program` and
 * its context outlive it. Never NULL, as nb_compile. */
NB_API nb_program *nb_program_share(nb_context *nb, nb_program *program, nb_list inputs, nb_list own);

/* Evaluates tensors together, so that they share work, and keeps their values until nb_next_step. The same call as nb_compile and
 * nb_run behind a cache of programs: a graph of the same structure is compiled once. Runs no assigns. */
NB_API bool nb_eval(nb_context *nb, nb_list tensors) NB_CHECKED;

NB_API double      nb_item(nb_tensor *t); /* the value of a tensor of one element; evaluates it if need be; NaN on failure */
NB_API const void *nb_data(nb_tensor *t); /* values, contiguous and row-major; evaluates if need be; NULL on failure */
NB_API bool        nb_read(nb_tensor *t, void *data, size_t bytes); /* the same, copied out */

/* New contents for a kept tensor, as a node: compile it among the roots. Two to one tensor in one program are an error. */
NB_API nb_tensor *nb_assign(nb_tensor *kept, nb_tensor *value);

/* y, which brings an assign along: a program that computes y runs it too (the running values of a batch norm). Returns y. */
NB_API nb_tensor *nb_with_update(nb_tensor *y, nb_tensor *assign);

/* Random operators draw from Philox 4x32-10 (Salmon et al., 2011): key = seed and the node's number in its program, counter =
 * step and element. A program draws anew in each run; in define-by-run a node has one value, and nb_next_step goes on to other
 * ones. Seeds are folded to 32 bits. */
typedef struct nb_random_state {
    uint64_t seed, step;
} nb_random_state;
NB_API nb_random_state nb_get_random(nb_context *nb);
NB_API void            nb_set_random(nb_context *nb, nb_random_state state);

/* Seeds the random operators (step 0) and the context's Mersenne Twister, from which initial weights are drawn. At first both
 * have nb_options.seed. */
NB_API void     nb_seed(nb_context *nb, uint64_t seed);
NB_API uint32_t nb_random_bits(nb_context *nb); /* the next 32 bits of the Mersenne Twister (Matsumoto & Nishimura, 1998) */
NB_API double   nb_random_normal(nb_context *nb); /* mean 0, std 1, drawn in pairs from those bits (Box & Muller, 1958) */

/* ------------------------------------------------------------------------------------------------------------- derivatives -- */

/* dL/dx for each x, where L = sum(upstream * y), as new nodes: [shape of x] each. upstream NULL means 1 and needs a y of one
 * element. Zeros where no path leads from x to y. A missing derivative on the way is an error that names the operator. Can be
 * repeated. Reverse mode as in Griewank & Walther, Evaluating Derivatives, 2008, section 3.2. */
NB_API nb_list nb_grads(nb_tensor *y, nb_tensor *upstream, nb_list xs);

/* Forward mode: sum over i of (dy/dx_i) v_i, [shape of y], as the vjp of the vjp (dead nodes never run). */
NB_API nb_tensor *nb_jvp(nb_tensor *y, nb_list xs, nb_list vs);

NB_API nb_tensor *nb_stop_gradient(nb_tensor *x); /* x, through which no derivative goes */

/* y with a derivative of your own. `derivative` fills dx[i] with nodes for xs.at[i] from dy; NULL means no dependence. Example,
 * straight-through rounding:
 *
 *     static void straight(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) { dx[0] = dy; }
 *     nb_tensor *q = nb_with_derivative(nb_round(x), nb_list_of(nb, x), straight, NULL);
 */
typedef void nb_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user);
NB_API nb_tensor *nb_with_derivative(nb_tensor *y, nb_list xs, nb_derivative *derivative, void *user);

/* Compares the derivatives of a function of f64 inputs with central differences: full Jacobian for small inputs, else random
 * directions; upstream gradients are random. order 1 or 2. The result says how many entries were compared and the worst one. */
typedef nb_tensor *nb_function(nb_context *nb, nb_list inputs, void *user);
typedef struct nb_gradcheck_result {
    bool    passed;
    int64_t entries;
    double  worst;      /* |analytic - numeric| / (atol + rtol |numeric|) at its largest; above 1 is a failure */
    char    detail[256]; /* of the worst entry, or what went wrong */
} nb_gradcheck_result;
NB_API nb_gradcheck_result nb_gradcheck(nb_context *nb, nb_function *function, void *user, nb_list inputs, int order);

/* The same for an operator (struct nb_op below), on the samples that it declares: with plain, strided, flipped, transposed and
 * broadcast operands, with sizes 0 and 1 where the operator is elementwise, and with one tensor as two operands; orders 1 and 2.
 * `report` is called after each check. Ends the step (nb_next_step) between checks. Returns how many checks were made: 0 when
 * there is nothing to check (no samples, or no derivative). */
typedef struct nb_operator_check {
    const char         *op, *variant; /* "matmul", "transposed" */
    int                 sample, order;
    nb_gradcheck_result result;
} nb_operator_check;
typedef void nb_check_report(const nb_operator_check *check, void *user);
NB_API int nb_check_operator(nb_context *nb, const struct nb_op *op, nb_check_report *report, void *user);

/* ---------------------------------------------------------------------------------------------------- looking at a graph -- */

NB_API nb_context *nb_context_of(const nb_tensor *t);
NB_API nb_dtype    nb_dtype_of(const nb_tensor *t);
NB_API nb_dims     nb_shape_of(const nb_tensor *t);
NB_API int         nb_rank(const nb_tensor *t);
NB_API int64_t     nb_size(const nb_tensor *t, int axis); /* of one axis; negative ones from the end; -1 if there is none */
NB_API int64_t     nb_count(const nb_tensor *t);          /* of elements */
NB_API size_t      nb_bytes(const nb_tensor *t);          /* nb_count times the element's size */
NB_API const char *nb_name(const nb_tensor *t);           /* kept tensors and those named by nb_set_name; else "" */
NB_API nb_tensor  *nb_set_name(nb_tensor *t, const char *name); /* returns t */
NB_API bool        nb_is_kept(const nb_tensor *t);
NB_API bool        nb_has_failed(const nb_tensor *t);
NB_API bool        nb_has_value(const nb_tensor *t);      /* kept or evaluated: nb_data costs nothing */

NB_API const struct nb_op *nb_op_of(const nb_tensor *t);
NB_API const void         *nb_attr(const nb_tensor *t);       /* its block of attributes, or NULL */
NB_API int                 nb_input_count(const nb_tensor *t);
NB_API nb_tensor          *nb_input_at(const nb_tensor *t, int i);
NB_API const char         *nb_layer_of(const nb_tensor *t);   /* path of layer scopes, "block1/conv", or "" */
NB_API const char         *nb_group_of(const nb_tensor *t);   /* outermost composition it was made in, "softmax", or "" */
NB_API bool                nb_is_backward(const nb_tensor *t); /* made by nb_grads */
NB_API uint64_t            nb_serial(const nb_tensor *t);     /* number in the order of creation, unique in its context */

/* All kept tensors of the context, in the order of creation. */
NB_API nb_list nb_kept(nb_context *nb);

/* All nodes that the roots depend on, and the roots, operands before users. */
NB_API nb_list nb_graph(nb_context *nb, nb_list roots);

/* Nodes made between push and pop carry the layer's name, for errors, pictures and profiles. Scopes nest. */
NB_API void nb_scope_push(nb_context *nb, const char *layer);
NB_API void nb_scope_pop(nb_context *nb);

/* Marks t for the NaN check of programs compiled with check_finite. Returns t. */
NB_API nb_tensor *nb_watch(nb_tensor *t);

/* --------------------------------------------------------------------------------------------------- looking at a program -- */

typedef struct nb_program_info {
    int     calls;           /* kernel calls a run */
    int     blocks;          /* of the batch: a run makes all calls, whose shapes are a block's, for each; 1: as a whole */
    int     buffers;         /* kept tensors, values inside, outputs and constants that they read and write */
    int64_t workspace_bytes; /* one block for all values inside, and scratch */
    int64_t scratch_bytes;   /* of these: memory that kernels need while they run */
    int64_t lasting_bytes;   /* what is made of parameters alone, and weights as kernels pack them: kept from run to run */
    int64_t unplanned_bytes; /* what the values inside would take without sharing memory */
    int64_t kept_bytes;      /* parameters and inputs it refers to */
    int64_t output_bytes;
    double  flops;           /* of the contractions, a run; without those that last */
    int64_t runs;            /* while profiling was on */
    double  seconds;         /* of these runs in all, with what lies between the calls */
} nb_program_info;
NB_API nb_program_info nb_program_describe(nb_program *program);
NB_API nb_context     *nb_program_context(const nb_program *program);

/* Starts taking the time of each call, from zero, or stops; it costs one reading of the clock a call. With NABLA_PROFILE=1 in the
 * environment, programs of nb_compile are born with it on. False: the program is inert, or there is no memory. */
NB_API bool nb_program_profile(nb_program *program, bool on);

/* One kernel call. Texts and lists live as long as the program. */
typedef struct nb_call_info {
    const char *kernel;        /* "region", "matmul"; "reference": the operator's plain loops */
    const char *operators;     /* what it computes: "sub, exp, mul (3)" */
    const char *layers;        /* to which these belong: "conv1, norm1", or "" */
    const char *groups;        /* compositions to which they belong: "softmax", or "" */
    bool        is_backward;   /* made by nb_grads */
    bool        is_late;       /* runs after all that can fail, and may write kept tensors in place */
    bool        is_lasting;    /* reads parameters and what is made of them alone: it runs only when these have been written */
    bool        is_reference;
    double      flops;         /* as nb_op.flops counts them */
    double      bytes_read, bytes_written; /* at least, of all operands and results */
    int         n_reads, n_writes;
    const int  *reads, *writes; /* buffers by number */
    double      seconds;        /* in all profiled runs */
    int64_t     runs;           /* in how many of these it ran */
} nb_call_info;
NB_API nb_call_info nb_program_call(nb_program *program, int i); /* in the order in which they run */

typedef enum nb_place { NB_IN_WORKSPACE, NB_IN_KEPT, NB_IN_OUTPUT, NB_IN_CONSTANT, NB_IN_LASTING } nb_place;

/* A piece of memory that calls read and write. Two in the workspace may share bytes when their lifetimes do not overlap. */
typedef struct nb_buffer_info {
    nb_place    place;
    nb_tensor  *kept;        /* NB_IN_KEPT: whose it is, unless that was released */
    const char *name;        /* of the kept tensor or the output; of others the operator that fills it */
    const char *layer;       /* of that operator, or "" */
    bool        is_backward;
    nb_dtype    dtype;
    nb_dims     shape;
    int64_t     bytes;
    int64_t     at;          /* in the workspace */
    int         first, last; /* calls that touch it first and last; last = calls: until the end of the run */
} nb_buffer_info;
NB_API nb_buffer_info nb_program_buffer(nb_program *program, int i);

/* ----------------------------------------------------------------------------------------------------------- new operators -- */

/* What passes ask of an operator. */
typedef enum nb_kind {
    NB_LEAF,
    NB_ELEMENTWISE, /* element i of the result from elements i of the (broadcast) operands */
    NB_REDUCE,
    NB_VIEW,        /* the operand's elements at other places: no computation */
    NB_CONTRACTION,
    NB_INDEX,       /* moves elements by computed places */
    NB_RANDOM,
    NB_ASSIGN,
    NB_OPAQUE,      /* one kernel call */
    NB_COMPOSITION  /* built from other operators; only a name and an explanation */
} nb_kind;

/* An array as kernels see it. Strides in elements; 0 where a size is broadcast, negative where it is flipped. */
typedef struct nb_array {
    void    *data;
    nb_dtype dtype;
    int      rank;
    int64_t  shape[NB_MAX_RANK], stride[NB_MAX_RANK];
} nb_array;

/* One call of a kernel. in[i] may have any strides; out is never broadcast and its elements are all to be written. */
typedef struct nb_call {
    nb_array        out;
    int             n_in;
    const nb_array *in;
    const void     *attr;
    uint32_t        key[2];  /* of a random operator: seed, stream */
    uint64_t        counter; /* and step */
    struct nb_fault *fault;  /* for nb_raise */
} nb_call;

/* A kernel met a bad value (an index out of range): the run fails with this message; of several, that of the lowest element. */
NB_API void nb_raise(const nb_call *call, int64_t element, const char *format, ...) NB_PRINTF(3, 4);

/* Type and shape of a result, for a shape rule to fill. */
typedef struct nb_type {
    nb_dtype dtype;
    nb_dims  shape;
} nb_type;

/* Draws operands for the samples of an operator: for gradient checks, tests and benchmarks alike. The caller of a sample decides
 * on type (f32 or f64), contents and memory layout; a sample states what the operator needs. */
typedef struct nb_sampler nb_sampler;
struct nb_sampler {
    nb_context *nb;
    nb_tensor *(*real)(nb_sampler *s, double low, double high, nb_dims shape);     /* differentiable operand */
    nb_tensor *(*integer)(nb_sampler *s, nb_dtype dtype, int64_t low, int64_t high, nb_dims shape); /* in [low, high) */
    void *user;
};

/* Everything Nabla knows of one operator. Strings and functions live as long as the context. */
typedef struct nb_op {
    const char *name;
    const char *formula;    /* "y = e^x": LaTeX without dollars */
    const char *gradient;   /* "dx = y dy": the derivative, the same way; NULL: none, dy stops with an error */
    nb_kind     kind;
    int         arity;      /* operands; -1: one or more */
    size_t      attr_size;  /* attributes are one block of bytes: no pointers, padding zeroed; hashed and compared as bytes */

    /* Shape rule: fills out, or calls nb_fail and returns false. */
    bool (*infer)(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out);
    /* Fills dx[i] with a node for each operand for which want[i]; NULL left there means that no gradient flows (an integer
     * operand). May use y and its operands; made of operators, so that it can be differentiated again. */
    void (*derivative)(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx);
    /* The definition of what it computes: plain loops over pointers and strides, double accumulation. */
    void (*run)(const nb_call *call);
    /* Views only: strides of out (its shape is set) and offset, in elements, that show in's elements; false: in must be
     * contiguous first. The compiler calls this instead of run. */
    bool (*view)(const nb_array *in, const void *attr, nb_array *out, int64_t *offset);
    /* Arithmetic of one call, multiply and add counted as two; NULL: one an element of the result. */
    double (*flops)(const nb_tensor *y);
    /* The i-th sample graph, or NULL after the last. */
    nb_tensor *(*sample)(nb_sampler *s, int i);
    /* Attributes as text for pictures and messages, "stride=2"; NULL: none shown. */
    void (*describe)(const void *attr, char *text, size_t size);
} nb_op;

/* A node of an operator, built-in or your own. attr is copied. */
NB_API nb_tensor *nb_apply(nb_context *nb, const nb_op *op, int n_in, nb_tensor *const *in, const void *attr);

/* Nodes made between the two belong to a composition (kind NB_COMPOSITION: "softmax"): pictures fold them, messages name them.
 * Nests; the outermost within a layer shows. */
NB_API void nb_group_push(nb_context *nb, const nb_op *composition);
NB_API void nb_group_pop(nb_context *nb);

/* The built-in operators, compositions too, in the order of the documentation; NULL after the last. */
NB_API const nb_op *nb_op_at(int i);
NB_API const nb_op *nb_op_find(const char *name); /* NULL when there is none of that name */

#ifdef __cplusplus
}
/* The two macros over compound literals, for C++. */
template <class... T> inline nb_dims nb_shape(T... size) {
    const int64_t list[] = {0, static_cast<int64_t>(size)...};
    return nb_dims_of(static_cast<int>(sizeof...(T)), list + 1);
}
template <class... T> inline nb_dims nb_axes(T... axis) { return nb_shape(axis...); }
template <class... T> inline nb_list nb_list_of(nb_context *nb, T... tensor) {
    nb_tensor *list[] = {tensor...};
    return nb_list_from(nb, static_cast<int>(sizeof...(T)), list);
}
#endif

#include "nabla/ops.h"  /* operators */
#include "nabla/nn.h"   /* layers, nets, losses, optimisers, schedules, initial values, regularisers */
#include "nabla/data.h" /* data sets, weight files, checkpoints */
#include "nabla/draw.h" /* pictures of graphs and nets */

#endif
