#!/usr/bin/env python3
"""The benchmark nets in Nabla and its peers, by turns, as Markdown tables: docs/benchmarks.md says how to read them.

Figures are kept in a file, cell by cell: a run that was stopped, or given only some --workloads, adds to what is there, and
--table prints what there is without measuring."""
import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys

import turns

HERE = os.path.dirname(os.path.abspath(__file__))
NETS = ["moons", "mlp", "cnn", "lstm", "gpt-s", "gpt-m"]
PEERS = {  # name in the table: program, configuration, counted, nets
    "PyTorch, as written": ("torch", "plain", True, NETS),
    "PyTorch, fused optimiser": ("torch", "fused", True, NETS),
    "PyTorch, fused, channels-last": ("torch", "channels-last", True, ["cnn"]),
    "PyTorch, torch.compile": ("torch", "compile", True, NETS),
    "JAX jit": ("jax", "jit", True, NETS),
    "PyTorch, bfloat16 autocast": ("torch", "bfloat16", False, NETS[2:]),
    "tinygrad, JIT": ("tinygrad", "JIT", False, NETS[:2]),
    "C by hand": ("by_hand", "", False, ["mlp"]),
}
CALLS = [(net, batch) for net in ("mlp", "cnn") for batch in (1, 64, 1000)]
BEGIN, END = "<!-- bench -->\n", "<!-- end of bench -->\n"
INFERENCE = {"ONNX Runtime": ("onnx", "all"), "PyTorch inference_mode": ("torch", "plain")}


def program(args, name, config):
    if name == "by_hand":
        return [os.path.join(args.bench, "by_hand")]
    return [args.python, os.path.join(HERE, "peers", name + "_nets.py"), "--config", config]


def measure(args, key, nabla_options, peers):
    """All who take part in one cell, by turns; what the machine needs at least comes afterwards."""
    threads = key.split()[-1]
    options = [*nabla_options, "--threads", threads]
    commands = {"Nabla": [os.path.join(args.bench, "nets"), *options, "--turns"]}
    for name, (peer, config) in peers.items():
        if args.peers and not any(part in name for part in args.peers.split(",")):
            continue
        if peer != "by_hand" or os.path.exists(program(args, peer, "")[0]):
            commands[name] = [*program(args, peer, config), *options, "--turns"]
    found = turns.take_turns(commands, args.rounds, args.lock, lambda error: print(f"{key}: {error}", file=sys.stderr))
    with turns.alone(args.lock, []):
        found["Nabla"] |= {"floor_ms": json_of([*commands["Nabla"][:-1], "--floor", "--steps", "1", "--json"])["floor_ms"]}
    for name, result in found.items():
        print(f"{key:16} {name:30} {result['ms']:10.4g} ms, median {statistics.median(result['times']):10.4g}, "
              f"peak {result['peak_rss_mb'] if 'peak_rss_mb' in result else 0:5.0f} MB", file=sys.stderr, flush=True)
    return found


def json_of(command):
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=turns.environment()).stdout)


def measure_all(args, results):
    def keep(key, found):
        results[key] = {**results.get(key, {}), **found}
        with open(args.json, "w") as file:
            json.dump(results, file)

    threads = args.threads.split(",")
    for net in args.workloads.split(","):
        peers = {name: (peer, config) for name, (peer, config, _, nets) in PEERS.items() if net in nets}
        for count in threads:
            if net in NETS:
                keep(f"train {net} {count}", measure(args, f"train {net} {count}", ["--workload", net], peers))
    for net, batch in CALLS:
        for count in threads if "infer" in args.workloads.split(",") else ():
            key = f"infer {net} {batch} {count}"
            keep(key, measure(args, key, ["--workload", net, "--infer", "--batch", str(batch)], INFERENCE))
    if "start" in args.workloads.split(","):
        with turns.alone(args.lock, []):
            keep("start", {"Nabla": json_of([os.path.join(args.bench, "nets"), "--workload", "mlp", "--start", "--json"])})
    results["machine"] = {"processor": turns.processor(), "cores": os.cpu_count()}
    keep("machine", {})


# ------------------------------------------------------------------------------------------------------------------ tables


def row(name, cells):
    if any(cells):
        print(f"| {name} | {' | '.join(cells)} |")


def heading(first, columns):
    row(first, columns)
    print("|---" * (len(columns) + 1) + "|")


def cell(results, keys, value):
    """value(cell) of each key, as "1.2 / 0.8"; empty where there is nothing."""
    numbers = [value(results[key]) if key in results else None for key in keys]
    return " / ".join("-" if n is None else n if isinstance(n, str) else f"{n:.3g}" if n < 999.5 else f"{n:.0f}" for n in numbers) \
        if any(n is not None for n in numbers) else ""


def ms_of(name, scale=1):
    return lambda found: found[name]["ms"] * scale if name in found else None


