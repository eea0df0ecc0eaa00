/* test_torch.c: values and gradients of every operator as PyTorch has them: tests/golden/ops.txt, written by tools/torch_ops.py.
 * In f64 to 1e-9, in f32 to what its 24 bits allow. A program in itself, not cmocka: a case a line. */
#include "test.h"

enum { OPERANDS = 5, ELEMENTS = 2048 };

typedef struct operand {
    nb_dtype dtype;
    nb_dims  shape;
    double   value[ELEMENTS];
} operand;

typedef struct test_case {
    char    name[64];
    int     n;
    operand in[OPERANDS], out, grad[OPERANDS];
    bool    has_grad[OPERANDS];
} test_case;

static uint64_t seed_of(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 0x100000001b3u;
    return h;
}

static void draw(const char *name, uint64_t number, double low, double high, operand *o) {
    uint64_t seed = seed_of(name) + number;
    int64_t  n = 1;
    for (int i = 0; i < o->shape.rank; i++) n *= o->shape.size[i];
    for (int64_t i = 0; i < n; i++) o->value[i] = low + (high - low) * next_real(&seed);
}

/* ----------------------------------------------------------------------------------------------------------- reading the file */

static nb_dtype dtype_named(const char *name) {
    nb_dtype d = NB_F32;
    while (d < NB_BOOL && strcmp(nb_dtype_name(d), name) != 0) d++;
    return d;
}

/* "2 3 : 0.1 0.2 ..." */
static void read_array(char *text, const char *name, uint64_t number, operand *o) {
    char *values = strchr(text, ':');
    *values++ = 0;
    o->shape.rank = 0;
    for (char *s = strtok(text, " "); s; s = strtok(NULL, " ")) o->shape.size[o->shape.rank++] = atoll(s);
    int n = 0;
    for (char *s = strtok(values, " \n"); s; s = strtok(NULL, " \n")) {
        if (!strcmp(s, "random")) {
            double low = atof(strtok(NULL, " \n")), high = atof(strtok(NULL, " \n"));
            draw(name, number, low, high, o);
            return;
        }
        if (n < ELEMENTS) o->value[n++] = strtod(s, NULL);
    }
}

/* Reads up to the next "case" line, whose name is in `next` on return; false at the end of the file. */
static bool read_case(FILE *f, test_case *c, char *next) {
    static char line[1 << 16];
    *c = (test_case){.n = 0};
    strcpy(c->name, next);
    next[0] = 0;
    while (fgets(line, sizeof line, f)) {
        char word[64], type[8];
        int  at = 0, number = 0;
        if (sscanf(line, "case %63s", word) == 1) {
            strcpy(next, word);
            if (c->name[0]) return true;
            strcpy(c->name, word);
        } else if (sscanf(line, "in %7s%n", type, &at) == 1) {
            c->in[c->n].dtype = dtype_named(type);
            read_array(line + at, c->name, (uint64_t)c->n, &c->in[c->n]);
            c->n++;
        } else if (sscanf(line, "grad %d%n", &number, &at) == 1) {
            c->has_grad[number] = true;
            c->grad[number].shape = c->in[number].shape;
            read_array(line + at, c->name, 0, &c->grad[number]);
            c->grad[number].shape = c->in[number].shape;
        } else if (!strncmp(line, "out", 3)) {
            read_array(line + 3, c->name, 0, &c->out);
        }
    }
    return c->name[0] != 0;
}

/* ------------------------------------------------------------------------------------------------------------ building graphs */

typedef struct one {
    const char *name;
    nb_tensor *(*f)(nb_tensor *x);
} one;
typedef struct two {
    const char *name;
    nb_tensor *(*f)(nb_tensor *a, nb_tensor *b);
} two;
typedef struct reduction {
    const char *name;
    nb_tensor *(*f)(nb_tensor *x, nb_dims axes, bool keepdim);
} reduction;

