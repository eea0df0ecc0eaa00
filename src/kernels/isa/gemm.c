/* gemm.c: own matrix products.
 *
 * As in Goto & van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008: a block of C, some rows of two vectors,
 * stays in registers while k runs. A panel of B is packed, so that its rows lie one after the other; A is read where it is, one
 * number a row and step, unless its steps along k are long: then it is packed, too. */
#include "gemm.h"

#include "vector.h"

/* Rows of a block of C: as many as leave registers for a row of B. */
#if defined(__AVX512F__)
enum { ROWS = 8 };
#else
enum { ROWS = 6 };
#endif
enum { WIDTH = 2 * LANES, MOST_ROWS = 8, AHEAD = 8, MANY = 4 };

/* y[i] = the sum of x[i]'s lanes, by halves, for i < n <= 4: each step adds halves and interleaves what is left of two
 * vectors. */
static inline void sums(const vector *x, float *y, int n) {
    vector a = low_pairs(x[0], x[2]) + high_pairs(x[0], x[2]), b = low_pairs(x[1], x[3]) + high_pairs(x[1], x[3]);
    vector all = low_pairs(a, b) + high_pairs(a, b);
    float  kept[LANES];
#pragma GCC unroll 2
    for (int left = LANES / 4; left > 1; left /= 2) all = low_pairs(all, all) + high_pairs(all, all);
    store(kept, all);
    for (int i = 0; i < n; i++) y[i] = kept[i * (LANES / 4)];
}

/* to[p,j] = from[j,p] for p < LANES and j < columns <= LANES, zeros for other j < LANES: pairs are interleaved as often as halves
 * LANES. */
static inline void transpose(float *to, int64_t step_to, const float *from, int64_t step_from, int columns) {
    vector x[LANES], y[LANES];
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) x[j] = j < columns ? load(from + j * step_from) : (vector){0};
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 8
        for (int j = 0; j < LANES / 2; j++) {
            y[2 * j] = low_pairs(x[j], x[j + LANES / 2]);
            y[2 * j + 1] = high_pairs(x[j], x[j + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++) x[j] = y[j];
    }
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) store(to + j * step_to, x[j]);
}

/* -------------------------------------------------------------------------------------------------------------------- blocks */

/* A block of C: rows x vectors LANES numbers, whose rows are step_c apart. Row r of A is `taps` runs of k elements: element p of
 * run t lies at a[r][t tap + p step_a]. The rows of B follow each other, step_b apart. */
typedef struct block {
    int64_t      taps, tap, k, step_a, step_b, step_c;
    const float *a[MOST_ROWS], *b;
    float       *c;
    bool         add;
} block;

