#!/usr/bin/env python3
"""Writes a random model of any shape as a Hugging Face directory, and PEFT adapters for it, in seconds.

For measuring and comparing, where the words do not matter: weights are seeded normal numbers whose widths keep the logits
spread (about five standard deviations) and the greedy walk from standing still. bf16 safetensors, a byte-level BPE tokenizer
of the full vocabulary, a chat template, generation_config.json.

    make_random_model.py --out /dev/shm/3b --adapters 'seven*32=64,all' --adapters 'qkv*32=64,qkv'

An adapter set is NAME*COUNT=RANK,PART[,PART...][,dora][,rslora][,f32]: parts are all (the seven linears), qkv, head, embed or a
module's name (o_proj); it lands in OUT/adapters/NAME/NAME-00 and so on: `chorus serve --adapters OUT/adapters/NAME`.
Needs numpy; takes torch with a card when both are there.
"""
import argparse
import concurrent.futures
import json
import math
import os
import re
import struct
import sys
import time
import zlib

import numpy as np

try:
    import torch
    CARD = torch.cuda.is_available()
except ImportError:
    CARD = False

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA3_ROPE = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
               "original_max_position_embeddings": 8192, "rope_type": "llama3"}  # fmt: skip


def shape(arch, hidden, layers, heads, kv_heads, head_dim, ffn, vocab, ctx, tied, theta=500000.0, rope=None, eps=1e-5):
    return dict(arch=arch, hidden=hidden, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=head_dim, ffn=ffn,
                vocab=vocab, ctx=ctx, tied=tied, theta=theta, rope=rope, eps=eps)  # fmt: skip


