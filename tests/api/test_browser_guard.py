"""WEB-4: a page of another origin in a real Chromium tries everything that pages can: no request is accepted."""
import http.server
import re
import threading

import pytest

from browser import BROWSER, Browser

pytestmark = pytest.mark.skipif(not BROWSER, reason="no browser here (Debian: chromium chromium-driver)")

ATTACK = """
const target = arguments[0], say = arguments[1], body = JSON.stringify({messages: [{role: 'user', content: 'x'}], max_tokens: 2}), got = [];
const json = {'Content-Type': 'application/json'}, chat = target + '/v1/chat/completions';
const tries = [
  () => fetch(chat, {method: 'POST', body}),
  () => fetch(chat, {method: 'POST', body, mode: 'no-cors'}),
  () => fetch(chat, {method: 'POST', body, headers: json}),
  () => fetch(chat, {method: 'POST', body: new Blob([body], {type: 'text/plain'}), mode: 'no-cors', keepalive: true}),
  () => fetch(target + '/v1/adapters/villain', {method: 'DELETE'}),
  () => fetch(target + '/v1/adapters', {method: 'POST', body: '{"name": "x", "path": "/"}', mode: 'no-cors'}),
  () => fetch(target + '/v1/models'),
  () => fetch(target + '/v1/models', {mode: 'no-cors'}),
  () => fetch(target + '/v1/status', {credentials: 'include'}),
  () => fetch(target + '/health'),
  () => fetch(target + '/'),
];
(async () => {
  for (const attempt of tries) {
    try { const r = await attempt(); got.push(r.type === 'opaque' ? 'opaque' : r.status); } catch { got.push('refused'); }
  }
  navigator.sendBeacon(chat, body);
  navigator.sendBeacon(chat, new Blob([body], {type: 'text/plain'}));
  const element = (tag, at, value) => new Promise((done) => {
    const e = document.createElement(tag);
    e[at] = value;
    if (tag === 'link') e.rel = 'stylesheet';
    e.onload = () => done(tag + ' loaded');
    e.onerror = () => done(tag + ' refused');
    setTimeout(() => done(tag + ' nothing'), 3000);
    document.body.append(e);
  });
  got.push(await element('img', 'src', target + '/page/icon.svg'));
  got.push(await element('script', 'src', target + '/page/theme.js'));
  got.push(await element('link', 'href', target + '/page/style.css'));
  got.push(await new Promise((done) => {
    const s = new EventSource(target + '/v1/steps');
    s.onopen = () => done('events opened');
    s.onerror = () => done('events refused');
  }));
  got.push(await new Promise((done) => {
    const s = new WebSocket(target.replace('http', 'ws') + '/v1/steps');
    s.onopen = () => done('socket opened');
    s.onerror = () => done('socket refused');
  }));
  const frame = document.createElement('iframe');
  frame.name = 'frame';
  document.body.append(frame);
  for (const [path, enctype] of [['/v1/chat/completions', 'text/plain'], ['/v1/adapters', 'application/x-www-form-urlencoded']]) {
    const form = Object.assign(document.createElement('form'), {method: 'post', action: target + path, enctype, target: 'frame'});
    form.append(Object.assign(document.createElement('input'), {name: body.slice(0, -1) + ', "x": "', value: '"}'}));
    document.body.append(form);
    const loaded = new Promise((done) => { frame.onload = () => done(); setTimeout(done, 3000); });
    form.submit();
    await loaded;
  }
  frame.src = target + '/';
  await new Promise((done) => { frame.onload = done; setTimeout(done, 3000); });
  try { got.push('frame ' + frame.contentDocument.title); } catch { got.push('frame refused'); }
  say(got);
})();
"""


@pytest.fixture(scope="module")
def browser():
    b = Browser(hosts=["evil.example"])
    yield b
    b.close()


@pytest.fixture(scope="module")
def elsewhere():
    """A web server that is not ours; its page is empty."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body></body>")

        def log_message(self, *args):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_address[1]
    web.shutdown()


def attack(browser, origin, target):
    browser.open(origin)
    return browser.do("POST", "/execute/async", {"script": ATTACK, "args": [target]})


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1"])
def test_another_origin_is_let_in_nowhere(browser, elsewhere, fake, host):
    s = fake()
    got = attack(browser, f"http://{host}:{elsewhere}/", s.url)
    assert not [x for x in got if x == 200 or "loaded" in str(x) or "opened" in str(x)], got
    assert got[-1] == "frame refused", got
    assert s.metric("chorus_engine_requests_accepted_total") == 0
    assert sorted(a["name"] for a in s.get("/v1/adapters")[1]["data"]) == sorted(["wood-elf", "villain", "marketing", "summary", "image-prompt"])
    lines = re.findall(r'^chorus_requests_total{route="(.*)",outcome="(.*)"} (\d+)$', s.request("GET", "/metrics")[2].decode(), re.M)
    asked = sum(int(n) for _, outcome, n in lines if outcome == "client_error")
    well = {route: int(n) for route, outcome, n in lines if outcome == "ok" and int(n)}
    assert well == {"/metrics": 1, "/v1/adapters": 1}  # our own two
    print(f"figure: a page of {host}: {asked} requests reached the server, 0 were accepted")
    assert asked >= 8  # they did arrive: it is the server that refuses, not the browser alone


def test_a_name_that_points_here(browser, fake):
    """Rebinding: the page's own name resolves to the server, so the browser sees one origin."""
    s = fake()
    name = f"http://evil.example:{s.port}"
    browser.open(f"{name}/")
    assert "this Host is not served here" in browser.script("return document.body.innerText")
    got = attack(browser, f"{name}/", name)
    assert not [x for x in got if x == 200 or "loaded" in str(x) or "opened" in str(x)], got
    assert s.metric("chorus_engine_requests_accepted_total") == 0


def test_the_attack_works_where_the_origin_is_named(browser, elsewhere, fake):
    """The control: what would be seen if the guard let it in."""
    s = fake(origin=[f"http://evil.example:{elsewhere}"])
    got = attack(browser, f"http://evil.example:{elsewhere}/", s.url)
    assert got[2] == 200 and got[6] == 200, got
    assert s.metric("chorus_engine_requests_accepted_total") >= 1
