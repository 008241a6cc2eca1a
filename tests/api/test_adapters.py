"""Adapters that come, change and go while the server runs: over HTTP, in the dialects of vLLM and llama-server, and in the live folder."""
import json
import os
import random
import shutil
import struct
import threading
import time

import pytest

from conftest import DEMO, ROOT, SLOW, VOICES, events, figure, joined, start_real
from live_folder import folder_looked, names, wait_for
from prom import scrape

ADAPTERS = DEMO / "adapters"
ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]
GREEDY = {"messages": ASK, "max_tokens": 12, "temperature": 0}


def delete(s, name, body=None):
    status, _, text = s.request("DELETE", f"/v1/adapters/{name}", body)
    return status, json.loads(text)


def say(s, **fields):
    status, answer = s.post("/v1/chat/completions", {**GREEDY, **fields})
    assert status == 200, answer
    return answer["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A real server on a copy of the demo's adapters that tests may change, and a root that is not served."""
    tmp = tmp_path_factory.mktemp("live")
    shutil.copytree(ADAPTERS, tmp / "folder")
    (tmp / "root").mkdir()
    (tmp / "outside").mkdir()
    shutil.copytree(ADAPTERS / "villain", tmp / "outside/villain")
    s = start_real(tmp, "--model", str(DEMO), "--adapters", str(tmp / "folder"), "--adapter-root", str(tmp / "root"), "--kv-pages", "400")
    s.tmp = tmp
    s.folder, s.root, s.outside = tmp / "folder", tmp / "root", tmp / "outside"
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


# ---- over HTTP ----

def test_add_replace_remove(live):
    shutil.copytree(ADAPTERS / "villain", live.root / "bad-guy")
    status, made = live.post("/v1/adapters", {"name": "new", "path": str(live.root / "bad-guy"), "pinned": True})
    assert status == 200 and made["name"] == "new" and made["status"] == "ready" and made["replaced"] is False and made["pinned"] is True
    assert made["source"] == "client" and made["rank"] == 8 and made["tier"] in ("host", "device") and len(made["sha256"]) == 64 and made["users"] == 0
    assert say(live, adapter="new") == say(live, adapter="villain") != say(live)
    # A relative path is looked for in every root.
    status, again = live.post("/v1/adapters", {"name": "new", "path": "wood-elf"})
    assert status == 200 and again["replaced"] is True and again["generation"] > made["generation"] and again["pinned"] is False
    assert say(live, adapter="new") == say(live, adapter="wood-elf")
    assert live.post("/v1/adapters", {"name": "new", "path": "wood-elf", "replace": False})[0] == 409
    status, one = live.get("/v1/adapters/new")
    assert status == 200 and one["generation"] == again["generation"] and one["loading"] is False and one["last_error"] is None
    assert {m["id"] for m in live.get("/v1/models")[1]["data"]} == {"storyteller", "new", *VOICES}
    status, gone = delete(live, "new")
    assert status == 200 and gone["deleted"] is True and gone["draining"] is False and gone["users"] == 0 and gone["requests"] == []
    assert delete(live, "new")[0] == 404 and live.get("/v1/adapters/new")[0] == 404
    status, answer = live.post("/v1/chat/completions", {**GREEDY, "adapter": "new"})
    assert status == 404 and answer["error"]["code"] == "adapter_not_found"


def test_without_waiting(live):
    status, head, text = live.request("POST", "/v1/adapters", {"name": "later", "path": "summary", "wait": False})
    assert status == 202 and json.loads(text) == {"name": "later", "status": "loading"} and head["location"] == "/v1/adapters/later"
    wait_for(lambda: live.get("/v1/adapters/later")[1]["status"] == "ready")
    assert delete(live, "later")[0] == 200
    (live.root / "empty").mkdir()
    assert live.post("/v1/adapters", {"name": "never", "path": "empty", "wait": False})[0] == 202
    wait_for(lambda: live.get("/v1/adapters/never")[1]["status"] == "failed")
    assert live.get("/v1/adapters/never")[1]["last_error"]["code"] == "adapter_invalid"


def test_blend_is_a_voice(live):
    parts = [{"name": "wood-elf", "weight": 0.6}, {"name": "villain", "weight": 0.4}]
    status, made = live.post("/v1/adapters", {"name": "mix", "blend": parts})
    assert status == 200 and [(p["name"], round(p["weight"], 6)) for p in made["blend"]] == [("wood-elf", 0.6), ("villain", 0.4)]
    assert say(live, adapter="mix") == say(live, model="mix") == say(live, adapter=parts)
    status, answer = delete(live, "villain")
    assert status == 409 and "mix" in answer["error"]["message"]
    for bad, param in (([], "blend"), ([{"weight": 1}], "blend.name"), ([{"name": "a b"}], "blend.name"), ([{"name": "villain", "weight": "x"}], "blend.weight"),
                       ([{"name": "villain", "weight": 1e9}], "blend.weight"), ([{"name": v} for v in VOICES], "blend"), ("villain", "blend"),
                       ([{"name": "nobody"}], "adapter"), ([{"name": "villain"}] * 2, "adapter"), ([{"name": "mix"}], "adapter")):
        status, answer = live.post("/v1/adapters", {"name": "mix2", "blend": bad})
        assert status in (400, 404) and answer["error"]["param"] == param, answer
    assert live.post("/v1/adapters", {"name": "mix2", "blend": parts, "path": "villain"})[0] == 400
    # A part that is replaced speaks in the blend from then on.
    assert live.post("/v1/adapters", {"name": "part", "path": "villain"})[0] == 200
    assert live.post("/v1/adapters", {"name": "mix", "blend": [{"name": "part", "weight": 0.5}, {"name": "summary", "weight": 0.5}]})[1]["replaced"] is True
    for voice in ("villain", "wood-elf"):
        assert live.post("/v1/adapters", {"name": "part", "path": voice})[0] == 200
        assert say(live, model="mix") == say(live, adapter=[{"name": voice, "weight": 0.5}, {"name": "summary", "weight": 0.5}])
    assert delete(live, "mix")[0] == 200 and "mix2" not in names(live) and delete(live, "part")[0] == 200


def test_check_changes_nothing(live):
    facts = lambda: [(a["name"], a["generation"], a["sha256"]) for a in live.get("/v1/adapters")[1]["data"]]
    before = facts()
    status, report = live.post("/v1/adapters/check", {"path": "villain"})
    assert status == 200 and report["ok"] is True and report["error"] is None and report["unmatched"] == 0 and report["no_op"] is False
    assert len(report["tensors"]) == 2 * report["modules"] and all(t["matched"] for t in report["tensors"]) and report["scale_max"] == 2
    broken = broken_adapter(live.root / "to-check", lambda header, data: header.update({"base_model.model.model.layers.99.mlp.up_proj.lora_A.weight":
                                                                                      header.pop("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")}))
    status, report = live.post("/v1/adapters/check", {"path": str(broken)})
    assert status == 200 and report["ok"] is False and report["unmatched"] >= 1 and "layers" in report["error"]["param"]
    assert [t["name"] for t in report["tensors"] if not t["matched"]] and facts() == before
    assert live.post("/v1/adapters/check", {"path": str(live.outside / "villain")})[0] == 403


# ADP-4
NAMES = ["", "a b", "a/b", "../x", "a" * 65, "ä", "x\n", "x\u202e", "x%00", "a:b", "*", "x\x7f", None, 5, ["x"], {"name": "x"}, True]
PATHS = ["", "/", "/etc", "/etc/passwd", "..", "../outside/villain", "x/../../outside/villain", "/proc/self/cwd", "/dev/zero", "a" * 600, "villain\x01",
         "{outside}/villain", "{folder}/../outside/villain", "{folder}", "{folder}/", "{folder}x/villain", "link-out", "link-abs/villain", "chain",
         "loop", "fifo", "file", "villain/adapter_config.json", "villain/../../outside/villain", "./../outside/villain", "~/villain", "file:///etc",
         None, 5, ["villain"], {"path": "villain"}, "nowhere", "villain/nothing", "fifo-dir", "link-file"]


def test_hostile_names_and_paths(live):
    os.symlink("../outside/villain", live.folder / "link-out")
    os.symlink(str(live.outside), live.folder / "link-abs")
    os.symlink("link-out", live.folder / "chain")
    os.symlink("loop", live.folder / "loop")
    os.mkfifo(live.folder / "fifo")
    (live.folder / "file").write_text("{}")
    shutil.copytree(ADAPTERS / "villain", live.folder / "fifo-dir")
    (live.folder / "fifo-dir/adapter_config.json").unlink()
    os.mkfifo(live.folder / "fifo-dir/adapter_config.json")
    (live.folder / "link-file").mkdir()
    for f in ("adapter_config.json", "adapter_model.safetensors"):
        os.symlink(str(live.outside / "villain" / f), live.folder / "link-file" / f)
    before = names(live)
    for name in NAMES:
        for path, body in (("/v1/adapters", {"name": name, "path": "villain"}), ("/v1/load_lora_adapter", {"lora_name": name, "lora_path": "villain"})):
            status, answer = live.post(path, body)
            assert status == 400 and answer["error"]["param"] in ("name", "lora_name"), (name, answer)
        if isinstance(name, str) and name.isascii() and name.isprintable() and " " not in name and "/" not in name:
            assert live.request("DELETE", f"/v1/adapters/{name}")[0] in (400, 404, 405), name
    for path in PATHS:
        if isinstance(path, str):
            path = path.format(outside=live.outside, folder=live.folder)
        for route, body in (("/v1/adapters", {"name": "evil", "path": path}), ("/v1/adapters/check", {"path": path}),
                            ("/v1/load_lora_adapter", {"lora_name": "evil", "lora_path": path})):
            status, answer = live.post(route, body)
            if route == "/v1/adapters/check" and status == 200:
                assert answer["ok"] is False, (path, answer)
            else:
                assert status in (400, 403, 404) and answer["error"]["message"], (path, answer)
            assert "root:" not in json.dumps(answer)
    assert live.post("/v1/adapters", {"name": "storyteller", "path": "villain"})[0] == 409
    for body in (b"", b"{", b"[]", b"5", b"null", b'{"name": "x"', b'{"name": "x", "path": "villain", "pinned": 1}',
                 b'{"name": "x", "path": "villain", "share": 0}', b'{"name": "x", "path": "villain", "wait": "no"}'):
        assert live.request("POST", "/v1/adapters", body)[0] == 400, body
    assert live.request("POST", "/v1/adapters", b'{"name": "x", "path": "' + b"a" * 70000 + b'"}')[0] == 413
    assert names(live) == before
    for f in ("link-out", "link-abs", "chain", "loop", "fifo", "file"):
        (live.folder / f).unlink()
    shutil.rmtree(live.folder / "fifo-dir")
    shutil.rmtree(live.folder / "link-file")
    print(f"figure: ADP-4 {len(NAMES)} names, {len(PATHS)} paths, 3 routes")


# ---- adapters that do not bind ----

def broken_adapter(path, change_tensors=None, change_config=None):
    """A copy of villain with another safetensors header (change_tensors(header, data)) or config."""
    shutil.copytree(ADAPTERS / "villain", path)
    if change_tensors:
        raw = (path / "adapter_model.safetensors").read_bytes()
        n, = struct.unpack("<Q", raw[:8])
        header, data = json.loads(raw[8:8 + n]), bytearray(raw[8 + n:])
        change_tensors(header, data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    if change_config:
        config = json.loads((path / "adapter_config.json").read_text())
        change_config(config)
        (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def mismatches(count):
    """(label, change_tensors): each makes a tensor not bind in its own way."""
    sites = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    tensor = lambda layer, site, ab: f"base_model.model.model.layers.{layer}.{site}.lora_{ab}.weight"

    def rename(old, new):
        return lambda header, data: header.update({new: header.pop(old)})

    def reshape(name, swap):
        def change(header, data):
            shape = header[name]["shape"]
            header[name]["shape"] = shape[::-1] if swap else [shape[0] * 2, shape[1] // 2] if shape[1] % 2 == 0 else [1, shape[0] * shape[1]]
        return change

    made = []
    for i, site in enumerate(sites):
        layer = i % 4
        made += [(f"far layer {site}", rename(tensor(layer, site, "A"), tensor(90 + i, site, "A"))),
                 (f"unknown site {site}", rename(tensor(layer, site, "B"), tensor(layer, site + "x", "B"))),
                 (f"turned {site}", reshape(tensor(layer, site, "A"), True)),
                 (f"narrow {site}", reshape(tensor(layer, site, "B"), False)),
                 (f"other prefix {site}", rename(tensor(layer, site, "A"), "model." + tensor(layer, site, "A"))),
                 (f"third matrix {site}", rename(tensor(layer, site, "B"), tensor(layer, site, "C")))]
    assert len(made) >= count
    return made[:count]


def test_what_does_not_bind_is_refused(live):
    """ISO-5 and ADP-3: each is 400, names the tensor, and never becomes a voice."""
    before = names(live)
    messages = set()
    for i, (label, change) in enumerate(mismatches(42)):
        path = broken_adapter(live.root / f"mismatch{i}", change)
        status, answer = live.post("/v1/adapters", {"name": "mismatch", "path": str(path)})
        assert status == 400 and answer["error"]["code"] in ("adapter_invalid", "adapter_unsupported"), (label, answer)
        assert "lora_" in answer["error"]["param"], (label, answer)
        messages.add((answer["error"]["param"], answer["error"]["message"]))
        status, answer = live.post("/v1/load_lora_adapter", {"lora_name": "mismatch", "lora_path": str(path)})
        assert status == 400, (label, answer)
        shutil.rmtree(path)
    fields = [("use_dora", "yes"), ("r", 0), ("r", "8"), ("lora_alpha", "x"), ("target_modules", 5), ("peft_type", "IA3"), ("bias", "all"), ("fan_in_fan_out", True),
              ("rank_pattern", []), ("alpha_pattern", {"(": 3}), ("layers_to_transform", "all"), ("modules_to_save", ["model.embed_tokens"]),
              ("use_rslora", 3), ("lora_bias", True), ("megatron_config", {"x": 1}), ("layer_replication", [[0, 4], [2, 5]]), ("target_modules", "((("),
              ("alpha_pattern", []), ("rank_pattern", {"q_proj": 0}), ("exclude_modules", 5)]
    refused = 0
    for key, value in fields:
        path = broken_adapter(live.root / "field", None, lambda c: c.update({key: value}))
        status, answer = live.post("/v1/adapters", {"name": "mismatch", "path": str(path)})
        assert status == 400, (key, value, answer)
        messages.add((answer["error"]["param"], answer["error"]["message"]))
        refused += 1
        shutil.rmtree(path)
    assert names(live) == before
    assert len(messages) >= 60
    print(f"figure: ISO-5/ADP-3 42 tensors and {refused} fields refused, {len(messages)} different reasons")


# ---- the dialects of others ----

def test_as_vllm(live):
    load = lambda **kw: live.request("POST", "/v1/load_lora_adapter", {"lora_name": "v", "lora_path": str(live.folder / "summary"), **kw})
    status, head, text = load()
    assert status == 200 and text == b"Success: LoRA adapter 'v' added successfully." and head["content-type"].startswith("text/plain")
    assert say(live, model="v") == say(live, adapter="summary")
    status, _, text = load()
    assert status == 400 and "has already been loaded" in json.loads(text)["error"]["message"] and "load_inplace" in json.loads(text)["error"]["message"]
    assert load(load_inplace=True)[0] == 200 and load(lora_path=str(live.folder / "nowhere"), lora_name="w")[0] == 404
    for missing in ("lora_name", "lora_path"):
        status, _, text = load(**{missing: None})
        assert status == 400 and json.loads(text)["error"]["message"] == "Both 'lora_name' and 'lora_path' must be provided."
    status, _, text = live.request("POST", "/v1/unload_lora_adapter", {"lora_name": "v"})
    assert status == 200 and text == b"Success: LoRA adapter 'v' removed successfully."
    status, _, text = live.request("POST", "/v1/unload_lora_adapter", {"lora_name": "v"})
    assert status == 404 and json.loads(text)["error"]["message"] == "The lora adapter 'v' cannot be found."
    assert live.request("POST", "/v1/unload_lora_adapter", {})[0] == 400


def test_as_llama_server(live):
    base = say(live)
    listed = live.get("/lora-adapters")[1]
    assert [a["name"] for a in listed] == sorted(names(live)) and [a["id"] for a in listed] == list(range(len(listed))) and all(a["scale"] == 0 for a in listed)
    at = {a["name"]: a["id"] for a in listed}
    assert live.post("/lora-adapters", [{"id": at["villain"], "scale": 0.5}, {"id": at["summary"], "scale": 0}]) == (200, {"success": True})
    try:
        assert {a["name"]: a["scale"] for a in live.get("/lora-adapters")[1] if a["scale"]} == {"villain": 0.5}
        half = say(live, adapter={"name": "villain", "weight": 0.5})
        assert say(live) == half != base and say(live, adapter=[]) == base and say(live, adapter="summary") not in (half, base)
        for bad in ({}, 5, [5], [{"scale": 1}], [{"id": -1, "scale": 1}], [{"id": 99, "scale": 1}], [{"id": 0, "scale": "1"}], [{"id": 0, "scale": 1}] * 2,
                    [{"id": i, "scale": 1} for i in range(5)]):
            assert live.post("/lora-adapters", bad)[0] in (400, 404), bad
        assert say(live) == half
    finally:
        assert live.post("/lora-adapters", [])[0] == 200
    assert say(live) == base


# ---- the live folder ----

def test_folder(live):
    def status_of(name):
        return live.get(f"/v1/adapters/{name}")[1].get("status")

    # In pieces: it is there when it is whole, and nothing is said meanwhile.
    target = live.folder / "piecemeal"
    target.mkdir()
    shutil.copy(ADAPTERS / "villain/adapter_config.json", target)
    raw = (ADAPTERS / "villain/adapter_model.safetensors").read_bytes()
    with open(target / "adapter_model.safetensors", "wb") as f:
        for at in range(0, len(raw), len(raw) // 6 + 1):
            f.write(raw[at:at + len(raw) // 6 + 1])
            f.flush()
            assert "piecemeal" not in names(live) or at + len(raw) // 6 + 1 >= len(raw)
            time.sleep(0.2)
    wait_for(lambda: status_of("piecemeal") == "ready")
    assert "adapter refused adapter=piecemeal" not in live.log_text()
    assert say(live, adapter="piecemeal") == say(live, adapter="villain")
    # Changed: another generation, of the new bytes; whoever held the old one does not notice.
    first = live.get("/v1/adapters/piecemeal")[1]["generation"]
    shutil.copy(ADAPTERS / "wood-elf/adapter_config.json", live.tmp)
    new = live.tmp / "next"
    shutil.copytree(ADAPTERS / "wood-elf", new)
    os.rename(target, live.tmp / "old")
    os.rename(new, target)
    wait_for(lambda: live.get("/v1/adapters/piecemeal")[1].get("generation", 0) > first)
    assert say(live, adapter="piecemeal") == say(live, adapter="wood-elf")
    # Broken: the last whole one stays, and one line says why.
    (target / "adapter_model.safetensors").write_bytes(raw[:3000])
    wait_for(lambda: "adapter refused adapter=piecemeal" in live.log_text())
    assert say(live, adapter="piecemeal") == say(live, adapter="wood-elf")
    assert live.get("/v1/adapters/piecemeal")[1]["last_error"]["code"] == "adapter_invalid"
    folder_looked(live)
    assert live.log_text().count("adapter refused adapter=piecemeal") == 1
    # Removed: it goes.
    shutil.rmtree(target)
    wait_for(lambda: "piecemeal" not in names(live))
    shutil.rmtree(live.tmp / "old")


def test_folder_and_clients(live):
    """Who removed an adapter over HTTP does not get it back until its files change; a registered name is not the folder's."""
    shutil.copytree(ADAPTERS / "summary", live.folder / "shared")
    wait_for(lambda: "shared" in names(live))
    assert delete(live, "shared")[0] == 200
    folder_looked(live)
    assert "shared" not in names(live)
    os.utime(live.folder / "shared/adapter_config.json")
    wait_for(lambda: "shared" in names(live))
    assert live.post("/v1/adapters", {"name": "shared", "path": "villain"})[0] == 200
    generation = live.get("/v1/adapters/shared")[1]["generation"]
    os.utime(live.folder / "shared/adapter_config.json")
    folder_looked(live)
    one = live.get("/v1/adapters/shared")[1]
    assert one["generation"] == generation and one["source"] == "client"
    # Nor does it come back when the registered one under its name is removed.
    assert delete(live, "shared")[0] == 200
    folder_looked(live)
    assert "shared" not in names(live)
    assert live.post("/v1/adapters", {"name": "shared", "path": "villain"})[0] == 200
    shutil.rmtree(live.folder / "shared")
    folder_looked(live)
    assert say(live, adapter="shared") == say(live, adapter="villain")
    assert delete(live, "shared")[0] == 200


# ---- while people talk ----

def test_unload_under_streams(live):
    """ADP-5: 8 streams on an adapter that is removed and put back; none breaks off, none sees another voice."""
    cycles = figure(200, 1000)
    assert live.post("/v1/adapters", {"name": "busy", "path": "villain"})[0] == 200
    body = {"model": "busy", "messages": ASK, "max_tokens": 30, "temperature": 0, "ignore_eos": True}
    wanted = live.post("/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
    other = live.post("/v1/chat/completions", {**body, "model": "wood-elf"})[1]["choices"][0]["message"]["content"]
    stop = threading.Event()
    counts = {"whole": 0, "missing": 0}
    wrong = []

    def talk():
        while not stop.is_set():
            status, _, text = live.request("POST", "/v1/chat/completions", {**body, "stream": True}, timeout=60)
            if status == 404:
                counts["missing"] += 1
                time.sleep(0.005)
            elif status != 200 or not text.endswith(b"data: [DONE]\n\n") or joined(events(text)) not in (wanted, other):
                wrong.append((status, text[-200:]))
            else:
                counts["whole"] += 1

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for t in threads:
        t.start()
    drained = 0
    for i in range(cycles):
        status, gone = delete(live, "busy", {"deadline_ms": 40 * SLOW if i % 2 else 20000})
        assert status in (200, 202) and gone["deleted"] and (status == 202) == gone["draining"] == (gone["users"] > 0) == (len(gone["requests"]) > 0), gone
        assert i % 2 or status == 200, "so long no answer takes"
        drained += status == 202
        status, made = live.post("/v1/adapters", {"name": "busy", "path": "wood-elf" if i % 2 else "villain"})
        assert status == 200 and made["replaced"] is False
        time.sleep(0.03)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
    assert counts["whole"] >= 8
    live.wait_metric("chorus_requests_running", 0)
    wait_for(lambda: all(a["users"] == 0 for a in live.get("/v1/adapters")[1]["data"]))
    assert live.metric("chorus_kv_pages_used") == 0
    assert delete(live, "busy")[0] == 200
    print(f"figure: ADP-5 {cycles} cycles, {counts['whole']} whole streams, {counts['missing']} times no such adapter, {drained} removals that outlived their deadline")


def test_streams_do_not_feel_others_come_and_go(live):
    """ISO-4 and ADP-8: two long streams are equal to the letter while others load and unload 500 times; nothing is left of those."""
    body = {"messages": ASK, "max_tokens": 400, "temperature": 0, "ignore_eos": True}
    quiet = {v: live.post("/v1/chat/completions", {**body, "model": v}, timeout=60)[1]["choices"][0]["message"]["content"] for v in ("villain", "wood-elf")}
    heard, running = {}, threading.Event()
    running.set()

    def talk(v):
        while running.is_set():
            heard.setdefault(v, []).append(joined(live.stream("/v1/chat/completions", {**body, "model": v}, timeout=60)[1]))

    threads = [threading.Thread(target=talk, args=(v,)) for v in quiet]
    for t in threads:
        t.start()
    cycles, rss = figure(500, 5000), []
    for i in range(cycles):
        name = f"passing{i % 3}"
        assert live.post("/v1/adapters", {"name": name, "path": VOICES[i % len(VOICES)]})[0] == 200
        if i % 5 == 0:
            assert live.post("/v1/chat/completions", {**GREEDY, "max_tokens": 1, "model": name})[0] == 200
        if i % 2:
            assert delete(live, name)[0] == 200
        if i in (cycles // 3, cycles - 1):
            rss.append(live.rss_anon())
    running.clear()
    for t in threads:
        t.join()
    for name in names(live):
        if name.startswith("passing"):
            assert delete(live, name)[0] == 200
    answers = sum(len(h) for h in heard.values())
    assert set(heard) == set(quiet) and all(set(heard[v]) == {quiet[v]} for v in quiet)
    wait_for(lambda: sorted(a["name"] for a in live.get("/v1/adapters")[1]["data"]) == sorted(names(live)))
    if SLOW == 1:
        assert rss[1] - rss[0] <= 6 << 20, rss  # some adapters are loaded at either moment; each has about 1 MiB
    print(f"figure: ISO-4 {answers} answers of 400 tokens equal over {cycles} loads; RssAnon {(rss[1] - rss[0]) / 1024:.0f} KiB more after two thirds of them")


def test_changes_are_linearisable(live):
    """ADP-7: 16 clients add, remove and ask under three names; every answer fits one moment between its question and itself."""
    log, lock, stop = [], threading.Lock(), time.monotonic() + 4 * SLOW
    texts = {v: say(live, adapter=v) for v in VOICES}

    def client(seed):
        rng = random.Random(seed)
        while time.monotonic() < stop:
            name, kind = f"lin{rng.randrange(3)}", rng.choices(("ask", "add", "remove"), (4, 2, 1))[0]
            voice = rng.choice(VOICES)
            begin = time.monotonic()
            if kind == "ask":
                status, answer = live.post("/v1/chat/completions", {**GREEDY, "adapter": name}, timeout=60)
                generation = answer["adapter"][0]["generation"] if status == 200 else None
                voice = answer["choices"][0]["message"]["content"] if status == 200 else None
                assert status in (200, 404, 429), answer
            elif kind == "add":
                status, answer = live.post("/v1/adapters", {"name": name, "path": voice}, timeout=60)
                generation = answer.get("generation")
                assert status in (200, 429), answer
            else:
                status, answer = delete(live, name, {"deadline_ms": 0})
                generation = answer.get("generation")
                assert status in (200, 202, 404, 429), answer
            with lock:
                log.append((kind, name, status, generation, voice, begin, time.monotonic()))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    asked = 0
    for name in {e[1] for e in log}:
        mine = [e for e in log if e[1] == name]
        added = {e[3]: e for e in mine if e[0] == "add" and e[2] == 200}
        removed = {e[3]: e for e in mine if e[0] == "remove" and e[2] in (200, 202)}
        order = sorted(added)
        assert set(removed) <= set(added)
        end_of = {g: removed.get(g) or (added[order[i + 1]] if i + 1 < len(order) else None) for i, g in enumerate(order)}
        for kind, _, status, generation, text, begin, end in (e for e in mine if e[0] == "ask" and e[2] != 429):
            asked += 1
            if status == 200:
                born, died = added[generation], end_of[generation]
                assert text == texts[born[4]], "another adapter's words"
                assert born[5] <= end and (died is None or died[6] >= begin), "a generation before its time or after it"
            else:
                sure = [g for g in order if added[g][6] < begin and (end_of[g] is None or end_of[g][5] > end)]
                assert not sure, "it was there all the time"
    assert asked > 50 / SLOW**2 and {e[2] for e in log if e[0] == "ask"} >= {200, 404}
    for name in names(live):
        if name.startswith("lin"):
            assert delete(live, name)[0] == 200
    print(f"figure: ADP-7 {len(log)} operations of 16 clients, {asked} answers, each of one moment")


def test_removal_that_ends_its_users(live):
    assert live.post("/v1/adapters", {"name": "short", "path": "villain"})[0] == 200
    got = {}

    def talk():
        got["status"], got["payloads"] = live.stream("/v1/chat/completions", {"model": "short", "messages": ASK, "max_tokens": 1500, "ignore_eos": True}, timeout=60)

    t = threading.Thread(target=talk)
    t.start()
    wait_for(lambda: live.get("/v1/adapters/short")[1]["users"] == 1)
    status, gone = delete(live, "short", {"deadline_ms": 0})
    assert status == 202 and gone["users"] == 1 and len(gone["requests"]) == 1
    # Its name is gone, so it cannot be removed again; the one that talks goes on until it leaves.
    assert delete(live, "short", {"force": True, "deadline_ms": 0})[0] == 404
    assert live.post("/v1/adapters", {"name": "short", "path": "summary"})[0] == 200
    other = threading.Thread(target=lambda: live.stream("/v1/chat/completions", {"model": "short", "messages": ASK, "max_tokens": 1500, "ignore_eos": True}, timeout=60))
    other.start()
    wait_for(lambda: live.get("/v1/adapters/short")[1]["users"] == 1)
    status, gone = delete(live, "short", {"force": True, "deadline_ms": 50})
    assert status == 200 and gone["ended"] == 1 and gone["users"] == 0
    t.join()
    other.join()
    assert got["status"] == 200 and got["payloads"][-1] == "[DONE]"


def test_too_many_changes_wait_their_turn(fake):
    """The lane is bounded; the fake's key is asked for like anywhere else."""
    s = fake()
    results = []
    threads = [threading.Thread(target=lambda: results.append(s.post("/v1/adapters", {"name": "x", "path": "/nowhere"})[0])) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(results) <= {403, 429} and 403 in results


def test_one_too_many_is_507(tmp_path, fake):
    """ADP-6, on an engine that holds 16: told as what it is, nothing else changes, and room helps."""
    (tmp_path / "good").mkdir()
    s = fake(root=str(tmp_path))
    room = 16 - len(names(s))
    for i in range(room):
        assert s.post("/v1/adapters", {"name": f"n{i}", "path": "good"})[0] == 200
    before = names(s)
    for route, body in (("/v1/adapters", {"name": "more", "path": "good"}), ("/v1/load_lora_adapter", {"lora_name": "more", "lora_path": "good"})):
        status, answer = s.post(route, body)
        assert status == 507 and answer["error"]["code"] == "adapters_full" and names(s) == before, answer
    assert s.post("/v1/adapters", {"name": "n0", "path": "good"})[0] == 200  # a replacement takes no more room
    assert delete(s, "n1")[0] == 200 and s.post("/v1/adapters", {"name": "more", "path": "good"})[0] == 200


def test_key_is_asked_for(tmp_path, fake):
    keys = tmp_path / "keys"
    keys.write_text("sk-right\n")
    s = fake(keys=str(keys), root=str(tmp_path))
    (tmp_path / "good").mkdir()
    for method, path, body in (("GET", "/v1/adapters", None), ("POST", "/v1/adapters", {"name": "x", "path": "good"}), ("GET", "/v1/adapters/x", None),
                               ("DELETE", "/v1/adapters/villain", None), ("POST", "/v1/adapters/check", {"path": "good"}), ("GET", "/lora-adapters", None),
                               ("POST", "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "good"}), ("POST", "/lora-adapters", []),
                               ("POST", "/v1/unload_lora_adapter", {"lora_name": "villain"})):
        assert s.request(method, path, body)[0] == 401, path
        assert s.request(method, path, body, headers={"Authorization": "Bearer sk-right"})[0] in (200, 400, 404), path


# ---- what outlives the server ----

started = []


@pytest.fixture(autouse=True)
def nobody_is_left():
    """A test that fails leaves no server behind."""
    yield
    while started:
        s = started.pop()
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()


def start(tmp, *args, **kw):
    started.append(start_real(tmp, *args, **kw))
    return started[-1]


def restart(s, tmp, *args):
    if s:
        assert s.stop() == 0
    return start(tmp, "--model", str(DEMO), "--kv-pages", "200", "--state-dir", str(tmp / "state/deep"), *args)


def state_file(tmp):
    files = [f for f in (tmp / "state/deep").iterdir() if f.suffix == ".json"]
    assert len(files) == 1, files
    return files[0]


def test_registered_adapters_survive(tmp_path):
    shutil.copytree(ADAPTERS, tmp_path / "root")
    args = ["--adapter-root", os.path.relpath(tmp_path / "root", ROOT)]
    s = restart(None, tmp_path, *args)
    assert not (tmp_path / "state").exists()
    assert s.post("/v1/adapters", {"name": "a", "path": "villain", "pinned": True, "share": 3})[0] == 200
    assert s.post("/v1/adapters", {"name": "b", "path": str(tmp_path / "root/summary"), "profile": {"system": "Kept \"too\"."}})[0] == 200
    assert s.post("/v1/adapters", {"name": "ab", "blend": [{"name": "b", "weight": 0.5}, {"name": "a", "weight": 0.25}]})[0] == 200
    assert s.post("/v1/adapters", {"name": "gone", "path": "marketing"})[0] == 200 and delete(s, "gone")[0] == 200
    before = {v: say(s, adapter=v) for v in ("a", "b", "ab")}
    told = {a["name"]: a for a in s.get("/v1/adapters")[1]["data"]}
    s.process.kill()  # nothing depends on an orderly end
    s.process.wait()
    s.stop()
    s = restart(None, tmp_path, *args)
    assert sorted(names(s)) == ["a", "ab", "b"] and before == {v: say(s, adapter=v) for v in ("a", "b", "ab")}
    assert 'Kept "too".' in prompt_of(s, model="b") and s.get("/v1/adapters/b")[1]["profile"] is True
    for a in s.get("/v1/adapters")[1]["data"]:
        assert all(a[k] == told[a["name"]][k] for k in ("sha256", "pinned", "share", "blend", "source")), a
    # What vanished is one line, stays registered, and is back when it is back.
    os.rename(tmp_path / "root/summary", tmp_path / "away")
    s = restart(s, tmp_path, *args)
    assert names(s) == ["a"] and s.log_text().count("a registered adapter cannot be added again") == 2  # b, and ab that is made of it
    assert s.get("/v1/adapters/b")[1]["status"] == "failed"
    assert s.post("/v1/chat/completions", {**GREEDY, "adapter": "b"})[0] == 404
    os.rename(tmp_path / "away", tmp_path / "root/summary")
    s = restart(s, tmp_path, *args)
    assert sorted(names(s)) == ["a", "ab", "b"]
    # Removing one that could not be added forgets it.
    assert delete(s, "ab")[0] == 200
    os.rename(tmp_path / "root/summary", tmp_path / "away")
    s = restart(s, tmp_path, *args)
    assert delete(s, "b")[0] == 200 and delete(s, "b")[0] == 404
    os.rename(tmp_path / "away", tmp_path / "root/summary")
    s = restart(s, tmp_path, *args)
    assert names(s) == ["a"] and "cannot be added" not in s.log_text()
    # A path that left the roots is not followed any more.
    s = restart(s, tmp_path)
    assert names(s) == [] and "no adapter directory was configured" in s.log_text()
    # A second server of the same model serves without the file, and does not spoil it.
    s = restart(s, tmp_path, *args)
    text = state_file(tmp_path).read_text()
    second = start(tmp_path, "--model", str(DEMO), "--kv-pages", "200", "--state-dir", str(tmp_path / "state/deep"), *args, name="second")
    assert "another server of this model" in second.log_text()
    assert second.post("/v1/adapters", {"name": "c", "path": "villain"})[0] == 200 and state_file(tmp_path).read_text() == text
    assert second.stop() == 0
    # --adapter at start outranks what was registered.
    s = restart(s, tmp_path, *args, "--adapter", f"a={tmp_path / 'root/marketing'}")
    assert s.get("/v1/adapters/a")[1]["source"] == "start" and say(s, adapter="a") != before["a"]
    assert s.stop() == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"version":2,"adapters":[]}', b'{"version":1,"adapters":[{"name":"../x","path":"villain"}]}',
                                  b'{"version":1,"adapters":[{"name":"x"}]}', b'{"version":1,"adapters":[{"name":"x","path":"v","share":0}]}',
                                  b'{"version":1,"adapters":[{"name":"x","blend":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"},{"name":"e"}]}]}'])
def test_a_state_file_that_is_not_understood_is_left_alone(tmp_path, text):
    s = restart(None, tmp_path, "--adapter-root", str(ADAPTERS))
    assert s.post("/v1/adapters", {"name": "a", "path": "villain"})[0] == 200
    state_file(tmp_path).write_bytes(text)
    s = restart(s, tmp_path, "--adapter-root", str(ADAPTERS))
    assert s.log_text().count("cannot be read and is not kept") == 1 and names(s) == []
    assert s.post("/v1/adapters", {"name": "b", "path": "villain"})[0] == 200
    assert state_file(tmp_path).read_bytes() == text and s.stop() == 0


def test_a_state_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    s = start(tmp_path, "--model", str(DEMO), "--kv-pages", "200", "--state-dir", str(tmp_path / "file/x"), "--adapter-root", str(ADAPTERS))
    assert s.post("/v1/adapters", {"name": "a", "path": "villain"})[0] == 200 and names(s) == ["a"]
    assert "will not survive a restart" in s.log_text() and s.stop() == 0


# ---- profiles ----

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | upper }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def with_profile(path, profile=None, files=None, source="villain"):
    shutil.copytree(ADAPTERS / source, path)
    if profile is not None:
        (path / "chorus.json").write_text(profile if isinstance(profile, str) else json.dumps(profile))
    for name, text in (files or {}).items():
        (path / name).write_text(text)
    return path


def prompt_of(s, **fields):
    status, answer = s.post("/apply-template", {"messages": ASK, **fields})
    assert status == 200, answer
    return answer["prompt"]


def test_profile(live):
    """System prompt, template and sampling of the adapter's own; what a request says wins; nobody else is touched."""
    plain = prompt_of(live)
    with_profile(live.root / "voice", {"system": "Speak softly. <|end|>", "sampling": {"temperature": 0, "top_k": 5, "max_tokens": 7}})
    status, made = live.post("/v1/adapters", {"name": "voice", "path": "voice"})
    assert status == 200 and made["profile"] is True and live.get("/v1/adapters/villain")[1]["profile"] is False
    assert prompt_of(live, model="voice") == prompt_of(live, adapter="voice") == prompt_of(live, messages=[{"role": "system", "content": "Speak softly. <|end|>"}] + ASK)
    assert prompt_of(live, model="villain") == plain == prompt_of(live)
    own = [{"role": "system", "content": "My own."}] + ASK
    assert prompt_of(live, model="voice", messages=own) == prompt_of(live, messages=own)
    # Its text is a person's text: what looks like a special token is none.
    ids = live.post("/tokenize", {"messages": ASK, "model": "voice"})[1]["tokens"]
    end = live.post("/tokenize", {"content": "<|end|>"})[1]["tokens"]
    assert len(end) == 1 and ids.count(end[0]) == 2
    # Sampling: greedy and seven tokens unless the request says otherwise.
    ask = {"model": "voice", "messages": ASK, "ignore_eos": True}
    one, two = (live.post("/v1/chat/completions", ask)[1] for _ in range(2))
    assert one["choices"] == two["choices"] and one["usage"]["completion_tokens"] == 7 and one["usage"]["prompt_tokens"] == len(ids)
    hot = {live.post("/v1/chat/completions", {**ask, "temperature": 2, "top_k": 0, "max_tokens": 20})[1]["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(hot) == 3 and live.post("/v1/chat/completions", {**ask, "max_tokens": 9})[1]["usage"]["completion_tokens"] == 9
    assert live.post("/v1/completions", {"model": "voice", "prompt": "The", "ignore_eos": True})[1]["usage"]["completion_tokens"] == 7
    # In a blend of a request nobody's profile counts.
    blend = [{"name": "voice", "weight": 0.5}, {"name": "summary", "weight": 0.5}]
    assert prompt_of(live, adapter=blend) == plain
    # As the default it speaks by its profile; without it (profile: false) it is the plain adapter.
    at = {a["name"]: a["id"] for a in live.get("/lora-adapters")[1]}
    assert live.post("/lora-adapters", [{"id": at["voice"], "scale": 1}])[0] == 200
    assert "Speak softly" in prompt_of(live) and live.post("/lora-adapters", [])[0] == 200
    status, made = live.post("/v1/adapters", {"name": "voice", "path": "voice", "profile": False})
    assert status == 200 and made["profile"] is False and prompt_of(live, model="voice") == plain
    assert delete(live, "voice")[0] == 200


def test_profile_given_by_a_client(live):
    """An object stands for the directory's chorus.json, and gives a blend its manners; a template it cannot bring."""
    with_profile(live.root / "mannered", {"system": "From the file."}, {"chat_template.jinja": TEMPLATE})
    for profile, wanted in ((None, "FROM THE FILE."), (True, "FROM THE FILE."), ({"system": "Given."}, "GIVEN."), ({"system": "Given.", "chat_template": False}, "Given.")):
        status, made = live.post("/v1/adapters", {"name": "mannered", "path": "mannered", "profile": profile})
        assert status == 200 and made["profile"] is True and wanted in prompt_of(live, model="mannered"), profile
    status, made = live.post("/v1/adapters", {"name": "pair", "blend": [{"name": "villain"}, {"name": "summary", "weight": 0.2}],
                                              "profile": {"system": "We are two.", "sampling": {"max_tokens": 3}}})
    assert status == 200 and made["profile"] is True and "We are two." in prompt_of(live, model="pair")
    assert live.post("/v1/chat/completions", {"model": "pair", "messages": ASK, "ignore_eos": True})[1]["usage"]["completion_tokens"] == 3
    for bad, param in (({"chat_template": "x"}, "profile.chat_template"), ({"sampling": {"temperature": -1}}, "profile.sampling.temperature"), ({"x": 1}, "profile.x"),
                       ("yes", "profile"), ([], "profile"), ({"system": {}}, "profile.system")):
        status, answer = live.post("/v1/adapters", {"name": "pair", "path": "villain", "profile": bad})
        assert status == 400 and answer["error"]["param"] == param, answer
    assert delete(live, "pair")[0] == 200 and delete(live, "mannered")[0] == 200


def test_profile_templates(live):
    shout = prompt_of(live).replace(ASK[0]["content"], ASK[0]["content"].upper())
    assert shout != prompt_of(live)
    config = lambda **more: json.dumps({"chat_template": TEMPLATE, "eos_token": "<|end|>", **more})
    bos = shout[:shout.index("<|user|>")]
    for i, (profile, files, wanted) in enumerate((
            ({"chat_template": TEMPLATE}, None, shout[len(bos):]), (None, {"chat_template.jinja": TEMPLATE}, shout[len(bos):]),
            (None, {"tokenizer_config.json": config()}, shout[len(bos):]),
            ({"chat_template": "{{ bos_token }}" + TEMPLATE}, {"tokenizer_config.json": config(bos_token="<evil>")}, None),
            ({"chat_template": "x"}, {"chat_template.jinja": TEMPLATE}, "x"), ({"chat_template": False}, {"chat_template.jinja": TEMPLATE}, prompt_of(live)),
            ({"chat_template": None}, {"chat_template.jinja": TEMPLATE}, shout[len(bos):]), ({}, None, prompt_of(live)))):
        path = with_profile(live.folder / f"t{i}", profile, files)
        wait_for(lambda: f"t{i}" in names(live))
        got = prompt_of(live, model=f"t{i}")
        assert got == wanted if wanted else "<evil>" not in got and got.endswith(shout[len(bos):]), (i, got)
        status, answer = live.post("/v1/chat/completions", {**GREEDY, "model": f"t{i}"})
        shown = live.post("/tokenize", {"content": got, "add_special": False})[1]["tokens"]
        assert status == 200 and answer["usage"]["prompt_tokens"] == len(shown), (i, answer)
        assert live.post("/tokenize", {"messages": ASK, "model": f"t{i}"})[1]["tokens"] == shown
        # A changed profile is a new generation.
        if i == 0:
            (path / "chorus.json").write_text(json.dumps({"chat_template": "y"}))
            wait_for(lambda: prompt_of(live, model="t0") == "y")
        shutil.rmtree(path)
    wait_for(lambda: not [n for n in names(live) if n.startswith("t") and n[1:].isdigit()])


@pytest.mark.parametrize("profile,param", [
    ("", "chorus.json"), ("[]", "chorus.json"), ("{", "chorus.json"), ('{"system": "a", "system": "b"}', "chorus.json"), ({"sytem": "a"}, "chorus.json: sytem"),
    ({"system": 5}, "chorus.json: system"), ({"system": ["a"]}, "chorus.json: system"), ({"sampling": []}, "chorus.json: sampling"),
    ({"sampling": {"temprature": 1}}, "chorus.json: sampling.temprature"), ({"sampling": {"temperature": 9}}, "chorus.json: sampling.temperature"),
    ({"sampling": {"temperature": "1"}}, "chorus.json: sampling.temperature"), ({"sampling": {"top_k": 1.5}}, "chorus.json: sampling.top_k"),
    ({"sampling": {"max_tokens": 0}}, "chorus.json: sampling.max_tokens"), ({"sampling": {"seed": 1}}, "chorus.json: sampling.seed"),
    ({"chat_template": True}, "chorus.json: chat_template"), ({"chat_template": "{% for"}, "chat_template"), ({"chat_template": "{% include 'x' %}"}, "chat_template"),
    ({"chat_template": "{{ 1" * 500}, "chat_template"), ({"chat_template": "(" * 10 + "{{ " + "(" * 200}, "chat_template"), ({"system": "a" * (1 << 20)}, "chorus.json")])
def test_profiles_that_are_refused(live, profile, param):
    path = with_profile(live.root / "refused", profile)
    try:
        status, answer = live.post("/v1/adapters", {"name": "refused", "path": str(path)})
        assert status == 400 and answer["error"]["param"] == param and "refused" not in names(live), answer
        assert live.post("/v1/adapters", {"name": "refused", "path": str(path), "profile": False})[0] == 200
        assert delete(live, "refused")[0] == 200
    finally:
        shutil.rmtree(path)


def test_profile_files_do_not_lead_outside(live):
    path = with_profile(live.root / "leads")
    os.symlink(str(DEMO / "tokenizer_config.json"), path / "chat_template.jinja")
    status, answer = live.post("/v1/adapters", {"name": "leads", "path": "leads"})
    assert status == 400 and "outside" in answer["error"]["message"], answer
    shutil.rmtree(path)


def test_templates_of_adapters_have_limits(live):
    """A template that never ends costs its own request a 400 and nobody else anything."""
    for i, source in enumerate(("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "{{ 'x' * 100000000 }}",
                                "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ raise_exception('no') }}")):
        with_profile(live.root / f"endless{i}", {"chat_template": source})
        assert live.post("/v1/adapters", {"name": "endless", "path": f"endless{i}"})[0] == 200
        begin = time.monotonic()
        status, answer = live.post("/v1/chat/completions", {**GREEDY, "model": "endless"})
        assert status == 400 and time.monotonic() - begin < 2 * SLOW, answer
        assert say(live, adapter="villain")
    assert delete(live, "endless")[0] == 200


def test_a_replaced_profile_never_meets_other_bytes(live):
    """One name flips between two adapters with two system prompts; each answer is wholly one or the other."""
    with_profile(live.root / "flip0", {"system": "One."}, source="villain")
    with_profile(live.root / "flip1", {"system": "Two is a longer thing to say."}, source="wood-elf")
    wanted = set()
    for i in range(2):
        assert live.post("/v1/adapters", {"name": "flip", "path": f"flip{i}"})[0] == 200
        answer = live.post("/v1/chat/completions", {**GREEDY, "model": "flip"})[1]
        wanted.add((answer["usage"]["prompt_tokens"], answer["choices"][0]["message"]["content"]))
    assert len(wanted) == 2
    stop = threading.Event()
    seen, busy = [], []

    def talk():
        while not stop.is_set():
            status, answer = live.post("/v1/chat/completions", {**GREEDY, "model": "flip"}, timeout=60)
            if status == 429:
                busy.append(1)
            else:
                seen.append((answer["usage"]["prompt_tokens"], answer["choices"][0]["message"]["content"]) if status == 200 else (status, str(answer)))

    threads = [threading.Thread(target=talk) for _ in range(6)]
    for t in threads:
        t.start()
    for i in range(60):
        assert live.post("/v1/adapters", {"name": "flip", "path": f"flip{i % 2}"})[0] == 200
    stop.set()
    for t in threads:
        t.join()
    assert set(seen) <= wanted and len(seen) > 6, set(seen) - wanted
    assert len(busy) <= 2, "a replacement may be noticed once in a blue moon"
    assert delete(live, "flip")[0] == 200
    print(f"profiles: {len(seen)} answers over 60 replacements, 0 mixed, {len(busy)} asked to come again")


# ---- metrics ----

def test_metrics_of_adapters(live):
    assert live.post("/v1/adapters", {"name": "counted", "path": "villain"})[0] == 200
    label = 'adapter="counted"'
    before = scrape(live)
    assert label not in before["chorus_adapter_requests_total"] if "chorus_adapter_requests_total" in before else True
    assert label + ',tier="host"' in before["chorus_adapter_tier"] or label + ',tier="device"' in before["chorus_adapter_tier"]
    assert sum(before["chorus_adapters"].values()) == len(names(live))
    tokens = 0
    for i in range(3):
        usage = live.post("/v1/chat/completions", {**GREEDY, "model": "counted"})[1]["usage"]
        tokens += usage["completion_tokens"]
        assert live.post("/v1/adapters", {"name": "counted", "path": "wood-elf" if i % 2 else "villain"})[0] == 200
    live.wait_metric("chorus_requests_running", 0)
    after = scrape(live)
    assert after["chorus_adapter_requests_total"][label] == 3 and after["chorus_adapter_tokens_out_total"][label] == tokens  # over three generations
    assert after["chorus_adapter_hits_total"][label] + after["chorus_adapter_misses_total"][label] == 3
    assert after["chorus_adapter_load_seconds_count"][label] >= 1 and after["chorus_adapter_first_token_seconds_sum"][label] > 0
    assert delete(live, "counted")[0] == 200


def test_who_asks_may_leave(live):
    """CAN-6: a client that leaves while its adapter is read changes nothing for others; what it asked for is done once or not at all."""
    live.wait_metric("chorus_requests_running", 0)
    wait_for(lambda: live.descriptors() == live.descriptors())
    idle = live.descriptors()
    body = json.dumps({"name": "left", "path": "villain"}).encode()
    head = f"POST /v1/adapters HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for i in range(20):
        with live.connect() as s:
            s.sendall(head + body)
            time.sleep(0.001 * (i % 4))
    live.wait_metric("chorus_connections", 1)
    wait_for(lambda: live.get("/v1/adapters/left")[1].get("status") == "ready" and live.get("/v1/adapters/left")[1]["loading"] is False)
    assert say(live, adapter="left") == say(live, adapter="villain") and delete(live, "left")[0] == 200
    # One that waits for a removal's users leaves too.
    stream = threading.Thread(target=lambda: live.stream("/v1/chat/completions", {"model": "left2", "messages": ASK, "max_tokens": 600, "ignore_eos": True}, timeout=60))
    assert live.post("/v1/adapters", {"name": "left2", "path": "villain"})[0] == 200
    stream.start()
    wait_for(lambda: live.get("/v1/adapters/left2")[1]["users"] == 1)
    with live.connect() as s:
        s.sendall(b"DELETE /v1/adapters/left2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_for(lambda: "left2" not in names(live))
    stream.join()
    live.wait_metric("chorus_connections", 1)
    assert live.descriptors() <= idle + 1
