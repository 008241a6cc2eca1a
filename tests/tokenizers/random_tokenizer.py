"""Small tokenizer.json files in which options are combined at random."""

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
ADDED = ["<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>", "<think>", "[INST]", "<|x", "<|x|>", "é", "  ", "\n\n", "▁▁",
         "a", "the", "Ab", "<bos>", "e\u0301", "ﬁ", "<｜User｜>", "İ", " x"]


def byte_chars():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(moved)}}


BYTE_CHARS = byte_chars()


def step(kind, **members):
    return {"type": kind, **members}


def sequence(key, steps):
    return {"type": "Sequence", key: steps}


def model(r, texts, byte_level):
    if byte_level:
        symbols = list(BYTE_CHARS.values())
        if r.random() < 0.2:
            symbols = r.sample(symbols, 200)
        corpus = [[BYTE_CHARS[b] for b in t.encode()] for t in texts]
    else:
        symbols = sorted({c for t in texts for c in t if c.isascii() or r.random() < 0.8} | {"▁"})
        corpus = [list(t.replace(" ", "▁")) for t in texts]
    tokens = []
    unk = r.choice(["<unk>", "[UNK]"]) if r.random() < 0.5 else None
    if unk:
        tokens.append(unk)
    if r.random() < 0.5:
        tokens += ["<s>", "</s>"]
    fallback = r.random() < 0.4
    if fallback:
        tokens += ["<0x%02X>" % i for i in range(0, 256, 1 if r.random() < 0.7 else 2)]
    tokens += [s for s in symbols if s not in tokens]
    known = set(tokens)
    merges = []
    for _ in range(r.randrange(250)):
        word = r.choice(corpus)
        if len(word) < 2:
            continue
        i = r.randrange(len(word) - 1)
        a, b = word[i], word[i + 1]
        if a not in known or b not in known:
            continue
        if (a, b) not in merges:
            merges.append((a, b))
            if a + b not in known:
                known.add(a + b)
                tokens.append(a + b)
        for k, w in enumerate(corpus):
            out = []
            for s in w:
                if out and out[-1] == a and s == b:
                    out[-1] = a + b
                else:
                    out.append(s)
            corpus[k] = out
    if r.random() < 0.3:
        r.shuffle(merges)
    as_pairs = r.random() < 0.5 or any(" " in x for m in merges for x in m)
    return {
        "type": "BPE", "dropout": None, "unk_token": unk, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": r.random() < 0.5, "byte_fallback": fallback, "ignore_merges": r.random() < 0.3,
        "vocab": {t: i for i, t in enumerate(tokens)},
        "merges": [list(m) if as_pairs else " ".join(m) for m in merges],
    }


def normalizer(r, byte_level):
    spaces = step("Replace", pattern={"String": " "}, content="▁")
    steps = [step(k) for k in ("NFC", "NFKC", "NFD", "NFKD", "Lowercase", "StripAccents")] + [
        step("Strip", strip_left=True, strip_right=r.random() < 0.5), spaces, step("Prepend", prepend="▁"),
        step("Replace", pattern={"Regex": " {2,}"}, content=" "), step("Replace", pattern={"Regex": r"\s+"}, content=""),
        step("Replace", pattern={"String": "``"}, content='"'),
    ]
    if r.random() < 0.3:
        return sequence("normalizers", r.sample(steps, r.randrange(4)))
    if not byte_level and r.random() < 0.7:
        return r.choice([sequence("normalizers", [step("Prepend", prepend="▁"), spaces]), spaces])
    return None


def pre_tokenizer(r, byte_level):
    if byte_level:
        raw = step("ByteLevel", add_prefix_space=r.random() < 0.3, use_regex=False, trim_offsets=True)
        own = {**raw, "use_regex": True}
        split = step("Split", pattern={"Regex": LLAMA3}, behavior=r.choice(BEHAVIORS), invert=r.random() < 0.2)
        return r.choice([own, sequence("pretokenizers", [split, raw]),
                         sequence("pretokenizers", [step("Digits", individual_digits=r.random() < 0.5), own])])
    return r.choice([
        None, None, step("Whitespace"), step("WhitespaceSplit"), step("Punctuation", behavior=r.choice(BEHAVIORS)),
        step("Metaspace", replacement="▁", prepend_scheme=r.choice(["always", "first", "never"]), split=r.random() < 0.5),
        step("Split", pattern={"String": " "}, behavior=r.choice(BEHAVIORS), invert=r.random() < 0.3),
    ])


def decoder(r, byte_level):
    spaces = step("Replace", pattern={"String": "▁"}, content=" ")
    whole = step("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)
    if byte_level and r.random() < 0.8:
        return whole
    return r.choice([
        None, whole, step("ByteFallback"), step("Fuse"), step("Strip", content="e", start=1, stop=0),
        step("Metaspace", replacement="▁", prepend_scheme=r.choice(["always", "first", "never"]), split=True),
        sequence("decoders", [spaces, step("ByteFallback"), step("Fuse"), step("Strip", content=" ", start=1, stop=0)]),
        sequence("decoders", [spaces, step("ByteFallback"), step("Fuse")]),
        sequence("decoders", [step("Replace", pattern={"Regex": "[a-z]+"}, content="<>"), step("Fuse"),
                              step("Strip", content=" ", start=3, stop=0)]),
    ])


def added_tokens(r, vocab):
    out = []
    new = len(vocab)
    for content in r.sample(ADDED, r.randrange(8)):
        # Special tokens that ordinary merges or characters yield are refused or barred here, by design. The library since
        # 0.23 spells normalized tokens otherwise when it decodes.
        special = r.random() < 0.5 and len(content) > 1 and content not in vocab
        out.append({"id": vocab.get(content, new), "content": content, "single_word": r.random() < 0.2,
                    "lstrip": r.random() < 0.2, "rstrip": r.random() < 0.2, "special": special,
                    "normalized": r.random() < 0.4 and bool(content.strip())})
        new += content not in vocab
    return out


def post_processor(r, vocab):
    if "<s>" not in vocab or "</s>" not in vocab or r.random() < 0.3:
        return None
    tokens = {"<s>": ["<s>"], "</s>": ["</s>", "<s>"]}
    item = {t: {"SpecialToken": {"id": t, "type_id": 0}} for t in tokens}
    a, b = ({"Sequence": {"id": x, "type_id": 0}} for x in "AB")
    return step("TemplateProcessing", single=[item["<s>"], a, item["</s>"]], pair=[a, b],
                special_tokens={t: {"id": t, "ids": [vocab[x] for x in l], "tokens": l} for t, l in tokens.items()})


def make(r, pool):
    """A tokenizer.json and texts for it."""
    byte_level = r.random() < 0.45
    bpe = model(r, [r.choice(pool) for _ in range(40)], byte_level)
    file = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(r, bpe["vocab"]),
        "normalizer": normalizer(r, byte_level), "pre_tokenizer": pre_tokenizer(r, byte_level),
        "post_processor": post_processor(r, bpe["vocab"]), "decoder": decoder(r, byte_level), "model": bpe,
    }
    texts = [r.choice(pool) for _ in range(12)]
    for token in file["added_tokens"]:
        text = r.choice(pool)
        at = r.randrange(len(text) + 1)
        texts.append(text[:at] + r.choice(["", " ", "  \n"]) + token["content"] + r.choice(["", " ", "\n"]) + text[at:])
    return file, texts
