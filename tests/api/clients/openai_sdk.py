"""The official SDK as its users write it. test_clients.py runs this file with each major of the SDK, so it says nothing that only one
of them knows; tests/api/test_sdk.py has what the current one shows of our own members."""
import asyncio
import concurrent.futures
import json
import typing

import openai
import pydantic
import pytest

from family import ASK, tagged  # noqa: F401 (a fixture)

MODEL = "storyteller"


class Scene(pydantic.BaseModel):
    place: typing.Literal["forest", "sea"]
    people: list[typing.Literal["Ann", "Bob"]] = pydantic.Field(max_length=3)
    night: bool
    year: typing.Optional[typing.Literal[1900, 2000]]


class Weather(pydantic.BaseModel):
    """The weather in a city"""
    city: typing.Literal["Rome", "Oslo"]
    days: typing.Literal[1, 2, 3]


def sdk(server, **options):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", **{"max_retries": 0, "timeout": 60, **options})


@pytest.fixture(scope="module")
def client(tagged):  # noqa: F811
    with sdk(tagged) as c:
        yield c


def test_chat_and_stream(client):
    args = dict(model=MODEL, messages=ASK, max_tokens=20, seed=3, temperature=0.7, top_p=0.9, presence_penalty=0.1, user="me", metadata={"a": "b"}, store=False)
    whole = client.chat.completions.create(**args)
    assert whole.choices[0].message.role == "assistant" and whole.choices[0].message.content and whole.usage.completion_tokens <= 20
    with client.chat.completions.create(**args, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    with client.chat.completions.stream(**args) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds and final.choices[0].message.content == whole.choices[0].message.content


def test_logprobs_in_a_stream(client):
    with client.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=6, logprobs=True, top_logprobs=2) as stream:
        done = [e for e in stream if e.type == "logprobs.content.done"]
    assert len(done) == 1 and len(done[0].content) == 6 and all(len(t.top_logprobs) == 2 for t in done[0].content)


@pytest.mark.parametrize("voice", ["villain", "storyteller:wood-elf"])
def test_voice_by_model(client, voice):
    assert client.chat.completions.create(model=voice, messages=ASK, max_tokens=4).model == voice


def test_parse(client):
    for seed in range(4):
        message = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Scene, seed=seed, temperature=1.5).choices[0].message
        assert isinstance(message.parsed, Scene) and message.refusal is None
    with client.chat.completions.stream(model=MODEL, messages=ASK, response_format=Scene, temperature=1.5, seed=9) as stream:
        partial = [e.parsed for e in stream if e.type == "content.delta"]
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Scene) and partial
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Scene, max_tokens=3)


