#!/usr/bin/env python3
"""The benchmark nets in PyTorch: as anybody would write them, and in the configurations that make them faster."""
import contextlib

import peer

CONFIGS = ["plain", "fused", "channels-last", "compile", "bfloat16"]
args = peer.options(__doc__, CONFIGS)

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(args.threads)
torch.manual_seed(1)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(65, 64), nn.LSTM(64, 256, batch_first=True), nn.Linear(256, 65)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0])


class Block(nn.Module):
    def __init__(self, heads, width):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, blocks, heads, width, tokens):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(65, width), nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList([Block(heads, width) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 65, bias=False)

    def forward(self, x):
        h = self.embedding(x) + self.positions.weight
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def make_net(name):
    if name == "moons":
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    if name == "lstm":
        return Lstm()
    return Gpt(*peer.GPTS[name], peer.TEXTS[name][0])


def make_data(name):
    if name in peer.TEXTS:
        tokens, words = peer.TEXTS[name]
        return torch.randint(0, words, (args.batch, tokens)), torch.randint(0, words, (args.batch, tokens))
    return torch.randn(args.batch, *peer.IMAGES[name]), torch.randint(0, peer.CLASSES[name], (args.batch,))


def make_optimizer(name, parameters):
    fused = True if args.config != "plain" else None
    if name == "moons":
        return torch.optim.SGD(parameters, lr=0.01, fused=fused)
    kind = torch.optim.AdamW if name in peer.GPTS else torch.optim.Adam
    return kind(parameters, lr=1e-3, fused=fused)  # AdamW: decay 0.01 by default


net, (x, y) = make_net(args.workload), make_data(args.workload)
if args.config in ("channels-last", "bfloat16") and args.workload == "cnn":
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
precision = torch.autocast("cpu", torch.bfloat16) if args.config == "bfloat16" else contextlib.nullcontext()


def loss_of(x, y):
    with precision:
        return F.cross_entropy(net(x).flatten(0, -2), y.flatten())


if args.infer:
    net.eval()
    call = torch.compile(net) if args.config == "compile" else net

    def step():
        with torch.inference_mode(), precision:
            return call(x)
else:
    optimizer = make_optimizer(args.workload, net.parameters())
    call = torch.compile(loss_of) if args.config == "compile" else loss_of

    def step():
        optimizer.zero_grad()
        loss = call(x, y)
        loss.backward()
        optimizer.step()
        return loss


peer.run(args, "torch " + torch.__version__, step, loss=None if args.infer else lambda value: value.item())
