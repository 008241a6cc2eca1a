"""Every answer against two judges: server/openapi.json, closed, so that no member is missing and none is there that it does not
tell of; and the official SDK's types, validated strictly, with nothing beyond them but what is ours by name."""
import json

import openai.types
import openai.types.chat
import pydantic
import pytest

from conftest import VOICES
from strict import answer_validator, description, event_validator, problem

ROOT = description()
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK = {"messages": [{"role": "user", "content": "Tell me a story about a lantern."}], "max_tokens": 6, "seed": 1}
WEATHER = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
TOOLS = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}], "tool_choice": "required", "max_tokens": 60}
THOUGHT = {"messages": [{"role": "user", "content": "<think>why</think>so"}], "max_tokens": 60}  # the fake engine repeats it
# What we say and OpenAI does not, by the SDK type it is found on.
OURS = {"ChatCompletion": {"adapter", "timings"}, "ChatCompletionChunk": {"adapter", "timings"}, "Completion": {"adapter", "timings"},
        "ChatCompletionMessage": {"reasoning_content"}, "ChoiceDelta": {"reasoning_content"},
        "CreateEmbeddingResponse": {"adapter"},
        "Model": {"root", "parent", "max_model_len", "adapter_generation"}}
CHATS = [
    ("plain", {}), ("named", {"model": "villain", "adapter": {"name": "villain", "weight": 0.5}}), ("several", {"n": 3}),
    ("logprobs", {"logprobs": True, "top_logprobs": 4}), ("no alternatives", {"logprobs": True}), ("ids", {"logprobs": True, "return_tokens_as_token_ids": True}),
    ("none", {"max_tokens": 0}), ("stop", {"stop": ["e", "a"]}), ("tools", TOOLS), ("tools with logprobs", {**TOOLS, "logprobs": True, "top_logprobs": 1}),
    ("no call", {**TOOLS, "tool_choice": "none", "max_tokens": 4}), ("json", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER}}, "max_tokens": 60}),
    ("likeliest", {"top_p": 0, "typical_p": 1e-9}), ("usage", {"stream_options": {"include_usage": True}}), ("times", {"timings_per_token": True}),
]
TEXTS = [
    ("plain", {}), ("several", {"prompt": ["One", [5, 6]], "n": 2}), ("best", {"best_of": 3}), ("logprobs", {"logprobs": 3}), ("none", {"logprobs": 0}),
    ("echo", {"echo": True, "logprobs": 2}), ("only echo", {"echo": True, "max_tokens": 0, "logprobs": 1}), ("named", {"model": "storyteller:summary"}),
    ("usage", {"stream_options": {"include_usage": True}}),
]


def extras(model, found=None):
    """{type name: members that the type does not know}, through a whole SDK object."""
    found = {} if found is None else found
    if isinstance(model, (list, tuple)):
        for item in model:
            extras(item, found)
    elif isinstance(model, pydantic.BaseModel):
        if model.model_extra:
            found.setdefault(type(model).__name__, set()).update(model.model_extra)
        for name in type(model).model_fields:
            extras(getattr(model, name), found)
    return found


def check_sdk(kind, answer):
    model = kind.model_validate(answer, strict=True)
    for name, members in extras(model).items():
        assert members <= OURS.get(name, set()), (name, members)


def check_sdk_text(answer):
    """The SDK's type of a completion leaves no room for what OpenAI's API says: nothing is known of the first token of an echoed
    prompt, and a piece of a stream has no reason to end yet."""
    for c in answer["choices"]:
        c["finish_reason"] = c["finish_reason"] or "stop"
        for key in ("token_logprobs", "top_logprobs"):
            if c["logprobs"]:
                c["logprobs"][key] = [v for v in c["logprobs"][key] if v is not None]
    check_sdk(openai.types.Completion, answer)


def check_stream(server, path, body, kind, validator):
    status, payloads = server.stream(path, body)
    assert status == 200 and payloads.pop() == "[DONE]"
    chunks = [json.loads(p) for p in payloads]
    for chunk in chunks:
        assert problem(validator, chunk) is None, (problem(validator, chunk), chunk)
        check_sdk(kind, chunk)
    assert "adapter" in chunks[0] and not any("adapter" in c for c in chunks[1:])
    ends = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert len(ends) == len({c["choices"][0]["index"] for c in chunks if c["choices"]})
    assert "timings" in ends[-1]
    wanted = body.get("stream_options", {}).get("include_usage", False)
    assert [bool(c.get("usage")) for c in chunks] == [False] * (len(chunks) - wanted) + [True] * wanted
    return chunks


