"""What a service manager hears (sd_notify), the sockets it hands over, and when it would restart: against a fake manager."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import BUILD, DEMO, ROOT, SLOW, events, joined, parse_answers, read_all, start_fake, start_real

CHAT = "/v1/chat/completions"


class Manager:
    """The other end of $NOTIFY_SOCKET: each datagram is a dict of its assignments, with the moment it came."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.heard = []
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while True:
            data = self.socket.recv(65536)
            if data == b"end":
                return
            self.heard.append((time.monotonic(), dict(l.split("=", 1) for l in data.decode().split("\n") if l)))

    def end(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def wait(self, wanted, timeout=10):
        """The first message that `wanted` takes: (index, message)."""
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            for i, (_, message) in enumerate(list(self.heard)):
                if wanted(message):
                    return i, message
            time.sleep(0.005)
        raise AssertionError(f"not heard in {timeout} s: {self.heard}")

    def times(self, key):
        return [at for at, message in list(self.heard) if key in message]


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    address = str(tmp_path / "notify") if request.param == "path" else f"@chorus-test-{os.getpid()}-{tmp_path.name}"
    m = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield m
    m.end()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A manager with a watchdog of 400 ms."""
    m = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    yield m
    m.end()


def test_a_life_as_the_manager_hears_it(manager, tmp_path):
    s = start_real(tmp_path, "--model", str(DEMO), "--adapters", str(DEMO / "adapters"))
    ready, _ = manager.wait(lambda m: m.get("READY") == "1")
    before = [m for _, m in manager.heard[:ready]]
    assert before[0]["STATUS"] == "loading" and all(m["STATUS"].startswith("loading") for m in before)
    assert all(int(m["EXTEND_TIMEOUT_USEC"]) >= 10_000_000 for m in before)
    _, told = manager.wait(lambda m: m.get("STATUS", "").startswith("serving"))
    assert told["STATUS"] == f"serving storyteller on 127.0.0.1:{s.port}, 5 adapters, 0 running"
    assert not manager.times("WATCHDOG")  # none was asked for
    assert s.stop() == 0
    _, last = manager.wait(lambda m: "STOPPING" in m)
    assert last["STOPPING"] == "1" and last["STATUS"].startswith("stopping") and int(last["EXTEND_TIMEOUT_USEC"]) > 30_000_000
    assert len(manager.times("READY")) == 1


def test_running_requests_are_in_the_status(manager, fake):
    s = fake(step_us=5000)
    manager.wait(lambda m: m.get("STATUS", "").endswith("5 adapters, 0 running"))
    c = open_stream(s, "@long")
    manager.wait(lambda m: m.get("STATUS", "").endswith("5 adapters, 1 running"))
    c.close()
    _, end = len(manager.heard), time.monotonic() + 5 * SLOW
    while not manager.heard[-1][1].get("STATUS", "").endswith("0 running"):
        assert time.monotonic() < end, manager.heard
        time.sleep(0.01)


def open_stream(s, text, **fields):
    body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": True, **fields}).encode()
    c = s.connect()
    c.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
              % (CHAT.encode(), len(body)) + body)
    return c


def test_patience_is_asked_for_only_with_news(manager, fake):
    """A load that says nothing for long is not extended: one message, then silence until READY."""
    s = fake(load_ms=2500, wait_ready=False)
    manager.wait(lambda m: m.get("READY") == "1")
    assert len(manager.times("EXTEND_TIMEOUT_USEC")) == 1
    assert s.stop() == 0


def test_loading_is_told(watched, fake):
    """A watchdog of 400 ms makes the server look every 100 ms: most of the parts are seen, each asks for patience."""
    fake(load_ms=1500, load_parts=5, wait_ready=False)
    ready, _ = watched.wait(lambda m: "READY" in m)
    told = [m for _, m in watched.heard[:ready] if "%" in m.get("STATUS", "")]
    assert len(told) >= 3 and all("EXTEND_TIMEOUT_USEC" in m for m in told), told
    percents = [int(m["STATUS"].removeprefix("loading: weights ").removesuffix(" %")) for m in told]
    assert percents == sorted(set(percents)) and set(percents) <= {20, 40, 60, 80, 100}


def test_watchdog_while_serving(watched, fake):
    s = fake(load_ms=600, wait_ready=False)
    ready, _ = watched.wait(lambda m: "READY" in m)
    assert not any("WATCHDOG" in m for _, m in watched.heard[:ready])
    while len(watched.times("WATCHDOG")) < 8:
        assert s.process.poll() is None
        time.sleep(0.02)
    pings = watched.times("WATCHDOG")
    assert max(b - a for a, b in zip(pings, pings[1:])) < 0.35 * SLOW


@pytest.mark.parametrize("pid,pings", [("mine", True), ("other", False)])
def test_watchdog_of_another_process_is_left_alone(watched, monkeypatch, tmp_path, pid, pings):
    # The shell sets its own id and becomes the server.
    value = "$$" if pid == "mine" else "1"
    port_file = tmp_path / "port"
    p = subprocess.Popen(["sh", "-c", f'WATCHDOG_PID={value} exec "$@"', "sh", str(BUILD / "chorus"), "serve", "--port", "0", "--model", str(DEMO),
                          "--state-dir", "none", "--port-file", str(port_file)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        watched.wait(lambda m: "READY" in m)
        if pings:
            watched.wait(lambda m: "WATCHDOG" in m)
        p.send_signal(signal.SIGTERM)
        assert p.wait(10 * SLOW) == 0
        assert bool(watched.times("WATCHDOG")) == pings
    finally:
        p.kill()
        p.wait()


def test_watchdog_stops_when_the_engine_stalls(watched, fake):
    """The loop lives and answers, the engine thread does not: no ping for as long, and none lost afterwards."""
    s = fake(beat_ms=300, stall_ms=2500)
    watched.wait(lambda m: "WATCHDOG" in m)
    begin = time.monotonic()
    c = open_stream(s, "@stall")
    watched.wait(lambda m: m.get("STATUS", "").startswith("stalled"))
    assert s.get("/health") == (503, {"status": "stalled"})
    assert joined(events(parse_answers(read_all(c))[0][2])) == "@stall"
    watched.wait(lambda m: m.get("STATUS", "").startswith("serving") and m is not None)
    end = time.monotonic()
    while not [t for t in watched.times("WATCHDOG") if t > end]:
        assert time.monotonic() - end < 5 * SLOW
        time.sleep(0.01)
    pings = [t for t in watched.times("WATCHDOG") if t > begin]
    gap = max(b - a for a, b in zip(pings, pings[1:]))
    print(f"figure: the engine stalled for 2.5 s, the watchdog heard nothing for {gap:.2f} s")
    assert 1.5 < gap, gap  # a watchdog of 400 ms would have ended it


def test_a_stopped_process_does_not_ping(watched, fake):
    s = fake()
    watched.wait(lambda m: "WATCHDOG" in m)
    s.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)  # what was on its way
    count = len(watched.heard)
    time.sleep(0.6)
    assert len(watched.heard) == count
    s.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("variable,value,why", [
    ("NOTIFY_SOCKET", "vsock:2:1", "NOTIFY_SOCKET"), ("NOTIFY_SOCKET", "/" + "x" * 120, "NOTIFY_SOCKET"), ("NOTIFY_SOCKET", "@", "NOTIFY_SOCKET"),
    ("WATCHDOG_USEC", "soon", "WATCHDOG_USEC"), ("WATCHDOG_USEC", "0", "WATCHDOG_USEC"), ("WATCHDOG_USEC", "9" * 30, "WATCHDOG_USEC"),
    ("WATCHDOG_PID", "-1", "WATCHDOG_PID"), ("LISTEN_PID", "me", "LISTEN_PID")])
def test_bad_variables(monkeypatch, variable, value, why):
    monkeypatch.setenv(variable, value)
    done = subprocess.run([str(BUILD / "chorus"), "serve", "--port", "0", "--model", str(DEMO)], cwd=ROOT, capture_output=True, timeout=30, text=True)
    assert done.returncode == 2 and why in done.stderr.splitlines()[-1], done.stderr


def test_nobody_listens(tmp_path, monkeypatch):
    """The socket is gone: that is the manager's trouble, requests are served."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    s = start_fake(tmp_path)
    assert s.chat("hello")["choices"][0]["message"]["content"] == "hello"
    assert s.stop() == 0


# ---- sockets that are handed over ----

def tcp(host="127.0.0.1", family=socket.AF_INET, listen=True):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind((host, 0))
    if listen:
        s.listen(64)
    return s


def unix(path, kind=socket.SOCK_STREAM, listen=True):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(path)
    if listen:
        s.listen(64)
    return s


BECOME = """
import os, sys
fds, count, names = eval(sys.argv[1])
high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.closerange(3 + len(high), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), **({"LISTEN_FDNAMES": names} if names else {}))
os.execv(sys.argv[2], sys.argv[2:])
"""


def command_with(sockets, names=None, count=None):
    """A process that puts the sockets at 3, 4, ..., says so and becomes the server -> (arguments, descriptors to pass)."""
    fds = [s.fileno() for s in sockets]
    return [sys.executable, "-c", BECOME, repr((fds, len(fds) if count is None else count, names))], fds


@contextlib.contextmanager
def activated(tmp_path, sockets, *args, names=None, model=DEMO):
    shell, fds = command_with(sockets, names)
    port_file, log = tmp_path / "port", tmp_path / "log"
    with open(log, "wb") as out:
        p = subprocess.Popen([*shell, str(BUILD / "chorus"), "serve", "--model", str(model), "--state-dir", "none", "--port-file", str(port_file), *args],
                             cwd=ROOT, stdout=subprocess.PIPE, stderr=out, pass_fds=fds)
    try:
        end = time.monotonic() + 60
        while not port_file.exists():
            assert p.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        p.log = log
        yield p
        p.send_signal(signal.SIGTERM)
        assert p.wait(20 * SLOW) == 0
        assert "ERROR: AddressSanitizer" not in log.read_text() and "runtime error" not in log.read_text(), log.read_text()
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def ask(address, body=None, family=None, path="/health", host="localhost", keep=False):
    s = socket.socket(family or (socket.AF_UNIX if isinstance(address, str) else socket.AF_INET), socket.SOCK_STREAM)
    s.settimeout(20 * SLOW)
    s.connect(address)
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{'POST' if body is not None else 'GET'} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if body is not None else ""
    s.sendall(head.encode() + b"\r\n" + data)
    if keep:
        return s
    answer = parse_answers(read_all(s))[0]
    s.close()
    return answer


def test_tcp_socket_is_taken_over(tmp_path):
    """Connections that came before the server started are answered: the queue is the same socket's."""
    door = tcp()
    early = ask(door.getsockname(), keep=True)
    with activated(tmp_path, [door], "--port", "1", "--host", "192.0.2.1", names="http") as p:  # those are not bound
        status, _, body = parse_answers(read_all(early))[0]
        assert status in (200, 503)  # 503: it was still loading
        assert ask(door.getsockname())[0] == 200
        assert ask(door.getsockname(), host="evil.example")[0] == 403
        assert int((tmp_path / "port").read_text()) == door.getsockname()[1]
        assert f"socket=127.0.0.1:{door.getsockname()[1]} name=http" in p.log.read_text()
        door.close()
    early.close()


def test_unix_socket_is_taken_over(tmp_path):
    path = str(tmp_path / "chorus.sock")
    door = unix(path)
    with activated(tmp_path, [door]) as p:
        assert ask(path)[0] == 200
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 20, "stream": True}
        status, _, text = ask(path, body, path=CHAT)
        assert status == 200 and text.endswith(b"data: [DONE]\n\n") and joined(events(text))
        assert ask(path, host="evil.example")[0] == 403
        gone = ask(path, {**body, "max_tokens": 3000, "ignore_eos": True}, path=CHAT, keep=True)
        gone.recv(100)
        gone.close()  # a hang-up is seen here too
        end = time.monotonic() + 10 * SLOW
        while b"chorus_requests_running 0" not in ask(path, path="/metrics")[2]:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert f"socket=unix:{path}" in p.log.read_text()
    door.close()


