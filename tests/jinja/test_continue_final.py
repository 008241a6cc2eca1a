"""continue_final_message: what transformers made of it (scripts/make_continue_goldens.py), template by template."""
import gzip
import json
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from continue_final import source_of
from jinja_reference import CHORUS

HERE = Path(__file__).parent
GOLDEN = json.loads(gzip.decompress((HERE / "continue_final.json.gz").read_bytes()))
CASES = defaultdict(list)
for case in GOLDEN["cases"]:
    CASES[case["template"]].append(case)


def chorus(template, messages, *options):
    variables = {"messages": messages, "add_generation_prompt": False, "tools": None, "documents": None, **GOLDEN["tokens"]}
    done = subprocess.run([CHORUS, "render", "--template", template, *options],
                          input=json.dumps(variables).encode(), capture_output=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.stdout.decode() if done.returncode == 0 else None


def test_goldens_are_enough():
    texts = [c for c in GOLDEN["cases"] if c["text"] is not None]
    assert len(CASES) >= 15 and len(texts) >= 300
    # Both ways of white space: kept by the template, and trimmed with what stands before.
    ends = {c["text"].endswith(" ") for c in texts if c["name"] == "space behind"}
    assert ends == {True, False}


@pytest.mark.parametrize("template", sorted(CASES))
def test_continue_final(tmp_path, template):
    path = tmp_path / template
    path.write_text(source_of(template))
    for case in CASES[template]:
        assert chorus(str(path), case["messages"], "--continue-final-message") == case["text"], case
