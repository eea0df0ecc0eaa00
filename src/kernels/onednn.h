/* onednn.h: the little of oneDNN that is used: primitives made when a program is compiled, and run in one thread each.
 *
 * A primitive holds no data and may run in several threads at once; the memory objects that point it at data are made with it,
 * some for each thread. oneDNN keeps the code it generates for the last 1,024 primitives of the process: equal ones are made in
 * some ten microseconds. It threads by OpenMP: it is told to use one thread, and the caller's setting is restored. */
#ifndef NB_ONEDNN_H
#define NB_ONEDNN_H

#include "kernels.h"

#if NB_DNNL
#include <dnnl.h>

enum { NB__DNNL_ARGS = 3 };

typedef struct nb__primitive {
    dnnl_engine_t      engine;
    dnnl_stream_t      stream;
    dnnl_primitive_t   primitive;
    int                n, arg[NB__DNNL_ARGS];
    dnnl_memory_desc_t memory[NB__DNNL_ARGS], scratch;
    int                threads;
    dnnl_memory_t     *object; /* for each thread: of the arguments, and of scratch memory */
    size_t             scratch_bytes;
    bool               is_slow; /* oneDNN has only its reference loops for this */
} nb__primitive;

/* Arrays as oneDNN sees them. */
dnnl_memory_desc_t nb__dnnl_strided(int rank, const int64_t *shape, const int64_t *stride);
dnnl_memory_desc_t nb__dnnl_any(int rank, const int64_t *shape); /* whichever layout the primitive likes best */

/* From an operation's descriptor (dnnl_matmul_desc_t ...) and its arguments (DNNL_ARG_SRC ...); the layouts that were chosen are
 * in `memory` then. False: oneDNN does not do it, or has no memory; nothing is left over. */
bool nb__primitive_make(nb_context *nb, nb__primitive *p, const void *operation, int n, const int *arg, int threads);
/* Copies between two layouts, in one thread. */
bool nb__reorder_make(nb_context *nb, nb__primitive *p, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to);
void nb__primitive_free(nb_context *nb, nb__primitive *p);
bool nb__primitive_run(const nb__primitive *p, void *const *data, void *scratch, int thread);

/* Around all use of oneDNN in the caller's thread: returns the state to be restored. */
int  nb__dnnl_enter(void);
void nb__dnnl_leave(int state);
#endif
#endif
