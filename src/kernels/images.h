/* images.h: images of arrays that are not channels-last, turned one by one. */
#ifndef NB_IMAGES_H
#define NB_IMAGES_H

#include "copy.h"

/* Whether the images lie one after the other, pixel by pixel; an axis of one element may have any stride. */
bool nb__is_channels_last(const nb_array *a);
/* What turns one image of `a` into a dense channels-last one, or back. */
nb__copy nb__images_copy(const nb__isa *isa, const nb_array *a, bool back);
/* Images first to first + n of `a` into dense ones, one after the other, or back. */
void nb__copy_images(const nb__copy *c, const nb_array *a, int64_t first, int64_t n, float *dense, bool back);

#endif
