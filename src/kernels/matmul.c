/* matmul.c: matrix products of f32: roles, the grid of tiles, the planner. The loops are isa/gemm.c.
 *
 * All products are our own: they read any strides, need nothing made when a program is compiled, and reach as much of the
 * processor as oneDNN's (docs/speed-log.md). */
#include <string.h>

#include "numbers.h"
#include "product.h"

/* ------------------------------------------------------------------------------------------------------------------- the grid */

bool nb__product_of(const nb__call *call, nb__product *p) {
    const nb_array *a = &call->c.in[0], *b = &call->c.in[1], *c = &call->c.out;
    int             i = c->rank - 2, j = c->rank - 1;
    if (a->dtype != NB_F32 || b->dtype != NB_F32 || c->dtype != NB_F32) return false;
    *p = (nb__product){
        .batches = 1,
        .m = c->shape[i],
        .n = c->shape[j],
        .k = a->shape[j],
        .a = {a->stride[i], a->stride[j]},
        .b = {b->stride[i], b->stride[j]},
        .c = {c->stride[i], c->stride[j]},
        .triangles = call->triangles,
    };
    for (int d = 0; d < i; d++) p->batches *= c->shape[d];
    /* The stride of an axis of one element means nothing: make it a dense one. */
    if (p->m == 1) p->a[0] = p->k, p->c[0] = p->n;
    if (p->k == 1) p->a[1] = 1, p->b[0] = p->n;
    if (p->n == 1) p->b[1] = 1, p->c[1] = 1;
    return true;
}

static void exchange(int64_t *a, int64_t *b) {
    int64_t t = *a;
    *a = *b;
    *b = t;
}

nb__triangles nb__transposed(nb__triangles t) {
    return (nb__triangles){.a = (unsigned char)nb__other_side(t.b),
                           .b = (unsigned char)nb__other_side(t.a),
                           .c = (unsigned char)nb__other_side(t.c)};
}

void nb__product_swap(nb__product *p) {
    p->swapped = !p->swapped;
    p->triangles = nb__transposed(p->triangles);
    exchange(&p->m, &p->n);
    exchange(&p->a[0], &p->b[1]);
    exchange(&p->a[1], &p->b[0]);
    exchange(&p->c[0], &p->c[1]);
}

/* Halves rows or columns while tiles are larger than they need be for some threads: rows, unless that means more packing. Each
 * tile packs its own part of B where that is not dense along its rows, and is narrow then, so that few tiles pack the same. */
void nb__product_cut(nb__product *p) {
    enum { TILES = 16, GRAIN = 32 };
    /* Flops of a product that is cut at all, and of a tile. A product with a vector is as slow as its matrix comes from
     * memory. */
    const double worth = p->m == 1 ? 1e5 : 1e6, enough = p->m == 1 ? 1e5 : 4e6;
    const double each = 2.0 * (double)p->m * (double)p->n * (double)p->k, all = each * (double)p->batches;
    double       limit = all / TILES > enough ? all / TILES : all < worth ? worth : all < 2 * enough ? all / 2 : enough;
    bool         packs_b = p->m > 1 && !p->packed && p->b[1] != 1;
    int64_t      least_rows = packs_b ? 64 : 32, least_columns = packs_b ? 32 : 64;
    double       pack_b = p->packed ? 0.1 : p->b[1] == 1 ? 1 : 3;
    double       read_a = nb__is_scattered((nb__matrix){NULL, p->a[0], p->a[1]}) ? 4 : 0.3;
    p->rows = p->m;
    p->columns = p->n;
    p->down = p->across = 1;
    while (2.0 * (double)p->rows * (double)p->columns * (double)p->k > limit &&
           (p->rows > least_rows || p->columns > least_columns)) {
        bool by_rows = p->rows >= 2 * NB__GEMM_ROWS || pack_b * (double)(p->n * p->down) < read_a * (double)(p->m * p->across);
        if (p->rows <= least_rows) by_rows = false;
        if (p->columns <= least_columns) by_rows = true;
        int64_t *side = by_rows ? &p->rows : &p->columns;
        *side = divide_up(*side / 2, GRAIN) * GRAIN;
        p->down = divide_up(p->m, p->rows);
        p->across = divide_up(p->n, p->columns);
    }
    p->batches_a_tile = p->down * p->across == 1 && each > 0 && each < limit ? least((int64_t)(limit / each), p->batches) : 1;
    p->tiles = divide_up(p->batches, p->batches_a_tile) * p->down * p->across;
}

