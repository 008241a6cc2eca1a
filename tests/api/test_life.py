"""The server's own life: starting, bad starts, stalls, draining, signals."""
import concurrent.futures
import functools
import json
import random
import resource
import signal
import socket
import shutil
import subprocess
import threading
import time

import pytest

from conftest import BUILD, DEMO, ROOT, SLOW, events, figure, joined, parse_answers, read_all, start_real
from seccomp import without
from test_cancel import request

CHAT = "/v1/chat/completions"


def open_stream(s, text, **fields):
    c = s.connect(timeout=30)
    c.sendall(request({"messages": [{"role": "user", "content": text}], "stream": True, **fields}).replace(b"Host:", b"Connection: close\r\nHost:"))
    return c


def test_loading(fake):
    s = fake(load_ms=700, wait_ready=False)
    status, body = s.get("/health")
    assert status == 503 and body == {"status": "loading"}
    status, headers, text = s.request("POST", CHAT, {"messages": []})
    assert status == 503 and "retry-after" in headers and "loading" in json.loads(text)["error"]["message"]
    assert s.request("GET", "/metrics")[0] == 200
    assert s.process.stdout.readline().strip() == b"ready"
    assert s.get("/health") == (200, {"status": "ok"})


def test_signal_while_loading(fake):
    s = fake(load_ms=3000, wait_ready=False)
    s.get("/health")
    begin = time.monotonic()
    assert s.stop() == 0
    assert time.monotonic() - begin < 1 * SLOW


def test_health_tells_of_a_stall(fake):
    s = fake(beat_ms=300, stall_ms=1500)
    seen = set()
    c = open_stream(s, "@stall")
    begin = time.monotonic()
    while time.monotonic() - begin < 3 and "stalled" not in seen:
        seen.add(s.get("/health")[1]["status"])
        time.sleep(0.02)
    assert "stalled" in seen and time.monotonic() - begin < 1.2 * SLOW
    assert joined(events(parse_answers(read_all(c))[0][2])) == "@stall"
    assert s.get("/health") == (200, {"status": "ok"})


def test_error_in_the_stream(fake):
    s = fake()
    status, payloads = s.stream(CHAT, {"messages": [{"role": "user", "content": "xx @fail"}]})
    assert status == 200
    error = json.loads(payloads[-1])["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"] == "told to fail" and error["code"] == "internal_error"
    assert "[DONE]" not in payloads and joined(payloads[:-1]) == "xx "
    status, answer = s.post(CHAT, {"messages": [{"role": "user", "content": "xx @fail"}]})
    assert status == 500 and answer["error"]["message"] == "told to fail"
    assert s.metric('chorus_requests_total{route="/v1/chat/completions",outcome="server_error"}') == 1


def test_drain(fake):
    """8 streams run and 8 wait: the streams finish, the waiting get an error, exit code 0."""
    s = fake(seqs=8, step_us=10000, drain_ms=10000)
    text = "the quick brown fox jumps over it"
    running = [open_stream(s, text) for _ in range(8)]
    s.wait_metric("chorus_requests_running", 8)
    waiting = [open_stream(s, text) for _ in range(8)]
    s.wait_metric("chorus_requests_waiting", 8)
    kept = s.connect()
    kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    kept.recv(1000)
    s.process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    for c in waiting:
        status, headers, body = parse_answers(read_all(c))[0]
        assert status == 503 and json.loads(body)["error"]["code"] == "draining"
    with pytest.raises(OSError):
        s.connect()
    for c in running:
        status, headers, body = parse_answers(read_all(c))[0]
        assert status == 200 and joined(events(body)) == text and body.endswith(b"data: [DONE]\n\n")
    assert s.process.wait(5 * SLOW) == 0
    print(f"figure: drained 8 streams in {time.monotonic() - begin:.2f} s")
    kept.close()


def test_drain_timeout(fake):
    s = fake(step_us=10000, drain_ms=500)
    c = open_stream(s, "@long")
    s.wait_metric("chorus_requests_running", 1)
    s.process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    assert s.process.wait(5 * SLOW) == 0
    assert 0.4 < time.monotonic() - begin < 1.5 * SLOW
    assert b"[DONE]" not in read_all(c)


