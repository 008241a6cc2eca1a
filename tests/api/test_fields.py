"""Every documented field against hostile values, JSON bombs, and what each field means."""
import json
import random
import time

import pytest

from conftest import SLOW, figure, joined

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
USER = [{"role": "user", "content": "hi"}]

HOSTILE = [
    True, -1, 0, 1e308, -1e308, 3.7, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, "", "x", "\x7f\u2028\U0001F600", "a" * 5000, [], {}, [[]],
    [None], [{}], {"a": None}, {"": []}, [1, "x", None], [-1], ["a"] * 20, {"type": "x"}, {"name": 1}, [{"id": -1}],
]
CHAT_FIELDS = [
    "messages", "model", "adapter", "lora", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n",
    "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "reasoning_effort", "top_k", "min_p", "typical_p", "repetition_penalty", "min_tokens",
    "ignore_eos", "stop_token_ids", "include_stop_str_in_output", "skip_special_tokens", "add_generation_prompt",
    "continue_final_message", "chat_template_kwargs", "cache_prompt", "cache_salt", "priority", "structured_outputs",
    "timings_per_token", "return_tokens_as_token_ids", "user", "metadata", "store", "service_tier", "verbosity", "modalities",
    "prediction", "safety_identifier", "prompt_cache_key", "functions",
]
IGNORED = {"user", "metadata", "store", "service_tier", "verbosity", "modalities", "prediction", "safety_identifier", "prompt_cache_key",
           "functions"}
TEXT_FIELDS = ["prompt", "model", "adapter", "lora", "stream", "stream_options", "temperature", "top_p", "max_tokens", "n", "best_of", "stop",
               "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "echo", "suffix", "top_k", "min_p", "typical_p",
               "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids", "include_stop_str_in_output", "skip_special_tokens",
               "cache_prompt", "cache_salt", "priority", "structured_outputs", "response_format", "timings_per_token",
               "return_tokens_as_token_ids", "user"]
# A name that nobody has is a 404 by the contract.
NAMES = {"model", "adapter", "lora"}


def check_hostile(s, path, base, field, value):
    status, _, text = s.request("POST", path, {**base, field: value})
    what = f"{field} = {value!r:.60}"
    allowed = {200, 400, 404} if field in NAMES else {200, 400}
    assert status in allowed, f"{what}: {status} {text[:200]}"
    if status == 200:
        return False
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error", error
    assert error["message"], what
    assert error["param"] and error["param"].split(".")[0].split("[")[0] == field, f"{what}: {error}"
    return True


@pytest.mark.parametrize("field", CHAT_FIELDS)
def test_hostile_values_chat(plain, field):
    refused = sum(check_hostile(plain, CHAT, {"messages": USER, "max_tokens": 4}, field, v) for v in HOSTILE)
    if field in IGNORED:
        assert refused == 0
    else:
        assert refused >= 5, f"{field}: only {refused} of {len(HOSTILE)} values were refused"


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_hostile_values_text(plain, field):
    refused = sum(check_hostile(plain, TEXT, {"prompt": "hi", "max_tokens": 4}, field, v) for v in HOSTILE)
    assert refused == 0 if field in IGNORED else refused >= 4, f"{field}: {refused}"


@pytest.mark.parametrize("field", sorted(set(CHAT_FIELDS) - {"messages"}))
def test_null_means_absent(plain, field):
    assert plain.post(CHAT, {"messages": USER, field: None})[0] == 200


def test_server_still_answers(plain):
    assert plain.chat("still here")["choices"][0]["message"]["content"] == "still here"
    assert plain.metric("chorus_requests_running") == plain.metric("chorus_requests_waiting") == 0


@pytest.mark.parametrize("field,bad", [
    ("temperature", [-0.1, 2.1]), ("top_p", [-0.1, 1.1]), ("min_p", [-0.1, 1.1]), ("typical_p", [-1, 2]), ("top_k", [-2, 1.5]),
    ("n", [0, 17, 1.5]), ("presence_penalty", [-2.1, 2.1]), ("frequency_penalty", [-2.1, 2.1]), ("repetition_penalty", [0, -1]),
    ("max_tokens", [-1, 1.5, "4"]), ("stop", ["", [""], ["a"] * 5, "x" * 257, [1]]), ("seed", [1.5, "1", 2**63]),
    ("logit_bias", [{"1": 101}, {"1": "x"}, {"99999": 1}, [[1, 2]]]), ("top_logprobs", [1, 21, -1]), ("stop_token_ids", [[-1], [260], 5]),
    ("reasoning_effort", ["extreme", 1]), ("stream_options", [True, {"include_usage": "yes"}]), ("cache_salt", ["x" * 257, 1])])
