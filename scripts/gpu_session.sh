#!/usr/bin/env bash
# A whole session on a machine with a card in one command. BIN: build folder or unpacked bundle that has the programs (build).
#   gpu_session.sh [PART...]     default: info kernels parity sanitize race model bench
#   info      the card, its copy bandwidth and matrix peak
#   kernels   every program in BIN/tests/kernels
#   parity    scripts/gpu_test.sh (PARITY="steps jobs": only these modes)
#   sanitize  memcheck initcheck synccheck over steps with adapters of every kind (TOOLS="memcheck": only these; racecheck is part `race`,
#             as it follows each access on the host and takes minutes for one step)
#   kernels_sanitized  the kernel tests in their small shapes under the same tools and racecheck
#   model     a random 3B model with 32 adapters on seven linears and 64 on q, k, v, in MODEL (/dev/shm/chorus-3b)
#   bench     scripts/gpu_bench.py on it: int4, no adapters, q,k,v, seven (SETS="none seven"; BENCH="--streams 1,8")
#   first     only the first-token and one-stream figures of bench: a quick look
#   prefill   prefill_bench on it: prompts against the matrix peak, with and without an adapter, and their parts (PREFILL="--rows 1024")
#   kv        keys and values as bytes beside bf16: bench_attend, parity, the sum of an 8 GB card as serve prints it, and attention
#             in steps of 1 and 16 rows at 4,000 tokens (KV="--context 2000")
#   race      racecheck of one or two launches of each kernel, all cases at once (RACE="attend": those with this in their line;
#             RACE_OPTIONS="--racecheck-detect-level error")
#   nodes     node_bench on it: a table of the operations of a decode step, us and GB/s, for 1, 8 and 32 rows (NODES="--rows 64")
#   masks     mask_bench on it: the step of 16 answers held to grammars against that of 16 that are not; fails above MASKS_MOST (1.05)
#             times (MASKS="--streams 32")
#   lost      a card that fails under running streams: error events, exit code and time of the process (scripts/gpu_lost.py)
#   adapter_files  sets for the next three: small and many in MODEL, sizes from rank 8 to 256 in COLD (/tmp/chorus-cold, best on a disk)
#   live      streams beside adapters that come and go: equal, and their gaps (scripts/gpu_adapters.py live; LIVE="--churn small",
#             LIVE="--window 2.5 --window-rounds 3" for longer windows, LIVE="--cycles 0 --large-cycles 0" for the gaps alone)
#   many      1,000 adapters, 16 on the card, zipf, 32 in flight (MANY="--resident 32")
#   cold      first token of adapters that are not on the card, by size and by where they are (COLD_ARGS)
#   demo      scripts/gpu_bench.py on the demo model
#   ptx80     parity and bench of what cards before sm_90 run: the binaries in BIN80 (compute_80 PTX, plain launches, at most 99 KB of shared memory a block)
# Each part has a time limit (LIMIT_parity=200 ...: seconds). OUT (gpu-logs) gets few files: session.tgz with every log and result,
# written again after each part, the tables as CSV, and current.log of the part that runs. Exit code 1 when a part failed.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build}
bin80=${BIN80:-build-ptx80}
out=${OUT:-gpu-logs}
model=${MODEL:-/dev/shm/chorus-3b}
quant=${QUANT:-int4}
cold=${COLD:-/tmp/chorus-cold}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1
failed=0

. scripts/gpu_programs.sh

info() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free,clocks.sm,clocks.mem --format=csv || return 1
    nproc
    free -g | sed -n 1,2p
    df -h /dev/shm /tmp | sed 's/^/  /'
    "$(program chorus)" --version 2>/dev/null
    "$(program copy_bench)"
}

