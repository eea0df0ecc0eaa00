/* tensor.c: making nodes and looking at them. */
#include <string.h>

#include "core.h"

static const nb_op kept_op = {.name = "kept", .formula = "x", .kind = NB_LEAF};
const nb_op nb__op_data = {.name = "data", .formula = "x", .kind = NB_LEAF};
const nb_op nb__op_output = {.name = "output", .formula = "x", .kind = NB_LEAF};
const nb_op nb__op_failed = {.name = "failed", .formula = "", .kind = NB_LEAF};

const char *nb__describe(const nb_tensor *t) {
    if (t->name[0]) return t->name;
    const char *text = nb__step_print(t->nb, "the result of %s", t->scope->group[0] ? t->scope->group : t->op->name);
    return text ? text : t->op->name;
}

nb_tensor *nb__refuse(nb_context *nb, nb_tensor *t, int operand, const char *user) {
    if (!t) return nb_fail(nb, NB_INVALID, "%s: operand %d is NULL", user, operand);
    if (t->nb != nb) return nb_fail(nb, NB_INVALID, "%s: operand %d belongs to another context", user, operand);
    if (t->is_failed) {
        /* A failed tensor from before nb_error_clear must not pass for a good one. */
        if (nb->status == NB_OK) nb_fail(nb, NB_INVALID, "%s: operand %d comes from a call that failed", user, operand);
        return &nb->failed;
    }
    if (t->op == &nb__op_output && !t->value)
        return nb_fail(nb, NB_INVALID, "%s: operand %d is the result of a program that has not been run", user, operand);
    if (t->is_released)
        return nb_fail(nb, NB_INVALID, "%s: operand %d, %s, was given back with nb_release", user, operand, t->name);
    if (t->step != NB__KEPT && t->step != nb->step)
        return nb_fail(
            nb, NB_INVALID,
            "%s: operand %d is the result of %s from an earlier step; nb_next_step gave it back: keep values over steps with "
            "nb_param and nb_assign",
            user, operand, t->op->name);
    return NULL;
}

static nb_tensor *new_node(nb_context *nb, const nb_op *op, nb_type type, int n_in) {
    size_t     head = (sizeof(nb_tensor) + 7) & ~(size_t)7, list = (size_t)n_in * sizeof(nb_tensor *);
    char      *p = nb__step_alloc(nb, head + list + op->attr_size);
    nb_tensor *t = (nb_tensor *)p;
    if (!t) return &nb->failed;
    *t = (nb_tensor){.nb = nb,
                     .op = op,
                     .step = nb->step,
                     .serial = ++nb->serial,
                     .shape = type.shape,
                     .dtype = type.dtype,
                     .is_backward = nb->backward_depth > 0,
                     .n_in = n_in,
                     .scope = nb->scope,
                     .name = ""};
    t->in = (nb_tensor **)(p + head);
    if (op->kind == NB_RANDOM) t->draw = (nb__draw){nb->random, nb->streams++};
    if (op->attr_size) t->attr = p + head + list;
    return t;
}

/* An operator from outside may be incomplete. */
static bool is_complete(nb_context *nb, const nb_op *op) {
    if (!op)
        nb_fail(nb, NB_INVALID, "nb_apply: the operator is NULL");
    else if (!op->name || !op->infer)
        nb_fail(nb, NB_INVALID, "%s: nb_op.%s is missing", op->name ? op->name : "an operator", op->name ? "infer" : "name");
    else if (op->kind == NB_VIEW && !op->view)
        nb_fail(nb, NB_INVALID, "%s: nb_op.view is missing; a view must have it", op->name);
    else if ((op->kind == NB_LEAF && !op->run) || op->kind == NB_COMPOSITION || (op->kind == NB_ASSIGN && op->arity != 2))
        nb_fail(nb, NB_INVALID, "%s: nodes of this kind are not made by nb_apply", op->name);
    else
        return true;
    return false;
}

