/* reader.c: the arguments of a layer in the net language, and messages that point at the text. */
#include <stdio.h>
#include <string.h>

#include "nn.h"

/* ------------------------------------------------------------------------------------------------------------------- messages */

enum { LINE_SHOWN = 96 }; /* letters of the text in a message */

/* The line around `where`, and how many letters of it stand before. Long lines are cut on both sides. */
static int quote(const char *text, const char *where, char *line, size_t size) {
    const char *first = where, *last = where;
    while (first > text && first[-1] != '\n') first--;
    while (*last && *last != '\n') last++;
    const char *from = where - first > LINE_SHOWN / 2 ? where - LINE_SHOWN / 2 : first;
    while (from > first && ((unsigned char)*from & 0xc0) == 0x80) from--; /* not inside a letter of several bytes */
    const char *until = last - from > LINE_SHOWN ? from + LINE_SHOWN : last;
    snprintf(line, size, "%s%.*s%s", from > first ? "..." : "", (int)(until - from), from, until < last ? "..." : "");
    for (char *c = line; *c; c++)
        if (*c == '\t' || *c == '\r') *c = ' ';
    int column = from > first ? 3 : 0;
    for (const char *c = from; c < where; c++) column += ((unsigned char)*c & 0xc0) != 0x80;
    return column;
}

void nb__read_error(nb__reader *r, const char *where, const char *format, ...) {
    if (r->failed) return;
    r->failed = true;
    char    message[512], line[LINE_SHOWN + 16];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    int column = quote(r->text, where, line, sizeof line);
    if (!line[0])
        nb_fail(r->nb, NB_INVALID, "net: %s", message);
    else if (r->word)
        nb_fail(r->nb, NB_INVALID, "net, layer %d, %.*s: %s\n    %s\n    %*s^", r->place, r->word_length, r->word, message, line,
                column, "");
    else
        nb_fail(r->nb, NB_INVALID, "net: %s\n    %s\n    %*s^", message, line, column, "");
}

const char *nb__shape_text(nb_dims shape, char *text, size_t size) {
    int n = snprintf(text, size, "[");
    for (int i = 0; i < shape.rank && (size_t)n < size; i++)
        n += snprintf(text + n, size - (size_t)n, i ? ",%lld" : "%lld", (long long)shape.size[i]);
    if ((size_t)n < size) snprintf(text + n, size - (size_t)n, "]");
    return text;
}

/* -------------------------------------------------------------------------------------------------------------------- looking */

static bool is_name(const char *text, int length, const char *name) {
    return strlen(name) == (size_t)length && memcmp(text, name, (size_t)length) == 0;
}

static nb__argument *by_name(nb__reader *r, const char *name) {
    if (r->n_known < NB__MAX_ARGUMENTS) r->known[r->n_known++] = name;
    for (int i = 0; i < r->n_arguments; i++) {
        nb__argument *a = &r->arguments[i];
        if (!a->key || !is_name(a->key, a->key_length, name)) continue;
        a->used = true;
        return a;
    }
    return NULL;
}

/* The first argument without a name that nobody has taken, unless it is there by name. */
static nb__argument *by_place(nb__reader *r, const char *name) {
    nb__argument *a = by_name(r, name);
    for (int i = 0; i < r->n_arguments && !a; i++)
        if (!r->arguments[i].key && !r->arguments[i].used) a = &r->arguments[i];
    if (a) a->used = true;
    return a;
}

static void missing(nb__reader *r, const char *name) {
    nb__read_error(r, r->word, "its %s is missing: write %.*s%s", name, r->word_length, r->word, r->usage);
}

/* -------------------------------------------------------------------------------------------------------------------- numbers */

/* By hand, because strtod reads what the host's locale says. Up to 15 digits and small exponents are exact. */
static const char *read_whole(const char *c, const char *end, double *value, int *digits) {
    for (*digits = 0; c < end && *c >= '0' && *c <= '9'; c++, ++*digits) *value = *value * 10 + (*c - '0');
    return c;
}

static bool to_real(const char *c, const char *end, double *out) {
    double value = 0, exponent = 0, power = 1;
    int    before, after = 0, shift, n = 0;
    bool   negative = c < end && *c == '-', down = false;
    if (negative) c++;
    c = read_whole(c, end, &value, &before);
    if (c < end && *c == '.') c = read_whole(c + 1, end, &value, &after);
    if (before + after < 1 || before + after > 15) return false;
    if (c < end && (*c == 'e' || *c == 'E')) {
        c++;
        down = c < end && *c == '-';
        if (c < end && (*c == '-' || *c == '+')) c++;
        c = read_whole(c, end, &exponent, &n);
        if (n < 1 || n > 2) return false;
    }
    shift = (down ? -(int)exponent : (int)exponent) - after;
    for (int i = 0; i < (shift < 0 ? -shift : shift); i++) power *= 10;
    value = shift < 0 ? value / power : value * power;
    *out = negative ? -value : value;
    return c == end;
}

enum { LARGEST = 1000000000 };

static bool to_whole(const char *from, const char *end, int64_t low, int64_t *out) {
    double value = 0;
    if (!to_real(from, end, &value) || value < (double)low || value > LARGEST || value != (double)(int64_t)value) return false;
    *out = (int64_t)value;
    return true;
}

