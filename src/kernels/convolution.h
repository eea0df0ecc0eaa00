/* convolution.h: a convolution as kernels see it, for all three operators.
 *
 * x [N,C,H,W] and y [N,O,H',W'] may have any strides; weights are [O,C/groups,kH,kW]. Work is cut by images; which array is the
 * result depends on the operator. Inside, images are channels-last: that is how both oneDNN and own loops are fastest. */
#ifndef NB_CONVOLUTION_H
#define NB_CONVOLUTION_H

#include "product.h"

typedef enum nb__conv_kind { NB__CONV_FORWARD, NB__CONV_INPUT, NB__CONV_WEIGHT } nb__conv_kind;

typedef struct nb__convolution {
    nb__conv_kind kind;
    nb__conv_attr a;
    int64_t       n, c, h, w, o, oh, ow, kh, kw; /* c: of x; a weight has c / groups */
    int64_t       images, tiles;                 /* images a tile; the last may have fewer */
} nb__convolution;

/* False: not f32, or something is empty. */
bool nb__convolution_of(const nb__call *call, nb__conv_kind kind, nb__convolution *v);
const nb_array *nb__conv_x(const nb__convolution *v, const nb__call *call);
const nb_array *nb__conv_weight(const nb__convolution *v, const nb__call *call);
const nb_array *nb__conv_y(const nb__convolution *v, const nb__call *call);

/* n rounded up to whole lines of the cache. */
static inline int64_t nb__whole_lines(int64_t n) { return (n + 15) / 16 * 16; }

/* Adds parts 1, 2 ... of `size` floats, one behind the other, to part 0: pair by pair, in the same order whatever the pool. */
void nb__add_parts(float *parts, int64_t n, int64_t size, nb_pool *pool);

/* pointwise.c: windows of one pixel; winograd.c: 3x3. */
bool nb__plan_pointwise(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads,
                        nb__plan *plan);
bool nb__plan_winograd(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads, nb__plan *plan);

/* The planners without oneDNN. */
bool nb__plan_conv_own(nb_context *nb, const nb__isa *isa, const nb__call *call, nb__conv_kind kind, int threads, nb__plan *plan);

#endif
