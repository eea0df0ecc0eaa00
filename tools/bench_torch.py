#!/usr/bin/env python3
"""The nets of bench/nets.c in PyTorch, as anybody would write them: same options, same JSON, same way of measuring."""
import argparse
import json
import os
import resource
import time

for name in list(os.environ):
    if name.startswith("OPENBLAS_"):  # settings that slow it down may be left in the environment
        del os.environ[name]

import torch
from torch import nn

WARM_UP, BLOCKS = 5, 9
WORKLOADS = {  # item shape, batch, classes, steps a block: training, inference
    "mlp": ((784,), 64, 10, 100, 300),
    "cnn": ((1, 28, 28), 64, 10, 8, 20),
    "moons": ((2,), 100, 2, 1000, 3000),
}


def make_net(name):
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    if name == "moons":
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


def measure(step, steps, blocks=BLOCKS):
    """Best mean over blocks, in ms a step, and the last value."""
    best = float("inf")
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(steps):
            value = step()
        best = min(best, (time.perf_counter() - start) / steps * 1e3)
    return best, value


def training_step(net, name, x, y):
    if name == "moons":
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def inference_call(net, x):
    net.eval()

    def call():
        with torch.inference_mode():
            return net(x)

    return call


def hessian_steps(net, x, y):
    """A gradient, and a Hessian-vector product as the gradient of (gradient . v)."""
    net.eval()
    parameters = list(net.parameters())
    vs = [torch.randn_like(p) for p in parameters]

    def gradient():
        return torch.autograd.grad(nn.functional.cross_entropy(net(x), y), parameters)

    def product():
        loss = nn.functional.cross_entropy(net(x), y)
        grads = torch.autograd.grad(loss, parameters, create_graph=True)
        return torch.autograd.grad(sum((g * v).sum() for g, v in zip(grads, vs)), parameters)

    return gradient, product


def processor_name():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--infer", action="store_true")
    parser.add_argument("--hvp", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    item, batch, classes, train_steps, infer_steps = WORKLOADS[args.workload]
    batch = args.batch or batch
    steps = args.steps or (infer_steps if args.infer else train_steps)
    x, y = torch.randn(batch, *item), torch.randint(0, classes, (batch,))
    net = make_net(args.workload)
    out = {"workload": args.workload, "mode": "infer" if args.infer else "hvp" if args.hvp else "train",
           "engine": "torch " + torch.__version__, "threads": args.threads, "batch": batch}

    if args.hvp:
        gradient, step = hessian_steps(net, x, y)
        for _ in range(WARM_UP):
            gradient(), step()
        turns = [(measure(gradient, steps, 1)[0], measure(step, steps, 1)[0]) for _ in range(BLOCKS)]
        out["gradient_ms"], out["ms"] = map(min, zip(*turns))
        out["gradients"] = out["ms"] / out["gradient_ms"]
    else:
        step = inference_call(net, x) if args.infer else training_step(net, args.workload, x, y)
        first = step()
        for _ in range(WARM_UP - 1):
            step()
        out["ms"], last = measure(step, steps)
        if not args.infer:
            out["first_loss"], out["last_loss"] = first.item(), last.item()
    out["items_per_s"] = batch / out["ms"] * 1e3
    out["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out["processor"] = processor_name()
    if args.json:
        print(json.dumps(out))
    else:
        print("\n".join(f"{key}: {value}" for key, value in out.items()))


if __name__ == "__main__":
    main()
