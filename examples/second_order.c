/* second_order.c: Newton's method with the Hessian from derivatives of derivatives.
 *
 *     f(x) = (1 - x_0)^2 + 100 (x_1 - x_0^2)^2        Rosenbrock's valley, minimum 0 at (1, 1)
 *     g = df/dx [2]      H_i = dg_i/dx [2], i = 0, 1      x <- x - H^-1 g
 *
 * Where gradient descent takes thousands of steps along the valley, Newton's method takes a handful. A derivative is a graph like
 * any other, so a derivative of a derivative is one more call; and the step is nodes too, so that one program does it all.
 * The second part is what scales to nets: H v without H, as d(g . v)/dx (Pearlmutter, 1994). */
#include <nabla.h>

#include <math.h>
#include <stdio.h>

static nb_tensor *element(nb_tensor *x, int64_t i) { return nb_squeeze(nb_slice(x, -1, i, i + 1, 1), nb_axes(-1)); }

static nb_tensor *rosenbrock(nb_tensor *x) {
    nb_context *nb = nb_context_of(x);
    nb_tensor  *x0 = element(x, 0), *x1 = element(x, 1);
    nb_tensor  *slope = nb_square(nb_sub(nb_number(nb, 1), x0)), *valley = nb_square(nb_sub(x1, nb_square(x0)));
    return nb_add(slope, nb_mul(nb_number(nb, 100), valley));
}

/* Solves H s = g, H [2,2], by Cramer's rule. */
static nb_tensor *solve(nb_tensor *h, nb_tensor *g) {
    nb_context *nb = nb_context_of(h);
    nb_tensor  *row0 = nb_squeeze(nb_slice(h, 0, 0, 1, 1), nb_axes(0)), *row1 = nb_squeeze(nb_slice(h, 0, 1, 2, 1), nb_axes(0));
    nb_tensor  *a = element(row0, 0), *b = element(row0, 1), *c = element(row1, 0), *d = element(row1, 1);
    nb_tensor  *g0 = element(g, 0), *g1 = element(g, 1), *det = nb_sub(nb_mul(a, d), nb_mul(b, c));
    nb_tensor  *s0 = nb_sub(nb_mul(d, g0), nb_mul(b, g1)), *s1 = nb_sub(nb_mul(a, g1), nb_mul(c, g0));
    return nb_div(nb_stack(nb_list_of(nb, s0, s1), 0), det);
}

int main(void) {
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die});
    nb_tensor  *x = nb_param(nb, "x", nb_from(nb, NB_F64, nb_shape(2), (double[]){-1.2, 1}));
    nb_list     xs = nb_list_of(nb, x);

    nb_tensor *f = rosenbrock(x);
    nb_tensor *g = nb_grads(f, NULL, xs).at[0];
    nb_tensor *h0 = nb_grads(element(g, 0), NULL, xs).at[0], *h1 = nb_grads(element(g, 1), NULL, xs).at[0];
    nb_tensor *h = nb_stack(nb_list_of(nb, h0, h1), 0);

    nb_tensor *v = nb_from(nb, NB_F64, nb_shape(2), (double[]){1, 2}); /* H v, twice: through H, and without it */
    nb_tensor *hv = nb_grads(nb_sum(nb_mul(g, v), nb_axes(), false), NULL, xs).at[0];
    nb_tensor *difference = nb_norm(nb_sub(nb_matmul(h, v), hv), INFINITY, nb_axes(), false);

    nb_tensor  *step = nb_assign(x, nb_sub(x, solve(h, g)));
    nb_program *newton = nb_compile(nb, nb_list_of(nb, f, nb_norm(g, 2, nb_axes(), false), difference, step));

    int    steps = 0;
    double slope = 1, error = 0;
    for (; slope > 1e-6 && steps < 20; steps++) {
        if (!nb_run(newton)) return 1;
        slope = nb_item(nb_output(newton, 1));
        error = fmax(error, nb_item(nb_output(newton, 2)));
        printf("step %d  f = %-12.6g |g| = %.3g\n", steps, nb_item(nb_output(newton, 0)), slope);
    }
    const double *at = nb_data(x);
    printf("second_order: minimum at (%.6f, %.6f) after %d steps; H v %s\n", at[0], at[1], steps,
           error < 1e-9 ? "agrees" : "DIFFERS");
    bool right = fabs(at[0] - 1) + fabs(at[1] - 1) < 1e-9 && error < 1e-9;
    nb_close(nb);
    return right ? 0 : 1;
}
