/* images.c: images of arrays that are not channels-last, turned one by one: in the cache, right before or after their use. */
#include "images.h"

#include "numbers.h"

bool nb__is_channels_last(const nb_array *a) {
    static const int order[] = {1, 3, 2, 0};
    int64_t          step = 1;
    for (int i = 0; i < 4; i++) {
        if (a->shape[order[i]] != 1 && a->stride[order[i]] != step) return false;
        step *= a->shape[order[i]];
    }
    return true;
}

nb__copy nb__images_copy(const nb__isa *isa, const nb_array *a, bool back) {
    nb_array one = *a, dense = *a;
    nb__copy c;
    one.shape[0] = dense.shape[0] = 1;
    dense.stride[1] = 1;
    dense.stride[3] = a->shape[1];
    dense.stride[2] = a->shape[1] * a->shape[3];
    dense.stride[0] = dense.stride[2] * a->shape[2];
    nb__copy_make(isa->move, back ? &one : &dense, back ? &dense : &one, nb__array_bytes(back ? a : &one), &c);
    if (c.is_transposition && !c.streams) { /* few planes at a time, from one end to the other */
        c.rows /= divide_up(c.space.shape[c.across], c.block);
        c.block = c.space.shape[c.across];
    }
    return c;
}

void nb__copy_images(const nb__copy *c, const nb_array *a, int64_t first, int64_t n, float *dense, bool back) {
    int64_t size = a->shape[1] * a->shape[2] * a->shape[3];
    for (int64_t i = first; i < first + n; i++, dense += size) {
        float *image = (float *)a->data + i * a->stride[0];
        nb__copy_rows(c, back ? image : dense, back ? dense : image, 0, c->rows);
    }
}
