"""The official OpenAI SDK against the demo model: chat, streams, adapters, log-probabilities, errors, models."""
import concurrent.futures
import json
import math

import openai
import pytest

from conftest import DEMO, VOICES, start_real

ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]
MODEL = "storyteller"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield c


def test_chat(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=20, seed=1)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == MODEL
    assert answer.system_fingerprint and answer.created > 1_600_000_000
    choice = answer.choices[0]
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.refusal is None and choice.logprobs is None
    assert len(choice.message.content) > 10 and choice.finish_reason in ("stop", "length")
    u = answer.usage
    assert u.prompt_tokens > 5 and 1 <= u.completion_tokens <= 20 and u.total_tokens == u.prompt_tokens + u.completion_tokens
    assert u.prompt_tokens_details.cached_tokens >= 0 and u.completion_tokens_details.reasoning_tokens == 0
    extra = answer.model_extra
    assert extra["adapter"] == []
    assert extra["timings"]["predicted_n"] == u.completion_tokens and extra["timings"]["predicted_per_second"] > 0


def test_story_ends_by_itself(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=1000)
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens < 1000
    assert "<" not in answer.choices[0].message.content  # no special token in the text


def test_stream(client):
    args = dict(model=MODEL, messages=ASK, max_tokens=25, seed=5)
    whole = client.chat.completions.create(**args).choices[0]
    chunks = list(client.chat.completions.create(**args, stream=True, stream_options={"include_usage": True}))
    assert len({c.id for c in chunks}) == 1 and {c.object for c in chunks} == {"chat.completion.chunk"}
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.role == "assistant" and first.choices[0].delta.content == "" and first.model_extra["adapter"] == []
    assert all(c.choices[0].finish_reason is None and c.choices[0].delta.content for c in middle)
    assert last.choices[0].delta.content is None and last.choices[0].finish_reason == whole.finish_reason
    assert usage.choices == [] and usage.usage.completion_tokens == 25
    assert all(c.usage is None for c in chunks[:-1])
    assert "".join(c.choices[0].delta.content for c in middle) == whole.message.content
    assert len(middle) == 25  # one token a chunk
    plain = list(client.chat.completions.create(**args, stream=True))
    assert all(c.usage is None for c in plain) and plain[-1].choices[0].finish_reason


@pytest.mark.parametrize("voice", VOICES)
def test_adapters(client, voice):
    args = dict(messages=ASK, max_tokens=24, temperature=0)
    base = client.chat.completions.create(model=MODEL, **args)
    forms = [
        client.chat.completions.create(model=MODEL, **args, extra_body={"adapter": voice}),
        client.chat.completions.create(model=voice, **args),
        client.chat.completions.create(model=f"{MODEL}:{voice}", **args),
        client.chat.completions.create(model=MODEL, **args, extra_body={"adapter": {"name": voice, "weight": 1.0}}),
        client.chat.completions.create(model=MODEL, **args, extra_body={"lora": [{"id": VOICES.index(voice), "scale": 1.0}]}),
    ]
    texts = {f.choices[0].message.content for f in forms}
    assert len(texts) == 1 and base.choices[0].message.content not in texts
    for f in forms:
        assert [(a["name"], a["weight"]) for a in f.model_extra["adapter"]] == [(voice, 1)] and f.model_extra["adapter"][0]["generation"] >= 1
    assert forms[1].model == voice and forms[2].model == f"{MODEL}:{voice}"
    zero = client.chat.completions.create(model=MODEL, **args, extra_body={"adapter": {"name": voice, "weight": 0}})
    assert zero.choices[0].message.content == base.choices[0].message.content


def test_blend(client):
    args = dict(model=MODEL, messages=ASK, max_tokens=24, temperature=0)
    blend = [{"name": "wood-elf", "weight": 0.6}, {"name": "villain", "weight": 0.4}]
    answer = client.chat.completions.create(**args, extra_body={"adapter": blend})
    assert [(a["name"], round(a["weight"], 6)) for a in answer.model_extra["adapter"]] == [("wood-elf", 0.6), ("villain", 0.4)]


