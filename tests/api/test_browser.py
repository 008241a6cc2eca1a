"""The page in a headless Chromium: what a user does with it, and what pages of other origins cannot do. Screenshots: build/page/."""
import json
import re
import shutil

import pytest

from browser import BROWSER, Browser
from conftest import BUILD, DEMO, start_real

pytestmark = pytest.mark.skipif(not BROWSER, reason="no browser here (Debian: chromium chromium-driver)")
SHOTS = BUILD / "page"
READY = "document.querySelector('#server-state').dataset.state === 'ok'"
A, B = ".side:nth-child(1)", ".side:nth-child(2)"
STORY = "Tell me a story about a lantern."


@pytest.fixture(scope="module")
def browser():
    b = Browser(hosts=["evil.example"])
    yield b
    b.close()


@pytest.fixture
def visit(browser):
    """Opens a server's page as somebody who was never there. What it did is judged at the end."""
    opened = []

    def go(server, width=1440, height=900, ready=True):
        browser.size(width, height)
        browser.media(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
        browser.open(server.url + "/page/icon.svg")
        browser.script("localStorage.clear(); sessionStorage.clear()")
        browser.console(), browser.requests()
        browser.open(server.url + "/")
        opened.append(server.url)
        if ready:
            browser.wait(READY)
        return browser

    yield go
    for url in opened:
        broken = [line for line in browser.console() if "Failed to load resource" not in line]
        assert broken == [], "errors or broken policies in the console"
        assert [u for u in browser.requests() if not u.startswith((url + "/", "chrome:", "data:", "about:"))] == [], "another origin was asked"
    browser.open("about:blank")


def idle(b):
    b.wait("document.querySelectorAll('[data-part=stop]:not([hidden])').length === 0")


def voice(b, side, value):
    b.choose(f"{side} [data-part=voice]", value)


def answers(b, side):
    return b.script("return [...document.querySelectorAll(arguments[0] + ' .text')].map(t => t.textContent)", side)


def set_field(b, name, value):
    b.slide(f"#{name}", value)


def seeded(b, seed, tokens):
    set_field(b, "seed", str(seed))
    set_field(b, "max_tokens", str(tokens))


def told(server, **fields):
    body = {"messages": [{"role": "user", "content": STORY}], **fields}
    return server.post("/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]


# ---- talking ----

def test_two_voices(server, visit):
    b = visit(server)
    b.shoot(SHOTS / "empty.png")
    voice(b, A, "one:wood-elf")
    voice(b, B, "base:")
    seeded(b, 9007199254740993, 80)  # a seed that a JavaScript number cannot hold
    b.type("#prompt", STORY + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    fields = {"seed": 9007199254740993, "max_tokens": 80}
    assert answers(b, A) == [told(server, adapter="wood-elf", **fields)]
    assert answers(b, B) == [told(server, adapter=[], **fields)]
    for side in (A, B):
        assert re.search(r"[\d.,]+ tok/s · first token [\d.,]+ m?s · \d+ tokens", b.text(f"{side} .stats"))
    b.click(f"{A} article [data-part=request]")
    body = json.loads(b.text("#request-body"))
    assert body["adapter"] == "wood-elf" and body["seed"] == 9007199254740993 and body["max_tokens"] == 80
    assert body["messages"] == [{"role": "user", "content": STORY}] and body["stream"] is True
    curl = b.text("#request-curl")
    assert curl.startswith(f"curl -N {server.url}/v1/chat/completions") and "Authorization" not in curl
    b.shoot(SHOTS / "request.png")
    b.press("Escape")
    # The conversation goes on, on one side only.
    b.click("#targets label:nth-of-type(2)")
    b.type("#prompt", "And then?\n")
    b.wait("document.querySelectorAll('.stats').length === 3")
    idle(b)
    assert len(answers(b, A)) == 2 and len(answers(b, B)) == 1
    b.click(f"{A} article:last-child [data-part=request]")
    assert [m["role"] for m in json.loads(b.text("#request-body"))["messages"]] == ["user", "assistant", "user"]
    b.press("Escape")
    b.shoot(SHOTS / "talk.png")
    b.media(prefers_color_scheme="dark")
    b.shoot(SHOTS / "talk-dark.png")


def test_a_blend_by_sliders(server, visit):
    b = visit(server)
    voice(b, A, "one:villain")
    voice(b, B, "blend:")
    rows = f"{B} .blend-row"
    assert b.script("return document.querySelectorAll(arguments[0]).length", rows) == 2
    b.click(f"{B} .blend > .link")
    assert b.script("return document.querySelectorAll(arguments[0]).length", rows) == 3
    b.click(f"{rows}:nth-child(3) button")
    for row, name, weight in ((1, "wood-elf", 0.7), (2, "villain", 0.3)):
        b.choose(f"{rows}:nth-child({row}) select", name)
        b.script("document.querySelector(arguments[0]).focus()", f"{rows}:nth-child({row}) input")
        b.press(*["Right" if weight > 0.5 else "Left"] * 4)  # 0.05 a press, from 0.5
    seeded(b, 7, 60)
    b.type("#prompt", STORY + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    parts = [{"name": "wood-elf", "weight": 0.7}, {"name": "villain", "weight": 0.3}]
    assert answers(b, B) == [told(server, adapter=parts, seed=7, max_tokens=60)]
    assert b.text(f"{B} .who") == "wood-elf 0.70 + villain 0.30"
    b.shoot(SHOTS / "blend.png")
    # Voices, weights and sampling are there again after a reload; what was said is not kept anywhere.
    b.reload()
    b.wait(READY)
    assert b.script("return document.querySelector(arguments[0]).value", f"{A} [data-part=voice]") == "one:villain"
    assert b.script("return [...document.querySelectorAll(arguments[0])].map(i => i.value)", f"{rows} input") == ["0.7", "0.3"]
    assert b.script("return document.querySelector('#seed').value") == "7" and answers(b, B) == []
    assert "lantern" not in b.script("return JSON.stringify({...localStorage, ...sessionStorage})")


def test_again_and_clear(server, visit):
    b = visit(server)
    voice(b, A, "one:wood-elf")
    b.click("#targets label:nth-of-type(2)")
    seeded(b, 1, 20)
    b.type("#prompt", STORY + "\n")
    b.wait("document.querySelectorAll('.stats').length === 1")
    idle(b)
    first = answers(b, A)
    seed, other = next((seed, text) for seed in range(2, 99) if (text := told(server, adapter="wood-elf", seed=seed, max_tokens=20)) != first[0])
    set_field(b, "seed", str(seed))
    b.click(f"{A} [data-part=again]")
    b.wait("arguments[0] === document.querySelector('.text').textContent", 30, other)
    idle(b)
    b.click(f"{A} [data-part=clear]")
    assert answers(b, A) == []


def test_stop_ends_the_work(fake, visit):
    s = fake(step_us=20000)
    b = visit(s)
    b.type("#prompt", "word " * 400 + "\n")
    b.wait("[...document.querySelectorAll('.text')].filter(t => t.textContent.length > 20).length === 2")
    b.shoot(SHOTS / "streaming.png")
    assert s.metric("chorus_requests_running") == 2
    b.click(f"{A} [data-part=stop]")
    s.wait_metric("chorus_requests_running", 1)
    stopped = answers(b, A)
    assert b.text(f"{A} .stats").startswith("stopped")
    before = answers(b, B)
    b.wait("document.querySelector(arguments[0]).textContent.length > arguments[1]", 30, f"{B} .text", len(before[0]))
    assert answers(b, A) == stopped
    b.script("document.querySelector('#prompt').focus()")
    b.press("Escape")
    s.wait_metric("chorus_requests_running", 0)
    assert s.metric("chorus_engine_requests_cancelled_total") == 2 and s.metric("chorus_kv_pages_used") == 0
    # What was stopped stays in the conversation.
    b.click("#targets label:nth-of-type(2)")
    b.type("#prompt", "next")
    b.click(f"{A} > header [data-part=request]")
    messages = json.loads(b.text("#request-body"))["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"] and messages[1]["content"] == stopped[0]
    b.press("Escape")
    # Leaving the page stops the work too.
    b.press("Tab")
    b.click("#send")
    s.wait_metric("chorus_requests_running", 1)
    b.open("about:blank")
    s.wait_metric("chorus_requests_running", 0)


def test_thoughts_are_folded(fake, visit):
    b = visit(fake())
    b.type("#prompt", "<think>hm, well</think>Hello\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    assert answers(b, A) == ["Hello"]
    assert b.script("const d = document.querySelector('details[data-part=thoughts]'); return [d.hidden, d.open, d.textContent.includes('hm, well')]") == [False, False, True]
    b.click(f"{A} summary")
    assert "hm, well" in b.text(f"{A} details")
    b.shoot(SHOTS / "thoughts.png")
    # They are not part of what the model is told of its own answer.
    b.click(f"{A} > header [data-part=request]")
    assert json.loads(b.text("#request-body"))["messages"][1] == {"role": "assistant", "content": "Hello"}


def test_long_names_and_many(fake, visit):
    s = fake()
    b = visit(s, 390, 844)
    b.script("""const real = fetch; window.fetch = async (path, ...rest) => { const r = await real(path, ...rest); if (path !== '/v1/adapters') return r;
        const one = (await r.json()).data[0]; return Response.json({data: Array.from({length: 300}, (_, i) => ({...one, name: 'x'.repeat(60) + i, generation: i + 1, tier: ['device', 'host', 'disk'][i % 3]}))}); }""")
    b.wait("document.querySelectorAll('#adapters-list li').length === 300")
    b.click("#views [data-view=adapters]")
    b.type("#adapters-filter", "299")
    b.wait("document.querySelectorAll('#adapters-list li').length === 1")
    b.shoot(SHOTS / "many.png")
    assert b.script("return document.documentElement.scrollWidth") <= 390
    b.click("#views [data-view=talk]")
    voice(b, A, "one:" + "x" * 60 + "7")
    assert b.script("return document.documentElement.scrollWidth") <= 390
    b.shoot(SHOTS / "long-name.png")


def test_text_stays_text(fake, visit):
    b = visit(fake())
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    b.type("#prompt", evil + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    assert "<img" in answers(b, A)[0]
    assert b.script("return document.querySelectorAll('.turns img, .turns script').length") == 0
    assert b.text(f"{A} .user") == evil


# ---- what goes wrong ----

def test_errors_in_their_place(server, visit):
    b = visit(server)
    set_field(b, "temperature", "much")
    b.type("#prompt", STORY + "\n")
    assert b.text("#composer-error") == "Temperature is not a number."
    assert b.script("return document.activeElement.id") == "temperature"
    set_field(b, "temperature", "99")
    b.click("#send")
    b.wait("document.querySelectorAll('.turn .error:not([hidden])').length === 2")
    message = server.post("/v1/chat/completions", {"messages": [], "temperature": 99})[1]["error"]["message"]
    assert message in b.text(f"{A} .error")
    b.shoot(SHOTS / "error.png")
    set_field(b, "temperature", "")
    set_field(b, "max_tokens", "5")
    b.click(f"{A} [data-part=again]")
    b.wait(f"document.querySelector('{A} .text').textContent")
    idle(b)
    assert b.script("return document.querySelector(arguments[0]).hidden", f"{A} .error")


def test_a_server_with_keys(fake, visit, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-alpha\n")
    s = fake(keys=keys)
    b = visit(s, ready=False)
    b.wait("!document.querySelector('#banner').hidden")
    assert "API key" in b.text("#banner") and b.script("return document.querySelector('#send').disabled")
    b.shoot(SHOTS / "locked.png")

    def give(key, keep=False):
        b.click("#key-button")
        b.type("#key-field", key)
        if keep:
            b.click("#key-keep")
        b.click("#key-save")

    give("sk-wrong")
    b.wait("document.querySelector('#banner').textContent.includes('not one of them')")
    give("sk-alpha")
    b.wait(READY)
    b.type("#prompt", "hello\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    assert answers(b, A)[0]
    b.wait("document.querySelector('#steps-problem').hidden && document.querySelector('#figure-kv').textContent !== '–'")
    b.click(f"{A} article [data-part=request]")
    assert "$CHORUS_API_KEY" in b.text("#request-curl") and "sk-" not in b.text("#request-curl")
    b.press("Escape")
    assert "sk-" not in b.script("return JSON.stringify({...localStorage, ...sessionStorage}) + location")
    b.reload()
    b.wait("!document.querySelector('#banner').hidden")
    give("sk-alpha", keep=True)
    b.wait(READY)
    b.reload()
    b.wait(READY)
    assert "sk-" not in b.script("return JSON.stringify({...localStorage}) + location + document.cookie")


def test_beyond_loopback_it_says_what_is_missing(fake, visit):
    """A Host that anybody may send makes no origin ours: such a page has to be named."""
    s = fake(host="0.0.0.0")
    b = visit(s, ready=False)
    b.wait("!document.querySelector('#banner').hidden")
    assert f"--allow-origin {s.url}" in b.text("#banner")
    port = s.port
    assert s.stop() == 0
    s = fake(host="0.0.0.0", port=port, origin=[f"http://127.0.0.1:{port}"])
    b = visit(s)
    b.type("#prompt", "hello\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    assert answers(b, A)[0]


def test_loading_then_ready_then_away(fake, visit):
    s = fake(load_ms=1500, wait_ready=False)
    b = visit(s, ready=False)
    b.wait("document.querySelector('#server-state').dataset.state === 'loading'")
    assert "loading" in b.text("#banner")
    b.wait(READY)
    assert b.script("return document.querySelector('#banner').hidden")
    s.stop()
    b.wait("document.querySelector('#server-state').dataset.state === 'away'")
    b.shoot(SHOTS / "away.png")
    b.console()


# ---- steps and adapters ----

def test_steps_are_seen(fake, visit):
    s = fake(step_us=5000)
    b = visit(s)
    voice(b, A, "one:wood-elf")
    voice(b, B, "one:villain")
    b.type("#prompt", "word " * 100 + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    b.wait("Number(document.querySelector('#figure-rows').textContent) > 0")
    legend = b.script("return [...document.querySelectorAll('#steps-legend li')].map(l => l.textContent)")
    assert legend == ["villain", "wood-elf"]
    b.script("document.querySelector('#steps-plot').focus()")
    b.press("Left", "Left")
    assert re.match(r"Step [\d,]+: \d+ rows.* in [\d.]+ ms: ", b.text("#steps-picked"))
    assert b.script("return document.querySelector('#steps-plot').getAttribute('aria-valuetext')") == b.text("#steps-picked")
    colours = b.script("""const c = document.querySelector('#steps-plot'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = {};
        for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 250) { const k = [d[i], d[i + 1], d[i + 2]].join(); seen[k] = (seen[k] || 0) + 1; }
        return Object.values(seen).filter(n => n > 20).length""")
    assert colours >= 2
    b.shoot(SHOTS / "steps.png")
    # Only who looks is a watcher: another view, and the server may rest.
    assert s.get("/v1/status")[1]["watchers"] == 1
    b.size(390, 844)
    b.wait("getComputedStyle(document.querySelector('#watch')).display === 'none'")
    wait_watchers(s, 0)
    b.click("#views [data-view=steps]")
    wait_watchers(s, 1)
    b.shoot(SHOTS / "steps-phone.png")


def wait_watchers(server, wanted):
    import time
    end = time.monotonic() + 10
    while server.get("/v1/status")[1]["watchers"] != wanted:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("changing")
    shutil.copytree(DEMO / "adapters", tmp / "root")
    shutil.copytree(DEMO / "adapters/villain", tmp / "root/broken")
    config = tmp / "root/broken/adapter_config.json"
    config.write_text(config.read_text().replace('"r": 8', '"r": 7'))
    s = start_real(tmp, "--model", str(DEMO), "--adapter", f"elf={DEMO / 'adapters/wood-elf'}", "--adapter-root", str(tmp / "root"))
    yield s
    assert s.stop() == 0


def listed(b):
    return b.script("return [...document.querySelectorAll('#adapters-list strong')].map(n => n.textContent)")


def test_adapters_check_load_unload(changing, visit):
    b = visit(changing)
    b.wait("document.querySelectorAll('#adapters-list li').length === 1")
    b.type("#load-path", "nothing-here")
    b.click("#load-check")
    b.wait("document.querySelector('#load-report .error')")
    assert changing.post("/v1/adapters/check", {"path": "nothing-here"})[1]["error"]["message"] in b.text("#load-report")
    b.script("document.querySelector('#load-path').value = ''")
    b.type("#load-path", "broken")
    b.click("#load-check")
    b.wait("document.querySelector('#load-report .verdict.bad')")
    report = changing.post("/v1/adapters/check", {"path": "broken"})[1]
    assert report["ok"] is False and report["error"]["message"] in b.text("#load-report")
    b.script("document.querySelector('#load-report').scrollIntoView()")
    b.shoot(SHOTS / "check-refused.png")
    b.script("document.querySelector('#load-path').value = ''")
    b.type("#load-path", "villain")
    b.click("#load-check")
    b.wait("document.querySelector('#load-report .verdict.good')")
    assert "It would load." in b.text("#load-report") and "rank\n8" in b.text("#load-report")
    assert changing.get("/v1/adapters")[1]["data"][0]["name"] == "elf" and listed(b) == ["elf"]
    b.shoot(SHOTS / "check.png")
    b.type("#load-name", "bad-guy")
    b.click("#load-pinned")
    b.click("#load-send")
    b.wait("document.querySelectorAll('#adapters-list li').length === 2")
    assert changing.get("/v1/adapters/bad-guy")[1]["pinned"] is True and "pinned" in b.text("#adapters-list")
    voice(b, B, "one:bad-guy")
    b.type("#prompt", STORY + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    assert answers(b, B)[0]
    b.click("#adapters-list button[data-name=bad-guy]")
    assert b.text("#adapters-list button[data-name=bad-guy]") == "Unload?" and len(listed(b)) == 2
    b.click("#adapters-list button[data-name=bad-guy]")
    b.wait("document.querySelectorAll('#adapters-list li').length === 1")
    assert changing.get("/v1/adapters/bad-guy")[0] == 404
    assert b.script("const s = document.querySelector(arguments[0]); return s.selectedOptions[0].textContent", f"{B} [data-part=voice]") == "bad-guy (not here)"
    b.click(f"{B} [data-part=again]")
    b.wait(f"document.querySelector('{B} .error:not([hidden])')")
    assert "bad-guy" in b.text(f"{B} .error")


# ---- for everybody ----

CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const rgb = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
const light = ([r, g, b]) => { const l = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const under = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return [255, 255, 255]; };
const poor = [];
let seen = 0;
for (const e of document.querySelectorAll('body *')) {
  if (!e.checkVisibility() || e.closest('.sr') || e.disabled || e.closest(':disabled')) continue;
  const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (e.matches('.swatch')) {
    seen++;
    const colour = getComputedStyle(e).backgroundColor;
    if (rgb(colour)[3] > 250 && ratio(rgb(colour), under(e.parentElement)) < 3) poor.push(e.parentElement.textContent + ' swatch');
  }
  if (!text && !e.matches('input, textarea')) continue;
  seen++;
  const r = ratio(rgb(getComputedStyle(e).color), under(e));
  if (r < 4.5) poor.push(`${e.tagName} "${e.textContent.slice(0, 30)}" ${r.toFixed(2)}`);
}
return {poor, seen};
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(server, visit, theme):
    b = visit(server)
    if theme == "dark":
        b.click("#theme-button"), b.click("#theme-button")
        assert b.script("return document.documentElement.dataset.theme") == "dark"
    voice(b, B, "blend:")
    b.click("#settings-button")
    set_field(b, "max_tokens", "5")
    b.type("#prompt", STORY + "\n")
    b.wait("document.querySelectorAll('.stats').length === 2")
    idle(b)
    set_field(b, "max_tokens", "0.5")
    b.type("#prompt", "And then?\n")
    b.wait("document.querySelectorAll('.turn .error:not([hidden])').length === 2")
    b.click("#adapters-list button")
    b.script("document.activeElement.blur(); document.getAnimations().forEach(a => a.finish())")
    found = b.script(CONTRAST)
    assert found["poor"] == [] and found["seen"] > 60, found
    b.shoot(SHOTS / f"everything-{theme}.png")
    if theme == "dark":  # a choice outlives a reload and is there before anything is painted
        b.reload()
        assert b.script("return document.documentElement.dataset.theme") == "dark"
        assert b.script("return getComputedStyle(document.documentElement).colorScheme") == "dark"


@pytest.mark.parametrize("width", [320, 390, 768, 1080, 1081])
def test_fits_the_width(server, visit, width):
    b = visit(server, width, 800)
    voice(b, B, "blend:")
    b.click("#settings-button")
    for view in ("talk", "steps", "adapters"):
        if width <= 1080:
            b.click(f"#views [data-view={view}]")
        assert b.script("return document.documentElement.scrollWidth") <= width, view
        cut = b.script("""return [...document.querySelectorAll('button, input, select, textarea')].filter(e => e.checkVisibility() && !e.matches('[type=radio]'))
            .filter(e => { const r = e.getBoundingClientRect(); return r.left < 0 || r.right > innerWidth + 0.5 }).map(e => e.id || e.textContent)""")
        assert cut == [], view
        if width == 390:
            b.shoot(SHOTS / f"phone-{view}.png")


def test_keyboard_only(fake, visit):
    s = fake(step_us=20000)
    b = visit(s)
    b.press("Shift+Tab")
    b.script("document.activeElement.blur(); getSelection().removeAllRanges()")
    order, plain_focus = [], []
    for _ in range(60):
        b.press("Tab")
        name, outline = b.script("""const e = document.activeElement, s = getComputedStyle(e.matches('[type=radio]') ? e.nextElementSibling : e);
            return [e === document.body ? 'BODY' : e.id || e.dataset.part || e.dataset.name || e.name || e.textContent.slice(0, 20) || e.tagName, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0]""")
        if name in order and name not in ("voice", "request", "clear", "turns") and len(order) > 10:
            break
        order.append(name)
        if not outline:
            plain_focus.append(name)
    wanted = {"key-button", "theme-button", "voice", "request", "clear", "turns", "prompt", "target", "settings-button", "send", "steps-pause",
              "steps-plot", "villain", "load-path", "load-name", "load-pinned", "load-check", "load-send"}
    assert wanted <= set(order), wanted - set(order)
    assert [n for n in plain_focus if n != "BODY"] == []
    # From the skip link to an answer, and to its end, without a pointer.
    b.script("document.querySelector('.skip').focus()")
    b.press("Enter")
    assert b.script("return document.activeElement.id") == "prompt"
    b.press(*"hello", "Enter")
    b.wait("document.querySelectorAll('.text').length === 2")
    idle(b)
    assert "done" in b.text("#announcer")
    b.press("Shift+Enter", *("word " * 60))
    assert b.script("return document.querySelector('#prompt').value").startswith("\n")
    b.press("Enter")
    s.wait_metric("chorus_requests_running", 2)
    b.press("Escape")
    s.wait_metric("chorus_requests_running", 0)
    assert "stopped" in b.text("#announcer")


def test_reduced_motion(server, visit):
    b = visit(server)
    b.media(prefers_reduced_motion="reduce")
    moving = b.script("return [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s' || getComputedStyle(e).animationName !== 'none').length")
    assert moving == 0
