/* run_folder.c: the folder of a run: its files, its lock, and what may not be overwritten. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train.h"

bool cli_is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool cli_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

char *cli_join(const char *folder, const char *name) {
    size_t n = strlen(folder), size = n + strlen(name) + 2;
    char  *path = malloc(size);
    if (path) snprintf(path, size, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
    return path;
}

static bool names(run_folder *f, const char *path) {
    f->path = strdup(path);
    f->model = cli_join(path, "model.safetensors");
    f->checkpoint = cli_join(path, "checkpoint");
    f->settings = cli_join(path, "settings.json");
    f->history = cli_join(path, "history.csv");
    f->loss = cli_join(path, "loss.svg");
    f->net = cli_join(path, "net.svg");
    if (f->path && f->model && f->checkpoint && f->settings && f->history && f->loss && f->net) return true;
    return cli_error("no memory for the names of files"), false;
}

void run_folder_close(run_folder *f) {
    if (f->lock >= 0) close(f->lock);
    char *all[] = {f->path, f->model, f->checkpoint, f->settings, f->history, f->loss, f->net};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *f = (run_folder){.lock = -1};
}

static bool holds_run(const char *folder) {
    static const char *const files[] = {"settings.json", "checkpoint", "model.safetensors"};
    bool                     found = false;
    for (size_t i = 0; i < sizeof files / sizeof *files && !found; i++) {
        char *path = cli_join(folder, files[i]);
        found = path && cli_exists(path);
        free(path);
    }
    return found;
}

static bool refuse_run(const char *path) {
    cli_error("the folder %s holds a run already. Go on with it: %s train --resume %s; or keep it and choose another folder "
              "with -o; or replace it with --force",
              path, cli_program().text, cli_shell(path).text);
    return false;
}

/* The nearest folder above a path that exists: "." for a plain name. */
static char *existing_parent(const char *path) {
    char *parent = strdup(path);
    while (parent && !cli_exists(parent)) {
        char *slash = strrchr(parent, '/');
        if (!slash) {
            strcpy(parent, *path == '/' ? "/" : ".");
            break;
        }
        if (slash == parent) slash++;
        *slash = 0;
    }
    return parent;
}

bool run_folder_usable(const char *path, bool force) {
    bool exists = cli_exists(path);
    if (exists && !cli_is_folder(path)) return cli_error("%s is a file; choose a folder to write to with -o", path), false;
    if (exists && !force && holds_run(path)) return refuse_run(path);
    char *parent = existing_parent(path);
    bool  ok = parent && cli_is_folder(parent) && access(parent, W_OK | X_OK) == 0;
    if (!ok && parent && !cli_is_folder(parent))
        cli_error("cannot make the folder %s: %s is a file; choose another folder with -o", path, parent);
    else if (!ok)
        cli_error("cannot write to the folder %s: %s; choose another with -o", path, strerror(errno));
    free(parent);
    return ok;
}

/* The folder and those above it. */
static bool make_folders(const char *path) {
    char *copy = strdup(path);
    bool  ok = copy != NULL;
    for (char *p = copy; ok && *p; p++) {
        if (*p != '/' || p == copy) continue;
        *p = 0;
        ok = mkdir(copy, 0777) == 0 || errno == EEXIST;
        *p = '/';
    }
    ok = ok && (mkdir(path, 0777) == 0 || errno == EEXIST);
    if (!ok) cli_error("cannot make the folder %s: %s; choose another with -o", path, strerror(errno));
    free(copy);
    return ok;
}

/* A lock on the folder itself: it needs no file, and ends with the process, however that ends. */
static bool lock(run_folder *f) {
    f->lock = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock < 0) return cli_error("cannot open the folder %s: %s", f->path, strerror(errno)), false;
    if (flock(f->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return true; /* some file systems have no locks */
    return cli_error("another nabla is training in %s; wait for its end, or choose another folder with -o", f->path), false;
}

/* "checkpoint.4711-0.tmp": what a trainer leaves when it is killed while it writes. */
static bool is_leftover(const char *name) {
    static const char *const files[] = {"model.safetensors", "checkpoint", "settings.json", "history.csv", "loss.svg", "net.svg"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n = strlen(files[i]);
        if (strncmp(name, files[i], n) == 0 && name[n] == '.' && strcmp(name + n + strspn(name + n, ".-0123456789"), "tmp") == 0)
            return true;
    }
    return false;
}

/* The folder is locked: nobody is writing these. */
static void sweep(const run_folder *f) {
    DIR *folder = opendir(f->path);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        if (!is_leftover(e->d_name)) continue;
        char *path = cli_join(f->path, e->d_name);
        if (path) unlink(path);
        free(path);
    }
    if (folder) closedir(folder);
}

/* The checkpoint goes first: without it, what is left cannot be taken for a run to go on with. */
static bool clear(const run_folder *f) {
    const char *files[] = {f->checkpoint, f->model, f->settings, f->history, f->loss, f->net};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (unlink(files[i]) != 0 && errno != ENOENT) return cli_error("cannot remove %s: %s", files[i], strerror(errno)), false;
    return true;
}

void run_folder_give_up(const run_folder *f) {
    if (f->is_new) rmdir(f->path);
}

bool run_folder_open(run_folder *f, const char *path, bool resume, bool force) {
    if (!names(f, path)) return false;
    if (resume && !cli_exists(path))
        return cli_error("there is no folder %s to go on with; start a run with -o %s", path, cli_shell(path).text), false;
    if (resume && !cli_is_folder(path)) return cli_error("%s is a file; --resume takes the folder of a run", path), false;
    f->is_new = !resume && !cli_exists(path);
    if (!resume && !make_folders(path)) return false;
    if (!lock(f)) return false;
    sweep(f);
    if (resume) return true;
    if (force) return clear(f);
    return !holds_run(path) || refuse_run(path); /* it may have come since run_folder_usable looked */
}
