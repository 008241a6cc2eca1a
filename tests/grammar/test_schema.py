"""JSON Schema as a grammar, against the jsonschema package: what the grammar accepts validates, and instances written
compactly with members in the schema's order are accepted. SEED and SCHEMAS (how many) can be set in the environment."""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from schemas import mutate, random_schema

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / os.environ.get("CHORUS_BUILD", "build") / "tests/grammar/grammar_check"
SEED = int(os.environ.get("SEED", "1"))
COUNT = int(os.environ.get("SCHEMAS", "1000"))


def check(requests):
    """One answer for each request of grammar_check."""
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    run = subprocess.run([CHECK], input=lines, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def no_twice(pairs):
    keys = [k for k, _ in pairs]
    return dict(pairs), len(set(keys)) == len(keys)


def valid(validator, text):
    value = json.loads(text)
    return validator.is_valid(value)


def validator_of(schema):
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def test_random_schemas():
    jobs = []
    for i in range(COUNT):
        seed = SEED * 1000003 + i
        schema, instances = random_schema(seed)
        rng = random.Random(seed)
        others = [mutate(rng, v) for v in instances for _ in range(3)]
        texts = [dumps(v) for v in instances + others]
        texts += [json.dumps(v, ensure_ascii=False) for v in instances] + [json.dumps(v, indent=2, ensure_ascii=False) for v in instances]
        jobs.append((seed, schema, instances, {"kind": "schema", "text": json.dumps(schema, ensure_ascii=False), "candidates": texts, "walks": 3, "seed": seed}))
    bad, counts = [], {"accepted": 0, "refused": 0, "walks": 0, "instances": 0}
    for (seed, schema, instances, request), answer in zip(jobs, check([j[3] for j in jobs])):
        if "error" in answer:
            bad.append(f"seed {seed}: {answer['error']} in {dumps(schema)}")
            continue
        validator = validator_of(schema)
        texts, n = request["candidates"], len(instances)
        same = len(texts) - 2 * n
        for i, (text, accepted) in enumerate(zip(texts, answer["accepts"])):
            counts["accepted" if accepted else "refused"] += 1
            if accepted and not valid(validator, text):
                bad.append(f"seed {seed}: accepted, but invalid: {text} for {dumps(schema)}")
            if not accepted and (i < n or i >= same) and valid(validator, text):
                bad.append(f"seed {seed}: valid, but refused: {text} for {dumps(schema)}")
            counts["instances"] += i < n
        for text in answer["walks"]:
            counts["walks"] += 1
            try:
                fine = valid(validator, text)
            except ValueError:
                fine = False
            if not fine:
                bad.append(f"seed {seed}: the grammar made {text!r} for {dumps(schema)}")
    print(COUNT, "schemas:", counts)
    assert not bad, f"{len(bad)} findings\n" + "\n".join(bad[:20])
    assert counts["walks"] > 2 * COUNT and counts["refused"] > COUNT