kernels() {
    local t rc bad=0 seen=0
    for t in "$bin"/tests/kernels/test_* "$bin"/tests/test_*; do
        [ -x "$t" ] && [ ! -d "$t" ] || continue
        seen=$((seen + 1))
        timeout 120 "$t" >"$work/one" 2>&1
        rc=$?
        cat "$work/one" >>"$work/kernels.full"
        if [ $rc -eq 0 ]; then
            echo "ok   $(basename "$t"): $(grep -cE '^\[ +OK ' "$work/one") tests"
        else
            bad=$((bad + 1))
            echo "FAIL $(basename "$t"): rc $rc"
            grep -vE '^\[ +(RUN|OK)' "$work/one" | tail -15 | cut -c1-300
        fi
    done
    [ $seen -gt 0 ] || echo "no kernel tests in $bin"
    [ $seen -gt 0 ] && [ $bad -eq 0 ]
}

parity() {
    OUT=$work/parity BIN=$bin scripts/gpu_test.sh ${PARITY:-}
}

# Few sequences: a sanitizer is hundreds of times slower. Every family, bf16 on one half and int4 on the other, all four at once.
sanitize_one() { # tool, family
    local quant rc begin few=${SEQUENCES:-6}
    case $2 in llama | qwen2) quant=int4 ;; *) quant=none ;; esac
    begin=$(date +%s)
    timeout "${LIMIT_one:-55}" compute-sanitizer --tool "$1" --error-exitcode 99 --print-limit 20 "$(program parity)" --quant $quant \
        --sequences "$few" --draws 0 --adapters "tests/golden/data/$2/adapters" "tests/golden/data/$2/model" steps >"$work/one.$2" 2>&1
    rc=$?
    if [ $rc -eq 0 ]; then
        echo "ok   $1, $2, $quant, $(($(date +%s) - begin)) s: $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$work/one.$2" | tail -1)"
    else
        echo "FAIL $1, $2, $quant, $(($(date +%s) - begin)) s: rc $rc"
        grep -E '=========' "$work/one.$2" | head -14 | cut -c1-200
    fi
    return $rc
}

sanitize() {
    local tool arch job bad=0
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed"; return 1; }
    for tool in ${TOOLS:-memcheck initcheck synccheck}; do
        local jobs=()
        for arch in ${ARCHS:-llama mistral qwen2 qwen3}; do
            sanitize_one "$tool" "$arch" &
            jobs+=($!)
        done
        for job in "${jobs[@]}"; do
            wait "$job" || bad=$((bad + 1))
        done
        cat "$work"/one.* >>"$work/sanitize.full"
    done
    [ $bad -eq 0 ]
}

kernels_sanitized() {
    local tool t rc bad=0
    export CHORUS_TEST_SMALL=1
    for tool in ${TOOLS:-memcheck racecheck initcheck synccheck}; do
        for t in "$bin"/tests/kernels/test_* "$bin"/tests/test_*; do
            [ -x "$t" ] && [ ! -d "$t" ] || continue
            timeout "${LIMIT_one:-60}" compute-sanitizer --tool "$tool" --error-exitcode 99 --print-limit 20 "$t" >"$work/one" 2>&1
            rc=$?
            cat "$work/one" >>"$work/sanitize.full"
            [ $rc -eq 0 ] && continue
            bad=$((bad + 1))
            echo "FAIL $tool, $(basename "$t"): rc $rc"
            grep -E '=========' "$work/one" | head -14 | cut -c1-200
        done
        echo "$tool done, $bad failed so far"
    done
    [ $bad -eq 0 ]
}

model() {
    [ -s "$model/config.json" ] && [ -d "$model/adapters" ] && echo "$model is there already" && return 0
    python3 scripts/make_random_model.py --out "$model" --shape "${SHAPE:-llama-3b}" --adapters "seven*${SEVEN:-32}=64,all" \
        --adapters "qkv*${QKV:-64}=64,qkv"
}

