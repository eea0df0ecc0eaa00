/* losses.c: losses as compositions. Each has its formula here; derivatives come from the operators, but where those would divide
 * 0 by 0. */
#include "nn.h"

static nb_tensor *number(const nb_tensor *like, double value) { return nb_number(nb_context_of(like), value); }
static nb_tensor *times(nb_tensor *x, double value) { return nb_mul(x, number(x, value)); }

static nb_tensor *reduce(nb_tensor *each, nb_reduction reduction) {
    switch (reduction) {
    case NB_REDUCE_MEAN: return nb_mean(each, nb_axes(), false);
    case NB_REDUCE_SUM: return nb_sum(each, nb_axes(), false);
    case NB_REDUCE_NONE: break;
    }
    return each;
}

/* That of both; one that is NULL is an error of the other's. NULL: both are. */
static nb_context *context_of(const char *loss, nb_tensor *x, nb_tensor *target) {
    if (!x && !target) return NULL;
    nb_context *nb = nb_context_of(x ? x : target);
    if (!x || !target) nb_fail(nb, NB_INVALID, "%s: the %s is NULL", loss, x ? "target" : "prediction");
    return nb;
}

static nb_tensor *failed(nb_context *nb) { return nb ? nb_failed(nb) : NULL; }

/* A target must have the shape `want`: broadcasting here is a mistake nearly always. */
static bool check_target(const char *loss, nb_tensor *x, nb_tensor *target, nb_dims want) {
    if (!x || !target || nb_has_failed(x) || nb_has_failed(target)) return false;
    if (nb__same_shape(nb_shape_of(target), want)) return true;
    char a[128], b[128], c[128];
    nb_fail(nb_context_of(x), NB_INVALID, "%s: a prediction %s needs a target %s, got %s", loss,
            nb__shape_text(nb_shape_of(x), a, sizeof a), nb__shape_text(want, b, sizeof b),
            nb__shape_text(nb_shape_of(target), c, sizeof c));
    return false;
}

/* The way of all losses that compare x with a target of its shape: f(x, t) element by element, then the reduction. */
static nb_tensor *elementwise(const nb_op *op, nb_tensor *x, nb_tensor *target, nb_reduction reduction, double p,
                              nb_tensor *(*f)(nb_tensor *x, nb_tensor *t, double p)) {
    nb_context *nb = context_of(op->name, x, target);
    if (!x || !check_target(op->name, x, target, nb_shape_of(x))) return failed(nb);
    nb_group_push(nb, op);
    nb_tensor *y = reduce(f(x, target, p), reduction);
    nb_group_pop(nb);
    return y;
}

/* --------------------------------------------------------------------------------------------------- of a number and a target */

static const nb_op mse_op = {.name = "mse", .formula = "(x - t)^2", .gradient = "dx = 2 (x - t)\\, dy", .kind = NB_COMPOSITION};

static nb_tensor *mse(nb_tensor *x, nb_tensor *t, double p) {
    (void)p;
    return nb_square(nb_sub(x, t));
}

nb_tensor *nb_mse(nb_tensor *x, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&mse_op, x, target, reduction, 0, mse);
}

static const nb_op mae_op = {
    .name = "mae", .formula = "|x - t|", .gradient = "dx = \\mathrm{sign}(x - t)\\, dy", .kind = NB_COMPOSITION};

static nb_tensor *mae(nb_tensor *x, nb_tensor *t, double p) {
    (void)p;
    return nb_abs(nb_sub(x, t));
}

nb_tensor *nb_mae(nb_tensor *x, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&mae_op, x, target, reduction, 0, mae);
}

static const nb_op huber_op = {.name = "huber",
                               .formula = "c\\,(|x - t| - c/2),\\ c = \\min(|x - t|, \\delta)",
                               .gradient = "dx = c\\, \\mathrm{sign}(x - t)\\, dy",
                               .kind = NB_COMPOSITION};

static nb_tensor *huber(nb_tensor *x, nb_tensor *t, double delta) {
    nb_tensor *d = nb_abs(nb_sub(x, t)), *c = nb_minimum(d, number(x, delta));
    return nb_mul(c, nb_sub(d, times(c, 0.5)));
}

