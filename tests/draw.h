/* draw.h: random numbers of the tests' own: tests must not depend on what they test. Marsaglia, Xorshift RNGs, 2003. */
#ifndef NB_TEST_DRAW_H
#define NB_TEST_DRAW_H

#include <stdint.h>

static uint32_t random_state = 12345;

static inline uint32_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static inline uint32_t draw_below(uint32_t n) { return draw() % n; }
static inline float    draw_between(float low, float high) { return low + (high - low) * (float)(draw() >> 8) * 0x1p-24f; }

#endif
