/* region.c: many elementwise operators as one pass over memory.
 *
 * The iteration space is cut into tiles of about a thousand elements. For each tile the instructions run one after the other, each a loop
 * over the tile (kernels/isa/tiles.c), so that what lies between them stays in the L1 cache. What lies in memory as the tile does is
 * read and written in place; anything else is copied into a row first, or out of one at the end. */
#include <string.h>

#include "kernels.h"
#include "space.h"

enum {
    TILE = 1024,        /* elements */
    ROW_PAD = 128,      /* bytes between rows: else they would fall on the same lines of the cache */
    GROUP_WORK = 16,    /* tiles times instructions that are worth a task of a thread */
    PARALLEL_WORK = 48, /* and that are worth waking threads */
    VALUES = 2 * NB__REGION_MAX
};

/* An operand or a result. */
typedef struct place {
    bool    in_place; /* lies in memory as each tile does */
    bool    once;     /* operand: the same for every tile */
    int     size;     /* bytes of an element */
    int64_t stride[NB_MAX_RANK];
    size_t  row;      /* offset in a thread's scratch, when not in place */
} place;

typedef struct region {
    nb__tile *const *tiles;
    nb__space        space;
    int64_t          length;      /* of a tile: whole rows of the innermost axis, or a piece of one */
    int64_t          pieces;      /* tiles in a row of the innermost axis; 0: a tile has whole rows */
    int64_t          n_tiles, group;
    size_t           thread_bytes;
    int              n_in, n_instructions, n_out;
    place           *place;       /* operands, then results */
    size_t          *row;         /* of each instruction: as place.row, when its result is not written in place */
    nb__instruction *instruction;
    nb_dtype         in_dtype[NB__REGION_MAX];
} region;

/* Whether an instruction writes where its result is to be. */
static bool is_in_place(const region *r, const nb__instruction *ins) { return ins->store >= 0 && r->place[r->n_in + ins->store].in_place; }

/* ------------------------------------------------------------------------------------------------------------------------ casts */

#define CAST_FROM(name, type, is_true) \
    static void cast_##name(void *out, nb_dtype to, const void *in, int64_t n) { \
        const type *x = in; \
        float      *real = out; \
        uint8_t    *truth = out; \
        if (to == NB_F32) \
            for (int64_t i = 0; i < n; i++) real[i] = (float)(is_true); \
        else \
            for (int64_t i = 0; i < n; i++) truth[i] = x[i] != 0; \
    }
CAST_FROM(f32, float, x[i])
CAST_FROM(f64, double, x[i])
CAST_FROM(i32, int32_t, x[i])
CAST_FROM(i64, int64_t, x[i])
CAST_FROM(u8, uint8_t, x[i])
CAST_FROM(bool, uint8_t, x[i] != 0)

static void cast(void *out, nb_dtype to, const void *in, nb_dtype from, int64_t n) {
    switch (from) {
    case NB_F32: cast_f32(out, to, in, n); break;
    case NB_F64: cast_f64(out, to, in, n); break;
    case NB_I32: cast_i32(out, to, in, n); break;
    case NB_I64: cast_i64(out, to, in, n); break;
    case NB_U8: cast_u8(out, to, in, n); break;
    default: cast_bool(out, to, in, n); break;
    }
}

/* ------------------------------------------------------------------------------------------------------------------------- runs */

typedef struct job {
    const region   *region;
    const nb__call *call;
    char           *scratch;
} job;

static void gather(const region *r, const place *p, const nb_array *array, int64_t first, int64_t n, char *rows) {
    nb__gather(&r->space, p->stride, p->size, array->data, first, n, rows + p->row);
}

