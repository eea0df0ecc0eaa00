#!/bin/sh
# bench.sh NETS [PYTHON]: the benchmark nets in Nabla and, where PYTHON has torch, in PyTorch, as one table.
# Both run by turns, three times each, and the best of each counts: absolute times drift on shared machines, ratios much less.
# THREADS="1 2", ROUNDS=3 and CASES="mlp mlp--infer ..." may be set in the environment.
set -u
nets=${1:-build/bench/nets}
python=${2:-python3}
here=$(dirname "$0")
threads=${THREADS:-1 $(nproc)}
rounds=${ROUNDS:-3}
cases=${CASES:-moons mlp cnn mlp--infer mlp--infer--batch=1 cnn--infer cnn--infer--batch=1 mlp--hvp}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS

[ -x "$nets" ] || { echo "bench.sh: $nets is not there: run make first" >&2; exit 2; }
peer=
if version=$("$python" -c 'import torch; print("PyTorch", torch.__version__)' 2>/dev/null); then peer=$version; fi

field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p"; }
smaller() { awk -v a="$1" -v b="$2" 'BEGIN { print (a == "" || b + 0 < a + 0) ? b : a }'; }

out=$("$nets" --workload moons --steps 1 --json) || exit 1
echo "Processor: $(echo "$out" | field processor), $(nproc) cores. Kernels: $(echo "$out" | field kernels). Best of $rounds, ms a step or call."
[ -n "$peer" ] && echo "Peer: $peer, as written." || echo "$python has no torch: Nabla alone (make bench PYTHON=/path/to/python)."
printf '%-24s %7s %10s %10s %7s\n' case threads nabla torch ratio

for t in $(printf '%s\n' $threads | sort -nu); do
    for case in $cases; do
        options=$(echo "$case" | sed 's/--/ --/g; s/=/ /g')
        own= other=
        for round in $(seq "$rounds"); do
            # shellcheck disable=SC2086 # the options are words
            ms=$("$nets" --workload $options --threads "$t" --json | field ms) && own=$(smaller "$own" "$ms")
            [ -n "$peer" ] || continue
            # shellcheck disable=SC2086
            ms=$("$python" "$here/bench_torch.py" --workload $options --threads "$t" --json | field ms) && other=$(smaller "$other" "$ms")
        done
        awk -v name="$(echo "$case" | sed 's/--/ /g')" -v t="$t" -v a="$own" -v b="$other" \
            'BEGIN { printf "%-24s %7d %10.4g ", name, t, a; if (b != "") printf "%10.4g %6.2fx\n", b, b / a; else print "" }'
    done
done
