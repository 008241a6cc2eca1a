"""PEFT adapters for the tiny models, made by the peft library and filled with random numbers.

Every adapter is written by peft (adapter_config.json with all of its fields), its tensors are then replaced by seeded
ones in the wanted dtype, and the goldens are computed from the directory as PeftModel.from_pretrained reads it.

Heads. An `lm_head` target on a model with a tied head is unambiguous as peft runs it unmerged with
ensure_weight_tying=false: the adapter acts on the head alone and the embedding stays as it is. That is what the `head`
goldens of the tied models hold. With ensure_weight_tying=true peft shares one adapter between embedding and head and
its meaning has changed between releases; such adapters are written as refusals only. peft saves a copy of the base
weight (`lm_head.base_layer.weight`) beside a head adapter by default; `head` carries it on mistral, not elsewhere.
"""

import json
import math
import os
import shutil
import warnings

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from .tiny_models import rng, write_json

# What the first peft releases wrote; `qv-r4` of llama is of this kind, with two fields that have gone since.
OLD_FIELDS = ["base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
              "lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type"]  # fmt: skip
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def specs(arch_name):
    """(name, dtype, LoraConfig arguments) of the adapters of one model."""
    last = {"llama": 1, "mistral": 2, "qwen2": 1, "qwen3": 1}[arch_name]
    out = [
        ("all-r8", torch.bfloat16, dict(r=8, lora_alpha=16, target_modules=ALL_LINEAR)),
        ("qv-r4", torch.float32, dict(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"])),
        ("rslora-r16", torch.bfloat16, dict(r=16, lora_alpha=8, use_rslora=True, target_modules="all-linear")),
        (
            # First matching key wins; keys match the end of the module path as regular expressions.
            "patterns",
            torch.bfloat16,
            dict(
                r=8,
                lora_alpha=8,
                target_modules=ALL_LINEAR,
                rank_pattern={
                    "layers.0.self_attn.q_proj": 2,
                    r"layers\.\d+\.self_attn\.[qk]_proj": 12,
                    "down_proj": 3,
                    rf"^model\.layers\.{last}\.mlp\.(gate|up)_proj": 5,
                },
                alpha_pattern={
                    r"layers\.[0-9]+\.mlp\.down_proj": 5,
                    "down_proj": 50,
                    "self_attn.q_proj": 3,
                    "v_proj": 20,
                },
            ),
        ),
        ("dora-r8", torch.float32 if arch_name == "llama" else torch.bfloat16, dict(r=8, lora_alpha=16, use_dora=True, target_modules=ALL_LINEAR)),
        ("head-r8", torch.bfloat16, dict(r=8, lora_alpha=16, target_modules=[*ALL_LINEAR, "lm_head"])),
        (
            "subset",
            torch.float32,
            dict(
                r=6,
                lora_alpha=9,
                target_modules=["q_proj", "o_proj", "up_proj", "down_proj"],
                layers_to_transform=[last],
                layers_pattern="layers",
                exclude_modules=["up_proj"],
            ),
        ),
        (
            "regex",
            torch.float16,
            dict(
                r=5,
                lora_alpha=7,
                use_rslora=True,
                alpha_pattern={r".*mlp\.gate_proj": 3},
                target_modules=r".*\.layers\.\d+\.(self_attn\.[kvo]_proj|mlp\.gate_proj)",
                exclude_modules=rf".*\.layers\.{last}\.self_attn\.k_proj",
            ),
        ),
    ]
    if arch_name == "qwen3":
        out.append(("dora-rs-qv", torch.bfloat16, dict(r=4, lora_alpha=8, use_dora=True, use_rslora=True,
                                                       target_modules=["q_proj", "v_proj"])))  # fmt: skip
    if arch_name == "mistral":
        out.append(("embed-r4", torch.float32, dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "o_proj"])))
    return out


def mix(dtype, key):
    """`regex` and `patterns` keep a part of their tensors in float32, as hand-made merges do."""
    return torch.float32 if "layers.0." in key and "v_proj" in key else dtype