def test_bad_ranges(plain, field, bad):
    for value in bad:
        status, answer = plain.post(CHAT, {"messages": USER, field: value})
        assert status == 400 and answer["error"]["param"].startswith(field), (value, answer)


@pytest.mark.parametrize("field,good", [
    ("temperature", [0, 2, 1.0]), ("top_p", [0, 1, 0.5]), ("top_k", [-1, 0, 5, 10**6]), ("n", [1]), ("max_tokens", [0, 1, 3]),
    ("stop", ["x", ["a", "b", "c", "d"], [], "x" * 256]), ("seed", [-1, 0, 2**63 - 1, -(2**63), 5.0]),
    ("logit_bias", [{}, {"1": -100}, {"hello": 1}, {"a": 5}]), ("logprobs", [False, True]), ("tools", [[]]), ("tool_choice", ["none", "auto"]),
    ("response_format", [{"type": "text"}]), ("structured_outputs", [{}]), ("stream_options", [{"include_usage": True}, {}]),
    ("stop_token_ids", [[], [0, 259]]), ("chat_template_kwargs", [{}, {"enable_thinking": False}]), ("priority", [-5, 7]),
    ("unknown_field", [1, {"a": [1]}])])
def test_good_values(plain, field, good):
    for value in good:
        status, answer = plain.post(CHAT, {"messages": USER, field: value})
        assert status == 200, (value, answer)


