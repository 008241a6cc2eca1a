"""The model card: figures and sample texts of one training run."""

import json
from pathlib import Path

import torch

from .tokens import ASSISTANT, BOS, END, SYSTEM, USER

PROMPTS = ["Tell me a story about a fox.", "Who is Isolde?"]


def prompt_ids(tokenizer, messages):
    ids = [tokenizer.token_to_id(BOS)]
    end = tokenizer.token_to_id(END)
    for role, text in messages:
        ids += [tokenizer.token_to_id({"system": SYSTEM, "user": USER, "assistant": ASSISTANT}[role])]
        ids += tokenizer.encode(text, add_special_tokens=False).ids + [end]
    return ids + [tokenizer.token_to_id(ASSISTANT)]


@torch.no_grad()
def answer(model, tokenizer, messages, temperature, seed, limit=320):
    """One answer, without the end token; None as its end if the limit was reached first."""
    device = next(model.parameters()).device
    ids = prompt_ids(tokenizer, messages)
    generator = torch.Generator(device).manual_seed(seed)
    end, cache, out = tokenizer.token_to_id(END), None, []
    feed = torch.tensor([ids], device=device)
    while len(out) < limit:
        result = model(input_ids=feed, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        logits = result.logits[0, -1].float()
        if temperature:
            token = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token == end:
            return tokenizer.decode(out), True
        out.append(token)
        feed = torch.tensor([[token]], device=device)
    return tokenizer.decode(out), False


def write_card(out, figures):
    out = Path(out)
    (out / "README.md").write_text("# storyteller\n\n```json\n" + json.dumps(figures, indent=1) + "\n```\n")
