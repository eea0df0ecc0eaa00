/* shape.c: element types, shapes, axes, broadcasting. */
#include <stdio.h>

#include "core.h"

static const struct {
    const char *name;
    size_t      size;
} dtypes[] = {{"f32", 4}, {"f64", 8}, {"i32", 4}, {"i64", 8}, {"u8", 1}, {"bool", 1}, {"f16", 2}, {"bf16", 2}};

static bool known(nb_dtype d) { return (unsigned)d < sizeof dtypes / sizeof *dtypes; }

const char *nb_dtype_name(nb_dtype d) { return known(d) ? dtypes[d].name : "unknown type"; }
size_t      nb_dtype_size(nb_dtype d) { return known(d) ? dtypes[d].size : 0; }
bool        nb__is_float(nb_dtype d) { return d == NB_F32 || d == NB_F64; }
bool        nb__is_integer(nb_dtype d) { return d == NB_I32 || d == NB_I64 || d == NB_U8; }

nb_dims nb_dims_of(int rank, const int64_t *size) {
    nb_dims d = {.rank = rank < 0 || rank > NB_MAX_RANK ? -1 : rank};
    for (int i = 0; i < d.rank; i++) d.size[i] = size[i];
    return d;
}

bool nb__dims_equal(nb_dims a, nb_dims b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.size[i] != b.size[i]) return false;
    return true;
}

int64_t nb__dims_count(nb_dims d) {
    int64_t n = 1;
    for (int i = 0; i < d.rank; i++) n *= d.size[i];
    return n;
}

bool nb__broadcast(nb_dims a, nb_dims b, nb_dims *out) {
    nb_dims d = {.rank = a.rank > b.rank ? a.rank : b.rank};
    for (int i = 1; i <= d.rank; i++) {
        int64_t m = i <= a.rank ? a.size[a.rank - i] : 1, n = i <= b.rank ? b.size[b.rank - i] : 1;
        if (m != n && m != 1 && n != 1) return false;
        d.size[d.rank - i] = m == 1 ? n : m;
    }
    *out = d;
    return true;
}

bool nb__check_shape(nb_context *nb, const char *user, nb_dtype dtype, nb_dims shape) {
    if (dtype == NB_F16 || dtype == NB_BF16 || !known(dtype)) {
        nb_fail(nb, NB_INVALID, "%s: no operator takes %s", user, nb_dtype_name(dtype));
        return false;
    }
    if (shape.rank < 0 || shape.rank > NB_MAX_RANK) {
        nb_fail(nb, NB_INVALID, "%s: a tensor has 0 to %d axes", user, NB_MAX_RANK);
        return false;
    }
    int64_t bytes = (int64_t)nb_dtype_size(dtype), limit = NB__MAX_BYTES;
    /* Sizes beside a 0 must not overflow either: strides are made of them. */
    for (int i = 0; i < shape.rank; i++) {
        int64_t n = shape.size[i];
        if (n < 0) {
            nb_fail(nb, NB_INVALID, "%s: a size of %s is negative", user, nb__dims_text(shape).at);
            return false;
        }
        if (n > 1) {
            if (n > limit / bytes) {
                nb_fail(nb, NB_INVALID, "%s: %s of %s is more than this machine can address", user, nb__dims_text(shape).at,
                        nb_dtype_name(dtype));
                return false;
            }
            bytes *= n;
        }
    }
    return true;
}

bool nb__check_axis(nb_context *nb, const char *user, int64_t rank, int64_t *axis) {
    if (*axis < -rank || *axis >= rank) {
        nb_fail(nb, NB_INVALID, "%s: there is no axis %lld in a tensor of rank %lld", user, (long long)*axis, (long long)rank);
        return false;
    }
    if (*axis < 0) *axis += rank;
    return true;
}

bool nb__check_axes(nb_context *nb, const char *user, int64_t rank, nb_dims *axes) {
    bool chosen[NB_MAX_RANK] = {false};
    if (axes->rank < 0) {
        nb_fail(nb, NB_INVALID, "%s: more than %d axes", user, NB_MAX_RANK);
        return false;
    }
    for (int i = 0; i < axes->rank; i++) {
        if (!nb__check_axis(nb, user, rank, &axes->size[i])) return false;
        if (chosen[axes->size[i]]) {
            nb_fail(nb, NB_INVALID, "%s: axis %lld is named twice", user, (long long)axes->size[i]);
            return false;
        }
        chosen[axes->size[i]] = true;
    }
    bool all = axes->rank == 0;
    axes->rank = 0;
    for (int i = 0; i < rank; i++)
        if (all || chosen[i]) axes->size[axes->rank++] = i;
    return true;
}

nb__text nb__dims_text(nb_dims d) {
    nb__text t = {"["};
    int      n = 1;
    for (int i = 0; i < d.rank && n < 120; i++)
        n += snprintf(t.at + n, sizeof t.at - (size_t)n, i ? ",%lld" : "%lld", (long long)d.size[i]);
    if (n > 126) n = 126;
    snprintf(t.at + n, sizeof t.at - (size_t)n, "]");
    return t;
}
