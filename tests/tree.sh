#!/bin/bash
# Checks of the tree and of what was built: include arrows, exported symbols, headers by themselves, scripts.
cd "$(dirname "$0")/.." || exit 2
build=$(realpath "${BUILD:-build}")
passed=0 failed=0
check() { # check NAME COMMAND...: passes when the command exits with 0 and prints nothing
    local name=$1 out
    shift
    if out=$("$@" 2>&1) && [ -z "$out" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'not ok: %s\n%s\n' "$name" "$out"
    fi
}

exported() { nm -D --defined-only "$build/libnabla.so" | awk '$3 !~ /^nb_[^_]/ { print "exported:", $3 }'; }
inner() { nm -g --defined-only "$build/libnabla.a" | awk 'NF == 3 && $3 !~ /^nb_/ { print "global:", $3 }'; }
missing() { # everything the headers promise is there
    sed -n 's/.*NB_API [^(]*[ *]\(nb_[a-z0-9_]*\)(.*/\1/p' include/nabla.h include/nabla/*.h | sort -u >"$build/promised"
    nm -D --defined-only "$build/libnabla.so" | awk '{ print $3 }' | sort -u | comm -23 "$build/promised" -
}
soname() { readelf -d "$build/libnabla.so" | grep -q 'SONAME.*libnabla\.so\.0' || echo no soname; }
writable() { # no global state: nothing of ours in .data or .bss
    nm --format=sysv --defined-only "$build/libnabla.a" |
        awk -F'|' '$7 ~ /^\.(bss|data)$/ || $7 ~ /COM/ { print "writable:", $1 }'
}
header() { echo '#include "nabla.h"' | "$@" -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -; }
links() { printf '#include "nabla.h"\nint main(void) { nb_close(nb_open(NULL)); return 0; }\n' |
    gcc -x c -std=c17 -Iinclude - -o "$build/links" "-L$build" -lnabla "-Wl,-rpath,$build" && "$build/links"; }

check 'include arrows' tools/arrows
check 'only nb_ is exported' exported
check 'only nb_ is global' inner
check 'all that is promised is exported' missing
check 'soname' soname
check 'no writable globals' writable
check 'the header as C17' header gcc -std=c17 -x c
check 'the header as C++17' header g++ -std=c++17 -x c++
check 'a program with the shared library' links
for script in tools/deps tools/bench.sh .ci/run; do check "$script" sh -n $script; done
for script in tests/run tools/arrows tests/*.sh; do check "$script" bash -n "$script"; done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
