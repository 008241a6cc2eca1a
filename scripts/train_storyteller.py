#!/usr/bin/env python3
"""Make models/storyteller: write its little world, train tokenizer, base model and five adapters, and write the model card.

    python scripts/train_storyteller.py --out models/storyteller [--device cuda|cpu] [--base-seconds 220 --adapter-seconds 35]

Needs torch, transformers, peft, tokenizers, safetensors. With --steps and --adapter-steps instead of seconds a run is
deterministic by --seed on one device; the card records the steps of each part so that a run can be repeated.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tokenizers import Tokenizer  # noqa: E402

from storyteller.voices import VOICES  # noqa: E402
from storyteller import corpus, tokens  # noqa: E402  (what needs torch is imported in main: the writers of text need none)

START = time.time()


def log(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="models/storyteller")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--seq", type=int, default=2048, help="tokens in a training row; the model's context")
    parser.add_argument("--rows", type=int, default=64, help="rows in a batch")
    parser.add_argument("--adapter-rows", type=int, default=24)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--adapter-lr", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=0, help="steps of the base, instead of --base-seconds")
    parser.add_argument("--base-seconds", type=float, default=220)
    parser.add_argument("--adapter-steps", type=int, default=0)
    parser.add_argument("--adapter-seconds", type=float, default=35)
    parser.add_argument("--shards", type=int, default=160, help="shards of base text")
    parser.add_argument("--adapter-shards", type=int, default=16)
    parser.add_argument("--shard-tokens", type=int, default=1 << 21)
    parser.add_argument("--tokenizer-texts", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--keep-base", action="store_true", help="train only the adapters, on the base in --out")
    parser.add_argument("--card", action="store_true", help="train nothing: judge the model in --out and write its card")
    parser.add_argument("--compile", type=int, default=-1, help="1: torch.compile; default: on cuda")
    return parser.parse_args()


def make_tokenizer(args):
    parts = [corpus.texts(voice, args.seed, args.tokenizer_texts // (1 if voice == "base" else 6)) for voice in ("base", *VOICES)]
    flat = [text for part in parts for talk in part for text in ([talk] if isinstance(talk, str) else [t for _, t in talk])]
    return tokens.train_tokenizer(flat, args.vocab)


def save_base(model, out):
    import torch

    model.to(torch.bfloat16).save_pretrained(out)
    generation = {"bos_token_id": model.config.bos_token_id, "eos_token_id": [model.config.eos_token_id],
                  "pad_token_id": model.config.pad_token_id, "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def save_adapter(peft_model, path):
    peft_model.peft_config["default"].base_model_name_or_path = "models/storyteller"
    peft_model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    config = json.loads((path / "adapter_config.json").read_text())
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main():
    args = options()
    import torch

    from storyteller import card, train

    compiled = args.compile == 1 or args.compile < 0 and args.device == "cuda"
    out = Path(args.out)
    if args.card:
        figures = json.loads((out / "training.json").read_text())
        card.judge(out, figures, args.device)
        card.render(out, figures)
        return
    if args.keep_base:
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    else:
        shutil.rmtree(out, ignore_errors=True)
    (out / "adapters").mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(args.seed)

    if not args.keep_base:
        tokenizer = make_tokenizer(args)
        tokens.save_tokenizer(tokenizer, out, args.seq)
    log(f"tokenizer: {tokenizer.get_vocab_size()} tokens")
    data = corpus.Corpus(tokenizer, args.seed, args.shard_tokens, args.workers)
    base_shards = data.order("base", 0 if args.keep_base else args.shards)
    style_shards = {name: data.order(name, args.adapter_shards) for name in VOICES}

    model = train.new_model(tokenizer, args.layers, args.seq, args.seed).to(args.device)
    card_name = torch.cuda.get_device_name(0) if args.device == "cuda" else "CPU"
    figures = {"date": datetime.date.today().isoformat(), "device": card_name, "parameters": model.num_parameters(), "options": vars(args), "parts": {}}
    log(f"model: {figures['parameters'] / 1e6:.2f} M parameters on {card_name}")
    common = {"device": args.device, "log": log}
    if args.keep_base:
        figures["parts"]["base"] = json.loads((out / "training.json").read_text())["parts"]["base"]
        model = train.load_model(out).to(args.device)
    else:
        source = train.batches(base_shards, args.seq, args.rows, args.device, args.seed)
        figures["parts"]["base"] = train.fit(model, source, name="base", steps=args.steps, seconds=args.base_seconds, peak=args.lr,
                                             warmup=100, compiled=compiled, **common)
        save_base(model, out)
        log("base saved")

    for name, shards in style_shards.items():
        model.requires_grad_(False)
        peft_model = train.add_adapter(model, name, args.seed)
        source = train.batches(shards, args.seq, args.adapter_rows, args.device, args.seed)
        figures["parts"][name] = train.fit(peft_model, source, name=name, steps=args.adapter_steps, seconds=args.adapter_seconds,
                                           peak=args.adapter_lr, warmup=30, compiled=False, **common)
        for param in peft_model.parameters():
            if param.requires_grad:
                param.data = param.data.to(torch.bfloat16)
        save_adapter(peft_model, out / "adapters" / name)
        model = peft_model.unload()
    figures["seconds"] = round(time.time() - START, 1)
    data.close()
    (out / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    card.judge(out, figures, args.device)
    card.render(out, figures)
    log("done")


if __name__ == "__main__":
    main()
