/* nn.h: what the files of this folder share: layers, and the reader of the net language.
 *
 * A layer's block (in dense.c, conv.c, norm.c ...) holds all there is to it: its struct, how it is applied, its constructor, and
 * how its words in the net language are read. Adding one: such a block, its row in words.def, its prototype in nabla/nn.h. */
#ifndef NB_NN_H
#define NB_NN_H

#include "nabla.h"

bool nb__same_shape(nb_dims a, nb_dims b);

/* An option where 0 means the default and NB_NONE a true zero. */
double nb__or(double value, double otherwise);

/* ------------------------------------------------------------------------------------------------------------------ layers -- */

enum {
    NB__NAME_SIZE = 64,  /* a layer's own name, with its end */
    NB__MAX_NESTING = 32 /* layers in layers */
};

typedef enum nb__role {
    NB__WEIGHT, /* trained */
    NB__BUFFER, /* kept with the net, not trained: running values */
    NB__SETTING /* neither: a dropout's p */
} nb__role;

typedef struct nb__slot {
    nb_tensor  *tensor;
    const char *name; /* "weight": constant text */
    nb__role    role;
} nb__slot;

typedef struct nb__layer_kind {
    const char *type; /* "conv2d" */
    size_t      size; /* of its struct, whose first member is an nb_layer */
    nb_tensor *(*apply)(nb_layer *layer, nb_tensor *x, nb_mode mode);
    void (*free)(nb_layer *layer); /* of what else it holds; NULL: nothing */
} nb__layer_kind;

struct nb_layer {
    nb_context           *nb;
    const nb__layer_kind *kind;
    const char           *type; /* of activations and custom layers more exact than kind->type */
    char                  name[NB__NAME_SIZE];
    bool                  is_named; /* by the user: a parent leaves it */
    bool                  is_root;  /* of a net */
    bool                  frozen;
    bool                  takes_indices; /* whole numbers */
    nb_layer             *parent, **inside;
    int                   place, n_inside, height; /* place: in the parent; height: of layers inside layers below */
    nb__slot             *slots;
    int                   n_slots;
    nb_dims               output;      /* of the last apply, with the batch */
    uint64_t              first, last; /* serials: its nodes of that apply are above the first, up to the last */
};

/* Construction, in this order; each step does nothing after an error, and nb__layer_end gives NULL then. */
nb_layer  *nb__layer_begin(nb_context *nb, const nb__layer_kind *kind, int n_slots, int n_inside);
nb_tensor *nb__layer_slot(nb_layer *layer, const char *name, nb__role role, nb_dims shape, double value); /* the next one, f32 */
void       nb__layer_adopt(nb_layer *layer, int place, nb_layer *child, const char *name);
nb_layer  *nb__layer_end(nb_layer *layer);

/* one after the other, without numbers; frees them after an error */
nb_layer *nb__layer_group(nb_context *nb, const char *type, int n, nb_layer *const *layers);
bool      nb__is_number(const char *name); /* no letter but digits: only layers without a name have such */
void      nb__layer_free(nb_layer *layer); /* that belongs to its context, at once */
nb_layer *nb__layer_next(const nb_layer *top, const nb_layer *at); /* layers below top, parents first; NULL after the last */
/* The layer's place below `top` (NULL: from the outermost, that one's name included), "2.0": ends where `text` ends. */
void nb__layer_path(const nb_layer *layer, const nb_layer *top, char separator, char *text, size_t size);

nb_net *nb__net_new(nb_context *nb, nb_layer *root, nb_dims input, const char *text);

/* Initial values of PyTorch's linear and convolution layers: +-1/sqrt(fan_in) for both. */
void nb__init_weight_and_bias(nb_tensor *weight, nb_tensor *bias);

/* -------------------------------------------------------------------------------------------------------- the net language -- */

typedef struct nb__argument {
    const char *key, *value; /* in the text, not terminated; key NULL: given by place */
    int         key_length, value_length;
    bool        used;
} nb__argument;

enum { NB__MAX_ARGUMENTS = 12 };

typedef struct nb__reader {
    nb_context  *nb;
    const char  *text, *at;
    const char  *word; /* of the layer being read: where it stands */
    int          word_length, place;
    const char  *usage;
    nb_dims      shape; /* of one item, so far */
    nb_tensor   *x;     /* a value that would be there: [1, shape] */
    nb_tensor   *input; /* that of the whole net */
    nb__argument arguments[NB__MAX_ARGUMENTS];
    int          n_arguments;
    const char  *known[NB__MAX_ARGUMENTS]; /* names that were asked for: suggestions */
    int          n_known, depth;
    nb_layer   **made; /* a stack: of nested lists too */
    int          n_made, n_layers; /* n_layers: in all so far */
    bool         failed;
} nb__reader;

/* Fails with the message, which names the layer being read, the line of the text and a mark below `where`. */
void nb__read_error(nb__reader *r, const char *where, const char *format, ...) NB_PRINTF(3, 4);
/* What a word's reader asks for: an argument by place (or by name), or an option by name. Out of range or unreadable is an
 * error. */
int64_t nb__read_size(nb__reader *r, const char *name);                                            /* by place, 1 or more */
void    nb__read_pair(nb__reader *r, const char *name, int64_t pair[2]);                           /* by place: 3, or 3x5 */
double  nb__read_real(nb__reader *r, const char *name, double otherwise, double low, double high); /* by place or not given */
double  nb__read_probability(nb__reader *r);                                /* p, by place: 0.5; in [0,1) */
bool    nb__option_word(nb__reader *r, const char *name, const char *word); /* is it there? No other value is taken. */
void    nb__option_pair(nb__reader *r, const char *name, int64_t low, int64_t pair[2]);
bool    nb__option_pair_or(nb__reader *r, const char *name, int64_t low, int64_t pair[2], const char *word); /* is it the word? */
int64_t nb__option_size(nb__reader *r, const char *name, int64_t otherwise);
double  nb__option_real(nb__reader *r, const char *name, double otherwise, double low, double high);
bool    nb__option_flag(nb__reader *r, const char *name, bool otherwise); /* yes or no */
/* The item must have that many axes; `remedy` says what to do else. */
bool nb__read_rank(nb__reader *r, int low, int high, const char *remedy);
bool nb__read_channels(nb__reader *r); /* an item's first axis is channels: not [steps,features] */
/* The items must be whole numbers: the net's own become such, if no layer came before. */
bool nb__read_indices(nb__reader *r);
/* "[32,14,14]", in memory of the caller */
const char *nb__shape_text(nb_dims shape, char *text, size_t size);

bool nb__is_word(const char *name, int length); /* of any layer */
/* A word that is no row of its own: activations. -1: unknown. */
int         nb__activation_find(const char *name, int length);
const char *nb__activation_name(int i); /* NULL after the last */
const char *nb__activation_usage(int i);
nb_layer   *nb__read_activation(nb__reader *r, int i);

/* The words' readers: NULL after an error. */
#define WORD(word, type, usage, about) nb_layer *nb__read_##word(nb__reader *r);
#include "words.def"
#undef WORD

#endif
