#!/usr/bin/env python3
"""Writes tests/golden/ops.txt: what PyTorch says about Nabla's operators, in double. Needs torch; the tests do not.

    tools/torch_ops.py > tests/golden/ops.txt

A case is named OPERATOR or OPERATOR.VARIANT; tests/test_ops.c builds the same graph under the same name. Random operands and upstream gradients
are not stored: both sides draw them from the same generator, seeded by the name. A case looks like this:

    case add.row
    in f64 2 3 : random -2 2
    in f64 3 : random -2 2
    out 2 3 : 0.1 ...
    grad 0 : ...
    grad 1 : ...
"""
import math
import torch
import torch.nn.functional as F

torch.manual_seed(0)
MASK = (1 << 64) - 1


def seed_of(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def reals(seed, n):
    out = []
    for _ in range(n):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & MASK
        out.append((seed >> 11) * 2.0**-53)
    return out


def random(name, index, low, high, shape):
    n = math.prod(shape)
    values = [low + (high - low) * u for u in reals(seed_of(name) + index & MASK, n)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def text(t):
    def one(v):
        if isinstance(v, bool):
            return str(int(v))
        if isinstance(v, int):
            return str(v)
        return "%.12g" % v
    return " ".join(one(v) for v in t.flatten().tolist())


class R:
    """A random real operand."""
    def __init__(self, low, high, *shape):
        self.low, self.high, self.shape = low, high, shape


class V:
    """A real operand with these values."""
    def __init__(self, *values, shape=None):
        self.tensor = torch.tensor(values, dtype=torch.float64)
        if shape is not None:
            self.tensor = self.tensor.reshape(shape)


class I:
    """A whole-number operand."""
    def __init__(self, *values, shape=None, dtype=torch.int64):
        self.tensor = torch.tensor(values, dtype=dtype)
        if shape is not None:
            self.tensor = self.tensor.reshape(shape)


DTYPE = {torch.int64: "i64", torch.int32: "i32", torch.bool: "bool", torch.uint8: "u8", torch.float64: "f64"}


def case(name, function, *operands):
    print("case", name)
    xs = []
    for i, o in enumerate(operands):
        if isinstance(o, R):
            x = random(name, i, o.low, o.high, o.shape)
            print("in f64", *o.shape, ": random", "%.17g %.17g" % (o.low, o.high))
        else:
            x = o.tensor
            print("in", DTYPE[x.dtype], *x.shape, ":", text(x))
        if x.dtype == torch.float64:
            x.requires_grad_(True)
        xs.append(x)
    y = function(*xs)
    print("out", *y.shape, ":", text(y))
    if y.dtype == torch.float64 and y.requires_grad:
        real = [(i, x) for i, x in enumerate(xs) if x.requires_grad]
        u = random(name, 100, -1, 1, tuple(y.shape))
        grads = torch.autograd.grad(y, [x for _, x in real], u, allow_unused=True)
        for (i, _), g in zip(real, grads):
            if g is not None:
                print("grad", i, ":", text(g))


def binary():
    two = {
        "add": (torch.add, -2, 2), "sub": (torch.sub, -2, 2), "mul": (torch.mul, -2, 2), "div": (torch.div, 0.5, 2),
        "pow": (torch.pow, 0.4, 2), "mod": (torch.remainder, 0.5, 3), "minimum": (torch.minimum, -2, 2),
        "maximum": (torch.maximum, -2, 2), "atan2": (torch.atan2, -2, 2),
    }
    for name, (f, low, high) in two.items():
        case(name, f, R(low, high, 3, 5), R(low, high, 3, 5))
        case(name + ".row", f, R(low, high, 2, 3), R(low, high, 3))
        case(name + ".outer", f, R(low, high, 3, 1), R(low, high, 4))
        case(name + ".scalar", f, R(low, high), R(low, high, 2, 2))
        case(name + ".empty", f, R(low, high, 0, 3), R(low, high, 3))
    nan, inf = float("nan"), float("inf")
    case("minimum.ties", torch.minimum, V(1, 2, 3, nan, 1, -inf), V(1, 3, 2, 1, nan, inf))
    case("maximum.ties", torch.maximum, V(1, 2, 3, nan, 1, -inf), V(1, 3, 2, 1, nan, inf))
    case("pow.edges", torch.pow, V(0, 0, 2, -2, -2, 1, 0), V(0, 2, 0, 3, 0.5, nan, 1))
    case("mod.signs", torch.remainder, V(5, -5, 5, -5, 0.5), V(3, 3, -3, -3, 1))
    case("div.edges", torch.div, V(1, -1, 0, inf), V(inf, 2, 3, 2))
    case("atan2.quadrants", torch.atan2, V(1, 1, -1, -1, 0, 2), V(1, -1, 1, -1, -1, 0))
    a, b = V(1, 2, 3, nan, inf, 0), V(1, 3, 2, nan, inf, -0.0)
    for name, f in {"equal": torch.eq, "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le, "greater": torch.gt,
                    "greater_equal": torch.ge}.items():
        case(name, lambda p, q, f=f: f(p.detach(), q.detach()), a, b)
        case(name + ".whole", f, I(1, 2, 3, -4), I(1, 3, 2, -4))
    p, q = I(0, 0, 1, 1, dtype=torch.bool), I(0, 1, 0, 1, dtype=torch.bool)
    case("and", torch.logical_and, p, q)
    case("or", torch.logical_or, p, q)
    case("xor", torch.logical_xor, p, q)
    case("not", torch.logical_not, p)
    for name, f in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "minimum": torch.minimum, "maximum": torch.maximum,
                    "mod": torch.remainder}.items():
        case(name + ".whole", f, I(7, -7, 7, -7, 0, 2**40), I(3, 3, -3, -3, 5, 2**20 + 1))
        case(name + ".i32", f, I(7, -7, 7, -7, 0, 99, dtype=torch.int32), I(3, 3, -3, -3, 5, 100, dtype=torch.int32))
    c = I(1, 0, 1, dtype=torch.bool)
    case("where", torch.where, c, R(-1, 1, 2, 3), R(-1, 1, 2, 3))
    case("where.broadcast", torch.where, c, R(-1, 1, 2, 1), R(-1, 1))


def unary():
    one = {
        "abs": (torch.abs, -2, 2), "neg": (torch.neg, -2, 2), "sign": (torch.sign, -2, 2), "square": (torch.square, -2, 2),
        "sqrt": (torch.sqrt, 0.1, 3), "rsqrt": (torch.rsqrt, 0.1, 3), "reciprocal": (torch.reciprocal, 0.3, 2), "exp": (torch.exp, -3, 3),
        "exp2": (torch.exp2, -3, 3), "expm1": (torch.expm1, -2, 2), "log": (torch.log, 0.1, 4), "log2": (torch.log2, 0.1, 4),
        "log1p": (torch.log1p, -0.7, 3), "sin": (torch.sin, -4, 4), "cos": (torch.cos, -4, 4), "tan": (torch.tan, -1.2, 1.2),
        "asin": (torch.asin, -0.9, 0.9), "acos": (torch.acos, -0.9, 0.9), "atan": (torch.atan, -3, 3), "sinh": (torch.sinh, -2, 2),
        "cosh": (torch.cosh, -2, 2), "tanh": (torch.tanh, -3, 3), "sigmoid": (torch.sigmoid, -4, 4), "erf": (torch.erf, -3, 3),
        "floor": (torch.floor, -3, 3), "ceil": (torch.ceil, -3, 3), "round": (torch.round, -3, 3), "trunc": (torch.trunc, -3, 3),
        "clamp": (lambda x: x.clamp(-0.5, 0.7), -2, 2), "relu": (F.relu, -2, 2),
        "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), -2, 2), "elu": (lambda x: F.elu(x, 1.3), -2, 2), "selu": (F.selu, -2, 2),
        "gelu": (F.gelu, -3, 3), "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), -3, 3), "silu": (F.silu, -3, 3),
        "softplus": (lambda x: F.softplus(x, threshold=1e9), -3, 3), "softsign": (F.softsign, -2, 2), "hardtanh": (F.hardtanh, -2, 2),
        "hardsigmoid": (lambda x: F.relu6(x + 3) / 6, -4, 4), "hardswish": (F.hardswish, -4, 4), "mish": (F.mish, -3, 3),
    }
    inf, nan = float("inf"), float("nan")
    kinks = {"abs": V(-0.0, 0, inf, -inf), "sign": V(0, -0.0, 5, -inf), "relu": V(0, -0.0, inf, -inf), "leaky_relu": V(0, -0.0, 3, -3),
             "hardtanh": V(-1, 1, 0, 5, -inf), "clamp": V(-0.5, 0.7, 0, inf), "round": V(0.5, 1.5, 2.5, -0.5, -1.5, 3),
             "floor": V(-1, 1, -0.5, 0.5), "ceil": V(-1, 1, -0.5, 0.5), "trunc": V(-1.5, 1.5, -0.5, 2), "elu": V(0, -0.0, -40, 40),
             "selu": V(0, -40, 40), "exp": V(-800, 0, 700, -inf), "log": V(1, 1e-300, inf), "tanh": V(-40, 40, 0, 1e-9),
             "sigmoid": V(-800, 800, 0, -30), "expm1": V(1e-12, -50, 0), "log1p": V(1e-12, 0, 1e12), "erf": V(-7, 7, 0, 1e-10),
             "sqrt": V(1e-300, 4, 1e300), "gelu": V(-40, 40, 0), "silu": V(-700, 700, 0), "mish": V(-700, 700, 0),
             "softsign": V(0, 1e9, -1e9), "hardsigmoid": V(-5, 5, 0), "hardswish": V(-5, 5, 0), "sin": V(1e4, -1e4, 0),
             "gelu_tanh": V(-40, 40, 0), "exp2": V(-1080, 10, 0), "log2": V(8, 1e-300, 1)}
    for name, (f, low, high) in one.items():
        case(name, f, R(low, high, 3, 5))
        case(name + ".scalar", f, R(low, high))
        if name in kinks:
            case(name + ".edges", f, kinks[name])
    case("softplus.edges", lambda x: torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0), V(-700, 700, 30))
    for name in ("abs", "neg", "sign", "square"):
        case(name + ".whole", one[name][0], I(-3, 0, 4, 2**31))
    case("clamp.whole", lambda x: x.clamp(-2, 3), I(-9, -2, 0, 3, 9))
    for name, f in {"isnan": torch.isnan, "isinf": torch.isinf, "isfinite": torch.isfinite}.items():
        case(name, lambda x, f=f: f(x.detach()), V(0, nan, inf, -inf, 1))
    case("cast.i32", lambda x: x.detach().to(torch.int32), V(1.9, -1.9, 0.5, -0.5, 7))
    case("cast.bool", lambda x: x.detach().to(torch.bool), V(0, -0.0, 0.1, nan, -inf))
    case("cast.real", lambda x: x.to(torch.float64), I(0, -7, 2**50))
    case("cast.same", lambda x: x * 1, R(-1, 1, 4))
    slope = lambda x, dy: torch.ops.aten.gelu_backward(dy, x, approximate="tanh")
    case("gelu_tanh_grad", slope, R(-3, 3, 3, 5), R(-2, 2, 3, 5))
    case("gelu_tanh_grad.broadcast", slope, R(-3, 3, 3, 1), R(-2, 2, 4))
    case("gelu_tanh_grad.edges", slope, V(-40, 40, 0, -9.9), V(1, 2, 3, 4))
    case("prelu.one", F.prelu, R(-2, 2, 2, 3, 4), R(0.1, 0.5, 1))
    case("prelu.channels", F.prelu, R(-2, 2, 2, 3, 4), R(0.1, 0.5, 3))
    case("prelu.zero", F.prelu, V(0, 1, -1), V(0.25))


