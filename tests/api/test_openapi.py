"""/openapi.json is the file of the repository and a valid description."""
import json

import openapi_spec_validator

from strict import FILE, description


def test_served_as_it_lies_here(plain):
    status, headers, text = plain.request("GET", "/openapi.json")
    assert status == 200 and headers["content-type"] == "application/json" and text == FILE.read_bytes()
    status, headers, text = plain.request("HEAD", "/openapi.json")
    assert status == 200 and int(headers["content-length"]) == FILE.stat().st_size and text == b""


def test_valid():
    openapi_spec_validator.validate(description())


def test_nothing_unused():
    """Every component is referred to."""
    text = FILE.read_text()
    for kind, members in description()["components"].items():
        for name in members:
            assert kind == "securitySchemes" or f'"#/components/{kind}/{name}"' in text, f"{kind}/{name}"
    assert json.loads(text)["openapi"].startswith("3.1")
