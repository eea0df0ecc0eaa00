#!/usr/bin/env python3
"""Writes tests/golden/steps.txt: the losses of 20 training steps of the six benchmark nets, as PyTorch computes them in double.

    python3 tools/torch_steps.py > tests/golden/steps.txt          (needs torch 2.x and numpy)

One line a net: its name, 20 numbers. Weights and data are not stored: this script and tests/test_steps.c make them from the same
generator, seeded by the name of the tensor in PyTorch's state dict. Numbers in double are the same on every machine. PyTorch's own in
single precision (--f32) stray from them by up to 1e-6 of the loss in moons, mlp, cnn, lstm and gpt-s, 3e-5 in gpt-m."""
import sys

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

STEPS = 20
DTYPE = torch.float32 if "--f32" in sys.argv else torch.float64


def bits(name, count):
    """SplitMix64 (Steele et al., 2014) from the FNV-1a hash of the name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def reals(name, shape):
    """In [-1, 1), multiples of 2^-23."""
    values = (bits(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return values.reshape(shape)


def whole(name, shape, below):
    return torch.tensor((bits(name, int(np.prod(shape))) % np.uint64(below)).astype(np.int64).reshape(shape))


def set_weights(net):
    """Matrices: within 1/sqrt(fan in). Vectors: within 0.1, of 1 where they scale, of 0 where they shift."""
    for name, p in net.named_parameters():
        u = reals(name, tuple(p.shape))
        if p.dim() > 1:
            u = u / np.sqrt(np.prod(p.shape[1:]))
        else:
            u = u * 0.1 + (1 if name.endswith("weight") else 0)
        p.data.copy_(torch.tensor(u.astype(np.float32)))


class Positions(nn.Module):
    def __init__(self, steps, features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(steps, features))

    def forward(self, x):
        return x + self.weight


class LSTM(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class Block(nn.TransformerEncoderLayer):
    def __init__(self, features, heads):
        super().__init__(features, heads, 4 * features, 0.0, lambda x: F.gelu(x, approximate="tanh"), batch_first=True,
                         norm_first=True)

    def forward(self, x):
        return super().forward(x, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1))


def gpt(blocks, heads, features, steps):
    return nn.Sequential(nn.Embedding(65, features), Positions(steps, features),
                         nn.Sequential(*(Block(features, heads) for _ in range(blocks))), nn.LayerNorm(features),
                         nn.Linear(features, 65, bias=False))


def train(name, net, x, classes, make_optimizer):
    set_weights(net)
    net = net.to(DTYPE).train()
    targets = whole("targets", (x.shape[0], *(x.shape[1:] if x.dtype == torch.int64 else ())), classes).reshape(-1)
    optimizer = make_optimizer(net.parameters())
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x).reshape(len(targets), classes), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(name, *("%.9f" % l for l in losses), flush=True)


def main():
    sys.stdout.reconfigure(newline="\n")
    print(f"# made by tools/torch_steps.py with PyTorch {torch.__version__.split('+')[0]}: name, losses")
    real = lambda *shape, name="x": torch.tensor(reals(name, shape), dtype=DTYPE)
    tokens = lambda *shape: whole("x", shape, 65)
    adam = lambda p: torch.optim.Adam(p, lr=1e-3)
    slow_adam = lambda p: torch.optim.Adam(p, lr=1e-4)  # tests/test_steps.c says why
    adamw = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01)
    train("moons", nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)), real(100, 2), 2,
          lambda p: torch.optim.SGD(p, lr=0.01))
    train("mlp", nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)),
          real(64, 1, 28, 28), 10, adam)
    train("cnn", nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.0), nn.Linear(128, 10)), real(64, 1, 28, 28, name="input"), 10, slow_adam)
    train("lstm", nn.Sequential(nn.Embedding(65, 64), LSTM(64, 256, batch_first=True), nn.Linear(256, 65)), tokens(32, 64), 65, adam)
    train("gpt-s", gpt(4, 4, 128, 64), tokens(12, 64), 65, adamw)
    train("gpt-m", gpt(6, 6, 384, 64), tokens(2, 64), 65, adamw)


if __name__ == "__main__":
    main()
