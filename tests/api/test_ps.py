"""chorus ps and chorus health: what they say of a server, and of what is none."""
import json
import re
import signal
import socket
import threading
import time

import pytest

from commands import answering, http, nobody, run, terminal
from conftest import DEMO, SLOW, VOICES, start_real

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    from conftest import start_fake
    tmp = tmp_path_factory.mktemp("locked")
    (tmp / "keys").write_text("# ours\nsk-alpha\nsk-beta\n")
    s = start_fake(tmp, keys=tmp / "keys")
    s.keys = tmp / "keys"
    yield s
    assert s.stop() == 0


# ---- ps ----

def test_ps(server):
    server.chat("hello", adapter="villain", max_tokens=3)
    code, out, err = run("ps", "--url", server.url)
    assert code == 0 and err == "" and not CONTROL.search(out)
    assert all(len(line) <= 80 for line in out.split("\n")), out
    for part in ("storyteller", "weights bf16", "CPU, ", "tokens/s", "kv ", "KV pages", "0 running", *VOICES):
        assert part in out, (part, out)
    assert re.search(r"^villain +device +0 +608\.0 KiB +\d+ +just now$", out, re.M), out
    heads = [line for line in out.split("\n") if line.startswith("ADAPTER")][0]
    row = [line for line in out.split("\n") if line.startswith("wood-elf")][0]
    assert heads.index("TIER") == row.index(row.split()[1])


def test_ps_shows_requests_at_work(fake):
    s = fake(step_us=3000)
    t = threading.Thread(target=lambda: s.chat("@long hello", adapter=["wood-elf", "villain"], max_tokens=600, ignore_eos=True))
    t.start()
    end = time.monotonic() + 10 * SLOW
    while True:
        out = run("ps", "--url", s.url)[1]
        m = re.search(r"^(req_\w+) +decode +wood-elf\+villain +\d+ +(\d+)/600 +[\d.]+ s$", out, re.M)
        if m and re.search(r"[1-9][\d.]* tokens/s", out):
            break
        assert time.monotonic() < end, out
    assert "1 running" in out
    t.join()


def test_ps_json(server):
    code, out, _ = run("ps", "--json", "--url", server.url + "/v1/")
    assert code == 0 and json.loads(out)["model"]["name"] == "storyteller" and out.endswith("}\n")


def test_ps_while_the_model_loads(fake):
    s = fake(load_ms=3000 * SLOW, wait_ready=False)
    code, out, _ = run("ps", "--url", s.url)
    assert code == 0 and "loading" in out and "storyteller" not in out
    code, out, err = run("health", "--url", s.url)
    assert code == 1 and out == "" and "loading" in err


def test_watch_on_a_terminal(server):
    with terminal("ps", "--watch", "--interval", "0.1", "--url", server.url, rows=20) as t:
        first = t.until(r"\x1b\[J\x1b\[H")
        assert first.startswith("\x1b[?25l\x1b[H\x1b[2J")
        screen = t.until(r"\x1b\[J\x1b\[H")
        lines = screen.replace("\x1b[K", "").replace("\x1b[J\x1b[H", "").split("\n")
        assert len(lines) <= 20 and max(map(len, lines)) <= 80 and lines[0].startswith("server"), lines
        t.interrupt()
        assert t.end() == 0
        assert t.seen.endswith(b"\x1b[?25h"), "the cursor stays hidden"


@pytest.mark.parametrize("columns,rows", [(40, 10), (20, 5), (200, 60)])
def test_watch_fits_any_terminal(server, columns, rows):
    with terminal("ps", "--watch", "--interval", "0.1", "--url", server.url, columns=columns, rows=rows) as t:
        t.until(r"\x1b\[J\x1b\[H")
        lines = t.until(r"\x1b\[J\x1b\[H").replace("\x1b[K", "").replace("\x1b[J\x1b[H", "").split("\n")
        assert max(map(len, lines)) <= columns
        t.interrupt()
        assert t.end() == 0


def test_watch_into_a_pipe(server):
    import subprocess
    from commands import CHORUS, environment
    p = subprocess.Popen([CHORUS, "ps", "--watch", "--json", "--interval", "0.1", "--url", server.url], stdout=subprocess.PIPE, env=environment())
    looks = [json.loads(p.stdout.readline()) for _ in range(3)]
    assert looks[2]["uptime_s"] > looks[0]["uptime_s"]
    p.send_signal(signal.SIGTERM)
    assert p.wait(10 * SLOW) == 0
    p.stdout.close()


def test_watch_outlives_a_restart(fake):
    s = fake()
    with terminal("ps", "--watch", "--interval", "0.1", "--url", s.url) as t:
        t.until(r"\x1b\[J\x1b\[H")
        s.stop()
        t.until("no server answers")
        t.interrupt()
        assert t.end() == 0


# ---- which server ----

def test_the_server_is_found(server, tmp_path):
    port = server.port
    assert run("health", CHORUS_URL=server.url)[0] == 0
    assert run("health", CHORUS_PORT=str(port))[0] == 0
    assert run("health", "--port", port, CHORUS_URL="")[0] == 0
    assert run("health", "--url", f"localhost:{port}")[0] == 0
    conf = tmp_path / "chorus.conf"
    conf.write_text(f"port = {port}\nhost = 0.0.0.0\nmodel = /nowhere\n")
    assert run("health", "--config", conf)[1] == f"ok: http://127.0.0.1:{port}\n"
    (tmp_path / "chorus").mkdir()
    conf.rename(tmp_path / "chorus/chorus.conf")
    assert run("health", CHORUS_CONFIG="", XDG_CONFIG_HOME=str(tmp_path))[0] == 0


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "c.sock")
    with answering(http('{"status":"ok"}'), socket.AF_UNIX, path) as url:
        assert run("health", "--url", url)[:2] == (0, f"ok: unix:{path}\n")


