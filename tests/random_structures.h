/* random_structures.h: pieces of real nets for random graphs: what samples of single operators do not bring together. Part of
 * random_graph.h. Each returns one more node. */

/* Around the widths of vectors, and small ones. */
static int64_t some_size(builder *b) {
    static const int64_t edge[] = {7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
    return chance(b, 0.25) ? edge[below(b, sizeof edge / sizeof *edge)] : 1 + below(b, 6);
}

static nb_dims some_shape(builder *b, int rank) {
    nb_dims d = {.rank = rank};
    for (int i = 0; i < rank; i++) d.size[i] = some_size(b);
    while (nb__dims_count(d) > LARGEST)
        for (int i = 0; i < rank; i++) d.size[i] = (d.size[i] + 1) / 2;
    return d;
}

static nb_tensor *number(builder *b, double v) { return nb_number(b->nb, v); }

static nb_tensor *activation(builder *b, nb_tensor *x) {
    switch (below(b, 6)) {
    case 0: return nb_relu(x);
    case 1: return nb_tanh(x);
    case 2: return nb_sigmoid(x);
    case 3: return nb_gelu_tanh(x);
    case 4: return nb_silu(x);
    default: return x;
    }
}

/* An operand of a random shape, or a node as it is. */
static nb_tensor *something(builder *b) {
    nb_tensor *x = any_node(b);
    if (chance(b, 0.5) && x->shape.rank && nb_count(x)) return bounded(b, x);
    return operand(b, some_shape(b, 1 + (int)below(b, 4)));
}

/* Softmax and its kin, and norms, along one axis or the last ones, with what makes up their chains of reductions and elementwise
 * work. */
static nb_tensor *rows(builder *b) {
    nb_tensor *x = something(b);
    int64_t    axis = chance(b, 0.6) ? x->shape.rank - 1 : below(b, x->shape.rank);
    nb_dims    a = nb_axes(axis);
    if (x->shape.rank > 2 && chance(b, 0.3)) a = nb_axes(x->shape.rank - 2, x->shape.rank - 1);
    switch (below(b, 8)) {
    case 0: x = nb_softmax(x, (int)axis); break;
    case 1: x = nb_log_softmax(x, (int)axis); break;
    case 2: x = nb_sub(x, nb_logsumexp(x, a, true)); break;
    case 3: x = nb_exp(nb_sub(x, nb_max(x, a, true))), x = nb_div(x, nb_sum(x, a, true)); break;
    case 4: x = nb_div(x, nb_add(nb_norm(x, 2, a, true), number(b, 0.5))); break;
    case 5: x = nb_mul(x, nb_rsqrt(nb_add(nb_mean(nb_square(x), a, true), number(b, 0.1)))); break;
    case 6: x = nb_mul(nb_sub(x, nb_mean(x, a, true)), nb_sigmoid(nb_sum(x, a, true))); break;
    default: x = nb_mul(nb_sub(x, nb_mean(x, a, true)), nb_rsqrt(nb_add(nb_var(x, a, true, 0), number(b, 0.1))));
    }
    if (chance(b, 0.5)) {
        nb_dims last = nb_shape(nb_size(x, -1));
        x = nb_add(nb_mul(x, operand(b, last)), operand(b, last));
    }
    return chance(b, 0.3) ? activation(b, x) : x;
}

/* A norm over a middle axis, seen through a permute, for a scan and for elementwise work. */
static nb_tensor *middle_norm(builder *b, nb_tensor *x) {
    nb_dims order = {.rank = x->shape.rank};
    int     last = (int)order.rank - 1;
    for (int i = 0; i <= last; i++) order.size[i] = i;
    if (last >= 2) order.size[last] = last - 1, order.size[last - 1] = last;
    nb_tensor *y = nb_permute(x, order);
    nb_dims    a = nb_axes(last >= 2 ? 1 + below(b, last - 1) : last);
    y = nb_mul(nb_sub(y, nb_mean(y, a, true)), nb_rsqrt(nb_add(nb_var(y, a, true, 0), number(b, 0.1))));
    if (chance(b, 0.3)) return y;
    return nb_add(nb_cumsum(y, 1 + (int)below(b, last)), nb_tanh(y));
}

static nb_tensor *middle(builder *b) { return middle_norm(b, operand(b, some_shape(b, 3 + (int)below(b, 2)))); }

/* Statistics of columns (a batch norm, a bias gradient), that feed back into the elements or stand by themselves. */
static nb_tensor *columns(builder *b) {
    nb_tensor *x = operand(b, some_shape(b, 2 + (int)below(b, 3)));
    nb_dims    a = nb_axes(0);
    if (x->shape.rank == 4)
        a = nb_axes(0, 2, 3);
    else if (x->shape.rank == 3 && chance(b, 0.5))
        a = nb_axes(0, 1);
    nb_tensor *m = nb_mean(x, a, true), *y = nb_sub(x, m);
    switch (below(b, 4)) {
    case 0: y = nb_mul(y, nb_rsqrt(nb_add(nb_mean(nb_square(y), a, true), number(b, 0.1)))); break;
    case 1: y = nb_mul(y, nb_rsqrt(nb_add(nb_var(x, a, true, 0), number(b, 0.1)))); break;
    case 2: return nb_sum(nb_mul(activation(b, y), x), a, chance(b, 0.5));
    default: y = nb_add(y, nb_max(x, a, true));
    }
    return activation(b, y);
}

/* One value read by elements, by sums of rows and by sums of columns, as in the backward part of a layer norm. */
static nb_tensor *both_ways(builder *b) {
    nb_tensor *x = operand(b, some_shape(b, 2)), *y = nb_mul(x, nb_mean(x, nb_axes(1), true));
    nb_tensor *z = nb_mul(y, nb_sigmoid(nb_mean(nb_mul(x, y), nb_axes(0), true)));
    return chance(b, 0.5) ? nb_add(z, y) : nb_sum(nb_mul(z, x), nb_axes(below(b, 2)), false);
}

static nb_tensor *a_loss(builder *b) {
    int64_t      n = some_size(b), classes = 2 + some_size(b);
    nb_tensor   *x = nb_mul(operand(b, nb_shape(n, classes)), number(b, 3)), *t = operand(b, nb_shape(n, classes));
    nb_sampler   s = {b->nb, real, integer, b};
    nb_tensor   *label = integer(&s, NB_I64, 0, classes, nb_shape(n));
    nb_reduction r = (nb_reduction)below(b, 3);
    switch (below(b, 8)) {
    case 0: return nb_cross_entropy(x, label, NULL);
    case 1: return nb_cross_entropy(x, label, &(nb_class_options){.reduction = r, .label_smoothing = 0.1});
    case 2: return nb_cross_entropy(x, label, &(nb_class_options){.reduction = NB_REDUCE_SUM, .ignore = true, .ignore_index = 1});
    case 3: return nb_mse(x, t, r);
    case 4: return nb_huber(x, t, 1, r);
    case 5: return nb_binary_cross_entropy_logits(x, nb_sigmoid(t), r);
    case 6: return nb_kl_divergence(nb_log_softmax(x, 1), nb_softmax(t, 1), r);
    default: return nb_nll(nb_log_softmax(x, 1), label, &(nb_class_options){.reduction = r});
    }
}

/* x_t, h, c -> h, c of an LSTM, unrolled; the products of all x_t at once or one by one. */
static nb_tensor *recurrence(builder *b) {
    int64_t    T = 2 + below(b, 4), N = 1 + below(b, 4), D = 1 + below(b, 5), H = 1 + below(b, 5);
    nb_tensor *x = operand(b, nb_shape(T, N, D)), *w = operand(b, nb_shape(4 * H, D)), *u = operand(b, nb_shape(4 * H, H));
    nb_tensor *bias = operand(b, nb_shape(4 * H)), *h = nb_zeros(b->nb, b->real, nb_shape(N, H)), *c = h, *all[8];
    bool       at_once = chance(b, 0.5), joined = chance(b, 0.3);
    nb_tensor *xw = at_once ? nb_linear(x, w, bias) : NULL, *wu = joined ? nb_concat(nb_list_of(b->nb, w, u), 1) : NULL;
    for (int64_t t = 0; t < T; t++) {
        nb_tensor *xt = nb_squeeze(nb_slice(at_once ? xw : x, 0, t, t + 1, 1), nb_axes(0)), *z;
        if (at_once)
            z = nb_add(xt, nb_matmul(h, nb_transpose(u, 0, 1)));
        else if (joined)
            z = nb_linear(nb_concat(nb_list_of(b->nb, xt, h), 1), wu, bias);
        else
            z = nb_add(nb_linear(xt, w, bias), nb_linear(h, u, NULL));
        nb_list gate = nb_split(z, 1, H);
        c = nb_add(nb_mul(nb_sigmoid(gate.at[1]), c), nb_mul(nb_sigmoid(gate.at[0]), nb_tanh(gate.at[2])));
        h = all[t] = nb_mul(nb_sigmoid(gate.at[3]), nb_tanh(c));
    }
    if (chance(b, 0.4)) return h;
    nb_list hs = nb_list_from(b->nb, (int)T, all);
    return chance(b, 0.5) ? nb_stack(hs, (int)below(b, 2)) : nb_concat(hs, 1);
}

static nb_tensor *attention(builder *b) {
    int64_t    N = 1 + below(b, 3), T = 1 + below(b, 6), heads = 1 + below(b, 3), d = 1 + below(b, 4), E = heads * d;
    nb_tensor *x = operand(b, nb_shape(N, T, E)),
              *qkv = nb_linear(x, operand(b, nb_shape(3 * E, E)), operand(b, nb_shape(3 * E)));
    nb_tensor *part[3];
    for (int i = 0; i < 3; i++) {
        nb_tensor *p = nb_slice(qkv, 2, i * E, (i + 1) * E, 1);
        part[i] = nb_permute(nb_reshape(p, nb_shape(N, T, heads, d)), nb_axes(0, 2, 1, 3));
    }
    nb_tensor *score = nb_mul(nb_matmul(part[0], nb_transpose(part[1], 2, 3)), number(b, 0.7)),
              *ones = nb_ones(b->nb, b->real, nb_shape(T, T));
    if (chance(b, 0.4))
        score = nb_where(nb_greater(nb_tril(ones, 0), number(b, 0.5)), score, number(b, -INFINITY));
    else if (chance(b, 0.5))
        score = nb_add(score, nb_mul(nb_triu(ones, 1), number(b, -1e4)));
    nb_tensor *p = nb_softmax(score, 3);
    if (chance(b, 0.2)) p = nb_dropout(p, number(b, 0.3));
    nb_tensor *y = nb_reshape(nb_permute(nb_matmul(p, part[2]), nb_axes(0, 2, 1, 3)), nb_shape(N, T, E));
    return chance(b, 0.5) ? nb_add(x, nb_linear(y, operand(b, nb_shape(E, E)), NULL)) : y;
}

static nb_tensor *image_norm(builder *b, nb_tensor *x) {
    int64_t    C = x->shape.size[1];
    nb_dims    a = nb_axes(0, 2, 3), channel = nb_shape(1, C, 1, 1);
    nb_tensor *y = nb_mul(nb_sub(x, nb_mean(x, a, true)), nb_rsqrt(nb_add(nb_var(x, a, true, 0), number(b, 0.1))));
    return nb_add(nb_mul(y, operand(b, channel)), operand(b, channel));
}

/* Convolutions with norms, activations, pools and residuals between them. */
static nb_tensor *image(builder *b) {
    int64_t    N = 1 + below(b, 3), C = 1 + below(b, 5), H = 3 + below(b, 7), W = 3 + below(b, 7), O = 1 + below(b, 5);
    nb_tensor *x = operand(b, nb_shape(N, C, H, W)), *in = x;
    int        layers = 1 + (int)below(b, 2);
    for (int i = 0; i < layers; i++) {
        int64_t           k = chance(b, 0.5) ? 3 : 1, c = x->shape.size[1], o = chance(b, 0.4) ? c : O;
        nb_conv2d_options pad = {.padding = {k / 2, k / 2}, .stride = {1 + below(b, 2), 1}};
        if (o == c) pad.stride[0] = 1;
        nb_tensor *before = x;
        x = nb_conv2d(x, operand(b, nb_shape(o, c, k, k)), chance(b, 0.5) ? operand(b, nb_shape(o)) : NULL, &pad);
        if (chance(b, 0.4)) x = image_norm(b, x);
        if (o == c && chance(b, 0.4)) x = nb_add(x, before);
        x = chance(b, 0.5) ? nb_relu(x) : activation(b, x);
        if (nb_size(x, 2) >= 2 && nb_size(x, 3) >= 2 && chance(b, 0.6)) {
            nb_pool2d_options two = {.size = {2, 2}};
            x = chance(b, 0.7) ? nb_max_pool2d(x, &two) : nb_avg_pool2d(x, &two);
        }
    }
    if (chance(b, 0.3))
        x = nb_flatten(x, 1, -1);
    else if (chance(b, 0.2))
        x = nb_mean(x, nb_axes(2, 3), false);
    else if (nb__dims_equal(x->shape, in->shape))
        x = nb_add(x, in);
    return x;
}

static nb_tensor *dense(builder *b) {
    int64_t    n = some_size(b), k = some_size(b), h = some_size(b), m = some_size(b);
    nb_tensor *x = operand(b, nb_shape(n, k)), *w = operand(b, nb_shape(h, k));
    nb_tensor *y = chance(b, 0.5) ? nb_linear(x, w, operand(b, nb_shape(h))) : nb_matmul(x, nb_transpose(w, 0, 1));
    y = activation(b, y);
    if (chance(b, 0.2)) y = nb_dropout(y, number(b, 0.25));
    if (chance(b, 0.6)) y = nb_matmul(y, operand(b, nb_shape(h, m)));
    if (chance(b, 0.3)) y = nb_add(y, operand(b, nb_shape(nb_size(y, 0), 1)));
    return chance(b, 0.3) ? nb_sum(y, nb_axes(0), false) : y;
}

/* Joined along an axis and taken apart at other places. */
static nb_tensor *seams(builder *b) {
    nb_dims    shape = some_shape(b, 2);
    int        axis = (int)below(b, 2), n = 2 + (int)below(b, 3);
    nb_tensor *part[5];
    for (int i = 0; i < n; i++) {
        nb_dims d = shape;
        d.size[axis] = 1 + below(b, 9);
        part[i] = chance(b, 0.5) ? activation(b, operand(b, d)) : operand(b, d);
        if (i && chance(b, 0.2)) part[i] = part[i - 1];
    }
    nb_tensor *y = nb_concat(nb_list_from(b->nb, n, part), axis);
    int64_t    size = nb_size(y, axis), half = (size + 1) / 2;
    switch (below(b, 4)) {
    case 0: return nb_mul(nb_slice(y, axis, 0, half, 1), nb_slice(y, axis, size - half, size, 1));
    case 1: return nb_sub(y, nb_mean(y, nb_axes(axis), true));
    case 2: return nb_pad(nb_slice(y, axis, 0, half, 1), nb_shape(1, 0), nb_shape(0, 2), 0.5);
    default: return y;
    }
}

/* A row of views of a computed node, then elementwise work, a sum, a product or nothing. */
static nb_tensor *views(builder *b) {
    nb_tensor *x = something(b);
    for (int64_t i = 1 + below(b, 4); i-- > 0;) {
        int     rank = (int)x->shape.rank;
        int64_t axis = rank ? below(b, rank) : 0, size = rank ? x->shape.size[axis] : 1;
        switch (rank ? below(b, 6) : 5) {
        case 0: x = nb_transpose(x, (int)axis, (int)below(b, rank)); break;
        case 1: x = nb_flip(x, nb_axes(axis)); break;
        case 2: x = nb_slice(x, (int)axis, below(b, size), NB_END, 1 + below(b, 2)); break;
        case 3: x = nb_slice(x, (int)axis, size - 1, -size - 1, -1 - below(b, 2)); break;
        case 4: x = nb_reshape(x, nb_shape(nb_count(x))); break;
        default:
            if (rank < 4 && nb_count(x) < 1000) {
                nb_dims d = {.rank = rank + 1, .size = {1 + below(b, 3)}};
                memcpy(d.size + 1, x->shape.size, (size_t)rank * sizeof *d.size);
                x = nb_expand(x, d);
            }
        }
    }
    switch (x->shape.rank ? below(b, 4) : 0) {
    case 0: return x;
    case 1: return nb_sum(x, nb_axes(below(b, x->shape.rank)), false);
    case 2: return nb_mul(x, nb_sigmoid(nb_mean(x, nb_axes(-1), true)));
    default: return activation(b, nb_add(x, operand(b, nb_shape_of(x))));
    }
}

/* Rows of a table, with the rows of another in their order. */
static nb_tensor *embedding(builder *b) {
    int64_t    V = 2 + below(b, 9), N = 1 + below(b, 3), T = 1 + below(b, 5), D = some_size(b);
    nb_sampler s = {b->nb, real, integer, b};
    nb_tensor *index = integer(&s, chance(b, 0.5) ? NB_I64 : NB_I32, 0, V, nb_shape(N, T));
    nb_tensor *x = nb_index_select(operand(b, nb_shape(V, D)), 0, index);
    return nb_add(x, nb_slice(operand(b, nb_shape(T + 2, D)), 0, 0, T, 1));
}

/* The sum over t of A_t^T B_t over slices of two buffers, as a recurrent weight gradient. */
static nb_tensor *sum_of_products(builder *b) {
    int64_t    T = 2 + below(b, 4), N = 1 + below(b, 4), m = some_size(b), n = some_size(b);
    nb_tensor *a = operand(b, nb_shape(T, N, m)), *c = operand(b, nb_shape(T, N, n)), *sum = NULL;
    bool       down = chance(b, 0.5);
    for (int64_t i = 0; i < T; i++) {
        int64_t    t = down ? T - 1 - i : i;
        nb_tensor *at = nb_squeeze(nb_slice(a, 0, t, t + 1, 1), nb_axes(0)),
                  *ct = nb_squeeze(nb_slice(c, 0, t, t + 1, 1), nb_axes(0));
        nb_tensor *p = nb_matmul(nb_transpose(at, 0, 1), ct);
        sum = sum ? nb_add(sum, p) : p;
    }
    return sum;
}

static nb_tensor *choice(builder *b) {
    nb_dims    shape = some_shape(b, 1 + (int)below(b, 3));
    nb_tensor *condition = nb_less(exact_operand(b, shape), exact_operand(b, shape));
    if (chance(b, 0.3)) condition = nb_and(condition, nb_not(nb_greater(exact_operand(b, shape), number(b, 0.5))));
    return nb_where(condition, operand(b, shape), activation(b, operand(b, shape)));
}

/* More elements than one tile or one thread takes. */
static nb_tensor *large(builder *b) {
    if (!chance(b, 0.2)) return NULL;
    nb_tensor *x = operand(b, nb_shape(40 + below(b, 300), 20 + below(b, 300))), *y = activation(b, x);
    switch (below(b, 4)) {
    case 0: y = nb_softmax(y, 1); break;
    case 1: y = nb_sub(y, nb_mean(y, nb_axes(0), true)); break;
    case 2: y = nb_mul(y, nb_mean(nb_mul(x, y), nb_axes(1), true)); break;
    default: y = nb_add(nb_mul(y, x), nb_transpose(operand(b, nb_shape(nb_size(x, 1), nb_size(x, 0))), 0, 1));
    }
    return nb_mean(y, nb_axes(below(b, 2)), false);
}

static nb_tensor *(*const structures[])(builder *b) = {rows,   rows,  columns, both_ways, a_loss, recurrence, attention,
                                                       image,  image, dense,   seams,     views,  embedding,  sum_of_products,
                                                       choice, large, middle};
enum { STRUCTURES = sizeof structures / sizeof *structures };
