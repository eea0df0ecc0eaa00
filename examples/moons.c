/* moons.c: two interleaving half circles, told apart by a net with the hinge loss and an L2 penalty; as micrograd's demo.
 *
 *     score s(x) in R,   label t = -1 or 1,   loss = mean of max(0, 1 - t s) + alpha/2 sum w^2
 *
 * The hinge asks for a margin: points with t s >= 1 pull no longer. The picture shows the sign of s over the plane.
 * Run: moons [FILE.svg] */
#include <nabla.h>

#include <math.h>
#include <stdio.h>

enum { POINTS = 100, GRID = 60 };
static const float left = -1.6f, top = 1.6f, cell = 4.2f / GRID; /* the picture: [-1.6, 2.6] x [-2.6, 1.6] */

static float uniform(nb_context *nb) { return (float)nb_random_bits(nb) / 4294967296.0f; }

static void make_moons(nb_context *nb, float x[POINTS][2], float t[POINTS][1]) {
    for (int i = 0; i < POINTS; i++) {
        float angle = 3.14159265f * uniform(nb), upper = i % 2 ? 1.0f : 0.0f;
        x[i][0] = (upper ? cosf(angle) : 1 - cosf(angle)) + 0.2f * (uniform(nb) - 0.5f);
        x[i][1] = (upper ? sinf(angle) : 0.5f - sinf(angle)) + 0.2f * (uniform(nb) - 0.5f);
        t[i][0] = upper ? 1.0f : -1.0f;
    }
}

/* A cell a score, coloured by its sign, and the points on top. */
static bool write_svg(const char *path, const float *scores, float x[POINTS][2], float t[POINTS][1]) {
    FILE *f = fopen(path, "w");
    if (!f) return false;
    fprintf(f, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='480'>\n", GRID, GRID);
    for (int i = 0; i < GRID * GRID; i++)
        fprintf(f, "<rect x='%d' y='%d' width='1.05' height='1.05' fill='%s'/>\n", i % GRID, i / GRID,
                scores[i] > 0 ? "#f9d5c4" : "#cfe0f5");
    for (int i = 0; i < POINTS; i++)
        fprintf(f, "<circle cx='%.2f' cy='%.2f' r='0.7' fill='%s'/>\n", (double)((x[i][0] - left) / cell),
                (double)((top - x[i][1]) / cell), t[i][0] > 0 ? "#c04a1a" : "#1a5fb4");
    fprintf(f, "</svg>\n");
    return fclose(f) == 0;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "moons.svg";
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die, .seed = 3});
    float       points[POINTS][2], labels[POINTS][1], grid[GRID * GRID][2];
    make_moons(nb, points, labels);

    nb_net    *net = nb_net_parse(nb, "linear 16, relu, linear 16, relu, linear 1", nb_shape(2));
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(POINTS, 2)), *t = nb_input(nb, "t", NB_F32, nb_shape(POINTS, 1));
    nb_set(x, points, sizeof points);
    nb_set(t, labels, sizeof labels);

    nb_tensor    *s = nb_net_apply(net, x, NB_TRAIN), *right = nb_greater(nb_mul(s, t), nb_number(nb, 0));
    nb_tensor    *penalty = nb_mul(nb_number(nb, 1e-4), nb_l2(nb_net_parameters(net)));
    nb_tensor    *loss = nb_add(nb_hinge(s, t, NB_REDUCE_MEAN), penalty);
    nb_tensor    *count = nb_sum(nb_cast(right, NB_I64), nb_axes(), false);
    nb_optimizer *sgd = nb_sgd(nb_net_parameters(net), 0.1, &(nb_sgd_options){.momentum = 0.9});
    nb_program   *train = nb_compile(nb, nb_list_join(nb, nb_list_of(nb, count), nb_update(sgd, loss)));

    for (int step = 1; step <= 300; step++) {
        if (!nb_run(train)) return 1;
        if (step % 50 == 0)
            printf("step %3d  loss %.4f  right %3.0f\n", step, nb_item(nb_output(train, 1)), nb_item(nb_output(train, 0)));
    }
    double last = nb_item(nb_output(train, 0));

    for (int i = 0; i < GRID * GRID; i++) {
        grid[i][0] = left + ((float)(i % GRID) + 0.5f) * cell;
        grid[i][1] = top - ((float)(i / GRID) + 0.5f) * cell;
    }
    const float *scores = nb_data(nb_net_apply(net, nb_from(nb, NB_F32, nb_shape(GRID * GRID, 2), grid), NB_EVAL));
    if (!write_svg(path, scores, points, labels)) return perror(path), 1;
    printf("wrote %s\nmoons: %.0f of %d right\n", path, last, POINTS);
    nb_close(nb);
    return last == POINTS ? 0 : 1;
}
