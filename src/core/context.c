/* context.c: a context, its errors, its scopes, and what belongs to it. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core.h"

/* Large blocks ask for huge pages: a loop over tens of megabytes otherwise spends a third of its time on looking pages up. Only a
 * wish: where it is not granted nothing changes. */
static void *libc_alloc(void *user, size_t size) {
    enum { HUGE_PAGE = 2 << 20 };
    (void)user;
    char *p = malloc(size);
    if (p && size >= 2 * (size_t)HUGE_PAGE) {
        uintptr_t mask = HUGE_PAGE - 1, first = ((uintptr_t)p + mask) & ~mask, end = ((uintptr_t)p + size) & ~mask;
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
    }
    return p;
}

static void libc_free(void *user, void *pointer) {
    (void)user;
    free(pointer);
}

nb_context *nb__context_new(const nb_options *options) {
    nb_allocator a = options->allocator ? *options->allocator : (nb_allocator){libc_alloc, libc_free, NULL};
    nb_context  *nb = a.alloc(a.user, sizeof *nb);
    if (!nb) return NULL;
    memset(nb, 0, sizeof *nb);
    nb->allocator = a;
    nb->on_error = options->on_error;
    nb->on_error_user = options->on_error_user;
    nb->step = 1;
    nb->scope = &nb->root_scope;
    nb->root_scope.name = nb->root_scope.path = nb->root_scope.group = "";
    nb->kept_end = &nb->kept;
    nb->failed = (nb_tensor){.nb = nb,
                             .op = &nb__op_failed,
                             .step = NB__KEPT,
                             .is_failed = true,
                             .scope = &nb->root_scope,
                             .name = "",
                             .shape = {.rank = 0}};
    for (int i = 0; i < (int)(sizeof nb->failed_at / sizeof *nb->failed_at); i++) nb->failed_at[i] = &nb->failed;
    nb_seed(nb, options->seed);
    return nb;
}

static void free_scopes(nb_context *nb, nb__scope *first) {
    /* Depth first without recursion: children are moved in front of what is left to do. */
    while (first) {
        nb__scope *s = first;
        first = s->next;
        if (s->child) {
            nb__scope *last = s->child;
            while (last->next) last = last->next;
            last->next = first;
            first = s->child;
        }
        nb_free(nb, (char *)s->name);
        nb_free(nb, (char *)s->path);
        nb_free(nb, s);
    }
}

static void free_kept(nb_context *nb, nb_tensor *first) {
    for (nb_tensor *t = first, *next; t; t = next) {
        next = t->next;
        nb__storage_unuse(nb, t->storage);
        nb_free(nb, (char *)t->name);
        nb_free(nb, t);
    }
}

void nb__context_free(nb_context *nb) {
    while (nb->owned) {
        nb__owned *o = nb->owned;
        nb->owned = o->next;
        o->free_object(o->object);
        nb_free(nb, o);
    }
    free_kept(nb, nb->kept);
    free_kept(nb, nb->released);
    nb__arena_free(nb, &nb->slab[0]);
    nb__arena_free(nb, &nb->slab[1]);
    free_scopes(nb, nb->root_scope.child);
    nb->allocator.free(nb->allocator.user, nb);
}

bool nb_own(nb_context *nb, void *object, void (*free_object)(void *)) {
    nb__owned *o = nb_alloc(nb, sizeof *o);
    if (!o) {
        free_object(object);
        return false;
    }
    *o = (nb__owned){nb->owned, object, free_object};
    nb->owned = o;
    return true;
}

void nb_disown(nb_context *nb, void *object) {
    for (nb__owned **p = &nb->owned; *p; p = &(*p)->next) {
        if ((*p)->object != object) continue;
        nb__owned *o = *p;
        *p = o->next;
        nb_free(nb, o);
        return;
    }
}

void nb_next_step(nb_context *nb) {
    if (nb->streams) nb->random.step++;
    nb->streams = 0;
    nb->step++;
    nb__arena_reset(&nb->slab[nb->step & 1]);
}

/* --------------------------------------------------------------------------------------------------------------------- errors */

const char *nb_error(nb_context *nb) { return nb->status == NB_OK ? NULL : nb->message; }
nb_status   nb_error_status(nb_context *nb) { return nb->status; }
nb_tensor  *nb_failed(nb_context *nb) { return &nb->failed; }

void nb_error_clear(nb_context *nb) {
    nb->status = NB_OK;
    nb->message[0] = 0;
}

void nb_die(nb_status status, const char *message, void *user) {
    (void)status;
    (void)user;
    fprintf(stderr, "error: %s\n", message);
    exit(2);
}

