#!/usr/bin/env python3
"""Write tests/golden/data/alora: activated LoRAs on the demo model, and what transformers + peft say with them.

    scripts/make_alora_goldens.py [--out tests/golden/data]

The adapters are the demo's own with invocation tokens added to their configs; their tensors are links into
models/storyteller. Float32 on the CPU; the same versions write the same bytes. One adapter alone runs as peft runs it,
its offset computed by peft from the prompt, and peft's generate must give the same ids. peft has one offset for all
active adapters, so in a blend each is given the one that peft computes for it alone.
tests/golden/README.md describes the files.
"""

import argparse
import json
import os
import platform
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy
import peft
import tokenizers
import torch
import transformers
from peft.tuners.lora.variants import ALoraLinearVariant, calculate_alora_offsets
from transformers import AutoTokenizer

from goldens import tiny_adapters, tiny_models

STEPS = 24
TOP = 5
MIN_MARGIN = 0.005
LOGPROB_TOLERANCE = 2e-3
WORDS = " listen well"

# name of the voice, the demo's adapter, its invocation sequence as text; None: an ordinary LoRA
VOICES = [
    ("elf", "wood-elf", None),
    ("elf-turn", "wood-elf", "<|assistant|>"),
    ("villain-word", "villain", WORDS),
    ("summary-start", "summary", "<|bos|>"),
    ("market-user", "marketing", "<|user|>"),
]
BLENDS = [
    ("turn-and-word", [("elf-turn", 0.6), ("villain-word", 0.7)]),
    ("word-and-elf", [("villain-word", 0.8), ("elf", 0.4)]),
    ("three", [("elf-turn", 0.5), ("villain-word", 0.5), ("market-user", 0.25)]),
]
# Each chat is tried with these until every choice in it is clear.
SUBJECTS = ["old river", "red fox", "glass lamp", "tall miller", "silver harp", "lost ferry", "stone bridge", "blue owl",
            "black kettle", "young baker", "north wind", "broken clock"]  # fmt: skip
LONG = (" It stood at the edge of the water, where the reeds were high and nobody came in winter. The people of the"
        " village knew it well, and yet they never spoke of it at night.")  # fmt: skip


def chat_list(subject):
    def user(text):
        return {"role": "user", "content": text}

    def said(text):
        return {"role": "assistant", "content": text}

    return {
        "middle": [user(f"Tell me a story about the {subject}. Now{WORDS}, and begin.")],
        "absent": [user(f"Tell me a story about the {subject}.")],
        "turns": [
            user(f"Who is the {subject}? Please{WORDS}."),
            said("A friend of the road, and of few words."),
            user(f"Now{WORDS}. What happened next?"),
        ],
        "late": [user(f"Tell me about the {subject}.{LONG * 2} So{WORDS}.")],
        "early": [user(f"Now{WORDS}. This is about the {subject}.{LONG * 2} Tell me its story.")],
    }


def load_voices(out, demo):
    """The adapter directories, and one PeftModel with all of them."""
    tok = AutoTokenizer.from_pretrained(demo, local_files_only=True)
    folders = {}
    for name, source, words in VOICES:
        folder = os.path.join(out, "adapters", name)
        os.makedirs(folder)
        with open(os.path.join(demo, "adapters", source, "adapter_config.json"), encoding="utf-8") as f:
            config = json.load(f)
        if words:
            config["alora_invocation_tokens"] = tok.encode(words, add_special_tokens=False)
        tiny_models.write_json(os.path.join(folder, "adapter_config.json"), config)
        file = os.path.join("adapters", source, "adapter_model.safetensors")
        os.symlink(os.path.relpath(os.path.join(demo, file), folder), os.path.join(folder, "adapter_model.safetensors"))
        folders[name] = folder
    return tok, tiny_adapters.load_adapters(tiny_models.load_reference(demo), folders)


def first_tokens(model, parts, prompt):
    """Where peft lets each part begin to act on the prompt: an index, or None for nowhere."""
    begins = {}
    for name, _ in parts:
        if model.peft_config[name].alora_invocation_tokens is None:
            begins[name] = 0
            continue
        offset = calculate_alora_offsets(model.peft_config, name, torch.tensor([prompt]))[0]
        begins[name] = None if offset is None else len(prompt) - offset
    return begins


# Offsets of the adapters of a blend, counted from the end as peft counts them.
OFFSETS = {}
plain_forward = ALoraLinearVariant.forward


def forward_by_name(module, active_adapter, x, result, **kwargs):
    if active_adapter in OFFSETS:
        kwargs["alora_offsets"] = [OFFSETS[active_adapter]]
    return plain_forward(module, active_adapter, x, result, **kwargs)


