/* net.c: the picture of a net: its layers from top to bottom, in the words in which they were written, the shape of what flows
 * between them, and their parameters. */
#include <stdio.h>
#include <string.h>

#include "text.h"

/* Colours by what a layer does. */
static const char *look(const char *type) {
    static const char *const looks[][2] = {
        {"linear", "color=\"#8e5bb5\" fillcolor=\"#f2eaf8\""},
        {"dropconnect", "color=\"#8e5bb5\" fillcolor=\"#f2eaf8\""},
        {"embedding", "color=\"#6b8e23\" fillcolor=\"#f0f5e2\""},
        {"positions", "color=\"#6b8e23\" fillcolor=\"#f0f5e2\""},
        {"lstm", "color=\"#3b6fb6\" fillcolor=\"#e6eefa\""},
        {"attention", "color=\"#3b6fb6\" fillcolor=\"#e6eefa\""},
        {"conv2d", "color=\"#3b6fb6\" fillcolor=\"#e6eefa\""},
        {"batch_norm", "color=\"#3a9a9a\" fillcolor=\"#e4f4f4\""},
        {"layer_norm", "color=\"#3a9a9a\" fillcolor=\"#e4f4f4\""},
        {"max_pool2d", "color=\"#d9822b\" fillcolor=\"#fdf0e0\""},
        {"avg_pool2d", "color=\"#d9822b\" fillcolor=\"#fdf0e0\""},
        {"adaptive_max_pool2d", "color=\"#d9822b\" fillcolor=\"#fdf0e0\""},
        {"dropout", "color=\"#999999\" fillcolor=\"#f4f4f4\""},
        {"dropout_channels", "color=\"#999999\" fillcolor=\"#f4f4f4\""},
        {"flatten", "color=\"#999999\" fillcolor=\"#f4f4f4\""},
        {"adaptive_avg_pool2d", "color=\"#d9822b\" fillcolor=\"#fdf0e0\""},
    };
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
        if (strcmp(type, looks[i][0]) == 0) return looks[i][1];
    return NB__KEPT; /* activations */
}

/* "3×3" of a convolution. */
static void add_kernel(nb__text *out, nb_layer *l) {
    nb_list state = nb_layer_state(l);
    if (strcmp(nb_layer_type(l), "conv2d") == 0 && state.n && nb_rank(state.at[0]) == 4)
        nb__add(out, " %lld×%lld", (long long)nb_size(state.at[0], 2), (long long)nb_size(state.at[0], 3));
}

/* The words of the next leaf in a net's text, "conv 32 3 pad=1". Passed over: remarks, and layers that hold layers, with what
 * stands before and behind their brackets. length 0: there is none. */
static const char *next_words(const char *text, int *length) {
    for (;;) {
        text += strspn(text, " \t\r\n,)");
        *length = (int)strcspn(text, *text == '#' ? "\n" : ",\n()#");
        if (*length == 0 && *text != '(') return text;
        bool is_leaf = *text != '#' && text[*length] != '(' && strncmp(text, "name=", 5) != 0;
        if (is_leaf) return text;
        text += *length + (text[*length] == '(');
    }
}

static int leaves_in(const char *text) {
    int n = 0, length;
    for (text = next_words(text, &length); length; text = next_words(text + length, &length)) n++;
    return n;
}

/* Without name=NAME: names stand elsewhere. */
static void add_words(nb__text *out, const char *words, int length) {
    for (int at = 0, n; at < length; at += n) {
        char word[80];
        at += (int)strspn(words + at, " \t\r");
        n = (int)strcspn(words + at, " \t\r,\n()#");
        if (n == 0 || strncmp(words + at, "name=", 5) == 0) continue;
        snprintf(word, sizeof word, "%s%.*s", at ? " " : "", n, words + at);
        nb__add_escaped(out, word);
    }
}

/* By the user, not by its number. */
static bool is_named(nb_layer *l) {
    const char *name = nb_layer_name(l);
    return name[0] && strspn(name, "0123456789") != strlen(name);
}

/* An arrow with the shape of what flows. */
static void add_arrow(nb__text *out, int from, int to, nb_dims shape) {
    nb__add(out, "  n%d -> n%d [label=\" ", from, to);
    nb__add_shape(out, shape);
    nb__add(out, "\"]\n");
}

