#!/usr/bin/env python3
"""Measures chorus serve over HTTP against the limit that memory sets, and beside it the engine without HTTP.

    gpu_bench.py --bin build --model /dev/shm/3b --quant int4 --adapters none --adapters qkv=/dev/shm/3b/adapters/qkv \\
        --adapters seven=/dev/shm/3b/adapters/seven --out bench

For each set of adapters one server; for each C a closed loop of C clients, every client its own adapter, 43 tokens in and
100 out. Limit: the bytes that must cross device memory in one decode step (weights once, each adapter present once, the KV
cache of every sequence), over the copy bandwidth measured in the same run (--copy-gbps, or tests/gpu/copy_bench):

    limit tok/s = C / (bytes / bandwidth)          share = tok/s / limit

The bytes are those of DESIGN's formats: int4 0.5 + 2/128 bytes a weight, int8 1 byte and 4 a row, bf16 2; adapters bf16. The
context of a decode step is taken as its mean over the answer (prompt + generated / 2) and, in the column "at 150", as 150
tokens, with which the tables of targets were made. Prefill counts as time, not as bytes. Standard library only.
"""
import argparse
import csv
import datetime
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# ---- the byte model ----


class Model:
    def __init__(self, folder, quant, head, kv):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        self.hidden, self.layers, self.vocab = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"]
        self.heads = c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads") or self.heads
        self.head_dim = c.get("head_dim") or self.hidden // self.heads
        self.ffn = c["intermediate_size"]
        self.quant, self.head, self.kv = quant, head, kv
        q, kv, m = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden
        self.linears = [(q, m), (kv, m), (kv, m), (m, q), (self.ffn, m), (self.ffn, m), (m, self.ffn)]

    @staticmethod
    def matrix_bytes(out, width, form):
        if form == "int4":
            return out * (width / 2 + 2 * math.ceil(width / 128))
        return out * (width + 4) if form == "int8" else 2 * out * width

    def weight_bytes(self):
        layer = sum(self.matrix_bytes(n, k, self.quant) for n, k in self.linears)
        return self.layers * layer + self.matrix_bytes(self.vocab, self.hidden, self.head)

    def kv_bytes(self):
        """Of one token."""
        head = (self.head_dim + 15) // 16 * 16 + 2 if self.kv == "int8" else 2 * self.head_dim
        return 2 * self.layers * self.kv_heads * head

    def step_bytes(self, batch, context, adapters, adapter_bytes):
        return self.weight_bytes() + batch * context * self.kv_bytes() + adapters * adapter_bytes

    def prefill_flops(self, tokens):
        linear = 2 * tokens * self.layers * sum(n * k for n, k in self.linears)
        attention = 2 * 2 * (tokens * tokens / 2) * self.heads * self.head_dim * self.layers
        return linear + attention + 2 * self.vocab * self.hidden


def adapter_bytes(folder):
    """Mean bytes on the device of the adapters in a folder: every value of A and B as bf16."""
    sizes = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name, "adapter_model.safetensors")
        if not os.path.exists(path):
            continue
        with open(path, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        sizes.append(sum(2 * math.prod(t["shape"]) for k, t in header.items() if ".lora_" in k and "magnitude" not in k))
    return (sum(sizes) / len(sizes) if sizes else 0), len(sizes)


# ---- running things ----


def say(text):
    print(f"gpu_bench: {text}", file=sys.stderr, flush=True)


def json_lines(command, timeout, log):
    """Runs a program that prints JSON lines; None when it fails."""
    with open(log, "a", encoding="utf-8") as f:
        f.write("+ " + " ".join(command) + "\n")
        f.flush()
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=f, timeout=timeout, text=True, check=False)
        except (subprocess.TimeoutExpired, OSError) as e:
            say(f"{command[0]}: {e}")
            return None
        f.write(done.stdout)
    if done.returncode != 0:
        say(f"{os.path.basename(command[0])} ended with {done.returncode}, see {log}")
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    return lines or None


def quant_option(args):
    return ["--quant", args.quant] if args.quant_given and args.backend != "cpu" else []


def program(args, name):
    """Where a program lies: in a build folder or in a bundle; None where it is not."""
    places = [os.path.join(args.bin, *p, name) for p in ((), ("bin",), ("tests", "gpu"), ("tests",))]
    return next((p for p in places if os.path.isfile(p)), None)


