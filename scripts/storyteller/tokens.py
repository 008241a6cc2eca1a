"""The tokenizer and the chat template of the model, and their files."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, END, SYSTEM, USER, ASSISTANT, PAD = "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>"
SPECIALS = [BOS, END, SYSTEM, USER, ASSISTANT, PAD]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'developer', 'user', 'assistant'] %}
        {{- raise_exception('A message has the role ' + message['role'] + '; this model knows system, user and assistant.') }}
    {%- endif %}
    {%- set role = 'system' if message['role'] == 'developer' else message['role'] %}
    {{- '<|' + role + '|>' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def train_tokenizer(texts, vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return tokenizer


def save_tokenizer(tokenizer, out, context):
    out = Path(out)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                             "single_word": False, "special": True} for t in SPECIALS}
    config = {"added_tokens_decoder": added, "bos_token": BOS, "eos_token": END, "pad_token": PAD, "chat_template": CHAT_TEMPLATE,
              "clean_up_tokenization_spaces": False, "model_max_length": context, "tokenizer_class": "PreTrainedTokenizerFast"}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


class Encoder:
    """Conversations to token ids; ids that the model is to say itself carry the bit SAY."""

    SAY = 0x8000

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.bos, self.end = tokenizer.token_to_id(BOS), tokenizer.token_to_id(END)
        self.role = {r: tokenizer.token_to_id(f"<|{r}|>") for r in ("system", "user", "assistant")}

    def encode(self, conversations):
        """A list of id lists. A conversation is a list of (role, text), or a plain text."""
        flat = [text for c in conversations for _, text in ([("", c)] if isinstance(c, str) else c)]
        ids = iter(self.tokenizer.encode_batch(flat, add_special_tokens=False))
        out = []
        for c in conversations:
            row = [self.bos]
            if isinstance(c, str):
                row += [i | self.SAY for i in next(ids).ids] + [self.end | self.SAY]
            else:
                for role, _ in c:
                    row.append(self.role[role])
                    mark = self.SAY if role == "assistant" else 0
                    row += [i | mark for i in next(ids).ids] + [self.end | mark]
            out.append(row)
        return out
