/* matmul.c: matrix products of f32 by oneDNN; see gemm.c for own ones.
 *
 * oneDNN takes large products whose operands are dense along one axis. Whatever else there is - vectors, small products, where one call of
 * oneDNN takes longer than the arithmetic, repeated or reversed axes - is for own loops, which read any strides. */
#include "onednn.h"
#include "product.h"

#if NB_DNNL
/* Tiles of at most four sizes: the last ones over m and over n may be smaller. */
typedef struct state {
    nb__product   p;
    nb__primitive primitive[2][2]; /* [last over m][last over n] */
    size_t        scratch_bytes;   /* a thread */
} state;

typedef struct tile_call {
    const state    *s;
    const nb__call *call;
    char           *scratch;
} tile_call;

/* rows x columns with these strides: dense along one axis, nothing repeated, nothing reversed. */
static bool is_plain(int64_t rows, int64_t columns, const int64_t stride[2]) {
    return (stride[1] == 1 && stride[0] >= columns) || (stride[0] == 1 && stride[1] >= rows);
}

static bool make(state *s, int down, int across) {
    const nb__product *p = &s->p;
    nb__tile_of        t = nb__product_tile(p, (down ? p->down - 1 : 0) * p->across + (across ? p->across - 1 : 0));
    dnnl_memory_desc_t a = nb__dnnl_strided(2, (int64_t[]){t.m, p->k}, p->a), b = nb__dnnl_strided(2, (int64_t[]){p->k, t.n}, p->b),
                       c = nb__dnnl_strided(2, (int64_t[]){t.m, t.n}, p->c);
    dnnl_matmul_desc_t d;
    nb__primitive     *q = &s->primitive[down][across];
    if (dnnl_matmul_desc_init(&d, &a, &b, NULL, &c) != dnnl_success) return false;
    if (!nb__primitive_make(q, &d, 3, (int[]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST})) return false;
    if (q->scratch_bytes > s->scratch_bytes) s->scratch_bytes = (q->scratch_bytes + 63) & ~(size_t)63;
    return !q->is_slow;
}

static void free_primitives(state *s) {
    for (int i = 0; i < 4; i++) nb__primitive_free(&s->primitive[i / 2][i % 2]);
}

static void free_state(nb_context *nb, void *s) {
    free_primitives(s);
    nb_free(nb, s);
}

static void run_tile(void *arg, int64_t tile, int thread) {
    const tile_call   *c = arg;
    const nb__product *p = &c->s->p;
    const nb_array    *in = c->call->c.in;
    nb__tile_of        t = nb__product_tile(p, tile);
    const nb__primitive *q = &c->s->primitive[t.m < p->rows][t.n < p->columns];
    for (int64_t batch = t.first; batch < t.last; batch++) {
        void *data[] = {nb__product_batch(&in[p->swapped], batch) + t.i * p->a[0],
                        nb__product_batch(&in[!p->swapped], batch) + t.j * p->b[1],
                        nb__product_batch(&c->call->c.out, batch) + t.i * p->c[0] + t.j * p->c[1]};
        if (!nb__primitive_run(q, data, c->scratch + (size_t)thread * c->s->scratch_bytes))
            nb_raise(&c->call->c, 0, "matmul: oneDNN failed; is there memory left?");
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    tile_call    c = {s, call, scratch};
    int          threads = nb__dnnl_enter();
    nb__parallel(pool, s->p.tiles, run_tile, &c);
    nb__dnnl_leave(threads);
}

static bool plan_dnnl(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    const double least = 5e5; /* flops: below, making oneDNN's memory objects (1 us) shows */
    nb__product  p;
    if (!nb__gemm_of(isa) || !nb__product_of(call, &p)) return false;
    if (p.c[1] != 1) nb__product_swap(&p);
    if (p.m < 2 || p.n < 2 || p.batches < 1 || 2.0 * (double)p.m * (double)p.n * (double)p.k < least || p.c[1] != 1 || p.c[0] < p.n ||
        !is_plain(p.m, p.k, p.a) || !is_plain(p.k, p.n, p.b))
        return false;
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    nb__product_cut(&p);
    s->p = p;
    int  before = nb__dnnl_enter();
    bool good = make(s, 0, 0);
    /* Sizes differ only where the last tile is smaller. */
    bool down = p.m % p.rows != 0, across = p.n % p.columns != 0;
    good = good && (!down || make(s, 1, 0)) && (!across || make(s, 0, 1)) && (!down || !across || make(s, 1, 1));
    if (!good) free_primitives(s);
    nb__dnnl_leave(before);
    if (!good) {
        nb_free(nb, s);
        return false;
    }
    *plan = (nb__plan){.kernel = "dnnl matmul",
                       .run = run,
                       .free_state = free_state,
                       .state = s,
                       .scratch_bytes = (size_t)threads * s->scratch_bytes};
    return true;
}
#endif

bool nb__plan_matmul(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
#if NB_DNNL
    if (plan_dnnl(nb, isa, call, threads, plan)) return true;
    if (nb_error(nb)) return false;
#endif
    return nb__plan_matmul_own(nb, isa, call, threads, plan);
}
