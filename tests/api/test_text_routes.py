"""The routes that only deal with text and tokens, in the dialects of vLLM, llama-server and Anthropic; /props and /version."""
import json
import subprocess
import threading
import time

import pytest

from conftest import BUILD, VOICES
from test_cancel import request

TEXTS = ["", " ", "Tell me a story.", "über 😀\n\n\t中文 e\u0301", "<|user|> is a special token's text", "a" * 3000]
USER = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_back(server, text):
    status, vllm = server.post("/tokenize", {"model": "storyteller", "prompt": text, "return_token_strs": True})
    assert status == 200 and vllm["count"] == len(vllm["tokens"]) == len(vllm["token_strs"]) and vllm["max_model_len"] == 2048
    status, llama = server.post("/tokenize", {"content": text})
    assert status == 200
    # vLLM's dialect adds the model's own prefix (a bos), llama-server's does not.
    assert vllm["tokens"][1:] == llama["tokens"] and llama["token_strs"] is None
    assert server.post("/tokenize", {"prompt": text, "add_special_tokens": False})[1]["tokens"] == llama["tokens"]
    assert server.post("/tokenize", {"content": text, "add_special": True})[1]["tokens"] == vllm["tokens"]
    status, back = server.post("/detokenize", {"tokens": llama["tokens"]})
    assert status == 200 and back == {"prompt": text, "content": text}
    status, pieces = server.post("/tokenize", {"content": text, "with_pieces": True})
    assert [p["id"] for p in pieces["tokens"]] == llama["tokens"]
    joined = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces["tokens"])
    assert joined.decode() == text


def test_special_text(server):
    count = {special: server.post("/tokenize", {"content": "<|user|>", "parse_special": special})[1]["count"] for special in (True, False)}
    assert count[True] == 1 < count[False]


def test_chat_counts_agree(server):
    """What /tokenize and count_tokens say of a chat is what a request pays, and /apply-template shows its text."""
    system = {"role": "system", "content": "Be brief. <|end|>"}
    asked = server.chat("x", max_tokens=1, messages=[system] + USER)["usage"]["prompt_tokens"]
    status, tokens = server.post("/tokenize", {"messages": [system] + USER})
    assert status == 200 and tokens["count"] == asked
    body = {"model": VOICES[0], "max_tokens": 5, "system": [{"type": "text", "text": system["content"], "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": USER[0]["content"]}]}]}
    assert server.post("/v1/messages/count_tokens", body) == (200, {"input_tokens": asked})
    assert server.post("/v1/messages/count_tokens", {**body, "system": system["content"]}) == (200, {"input_tokens": asked})
    status, text = server.post("/apply-template", {"messages": [system] + USER})
    assert status == 200
    assert text["prompt"].endswith("<|system|>Be brief. <|end|><|end|><|user|>Tell me a story about a fox.<|end|><|assistant|>")
    # The same as `chorus render` makes of it.
    rendered = subprocess.run([BUILD / "chorus", "render", "--model", "models/storyteller"], capture_output=True, check=True,
                              input=json.dumps({"messages": [system] + USER, "add_generation_prompt": True}).encode()).stdout.decode()
    assert text["prompt"] == rendered
    open_end = {"messages": USER + [{"role": "assistant", "content": "Once"}], "continue_final_message": True}
    assert server.post("/apply-template", open_end)[1]["prompt"].endswith("<|assistant|>Once")


