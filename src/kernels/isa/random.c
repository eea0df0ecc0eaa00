/* random.c: random numbers, a tile at a time. */
#include "random.h"

#include "vmath.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 8 };
#elif defined(__AVX2__)
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif
enum { BLOCKS = NB__RANDOM_TILE / 4 };

typedef uint64_t vector __attribute__((vector_size(LANES * sizeof(uint64_t))));

/* The product of the low halves: one instruction that compilers do not find by themselves. */
static inline vector multiply(vector a, uint32_t b) {
    vector s = (vector){0} + b;
#if defined(__AVX512F__)
    return (vector)_mm512_mul_epu32((__m512i)a, (__m512i)s);
#elif defined(__AVX2__)
    return (vector)_mm256_mul_epu32((__m256i)a, (__m256i)s);
#elif defined(__x86_64__)
    return (vector)_mm_mul_epu32((__m128i)a, (__m128i)s);
#else
    return (a & UINT32_MAX) * s;
#endif
}

/* Philox 4x32-10 (Salmon et al., 2011) for all blocks of a tile. Each lane has a 32-bit word in its low half; what is in the high half is
 * never looked at. */
static void philox(const nb__random_source *s, uint64_t block, uint32_t (*word)[BLOCKS]) {
    vector number;
    for (int k = 0; k < LANES; k++) number[k] = (uint64_t)k;
    for (int i = 0; i < BLOCKS; i += LANES) {
        vector   c0 = number + (block + (uint64_t)i), c1 = c0 >> 32, c2 = (vector){0} + s->step, c3 = c2 >> 32;
        uint32_t k0 = s->key[0], k1 = s->key[1];
        for (int round = 0; round < 10; round++) {
            vector m = multiply(c0, 0xD2511F53), n = multiply(c2, 0xCD9E8D57);
            c0 = (n >> 32) ^ c1 ^ (uint64_t)k0;
            c2 = (m >> 32) ^ c3 ^ (uint64_t)k1;
            c1 = n;
            c3 = m;
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        for (int k = 0; k < LANES; k++) {
            word[0][i + k] = (uint32_t)c0[k];
            word[1][i + k] = (uint32_t)c1[k];
            word[2][i + k] = (uint32_t)c2[k];
            word[3][i + k] = (uint32_t)c3[k];
        }
    }
}

/* The high 24 bits, as a number in [0, 1). */
static inline float fraction(uint32_t word) { return (float)(int32_t)(word >> 8) * 0x1p-24f; }

static void uniform(const nb__random_source *s, uint64_t block, float *out) {
    uint32_t word[4][BLOCKS];
    float    low = s->p, high = s->q, range = high - low, below = nextafterf(high, low);
    philox(s, block, word);
    for (int i = 0; i < BLOCKS; i++)
        for (int k = 0; k < 4; k++) {
            float v = low + range * fraction(word[k][i]);
            out[4 * i + k] = v < high ? v : below; /* rounding must not reach high */
        }
}

/* Box & Muller, 1958: sqrt(-2 log u) times cos and sin of 2 pi v. v is reduced to an eighth of a turn on both sides of a quarter. */
static inline void normal_pair(uint32_t first, uint32_t second, float *even, float *odd) {
    float   u = (float)(int32_t)((first >> 8) + 1) * 0x1p-24f, v = fraction(second);
    float   radius = SQRT(-2 * LOG(u));
    int32_t quarter = (int32_t)(4 * v + 0.5f);
    float   f = v - 0.25f * (float)quarter, w = f * f;
    float   sine = FMA(w, FMA(w, FMA(w, FMA(w, 41.4729486225f, -76.6978699563f), 81.6052047463f), -41.3417021535f), 6.28318530715f) * f;
    float   cosine = FMA(w, FMA(w, FMA(w, FMA(w, 59.2459641343f, -85.4437417284f), 64.9393264717f), -19.7392086937f), 1);
    float   c = quarter & 1 ? sine : cosine, t = quarter & 1 ? cosine : sine;
    *even = radius * ((quarter + 1) & 2 ? -c : c);
    *odd = radius * (quarter & 2 ? -t : t);
}

static void normal(const nb__random_source *s, uint64_t block, float *out) {
    uint32_t word[4][BLOCKS];
    float    mean = s->p, deviation = s->q;
    philox(s, block, word);
    for (int i = 0; i < BLOCKS; i++) {
        float a, b, c, d;
        normal_pair(word[0][i], word[1][i], &a, &b);
        normal_pair(word[2][i], word[3][i], &c, &d);
        out[4 * i + 0] = mean + deviation * a;
        out[4 * i + 1] = mean + deviation * b;
        out[4 * i + 2] = mean + deviation * c;
        out[4 * i + 3] = mean + deviation * d;
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const nb__random_loops JOIN(nb__random_, NB__ISA) = {uniform, normal};
