/* golden.h: reads tests/golden/nn.txt (tools/torch_nn.py writes it) and makes the same inputs. */
#ifndef NB_GOLDEN_H
#define NB_GOLDEN_H

#include "test.h"

enum { MOST = 512 }; /* numbers of a record */

typedef struct record {
    int    count;
    double values[MOST];
    char   words[1024]; /* the line after the count */
} record;

/* The record of that name; a missing one fails the test. The working folder is the project's. */
static inline record golden(const char *format, const char *name) {
    record r = {0};
    char   wanted[128], line[16384], found[128];
    int    at;
    FILE  *f = fopen("tests/golden/nn.txt", "r");
    if (!f) fail_msg("tests/golden/nn.txt cannot be read: run the tests in the project's folder");
    snprintf(wanted, sizeof wanted, format, name);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%127s %d%n", found, &r.count, &at) != 2 || strcmp(found, wanted) != 0) continue;
        char *c = line + at, *end;
        for (int i = 0; i < r.count; i++, c = end) r.values[i] = strtod(c, &end);
        snprintf(r.words, sizeof r.words, "%s", c + (*c == ' '));
        r.words[strcspn(r.words, "\n")] = 0;
        fclose(f);
        return r;
    }
    fail_msg("tests/golden/nn.txt has no %s", wanted);
    return r;
}

/* One number after the other is compared with a record. */
typedef struct comparison {
    record expected;
    char   name[128];
    int    at;
    double tolerance; /* absolute below 1, relative above */
} comparison;

static inline comparison compare_with(const char *format, const char *name, double tolerance) {
    comparison c = {.expected = golden(format, name), .tolerance = tolerance};
    snprintf(c.name, sizeof c.name, format, name);
    return c;
}

static inline void compare_number(comparison *c, double got, nb_dtype dtype) {
    if (c->at >= c->expected.count) fail_msg("%s: more than %d numbers", c->name, c->expected.count);
    double want = c->expected.values[c->at], limit;
    if (dtype == NB_F32) want = (float)want;
    limit = c->tolerance * fmax(1, fabs(want));
    if (!(fabs(got - want) <= limit)) fail_msg("%s[%d] is %.17g; expected %.17g", c->name, c->at, got, want);
    c->at++;
}

static inline void compare_tensor(comparison *c, nb_tensor *t) {
    const void *data = nb_data(t);
    if (!data) fail_msg("%s: %s", c->name, nb_error(nb_context_of(t)));
    for (int64_t i = 0; i < nb_count(t); i++)
        compare_number(c, nb_dtype_of(t) == NB_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i],
                       nb_dtype_of(t));
}

static inline void compare_end(const comparison *c) {
    if (c->at != c->expected.count) fail_msg("%s: %d numbers; expected %d", c->name, c->at, c->expected.count);
}

static inline double fill_value(int64_t i, int64_t seed) {
    return (double)((i * 37 + seed * 101 + (i * i * 7) % 53) % 199) / 100 - 0.99;
}

/* A step tensor with numbers in [-0.99, 0.99], the same ones as in tools/torch_nn.py. */
static inline nb_tensor *fill(nb_context *nb, nb_dtype dtype, nb_dims shape, int seed) {
    double  wide[MOST];
    float   narrow[MOST];
    int64_t n = 1;
    for (int i = 0; i < shape.rank; i++) n *= shape.size[i];
    assert_true(n <= MOST);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = fill_value(i, seed);
        narrow[i] = (float)wide[i];
    }
    return nb_from(nb, dtype, shape, dtype == NB_F64 ? (void *)wide : (void *)narrow);
}

#endif
