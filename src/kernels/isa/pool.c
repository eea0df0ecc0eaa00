/* pool.c: the loops of pools; plain, for the compiler to vectorise. */
#include "pool.h"

#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float   floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t places __attribute__((vector_size(LANES * sizeof(int32_t))));

/* take is all ones or all zeros, lane by lane. */
static inline places choose(places take, places a, places b) { return (take & a) | (~take & b); }

/* LANES channels at x. */
static inline places find_in_lanes(const float *x, const nb__pool_window_at *w) {
    floats best, value;
    places where = w->first - (places){0};
    memcpy(&best, x, sizeof best);
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->columns; j++) {
            memcpy(&value, x + i * w->row_step + j * w->column_step, sizeof value);
            /* !(value <= best) holds for a larger value and for NaN; best == best does not once best is NaN. */
            places take = ~(places)(value <= best) & (places)(best == best);
            best = (floats)choose(take, (places)value, (places)best);
            where = choose(take, (w->first + (int32_t)i * w->row_place + (int32_t)j * w->column_place) - (places){0}, where);
        }
    return where;
}

static int32_t find_in_one(const float *x, const nb__pool_window_at *w) {
    float   best = x[0];
    int32_t where = w->first;
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->columns; j++) {
            float value = x[i * w->row_step + j * w->column_step];
            if (value <= best || best != best) continue;
            best = value;
            where = w->first + (int32_t)i * w->row_place + (int32_t)j * w->column_place;
        }
    return where;
}

static void find_largest(int32_t *place, const float *x, const nb__pool_window_at *w, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        places p = find_in_lanes(x + i, w);
        memcpy(place + i, &p, sizeof p);
    }
    for (; i < n; i++) place[i] = find_in_one(x + i, w);
}

static void add(double *restrict sum, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i];
}

static void scale(float *restrict y, const double *restrict sum, double factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = (float)(sum[i] * factor);
}

static void add_scaled(float *restrict y, const float *restrict x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += x[i] * factor;
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__pool_loops JOIN(nb__pool_, NB__ISA) = {find_largest, add, scale, add_scaled};