nb_tensor *nb_huber(nb_tensor *x, nb_tensor *target, double delta, nb_reduction reduction) {
    if (x && !(delta > 0)) return nb_fail(nb_context_of(x), NB_INVALID, "nb_huber: delta must be above 0, got %g", delta);
    return elementwise(&huber_op, x, target, reduction, delta, huber);
}

static const nb_op hinge_op = {
    .name = "hinge", .formula = "\\max(0, 1 - t x)", .gradient = "dx = -t\\,[t x < 1]\\, dy", .kind = NB_COMPOSITION};

static nb_tensor *hinge(nb_tensor *x, nb_tensor *t, double p) {
    (void)p;
    return nb_relu(nb_sub(number(x, 1), nb_mul(t, x)));
}

nb_tensor *nb_hinge(nb_tensor *x, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&hinge_op, x, target, reduction, 0, hinge);
}

static const nb_op squared_hinge_op = {.name = "squared_hinge",
                                       .formula = "\\max(0, 1 - t x)^2",
                                       .gradient = "dx = -2 t \\max(0, 1 - t x)\\, dy",
                                       .kind = NB_COMPOSITION};

static nb_tensor *squared_hinge(nb_tensor *x, nb_tensor *t, double p) { return nb_square(hinge(x, t, p)); }

nb_tensor *nb_squared_hinge(nb_tensor *x, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&squared_hinge_op, x, target, reduction, 0, squared_hinge);
}

/* ----------------------------------------------------------------------------------------------------------- of probabilities */

static const nb_op binary_cross_entropy_op = {.name = "binary_cross_entropy",
                                              .formula = "-t \\log p - (1 - t) \\log(1 - p)",
                                              .gradient = "dp = (p - t) / (p (1 - p))\\, dy",
                                              .kind = NB_COMPOSITION};

/* Given by hand: at p = 0 or 1 the chain rule would multiply 0 with infinity. */
static void binary_cross_entropy_derivative(nb_tensor *y, nb_tensor *dy, nb_list xs, nb_tensor **dx, void *user) {
    (void)y;
    (void)user;
    nb_tensor *p = xs.at[0], *t = xs.at[1];
    nb_tensor *spread = nb_maximum(nb_mul(p, nb_sub(number(p, 1), p)), number(p, 1e-12));
    dx[0] = nb_mul(dy, nb_div(nb_sub(p, t), spread));
    dx[1] = nb_mul(dy, nb_sub(nb_clamp(nb_log1p(nb_neg(p)), -100, 0), nb_clamp(nb_log(p), -100, 0)));
}

static nb_tensor *binary_cross_entropy(nb_tensor *p, nb_tensor *t, double unused) {
    (void)unused;
    nb_tensor *yes = nb_mul(t, nb_clamp(nb_log(p), -100, 0));
    nb_tensor *no = nb_mul(nb_sub(number(t, 1), t), nb_clamp(nb_log1p(nb_neg(p)), -100, 0));
    return nb_with_derivative(nb_neg(nb_add(yes, no)), nb_list_of(nb_context_of(p), p, t), binary_cross_entropy_derivative, NULL);
}

nb_tensor *nb_binary_cross_entropy(nb_tensor *p, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&binary_cross_entropy_op, p, target, reduction, 0, binary_cross_entropy);
}

static const nb_op binary_cross_entropy_logits_op = {.name = "binary_cross_entropy_logits",
                                                     .formula = "\\log(1 + e^x) - t x",
                                                     .gradient = "dx = (\\mathrm{sigmoid}(x) - t)\\, dy",
                                                     .kind = NB_COMPOSITION};

static nb_tensor *binary_cross_entropy_logits(nb_tensor *x, nb_tensor *t, double p) {
    (void)p;
    return nb_sub(nb_softplus(x), nb_mul(t, x));
}

nb_tensor *nb_binary_cross_entropy_logits(nb_tensor *x, nb_tensor *target, nb_reduction reduction) {
    return elementwise(&binary_cross_entropy_logits_op, x, target, reduction, 0, binary_cross_entropy_logits);
}

static const nb_op kl_divergence_op = {
    .name = "kl_divergence", .formula = "p\\,(\\log p - \\log q)", .gradient = "d\\log q = -p\\, dy", .kind = NB_COMPOSITION};

