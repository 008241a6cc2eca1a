#!/usr/bin/env bash
# Registers and spills of each kernel, from the logs that nvcc left beside the objects, most registers last.
# Usage: kernel-usage.sh FOLDER... Spills are marked; they are no error, but each needs a reason in the kernel's head.
set -euo pipefail
find "$@" -name '*.log' -exec cat {} + | awk -F"'" '
/Compiling entry function/ {name = $2; arch = $4}
/bytes spill stores/ {n = split($0, word, " "); for (i = 1; i <= n; i++) if (word[i] == "spill") {spill = word[i - 2]; break}}
/Used [0-9]+ registers/ {
    regs = $0; sub(/.*Used /, "", regs); sub(/ .*/, "", regs)
    printf "%s %3d registers, %d bytes spilled%s: %s\n", arch, regs, spill, (spill > 0 ? " <--" : ""), name
}' | c++filt | sort -k1,1 -k2,2n
