/* profile.c: where the time of a program goes, as a table to read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { WIDTH = 64 }; /* of the last column */

typedef struct row {
    double seconds;
    int    call;
} row;

static int by_time(const void *a, const void *b) {
    const row *x = a, *y = b;
    return x->seconds > y->seconds ? -1 : x->seconds < y->seconds ? 1 : x->call - y->call;
}

/* Seconds that the call would take at the peaks: arithmetic or memory, whichever is slower. */
static double floor_of(const nb_call_info *c, const nb_machine *peak) {
    double arithmetic = peak->gflops > 0 ? c->flops / (peak->gflops * 1e9) : 0;
    double memory = peak->gbytes > 0 ? (c->bytes_read + c->bytes_written) / (peak->gbytes * 1e9) : 0;
    return arithmetic > memory ? arithmetic : memory;
}

/* The kept tensors that a call writes: "0.weight", "0.weight and 2 more". */
static void add_targets(nb__text *out, nb_program *p, const nb_call_info *c) {
    int         n = 0;
    const char *first = NULL;
    for (int i = 0; i < c->n_writes; i++) {
        nb_buffer_info b = nb_program_buffer(p, c->writes[i]);
        if (b.place != NB_IN_KEPT) continue;
        if (!first) first = b.name;
        n++;
    }
    if (first) nb__add(out, "-> %s", first);
    if (n > 1) nb__add(out, " and %d more", n - 1);
    if (first) nb__add(out, ": ");
}

/* "conv1, backward: conv2d_input_grad", cut to the width of the column. */
static void add_what(nb__text *out, nb_program *p, const nb_call_info *c) {
    size_t start = out->used;
    if (c->layers[0]) nb__add(out, "%s%s: ", c->layers, c->is_backward ? ", backward" : "");
    add_targets(out, p, c);
    if (c->groups[0])
        nb__add(out, "%s (%s)", c->groups, c->operators);
    else
        nb__add(out, "%s", c->operators);
    if (out->failed || out->used <= start + WIDTH) return;
    out->used = start + WIDTH - 3;
    nb__add(out, "...");
}

/* Of the first result, in a column of 14. */
static void add_shape(nb__text *out, nb_program *p, const nb_call_info *c) {
    size_t start = out->used;
    if (c->n_writes) {
        nb_dims d = nb_program_buffer(p, c->writes[0]).shape;
        for (int i = 0; i < d.rank; i++) nb__add(out, "%s%lld", i ? "x" : "", (long long)d.size[i]);
        if (!d.rank) nb__add(out, "scalar");
    }
    nb__add(out, "%*s", out->used - start < 15 ? (int)(15 - (out->used - start)) : 1, "");
}

static void add_row(nb__text *out, nb_program *p, const row *r, const nb_program_info *info, const nb_machine *peak) {
    nb_call_info c = nb_program_call(p, r->call);
    double       took = r->seconds / (double)info->runs;
    nb__add(out, "%9.4f %6.1f%%", took * 1e3, info->seconds > 0 ? 100 * r->seconds / info->seconds : 0);
    if (took > 0)
        nb__add(out, " %8.2f %7.2f %6.0f%%", c.flops / took * 1e-9, (c.bytes_read + c.bytes_written) / took * 1e-9,
                100 * floor_of(&c, peak) / took);
    else
        nb__add(out, " %8s %7s %7s", "", "", "");
    nb__add(out, "  %-20.20s ", c.is_reference ? "REFERENCE" : c.kernel);
    add_shape(out, p, &c);
    add_what(out, p, &c);
    nb__add(out, "\n");
}

static void add_table(nb__text *out, nb_program *p, const row *rows, const nb_program_info *info, const nb_machine *peak,
                      int most) {
    double  in_calls = 0, rest = 0, at_peak = 0, by_reference = 0, in_lasting = 0, run = (double)info->runs;
    int     shown = most > 0 && most < info->calls ? most : info->calls, slow = 0, lasting = 0;
    int64_t ran = 0; /* the lasting ones, in how many runs */
    nb__add(out, "%9s %7s %8s %7s %7s  %-20s %-14s %s\n", "ms", "share", "GFLOP/s", "GB/s", "peak", "kernel", "result",
            "layers and operators");
    for (int i = 0; i < info->calls; i++) {
        nb_call_info c = nb_program_call(p, rows[i].call);
        in_calls += rows[i].seconds;
        at_peak += c.runs ? floor_of(&c, peak) : 0;
        slow += c.is_reference;
        lasting += c.is_lasting;
        if (c.is_lasting) in_lasting += rows[i].seconds;
        if (c.is_lasting && c.runs > ran) ran = c.runs;
        if (c.is_reference) by_reference += rows[i].seconds;
        if (i < shown)
            add_row(out, p, &rows[i], info, peak);
        else
            rest += rows[i].seconds;
    }
    double all = info->seconds > 0 ? info->seconds : 1, outside = info->seconds - in_calls;
    if (shown < info->calls)
        nb__add(out, "%9.4f %6.1f%% %41s in %d more\n", rest / run * 1e3, 100 * rest / all, "", info->calls - shown);
    nb__add(out, "\n%9.4f %6.1f%%  in %d calls", in_calls / run * 1e3, 100 * in_calls / all, info->calls);
    if (info->blocks > 1) nb__add(out, " for each of %d blocks of the batch", info->blocks);
    nb__add(out, "; at the peaks they would take %.4f ms\n", at_peak * 1e3);
    if (slow)
        nb__add(out, "%9.4f %6.1f%%  of these in %d by REFERENCE, the plain loops of operators\n", by_reference / run * 1e3,
                100 * by_reference / all, slow);
    if (lasting)
        nb__add(out,
                "%9.4f %6.1f%%  of these in %d of parameters alone, which run when those were written: in %lld of %lld runs\n",
                in_lasting / run * 1e3, 100 * in_lasting / all, lasting, (long long)ran, (long long)info->runs);
    nb__add(out, "%9.4f %6.1f%%  outside of the calls: checks, and what is copied at the end\n", outside / run * 1e3,
            100 * outside / all);
    nb__add(out, "%9.4f          a run, mean of %lld\n", info->seconds / run * 1e3, (long long)info->runs);
    nb__add(out,
            "peak: %.1f GFLOP/s or %.1f GB/s, whichever limits a call; above 100%% its data come from a cache, or it needs fewer "
            "operations than it counts\n",
            peak->gflops, peak->gbytes);
}

char *nb_draw_profile(nb_program *p, const nb_machine *peak, int rows) {
    nb_program_info info = nb_program_describe(p);
    if (!p || !info.calls) return NULL;
    nb_context *nb = nb_program_context(p);
    if (nb_error(nb)) return NULL;
    if (!info.runs) {
        nb_fail(nb, NB_INVALID, "nb_draw_profile: no run was timed; call nb_program_profile(program, true) before nb_run");
        return NULL;
    }
    row *list = nb_alloc(nb, (size_t)info.calls * sizeof *list);
    if (!list) return NULL;
    for (int i = 0; i < info.calls; i++) list[i] = (row){nb_program_call(p, i).seconds, i};
    qsort(list, (size_t)info.calls, sizeof *list, by_time);
    nb__text out = {.nb = nb};
    add_table(&out, p, list, &info, peak ? peak : &(nb_machine){0}, rows);
    nb_free(nb, list);
    return nb__text_end(&out);
}
