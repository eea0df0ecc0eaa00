#!/usr/bin/env python3
"""The operators of build/bench/operators beside PyTorch and NumPy, by turns, as a table: microseconds, and how many times faster Nabla is
than the best of them.

Usage: bench_operators_peers.py --operators BINARY [--python PYTHON] [--threads 1,2] [--only NAME,NAME] [--sizes 1000,...] [--rounds 5]
The slowest ratios come last. With --json FILE all figures are kept."""
import argparse
import json
import os
import statistics
import subprocess
import sys

import turns

HERE = os.path.dirname(os.path.abspath(__file__))
# Freed memory is used again at once instead of being mapped anew for each large result.
REUSE = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only")
    parser.add_argument("--sizes", default="1000,100000,10000000,64,256,1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lock", help="hold this lock while measuring")
    parser.add_argument("--json")
    args = parser.parse_args()
    names = subprocess.run([args.operators, "--list"], capture_output=True, text=True, check=True).stdout.split()
    if args.only:
        names = args.only.split(",")
    rows = []
    for threads in map(int, args.threads.split(",")):
        rows += measure(args, names, threads)
    rows.sort(key=lambda row: (row["threads"], -row["ratio"]))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file)
    for threads in sorted({row["threads"] for row in rows}):
        mine = [row for row in rows if row["threads"] == threads]
        slow = [row for row in mine if row["ratio"] < 1]
        print(f"\n{turns.processor()}, {threads} thread{'s' * (threads > 1)}: {len(mine)} cases, {len(slow)} slower than the best peer; "
              f"median ratio {statistics.median(row['ratio'] for row in mine):.2f}\n")
        print(f"{'case':18} {'size':>9} {'nabla us':>11} {'torch us':>11} {'numpy us':>11} {'GB/s':>7} {'GFLOP/s':>8} {'ratio':>7}")
        for row in mine:
            numpy = f"{row['numpy'] * 1e3:11.4g}" if row["numpy"] else " " * 11
            print(f"{row['case']:18} {row['size']:9} {row['nabla'] * 1e3:11.4g} {row['torch'] * 1e3:11.4g} {numpy} {row['gb']:7.3g} "
                  f"{row['gflop']:8.3g} {row['ratio']:7.2f}")


def measure(args, names, threads):
    environment = {**turns.environment(), **REUSE, "OPENBLAS_NUM_THREADS": str(threads)}
    rows, script = [], os.path.join(HERE, "peers", "operators.py")
    nabla = turns.Engine("nabla", [args.operators, "--turns", "--threads", str(threads)], environment)
    others = [turns.Engine(name, [args.python, script, name, str(threads)], environment) for name in ("torch", "numpy")]
    for other in others:
        other.start()
    for name in names:
        for size in map(int, args.sizes.split(",")):
            if (size in (64, 256, 1024)) != name.startswith("matmul"):
                continue
            cost = nabla.order(f"{name} {size}")
            taking_part = [nabla] + [other for other in others if other.order(f"{name} {size}")["known"]]
            for engine in [nabla, *others]:
                engine.times = []
            with turns.alone(args.lock, taking_part):
                for _ in range(args.rounds):
                    for engine in taking_part:
                        engine.turn()
            best = {engine.name: min(engine.times) for engine in taking_part}
            row = {"case": name, "size": size, "threads": threads, "nabla": best["nabla"], "torch": best["torch"],
                   "numpy": best.get("numpy"), "gb": cost["bytes"] / best["nabla"] * 1e-6, "gflop": cost["flops"] / best["nabla"] * 1e-6}
            row["ratio"] = min(best[other] for other in best if other != "nabla") / best["nabla"]
            rows.append(row)
    for engine in [nabla, *others]:
        engine.process.stdin.close()
        engine.process.wait()
    return rows


main()
