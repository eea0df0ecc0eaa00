/* Data sets in files and in memory, and the loader. */
#include <pthread.h>
#include <zlib.h>

#include "files.h"
#include "context.h"

/* ---------------------------------------------------------------------------------------------------------- the real data set */

static void fashion_mnist_is_read(void **state) {
    (void)state;
    const char *path = "/usr/share/datasets/fashion-mnist";
    if (access(path, R_OK) != 0) skip();
    static const int first[2][10] = {{9, 0, 0, 3, 0, 2, 7, 2, 5, 5}, {9, 2, 1, 1, 6, 1, 4, 6, 5, 7}};
    for (int part = 0; part < 2; part++) {
        nb_dataset *d = nb_dataset_idx(nb, path, part == 0 ? NB_TRAIN_PART : NB_TEST_PART);
        expect_good(nb);
        assert_int_equal(nb_dataset_count(d), part == 0 ? 60000 : 10000);
        assert_int_equal(nb_dataset_classes(d), 10);
        assert_int_equal(nb_dataset_dtype(d), NB_U8);
        nb_dims item = nb_dataset_item(d);
        assert_true(item.rank == 3 && item.size[0] == 1 && item.size[1] == 28 && item.size[2] == 28);
        int64_t of_class[10] = {0};
        for (int64_t i = 0; i < nb_dataset_count(d); i++) of_class[nb_dataset_label(d, i)]++;
        for (int i = 0; i < 10; i++) {
            assert_int_equal(of_class[i], nb_dataset_count(d) / 10);
            assert_int_equal(nb_dataset_label(d, i), first[part][i]);
        }
        double mean, std;
        nb_dataset_statistics(d, &mean, &std);
        assert_true(fabs(mean - (part == 0 ? 0.2860406 : 0.2868493)) < 1e-6);
        assert_true(fabs(std - (part == 0 ? 0.3530242 : 0.3524449)) < 1e-6);
        nb_dataset_free(d);
    }
}

/* ------------------------------------------------------------------------------------------------------------------ IDX files */

/* A small training part: 3 images of 2 x 4, labels 1 0 4. */
static const unsigned char images[] = {0, 0, 8, 3, 0, 0,  0,  3,  0,  0,  0,  2,  0,  0,  0,  4,  1,  2,  3,  4,
                                       5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 255};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 0, 4};
#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

static size_t gzip(const void *data, size_t bytes, unsigned char *to, size_t room) {
    z_stream z = {
        .next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)bytes, .next_out = to, .avail_out = (unsigned)room};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

static void remove_pair(void) {
    unlink(in_folder(IMAGES));
    unlink(in_folder(LABELS));
    unlink(in_folder(IMAGES ".gz"));
    unlink(in_folder(LABELS ".gz"));
}

/* Contents as a plain file or as a gzip file. */
static void put_part(const char *name, const void *data, size_t bytes, bool packed) {
    unsigned char to[4096];
    char          path[160];
    snprintf(path, sizeof path, "%s%s", in_folder(name), packed ? ".gz" : "");
    if (packed)
        put_file(path, to, gzip(data, bytes, to, sizeof to));
    else
        put_file(path, data, bytes);
}

static nb_dataset *read_folder(void) { return nb_dataset_idx(nb, folder, NB_TRAIN_PART); }

static bool is_the_pair(const nb_dataset *d) {
    nb_dims item = nb_dataset_item(d);
    bool ok = nb_dataset_count(d) == 3 && nb_dataset_classes(d) == 5 && item.rank == 3 && item.size[1] == 2 && item.size[2] == 4;
    for (int i = 0; i < 3 && ok; i++)
        ok = nb_dataset_label(d, i) == labels[8 + i] && memcmp(nb_dataset_values(d, i), images + 16 + 8 * i, 8) == 0;
    return ok;
}

static void small_files_are_read(void **state) {
    (void)state;
    for (int packed = 0; packed < 4; packed++) {
        remove_pair();
        put_part(IMAGES, images, sizeof images, packed & 1);
        put_part(LABELS, labels, sizeof labels, packed & 2);
        nb_dataset *d = read_folder();
        expect_good(nb);
        assert_true(is_the_pair(d));
        assert_int_equal(nb_dataset_label(d, 3), -1);
        assert_null(nb_dataset_values(d, -1));
        nb_dataset_free(d);
    }
}