@pytest.mark.parametrize("fields", [pytest.param(f, id=name) for name, f in CHATS])
def test_chat(server, fields):
    body = {**ASK, **fields}
    if "stream_options" not in fields:
        status, answer = server.post(CHAT, body)
        wrong = problem(answer_validator(ROOT, CHAT), answer)
        assert status == 200 and wrong is None, (wrong, answer)
        check_sdk(openai.types.chat.ChatCompletion, answer)
        assert len(answer["choices"]) == body.get("n", 1)
        for c in answer["choices"]:
            assert c["finish_reason"] == ("tool_calls" if c["message"].get("tool_calls") else c["finish_reason"])
            assert (c["logprobs"] is None) == (not body.get("logprobs"))
    check_stream(server, CHAT, body, openai.types.chat.ChatCompletionChunk, event_validator(ROOT, CHAT))


def test_thoughts(plain):
    status, answer = plain.post(CHAT, THOUGHT)
    assert status == 200 and problem(answer_validator(ROOT, CHAT), answer) is None, answer
    assert answer["choices"][0]["message"]["reasoning_content"] == "why"
    check_sdk(openai.types.chat.ChatCompletion, answer)
    chunks = check_stream(plain, CHAT, THOUGHT, openai.types.chat.ChatCompletionChunk, event_validator(ROOT, CHAT))
    assert any("reasoning_content" in c["choices"][0]["delta"] for c in chunks)


@pytest.mark.parametrize("fields", [pytest.param(f, id=name) for name, f in TEXTS])
def test_completion(server, fields):
    body = {"prompt": "The old lantern", "max_tokens": 5, "seed": 1, **fields}
    if "stream_options" not in fields:
        status, answer = server.post(TEXT, body)
        wrong = problem(answer_validator(ROOT, TEXT), answer)
        assert status == 200 and wrong is None, (wrong, answer)
        check_sdk_text(answer)
    if "best_of" not in fields:
        status, payloads = server.stream(TEXT, body)
        assert status == 200 and payloads.pop() == "[DONE]"
        validator = event_validator(ROOT, TEXT)
        for p in payloads:
            chunk = json.loads(p)
            assert problem(validator, chunk) is None, (problem(validator, chunk), chunk)
            check_sdk_text(chunk)


# The other endpoints that let the model run. Their tests hold the answers against the SDKs' types; here it is the description's turn.
RESPONSE, MESSAGE = "/v1/responses", "/v1/messages"
FLAT = [{"type": "function", "name": "weather", "parameters": WEATHER}]
FORM = {"type": "json_schema", "name": "x", "schema": WEATHER}
ASKED = {RESPONSE: {"input": "Tell me a story.", "max_output_tokens": 6, "seed": 1}, MESSAGE: {"messages": ASK["messages"], "max_tokens": 6, "seed": 1}}
OTHERS = [
    (RESPONSE, {}), (RESPONSE, {"instructions": "Be brief.", "metadata": {"a": "b"}, "top_logprobs": 2, "adapter": "villain"}),
    (RESPONSE, {"tools": FLAT, "tool_choice": "required", "max_output_tokens": 60}), (RESPONSE, {"text": {"format": FORM}, "max_output_tokens": 60}),
    (MESSAGE, {}), (MESSAGE, {"system": "Be brief.", "adapter": "villain", "stop_sequences": ["e"]}),
    (MESSAGE, {"tools": [{"name": "weather", "input_schema": WEATHER}], "tool_choice": {"type": "any"}, "max_tokens": 60}),
]


@pytest.mark.parametrize("path,fields", OTHERS)
def test_other_forms(server, path, fields):
    body = {**ASKED[path], **fields}
    status, answer = server.post(path, body)
    wrong = problem(answer_validator(ROOT, path), answer)
    assert status == 200 and wrong is None, (wrong, answer)
    status, _, text = server.request("POST", path, {**body, "stream": True})
    validator, seen = event_validator(ROOT, path), 0
    for block in text.decode().rstrip("\n").split("\n\n"):
        data = block.partition("data: ")[2]
        wrong = problem(validator, json.loads(data))
        assert wrong is None, (wrong, data)
        seen += 1
    assert status == 200 and seen > 4


@pytest.mark.parametrize("path", [RESPONSE, MESSAGE])
def test_thoughts_in_other_forms(plain, path):
    body = {"max_tokens": 60, "messages": THOUGHT["messages"]} if path == MESSAGE else {"input": THOUGHT["messages"]}
    status, answer = plain.post(path, body)
    wrong = problem(answer_validator(ROOT, path), answer)
    assert status == 200 and wrong is None, (wrong, answer)
    assert {item["type"] for item in answer.get("output") or answer["content"]} & {"reasoning", "thinking"}


@pytest.mark.parametrize("fields", [{}, {"input": ["a", [5, 6]]}, {"encoding_format": "base64"}, {"dimensions": 8, "adapter": "villain"}])
def test_embeddings(server, fields):
    status, answer = server.post("/v1/embeddings", {"input": "a lantern", **fields})
    wrong = problem(answer_validator(ROOT, "/v1/embeddings"), answer)
    assert status == 200 and wrong is None, (wrong, answer)
    if fields.get("encoding_format") != "base64":
        check_sdk(openai.types.CreateEmbeddingResponse, answer)


