/* describe.c: programs for people to look at: their calls, their buffers, where the time goes.
 *
 * A program's own tables are for running; what people ask is put together here, once, when somebody asks. Time is taken between
 * calls only while nb_program_profile is on: one reading of the clock a call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops.h"
#include "run.h"

/* ----------------------------------------------------------------------------------------------------------------------- time */

struct nb__profile {
    bool     is_on;
    int64_t  runs;
    double   total, mark; /* seconds in runs; when the last call ended */
    double  *seconds;     /* of each call */
    int64_t *ran;         /* how often */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool nb__profile_starts(const nb_program *p) {
    if (!p->profile || !p->profile->is_on) return false;
    p->profile->mark = now();
    return true;
}

void nb__profile_skip(const nb_program *p) {
    double end = now();
    p->profile->total += end - p->profile->mark;
    p->profile->mark = end;
}

void nb__profile_call(const nb_program *p, int call) {
    struct nb__profile *f = p->profile;
    double              end = now();
    f->seconds[call] += end - f->mark;
    f->ran[call]++;
    f->total += end - f->mark;
    f->mark = end;
}

void nb__profile_ends(const nb_program *p) {
    nb__profile_skip(p);
    p->profile->runs++;
}

bool nb_program_profile(nb_program *p, bool on) {
    if (!p || !p->is_good || p->nb->status != NB_OK) return false;
    if (!p->profile) {
        if (!on) return true;
        struct nb__profile *f = nb__program_alloc(p, sizeof *f);
        double             *seconds = nb__program_alloc(p, ((size_t)p->n_steps + 1) * sizeof *seconds);
        int64_t            *ran = nb__program_alloc(p, ((size_t)p->n_steps + 1) * sizeof *ran);
        if (!f || !seconds || !ran) return false;
        *f = (struct nb__profile){.seconds = seconds, .ran = ran};
        p->profile = f;
    }
    if (on) {
        p->profile->runs = 0;
        p->profile->total = 0;
        memset(p->profile->seconds, 0, (size_t)p->n_steps * sizeof *p->profile->seconds);
        memset(p->profile->ran, 0, (size_t)p->n_steps * sizeof *p->profile->ran);
    }
    p->profile->is_on = on;
    return true;
}

/* -------------------------------------------------------------------------------------------------------------------- buffers */

struct nb__description {
    nb_call_info   *call;
    int             n_buffers;
    nb_buffer_info *buffer;
    double          contractions; /* flops */
    int            *shown;        /* the program's buffer -> its number here; kept storage is one buffer, read or written */
};

static nb_tensor *header_of(const nb_context *nb, const nb__storage *storage) {
    for (nb_tensor *t = nb->kept; t; t = t->next)
        if (t->storage == storage) return t;
    return NULL;
}

/* Kept tensors first, then the program's other buffers in their order. */
static void describe_buffers(const nb_program *p, struct nb__description *d) {
    for (int i = 0; i < p->n_kept; i++) {
        nb_tensor *t = header_of(p->nb, p->kept[i]);
        d->buffer[i] = (nb_buffer_info){.place = NB_IN_KEPT,
                                        .kept = t,
                                        .name = p->kept_name[i],
                                        .layer = "",
                                        .dtype = t ? t->dtype : NB_F32,
                                        .shape = t ? t->shape : (nb_dims){.rank = 0},
                                        .bytes = (int64_t)p->kept[i]->bytes,
                                        .last = p->n_steps};
    }
    d->n_buffers = p->n_kept;
    for (int b = 0; b < p->n_buffers; b++) {
        const nb__buffer *from = &p->buffer[b];
        if (from->place == NB__IN_KEPT || from->place == NB__IN_COMMIT) {
            for (int i = 0; i < p->n_kept; i++)
                if (p->kept[i] == from->storage) d->shown[b] = i;
            continue;
        }
        nb_buffer_info *to = &d->buffer[d->shown[b] = d->n_buffers++];
        *to = (nb_buffer_info){.name = "", .layer = "", .bytes = (int64_t)from->bytes, .first = -1};
        to->place = from->place == NB__IN_WORKSPACE ? NB_IN_WORKSPACE
                    : from->place == NB__IN_LASTING ? NB_IN_LASTING
                    : from->place == NB__IN_OUTPUT  ? NB_IN_OUTPUT
                                                    : NB_IN_CONSTANT;
        if (to->place == NB_IN_WORKSPACE) to->at = (int64_t)from->at;
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const nb__node *n = &p->node[i];
        if (n->buffer < 0 || n->is_dead || n->base != i || n->has_home || n->source == NB__KEPT_LEAF) continue;
        nb_buffer_info *b = &d->buffer[d->shown[n->buffer]];
        if (b->place == NB_IN_KEPT) continue;
        b->name = n->source == NB__COMPUTED || n->op != &nb__op_data ? n->op->name : "data";
        b->layer = n->scope ? n->scope->path : "";
        b->is_backward = n->is_backward;
        b->dtype = n->dtype;
        b->shape = n->shape;
    }
    for (int i = 0; i < p->n_roots; i++)
        if (p->root[i] >= 0 && p->output[i]->name[0]) d->buffer[d->shown[p->node[p->root[i]].buffer]].name = p->output[i]->name;
}

/* From the call that writes a buffer first to the last one that touches it, or to the end of the run. */
static void find_lifetimes(const nb_program *p, struct nb__description *d) {
    for (int s = 0; s < p->n_steps; s++) {
        const nb__step *step = &p->step[s];
        for (int k = 0; k < step->call.c.n_in + step->call.n_out; k++) {
            nb_buffer_info *b = &d->buffer[d->shown[step->buffer[k]]];
            if (b->place == NB_IN_KEPT) continue;
            if (b->first < 0) b->first = s;
            b->last = s;
        }
    }
    for (int c = 0; c < p->n_commits; c++) d->buffer[d->shown[p->node[p->commit[c].node].buffer]].last = p->n_steps;
    for (int i = 0; i < p->n_watched; i++) {
        int b = p->node[p->node[p->watched[i]].base].buffer;
        if (b >= 0 && d->buffer[d->shown[b]].last < p->n_steps) d->buffer[d->shown[b]].last = p->n_steps;
    }
    for (int i = 0; i < d->n_buffers; i++) {
        nb_buffer_info *b = &d->buffer[i];
        if (b->first < 0) b->first = 0;
        if (b->place != NB_IN_WORKSPACE && b->place != NB_IN_KEPT) b->last = p->n_steps;
        if (b->place == NB_IN_CONSTANT) b->first = 0;
    }
}

/* ---------------------------------------------------------------------------------------------------------------------- calls */

/* A text of words, each once with a count: "sub, exp, mul (3)". */
typedef struct words {
    int         n, many[NB__REGION_MAX];
    const char *word[NB__REGION_MAX];
} words;

static void add_word(words *w, const char *word) {
    int i = 0;
    if (!word || !*word) return;
    while (i < w->n && strcmp(w->word[i], word) != 0) i++;
    if (i == NB__REGION_MAX) return;
    if (i == w->n) {
        w->word[i] = word;
        w->many[w->n++] = 0;
    }
    w->many[i]++;
}

static const char *text_of(nb_program *p, const words *w, bool counts) {
    size_t room = 1, used = 0;
    for (int i = 0; i < w->n; i++) room += strlen(w->word[i]) + 16;
    char *text = nb__program_alloc(p, room);
    if (!text) return NULL;
    for (int i = 0; i < w->n; i++) {
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? ", " : "", w->word[i]);
        if (counts && w->many[i] > 1) used += (size_t)snprintf(text + used, room - used, " (%d)", w->many[i]);
    }
    return text;
}