/* One change to a good file. */
typedef struct damage {
    const char *name;      /* the file */
    int         at, value; /* this byte becomes that; at -1: none */
    int         length;    /* cut or filled up with 7s to this; 0: as it is */
    const char *message;
} damage;

static const damage damages[] = {
    {IMAGES, 0, 1, 0, "byte 0: not an IDX file"},
    {IMAGES, 1, 8, 0, "byte 0: not an IDX file"},
    {IMAGES, 2, 9, 0, "byte 2: elements of type 09"},
    {IMAGES, 2, 0x0d, 0, "byte 2: elements of type 0d"},
    {IMAGES, 2, 0, 0, "byte 2: elements of type 00"},
    {IMAGES, 3, 0, 0, "byte 3: rank 0 where images have rank 3"},
    {IMAGES, 3, 1, 0, "are the files of images and labels mixed up?"},
    {IMAGES, 3, 4, 0, "byte 3: rank 4"},
    {IMAGES, 3, 255, 0, "byte 3: rank 255"},
    {LABELS, 3, 3, 0, "byte 3: rank 3 where labels have rank 1"},
    {IMAGES, 7, 0, 0, "byte 4: size 0 is 0"},
    {IMAGES, 11, 0, 0, "byte 8: size 1 is 0"},
    {IMAGES, 15, 0, 0, "byte 12: size 2 is 0"},
    {LABELS, 7, 0, 0, "byte 4: size 0 is 0"},
    {IMAGES, -1, 0, 1, "byte 0: shorter than the header"},
    {IMAGES, -1, 0, 3, "byte 0: shorter than the header"},
    {IMAGES, -1, 0, 4, "byte 4: the sizes are cut off"},
    {IMAGES, -1, 0, 15, "byte 4: the sizes are cut off"},
    {IMAGES, -1, 0, 16, "promise"},
    {IMAGES, -1, 0, (int)sizeof images - 1, "promise"},
    {IMAGES, -1, 0, (int)sizeof images + 1, "promise"},
    {LABELS, -1, 0, (int)sizeof labels - 1, "promise"},
    {LABELS, -1, 0, (int)sizeof labels + 1, "promise"},
    {LABELS, 7, 4, 0, "do not belong together"},
    {IMAGES, 7, 2, 0, "do not belong together"},
    {IMAGES, 8, 255, 0, "promise"},
    {IMAGES, 12, 255, 0, "promise"},
};

static void damaged_files_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        for (int packed = 0; packed < 2; packed++) {
            const damage *m = &damages[i];
            unsigned char data[64];
            bool          is_images = strcmp(m->name, IMAGES) == 0;
            size_t        bytes = is_images ? sizeof images : sizeof labels;
            memset(data, 7, sizeof data);
            memcpy(data, is_images ? images : labels, bytes);
            if (m->at >= 0) data[m->at] = (unsigned char)m->value;
            remove_pair();
            put_part(IMAGES, images, sizeof images, packed);
            put_part(LABELS, labels, sizeof labels, packed);
            put_part(m->name, data, m->length ? (size_t)m->length : bytes, packed);
            assert_null(read_folder());
            assert_int_equal(nb_error_status(nb), NB_IO);
            assert_non_null(strstr(nb_error(nb), m->name));
            expect_error(nb, m->message);
        }
    }
}

static void overflow_is_refused(void **state) {
    (void)state;
    unsigned char data[32] = {0, 0, 8, 3, 0, 0, 0, 3, 255, 255, 255, 255, 255, 255, 255, 255};
    for (int packed = 0; packed < 2; packed++) {
        remove_pair();
        put_part(LABELS, labels, sizeof labels, packed);
        put_part(IMAGES, data, sizeof data, packed);
        assert_null(read_folder());
        expect_error(nb, "byte 4: the product of the sizes overflows");
    }
}

