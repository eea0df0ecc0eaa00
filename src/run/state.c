/* state.c: values going in and out: kept tensors, nb_data, nb_item. */
#include <math.h>
#include <string.h>

#include "ops.h"
#include "run.h"

nb_tensor *nb_param(nb_context *nb, const char *name, nb_tensor *value) {
    if (nb__refuse(nb, value, 0, name ? name : "nb_param")) return nb_failed(nb);
    const void *data = nb_data(value);
    if (!data) return nb_failed(nb);
    nb_tensor *t = nb__kept_new(nb, name, value->dtype, value->shape, false);
    if (!t->is_failed) memcpy(t->storage->data, data, t->storage->bytes);
    return t;
}

/* Checks a call that fills a kept tensor. */
static bool can_set(nb_tensor *t, const void *data, size_t bytes, const char *user) {
    if (!t) return false;
    nb_context *nb = t->nb;
    if (nb__refuse(nb, t, 0, user)) return false;
    if (!t->storage) {
        nb_fail(nb, NB_INVALID, "%s: %s is not a kept tensor (nb_param, nb_input)", user, nb__describe(t));
        return false;
    }
    if (bytes != t->storage->bytes || (!data && bytes)) {
        nb_fail(nb, NB_INVALID, "%s: %s is %s %s, %zu bytes; got %zu", user, t->name, nb_dtype_name(t->dtype),
                nb__dims_text(t->shape).at, t->storage->bytes, data ? bytes : 0);
        return false;
    }
    return true;
}

bool nb_set(nb_tensor *t, const void *data, size_t bytes) {
    if (!can_set(t, data, bytes, "nb_set")) return false;
    if (bytes) memcpy(t->storage->data, data, bytes);
    t->storage->borrowed = NULL;
    if (t->storage->is_versioned) t->storage->written = ++t->nb->serial;
    return true;
}

bool nb_set_in_place(nb_tensor *t, const void *data, size_t bytes) {
    if (!can_set(t, data, bytes, "nb_set_in_place")) return false;
    if ((uintptr_t)data % NB__ALIGN) return nb_set(t, data, bytes);
    t->storage->borrowed = data;
    if (t->storage->is_versioned) t->storage->written = ++t->nb->serial;
    return true;
}

const void *nb_data(nb_tensor *t) {
    if (!t) return NULL;
    nb_context *nb = t->nb;
    if (nb->status != NB_OK || nb__refuse(nb, t, 0, "nb_data")) return NULL;
    if (t->storage) return t->storage->borrowed ? t->storage->borrowed : t->storage->data;
    if (!t->value && !nb_eval(nb, nb_list_from(nb, 1, &t))) return NULL;
    return t->value;
}

bool nb_read(nb_tensor *t, void *data, size_t bytes) {
    if (!t) return false;
    if (!nb__refuse(t->nb, t, 0, "nb_read") && bytes != nb_bytes(t)) {
        nb_fail(t->nb, NB_INVALID, "nb_read: %s is %zu bytes; the array has %zu", nb__describe(t), nb_bytes(t), bytes);
        return false;
    }
    const void *from = nb_data(t);
    if (!from) return false;
    if (bytes) memcpy(data, from, bytes);
    return true;
}

double nb_item(nb_tensor *t) {
    if (!t) return NAN;
    if (!nb__refuse(t->nb, t, 0, "nb_item") && nb_count(t) != 1) {
        nb_fail(t->nb, NB_INVALID, "nb_item: %s is %s, not one element", nb__describe(t), nb__dims_text(t->shape).at);
        return NAN;
    }
    const void *data = nb_data(t);
    if (!data) return NAN;
    nb_array a = {.data = (void *)(uintptr_t)data, .dtype = t->dtype};
    return nb__load(&a, 0);
}
