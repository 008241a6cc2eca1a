#!/usr/bin/env bash
# The tests that need a card: each kernel's, then the backend against the CPU's on the demo model, then some of them
# again under compute-sanitizer. Ends with "N passed, N failed".
# Usage: gpu-test.sh PROGRAMS MODEL; without arguments in a bundle, beside its programs. SANITIZE=0 leaves the last part out.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=${1:-$here} model=${2:-$here/../models/storyteller}
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# NAME COMMAND...: runs it, prints one line, and all output where it failed.
check() {
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name, $((SECONDS - start)) s"
        grep '^figure:' "$log"
    else
        failed=$((failed + 1))
        echo "FAIL $name (exit $?), $((SECONDS - start)) s"
        tail -60 "$log"
    fi
}

kernels=()
for t in "$programs"/kernels/test_* "$programs"/test_*; do
    [ -f "$t" ] && [ -x "$t" ] && kernels+=("$t")
done
[ ${#kernels[@]} -gt 0 ] || { echo "gpu-test: no programs in $programs"; exit 1; }
for t in "${kernels[@]}"; do
    if [ "${t##*/}" = test_selftest ] && "$t" 2>&1 | grep -q 'there is no card'; then
        echo "gpu-test: there is no card here"
        exit 1
    fi
done

for t in "${kernels[@]}"; do
    check "${t##*/}" "$t"
done

parity=$programs/gpu/parity
[ -x "$parity" ] || parity=$programs/parity
if [ -x "$parity" ]; then
    for quant in none int8 int4; do
        check "parity, $quant" "$parity" --quant "$quant" --adapters "$model/adapters" "$model"
    done
fi

# The sanitizer's tools are 10 to 100 times slower: the kernels, and a few steps of the demo model.
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ "${SANITIZE:-1}" = 0 ]; then
    echo "sanitizer: left out"
elif [ -z "$sanitizer" ]; then
    echo "sanitizer: compute-sanitizer is not here, left out"
else
    for tool in memcheck racecheck synccheck initcheck; do
        for t in "${kernels[@]}"; do
            check "$tool ${t##*/}" "$sanitizer" --tool "$tool" --error-exitcode 9 --launch-timeout 120 "$t"
        done
        [ -x "$parity" ] && check "$tool parity" "$sanitizer" --tool "$tool" --error-exitcode 9 "$parity" \
            --quant int4 --sequences 4 --draws 1 --adapters "$model/adapters" "$model" company
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
