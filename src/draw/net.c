/* net.c: the picture of a net: its layers from top to bottom, the shape of what flows between them, and their parameters. */
#include <string.h>

#include "text.h"

/* Colours by what a layer does. */
static const char *look(const char *type) {
    static const char *const looks[][2] = {
        {"linear", "color=\"#8e5bb5\" fillcolor=\"#f2eaf8\""},
        {"dropconnect", "color=\"#8e5bb5\" fillcolor=\"#f2eaf8\""},
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

/* By the user, not by its number. */
static bool is_named(nb_layer *l) {
    const char *name = nb_layer_name(l);
    return name[0] && strspn(name, "0123456789") != strlen(name);
}

static void add_leaf(nb__text *out, nb_layer *l, int id, const nb_layer_info *info) {
    nb__add(out, "  n%d [%s width=1.5 label=<<b>", id, look(info->type));
    if (is_named(l)) nb__add_escaped(out, nb_layer_name(l));
    if (is_named(l)) nb__add(out, "</b> <b>");
    nb__add_escaped(out, info->type);
    add_kernel(out, l);
    nb__add(out, "</b>");
    if (info->parameters) {
        nb__add(out, "<br/><font point-size=\"9\" color=\"" NB__GREY "\">");
        nb__add_count(out, info->parameters);
        nb__add(out, " parameters%s</font>", info->trainable < info->parameters ? ", frozen" : "");
    }
    nb__add(out, ">]\n");
}

/* An arrow with the shape of what flows. */
static void add_arrow(nb__text *out, int from, int to, nb_dims shape) {
    nb__add(out, "  n%d -> n%d [label=\" ", from, to);
    nb__add_shape(out, shape);
    nb__add(out, "\"]\n");
}

/* What the walk over the layers has in hand. */
typedef struct walk {
    nb__text out, arrows; /* arrows come last: one written inside a frame would pull its ends into it */
    nb_net  *net;
    int      leaf, last, next; /* of the summary; the box that the next one hangs on; the next box's number */
    nb_dims  shape;            /* of what flows */
} walk;

/* Depth is that of layers in layers, which is bounded where they are made. */
static void add_layer(walk *w, nb_layer *l) {
    int n = nb_layer_count(l), before = w->last;
    if (n == 0) {
        nb_layer_info info = nb_net_layer_info(w->net, w->leaf++);
        add_leaf(&w->out, l, w->next, &info);
        add_arrow(&w->arrows, w->last, w->next, w->shape);
        w->last = w->next++;
        w->shape = info.output;
        return;
    }
    bool is_residual = strcmp(nb_layer_type(l), "residual") == 0, is_frame = is_residual || is_named(l);
    if (is_frame) {
        nb__add(&w->out, "  subgraph \"cluster_%d\" { graph [label=\"", w->next);
        nb__add_escaped(&w->out, is_named(l) ? nb_layer_name(l) : nb_layer_type(l));
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
    nb__add_head(&w.out, "TB");
    nb__add(&w.out, "  n0 [shape=plaintext style=\"\" label=<<b>input</b>>]\n");
    add_layer(&w, nb_net_root(net));
    nb__add(&w.out, "  n%d [shape=plaintext style=\"\" label=<<b>output</b>>]\n", w.next);
    add_arrow(&w.arrows, w.last, w.next, w.shape);
    nb__add(&w.out, "%s}\n", w.arrows.failed ? "" : w.arrows.at);
    nb_free(nb, w.arrows.at);
    return nb__text_end(&w.out);
}
