#!/usr/bin/env python3
"""The benchmark nets in JAX: one jitted step that takes and gives back parameters and optimiser state. cnn is without dropout."""
import os

import peer

args = peer.options(__doc__, ["jit"])
peer.pin(args.threads)  # XLA takes all cores it sees
if args.threads == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax

random = np.random.default_rng(1)


def uniform(bound, *shape):
    return random.uniform(-bound, bound, shape).astype(np.float32)


def linear(n_in, n_out, bias=True):
    bound = n_in ** -0.5
    return {"w": uniform(bound, n_in, n_out)} | ({"b": uniform(bound, n_out)} if bias else {})


def apply(p, x):
    y = x @ p["w"]
    return y + p["b"] if "b" in p else y


def norm(n):
    return {"scale": np.ones(n, np.float32), "shift": np.zeros(n, np.float32)}


def layer_norm(p, x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["shift"]


def dense_net(sizes):
    def forward(p, x):
        for layer in p[:-1]:
            x = jax.nn.relu(apply(layer, x))
        return apply(p[-1], x)

    return [linear(a, b) for a, b in zip(sizes, sizes[1:])], forward


def cnn():
    def conv(n_in, n_out):
        bound = (9 * n_in) ** -0.5
        return {"w": uniform(bound, 3, 3, n_in, n_out), "b": uniform(bound, n_out)} | norm(n_out)

    def block(p, x):  # images are NHWC, as XLA likes them
        x = jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"]
        if args.infer:  # with running statistics 0 and 1
            x = x * p["scale"] + p["shift"]
        else:
            mean, mean2 = x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))
            x = (x - mean) * jax.lax.rsqrt(mean2 - jnp.square(mean) + 1e-5) * p["scale"] + p["shift"]
        x = jax.nn.relu(x)
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))  # faster than reduce_window and its gradient

    def forward(p, x):
        x = block(p["conv2"], block(p["conv1"], x))
        x = jax.nn.relu(apply(p["fc1"], x.reshape(len(x), -1)))
        return apply(p["fc2"], x)

    return {"conv1": conv(1, 32), "conv2": conv(32, 64), "fc1": linear(3136, 128), "fc2": linear(128, 10)}, forward


def lstm():
    width = 256
    bound = width ** -0.5
    p = {"embedding": random.standard_normal((65, 64), np.float32), "head": linear(width, 65),
         "wx": uniform(bound, 64, 4 * width), "wh": uniform(bound, width, 4 * width), "b": uniform(bound, 4 * width)}

    def forward(p, x):
        gates = p["embedding"][x] @ p["wx"] + p["b"]  # of all steps at once

        def cell(carry, gate):
            h, c = carry
            i, f, g, o = jnp.split(gate + h @ p["wh"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], width))
        h = jax.lax.scan(cell, (zero, zero), gates.swapaxes(0, 1))[1]
        return apply(p["head"], h.swapaxes(0, 1))

    return p, forward


def gpt(blocks, heads, width, tokens):
    def block():
        return {"norm1": norm(width), "norm2": norm(width), "qkv": linear(width, 3 * width), "out": linear(width, width),
                "up": linear(width, 4 * width), "down": linear(4 * width, width)}

    p = {"embedding": random.standard_normal((65, width), np.float32), "positions": random.standard_normal((tokens, width), np.float32),
         "blocks": [block() for _ in range(blocks)], "norm": norm(width), "head": linear(width, 65, bias=False)}
    hidden = np.triu(np.ones((tokens, tokens), bool), 1)

    def attention(p, x):
        b, t, c = x.shape
        q, k, v = (part.reshape(b, t, heads, -1) for part in jnp.split(apply(p["qkv"], x), 3, -1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (c // heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(hidden, -jnp.inf, scores), -1)
        return apply(p["out"], jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, t, c))

    def forward(p, x):
        h = p["embedding"][x] + p["positions"]
        for b in p["blocks"]:
            h = h + attention(b, layer_norm(b["norm1"], h))
            h = h + apply(b["down"], jax.nn.gelu(apply(b["up"], layer_norm(b["norm2"], h)), approximate=True))
        return apply(p["head"], layer_norm(p["norm"], h))

    return p, forward


name = args.workload
if name in peer.TEXTS:
    tokens, words = peer.TEXTS[name]
    x, y = (random.integers(0, words, (args.batch, tokens)).astype(np.int32) for _ in range(2))
    parameters, forward = lstm() if name == "lstm" else gpt(*peer.GPTS[name], tokens)
else:
    shape = (28, 28, 1) if name == "cnn" else peer.IMAGES[name]
    x = random.standard_normal((args.batch, *shape), np.float32)
    y = random.integers(0, peer.CLASSES[name], args.batch).astype(np.int32)
    parameters, forward = cnn() if name == "cnn" else dense_net({"moons": (2, 16, 16, 2), "mlp": (784, 256, 128, 10)}[name])
parameters, x, y = jax.tree.map(jnp.asarray, (parameters, x, y))

if args.infer:
    call = jax.jit(forward)

    def step():
        return call(parameters, x)
else:
    optimizer = optax.sgd(0.01) if name == "moons" else optax.adamw(1e-3, weight_decay=0.01) if name in peer.GPTS else optax.adam(1e-3)

    def loss_of(p, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(forward(p, x), y).mean()

    def update(p, state, x, y):
        loss, grads = jax.value_and_grad(loss_of)(p, x, y)
        change, state = optimizer.update(grads, state, p)
        return optax.apply_updates(p, change), state, loss

    train, state = jax.jit(update, donate_argnums=(0, 1)), optimizer.init(parameters)

    def step():
        global parameters, state
        parameters, state, loss = train(parameters, state, x, y)
        return loss


peer.run(args, "jax " + jax.__version__, step, jax.block_until_ready, None if args.infer else float)
