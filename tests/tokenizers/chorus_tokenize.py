"""`chorus tokenize` as functions."""
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHORUS = os.environ.get("CHORUS", str(ROOT / "build" / "chorus"))


def run(model, values, *options):
    """One JSON value a line in, one out; raises with the message where the command fails."""
    text = "".join(json.dumps(v) + "\n" for v in values)
    done = subprocess.run([CHORUS, "tokenize", "--model", str(model), "--jsonl", *options], input=text.encode(),
                          capture_output=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace").strip())
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


def encode(model, texts, *options):
    return run(model, texts, *options)


def decode(model, ids):
    return run(model, ids, "--decode")
