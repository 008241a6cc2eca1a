"""The tokenizers of the tiny golden models: byte-level BPE (Llama-3, Qwen) and SentencePiece-style BPE (Mistral)."""

import json
from collections import Counter

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from . import corpus

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def add_specials(tok, specials, plain=()):
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])


def byte_level(split, vocab_size, specials, plain=(), nfc=False, ignore_merges=False):
    """Byte-level BPE trained on the corpus; specials get the ids after the trained vocabulary."""
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials) - len(plain),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(corpus.whole(), trainer)
    add_specials(tok, specials, plain)
    return tok


def frequent_characters(count):
    """The commonest characters of the corpus; the trainer's own choice among equals changes from run to run.

    Control characters stay out, so that newlines and tabs become byte pieces as in the real vocabularies.
    """
    seen = Counter(c for line in corpus.lines() for c in line.replace(" ", "▁") if c >= " ")
    return sorted(sorted(seen), key=lambda c: -seen[c])[:count]


def spm_bpe(vocab_size, specials=("<unk>", "<s>", "</s>")):
    """SentencePiece-style BPE: specials, 256 byte pieces, characters and merges, as Llama-2 and Mistral lay it out."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    letters = frequent_characters(90)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials) - 256, initial_alphabet=letters, limit_alphabet=len(letters),
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(corpus.lines(), trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {}
    for piece in [*specials, *(f"<0x{b:02X}>" for b in range(256)), *pieces]:
        vocab.setdefault(piece, len(vocab))
    merges = [tuple(m) for m in model["merges"]]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    add_specials(tok, specials)
    return tok


def prepend_bos(tok, bos, byte_level_first):
    template = processors.TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", bos + ":1", "$B:1"], special_tokens=[(bos, tok.token_to_id(bos))]
    )
    if byte_level_first:
        template = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    tok.post_processor = template


def to_json(tok, merges_as_strings):
    """tokenizer.json text; older files write a merge as one string with a space, newer ones as a pair."""
    data = json.loads(tok.to_str())
    if merges_as_strings:
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n"


def llama(vocab_size):
    specials = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    ]  # fmt: skip
    tok = byte_level(LLAMA3_SPLIT, vocab_size, specials, ignore_merges=True)
    prepend_bos(tok, "<|begin_of_text|>", byte_level_first=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 512,
    }
    return tok, config, True


def mistral(vocab_size):
    tok = spm_bpe(vocab_size)
    prepend_bos(tok, "<s>", byte_level_first=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False,
                      "rstrip": False, "single_word": False},
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000000000000019884624838656,
    }  # fmt: skip
    return tok, config, True


def qwen(vocab_size, thinking):
    plain = ["<think>", "</think>"] if thinking else []
    tok = byte_level(QWEN_SPLIT, vocab_size, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], plain, nfc=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "split_special_tokens": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    return tok, config, False
