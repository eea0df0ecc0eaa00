"""What the programs of the peers have in common: options, measuring, one line of JSON.

Every program knows the same nets as bench/nets.c, takes the same options and measures in the same way: 5 warm-up steps, then the best of
9 blocks of means. With --turns it measures one block for each line it reads, so that several programs can take turns while all of them
are warm: see tools/bench_peers.py."""
import argparse
import json
import os
import sys
import time

START = time.perf_counter()
WARM_UP, BLOCKS = 5, 9
WORKLOADS = {  # items a batch, steps a block: training, inference
    "moons": (100, 1000, 3000),
    "mlp": (64, 100, 300),
    "cnn": (64, 8, 20),
    "lstm": (32, 8, 20),
    "gpt-s": (12, 6, 20),
    "gpt-m": (4, 1, 3),
}
TEXTS = {"lstm": (64, 65), "gpt-s": (64, 65), "gpt-m": (256, 65)}  # tokens, vocabulary
GPTS = {"gpt-s": (4, 4, 128), "gpt-m": (6, 6, 384)}  # blocks, heads, width
IMAGES = {"moons": (2,), "mlp": (784,), "cnn": (1, 28, 28)}
CLASSES = {"moons": 2, "mlp": 10, "cnn": 10}


def options(description, configs, workloads=tuple(WORKLOADS)):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", choices=workloads, required=True)
    parser.add_argument("--config", choices=configs, default=configs[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="steps a block")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--infer", action="store_true")
    parser.add_argument("--json", action="store_true", help="as always")
    parser.add_argument("--turns", action="store_true", help="a block for each line of standard input")
    args = parser.parse_args()
    batch, train, infer = WORKLOADS[args.workload]
    args.batch = args.batch or batch
    args.steps = args.steps or (infer if args.infer else train)
    for name in list(os.environ):
        if name.startswith("OPENBLAS_"):  # settings that slow it down may be left in the environment
            del os.environ[name]
    return args


def pin(threads):
    """To as many cores as threads, for engines that take all cores they see."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads])


def processor():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def peak_memory_mb():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0


def run(args, engine, step, finish=lambda value: None, loss=None):
    """Measures step(); finish(value) waits until a value is there, loss(value) makes it a number."""
    out = {"workload": args.workload, "mode": "infer" if args.infer else "train", "engine": engine, "config": args.config,
           "threads": args.threads, "batch": args.batch}
    begin = time.perf_counter()
    first = step()
    finish(first)
    out["first_step_ms"] = (time.perf_counter() - begin) * 1e3
    if loss:
        out["first_loss"] = loss(first)
    out["start_ms"] = (time.perf_counter() - START) * 1e3
    for _ in range(WARM_UP - 1):
        value = step()
    finish(value)

    def block(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            value = step()
        finish(value)
        return (time.perf_counter() - begin) / steps * 1e3, value

    if args.turns:
        print(json.dumps(out), flush=True)
        for _ in sys.stdin:
            step()  # others have used the caches meanwhile
            ms, value = block(args.steps)
            print(json.dumps({"ms": ms}), flush=True)
    else:
        turns = [block(args.steps) for _ in range(BLOCKS)]
        out["ms"], value = min(turns, key=lambda turn: turn[0])
    if loss:
        out["last_loss"] = loss(value)
    out["peak_rss_mb"] = peak_memory_mb()
    out["processor"] = processor()
    print(json.dumps(out), flush=True)