SHAPES = {
    "llama-3b": shape("llama", 3072, 28, 24, 8, 128, 8192, 128256, 131072, True, rope=LLAMA3_ROPE),
    "llama-1b": shape("llama", 2048, 16, 32, 8, 64, 8192, 128256, 131072, True, rope=LLAMA3_ROPE),
    "llama-8b": shape("llama", 4096, 32, 32, 8, 128, 14336, 128256, 131072, False, rope=dict(LLAMA3_ROPE, factor=8.0)),
    "mistral-7b": shape("mistral", 4096, 32, 32, 8, 128, 14336, 32768, 32768, False, 1000000.0),
    "qwen2-0.5b": shape("qwen2", 896, 24, 14, 2, 64, 4864, 151936, 32768, True, 1000000.0, eps=1e-6),
    "qwen2-7b": shape("qwen2", 3584, 28, 28, 4, 128, 18944, 152064, 32768, False, 1000000.0, eps=1e-6),
    "qwen3-0.6b": shape("qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, True, 1000000.0, eps=1e-6),
    "qwen3-4b": shape("qwen3", 2560, 36, 32, 8, 128, 9728, 151936, 40960, True, 1000000.0, eps=1e-6),
    "qwen3-8b": shape("qwen3", 4096, 36, 32, 8, 128, 12288, 151936, 40960, False, 1000000.0, eps=1e-6),
    # Small and awkward, one a family: widths that fill no tile, head_dim away from hidden / heads, one kv head.
    "tiny-llama": shape("llama", 192, 3, 6, 2, 32, 416, 1024, 4096, True,
                        rope=dict(LLAMA3_ROPE, factor=8.0, original_max_position_embeddings=64)),
    "tiny-mistral": shape("mistral", 128, 2, 4, 4, 64, 264, 1024, 4096, False, 1000000.0),
    "tiny-qwen2": shape("qwen2", 160, 2, 5, 1, 32, 272, 1036, 4096, False, 1000000.0, eps=1e-6),
    "tiny-qwen3": shape("qwen3", 256, 3, 8, 2, 128, 512, 1024, 4096, True, 1000000.0, eps=1e-6),
}  # fmt: skip

# ---- numbers ----

POOL = 1 << 24  # without a card: normal numbers are drawn once and read from another place for every tensor


class Numbers:
    """Seeded normal numbers as bf16 or float32 bytes; each tensor's depend on the seed and its name only."""

    def __init__(self, seed):
        self.seed = seed
        self.pool = None
        if CARD:
            self.generator = torch.Generator(device="cuda")

    def normal(self, name, dims, std, mean=0.0, f32=False):
        key = (self.seed << 32) ^ zlib.crc32(name.encode())
        count = math.prod(dims)
        if CARD:
            self.generator.manual_seed(key)
            x = torch.randn(count, generator=self.generator, device="cuda", dtype=torch.float32 if f32 else torch.bfloat16)
            x = (x * std + mean).cpu()
            return (x if f32 else x.view(torch.int16)).numpy()
        # A small tensor is drawn for itself; a large one is a stretch of the pool from a place of its own.
        if count < 1 << 20:
            x = np.random.default_rng(key).standard_normal(count, dtype=np.float32)
        else:
            if self.pool is None:
                self.pool = np.random.default_rng(self.seed).standard_normal(POOL, dtype=np.float32)
            start = key * 2654435761 % POOL
            x = np.resize(np.roll(self.pool, -start), count)
        x = x * np.float32(std) + np.float32(mean)
        return x if f32 else to_bf16(x)


def to_bf16(x):
    """Round half to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


# ---- safetensors ----


class Progress:
    def __init__(self, total):
        self.total, self.done, self.start, self.shown = total, 0, time.monotonic(), 0.0

    def add(self, count, what):
        self.done += count
        now = time.monotonic()
        if now - self.shown > 1.0 or self.done == self.total:
            self.shown = now
            print(f"{100 * self.done / max(self.total, 1):3.0f} %  {self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB  "
                  f"{now - self.start:.0f} s  {what}", file=sys.stderr, flush=True)  # fmt: skip


def tensor_bytes(spec):
    return math.prod(spec["dims"]) * (4 if spec.get("f32") else 2)


def write_safetensors(path, specs, numbers, progress):
    """specs: name -> dims, std, mean, f32. One file, tensors in this order."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, s in specs.items():
        n = tensor_bytes(s)
        header[name] = {"dtype": "F32" if s.get("f32") else "BF16", "shape": list(s["dims"]), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, s in specs.items():
            data = numbers.normal(s.get("key", name), s["dims"], s["std"], s.get("mean", 0.0), s.get("f32", False))
            view = memoryview(data).cast("B")
            while view:
                view = view[f.write(view):]
            progress.add(tensor_bytes(s), name)


# ---- the base ----

GAIN = {"q_proj": 1.3, "k_proj": 1.3, "v_proj": 1.5, "o_proj": 3.0, "gate_proj": 1.5, "up_proj": 1.5, "down_proj": 3.0}
LOGIT_SPREAD = 5.0


def linear_dims(s, kind):
    """[out, in]"""
    q, kv = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    return {"q_proj": (q, s["hidden"]), "k_proj": (kv, s["hidden"]), "v_proj": (kv, s["hidden"]),
            "o_proj": (s["hidden"], q), "gate_proj": (s["ffn"], s["hidden"]), "up_proj": (s["ffn"], s["hidden"]),
            "down_proj": (s["hidden"], s["ffn"])}[kind]  # fmt: skip


def linear_path(layer, kind):
    return f"model.layers.{layer}.{'self_attn' if kind in LINEARS[:4] else 'mlp'}.{kind}"


def base_specs(s):
    norm = lambda n: dict(dims=(n,), std=0.1, mean=1.0)
    m = s["hidden"]
    head_std = LOGIT_SPREAD / math.sqrt(m)
    out = {"model.embed_tokens.weight": dict(dims=(s["vocab"], m), std=head_std if s["tied"] else 0.6)}
    for layer in range(s["layers"]):
        p = f"model.layers.{layer}."
        out[p + "input_layernorm.weight"] = norm(m)
        for kind in LINEARS:
            dims = linear_dims(s, kind)
            out[linear_path(layer, kind) + ".weight"] = dict(dims=dims, std=GAIN[kind] / math.sqrt(dims[1]))
            if s["arch"] == "qwen2" and kind in LINEARS[:3]:
                out[linear_path(layer, kind) + ".bias"] = dict(dims=(dims[0],), std=0.5)
        if s["arch"] == "qwen3":
            out[p + "self_attn.q_norm.weight"] = norm(s["head_dim"])
            out[p + "self_attn.k_norm.weight"] = norm(s["head_dim"])
        out[p + "post_attention_layernorm.weight"] = norm(m)
    out["model.norm.weight"] = norm(m)
    if not s["tied"]:
        out["lm_head.weight"] = dict(dims=(s["vocab"], m), std=head_std)
    return out


SHARD_BYTES = 5_000_000_000


def write_base(s, folder, numbers, progress):
    specs = base_specs(s)
    shards, used = [{}], 0
    for name, spec in specs.items():
        if used and used + tensor_bytes(spec) > SHARD_BYTES:
            shards.append({})
            used = 0
        shards[-1][name] = spec
        used += tensor_bytes(spec)
    if len(shards) == 1:
        write_safetensors(f"{folder}/model.safetensors", specs, numbers, progress)
        return
    index = {"metadata": {"total_size": sum(map(tensor_bytes, specs.values()))}, "weight_map": {}}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(f"{folder}/{file}", shard, numbers, progress)
        index["weight_map"].update({name: file for name in shard})
    write_json(f"{folder}/model.safetensors.index.json", index)


def write_json(path, data, indent=2):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=indent, ensure_ascii=False, separators=None if indent else (",", ":"))
        f.write("\n")


def config_of(s, bos, eos):
    c = {
        "architectures": [{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[s["arch"]] + "ForCausalLM"],
        "attention_dropout": 0.0, "bos_token_id": bos, "eos_token_id": eos, "hidden_act": "silu", "hidden_size": s["hidden"],
        "initializer_range": 0.02, "intermediate_size": s["ffn"], "max_position_embeddings": s["ctx"], "model_type": s["arch"],
        "num_attention_heads": s["heads"], "num_hidden_layers": s["layers"], "num_key_value_heads": s["kv_heads"],
        "head_dim": s["head_dim"], "rms_norm_eps": s["eps"], "rope_theta": s["theta"], "tie_word_embeddings": s["tied"],
        "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": s["vocab"],
    }  # fmt: skip
    if s["arch"] == "llama":
        c.update(attention_bias=False, mlp_bias=False, rope_scaling=s["rope"], pretraining_tp=1)
    elif s["arch"] == "mistral":
        c.update(sliding_window=None)
    else:
        c.update(use_sliding_window=False, sliding_window=None, max_window_layers=s["layers"])
        if s["arch"] == "qwen3":
            c.update(attention_bias=False, rope_scaling=None)
    return c


# ---- the tokenizer ----

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
SPECIALS = {
    "llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"],
    "mistral": ["<s>", "</s>", "[INST]", "[/INST]"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
SPECIALS["qwen3"] = SPECIALS["qwen2"]
TEMPLATES = {
    "llama": "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
             "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
             "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
               "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}",
    "qwen2": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
             "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}  # fmt: skip
TEMPLATES["qwen3"] = TEMPLATES["qwen2"]
LETTERS = "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQXZ"


def byte_characters():
    """The printable stand-ins of byte-level BPE, by byte value."""
    keep = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in range(256)]


def merges_until(count):
    """Merges whose results are all different: pairs of letters, a space before each, then longer and longer words."""
    space = byte_characters()[32]
    out, seen = [], set()

    def add(left, right):
        if len(out) < count and left + right not in seen:
            seen.add(left + right)
            out.append((left, right))
        return len(out) < count

    level = list(LETTERS)
    for c in LETTERS:
        if not add(space, c):
            return out
    words = [space + c for c in LETTERS] + level
    while True:
        longer = []
        for w in words:
            for c in LETTERS:
                if not add(w, c):
                    return out
                longer.append(w + c)
        words = longer


def write_tokenizer(s, folder):
    """Returns (bos, eos ids). Vocabulary: bytes, merges, specials, and as many reserved tokens as fill the embedding's rows."""
    arch = s["arch"]
    specials = list(SPECIALS[arch])
    reserved = 256 - len(specials) if s["vocab"] >= 32768 else 0
    specials += [f"<|reserved_special_token_{i}|>" for i in range(reserved)]
    tokens = byte_characters()
    merges = merges_until(s["vocab"] - len(tokens) - len(specials))
    tokens += [a + b for a, b in merges]
    first = len(tokens)
    added = [dict(id=first + i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, t in enumerate(specials)]  # fmt: skip
    ids = {t["content"]: t["id"] for t in added}
    bos = specials[0]
    eos = [ids[t] for t in specials if t in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "</s>", "<|im_end|>", "<|endoftext|>")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    post = dict(byte_level, trim_offsets=False)
    if arch in ("llama", "mistral"):
        post = {"type": "Sequence", "processors": [post, {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}}}]}  # fmt: skip
    write_json(f"{folder}/tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, byte_level]},
        "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": arch == "llama",
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [f"{a} {b}" for a, b in merges]}}, indent=None)  # fmt: skip
    end = {"llama": "<|eot_id|>", "mistral": "</s>"}.get(arch, "<|im_end|>")
    write_json(f"{folder}/tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos if arch in ("llama", "mistral") else None,
        "eos_token": end, "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": s["ctx"]})  # fmt: skip
    with open(f"{folder}/chat_template.jinja", "w", encoding="utf-8") as f:
        f.write(TEMPLATES[arch])
    return ids[bos], eos


