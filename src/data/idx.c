/* idx.c: data sets in MNIST's format, plain or compressed by gzip.
 *
 * An IDX file is  00 00 type rank,  `rank` sizes as big-endian u32,  then the elements row by row. Nothing in a file is believed:
 * the sizes must agree with the length of the file before any memory is asked for, and no more is inflated than the header
 * promises and one byte, which must not be there. So a damaged or hostile file costs a message, never memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "dataset.h"

enum {
    INPUT_BYTES = 1 << 16,
    MAX_DEFLATE = 1032, /* deflate's best: 258 bytes from 2 bits */
    IDX_U8 = 8,
    IDX_MAX_RANK = 3
};

/* One file that is being read. */
typedef struct idx_file {
    nb_context    *nb;
    const char    *path;
    int            fd;
    int64_t        length; /* of the file */
    bool           is_gzip, has_ended;
    z_stream       z;
    unsigned char *input; /* compressed bytes that z reads from */
    int64_t        sizes[IDX_MAX_RANK];
} idx_file;

static bool damaged(idx_file *f, const char *what) {
    nb_fail(f->nb, NB_IO, "%s: %s; get the file again", f->path, what);
    return false;
}

/* ------------------------------------------------------------------------------------------------------------ bytes of a file */

static void *z_alloc(void *nb, unsigned n, unsigned size) { return nb_alloc(nb, (size_t)n * size); }
static void  z_free(void *nb, void *p) { nb_free(nb, p); }

/* Up to n bytes as they lie in the file; -1 after an error. */
static int64_t read_raw(idx_file *f, void *to, size_t n) {
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(f->fd, (char *)to + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) {
            nb_fail(f->nb, NB_IO, "%s: cannot be read: %s", f->path, strerror(errno));
            return -1;
        }
        if (r == 0) break;
        got += (size_t)r;
    }
    return (int64_t)got;
}

static int64_t compressed_offset(const idx_file *f) { return lseek(f->fd, 0, SEEK_CUR) - (int64_t)f->z.avail_in; }

static bool gzip_damaged(idx_file *f, const char *what) {
    nb_fail(f->nb, NB_IO, "%s: the gzip data are %s at byte %lld of %lld; get the file again", f->path, what,
            (long long)compressed_offset(f), (long long)f->length);
    return false;
}

static int64_t inflate_some(idx_file *f, void *to, size_t n) {
    size_t got = 0;
    while (got < n && !f->has_ended) {
        if (f->z.avail_in == 0) {
            int64_t r = read_raw(f, f->input, INPUT_BYTES);
            if (r < 0) return -1;
            if (r == 0) {
                gzip_damaged(f, "cut off");
                return -1;
            }
            f->z.next_in = f->input;
            f->z.avail_in = (unsigned)r;
        }
        size_t step = n - got < (1u << 30) ? n - got : (1u << 30);
        f->z.next_out = (unsigned char *)to + got;
        f->z.avail_out = (unsigned)step;
        int state = inflate(&f->z, Z_NO_FLUSH);
        got += step - f->z.avail_out;
        if (state == Z_STREAM_END)
            f->has_ended = true;
        else if (state == Z_MEM_ERROR) {
            nb_fail(f->nb, NB_NO_MEMORY, "%s: no memory to inflate it", f->path);
            return -1;
        } else if (state != Z_OK && state != Z_BUF_ERROR) {
            char what[80];
            snprintf(what, sizeof what, "damaged%s%.60s%s", f->z.msg ? " (" : "", f->z.msg ? f->z.msg : "", f->z.msg ? ")" : "");
            gzip_damaged(f, what);
            return -1;
        }
    }
    return (int64_t)got;
}

/* Up to n bytes of the contents; fewer only at their end; -1 after an error. */
static int64_t read_some(idx_file *f, void *to, size_t n) { return f->is_gzip ? inflate_some(f, to, n) : read_raw(f, to, n); }

static bool open_gzip(idx_file *f) {
    unsigned char head[2];
    int64_t       n = read_raw(f, head, sizeof head);
    if (n < 0) return false;
    if (n < 2 || head[0] != 0x1f || head[1] != 0x8b)
        return damaged(f, "byte 0: not gzip data (1f 8b), though the name ends in .gz");
    if (lseek(f->fd, 0, SEEK_SET) != 0) return damaged(f, "cannot be rewound");
    f->input = nb_alloc(f->nb, INPUT_BYTES);
    if (!f->input) return false;
    f->z = (z_stream){.zalloc = z_alloc, .zfree = z_free, .opaque = f->nb};
    if (inflateInit2(&f->z, 16 + MAX_WBITS) != Z_OK) { /* 16: gzip, whose checksum and length are verified */
        nb_fail(f->nb, NB_NO_MEMORY, "%s: no memory to inflate it", f->path);
        return false;
    }
    f->is_gzip = true;
    return true;
}

