/* scalar.c: reverse mode on the example of Wikipedia's article on automatic differentiation.
 *
 *     y = x1 x2 + sin x1      w1 = x1 x2, w2 = sin x1, y = w1 + w2
 *
 * Reverse mode starts with dy/dy = 1 and goes backwards through the graph; each operator hands dy on to its operands, and what
 * arrives at one node from several sides is added:
 *
 *     dy/dw1 = 1    dy/dw2 = 1    dy/dx1 = dy/dw1 x2 + dy/dw2 cos x1    dy/dx2 = dy/dw1 x1
 *
 * Run: scalar [FILE.dot]; it says how to see the picture. */
#include <nabla.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "scalar.dot";
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die}); /* the first error ends the program with a message */

    nb_tensor *x1 = nb_param(nb, "x1", nb_full(nb, NB_F64, nb_shape(), 2)); /* nb_shape(): a scalar */
    nb_tensor *x2 = nb_param(nb, "x2", nb_full(nb, NB_F64, nb_shape(), 3));
    nb_tensor *w1 = nb_set_name(nb_mul(x1, x2), "w1");
    nb_tensor *w2 = nb_set_name(nb_sin(x1), "w2");
    nb_tensor *y = nb_set_name(nb_add(w1, w2), "y");

    nb_list variables = nb_list_of(nb, x1, x2, w1, w2, y);
    nb_list gradients = nb_grads(y, NULL, variables); /* nodes of the same graph: nothing is computed yet */

    for (int i = 0; i < variables.n; i++)
        printf("%-2s = %8.5f   dy/d%-2s = %8.5f\n", nb_name(variables.at[i]), nb_item(variables.at[i]), nb_name(variables.at[i]),
               nb_item(gradients.at[i]));

    /* The picture: each box with its value and the gradient that arrives there. */
    nb_draw_options options = {.values = true, .gradients = gradients, .of = variables};
    char           *dot = nb_draw_graph(nb, nb_list_of(nb, y), &options);
    if (!dot || !nb_write_file(nb, path, dot, strlen(dot))) return 1;
    nb_free(nb, dot);
    printf("wrote %s; to see it: dot -Tsvg %s -o scalar.svg\n", path, path);

    double error = fabs(nb_item(gradients.at[0]) - (3 + cos(2))) + fabs(nb_item(gradients.at[1]) - 2);
    printf("scalar: y = %.4f, dy/dx1 = %.4f, dy/dx2 = %.4f, %s\n", nb_item(y), nb_item(gradients.at[0]), nb_item(gradients.at[1]),
           error < 1e-12 ? "as by hand" : "WRONG");
    nb_close(nb);
    return error < 1e-12 ? 0 : 1;
}
