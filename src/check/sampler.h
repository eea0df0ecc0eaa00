/* sampler.h: samples of operators with chosen types, contents and layouts; for gradient checks, and for tests of the kernels. */
#ifndef NB_SAMPLER_H
#define NB_SAMPLER_H

#include "nabla.h"

/* What the operands of a sample are in memory. */
typedef enum nb__variant {
    NB__PLAIN,
    NB__STRIDED,    /* every second element of a larger tensor */
    NB__FLIPPED,    /* negative strides */
    NB__TRANSPOSED, /* axes in reverse order */
    NB__BROADCAST,  /* stride 0 along one axis */
    NB__SIZE_ONE, /* of an elementwise operator: every other operand has size 1 along its axes, so that the operator broadcasts */
    NB__SIZE_ZERO, /* of an elementwise operator: no elements */
    NB__TWICE,     /* one tensor as two operands */
    NB__VARIANTS
} nb__variant;

const char *nb__variant_name(nb__variant variant);

/* One sample of an operator in one variant: which leaves it needs. The leaves' elements are drawn from [low, high). */
enum { NB__MAX_LEAVES = 16 };
typedef struct nb__case {
    const nb_op *op;
    int          sample;
    nb__variant  variant;
    nb_dtype     dtype;   /* of the real operands */
    bool         exists;  /* false: the sample before was the last */
    bool         applies; /* false: nothing here that the variant would change */
    int          n;
    nb_dims      shape[NB__MAX_LEAVES];
    double       low[NB__MAX_LEAVES], high[NB__MAX_LEAVES];
    int          calls, leaf_of[NB__MAX_LEAVES]; /* operand -> leaf */
    nb_dims      forced; /* of an elementwise operator: the shape of all operands; rank -1: as the sample says */
} nb__case;

nb__case   nb__case_describe(nb_context *nb, const nb_op *op, int sample, nb__variant variant, nb_dtype dtype);
nb__case   nb__case_sized(nb_context *nb, const nb_op *op, int sample, nb__variant variant, nb_dtype dtype, nb_dims shape);
void       nb__case_fill(const nb__case *c, int leaf, double *data);                    /* the same contents each time */
nb_tensor *nb__case_build(nb_context *nb, const nb__case *c, nb_tensor *const *leaves); /* the sample's graph on these leaves */

double nb__random_real(uint64_t *seed); /* in [0, 1) */

#endif
