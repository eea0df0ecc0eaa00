/* reduce.c: reductions of f32 arrays of any strides.
 *
 * The axes of a call are sorted into those that stay and those that go, size 1 is dropped, and neighbours that lie evenly in
 * memory become one. What is left is one of two cases: elements next to each other belong to one result (rows: bias of a row,
 * losses, softmax), or to neighbouring results (columns: bias gradients, batch statistics of channels-last images). Rows whose
 * elements lie apart are first gathered. A long reduction is cut into groups; the partial results of the groups meet in their
 * order. */
#include <math.h>

#include "isa/loops.h"
#include "isa/moments.h"
#include "kernels.h"
#include "numbers.h"

typedef enum reduction { SUM, PROD, MOMENTS, MAX, MIN, ARGMAX, ARGMIN } reduction;

/* Axes with their strides in elements, the innermost last. */
typedef struct axes {
    int     n;
    int64_t size[NB_MAX_RANK], in[NB_MAX_RANK], out[NB_MAX_RANK];
} axes;

typedef struct state {
    const struct nb__loops *loops;
    const nb__moment_loops *moments;
    reduction               what;
    int64_t                 second; /* MOMENTS: from a sum to its sum of squares, in the result */
    axes                    kept, gone;
    int64_t                 base;      /* offset of the first element: axes that go are walked forwards */
    int64_t                 results;   /* all kept elements */
    int64_t                 groups;    /* that one reduction is cut into */
    int64_t                 per_group; /* rows: pieces; columns: rows */
    /* rows: a piece is (a part of) the innermost axis that goes */
    int64_t pieces, blocks; /* of one result; of one innermost axis */
    int64_t results_a_tile;
    /* columns: the innermost kept axis in parts of `width` */
    int64_t width, parts, rows;
    void (*columns)(double *y, const float *x, int64_t rows, int64_t stride, int64_t n);
    nb__row_loop *whole; /* rows: of one piece each, elements side by side; else NULL */
} state;

enum {
    PIECE = 32768,         /* elements of a piece at most, and of a group about */
    COLUMN_PIECE = 131072, /* elements of a group of columns at least: partial sums of many columns take time to join */
    ONE_GROUP = 65536,     /* elements of a result that are not cut into groups */
    RESULTS = 8,           /* that are reduced together, where their pieces are many */
    TILE = 16384,          /* elements of a tile at least, where results are many */
    WIDTH = 1024,          /* columns of a tile at most: their sums stay in the first cache */
    MAX_GROUPS = 32,       /* of columns, whose partial sums take memory */
    GATHER = 1024          /* elements that are gathered at a time */
};

/* ------------------------------------------------------------------------------------------------------------------- planning */

static int64_t distance(int64_t stride) { return stride == 0 ? INT64_MAX : stride < 0 ? -stride : stride; }

/* Inserts an axis so that strides fall. Broadcast axes come first. */
static void add_axis(axes *a, int64_t size, int64_t in, int64_t out) {
    int i = a->n++;
    for (; i > 0 && distance(a->in[i - 1]) < distance(in); i--) {
        a->size[i] = a->size[i - 1];
        a->in[i] = a->in[i - 1];
        a->out[i] = a->out[i - 1];
    }
    a->size[i] = size;
    a->in[i] = in;
    a->out[i] = out;
}

/* Makes one of neighbours that lie evenly. An empty list becomes one axis of size 1. */
static void merge(axes *a) {
    if (!a->n) add_axis(a, 1, 0, 0);
    int last = 0;
    for (int i = 1; i < a->n; i++) {
        bool even = a->in[last] == a->size[i] * a->in[i] && a->out[last] == a->size[i] * a->out[i];
        int  to = even ? last : ++last;
        a->size[to] = even ? a->size[last] * a->size[i] : a->size[i];
        a->in[to] = a->in[i];
        a->out[to] = a->out[i];
    }
    a->n = last + 1;
}

static int64_t count(const axes *a) {
    int64_t n = 1;
    for (int i = 0; i < a->n; i++) n *= a->size[i];
    return n;
}

/* Offset of element `number` of the first n axes, by their strides in or out. */
static int64_t offset(const axes *a, int n, const int64_t *stride, int64_t number) {
    int64_t at = 0;
    for (int i = n - 1; i > 0; i--) {
        at += number % a->size[i] * stride[i];
        number /= a->size[i];
    }
    return n > 0 ? at + number * stride[0] : 0;
}

