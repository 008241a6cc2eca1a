"""Adapters at 8 and 4 bits: the option, the field of POST /v1/adapters, what is told of them, and what survives a restart."""
import json

import pytest

from conftest import DEMO, start_real
from gguf_files import convert

ADAPTERS = DEMO / "adapters"
ASK = {"messages": [{"role": "user", "content": "Tell me a story about a lantern."}], "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 3}


def said(s, voice):
    status, answer = s.post("/v1/chat/completions", {**ASK, "adapter": voice})
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["message"]["content"], json.dumps(choice["logprobs"])


def facts(s):
    return {a["name"]: a for a in s.get("/v1/adapters")[1]["data"] if not a["draining"]}


@pytest.fixture
def args(tmp_path):
    return ("--model", str(DEMO), "--adapters", str(ADAPTERS), "--adapter-root", str(tmp_path), "--kv-pages", "400", "--state-dir", str(tmp_path / "state"))


def test_width_is_told_and_kept(tmp_path, args):
    s = start_real(tmp_path, *args, "--adapter-quant", "int8", name="first")
    plain = start_real(tmp_path, *args[:-2], name="plain")
    before = facts(plain)
    now = facts(s)
    for name, a in now.items():
        assert a["quant"] == "int8" and 0.002 < a["quant_error"] < 0.012 and before[name]["quant"] == "none" and before[name]["quant_error"] == 0
        assert 0.5 < a["bytes"] / before[name]["bytes"] < 0.56 and a["sha256"] != before[name]["sha256"]
    for field, width in ((None, "int8"), ("default", "int8"), ("none", "none"), ("int4", "int4")):
        status, made = s.post("/v1/adapters", {"name": f"as-{field}", "path": "villain", "quant": field})
        assert status == 200 and made["quant"] == width, made
    now = facts(s)
    assert now["as-none"]["sha256"] == before["villain"]["sha256"] and said(s, "as-none") == said(plain, "villain")
    assert now["as-None"]["sha256"] == now["villain"]["sha256"] and said(s, "as-None") == said(s, "villain")
    assert len({said(s, v)[1] for v in ("villain", "as-none", "as-int4")}) == 3
    assert 0.03 < now["as-int4"]["quant_error"] < 0.13 and now["as-int4"]["bytes"] < now["villain"]["bytes"]
    convert(ADAPTERS / "villain", DEMO, tmp_path / "v.gguf")
    status, made = s.post("/v1/adapters", {"name": "file", "path": "v.gguf"})
    assert status == 200 and made["quant"] == "int8" and said(s, "file") == said(s, "villain")
    for bad in ("int2", "", 8, True, ["int8"]):
        status, answer = s.post("/v1/adapters", {"name": "bad", "path": "villain", "quant": bad})
        assert status == 400 and answer["error"]["param"] == "quant", answer
    status, answer = s.post("/v1/adapters", {"name": "bad", "blend": [{"name": "villain"}], "quant": "int8"})
    assert status == 400 and answer["error"]["param"] == "quant"
    told = {v: said(s, v) for v in ("as-none", "as-int4", "as-None")}
    assert s.stop() == 0 and plain.stop() == 0
    # What said its width has it again; the others have the option's.
    s = start_real(tmp_path, *args, name="second")
    assert {n: facts(s)[n]["quant"] for n in ("as-none", "as-int4", "as-None", "as-default", "villain")} == {
        "as-none": "none", "as-int4": "int4", "as-None": "none", "as-default": "none", "villain": "none"}
    assert said(s, "as-int4") == told["as-int4"] and said(s, "as-none") == told["as-none"] == said(s, "as-None") != told["as-None"]
    assert s.stop() == 0


def test_read_again_at_the_same_width(tmp_path, args):
    s = start_real(tmp_path, *args, "--adapter-quant", "int4", "--adapter-slots", "1", "--adapter-memory", "1")
    first = said(s, "villain")
    assert said(s, "wood-elf") != first and said(s, "villain") == first
    a = facts(s)["villain"]
    assert a["disk_reads"] >= 2 and a["quant"] == "int4" and 0 < a["quant_error"] < 0.13
    assert s.stop() == 0
