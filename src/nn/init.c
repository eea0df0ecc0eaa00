/* init.c: initial values of parameters.
 *
 * One idea: the draws are PyTorch's, in its order, from the same generator (MT19937), so that a seed gives the same net in both.
 *     uniform, f32    24 bits of one draw, times 2^-24 (high - low), plus low, in one fused step
 *     uniform, f64    53 bits of two draws, likewise
 *     normal          Box & Muller, 1958: in blocks of 16 uniform numbers, 8 radii, then 8 angles; or, for fewer than 16
 *                     elements, in pairs and in double (nb_random_normal) */
#include <math.h>
#include <string.h>

#include "nn.h"

/* A tensor's values on the host, while they are being made. */
typedef struct values {
    nb_context *nb;
    nb_tensor  *tensor;
    int64_t     count;
    float      *f32; /* one of the two */
    double     *f64;
    void       *memory;
} values;

static void *values_new(nb_context *nb, nb_tensor *like, values *v) {
    bool wide = nb_dtype_of(like) == NB_F64;
    *v = (values){.nb = nb, .tensor = like, .count = nb_count(like)};
    v->memory = nb_alloc(nb, nb_bytes(like));
    if (wide)
        v->f64 = v->memory;
    else
        v->f32 = v->memory;
    return v->memory;
}

static bool values_begin(nb_tensor *t, const char *user, values *v) {
    nb_context *nb = nb_context_of(t);
    if (nb_error(nb)) return false;
    if (!nb_is_kept(t) || (nb_dtype_of(t) != NB_F32 && nb_dtype_of(t) != NB_F64)) {
        nb_fail(nb, NB_INVALID, "%s: fills kept tensors of f32 or f64 (nb_param); got %s of %s", user,
                nb_is_kept(t) ? nb_name(t) : "a result", nb_dtype_name(nb_dtype_of(t)));
        return false;
    }
    return values_new(nb, t, v);
}

static bool values_end(values *v) {
    bool done = nb_set(v->tensor, v->memory, nb_bytes(v->tensor));
    nb_free(v->nb, v->memory);
    return done;
}

static void put(values *v, int64_t i, double x) {
    if (v->f64)
        v->f64[i] = x;
    else
        v->f32[i] = (float)x;
}

static double get(const values *v, int64_t i) { return v->f64 ? v->f64[i] : (double)v->f32[i]; }

/* --------------------------------------------------------------------------------------------------------------------- laws */

static float uniform_f32(nb_context *nb, float low, float high) {
    float u = (float)(nb_random_bits(nb) & 0xffffff) * 0x1p-24f;
    return fmaf(u, high - low, low);
}

