"""PEFT adapters of the demo model as GGUF LoRA files, without numpy: what llama.cpp's conversion would write."""
import json
import struct

SITES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
TYPES = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2)}
ALIGNMENT = 32


def read_peft(path):
    """-> (config, {name: (dtype, shape, bytes)})"""
    raw = (path / "adapter_model.safetensors").read_bytes()
    n, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    data = raw[8 + n:]
    return (json.loads((path / "adapter_config.json").read_text()),
            {k: (t["dtype"], t["shape"], data[t["data_offsets"][0]:t["data_offsets"][1]]) for k, t in header.items()})


def swapped(rows, heads):
    """Rows of q and k as the conversion orders them: the halves of a head in turn."""
    d = len(rows) // heads
    return [rows[h * d + half * (d // 2) + i] for h in range(heads) for i in range(d // 2) for half in range(2)]


def widened(dtype, data):
    """Values as float32 bytes."""
    if dtype == "BF16":
        return b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2))
    if dtype == "F16":
        return struct.pack(f"<{len(data) // 2}f", *struct.unpack(f"<{len(data) // 2}e", data))
    return data


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def tensors_of(peft, model, wide):
    """-> {name: (dtype, shape, bytes)} in GGUF's names and order."""
    shape = json.loads((model / "config.json").read_text())
    out = {}
    for name, (dtype, dims, data) in peft.items():
        path, _, end = name.removeprefix("base_model.model.model.layers.").partition(".lora_")
        layer, _, site = path.partition(".")
        step = len(data) // dims[0]
        rows = [data[i:i + step] for i in range(0, len(data), step)]
        if end[0] == "B" and site in ("self_attn.q_proj", "self_attn.k_proj"):
            rows = swapped(rows, shape["num_attention_heads" if "q_proj" in site else "num_key_value_heads"])
        data = b"".join(rows)
        out[f"blk.{layer}.{SITES[site]}.weight.lora_{end[0].lower()}"] = ("F32", dims, widened(dtype, data)) if wide else (dtype, dims, data)
    return out


def write_gguf(path, tensors, alpha, arch="llama", invocation=None):
    keys = [text("general.architecture") + struct.pack("<I", 8) + text(arch), text("general.type") + struct.pack("<I", 8) + text("adapter"),
            text("adapter.type") + struct.pack("<I", 8) + text("lora"), text("adapter.lora.alpha") + struct.pack("<If", 6, alpha)]
    if invocation:
        keys.append(text("adapter.alora.invocation_tokens") + struct.pack(f"<IIQ{len(invocation)}I", 9, 4, len(invocation), *invocation))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    body = b""
    for name, (dtype, dims, data) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims[::-1], TYPES[dtype][0], len(body))
        body += data + bytes(-len(data) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + body)
    return path


def convert(peft_dir, model, path, wide=False, arch="llama", change=None):
    """The directory as a file; wide: float32. change(tensors) may spoil it."""
    config, peft = read_peft(peft_dir)
    tensors = tensors_of(peft, model, wide)
    if change:
        change(tensors)
    return write_gguf(path, tensors, config["lora_alpha"], arch, config.get("alora_invocation_tokens"))
