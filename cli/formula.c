/* formula.c: the LaTeX of an operator's formula as a line that a terminal can show: "y = \frac{1}{n} \sum_i x_i" is "y = 1/n ∑_i
 * x_i". */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char *const signs[][2] = {
    {"quad", "   "},    {"le", "≤"},    {"ge", "≥"},      {"ne", "≠"},     {"wedge", "∧"},  {"vee", "∨"},         {"land", "∧"},
    {"lor", "∨"},       {"oplus", "⊕"}, {"neg", "¬"},     {"lfloor", "⌊"}, {"rfloor", "⌋"}, {"lceil", "⌈"},       {"rceil", "⌉"},
    {"sum", "∑"},       {"prod", "∏"},  {"int", "∫"},     {"infty", "∞"},  {"pi", "π"},     {"Phi", "Φ"},         {"sigma", "σ"},
    {"lambda", "λ"},    {"alpha", "α"}, {"delta", "δ"},   {"sim", "~"},    {"circ", "∘"},   {"in", "∈"},          {"ldots", "…"},
    {"leftarrow", "←"}, {"left", ""},   {"right", ""},    {"text", ""},    {"mathrm", ""},  {"operatorname", ""}, {"cdot", "·"},
    {"times", "×"},     {"mu", "μ"},    {"epsilon", "ε"}, {"gamma", "γ"},  {"beta", "β"},
};

static void render(FILE *out, const char **at, char end, int depth);

/* The next {group}, letter or \sign by itself, to be freed. NULL without memory. */
static char *argument(const char **at, int depth) {
    char  *text = NULL;
    size_t size;
    FILE  *out = open_memstream(&text, &size);
    if (!out) return NULL;
    while (**at == ' ') ++*at;
    if (**at == '{') {
        ++*at;
        render(out, at, '}', depth + 1);
    } else if (**at == '\\') {
        render(out, at, 1, depth + 1);
    } else if (**at) {
        fputc(*(*at)++, out);
    }
    fclose(out);
    return text;
}

/* In brackets where it would not be read as one. */
static void put(FILE *out, const char *text) {
    fprintf(out, text && strpbrk(text, " +-/=,^:_") ? "(%s)" : "%s", text ? text : "");
}

/* Below a fraction's line, 2y and HW need them too. */
static void put_below(FILE *out, const char *text) {
    size_t n = text ? strlen(text) : 0;
    bool   is_one = n <= 1 || strspn(text, "0123456789") == n || text[0] == '|' || strpbrk(text, " +-/=,^:_");
    if (is_one)
        put(out, text);
    else
        fprintf(out, "(%s)", text);
}

/* After a backslash. */
static void command(FILE *out, const char **at, int depth) {
    char   name[32];
    size_t n = 0;
    if (!isalpha((unsigned char)**at)) {
        char c = **at;
        if (c) ++*at;
        if (strchr(",;: ", c))
            fputc(' ', out);
        else if (c != '!')
            fputc(c, out);
        return;
    }
    while (isalpha((unsigned char)**at) && n + 1 < sizeof name) name[n++] = *(*at)++;
    name[n] = 0;
    if (strcmp(name, "frac") == 0 || strcmp(name, "tfrac") == 0) {
        char *above = argument(at, depth), *below = argument(at, depth);
        put(out, above);
        fputc('/', out);
        put_below(out, below);
        free(above);
        free(below);
    } else if (strcmp(name, "sqrt") == 0 || strcmp(name, "bar") == 0) {
        char *what = argument(at, depth);
        if (name[0] == 's') fputs("√", out);
        put(out, what);
        if (name[0] == 'b') fputs("\xcc\x84", out); /* the combining macron */
        free(what);
    } else {
        for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
            if (strcmp(name, signs[i][0]) != 0) continue;
            fputs(signs[i][1], out);
            return;
        }
        fputs(name, out); /* sin, log, max ... */
    }
}

/* Up to `end`, which is passed; 0: all; 1: one sign. Groups nest a few deep; what is deeper is not shown. */
static void render(FILE *out, const char **at, char end, int depth) {
    while (**at && depth < 20) {
        char c = *(*at)++;
        if (c == end) return;
        if (c == '\\') {
            command(out, at, depth);
        } else if (c == '{') {
            render(out, at, '}', depth + 1);
        } else if (c == '^' || c == '_') {
            char *what = argument(at, depth);
            fputc(c, out);
            put(out, what);
            free(what);
        } else {
            fputc(c, out);
        }
        if (end == 1) return;
    }
}

/* One blank at a place, two after a comma, none inside ⌊ ⌋ and ⌈ ⌉. */
static void tidy(char *text) {
    char *to = text;
    for (const char *from = text; *from;) {
        size_t blanks = strspn(from, " ");
        bool   after_open =
            to - text >= 3 && (memcmp(to - 3, "⌊", 3) == 0 || memcmp(to - 3, "⌈", 3) == 0 || memcmp(to - 2, "¬", 2) == 0);
        from += blanks;
        bool before_close = strncmp(from, "⌋", 3) == 0 || strncmp(from, "⌉", 3) == 0;
        if (blanks && !after_open && !before_close && *from) {
            if (blanks > 1 && to > text && to[-1] == ',') *to++ = ' ';
            *to++ = ' ';
        }
        if (*from) *to++ = *from++;
    }
    *to = 0;
}

char *cli_formula(const char *latex) {
    char  *text = NULL;
    size_t size;
    FILE  *out = open_memstream(&text, &size);
    if (!out) return NULL;
    render(out, &latex, 0, 0);
    if (fclose(out) != 0) return free(text), NULL;
    tidy(text);
    return text;
}