def test_second_signal_ends_at_once(fake):
    s = fake(step_us=10000, drain_ms=20000)
    c = open_stream(s, "@long")
    s.wait_metric("chorus_requests_running", 1)
    s.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert s.process.poll() is None
    s.process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    assert s.process.wait(5 * SLOW) == 0 and time.monotonic() - begin < 1 * SLOW
    c.close()


def test_idle_server_ends_at_once(fake):
    s = fake(drain_ms=20000)
    s.get("/health")
    begin = time.monotonic()
    assert s.stop() == 0 and time.monotonic() - begin < 0.5 * SLOW


def test_few_descriptors(fake):
    """With room for hardly any connection it serves those it can and lives."""
    import conftest
    started = conftest.subprocess.Popen

    def limited(*args, **kw):
        return started(*args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)), **kw)

    conftest.subprocess.Popen = limited
    try:
        s = fake()
    finally:
        conftest.subprocess.Popen = started
    held = []
    for _ in range(300):
        try:
            held.append(socket.create_connection(("127.0.0.1", s.port), timeout=2))
        except OSError:
            break
    assert s.chat("hello")["choices"][0]["message"]["content"] == "hello"
    for c in held:
        c.close()
    assert s.process.poll() is None


def test_access_log(fake):
    s = fake()
    s.request("POST", CHAT, {"messages": [{"role": "user", "content": "secret words"}], "adapter": "villain"}, headers={"x-request-id": "trace-1"})
    s.request("GET", "/nothing")
    line = next(l for l in s.log_text().splitlines() if "trace-1" in l)
    for part in ("method=POST", "path=/v1/chat/completions", "status=200", "adapter=villain", "tokens_in=15", "tokens_out=22", "first_ms=", "ms="):
        assert part in line, line
    assert "secret" not in s.log_text()
    assert "path=/nothing status=404" in s.log_text()


# ---- bad starts ----

def run(*args, **kw):
    begin = time.monotonic()
    done = subprocess.run([str(BUILD / "chorus"), "serve", "--port", "0", *args], cwd=ROOT, capture_output=True, timeout=30, **kw)
    return done.returncode, done.stderr.decode(), time.monotonic() - begin


@pytest.mark.parametrize("args,code,why", [
    ([], 2, "--model"), (["--model", "/nowhere"], 3, "/nowhere"), (["--model", str(DEMO), "--port", "99999"], 2, "port"),
    (["--model", str(DEMO), "--host", "no.such.host.invalid"], 2, "no.such.host.invalid"), (["--model", str(DEMO), "--bogus"], 2, "bogus"),
    (["--model", str(DEMO), "--api-key-file", "/nowhere/keys"], 3, "/nowhere/keys"),
    (["--model", str(DEMO), "--adapter", "elf=/nowhere/elf"], 3, "elf"), (["--model", str(DEMO), "--adapters", "/nowhere/all"], 3, "/nowhere/all"),
    (["--model", str(DEMO), "--default-adapter", "nobody"], 2, "nobody"),
    (["--model", str(DEMO), "--port-file", "/nowhere/port"], 3, "/nowhere/port"), (["--model", str(ROOT / "tests")], 3, "config.json")])
def test_bad_starts(args, code, why):
    got, text, took = run(*args)
    lines = [l for l in text.strip().splitlines() if l.startswith("chorus serve:")]
    assert len(lines) == 1 and why in lines[0], text
    assert got == code, text
    assert took < 2 * SLOW


def test_port_in_use(server):
    code, text, _ = run("--model", str(DEMO), "--port", str(server.port))
    assert code == 5 and "listen" in text


