"""Answers held to grammars on the emulated card, a few at once: what scripts/gpu_session.sh masks measures on a real one."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "emu" / "tests" / "gpu" / "mask_bench"


@pytest.mark.skipif(not PROGRAM.exists(), reason="there is no CUDA toolkit here")
def test_every_kind_of_grammar_runs_beside_the_step():
    run = subprocess.run([PROGRAM, "--streams", "3", "--prompt", "4", "--generate", "20", "--rounds", "1", "--quant", "none",
                          ROOT / "tests/golden/data/llama/model"], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [n["kind"] for n in lines] == ["none", "schema", "regex", "choice", "half"]
    assert all(n["backend"] == "cuda" and n["ratio"] > 0 for n in lines)
    # Each answer has a row in every step but the ones of prompts: with every second step it would be twice as many.
    assert all(n["steps"] <= 20 + 3 for n in lines), lines