/* Arithmetic of one node, as nb_op.flops counts it, but for what a product with triangles leaves out. */
static double flops_of(const nb_program *p, const nb__node *n) {
    enum { MOST = 8 };
    nb_tensor in[MOST], *list[MOST];
    nb_tensor y = {
        .op = n->op, .shape = n->shape, .dtype = n->dtype, .attr = (void *)(uintptr_t)n->attr, .n_in = n->n_in, .in = list};
    if (!n->op->flops) return (double)nb__dims_count(n->shape);
    for (int k = 0; k < MOST && k < n->n_in; k++) {
        in[k] = (nb_tensor){.shape = p->node[n->in[k]].shape, .dtype = p->node[n->in[k]].dtype};
        list[k] = &in[k];
    }
    if (n->op != &nb__op_matmul) return n->op->flops(&y);
    return n->op->flops(&y) * nb__triangle_share(in[0].shape, n->triangles.a) * nb__triangle_share(in[1].shape, n->triangles.b) *
           nb__triangle_share(n->shape, n->triangles.c);
}

/* What a kernel must move at least: what is repeated by strides of 0 counts once. */
static double bytes_of(const nb_array *a) {
    double n = (double)nb_dtype_size(a->dtype);
    for (int i = 0; i < a->rank; i++)
        if (a->stride[i] || !a->shape[i]) n *= (double)a->shape[i];
    return n;
}

/* The different buffers of some arrays, into `list`; how many. */
static int list_buffers(const struct nb__description *d, const int *buffer, int n, int *list) {
    int m = 0;
    for (int k = 0; k < n; k++) {
        int i = 0;
        while (i < m && list[i] != d->shown[buffer[k]]) i++;
        if (i == m) list[m++] = d->shown[buffer[k]];
    }
    return m;
}

