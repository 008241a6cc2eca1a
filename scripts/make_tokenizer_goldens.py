#!/usr/bin/env python3
"""Write tests/tokenizers/data: small tokenizers in the styles of the families and the ids of some 2,500 texts.

    scripts/make_tokenizer_goldens.py [--out tests/tokenizers/data]

The tokenizers are trained here on scripts/goldens/corpus.py with the `tokenizers` library, which also gives the ids.
Needs nothing else and no network; two runs write the same bytes. tests/tokenizers/README.md describes the files.
"""

import argparse
import gzip
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from goldens import corpus, texts
from goldens.tiny_tokenizers import LLAMA3_SPLIT, QWEN_SPLIT, add_specials, byte_level, frequent_characters
from goldens.tiny_tokenizers import prepend_bos, spm_bpe, to_json

# The split expressions that the families' tokenizer.json files carry.
O200K_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3_SPLITS = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]
DEEPSEEK_CODER_SPLITS = [
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"[一-龥ࠀ-一가-퟿]+",
]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def train_byte_level(tok, vocab_size):
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(corpus.whole(), trainer)


def byte_level_with(pre_tokenizer, vocab_size, specials, plain=(), normalizer=None, ignore_merges=False):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    train_byte_level(tok, vocab_size)
    add_specials(tok, specials, plain)
    return tok


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def llama2():
    tok = spm_bpe(900)
    prepend_bos(tok, "<s>", byte_level_first=False)
    return to_json(tok, merges_as_strings=True)


def mistral_v3():
    # Metaspace instead of normalizers, and control tokens in front of the bytes.
    tok = spm_bpe(900, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]"))
    tok.normalizer = None
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    prepend_bos(tok, "<s>", byte_level_first=False)
    return to_json(tok, merges_as_strings=False)


def phi3():
    # Llama-2's pieces with added tokens of every kind: rstrip, lstrip, single word, normalized, not special.
    tok = spm_bpe(800)
    kinds = [
        AddedToken("<|user|>", rstrip=True, special=True, normalized=False),
        AddedToken("<|end|>", rstrip=True, special=True, normalized=False),
        AddedToken("<mask>", lstrip=True, special=True, normalized=False),
        AddedToken("<one>", single_word=True, special=False, normalized=False),
        AddedToken("the lamp", special=False, normalized=True),
    ]
    for kind in kinds:
        (tok.add_special_tokens if kind.special else tok.add_tokens)([kind])
    return to_json(tok, merges_as_strings=True)


def gemma():
    tok = spm_bpe(900, ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous", False)
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(2, 6)])
    tok.add_tokens([AddedToken("▁" * n, normalized=False) for n in range(2, 6)])
    prepend_bos(tok, "<bos>", byte_level_first=False)
    return to_json(tok, merges_as_strings=False)


def nfkc_spm():
    tok = spm_bpe(800)
    tok.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return to_json(tok, merges_as_strings=True)


