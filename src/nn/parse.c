/* parse.c: the net language.
 *
 *     net   = layer { ("," | line end) layer }          layer = word { argument } [ "(" net ")" { argument } ]
 *     argument = value | name "=" value                 "#" starts a remark, until the end of the line
 *
 * Each layer is made as soon as it is read, and applied to a value of the shape so far: the operators' own shape rules tell what
 * the next layer gets. Nothing is computed by that. */
#include <stdio.h>
#include <string.h>

#include "nn.h"

typedef struct word {
    const char *word, *type, *usage;
    nb_layer *(*read)(nb__reader *r);
} word;

static const word words[] = {
#define WORD(word, type, usage, about) {#word, type, usage, nb__read_##word},
#include "words.def"
#undef WORD
};

enum { WORD_COUNT = sizeof words / sizeof *words };

static const char language[] = "A net is a list of layers, with commas or line ends between them:\n"
                               "\n"
                               "    conv 32 3 pad=1, batchnorm, relu, maxpool 2, flatten, linear 10\n"
                               "\n"
                               "Only sizes of results are given; what comes in is known from the layer before. Sizes of\n"
                               "windows are one number or height x width: 3 or 3x5. What is in [brackets] may be left out,\n"
                               "shown with its default, or with the other choice where it is yes or no. name=NAME gives any\n"
                               "layer a name, after the brackets where it has some: residual(...) name=block. # starts a\n"
                               "remark. For training the last layer gives one score for each class, without softmax or\n"
                               "log_softmax: the loss has that in it.\n"
                               "\n"
#define WORD(word, type, usage, about) "  " #word usage "\n      " about "\n"
#include "words.def"
#undef WORD
                               "\n"
                               "activations:\n"
#define ACTIVATION(name, plain, with, parameter, parameter_name) "  " #name
#include "activations.def"
#undef ACTIVATION
                               "\n"
                               "  leaky_relu [SLOPE=0.01] and elu [ALPHA=1] take a number; softmax is over the features.\n"
                               "\n"
                               "nets with a name:\n"
#define PRESET(name, input, first, rest) "  " #name "\n      " first "\n      " rest "\n"
#include "presets.def"
#undef PRESET
                               "\n"
                               "The names of layers in summaries and pictures are words too: conv2d, batch_norm, max_pool2d.\n";

const char *nb_net_language(void) { return language; }

static const struct preset {
    const char *name, *text;
    int         rank;
    int64_t     input[3];
} presets[] = {
#define SIZES(...)                                                                                                               \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), { __VA_ARGS__ }
#define PRESET(name, input, first, rest) {#name, first " " rest, SIZES input},
#include "presets.def"
#undef PRESET
#undef SIZES
};

static const struct preset *find_preset(const char *name) {
    for (size_t i = 0; name && i < sizeof presets / sizeof *presets; i++)
        if (strcmp(name, presets[i].name) == 0) return &presets[i];
    return NULL;
}

const char *nb_net_preset(const char *name) {
    const struct preset *p = find_preset(name);
    return p ? p->text : NULL;
}

nb_dims nb_net_preset_input(const char *name) {
    const struct preset *p = find_preset(name);
    return p ? nb_dims_of(p->rank, p->input) : (nb_dims){.rank = -1};
}

/* ---------------------------------------------------------------------------------------------------------------- suggestions */