/* value[v]: where the tile's elements of value v are. */
static void run_tile(const job *j, int64_t first, int64_t n, char *rows) {
    const region *r = j->region;
    void         *value[VALUES], *out[NB__REGION_MAX];
    int64_t       index[NB_MAX_RANK];
    nb__space_index(&r->space, first, index);
    for (int i = 0; i < r->n_in + r->n_out; i++) {
        const place    *p = &r->place[i];
        const nb_array *array = i < r->n_in ? &j->call->c.in[i] : &j->call->out[i - r->n_in];
        void          **at = i < r->n_in ? &value[i] : &out[i - r->n_in];
        *at = p->in_place ? (char *)array->data + nb__space_offset(&r->space, p->stride, index) * p->size : rows + p->row;
        if (i < r->n_in && !p->in_place && !p->once) gather(r, p, array, first, n, rows);
    }
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        void *y = value[r->n_in + k] = is_in_place(r, ins) ? out[ins->store] : rows + r->row[k];
        const void *a = ins->in[0] < 0 ? NULL : value[ins->in[0]];
        if (ins->row == NB__CAST) {
            int from = ins->in[0];
            cast(y, ins->dtype, a, from < r->n_in ? r->in_dtype[from] : r->instruction[from - r->n_in].dtype, n);
        } else {
            const void *b = ins->in[1] < 0 ? NULL : value[ins->in[1]], *c = ins->in[2] < 0 ? NULL : value[ins->in[2]];
            r->tiles[ins->row](y, a, b, c, n, ins->p, ins->q);
        }
    }
    for (int k = 0; k < r->n_instructions; k++) {
        int s = r->instruction[k].store;
        if (s < 0) continue;
        const place *p = &r->place[r->n_in + s];
        if (!p->in_place) nb__scatter(&r->space, p->stride, p->size, j->call->out[s].data, first, n, rows + r->row[k]);
    }
}

static void run_group(void *arg, int64_t group, int thread) {
    const job    *j = arg;
    const region *r = j->region;
    char         *rows = j->scratch + (size_t)thread * r->thread_bytes;
    int64_t       tile = group * r->group, end = tile + r->group < r->n_tiles ? tile + r->group : r->n_tiles;
    int64_t       longest = r->length < r->space.count ? r->length : r->space.count;
    for (int i = 0; i < r->n_in; i++)
        if (r->place[i].once) gather(r, &r->place[i], &j->call->c.in[i], 0, longest, rows);
    for (; tile < end; tile++) {
        int64_t first = tile * r->length, left = r->space.count - first;
        if (r->pieces) {
            int64_t inner = r->space.shape[r->space.rank - 1], at = tile % r->pieces * r->length;
            first = tile / r->pieces * inner + at;
            left = inner - at;
        }
        run_tile(j, first, left < r->length ? left : r->length, rows);
    }
}

static void run(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const region *r = plan->state;
    job           j = {r, call, scratch};
    bool          alone = r->n_tiles * r->n_instructions < PARALLEL_WORK;
    nb__parallel(alone ? NULL : pool, (r->n_tiles + r->group - 1) / r->group, run_group, &j);
}

/* ------------------------------------------------------------------------------------------------------------------------ plans */

static void cut_into_tiles(region *r) {
    int64_t inner = r->space.shape[r->space.rank - 1], count = r->space.count;
    r->length = TILE;
    r->group = (GROUP_WORK + r->n_instructions - 1) / r->n_instructions;
    if (count == 0) return;
    if (inner <= TILE) {
        r->length = TILE / inner * inner;
        r->n_tiles = (count + r->length - 1) / r->length;
    } else {
        r->pieces = (inner + TILE - 1) / TILE;
        r->n_tiles = count / inner * r->pieces;
    }
}

static void place_array(const region *r, place *p, nb_dtype dtype) {
    bool    dense = true, repeated = true;
    int64_t expected = 1;
    int     inner = r->space.rank - 1;
    for (int i = inner; i >= 0; i--) {
        dense = dense && p->stride[i] == expected;
        expected *= r->space.shape[i];
        if (i < inner || r->pieces) repeated = repeated && p->stride[i] == 0;
    }
    p->size = (int)nb_dtype_size(dtype);
    p->in_place = dense || (p->stride[inner] == 1 && r->length <= r->space.shape[inner]);
    p->once = !p->in_place && repeated;
}

static size_t new_row(region *r, int size) {
    size_t at = r->thread_bytes;
    r->thread_bytes += (size_t)TILE * (size_t)size + ROW_PAD;
    return at;
}

