/* random.c: random numbers, a tile at a time.
 *
 * Philox 4x32-10 (Salmon et al., 2011) for 256 counters at once: each of the four words is a row, so that the loop is one of vectors. */
#include "random.h"

#include "vmath.h"

enum { BLOCKS = NB__RANDOM_TILE / 4 };

static void philox(const nb__random_source *s, uint64_t block, uint32_t (*word)[BLOCKS]) {
    for (int i = 0; i < BLOCKS; i++) {
        uint64_t at = block + (uint64_t)i;
        uint32_t c0 = (uint32_t)at, c1 = (uint32_t)(at >> 32), c2 = (uint32_t)s->step, c3 = (uint32_t)(s->step >> 32);
        uint32_t k0 = s->key[0], k1 = s->key[1];
        for (int round = 0; round < 10; round++) {
            uint64_t m = UINT64_C(0xD2511F53) * c0, n = UINT64_C(0xCD9E8D57) * c2;
            c0 = (uint32_t)(n >> 32) ^ c1 ^ k0;
            c2 = (uint32_t)(m >> 32) ^ c3 ^ k1;
            c1 = (uint32_t)n;
            c3 = (uint32_t)m;
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        word[0][i] = c0;
        word[1][i] = c1;
        word[2][i] = c2;
        word[3][i] = c3;
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
