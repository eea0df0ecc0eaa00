/* Threads as a program meets them: a pool shared by contexts, and fork, which leaves threads behind. */
#include "test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* The thread sanitizer allows a forked process no threads of its own. */
#if defined(__SANITIZE_THREAD__)
enum { CHILD_THREADS = 1 };
#else
enum { CHILD_THREADS = 2 };
#endif

/* A step large enough for several tiles. */
static nb_program *some_step(nb_context *nb, nb_tensor **loss) {
    nb_net    *net = nb_net_parse(nb, "linear 128, tanh, linear 96, relu, linear 10", nb_shape(64));
    nb_tensor *x = nb_input(nb, "x", NB_F32, nb_shape(256, 64)), *y = nb_input(nb, "y", NB_I64, nb_shape(256));
    nb_tensor *noise = nb_normal(nb, NB_F32, nb_shape(256, 64), 0, 1);
    assert_true(nb_set(x, nb_data(noise), nb_bytes(noise)));
    nb_program *p = nb_compile(
        nb, nb_update(nb_adam(nb_net_parameters(net), 0.01, NULL), nb_cross_entropy(nb_net_apply(net, x, NB_TRAIN), y, NULL)));
    *loss = nb_output(p, 0);
    return p;
}

static double loss_after(nb_context *nb, int steps) {
    nb_tensor  *loss;
    nb_program *p = some_step(nb, &loss);
    for (int i = 0; i < steps; i++) assert_true(nb_run(p));
    return nb_item(loss);
}

typedef struct user {
    nb_pool *pool;
    uint64_t seed;
    double   loss;
} user;

static void *use_pool(void *arg) {
    user       *u = arg;
    nb_context *nb = nb_open(&(nb_options){.pool = u->pool, .seed = u->seed});
    u->loss = loss_after(nb, 30);
    if (nb_error(nb)) u->loss = NAN;
    nb_close(nb);
    return NULL;
}

/* Three contexts in threads of their own compute with one pool at a time, each as it would alone. */
static void test_shared_pool(void **state) {
    (void)state;
    nb_pool  *pool = nb_pool_new(3);
    user      users[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        users[i] = (user){.pool = pool, .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, use_pool, &users[i]), 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        nb_context *nb = nb_open(&(nb_options){.seed = (uint64_t)i});
        assert_true(users[i].loss == loss_after(nb, 30));
        nb_close(nb);
    }
    nb_context *a = nb_open(&(nb_options){.pool = pool}), *b = nb_open(&(nb_options){.pool = pool}); /* by turns in one thread */
    assert_int_equal(nb_threads(a), 3);
    assert_true(loss_after(a, 3) == loss_after(b, 3));
    nb_close(a);
    assert_true(loss_after(b, 3) > 0); /* the pool outlives a context that used it */
    nb_close(b);
    nb_pool_free(pool);
}

/* Runs `in_child` in a forked process: true when it says so, within ten seconds. */
static bool fork_and(bool (*in_child)(void *arg), void *arg) {
    int   status = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        _exit(in_child(arg) ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool says(nb_context *nb, const char *text) {
    bool found = nb_error(nb) && strstr(nb_error(nb), text);
    if (!found) fprintf(stderr, "the error is \"%s\"; expected \"%s\"\n", nb_error(nb) ? nb_error(nb) : "none", text);
    nb_error_clear(nb);
    return found;
}

typedef struct forked {
    nb_context *nb;
    nb_program *p;
    nb_loader  *loader;
    nb_tensor  *x, *y;
} forked;

static bool run_in_child(void *arg) {
    forked *f = arg;
    bool    ok = !nb_run(f->p) && says(f->nb, "nb_run: this process was forked, and the context's 2 threads stayed behind");
    nb_item(nb_sum(nb_uniform(f->nb, NB_F32, nb_shape(8), 0, 1), nb_axes(), false));
    ok &= says(f->nb, "was forked");
    nb_measure_machine(f->nb);
    ok &= says(f->nb, "nb_measure_machine: this process was forked");
    ok &=
        !nb_loader_next(f->loader, f->x, f->y) && says(f->nb, "nb_loader_next: this process was forked, and the loader's thread");
    ok &= !nb_loader_start(f->loader, 1, 0) && says(f->nb, "no_thread");
    nb_close(f->nb); /* with the pool and the loader: nobody is waited for */
    nb_context *mine = nb_open(&(nb_options){.threads = CHILD_THREADS});
    ok &= isfinite(loss_after(mine, 2));
    nb_close(mine);
    return ok;
}

static bool run_alone_in_child(void *arg) {
    forked *f = arg;
    bool    ok = nb_run(f->p) && !nb_error(f->nb);
    nb_close(f->nb);
    return ok;
}

static void test_fork(void **state) {
    (void)state;
    nb_tensor *loss;
    forked     f = {.nb = nb_open(&(nb_options){.threads = 2})};
    f.p = some_step(f.nb, &loss);
    float   items[8 * 4] = {0};
    int64_t labels[8] = {0};
    f.loader = nb_loader_new(nb_dataset_from(f.nb, NB_F32, 8, nb_shape(4), items, labels, 2), &(nb_loader_options){.batch = 2});
    f.x = nb_input(f.nb, "x", NB_F32, nb_shape(2, 4));
    f.y = nb_input(f.nb, "y", NB_I64, nb_shape(2));
    assert_true(nb_loader_start(f.loader, 0, 0) && nb_run(f.p));
    assert_true(fork_and(run_in_child, &f));
    assert_true(nb_run(f.p) && nb_loader_next(f.loader, f.x, f.y)); /* the parent goes on */
    nb_close(f.nb);
    f = (forked){.nb = nb_open(NULL)}; /* one thread: nothing stays behind */
    f.p = some_step(f.nb, &loss);
    assert_true(nb_run(f.p));
    assert_true(fork_and(run_alone_in_child, &f));
    nb_close(f.nb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared_pool), cmocka_unit_test(test_fork)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