enum { LONGEST = 24 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Letters to insert, drop or change (Levenshtein, 1966), row by row; capitals are as good as small ones. */
static int distance(const char *a, int n, const char *b) {
    int row[LONGEST + 1], m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = diagonal + (lower(a[i - 1]) != b[j - 1]), least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[m];
}

/* Whether one of the two begins with the other, of three letters or more: "padding" for pad, "str" for stride. */
static bool begins(const char *a, int n, const char *b) {
    int shorter = n < (int)strlen(b) ? n : (int)strlen(b);
    for (int i = 0; i < shorter; i++)
        if (lower(a[i]) != b[i]) return false;
    return shorter >= 3;
}

/* Takes `name` as the best so far when it is nearer to what was written; at most a third of the letters may differ, or two. */
static void consider(const char *written, int length, const char *name, const char **best, int *least) {
    int d = distance(written, length, name);
    if (d > 2 && begins(written, length, name)) d = 2;
    if (d >= *least || (d > 2 && d > length / 3) || d >= length) return;
    *least = d;
    *best = name;
}

static void unknown_word(nb__reader *r) {
    const char *best = NULL, *at = r->word;
    int         least = LONGEST, n = 0;
    char        all[400] = "";
    for (int i = 0; i < WORD_COUNT; i++) {
        consider(at, r->word_length, words[i].word, &best, &least);
        if (n < (int)sizeof all) n += snprintf(all + n, sizeof all - (size_t)n, " %s", words[i].word);
    }
    for (int i = 0; nb__activation_name(i); i++) {
        consider(at, r->word_length, nb__activation_name(i), &best, &least);
        if (n < (int)sizeof all) n += snprintf(all + n, sizeof all - (size_t)n, " %s", nb__activation_name(i));
    }
    r->word = NULL;
    if (best)
        nb__read_error(r, at, "there is no layer '%.*s'; did you mean '%s'?", r->word_length, at, best);
    else
        nb__read_error(r, at, "there is no layer '%.*s'; there are%s", r->word_length, at, all);
}

static void unknown_argument(nb__reader *r, const nb__argument *a) {
    const char *best = NULL, *at = a->key ? a->key : a->value;
    int         least = LONGEST, length = a->key ? a->key_length : a->value_length;
    for (int i = 0; i < r->n_known && a->key; i++) consider(a->key, a->key_length, r->known[i], &best, &least);
    if (a->key) consider(a->key, a->key_length, "name", &best, &least);
    if (best)
        nb__read_error(r, at, "it has no option '%.*s'; did you mean '%s'?", length, at, best);
    else if (!r->usage[0])
        nb__read_error(r, at, "'%.*s' is too much: it takes no arguments", length, at);
    else
        nb__read_error(r, at, "'%.*s' is too much: write %.*s%s", length, at, r->word_length, r->word, r->usage);
}

/* -------------------------------------------------------------------------------------------------------------------- reading */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }
static bool is_end(char c) { return !c || c == ',' || c == ';' || c == '\n' || c == '(' || c == ')' || c == '#'; }

static void skip_blanks(nb__reader *r) {
    while (is_blank(*r->at)) r->at++;
    if (*r->at == '#')
        while (*r->at && *r->at != '\n') r->at++;
}

static void skip_lines(nb__reader *r) {
    for (skip_blanks(r); *r->at == '\n'; skip_blanks(r)) r->at++;
}

/* What stands between the word and its end: values, and name=value. */
static void read_arguments(nb__reader *r) {
    r->n_arguments = r->n_known = 0;
    for (skip_blanks(r); !is_end(*r->at) && !r->failed; skip_blanks(r)) {
        if (r->n_arguments == NB__MAX_ARGUMENTS) {
            nb__read_error(r, r->at, "too many arguments");
            return;
        }
        nb__argument *a = &r->arguments[r->n_arguments++];
        *a = (nb__argument){.value = r->at};
        while (!is_end(*r->at) && !is_blank(*r->at) && *r->at != '=') r->at++;
        if (*r->at == '=') {
            a->key = a->value;
            a->key_length = (int)(r->at - a->key);
            a->value = ++r->at;
            while (!is_end(*r->at) && !is_blank(*r->at)) r->at++;
        }
        a->value_length = (int)(r->at - a->value);
        if (!a->key && nb__is_word(a->value, a->value_length))
            nb__read_error(r, a->value, "a comma is missing before '%.*s'", a->value_length, a->value);
        if (a->value_length == 0) nb__read_error(r, a->value, "a value is missing after '='");
        for (int i = 0; a->key && i + 1 < r->n_arguments; i++)
            if (r->arguments[i].key && r->arguments[i].key_length == a->key_length &&
                memcmp(r->arguments[i].key, a->key, (size_t)a->key_length) == 0)
                nb__read_error(r, a->key, "%.*s is given twice", a->key_length, a->key);
    }
}

