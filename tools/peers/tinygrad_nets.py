#!/usr/bin/env python3
"""moons, mlp and cnn in tinygrad on the CPU, the step captured by its JIT. Shown, not counted: it takes what threads it likes."""
import importlib.metadata
import os

import peer

args = peer.options(__doc__, ["JIT"], ("moons", "mlp", "cnn"))
peer.pin(args.threads)
os.environ["DEV"] = "CPU"


from tinygrad import Context, Tensor, TinyJit, nn

Tensor.manual_seed(1)


class Dense:
    def __init__(self, *sizes):
        self.layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class Cnn:
    def __init__(self):
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.norm1, self.norm2, self.dense = nn.BatchNorm(32), nn.BatchNorm(64), Dense(3136, 128, 10)

    def __call__(self, x):
        x = self.norm1(self.conv1(x)).relu().max_pool2d(2)
        x = self.norm2(self.conv2(x)).relu().max_pool2d(2).flatten(1)
        return self.dense.layers[1](self.dense.layers[0](x).relu().dropout(0.5))


net = {"moons": lambda: Dense(2, 16, 16, 2), "mlp": lambda: Dense(784, 256, 128, 10), "cnn": Cnn}[args.workload]()
x = Tensor.randn(args.batch, *peer.IMAGES[args.workload]).realize()
y = Tensor.randint(args.batch, high=peer.CLASSES[args.workload]).realize()
parameters = nn.state.get_parameters(net)
optimizer = nn.optim.SGD(parameters, lr=0.01) if args.workload == "moons" else nn.optim.Adam(parameters, lr=1e-3)


@TinyJit
def train():
    optimizer.zero_grad()
    loss = net(x).sparse_categorical_crossentropy(y).backward()
    return loss.realize(*optimizer.schedule_step())


def step():
    with Context(TRAINING=1):
        return train()


peer.run(args, "tinygrad " + importlib.metadata.version("tinygrad"), step, lambda value: value.item(), lambda value: value.item())
