"""What a server shows of itself at work: GET /v1/status and the steps of GET /v1/steps."""
import json
import socket
import threading
import time

import pytest

from conftest import SLOW, VOICES, events
from strict import answer_validator, description, event_validator, problem

STATUS = answer_validator(description(), "/v1/status", "get")
STEPS = event_validator(description(), "/v1/steps", "get")
SECRET = "zebra-lighthouse"  # "@long": the fake engine goes on until max_tokens


class Watch:
    """A reader of /v1/steps: its events so far."""

    def __init__(self, server, headers=""):
        self.s = server.connect()
        self.s.sendall(f"GET /v1/steps HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{headers}\r\n".encode())
        self.data = b""
        self.open = True

    def read(self):
        """Takes what comes next; false at the end."""
        try:
            piece = self.s.recv(65536)
        except ConnectionResetError:
            piece = b""
        self.data += piece
        self.open = self.open and piece != b""
        return self.open

    def frames(self):
        head, _, rest = self.data.partition(b"\r\n\r\n")
        text = b""
        while b"\r\n" in rest:  # whole chunks only
            size, _, more = rest.partition(b"\r\n")
            n = int(size, 16)
            if n == 0 or len(more) < n + 2:
                break
            text, rest = text + more[:n], more[n + 2:]
        return [json.loads(p) for p in events(text.decode().rpartition("\n\n")[0])]

    def until(self, done, timeout=10):
        end = time.monotonic() + timeout * SLOW
        while not done(self.frames()):
            assert time.monotonic() < end and self.read(), self.data[-2000:]
        return self.frames()

    def close(self):
        self.s.close()


@pytest.fixture
def watch():
    opened = []

    def make(server, headers=""):
        opened.append(Watch(server, headers))
        return opened[-1]

    yield make
    for w in opened:
        w.close()


def steps_of(frames):
    return [step for f in frames for step in f["steps"]]


def ask(server, **fields):
    """A chat in the background; joins and returns its answer when called."""
    box = []
    t = threading.Thread(target=lambda: box.append(server.chat("@long " + SECRET, **fields)))
    t.start()

    def wait():
        t.join(60 * SLOW)
        return box[0]
    return wait


# ---- status ----

def test_status_is_as_described(server):
    server.chat("hello", adapter="villain", max_tokens=4)
    status, answer = server.get("/v1/status")
    assert status == 200 and problem(STATUS, answer) is None, problem(STATUS, answer)
    assert answer["status"] == "ok" and answer["model"]["name"] == "storyteller" and answer["device"]["backend"] == "cpu"
    assert answer["model"]["weights"] == "bf16" and "CPU" in answer["device"]["name"]
    parts = {p["name"]: p for p in answer["memory"]["parts"]}
    assert {"weights", "kv", "workspace", "adapters", "adapters_on_host"} <= set(parts)
    assert all(p["used"] <= p["bytes"] for p in parts.values()) and parts["weights"]["bytes"] > 1e6 and parts["adapters"]["used"] > 0
    assert answer["memory"]["device_bytes"] == sum(p["bytes"] for p in parts.values() if p["name"] in ("weights", "kv", "workspace"))
    kv = answer["kv"]
    assert kv["used"] + kv["cached"] + kv["free"] == kv["pages"] and parts["kv"]["used"] == parts["kv"]["bytes"] // kv["pages"] * (kv["used"] + kv["cached"])
    adapters = {a["name"]: a for a in answer["adapters"]["list"]}
    assert set(VOICES) <= set(adapters) and adapters["villain"]["tier"] == "device" and adapters["villain"]["requests"] >= 1
    counters = answer["counters"]
    assert counters["tokens_out"] >= 4 and counters["steps"] >= 4 and counters["requests_accepted"] >= counters["requests_done"] >= 1


