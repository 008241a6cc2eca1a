"""POST /v1/embeddings: against transformers (embeddings.json, by scripts/make_embedding_goldens.py), with the official SDK, in every
form of input and of naming an adapter; and what it does to others, and they to it."""
import base64
import json
import math
import struct
import threading
import time

import openai
import pytest

from conftest import DEMO, ROOT, VOICES, start_real
from strict import answer_validator, description, problem
from test_cancel import request
from test_fields import HOSTILE, check_hostile

GOLDEN = json.loads((ROOT / "tests/api/embeddings.json").read_text())
TEXTS, IDS = GOLDEN["texts"], GOLDEN["ids"]
WIDTH = 256
TOLERANCE = 2e-5  # float32 sums in another order, and the golden's rounding


def embed(server, **body):
    status, answer = server.post("/v1/embeddings", body)
    assert status == 200, answer
    assert answer["object"] == "list" and [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    assert all(d["object"] == "embedding" for d in answer["data"])
    return answer


def vectors(server, **body):
    return [d["embedding"] for d in embed(server, **body)["data"]]


def one(server, **body):
    (v,) = vectors(server, **body)
    return v


def length(v):
    return math.sqrt(sum(x * x for x in v))


def off(got, want):
    assert len(got) == len(want)
    return max(abs(g - w) for g, w in zip(got, want))


def client(server, **kw):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, **kw)


def start_pooling(folder, mode, normalize=True, **config):
    """The demo model with a sentence-transformers description beside it."""
    model = folder / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for f in DEMO.iterdir():
        (model / f.name).symlink_to(f)
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    modules = [{"idx": i, "name": str(i), "path": f"{i}_{k}" if i else "", "type": f"sentence_transformers.models.{k}"}
               for i, k in enumerate(kinds)]
    (model / "modules.json").write_text(json.dumps(modules))
    config = {"word_embedding_dimension": WIDTH, f"pooling_mode_{mode}": True, "include_prompt": True, **config}
    (model / "1_Pooling/config.json").write_text(json.dumps(config))
    return start_real(folder, "--model", str(model), "--adapters", str(DEMO / "adapters"), "--prefill-chunk", "16")


@pytest.fixture(scope="module", params=["mean_tokens", "weightedmean_tokens"])
def pooled(request, tmp_path_factory):
    s = start_pooling(tmp_path_factory.mktemp("pooled"), request.param)
    s.golden = request.param.removesuffix("_tokens")
    yield s
    assert s.stop() == 0


# ---- what it says ----

@pytest.mark.parametrize("voice", ["", "wood-elf"])
def test_the_last_tokens_state_is_transformers(server, voice):
    got = vectors(server, input=TEXTS, adapter=voice)
    worst = max(off(g, w) for g, w in zip(got, GOLDEN["voices"][voice]["last"]))
    print(f"figure: embeddings of '{voice}': largest difference {worst:.1e}")
    assert worst < TOLERANCE
    apart = off(got[1], one(server, input=TEXTS[1], adapter="" if voice else "wood-elf"))
    assert apart > 100 * TOLERANCE  # the golden can tell voices apart


@pytest.mark.parametrize("voice", ["", "wood-elf"])
def test_pooling_is_the_models(pooled, voice):
    got = vectors(pooled, input=TEXTS, adapter=voice)
    want = GOLDEN["voices"][voice][pooled.golden]
    assert max(off(g, w) for g, w in zip(got, want)) < TOLERANCE
    assert min(off(g, w) for g, w in zip(got[1:], GOLDEN["voices"][voice]["last"][1:])) > 100 * TOLERANCE
    # Cached pages hold no states: a second time is the same, and so is one after a chat.
    assert vectors(pooled, input=TEXTS, adapter=voice) == got
    pooled.post("/v1/completions", {"prompt": TEXTS[3], "adapter": voice, "max_tokens": 2})
    assert one(pooled, input=TEXTS[3], adapter=voice) == got[3]


