"""The log of the real server: one line a request, slow requests, prompts only when asked for, and nobody writes lines into it."""
import json
import os
import re
import subprocess
import time

import pytest

from conftest import BUILD, DEMO, SLOW, start_real

CHAT = "/v1/chat/completions"
SECRET = "xylophone-9137"


def body(**more):
    return {"messages": [{"role": "user", "content": f"Tell me of {SECRET}."}], "max_tokens": 6, "temperature": 0, **more}


def poll(ask, seconds=20):
    """What `ask` says once it says something."""
    end = time.monotonic() + seconds * SLOW
    while not (said := ask()):
        assert time.monotonic() < end, ask
        time.sleep(0.01)
    return said


def start(tmp, *args):
    return start_real(tmp, "--model", str(DEMO), "--adapters", str(DEMO / "adapters"), *args, name="log")


def lines(server, what):
    """The parsed lines of one kind, once there is one."""
    found = [v for v in map(json.loads, server.log_text().splitlines()) if v["msg"] == what]
    return found


def wait_for(server, what, count=1):
    return poll(lambda: lines(server, what) if len(lines(server, what)) >= count else None)


def line_of(server, what, request_id):
    return poll(lambda: next((l for l in lines(server, what) if l["request_id"] == request_id), None))


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    s = start(tmp_path_factory.mktemp("log"), "--log-format", "json", "--log-slow-ms", "1", "--default-adapter", "villain")
    yield s
    s.stop()