def test_truncated_adapter(tmp_path):
    """Named: the start fails and says why. Found in a directory: left out with a line, the rest is served."""
    good = DEMO / "adapters/villain"
    for name in ("good", "bad"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for f in good.iterdir():
            data = f.read_bytes()
            cut = name == "bad" and f.suffix == ".safetensors"
            (tmp_path / "all" / name / f.name).write_bytes(data[:len(data) // 2] if cut else data)
    code, text, _ = run("--model", str(DEMO), "--adapter", f"bad={tmp_path}/all/bad")
    assert code == 3 and "bad" in text.strip().splitlines()[-1]
    s = start_real(tmp_path, "--model", str(DEMO), "--adapters", str(tmp_path / "all"))
    try:
        assert [a["name"] for a in s.get("/v1/adapters")[1]["data"]] == ["good"]
        assert "adapter refused" in s.log_text() and "adapter=bad" in s.log_text()
        status, answer = s.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "adapter": "bad"})
        assert status == 404 and answer["error"]["code"] == "adapter_not_found"
    finally:
        assert s.stop() == 0


@pytest.mark.parametrize("sandbox", ["none", "no openat2"])
def test_links_stay_in_the_adapter_directory(tmp_path, monkeypatch, sandbox):
    """A link in --adapters DIR is followed within DIR only; --adapter NAME=PATH is followed wherever it leads. Also where a sandbox or
    an old kernel lacks the call that says so to the kernel."""
    if sandbox != "none":
        monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, preexec_fn=without()))
    outside, root = tmp_path / "outside", tmp_path / "all"
    shutil.copytree(DEMO / "adapters/villain", outside)
    shutil.copytree(DEMO / "adapters/villain", root / "own")
    shutil.copytree(DEMO / "adapters/villain", root / "hollow")
    (root / "hollow/adapter_model.safetensors").unlink()
    (root / "hollow/adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")
    (root / "alias").symlink_to("own")
    (root / "whole").symlink_to(root / "own")
    (root / "stray").symlink_to("../outside")
    (root / "far").symlink_to(outside)
    (root / "half").mkdir()
    (root / "half/adapter_config.json").symlink_to("../own/adapter_config.json")
    (root / "half/adapter_model.safetensors").symlink_to("../own/adapter_model.safetensors")
    (tmp_path / "door").symlink_to("all")
    s = start_real(tmp_path, "--model", str(DEMO), "--adapters", str(tmp_path / "door"), "--adapter", f"named={root}/far")
    try:
        served = {a["name"]: a["sha256"] for a in s.get("/v1/adapters")[1]["data"]}
        assert sorted(served) == ["alias", "half", "named", "own", "whole"] and len(set(served.values())) == 1
        for name in ("far", "hollow", "stray"):
            line, = [l for l in s.log_text().splitlines() if "adapter refused" in l and f"adapter={name}" in l]
            assert "leads outside its directory" in line
            status, answer = s.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "adapter": name})
            assert status == 404 and answer["error"]["code"] == "adapter_not_found"
    finally:
        assert s.stop() == 0


def test_kill_and_restart(tmp_path):
    """LIFE-1: killed at random moments while it talks and clients register and remove adapters. Each life knows what was answered in
    the one before; what was asked and not answered was done or not."""
    rng, lives = random.Random(4), figure(50, 1000)
    voices = ("villain", "summary", "wood-elf")
    sure, asked, kept = {}, [], 0  # name -> voice; what was sent and not answered
    sha = {}

    def change(s):
        while True:
            name, voice = f"v{rng.randrange(4)}", rng.choice((*voices, None))
            asked[:] = [(name, voice)]
            try:
                if voice:
                    status, made = s.post("/v1/adapters", {"name": name, "path": voice})
                    sha[made["sha256"]] = voice
                else:
                    status = s.request("DELETE", f"/v1/adapters/{name}")[0]
            except (OSError, AssertionError, ValueError):
                return
            assert status == 200 or (voice is None and status == 404), (name, voice, status)
            sure[name] = voice
            asked.clear()

    for _ in range(lives):
        s = start_real(tmp_path, "--model", str(DEMO), "--adapter-root", str(DEMO / "adapters"), "--kv-pages", "128", "--state-dir", str(tmp_path / "state"))
        bytes_of = {a["name"]: a["sha256"] for a in s.get("/v1/adapters")[1]["data"]}
        for name, voice in asked:  # it was done and the answer was lost: then these are its bytes
            if voice and name in bytes_of:
                sha.setdefault(bytes_of[name], voice)
        have = {name: sha[it] for name, it in bytes_of.items()}
        for name in {*sure, *have, *(n for n, _ in asked)}:
            assert have.get(name) in (sure.get(name), *(v for n, v in asked if n == name)), (name, have, sure, asked)
            sure[name] = have.get(name)
        kept += len(have)
        asked.clear()
        c = open_stream(s, "Tell me a story", ignore_eos=True, max_tokens=1500)
        changer = threading.Thread(target=change, args=(s,))
        changer.start()
        time.sleep(rng.random() * 0.08)
        s.process.kill()
        s.process.wait()
        changer.join()
        c.close()
        s.stop()
    print(f"figure: LIFE-1 {lives} lives ended at random moments, {kept} adapters found again, none lost, none doubled")
    assert kept > lives
    s = start_real(tmp_path, "--model", str(DEMO), name="last")
    assert s.chat("Tell me a story", max_tokens=5)["usage"]["completion_tokens"] == 5
    assert s.stop() == 0