def test_a_model_that_does_not_normalise(tmp_path):
    s = start_pooling(tmp_path, "lasttoken", normalize=False)
    v = one(s, input=TEXTS[1])
    assert length(v) > 2
    assert off([x / length(v) for x in v], GOLDEN["voices"][""]["last"][1]) < TOLERANCE
    assert one(s, input=TEXTS[1], dimensions=5) == v[:5]
    assert s.stop() == 0


@pytest.mark.parametrize("mode,config,said", [("max_tokens", {}, "'max_tokens'"), ("mean_tokens", {"word_embedding_dimension": 99}, "not 256")])
def test_a_model_that_makes_none_says_why_and_speaks(tmp_path, mode, config, said):
    s = start_pooling(tmp_path, mode, **config)
    status, answer = s.post("/v1/embeddings", {"input": "fox"})
    assert status == 400 and answer["error"]["param"] == "model" and answer["error"]["code"] == "unsupported_value", answer
    assert said in answer["error"]["message"]
    assert s.chat("hello", max_tokens=2)["usage"]["completion_tokens"] > 0
    assert s.stop() == 0


# ---- forms ----

def test_the_sdk_gets_the_same_in_both_formats(server):
    sdk = client(server)
    default = sdk.embeddings.create(model="wood-elf", input=TEXTS)  # asks for base64 and decodes it
    plain = sdk.embeddings.create(model="wood-elf", input=TEXTS, encoding_format="float")
    assert default.object == "list" and default.model == "wood-elf" and len(default.data) == len(TEXTS)
    assert default.usage.prompt_tokens == default.usage.total_tokens == sum(map(len, IDS))
    for i, (a, b) in enumerate(zip(default.data, plain.data)):
        assert a.index == i and a.object == "embedding" and len(a.embedding) == WIDTH
        as_float32 = [struct.unpack("<f", struct.pack("<f", x))[0] for x in b.embedding]
        assert list(a.embedding) == as_float32
        assert abs(length(b.embedding) - 1) < 1e-6
    wire = one(server, input="fox", model="wood-elf", encoding_format="base64")
    assert list(struct.unpack(f"<{WIDTH}f", base64.b64decode(wire, validate=True))) == list(default.data[0].embedding)
    assert default.adapter[0]["name"] == "wood-elf"


@pytest.mark.parametrize("form", ["float", "base64"])
def test_its_shape_is_what_is_described_and_the_sdks(server, form):
    answer = embed(server, input=["fox", "hen"], encoding_format=form, adapter={"name": "villain", "weight": 0.5})
    assert problem(answer_validator(description(), "/v1/embeddings"), answer) is None, answer
    if form == "float":
        model = openai.types.CreateEmbeddingResponse.model_validate(answer, strict=True)
        assert set(model.model_extra) == {"adapter"} and not any(d.model_extra for d in model.data) and not model.usage.model_extra


def test_base64_of_every_length(server):
    """One, two and three bytes at the end of the last group."""
    for dimensions in (1, 2, 3, 4, 255, 256):
        text = one(server, input="fox", dimensions=dimensions, encoding_format="base64")
        floats = one(server, input="fox", dimensions=dimensions)
        assert struct.pack(f"<{dimensions}f", *floats) == base64.b64decode(text, validate=True)


def test_forms_of_input_agree(server):
    want = vectors(server, input=TEXTS)
    assert [one(server, input=t) for t in TEXTS] == want
    assert [one(server, input=ids) for ids in IDS] == want
    assert vectors(server, input=IDS) == want
    assert vectors(server, input=[IDS[0], TEXTS[1], IDS[2]]) == want[:3]
    assert vectors(server, input=[TEXTS[0]]) == want[:1]
    answer = embed(server, input=IDS)
    assert answer["usage"] == {"prompt_tokens": sum(map(len, IDS)), "total_tokens": sum(map(len, IDS))}
    assert answer["model"] == "storyteller" and answer["adapter"] == []


