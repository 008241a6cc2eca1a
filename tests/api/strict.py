"""Validators from server/openapi.json that are strict: what an answer has and the description does not is an error too."""
import json

import jsonschema

from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "server/openapi.json"


def close(root, node, part=False):
    """`node` of an answer with references opened and objects closed; `part`: of a whole that is closed itself."""
    if isinstance(node, list):
        return [close(root, v, part) for v in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = root
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return close(root, target, part)
    out = {}
    for key, v in node.items():
        if key == "properties":
            out[key] = {name: close(root, p) for name, p in v.items()}
        elif key in ("items", "additionalProperties", "contentSchema"):
            out[key] = close(root, v)
        elif key in ("allOf", "anyOf", "oneOf"):
            out[key] = close(root, v, part or key == "allOf")
        else:
            out[key] = v
    if not part and ("properties" in out or "allOf" in out) and "additionalProperties" not in out:
        out["unevaluatedProperties"] = False
    return out


def validator(root, schema):
    closed = close(root, schema)
    jsonschema.Draft202012Validator.check_schema(closed)
    return jsonschema.Draft202012Validator(closed)


def response_of(root, path, method, status):
    response = root["paths"][path][method.lower()]["responses"][str(status)]
    if "$ref" in response:
        response = root["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response


def answer_validator(root, path, method="post", status=200):
    return validator(root, response_of(root, path, method, status)["content"]["application/json"]["schema"])


def event_validator(root, path, method="post"):
    """Of the data of each event but [DONE]."""
    event = close(root, response_of(root, path, method, 200)["content"]["text/event-stream"]["schema"])
    data = event["properties"]["data"]
    return validator(root, data["anyOf"][0]["contentSchema"] if "anyOf" in data else data["contentSchema"])


def problem(v, answer):
    """None, or what is wrong and where."""
    worst = jsonschema.exceptions.best_match(v.iter_errors(answer))
    return worst and f"{worst.json_path}: {worst.message}"


def description():
    return json.loads(FILE.read_text())