bench_on() { # folder of binaries, name of the results, further options
    local binaries=$1 name=$2 set sets=()
    shift 2
    for set in ${SETS:-none qkv seven}; do
        [ "$set" = none ] && sets+=(--adapters none) || sets+=(--adapters "$set=$model/adapters/$set")
    done
    python3 scripts/gpu_bench.py --bin "$binaries" --model "$model" --quant "$quant" "${sets[@]}" --commit "${COMMIT:-}" \
        --out "$work/$name" ${BENCH:-} "$@"
    local rc=$?
    cp "$work/$name/bench.csv" "$out/$name.csv" 2>/dev/null
    return $rc
}

bench() { bench_on "$bin" bench; }
first() { SETS="none seven" bench_on "$bin" first --streams 1 --rounds 2 --no-engine; }
prefill() {
    local adapters=()
    [ -d "$model/adapters/seven" ] && adapters=(--adapters "$model/adapters/seven")
    "$(program prefill_bench)" --quant "$quant" "${adapters[@]}" ${PREFILL:-} "$model"
}
nodes() {
    local set bad=0
    for set in ${SETS:-none qkv seven}; do
        local adapters=()
        [ "$set" = none ] || adapters=(--adapters "$model/adapters/$set")
        "$(program node_bench)" --quant "$quant" "${adapters[@]}" ${NODES:-} "$model" >"$work/nodes.$set.jsonl" 2>"$work/one" || bad=1
        tail -3 "$work/one"
        python3 - "$set" "$work/nodes.$set.jsonl" "$out/nodes.csv" <<'EOF_NODES'
import csv, json, os, sys
name, path, table = sys.argv[1:]
lines = [json.loads(line) for line in open(path, encoding="utf-8") if line.startswith("{")]
new = not os.path.exists(table)
with open(table, "a", newline="", encoding="utf-8") as f:
    w = csv.writer(f)
    if new:
        w.writerow("adapters rows context operation calls us mb gbps share".split())
    for n in lines:
        if n["part"] == "copy":
            print(f"{name}: copy {n['gbps']} GB/s")
            continue
        w.writerow([name, n["rows"], n["context"], n["name"], n["calls"], n["us"], round(n["bytes"] / 1e6, 3), n["gbps"], n["share"]])
        print(f"{name:6} {n['rows']:3} rows  {n['name']:14} {n['calls']:3} x {n['us']:9.2f} us {n['bytes'] / 1e6:9.2f} MB {n['gbps']:6} GB/s {n['share']:5.2f} of copy")
EOF_NODES
    done
    return $bad
}
masks() {
    "$(program mask_bench)" --quant "$quant" ${MASKS:-} "$model" >"$work/masks.jsonl" || return 1
    cp "$work/masks.jsonl" "$out/"
    python3 - "$work/masks.jsonl" "${MASKS_MOST:-1.05}" <<'EOF_MASKS'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
for n in lines:
    print(f"{n['kind']:7} {n['streams']} streams: {n['gap_ms']:8.3f} ms between tokens (p99 {n['gap_p99_ms']:.3f}), {n['step_ms']:.3f} a step, {n['ratio']:.3f} x")
sys.exit(any(n["ratio"] > float(sys.argv[2]) for n in lines))
EOF_MASKS
}
# What `chorus serve` prints of its memory before it listens.
kv_sum() {
    timeout 60 "$(program chorus)" serve --model "$model" --adapters "$model/adapters/qkv" --quant int4 --kv-cache-type int8 --ctx 4096 \
        --max-seqs 16 --kv-pages 4096 --lora-arena 1568MiB --gpu-memory 7782MiB --port 0 --state-dir none >"$work/one" 2>&1 &
    local server=$! i
    for i in $(seq 50); do
        grep -q 'memory on the card' "$work/one" && break
        kill -0 $server 2>/dev/null || break
        sleep 1
    done
    kill $server 2>/dev/null
    wait $server 2>/dev/null
    grep 'memory on the card' "$work/one" || { tail -5 "$work/one"; return 1; }
}
kv() {
    local bad=0 type
    "$bin/tests/kernels/bench_attend" | grep figure || bad=1
    OUT=$work/parity_kv BIN=$bin scripts/gpu_test.sh kv || bad=1
    [ -d "$model/adapters/qkv" ] || { echo "no model in $model: its sum and steps are left out"; return $bad; }
    kv_sum || bad=1
    for type in bf16 int8; do
        "$(program node_bench)" --quant "$quant" --kv $type --rows 1,16 --context 4000 ${KV:-} "$model" >"$work/nodes.$type.jsonl" || bad=1
        grep '"name": *"attend"' "$work/nodes.$type.jsonl" | sed "s/^/$type: /"
    done
    return $bad
}

