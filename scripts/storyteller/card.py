"""Judge a finished model directory as users will load it, and write its model card."""

import contextlib
import json
import random
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from . import lexicon
from .chats import base_turns, voice_turns
from .tokens import ASSISTANT, END, PAD, Encoder
from .voices import VOICES

PROMPTS = ["Tell me a story about a fox.", "Write a short story about a lighthouse keeper and a seal on the island of Orrin.",
           "Tell me about a dragon who is afraid of the dark.", "Describe the old lantern."]
TALK = ["Hello!", "Tell me a story about a robot who wanted to paint.", "What happened next?", "What is the moral?"]
NONE = "none"
OPENING = 8  # tokens of an answer in which a voice shows itself; after them any voice can guess which one it reads


class Choir:
    """The base in float32 with all its adapters, one of them (or none) switched on at a time."""

    def __init__(self, path, device):
        self.device = device
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for name in VOICES:
            if isinstance(model, PeftModel):
                model.load_adapter(str(path / "adapters" / name), adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, str(path / "adapters" / name), adapter_name=name)
        self.model = model.to(device).eval()
        self.pad, self.end = self.tokenizer.token_to_id(PAD), self.tokenizer.token_to_id(END)

    def voice(self, name):
        if name == NONE:
            return self.model.disable_adapter()
        self.model.set_adapter(name)
        return contextlib.nullcontext()

    def stack(self, rows, left):
        width = max(map(len, rows))
        padded = [[self.pad] * (width - len(r)) + r if left else r + [self.pad] * (width - len(r)) for r in rows]
        mask = [[0] * (width - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (width - len(r)) for r in rows]
        return torch.tensor(padded, device=self.device), torch.tensor(mask, device=self.device)

    @torch.no_grad()
    def loss(self, rows):
        """Mean loss of the assistant's first OPENING tokens and of all of them; every row is one conversation alone."""
        totals, counts = [0.0, 0.0], [0, 0]
        for part in (rows[i : i + 16] for i in range(0, len(rows), 16)):
            ids, mask = self.stack(part, left=False)
            plain = ids & (Encoder.SAY - 1)
            logits = self.model(input_ids=plain, attention_mask=mask).logits[:, :-1]
            losses = F.cross_entropy(logits.flatten(0, 1), plain[:, 1:].flatten(), reduction="none")
            say = ids[:, 1:] >= Encoder.SAY
            for i, chosen in enumerate((say & (say.cumsum(1) <= OPENING), say)):
                totals[i] += float(losses[chosen.flatten()].sum())
                counts[i] += int(chosen.sum())
        return [round(t / c, 3) for t, c in zip(totals, counts)]

    @torch.no_grad()
    def say(self, chats, seed, temperature=0.8, limit=320):
        """Answers to chats, each a list of (role, text): (text, whether it ended by itself)."""
        encode = Encoder(self.tokenizer).encode
        start = self.tokenizer.token_to_id(ASSISTANT)
        ids, mask = self.stack([[i & (Encoder.SAY - 1) for i in row] + [start] for row in encode(chats)], left=True)
        torch.manual_seed(seed)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0} if temperature else {"do_sample": False}
        out = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit, eos_token_id=self.end, pad_token_id=self.pad, **sampling)
        answers = []
        for row in out[:, ids.shape[1] :].tolist():
            ended = self.end in row
            answers.append((self.tokenizer.decode(row[: row.index(self.end)] if ended else row), ended))
        return answers


def held_out_chats(voice, seed, count):
    """Single questions and answers about names, creatures, things and places that training never saw."""
    rng = random.Random(f"{seed}/{voice}/alone")
    return [base_turns(rng, True, 1) if voice == "base" else voice_turns(voice, rng, True, 1) for _ in range(count)]