nb_tensor *nb_apply(nb_context *nb, const nb_op *op, int n_in, nb_tensor *const *in, const void *attr) {
    if (!is_complete(nb, op)) return &nb->failed;
    if (op->arity >= 0 ? n_in != op->arity : n_in < 1)
        return nb_fail(nb, NB_INVALID, "%s: takes %d operands, got %d", op->name, op->arity >= 0 ? op->arity : 1, n_in);
    if (op->attr_size && !attr) return nb_fail(nb, NB_INVALID, "%s: its attributes are missing", op->name);
    for (int i = 0; i < n_in; i++) {
        if (nb__refuse(nb, in[i], i, op->name)) return &nb->failed;
        if (in[i]->op->kind == NB_ASSIGN)
            return nb_fail(nb, NB_INVALID, "%s: operand %d is an assign (to %s), which has no value: use what is assigned",
                           op->name, i, in[i]->in[0]->name);
    }
    if (op->kind == NB_ASSIGN && !in[0]->storage)
        return nb_fail(nb, NB_INVALID, "%s: %s is not a kept tensor (nb_param, nb_input)", op->name, nb__describe(in[0]));
    nb_type type = {0};
    if (!op->infer(nb, in, n_in, attr, &type)) {
        return nb->status == NB_OK ? nb_fail(nb, NB_INVALID, "%s: its shape rule refused the operands", op->name) : &nb->failed;
    }
    if (!nb__check_shape(nb, op->name, type.dtype, type.shape)) return &nb->failed;
    nb_tensor *t = new_node(nb, op, type, n_in);
    if (t->is_failed) return t;
    for (int i = 0; i < n_in; i++) t->in[i] = in[i];
    if (op->attr_size) memcpy(t->attr, attr, op->attr_size);
    return t;
}

nb_tensor *nb_from(nb_context *nb, nb_dtype dtype, nb_dims shape, const void *data) {
    if (!nb__check_shape(nb, "nb_from", dtype, shape)) return &nb->failed;
    nb_tensor *t = new_node(nb, &nb__op_data, (nb_type){dtype, shape}, 0);
    if (t->is_failed) return t;
    t->value = nb__step_alloc(nb, nb_bytes(t));
    if (!t->value) return &nb->failed;
    if (data)
        memcpy(t->value, data, nb_bytes(t));
    else if (nb_bytes(t))
        return nb_fail(nb, NB_INVALID, "nb_from: data is NULL");
    return t;
}

/* --------------------------------------------------------------------------------------------------------------- kept tensors */

nb_tensor *nb__kept_new(nb_context *nb, const char *name, nb_dtype dtype, nb_dims shape, bool is_input) {
    if (!nb__check_shape(nb, name ? name : "a kept tensor", dtype, shape)) return &nb->failed;
    nb_tensor *t = nb_alloc(nb, sizeof *t);
    char      *copy = nb__strdup(nb, name ? name : "");
    if (!t || !copy) goto fail;
    *t = (nb_tensor){.nb = nb,
                     .op = &kept_op,
                     .step = NB__KEPT,
                     .serial = ++nb->serial,
                     .shape = shape,
                     .dtype = dtype,
                     .scope = nb->scope,
                     .name = copy};
    t->storage = nb_alloc(nb, sizeof *t->storage);
    if (!t->storage) goto fail;
    *t->storage = (nb__storage){.bytes = nb_bytes(t), .users = 1, .is_versioned = !is_input};
    t->storage->data = nb_alloc(nb, t->storage->bytes);
    if (!t->storage->data) goto fail;
    *nb->kept_end = t;
    nb->kept_end = &t->next;
    return t;
fail:
    if (t) nb_free(nb, t->storage);
    nb_free(nb, t);
    nb_free(nb, copy);
    return &nb->failed;
}

nb_tensor *nb_input(nb_context *nb, const char *name, nb_dtype dtype, nb_dims shape) {
    return nb__kept_new(nb, name, dtype, shape, true);
}

void nb__storage_unuse(nb_context *nb, nb__storage *s) {
    if (!s || --s->users) return;
    nb_free(nb, s->data);
    nb_free(nb, s);
}

void nb_release(nb_tensor *t) {
    if (!t || t->is_failed || t->step != NB__KEPT || t->is_released) return;
    nb_context *nb = t->nb;
    for (nb_tensor **p = &nb->kept; *p; p = &(*p)->next) {
        if (*p != t) continue;
        *p = t->next;
        if (nb->kept_end == &t->next) nb->kept_end = p;
        t->storage->is_released = true;
        nb__storage_unuse(nb, t->storage);
        t->storage = NULL;
        t->is_released = true;
        nb->n_released++;
        t->next = nb->released;
        nb->released = t;
        return;
    }
}

nb_list nb_kept(nb_context *nb) {
    int n = 0, i = 0;
    for (nb_tensor *t = nb->kept; t; t = t->next) n++;
    nb_list list = nb_list_new(nb, n);
    for (nb_tensor *t = nb->kept; t && i < list.n; t = t->next) list.at[i++] = t;
    return list;
}

