/* ops.h: what the operators' files share. Adding an operator: its row in elementwise.def or its block in a family's file, one
 * word in list.def, one prototype in nabla/ops.h. */
#ifndef NB_OPS_H
#define NB_OPS_H

#include "attrs.h"
#include "core.h"

/* Every operator and composition that is not an elementwise row: extern const nb_op nb__op_NAME. */
#define OP(name) extern const nb_op nb__op_##name;
#include "list.def"
#undef OP

/* The elementwise rows, in the order of elementwise.def (enum nb__row in kernels.h has the same order). */
extern const nb_op nb__elementwise[];
extern const int   nb__elementwise_count;
/* Row number of an elementwise operator, or -1. */
int nb__row_of(const nb_op *op);

/* The context of the first operand that is not NULL. NULL when all are: then an operator returns NULL, having nothing to fail
 * in. */
nb_context *nb__context_of(int n, nb_tensor *const *operands);
/* A scalar constant of the type of `like`. */
nb_tensor *nb__scalar(nb_tensor *like, double value);
/* t, or, when it is a literal (nb_number), its value in another type. */
nb_tensor *nb__adapt(nb_tensor *t, const char *user, nb_dtype dtype);
/* Zeros of x's type and shape that take no memory: one, seen everywhere (view.c). */
nb_tensor *nb__zeros_for(nb_tensor *x);
/* Sums x over the axes along which it was broadcast from `shape`: the adjoint of broadcasting. */
nb_tensor *nb__sum_to(nb_tensor *x, nb_dims shape);

/* Element access for reference loops: offset in elements of logical index i[rank] */
int64_t nb__offset(const nb_array *a, const int64_t *index);
/* Advances a row-major index; false after the last. Start with zeros; do not enter when a size is 0. */
bool nb__next_index(int rank, const int64_t *shape, int64_t *index);
/* Elements as double (every type; i64 loses bits above 2^53) and, for whole numbers, as int64. Stores round or saturate as
 * nb_cast says. */
double  nb__load(const nb_array *a, int64_t offset);
void    nb__store(const nb_array *a, int64_t offset, double value);
int64_t nb__load_int(const nb_array *a, int64_t offset);
void    nb__store_int(const nb_array *a, int64_t offset, int64_t value);
void    nb__store_wrapped(const nb_array *a, int64_t offset, int64_t value); /* the low bits: what arithmetic of whole numbers
                                                                                gives */
/* Copies in's elements to out, which has the same shape and type, at any strides (view.c). */
void nb__copy_elements(const nb_array *out, const nb_array *in);
/* Sets all of out (join.c). */
void nb__fill_elements(const nb_array *out, double value);
/* nb_op.flops of what only moves elements (view.c). */
double nb__no_flops(const nb_tensor *y);

#endif