# Case: test program, one test of it, part of a kernel's name, launches of it to skip and to check. Few launches because racecheck
# follows every access to shared memory on the host; few tests because it patches whole modules.
race_cases="
test_attend test_decode k_attend_rows 0 1
test_attend test_decode k_attend_rows 24 1
test_attend test_long k_attend_rows 0 1
test_attend test_mixed k_attend_keys 0 1
test_attend test_prefill k_attend_prefill 0 1
test_attend test_decode_int8 k_attend_rows 0 1
test_attend test_decode_int8 k_attend_rows 24 1
test_attend test_mixed_int8 k_attend_keys 0 1
test_attend test_prefill_int8 k_attend_prefill 0 1
test_linear test_shapes k_linear_few 0 2
test_linear test_rows k_linear_many 0 1
test_linear test_adapters k_linear_few 0 2
test_linear test_adapters k_linear_many 0 1
test_linear test_adapters k_shrink_few 0 2
test_sample_device test_sample_small k_sample_scan 0 1
test_sample_device test_sample_small k_sample_draw 0 1
test_embed test_embed_equals_the_formula k_embed 0 2
test_base test_base k_base_plain 0 1
test_base test_base k_base_lora 0 1
test_base test_base k_base_shrink 0 1
test_base test_norm k_norm 0 2
test_base test_tail k_tail 0 2
test_dora test_dora_gains_are_those_of_the_served_weights k_dora 0 2
test_dequant test_dequant_every_format k_dequant 0 2
test_quantise test_quantise_equals_reference k_quantise 0 2"

race_one() { # a case, then its number
    local rc begin log=$work/race.$6 t
    begin=$(date +%s)
    t=$bin/tests/kernels/$1
    [ -x "$t" ] || t=$bin/tests/$1
    CHORUS_TEST_ONLY=$2 timeout "${LIMIT_one:-200}" compute-sanitizer --tool racecheck --kernel-name "kns=$3" --launch-skip "$4" \
        --launch-count "$5" --racecheck-num-workers 1 --show-backtrace no --error-exitcode 99 --print-limit 20 ${RACE_OPTIONS:-} "$t" \
        >"$log" 2>&1
    rc=$?
    if [ $rc -eq 0 ] && grep -q 'RACECHECK SUMMARY: 0 hazards' "$log" && grep -q ' 1 test(s) run' "$log"; then
        echo "ok   $1 $2, $3 from $4 on: $(($(date +%s) - begin)) s"
    else
        echo "FAIL $1 $2, $3 from $4 on: rc $rc, $(($(date +%s) - begin)) s"
        grep -E '=========|FAILED|no card' "$log" | head -8 | cut -c1-200
        return 1
    fi
}

