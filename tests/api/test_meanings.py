"""What the fields of API.md section 2 mean, on the demo model: each against what it should change in the answer, and no more."""
import json
import math
import threading

import pytest

from conftest import joined
from test_cancel import request

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PROMPT = "The old lantern hung above the door and"
ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]


def say(server, **body):
    status, answer = server.post(TEXT, {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "ignore_eos": True, **body})
    assert status == 200, answer
    return answer


def text(server, **body):
    (choice,) = say(server, **body)["choices"]
    return choice["text"]


def tokens(server, **body):
    """The ids of an answer's tokens."""
    lp = say(server, **{"logprobs": 0, "return_tokens_as_token_ids": True, **body})["choices"][0]["logprobs"]
    return [int(t.removeprefix("token_id:")) for t in lp["tokens"]]


def spelled(server, ids):
    """As an answer shows them: without the model's own tokens."""
    return server.post("/detokenize", {"tokens": [i for i in ids if i > 5]})[1]["content"]


# ---- several sequences ----

@pytest.mark.parametrize("n", [1, 2])
def test_best_of_is_the_likeliest_of_as_many(server, n):
    ask = dict(temperature=1.0, seed=11, logprobs=0)
    all_of = say(server, n=5, **ask)["choices"]
    ranked = sorted(all_of, key=lambda c: -sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"]))
    answer = say(server, n=n, best_of=5, **ask)
    assert [c["text"] for c in answer["choices"]] == [c["text"] for c in ranked[:n]] and [c["index"] for c in answer["choices"]] == list(range(n))
    assert [c["text"] for c in ranked] != [c["text"] for c in all_of]  # or the order proves nothing
    assert answer["usage"]["completion_tokens"] == 5 * 12  # those that are not shown were made too
    without = say(server, n=n, best_of=5, temperature=1.0, seed=11)
    assert [c["text"] for c in without["choices"]] == [c["text"] for c in answer["choices"]]
    assert all(c["logprobs"] is None for c in without["choices"])


@pytest.mark.parametrize("path,ask", [(CHAT, {"messages": ASK}), (TEXT, {"prompt": [PROMPT, "A fox"]})])
def test_n_streamed_is_n_whole(server, path, ask):
    body = {**ask, "n": 3, "seed": 5, "temperature": 0.9, "max_tokens": 15, "logprobs": True if path == CHAT else 1}
    status, whole = server.post(path, body)
    assert status == 200
    chunks = [json.loads(p) for p in server.stream(path, {**body, "stream_options": {"include_usage": True}})[1][:-1]]
    usage = chunks.pop()
    assert usage["choices"] == [] and all("usage" not in c for c in chunks)
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert usage["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    said = {c["index"]: [] for c in whole["choices"]}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        said[choice["index"]].append(choice)
    assert len(said) == len(whole["choices"]) == 3 * (len(ask.get("prompt", [0])))
    for want in whole["choices"]:
        got = said[want["index"]]
        assert [c["finish_reason"] for c in got if c["finish_reason"]] == [want["finish_reason"]] and got[-1]["finish_reason"]
        if path == CHAT:
            assert [c["delta"].get("role") for c in got] == ["assistant"] + [None] * (len(got) - 1)
            assert "".join(c["delta"].get("content") or "" for c in got) == want["message"]["content"]
            lps = [t for c in got if c["logprobs"] for t in c["logprobs"]["content"]]
            assert lps == want["logprobs"]["content"]
        else:
            assert "".join(c["text"] for c in got) == want["text"]
            for key in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
                assert [x for c in got if c["logprobs"] for x in c["logprobs"][key]] == want["logprobs"][key], key
    texts = [c["text"] if path == TEXT else c["message"]["content"] for c in whole["choices"]]
    assert len(set(texts)) == len(texts)
    indices = [c["choices"][0]["index"] for c in chunks]
    assert indices != sorted(indices)  # they are made side by side


# ---- log-probabilities ----

def test_echoed_tokens_have_the_log_probabilities_they_were_drawn_with(server):
    first = say(server, logprobs=3, max_tokens=20)["choices"][0]
    ids = server.post("/tokenize", {"prompt": PROMPT})[1]["tokens"] + tokens(server, max_tokens=20)
    echo = say(server, prompt=ids, echo=True, max_tokens=0, logprobs=3)
    lp, (choice,) = echo["choices"][0]["logprobs"], echo["choices"]
    assert echo["usage"]["completion_tokens"] == 0 and echo["usage"]["prompt_tokens"] == len(ids)
    assert len(lp["tokens"]) == len(lp["token_logprobs"]) == len(lp["top_logprobs"]) == len(lp["text_offset"]) == len(ids)
    assert lp["token_logprobs"][0] is None and lp["top_logprobs"][0] is None and all(v <= 0 for v in lp["token_logprobs"][1:])
    assert lp["token_logprobs"][-20:] == first["logprobs"]["token_logprobs"]  # to the bit: a prompt and a continuation are one thing
    assert lp["top_logprobs"][-20:] == first["logprobs"]["top_logprobs"] and lp["tokens"][-20:] == first["logprobs"]["tokens"]
    for special in (False, True):
        shown = say(server, prompt=ids, echo=True, max_tokens=0, logprobs=0, skip_special_tokens=not special)["choices"][0]
        assert shown["text"] == (server.post("/detokenize", {"tokens": ids})[1]["content"] if special else choice["text"])
        for token, at in zip(shown["logprobs"]["tokens"], shown["logprobs"]["text_offset"]):
            assert shown["text"][at:at + len(token)] == token or (token.startswith("<|") and not special)
    both = say(server, prompt=ids[:-10], echo=True, max_tokens=10, logprobs=3)["choices"][0]
    assert both["logprobs"]["token_logprobs"] == lp["token_logprobs"] and both["text"] == choice["text"]


def test_tokens_as_ids_in_both_shapes(server):
    ids = tokens(server)
    assert spelled(server, ids) == text(server)
    plain = say(server, logprobs=2)["choices"][0]["logprobs"]
    as_ids = say(server, logprobs=2, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]
    assert as_ids["token_logprobs"] == plain["token_logprobs"] and all(k.startswith("token_id:") for top in as_ids["top_logprobs"] for k in top)
    chat = server.chat("x", messages=ASK, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2, return_tokens_as_token_ids=True)
    named = server.chat("x", messages=ASK, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
    for a, b in zip(chat["choices"][0]["logprobs"]["content"], named["choices"][0]["logprobs"]["content"]):
        assert a["token"].startswith("token_id:") and a["logprob"] == b["logprob"] and len(a["top_logprobs"]) == 2
        assert spelled(server, [int(a["token"].removeprefix("token_id:"))]) == b["token"] and a["bytes"] == b["bytes"]


# ---- which token ----

def test_logit_bias_by_id_and_by_text(server):
    ids = tokens(server)
    word = " moon"
    (moon,) = server.post("/tokenize", {"content": word})[1]["tokens"]
    assert moon not in ids
    by_id, by_text = (text(server, logit_bias={k: 100}) for k in (str(moon), word))
    assert by_id == by_text == word * 12
    first = spelled(server, ids[:1])
    banned = text(server, logit_bias={first: -100})
    assert not banned.startswith(first) and banned == text(server, logit_bias={str(ids[0]): -100})
    assert text(server, logit_bias={"no token has this text": 100}) == text(server)
    chat = server.chat("x", messages=ASK, max_tokens=4, logit_bias={word: 100})
    assert chat["choices"][0]["message"]["content"] == word.lstrip() + word * 3 or chat["choices"][0]["message"]["content"] == word * 4


def test_what_leaves_one_token_is_greedy(server):
    greedy = text(server)
    for fields in ({"top_k": 1}, {"min_p": 1}, {"top_p": 0}, {"temperature": 0}):
        assert {text(server, **{"temperature": 1.5, "seed": s, **fields}) for s in range(4)} == {greedy}, fields
    assert len({text(server, temperature=1.5, seed=s) for s in range(4)}) == 4


def test_typical_p(server):
    """At its least one token is left, the one whose surprise is nearest to the entropy: not always the likeliest."""
    least = {text(server, temperature=1.0, typical_p=1e-6, seed=s) for s in range(4)}
    assert len(least) == 1
    logprobs = say(server, max_tokens=1, logprobs=5)["choices"][0]["logprobs"]["top_logprobs"][0]
    assert text(server, temperature=1.0, typical_p=1, seed=3) == text(server, temperature=1.0, seed=3)
    assert text(server, temperature=0, typical_p=1e-6) == text(server) or len(logprobs) == 5
    assert len({text(server, temperature=1.0, typical_p=0.95, seed=s) for s in range(4)}) > 1


def test_penalties(server):
    def repeats(**fields):
        ids = tokens(server, max_tokens=60, ignore_eos=True, **fields)
        return len(ids) - len(set(ids))

    usual = repeats()
    assert usual >= 8
    assert repeats(frequency_penalty=2) < usual and repeats(presence_penalty=2) < usual
    assert repeats(repetition_penalty=100) == 0  # nothing that was there comes again
    prompt = server.post("/tokenize", {"prompt": PROMPT})[1]["tokens"]
    assert not set(prompt) & set(tokens(server, max_tokens=40, ignore_eos=True, repetition_penalty=100))  # of the prompt neither
    assert text(server, repetition_penalty=1, presence_penalty=0, frequency_penalty=0) == text(server)


# ---- where it ends ----

def test_min_tokens_bans_every_end_until_then(server):
    end = {"logit_bias": {"1": 100}, "max_tokens": 30, "ignore_eos": False}
    at_once = say(server, **end)
    assert at_once["choices"][0]["text"] == "" and at_once["choices"][0]["finish_reason"] == "stop"
    for least in (1, 7, 30):
        held = say(server, min_tokens=least, **end)
        reason = held["choices"][0]["finish_reason"]
        assert held["usage"]["completion_tokens"] == min(least + 1, 30) and reason == ("stop" if least < 30 else "length")
    ids = tokens(server, max_tokens=10)
    assert len(tokens(server, max_tokens=10, stop_token_ids=[ids[2]], min_tokens=6)) >= 6
    stopped = text(server, max_tokens=10, stop=[spelled(server, ids[1:2])], min_tokens=6)
    assert stopped.startswith(spelled(server, ids[:6]))
    status, answer = server.post(TEXT, {"prompt": PROMPT, "max_tokens": 3, "min_tokens": 4})
    assert status == 400 and answer["error"]["param"] == "min_tokens"


def test_stop_tokens_and_stop_strings_with_and_without_themselves(server):
    ids = tokens(server, max_tokens=10)
    at = next(i for i in range(3, 10) if ids[i] not in ids[:i])
    before, through = spelled(server, ids[:at]), spelled(server, ids[:at + 1])
    for stop in ({"stop_token_ids": [ids[at]]}, {"stop_token_ids": [5, ids[at], 7]}):
        for include, want in ((False, before), (True, through)):
            answer = say(server, max_tokens=10, include_stop_str_in_output=include, **stop)
            assert answer["choices"][0]["text"] == want and answer["choices"][0]["finish_reason"] == "stop"
            assert answer["usage"]["completion_tokens"] == at + 1
    whole = text(server, max_tokens=10)
    middle = whole[len(whole) // 2:len(whole) // 2 + 4]
    cut = whole.index(middle)
    for stream in (False, True):
        for include, want in ((False, whole[:cut]), (True, whole[:cut] + middle)):
            body = {"prompt": PROMPT, "max_tokens": 10, "temperature": 0, "ignore_eos": True, "stop": ["never there", middle], "include_stop_str_in_output": include}
            got = joined(server.stream(TEXT, body)[1]) if stream else server.post(TEXT, body)[1]["choices"][0]["text"]
            assert got == want


def test_special_tokens_are_shown_on_request(server):
    end = {"logit_bias": {"1": 100}, "max_tokens": 5, "ignore_eos": False}
    eos = text(server, skip_special_tokens=False, **end)
    assert eos and text(server, skip_special_tokens=True, **end) == "" == text(server, **end)
    assert text(server, **{**end, "ignore_eos": True}, skip_special_tokens=False) == eos * 5
    assert say(server, **{**end, "ignore_eos": True})["usage"]["completion_tokens"] == 5


# ---- what else an answer tells ----

def test_timings_per_token(server):
    body = {"messages": ASK, "max_tokens": 8, "temperature": 0}
    chunks = [json.loads(p) for p in server.stream(CHAT, {**body, "timings_per_token": True})[1][:-1]]
    pieces = [c for c in chunks if c["choices"][0]["delta"].get("content")]
    assert len(pieces) == 8 and all("timings" in c for c in pieces) and "timings" in chunks[-1]
    keys = {"prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_token_ms", "predicted_per_second"}
    for c in pieces:
        assert keys <= set(c["timings"])
    counted = [c["timings"]["predicted_n"] for c in pieces]
    assert counted == list(range(1, 9)), counted
    assert all(c["timings"]["prompt_n"] > 0 for c in pieces)
    quiet = [json.loads(p) for p in server.stream(CHAT, body)[1][:-1]]
    assert ["timings" in c for c in quiet] == [False] * (len(quiet) - 1) + [True]


def test_salt_and_cache_prompt_say_what_is_cached(server):
    prompt = "A long sentence that no other test has, so that its pages are its own. " * 5

    def cached(**fields):
        u = say(server, prompt=prompt, max_tokens=2, **fields)
        assert u["choices"][0]["text"] == first
        return u["usage"]["prompt_tokens_details"]["cached_tokens"]

    first = text(server, prompt=prompt, max_tokens=2, cache_prompt=False)
    assert cached(cache_prompt=False) == 0 and cached() == 0
    full = cached()
    assert full >= 64 and full % 16 == 0
    assert cached(cache_salt="mine") == 0 and cached(cache_salt="mine") == full and cached(cache_salt="yours") == 0
    assert cached(cache_prompt=False) == 0 and cached() == full


def test_priority_orders_a_clients_own_line(fake):
    s = fake(step_us=3000, seqs=1, seats=1, line=64)
    done, lock = [], threading.Lock()

    def ask(name, priority):
        s.post(TEXT, {"prompt": name * 80, "max_tokens": 80, "priority": priority})
        with lock:
            done.append(name)

    threads = []
    with s.connect() as c:
        c.sendall(request({"messages": [{"role": "user", "content": "@long"}], "max_tokens": 4000}))
        s.wait_metric("chorus_requests_running", 1)
        for name, priority in (("a", 5), ("b", 0), ("c", -3), ("d", None), ("e", 5)):
            threads.append(threading.Thread(target=ask, args=(name, priority)))
            threads[-1].start()
            s.wait_metric("chorus_requests_waiting", len(threads))
    for t in threads:
        t.join()
    assert done == ["c", "b", "d", "a", "e"]


def test_reasons_and_usage(server):
    answer = server.chat("x", messages=ASK, max_tokens=3)
    u = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "length" and u["completion_tokens"] == 3
    assert u["total_tokens"] == u["prompt_tokens"] + 3 and set(u["completion_tokens_details"]) == {"reasoning_tokens"}
    assert server.chat("x", messages=ASK, max_completion_tokens=2, max_tokens=50)["usage"]["completion_tokens"] == 2
    status, answer = server.post(CHAT, {"messages": ASK, "max_tokens": 5000})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded" and answer["error"]["param"] == "max_tokens"
    numbers = [int(w) for w in answer["error"]["message"].replace(",", " ").replace(".", " ").split() if w.isdigit()]
    assert 2048 in numbers and 5000 in numbers and u["prompt_tokens"] in numbers and u["prompt_tokens"] + 5000 in numbers
    assert math.isclose(server.chat("x", messages=ASK, max_tokens=3)["timings"]["predicted_n"], 3)
