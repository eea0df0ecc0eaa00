/* move.c: the loops that move elements: past the caches, across a diagonal, and running sums. */
#include "move.h"

#include "lanes.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* no call passes a vector: all that take one are inlined */

/* Less than a line, in words: the usual way it would be fetched first, and all stores behind it would wait for that. */
static void stream_part(char *y, const char *x, size_t count) {
    if (((uintptr_t)y | count) % sizeof(int)) {
        memcpy(y, x, count);
        return;
    }
    for (size_t i = 0; i < count; i += sizeof(int)) {
        int word;
        memcpy(&word, x + i, sizeof word);
        _mm_stream_si32((int *)(y + i), word);
    }
}

/* Lines of the result are filled whole. */
static void stream(void *to, const void *from, size_t count) {
    char       *y = to;
    const char *x = from;
    size_t      head = (size_t) - (uintptr_t)y % 64;
    if (count < head + 64) {
        memcpy(y, x, count);
        return;
    }
    stream_part(y, x, head);
    size_t i = head;
    for (; i + 64 <= count; i += 64) {
#if defined(__AVX512F__)
        _mm512_stream_si512((__m512i *)(y + i), _mm512_loadu_si512(x + i));
#elif defined(__AVX2__)
        for (size_t k = i; k < i + 64; k += 32)
            _mm256_stream_si256((__m256i *)(y + k), _mm256_loadu_si256((const __m256i *)(x + k)));
#else
        for (size_t k = i; k < i + 64; k += 16) _mm_stream_si128((__m128i *)(y + k), _mm_loadu_si128((const __m128i *)(x + k)));
#endif
    }
    stream_part(y + i, x + i, count - i);
}

static void fence(void) { _mm_sfence(); }

/* A few bytes, for which a call of memcpy is long. The last piece overlaps the one before. */
static inline __attribute__((always_inline)) void copy_bytes(char *y, const char *x, int64_t n) {
    enum { LINE = 64 };
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) memcpy(y + i, x + i, LINE);
    if (i == n) return;
    if (n >= LINE) {
        memcpy(y + n - LINE, x + n - LINE, LINE);
        return;
    }
    for (int64_t size = LINE / 2; size; size /= 2) {
        if (n < size) continue;
        char first[LINE / 2], last[LINE / 2];
        memcpy(first, x, (size_t)size);
        memcpy(last, x + n - size, (size_t)size);
        memcpy(y, first, (size_t)size);
        memcpy(y + n - size, last, (size_t)size);
        return;
    }
}

static void copy_rows(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t rows, int64_t count) {
    for (int64_t r = 0; r < rows; r++) copy_bytes((char *)to + r * to_step, (const char *)from + r * from_step, count);
}

/* Rows that lie anywhere: the processor does not foresee them. */
static void pick_rows(void *to, int64_t to_step, const void *from, const int64_t *at, int64_t rows, int64_t count, bool streams) {
    enum { AHEAD = 6, LINE = 64 };
    for (int64_t r = 0; r < rows; r++) {
        const char *next = (const char *)from + at[r + AHEAD < rows ? r + AHEAD : rows - 1];
        for (int64_t i = 0; i < count && i < 8 * LINE; i += LINE) __builtin_prefetch(next + i);
        if (streams)
            stream((char *)to + r * to_step, (const char *)from + at[r], (size_t)count);
        else
            copy_bytes((char *)to + r * to_step, (const char *)from + at[r], count);
    }
}

/* -------------------------------------------------------------------------------------------------------------- transposition */

/* A block of LANES x LANES or less in registers. Shuffling the first half of the rows into the second, as cards, log2 LANES
 * times, brings element (i, j) to (j, i). */
