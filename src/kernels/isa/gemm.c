/* gemm.c: own matrix products.
 *
 * As in Goto & van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008: a block of C of six rows and two vectors stays in
 * registers while k runs. A panel of B is packed, so that its rows lie one after the other; A is read where it is, one number a row and step. */
#include "gemm.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
enum { ROWS = 6, WIDTH = 2 * LANES };

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static inline vector load(const float *p) {
    vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, vector v) { memcpy(p, &v, sizeof v); }

/* x in all lanes: x - 0 is x for every x, and the compiler knows. */
static inline vector splat(float x) { return x - (vector){0}; }

/* a b + c, with one rounding where the processor can. */
static inline vector multiply_add(vector a, vector b, vector c) {
#if defined(__AVX512F__)
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* Sum of the lanes, by halves. */
static inline float sum(vector v) {
    float x[LANES];
    store(x, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

/* One row of a block: WIDTH numbers. Six variables of this type stay in registers where an array of six would not. */
typedef struct row {
    vector low, high;
} row;

static inline row load_row(const float *p) { return (row){load(p), load(p + LANES)}; }

static inline void store_row(float *p, row x) {
    store(p, x.low);
    store(p + LANES, x.high);
}

static inline row add_row(row x, float a, row b) {
    vector s = splat(a);
    return (row){multiply_add(s, b.low, x.low), multiply_add(s, b.high, x.high)};
}

/* c[ROWS, WIDTH], rows `step_c` apart, is set to A's six rows times a packed panel [k, WIDTH]; or that is added to it. */
static void block(int64_t k, const float *const *a, int64_t step, const float *b, float *c, int64_t step_c, bool add) {
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3], *a4 = a[4], *a5 = a[5];
    row          x0 = {{0}, {0}}, x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0;
    if (add) {
        x0 = load_row(c);
        x1 = load_row(c + step_c);
        x2 = load_row(c + 2 * step_c);
        x3 = load_row(c + 3 * step_c);
        x4 = load_row(c + 4 * step_c);
        x5 = load_row(c + 5 * step_c);
    }
    for (int64_t p = 0, at = 0; p < k; p++, b += WIDTH, at += step) {
        row y = load_row(b);
        x0 = add_row(x0, a0[at], y);
        x1 = add_row(x1, a1[at], y);
        x2 = add_row(x2, a2[at], y);
        x3 = add_row(x3, a3[at], y);
        x4 = add_row(x4, a4[at], y);
        x5 = add_row(x5, a5[at], y);
    }
    store_row(c, x0);
    store_row(c + step_c, x1);
    store_row(c + 2 * step_c, x2);
    store_row(c + 3 * step_c, x3);
    store_row(c + 4 * step_c, x4);
    store_row(c + 5 * step_c, x5);
}

/* The same where the block hangs over C's edge or C's rows are not dense: by way of a block of its own. */
static void edge_block(int64_t k, const float *const *a, int64_t step, const float *b, nb__matrix c, int rows, int columns, bool add) {
    float x[ROWS * WIDTH];
    block(k, a, step, b, x, WIDTH, false);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            float *to = c.data + i * c.row + j * c.column;
            *to = (add ? *to : 0) + x[i * WIDTH + j];
        }
}

/* Columns 0 .. columns - 1 of B[k, ...] as [k, WIDTH], zeros beyond. */
static void pack_panel(float *restrict to, nb__matrix b, int64_t k, int columns) {
    if (columns == WIDTH && b.column == 1) {
        for (int64_t p = 0; p < k; p++, to += WIDTH) {
            store(to, load(b.data + p * b.row));
            store(to + LANES, load(b.data + p * b.row + LANES));
        }
        return;
    }
    if (columns < WIDTH) memset(to, 0, (size_t)k * WIDTH * sizeof *to);
    for (int j = 0; j < columns; j++)
        for (int64_t p = 0; p < k; p++) to[p * WIDTH + j] = b.data[p * b.row + j * b.column];
}

static void product(nb__matrix a, nb__matrix b, nb__matrix c, int64_t m, int64_t n, int64_t k, bool add, float *pack) {
    for (int64_t p = 0; p < k; p += NB__GEMM_DEPTH) {
        int64_t depth = k - p < NB__GEMM_DEPTH ? k - p : NB__GEMM_DEPTH;
        for (int64_t j = 0; j < n; j += WIDTH) {
            int columns = n - j < WIDTH ? (int)(n - j) : WIDTH;
            pack_panel(pack, (nb__matrix){b.data + p * b.row + j * b.column, b.row, b.column}, depth, columns);
            for (int64_t i = 0; i < m; i += ROWS) {
                int          rows = m - i < ROWS ? (int)(m - i) : ROWS;
                nb__matrix   to = {c.data + i * c.row + j * c.column, c.row, c.column};
                const float *from[ROWS]; /* the last row again where there are fewer than six */
                for (int r = 0; r < ROWS; r++) from[r] = a.data + (i + (r < rows ? r : rows - 1)) * a.row + p * a.column;
                if (rows == ROWS && columns == WIDTH && c.column == 1) block(depth, from, a.column, pack, to.data, c.row, add || p > 0);
                else edge_block(depth, from, a.column, pack, to, rows, columns, add || p > 0);
            }
        }
    }
}

/* Dense rows: 4 vectors of y at a time, each row adds to them. */
static void vector_by_rows(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        vector s[4] = {{0}, {0}, {0}, {0}};
        for (int64_t p = 0; p < k; p++)
            for (int i = 0; i < 4; i++) s[i] = multiply_add(splat(x[p]), load(b.data + p * b.row + j + i * LANES), s[i]);
        for (int i = 0; i < 4; i++) store(y + j + i * LANES, s[i]);
    }
    for (; j + LANES <= n; j += LANES) {
        vector s = {0};
        for (int64_t p = 0; p < k; p++) s = multiply_add(splat(x[p]), load(b.data + p * b.row + j), s);
        store(y + j, s);
    }
    for (; j < n; j++) {
        float s = 0;
        for (int64_t p = 0; p < k; p++) s += x[p] * b.data[p * b.row + j];
        y[j] = s;
    }
}

/* Dense columns: dot products, 4 columns at a time. */
static void vector_by_columns(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    int64_t whole = k / LANES * LANES;
    for (int64_t j = 0; j < n; j += 4) {
        int          columns = n - j < 4 ? (int)(n - j) : 4;
        const float *at[4];
        vector       s[4] = {{0}, {0}, {0}, {0}};
        for (int i = 0; i < 4; i++) at[i] = b.data + (j + (i < columns ? i : columns - 1)) * b.column;
        for (int64_t p = 0; p < whole; p += LANES)
            for (int i = 0; i < 4; i++) s[i] = multiply_add(load(x + p), load(at[i] + p), s[i]);
        for (int i = 0; i < columns; i++) {
            float rest = 0;
            for (int64_t p = whole; p < k; p++) rest += x[p] * at[i][p];
            y[j + i] = sum(s[i]) + rest;
        }
    }
}

static void vector_product(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    if (b.row == 1) vector_by_columns(x, b, y, n, k);
    else vector_by_rows(x, b, y, n, k);
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__gemm_loops JOIN(nb__gemm_, NB__ISA) = {WIDTH, product, vector_product};
