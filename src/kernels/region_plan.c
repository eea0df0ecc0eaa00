/* region_plan.c: how a region is cut into tiles, and where its values lie. */
#include <string.h>

#include "copy.h"
#include "numbers.h"
#include "region.h"

enum {
    TILE = 2048,     /* elements, or fewer where the values of a tile would not stay in the first cache */
    LEAST_TILE = 512,
    ONCE_TILE = 16384, /* where all that is read is reduced at once, and no cache keeps anything */
    STREAM_TILE = 1024, /* where results are written past the caches: what is read and what is written then take shorter turns */
    CACHE = 28672,   /* bytes of that cache that they may take */
    COPIED = 512,    /* elements whose copying takes as long as a tile more */
    ROW_PAD = 128,   /* bytes between rows: else they would fall on the same lines of the cache */
    MOST_ROW = 4096, /* and up to which they are made where nothing but a broadcast operand asks for them */
    GROUP_WORK = 32768, /* elements times instructions that are worth a task of a thread */
    LEAST_GROUP = 8192, /* and elements */
    GROUPS = 64,     /* tasks at most, where tiles are many */
    SUM_GROUPS = 32  /* the same where each has its own partial sums */
};

static size_t  aligned(size_t n) { return (n + 63) & ~(size_t)63; }

/* An array that has 1 as its stride where the bit of an axis is `set`, and else 0: it keeps these axes apart from the others. */
static nb_array marker(const nb_array *space, unsigned axes, bool set) {
    nb_array a = *space;
    for (int i = 0; i < a.rank; i++)
        if ((axes >> i & 1) != set) a.stride[i] = 0;
    return a;
}

/* Elements of the innermost axes of the space along which a marker has no stride (or has one). */
static int64_t innermost(const nb__space *s, const int64_t *stride, bool set) {
    int64_t n = 1;
    for (int i = s->rank - 1; i >= 0 && (s->shape[i] == 1 || (stride[i] != 0) == set); i--) n *= s->shape[i];
    return n;
}

/* Axes of the full space outside of rows. */
static int outer_axes(const nb__region_plan *r) {
    int axes = r->space[NB__FULL].rank;
    for (int64_t left = r->row; left > 1 && axes > 0; left /= r->space[NB__FULL].shape[axes]) axes--;
    return axes;
}

/* Spaces of FULL and ROW arrays, and the strides of each array in its own. */
static void make_spaces(nb__region_plan *r, const nb__region *what, const nb__call *call) {
    const nb_array *list[2 * NB__REGION_MAX + 3];
    int64_t         strides[2 * NB__REGION_MAX + 3][NB_MAX_RANK];
    nb_array        rows = marker(&what->space, what->rows, false), columns = marker(&what->space, what->columns, true);
    int             n = 0;
    list[n++] = &what->space;
    if (what->rows) list[n++] = &rows;
    if (what->columns) list[n++] = &columns;
    int first = n;
    for (int i = 0; i < r->n_in; i++) list[n++] = &call->c.in[i];
    for (int i = 0; i < r->n_out; i++) list[n++] = &call->out[i];
    nb__space_make(n, list, &r->space[NB__FULL], strides);
    for (int i = 0; i < r->n_in + r->n_out; i++) memcpy(r->array[i].stride, strides[first + i], sizeof strides[0]);
    r->row = what->rows ? innermost(&r->space[NB__FULL], strides[1], false) : 1;
    r->columns = what->columns ? innermost(&r->space[NB__FULL], strides[first - 1], true) : 1;

    nb__space *full = &r->space[NB__FULL], *row = &r->space[NB__ROW];
    *row = *full;
    row->rank = outer_axes(r);
    row->count = full->count / most(1, r->row);
    if (row->rank) return;
    row->rank = 1; /* a single row */
    row->shape[0] = 1;
}

/* Whether an operand is FULL, and only elementwise FULL instructions read it: those that can have ROW operands as well. */
static bool is_full_for_all(const nb__region *what, int operand) {
    for (int k = 0; k < what->n_instructions; k++) {
        const nb__instruction *ins = &what->instruction[k];
        if (nb__reads(ins, operand) && (ins->row < NB__CAST || ins->part != NB__FULL)) return false;
    }
    return what->in_part[operand] == NB__FULL;
}

/* Operands that are the same all along a row become ROW ones. Where there are no rows yet, the first such operand makes them of
 * the innermost axis. */
