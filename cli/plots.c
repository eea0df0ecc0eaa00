/* plots.c: pictures by graphviz and gnuplot. Only the command starts other programs: by an argument list, never through a shell,
 * with their input and output as files, so that no name from outside is ever read as part of a program. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "train.h"

extern char **environ;

static char *read_all(FILE *in, size_t *size) {
    if (fseek(in, 0, SEEK_END) != 0) return NULL;
    long n = ftell(in);
    rewind(in);
    char *text = n >= 0 ? malloc((size_t)n + 1) : NULL;
    if (!text || fread(text, 1, (size_t)n, in) != (size_t)n) return free(text), NULL;
    text[n] = 0;
    *size = (size_t)n;
    return text;
}

/* Runs it between two open files. 0 when it went well; else an errno, or -1 when the program itself failed. */
static int spawn(const char *const argv[], int in, int out) {
    posix_spawn_file_actions_t actions;
    pid_t                      pid;
    int                        status = 0;
    if (posix_spawn_file_actions_init(&actions) != 0) return ENOMEM;
    int error = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (!error) error = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) return error;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : -1;
}

char *cli_filter(const char *const argv[], const char *input, size_t *size, bool *missing) {
    FILE *in = tmpfile(), *out = tmpfile();
    char *text = NULL;
    int   error = in && out ? 0 : errno;
    *missing = false;
    if (!error && (fputs(input, in) < 0 || fflush(in) != 0)) error = errno;
    if (!error) {
        rewind(in);
        lseek(fileno(in), 0, SEEK_SET);
        error = spawn(argv, fileno(in), fileno(out));
    }
    if (!error && !(text = read_all(out, size))) error = ENOMEM;
    *missing = error == ENOENT;
    if (error && !*missing)
        cli_error("%s did not make the picture: %s", argv[0], error < 0 ? "see its message above" : strerror(error));
    if (in) fclose(in);
    if (out) fclose(out);
    return text;
}

/* FILE.svg -> FILE.dot; to be freed. */
static char *other_ending(const char *path, const char *ending) {
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    size_t      stem = dot && (!slash || dot > slash) ? (size_t)(dot - path) : strlen(path);
    char       *other = malloc(stem + strlen(ending) + 2);
    if (other) sprintf(other, "%.*s.%s", (int)stem, path, ending);
    return other;
}

/* Source through a program into a file; the source itself where the program is missing. */
static bool write_through(nb_context *nb, const char *const argv[], const char *source, const char *path,
                          const char *source_ending, const char *package, bool *drawn) {
    bool   missing, ok;
    size_t size = 0;
    char  *picture = cli_filter(argv, source, &size, &missing);
    *drawn = picture != NULL;
    if (picture) {
        ok = nb_write_file(nb, path, picture, size);
        free(picture);
        return ok;
    }
    char *other = other_ending(path, source_ending);
    ok = other && nb_write_file(nb, other, source, strlen(source));
    if (ok && missing)
        fprintf(stderr, "nabla: %s is not installed, so the source was written as %s instead of %s; 'apt install %s' brings it\n",
                argv[0], other, path, package);
    free(other);
    return ok;
}

bool cli_write_picture(nb_context *nb, const char *path, const char *dot, bool *drawn) {
    const char *ending = strrchr(path, '.');
    char        format[8];
    *drawn = true;
    if (ending && strcmp(ending, ".dot") == 0) return nb_write_file(nb, path, dot, strlen(dot));
    snprintf(format, sizeof format, "-T%s", ending ? ending + 1 : "svg");
    return write_through(nb, (const char *const[]){"dot", format, NULL}, dot, path, "dot", "graphviz", drawn);
}

bool plot_net(nb_context *nb, const run_folder *f, nb_net *net) {
    bool  drawn;
    char *dot = nb_draw_net(net);
    bool  ok = dot && cli_write_picture(nb, f->net, dot, &drawn);
    nb_free(nb, dot);
    return ok;
}

/* ----------------------------------------------------------------------------------------------------------------------- loss */

/* One data block of gnuplot: epoch and value. */
static void block(FILE *out, const char *name, const json_t *history, const char *column) {
    size_t  i;
    json_t *row;
    fprintf(out, "$%s << END\n", name);
    json_array_foreach(history, i, row) {
        fprintf(out, "%lld %.6g\n", (long long)json_integer_value(json_object_get(row, "epoch")),
                json_number_value(json_object_get(row, column)));
    }
    fprintf(out, "END\n");
}

static void curve(FILE *out, const json_t *points, double steps) {
    size_t  i;
    json_t *p;
    fprintf(out, "$curve << END\n");
    json_array_foreach(points, i, p) {
        fprintf(out, "%.6g %.6g\n", json_number_value(json_array_get(p, 0)) / steps, json_number_value(json_array_get(p, 1)));
    }
    fprintf(out, "END\n");
}

static void loss_script(FILE *out, const train_state *s, int64_t steps_an_epoch) {
    fprintf(out, "# loss and accuracy of a training; gnuplot prints the picture: gnuplot loss.gp > loss.svg\n");
    curve(out, s->curve, (double)steps_an_epoch);
    block(out, "validation_loss", s->history, "validation_loss");
    block(out, "train_accuracy", s->history, "train_accuracy");
    block(out, "validation_accuracy", s->history, "validation_accuracy");
    fprintf(out,
            "set terminal svg size 960,400 font 'Helvetica,Arial,sans-serif,13' background rgb 'white'\n"
            "set multiplot layout 1,2\n"
            "set border 3 lc rgb '#888888'\n"
            "set tics nomirror out textcolor rgb '#444444'\n"
            "set grid lc rgb '#e6e6e6' lt 1\n"
            "set xlabel 'epoch' textcolor rgb '#444444'\n"
            "set xrange [0:%lld]\n"
            "set yrange [0:*]\n"
            "set key outside bottom center horizontal samplen 2\n"
            "%s"
            "set title 'loss'\n"
            "plot $curve with lines lw 2 lc rgb '#3b6fb6' title 'training', \\\n"
            "     $validation_loss with linespoints lw 2 pt 7 ps 0.7 lc rgb '#d9822b' title 'validation'\n"
            "set yrange [*:*]\n"
            "set title 'accuracy'\n"
            "plot $train_accuracy with linespoints lw 2 pt 7 ps 0.7 lc rgb '#3b6fb6' title 'training', \\\n"
            "     $validation_accuracy with linespoints lw 2 pt 7 ps 0.7 lc rgb '#d9822b' title 'validation'\n"
            "unset multiplot\n",
            (long long)s->epoch, s->epoch <= 10 ? "set xtics 1\n" : "");
}

bool plot_loss(nb_context *nb, const run_folder *f, const train_state *s, int64_t steps_an_epoch) {
    char  *script = NULL;
    size_t size = 0;
    bool   drawn;
    FILE  *out = open_memstream(&script, &size);
    if (!out) return nb_fail(nb, NB_NO_MEMORY, "%s: no memory to draw it", f->loss), false;
    loss_script(out, s, steps_an_epoch);
    bool ok = fclose(out) == 0;
    if (ok)
        ok = write_through(nb, (const char *const[]){"gnuplot", "-d", "-", NULL}, script, f->loss, "gp", "gnuplot-nox", &drawn);
    free(script);
    return ok;
}
