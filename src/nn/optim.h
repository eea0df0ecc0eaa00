/* optim.h: between the optimisers' common part (optim.c) and their formulas (optimizers.c). */
#ifndef NB_OPTIM_H
#define NB_OPTIM_H

#include "nn.h"

enum { NB__SLOTS = 3, NB__FACTORS = 3 };

/* One parameter and what goes with it. */
typedef struct nb__entry {
    nb_tensor *w, *slot[NB__SLOTS];
    double     rate_scale, weight_decay;
} nb__entry;

/* What the formula of one parameter sees, and what it makes. */
typedef struct nb__turn {
    nb_context         *nb;
    const nb_optimizer *o;
    const nb__entry    *entry;
    nb_tensor          *rate, *t;            /* f64 numbers: the rate of this group; the step, counted from 1 */
    nb_tensor          *factor[NB__FACTORS]; /* numbers of the parameter's type, made by `factors` */
    nb_tensor          *next[NB__SLOTS];     /* new contents of the slots */
} nb__turn;

/* An optimiser: its formula and the names of its slots ("0.weight.m"); an unused slot has no tensor. */
typedef struct nb__rule {
    nb_op       op; /* a composition: name and formula */
    const char *slots[NB__SLOTS];
    bool        decoupled; /* weight decay is the formula's business; else it is added to the gradient */
    /* Numbers that parameters of a group share, so that there are few nodes. */
    void (*factors)(nb__turn *turn);
    /* The parameter after the step. */
    nb_tensor *(*update)(nb__turn *turn, nb_tensor *w, nb_tensor *g);
} nb__rule;

struct nb_optimizer {
    nb_context     *nb;
    const nb__rule *rule;
    int             n;
    nb__entry      *entries;
    nb_tensor      *rate, *steps;                    /* kept: f64, i64 */
    double          clip_norm, clip_value, max_norm; /* 0: none */
    union {                                          /* options of the rule, defaults filled in */
        nb_sgd_options     sgd;
        nb_rmsprop_options rmsprop;
        nb_adagrad_options adagrad;
        nb_adam_options    adam;
    } set;
};

/* An option of the rule that is not in [0, limit) is an error. */
void nb__optimizer_check(nb_optimizer *o, const char *option, double value, double limit);
/* slots: which of the rule's are used, and their first contents. NULL after an error. */
nb_optimizer *nb__optimizer_new(nb_list parameters, double rate, const nb__rule *rule, double weight_decay);
void          nb__optimizer_slot(nb_optimizer *o, int slot, double value);
nb_optimizer *nb__optimizer_end(nb_optimizer *o);

#endif
