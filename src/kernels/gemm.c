/* gemm.c: how a matrix product is cut into tiles, and own products. The loops themselves are isa/gemm.c. */
#include <string.h>

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

void nb__product_swap(nb__product *p) {
    p->swapped = !p->swapped;
    exchange(&p->m, &p->n);
    exchange(&p->a[0], &p->b[1]);
    exchange(&p->a[1], &p->b[0]);
    exchange(&p->c[0], &p->c[1]);
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Halves the longer side while tiles are larger than they need be for sixteen threads, but not below 64, nor 2 MFLOP. */
void nb__product_cut(nb__product *p) {
    enum { TILES = 16, LEAST_SIDE = 64, GRAIN = 16 };
    const double least = 2e6, each = 2.0 * (double)p->m * (double)p->n * (double)p->k, all = each * (double)p->batches;
    double       most = all / TILES > least ? all / TILES : least;
    p->rows = p->m;
    p->columns = p->n;
    while (2.0 * (double)p->rows * (double)p->columns * (double)p->k > most) {
        int64_t *side = p->rows > p->columns ? &p->rows : &p->columns;
        if (*side <= LEAST_SIDE) break;
        *side = ceil_div(*side / 2, GRAIN) * GRAIN;
    }
    p->down = ceil_div(p->m, p->rows);
    p->across = ceil_div(p->n, p->columns);
    p->batches_a_tile = p->down * p->across == 1 && each > 0 && each < most ? (int64_t)(most / each) : 1;
    if (p->batches_a_tile > p->batches) p->batches_a_tile = p->batches;
    p->tiles = ceil_div(p->batches, p->batches_a_tile) * p->down * p->across;
}

nb__tile_of nb__product_tile(const nb__product *p, int64_t tile) {
    int64_t     j = tile % p->across * p->columns, i = tile / p->across % p->down * p->rows;
    nb__tile_of t = {.first = tile / p->across / p->down * p->batches_a_tile, .i = i, .j = j};
    t.last = t.first + p->batches_a_tile < p->batches ? t.first + p->batches_a_tile : p->batches;
    t.m = p->m - i < p->rows ? p->m - i : p->rows;
    t.n = p->n - j < p->columns ? p->n - j : p->columns;
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

/* --------------------------------------------------------------------------------------------------------------- own products */

const nb__gemm_loops *nb__gemm_of(const nb__isa *isa) {
    static const struct {
        const char           *name;
        const nb__gemm_loops *loops;
    } sets[] = {{"baseline", &nb__gemm_baseline}, {"v3", &nb__gemm_v3}, {"v4", &nb__gemm_v4}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, isa->name) == 0) return sets[i].loops;
    return NULL;
}

/* Cycles, about, of a product in these roles: blocks of six rows and `width` columns, panels of B to be packed, C to be written. Dense
 * columns of B and C go by vectors, others element by element. */
static double cost(const nb__product *p, int width) {
    double m = (double)p->m, n = (double)p->n, k = (double)p->k;
    double blocks = (double)ceil_div(p->m, 6) * (double)ceil_div(p->n, width) * (6 * k + 20);
    double pack = (p->b[1] == 1 ? 0.2 : 1.5) * k * n * (double)(p->rows ? p->down : 1);
    double write = (p->c[1] == 1 ? 0.2 : 2.5) * m * n * (k / NB__GEMM_DEPTH + 1);
    return blocks + pack + write;
}

static void choose_roles(nb__product *p, int width) {
    nb__product other = *p;
    nb__product_swap(&other);
    if (cost(&other, width) < cost(p, width)) *p = other;
}

void nb__gemm(const nb__gemm_loops *loops, nb__matrix a, nb__matrix b, nb__matrix c, int64_t m, int64_t n, int64_t k, bool add,
             float *pack) {
    nb__product p = {.m = m, .n = n, .k = k, .a = {a.row, a.column}, .b = {b.row, b.column}, .c = {c.row, c.column}};
    choose_roles(&p, loops->width);
    float *first = p.swapped ? b.data : a.data, *second = p.swapped ? a.data : b.data;
    loops->product((nb__matrix){first, p.a[0], p.a[1]}, (nb__matrix){second, p.b[0], p.b[1]},
                   (nb__matrix){c.data, p.c[0], p.c[1]}, p.m, p.n, p.k, add, pack);
}

typedef struct own {
    nb__product           p;
    const nb__gemm_loops *loops;
    bool                  is_vector; /* m is 1, x and y are dense, and so is B along one axis */
} own;

typedef struct own_call {
    const own      *state;
    const nb__call *call;
    char           *scratch;
} own_call;

static void zero(nb__matrix c, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) c.data[i * c.row + j * c.column] = 0;
}

static void own_tile(void *arg, int64_t tile, int thread) {
    const own_call    *o = arg;
    const nb__product *p = &o->state->p;
    const nb_array    *in = o->call->c.in;
    nb__tile_of        t = nb__product_tile(p, tile);
    float             *pack = (float *)(o->scratch + (size_t)thread * NB__PACK_BYTES);
    for (int64_t batch = t.first; batch < t.last; batch++) {
        nb__matrix a = {nb__product_batch(&in[p->swapped], batch) + t.i * p->a[0], p->a[0], p->a[1]};
        nb__matrix b = {nb__product_batch(&in[!p->swapped], batch) + t.j * p->b[1], p->b[0], p->b[1]};
        nb__matrix c = {nb__product_batch(&o->call->c.out, batch) + t.i * p->c[0] + t.j * p->c[1], p->c[0], p->c[1]};
        if (p->k == 0) zero(c, t.m, t.n);
        else if (o->state->is_vector) o->state->loops->vector(a.data, b, c.data, t.n, p->k);
        else o->state->loops->product(a, b, c, t.m, t.n, p->k, false, pack);
    }
}

static void own_run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const own *s = plan->state;
    own_call   o = {s, call, scratch};
    nb__parallel(pool, s->p.tiles, own_tile, &o);
}

bool nb__plan_matmul_own(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    own                   s = {.loops = nb__gemm_of(isa)};
    if (!s.loops || !nb__product_of(call, &s.p)) return false;
    if (s.p.m == 0 || s.p.n == 0) s.p.batches = 0;
    if (s.p.n == 1 && s.p.m > 1) nb__product_swap(&s.p);
    s.is_vector = s.p.m == 1 && s.p.a[1] == 1 && s.p.c[1] == 1 && (s.p.b[0] == 1 || s.p.b[1] == 1);
    if (s.p.batches > 0) nb__product_cut(&s.p);
    if (!s.is_vector && s.p.batches > 0) {
        choose_roles(&s.p, s.loops->width);
        nb__product_cut(&s.p);
    }
    own *kept = nb_alloc(nb, sizeof *kept);
    if (!kept) return false;
    *kept = s;
    *plan = (nb__plan){.kernel = s.is_vector ? "own matmul with a vector" : "own matmul",
                       .run = own_run,
                       .state = kept,
                       .scratch_bytes = s.is_vector ? 0 : (size_t)threads * NB__PACK_BYTES};
    return true;
}
