"""Thoughts between the model's tags: reasoning_content beside content, whole and streamed, counted, and given back in later turns."""
import json
import shutil

import pytest
from openai import OpenAI

from conftest import DEMO, start_real

CHAT = "/v1/chat/completions"
# What the fake model says is the prompt's last message, a byte a token.
ANSWERS = [
    ("<think>hm, well</think>Hello", "hm, well", "Hello"),
    ("<think>\nhm\n</think>\n\nHello\n", "hm", "Hello\n"),
    ("<think></think>Hello", None, "Hello"),
    ("Hello <think>x</think>", None, "Hello <think>x</think>"),
    (" <b>Hello</b>", None, " <b>Hello</b>"),
    ("<think>über 😀 </thin", "über 😀 </thin", ""),
    ("<thinker>", None, "<thinker>"),
    ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
]


def streamed(s, body, index=0):
    status, payloads = s.stream(CHAT, body)
    assert status == 200 and payloads[-1] == "[DONE]"
    thought, said, tokens = "", "", 0
    for p in payloads[:-1]:
        for c in json.loads(p)["choices"]:
            if c["index"] != index:
                continue
            assert not said or "reasoning_content" not in c["delta"], "a thought behind what is said"
            thought += c["delta"].get("reasoning_content", "")
            said += c["delta"].get("content", "")
            tokens += len(c["logprobs"]["content"]) if c["logprobs"] else 0
    return thought, said, tokens


@pytest.mark.parametrize("text,thought,said", ANSWERS)
def test_split(plain, text, thought, said):
    answer = plain.chat(text)
    message = answer["choices"][0]["message"]
    assert message.get("reasoning_content") == thought and message["content"] == said
    assert ("reasoning_content" in message) == (thought is not None)
    body = {"messages": [{"role": "user", "content": text}], "logprobs": True}
    assert streamed(plain, body) == (thought or "", said, answer["usage"]["completion_tokens"])
    whole = plain.post(CHAT, {**body, "n": 2})[1]["choices"]
    for i, choice in enumerate(whole):
        assert choice["message"].get("reasoning_content") == thought and choice["message"]["content"] == said
        assert len(choice["logprobs"]["content"]) == answer["usage"]["completion_tokens"]
        assert streamed(plain, {**body, "n": 2}, i)[:2] == (thought or "", said)


def test_counts_and_limits(plain):
    text = "<think>hm, well</think>Hello"
    details = plain.chat(text)["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == len(">hm, well</think>")  # from the token that completes the tag
    assert plain.chat("Hello")["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    choice = plain.chat(text, max_tokens=10)["choices"][0]
    assert choice["message"]["content"] == "" and choice["message"]["reasoning_content"] == "hm," and choice["finish_reason"] == "length"


def test_completions_are_not_split(plain):
    status, answer = plain.post("/v1/completions", {"prompt": "<think>a</think>b", "max_tokens": 50})
    assert status == 200 and answer["choices"][0]["text"] == "<think>a</think>b"


def test_sdk_reads_it(plain):
    client = OpenAI(base_url=plain.url + "/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "<think>hm</think>Hello"}]
    message = client.chat.completions.create(model="fake", messages=messages).choices[0].message
    assert message.reasoning_content == "hm" and message.content == "Hello"
    chunks = list(client.chat.completions.create(model="fake", messages=messages, stream=True))
    deltas = [c.choices[0].delta for c in chunks]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "hm"
    assert "".join(d.content or "" for d in deltas) == "Hello"


def test_thoughts_of_earlier_turns(plain):
    for name in ("reasoning_content", "reasoning", "thinking"):
        before = {"role": "assistant", "content": "b", name: "hm"}
        status, _ = plain.post(CHAT, {"messages": [{"role": "user", "content": "a"}, before, {"role": "user", "content": "c"}]})
        assert status == 200
        status, answer = plain.post(CHAT, {"messages": [{**before, name: 5}]})
        assert status == 400 and answer["error"]["param"] == f"messages[0].{name}"


THINKER = """{%- for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|end|>{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% if enable_thinking is false %}<think>

</think>

{% else %}<think>
{% endif %}{% endif %}"""


def test_prompt_that_opens_the_thought(tmp_path):
    """A template may begin the thought itself: then all is thought until the tag comes. The demo model never closes it."""
    model = tmp_path / "thinker"
    shutil.copytree(DEMO, model, ignore=shutil.ignore_patterns("adapters"))
    (model / "chat_template.jinja").write_text(THINKER)
    s = start_real(tmp_path, "--model", str(model))
    user = {"role": "user", "content": "Tell me a story about a fox."}
    try:
        def ask(messages, **fields):
            status, answer = s.post(CHAT, {"messages": messages, "temperature": 0, "max_tokens": 12, **fields})
            assert status == 200, answer
            return answer["choices"][0]["message"], answer["usage"]["completion_tokens_details"]["reasoning_tokens"]

        message, tokens = ask([user])
        assert message["content"] == "" and message["reasoning_content"] and tokens == 12
        assert streamed(s, {"messages": [user], "temperature": 0, "max_tokens": 12})[:2] == (message["reasoning_content"], "")
        message, tokens = ask([user], chat_template_kwargs={"enable_thinking": False})
        assert message["content"] and "reasoning_content" not in message and tokens == 0
        # The user's own words open nothing.
        message, _ = ask([user, {"role": "assistant", "content": "A"}, {"role": "user", "content": "what is <think>"}], add_generation_prompt=False)
        assert "reasoning_content" not in message
        # A message that is continued inside its thought goes on thinking.
        for text, thinks in (("<think>It is", True), ("<think>It is</think>Once", False), ("Once", False)):
            message, _ = ask([user, {"role": "assistant", "content": text}], continue_final_message=True)
            assert ("reasoning_content" in message) == thinks, (text, message)
        prompt = s.post("/apply-template", {"messages": [user, {"role": "assistant", "content": "Yes.", "thinking": "hm"}, user]})[1]["prompt"]
        assert "<|assistant|><think>hm</think>Yes.<|end|>" in prompt
    finally:
        assert s.stop() == 0