def spm_no_fallback():
    # Without byte pieces what the alphabet lacks becomes <unk>, one for a run of it (fuse_unk).
    letters = frequent_characters(70)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=letters, limit_alphabet=len(letters), special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(corpus.lines(), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    tok = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    add_specials(tok, ["<unk>", "<s>", "</s>"])
    return to_json(tok, merges_as_strings=False)


def llama3():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tok = byte_level(LLAMA3_SPLIT, 900, specials, ignore_merges=True)
    prepend_bos(tok, "<|begin_of_text|>", byte_level_first=True)
    return to_json(tok, merges_as_strings=True)


def qwen():
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return to_json(byte_level(QWEN_SPLIT, 900, specials, ["<think>", "</think>"], nfc=True), merges_as_strings=False)


def deepseek_v3():
    steps = [split(p) for p in DEEPSEEK3_SPLITS] + [bytes_only()]
    specials = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
    tok = byte_level_with(pre_tokenizers.Sequence(steps), 900, specials, ["<｜User｜>", "<｜Assistant｜>", "<think>"],
                          normalizer=normalizers.Sequence([]))  # fmt: skip
    prepend_bos(tok, "<｜begin▁of▁sentence｜>", byte_level_first=False)
    return to_json(tok, merges_as_strings=True)


def deepseek_coder():
    steps = [split(p) for p in DEEPSEEK_CODER_SPLITS]
    steps += [pre_tokenizers.Digits(individual_digits=True), bytes_only()]
    tok = byte_level_with(pre_tokenizers.Sequence(steps), 900, ["<｜begin▁of▁sentence｜>"])
    return to_json(tok, merges_as_strings=True)


def gpt_oss():
    # The split as these files write it: what does not match is removed, inverted; the matches stay.
    steps = pre_tokenizers.Sequence([split(O200K_SPLIT, "removed", True), bytes_only()])
    specials = ["<|startoftext|>", "<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"]
    return to_json(byte_level_with(steps, 900, specials, ignore_merges=False), merges_as_strings=False)


def tekken():
    steps = pre_tokenizers.Sequence([split(TEKKEN_SPLIT), bytes_only()])
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = steps
    tok.decoder = decoders.ByteLevel()
    train_byte_level(tok, 900)
    add_specials(tok, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    prepend_bos(tok, "<s>", byte_level_first=False)
    return to_json(tok, merges_as_strings=False)


def gpt2():
    tok = byte_level_with(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), 900, ["<|endoftext|>"])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return to_json(tok, merges_as_strings=True)


def gpt2_prefix():
    tok = byte_level_with(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True), 700, ["<s>", "</s>"])
    return to_json(tok, merges_as_strings=True)


def smollm():
    steps = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return to_json(byte_level_with(steps, 900, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), merges_as_strings=True)


STYLES = [llama2, mistral_v3, phi3, gemma, nfkc_spm, spm_no_fallback, llama3, qwen, deepseek_v3, deepseek_coder, gpt_oss,
          tekken, gpt2, gpt2_prefix, smollm]  # fmt: skip


def write_lines(path, items):
    data = "".join(json.dumps(item, ensure_ascii=True, separators=(",", ":")) + "\n" for item in items)
    with open(path, "wb") as f:
        f.write(gzip.compress(data.encode(), 9, mtime=0))


def write_style(build, out, all_texts):
    folder = os.path.join(out, build.__name__)
    os.makedirs(folder)
    path = os.path.join(folder, "tokenizer.json")
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write(build())
    tok = Tokenizer.from_file(path)
    ids = [tok.encode(t, add_special_tokens=False).ids for t in all_texts]
    decoded = [tok.decode(i, skip_special_tokens=False) for i in ids]
    tok.encode_special_tokens = True
    plain = [tok.encode(t, add_special_tokens=False).ids for t in all_texts]
    write_lines(os.path.join(folder, "ids.jsonl.gz"), ids)
    differ = [(i, p) for i, p in enumerate(plain) if p != ids[i]]
    write_lines(os.path.join(folder, "ids_as_text.jsonl.gz"), differ)
    changed = [(i, d) for i, d in enumerate(decoded) if d != all_texts[i]]
    write_lines(os.path.join(folder, "decoded.jsonl.gz"), changed)
    print(f"{build.__name__}: {tok.get_vocab_size()} tokens, {sum(map(len, ids))} ids, "
          f"{len(differ)} texts with special tokens, {len(changed)} that decode to another text")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--out", default=os.path.join(root, "tests", "tokenizers", "data"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    os.makedirs(args.out)
    all_texts = texts.all_texts()
    write_lines(os.path.join(args.out, "texts.jsonl.gz"), all_texts)
    for build in STYLES:
        write_style(build, args.out, all_texts)
    with open(os.path.join(args.out, "made_by.json"), "w", encoding="utf-8") as f:
        made_by = {"script": "scripts/make_tokenizer_goldens.py", "tokenizers": tokenizers.__version__, "texts": len(all_texts)}
        f.write(json.dumps(made_by) + "\n")
    print(f"{len(all_texts)} texts, {sum(len(t.encode()) for t in all_texts)} bytes")


if __name__ == "__main__":
    main()
