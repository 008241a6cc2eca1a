#!/usr/bin/env python3
"""Runs the suites that were built and adds them up; ends with "N passed, N failed[, N skipped]".

unit   the cmocka programs of build/tests
emu    those of kernels and of the CUDA backend, on the emulated card (build/emu)
asan   the same programs built with AddressSanitizer and UBSan (build/asan)
tsan   those that use threads, built with ThreadSanitizer (build/tsan; not part of the default run)
fuzz   each libFuzzer target of build/fuzz over its corpus for a few seconds
api    pytest over tests/: the server as its clients see it, and comparisons with reference implementations
"""
import argparse
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A sanitized program on a busy machine takes minutes; only a hang takes this.
UNIT_TIMEOUT_S = 14400 if os.environ.get("CHORUS_RELEASE") == "1" else 1500
# Minutes each; the longest first.
LONG = ("test_cuda_backend", "test_equality")
TSAN_WORTH = ("tokenizer", "engine", "pool", "store", "outbox", "golden")


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.bad = []
        self.lock = threading.Lock()

    def add(self, name, passed, failed, skipped, seconds, output):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped
            mark = "FAIL" if failed else "ok"
            print(f"{mark:4} {name}: {passed} passed, {failed} failed, {skipped} skipped, {seconds:.1f} s", flush=True)
            if failed:
                self.bad.append(name)
                print(output[-8000:], flush=True)
            else:
                for line in output.split("\n"):
                    if line.startswith(("figure:", "SKIPPED")):
                        print("     " + line, flush=True)


class Job:
    """A program to run. `calm`: it takes no wall clock for a judge, so it may run beside the API tests, behind them at the CPU."""

    def __init__(self, name, command, timeout, count, env=None, calm=False):
        self.name, self.command, self.timeout, self.count, self.env, self.calm = name, command, timeout, count, env, calm

    def run(self, totals):
        code, text, seconds = run(self.command, self.timeout, self.env, 10 if self.calm else 0)
        passed, failed, skipped, text = self.count(code, text)
        totals.add(self.name, passed, failed, skipped, seconds, text)


def run(command, timeout, env=None, nice=0):
    start = time.monotonic()
    try:
        done = subprocess.run((["nice", "-n", str(nice)] if nice else []) + command, cwd=ROOT, capture_output=True, timeout=timeout, env=env)
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        code = done.returncode
    except subprocess.TimeoutExpired as e:
        text = ((e.stdout or b"") + (e.stderr or b"")).decode("utf-8", "replace") + f"\ntimed out after {timeout} s"
        code = -1
    return code, text, time.monotonic() - start


def count_cmocka(code, text):
    passed = len(re.findall(r"^\[ {7}OK \]", text, re.M))
    # cmocka lists skipped and failed tests twice: in their place and in the summary.
    skipped = len(set(re.findall(r"^\[  SKIPPED \] (\w+)\n", text, re.M)))
    failed = len(set(re.findall(r"^\[  FAILED  \] (?:\w+: )?(test_\w+)", text, re.M)))
    if failed == 0 and (code != 0 or passed + skipped == 0):
        failed = 1  # crashed, or ran no test at all
    return passed, failed, skipped, text


def cmocka(folder, label, wanted=lambda name: True, env=None, folders=None, calm=False):
    programs = sorted(p for p in (ROOT / folder / "tests").glob("*/test_*")
                      if os.access(p, os.X_OK) and p.suffix == "" and (folders is None or p.parent.name in folders))
    return [Job(f"{label} {p.parent.name}/{p.name}", [str(p)], UNIT_TIMEOUT_S, count_cmocka, env, calm) for p in programs if wanted(p.name)]


def fuzz(seconds_each, seed, runs_each):
    jobs = []
    for program in sorted((ROOT / "build/fuzz/tests/fuzz").glob("fuzz_*")):
        name = program.name.removeprefix("fuzz_")
        corpus = ROOT / "tests/fuzz/corpus" / name
        work = ROOT / "build/fuzz/corpus" / name
        work.mkdir(parents=True, exist_ok=True)
        limit = f"-runs={runs_each * (4 if name == 'safetensors' else 1)}" if runs_each else f"-max_total_time={seconds_each}"
        command = [str(program), limit, f"-seed={seed}", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0",
                   "-print_final_stats=1", f"-artifact_prefix={work}/", str(work)]
        if corpus.is_dir():
            command.append(str(corpus))

        def count(code, text, name=name):
            runs = re.search(r"number_of_executed_units:\s*(\d+)", text)
            return int(code == 0), int(code != 0), 0, text + f"\nfigure: fuzz {name}: {runs.group(1) if runs else '?'} runs"

        jobs.append(Job(f"fuzz {name}", command, None if runs_each else seconds_each + 120, count))
    return jobs


