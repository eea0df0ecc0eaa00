/* load.c: a safetensors file, read strictly.
 *
 * The file is read whole and then checked as a slice of known length; every number in it is compared with the bytes that are
 * there before it is used. Stricter than the format's reference reader: duplicate names, unknown fields, empty names, and tensors
 * that the library has no type for are refused. The parsed header stays in memory, for names and metadata are its strings. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

typedef struct entry {
    const char *name;
    nb_dtype    dtype;
    nb_dims     shape;
    int64_t     begin, end; /* bytes, from the start of the data */
    const char *values;
    char       *copy; /* of values that do not lie aligned in the file */
} entry;

struct nb_file {
    nb_context   *nb;
    char         *path, *bytes, *data; /* data: where the header ends */
    size_t        size;
    int64_t       data_bytes;
    json_t       *root;
    const json_t *metadata; /* or NULL */
    entry        *entries;
    int           count;
};

/* Names in a message come from the file: what a terminal might obey is left out. */
static bool NB_PRINTF(2, 3) refuse(nb_file *f, const char *format, ...) {
    char    what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    for (char *c = what; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    nb_fail(f->nb, NB_IO, "%s: %s", f->path, what);
    return false;
}

/* --------------------------------------------------------------------------------------------------------------------- header */

/* What can be seen without parsing: a header is an object of objects, with arrays of at most 8 numbers that are not negative.
 * This bounds what the parser is given. */
static bool check_skeleton(nb_file *f, const char *text, size_t n) {
    int  depth = 0, commas = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        long long at = (long long)i + NB__LENGTH_BYTES;
        if (c == '"')
            in_string = true;
        else if (c == '{' || c == '[')
            depth++, commas = 0;
        else if (c == '}' || c == ']')
            depth--;
        else if (c == ',' && depth == 3)
            commas++;
        else if (c == '-')
            return refuse(f, "byte %lld: the header has a negative number", at);
        if (depth > 3) return refuse(f, "byte %lld: the header is nested deeper than the format allows", at);
        if (commas >= NB_MAX_RANK) return refuse(f, "byte %lld: more than %d sizes in a shape", at, NB_MAX_RANK);
    }
    return true;
}

static bool parse_header(nb_file *f) {
    uint64_t length = 0;
    if (f->size < NB__LENGTH_BYTES) return refuse(f, "has %zu bytes, too few for a safetensors file; is it cut off?", f->size);
    memcpy(&length, f->bytes, NB__LENGTH_BYTES);
    if (length == 0) return refuse(f, "byte 0: the header has no bytes: not a safetensors file");
    if (length > NB__MAX_HEADER)
        return refuse(f, "byte 0: a header of %llu bytes, the format's limit is %d: not a safetensors file",
                      (unsigned long long)length, NB__MAX_HEADER);
    if (length > f->size - NB__LENGTH_BYTES)
        return refuse(f, "byte 0: a header of %llu bytes, the file has %zu in all; is it cut off?", (unsigned long long)length,
                      f->size);
    const char *text = f->bytes + NB__LENGTH_BYTES;
    f->data = f->bytes + NB__LENGTH_BYTES + length;
    f->data_bytes = (int64_t)(f->size - NB__LENGTH_BYTES - length);
    if (text[0] != '{') return refuse(f, "byte 8: the header does not begin with '{': not a safetensors file");
    if (!check_skeleton(f, text, length)) return false;
    json_error_t e;
    f->root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &e);
    if (f->root) return true;
    if (json_error_code(&e) == json_error_out_of_memory) {
        nb_fail(f->nb, NB_NO_MEMORY, "%s: no memory for its header", f->path);
        return false;
    }
    return refuse(f, "byte %lld: the header is not valid: %s", (long long)e.position + NB__LENGTH_BYTES, e.text);
}

