/* onednn.c: oneDNN's primitives (oneDNN 2.6, C API). */
#include "onednn.h"

#if NB_DNNL
#include <string.h>

/* Of OpenMP's run time; <omp.h> may not be there without -fopenmp. */
void omp_set_num_threads(int n);
int  omp_get_max_threads(void);

int nb__dnnl_enter(void) {
    int threads = omp_get_max_threads();
    if (threads != 1) omp_set_num_threads(1);
    return threads;
}

void nb__dnnl_leave(int threads) {
    if (threads != 1) omp_set_num_threads(threads);
}

dnnl_memory_desc_t nb__dnnl_strided(int rank, const int64_t *shape, const int64_t *stride) {
    dnnl_memory_desc_t m;
    memset(&m, 0, sizeof m);
    if (dnnl_memory_desc_init_by_strides(&m, rank, shape, dnnl_f32, stride) != dnnl_success) m.ndims = 0;
    return m;
}

dnnl_memory_desc_t nb__dnnl_any(int rank, const int64_t *shape) {
    dnnl_memory_desc_t m;
    memset(&m, 0, sizeof m);
    if (dnnl_memory_desc_init_by_tag(&m, rank, shape, dnnl_f32, dnnl_format_tag_any) != dnnl_success) m.ndims = 0;
    return m;
}

/* What all primitives are made of. */
static bool begin(nb__primitive *p) {
    *p = (nb__primitive){.n = 0};
    return dnnl_engine_create(&p->engine, dnnl_cpu, 0) == dnnl_success &&
           dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) == dnnl_success;
}

/* Scratch memory is handed in: that is what lets a primitive run in several threads. */
static dnnl_primitive_attr_t attributes(void) {
    dnnl_primitive_attr_t a = NULL;
    if (dnnl_primitive_attr_create(&a) != dnnl_success) return NULL;
    if (dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user) == dnnl_success) return a;
    dnnl_primitive_attr_destroy(a);
    return NULL;
}

static bool finish(nb__primitive *p, const_dnnl_primitive_desc_t d) {
    const char *name = "";
    for (int i = 0; i < p->n; i++) {
        const dnnl_memory_desc_t *m = dnnl_primitive_desc_query_md(d, dnnl_query_exec_arg_md, p->arg[i]);
        if (!m) return false;
        p->memory[i] = *m;
    }
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    if (scratch) p->scratch = *scratch;
    p->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    dnnl_primitive_desc_query(d, dnnl_query_impl_info_str, 0, &name);
    p->is_slow = strncmp(name, "ref", 3) == 0 || strstr(name, ":ref") != NULL;
    return dnnl_primitive_create(&p->primitive, d) == dnnl_success;
}

/* The memory objects, pointing nowhere yet. */
static bool make_objects(nb_context *nb, nb__primitive *p, int threads) {
    p->object = nb_alloc(nb, (size_t)(threads * (p->n + 1)) * sizeof *p->object);
    if (!p->object) return false;
    p->threads = threads;
    for (int i = 0; i < threads * (p->n + 1); i++) {
        int arg = i % (p->n + 1);
        if (dnnl_memory_create(&p->object[i], arg < p->n ? &p->memory[arg] : &p->scratch, p->engine, DNNL_MEMORY_NONE) !=
            dnnl_success)
            return false;
    }
    return true;
}

bool nb__primitive_make(nb_context *nb, nb__primitive *p, const void *operation, int n, const int *arg, int threads) {
    dnnl_primitive_attr_t a = attributes();
    dnnl_primitive_desc_t d = NULL;
    bool                  good = begin(p) && a && dnnl_primitive_desc_create(&d, operation, a, p->engine, NULL) == dnnl_success;
    p->n = n;
    for (int i = 0; i < n; i++) p->arg[i] = arg[i];
    good = good && finish(p, d) && make_objects(nb, p, threads);
    if (d) dnnl_primitive_desc_destroy(d);
    if (a) dnnl_primitive_attr_destroy(a);
    if (!good) nb__primitive_free(nb, p);
    return good;
}

bool nb__reorder_make(nb_context *nb, nb__primitive *p, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to) {
    dnnl_primitive_attr_t a = attributes();
    dnnl_primitive_desc_t d = NULL;
    bool good = begin(p) && a && dnnl_reorder_primitive_desc_create(&d, from, p->engine, to, p->engine, a) == dnnl_success;
    p->n = 2;
    p->arg[0] = DNNL_ARG_FROM;
    p->arg[1] = DNNL_ARG_TO;
    good = good && finish(p, d) && make_objects(nb, p, 1);
    p->is_slow = false;
    if (d) dnnl_primitive_desc_destroy(d);
    if (a) dnnl_primitive_attr_destroy(a);
    if (!good) nb__primitive_free(nb, p);
    return good;
}

void nb__primitive_free(nb_context *nb, nb__primitive *p) {
    for (int i = 0; i < p->threads * (p->n + 1); i++)
        if (p->object[i]) dnnl_memory_destroy(p->object[i]);
    nb_free(nb, p->object);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    *p = (nb__primitive){.n = 0};
}

bool nb__primitive_run(const nb__primitive *p, void *const *data, void *scratch, int thread) {
    dnnl_exec_arg_t args[NB__DNNL_ARGS + 1];
    bool            good = true;
    for (int i = 0; i <= p->n && good; i++) {
        args[i] = (dnnl_exec_arg_t){i < p->n ? p->arg[i] : DNNL_ARG_SCRATCHPAD, p->object[thread * (p->n + 1) + i]};
        good = dnnl_memory_set_data_handle(args[i].memory, i < p->n ? data[i] : scratch) == dnnl_success;
    }
    return good && dnnl_primitive_execute(p->primitive, p->stream, p->n + (p->scratch_bytes > 0), args) == dnnl_success;
}

#endif