GETS = ["/v1/models", "/v1/models/{id}", "/v1/adapters", "/v1/adapters/{name}", "/lora-adapters", "/props", "/slots", "/version", "/health"]
POSTS = [
    ("/tokenize", {"prompt": "a lantern"}), ("/tokenize", {"content": "é😀", "with_pieces": True}), ("/tokenize", {"prompt": "a", "return_token_strs": True}),
    ("/tokenize", {"messages": ASK["messages"]}), ("/detokenize", {"tokens": [5, 6, 7]}), ("/apply-template", {"messages": ASK["messages"]}),
    ("/v1/messages/count_tokens", {"messages": ASK["messages"]}), ("/v1/adapters/check", {"path": "villain"}), ("/lora-adapters", []),
]


@pytest.mark.parametrize("path", GETS)
def test_get(server, path):
    status, answer = server.get(path.replace("{id}", VOICES[0]).replace("{name}", VOICES[0]))
    wrong = problem(answer_validator(ROOT, path, "get"), answer)
    assert status == 200 and wrong is None, (wrong, answer)
    if path.startswith("/v1/models"):
        for model in answer.get("data", [answer]):
            check_sdk(openai.types.Model, model)


@pytest.mark.parametrize("path,body", POSTS)
def test_post(server, path, body):
    status, answer = server.post(path, body)
    wrong = problem(answer_validator(ROOT, path), answer)
    assert status == 200 and wrong is None, (wrong, answer)


def test_adapter_comes_and_goes(server):
    for body, status in (({"path": "villain"}, 200), ({"blend": [{"name": "villain", "weight": 0.5}, {"name": "summary"}]}, 200), ({"path": "villain", "wait": False}, 202)):
        got, answer = server.post("/v1/adapters", {"name": "shape", **body})
        wrong = problem(answer_validator(ROOT, "/v1/adapters", "post", status), answer)
        assert got == status and wrong is None, (wrong, answer)
    while server.get("/v1/adapters/shape")[1]["loading"]:
        pass
    got, answer = server.get("/v1/adapters/shape")
    assert got == 200 and problem(answer_validator(ROOT, "/v1/adapters/{name}", "get"), answer) is None, answer
    status, _, text = server.request("DELETE", "/v1/adapters/shape")
    wrong = problem(answer_validator(ROOT, "/v1/adapters/{name}", "delete"), json.loads(text))
    assert status == 200 and wrong is None, (wrong, text)


@pytest.mark.parametrize("method,path,body,status", [
    ("POST", CHAT, {}, 400), ("POST", CHAT, b"{", 400), ("POST", CHAT, {**ASK, "model": "nobody"}, 404), ("POST", CHAT, {**ASK, "adapter": "nobody"}, 404),
    ("GET", CHAT, None, 405), ("GET", "/nothing", None, 404), ("POST", "/v1/adapters", {"name": "a", "path": "../x"}, 403),
    ("POST", "/v1/adapters", {"name": "storyteller", "path": "villain"}, 409), ("GET", "/v1/adapters/nobody", None, 404), ("POST", TEXT, {"prompt": "a", "n": 99}, 400)])
def test_error(server, method, path, body, status):
    got, headers, text = server.request(method, path, body)
    validator = answer_validator(ROOT, CHAT, "post", 400)
    assert got == status and problem(validator, json.loads(text)) is None, text
    assert headers["content-type"] == "application/json" and headers["x-request-id"] and headers["x-should-retry"] == "false"


@pytest.mark.parametrize("body,status", [({}, 400), (b"{", 400), ({**ASKED["/v1/messages"], "model": "nobody"}, 404)])
def test_error_of_a_message(server, body, status):
    got, answer = server.post("/v1/messages", body)
    wrong = problem(answer_validator(ROOT, "/v1/messages", "post", "4XX"), answer)
    assert got == status and wrong is None, (wrong, answer)


def test_error_within_a_stream(plain):
    status, payloads = plain.stream(CHAT, {"messages": [{"role": "user", "content": "@fail please"}]})
    assert status == 200 and payloads[-1] != "[DONE]"
    for p in payloads:
        assert problem(event_validator(ROOT, CHAT), json.loads(p)) is None, p
    assert problem(answer_validator(ROOT, CHAT, "post", 500), json.loads(payloads[-1])) is None


def test_the_judges_see_what_is_missing(plain):
    """Each member that is required, taken away, and one that nobody knows: told."""
    _, answer = plain.post(CHAT, {"messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2})
    validator = answer_validator(ROOT, CHAT)
    assert problem(validator, answer) is None
    seen = []

    def walk(node, where):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            child = node[key]
            if isinstance(node, dict):
                del node[key]
                assert problem(validator, answer), where + (key,)
                node[key] = child
                node["unheard_of"] = 1
                assert problem(validator, answer), where
                del node["unheard_of"]
                seen.append(where + (key,))
            if isinstance(child, (dict, list)):
                walk(child, where + (key,))

    walk(answer, ())
    assert ("choices", 0, "logprobs") in seen and ("choices", 0, "message", "refusal") in seen and len(seen) > 50