def test_request_line(slow):
    status, _, answer = slow.request("POST", CHAT, body(adapter="wood-elf"), {"x-request-id": "line-1"})
    assert status == 200
    usage = json.loads(answer)["usage"]
    line = line_of(slow, "request", "line-1")
    assert (line["method"], line["path"], line["status"], line["adapter"]) == ("POST", CHAT, 200, "wood-elf")
    assert (line["tokens_in"], line["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert 0 < line["first_ms"] <= line["ms"] and 0 <= line["queue_ms"] < line["ms"] and line["tok_s"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert [l["request_id"] for l in lines(slow, "request")].count("line-1") == 1


def test_slow_line_says_where_the_time_went(slow):
    slow.request("POST", CHAT, body(max_tokens=20, ignore_eos=True), {"x-request-id": "slow-1"})
    line = line_of(slow, "slow request", "slow-1")
    parts = [line[k] for k in ("prepare_ms", "queue_ms", "adapter_ms", "prefill_ms", "decode_ms", "other_ms")]
    assert line["level"] == "warn" and line["adapter"] == "villain" and line["tokens_out"] == 20
    assert all(p >= 0 for p in parts) and sum(parts) == pytest.approx(line["ms"], rel=1e-4, abs=0.01)
    assert line["prefill_ms"] > 0 and line["decode_ms"] > 0


def test_errors_are_named(slow):
    slow.request("POST", CHAT, body(adapter="nobody"), {"x-request-id": "err-1"})
    slow.request("POST", CHAT, b"{", {"x-request-id": "err-2"})
    found = {name: line_of(slow, "request", name) for name in ("err-1", "err-2")}
    assert found["err-1"]["status"] == 404 and found["err-1"]["error"] == "adapter_not_found"
    assert found["err-2"]["status"] == 400 and found["err-2"]["error"]


def test_client_that_leaves_is_counted(slow):
    data = json.dumps(body(max_tokens=2000, ignore_eos=True, stream=True)).encode()
    with slow.connect() as s:
        s.sendall(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nx-request-id: gone-1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % (CHAT.encode(), len(data)) + data)
        heard = b""
        while heard.count(b"data: ") < 5:
            heard += s.recv(65536)
    line = line_of(slow, "request", "gone-1")
    assert line["status"] == 499 and line["tokens_in"] > 0 and 3 <= line["tokens_out"] < 2000


HOSTILE = ['a","level":"error","x":"', "a\\", "{}", "a=b c", "é\x80"]


def test_nobody_writes_into_the_log(slow):
    """Hostile ids, names and paths: every line is still one JSON object with the members that we gave it."""
    before = len(slow.log_text().splitlines())
    for i, text in enumerate(HOSTILE):
        raw = text.encode("latin-1")
        slow.raw(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nx-request-id: " + raw + b"\r\n\r\n")
        slow.raw(b"GET /" + raw.replace(b" ", b"%20") + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        for name in (text, f"x\n10:00:00.000 info  forged{i}", "\x1b[2J", "\u202e", "x" * 300):
            slow.request("POST", CHAT, body(adapter=name, model=name))
    slow.request("GET", "/after", None, {"x-request-id": "after-hostile"})
    poll(lambda: any(l.get("request_id") == "after-hostile" for l in map(json.loads, slow.log_text().splitlines())))
    rows = slow.log_text().splitlines()[before:]
    assert len(rows) > 4 * len(HOSTILE)
    known = {"time", "level", "msg", "request_id", "peer", "method", "path", "status", "error", "adapter", "tokens_in", "tokens_cached", "tokens_out",
             "queue_ms", "first_ms", "ms", "tok_s", "prepare_ms", "adapter_ms", "prefill_ms", "decode_ms", "other_ms", "waiting_ms"}
    for row in rows:
        value = json.loads(row)
        assert set(value) <= known and value["level"] in ("info", "warn") and "forged" not in value["msg"], row
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", row), row


def test_prompts_only_when_asked(slow, tmp_path):
    slow.request("POST", CHAT, body(), {"x-request-id": "quiet"})
    line_of(slow, "request", "quiet")
    assert SECRET not in slow.log_text()
    s = start(tmp_path, "--log-format", "json", "--log-prompts", "--log-level", "info")
    try:
        assert s.request("POST", CHAT, body(adapter="villain"), {"x-request-id": "loud"})[0] == 200
        s.request("POST", "/v1/completions", {"prompt": f"{SECRET}\n\x1b[2J " + "long " * 3000, "max_tokens": 1})
        s.request("POST", "/v1/completions", {"prompt": f"{SECRET}\n\x1b[2J " + "long " * 300, "max_tokens": 1})
        found = wait_for(s, "prompt", 2)
        assert found[0]["request_id"] == "loud" and found[0]["adapter"] == "villain" and SECRET in found[0]["text"] and found[0]["tokens"] > 5
        assert found[1]["text"].endswith("...") and len(json.dumps(found[1]["text"])) < 1100
    finally:
        s.stop()


def test_text_form(tmp_path):
    s = start(tmp_path, "--log-format", "text")
    try:
        s.request("POST", CHAT, body(adapter="wood-elf"), {"x-request-id": "t-1"})
        pattern = (r"^\d\d:\d\d:\d\d\.\d{3} info  request request_id=t-1 peer=127\.0\.0\.1 method=POST path=/v1/chat/completions status=200 adapter=wood-elf "
                   r"tokens_in=\d+ tokens_cached=\d+ tokens_out=6 queue_ms=[\d.]+ first_ms=[\d.]+ ms=[\d.]+ tok_s=[\d.]+$")
        assert poll(lambda: re.search(pattern, s.log_text(), re.M)), s.log_text()
    finally:
        s.stop()


def test_journal_priorities(tmp_path):
    """stderr is the stream that JOURNAL_STREAM names, but no journal listens: lines carry their priority."""
    log = tmp_path / "err"
    with open(log, "wb") as err:
        info = os.fstat(err.fileno())
        env = {**os.environ, "JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}
        for form in ("auto", "text", "json"):
            done = subprocess.run([BUILD / "chorus", "serve", "--model", DEMO, "--port", "0", "--default-adapter", "nobody", "--log-format", form,
                                   "--state-dir", "none"], stderr=err, stdout=subprocess.DEVNULL, env=env, timeout=120)
            assert done.returncode == 2
    if os.path.exists("/run/systemd/journal/socket"):
        pytest.skip("this machine has a journal")
    listening = [l for l in log.read_text().splitlines() if "listening" in l]
    assert len(listening) == 3 and all(l.startswith("<6>") for l in listening), listening
    assert json.loads(listening[2][3:])["msg"] == "listening"
