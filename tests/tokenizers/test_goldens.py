"""Small tokenizers of fifteen styles against what the library made of them (README.md)."""
import gzip
import json
from pathlib import Path

import pytest

from chorus_tokenize import decode, encode

DATA = Path(__file__).parent / "data"
STYLES = sorted(p.name for p in DATA.iterdir() if p.is_dir())


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


TEXTS = lines(DATA / "texts.jsonl.gz")


def check(style, mine, wanted):
    assert len(mine) == len(wanted)
    wrong = [i for i, (a, b) in enumerate(zip(mine, wanted)) if a != b]
    for i in wrong[:5]:
        print(f"{style}, text {i} {ascii(TEXTS[i][:100])}: {ascii(mine[i])[:300]} instead of {ascii(wanted[i])[:300]}")
    assert not wrong, f"{len(wrong)} of {len(wanted)} texts differ"


@pytest.mark.parametrize("style", STYLES)
def test_ids(style):
    check(style, encode(DATA / style, TEXTS), lines(DATA / style / "ids.jsonl.gz"))


@pytest.mark.parametrize("style", STYLES)
def test_ids_of_message_text(style):
    wanted = lines(DATA / style / "ids.jsonl.gz")
    for i, ids in lines(DATA / style / "ids_as_text.jsonl.gz"):
        wanted[i] = ids
    check(style, encode(DATA / style, TEXTS, "--plain"), wanted)


@pytest.mark.parametrize("style", STYLES)
def test_decoded(style):
    wanted = list(TEXTS)
    for i, text in lines(DATA / style / "decoded.jsonl.gz"):
        wanted[i] = text
    check(style, decode(DATA / style, lines(DATA / style / "ids.jsonl.gz")), wanted)