class Server:
    """chorus serve with `options` on a port of the system's choice, ended with the block."""

    def __init__(self, args, options, log):
        self.dir = tempfile.mkdtemp(prefix="gpu-bench-")
        port_file = os.path.join(self.dir, "port")
        command = [program(args, "chorus"), "serve", "--model", args.model, "--backend", args.backend, "--port", "0",
                   "--port-file", port_file, "--log-level", getattr(args, "log_level", "info"), *quant_option(args), "--kv-cache-type", args.kv, *options, *args.serve_args]  # fmt: skip
        self.log = open(log, "a", encoding="utf-8")
        self.log.write("+ " + " ".join(command) + "\n")
        self.log.flush()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        begin = time.monotonic()
        while not (os.path.exists(port_file) and os.path.getsize(port_file)):
            if self.process.poll() is not None or time.monotonic() - begin > args.start_timeout:
                self.stop()
                raise RuntimeError(f"the server did not start, see {log}")
            time.sleep(0.05)
        self.start_s = time.monotonic() - begin
        with open(port_file, encoding="utf-8") as f:
            self.port = int(f.read())
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


def load(args, server, streams, requests, generate, log):
    command = [program(args, "chorus"), "bench", "--url", server.url, "--json", "--concurrency", str(streams), "--requests",
               str(requests), "--token-prompts", "--prompt-tokens", str(args.prompt), "--max-tokens", str(generate),
               "--temperature", "0", "--seed", str(time.time_ns() % 1000000), "--timeout", "120"]  # fmt: skip
    lines = json_lines(command, 300, log)
    return lines[0] if lines else None


# ---- a set of adapters ----


def measure_http(args, name, folder, each, have, bandwidth, log):
    rows = []
    most = max(args.streams)
    options = ["--max-seqs", str(most), "--adapter-slots", str(min(most, 64)), "--prefix-cache", "false",
               "--ctx", str(args.prompt + args.generate + 16)]  # fmt: skip
    with Server(args, options + (["--adapters", folder] if folder else []), log) as server:
        say(f"{name}: the server is ready after {server.start_s:.1f} s")
        for streams in args.streams:
            load(args, server, streams, streams, min(16, args.generate), log)  # adapters on the card, graphs captured
            r = load(args, server, streams, streams * args.rounds, args.generate, log)
            if not r or r["errors"]:
                say(f"{name}, {streams} streams: {r['first_error'] if r else 'no figures'}")
                continue
            row = {"adapters": name, "streams": streams, "distinct": min(streams, have), "tok_s": r["tokens_per_s"],
                   "first_p50_ms": r["first_token_p50_ms"], "first_p99_ms": r["first_token_p99_ms"],
                   "gap_p50_ms": r["gap_p50_ms"], "gap_p99_ms": r["gap_p99_ms"]}  # fmt: skip
            if bandwidth:
                for context, key in ((args.prompt + args.generate / 2, ""), (150, "_at_150")):
                    bytes_ = args.shape.step_bytes(streams, context, row["distinct"], each)
                    row["step_mb" + key] = bytes_ / 1e6
                    row["limit" + key] = streams / (bytes_ / (bandwidth * 1e9))
                    row["share" + key] = row["tok_s"] / row["limit" + key]
            rows.append(row)
        idle = load(args, server, 1, 20, 1, log)
        if idle and not idle["errors"]:
            say(f"{name}: first token at idle, {args.prompt} tokens: p50 {idle['first_token_p50_ms']:.2f} ms, "
                f"p99 {idle['first_token_p99_ms']:.2f} ms")  # fmt: skip
            for row in rows:
                row["idle_first_p50_ms"] = idle["first_token_p50_ms"]
                row["idle_first_p99_ms"] = idle["first_token_p99_ms"]
    return rows


def measure_engine(args, name, folder, log):
    engine_bench = program(args, "engine_bench")
    if args.no_engine or not engine_bench:
        return []
    command = [engine_bench, "--backend", args.backend, "--streams", ",".join(map(str, args.streams)), "--prompt", str(args.prompt),
               "--generate", str(args.generate), "--rounds", str(args.rounds), "--label", name, "--long", str(args.long)]  # fmt: skip
    command += [*quant_option(args), "--kv", args.kv]
    if folder:
        command += ["--adapters", folder]
    return json_lines([*command, *args.engine_args, args.model], 600, log) or []


