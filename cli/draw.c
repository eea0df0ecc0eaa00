/* draw.c: `nabla draw`: pictures of a net: layers, computation graph, neurons, compiled program. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct draw_settings {
    const char *out;
    nb_dims     input;
    int64_t     batch;
    bool        ops, program, infer, neurons;
} draw_settings;

static const cli_option options[] = {
    {'o', "out", CLI_TEXT, "FILE", offsetof(draw_settings, out), "net.svg", 0, 0, NULL, false,
     "picture to write: .svg, .png or .pdf, or .dot, the source\nfor graphviz"},
    {0, "ops", CLI_FLAG, NULL, offsetof(draw_settings, ops), NULL, 0, 0, NULL, false,
     "the computation graph of a training step: operators, loss\nand gradients"},
    {0, "program", CLI_FLAG, NULL, offsetof(draw_settings, program), NULL, 0, 0, NULL, false,
     "what a training step with Adam is compiled to: kernel calls,\nthe operators in each, and where values lie in memory"},
    {0, "infer", CLI_FLAG, NULL, offsetof(draw_settings, infer), NULL, 0, 0, NULL, false,
     "with --program: the trained form instead"},
    {'b', "batch", CLI_WHOLE, "N", offsetof(draw_settings, batch), "64", 1, 65536, NULL, false,
     "with --program: items of a step"},
    {0, "neurons", CLI_FLAG, NULL, offsetof(draw_settings, neurons), NULL, 0, 0, NULL, false,
     "neurons and weights, for nets of at most 64 neurons a layer"},
    {0, "input", CLI_SIZES, "SIZES", offsetof(draw_settings, input), "1,28,28", 0, 0, NULL, false,
     "of one item, for a net from a text; lstm, gpt-s and gpt-m\nhave their own: 64, 64 and 256 whole numbers"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

/* The graph of a training step with 64 items: cross-entropy, of each step if there are steps, and the gradients of all
 * parameters. */
static char *draw_ops(nb_context *nb, nb_net *net) {
    nb_dims shape = nb_net_input(net), out = nb_net_output(net);
    bool    has_steps = out.rank == 2 && nb_net_input_dtype(net) == NB_I64;
    if (out.rank != 1 && !has_steps)
        return nb_fail(nb, NB_INVALID, "the net ends with more than one axis; its loss needs one number for each class"), NULL;
    memmove(shape.size + 1, shape.size, (size_t)shape.rank++ * sizeof *shape.size);
    shape.size[0] = 64;
    int64_t    items = has_steps ? 64 * out.size[0] : 64;
    nb_tensor *x = nb_input(nb, "x", nb_net_input_dtype(net), shape), *y = nb_input(nb, "y", NB_I64, nb_shape(items));
    nb_tensor *scores = nb_net_apply(net, x, NB_TRAIN);
    if (has_steps) scores = nb_reshape(scores, nb_shape(items, out.size[1]));
    nb_tensor *loss = nb_set_name(nb_cross_entropy(scores, y, NULL), "loss");
    nb_list    parameters = nb_net_parameters(net), gradients = nb_grads(loss, NULL, parameters);
    for (int i = 0; i < gradients.n; i++) {
        char name[128];
        snprintf(name, sizeof name, "d %s", nb_name(parameters.at[i]));
        nb_set_name(gradients.at[i], name);
    }
    return nb_draw_graph(nb, nb_list_join(nb, nb_list_of(nb, loss), gradients), NULL);
}

static char *draw_program(nb_context *nb, nb_net *net, const draw_settings *s) {
    cli_step step = {0};
    return cli_step_make(nb, net, s->batch, s->infer, &step) ? nb_draw_program(step.program) : NULL;
}

static bool check(const draw_settings *s) {
    static const char *const endings[] = {".svg", ".png", ".pdf", ".dot", NULL};
    const char              *ending = strrchr(s->out, '.');
    bool                     known = false;
    for (int i = 0; endings[i] && ending; i++) known |= strcmp(ending, endings[i]) == 0;
    if (!known) return cli_error("--out %s: the name must end with .svg, .png, .pdf or .dot", s->out), false;
    if (s->ops + s->neurons + s->program > 1)
        return cli_error("--ops, --program and --neurons are different pictures: choose one"), false;
    if (s->infer && !s->program) return cli_error("--infer goes with --program"), false;
    return true;
}

static int run(const cli_words *words, void *settings) {
    const draw_settings *s = settings;
    if (!check(s) || !cli_takes_input(&cli_draw_command, words)) return CLI_MEND;
    nb_context *nb = cli_open(1, 0);
    nb_net     *net = nb ? cli_net_open(nb, words->at[0], cli_input(&cli_draw_command, words, s->input)) : NULL;
    char       *dot = !net         ? NULL
                      : s->ops     ? draw_ops(nb, net)
                      : s->program ? draw_program(nb, net, s)
                      : s->neurons ? nb_draw_neurons(net)
                                   : nb_draw_net(net);
    bool        drawn = false, ok = dot && cli_write_picture(nb, s->out, dot, &drawn);
    int         code = ok && drawn ? CLI_DONE : CLI_MEND;
    if (net && !ok && nb_error(nb)) code = cli_report(nb);
    if (code == CLI_DONE) printf("%s\n", s->out);
    nb_free(nb, dot);
    nb_close(nb);
    return code;
}

const cli_command cli_draw_command = {
    .name = "draw",
    .usage = "draw NET|DIR [-o FILE] [options]",
    .about = "draw a net: its layers, its computation graph, its compiled program or its neurons",
    .details = "Draws a net: cnn, mlp, lenet, lstm, gpt-s, gpt-m, a text ('nabla help net'), a file with such a text, or the\n"
               "folder of a trained net.",
    .examples = "  nabla draw cnn -o cnn.svg\n"
                "  nabla draw 'flatten, linear 16, relu, linear 10' --ops -o graph.svg\n"
                "  nabla draw mlp --program -o program.svg\n"
                "  nabla draw 'linear 4, tanh, linear 1' --input 2 --neurons -o xor.svg\n",
    .options = options,
    .least = 1,
    .most = 1,
    .word = "a net",
    .run = run,
    .size = sizeof(draw_settings),
};
