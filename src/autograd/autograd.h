/* autograd.h: operators that only derivatives know (grads.c). */
#ifndef NB_AUTOGRAD_H
#define NB_AUTOGRAD_H

#include "core.h"

extern const nb_op nb__op_stop_gradient, nb__op_with_derivative;

#endif