static bool describe_call(nb_program *p, struct nb__description *d, int number) {
    nb__step       *s = &p->step[number];
    nb_call_info   *c = &d->call[number];
    int             n_in = s->call.c.n_in, n_out = s->call.n_out;
    words           operators = {0}, layers = {0}, groups = {0};
    int             times = s->lasts ? 1 : nb__blocks(p); /* in a run */
    const nb__node *last = &p->node[s->node[s->n_nodes - 1]];
    *c = (nb_call_info){.kernel = s->plan.run ? s->plan.kernel : "reference",
                        .is_backward = last->is_backward,
                        .is_late = s->is_late,
                        .is_lasting = s->lasts,
                        .is_reference = !s->plan.run};
    for (int k = 0; k < s->n_nodes; k++) {
        const nb__node *n = &p->node[s->node[k]];
        add_word(&operators, n->op->name);
        add_word(&groups, n->scope ? n->scope->group : "");
        add_word(&layers, n->scope ? n->scope->path : "");
        double flops = flops_of(p, n) * times;
        c->flops += flops;
        if (n->op->kind == NB_CONTRACTION && !s->lasts) d->contractions += flops;
    }
    /* What is joined is where it belongs already: nothing moves. */
    for (int k = 0; k < n_in + n_out && !last->is_joined; k++)
        *(k < n_in ? &c->bytes_read : &c->bytes_written) += bytes_of(&s->array[k]) * times;
    int *list = nb__program_alloc(p, (size_t)(n_in + n_out + 1) * sizeof *list);
    c->operators = text_of(p, &operators, true);
    c->groups = text_of(p, &groups, false);
    c->layers = text_of(p, &layers, false);
    if (!list || !c->operators || !c->groups || !c->layers) return false;
    c->reads = list;
    c->n_reads = list_buffers(d, s->buffer, n_in, list);
    c->writes = list + c->n_reads;
    c->n_writes = list_buffers(d, s->buffer + n_in, n_out, list + c->n_reads);
    return true;
}

/* NULL: the context has failed. */
static const struct nb__description *describe(nb_program *p) {
    if (!p || !p->is_good || p->nb->status != NB_OK) return NULL;
    if (p->description) return p->description;
    struct nb__description *d = nb__program_alloc(p, sizeof *d);
    if (!d) return NULL;
    d->call = nb__program_alloc(p, ((size_t)p->n_steps + 1) * sizeof *d->call);
    d->buffer = nb__program_alloc(p, ((size_t)p->n_buffers + (size_t)p->n_kept + 1) * sizeof *d->buffer);
    d->shown = nb__program_alloc(p, ((size_t)p->n_buffers + 1) * sizeof *d->shown);
    if (!d->call || !d->buffer || !d->shown) return NULL;
    describe_buffers(p, d);
    find_lifetimes(p, d);
    for (int s = 0; s < p->n_steps; s++)
        if (!describe_call(p, d, s)) return NULL;
    return p->description = d;
}

/* ------------------------------------------------------------------------------------------------------------------ interface */

nb_context *nb_program_context(const nb_program *p) { return p ? p->nb : NULL; }

nb_program_info nb_program_describe(nb_program *p) {
    if (!p) return (nb_program_info){0};
    nb_program_info info = {.calls = p->n_steps,
                            .blocks = nb__blocks(p),
                            .workspace_bytes = (int64_t)p->workspace_bytes,
                            .unplanned_bytes = (int64_t)p->unplanned_bytes,
                            .scratch_bytes = (int64_t)(p->workspace_bytes - p->scratch_at),
                            .lasting_bytes = (int64_t)(p->lasting_bytes + p->prepared_bytes),
                            .output_bytes = (int64_t)p->output_bytes};
    for (int i = 0; i < p->n_kept; i++) info.kept_bytes += (int64_t)p->kept[i]->bytes;
    const struct nb__description *d = describe(p);
    if (d) {
        info.buffers = d->n_buffers;
        info.flops = d->contractions;
    }
    if (p->profile) {
        info.runs = p->profile->runs;
        info.seconds = p->profile->total;
    }
    return info;
}

nb_call_info nb_program_call(nb_program *p, int i) {
    const struct nb__description *d = describe(p);
    if (d && i >= 0 && i < p->n_steps) {
        nb_call_info c = d->call[i];
        if (p->profile) {
            c.seconds = p->profile->seconds[i];
            c.runs = p->profile->ran[i] / (c.is_lasting ? 1 : nb__blocks(p));
        }
        return c;
    }
    if (d)
        nb_fail(p->nb, NB_INVALID, "nb_program_call: the program has %d calls, counted from 0; there is no call %d", p->n_steps,
                i);
    return (nb_call_info){.kernel = "", .operators = "", .layers = "", .groups = ""};
}

nb_buffer_info nb_program_buffer(nb_program *p, int i) {
    const struct nb__description *d = describe(p);
    if (d && i >= 0 && i < d->n_buffers) return d->buffer[i];
    if (d)
        nb_fail(p->nb, NB_INVALID, "nb_program_buffer: the program has %d buffers, counted from 0; there is no buffer %d",
                d->n_buffers, i);
    return (nb_buffer_info){.name = "", .layer = ""};
}
