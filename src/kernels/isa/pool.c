/* pool.c: the loops of pools. A vector holds one element of each of LANES windows, and goes through the places of all of them. */
#include "pool.h"

#include "lanes.h"

typedef double halves __attribute__((vector_size(LANES / 2 * sizeof(double))));
typedef float  half __attribute__((vector_size(LANES / 2 * sizeof(float))));

static inline __attribute__((always_inline)) floats load(const float *x, int64_t step, int64_t m) {
    floats v = {0};
    if (step == 1) return m == LANES ? load_all(x) : load_floats(x, m);
    if (step == 2) { /* never beyond the last element */
        int64_t n = 2 * m - 1;
        return n > LANES ? even(load_all(x), load_floats(x + LANES, n - LANES)) : even(load_floats(x, n), v);
    }
    for (int64_t i = 0; i < m; i++) v[i] = x[i * step];
    return v;
}

static inline void store(float *y, floats v, int64_t m) {
    if (m == LANES)
        store_all(y, v);
    else
        store_floats(y, v, m);
}

static inline void store_spread(float *y, int64_t step, floats v, int64_t m) {
    if (step == 1)
        store(y, v, m);
    else
        for (int64_t i = 0; i < m; i++) y[i * step] = v[i];
}

/* Windows i .. i + m - 1 of an index. */
typedef struct indices {
    bytes  narrow;
    places wide;
    bool   is_wide, is_none;
} indices;

static inline indices load_indices(const void *index, bool is_wide, int64_t i, int64_t m) {
    indices k = {.is_wide = is_wide, .is_none = !index};
    if (!index) return k;
    if (is_wide)
        k.wide = load_places((const int32_t *)index + i, m);
    else
        k.narrow = load_bytes((const uint8_t *)index + i, m);
    return k;
}

static inline mask is_at(const indices *k, int32_t place) {
    return k->is_wide ? equal_places(k->wide, place) : equal_bytes(k->narrow, place);
}

static inline __attribute__((always_inline)) void largest_lanes(float *y, void *index, const float *x, const nb__pool_place *w,
                                                                int64_t i, int64_t m) {
    floats best = load(x += i * w->step, w->step, m);
    places where = {0};
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t c = 0; c < w->columns; c++) {
            floats v = load(x + r * w->row_step + c * w->column_step, w->step, m);
            mask   take = is_larger(v, best);
            best = choose(take, v, best);
            where = choose_places(take, ((int32_t)r * w->pitch + (int32_t)c) - (places){0}, where);
        }
    if (y) store(y + i, best, m);
    if (index && w->is_wide)
        store_places((int32_t *)index + i, where, m);
    else if (index)
        store_bytes((uint8_t *)index + i, __builtin_convertvector(where, bytes), m);
}

static inline __attribute__((always_inline)) void largest_value_lanes(float *y, const float *x, const nb__pool_place *w,
                                                                      int64_t i, int64_t m) {
    floats best = load(x += i * w->step, w->step, m);
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t c = 0; c < w->columns; c++) {
            floats v = load(x + r * w->row_step + c * w->column_step, w->step, m);
            best = choose(is_larger(v, best), v, best);
        }
    store(y + i, best, m);
}

static inline __attribute__((always_inline)) void take_lanes(float *y, const void *index, const float *x, const nb__pool_place *w,
                                                             int64_t i, int64_t m) {
    indices k = load_indices(index, w->is_wide, i, m);
    floats  taken = {0};
    x += i * w->step;
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t c = 0; c < w->columns; c++) {
            floats v = load(x + r * w->row_step + c * w->column_step, w->step, m);
            taken = choose(is_at(&k, (int32_t)r * w->pitch + (int32_t)c), v, taken);
        }
    store(y + i, taken, m);
}

static inline floats given(const indices *k, floats v, int64_t r, int64_t c, const nb__pool_place *w) {
    return k->is_none ? v : choose(is_at(k, (int32_t)r * w->pitch + (int32_t)c), v, (floats){0});
}

