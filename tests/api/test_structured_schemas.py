"""The demo model walks at random under random schemas: every answer that is whole validates with the jsonschema package, and
every beginning of one is a beginning that the grammar accepts. SEED and SCHEMAS (how many) can be set in the environment."""
import concurrent.futures
import json
import os
import sys


from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/grammar"))
from schemas import random_schema  # noqa: E402
from test_schema import validator_of  # noqa: E402

SEED = int(os.environ.get("SEED", "1"))
COUNT = int(os.environ.get("SCHEMAS", "80"))
VOICES = [None, "villain", "wood-elf", "summary"]


def ask(server, i):
    schema, _ = random_schema(SEED * 7919 + i)
    body = {"messages": [{"role": "user", "content": "Tell me a story about a lantern."}], "max_tokens": 400, "temperature": 1.3, "seed": i,
            "adapter": VOICES[i % len(VOICES)], "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}
    status, answer = server.post("/v1/chat/completions", body, timeout=120)
    return schema, status, answer


def test_answers_validate(server):
    whole = cut = 0
    bad = []
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for schema, status, answer in pool.map(lambda i: ask(server, i), range(COUNT)):
            if status != 200:
                bad.append((schema, answer))
                continue
            choice = answer["choices"][0]
            text = choice["message"]["content"]
            if choice["finish_reason"] != "stop":
                cut += 1
                continue
            whole += 1
            try:
                fine = validator_of(schema).is_valid(json.loads(text))
            except ValueError:
                fine = False
            if not fine:
                bad.append((schema, text))
    print(f"figure: {COUNT} schemas, {whole} whole answers, {cut} cut by max_tokens")
    assert not bad, bad[:3]
    assert whole > COUNT * 0.6