def test_sequences_are_told_and_their_text_is_not(fake):
    s = fake(step_us=2000, seqs=2, seats=2, line=8)
    waits = [ask(s, adapter=a, max_tokens=300, ignore_eos=True) for a in ("wood-elf", ["villain", "summary"], None)]
    end = time.monotonic() + 10 * SLOW
    while True:
        _, _, text = s.request("GET", "/v1/status")
        answer = json.loads(text)
        assert SECRET not in text.decode() and problem(STATUS, answer) is None, problem(STATUS, answer)
        states = sorted(q["state"] for q in answer["sequences"])
        # one that is still being read waits too, though not for the engine yet
        if states == ["decode", "decode", "waiting"] and (answer["running"], answer["waiting"]) == (2, 1):
            break
        assert time.monotonic() < end, answer["sequences"]
    names = sorted([a["name"] for a in q["adapters"]] for q in answer["sequences"])
    assert names == sorted([["wood-elf"], ["villain", "summary"], []])
    for q in answer["sequences"]:
        assert q["tokens_in"] > 0 and q["max_tokens"] == 300 and 0 <= q["age_s"] < 60 and (q["tokens_out"] > 0) == (q["state"] == "decode")
    for w in waits:
        assert w()["usage"]["completion_tokens"] > 0
    assert s.get("/v1/status")[1]["sequences"] == []


def test_rates_are_of_the_last_second(fake):
    s = fake(step_us=5000)
    wait = ask(s, max_tokens=400, ignore_eos=True)
    seen = []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        seen.append(s.get("/v1/status")[1]["rates"])
        time.sleep(0.05)
    wait()
    most = max(r["tokens_out"] for r in seen)
    assert 20 < most < 260 and abs(max(r["steps"] for r in seen) - most) < most, seen
    end = time.monotonic() + 5 * SLOW
    while s.get("/v1/status")[1]["rates"]["tokens_out"] > 0:
        assert time.monotonic() < end, "an idle server still has a rate"
        time.sleep(0.05)


def test_status_while_the_model_loads(fake):
    s = fake(load_ms=1500 * SLOW, wait_ready=False)
    status, answer = s.get("/v1/status")
    assert status == 200 and answer["status"] == "loading" and "model" not in answer and problem(STATUS, answer) is None
    assert s.request("GET", "/v1/steps")[0] == 503


# ---- steps ----

def test_steps_show_who_shares_them(server, watch):
    w = watch(server)
    w.until(lambda f: len(f) > 0)  # the first one comes at once
    waits = [ask(server, adapter=a, max_tokens=60, ignore_eos=True, temperature=0) for a in ("wood-elf", "villain", None)]
    for wait in waits:
        wait()
    total = server.get("/v1/status")[1]["counters"]["steps"]
    frames = w.until(lambda f: steps_of(f) and steps_of(f)[-1]["step"] == total)
    for f in frames:
        assert problem(STEPS, f) is None, problem(STEPS, f)
    steps = steps_of(frames)
    numbers = [s["step"] for s in steps]
    assert numbers == sorted(set(numbers)) and all(len(f["steps"]) <= 32 for f in frames)
    for s in steps:
        assert s["rows"] == s["prefill_rows"] + s["decode_rows"] and s["base_rows"] + sum(a["rows"] for a in s["adapters"]) == s["rows"]
        assert s["tokens_out"] <= s["sequences"] <= s["rows"] and s["ms"] >= 0 and s["more_adapters"] == 0
        assert s["tokens_out"] == 0 or s["kv_used"] > 0
    at = [s["at"] for s in steps]
    assert at == sorted(at) and SECRET not in w.data.decode()
    together = [s for s in steps if s["base_rows"] == 1 and {a["name"] for a in s["adapters"]} == {"wood-elf", "villain"} and s["decode_rows"] == 3]
    assert together, "base and two voices never shared a step"


def test_a_blend_counts_for_each_part(server, watch):
    w = watch(server)
    w.until(lambda f: len(f) > 0)
    server.chat("hello", adapter=[{"name": "wood-elf", "weight": 0.5}, {"name": "summary", "weight": 0.5}], max_tokens=20, ignore_eos=True)
    total = server.get("/v1/status")[1]["counters"]["steps"]
    steps = steps_of(w.until(lambda f: steps_of(f) and steps_of(f)[-1]["step"] == total))
    blend = [s for s in steps if {a["name"] for a in s["adapters"]} == {"wood-elf", "summary"}]
    assert blend and all(a["rows"] == s["rows"] for s in blend for a in s["adapters"]) and all(s["base_rows"] == 0 for s in blend)