def forward(model, parts, begins, ids):
    tokens = torch.tensor([ids])
    OFFSETS.clear()
    if not parts:
        with model.disable_adapter():
            return model.base_model.model(input_ids=tokens, use_cache=False).logits[0]
    offsets = {name: None if at is None else len(ids) - at for name, at in begins.items()}
    if len(parts) > 1 or model.peft_config[parts[0][0]].alora_invocation_tokens is None:
        OFFSETS.update(offsets)
        return model.base_model.model(input_ids=tokens, use_cache=False).logits[0]
    return model(input_ids=tokens, use_cache=False, alora_offsets=[offsets[parts[0][0]]]).logits[0]


def check_generate(model, parts, prompt, chosen):
    """peft's own generation, with its own search for the sequence and with a KV cache."""
    if len(parts) != 1:
        return
    OFFSETS.clear()
    config = transformers.GenerationConfig(max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, eos_token_id=None,
                                           pad_token_id=0)  # fmt: skip
    got = model.generate(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                         generation_config=config)[0, len(prompt) :].tolist()  # fmt: skip
    if got != chosen:
        raise SystemExit(f"{parts}: peft generates {got}, step by step it was {chosen}")


def run(model, parts, prompt):
    """As run_chat of make_goldens.py; None when a choice is not clear."""
    undo = tiny_adapters.activate(model, parts) if parts else lambda: None
    if len(parts) == 1:
        model.set_adapter(parts[0][0])
    begins = first_tokens(model, parts, prompt)
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(STEPS):
            ids.append(int(forward(model, parts, begins, ids)[-1].argmax()))
        all_logprobs = torch.log_softmax(forward(model, parts, begins, ids[:-1]).float(), dim=-1)
        chosen = ids[len(prompt) :]
        of_prompt = all_logprobs[: len(prompt) - 1].gather(1, torch.tensor(prompt[1:]).unsqueeze(1)).flatten()
        top = torch.topk(all_logprobs[len(prompt) - 1 :], TOP, dim=-1)
        margins = top.values[:, 0] - top.values[:, 1]
        if float(margins.min()) >= MIN_MARGIN:
            check_generate(model, parts, prompt, chosen)
    undo()
    if float(margins.min()) < MIN_MARGIN or [int(row[0]) for row in top.indices] != chosen:
        return None
    rounded = [[round(float(x), 6) for x in row] for row in top.values]
    return {
        "ids": chosen,
        "logprobs": [row[0] for row in rounded],
        "margins": [round(float(m), 6) for m in margins],
        "top_ids": top.indices.tolist(),
        "top_logprobs": rounded,
        "active_from": [begins[name] for name, _ in parts],
        "prompt_logprobs": [round(float(x), 6) for x in of_prompt],
    }


def run_chats(tok, model):
    voices = [("base", []), *((name, [(name, 1.0)]) for name, _, _ in VOICES), *BLENDS]
    chats, runs = [], []
    for chat in chat_list(""):
        for subject in SUBJECTS:
            messages = chat_list(subject)[chat]
            ids = tok.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
            found = []
            for voice, parts in voices:
                one = run(model, parts, ids)
                if one is None:
                    break
                found.append({"voice": voice, "adapters": [{"name": n, "weight": w} for n, w in parts], **one})
            if len(found) == len(voices):
                break
        else:
            raise SystemExit(f"{chat}: no subject gives clear margins")
        for one in found:
            one["chat"] = len(chats)
            if chat not in ("turns", "middle"):
                del one["prompt_logprobs"]
        runs += found
        text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        chats.append({"name": chat, "messages": messages, "prompt_text": text, "prompt_ids": ids})
        print(f"{chat}: {subject}, {len(ids)} tokens, from {[one['active_from'] for one in found]}")
    return chats, sorted(runs, key=lambda one: [v for v, _ in voices].index(one["voice"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--out", default=os.path.join(root, "tests", "golden", "data"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    ALoraLinearVariant.forward = staticmethod(forward_by_name)
    demo, out = os.path.join(root, "models", "storyteller"), os.path.join(args.out, "alora")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    tok, model = load_voices(out, demo)
    chats, runs = run_chats(tok, model)
    golden = {
        "made_by": "scripts/make_alora_goldens.py",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
            "tokenizers": tokenizers.__version__,
            "numpy": numpy.__version__,
        },
        "arch": "alora",
        "model": os.path.relpath(demo, root),
        "steps": STEPS,
        "logprob_tolerance": LOGPROB_TOLERANCE,
        "margins": {"min": min(m for one in runs for m in one["margins"])},
        "chats": chats,
        "texts": [],
        "runs": runs,
    }
    lines = []
    for key, value in golden.items():
        if key in ("chats", "runs"):
            items = ",\n".join(" " + json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in value)
            lines.append(f'"{key}": [\n{items}\n]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    tiny_models.write_text(os.path.join(out, "golden.json"), "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(runs)} runs, least margin {golden['margins']['min']}")


if __name__ == "__main__":
    main()