static nb_tensor *kl_divergence(nb_tensor *log_q, nb_tensor *p, double unused) {
    (void)unused;
    nb_tensor *some = nb_greater(p, number(p, 0)); /* elsewhere 0, and no log of 0 on the way */
    nb_tensor *log_p = nb_log(nb_where(some, p, number(p, 1)));
    return nb_mul(p, nb_where(some, nb_sub(log_p, log_q), number(p, 0)));
}

nb_tensor *nb_kl_divergence(nb_tensor *log_q, nb_tensor *p, nb_reduction reduction) {
    return elementwise(&kl_divergence_op, log_q, p, reduction, 0, kl_divergence);
}

/* ----------------------------------------------------------------------------------------------------------------- of classes */

/* x [N,C,...] without axis 1. */
static nb_dims without_classes(nb_dims s) {
    for (int i = 1; i + 1 < s.rank; i++) s.size[i] = s.size[i + 1];
    s.rank--;
    s.size[s.rank] = 0;
    return s;
}

static bool check_classes(const char *loss, nb_tensor *x, nb_tensor *target) {
    if (!x || !target || nb_has_failed(x) || nb_has_failed(target)) return false;
    nb_context *nb = nb_context_of(x);
    if (nb_rank(x) < 2) {
        nb_fail(nb, NB_INVALID, "%s: the scores of classes are [N,C] or [N,C,...], got %d axes", loss, nb_rank(x));
        return false;
    }
    nb_dtype type = nb_dtype_of(target);
    if (type != NB_I64 && type != NB_I32) {
        nb_fail(nb, NB_INVALID, "%s: the target holds class numbers, i64 or i32, got %s: nb_cast it", loss, nb_dtype_name(type));
        return false;
    }
    return check_target(loss, x, target, without_classes(nb_shape_of(x)));
}

static bool check_class_options(const char *loss, nb_tensor *x, const nb_class_options *o) {
    nb_context *nb = nb_context_of(x);
    if (o->class_weights && (nb_rank(o->class_weights) != 1 || nb_count(o->class_weights) != nb_size(x, 1)))
        nb_fail(nb, NB_INVALID, "%s: class_weights must be [%lld], one a class", loss, (long long)nb_size(x, 1));
    if (!(o->label_smoothing >= 0 && o->label_smoothing < 1))
        nb_fail(nb, NB_INVALID, "%s: label_smoothing is %g; it is in [0,1)", loss, o->label_smoothing);
    return !nb_error(nb);
}

/* -log_p[target], weighted, and the share of smoothing: with log_p [N,C,...], x or log softmax(x),
 *     (1 - s) sum_i w_{t_i} l_i + s/C sum_i sum_c w_c l_{ic},  l = -log_p,  over sum_i w_{t_i} where the mean is asked for.
 * Ignored items have the weight 0; their label and scores are replaced by 0, so that those may be anything, NaN too. */
static nb_tensor *class_loss(nb_tensor *x, bool is_logits, nb_tensor *target, const nb_class_options *o) {
    nb_context *nb = nb_context_of(x);
    nb_tensor  *used = NULL, *weight = NULL, *each, *smooth;
    double      s = o->label_smoothing;
    if (o->ignore) {
        used = nb_not_equal(target, nb_number(nb, (double)o->ignore_index));
        target = nb_where(used, target, nb_number(nb, 0));
        weight = nb_cast(used, nb_dtype_of(x));
        x = nb_where(nb_unsqueeze(used, 1), x, nb_number(nb, 0));
    }
    nb_tensor *log_p = is_logits ? nb_log_softmax(x, 1) : x;
    if (o->class_weights) {
        weight = nb_index_select(o->class_weights, 0, target);
        if (used) weight = nb_where(used, weight, nb_number(nb, 0));
    }
    each = nb_neg(nb_squeeze(nb_gather(log_p, 1, nb_unsqueeze(target, 1)), nb_axes(1)));
    if (weight) each = nb_mul(each, weight);
    if (s > 0) {
        nb_dims by_class = {.rank = nb_rank(log_p)};
        for (int i = 0; i < by_class.rank; i++) by_class.size[i] = i == 1 ? nb_size(log_p, 1) : 1;
        smooth = o->class_weights ? nb_mul(log_p, nb_reshape(o->class_weights, by_class)) : log_p;
        smooth = nb_neg(nb_sum(smooth, nb_axes(1), false));
        if (used) smooth = nb_where(used, smooth, nb_number(nb, 0));
        each = nb_add(times(each, 1 - s), times(smooth, s / (double)nb_size(log_p, 1)));
    }
    if (o->reduction != NB_REDUCE_MEAN || !weight) return reduce(each, o->reduction);
    return nb_div(nb_sum(each, nb_axes(), false), nb_sum(weight, nb_axes(), false));
}