nb__tile_of nb__product_tile(const nb__product *p, int64_t tile) {
    int64_t     j = tile % p->across * p->columns, i = tile / p->across % p->down * p->rows;
    nb__tile_of t = {.first = tile / p->across / p->down * p->batches_a_tile, .i = i, .j = j};
    t.last = least(t.first + p->batches_a_tile, p->batches);
    t.m = least(p->m - i, p->rows);
    t.n = least(p->n - j, p->columns);
    return t;
}

float *nb__product_batch(const nb_array *x, int64_t batch) {
    int64_t at = 0;
    for (int d = x->rank - 3; d >= 0; d--) {
        at += batch % x->shape[d] * x->stride[d];
        batch /= x->shape[d];
    }
    return (float *)x->data + at;
}

/* -------------------------------------------------------------------------------------------------------------------- panels */

int64_t nb__panels_floats(const nb__gemm_loops *loops, int64_t k, int64_t n) {
    return k * divide_up(n, loops->width) * loops->width;
}

static nb__matrix part(nb__matrix x, int64_t i, int64_t j) {
    return (nb__matrix){x.data + i * x.row + j * x.column, x.row, x.column};
}

enum { PANELS = 4, PACKED_ROWS = 64 };

typedef struct packing {
    const nb__gemm_loops *loops;
    nb__matrix            b;
    int64_t               k, n;
    float                *panels;
} packing;

/* Some panels side by side, a few rows of B at a time: rows may be pages apart. */
static void pack_tile(void *arg, int64_t tile, int thread) {
    const packing        *q = arg;
    const nb__gemm_loops *loops = q->loops;
    int64_t               first = tile * PANELS * loops->width, last = least(first + PANELS * loops->width, q->n);
    (void)thread;
    for (int64_t row = 0; row < q->k; row += PACKED_ROWS)
        for (int64_t j = first; j < last; j += loops->width) {
            int columns = (int)least(last - j, loops->width);
            loops->pack(q->panels + j * q->k + row * (columns <= loops->lanes ? loops->lanes : loops->width), part(q->b, row, j),
                        least(q->k - row, PACKED_ROWS), columns);
        }
}

void nb__pack_panels(const nb__gemm_loops *loops, nb__matrix b, int64_t k, int64_t n, float *panels, nb_pool *pool) {
    packing q = {loops, b, k, n, panels};
    nb__parallel(pool, divide_up(n, PANELS * loops->width), pack_tile, &q);
}

/* ------------------------------------------------------------------------------------------------------------------- products */

/* Whether to keep B packed: it lasts, and each tile would have to pack its part in each run. */
static bool is_worth_keeping(const nb__product *p, const nb__call *call) {
    return (call->lasting >> !p->swapped & 1) && p->batches == 1 && p->b[1] != 1 && p->k > 0;
}

/* Whether to pack B before the tiles of each run: blocks of many rows read each panel. */
static bool is_worth_packing_first(const nb__product *p) { return p->batches == 1 && p->m >= 2 * NB__GEMM_ROWS && p->k > 0; }

/* Cycles, about, of a product in these roles: blocks, panels of B and pieces of A to be packed, C to be written. Dense columns
 * of B and C go by vectors, columns of B that are dense along k by transposed blocks, others element by element. */
