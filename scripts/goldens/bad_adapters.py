"""Adapters that must be refused, each with the text that the refusal has to name.

All are small variations of one good adapter for the llama model (kept as `good`, so that a test can see that the
frame itself is sound). expect.json: {"base": model, "error_contains": field, tensor or file name}.
"""

import json
import os
import pickle
import shutil
import struct

import numpy as np
from safetensors.numpy import save

from .tiny_models import rng, write_json

HIDDEN, KV_WIDTH, LAYERS, RANK = 64, 32, 2, 2
PREFIX = "base_model.model.model.layers"


def key(layer, site, part):
    return f"{PREFIX}.{layer}.{site}.{part}"


def pair(tensors, layer, site, n_in, n_out, rank=RANK):
    for part, shape in (("lora_A.weight", (rank, n_in)), ("lora_B.weight", (n_out, rank))):
        name = key(layer, site, part)
        tensors[name] = (0.1 * rng(1, name).standard_normal(shape)).astype(np.float32)


def good():
    config = {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "golden/llama", "bias": "none",
        "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "layer_replication": None, "layers_pattern": None, "layers_to_transform": None, "loftq_config": {},
        "lora_alpha": 4, "lora_bias": False, "lora_dropout": 0.05, "modules_to_save": None, "peft_type": "LORA",
        "r": RANK, "rank_pattern": {}, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM",
        "trainable_token_indices": None, "use_dora": False, "use_rslora": False,
    }  # fmt: skip
    tensors = {}
    for layer in range(LAYERS):
        pair(tensors, layer, "self_attn.q_proj", HIDDEN, HIDDEN)
        pair(tensors, layer, "self_attn.v_proj", HIDDEN, KV_WIDTH)
    return config, tensors


Q0, Q1, V1 = "self_attn.q_proj", "self_attn.q_proj", "self_attn.v_proj"


def set_field(field, value):
    def edit(config, tensors):
        config[field] = value

    return edit


def unexpected_tensor(config, tensors):
    tensors[key(0, Q0, "lora_C.weight")] = np.ones((2, 2), np.float32)


def unknown_module(config, tensors):
    config["target_modules"].append("rope_proj")
    pair(tensors, 0, "self_attn.rope_proj", HIDDEN, HIDDEN)


def untargeted_module(config, tensors):
    pair(tensors, 0, "self_attn.o_proj", HIDDEN, HIDDEN)


def wrong_shape_a(config, tensors):
    tensors[key(1, Q1, "lora_A.weight")] = np.ones((RANK, HIDDEN + 16), np.float32)


def wrong_shape_b(config, tensors):
    tensors[key(1, V1, "lora_B.weight")] = np.ones((HIDDEN, RANK), np.float32)


def one_dimension(config, tensors):
    tensors[key(1, V1, "lora_B.weight")] = np.ones(KV_WIDTH * RANK, np.float32)


def rank_mismatch(config, tensors):
    tensors[key(1, Q1, "lora_B.weight")] = np.ones((HIDDEN, RANK + 1), np.float32)


def rank_against_config(config, tensors):
    config["rank_pattern"] = {"layers.1.self_attn.q_proj": 8}


def rank_zero(config, tensors):
    pair(tensors, 0, Q0, HIDDEN, HIDDEN, rank=0)


def missing_b(config, tensors):
    del tensors[key(1, Q1, "lora_B.weight")]


def missing_a(config, tensors):
    del tensors[key(0, "self_attn.v_proj", "lora_A.weight")]


def layer_out_of_range(config, tensors):
    pair(tensors, 7, Q0, HIDDEN, HIDDEN)


def layer_not_transformed(config, tensors):
    config["layers_to_transform"] = [0]


def excluded_module(config, tensors):
    config["exclude_modules"] = ["v_proj"]


def integer_tensor(config, tensors):
    tensors[key(0, Q0, "lora_A.weight")] = np.ones((RANK, HIDDEN), np.int32)


def dora_without_magnitude(config, tensors):
    config["use_dora"] = True


def magnitude_without_dora(config, tensors):
    tensors[key(0, Q0, "lora_magnitude_vector")] = np.ones(HIDDEN, np.float32)


def dora_magnitude_shape(config, tensors):
    config["use_dora"] = True
    for layer in range(LAYERS):
        tensors[key(layer, Q0, "lora_magnitude_vector")] = np.ones(HIDDEN, np.float32)
        tensors[key(layer, V1, "lora_magnitude_vector")] = np.ones(KV_WIDTH + layer, np.float32)


