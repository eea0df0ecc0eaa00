/* file.c: whole files in and out. Writing is atomic and durable: a reader sees the old file or the new one, never a mixture, and
 * what was reported as written survives a crash. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

static int open_again(const char *path, int flags, mode_t mode) {
    int fd;
    do fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* -------------------------------------------------------------------------------------------------------------------- writing */

static bool write_all(int fd, const void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static bool sync_all(int fd) {
    int r;
    do r = fsync(fd);
    while (r != 0 && errno == EINTR);
    return r == 0;
}

/* A new file beside `path`, so that rename stays within one file system. O_EXCL: nobody else's file, no link set as a trap. */
static int open_beside(const char *path, char *temporary, size_t size) {
    int fd = -1;
    for (int i = 0; i < 1000; i++) {
        snprintf(temporary, size, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        fd = open_again(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666); /* the umask says who may read it */
        if (fd >= 0 || errno != EEXIST) break;
    }
    return fd;
}

/* Makes a rename durable. File systems that cannot sync a folder say EINVAL. */
static bool sync_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    int fd = open_again(slash ? path : ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return false;
    bool ok = sync_all(fd) || errno == EINVAL;
    int  reason = errno;
    close(fd);
    errno = reason;
    return ok;
}

static bool write_failed(nb_context *nb, const char *path, const char *doing) {
    const char *hint = "";
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        hint = ": make room or choose another folder; the old file is untouched";
    if (errno == EACCES || errno == EROFS || errno == EPERM) hint = ": choose a folder where you may write";
    if (errno == ENOENT) hint = ": make the folder first";
    nb_fail(nb, NB_IO, "%s: %s: %s%s", path, doing, strerror(errno), hint);
    return false;
}

/* Writes and syncs the temporary file, then gives it its name. On failure it is removed again. */
static bool write_and_rename(nb_context *nb, const char *path, char *temporary, size_t size, mode_t old_mode, int n,
                             const nb__piece *pieces) {
    int fd = open_beside(path, temporary, size);
    if (fd < 0) return write_failed(nb, path, "cannot be written");
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = write_all(fd, pieces[i].data, pieces[i].bytes);
    if (ok && old_mode) ok = fchmod(fd, old_mode) == 0 || errno == EPERM;
    ok = ok && sync_all(fd);
    int reason = errno;
    if (close(fd) != 0 && ok && errno != EINTR) ok = false, reason = errno;
    if (ok && rename(temporary, path) != 0) ok = false, reason = errno;
    if (ok) return true;
    unlink(temporary);
    errno = reason;
    return write_failed(nb, path, "cannot be written");
}

bool nb__write_pieces(nb_context *nb, const char *path, int n, const nb__piece *pieces) {
    if (nb_error(nb)) return false;
    char        target[PATH_MAX]; /* a link stays a link: the file it points at is replaced */
    const char *name = realpath(path, target) ? target : path;
    struct stat s;
    mode_t      old_mode = 0;
    if (stat(name, &s) == 0) {
        if (S_ISDIR(s.st_mode)) {
            nb_fail(nb, NB_IO, "%s: is a folder; give the name of a file", path);
            return false;
        }
        if (!S_ISREG(s.st_mode)) {
            nb_fail(nb, NB_IO, "%s: is not a regular file, so it cannot be replaced; give another name", path);
            return false;
        }
        old_mode = s.st_mode & 0777;
    }
    size_t size = strlen(name) + 48;
    char  *temporary = nb_alloc(nb, size);
    if (!temporary) return false;
    bool ok = write_and_rename(nb, name, temporary, size, old_mode, n, pieces);
    if (ok && !sync_folder(strcpy(temporary, name)))
        ok = write_failed(nb, path, "was written, but the folder cannot be synced, so a crash of the machine may lose it");
    nb_free(nb, temporary);
    return ok;
}

bool nb_write_file(nb_context *nb, const char *path, const void *data, size_t bytes) {
    nb__piece piece = {data, bytes};
    return nb__write_pieces(nb, path, 1, &piece);
}

/* -------------------------------------------------------------------------------------------------------------------- reading */

/* Reads until `size` bytes or the end; -1 after an error. */
static ssize_t read_all(int fd, char *to, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, to + got, size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static char *read_open(nb_context *nb, const char *path, int fd, size_t limit, size_t *bytes) {
    struct stat s;
    if (fstat(fd, &s) != 0) {
        nb_fail(nb, NB_IO, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    if (S_ISDIR(s.st_mode)) {
        nb_fail(nb, NB_IO, "%s: is a folder; give the name of a file", path);
        return NULL;
    }
    if (!S_ISREG(s.st_mode)) {
        nb_fail(nb, NB_IO, "%s: is not a regular file", path);
        return NULL;
    }
    if ((uintmax_t)s.st_size > limit) {
        nb_fail(nb, NB_IO, "%s: has %lld bytes, %zu are the most that is read here", path, (long long)s.st_size, limit);
        return NULL;
    }
    size_t size = (size_t)s.st_size;
    char  *text = nb_alloc(nb, size + 1);
    if (!text) return NULL;
    ssize_t got = read_all(fd, text, size + 1); /* one byte more than there should be */
    if (got < 0)
        nb_fail(nb, NB_IO, "%s: cannot be read: %s", path, strerror(errno));
    else if ((size_t)got != size)
        nb_fail(nb, NB_IO, "%s: changed its size while it was read; try again", path);
    else
        return *bytes = size, text;
    nb_free(nb, text);
    return NULL;
}

char *nb_read_file(nb_context *nb, const char *path, size_t limit, size_t *bytes) {
    if (nb_error(nb)) return NULL;
    int fd = open_again(path, O_RDONLY | O_NONBLOCK, 0); /* a pipe must not make us wait */
    if (fd < 0) {
        nb_fail(nb, NB_IO, "%s: cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    size_t ignored;
    char  *text = read_open(nb, path, fd, limit, bytes ? bytes : &ignored);
    close(fd);
    return text;
}
