/* graph.c: the picture of a computation graph.
 *
 * A net of thirty layers has thousands of nodes; nobody reads a picture of those. So nodes are folded into boxes: a composition
 * (softmax, batch norm) is one box, its backward part another, and where that is still too much each outermost layer is two.
 * Layers are frames. Backward boxes are drawn against the flow, below their layer: gradients come back from right to left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define MANY 250 /* boxes, from which on layers are folded too */
#define TOO_MANY 2000

typedef struct box {
    nb_tensor *first; /* the node that gives it its name */
    nb_tensor *user;  /* a forward node that reads it */
    int        nodes;
    bool       is_root, is_shown, has_label; /* has_label: the shape stands on one of its edges */
} box;

typedef struct picture {
    nb_context *nb;
    nb_list     nodes, roots;
    int        *order; /* positions in nodes, by serial: for looking up */
    int        *box;   /* of each node: the position of its first node */
    box        *boxes; /* at those positions */
} picture;

/* ----------------------------------------------------------------------------------------------------------------- looking up */

/* Heap sort by serial: no memory, no recursion, no state outside. */
static void sift(const nb_list *nodes, int *order, int at, int n) {
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && nb_serial(nodes->at[order[child]]) < nb_serial(nodes->at[order[child + 1]])) child++;
        if (nb_serial(nodes->at[order[at]]) >= nb_serial(nodes->at[order[child]])) return;
        int swap = order[at];
        order[at] = order[child];
        order[child] = swap;
    }
}

static void sort(const nb_list *nodes, int *order) {
    int n = nodes->n;
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n / 2; i-- > 0;) sift(nodes, order, i, n);
    for (int i = n; i-- > 1;) {
        int swap = order[0];
        order[0] = order[i];
        order[i] = swap;
        sift(nodes, order, 0, i);
    }
}

static int find(const picture *p, const nb_tensor *t) {
    int low = 0, high = p->nodes.n;
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        if (nb_serial(p->nodes.at[p->order[middle]]) <= nb_serial(t))
            low = middle;
        else
            high = middle;
    }
    return p->order[low];
}

/* -------------------------------------------------------------------------------------------------------------------- folding */

