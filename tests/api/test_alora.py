"""Activated LoRA over HTTP: it acts from its invocation sequence on, the answer says from where, and the pages before it are the base's."""
import json
import shutil

import pytest

from conftest import DEMO, ROOT, events, start_real
from gguf_files import convert

GOLDEN = ROOT / "tests/golden/data/alora"
LONG = "It stood at the edge of the water, where the reeds were high and nobody came in winter. " * 4
PAGE = 16


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("alora")
    for voice in ("elf", "elf-turn", "villain-word"):
        shutil.copytree(GOLDEN / "adapters" / voice, tmp / "folder" / voice)
    convert(tmp / "folder/villain-word", DEMO, tmp / "folder/word-file.gguf")
    s = start_real(tmp, "--model", str(DEMO), "--adapters", str(tmp / "folder"), "--kv-pages", "2000")
    s.folder = tmp / "folder"
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text()


def ask(s, text, **fields):
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    status, answer = s.post("/v1/chat/completions", {"messages": messages, "max_tokens": 12, "temperature": 0, "logprobs": True, **fields})
    assert status == 200, answer
    return answer


def said(answer):
    return json.dumps(answer["choices"][0]["logprobs"])


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_lists_tell_what_activates(live):
    tokens = json.loads((GOLDEN / "adapters/villain-word/adapter_config.json").read_text())["alora_invocation_tokens"]
    facts = {a["name"]: a for a in live.get("/v1/adapters")[1]["data"]}
    assert facts["elf-turn"]["alora_invocation_tokens"] == [4] and facts["elf"]["alora_invocation_tokens"] is None
    assert facts["villain-word"]["alora_invocation_tokens"] == facts["word-file"]["alora_invocation_tokens"] == tokens
    theirs = {a["name"]: a for a in live.get("/lora-adapters")[1]}
    assert theirs["elf-turn"]["alora_invocation_tokens"] == [4] and "alora_invocation_tokens" not in theirs["elf"]
    status, report = live.post("/v1/adapters/check", {"path": "villain-word"})
    assert status == 200 and report["ok"] and report["alora_invocation_tokens"] == tokens


def test_the_answer_says_from_where(live):
    text = f"Now listen well. {LONG}"
    once = ask(live, text, adapter="villain-word")
    assert once["adapter"][0]["active_from"] == 3  # <bos>, <user>, "Now"
    twice = ask(live, f"{text} Now listen well.", adapter="villain-word")
    assert twice["adapter"][0]["active_from"] > 60
    plain = ask(live, text, adapter="elf")
    assert "active_from" not in plain["adapter"][0]
    blend = ask(live, text, adapter=[{"name": "elf", "weight": 0.5}, {"name": "elf-turn", "weight": 0.5}])
    assert "active_from" not in blend["adapter"][0] and blend["adapter"][1]["active_from"] == blend["usage"]["prompt_tokens"] - 1
    assert len({said(x) for x in (once, twice, plain, blend)}) == 4
    _, _, stream = live.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 3, "stream": True,
                                                                 "adapter": "villain-word"})
    assert json.loads(events(stream)[0])["adapter"][0]["active_from"] == 3


def test_without_its_sequence_the_base_speaks(live):
    text = f"Tell me about the lantern. {LONG}"
    base, silent = ask(live, text, cache_prompt=False), ask(live, text, adapter="villain-word")
    assert silent["adapter"] == [{**silent["adapter"][0], "name": "villain-word", "active_from": None}]
    assert said(silent) == said(base)
    assert "its invocation sequence is not in the prompt" in live.log_text()
    # And all that it computed is the base's.
    again = ask(live, text)
    assert cached(again) == (again["usage"]["prompt_tokens"] - 1) // PAGE * PAGE and said(again) == said(base)


def test_a_file_is_what_its_directory_is(live):
    text = f"{LONG} Now listen well."
    assert said(ask(live, text, adapter="word-file", cache_prompt=False)) == said(ask(live, text, adapter="villain-word", cache_prompt=False))


@pytest.mark.parametrize("first, second", [(None, "elf-turn"), ("elf-turn", None), ("villain-word", "elf-turn"), ("elf-turn", "villain-word")])
def test_pages_before_the_sequence_are_shared(live, first, second):
    text = f"{first} {second}. {LONG} So listen well. {LONG}"  # of this pair alone
    cold = ask(live, text, adapter=second, cache_prompt=False)
    before = ask(live, text, adapter=first)
    after = ask(live, text, adapter=second)
    assert cached(before) == 0 and said(after) == said(cold)
    from_where = [a["adapter"][0]["active_from"] if a["adapter"] else a["usage"]["prompt_tokens"] for a in (before, after)]
    assert cached(after) == (min(*from_where, after["usage"]["prompt_tokens"] - 1)) // PAGE * PAGE
    # The same voice again finds all of it, ordinary LoRA nothing.
    assert cached(ask(live, text, adapter=second)) == (after["usage"]["prompt_tokens"] - 1) // PAGE * PAGE
    assert cached(ask(live, text, adapter="elf")) == 0


def test_a_conversation_with_the_base_goes_on_with_the_adapter(live):
    """The use of it: the base has talked, and the adapter is asked for the next turn."""
    turns = [{"role": "user", "content": f"Who is the miller? {LONG}"}]
    answer = ask(live, turns)
    turns += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"]}, {"role": "user", "content": "And then?"}]
    told = ask(live, turns, adapter="elf-turn")
    assert cached(told) >= (answer["usage"]["prompt_tokens"] - 1) // PAGE * PAGE > 60
    assert said(told) == said(ask(live, turns, adapter="elf-turn", cache_prompt=False)) != said(ask(live, turns))


def test_what_does_not_go_with_it_is_refused(live):
    for change, param in (({"alora_invocation_tokens": [4, 1 << 20]}, "alora_invocation_tokens"), ({"alora_invocation_tokens": "<|assistant|>"}, "alora_invocation_tokens"),
                          ({"alora_invocation_tokens": [4] * 300}, "alora_invocation_tokens")):
        shutil.rmtree(live.folder / "spoilt", ignore_errors=True)
        shutil.copytree(live.folder / "elf-turn", live.folder / "spoilt")
        config = json.loads((live.folder / "spoilt/adapter_config.json").read_text())
        (live.folder / "spoilt/adapter_config.json").write_text(json.dumps({**config, **change}))
        status, answer = live.post("/v1/adapters", {"name": "spoilt", "path": "spoilt"})
        assert status == 400 and param in answer["error"]["message"], answer