def bias_all(config, tensors):
    config["bias"] = "all"
    tensors[key(0, Q0, "base_layer.bias")] = np.ones(HIDDEN, np.float32)


def lora_bias(config, tensors):
    config["lora_bias"] = True
    tensors[key(0, Q0, "lora_B.bias")] = np.ones(HIDDEN, np.float32)


def modules_to_save(config, tensors):
    config["modules_to_save"] = ["norm"]
    tensors["base_model.model.model.norm.weight"] = np.ones(HIDDEN, np.float32)


def matches_nothing(config, tensors):
    config["target_modules"] = ["query_key_value"]
    tensors.clear()
    pair(tensors, 0, "self_attn.query_key_value", HIDDEN, HIDDEN)


def no_tensors(config, tensors):
    tensors.clear()


def other_base(config, tensors):
    config["base_model_name_or_path"] = "golden/other"
    for layer in range(LAYERS):
        pair(tensors, layer, "self_attn.q_proj", 96, 128)
        pair(tensors, layer, "self_attn.v_proj", 96, 48)


def changed_base_copy(config, tensors):
    # peft saves a copy of the head's base weight beside a head adapter; here it is not the base's.
    config["target_modules"].append("lm_head")
    name = "base_model.model.lm_head"
    gen = rng(1, name)
    tensors[f"{name}.lora_A.weight"] = (0.1 * gen.standard_normal((RANK, HIDDEN))).astype(np.float32)
    tensors[f"{name}.lora_B.weight"] = (0.1 * gen.standard_normal((512, RANK))).astype(np.float32)
    tensors[f"{name}.base_layer.weight"] = np.zeros((512, HIDDEN), np.float16)


def tied_head(config, tensors):
    # One adapter shared by the embedding and the tied head: not the same mathematics as a head adapter.
    config["target_modules"].append("lm_head")
    config["ensure_weight_tying"] = True
    gen = rng(1, "tied")
    tensors["base_model.model.lm_head.lora_A.weight"] = gen.standard_normal((RANK, HIDDEN)).astype(np.float32)
    tensors["base_model.model.lm_head.lora_B.weight"] = gen.standard_normal((512, RANK)).astype(np.float32)


# name, edit of (config, tensors), what the error must contain
EDITS = [
    ("unexpected-tensor", unexpected_tensor, key(0, Q0, "lora_C.weight")),
    ("unknown-module", unknown_module, "layers.0.self_attn.rope_proj"),
    ("untargeted-module", untargeted_module, "layers.0.self_attn.o_proj"),
    ("wrong-shape-a", wrong_shape_a, "layers.1.self_attn.q_proj.lora_A"),
    ("wrong-shape-b", wrong_shape_b, "layers.1.self_attn.v_proj.lora_B"),
    ("one-dimension", one_dimension, "layers.1.self_attn.v_proj.lora_B"),
    ("rank-mismatch", rank_mismatch, "layers.1.self_attn.q_proj.lora_"),
    ("rank-against-config", rank_against_config, "layers.1.self_attn.q_proj"),
    ("rank-zero", rank_zero, "layers.0.self_attn.q_proj.lora_"),
    ("missing-lora-b", missing_b, "layers.1.self_attn.q_proj"),
    ("missing-lora-a", missing_a, "layers.0.self_attn.v_proj"),
    ("layer-out-of-range", layer_out_of_range, "layers.7.self_attn.q_proj"),
    ("layer-not-transformed", layer_not_transformed, "layers.1.self_attn."),
    ("excluded-module", excluded_module, "self_attn.v_proj"),
    ("integer-tensor", integer_tensor, "layers.0.self_attn.q_proj.lora_A"),
    ("dora-without-magnitude", dora_without_magnitude, "lora_magnitude_vector"),
    ("magnitude-without-dora", magnitude_without_dora, "layers.0.self_attn.q_proj.lora_magnitude_vector"),
    ("dora-magnitude-shape", dora_magnitude_shape, "layers.1.self_attn.v_proj.lora_magnitude_vector"),
    ("bias-all", bias_all, "bias"),
    ("lora-bias", lora_bias, "lora_bias"),
    ("modules-to-save", modules_to_save, "modules_to_save"),
    ("matches-nothing", matches_nothing, "query_key_value"),
    ("no-tensors", no_tensors, "adapter_model.safetensors"),
    ("other-base", other_base, "layers.0.self_attn.q_proj.lora_A"),
    ("changed-base-copy", changed_base_copy, "lm_head.base_layer.weight"),
    ("tied-head", tied_head, "ensure_weight_tying"),
    ("peft-type-ia3", set_field("peft_type", "IA3"), "peft_type"),
    ("fan-in-fan-out", set_field("fan_in_fan_out", True), "fan_in_fan_out"),
    ("rank-pattern-regex", set_field("rank_pattern", {"self_attn.(q_proj": 2}), "rank_pattern"),
    ("rank-pattern-type", set_field("rank_pattern", ["q_proj"]), "rank_pattern"),
    ("alpha-pattern-value", set_field("alpha_pattern", {"q_proj": "4"}), "alpha_pattern"),
    ("alpha-type", set_field("lora_alpha", "sixteen"), "lora_alpha"),
    ("target-modules-type", set_field("target_modules", 7), "target_modules"),
    ("target-modules-regex", set_field("target_modules", ".*(q_proj|v_proj"), "target_modules"),
    ("target-parameters", set_field("target_parameters", ["mlp.experts.gate_up_proj"]), "target_parameters"),
    ("trainable-tokens", set_field("trainable_token_indices", [1, 2]), "trainable_token_indices"),
    ("layer-replication", set_field("layer_replication", [[0, 2], [1, 2]]), "layer_replication"),
    ("alora", set_field("alora_invocation_tokens", [1, 1 << 20]), "alora_invocation_tokens"),
    ("qalora", set_field("use_qalora", True), "use_qalora"),
    ("bdlora", set_field("use_bdlora", {"nblocks": 2}), "use_bdlora"),
    ("kasa", set_field("kasa_config", {"beta": 0.1}), "kasa_config"),
]


