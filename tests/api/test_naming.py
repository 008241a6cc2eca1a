"""Naming the adapter: every form of it on every endpoint that lets the model run, and on those that only read a model's name."""
import json

import pytest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "hi"}]

NAMING = [
    ({}, []), ({"adapter": None}, []), ({"adapter": ""}, []), ({"adapter": []}, []), ({"model": "fake"}, []), ({"model": ""}, []),
    ({"adapter": "wood-elf"}, [("wood-elf", 1)]), ({"model": "wood-elf"}, [("wood-elf", 1)]), ({"model": "fake:wood-elf"}, [("wood-elf", 1)]),
    ({"adapter": {"name": "villain", "weight": 0.8}}, [("villain", 0.8)]), ({"adapter": {"name": "villain"}}, [("villain", 1)]),
    ({"adapter": ["villain", {"name": "summary", "weight": -0.5}]}, [("villain", 1), ("summary", -0.5)]),
    ({"model": "fake", "adapter": "summary"}, [("summary", 1)]), ({"model": "summary", "adapter": "summary"}, [("summary", 1)]),
    ({"model": "summary", "adapter": {"name": "summary", "weight": 0.5}}, [("summary", 0.5)]),
    ({"lora": [{"id": 0, "scale": 0.5}]}, [("wood-elf", 0.5)]), ({"lora": [{"id": 1}, {"id": 2, "scale": 0}]}, [("villain", 1)]),
    ({"lora": []}, []), ({"lora": [{"id": 0, "scale": 0}]}, []), ({"lora": [{"id": 1, "scale": 0.5}], "adapter": {"name": "villain", "weight": 0.5}}, [("villain", 0.5)]),
    ({"lora": [{"id": 1, "scale": 0.5}], "model": "villain"}, [("villain", 0.5)]),
]
MISNAMING = [
    ({"adapter": "nobody"}, 404, "adapter_not_found", "adapter"), ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"model": "fake:nobody"}, 404, "adapter_not_found", "model"), ({"model": "other:wood-elf"}, 404, "model_not_found", "model"),
    ({"model": "FAKE"}, 404, "model_not_found", "model"), ({"model": "fake:"}, 404, "model_not_found", "model"),
    ({"model": "wood-elf:fake"}, 404, "model_not_found", "model"), ({"model": "gpt-4o"}, 404, "model_not_found", "model"),
    ({"adapter": "WOOD-ELF"}, 404, "adapter_not_found", "adapter"), ({"adapter": {"name": "nobody"}}, 404, "adapter_not_found", "adapter"),
    ({"adapter": ["wood-elf", "nobody"]}, 404, "adapter_not_found", "adapter"), ({"lora": [{"id": 99}]}, 404, "adapter_not_found", "lora"),
    ({"adapter": "../wood-elf"}, 400, "invalid_value", "adapter"), ({"adapter": "a b"}, 400, "invalid_value", "adapter"),
    ({"adapter": "x" * 65}, 400, "invalid_value", "adapter"), ({"adapter": {"weight": 1}}, 400, "invalid_value", "adapter.name"),
    ({"adapter": {"name": "villain", "weight": "1"}}, 400, "invalid_value", "adapter.weight"),
    ({"adapter": {"name": "villain", "weight": 101}}, 400, "invalid_value", "adapter.weight"),
    ({"adapter": ["villain", "villain"]}, 400, "invalid_value", "adapter"),
    ({"adapter": ["wood-elf", "villain", "marketing", "summary", "image-prompt"]}, 400, "invalid_value", "adapter"),
    ({"model": "wood-elf", "adapter": "villain"}, 400, "invalid_value", "adapter"),
    ({"model": "wood-elf", "adapter": []}, 400, "invalid_value", "adapter"),
    ({"model": "wood-elf", "adapter": ["wood-elf", "villain"]}, 400, "invalid_value", "adapter"),
    ({"adapter": "villain", "lora": [{"id": 0}]}, 400, "invalid_value", "lora"),
    ({"adapter": {"name": "villain", "weight": 0.5}, "lora": [{"id": 1, "scale": 0.6}]}, 400, "invalid_value", "lora"),
    ({"lora": [{"scale": 1}]}, 400, "invalid_value", "lora"), ({"lora": {}}, 400, "invalid_value", "lora"),
]


