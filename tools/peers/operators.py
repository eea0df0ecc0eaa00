#!/usr/bin/env python3
"""The cases of bench/cases.c in PyTorch or NumPy, the fastest plain way to write each. Takes orders from standard input as
build/bench/operators --turns does: "CASE SIZE" prepares, an empty line measures a block."""
import json
import sys
import time

ENGINE, THREADS = sys.argv[1], int(sys.argv[2])
MATRICES = {1000: (10, 100), 100000: (100, 1000), 10000000: (10000, 1000)}
IMAGES = {1000: (1, 4, 16, 16), 100000: (4, 32, 28, 28), 10000000: (64, 64, 50, 50)}
BLOCK_S = 0.010


def torch_cases():
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(THREADS)
    torch.manual_seed(1)

    def both(f, *xs):  # y, and the gradient of each x
        xs = [x.requires_grad_() for x in xs]
        dy = torch.randn_like(f(*xs))
        return lambda: torch.autograd.grad(f(*xs), xs, dy)

    def optimizer(kind, n, **options):
        w = torch.randn(n, requires_grad=True)
        w.grad = torch.randn(n)
        return kind([w], fused=True, **options).step

    def prepare(case, size):
        r, c = MATRICES.get(size, (size, size))
        image = IMAGES.get(size)
        m = lambda *shape: torch.randn(shape or (r, c))
        labels = lambda: torch.randint(0, c, (r,))

        def elementwise(f, *xs):
            y = f(*xs)
            try:  # into memory that is there
                f(*xs, out=y)
            except TypeError:
                return lambda: f(*xs)
            return lambda: f(*xs, out=y)

        def chain():
            x, u, v = m(), m(), m()
            return lambda: (((((x + u) * v - x) ** 2).relu() + u) * v).clamp(-3, 3).sub(x).abs()

        def batch_norm(x, scale, shift):
            return F.batch_norm(x, mean, variance, scale, shift, True, 0.1, 1e-5)

        def conv(side):
            x, w = m(*image), m(image[1], image[1], side, side)
            return (lambda x, w: F.conv2d(x, w, padding=side // 2)), x, w

        def pool(f):
            x = m(*image)
            return (lambda x: f(x, 2)), x

        def plain(f, *xs):
            return lambda: f(*xs)

        def product(ta, tb):
            a, b = m(size, size), m(size, size)
            return elementwise(torch.matmul, a.T if ta else a, b.T if tb else b)

        def one_hot():
            rows = labels()[:, None]
            return lambda: torch.zeros(r, c).scatter_(1, rows, 1)

        def concat():
            halves = (m(r, c // 2), m(r, c // 2))
            return elementwise(lambda out=None: torch.cat(halves, 1, out=out))

        def gather():
            x, rows = m(), torch.randint(0, r, (r,))
            return elementwise(lambda out=None: torch.index_select(x, 0, rows, out=out))

        def scatter():
            x, source, rows = m(), m(), torch.randint(0, r, (r,))
            return lambda: torch.index_add(x, 0, rows, source)

        def transpose():
            x, y = m(), torch.empty(c, r)
            return lambda: y.copy_(x.T)

        def cast():
            x, y = m(), torch.empty(r, c, dtype=torch.int32)
            return lambda: y.copy_(x)

        if image:
            mean, variance = torch.zeros(image[1]), torch.ones(image[1])
        reductions = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "var": torch.var, "argmax": torch.argmax}
        kind, _, axis = case.rpartition("_")
        if kind in reductions and axis in ("last", "first", "all"):
            f = reductions[kind]
            if axis == "all":
                return plain(torch.max if kind == "max" else f, m())
            return elementwise(lambda x, out=None: f(x, dim=1 if axis == "last" else 0, **({"out": out} if out is not None else {})), m())
        cases = {
            "add": lambda: elementwise(torch.add, m(), m()),
            "mul_row": lambda: elementwise(torch.mul, m(), m(c)),
            "mul_column": lambda: elementwise(torch.mul, m(), m(r, 1)),
            "exp": lambda: elementwise(torch.exp, m()),
            "tanh": lambda: elementwise(torch.tanh, m()),
            "sigmoid": lambda: elementwise(torch.sigmoid, m()),
            "erf": lambda: elementwise(torch.erf, m()),
            "gelu": lambda: plain(F.gelu, m()),
            "where": lambda: elementwise(torch.where, m() > 0, m(), m()),
            "cast": cast,
            "clamp": lambda: elementwise(lambda x, out=None: torch.clamp(x, -0.5, 0.5, out=out), m()),
            "chain": chain,
            "softmax": lambda: plain(lambda x: torch.softmax(x, 1), m()),
            "softmax_both": lambda: both(lambda x: torch.softmax(x, 1), m()),
            "log_softmax": lambda: plain(lambda x: torch.log_softmax(x, 1), m()),
            "log_softmax_both": lambda: both(lambda x: torch.log_softmax(x, 1), m()),
            "cross_entropy": lambda: plain(F.cross_entropy, m(), labels()),
            "cross_entropy_both": lambda: (lambda y: both(lambda x: F.cross_entropy(x, y), m()))(labels()),
            "layer_norm": lambda: plain(F.layer_norm, m(), (c,), m(c), m(c)),
            "layer_norm_both": lambda: both(lambda x, w, b: F.layer_norm(x, (c,), w, b), m(), m(c), m(c)),
            "batch_norm": lambda: plain(batch_norm, m(*image), m(image[1]), m(image[1])),
            "batch_norm_both": lambda: both(batch_norm, m(*image), m(image[1]), m(image[1])),
            "transpose": transpose,
            "concat": concat,
            "gather_rows": gather,
            "scatter_add_rows": scatter,
            "one_hot": one_hot,
            "cumsum": lambda: elementwise(lambda x, out=None: torch.cumsum(x, 1, out=out), m()),
            "dropout": lambda: plain(F.dropout, m(), 0.5, True),
            "normal": lambda: (lambda y: lambda: y.normal_())(torch.empty(size)),
            "max_pool": lambda: plain(*pool(F.max_pool2d)),
            "max_pool_both": lambda: both(*pool(F.max_pool2d)),
            "avg_pool": lambda: plain(*pool(F.avg_pool2d)),
            "avg_pool_both": lambda: both(*pool(F.avg_pool2d)),
            "adam": lambda: optimizer(torch.optim.Adam, size, lr=1e-3),
            "sgd": lambda: optimizer(torch.optim.SGD, size, lr=0.01),
            "conv3": lambda: plain(*conv(3)),
            "conv3_both": lambda: both(*conv(3)),
            "conv1": lambda: plain(*conv(1)),
            "conv1_both": lambda: both(*conv(1)),
            "matmul_nn": lambda: product(False, False),
            "matmul_nt": lambda: product(False, True),
            "matmul_tn": lambda: product(True, False),
            "matmul_tt": lambda: product(True, True),
        }
        return cases[case]() if case in cases else None

    return prepare


def numpy_cases():
    import numpy as np

    random = np.random.default_rng(1)

    def prepare(case, size):
        r, c = MATRICES.get(size, (size, size))
        m = lambda *shape: random.standard_normal(shape or (r, c), np.float32)

        def into(f, *xs, **options):
            y = f(*xs, **options)
            return lambda: f(*xs, out=y, **options)

        def chain():
            x, u, v, y = m(), m(), m(), m()

            def run():
                np.add(x, u, out=y)
                np.multiply(y, v, out=y)
                np.subtract(y, x, out=y)
                np.square(y, out=y)
                np.maximum(y, 0, out=y)
                np.add(y, u, out=y)
                np.multiply(y, v, out=y)
                np.clip(y, -3, 3, out=y)
                np.subtract(y, x, out=y)
                np.abs(y, out=y)

            return run

        kind, _, axis = case.rpartition("_")
        reductions = {"sum": np.sum, "mean": np.mean, "max": np.max, "argmax": np.argmax, "var": lambda x, axis: np.var(x, axis, ddof=1)}
        if kind in reductions and axis in ("last", "first", "all"):
            x, f, along = m(), reductions[kind], {"last": 1, "first": 0, "all": None}[axis]
            return lambda: f(x, along)
        if kind == "matmul":
            a, b = (m(size, size).T if letter == "t" else m(size, size) for letter in axis)
            return into(np.matmul, a, b)
        if case == "cast":
            x, y = m(), np.empty((r, c), np.int32)
            return lambda: np.copyto(y, x, casting="unsafe")
        if case == "transpose":
            x, y = m(), np.empty((c, r), np.float32)
            return lambda: np.copyto(y, x.T)
        if case == "where":
            yes, a, b = m() > 0, m(), m()
            return lambda: np.where(yes, a, b)
        if case == "concat":
            return into(np.concatenate, (m(r, c // 2), m(r, c // 2)), axis=1)
        if case == "gather_rows":
            return into(np.take, m(), random.integers(0, r, r), axis=0, mode="clip")
        cases = {
            "add": lambda: into(np.add, m(), m()),
            "mul_row": lambda: into(np.multiply, m(), m(c)),
            "mul_column": lambda: into(np.multiply, m(), m(r, 1)),
            "exp": lambda: into(np.exp, m()),
            "tanh": lambda: into(np.tanh, m()),
            "clamp": lambda: into(np.clip, m(), -0.5, 0.5),
            "chain": chain,
            "cumsum": lambda: into(np.cumsum, m(), axis=1),
            "normal": lambda: (lambda y: lambda: random.standard_normal(size, np.float32, out=y))(np.empty(size, np.float32)),
        }
        return cases[case]() if case in cases else None

    return prepare


def main():
    prepare = torch_cases() if ENGINE == "torch" else numpy_cases()
    step, repeat = None, 1

    def block(times):
        begin = time.perf_counter()
        for _ in range(times):
            step()
        return time.perf_counter() - begin

    print(json.dumps({"engine": ENGINE, "threads": THREADS}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words:
            step = None
            step = prepare(words[0], int(words[1]))
            if step:
                block(3)
                repeat = 1
                while (seconds := block(repeat)) < BLOCK_S / 2:
                    repeat *= 2
                repeat = max(1, int(repeat * BLOCK_S / seconds))
            print(json.dumps({"case": words[0], "known": bool(step)}), flush=True)
        elif step:
            step()  # others have used the caches meanwhile
            print(json.dumps({"ms": block(repeat) / repeat * 1e3}), flush=True)


main()
