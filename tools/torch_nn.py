#!/usr/bin/env python3
"""Writes tests/golden/nn.txt: what PyTorch makes of the layers, losses, optimisers, initial values and schedules of nabla/nn.h.

    python3 tools/torch_nn.py > tests/golden/nn.txt          (needs torch 2.x)

One line a record: name, count, numbers. tests/test_nn.c has the same cases by the same names and says how each is compared. Inputs are
not stored: both sides make them with fill().
"""
import sys
import torch
from torch import nn
import torch.nn.functional as F

STEPS = 20


def fill(seed, *shape):
    """Numbers in [-0.99, 0.99], the same ones as in test_nn.c."""
    n = 1
    for s in shape:
        n *= s
    values = [((i * 37 + seed * 101 + (i * i * 7) % 53) % 199) / 100 - 0.99 for i in range(n)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def text(v, single):
    if not single:
        return repr(v)
    return next(s for s in (f"{v:.{p}g}" for p in range(6, 10)) if torch.tensor(float(s), dtype=torch.float32).item() == v)


def put(name, *tensors):
    values = [(v, t.dtype == torch.float32) for t in tensors for v in t.detach().reshape(-1).tolist()]
    print(name, len(values), *(text(v, single) for v, single in values))


def named(module):
    return [n for n, _ in module.state_dict().items() if not n.endswith("num_batches_tracked")]


class Function(nn.Module):
    """Where PyTorch's own derivative in f64 has a constant rounded to f32 (1/6)."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        for i, m in enumerate(inner):
            self.add_module(str(i), m)

    def forward(self, x):
        y = x
        for m in self.children():
            y = m(y)
        return x + y


class Positions(nn.Module):
    def __init__(self, steps, features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(steps, features))

    def forward(self, x):
        return x + self.weight


class LSTM(nn.LSTM):
    """Its outputs alone."""

    def forward(self, x):
        return super().forward(x)[0]


def later(steps):
    """What a causal step may not see."""
    return torch.ones(steps, steps, dtype=torch.bool).triu(1)


class Attention(nn.MultiheadAttention):
    """Of x to itself."""

    def __init__(self, features, heads, causal, **options):
        super().__init__(features, heads, batch_first=True, **options)
        self.causal = causal

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False, attn_mask=later(x.shape[1]) if self.causal else None)[0]


class Block(nn.Module):
    """PyTorch's own layer, with its parts in the order in which they are applied: that is how Nabla lists them."""

    def __init__(self, features, heads, hidden, causal):
        super().__init__()
        self.whole = [nn.TransformerEncoderLayer(features, heads, hidden, 0.0, lambda x: F.gelu(x, approximate="tanh"),
                                                 batch_first=True, norm_first=True)]
        for part in ("norm1", "self_attn", "norm2", "linear1", "linear2"):
            self.add_module(part, getattr(self.whole[0], part))
        self.causal = causal

    def forward(self, x):
        return self.whole[0](x, later(x.shape[1]) if self.causal else None)


def layer(name, shape, *modules, evaluate=False):
    net = nn.Sequential(*modules).double()
    net.eval() if evaluate else net.train()
    for i, p in enumerate(net.parameters()):
        p.data.copy_(fill(10 + i, *p.shape))
    if evaluate:
        for i, b in enumerate(b for n, b in net.named_buffers() if not n.endswith("num_batches_tracked")):
            b.copy_(fill(30 + i, *b.shape).abs() + 0.5)
    if isinstance(modules[0], nn.Embedding):
        x, trained = (torch.arange(shape.numel()) * 7 % modules[0].num_embeddings).reshape(shape), []
    else:
        x = fill(1, *shape).requires_grad_()
        trained = [x]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    y = net(x)
    y.backward(fill(2, *y.shape))
    put(f"{name}.y", y)
    put(f"{name}.gradients", *(p.grad for p in [*trained, *net.parameters()]))
    net.load_state_dict(state)
    target = fill(3, *y.shape)
    sgd = torch.optim.SGD([*trained, *net.parameters()], lr=0.05, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        sgd.zero_grad()
        loss = F.mse_loss(net(x), target)
        loss.backward()
        sgd.step()
        losses.append(loss.detach())
    put(f"{name}.losses", torch.stack(losses))
    put(f"{name}.state", *(net.state_dict()[n] for n in named(net)))
    print(f"{name}.names", 0, *named(net))


def layers():
    image = (2, 2, 4, 4)
    layer("linear", (3, 4), nn.Linear(4, 3))
    layer("linear_plain", (3, 4), nn.Linear(4, 3, bias=False))
    layer("conv", image, nn.Conv2d(2, 3, 3))
    layer("conv_pad", image, nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False))
    layer("conv_same", image, nn.Conv2d(2, 2, (2, 3), padding="same"))
    layer("conv_groups", image, nn.Conv2d(2, 4, 2, groups=2, dilation=2))
    layer("maxpool", image, nn.MaxPool2d(2))
    layer("maxpool_pad", image, nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True))
    layer("avgpool", image, nn.AvgPool2d(2))
    layer("avgpool_pad", image, nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False))
    layer("adaptiveavgpool", image, nn.AdaptiveAvgPool2d((3, 2)))
    layer("adaptivemaxpool", image, nn.AdaptiveMaxPool2d((3, 2)))
    layer("globalavgpool", image, nn.AdaptiveAvgPool2d(1))
    layer("batchnorm", image, nn.BatchNorm2d(2))
    layer("batchnorm_rows", (5, 3), nn.BatchNorm1d(3, eps=1e-3, momentum=0.3))
    layer("batchnorm_plain", (5, 3), nn.BatchNorm1d(3, affine=False))
    layer("batchnorm_eval", image, nn.BatchNorm2d(2), evaluate=True)
    layer("layernorm", (3, 2, 3), nn.LayerNorm((2, 3)))
    layer("layernorm_plain", (3, 4), nn.LayerNorm(4, elementwise_affine=False, eps=1e-3))
    layer("layernorm_steps", (2, 2, 3), nn.LayerNorm(3))
    layer("linear_steps", (2, 2, 3), nn.Linear(3, 2))
    layer("embedding", torch.Size((2, 4)), nn.Embedding(5, 3))
    layer("positions", torch.Size((2, 4)), nn.Embedding(5, 3), Positions(4, 3))
    layer("lstm", (2, 4, 3), LSTM(3, 2, batch_first=True))
    layer("lstm_plain", (3, 2, 2), LSTM(2, 3, batch_first=True, bias=False))
    layer("attention", (2, 3, 4), Attention(4, 2, False))
    layer("attention_causal", (2, 4, 4), Attention(4, 2, True, bias=False))
    layer("transformer", (2, 3, 4), Block(4, 2, 16, False))
    layer("gpt", torch.Size((2, 4)), nn.Embedding(5, 4), Positions(4, 4), nn.Sequential(Block(4, 2, 4, True), Block(4, 2, 4, True)),
          nn.LayerNorm(4), nn.Linear(4, 5, bias=False))
    layer("flatten", (2, 2, 3), nn.Flatten())
    layer("prelu", image, nn.PReLU())
    layer("prelu_each", image, nn.PReLU(2))
    layer("residual", (3, 4), nn.Linear(4, 4), Residual([nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)]), nn.Linear(4, 2))
    layer("sequential", image, nn.Conv2d(2, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.Flatten(), nn.Linear(8, 3))
    for name, m in {
        "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.1), "elu": nn.ELU(0.7), "selu": nn.SELU(), "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU(approximate="tanh"), "silu": nn.SiLU(), "softplus": nn.Softplus(), "softsign": nn.Softsign(),
        "hardtanh": nn.Hardtanh(), "hardsigmoid": Function(lambda x: F.relu6(x + 3) / 6), "hardswish": nn.Hardswish(), "mish": nn.Mish(),
        "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "softmax": nn.Softmax(1), "log_softmax": nn.LogSoftmax(1),
    }.items():
        layer(name, (3, 2), nn.Linear(2, 3), m)


def loss(name, shape, f):
    """f(x, reduction); x is trained."""
    x = fill(1, *shape).requires_grad_()
    each, mean, total = (f(x, r) for r in ("none", "mean", "sum"))
    (g,) = torch.autograd.grad(mean, x)
    (h,) = torch.autograd.grad(each, x, fill(2, *each.shape))
    put(f"{name}.y", each, mean, total)
    put(f"{name}.gradients", g, h)
    for dtype in (torch.float64, torch.float32):
        w = fill(1, *shape).to(dtype).requires_grad_()
        sgd = torch.optim.SGD([w], lr=0.1)
        losses = []
        for _ in range(STEPS):
            sgd.zero_grad()
            l = f(w, "mean")
            l.backward()
            sgd.step()
            losses.append(l.detach())
        put(f"{name}.losses{'32' if dtype == torch.float32 else ''}", torch.stack(losses))


def losses():
    shape, classes = (4, 5), torch.tensor([1, 4, 0, 1])
    weights = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5], dtype=torch.float64)
    some = torch.tensor([1, -100, 0, 1])
    number = fill(3, *shape)
    share = fill(3, *shape).abs()
    sign = torch.where(number >= 0, 1.0, -1.0).double()
    row = torch.softmax(2 * number, 1)
    row = torch.where(row < 0.1, 0.0, row)
    own = lambda f: lambda x, r: {"none": f(x), "mean": f(x).mean(), "sum": f(x).sum()}[r]
    ce = F.cross_entropy
    loss("cross_entropy", shape, lambda x, r: ce(x, classes, reduction=r))
    loss("cross_entropy_weights", shape, lambda x, r: ce(x, classes, weights.to(x.dtype), reduction=r))
    loss("cross_entropy_smooth", shape, lambda x, r: ce(x, classes, label_smoothing=0.1, reduction=r))
    loss("cross_entropy_ignore", shape, lambda x, r: ce(x, some, ignore_index=-100, reduction=r))
    loss("cross_entropy_all", shape,
         lambda x, r: ce(x, some, weights.to(x.dtype), ignore_index=-100, label_smoothing=0.2, reduction=r))
    loss("cross_entropy_image", (2, 3, 2), lambda x, r: ce(x, torch.tensor([[1, 0], [2, 1]]), reduction=r))
    loss("nll", shape, lambda x, r: F.nll_loss(x, classes, reduction=r))
    loss("nll_weights", shape, lambda x, r: F.nll_loss(x, some, weights.to(x.dtype), ignore_index=-100, reduction=r))
    loss("binary_cross_entropy", shape,
         lambda x, r: F.binary_cross_entropy(torch.sigmoid(x), share.to(x.dtype), reduction=r))
    loss("binary_cross_entropy_logits", shape,
         lambda x, r: F.binary_cross_entropy_with_logits(x, share.to(x.dtype), reduction=r))
    loss("hinge", shape, own(lambda x: torch.relu(1 - sign.to(x.dtype) * x)))
    loss("squared_hinge", shape, own(lambda x: torch.relu(1 - sign.to(x.dtype) * x) ** 2))
    loss("multi_class_hinge", shape, lambda x, r: F.multi_margin_loss(x, classes, p=1, margin=0.8, reduction=r))
    loss("multi_class_hinge_2", shape, lambda x, r: F.multi_margin_loss(x, classes, p=2, margin=0.8, reduction=r))
    loss("mse", shape, lambda x, r: F.mse_loss(x, number.to(x.dtype), reduction=r))
    off = number + 0.003  # so that training never meets the kink by rounding
    loss("mae", shape, lambda x, r: F.l1_loss(x, off.to(x.dtype), reduction=r))
    loss("huber", shape, lambda x, r: F.huber_loss(x, number.to(x.dtype), delta=0.7, reduction=r))
    loss("kl_divergence", shape, lambda x, r: F.kl_div(F.log_softmax(x, 1), row.to(x.dtype), reduction=r))


