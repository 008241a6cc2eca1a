"""POST /v1/responses: the official SDK against the demo model (create, stream, parse, tools), every object and event validated against
the SDK's own types, thoughts, logprobs, hostile values, and what is not stored."""
import json
import shutil
import time
import typing

import jsonschema
import openai
import pydantic
import pytest
from openai.types import responses as types

from conftest import DEMO, ROOT, named_events, start_real
from test_fields import HOSTILE

PATH = "/v1/responses"
ASK = "Tell me a story about a lantern."
EVENT = pydantic.TypeAdapter(types.ResponseStreamEvent)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
          "required": ["city", "days"], "additionalProperties": False}
TOOL = {"type": "function", "name": "get_weather", "description": "The weather", "parameters": SCHEMA, "strict": True}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}


def same_apart(a, b):
    """Two responses that differ in names and times only."""
    def bare(r):
        return {k: [{m: v for m, v in item.items() if m not in ("id", "call_id")} for item in value] if k == "output" else value
                for k, value in r.items() if k not in ("id", "created_at", "usage")}
    assert bare(a) == bare(b)
    assert a["usage"]["output_tokens"] == b["usage"]["output_tokens"] and a["usage"]["input_tokens"] == b["usage"]["input_tokens"]


def check_items(events):
    """The events between the first two and the last, against their fixed order. Returns the finished items."""
    done, open_item, part, text = [], None, None, ""
    kinds = {"message": "output_text", "reasoning": "reasoning_text", "function_call": "function_call_arguments"}
    for e in events:
        kind = e["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert open_item is None and e["output_index"] == len(done) and e["item"]["status"] == "in_progress"
            open_item, text, ended = e["item"], "", False
            assert open_item.get("content", []) == [] and open_item.get("arguments", "") == ""
            continue
        assert e["output_index"] == len(done) and open_item
        name = kinds[open_item["type"]]
        if kind == "output_item.done":
            item = e["item"]
            assert part is None and ended and item["id"] == open_item["id"] and item["type"] == open_item["type"]
            assert (item["arguments"] if name == "function_call_arguments" else item["content"][0]["text"]) == text
            done.append(item)
            open_item = None
            continue
        assert e["item_id"] == open_item["id"] and e.get("content_index", 0) == 0
        if kind == "content_part.added":
            assert part is None and e["part"]["type"] == name and e["part"]["text"] == ""
            part = e["part"]
        elif kind == "content_part.done":
            assert ended and e["part"]["text"] == text
            part = None
        elif kind == name + ".delta":
            assert not ended and e["delta"] and (part or name == "function_call_arguments")
            text += e["delta"]
        else:
            assert kind == name + ".done" and e["arguments" if name == "function_call_arguments" else "text"] == text
            ended = True
    assert open_item is None
    return done


def streamed(s, body, **kw):
    """A stream's events after checking each against the SDK's types and their order; -> (events, the response at the end)."""
    status, headers, text = s.request("POST", PATH, {**body, "stream": True}, **kw)
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), text
    events = named_events(text)
    for i, e in enumerate(events):
        assert e["sequence_number"] == i
        EVENT.validate_python(e, strict=True)
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert events[0]["response"] == events[1]["response"] and events[0]["response"]["output"] == []
    assert last["type"] == "response." + last["response"]["status"]
    if last["response"]["status"] != "failed":
        assert check_items(events[2:-1]) == last["response"]["output"]
    assert last["response"]["id"] == events[0]["response"]["id"]
    return events, last["response"]


def ask(s, body, wanted=200):
    status, answer = s.post(PATH, body)
    assert status == wanted, answer
    if status == 200:
        types.Response.model_validate(answer, strict=True)
        for key in ("error", "incomplete_details", "instructions", "metadata", "previous_response_id", "reasoning", "temperature", "text",
                    "tool_choice", "tools", "top_p", "truncation", "usage", "parallel_tool_calls", "max_output_tokens", "store"):
            assert key in answer, key
        assert answer["store"] is False and answer["object"] == "response" and answer["id"].startswith("resp_")
    return answer