def test_several_sockets(tmp_path):
    doors = [tcp(), unix(str(tmp_path / "a.sock")), unix("\0chorus-abstract-" + str(os.getpid())), tcp()]
    with activated(tmp_path, doors, names="one:two::four") as p:
        for door in doors:
            address = door.getsockname()
            address = address.decode() if isinstance(address, bytes) else address
            for _ in range(3):
                assert ask(address)[0] == 200
            status, _, text = ask(address, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}, path=CHAT)
            assert status == 200, text
        assert ask(doors[3].getsockname(), host="evil.example")[0] == 403
        held = [ask(doors[1].getsockname(), keep=True) for _ in range(40)]  # more than one turn takes in
        assert all(parse_answers(read_all(h))[0][0] == 200 for h in held)
        for h in held:
            h.close()
        lines = [l for l in p.log.read_text().splitlines() if " listening " in l]
        assert len(lines) == 4 and "name=one" in lines[0] and "name=two" in lines[1] and "name=four" in lines[3], lines
        for d in doors:
            d.close()


def test_variables_of_another_process_are_not_ours(tmp_path, monkeypatch):
    """LISTEN_PID names somebody else: the server binds its own port."""
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    s = start_real(tmp_path, "--model", str(DEMO))
    assert s.get("/health")[0] == 200 and s.stop() == 0