def test_dimensions_cut_and_normalise(server):
    whole = one(server, input=TEXTS[1])
    for n in (1, 7, 255, 256):
        cut = one(server, input=TEXTS[1], dimensions=n)
        scale = length(whole[:n])
        assert len(cut) == n and abs(length(cut) - 1) < 1e-6 and off(cut, [x / scale for x in whole[:n]]) < 1e-6
    assert one(server, input=TEXTS[1], dimensions=None, encoding_format=None, user="u") == whole


def test_every_form_of_naming_the_adapter(server):
    base, elf = one(server, input=TEXTS[1]), one(server, input=TEXTS[1], adapter="wood-elf")
    assert base != elf
    index = next(a["id"] for a in server.get("/lora-adapters")[1] if a["name"] == "wood-elf")
    for form in ({"adapter": {"name": "wood-elf"}}, {"adapter": [{"name": "wood-elf", "weight": 1.0}]}, {"model": "wood-elf"},
                 {"model": "storyteller:wood-elf"}, {"model": "wood-elf", "adapter": "wood-elf"}, {"lora": [{"id": index, "scale": 1.0}]}):
        answer = embed(server, input=TEXTS[1], **form)
        assert answer["data"][0]["embedding"] == elf, form
        assert answer["model"] == form.get("model", "storyteller")
        assert [(a["name"], a["weight"]) for a in answer["adapter"]] == [("wood-elf", 1)] and answer["adapter"][0]["generation"] > 0
    for form in ({"adapter": None}, {"adapter": ""}, {"adapter": []}, {"model": "storyteller"}, {"lora": []}):
        assert one(server, input=TEXTS[1], **form) == base, form
    half = one(server, input=TEXTS[1], adapter={"name": "wood-elf", "weight": 0.5})
    blend = one(server, input=TEXTS[1], adapter=[{"name": "wood-elf", "weight": 0.5}, {"name": "villain", "weight": 0.5}])
    assert len({tuple(v) for v in (base, elf, half, blend)}) == 4


@pytest.mark.parametrize("body,http,param,code", [
    ({}, 400, "input", "invalid_value"),
    ({"input": None}, 400, "input", "invalid_value"),
    ({"input": ""}, 400, "input", "invalid_value"),
    ({"input": []}, 400, "input", "invalid_value"),
    ({"input": ["fox", ""]}, 400, "input", "invalid_value"),
    ({"input": [[]]}, 400, "input", "invalid_value"),
    ({"input": 7}, 400, "input", "invalid_value"),
    ({"input": {"text": "fox"}}, 400, "input", "invalid_value"),
    ({"input": ["fox", 7]}, 400, "input", "invalid_value"),
    ({"input": [7, "fox"]}, 400, "input", "invalid_value"),
    ({"input": [-1]}, 400, "input", "invalid_value"),
    ({"input": [4096]}, 400, "input", "invalid_value"),
    ({"input": [1.5]}, 400, "input", "invalid_value"),
    ({"input": ["fox"] * 2049}, 400, "input", "invalid_value"),
    ({"input": "fox", "dimensions": 0}, 400, "dimensions", "invalid_value"),
    ({"input": "fox", "dimensions": 257}, 400, "dimensions", "invalid_value"),
    ({"input": "fox", "dimensions": "8"}, 400, "dimensions", "invalid_value"),
    ({"input": "fox", "encoding_format": "hex"}, 400, "encoding_format", "invalid_value"),
    ({"input": "fox", "encoding_format": 1}, 400, "encoding_format", "invalid_value"),
    ({"input": "fox", "cache_salt": "x" * 300}, 400, "cache_salt", "invalid_value"),
    ({"input": "fox", "adapter": "nobody"}, 404, "adapter", "adapter_not_found"),
    ({"input": "fox", "model": "storyteller:nobody"}, 404, "model", "adapter_not_found"),
    ({"input": "fox", "model": "villain", "adapter": "wood-elf"}, 400, "adapter", "invalid_value"),
])
def test_what_cannot_be_is_refused_by_name(server, body, http, param, code):
    status, answer = server.post("/v1/embeddings", body)
    assert status == http, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"} and (error["param"], error["code"]) == (param, code), error


