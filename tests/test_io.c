/* Files: SHA-256, atomic writing, safetensors, nets. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../src/io/io.h"
#include "files.h"
#include "context.h"

/* -------------------------------------------------------------------------------------------------------------------- SHA-256 */

/* Messages and digests of FIPS 180-4's examples. */
static void sha256_is_right(void **state) {
    (void)state;
    static const struct {
        const char *message, *digest;
        int         times;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1", 1},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
         20000},
    };
    char text[65];
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        nb__sha256 h;
        nb__sha256_begin(&h);
        for (int k = 0; k < vectors[i].times; k++) nb__sha256_add(&h, vectors[i].message, strlen(vectors[i].message));
        nb__sha256_end(&h, text);
        assert_string_equal(text, vectors[i].digest);
    }
    const char *message = vectors[3].message; /* in two pieces, cut anywhere */
    for (size_t cut = 0; cut <= strlen(message); cut++) {
        nb__sha256 h;
        nb__sha256_begin(&h);
        nb__sha256_add(&h, message, cut);
        nb__sha256_add(&h, message + cut, strlen(message) - cut);
        nb__sha256_end(&h, text);
        assert_string_equal(text, vectors[3].digest);
    }
}

/* ---------------------------------------------------------------------------------------------------------------- whole files */

static int files_in_folder(void) {
    int  n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void expect_file(const char *path, const char *text) {
    size_t n;
    char  *read = nb_read_file(nb, path, 1000, &n);
    expect_good(nb);
    assert_int_equal(n, strlen(text));
    assert_string_equal(read, text);
    nb_free(nb, read);
}

static void files_are_written_and_read(void **state) {
    (void)state;
    const char *path = in_folder("text"), *link = in_folder("link");
    struct stat s;
    assert_true(nb_write_file(nb, path, "one", 3));
    expect_file(path, "one");
    assert_true(nb_write_file(nb, path, "", 0));
    expect_file(path, "");
    mode_t old = umask(0027);
    unlink(path);
    assert_true(nb_write_file(nb, path, "two", 3));
    umask(old);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640); /* as the umask says */
    assert_int_equal(chmod(path, 0604), 0);
    assert_int_equal(symlink("text", link), 0);
    assert_true(nb_write_file(nb, link, "three", 5)); /* through a link, which stays one; the mode stays too */
    expect_file(path, "three");
    assert_int_equal(lstat(link, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0604);
    assert_int_equal(files_in_folder(), 2);
    unlink(link);

    char before[200]; /* a name without a folder */
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    assert_true(nb_write_file(nb, "text", "four", 4));
    assert_int_equal(chdir(before), 0);
    expect_file(path, "four");

    assert_null(nb_read_file(nb, path, 3, NULL));
    expect_error(nb, "has 4 bytes, 3 are the most that is read here");
    assert_null(nb_read_file(nb, in_folder("no"), 9, NULL));
    expect_error(nb, "cannot be opened: No such file");
    assert_null(nb_read_file(nb, folder, 9000, NULL));
    expect_error(nb, "is a folder");
    assert_int_equal(mkfifo(link, 0666), 0);
    assert_null(nb_read_file(nb, link, 9, NULL)); /* and does not wait */
    expect_error(nb, "not a regular file");
    unlink(link);
    unlink(path);
}

static void a_failed_write_leaves_the_old_file(void **state) {
    (void)state;
    const char *path = in_folder("file"), *link = in_folder("full");
    char        much[10000] = {0};
    assert_true(nb_write_file(nb, path, "old", 3));
    struct rlimit before, small = {1000, RLIM_INFINITY}; /* a disk that is full after 1000 bytes */
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    bool ok = nb_write_file(nb, path, much, sizeof much);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_false(ok);
    assert_int_equal(nb_error_status(nb), NB_IO);
    expect_error(nb, "File too large: make room or choose another folder; the old file is untouched");
    expect_file(path, "old");
    assert_int_equal(files_in_folder(), 1);

    assert_false(nb_write_file(nb, in_folder("no/file"), "x", 1));
    expect_error(nb, "No such file or directory: make the folder first");
    assert_false(nb_write_file(nb, in_folder("file/file"), "x", 1));
    expect_error(nb, "Not a directory");
    assert_false(nb_write_file(nb, folder, "x", 1));
    expect_error(nb, "is a folder");
    assert_int_equal(symlink("/dev/full", link), 0); /* would be replaced by a file otherwise, given the right */
    assert_false(nb_write_file(nb, link, "x", 1));
    expect_error(nb, "is not a regular file, so it cannot be replaced");
    unlink(link);
    if (geteuid() != 0) {
        chmod(folder, 0555);
        assert_false(nb_write_file(nb, path, "x", 1));
        chmod(folder, 0755);
        expect_error(nb, "Permission denied: choose a folder where you may write");
    }
    nb_fail(nb, NB_INVALID, "earlier");
    assert_false(nb_write_file(nb, path, "x", 1));
    assert_null(nb_read_file(nb, path, 9, NULL));
    expect_error(nb, "earlier");
    expect_file(path, "old");
    assert_int_equal(files_in_folder(), 1);
    unlink(path);
}

/* These two take the place of the C library's; a number n makes the n-th call fail with that reason. */
static int fail_fsync, fail_rename, fail_reason;

int fsync(int fd) {
    if (fail_fsync && --fail_fsync == 0) return errno = fail_reason, -1;
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    if (fail_rename && --fail_rename == 0) return errno = fail_reason, -1;
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

static void what_the_system_refuses_is_reported(void **state) {
    (void)state;
    static const struct {
        int         fsync, rename, reason;
        const char *message, *contents; /* NULL: no error */
    } cases[] = {
        {1, 0, EIO, "cannot be written: Input/output error", "old"},
        {1, 0, ENOSPC, "No space left on device: make room", "old"},
        {1, 0, EINTR, NULL, "new"},
        {2, 0, EIO, "was written, but the folder cannot be synced", "new"},
        {2, 0, EINVAL, NULL, "new"}, /* a file system that cannot sync folders */
        {0, 1, EACCES, "Permission denied: choose a folder where you may write", "old"},
    };
    const char *path = in_folder("refused by the system");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(nb_write_file(nb, path, "old", 3));
        fail_fsync = cases[i].fsync, fail_rename = cases[i].rename, fail_reason = cases[i].reason;
        assert_int_equal(nb_write_file(nb, path, "new", 3), !cases[i].message);
        fail_fsync = fail_rename = 0;
        if (cases[i].message) expect_error(nb, cases[i].message);
        expect_file(path, cases[i].contents);
        assert_int_equal(files_in_folder(), 1);
    }
    unlink(path);
}

/* --------------------------------------------------------------------------------------------------------- saving and loading */

/* Tensors of all types and some odd shapes. */
static nb_list some_tensors(nb_context *c) {
    static const float   f[] = {1.5f, -0.0f, 3e38f, 1e-45f, 5, 6};
    static const double  d[] = {0.1, -2.5e300};
    static const int32_t i[] = {INT32_MIN, 7, INT32_MAX};
    static const int64_t l[] = {INT64_MIN, INT64_MAX};
    static const uint8_t u[] = {0, 127, 255}, b[] = {1, 0, 1, 1, 0};
    nb_list              list = nb_list_of(
                     c, nb_set_name(nb_from(c, NB_U8, nb_shape(3), u), "bytes"),
                     nb_param(c, "layer.weight", nb_from(c, NB_F32, nb_shape(2, 3), f)),
                     nb_set_name(nb_from(c, NB_BOOL, nb_shape(5), b), "flags \"quoted\" \xc3\xa4\n"),
                     nb_set_name(nb_from(c, NB_F64, nb_shape(1, 2, 1), d), "double"),
                     nb_set_name(nb_from(c, NB_I32, nb_shape(3), i), "int"),
                     nb_set_name(nb_from(c, NB_I64, nb_shape(2), l), "long"),
                     nb_set_name(nb_from(c, NB_F64, nb_shape(), d), "scalar"),
                     nb_set_name(nb_from(c, NB_F32, nb_shape(0, 4), NULL), "empty"),
                     nb_set_name(nb_mul(nb_from(c, NB_F32, nb_shape(6), f), nb_number(c, 2)), "computed"));
    return list;
}

static void what_is_saved_is_loaded(void **state) {
    (void)state;
    const char *path = in_folder("a.safetensors");
    nb_list     list = some_tensors(nb);
    nb_pair     pairs[] = {{"note", "a \"b\"\n\xe2\x82\xac"}, {"empty", ""}};
    assert_true(nb_save(nb, path, list, 2, pairs));
    nb_file *f = nb_file_open(nb, path);
    expect_good(nb);
    assert_int_equal(nb_file_count(f), list.n);
    for (int i = 0; i < list.n; i++) {
        nb_dims a = nb_shape_of(list.at[i]), b = nb_file_shape(f, i);
        assert_string_equal(nb_file_name(f, i), nb_name(list.at[i]));
        assert_int_equal(nb_file_dtype(f, i), nb_dtype_of(list.at[i]));
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal((uintptr_t)nb_file_values(f, i) % nb_dtype_size(nb_file_dtype(f, i)), 0);
        if (nb_bytes(list.at[i])) assert_memory_equal(nb_file_values(f, i), nb_data(list.at[i]), nb_bytes(list.at[i]));
    }
    assert_string_equal(nb_file_pair(f, "note"), pairs[0].value);
    assert_string_equal(nb_file_pair(f, "empty"), "");
    assert_int_equal(strlen(nb_file_pair(f, "nabla.sha256")), 64);
    assert_null(nb_file_pair(f, "no"));
    assert_string_equal(nb_file_name(f, 99), "");
    assert_null(nb_file_values(f, -1));
    assert_int_equal(nb_file_shape(f, 99).rank, -1);
    nb_file_close(f);
    size_t         n, m;
    unsigned char *first = get_file(path, &n), *again;
    assert_true(nb_save(nb, path, list, 2, pairs)); /* the same tensors, the same bytes */
    again = get_file(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(first, again, n);
    free(first);
    free(again);
    assert_true(nb_save(nb, path, (nb_list){0}, 0, NULL));
    assert_int_equal(nb_file_count(nb_file_open(nb, path)), 0);
    expect_good(nb);
}

static void wrong_saves_are_refused(void **state) {
    (void)state;
    const char *path = in_folder("refused");
    nb_tensor  *a = nb_set_name(nb_ones(nb, NB_F32, nb_shape(2)), "a"), *b = nb_ones(nb, NB_F32, nb_shape(2));
    assert_false(nb_save(nb, path, nb_list_of(nb, a, b), 0, NULL));
    expect_error(nb, "tensor 1 of the list has no name");
    assert_false(nb_save(nb, path, nb_list_of(nb, a, a), 0, NULL));
    expect_error(nb, "two tensors have the name 'a'");
    assert_false(nb_save(nb, path, nb_list_of(nb, nb_set_name(b, "__metadata__")), 0, NULL));
    expect_error(nb, "this one is the format's");
    assert_false(nb_save(nb, path, nb_list_of(nb, nb_set_name(b, "\xff")), 0, NULL));
    expect_error(nb, "not UTF-8");
    assert_false(nb_save(nb, path, nb_list_of(nb, a), 2, (nb_pair[]){{"k", "1"}, {"k", "2"}}));
    expect_error(nb, "the metadata key 'k' is there twice");
    assert_false(nb_save(nb, path, nb_list_of(nb, a), 1, (nb_pair[]){{"nabla.sha256", "1"}}));
    expect_error(nb, "one of the library's own");
    assert_false(nb_save(nb, path, nb_list_of(nb, a), 1, (nb_pair[]){{"k", "\xff"}}));
    expect_error(nb, "not UTF-8");
    nb_context *other = nb_open(NULL);
    assert_false(nb_save(nb, path, nb_list_of(nb, a, nb_zeros(other, NB_F32, nb_shape(1))), 0, NULL));
    expect_error(nb, "tensor 1 of the list belongs to another context");
    nb_close(other);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void loading_is_all_or_none(void **state) {
    (void)state;
    const char *path = in_folder("load");
    const float one[2] = {1, 2}, two[2] = {0, 0};
    nb_tensor  *a = nb_param(nb, "a", nb_from(nb, NB_F32, nb_shape(2), one)),
              *b = nb_param(nb, "b", nb_from(nb, NB_F32, nb_shape(2), one));
    assert_true(nb_save(nb, path, nb_list_of(nb, a, b), 0, NULL));
    assert_true(nb_set(a, two, sizeof two) && nb_set(b, two, sizeof two));
    nb_tensor *c = nb_param(nb, "c", nb_zeros(nb, NB_F32, nb_shape(2))),
              *wide = nb_param(nb, "b", nb_zeros(nb, NB_F32, nb_shape(2, 1)));
    nb_tensor *other_type = nb_param(nb, "b", nb_zeros(nb, NB_F64, nb_shape(2)));
    nb_file   *f = nb_file_open(nb, path);
    assert_false(nb_file_load(f, nb_list_of(nb, a, c)));
    expect_error(nb, "load: has no tensor 'c'; it belongs to another net or run (2 tensors)");
    assert_false(nb_file_load(f, nb_list_of(nb, a, wide)));
    expect_error(nb, "tensor 'b' is f32 [2] in the file and f32 [2,1] here");
    assert_false(nb_file_load(f, nb_list_of(nb, a, other_type)));
    expect_error(nb, "tensor 'b' is f32 [2] in the file and f64 [2] here");
    assert_false(nb_file_load(f, nb_list_of(nb, a, nb_set_name(nb_neg(b), "b"))));
    expect_error(nb, "is not a kept tensor");
    assert_memory_equal(nb_data(a), two, sizeof two);
    assert_true(nb_file_load(f, nb_list_of(nb, b)));
    assert_memory_equal(nb_data(a), two, sizeof two);
    assert_memory_equal(nb_data(b), one, sizeof one);
    assert_false(nb_file_load(NULL, nb_list_of(nb, b)));
    nb_file_close(NULL);
}

static void digest_is_right(void **state) {
    (void)state;
    /* echo -ne 'w\0f32\0' + rank 1, size 2 and 1.0, -2.0, little-endian | sha256sum */
    const float v[2] = {1, -2};
    char        text[65], other[65];
    nb_tensor  *w = nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(2), v));
    assert_true(nb_digest(nb_list_of(nb, w), text));
    assert_string_equal(text, "a9457710f3285648f4a65eac9970e222cf6d3ebc864cfc15cb5ad097b3e3c428");
    assert_true(nb_digest(nb_list_of(nb, nb_param(nb, "v", nb_from(nb, NB_F32, nb_shape(2), v))), other));
    assert_string_not_equal(text, other);
    assert_true(nb_digest(nb_list_of(nb, nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(2, 1), v))), other));
    assert_string_not_equal(text, other);
    assert_true(nb_digest((nb_list){0}, other));
    assert_string_equal(other, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    nb_fail(nb, NB_INVALID, "earlier");
    assert_false(nb_digest(nb_list_of(nb, w), text));
    assert_string_equal(text, "");
}

