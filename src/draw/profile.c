/* profile.c: where the time of a program goes, as a table to read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { WIDTH = 56 }; /* of the last column */

/* Calls that are alike: the steps of a recurrent net. */
typedef struct row {
    nb_call_info first;
    int          call, calls; /* the number of the first; how many */
    double       seconds, flops, bytes, at_peak;
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

static nb_dims shape_of(nb_program *p, const nb_call_info *c) {
    return c->n_writes ? nb_program_buffer(p, c->writes[0]).shape : nb_dims_of(0, NULL);
}

static bool writes_kept(nb_program *p, const nb_call_info *c) {
    for (int i = 0; i < c->n_writes; i++)
        if (nb_program_buffer(p, c->writes[i]).place == NB_IN_KEPT) return true;
    return false;
}

/* Whether two calls would look the same in the table. */
static bool are_alike(nb_program *p, const nb_call_info *a, const nb_call_info *b) {
    nb_dims x = shape_of(p, a), y = shape_of(p, b);
    return strcmp(a->kernel, b->kernel) == 0 && strcmp(a->operators, b->operators) == 0 && strcmp(a->layers, b->layers) == 0 &&
           strcmp(a->groups, b->groups) == 0 && a->is_backward == b->is_backward && a->is_lasting == b->is_lasting &&
           a->n_writes == b->n_writes && x.rank == y.rank && memcmp(x.size, y.size, (size_t)x.rank * sizeof *x.size) == 0 &&
           !writes_kept(p, a) && !writes_kept(p, b);
}

/* All calls, those alike in one row; the longest first. How many rows. */
static int make_rows(nb_program *p, int calls, const nb_machine *peak, row *rows) {
    int n = 0;
    for (int i = 0; i < calls; i++) {
        nb_call_info c = nb_program_call(p, i);
        int          at = 0;
        while (at < n && !are_alike(p, &rows[at].first, &c)) at++;
        if (at == n) rows[n++] = (row){.first = c, .call = i};
        rows[at].calls++;
        rows[at].seconds += c.seconds;
        rows[at].flops += c.flops;
        rows[at].bytes += c.bytes_read + c.bytes_written;
        rows[at].at_peak += floor_of(&c, peak);
    }
    qsort(rows, (size_t)n, sizeof *rows, by_time);
    return n;
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

static void add_row(nb__text *out, nb_program *p, const row *r, const nb_program_info *info) {
    const nb_call_info *c = &r->first;
    double              took = r->seconds / (double)info->runs;
    nb__add(out, "%9.4f %6.1f%%", took * 1e3, info->seconds > 0 ? 100 * r->seconds / info->seconds : 0);
    if (took > 0)
        nb__add(out, " %8.2f %7.2f %6.0f%%", r->flops / took * 1e-9, r->bytes / took * 1e-9, 100 * r->at_peak / took);
    else
        nb__add(out, " %8s %7s %7s", "", "", "");
    nb__add(out, " %5d  %-31.31s ", r->calls, c->is_reference ? "REFERENCE" : c->kernel);
    add_shape(out, p, c);
    add_what(out, p, c);
    nb__add(out, "\n");
}

static void add_table(nb__text *out, nb_program *p, const row *rows, int n, const nb_program_info *info, const nb_machine *peak,
                      int most) {
    double  in_calls = 0, rest = 0, at_peak = 0, by_reference = 0, in_lasting = 0, run = (double)info->runs;
    int     shown = most > 0 && most < n ? most : n, hidden = 0, slow = 0, lasting = 0;
    int64_t ran = 0; /* the lasting ones, in how many runs */
    nb__add(out, "%9s %7s %8s %7s %7s %5s  %-31s %-14s %s\n", "ms", "share", "GFLOP/s", "GB/s", "peak", "calls", "kernel",
            "result", "layers and operators");
    for (int i = 0; i < n; i++) {
        const row          *r = &rows[i];
        const nb_call_info *c = &r->first;
        in_calls += r->seconds;
        at_peak += c->runs ? r->at_peak : 0;
        slow += c->is_reference ? r->calls : 0;
        lasting += c->is_lasting ? r->calls : 0;
        if (c->is_lasting) in_lasting += r->seconds;
        if (c->is_lasting && c->runs > ran) ran = c->runs;
        if (c->is_reference) by_reference += r->seconds;
        if (i < shown) {
            add_row(out, p, r, info);
        } else {
            rest += r->seconds;
            hidden += r->calls;
        }
    }
    double all = info->seconds > 0 ? info->seconds : 1, outside = info->seconds - in_calls;
    if (hidden)
        nb__add(out, "%9.4f %6.1f%% %24s %5d  more\n", rest / run * 1e3, 100 * rest / all, "", hidden);
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
    const nb_machine unknown = {0}, *best = peak ? peak : &unknown;
    int              n = make_rows(p, info.calls, best, list);
    nb__text         out = {.nb = nb};
    add_table(&out, p, list, n, &info, best, rows);
    nb_free(nb, list);
    return nb__text_end(&out);
}
