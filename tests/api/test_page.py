"""The page at "/": its headers, its size, and that its files fit together. What it does in a browser: test_browser.py."""
import json
import re

import pytest

from conftest import ROOT

PAGE = ROOT / "server/page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = sorted(PAGE.iterdir())
SCRIPTS = {p.name: p.read_text() for p in FILES if p.suffix == ".js"}
HTML = (PAGE / "index.html").read_text()
BYTES_MAX = 72 << 10


def path_of(file):
    return "/" if file.name == "index.html" else f"/page/{file.name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_files_are_served_as_they_are(plain, file):
    status, headers, body = plain.request("GET", path_of(file))
    assert status == 200 and headers["content-type"] == TYPES[file.suffix] and body == file.read_bytes()
    status, headers, body = plain.request("HEAD", path_of(file))
    assert status == 200 and body == b"" and int(headers["content-length"]) == file.stat().st_size


@pytest.mark.parametrize("path", ["/page/index.html", "/page/nothing.js", "/page//app.js", "/page/app.js/", "/page/%61pp.js", "/index.html"])
def test_other_paths_are_nothing(plain, path):
    status, _, body = plain.request("GET", path)
    assert status == 404 and json.loads(body)["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_files_are_only_read(plain, path, method):
    status, headers, _ = plain.request(method, path, {} if method == "POST" else None)
    assert status == 405 and headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_headers(plain, file):
    _, headers, _ = plain.request("GET", path_of(file))
    policy = dict(rule.strip().partition(" ")[::2] for rule in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
        "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'"}
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-cache"
    assert headers["cross-origin-opener-policy"] == "same-origin" and headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer" and "set-cookie" not in headers
    assert not [h for h in headers if h.startswith("access-control")]


@pytest.mark.parametrize("headers,wanted", [
    ({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200)])
def test_the_page_has_a_guard_too(plain, headers, wanted):
    assert plain.request("GET", "/", headers=headers)[0] == wanted
    assert plain.request("GET", "/page/app.js", headers=headers)[0] == wanted


def test_the_page_is_there_while_the_model_loads(fake):
    s = fake(load_ms=3000, wait_ready=False)
    assert s.request("GET", "/")[0] == 200 and s.request("GET", "/v1/models")[0] == 503


def test_size():
    total = sum(f.stat().st_size for f in FILES)
    print(f"figure: the page: {total} bytes in {len(FILES)} files")
    assert total <= BYTES_MAX
    assert not {f.name: n for f in FILES if (n := len(f.read_text().splitlines())) > 800}


def test_no_resource_of_others_and_nothing_inline():
    for name, text in {"index.html": HTML, "style.css": (PAGE / "style.css").read_text(), **SCRIPTS}.items():
        assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]|@import|url\(", re.sub(r"^\s*//.*$", "", text, flags=re.M)), name
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", HTML)
    assert set(re.findall(r'(?:src|href)="([^"]+)"', HTML)) <= {path_of(f) for f in FILES} | {"#prompt"}


def test_text_never_becomes_markup():
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc|createContextualFragment", text), name


def test_what_scripts_name_is_in_the_page():
    ids = re.findall(r'\sid="([^"]+)"', HTML)
    assert len(ids) == len(set(ids)) > 50
    parts = set(re.findall(r'data-part="([^"]+)"', HTML))
    used = set()
    for name, text in SCRIPTS.items():
        for i in re.findall(r'(?:byId|cloneTemplate)\("([^"]+)"\)', text):
            assert i in ids, (name, i)
            used.add(i)
        for p in re.findall(r'part\([\w.]+, "([^"]+)"\)', text):
            assert p in parts, (name, p)
            used.add(p)
        for f in re.findall(r'from "\./([^"]+)"', text):
            assert f in SCRIPTS, (name, f)
    assert len(used) > 60
    for target in re.findall(r'(?:\sfor|aria-labelledby|aria-controls)="([^"]+)"', HTML):
        assert target in ids, target


def test_every_control_has_a_name():
    for tag, attributes in re.findall(r"<(input|textarea|select|canvas)\b([^>]*)>", HTML):
        own = re.search(r'\sid="([^"]+)"', attributes)
        labelled = "aria-label=" in attributes or (own and f'for="{own.group(1)}"' in HTML)
        wrapped = own and re.search(rf'<label[^>]*>(?:(?!</label>).)*id="{own.group(1)}"', HTML, re.S)
        in_script = 'data-part="voice"' in attributes  # side.js names it after its side
        radio = 'type="radio"' in attributes
        assert labelled or wrapped or in_script or radio, (tag, attributes)
