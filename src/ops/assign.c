/* assign.c: new contents for a kept tensor, as a node. Programs do it last and all at once (compile/schedule.c). */
#include "ops.h"

static bool infer_assign(nb_context *nb, nb_tensor *const *in, int n_in, const void *attr, nb_type *out) {
    (void)n_in;
    (void)attr;
    nb_tensor *kept = in[0], *value = in[1];
    if (!kept->storage) {
        nb_fail(nb, NB_INVALID, "assign: %s is not a kept tensor (nb_param, nb_input)", nb__describe(kept));
        return false;
    }
    if (kept->dtype != value->dtype || !nb__dims_equal(kept->shape, value->shape)) {
        nb_fail(nb, NB_INVALID, "assign: %s is %s %s, the value %s %s", kept->name, nb_dtype_name(kept->dtype),
                nb__dims_text(kept->shape).at, nb_dtype_name(value->dtype), nb__dims_text(value->shape).at);
        return false;
    }
    *out = (nb_type){kept->dtype, kept->shape};
    return true;
}

const nb_op nb__op_assign = {.name = "assign",
                             .formula = "w \\leftarrow x",
                             .kind = NB_ASSIGN,
                             .arity = 2,
                             .infer = infer_assign};

nb_tensor *nb_assign(nb_tensor *kept, nb_tensor *value) {
    if (kept && value && value->is_number && !kept->is_failed) value = nb_cast(value, kept->dtype);
    nb_tensor  *in[] = {kept, value};
    nb_context *nb = nb__context_of(2, in);
    return nb ? nb_apply(nb, &nb__op_assign, 2, in, NULL) : NULL;
}