static inline __attribute__((always_inline)) void put_lanes(float *dx, const void *index, const float *dy, float factor,
                                                            const nb__pool_place *w, int64_t i, int64_t m) {
    indices k = load_indices(index, w->is_wide, i, m);
    floats  v = load(dy + i, 1, m) * factor;
    bool    pairs = w->step == 2 && w->columns == 2 && w->column_step == 1;
    for (int64_t r = 0; r < w->rows; r++) {
        float *row = dx + i * w->step + r * w->row_step;
        if (!pairs) {
            for (int64_t c = 0; c < w->columns; c++) store_spread(row + c * w->column_step, w->step, given(&k, v, r, c, w), m);
            continue;
        }
        floats a = given(&k, v, r, 0, w), b = given(&k, v, r, 1, w);
        store(row, low_pairs(a, b), 2 * m < LANES ? 2 * m : LANES);
        if (2 * m > LANES) store(row + LANES, high_pairs(a, b), 2 * m - LANES);
    }
}

static inline __attribute__((always_inline)) void add_lanes(float *dx, const void *index, const float *dy, float factor,
                                                            const nb__pool_place *w, int64_t i, int64_t m) {
    indices k = load_indices(index, w->is_wide, i, m);
    floats  v = load(dy + i, 1, m) * factor;
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t c = 0; c < w->columns; c++) {
            float *at = dx + i * w->step + r * w->row_step + c * w->column_step;
            store_spread(at, w->step, load(at, w->step, m) + given(&k, v, r, c, w), m);
        }
}

/* Added up in double. */
static inline __attribute__((always_inline)) void mean_lanes(float *y, const float *x, double factor, const nb__pool_place *w,
                                                             int64_t i, int64_t m) {
    halves low = {0}, high = {0};
    x += i * w->step;
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t c = 0; c < w->columns; c++) {
            floats v = load(x + r * w->row_step + c * w->column_step, w->step, m);
            half   part[2];
            memcpy(part, &v, sizeof v);
            low += __builtin_convertvector(part[0], halves);
            high += __builtin_convertvector(part[1], halves);
        }
    half   part[2] = {__builtin_convertvector(low * factor, half), __builtin_convertvector(high * factor, half)};
    floats v;
    memcpy(&v, part, sizeof v);
    store(y + i, v, m);
}

/* All windows: full vectors, and what is left. */
#define EACH(lanes, ...)                                                                                                         \
    do {                                                                                                                         \
        int64_t i = 0;                                                                                                           \
        for (; i + LANES <= n; i += LANES) lanes(__VA_ARGS__, i, LANES);                                                         \
        if (i < n) lanes(__VA_ARGS__, i, n - i);                                                                                 \
    } while (0)

/* Windows of 2 x 2 along channels, the usual ones: as constants, so that their loops are unrolled. */
static bool is_usual(const nb__pool_place *w) { return w->rows == 2 && w->columns == 2 && w->step == 1; }

static inline nb__pool_place usual(const nb__pool_place *w) {
    return (nb__pool_place){2, 2, w->row_step, w->column_step, 1, w->pitch, w->is_wide};
}

static void largest_value(float *y, const float *x, const nb__pool_place *w, int64_t n) {
    nb__pool_place two = usual(w);
    if (is_usual(w))
        EACH(largest_value_lanes, y, x, &two);
    else
        EACH(largest_value_lanes, y, x, w);
}

static void largest(float *y, void *index, const float *x, const nb__pool_place *w, int64_t n) {
    nb__pool_place two = usual(w);
    if (!index)
        largest_value(y, x, w, n);
    else if (is_usual(w))
        EACH(largest_lanes, y, index, x, &two);
    else
        EACH(largest_lanes, y, index, x, w);
}

static void take(float *y, const void *index, const float *x, const nb__pool_place *w, int64_t n) {
    EACH(take_lanes, y, index, x, w);
}

static void put(float *dx, const void *index, const float *dy, float factor, const nb__pool_place *w, int64_t n) {
    EACH(put_lanes, dx, index, dy, factor, w);
}

static void add(float *dx, const void *index, const float *dy, float factor, const nb__pool_place *w, int64_t n) {
    EACH(add_lanes, dx, index, dy, factor, w);
}

static void mean(float *y, const float *x, double factor, const nb__pool_place *w, int64_t n) {
    EACH(mean_lanes, y, x, factor, w);
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__pool_loops JOIN(nb__pool_, NB__ISA) = {largest, take, put, add, mean};
