/* prelu.c: the rectifier with a learned slope: a composition. */
#include "ops.h"

nb_tensor *nb_prelu(nb_tensor *x, nb_tensor *slope) {
    nb_context *nb = nb__context_of(2, (nb_tensor *[]){x, slope});
    if (!nb) return NULL;
    if (nb__refuse(nb, x, 0, "prelu") || nb__refuse(nb, slope, 1, "prelu")) return &nb->failed;
    int64_t channels = nb_rank(x) > 1 ? nb_size(x, 1) : 1;
    if (slope->shape.rank > 1 || (nb_count(slope) != 1 && nb_count(slope) != channels))
        return nb_fail(nb, NB_INVALID, "prelu: slope is %s; it must be [1] or [%lld], the channels of %s",
                       nb__dims_text(slope->shape).at, (long long)channels, nb__dims_text(x->shape).at);
    nb_group_push(nb, &nb__op_prelu);
    if (nb_count(slope) != 1) { /* [C] -> [C,1,...,1] */
        nb_dims along = {.rank = x->shape.rank - 1, .size = {channels, 1, 1, 1, 1, 1, 1, 1}};
        slope = nb_reshape(slope, along);
    } else if (slope->shape.rank) {
        slope = nb_reshape(slope, nb_shape());
    }
    nb_tensor *y = nb_where(nb_greater(x, nb_number(nb, 0)), x, nb_mul(slope, x));
    nb_group_pop(nb);
    return y;
}

static nb_tensor *prelu_sample(nb_sampler *s, int i) {
    switch (i) {
    case 0: return nb_prelu(s->real(s, -2, 2, nb_shape(3, 4)), s->real(s, 0.1, 0.5, nb_shape(1)));
    case 1: return nb_prelu(s->real(s, -2, 2, nb_shape(3, 4)), s->real(s, 0.1, 0.5, nb_shape(4)));
    case 2: return nb_prelu(s->real(s, -2, 2, nb_shape(2, 3, 2, 2)), s->real(s, 0.1, 0.5, nb_shape(3)));
    case 3: return nb_prelu(s->real(s, -2, 2, nb_shape(5)), s->real(s, 0.1, 0.5, nb_shape(1)));
    case 4: return nb_prelu(s->real(s, -2, 2, nb_shape(0, 3)), s->real(s, 0.1, 0.5, nb_shape(3)));
    case 5: return nb_prelu(s->real(s, -2, 2, nb_shape()), s->real(s, 0.1, 0.5, nb_shape(1)));
    default: return NULL;
    }
}

const nb_op nb__op_prelu = {
    .name = "prelu",
    .formula = "y = x > 0\\;?\\;x : w\\,x",
    .gradient = "dx = x > 0\\;?\\;dy : w\\,dy,\\quad dw = \\sum [x \\le 0]\\,x\\,dy",
    .kind = NB_COMPOSITION,
    .arity = 2,
    .sample = prelu_sample,
};