/* ------------------------------------------------------------------------------------------------------------ malformed files */

static void put_crafted(const char *path, uint64_t length, const char *header, size_t header_bytes, size_t data_bytes) {
    unsigned char *file = calloc(1, 8 + header_bytes + data_bytes);
    memcpy(file, &length, 8);
    if (header_bytes) memcpy(file + 8, header, header_bytes);
    put_file(path, file, 8 + header_bytes + data_bytes);
    free(file);
}

/* A header, the bytes of data behind it (zeros), and what is said; NULL: it is fine. */
typedef struct crafted {
    const char *header;
    int         data_bytes;
    const char *message;
} crafted;

#define F32_1 "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"
#define AT(b, e) "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" #b "," #e "]}"
#define SHAPE(s) "{\"a\":{\"dtype\":\"U8\",\"shape\":" s ",\"data_offsets\":[0,4]}}"

static const crafted headers[] = {
    {"{}", 0, NULL},
    {"{}      ", 0, NULL},
    {"{\"a\":" F32_1 "} \n\t ", 4, NULL},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[0,0]}}", 0, NULL},
    {"{\"z\":{\"shape\":[0],\"data_offsets\":[4,4],\"dtype\":\"I64\"},\"a\":" F32_1 "}", 4, NULL},
    {"{\"b\":" AT(4, 8) ",\"a\":" AT(0, 4) "}", 8, NULL},
    {"{\"__metadata__\":{\"k\":\"v\",\"\":\"\"},\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[3,11]},"
     "\"a\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}",
     11, NULL},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1,1,1,2],\"data_offsets\":[0,4]}}", 4, NULL},
    {"{\"\\u0061\\ud83d\\ude00\":" F32_1 "}", 4, NULL},

    {" {}", 0, "byte 8: the header does not begin with '{'"},
    {"\xef\xbb\xbf{}", 0, "byte 8: the header does not begin with '{'"},
    {"[]", 0, "byte 8: the header does not begin with '{'"},
    {"{\"a\":" F32_1 "}garbage", 4, "the header is not valid"},
    {"{\"a\":" F32_1 "}{}", 4, "the header is not valid"},
    {"{\"a\":" F32_1, 4, "the header is not valid"},
    {"{\"a", 4, "the header is not valid"},
    {"{\"a\":" F32_1 ",}", 4, "the header is not valid"},
    {"{\"\xff\":" F32_1 "}", 4, "the header is not valid"},
    {"{\"\xc0\xaf\":" F32_1 "}", 4, "the header is not valid"},
    {"{\"\\ud800\":" F32_1 "}", 4, "the header is not valid"},
    {"{\"a\\u0000b\":" F32_1 "}", 4, "the header is not valid"},
    {"{\"a\nb\":" F32_1 "}", 4, "the header is not valid"},
    {"{'a':" F32_1 "}", 4, "the header is not valid"},
    {"{\"\":" F32_1 "}", 4, "a tensor has an empty name"},
    {"{\"a\":" F32_1 ",\"a\":" F32_1 "}", 4, "duplicate"},
    {"{\"a\":" F32_1 ",\"\\u0061\":" F32_1 "}", 4, "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ 'k': the value is not a string"},
    {"{\"__metadata__\":{\"k\":{\"l\":\"m\"}}}", 0, "__metadata__ 'k': the value is not a string"},
    {"{\"__metadata__\":{\"k\":null}}", 0, "__metadata__ 'k': the value is not a string"},
    {"{\"__metadata__\":null}", 0, "__metadata__ is not an object of strings"},
    {"{\"__metadata__\":\"text\"}", 0, "__metadata__ is not an object of strings"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object of strings"},
    {"{\"__metadata__\":{\"nabla.format\":\"1\"}}", 0, "the checksum is missing"},
    {"{\"__metadata__\":{\"k\":\"1\",\"nabla.sha256\":\"00\"}}", 0, "is not where Nabla writes it"},
    {"{\"__metadata__\":{\"nabla.sha256\":\"00\"}}", 0, "is not where Nabla writes it"},
    {"{\"__metadata__\":{\"nabla.sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}", 0,
     "the checksum does not match"},
    {"{\"a\":null}", 0, "tensor 'a': its entry is not an object"},
    {"{\"a\":[]}", 0, "tensor 'a': its entry is not an object"},
    {"{\"a\":{\"dtype\":\"Q8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "the library has no type 'Q8'"},
    {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "the library has no type 'f32'"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "the library has no type 'F4'"},
    {"{\"a\":{\"dtype\":5,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "dtype is missing or not a string"},
    {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "dtype is missing or not a string"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, "shape is missing or not an array"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"name\":\"a\"}}", 4, "the format has no field 'name'"},
    {SHAPE("4"), 4, "shape is missing or not an array"},
    {SHAPE("[-4]"), 4, "byte 36: the header has a negative number"},
    {SHAPE("[-0]"), 4, "byte 36: the header has a negative number"},
    {SHAPE("[4.0]"), 4, "size 0 of the shape is not a whole number"},
    {SHAPE("[4e0]"), 4, "size 0 of the shape is not a whole number"},
    {SHAPE("[04]"), 4, "the header is not valid"},
    {SHAPE("[+4]"), 4, "the header is not valid"},
    {SHAPE("[0x4]"), 4, "the header is not valid"},
    {SHAPE("[true]"), 4, "size 0 of the shape is not a whole number"},
    {SHAPE("[1,\"4\"]"), 4, "size 1 of the shape is not a whole number"},
    {SHAPE("[18446744073709551616]"), 4, "the header is not valid"},
    {SHAPE("[9223372036854775808]"), 4, "the header is not valid"},
    {SHAPE("[4294967296,4294967296]"), 4, "the product of its sizes overflows"},
    {SHAPE("[4194305,4194305,211106198978564]"), 4, "the product of its sizes overflows"},
    {SHAPE("[0,4294967296,4294967296]"), 4, "the product of its sizes overflows"},
    {SHAPE("[4294967296,4294967296,0]"), 4, "the product of its sizes overflows"},
    {SHAPE("[1,1,1,1,1,1,1,1,4]"), 4, "more than 8 sizes"},
    {SHAPE("[[4]]"), 4, "nested deeper"},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
     "the product of its sizes overflows"},
    {SHAPE("[5]"), 4, "type and shape need 5 bytes, data_offsets give 4"},
    {SHAPE("[0]"), 4, "type and shape need 0 bytes, data_offsets give 4"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, "data_offsets 4 to 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[1,5]}}", 4, "the file has 4 bytes of data"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[9223372036854775803,9223372036854775807]}}", 4,
     "the file has 4 bytes of data"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, "not an array of two whole numbers"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}}", 4, "not an array of two whole numbers"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4.0]}}", 4, "not an array of two whole numbers"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[\"0\",4]}}", 4, "not an array of two whole numbers"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":{}}}", 4, "not an array of two whole numbers"},
    {"{\"a\":" AT(0, 4) "}", 5, "1 bytes belong to no tensor"},
    {"{}", 1, "byte 10: 1 bytes belong to no tensor"},
    {"{\"a\":" AT(0, 4) "}", 3, "the file has 3 bytes of data"},
    {"{\"a\":" AT(1, 5) "}", 5, "leaves a hole before it"},
    {"{\"a\":" AT(0, 4) ",\"b\":" AT(5, 9) "}", 9, "tensor 'b' leaves a hole before it"},
    {"{\"a\":" AT(0, 4) ",\"b\":" AT(0, 4) "}", 4, "overlaps the one before"},
    {"{\"a\":" AT(0, 4) ",\"b\":" AT(2, 6) "}", 6, "tensor 'b' overlaps the one before"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},\"b\":" AT(0, 4) "}", 4, "overlaps the one before"},
};