static void find_row_operands(nb__region_plan *r, const nb__region *what) {
    nb__space *full = &r->space[NB__FULL], *row = &r->space[NB__ROW];
    int        inner = full->rank - 1;
    for (int i = 0; i < r->n_in; i++) {
        nb__region_array *a = &r->array[i];
        bool              is_one = true, is_even = r->in_dtype[i] == NB_F32 && is_full_for_all(what, i);
        int               axes = outer_axes(r);
        if (!what->rows && r->row == 1) {
            if (what->columns || inner < 1 || full->shape[inner] < NB__LONG_ROW || full->shape[inner] > MOST_ROW) return;
            axes = inner;
        }
        for (int k = 0; k <= inner; k++) {
            is_one = is_one && a->stride[k] == 0;
            is_even = is_even && (k < axes || a->stride[k] == 0);
        }
        if (!is_even || is_one || r->row * row->count != full->count) continue;
        if (r->row == 1) {
            r->row = full->shape[inner];
            row->rank = inner;
            row->count = full->count / r->row;
        }
        a->part = NB__ROW;
    }
}

static void cut_into_tiles(nb__region_plan *r, int64_t tile) {
    const nb__space *s = &r->space[NB__FULL];
    int64_t          inner = s->shape[s->rank - 1], unit = most(r->row, r->columns);
    r->length = tile;
    r->n_tiles = r->pieces = r->groups = 0;
    if (s->count == 0) return;
    if (unit > 1 || inner <= tile) {
        unit = unit > 1 ? unit : inner;
        r->length = most(1, tile / unit) * unit;
        r->n_tiles = divide_up(s->count, r->length);
    } else {
        r->pieces = divide_up(inner, tile);
        r->n_tiles = s->count / inner * r->pieces;
    }
    /* Groups of as many tiles, give or take one. */
    r->groups = divide_up(s->count, most(GROUP_WORK / r->n_instructions, LEAST_GROUP));
    r->groups = least(least(r->groups, r->n_tiles), r->n_sums ? SUM_GROUPS : GROUPS);
}

/* How an array of FULL or ROW values lies beside the tiles. */
static void place_array(const nb__region_plan *r, nb__region_array *a, nb_dtype dtype) {
    const nb__space *s = &r->space[a->part];
    bool             dense = true, repeated = true;
    int64_t          stretch = 1, length = a->part == NB__ROW ? r->length / r->row : r->length;
    int              inner = s->rank - 1;
    for (int i = inner; i >= 0; i--) {
        dense = dense && (a->stride[i] == stretch || s->shape[i] == 1);
        if (dense) stretch *= s->shape[i]; /* of neighbours in memory */
        if (i < inner || r->pieces) repeated = repeated && a->stride[i] == 0;
    }
    a->size = (int)nb_dtype_size(dtype);
    a->dense = dense;
    a->is_one = a->is_fixed = false;
    a->in_place = dense || (stretch > 1 && length > 0 && stretch % length == 0) || (a->stride[inner] == 1 && r->pieces);
    /* The same for each tile: nothing moves along the outer axes, and a tile holds whole rows of the inner one. */
    a->once = !a->in_place && repeated && s->count > 0 && (r->pieces || length % s->shape[inner] == 0);
}

static size_t new_row(nb__region_plan *r, int64_t elements, int size) {
    size_t at = r->thread_bytes;
    r->thread_bytes += aligned((size_t)elements * (size_t)size) + ROW_PAD;
    return at;
}

/* The last instruction that reads each value, and that of the chain or series which it is in; 0: none. */
static void find_last_readers(const nb__region_plan *r, int *last) {
    memset(last, 0, (size_t)(r->n_in + r->n_instructions) * sizeof *last);
    for (int k = 0; k < r->n_instructions; k++) {
        for (int m = 0; m < 3; m++)
            if (r->instruction[k].in[m] >= 0) last[r->instruction[k].in[m]] = k;
    }
    for (int i = 0; i < r->n_chains; i++)
        for (int v = 0; v < r->chain[i].operands; v++)
            last[r->chain[i].value[v]] = (int)most(last[r->chain[i].value[v]], r->chain[i].at);
    for (int i = 0; i < r->n_series; i++) {
        const nb__series *s = &r->series[i];
        last[s->first] = (int)most(last[s->first], s->at);
        for (int k = 0; k < s->n_steps; k++) {
            const short in[] = {s->step[k].other, s->step[k].yes, s->step[k].no};
            for (int m = 0; m < 3; m++) last[in[m]] = (int)most(last[in[m]], s->at);
        }
    }
}

/* Rows for what is not in place. An instruction's row is used again after its last reader; never by that reader's own result,
 * which may be of another size. */