def text_of(response):
    return "".join(p["text"] for item in response["output"] if item["type"] == "message" for p in item["content"])


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield c


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """The demo model under a template that knows tools."""
    tmp = tmp_path_factory.mktemp("responses")
    shutil.copytree(DEMO, tmp / "model", ignore=shutil.ignore_patterns("adapters"))
    shutil.copy(ROOT / "tests/jinja/templates/qwen2_5.jinja", tmp / "model/chat_template.jinja")
    s = start_real(tmp, "--model", str(tmp / "model"))
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


# ---- the SDK ----

def test_create(server, client):
    answer = client.responses.create(model="wood-elf", input=ASK, max_output_tokens=25, temperature=0, metadata={"a": "b"}, instructions="Be brief.",
                                     store=True)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens" and answer.model == "wood-elf"
    assert answer.metadata == {"a": "b"} and answer.instructions == "Be brief." and answer.max_output_tokens == 25 and answer.temperature == 0
    assert answer.output[0].status == "incomplete" and answer.output[0].role == "assistant" and len(answer.output_text) > 10
    assert answer.model_extra["store"] is False and answer.model_extra["adapter"][0]["name"] == "wood-elf"
    u = answer.usage
    assert u.output_tokens == 25 and u.total_tokens == u.input_tokens + 25 and u.output_tokens_details.reasoning_tokens == 0
    again = client.responses.create(model="wood-elf", input=ASK, max_output_tokens=25, temperature=0, instructions="Be brief.")
    assert again.usage.input_tokens_details.cached_tokens > 0 and again.output_text == answer.output_text
    whole = client.responses.create(model="", input=ASK, temperature=0, max_output_tokens=1000)
    assert whole.status == "completed" and whole.incomplete_details is None and whole.output[0].status == "completed"


def test_says_what_a_chat_says(server, client):
    chat = client.chat.completions.create(model="villain", max_tokens=20, seed=3, messages=[
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": ASK}, {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Please."}])
    items = [{"role": "user", "content": [{"type": "input_text", "text": ASK}]},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "No.", "annotations": []}], "id": "msg_1",
              "status": "completed"},
             {"role": "user", "content": "Please."}]
    for fields in ({"model": "villain"}, {"model": "", "extra_body": {"adapter": "villain", "seed": 3}},
                   {"model": "storyteller:villain"}, {"model": "", "extra_body": {"adapter": [{"name": "villain", "weight": 1}], "seed": 3}}):
        fields = {"extra_body": {"seed": 3}, **fields}
        answer = client.responses.create(input=items, instructions="Be kind.", max_output_tokens=20, **fields)
        assert answer.output_text == chat.choices[0].message.content and answer.model_extra["adapter"][0]["name"] == "villain"
        assert answer.usage.input_tokens == chat.usage.prompt_tokens
    names = [a["name"] for a in server.get("/v1/adapters")[1]["data"]]
    answer = client.responses.create(model="", input=items, instructions="Be kind.", max_output_tokens=20,
                                     extra_body={"seed": 3, "lora": [{"id": names.index("villain"), "scale": 1.0}]})
    assert answer.output_text == chat.choices[0].message.content


def test_stream(server, client):
    args = dict(model="marketing", input=ASK, max_output_tokens=30, extra_body={"seed": 5})
    whole = client.responses.create(**args)
    events = list(client.responses.create(**args, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].type == "response.incomplete" and events[-1].response.output_text == whole.output_text
    assert sum(e.type == "response.output_text.delta" for e in events) == 30  # one token an event
    with client.responses.stream(**args) as stream:
        assert any(e.type == "response.output_text.delta" and e.snapshot for e in stream)
    _, last = streamed(server, {"model": "marketing", "input": ASK, "max_output_tokens": 30, "seed": 5})
    same_apart(last, ask(server, {"model": "marketing", "input": ASK, "max_output_tokens": 30, "seed": 5}))


def test_parse(client):
    class Trip(pydantic.BaseModel):
        city: typing.Annotated[str, pydantic.Field(max_length=10)]
        way: typing.Literal["train", "boat"]

    for seed in range(4):
        answer = client.responses.parse(model="", input=ASK, text_format=Trip, max_output_tokens=300, extra_body={"seed": seed})
        assert isinstance(answer.output_parsed, Trip) and answer.status == "completed"
        assert answer.text.format.type == "json_schema" and answer.text.format.name == "Trip"
    with client.responses.stream(model="", input=ASK, text_format=Trip, max_output_tokens=300, extra_body={"seed": 2}) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Trip)
    answer = client.responses.create(model="", input=ASK, text={"format": {"type": "json_object"}}, max_output_tokens=300, extra_body={"seed": 1})
    assert answer.status == "incomplete" or isinstance(json.loads(answer.output_text), dict)


