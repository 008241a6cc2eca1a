#!/usr/bin/env python3
"""Lint: what the compiler does not check. Prints one line a finding, exits 1 if there is any.

Sizes (STYLE.md), include directions (DESIGN.md section 1), banned calls, header guards, own header first, formatting.
"""
import re
import subprocess
import sys

FILE_MAX, FUNCTION_MAX, HEADER_MAX = 1500, 150, 150
INLINE_HEADER_MAX = 300  # .cuh: device code has nowhere else to be
BANNED = {
    "strcpy", "strcat", "sprintf", "vsprintf", "sscanf", "atoi", "atol", "atof", "strtok", "alloca", "gets",
}
RAW_MEMORY = {"malloc", "calloc", "realloc", "free", "strdup", "strndup", "aligned_alloc", "posix_memalign"}
# room -> what it may include beside itself and engine/base. Order matters: the longest prefix that fits decides.
ROOMS = {
    "engine/base/": [],
    "engine/text/": [],
    "engine/sample/": [],
    "engine/grammar/": [],
    "engine/model/": ["engine/backend.h"],
    "engine/adapter/": ["engine/model/", "engine/backend.h", "engine/engine_adapter_data.h"],
    "engine/sched/": ["engine/engine_request.h", "engine/engine_adapter_data.h", "engine/sample/", "engine/grammar/", "engine/adapter/", "engine/model/", "engine/backend.h", "engine/text/"],
    "engine/cpu/": ["engine/backend.h", "engine/sample/", "engine/model/", "engine/adapter/", "engine/sched/batch.h"],
    "engine/": ["engine/"],
    "cuda/": ["engine/backend.h", "engine/sample/", "engine/model/", "engine/adapter/", "engine/sched/batch.h"],
    "config/": ["engine/sample/"],
    "server/": ["engine/engine", "engine/sample/sample.h", "config/"],
}
OWNERS = {"uv.h": {"server/loop.c"}, "microhttpd.h": {"server/http_state.h"}, "curl/curl.h": {"server/hub_client.c"}}
SYSTEM_MAIN = {"exit", "_exit"}


def tracked(*globs):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *globs], capture_output=True, text=True, check=True)
    return [f for f in out.stdout.split("\n") if f]


def strip_comments(text):
    """Blanks comments and literals, keeping every newline, so that line numbers stay true."""
    keep = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', keep, text, flags=re.S)


def functions(code):
    """(name, first line, length) of each function: a body opened by '{' in column 0 after a parameter list."""
    lines = code.split("\n")
    for i, line in enumerate(lines):
        if line != "{":
            continue
        head = " ".join(lines[max(0, i - 6):i])
        names = re.findall(r"(\w+)\s*\(", head)
        end = next((j for j in range(i, len(lines)) if lines[j].startswith("}")), i)
        if names:
            yield names[-1], i, end - i + 1


def own_header(path):
    stem, dot, ext = path.rpartition(".")
    return stem + ".h" if ext in ("c", "cu", "cc") else None


def room_of(path):
    return max((r for r in ROOMS if path.startswith(r)), key=len, default=None)


def check_includes(path, text, report):
    room = room_of(path)
    own = own_header(path)
    seen_first = False
    for number, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if not m:
            continue
        kind, target = m.groups()
        if kind == "<":
            if target in OWNERS and path not in OWNERS[target] and not path.startswith("tests/"):
                report(path, number, f"only {', '.join(OWNERS[target])} may include <{target}>")
            if target.startswith("cuda") and not path.startswith(("cuda/", "tests/")):
                report(path, number, f"<{target}> belongs to cuda/")
            continue
        if own and not seen_first and target != own and own in ALL:
            report(path, number, f'its own header "{own}" comes first')
        seen_first = True
        if path.startswith("tests/") or room is None:
            continue
        if path == "cuda/ptx.cuh" and target.startswith("tests/emu/"):
            continue
        if target.startswith(room) or target.startswith("engine/base/"):
            continue
        if room == "engine/base/" or not any(target.startswith(a) for a in ROOMS[room]):
            report(path, number, f'{room} may not include "{target}"')


def check_code(path, text, code, report):
    for number, line in enumerate(code.split("\n"), 1):
        for name in re.findall(r"(?<![\w.>])(\w+)\s*\(", line):
            if name in BANNED:
                report(path, number, f"{name} is banned")
            if name in RAW_MEMORY and not path.startswith(("engine/base/", "tests/")):
                report(path, number, f"{name}: memory comes from engine/base/mem.h")
            if name == "getenv" and not path.startswith(("config/", "tests/")):
                report(path, number, "getenv belongs to config/")
            if name in SYSTEM_MAIN and path != "server/main.c" and not path.startswith("tests/"):
                report(path, number, f"{name}: only server/main.c ends the process")
            if name in ("printf", "puts") and path.startswith(("engine/", "cuda/", "config/")):
                report(path, number, f"{name}: libraries never print")
        if re.search(r"\b(TODO|FIXME|XXX)\b", text.split("\n")[number - 1]):
            report(path, number, "unfinished mark")
        if path.endswith((".cu", ".cuh")) and path != "cuda/ptx.cuh":
            if re.search(r"\b__shared__\b", line):
                report(path, number, "shared memory is DYN_SMEM (cuda/ptx.cuh)")
            if re.search(r"\b(asm|__asm__)\b", line):
                report(path, number, "instructions belong into cuda/ptx.cuh")
            if "<<<" in line:
                report(path, number, "launches go through cuda/launch.cuh")
            if re.search(r"\bstd::", line):
                report(path, number, "cuda/ is C with templates: no standard library")
            m = re.search(r"__global__.*?\bvoid\b(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\s*\(", line)
            if m and not m.group(1).startswith("k_"):
                report(path, number, f"{m.group(1)}: kernels are k_<op>")
        if path.endswith(".h") and re.match(r"\s*typedef\b", line) and not path.startswith("tests/"):
            report(path, number, "no typedefs")
    for name, first, length in functions(code):
        if length > FUNCTION_MAX:
            report(path, first, f"{name} has {length} lines (limit {FUNCTION_MAX})")
    if path.endswith(".c"):
        for number, line in enumerate(code.split("\n"), 1):
            if re.match(r"extern\b", line):
                report(path, number, "a declaration of another file's name belongs into a header")


def check_size(path, text, report):
    lines = text.count("\n")
    if lines > FILE_MAX and "generated" not in text[:400]:
        report(path, 1, f"{lines} lines (limit {FILE_MAX})")
    header_max = INLINE_HEADER_MAX if path.endswith(".cuh") else HEADER_MAX
    if path.endswith((".h", ".cuh")) and lines > header_max and not path.startswith("tests/") and "generated" not in text[:400]:
        report(path, 1, f"{lines} lines (limit {header_max} for a header)")
    if path.endswith((".h", ".cuh")) and "#ifndef " not in text:
        report(path, 1, "no include guard")


def check_format(files, report):
    for path in files:
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", path], capture_output=True, text=True)
        if run.returncode:
            report(path, 1, "not formatted: run make fmt")


SOURCES = tracked("*.c", "*.h", "*.cu", "*.cuh", "*.cc")
ALL = set(SOURCES)


def main():
    findings = []

    def report(path, line, what):
        findings.append(f"{path}:{line}: {what}")

    for path in SOURCES:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        code = strip_comments(text)
        check_size(path, text, report)
        check_includes(path, text, report)
        check_code(path, text, code, report)
    check_format(SOURCES, report)
    for f in findings:
        print(f)
    print(f"lint: {len(SOURCES)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