/* In a context of its own, which must get all its memory back, and whose requests stay in proportion to the file. */
static void open_crafted(const char *path, const char *message) {
    struct stat  s;
    faults       f = {0};
    nb_allocator allocator = {faulty_alloc, faulty_free, &f};
    nb_context  *c = nb_open(&(nb_options){.allocator = &allocator});
    int64_t      before = f.alive;
    nb_file     *file = nb_file_open(c, path);
    if (message) {
        assert_null(file);
        assert_int_equal(nb_error_status(c), NB_IO);
        assert_non_null(strstr(nb_error(c), path));
        expect_error(c, message);
        assert_int_equal(f.alive, before);
    } else {
        expect_good(c);
        for (int i = 0; i < nb_file_count(file); i++)
            assert_int_equal((uintptr_t)nb_file_values(file, i) % nb_dtype_size(nb_file_dtype(file, i)), 0);
    }
    stat(path, &s);
    assert_in_range(f.largest, 1, 4 * (size_t)s.st_size + (1 << 20));
    nb_close(c);
    assert_int_equal(f.alive, 0);
}

static void malformed_files_are_refused(void **state) {
    (void)state;
    const char *path = in_folder("crafted");
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        size_t n = strlen(headers[i].header);
        put_crafted(path, n, headers[i].header, n, (size_t)headers[i].data_bytes);
        open_crafted(path, headers[i].message);
    }
    put_file(path, "", 0);
    open_crafted(path, "has 0 bytes, too few");
    put_file(path, "\2\0\0\0\0\0\0", 7);
    open_crafted(path, "has 7 bytes, too few");
    put_crafted(path, 0, "", 0, 0);
    open_crafted(path, "byte 0: the header has no bytes");
    put_crafted(path, 0, "{}", 2, 0);
    open_crafted(path, "byte 0: the header has no bytes");
    put_crafted(path, 1, "", 0, 0);
    open_crafted(path, "byte 0: a header of 1 bytes, the file has 8 in all");
    put_crafted(path, 1, "{", 1, 0);
    open_crafted(path, "the header is not valid");
    put_crafted(path, 3, "{}", 2, 0);
    open_crafted(path, "byte 0: a header of 3 bytes, the file has 10 in all");
    put_crafted(path, 100000001, "{}", 2, 0);
    open_crafted(path, "the format's limit is 100000000");
    put_crafted(path, UINT64_C(1) << 63, "{}", 2, 0);
    open_crafted(path, "a header of 9223372036854775808 bytes");
    put_crafted(path, UINT64_MAX, "{}", 2, 0);
    open_crafted(path, "a header of 18446744073709551615 bytes");
    put_crafted(path, 3, "{}\0", 3, 0);
    open_crafted(path, "the header is not valid");
    put_crafted(path, 12, "{\"a\0b\":null}", 12, 0);
    open_crafted(path, "the header is not valid");
    char *deep = malloc(200010);
    memset(deep, '[', 200010);
    memcpy(deep, "{\"a\":", 5);
    put_crafted(path, 200010, deep, 200010, 0);
    open_crafted(path, "byte 15: the header is nested deeper");
    for (int i = 0; i < 200000; i += 5) memcpy(deep + i, "{\"a\":", 5);
    put_crafted(path, 200010, deep, 200010, 0);
    open_crafted(path, "byte 23: the header is nested deeper");
    free(deep);
    const char *bools = "{\"a\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}\1\2";
    put_crafted(path, strlen(bools) - 2, bools, strlen(bools), 0);
    open_crafted(path, "byte 64: tensor 'a' is BOOL, and 2 is neither 0 nor 1");
    const char *odd = "{\"\\u001b[2J\":null}"; /* a name that would clear the screen */
    put_crafted(path, strlen(odd), odd, strlen(odd), 0);
    open_crafted(path, "tensor '?[2J'");
    open_context(NULL);
    assert_null(nb_file_open(nb, in_folder("no")));
    expect_error(nb, "cannot be opened");
    close_context(NULL);
}

