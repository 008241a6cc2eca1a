"""LiteLLM as its users write it: the server is an OpenAI-compatible one of their own."""
import asyncio
import json
import typing

import litellm
import pydantic
import pytest

from family import ASK, tagged  # noqa: F401 (a fixture)


class Scene(pydantic.BaseModel):
    place: typing.Literal["forest", "sea"]
    night: bool


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"], "additionalProperties": False}}}]


@pytest.fixture(scope="module")
def ask(tagged):  # noqa: F811
    def call(model="storyteller", **fields):
        return litellm.completion(model=f"openai/{model}", api_base=tagged.url + "/v1", api_key="none", **{"messages": ASK, "max_tokens": 120, "seed": 1, "num_retries": 0, **fields})
    return call


def test_completion_and_stream(ask):
    answer = ask(max_tokens=20)
    assert answer.choices[0].message.content and answer.usage.completion_tokens <= 20 and answer.choices[0].finish_reason in ("stop", "length")
    pieces = list(ask(max_tokens=20, stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == answer.choices[0].message.content
    assert litellm.stream_chunk_builder(pieces, messages=ASK).choices[0].message.content == answer.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_voices(ask):
    texts = [ask(max_tokens=16, **fields).choices[0].message.content for fields in ({}, {"model": "villain"}, {"extra_body": {"adapter": "villain"}})]
    assert texts[0] != texts[1] == texts[2]


def test_structured_output(ask):
    for seed in range(3):
        assert Scene.model_validate_json(ask(response_format=Scene, seed=seed, temperature=1.5).choices[0].message.content)


def test_tools(ask):
    choice = ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False).choices[0]
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    history = [*ASK, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "clear"}]
    assert ask(messages=history, tools=TOOLS, tool_choice="none", max_tokens=8).choices[0].message.content
    pieces = list(ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, stream=True))
    whole = litellm.stream_chunk_builder(pieces, messages=ASK).choices[0].message
    assert [c.function.arguments for c in whole.tool_calls] == [call.function.arguments]


def test_errors(ask):
    with pytest.raises(litellm.NotFoundError):
        ask(model="nobody")
    with pytest.raises(litellm.BadRequestError):
        ask(temperature=9)
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(messages=[{"role": "user", "content": "word " * 9000}])


def test_async_text_and_embedding(tagged):  # noqa: F811
    where = {"api_base": tagged.url + "/v1", "api_key": "none"}
    answer = asyncio.run(litellm.acompletion(model="openai/storyteller", messages=ASK, max_tokens=4, **where))
    assert answer.choices[0].message.content
    assert litellm.text_completion(model="text-completion-openai/storyteller", prompt="Once", max_tokens=4, **where).choices[0].text
    vectors = litellm.embedding(model="openai/storyteller", input=["a lantern", "a fox"], **where).data
    assert len(vectors) == 2 and vectors[0]["embedding"] != vectors[1]["embedding"]