/* Inlined where rows and vectors are known, so that x stays in registers. */
static inline __attribute__((always_inline)) void multiply(const block *q, const int rows, const int vectors) {
    vector       x[MOST_ROWS][2], y[2];
    const float *a[MOST_ROWS], *b = q->b;
    int64_t      k = q->k, step_a = q->step_a, step_b = q->step_b;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        a[r] = q->a[r];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) x[r][v] = q->add ? load(q->c + r * q->step_c + v * LANES) : (vector){0};
    }
    for (int64_t t = 0; t < q->taps; t++) {
        for (int64_t p = 0, at = t * q->tap; p < k; p++, b += step_b, at += step_a) {
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) y[v] = load(b + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                vector s = splat(a[r][at]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) x[r][v] = fma_(s, y[v], x[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(q->c + r * q->step_c + v * LANES, x[r][v]);
}

static void multiply_wide(const block *q, int rows) {
    switch (rows) {
    case 1: multiply(q, 1, 2); break;
    case 2: multiply(q, 2, 2); break;
    case 3: multiply(q, 3, 2); break;
    case 4: multiply(q, 4, 2); break;
    case 5: multiply(q, 5, 2); break;
    case 6: multiply(q, 6, 2); break;
    case 7: multiply(q, 7, 2); break;
    default: multiply(q, 8, 2);
    }
}

static void multiply_narrow(const block *q, int rows) {
    switch (rows) {
    case 1: multiply(q, 1, 1); break;
    case 2: multiply(q, 2, 1); break;
    case 3: multiply(q, 3, 1); break;
    case 4: multiply(q, 4, 1); break;
    case 5: multiply(q, 5, 1); break;
    case 6: multiply(q, 6, 1); break;
    case 7: multiply(q, 7, 1); break;
    default: multiply(q, 8, 1);
    }
}

/* x[rows, WIDTH] is read from a part of c, or written there. */
static void read_part(float *x, nb__matrix c, int rows, int columns) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) x[i * WIDTH + j] = c.data[i * c.row + j * c.column];
}

static void write_part(const float *x, nb__matrix c, int rows, int columns) {
    float t[LANES * LANES];
    if (c.row != 1 || rows != ROWS || (int)ROWS > (int)LANES) {
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) c.data[i * c.row + j * c.column] = x[i * WIDTH + j];
        return;
    }
    for (int v = 0; v < columns; v += LANES) { /* the columns of c are dense */
        transpose(t, LANES, x + v, WIDTH, ROWS);
        for (int j = 0; j < LANES && v + j < columns; j++) memcpy(c.data + (v + j) * c.column, t + j * LANES, ROWS * sizeof *t);
    }
}

/* Brings the lines that are going to be written into the cache while the products run. */
static void fetch(nb__matrix c, int rows, int columns) {
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(c.data + i * c.row, 1);
        __builtin_prefetch(c.data + i * c.row + columns - 1, 1);
    }
}

/* Sets or adds to c[rows, columns]. Where that is no whole block, or its rows are not dense: by way of a block of its own. */
static void multiply_into(block *q, nb__matrix c, int rows, int columns) {
    float x[MOST_ROWS * WIDTH];
    bool  is_narrow = columns <= LANES, is_whole = c.column == 1 && columns == (is_narrow ? LANES : WIDTH);
    q->c = is_whole ? c.data : x;
    q->step_c = is_whole ? c.row : WIDTH;
    if (!is_whole && q->add) read_part(x, c, rows, columns);
    if (is_whole && !q->add) fetch(c, rows, columns);
    if (is_narrow)
        multiply_narrow(q, rows);
    else
        multiply_wide(q, rows);
    if (!is_whole) write_part(x, c, rows, columns);
}

/* c[m, columns], columns <= WIDTH: blocks of rows, as even as can be. */
static void windows(const nb__windows *w, nb__matrix c, int64_t m, int columns, bool add) {
    block        q = {.taps = w->taps, .tap = w->tap, .k = w->k, .step_a = w->step, .step_b = w->step_b, .b = w->b, .add = add};
    int64_t      blocks = (m + ROWS - 1) / ROWS, of_period = 0;
    const float *a = w->a;
    for (int64_t i = 0, n = 0; n < blocks; n++) {
        int rows = (int)((m - i + blocks - n - 1) / (blocks - n));
        for (int r = 0; r < rows; r++) {
            q.a[r] = a + of_period * w->row;
            if (++of_period == w->period) {
                of_period = 0;
                a += w->jump;
            }
        }
        multiply_into(&q, (nb__matrix){c.data + i * c.row, c.row, c.column}, rows, columns);
        i += rows;
    }
}

/* ------------------------------------------------------------------------------------------------------------------- packing */

static int panel_width(int columns) { return columns <= LANES ? LANES : WIDTH; }

