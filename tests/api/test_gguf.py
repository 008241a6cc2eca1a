"""Adapters in GGUF files: added by path, found in the live folder, named at start, read again; each says what its PEFT form says."""
import json
import os
import shutil
import struct

import pytest

from conftest import DEMO, start_real
from gguf_files import convert
from live_folder import folder_looked, names, wait_for

ADAPTERS = DEMO / "adapters"
ASK = {"messages": [{"role": "user", "content": "Tell me a story about a lantern."}], "max_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 3}


def said(s, voice):
    """The answer and its log-probabilities, to the bit."""
    status, answer = s.post("/v1/chat/completions", {**ASK, "adapter": voice})
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["message"]["content"], json.dumps(choice["logprobs"])


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("gguf")
    (tmp / "folder").mkdir()
    (tmp / "outside").mkdir()
    for voice in ("villain", "wood-elf"):
        shutil.copytree(ADAPTERS / voice, tmp / "folder" / voice)
    convert(ADAPTERS / "villain", DEMO, tmp / "folder/at-start.gguf")
    s = start_real(tmp, "--model", str(DEMO), "--adapters", str(tmp / "folder"), "--kv-pages", "400",
                   "--adapter", f"named={convert(ADAPTERS / 'wood-elf', DEMO, tmp / 'outside/elf.gguf')}")
    s.folder, s.outside = tmp / "folder", tmp / "outside"
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


def test_files_say_what_directories_say(live):
    assert said(live, "at-start") == said(live, "villain") != said(live, "wood-elf")
    assert said(live, "named") == said(live, "wood-elf")
    facts = {a["name"]: a for a in live.get("/v1/adapters")[1]["data"]}
    for ours, theirs in (("at-start", "villain"), ("named", "wood-elf")):
        assert facts[ours]["sha256"] != facts[theirs]["sha256"] and facts[ours]["path"].endswith(".gguf")
        for field in ("rank", "modules", "targets", "scale_min", "scale_max", "bytes"):
            assert facts[ours][field] == facts[theirs][field], field


def test_added_by_path(live):
    convert(ADAPTERS / "villain", DEMO, live.folder / "sub.gguf.part", wide=True)
    (live.folder / "deep").mkdir()
    os.rename(live.folder / "sub.gguf.part", live.folder / "deep/wide.gguf")
    status, made = live.post("/v1/adapters", {"name": "wide", "path": "deep/wide.gguf"})
    assert status == 200 and made["bytes"] == 2 * {a["name"]: a for a in live.get("/v1/adapters")[1]["data"]}["villain"]["bytes"]
    assert said(live, "wide")[0] == said(live, "villain")[0]
    status, report = live.post("/v1/adapters/check", {"path": "deep/wide.gguf"})
    assert status == 200 and report["ok"] is True and report["unmatched"] == 0 and report["no_op"] is False and report["sha256"] == made["sha256"]
    assert len(report["tensors"]) == 2 * report["modules"] and {t["dtype"] for t in report["tensors"]} == {"F32"}
    status, again = live.post("/v1/adapters", {"name": "wide", "path": str(live.folder / "wood-elf")})
    assert status == 200 and again["replaced"] is True and said(live, "wide") == said(live, "wood-elf")
    assert live.post("/v1/adapters", {"name": "out", "path": str(live.outside / "elf.gguf")})[0] == 403
    os.symlink(live.outside / "elf.gguf", live.folder / "deep/link.gguf")
    assert live.post("/v1/adapters", {"name": "out", "path": "deep/link.gguf"})[0] in (400, 403, 404)
    assert live.request("DELETE", "/v1/adapters/wide")[0] == 200


def test_live_folder(live):
    part = convert(ADAPTERS / "villain", DEMO, live.folder / ".new")
    os.rename(part, live.folder / "new.gguf")
    wait_for(lambda: "new" in names(live))
    assert said(live, "new") == said(live, "villain")
    first = live.get("/v1/adapters/new")[1]
    assert first["source"] == "folder" and first["path"].endswith("/new.gguf")
    os.rename(convert(ADAPTERS / "wood-elf", DEMO, live.folder / ".new"), live.folder / "new.gguf")
    wait_for(lambda: live.get("/v1/adapters/new")[1]["generation"] > first["generation"])
    assert said(live, "new") == said(live, "wood-elf")
    # A directory of the name comes before a file; without it the file counts again.
    shutil.copytree(ADAPTERS / "villain", live.folder / ".dir")
    os.rename(live.folder / ".dir", live.folder / "new")
    wait_for(lambda: live.get("/v1/adapters/new")[1]["path"].endswith("/new"))
    assert said(live, "new") == said(live, "villain")
    shutil.rmtree(live.folder / "new")
    wait_for(lambda: live.get("/v1/adapters/new")[1].get("path", "").endswith("/new.gguf"))
    assert said(live, "new") == said(live, "wood-elf")
    # Written slowly: nothing is believed before it is whole.
    whole = convert(ADAPTERS / "villain", DEMO, live.outside / "slow.gguf").read_bytes()
    with open(live.folder / "slow.gguf", "wb") as f:
        for i in range(4):
            f.write(whole[i * len(whole) // 4:(i + 1) * len(whole) // 4])
            f.flush()
            folder_looked(live)
            assert i == 3 or "slow" not in names(live)
    wait_for(lambda: "slow" in names(live))
    for name in ("new", "slow"):
        (live.folder / f"{name}.gguf").unlink()
    wait_for(lambda: not {"new", "slow"} & set(names(live)))


def test_refused_by_name(live):
    q = "blk.0.attn_q.weight.lora_a"
    cases = [("far", lambda t: t.update({"blk.77.attn_q.weight.lora_a": t.pop(q)}), "blk.77.attn_q.weight.lora_a"),
             ("norm", lambda t: t.update({"blk.0.attn_norm.weight": ("F32", [4], bytes(16))}), "blk.0.attn_norm.weight"),
             ("turned", lambda t: t.update({q: (t[q][0], t[q][1][::-1], t[q][2])}), q),
             ("half", lambda t: t.pop(q), q),
             ("nan", lambda t: t.update({q: ("F32", t[q][1], struct.pack("<f", float("nan")) * (t[q][1][0] * t[q][1][1]))}), q)]
    for label, change, param in cases:
        path = convert(ADAPTERS / "villain", DEMO, live.folder / "deep" / f"{label}.gguf", change=change)
        status, answer = live.post("/v1/adapters", {"name": "bad", "path": f"deep/{label}.gguf"})
        assert status == 400 and answer["error"]["code"] == "adapter_invalid" and answer["error"]["param"] == param, (label, answer)
        status, report = live.post("/v1/adapters/check", {"path": f"deep/{label}.gguf"})
        assert status == 200 and report["ok"] is False and report["error"]["param"] == param and len(report["tensors"]) > 0
        path.unlink()
    convert(ADAPTERS / "villain", DEMO, live.folder / "deep/qwen.gguf", arch="qwen3")
    status, answer = live.post("/v1/adapters", {"name": "bad", "path": "deep/qwen.gguf"})
    assert status == 400 and answer["error"]["param"] == "general.architecture"
    assert live.post("/v1/adapters", {"name": "bad", "path": "deep/none.gguf"})[0] == 404 and "bad" not in names(live)


def test_read_again_and_restarted(tmp_path):
    """A file beyond the memory for adapters is read again, its hash compared; registered ones survive a restart."""
    (tmp_path / "root").mkdir()
    file = convert(ADAPTERS / "villain", DEMO, tmp_path / "root/one.gguf")
    args = ("--model", str(DEMO), "--adapter-root", str(tmp_path / "root"), "--adapter", f"elf={ADAPTERS / 'wood-elf'}", "--kv-pages", "400",
            "--adapter-slots", "1", "--adapter-memory", "1", "--state-dir", str(tmp_path / "state"))
    s = start_real(tmp_path, *args, name="first")
    assert s.post("/v1/adapters", {"name": "one", "path": "one.gguf"})[0] == 200
    before = said(s, "one")
    assert said(s, "elf") != before and said(s, "one") == before
    assert {a["name"]: a for a in s.get("/v1/adapters")[1]["data"]}["one"]["disk_reads"] >= 2
    assert s.stop() == 0
    s = start_real(tmp_path, *args, name="second")
    assert said(s, "one") == before
    said(s, "elf")
    os.rename(convert(ADAPTERS / "summary", DEMO, tmp_path / "other"), file)
    status, answer = s.post("/v1/chat/completions", {**ASK, "adapter": "one"})
    assert status == 409 and "changed" in answer["error"]["message"], answer
    assert s.stop() == 0