# ---- adapters ----

PARTS = {"all": LINEARS, "qkv": LINEARS[:3], "head": ["lm_head"], "embed": ["embed_tokens"]}
STRENGTH = {"lm_head": 1.0, "embed_tokens": 0.2}  # of the change, against the outputs of the base; 0.4 elsewhere


def parse_set(text):
    m = re.fullmatch(r"([\w.-]+)(?:\*(\d+))?=(\d+),([\w,]+)", text)
    if not m:
        raise SystemExit(f"--adapters {text}: want NAME*COUNT=RANK,PART[,PART...][,dora][,rslora][,f32]")
    name, count, rank, words = m[1], int(m[2] or 1), int(m[3]), m[4].split(",")
    flags = {w: w in words for w in ("dora", "rslora", "f32")}
    modules = [m for w in words if w not in flags for m in PARTS.get(w, [w])]
    unknown = set(modules) - set(LINEARS) - {"lm_head", "embed_tokens"}
    if unknown or not modules or not 1 <= rank <= 512:
        raise SystemExit(f"--adapters {text}: rank 1..512 and known modules; not known: {sorted(unknown)}")
    return dict(name=name, count=count, rank=rank, modules=modules, **flags)


def adapter_specs(s, a, label):
    """Tensors of one adapter: A of unit gain, B so that the change has STRENGTH of the base's size."""
    r, out = a["rank"], {}
    alpha = 2 * r
    scale = alpha / (math.sqrt(r) if a["rslora"] else r)

    def add(key, dims, std, mean=0.0):
        out[f"base_model.model.{key}"] = dict(dims=dims, std=std, mean=mean, f32=a["f32"], key=f"{label}/{key}")

    def site(path, kind, dims, width):
        width = STRENGTH.get(kind, 0.4) * width / (scale * math.sqrt(r))
        if kind == "embed_tokens":
            add(f"{path}.lora_embedding_A", (r, dims[1]), 1.0)
            add(f"{path}.lora_embedding_B", (dims[0], r), width)
            return
        add(f"{path}.lora_A.weight", (r, dims[1]), 1 / math.sqrt(dims[1]))
        add(f"{path}.lora_B.weight", (dims[0], r), width)
        if a["dora"]:
            norm = GAIN.get(kind, LOGIT_SPREAD)  # of a row of the base: std * sqrt(in)
            add(f"{path}.lora_magnitude_vector", (dims[0],), 0.1 * norm, norm)

    for layer in range(s["layers"]):
        for kind in LINEARS:
            if kind in a["modules"]:
                site(linear_path(layer, kind), kind, linear_dims(s, kind), GAIN[kind])
    if "lm_head" in a["modules"]:
        site("lm_head", "lm_head", (s["vocab"], s["hidden"]), LOGIT_SPREAD)
    if "embed_tokens" in a["modules"]:
        site("model.embed_tokens", "embed_tokens", (s["hidden"], s["vocab"]), 0.6)
    return out, alpha


