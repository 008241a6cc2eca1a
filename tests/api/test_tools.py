"""Calls of tools through the official SDK: the demo model under chat templates of other families, which write calls in their own
forms. Forced calls are constrained to the tools' schemas; for free ones a structured output makes the model say what a model of
that family would."""
import datetime
import json
import re
import shutil
import typing
import uuid

import jsonschema
import openai
import pydantic
import pytest

from conftest import DEMO, ROOT, start_real

TEMPLATES = ROOT / "tests/jinja/templates"
FAMILIES = {"tags": "qwen2_5.jinja", "object": "llama3_tools.jinja", "list": "mistral_v3.jinja", "none": None}
ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,6}$"}, "maxItems": 2},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"type": "string", "pattern": "^[A-Z]{3}$"}}, "required": ["zone"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather in a city", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "get_time", "description": "The time", "parameters": TIME}}]
SCHEMAS = {"get_weather": WEATHER, "get_time": TIME}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request, tmp_path_factory):
    """(name, server, client) of the demo model under a family's template."""
    tmp = tmp_path_factory.mktemp("tools")
    model = DEMO
    if FAMILIES[request.param]:
        model = tmp / "model"
        shutil.copytree(DEMO, model, ignore=shutil.ignore_patterns("adapters"))
        shutil.copy(TEMPLATES / FAMILIES[request.param], model / "chat_template.jinja")
    s = start_real(tmp, "--model", str(model))
    with openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield request.param, s, c
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


def create(client, **fields):
    return client.chat.completions.create(model="", messages=fields.pop("messages", ASK), max_tokens=300, **fields)


def check_calls(calls, names=tuple(SCHEMAS)):
    for call in calls:
        assert call.type == "function" and call.function.name in names
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    assert len({c.id for c in calls}) == len(calls)


def join(stream):
    """A stream's message: (content, [[id, name, arguments], ...], finish_reason)."""
    content, calls, finish = "", [], None
    for chunk in stream:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            content += choice.delta.content or ""
            for d in choice.delta.tool_calls or []:
                if d.id:
                    assert d.index == len(calls) and d.type == "function"
                    calls.append([d.id, d.function.name, d.function.arguments])
                else:
                    assert d.index == len(calls) - 1 and d.function.name is None
                    calls[-1][2] += d.function.arguments
    return content, calls, finish


def test_required(family):
    name, _, client = family
    for seed in range(8):
        answer = create(client, tools=TOOLS, tool_choice="required", seed=seed)
        choice = answer.choices[0]
        assert choice.message.content is None and choice.message.tool_calls, answer
        if choice.finish_reason == "length":
            continue
        assert choice.finish_reason == "tool_calls"
        check_calls(choice.message.tool_calls)
        if name == "list":  # what its template wants of an id
            assert re.fullmatch("[A-Za-z0-9]{9}", choice.message.tool_calls[0].id)


def test_named_and_single(family):
    _, _, client = family
    for seed in range(5):
        answer = create(client, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "get_time"}}, seed=seed)
        assert [c.function.name for c in answer.choices[0].message.tool_calls] == ["get_time"]
        check_calls(answer.choices[0].message.tool_calls)
        answer = create(client, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed)
        assert len(answer.choices[0].message.tool_calls) == 1 and answer.choices[0].finish_reason == "tool_calls"
        check_calls(answer.choices[0].message.tool_calls)


def test_stream_is_the_same(family):
    _, _, client = family
    for seed in range(4):
        fields = {"tools": TOOLS, "tool_choice": "required", "seed": seed}
        whole = create(client, **fields).choices[0]
        content, calls, finish = join(create(client, stream=True, **fields))
        assert content == "" and finish == whole.finish_reason
        assert [c[1:] for c in calls] == [[c.function.name, c.function.arguments] for c in whole.message.tool_calls]


def test_arguments_come_in_pieces(family):
    _, _, client = family
    stream = create(client, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "get_weather"}}, stream=True, seed=3)
    pieces = [d for chunk in stream for c in chunk.choices for d in c.delta.tool_calls or []]
    assert len(pieces) > 5


def said_by(name, calls, before=""):
    """What a model of this family says to call these."""
    key = "parameters" if name == "object" else "arguments"
    texts = [json.dumps({"name": n, key: a}) for n, a in calls]
    if name == "tags":
        return before + "\n".join(f"<tool_call>\n{t}\n</tool_call>" for t in texts)
    if name == "object":
        return "; ".join(texts)
    return before + "[TOOL_CALLS] [" + ", ".join(texts) + "]"