/* All files that differ in one byte from one of ours, and all that are cut off. */
static void any_damage_is_seen(void **state) {
    (void)state;
    const char *path = in_folder("small.safetensors");
    nb_tensor  *w = nb_param(nb, "w", nb_from(nb, NB_F32, nb_shape(2), (float[]){1, 2}));
    nb_tensor  *b = nb_set_name(nb_from(nb, NB_U8, nb_shape(3), (uint8_t[]){1, 2, 3}), "b");
    assert_true(nb_save(nb, path, nb_list_of(nb, w, b), 1, (nb_pair[]){{"k", "v"}}));
    size_t         n;
    unsigned char *good = get_file(path, &n);
    int            fd = open(path, O_RDWR);
    for (size_t at = 0; at < n; at++) {
        for (int flip = 1; flip < 256; flip++) {
            unsigned char bad = (unsigned char)(good[at] ^ flip);
            assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
            if (nb_file_open(nb, path)) fail_msg("byte %zu: %02x instead of %02x is not seen", at, bad, good[at]);
            assert_int_equal(nb_error_status(nb), NB_IO);
            nb_error_clear(nb);
        }
        assert_int_equal(pwrite(fd, &good[at], 1, (off_t)at), 1);
    }
    nb_file *f = nb_file_open(nb, path);
    assert_non_null(f);
    nb_file_close(f);
    for (size_t length = n; length-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)length), 0);
        assert_null(nb_file_open(nb, path));
        assert_int_equal(nb_error_status(nb), NB_IO);
        nb_error_clear(nb);
    }
    put_file(path, good, n);
    unsigned char more[2] = {0, 0};
    assert_int_equal(pwrite(fd, more, 1, (off_t)n), 1);
    assert_null(nb_file_open(nb, path));
    nb_error_clear(nb);
    close(fd);
    free(good);
}

