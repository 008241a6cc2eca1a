# Sourced by the gpu_*.sh scripts: where a program lies, in the build folder or the unpacked bundle $bin.
program() {
    local at
    for at in "$bin/$1" "$bin/bin/$1" "$bin/tests/gpu/$1" "$bin/tests/$1"; do
        [ -f "$at" ] && [ -x "$at" ] && echo "$at" && return
    done
    echo "$bin/$1"
}
