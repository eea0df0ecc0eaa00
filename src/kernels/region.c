/* region.c: many elementwise operators and reductions as one pass over memory.
 *
 * The iteration space is cut into tiles of some hundreds to two thousand elements. For each tile the instructions run one after
 * the other, each a loop over the tile (kernels/isa/), so that what lies between them stays in the L1 cache. What lies in memory
 * as the tile does is read and written in place; anything else is copied into a row first, or out of one at the end. A tile has
 * whole rows where rows are reduced; sums over columns or over everything are gathered by groups of tiles and put together at the
 * end, in the order of the groups. */
#include "numbers.h"
#include "region.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------------------- runs of a tile */

typedef struct job {
    const nb__region_plan *region;
    const nb__call        *call;
    char                  *scratch;
} job;

enum { LINE = 64 }; /* bytes of the caches */

/* A tile: elements first .. first + n - 1 of the full space, the same in rows, and where the values are that were computed. */
typedef struct tile {
    const job *job;
    int64_t    first[2], n[2]; /* by part */
    int64_t    group;
    char      *rows; /* the thread's scratch */
    void      *value[NB__REGION_VALUES];
    nb_dtype   dtype[NB__REGION_VALUES];
} tile;

/* The place that b[r] tells in a row of `row` elements, or -1: then the run fails. */
static int64_t place_of(const tile *t, const nb__instruction *ins, int index, int64_t r) {
    const nb__region_plan *p = t->job->region;
    int64_t place = t->dtype[index] == NB_I64 ? ((const int64_t *)t->value[index])[r] : ((const int32_t *)t->value[index])[r];
    if (place >= 0 && place < p->row) return place;
    nb_raise(&t->job->call->c, t->first[NB__ROW] + r, "%s: index %lld is outside 0..%lld",
             ins->row == NB__PICK ? "gather" : "scatter_add", (long long)place, (long long)p->row - 1);
    return -1;
}

static void pick(const tile *t, const nb__instruction *ins, float *y) {
    int64_t      row = t->job->region->row;
    const float *x = t->value[ins->in[0]];
    for (int64_t r = 0; r < t->n[NB__ROW]; r++) {
        int64_t place = place_of(t, ins, ins->in[1], r);
        y[r] = place >= 0 ? x[r * row + place] : 0;
    }
}

static void put(const tile *t, const nb__instruction *ins, float *y) {
    int64_t      row = t->job->region->row;
    const float *x = t->value[ins->in[1]];
    memset(y, 0, (size_t)t->n[NB__FULL] * sizeof *y);
    for (int64_t r = 0; r < t->n[NB__ROW]; r++) {
        int64_t place = place_of(t, ins, ins->in[0], r);
        if (place >= 0) y[r * row + place] += x[r];
    }
}

static void splat(const tile *t, const nb__instruction *ins, void *y) {
    int64_t row = t->job->region->row, rows = t->n[NB__ROW];
    if (ins->dtype == NB_BOOL) {
        for (int64_t r = 0; r < rows; r++)
            memset((uint8_t *)y + r * row, ((const uint8_t *)t->value[ins->in[0]])[r], (size_t)row);
        return;
    }
    t->job->region->loops->spread_rows(y, t->value[ins->in[0]], rows, row);
}

static void reduce_rows(const tile *t, const nb__instruction *ins, float *y) {
    const nb__region_plan *p = t->job->region;
    nb__row_loop *loop = ins->row == NB__SUM ? p->loops->sum_rows : ins->row == NB__MAX ? p->loops->max_rows : p->loops->min_rows;
    loop(y, 1, t->value[ins->in[0]], p->row, t->n[NB__ROW], p->row);
}

static void add_up(const tile *t, const nb__instruction *ins, const nb__region_sum *sum) {
    const nb__region_plan *p = t->job->region;
    double                *y = (double *)(t->job->scratch + sum->at) + t->group * sum->width;
    int                    x = ins->in[0];
    if (ins->part == NB__COLUMN)
        p->loops->sum_columns(y, t->value[x], t->n[NB__FULL] / p->columns, p->columns, p->columns);
    else
        *y += p->loops->sum(t->value[x], t->n[x < p->n_in ? p->array[x].part : p->instruction[x - p->n_in].part]);
}

static void run_chain(const tile *t, const nb__chain *c, nb__part part) {
    const nb__region_plan *p = t->job->region;
    void *value[NB__CHAIN_VALUES];
    for (int v = 0; v < c->n; v++) value[v] = c->value[v] >= 0 ? t->value[c->value[v]] : NULL;
    bool streams = p->streams && c->value[c->n - 1] >= 0 && nb__streams(p, &p->instruction[c->value[c->n - 1] - p->n_in]);
    p->chain_tiles[c->pattern](value, c->step, c->ones | c->row_ones, c->by_rows ? t->n[NB__ROW] : 1,
                               c->by_rows ? p->row : t->n[part], streams);
}