def adapter_config(a, alpha, base):
    return {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": base, "bias": "none", "exclude_modules": None,
        "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "layers_pattern": None,
        "layers_to_transform": None, "lora_alpha": alpha, "lora_bias": False, "lora_dropout": 0.0, "modules_to_save": None,
        "peft_type": "LORA", "r": a["rank"], "rank_pattern": {}, "revision": None, "target_modules": a["modules"],
        "task_type": "CAUSAL_LM", "use_dora": a["dora"], "use_rslora": a["rslora"],
    }  # fmt: skip


def write_adapter(s, a, index, folder, numbers, progress):
    label = f"{a['name']}-{index:02d}"
    folder = f"{folder}/adapters/{a['name']}/{label}"
    os.makedirs(folder, exist_ok=True)
    specs, alpha = adapter_specs(s, a, label)
    write_json(f"{folder}/adapter_config.json", adapter_config(a, alpha, f"random/{s['name']}"))
    write_safetensors(f"{folder}/adapter_model.safetensors", specs, numbers, progress)


# ---- the program ----


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="directory to write")
    p.add_argument("--shape", default="llama-3b", choices=SHAPES)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--adapters", action="append", default=[], metavar="SET", help="one set of adapters, see above; may be repeated")
    p.add_argument("--no-base", action="store_true", help="only adapters; the base is there already")
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "ctx"):
        p.add_argument(f"--{name.replace('_', '-')}", type=int, help="another value than the shape's")
    return p.parse_args()


