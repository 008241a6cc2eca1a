#!/usr/bin/env python3
"""What adapters that come and go cost those who talk meanwhile, measured on chorus serve over HTTP.

    gpu_adapters.py live|many|cold --bin build --model /dev/shm/3b --quant int4 --out results

live   ISO-4: two pinned greedy streams, text and log-probabilities, equal to a quiet run while adapters of others are added,
       asked once and removed; and the gaps between tokens of --streams running streams, as tests/gpu/gap_client hears them in a
       process of its own, in windows that take turns: while adapters are added, asked and removed without a pause (loading);
       while one of the same kind that is there already is asked at the very same moments (asked: what the requests themselves
       cost); and silent. Streams begin anew in each window, so that all windows see the same contexts. Judged is the median,
       over pairs of neighbouring windows, of p99 loading / p99 asked; least and most of these ratios say how far to trust it.
many   --registered adapters, --resident of them fit on the device, --in-flight requests choose by a zipf distribution: where
       they found their adapter, bytes moved, tokens a second, the longest wait, and that everybody was answered.
cold   from a request to its first token, by the adapter's size and where its bytes are: on disk with the page cache dropped,
       on disk, in host memory, on the device; and the gaps of four others meanwhile.

Adapters are sets of make_random_model.py in MODEL/adapters: live wants streams (--stream-set) and those that churn (--churn,
may be repeated); many wants --weights, whose files become --registered directories by hard links and other lora_alpha; cold
takes every adapter in --cold, best on a real disk. Each part ends with a table and adds itself to OUT/adapters.json. Exit code
1 when something demanded does not hold. Standard library only.
"""
import argparse
import collections
import ctypes
import http.client
import itertools
import json
import math
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from gpu_bench import Server, adapter_bytes, program, say

BAD = []


def demand(truth, text):
    if not truth:
        BAD.append(text)
        print(f"NOT MET: {text}")


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, max(0, math.ceil(p / 100 * len(values)) - 1))] if values else float("nan")


def prompt_ids(count, which):
    """Ids that every vocabulary has, none of them special."""
    return [32 + (which * 101 + i * 37 + i * i) % 468 for i in range(count)]


