#!/usr/bin/env bash
# Serves the demo model on a free port and measures it over HTTP: one stream of the base, then 16 streams over its five voices.
# Prints a table; appends to build/bench-demo.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${CHORUS:-build/chorus}
dir=$(mktemp -d)
"$binary" serve --model "${MODEL:-models/storyteller}" --adapters "${MODEL:-models/storyteller}/adapters" --port 0 \
    --port-file "$dir/port" --log-level warn "$@" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$dir"' EXIT
for _ in $(seq 200); do
    [ -s "$dir/port" ] && break
    kill -0 "$server" || { echo "bench: the server did not start" >&2; exit 1; }
    sleep 0.05
done
url="http://127.0.0.1:$(cat "$dir/port")"

measure() { # name, then options of chorus bench
    local name=$1
    shift
    "$binary" bench --url "$url" --json --csv build/bench-demo.csv --max-tokens 100 --temperature 0.8 --seed 1 "$@" >"$dir/$name.json"
}
measure warm --adapter base --concurrency 1 --requests 3
measure one --adapter base --concurrency 1 --requests 10
measure idle --adapter base --concurrency 1 --requests 20 --prompt-tokens 35 --max-tokens 1
measure many --concurrency 16 --requests 64

field() { sed -E "s/.*\"$2\":([0-9.e+-]+).*/\1/" "$dir/$1.json"; }
row() { printf '%-44s %10.1f %s\n' "$1" "$2" "$3"; }
one=$(field one tokens_per_s)
many=$(field many tokens_per_s)
row "one stream, base" "$one" "tok/s"
row "first token at idle, p50" "$(field idle first_token_p50_ms)" "ms"
row "16 streams over 5 voices" "$many" "tok/s"
row "  as a multiple of one stream" "$(awk "BEGIN { print $many / $one }")" "x"
row "  first token, p50" "$(field many first_token_p50_ms)" "ms"
row "  between tokens, p50" "$(field many gap_p50_ms)" "ms"
row "  between tokens, p99" "$(field many gap_p99_ms)" "ms"
row "errors" "$(awk "BEGIN { print $(field one errors) + $(field many errors) + $(field idle errors) }")" ""
