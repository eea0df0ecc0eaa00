/* isa.c: which set of loops this processor can run. */
#include <string.h>

#include "isa/gemm.h"
#include "isa/loops.h"
#include "isa/moments.h"
#include "isa/move.h"
#include "isa/peak.h"
#include "isa/pool.h"
#include "isa/random.h"
#include "isa/winograd.h"
#include "kernels.h"

#define SET(level) \
    {#level, \
     nb__tiles_##level, \
     nb__chains_##level, \
     nb__series_##level, \
     nb__casts_##level, \
     &nb__loops_##level, \
     &nb__moments_##level, \
     &nb__gemm_##level, \
     &nb__move_##level, \
     &nb__pool_##level, \
     &nb__random_##level, \
     &nb__winograd_##level, \
     &nb__peak_##level}

/* From the best to the plainest. */
static const nb__isa sets[] = {
    SET(v4),
    SET(v3),
    SET(baseline),
    {.name = "reference", .peak = &nb__peak_baseline}, /* the machine can be measured all the same */
};

/* x86-64-v3 and -v4, by those of their features that both compilers can ask for; what has these has the rest of the level. */
static bool supported(const char *name) {
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2");
    if (!strcmp(name, "v3")) return v3;
    if (!strcmp(name, "v4"))
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return true;
}

const nb__isa *nb__isa_find(const char *name) {
    __builtin_cpu_init();
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if ((!name || !strcmp(sets[i].name, name)) && supported(sets[i].name)) return &sets[i];
    return NULL;
}
