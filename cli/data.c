/* data.c: finds and reads the data of a command, makes its context, and turns words into nets. */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define NET_LIMIT (1 << 20) /* bytes of a file with a net */

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int cli_report(nb_context *nb) { return cli_error("%s", nb_error(nb) ? nb_error(nb) : "no memory"); }

int cli_cores(void) {
    cpu_set_t set;
    int       n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 256 ? 256 : n;
}

bool cli_prepares_ahead(nb_context *nb) { return nb_threads(nb) > 1 && nb_threads(nb) < cli_cores(); }

nb_context *cli_open(int64_t threads, uint64_t seed) {
    nb_context *nb = nb_open(&(nb_options){.threads = threads ? (int)threads : cli_cores(), .seed = seed});
    if (!nb) cli_error("no memory for a context");
    if (!nb || !nb_error(nb)) return nb;
    cli_report(nb);
    nb_close(nb);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------------------- data */

#define FASHION_FOLDER "/usr/share/datasets/fashion-mnist"

/* Xiao, Rasul & Vollgraf, Fashion-MNIST, 2017. */
static const char *const fashion_names[] = {"t-shirt", "trouser", "pullover", "dress", "coat",
                                            "sandal",  "shirt",   "sneaker",  "bag",   "boot"};

/* The folder of the package, by whatever path. */
static bool is_package(const char *path) {
    char package[PATH_MAX];
    return realpath(FASHION_FOLDER, package) && strcmp(path, package) == 0;
}

bool cli_data_find(cli_data *d, const char *typed) {
    char path[PATH_MAX];
    bool is_fashion = strcmp(typed, "fashion-mnist") == 0;
    if (is_fashion && !cli_is_folder(FASHION_FOLDER))
        return cli_error("the data set fashion-mnist is not installed: there is no folder " FASHION_FOLDER
                         "; install it with 'apt install dataset-fashion-mnist'"),
               false;
    if (!is_fashion && !cli_is_folder(typed)) {
        const char *near = cli_nearest(typed, (const char *const[]){"fashion-mnist", NULL});
        if (cli_exists(typed))
            cli_error("--data %s is a file; give the folder that holds the four files of MNIST", typed);
        else if (near)
            cli_error("--data %s: there is no such folder; did you mean %s?", typed, near);
        else
            cli_error("--data %s: there is no such folder; give one with the four files of MNIST, or fashion-mnist", typed);
        return false;
    }
    if (!realpath(is_fashion ? FASHION_FOLDER : typed, path)) return cli_error("--data %s: %s", typed, strerror(errno)), false;
    d->folder = strdup(path);
    d->is_fashion = is_package(path);
    d->name = d->is_fashion ? "fashion-mnist" : d->folder;
    return d->folder != NULL || (cli_error("no memory for the name of a folder"), false);
}

static bool same_shape(nb_dims a, nb_dims b) {
    return a.rank == b.rank && memcmp(a.size, b.size, (size_t)a.rank * sizeof *a.size) == 0;
}

/* One validation image in 12: of the 60,000 of Fashion-MNIST 5,000. */
static bool split(nb_context *nb, cli_data *d, uint64_t seed) {
    int64_t n = nb_dataset_count(d->train), held = n / 12 ? n / 12 : 1;
    if (n < 2) return cli_error("%s: there is only 1 training image; at least 2 are needed", d->name), false;
    d->validation = nb_dataset_split(d->train, held, seed);
    if (!d->validation) return cli_report(nb), false;
    nb_dataset_statistics(d->train, &d->mean, &d->std);
    return true;
}

static void name_classes(cli_data *d) {
    int64_t n = nb_dataset_classes(d->train ? d->train : d->test);
    bool    is_fashion = d->is_fashion && n == 10;
    char    number[24];
    d->class_names = json_array();
    for (int64_t i = 0; i < n; i++) {
        snprintf(number, sizeof number, "%lld", (long long)i);
        json_array_append_new(d->class_names, json_string(is_fashion ? fashion_names[i] : number));
    }
}

static int64_t first_with(nb_dataset *d, int64_t label) {
    int64_t i = 0;
    while (i < nb_dataset_count(d) && nb_dataset_label(d, i) != label) i++;
    return i;
}

/* Labels of which some do not occur: a damaged byte perhaps, or classes that are numbered with gaps. Both give more classes than
 * are meant, so a net that does not fit must not be told to grow. */
static void doubt_labels(cli_data *d, nb_dataset *set, const char *part) {
    bool      seen[256] = {false};
    long long top = (long long)nb_dataset_classes(set) - 1, missing = 0, below = top - 1;
    if (top < 1 || top > 255) return;
    for (int64_t i = 0; i < nb_dataset_count(set); i++) seen[nb_dataset_label(set, i)] = true;
    while (seen[missing]) missing++;
    while (below >= 0 && !seen[below]) below--;
    if (missing > top) return;
    long long at = (long long)first_with(set, top);
    if (below >= 0 && below < missing)
        snprintf(d->doubt, sizeof d->doubt,
                 "%s label %lld at item %lld, but only the labels 0 to %lld occur otherwise; get the file again, or number the "
                 "classes without gaps",
                 part, top, at, below);
    else
        snprintf(d->doubt, sizeof d->doubt,
                 "%s labels go up to %lld (first at item %lld), but no item has label %lld; get the file again, number the "
                 "classes from 0 without gaps, or end the net with 'linear %lld'",
                 part, top, at, missing, top + 1);
}

static bool check_training_labels(cli_data *d) {
    int64_t known = nb_dataset_classes(d->train), top = nb_dataset_classes(d->test) - 1;
    if (known < 2) return cli_error("%s: all training labels are 0; at least two classes are needed", d->name), false;
    if (top >= known)
        return cli_error("%s: test label %lld at item %lld, but the training labels are only 0 to %lld; get the file again",
                         d->name, (long long)top, (long long)first_with(d->test, top), (long long)known - 1),
               false;
    doubt_labels(d, d->train, "training");
    return true;
}

bool cli_data_read(nb_context *nb, cli_data *d, bool train, uint64_t seed) {
    d->test = nb_dataset_idx(nb, d->folder, NB_TEST_PART);
    if (!d->test) return cli_report(nb), false;
    if (nb_dataset_count(d->test) < 1) return cli_error("%s: the test part is empty", d->name), false;
    if (train) {
        d->train = nb_dataset_idx(nb, d->folder, NB_TRAIN_PART);
        if (!d->train) return cli_report(nb), false;
        nb_dims a = nb_dataset_item(d->train), b = nb_dataset_item(d->test);
        if (!same_shape(a, b))
            return cli_error("%s: the training images are %lldx%lld, but the test images are %lldx%lld; they must be of one size",
                             d->name, (long long)a.size[1], (long long)a.size[2], (long long)b.size[1], (long long)b.size[2]),
                   false;
        if (!check_training_labels(d) || !split(nb, d, seed)) return false;
    }
    name_classes(d);
    return true;
}

void cli_data_free(cli_data *d) {
    json_decref(d->class_names);
    free(d->folder);
    *d = (cli_data){0};
}

/* FNV-1a with 64 bits (Fowler, Noll & Vo, 1991): it notices changes; it is no defence against forgery. */
static uint64_t mix_in(uint64_t hash, const unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void cli_data_checksum(const cli_data *d, char text[17]) {
    const nb_dataset *parts[] = {d->train, d->validation, d->test};
    uint64_t          hash = UINT64_C(0xcbf29ce484222325);
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        nb_dims item = nb_dataset_item(parts[p]);
        size_t  bytes = nb_dtype_size(nb_dataset_dtype(parts[p]));
        for (int i = 0; i < item.rank; i++) bytes *= (size_t)item.size[i];
        for (int64_t i = 0; i < nb_dataset_count(parts[p]); i++) {
            unsigned char label = (unsigned char)nb_dataset_label(parts[p], i);
            hash = mix_in(mix_in(hash, nb_dataset_values(parts[p], i), bytes), &label, 1);
        }
    }
    snprintf(text, 17, "%016llx", (unsigned long long)hash);
}

static void shape_text(nb_dims d, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < d.rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "x" : "", (long long)d.size[i]);
}

