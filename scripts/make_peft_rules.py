#!/usr/bin/env python3
"""Writes tests/golden/data/peft_rules.json: what peft itself says about which module an adapter config targets, and with
which rank and scale. Deterministic for one version of peft.

Usage: python3 scripts/make_peft_rules.py (needs peft; see tests/golden/README.md for the versions)
"""
import json
import math
import random
import re

import peft
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

OUT = "tests/golden/data/peft_rules.json"
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]  # fmt: skip
MODULES = [f"model.layers.{layer}.{name}" for layer in (0, 1, 3, 11) for name in LINEARS]
MODULES += ["lm_head", "model.embed_tokens", "model.language_model.layers.2.mlp.up_proj", "model.norm"]

TARGETS = [
    ["q_proj", "v_proj"], ["proj"], ["layers.0.self_attn.q_proj"], ["model.layers.1.mlp.up_proj"], ["lm_head"],
    ["embed_tokens", "o_proj"], [], ["self_attn.q_proj", "down_proj"], ["rope_proj"], [".q_proj"], ["11.mlp.up_proj"],
    ".*q_proj", "q_proj", r".*\.(0|11)\..*_proj", r"model\.layers\.[0-9]+\.mlp\.(up|down)_proj", "lm_head|.*o_proj",
    r".*layers\.1.*", r"^model.*k_proj$", r"(?!.*mlp).*_proj", ".*",
    r"model\.layers\.1", ".*self_attn", "lm|lm_head", "model|model.*mlp.up_proj",
]  # fmt: skip
EXCLUDES = [None, [], ["v_proj"], ["layers.0.self_attn.q_proj"], "", r".*\.1\..*", "v_proj", r".*mlp.*", ["lm_head", "1"], ".*self_attn", "m|.*q_proj"]
LAYERS = [None, None, None, 0, 3, [0, 11], [], [7], [1]]
LAYERS_PATTERN = [None, None, "layers", ["layers"], ["h", "layers"], "h", []]
KEYS = [
    "q_proj", "layers.1.self_attn.q_proj", "self_attn.*", r"layers\.0\..*", r".*\.mlp\..*", "^model.layers.1.mlp.up_proj", "proj",
    "lm_head", r"model.layers.(0|1).*v_proj", "up_proj|down_proj", "layers.1", r"1\.self_attn\.[qk]_proj", "model.embed_tokens",
]  # fmt: skip


def pattern(rng, values):
    return {key: rng.choice(values) for key in rng.sample(KEYS, rng.choice([0, 0, 1, 2, 4]))}


def one(rng):
    fields = {
        "r": rng.choice([1, 4, 8, 16]),
        "lora_alpha": rng.choice([1, 4, 16, 32]),
        "use_rslora": rng.random() < 0.4,
        "target_modules": rng.choice(TARGETS),
        "exclude_modules": rng.choice(EXCLUDES),
        "rank_pattern": pattern(rng, [2, 3, 12, 64]),
        "alpha_pattern": pattern(rng, [1, 2.5, 24, 64]),
    }
    if isinstance(fields["target_modules"], list):
        fields["layers_to_transform"] = rng.choice(LAYERS)
        if fields["layers_to_transform"] is not None:
            fields["layers_pattern"] = rng.choice(LAYERS_PATTERN)
    config = LoraConfig(task_type="CAUSAL_LM", **fields)
    answers = []
    for name in MODULES:
        targeted = bool(check_target_module_exists(config, name)) and not excluded(config, name)
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), name), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), name), config.lora_alpha)
        answers.append([int(targeted), rank, alpha / (math.sqrt(rank) if config.use_rslora else rank)])
    return {"config": {"peft_type": "LORA", **fields}, "answers": answers}


def excluded(config, name):
    """check_target_module_exists answers with an object that is true for excluded modules, too."""
    x = config.exclude_modules
    if not x:
        return False
    if isinstance(x, str):
        return re.fullmatch(x, name) is not None
    return name in x or any(name.endswith(f".{k}") for k in x)


def main():
    rng = random.Random(20240611)
    cases = [one(rng) for _ in range(200)]
    head = {"peft": peft.__version__, "modules": MODULES}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    with open(OUT, "w", encoding="utf-8") as f:
        f.write(json.dumps(head)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    hits = sum(a[0] for c in cases for a in c["answers"])
    print(f"{OUT}: {len(cases)} configs, {hits} of {len(cases) * len(MODULES)} modules targeted")


if __name__ == "__main__":
    main()