EMBED_FIELDS = ["input", "model", "adapter", "lora", "encoding_format", "dimensions", "cache_prompt", "cache_salt", "priority", "user"]


@pytest.mark.parametrize("field", EMBED_FIELDS)
def test_hostile_values(plain, field):
    refused = sum(check_hostile(plain, "/v1/embeddings", {"input": "hi"}, field, v) for v in HOSTILE)
    assert refused == 0 if field == "user" else refused >= 4, f"{field}: {refused}"
    if field != "input":
        assert one(plain, input="hi", **{field: None}) == one(plain, input="hi")


def test_the_context_is_exact_and_told_with_both_numbers(server):
    assert len(one(server, input=[5] * 2048)) == WIDTH  # no token is made: the input may fill it
    for inputs, numbers in (([5] * 2049, ("2048", "2049", "0")), ([[5], [6] * 3000], ("2048", "3000", "1"))):
        status, answer = server.post("/v1/embeddings", {"input": inputs})
        assert status == 400 and answer["error"]["code"] == "context_length_exceeded" and answer["error"]["param"] == "input", answer
        assert all(n in answer["error"]["message"].replace(".", "").split() for n in numbers), answer
    with pytest.raises(openai.BadRequestError):
        client(server).embeddings.create(model="storyteller", input="word " * 3000)


# ---- company ----

def test_alone_and_in_company_are_equal_to_the_bit(server):
    """Many texts of every voice at once, beside answers of others, from the prefix cache and without it."""
    texts = [f"{t} {i}" for i in range(8) for t in TEXTS]
    alone = {v: [one(server, input=t, adapter=v, cache_prompt=False) for t in texts[:4]] for v in ["", *VOICES]}
    got, answers = {}, []

    def ask(voice):
        got[voice] = vectors(server, input=texts, adapter=voice)

    def speak(voice):
        answers.append(server.chat(TEXTS[1], adapter=voice, max_tokens=30, temperature=0)["choices"][0]["message"]["content"])

    quiet = [server.chat(TEXTS[1], adapter=v, max_tokens=30, temperature=0)["choices"][0]["message"]["content"] for v in VOICES]
    threads = [threading.Thread(target=f, args=(v,)) for v in ["", *VOICES] for f in (ask, speak) if v or f is ask]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for voice, want in alone.items():
        assert got[voice][:4] == want, voice
        assert vectors(server, input=texts, adapter=voice) == got[voice]
    assert sorted(answers) == sorted(quiet)


def test_salt_and_voice_part_the_cache(server):
    text = "A sentence that is long enough for several pages of the cache, as many as it takes. " * 4
    cached = server.metric("chorus_tokens_cached_total")
    first = one(server, input=text, cache_salt="a", adapter="summary")
    assert server.metric("chorus_tokens_cached_total") == cached
    assert one(server, input=text, cache_salt="b", adapter="summary") == first
    assert one(server, input=text, cache_salt="a", adapter="villain") != first
    assert server.metric("chorus_tokens_cached_total") == cached
    assert one(server, input=text, cache_salt="a", adapter="summary") == first
    assert server.metric("chorus_tokens_cached_total") >= cached + 64


def test_more_texts_than_the_queue_holds(server):
    before = {m: server.metric(f"chorus_{m}_total") for m in ("tokens_out", "tokens_in", "engine_requests_done")}
    texts = [f"number {i}" for i in range(600)]
    got = embed(server, input=texts, encoding_format="base64")
    assert len(got["data"]) == 600
    for i in (0, 1, 17, 311, 599):
        assert one(server, input=texts[i], encoding_format="base64") == got["data"][i]["embedding"]
    assert server.metric("chorus_tokens_out_total") == before["tokens_out"]
    assert server.metric("chorus_tokens_in_total") >= before["tokens_in"] + got["usage"]["prompt_tokens"]
    assert server.metric("chorus_engine_requests_done_total") == before["engine_requests_done"] + 605
    assert server.metric('chorus_requests_total{route="/v1/embeddings",outcome="ok"}') > 0
    assert server.metric("chorus_kv_pages_used") == 0


