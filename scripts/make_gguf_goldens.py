#!/usr/bin/env python3
"""Writes tests/golden/data/gguf/: adapters of the goldens as GGUF files, by the `gguf` package, in the form that llama.cpp's
conversion gives them; and one file with every tensor type, beside what the package says its values are. Deterministic.

Usage: PYTHONPATH=. python3 scripts/make_gguf_goldens.py (needs torch, safetensors, gguf; see tests/golden/README.md)
"""
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file

DATA = Path("tests/golden/data")
OUT = DATA / "gguf"
ARCH = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
ADAPTERS = [("llama", "all-r8"), ("llama", "head-r8"), ("mistral", "all-r8"), ("mistral", "embed-r4"), ("qwen2", "qv-r4"), ("qwen3", "all-r8")]
SITES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
RAW = {torch.float32: Type.F32, torch.float16: Type.F16, torch.bfloat16: Type.BF16}


def gguf_name(path):
    if path == "lm_head":
        return "output.weight"
    if path == "model.embed_tokens":
        return "token_embd.weight"
    layer, site = path.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{SITES[site]}.weight"


def pair_halves(b, heads):
    """The converter's order of the rows of q and k: within each head (half, pair) becomes (pair, half)."""
    rows, rank = b.shape
    return b.reshape(heads, 2, rows // heads // 2, rank).transpose(1, 2).reshape(rows, rank)


def as_bytes(t):
    return t.contiguous().view(torch.uint8).numpy()


def writer_for(path, arch, alpha):
    w = gguf.GGUFWriter(path, ARCH[arch])
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    w.add_string("general.name", "golden")
    w.add_uint32("general.base_model.count", 1)
    w.add_string("general.base_model.0.name", "Tiny")
    w.add_string("general.base_model.0.repo_url", f"https://huggingface.co/chorus/{arch}")
    w.add_array("general.tags", ["lora", "golden"])
    return w


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def convert(arch, name):
    source = DATA / arch / "adapters" / name
    config = json.loads((source / "adapter_config.json").read_text())
    shape = json.loads((DATA / arch / "model/config.json").read_text())
    w = writer_for(OUT / f"{arch}-{name}.gguf", arch, config["lora_alpha"])
    for key, t in load_file(source / "adapter_model.safetensors").items():
        path = key.removeprefix("base_model.model.").replace(".lora_embedding_", ".lora_")
        path, _, end = path.partition(".lora_")
        if not end:
            continue  # a copy of the base's weight
        if path == "model.embed_tokens" and end[0] == "A":
            t = t.T.contiguous()
        if end[0] == "B" and ARCH[arch] == "llama" and path.endswith(("q_proj", "k_proj")):
            t = pair_halves(t, shape["num_attention_heads" if path.endswith("q_proj") else "num_key_value_heads"])
        w.add_tensor(f"{gguf_name(path)}.lora_{end[0].lower()}", as_bytes(t), raw_dtype=RAW[t.dtype])
    finish(w)


def every_type():
    """A Qwen3 adapter, whose rows stay in order: layer 0, a site a type, rank 32; alpha 0."""
    shape = json.loads((DATA / "qwen3/model/config.json").read_text())
    m, f, d = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    q, kv = shape["num_attention_heads"] * d, shape["num_key_value_heads"] * d
    sizes = {"self_attn.q_proj": (m, q), "self_attn.k_proj": (m, kv), "self_attn.v_proj": (m, kv), "self_attn.o_proj": (q, m),
             "mlp.gate_proj": (m, f), "mlp.up_proj": (m, f), "mlp.down_proj": (f, m)}
    types = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.F16, Type.BF16]
    rng = np.random.default_rng(7)
    w = writer_for(OUT / "types.gguf", "qwen3", 0.0)
    values = {}
    for (site, (n_in, n_out)), kind in zip(sizes.items(), types):
        for end, rows in (("A", (32, n_in)), ("B", (n_out, 32))):
            x = rng.standard_normal(rows, dtype=np.float32) * np.float32(0.1)
            packed = gguf.quants.quantize(x, kind)
            w.add_tensor(f"blk.0.{SITES[site]}.weight.lora_{end.lower()}", packed, raw_dtype=kind)
            values[f"base_model.model.model.layers.0.{site}.lora_{end}.weight"] = torch.from_numpy(gguf.quants.dequantize(packed, kind).copy())
    finish(w)
    folder = OUT / "types"
    folder.mkdir()
    save_file(values, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 32, "lora_alpha": 32, "target_modules": sorted(s.split(".")[1] for s in SITES)}
    (folder / "adapter_config.json").write_text(json.dumps(config) + "\n")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for arch, name in ADAPTERS:
        convert(arch, name)
    every_type()


if __name__ == "__main__":
    main()
