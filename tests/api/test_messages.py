"""POST /v1/messages and /v1/messages/count_tokens through the official anthropic SDK against the demo model: create, stream, parse, tools,
errors as its own exceptions; every object and event validated against its types."""
import json
import shutil
import time
import typing

import anthropic
import jsonschema
import openai
import pydantic
import pytest
from anthropic import types

from conftest import DEMO, ROOT, named_events, start_fake, start_real
from test_fields import HOSTILE

PATH = "/v1/messages"
ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]
EVENT = pydantic.TypeAdapter(types.RawMessageStreamEvent)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
          "required": ["city", "days"], "additionalProperties": False}
TOOL = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
TIME = {"type": "custom", "name": "get_time", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}
SCHEMAS = {"get_weather": SCHEMA, "get_time": TIME["input_schema"]}


def connect(s, key="none"):
    return anthropic.Anthropic(base_url=s.url, api_key=key, max_retries=0, timeout=60)


def bare(message):
    """Without names, and what was cached of the prompt."""
    usage = message["usage"]
    counts = [usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"]]
    return {**{k: v for k, v in message.items() if k != "id"}, "usage": counts, "content": [{k: v for k, v in b.items() if k != "id"} for b in message["content"]]}


def streamed(s, body, **kw):
    """A stream's events after checking each against the SDK's types and their order; -> (events, the message they make up)."""
    status, headers, text = s.request("POST", PATH, {**body, "stream": True}, **kw)
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), text
    events = named_events(text)
    for e in events:
        if e["type"] != "ping":
            EVENT.validate_python(e, strict=True)
    assert sum(e["type"] == "ping" for e in events) >= 1 or not any(e["type"] == "content_block_start" for e in events)
    first, *middle, delta, last = [e for e in events if e["type"] != "ping"]
    message = first["message"]
    assert (first["type"], delta["type"], last["type"]) == ("message_start", "message_delta", "message_stop")
    assert message["content"] == [] and message["stop_reason"] is None
    block = None
    for e in middle:
        if e["type"] == "content_block_start":
            assert block is None and e["index"] == len(message["content"])
            block, text = e["content_block"], ""
            assert block.get("text", "") == block.get("thinking", "") == "" and block.get("input", {}) == {}
        elif e["type"] == "content_block_delta":
            kind, key = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking"), "tool_use": ("input_json_delta", "partial_json")}[block["type"]]
            assert e["index"] == len(message["content"]) and e["delta"]["type"] == kind and e["delta"][key]
            text += e["delta"][key]
        else:
            assert e == {"type": "content_block_stop", "index": len(message["content"])}
            if block["type"] == "tool_use":
                try:
                    block["input"] = json.loads(text)
                except ValueError:
                    block["input"] = {"arguments": text}
            else:
                block[block["type"]] = text
            message["content"].append(block)
            block = None
    assert block is None
    return events, {**message, **delta["delta"], "usage": {**message["usage"], **delta["usage"]}}


def ask(s, body, wanted=200):
    status, answer = s.post(PATH, body)
    assert status == wanted, answer
    if status == 200:
        types.Message.model_validate(answer, strict=True)
        assert answer["id"].startswith("msg_") and answer["type"] == "message" and answer["role"] == "assistant"
    else:
        assert answer["type"] == "error" and set(answer["error"]) == {"type", "message"} and answer["request_id"], answer
    return answer


@pytest.fixture(scope="module")
def client(server):
    with connect(server) as c:
        yield c


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """The demo model under a template that knows tools."""
    tmp = tmp_path_factory.mktemp("messages")
    shutil.copytree(DEMO, tmp / "model", ignore=shutil.ignore_patterns("adapters"))
    shutil.copy(ROOT / "tests/jinja/templates/qwen2_5.jinja", tmp / "model/chat_template.jinja")
    s = start_real(tmp, "--model", str(tmp / "model"))
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


# ---- the SDK ----

