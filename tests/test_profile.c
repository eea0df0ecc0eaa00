/* Looking at compiled programs: what the machine can do, what each call is and takes, where the memory is. */
#include "test.h"

static void test_machine(void **state) {
    (void)state;
    const char *const kernels[] = {"reference", "baseline", NULL};
    for (int i = 0; i < 3; i++) {
        nb_context *nb = nb_open(&(nb_options){.threads = 2, .kernels = kernels[i]});
        nb_machine  m = nb_measure_machine(nb);
        expect_good(nb);
        assert_true(m.gflops > 0.1 && m.gflops < 1e6);
        assert_true(m.gbytes > 0.01 && m.gbytes < 1e5);
        nb_close(nb);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
