/* version.c: `nabla version`: what was built, and what it runs on. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const cli_option options[] = {{0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL}};

/* The processor's own name for itself. */
static void print_processor(void) {
    char  line[512];
    FILE *in = fopen("/proc/cpuinfo", "r");
    while (in && fgets(line, sizeof line, in)) {
        char *name = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !name) continue;
        printf("processor  %s", name + 2);
        break;
    }
    if (in) fclose(in);
}

static int run(const cli_words *words, void *settings) {
    (void)words;
    (void)settings;
    nb_context *nb = cli_open(0, 0);
    if (!nb) return CLI_MEND;
    printf("nabla %s\n", NB_VERSION);
    print_processor();
    printf("kernels    %s\n", nb_kernels(nb));
    printf("threads    %d\n", nb_threads(nb));
    printf("libraries  %s\n", nb_libraries());
    nb_close(nb);
    return CLI_DONE;
}

const cli_command cli_version_command = {
    .name = "version",
    .usage = "version",
    .about = "print version, processor, kernels, threads and libraries",
    .details =
        "Prints the version, the processor, the kernels chosen for it (x86-64-v3 is v3; NABLA_KERNELS sets others), the threads\n"
        "that a command uses unless told otherwise, and the libraries that are linked.",
    .options = options,
    .run = run,
};
