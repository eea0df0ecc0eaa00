/* score.c: loss and accuracy of a net over a data set. The last batch is filled up with labels -1, which count for nothing, so
 * that one program serves all. Sums are made inside the graph. */
#include <math.h>
#include <stdlib.h>

#include "cli.h"

#define BATCH 100 /* divides the usual test sets; what a layer of a small net makes of it stays in the cache */

struct cli_scorer {
    nb_context *nb;
    nb_dataset *data;
    nb_loader  *loader;
    nb_tensor  *x, *y;
    nb_program *program;
};

/* How many rows of logits [N,C] are largest at their label. */
nb_tensor *cli_count_right(nb_tensor *logits, nb_tensor *labels) {
    return nb_sum(nb_cast(nb_equal(nb_argmax(logits, 1, false), labels), NB_F32), nb_axes(), false);
}

cli_scorer *cli_scorer_new(nb_context *nb, nb_net *net, nb_dataset *d, double mean, double std) {
    cli_scorer *s = calloc(1, sizeof *s);
    int64_t     batch = nb_dataset_count(d) < BATCH ? nb_dataset_count(d) : BATCH;
    nb_dims     shape = nb_dataset_item(d);
    if (!s) return nb_fail(nb, NB_NO_MEMORY, "no memory to score a net"), NULL;
    for (int i = (int)shape.rank; i > 0; i--) shape.size[i] = shape.size[i - 1];
    shape.size[0] = batch;
    shape.rank++;
    s->nb = nb;
    s->data = d;
    s->loader = nb_loader_new(
        d,
        &(nb_loader_options){.batch = batch, .keep_last = true, .mean = mean, .std = std, .no_thread = !cli_prepares_ahead(nb)});
    s->x = nb_input(nb, "images", NB_F32, shape);
    s->y = nb_input(nb, "labels", NB_I64, nb_shape(batch));
    nb_tensor *logits = nb_net_apply(net, s->x, NB_EVAL);
    nb_tensor *loss =
        nb_cross_entropy(logits, s->y, &(nb_class_options){.reduction = NB_REDUCE_SUM, .ignore = true, .ignore_index = -1});
    s->program =
        nb_compile_with(nb, nb_list_of(nb, loss, cli_count_right(logits, s->y)), &(nb_compile_options){.check_finite = true});
    nb_next_step(nb);
    if (s->loader && !nb_error(nb)) return s;
    cli_scorer_free(s);
    return NULL;
}

void cli_scorer_free(cli_scorer *s) {
    if (!s) return;
    nb_program_free(s->program);
    if (s->loader) nb_loader_free(s->loader);
    nb_release(s->x);
    nb_release(s->y);
    free(s);
}

void cli_scorer_profile(cli_scorer *s, const char *title) { cli_print_profile(s->program, title); }

bool cli_scorer_run(cli_scorer *s, cli_score *score, const volatile sig_atomic_t *stop) {
    double start = cli_now(), loss = 0, right = 0, n = (double)nb_dataset_count(s->data);
    if (!nb_loader_start(s->loader, 0, 0)) return false;
    while (nb_loader_next(s->loader, s->x, s->y)) {
        if ((stop && *stop) || !nb_run(s->program)) return false;
        loss += nb_item(nb_output(s->program, 0));
        right += nb_item(nb_output(s->program, 1));
    }
    *score = (cli_score){loss / n, right / n, cli_now() - start};
    return !nb_error(s->nb);
}
