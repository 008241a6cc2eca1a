#!/usr/bin/env python3
"""Write the golden data of tests/golden: tiny models, adapters, and what transformers + peft say with them.

    scripts/make_goldens.py [--out tests/golden/data] [--only llama,qwen3]

Needs torch, transformers, peft, tokenizers and safetensors (versions are kept in every golden.json) and no network.
All numbers are float32 on the CPU, computed from the files as stored. Two runs write the same bytes. Seeds of models
and adapters are searched upwards until every greedy choice of their runs leads by MIN_MARGIN, so that comparing token
ids is fair to another order of summation. tests/golden/README.md describes the files.
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
from transformers import AutoTokenizer

from goldens import bad_adapters, chats, tiny_adapters, tiny_models

STEPS = 24
TOP = 5
MIN_MARGIN = 0.02
MIN_DISTINCT = 8
SEED_TRIES = 200
LOGPROB_TOLERANCE = 2e-3


def run_chat(model, prompt):
    """Greedy continuation of one prompt: ids, log-probabilities, top ids and the lead of the first over the second."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(STEPS):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        logits = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0]
        all_logprobs = torch.log_softmax(logits.float(), dim=-1)
        of_prompt = all_logprobs[: len(prompt) - 1].gather(1, torch.tensor(prompt[1:]).unsqueeze(1)).flatten()
        logprobs = all_logprobs[len(prompt) - 1 :]
    chosen = ids[len(prompt) :]
    top = torch.topk(logprobs, TOP, dim=-1)
    if [int(row[0]) for row in top.indices] != chosen:
        raise SystemExit("the greedy walk and the pass over the whole text disagree")
    margins = top.values[:, 0] - top.values[:, 1]
    rounded = [[round(float(x), 6) for x in row] for row in top.values]
    return {
        "ids": chosen,
        "logprobs": [row[0] for row in rounded],
        "margins": [round(float(m), 6) for m in margins],
        "top_ids": top.indices.tolist(),
        "top_logprobs": rounded,
        "prompt_logprobs": [round(float(x), 6) for x in of_prompt],
    }


def good(runs):
    """Whether the runs of one voice are clear enough to compare token by token and lively enough to mean something."""
    lead = min(min(run["margins"]) for run in runs)
    distinct = min(len(set(run["ids"])) for run in runs)
    return lead >= MIN_MARGIN and distinct >= MIN_DISTINCT


def run_voice(model, prompts):
    runs = []
    for prompt in prompts:
        runs.append(run_chat(model, prompt))
        if not good(runs):
            return None
    return runs


def prompts_of(arch, folder):
    """Chats as text and ids, and plain texts as ids, by transformers; checked against the tokenizers library."""
    tok = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    raw = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    out_chats, out_texts = [], []
    for chat in chats.CHATS:
        text = tok.apply_chat_template(chat["messages"], tokenize=False, add_generation_prompt=True)
        ids = tok.apply_chat_template(chat["messages"], add_generation_prompt=True)["input_ids"]
        if ids != raw.encode(text, add_special_tokens=False).ids:
            raise SystemExit(f"{arch.name}: transformers does not use tokenizer.json as it stands")
        out_chats.append({**chat, "prompt_text": text, "prompt_ids": ids})
    for text in chats.TEXTS:
        plain = raw.encode(text, add_special_tokens=False).ids
        decoded = raw.decode(plain, skip_special_tokens=False)
        out_texts.append(
            {"text": text, "ids": plain, "ids_with_special": raw.encode(text).ids, "decoded": decoded}
        )
    return out_chats, out_texts


def slim(chat, run):
    """Log-probabilities of the prompt are kept for one chat only; they would be most of the file."""
    return run if chats.CHATS[chat]["name"] == "turns" else {k: v for k, v in run.items() if k != "prompt_logprobs"}


def search(what, first, attempt):
    for seed in range(first, first + SEED_TRIES):
        result = attempt(seed)
        if result is not None:
            return seed, result
    raise SystemExit(f"{what}: no seed in {SEED_TRIES} gives clear margins")


