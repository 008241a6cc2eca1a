"""A card that fails for good while it serves: on the emulated card what scripts/gpu_lost.py asks of a real one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "emu" / "tests" / "gpu" / "lost_server"


@pytest.mark.skipif(not PROGRAM.exists(), reason="there is no CUDA toolkit here")
def test_a_lost_card_ends_every_stream_with_an_error():
    few = ["--quant", "none", "--ctx", "128", "--max-seqs", "8", "--step-rows", "8", "--adapter-slots", "4"]
    run = subprocess.run([sys.executable, ROOT / "scripts" / "gpu_lost.py", PROGRAM, ROOT / "models" / "storyteller", *few],
                         capture_output=True, text=True, timeout=300, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