def test_at_most_ten_events_a_second(fake, watch):
    s = fake(step_us=200)
    w = watch(s)
    w.until(lambda f: len(f) > 0)
    begin = time.monotonic()
    wait = ask(s, max_tokens=3000, ignore_eos=True)
    while time.monotonic() - begin < 1.5:
        w.read()
    seconds = time.monotonic() - begin
    wait()
    frames = w.frames()
    assert len(frames) <= 2 + seconds * 10.5, (len(frames), seconds)
    numbers = [x["step"] for x in steps_of(frames)]
    assert numbers == sorted(set(numbers)) and numbers[-1] > len(numbers), "nothing was left out of more steps than fit"


def test_an_idle_server_sends_one_a_second(fake, watch):
    w = watch(fake())
    begin = time.monotonic()
    frames = w.until(lambda f: len(f) >= 3)
    assert 1.5 < time.monotonic() - begin < 6 * SLOW and steps_of(frames) == []


def test_two_watchers_and_a_late_one(fake, watch):
    s = fake(step_us=1000)
    first = watch(s)
    first.until(lambda f: len(f) > 0)
    s.chat("hello", max_tokens=50)
    total = s.get("/v1/status")[1]["counters"]["steps"]
    first.until(lambda f: steps_of(f) and steps_of(f)[-1]["step"] == total)
    late = watch(s)
    recent = late.until(lambda f: len(f) > 0)[0]["steps"]
    assert [x["step"] for x in recent] == list(range(max(1, total - 31), total + 1)), "a late watcher sees the latest steps"
    s.chat("hello", max_tokens=50)
    total = s.get("/v1/status")[1]["counters"]["steps"]
    for w in (first, late):
        numbers = [x["step"] for x in steps_of(w.until(lambda f: steps_of(f)[-1]["step"] == total))]
        assert numbers == sorted(set(numbers))
    assert s.get("/v1/status")[1]["watchers"] == 2


def test_watchers_are_bounded(fake, watch):
    s = fake()
    watchers = [watch(s) for _ in range(16)]
    for w in watchers:
        w.until(lambda f: len(f) > 0)
    with s.connect() as one_more:
        one_more.sendall(f"GET /v1/steps HTTP/1.1\r\nHost: 127.0.0.1:{s.port}\r\n\r\n".encode())
        assert b" 429 " in one_more.recv(64)  # a stream that is let in never ends
    status, headers, body = s.request("GET", "/v1/steps")
    assert status == 429 and "retry-after" in headers and json.loads(body)["error"]["message"]
    watchers[0].close()
    end = time.monotonic() + 5 * SLOW
    while s.get("/v1/status")[1]["watchers"] > 15:
        assert time.monotonic() < end
        time.sleep(0.01)
    watch(s).until(lambda f: len(f) > 0)


def test_a_slow_reader_is_cut_and_nobody_waits(fake, watch):
    s = fake(step_us=200, send_ms=600 * SLOW)
    slow = s.connect()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    slow.sendall(f"GET /v1/steps HTTP/1.1\r\nHost: 127.0.0.1:{s.port}\r\n\r\n".encode())
    other = watch(s)
    waits = [ask(s, adapter=a, max_tokens=3900, ignore_eos=True) for a in VOICES]
    end = time.monotonic() + 30 * SLOW
    while s.get("/v1/status")[1]["watchers"] != 1:
        assert time.monotonic() < end, "a reader that takes nothing was not cut"
        other.read()
    other.until(lambda f: len(f) > 3)
    slow.close()
    for w in waits:
        w()


def test_the_stream_ends_with_the_server(fake, watch):
    s = fake()
    w = watch(s)
    w.until(lambda f: len(f) > 0)
    begin = time.monotonic()
    assert s.stop() == 0
    assert time.monotonic() - begin < 3 * SLOW, "a watcher held the server's end"
    while w.read():
        pass
    assert w.data.endswith(b"0\r\n\r\n")


def test_head_and_other_methods(fake):
    s = fake()
    status, headers, body = s.request("HEAD", "/v1/steps")
    assert status == 200 and headers["content-type"].startswith("text/event-stream") and body == b""
    for path in ("/v1/status", "/v1/steps"):
        assert s.request("POST", path, {})[0] == 405 and s.request("DELETE", path)[0] == 405
        assert s.request("GET", path, headers={"Origin": "http://evil.example"})[0] == 403
        assert s.request("GET", path, headers={"Host": "evil.example"})[0] == 403
    end = time.monotonic() + 5 * SLOW
    while s.get("/v1/status")[1]["watchers"] > 0:
        assert time.monotonic() < end
