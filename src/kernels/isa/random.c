/* random.c: random numbers, a tile at a time. */
#include "random.h"

#include "vmath.h"

enum { BLOCKS = NB__RANDOM_TILE / 4 };

/* The product of the low halves: one instruction that compilers do not find by themselves. */
static inline wide_word multiply(wide_word a, uint32_t b) {
    wide_word s = (wide_word){0} + b;
#if defined(__AVX512F__)
    return (wide_word)_mm512_mul_epu32((__m512i)a, (__m512i)s);
#elif defined(__AVX2__)
    return (wide_word)_mm256_mul_epu32((__m256i)a, (__m256i)s);
#else
    return (wide_word)_mm_mul_epu32((__m128i)a, (__m128i)s);
#endif
}

/* Philox 4x32-10 (Salmon et al., 2011) of LANES / 2 blocks. Each lane has a 32-bit word in its low half; what is in the high half
 * is never looked at. */
static inline void philox(const nb__random_source *s, wide_word block, wide_word c[4]) {
    uint32_t k0 = s->key[0], k1 = s->key[1];
    c[0] = block;
    c[1] = block >> 32;
    c[2] = (wide_word){0} + s->step;
    c[3] = c[2] >> 32;
    for (int round = 0; round < 10; round++) {
        wide_word m = multiply(c[0], 0xD2511F53), n = multiply(c[2], 0xCD9E8D57);
        c[0] = (n >> 32) ^ c[1] ^ (uint64_t)k0;
        c[2] = (m >> 32) ^ c[3] ^ (uint64_t)k1;
        c[1] = n;
        c[3] = m;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
}

/* The four words of LANES blocks: even ones and odd ones on their own, put together at the end. */
static inline void words(const nb__random_source *s, uint64_t block, word w[4]) {
    wide_word number, even[4], odd[4];
    for (int k = 0; k < LANES / 2; k++) number[k] = block + 2 * (uint64_t)k;
    philox(s, number, even);
    philox(s, number + 1, odd);
    for (int k = 0; k < 4; k++) w[k] = (word)((even[k] & UINT32_MAX) | odd[k] << 32);
}

/* The high 24 bits, as a number in [0, 1). */
static inline vector fraction(word w) { return to_float((whole)(w >> 8)) * 0x1p-24f; }

/* x[k] has number k of each block: they go one block after the other. */
static inline void store_blocks(float *out, const vector x[4]) {
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 4; k++) out[4 * i + k] = x[k][i];
}

static void uniform(const nb__random_source *s, uint64_t block, float *out) {
    const vector low = splat(s->p), high = splat(s->q), range = high - low, below = splat(nextafterf(s->q, s->p));
    for (int i = 0; i < BLOCKS; i += LANES) {
        word   w[4];
        vector x[4];
        words(s, block + (uint64_t)i, w);
        for (int k = 0; k < 4; k++) {
            vector v = low + range * fraction(w[k]);
            x[k] = pick(less(v, high), v, below); /* rounding must not reach high */
        }
        store_blocks(out + 4 * i, x);
    }
}

/* Box & Muller, 1958: sqrt(-2 log u) times cos and sin of 2 pi v. */
static inline void normal_pair(word first, word second, vector *even, vector *odd) {
    vector u = to_float((whole)(first >> 8) + 1) * 0x1p-24f, v = fraction(second);
    vector n, r = log_split(u, &n);
    vector radius = square_root(-2 * FMA(n, K(LOG2_HIGH), r + FMA(n, K(LOG2_LOW), log_tail(r))));
    vector rounded = FMA(v, K(4), K(ROUNDER)), angle = (v - 0.25f * (rounded - ROUNDER)) * 6.28318530718f;
    whole  quarter = low_bits(rounded);
    *even = radius * sin_turned(angle, quarter + 1);
    *odd = radius * sin_turned(angle, quarter);
}

static void normal(const nb__random_source *s, uint64_t block, float *out) {
    const vector mean = splat(s->p), deviation = splat(s->q);
    for (int i = 0; i < BLOCKS; i += LANES) {
        word   w[4];
        vector x[4];
        words(s, block + (uint64_t)i, w);
        normal_pair(w[0], w[1], &x[0], &x[1]);
        normal_pair(w[2], w[3], &x[2], &x[3]);
        for (int k = 0; k < 4; k++) x[k] = mean + deviation * x[k];
        store_blocks(out + 4 * i, x);
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__random_loops JOIN(nb__random_, NB__ISA) = {uniform, normal};
