"""LangChain's ChatOpenAI and OpenAIEmbeddings, as its users write them."""
import asyncio
import typing

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from family import tagged  # noqa: F401 (a fixture)

ASK = [SystemMessage("Be brief."), HumanMessage("Tell me a story about a lantern.")]


class Scene(pydantic.BaseModel):
    """Where a story happens."""
    place: typing.Literal["forest", "sea"]
    people: list[typing.Literal["Ann", "Bob"]] = pydantic.Field(max_length=3)


@tool
def weather(city: typing.Literal["Rome", "Oslo"], days: typing.Literal[1, 2]) -> str:
    """The weather in a city."""
    return f"{city}: clear for {days} days"


@pytest.fixture(scope="module")
def chat(tagged):  # noqa: F811
    return lambda **options: ChatOpenAI(base_url=tagged.url + "/v1", api_key="none", **{"model": "storyteller", "max_tokens": 200, "temperature": 1, "seed": 1, **options})


def test_invoke_and_stream(chat):
    model = chat(max_tokens=20)
    answer = model.invoke(ASK)
    assert isinstance(answer, AIMessage) and answer.content and answer.usage_metadata["output_tokens"] <= 20
    assert answer.response_metadata["finish_reason"] in ("stop", "length") and answer.response_metadata["model_name"] == "storyteller"
    whole = None
    for chunk in model.stream(ASK, stream_usage=True):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == answer.content and whole.usage_metadata == answer.usage_metadata | {"input_token_details": whole.usage_metadata["input_token_details"]}
    assert [a.content for a in model.batch([ASK, ASK])] == [answer.content] * 2
    assert asyncio.run(model.ainvoke(ASK)).content == answer.content


def test_voices(chat):
    base = chat(max_tokens=16).invoke(ASK).content
    by_model, by_body = chat(model="villain", max_tokens=16).invoke(ASK).content, chat(max_tokens=16, extra_body={"adapter": "villain"}).invoke(ASK).content
    assert by_model == by_body != base


def test_logprobs(chat):
    answer = chat(max_tokens=4).bind(logprobs=True, top_logprobs=2).invoke(ASK)
    assert len(answer.response_metadata["logprobs"]["content"]) == 4


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output(chat, method):
    if method == "json_mode":  # any object: what is said of it is the prompt's business
        got = chat(temperature=0.3).with_structured_output(Scene, method=method, include_raw=True).invoke(ASK)
        assert isinstance(got["raw"].content, str) and got["raw"].content.lstrip().startswith("{")
        return
    for seed in range(3):
        assert isinstance(chat(seed=seed).with_structured_output(Scene, method=method).invoke(ASK), Scene)
    both = chat().with_structured_output(Scene, method=method, include_raw=True).invoke(ASK)
    assert both["parsing_error"] is None and isinstance(both["parsed"], Scene)
    assert isinstance(list(chat().with_structured_output(Scene, method=method).stream(ASK))[-1], Scene)


def test_tools(chat):
    bound = chat().bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    first = bound.invoke(ASK)
    [call] = first.tool_calls
    assert first.response_metadata["finish_reason"] == "tool_calls" and call["name"] == "weather" and first.invalid_tool_calls == []
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.tool_call_id == call["id"]
    assert chat(max_tokens=10).bind_tools([weather], tool_choice="none").invoke([*ASK, first, result]).content
    whole = None
    for chunk in bound.stream(ASK):
        whole = chunk if whole is None else whole + chunk
    assert [(c["name"], c["args"]) for c in whole.tool_calls] == [("weather", call["args"])]
    named = chat().bind_tools([weather], tool_choice="weather").invoke(ASK)
    assert [c["name"] for c in named.tool_calls] == ["weather"]


def test_responses(chat):
    """The same through /v1/responses, which LangChain takes where it is told to."""
    model = chat(use_responses_api=True, seed=None, extra_body={"seed": 1})
    answer = model.invoke(ASK, max_tokens=20)
    assert answer.text and answer.usage_metadata["output_tokens"] <= 20
    whole = None
    for chunk in model.stream(ASK, max_tokens=20):
        whole = chunk if whole is None else whole + chunk
    assert whole.text == answer.text
    assert isinstance(model.with_structured_output(Scene, method="json_schema").invoke(ASK), Scene)
    first = model.bind_tools([weather], tool_choice="any", parallel_tool_calls=False).invoke(ASK)
    [call] = first.tool_calls
    assert model.bind_tools([weather]).invoke([*ASK, first, weather.invoke(call)], max_tokens=20).text


def test_embeddings(tagged):  # noqa: F811
    made = OpenAIEmbeddings(model="storyteller", base_url=tagged.url + "/v1", api_key="none", check_embedding_ctx_length=False)
    one, two = made.embed_documents(["a lantern", "a fox"])
    assert len(one) == len(two) > 16 and one != two and made.embed_query("a lantern") == pytest.approx(one, abs=1e-5)
