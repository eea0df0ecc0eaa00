/* neurons.c: a small net as in a textbook: circles are neurons, lines are weights: blue where positive, red where negative, and
 * the wider the larger. */
#include <math.h>
#include <string.h>

#include "text.h"

#define MOST 64 /* neurons of a layer */
#define POSITIVE "#2f6fc0"
#define NEGATIVE "#d0453b"

static bool is_type(nb_layer *l, const char *type) { return strcmp(nb_layer_type(l), type) == 0; }

/* Circles c<column>_0 ... in one column, in order from top to bottom, below the words that say what is computed there. */
static void add_column(nb__text *out, int column, int64_t n, const char *look, const char *word, const char *then) {
    nb__add(out, "  subgraph cluster_%d { graph [peripheries=0 label=<<b>%s</b>", column, word);
    if (then) nb__add(out, ", ");
    if (then) nb__add_escaped(out, then);
    nb__add(out, "<br/>%lld>] { rank=same\n", (long long)n);
    for (int64_t i = 0; i < n; i++) nb__add(out, "    c%d_%lld [%s]\n", column, (long long)i, look);
    for (int64_t i = 1; i < n; i++)
        nb__add(out, "    c%d_%lld -> c%d_%lld [style=invis weight=0]\n", column, (long long)i - 1, column, (long long)i);
    nb__add(out, "  } }\n");
}

static void add_weights(nb__text *out, int column, const float *w, int64_t rows, int64_t columns) {
    float largest = 1e-12f;
    for (int64_t i = 0; i < rows * columns; i++)
        if (fabsf(w[i]) > largest) largest = fabsf(w[i]);
    for (int64_t o = 0; o < rows; o++) {
        for (int64_t i = 0; i < columns; i++) {
            double v = (double)w[o * columns + i], share = fabs(v) / (double)largest;
            nb__add(out, "  c%d_%lld -> c%d_%lld [color=\"%s%02x\" penwidth=%.2f tooltip=\"%.4g\"]\n", column - 1, (long long)i,
                    column, (long long)o, v < 0 ? NEGATIVE : POSITIVE, (int)(50 + 205 * share), 0.3 + 2.2 * share, v);
        }
    }
}

/* Below the picture: what its lines say. */
static void add_legend(nb__text *out) {
    nb__add(out, "  graph [label=<<b><font color=\"" POSITIVE "\">blue</font></b>: positive weight, "
                 "<b><font color=\"" NEGATIVE "\">red</font></b>: negative<br/>"
                 "the wider and darker, the larger beside the others of its layer; biases are not drawn> labelloc=b]\n");
}

static bool refuse_type(nb_context *nb, nb_layer *l) {
    nb_fail(nb, NB_INVALID, "nb_draw_neurons: it draws linear layers and activations, not %s; nb_draw_net draws all nets",
            nb_layer_type(l));
    return false;
}

static bool refuse_width(nb_context *nb, const char *what, int64_t n) {
    nb_fail(nb, NB_INVALID, "nb_draw_neurons: %s of %lld neurons is too wide for a picture; at most %d", what, (long long)n,
            MOST);
    return false;
}

/* Layers that leave every value where it is. */
static bool is_pointwise(nb_layer *l) { return nb_layer_count(l) == 0 && !nb_layer_state(l).n; }

/* Draws a linear layer with its column. `next` is the layer behind it, or NULL: an activation is named in the same column. */
static bool add_layer(nb__text *out, nb_layer *l, nb_layer *next, int *column, int64_t *width) {
    if (is_pointwise(l)) return true;
    if (!is_type(l, "linear")) return refuse_type(out->nb, l);
    nb_tensor   *weight = nb_layer_state(l).at[0];
    int64_t      rows = nb_size(weight, 0), columns = nb_size(weight, 1);
    const float *w = nb_dtype_of(weight) == NB_F32 ? nb_data(weight) : NULL;
    if (rows > MOST) return refuse_width(out->nb, "a layer", rows);
    if (!w || columns != *width) {
        nb_fail(out->nb, NB_INVALID, "nb_draw_neurons: a linear layer must be f32 and take all %lld values before it",
                (long long)*width);
        return false;
    }
    bool has_activation = next && is_pointwise(next) && !is_type(next, "flatten") && !is_type(next, "dropout");
    *width = rows;
    ++*column;
    add_column(out, *column, rows, NB__FORWARD, "linear", has_activation ? nb_layer_type(next) : NULL);
    add_weights(out, *column, w, rows, columns);
    return true;
}

char *nb_draw_neurons(nb_net *net) {
    if (!net) return NULL;
    nb_context *nb = nb_net_context(net);
    nb__text    out = {.nb = nb};
    nb_layer   *root = nb_net_root(net);
    int64_t     width = 1;
    int         column = 0, n = nb_layer_count(root);
    nb_dims     input = nb_net_input(net);
    for (int i = 0; i < input.rank; i++) width *= input.size[i];
    bool ok = width <= MOST || refuse_width(nb, "an input", width);
    nb__add_head(&out, "LR");
    nb__add(&out, "  graph [ranksep=1.4 nodesep=0.12 splines=line]\n"
                  "  node [shape=circle style=filled label=\"\" width=0.28 fixedsize=true]\n"
                  "  edge [arrowhead=none]\n");
    if (ok) add_column(&out, 0, width, "color=\"#808080\" fillcolor=\"#f4f4f4\"", "input", NULL);
    if (ok && n == 0) ok = add_layer(&out, root, NULL, &column, &width);
    for (int i = 0; i < n && ok; i++) {
        nb_layer *l = nb_layer_at(root, i);
        ok = nb_layer_count(l) == 0 ? add_layer(&out, l, i + 1 < n ? nb_layer_at(root, i + 1) : NULL, &column, &width)
                                    : refuse_type(nb, l);
    }
    add_legend(&out);
    nb__add(&out, "}\n");
    return nb__text_end(&out);
}