def test_create(client):
    answer = client.messages.create(model="wood-elf", messages=ASK, max_tokens=25, extra_body={"temperature": 0}, system="Be brief.")
    assert answer.stop_reason == "max_tokens" and answer.stop_sequence is None and answer.model == "wood-elf"
    block, = answer.content
    assert block.type == "text" and len(block.text) > 10 and answer.usage.output_tokens == 25
    assert answer.model_extra["adapter"][0]["name"] == "wood-elf" and answer._request_id.startswith("req_")
    again = client.messages.create(model="wood-elf", messages=ASK, max_tokens=25, extra_body={"temperature": 0}, system=[{"type": "text", "text": "Be brief."}])
    assert again.content[0].text == block.text and again.usage.cache_read_input_tokens > 0
    total = again.usage.input_tokens + again.usage.cache_read_input_tokens
    assert total == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert client.messages.count_tokens(model="wood-elf", messages=ASK, system="Be brief.").input_tokens == total
    assert client.messages.create(model="storyteller", messages=ASK, max_tokens=1000, extra_body={"temperature": 0}).stop_reason == "end_turn"


def test_says_what_a_chat_says(server, client):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
        chat = c.chat.completions.create(model="villain", max_tokens=20, seed=3, messages=[
            {"role": "system", "content": "Be kind."}, *ASK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Please.\nDo."}])
    messages = [*ASK, {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
                {"role": "user", "content": [{"type": "text", "text": "Please."}, {"type": "text", "text": "Do.", "cache_control": {"type": "ephemeral"}}]}]
    names = [a["name"] for a in server.get("/v1/adapters")[1]["data"]]
    for model, extra in [("villain", {}), ("storyteller:villain", {}), ("storyteller", {"adapter": "villain"}), ("storyteller", {"adapter": {"name": "villain"}}),
                         ("storyteller", {"adapter": [{"name": "villain", "weight": 1.0}]}), ("storyteller", {"lora": [{"id": names.index("villain"), "scale": 1.0}]})]:
        answer = client.messages.create(model=model, messages=messages, system="Be kind.", max_tokens=20, extra_body={**extra, "seed": 3})
        assert answer.content[0].text == chat.choices[0].message.content and answer.model_extra["adapter"][0]["name"] == "villain"


def test_stream(server, client):
    args = dict(model="marketing", messages=ASK, max_tokens=30, extra_body={"seed": 5})
    whole = client.messages.create(**args)
    with client.messages.stream(**args) as stream:
        pieces = list(stream.text_stream)
        last = stream.get_final_message()
    assert "".join(pieces) == last.content[0].text == whole.content[0].text and len(pieces) == 30  # one token an event
    assert last.stop_reason == whole.stop_reason and last.usage.output_tokens == 30
    assert last.usage.input_tokens + last.usage.cache_read_input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    body = {"model": "marketing", "messages": ASK, "max_tokens": 30, "seed": 5}
    assert bare(streamed(server, body)[1]) == bare(ask(server, body))


def test_stop_sequences(server, client):
    text = client.messages.create(model="", messages=ASK, max_tokens=200, extra_body={"temperature": 0}).content[0].text
    stop = text.split()[3]
    for given in ([stop], ["@nowhere", stop], [stop, "@nowhere", "#nowhere"]):
        answer = client.messages.create(model="", messages=ASK, max_tokens=200, extra_body={"temperature": 0}, stop_sequences=given)
        assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == stop and answer.content[0].text == text[:text.index(stop)]
        body = {"messages": ASK, "max_tokens": 200, "temperature": 0, "stop_sequences": given}
        assert bare(streamed(server, body)[1]) == bare(ask(server, body))
    answer = client.messages.create(model="", messages=ASK, max_tokens=1000, extra_body={"temperature": 0}, stop_sequences=["@nowhere"])
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None


def test_prefill(client):
    """A last message of the assistant is gone on with."""
    text = client.messages.create(model="", messages=ASK, max_tokens=30, extra_body={"temperature": 0}).content[0].text
    begin = " ".join(text.split()[:6])
    answer = client.messages.create(model="", messages=[*ASK, {"role": "assistant", "content": begin}], max_tokens=8, extra_body={"temperature": 0})
    assert text.startswith(begin + answer.content[0].text[:5])
    tokens = client.messages.count_tokens(model="", messages=[*ASK, {"role": "assistant", "content": begin}]).input_tokens
    assert tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens


def test_parse(server, client):
    class Trip(pydantic.BaseModel):
        way: typing.Literal["train", "boat"]
        by_night: bool

    for seed in range(3):
        answer = client.messages.parse(model="", messages=ASK, max_tokens=300, output_format=Trip, extra_body={"seed": seed})
        assert isinstance(answer.parsed_output, Trip) and answer.stop_reason == "end_turn"
    body = {"messages": ASK, "max_tokens": 300, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}, "seed": 1}
    answer = ask(server, body)
    jsonschema.validate(json.loads(answer["content"][0]["text"]), SCHEMA)
    assert bare(streamed(server, body)[1]) == bare(answer)


def test_tools_round_trip(tagged):
    with connect(tagged) as client:
        ask_weather = [{"role": "user", "content": "Weather?"}]
        first = client.messages.create(model="", messages=ask_weather, tools=[TOOL, TIME], tool_choice={"type": "tool", "name": "get_weather"},
                                       max_tokens=300, extra_body={"seed": 1})
        call, = first.content
        assert first.stop_reason == "tool_use" and call.type == "tool_use" and call.name == "get_weather" and call.id.startswith("toolu_")
        jsonschema.validate(call.input, SCHEMA)
        turns = [*ask_weather, {"role": "assistant", "content": [{"type": "text", "text": "I ask."}, *[b.model_dump(exclude_none=True) for b in first.content]]},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]},
                                              {"type": "text", "text": "So?"}]}]
        args = dict(model="", messages=turns, tools=[TOOL])
        second = client.messages.create(**args, tool_choice={"type": "none"}, max_tokens=20, extra_body={"seed": 1})
        assert second.content[0].type == "text"
        chat = {"messages": [*ask_weather, {"role": "assistant", "content": "I ask.", "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.input)}}]},
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"}, {"role": "user", "content": "So?"}], "tool_choice": "none", "seed": 1, "max_tokens": 20,
            "tools": [{"type": "function", "function": {"name": TOOL["name"], "description": TOOL["description"], "parameters": SCHEMA}}]}
        said = tagged.post("/v1/chat/completions", chat)[1]
        assert said["choices"][0]["message"]["content"] == second.content[0].text
        assert client.messages.count_tokens(**args).input_tokens > said["usage"]["prompt_tokens"]  # the tools are in it


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get_time"}])
def test_streamed_calls(tagged, choice):
    for seed in range(3):
        body = {"messages": ASK, "tools": [TOOL, TIME], "tool_choice": choice, "max_tokens": 300, "seed": seed}
        whole = ask(tagged, body)
        events, message = streamed(tagged, body)
        assert bare(message) == bare(whole)
        assert whole["content"] and all(b["type"] == "tool_use" for b in whole["content"]) and whole["stop_reason"] in ("tool_use", "max_tokens")
        if choice != {"type": "any"}:
            assert len(whole["content"]) == 1
        if whole["stop_reason"] == "tool_use":
            for b in whole["content"]:
                jsonschema.validate(b["input"], SCHEMAS[b["name"]])
        with connect(tagged) as client, client.messages.stream(model="", **{k: v for k, v in body.items() if k != "seed"}, extra_body={"seed": seed}) as stream:
            final = stream.get_final_message()
        if whole["stop_reason"] == "tool_use":
            assert [b.input for b in final.content] == [b["input"] for b in whole["content"]]


def test_text_and_call(tagged):
    call = '<tool_call>\n{"name": "get_weather", "arguments": %s}\n</tool_call>'
    for said, wanted in [("Let me look.\n" + call % '{"city": "Zagreb", "days": 2}', {"city": "Zagreb", "days": 2}), ("Hm.\n" + call % '{"city": }', {"arguments": '{"city": }'})]:
        body = {"messages": ASK, "tools": [TOOL], "structured_outputs": {"choice": [said]}, "max_tokens": 300, "seed": 1}
        whole = ask(tagged, body)
        assert whole["content"][0]["text"] == said.split("\n")[0] and whole["content"][1]["input"] == wanted and whole["stop_reason"] == "tool_use"
        assert bare(streamed(tagged, body)[1]) == bare(whole)


# ---- what is thought ----

@pytest.mark.parametrize("text,thought,said", [
    ("<think>hm, well</think>Hello", "hm, well", "Hello"), ("Hello <think>x</think>", None, "Hello <think>x</think>"), ("<think>über 😀", "über 😀", None)])
def test_thoughts(plain, text, thought, said):
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1000}
    answer = ask(plain, body)
    wanted = [t for t in [("thinking", thought), ("text", said)] if t[1] is not None]
    assert [(b["type"], b[b["type"]]) for b in answer["content"]] == wanted
    assert bare(streamed(plain, body)[1]) == bare(answer)


def test_thoughts_come_back(tagged):
    turns = [*ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                                                     {"type": "text", "text": "I ask."}, {"type": "tool_use", "id": "a", "name": "get_time", "input": {}},
                                                     {"type": "tool_use", "id": "b", "name": "get_time", "input": {"x": 1}}]},
             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "noon"}, {"type": "tool_result", "tool_use_id": "b", "is_error": True}]}]
    answer = ask(tagged, {"messages": turns, "tools": [TIME], "max_tokens": 4})
    call = {"type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    chat = {"messages": [*ASK, {"role": "assistant", "reasoning_content": "hm", "content": "I ask.", "tool_calls": [
        {**call, "id": "a"}, {"id": "b", "type": "function", "function": {"name": "get_time", "arguments": '{"x": 1}'}}]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"}, {"role": "tool", "tool_call_id": "b", "content": ""}], "max_tokens": 4,
        "tools": [{"type": "function", "function": {"name": "get_time", "parameters": TIME["input_schema"]}}]}
    usage = tagged.post("/v1/chat/completions", chat)[1]["usage"]
    assert answer["usage"]["input_tokens"] + answer["usage"]["cache_read_input_tokens"] == usage["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == (usage["prompt_tokens"] - 1) // 16 * 16  # the same token by token


def test_thinking_is_asked_for(tagged, tmp_path):
    """`thinking` sets what templates read, unless the request does."""
    model = tmp_path / "model"
    shutil.copytree(DEMO, model, ignore=shutil.ignore_patterns("adapters"))
    (model / "chat_template.jinja").write_text("{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}{{ messages[0].content }}")
    s = start_real(tmp_path, "--model", str(model))
    count = {json.dumps(extra): s.post(PATH + "/count_tokens", {"messages": ASK, **extra})[1]["input_tokens"] for extra in [
        {}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "adaptive"}},
        {"thinking": {"type": "enabled"}, "chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": True}}]}
    plain, enabled, disabled, adaptive, told, kwargs = count.values()
    assert plain < enabled == adaptive == kwargs and plain < disabled == told, count
    assert s.stop() == 0


