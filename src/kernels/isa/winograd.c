/* winograd.c: transforms of tiles, some channels at a time, with
 *
 *     B^T = 1  0 -1  0      A^T = 1  1  1  0
 *           0  1  1  0            0  1 -1 -1
 *           0 -1  1  0
 *           0  1  0 -1 */
#include "winograd.h"

#include "lanes.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* no call passes a vector: all that take one are inlined */

/* m channels: all lanes of most vectors, fewer at the end. */
static inline floats load(const float *x, int64_t m) { return m >= LANES ? load_all(x) : load_floats(x, m); }

static inline void store(float *y, floats v, int64_t m) {
    if (m >= LANES)
        store_all(y, v);
    else
        store_floats(y, v, m);
}

static inline __attribute__((always_inline)) void image_part(float *v, int64_t step, const float *const *x, int64_t c,
                                                             int64_t m) {
    floats d[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        floats a = load(x[j] + c, m), b = load(x[4 + j] + c, m), e = load(x[8 + j] + c, m), f = load(x[12 + j] + c, m);
        d[0][j] = a - e;
        d[1][j] = b + e;
        d[2][j] = e - b;
        d[3][j] = b - f;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        float *to = v + 4 * i * step + c;
        store(to, d[i][0] - d[i][2], m);
        store(to + step, d[i][1] + d[i][2], m);
        store(to + 2 * step, d[i][2] - d[i][1], m);
        store(to + 3 * step, d[i][1] - d[i][3], m);
    }
}

static void image(float *v, int64_t step, const float *const *x, int64_t n) {
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) image_part(v, step, x, c, LANES);
    if (c < n) image_part(v, step, x, c, n - c);
}

static inline __attribute__((always_inline)) void result_part(float *const *y, const float *m, int64_t step, int64_t c,
                                                              int64_t n) {
    floats s[2][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const float *at = m + j * step + c;
        floats       a = load(at, n), b = load(at + 4 * step, n), d = load(at + 8 * step, n), e = load(at + 12 * step, n);
        s[0][j] = a + b + d;
        s[1][j] = b - d - e;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        store(y[2 * i] + c, s[i][0] + s[i][1] + s[i][2], n);
        store(y[2 * i + 1] + c, s[i][1] - s[i][2] - s[i][3], n);
    }
}

static void result(float *const *y, const float *m, int64_t step, int64_t n) {
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) result_part(y, m, step, c, LANES);
    if (c < n) result_part(y, m, step, c, n - c);
}

static inline __attribute__((always_inline)) void spread_part(float *e, int64_t step, const float *const *y, int64_t c,
                                                              int64_t n) {
    floats s[4][2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        floats a = load(y[j] + c, n), b = load(y[2 + j] + c, n);
        s[0][j] = a;
        s[1][j] = a + b;
        s[2][j] = a - b;
        s[3][j] = -b;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        float *to = e + 4 * i * step + c;
        store(to, s[i][0], n);
        store(to + step, s[i][0] + s[i][1], n);
        store(to + 2 * step, s[i][0] - s[i][1], n);
        store(to + 3 * step, -s[i][1], n);
    }
}

static void spread(float *e, int64_t step, const float *const *y, int64_t n) {
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) spread_part(e, step, y, c, LANES);
    if (c < n) spread_part(e, step, y, c, n - c);
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__winograd_loops JOIN(nb__winograd_, NB__ISA) = {image, result, spread};
