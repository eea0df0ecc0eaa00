/* schedule.c: the learning rate as a plain function of the step, so that a resumed run needs no state of it. */
#include <math.h>

#include "nn.h"

/* From a to b along half a cosine, x from 0 to 1. */
static double half_cosine(double a, double b, double x) { return b + (a - b) * (1 + cos(M_PI * x)) / 2; }

/* Up to the peak and down again. Both ends of the first part count as steps, as in PyTorch's OneCycleLR. */
static double one_cycle(const nb_schedule *s, double t) {
    if (s->steps <= 1) return s->rate;
    double share = nb__or(s->peak_at, 0.3), first = s->rate / 25, last = s->rate / 25e4;
    double peak = share * (double)s->steps - 1, end = (double)s->steps - 1;
    if (t <= peak) return peak > 0 ? half_cosine(first, s->rate, t / peak) : s->rate;
    if (t >= end) return last;
    return half_cosine(s->rate, last, (t - peak) / (end - peak));
}

double nb_schedule_rate(const nb_schedule *s, int64_t step) {
    double  t = (double)step, steps = (double)s->steps;
    int64_t every = s->every;
    if (s->kind == NB_ONE_CYCLE) return one_cycle(s, t);
    if (step < s->warm_up) return s->rate * (t + 1) / (double)s->warm_up;
    t -= (double)s->warm_up;
    steps -= (double)s->warm_up;
    switch (s->kind) {
    case NB_STEP:
        if (every < 1) every = s->steps >= 3 ? s->steps / 3 : 1;
        return s->rate * pow(nb__or(s->gamma, 0.1), floor(t / (double)every));
    case NB_EXPONENTIAL: return s->rate * pow(nb__or(s->gamma, 0.95), t / (double)(every < 1 ? 1 : every));
    case NB_COSINE: return t >= steps ? s->last : half_cosine(s->rate, s->last, t / steps);
    case NB_CONSTANT:
    case NB_ONE_CYCLE: break;
    }
    return s->rate;
}