bool cli_fits(nb_net *net, const cli_data *d) {
    nb_dataset *set = d->train ? d->train : d->test;
    nb_dims     in = nb_net_input(net), out = nb_net_output(net), item = nb_dataset_item(set);
    long long   classes = (long long)nb_dataset_classes(set);
    char        a[128], b[128];
    shape_text(in, a, sizeof a);
    shape_text(item, b, sizeof b);
    if (nb_net_input_dtype(net) == NB_I64)
        return cli_error("the net takes whole numbers (its first layer is embedding), but %s has images", d->name), false;
    if (!same_shape(in, item)) return cli_error("the net takes images of %s, but those of %s are %s", a, d->name, b), false;
    shape_text(out, a, sizeof a);
    if (out.rank == 1 && (out.size[0] == classes || (!d->train && out.size[0] > classes))) return true;
    if (out.rank == 1 && !d->train)
        cli_error("%s: test label %lld at item %lld, but the net knows %s class%s; get the file again, or give the data that the "
                  "net was trained on",
                  d->name, classes - 1, (long long)first_with(d->test, classes - 1), a, out.size[0] == 1 ? "" : "es");
    else if (*d->doubt)
        cli_error("%s: %s", d->name, d->doubt);
    else if (out.rank == 1)
        cli_error("the net ends with %s number%s for each image, but %s has %lld classes (labels up to %lld): end it with "
                  "'linear %lld'",
                  a, cli_s(out.size[0]), d->name, classes, classes - 1, classes);
    else
        cli_error("the net ends with %s numbers for each image, but one for each of the %lld classes of %s is needed: end it "
                  "with 'flatten, linear %lld'",
                  a, classes, d->name, classes);
    return false;
}