def ask_body(model, prompt, tokens, which, **fields):
    body = {"prompt": prompt_ids(prompt, which), "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True, **fields}
    if model:
        body["adapter"] = model
    return body


def post_bytes(port, body):
    data = json.dumps(body).encode()
    return (f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data  # fmt: skip


def api(port, method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read()
    c.close()
    return r.status, json.loads(text) if text else None


def must(port, method, path, body=None):
    status, answer = api(port, method, path, body)
    if status != 200:
        raise RuntimeError(f"{method} {path}: {status} {json.dumps(answer)[:300]}")
    return answer


def metrics(port):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("GET", "/metrics")
    out = collections.Counter()
    for line in c.getresponse().read().decode().splitlines():
        if line and line[0] != "#":
            name, value = line.rsplit(" ", 1)
            out[name.split("{", 1)[0]] += float(value)
    c.close()
    return out


def ask(port, model, prompt, tokens, which=0):
    """One request -> (status, s to the first token, s in all)."""
    begin = time.monotonic()
    first, data = None, b""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(post_bytes(port, ask_body(model, prompt, tokens, which)))
        while piece := s.recv(65536):
            data += piece
            if first is None and b"\n\n" in data:
                first = time.monotonic() - begin
    status = int(data[9:12]) if len(data) > 12 else 0
    whole = status == 200 and b"data: [DONE]" in data[-64:] and b'"error"' not in data
    return (status if whole or status != 200 else -1), first or time.monotonic() - begin, time.monotonic() - begin


# ---- streams that are watched, in a process of their own so that nobody else's work is in their gaps ----


class Watch:
    """Streams from the moment all run, for `seconds` or (0) until the first of them ends."""

    def __init__(self, args, port, models, tokens, seconds=0):
        command = [program(args, "gap_client"), "--port", port, "--seconds", seconds, "--tokens", tokens, "--prompt", args.prompt,
                   "--skip", 20 if seconds else tokens // 20 + 2, "--all", *models]  # fmt: skip
        self.process = subprocess.Popen([str(x) for x in command], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "running\n":
            raise RuntimeError(f"gap_client ended with {self.process.wait()}")
        self.begin = time.monotonic_ns()

    def end(self):
        line = self.process.stdout.read()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise RuntimeError(f"gap_client ended with {self.process.returncode}")
        self.told_by_client = json.loads(line)
        # (when a token came, its number, ms since the one before)
        self.gaps = [(at, k, us / 1e3) for at, k, us in self.told_by_client.pop("gaps")]
        return self

    def running(self):
        return not select.select([self.process.stdout], [], [], 0)[0]

    def values(self):
        return [g for _, _, g in self.gaps]

    def p99(self):
        return percentile(self.values(), 99)

    def within(self, windows):
        """Gaps that lie in one of [(begin, end)] ns, with their token's number."""
        return [(k, g) for b, k, g in self.gaps if any(begin <= b <= end for begin, end in windows)]


# ---- why a gap was long ----

PHASES = ("drain", "schedule", "launch", "emit", "rest")  # of the engine thread, but for its waiting for the device
CAUSES_SHOWN = 4  # the most frequent ones
WITHIN_NS = 20_000_000  # between the engine's telling and the watcher's hearing


TOLD = {" a long gap at_ns=": "engine", " a long turn of the loop at_ns=": "turn", " the loop was woken late at_ns=": "wake"}


def long_gaps(log, offset):
    """What the engine and the server's loop said of gaps, turns and wakes longer than usual since `offset` in the log: dicts, by when they ended."""
    out = []
    with open(log, encoding="utf-8", errors="replace") as f:
        f.seek(offset)
        for line in f:
            who = next((TOLD[what] for what in TOLD if what in line), None)
            if who:
                out.append({k: int(v) for k, v in (x.split("=", 1) for x in line.split() if "=" in x)} | {"who": who})
    return sorted(out, key=lambda g: g["at_ns"])


def cause_of(g):
    """In a word or two: what the engine thread did instead of launching, or else what the device was at."""
    busy = {p: g[p + "_us"] for p in PHASES}
    worst = max(busy, key=busy.get)
    if sum(busy.values()) > g["usual_us"] or (g["emptied"] and busy[worst] > 0.1 * g["usual_us"]):
        what = worst
    elif g["emptied"]:
        what = "nothing was in flight"
    else:
        what = "device"
    with_ = [k for k in ("placed", "usable", "gone", "sending") if g[k]]
    return what + (" (" + ", ".join(with_) + ")" if with_ else "")


def loop_cause(near, when, ms, usual_ms):
    """The server's loop, where its turn or its way to it lies in the gap and is at least half of what is too much of it."""
    for g in near:
        took = g["us"] / 1e3
        if g["who"] != "engine" and g["at_ns"] - 1e6 * took < when and g["at_ns"] > when - 1e6 * ms and took > (ms - usual_ms) / 2:
            if g["who"] == "wake":
                return "the server's loop, woken late"
            return f"the server's loop, {'busy' if g['cpu_us'] > g['us'] / 2 else 'waiting for a lock or a processor'}"
    return "client, or a processor"


def causes(gaps, told, usual_ms):
    """gaps: (when, _, ms) -> {cause: [how many, the worst ms, the engine's line of that or None]}, of those above 1.1 x usual."""
    out, i = {}, 0
    for when, _, ms in sorted(gaps):
        if ms <= 1.1 * usual_ms:
            continue
        while i < len(told) and told[i]["at_ns"] < when - WITHIN_NS:
            i += 1
        near = [g for g in itertools.takewhile(lambda g: g["at_ns"] <= when + WITHIN_NS, itertools.islice(told, i, None))]
        mine = [g for g in near if g["who"] == "engine" and g["at_ns"] <= when and g["us"] > 700 * ms]
        g = mine[-1] if mine else None
        count = out.setdefault(cause_of(g) if g else loop_cause(near, when, ms, usual_ms), [0, 0.0, None])
        count[0] += 1
        if ms > count[1]:
            count[1:] = [ms, g]
    return dict(sorted(out.items(), key=lambda kv: -kv[1][0]))


def print_causes(title, gaps, told, usual_ms):
    found = causes(gaps, told, usual_ms)
    print(f"  {title}: {len(gaps)} gaps, {sum(c[0] for c in found.values())} longer than 1.1 x {usual_ms:.3f} ms")
    for name, (count, worst, g) in itertools.islice(found.items(), CAUSES_SHOWN):
        parts = " ".join(f"{k[:-3]} {g[k]}" for k in [p + "_us" for p in (*PHASES, "wait")]) if g else ""
        print(f"    {count:>5} {100 * count / max(len(gaps), 1):5.2f} %  worst {worst:7.2f} ms  {name}" + (f"; of that one, us: {parts}, turns {g['turns']}" if g else ""))
    return {name: c[:2] for name, c in found.items()}


def device_free():
    """Bytes that the card has free, or None where no driver tells."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) or nvml.nvmlDeviceGetMemoryInfo(handle, memory):
            return None
        return memory[1]
    except (OSError, AttributeError):
        return None


# ---- live ----


class Churn:
    """Threads that add an adapter, ask it for one token and remove it, again and again."""

    def __init__(self, port, paths, threads, cycles=None):
        self.port, self.paths, self.cycles = port, paths, cycles
        self.stop, self.lock, self.done, self.failed = threading.Event(), threading.Lock(), 0, []
        self.load_s, self.asked_ns = [], []
        self.number = itertools.count()
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(threads)]
        self.begin = time.monotonic()
        for t in self.threads:
            t.start()

    def work(self, thread):
        while not self.stop.is_set():
            n = next(self.number)
            if self.cycles is not None and n >= self.cycles:
                return
            name = f"passing-{thread}"
            try:
                begin = time.monotonic()
                must(self.port, "POST", "/v1/adapters", {"name": name, "path": self.paths[n % len(self.paths)]})
                took = time.monotonic() - begin
                self.asked_ns.append(time.monotonic_ns())
                status, _, _ = ask(self.port, name, 1, 1)
                if status != 200:
                    raise RuntimeError(f"asking {name}: {status}")
                must(self.port, "DELETE", f"/v1/adapters/{name}")
                with self.lock:
                    self.done += 1
                    self.load_s.append(took)
            except (OSError, RuntimeError, ValueError) as e:
                self.failed.append(str(e))
                return

    def running(self):
        return any(t.is_alive() for t in self.threads)

    def end(self, finish=False):
        if not finish:
            self.stop.set()
        for t in self.threads:
            t.join()
        self.seconds = time.monotonic() - self.begin
        return self


class Asker:
    """One-token requests to one adapter, each so many ns after `begin`."""

    def __init__(self, port, model, begin, moments):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work, args=(port, model, begin, moments))
        self.thread.start()

    def work(self, port, model, begin, moments):
        for moment in moments:
            if self.stop.wait(max(0, begin + moment - time.monotonic_ns()) / 1e9):
                return
            ask(port, model, 1, 1)

    def end(self):
        self.stop.set()
        self.thread.join()
        return self


def listen(port, model, prompt, tokens, which):
    """What a greedy stream says: every chunk's choices, log-probabilities in them."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
        s.sendall(post_bytes(port, ask_body(model, prompt, tokens, which, logprobs=1, return_tokens_as_token_ids=True)))
        data = b"".join(iter(lambda: s.recv(1 << 16), b""))
    lines = [x for x in data.decode().split("\n") if x.startswith("data: {")]
    if not lines or b"data: [DONE]" not in data[-64:]:
        raise RuntimeError(f"a stream broke off: {data[-300:]!r}")
    return [json.loads(x[6:])["choices"] for x in lines]


def set_paths(args, name):
    folder = os.path.join(args.model, "adapters", name)
    paths = [os.path.join(folder, n) for n in sorted(os.listdir(folder))] if os.path.isdir(folder) else []
    if not paths:
        raise SystemExit(f"gpu_adapters: there is no set {name} in {args.model}/adapters")
    return paths


def equal_streams(args, port, models, churn_sets):
    """ISO-4: `models` speak again and again while args.cycles small adapters, then larger ones, pass."""
    quiet = {m: listen(port, m, args.prompt, args.tokens, i) for i, m in enumerate(models)}
    heard, stop = collections.Counter(), threading.Event()

    def talk(i, m):
        while not stop.is_set():
            same = listen(port, m, args.prompt, args.tokens, i) == quiet[m]
            heard[same] += 1

    talkers = [threading.Thread(target=talk, args=(i, m)) for i, m in enumerate(models)]
    for t in talkers:
        t.start()
    passed, end = {}, time.monotonic() + args.seconds
    for k, name in enumerate(churn_sets):
        left = args.cycles - sum(passed.values()) if k == 0 else args.large_cycles
        churn = Churn(port, set_paths(args, name), 4 if k == 0 else 1, left)
        while churn.running() and time.monotonic() < end + (args.seconds if k == 0 else 0):
            time.sleep(0.02)
        churn.end()
        passed[name] = churn.done
        demand(not churn.failed, f"loads failed: {churn.failed[:2]}")
    stop.set()
    for t in talkers:
        t.join()
    print(f"ISO-4: {heard[True] + heard[False]} streams of {args.tokens} tokens over {' and '.join(models)} while "
          f"{', '.join(f'{n} x {s}' for s, n in passed.items())} were added, asked and removed: {heard[False]} differ in text or log-probabilities")  # fmt: skip
    demand(heard[False] == 0 and heard[True] >= 2, f"streams differ: {dict(heard)}")
    demand(sum(passed.values()) >= args.cycles, f"only {passed} of {args.cycles} loads in the time")
    return {"streams": sum(heard.values()), "differ": heard[False], "loads": passed}


def window(args, port, models, begin=None):
    """begin(watch): starts something with .end(); the gaps of the streams while it goes on, and that something."""
    offset = os.path.getsize(args.log)
    w = Watch(args, port, models, args.gap_tokens, args.window)
    other = begin(w) if begin else None
    w.end()
    if other:
        other.end()
    w.told = long_gaps(args.log, offset)
    return w, other


class Windows:
    """Those of one kind of streams and one set that comes and goes, with the silent ones beside them."""

    def __init__(self, name, which, mb):
        self.name, self.which, self.mb = name, which, mb
        self.loading, self.asked, self.churns = [], [], []

    def measure(self, args, port, models, paths):
        loading, churn = window(args, port, models, lambda w: Churn(port, paths, 1))
        demand(not churn.failed, f"loads failed: {churn.failed[:2]}")
        moments = [at - loading.begin for at in churn.asked_ns]
        asked, _ = window(args, port, models, lambda w: Asker(port, f"there-{self.which}", w.begin, moments))
        self.loading.append(loading)
        self.asked.append(asked)
        self.churns.append(churn)

    def row(self, silent):
        done, seconds = sum(c.done for c in self.churns), sum(c.seconds for c in self.churns)
        r = {"streams": self.name, "set": self.which, "mb": self.mb, "per_s": done / seconds,
             "load_ms": 1000 * percentile([t for c in self.churns for t in c.load_s], 50)}  # fmt: skip
        for what, windows in (("silent", silent), ("asked", self.asked), ("loading", self.loading)):
            r[what] = {"windows_p99": [w.p99() for w in windows], **figures(windows)}
        for what, others in (("to_asked", self.asked), ("to_silent", silent)):
            ratios = [a.p99() / b.p99() for a, b in zip(self.loading, others)]
            pooled = r["loading"]["p99"] / r[what[3:]]["p99"]
            r[what] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "pooled": pooled}
        return r


def figures(windows):
    """Of all their gaps together."""
    gaps = [g for w in windows for g in w.values()]
    out = {"count": len(gaps), "max": max(gaps), "together": sum(w.told_by_client["together"] for w in windows),
           "of_several_tokens": sum(w.told_by_client["of_several_tokens"] for w in windows)}  # fmt: skip
    return {**out, **{f"p{p}": percentile(gaps, p) for p in (50, 90, 99, 99.9)}}


def measure_gaps(args, port, held, churn_sets):
    """Rounds of windows -> (rows, what to explain: title, gaps, the engine's lines, the usual gap)."""
    rows, why = [], []
    for which in churn_sets:
        there = f"there-{which}"  # of the loaded ones' kind: what its one token costs is not what its load costs
        must(port, "POST", "/v1/adapters", {"name": there, "path": set_paths(args, which)[-1], "pinned": True})
        ask(port, there, 1, 1)
    for name, models in held.items():
        kinds = [Windows(name, which, adapter_bytes(os.path.dirname(set_paths(args, which)[0]))[0] / 1e6) for which in churn_sets]
        silent = []
        for _ in range(args.window_rounds):
            silent.append(window(args, port, models)[0])
            for k in kinds:
                k.measure(args, port, models, set_paths(args, k.which))
        usual = figures(silent)["p50"]
        rows += [k.row(silent) for k in kinds]
        for title, windows in [("silent", silent), *((f"{k.which} {what}", getattr(k, what)) for k in kinds for what in ("asked", "loading"))]:
            why.append((f"{name}, {title}", [g for w in windows for g in w.gaps], [t for w in windows for t in w.told], usual))
    return rows, why


def print_gaps(args, rows):
    print(f"gaps between tokens of {args.streams} streams, ms; each figure of {args.window_rounds} windows of {args.window} s together; ratios of p99: median (least - most) over "
          "pairs of windows, and of all together")  # fmt: skip
    print(f"{'streams':<8} {'while':<8} {'set':<8} {'MB':>6} {'a second':>8} {'add ms':>7} {'gaps':>7} {'p50':>7} {'p99':>7} {'p99.9':>7} {'max':>7} {'p99 of windows':>16}  "
          f"{'to asked':<27} {'to silent':<27}")  # fmt: skip
    told = set()
    for r in rows:
        for what in ("silent", "asked", "loading"):
            f = r[what]
            if what == "silent" and r["streams"] in told:
                continue
            told.add(r["streams"])
            of = f"{r['set']:<8} {r['mb']:6.1f} {r['per_s']:8.1f} {r['load_ms']:7.0f}" if what == "loading" else f"{r['set'] if what == 'asked' else '':<8} {'':>6} {'':>8} {'':>7}"
            ratio = lambda k: f"{r[k]['median']:.2f} ({r[k]['least']:.2f} - {r[k]['most']:.2f}), {r[k]['pooled']:.2f}"
            both = f"  {ratio('to_asked'):<27} {ratio('to_silent'):<27}" if what == "loading" else ""
            print(f"{r['streams']:<8} {what:<8} {of} {f['count']:7} {f['p50']:7.3f} {f['p99']:7.3f} {f['p99.9']:7.3f} {f['max']:7.2f} "
                  f"{min(f['windows_p99']):7.3f} - {max(f['windows_p99']):6.3f}{both}")  # fmt: skip
    every = [r[what] for r in rows for what in ("silent", "asked", "loading")]
    most = lambda key: max(f[key] / max(f["count"], 1) for f in every)
    print(f"at most {most('together'):.2%} of the events came with the one before in one read; at most {most('of_several_tokens'):.2%} had several tokens behind them and are left out")


def part_live(args):
    churn_sets = args.churn or ["small", "qkv", "seven"]
    stream_sets = args.stream_set or ["qkv", "seven"]
    options = ["--max-seqs", str(args.streams + 8), "--adapter-slots", str(2 * args.streams + 8), "--prefix-cache", "false", "--ctx",
               str(args.prompt + max(args.tokens, args.gap_tokens) + 16), "--adapter-root", os.path.join(args.model, "adapters"),
               "--state-dir", "none"]  # fmt: skip
    args.log_level = "debug"  # the engine tells of long gaps
    begin = time.monotonic()
    with Server(args, options, args.log) as server:
        port = server.port
        held = {}
        for name in stream_sets:
            held[name] = []
            for path in itertools.islice(itertools.cycle(set_paths(args, name)), args.streams):
                label = f"held-{name}-{len(held[name])}"
                must(port, "POST", "/v1/adapters", {"name": label, "path": path, "pinned": True})
                held[name].append(label)
        pair = [held[stream_sets[0]][0], held[stream_sets[-1]][-1]]
        for which in churn_sets:
            Churn(port, set_paths(args, which), 1, 2).end(finish=True)
        free, ready = device_free(), time.monotonic()
        equality = equal_streams(args, port, pair, churn_sets)
        after, equal = device_free(), time.monotonic()
        rows, why = measure_gaps(args, port, held, churn_sets)
        for which in churn_sets:
            must(port, "DELETE", f"/v1/adapters/there-{which}")
    print("why gaps were long, by what the engine thread and the server's loop say of them:")
    reasons = {title: print_causes(title, gaps, told, usual) for title, gaps, told, usual in why}
    if free is not None:
        print(f"free memory of the card after {sum(equality['loads'].values())} loads: {after - free:+d} bytes")
        demand(after == free, f"free memory of the card went from {free} to {after}")
    print_gaps(args, rows)
    for r in rows:
        demand(r["to_asked"]["median"] <= 1.10 or args.small, f"{r['streams']}, {r['set']} loading: p99 is {r['to_asked']['median']:.2f} of that with the same requests")
    print(f"ready after {ready - begin:.1f} s, equal streams {equal - ready:.1f} s, gaps {time.monotonic() - equal:.1f} s")
    return {"equal": equality, "gaps": rows, "causes": reasons}


# ---- many ----


def make_many(args, folder):
    """--registered directories over the weight files of a set: hard links, each with a lora_alpha of its own."""
    sources = set_paths(args, args.weights)
    for i in range(args.registered):
        source, at = sources[i % len(sources)], os.path.join(folder, f"a{i:04d}")
        os.mkdir(at)
        os.link(os.path.join(source, "adapter_model.safetensors"), os.path.join(at, "adapter_model.safetensors"))
        with open(os.path.join(source, "adapter_config.json"), encoding="utf-8") as f:
            config = json.load(f)
        config["lora_alpha"] += i // len(sources)
        with open(os.path.join(at, "adapter_config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
    return adapter_bytes(os.path.dirname(sources[0]))[0]


def part_many(args):
    folder = tempfile.mkdtemp(prefix="many-", dir=os.path.join(args.model, "adapters"))
    try:
        each = make_many(args, folder)
        os.utime(folder)
        return measure_many(args, folder, each)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_many(args, folder, each):
    slot = math.ceil(each * 1.02) + (1 << 16)  # tiles and tables are rounded up
    options = ["--max-seqs", str(args.in_flight), "--adapter-slots", str(args.resident), "--prefix-cache", "false",
               "--ctx", str(args.prompt + args.generate + 16), "--adapter-memory", str(int(args.host * slot)), "--adapters", folder,
               "--state-dir", "none"]  # fmt: skip
    if args.backend != "cpu":
        options += ["--lora-arena", str(args.resident * slot)]
    weights = list(itertools.accumulate((i + 1) ** -args.zipf for i in range(args.registered)))
    with Server(args, options, args.log) as server:
        ready, port = server.start_s, server.port
        known = {a["name"]: a for a in must(port, "GET", "/v1/adapters")["data"]}
        demand(len(known) == args.registered and len({a["sha256"] for a in known.values()}) == args.registered,
               f"{len(known)} adapters of {args.registered} are there, {len({a['sha256'] for a in known.values()})} different")  # fmt: skip
        before, begin, lock = metrics(port), time.monotonic(), threading.Lock()
        answers, end = [], begin + args.seconds

        def client(seed):
            rng = random.Random(seed)
            while time.monotonic() < end:
                name = f"a{rng.choices(range(args.registered), cum_weights=weights)[0]:04d}"
                status, first, whole = ask(port, name, args.prompt, args.generate, rng.randrange(1000))
                with lock:
                    answers.append((status, first, whole, name))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(args.in_flight)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seconds = time.monotonic() - begin
        now = metrics(port)
        grown = {k: now[k] - before[k] for k in now}
        step_s = seconds / max(grown["chorus_step_seconds_count"], 1)
    requests = grown["chorus_adapter_requests_total"]
    hits, disk = grown["chorus_adapter_hits_total"], grown["chorus_adapter_disk_reads_total"]
    loads = grown["chorus_adapter_load_seconds_count"]
    firsts = [a[1] for a in answers]
    load_steps = grown["chorus_adapter_load_seconds_sum"] / max(loads, 1) / step_s
    others = args.in_flight - 1
    bound = 128 + (1 + others) * (1 + 128 + load_steps)  # engine/sched/sched.h, turn_steps 128, one step of prompt
    waited = now["chorus_adapter_wait_steps_max"]
    r = {"registered": args.registered, "resident": args.resident, "host": args.host, "mb": each / 1e6, "in_flight": args.in_flight, "ready_s": ready,
         "seconds": seconds, "answers": len(answers), "refused": sum(a[0] != 200 for a in answers), "distinct": len({a[3] for a in answers}),
         "tok_s": sum(a[0] == 200 for a in answers) * args.generate / seconds, "step_ms": 1000 * step_s,
         "hit_device": hits / requests, "hit_disk": disk / requests, "hit_host": 1 - (hits + disk) / requests,
         "loads_per_s": loads / seconds, "device_gb_s": loads * each / seconds / 1e9, "disk_gb_s": disk * each / seconds / 1e9,
         "load_ms": 1000 * grown["chorus_adapter_load_seconds_sum"] / max(loads, 1), "queue_ms": 1000 * grown["chorus_adapter_queue_seconds_sum"] / requests,
         "first_p50_ms": 1000 * percentile(firsts, 50), "first_p99_ms": 1000 * percentile(firsts, 99), "first_max_ms": 1000 * max(firsts),
         "preemptions": grown["chorus_preemptions_total"], "wait_steps_max": waited, "bound_steps": bound}  # fmt: skip
    demand(r["refused"] == 0, f"{r['refused']} of {len(answers)} requests got no whole answer: {[a for a in answers if a[0] != 200][:3]}")
    demand(waited <= bound, f"somebody waited {waited:.0f} steps for a slot, the bound is {bound:.0f}")
    print(f"{args.registered} adapters of {each / 1e6:.1f} MB ({args.weights}), {args.resident} on the device, {args.host} in host memory, zipf {args.zipf}, {args.in_flight} in flight, "
          f"{args.prompt} tokens in and {args.generate} out, {seconds:.1f} s; ready after {ready:.1f} s")  # fmt: skip
    print(f"answers {len(answers)} over {r['distinct']} adapters, without a whole one {r['refused']}; {r['tok_s']:.0f} tok/s, step {r['step_ms']:.2f} ms")
    print(f"found on the device {r['hit_device']:.1%}, in host memory or just being read {r['hit_host']:.1%}, read from disk {r['hit_disk']:.1%}")
    print(f"to the device {r['loads_per_s']:.1f} a second, {r['device_gb_s']:.2f} GB/s; from disk {r['disk_gb_s']:.2f} GB/s; a load takes {r['load_ms']:.1f} ms on average")
    print(f"first token p50 {r['first_p50_ms']:.0f}, p99 {r['first_p99_ms']:.0f}, worst {r['first_max_ms']:.0f} ms; longest wait for a slot {waited:.0f} steps (bound {bound:.0f}), "
          f"{r['preemptions']:.0f} preempted")  # fmt: skip
    return r


# ---- cold ----


def drop_cache(path):
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_speed(path):
    """GB/s of a plain reading of a file that is not in the page cache."""
    drop_cache(path)
    begin, buffer, total = time.monotonic(), bytearray(4 << 20), 0
    with open(path, "rb", buffering=0) as f:
        while n := f.readinto(buffer):
            total += n
    return total / (time.monotonic() - begin) / 1e9


def part_cold(args):
    folder = args.cold or os.path.join(args.model, "adapters", "cold")
    names = sorted((n for n in os.listdir(folder)), key=lambda n: os.path.getsize(os.path.join(folder, n, "adapter_model.safetensors")))
    file_of = lambda n: os.path.join(folder, n, "adapter_model.safetensors")
    held = set_paths(args, (args.stream_set or ["qkv"])[0])[:4]
    largest = os.path.getsize(file_of(names[-1]))
    arena = sum(os.path.getsize(os.path.join(p, "adapter_model.safetensors")) for p in held) + largest
    common = ["--max-seqs", "8", "--adapter-slots", str(len(held) + 1), "--prefix-cache", "false",
              "--ctx", str(args.prompt + max(args.gap_tokens, args.tokens) + 16),
              "--state-dir", "none", "--adapters", folder, *(x for p in held for x in ("--adapter", f"held-{os.path.basename(p)}={p}"))]  # fmt: skip
    if args.backend != "cpu":
        common += ["--lora-arena", str(int(arena * 1.05) + (16 << 20))]
    disk_gb_s = {n: read_speed(file_of(n)) for n in names}
    rows = collections.defaultdict(dict)
    others = {}
    for memory, states in (("1048576", ("disk, dropped", "disk")), (str(1 << 40), ("host", "device"))):
        with Server(args, [*common, "--adapter-memory", memory], args.log) as server:
            port, models = server.port, [f"held-{os.path.basename(p)}" for p in held]
            for m in [*models, *names]:
                ask(port, m, args.prompt, 1)  # graphs captured
            quiet = Watch(args, port, models, args.tokens).end()
            for state in states:
                w = Watch(args, port, models, args.tokens)
                windows = []
                for name in [n for _ in range(args.rounds) for n in names]:
                    if not w.running():
                        w.end()
                        others.setdefault(state, []).append((w, windows))
                        w, windows = Watch(args, port, models, args.tokens), []
                    if state == "disk, dropped":
                        drop_cache(file_of(name))
                    if state == "device":
                        ask(port, name, args.prompt, 1)
                    tier = must(port, "GET", f"/v1/adapters/{name}")["tier"]
                    demand(tier == state.split(",")[0], f"{name} is on tier {tier}, not {state}")
                    begin = time.monotonic_ns()
                    status, first, _ = ask(port, name, args.prompt, 2)
                    windows.append((begin, begin + int(first * 1e9)))
                    demand(status == 200, f"{name}: {status}")
                    rows[name].setdefault(state, []).append(1000 * first)
                w.end()
                others.setdefault(state, []).append((w, windows))
            for state in states:
                others[state] = compare(quiet, others[state])
    print(f"from a request of {args.prompt} tokens to its first token, ms, median of {args.rounds}, four others speaking; disk: plain reading with the page cache dropped")
    print(f"{'adapter':<16} {'MB':>7} {'disk GB/s':>9} {'dropped':>9} {'on disk':>9} {'in host':>9} {'on device':>9}")
    out = []
    for n in names:
        size = os.path.getsize(file_of(n)) / 1e6
        median = {s: percentile(v, 50) for s, v in rows[n].items()}
        out.append({"adapter": n, "mb": size, "disk_gb_s": disk_gb_s[n], **median})
        print(f"{n:<16} {size:7.1f} {disk_gb_s[n]:9.2f} {median['disk, dropped']:9.1f} {median['disk']:9.1f} {median['host']:9.1f} {median['device']:9.1f}")
    for state, o in others.items():
        print(f"others while they wait, {state}: {o['count']} gaps, p99 {o['p99']:.3f} ms, of the same tokens in a quiet run {o['quiet_p99']:.3f} ms: {o['ratio']:.2f}; worst {o['max']:.2f} ms")
    return {"cold": out, "others": others}


def compare(quiet, watched):
    """Gaps in the windows against those of the same tokens of the quiet run (later tokens have more context)."""
    at = collections.defaultdict(list)
    for _, k, g in quiet.gaps:
        at[k].append(g)
    mine, same = [], []
    for w, windows in watched:
        for k, g in w.within(windows):
            if k in at:
                mine.append(g)
                same.append(random.Random(k).choice(at[k]))
    p99, quiet_p99 = percentile(mine, 99), percentile(same, 99)
    return {"count": len(mine), "p99": p99, "quiet_p99": quiet_p99, "ratio": p99 / quiet_p99 if mine else float("nan"), "max": max(mine, default=0)}


# ---- the program ----


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=("live", "many", "cold"))
    p.add_argument("--bin", default="build", help="build folder or unpacked bundle")
    p.add_argument("--model", required=True)
    p.add_argument("--backend", default="cuda")
    p.add_argument("--quant", choices=("none", "int8", "int4"))
    p.add_argument("--kv", choices=("bf16", "int8"), default="bf16", help="keys and values")
    p.add_argument("--prompt", type=int, default=43)
    p.add_argument("--serve-args", default="", help="more options of chorus serve, separated by spaces")
    p.add_argument("--start-timeout", type=float, default=120)
    p.add_argument("--out", default="gpu-adapters", help="folder of results and logs")
    p.add_argument("--small", action="store_true", help="a trial of this script: gaps are not judged")
    live = p.add_argument_group("live")
    live.add_argument("--stream-set", action="append", help="sets whose adapters speak (qkv, seven); cold: the first")
    live.add_argument("--churn", action="append", help="sets that come and go (small, qkv, seven)")
    live.add_argument("--streams", type=int, default=8)
    live.add_argument("--tokens", type=int, default=2000, help="of the streams that must be equal; cold: of the others")
    live.add_argument("--gap-tokens", type=int, default=3000, help="that streams whose gaps are measured may say in a window")
    live.add_argument("--window", type=float, default=1.2, help="seconds of each")
    live.add_argument("--window-rounds", type=int, default=4, help="windows of each kind")
    live.add_argument("--cycles", type=int, default=500, help="loads while streams must be equal")
    live.add_argument("--large-cycles", type=int, default=12, help="more of them of each further set")
    many = p.add_argument_group("many")
    many.add_argument("--weights", default="many", help="set whose files are shared")
    many.add_argument("--registered", type=int, default=1000)
    many.add_argument("--resident", type=int, default=16)
    many.add_argument("--host", type=int, default=200, help="adapters that fit in host memory")
    many.add_argument("--in-flight", type=int, default=32)
    many.add_argument("--generate", type=int, default=100)
    many.add_argument("--zipf", type=float, default=1.1)
    many.add_argument("--seconds", type=float, default=25, help="many: how long requests begin; live: patience with loads")
    cold = p.add_argument_group("cold")
    cold.add_argument("--cold", help="folder of adapters of several sizes (MODEL/adapters/cold)")
    cold.add_argument("--rounds", type=int, default=3)
    args = p.parse_args()
    args.serve_args, args.quant_given = args.serve_args.split(), args.quant is not None
    args.log = os.path.join(args.out, f"adapters-{args.part}.log")
    return args


def main():
    args = arguments()
    for name in ("chorus", "gap_client"):
        if not program(args, name):
            say(f"there is no {name} in {args.bin}")
            return 2
    os.makedirs(args.out, exist_ok=True)
    begin = time.monotonic()
    result = {"live": part_live, "many": part_many, "cold": part_cold}[args.part](args)
    path, known = os.path.join(args.out, "adapters.json"), {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            known = json.load(f)
    known[args.part] = {**result, "not_met": BAD, "took_s": time.monotonic() - begin}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(known, f, indent=1)
    print(f"{args.part}: {time.monotonic() - begin:.1f} s, {len(BAD)} demands not met")
    return 1 if BAD else 0


if __name__ == "__main__":
    sys.exit(main())