static void close_file(idx_file *f) {
    if (f->is_gzip) inflateEnd(&f->z);
    nb_free(f->nb, f->input);
    if (f->fd >= 0) close(f->fd);
}

/* ------------------------------------------------------------------------------------------------------------ header and data */

static uint32_t big_endian(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool read_header(idx_file *f, int rank) {
    unsigned char head[4 + 4 * IDX_MAX_RANK];
    char          what[160];
    int64_t       n = read_some(f, head, 4);
    if (n < 0) return false;
    if (n < 4) return damaged(f, n == 0 ? "is empty" : "byte 0: shorter than the header of an IDX file");
    if (head[0] == 0x1f && head[1] == 0x8b) {
        nb_fail(f->nb, NB_IO, "%s: byte 0: this is gzip data; give the file the name %s.gz", f->path, f->path);
        return false;
    }
    if (head[0] != 0 || head[1] != 0) return damaged(f, "byte 0: not an IDX file, which begins with two zero bytes");
    if (head[2] != IDX_U8) {
        snprintf(what, sizeof what, "byte 2: elements of type %02x; images and labels are bytes, type 08", head[2]);
        return damaged(f, what);
    }
    if (head[3] != rank) {
        snprintf(what, sizeof what, "byte 3: rank %d where %s have rank %d%s", head[3], rank == 1 ? "labels" : "images", rank,
                 head[3] == 1 || head[3] == 3 ? " (are the files of images and labels mixed up?)" : "");
        return damaged(f, what);
    }
    n = read_some(f, head, 4 * (size_t)rank);
    if (n < 0) return false;
    if (n < 4 * rank) return damaged(f, "byte 4: the sizes are cut off");
    for (int i = 0; i < rank; i++) {
        f->sizes[i] = big_endian(head + 4 * i);
        if (f->sizes[i] > 0) continue;
        snprintf(what, sizeof what, "byte %d: size %d is 0: the file holds nothing", 4 + 4 * i, i);
        return damaged(f, what);
    }
    return true;
}

/* The bytes that the header promises; false when the file cannot hold them. */
static bool check_length(idx_file *f, int rank, int64_t *bytes) {
    char    what[200];
    int64_t head = 4 + 4 * rank;
    *bytes = 1;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(*bytes, f->sizes[i], bytes)) return damaged(f, "byte 4: the product of the sizes overflows");
    bool fits = f->is_gzip ? *bytes / MAX_DEFLATE <= f->length : *bytes == f->length - head;
    if (fits) return true;
    if (f->is_gzip)
        snprintf(what, sizeof what, "byte 4: the sizes promise %lld bytes, more than a gzip file of %lld bytes can hold",
                 (long long)*bytes, (long long)f->length);
    else
        snprintf(what, sizeof what, "byte 4: the sizes promise %lld bytes of data, the file has %lld", (long long)*bytes,
                 (long long)(f->length - head));
    return damaged(f, what);
}

/* Exactly `bytes` bytes, after which the file ends. */
static bool read_data(idx_file *f, int rank, void *to, int64_t bytes) {
    char          what[200];
    unsigned char more;
    int64_t       n = read_some(f, to, (size_t)bytes);
    if (n < 0) return false;
    if (n < bytes) {
        snprintf(what, sizeof what, "the data end at byte %lld%s, the sizes promise %lld", (long long)n + 4 + 4 * rank,
                 f->is_gzip ? " of the inflated file" : "", (long long)bytes + 4 + 4 * rank);
        return damaged(f, what);
    }
    n = read_some(f, &more, 1);
    if (n < 0) return false;
    if (n > 0) {
        snprintf(what, sizeof what, "more data follow at byte %lld%s, where the sizes promise the end",
                 (long long)bytes + 4 + 4 * rank, f->is_gzip ? " of the inflated file" : "");
        return damaged(f, what);
    }
    if (f->is_gzip && compressed_offset(f) != f->length) return gzip_damaged(f, "followed by something else");
    return true;
}

/* ------------------------------------------------------------------------------------------------------------ a pair of files */

/* Some archives name the files with a dot: train-images.idx3-ubyte. */
static bool has_dotted(const char *folder, const char *name, char *path, size_t path_size) {
    struct stat s;
    snprintf(path, path_size, "%s/%s", folder, name);
    *strstr(path + strlen(folder), "-idx") = '.';
    if (stat(path, &s) == 0) return true;
    strcat(path, ".gz"); /* there is room: open_file needs it too */
    return stat(path, &s) == 0;
}