def softmaxes():
    for name, f in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        case(name, lambda x, f=f: f(x, -1), R(-3, 3, 3, 5))
        case(name + ".first", lambda x, f=f: f(x, 0), R(-3, 3, 4, 2, 3))
        case(name + ".middle", lambda x, f=f: f(x, 1), R(-3, 3, 2, 3, 2))
        case(name + ".large", lambda x, f=f: f(x, 0), V(1000, 1001, -1000))
    case("logsumexp", lambda x: torch.logsumexp(x, 1), R(-3, 3, 3, 4))
    case("logsumexp.keep", lambda x: torch.logsumexp(x, (0, 2), keepdim=True), R(-3, 3, 2, 3, 2))
    case("logsumexp.large", lambda x: torch.logsumexp(x, 0), V(1000, 1001, -float("inf")))


def reductions():
    f = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin,
         "var": lambda x, a, k: torch.var(x, a, correction=1, keepdim=k), "std": lambda x, a, k: torch.std(x, a, correction=0, keepdim=k)}
    call = {n: (g if n in ("var", "std") else lambda x, a, k, g=g: g(x, a, keepdim=k)) for n, g in f.items()}
    for name, g in call.items():
        case(name + ".last", lambda x: g(x, (1,), False), R(-2, 2, 3, 5))
        case(name + ".first", lambda x: g(x, (0,), True), R(-2, 2, 4, 3))
        case(name + ".outer", lambda x: g(x, (0, 2), False), R(-2, 2, 2, 3, 4))
        case(name + ".all", lambda x: g(x, (0, 1), False), R(-2, 2, 3, 4))
    case("sum.empty", lambda x: x.sum(0), R(0, 1, 0, 3))
    case("sum.whole", lambda x: x.sum(1), I(1, 2, 3, 4, 5, 2**40, shape=(2, 3)))
    case("mean.one", lambda x: x.mean(0), R(0, 1, 1, 3))
    case("max.ties", lambda x: x.max(1).values, V(1, 3, 3, 2, 2, 2, shape=(2, 3)))
    case("min.ties", lambda x: x.min(1).values, V(3, 1, 1, 2, 2, 2, shape=(2, 3)))
    case("max.nan", lambda x: x.detach().amax(0), V(1, float("nan"), 3))
    case("max.whole", lambda x: x.amax(0), I(1, -3, 2, 5, shape=(2, 2)))
    case("prod.all", lambda x: x.prod(), R(-2, 2, 5))
    case("prod.last", lambda x: x.prod(1), R(-2, 2, 3, 4))
    case("prod.zero", lambda x: x.prod(1), V(1, 0, 3, 0, 0, 2, 4, 5, 6, shape=(3, 3)))
    case("prod.empty", lambda x: x.prod(0), R(0, 1, 0, 2))
    for p, n in ((1, "one"), (2, "two"), (3, "three"), (float("inf"), "infinity")):
        case("norm." + n, lambda x, p=p: torch.linalg.vector_norm(x, p, dim=1), R(-2, 2, 3, 4))
    case("norm.zero", lambda x: torch.linalg.vector_norm(x, 2), V(0, 0, 0))
    x = V(1, 5, 5, float("nan"), 2, 3, 0, 0, 1, shape=(3, 3))
    case("argmax", lambda x: x.detach().argmax(1), x)
    case("argmin", lambda x: x.detach().argmin(1), x)
    case("argmax.first", lambda x: x.detach().argmax(0), R(-1, 1, 4, 3))
    case("argmin.first", lambda x: x.detach().argmin(0), R(-1, 1, 4, 3))
    b = I(1, 0, 1, 1, 0, 0, shape=(3, 2), dtype=torch.bool)
    case("any", lambda x: x.any(1), b)
    case("all", lambda x: x.all(1), b)
    case("cumsum", lambda x: x.cumsum(1), R(-1, 1, 3, 4))
    case("cumsum.first", lambda x: x.cumsum(0), R(-1, 1, 3, 2, 2))
    case("cumsum.whole", lambda x: x.cumsum(0), I(1, 2, 3, -9))