def test_logprobs(client):
    args = dict(model=MODEL, messages=ASK, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3)
    choice = client.chat.completions.create(**args).choices[0]
    assert len(choice.logprobs.content) == 8 and choice.logprobs.refusal is None
    assert b"".join(bytes(t.bytes) for t in choice.logprobs.content).decode() == choice.message.content
    for t in choice.logprobs.content:
        assert t.logprob <= 0 and len(t.top_logprobs) == 3
        values = [x.logprob for x in t.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert t.top_logprobs[0].token == t.token and math.isclose(t.top_logprobs[0].logprob, t.logprob, abs_tol=1e-5)  # greedy
    chunks = list(client.chat.completions.create(**args, stream=True))
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == choice.logprobs.content
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2, logprobs=False).choices[0].logprobs is None


def test_seed_n_and_stop(client):
    args = dict(model=MODEL, messages=ASK, max_tokens=30)
    one, two = (client.chat.completions.create(**args, seed=77).choices[0].message.content for _ in range(2))
    other = client.chat.completions.create(**args, seed=78).choices[0].message.content
    assert one == two != other
    many = client.chat.completions.create(**args, seed=77, n=3)
    assert [c.index for c in many.choices] == [0, 1, 2] and many.choices[0].message.content == one
    assert len({c.message.content for c in many.choices}) == 3
    random = {client.chat.completions.create(**args).choices[0].message.content for _ in range(3)}
    assert len(random) == 3
    stop = one[10:14]
    cut = client.chat.completions.create(**args, seed=77, stop=[stop, "never there"])
    assert cut.choices[0].message.content == one[:one.index(stop)] and cut.choices[0].finish_reason == "stop"
    kept = client.chat.completions.create(**args, seed=77, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content == one[:one.index(stop)] + stop
    chunks = client.chat.completions.create(**args, seed=77, stop=stop, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == one[:one.index(stop)]


def test_max_tokens_zero_and_logit_bias(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=0)
    assert answer.choices[0].message.content == "" and answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 0
    args = dict(model=MODEL, messages=ASK, max_tokens=1, temperature=0, logprobs=True, top_logprobs=2)
    best = client.chat.completions.create(**args).choices[0].logprobs.content[0]
    token = client.chat.completions.create(**args, extra_body={"return_tokens_as_token_ids": True}).choices[0].logprobs.content[0].token
    assert token.startswith("token_id:")
    banned = client.chat.completions.create(**args, logit_bias={token.removeprefix("token_id:"): -100}).choices[0].logprobs.content[0]
    assert banned.token == best.top_logprobs[1].token


def test_completions(client):
    answer = client.completions.create(model=MODEL, prompt="The old lantern", max_tokens=8, temperature=0, logprobs=2, echo=True)
    assert answer.object == "text_completion" and answer.choices[0].text.startswith("The old lantern")
    lp = answer.choices[0].logprobs
    assert len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset)
    assert lp.token_logprobs[0] is None and all(v <= 0 for v in lp.token_logprobs[1:])
    text = "".join(c.choices[0].text for c in client.completions.create(model="villain", prompt="The", max_tokens=6, temperature=0, stream=True))
    assert text == client.completions.create(model="villain", prompt="The", max_tokens=6, temperature=0).choices[0].text
    many = client.completions.create(model=MODEL, prompt=["One", "Two"], max_tokens=3, n=2, seed=3)
    assert [c.index for c in many.choices] == [0, 1, 2, 3]


def test_async_client(server):
    import asyncio

    async def main():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
            async def one(voice):
                stream = await c.chat.completions.create(model=voice, messages=ASK, max_tokens=10, temperature=0, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return await asyncio.gather(*(one(v) for v in VOICES))

    assert len(set(asyncio.run(main()))) == len(VOICES)


def test_stream_left_early(client, server):
    stream = client.chat.completions.create(model="villain", messages=ASK, max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
    for _, _ in zip(range(5), stream):
        pass
    stream.close()
    server.wait_metric("chorus_requests_running", 0)
    assert server.metric("chorus_kv_pages_used") == 0
    assert sum(a["users"] for a in server.get("/v1/adapters")[1]["data"]) == 0


# ---- models ----

def test_models(client):
    models = {m.id: m for m in client.models.list()}
    assert set(models) == {MODEL, *VOICES}
    for voice in VOICES:
        assert models[voice].model_extra["parent"] == MODEL and models[voice].model_extra["root"].endswith("/" + voice)
    assert client.models.retrieve("villain").id == "villain"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


# ---- errors ----

def test_not_found(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model=MODEL, messages=ASK, extra_body={"adapter": "nobody"})
    assert e.value.code == "adapter_not_found" and e.value.param == "adapter" and "nobody" in e.value.body["message"]
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="nobody", messages=ASK)
    assert e.value.code == "model_not_found"


def test_bad_request(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=ASK, temperature=9)
    assert e.value.param == "temperature" and e.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 5000}])
    assert e.value.code == "context_length_exceeded" and "2048" in e.value.body["message"]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1_000_000)


