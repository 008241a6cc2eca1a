"""SIGHUP to the real server: what may change does, what may not says so, and what is wrong changes nothing."""
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import BUILD, DEMO, SLOW, start_real

CHAT = "/v1/chat/completions"


def poll(ask, what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not (said := ask()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)
    return said


def body(**more):
    return {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 4, "temperature": 0, **more}


class Reloadable:
    """A server with a settings file, and what its log says after each SIGHUP."""

    def __init__(self, tmp, text, *args):
        self.file = tmp / "chorus.conf"
        self.file.write_text(text)
        self.server = start_real(tmp, "--config", str(self.file), "--model", str(DEMO), "--adapters", str(DEMO / "adapters"),
                                 "--log-format", "json", *args)
        self.seen = 0

    def rows(self):
        return [json.loads(line) for line in self.server.log_text().splitlines()[self.seen:]]

    def hup(self, text=None):
        """The log's lines from the signal to the end of the reading."""
        self.seen = len(self.server.log_text().splitlines())
        if text is not None:
            self.file.write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        done = lambda: any(r["msg"].startswith("settings were") for r in self.rows())
        poll(done, self.server.log_text)
        return self.rows()

    def changes(self, text):
        rows = self.hup(text)
        return {r["name"]: (r["was"], r["is"], r["msg"] == "setting applied") for r in rows if r["msg"].startswith("setting ")}


@pytest.fixture()
def reloadable(tmp_path):
    made = []

    def make(text, *args):
        made.append(Reloadable(tmp_path, text, *args))
        return made[-1]
    yield make
    for r in made:
        assert r.server.stop() == 0
        assert "AddressSanitizer" not in r.server.log_text() and "runtime error" not in r.server.log_text()


def test_applied_and_not(reloadable, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    r = reloadable("max-body = 100000\nthreads = 1\n")
    s = r.server
    origin = {"Origin": "http://app.example"}
    assert s.request("GET", "/v1/models", None, origin)[0] == 403
    assert s.request("POST", CHAT, body(pad="x" * 4000))[0] == 200
    told = r.changes(f"max-body = 2000\nthreads = 2\nallow-origin = http://app.example\nallow-host = box.lan\napi-key-file = {keys}\n"
                     "default-adapter = villain\nlog-slow-ms = 1\nqueue = 3\n")
    assert told == {"max-body": ("100000", "2000", True), "threads": ("1", "2", False), "allow-origin": ("", "http://app.example", True),
                    "allow-host": ("", "box.lan", True), "api-key-file": ("", str(keys), True), "default-adapter": ("", "villain", True),
                    "log-slow-ms": ("0", "1", True), "queue": ("256", "3", True)}
    last = r.rows()
    assert [x for x in last if x["msg"] == "settings were read again"][0] | {"applied": 7, "need_restart": 1} == \
        [x for x in last if x["msg"] == "settings were read again"][0]
    assert s.request("GET", "/v1/models")[0] == 401
    key = {"Authorization": "Bearer first"}
    status, headers, _ = s.request("GET", "/v1/models", None, {**origin, **key})
    assert status == 200 and headers["access-control-allow-origin"] == "http://app.example"
    assert s.request("GET", "/v1/models", None, {**key, "Host": "box.lan"})[0] == 200
    assert s.request("POST", CHAT, body(pad="x" * 4000), key)[0] == 413
    answer = json.loads(s.request("POST", CHAT, body(), key)[2])
    assert [a["name"] for a in answer["adapter"]] == ["villain"]
    poll(lambda: any(x["msg"] == "slow request" for x in r.rows()), s.log_text)
    # The same path, another key: what the file holds counts.
    keys.write_text("second\n")
    assert any(x["msg"] == "API keys are others now" for x in r.hup())
    assert s.request("GET", "/v1/models", None, key)[0] == 401
    assert s.request("GET", "/v1/models", None, {"Authorization": "Bearer second"})[0] == 200
    # What is taken away is gone, and what still needs a restart is told again.
    told = r.changes("threads = 2\n")
    assert told["threads"] == ("1", "2", False) and told["api-key-file"] == (str(keys), "", True)
    assert s.request("GET", "/v1/models")[0] == 200 and s.request("GET", "/v1/models", None, origin)[0] == 403
    answer = json.loads(s.request("POST", CHAT, body(pad="x" * 4000))[2])
    assert not answer.get("adapter")


def test_memory_of_adapters(reloadable):
    """Less memory for adapters: what nobody asks for goes back to the disk, and comes when it is asked for."""
    r = reloadable("")
    tiers = lambda: [a["tier"] for a in json.loads(r.server.request("GET", "/v1/adapters")[2])["data"]]
    assert "disk" not in tiers()
    assert r.changes("adapter-memory = 1KiB\n") == {"adapter-memory": ("auto", "1KiB", True)}
    assert r.server.request("POST", CHAT, body(adapter="villain"))[0] == 200
    poll(lambda: tiers().count("disk") >= 3, tiers)
    assert r.server.request("POST", CHAT, body(adapter="summary"))[0] == 200


BAD = [
    ("port = 99999\nmax-body = 5000\n", r"port: \"99999\" is out of range: 0 to 65535 \(.*chorus.conf:1\)"),
    ("max-body = 5000\nnonsense\n", "chorus.conf:2: expected name = value"),
    ("max-body = 5000\nmax-bdy = 1\n", "unknown setting max-bdy; is max-body meant"),
    ("max-body = 5000\napi-key-file = /nonexistent/keys\n", "cannot read /nonexistent/keys"),
    ("max-body = 5000\ndefault-adapter = nobody\n", "'nobody' does not exist"),
]


def test_a_bad_file_changes_nothing(reloadable):
    r = reloadable("max-body = 100000\n")
    for text, why in BAD:
        rows = r.hup(text)
        said = [x for x in rows if x["msg"] == "settings were not read again, everything stays as it was"]
        assert len(said) == 1 and said[0]["level"] == "error" and re.search(why, said[0]["why"]), rows
        assert not any(x["msg"].startswith("setting ") for x in rows)
        assert r.server.request("POST", CHAT, body(pad="x" * 9000))[0] == 200
    r.file.unlink()
    assert "does not exist" in str(r.hup()) or "cannot read" in str(r.rows())
    assert r.changes("max-body = 5000\n") == {"max-body": ("100000", "5000", True)}


def test_later_places_keep_winning(reloadable, monkeypatch):
    monkeypatch.setenv("CHORUS_QUEUE", "11")
    r = reloadable("queue = 5\nmax-body = 5000\n", "--max-body", "70000")
    assert r.changes("queue = 6\nmax-body = 6000\nlog-slow-ms = 3\n") == {"log-slow-ms": ("0", "3", True)}
    assert r.server.request("POST", CHAT, body(pad="x" * 9000))[0] == 200


def test_log_level_and_form(tmp_path):
    conf = tmp_path / "c.conf"
    conf.write_text("log-level = warn\nlog-format = json\n")
    s = start_real(tmp_path, "--config", str(conf), "--model", str(DEMO))
    try:
        s.request("POST", CHAT, body(), {"x-request-id": "one"})
        conf.write_text("log-level = debug\nlog-format = text\n")
        s.process.send_signal(signal.SIGHUP)
        poll(lambda: s.request("GET", "/health", None, {"x-request-id": "two"}) and "request_id=two" in s.log_text(), s.log_text)
        assert "one" not in s.log_text()
    finally:
        assert s.stop() == 0


def test_under_load(reloadable, tmp_path):
    """Signals in quick succession, each with another file, while streams run and requests come: nobody notices."""
    r = reloadable("")
    failures, texts, done = [], set(), threading.Event()

    def ask(i):
        while not done.is_set():
            status, _, data = r.server.request("POST", CHAT, body(max_tokens=24, stream=i % 2 == 0, seed=1, adapter="wood-elf"), timeout=60 * SLOW)
            if status != 200 or b"error" in data:
                failures.append((status, data[-200:]))
            elif i % 2:
                texts.add(json.loads(data)["choices"][0]["message"]["content"])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    try:
        for i in range(40):
            text = f"max-body = {100000 + i}\nidle-timeout = {5000 + i}\ndefault-adapter = {['villain', 'summary'][i % 2]}\nallow-host = h{i}\n"
            if i % 5 == 4:
                assert any(x["msg"].startswith("settings were not") for x in r.hup("broken"))
            else:
                assert r.changes(text)["max-body"][1:] == (str(100000 + i), True)
        r.server.process.send_signal(signal.SIGHUP)
        for _ in range(200):  # faster than they can be read: none is lost, and the last holds
            r.server.process.send_signal(signal.SIGHUP)
        r.file.write_text("max-body = 77777\n")
        r.server.process.send_signal(signal.SIGHUP)
        poll(lambda: any(x.get("is") == "77777" for x in r.rows()), r.server.log_text)
    finally:
        done.set()
        for t in threads:
            t.join()
    assert not failures, failures[:3]
    assert len(texts) == 1


def test_while_loading(tmp_path):
    """Not read before the model is there, but not forgotten."""
    conf = tmp_path / "c.conf"
    conf.write_text("log-format = json\n")
    log = open(tmp_path / "log", "wb")
    p = subprocess.Popen([BUILD / "chorus", "serve", "--config", conf, "--port", "0", "--model", DEMO, "--state-dir", "none"], stderr=log, stdout=subprocess.DEVNULL)
    text = lambda: (tmp_path / "log").read_text()
    poll(lambda: "listening" in text(), text)
    conf.write_text("log-format = json\nqueue = 9\n")
    p.send_signal(signal.SIGHUP)
    poll(lambda: "settings were read again" in text(), text)
    assert text().index('"ready"') < text().index("setting applied")
    p.terminate()
    assert p.wait(20 * SLOW) == 0


def test_a_closed_terminal_ends_it(tmp_path):
    """The same signal, of a terminal that goes away: the server does too, as if stopped."""
    log = tmp_path / "log"
    port = tmp_path / "port"
    pid, terminal = pty.fork()
    if pid == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execv(BUILD / "chorus", ["chorus", "serve", "--config", "none", "--port", "0", "--port-file", str(port), "--model", str(DEMO), "--state-dir", "none"])
    poll(port.exists, "no port file", 60)
    os.kill(pid, signal.SIGHUP)  # an operator's: the terminal is there
    poll(lambda: "settings were read again" in log.read_text(), log.read_text)
    os.close(terminal)
    end = time.monotonic() + 20 * SLOW
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(ended[1]) == 0 and "the terminal was closed" in log.read_text()


def test_the_service_manager_hears(tmp_path, monkeypatch):
    """RELOADING=1 with a time, then READY=1: systemctl reload waits for both."""
    at = tmp_path / "notify"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(at))
    manager.settimeout(30 * SLOW)
    monkeypatch.setenv("NOTIFY_SOCKET", str(at))
    s = start_real(tmp_path, "--model", str(DEMO))
    try:
        while b"READY=1" not in manager.recv(4096):
            pass
        s.process.send_signal(signal.SIGHUP)
        while not (told := manager.recv(4096)).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            assert b"READY=1" not in told
        while b"READY=1" not in manager.recv(4096):
            pass
    finally:
        assert s.stop() == 0
