/* machine.h: what the machine can do, measured: the yardsticks for everything else. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

/* GFLOP/s in float32 of independent multiply-adds in registers, for "baseline", "v3" or "v4", with so many threads; 0: the processor
 * cannot. */
double measure_arithmetic(const char *isa, int threads);

/* GB/s of copying n floats from one array to another, read and written bytes counted; the better of memcpy and streaming stores. */
double measure_copy(int64_t n, int threads);

#endif
