/* open.c: contexts with threads and kernels, and programs as the user sees them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <zlib.h>

#if NB_DNNL
#include <oneapi/dnnl/dnnl_version.h>
#endif

#include "run.h"

/* What the reference runs on until a context has found its kernels. */
static const nb__isa no_kernels = {.name = "reference"};

static void choose_kernels(nb_context *nb, const char *name) {
    const char *wanted = name ? name : getenv("NABLA_KERNELS");
    if (wanted && !*wanted) wanted = NULL;
    nb->isa = nb__isa_find(wanted);
    if (nb->isa) return;
    nb->isa = &no_kernels;
    nb_fail(nb, NB_INVALID, "kernels \"%s\": there are reference, baseline, v3 and v4, and this processor has them up to %s",
            wanted, nb__isa_find(NULL)->name);
}

static void make_pool(nb_context *nb, const nb_options *o) {
    if (o->pool || o->threads == 0 || o->threads == 1) {
        nb->pool = o->pool;
    } else if (o->threads < 0 || o->threads > 1024) {
        nb_fail(nb, NB_INVALID, "threads: %d is not between 1 and 1024", o->threads);
    } else {
        nb->pool = nb_pool_new(o->threads);
        nb->pool_is_own = true;
        if (!nb->pool) nb_fail(nb, NB_NO_MEMORY, "cannot start %d threads", o->threads);
    }
}

nb_context *nb_open(const nb_options *options) {
    nb_options        defaults = {0};
    const nb_options *o = options ? options : &defaults;
    nb_context       *nb = nb__context_new(o);
    if (!nb) return NULL;
    nb->isa = &no_kernels;
    nb->inert = nb_alloc(nb, sizeof *nb->inert);
    if (!nb->inert) {
        nb__context_free(nb);
        return NULL;
    }
    nb->inert->nb = nb;
    choose_kernels(nb, o->kernels);
    make_pool(nb, o);
    nb__parse_passes(nb, getenv("NABLA_PASSES"), &(nb__compile){0}); /* a wrong word is told here, not at the first program */
    return nb;
}

void nb_close(nb_context *nb) {
    if (!nb) return;
    nb__cache_free(nb);
    nb_free(nb, nb->inert);
    nb_pool *pool = nb->pool_is_own ? nb->pool : NULL;
    nb__context_free(nb);
    nb_pool_free(pool);
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#if NB_DNNL
#define CONTRACTIONS "oneDNN " TEXT(DNNL_VERSION_MAJOR) "." TEXT(DNNL_VERSION_MINOR) "." TEXT(DNNL_VERSION_PATCH) ", "
#else
#define CONTRACTIONS ""
#endif

const char *nb_libraries(void) { return CONTRACTIONS "zlib " ZLIB_VERSION ", jansson " JANSSON_VERSION; }

int         nb_threads(nb_context *nb) { return nb__pool_threads(nb->pool); }
const char *nb_kernels(nb_context *nb) { return nb->isa->name; }

nb_machine nb_measure_machine(nb_context *nb) {
    if (nb->status != NB_OK || !nb__has_threads(nb, "nb_measure_machine")) return (nb_machine){0};
    return nb__measure_machine(nb, nb->isa, nb->pool);
}

/* ------------------------------------------------------------------------------------------------------------------- programs */

static void close_program(void *object) { nb__program_free(object); }

/* Memory for results, and the context's ownership. */
static nb_program *finish(nb_context *nb, nb_program *p) {
    if (p && p->is_good) {
        for (int i = 0; i < p->n_roots && p->is_good; i++) {
            if (p->root[i] < 0) continue;
            p->result[i] = nb__program_alloc(p, nb_bytes(p->output[i]));
            p->is_good = p->result[i] != NULL;
        }
    }
    if (p && !nb_own(nb, p, close_program)) p = NULL;
    const char *profile = getenv("NABLA_PROFILE");
    if (p && profile && *profile && strcmp(profile, "0") != 0) nb_program_profile(p, true);
    return p ? p : nb->inert;
}

nb_program *nb_compile_with(nb_context *nb, nb_list roots, const nb_compile_options *options) {
    nb_compile_options        defaults = {0};
    const nb_compile_options *o = options ? options : &defaults;
    nb__compile               how = {.check_finite = o->check_finite};
    nb__parse_passes(nb, o->passes ? o->passes : getenv("NABLA_PASSES"), &how);
    return finish(nb, nb__compile_graph(nb, roots, &how));
}

static bool reads(const nb_program *p, const nb_tensor *kept) {
    for (int i = 0; i < p->n_kept; i++)
        if (p->kept[i] == kept->storage) return true;
    return false;
}

static bool may_share(nb_context *nb, const nb_program *p, nb_list inputs, nb_list own) {
    if (!p || !p->is_good)
        nb_fail(nb, NB_INVALID, "nb_program_share: the program did not compile");
    else if (p->n_commits)
        nb_fail(nb, NB_INVALID, "nb_program_share: the program changes kept tensors, which only one thread can do");
    else if (p->nb->isa != nb->isa)
        nb_fail(nb, NB_INVALID, "nb_program_share: the contexts have kernels %s and %s", p->nb->isa->name, nb->isa->name);
    else if (inputs.n != own.n)
        nb_fail(nb, NB_INVALID, "nb_program_share: %d inputs, but %d of its own", inputs.n, own.n);
    for (int i = 0; i < inputs.n && nb->status == NB_OK; i++) {
        const nb_tensor *a = inputs.at[i], *b = own.at[i];
        if (!a || !a->storage || !reads(p, a))
            nb_fail(nb, NB_INVALID, "nb_program_share: the program does not read input %d", i);
        else if (!b || !b->storage || b->nb != nb)
            nb_fail(nb, NB_INVALID, "nb_program_share: own input %d is no kept tensor of this context", i);
        else if (a->dtype != b->dtype || !nb__dims_equal(a->shape, b->shape))
            nb_fail(nb, NB_INVALID, "nb_program_share: input %d is %s %s, its own %s %s", i, nb_dtype_name(a->dtype),
                    nb__dims_text(a->shape).at, nb_dtype_name(b->dtype), nb__dims_text(b->shape).at);
    }
    return nb->status == NB_OK;
}

nb_program *nb_program_share(nb_context *nb, nb_program *p, nb_list inputs, nb_list own) {
    if (nb->status != NB_OK || !may_share(nb, p, inputs, own)) return nb->inert;
    return finish(nb, nb__copy_program(nb, p, inputs, own));
}

nb_program *nb_compile(nb_context *nb, nb_list roots) { return nb_compile_with(nb, roots, NULL); }

void nb_program_free(nb_program *p) {
    if (!p || p == p->nb->inert) return;
    nb_disown(p->nb, p);
    nb__program_free(p);
}

nb_tensor *nb_output(nb_program *p, int i) {
    if (!p) return NULL;
    if (!p->is_good) return nb_failed(p->nb);
    if (i < 0 || i >= p->n_roots)
        return nb_fail(p->nb, NB_INVALID, "nb_output: the program has results 0 to %d, not %d", p->n_roots - 1, i);
    return p->output[i];
}