def test_free_calls(family):
    name, _, client = family
    if name == "none":
        pytest.skip("a template without tools shows no form")
    calls = [("get_weather", {"city": "Zagreb \"x\" }{", "unit": "celsius"}), ("get_time", {"zone": "CET"})]
    before = "" if name == "object" else "Let me look."
    extra = {"structured_outputs": {"choice": [said_by(name, calls, before)]}}
    for stream in (False, True):
        answer = create(client, tools=TOOLS, extra_body=extra, stream=stream)
        if stream:
            content, got, finish = join(answer)
            got = [(n, json.loads(a)) for _, n, a in got]
        else:
            m, finish = answer.choices[0].message, answer.choices[0].finish_reason
            content, got = m.content or "", [(c.function.name, json.loads(c.function.arguments)) for c in m.tool_calls]
        assert got == calls and content == before and finish == "tool_calls"
        # One call only, where that was asked for.
        answer = create(client, tools=TOOLS, extra_body=extra, parallel_tool_calls=False)
        assert len(answer.choices[0].message.tool_calls) == 1
    # The same text is text where no tool was offered, or none shall be called.
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        answer = create(client, extra_body=extra, **fields).choices[0]
        assert answer.message.content == said_by(name, calls, before) and not answer.message.tool_calls and answer.finish_reason == "stop"


def test_plain_text_stays(family):
    _, _, client = family
    for stream in (False, True):
        with_tools = create(client, tools=TOOLS, temperature=0, stream=stream, extra_body={"structured_outputs": {"choice": ["{\"a\": <b> [x] \n plain "]}})
        text = join(with_tools)[0] if stream else with_tools.choices[0].message.content
        assert text == "{\"a\": <b> [x] \n plain "


def test_round_trip(family):
    """The tool's answer goes back through the model's own template."""
    name, server, client = family
    if name == "none":
        pytest.skip("a template without tools knows no such messages")
    first = create(client, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "get_time"}}, seed=1).choices[0].message
    call = first.tool_calls[0]
    messages = ASK + [first.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "{\"time\": \"12:34\"}"}]
    answer = create(client, messages=messages, tools=TOOLS, seed=1)
    assert answer.choices[0].message.content
    status, shown = server.post("/apply-template", {"messages": messages, "tools": TOOLS})
    assert status == 200 and "get_time" in shown["prompt"] and "12:34" in shown["prompt"] and "The weather in a city" in shown["prompt"]
    assert json.loads(call.function.arguments)["zone"] in shown["prompt"]


@pytest.mark.parametrize("fields,param", [
    ({"tools": 5}, "tools"), ({"tools": [5]}, "tools[0].type"), ({"tools": [{"type": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function.name"), ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": TOOLS + TOOLS}, "tools[2].function.name"), ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": TOOLS * 65}, "tools[2].function.name"), ({"tool_choice": "required"}, "tool_choice"), ({"tools": TOOLS, "tool_choice": "perhaps"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": 7}, "tool_choice"), ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    ({"tools": TOOLS, "parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"not": {}}}}], "tool_choice": "required"}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a", "strict": True, "parameters": {"type": "object"}}}], "tool_choice": "required"}, "tools")])
def test_refusals(server, fields, param):
    status, answer = server.post("/v1/chat/completions", {"messages": ASK, "max_tokens": 1, **fields})
    assert status == 400 and answer["error"]["param"] == param, answer


def test_tools_without_parameters(server):
    tools = [{"type": "function", "function": {"name": "now"}}]
    status, answer = server.post("/v1/chat/completions", {"messages": ASK, "max_tokens": 50, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False})
    assert status == 200 and answer["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}, answer


class Stop(pydantic.BaseModel):
    name: typing.Annotated[str, pydantic.Field(min_length=1, max_length=10)]
    at: datetime.time


class Journey(pydantic.BaseModel):
    """A journey by rail."""
    id: uuid.UUID
    day: datetime.date
    kind: typing.Literal["fast", "slow"]
    price: typing.Annotated[float, pydantic.Field(ge=0)]
    seats: typing.Annotated[int, pydantic.Field(ge=1, le=9)]
    note: typing.Optional[typing.Annotated[str, pydantic.Field(pattern="^[a-z ]{0,8}$")]]
    stops: typing.Annotated[list[Stop], pydantic.Field(max_length=2)]


def test_pydantic(server):
    """What the SDK makes of a Pydantic model, as a form and as a tool, comes back as that model."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        for seed in range(5):
            answer = client.chat.completions.parse(model="", messages=ASK, response_format=Journey, seed=seed, max_tokens=600)
            assert isinstance(answer.choices[0].message.parsed, Journey), answer
            answer = client.chat.completions.parse(model="", messages=ASK, tools=[openai.pydantic_function_tool(Journey)], seed=seed, max_tokens=600,
                                                   tool_choice={"type": "function", "function": {"name": "Journey"}})
            call = answer.choices[0].message.tool_calls[0].function
            assert isinstance(call.parsed_arguments, Journey), answer