static void check_arguments(nb__reader *r) {
    for (int i = 0; i < r->n_arguments && !r->failed; i++)
        if (!r->arguments[i].used) unknown_argument(r, &r->arguments[i]);
}

/* name=NAME, that every layer takes. Names differ within a list, and from the numbers of layers without one. */
static void check_name(nb__reader *r, const nb__argument *a) {
    bool good = a->value_length < NB__NAME_SIZE;
    for (int k = 0; k < a->value_length; k++) good = good && is_letter(a->value[k]);
    char name[NB__NAME_SIZE] = "";
    if (good)
        snprintf(name, sizeof name, "%.*s", a->value_length, a->value);
    else
        nb__read_error(r, a->value, "a name has up to %d letters, digits and _", NB__NAME_SIZE - 1);
    if (good && nb__is_number(name))
        nb__read_error(r, a->value, "a name needs a letter: layers without a name are called by their numbers");
    for (int i = 0; good && i < r->place; i++) {
        nb_layer *before = r->made[r->n_made - r->place + i];
        if (before->is_named && strcmp(before->name, name) == 0)
            nb__read_error(r, a->value, "layer %d is called '%s' already: give this one another name", i, name);
    }
}

static bool read_name(nb__reader *r, char name[NB__NAME_SIZE]) {
    for (int i = 0; i < r->n_arguments; i++) {
        nb__argument *a = &r->arguments[i];
        if (!a->key || a->key_length != 4 || memcmp(a->key, "name", 4) != 0) continue;
        a->used = true;
        if (name[0]) nb__read_error(r, a->key, "name is given twice");
        check_name(r, a);
        if (!r->failed) snprintf(name, NB__NAME_SIZE, "%.*s", a->value_length, a->value);
    }
    return !r->failed;
}

static bool is_text(const char *text, int length, const char *name) {
    return strlen(name) == (size_t)length && memcmp(text, name, (size_t)length) == 0;
}

/* The row of a word; WORD_COUNT: there is none. */
static int find_word(const char *text, int length) {
    int row = 0;
    while (row < WORD_COUNT && !is_text(text, length, words[row].word) && !is_text(text, length, words[row].type)) row++;
    return row;
}

bool nb__is_word(const char *name, int length) {
    return find_word(name, length) < WORD_COUNT || nb__activation_find(name, length) >= 0;
}

/* The next layer, by its word. */
static nb_layer *read_layer(nb__reader *r, int place) {
    nb_layer *l = NULL;
    char      name[NB__NAME_SIZE] = "";
    r->word = r->at;
    r->place = place;
    while (is_letter(*r->at)) r->at++;
    r->word_length = (int)(r->at - r->word);
    if (!r->word_length) {
        r->word = NULL;
        nb__read_error(r, r->at, *r->at ? "the name of a layer is missing here" : "a layer is missing at the end");
        return NULL;
    }
    int row = find_word(r->word, r->word_length), activation = nb__activation_find(r->word, r->word_length);
    if (row == WORD_COUNT && activation < 0) {
        unknown_word(r);
        return NULL;
    }
    r->usage = row < WORD_COUNT ? words[row].usage : nb__activation_usage(activation);
    read_arguments(r);
    if (r->failed || !read_name(r, name)) return NULL;
    l = row < WORD_COUNT ? words[row].read(r) : nb__read_activation(r, activation);
    check_arguments(r);
    if (l && strchr(r->usage, '(') && !r->failed) { /* what comes after the brackets */
        read_arguments(r);
        read_name(r, name);
        check_arguments(r);
    }
    if (!r->failed && !nb_error(r->nb) && *r->at == '(') nb__read_error(r, r->at, "it holds no other layers");
    if (l && name[0] && !r->failed) nb_layer_set_name(l, name);
    if (!r->failed && !nb_error(r->nb)) return l;
    nb__layer_free(l);
    r->failed = true;
    return NULL;
}

