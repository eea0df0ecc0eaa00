/* text.h: a text that grows, and the look that all pictures share. */
#ifndef NB_DRAW_TEXT_H
#define NB_DRAW_TEXT_H

#include "nabla.h"

/* Grows as needed. Without memory the context fails, and what is added later is dropped: one look at the end is enough. */
typedef struct nb__text {
    nb_context *nb;
    char       *at;
    size_t      used, room;
    bool        failed;
} nb__text;

void  nb__add(nb__text *t, const char *format, ...) NB_PRINTF(2, 3);
void  nb__add_escaped(nb__text *t, const char *words); /* for labels of graphviz, which are like HTML */
void  nb__add_shape(nb__text *t, nb_dims shape);       /* 64x10, or "scalar" */
void  nb__add_count(nb__text *t, int64_t n);           /* 1,234,567 */
char *nb__text_end(nb__text *t);                       /* the text, or NULL after an error */

/* Opens a picture that flows in a direction ("LR", "TB"). */
void nb__add_head(nb__text *t, const char *direction);

#define NB__INK "#333333"
#define NB__GREY "#808080"
#define NB__FORWARD "color=\"#3b6fb6\" fillcolor=\"#e6eefa\""
#define NB__BACKWARD "color=\"#d9822b\" fillcolor=\"#fdf0e0\""
#define NB__KEPT "color=\"#4c9a52\" fillcolor=\"#e8f5e9\""

/* values.c: the picture of a small graph with the numbers in it. */
char *nb__draw_values(nb_context *nb, nb_list nodes, nb_list roots, const nb_draw_options *options);

#endif
