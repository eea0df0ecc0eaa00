/* clock.h: what all benchmark programs share: the clock, best of several, the processor's name, numbers from options. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <nabla.h>

double now_ms(void); /* monotonic */

/* Best mean over blocks of runs, in ms a run. A failed run ends the program (its handler has spoken). */
double best_of_blocks(nb_program *program, int steps, int blocks);

void   processor_name(char *name, size_t size); /* "model name" of /proc/cpuinfo, fit for JSON */
double peak_memory_mb(void);                    /* largest resident memory so far */

/* A whole number from 1 to most, or complaint and exit 2. */
int whole_number(const char *program, const char *option, const char *text, int most);

#endif
