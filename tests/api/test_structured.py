"""Answers held to a form: response_format and structured_outputs on the demo model, checked by Python's own json, re and
jsonschema. The model is small and knows no JSON: whatever is valid here is valid by construction."""
import json
import re
import threading
import time

import jsonschema
import pytest

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
PERSON = {
    "type": "object", "required": ["name", "age", "kind"], "additionalProperties": False,
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                   "kind": {"enum": ["elf", "dwarf", "man"]}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3}}}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {
    "type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 99}, "l": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
    "required": ["v", "l"], "additionalProperties": False}}}
GBNF = 'root ::= line (", " line){1,4} "."\nline ::= [A-Z] [a-z]{1,9}'


def schema_of(schema, **more):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}}


def check_schema(schema):
    def check(text):
        jsonschema.validate(json.loads(text), schema)
    return check


def check_object(text):
    assert isinstance(json.loads(text), dict)


def check_regex(pattern):
    def check(text):
        assert re.fullmatch(pattern, text), text
    return check


FORMS = {
    "object": ({"response_format": {"type": "json_object"}}, check_object),
    "strict": (schema_of(PERSON | {"required": ["name", "age", "kind", "tags"]}, strict=True), check_schema(PERSON)),
    "schema": ({"structured_outputs": {"json": PERSON}}, check_schema(PERSON)),
    "text": ({"structured_outputs": {"json": json.dumps(PERSON), "disable_any_whitespace": True}}, check_schema(PERSON)),
    "tree": (schema_of(TREE), check_schema(TREE)),
    "regex": ({"structured_outputs": {"regex": r"[A-Z][a-z]{2,8} \d{3}( \w+){0,3}"}}, check_regex(r"[A-Z][a-z]{2,8} \d{3}( \w+){0,3}")),
    "choice": ({"structured_outputs": {"choice": ["red", "green", "reddish", "été"]}}, check_regex("red|green|reddish|été")),
    "gbnf": ({"structured_outputs": {"grammar": GBNF}}, check_regex(r"[A-Z][a-z]{1,9}(, [A-Z][a-z]{1,9}){1,4}\.")),
    "none": ({}, lambda text: None),
}


def ask(server, fields, **more):
    status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": "Who lives in the wood?"}], "max_tokens": 250,
                                        "temperature": 1, **fields, **more})
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("form", [f for f in FORMS if f != "none"])
def test_whole_answers_are_valid(server, form):
    fields, check = FORMS[form]
    whole = 0
    for seed in range(6):
        answer = ask(server, fields, seed=seed, n=2, adapter="wood-elf" if seed % 2 else None)
        for choice in answer["choices"]:
            if choice["finish_reason"] == "stop":
                check(choice["message"]["content"])
                whole += 1
    print(f"{form}: {whole} of 12 answers came to their end")
    assert whole >= (1 if form == "object" else 4)


def test_streams_and_completions(server):
    for name, (fields, check) in FORMS.items():
        text = ask(server, fields, seed=3)["choices"][0]["message"]["content"]
        status, events = server.stream(CHAT, {"messages": [{"role": "user", "content": "Who lives in the wood?"}], "max_tokens": 250,
                                              "temperature": 1, "seed": 3, **fields})
        joined = "".join(json.loads(e)["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]")
        assert status == 200 and joined == text, name
        status, answer = server.post(COMPLETION, {"prompt": "Once upon a time", "max_tokens": 250, "seed": 5, **fields})
        assert status == 200
        if answer["choices"][0]["finish_reason"] == "stop":
            check(answer["choices"][0]["text"])


def test_in_company_as_alone(server):
    """Different grammars, and none, in the same steps."""
    voices = [None, "villain", "summary"]
    work = [(name, voices[i % 3], 100 + i) for i, name in enumerate(list(FORMS) * 2)]
    alone = [ask(server, FORMS[n][0], seed=s, adapter=v)["choices"][0]["message"]["content"] for n, v, s in work]
    together = [None] * len(work)

    def run(i):
        name, voice, seed = work[i]
        together[i] = ask(server, FORMS[name][0], seed=seed, adapter=voice)["choices"][0]["message"]["content"]
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


def test_kinds_are_told_apart(server):
    """The same text as two kinds of grammar."""
    text = 'root ::= "a"'
    assert ask(server, {"structured_outputs": {"grammar": text}})["choices"][0]["message"]["content"] == "a"
    assert ask(server, {"structured_outputs": {"regex": text}})["choices"][0]["message"]["content"] == text


def test_other_fields_keep_their_meaning(server):
    status, answer = server.post("/tokenize", {"prompt": "blue"})
    blue = answer["tokens"] if "tokens" in answer else answer["ids"]
    form = {"structured_outputs": {"choice": ["red", "blue"]}}
    first = [t for t in blue if isinstance(t, int)][-4:]
    for bias, wanted in ((-100, "red"), (100, "blue")):
        answer = ask(server, form, temperature=0, logit_bias={str(t): bias for t in first}, logprobs=True, top_logprobs=3)
        assert answer["choices"][0]["message"]["content"] == wanted
        for token in answer["choices"][0]["logprobs"]["content"]:
            assert token["logprob"] <= 0 and len(token["top_logprobs"]) == 3
    answer = ask(server, {"structured_outputs": {"regex": "[a-z ]{0,400}"}}, min_tokens=30, seed=1)
    assert answer["usage"]["completion_tokens"] >= 30
    assert re.fullmatch("[a-z ]{0,400}", answer["choices"][0]["message"]["content"])
    answer = ask(server, {"structured_outputs": {"regex": "[a-z ]{300,400}"}}, max_tokens=5)
    assert answer["choices"][0]["finish_reason"] == "length"
    answer = ask(server, {"structured_outputs": {"choice": ["red"]}}, ignore_eos=True, min_tokens=100)
    assert answer["choices"][0]["message"]["content"] == "red" and answer["choices"][0]["finish_reason"] == "stop"
    answer = ask(server, {"structured_outputs": {"regex": "[a-z]+,[a-z]+"}}, stop=[","], seed=2)
    assert re.fullmatch("[a-z]+", answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("fields,param", [
    ({"response_format": []}, "response_format"), ({"response_format": {"type": 1}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}}, "response_format.json_schema.schema"),
    (schema_of({"type": "object", "unevaluatedProperties": False, "contains": {}}), "response_format.json_schema.schema"),
    (schema_of({"type": "strin"}), "response_format.json_schema.schema"),
    (schema_of({"type": "object", "properties": {"a": {}}}, strict=True), "response_format.json_schema.schema"),
    ({"structured_outputs": {"json": 1}}, "structured_outputs.json"), ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"), ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs.regex"),
    ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"), ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"), ({"structured_outputs": {"grammar": ""}}, "structured_outputs.grammar"),
    ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs.grammar"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs.regex"),
])
def test_bad_forms_are_refused_by_name(server, fields, param):
    status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": "hi"}], **fields})
    assert status == 400 and answer["error"]["param"] == param, answer