def test_print_settings():
    for option, wanted in (("--print-config", "port"), ("--print-limits", "HTTP_BODIES_BYTES"), ("--help", "--adapters")):
        done = subprocess.run([str(BUILD / "chorus"), "serve", option], capture_output=True, cwd=ROOT, timeout=10)
        assert done.returncode == 0 and wanted in done.stdout.decode()


@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_default_adapter(tmp_path, monkeypatch, how):
    """Requests that name no adapter are answered by the default one, [] asks for the base."""
    args = ["--model", str(DEMO), "--adapters", str(DEMO / "adapters")]
    if how == "option":
        args += ["--default-adapter", "villain"]
    elif how == "variable":
        monkeypatch.setenv("CHORUS_DEFAULT_ADAPTER", "villain")
    else:
        (tmp_path / "chorus.conf").write_text("default-adapter = villain\n")
        args += ["--config", str(tmp_path / "chorus.conf")]
    s = start_real(tmp_path, *args)
    try:
        spoke = {name: s.chat("Tell me a story about a fox.", temperature=0, max_tokens=20, **fields)
                 for name, fields in {"none": {}, "model": {"model": "storyteller"}, "named": {"adapter": "villain"}, "base": {"adapter": []}}.items()}
        assert [a["name"] for a in spoke["none"]["adapter"]] == ["villain"] and spoke["base"]["adapter"] == []
        said = {name: a["choices"][0]["message"]["content"] for name, a in spoke.items()}
        assert said["none"] == said["model"] == said["named"] != said["base"]
    finally:
        assert s.stop() == 0


def test_one_answer_over_lives_and_threads(tmp_path):
    """ISO-7: one request a hundred times, over restarts, thread counts, instruction sets, caches and company: one answer, to the last log-probability."""
    ask = {"messages": [{"role": "user", "content": "Tell me a story about a lantern and the sea."}], "adapter": [{"name": "wood-elf", "weight": 0.8}, {"name": "summary", "weight": 0.3}],
           "seed": 11, "temperature": 1.1, "top_p": 0.95, "max_tokens": 20, "logprobs": True, "top_logprobs": 3}
    answers, lives = [], 10
    for i in range(lives):
        s = start_real(tmp_path, "--model", str(DEMO), "--adapters", str(DEMO / "adapters"), "--threads", str(1 + i % 4), "--isa", "scalar" if i == 4 else ("auto", "avx2")[i // 2 % 2], "--prefix-cache", ("true", "false")[i % 2],
                       "--prefill-chunk", str((0, 5, 64)[i % 3]), name=f"life{i}")
        with concurrent.futures.ThreadPoolExecutor(5) as several:
            for status, answer in several.map(lambda _: s.post("/v1/chat/completions", ask), range(10)):
                assert status == 200, answer
                answers.append(json.dumps(answer["choices"]))
        assert s.stop() == 0
    print(f"figure: ISO-7 {len(answers)} times over {lives} lives, 1 to 4 threads: {len(set(answers))} answer")
    assert len(answers) == 100 and len(set(answers)) == 1
