"""Who may ask: Host, Origin, content types, API keys."""
import json

import pytest

from conftest import parse_answers
from test_framing import CHAT, first_answer

GOOD_HOSTS = ["127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]", "[::1]:65535"]
BAD_HOSTS = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io", "evil-127.0.0.1",
    "localhost.", "127.0.0.1.", "127.0.0.2", "127.1", "127.0.1", "0.0.0.0", "0", "2130706433", "0x7f000001", "017700000001", "0x7f.1",
    "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[::1%lo]", "::1", "[fe80::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254",
    "metadata.google.internal", "host.docker.internal", "example.com:127.0.0.1", "example.com@127.0.0.1", "user:pw@localhost",
    "localhost@evil.example", "localhost,evil.example", "evil.example, localhost", "localhost evil.example", "localhost;evil", "localhost/",
    "localhost/../x", "localhost\\x", "localhost?x", "localhost#x", "http://localhost", "//localhost", "localhost:", "localhost:x",
    "localhost:80:80", "localhost:-1", "localhost:123456", "loca1host", "localhοst", "ｌocalhost", "local host", "localhost\t", "*", "null",
    "undefined", "%6cocalhost", "127.0.0.1%00", "localhost%2eevil", "a" * 300,
]
ORIGINS = [
    "http://evil.example", "https://evil.example", "http://localhost", "http://localhost:3000", "http://127.0.0.1", "http://127.0.0.1:1",
    "https://localhost:{port}", "https://127.0.0.1:{port}", "http://localhost:{port}", "http://[::1]:{port}", "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}@evil.example", "http://evil@127.0.0.1:{port}", "null", "", "file://",
    "*", "chrome-extension://abcdef", "moz-extension://abc", "app://obsidian.md", "vscode-webview://x", "http://app.example.evil",
    "http://evil/http://app.example", "https://app.example", "http://app.example:80", "HTTP://APP.EXAMPLE", "http://app.example.",
    "http://sub.app.example", "data:text/html,x", "blob:null/x", "about:blank",
]


def test_hosts_are_enough():
    assert len(BAD_HOSTS) >= 60 and len(ORIGINS) >= 30


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_known_hosts(plain, host):
    assert plain.request("GET", "/health", headers={"Host": host})[0] == 200