static void missing_files_are_named(void **state) {
    (void)state;
    remove_pair();
    assert_null(read_folder());
    expect_error(nb, "neither " IMAGES " nor " IMAGES ".gz is in this folder; a data set is " IMAGES ", " LABELS ", t10k-");
    put_file(in_folder("train-images.idx3-ubyte.gz"), "", 0);
    assert_null(read_folder());
    expect_error(nb, "train-images.idx3-ubyte.gz: give it a hyphen for the dot (" IMAGES ")");
    unlink(in_folder("train-images.idx3-ubyte.gz"));
    put_part(IMAGES, images, sizeof images, false);
    assert_null(read_folder());
    expect_error(nb, "neither " LABELS " nor " LABELS ".gz");
    assert_null(nb_dataset_idx(nb, in_folder("no"), NB_TEST_PART));
    expect_error(nb, "there is no such folder (looked for t10k-images-idx3-ubyte, t10k-images-idx3-ubyte.gz)");
    assert_null(nb_dataset_idx(nb, in_folder(IMAGES), NB_TRAIN_PART));
    expect_error(nb, "Not a directory");
    put_file(in_folder(LABELS), "", 0);
    assert_null(read_folder());
    expect_error(nb, LABELS ": is empty");
    unlink(in_folder(LABELS));
    mkdir(in_folder(LABELS), 0777);
    assert_null(read_folder());
    expect_error(nb, LABELS ": not a regular file");
    rmdir(in_folder(LABELS));
    assert_int_equal(mkfifo(in_folder(LABELS), 0666), 0);
    assert_null(read_folder()); /* and does not wait */
    expect_error(nb, LABELS ": not a regular file");
    assert_null(nb_fail(nb, NB_INVALID, "earlier") ? read_folder() : NULL);
    expect_error(nb, "earlier");
}

static void gzip_is_checked(void **state) {
    (void)state;
    unsigned char good[256], data[512];
    size_t        n = gzip(images, sizeof images, good, sizeof good);
    const char   *path = in_folder(IMAGES ".gz");
    remove_pair();
    put_part(LABELS, labels, sizeof labels, false);
    for (size_t length = 0; length < n; length++) { /* every truncation */
        put_file(path, good, length);
        assert_null(read_folder());
        expect_error(nb, length == 0 ? "is empty" : length == 1 ? "byte 0: not gzip data" : "the gzip data are cut off at byte");
    }
    int same = 0;
    for (size_t at = 0; at < n; at++) { /* every flip: refused, or one of the bits that mean nothing (time, system, filling) */
        for (int bit = 0; bit < 8; bit++) {
            memcpy(data, good, n);
            data[at] ^= (unsigned char)(1 << bit);
            put_file(path, data, n);
            nb_dataset *d = read_folder();
            if (d)
                assert_true(is_the_pair(d));
            else
                assert_non_null(nb_error(nb));
            same += d != NULL;
            nb_dataset_free(d);
            nb_error_clear(nb);
        }
    }
    assert_in_range(same, 1, 64);
    memcpy(data, good, n);
    memcpy(data + n, "more", 4);
    put_file(path, data, n + 4);
    assert_null(read_folder());
    expect_error(nb, "followed by something else");
    memcpy(data + n, good, n); /* a second member */
    put_file(path, data, 2 * n);
    assert_null(read_folder());
    expect_error(nb, "followed by something else");
    memcpy(data, good, n);
    data[n - 4]++; /* the length at the end lies */
    put_file(path, data, n);
    assert_null(read_folder());
    expect_error(nb, "the gzip data are damaged (incorrect length check) at byte");
    put_file(path, images, sizeof images);
    assert_null(read_folder());
    expect_error(nb, "though the name ends in .gz");
    put_file(in_folder(IMAGES), good, n); /* the plain name comes first */
    assert_null(read_folder());
    expect_error(nb, "this is gzip data; give the file the name");
}

