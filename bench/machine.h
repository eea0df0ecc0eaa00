/* machine.h: what the machine can do, measured: the yardsticks for everything else. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

/* GB/s of copying n floats from one array to another, read and written bytes counted; the better of memcpy and streaming stores,
 * of the best of several blocks. Small n stay in a cache. */
double measure_copy(int64_t n, int threads);

/* GFLOP/s in float32 of multiply-adds in registers, with the instructions of "baseline", "v3" or "v4"; 0: this processor
 * cannot. */
double measure_arithmetic(const char *isa, int threads);

/* The best of the three; isa, if not NULL, is told which. */
double best_arithmetic(int threads, const char **isa);

#endif
