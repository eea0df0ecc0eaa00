/* regions.h: groups of nodes that become steps: between fuse.c, which decides who joins, groups.c, which keeps the books, and
 * regions.c, which knows what may be a member by its shape and layout. */
#ifndef NB_REGIONS_H
#define NB_REGIONS_H

#include "program.h"

typedef struct nb__entry { /* a member of a group; a node may be in several */
    int      node, group, next, next_of_node;
    nb__part part;
} nb__entry;

typedef struct nb__group {
    bool     is_region; /* elementwise work and reductions; else one node of another kind */
    bool     is_late;   /* of the steps behind the point of no return */
    bool     lasts;     /* of lasting nodes; such a node may be a member of other regions too, but has its memory in none */
    nb_array space;     /* of FULL members */
    unsigned rows, columns;
    int      first_entry, n_nodes;
    int      n_operands; /* of its members, but for those that are members themselves: at least the arrays it reads */
    int      last;   /* place of its last node in the order */
    int      joined; /* the group that it became part of, or -1 */
    int      mark;   /* of walks */
} nb__group;

/* What a group becomes when the node that was looked at last joins it. */
typedef struct nb__change {
    bool     to_rows; /* FULL members become ROW: the node reduces a larger space to theirs */
    unsigned rows;
    nb_array space;
} nb__change;

typedef struct nb__reading {
    int node, operand;
} nb__reading;

typedef struct nb__fusion {
    nb_program  *p;
    int         *place;     /* of each node in the order */
    int         *first_use; /* of each node, in `use`: who reads it, one behind the other */
    nb__reading *use;
    int         *owner;    /* of each node: the group that computes and keeps it, or -1 */
    int         *entry_of; /* of each node: its first entry, or -1 */
    bool        *is_late, *is_result;
    nb__entry   *entry;
    nb__group   *group;
    int          n_entries, entry_room, n_groups, visit;
    nb__change   change;
    bool         failed; /* no memory */
} nb__fusion;

/* groups.c */
bool     nb__fusion_begin(nb__fusion *f);
int      nb__group_of(const nb__fusion *f, int group); /* after joins */
bool     nb__has_member(const nb__fusion *f, int group, int node);
nb__part nb__part_in(const nb__fusion *f, int group, int node); /* of a member */
void     nb__new_group(nb__fusion *f, int node, bool fuse);
void     nb__add_member(nb__fusion *f, int group, int node, nb__part part); /* that nb__can_be has allowed just before */
bool     nb__has_room(const nb__fusion *f, int group, int node);
bool     nb__can_join(const nb__fusion *f, int a, int b); /* one space, and room; whether one needs the other is not looked at */
void     nb__join(nb__fusion *f, int to, int from);

/* regions.c */
/* Whether a region can begin with node i, in which part; sets the group's space, rows and columns. */
bool nb__begin_region(const nb__fusion *f, nb__group *g, int i, nb__part *part);
/* The part of node i as operand of a member of the group, which reads it as node `seen`. False: it cannot be one. */
bool nb__part_for_use(nb__fusion *f, int group, int user, int operand, int seen, int i, nb__part *part);
/* Whether node i can be computed in that part (which may change it, and the group: f->change). */
bool nb__can_be(nb__fusion *f, int group, int i, nb__part *part);
/* Whether node i's memory lies as values of that part do. */
bool nb__lies_as(const nb__fusion *f, int group, int i, nb__part part);
/* Whether node i is elementwise work of a few cycles for which the group need read at most so many more large arrays. */
bool nb__is_cheap_for(const nb__fusion *f, int group, int i, int reads);
/* Whether a view shows all elements of the node it is based on, in their order. */
bool nb__shows_all(const nb_program *p, int view);

#endif