/* 64 MB of zeros in 64 KB: neither inflated nor allocated. */
static void a_bomb_does_not_go_off(void **state) {
    (void)state;
    enum { SIZE = 64 << 20 };
    unsigned char *zeros = calloc(1, SIZE), *packed = malloc(1 << 18);
    memcpy(zeros, images, 16);
    size_t n = gzip(zeros, SIZE, packed, 1 << 18);
    remove_pair();
    put_part(LABELS, labels, sizeof labels, false);
    put_file(in_folder(IMAGES ".gz"), packed, n);
    faults       f = {0};
    nb_allocator allocator = {faulty_alloc, faulty_free, &f};
    nb_context  *other = nb_open(&(nb_options){.allocator = &allocator});
    assert_null(nb_dataset_idx(other, folder, NB_TRAIN_PART));
    expect_error(other, "more data follow at byte 40 of the inflated file");
    assert_in_range(f.largest, 1, 1 << 20);
    memset(zeros + 8, 127, 8); /* a header that lies the other way */
    n = gzip(zeros, 1000, packed, 1 << 18);
    put_file(in_folder(IMAGES ".gz"), packed, n);
    assert_null(nb_dataset_idx(other, folder, NB_TRAIN_PART));
    nb_error_clear(other);
    zeros[8] = zeros[9] = zeros[12] = zeros[13] = 0;
    n = gzip(zeros, 1000, packed, 1 << 18);
    put_file(in_folder(IMAGES ".gz"), packed, n);
    assert_null(nb_dataset_idx(other, folder, NB_TRAIN_PART));
    expect_error(other, "more than a gzip file of");
    assert_in_range(f.largest, 1, 1 << 20);
    nb_close(other);
    assert_int_equal(f.alive, 0);
    free(zeros);
    free(packed);
}

/* ------------------------------------------------------------------------------------------------------------- sets in memory */

/* n items [2] of f32: {i, i + 0.5}, labels i mod 3. */
static nb_dataset *numbers(nb_context *c, int n) {
    float   values[2 * 1000];
    int64_t classes[1000];
    for (int i = 0; i < n; i++) {
        values[2 * i] = (float)i;
        values[2 * i + 1] = (float)i + 0.5f;
        classes[i] = i % 3;
    }
    return nb_dataset_from(c, NB_F32, n, nb_shape(2), values, classes, 3);
}

static int64_t number_of(const nb_dataset *d, int64_t i) { return (int64_t)((const float *)nb_dataset_values(d, i))[0]; }

static void wrong_sets_are_refused(void **state) {
    (void)state;
    float   v[8] = {0};
    int64_t l[2] = {0, 2};
    assert_null(nb_dataset_from(nb, NB_F64, 2, nb_shape(2), v, l, 3));
    expect_error(nb, "items are u8 or f32, not f64");
    assert_null(nb_dataset_from(nb, NB_F32, 2, nb_shape(2), v, l, 2));
    expect_error(nb, "label 2 of item 1 is not in 0 to 1");
    l[0] = -1;
    assert_null(nb_dataset_from(nb, NB_F32, 2, nb_shape(2), v, l, 3));
    expect_error(nb, "label -1 of item 0");
    assert_null(nb_dataset_from(nb, NB_F32, -1, nb_shape(2), v, l, 3));
    expect_error(nb, "negative");
    assert_null(nb_dataset_from(nb, NB_F32, 0, nb_shape(2, -3), v, l, 3));
    expect_error(nb, "axis 1 of the items has the negative size -3");
    assert_null(nb_dataset_from(nb, NB_F32, 0, nb_shape(1, 1, 1, 1, 1, 1, 1, 1), v, l, 3));
    expect_error(nb, "rank 0 to 7");
    assert_null(nb_dataset_from(nb, NB_F32, 0, nb_shape(INT64_MAX, 2), v, l, 3));
    expect_error(nb, "more than memory can address");
    nb_dataset *d = nb_dataset_from(nb, NB_U8, 0, nb_shape(), NULL, NULL, 1);
    expect_good(nb);
    double mean, std;
    nb_dataset_statistics(d, &mean, &std);
    assert_true(mean == 0 && std == 0);
    assert_null(nb_dataset_split(d, 1, 0));
    expect_error(nb, "1 items cannot be taken out of a set of 0");
    assert_null(nb_dataset_split(NULL, 1, 0));
    assert_int_equal(nb_dataset_count(NULL), 0);
    nb_dataset_free(NULL);
}

static void statistics_are_right(void **state) {
    (void)state;
    double        mean, std;
    int64_t       l[2] = {0, 0};
    float         f[4] = {1, 2, 3, 6};
    unsigned char u[4] = {51, 102, 153, 102};
    nb_dataset_statistics(nb_dataset_from(nb, NB_F32, 2, nb_shape(2), f, l, 1), &mean, &std);
    assert_true(fabs(mean - 3) < 1e-12 && fabs(std - sqrt(3.5)) < 1e-12);
    nb_dataset_statistics(nb_dataset_from(nb, NB_U8, 2, nb_shape(2), u, l, 1), &mean, &std);
    assert_true(fabs(mean - 0.4) < 1e-12 && fabs(std - sqrt(0.02)) < 1e-12);
}

