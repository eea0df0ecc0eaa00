/* attrs.h: the operators' blocks of attributes, which kernels read too. No pointers and no padding: they are hashed as bytes. */
#ifndef NB_ATTRS_H
#define NB_ATTRS_H

#include "nabla.h"

/* elementwise rows: two parameters of the formula (slope, bounds ...). */
typedef struct nb__scalars {
    double p, q;
} nb__scalars;

typedef struct nb__cast_attr {
    int64_t dtype;
} nb__cast_attr;

/* full (p), arange (p + q i), linspace (from p to q), eye, uniform (from p to q), normal (mean p, std q) */
typedef struct nb__create_attr {
    int64_t dtype;
    nb_dims shape;
    double  p, q;
} nb__create_attr;

/* reductions keep the axes with size 1; the constructors reshape */
typedef struct nb__axes_attr {
    nb_dims axes; /* positive, ascending */
} nb__axes_attr;

typedef struct nb__axis_attr {
    int64_t axis;
} nb__axis_attr;

/* reshape, permute, expand */
typedef struct nb__dims_attr {
    nb_dims dims;
} nb__dims_attr;

/* y[i] = x[start + i step], along every axis; size: of the result */
typedef struct nb__slice_attr {
    nb_dims start, step, size;
} nb__slice_attr;

/* its adjoint: zeros of `shape` with the operand's elements at start + i step */
typedef struct nb__slice_grad_attr {
    nb__slice_attr slice;
    nb_dims        shape;
} nb__slice_grad_attr;

typedef struct nb__one_hot_attr {
    int64_t classes, dtype;
} nb__one_hot_attr;

typedef struct nb__pad_attr {
    nb_dims before, after;
    double  value;
} nb__pad_attr;

/* conv2d and its adjoints; every entry is set. other: shape of the result of an adjoint */
typedef struct nb__conv_attr {
    int64_t stride[2], before[2], after[2], dilation[2], groups;
    nb_dims other;
} nb__conv_attr;

/* pools; every entry is set. out: height and width of the result; other: shape of the image, for the adjoint */
typedef struct nb__pool_attr {
    int64_t size[2], stride[2], padding[2], dilation[2], out[2], exclude_padding, adaptive;
    nb_dims other;
} nb__pool_attr;

/* Window i of a pool along one axis of an image of `size`: elements first, first + dilation ... before last; `whole` of them
 * count in an average with padding. As PyTorch: what ceil_mode adds on the right beyond the padding does not count. */
typedef struct nb__window {
    int64_t first, last, whole;
} nb__window;

static inline nb__window nb__pool_window(const nb__pool_attr *a, int axis, int64_t size, int64_t i) {
    if (a->adaptive) {
        int64_t first = i * size / a->out[axis], last = ((i + 1) * size + a->out[axis] - 1) / a->out[axis];
        return (nb__window){first, last, last - first};
    }
    int64_t step = a->dilation[axis], first = i * a->stride[axis] - a->padding[axis];
    int64_t last = first + (a->size[axis] - 1) * step + 1;
    int64_t end = size + a->padding[axis], whole = (last < end ? last : end) - first;
    if (first < 0) first += (-first + step - 1) / step * step;
    return (nb__window){first, last < size ? last : size, whole};
}

/* A max pool's index: place (r, c) of a window, rows and columns counted from the window's first within an image of `size`, has
 * the number r pitch(1) + c, below pitch(0) pitch(1): a byte is enough for most windows. This is the pitch along one axis. */
static inline int64_t nb__pool_pitch(const nb__pool_attr *a, int axis, int64_t size) {
    int64_t most = a->size[axis];
    if (a->adaptive) most = a->out[axis] > 0 ? (size + a->out[axis] - 1) / a->out[axis] + 1 : 1;
    return most < size ? most : size;
}

static inline nb_dtype nb__pool_index_dtype(const nb__pool_attr *a, int64_t height, int64_t width) {
    return nb__pool_pitch(a, 0, height) * nb__pool_pitch(a, 1, width) <= 256 ? NB_U8 : NB_I32;
}

#endif
