/* context.h: one context for all tests of a program. */
#ifndef NB_TEST_CONTEXT_H
#define NB_TEST_CONTEXT_H

#include "nabla.h"

static nb_context *nb;

static inline int open_context(void **state) {
    (void)state;
    nb = nb_open(NULL);
    return nb ? 0 : -1;
}

static inline int close_context(void **state) {
    (void)state;
    nb_close(nb);
    return 0;
}

#endif