static void assign_rows(nb__region_plan *r) {
    int     last[NB__REGION_VALUES], n_free = 0;
    size_t  free_row[NB__REGION_VALUES];
    int64_t length[2] = {r->length, divide_up(r->length, r->row)};
    r->thread_bytes = 0;
    for (int i = 0; i < r->n_in; i++)
        if (!r->array[i].in_place) r->array[i].row = new_row(r, length[r->array[i].part], r->array[i].size);
    find_last_readers(r, last);
    for (int k = 0; k < r->n_instructions; k++) /* results that are not in place are written after the last instruction */
        if (r->instruction[k].store >= 0) last[r->n_in + k] = r->n_instructions;
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        if (ins->part <= NB__ROW && !nb__writes_in_place(r, ins) && ins->row != NB__CHAIN_STEP) {
            if (ins->part == NB__ROW) r->value_row[k] = new_row(r, length[NB__ROW], 4);
            else r->value_row[k] = n_free ? free_row[--n_free] : new_row(r, length[NB__FULL], 4);
        }
        for (int i = 0; i < k; i++)
            if (last[r->n_in + i] == k && r->instruction[i].part == NB__FULL && !nb__writes_in_place(r, &r->instruction[i]) &&
                r->instruction[i].row != NB__CHAIN_STEP)
                free_row[n_free++] = r->value_row[i];
    }
    r->thread_bytes = aligned(r->thread_bytes);
}

static const bool has_vectors[] = { /* rows of floats: see isa/tiles.c */
#define VECTORS_F_SAME true
#define VECTORS_N_SAME true
#define VECTORS_F_BOOL false
#define VECTORS_A_BOOL false
#define VECTORS_B_BOOL false
#define VECTORS_W_SAME false
#define ROW(name, operands, parameters, types, result, ...) VECTORS_##types##_##result,
#include "elementwise.def"
#undef ROW
};

/* Whether the loop that computes an instruction's result can write past the caches. */
static bool can_stream(const nb__region_plan *r, int k) {
    const nb__instruction *ins = &r->instruction[k];
    if (ins->row >= 0) return has_vectors[ins->row];
    for (int i = 0; i < r->n_chains; i++)
        if (r->chain[i].value[r->chain[i].n - 1] == r->n_in + k) return !nb__has_chain_sums(&r->chain[i]);
    return ins->row == NB__SERIES;
}

/* Results that no cache holds until they are read are written past the caches; but not over an operand, which has been read.
 * Where a loop cannot do that or a later one reads the result, it is put together in a row first. */
static void find_streams(nb__region_plan *r, const nb__call *call, uint64_t fresh) {
    int last[NB__REGION_VALUES];
    find_last_readers(r, last);
    r->streams = false;
    for (int k = 0; k < r->n_instructions; k++) {
        int store = r->instruction[k].store;
        if (store < 0) continue;
        nb__region_array *a = &r->array[r->n_in + store];
        a->streams = a->part == NB__FULL && a->dense && fresh >> store & 1 && nb__array_bytes(&call->out[store]) >= NB__LARGE;
        if (!a->streams) continue;
        a->in_place = !last[r->n_in + k] && can_stream(r, k);
        r->streams = true;
    }
}

/* Whether an operand is the same dense row again and again. */
static bool is_same_row(const nb__region_plan *r, const nb__region_array *a) {
    const nb__space *s = &r->space[NB__FULL];
    int              axes = outer_axes(r);
    if (a->part != NB__FULL || r->row == 1 || axes != s->rank - 1 || a->stride[axes] != 1) return false;
    for (int k = 0; k < axes; k++)
        if (a->stride[k] != 0) return false;
    return true;
}

/* Operands that are one element for all: chains take them as such. Where nobody else reads one, no row is filled with it; nor
 * with a row that only chains read which run row by row. */
static void find_fixed(nb__region_plan *r) {
    for (int i = 0; i < r->n_in; i++) {
        nb__region_array *a = &r->array[i];
        bool              is_one = !a->in_place, is_free = true, is_row = !a->in_place && is_same_row(r, a);
        for (int k = 0; k < r->space[a->part].rank; k++) is_one = is_one && a->stride[k] == 0;
        if (!is_one && !is_row) continue;
        for (int c = 0; c < r->n_chains; c++)
            for (int v = 0; v < r->chain[c].operands; v++) {
                if (r->chain[c].value[v] != i) continue;
                bool reads_one = is_one && (!nb__has_chain_sums(&r->chain[c]) || r->chain[c].row_ones >> v & 1);
                if (reads_one) r->chain[c].ones |= 1u << v;
                is_free = is_free && (reads_one || (is_row && r->chain[c].by_rows));
            }
        for (int k = 0; k < r->n_instructions; k++) {
            const nb__instruction *ins = &r->instruction[k];
            if (ins->row > NB__CHAIN && nb__reads(ins, i)) is_free = false;
        }
        for (int s = 0; s < r->n_series; s++)
            for (int k = 0; k < r->series[s].n_steps; k++) {
                const nb__series_part *p = &r->series[s].step[k];
                if (r->series[s].first == i || p->other == i || p->yes == i || p->no == i) is_free = false;
            }
        if (!is_free) continue;
        a->in_place = a->once = a->is_fixed = true;
        a->is_one = is_one;
    }
}