static void split_divides_by_seed(void **state) {
    (void)state;
    static const int64_t first[5] = {0, 2, 11, 12, 15}; /* the same on every machine */
    for (int64_t take = 0; take <= 100; take += 25) {
        nb_dataset *rest = numbers(nb, 100), *taken = nb_dataset_split(rest, take, 7);
        int         seen[100] = {0};
        assert_int_equal(nb_dataset_count(taken), take);
        assert_int_equal(nb_dataset_count(rest), 100 - take);
        for (int k = 0; k < 2; k++) {
            const nb_dataset *d = k ? taken : rest;
            for (int64_t i = 0; i < nb_dataset_count(d); i++) {
                int64_t number = number_of(d, i);
                seen[number]++;
                assert_int_equal(nb_dataset_label(d, i), number % 3);
                if (i > 0) assert_true(number_of(d, i - 1) < number);
            }
        }
        for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
        if (take == 25)
            for (int i = 0; i < 5; i++) assert_int_equal(number_of(taken, i), first[i]);
    }
    nb_dataset *a = nb_dataset_split(numbers(nb, 100), 10, 1), *b = nb_dataset_split(numbers(nb, 100), 10, 2);
    bool        differ = false;
    for (int i = 0; i < 10; i++) differ |= number_of(a, i) != number_of(b, i);
    assert_true(differ);
}

/* --------------------------------------------------------------------------------------------------------------------- loader */

enum { BATCH = 7, COUNT = 60 };

/* The numbers of the items of a whole epoch from batch `from`, -1 for filling; returns how many. Takes its time now and then, so
 * that the thread runs ahead as far as it can. */
static int read_epoch(nb_loader *l, int64_t epoch, int64_t from, int64_t *numbers_read) {
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(BATCH, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(BATCH));
    int        n = 0;
    assert_true(nb_loader_start(l, epoch, from));
    while (nb_loader_next(l, x, y)) {
        if (n % 3 == 0) usleep(300);
        const float   *v = nb_data(x);
        const int64_t *c = nb_data(y);
        for (int i = 0; i < BATCH; i++) {
            bool    filling = c[i] == -1;
            int64_t number = filling ? -1 : (int64_t)v[2 * i];
            assert_true(v[2 * i + 1] == (filling ? 0 : v[2 * i] + 0.5f));
            if (!filling) assert_int_equal(c[i], number % 3);
            numbers_read[n++] = number;
        }
    }
    expect_good(nb);
    assert_false(nb_loader_next(l, x, y)); /* and stays at the end */
    expect_good(nb);
    nb_release(x);
    nb_release(y);
    return n;
}

static void batches_are_the_same_with_and_without_thread(void **state) {
    (void)state;
    nb_dataset *d = numbers(nb, COUNT);
    for (int k = 0; k < 4; k++) {
        nb_loader_options o = {.batch = BATCH, .shuffle = k & 1, .keep_last = k & 2, .seed = 5};
        nb_loader        *threaded = nb_loader_new(d, &o);
        o.no_thread = true;
        nb_loader *plain = nb_loader_new(d, &o);
        int64_t    a[100], b[100], before[100] = {0};
        int        steps = k & 2 ? 9 : 8, rest = COUNT - 8 * BATCH;
        assert_int_equal(nb_loader_steps(threaded), steps);
        for (int epoch = 0; epoch < 4; epoch++) {
            assert_int_equal(read_epoch(threaded, epoch, 0, a), steps * BATCH);
            assert_int_equal(read_epoch(plain, epoch, 0, b), steps * BATCH);
            assert_memory_equal(a, b, (size_t)(steps * BATCH) * sizeof *a);
            int seen[COUNT] = {0};
            for (int i = 0; i < steps * BATCH; i++) {
                if (i >= 8 * BATCH + rest)
                    assert_int_equal(a[i], -1);
                else
                    assert_int_equal(seen[a[i]]++, 0);
                if (!(k & 1) && a[i] >= 0) assert_int_equal(a[i], i);
            }
            if (k & 1) assert_memory_not_equal(a, before, sizeof(int64_t) * 8 * BATCH); /* another epoch, another order */
            memcpy(before, a, sizeof a);
        }
        nb_loader_free(threaded);
        nb_loader_free(plain);
    }
}

