/* isa.c: which set of loops this processor can run. */
#include <string.h>

#include "isa/gemm.h"
#include "isa/loops.h"
#include "isa/move.h"
#include "isa/peak.h"
#include "isa/pool.h"
#include "isa/random.h"
#include "isa/winograd.h"
#include "kernels.h"

/* From the best to the plainest. */
static const nb__isa sets[] = {
    {"v4", nb__tiles_v4, nb__chains_v4, nb__series_v4, nb__casts_v4, &nb__loops_v4, &nb__gemm_v4, &nb__move_v4, &nb__pool_v4, &nb__random_v4, &nb__winograd_v4,
     &nb__peak_v4},
    {"v3", nb__tiles_v3, nb__chains_v3, nb__series_v3, nb__casts_v3, &nb__loops_v3, &nb__gemm_v3, &nb__move_v3, &nb__pool_v3, &nb__random_v3, &nb__winograd_v3,
     &nb__peak_v3},
    {"baseline", nb__tiles_baseline, nb__chains_baseline, nb__series_baseline, nb__casts_baseline, &nb__loops_baseline, &nb__gemm_baseline, &nb__move_baseline, &nb__pool_baseline, &nb__random_baseline, &nb__winograd_baseline,
     &nb__peak_baseline},
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
