/* reduce.c: sums, products and extremes of rows and columns, compiled once for each instruction set.
 *
 * The one idea: partial results in a fixed number of lanes, whatever a vector's width is, combined in a fixed tree. A float lane adds up at
 * most DEPTH elements before it is added to a double: so sums of millions of floats are good to the last bits, at the speed of floats. */
#include "loops.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* TWICE: gcc unrolls loops of 16 before it looks for vectors, and then finds none in choices. */
enum { LANES = 16, TWICE = 2 * LANES, WIDE = 4 * LANES, DEPTH = 16 };

/* Halves are added until one is left: the tree. */
static double add_up(double *lane, int n) {
    for (int half = n / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

/* Blocks of WIDE x DEPTH elements; what is left, of at most WIDE a row, goes to the lanes as it comes. */
static double sum(const float *x, int64_t n) {
    double total[LANES] = {0};
    if (n < LANES) {
        for (int64_t i = 0; i < n; i++) total[0] += (double)x[i];
        return total[0];
    }
    while (n > 0) {
        int64_t block = n < WIDE * DEPTH ? n : WIDE * DEPTH, i = 0;
        float   lane[WIDE] = {0};
        for (; i + WIDE <= block; i += WIDE)
            for (int k = 0; k < WIDE; k++) lane[k] += x[i + k];
        for (; i + LANES <= block; i += LANES)
            for (int k = 0; k < LANES; k++) lane[k] += x[i + k];
        for (int k = 0; i < block; i++, k++) lane[LANES + k] += x[i];
        for (int k = 0; k < LANES; k++)
            total[k] += (double)((lane[k] + lane[k + 2 * LANES]) + (lane[k + LANES] + lane[k + 3 * LANES]));
        x += block;
        n -= block;
    }
    return add_up(total, LANES);
}

static double prod(const float *x, int64_t n) {
    double  lane[LANES];
    int64_t i = 0;
    for (int k = 0; k < LANES; k++) lane[k] = 1;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) lane[k] *= (double)x[i + k];
    for (int k = 0; i < n; i++, k++) lane[k] *= (double)x[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) lane[k] *= lane[k + half];
    return lane[0];
}

/* A NaN is taken, and then nothing compares as larger than it. */
static float larger(float a, float b) { return ((b > a) | (b != b)) ? b : a; }
static float smaller(float a, float b) { return ((b < a) | (b != b)) ? b : a; }

static float max(const float *x, int64_t n) {
    float   lane[TWICE], best = x[0];
    int64_t i = 0;
    if (n < TWICE) {
        for (i = 1; i < n; i++) best = larger(best, x[i]);
        return best;
    }
    for (int k = 0; k < TWICE; k++) lane[k] = best;
    for (; i + TWICE <= n; i += TWICE)
        for (int k = 0; k < TWICE; k++) lane[k] = larger(lane[k], x[i + k]);
    for (int k = 0; i < n; i++, k++) lane[k] = larger(lane[k], x[i]);
    for (int half = TWICE / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) lane[k] = larger(lane[k], lane[k + half]);
    return lane[0];
}

static float min(const float *x, int64_t n) {
    float   lane[TWICE], best = x[0];
    int64_t i = 0;
    if (n < TWICE) {
        for (i = 1; i < n; i++) best = smaller(best, x[i]);
        return best;
    }
    for (int k = 0; k < TWICE; k++) lane[k] = best;
    for (; i + TWICE <= n; i += TWICE)
        for (int k = 0; k < TWICE; k++) lane[k] = smaller(lane[k], x[i + k]);
    for (int k = 0; i < n; i++, k++) lane[k] = smaller(lane[k], x[i]);
    for (int half = TWICE / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) lane[k] = smaller(lane[k], lane[k + half]);
    return lane[0];
}

static int64_t find(const float *x, int64_t n, float value) {
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE) { /* whole blocks without a branch inside */
        int found = 0;
        if (value == value)
            for (int k = 0; k < WIDE; k++) found |= x[i + k] == value;
        else
            for (int k = 0; k < WIDE; k++) found |= x[i + k] != x[i + k];
        if (found) break;
    }
    for (; i < n; i++)
        if (x[i] == value || (value != value && x[i] != x[i])) return i;
    return -1;
}

/* WIDE columns at most at a time: the sums of DEPTH rows in float, then in double. */
static void sum_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    for (int64_t j = 0; j < n; j += WIDE) {
        int width = (int)(n - j < WIDE ? n - j : WIDE);
        for (int64_t r = 0; r < rows; r += DEPTH) {
            int64_t end = r + DEPTH < rows ? r + DEPTH : rows;
            float   lane[WIDE] = {0};
            if (width == WIDE) /* a number known to the compiler */
                for (int64_t i = r; i < end; i++)
                    for (int k = 0; k < WIDE; k++) lane[k] += x[i * stride + j + k];
            else
                for (int64_t i = r; i < end; i++)
                    for (int k = 0; k < width; k++) lane[k] += x[i * stride + j + k];
            for (int k = 0; k < width; k++) y[j + k] += (double)lane[k];
        }
    }
}

static void max_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    for (int64_t j = 0; j < n && rows; j += WIDE) {
        int   width = (int)(n - j < WIDE ? n - j : WIDE);
        float lane[WIDE];
        for (int k = 0; k < width; k++) lane[k] = x[j + k];
        for (int64_t i = 1; i < rows; i++)
            for (int k = 0; k < width; k++) lane[k] = larger(lane[k], x[i * stride + j + k]);
        for (int k = 0; k < width; k++)
            y[j + k] = y[j + k] > (double)lane[k] || y[j + k] != y[j + k] ? y[j + k] : (double)lane[k];
    }
}

static void min_columns(double *y, const float *x, int64_t rows, int64_t stride, int64_t n) {
    for (int64_t j = 0; j < n && rows; j += WIDE) {
        int   width = (int)(n - j < WIDE ? n - j : WIDE);
        float lane[WIDE];
        for (int k = 0; k < width; k++) lane[k] = x[j + k];
        for (int64_t i = 1; i < rows; i++)
            for (int k = 0; k < width; k++) lane[k] = smaller(lane[k], x[i * stride + j + k]);
        for (int k = 0; k < width; k++)
            y[j + k] = y[j + k] < (double)lane[k] || y[j + k] != y[j + k] ? y[j + k] : (double)lane[k];
    }
}

const struct nb__loops JOIN(nb__loops_, NB__ISA) = {sum, prod, max, min, find, sum_columns, max_columns, min_columns};