/* ----------------------------------------------------------------------------------------------------------------------- nets */

static char *read_text(const char *path) {
    FILE  *in = fopen(path, "rb");
    char  *text = in ? malloc(NET_LIMIT + 1) : NULL;
    size_t n = text ? fread(text, 1, NET_LIMIT + 1, in) : 0;
    bool   ok = text && !ferror(in) && n <= NET_LIMIT && !memchr(text, 0, n);
    if (in) fclose(in);
    if (ok) {
        text[n] = 0;
        return text;
    }
    cli_error("cannot read the net in %s: %s (see '%s help net')", path, !in ? strerror(errno) : "it is no text of a net",
              cli_program().text);
    free(text);
    return NULL;
}

char *cli_net_text(const char *typed) {
    static const char *const presets[] = {"cnn", "mlp", "lenet", "lstm", "gpt-s", "gpt-m", NULL};
    const char              *preset = nb_net_preset(typed);
    if (preset) return strdup(preset);
    if (cli_exists(typed) && !cli_is_folder(typed)) return read_text(typed);
    bool is_word = !strpbrk(typed, " ,=0123456789");
    if (strchr(typed, '/') || typed[0] == '.' || (is_word && strchr(typed, '.')))
        return cli_error("there is no file %s with a net", typed), NULL;
    const char *near = is_word ? cli_nearest(typed, presets) : NULL;
    if (near && !nb_op_find(typed)) /* "elu" is a layer */
        return cli_error("there is no net '%s': did you mean %s? A net is cnn, mlp, lenet, lstm, gpt-s, gpt-m, a text, or a file "
                         "('%s help net')",
                         typed, near, cli_program().text),
               NULL;
    return strdup(typed);
}

bool cli_is_saved_net(const char *typed) {
    size_t n = strlen(typed);
    return cli_is_folder(typed) || (n > 12 && strcmp(typed + n - 12, ".safetensors") == 0);
}

bool cli_takes_input(const cli_command *command, const cli_words *words) {
    if (!cli_was_given(command, words, "input") || !cli_is_saved_net(words->at[0])) return true;
    return cli_error("--input is for a net from a text; the saved net %s has its own: leave --input out", words->at[0]), false;
}

nb_dims cli_input(const cli_command *command, const cli_words *words, nb_dims input) {
    nb_dims own = nb_net_preset_input(words->at[0]);
    return own.rank < 0 || cli_was_given(command, words, "input") ? input : own;
}

/* Why a net that should be saved is not there. */
static void explain_missing(const char *typed, const char *path) {
    char *history = cli_join(typed, "history.csv");
    if (!cli_is_folder(typed))
        cli_error("there is no saved net %s; give the folder of a run of nabla train", path);
    else if (history && cli_exists(history)) /* written at the end of each epoch, after the net */
        cli_error("there is no saved net %s: it was written, but it is gone; put it back, or train anew with --force", path);
    else
        cli_error("there is no saved net %s; nabla train writes it at the end of the first epoch", path);
    free(history);
}

char *cli_model_path(const char *typed) {
    char *path = cli_is_folder(typed) ? cli_join(typed, "model.safetensors") : strdup(typed);
    if (!path) return cli_error("no memory for the name of a file"), NULL;
    if (cli_exists(path)) return path;
    explain_missing(typed, path);
    free(path);
    return NULL;
}

nb_net *cli_net_open(nb_context *nb, const char *typed, nb_dims input) {
    bool    is_saved = cli_is_saved_net(typed);
    char   *text = is_saved ? cli_model_path(typed) : cli_net_text(typed); /* or a path */
    nb_net *net = !text ? NULL : is_saved ? nb_net_load(nb, text) : nb_net_parse(nb, text, input);
    if (text && !net) cli_report(nb);
    free(text);
    return net;
}
