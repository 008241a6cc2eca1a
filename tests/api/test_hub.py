"""chorus pull, ls and rm, and --model org/name, against a hub on this machine (fake_hub.py)."""
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from conftest import BUILD, DEMO, SLOW, start_real
from fake_hub import Fault, Hub, Repository, etag_of

huggingface_hub = pytest.importorskip("huggingface_hub")

CHORUS = str(BUILD / "chorus")
STORY = "org/story"
WEIGHTS = "model.safetensors"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


def demo_files():
    return {p.name: p.read_bytes() for p in DEMO.iterdir() if p.is_file() and p.name != "training.json"}


@pytest.fixture
def hub():
    h = Hub()
    h.repositories[STORY] = Repository(demo_files())
    yield h
    h.close()


@pytest.fixture
def place(tmp_path, hub):
    return Place(tmp_path / "hub", hub)


@pytest.fixture(scope="module", autouse=True)
def needs_libcurl(tmp_path_factory):
    env = dict(os.environ, HF_ENDPOINT="ftp://nowhere", HF_HUB_CACHE=str(tmp_path_factory.mktemp("none")))
    done = subprocess.run([CHORUS, "pull", "a/b"], capture_output=True, text=True, env=env)
    if "libcurl" in done.stderr:
        pytest.skip(done.stderr.strip())