static int64_t to_size(nb__reader *r, const char *name, const nb__argument *a) {
    int64_t size = 1;
    if (!to_whole(a->value, a->value + a->value_length, 1, &size))
        nb__read_error(r, a->value, "%s is '%.*s'; it must be a whole number from 1 to %d", name, a->value_length, a->value,
                       LARGEST);
    return size;
}

/* One number or two; `word` (or NULL) is what else may stand there: told by the message only. */
static void to_pair(nb__reader *r, const char *name, const nb__argument *a, int64_t low, int64_t pair[2], const char *word) {
    const char *end = a->value + a->value_length, *cross = memchr(a->value, 'x', (size_t)a->value_length);
    int64_t     first = 1, second = 1;
    if (!to_whole(a->value, cross ? cross : end, low, &first) || (cross && !to_whole(cross + 1, end, low, &second)))
        nb__read_error(r, a->value, "%s is '%.*s'; it must be a whole number from %lld to %d, or two as in 3x5%s%s", name,
                       a->value_length, a->value, (long long)low, LARGEST, word ? ", or " : "", word ? word : "");
    pair[0] = first;
    pair[1] = cross ? second : first;
}

static double to_real_in(nb__reader *r, const char *name, const nb__argument *a, double otherwise, double low, double high) {
    double value = otherwise;
    if (!a || (to_real(a->value, a->value + a->value_length, &value) && value >= low && value <= high)) return value;
    nb__read_error(r, a->value, "%s is '%.*s'; it must be a number from %g to %g", name, a->value_length, a->value, low, high);
    return otherwise;
}

/* ------------------------------------------------------------------------------------------------------- what readers ask for */

int64_t nb__read_size(nb__reader *r, const char *name) {
    nb__argument *a = by_place(r, name);
    if (a) return to_size(r, name, a);
    missing(r, name);
    return 1;
}

void nb__read_pair(nb__reader *r, const char *name, int64_t pair[2]) {
    nb__argument *a = by_place(r, name);
    if (a)
        to_pair(r, name, a, 1, pair, NULL);
    else
        missing(r, name);
}

double nb__read_real(nb__reader *r, const char *name, double otherwise, double low, double high) {
    return to_real_in(r, name, by_place(r, name), otherwise, low, high);
}

double nb__read_probability(nb__reader *r) {
    nb__argument *a = by_place(r, "p");
    double        p = 0.5;
    if (a && !(to_real(a->value, a->value + a->value_length, &p) && p >= 0 && p < 1))
        nb__read_error(r, a->value, "p is '%.*s'; it must be 0 or more and below 1", a->value_length, a->value);
    return p;
}

bool nb__option_word(nb__reader *r, const char *name, const char *word) {
    nb__argument *a = by_name(r, name);
    if (a && !is_name(a->value, a->value_length, word))
        nb__read_error(r, a->value, "%s is '%.*s'; it can only be %s", name, a->value_length, a->value, word);
    return a != NULL;
}

void nb__option_pair(nb__reader *r, const char *name, int64_t low, int64_t pair[2]) {
    nb__argument *a = by_name(r, name);
    if (a) to_pair(r, name, a, low, pair, NULL);
}

bool nb__option_pair_or(nb__reader *r, const char *name, int64_t low, int64_t pair[2], const char *word) {
    nb__argument *a = by_name(r, name);
    if (a && is_name(a->value, a->value_length, word)) return true;
    if (a) to_pair(r, name, a, low, pair, word);
    return false;
}

int64_t nb__option_size(nb__reader *r, const char *name, int64_t otherwise) {
    nb__argument *a = by_name(r, name);
    return a ? to_size(r, name, a) : otherwise;
}

double nb__option_real(nb__reader *r, const char *name, double otherwise, double low, double high) {
    return to_real_in(r, name, by_name(r, name), otherwise, low, high);
}

bool nb__option_flag(nb__reader *r, const char *name, bool otherwise) {
    nb__argument *a = by_name(r, name);
    if (!a) return otherwise;
    if (is_name(a->value, a->value_length, "yes")) return true;
    if (!is_name(a->value, a->value_length, "no"))
        nb__read_error(r, a->value, "%s is '%.*s'; it must be yes or no", name, a->value_length, a->value);
    return false;
}

bool nb__read_indices(nb__reader *r) {
    if (r->failed) return false;
    if (r->x == r->input) r->x = r->input = nb_zeros(r->nb, NB_I64, nb_shape_of(r->x));
    if (nb_dtype_of(r->x) == NB_I64) return !nb_error(r->nb);
    nb__read_error(r, r->word, "it looks up whole numbers, but gets what the layer before computes: it must come first");
    return false;
}

bool nb__read_rank(nb__reader *r, int low, int high, const char *remedy) {
    if (r->failed) return false;
    if (r->shape.rank >= low && r->shape.rank <= high) return true;
    char text[128];
    nb__read_error(r, r->word, "cannot take %s%s: %s", r->shape.rank == 3 ? "an image " : "",
                   nb__shape_text(r->shape, text, sizeof text), remedy);
    return false;
}

bool nb__read_channels(nb__reader *r) {
    if (r->failed) return false;
    if (r->shape.rank != 2) return true;
    char text[128];
    nb__read_error(r, r->word, "cannot take a sequence %s: it would treat each step as a channel, not each feature",
                   nb__shape_text(r->shape, text, sizeof text));
    return false;
}