static const one ones[] = {
    {"abs", nb_abs},
    {"neg", nb_neg},
    {"sign", nb_sign},
    {"square", nb_square},
    {"sqrt", nb_sqrt},
    {"rsqrt", nb_rsqrt},
    {"reciprocal", nb_reciprocal},
    {"exp", nb_exp},
    {"exp2", nb_exp2},
    {"expm1", nb_expm1},
    {"log", nb_log},
    {"log2", nb_log2},
    {"log1p", nb_log1p},
    {"sin", nb_sin},
    {"cos", nb_cos},
    {"tan", nb_tan},
    {"asin", nb_asin},
    {"acos", nb_acos},
    {"atan", nb_atan},
    {"sinh", nb_sinh},
    {"cosh", nb_cosh},
    {"tanh", nb_tanh},
    {"sigmoid", nb_sigmoid},
    {"erf", nb_erf},
    {"floor", nb_floor},
    {"ceil", nb_ceil},
    {"round", nb_round},
    {"trunc", nb_trunc},
    {"isnan", nb_isnan},
    {"isinf", nb_isinf},
    {"isfinite", nb_isfinite},
    {"relu", nb_relu},
    {"selu", nb_selu},
    {"gelu", nb_gelu},
    {"gelu_tanh", nb_gelu_tanh},
    {"silu", nb_silu},
    {"softplus", nb_softplus},
    {"softsign", nb_softsign},
    {"hardtanh", nb_hardtanh},
    {"hardsigmoid", nb_hardsigmoid},
    {"hardswish", nb_hardswish},
    {"mish", nb_mish},
    {"not", nb_not},
    {"global_avg_pool2d", nb_global_avg_pool2d},
    {"global_max_pool2d", nb_global_max_pool2d},
};
static const two twos[] = {
    {"add", nb_add},
    {"sub", nb_sub},
    {"mul", nb_mul},
    {"div", nb_div},
    {"pow", nb_pow},
    {"mod", nb_mod},
    {"minimum", nb_minimum},
    {"maximum", nb_maximum},
    {"atan2", nb_atan2},
    {"gelu_tanh_grad", nb_gelu_tanh_grad},
    {"equal", nb_equal},
    {"not_equal", nb_not_equal},
    {"less", nb_less},
    {"less_equal", nb_less_equal},
    {"greater", nb_greater},
    {"greater_equal", nb_greater_equal},
    {"and", nb_and},
    {"or", nb_or},
    {"xor", nb_xor},
    {"matmul", nb_matmul},
    {"prelu", nb_prelu},
};
static const reduction reductions[] = {
    {"sum", nb_sum},   {"mean", nb_mean}, {"max", nb_max}, {"min", nb_min},
    {"prod", nb_prod}, {"any", nb_any},   {"all", nb_all}, {"logsumexp", nb_logsumexp},
};

static nb_tensor *reduce(const char *name, const char *variant, nb_tensor *x) {
    nb_dims last = nb_axes(-1), outer = nb_axes(0, 2);
    bool    is_all = !strcmp(variant, "all"), is_first = !strcmp(variant, "first") || !strcmp(variant, "empty");
    nb_dims axes = is_all                                                  ? nb_axes()
                   : !strcmp(variant, "outer") || !strcmp(variant, "keep") ? outer
                   : is_first                                              ? nb_axes(0)
                                                                           : last;
    bool    keep = !strcmp(variant, "first") || !strcmp(variant, "keep");
    if (!strcmp(variant, "one") || (!strcmp(variant, "whole") && !strcmp(name, "max"))) axes = nb_axes(0);
    if (!strcmp(name, "var")) return nb_var(x, axes, keep, 1);
    if (!strcmp(name, "std")) return nb_std(x, axes, keep, 0);
    for (size_t i = 0; i < sizeof reductions / sizeof *reductions; i++)
        if (!strcmp(reductions[i].name, name)) return reductions[i].f(x, axes, keep);
    return NULL;
}

static nb_tensor *convolve(const char *variant, nb_tensor **x, int n) {
    nb_conv2d_options o = {.groups = 0};
    if (!strcmp(variant, "padded")) o = (nb_conv2d_options){.padding = {1, 1}};
    if (!strcmp(variant, "stride")) o = (nb_conv2d_options){.stride = {2, 3}, .padding = {1, 0}};
    if (!strcmp(variant, "dilation")) o = (nb_conv2d_options){.dilation = {2, 2}, .padding = {1, 1}};
    if (!strcmp(variant, "groups")) o = (nb_conv2d_options){.groups = 2};
    if (!strcmp(variant, "depthwise")) o = (nb_conv2d_options){.groups = 3, .padding = {1, 1}};
    if (!strcmp(variant, "same")) o = (nb_conv2d_options){.same = true};
    return nb_conv2d(x[0], x[1], n > 2 ? x[2] : NULL, &o);
}