def refusals(tmp_path):
    return {
        "not listening": tcp(listen=False), "not a socket": open(os.devnull), "neither a TCP nor a Unix socket": socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "not a stream socket": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "is not a stream socket": unix(str(tmp_path / "seq"), socket.SOCK_SEQPACKET)}


def test_refused_sockets(tmp_path):
    for why, thing in refusals(tmp_path).items():
        shell, fds = command_with([thing], names="odd")
        done = subprocess.run([*shell, str(BUILD / "chorus"), "serve", "--model", str(DEMO)], cwd=ROOT, capture_output=True, text=True, timeout=30, pass_fds=fds)
        lines = [l for l in done.stderr.splitlines() if l.startswith("chorus serve:")]
        assert done.returncode == 2 and len(lines) == 1 and why in lines[0] and "(odd)" in lines[0], (why, done.stderr)
        thing.close()
    for count, why in ((1, "not open"), (9, "more than 8"), ("x", "LISTEN_FDS")):
        shell, _ = command_with([], count=count)
        done = subprocess.run([*shell, str(BUILD / "chorus"), "serve", "--model", str(DEMO)], cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode in (2, 4) and why in done.stderr, done.stderr


def test_out_of_descriptors_on_the_second_socket(tmp_path):
    """accept fails for want of descriptors: the loop does not spin, and goes on when there are some again."""
    path = str(tmp_path / "b.sock")
    doors = [tcp(), unix(path)]
    with activated(tmp_path, doors, "--max-connections-peer", "4000", "--max-connections", "4000") as p:
        soft, hard = 4096, 4096
        before = len(os.listdir(f"/proc/{p.pid}/fd"))
        import resource
        resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (before + 3, hard))
        held = []
        for _ in range(50):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.connect(path)
            held.append(s)
        time.sleep(0.3)
        assert len(os.listdir(f"/proc/{p.pid}/fd")) < before + 50  # not all were let in
        begin = cpu_s(p.pid)
        time.sleep(1.0)
        spent = cpu_s(p.pid) - begin
        print(f"figure: {spent:.2f} s of CPU in a second without descriptors")
        assert spent < 0.5 * SLOW
        resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for s in held:
            s.close()
        assert ask(path)[0] == 200
    for d in doors:
        d.close()


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
