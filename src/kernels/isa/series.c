/* series.c: many elementwise steps of which each goes on with the result of the one before. Some vectors of it stay in registers
 * while the steps come one after the other, so that a step costs its operand's loads and one jump, where rows one by one go
 * through the cache. */
#include "rows.h"

enum { VECTORS = 8 };

INLINE vector get(const float *x, int64_t left) {
    return left >= LANES ? load(x) : load_part(x, left);
}

#define EACH UNROLL for (int v = 0; v < vectors; v++)
#define OTHER get(s->other + i + v * LANES, left)
/* The result before is the first operand, or the second one. */
#define TWO(row) \
    case 2 * NB__ROW_##row: EACH x[v] = row##_row(x[v], OTHER, x[v], x[v]); break; \
    case 2 * NB__ROW_##row + 1: EACH x[v] = row##_row(OTHER, x[v], x[v], x[v]); break;
#define ONE(row) \
    case 2 * NB__ROW_##row: EACH x[v] = row##_row(x[v], x[v], splat(s->p), splat(s->q)); break;
#define CHOOSE(row, holds) \
    case 2 * NB__ROW_##row: EACH { const vector a = x[v], b = OTHER; x[v] = pick(holds, YES, NO); } break; \
    case 2 * NB__ROW_##row + 1: EACH { const vector a = OTHER, b = x[v]; x[v] = pick(holds, YES, NO); } break;
#define YES get(s->yes + i + v * LANES, left)
#define NO get(s->no + i + v * LANES, left)

/* All steps for `vectors` vectors at element i, or for the `left` elements that are left. */
INLINE void block(const nb__series_step *step, int n_steps, const float *first, int64_t i, const int vectors, int64_t left) {
    vector x[VECTORS];
    EACH x[v] = get(first + i + v * LANES, left);
    for (const nb__series_step *s = step; s < step + n_steps; s++) {
        switch (s->code) {
            TWO(add)
            TWO(sub)
            TWO(mul)
            TWO(div)
            TWO(minimum)
            TWO(maximum)
            ONE(neg)
            ONE(abs)
            ONE(square)
            ONE(relu)
            ONE(leaky_relu)
            ONE(clamp)
            ONE(sqrt)
            CHOOSE(less, less(a, b))
            CHOOSE(less_equal, less(a, b) | equal(a, b))
            CHOOSE(greater, less(b, a))
            CHOOSE(greater_equal, less(b, a) | equal(a, b))
            CHOOSE(equal, equal(a, b))
        }
        if (!s->keep) continue;
        if (left >= LANES)
            EACH put(s->keep + i + v * LANES, x[v], !s->streams);
        else
            put_part(s->keep + i, x[0], left, !s->streams);
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
void JOIN(nb__series_, NB__ISA)(const nb__series_step *step, int n_steps, const float *first, int64_t from, int64_t n) {
    int64_t i = from;
    for (; i + VECTORS * LANES <= n; i += VECTORS * LANES) block(step, n_steps, first, i, VECTORS, LANES);
    for (; i + LANES <= n; i += LANES) block(step, n_steps, first, i, 1, LANES);
    if (i < n) block(step, n_steps, first, i, 1, n - i);
}