/* ---------------------------------------------------------------------------------------------------------- crashes and races */

static bool save_number(nb_context *c, const char *path, float number) {
    float v[500];
    for (int i = 0; i < 500; i++) v[i] = number;
    nb_next_step(c);
    return nb_save(c, path, nb_list_of(c, nb_set_name(nb_from(c, NB_F32, nb_shape(500), v), "v")), 0, NULL);
}

/* The whole file is of one save. */
static bool is_whole(nb_context *c, const char *path) {
    nb_file *f = nb_file_open(c, path);
    if (!f) return false;
    const float *v = nb_file_values(f, 0);
    bool         same = true;
    for (int i = 1; i < 500; i++) same &= v[i] == v[0];
    nb_file_close(f);
    return same;
}

static void killed_at_any_moment_a_file_is_whole(void **state) {
    (void)state;
    const char *path = in_folder("killed");
    uint64_t    seed = 3;
    assert_true(save_number(nb, path, 0));
    for (int round = 0; round < (is_long() ? 500 : 40); round++) {
        pid_t child = fork();
        if (child == 0) {
            nb_context *c = nb_open(NULL);
            for (float i = 1; save_number(c, path, i); i++) {
            }
            _exit(1);
        }
        usleep((unsigned)(20000 * next_real(&seed)));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_true(is_whole(nb, path));
    }
}