/* What is missing, and what a data set consists of. */
static void report_missing(nb_context *nb, const char *folder, const char *name, char *path, size_t path_size) {
    static const char four[] = "a data set is train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
                               "t10k-labels-idx1-ubyte";
    struct stat       s;
    if (stat(folder, &s) != 0)
        nb_fail(nb, NB_IO, "%s: there is no such folder (looked for %s, %s.gz)", folder, name, name);
    else if (has_dotted(folder, name, path, path_size))
        nb_fail(nb, NB_IO, "%s: give it a hyphen for the dot (%s), and the other files too: %s", path, name, four);
    else
        nb_fail(nb, NB_IO, "%s: neither %s nor %s.gz is in this folder; %s, each plain or with .gz", folder, name, name, four);
}

/* Opens folder/name or folder/name.gz and reads the header. The path goes to `path`. */
static bool open_file(idx_file *f, nb_context *nb, const char *folder, const char *name, int rank, char *path, size_t path_size) {
    *f = (idx_file){.nb = nb, .path = path, .fd = -1};
    bool gzip = false;
    for (int i = 0; i < 2 && f->fd < 0; i++) {
        gzip = i == 1;
        snprintf(path, path_size, "%s/%s%s", folder, name, gzip ? ".gz" : "");
        do f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait */
        while (f->fd < 0 && errno == EINTR);
        if (f->fd < 0 && errno != ENOENT) {
            nb_fail(nb, NB_IO, "%s: cannot be opened: %s", path, strerror(errno));
            return false;
        }
    }
    if (f->fd < 0) {
        report_missing(nb, folder, name, path, path_size);
        return false;
    }
    struct stat s;
    if (fstat(f->fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        nb_fail(nb, NB_IO, "%s: not a regular file", path);
        return false;
    }
    f->length = s.st_size;
    if (f->length == 0) return damaged(f, "is empty");
    return (!gzip || open_gzip(f)) && read_header(f, rank);
}

static int64_t highest(const unsigned char *v, int64_t n) {
    int top = 0;
    for (int64_t i = 0; i < n; i++) top = v[i] > top ? v[i] : top;
    return top;
}

/* Labels are read as bytes into the start of their array, then widened from the back. */
static void widen(int64_t *labels, int64_t n) {
    const unsigned char *bytes = (const unsigned char *)labels;
    for (int64_t i = n - 1; i >= 0; i--) {
        int64_t label = bytes[i];
        memcpy(labels + i, &label, sizeof label);
    }
}

static nb_dataset *read_pair(idx_file *images, idx_file *labels) {
    nb_context *nb = images->nb;
    int64_t     n = images->sizes[0], image_bytes, label_bytes;
    if (n != labels->sizes[0]) {
        nb_fail(nb, NB_IO, "%s has %lld images, %s has %lld labels: these files do not belong together", images->path,
                (long long)n, labels->path, (long long)labels->sizes[0]);
        return NULL;
    }
    if (!check_length(images, 3, &image_bytes) || !check_length(labels, 1, &label_bytes)) return NULL;
    nb_dataset *d = nb__dataset_new(nb, NB_U8, n, nb_shape(1, images->sizes[1], images->sizes[2]), 0);
    if (!d) return NULL;
    if (!read_data(images, 3, d->items, image_bytes) || !read_data(labels, 1, d->labels, label_bytes)) {
        nb_dataset_free(d);
        return NULL;
    }
    d->classes = highest((const unsigned char *)d->labels, n) + 1;
    widen(d->labels, n);
    return d;
}

nb_dataset *nb_dataset_idx(nb_context *nb, const char *folder, nb_part part) {
    if (nb_error(nb)) return NULL;
    if (!folder) {
        nb_fail(nb, NB_INVALID, "nb_dataset_idx: the folder is NULL");
        return NULL;
    }
    const char *stem = part == NB_TRAIN_PART ? "train" : "t10k";
    char        name[2][40];
    size_t      size = strlen(folder) + sizeof name[0];
    char       *path = nb_alloc(nb, 2 * size);
    if (!path) return NULL;
    snprintf(name[0], sizeof name[0], "%s-images-idx3-ubyte", stem);
    snprintf(name[1], sizeof name[1], "%s-labels-idx1-ubyte", stem);
    idx_file    images, labels = {.nb = nb, .fd = -1};
    nb_dataset *d = NULL;
    if (open_file(&images, nb, folder, name[0], 3, path, size) && open_file(&labels, nb, folder, name[1], 1, path + size, size))
        d = read_pair(&images, &labels);
    close_file(&images);
    close_file(&labels);
    nb_free(nb, path);
    return d;
}