static bool check_metadata(nb_file *f) {
    json_t     *map = json_object_get(f->root, "__metadata__"), *value;
    const char *key;
    if (!map) return true;
    if (!json_is_object(map)) return refuse(f, "__metadata__ is not an object of strings");
    json_object_foreach(map, key, value) {
        if (!json_is_string(value)) return refuse(f, "__metadata__ '%.80s': the value is not a string", key);
    }
    f->metadata = map;
    return true;
}

/* Ours have it at a fixed place; a program that wrote the file anew and kept the key has broken it. */
static bool check_checksum(nb_file *f) {
    const char *wanted = nb_file_pair(f, NB__CHECKSUM);
    nb__sha256  h;
    char        digits[65], zeros[64];
    if (!wanted) return !nb_file_pair(f, NB__FORMAT) || refuse(f, "the checksum is missing; the file is damaged");
    size_t start = sizeof NB__HEADER_START - 1;
    if (f->data < f->bytes + NB__DIGITS_AT + 64 || memcmp(f->bytes + NB__LENGTH_BYTES, NB__HEADER_START, start) != 0)
        return refuse(f, "the checksum (metadata " NB__CHECKSUM
                         ") is not where Nabla writes it; another program has changed the file");
    nb__sha256_begin(&h);
    nb__sha256_add(&h, f->bytes, NB__DIGITS_AT);
    nb__sha256_add(&h, memset(zeros, '0', sizeof zeros), sizeof zeros);
    nb__sha256_add(&h, f->bytes + NB__DIGITS_AT + 64, f->size - NB__DIGITS_AT - 64);
    nb__sha256_end(&h, digits);
    if (strcmp(wanted, digits) == 0 && memcmp(f->bytes + NB__DIGITS_AT, digits, 64) == 0) return true;
    return refuse(f, "the checksum does not match (SHA-256 %.16s..., written %.16s...): the file is damaged; go back to a copy",
                  digits, wanted);
}

/* -------------------------------------------------------------------------------------------------------------------- entries */

static bool read_dtype(nb_file *f, entry *e, const json_t *value) {
    if (!json_is_string(value)) return refuse(f, "tensor '%.80s': dtype is missing or not a string", e->name);
    for (int i = NB_F32; i <= NB_BF16; i++) {
        e->dtype = (nb_dtype)i;
        if (strcmp(json_string_value(value), nb__file_dtype_name(e->dtype)) == 0) return true;
    }
    return refuse(f, "tensor '%.80s': the library has no type '%.20s'; it reads F32 F64 I32 I64 U8 BOOL F16 BF16", e->name,
                  json_string_value(value));
}

/* The product of the sizes must not overflow even where a size is 0. */
static bool read_shape(nb_file *f, entry *e, const json_t *value, int64_t *bytes) {
    if (!json_is_array(value)) return refuse(f, "tensor '%.80s': shape is missing or not an array", e->name);
    int64_t product = (int64_t)nb_dtype_size(e->dtype);
    *bytes = product;
    e->shape = (nb_dims){.rank = (int64_t)json_array_size(value)};
    for (int i = 0; i < e->shape.rank; i++) {
        const json_t *size = json_array_get(value, (size_t)i);
        if (!json_is_integer(size)) return refuse(f, "tensor '%.80s': size %d of the shape is not a whole number", e->name, i);
        e->shape.size[i] = json_integer_value(size);
        *bytes = e->shape.size[i] == 0 ? 0 : *bytes;
        if (e->shape.size[i] > 0 && __builtin_mul_overflow(product, e->shape.size[i], &product))
            return refuse(f, "tensor '%.80s': the product of its sizes overflows", e->name);
    }
    if (*bytes > 0) *bytes = product;
    return true;
}

static bool read_offsets(nb_file *f, entry *e, const json_t *value, int64_t bytes) {
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return refuse(f, "tensor '%.80s': data_offsets is missing or not an array of two whole numbers", e->name);
    e->begin = json_integer_value(begin);
    e->end = json_integer_value(end);
    if (e->end < e->begin || e->end > f->data_bytes)
        return refuse(f, "tensor '%.80s': data_offsets %lld to %lld; the file has %lld bytes of data (is it cut off?)", e->name,
                      (long long)e->begin, (long long)e->end, (long long)f->data_bytes);
    if (e->end - e->begin != bytes)
        return refuse(f, "tensor '%.80s': type and shape need %lld bytes, data_offsets give %lld", e->name, (long long)bytes,
                      (long long)(e->end - e->begin));
    return true;
}

