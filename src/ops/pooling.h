/* pooling.h: what max and average pools share: windows, their checks, their samples. */
#ifndef NB_POOLING_H
#define NB_POOLING_H

#include "ops.h"

enum { N, C, H, W }; /* axes of an image */

bool nb__pool_check_image(nb_context *nb, const char *user, nb_dtype dtype, nb_dims shape);
/* Fills attributes for images of shape x from the options; false: the context has failed. */
bool nb__pool_resolve(nb_context *nb, const char *user, nb_dims x, const nb_pool2d_options *options, nb__pool_attr *a);
/* Shape of the result. A window must hold an element of the image at least: there is no maximum of nothing. */
bool nb__pool_shape(nb_context *nb, const char *user, nb_dtype dtype, nb_dims x, const nb__pool_attr *a, nb_dims *out);
/* Attributes of an adaptive pool. */
nb__pool_attr nb__pool_adaptive(int64_t height, int64_t width);
/* A primitive with the attributes of the node `like`, but for attr.other. */
nb_tensor *nb__pool_apply(const nb_tensor *like, const nb_op *op, int n, nb_tensor *const *in, nb_dims other);
void       nb__pool_describe(const void *attr, char *text, size_t size);

/* What the samples of max and average pools run through. Those behind the flat ones are dilated: for max only. */
typedef struct nb__pool_sample {
    nb_dims           x;
    nb_pool2d_options o;
} nb__pool_sample;
enum { NB__POOL_SAMPLES = 13, NB__POOL_FLAT_SAMPLES = NB__POOL_SAMPLES - 2 };
extern const nb__pool_sample nb__pool_samples[NB__POOL_SAMPLES];

#endif