def test_foreign_hosts(plain):
    for host in BAD_HOSTS:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: " + host.encode() + b"\r\nContent-Type: application/json\r\n"
        with plain.connect() as s:
            s.sendall(head + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
            status, _, body = parse_answers(first_answer(s))[0]
        assert status in (400, 403), host
        assert json.loads(body)["error"]["message"], host
    assert plain.metric("chorus_engine_requests_accepted_total") == 0


def test_hosts_that_were_named(fake):
    s = fake(allow_host=["chorus.lan", "box:8080"])
    for host, wanted in (("chorus.lan", 200), ("CHORUS.lan:99", 200), ("box:8080", 200), ("box", 403), ("box:81", 403), ("x.lan", 403)):
        assert s.request("GET", "/health", headers={"Host": host})[0] == wanted, host


def test_every_host_beyond_loopback(fake):
    s = fake(host="0.0.0.0")
    assert s.request("GET", "/health", headers={"Host": "evil.example"})[0] == 200
    # ... but then a page whose own name points here is still another origin.
    origin = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert s.request("GET", "/v1/models", headers=origin)[0] == 403


def test_foreign_origins(fake):
    s = fake(origin=["http://app.example"])
    for origin in ORIGINS:
        status, headers, _ = s.request("POST", "/v1/chat/completions", json.loads(CHAT), headers={"Origin": origin.format(port=s.port)})
        assert status == 403, origin
        assert not [h for h in headers if h.startswith("access-control")], origin
    assert s.metric("chorus_engine_requests_accepted_total") == 0


def test_no_cors_by_default(plain):
    for method in ("OPTIONS", "GET"):
        status, headers, _ = plain.request(method, "/v1/models", headers={"Origin": "http://evil.example",
                                                                         "Access-Control-Request-Method": "POST"})
        assert status == 403 and not [h for h in headers if h.startswith("access-control")]
    assert plain.request("OPTIONS", "/v1/models")[0] == 405


def test_our_own_page(plain):
    origin = f"http://127.0.0.1:{plain.port}"
    assert plain.request("POST", "/v1/chat/completions", json.loads(CHAT), headers={"Origin": origin})[0] == 200
    # The same string behind another Host is not ours.
    assert plain.request("GET", "/health", headers={"Origin": origin, "Host": f"localhost:{plain.port}"})[0] == 403


def test_named_origin_may_read(fake):
    s = fake(origin=["http://app.example"])
    origin = {"Origin": "http://app.example"}
    status, headers, _ = s.request("POST", "/v1/chat/completions", json.loads(CHAT), headers=origin)
    assert status == 200 and headers["access-control-allow-origin"] == "http://app.example" and headers["vary"] == "Origin"
    status, headers, _ = s.request("OPTIONS", "/v1/chat/completions", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert status == 204 and "POST" in headers["access-control-allow-methods"]
    assert s.request("GET", "/health", headers={**origin, "Host": "evil.example"})[0] == 403


@pytest.mark.parametrize("site,mode,dest,wanted", [
    ("cross-site", "no-cors", "image", 403), ("cross-site", "no-cors", "script", 403), ("same-site", "no-cors", "empty", 403),
    ("cross-site", "navigate", "iframe", 403), ("cross-site", "navigate", "document", 200), ("none", "navigate", "document", 200),
    ("same-origin", "cors", "empty", 200)])
def test_fetch_metadata(plain, site, mode, dest, wanted):
    fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert plain.request("GET", "/v1/models", headers=fetch)[0] == wanted


def test_two_origins(plain):
    data = b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n"
    with plain.connect() as s:
        s.sendall(data)
        assert parse_answers(first_answer(s))[0][0] == 400


@pytest.mark.parametrize("kind,wanted", [
    ("application/json", 200), ("application/json; charset=utf-8", 200), ("Application/JSON", 200), ("application/json ;x", 200),
    (None, 415), ("", 415), ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415),
    ("application/jsonp", 415), ("application/json, text/plain", 415), ("text/json", 415), ("application/json+x", 415), ("json", 415)])
def test_content_types(plain, kind, wanted):
    assert plain.request("POST", "/v1/chat/completions", CHAT, headers={"Content-Type": kind})[0] == wanted


def test_routes(plain):
    for method, path, wanted in (("GET", "/", 200), ("POST", "/", 405), ("GET", "/page/", 404), ("GET", "/v1", 404), ("GET", "/v1/models/", 404), ("POST", "/v1/models", 405),
                                 ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/completions", 405), ("DELETE", "/v1/adapters", 405), ("PUT", "/v1/adapters/x", 405),
                                 ("PATCH", "/health", 405), ("HEAD", "/v1/models", 200), ("GET", "/v1/chat/completions/", 404)):
        status, headers, body = plain.request(method, path)
        assert status == wanted, (method, path)
        if wanted == 405:
            assert headers["allow"] in ("GET, HEAD", "POST", "GET, HEAD, POST", "GET, HEAD, DELETE")
        if wanted >= 400:
            error = json.loads(body)["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["param"] is None


def test_headers_of_every_answer(plain):
    for method, path, body in (("GET", "/health", None), ("GET", "/nothing", None), ("POST", "/v1/chat/completions", {})):
        _, headers, _ = plain.request(method, path, body)
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["x-request-id"].startswith("req_") and len(headers["x-request-id"]) == 28


@pytest.mark.parametrize("given,echoed", [("abc-1.2:3_X", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("<script>", False),
                                          ("", False), ("ü", False)])
def test_request_id(plain, given, echoed):
    _, headers, _ = plain.request("GET", "/health", headers={"x-request-id": given})
    assert (headers["x-request-id"] == given) == echoed


# ---- API keys ----

@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    from conftest import start_fake
    tmp = tmp_path_factory.mktemp("locked")
    keys = tmp / "keys"
    keys.write_text("# keys of the house\n\n  sk-alpha  \nsk-beta\n#sk-comment\n")
    s = start_fake(tmp, keys=keys)
    yield s
    assert s.stop() == 0


@pytest.mark.parametrize("header,wanted", [
    (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer sk-alpha", 200), ("bearer sk-beta", 200), ("Bearer  sk-beta", 200),
    ("Bearer sk-alph", 401), ("Bearer sk-alphaa", 401), ("Bearer SK-ALPHA", 401), ("Basic sk-alpha", 401), ("sk-alpha", 401),
    ("Bearer sk-alpha,sk-beta", 401), ("Bearer sk-comment", 401), ("Bearer #sk-comment", 401), ("Bearer sk-alpha sk-beta", 401),
    ("Bearer " + "x" * 20000, 401)])
def test_keys(locked, header, wanted):
    headers = {} if header is None else {"Authorization": header}
    status, answer, body = locked.request("GET", "/v1/models", headers=headers)
    assert status == wanted
    if wanted == 401:
        assert answer["www-authenticate"] == "Bearer"
        error = json.loads(body)["error"]
        assert error["type"] == "authentication_error" and error["code"] == "invalid_api_key"
        assert "sk-" not in body.decode()


def test_every_route_but_health_and_page_wants_a_key(locked):
    routes = [("GET", "/v1/models"), ("GET", "/v1/models/fake"), ("GET", "/v1/adapters"), ("GET", "/lora-adapters"), ("GET", "/metrics"),
              ("GET", "/props"), ("GET", "/slots"), ("GET", "/v1/status"), ("GET", "/v1/steps"), ("GET", "/version"), ("POST", "/tokenize"), ("POST", "/detokenize"), ("POST", "/apply-template"),
              ("POST", "/v1/messages/count_tokens"),
              ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/v1/status"), ("GET", "/v1/steps"), ("GET", "/openapi.json"),
              ("GET", "/nothing"), ("POST", "/"), ("GET", "/page"), ("GET", "/page/"), ("GET", "/index.html")]
    for method, path in routes:
        assert locked.request(method, path, {} if method == "POST" else None)[0] == 401, path
    # Readiness and the page's own files, which hold no secret; a browser that opens them has no way to send a key.
    for path in ("/health", "/", "/page/app.js"):
        assert locked.request("GET", path)[0] == 200


@pytest.mark.parametrize("headers,wanted", [
    ({"x-api-key": "sk-alpha"}, 200), ({"X-API-Key": "sk-beta"}, 200), ({"x-api-key": "sk-other"}, 401), ({"x-api-key": ""}, 401),
    ({"x-api-key": "Bearer sk-alpha"}, 401), ({"x-api-key": "sk-alpha", "Authorization": "Bearer sk-other"}, 401),
    ({"x-api-key": "sk-other", "Authorization": "Bearer sk-alpha"}, 200)])
def test_key_of_anthropic_clients(locked, headers, wanted):
    body = {"messages": [{"role": "user", "content": "hello"}]}
    assert locked.request("POST", "/v1/messages/count_tokens", body, headers=headers)[0] == wanted


def test_keys_are_not_logged(locked):
    locked.request("GET", "/v1/models", headers={"Authorization": "Bearer sk-alpha"})
    assert "sk-" not in locked.log_text()


@pytest.mark.parametrize("content,why", [("", "no key"), ("# only a comment\n", "no key"), ("a b\n", "visible"), ("x" * 2000, "too long")])
def test_key_files_that_are_refused(tmp_path, content, why):
    from conftest import start_fake
    keys = tmp_path / "keys"
    keys.write_text(content)
    with pytest.raises(RuntimeError, match=why):
        start_fake(tmp_path, keys=keys)