@pytest.mark.parametrize("path,body,status,param", [
    ("/tokenize", {}, 400, "prompt"), ("/tokenize", {"prompt": "a", "content": "b"}, 400, "prompt"), ("/tokenize", {"prompt": 5}, 400, "prompt"),
    ("/tokenize", {"content": ["a"]}, 400, "content"), ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, 400, "add_special_tokens"),
    ("/tokenize", {"prompt": "a", "model": "nobody"}, 404, "model"), ("/tokenize", {"prompt": "a", "model": "fake:nobody"}, 404, "model"),
    ("/tokenize", {"messages": []}, 400, "messages"), ("/tokenize", [], 400, None), ("/tokenize", {"prompt": "a", "model": 3}, 400, "model"),
    ("/detokenize", {}, 400, "tokens"), ("/detokenize", {"tokens": "1"}, 400, "tokens"), ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
    ("/detokenize", {"tokens": [260]}, 400, "tokens"), ("/detokenize", {"tokens": [1.5]}, 400, "tokens"), ("/detokenize", {"tokens": [[1]]}, 400, "tokens"),
    ("/apply-template", {}, 400, "messages"), ("/apply-template", {"messages": [{"role": "user", "content": "@raise"}]}, 400, "messages"),
    ("/apply-template", {"messages": USER, "chat_template_kwargs": {"eos_token": "x"}}, 400, "chat_template_kwargs")])
def test_refusals(plain, path, body, status, param):
    got, answer = plain.post(path, body)
    assert got == status and answer["error"]["param"] == param and answer["error"]["message"], answer


def test_empty_lists(plain):
    assert plain.post("/detokenize", {"tokens": []}) == (200, {"prompt": "", "content": ""})
    assert plain.post("/tokenize", {"content": ""})[1]["tokens"] == []
    assert plain.post("/tokenize", {"content": "", "return_token_strs": True})[1]["token_strs"] == []
    assert plain.get("/props")[0] == 200


def test_props_and_version(server):
    status, props = server.get("/props")
    version = subprocess.run([BUILD / "chorus", "--version"], capture_output=True, check=True).stdout.decode().strip()
    assert status == 200 and props["build_info"] == version and props["model_alias"] == "storyteller"
    settings = props["default_generation_settings"]
    assert settings["n_ctx"] == 2048 and props["total_slots"] == 64
    assert settings["params"]["temperature"] == 0.8 and settings["params"]["top_p"] == 0.95
    assert server.get("/version") == (200, {"version": version.removeprefix("chorus ")})


def test_slots(fake):
    """One slot for each answer that is being made, the others free; the names are llama-server's."""
    s = fake(step_us=20000)
    status, idle = s.get("/slots")
    total = s.get("/props")[1]["total_slots"]
    assert status == 200 and len(idle) == total and not any(slot["is_processing"] for slot in idle)
    assert [slot["id"] for slot in idle] == list(range(total))
    body = {"messages": USER, "max_tokens": 50, "temperature": 0.5, "stream": True, "ignore_eos": True}
    with s.connect() as c:
        c.sendall(request(body, path="/v1/chat/completions"))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            busy = [slot for slot in s.get("/slots")[1] if slot["is_processing"]]
            if busy and busy[0]["next_token"][0]["n_decoded"] > 1:
                break
            time.sleep(0.02)
        assert len(busy) == 1 and busy[0]["id"] == 0 and busy[0]["params"]["temperature"] == 0.5
        after = busy[0]["next_token"][0]
        assert 1 < after["n_decoded"] and after["n_decoded"] + after["n_remain"] == 50
    deadline = time.monotonic() + 20
    while any(slot["is_processing"] for slot in s.get("/slots")[1]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(slot["is_processing"] for slot in s.get("/slots")[1])


def test_leaving_while_the_pool_works(fake):
    """The client is gone before its text is ready, and the server may end meanwhile."""
    s = fake(prepare_us=300000)
    for _ in range(8):
        with s.connect() as c:
            c.sendall(request({"messages": USER}, path="/tokenize"))
    body = {"messages": USER}
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(s.post("/tokenize", body))) for _ in range(4)]
    for t in waiting:
        t.start()
    for t in waiting:
        t.join()
    assert [status for status, _ in answers] == [200] * 4
    with s.connect() as c:
        c.sendall(request({"messages": USER}, path="/tokenize"))
        time.sleep(0.1)
    s.process.terminate()
    assert s.stop() == 0
