/* program.c: the picture of a compiled program.
 *
 * A box is one kernel call: number, kernel, layers, the operators that were fused into it, and below a line what it reads and
 * writes of kept tensors, and the values it leaves in the workspace, each with size and place. An arrow is such a value on its
 * way to a call. As in the picture of the graph the backward part is drawn against the flow; what it reads of the forward part
 * again is named by number. Calls behind the point of no return, which may change kept tensors, stand in a frame of their own.
 * Calls whose results last from run to run say so. */
#include <stdio.h>
#include <string.h>

#include "text.h"

enum { MOST_CALLS = 600, LINE = 34, MOST_LINES = 4 };

#define LATE "color=\"#4c9a52\" fillcolor=\"#f4faf4\""

static bool is_back(const nb_call_info *c) { return c->is_backward || c->is_late; }

/* Words with commas, in lines of about LINE letters. */
static void add_lines(nb__text *out, const char *what, const char *words, const char *colour) {
    int line = 0;
    for (size_t n; *words; words += n) {
        char text[2 * LINE + 16];
        n = strlen(words);
        if (n > LINE) {
            n = LINE;
            while (n < 2 * LINE && words[n] && words[n - 1] != ' ') n++;
        }
        bool is_last = ++line == MOST_LINES && words[n];
        snprintf(text, sizeof text, "%s%.*s%s", line > 1 ? "" : what, (int)n, words, is_last ? "..." : "");
        nb__add(out, "<tr><td align=\"left\"><font point-size=\"9\" color=\"%s\">", colour);
        nb__add_escaped(out, text);
        nb__add(out, "</font></td></tr>");
        if (is_last) return;
    }
}

/* 1843200 -> "1.84 MB". */
static void add_bytes(nb__text *out, int64_t bytes) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double                   n = (double)bytes;
    int                      i = 0;
    while (n >= 999.5 && i < 4) n /= 1000, i++;
    nb__add(out, "%.*f %s", i == 0 || n >= 99.95 ? 0 : n < 9.995 ? 2 : 1, n, unit[i]);
}

/* Shape, size and place of a value that the call leaves, or of a kept tensor. */
static void add_buffer(nb__text *out, const nb_buffer_info *b, int number, bool is_written) {
    bool is_kept = b->place == NB_IN_KEPT;
    nb__add(out, "<tr><td align=\"left\" port=\"b%d\" bgcolor=\"%s\"><font point-size=\"9\">", number,
            is_kept                    ? "#e8f5e9"
            : b->place == NB_IN_OUTPUT ? "#fff8d8"
                                       : "#ffffff");
    if (is_kept || b->place == NB_IN_OUTPUT) {
        nb__add(out, "%s<b>", is_written ? "&rarr; " : "");
        nb__add_escaped(out, b->name);
        nb__add(out, "</b> ");
    } else {
        nb__add(out, "&rarr; ");
    }
    nb__add_shape(out, b->shape);
    if (!is_kept) {
        nb__add(out, " <font color=\"" NB__GREY "\">");
        add_bytes(out, b->bytes);
        if (b->place == NB_IN_WORKSPACE) {
            nb__add(out, " at ");
            add_bytes(out, b->at);
        }
        nb__add(out, "</font>");
    }
    nb__add(out, "</font></td></tr>");
}

static bool is_written_too(const nb_call_info *c, int buffer) {
    for (int i = 0; i < c->n_writes; i++)
        if (c->writes[i] == buffer) return true;
    return false;
}

/* The last call before `user` that writes the buffer; -1: there is none. */
static int writer_of(nb_program *p, int buffer, int user) {
    for (int i = user - 1; i >= 0; i--) {
        nb_call_info c = nb_program_call(p, i);
        for (int k = 0; k < c.n_writes; k++)
            if (c.writes[k] == buffer) return i;
    }
    return -1;
}

/* Forward calls whose values a backward one reads again: their numbers. Arrows that far would hide the rest. */
static void add_sources(nb__text *out, nb_program *p, int number) {
    nb_call_info c = nb_program_call(p, number);
    bool         is_first = true;
    for (int i = 0; i < c.n_reads && is_back(&c); i++) {
        int from = writer_of(p, c.reads[i], number);
        if (from < 0) continue;
        nb_call_info w = nb_program_call(p, from);
        if (is_back(&w)) continue;
        nb__add(out, "%s%d", is_first ? "<tr><td align=\"left\"><font point-size=\"9\" color=\"#3b6fb6\">result of " : ", ",
                from + 1);
        is_first = false;
    }
    if (!is_first) nb__add(out, "</font></td></tr>");
}