typedef struct reader {
    const char *path;
    int         stop; /* atomic */
    int64_t     good, bad;
} reader;

static void *read_again_and_again(void *user) {
    reader     *r = user;
    nb_context *c = nb_open(NULL);
    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) *(is_whole(c, r->path) ? &r->good : &r->bad) += 1;
    nb_close(c);
    return NULL;
}

static void readers_see_whole_files(void **state) {
    (void)state;
    reader    r = {.path = in_folder("read")};
    pthread_t thread;
    assert_true(save_number(nb, r.path, 0));
    assert_int_equal(pthread_create(&thread, NULL, read_again_and_again, &r), 0);
    for (int i = 0; i < 100; i++) assert_true(save_number(nb, r.path, (float)i));
    __atomic_store_n(&r.stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(r.bad, 0);
}

/* ----------------------------------------------------------------------------------------------------------------------- nets */

static nb_tensor *apply_to_ones(nb_net *net) {
    nb_context *c = nb_net_context(net);
    return nb_net_apply(net, nb_ones(c, NB_F32, nb_shape(2, 1, 4, 4)), NB_EVAL);
}

static void a_net_is_saved_whole(void **state) {
    (void)state;
    const char *path = in_folder("net.safetensors");
    nb_net     *net = nb_net_parse(nb, "conv 3 3 pad=1, batchnorm, relu, flatten, linear 5", nb_shape(1, 4, 4));
    expect_good(nb);
    assert_true(nb_net_save(net, path, 1, (nb_pair[]){{"classes", "a b c"}}));
    nb_context *other = nb_open(&(nb_options){.seed = 99});
    nb_net     *again = nb_net_load(other, path);
    expect_good(other);
    assert_string_equal(nb_net_text(again), nb_net_text(net));
    nb_tensor *y = apply_to_ones(net), *z = apply_to_ones(again);
    assert_memory_equal(nb_data(y), nb_data(z), nb_bytes(y));
    nb_file *f = nb_file_open(nb, path);
    assert_string_equal(nb_file_pair(f, "classes"), "a b c");
    assert_string_equal(nb_file_pair(f, "nabla.input"), "1,4,4");
    nb_file_close(f);
    nb_close(other);

    assert_false(nb_net_save(net, path, 1, (nb_pair[]){{"nabla.net", "x"}}));
    expect_error(nb, "'nabla.net' is there twice");
    nb_net *unspoken = nb_net_new(nb, nb_layer_linear(nb, 2, 2, true), nb_shape(2));
    assert_false(nb_net_save(unspoken, path, 0, NULL));
    expect_error(nb, "was not made from text");
    assert_false(nb_net_save(NULL, path, 0, NULL));

    nb_pair     wrong[][2] = {{{"nabla.net", "linear 5"}, {"note", ""}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "1,,2"}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "-1"}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "3,"}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "99999999999999999999"}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "1,1,1,1,1,1,1,1"}},
                              {{"nabla.net", "lineal 5"}, {"nabla.input", "3"}},
                              {{"nabla.net", "linear 5"}, {"nabla.input", "3"}}};
    const char *messages[] = {"holds tensors, but no net",
                              "not the shape of an input",
                              "not the shape of an input",
                              "not the shape of an input",
                              "not the shape of an input",
                              "not the shape of an input",
                              "lineal",
                              "has no tensor"};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        assert_true(nb_save(nb, path, (nb_list){0}, 2, wrong[i]));
        assert_null(nb_net_load(nb, path));
        expect_error(nb, messages[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------- memory that runs out */

static bool save_all(nb_context *c) { return nb_save(c, in_folder("oom"), some_tensors(c), 1, (nb_pair[]){{"k", "v"}}); }

static bool load_all(nb_context *c) {
    nb_file *f = nb_file_open(c, in_folder("oom"));
    return nb_file_load(f, nb_list_of(c, nb_param(c, "layer.weight", nb_zeros(c, NB_F32, nb_shape(2, 3)))));
}

static bool load_crooked(nb_context *c) { return nb_file_open(c, in_folder("crooked")) != NULL; }

static bool save_and_load_net(nb_context *c) {
    nb_net *net = nb_net_parse(c, "linear 3", nb_shape(2));
    bool    ok = nb_net_save(net, in_folder("oom-net"), 0, NULL);
    return ok && nb_net_load(c, in_folder("oom-net")) != NULL;
}

static bool digest_all(nb_context *c) {
    char text[65];
    return nb_digest(some_tensors(c), text) && !nb_error(c); /* an empty list has no context */
}

static void the_old_file_stands(void) {
    nb_context *c = nb_open(NULL);
    assert_non_null(nb_file_open(c, in_folder("oom")));
    nb_close(c);
}

static void no_memory_is_an_error(void **state) {
    (void)state;
    assert_true(save_all(nb));
    int before = files_in_folder();
    for_each_fault(save_all, the_old_file_stands);
    assert_int_equal(files_in_folder(), before);
    for_each_fault(load_all, NULL);
    const char *crooked = "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                          "\"a\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]}}";
    put_crafted(in_folder("crooked"), strlen(crooked), crooked, strlen(crooked), 17);
    for_each_fault(load_crooked, NULL);
    for_each_fault(save_and_load_net, NULL);
    for_each_fault(digest_all, NULL);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(sha256_is_right),
        TEST(files_are_written_and_read),
        TEST(a_failed_write_leaves_the_old_file),
        TEST(what_the_system_refuses_is_reported),
        TEST(what_is_saved_is_loaded),
        TEST(wrong_saves_are_refused),
        TEST(loading_is_all_or_none),
        TEST(digest_is_right),
        cmocka_unit_test(malformed_files_are_refused),
        TEST(any_damage_is_seen),
        TEST(killed_at_any_moment_a_file_is_whole),
        TEST(readers_see_whole_files),
        TEST(a_net_is_saved_whole),
        TEST(no_memory_is_an_error),
    };
    return cmocka_run_group_tests_name("io", tests, make_folder, remove_folder);
}