# ---- errors ----

def test_errors(server, client):
    with pytest.raises(anthropic.NotFoundError) as e:
        client.messages.create(model="nobody", messages=ASK, max_tokens=5)
    assert e.value.type == "not_found_error" and "nobody" in e.value.message and e.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError) as e:
        client.messages.create(model="", messages=ASK, max_tokens=-1)
    assert e.value.type == "invalid_request_error" and "'max_tokens'" in e.value.message
    with pytest.raises(anthropic.BadRequestError, match="context"):
        client.messages.create(model="", messages=[{"role": "user", "content": "word " * 3000}], max_tokens=5)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nobody", messages=ASK)
    for path in (PATH, PATH + "/count_tokens"):
        assert server.get(path)[0] == 405 and server.get(path)[1]["error"]["type"] == "invalid_request_error"
        status, _, text = server.request("POST", path, b"x", headers={"Content-Type": "text/plain"})
        assert status == 415 and json.loads(text)["type"] == "error"
        assert server.request("POST", path, {"messages": ASK, "max_tokens": 1}, headers={"Host": "evil.example"})[0] == 403
    assert server.get("/v1/messagesx")[1]["error"]["code"] == "not_found"  # everybody else keeps OpenAI's form


def test_key(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-1\n")
    keys.chmod(0o600)
    s = start_fake(tmp_path, keys=str(keys))
    with connect(s, "wrong") as c, pytest.raises(anthropic.AuthenticationError) as e:
        c.messages.create(model="", messages=ASK, max_tokens=5)
    assert e.value.type == "authentication_error"
    with connect(s, "secret-1") as c:
        assert c.messages.create(model="", messages=ASK, max_tokens=5).content
        assert c.messages.count_tokens(model="", messages=ASK).input_tokens
    with anthropic.Anthropic(base_url=s.url, auth_token="secret-1", max_retries=0) as c:
        assert c.messages.create(model="", messages=ASK, max_tokens=5).content
    assert s.stop() == 0


def test_busy(fake):
    s = fake(step_us=2000, seqs=1, queue=1)
    body = json.dumps({"messages": [{"role": "user", "content": "@long"}], "max_tokens": 4000}).encode()
    held = [s.connect(), s.connect()]
    for i, c in enumerate(held):
        c.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        s.wait_metric("chorus_requests_waiting" if i else "chorus_requests_running", 1)
    with connect(s) as c, pytest.raises(anthropic.RateLimitError) as e:
        c.messages.create(model="", messages=ASK, max_tokens=5)
    assert e.value.type == "rate_limit_error" and int(e.value.response.headers["retry-after"]) >= 1
    for c in held:
        c.close()


def test_loading(fake):
    s = fake(load_ms=1500, wait_ready=False)
    with connect(s) as c, pytest.raises(anthropic.OverloadedError) as e:
        c.messages.create(model="", messages=ASK, max_tokens=5)
    assert e.value.status_code == 529 and e.value.type == "overloaded_error" and "loading" in e.value.message


def test_failure_in_a_stream(plain):
    body = {"messages": [{"role": "user", "content": "abc @fail defg"}], "max_tokens": 100}
    with connect(plain) as c, pytest.raises(anthropic.APIStatusError) as e:
        list(c.messages.create(model="", **body, stream=True))
    assert e.value.type == "api_error" and e.value.api_message == "told to fail"
    with connect(plain) as c, pytest.raises(anthropic.InternalServerError):
        c.messages.create(model="", **body)


# ---- fields ----

GOOD = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
FIELDS = ["messages", "max_tokens", "model", "adapter", "lora", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k", "tools", "tool_choice",
          "thinking", "output_config", "metadata", "seed", "logit_bias", "structured_outputs", "chat_template_kwargs", "container", "service_tier",
          "cache_control"]
IGNORED = {"container", "service_tier", "cache_control"}
NESTED = {"messages": lambda v: [{"role": "user", "content": v}], "system": lambda v: [v], "stop_sequences": lambda v: [v], "thinking": lambda v: {"type": v},
          "tools": lambda v: [{"name": "f", "input_schema": v}], "output_config": lambda v: {"format": v}, "tool_choice": lambda v: {"type": v}}


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_values(plain, field):
    refused = 0
    for value in HOSTILE + [NESTED[field](v) for v in HOSTILE if field in NESTED]:
        for path in (PATH, PATH + "/count_tokens"):
            status, _, text = plain.request("POST", path, {**GOOD, field: value})
            what = f"{path} {field} = {value!r:.60}"
            assert status in ({200, 400, 404} if field in ("model", "adapter", "lora") else {200, 400}), f"{what}: {status} {text[:200]}"
            answer = json.loads(text) if status != 200 else None
            if not answer:
                continue
            refused += path == PATH
            assert answer["type"] == "error" and answer["error"]["type"] in ("invalid_request_error", "not_found_error")
            assert field in answer["error"]["message"] or "context of" in answer["error"]["message"] or status == 404, f"{what}: {answer}"
    assert refused == 0 if field in IGNORED else refused >= 3, f"{field}: {refused}"


@pytest.mark.parametrize("field", [f for f in FIELDS if f not in ("messages", "max_tokens")])
def test_null_means_absent(plain, field):
    ask(plain, {**GOOD, field: None})


@pytest.mark.parametrize("fields,named", [
    ({"max_tokens": None}, "'max_tokens' is missing"), ({"messages": []}, "'messages'"), ({"messages": [{"role": "tool", "content": "x"}]}, "'messages[0].role'"),
    ({"messages": [{"role": "user", "content": []}]}, "'messages[0].content'"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "no image"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}]}, "'messages[0].content[0].type'"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]}, "'messages[0].content[0].type'"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}]}, "'messages[0].content[0].input'"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "'messages[0].content[0].tool_use_id'"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]}]}]}, "'messages[0].content[0].content'"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "'messages[0].content'"), ({"system": [{"type": "image"}]}, "'system'"),
    ({"tools": [{"name": "f"}]}, "'tools[0].input_schema' is missing"), ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "'tools[0].type'"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "'tools[0].name'"), ({"tools": [{"name": "f", "input_schema": 1}]}, "'tools[0].input_schema'"),
    ({"tool_choice": {"type": "tool"}}, "'tool_choice'"), ({"tool_choice": {"type": "any"}}, "'tool_choice' needs 'tools'"),
    ({"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "g"}}, "'tool_choice' names no tool"),
    ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "'tool_choice.disable_parallel_tool_use'"),
    ({"stop_sequences": [""]}, "'stop_sequences'"), ({"stop_sequences": "x"}, "'stop_sequences'"), ({"stop_sequences": ["a"] * 5}, "'stop_sequences'"),
    ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "'thinking.budget_tokens'"), ({"output_config": {"effort": "huge"}}, "'output_config.effort'"),
    ({"output_config": {"format": {"type": "json_schema", "schema": 5}}}, "'output_config.format.schema'")])
