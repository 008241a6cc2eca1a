"""Small templates, equal on both sides: the same text, or both raise."""
import pytest

from cases import DATA, REFUSED, templates
from jinja_reference import check, chorus, reference

CASES = list(templates())


@pytest.mark.parametrize("template", [t for _, t in CASES], ids=[f"{g}-{i}" for i, (g, _) in enumerate(CASES)])
def test_case(template):
    check(template, DATA)


@pytest.mark.parametrize("template", REFUSED)
def test_refused(template):
    assert reference(template, DATA)[0] == "ok"
    status, message = chorus(template, DATA)
    assert status == "raises" and any(w in message for w in ("not supported", "64 bits", "bad escape")), message