static void add_call(nb__text *out, nb_program *p, int number) {
    nb_call_info c = nb_program_call(p, number);
    nb__add(out, "  c%d [shape=box style=\"rounded,filled\" %s%s label=<<table border=\"0\" cellspacing=\"0\" cellpadding=\"2\">",
            number,
            c.is_late       ? LATE
            : c.is_backward ? NB__BACKWARD
                            : NB__FORWARD,
            c.is_reference ? " penwidth=2 color=\"#c03030\"" : "");
    nb__add(out, "<tr><td align=\"left\"><font color=\"" NB__GREY "\">%d</font> <b>", number + 1);
    nb__add_escaped(out, c.kernel);
    nb__add(out, "</b></td></tr>");
    if (c.layers[0]) add_lines(out, strchr(c.layers, ',') ? "layers " : "layer ", c.layers, "#3b6fb6");
    if (c.groups[0]) add_lines(out, "", c.groups, NB__INK);
    add_lines(out, "", c.operators, NB__GREY);
    if (c.is_lasting) add_lines(out, "", "run when what it reads was written", "#4c9a52");
    for (int i = 0; i < c.n_reads; i++) {
        nb_buffer_info b = nb_program_buffer(p, c.reads[i]);
        if (b.place == NB_IN_KEPT && !is_written_too(&c, c.reads[i])) add_buffer(out, &b, c.reads[i], false);
    }
    add_sources(out, p, number);
    for (int i = 0; i < c.n_writes; i++) {
        nb_buffer_info b = nb_program_buffer(p, c.writes[i]);
        add_buffer(out, &b, c.writes[i], true);
    }
    nb__add(out, "</table>>]\n");
}

static void add_edges(nb__text *out, nb_program *p, int number) {
    nb_call_info c = nb_program_call(p, number);
    for (int i = 0; i < c.n_reads; i++) {
        int from = writer_of(p, c.reads[i], number);
        if (from < 0) continue;
        nb_call_info w = nb_program_call(p, from);
        if (is_back(&w))
            nb__add(out, "  c%d -> c%d [dir=back weight=3 color=\"%s\"]\n", number, from, c.is_late ? "#8cc091" : "#d9a066");
        else if (!is_back(&c))
            nb__add(out, "  c%d -> c%d [weight=12]\n", from, number);
    }
}

char *nb_draw_program(nb_program *p) {
    nb_program_info info = nb_program_describe(p);
    nb_context     *nb = nb_program_context(p);
    if (!nb || nb_error(nb) || !info.calls) return NULL;
    if (info.calls > MOST_CALLS) {
        nb_fail(nb, NB_INVALID, "nb_draw_program: %d calls are more than can be read (%d); draw a smaller net", info.calls,
                MOST_CALLS);
        return NULL;
    }
    nb__text out = {.nb = nb};
    bool     has_late = false;
    nb__add_head(&out, "LR");
    nb__add(&out, "  graph [nslimit=1]\n"); /* graphviz improves the places of a few hundred boxes for many minutes otherwise */
    for (int i = 0; i < info.calls; i++) {
        bool is_late = nb_program_call(p, i).is_late;
        if (is_late && !has_late)
            nb__add(&out, "  subgraph cluster_late { graph [style=\"dashed,rounded\" color=\"#4c9a52\" labeljust=l "
                          "label=\"after the point of no return: may change kept tensors\"]\n");
        has_late |= is_late;
        add_call(&out, p, i);
    }
    if (has_late) nb__add(&out, "  }\n");
    for (int i = 0; i < info.calls; i++) add_edges(&out, p, i);
    nb__add(&out, "  note [shape=plaintext style=\"\" label=\"%d calls", info.calls);
    if (info.blocks > 1) nb__add(&out, " for each of %d blocks of the batch", info.blocks);
    nb__add(&out, "; workspace ");
    add_bytes(&out, info.workspace_bytes);
    nb__add(&out, ", without sharing ");
    add_bytes(&out, info.unplanned_bytes + info.scratch_bytes);
    if (info.lasting_bytes) {
        nb__add(&out, "; lasting ");
        add_bytes(&out, info.lasting_bytes);
    }
    nb__add(&out, "\"]\n}\n");
    return nb__text_end(&out);
}
