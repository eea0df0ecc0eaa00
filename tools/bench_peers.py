#!/usr/bin/env python3
"""The benchmark nets in Nabla and its peers, by turns, as one table (Markdown).

Usage: bench_peers.py [--nets BINARY] [--python PYTHON] [--workloads moons,mlp,...] [--threads 1,2] [--rounds 9] [--json FILE]"""
import argparse
import json
import os
import statistics
import sys

import turns

HERE = os.path.dirname(os.path.abspath(__file__))
WORKLOADS = ["moons", "mlp", "cnn", "lstm", "gpt-s", "gpt-m"]
PEERS = {  # name in the table: program, configuration, counted, nets
    "PyTorch, as written": ("torch", "plain", True, WORKLOADS),
    "PyTorch, fused optimiser": ("torch", "fused", True, WORKLOADS),
    "PyTorch, fused, channels-last": ("torch", "channels-last", True, ["cnn"]),
    "PyTorch, torch.compile": ("torch", "compile", True, WORKLOADS),
    "JAX jit": ("jax", "jit", True, WORKLOADS),
    "PyTorch, bfloat16 autocast": ("torch", "bfloat16", False, WORKLOADS[2:]),
}


def commands(args, workload, threads):
    options = ["--workload", workload, "--threads", str(threads), "--turns"]
    if args.nets:
        yield "Nabla", [args.nets, *options]
    for name, (program, config, _, nets) in PEERS.items():
        if workload in nets and (not args.peers or program + " " + config in args.peers.split(",")):
            yield name, [args.python, os.path.join(HERE, "peers", program + "_nets.py"), *options, "--config", config]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--peers", help="these alone: 'torch fused,jax jit', say")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lock")
    parser.add_argument("--json")
    args = parser.parse_args()
    results = {}
    for workload in args.workloads.split(","):
        for threads in map(int, args.threads.split(",")):
            found = turns.take_turns(dict(commands(args, workload, threads)), args.rounds, args.lock, lambda e: print(e, file=sys.stderr))
            for name, result in found.items():
                print(f"{workload:6} {threads} {name:32} {result['ms']:10.4g} ms  median {statistics.median(result['times']):10.4g}"
                      f"  first step {result.get('first_step_ms', 0):8.0f} ms  peak {result.get('peak_rss_mb', 0):5.0f} MB", flush=True)
                results.setdefault(f"{workload} {threads}", {})[name] = result
            if args.json:
                with open(args.json, "w") as file:
                    json.dump(results, file)


main()