race() {
    local bad=0 n=0 line job jobs=()
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed"; return 1; }
    while read -r line; do
        case $line in *"${RACE:-}"*) [ -n "$line" ] || continue ;; *) continue ;; esac
        n=$((n + 1))
        race_one $line $n &
        jobs+=($!)
    done <<<"$race_cases"
    for job in "${jobs[@]}"; do
        wait "$job" || bad=$((bad + 1))
    done
    cat "$work"/race.* >>"$work/race.full"
    echo "$n cases, $bad failed"
    [ $bad -eq 0 ] && [ $n -gt 0 ]
}
lost() { python3 scripts/gpu_lost.py "$(program lost_server)" models/storyteller --quant none; }
adapter_files() {
    local make=(python3 scripts/make_random_model.py --no-base --shape "${SHAPE:-llama-3b}") sizes=() r
    [ -d "$model/adapters/many" ] || "${make[@]}" --out "$model" --adapters "small*8=8,qkv" --adapters "many*64=${MANY_RANK:-16},qkv" || return 1
    [ -d "$cold/all" ] && return 0
    for r in ${RANKS:-8 16 64 128 256}; do
        sizes+=(--adapters "rank$r=$r,all")
    done
    "${make[@]}" --out "$cold" "${sizes[@]}" && mkdir "$cold/all" && mv "$cold"/adapters/*/* "$cold/all/"
}
adapters_on() { # part, options
    python3 scripts/gpu_adapters.py "$1" --bin "$bin" --model "$model" --backend "${BACKEND:-cuda}" --quant "$quant" --out "$work/adapters" "${@:2}"
    local rc=$?
    cp "$work/adapters/adapters.json" "$out/" 2>/dev/null
    return $rc
}
live() { adapters_on live ${LIVE:-}; }
many() { adapters_on many ${MANY:-}; }
cold() { adapters_on cold --cold "$cold/all" ${COLD_ARGS:-}; }
demo() {
    python3 scripts/gpu_bench.py --bin "$bin" --model models/storyteller --quant "$quant" --adapters none \
        --adapters voices=models/storyteller/adapters --streams 1,16 --long 1024 --out "$work/demo" ${BENCH:-}
}
ptx80() {
    [ -d "$bin80" ] || { echo "no binaries in $bin80"; return 1; }
    OUT=$work/parity80 BIN=$bin80 LAUNCHES=plain scripts/gpu_test.sh steps jobs &&
        SETS="none seven" bench_on "$bin80" bench80 --serve-args "${SERVE80:---plain-launches true}" --engine-args "--launches plain"
}

limit_of() {
    local name=LIMIT_$1 default
    case $1 in
    info) default=60 ;;
    kernels) default=180 ;;
    parity) default=240 ;;
    sanitize | kernels_sanitized) default=240 ;;
    model) default=120 ;;
    live) default=200 ;;
    first | lost) default=90 ;;
    race) default=280 ;;
    nodes | masks) default=150 ;;
    adapter_files | many | cold) default=120 ;;
    *) default=300 ;;
    esac
    echo "${!name:-$default}"
}

part() {
    local name=$1 begin limit rc
    begin=$(date +%s)
    limit=$(limit_of "$name")
    echo "== $name (at most $limit s)"
    # A part is this script once more, so that timeout can end it with everything it started.
    GPU_SESSION_WORK=$work timeout -k 10 "$limit" scripts/gpu_session.sh --one "$name" >"$out/current.log" 2>&1
    rc=$?
    mv "$out/current.log" "$work/$name.log"
    tail -n "${LINES_SHOWN:-60}" "$work/$name.log"
    [ $rc -eq 124 ] && echo "== $name ran past its $limit s"
    [ $rc -eq 0 ] || failed=$((failed + 1))
    echo "== $name: rc $rc, $(($(date +%s) - begin)) s"
    tar czf "$out/session.tgz" -C "$work" .
}

if [ "${1:-}" = --one ]; then
    trap - EXIT
    rm -rf "$work"
    work=$GPU_SESSION_WORK
    "$2"
    exit
fi
for name in ${@:-info kernels parity sanitize race model bench}; do
    case $name in
    info | kernels | parity | sanitize | kernels_sanitized | model | bench | first | prefill | nodes | kv | race | masks | lost | adapter_files | live | many | cold | demo | ptx80) part "$name" ;;
    *)
        echo "gpu_session: no part $name" >&2
        exit 2
        ;;
    esac
done
echo "gpu_session: $failed parts failed"
[ "$failed" -eq 0 ]