def join(rows, lines, args, name, card):
    """Puts the engine's figures beside those over HTTP; prefill lines become rows of their own."""
    for row in rows:
        for line in lines:
            if line["streams"] != row["streams"] or line["part"] == "prefill":
                continue
            if line["part"] == "engine":
                row["engine_tok_s"] = line["tokens_per_s"]
                row["engine_step_ms"] = line["step_ms"]
                row["http_cost"] = line["tokens_per_s"] / row["tok_s"] - 1
            else:
                key = "ahead_" if line["part"] == "backend-ahead" else "step_"
                row.update({f"{key}ms": line["step_ms"]})
                row.update({f"{key}{k}": v for k, v in line.items() if k.endswith("_us")})
                if "limit" in row:
                    row[f"{key}share"] = line["tokens_per_s"] / row["limit"]
    prefill = []
    for line in lines:
        if line["part"] != "prefill":
            continue
        flops = args.shape.prefill_flops(line["prompt"])
        tflops = flops / (line["ms"] * 1e9)
        peak = (card or {}).get("matrix_tflops") or 0
        prefill.append({"adapters": name if line["adapters"] else "none", "prompt": line["prompt"], "ms": line["ms"],
                        "tflops": tflops, "share_of_matrix_peak": tflops / peak if peak else None})  # fmt: skip
    return prefill


# ---- output ----

COLUMNS = (
    ("adapters", "adapters", "{:<12}"), ("streams", "C", "{:>3}"), ("tok_s", "tok/s", "{:>9.0f}"), ("limit", "limit", "{:>9.0f}"),
    ("share", "share", "{:>6.2f}"), ("share_at_150", "at 150", "{:>6.2f}"), ("first_p50_ms", "first p50", "{:>9.2f}"),
    ("first_p99_ms", "p99", "{:>8.2f}"), ("gap_p50_ms", "gap p50", "{:>8.3f}"), ("gap_p99_ms", "p99", "{:>8.3f}"),
    ("engine_tok_s", "engine", "{:>9.0f}"), ("http_cost", "http +", "{:>7.1%}"), ("ahead_ms", "ahead ms", "{:>8.3f}"),
    ("step_ms", "step ms", "{:>8.3f}"), ("ahead_share", "share", "{:>6.2f}"),
)  # fmt: skip


def width_of(form):
    return int(form.split(">")[-1].split("<")[-1].split(".")[0].rstrip("}"))


def table(rows):
    out = ["  ".join(f"{h:>{width_of(f)}}" if ">" in f else f"{h:<{width_of(f)}}" for _, h, f in COLUMNS)]
    for r in rows:
        out.append("  ".join(f.format(r[k]) if r.get(k) is not None else " " * width_of(f) for k, _, f in COLUMNS))
    return "\n".join(out)


def ratios(rows):
    """LoRA on / LoRA off, corrected for bytes: share over share."""
    off = {r["streams"]: r for r in rows if r["adapters"] == "none" and "share" in r}
    return [{"adapters": r["adapters"], "streams": r["streams"], "ratio": r["share"] / off[r["streams"]]["share"],
             "plain_ratio": r["tok_s"] / off[r["streams"]]["tok_s"]}
            for r in rows if r["adapters"] != "none" and r["streams"] in off and "share" in r]  # fmt: skip


