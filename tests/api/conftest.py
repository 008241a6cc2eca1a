"""Servers for the API tests.

`server` is the real binary on the demo model, one for the whole run. `fake` starts tests/api/fake_server (the real server on an
engine that echoes, a token a step) with the settings a test asks for. CHORUS_BUILD picks another build, e.g. build/asan.
"""
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("CHORUS_BUILD", "build")
DEMO = ROOT / "models/storyteller"
os.environ["CHORUS_CONFIG"] = "none"  # what lies on this machine is no part of the tests
VOICES = ["image-prompt", "marketing", "summary", "villain", "wood-elf"]
SLOW = 5 if BUILD.name in ("asan", "tsan") else 1  # a sanitizer build gets more time


def figure(landing, release):
    """How much a test does: at every landing, or before a release (make release-test)."""
    return release if os.environ.get("CHORUS_RELEASE") == "1" else landing


class Server:
    def __init__(self, command, port_of, log_path):
        self.log_path = log_path
        self.log = open(log_path, "wb")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log)
        try:
            self.port = port_of(self)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self, timeout=10):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def raw(self, data, timeout=10):
        """Sends bytes, returns everything until the server closes (or the timeout)."""
        with self.connect(timeout) as s:
            s.sendall(data)
            return read_all(s)

    def request(self, method, path, body=None, headers=None, timeout=30):
        """One request on its own connection -> (status, headers, body bytes)."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if body is not None:
            head["Content-Type"] = "application/json"
            head["Content-Length"] = str(len(data))
        head.update(headers or {})
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head.items() if v is not None) + "\r\n"
        with self.connect(timeout) as s:
            s.sendall(text.encode("latin-1") + data)
            answers = parse_answers(read_all(s))
        assert len(answers) == 1, answers
        return answers[0]

    def post(self, path, body, **kw):
        status, _, text = self.request("POST", path, body, **kw)
        return status, json.loads(text)

    def get(self, path, **kw):
        status, _, text = self.request("GET", path, **kw)
        return status, json.loads(text)

    def chat(self, text, **fields):
        body = {"messages": [{"role": "user", "content": text}], **fields}
        status, answer = self.post("/v1/chat/completions", body)
        assert status == 200, answer
        return answer

    def stream(self, path, body, **kw):
        """-> (status, list of data payloads as text)"""
        status, _, text = self.request("POST", path, {**body, "stream": True}, **kw)
        return status, events(text)

    def metric(self, name):
        status, _, text = self.request("GET", "/metrics")
        if status != 200:
            return None  # too many connections at this moment
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text.decode(), re.M).group(1))

    def wait_metric(self, name, wanted, timeout=5):
        """Waits until a metric has a value; returns the seconds it took."""
        begin = time.monotonic()
        while True:
            value = self.metric(name)
            if value == wanted:
                return time.monotonic() - begin
            assert time.monotonic() - begin < timeout * SLOW, f"{name} is {value}, not {wanted}"
            time.sleep(0.005)

    def rss_anon(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def log_text(self):
        return Path(self.log_path).read_text(errors="replace")

    def stop(self):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self.process.stdout.close()
        self.log.close()
        return self.process.returncode


def read_all(s):
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except (ConnectionResetError, socket.timeout):
            return data
        if not piece:
            return data
        data += piece


def parse_answers(data):
    """All HTTP answers in a byte string -> [(status, {header: value}, body)]."""
    answers = []
    while data:
        head, sep, rest = data.partition(b"\r\n\r\n")
        assert sep, data[:200]
        lines = head.decode("latin-1").split("\r\n")
        status = int(re.match(r"HTTP/1\.[01] (\d{3}) ", lines[0]).group(1))
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if status == 100:
            data = rest
            continue
        if headers.get("transfer-encoding") == "chunked":
            body, data = dechunk(rest)
        else:
            n = int(headers.get("content-length", 0))
            body, data = rest[:n], rest[n:]
        answers.append((status, headers, body))
    return answers


def dechunk(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return body, data[2:]
        body += data[:n]
        data = data[n + 2:]
    return body, b""  # cut off


def events(text):
    """The data payloads of an event stream, after checking its form."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")  # every stream is valid UTF-8 as a whole
    payloads = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        assert block.startswith("data: ") and "\n" not in block, block
        payloads.append(block[len("data: "):])
    return payloads


def named_events(text):
    """The same of a stream whose events have names, which their `type` repeats: their objects. Comments are dropped."""
    objects = []
    for block in text.decode("utf-8").split("\n\n"):
        if not block or block.startswith(":"):
            continue
        name, data = block.split("\n")
        assert name.startswith("event: ") and data.startswith("data: "), block
        objects.append(json.loads(data[len("data: "):]))
        assert objects[-1]["type"] == name[len("event: "):], block
    return objects


def joined(payloads, index=0):
    """The text that the chunks of one choice make up."""
    text = ""
    for p in payloads:
        if p == "[DONE]":
            continue
        for c in json.loads(p).get("choices", []):
            if c["index"] == index:
                text += c["delta"].get("content", "") if "delta" in c else c["text"]
    return text


def start_real(tmp, *args, name="real"):
    port_file = tmp / f"{name}.port"
    port_file.unlink(missing_ok=True)

    def port_of(server):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if port_file.exists():
                return int(port_file.read_text())
            if server.process.poll() is not None:
                raise RuntimeError(server.log_text())
            time.sleep(0.01)
        raise RuntimeError("not ready: " + server.log_text())

    if "--state-dir" not in args:
        args += ("--state-dir", "none")
    command = [str(BUILD / "chorus"), "serve", "--port", "0", "--port-file", str(port_file), *args]
    return Server(command, port_of, tmp / f"{name}.log")


def start_fake(tmp, name="fake", wait_ready=True, **settings):
    def port_of(server):
        port = None
        for line in server.process.stdout:
            word, *rest = line.split()
            if word == b"listening":
                port = int(rest[0])
                if not wait_ready:
                    return port
            if word == b"ready":
                return port
        raise RuntimeError(server.log_text())

    args = []
    for k, v in settings.items():
        args += [f"{k}={x}" for x in v] if isinstance(v, list) else [f"{k}={v}"]
    return Server([str(BUILD / "tests/api/fake_server"), *args], port_of, tmp / f"{name}.log")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    s = start_real(tmp_path_factory.mktemp("server"), "--model", str(DEMO), "--adapters", str(DEMO / "adapters"),
                   "--prefill-chunk", "64")
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


@pytest.fixture
def fake(tmp_path):
    """A factory: fake(step_us=500, ...) starts a server; all are stopped at the end."""
    started = []

    def start(**settings):
        started.append(start_fake(tmp_path, name=f"fake{len(started)}", **settings))
        return started[-1]

    yield start
    for s in started:
        if s.process.poll() is None:
            assert s.stop() == 0
        assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text(), s.log_text()
        assert "internal check failed" not in s.log_text()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A fake server with default limits, one for each test file."""
    s = start_fake(tmp_path_factory.mktemp("plain"))
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text(), s.log_text()