def shapes():
    case("reshape", lambda x: x.reshape(4, 3), R(-1, 1, 2, 6))
    case("reshape.infer", lambda x: x.reshape(3, -1), R(-1, 1, 2, 6))
    case("permute", lambda x: x.permute(2, 0, 1), R(-1, 1, 2, 3, 4))
    case("permute.transpose", lambda x: x.transpose(0, 2), R(-1, 1, 2, 3, 4))
    case("expand", lambda x: x.expand(2, 3, 4), R(-1, 1, 3, 1))
    case("reshape.squeeze", lambda x: x.squeeze(), R(-1, 1, 1, 3, 1))
    case("reshape.unsqueeze", lambda x: x.unsqueeze(-1), R(-1, 1, 2, 3))
    case("reshape.flatten", lambda x: x.flatten(1, 2), R(-1, 1, 2, 3, 2))
    case("slice", lambda x: x[:, 1:4], R(-1, 1, 2, 6))
    case("slice.step", lambda x: x[1::2], R(-1, 1, 6, 2))
    case("slice.back", lambda x: x.flip(0)[0:5:2], R(-1, 1, 6, 2))
    case("slice.none", lambda x: x[3:3], R(-1, 1, 5))
    case("flip", lambda x: x.flip(0, 2), R(-1, 1, 2, 3, 2))
    case("concat", lambda a, b, c: torch.cat((a, b, c), 1), R(-1, 1, 2, 1), R(-1, 1, 2, 3), R(-1, 1, 2, 0))
    case("stack", lambda a, b: torch.stack((a, b), 1), R(-1, 1, 2, 3), R(-1, 1, 2, 3))
    case("split", lambda x: torch.split(x, 2, 1)[2], R(-1, 1, 2, 5))
    case("pad", lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), R(-1, 1, 2, 3))
    case("tril", lambda x: x.tril(1), R(-1, 1, 2, 4, 4))
    case("tril.below", lambda x: x.tril(-1), R(-1, 1, 3, 4))
    case("triu", lambda x: x.triu(1), R(-1, 1, 4, 3))
    case("triu.below", lambda x: x.triu(-2), R(-1, 1, 4, 4))
    index = I(0, 2, 1, 1, 0, 2, 2, 2, shape=(4, 2))
    case("gather", lambda x, i: x.gather(1, i), R(-1, 1, 4, 3), index)
    case("gather.first", lambda x, i: x.gather(0, i), R(-1, 1, 3, 2), index)
    case("scatter_add", lambda x, i, s: x.scatter_add(1, i, s), R(-1, 1, 4, 3), index, R(-1, 1, 4, 2))
    case("scatter_add.first", lambda x, i, s: x.scatter_add(0, i, s), R(-1, 1, 3, 2), index, R(-1, 1, 4, 2))
    case("index_select", lambda x, i: x.index_select(0, i), R(-1, 1, 4, 3), I(3, 0, 3))
    case("index_select.second", lambda x, i: x.index_select(1, i), R(-1, 1, 2, 4), I(1, 1, 2, 0))
    case("index_select.table", lambda x, i: F.embedding(i, x), R(-1, 1, 5, 2), I(4, 1, 1, 0, shape=(2, 2)))
    case("one_hot", lambda i: F.one_hot(i, 4).to(torch.float64), I(0, 3, 2))