def truncate_data(data):
    return data[:-100]


def truncate_header(data):
    return data[:200]


def header_too_long(data):
    return struct.pack("<Q", 1 << 40) + data[8:]


def trailing_bytes(data):
    return data + b"\0" * 64


def as_pickle(data):
    return pickle.dumps({"weights": [1.0, 2.0]}, protocol=2)


def as_zip(data):
    # The first bytes of what torch.save writes.
    return b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00" + b"\0" * 64


# name, edit of the file's bytes, name of the file that is written, what the error must contain
FILES = [
    ("truncated-file", truncate_data, "adapter_model.safetensors", "adapter_model.safetensors"),
    ("truncated-header", truncate_header, "adapter_model.safetensors", "adapter_model.safetensors"),
    ("header-too-long", header_too_long, "adapter_model.safetensors", "adapter_model.safetensors"),
    ("trailing-bytes", trailing_bytes, "adapter_model.safetensors", "adapter_model.safetensors"),
    ("pickle-bin", as_pickle, "adapter_model.bin", "adapter_model.bin"),
    ("pickle-inside", as_pickle, "adapter_model.safetensors", "adapter_model.safetensors"),
    ("zip-inside", as_zip, "adapter_model.safetensors", "adapter_model.safetensors"),
]


def write_bytes(path, data):
    with open(path, "wb") as f:
        f.write(data)


def write_case(folder, config, data, file="adapter_model.safetensors", expect=None):
    os.makedirs(folder)
    if config is not None:
        write_json(os.path.join(folder, "adapter_config.json"), config)
    write_bytes(os.path.join(folder, file), data)
    if expect is not None:
        write_json(os.path.join(folder, "expect.json"), {"base": "llama", "error_contains": expect})


def write_all(out):
    root = os.path.join(out, "bad")
    shutil.rmtree(root, ignore_errors=True)
    config, tensors = good()
    plain = save(tensors, metadata={"format": "pt"})
    write_case(os.path.join(root, "good"), config, plain)
    for name, edit, expect in EDITS:
        config, tensors = good()
        edit(config, tensors)
        write_case(os.path.join(root, name), config, save(tensors, metadata={"format": "pt"}), expect=expect)
    for name, edit, file, expect in FILES:
        write_case(os.path.join(root, name), good()[0], edit(plain), file, expect)
    broken = os.path.join(root, "config-not-json")
    write_case(broken, None, plain, expect="adapter_config.json")
    write_bytes(os.path.join(broken, "adapter_config.json"), json.dumps(good()[0])[:-20].encode())
    write_case(os.path.join(root, "no-peft-type"), {k: v for k, v in good()[0].items() if k != "peft_type"}, plain,
               expect="peft_type")  # fmt: skip
    print(f"bad: {len(EDITS) + len(FILES) + 2} adapters to refuse")
