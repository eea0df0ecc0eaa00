/* nabla/data.h: data sets, weights and checkpoints in files. Included by nabla.h.
 *
 * In a context that has failed nothing is read and nothing is written: these functions return false or NULL. */
#ifndef NABLA_DATA_H
#define NABLA_DATA_H
#ifdef __cplusplus
extern "C" {
#endif

/* --------------------------------------------------------------------------------------------------------------- data sets -- */

/* Labelled items in memory: items of one shape, one class number each. Belongs to the context, until nb_dataset_free. */
typedef struct nb_dataset nb_dataset;
typedef enum nb_part { NB_TRAIN_PART, NB_TEST_PART } nb_part;

/* The training or the test part of a folder in MNIST's format: {train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte, plain or
 * with .gz (LeCun & Cortes, 1998). Items are [1, rows, columns] of u8; there are as many classes as the highest label says, and
 * one. NULL on an error: missing, damaged, contradictory files. */
NB_API nb_dataset *nb_dataset_idx(nb_context *nb, const char *folder, nb_part part);
/* From memory, copied: items u8 or f32 [count, item...], labels below classes. */
NB_API nb_dataset *nb_dataset_from(nb_context *nb, nb_dtype dtype, int64_t count, nb_dims item, const void *items,
                                   const int64_t *labels, int64_t classes);
/* Takes `count` random items out of a set into a new one (validation). Which ones depends on seed and sizes only; both keep their
 * order. */
NB_API nb_dataset *nb_dataset_split(nb_dataset *d, int64_t count, uint64_t seed);
NB_API void        nb_dataset_free(nb_dataset *d);
NB_API int64_t     nb_dataset_count(const nb_dataset *d);
NB_API int64_t     nb_dataset_classes(const nb_dataset *d);
NB_API nb_dims     nb_dataset_item(const nb_dataset *d);
/* Mean and standard deviation of all values, u8 counted as 0..1: what to normalise with. */
NB_API void        nb_dataset_statistics(const nb_dataset *d, double *mean, double *std);
NB_API int64_t     nb_dataset_label(const nb_dataset *d, int64_t i);
NB_API const void *nb_dataset_values(const nb_dataset *d, int64_t i); /* of item i, in the set's type; borrowed */
NB_API nb_dtype    nb_dataset_dtype(const nb_dataset *d);

typedef struct nb_loader_options {
    int64_t  batch;     /* 64 */
    bool     shuffle;   /* a new order each epoch, a function of seed and epoch only */
    uint64_t seed;
    bool     keep_last; /* deliver a last, smaller batch filled up with zeros and labels -1; else it is dropped */
    double   mean, std; /* x = (value - mean) / std, u8 values as 0..1; std 0 means 1 */
    bool     no_thread; /* prepare batches in nb_loader_next itself */
} nb_loader_options;

/* Batches for a program's inputs, prepared ahead by a thread. The data set must outlive it. */
typedef struct nb_loader nb_loader;
NB_API nb_loader *nb_loader_new(nb_dataset *d, const nb_loader_options *options);
NB_API void       nb_loader_free(nb_loader *l);
NB_API int64_t    nb_loader_steps(const nb_loader *l); /* batches an epoch */
/* Starts an epoch at a batch (0: its beginning); for resuming too. */
NB_API bool       nb_loader_start(nb_loader *l, int64_t epoch, int64_t batch);
/* Fills x (f32 [batch, item...], or another shape of as many elements that begins with batch) and y (i64 [batch]) with the next
 * batch; false at the end of the epoch. */
NB_API bool       nb_loader_next(nb_loader *l, nb_tensor *x, nb_tensor *y);

/* ---------------------------------------------------------------------------------------------------------- weights, files -- */

/* One key and value of a file's metadata. */
typedef struct nb_pair {
    const char *key, *value;
} nb_pair;

/* Writes named tensors and metadata in the safetensors format, with a SHA-256 of the whole in the metadata. Atomic and durable: a
 * temporary file in the same folder, fsync, rename, fsync of the folder; after a failure the old file stands. */
NB_API bool nb_save(nb_context *nb, const char *path, nb_list tensors, int n_pairs, const nb_pair *pairs);

/* A safetensors file, read whole and checked against all rules of the format; with a checksum of ours, against that. NULL on an
 * error. */
typedef struct nb_file nb_file;
NB_API nb_file    *nb_file_open(nb_context *nb, const char *path);
NB_API void        nb_file_close(nb_file *f);
NB_API int         nb_file_count(const nb_file *f);
NB_API const char *nb_file_name(const nb_file *f, int i);
NB_API nb_dtype    nb_file_dtype(const nb_file *f, int i);
NB_API nb_dims     nb_file_shape(const nb_file *f, int i);
NB_API const void *nb_file_values(const nb_file *f, int i);             /* borrowed until nb_file_close */
NB_API const char *nb_file_pair(const nb_file *f, const char *key);     /* metadata, or NULL */
/* Fills kept tensors from the file by their names; each must be there, with its type and shape. All or none. */
NB_API bool        nb_file_load(nb_file *f, nb_list kept);

/* A net with its text and input shape, and more metadata if wanted (what prediction needs: normalisation, class names). */
NB_API bool    nb_net_save(nb_net *net, const char *path, int n_pairs, const nb_pair *pairs);
NB_API nb_net *nb_net_load(nb_context *nb, const char *path);

/* Writes bytes as nb_save does: all or nothing. */
NB_API bool nb_write_file(nb_context *nb, const char *path, const void *data, size_t bytes);
/* The whole of a file, ended by a zero byte (nb_free it); at most `limit` bytes. */
NB_API char *nb_read_file(nb_context *nb, const char *path, size_t limit, size_t *bytes);

/* SHA-256 (FIPS 180-4) of name, dtype, shape and bytes of each tensor, in order, as 64 hexadecimal digits and a zero byte. */
NB_API bool nb_digest(nb_list tensors, char text[65]);

#ifdef __cplusplus
}
#endif
#endif