/* Values where their type may be read: copied when the file has them at an odd place. */
static bool take_values(nb_file *f, entry *e) {
    size_t bytes = (size_t)(e->end - e->begin);
    e->values = f->data + e->begin;
    if (e->dtype == NB_BOOL)
        for (size_t i = 0; i < bytes; i++)
            if ((unsigned char)e->values[i] > 1)
                return refuse(f, "byte %lld: tensor '%.80s' is BOOL, and %d is neither 0 nor 1",
                              (long long)(e->values - f->bytes) + (long long)i, e->name, (unsigned char)e->values[i]);
    if ((uintptr_t)e->values % nb_dtype_size(e->dtype) == 0) return true;
    e->copy = nb_alloc(f->nb, bytes);
    if (!e->copy) return false;
    e->values = memcpy(e->copy, e->values, bytes);
    return true;
}

static bool read_entry(nb_file *f, entry *e, const char *name, const json_t *object) {
    const char *key;
    json_t     *value;
    int64_t     bytes = 0;
    e->name = name;
    if (!name[0]) return refuse(f, "a tensor has an empty name");
    if (!json_is_object(object)) return refuse(f, "tensor '%.80s': its entry is not an object", name);
    json_object_foreach((json_t *)object, key, value) {
        if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
            return refuse(f, "tensor '%.80s': the format has no field '%.80s'", name, key);
    }
    return read_dtype(f, e, json_object_get(object, "dtype")) && read_shape(f, e, json_object_get(object, "shape"), &bytes) &&
           read_offsets(f, e, json_object_get(object, "data_offsets"), bytes);
}

static int by_place(const void *a, const void *b) {
    const entry *p = *(const entry *const *)a, *q = *(const entry *const *)b;
    return p->begin != q->begin ? (p->begin > q->begin) - (p->begin < q->begin) : (p->end > q->end) - (p->end < q->end);
}

/* Tensors lie end to end: no hole, no overlap, nothing before or after. */
static bool check_tiling(nb_file *f) {
    const entry **sorted = nb_alloc(f->nb, (size_t)f->count * sizeof *sorted);
    int64_t       end = 0, from_start = f->data - f->bytes;
    bool          ok = sorted != NULL;
    for (int i = 0; i < f->count && ok; i++) sorted[i] = &f->entries[i];
    if (ok && f->count > 1) qsort(sorted, (size_t)f->count, sizeof *sorted, by_place);
    for (int i = 0; i < f->count && ok; i++) {
        if (sorted[i]->begin != end)
            ok = refuse(f, "byte %lld: tensor '%.80s' %s", (long long)(from_start + sorted[i]->begin), sorted[i]->name,
                        sorted[i]->begin < end ? "overlaps the one before" : "leaves a hole before it");
        end = sorted[i]->end;
    }
    nb_free(f->nb, sorted);
    if (ok && end != f->data_bytes)
        return refuse(f, "byte %lld: %lld bytes belong to no tensor", (long long)(from_start + end),
                      (long long)(f->data_bytes - end));
    return ok;
}

static bool read_entries(nb_file *f) {
    const char *name;
    json_t     *object;
    f->entries = nb_alloc(f->nb, json_object_size(f->root) * sizeof *f->entries);
    if (!f->entries) return false;
    json_object_foreach(f->root, name, object) {
        if (strcmp(name, "__metadata__") == 0) continue;
        if (!read_entry(f, &f->entries[f->count++], name, object)) return false;
    }
    if (!check_tiling(f)) return false;
    for (int i = 0; i < f->count; i++)
        if (!take_values(f, &f->entries[i])) return false;
    return true;
}

/* ------------------------------------------------------------------------------------------------------------------ interface */