# ---- trouble ----

def test_a_client_that_leaves_stops_its_work(fake):
    s = fake(step_us=2000, seqs=4, seats=4, line=64)
    with s.connect() as c:
        c.sendall(request({"input": ["x" * 4000] * 100}, "/v1/embeddings"))
        s.wait_metric("chorus_requests_running", 4)
    s.wait_metric("chorus_requests_running", 0)
    accepted = s.metric("chorus_engine_requests_accepted_total")
    assert accepted <= 16
    time.sleep(0.1)
    assert s.metric("chorus_engine_requests_accepted_total") == accepted and s.metric("chorus_requests_waiting") == 0
    assert s.metric('chorus_requests_total{route="/v1/embeddings",outcome="cancelled"}') == 1
    assert len(one(s, input="and goes on")) == 8


def test_one_that_fails_fails_the_request(fake):
    s = fake(step_us=200)
    status, answer = s.post("/v1/embeddings", {"input": ["fox"] * 20 + ["@fail"] + ["fox"] * 20})
    assert status == 500 and answer["error"]["message"] == "told to fail"
    s.wait_metric("chorus_requests_running", 0)
    assert s.metric("chorus_requests_waiting") == 0


def test_a_batch_leaves_seats_to_others(fake):
    """A long batch does not keep a client's own chat waiting until its end."""
    s = fake(step_us=1000, seqs=4, seats=4, line=64)
    with s.connect() as c:
        c.sendall(request({"input": ["x" * 400] * 2000}, "/v1/embeddings"))
        s.wait_metric("chorus_requests_running", 4)
        begin = time.monotonic()
        s.chat("hi")
        assert time.monotonic() - begin < 3
        assert s.metric("chorus_requests_running") > 0  # the batch is still at it


def test_a_full_queue_is_429(fake):
    s = fake(step_us=5000, seqs=1, seats=1, line=2)
    connections = [s.connect() for _ in range(8)]
    for c in connections:
        c.sendall(request({"input": "x" * 4000}, "/v1/embeddings"))
    s.wait_metric("chorus_requests_running", 1)
    s.wait_metric('chorus_requests_total{route="/v1/embeddings",outcome="busy"}', 5)  # one is seated, two are in line
    status, headers, _ = s.request("POST", "/v1/embeddings", {"input": "one more"})
    assert status == 429 and "retry-after" in headers
    for c in connections:
        c.close()
    # A batch longer than the queue is served all the same.
    s.wait_metric("chorus_requests_running", 0)
    assert len(vectors(s, input=["x"] * 50)) == 50


def test_all_texts_of_a_request_speak_with_one_generation(fake, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    s = fake(step_us=2000, seqs=1, seats=1, line=64, root=tmp_path)
    got = {}

    def ask():
        got["answer"] = s.request("POST", "/v1/embeddings", {"input": ["x" * 400] * 60, "adapter": "wood-elf"})

    t = threading.Thread(target=ask)
    t.start()
    s.wait_metric("chorus_requests_running", 1)
    status, answer = s.post("/v1/adapters", {"name": "wood-elf", "path": str(other), "wait": True})
    assert status == 200, answer
    t.join()
    status, headers, body = got["answer"]
    assert status == 429 and "replaced" in json.loads(body)["error"]["message"], body


def test_draining_ends_it_well(fake):
    s = fake(step_us=1000, seqs=2)
    got = {}
    t = threading.Thread(target=lambda: got.update(a=s.request("POST", "/v1/embeddings", {"input": ["x" * 800] * 100})))
    t.start()
    s.wait_metric("chorus_requests_running", 2)
    assert s.stop() == 0
    t.join()
    assert got["a"][0] == 503