def test_tools_round_trip(client):
    tools = [openai.pydantic_function_tool(Weather)]
    first = client.chat.completions.parse(model=MODEL, messages=ASK, tools=tools, tool_choice="required", max_tokens=200, parallel_tool_calls=False)
    choice = first.choices[0]
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert isinstance(call.function.parsed_arguments, Weather)
    history = [*ASK, choice.message, {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": "clear"})}]
    second = client.chat.completions.create(model=MODEL, messages=history, tools=tools, tool_choice="auto", max_tokens=10)
    assert second.choices[0].message.content and second.choices[0].message.tool_calls is None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    named = {"type": "function", "function": {"name": "Weather"}}
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=tools, tool_choice=named, max_tokens=200) as stream:
        done = [e for e in stream if e.type == "tool_calls.function.arguments.done"]
    assert len(done) == 1 and done[0].name == "Weather" and isinstance(done[0].parsed_arguments, Weather)


def test_completions_and_models(client):
    assert client.completions.create(model=MODEL, prompt="Once", max_tokens=3).choices[0].text
    pieces = client.completions.create(model=MODEL, prompt="Once", max_tokens=3, stream=True)
    assert "".join(p.choices[0].text for p in pieces)
    assert {"storyteller", "villain"} <= {m.id for m in client.models.list()} and client.models.retrieve("villain").id == "villain"


def test_responses(client):
    ask = dict(model=MODEL, input=ASK[0]["content"], max_output_tokens=200, temperature=1)
    whole = client.responses.create(**ask | {"max_output_tokens": 16}, extra_body={"seed": 1})
    assert whole.output_text and whole.usage.output_tokens <= 16
    deltas = [e.delta for e in client.responses.create(**ask | {"max_output_tokens": 16}, extra_body={"seed": 1}, stream=True) if e.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert isinstance(client.responses.parse(**ask, text_format=Scene).output_parsed, Scene)
    with client.responses.stream(**ask, text_format=Scene) as stream:
        assert any(e.type == "response.output_text.delta" for e in stream)
        assert isinstance(stream.get_final_response().output_parsed, Scene)
    tool = {"type": "function", "name": "weather", "parameters": Weather.model_json_schema() | {"additionalProperties": False}, "strict": True}
    called = client.responses.create(**ask, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    [call] = [item for item in called.output if item.type == "function_call"]
    assert Weather.model_validate_json(call.arguments)
    after = [{"role": "user", "content": ask["input"]}, *called.output, {"type": "function_call_output", "call_id": call.call_id, "output": "clear"}]
    assert client.responses.create(model=MODEL, input=after, max_output_tokens=16).output_text


def test_embeddings(client):
    """The SDK asks for base64 by itself and makes numbers of it."""
    made = client.embeddings.create(model=MODEL, input=["a lantern", "a fox"])
    plain = client.embeddings.create(model=MODEL, input=["a lantern", "a fox"], encoding_format="float")
    assert [v.embedding == pytest.approx(w.embedding, abs=1e-6) for v, w in zip(made.data, plain.data)] == [True, True]
    assert made.data[0].embedding != made.data[1].embedding and made.usage.prompt_tokens > 2


def test_request_ids(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=1, extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == "mine-1" and raw.parse()._request_id == "mine-1"
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("nobody")
    assert e.value.request_id and e.value.code == "model_not_found"


def test_async(tagged):  # noqa: F811
    async def main():
        async with openai.AsyncOpenAI(base_url=tagged.url + "/v1", api_key="none", max_retries=0) as c:
            async def one(voice):
                return [chunk async for chunk in await c.chat.completions.create(model=voice, messages=ASK, max_tokens=5, stream=True)]
            return await asyncio.gather(*(one(v) for v in ("villain", "wood-elf", MODEL)))
    assert all(chunks[-1].choices[0].finish_reason for chunks in asyncio.run(main()))


# ---- what goes wrong ----

@pytest.mark.parametrize("kind,code,fields", [
    (openai.BadRequestError, "invalid_value", {"temperature": 9}), (openai.BadRequestError, "invalid_value", {"messages": []}),
    (openai.BadRequestError, "context_length_exceeded", {"messages": [{"role": "user", "content": "word " * 9000}]}),
    (openai.BadRequestError, "unsupported_value", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}}),
    (openai.NotFoundError, "model_not_found", {"model": "gpt-4o"}), (openai.NotFoundError, "adapter_not_found", {"extra_body": {"adapter": "nobody"}})])
def test_errors(client, kind, code, fields):
    for stream in (False, True):
        with pytest.raises(kind) as e:
            client.chat.completions.create(**{"model": MODEL, "messages": ASK, "stream": stream, **fields})
        assert e.value.code == code and e.value.type == "invalid_request_error" and e.value.body["message"] in str(e.value)


def say(text):
    return {"model": "", "messages": [{"role": "user", "content": text}]}


def test_no_key(fake, tmp_path):
    (tmp_path / "keys").write_text("sk-good\n")
    s = fake(keys=tmp_path / "keys")
    with pytest.raises(openai.AuthenticationError) as e:
        sdk(s).chat.completions.create(**say("hi"))
    assert e.value.status_code == 401 and e.value.code == "invalid_api_key"
    assert openai.OpenAI(base_url=s.url + "/v1", api_key="sk-good").chat.completions.create(**say("hi")).choices[0].message.content == "hi"


def test_fault_is_not_tried_again(fake):
    """x-should-retry: false goes before the SDK's own rule, which tries a 500 again."""
    s = fake()
    with pytest.raises(openai.InternalServerError) as e:
        sdk(s, max_retries=3).chat.completions.create(**say("@fail now"))
    assert e.value.status_code == 500 and s.metric('chorus_requests_total{route="/v1/chat/completions",outcome="server_error"}') == 1
    with pytest.raises(openai.APIError) as e:
        list(sdk(s).chat.completions.create(**say("@fail now"), stream=True))  # its pieces come first
    assert e.value.code == "internal_error"


def test_loading_is_waited_for(fake):
    s = fake(load_ms=1500, wait_ready=False)
    with pytest.raises(openai.InternalServerError) as e:
        sdk(s).chat.completions.create(**say("hi"))
    assert e.value.status_code == 503 and e.value.code == "draining"
    assert sdk(s, max_retries=5).chat.completions.create(**say("hi")).choices[0].message.content == "hi"


def test_busy_is_waited_for(fake):
    s = fake(seqs=1, queue=1, step_us=10000)

    def ask(retries):
        try:
            return sdk(s, max_retries=retries).chat.completions.create(**say("@long story"), max_tokens=40).usage.completion_tokens
        except openai.RateLimitError as e:
            assert e.code == "queue_full" and int(e.response.headers["retry-after"]) >= 1
            return "busy"

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(ask, [0] * 6)) == {40, "busy"}
        assert set(pool.map(ask, [8] * 3)) == {40}


def test_timeout_stops_the_work(fake):
    s = fake(step_us=100000)
    with pytest.raises(openai.APITimeoutError):
        sdk(s, timeout=0.5).chat.completions.create(**say("@long story"), max_tokens=500)
    s.wait_metric("chorus_requests_running", 0)
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=1, timeout=2).models.list()