static bool same(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* Both in one composition of one layer, in one direction. */
static bool are_one(const nb_tensor *a, const nb_tensor *b) {
    return !nb_is_kept(a) && !nb_is_kept(b) && nb_is_backward(a) == nb_is_backward(b) && nb_group_of(a)[0] &&
           same(nb_group_of(a), nb_group_of(b)) && same(nb_layer_of(a), nb_layer_of(b));
}

/* Both in one outermost layer, in one direction. */
static bool are_one_layer(const nb_tensor *a, const nb_tensor *b) {
    const char *x = nb_layer_of(a), *y = nb_layer_of(b);
    size_t      n = strcspn(x, "/");
    return !nb_is_kept(a) && !nb_is_kept(b) && nb_is_backward(a) == nb_is_backward(b) && n && n == strcspn(y, "/") &&
           !strncmp(x, y, n);
}

/* A view of a bias, or one on the way back: it is drawn as what it views. */
static bool is_silent(const nb_tensor *t) {
    return nb_op_of(t)->kind == NB_VIEW && !nb_group_of(t)[0] &&
           (nb_is_backward(t) || (nb_is_kept(nb_input_at(t, 0)) && nb_rank(nb_input_at(t, 0)) <= 1));
}

static int top(int *parent, int i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

static void join(int *parent, int a, int b) {
    a = top(parent, a);
    b = top(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

/* Joins a node with operands of its composition. Backward parts of a layer's composition are often not connected with one
 * another: they are found by looking back over the nodes of that composition. */
static int fold(picture *p, bool (*one)(const nb_tensor *, const nb_tensor *)) {
    int n = p->nodes.n, boxes = 0;
    for (int i = 0; i < n; i++) p->box[i] = i;
    for (int i = 0; i < n; i++) {
        nb_tensor *t = p->nodes.at[i];
        for (int k = 0; k < nb_input_count(t); k++)
            if (one(t, nb_input_at(t, k))) join(p->box, i, find(p, nb_input_at(t, k)));
    }
    for (int i = 0; i < n; i++)
        if (is_silent(p->nodes.at[i])) join(p->box, i, find(p, nb_input_at(p->nodes.at[i], 0)));
    /* By serial, parts of one backward composition are neighbours. */
    for (int i = 1; i < n; i++) {
        int a = p->order[i - 1], b = p->order[i];
        if (nb_is_backward(p->nodes.at[b]) && one(p->nodes.at[a], p->nodes.at[b])) join(p->box, a, b);
    }
    for (int i = 0; i < n; i++) boxes += top(p->box, i) == i;
    return boxes;
}

/* ---------------------------------------------------------------------------------------------------------------------- boxes */

static bool is_constant(const nb_tensor *t) { return nb_op_of(t)->kind == NB_LEAF && nb_input_count(t) == 0 && !nb_is_kept(t); }

/* The second line of a box: attributes, and the constants among the operands: "(·, 0)". */
static void add_details(nb__text *out, const nb_tensor *t) {
    char text[128] = "";
    bool has_constant = false;
    int  n = nb_input_count(t);
    if (nb_op_of(t)->describe) nb_op_of(t)->describe(nb_attr(t), text, sizeof text);
    for (int i = 0; i < n; i++) has_constant |= is_constant(nb_input_at(t, i));
    if (!text[0] && !has_constant) return;
    nb__add(out, "<br/><font point-size=\"9\" color=\"" NB__GREY "\">");
    nb__add_escaped(out, text);
    for (int i = 0; i < n && has_constant; i++) {
        const nb_tensor *in = nb_input_at(t, i);
        char             value[128] = "·";
        if (is_constant(in)) snprintf(value, sizeof value, "%s", nb_op_of(in)->name);
        if (is_constant(in) && nb_op_of(in)->describe) nb_op_of(in)->describe(nb_attr(in), value, sizeof value);
        nb__add(out, i ? ", " : text[0] ? " (" : "(");
        nb__add_escaped(out, value);
    }
    nb__add(out, "%s</font>", has_constant ? ")" : "");
}

static void add_kept(nb__text *out, const nb_tensor *t) {
    nb__add(out, "shape=cylinder style=filled " NB__KEPT " label=<<b>");
    nb__add_escaped(out, nb_name(t)[0] ? nb_name(t) : "kept");
    nb__add(out, "</b>>");
}

static void add_box(nb__text *out, const box *b, bool whole_layers) {
    const nb_tensor *t = b->first;
    if (nb_is_kept(t)) {
        add_kept(out, t);
    } else {
        bool        folded = b->nodes > 1;
        const char *name = !folded ? nb_op_of(t)->name : whole_layers && nb_layer_of(t)[0] ? "layer" : nb_group_of(t);
        nb__add(out, "%s%s label=<", nb_is_backward(t) ? NB__BACKWARD : NB__FORWARD, b->is_root ? " penwidth=2.2" : "");
        nb__add(out, folded ? "<b>" : "");
        nb__add_escaped(out, name);
        nb__add(out, folded && nb_is_backward(t) ? " backward</b>" : folded ? "</b>" : "");
        if (!folded) add_details(out, t);
        nb__add(out, ">");
    }
}

/* One frame for each part of a layer's path. Graphviz puts together what is opened twice. */
static int open_frames(nb__text *out, const char *path) {
    int depth = 0;
    for (size_t i = 0; *path; i++) {
        if (path[i] && path[i] != '/') continue;
        size_t from = i;
        while (from && path[from - 1] != '/') from--;
        nb__add(out,
                "subgraph \"cluster_%.*s\" { graph [label=\"%.*s\" style=\"rounded,filled\" color=\"#d8d8d8\" fillcolor=\"%s\" "
                "labeljust=l] ",
                (int)i, path, (int)(i - from), path + from, depth % 2 ? "#ffffff" : "#f8f8f8");
        depth++;
        if (!path[i]) break;
    }
    return depth;
}

/* Parameters stand with the layer whose name is in theirs: "fc1.weight" in "fc1". */
static const char *frame_of(const picture *p, int i) {
    const nb_tensor *t = p->boxes[i].first;
    if (!nb_is_kept(t) || !p->boxes[i].user) return nb_layer_of(t);
    const char *layer = nb_layer_of(p->boxes[i].user), *name = nb_name(t);
    size_t      n = strlen(layer);
    for (size_t k = 0; k < n; k++)
        if (name[k] != layer[k] && !(layer[k] == '/' && name[k] == '.')) return "";
    return n && name[n] == '.' ? layer : "";
}

static void add_boxes(nb__text *out, picture *p, bool whole_layers) {
    for (int i = 0; i < p->nodes.n; i++) {
        box *b = &p->boxes[i];
        if (p->box[i] != i || !b->is_shown) continue;
        nb__add(out, "  ");
        int depth = open_frames(out, frame_of(p, i));
        nb__add(out, "b%d [", i);
        add_box(out, b, whole_layers);
        nb__add(out, "]");
        while (depth--) nb__add(out, " }");
        nb__add(out, "\n");
    }
}

/* ---------------------------------------------------------------------------------------------------------------------- edges */

static void add_edge(nb__text *out, picture *p, int source, int from, int to) {
    const nb_tensor *t = p->nodes.at[source];
    bool             a = nb_is_backward(p->boxes[from].first), b = nb_is_backward(p->boxes[to].first);
    if (b && !a) {
        nb__add(out, "  b%d -> b%d [constraint=false style=dashed color=\"#cfcfcf\" arrowsize=0.5]\n", from, to);
        return;
    }
    if (a && b)
        nb__add(out, "  b%d -> b%d [dir=back weight=3 color=\"#d9a066\"", to, from); /* against the flow */
    else
        nb__add(out, "  b%d -> b%d [weight=%d", from, to, nb_is_kept(p->boxes[from].first) ? 1 : 12);
    if (!p->boxes[from].has_label) {
        nb__add(out, " label=\"");
        nb__add_shape(out, nb_shape_of(nb_is_kept(p->boxes[from].first) ? p->boxes[from].first : t));
        nb__add(out, "\"");
        p->boxes[from].has_label = true;
    }
    nb__add(out, "]\n");
}

static void add_edges(nb__text *out, picture *p, int *last_drawn) {
    int n = p->nodes.n;
    for (int i = 0; i < n; i++) last_drawn[i] = -1;
    for (int i = 0; i < n; i++) {
        nb_tensor *t = p->nodes.at[i];
        for (int k = 0; k < nb_input_count(t); k++) {
            int source = find(p, nb_input_at(t, k)), from = p->box[source], to = p->box[i];
            if (from == to || !p->boxes[from].is_shown) continue;
            bool crosses = nb_is_backward(p->boxes[from].first) != nb_is_backward(p->boxes[to].first);
            int *last =
                &last_drawn[crosses ? from : source]; /* one arrow for a tensor; one for all that the backward part reads again */
            if (*last != to) add_edge(out, p, source, from, to);
            *last = to;
        }
    }
}

/* A root with a name gets a box of its own behind what makes it: "loss", "d fc1.weight". */
static void add_roots(nb__text *out, picture *p) {
    for (int i = 0; i < p->roots.n; i++) {
        nb_tensor *t = p->roots.at[i];
        int        from = p->box[find(p, t)];
        bool       back = nb_is_backward(t);
        if (nb_is_kept(t) || !nb_name(t)[0]) continue;
        nb__add(out, "  ");
        int depth = open_frames(out, nb_layer_of(t));
        nb__add(out, "r%d [shape=cylinder style=filled %s penwidth=1.6 label=<<b>", i, back ? NB__BACKWARD : NB__FORWARD);
        nb__add_escaped(out, nb_name(t));
        nb__add(out, "</b>>]");
        while (depth--) nb__add(out, " }");
        if (back)
            nb__add(out, "\n  r%d -> b%d [dir=back color=\"#d9a066\"", i, from);
        else
            nb__add(out, "\n  b%d -> r%d [", from, i);
        nb__add(out, " label=\"");
        nb__add_shape(out, nb_shape_of(t));
        nb__add(out, "\"]\n");
    }
}

/* ---------------------------------------------------------------------------------------------------------------- the picture */

static void measure(picture *p) {
    for (int i = 0; i < p->nodes.n; i++) {
        p->box[i] = top(p->box, i);
        box *b = &p->boxes[p->box[i]];
        if (!b->first || is_constant(b->first)) b->first = p->nodes.at[i];
        b->nodes += !is_silent(p->nodes.at[i]);
        b->is_shown = true;
        for (int k = 0; k < nb_input_count(p->nodes.at[i]) && !nb_is_backward(p->nodes.at[i]); k++)
            p->boxes[top(p->box, find(p, nb_input_at(p->nodes.at[i], k)))].user = p->nodes.at[i];
    }
    /* Constants stand in the label of what reads them. */
    for (int i = 0; i < p->nodes.n; i++)
        if (p->boxes[i].nodes == 1 && is_constant(p->nodes.at[i]) && p->nodes.n > 1) p->boxes[i].is_shown = false;
    for (int i = 0; i < p->roots.n; i++) {
        box *b = &p->boxes[p->box[find(p, p->roots.at[i])]];
        b->is_root = b->is_shown = true;
    }
}

static char *draw(picture *p) {
    nb_context *nb = p->nb;
    bool        whole_layers = false;
    sort(&p->nodes, p->order);
    int count = fold(p, are_one);
    if (count > MANY) {
        count = fold(p, are_one_layer);
        whole_layers = true;
    }
    if (count > TOO_MANY) {
        nb_fail(
            nb, NB_INVALID,
            "nb_draw_graph: %d boxes are more than can be read (%d); draw fewer roots, or give layers names with nb_scope_push",
            count, TOO_MANY);
        return NULL;
    }
    measure(p);
    nb__text out = {.nb = nb};
    nb__add_head(&out, "LR");
    add_boxes(&out, p, whole_layers);
    add_edges(&out, p, p->order + p->nodes.n);
    add_roots(&out, p);
    nb__add(&out, "}\n");
    return nb__text_end(&out);
}

char *nb_draw_graph(nb_context *nb, nb_list roots, const nb_draw_options *options) {
    picture p = {.nb = nb, .nodes = nb_graph(nb, roots), .roots = roots};
    if (nb_error(nb)) return NULL;
    if (options && options->values) return nb__draw_values(nb, p.nodes, roots, options);
    size_t n = (size_t)p.nodes.n + 1;
    p.order = nb_alloc(nb, 2 * n * sizeof *p.order);
    p.box = nb_alloc(nb, n * sizeof *p.box);
    p.boxes = nb_alloc(nb, n * sizeof *p.boxes);
    char *text = p.order && p.box && p.boxes ? draw(&p) : NULL;
    nb_free(nb, p.order);
    nb_free(nb, p.box);
    nb_free(nb, p.boxes);
    return text;
}