/* Every failure comes through here: the place for a breakpoint. */
static nb_tensor *fail(nb_context *nb, const nb__scope *scope, nb_status status, const char *format, va_list args) {
    if (nb->status != NB_OK) return &nb->failed;
    nb->status = status;
    int n = scope->path[0] ? snprintf(nb->message, sizeof nb->message, "layer %s: ", scope->path) : 0;
    if (n < 0 || (size_t)n >= sizeof nb->message) n = 0;
    vsnprintf(nb->message + n, sizeof nb->message - (size_t)n, format, args);
    if (nb->on_error) nb->on_error(status, nb->message, nb->on_error_user);
    return &nb->failed;
}

nb_tensor *nb_fail(nb_context *nb, nb_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    nb_tensor *t = fail(nb, nb->scope, status, format, args);
    va_end(args);
    return t;
}

nb_tensor *nb__fail_at(const nb_tensor *where, nb_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    nb_tensor *t = fail(where->nb, where->scope, status, format, args);
    va_end(args);
    return t;
}

void nb_raise(const nb_call *call, int64_t element, const char *format, ...) {
    struct nb_fault *f = call->fault;
    while (atomic_flag_test_and_set_explicit(&f->lock, memory_order_acquire)) {
    }
    if (!f->is_set || element < f->element) {
        va_list args;
        va_start(args, format);
        vsnprintf(f->message, sizeof f->message, format, args);
        va_end(args);
        f->is_set = true;
        f->element = element;
    }
    atomic_flag_clear_explicit(&f->lock, memory_order_release);
}

/* --------------------------------------------------------------------------------------------------------------------- scopes */

/* The child of the current scope with that name, made on first use. Without memory the scope stays as it is: the error says
 * so. */
static void push(nb_context *nb, const char *name, bool is_group) {
    nb__scope *parent = nb->scope, *s = parent->child;
    while (s && (s->is_group != is_group || strcmp(s->name, name) != 0)) s = s->next;
    if (!s) {
        size_t n = strlen(parent->path) + strlen(name) + 2;
        char  *path = nb_alloc(nb, n), *copy = nb__strdup(nb, name);
        s = nb_alloc(nb, sizeof *s);
        if (!path || !copy || !s) {
            nb_free(nb, path);
            nb_free(nb, copy);
            nb_free(nb, s);
            return;
        }
        if (is_group)
            snprintf(path, n, "%s", parent->path);
        else
            snprintf(path, n, "%s%s%s", parent->path, parent->path[0] ? "/" : "", name);
        *s = (nb__scope){.parent = parent, .next = parent->child, .name = copy, .path = path, .is_group = is_group};
        s->group = !is_group ? "" : parent->group[0] ? parent->group : s->name;
        parent->child = s;
    }
    nb->scope = s;
}

static void pop(nb_context *nb, const char *name, bool is_group) {
    nb__scope *s = nb->scope;
    /* A push that had no memory left nothing to pop; only ever after an error. */
    if (nb->status == NB_NO_MEMORY && (s->is_group != is_group || (name && strcmp(s->name, name) != 0))) return;
    if (s->parent) nb->scope = s->parent;
}

void nb_scope_push(nb_context *nb, const char *layer) { push(nb, layer, false); }
void nb_scope_pop(nb_context *nb) { pop(nb, NULL, false); }
void nb_group_push(nb_context *nb, const nb_op *composition) { push(nb, composition->name, true); }
void nb_group_pop(nb_context *nb) { pop(nb, NULL, true); }

/* --------------------------------------------------------------------------------------------------- random: Mersenne Twister */

static void seed_twister(nb__twister *t, uint32_t seed) {
    t->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++) t->state[i] = 1812433253u * (t->state[i - 1] ^ (t->state[i - 1] >> 30)) + i;
    t->next = 624;
    t->has_spare = false;
}

static uint32_t twist(nb__twister *t) {
    uint32_t *s = t->state;
    if (t->next == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
            s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->next = 0;
    }
    uint32_t y = s[t->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void nb_seed(nb_context *nb, uint64_t seed) {
    nb_set_random(nb, (nb_random_state){.seed = seed});
    seed_twister(&nb->twister, (uint32_t)seed); /* torch.manual_seed too uses the low 32 bits */
}

/* In [0,1), with all bits of a double. */
static double twist_double(nb__twister *t) {
    uint64_t high = twist(t), low = twist(t);
    return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

double nb_random_normal(nb_context *nb) {
    nb__twister *t = &nb->twister;
    if (t->has_spare) {
        t->has_spare = false;
        return t->spare;
    }
    double angle = 2 * M_PI * twist_double(t), radius = sqrt(-2 * log1p(-twist_double(t)));
    t->spare = radius * sin(angle);
    t->has_spare = true;
    return radius * cos(angle);
}

uint32_t        nb_random_bits(nb_context *nb) { return twist(&nb->twister); }
nb_random_state nb_get_random(nb_context *nb) { return nb->random; }

void nb_set_random(nb_context *nb, nb_random_state state) {
    nb->random = state;
    nb->streams = 0;
}
