"""Random requests that schemathesis makes of server/openapi.json: boundary values of every member, then random bodies, valid and
invalid. No 5xx; no answer and no event beside its description; nothing invalid is taken; a 400 names what is wrong. EXAMPLES (of
each operation) and SEED can be set in the environment, `make random` takes more of them."""
import json
import os
import subprocess
import sys

import pytest

from conftest import DEMO, ROOT, VOICES, start_real

EXAMPLES = os.environ.get("EXAMPLES", "8")
SEED = os.environ.get("SEED", "1")
HERE = ROOT / "tests/api"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The demo model with a short context: an answer without max_tokens ends soon."""
    s = start_real(tmp_path_factory.mktemp("random"), "--model", str(DEMO), "--adapters", str(DEMO / "adapters"), "--ctx", "160")
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text(), s.log_text()[-4000:]


def test_random_requests(small, tmp_path):
    counts = tmp_path / "counts.json"
    names = {"base": "storyteller", "adapters": VOICES, "vocab": json.loads((DEMO / "config.json").read_text())["vocab_size"]}
    env = dict(os.environ, SCHEMATHESIS_HOOKS="random_hooks", PYTHONPATH=str(HERE), CHORUS_RANDOM_NAMES=json.dumps(names),
               CHORUS_RANDOM_COUNTS=str(counts))
    command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run",
               str(ROOT / "server/openapi.json"), "--url", small.url, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES,
               "--seed", SEED, "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-12000:]
    seen = json.loads(counts.read_text())
    answered = lambda what: sum(n for key, n in seen.items() if key.startswith(what))
    shares = {path: answered(f"positive POST {path} 200") / answered(f"positive POST {path} ")
              for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize", "/v1/adapters")}
    print(f"figure: random: {sum(seen.values())} requests, {answered('negative')} of them invalid, valid ones answered:",
          ", ".join(f"{path} {share:.2f}" for path, share in shares.items()))
    assert min(shares.values()) > 0.4, shares  # valid requests come through, so the checks of answers have something to look at