def test_unsupported_keywords_are_named(server):
    status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": "hi"}], **schema_of({"type": "object", "if": {}, "then": {}})})
    assert status == 400 and "if" in answer["error"]["message"], answer


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = {
    "deep groups": {"structured_outputs": {"grammar": "root ::= " + "(" * 200000 + '"a"' + ")" * 200000}},
    "deep schema": schema_of(nested(28)),
    "deep calls": {"structured_outputs": {"grammar": "root ::= r0\n" + "".join(f'r{i} ::= r{i + 1} "b"\n' for i in range(9000)) + 'r9000 ::= "a"'}},
    "many rules": {"structured_outputs": {"grammar": 'root ::= "a"\n' + "".join(f'r{i} ::= "b"\n' for i in range(20000))}},
    "repetition": {"structured_outputs": {"grammar": "root ::= " + "(" * 6 + '"a"' + "{1000})" * 6}},
    "optional repetition": {"structured_outputs": {"grammar": "root ::= " + "(" * 4 + '"a"?' + "{999})" * 4}},
    "regex repetition": {"structured_outputs": {"regex": "((((a{1,100}){1,100}){1,100}){1,100}){1,100}"}},
    "regex states": {"structured_outputs": {"regex": "(a|b)*a(a|b){28}"}},
    "left recursion": {"structured_outputs": {"grammar": 'root ::= root "a" | "b"'}},
    "empty loops": {"structured_outputs": {"grammar": 'root ::= (((("a"?)*)*)*)*'}},
    "ambiguous": {"structured_outputs": {"grammar": 'root ::= root root root | "a" | ""'}},
    "large choice": {"structured_outputs": {"choice": [f"choice number {i}" for i in range(9000)]}},
    "circle of references": schema_of({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    "multiplied choices": schema_of({"allOf": [{"anyOf": [{"type": "object", "properties": {f"p{i}{k}": {}}} for k in range(6)]} for i in range(12)]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_forms_are_bounded(server, name):
    """Answered or refused soon, and nobody else waits."""
    worst = 0.0
    done = threading.Event()

    def watch():
        nonlocal worst
        while not done.is_set():
            begin = time.monotonic()
            server.request("GET", "/health")
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.01)
    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.monotonic()
    status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 30, **HOSTILE[name]})
    took = time.monotonic() - begin
    done.set()
    watcher.join()
    print(f"{name}: {status} in {took * 1000:.0f} ms, /health at worst {worst * 1000:.0f} ms")
    assert status in (200, 400), answer
    assert took < 10 and worst < 1


def test_clients_that_leave(server):
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 1500, "ignore_eos": True,
                       "structured_outputs": {"regex": "[a-z ]{2000,}"}}).encode()
    head = (f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    for wanted in (0, 400, 2000):
        with server.connect() as s:
            s.sendall(head + body)
            got = 0
            while got < wanted:
                got += len(s.recv(4096))
    assert server.wait_metric("chorus_requests_running", 0) < 5
