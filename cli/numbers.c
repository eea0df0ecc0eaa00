/* numbers.c: numbers, sizes and shapes as people read them. */
#include <stdio.h>

#include "cli.h"

const char *cli_s(int64_t n) { return n == 1 ? "" : "s"; }

const char *cli_scaled(double n, const char *unit, char text[32]) {
    static const char prefix[] = {' ', 'k', 'M', 'G', 'T', 'P'};
    int               i = 0;
    while (n >= 999.5 && i < 5) n /= 1000, i++;
    if (i == 0)
        snprintf(text, 32, "%.0f  %s", n, unit);
    else
        snprintf(text, 32, "%.*f %c%s", n < 9.995 ? 2 : n < 99.95 ? 1 : 0, n, prefix[i], unit);
    return text;
}

const char *cli_shape(nb_dims d, char text[64]) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < d.rank && used < 64; i++)
        used += (size_t)snprintf(text + used, 64 - used, "%s%lld", i ? "x" : "", (long long)d.size[i]);
    return text;
}