/* ---------------------------------------------------------------------------------------------------------------------- lists */

nb_list nb_list_new(nb_context *nb, int n) {
    /* An empty list has a place too: who gets one still finds the context. */
    nb_list list = {.at = nb__step_alloc(nb, (size_t)(n > 0 ? n : 1) * sizeof *list.at)};
    if (!list.at) return (nb_list){0, nb->failed_at};
    list.n = n > 0 ? n : 0;
    list.at[0] = &nb->failed;
    for (int i = 1; i < n; i++) list.at[i] = &nb->failed;
    return list;
}

nb_list nb_list_from(nb_context *nb, int n, nb_tensor *const *tensors) {
    nb_list list = nb_list_new(nb, n);
    for (int i = 0; i < list.n; i++) list.at[i] = tensors[i];
    return list;
}

nb_list nb_list_join(nb_context *nb, nb_list a, nb_list b) {
    nb_list list = nb_list_new(nb, a.n + b.n);
    for (int i = 0; i < list.n; i++) list.at[i] = i < a.n ? a.at[i] : b.at[i - a.n];
    return list;
}

/* --------------------------------------------------------------------------------------------------------- looking at tensors */

nb_context  *nb_context_of(const nb_tensor *t) { return t->nb; }
nb_dtype     nb_dtype_of(const nb_tensor *t) { return t->dtype; }
nb_dims      nb_shape_of(const nb_tensor *t) { return t->shape; }
int          nb_rank(const nb_tensor *t) { return (int)t->shape.rank; }
int64_t      nb_count(const nb_tensor *t) { return nb__dims_count(t->shape); }
size_t       nb_bytes(const nb_tensor *t) { return (size_t)nb_count(t) * nb_dtype_size(t->dtype); }
const char  *nb_name(const nb_tensor *t) { return t->name; }
bool         nb_is_kept(const nb_tensor *t) { return t->storage != NULL; }
bool         nb_has_failed(const nb_tensor *t) { return t->is_failed; }
bool         nb_has_value(const nb_tensor *t) { return t->storage || t->value; }
const nb_op *nb_op_of(const nb_tensor *t) { return t->op; }
const void  *nb_attr(const nb_tensor *t) { return t->attr; }
int          nb_input_count(const nb_tensor *t) { return t->n_in; }
nb_tensor   *nb_input_at(const nb_tensor *t, int i) { return i < 0 || i >= t->n_in ? &t->nb->failed : t->in[i]; }
const char  *nb_layer_of(const nb_tensor *t) { return t->scope->path; }
const char  *nb_group_of(const nb_tensor *t) { return t->scope->group; }
bool         nb_is_backward(const nb_tensor *t) { return t->is_backward; }
uint64_t     nb_serial(const nb_tensor *t) { return t->serial; }

int64_t nb_size(const nb_tensor *t, int axis) {
    if (axis < 0) axis += (int)t->shape.rank;
    return axis < 0 || axis >= t->shape.rank ? -1 : t->shape.size[axis];
}

nb_tensor *nb_set_name(nb_tensor *t, const char *name) {
    if (t->is_failed) return t;
    nb_context *nb = t->nb;
    if (t->step == NB__KEPT) {
        char *copy = nb__strdup(nb, name);
        if (!copy) return t;
        nb_free(nb, (char *)t->name);
        t->name = copy;
    } else {
        const char *copy = nb__step_print(nb, "%s", name);
        if (copy) t->name = copy;
    }
    return t;
}

nb_tensor *nb_watch(nb_tensor *t) {
    if (t && !t->is_failed) t->is_watched = true;
    return t;
}

nb_tensor *nb_with_update(nb_tensor *y, nb_tensor *assign) {
    if (!y) return NULL;
    nb_context *nb = y->nb;
    if (nb__refuse(nb, y, 0, "nb_with_update") || nb__refuse(nb, assign, 1, "nb_with_update")) return &nb->failed;
    if (assign->op->kind != NB_ASSIGN)
        return nb_fail(nb, NB_INVALID, "nb_with_update: %s is not an assign", nb__describe(assign));
    if (y->step == NB__KEPT)
        return nb_fail(nb, NB_INVALID, "nb_with_update: %s is kept; updates go with results of operators", y->name);
    nb__update *u = nb__step_alloc(nb, sizeof *u);
    if (!u) return &nb->failed;
    *u = (nb__update){y->updates, assign};
    y->updates = u;
    return y;
}
