"""A template language for writing many different texts from few lines.

    [a|b|c]   one of the alternatives, nested at will; [text|] is optional text
    {key}     a value of the context; {Key} the same with a capital letter
    {~list}   a word of the lexicon, not used before in this text; {~List} with a capital letter

A context value may be a tuple of equal choices, or a Mention. "a" before a vowel becomes "an" when the text is finished.
"""

import re

from .lexicon import LISTS

_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_NOT_AN = re.compile(r"\b([Aa])n (?=(?:uni|use|usu|one\b|once\b|eu|ubi|u-))", re.I)
_SILENT_H = re.compile(r"\b([Aa]) (?=(?:hour|honest|honou?r|heir))", re.I)
_CACHE = {}


class Mention:
    """Somebody or something that a text introduces once ("a fox named Pip") and then calls by a short name."""

    def __init__(self, intro, short):
        self.intro, self.short, self.used = intro, short, False

    def say(self, rng):
        if not self.used:
            self.used = True
            return self.intro
        return self.short[int(rng.random() * len(self.short))]


def capital(text):
    return text[:1].upper() + text[1:]


def _parse(src, pos, closing):
    """Parse alternatives up to `closing`; returns (list of sequences, position behind them)."""
    alternatives, sequence, literal = [], [], []

    def flush():
        if literal:
            sequence.append("".join(literal))
            literal.clear()

    while pos < len(src):
        char = src[pos]
        if char == "[":
            flush()
            inner, pos = _parse(src, pos + 1, "]")
            sequence.append(("choice", inner))
        elif char == "{":
            flush()
            end = src.index("}", pos)
            key = src[pos + 1 : end]
            kind = "slot"
            if key.startswith("~"):
                kind, key = "list", key[1:]
            low = key[:1].lower() + key[1:]
            sequence.append((kind, low, low != key))
            pos = end + 1
        elif char == "|" and closing:
            flush()
            alternatives.append(sequence)
            sequence = []
            pos += 1
        elif char == closing:
            flush()
            alternatives.append(sequence)
            return alternatives, pos + 1
        else:
            literal.append(char)
            pos += 1
    if closing:
        raise ValueError(f"unclosed [ in template: {src!r}")
    flush()
    alternatives.append(sequence)
    return alternatives, pos


def _run(sequence, context, used, rng, out):
    for part in sequence:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "choice":
            options = part[1]
            _run(options[int(rng.random() * len(options))], context, used, rng, out)
        else:
            kind, key, upper = part
            if kind == "list":
                words = LISTS[key]
                for _ in range(4):
                    value = words[int(rng.random() * len(words))]
                    if value not in used:
                        break
                used.add(value)
                if "[" in value or "{" in value:
                    value = expand(value, context, rng)
            else:
                value = context[key]
                if isinstance(value, Mention):
                    value = value.say(rng)
                elif isinstance(value, tuple):
                    value = value[int(rng.random() * len(value))]
            out.append(capital(value) if upper else value)


def expand(template, context, rng):
    sequence = _CACHE.get(template)
    if sequence is None:
        sequence = _CACHE[template] = _parse(template, 0, "")[0][0]
    out = []
    _run(sequence, context, context.setdefault("_used", set()), rng, out)
    return "".join(out)


def finish(text):
    """Settle a / an and stray spaces."""
    text = _VOWEL.sub(r"\1n ", text)
    text = _NOT_AN.sub(r"\1 ", text)
    text = _SILENT_H.sub(r"\1n ", text)
    return text.replace("  ", " ").strip()
