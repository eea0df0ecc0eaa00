/* elementwise.h: what the files of the elementwise operators share. */
#ifndef NB_ELEMENTWISE_H
#define NB_ELEMENTWISE_H

#include "ops.h"

enum {
#define ROW(name, ...) NB__ROW_NUMBER_##name,
#include "elementwise.def"
#undef ROW
    NB__ROW_COUNT
};

/* elementwise_real.c, elementwise_whole.c: one element of a row's result, from its formula. */
double  nb__row_real(int row, double a, double b, double c, double p, double q);
int64_t nb__row_whole(int row, int64_t a, int64_t b, int64_t c, int64_t p, int64_t q);

/* elementwise_derivative.c: the derivative of every row that has one. */
void nb__row_derivative(nb_tensor *y, nb_tensor *dy, const bool *want, nb_tensor **dx);

#endif