def optimizer(name, make, after_backward=None, after_step=None):
    w, b = fill(10, 3, 4).requires_grad_(), fill(11, 3).requires_grad_()
    x, target = fill(1, 5, 4), fill(3, 5, 3)
    o = make(w, b)
    values = []
    for _ in range(STEPS):
        o.zero_grad()
        l = F.mse_loss(torch.tanh(F.linear(x, w, b)), target)
        l.backward()
        if after_backward:
            after_backward([w, b])
        o.step()
        if after_step:
            after_step(w)
        values.append(l.detach())
    put(f"{name}.losses", torch.stack(values))
    put(f"{name}.state", w, b)


def limit_rows(w):
    w.data.copy_(torch.renorm(w.data, 2, 0, 0.9))


def optimizers():
    o = torch.optim
    clip = nn.utils.clip_grad_norm_
    optimizer("sgd", lambda w, b: o.SGD([w, b], lr=0.1))
    optimizer("sgd_momentum", lambda w, b: o.SGD([w, b], lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01))
    optimizer("sgd_nesterov", lambda w, b: o.SGD([w, b], lr=0.1, momentum=0.9, nesterov=True))
    optimizer("rmsprop", lambda w, b: o.RMSprop([w, b], lr=0.01))
    optimizer("rmsprop_all", lambda w, b: o.RMSprop([w, b], lr=0.01, alpha=0.9, eps=1e-6, momentum=0.5, centered=True, weight_decay=0.1))
    optimizer("adagrad", lambda w, b: o.Adagrad([w, b], lr=0.1))
    optimizer("adagrad_all", lambda w, b: o.Adagrad([w, b], lr=0.1, lr_decay=0.05, initial_accumulator_value=0.1, weight_decay=0.01))
    optimizer("adam", lambda w, b: o.Adam([w, b], lr=0.05))
    optimizer("adam_all", lambda w, b: o.Adam([w, b], lr=0.05, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.1, amsgrad=True))
    optimizer("adamw", lambda w, b: o.AdamW([w, b], lr=0.05))
    optimizer("adamw_all", lambda w, b: o.AdamW([w, b], lr=0.05, weight_decay=0.3, amsgrad=True))
    optimizer("groups", lambda w, b: o.AdamW([{"params": [w]}, {"params": [b], "lr": 0.02, "weight_decay": 0.0}], lr=0.05, weight_decay=0.2))
    optimizer("clip_norm", lambda w, b: o.SGD([w, b], lr=0.5), lambda p: clip(p, 0.1))
    optimizer("clip_value", lambda w, b: o.SGD([w, b], lr=0.5), lambda p: nn.utils.clip_grad_value_(p, 0.05))
    optimizer("max_norm", lambda w, b: o.Adam([w, b], lr=0.05), None, limit_rows)


