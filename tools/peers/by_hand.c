/* by_hand.c: the training step of mlp as one would write it by hand: a BLAS call for each product, fused loops for all else.
 *
 *     cc -O3 -march=native -fopenmp by_hand.c -ldnnl -lm         (dnnl_sgemm is row-major and faster than most)
 *
 * Shown beside the others, not counted: it can do nothing else. Options as build/bench/nets: --threads, --steps, --turns. */
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 64, LAYERS = 3, WARM_UP = 5, BLOCKS = 9 };

static const int sizes[LAYERS + 1] = {784, 256, 128, 10};

/* w [out,in] and b [out] of each layer in one block, and so are their gradients and moments. */
typedef struct net {
    float *w[LAYERS], *b[LAYERS], *dw[LAYERS], *db[LAYERS];
    float *values, *gradients, *mean, *square;
    long   n;
    float *y[LAYERS + 1], *dy[LAYERS + 1]; /* [BATCH, size] */
    int    label[BATCH];
    int    t;
} net;

static float *floats(long n) {
    float *p = aligned_alloc(64, ((size_t)n * sizeof *p + 63) / 64 * 64);
    if (!p) exit(2);
    memset(p, 0, (size_t)n * sizeof *p);
    return p;
}

static float uniform(void) { return (float)rand() / (float)RAND_MAX * 2 - 1; }

static void make(net *m) {
    for (int l = 0; l < LAYERS; l++) m->n += (long)sizes[l + 1] * (sizes[l] + 1);
    m->values = floats(m->n), m->gradients = floats(m->n), m->mean = floats(m->n), m->square = floats(m->n);
    long at = 0;
    for (int l = 0; l < LAYERS; l++) {
        long n = (long)sizes[l + 1] * sizes[l];
        m->w[l] = m->values + at, m->dw[l] = m->gradients + at;
        m->b[l] = m->values + at + n, m->db[l] = m->gradients + at + n;
        for (long i = 0; i < n; i++) m->w[l][i] = uniform() / sqrtf((float)sizes[l]);
        at += n + sizes[l + 1];
    }
    for (int l = 0; l <= LAYERS; l++) m->y[l] = floats(BATCH * sizes[l]), m->dy[l] = floats(BATCH * sizes[l]);
    for (int i = 0; i < BATCH * sizes[0]; i++) m->y[0][i] = 1.7f * uniform();
    for (int i = 0; i < BATCH; i++) m->label[i] = rand() % sizes[LAYERS];
}

/* y = relu(x w^T + b); without relu in the last layer. */
static void forward(net *m, int l) {
    int in = sizes[l], out = sizes[l + 1];
    dnnl_sgemm('N', 'T', BATCH, out, in, 1, m->y[l], in, m->w[l], in, 0, m->y[l + 1], out);
    for (int i = 0; i < BATCH; i++)
        for (int j = 0; j < out; j++) {
            float v = m->y[l + 1][i * out + j] + m->b[l][j];
            m->y[l + 1][i * out + j] = l + 1 < LAYERS && v < 0 ? 0 : v;
        }
}

/* Cross-entropy and its gradient (softmax - one-hot) / BATCH. */
static float loss(net *m) {
    int   classes = sizes[LAYERS];
    float sum = 0;
    for (int i = 0; i < BATCH; i++) {
        float *y = m->y[LAYERS] + i * classes, *dy = m->dy[LAYERS] + i * classes, top = y[0], total = 0;
        for (int j = 1; j < classes; j++) top = fmaxf(top, y[j]);
        for (int j = 0; j < classes; j++) total += dy[j] = expf(y[j] - top);
        sum += logf(total) + top - y[m->label[i]];
        for (int j = 0; j < classes; j++) dy[j] = (dy[j] / total - (j == m->label[i])) / BATCH;
    }
    return sum / BATCH;
}

/* dw = dy^T x, db = column sums of dy, dx = dy w where x > 0. */
static void backward(net *m, int l) {
    int in = sizes[l], out = sizes[l + 1];
    dnnl_sgemm('T', 'N', out, in, BATCH, 1, m->dy[l + 1], out, m->y[l], in, 0, m->dw[l], in);
    memset(m->db[l], 0, (size_t)out * sizeof(float));
    for (int i = 0; i < BATCH; i++)
        for (int j = 0; j < out; j++) m->db[l][j] += m->dy[l + 1][i * out + j];
    if (l == 0) return;
    dnnl_sgemm('N', 'N', BATCH, in, out, 1, m->dy[l + 1], out, m->w[l], in, 0, m->dy[l], in);
    for (int i = 0; i < BATCH * in; i++) m->dy[l][i] = m->y[l][i] > 0 ? m->dy[l][i] : 0;
}

static void adam(net *m) {
    float c1 = 1 - powf(0.9f, (float)++m->t), c2 = 1 - powf(0.999f, (float)m->t), rate = 1e-3f / c1, scale = 1 / sqrtf(c2);
    float *restrict w = m->values, *restrict g = m->gradients, *restrict u = m->mean, *restrict v = m->square;
#pragma omp parallel for simd
    for (long i = 0; i < m->n; i++) {
        u[i] = 0.9f * u[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        w[i] -= rate * u[i] / (sqrtf(v[i]) * scale + 1e-8f);
    }
}

static float step(net *m) {
    for (int l = 0; l < LAYERS; l++) forward(m, l);
    float value = loss(m);
    for (int l = LAYERS - 1; l >= 0; l--) backward(m, l);
    adam(m);
    return value;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double block(net *m, int steps) {
    double start = now_ms();
    for (int i = 0; i < steps; i++) step(m);
    return (now_ms() - start) / steps;
}

int main(int argc, char **argv) {
    static net m;
    int        steps = 100, turns = 0;
    omp_set_num_threads(1);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc) omp_set_num_threads(atoi(argv[++i]));
        if (!strcmp(argv[i], "--steps") && i + 1 < argc) steps = atoi(argv[++i]);
        if (!strcmp(argv[i], "--turns")) turns = 1;
    }
    make(&m);
    double best = INFINITY;
    float  first = step(&m);
    for (int i = 1; i < WARM_UP; i++) step(&m);
    if (turns) {
        printf("{\"engine\": \"C by hand\", \"first_loss\": %.6f}\n", (double)first);
        fflush(stdout);
        for (int c; (c = getchar()) != EOF;) {
            if (c != '\n') continue;
            step(&m);
            printf("{\"ms\": %.6g}\n", block(&m, steps));
            fflush(stdout);
        }
    } else {
        for (int i = 0; i < BLOCKS; i++) best = fmin(best, block(&m, steps));
        printf("{\"engine\": \"C by hand\", \"ms\": %.6g, \"first_loss\": %.6f, \"last_loss\": %.6f}\n", best, (double)first,
               (double)step(&m));
    }
    return 0;
}
