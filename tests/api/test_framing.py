"""What the bytes of HTTP may look like: framing vectors, limits, deadlines, keep-alive."""
import json
import re
import socket
import time

import pytest

from conftest import SLOW, parse_answers, read_all

H = b"Host: 127.0.0.1\r\n"
J = b"Content-Type: application/json\r\n"
CHAT = b'{"messages":[{"role":"user","content":"hi"}]}'
CL = b"Content-Length: %d\r\n" % len(CHAT)


def get(*lines, path=b"/health", version=b"HTTP/1.1"):
    return b"GET " + path + b" " + version + b"\r\n" + b"".join(lines) + b"\r\n"


def post(*lines, body=CHAT):
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + H + J + b"".join(lines) + b"\r\n" + body


SMUGGLED = get(H)
# name -> (bytes, statuses that are right for the first answer). Never 200, and never a second answer.
VECTORS = {
    "no host": (get(), {400}),
    "two hosts": (get(H, H), {400}),
    "two hosts that differ": (get(H, b"Host: localhost\r\n"), {400}),
    "empty host": (get(b"Host:\r\n"), {400}),
    "host with space": (get(b"Host: 127.0.0.1 evil\r\n"), {400}),
    "host with path": (get(b"Host: 127.0.0.1/x\r\n"), {400}),
    "host with at": (get(b"Host: a@127.0.0.1\r\n"), {400}),
    "host list": (get(b"Host: 127.0.0.1, 127.0.0.1\r\n"), {400}),
    "host bad port": (get(b"Host: 127.0.0.1:80a\r\n"), {400}),
    "host empty port": (get(b"Host: 127.0.0.1:\r\n"), {400}),
    "host long port": (get(b"Host: 127.0.0.1:123456\r\n"), {400}),
    "host open bracket": (get(b"Host: [::1\r\n"), {400}),
    "host 1.0 missing": (get(version=b"HTTP/1.0"), {400}),
    "cl and te": (post(CL, b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED), {400}),
    "te and cl": (post(b"Transfer-Encoding: chunked\r\n", CL, body=b"0\r\n\r\n" + SMUGGLED), {400}),
    "two equal cl": (post(CL, CL), {400}),
    "two cl": (post(b"Content-Length: 0\r\n", CL), {400}),
    "cl list": (post(b"Content-Length: 45, 45\r\n"), {400}),
    "cl plus": (post(b"Content-Length: +45\r\n"), {400}),
    "cl minus": (post(b"Content-Length: -1\r\n"), {400}),
    "cl hex": (post(b"Content-Length: 0x2d\r\n"), {400}),
    "cl space inside": (post(b"Content-Length: 4 5\r\n"), {400}),
    "cl empty": (post(b"Content-Length:\r\n"), {400}),
    "cl letters": (post(b"Content-Length: abc\r\n"), {400}),
    "cl float": (post(b"Content-Length: 45.0\r\n"), {400}),
    "cl overflow": (post(b"Content-Length: 99999999999999999999999\r\n"), {400, 413}),
    "cl 2^64": (post(b"Content-Length: 18446744073709551616\r\n"), {400, 413}),
    "cl 2^64-1": (post(b"Content-Length: 18446744073709551615\r\n"), {400, 413}),
    "cl underscore name": (post(b"Content_Length: 45\r\n", body=b""), {400}),
    "cl space before colon": (post(b"Content-Length : 45\r\n"), {400}),
    "te unknown": (post(b"Transfer-Encoding: gzip\r\n"), {400, 501}),
    "te list": (post(b"Transfer-Encoding: gzip, chunked\r\n"), {400, 501}),
    "te identity": (post(b"Transfer-Encoding: identity\r\n"), {400, 501}),
    "te twice": (post(b"Transfer-Encoding: chunked\r\n" * 2, body=b"0\r\n\r\n" + SMUGGLED), {400}),
    "te with semicolon": (post(b"Transfer-Encoding: chunked;x\r\n", body=b"0\r\n\r\n" + SMUGGLED), {400, 501}),
    "te space before colon": (post(b"Transfer-Encoding : chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED), {400}),
    "te vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", body=b"0\r\n\r\n" + SMUGGLED), {400}),
    "te in 1.0": (b"POST /v1/chat/completions HTTP/1.0\r\n" + H + J + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "chunk size bad": (post(b"Transfer-Encoding: chunked\r\n", body=b"xyz\r\n" + CHAT + b"\r\n0\r\n\r\n"), {400}),
    "chunk size negative": (post(b"Transfer-Encoding: chunked\r\n", body=b"-1\r\n" + CHAT + b"\r\n0\r\n\r\n"), {400}),
    "chunk size 0x": (post(b"Transfer-Encoding: chunked\r\n", body=b"0x2d\r\n" + CHAT + b"\r\n0\r\n\r\n"), {400}),
    "chunk size overflow": (post(b"Transfer-Encoding: chunked\r\n", body=b"fffffffffffffffff\r\n" + CHAT), {400, 413}),
    "chunk longer than its size": (post(b"Transfer-Encoding: chunked\r\n", body=b"2\r\n" + CHAT + b"\r\n0\r\n\r\n"), {400}),
    "chunk size empty": (post(b"Transfer-Encoding: chunked\r\n", body=b"\r\n" + CHAT + b"\r\n0\r\n\r\n"), {400}),
    "bare lf everywhere": (get(H).replace(b"\r\n", b"\n"), {400}),
    "bare lf after request line": (b"GET /health HTTP/1.1\n" + H + b"\r\n", {400}),
    "bare lf after header": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\n\r\n", {400}),
    "bare lf blank line": (b"GET /health HTTP/1.1\r\n" + H + b"\n", {400}),
    "bare lf both ends": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\n\n", {400}),
    "bare lf between headers": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\nX: y\r\n\r\n", {400}),
    "bare cr in value": (get(H, b"X: a\rb\r\n"), {400}),
    "bare cr hides header": (get(H, b"X: a\rContent-Length: 5\r\n"), {400}),
    "nul in value": (get(H, b"X: a\0b\r\n"), {400}),
    "nul in name": (get(H, b"X\0Y: a\r\n"), {400}),
    "nul in target": (get(H, path=b"/health\0x"), {400}),
    "nul in method": (b"GE\0T /health HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "nul in version": (get(H, version=b"HTTP/1.1\0"), {400}),
    "folded header": (get(H, b"X: a\r\n b\r\n"), {400}),
    "folded with tab": (get(H, b"X: a\r\n\tb\r\n"), {400}),
    "folded cl": (post(b"Content-Length:\r\n 45\r\n"), {400}),
    "first header folded": (b"GET /health HTTP/1.1\r\n X: a\r\n" + H + b"\r\n", {400}),
    "header without colon": (get(H, b"garbage\r\n"), {400}),
    "header without name": (get(H, b": value\r\n"), {400}),
    "space in name": (get(H, b"X Y: a\r\n"), {400}),
    "tab before colon": (get(H, b"X\t: a\r\n"), {400}),
    "control in value": (get(H, b"X: a\x01b\r\n"), {400}),
    "delete in value": (get(H, b"X: a\x7fb\r\n"), {400}),
    "non-ascii name": (get(H, "Xä: a\r\n".encode()), {400}),
    "two spaces before target": (b"GET  /health HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "two spaces before version": (b"GET /health  HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "space after version": (b"GET /health HTTP/1.1 \r\n" + H + b"\r\n", {400}),
    "space in target": (get(H, path=b"/he alth"), {400}),
    "tab as separator": (b"GET\t/health\tHTTP/1.1\r\n" + H + b"\r\n", {400}),
    "lower case method": (b"get /health HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "method with sign": (b"G@T /health HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "long method": (b"A" * 40 + b" /health HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "unknown method": (b"BREW /health HTTP/1.1\r\n" + H + b"\r\n", {405}),
    "connect": (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "trace": (b"TRACE /health HTTP/1.1\r\n" + H + b"\r\n", {405}),
    "no version": (b"GET /health\r\n" + H + b"\r\n", {400}),
    "version 0.9": (get(H, version=b"HTTP/0.9"), {400, 505}),
    "version 2.0": (get(H, version=b"HTTP/2.0"), {400, 505}),
    "version 1.2": (get(H, version=b"HTTP/1.2"), {400, 505}),
    "version 1.10": (get(H, version=b"HTTP/1.10"), {400}),
    "version lower case": (get(H, version=b"http/1.1"), {400}),
    "http2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "absolute target": (get(H, path=b"http://127.0.0.1/health"), {400}),
    "asterisk target": (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", {400}),
    "target without slash": (get(H, path=b"health"), {400}),
    "dot segments": (get(H, path=b"/v1/../health"), {400}),
    "encoded dot segments": (get(H, path=b"/v1/%2e%2e/health"), {400}),
    "half encoded dots": (get(H, path=b"/v1/.%2E/health"), {400}),
    "encoded slash dots": (get(H, path=b"/v1/models/..%2f..%2fhealth"), {400}),
    "dot at end": (get(H, path=b"/v1/models/.."), {400}),
    "single dot": (get(H, path=b"/./health"), {400}),
    "encoded nul": (get(H, path=b"/health%00"), {400}),
    "encoded newline": (get(H, path=b"/health%0d%0aX:%20y"), {400}),
    "bad escape": (get(H, path=b"/health%zz"), {400}),
    "cut escape": (get(H, path=b"/health%2"), {400}),
    "backslash": (get(H, path=b"/v1\\..\\health"), {400}),
    "fragment": (get(H, path=b"/health#x"), {400}),
    "raw utf8 target": (get(H, path="/hälth".encode()), {400}),
    "encoded route": (get(H, path=b"/%68ealth"), {404}),
    "double slash": (get(H, path=b"//health"), {404}),
    "trailing slash": (get(H, path=b"/health/"), {404}),
    "upper case route": (get(H, path=b"/HEALTH"), {404}),
    "expect unknown": (post(CL, b"Expect: 200-ok\r\n"), {417}),
    "connection te smuggle": (post(b"Content-Length: 0\r\n", b"Connection: Transfer-Encoding\r\n", body=b""), {400}),
}


# Request lines that no parser can take apart: the connection may just end.
UNPARSABLE = {"tab as separator", "no version", "http2 preface", "method with sign"}


def first_answer(s):
    """Reads until one answer is whole or the server closes."""
    data = b""
    while True:
        head, sep, rest = data.partition(b"\r\n\r\n")
        if sep:
            length = [l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")]
            if length and len(rest) >= int(length[0].split(b":")[1]):
                return data
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


@pytest.mark.parametrize("name", VECTORS)
def test_framing_vectors(plain, name):
    data, wanted = VECTORS[name]
    with plain.connect(timeout=5) as s:
        s.sendall(data)
        got = first_answer(s)
        s.settimeout(0.05)
        got += read_all(s)
    statuses = [a[0] for a in parse_answers(got)]
    assert len(re.findall(rb"HTTP/1\.[01] \d{3} ", got)) == len(statuses) <= 1, got
    if statuses:
        assert statuses[0] in wanted, f"{name}: {statuses}"
    else:
        assert name in UNPARSABLE, f"{name}: no answer"


def test_framing_vectors_are_enough():
    assert len(VECTORS) >= 80


def test_lenient_where_the_standard_is(plain):
    for data in (b"\r\n" + get(H), get(H, b"X: \ta b\t\r\n"), get(b"HOST: localhost:1\r\n"), get(H, path=b"/health?x=%20&y"),
                 get(b"Host:127.0.0.1\r\n"), get(H, b"X:\r\n"), get(b"Host: [::1]:80\r\n"), get(H, version=b"HTTP/1.0")):
        with plain.connect() as s:
            s.sendall(data)
            assert parse_answers(first_answer(s))[0][0] == 200, data


def test_chunked_body_is_read_and_ends_the_connection(plain):
    half = len(CHAT) // 2
    body = b"%x;ext=1\r\n%s\r\n%X\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (half, CHAT[:half], len(CHAT) - half, CHAT[half:])
    data = plain.raw(post(b"Transfer-Encoding: chunked\r\n", body=body) + SMUGGLED)
    answers = parse_answers(data)
    assert [a[0] for a in answers] == [200]
    assert answers[0][1]["connection"] == "close"
    assert json.loads(answers[0][2])["choices"][0]["message"]["content"] == "hi"


def test_byte_by_byte(plain):
    with plain.connect() as s:
        for b in post(CL):
            s.send(bytes([b]))
        assert parse_answers(first_answer(s))[0][0] == 200


def test_expect_continue(plain):
    with plain.connect() as s:
        s.sendall(post(CL, b"Expect: 100-continue\r\n", body=b""))
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(CHAT)
        assert parse_answers(first_answer(s))[0][0] == 200
    with plain.connect() as s:  # refused before the body: no 100
        s.sendall(post(b"Content-Length: 999999999\r\n", b"Expect: 100-continue\r\n", body=b""))
        assert parse_answers(read_all(s))[0][0] == 413


def test_head_answers_without_a_body(plain):
    with plain.connect() as s:
        s.sendall(b"HEAD /health HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        data = read_all(s)
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"\r\n\r\n") and b"Content-Length: 15" in data


def test_thousand_requests_on_one_connection(plain):
    begin = time.monotonic()
    with plain.connect() as s:
        for _ in range(1000):
            s.sendall(get(H, path=b"/v1/models"))
            assert parse_answers(first_answer(s))[0][0] == 200
    print(f"figure: 1,000 requests on one connection in {time.monotonic() - begin:.2f} s")


def test_pipelined_pairs(plain):
    with plain.connect() as s:
        for _ in range(50):
            s.sendall(post(CL) + get(H))
            data = b""
            while len(re.findall(rb"HTTP/1\.1 \d{3} ", data)) < 2 or b'"status"' not in data:
                piece = s.recv(65536)
                assert piece
                data += piece
            answers = parse_answers(data)
            assert [a[0] for a in answers] == [200, 200]
            assert b"chat.completion" in answers[0][2] and answers[1][2] == b'{"status":"ok"}'


# ---- limits ----

def test_body_over_the_limit_is_refused_before_it_is_read(fake):
    s = fake(max_body=2000)
    begin = time.monotonic()
    with s.connect() as c:
        c.sendall(post(b"Content-Length: 100000000\r\n", body=b"x" * 1000))
        answer = parse_answers(read_all(c))[0]
    assert answer[0] == 413 and json.loads(answer[2])["error"]["code"] == "request_too_large"
    assert time.monotonic() - begin < 1 * SLOW


@pytest.mark.parametrize("length", [b"3000000", b"3e6"])
def test_client_that_goes_on_sending_is_not_reset(fake, length):
    """A reset could take the answer away from it."""
    s = fake(max_body=2000)
    with s.connect() as c:
        c.sendall(post(b"Content-Length: " + length + b"\r\n", body=b""))
        assert re.match(rb"HTTP/1.1 4(13|00) ", first_answer(c))
        for _ in range(5):
            time.sleep(0.02)
            c.sendall(b"x" * 10000)


def test_chunked_body_over_the_limit(fake):
    s = fake(max_body=2000)
    body = b"".join(b"3e8\r\n" + b"x" * 1000 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
    assert parse_answers(s.raw(post(b"Transfer-Encoding: chunked\r\n", body=body)))[0][0] == 413


def test_body_of_exactly_the_limit(fake):
    s = fake(max_body=2000)
    text = json.dumps({"messages": [{"role": "user", "content": "hi"}], "user": ""})
    body = text[:-2] + "x" * (2000 - len(text)) + text[-2:]
    assert len(body) == 2000
    assert s.request("POST", "/v1/chat/completions", body.encode())[0] == 200
    assert s.request("POST", "/v1/chat/completions", body.encode() + b" ")[0] == 413


@pytest.mark.parametrize("what", ["one header", "many headers", "target"])
def test_headers_over_the_limit(plain, what):
    data = {
        "one header": get(H, b"X: " + b"a" * 40000 + b"\r\n"),
        "many headers": get(H, *[b"X%d: y\r\n" % i for i in range(200)]),
        "target": get(H, path=b"/health?" + b"a" * 40000),
    }[what]
    with plain.connect() as s:
        s.sendall(data)
        answer = parse_answers(first_answer(s))[0]
    assert answer[0] == 431 and json.loads(answer[2])["error"]["code"] == "headers_too_large"


def test_endless_headers(plain):
    with plain.connect() as s:
        s.sendall(b"GET /health HTTP/1.1\r\n" + H + b"X: ")
        try:
            for _ in range(100):
                s.sendall(b"a" * 10000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        data = first_answer(s)
    assert data == b"" or parse_answers(data)[0][0] in (431, 414)


# ---- deadlines ----

def dripped(s, pieces, every):
    """Sends pieces until the server closes; the seconds that took."""
    begin = time.monotonic()
    for piece in pieces:
        try:
            s.sendall(piece)
            s.settimeout(every)
            if s.recv(1000) == b"":
                break
        except (socket.timeout, BlockingIOError):
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
    return time.monotonic() - begin


def test_deadline_of_headers_is_absolute(fake):
    s = fake(header_ms=400)
    with s.connect() as c:
        took = dripped(c, [b"G"] + [b"E"] * 100, 0.05)
    assert 0.35 < took < 1.0 * SLOW, took


def test_deadline_of_headers_on_a_kept_connection(fake):
    s = fake(header_ms=400, idle_ms=5000)
    with s.connect() as c:
        c.sendall(get(H))
        first_answer(c)
        time.sleep(0.6)  # idle does not count
        took = dripped(c, [b"G"] + [b"E"] * 100, 0.05)  # not even a request line: only the socket's counter tells
    assert 0.35 < took < 1.5 * SLOW, took


def test_deadline_of_a_body_is_absolute(fake):
    s = fake(body_ms=400)
    with s.connect() as c:
        c.sendall(post(CL, body=b""))
        took = dripped(c, [b"x"] * 40, 0.05)
    assert 0.35 < took < 1.0 * SLOW, took


def test_deadline_of_idleness(fake):
    s = fake(idle_ms=400)
    with s.connect() as c:
        c.sendall(get(H))
        first_answer(c)
        begin = time.monotonic()
        c.settimeout(5)
        assert c.recv(10) == b""
    assert 0.35 < time.monotonic() - begin < 1.0 * SLOW


def test_no_deadline_while_an_answer_is_made(fake):
    s = fake(header_ms=300, body_ms=300, idle_ms=300, send_ms=300, step_us=20000)
    status, answer = s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 50}]})
    assert status == 200 and len(answer["choices"][0]["message"]["content"]) == 50


# ---- connections ----

@pytest.mark.parametrize("peer", [50, 1000])
def test_drippers_do_not_keep_others_out(fake, peer):
    """More silent connections than the limits allow: the oldest of them make room, requests are served."""
    s = fake(connections=60, reserved=8, peer=peer, header_ms=2000)
    held = [s.connect() for _ in range(150)]
    for h in held[::2]:
        try:
            h.sendall(b"GET /heal")
        except OSError:
            pass
    times = []
    for _ in range(50):
        begin = time.monotonic()
        assert s.request("GET", "/health")[0] == 200
        times.append(time.monotonic() - begin)
    assert s.chat("hello")["choices"][0]["message"]["content"] == "hello"
    times.sort()
    print(f"figure: /health behind 150 silent connections, limit 60: p99 {times[-1] * 1000:.1f} ms")
    assert times[-1] < 0.05 * SLOW
    for h in held:
        h.close()


def test_reserved_connections_serve_health_only(fake):
    s = fake(connections=16, reserved=4, peer=100, step_us=5000)
    busy = []
    body = json.dumps({"stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "@long"}]}).encode()
    for _ in range(12):
        c = s.connect()
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + H + J + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert c.recv(100).startswith(b"HTTP/1.1 200 ")
        busy.append(c)
    assert s.request("GET", "/health")[0] == 200
    assert s.request("GET", "/v1/models")[0] == 503
    for c in busy:
        c.close()
    s.wait_metric("chorus_requests_running", 0)
    assert s.request("GET", "/v1/models")[0] == 200


def test_connections_of_one_peer(fake):
    s = fake(peer=6, step_us=5000)
    busy = []
    body = json.dumps({"stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "@long"}]}).encode()
    for _ in range(6):
        c = s.connect()
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + H + J + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert c.recv(100).startswith(b"HTTP/1.1 200 ")
        busy.append(c)
    with s.connect() as c:
        assert read_all(c) == b""  # all six are at work: nobody can make room
    for c in busy:
        c.close()