def run_all(jobs, totals, width, api):
    """`width` programs at once, the long ones first so that none is left alone at the end. While `api` runs, in this thread's
    place, only calm ones, and one less: its tests look at the clock."""
    jobs = sorted(jobs, key=lambda j: not any(name in j.name for name in LONG))
    changed = threading.Condition()
    state = {"running": 0, "api": api is not None}

    def take():
        """The next job that may begin now; None: there are no more."""
        with changed:
            while jobs:
                if state["running"] < (max(1, width - 1) if state["api"] else width):
                    for i, j in enumerate(jobs):
                        if j.calm or not state["api"]:
                            state["running"] += 1
                            return jobs.pop(i)
                changed.wait()
            return None

    def work():
        for j in iter(take, None):
            try:
                j.run(totals)
            except Exception as e:  # the others go on
                totals.add(j.name, 0, 1, 0, 0, repr(e))
            with changed:
                state["running"] -= 1
                changed.notify_all()

    workers = [threading.Thread(target=work) for _ in range(width)]
    for w in workers:
        w.start()
    try:
        if api:
            api()
    finally:
        with changed:
            state["api"] = False
            changed.notify_all()
        for w in workers:
            w.join()


def pytest(totals, extra):
    if not any((ROOT / "tests").glob("*/test_*.py")):
        return
    start = time.monotonic()
    folders = sorted({str(p.parent.relative_to(ROOT)) for p in (ROOT / "tests").glob("*/test_*.py")})
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rsP",  # why some were skipped; the figures of those that passed
                           "-p", "no:cacheprovider", *folders, *extra], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:  # what failed, not what those that passed have printed
        text = re.sub(r"(?s)=+ PASSES =+.*?(?==+ short test summary info =+)", "", text)
    counts = {k: int(n) for n, k in re.findall(r"(\d+) (passed|failed|skipped|error)", text.strip().split("\n")[-1])}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    if done.returncode not in (0, 5) and failed == 0:
        failed = 1
    totals.add("api pytest", counts.get("passed", 0), failed, counts.get("skipped", 0), time.monotonic() - start, text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=["unit", "emu", "asan", "tsan", "fuzz", "api"])
    parser.add_argument("--fuzz-seconds", type=int, default=20)
    parser.add_argument("--fuzz-runs", type=int, default=0, help="so many of each target instead, however long it takes")
    parser.add_argument("--fuzz-seed", type=int, default=1, help="0: another one each time")
    parser.add_argument("--jobs", type=int, default=min(8, len(os.sched_getaffinity(0))), help="C programs at once")
    parser.add_argument("-k", default="", help="only C programs whose name contains this; passed to pytest -k too")
    args = parser.parse_args()
    suites = args.only or ["unit", "emu", "api", "asan", "fuzz"]
    totals = Totals()
    wanted = lambda name: args.k in name
    jobs = []
    if "asan" in suites:
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1", CHORUS_TEST_SLOW="1")
        jobs += cmocka("build/asan/emu", "asan-emu", wanted, env, calm=True)
        jobs += cmocka("build/asan", "asan", wanted, env)
    if "emu" in suites:
        jobs += cmocka("build/emu", "emu", wanted, calm=True)
    if "unit" in suites:
        jobs += cmocka("build", "unit", wanted, folders=("unit", "sim", "golden"))
    if "tsan" in suites:
        jobs += cmocka("build/tsan", "tsan", lambda n: args.k in n and any(w in n for w in TSAN_WORTH))
    if "fuzz" in suites:
        jobs += fuzz(args.fuzz_seconds, args.fuzz_seed, args.fuzz_runs)
    api = (lambda: pytest(totals, ["-k", args.k] if args.k else [])) if "api" in suites else None
    run_all(jobs, totals, args.jobs, api)
    for name in totals.bad:
        print(f"failed: {name}")
    tail = f", {totals.skipped} skipped" if totals.skipped else ""
    print(f"{totals.passed} passed, {totals.failed} failed{tail}", flush=True)
    return 1 if totals.failed or totals.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
