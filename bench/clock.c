/* clock.c: see clock.h. */
#include "clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

double best_of_blocks(nb_program *program, int steps, int blocks) {
    double best = INFINITY;
    for (int block = 0; block < blocks; block++) {
        double start = now_ms();
        for (int i = 0; i < steps; i++)
            if (!nb_run(program)) exit(2);
        best = fmin(best, (now_ms() - start) / steps);
    }
    return best;
}

/* What JSON would have to escape becomes a space. */
void processor_name(char *name, size_t size) {
    char  line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10)) continue;
        snprintf(name, size, "%s", colon + 2);
        name[strcspn(name, "\n")] = 0;
        break;
    }
    if (f) fclose(f);
    for (char *c = name; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = ' ';
}

/* Not getrusage, which counts what the process was before exec too. */
double peak_memory_mb(void) {
    char   line[256];
    double kb = 0;
    FILE  *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kb) == 1) break;
    if (f) fclose(f);
    return kb / 1024;
}

int whole_number(const char *program, const char *option, const char *text, int most) {
    char *end;
    long  n = strtol(text, &end, 10);
    if (end != text && !*end && n >= 1 && n <= most) return (int)n;
    fprintf(stderr, "%s: %s must be a whole number from 1 to %d, but is: %s\n", program, option, most, text);
    exit(2);
}
