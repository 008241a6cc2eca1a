#!/usr/bin/env bash
# Engine parity on a card: models of all four families with adapters of every kind, in every weight format.
#   gpu_test.sh [MODE...]    modes: self steps company jobs demo plain kv (default: all)
# BIN: build folder or unpacked bundle that has the programs (build); BACKEND: cuda; LAUNCHES=plain: as cards before sm_90;
# EXTRA: more options of parity, as "--sequences 8 --jobs 16" for the emulated card of build/emu. Random models are made where python3
# has numpy; the golden models are always there. One line a run, exit code 1 when something did not hold, details in OUT/parity.log.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build}
out=${OUT:-gpu-logs}
backend=${BACKEND:-cuda}
launches=${LAUNCHES:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
log=$out/parity.log
: >"$log"
. scripts/gpu_programs.sh
parity=$(program parity)
failed=0
count=0

run() { # expected exit code, what it is called here, then options of parity
    local want=$1 label=$2 begin rc
    shift 2
    begin=$(date +%s.%N)
    echo "+ parity $*" >>"$log"
    timeout 300 "$parity" ${EXTRA:-} ${launches:+--launches "$launches"} "$@" >"$work/one" 2>&1
    rc=$?
    cat "$work/one" >>"$log"
    count=$((count + 1))
    if [ $rc -ne "$want" ]; then
        failed=$((failed + 1))
        printf 'FAIL rc %d, want %d: %s\n' "$rc" "$want" "$label"
        tail -12 "$work/one" | cut -c1-400
    else
        printf 'ok %5.1f s  %-34s %s\n' "$(awk "BEGIN { print $(date +%s.%N) - $begin }")" "$label" \
            "$(grep -oE '(largest difference .* its bound|[0-9]+ of [0-9]+ (decode rows .* )?differ|NOT HELD)' "$work/one" | tr '\n' ';' |
                cut -c1-160)"
    fi
}

sets() { # --adapters for every folder of adapter sets
    local d
    for d in "$@"; do
        [ -d "$d" ] && printf -- '--adapters %s ' "$d"
    done
}

models=()
for arch in llama mistral qwen2 qwen3; do
    models+=("golden $arch|tests/golden/data/$arch/model|$(sets tests/golden/data/$arch/adapters)")
done
if python3 -c 'import numpy' 2>/dev/null; then
    for arch in llama mistral qwen2 qwen3; do
        python3 scripts/make_random_model.py --out "$work/$arch" --shape "tiny-$arch" --adapters 'all*2=8,all' --adapters 'qkv=16,qkv' \
            --adapters 'head=4,all,head' --adapters 'dora=8,all,dora' --adapters 'wide=40,o_proj,up_proj,down_proj,f32' \
            --adapters 'one=1,all,rslora' --adapters 'most=512,k_proj,gate_proj' >>"$log" 2>&1
        models+=("random $arch|$work/$arch|$(sets "$work/$arch"/adapters/*)")
    done
else
    echo "gpu_test: python3 has no numpy, the random models are left out"
fi

each() { # sets name, dir and sets of adapters from an entry of models
    IFS='|' read -r name dir adapters <<<"$1"
}

self() { # the comparison itself: noise of the right size holds, a fault of 2 % does not
    each "${models[0]}"
    run 0 "$name, noise" --backend noisy $adapters "$dir" steps
    run 1 "$name, 2 % too strong" --backend noisy --plant 1.02 $adapters "$dir" steps
}
over() { # modes of parity, then formats: every model
    local entry quant modes=$1
    shift
    for entry in "${models[@]}"; do
        each "$entry"
        for quant in "$@"; do
            run 0 "$name, $quant, $modes" --backend "$backend" --quant "$quant" $adapters "$dir" $modes
        done
    done
}
demo() {
    local quant
    for quant in none int8 int4; do
        run 0 "demo model, $quant" --backend "$backend" --quant "$quant" --adapters models/storyteller/adapters models/storyteller \
            steps company jobs
    done
}
plain() { # once more without dependent launches
    local quant launches=plain
    each "${models[-1]}"
    for quant in none int4; do
        run 0 "$name, $quant, plain launches" --backend "$backend" --quant "$quant" $adapters "$dir" steps jobs
    done
}

kv() { # keys and values as bytes, against a reference that rounds them alike
    local entry
    for entry in "${models[@]}"; do
        each "$entry"
        run 0 "$name, none, int8 KV" --backend "$backend" --kv int8 $adapters "$dir" steps company
    done
    run 0 "demo model, int4, int8 KV" --backend "$backend" --quant int4 --kv int8 --adapters models/storyteller/adapters models/storyteller \
        steps company jobs
}

begin=$(date +%s)
for mode in ${@:-self steps company jobs demo plain kv}; do
    case $mode in
    self | demo | plain | kv) $mode ;;
    steps) over steps none int8 int4 ;;
    company) over company none int4 ;;
    jobs) over jobs int4 ;;
    *)
        echo "gpu_test: no mode $mode" >&2
        exit 2
        ;;
    esac
done
echo "gpu_test: $count runs, $failed failed, $(($(date +%s) - begin)) s"
[ "$failed" -eq 0 ]