static void plan_rows(state *s) {
    int64_t n = s->gone.size[s->gone.n - 1], all = count(&s->gone);
    s->blocks = n ? divide_up(n, PIECE) : 1;
    s->pieces = n ? all / n * s->blocks : 0;
    s->per_group = all > ONE_GROUP ? most(1, PIECE / n) : most(1, s->pieces);
    s->groups = most(1, divide_up(s->pieces, s->per_group));
    s->results_a_tile = s->groups > 1 ? (s->pieces > s->groups ? RESULTS : 1) : most(1, TILE / most(1, all));
    if (s->pieces != 1 || s->gone.in[s->gone.n - 1] != 1) return;
    const struct nb__loops *l = s->loops;
    nb__row_loop *const     loops[] = {l->sum_rows, NULL, NULL, l->max_rows, l->min_rows, l->argmax_rows, l->argmin_rows};
    s->whole = loops[s->what];
}

static void plan_columns(state *s) {
    int64_t columns = s->kept.size[s->kept.n - 1];
    s->columns = s->what == SUM ? s->loops->sum_columns : s->what == MAX ? s->loops->max_columns : s->loops->min_columns;
    s->rows = count(&s->gone);
    s->width = least(columns, WIDTH);
    s->parts = divide_up(columns, s->width);
    int64_t tiles = s->results / columns * s->parts, most_groups = most(1, MAX_GROUPS / tiles);
    s->per_group = most(divide_up(COLUMN_PIECE, s->width), divide_up(s->rows, most_groups));
    s->per_group = divide_up(s->per_group, 16) * 16; /* whole blocks of the loop */
    s->groups = most(1, divide_up(s->rows, s->per_group));
}

/* ----------------------------------------------------------------------------------------------------------------------- rows */

/* What is known of a result so far: its value, and for arg operators the place. */
typedef struct partial {
    double  value, squares; /* squares: of MOMENTS, which are sums around the result's first element */
    int64_t place;          /* -1: nothing yet */
} partial;

/* b comes behind a. A NaN is larger than all, and smaller. */
static partial join(reduction what, partial a, partial b) {
    if (a.place < 0) return b;
    switch (what) {
    case MOMENTS: a.squares += b.squares; /* fall through */
    case SUM: a.value += b.value; return a;
    case PROD: a.value *= b.value; return a;
    case MAX:
    case ARGMAX: return a.value == a.value && (b.value > a.value || b.value != b.value) ? b : a;
    default: return a.value == a.value && (b.value < a.value || b.value != b.value) ? b : a;
    }
}

/* Around which number a result's elements are added up: the first of them, so that what all have in common does not count. */
static float centre_of(float first) { return isfinite(first) ? first : 0; }

/* Of arg operators the value only: most pieces are beaten by others, and need no place. first: of the result's elements. */
static partial reduce_row(const state *s, const float *x, int64_t n, float first) {
    partial p = {.place = 0};
    double  sums[2] = {0, 0};
    switch (s->what) {
    case MOMENTS:
        s->moments->row(sums, x, n, centre_of(first));
        p.value = sums[0];
        p.squares = sums[1];
        break;
    case SUM: p.value = s->loops->sum(x, n); break;
    case PROD: p.value = s->loops->prod(x, n); break;
    case MAX:
    case ARGMAX: p.value = (double)s->loops->max(x, n); break;
    default: p.value = (double)s->loops->min(x, n);
    }
    return p;
}

static partial reduce_spread(const state *s, const float *x, int64_t stride, int64_t n, float first) {
    float   row[GATHER];
    partial all = {.place = -1};
    for (int64_t start = 0; start < n; start += GATHER) {
        int64_t m = least(GATHER, n - start);
        for (int64_t i = 0; i < m; i++) row[i] = x[(start + i) * stride];
        partial p = reduce_row(s, row, m, first);
        if (s->what >= ARGMAX) p.place = s->loops->find(row, m, (float)p.value);
        p.place += start;
        all = join(s->what, all, p);
    }
    return all;
}

/* Pieces first..end-1 of `results` results, whose elements begin at x[...]. Result by result within a piece: those of neighbours
 * often lie beside each other, as channels do within an image. */