@pytest.mark.parametrize("body,param", [
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "xml"}}, "response_format.type"), ({"response_format": {}}, "response_format.type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function.name"), ({"tool_choice": "required"}, "tool_choice"),
    ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs.structural_tag"), ({"continue_final_message": True}, "continue_final_message"),
    ({"messages": USER + [{"role": "assistant", "content": "x"}], "continue_final_message": True, "add_generation_prompt": True},
     "continue_final_message"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"), ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"bos_token": "<|system|>"}}, "chat_template_kwargs")])
def test_what_is_not_there_is_refused_by_name(plain, body, param):
    status, answer = plain.post(CHAT, {"messages": USER, **body})
    assert status == 400 and answer["error"]["param"] == param and answer["error"]["code"] in ("invalid_value", "unsupported_value")


# ---- messages ----

@pytest.mark.parametrize("messages,param", [
    ([], "messages"), ("hi", "messages"), ([1], "messages[0]"), ([{}], "messages[0].role"), ([{"role": "user"}], "messages[0].content"),
    ([{"role": "king", "content": "x"}], "messages[0].role"), ([{"role": "user", "content": 5}], "messages[0].content"),
    (USER + [{"role": "user", "content": {}}], "messages[1].content"), ([{"role": "assistant"}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content"), ([{"role": "user", "content": [5]}], "messages[0].content"),
    ([{"role": "assistant", "content": "x", "tool_calls": [1]}], "messages[0].tool_calls"),
    ([{"role": "user", "content": "x", "name": 3}], "messages[0].name")])
def test_bad_messages(plain, messages, param):
    status, answer = plain.post(CHAT, {"messages": messages})
    assert status == 400 and answer["error"]["param"] == param, answer


def test_good_messages(plain):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}
    messages = [{"role": "developer", "content": "d"}, {"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "bob"},
                {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
                {"role": "tool", "tool_call_id": "c1", "content": "42"}, {"role": "user", "content": parts}]
    status, answer = plain.post(CHAT, {"messages": messages})
    assert status == 200 and answer["choices"][0]["message"]["content"] == "one\ntwo"


def test_template_that_raises(plain):
    status, answer = plain.post(CHAT, {"messages": [{"role": "user", "content": "@raise"}]})
    assert status == 400 and "the template says no" in answer["error"]["message"]


def test_context_length(plain):
    status, answer = plain.post(CHAT, {"messages": [{"role": "user", "content": "x" * 5000}]})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded"
    assert "4096" in answer["error"]["message"] and "500" in answer["error"]["message"]


# ---- JSON ----

BOMBS = {
    "empty": b"", "space": b" ", "not json": b"hello", "cut": b'{"messages":', "trailing": b'{"messages":[]}x', "two": b"{}{}",
    "array": b"[]", "string": b'"x"', "number": b"1", "null": b"null", "deep array": b"[" * 100000, "deep object": b'{"a":' * 100000,
    "deep closed": b"[" * 5000 + b"]" * 5000, "deep in a field": b'{"messages":[' + b"[" * 70 + b"]" * 70 + b"]}",
    "many values": b"[" + b"1," * 3000000 + b"1]", "many keys": b"{" + b'"a":1,' * 1000000 + b'"b":1}', "huge number": b'{"n":1' + b"0" * 1000000 + b"}",
    "huge exponent": b'{"seed":1e999999}', "leading zero": b'{"n":01}', "bad utf-8": b'{"messages":"\xff\xfe"}', "overlong": b'{"a":"\xc0\x80"}',
    "surrogate": b'{"a":"\\ud800"}', "nul escape": b'{"a":"\\u0000"}', "raw nul": b'{"a":"\0"}', "control": b'{"a":"\n"}', "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"messages":[]}'.encode("utf-16"), "single quotes": b"{'messages':[]}", "comment": b'{/*x*/"messages":[]}', "nan": b'{"n":NaN}',
    "long string": b'{"messages":"' + b"a" * 8000000 + b'"}', "escapes": b'{"a":"' + b"\\u0041" * 1000000 + b'"}',
    "unclosed string": b'{"a":"' + b"x" * 1000000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_bombs(plain, name):
    begin = time.monotonic()
    status, _, text = plain.request("POST", CHAT, BOMBS[name])
    took = time.monotonic() - begin
    assert status == 400 and json.loads(text)["error"]["type"] == "invalid_request_error"
    print(f"figure: {name}: {len(BOMBS[name])} bytes refused in {took * 1000:.1f} ms")
    assert took < (0.02 + len(BOMBS[name]) / 40e6) * 5 * SLOW  # 20 ms, and the bytes must get here; the machine is shared


def test_many_keys_in_one_object_are_not_quadratic(plain):
    body = json.dumps({"messages": USER, "max_tokens": 2, **{f"k{i}": i for i in range(90000)}}).encode()
    begin = time.monotonic()
    assert plain.request("POST", CHAT, body)[0] == 200
    assert time.monotonic() - begin < 1.0 * SLOW
    body = json.dumps({"messages": USER, "chat_template_kwargs": {f"k{i}": i for i in range(90000)}}).encode()
    assert plain.request("POST", CHAT, body)[0] == 400


def test_mutated_requests(fake):
    """Random byte edits of a rich request: an answer each, never a crash (HTTP-4, REQ)."""
    plain = fake(header_ms=50, body_ms=50, step_us=0)
    rich = json.dumps({"messages": [{"role": "system", "content": "é🙂"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}],
                       "adapter": [{"name": "wood-elf", "weight": 0.5}], "stop": ["a", "b"], "seed": 2**62, "logit_bias": {"5": -1.5},
                       "n": 2, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    rng = random.Random(20240611)
    counts = {}
    for i in range(figure(2000, 100000)):
        data = bytearray(head % len(rich) + rich if i % 2 else rich)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            action = rng.randrange(3)
            if action == 0:
                data[at] = rng.randrange(256)
            elif action == 1:
                del data[at]
            else:
                data.insert(at, rng.choice(b'"{}[]:,\\\r\n 0\x00\xff'))
        payload = bytes(data) if i % 2 else head % len(data) + bytes(data)
        with plain.connect(timeout=5) as s:
            s.sendall(payload)
            try:
                got = s.recv(65536)
            except ConnectionResetError:
                got = b""
        status = int(got[9:12]) if got else 0
        assert status in (0, 200, 400, 403, 404, 405, 413, 415, 417, 431, 501, 505), got[:200]
        counts[status] = counts.get(status, 0) + 1
    print(f"figure: 2,000 mutated requests: {dict(sorted(counts.items()))}")
    assert plain.chat("alive")["choices"][0]["message"]["content"] == "alive"


# ---- models and adapters ----

def test_model_list(plain):
    status, answer = plain.get("/v1/models")
    assert status == 200 and answer["object"] == "list"
    base, *adapters = answer["data"]
    assert base["id"] == "fake" and base["parent"] is None and base["max_model_len"] == 4096
    assert {a["id"] for a in adapters} == {"wood-elf", "villain", "marketing", "summary", "image-prompt"}
    for a in adapters:
        assert a["parent"] == "fake" and a["root"] == "/adapters/" + a["id"] and a["adapter_generation"] >= 1
        assert plain.get("/v1/models/" + a["id"])[1] == a
    assert plain.get("/v1/models/fake")[1] == base
    assert plain.get("/v1/models/fake:villain")[1]["root"] == "/adapters/villain"
    for name, code in (("nobody", "model_not_found"), ("fake:nobody", "adapter_not_found"), ("%C3%A9", "model_not_found"), ("a" * 600, "model_not_found")):
        status, answer = plain.get("/v1/models/" + name)
        assert status == 404 and answer["error"]["code"] == code, name


def test_adapter_list(plain):
    data = plain.get("/v1/adapters")[1]["data"]
    assert [set(a) >= {"name", "generation", "sha256", "rank", "modules", "bytes", "tier", "users", "last_used"} for a in data] == [True] * 5
    loras = plain.get("/lora-adapters")[1]
    assert [l["id"] for l in loras] == [0, 1, 2, 3, 4] and [l["name"] for l in loras] == [a["name"] for a in data]


# ---- completions ----

def test_prompt_forms(plain):
    ids = list(b"cd")
    for prompt, wanted in (("ab", ["ab"]), (["ab", "x"], ["ab", "x"]), (ids, ["cd"]), ([ids, list(b"e")], ["cd", "e"]), (["ab", ids], ["ab", "cd"])):
        status, answer = plain.post(TEXT, {"prompt": prompt})
        assert status == 200, (prompt, answer)
        assert [c["text"] for c in answer["choices"]] == wanted and [c["index"] for c in answer["choices"]] == list(range(len(wanted)))
    for prompt in ([], [[]], [300], [-1], [[1], "a", 5], {}, 5, [None], [["a"]], [1.5], "", [""], ["a"] * 200):
        status, answer = plain.post(TEXT, {"prompt": prompt})
        wanted = 200 if prompt in ("", [""]) else 400  # an empty prompt is the tokenizer's prefix alone
        assert status == wanted, (prompt, answer)


def test_completion_defaults_and_echo(plain):
    long = "abcdefghijklmnopqrstuvwxyz"
    answer = plain.post(TEXT, {"prompt": long})[1]
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert answer["choices"][0]["text"] == long[:16] and answer["choices"][0]["finish_reason"] == "length"
    assert plain.post(TEXT, {"prompt": long, "echo": True, "max_tokens": 3})[1]["choices"][0]["text"] == long + "abc"
    answer = plain.post(TEXT, {"prompt": "abc", "echo": True, "max_tokens": 0, "logprobs": 1})[1]
    assert answer["choices"][0]["text"] == "abc" and answer["usage"]["completion_tokens"] == 0
    lp = answer["choices"][0]["logprobs"]
    assert lp["tokens"] == ["<bos>", "a", "b", "c"] and lp["token_logprobs"][0] is None and lp["text_offset"] == [0, 0, 1, 2]
    assert plain.post(TEXT, {"prompt": "a", "suffix": "b"})[1]["error"]["param"] == "suffix"
    for stream in (False, True):
        body = {"prompt": "xyz", "echo": True, "max_tokens": 2, "logprobs": 0}
        if stream:
            payloads = plain.stream(TEXT, body)[1]
            assert joined(payloads) == "xyzxy"
            tokens = [t for p in payloads[:-1] for c in json.loads(p)["choices"] if c["logprobs"] for t in c["logprobs"]["tokens"]]
        else:
            choice = plain.post(TEXT, body)[1]["choices"][0]
            assert choice["text"] == "xyzxy"
            tokens = choice["logprobs"]["tokens"]
        assert tokens == ["<bos>", "x", "y", "z", "x", "y"]


def test_n_and_best_of(plain):
    answer = plain.post(TEXT, {"prompt": ["a", "b"], "n": 3})[1]
    assert [c["text"] for c in answer["choices"]] == ["a"] * 3 + ["b"] * 3 and answer["usage"]["prompt_tokens"] == 4
    assert len(plain.post(TEXT, {"prompt": "a", "n": 2, "best_of": 4})[1]["choices"]) == 2
    for body in ({"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}, {"n": 16, "prompt": ["a"] * 20}):
        assert plain.post(TEXT, {"prompt": "a", **body})[0] == 400
    payloads = plain.stream(CHAT, {"messages": USER, "n": 3})[1]
    assert [joined(payloads, i) for i in range(3)] == ["hi"] * 3


# ---- the queue ----

def test_queue_full(fake):
    s = fake(seqs=1, queue=2, step_us=20000)
    held = []
    for _ in range(3):
        c = s.connect()
        body = json.dumps({"messages": [{"role": "user", "content": "@long"}], "max_tokens": 500}).encode()
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        held.append(c)
        time.sleep(0.1)
    status, headers, text = s.request("POST", CHAT, {"messages": USER})
    error = json.loads(text)["error"]
    assert status == 429 and int(headers["retry-after"]) >= 1 and error["code"] == "queue_full" and "x-should-retry" not in headers
    # All choices or none: what was taken of a refused request is given back.
    for c in held[1:]:
        c.close()
    s.wait_metric("chorus_requests_waiting", 0)
    assert s.request("POST", CHAT, {"messages": USER, "n": 5})[0] == 429
    s.wait_metric("chorus_requests_waiting", 0)
    held[0].close()
    s.wait_metric("chorus_requests_running", 0)
    assert s.chat("hi")["choices"][0]["message"]["content"] == "hi"
