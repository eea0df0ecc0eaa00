/* graph.c: walks over a graph. Iterative: a chain of a million nodes is as good as one of ten. */
#include <string.h>

#include "core.h"

/* Depth first, operands in order; a node is listed when its last operand has been. The stack holds a node and how many of its
 * operands were entered; it never grows beyond the nodes met, and lives in the tail of the list's own memory: together they are
 * at most as many as there are nodes. */
typedef struct frame {
    nb_tensor *node;
    int64_t    entered;
} frame;

/* Room for n frames at least, the old ones copied. Step memory: what is outgrown is given back with the step. */
static bool grow(nb_context *nb, void **at, size_t item, int64_t used, int64_t *room) {
    if (used < *room) return true;
    int64_t more = *room ? 2 * *room : 256;
    void   *p = nb__step_alloc(nb, (size_t)more * item);
    if (!p) return false;
    if (used) memcpy(p, *at, (size_t)used * item);
    *at = p;
    *room = more;
    return true;
}

nb_list nb__walk(nb_context *nb, nb_list roots, bool stop_at_values) {
    nb_list  list = {0};
    int64_t  list_room = 0, stack_room = 0, depth = 0, count = 0;
    frame   *stack = NULL;
    uint64_t mark = ++nb->walk;
    for (int r = 0; r < roots.n; r++) {
        nb_tensor *root = roots.at[r];
        if (root->mark == mark) continue;
        root->mark = mark;
        if (!grow(nb, (void **)&stack, sizeof *stack, depth, &stack_room)) return (nb_list){0};
        stack[depth++] = (frame){root, 0};
        while (depth) {
            frame *f = &stack[depth - 1];
            bool   leaf = stop_at_values && f->node->value;
            if (!leaf && f->entered < f->node->n_in) {
                nb_tensor *in = f->node->in[f->entered++];
                if (in->mark == mark) continue;
                in->mark = mark;
                if (!grow(nb, (void **)&stack, sizeof *stack, depth, &stack_room)) return (nb_list){0};
                stack[depth++] = (frame){in, 0};
            } else {
                if (count == INT32_MAX || !grow(nb, (void **)&list.at, sizeof *list.at, count, &list_room)) return (nb_list){0};
                f->node->index = count;
                list.at[count++] = f->node;
                depth--;
            }
        }
    }
    list.n = (int)count;
    return list;
}

nb_list nb_graph(nb_context *nb, nb_list roots) {
    for (int i = 0; i < roots.n; i++)
        if (nb__refuse(nb, roots.at[i], i, "nb_graph")) return (nb_list){0};
    return nb__walk(nb, roots, false);
}
