/* test.h: what the tests share. */
#ifndef NB_TEST_H
#define NB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nabla.h"

/* The context must have failed with a message that holds this text; the error is cleared. */
static inline void expect_error(nb_context *nb, const char *text) {
    const char *message = nb_error(nb);
    if (!message) fail_msg("no error; expected \"%s\"", text);
    if (!strstr(message, text)) fail_msg("the error is \"%s\"; expected \"%s\"", message, text);
    nb_error_clear(nb);
}

static inline void expect_good(nb_context *nb) {
    if (nb_error(nb)) fail_msg("error: %s", nb_error(nb));
}

/* A simple generator, for contents that are the same everywhere: in [0, 1). */
static inline double next_real(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) * 0x1p-53;
}

static inline bool is_long(void) { return getenv("LONG") != NULL; }

#endif