def initial_values():
    def make(name, shape, f, dtype=torch.float32):
        torch.manual_seed(7)
        t = torch.zeros(shape, dtype=dtype)
        f(t)
        put(f"init.{name}", t)

    i = nn.init
    make("uniform", (3, 5), lambda t: i.uniform_(t, -0.3, 0.8))
    make("uniform_f64", (3, 5), lambda t: i.uniform_(t, -0.3, 0.8), torch.float64)
    make("normal_small", (3, 3), lambda t: i.normal_(t, 1, 0.5))
    make("normal", (5, 5), lambda t: i.normal_(t, 1, 0.5))
    make("normal_f64", (5, 5), lambda t: i.normal_(t, 1, 0.5), torch.float64)
    make("truncated_normal", (5, 5), lambda t: i.trunc_normal_(t, 0.1, 0.5, -0.4, 0.6))
    make("truncated_normal_tail", (5, 5), lambda t: i.trunc_normal_(t, 0, 1, 1, 3))
    make("xavier_uniform", (3, 4), lambda t: i.xavier_uniform_(t, 2))
    make("xavier_normal", (3, 4, 2, 2), lambda t: i.xavier_normal_(t, 2))
    make("kaiming_uniform", (3, 4, 2, 2), lambda t: i.kaiming_uniform_(t, nonlinearity="relu"))
    make("kaiming_normal", (3, 4, 2, 2), lambda t: i.kaiming_normal_(t, 0.2, mode="fan_out"))
    make("lecun_uniform", (3, 4), lambda t: i.kaiming_uniform_(t, nonlinearity="linear"))
    make("lecun_normal", (3, 6), lambda t: i.kaiming_normal_(t, nonlinearity="linear"))
    make("orthogonal", (4, 6), lambda t: i.orthogonal_(t, 1.5))
    make("orthogonal_tall", (3, 2, 1, 1), lambda t: i.orthogonal_(t))
    make("identity", (2, 3), i.eye_)
    make("dirac", (4, 3, 3, 2), lambda t: i.dirac_(t, 2))
    torch.manual_seed(7)
    three = [torch.empty(3).normal_() for _ in range(3)]  # odd counts: a drawn pair is shared by two calls
    put("init.pairs", *three)
    torch.manual_seed(7)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    put("init.net", *net.parameters())
    for name, make_layer in {"embedding": lambda: nn.Embedding(5, 4), "lstm": lambda: nn.LSTM(3, 2),
                             "attention": lambda: nn.MultiheadAttention(4, 2), "transformer": lambda: Block(4, 2, 8, True)}.items():
        torch.manual_seed(7)
        put(f"init.{name}", *make_layer().parameters())