def test_errors_name_the_clients_own_field(plain, fields, named):
    answer = ask(plain, {**GOOD, **fields}, 400)
    assert named in answer["error"]["message"] and "response_format" not in answer["error"]["message"], answer
    if "max_tokens" not in fields and "thinking" not in fields and "stop_sequences" not in fields:
        status, counted = plain.post(PATH + "/count_tokens", {**GOOD, **fields})
        assert status == 400 or "output_config" in fields, counted
        if status == 400:
            assert counted["error"] == answer["error"]


# ---- streams that end early ----

def test_client_leaves(fake):
    s = fake(step_us=1000)
    for stream in (True, False):
        with s.connect() as c:
            body = json.dumps({"messages": [{"role": "user", "content": "@long"}], "max_tokens": 4000, "stream": stream}).encode()
            c.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            if stream:
                assert c.recv(4096)
            s.wait_metric("chorus_requests_running", 1)
        assert s.wait_metric("chorus_requests_running", 0) < 1
    assert s.metric("chorus_requests_waiting") == 0


def test_signs_of_life(fake):
    s = fake(step_us=1000, stall_ms=1200, ping_ms=200)
    begin = time.monotonic()
    events, message = streamed(s, {"messages": [{"role": "user", "content": "x@stall"}], "max_tokens": 100})
    assert sum(e["type"] == "ping" for e in events) >= 3 and time.monotonic() - begin > 1 and message["stop_reason"] == "end_turn"