static void free_file(void *object) {
    nb_file *f = object;
    for (int i = 0; i < f->count; i++) nb_free(f->nb, f->entries[i].copy);
    json_decref(f->root);
    nb_free(f->nb, f->entries);
    nb_free(f->nb, f->bytes);
    nb_free(f->nb, f->path);
    nb_free(f->nb, f);
}

void nb_file_close(nb_file *f) {
    if (!f) return;
    nb_disown(f->nb, f);
    free_file(f);
}

nb_file *nb_file_open(nb_context *nb, const char *path) {
    if (nb_error(nb)) return NULL;
    nb_file *f = nb_alloc(nb, sizeof *f);
    if (!f) return NULL;
    f->nb = nb;
    f->path = nb_alloc(nb, strlen(path) + 1);
    if (f->path && (f->bytes = nb_read_file(nb, strcpy(f->path, path), SIZE_MAX - 1, &f->size)) && parse_header(f) &&
        check_metadata(f) && check_checksum(f) && read_entries(f))
        return nb_own(nb, f, free_file) ? f : NULL;
    free_file(f);
    return NULL;
}

static const entry *entry_at(const nb_file *f, int i) { return f && i >= 0 && i < f->count ? &f->entries[i] : NULL; }

int         nb_file_count(const nb_file *f) { return f ? f->count : 0; }
const char *nb_file_name(const nb_file *f, int i) { return entry_at(f, i) ? f->entries[i].name : ""; }
nb_dtype    nb_file_dtype(const nb_file *f, int i) { return entry_at(f, i) ? f->entries[i].dtype : NB_F32; }
nb_dims     nb_file_shape(const nb_file *f, int i) { return entry_at(f, i) ? f->entries[i].shape : (nb_dims){.rank = -1}; }
const void *nb_file_values(const nb_file *f, int i) { return entry_at(f, i) ? f->entries[i].values : NULL; }
const char *nb_file_pair(const nb_file *f, const char *key) {
    return f ? json_string_value(json_object_get(f->metadata, key)) : NULL;
}

/* The entry that fits a kept tensor, or NULL. */
static const entry *find(nb_file *f, const nb_tensor *t) {
    const entry *e = NULL;
    char         here[200], there[200];
    nb_dims      d = nb_shape_of(t);
    if (nb_context_of(t) != f->nb || !nb_is_kept(t)) {
        nb_fail(f->nb, NB_INVALID, "nb_file_load: '%s' is not a kept tensor of the file's context", nb_name(t));
        return NULL;
    }
    for (int i = 0; i < f->count && !e; i++)
        if (strcmp(f->entries[i].name, nb_name(t)) == 0) e = &f->entries[i];
    if (!e) return refuse(f, "has no tensor '%.80s'; it belongs to another net or run (%d tensors)", nb_name(t), f->count), NULL;
    bool same = e->dtype == nb_dtype_of(t) && e->shape.rank == d.rank;
    for (int i = 0; i < d.rank && same; i++) same = d.size[i] == e->shape.size[i];
    if (same) return e;
    nb__dims_print(e->shape, there, sizeof there);
    nb__dims_print(d, here, sizeof here);
    refuse(f, "tensor '%.80s' is %s [%s] in the file and %s [%s] here; it belongs to another net", e->name,
           nb_dtype_name(e->dtype), there, nb_dtype_name(nb_dtype_of(t)), here);
    return NULL;
}

bool nb_file_load(nb_file *f, nb_list kept) {
    if (!f || nb_error(f->nb)) return false;
    const entry **found = nb_alloc(f->nb, (size_t)kept.n * sizeof *found);
    bool          ok = found != NULL;
    for (int i = 0; i < kept.n && ok; i++) ok = (found[i] = find(f, kept.at[i])) != NULL;
    for (int i = 0; i < kept.n && ok; i++) ok = nb_set(kept.at[i], found[i]->values, nb_bytes(kept.at[i]));
    nb_free(f->nb, found);
    return ok;
}
