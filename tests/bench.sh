#!/bin/sh
# The benchmark programs with tiny settings: they run, their JSON is JSON, and results have the same bits for one and two threads.
set -u
build=${BUILD:-build}
passed=0 failed=0
ok() { passed=$((passed + 1)); }
not_ok() { failed=$((failed + 1)); echo "FAILED: $1"; }
json=$(mktemp) || exit 2
trap 'rm -f "$json"' EXIT
is_json() { python3 -c 'import json, sys
for line in sys.stdin: json.loads(line)' <"$json"; }
command -v python3 >/dev/null || is_json() { grep -q '^{.*}$' "$json"; }
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p" "$json"; }

for case in moons mlp 'mlp --infer --batch 3' 'mlp --hvp' 'cnn --batch 2' 'cnn --infer --batch 1' 'lstm --batch 2' \
    'gpt-s --batch 1'; do
    digest=
    for threads in 1 2; do
        # shellcheck disable=SC2086 # words
        "$build/bench/nets" --workload $case --threads $threads --steps 1 --json >"$json"
        if [ $? = 0 ] && is_json; then ok; else not_ok "$case"; fi
        [ $threads = 1 ] && digest=$(field digest)
    done
    if [ -n "$digest" ] && [ "$digest" = "$(field digest)" ]; then ok; else not_ok "$case: other bits with 2 threads"; fi
done

"$build/bench/nets" --workload mlp --steps 1 --floor --json >"$json"
if [ -n "$(field share_of_floor)" ] && is_json; then ok; else not_ok "nets --floor"; fi
"$build/bench/nets" --workload moons --start --json >"$json"
if [ -n "$(field peak_rss_mb)" ] && is_json; then ok; else not_ok "nets --start"; fi
printf '\n\n' | "$build/bench/nets" --workload moons --steps 2 --turns >"$json"
if [ "$(wc -l <"$json")" = 4 ] && is_json; then ok; else not_ok "nets --turns"; fi

"$build/bench/operators" --size 1000 --blocks 1 --json >"$json" && "$build/bench/operators" --size 64 --blocks 1 --json >>"$json"
cases=$("$build/bench/operators" --list | wc -l)
if [ "$(wc -l <"$json")" = $((cases + 2)) ] && is_json; then ok; else not_ok "operators: $cases cases"; fi
printf 'add 1000\n\nno_such 1\n' | "$build/bench/operators" --turns >"$json"
if [ "$(wc -l <"$json")" = 3 ] && is_json; then ok; else not_ok "operators --turns"; fi
if "$build/bench/operators" --only no_such >/dev/null 2>&1; then not_ok "an unknown case"; else ok; fi
NETS=moons SIZES=64 THREADS=1 ROUNDS=1 STEPS=1 BLOCKS=1 tools/bench.sh "$build/bench" - >"$json"
if [ "$(wc -l <"$json")" = 7 ] && is_json; then ok; else not_ok "tools/bench.sh"; fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