static void order_is_a_function_of_seed_and_epoch(void **state) {
    (void)state;
    static const int64_t first[5] = {34, 24, 19, 1, 23}; /* the same on every machine */
    nb_dataset          *d = numbers(nb, COUNT);
    nb_loader           *l = nb_loader_new(d, &(nb_loader_options){.batch = BATCH, .shuffle = true, .seed = 3});
    nb_loader           *other = nb_loader_new(d, &(nb_loader_options){.batch = BATCH, .shuffle = true, .seed = 4});
    int64_t              whole[100], part[100];
    read_epoch(l, 2, 0, whole);
    assert_memory_equal(whole, first, sizeof first);
    read_epoch(l, 0, 0, part);
    for (int from = 0; from <= 8; from++) { /* resuming at any batch, after whatever went before */
        int n = read_epoch(l, 2, from, part);
        assert_int_equal(n, (8 - from) * BATCH);
        assert_memory_equal(part, whole + from * BATCH, (size_t)n * sizeof *part);
    }
    read_epoch(other, 2, 0, part);
    assert_memory_not_equal(part, whole, sizeof(int64_t) * 8 * BATCH);
}

static void values_are_normalised(void **state) {
    (void)state;
    unsigned char v[256];
    int64_t       l[256] = {0};
    for (int i = 0; i < 256; i++) v[i] = (unsigned char)i;
    nb_dataset *d = nb_dataset_from(nb, NB_U8, 256, nb_shape(1), v, l, 1);
    nb_loader  *loader = nb_loader_new(d, &(nb_loader_options){.batch = 256, .mean = 0.25, .std = 0.5});
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(256)), *y = nb_input(nb, "y", NB_I64, nb_shape(256));
    assert_true(nb_loader_start(loader, 0, 0) && nb_loader_next(loader, x, y));
    const float *got = nb_data(x);
    for (int i = 0; i < 256; i++) assert_true(got[i] == (float)((i / 255.0 - 0.25) / 0.5));
}

static void a_program_reads_the_batches(void **state) {
    (void)state;
    nb_dataset *d = numbers(nb, COUNT);
    nb_loader  *l = nb_loader_new(d, &(nb_loader_options){.batch = 10, .shuffle = true});
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(10, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(10));
    nb_program *p = nb_compile(nb, nb_list_of(nb, nb_sum(x, nb_axes(), false), nb_sum(y, nb_axes(), false)));
    double      values = 0, classes = 0;
    assert_true(nb_loader_start(l, 0, 0));
    while (nb_loader_next(l, x, y)) {
        assert_true(nb_run(p));
        values += nb_item(nb_output(p, 0));
        classes += nb_item(nb_output(p, 1));
    }
    expect_good(nb);
    assert_true(values == COUNT * (COUNT - 1) + COUNT * 0.5 && classes == COUNT);
}

static void wrong_use_is_an_error(void **state) {
    (void)state;
    nb_dataset *d = numbers(nb, 20);
    assert_null(nb_loader_new(d, NULL));
    expect_error(nb, "20 items do not fill one batch of 64");
    assert_null(nb_loader_new(d, &(nb_loader_options){.batch = -1}));
    expect_error(nb, "a batch of -1 items");
    assert_null(nb_loader_new(d, &(nb_loader_options){.batch = INT64_MAX / 2, .keep_last = true}));
    expect_error(nb, "more than memory can address");
    assert_null(nb_loader_new(d, &(nb_loader_options){.batch = 5, .std = NAN}));
    expect_error(nb, "must be finite");
    nb_loader *l = nb_loader_new(d, &(nb_loader_options){.batch = 5});
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(5, 2)), *y = nb_input(nb, "y", NB_I64, nb_shape(5));
    assert_false(nb_loader_next(l, x, y));
    expect_error(nb, "call nb_loader_start first");
    assert_false(nb_loader_start(l, 0, 5));
    expect_error(nb, "batch 5; an epoch has the batches 0 to 3");
    assert_false(nb_loader_start(l, -1, 0));
    expect_error(nb, "epoch -1");
    assert_true(nb_loader_start(l, 0, 0));
    assert_false(nb_loader_next(l, y, y));
    expect_error(nb, "x is i64 with 5 elements");
    assert_false(nb_loader_next(l, nb_input(nb, "x2", NB_F32, nb_shape(5, 3)), y));
    expect_error(nb, "x is f32 with 15 elements, 5 the first size; needed is f32 with 5 items of 2 elements");
    assert_false(nb_loader_next(l, nb_input(nb, "x3", NB_F32, nb_shape(10)), y));
    expect_error(nb, "10 the first size");
    assert_false(nb_loader_next(l, x, x));
    expect_error(nb, "y is f32 with 10 elements; needed are 5 labels of i64");
    assert_true(nb_loader_next(l, nb_input(nb, "x4", NB_F32, nb_shape(5, 1, 2)), y)); /* another shape of as many elements */
    nb_fail(nb, NB_INVALID, "earlier");
    assert_false(nb_loader_next(l, x, y));
    assert_false(nb_loader_start(l, 0, 0));
    expect_error(nb, "earlier");
    assert_null(nb_loader_new(NULL, NULL));
    assert_int_equal(nb_loader_steps(NULL), 0);
    assert_false(nb_loader_next(NULL, x, y));
    nb_loader_free(NULL);
}

