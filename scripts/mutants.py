#!/usr/bin/env python3
"""Plants the faults of tests/mutants/faults.py one at a time in a copy of the tree and runs the test that each names: it has to
turn red. A fault that survives is a hole in the tests. Ends with "N passed, N failed".

First every named test must be green without a fault, or its red would mean nothing. The copy lies in build/mutants and takes over
the objects that are built already; nothing outside of it changes.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build/mutants"
TIMEOUT_S = 600
sys.path.insert(0, str(ROOT / "tests/mutants"))
from faults import FAULTS  # noqa: E402


def copy_tree():
    """The tracked files as they are now, with their times, and what was built from them."""
    COPY.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        source, target = ROOT / name, COPY / name
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copy2(source, target)
    for objects in ("build/obj", "build/emu/obj"):
        if not (COPY / objects).exists() and (ROOT / objects).exists():
            shutil.copytree(ROOT / objects, COPY / objects)


def build(targets):
    # Warnings are off: what a fault leaves unused is not the question.
    done = subprocess.run(["make", f"-j{os.cpu_count()}", "WARN=-w", *sorted(targets)], cwd=COPY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def is_pytest(test):
    return ".py::" in test


def program_of(test):
    """Kernels and what is around them run on the emulated card."""
    return ("build/emu/tests/" if test.startswith(("kernels/", "emu/")) else "build/tests/") + test.partition(":")[0]


def targets_of(test):
    return {"build/chorus", "build/tests/api/fake_server"} if is_pytest(test) else {program_of(test)}


def has_emulator():
    """Whether the toolkit's headers are here."""
    return subprocess.run(["make", "-n", "build/emu/tests/kernels/test_linear"], cwd=ROOT, capture_output=True).returncode == 0


def red_cmocka(text, name):
    """A test that failed, or that ran when the program died or hung."""
    failed = set(re.findall(r"^\[  FAILED  \] (?:\w+: )?(test_\w+)", text, re.M))
    begun = re.findall(r"^\[ RUN {6}\] (test_\w+)", text, re.M)
    ended = set(re.findall(r"^\[ {7}OK \] (test_\w+)", text, re.M)) | failed
    return name in failed or (bool(begun) and begun[-1] == name and name not in ended)


def run_test(test, alone=False):
    """-> (red, output). alone: the program's other tests may be left out; those of kernels/ take minutes."""
    if is_pytest(test):
        venv = ROOT / "build/venv/bin/python"
        python = str(venv) if venv.exists() else sys.executable
        command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{test}"]
    else:
        command = [program_of(test)]
    env = {k: v for k, v in os.environ.items() if k != "CHORUS_BUILD"}
    if alone and test.startswith(("kernels/", "emu/")):
        env["CHORUS_TEST_ONLY"] = test.partition(":")[2]
    try:
        done = subprocess.run(command, cwd=COPY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, env=env)
        text, code = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode("utf-8", "replace"), 1
    if is_pytest(test):
        return code == 1, text
    return red_cmocka(text, test.partition(":")[2]), text


def check_green(tests):
    """The named tests without a fault: the names of those that are not green."""
    bad = []
    by_program = {}
    for test in tests:
        by_program.setdefault(test if is_pytest(test) else test.partition(":")[0], []).append(test)
    for program, named in sorted(by_program.items()):
        red, text = run_test(named[0], alone=len(set(named)) == 1)
        for test in named:
            name = test.partition(":")[2]
            ok = not red if is_pytest(test) else re.search(rf"^\[ {{7}}OK \] {name}$", text, re.M)
            if not ok:
                bad.append(test)
                print(f"not green without a fault: {test}\n{text[-2000:]}", flush=True)
    return bad


def plant(fault):
    """-> what went wrong, or "" when the named test turned red."""
    _, path, old, new, test = fault
    source = COPY / path
    clean = source.read_text()
    if clean.count(old) != 1:
        return f"the text to replace stands {clean.count(old)} times in {path}"
    source.write_text(clean.replace(old, new))
    try:
        ok, text = build(targets_of(test))
        if not ok:
            return "does not build:\n" + text[-2000:]
        red, text = run_test(test, alone=True)
        return "" if red else f"survived: {test} stays green\n{text[-600:]}"
    finally:
        source.write_text(clean)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", help="only faults whose name, file or test contains this")
    args = parser.parse_args()
    faults = [f for f in FAULTS if any(args.k in part for part in (f[0], f[1], f[4]))]
    copy_tree()
    if not has_emulator():
        print("no CUDA toolkit here: the faults of kernels are left out")
        faults = [f for f in faults if not f[4].startswith(("kernels/", "emu/"))]
    targets = set().union(*(targets_of(f[4]) for f in faults)) if faults else set()
    ok, text = build(targets)
    if not ok:
        print(text[-4000:])
        print("0 passed, 1 failed")
        return 1
    unfit = check_green({f[4] for f in faults})
    passed = failed = 0
    width = max((len(f[0]) for f in faults), default=0)
    for fault in faults:
        begin = time.monotonic()
        why = f"{fault[4]} is not green without it" if fault[4] in unfit else plant(fault)
        passed, failed = passed + (not why), failed + bool(why)
        print(f"{'FAIL' if why else 'red':4} {fault[0]:{width}}  {fault[4]}  {time.monotonic() - begin:.0f} s", flush=True)
        if why:
            print("     " + why.replace("\n", "\n     "), flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