static void reduce_pieces(const state *s, const float *const *x, int64_t results, int64_t first, int64_t end, partial *all) {
    int     last = s->gone.n - 1;
    int64_t n = s->gone.size[last], stride = s->gone.in[last];
    for (int64_t r = 0; r < results; r++) all[r] = (partial){.place = -1};
    for (int64_t i = first; i < end; i++) {
        int64_t start = i % s->blocks * PIECE, m = least(PIECE, n - start);
        int64_t at = offset(&s->gone, last, s->gone.in, i / s->blocks) + start * stride;
        for (int64_t r = 0; r < results; r++) {
            partial p = stride == 1 ? reduce_row(s, x[r] + at, m, *x[r]) : reduce_spread(s, x[r] + at, stride, m, *x[r]);
            p.place += start;
            all[r] = join(s->what, all[r], p);
        }
    }
}

/* The place of an extreme of a result that begins at x: `place` holds where its piece begins. */
static void find_place(const state *s, const float *x, partial *p) {
    int64_t n = s->gone.size[s->gone.n - 1], stride = s->gone.in[s->gone.n - 1];
    if (s->what >= ARGMAX && stride == 1 && p->place >= 0)
        p->place += s->loops->find(x + p->place, least(PIECE, n - p->place), (float)p->value);
}

/* The sums of n elements, and of their squares around the mean, from those around c. */
static void store_moments(const state *s, float *out, double sum, double squares, double n, float c) {
    double around_mean = n > 0 ? squares - sum * sum / n : 0;
    out[0] = (float)(sum + n * (double)c);
    out[s->second] = (float)(around_mean < 0 ? 0 : around_mean);
}

/* x: the result's elements. */
static void store(const state *s, void *out, int64_t result, const float *x, partial p) {
    int64_t at = offset(&s->kept, s->kept.n, s->kept.out, result);
    if (p.place < 0) p.value = s->what == PROD ? 1 : 0; /* of no elements */
    if (s->what >= ARGMAX)
        ((int64_t *)out)[at] = p.place;
    else if (s->what == MOMENTS)
        store_moments(s, (float *)out + at, p.value, p.squares, (double)count(&s->gone), p.place < 0 ? 0 : centre_of(*x));
    else
        ((float *)out)[at] = (float)p.value;
}

/* One run of a plan. */
typedef struct job {
    const state *s;
    const float *in;
    void        *out, *partial; /* of group g of result r: [r, g]; of columns [outer, g, columns] */
} job;

/* Results first..end-1, along the innermost axis that stays as far as it goes. */
static void whole_rows(const state *s, const job *j, int64_t first, int64_t end) {
    int     last = s->kept.n - 1;
    int64_t size = s->kept.size[last], n = s->gone.size[s->gone.n - 1], bytes = s->what >= ARGMAX ? 8 : 4;
    for (int64_t r = first; r < end;) {
        int64_t run = least(end - r, size - r % size);
        s->whole((char *)j->out + offset(&s->kept, s->kept.n, s->kept.out, r) * bytes, s->kept.out[last],
                 j->in + offset(&s->kept, s->kept.n, s->kept.in, r), s->kept.in[last], run, n);
        r += run;
    }
}

static void rows_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t first = tile / s->groups * s->results_a_tile, end = least(first + s->results_a_tile, s->results);
    int64_t group = tile % s->groups, from = group * s->per_group, to = least(from + s->per_group, s->pieces);
    if (s->whole) {
        whole_rows(s, j, first, end);
        return;
    }
    for (int64_t r = first, many; r < end; r += many) {
        const float *x[RESULTS];
        partial      all[RESULTS];
        many = least(RESULTS, end - r);
        for (int64_t i = 0; i < many; i++) x[i] = j->in + offset(&s->kept, s->kept.n, s->kept.in, r + i);
        reduce_pieces(s, x, many, from, to, all);
        for (int64_t i = 0; i < many; i++) {
            if (s->groups > 1) {
                ((partial *)j->partial)[(r + i) * s->groups + group] = all[i];
                continue;
            }
            find_place(s, x[i], &all[i]);
            store(s, j->out, r + i, x[i], all[i]);
        }
    }
}

static void run_rows(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, (const float *)call->c.in[0].data + s->base, call->c.out.data, scratch};
    nb__parallel(pool, divide_up(s->results, s->results_a_tile) * s->groups, rows_task, &j);
    if (s->groups == 1) return;
    for (int64_t r = 0; r < s->results; r++) {
        const partial *p = (const partial *)scratch + r * s->groups;
        partial        all = p[0];
        for (int64_t g = 1; g < s->groups; g++) all = join(s->what, all, p[g]);
        const float *x = j.in + offset(&s->kept, s->kept.n, s->kept.in, r);
        find_place(s, x, &all);
        store(s, j.out, r, x, all);
    }
}

