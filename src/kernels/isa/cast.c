/* cast.c: conversion of n contiguous elements from any type to any other. Whole numbers and reals out of range become the nearest
 * number there is, NaN becomes 0 where there is none. Compilers make vector code of the loops. */
#include "independent.h"
#include "kernels.h"
#include "vector.h"

/* Towards zero. The conversion itself only meets numbers that it can represent. */
#define WHOLE_OF(name, real, type, low, beyond, last)                                                                            \
    static inline type name(real x) {                                                                                            \
        real above = x < (real)(low) ? (real)(low) : x;                                                                          \
        type y = (type)(above < (real)(beyond) ? above : 0);                                                                     \
        return x >= (real)(beyond) ? last : y;                                                                                   \
    }
WHOLE_OF(i32_of_f32, float, int32_t, INT32_MIN, 0x1p31, INT32_MAX)
WHOLE_OF(i32_of_f64, double, int32_t, INT32_MIN, 0x1p31, INT32_MAX)
WHOLE_OF(i64_of_f32, float, int64_t, INT64_MIN, 0x1p63, INT64_MAX)
WHOLE_OF(i64_of_f64, double, int64_t, INT64_MIN, 0x1p63, INT64_MAX)
static inline int32_t within(int64_t x, int32_t low, int32_t high) { return (int32_t)(x < low ? low : x > high ? high : x); }
static inline int32_t byte_of(int32_t x) { return x < 0 ? 0 : x > 255 ? 255 : x; }

/* y: what becomes of element x. */
#define CAST(from, to, from_type, to_type, y)                                                                                    \
    static void from##_to_##to(void *out, const void *in, int64_t n) {                                                           \
        const from_type *p = in;                                                                                                 \
        to_type         *q = out;                                                                                                \
        INDEPENDENT                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                                        \
            const from_type x = p[i];                                                                                            \
            q[i] = (to_type)(y);                                                                                                 \
        }                                                                                                                        \
    }
#define CASTS(from, type, as_i64, as_u8)                                                                                         \
    CAST(from, f32, type, float, x)                                                                                              \
    CAST(from, f64, type, double, x)                                                                                             \
    CAST(from, i64, type, int64_t, as_i64)                                                                                       \
    CAST(from, u8, type, uint8_t, as_u8)                                                                                         \
    CAST(from, bool, type, uint8_t, x != 0)
CASTS(f32, float, i64_of_f32(x), byte_of(i32_of_f32(x)))
CASTS(f64, double, i64_of_f64(x), byte_of(i32_of_f64(x)))
CASTS(i32, int32_t, x, byte_of(x))
CASTS(i64, int64_t, x, within(x, 0, 255))
CASTS(u8, uint8_t, x, x)
CAST(f64, i32, double, int32_t, i32_of_f64(x))
CAST(i32, i32, int32_t, int32_t, x)
CAST(i64, i32, int64_t, int32_t, within(x, INT32_MIN, INT32_MAX))
CAST(u8, i32, uint8_t, int32_t, x)

/* By hand: the processor makes INT32_MIN of what is out of range, and compilers cannot count on it. */
static void f32_to_i32(void *out, const void *in, int64_t n) {
    const float *p = in;
    int32_t     *q = out;
    int64_t      i = 0;
    for (; i + LANES <= n; i += LANES) {
        vector x = load(p + i), y = (vector)to_whole(x);
        y = pick(less(x, K(0x1p31)), y, (vector)((whole){0} + INT32_MAX));
        y = pick(is_nan(x), K(0), y);
        memcpy(q + i, &y, sizeof y);
    }
    for (; i < n; i++) q[i] = i32_of_f32(p[i]);
}

CAST(bool, f32, uint8_t, float, x != 0)
CAST(bool, f64, uint8_t, double, x != 0)
CAST(bool, i32, uint8_t, int32_t, x != 0)
CAST(bool, i64, uint8_t, int64_t, x != 0)
CAST(bool, u8, uint8_t, uint8_t, x != 0)
CAST(bool, bool, uint8_t, uint8_t, x != 0)

#define TO(from)                                                                                                                 \
    { from##_to_f32, from##_to_f64, from##_to_i32, from##_to_i64, from##_to_u8, from##_to_bool }
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
nb__cast_tile *const JOIN(nb__casts_, NB__ISA)[NB__CAST_TYPES][NB__CAST_TYPES] = {TO(f32), TO(f64), TO(i32),
                                                                                  TO(i64), TO(u8),  TO(bool)};
