/* copy.h: one array's elements into another, row by row; what kernels that put arrays together are made of. */
#ifndef NB_COPY_H
#define NB_COPY_H

#include "isa/move.h"
#include "kernels.h"
#include "space.h"

enum { NB__LARGE = 16 << 20 }; /* bytes of a result that no cache holds until it is read */

enum { NB__COPY_TASK = 16384 }; /* elements worth a task of a thread */

typedef struct nb__copy {
    const nb__move_loops *loops;
    nb__space             space;
    int64_t               to[NB_MAX_RANK], from[NB_MAX_RANK];  /* strides; the last axis is the result's innermost */
    int                   across;                              /* the operand's innermost axis where it is another one, or -1 */
    int64_t               block;                               /* of `across` */
    int                   size;                                /* bytes of an element */
    bool                  streams, is_transposition, is_short; /* short: rows of which many are copied in one go */
    int64_t               pieces;                              /* of the last axis; 1 with `across` */
    int64_t               rows; /* a row: a piece of the last axis; with `across`, `block` of them side by side */
} nb__copy;

int64_t               nb__array_bytes(const nb_array *a);
/* Arrays of one shape and type. all_bytes: of the whole of which they may be a part: what is large goes past the caches. */
void nb__copy_make(const nb__move_loops *loops, const nb_array *to, const nb_array *from, int64_t all_bytes, nb__copy *c);
void nb__copy_rows(const nb__copy *c, void *to, const void *from, int64_t first, int64_t end); /* rows first..end-1 */

#endif