/* -------------------------------------------------------------------------------------------------------------------- columns */

/* What is known of the columns of a tile. */
typedef struct columns {
    double  value[WIDTH], squares[WIDTH]; /* squares, centre: of MOMENTS */
    float   centre[WIDTH];
    int64_t place[WIDTH]; /* of arg operators; -1: nothing yet */
} columns;

/* x: the first row. */
static void begin_columns(const state *s, columns *y, const float *x, int64_t width) {
    double start = s->what <= MOMENTS ? 0 : s->what == MAX ? -INFINITY : INFINITY;
    for (int64_t i = 0; i < s->width; i++) y->value[i] = start;
    for (int64_t i = 0; i < width && s->what == MOMENTS; i++) {
        y->squares[i] = 0;
        y->centre[i] = s->rows > 0 ? centre_of(x[i]) : 0;
    }
    for (int64_t i = 0; i < s->width && s->what >= ARGMAX; i++) y->place[i] = -1;
}

/* Rows from..to-1 reduced into y[width]. */
static void reduce_rows(const state *s, const float *x, int64_t from, int64_t to, columns *y, int64_t width) {
    int     last = s->gone.n - 1;
    int64_t n = s->gone.size[last], stride = s->gone.in[last];
    for (int64_t r = from; r < to;) {
        int64_t      inner = r % n, run = least(n - inner, to - r);
        const float *row = x + offset(&s->gone, last, s->gone.in, r / n) + inner * stride;
        if (s->what == ARGMAX)
            s->loops->argmax_columns(y->value, y->place, row, r, run, stride, width);
        else if (s->what == ARGMIN)
            s->loops->argmin_columns(y->value, y->place, row, r, run, stride, width);
        else if (s->what == MOMENTS)
            s->moments->columns(y->value, y->squares, y->centre, row, run, stride, width);
        else
            s->columns(y->value, row, run, stride, width);
        r += run;
    }
}

static void store_columns(const state *s, const job *j, int64_t outer, int64_t first, const columns *y, int64_t width) {
    int     last = s->kept.n - 1;
    int64_t stride = s->kept.out[last], at = offset(&s->kept, last, s->kept.out, outer) + first * stride;
    if (s->what >= ARGMAX)
        for (int64_t i = 0; i < width; i++) ((int64_t *)j->out)[at + i * stride] = y->place[i];
    else if (s->what == MOMENTS)
        for (int64_t i = 0; i < width; i++)
            store_moments(s, (float *)j->out + at + i * stride, y->value[i], y->squares[i], (double)s->rows, y->centre[i]);
    else
        for (int64_t i = 0; i < width; i++) ((float *)j->out)[at + i * stride] = (float)y->value[i];
}

static void columns_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int     last = s->kept.n - 1;
    int64_t all = s->kept.size[last], group = tile % s->groups, part = tile / s->groups % s->parts,
            outer = tile / s->groups / s->parts;
    int64_t      first = part * s->width, width = least(s->width, all - first), from = group * s->per_group;
    const float *x = j->in + offset(&s->kept, last, s->kept.in, outer) + first;
    columns      y;
    begin_columns(s, &y, x, width);
    reduce_rows(s, x, from, least(from + s->per_group, s->rows), &y, width);
    if (s->groups == 1) {
        store_columns(s, j, outer, first, &y, width);
        return;
    }
    partial *kept = (partial *)j->partial + (outer * s->groups + group) * all + first;
    for (int64_t i = 0; i < width; i++)
        kept[i] = (partial){y.value[i], s->what == MOMENTS ? y.squares[i] : 0, s->what >= ARGMAX ? y.place[i] : 0};
}

static void join_columns_task(void *arg, int64_t tile, int thread) {
    const job   *j = arg;
    const state *s = j->s;
    (void)thread;
    int64_t all = s->kept.size[s->kept.n - 1], outer = tile / s->parts, first = tile % s->parts * s->width;
    int64_t width = least(s->width, all - first);
    columns y;
    begin_columns(s, &y, j->in + offset(&s->kept, s->kept.n - 1, s->kept.in, outer) + first, width);
    for (int64_t i = 0; i < width; i++) {
        const partial *kept = (const partial *)j->partial + outer * s->groups * all + first + i;
        partial        p = kept[0];
        for (int64_t g = 1; g < s->groups; g++) p = join(s->what, p, kept[g * all]);
        y.value[i] = p.value;
        y.squares[i] = p.squares;
        y.place[i] = p.place;
    }
    store_columns(s, j, outer, first, &y, width);
}

