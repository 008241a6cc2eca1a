"""Clients that people point at the server, each in an interpreter of its own: the official SDK in its current and in an older
major, LangChain, LiteLLM. What is asked is in tests/api/clients; scripts/install-deps.sh makes build/clients."""
import os
import subprocess
import sys

import pytest

from conftest import ROOT, SLOW

HERE = ROOT / "tests/api"
OTHER = ROOT / "build/clients"
OLDEST = OTHER / "openai1"
RUNS = {
    "openai 3": (sys.executable, [], "openai_sdk.py"),
    "openai 1": (OTHER / "bin/python", [OLDEST], "openai_sdk.py"),
    "langchain": (OTHER / "bin/python", [], "langchain_client.py"),
    "litellm": (OTHER / "bin/python", [], "litellm_client.py"),
}


@pytest.mark.parametrize("name", RUNS)
def test_client(name, tmp_path):
    python, paths, script = RUNS[name]
    if not (OTHER / ".requirements").exists() and str(python) != sys.executable:
        pytest.skip(f"{name} is not asked: build/clients is not installed (make test-deps)")
    env = dict(os.environ, PYTHONPATH=":".join(map(str, [HERE, *paths])), LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="none",
               CHORUS_SDK_MAJOR=name.removeprefix("openai ") if name.startswith("openai") else "2")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "run", HERE / "clients" / script]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300 * SLOW)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-8000:]
