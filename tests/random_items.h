/* random_items.h: random graphs of a batch whose items keep apart, as nets at rest: programs of these run in blocks (blocks.c).
 * Part of random_graph.h. Some join their items after all: then the program runs as a whole. */

/* As [N,...], whatever it was: but for what items were cut from. */
static nb_tensor *by_items(const builder *b, nb_tensor *x) {
    int64_t items = b->leaf[0]->shape.size[0];
    return nb_count(x) % items ? x : nb_reshape(x, nb_shape(items, nb_count(x) / items));
}

/* A node from the pool with x's shape, or what broadcasts to it: the same for all items. */
static nb_tensor *partner(builder *b, nb_tensor *x) {
    for (int tries = 0; tries < 4; tries++) {
        nb_tensor *y = b->pool[below(b, b->n_pool)];
        if (nb__dims_equal(x->shape, y->shape)) return y;
    }
    nb_dims d = x->shape;
    d.size[0] = 1;
    if (chance(b, 0.5)) return nb_full(b->nb, b->real, d, 0.75);
    if (d.rank < 2) return number(b, 0.5);
    nb_tensor *rest = fit(b, b->param[below(b, PARAMS)], nb_shape(d.size[d.rank - 1]));
    return chance(b, 0.5) ? rest : nb_tanh(rest);
}

static nb_tensor *lasting(builder *b, nb_dims shape) { return nb_sin(fit(b, b->param[below(b, PARAMS)], shape)); }

/* Of [N,C,H,W]. */
static nb_tensor *image_of_items(builder *b, nb_tensor *x) {
    nb_pool2d_options two = {.size = {2, 2}};
    nb_conv2d_options pad = {.padding = {1, 1}, .stride = {1 + below(b, 2), 1}};
    const nb_dims     d = x->shape;
    bool              is_small = d.size[2] < 2 || d.size[3] < 2;
    switch (below(b, is_small ? 2 : 4)) {
    case 0: return nb_conv2d(x, lasting(b, nb_shape(1 + below(b, 4), d.size[1], 3, 3)), NULL, &pad);
    case 1: return nb_mean(x, nb_axes(2, 3), chance(b, 0.5));
    case 2: return nb_max_pool2d(x, &two);
    default: return nb_avg_pool2d(x, &two);
    }
}

/* Views, as rank > 1. */
static nb_tensor *view_of_items(builder *b, nb_tensor *x) {
    nb_dims d = x->shape;
    int     rank = (int)d.rank, axis = 1 + (int)below(b, rank - 1);
    int64_t size = d.size[axis], n = d.size[0] ? nb_count(x) / d.size[0] : 0;
    switch (below(b, 8)) {
    case 0: return rank > 2 ? nb_transpose(x, axis, 1 + (int)below(b, rank - 1)) : x;
    case 1: return nb_reshape(x, nb_shape(d.size[0], n));
    case 2: return nb_reshape(x, nb_shape(d.size[0] * d.size[1], n / d.size[1])); /* several rows an item */
    case 3: return n % 2 ? by_items(b, x) : nb_reshape(x, nb_shape(d.size[0], 2, 1, n / 2));
    case 4: return n % 2 ? x : nb_reshape(x, nb_shape(d.size[0], 1, 2, n / 2));
    case 5: return nb_slice(x, axis, below(b, size), NB_END, 1 + below(b, 2));
    case 6: return nb_flip(x, nb_axes(axis));
    default: d.size[axis] = 1 + below(b, 3); return nb_expand(nb_slice(x, axis, 0, 1, 1), d);
    }
}

static nb_tensor *join_items(builder *b, nb_tensor *x) {
    switch (below(b, 6)) {
    case 0: return nb_sub(x, nb_mean(x, nb_axes(0), true));
    case 4: return nb_add(x, lasting(b, x->shape)); /* of each item, but no input */
    case 5: return nb_softmax(x, 0);
    case 1: return nb_cumsum(x, 0);
    case 2: return nb_flip(x, nb_axes(0));
    default: return nb_slice(x, 0, 1, NB_END, 1);
    }
}

static nb_tensor *grow_items(builder *b, nb_tensor *x) {
    int     rank = (int)x->shape.rank, axis = rank > 1 ? 1 + (int)below(b, rank - 1) : 0;
    int64_t last = x->shape.size[rank - 1];
    if (chance(b, b->joins)) return join_items(b, x);
    if (rank == 1) return chance(b, 0.5) ? by_items(b, x) : activation(b, nb_mul(x, partner(b, x)));
    if (rank == 4 && chance(b, 0.4)) return image_of_items(b, x);
    switch (below(b, 12)) {
    case 0: return nb_add(activation(b, x), partner(b, x));
    case 1: return nb_mul(partner(b, x), bounded(b, x));
    case 2: return nb_where(nb_less(nb_arange(b->nb, b->real, 0, (double)last, 1), number(b, 2)), x, partner(b, x));
    case 3: {
        int64_t m = 1 + below(b, 9);
        return nb_linear(x, lasting(b, nb_shape(m, last)), chance(b, 0.5) ? lasting(b, nb_shape(m)) : NULL);
    }
    case 4: return chance(b, 0.5) ? nb_sum(x, nb_axes(axis), chance(b, 0.5)) : nb_max(x, nb_axes(axis), chance(b, 0.5));
    case 5: return nb_softmax(x, axis);
    case 6: return middle_norm(b, x);
    case 7: return nb_concat(nb_list_of(b->nb, x, activation(b, x)), axis);
    case 8: return rank > 2 ? nb_matmul(x, nb_transpose(bounded(b, x), -2, -1)) : nb_cumsum(x, axis);
    case 9: return rank > 2 ? nb_attention(x, nb_tanh(x), x, &(nb_attention_options){.causal = chance(b, 0.5)}) : x;
    default: return view_of_items(b, x);
    }
}

/* Results for each item: no gradients, no assigns. */
static nb_list build_items(builder *b) {
    nb_tensor *root[4];
    int        size = 3 + (int)below(b, 20), n = 1 + (int)below(b, 4);
    int64_t    items = 2 + below(b, 70), widest = 1 + below(b, 12);
    b->joins = chance(b, 0.3) ? 0.1 : 0;
    make_params(b, 1 + below(b, 6));
    for (int i = 0; i < LEAVES; i++) {
        nb_dims d = {.rank = 2 + below(b, 3), .size = {items, 1 + below(b, widest), 1 + below(b, 4), 1 + below(b, 4)}};
        b->leaf[i] = b->pool[b->n_pool++] = make_leaf(b, d);
    }
    for (int i = 0; i < size && b->n_pool < POOL && !nb_error(b->nb); i++) {
        nb_tensor *y = grow_items(b, any_node(b));
        if (nb_count(y) > LARGEST) y = nb_slice(nb_reshape(y, nb_shape(y->shape.size[0], -1)), 1, 0, 3, 1);
        if (!nb_error(b->nb) && nb_count(y)) b->pool[b->n_pool++] = bounded(b, y);
    }
    for (int i = 0; i < n; i++) root[i] = i ? any_node(b) : b->pool[b->n_pool - 1];
    if (chance(b, 0.2) && root[0]->shape.rank > 1) root[0] = nb_argmax(exact_operand(b, b->leaf[0]->shape), 1, false);
    return nb_list_from(b->nb, n, root);
}
