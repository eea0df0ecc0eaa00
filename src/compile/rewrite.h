/* rewrite.h: what the files of rules share. A round reads the old list of nodes from the first to the last and builds a new
 * one; a rule says what stands for a node there. Operands come before users in the old list, hence in the new one too,
 * whatever rules add. */
#ifndef NB_REWRITE_H
#define NB_REWRITE_H

#include "ops.h"
#include "program.h"

/* What a round may do beside merging equal nodes. Each level adds to those before; the next begins when nothing is left to do. */
enum {
    NB__MERGE,    /* nothing else: a constant is then computed once */
    NB__LOCAL,    /* rules that look at a node and its operands */
    NB__PARTS,    /* sums of parts become concats */
    NB__PRODUCTS, /* sums of products become one product; norms are folded into weights */
    NB__LAST,     /* products with zeros, which are terms of the sums above; max pools go before what norms leave behind; tables
                   * are multiplied instead of rows chosen from them; weights take the order of flattened images; squares around a
                   * mean are added up together with it */
    NB__LEVELS
};

typedef struct nb__rewrite {
    nb_program     *p;
    bool            merge;
    int             level;
    bool            changed;
    int             n_old;
    const nb__node *old;
    int            *users;     /* of each old node: operands of living nodes, roots, assigns, checks */
    int            *user;      /* the last of them, -1 for others than nodes */
    int            *to;        /* old number -> new number */
    int             n, room;
    nb__node       *node;              /* the new list */
    int            *next;              /* of each new node: the next in its bucket, -1 */
    int            *joined, *position; /* of each new node: the concat that holds it, -1; as which operand */
    int            *bucket;
    size_t          n_buckets;
    const nb__node *from;      /* the old node that is rewritten: what is made for it carries its scope */
    nb__arena       memory[2]; /* of this round and the last, by turns */
    int             turn;
    int            *terms; /* room for 2 n_old + 2 numbers, for rules */
} nb__rewrite;

/* Zeroed memory for this round and the next; NULL: the context has failed. */
void *nb__round_alloc(nb__rewrite *r, size_t size);
/* A node of the new list, or an equal one that is there already, or what the rules make of it. -1: no memory, the context
 * has failed. */
int nb__emit(nb__rewrite *r, const nb__node *node);
/* A new node of an operator; attr is copied. */
int nb__make(nb__rewrite *r, const nb_op *op, int n_in, const int *in, nb_dtype dtype, nb_dims shape, const void *attr);
int nb__make_reshape(nb__rewrite *r, int of, nb_dims shape);
int nb__make_permute(nb__rewrite *r, int of, nb_dims axes);
int nb__make_slice(nb__rewrite *r, int of, int axis, int64_t start, int64_t size);
int nb__make_concat(nb__rewrite *r, int n, const int *in, int axis);
int nb__make_sum(nb__rewrite *r, int n, const int *in); /* in[0] + in[1] + ...: one shape */
/* A value at every place, in no memory; `element` lives as long as the program. */
int nb__make_splat(nb__rewrite *r, nb_dtype dtype, nb_dims shape, const void *element);
int nb__make_number(nb__rewrite *r, nb_dtype dtype, nb_dims shape, double value);
/* Zeros that stand for "nothing": sums leave them out. */
int nb__make_zeros(nb__rewrite *r, nb_dtype dtype, nb_dims shape);

bool    nb__swaps_matrix(const nb__node *n);        /* a permute that swaps the two axes of a matrix */
/* The one axis along which a slice of `shape` with steps of 1 takes a part; rank when it takes all; -1: more than one axis,
 * or steps. */
int nb__part_axis(const nb__slice_attr *a, nb_dims shape);

/* The rules: what stands for the node instead, or -1. Those on nodes are given operands of the new list; those on numbers,
 * an old one. */
int nb__views_rule(nb__rewrite *r, const nb__node *n);   /* views.c */
int nb__algebra_rule(nb__rewrite *r, const nb__node *n); /* algebra.c */
int nb__fold_rule(nb__rewrite *r, const nb__node *n);    /* constants.c */
int nb__sums_rule(nb__rewrite *r, int old);              /* sums.c */
int nb__products_rule(nb__rewrite *r, int n, int *term,
                      const bool *once);    /* products.c: of the terms of a sum; how many are left */
int nb__norm_rule(nb__rewrite *r, int old); /* norms.c */
int nb__pool_rule(nb__rewrite *r, int old); /* pools.c */
int nb__lookup_rule(nb__rewrite *r, int old); /* lookups.c */
int nb__flatten_rule(nb__rewrite *r, int old); /* flatten.c */
int nb__moments_rule(nb__rewrite *r, int old); /* moments.c */

#endif
