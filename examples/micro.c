/* micro.c: a whole autograd engine on single numbers, and a net that it trains. Nothing of Nabla is used here; Nabla is this idea
 * for arrays, with derivatives that are graphs themselves.
 *
 * The idea. Every number remembers which numbers it was made from (its parents), and the derivative of itself by each of them
 * (the local derivatives, known the moment it is made). The derivative of the last number by any other is the sum, over all paths
 * between the two, of the products of the local derivatives along the path: the chain rule. One walk from the last number back to
 * the first does all these sums together. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct value {
    double        data;         /* the number itself */
    double        grad;         /* d(last number) / d(this one), once backward has been here */
    struct value *parent[2];    /* what it was made from */
    double        local[2];     /* d(this one) / d(parent) */
    int           visited;      /* parents that the walk below has gone to */
    struct value *child, *next; /* the walk's way back, and the order it finds */
} value;

/* All values lie on a tape, in the order in which they were made. Cutting the tape frees everything behind the cut at once. */
typedef struct tape {
    value *at;
    int    n, room;
} tape;

static value *make(tape *t, double data, value *a, double da, value *b, double db) {
    if (t->n == t->room) {
        fprintf(stderr, "error: more than %d values\n", t->room);
        exit(2);
    }
    value *v = &t->at[t->n++];
    *v = (value){.data = data, .parent = {a, b}, .local = {da, db}};
    return v;
}

/* An operator is one line: its value, and its local derivatives. */
static value *number(tape *t, double x) { return make(t, x, NULL, 0, NULL, 0); }
static value *add(tape *t, value *a, value *b) { return make(t, a->data + b->data, a, 1, b, 1); }
static value *mul(tape *t, value *a, value *b) { return make(t, a->data * b->data, a, b->data, b, a->data); }
static value *relu(tape *t, value *a) { return make(t, fmax(a->data, 0), a, a->data > 0, NULL, 0); }

/* All values that `last` depends on, children before their parents. The walk goes deep first, but by a loop, not by recursion:
 * `child` leads back to where it came from, so that a chain of a million values needs no deep stack. A value is put in front once
 * all its parents are in the list: so it comes before them, and after everything that was made from it. */
static value *sort(value *last) {
    value *order = NULL, *v = last;
    v->child = NULL;
    while (v) {
        if (v->visited < 2) {
            value *p = v->parent[v->visited++];
            if (!p || p->visited > 0) continue; /* none there, or seen already */
            p->child = v;
            v = p;
        } else {
            v->next = order;
            order = v;
            v = v->child;
        }
    }
    return order;
}

/* The chain rule: each value passes its gradient on to its parents, which add up what comes from all their children. */
static void backward(value *last) {
    value *order = sort(last);
    for (value *v = order; v; v = v->next) v->grad = v->visited = 0;
    last->grad = 1;
    for (value *v = order; v; v = v->next)
        for (int i = 0; i < 2; i++)
            if (v->parent[i]) v->parent[i]->grad += v->local[i] * v->grad;
}

/* ---- a net with two hidden layers: every neuron is relu(w.x + b), the last one without relu */

enum { LAYERS = 3, WIDEST = 16, POINTS = 100, STEPS = 200, ROOM = 1 << 17 };
static const int width[LAYERS + 1] = {2, 16, 16, 1};

static double uniform(unsigned *seed) { /* in [0, 1): a linear congruential generator, the same everywhere */
    *seed = *seed * 1664525u + 1013904223u;
    return *seed / 4294967296.0;
}

/* The parameters are the first values on the tape: for each layer, for each neuron, its weights and its bias. */
static int make_parameters(tape *t, unsigned *seed) {
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < width[l + 1] * (width[l] + 1); i++) {
            int is_bias = i % (width[l] + 1) == width[l];
            number(t, is_bias ? 0 : (2 * uniform(seed) - 1) * sqrt(3.0 / width[l]));
        }
    return t->n;
}

static value *score(tape *t, double point[2]) {
    value *x[WIDEST] = {number(t, point[0]), number(t, point[1])}, *y[WIDEST], *w = t->at;
    for (int l = 0; l < LAYERS; l++) {
        for (int o = 0; o < width[l + 1]; o++) {
            value *sum = w + width[l]; /* the bias */
            for (int i = 0; i < width[l]; i++) sum = add(t, sum, mul(t, w + i, x[i]));
            y[o] = l < LAYERS - 1 ? relu(t, sum) : sum;
            w += width[l] + 1;
        }
        for (int o = 0; o < width[l + 1]; o++) x[o] = y[o];
    }
    return x[0];
}

/* Mean of max(0, 1 - label score), the hinge loss of a support vector machine, and a little weight decay. */
static value *loss_of(tape *t, int n_parameters, double point[][2], double *label, int *right) {
    value *sum = number(t, 0), *decay = number(t, 0);
    *right = 0;
    for (int i = 0; i < POINTS; i++) {
        value *s = score(t, point[i]);
        sum = add(t, sum, relu(t, add(t, number(t, 1), mul(t, number(t, -label[i]), s))));
        *right += (s->data > 0) == (label[i] > 0);
    }
    for (int i = 0; i < n_parameters; i++) decay = add(t, decay, mul(t, t->at + i, t->at + i));
    return add(t, mul(t, sum, number(t, 1.0 / POINTS)), mul(t, decay, number(t, 1e-4)));
}

/* Two half circles that reach into each other, with some noise. */
static void make_moons(double point[][2], double *label, unsigned *seed) {
    for (int i = 0; i < POINTS; i++) {
        double angle = 3.14159265358979 * uniform(seed), up = i % 2 ? 1 : -1;
        point[i][0] = (up > 0 ? cos(angle) : 1 - cos(angle)) + 0.2 * (uniform(seed) - 0.5);
        point[i][1] = (up > 0 ? sin(angle) : 0.5 - sin(angle)) + 0.2 * (uniform(seed) - 0.5);
        label[i] = up;
    }
}

int main(void) {
    double   point[POINTS][2], label[POINTS];
    unsigned seed = 1;
    int      right = 0;
    tape     t = {.at = malloc(ROOM * sizeof(value)), .room = ROOM};
    if (!t.at) return 2;
    make_moons(point, label, &seed);
    int n = make_parameters(&t, &seed);
    for (int step = 0; step <= STEPS; step++) {
        t.n = n; /* the tape is cut: only the parameters stay */
        value *loss = loss_of(&t, n, point, label, &right);
        backward(loss);
        for (int i = 0; i < n; i++) t.at[i].data -= 0.5 * t.at[i].grad; /* downhill */
        if (step % 20 == 0) printf("step %3d   loss %.4f   right %3d of %d\n", step, loss->data, right, POINTS);
    }
    printf("accuracy %.2f\n", (double)right / POINTS);
    free(t.at);
    return 0;
}
