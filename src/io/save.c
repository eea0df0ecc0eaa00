/* save.c: tensors to a safetensors file, and digests of tensors.
 *
 * The format: a u64 with the length of the header, little-endian; the header, JSON, with type, shape and place of each tensor;
 * the values. Ours differ from others only in their metadata, which begin with a SHA-256 of the whole file, computed with zeros
 * in the place of its own digits. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "io.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the format is little-endian, and values are written as they lie in memory");

const char *nb__file_dtype_name(nb_dtype dtype) {
    static const char *const name[] = {[NB_F32] = "F32", [NB_F64] = "F64",   [NB_I32] = "I32", [NB_I64] = "I64",
                                       [NB_U8] = "U8",   [NB_BOOL] = "BOOL", [NB_F16] = "F16", [NB_BF16] = "BF16"};
    return name[dtype];
}

void nb__dims_print(nb_dims d, char *text, size_t size) {
    text[0] = 0;
    for (int i = 0; i < d.rank; i++) {
        size_t n = strlen(text);
        snprintf(text + n, size - n, "%s%" PRId64, i ? "," : "", d.size[i]);
    }
}

/* Makes nb_data cost nothing, and its pointers stay, for all of these. */
static bool evaluate(nb_context *nb, nb_list tensors) {
    nb_list todo = nb_list_new(nb, tensors.n);
    todo.n = 0;
    for (int i = 0; i < tensors.n && !nb_error(nb); i++)
        if (!nb_has_value(tensors.at[i])) todo.at[todo.n++] = tensors.at[i];
    return !nb_error(nb) && (todo.n == 0 || nb_eval(nb, todo));
}

/* --------------------------------------------------------------------------------------------------------------------- header */

/* A place for each tensor, in bytes from the start of the data; returns the end. Wide elements come first, so that all are
 * aligned. */
static int64_t place(nb_list tensors, int64_t *begin) {
    int64_t end = 0;
    for (size_t width = 8; width > 0; width /= 2) {
        for (int i = 0; i < tensors.n; i++) {
            if (nb_dtype_size(nb_dtype_of(tensors.at[i])) != width) continue;
            begin[i] = end;
            end += (int64_t)nb_bytes(tensors.at[i]);
        }
    }
    return end;
}

/* json_object_set_new takes the value over, and answers -1 for one that is NULL: so failures may wait until the end. */
static bool add_tensor(json_t *root, const nb_tensor *t, int64_t begin) {
    nb_dims d = nb_shape_of(t);
    json_t *shape = json_array(), *offsets = json_array(), *entry = json_object();
    bool    ok = shape && offsets && entry;
    for (int i = 0; i < d.rank && ok; i++) ok = json_array_append_new(shape, json_integer(d.size[i])) == 0;
    ok = ok && json_array_append_new(offsets, json_integer(begin)) == 0;
    ok = ok && json_array_append_new(offsets, json_integer(begin + (int64_t)nb_bytes(t))) == 0;
    ok = ok && json_object_set_new(entry, "dtype", json_string(nb__file_dtype_name(nb_dtype_of(t)))) == 0;
    ok = ok && json_object_set(entry, "shape", shape) == 0 && json_object_set(entry, "data_offsets", offsets) == 0;
    ok = ok && json_object_set(root, nb_name(t), entry) == 0;
    json_decref(shape);
    json_decref(offsets);
    json_decref(entry);
    return ok;
}

static bool add_metadata(nb_context *nb, json_t *metadata, int n, const nb_pair *pairs) {
    const char *zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    if (json_object_set_new(metadata, NB__CHECKSUM, json_string(zeros)) != 0 ||
        json_object_set_new(metadata, NB__FORMAT, json_string("1")) != 0) {
        nb_fail(nb, NB_NO_MEMORY, "nb_save: no memory for the header");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (json_object_get(metadata, pairs[i].key)) {
            nb_fail(nb, NB_INVALID, "nb_save: the metadata key '%s' is there twice, or is one of the library's own",
                    pairs[i].key);
            return false;
        }
        if (json_object_set_new(metadata, pairs[i].key, json_string(pairs[i].value)) != 0) {
            nb_fail(nb, NB_INVALID, "nb_save: metadata '%s': key or value is not UTF-8 (or there is no memory)", pairs[i].key);
            return false;
        }
    }
    return true;
}

static bool add_tensors(nb_context *nb, json_t *root, nb_list tensors, const int64_t *begin) {
    for (int i = 0; i < tensors.n; i++) {
        const char *name = nb_name(tensors.at[i]);
        if (!name[0]) {
            nb_fail(nb, NB_INVALID, "nb_save: tensor %d of the list has no name; give it one by nb_set_name", i);
            return false;
        }
        if (json_object_get(root, name)) {
            nb_fail(nb, NB_INVALID, "nb_save: two tensors have the name '%s'; names in a file are unique%s", name,
                    strcmp(name, "__metadata__") == 0 ? ", and this one is the format's" : "");
            return false;
        }
        if (!add_tensor(root, tensors.at[i], begin[i])) {
            nb_fail(nb, NB_INVALID, "nb_save: tensor '%s': the name is not UTF-8 (or there is no memory)", name);
            return false;
        }
    }
    return true;
}

