"""Texts made from a seed, against the `tokenizers` library itself: the real tokenizers of big families, and small random
ones in which options meet that no real file puts together.

The real ones come from ../shared/tokenizers.tar.xz (the environment's CHORUS_SHARED names another folder); those tests skip
where it is absent. SEED and TEXTS (how many) can be set in the environment too.
"""
import json
import os
import random
import resource
import tarfile
from pathlib import Path

import pytest

from chorus_tokenize import ROOT, decode, encode
from random_tokenizer import make
from texts import CODE, SENTENCES, texts

tokenizers = pytest.importorskip("tokenizers")

SEED = int(os.environ.get("SEED", "1"))
COUNT = int(os.environ.get("TEXTS", "2500"))
ARCHIVE = Path(os.environ.get("CHORUS_SHARED", ROOT.parent / "shared")) / "tokenizers.tar.xz"
REAL = ["qwen3", "llama3_1", "gemma3"]
RANDOM = 60
LOAD_S_MAX = {"qwen3": 1.0, "llama3_1": 1.0, "gemma3": 2.0}
SPEED_MB_S_MIN = 5.0


def unpacked():
    """build/tokenizers, filled from the archive once."""
    folder = ROOT / "build" / "tokenizers"
    if ARCHIVE.exists() and not all((folder / name / "tokenizer.json").exists() for name in REAL):
        with tarfile.open(ARCHIVE) as tar:
            for member in tar.getmembers():
                parts = member.name.split("/")
                if member.isfile() and len(parts) > 1 and parts[-2] in REAL:
                    member.name = "/".join(parts[-2:])
                    tar.extract(member, folder)
    return folder


def real(name):
    folder = unpacked() / name
    if not (folder / "tokenizer.json").exists():
        pytest.skip("shared/tokenizers.tar.xz is not here")
    return folder


def check(texts_, mine, wanted, what):
    assert len(mine) == len(wanted)
    wrong = [i for i, (a, b) in enumerate(zip(mine, wanted)) if a != b]
    for i in wrong[:5]:
        print(f"{what}: {ascii(texts_[i])[:200]}: {ascii(mine[i])[:300]} instead of {ascii(wanted[i])[:300]}")
    assert not wrong, f"{len(wrong)} of {len(wanted)} texts differ (seed {SEED})"


@pytest.mark.parametrize("name", REAL)
def test_real(name):
    folder = real(name)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    many = texts(COUNT, SEED)
    for add, options in ((False, ()), (True, ("--add-special",))):
        wanted = [e.ids for e in library.encode_batch(many, add_special_tokens=add)]
        check(many, encode(folder, many, *options), wanted, name)
    check(many, decode(folder, wanted), library.decode_batch(wanted, skip_special_tokens=False), f"{name} decode")
    library.encode_special_tokens = True
    wanted = [e.ids for e in library.encode_batch(many, add_special_tokens=False)]
    check(many, encode(folder, many, "--plain"), wanted, f"{name} plain")


@pytest.mark.parametrize("name", REAL)
def test_real_random_ids_decode(name):
    folder = real(name)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    r = random.Random(SEED)
    size = library.get_vocab_size()
    ids = [[r.randrange(size) for _ in range(r.randrange(60))] for _ in range(500)]
    check(ids, decode(folder, ids), library.decode_batch(ids, skip_special_tokens=False), name)


@pytest.mark.parametrize("k", range(RANDOM))
def test_random(k, tmp_path):
    r = random.Random(SEED * 1000 + k)
    pool = [t for t in texts(600, SEED + k) if len(t) < 300]
    file, many = make(r, pool)
    try:
        library = tokenizers.Tokenizer.from_str(json.dumps(file))
    except Exception as e:
        pytest.skip(f"the library refuses it: {e}")
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    for add, options in ((False, ()), (True, ("--add-special",))):
        wanted = [library.encode(t, add_special_tokens=add).ids for t in many]
        check(many, encode(tmp_path, many, *options), wanted, json.dumps(file)[:300])
    size = library.get_vocab_size()
    wanted += [[r.randrange(size + 2) for _ in range(r.randrange(30))] for _ in range(20)]
    check(wanted, decode(tmp_path, wanted), [library.decode(i, skip_special_tokens=False) for i in wanted], "decode")
    library.encode_special_tokens = True
    wanted = [library.encode(t, add_special_tokens=False).ids for t in many]
    check(many, encode(tmp_path, many, "--plain"), wanted, "plain " + json.dumps(file)[:300])


def cpu_s():
    """Processor time of the commands so far: a busy machine doesn't change it much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", REAL)
def test_load_time_and_speed(name, capsys):
    folder = real(name)
    r = random.Random(SEED)
    kinds = {
        "prose": " ".join(SENTENCES[:7]),
        "code": "".join(CODE),
        "cjk": "".join(s for s in SENTENCES if "\u4e00" <= s[0] <= "\u9fff"),
    }
    loads = []
    for _ in range(3):
        start = cpu_s()
        assert encode(folder, [""]) == [[]]
        loads.append(cpu_s() - start)
    figures = [f"loads in {min(loads):.2f} s"]
    slowest = 1e9
    for kind, text in kinds.items():
        pieces = text.split(" ") if kind != "code" else text.split("\n")
        long = " ".join(r.choice(pieces) for _ in range(4_000_000 * len(pieces) // (len(text.encode()) + len(pieces))))
        size = len(json.dumps(long, ensure_ascii=False).encode())
        start = cpu_s()
        encode(folder, [long], "--count")
        speed = size / 1e6 / max(cpu_s() - start - min(loads), 1e-3)
        slowest = min(slowest, speed)
        figures.append(f"{kind} {speed:.0f} MB/s")
    with capsys.disabled():
        print(f"\nfigure: tokenizer {name}: " + ", ".join(figures))
    if not os.environ.get("CHORUS_TEST_SLOW"):
        assert min(loads) < LOAD_S_MAX[name], figures
        assert slowest > SPEED_MB_S_MIN, figures