static double cost(const nb__product *p, const nb__gemm_loops *g, const nb__call *call) {
    double  m = (double)p->m, n = (double)p->n, k = (double)p->k, pieces = (double)divide_up(p->k, NB__GEMM_DEPTH);
    int64_t vectors = divide_up(p->n, g->lanes), blocks = divide_up(p->m, g->rows) * divide_up(p->n, g->width);
    double  multiply = (double)p->m * (double)vectors * k + 30 * pieces * (double)blocks;
    double  pack_b = (is_worth_keeping(p, call) ? 0 : p->b[1] == 1 ? 0.1 : p->b[0] == 1 ? 0.4 : 1.5) * k * n;
    double  pack_a = p->a[1] == 1 || p->n <= g->width ? 0 : p->a[0] == 1 ? 0.1 * m * k : 1.5 * m * k;
    double  write = p->c[1] == 1 ? 0 : 2 * m * n * (2 * pieces - 1);
    return multiply + pack_b + pack_a + write;
}

static void choose_roles(nb__product *p, const nb__gemm_loops *loops, const nb__call *call) {
    nb__product other = *p;
    nb__product_swap(&other);
    if (p->triangles.a || other.triangles.a) { /* rows of A are cut short, not columns of B */
        if (!p->triangles.a) *p = other;
        return;
    }
    if (cost(&other, loops, call) < cost(p, loops, call)) *p = other;
}

typedef struct state {
    nb__product           p;
    const nb__gemm_loops *loops;
    bool                  is_vector;     /* m is 1, x and y are dense, and so is B along one axis */
    bool                  has_triangles; /* tiles go by strips of rows */
    bool                  is_prepared;   /* B is packed in lasting memory */
    bool                  packs_first;   /* B is packed in scratch memory, before the tiles */
    bool                  shares_panels; /* a tile packs its part of B for all its strips, in its thread's scratch memory */
    size_t                thread_bytes;  /* scratch memory of a thread */
    size_t                panels_at;     /* in scratch memory: of packs_first */
} state;

typedef struct run_call {
    const state    *s;
    const nb__call *call;
    char           *scratch;
    float          *panels; /* of B, packed; NULL: each tile packs its own part */
} run_call;

static void zero(nb__matrix c, int64_t m, int64_t n) {
    if (c.column == 1) {
        for (int64_t i = 0; i < m; i++) memset(c.data + i * c.row, 0, (size_t)n * sizeof *c.data);
        return;
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) c.data[i * c.row + j * c.column] = 0;
}

static int64_t between(int64_t low, int64_t x, int64_t high) { return most(low, least(x, high)); }

/* A tile of a product with triangles, some rows at a time: of each strip, what is zero in A is left out, and what nobody looks
 * at is 0, by whole panels of B. panels: room for B, which strips share, packed; or NULL. Strips begin at rows, and tiles at
 * columns, that are multiples of 32, so panels, no wider, begin where they are cut. */
static void run_strips(const nb__gemm_loops *loops, const nb__product *p, nb__tile_of t, nb__matrix a, nb__matrix b, nb__matrix c,
                       float *pack, float *panels) {
    enum { STRIP = 32 };
    if (panels) nb__pack_panels(loops, b, p->k, t.n, panels, NULL);
    for (int64_t at = 0; at < t.m; at += STRIP) {
        int64_t i = t.i + at, rows = least(t.m - at, STRIP), end = i + rows;
        int64_t from = p->triangles.a & NB__BELOW ? between(0, i, p->k) : 0;
        int64_t to = p->triangles.a & NB__ABOVE ? between(from, end, p->k) : p->k;
        int64_t left = p->triangles.c & NB__BELOW ? between(0, i - t.j, t.n) : 0;
        int64_t right = p->triangles.c & NB__ABOVE ? between(left, divide_up(end - t.j, loops->width) * loops->width, t.n) : t.n;
        nb__matrix strip = part(c, at, 0);
        if (from == to) right = left;
        zero(strip, rows, left);
        if (left < right)
            loops->product(part(a, at, from), part(b, from, left), part(strip, 0, left), rows, right - left, to - from, false,
                           pack, panels ? panels + left * p->k : NULL);
        zero(part(strip, 0, right), rows, t.n - right);
    }
}