/* Length and text of the header, filled up with blanks so that the values begin at a multiple of 64. NULL after an error. */
static char *print_header(nb_context *nb, const json_t *root, size_t *bytes) {
    char  *header = NULL;
    size_t n = json_dumpb(root, NULL, 0, JSON_COMPACT), padded = (n + NB__LENGTH_BYTES + 63) / 64 * 64 - NB__LENGTH_BYTES;
    if (n == 0)
        nb_fail(nb, NB_NO_MEMORY, "nb_save: no memory for the header");
    else if (padded > NB__MAX_HEADER)
        nb_fail(nb, NB_INVALID, "nb_save: the header is longer than %d bytes, the format's limit", NB__MAX_HEADER);
    else
        header = nb_alloc(nb, NB__LENGTH_BYTES + padded);
    if (!header) return NULL;
    uint64_t length = padded;
    memcpy(header, &length, NB__LENGTH_BYTES);
    memset(header + NB__LENGTH_BYTES, ' ', padded);
    *bytes = NB__LENGTH_BYTES + padded;
    if (json_dumpb(root, header + NB__LENGTH_BYTES, padded, JSON_COMPACT) == n) return header;
    nb_fail(nb, NB_NO_MEMORY, "nb_save: no memory for the header");
    nb_free(nb, header);
    return NULL;
}

static char *make_header(nb_context *nb, nb_list tensors, const int64_t *begin, int n_pairs, const nb_pair *pairs,
                         size_t *bytes) {
    json_t *root = json_object(), *metadata = json_object();
    char   *header = NULL;
    if (!root || !metadata || json_object_set(root, "__metadata__", metadata) != 0)
        nb_fail(nb, NB_NO_MEMORY, "nb_save: no memory for the header");
    else if (add_metadata(nb, metadata, n_pairs, pairs) && add_tensors(nb, root, tensors, begin))
        header = print_header(nb, root, bytes);
    json_decref(metadata);
    json_decref(root);
    return header;
}

/* ----------------------------------------------------------------------------------------------------------------------- file */

static void put_checksum(char *header, int n, const nb__piece *pieces) {
    nb__sha256 h;
    char       digits[65];
    nb__sha256_begin(&h);
    for (int i = 0; i < n; i++) nb__sha256_add(&h, pieces[i].data, pieces[i].bytes);
    nb__sha256_end(&h, digits);
    memcpy(header + NB__DIGITS_AT, digits, 64);
}

/* The header and the values, in the order of their places. */
static bool write_file(nb_context *nb, const char *path, char *header, size_t header_bytes, nb_list tensors, nb__piece *pieces) {
    int n = 0;
    pieces[n++] = (nb__piece){header, header_bytes};
    for (size_t width = 8; width > 0; width /= 2) {
        for (int i = 0; i < tensors.n; i++) {
            nb_tensor *t = tensors.at[i];
            if (nb_dtype_size(nb_dtype_of(t)) == width && nb_bytes(t) > 0) pieces[n++] = (nb__piece){nb_data(t), nb_bytes(t)};
        }
    }
    if (nb_error(nb)) return false;
    put_checksum(header, n, pieces);
    return nb__write_pieces(nb, path, n, pieces);
}

bool nb_save(nb_context *nb, const char *path, nb_list tensors, int n_pairs, const nb_pair *pairs) {
    if (nb_error(nb)) return false;
    for (int i = 0; i < tensors.n; i++)
        if (nb_context_of(tensors.at[i]) != nb) {
            nb_fail(nb, NB_INVALID, "nb_save: tensor %d of the list belongs to another context", i);
            return false;
        }
    if (!evaluate(nb, tensors)) return false;
    size_t     n = (size_t)tensors.n, header_bytes;
    int64_t   *begin = nb_alloc(nb, n * sizeof *begin);
    nb__piece *pieces = nb_alloc(nb, (n + 1) * sizeof *pieces);
    char      *header = NULL;
    if (begin && pieces) {
        place(tensors, begin);
        header = make_header(nb, tensors, begin, n_pairs, pairs, &header_bytes);
    }
    bool ok = header && write_file(nb, path, header, header_bytes, tensors, pieces);
    nb_free(nb, header);
    nb_free(nb, pieces);
    nb_free(nb, begin);
    return ok;
}

bool nb_digest(nb_list tensors, char text[65]) {
    nb__sha256 h;
    memset(text, 0, 65);
    nb__sha256_begin(&h);
    if (tensors.n > 0 && !evaluate(nb_context_of(tensors.at[0]), tensors)) return false;
    for (int i = 0; i < tensors.n; i++) {
        const nb_tensor *t = tensors.at[i];
        nb_dims          d = nb_shape_of(t);
        const char      *name = nb_name(t), *type = nb_dtype_name(nb_dtype_of(t));
        const void      *data = nb_data(tensors.at[i]);
        if (nb_error(nb_context_of(t))) return false;
        nb__sha256_add(&h, name, strlen(name) + 1);
        nb__sha256_add(&h, type, strlen(type) + 1);
        nb__sha256_add(&h, &d.rank, sizeof d.rank);
        nb__sha256_add(&h, d.size, (size_t)d.rank * sizeof d.size[0]);
        if (nb_bytes(t) > 0) nb__sha256_add(&h, data, nb_bytes(t));
    }
    nb__sha256_end(&h, text);
    return true;
}
