/* files.h: a folder for a test's files, and memory that runs out when it is told to. */
#ifndef NB_TEST_FILES_H
#define NB_TEST_FILES_H

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static char folder[64]; /* of this test program; made by make_folder, a group setup */

static inline int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/nabla-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *s, int type, struct FTW *place) {
    (void)s, (void)type, (void)place;
    return remove(path);
}

static inline int remove_folder(void **state) {
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in the folder. Up to 8 are valid at a time. */
static inline const char *in_folder(const char *name) {
    static char text[8][160];
    static int  next;
    char       *path = text[next++ % 8];
    snprintf(path, sizeof text[0], "%s/%s", folder, name);
    return path;
}

static inline void put_file(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* The whole file; free it. */
static inline unsigned char *get_file(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*bytes + 1);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

/* An allocator whose n-th call fails, and all later ones if for_ever; it counts what is alive. */
typedef struct faults {
    int64_t calls, fail_at, alive;
    bool    for_ever, has_failed;
    size_t  largest; /* request seen */
} faults;

static inline void *faulty_alloc(void *user, size_t size) {
    faults *f = user;
    f->calls++;
    if (size > f->largest) f->largest = size;
    if (f->fail_at && (f->for_ever ? f->calls >= f->fail_at : f->calls == f->fail_at)) {
        f->has_failed = true;
        return NULL;
    }
    f->alive++;
    return malloc(size);
}

static inline void faulty_free(void *user, void *p) {
    if (p) ((faults *)user)->alive--;
    free(p);
}

/* Runs a scenario in a context of its own with the 1st, 2nd, 3rd ... allocation failing, until it needs no more. The scenario
 * must say false then and the context have the error, unless it could do without; nothing may leak. after_fault is called each
 * time. */
static inline void for_each_fault(bool (*scenario)(nb_context *nb), void (*after_fault)(void)) {
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        for (int64_t n = 1;; n++) {
            faults       f = {.fail_at = n, .for_ever = for_ever};
            nb_allocator allocator = {faulty_alloc, faulty_free, &f};
            nb_context  *nb = nb_open(&(nb_options){.allocator = &allocator});
            bool         ok = nb && !nb_error(nb) && scenario(nb);
            if (f.has_failed) {
                if (nb) assert_int_equal(nb_error_status(nb), ok ? NB_OK : NB_NO_MEMORY);
            } else if (!ok) {
                fail_msg("the scenario fails with all its memory: %s", nb ? nb_error(nb) : "no context");
            }
            nb_close(nb);
            assert_int_equal(f.alive, 0);
            if (after_fault) after_fault();
            if (!f.has_failed) break;
        }
    }
}

#endif