/* The shape after a layer. */
static bool probe(nb__reader *r, nb_layer *l, int place) {
    char number[16];
    snprintf(number, sizeof number, "%d", place);
    if (!l->name[0]) nb_scope_push(r->nb, number);
    r->x = nb_layer_apply(l, r->x, NB_EVAL);
    if (!l->name[0]) nb_scope_pop(r->nb);
    if (nb_error(r->nb)) return false;
    nb_dims s = nb_shape_of(r->x);
    r->shape = (nb_dims){.rank = s.rank - 1};
    for (int i = 0; i < r->shape.rank; i++) r->shape.size[i] = s.size[i + 1];
    return true;
}

enum { MOST_LAYERS = 10000 }; /* brackets with repeat can mean many by few words */

static nb_layer *too_many(nb__reader *r) {
    r->word = NULL;
    nb__read_error(r, r->at, "these are more than %d layers", MOST_LAYERS);
    return NULL;
}

/* Layers up to the end of the text, or to the bracket that closes `open`: as a sequential one. A single one without a name stays
 * as it is if `plain`. */
static nb_layer *read_list(nb__reader *r, const char *open, bool plain) {
    int first = r->n_made;
    for (skip_lines(r); *r->at && *r->at != ')' && !r->failed; skip_lines(r)) {
        int       place = r->n_made - first;
        nb_layer *l = ++r->n_layers > MOST_LAYERS ? too_many(r) : read_layer(r, place);
        if (!l) break;
        r->made[r->n_made++] = l;
        if (!probe(r, l, place)) {
            r->failed = true;
            break;
        }
        skip_blanks(r);
        if (*r->at == ',')
            r->at++;
        else if (*r->at == ';')
            nb__read_error(r, r->at, "write a comma instead of this: layers have commas or line ends between them");
    }
    r->word = NULL;
    if (*r->at == ')' && !open) nb__read_error(r, r->at, "this bracket closes nothing");
    if (!*r->at && open) nb__read_error(r, open, "this bracket is never closed");
    if (r->n_made == first && !r->failed)
        nb__read_error(r, open ? open : r->text,
                       open ? "there are no layers" : "there are no layers: write some, as in flatten, linear 10");
    nb_layer *list = NULL;
    if (!r->failed && plain && r->n_made == first + 1 && !r->made[first]->is_named)
        list = r->made[first];
    else if (!r->failed)
        list = nb_layer_sequential(r->nb, r->n_made - first, r->made + first);
    for (int i = first; i < r->n_made && !list; i++)
        if (!r->made[i]->parent) nb__layer_free(r->made[i]);
    r->n_made = first;
    if (!list) r->failed = true;
    return list;
}

/* "(layers)" after a word. The value so far is the same afterwards: the layer around them says what it makes of it. */
static nb_layer *read_group(nb__reader *r, bool plain) {
    check_arguments(r);
    nb__reader outer = *r;
    if (!r->failed && *r->at != '(')
        nb__read_error(r, r->word, "it needs layers in brackets: write %.*s%s", r->word_length, r->word, r->usage);
    if (!r->failed && r->depth == NB__MAX_NESTING / 2 - 2) nb__read_error(r, r->at, "brackets are nested too deep");
    if (r->failed) return NULL;
    const char *open = r->at++;
    r->depth++;
    nb_layer *list = read_list(r, open, plain);
    if (outer.x == outer.input) outer.x = r->input;
    outer.input = r->input;
    outer.n_layers = r->n_layers;
    outer.at = list ? r->at + 1 : r->at;
    outer.failed = r->failed;
    outer.n_arguments = 0;
    *r = outer;
    return list;
}

