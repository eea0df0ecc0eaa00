/* summary.c: `nabla summary`: a net's layers with their shapes, parameters, arithmetic and memory. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct summary_settings {
    nb_dims input;
    int64_t batch, threads;
    bool    memory;
} summary_settings;

static const cli_option options[] = {
    {0, "input", CLI_SIZES, "SIZES", offsetof(summary_settings, input), "1,28,28", 0, 0, NULL, false,
     "of one item, for a net from a text; lstm, gpt-s and gpt-m\nhave their own: 64, 64 and 256 whole numbers"},
    {0, "memory", CLI_FLAG, NULL, offsetof(summary_settings, memory), NULL, 0, 0, NULL, false,
     "the memory of a step instead: bytes by kind, largest values"},
    {'b', "batch", CLI_WHOLE, "N", offsetof(summary_settings, batch), "64", 1, 65536, NULL, false,
     "with --memory: items of a step"},
    {'t', "threads", CLI_WHOLE, "N", offsetof(summary_settings, threads), "1", 1, 256, NULL, false,
     "with --memory: that compute, each with scratch of its own"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

/* 1234567 -> "1,234,567". */
static const char *grouped(int64_t n, char text[32]) {
    char digits[24];
    int  length = snprintf(digits, sizeof digits, "%lld", (long long)n), used = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = 0;
    return text;
}

static void rule(void) { puts("------------------------------------------------------------------------------------------"); }

static void print(nb_context *nb, nb_net *net) {
    char    a[64], b[32], c[32], d[32];
    int64_t parameters = 0, trainable = 0, bytes = 0;
    double  flops = 0;
    printf("input %s\n\n", cli_shape(nb_net_input(net), a));
    printf("%-22s %-18s %14s %14s %10s %8s\n", "layer", "type", "output", "parameters", "FLOPs", "memory");
    rule();
    for (int i = 0; i < nb_net_layer_count(net); i++) {
        nb_layer_info l = nb_net_layer_info(net, i);
        printf("%-22s %-18s %14s %14s %10s %8s\n", l.path, l.type, cli_shape(l.output, a), grouped(l.parameters, b),
               cli_scaled(l.flops, "", c), cli_scaled((double)l.bytes, "B", d));
        parameters += l.parameters;
        trainable += l.trainable;
        bytes += l.bytes;
        flops += l.flops;
    }
    rule();
    printf("%-22s %-18s %14s %14s %10s %8s\n\n", "all", "", cli_shape(nb_net_output(net), a), grouped(parameters, b),
           cli_scaled(flops, "", c), cli_scaled((double)bytes, "B", d));
    nb_list state = nb_net_state(net);
    double  weights = 0;
    for (int i = 0; i < state.n; i++) weights += (double)nb_bytes(state.at[i]);
    printf("%s trainable parameters; weights and running values take %s\n", grouped(trainable, b), cli_scaled(weights, "B", c));
    printf("output, FLOPs and memory are those of one item; a multiplication and an addition are 2 FLOPs\n");
    nb_next_step(nb);
}

static int run(const cli_words *words, void *settings) {
    const summary_settings *s = settings;
    if (!cli_takes_input(&cli_summary_command, words)) return CLI_MEND;
    nb_context *nb = cli_open(s->threads, 0);
    nb_net     *net = nb ? cli_net_open(nb, words->at[0], cli_input(&cli_summary_command, words, s->input)) : NULL;
    int         code = net ? CLI_DONE : CLI_MEND;
    if (net && s->memory)
        cli_print_memory(nb, net, s->batch);
    else if (net)
        print(nb, net);
    if (net && nb_error(nb)) code = cli_report(nb);
    nb_close(nb);
    return code;
}

const cli_command cli_summary_command = {
    .name = "summary",
    .usage = "summary NET|DIR [options]",
    .about = "list a net's layers with shapes, parameters, FLOPs and memory",
    .details = "Lists the layers of a net: cnn, mlp, lenet, lstm, gpt-s, gpt-m, a text ('nabla help net'), a file with such a\n"
               "text, or the folder of a trained net. With --memory: what a training step with Adam and a call of the trained\n"
               "form take, as planned before they run.",
    .examples = "  nabla summary cnn\n"
                "  nabla summary cnn --memory --batch 128\n"
                "  nabla summary 'conv 8 5, relu, flatten, linear 10' --input 3,32,32\n"
                "  nabla summary 'embedding 100 16, lstm 32' --input 20\n"
                "  nabla summary run\n",
    .options = options,
    .least = 1,
    .most = 1,
    .word = "a net",
    .run = run,
    .size = sizeof(summary_settings),
};
