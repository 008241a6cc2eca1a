#!/usr/bin/env python3
"""Captures what transformers makes of the demo model's hidden states: tests/api/embeddings.json, for test_embeddings.py.

Needs torch, transformers and peft. In float32: for the base and one adapter, and each text, the states behind the final norm (the
last token's, their mean, and their mean weighted by position), each to length 1, as sentence-transformers pools them.
"""
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "models/storyteller"
ADAPTER = "wood-elf"
TEXTS = [
    "fox",
    "Tell me a story about a fox who lost the moon.",
    "\u00fcber \U0001f600\n\n\t\u4e2d\u6587 e\u0301",
    "A small lantern hung above the door, and the wind asked it every night to go out. " * 6,
]
DIGITS = 6


def pools(states):
    n = states.shape[0]
    weights = torch.arange(1, n + 1, dtype=torch.float32).unsqueeze(1)
    yield "last", states[-1]
    yield "mean", states.mean(0)
    yield "weightedmean", (states * weights).sum(0) / weights.sum()


def main():
    tokenizer = AutoTokenizer.from_pretrained(DEMO, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32, local_files_only=True).eval()
    spoken = peft.PeftModel.from_pretrained(model, DEMO / "adapters" / ADAPTER, adapter_name=ADAPTER).eval()
    golden = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "texts": TEXTS, "ids": [tokenizer(t)["input_ids"] for t in TEXTS], "voices": {},
    }
    for voice in ("", ADAPTER):
        said = golden["voices"][voice] = {"last": [], "mean": [], "weightedmean": []}
        for ids in golden["ids"]:
            with torch.inference_mode():
                body = spoken.get_base_model().model
                if voice:
                    states = body(input_ids=torch.tensor([ids])).last_hidden_state[0]
                else:
                    with spoken.disable_adapter():
                        states = body(input_ids=torch.tensor([ids])).last_hidden_state[0]
            for name, pooled in pools(states):
                said[name].append([round(float(x), DIGITS) for x in torch.nn.functional.normalize(pooled, dim=0)])
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace("],[", "],\n[")
    (ROOT / "tests/api/embeddings.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