def make_arch(build, out):
    arch = build()
    folder = os.path.join(out, arch.name)
    shutil.rmtree(folder, ignore_errors=True)
    model_dir = os.path.join(folder, "model")

    def try_base(seed):
        arch.seed = seed
        tiny_models.write_model(arch, model_dir)
        chat_list, texts = prompts_of(arch, model_dir)
        runs = run_voice(tiny_models.load_reference(model_dir), [c["prompt_ids"] for c in chat_list])
        return runs and (chat_list, texts, runs)

    seed, (chat_list, texts, base_runs) = search(f"{arch.name}/base", arch.seed * 1000, try_base)
    prompts = [c["prompt_ids"] for c in chat_list]
    seeds = {"base": seed}
    voices = [("base", [], base_runs)]
    for name, dtype, arguments in tiny_adapters.specs(arch.name):
        adapter_dir = os.path.join(folder, "adapters", name)

        def try_adapter(adapter_seed, name=name, dtype=dtype, arguments=arguments, adapter_dir=adapter_dir):
            model = tiny_models.load_reference(model_dir)
            tiny_adapters.write_adapter(arch, model, name, dtype, arguments, adapter_dir, adapter_seed)
            model = tiny_models.load_reference(model_dir)
            return run_voice(tiny_adapters.load_adapters(model, {name: adapter_dir}), prompts)

        seeds[name], runs = search(f"{arch.name}/{name}", arch.seed, try_adapter)
        voices.append((name, [(name, 1.0)], runs))
    add_blends(arch, model_dir, prompts, voices)
    runs = [
        {"voice": voice, "adapters": [{"name": n, "weight": w} for n, w in parts], "chat": i, **slim(i, run)}
        for voice, parts, voice_runs in voices
        for i, run in enumerate(voice_runs)
    ]
    check_voices_differ(arch, runs)
    write_golden(arch, folder, seeds, chat_list, texts, runs)


def add_blends(arch, model_dir, prompts, voices):
    """Blends reuse the adapters as they are: instead of another seed, the weights move until the margins are clear."""
    for voice, parts in tiny_adapters.blends(arch.name):
        folders = {n: os.path.join(os.path.dirname(model_dir), "adapters", n) for n, _ in parts}
        model = tiny_adapters.load_adapters(tiny_models.load_reference(model_dir), folders)

        def try_weights(step, parts=parts, model=model):
            moved = [(n, round(w + 0.01 * step * (-1) ** i, 2)) for i, (n, w) in enumerate(parts)]
            undo = tiny_adapters.activate(model, moved)
            runs = run_voice(model, prompts)
            undo()
            return runs and (moved, runs)

        _, (moved, runs) = search(f"{arch.name}/{voice}", 0, try_weights)
        check_cat(f"{arch.name}/{voice}", model, moved, prompts, runs)
        voices.append((voice, moved, runs))


def check_cat(what, model, parts, prompts, runs):
    """What peft itself combines the parts to ("cat") gives the same. Its result has the first part's config, so rules
    that need a config of their own (rsLoRA, patterns) cannot take part."""
    configs = [model.peft_config[name] for name, _ in parts]
    if any(c.use_rslora or c.rank_pattern or c.alpha_pattern for c in configs):
        return
    names, weights = zip(*parts)
    model.add_weighted_adapter(list(names), list(weights), "cat", combination_type="cat")
    model.set_adapter("cat")
    worst = 0.0
    for prompt, run in zip(prompts, runs):
        with torch.inference_mode():
            ids = torch.tensor([prompt + run["ids"][:-1]])
            logprobs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float(), dim=-1)
        got = logprobs.gather(1, torch.tensor(run["top_ids"]))
        worst = max(worst, float((got - torch.tensor(run["top_logprobs"])).abs().max()))
    model.delete_adapter("cat")
    print(f"{what}: peft's cat differs by {worst:.1e} at most")
    if worst > LOGPROB_TOLERANCE / 20:
        raise SystemExit(f"{what}: peft's own combination is another one")


def check_voices_differ(arch, runs):
    for chat in range(len(chats.CHATS)):
        texts = [tuple(run["ids"]) for run in runs if run["chat"] == chat]
        if len(set(texts)) != len(texts):
            raise SystemExit(f"{arch.name}: two voices say the same in chat {chat}; an adapter has no effect")


def write_golden(arch, folder, seeds, chat_list, texts, runs):
    margins = sorted(m for run in runs for m in run["margins"])
    golden = {
        "made_by": "scripts/make_goldens.py",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
            "tokenizers": tokenizers.__version__,
            "numpy": numpy.__version__,
        },
        "arch": arch.name,
        "seeds": seeds,
        "steps": STEPS,
        "logprob_tolerance": LOGPROB_TOLERANCE,
        "margins": {
            "min": margins[0],
            "share_over_0.05": round(sum(m > 0.05 for m in margins) / len(margins), 4),
            "median": margins[len(margins) // 2],
        },
        "chats": chat_list,
        "texts": texts,
        "runs": runs,
    }
    lines = []
    for key, value in golden.items():
        if key in ("chats", "texts", "runs"):
            items = ",\n".join(" " + json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in value)
            lines.append(f'"{key}": [\n{items}\n]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    tiny_models.write_text(os.path.join(folder, "golden.json"), "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{arch.name}: {len(runs)} runs, seeds {seeds}, margins {golden['margins']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--out", default=os.path.join(root, "tests", "golden", "data"))
    parser.add_argument("--only", default="", help="comma-separated: llama, mistral, qwen2, qwen3, bad")
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for build in tiny_models.ALL:
        if not only or build.__name__ in only:
            make_arch(build, args.out)
    if not only or "bad" in only:
        bad_adapters.write_all(args.out)


if __name__ == "__main__":
    main()