static nb_tensor *pool(const char *name, const char *variant, nb_tensor *x) {
    nb_pool2d_options o = {.size = {2, 2}};
    if (!strcmp(variant, "overlap") || !strcmp(variant, "padded") || !strcmp(variant, "inside"))
        o = (nb_pool2d_options){
            .size = {3, 3}, .stride = {2, 2}, .padding = {1, 1}, .exclude_padding = !strcmp(variant, "inside")};
    if (!strcmp(variant, "ceil")) o.ceil_mode = true;
    if (!strcmp(variant, "dilation")) o = (nb_pool2d_options){.size = {2, 2}, .stride = {1, 1}, .dilation = {2, 2}};
    if (!strcmp(name, "max_pool2d")) return nb_max_pool2d(x, &o);
    if (!strcmp(variant, "ceil")) o = (nb_pool2d_options){.size = {3, 2}, .stride = {2, 2}, .ceil_mode = true};
    return nb_avg_pool2d(x, &o);
}

static nb_tensor *norm(const char *variant, nb_tensor *x) {
    if (!strcmp(variant, "zero")) return nb_norm(x, 2, nb_axes(), false);
    double p = !strcmp(variant, "one") ? 1 : !strcmp(variant, "two") ? 2 : !strcmp(variant, "three") ? 3 : INFINITY;
    return nb_norm(x, p, nb_axes(1), false);
}

static nb_tensor *build(nb_context *nb, const char *case_name, nb_dtype real, nb_tensor **x, int n) {
    char        name[64];
    const char *dot = strchr(case_name, '.'), *variant = dot ? dot + 1 : "";
    snprintf(name, sizeof name, "%.*s", dot ? (int)(dot - case_name) : (int)strlen(case_name), case_name);
    bool first = !strcmp(variant, "first");
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        if (!strcmp(ones[i].name, name)) return ones[i].f(x[0]);
    for (size_t i = 0; i < sizeof twos / sizeof *twos; i++)
        if (!strcmp(twos[i].name, name)) return twos[i].f(x[0], x[1]);
    if (!strcmp(name, "clamp")) return !strcmp(variant, "whole") ? nb_clamp(x[0], -2, 3) : nb_clamp(x[0], -0.5, 0.7);
    if (!strcmp(name, "leaky_relu")) return nb_leaky_relu(x[0], 0.1);
    if (!strcmp(name, "elu")) return nb_elu(x[0], 1.3);
    if (!strcmp(name, "where")) return nb_where(x[0], x[1], x[2]);
    if (!strcmp(case_name, "cast.i32")) return nb_cast(x[0], NB_I32);
    if (!strcmp(case_name, "cast.bool")) return nb_cast(x[0], NB_BOOL);
    if (!strcmp(name, "cast")) return nb_cast(x[0], real);
    int axis = first || !strcmp(variant, "large") ? 0 : !strcmp(variant, "middle") ? 1 : -1;
    if (!strcmp(name, "softmax")) return nb_softmax(x[0], axis);
    if (!strcmp(name, "log_softmax")) return nb_log_softmax(x[0], axis);
    if (!strcmp(name, "argmax")) return nb_argmax(x[0], first ? 0 : 1, false);
    if (!strcmp(name, "argmin")) return nb_argmin(x[0], first ? 0 : 1, false);
    if (!strcmp(name, "cumsum")) return nb_cumsum(x[0], first || !strcmp(variant, "whole") ? 0 : 1);
    if (!strcmp(name, "norm")) return norm(variant, x[0]);
    if (!strcmp(case_name, "reshape")) return nb_reshape(x[0], nb_shape(4, 3));
    if (!strcmp(case_name, "reshape.infer")) return nb_reshape(x[0], nb_shape(3, -1));
    if (!strcmp(case_name, "reshape.squeeze")) return nb_squeeze(x[0], nb_axes());
    if (!strcmp(case_name, "reshape.unsqueeze")) return nb_unsqueeze(x[0], -1);
    if (!strcmp(case_name, "reshape.flatten")) return nb_flatten(x[0], 1, 2);
    if (!strcmp(case_name, "permute")) return nb_permute(x[0], nb_axes(2, 0, 1));
    if (!strcmp(case_name, "permute.transpose")) return nb_transpose(x[0], 0, 2);
    if (!strcmp(name, "expand")) return nb_expand(x[0], nb_shape(2, 3, 4));
    if (!strcmp(case_name, "slice")) return nb_slice(x[0], 1, 1, 4, 1);
    if (!strcmp(case_name, "slice.step")) return nb_slice(x[0], 0, 1, NB_END, 2);
    if (!strcmp(case_name, "slice.back")) return nb_slice(x[0], 0, -1, 0, -2);
    if (!strcmp(case_name, "slice.none")) return nb_slice(x[0], 0, 3, 3, 1);
    if (!strcmp(name, "flip")) return nb_flip(x[0], nb_axes(0, 2));
    if (!strcmp(name, "concat")) return nb_concat(nb_list_from(nb, n, x), 1);
    if (!strcmp(name, "stack")) return nb_stack(nb_list_from(nb, n, x), 1);
    if (!strcmp(name, "split")) return nb_split(x[0], 1, 2).at[2];
    if (!strcmp(name, "pad")) return nb_pad(x[0], nb_shape(0, 1), nb_shape(1, 2), 0.5);
    if (!strcmp(name, "tril")) return nb_tril(x[0], *variant ? -1 : 1);
    if (!strcmp(name, "triu")) return nb_triu(x[0], *variant ? -2 : 1);
    if (!strcmp(name, "gather")) return nb_gather(x[0], first ? 0 : 1, x[1]);
    if (!strcmp(name, "scatter_add")) return nb_scatter_add(x[0], first ? 0 : 1, x[1], x[2]);
    if (!strcmp(name, "index_select")) return nb_index_select(x[0], !strcmp(variant, "second") ? 1 : 0, x[1]);
    if (!strcmp(name, "one_hot")) return nb_one_hot(x[0], 4, real);
    if (!strcmp(name, "embedding")) return nb_embedding(x[0], x[1]);
    if (!strcmp(name, "attention")) {
        nb_attention_options o = {.causal = !strcmp(variant, "causal"), .mask = n > 3 ? x[3] : NULL};
        if (!strcmp(variant, "scale")) o.scale = 0.3;
        return nb_attention(x[0], x[1], x[2], &o);
    }
    if (!strcmp(name, "lstm")) return nb_lstm(x[0], x[1], x[2], n > 3 ? x[3] : NULL, n > 4 ? x[4] : NULL);
    if (!strcmp(name, "linear")) return nb_linear(x[0], x[1], n > 2 ? x[2] : NULL);
    if (!strcmp(name, "conv2d")) return convolve(variant, x, n);
    if (!strcmp(name, "conv2d_input_grad"))
        return nb_conv2d_input_grad(x[0], x[1], nb_shape(1, 2, 6, 6), &(nb_conv2d_options){.stride = {2, 2}, .padding = {1, 1}});
    if (!strcmp(name, "conv2d_weight_grad"))
        return nb_conv2d_weight_grad(x[0], x[1], nb_shape(2, 3, 3, 3), &(nb_conv2d_options){.padding = {1, 1}});
    if (!strcmp(name, "max_pool2d") || !strcmp(name, "avg_pool2d")) return pool(name, variant, x[0]);
    if (!strcmp(name, "adaptive_avg_pool2d")) return nb_adaptive_avg_pool2d(x[0], 4, 3);
    if (!strcmp(name, "adaptive_max_pool2d")) return nb_adaptive_max_pool2d(x[0], 4, 3);
    if (!strcmp(name, "full")) return nb_full(nb, real, nb_shape(2, 3), 1.5);
    if (!strcmp(case_name, "arange")) return nb_arange(nb, real, 1, 2.05, 0.25);
    if (!strcmp(case_name, "arange.down")) return nb_arange(nb, NB_I64, 5, -1, -2);
    if (!strcmp(name, "linspace")) return nb_linspace(nb, real, -1, 2, 7);
    if (!strcmp(name, "eye")) return nb_eye(nb, real, 2, 4);
    return reduce(name, variant, x[0]);
}