static double uniform_f64(nb_context *nb, double low, double high) {
    uint64_t first = nb_random_bits(nb), second = nb_random_bits(nb);
    double   u = (double)((first << 32 | second) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
    return fma(u, high - low, low);
}

static void draw_uniform(values *v, int64_t from, int64_t n, double low, double high) {
    for (int64_t i = from; i < from + n; i++) {
        if (v->f64)
            v->f64[i] = uniform_f64(v->nb, low, high);
        else
            v->f32[i] = uniform_f32(v->nb, (float)low, (float)high);
    }
}

/* 16 uniform numbers at x become normal ones. */
static void normal_block(values *v, int64_t at, double mean, double std) {
    for (int64_t i = at; i < at + 8; i++) {
        double radius = sqrt(-2 * log(1 - get(v, i))), angle = 2 * M_PI * get(v, i + 8);
        put(v, i, radius * cos(angle) * std + mean);
        put(v, i + 8, radius * sin(angle) * std + mean);
    }
}

static void draw_normal(values *v, double mean, double std) {
    if (v->count < 16) {
        for (int64_t i = 0; i < v->count; i++) put(v, i, nb_random_normal(v->nb) * std + mean);
        return;
    }
    draw_uniform(v, 0, v->count, 0, 1);
    for (int64_t i = 0; i + 16 <= v->count; i += 16) normal_block(v, i, mean, std);
    if (v->count % 16) { /* the last 16 once more, from new draws */
        draw_uniform(v, v->count - 16, 16, 0, 1);
        normal_block(v, v->count - 16, mean, std);
    }
}

bool nb_init_constant(nb_tensor *t, double value) {
    values v;
    if (!values_begin(t, "nb_init_constant", &v)) return false;
    for (int64_t i = 0; i < v.count; i++) put(&v, i, value);
    return values_end(&v);
}

bool nb_init_zeros(nb_tensor *t) { return nb_init_constant(t, 0); }
bool nb_init_ones(nb_tensor *t) { return nb_init_constant(t, 1); }

bool nb_init_uniform(nb_tensor *t, double low, double high) {
    values v;
    if (!values_begin(t, "nb_init_uniform", &v)) return false;
    draw_uniform(&v, 0, v.count, low, high);
    return values_end(&v);
}

bool nb_init_normal(nb_tensor *t, double mean, double std) {
    values v;
    if (!values_begin(t, "nb_init_normal", &v)) return false;
    draw_normal(&v, mean, std);
    return values_end(&v);
}

/* ----------------------------------------------------------------------------------------------------------- truncated normal */

static double normal_cdf(double x) { return (1 + erf(x / sqrt(2))) / 2; }

/* Where the interval holds much of the law: whole tensors are drawn until each element was inside once. */
static void truncate_by_normal(values *v, values *more, double mean, double std, double low, double high) {
    if (v->f32) {
        low = (float)low;
        high = (float)high;
    }
    draw_normal(v, mean, std);
    for (;;) {
        bool inside = true;
        for (int64_t i = 0; i < v->count; i++) inside = inside && !(get(v, i) < low || get(v, i) > high);
        if (inside) return;
        draw_normal(more, mean, std);
        for (int64_t i = 0; i < v->count; i++)
            if (get(v, i) < low || get(v, i) > high) put(v, i, get(more, i));
    }
}

/* log(u) > log of the density against its peak: the candidate is refused. In the arithmetic of the tensor's type. */
static bool refused(const values *candidate, const values *u, int64_t i, double mean, double std, double log_peak) {
    if (candidate->f64) {
        double z = (candidate->f64[i] - mean) / std;
        return log(u->f64[i]) > z * z * -0.5 - log_peak;
    }
    float z = (candidate->f32[i] - (float)mean) / (float)std;
    return logf(u->f32[i]) > z * z * -0.5f - (float)log_peak;
}

/* Where it holds little: uniform candidates, each kept with the probability that its density has against the peak. */
static void truncate_by_uniform(values *v, values *more, values *u, double mean, double std, double low, double high) {
    double  mode = fmax(low, fmin(mean, high)), log_peak = -0.5 * ((mode - mean) / std) * ((mode - mean) / std);
    int64_t pending = v->count;
    for (int64_t i = 0; i < v->count; i++) put(v, i, NAN);
    while (pending) {
        draw_uniform(more, 0, v->count, low, high);
        draw_uniform(u, 0, v->count, 0, 1);
        for (int64_t i = 0; i < v->count; i++) {
            if (!isnan(get(v, i)) || refused(more, u, i, mean, std, log_peak)) continue;
            put(v, i, get(more, i));
            pending--;
        }
    }
}

bool nb_init_truncated_normal(nb_tensor *t, double mean, double std, double low, double high) {
    values v, more = {0}, u = {0};
    if (!values_begin(t, "nb_init_truncated_normal", &v)) return false;
    bool ok = low < high && std > 0;
    if (!ok)
        nb_fail(v.nb, NB_INVALID, "nb_init_truncated_normal: needs low < high and std > 0, got [%g, %g] and %g", low, high, std);
    ok = ok && values_new(v.nb, t, &more) && values_new(v.nb, t, &u);
    if (ok && normal_cdf((high - mean) / std) - normal_cdf((low - mean) / std) > 0.3)
        truncate_by_normal(&v, &more, mean, std, low, high);
    else if (ok)
        truncate_by_uniform(&v, &more, &u, mean, std, low, high);
    nb_free(v.nb, more.memory);
    nb_free(v.nb, u.memory);
    if (ok) return values_end(&v);
    nb_free(v.nb, v.memory);
    return false;
}

/* ------------------------------------------------------------------------------------------------------------- scaled by fans */

/* For a weight [O, I, k...]: I prod k and O prod k. */
static bool fans(nb_tensor *t, const char *user, double *in, double *out) {
    nb_context *nb = nb_context_of(t);
    if (nb_error(nb)) return false;
    nb_dims s = nb_shape_of(t);
    if (s.rank < 2) {
        nb_fail(nb, NB_INVALID, "%s: %s has %d axes; fans need a weight [out, in, ...]", user, nb_name(t), (int)s.rank);
        return false;
    }
    double field = 1;
    for (int i = 2; i < s.rank; i++) field *= (double)s.size[i];
    *in = (double)s.size[1] * field;
    *out = (double)s.size[0] * field;
    return true;
}

bool nb_init_xavier_uniform(nb_tensor *t, double gain) {
    double in, out;
    if (!fans(t, "nb_init_xavier_uniform", &in, &out)) return false;
    double bound = sqrt(3) * (gain * sqrt(2 / (in + out)));
    return nb_init_uniform(t, -bound, bound);
}

bool nb_init_xavier_normal(nb_tensor *t, double gain) {
    double in, out;
    return fans(t, "nb_init_xavier_normal", &in, &out) && nb_init_normal(t, 0, gain * sqrt(2 / (in + out)));
}

bool nb_init_kaiming_uniform(nb_tensor *t, double gain, nb_fan fan) {
    double in, out;
    if (!fans(t, "nb_init_kaiming_uniform", &in, &out)) return false;
    double bound = sqrt(3) * (gain / sqrt(fan == NB_FAN_IN ? in : out));
    return nb_init_uniform(t, -bound, bound);
}

bool nb_init_kaiming_normal(nb_tensor *t, double gain, nb_fan fan) {
    double in, out;
    return fans(t, "nb_init_kaiming_normal", &in, &out) && nb_init_normal(t, 0, gain / sqrt(fan == NB_FAN_IN ? in : out));
}

bool nb_init_lecun_uniform(nb_tensor *t) { return nb_init_kaiming_uniform(t, 1, NB_FAN_IN); }
bool nb_init_lecun_normal(nb_tensor *t) { return nb_init_kaiming_normal(t, 1, NB_FAN_IN); }

double nb_gain(const char *activation, double slope) {
    static const struct {
        const char *name;
        double      gain;
    } gains[] = {{"linear", 1}, {"sigmoid", 1}, {"tanh", 5.0 / 3}, {"relu", 1.4142135623730951}, {"selu", 0.75}};
    if (!activation) return NAN;
    if (strcmp(activation, "leaky_relu") == 0) return sqrt(2 / (1 + slope * slope));
    for (size_t i = 0; i < sizeof gains / sizeof *gains; i++)
        if (strcmp(activation, gains[i].name) == 0) return gains[i].gain;
    return NAN;
}

/* --------------------------------------------------------------------------------------------------------- structured weights */

/* a [rows, columns], rows >= columns, becomes Q of a = Q R, by Householder's reflections (Golub & Van Loan, Matrix Computations,
 * 2013, section 5.2), each column times the sign of R's diagonal entry: so Q follows Haar's law (Mezzadri, 2007). v and sign:
 * [columns]. */
static void orthonormal_columns(double *a, double *beta, double *sign, int64_t rows, int64_t columns) {
    for (int64_t k = 0; k < columns; k++) {
        double norm = 0, dot;
        for (int64_t i = k; i < rows; i++) norm += a[i * columns + k] * a[i * columns + k];
        norm = sqrt(norm);
        double diagonal = a[k * columns + k] > 0 ? -norm : norm; /* R's entry: away from a's, so that nothing cancels */
        a[k * columns + k] -= diagonal;
        sign[k] = diagonal > 0 ? 1 : diagonal < 0 ? -1 : 0;
        beta[k] = 0;
        for (int64_t i = k; i < rows; i++) beta[k] += a[i * columns + k] * a[i * columns + k];
        beta[k] = beta[k] > 0 ? 2 / beta[k] : 0;
        for (int64_t j = k + 1; j < columns; j++) {
            dot = 0;
            for (int64_t i = k; i < rows; i++) dot += a[i * columns + k] * a[i * columns + j];
            for (int64_t i = k; i < rows; i++) a[i * columns + j] -= beta[k] * dot * a[i * columns + k];
        }
    }
    /* Q = H_0 H_1 ... applied to the identity, last reflection first; column k of a holds that reflection until it is
     * overwritten. */
    for (int64_t k = columns - 1; k >= 0; k--) {
        for (int64_t j = k + 1; j < columns; j++) {
            double dot = 0;
            for (int64_t i = k + 1; i < rows; i++) dot += a[i * columns + k] * a[i * columns + j];
            for (int64_t i = k + 1; i < rows; i++) a[i * columns + j] -= beta[k] * dot * a[i * columns + k];
            a[k * columns + j] = -beta[k] * dot * a[k * columns + k];
        }
        double head = a[k * columns + k];
        for (int64_t i = k; i < rows; i++) a[i * columns + k] *= -beta[k] * head;
        a[k * columns + k] += 1;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++) a[i * columns + k] *= sign[k];
}

bool nb_init_orthogonal(nb_tensor *t, double gain) {
    values v;
    if (!values_begin(t, "nb_init_orthogonal", &v)) return false;
    nb_dims s = nb_shape_of(t);
    if (s.rank < 2)
        nb_fail(v.nb, NB_INVALID, "nb_init_orthogonal: %s has %d axes; a matrix has two or more", nb_name(t), (int)s.rank);
    int64_t rows = s.rank < 2 ? 0 : s.size[0], columns = rows ? v.count / rows : 0;
    bool    wide = rows < columns; /* then the transpose is factored */
    int64_t m = wide ? columns : rows, n = wide ? rows : columns;
    double *a = nb_alloc(v.nb, (size_t)(m * n + 2 * n) * sizeof *a);
    bool    ok = a && !nb_error(v.nb);
    if (ok) {
        draw_normal(&v, 0, 1);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) a[i * n + j] = get(&v, wide ? j * columns + i : i * columns + j);
        orthonormal_columns(a, a + m * n, a + m * n + n, m, n);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) put(&v, wide ? j * columns + i : i * columns + j, gain * a[i * n + j]);
    }
    nb_free(v.nb, a);
    if (ok) return values_end(&v);
    nb_free(v.nb, v.memory);
    return false;
}

