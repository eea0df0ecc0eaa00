/* memory.c: the memory plan of a net's step: how many bytes of which kind, the largest values, and when they live. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Bytes of a program by kind. Those in the workspace are of the call at which most of it is in use. */
typedef struct plan {
    double parameters, slots, inputs, constants, outputs, lasting;
    double workspace, forward, backward, scratch, gaps, all, saved;
} plan;

static bool is_among(nb_list list, const nb_tensor *t) {
    for (int i = 0; i < list.n; i++)
        if (list.at[i] == t) return true;
    return false;
}

/* Whether b is written over at its last call by a value that takes its place: then only one of the two counts. */
static bool is_written_over(const nb_buffer_info *list, int n, const nb_buffer_info *b, int call) {
    if (b->last != call) return false;
    for (int i = 0; i < n; i++)
        if (list[i].place == NB_IN_WORKSPACE && list[i].first == call && list[i].at == b->at && &list[i] != b && b->first < call)
            return true;
    return false;
}

/* Values in the workspace while a call runs. */
static void add_live(const nb_buffer_info *list, int n, int call, double *forward, double *backward) {
    *forward = *backward = 0;
    for (int i = 0; i < n; i++) {
        const nb_buffer_info *b = &list[i];
        if (b->place != NB_IN_WORKSPACE || b->first > call || b->last < call || is_written_over(list, n, b, call)) continue;
        *(b->is_backward ? backward : forward) += (double)b->bytes;
    }
}

static plan make_plan(const cli_step *s, nb_list state, const nb_buffer_info *list, int n) {
    nb_program_info info = nb_program_describe(s->program);
    plan            p = {.workspace = (double)info.workspace_bytes,
                         .scratch = (double)info.scratch_bytes,
                         .lasting = (double)info.lasting_bytes};
    for (int i = 0; i < n; i++) {
        double bytes = (double)list[i].bytes;
        if (list[i].place == NB_IN_OUTPUT) p.outputs += bytes;
        if (list[i].place == NB_IN_CONSTANT) p.constants += bytes;
        if (list[i].place != NB_IN_KEPT) continue;
        if (list[i].kept == s->x || list[i].kept == s->labels)
            p.inputs += bytes;
        else if (is_among(state, list[i].kept))
            p.parameters += bytes;
        else
            p.slots += bytes;
    }
    for (int call = 0; call < info.calls; call++) {
        double forward, backward;
        add_live(list, n, call, &forward, &backward);
        if (forward + backward < p.forward + p.backward) continue;
        p.forward = forward;
        p.backward = backward;
    }
    p.gaps = p.workspace - p.forward - p.backward - p.scratch;
    p.all = p.parameters + p.slots + p.inputs + p.constants + p.outputs + p.lasting + p.workspace;
    p.saved = (double)info.unplanned_bytes + p.scratch - p.workspace;
    return p;
}

static nb_buffer_info *buffers_of(nb_context *nb, nb_program *p, int *n) {
    *n = nb_program_describe(p).buffers;
    nb_buffer_info *list = nb_alloc(nb, ((size_t)*n + 1) * sizeof *list);
    for (int i = 0; list && i < *n; i++) list[i] = nb_program_buffer(p, i);
    return list;
}

static void print_row(const char *name, double training, double trained) {
    char a[32], b[32];
    printf("%-44s %10s %14s\n", name, cli_scaled(training, "B", a), cli_scaled(trained, "B", b));
}

static void print_plans(const plan *a, const plan *b, int64_t batch) {
    char title[64];
    snprintf(title, sizeof title, "memory of a step with %lld item%s", (long long)batch, cli_s(batch));
    printf("%-44s %10s %14s\n", title, "training", "trained form");
    print_row("parameters and running values", a->parameters, b->parameters);
    print_row("optimiser (Adam)", a->slots, b->slots);
    print_row("inputs", a->inputs, b->inputs);
    print_row("outputs", a->outputs, b->outputs);
    print_row("constants", a->constants, b->constants);
    print_row("made of parameters, packed weights", a->lasting, b->lasting);
    print_row("workspace", a->workspace, b->workspace);
    print_row("    values of the forward part", a->forward, b->forward);
    print_row("    gradients", a->backward, b->backward);
    print_row("    scratch of kernels", a->scratch, b->scratch);
    print_row("    gaps", a->gaps, b->gaps);
    print_row("all", a->all, b->all);
    print_row("saved by values that share their place", a->saved, b->saved);
}

static int by_size(const void *a, const void *b) {
    const nb_buffer_info *x = a, *y = b;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes ? 1 : x->first - y->first;
}

/* The largest values in the workspace. `list` is put in order. */
static void print_largest(nb_buffer_info *list, int n, int calls) {
    enum { MOST = 10 };
    int shown = 0;
    qsort(list, (size_t)n, sizeof *list, by_size);
    printf("\n%-44s %10s %14s   of %d calls\n", "largest values of training", "bytes", "lives in", calls);
    for (int i = 0; i < n && shown < MOST; i++) {
        const nb_buffer_info *b = &list[i];
        char                  name[64], size[32], life[32], shape[64];
        if (b->place != NB_IN_WORKSPACE) continue;
        shown++;
        snprintf(name, sizeof name, "%s%s%s%s %s", b->layer, *b->layer ? (b->is_backward ? ", backward" : "") : "",
                 *b->layer ? ": " : "", b->name, cli_shape(b->shape, shape));
        snprintf(life, sizeof life, "%d to %d", b->first + 1, b->last + 1 < calls ? b->last + 1 : calls);
        printf("%-44s %10s %14s\n", name, cli_scaled((double)b->bytes, "B", size), life);
    }
}

bool cli_print_memory(nb_context *nb, nb_net *net, int64_t batch) {
    cli_step        training = {0}, trained = {0};
    nb_buffer_info *a = NULL, *b = NULL;
    int             n_a = 0, n_b = 0;
    bool            ok = cli_step_make(nb, net, batch, false, &training) && cli_step_make(nb, net, batch, true, &trained);
    if (ok) {
        a = buffers_of(nb, training.program, &n_a);
        b = buffers_of(nb, trained.program, &n_b);
    }
    ok = a && b && !nb_error(nb);
    if (ok) {
        nb_list state = nb_net_state(net);
        plan    p = make_plan(&training, state, a, n_a), q = make_plan(&trained, state, b, n_b);
        print_plans(&p, &q, batch);
        print_largest(a, n_a, nb_program_describe(training.program).calls);
        nb_next_step(nb);
    }
    nb_free(nb, a);
    nb_free(nb, b);
    return ok;
}