static void run_series(const tile *t, const nb__series *c, int64_t n) {
    const nb__region_plan *r = t->job->region;
    nb__series_step        step[NB__SERIES_STEPS];
    for (int i = 0; i < c->n_steps; i++) {
        const nb__series_part *p = &c->step[i];
        step[i] = (nb__series_step){
            .code = p->code, .other = t->value[p->other], .yes = t->value[p->yes], .no = t->value[p->no], .p = p->p, .q = p->q};
        if (p->result < 0) continue;
        step[i].keep = t->value[p->result];
        step[i].streams = nb__streams(r, &r->instruction[p->result - r->n_in]);
    }
    const nb__series_step *last = &step[c->n_steps - 1];
    int64_t                head = last->streams ? nb__before_line(last->keep, n) : 0;
    if (head) r->series_tile(step, c->n_steps, t->value[c->first], 0, head);
    r->series_tile(step, c->n_steps, t->value[c->first], head, n);
}

/* An elementwise row; what streams begins with a whole line of memory. */
static void run_row(const tile *t, const nb__instruction *ins, float *y) {
    const nb__region_plan *p = t->job->region;
    const void            *in[3];
    bool                   streams = nb__streams(p, ins);
    int64_t                n = t->n[ins->part], head = streams ? nb__before_line(y, n) : 0;
    for (int m = 0; m < 3; m++) in[m] = ins->in[m] < 0 ? NULL : t->value[ins->in[m]];
    if (head) {
        p->tiles[ins->row](y, in[0], in[1], in[2], head, ins->p, ins->q, true);
        for (int m = 0; m < 3; m++) in[m] = in[m] ? (const float *)in[m] + head : NULL;
    }
    p->tiles[ins->row](y + head, in[0], in[1], in[2], n - head, ins->p, ins->q, streams);
}

static void run_instruction(tile *t, int k, void *y) {
    const nb__region_plan *p = t->job->region;
    const nb__instruction *ins = &p->instruction[k];
    switch (ins->row) {
    case NB__CAST: p->casts[t->dtype[ins->in[0]]][ins->dtype](y, t->value[ins->in[0]], t->n[ins->part]); return;
    case NB__CHAIN: run_chain(t, &p->chain[ins->chain], ins->part); return;
    case NB__SERIES: run_series(t, &p->series[ins->chain], t->n[ins->part]); return;
    case NB__CHAIN_KEEP:
    case NB__CHAIN_STEP: return;
    case NB__SUM:
    case NB__MAX:
    case NB__MIN:
        if (ins->part == NB__ROW)
            reduce_rows(t, ins, y);
        else
            add_up(t, ins, &p->sum[p->sum_of[k]]);
        return;
    case NB__PICK: pick(t, ins, y); return;
    case NB__PLACE: put(t, ins, y); return;
    case NB__SPLAT: splat(t, ins, y); return;
    default: run_row(t, ins, y);
    }
}

static void gather(const nb__region_plan *r, const nb__region_array *a, const nb_array *array, int64_t first, int64_t n,
                   void *row) {
    bool is_number = a->size == sizeof(float);
    for (int i = 0; i < r->space[a->part].rank; i++) is_number = is_number && a->stride[i] == 0;
    if (is_number) r->loops->spread_rows(row, array->data, 1, n);
    else nb__gather(&r->space[a->part], a->stride, a->size, array->data, first, n, row);
}

/* Of what the next tile reads the part of one pass. The processor foresees how a loop goes on, but not what comes after loops
 * over what is in the cache: memory would rest meanwhile. (Always inline: GCC takes a function that only fetches for one that
 * does nothing, and leaves the call out.) */
static inline __attribute__((always_inline)) void fetch_ahead(const tile *t, int pass) {
    const nb__region_plan *r = t->job->region;
    for (int i = 0; i < r->n_in; i++) {
        if (!r->array[i].is_fetched) continue;
        int64_t bytes = t->n[NB__FULL] * r->array[i].size, lines = divide_up(bytes, LINE), end = lines * (pass + 1) / r->n_passes;
        const char *next = (const char *)t->value[i] + bytes;
        for (int64_t line = lines * pass / r->n_passes; line < end; line++) __builtin_prefetch(next + line * LINE);
    }
}

