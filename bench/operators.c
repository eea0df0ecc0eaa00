/* operators.c: rates of single operators, each as a compiled program, beside what the machine can do.
 *
 * A line for each case and size: milliseconds, GB/s by the bytes that must move at least, GFLOP/s of contractions, and the share
 * of a plain copy of as many elements, or of the arithmetic peak. With --turns it waits for orders, so that it can take turns
 * with peers: "CASE SIZE" makes a program ready, an empty line measures it. */
#include "cases.h"
#include "clock.h"
#include "machine.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, BLOCKS = 9, SIZES = 3 };

static const double block_ms = 10; /* a block is at least so long */

static const int64_t plain_sizes[SIZES] = {1000, 100000, 10000000}, matrix_sides[SIZES] = {64, 256, 1024};
static const int64_t rows_of[SIZES] = {10, 100, 10000}, cols_of[SIZES] = {100, 1000, 1000};
static const int64_t images_of[SIZES][4] = {{1, 4, 16, 16}, {4, 32, 28, 28}, {64, 64, 50, 50}};

typedef struct settings {
    const char *only;
    int64_t     size; /* 0: all */
    int         threads, blocks;
    bool        json, turns, list;
} settings;

static const char usage[] = "usage: operators [options]\n"
                            "  --only NAME   this case alone; --list shows their names\n"
                            "  --size N      this size alone: 1000, 100000, 10000000; of matrix products 64, 256, 1024\n"
                            "  --threads N   threads that compute (1)\n"
                            "  --blocks N    best of so many (9)\n"
                            "  --json        one JSON object a line\n"
                            "  --turns       orders from standard input\n";

