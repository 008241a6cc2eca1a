"""bench, inspect, tokenize and render as a user runs them: reports, wrong usage, pipes, full disks."""
import json
import os
import re
import signal
import subprocess

import pytest

from commands import CHORUS, answering, environment, http, nobody, run, terminal
from conftest import DEMO, ROOT, SLOW, VOICES

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


# ---- bench ----

def test_bench_report(server, tmp_path):
    csv = tmp_path / "figures.csv"
    args = ("bench", "--url", server.url, "--requests", "10", "--concurrency", "5", "--max-tokens", "6", "--csv", csv)
    code, out, err = run(*args)
    assert code == 0 and err == "" and "requests     10 in" in out and "tokens       60 out" in out and "0 errors" in out
    assert re.search(r"^first token +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms$", out, re.M)
    for voice in VOICES:
        assert re.search(rf"^{voice} +\d+ +0 +\d+ ", out, re.M), out
    code, out, _ = run(*args, "--json")
    figures = json.loads(out)
    assert code == 0 and figures["requests"] == 10 and figures["completion_tokens"] == 60 and not figures["interrupted"]
    assert sum(v["requests"] for v in figures["voices"]) == 10 and {v["name"] for v in figures["voices"]} == set(VOICES)
    lines = csv.read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("url,dialect") and len(lines[1].split(",")) == len(lines[0].split(","))


def test_bench_errors(server):
    code, out, err = run("bench", "--url", server.url, "--requests", "4", "--concurrency", "2", "--adapter", "nobody", "--adapter", "base", "--max-tokens", "3")
    errors = int(re.search(r"(\d) errors", out).group(1))
    assert code == 1 and 1 <= errors <= 4 and "404: adapter 'nobody' does not exist" in out and re.search(rf"^nobody +{errors} +{errors} +0 +- +-$", out, re.M), out
    code, out, err = run("bench", "--url", nobody())
    assert code == 5 and out == "" and "no server answers" in err
    with answering(http('{"data":[{"id":"m"}]}')) as url:
        code, out, _ = run("bench", "--url", url, "--requests", "2")
        assert code == 0 and "requests     2 in" in out


@pytest.mark.parametrize("args,code,why", [
    (("extra",), 2, "options only"), (("--requests", "0"), 2, "requests"), (("--csv", "/nowhere/x"), 3, "/nowhere/x"),
    (("--token-prompts",), 2, "--prompt-tokens"), (("--dialect", "latin"), 2, "dialect")])
def test_bench_wrong_usage(server, args, code, why):
    got, out, err = run("bench", "--url", server.url, *args)
    assert got == code and out == "" and why in err and err.count("\n") == 1


def test_bench_interrupted(fake):
    s = fake(step_us=3000)
    p = subprocess.Popen([CHORUS, "bench", "--url", s.url, "--requests", "100000", "--concurrency", "2", "--max-tokens", "8", "--prompt", "@long x"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    s.wait_metric("chorus_requests_running", 2)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20 * SLOW)
    assert p.returncode == 130 and b"(interrupted)" in out and b"between tokens" in out and err == b""
    s.wait_metric("chorus_requests_running", 0)


# ---- files ----

def test_inspect():
    code, out, _ = run("inspect", DEMO)
    assert code == 0 and "llama: 8 layers" in out
    code, out, _ = run("inspect", DEMO / "adapters/wood-elf", "--model", DEMO, "--json")
    report = json.loads(out)
    assert code == 0 and report["ok"] and report["kind"] == "adapter"
    for args, wanted in (((), 2), ((DEMO, DEMO), 2), (("/nowhere",), 3), (("/etc/passwd",), 3), ((DEMO, "--nothing"), 2)):
        code, out, err = run("inspect", *args)
        assert code == wanted and err.startswith("chorus inspect: ") and err.count("\n") == 1, (args, err)
    code, out, _ = run("inspect", "/nowhere", "--json")
    assert code == 3 and json.loads(out)["ok"] is False


def test_inspect_of_hostile_names(tmp_path):
    adapter = tmp_path / "elf\x1b[2J"
    adapter.mkdir()
    for f in (DEMO / "adapters/wood-elf").iterdir():
        (adapter / f.name).write_bytes(f.read_bytes())
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "evil\x1b]0;owned\x07\u009b2J"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    code, out, err = run("inspect", adapter)
    assert code == 0 and not CONTROL.search(out + err), out


def test_text_in_pipes():
    model = ("--model", DEMO)
    code, out, _ = run("tokenize", *model, "--jsonl", stdin=b'"Hello"\n"world"\n')
    ids = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(ids) == 2
    assert run("tokenize", *model, "--jsonl", "--decode", stdin=out.encode())[1] == '"Hello"\n"world"\n'
    assert run("tokenize", *model, "--count", stdin=b"")[:2] == (0, "0\n")
    assert run("render", *model, stdin=b'{"messages":[{"role":"user","content":"hi"}],"add_generation_prompt":true}')[1].endswith("<|assistant|>")
    for args, stdin, wanted in ((("tokenize",), b"", 2), (("tokenize", *model, "x"), b"", 2), (("tokenize", *model, "--decode"), b"", 2),
                                (("tokenize", *model, "--jsonl"), b"nonsense\n", 2), (("tokenize", "--model", "/nowhere"), b"x", 3),
                                (("render", *model), b"{", 2), (("render",), b"{}", 2), (("render", "--template", "/nowhere"), b"{}", 3)):
        code, out, err = run(*args, stdin=stdin)
        assert code == wanted and err.count("\n") == 1, (args, code, err)


@pytest.mark.parametrize("args", [("tokenize", "--model", DEMO), ("render", "--model", DEMO)])
def test_a_terminal_is_told_what_is_waited_for(args):
    with terminal(*args) as t:
        t.until("Ctrl-D ends it")
        t.send('{"messages":[]}\n\x04')
        assert t.end() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_an_error(server):
    for args in (("tokenize", "--model", DEMO), ("render", "--model", DEMO), ("inspect", DEMO), ("ps", "--url", server.url), ("health", "--url", server.url),
                 ("run", "--url", server.url, "--max-tokens", 3), ("bench", "--url", server.url, "--requests", 1, "--max-tokens", 2)):
        with open("/dev/full", "w") as full:
            done = subprocess.run([CHORUS, *map(str, args)], cwd=ROOT, input=b'{"messages":[]}', stdout=full, stderr=subprocess.PIPE, env=environment())
        assert done.returncode == 1, (args, done)


def test_input_without_an_end(server):
    for args in (("render", "--model", DEMO), ("run", "--url", server.url)):
        done = subprocess.run(["sh", "-c", 'yes | "$@"', "sh", CHORUS, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment(), timeout=60 * SLOW)
        assert done.returncode == 4 and b"more than" in done.stderr


def test_every_command_has_help():
    listed = re.findall(r"^  (\w+) ", run("--help")[1], re.M)
    assert {"serve", "run", "ps", "health", "bench", "inspect", "tokenize", "render"} <= set(listed)
    for command in listed:
        code, out, err = run(command, "--help")
        assert code == 0 and err == "" and out.startswith(f"usage: chorus {command}"), command
        assert max(map(len, out.split("\n"))) <= 80, command
        code, out, err = run(command, "--no-such-option")
        assert code == 2 and out == "" and err.count("\n") == 1, (command, err)
