/* eval.c: `nabla eval`: scores a saved net on the test part of a data set. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct eval_settings {
    const char *data;
    int64_t     threads;
    bool        json;
} eval_settings;

static const cli_option options[] = {
    {0, "data", CLI_TEXT, "DATA", offsetof(eval_settings, data), NULL, 0, 0, NULL, false,
     "fashion-mnist, or a folder with the four files of MNIST\n[what the net was trained on]"},
    {'t', "threads", CLI_WHOLE, "N", offsetof(eval_settings, threads), NULL, 1, 256, NULL, false, "that compute [all cores]"},
    {0, "json", CLI_FLAG, NULL, offsetof(eval_settings, json), NULL, 0, 0, NULL, false, "print the result as one line of JSON"},
    {0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL},
};

/* What the weights file says about the images that the net wants. */
static bool read_needs(nb_context *nb, const char *path, cli_data *d, const char **data) {
    nb_file *file = nb_file_open(nb, path);
    if (!file) return cli_report(nb), false;
    const char *mean = nb_file_pair(file, "mean"), *std = nb_file_pair(file, "std"), *trained_on = nb_file_pair(file, "data");
    bool        ok = mean && std;
    if (ok) {
        d->mean = strtod(mean, NULL);
        d->std = strtod(std, NULL);
        if (!*data && trained_on) *data = trained_on;
        ok = *data ? cli_data_find(d, *data)
                   : (cli_error("--data is missing: add --data fashion-mnist, or a folder with the four files of MNIST"), false);
    } else {
        cli_error("%s does not say how to normalise images; only nets saved by nabla train can be scored", path);
    }
    nb_file_close(file);
    return ok;
}

static void print(const eval_settings *s, const cli_score *score, int64_t images) {
    double rate = score->seconds > 0 ? (double)images / score->seconds : 0;
    if (s->json) {
        json_t *object = json_pack("{sf sf sI sf sf}", "accuracy", score->accuracy, "loss", score->loss, "images",
                                   (json_int_t)images, "seconds", score->seconds, "images_per_second", rate);
        char   *text = json_dumps(object, JSON_REAL_PRECISION(9));
        printf("%s\n", text ? text : "{}");
        free(text);
        json_decref(object);
        return;
    }
    printf("%lld test image%s in %.2f s, %.0f images/s\n", (long long)images, cli_s(images), score->seconds, rate);
    printf("test loss %.4f\n", score->loss);
    printf("test accuracy %.4f\n", score->accuracy);
}

static int score_net(nb_context *nb, const char *path, const eval_settings *s, cli_data *d) {
    const char *data = s->data;
    cli_score   score;
    if (!read_needs(nb, path, d, &data) || !cli_data_read(nb, d, false, 0)) return CLI_MEND;
    nb_net *net = nb_net_load(nb, path);
    if (!net) return cli_report(nb);
    if (!cli_fits(net, d)) return CLI_MEND;
    cli_scorer *scorer = cli_scorer_new(nb, net, d->test, d->mean, d->std);
    bool        ok = scorer && cli_scorer_run(scorer, &score, NULL);
    if (ok) cli_scorer_profile(scorer, "scoring a batch");
    cli_scorer_free(scorer);
    if (!ok) return nb_error_status(nb) == NB_NOT_FINITE ? (cli_report(nb), CLI_NO) : cli_report(nb);
    print(s, &score, nb_dataset_count(d->test));
    return CLI_DONE;
}

static int run(const cli_words *words, void *settings) {
    const eval_settings *s = settings;
    cli_data             d = {0};
    char                *path = cli_model_path(words->at[0]);
    nb_context          *nb = path ? cli_open(s->threads, 0) : NULL;
    int                  code = nb ? score_net(nb, path, s, &d) : CLI_MEND;
    nb_close(nb);
    cli_data_free(&d);
    free(path);
    return code;
}

const cli_command cli_eval_command = {
    .name = "eval",
    .usage = "eval DIR [--data DATA] [options]",
    .about = "score a trained net on test images",
    .details = "Scores the net that nabla train saved in DIR (or in a file DIR/model.safetensors) on the test images of a\n"
               "data set. The last line is the test accuracy.",
    .examples = "  nabla eval run\n"
                "  nabla eval run --data fashion-mnist --json\n",
    .options = options,
    .least = 1,
    .most = 1,
    .word = "the folder of a trained net",
    .run = run,
    .size = sizeof(eval_settings),
};