static settings read_options(int argc, char **argv) {
    /* clang-format off */
    static const struct option known[] = {
        {"only", required_argument, NULL, 'o'},    {"size", required_argument, NULL, 's'},
        {"threads", required_argument, NULL, 't'}, {"blocks", required_argument, NULL, 'b'},
        {"json", no_argument, NULL, 'j'},          {"turns", no_argument, NULL, 'u'},
        {"list", no_argument, NULL, 'l'},          {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    settings s = {.threads = 1, .blocks = BLOCKS};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'o': s.only = optarg; break;
        case 's': s.size = whole_number("operators", "--size", optarg, 1 << 30); break;
        case 't': s.threads = whole_number("operators", "--threads", optarg, 256); break;
        case 'b': s.blocks = whole_number("operators", "--blocks", optarg, 1000); break;
        case 'j': s.json = true; break;
        case 'u': s.turns = true; break;
        case 'l': s.list = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    /* clang-format on */
    if (optind < argc) {
        fprintf(stderr, "operators: not an option: %s\n%s", argv[optind], usage);
        exit(2);
    }
    return s;
}

/* A case made ready: a context of its own, so that all of it can be freed. */
typedef struct ready {
    bench       b;
    nb_program *program;
    int         repeat; /* runs a block */
} ready;

static void run(nb_program *program, int times) {
    for (int i = 0; i < times; i++)
        if (!nb_run(program)) exit(2);
}

static ready make_ready(const bench_case *c, int size, int threads) {
    ready r = {
        .b = {.n = c->has_own_sizes ? matrix_sides[size] : plain_sizes[size], .rows = rows_of[size], .cols = cols_of[size]}};
    memcpy(r.b.image, images_of[size], sizeof r.b.image);
    r.b.nb = nb_open(&(nb_options){.threads = threads, .on_error = nb_die, .seed = 1});
    if (!r.b.nb) {
        fprintf(stderr, "operators: out of memory\n");
        exit(2);
    }
    r.program = nb_compile(r.b.nb, c->build(&r.b));
    nb_next_step(r.b.nb);
    run(r.program, WARM_UP);
    r.repeat = 1;
    for (double ms = 0; r.repeat < 1 << 24; r.repeat *= 2) { /* as many runs as fill a block */
        double start = now_ms();
        run(r.program, r.repeat);
        ms = now_ms() - start;
        if (ms >= block_ms / 2) {
            r.repeat = (int)fmax(1, r.repeat * block_ms / ms);
            break;
        }
    }
    return r;
}

static double block(const ready *r) {
    double start = now_ms();
    run(r->program, r->repeat);
    return (now_ms() - start) / r->repeat;
}

/* The yardsticks for one number of threads. */
typedef struct machine {
    double      peak;        /* GFLOP/s, of the best instructions there are */
    double      copy[SIZES]; /* GB/s */
    const char *isa;
} machine;

static machine measure_machine(int threads) {
    machine m = {0};
    m.peak = best_arithmetic(threads, &m.isa);
    for (int i = 0; i < SIZES; i++) m.copy[i] = measure_copy(plain_sizes[i], i ? threads : 1); /* 4 kB: threads would only cost */
    return m;
}

static void print_machine(const settings *s, const machine *m) {
    char name[256];
    processor_name(name, sizeof name);
    if (s->json)
        printf("{\"machine\": \"%s\", \"threads\": %d, \"isa\": \"%s\", \"peak_gflop_per_s\": %.4g, \"copy_gb_per_s\": "
               "{\"1000\": %.4g, \"100000\": %.4g, \"10000000\": %.4g}}\n",
               name, s->threads, m->isa, m->peak, m->copy[0], m->copy[1], m->copy[2]);
    else
        printf("%s, %d thread%s: %.4g GFLOP/s (%s); copies at %.4g, %.4g and %.4g GB/s (1e3, 1e5, 1e7 floats)\n\n%-18s %9s %12s "
               "%8s %8s %7s\n",
               name, s->threads, s->threads == 1 ? "" : "s", m->peak, m->isa, m->copy[0], m->copy[1], m->copy[2], "case", "size",
               "us", "GB/s", "GFLOP/s", "share");
    fflush(stdout);
}

static void print_case(const settings *s, const machine *m, const bench_case *c, int size, const ready *r, double ms) {
    double gb = r->b.bytes / ms * 1e-6, gflop = r->b.flops / ms * 1e-6;
    double share = r->b.flops > 0 ? gflop / m->peak : gb / m->copy[size];
    if (s->json)
        printf("{\"case\": \"%s\", \"size\": %lld, \"threads\": %d, \"ms\": %.6g, \"gb_per_s\": %.4g, \"gflop_per_s\": %.4g, "
               "\"share_of_%s\": "
               "%.3f}\n",
               c->name, (long long)r->b.n, s->threads, ms, gb, gflop, r->b.flops > 0 ? "peak" : "copy", share);
    else
        printf("%-18s %9lld %12.4g %8.3g %8.3g %6.0f%%\n", c->name, (long long)r->b.n, ms * 1e3, gb, gflop, share * 100);
    fflush(stdout);
}

static const bench_case *find_case(const char *name) {
    for (int i = 0; i < bench_case_count; i++)
        if (!strcmp(bench_cases[i].name, name)) return &bench_cases[i];
    return NULL;
}

static int64_t size_of(const bench_case *c, int size) { return c->has_own_sizes ? matrix_sides[size] : plain_sizes[size]; }

/* Orders: "CASE SIZE" prepares, "" measures a block. */
static void take_turns(const settings *s) {
    char  line[128], name[64];
    ready r = {.program = NULL};
    while (fgets(line, sizeof line, stdin)) {
        long long wanted;
        if (sscanf(line, "%63s %lld", name, &wanted) == 2) {
            const bench_case *c = find_case(name);
            int               size = 0;
            while (c && size < SIZES && size_of(c, size) != wanted) size++;
            if (r.program) nb_close(r.b.nb);
            r.program = NULL;
            if (!c || size == SIZES) {
                printf("{\"error\": \"no such case\"}\n");
            } else {
                r = make_ready(c, size, s->threads);
                printf("{\"bytes\": %.0f, \"flops\": %.0f}\n", r.b.bytes, r.b.flops);
            }
        } else if (r.program) {
            run(r.program, 1); /* others have used the caches meanwhile */
            printf("{\"ms\": %.6g}\n", block(&r));
        }
        fflush(stdout);
    }
    if (r.program) nb_close(r.b.nb);
}

static void measure_all(const settings *s) {
    machine m = measure_machine(s->threads);
    print_machine(s, &m);
    for (int i = 0; i < bench_case_count; i++) {
        const bench_case *c = &bench_cases[i];
        if (s->only && strcmp(s->only, c->name)) continue;
        for (int size = 0; size < SIZES; size++) {
            if (s->size && s->size != size_of(c, size)) continue;
            ready  r = make_ready(c, size, s->threads);
            double best = INFINITY;
            for (int k = 0; k < s->blocks; k++) best = fmin(best, block(&r));
            print_case(s, &m, c, size, &r, best);
            nb_close(r.b.nb);
        }
    }
}

int main(int argc, char **argv) {
    settings s = read_options(argc, argv);
    if (s.only && !find_case(s.only)) {
        fprintf(stderr, "operators: no case %s; --list shows them\n", s.only);
        return 2;
    }
    if (s.list)
        for (int i = 0; i < bench_case_count; i++) puts(bench_cases[i].name);
    else if (s.turns)
        take_turns(&s);
    else
        measure_all(&s);
    return 0;
}