/* ------------------------------------------------------------------------------------------------------------------ comparing */

static double element(nb_tensor *t, int64_t i) {
    const void *data = nb_data(t);
    if (!data) return NAN;
    switch (nb_dtype_of(t)) {
    case NB_F32: return ((const float *)data)[i];
    case NB_F64: return ((const double *)data)[i];
    case NB_I32: return ((const int32_t *)data)[i];
    case NB_I64: return (double)((const int64_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

/* Empty when all is well, else what is wrong. The scale of an error in f32 is that of the largest element: sums lose the rest. */
static bool differs(nb_tensor *t, const operand *want, double tolerance, const char *what, char *text, size_t size) {
    nb_dims s = nb_shape_of(t);
    if (s.rank != want->shape.rank || memcmp(s.size, want->shape.size, (size_t)s.rank * sizeof *s.size) != 0)
        return snprintf(text, size, "%s has the wrong shape (rank %d)", what, (int)s.rank);
    double largest = 1;
    for (int64_t i = 0; i < nb_count(t); i++)
        if (isfinite(want->value[i]) && fabs(want->value[i]) > largest) largest = fabs(want->value[i]);
    for (int64_t i = 0; i < nb_count(t); i++) {
        double a = element(t, i), b = want->value[i];
        if (isnan(a) && isnan(b)) continue;
        double scale = nb_dtype_of(t) == NB_F32 ? largest : fabs(b) > 1 ? fabs(b) : 1;
        if (a == b || fabs(a - b) <= tolerance * scale) continue;
        return snprintf(text, size, "%s[%d] is %.15g, PyTorch has %.15g", what, (int)i, a, b);
    }
    return false;
}

static nb_tensor *make(nb_context *nb, const operand *o, nb_dtype real) {
    nb_tensor *x = nb_from(nb, NB_F64, o->shape, o->value);
    return nb_cast(x, o->dtype == NB_F64 ? real : o->dtype);
}

/* f32 cannot hold the operands of some edge cases. */
static bool is_beyond_f32(const test_case *c) {
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < ELEMENTS; i++)
            if (c->in[k].dtype == NB_F64 && isfinite(c->in[k].value[i]) && c->in[k].value[i] != 0 &&
                (fabs(c->in[k].value[i]) > 80 || fabs(c->in[k].value[i]) < 1e-8))
                return true;
    return false;
}

static bool check(nb_context *nb, const test_case *c, nb_dtype real, double tolerance, char *text, size_t size) {
    nb_tensor *x[OPERANDS] = {0};
    for (int k = 0; k < c->n; k++) x[k] = make(nb, &c->in[k], real);
    nb_tensor *y = build(nb, c->name, real, x, c->n);
    if (!y) return !snprintf(text, size, "no such case here");
    operand u = {.dtype = NB_F64, .shape = c->out.shape};
    draw(c->name, 100, -1, 1, &u);
    int     n = 0, which[OPERANDS];
    nb_list xs = nb_list_new(nb, OPERANDS);
    for (int k = 0; k < c->n; k++)
        if (c->has_grad[k]) which[n] = k, xs.at[n++] = x[k];
    xs.n = n;
    nb_list g = n ? nb_grads(y, make(nb, &u, real), xs) : xs;
    bool    bad = nb_error(nb) != NULL || differs(y, &c->out, tolerance, "the result", text, size);
    for (int k = 0; k < n && !bad; k++) {
        char what[32];
        snprintf(what, sizeof what, "gradient %d", which[k]);
        bad = differs(g.at[k], &c->grad[which[k]], tolerance, what, text, size);
    }
    if (nb_error(nb)) snprintf(text, size, "%s", nb_error(nb));
    nb_error_clear(nb);
    nb_next_step(nb);
    return !bad;
}

/* Every operator with samples has a case, but for random ones and adjoints that only derivatives make. */
static int uncovered(const char *names) {
    static const char *const other[] = {"slice_grad",         "max_pool2d_index", "pool_take", "pool_put",
                                        "avg_pool2d_grad",    "bernoulli",        "dropout",   "dropout_channels",
                                        "dropconnect_linear", "uniform",          "normal",    "randperm",
                                        "stop_gradient",      "with_derivative",  "assign",    "moments"};
    int                      missing = 0;
    const nb_op             *op;
    for (int i = 0; (op = nb_op_at(i)); i++) {
        char word[80];
        snprintf(word, sizeof word, " %s ", op->name);
        bool fine = strstr(names, word) != NULL;
        for (size_t k = 0; k < sizeof other / sizeof *other; k++) fine |= !strcmp(other[k], op->name);
        if (!fine) printf("no case for %s\n", op->name);
        missing += !fine;
    }
    return missing;
}

int main(void) {
    static test_case c;
    static char      names[1 << 16] = " ";
    char             next[64] = "", text[512];
    int              passed = 0, failed = 0;
    FILE            *f = fopen("tests/golden/ops.txt", "r");
    nb_context      *nb = nb_open(NULL);
    if (!f || !nb) return 1;
    while (read_case(f, &c, next)) {
        snprintf(names + strlen(names), sizeof names - strlen(names), "%.*s ", (int)strcspn(c.name, "."), c.name);
        for (int k = 0; k < 2; k++) {
            if (k == 1 && is_beyond_f32(&c)) continue;
            bool good = k == 0 ? check(nb, &c, NB_F64, 1e-9, text, sizeof text) : check(nb, &c, NB_F32, 4e-6, text, sizeof text);
            passed += good;
            failed += !good;
            if (!good) printf("%s in %s: %s\n", c.name, k ? "f32" : "f64", text);
        }
    }
    fclose(f);
    nb_close(nb);
    failed += uncovered(names);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || passed < 300;
}