def test_special_tokens_in_content_are_text(client, server):
    special = [t["content"] for t in json.loads((DEMO / "tokenizer.json").read_text())["added_tokens"] if t["special"]]
    assert special
    plain = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], max_tokens=1).usage.prompt_tokens
    for token in special:
        n = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": token}], max_tokens=1).usage.prompt_tokens
        assert n > plain, f"{token} became one token"


def test_keys_and_busy(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-good\n")
    s = start_real(tmp_path, "--model", str(DEMO), "--api-key-file", str(keys), "--max-seqs", "1", "--queue", "1", "--threads", "1")
    try:
        bad = openai.OpenAI(base_url=s.url + "/v1", api_key="sk-bad", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as e:
            bad.models.list()
        assert e.value.code == "invalid_api_key" and e.value.type == "authentication_error"
        good = openai.OpenAI(base_url=s.url + "/v1", api_key="sk-good", max_retries=0)
        assert [m.id for m in good.models.list()] == [MODEL]

        def ask(_):
            try:
                return good.chat.completions.create(model=MODEL, messages=ASK, max_tokens=400, extra_body={"ignore_eos": True}).usage.completion_tokens
            except openai.RateLimitError as e:
                assert e.code == "queue_full" and int(e.response.headers["retry-after"]) >= 1
                return "busy"

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            got = list(pool.map(ask, range(12)))
        assert set(got) == {400, "busy"}, got
        patient = openai.OpenAI(base_url=s.url + "/v1", api_key="sk-good", max_retries=6)  # the SDK waits as Retry-After says
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda _: patient.chat.completions.create(model=MODEL, messages=ASK, max_tokens=5).usage.completion_tokens, range(6)))
        assert len(done) == 6
    finally:
        assert s.stop() == 0


def test_continue_final_message(client, server):
    """The answer goes on in the message: what was said before it and what it says are one text, said without a break."""
    user = {"role": "user", "content": "Tell me a story about a lantern."}
    more = {"continue_final_message": True}

    def ask(messages, **extra):
        return client.chat.completions.create(model="storyteller", messages=messages, temperature=0, max_tokens=30, extra_body=extra)

    whole = ask([user])
    text = whole.choices[0].message.content
    cut = text.index(" ", len(text) // 2)
    rest = ask([user, {"role": "assistant", "content": text[:cut]}], **more)
    assert rest.choices[0].message.content.startswith(text[cut:])
    # The prompt ends in the message, not behind it, and no new turn is begun.
    closed = ask([user, {"role": "assistant", "content": text[:cut]}])
    assert rest.usage.prompt_tokens < closed.usage.prompt_tokens
    status, answer = server.post("/v1/chat/completions", {"messages": [user], **more})
    assert status == 400 and answer["error"]["param"] == "continue_final_message"
    status, answer = server.post("/v1/chat/completions",
                                 {"messages": [user, {"role": "assistant", "content": None, "tool_calls": []}], **more})
    assert status == 400 and answer["error"]["param"] == "continue_final_message"