static void run_tile(void *arg, int64_t tile, int thread) {
    const run_call    *r = arg;
    const nb__product *p = &r->s->p;
    const nb_array    *in = r->call->c.in;
    nb__tile_of        t = nb__product_tile(p, tile);
    float             *pack = (float *)(r->scratch + (size_t)thread * r->s->thread_bytes);
    for (int64_t batch = t.first; batch < t.last; batch++) {
        nb__matrix a = {nb__product_batch(&in[p->swapped], batch) + t.i * p->a[0], p->a[0], p->a[1]};
        nb__matrix b = {nb__product_batch(&in[!p->swapped], batch) + t.j * p->b[1], p->b[0], p->b[1]};
        nb__matrix c = {nb__product_batch(&r->call->c.out, batch) + t.i * p->c[0] + t.j * p->c[1], p->c[0], p->c[1]};
        if (p->k == 0)
            zero(c, t.m, t.n);
        else if (r->s->is_vector)
            r->s->loops->vector(a.data, b, c.data, t.n, p->k);
        else if (r->s->has_triangles)
            run_strips(r->s->loops, p, t, a, b, c, pack, r->s->shares_panels ? pack + NB__PACK_FLOATS : NULL);
        else
            r->s->loops->product(a, b, c, t.m, t.n, p->k, false, pack, r->panels ? r->panels + t.j * p->k : NULL);
    }
}

static void pack(const state *s, const nb__call *call, float *panels, nb_pool *pool) {
    nb__matrix b = {call->c.in[!s->p.swapped].data, s->p.b[0], s->p.b[1]};
    nb__pack_panels(s->loops, b, s->p.k, s->p.n, panels, pool);
}

static void prepare(const nb__plan *plan, const nb__call *call, nb_pool *pool) { pack(plan->state, call, call->prepared, pool); }

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    run_call     r = {s, call, scratch, s->is_prepared ? call->prepared : NULL};
    if (s->packs_first) {
        r.panels = (float *)((char *)scratch + s->panels_at);
        pack(s, call, r.panels, pool);
    }
    nb__parallel(pool, s->p.tiles, run_tile, &r);
}

bool nb__plan_matmul(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    state s = {.loops = isa->gemm};
    if (!s.loops || !nb__product_of(call, &s.p)) return false;
    if (s.p.m == 0 || s.p.n == 0) s.p.batches = 0;
    if (s.p.n == 1 && s.p.m > 1) nb__product_swap(&s.p);
    s.is_vector = s.p.m == 1 && s.p.a[1] == 1 && s.p.c[1] == 1 && (s.p.b[0] == 1 || s.p.b[1] == 1);
    if (s.p.batches > 0) {
        if (!s.is_vector) choose_roles(&s.p, s.loops, call);
        s.has_triangles = !s.is_vector && (s.p.triangles.a || s.p.triangles.c);
        s.is_prepared = !s.is_vector && !s.has_triangles && is_worth_keeping(&s.p, call);
        s.packs_first = !s.is_vector && !s.has_triangles && !s.is_prepared && is_worth_packing_first(&s.p);
        s.p.packed = s.is_prepared || s.packs_first;
        nb__product_cut(&s.p);
    }
    size_t panels = (size_t)nb__panels_floats(s.loops, s.p.k, s.p.n) * sizeof(float);
    size_t shared = (size_t)nb__panels_floats(s.loops, s.p.k, s.p.columns) * sizeof(float);
    s.shares_panels = s.has_triangles && !s.p.triangles.a && s.p.b[1] != 1 && shared <= NB__PACK_BYTES;
    s.thread_bytes = s.is_vector ? 0 : NB__PACK_BYTES + (s.shares_panels ? (shared + 63) / 64 * 64 : 0);
    s.panels_at = (size_t)threads * s.thread_bytes;
    state *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    *plan = (nb__plan){.kernel = s.is_vector       ? "matmul with a vector"
                                 : s.has_triangles ? "matmul of triangles"
                                                   : "matmul",
                       .run = run,
                       .state = kept,
                       .scratch_bytes = s.panels_at + (s.packs_first ? panels : 0)};
    if (s.is_prepared) {
        plan->prepare = prepare;
        plan->packs = s.p.swapped ? 1 : 2;
        plan->prepared_bytes = panels;
    }
    return true;
}