/* Stopped, begun again and closed at any moment: nothing hangs, nothing is touched afterwards (sanitizers look). */
static void it_can_be_stopped_at_any_moment(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < (is_long() ? 5000 : 500); i++) {
        nb_context *c = nb_open(NULL);
        nb_dataset *d = numbers(c, 200);
        nb_loader  *l = nb_loader_new(d, &(nb_loader_options){.batch = 3, .shuffle = true});
        nb_tensor  *x = nb_input(c, "x", NB_F32, nb_shape(3, 2)), *y = nb_input(c, "y", NB_I64, nb_shape(3));
        for (int starts = (int)(3 * next_real(&seed)); starts > 0; starts--) {
            nb_loader_start(l, starts, (int64_t)(60 * next_real(&seed)));
            for (int n = (int)(9 * next_real(&seed)); n > 0; n--) nb_loader_next(l, x, y);
            if (next_real(&seed) < 0.3) usleep((unsigned)(100 * next_real(&seed)));
        }
        if (i % 2) nb_loader_free(l);
        expect_good(c);
        nb_close(c);
    }
}

/* ------------------------------------------------------------------------------------------------------- memory that runs out */

static bool read_and_split(nb_context *c) {
    nb_dataset *d = nb_dataset_idx(c, folder, NB_TRAIN_PART), *s = nb_dataset_split(d, 1, 0);
    return s != NULL;
}

static bool load_batches(nb_context *c) {
    nb_dataset *d = numbers(c, 20);
    nb_loader  *l = nb_loader_new(d, &(nb_loader_options){.batch = 5, .shuffle = true});
    nb_tensor  *x = nb_input(c, "x", NB_F32, nb_shape(5, 2)), *y = nb_input(c, "y", NB_I64, nb_shape(5));
    int         n = 0;
    if (nb_loader_start(l, 0, 0))
        while (nb_loader_next(l, x, y)) n++;
    return n == 4;
}

static void no_memory_is_an_error(void **state) {
    (void)state;
    remove_pair();
    put_part(IMAGES, images, sizeof images, true);
    put_part(LABELS, labels, sizeof labels, false);
    for_each_fault(read_and_split, NULL);
    for_each_fault(load_batches, NULL);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(fashion_mnist_is_read),
        TEST(small_files_are_read),
        TEST(damaged_files_are_refused),
        TEST(overflow_is_refused),
        TEST(missing_files_are_named),
        TEST(gzip_is_checked),
        TEST(a_bomb_does_not_go_off),
        TEST(wrong_sets_are_refused),
        TEST(statistics_are_right),
        TEST(split_divides_by_seed),
        TEST(batches_are_the_same_with_and_without_thread),
        TEST(order_is_a_function_of_seed_and_epoch),
        TEST(values_are_normalised),
        TEST(a_program_reads_the_batches),
        TEST(wrong_use_is_an_error),
        TEST(it_can_be_stopped_at_any_moment),
        TEST(no_memory_is_an_error),
    };
    return cmocka_run_group_tests_name("data", tests, make_folder, remove_folder);
}