static void run_tile(tile *t) {
    const nb__region_plan *r = t->job->region;
    const nb__call        *call = t->job->call;
    void                  *out[NB__REGION_MAX];
    int64_t                index[2][NB_MAX_RANK];
    if (r->needs_index) {
        nb__space_index(&r->space[NB__FULL], t->first[NB__FULL], index[NB__FULL]);
        if (r->row > 1) nb__space_index(&r->space[NB__ROW], t->first[NB__ROW], index[NB__ROW]); /* else there are no rows */
    }
    for (int m = 0; m < r->n_moving; m++) {
        int                     i = r->moving[m];
        const nb__region_array *a = &r->array[i];
        const nb_array         *array = i < r->n_in ? &call->c.in[i] : &call->out[i - r->n_in];
        void                  **at = i < r->n_in ? &t->value[i] : &out[i - r->n_in];
        if (a->dense)
            *at = (char *)array->data + t->first[a->part] * a->size;
        else if (a->in_place)
            *at = (char *)array->data + nb__space_offset(&r->space[a->part], a->stride, index[a->part]) * a->size;
        else
            gather(r, a, array, t->first[a->part], t->n[a->part], *at = t->rows + a->row);
    }
    for (int k = 0, pass = 0; k < r->n_instructions; k++) {
        const nb__instruction *ins = &r->instruction[k];
        if (r->n_passes && nb__is_pass(ins)) fetch_ahead(t, pass++);
        void *y = t->value[r->n_in + k] = nb__writes_in_place(r, ins) ? out[ins->store] : t->rows + r->value_row[k];
        run_instruction(t, k, y);
    }
    for (int m = 0; m < r->n_leaving; m++) {
        int                     k = r->leaving[m], store = r->instruction[k].store;
        const nb__region_array *a = &r->array[r->n_in + store];
        char                   *data = call->out[store].data;
        int64_t                 first = t->first[a->part], n = t->n[a->part];
        if (a->streams) r->moves->stream(data + first * a->size, t->rows + r->value_row[k], (size_t)(n * a->size));
        else nb__scatter(&r->space[a->part], a->stride, a->size, data, first, n, t->rows + r->value_row[k]);
    }
}

/* ------------------------------------------------------------------------------------------------------------ groups of tiles */

static void run_group(void *arg, int64_t group, int thread) {
    const job             *j = arg;
    const nb__region_plan *r = j->region;
    tile                   t = {.job = j, .group = group, .rows = j->scratch + (size_t)thread * r->thread_bytes};
    int64_t                number = group * r->n_tiles / r->groups, end = (group + 1) * r->n_tiles / r->groups;
    int64_t                count = r->space[NB__FULL].count, longest = r->length < count ? r->length : count;
    for (int i = 0; i < r->n_in; i++) {
        const nb__region_array *a = &r->array[i];
        t.dtype[i] = r->in_dtype[i];
        if (a->is_fixed) t.value[i] = j->call->c.in[i].data;
        else if (a->once)
            gather(r, a, &j->call->c.in[i], 0, a->part == NB__ROW ? longest / r->row : longest, t.value[i] = t.rows + a->row);
    }
    for (int k = 0; k < r->n_instructions; k++) t.dtype[r->n_in + k] = r->instruction[k].dtype;
    for (int s = 0; s < r->n_sums; s++)
        memset((double *)(j->scratch + r->sum[s].at) + group * r->sum[s].width, 0, (size_t)r->sum[s].width * sizeof(double));
    for (; number < end; number++) {
        int64_t first = number * r->length, left = count - first;
        if (r->pieces) {
            int64_t inner = r->space[NB__FULL].shape[r->space[NB__FULL].rank - 1], at = number % r->pieces * r->length;
            first = number / r->pieces * inner + at;
            left = inner - at;
        }
        t.first[NB__FULL] = first;
        t.n[NB__FULL] = left < r->length ? left : r->length;
        t.first[NB__ROW] = first / r->row;
        t.n[NB__ROW] = t.n[NB__FULL] / r->row;
        run_tile(&t);
    }
    if (r->streams) r->moves->fence();
}

enum { COLUMNS_A_TASK = 256 };

typedef struct sum_job {
    const nb__region_sum  *sum;
    const nb__region_plan *region;
    const double          *partial; /* [groups, width] */
    float                 *out;
} sum_job;

/* Columns first .. end - 1 of all groups, in the order of the groups. */
static void join_columns(void *arg, int64_t task, int thread) {
    const sum_job        *j = arg;
    const nb__region_sum *s = j->sum;
    const nb__space      *space = &j->region->space[NB__FULL];
    int64_t first = task * COLUMNS_A_TASK, end = first + COLUMNS_A_TASK < s->width ? first + COLUMNS_A_TASK : s->width;
    (void)thread;
    for (int64_t c = first; c < end; c++) {
        double  all = 0;
        int64_t at = 0, rest = c;
        for (int64_t g = 0; g < j->region->groups; g++) all += j->partial[g * s->width + c];
        for (int i = space->rank - 1; i >= 0 && s->width > 1; i--) {
            at += rest % space->shape[i] * s->stride[i];
            rest /= space->shape[i];
        }
        j->out[at] = (float)all;
    }
}

void nb__run_region(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    enum { PARALLEL_WORK = 48 * 1024 }; /* elements times instructions that are worth waking threads */
    const nb__region_plan *r = plan->state;
    job                    j = {r, call, scratch};
    bool                   alone = r->space[NB__FULL].count * r->n_instructions < PARALLEL_WORK;
    nb__parallel(alone ? NULL : pool, r->groups, run_group, &j);
    for (int s = 0; s < r->n_sums; s++) {
        const nb__region_sum *sum = &r->sum[s];
        sum_job               sj = {sum, r, (const double *)((char *)scratch + sum->at), call->out[sum->result].data};
        nb__parallel(alone ? NULL : pool, (sum->width + COLUMNS_A_TASK - 1) / COLUMNS_A_TASK, join_columns, &sj);
    }
}