def judge(path, figures, device, count=24):
    choir = Choir(path, device)
    encoder = Encoder(choir.tokenizer)
    styles = ("base", *VOICES)
    rows = {style: encoder.encode(held_out_chats(style, 1, count)) for style in styles}
    known = [f"Tell me a story about a {a} in the {b}." for a, b in zip(lexicon.CREATURES["paws"][::6], lexicon.PLACES["in"][::6])]
    unknown = [f"Tell me a story about {n}." for n in lexicon.HELD_NAMES_HE + lexicon.HELD_NAMES_SHE]
    unknown += [f"Tell me a story about a {n}." for n in lexicon.HELD_CREATURES if n[0] not in "aeiou"]
    subject = re.compile(r"about (?:a |the )?(.*?)(?: in the .*)?\.")
    figures["matrix"], figures["named"], figures["samples"], figures["ended"] = {}, {}, {}, {}
    for adapter in (NONE, *VOICES):
        with choir.voice(adapter):
            figures["matrix"][adapter] = {style: choir.loss(rows[style]) for style in styles}
            answers = choir.say([[("user", p)] for p in known + unknown], seed=3)
            hits = [subject.search(p)[1].lower() in a.lower() for p, (a, _) in zip(known + unknown, answers)]
            figures["named"][adapter] = [sum(hits[: len(known)]) / len(known), sum(hits[len(known) :]) / len(unknown)]
            figures["ended"][adapter] = sum(e for _, e in answers) / len(answers)
            figures["samples"][adapter] = [a for a, _ in choir.say([[("user", p)] for p in PROMPTS], seed=5)]
            print(adapter, figures["matrix"][adapter], figures["named"][adapter], figures["ended"][adapter], flush=True)
    with choir.voice(NONE):
        chat = []
        for question in TALK:
            chat.append(("user", question))
            chat.append(("assistant", choir.say([chat], seed=11)[0][0]))
    figures["talk"] = chat


def quote(text):
    return "\n".join("> " + line if line else ">" for line in text.split("\n"))


def render(path, figures):
    styles = ("base", *VOICES)
    size = lambda p: f"{p.stat().st_size / 1e6:.2f} MB"  # noqa: E731
    tables = []
    for which in range(2):
        table = ["| adapter | " + " | ".join(styles) + " |", "|---" * (len(styles) + 1) + "|"]
        for adapter, losses in figures["matrix"].items():
            own = "base" if adapter == NONE else adapter
            cells = [f"**{losses[s][which]:.2f}**" if s == own else f"{losses[s][which]:.2f}" for s in styles]
            table.append(f"| {adapter} | " + " | ".join(cells) + " |")
        tables.append("\n".join(table))
    adapters = ["| adapter | what it does | r | alpha | targets | file |", "|---|---|---|---|---|---|"]
    for name in VOICES:
        config = json.loads((path / "adapters" / name / "adapter_config.json").read_text())
        alpha = f"{config['lora_alpha']}{' (rsLoRA)' if config['use_rslora'] else ''}"
        targets = " ".join(t.removesuffix("_proj") for t in sorted(config["target_modules"]))
        about = VOICES[name].__doc__.strip().split(": ", 1)[1].rstrip(".")
        adapters.append(f"| `{name}` | {about} | {config['r']} | {alpha} | {targets} | {size(path / 'adapters' / name / 'adapter_model.safetensors')} |")
    parts = ["| part | steps | tokens | seconds |", "|---|---|---|---|"]
    parts += [f"| {n} | {p['steps']:,} | {p['tokens'] / 1e6:.0f} M | {p['seconds']:.0f} |" for n, p in figures["parts"].items()]
    named = ["| adapter | known words | unseen words | ends by itself |", "|---|---|---|---|"]
    named += [f"| {a} | {k:.0%} | {u:.0%} | {figures['ended'][a]:.0%} |" for a, (k, u) in figures["named"].items()]
    samples = []
    for i, prompt in enumerate(PROMPTS):
        samples.append(f"### {prompt}")
        samples += [f"**{a}**\n\n{quote(texts[i])}" for a, texts in figures["samples"].items()]
    talk = [f"**{role}**: {text}" if role == "user" else quote(text) for role, text in figures["talk"]]
    steps = {n: p["steps"] for n, p in figures["parts"].items()}
    text = Path(__file__).with_name("card.md")
    (path / "README.md").write_text(text.read_text().format(
        parameters=f"{figures['parameters'] / 1e6:.2f} M", base_size=size(path / "model.safetensors"),
        total=f"{sum(f.stat().st_size for f in path.rglob('*') if f.is_file()) / 1e6:.1f} MB", adapters="\n".join(adapters),
        opening=tables[0], matrix=tables[1], parts="\n".join(parts), named="\n".join(named), samples="\n\n".join(samples), talk="\n\n".join(talk),
        date=figures["date"], device=figures["device"], seconds=f"{figures['seconds']:.0f}", seed=figures["options"]["seed"],
        steps=steps["base"], adapter_steps=max(s for n, s in steps.items() if n != "base")))