static void run_columns(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    const state *s = plan->state;
    job          j = {s, (const float *)call->c.in[0].data + s->base, call->c.out.data, scratch};
    int64_t      tiles = s->results / s->kept.size[s->kept.n - 1] * s->parts;
    nb__parallel(pool, tiles * s->groups, columns_task, &j);
    if (s->groups > 1) nb__parallel(pool, tiles, join_columns_task, &j);
}

void nb__run_nothing(const nb__plan *plan, const nb__call *call, void *scratch, nb_pool *pool) {
    (void)plan;
    (void)call;
    (void)scratch;
    (void)pool;
}

/* ------------------------------------------------------------------------------------------------------------------- planners */

/* which[i]: axis i goes. */
static bool make_plan(nb_context *nb, const nb__isa *isa, const nb__call *call, reduction what, const bool *which,
                      nb__plan *plan) {
    const nb_array *in = &call->c.in[0], *out = &call->c.out;
    if (!isa->loops || in->dtype != NB_F32 || out->dtype != (what >= ARGMAX ? NB_I64 : NB_F32)) return false;
    state *s = nb_alloc(nb, sizeof *s);
    if (!s) return false;
    s->loops = isa->loops;
    s->moments = isa->moments;
    s->what = what;
    for (int i = 0; i < in->rank; i++) {
        int64_t size = in->shape[i], stride = in->stride[i];
        if (size == 1) continue;
        if (!which[i]) {
            add_axis(&s->kept, size, stride, out->stride[i]);
        } else if (stride < 0 && what < ARGMAX && size > 0) { /* the order does not matter: forwards */
            s->base += (size - 1) * stride;
            add_axis(&s->gone, size, -stride, 0);
        } else {
            add_axis(&s->gone, size, stride, 0);
        }
    }
    merge(&s->kept);
    merge(&s->gone);
    s->results = count(&s->kept);
    *plan = (nb__plan){.kernel = "reduce rows", .run = run_rows, .state = s};
    if (s->results == 0) {
        plan->run = nb__run_nothing;
    } else if (what != PROD && s->kept.in[s->kept.n - 1] == 1 && s->gone.in[s->gone.n - 1] != 1) {
        plan_columns(s);
        plan->kernel = "reduce columns";
        plan->run = run_columns;
        if (s->groups > 1) plan->scratch_bytes = (size_t)(s->results * s->groups) * sizeof(partial);
    } else {
        plan_rows(s);
        if (s->groups > 1) plan->scratch_bytes = (size_t)(s->results * s->groups) * sizeof(partial);
    }
    plan->scratch_bytes = (plan->scratch_bytes + 63) & ~(size_t)63;
    return true;
}

static bool plan_axis(nb_context *nb, const nb__isa *isa, const nb__call *call, reduction what, nb__plan *plan) {
    bool which[NB_MAX_RANK] = {0};
    which[((const nb__axis_attr *)call->c.attr)->axis] = true;
    return make_plan(nb, isa, call, what, which, plan);
}

static bool plan_axes(nb_context *nb, const nb__isa *isa, const nb__call *call, reduction what, nb__plan *plan) {
    nb_dims gone = ((const nb__axes_attr *)call->c.attr)->axes;
    bool    which[NB_MAX_RANK] = {0};
    for (int i = 0; i < gone.rank; i++) which[gone.size[i]] = true;
    return make_plan(nb, isa, call, what, which, plan);
}

bool nb__plan_sum(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axes(nb, isa, call, SUM, plan);
}

/* The two results lie along the first axis that goes. */
bool nb__plan_moments(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    if (!plan_axes(nb, isa, call, MOMENTS, plan)) return false;
    ((state *)plan->state)->second = call->c.out.stride[((const nb__axes_attr *)call->c.attr)->axes.size[0]];
    return true;
}

bool nb__plan_prod(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axis(nb, isa, call, PROD, plan);
}

bool nb__plan_max(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axis(nb, isa, call, MAX, plan);
}

bool nb__plan_min(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axis(nb, isa, call, MIN, plan);
}

bool nb__plan_argmax(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axis(nb, isa, call, ARGMAX, plan);
}

bool nb__plan_argmin(nb_context *nb, const nb__isa *isa, const nb__call *call, int threads, nb__plan *plan) {
    (void)threads;
    return plan_axis(nb, isa, call, ARGMIN, plan);
}
