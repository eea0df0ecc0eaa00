/* values.c: a small graph with its numbers, as in a lecture: circles are operators, boxes are values with the gradient that
 * arrived. */
#include <stdio.h>
#include <string.h>

#include "text.h"

#define SHOWN 6  /* elements of a tensor */
#define MOST 300 /* nodes */

static double element(const void *data, nb_dtype dtype, int64_t i) {
    switch (dtype) {
    case NB_F32: return ((const float *)data)[i];
    case NB_F64: return ((const double *)data)[i];
    case NB_I32: return ((const int32_t *)data)[i];
    case NB_I64: return (double)((const int64_t *)data)[i];
    case NB_U8:
    case NB_BOOL: return ((const uint8_t *)data)[i];
    case NB_F16:
    case NB_BF16: break;
    }
    return 0;
}

static void add_value(nb__text *out, nb_tensor *t) {
    const void *data = nb_data(t);
    int64_t     n = nb_count(t);
    nb_dtype    dtype = nb_dtype_of(t);
    bool        whole = dtype != NB_F32 && dtype != NB_F64, is_scalar = nb_rank(t) == 0;
    if (!data) return;
    nb__add(out, is_scalar ? "" : "[");
    for (int64_t i = 0; i < n && i < SHOWN; i++) {
        double v = element(data, dtype, i);
        nb__add(out, whole ? "%s%.0f" : v != 0 && (v < 1e-3 && v > -1e-3) ? "%s%.2e" : "%s%.4f", i ? ", " : "", v);
    }
    nb__add(out, "%s%s", n > SHOWN ? ", …" : "", is_scalar ? "" : "]");
}

static nb_tensor *gradient_of(const nb_tensor *t, const nb_draw_options *o) {
    for (int i = 0; i < o->of.n && i < o->gradients.n; i++)
        if (o->of.at[i] == t) return o->gradients.at[i];
    return NULL;
}

/* The sign that people write. */
static const char *symbol(const char *name) {
    static const char *const pairs[][2] = {{"add", "+"},     {"sub", "−"},  {"mul", "×"},  {"div", "÷"},   {"neg", "−"},
                                           {"square", "x²"}, {"sqrt", "√"}, {"pow", "xʸ"}, {"matmul", "@"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(name, pairs[i][0]) == 0) return pairs[i][1];
    return name;
}

static void add_cell(nb__text *out, const char *label, const char *colour, nb_tensor *t) {
    nb__add(out, "<td align=\"left\"><font point-size=\"9\" color=\"" NB__GREY "\">%s</font> <font color=\"%s\">", label, colour);
    add_value(out, t);
    nb__add(out, "</font></td>");
}

static void add_node(nb__text *out, nb_tensor *t, bool is_root, const nb_draw_options *o) {
    unsigned long long id = (unsigned long long)nb_serial(t);
    nb_tensor         *gradient = gradient_of(t, o);
    nb__add(out, "  v%llu [%s%s margin=0.04 label=<<table border=\"0\" cellborder=\"0\" cellspacing=\"3\"><tr>", id,
            nb_is_kept(t)       ? NB__KEPT
            : nb_is_backward(t) ? NB__BACKWARD
                                : NB__FORWARD,
            is_root ? " penwidth=2.2" : "");
    if (nb_name(t)[0]) {
        nb__add(out, "<td><b>");
        nb__add_escaped(out, nb_name(t));
        nb__add(out, "</b></td>");
    }
    add_cell(out, "value", NB__INK, t);
    if (gradient) add_cell(out, "grad", "#c0651a", gradient);
    nb__add(out, "</tr></table>>]\n");
    if (nb_input_count(t) == 0) return;
    char attributes[128] = "";
    if (nb_op_of(t)->describe) nb_op_of(t)->describe(nb_attr(t), attributes, sizeof attributes);
    nb__add(out,
            "  o%llu [shape=circle style=filled fillcolor=white color=\"" NB__GREY
            "\" margin=0.02 fontsize=13 tooltip=\"%s\" label=<",
            id, nb_op_of(t)->name);
    nb__add_escaped(out, symbol(nb_op_of(t)->name));
    if (attributes[0]) {
        nb__add(out, "<br/><font point-size=\"8\">");
        nb__add_escaped(out, attributes);
        nb__add(out, "</font>");
    }
    nb__add(out, ">]\n  o%llu -> v%llu\n", id, id);
    for (int i = 0; i < nb_input_count(t); i++)
        nb__add(out, "  v%llu -> o%llu\n", (unsigned long long)nb_serial(nb_input_at(t, i)), id);
}

char *nb__draw_values(nb_context *nb, nb_list nodes, nb_list roots, const nb_draw_options *options) {
    if (nodes.n > MOST) {
        nb_fail(nb, NB_INVALID, "nb_draw_graph: a picture with values is for small graphs: this one has %d nodes, %d are allowed",
                nodes.n, MOST);
        return NULL;
    }
    if (options->of.n != options->gradients.n) {
        nb_fail(nb, NB_INVALID, "nb_draw_graph: %d gradients for %d tensors; one each is needed", options->gradients.n,
                options->of.n);
        return NULL;
    }
    nb_list all = nb_list_join(nb, nodes, options->gradients);
    if (!nb_eval(nb, all)) return NULL;
    nb__text out = {.nb = nb};
    nb__add_head(&out, "LR");
    for (int i = 0; i < nodes.n; i++) {
        bool is_root = false;
        for (int k = 0; k < roots.n; k++) is_root |= roots.at[k] == nodes.at[i];
        add_node(&out, nodes.at[i], is_root, options);
    }
    nb__add(&out, "}\n");
    return nb__text_end(&out);
}