def contractions():
    for name, a, b in (("", (3, 4), (4, 5)), (".vector", (4,), (4, 3)), (".column", (3, 4), (4,)), (".dot", (5,), (5,)),
                       (".batch", (2, 3, 4), (2, 4, 2)), (".broadcast", (2, 1, 2, 3), (3, 3, 2)), (".fold", (2, 2, 3), (3, 2)),
                       (".none", (2, 0), (0, 3)), (".row", (1, 17), (17, 9))):
        case("matmul" + name, torch.matmul, R(-1, 1, *a), R(-1, 1, *b))
    case("matmul.whole", torch.matmul, I(1, 2, 3, 4, shape=(2, 2)), I(5, 6, 7, 2**40, shape=(2, 2)))
    case("linear", F.linear, R(-1, 1, 3, 4), R(-1, 1, 5, 4), R(-1, 1, 5))
    case("linear.plain", F.linear, R(-1, 1, 2, 3, 4), R(-1, 1, 2, 4))
    conv = {
        "plain": ((2, 2, 5, 5), (3, 2, 3, 3), {}),
        "padded": ((1, 2, 4, 5), (2, 2, 3, 3), dict(padding=1)),
        "stride": ((1, 2, 7, 6), (3, 2, 3, 2), dict(stride=(2, 3), padding=(1, 0))),
        "dilation": ((1, 1, 7, 7), (2, 1, 3, 3), dict(dilation=2, padding=1)),
        "groups": ((2, 4, 4, 4), (6, 2, 2, 2), dict(groups=2)),
        "depthwise": ((1, 3, 5, 5), (3, 1, 3, 3), dict(groups=3, padding=1)),
        "same": ((1, 2, 5, 4), (2, 2, 2, 4), dict(padding="same")),
        "one": ((2, 3, 3, 3), (4, 3, 1, 1), {}),
    }
    for name, (x, w, options) in conv.items():
        case("conv2d." + name, lambda a, b, o=options: F.conv2d(a, b, **o), R(-1, 1, *x), R(-1, 1, *w))
    case("conv2d.bias", F.conv2d, R(-1, 1, 1, 2, 4, 4), R(-1, 1, 3, 2, 3, 3), R(-1, 1, 3))
    case("conv2d_input_grad", lambda g, w: F.conv_transpose2d(g, w, stride=2, padding=1, output_padding=1), R(-1, 1, 1, 3, 3, 3),
         R(-1, 1, 3, 2, 3, 3))
    case("conv2d_weight_grad", lambda x, g: F.conv2d(x.transpose(0, 1), g.transpose(0, 1), padding=1).transpose(0, 1), R(-1, 1, 2, 3, 4, 4),
         R(-1, 1, 2, 2, 4, 4))
    x = R(-1, 1, 2, 2, 6, 5)
    case("max_pool2d", lambda x: F.max_pool2d(x, 2), x)
    case("max_pool2d.overlap", lambda x: F.max_pool2d(x, 3, 2, 1), x)
    case("max_pool2d.ceil", lambda x: F.max_pool2d(x, 2, 2, 0, ceil_mode=True), x)
    case("max_pool2d.dilation", lambda x: F.max_pool2d(x, 2, 1, 0, 2), x)
    case("max_pool2d.ties", lambda x: F.max_pool2d(x, 2), V(*([1.0] * 16), shape=(1, 1, 4, 4)))
    case("avg_pool2d", lambda x: F.avg_pool2d(x, 2), x)
    case("avg_pool2d.padded", lambda x: F.avg_pool2d(x, 3, 2, 1), x)
    case("avg_pool2d.inside", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x)
    case("avg_pool2d.ceil", lambda x: F.avg_pool2d(x, (3, 2), (2, 2), 0, ceil_mode=True), x)
    case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (4, 3)), x)
    case("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (4, 3)), x)
    case("global_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), x)
    case("global_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 1), x)


def sequences():
    case("embedding", lambda w, i: F.embedding(i, w), R(-1, 1, 5, 3), I(4, 1, 1, 0, 2, 4, shape=(2, 3)))
    attend = F.scaled_dot_product_attention
    case("attention", attend, R(-1, 1, 2, 3, 2), R(-1, 1, 2, 4, 2), R(-1, 1, 2, 4, 3))
    case("attention.causal", lambda q, k, v: attend(q, k, v, is_causal=True), R(-2, 2, 2, 2, 4, 3), R(-2, 2, 2, 2, 4, 3), R(-1, 1, 2, 2, 4, 2))
    case("attention.scale", lambda q, k, v: attend(q, k, v, scale=0.3), R(-2, 2, 3, 2), R(-2, 2, 3, 2), R(-1, 1, 3, 2))
    q, v = R(-2, 2, 2, 3, 2), R(-1, 1, 2, 3, 2)
    case("attention.added", lambda q, k, v, m: attend(q, k, v, m), q, q, v, R(-1, 1, 3, 3))
    case("attention.chosen", lambda q, k, v, m: attend(q, k, v, m), q, q, v,
         I(1, 0, 1, 1, 1, 0, 0, 0, 1, shape=(3, 3), dtype=torch.bool))

    def lstm(x, *w):
        n, h = len(x), w[1].shape[1]
        state = torch.zeros(1, n, h, dtype=x.dtype)
        return torch.lstm(x, (state, state), list(w), len(w) > 2, 1, 0.0, False, False, True)[0]

    case("lstm", lstm, R(-1, 1, 2, 4, 3), R(-1, 1, 8, 3), R(-1, 1, 8, 2), R(-1, 1, 8), R(-1, 1, 8))
    case("lstm.plain", lstm, R(-1, 1, 3, 2, 1), R(-1, 1, 12, 1), R(-1, 1, 12, 3))
    case("lstm.one", lstm, R(-1, 1, 2, 1, 2), R(-1, 1, 4, 2), R(-1, 1, 4, 1), R(-1, 1, 4), R(-1, 1, 4))


def creation():
    real = torch.float64
    case("full", lambda: torch.full((2, 3), 1.5, dtype=real))
    case("arange", lambda: torch.arange(1, 2.05, 0.25, dtype=real))
    case("arange.down", lambda: torch.arange(5, -1, -2))
    case("linspace", lambda: torch.linspace(-1, 2, 7, dtype=real))
    case("eye", lambda: torch.eye(2, 4, dtype=real))


print("# Written by tools/torch_ops.py with PyTorch %s." % torch.__version__.split("+")[0])
for part in (binary, unary, softmaxes, reductions, shapes, contractions, sequences, creation):
    part()