def main():
    args = arguments()
    s = dict(SHAPES[args.shape], name=args.shape)
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "ctx"):
        if getattr(args, name) is not None:
            s[name] = getattr(args, name)
    sets = [parse_set(t) for t in args.adapters]
    numbers = Numbers(args.seed)
    total = sum(a["count"] * sum(map(tensor_bytes, adapter_specs(s, a, "")[0].values())) for a in sets)
    if not args.no_base:
        total += sum(map(tensor_bytes, base_specs(s).values()))
    os.makedirs(args.out, exist_ok=True)
    progress = Progress(total)
    start = time.monotonic()
    if not args.no_base:
        bos, eos = write_tokenizer(s, args.out)
        write_json(f"{args.out}/config.json", config_of(s, bos, eos))
        write_json(f"{args.out}/generation_config.json", {"bos_token_id": bos, "do_sample": True, "eos_token_id": eos,
                                                          "temperature": 0.7, "top_p": 0.95})  # fmt: skip
        write_base(s, args.out, numbers, progress)
    # The card's generator is one; numpy's are made by tensor, so that several files can be written at once.
    with concurrent.futures.ThreadPoolExecutor(1 if CARD else min(4, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(write_adapter, s, a, i, args.out, numbers, progress) for a in sets for i in range(a["count"])]
        for job in jobs:
            job.result()
    took = time.monotonic() - start
    print(f"{args.out}: {args.shape}, {total / 1e9:.2f} GB in {took:.1f} s ({'card' if CARD else 'numpy'})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