def schedules():
    def rates(name, n, make):
        w = nn.Parameter(torch.zeros(1))
        o = torch.optim.SGD([w], lr=0.1)
        s = make(o)
        values = []
        for _ in range(n):
            values.append(o.param_groups[0]["lr"])
            o.step()
            s.step()
        put(f"schedule.{name}", torch.tensor(values, dtype=torch.float64))

    s = torch.optim.lr_scheduler
    rates("constant", 5, lambda o: s.ConstantLR(o, 1.0))
    rates("step", 20, lambda o: s.StepLR(o, 6, 0.3))
    rates("exponential", 10, lambda o: s.ExponentialLR(o, 0.9))
    rates("cosine", 20, lambda o: s.CosineAnnealingLR(o, 20, 0.01))
    rates("one_cycle", 29, lambda o: s.OneCycleLR(o, 0.1, total_steps=30))
    rates("one_cycle_early", 24, lambda o: s.OneCycleLR(o, 0.1, total_steps=25, pct_start=0.2))
    rates("warm_up", 12, lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.2, 1.0, 4), s.ExponentialLR(o, 0.9)], [5]))


if __name__ == "__main__":
    sys.stdout.reconfigure(newline="\n")
    print(f"# made by tools/torch_nn.py with PyTorch {torch.__version__.split('+')[0]}: name, count, numbers")
    layers()
    losses()
    optimizers()
    initial_values()
    schedules()
