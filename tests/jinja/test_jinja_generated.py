"""Random templates, equal on both sides. A seed that fails replays with CHORUS_JINJA_SEED=<seed> CHORUS_JINJA_COUNT=1."""
import os

import pytest

from cases import DATA
from generator import Generator
from jinja_reference import check, reference

COUNT = int(os.environ.get("CHORUS_JINJA_COUNT", "600"))
FIRST = int(os.environ.get("CHORUS_JINJA_SEED", "1"))
CHUNK = 100


@pytest.mark.parametrize("start", range(FIRST, FIRST + COUNT, CHUNK))
def test_generated(start):
    rendered = 0
    stop = min(start + CHUNK, FIRST + COUNT)
    for seed in range(start, stop):
        template = Generator(seed).template()
        rendered += reference(template, DATA)[0] == "ok"
        try:
            check(template, DATA)
        except AssertionError as e:
            raise AssertionError(f"seed {seed}\n{e}") from None
    # a grammar whose templates all raise would compare nothing
    assert COUNT < CHUNK or rendered > CHUNK // 5, f"{rendered} of {stop - start} rendered"


@pytest.mark.parametrize("start", range(FIRST, FIRST + COUNT, CHUNK))
def test_generated_expressions(start):
    for seed in range(start, min(start + CHUNK, FIRST + COUNT)):
        g = Generator(-seed)
        template = "{{ " + g.any(3) + " }}"
        try:
            check(template, DATA)
        except AssertionError as e:
            raise AssertionError(f"seed {-seed}\n{e}") from None
