"""Adapters at 8 and 4 bits: the option, the field of POST /v1/adapters, what is told of them, and what survives a restart."""
import array
import json
import math
import re
import shutil
import struct

import pytest

from commands import run
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


def rewrite(path, change):
    """Puts the bf16 values that `change` makes of a tensor's (name, shape, values) back; returns those of every tensor."""
    raw = bytearray((path / "adapter_model.safetensors").read_bytes())
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:8 + size])
    made = {}
    for name, t in head.items():
        if name == "__metadata__":
            continue
        assert t["dtype"] == "BF16"
        begin, end = (8 + size + n for n in t["data_offsets"])
        words = array.array("H", bytes(raw[begin:end]))
        values = change(name, t["shape"], [struct.unpack("<f", struct.pack("<I", w << 16))[0] for w in words])
        words = array.array("H", [struct.unpack("<I", struct.pack("<f", v))[0] >> 16 for v in values])
        raw[begin:end] = words.tobytes()
        made[name] = (t["shape"], values)
    (path / "adapter_model.safetensors").write_bytes(raw)
    return made


def rounded(shape, values, most, group):
    """Squares of what is lost and of what was there, B's values [out, rank] rounded with the scale of each group's largest one."""
    out, rank = shape
    lost = there = 0.0
    for r in range(rank):
        column = values[r::rank]
        for at in range(0, out, group or out):
            part = column[at:at + (group or out)]
            scale = max(map(abs, part)) / most or 1.0
            lost += sum((v - round(v / scale) * scale) ** 2 for v in part)
            there += sum(v * v for v in part)
    return lost, there


def test_inspect_tells_the_error(tmp_path):
    """A of nothing but 1 and -1 loses nothing; B's loss is a little below that of plain rounding; the worst module is named."""
    path = tmp_path / "half"
    shutil.copytree(ADAPTERS / "villain", path)
    worst = "layers.3.self_attn.o_proj"

    def change(name, shape, values):
        if "lora_A" in name:
            return [1.0 if v >= 0 else -1.0 for v in values]
        if worst in name:
            return [v * (16.0 if i // shape[1] % 64 == 0 else 1.0) for i, v in enumerate(values)]
        return values

    made = rewrite(path, change)
    code, out, err = run("inspect", path, "--model", DEMO, "--json")
    assert code == 0, err
    told = json.loads(out)["quant_error"]
    text = run("inspect", path, "--model", DEMO)[1]
    for width, most, group in (("int8", 127, 0), ("int4", 7, 64)):
        parts = {name: rounded(*t, most, group) for name, t in made.items() if "lora_B" in name}
        plain = math.sqrt(sum(lost for lost, _ in parts.values()) / sum(there for _, there in parts.values()))
        assert told[width]["a"] < 0.003 and 0.5 * plain < told[width]["b"] <= 1.001 * plain, (width, plain, told)
        assert worst in told[width]["worst"]["module"] and told[width]["worst"]["b"] > told[width]["b"] > told[width]["worst"]["a"], told
        line = re.search(rf"^{width} +error ([\d.]+) % of A, ([\d.]+) % of B; most at (\S+): ([\d.]+) %, ([\d.]+) %$", text, re.M)
        assert line and line[3] == told[width]["worst"]["module"], text
        assert [float(line[i]) for i in (1, 2, 4, 5)] == pytest.approx([100 * v for v in (told[width]["a"], told[width]["b"], told[width]["worst"]["a"], told[width]["worst"]["b"])], abs=0.006)