def test_tools_round_trip(tagged):
    with openai.OpenAI(base_url=tagged.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        items = [{"role": "user", "content": "Weather?"}]
        first = client.responses.create(model="", input=items, tools=[TOOL, TIME], tool_choice={"type": "function", "name": "get_weather"},
                                        max_output_tokens=300, extra_body={"seed": 1})
        call, = first.output
        assert first.status == "completed" and call.type == "function_call" and call.name == "get_weather" and call.status == "completed"
        jsonschema.validate(json.loads(call.arguments), SCHEMA)
        assert [t.name for t in first.tools] == ["get_weather", "get_time"] and first.tool_choice.name == "get_weather"
        assert call.call_id.startswith("call_") and call.id.startswith("fc_")
        items += [call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
        second = client.responses.create(model="", input=items, tools=[TOOL], tool_choice="none", max_output_tokens=20, extra_body={"seed": 1})
        assert second.output[0].type == "message" and second.output_text
        chat = client.chat.completions.create(model="", max_tokens=20, seed=1, tools=[{"type": "function", "function": {
            k: v for k, v in TOOL.items() if k != "type"}}], tool_choice="none", messages=[
                {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "tool_calls": [
                    {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}]},
                {"role": "tool", "tool_call_id": call.call_id, "content": "sunny"}])
        assert chat.choices[0].message.content == second.output_text and chat.usage.prompt_tokens == second.usage.input_tokens


@pytest.mark.parametrize("choice,parallel", [("required", True), ("required", False), ({"type": "function", "name": "get_time"}, True)])
def test_streamed_calls(tagged, choice, parallel):
    for seed in range(3):
        body = {"input": "Weather?", "tools": [TOOL, TIME], "tool_choice": choice, "parallel_tool_calls": parallel, "max_output_tokens": 300,
                "seed": seed}
        whole = ask(tagged, body)
        events, last = streamed(tagged, body)
        same_apart(last, whole)
        calls = [i for i in whole["output"] if i["type"] == "function_call"]
        assert calls and calls == whole["output"] and (parallel or len(calls) == 1)
        assert len({c["call_id"] for c in calls}) == len(calls)
        assert whole["tool_choice"] == choice and whole["parallel_tool_calls"] is parallel
        if whole["status"] == "completed":
            for c in calls:
                jsonschema.validate(json.loads(c["arguments"]), SCHEMA if c["name"] == "get_weather" else TIME["parameters"])


def test_text_and_call(tagged):
    said = 'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zagreb", "days": 2}}\n</tool_call>'
    body = {"input": "Weather?", "tools": [TOOL], "structured_outputs": {"choice": [said]}, "max_output_tokens": 300, "seed": 1}
    whole = ask(tagged, body)
    message, call = whole["output"]
    assert message["content"][0]["text"] == "Let me look." and json.loads(call["arguments"]) == {"city": "Zagreb", "days": 2}
    same_apart(streamed(tagged, body)[1], whole)


def test_errors(client, server):
    with pytest.raises(openai.NotFoundError) as e:
        client.responses.create(model="nobody", input="x")
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as e:
        client.responses.create(model="", input="x", extra_body={"adapter": "nobody"})
    assert e.value.code == "adapter_not_found"
    for fields, param in [({"previous_response_id": "resp_1"}, "previous_response_id"), ({"background": True}, "background"),
                          ({"conversation": "conv_1"}, "conversation"), ({"max_output_tokens": 0}, "max_output_tokens")]:
        with pytest.raises(openai.BadRequestError) as e:
            client.responses.create(model="", input="x", **fields)
        assert e.value.param == param and param in e.value.message
    with pytest.raises(openai.BadRequestError) as e:
        client.responses.create(model="", input="word " * 3000)
    assert e.value.code == "context_length_exceeded" and e.value.param == "input"
    assert server.request("GET", PATH + "/resp_1")[0] == 404 and server.request("GET", PATH)[0] == 405


# ---- what is thought ----

THOUGHTS = [("<think>hm, well</think>Hello", "hm, well", "Hello"), ("Hello <think>x</think>", None, "Hello <think>x</think>"),
            ("<think>über 😀", "über 😀", None), ("<think>a</think>", "a", None)]


@pytest.mark.parametrize("text,thought,said", THOUGHTS)
def test_thoughts(plain, text, thought, said):
    answer = ask(plain, {"input": text})
    wanted = [t for t in [("reasoning", thought), ("message", said)] if t[1] is not None]
    assert [(i["type"], i["content"][0]["text"]) for i in answer["output"]] == wanted
    assert (answer["usage"]["output_tokens_details"]["reasoning_tokens"] > 0) == (thought is not None)
    same_apart(streamed(plain, {"input": text})[1], answer)


def test_thoughts_come_back(tagged):
    """A turn's reasoning, text and call are one message of the chat, and thoughts stand in it under their name."""
    turn = [{"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"role": "assistant", "content": "Let me look."},
            {"type": "function_call", "call_id": "c1", "name": "get_time", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "get_time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "noon"}]},
            {"type": "function_call_output", "call_id": "c2", "output": "noon"}]
    answer = ask(tagged, {"input": [{"role": "user", "content": "x"}, *turn], "tools": [TOOL, TIME], "max_output_tokens": 4})
    call = {"type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    chat = {"messages": [{"role": "user", "content": "x"},
                         {"role": "assistant", "reasoning_content": "hm", "content": "Let me look.", "tool_calls": [{**call, "id": "c1"}, {**call, "id": "c2"}]},
                         {"role": "tool", "tool_call_id": "c1", "content": "noon"}, {"role": "tool", "tool_call_id": "c2", "content": "noon"}],
            "tools": [{"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}} for tool in (TOOL, TIME)], "max_tokens": 4}
    usage = tagged.post("/v1/chat/completions", chat)[1]["usage"]
    assert answer["usage"]["input_tokens"] == usage["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == (usage["prompt_tokens"] - 1) // 16 * 16  # the same token by token


def test_logprobs(plain):
    body = {"input": "<think>abc</think>Hellö", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = ask(plain, body)
    thought, message = answer["output"]
    tokens = message["content"][0]["logprobs"]
    assert bytes(b for t in tokens for b in t["bytes"]).decode() == "Hellö" and all(len(t["top_logprobs"]) == 2 for t in tokens)
    events, last = streamed(plain, body)
    same_apart(last, answer)
    assert [t for e in events if e["type"] == "response.output_text.delta" for t in e["logprobs"]] == tokens
    assert ask(plain, {"input": "x"})["output"][0]["content"][0]["logprobs"] == []
    assert ask(plain, {"input": "x", "top_logprobs": 1})["output"][0]["content"][0]["logprobs"][0]["top_logprobs"]


# ---- fields ----

GOOD = {"input": "hi", "max_output_tokens": 4}
FIELDS = ["input", "instructions", "model", "adapter", "lora", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "text",
          "reasoning", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "top_logprobs", "include", "metadata", "store", "background",
          "truncation", "previous_response_id", "conversation", "prompt", "top_k", "seed", "logit_bias", "structured_outputs", "chat_template_kwargs",
          "user", "safety_identifier", "service_tier", "prompt_cache_key"]
IGNORED = {"user", "safety_identifier", "service_tier", "prompt_cache_key"}
NESTED = {"text": lambda v: {"format": v}, "reasoning": lambda v: {"effort": v}, "tools": lambda v: [{"type": "function", "name": "f", "parameters": v}],
          "input": lambda v: [{"role": "user", "content": v}], "metadata": lambda v: {"a": v}, "include": lambda v: [v]}


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_values(plain, field):
    refused = 0
    for value in HOSTILE + [NESTED[field](v) for v in HOSTILE if field in NESTED] + [{"format": {"type": "json_schema", "schema": v}} for v in HOSTILE
                                                                                  if field == "text"]:
        status, _, text = plain.request("POST", PATH, {**GOOD, field: value})
        what = f"{field} = {value!r:.60}"
        assert status in ({200, 400, 404} if field in ("model", "adapter", "lora") else {200, 400}), f"{what}: {status} {text[:200]}"
        if status == 200:
            continue
        refused += 1
        error = json.loads(text)["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error" and error["message"], what
        if error["code"] != "context_length_exceeded":
            assert error["param"] and error["param"].split(".")[0].split("[")[0] == field, f"{what}: {error}"
    assert refused == 0 if field in IGNORED else refused >= 3, f"{field}: {refused}"


@pytest.mark.parametrize("field", [f for f in FIELDS if f != "input"])
def test_null_means_absent(plain, field):
    ask(plain, {**GOOD, field: None})


@pytest.mark.parametrize("item,param", [
    ({}, "input[1].role"), ({"role": "tool", "content": "x"}, "input[1].role"), ({"role": "user"}, "input[1].content"),
    ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "input[1].content"), (1, "input[1]"),
    ({"type": "item_reference", "id": "msg_1"}, "input[1].type"), ({"type": "web_search_call"}, "input[1].type"), ({"type": 1}, "input[1].type"),
    ({"type": "function_call", "call_id": "c", "name": "f"}, "input[1].arguments"), ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[1].call_id"),
    ({"type": "function_call", "call_id": "c", "name": 1, "arguments": "{}"}, "input[1].name"),
    ({"type": "function_call_output", "call_id": "c"}, "input[1].output"), ({"type": "function_call_output", "output": "x"}, "input[1].call_id"),
    ({"type": "reasoning", "summary": "x"}, "input[1].summary"), ({"type": "reasoning", "content": [{"text": 1}]}, "input[1].content")])
def test_bad_items(plain, item, param):
    error = ask(plain, {"input": [{"role": "user", "content": "x"}, item]}, 400)["error"]
    assert error["param"] == param and f"'{param}'" in error["message"]


@pytest.mark.parametrize("fields,param", [
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"), ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {"type": "nothing"}}}}, "text.format.schema"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"), ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"), ({"tools": [{"type": "function", "name": "f", "parameters": 1}]}, "tools[0].parameters"),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"), ({"tool_choice": "required"}, "tool_choice"),
    ({"min_tokens": 9}, "min_tokens"), ({"chat_template": "x"}, "chat_template"), ({"input": "@raise"}, "input")])
def test_errors_name_the_clients_own_field(plain, fields, param):
    error = ask(plain, {**GOOD, **fields}, 400)["error"]
    assert error["param"] == param and "messages" not in error["message"].replace("'messages'", ""), error
    assert "response_format" not in error["message"] and "function." not in error["message"] and "'max_tokens'" not in error["message"]


def test_large_numbers_are_repeated(plain):
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"const": 9007199254740993}}}}
    answer = ask(plain, {**GOOD, "tools": [tool]})
    assert answer["tools"][0]["parameters"] == tool["parameters"] and answer["tools"][0]["strict"] is False


# ---- streams that end early ----

def test_failure_in_a_stream(plain):
    events, last = streamed(plain, {"input": "abc @fail defg"})
    assert last["status"] == "failed" and last["error"] == {"code": "server_error", "message": "told to fail"}
    assert events[-2]["type"] == "response.output_text.delta"
    status, answer = plain.post(PATH, {"input": "abc @fail"})
    assert status == 500 and answer["error"]["code"] == "internal_error"


def test_client_leaves(fake):
    s = fake(step_us=1000)
    for stream in (True, False):
        with s.connect() as c:
            body = json.dumps({"input": "@long", "stream": stream}).encode()
            c.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            if stream:
                assert c.recv(4096)
            s.wait_metric("chorus_requests_running", 1)
        assert s.wait_metric("chorus_requests_running", 0) < 1
    assert s.metric("chorus_requests_waiting") == 0


def test_signs_of_life(fake):
    s = fake(step_us=1000, stall_ms=1200, ping_ms=200)
    begin = time.monotonic()
    text = s.request("POST", PATH, {"input": "x@stall", "stream": True})[2]
    assert text.count(b": ping") >= 2 and time.monotonic() - begin > 1
    assert named_events(text)[-1]["response"]["status"] == "completed"