bool nb_init_identity(nb_tensor *t) {
    values v;
    if (!values_begin(t, "nb_init_identity", &v)) return false;
    if (nb_rank(t) != 2) {
        nb_fail(v.nb, NB_INVALID, "nb_init_identity: %s has %d axes; a matrix has two", nb_name(t), nb_rank(t));
        nb_free(v.nb, v.memory);
        return false;
    }
    for (int64_t i = 0; i < nb_size(t, 0) && i < nb_size(t, 1); i++) put(&v, i * nb_size(t, 1) + i, 1);
    return values_end(&v);
}

bool nb_init_dirac(nb_tensor *t, int64_t groups) {
    values v;
    if (!values_begin(t, "nb_init_dirac", &v)) return false;
    nb_dims s = nb_shape_of(t);
    if (s.rank < 3 || s.rank > 5 || groups < 1 || s.size[0] % groups) {
        nb_fail(v.nb, NB_INVALID, "nb_init_dirac: needs a weight [out, in, ...] of 3 to 5 axes, out a multiple of %lld groups",
                (long long)groups);
        nb_free(v.nb, v.memory);
        return false;
    }
    int64_t out = s.size[0] / groups, field = 1, centre = 0;
    for (int i = 2; i < s.rank; i++) {
        centre = centre * s.size[i] + s.size[i] / 2;
        field *= s.size[i];
    }
    for (int64_t g = 0; g < groups && field; g++)
        for (int64_t c = 0; c < out && c < s.size[1]; c++) put(&v, ((g * out + c) * s.size[1] + c) * field + centre, 1);
    return values_end(&v);
}