class Place:
    """A cache, and the commands on it."""

    def __init__(self, cache, hub):
        self.cache, self.hub = cache, hub
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "CHORUS_")) and k not in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
        self.env |= {"HF_HUB_CACHE": str(cache), "HF_HOME": str(cache.parent / "home"), "HF_ENDPOINT": hub.url}

    def start(self, *args, **env):
        return subprocess.Popen([CHORUS, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.env | env)

    def run(self, *args, code=0, text_in="", **env):
        done = subprocess.run([CHORUS, *args], input=text_in, capture_output=True, text=True, env=self.env | env, timeout=120 * SLOW)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        return done

    def pull(self, *args, **kw):
        return self.run("pull", *args, **kw)

    def ls(self):
        return json.loads(self.run("ls", "--json").stdout)

    def repo(self, name=STORY):
        return self.cache / ("models--" + name.replace("/", "--"))

    def blobs(self, name=STORY):
        return {p.name: p for p in (self.repo(name) / "blobs").iterdir()}

    def check(self, files, name=STORY, revision="main"):
        """Every file is there with its bytes, by links that the cache may be moved with; nothing is left over."""
        commit = (self.repo(name) / "refs" / revision).read_text()
        snapshot = self.repo(name) / "snapshots" / commit
        there = {str(p.relative_to(snapshot)): p for p in snapshot.rglob("*") if not p.is_dir()}
        assert set(there) == set(files)
        for path, link in there.items():
            assert link.read_bytes() == files[path], path
            target = os.readlink(link)
            assert target == "../" * (path.count("/") + 2) + "blobs/" + etag_of(path, files[path])
        for etag, blob in self.blobs(name).items():
            data = blob.read_bytes()
            assert etag in (hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
        assert not list(self.repo(name).glob(".chorus*"))
        return snapshot


def of_cdn(hub):
    return [r for r in hub.requests if r[0] == "cdn" and r[1] == "GET"]


# ---- the cache is one with huggingface_hub's ----

def test_pull_is_read_by_huggingface_hub(place, hub):
    files = demo_files() | {"1_Pooling/config.json": b"{}", "empty.jinja": b""}
    extra = {"pytorch_model.bin": b"x" * 100, "original/model.safetensors": b"y" * 100, "model.fp16.safetensors": b"z"}
    hub.repositories[STORY] = Repository(files | extra)
    done = place.pull(STORY)
    snapshot = place.check(files)
    assert done.stdout.strip() == str(snapshot)
    assert huggingface_hub.snapshot_download(STORY, cache_dir=place.cache, local_files_only=True) == str(snapshot)
    scan = huggingface_hub.scan_cache_dir(place.cache)
    assert not scan.warnings
    (repo,) = scan.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, repo.size_on_disk, set(revision.refs), len(revision.files)) == (STORY, sum(map(len, files.values())), {"main"}, len(files))
    assert huggingface_hub.hf_hub_download(STORY, WEIGHTS, cache_dir=place.cache, endpoint=hub.url) == str(snapshot / WEIGHTS)
    assert len(of_cdn(hub)) == 1  # nothing was fetched a second time
    assert "ready" in place.run("ls").stdout
    place.run("inspect", STORY)
    place.pull(STORY, "--all")
    place.check(files | extra)


def test_cache_of_huggingface_hub_is_read(place, hub):
    path = huggingface_hub.snapshot_download(STORY, cache_dir=place.cache, endpoint=hub.url)
    fetched = len(of_cdn(hub))
    (model,) = place.ls()["models"]
    assert (model["name"], model["path"], model["revision"], model["servable"]) == (STORY, path, "main", True)
    place.run("inspect", STORY)
    assert place.pull(STORY).stdout.strip() == path
    assert len(of_cdn(hub)) == fetched
    assert "bytes) freed" in place.run("rm", STORY, "--yes").stdout
    assert not huggingface_hub.scan_cache_dir(place.cache).repos


def test_server_finds_models_in_the_cache_and_asks_nobody(place, hub, tmp_path, monkeypatch):
    adapter = DEMO / "adapters/wood-elf"
    hub.repositories["org/elf"] = Repository({p.name: p.read_bytes() for p in adapter.iterdir()})
    place.pull(STORY)
    place.pull("org/elf")
    asked = len(hub.requests)
    for k in ("HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.setenv(k, place.env[k])
    server = start_real(tmp_path, "--model", STORY, "--adapter", "elf=org/elf")
    try:
        status, models = server.get("/v1/models")
        assert [m["id"] for m in models["data"]] == [STORY, "story", "elf"]
        for model in (STORY, "story", STORY + ":elf"):
            assert server.chat("hi", model=model, max_tokens=2)["choices"]
        maps = open(f"/proc/{server.process.pid}/maps").read()
        assert "libcurl" not in maps and "libssl" not in maps
    finally:
        assert server.stop() == 0
    for command in (("serve", "--port", "0", "--model"), ("run", "--prompt", "x", "--model"), ("inspect",)):
        done = place.run(*command, "org/absent", code=3)
        assert "neither a directory nor in the Hugging Face cache" in done.stderr and "chorus pull org/absent fetches it" in done.stderr
    assert len(hub.requests) == asked


# ---- interruptions ----

def test_pull_goes_on_where_the_server_cut(place, hub):
    """50 times the connection ends at a random byte; each try asks for just what is missing."""
    files = demo_files()
    size = len(files[WEIGHTS])
    draw = random.Random(1)
    cuts = sorted(draw.sample(range(1, size), 50))
    plan = iter([b - a for a, b in zip([0, *cuts], cuts)])
    hub.fault = lambda role, method, path, headers: Fault(cut=next(plan, None)) if role == "cdn" else None
    place.pull(STORY)
    place.check(files)
    begins = [int(r[3].get("Range", "bytes=0-")[6:-1]) for r in of_cdn(hub)]
    assert begins == [0, *cuts]


def test_pull_goes_on_after_kill(place, hub):
    """50 times the client is killed while the file grows; what is there is never wrong, and never fetched again."""
    draw = random.Random(2)
    files = {"config.json": b"{}", WEIGHTS: draw.randbytes(48 << 20)}
    hub.repositories[STORY] = Repository(files)
    part = place.repo() / "blobs" / (etag_of(WEIGHTS, files[WEIGHTS]) + ".incomplete")
    hub.pace_s = 0.005
    held = 0
    for _ in range(50):
        mark = held + draw.randrange(1, 300000)
        p = place.start("pull", STORY)
        end = time.monotonic() + 60 * SLOW
        while time.monotonic() < end and p.poll() is None and not (part.exists() and part.stat().st_size >= mark):
            time.sleep(0.0005)
        assert p.poll() is None, p.communicate()
        p.kill()
        p.communicate()
        held = part.stat().st_size
        assert part.read_bytes() == files[WEIGHTS][:held]
        assert not (place.repo() / "refs/main").exists()
    hub.pace_s = 0
    listing = place.ls()
    assert listing["downloads"] == [{"name": STORY, "files": 1, "bytes": held}]
    assert not any(m["servable"] for m in listing["models"])
    assert f"not complete: {STORY}" in place.run("ls").stdout
    done = place.pull(STORY)
    place.check(files)
    assert place.ls()["downloads"] == []
    begins = [int(r[3].get("Range", "bytes=0-")[6:-1]) for r in of_cdn(hub)]
    assert begins == sorted(set(begins)) and len(begins) == 51 and begins[-1] == held, done.stderr
    print(f"figure: a pull of {len(files[WEIGHTS])} bytes was killed 50 times and made {len(begins)} requests, each from where the last had ended")


def test_pull_stopped_by_ctrl_c(place, hub):
    hub.pace_s = 0.05
    p = place.start("pull", STORY)
    while not of_cdn(hub):
        assert p.poll() is None, p.communicate()
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=10 * SLOW)
    assert p.returncode == 130 and "what came is kept" in err
    hub.pace_s = 0
    place.pull(STORY)
    place.check(demo_files())


def test_two_pulls_at_once(place, hub):
    hub.pace_s = 0.002
    both = [place.start("pull", STORY) for _ in range(2)]
    for p in both:
        out, err = p.communicate(timeout=60 * SLOW)
        assert p.returncode == 0, err
    place.check(demo_files())
    assert len(of_cdn(hub)) == 1


# ---- bytes that are wrong ----

def test_corrupt_bytes_are_noticed(place, hub):
    files = demo_files()
    hub.fault = lambda role, method, path, headers: Fault(flip=12345) if role == "cdn" else None
    done = place.pull(STORY, code=3)
    assert f"{WEIGHTS}: what came does not have the hash" in done.stderr
    assert etag_of(WEIGHTS, files[WEIGHTS]) not in place.blobs()
    assert not (place.repo() / "refs/main").exists()
    hub.fault = lambda role, method, path, headers: Fault(flip=3) if path.endswith("/config.json") and method == "GET" else None
    assert "config.json: what came does not have the hash" in place.pull(STORY, code=3).stderr
    spoilt = iter([True])
    hub.fault = lambda role, method, path, headers: Fault(flip=5) if path.endswith("/config.json") and method == "GET" and next(spoilt, False) else None
    place.pull(STORY)
    place.check(files)


def test_a_wrong_part_is_fetched_again(place, hub):
    files = demo_files()
    etag = etag_of(WEIGHTS, files[WEIGHTS])
    size = len(files[WEIGHTS])
    for junk in (b"\0" * 1000, b"\0" * size, b"\0" * (size + 1), files[WEIGHTS][:5000] + b"!"):
        blobs = place.repo() / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        (blobs / (etag + ".incomplete")).write_bytes(junk)
        place.pull(STORY)
        place.check(files)
        place.run("rm", STORY, "--yes")


@pytest.mark.parametrize("fault, says", [
    (Fault(longer=b"more"), "another size than it lists"),
    (Fault(longer=b"more", extra={"Content-Length": None, "Connection": "close"}), "more than it lists"),
    (Fault(extra={"Content-Range": "bytes 7-9/10"}), None),
], ids=["longer", "longer-unsaid", "range-unasked"])
def test_wrong_sizes(place, hub, fault, says):
    hub.fault = lambda role, method, path, headers: fault if role == "cdn" else None
    if says:
        assert says in place.pull(STORY, code=3).stderr
        assert etag_of(WEIGHTS, demo_files()[WEIGHTS]) not in place.blobs()
    else:
        place.pull(STORY)
        place.check(demo_files())


def test_answers_to_ranges(place, hub):
    """A hub that sends all instead, other bytes, or nothing."""
    files = demo_files()
    part = place.repo() / "blobs" / (etag_of(WEIGHTS, files[WEIGHTS]) + ".incomplete")
    for fault in (Fault(whole=True), Fault(status=416), None):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(files[WEIGHTS][:100000])
        hub.fault = lambda role, method, path, headers: fault if role == "cdn" and "Range" in headers else None
        place.pull(STORY)
        place.check(files)
        place.run("rm", STORY, "--yes")
    part.parent.mkdir(parents=True)
    part.write_bytes(files[WEIGHTS][:100000])
    hub.fault = lambda role, method, path, headers: Fault(extra={"Content-Range": "bytes 0-99/100"}) if role == "cdn" else None
    assert "other bytes than those asked for" in place.pull(STORY, code=3).stderr


# ---- the hub refuses, is slow, is hostile ----

def test_token_is_for_the_hub_alone(place, hub, tmp_path):
    hub.repositories[STORY].token = TOKEN
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/token").write_text(TOKEN)
    for args, env in (((), {"HF_TOKEN": TOKEN}), (("--token-file", str(file)), {"HF_TOKEN": "hf_other"}), ((), {})):
        hub.requests.clear()
        done = place.pull(STORY, *args, **env)
        place.check(demo_files())
        for role, _, path, headers in hub.requests:
            assert headers.get("Authorization") == ("Bearer " + TOKEN if role == "hub" else None), path
        assert of_cdn(hub) and TOKEN not in done.stdout + done.stderr
        place.run("rm", STORY, "--yes")
    # A hub that sends its own paths elsewhere does not get the token there either.
    for url in (hub.cdn_url, hub.same_host_url):
        hub.fault = lambda role, method, path, headers: Fault(status=302, headers={"Location": url + path}) if role == "hub" else None
        hub.requests.clear()
        place.pull(STORY, code=1, HF_TOKEN=TOKEN)
        assert [r[3].get("Authorization") for r in hub.requests if r[0] == "cdn"] == [None]
    file.write_text("two lines\nof it")
    assert "does not hold a token" in place.pull(STORY, "--token-file", str(file), code=2).stderr


def test_token_is_not_sent_in_the_clear(place, hub):
    hub.repositories[STORY].token = TOKEN
    port = hub.add("127.0.0.2")  # not one of the names that surely mean this machine
    done = place.pull(STORY, code=3, HF_TOKEN=TOKEN, HF_ENDPOINT=f"http://127.0.0.2:{port}")
    assert "the token is not sent: HF_ENDPOINT is plain http" in done.stderr
    assert hub.requests and all("Authorization" not in r[3] for r in hub.requests)


def test_certificates_are_checked(place, hub, tmp_path):
    tls = [str(tmp_path / n) for n in ("cert.pem", "key.pem")]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here to make a certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", tls[0], "-keyout", tls[1]], check=True, capture_output=True)
    hub.repositories[STORY].token = TOKEN
    url = f"https://127.0.0.1:{hub.add('127.0.0.1', tls)}"
    begin = time.monotonic()
    done = place.pull(STORY, code=3, HF_TOKEN=TOKEN, HF_ENDPOINT=url)
    assert "certificate" in done.stderr and "SSL_CERT_FILE names" in done.stderr and time.monotonic() - begin < 5 * SLOW
    assert not hub.requests
    # From https no redirect leads to http, where the CDN of this hub is.
    done = place.pull(STORY, code=3, HF_TOKEN=TOKEN, HF_ENDPOINT=url, SSL_CERT_FILE=tls[0])
    assert "a redirect leads from https to http" in done.stderr and not of_cdn(hub)
    place.run("rm", STORY, "--yes")
    del hub.repositories[STORY].commits[hub.repositories[STORY].refs["main"]][WEIGHTS]
    place.pull(STORY, "--all", HF_TOKEN=TOKEN, HF_ENDPOINT=url, SSL_CERT_FILE=tls[0])
    place.check({k: v for k, v in demo_files().items() if k != WEIGHTS})


def test_pull_of_a_commit(place, hub):
    commit = hub.repositories[STORY].refs["main"]
    hub.repositories[STORY].push({"config.json": b"{}", WEIGHTS: b"newer"})
    out = place.pull(f"{STORY}:{commit}").stdout.strip()
    assert out.endswith(commit) and not list((place.repo() / "refs").iterdir())
    for name in (f"{STORY}:{commit}", f"{STORY}:{commit[:8]}"):
        assert commit in place.run("inspect", name).stdout
    assert f"chorus pull {STORY} fetches what is missing" in place.run("inspect", STORY, code=3).stderr
    assert not huggingface_hub.scan_cache_dir(place.cache).warnings


def test_refusals_say_what_to_do(place, hub):
    hub.repositories["org/gated"] = Repository({"config.json": b"{}", WEIGHTS: b"x"}, token=TOKEN, gated=True)
    hub.repositories["org/private"] = Repository({"config.json": b"{}"}, token=TOKEN)
    hub.repositories["org/pickle"] = Repository({"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.repositories["org/gguf"] = Repository({"a.Q4_K_M.gguf": b"g", "b.Q8_0.gguf": b"h", "README.md": b"r"})
    for args, env, code, says in [
        (["org/gated"], {}, 1, f"org/gated is gated: accept its terms at {hub.url}/org/gated, then give a token"),
        (["org/gated"], {"HF_TOKEN": "hf_x"}, 1, "gated and the token's account has no access"),
        (["org/private"], {}, 3, "has no org/private; if it is private, give a token"),
        (["org/private"], {"HF_TOKEN": "hf_x"}, 3, "or the token's account may not see it"),
        (["org/none"], {}, 3, "has no org/none"),
        ([STORY + ":v9"], {}, 3, f"{STORY} has no revision v9"),
        (["org/pickle"], {}, 3, "has no safetensors, which is what Chorus reads"),
        (["org/gguf"], {}, 3, "choose with --file: a.Q4_K_M.gguf, b.Q8_0.gguf"),
        ([STORY, "--file", "*.xyz"], {}, 3, "no file that --file asks for"),
        (["../etc"], {}, 2, "is not ORG/NAME"),
        ([], {}, 2, "is needed"),
        ([STORY], {"HF_ENDPOINT": "gopher://x"}, 2, "HF_ENDPOINT is not an http(s) address"),
        ([STORY], {"HF_ENDPOINT": "http://127.0.0.1:1"}, 3, "the list of files: Failed to connect"),
    ]:
        done = place.pull(*args, code=code, **env)
        assert says in done.stderr.splitlines()[-1], (args, done.stderr)
    place.pull("org/gguf", "--file", "*Q4_K_M.gguf")
    place.check({"a.Q4_K_M.gguf": b"g"}, "org/gguf")


def test_passing_troubles_are_waited_out(place, hub):
    troubles = iter([Fault(status=503), Fault(status=429, headers={"Retry-After": "1"}), Fault(status=500)])
    hub.fault = lambda role, method, path, headers: next(troubles, None)
    begin = time.monotonic()
    done = place.pull(STORY)
    assert time.monotonic() - begin >= 1 and "answers 429; trying again in 1 s" in done.stderr
    place.check(demo_files())
    hub.fault = lambda role, method, path, headers: Fault(status=429, headers={"Retry-After": "100000"})
    assert "too many requests for now" in place.pull(STORY, code=5).stderr
    place.run("rm", STORY, "--yes")
    stalls = iter([Fault(stall_s=3)])
    hub.fault = lambda role, method, path, headers: next(stalls, None) if role == "cdn" else None
    place.pull(STORY, "--timeout", "1")
    place.check(demo_files())


HOSTILE = ["../../../escape", "/etc/escape", "a/../../escape", "..", "a\\..\\escape", "line\nbreak", "\x1b[2Jescape", "a//b", "", ".",
           "x" * 300, "/".join("a" * 20), "snow\ud83d"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(place, hub, tmp_path, name):
    commit = hub.repositories[STORY].refs["main"]
    body = json.dumps({"sha": commit, "siblings": [{"rfilename": "config.json"}, {"rfilename": name}]}).encode()
    hub.fault = lambda role, method, path, headers: Fault(body=body)
    for args in ((), ("--all",)):
        done = place.pull(STORY, *args, code=3)
        assert "\x1b" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert not place.cache.exists() and not list(tmp_path.glob("*"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"sha": "../../x", "siblings": []}', b'{"sha": "main", "siblings": []}',
                                  b'{"siblings": [{"rfilename": "config.json"}]}', b"{" * 100000,
                                  b'{"sha": "%s", "siblings": [{"rfilename": "config.json", "size": -1}]}' % (b"0" * 40),
                                  b'{"sha": "%s", "siblings": [7]}' % (b"0" * 40)], ids=range(9))
def test_hostile_lists(place, hub, body):
    hub.fault = lambda role, method, path, headers: Fault(body=body)
    place.pull(STORY, code=3)
    assert not place.cache.exists()


@pytest.mark.parametrize("extra, says", [
    ({"X-Linked-Etag": '"../../../escape"'}, "no hash to check it by"),
    ({"X-Linked-Etag": '"%s"' % ("0" * 63)}, "no hash to check it by"),
    ({"X-Linked-Size": "-5"}, "does not tell its size"),
    ({"X-Linked-Size": "99999999999999999999"}, "does not tell its size"),
    ({"X-Repo-Commit": "0" * 40}, "another commit"),
    ({"Location": "file:///etc/passwd", "X-Linked-Etag": None}, "leads to no http(s) address"),
    ({"Location": "/%s/resolve/main/%s" % (STORY, WEIGHTS), "X-Linked-Etag": None}, "too many redirects"),
], ids=range(7))
def test_hostile_headers(place, hub, extra, says):
    hub.fault = lambda role, method, path, headers: Fault(extra=extra) if path.endswith(WEIGHTS) else None
    assert says in place.pull(STORY, code=3).stderr
    assert not place.cache.exists()


def test_links_in_the_cache_are_not_followed_out(place, hub, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    place.repo().mkdir(parents=True)
    (place.repo() / "blobs").symlink_to(outside)
    assert "blobs" in place.pull(STORY, code=3).stderr
    assert not list(outside.iterdir())


def test_offline(place, hub):
    for args, env in ((["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})):
        assert "offline nothing is fetched" in place.pull(STORY, *args, code=3, **env).stderr
    assert not hub.requests
    place.pull(STORY)
    asked = len(hub.requests)
    assert place.pull(STORY, "--offline").stdout.strip() == str(place.check(demo_files()))
    assert len(hub.requests) == asked


def test_full_disk(hub, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        place = Place(disk / "hub", hub)
        filler = disk / "filler"
        filler.write_bytes(b"\0" * (12 << 20))
        done = place.pull(STORY, code=1)
        assert "are missing and" in done.stderr and "chorus rm" in done.stderr
        filler.unlink()
        hub.pace_s = 0.005
        p = place.start("pull", STORY)
        part = place.repo() / "blobs" / (etag_of(WEIGHTS, demo_files()[WEIGHTS]) + ".incomplete")
        while not part.exists() or part.stat().st_size < 1 << 20:
            assert p.poll() is None, p.communicate()
            time.sleep(0.01)
        with filler.open("wb", buffering=0) as f:  # somebody else takes the room
            while True:
                try:
                    f.write(b"\0" * 65536)
                except OSError:
                    break
        _, err = p.communicate(timeout=60 * SLOW)
        assert p.returncode == 1 and "the disk of the Hugging Face cache is full" in err, err
        filler.unlink()
        hub.pace_s = 0
        place.pull(STORY)
        place.check(demo_files())
        assert len(of_cdn(hub)) == 2 and "Range" in of_cdn(hub)[1][3]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- ls and rm ----

def test_ls_tells_what_can_be_served(place, hub, tmp_path):
    hub.repositories["org/other"] = Repository({"config.json": json.dumps({"model_type": "bert", "torch_dtype": "float16", "quantization_config": {
        "quant_method": "gptq", "bits": 4}}).encode(), WEIGHTS: b"x" * 4096})
    hub.repositories["org/elf"] = Repository({p.name: p.read_bytes() for p in (DEMO / "adapters/wood-elf").iterdir()})
    hub.repositories["org/bad"] = Repository({"adapter_config.json": b'{"peft_type": "IA3", "r": 4}', "adapter_model.safetensors": b"x"})
    for name in (STORY, "org/other", "org/elf", "org/bad"):
        place.pull(name)
    listing = place.ls()
    models = {m["name"]: m for m in listing["models"]}
    assert models[STORY]["servable"] and (models[STORY]["architecture"], models[STORY]["weights"]) == ("llama", "bf16")
    assert models[STORY]["bytes"] == sum(map(len, demo_files().values())) and abs(models[STORY]["used"] - time.time()) < 600
    assert not models["org/other"]["servable"] and "bert" in models["org/other"]["why"]
    assert (models["org/other"]["architecture"], models["org/other"]["weights"]) == ("bert", "gptq 4-bit")
    adapters = {a["name"]: a for a in listing["adapters"]}
    assert (adapters["org/elf"]["base"], adapters["org/elf"]["rank"], adapters["org/elf"]["servable"]) == ("models/storyteller", 16, True)
    assert "IA3" in adapters["org/bad"]["why"]
    lines = place.run("ls", "--adapters", str(DEMO / "adapters")).stdout.splitlines()
    assert lines[0].split() == ["MODEL", "REVISION", "COMMIT", "KIND", "WEIGHTS", "SIZE", "USED"]
    (line,) = [s for s in lines if s.startswith(STORY)]
    assert line.index("main") == lines[0].index("REVISION") and line.endswith("ready")
    assert any(s.startswith("wood-elf") and str(DEMO / "adapters") in s for s in lines)
    assert json.loads(place.run("ls", "--json", HF_HUB_CACHE=str(tmp_path / "none")).stdout)["models"] == []
    assert "chorus pull ORG/NAME" in place.run("ls", HF_HUB_CACHE=str(tmp_path / "none")).stdout


def test_rm_keeps_what_others_use(place, hub):
    first = demo_files()
    second = first | {"config.json": first["config.json"] + b"\n", "README.md": b"new"}
    old = hub.repositories[STORY].refs["main"]
    place.pull(STORY)
    hub.repositories[STORY].push(second)
    place.pull(STORY)
    place.check(second)
    assert [m["revision"] for m in place.ls()["models"]].count("main") == 1
    assert len(place.ls()["models"]) == 2
    before = sum(p.stat().st_size for p in place.blobs().values())
    out = place.run("rm", f"{STORY}:{old[:9]}", "--yes").stdout
    place.check(second)
    after = sum(p.stat().st_size for p in place.blobs().values())
    assert before - after == len(first["config.json"]) + len(first["README.md"]) and f"({before - after} bytes) freed" in out
    assert not huggingface_hub.scan_cache_dir(place.cache).warnings
    place.run("rm", f"{STORY}:main", "--yes")  # the last one takes the rest with it
    assert not place.repo().exists() and not (place.cache / ".locks" / place.repo().name).exists()
    assert "is not in the Hugging Face cache" in place.run("rm", STORY, "--yes", code=3).stderr


def test_rm_asks(place, hub):
    place.pull(STORY)
    assert "--yes" in place.run("rm", STORY, code=2).stderr
    for answer, gone in ((b"n\n", False), (b"\n", False), (b"y\n", True)):
        me, it = os.openpty()
        p = subprocess.Popen([CHORUS, "rm", STORY], stdin=it, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=place.env)
        os.close(it)
        os.write(me, answer)
        out, _ = p.communicate(timeout=10 * SLOW)
        os.close(me)
        assert b"remove org/story (1 revision, 14.3 MiB)? [y/N]" in out
        assert place.repo().exists() != gone


def test_rm_leaves_a_running_pull_alone(place, hub):
    hub.pace_s = 0.05
    p = place.start("pull", STORY)
    while not of_cdn(hub):
        assert p.poll() is None, p.communicate()
        time.sleep(0.01)
    assert "a download into org/story is running" in place.run("rm", STORY, "--yes", code=5).stderr
    hub.pace_s = 0
    assert p.wait(timeout=60 * SLOW) == 0
    place.check(demo_files())
    # huggingface_hub holds the lock of a blob.
    lock = place.cache / ".locks" / place.repo().name / (etag_of(WEIGHTS, demo_files()[WEIGHTS]) + ".lock")
    with lock.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert "is running" in place.run("rm", STORY, "--yes", code=5).stderr
    place.run("rm", STORY, "--yes")


def test_rm_never_leaves_the_cache(place, hub, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    place.pull(STORY)
    snapshot = place.check(demo_files())
    (snapshot / "folder").symlink_to(outside)
    (snapshot / "file").symlink_to(outside / "kept")
    (place.repo() / "blobs/link").symlink_to(outside / "kept")
    place.run("rm", STORY, "--yes")
    assert not place.repo().exists() and (outside / "kept").read_text() == "kept"
    place.repo().symlink_to(outside)
    assert "is a link and not followed" in place.run("rm", STORY, "--yes", code=1).stderr
    assert (outside / "kept").exists()