/* Rows for what is not in place. An instruction's row is used again after its last reader; never by that reader's own result, which may be
 * of another size. */
static void assign_rows(region *r) {
    int    last[VALUES] = {0}, n_free = 0;
    size_t free_row[NB__REGION_MAX];
    for (int i = 0; i < r->n_in; i++)
        if (!r->place[i].in_place) r->place[i].row = new_row(r, r->place[i].size);
    for (int k = 0; k < r->n_instructions; k++) {
        for (int m = 0; m < 3; m++)
            if (r->instruction[k].in[m] >= 0) last[r->instruction[k].in[m]] = k;
        if (r->instruction[k].store >= 0) last[r->n_in + k] = r->n_instructions;
    }
    for (int k = 0; k < r->n_instructions; k++) {
        if (!is_in_place(r, &r->instruction[k])) r->row[k] = n_free ? free_row[--n_free] : new_row(r, 4);
        for (int i = 0; i < k; i++)
            if (last[r->n_in + i] == k && !is_in_place(r, &r->instruction[i])) free_row[n_free++] = r->row[i];
    }
    r->thread_bytes = (r->thread_bytes + 63) & ~(size_t)63;
}

static const int operands_of_row[] = {
#define ROW(name, operands, ...) operands,
#include "elementwise.def"
#undef ROW
};

bool nb__plan_region(nb_context *nb, const nb__isa *isa, const nb__region *what, const nb__call *call, int threads, nb__plan *plan) {
    int n_in = what->n_in, n = what->n_instructions, n_out = call->n_out;
    if (!isa->tiles || n < 1 || n > NB__REGION_MAX || n_in > NB__REGION_MAX || n_out > NB__REGION_MAX) return false;
    size_t arrays = (size_t)(n_in + n_out), head = (sizeof(region) + 63) & ~(size_t)63;
    char  *memory = nb_alloc(nb, head + (size_t)n * (sizeof(nb__instruction) + sizeof(size_t)) + arrays * sizeof(place));
    if (!memory) return false;
    region *r = (region *)memory;
    *r = (region){.tiles = isa->tiles, .n_in = n_in, .n_instructions = n, .n_out = n_out};
    r->instruction = (nb__instruction *)(memory + head);
    r->row = (size_t *)(r->instruction + n);
    r->place = (place *)(r->row + n);
    memcpy(r->instruction, what->instruction, (size_t)n * sizeof *r->instruction);
    memcpy(r->in_dtype, what->in_dtype, sizeof r->in_dtype);
    for (int k = 0; k < n; k++) {
        int operands = what->instruction[k].row == NB__CAST ? 1 : operands_of_row[what->instruction[k].row];
        for (int m = operands; m < 3; m++) r->instruction[k].in[m] = -1;
    }
    /* The results' order in memory is the order of the loops. */
    const nb_array *list[VALUES];
    int64_t         strides[VALUES][NB_MAX_RANK];
    for (int i = 0; i < n_out; i++) list[i] = &call->out[i];
    for (int i = 0; i < n_in; i++) list[n_out + i] = &call->c.in[i];
    nb__space_make(n_in + n_out, list, &r->space, strides);
    cut_into_tiles(r);
    for (int i = 0; i < n_in + n_out; i++) {
        int from = i < n_in ? n_out + i : i - n_in;
        memcpy(r->place[i].stride, strides[from], sizeof strides[from]);
        place_array(r, &r->place[i], list[from]->dtype);
    }
    assign_rows(r);
    *plan = (nb__plan){.kernel = "region", .run = run, .state = r, .scratch_bytes = (size_t)threads * r->thread_bytes};
    return true;
}

/* Classes of elementwise.def whose operands (the last one) may be float. */
enum { TILE_F = 1, TILE_N = 1, TILE_A = 1, TILE_W = 1, TILE_B = 0 };

bool nb__row_has_tile(int row, nb_dtype operand) {
    static const bool real[] = {
#define ROW(name, operands, parameters, types, ...) TILE_##types,
#include "elementwise.def"
#undef ROW
    };
    if (row < 0 || row >= NB__ROWS) return false;
    return real[row] ? operand == NB_F32 : operand == NB_BOOL;
}
