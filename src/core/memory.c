/* memory.c: the context's allocator, and the slabs in which the nodes of a step live. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core.h"

/* A block as the allocator gave it lies in front of the aligned memory that the caller sees. */
typedef struct block_head {
    void *start;
} block_head;

static void *aligned_alloc_raw(nb_context *nb, size_t size) {
    if (size > (size_t)NB__MAX_BYTES) return NULL;
    char *start = nb->allocator.alloc(nb->allocator.user, size + NB__ALIGN + sizeof(block_head));
    if (!start) return NULL;
    uintptr_t at = ((uintptr_t)start + sizeof(block_head) + NB__ALIGN - 1) & ~(uintptr_t)(NB__ALIGN - 1);
    ((block_head *)at)[-1].start = start;
    return (void *)at;
}

void *nb__alloc_unset(nb_context *nb, size_t size) {
    void *p = aligned_alloc_raw(nb, size);
    if (!p) nb_fail(nb, NB_NO_MEMORY, "no memory for %zu bytes", size);
    return p;
}

void *nb_alloc(nb_context *nb, size_t size) {
    void *p = nb__alloc_unset(nb, size);
    return p ? memset(p, 0, size) : NULL;
}

void nb_free(nb_context *nb, void *pointer) {
    if (pointer) nb->allocator.free(nb->allocator.user, ((block_head *)pointer)[-1].start);
}

char *nb__strdup(nb_context *nb, const char *text) {
    size_t n = strlen(text) + 1;
    char  *copy = nb_alloc(nb, n);
    return copy ? memcpy(copy, text, n) : NULL;
}

struct nb__chunk {
    nb__chunk *next;
    size_t     size; /* bytes behind this head */
};

enum { CHUNK_HEAD = NB__ALIGN, FIRST_CHUNK = 1 << 16, LARGE_CHUNK = 1 << 18 };

static char *chunk_data(nb__chunk *c) { return (char *)c + CHUNK_HEAD; }

/* Chunks stay with the arena when it is reset, so that a loop of equal steps allocates only in its first rounds. */
void *nb__arena_alloc(nb_context *nb, nb__arena *a, size_t size) {
    if (size > (size_t)NB__MAX_BYTES) goto fail;
    /* Small blocks (nodes, lists, numbers) need no cache line of their own; arrays do. */
    size_t align = size < 4 * NB__ALIGN ? 16 : NB__ALIGN;
    size = (size + align - 1) & ~(align - 1);
    if (a->current) a->used = (a->used + align - 1) & ~(align - 1);
    while (!a->current || a->used > a->current->size || a->current->size - a->used < size) {
        nb__chunk **next = a->current ? &a->current->next : &a->first;
        if (*next && (*next)->size >= size) {
            a->current = *next;
        } else {
            /* Twice the last one, but a large array (an output) must not make the next chunk larger still. */
            size_t     grow = !a->current ? FIRST_CHUNK : a->current->size < LARGE_CHUNK / 2 ? 2 * a->current->size : LARGE_CHUNK;
            size_t     bytes = grow > size ? grow : size;
            nb__chunk *c = aligned_alloc_raw(nb, bytes + CHUNK_HEAD);
            if (!c && bytes > size) c = aligned_alloc_raw(nb, (bytes = size) + CHUNK_HEAD);
            if (!c) goto fail;
            *c = (nb__chunk){.next = *next, .size = bytes};
            a->current = *next = c;
        }
        a->used = 0;
    }
    void *p = chunk_data(a->current) + a->used;
    a->used += size;
    return memset(p, 0, size);
fail:
    nb_fail(nb, NB_NO_MEMORY, "no memory for %zu bytes", size);
    return NULL;
}

void *nb__step_alloc(nb_context *nb, size_t size) { return nb__arena_alloc(nb, &nb->slab[nb->step & 1], size); }

char *nb__step_print(nb_context *nb, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int   n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : nb__step_alloc(nb, (size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void nb__arena_reset(nb__arena *a) {
#ifdef NB_CHECK_BUILD
    /* Stale values are to be seen, not to look right by chance. */
    for (nb__chunk *c = a->first; c; c = c->next) memset(chunk_data(c), 0xff, c->size);
#endif
    a->current = a->first;
    a->used = 0;
}

void nb__arena_free(nb_context *nb, nb__arena *a) {
    for (nb__chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        nb_free(nb, c);
    }
    *a = (nb__arena){0};
}
