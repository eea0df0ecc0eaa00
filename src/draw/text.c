/* text.c: a text that grows in the context's memory. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(nb__text *t, size_t more) {
    if (t->failed) return false;
    if (t->used + more + 1 <= t->room) return true;
    size_t room = 2 * t->room + more + 1024;
    char  *at = nb_alloc(t->nb, room);
    if (!at) {
        t->failed = true;
        return false;
    }
    if (t->used) memcpy(at, t->at, t->used);
    nb_free(t->nb, t->at);
    t->at = at;
    t->room = room;
    return true;
}

void nb__add(nb__text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n > 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->at + t->used, (size_t)n + 1, format, again);
        t->used += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void nb__add_escaped(nb__text *t, const char *words) {
    for (; *words; words++) {
        switch (*words) {
        case '&': nb__add(t, "&amp;"); break;
        case '<': nb__add(t, "&lt;"); break;
        case '>': nb__add(t, "&gt;"); break;
        case '"': nb__add(t, "&quot;"); break;
        default:
            if ((unsigned char)*words >= 32) nb__add(t, "%c", *words);
        }
    }
}

void nb__add_shape(nb__text *t, nb_dims shape) {
    if (shape.rank == 0) nb__add(t, "scalar");
    for (int i = 0; i < shape.rank; i++) nb__add(t, "%s%lld", i ? "×" : "", (long long)shape.size[i]);
}

void nb__add_count(nb__text *t, int64_t n) {
    char digits[24];
    int  length = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < length; i++) nb__add(t, "%s%c", i && (length - i) % 3 == 0 && digits[i - 1] != '-' ? "," : "", digits[i]);
}

char *nb__text_end(nb__text *t) {
    if (!t->failed && !nb_error(t->nb)) return t->at;
    nb_free(t->nb, t->at);
    return NULL;
}

void nb__add_head(nb__text *t, const char *direction) {
    nb__add(
        t,
        "digraph nabla {\n"
        "  graph [rankdir=%s bgcolor=white pad=0.2 nodesep=0.25 ranksep=0.4 fontname=\"Helvetica,Arial,sans-serif\" fontsize=11 "
        "fontcolor=\"" NB__GREY "\"]\n"
        "  node [shape=box style=\"filled,rounded\" fontname=\"Helvetica,Arial,sans-serif\" fontsize=11 fontcolor=\"" NB__INK
        "\" margin=\"0.12,0.06\" height=0.3 width=0.3 " NB__FORWARD "]\n"
        "  edge [color=\"#9a9a9a\" arrowsize=0.6 fontname=\"Helvetica,Arial,sans-serif\" fontsize=9 fontcolor=\"" NB__GREY
        "\"]\n",
        direction);
}