/* What the walk over the layers has in hand. */
typedef struct walk {
    nb__text    out, arrows; /* arrows come last: one written inside a frame would pull its ends into it */
    nb_net     *net;
    const char *text;             /* of the net, from the next leaf on; NULL: it has none */
    int         leaf, last, next; /* of the summary; the box that the next one hangs on; the next box's number */
    nb_dims     shape;            /* of what flows */
} walk;

/* Its place or name, as summaries and messages have it; what was written, or else its type; its parameters. */
static void add_leaf(walk *w, nb_layer *l, const nb_layer_info *info) {
    nb__text *out = &w->out;
    nb__add(out, "  n%d [%s width=1.5 label=<<font color=\"" NB__GREY "\">", w->next, look(info->type));
    nb__add_escaped(out, info->path);
    nb__add(out, "</font>%s<b>", info->path[0] ? "  " : "");
    if (w->text) {
        int n;
        w->text = next_words(w->text, &n);
        add_words(out, w->text, n);
        w->text += n;
    } else {
        nb__add_escaped(out, info->type);
        add_kernel(out, l);
    }
    nb__add(out, "</b>");
    if (info->parameters) {
        nb__add(out, "<br/><font point-size=\"9\" color=\"" NB__GREY "\">");
        nb__add_count(out, info->parameters);
        nb__add(out, " parameters%s</font>", info->trainable < info->parameters ? ", frozen" : "");
    }
    nb__add(out, ">]\n");
}

/* Depth is that of layers in layers, which is bounded where they are made. */
static void add_layer(walk *w, nb_layer *l) {
    int n = nb_layer_count(l), before = w->last;
    if (n == 0) {
        nb_layer_info info = nb_net_layer_info(w->net, w->leaf++);
        add_leaf(w, l, &info);
        add_arrow(&w->arrows, w->last, w->next, w->shape);
        w->last = w->next++;
        w->shape = info.output;
        return;
    }
    const char *type = nb_layer_type(l);
    bool        is_residual = strcmp(type, "residual") == 0, is_block = is_residual || strcmp(type, "transformer") == 0;
    bool        is_frame = is_block || is_named(l);
    if (is_frame) {
        nb__add(&w->out, "  subgraph \"cluster_%d\" { graph [label=\"", w->next);
        nb__add_escaped(&w->out, nb_layer_name(l));
        if (is_block) nb__add(&w->out, "  %s", type);
        nb__add(&w->out, "\" style=\"rounded,filled\" color=\"#d8d8d8\" fillcolor=\"#fafafa\" labeljust=l]\n");
    }
    nb_dims entry = w->shape;
    for (int i = 0; i < n; i++) add_layer(w, nb_layer_at(l, i));
    if (is_residual) {
        int sum = w->next++;
        nb__add(&w->out, "  n%d [shape=circle margin=0.02 fontsize=14 label=\"+\" color=\"" NB__GREY "\" fillcolor=white]\n",
                sum);
        add_arrow(&w->arrows, w->last, sum, w->shape);
        add_arrow(&w->arrows, before, sum, entry);
        w->last = sum;
    }
    if (is_frame) nb__add(&w->out, "  }\n");
}

char *nb_draw_net(nb_net *net) {
    if (!net) return NULL;
    nb_context *nb = nb_net_context(net);
    walk        w = {.out = {.nb = nb}, .arrows = {.nb = nb}, .net = net, .next = 1, .shape = nb_net_input(net)};
    if (leaves_in(nb_net_text(net)) == nb_net_layer_count(net)) w.text = nb_net_text(net);
    nb__add_head(&w.out, "TB");
    nb__add(&w.out, "  n0 [shape=plaintext style=\"\" label=<<b>input</b>>]\n");
    add_layer(&w, nb_net_root(net));
    nb__add(&w.out, "  n%d [shape=plaintext style=\"\" label=<<b>output</b>>]\n", w.next);
    add_arrow(&w.arrows, w.last, w.next, w.shape);
    nb__add(&w.out, "%s}\n", w.arrows.failed ? "" : w.arrows.at);
    nb_free(nb, w.arrows.at);
    return nb__text_end(&w.out);
}