/* How far each value of a chain that runs row by row goes from one to the next. */
static void set_steps(nb__region_plan *r) {
    for (int i = 0; i < r->n_chains; i++) {
        nb__chain *c = &r->chain[i];
        for (int v = 0; v < c->n && c->by_rows; v++) {
            unsigned bit = v < c->operands ? 1u << v : 0;
            bool     is_fixed = c->value[v] >= 0 && c->value[v] < r->n_in && r->array[c->value[v]].is_fixed;
            bool     is_element = c->row_ones & bit || nb__is_chain_sum(c, v);
            c->step[v] = is_fixed || c->ones & bit ? 0 : is_element ? 4 : (int)(4 * r->row);
        }
    }
}

/* Tiles of that many elements, and where their values lie. Returns the bytes that a tile touches. */
static int64_t lay_out(nb__region_plan *r, const nb__call *call, uint64_t fresh, int64_t tile) {
    cut_into_tiles(r, tile);
    for (int i = 0; i < r->n_in + r->n_out; i++)
        if (r->array[i].part <= NB__ROW)
            place_array(r, &r->array[i], i < r->n_in ? call->c.in[i].dtype : call->out[i - r->n_in].dtype);
    find_streams(r, call, fresh);
    find_fixed(r);
    set_steps(r);
    assign_rows(r);
    int64_t bytes = (int64_t)r->thread_bytes;
    for (int i = 0; i < r->n_in + r->n_out; i++)
        if (r->array[i].part == NB__FULL && r->array[i].in_place && !r->array[i].is_fixed) bytes += r->length * r->array[i].size;
    return bytes;
}

/* Whether tiles of one row of the innermost axis are better: if they save copying that many elements, a row at a time. */
static bool is_better_by_rows(const nb__region_plan *r) {
    const nb__space *s = &r->space[NB__FULL];
    int              inner = s->rank - 1;
    int64_t          copied = 0;
    if (r->pieces || r->row > 1 || r->columns > 1 || s->shape[inner] >= r->length) return false;
    for (int i = 0; i < r->n_in + r->n_out; i++) {
        const nb__region_array *a = &r->array[i];
        if (a->part == NB__FULL && !a->in_place && !a->once && a->stride[inner] == 1) copied += s->shape[inner];
    }
    return copied >= COPIED;
}

/* Whether rows are reduced, and the results worked on, but nothing else is done with any larger array. */
static bool reads_once(const nb__region_plan *r) {
    int large = r->n_sums;
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        if (ins->part != NB__ROW) return false;
        large += ins->row < NB__CAST;
    }
    return large == 1;
}

static bool reduces_rows(const nb__region_plan *r) {
    for (int k = 0; k < r->n_instructions; k++)
        if (r->instruction[k].part == NB__ROW && nb__reduces(&r->instruction[k])) return true;
    return false;
}

/* Operands that no cache holds are fetched a tile ahead, where rows are reduced: their elements are read again, while memory
 * would rest. A single operand the processor foresees. */
static void find_fetched(nb__region_plan *r, const nb__call *call) {
    int n = 0;
    for (int i = 0; i < r->n_in; i++) {
        nb__region_array *a = &r->array[i];
        a->is_fetched = a->part == NB__FULL && a->dense && !a->is_fixed && nb__array_bytes(&call->c.in[i]) >= NB__LARGE;
        n += a->is_fetched;
    }
    if (n > 1 && reduces_rows(r))
        for (int k = 0; k < r->n_instructions; k++) r->n_passes += nb__is_pass(&r->instruction[k]);
}

