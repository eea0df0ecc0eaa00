#!/bin/bash
# Builds and runs every example and compares its last line with tests/golden/examples.txt; does the same with the README's C
# program, compiled as the README says, and the output that it shows; measures the size of a program with Nabla inside.
cd "$(dirname "$0")/.." || exit 2
root=$PWD build=${BUILD:-build}
case $build in /*) ;; *) build=$root/$build ;; esac
work=$build/examples/run
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { # fail NAME WHAT...
    failed=$((failed + 1))
    echo "not ok: $1"
    shift
    printf '    %s\n' "$@"
}
same() { # same NAME WANTED FOUND
    if [ "$2" = "$3" ]; then pass; else fail "$1" "wanted: $2" "found:  $3"; fi
}

mkdir -p "$work"
make --no-print-directory -s BUILD="$build" all examples || { echo "0 passed, 1 failed"; exit 1; }

# Lines that hold code: neither empty nor comment alone.
lines_of_code() { awk '/^ *\/\*/ { comment = 1 } !comment && NF { n++ } /\*\// { comment = 0 } END { print n + 0 }' "$1"; }

# Every example is in the list, runs in an empty folder, exits with 0, and is under 80 lines of C (micro, a whole engine: at most
# 150).
for source in examples/*.c; do
    name=$(basename "$source" .c)
    wanted=$(sed -n "s/^$name  *//p" tests/golden/examples.txt)
    (cd "$work" && timeout 120 "$build/examples/$name" >"$name.out" 2>"$name.err") ||
        fail "$name: exit code $?" "$(tail -n 3 "$work/$name.err")"
    found=$(tail -n 1 "$work/$name.out")
    same "$name" "$wanted" "$found"
    lines=$(lines_of_code "$source")
    if [ "$lines" -lt "$([ "$name" = micro ] && echo 151 || echo 80)" ]; then pass; else fail "$name: $lines lines"; fi
done

# The first ```c block of the README is a whole program; the first ```text block is what it prints.
block() { awk -v open="\`\`\`$1" '$0 == open && !done { on = 1; next } /^```$/ && on { exit } on' README.md; }
block c >"$work/readme.c"
if gcc -std=c17 -Wall -Wextra -Wpedantic -Werror -Iinclude "$work/readme.c" -o "$work/readme" \
    "-L$build" -lnabla "-Wl,-rpath,$build"; then
    same 'README' "$(block text)" "$(cd "$work" && ./readme 2>&1)"
    if [ "$(wc -l <"$work/readme.c")" -le 25 ]; then pass; else fail 'README: its program has more than 25 lines'; fi
else
    fail 'README: its program does not compile'
fi

# Each line with which the README compiles it gives a program that runs, the one with the shared library too.
while read -r line; do
    case $line in *pkg-config*) command -v pkg-config >/dev/null || continue ;; esac
    rm -f "$work/readme"
    command=$(sed "s,\$PWD/build,$build,; s,build/libnabla,$build/libnabla,
                   s,-Lbuild,-L$build,; s,PATH=build,PATH=$build," <<<"$line")
    command=${command/program.c/-o "'$work/readme'" "'$work/readme.c'"}
    if eval "$command"; then same "README: $line" "$(block text)" "$(cd "$work" && ./readme 2>&1)"; else fail "README: $line"; fi
done < <(grep '^    cc program.c' README.md)

# A program that trains, with the library inside (its loops for three instruction sets) and no oneDNN, stays below 1.7 MB.
if make --no-print-directory -s -j2 BUILD="$build/own" DNNL=0 EXTRA=-Werror "$build/own/examples/embed"; then
    strip -o "$work/embed" "$build/own/examples/embed"
    size=$(stat -c %s "$work/embed")
    echo "embed, stripped, without oneDNN: $size bytes"
    if [ "$size" -lt 1700000 ]; then pass; else fail "embed: $size bytes"; fi
    same 'embed without oneDNN' "$(sed -n 's/^embed  *//p' tests/golden/examples.txt)" "$(cd "$work" && ./embed | tail -n 1)"
    needed=$(ldd "$work/embed" | grep -i 'dnnl\|gomp\|nabla')
    if [ "$needed" ]; then fail 'embed: needs more than it should' "$needed"; else pass; fi
else
    fail 'embed: does not build without oneDNN'
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
