/* contraction.h: what the reference loops of products and convolutions share. */
#ifndef NB_CONTRACTION_H
#define NB_CONTRACTION_H

#include "ops.h"

/* sum over i < n of a[at_a + i step_a] b[at_b + i step_b], added up in double in that order. */
double nb__dot(const nb_array *a, int64_t at_a, int64_t step_a, const nb_array *b, int64_t at_b, int64_t step_b, int64_t n);

/* False, and the context has failed, unless both have one type: f32 or f64, or any type of number when integers are allowed. */
bool nb__check_product(nb_context *nb, const char *user, const nb_tensor *a, const nb_tensor *b, bool integers);

#endif