def write_csv(path, rows, head):
    keys = list(dict.fromkeys(k for r in rows for k in r))
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow([*head, *keys])
        for r in rows:
            out.writerow([*head.values(), *(f"{r[k]:.6g}" if isinstance(r.get(k), float) else r.get(k, "") for k in keys)])


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="build", help="build folder or unpacked bundle")
    p.add_argument("--model", required=True)
    p.add_argument("--backend", default="cuda")
    p.add_argument("--quant", choices=("none", "int8", "int4"), help="given to the server; the byte model's default is none")
    p.add_argument("--head", choices=("none", "int8", "int4"), help="of the byte model; default int8 where --quant is not none")
    p.add_argument("--kv", choices=("bf16", "int8"), default="bf16", help="keys and values")
    p.add_argument("--adapters", action="append", default=[], metavar="NAME=DIR", help="a set of adapters, or none; may be repeated")
    p.add_argument("--streams", default="1,8,32,64", help="values of C")
    p.add_argument("--prompt", type=int, default=43)
    p.add_argument("--generate", type=int, default=100)
    p.add_argument("--rounds", type=int, default=4, help="requests a client")
    p.add_argument("--long", type=int, default=2048, help="tokens of the prefill measurement; 0: none")
    p.add_argument("--copy-gbps", type=float, help="copy bandwidth; default: measured by tests/gpu/copy_bench")
    p.add_argument("--no-engine", action="store_true", help="without the engine-only figures")
    p.add_argument("--start-timeout", type=float, default=180)
    p.add_argument("--serve-args", default="", help="more options of chorus serve, separated by spaces")
    p.add_argument("--engine-args", default="", help="more options of engine_bench")
    p.add_argument("--commit", default="", help="copied into the results")
    p.add_argument("--out", default="gpu-bench", help="folder of results and logs")
    args = p.parse_args()
    args.streams = [int(x) for x in args.streams.split(",")]
    args.serve_args, args.engine_args = args.serve_args.split(), args.engine_args.split()
    args.quant_given = args.quant is not None
    args.quant = args.quant or "none"
    args.head = args.head or ("none" if args.quant == "none" else "int8")
    args.shape = Model(args.model, args.quant, args.head, args.kv)
    return args


def main():
    args = arguments()
    if not program(args, "chorus"):
        say(f"there is no chorus in {args.bin}")
        return 2
    os.makedirs(args.out, exist_ok=True)
    log = os.path.join(args.out, "bench.log")
    card = None
    copy_bench = program(args, "copy_bench")
    if copy_bench and args.backend == "cuda":
        lines = json_lines([copy_bench], 60, log)
        card = lines[0] if lines else None
    bandwidth = args.copy_gbps or (card or {}).get("copy_gbps")
    if not bandwidth:
        say("no copy bandwidth: shares are left out")
    rows, prefill = [], []
    for text in args.adapters or ["none"]:
        name, _, folder = text.partition("=")
        each, have = adapter_bytes(folder) if folder else (0, 0)
        if folder and not have:
            say(f"{folder} holds no adapter")
            return 2
        try:
            mine = measure_http(args, name, folder, each, have, bandwidth, log)
        except RuntimeError as e:
            say(f"{name}: {e}")
            continue
        prefill += join(mine, measure_engine(args, name, folder, log), args, name, card)
        rows += mine
        write_results(args, rows, prefill, card, bandwidth)
    print_results(args, rows, prefill, card, bandwidth)
    return 0 if rows else 1


def write_results(args, rows, prefill, card, bandwidth):
    head = {"date": datetime.date.today().isoformat(), "commit": args.commit, "card": (card or {}).get("card", args.backend),
            "model": os.path.basename(args.model.rstrip("/")), "quant": args.quant, "head": args.head, "kv": args.kv,
            "copy_gbps": bandwidth or ""}  # fmt: skip
    write_csv(os.path.join(args.out, "bench.csv"), rows, head)
    with open(os.path.join(args.out, "bench.json"), "w", encoding="utf-8") as f:
        json.dump({**head, "measured": card, "rows": rows, "prefill": prefill, "ratios": ratios(rows)}, f, indent=1)


def print_results(args, rows, prefill, card, bandwidth):
    print(f"{args.model}: {args.backend}, quant {args.quant}, head {args.head}, KV {args.kv}; {args.prompt} tokens in, {args.generate} out, "
          f"every client its own adapter; weights {args.shape.weight_bytes() / 1e6:.1f} MB, KV {args.shape.kv_bytes()} B a token")  # fmt: skip
    if bandwidth:
        print(f"copy {bandwidth / 1000:.2f} TB/s" + (f", measured in this run on {card['card']}; matrix "
              f"{card['matrix_tflops']:.0f} TFLOP/s" if card else ", given"))  # fmt: skip
    print(table(rows))
    for r in ratios(rows):
        print(f"LoRA on / off, {r['adapters']}, C = {r['streams']}: {r['ratio']:.2f} corrected for bytes, {r['plain_ratio']:.2f} plain")
    for r in prefill:
        share = f", {r['share_of_matrix_peak']:.2f} of the matrix peak" if r["share_of_matrix_peak"] else ""
        print(f"prefill of {r['prompt']} tokens, {r['adapters']}: {r['ms']:.2f} ms, {r['tflops']:.1f} TFLOP/s{share}")


if __name__ == "__main__":
    sys.exit(main())