def said_by(answer):
    """(text, adapters) of a whole answer of any endpoint; an embedding says nothing."""
    if answer.get("object") == "response":
        return answer["output"][-1]["content"][0]["text"], answer["adapter"]
    if answer.get("type") == "message":
        return answer["content"][-1]["text"], answer["adapter"]
    if "data" in answer:
        return None, answer["adapter"]
    choice = answer["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"], answer["adapter"]


def told_first(path, text):
    """The adapters that the beginning of a stream tells of, and the model."""
    for line in text.decode().split("\n"):
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
        event = event.get("response") or event.get("message") or event
        if "adapter" in event:
            return event["adapter"], event["model"]
    raise AssertionError(text)


# Every endpoint that lets the model run: (path, body, streamed too).
RUNNING = [(CHAT, {"messages": USER}, True), (TEXT, {"prompt": "hi", "max_tokens": 50}, True), ("/v1/responses", {"input": "hi"}, True),
           ("/v1/messages", {"messages": USER, "max_tokens": 50}, True), ("/v1/embeddings", {"input": "hi"}, False)]
READING = [("/tokenize", {"prompt": "hi"}), ("/tokenize", {"messages": USER}), ("/detokenize", {"tokens": [1]}), ("/apply-template", {"messages": USER}),
           ("/v1/messages/count_tokens", {"messages": USER})]


@pytest.mark.parametrize("path,base,streams", RUNNING)
def test_adapter_names(plain, path, base, streams):
    def check(fields, adapters, model):
        assert [(a["name"], pytest.approx(a["weight"])) for a in adapters] == wanted, fields
        assert all(a["generation"] >= 1 for a in adapters)
        assert model == (fields.get("model") or "fake")

    for fields, wanted in NAMING:
        status, answer = plain.post(path, {**base, **fields})
        assert status == 200, (fields, answer)
        text, adapters = said_by(answer)
        check(fields, adapters, answer["model"])
        assert text is None or text == "".join(f"[{name}] " for name, _ in wanted) + "hi"
        if streams:
            status, _, text = plain.request("POST", path, {**base, **fields, "stream": True})
            assert status == 200
            check(fields, *told_first(path, text))


@pytest.mark.parametrize("path,base", [r[:2] for r in RUNNING] + READING)
def test_adapter_misnames(plain, path, base):
    for stream in (False, True):
        for fields, status, code, param in MISNAMING:
            got, answer = plain.post(path, {**base, **fields, "stream": stream})
            assert got == status, (fields, answer)
            if answer.get("type") == "error":  # Anthropic's have no more than a type
                assert answer["error"]["type"] == {400: "invalid_request_error", 404: "not_found_error"}[status]
            else:
                assert (answer["error"]["code"], answer["error"]["param"]) == (code, param), (fields, answer)


def test_default_adapter_and_served_name(fake):
    s = fake(default="villain", served="house/voice")
    assert s.chat("hi")["adapter"][0]["name"] == "villain"
    assert s.chat("hi", adapter=None)["adapter"][0]["name"] == "villain"
    assert s.chat("hi", adapter=[])["adapter"] == []
    assert s.chat("hi", model="summary")["adapter"][0]["name"] == "summary"
    for model in ("house/voice", "fake"):
        assert s.chat("hi", model=model)["model"] == model
    assert s.chat("hi", model="house/voice:summary")["adapter"][0]["name"] == "summary"
    ids = [m["id"] for m in s.get("/v1/models")[1]["data"]]
    assert ids[:2] == ["house/voice", "fake"]
    for path in ("house/voice", "house%2Fvoice", "house%2fvoice:summary"):
        assert s.get("/v1/models/" + path)[0] == 200, path
