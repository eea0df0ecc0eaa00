/* profile.c: `nabla profile`: where the time of a training step, or of a call of the trained form, goes. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct profile_settings {
    nb_dims input;
    int64_t threads, batch, steps, rows;
    bool    infer, json;
} profile_settings;

#define FIELD(name) offsetof(profile_settings, name)

static const cli_option options[] = {
    {'t', "threads", CLI_WHOLE, "N", FIELD(threads), "1", 1, 256, NULL, false, "that compute"},
    {'b', "batch", CLI_WHOLE, "N", FIELD(batch), "64", 1, 65536, NULL, false, "items of a step"},
    {0, "infer", CLI_FLAG, NULL, FIELD(infer), NULL, 0, 0, NULL, false, "the trained form, instead of a training step with Adam"},
    {0, "steps", CLI_WHOLE, "N", FIELD(steps), NULL, 1, 1e9, NULL, false, "to run, and show the mean [a good block of several]"},
    {0, "rows", CLI_WHOLE, "N", FIELD(rows), "30", 0, 1e6, NULL, false, "rows to list, the longest first; 0: all"},
    {0, "input", CLI_SIZES, "SIZES", FIELD(input), "1,28,28", 0, 0, NULL, false,
     "of one item, for a net from a text; lstm, gpt-s and gpt-m\nhave their own: 64, 64 and 256 whole numbers"},
    {0, "json", CLI_FLAG, NULL, FIELD(json), NULL, 0, 0, NULL, false, "print one line of JSON, calls in the order of the run"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

/* Milliseconds that the block took in `ms`; the profile is that of the block. */
static bool run_block(nb_program *p, int64_t steps, double *ms) {
    if (!nb_program_profile(p, true)) return false;
    for (int64_t i = 0; i < steps; i++)
        if (!nb_run(p)) return false;
    *ms = nb_program_describe(p).seconds * 1e3;
    return nb_program_profile(p, false);
}

/* Other work of the machine only ever adds time: the block that is shown is about as fast as the best of nine. */
static bool measure(nb_program *p, int64_t steps) {
    enum { BLOCKS = 9, MORE = 20 };
    double best = 0, ms;
    if (!run_block(p, 3, &ms) || !run_block(p, 3, &ms)) return false;
    if (steps) return run_block(p, steps, &ms);
    steps = ms > 0 && ms < 600 ? (int64_t)(600 / ms) : 1; /* a block of a fifth of a second */
    for (int i = 0; i < BLOCKS; i++) {
        if (!run_block(p, steps, &ms)) return false;
        if (i == 0 || ms < best) best = ms;
    }
    for (int i = 0; i < MORE && ms > 1.02 * best; i++)
        if (!run_block(p, steps, &ms)) return false;
    return true;
}

static json_t *call_json(const nb_call_info *c, double runs) {
    return json_pack("{ss ss ss ss sb sb sb sb sI sf sf sf sf}", "kernel", c->kernel, "operators", c->operators, "layers",
                     c->layers, "groups", c->groups, "backward", c->is_backward, "late", c->is_late, "lasting", c->is_lasting,
                     "reference", c->is_reference, "runs", (json_int_t)c->runs, "ms", c->seconds / runs * 1e3, "flops", c->flops,
                     "bytes_read", c->bytes_read, "bytes_written", c->bytes_written);
}

static bool print_json(nb_context *nb, nb_program *p, const profile_settings *s, nb_machine peak) {
    nb_program_info info = nb_program_describe(p);
    double          runs = (double)info.runs, in_calls = 0;
    json_t         *calls = json_array();
    for (int i = 0; i < info.calls; i++) {
        nb_call_info c = nb_program_call(p, i);
        in_calls += c.seconds;
        json_array_append_new(calls, call_json(&c, runs));
    }
    json_t *all =
        json_pack("{ss sI sI ss sI sf sf sf sf so}", "mode", s->infer ? "infer" : "train", "threads", (json_int_t)nb_threads(nb),
                  "batch", (json_int_t)s->batch, "kernels", nb_kernels(nb), "runs", (json_int_t)info.runs, "ms",
                  info.seconds / runs * 1e3, "outside_ms", (info.seconds - in_calls) / runs * 1e3, "peak_gflops", peak.gflops,
                  "peak_gbytes", peak.gbytes, "calls", calls);
    char *text = all ? json_dumps(all, JSON_REAL_PRECISION(6)) : NULL;
    if (text) printf("%s\n", text);
    bool ok = text != NULL;
    free(text);
    json_decref(all);
    return ok;
}

static bool print_table(nb_program *p, nb_machine peak, int rows, FILE *out) {
    char *table = nb_draw_profile(p, &peak, rows);
    if (table) fputs(table, out);
    nb_free(nb_program_context(p), table);
    return table != NULL;
}

void cli_print_profile(nb_program *p, const char *title) {
    nb_context *nb = nb_program_context(p);
    if (!nb || !nb_program_describe(p).runs) return;
    fprintf(stderr, "\n%s, %d thread%s, kernels %s\n\n", title, nb_threads(nb), cli_s(nb_threads(nb)), nb_kernels(nb));
    if (print_table(p, nb_measure_machine(nb), 30, stderr)) return;
    fprintf(stderr, "nabla: no profile: %s\n", nb_error(nb) ? nb_error(nb) : "no memory");
    nb_error_clear(nb);
}

static bool profile(nb_context *nb, nb_net *net, const profile_settings *s) {
    cli_step    step = {0};
    nb_program *p = cli_step_make(nb, net, s->batch, s->infer, &step) ? step.program : NULL;
    if (!p) return false;
    nb_machine before = nb_measure_machine(nb);
    if (!measure(p, s->steps)) return false;
    nb_machine peak = nb_measure_machine(nb);
    if (peak.gflops < before.gflops) peak.gflops = before.gflops;
    if (peak.gbytes < before.gbytes) peak.gbytes = before.gbytes;
    if (s->json) return print_json(nb, p, s, peak);
    printf("%s, batch %lld, %d thread%s, kernels %s\n\n", s->infer ? "a call of the trained form" : "a training step",
           (long long)s->batch, nb_threads(nb), cli_s(nb_threads(nb)), nb_kernels(nb));
    return print_table(p, peak, (int)s->rows, stdout);
}

static int run(const cli_words *words, void *settings) {
    const profile_settings *s = settings;
    if (!cli_takes_input(&cli_profile_command, words)) return CLI_MEND;
    nb_context *nb = cli_open(s->threads, 0);
    nb_net     *net = nb ? cli_net_open(nb, words->at[0], cli_input(&cli_profile_command, words, s->input)) : NULL;
    int         code = net ? CLI_DONE : CLI_MEND;
    if (net && !profile(nb, net, s)) code = cli_report(nb);
    nb_close(nb);
    return code;
}

const cli_command cli_profile_command = {
    .name = "profile",
    .usage = "profile NET|DIR [options]",
    .about = "show where the time of a step goes, beside what the machine can do",
    .details =
        "Runs a training step (forward, backward, Adam) or, with --infer, the trained form of a net on noise, and lists the "
        "calls\n"
        "of its compiled program: time, share, arithmetic and memory rates, share of what the machine can do, kernel, layers\n"
        "and operators. NABLA_PROFILE=1 makes train and eval print the same on stderr\n"
        "at their end.",
    .examples = "  nabla profile cnn\n"
                "  nabla profile run --infer --batch 1\n"
                "  nabla profile gpt-s --threads 2 --rows 0\n",
    .options = options,
    .least = 1,
    .most = 1,
    .word = "a net",
    .run = run,
    .size = sizeof(profile_settings),
};
