/* net.c: a net in one file: its weights, and in the metadata its text and the shape of its input. */
#include <stdlib.h>
#include <string.h>

#include "io.h"

#define TEXT_KEY "nabla.net"
#define INPUT_KEY "nabla.input"

bool nb_net_save(nb_net *net, const char *path, int n_pairs, const nb_pair *pairs) {
    nb_context *nb = nb_net_context(net);
    if (!nb || nb_error(nb)) return false;
    if (!nb_net_text(net)[0]) {
        nb_fail(nb, NB_INVALID,
                "nb_net_save: %s: this net was not made from text, from which loading would make it again; "
                "save its state by nb_save and load it by nb_file_load",
                path);
        return false;
    }
    size_t   n = n_pairs > 0 ? (size_t)n_pairs : 0;
    nb_pair *all = nb_alloc(nb, (n + 2) * sizeof *all);
    if (!all) return false;
    char input[200];
    nb__dims_print(nb_net_input(net), input, sizeof input);
    all[0] = (nb_pair){TEXT_KEY, nb_net_text(net)};
    all[1] = (nb_pair){INPUT_KEY, input};
    if (n > 0) memcpy(all + 2, pairs, n * sizeof *all);
    bool ok = nb_save(nb, path, nb_net_state(net), (int)n + 2, all);
    nb_free(nb, all);
    return ok;
}

/* "1,28,28": sizes above 0, at most one less than a tensor may have, for the batch comes before them. */
static bool read_shape(const char *text, nb_dims *d) {
    *d = (nb_dims){.rank = 0};
    while (*text) {
        char *end;
        if (d->rank == NB_MAX_RANK - 1 || *text < '1' || *text > '9') return false;
        long long size = strtoll(text, &end, 10);
        if (size >= INT64_C(1) << 46 || (*end && (*end != ',' || !end[1]))) return false;
        d->size[d->rank++] = size;
        text = *end ? end + 1 : end;
    }
    return true;
}

static nb_net *make_net(nb_context *nb, nb_file *f, const char *path) {
    const char *text = nb_file_pair(f, TEXT_KEY), *input = nb_file_pair(f, INPUT_KEY);
    nb_dims     shape;
    if (!text || !input) {
        nb_fail(nb, NB_IO, "%s: holds tensors, but no net (metadata " TEXT_KEY " and " INPUT_KEY ")", path);
        return NULL;
    }
    if (!read_shape(input, &shape)) {
        nb_fail(nb, NB_IO, "%s: metadata " INPUT_KEY " is '%.60s', which is not the shape of an input, like '1,28,28'", path,
                input);
        return NULL;
    }
    nb_net *net = nb_net_parse(nb, text, shape);
    if (net && !nb_error(nb) && nb_file_load(f, nb_net_state(net))) return net;
    nb_net_free(net);
    return NULL;
}

nb_net *nb_net_load(nb_context *nb, const char *path) {
    nb_file *f = nb_file_open(nb, path);
    nb_net  *net = f ? make_net(nb, f, path) : NULL;
    nb_file_close(f);
    return net;
}