nb_layer *nb__read_sequential(nb__reader *r) { return read_group(r, false); }

nb_layer *nb__read_residual(nb__reader *r) {
    const char *at = r->word;
    nb_layer   *inner = read_group(r, false);
    if (!inner) return NULL;
    nb_tensor *last = nb_layer_apply(inner, r->x, NB_EVAL);
    nb_dims    out = nb_shape_of(last);
    bool       same = out.rank == r->shape.rank + 1;
    for (int i = 0; same && i < r->shape.rank; i++) same = out.size[i + 1] == r->shape.size[i];
    if (!same && !nb_error(r->nb)) {
        char    from[128], to[128];
        nb_dims item = {.rank = out.rank - 1};
        for (int i = 0; i < item.rank; i++) item.size[i] = out.size[i + 1];
        nb__read_error(r, at,
                       "its layers make %s of %s, but the two are to be added: keep the shape (pad, stride 1, the same channels)",
                       nb__shape_text(item, to, sizeof to), nb__shape_text(r->shape, from, sizeof from));
    }
    nb_layer *l = nb_error(r->nb) ? NULL : nb_layer_residual(r->nb, inner);
    if (!l && !inner->parent) nb__layer_free(inner);
    return l;
}

/* The text in the brackets is read N times: each copy gets the shape that the one before gives. */
nb_layer *nb__read_repeat(nb__reader *r) {
    int64_t n = nb__read_size(r, "N");
    if (n > MOST_LAYERS) nb__read_error(r, r->word, "%lld times are more than %d layers", (long long)n, MOST_LAYERS);
    nb_layer  **copies = r->failed ? NULL : nb_alloc(r->nb, (size_t)n * sizeof *copies);
    nb_layer   *list = NULL;
    nb_tensor  *x = r->x;
    nb_dims     shape = r->shape;
    const char *open = r->at;
    int         made = 0;
    for (; copies && made < n; made++) {
        r->at = open;
        copies[made] = read_group(r, true);
        if (made == 0) x = r->x;
        if (!copies[made] || !probe(r, copies[made], made)) break;
    }
    if (made == n) list = nb_layer_sequential(r->nb, made, copies);
    for (int i = 0; i <= made && i < n && copies && !list; i++)
        if (copies[i] && !copies[i]->parent) nb__layer_free(copies[i]);
    nb_free(r->nb, copies);
    r->x = x;
    r->shape = shape;
    return list;
}

nb_net *nb_net_parse(nb_context *nb, const char *text, nb_dims input) {
    if (nb_error(nb)) return NULL;
    nb_dims batch = {.rank = input.rank + 1, .size = {1}};
    if (!text) {
        nb_fail(nb, NB_INVALID, "nb_net_parse: the text is NULL");
        return NULL;
    }
    if (input.rank < 0 || input.rank >= NB_MAX_RANK) {
        nb_fail(nb, NB_INVALID, "nb_net_parse: the shape of one item has 0 to %d axes", NB_MAX_RANK - 1);
        return NULL;
    }
    for (int i = 0; i < input.rank; i++) batch.size[i + 1] = input.size[i];
    size_t room = 1;
    for (const char *c = text; *c; c++) room += *c == ',' || *c == '\n' || *c == '(' || *c == ')';
    nb__reader r = {.nb = nb, .text = text, .at = text, .shape = input};
    r.x = r.input = nb_zeros(nb, NB_F32, batch);
    r.made = nb_alloc(nb, room * sizeof *r.made);
    nb_layer *root = r.made && !nb_error(nb) ? read_list(&r, NULL, false) : NULL;
    nb_free(nb, r.made);
    return root ? nb__net_new(nb, root, input, text) : NULL;
}