/* What there is to do for each tile. */
static void list_work(nb__region_plan *r) {
    for (int i = 0; i < r->n_in + r->n_out; i++) {
        const nb__region_array *a = &r->array[i];
        if (a->part > NB__ROW || (i < r->n_in ? a->once : !a->in_place)) continue;
        r->moving[r->n_moving++] = i;
        r->needs_index |= a->in_place && !a->dense;
    }
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        if (ins->store >= 0 && ins->part <= NB__ROW && !nb__writes_in_place(r, ins)) r->leaving[r->n_leaving++] = k;
    }
}

static void place_sums(nb__region_plan *r) {
    size_t at = r->partial_at;
    r->n_sums = 0;
    for (int k = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        r->sum_of[k] = -1;
        if (ins->part <= NB__ROW) continue;
        nb__region_sum *s = &r->sum[r->n_sums];
        r->sum_of[k] = r->n_sums++;
        *s = (nb__region_sum){.result = ins->store, .width = ins->part == NB__COLUMN ? r->columns : 1, .at = at};
        memcpy(s->stride, r->array[r->n_in + ins->store].stride, sizeof s->stride);
        at += aligned((size_t)(r->groups * s->width) * sizeof(double));
    }
}

bool nb__plan_region(nb_context *nb, const nb__isa *isa, const nb__region *what, const nb__call *call, int threads,
                     nb__plan *plan) {
    int n_in = what->n_in, n = what->n_instructions, n_out = call->n_out;
    if (!isa->tiles || n < 1 || n > NB__REGION_MAX || n_in > NB__REGION_MAX || n_out > NB__REGION_MAX) return false;
    size_t arrays = (size_t)(n_in + n_out), room = (size_t)(2 * n + n_in), head = aligned(sizeof(nb__region_plan));
    char  *memory = nb_alloc(nb, head + room * (sizeof(nb__instruction) + sizeof(size_t) + 2 * sizeof(int)) +
                                     arrays * (sizeof(nb__region_array) + sizeof(int)) + (size_t)n * sizeof(nb__region_sum) +
                                     room * sizeof(nb__chain) + (room / 2 + 1) * sizeof(nb__series));
    if (!memory) return false;
    nb__region_plan *r = (nb__region_plan *)memory;
    *r = (nb__region_plan){.tiles = isa->tiles,
                           .loops = isa->loops,
                           .moves = isa->move,
                           .chain_tiles = isa->chains,
                           .series_tile = isa->series,
                           .casts = isa->casts,
                           .n_in = n_in,
                           .n_out = n_out};
    r->array = (nb__region_array *)(memory + head);
    r->sum = (nb__region_sum *)(r->array + arrays);
    r->instruction = (nb__instruction *)(r->sum + n);
    r->value_row = (size_t *)(r->instruction + room);
    r->sum_of = (int *)(r->value_row + room);
    r->leaving = r->sum_of + room;
    r->moving = r->leaving + room;
    r->chain = (nb__chain *)(r->moving + arrays); /* of numbers no wider than int, as are series */
    r->series = (nb__series *)(r->chain + room);
    memcpy(r->in_dtype, what->in_dtype, sizeof r->in_dtype);
    for (int i = 0; i < n_in; i++) r->array[i].part = what->in_part[i];
    for (int k = 0; k < n; k++) {
        int s = what->instruction[k].store;
        if (s >= 0) r->array[n_in + s].part = what->instruction[k].part;
        r->n_sums += what->instruction[k].part > NB__ROW;
    }
    make_spaces(r, what, call);
    find_row_operands(r, what);
    nb__copy_instructions(r, what);
    nb__put_off_row_work(r);
    r->n_chains = nb__find_chains(r->instruction, n_in, r->in_dtype, r->n_instructions, r->row >= NB__LONG_ROW, r->chain);
    r->n_series = nb__find_series(r->instruction, n_in, r->in_dtype, r->n_instructions, r->series);
    if (reads_once(r)) lay_out(r, call, what->fresh, ONCE_TILE);
    else
        for (int64_t tile = TILE;
             (lay_out(r, call, what->fresh, tile) > CACHE || (r->streams && tile > STREAM_TILE)) && tile > LEAST_TILE;)
            tile /= 2;
    if (is_better_by_rows(r)) lay_out(r, call, what->fresh, r->space[NB__FULL].shape[r->space[NB__FULL].rank - 1]);
    find_fetched(r, call);
    list_work(r);
    r->partial_at = (size_t)threads * r->thread_bytes;
    place_sums(r);
    size_t sums = 0;
    for (int s = 0; s < r->n_sums; s++) sums += aligned((size_t)(r->groups * r->sum[s].width) * sizeof(double));
    *plan = (nb__plan){.kernel = "region", .run = nb__run_region, .state = r, .scratch_bytes = r->partial_at + sums};
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