static inline __attribute__((always_inline)) void transpose_block(float *to, int64_t to_stride, const float *from,
                                                                  int64_t from_stride, int64_t m, int64_t n) {
    floats row[LANES], next[LANES];
    for (int j = 0; j < LANES; j++) {
        row[j] = (floats){0};
        if (j < n) row[j] = m == LANES ? load_all(from + j * from_stride) : load_floats(from + j * from_stride, m);
    }
    for (int stage = 1; stage < LANES; stage *= 2) {
        for (int j = 0; j < LANES / 2; j++) {
            next[2 * j] = low_pairs(row[j], row[j + LANES / 2]);
            next[2 * j + 1] = high_pairs(row[j], row[j + LANES / 2]);
        }
        for (int j = 0; j < LANES; j++) row[j] = next[j];
    }
    for (int i = 0; i < LANES; i++) {
        if (i >= m) break;
        if (n == LANES)
            store_all(to + i * to_stride, row[i]);
        else
            store_floats(to + i * to_stride, row[i], n);
    }
}

static void transpose(float *to, int64_t to_stride, const float *from, int64_t from_stride, int64_t m, int64_t n) {
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t i = 0; i < m; i += LANES) {
            float       *y = to + i * to_stride + j;
            const float *x = from + j * from_stride + i;
            if (i + LANES <= m && j + LANES <= n)
                transpose_block(y, to_stride, x, from_stride, LANES, LANES);
            else
                transpose_block(y, to_stride, x, from_stride, m - i < LANES ? m - i : LANES, n - j < LANES ? n - j : LANES);
        }
}

/* --------------------------------------------------------------------------------------------------------------- running sums */

typedef double halves __attribute__((vector_size(LANES / 2 * sizeof(double))));
typedef float  half __attribute__((vector_size(LANES / 2 * sizeof(float))));

/* Lanes moved up by `by`, zeros come in. */
static inline floats up(floats v, int by) {
    const floats zero = {0};
#if defined(__AVX512F__)
    switch (by) {
    case 1: return __builtin_shufflevector(zero, v, 0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
    case 2: return __builtin_shufflevector(zero, v, 0, 0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    case 4: return __builtin_shufflevector(zero, v, 0, 0, 0, 0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27);
    default: return __builtin_shufflevector(zero, v, 0, 0, 0, 0, 0, 0, 0, 0, 16, 17, 18, 19, 20, 21, 22, 23);
    }
#elif defined(__AVX2__)
    switch (by) {
    case 1: return __builtin_shufflevector(zero, v, 0, 8, 9, 10, 11, 12, 13, 14);
    case 2: return __builtin_shufflevector(zero, v, 0, 0, 8, 9, 10, 11, 12, 13);
    default: return __builtin_shufflevector(zero, v, 0, 0, 0, 0, 8, 9, 10, 11);
    }
#else
    return by == 1 ? __builtin_shufflevector(zero, v, 0, 4, 5, 6) : __builtin_shufflevector(zero, v, 0, 0, 4, 5);
#endif
}

/* Sums within a vector in float, in doubling steps (Hillis & Steele 1986); from vector to vector in double. */
static double sum_up(float *y, const float *x, int64_t n, double start) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        floats v = load_all(x + i), s = v;
        for (int by = 1; by < LANES; by *= 2) s += up(s, by);
        half part[2];
        memcpy(part, &s, sizeof s);
        halves low = __builtin_convertvector(part[0], halves) + start, high = __builtin_convertvector(part[1], halves) + start;
        part[0] = __builtin_convertvector(low, half);
        part[1] = __builtin_convertvector(high, half);
        memcpy(y + i, part, sizeof part);
        start += (double)s[LANES - 1];
    }
    for (; i < n; i++) y[i] = (float)(start += (double)x[i]);
    return start;
}

static void add_up(float *restrict y, double *restrict sum, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        sum[i] += (double)x[i];
        y[i] = (float)sum[i];
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__move_loops JOIN(nb__move_, NB__ISA) = {stream, fence, copy_rows, pick_rows, transpose, sum_up, add_up};
