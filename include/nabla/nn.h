/* nabla/nn.h: nets and what trains them. Included by nabla.h; made of its operators, nothing else.
 *
 * In option structs 0 means the default, and NULL options are all defaults. Where a true zero is wanted though the default is
 * another number, write NB_NONE. Parameters are laid out and drawn as PyTorch's: after nb_seed(nb, s) a layer made here has the
 * weights that the same module has after torch.manual_seed(s) (uniform laws bit for bit, normal ones to 1e-6). */
#ifndef NABLA_NN_H
#define NABLA_NN_H
#ifdef __cplusplus
extern "C" {
#endif

#define NB_NONE (-1.0)

/* ---------------------------------------------------------------------------------------------------------- initial values -- */

/* Each fills a kept F tensor. Random ones draw from the context's Mersenne Twister (nb_seed). fan_in and fan_out are, for a
 * weight [O, I, k...], I prod k and O prod k. All return false when the context has failed. */
typedef enum nb_fan { NB_FAN_IN, NB_FAN_OUT } nb_fan;

NB_API bool nb_init_zeros(nb_tensor *t);
NB_API bool nb_init_ones(nb_tensor *t);
NB_API bool nb_init_constant(nb_tensor *t, double value);
NB_API bool nb_init_uniform(nb_tensor *t, double low, double high);
NB_API bool nb_init_normal(nb_tensor *t, double mean, double std);
/* the law cut to [low, high] */
NB_API bool nb_init_truncated_normal(nb_tensor *t, double mean, double std, double low, double high);
NB_API bool nb_init_xavier_uniform(nb_tensor *t, double gain); /* +-gain sqrt(6/(fan_in + fan_out))   Glorot & Bengio, 2010 */
NB_API bool nb_init_xavier_normal(nb_tensor *t, double gain);  /* std gain sqrt(2/(fan_in + fan_out)) */
NB_API bool nb_init_kaiming_uniform(nb_tensor *t, double gain, nb_fan fan); /* +-gain sqrt(3/fan)     He et al., 2015 */
NB_API bool nb_init_kaiming_normal(nb_tensor *t, double gain, nb_fan fan);  /* std gain/sqrt(fan) */
NB_API bool nb_init_lecun_uniform(nb_tensor *t);               /* +-sqrt(3/fan_in)                    LeCun et al., 1998 */
NB_API bool nb_init_lecun_normal(nb_tensor *t);                /* std 1/sqrt(fan_in) */
NB_API bool nb_init_orthogonal(nb_tensor *t, double gain);     /* rows (or columns) orthonormal; from the QR of a normal
                                                                  matrix   Saxe et al., 2013 */
NB_API bool nb_init_identity(nb_tensor *t);                    /* a matrix with ones on the diagonal */
NB_API bool nb_init_dirac(nb_tensor *t, int64_t groups);       /* a convolution that passes its channels through */
NB_API double nb_gain(const char *activation, double slope);   /* "linear" 1, "relu" sqrt 2, "leaky_relu" (of slope), "tanh"
                                                                  5/3, "selu" 3/4, "sigmoid" 1; NaN: unknown */

/* ------------------------------------------------------------------------------------------------------------------ layers -- */

typedef struct nb_layer nb_layer;
typedef enum nb_mode { NB_EVAL, NB_TRAIN } nb_mode;

/* A layer belongs to its context; one put into another (sequential, residual, net) belongs to that. Constructors return NULL only
 * after an error of the context; NULL may be passed on to any function here, which then does nothing. */
NB_API nb_layer *nb_layer_linear(nb_context *nb, int64_t in, int64_t out, bool bias);
/* DropConnect: the weights dropped with probability p in training. */
NB_API nb_layer *nb_layer_dropconnect(nb_context *nb, int64_t in, int64_t out, bool bias, double p);
NB_API nb_layer *nb_layer_conv2d(nb_context *nb, int64_t in, int64_t out, int64_t kernel_height, int64_t kernel_width, bool bias,
                                 const nb_conv2d_options *options);
NB_API nb_layer *nb_layer_max_pool2d(nb_context *nb, const nb_pool2d_options *options);
NB_API nb_layer *nb_layer_avg_pool2d(nb_context *nb, const nb_pool2d_options *options);
NB_API nb_layer *nb_layer_adaptive_avg_pool2d(nb_context *nb, int64_t height, int64_t width);
NB_API nb_layer *nb_layer_adaptive_max_pool2d(nb_context *nb, int64_t height, int64_t width);

/* y = (x - mean) / sqrt(var + eps) gamma + beta over all axes but 1. Training uses the batch's mean and (biased) variance and
 * updates running ones, running += momentum (batch - running), the variance there unbiased; evaluation uses the running ones.
 * Only programs (nb_run) update them: nb_eval computes y alone.
 *     gamma, beta, running_mean, running_var [features]             Ioffe & Szegedy, Batch Normalization, 2015 */
typedef struct nb_norm_options {
    double eps;      /* 1e-5 */
    double momentum; /* 0.1; batch norm only */
    bool   plain;    /* without gamma and beta */
} nb_norm_options;
NB_API nb_layer *nb_layer_batch_norm(nb_context *nb, int64_t features, const nb_norm_options *options);
/* The same formula over the last axes, whose sizes are `shape`; no running values.    Ba et al., Layer Normalization, 2016 */
NB_API nb_layer *nb_layer_layer_norm(nb_context *nb, nb_dims shape, const nb_norm_options *options);

/* Layers over sequences [N,T,features]. The first takes whole numbers, i64 or i32, of any shape, and gives each its row of a
 * table; the second adds a learned row to each step. Tables are drawn from the normal law. */
NB_API nb_layer *nb_layer_embedding(nb_context *nb, int64_t count, int64_t features); /* weight [count,features]: [...] ->
                                                                                         [...,features] */
NB_API nb_layer *nb_layer_positions(nb_context *nb, int64_t steps, int64_t features); /* weight [steps,features]; T up to steps */
/* nb_lstm: [N,T,in] -> [N,T,hidden]; weight_ih_l0 [4 hidden,in], weight_hh_l0 [4 hidden,hidden], bias_ih_l0, bias_hh_l0 [4
 * hidden]. */
NB_API nb_layer *nb_layer_lstm(nb_context *nb, int64_t in, int64_t hidden, bool bias);
/* Self-attention by several heads, each with features/heads of the features; causal: a step sees itself and those before it.
 *     in_proj_weight [3 features,features] (q, k, v), in_proj_bias, out_proj.weight, out_proj.bias, as
 *     torch.nn.MultiheadAttention */
NB_API nb_layer *nb_layer_attention(nb_context *nb, int64_t features, int64_t heads, bool causal, bool bias);
/* x + self_attn(norm1(x)), then x + linear2(gelu_tanh(linear1(norm2(x)))); hidden 0: 4 features. The tensors are called as in
 * torch.nn.TransformerEncoderLayer with norm_first.
 * Xiong et al., On Layer Normalization in the Transformer Architecture, 2020 */
NB_API nb_layer *nb_layer_transformer(nb_context *nb, int64_t features, int64_t heads, int64_t hidden, bool causal);

NB_API nb_layer *nb_layer_dropout(nb_context *nb, double p);
NB_API nb_layer *nb_layer_dropout_channels(nb_context *nb, double p);
NB_API nb_layer *nb_layer_flatten(nb_context *nb); /* [N, ...] -> [N, product] */
NB_API nb_layer *nb_layer_prelu(nb_context *nb, int64_t features); /* 1 slope, or one a channel; 0.25 at first */
/* relu leaky_relu elu selu gelu gelu_tanh silu softplus softsign hardtanh hardsigmoid hardswish mish sigmoid tanh softmax
 * log_softmax. parameter: the slope of leaky_relu (0.01), alpha of elu (1); 0 is that default. softmax is along axis 1, of
 * sequences [N,T,features] along the last. */
NB_API nb_layer *nb_layer_activation(nb_context *nb, const char *name, double parameter);
NB_API nb_layer *nb_layer_residual(nb_context *nb, nb_layer *inner); /* x + inner(x) */
NB_API nb_layer *nb_layer_sequential(nb_context *nb, int n, nb_layer *const *layers);
/* A layer of your own: apply builds nodes, state (may be NULL) are kept tensors that it uses, the first n_trainable of them
 * trained. They and the user data then belong to the layer, and live as long; free_user may be NULL. */
typedef nb_tensor *nb_layer_function(nb_list state, nb_tensor *x, nb_mode mode, void *user);
NB_API nb_layer *nb_layer_custom(nb_context *nb, const char *type, nb_layer_function *apply, nb_list state, int n_trainable,
                                 void *user, void (*free_user)(void *user));

NB_API nb_tensor  *nb_layer_apply(nb_layer *layer, nb_tensor *x, nb_mode mode);
NB_API const char *nb_layer_type(const nb_layer *layer);   /* "conv2d" */
NB_API const char *nb_layer_name(const nb_layer *layer);   /* within its parent: "3", or what nb_layer_set_name gave */
NB_API void        nb_layer_set_name(nb_layer *layer, const char *name);   /* with a letter in it, and unlike its siblings' */
NB_API int         nb_layer_count(const nb_layer *layer);  /* of layers inside */
NB_API nb_layer   *nb_layer_at(nb_layer *layer, int i);
NB_API nb_layer   *nb_layer_find(nb_layer *layer, const char *path); /* "block.conv1"; NULL if there is none */
NB_API nb_list     nb_layer_parameters(nb_layer *layer);   /* trainable and not frozen, in PyTorch's order, "0.weight" ...; of
                                                              NULL {0,NULL} */
NB_API nb_list     nb_layer_state(nb_layer *layer);        /* all parameters and buffers (running values); of NULL {0,NULL} */
/* It and all inside; batch norm then uses its running values. Before the optimiser is made, which trains what nb_layer_parameters
 * gave. */
NB_API void        nb_layer_freeze(nb_layer *layer, bool frozen);
/* f64 or f32 (as made) for all tensors of a layer and of those inside: new kept tensors, so before graphs and optimisers use
 * them. */
NB_API bool        nb_layer_cast(nb_layer *layer, nb_dtype dtype);

/* -------------------------------------------------------------------------------------------------------------------- nets -- */

typedef struct nb_net nb_net;

/* A net from text, one layer after the other: "conv 32 3 pad=1, batchnorm, relu, maxpool 2, flatten, linear 10". input is the
 * shape of one item, without the batch; items are whole numbers if the first layer is embedding. nb_net_language is the grammar.
 * Errors quote the text and point at the character. */
NB_API nb_net     *nb_net_parse(nb_context *nb, const char *text, nb_dims input);
NB_API nb_net     *nb_net_new(nb_context *nb, nb_layer *root, nb_dims input); /* around a layer, which then belongs to the net */
NB_API void        nb_net_free(nb_net *net); /* before nb_close; its tensors are released */
NB_API const char *nb_net_language(void);
NB_API const char *nb_net_preset(const char *name); /* the text of "mlp", "cnn", "lenet", "lstm", "gpt-s", "gpt-m"; NULL:
                                                       unknown */
NB_API nb_dims     nb_net_preset_input(const char *name); /* the shape of one item that it is meant for; rank -1: unknown */

NB_API nb_tensor  *nb_net_apply(nb_net *net, nb_tensor *x, nb_mode mode); /* x [N, input...] */
NB_API nb_layer   *nb_net_root(nb_net *net);
NB_API nb_context *nb_net_context(const nb_net *net);
NB_API nb_list     nb_net_parameters(nb_net *net); /* as of its root; of NULL {0,NULL} */
NB_API nb_list     nb_net_state(nb_net *net);
NB_API nb_dims     nb_net_input(const nb_net *net);  /* one item */
NB_API nb_dtype    nb_net_input_dtype(nb_net *net); /* i64 when the first layer is an embedding, else as its tensors */
NB_API nb_dims     nb_net_output(nb_net *net);       /* one item; rank -1 after an error */
NB_API const char *nb_net_text(const nb_net *net);   /* what it was parsed from, or "" */

/* One row of a summary, of the i-th leaf layer. */
typedef struct nb_layer_info {
    const char *path, *type;
    nb_dims     output;       /* one item */
    int64_t     parameters;   /* elements */
    int64_t     trainable;
    double      flops;        /* forward, one item; multiply and add are two */
    int64_t     bytes;        /* of its output, one item */
} nb_layer_info;
NB_API int           nb_net_layer_count(nb_net *net);
NB_API nb_layer_info nb_net_layer_info(nb_net *net, int i);

/* ------------------------------------------------------------------------------------------------------------------ losses -- */

typedef enum nb_reduction { NB_REDUCE_MEAN, NB_REDUCE_SUM, NB_REDUCE_NONE } nb_reduction;

typedef struct nb_class_options {
    nb_reduction reduction;       /* mean divides by the sum of the weights used */
    nb_tensor   *class_weights;   /* [C], or NULL */
    double       label_smoothing; /* cross-entropy only; in [0,1) */
    bool         ignore;          /* items with the label ignore_index count for nothing, even if their scores are NaN */
    int64_t      ignore_index;
} nb_class_options;

/* -log softmax(logits)[target]:  logits [N,C] or [N,C,...]   target i64 or i32 [N] or [N,...] -> scalar (or target's shape) */
NB_API nb_tensor *nb_cross_entropy(nb_tensor *logits, nb_tensor *target, const nb_class_options *options);
NB_API nb_tensor *nb_nll(nb_tensor *log_probabilities, nb_tensor *target, const nb_class_options *options); /* -log p[target] */
/* Share of the items whose largest score is the target's, f32: scores [N,C]   target [N]. Not differentiable. */
NB_API nb_tensor *nb_accuracy(nb_tensor *scores, nb_tensor *target);
/* target in [0,1], of x's shape and type. Logs are clamped at -100 in the first, as PyTorch does. */
NB_API nb_tensor *nb_binary_cross_entropy(nb_tensor *p, nb_tensor *target, nb_reduction reduction);
/* max(x,0) - x t + log(1 + e^-|x|) */
NB_API nb_tensor *nb_binary_cross_entropy_logits(nb_tensor *x, nb_tensor *target, nb_reduction reduction);
NB_API nb_tensor *nb_hinge(nb_tensor *x, nb_tensor *target, nb_reduction reduction);         /* max(0, 1 - t x), t is -1 or 1 */
NB_API nb_tensor *nb_squared_hinge(nb_tensor *x, nb_tensor *target, nb_reduction reduction); /* its square */
/* sum_{j != t} max(0, margin - x_t + x_j)^p / C, p 1 or 2; scores [N,C]    Weston & Watkins, 1999 */
NB_API nb_tensor *nb_multi_class_hinge(nb_tensor *scores, nb_tensor *target, int p, double margin, nb_reduction reduction);
NB_API nb_tensor *nb_mse(nb_tensor *x, nb_tensor *target, nb_reduction reduction);           /* (x - t)^2 */
NB_API nb_tensor *nb_mae(nb_tensor *x, nb_tensor *target, nb_reduction reduction);           /* |x - t| */
/* d = |x - t|: d < delta ? d^2/2 : delta (d - delta/2) */
NB_API nb_tensor *nb_huber(nb_tensor *x, nb_tensor *target, double delta, nb_reduction reduction);
/* p (log p - log_q), 0 where p is 0 */
NB_API nb_tensor *nb_kl_divergence(nb_tensor *log_q, nb_tensor *p, nb_reduction reduction);

/* ------------------------------------------------------------------------------------------------------------ regularisers -- */

/* Penalties to add to a loss: of parameters, or of activities. */
NB_API nb_tensor *nb_l1(nb_list tensors);                            /* sum |w| */
NB_API nb_tensor *nb_l2(nb_list tensors);                            /* sum w^2 / 2 */
NB_API nb_tensor *nb_elastic(nb_list tensors, double l1, double l2); /* l1 sum |w| + l2 sum w^2 / 2 */
/* w, each row (axis 0) scaled down to norm <= limit. For nb_assign; nb_optimizer_max_norm does it after each update. */
NB_API nb_tensor *nb_max_norm(nb_tensor *w, double limit);

/* -------------------------------------------------------------------------------------------------------------- optimisers -- */

/* An optimiser owns its rate, its step count and its slots as kept tensors, so that a program compiled once follows their
 * changes. It belongs to the context, until nb_optimizer_free. No parameter may be listed twice. Formulas as in torch.optim, g
 * being the gradient (plus weight_decay w where that is coupled). */
typedef struct nb_optimizer nb_optimizer;
NB_API void nb_optimizer_free(nb_optimizer *o); /* gives rate, step count and slots back: programs that use them keep their
                                                   storage */

typedef struct nb_sgd_options {
    double momentum, dampening; /* 0, 0:  v = momentum v + (1 - dampening) g,  w -= rate v */
    bool   nesterov;            /* w -= rate (g + momentum v) */
    double weight_decay;
} nb_sgd_options;
NB_API nb_optimizer *nb_sgd(nb_list parameters, double rate, const nb_sgd_options *options);

typedef struct nb_rmsprop_options {
    double alpha, eps, momentum; /* 0.99, 1e-8, 0:  s = alpha s + (1 - alpha) g^2,  w -= rate g / (sqrt(s) + eps) */
    bool   centered;             /* variance instead of s */
    double weight_decay;
} nb_rmsprop_options;
NB_API nb_optimizer *nb_rmsprop(nb_list parameters, double rate, const nb_rmsprop_options *options);

typedef struct nb_adagrad_options {
    double rate_decay, initial, eps; /* 0, 0, 1e-10:  s += g^2,  w -= rate/(1 + (t-1) rate_decay) g / (sqrt(s) + eps) */
    double weight_decay;
} nb_adagrad_options;
NB_API nb_optimizer *nb_adagrad(nb_list parameters, double rate, const nb_adagrad_options *options); /* Duchi et al., 2011 */

typedef struct nb_adam_options {
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-8 */
    double weight_decay;      /* nb_adam: coupled, 0.  nb_adamw: decoupled, 0.01 */
    bool   amsgrad;
} nb_adam_options;
NB_API nb_optimizer *nb_adam(nb_list parameters, double rate, const nb_adam_options *options);  /* Kingma & Ba, 2015 */
NB_API nb_optimizer *nb_adamw(nb_list parameters, double rate, const nb_adam_options *options); /* Loshchilov & Hutter, 2019 */

/* What follows is part of the graph that nb_update makes, and so comes before it.
 * A group: these parameters (some of the optimiser's) get the rate times rate_scale, and their own weight decay (NB_NONE: as
 * before). */
NB_API bool nb_optimizer_group(nb_optimizer *o, nb_list parameters, double rate_scale, double weight_decay);
/* Before the update: gradients scaled so that their common norm is at most `limit`; each entry cut to [-limit, limit]. */
NB_API void nb_optimizer_clip_norm(nb_optimizer *o, double limit);
NB_API void nb_optimizer_clip_value(nb_optimizer *o, double limit);
NB_API void nb_optimizer_max_norm(nb_optimizer *o, double limit); /* of rows, after each update, of parameters of rank 2 and
                                                                     more */

/* A training step, for nb_compile: the loss (result 0 of the program), then the assigns that change parameters and slots.
 * Gradients are watched (nb_watch). */
NB_API nb_list nb_update(nb_optimizer *o, nb_tensor *loss);
NB_API nb_list nb_update_with(nb_optimizer *o, nb_list gradients); /* the assigns alone, with gradients of your own, one a
                                                                      parameter */
NB_API bool    nb_optimizer_set_rate(nb_optimizer *o, double rate);         /* at any time; finite, not negative */
NB_API double  nb_optimizer_rate(nb_optimizer *o);
NB_API nb_list nb_optimizer_state(nb_optimizer *o); /* kept tensors with names: all there is to save; of NULL {0,NULL} */

/* --------------------------------------------------------------------------------------------------------------- schedules -- */

typedef enum nb_schedule_kind { NB_CONSTANT, NB_STEP, NB_EXPONENTIAL, NB_COSINE, NB_ONE_CYCLE } nb_schedule_kind;

/* The rate as a function of the step t = 0, 1, ... */
typedef struct nb_schedule {
    nb_schedule_kind kind;
    double           rate;    /* at the start; of one-cycle: at its peak */
    int64_t          steps;   /* in all: cosine and one-cycle end there; one-cycle of 1 or 0 is `rate` */
    int64_t          every;   /* step: rate gamma^floor(t/every);  exponential: rate gamma^(t/every).  0: steps/3 and 1 */
    double           gamma;   /* 0.1 for step, 0.95 for exponential */
    double           last;    /* cosine: rate at the end */
    int64_t          warm_up; /* steps of linear increase from rate/warm_up, before the rest (not for one-cycle) */
    double           peak_at; /* one-cycle: share of the steps before the peak, 0.3; starts at rate/25, ends at rate/25e4,
                                 cosine between
                                 Smith & Topin, Super-Convergence, 2018 */
} nb_schedule;
NB_API double nb_schedule_rate(const nb_schedule *s, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