static void pack_panel(float *restrict to, nb__matrix b, int64_t k, int columns) {
    int     width = panel_width(columns);
    int64_t p = 0;
    if (b.row == 1) {
        for (int j = 0; j < width; j += LANES) {
            int many = columns - j < LANES ? columns - j : LANES;
            for (p = 0; p + LANES <= k; p += LANES) {
                transpose(to + p * width + j, width, b.data + p + j * b.column, b.column, many);
            }
        }
    } else if (b.column == 1 && columns == WIDTH)
        for (; p < k; p++) {
            __builtin_prefetch(b.data + (p + AHEAD) * b.row);
            __builtin_prefetch(b.data + (p + AHEAD) * b.row + WIDTH - 1);
            store(to + p * WIDTH, load(b.data + p * b.row));
            store(to + p * WIDTH + LANES, load(b.data + p * b.row + LANES));
        }
    for (; p < k; p++)
        for (int j = 0; j < width; j++) to[p * width + j] = j < columns ? b.data[p * b.row + j * b.column] : 0;
}

/* Floats of a packed piece of A; not a power of two, for pieces are written side by side. */
static int64_t piece_floats(int64_t k) { return k * ROWS + 16; }

/* A[m, k] as pieces of ROWS rows, each [k, ROWS]. Where columns are dense, whole ones are read: strides may be long. */
static void pack_rows(float *restrict to, nb__matrix a, int64_t m, int64_t k) {
    int64_t step = piece_floats(k), pieces = a.row == 1 ? m / ROWS : 0;
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < pieces; i++) {
            __builtin_prefetch(a.data + i * ROWS + (p + AHEAD) * a.column);
            memcpy(to + i * step + p * ROWS, a.data + i * ROWS + p * a.column, ROWS * sizeof *to);
        }
    for (int64_t i = pieces * ROWS; i < m; i++)
        for (int64_t p = 0; p < k; p++) to[i / ROWS * step + p * ROWS + i % ROWS] = a.data[i * a.row + p * a.column];
}

/* ------------------------------------------------------------------------------------------------------------------ products */

/* What a product reads. */
typedef struct operands {
    nb__matrix   a, b;
    const float *panels; /* B packed, of all its k rows, or NULL */
    int64_t      k;
    bool         packs_a, packs_b;
    float       *pack;
} operands;

/* c[m,n] is set to, or gets added, steps first to first + k of rows i to i + m of A and of B. */
static void piece(const operands *q, nb__matrix c, int64_t i, int64_t m, int64_t n, int64_t first, int64_t k, bool add) {
    nb__matrix  a = {q->a.data + i * q->a.row + first * q->a.column, q->a.row, q->a.column}, b = q->b;
    float      *panel = q->pack + NB__PACK_FLOATS - NB__GEMM_DEPTH * WIDTH;
    nb__windows w = {.a = a.data, .row = a.row, .period = m, .taps = 1, .k = k, .step = a.column};
    b.data += first * b.row;
    if (q->packs_a) {
        pack_rows(q->pack, a, m, k);
        w = (nb__windows){.a = q->pack, .row = 1, .period = ROWS, .jump = piece_floats(k), .taps = 1, .k = k, .step = ROWS};
    }
    for (int64_t j = 0; j < n; j += WIDTH) {
        int  columns = n - j < WIDTH ? (int)(n - j) : WIDTH, width = panel_width(columns);
        bool in_place = !q->panels && !q->packs_b && columns == width;
        if (!in_place && !q->panels) pack_panel(panel, (nb__matrix){b.data + j * b.column, b.row, b.column}, k, columns);
        w.b = q->panels ? q->panels + j * q->k + first * width : in_place ? b.data + j : panel;
        w.step_b = in_place ? b.row : width;
        windows(&w, (nb__matrix){c.data + j * c.column, c.row, c.column}, m, columns, add);
    }
}

/* A and B are read where they are if that is along dense columns or, for A, rows; unless what is read fell on itself in the
 * cache, because columns of A are a multiple of a page apart or rows of B of half a page, or A's columns are read again for
 * many panels. */