def ratio_to(names, kind=min):
    """How many times longer the best of these takes: of the best blocks (min), or the median of the rounds' ratios."""
    def ratio(found):
        peers = [found[name] for name in names if name in found]
        if not peers or "Nabla" not in found:
            return None
        if kind is min:
            return min(peer["ms"] for peer in peers) / found["Nabla"]["ms"]
        best = min(peers, key=lambda peer: peer["ms"])
        return statistics.median(b / a for a, b in zip(found["Nabla"]["times"], best["times"]))

    return ratio


def share(found):
    return f"{found['Nabla']['floor_ms'] / found['Nabla']['ms'] * 100:.0f} %" if "Nabla" in found else None


def print_tables(results, threads):
    machine = results.get("machine", {})
    versions = {found["engine"] for key, cell in results.items() if key != "machine" for found in cell.values() if "engine" in found}
    both = " / ".join(f"{t} thread{'s' * (t != '1')}" for t in threads)
    print(f"{machine.get('processor')}, {machine.get('cores')} cores; {both}. {', '.join(sorted(versions - {'nabla', 'C by hand'}))}.\n")

    columns = {net: [f"train {net} {t}" for t in threads] for net in NETS}
    print("Milliseconds a training step:\n")
    heading("", list(columns))
    counted = [name for name, (_, _, count, _) in PEERS.items() if count]
    row("**Nabla**", [cell(results, keys, ms_of("Nabla")) for keys in columns.values()])
    for name, (_, _, count, _) in PEERS.items():
        row(name if count else f"*{name}*", [cell(results, keys, ms_of(name)) for keys in columns.values()])
    row("**times faster than the best peer**", [cell(results, keys, ratio_to(counted)) for keys in columns.values()])
    row("the same, median of rounds", [cell(results, keys, ratio_to(counted, statistics.median)) for keys in columns.values()])
    row("floor", [cell(results, keys, lambda found: found.get("Nabla", {}).get("floor_ms")) for keys in columns.values()])
    row("share of the floor reached", [cell(results, keys, share) for keys in columns.values()])

    calls = {f"{net} b{batch}": [f"infer {net} {batch} {t}" for t in threads] for net, batch in CALLS}
    print("\nMicroseconds a call of inference, by batch:\n")
    heading("", list(calls))
    for name in ("Nabla", *INFERENCE):
        row(name, [cell(results, keys, ms_of(name, 1000)) for keys in calls.values()])
    row("**times faster than ONNX Runtime**", [cell(results, keys, ratio_to(["ONNX Runtime"])) for keys in calls.values()])

    print("\nPeak memory of the training process in MB, and milliseconds to compile the step:\n")
    heading("", list(columns))
    for name in ("Nabla", "PyTorch, fused optimiser", "JAX jit"):
        row(name, [cell(results, keys[:1], lambda found, name=name: found.get(name, {}).get("peak_rss_mb")) for keys in columns.values()])
    row("Nabla: compiling", [cell(results, keys[:1], lambda found: found.get("Nabla", {}).get("compile_ms")) for keys in columns.values()])

    if "start" in results:
        start, mlp = results["start"]["Nabla"], results.get("train mlp " + threads[0], {})
        others = [f"{name} {mlp[name]['start_ms'] / 1000:.1f} s and {mlp[name]['peak_rss_mb']:.0f} MB"
                  for name in ("PyTorch, as written", "JAX jit", "tinygrad, JIT") if name in mlp]
        print("\nFrom the start of the process to the first finished training step of mlp: "
              + ", ".join([f"Nabla {start['ms']:.0f} ms and {start['peak_rss_mb']:.0f} MB", *others]) + ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench", help="the folder of nets and by_hand")
    parser.add_argument("--python", default=sys.executable, help="that has the peers")
    parser.add_argument("--workloads", default=",".join(NETS + ["infer", "start"]))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--peers", help="these alone: 'JAX,fused', say; parts of their names")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", default="build/peers.json", help="where figures are kept")
    parser.add_argument("--lock", help="a file to lock while measuring, on a machine where others measure too")
    parser.add_argument("--table", action="store_true", help="print the tables of what was measured before")
    parser.add_argument("--into", help="write them into this file too, between the lines <!-- bench --> and <!-- end of bench -->")
    args = parser.parse_args()
    results = {}
    if os.path.exists(args.json):
        with open(args.json) as file:
            results = json.load(file)
    if not args.table:
        measure_all(args, results)
    tables = io.StringIO()
    with contextlib.redirect_stdout(tables):
        print_tables(results, args.threads.split(","))
    print(tables.getvalue(), end="")
    if args.into:
        with open(args.into) as file:
            before, rest = file.read().split(BEGIN)
        with open(args.into, "w") as file:
            file.write(before + BEGIN + tables.getvalue() + END + rest.split(END)[1])


main()