@pytest.mark.parametrize("url,why", [
    ("https://127.0.0.1", "https"), ("ftp://x", "http://"), ("http://", "host"), ("http://x:0", "port"), ("http://x:70000", "port"),
    ("http://x:8080x", "port"), ("http://127.0.0.1:1/a b", "character"), ("http://u@127.0.0.1", "character"), ("unix:", "socket"), ("unix:" + "x" * 300, "socket"),
    ("http://" + "h" * 300, "host"), ("http://127.0.0.1\r\nX: y", "character"), ("http://no-such-host.invalid", "no-such-host")])
def test_urls_that_are_none(url, why):
    for command in ("ps", "health"):
        code, out, err = run(command, "--url", url)
        assert code == 2 and out == "" and why in err and err.count("\n") == 1, (code, err)


# ---- what is no server ----

def test_nobody_answers():
    url = nobody()
    code, out, err = run("ps", "--url", url)
    assert code == 5 and out == "" and err == f"chorus ps: no server answers at {url} (Connection refused): chorus serve starts one, --url names another\n"
    code, out, err = run("health", "--url", url)
    assert code == 1 and out == "" and "no server answers" in err and err.count("\n") == 1


ALIENS = [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00", b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    http("<html>hello</html>", kind="text/html"), http("[1,2]"), http('{"status":"fine"}'), http("not found", "404 Not Found", "text/plain"),
    http("", "302 Found"), http('{"error":"no"}', "500 Oops"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 400, b"HTTP/9.9 hello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}", b"HTTP/1.1 \x1b[2J\r\n\r\n\x1b[2J",
]


@pytest.mark.parametrize("answer", ALIENS, ids=range(len(ALIENS)))
def test_something_else_answers(answer):
    with answering(answer) as url:
        for command, codes in (("health", (1,)), ("ps", (5,))):
            code, out, err = run(command, "--url", url)
            assert code in codes and not CONTROL.search(out + err), (command, code, out, err)
            assert url in err and err.count("\n") == 1, err
            assert ("does not speak HTTP" in err) == answer.startswith((b"SSH", b"\x16", b"HTTP/9")), err


def test_an_answer_that_does_not_come():
    with answering(lambda request: time.sleep(1.5) or b"") as url:
        begin = time.monotonic()
        code, _, err = run("health", "--patience", "0.3", "--url", url)
        assert code == 1 and "no answer in time" in err and time.monotonic() - begin < 1.5 * SLOW


def test_hostile_answers_do_not_reach_the_terminal():
    evil = "\x1b]0;owned\x07\x1b[2J\u009b31m\r\n\u202e" + "x" * 300
    adapter = {"name": evil, "tier": evil, "users": 1e300, "bytes": -5, "last_used": 1e18, "tokens_out": "many"}
    status = {"object": "status", "status": evil, "version": evil, "uptime_s": 1e30, "model": {"name": evil, "arch": evil, "parameters": 1e308, "weights": evil},
              "device": {"name": evil}, "memory": {"parts": [{"name": evil, "bytes": 2**60, "used": 1}, 7, None]}, "kv": [], "rates": 3,
              "adapters": {"list": [adapter, None, 3, {"name": 5}]}, "more_sequences": 5,
              "sequences": [{"request_id": evil, "state": evil, "adapters": [{"name": evil}, 3]}, 5]}
    with answering(http(json.dumps(status))) as url:
        code, out, err = run("ps", "--url", url)
        assert code == 0 and not CONTROL.search(out) and "and 5 more" in out, out
        with terminal("ps", "--url", url) as t:
            assert t.end() == 0
            text = t.seen.decode().replace("\r\n", "\n")
            assert not CONTROL.search(text) and max(map(len, text.split("\n"))) <= 80, text
    error = {"error": {"message": evil, "type": "x", "param": None, "code": None}}
    with answering(http(json.dumps(error), "503 Busy")) as url:
        code, out, err = run("ps", "--url", url)
        assert code == 5 and not CONTROL.search(err) and "owned" in err


# ---- keys ----

def test_keys(locked, tmp_path):
    url = locked.url
    code, _, err = run("ps", "--url", url)
    assert code == 1 and "asks for an API key" in err and "CHORUS_API_KEY" in err
    code, _, err = run("ps", "--url", url, CHORUS_API_KEY="sk-wrong")
    assert code == 1 and "does not know this API key" in err and "sk-wrong" not in err
    assert run("ps", "--url", url, CHORUS_API_KEY="sk-beta")[0] == 0
    assert run("ps", "--url", url, "--api-key", "sk-beta")[0] == 0
    assert run("ps", "--url", url, "--api-key-file", locked.keys)[0] == 0
    code, _, err = run("ps", "--url", url, "--api-key-file", tmp_path / "none")
    assert code == 1 and "No such file" in err
    assert run("ps", "--url", url, "--api-key", "a\r\nX-Evil: 1")[0] == 2
    assert run("health", "--url", url)[0] == 0, "health needs no key"


def test_a_key_is_not_printed():
    out = run("ps", "--print-config", CHORUS_API_KEY="sk-secret")[1]
    assert "sk-secret" not in out