static void product(nb__matrix a, nb__matrix b, nb__matrix c, int64_t m, int64_t n, int64_t k, bool add, float *pack,
                    const float *panels) {
    operands q = {.a = a, .b = b, .panels = panels, .k = k, .pack = pack};
    q.packs_a = n > WIDTH && (nb__is_scattered(a) || (a.column != 1 && n > MANY * WIDTH));
    q.packs_b = b.column != 1 || (m > 2 * ROWS && b.row % (NB__GEMM_PAGE / 2) == 0);
    int64_t deepest = panels || q.packs_b ? NB__GEMM_DEPTH : NB__GEMM_STRIDES, pieces = (k + deepest - 1) / deepest;
    int64_t depth = (k + pieces - 1) / pieces, rows = NB__GEMM_ROWS;
    if (q.packs_a && depth * rows > NB__GEMM_PIECE) rows = NB__GEMM_PIECE / depth / ROWS * ROWS;
    for (int64_t i = 0; i < m; i += rows)
        for (int64_t p = 0; p < k; p += depth)
            piece(&q, (nb__matrix){c.data + i * c.row, c.row, c.column}, i, m - i < rows ? m - i : rows, n, p,
                  k - p < depth ? k - p : depth, add || p > 0);
}

/* ------------------------------------------------------------------------------------------------------------------- vectors */

/* Dense rows: 4 vectors of y at a time, each row adds to them. */
static void vector_by_rows(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        vector s[4] = {{0}, {0}, {0}, {0}};
        for (int64_t p = 0; p < k; p++)
            for (int i = 0; i < 4; i++) s[i] = fma_(splat(x[p]), load(b.data + p * b.row + j + i * LANES), s[i]);
        for (int i = 0; i < 4; i++) store(y + j + i * LANES, s[i]);
    }
    for (; j + LANES <= n; j += LANES) {
        vector s = {0};
        for (int64_t p = 0; p < k; p++) s = fma_(splat(x[p]), load(b.data + p * b.row + j), s);
        store(y + j, s);
    }
    for (; j < n; j++) {
        float s = 0;
        for (int64_t p = 0; p < k; p++) s += x[p] * b.data[p * b.row + j];
        y[j] = s;
    }
}

/* y[i] = the dot product of x and column i, for i < n <= most, 4 or 8: side by side, the last column in place of those that
 * are not there. */
static inline __attribute__((always_inline)) void dots(const float *x, nb__matrix b, float *y, int n, int64_t k, const int most) {
    const float *at[8];
    vector       s[8];
    int64_t      p = 0;
    for (int i = 0; i < most; i++) {
        at[i] = b.data + (i < n ? i : n - 1) * b.column;
        s[i] = (vector){0};
    }
    for (; p + LANES <= k; p += LANES)
        for (int i = 0; i < most; i++) s[i] = fma_(load(x + p), load(at[i] + p), s[i]);
    sums(s, y, n < 4 ? n : 4);
    if (most > 4) sums(s + 4, y + 4, n - 4);
    for (int i = 0; i < n && p < k; i++) {
        float rest = 0;
        for (int64_t q = p; q < k; q++) rest += x[q] * at[i][q];
        y[i] += rest;
    }
}

/* Dense columns: the more of them are read at once, the sooner they come from a far cache. */
static void vector_by_columns(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    for (int64_t j = 0; j < n; j += 8) {
        nb__matrix part = {b.data + j * b.column, b.row, b.column};
        if (n - j > 4)
            dots(x, part, y + j, n - j < 8 ? (int)(n - j) : 8, k, 8);
        else
            dots(x, part, y + j, (int)(n - j), k, 4);
    }
}

static void vector_product(const float *x, nb__matrix b, float *y, int64_t n, int64_t k) {
    if (b.row == 1)
        vector_by_columns(x, b, y, n, k);
    else
        vector_by_rows(x, b, y, n, k);
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__gemm_loops JOIN(nb__gemm_, NB__ISA) = {WIDTH, LANES, ROWS, product, pack_panel, windows, vector_product};
