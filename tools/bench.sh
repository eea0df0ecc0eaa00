#!/bin/sh
# bench.sh DIR [FILE]: what `make bench` does: the operators, the six nets, inference, start and memory, each program in DIR (build/bench).
# JSON goes to FILE, a line each (DIR/bench.jsonl; "-": to standard output, and no tables).
# May be set in the environment: THREADS="1 2", ROUNDS=3 (best of), NETS="moons mlp ...", SIZES="1000 ..." of operators ("": none).
set -u
dir=${1:-build/bench}
file=${2:-$dir/bench.jsonl}
threads=$(printf '%s\n' ${THREADS:-1 $(nproc)} | sort -nu)
nets=${NETS-moons mlp cnn lstm gpt-s gpt-m}
sizes=${SIZES-1000 100000 10000000 64 256 1024}
for program in nets operators; do
    [ -x "$dir/$program" ] || { echo "bench.sh: $dir/$program is not there: run make first" >&2; exit 2; }
done
lines=$(mktemp) || exit 2
trap 'rm -f "$lines"' EXIT

say() { [ "$file" = - ] || printf "$@"; }
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p"; }
keep() { if [ "$file" = - ]; then cat "$1"; else cat "$1" >>"$file"; fi; }

# The best of several processes: what is slow in one of them is noise.
best() {
    : >"$lines.all"
    for round in $(seq "${ROUNDS:-3}"); do "$dir/nets" "$@" --json >>"$lines.all" || exit 1; done
    sort -t: -k1,1 "$lines.all" | awk '{ match($0, /"ms": [0-9.e+-]+/); ms = substr($0, RSTART + 6, RLENGTH - 6) + 0
        if (best == "" || ms < best) { best = ms; line = $0 } } END { print line }' >"$lines"
    rm -f "$lines.all"
    keep "$lines"
}

[ "$file" = - ] || : >"$file"
for t in $threads; do
    for size in $sizes; do
        "$dir/operators" --threads "$t" --size "$size" --blocks "${BLOCKS:-9}" --json >"$lines" || exit 1
        keep "$lines"
        if [ "$size" = "${sizes%% *}" ]; then
            say '%s, %s thread(s): %s GFLOP/s; copies of 1e3, 1e5 and 1e7 floats at %s GB/s\n\n%-18s %9s %11s %8s %8s %7s\n' \
                "$(field machine <"$lines")" "$t" "$(field peak_gflop_per_s <"$lines")" \
                "$(sed -n 's/.*"1000": \([^,]*\), "100000": \([^,]*\), "10000000": \([^}]*\)}.*/\1, \2 and \3/p' "$lines")" \
                operator size us GB/s GFLOP/s share
        fi
        [ "$file" = - ] || sed 's/[{}"]//g; s/, /\n/g' "$lines" | awk -F': ' '$1 == "case" { name = $2 } $1 == "size" { size = $2 }
            $1 == "ms" { ms = $2 } $1 == "gb_per_s" { gb = $2 } $1 == "gflop_per_s" { gflop = $2 }
            $1 ~ /share_of/ { printf "%-18s %9d %11.4g %8.3g %8.3g %6.0f%%\n", name, size, ms * 1e3, gb, gflop, $2 * 100 }'
    done
    say '\n%-24s %7s %10s %9s %7s %8s %8s %11s\n' net threads ms floor share GFLOP/s 'peak MB' 'compile ms'
    for net in $nets; do
        calls="train"
        case $net in mlp | cnn) calls="train --infer_--batch_1 --infer_--batch_64 --infer_--batch_1000" ;; esac
        for call in $calls; do
            # shellcheck disable=SC2046 # words
            best --workload "$net" --threads "$t" --floor ${STEPS:+--steps $STEPS} $(echo "$call" | sed 's/^train$//; s/_/ /g')
            say '%-24s %7d %10.4g %9.3g %6.0f%% %8.3g %8.0f %11.3g\n' "$net $(echo "$call" | sed 's/[-_]*infer_--batch_/infer, batch /')" "$t" \
                "$(field ms <"$lines")" "$(field floor_ms <"$lines")" \
                "$(field share_of_floor <"$lines" | awk '{ print $1 * 100 }')" "$(field gflop_per_s <"$lines")" \
                "$(field peak_rss_mb <"$lines")" "$(field compile_ms <"$lines")"
        done
    done
    say '\n'
done
best --workload mlp --start
say 'From the start of a process to its first finished training step of mlp: %.3g ms, %.3g MB.\n' \
    "$(field ms <"$lines")" "$(field peak_rss_mb <"$lines")"
[ "$file" = - ] || echo "JSON: $file"