def fill(arch, name, tensors, config, base, dtype, seed):
    """Random numbers for every tensor: A of unit gain, B so that the change has about 0.6 of the base's size."""
    out = {}
    for key, tensor in tensors.items():
        gen, shape = rng(seed, f"{arch.name}/{name}/{key}"), tuple(tensor.shape)
        if "base_layer" in key:
            out[key] = tensor.to(arch.dtype).contiguous()
            continue
        if "lora_magnitude_vector" in key:
            path = key.removeprefix("base_model.model.").removesuffix(".lora_magnitude_vector") + ".weight"
            norm = base[path].float().norm(dim=1).numpy()
            value = norm * (1.0 + 0.2 * gen.standard_normal(shape))
        elif "lora_embedding_A" in key:
            value = gen.standard_normal(shape)
        elif "lora_A" in key:
            value = gen.standard_normal(shape) / math.sqrt(shape[1])
        else:
            rank = shape[1]
            scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
            size = 0.2 if "embedding" in key else 1.5 if "lm_head" in key else 0.8
            value = size / (scale * math.sqrt(rank)) * gen.standard_normal(shape)
        kind = mix(dtype, key) if name in ("regex", "patterns") else dtype
        out[key] = torch.from_numpy(np.asarray(value, dtype=np.float32)).to(kind).contiguous()
    return out


def write_adapter(arch, model, name, dtype, arguments, folder, seed):
    """Let peft write the directory, then put seeded tensors in the place of its initial ones."""
    shutil.rmtree(folder, ignore_errors=True)
    model.name_or_path = f"golden/{arch.name}"
    model.config._name_or_path = model.name_or_path
    base = {k: v.clone() for k, v in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **arguments))
        keep_base = name == "head-r8" and arch.name == "mistral"
        peft_model.save_pretrained(folder, save_embedding_layers=keep_base)
        peft_model.unload()
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    for field in ("target_modules", "exclude_modules"):  # sets: their order changes from run to run
        if isinstance(config[field], list):
            config[field] = sorted(config[field])
    for field in ("rank_pattern", "alpha_pattern"):  # peft sorts its keys; in this order they mean something else
        config[field] = arguments.get(field, {})
    if arch.name == "llama" and name == "qv-r4":
        config = {**{k: v for k, v in config.items() if k in OLD_FIELDS}, "enable_lora": None, "merge_weights": False}
    write_json(path, config)
    file = os.path.join(folder, "adapter_model.safetensors")
    tensors = fill(arch, name, load_file(file), config, base, dtype, seed)
    save_file(tensors, file, metadata={"format": "pt"})


def load_adapters(model, folders):
    """A PeftModel with every folder as an adapter of that name, all of them inactive until activate()."""
    peft_model = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, folder in folders.items():
            if peft_model is None:
                peft_model = PeftModel.from_pretrained(model, folder, adapter_name=name)
            else:
                peft_model.load_adapter(folder, adapter_name=name)
    return peft_model.eval()


def activate(peft_model, weighted):
    """Run all adapters of [(name, weight)] at once: y = W x + sum of weight * scaling * B A x.

    Weights go into the layers' scaling; add_weighted_adapter is not used because its "cat" copies the first adapter's
    config (use_rslora, patterns) onto the result. Returns the undo function.
    """
    changed = []
    for name, weight in weighted:
        for module in peft_model.modules():
            scaling = getattr(module, "scaling", None)
            if isinstance(scaling, dict) and name in scaling:
                changed.append((scaling, name, scaling[name]))
                scaling[name] = scaling[name] * weight
    peft_model.base_model.set_adapter([name for name, _ in weighted])

    def undo():
        for scaling, name, value in changed:
            scaling[name] = value

    return undo


def blends(arch_name):
    """Voices of several weighted adapters at once (no DoRA: its magnitude does not add)."""
    return [
        ("blend-2", [("all-r8", 0.7), ("qv-r4", 0.3)]),
        ("blend-3", [("rslora-r16", 0.5), ("patterns", 0.75), ("regex", -0.4)]),
        ("half", [("head-r8", 0.5)]),
    ]