static const nb_op cross_entropy_op = {.name = "cross_entropy",
                                       .formula = "-\\log \\mathrm{softmax}(x)_t",
                                       .gradient = "dx = (\\mathrm{softmax}(x) - \\mathrm{onehot}(t))\\, dy",
                                       .kind = NB_COMPOSITION};
static const nb_op nll_op = {
    .name = "nll", .formula = "-\\log p_t", .gradient = "d\\log p = -\\mathrm{onehot}(t)\\, dy", .kind = NB_COMPOSITION};

nb_tensor *nb_cross_entropy(nb_tensor *logits, nb_tensor *target, const nb_class_options *options) {
    nb_context      *nb = context_of("cross_entropy", logits, target);
    nb_class_options o = options ? *options : (nb_class_options){0};
    if (!check_classes("cross_entropy", logits, target) || !check_class_options("cross_entropy", logits, &o)) return failed(nb);
    nb_group_push(nb, &cross_entropy_op);
    nb_tensor *y = class_loss(logits, true, target, &o);
    nb_group_pop(nb);
    return y;
}

nb_tensor *nb_accuracy(nb_tensor *scores, nb_tensor *target) {
    nb_context *nb = context_of("accuracy", scores, target);
    if (!check_classes("accuracy", scores, target)) return failed(nb);
    nb_tensor *right = nb_equal(nb_argmax(scores, 1, false), nb_cast(target, NB_I64));
    return nb_mean(nb_cast(right, NB_F32), nb_axes(), false);
}

nb_tensor *nb_nll(nb_tensor *log_probabilities, nb_tensor *target, const nb_class_options *options) {
    nb_context      *nb = context_of("nll", log_probabilities, target);
    nb_class_options o = options ? *options : (nb_class_options){0};
    if (!check_classes("nll", log_probabilities, target) || !check_class_options("nll", log_probabilities, &o)) return failed(nb);
    if (o.label_smoothing > 0) return nb_fail(nb, NB_INVALID, "nll: label_smoothing belongs to nb_cross_entropy");
    nb_group_push(nb, &nll_op);
    nb_tensor *y = class_loss(log_probabilities, false, target, &o);
    nb_group_pop(nb);
    return y;
}

static const nb_op multi_class_hinge_op = {.name = "multi_class_hinge",
                                           .formula = "\\frac1C \\sum_{j \\ne t} \\max(0, m - x_t + x_j)^p",
                                           .gradient = "\\text{chain rule}",
                                           .kind = NB_COMPOSITION};

nb_tensor *nb_multi_class_hinge(nb_tensor *scores, nb_tensor *target, int p, double margin, nb_reduction reduction) {
    nb_context *nb = context_of("multi_class_hinge", scores, target);
    if (!check_classes("multi_class_hinge", scores, target)) return failed(nb);
    if (nb_rank(scores) != 2) return nb_fail(nb, NB_INVALID, "multi_class_hinge: scores are [N,C], got %d axes", nb_rank(scores));
    if (p != 1 && p != 2) return nb_fail(nb, NB_INVALID, "multi_class_hinge: p is 1 or 2, got %d", p);
    nb_group_push(nb, &multi_class_hinge_op);
    int64_t    classes = nb_size(scores, 1);
    nb_tensor *right = nb_gather(scores, 1, nb_unsqueeze(target, 1));
    nb_tensor *each = nb_relu(nb_add(nb_sub(scores, right), nb_number(nb, margin)));
    if (p == 2) each = nb_square(each);
    each = nb_mul(each, nb_sub(nb_number(nb, 1), nb_one_hot(target, classes, nb_dtype_of(scores))));
    nb_tensor *y = reduce(times(nb_sum(each, nb_axes(1), false), 1 / (double)classes), reduction);
    nb_group_pop(nb);
    return y;
}
