"""What schemathesis loads beside server/openapi.json (test_random.py): names and numbers that mean something to the server under
test, valid requests mended where one member depends on another (a schema cannot say that), events checked one by one, and a
count of the answers in CHORUS_RANDOM_COUNTS."""
import atexit
import collections
import json
import os
import zlib

import schemathesis

from strict import event_validator, problem

NAMES = json.loads(os.environ["CHORUS_RANDOM_NAMES"])  # {"base": ..., "adapters": [...], "vocab": ..., "paths": [...]}
EXTRA = ["extra-0", "extra-1", "extra-2"]
ENDS = ("message_stop", "response.completed", "response.incomplete", "response.failed")
COUNTS = collections.Counter()
VALIDATORS = {}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    raw_schema["components"]["schemas"]["TokenId"]["maximum"] = NAMES["vocab"] - 1


def given(body, key):
    return body.get(key) is not None


def pick(names, word):
    """One of the names; the same word means the same one."""
    return names[zlib.crc32(repr(word).encode()) % len(names)]


def use_of(item):
    voice = pick(NAMES["adapters"], item["name"] if isinstance(item, dict) else item)
    return {**item, "name": voice} if isinstance(item, dict) else voice


def scales(items):
    items = [{**item, "id": item["id"] % len(NAMES["adapters"])} for item in items]
    return list({item["id"]: item for item in items}.values())[:4]


def mend_voice(body):
    named = [key for key in ("adapter", "lora", "model") if body.get(key) or isinstance(body.get(key), list)]
    for key in named[1:]:
        del body[key]
    if body.get("model"):
        forms = ("{base}", "{voice}", "{base}:{voice}")
        body["model"] = pick(forms, body["model"]).format(base=NAMES["base"], voice=pick(NAMES["adapters"], body["model"]))
    if isinstance(body.get("adapter"), list):
        uses = [use_of(item) for item in body["adapter"]]
        body["adapter"] = list({u["name"] if isinstance(u, dict) else u: u for u in uses}.values())
    elif body.get("adapter"):
        body["adapter"] = use_of(body["adapter"])
    if body.get("lora"):
        body["lora"] = scales(body["lora"])


def mend_tools(body):
    for i, tool in enumerate(body.get("tools") or []):
        tool.get("function", tool)["name"] = f"tool_{i}"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("auto", "any", "tool"):
        if body.get("tools"):
            choice.update({"name": "tool_0"} if choice["type"] == "tool" else {})
        else:
            del body["tool_choice"]
        return
    if not body.get("tools") and choice not in (None, "none", "auto"):
        del body["tool_choice"]
    elif isinstance(choice, dict):
        body["tool_choice"] = {"type": "function", **({"name": "tool_0"} if "name" in choice else {"function": {"name": "tool_0"}})}


def mend_answer(body):
    if given(body, "top_logprobs") and "messages" in body:
        body["logprobs"] = True
    for key, most in (("max_tokens", 24), ("max_output_tokens", 24), ("max_completion_tokens", 24), ("n", 3), ("best_of", 4)):  # so that there is time for many
        if given(body, key):
            body[key] = min(body[key], most)
    limits = [body[k] for k in ("max_tokens", "max_output_tokens", "max_completion_tokens") if given(body, k)]
    if given(body, "min_tokens") and body["min_tokens"] > min(limits or [8]):
        body["min_tokens"] = 0
    if given(body, "best_of") and (body["best_of"] < (body.get("n") or 1) or body.get("stream")):
        del body["best_of"]
    if isinstance(body.get("logit_bias"), dict):
        body["logit_bias"] = {k: v for k, v in body["logit_bias"].items() if not k.isdigit() or int(k) < NAMES["vocab"]}
    formats = [body.get("response_format"), (body.get("text") or {}).get("format"), (body.get("output_config") or {}).get("format")]
    if any(formats) and given(body, "structured_outputs"):
        del body["structured_outputs"]
    if isinstance(body.get("structured_outputs"), dict):
        asked = [k for k in ("choice", "json", "regex", "grammar", "json_object") if body["structured_outputs"].get(k) is not None]
        for k in asked[1:]:
            del body["structured_outputs"][k]


def mend_chat(body):
    if isinstance(body.get("input"), list):  # nor calls
        body["input"] = [i for i in body["input"] if not isinstance(i, dict) or not str(i.get("type")).startswith("function_call")] or "hi"
    for m in body.get("messages") or []:
        if m["role"] in ("tool", "function"):  # the demo model's template knows none
            m["role"] = "user"
    if body.get("continue_final_message"):
        body.pop("add_generation_prompt", None)
        last = (body.get("messages") or [{}])[-1]
        if last.get("role") != "assistant" or not last.get("content"):
            del body["continue_final_message"]
    kwargs = body.get("chat_template_kwargs")
    if isinstance(kwargs, dict):
        body["chat_template_kwargs"] = {f"x_{k}": v for k, v in kwargs.items() if not k.endswith("_token")}


def mend_adapter(body):
    """Names of their own, so that the voices stay."""
    for key in ("name", "lora_name"):
        if body.get(key):
            body[key] = pick(EXTRA, body[key])
    for key in ("path", "lora_path"):
        if body.get(key):
            body[key] = pick(NAMES["adapters"], body[key])
    if body.get("blend"):
        body["blend"] = list({u["name"]: u for u in map(use_of, body["blend"])}.values())


@schemathesis.hook
def before_call(context, case, kwargs):
    if not (case.meta and case.meta.generation.mode.is_positive):
        return
    path = case.operation.path
    if path == "/v1/adapters/{name}":
        case.path_parameters["name"] = pick(NAMES["adapters"] if case.method == "GET" else EXTRA, case.path_parameters["name"])
    elif path == "/v1/models/{id}":
        case.path_parameters["id"] = pick([NAMES["base"], *NAMES["adapters"]], case.path_parameters["id"])
    elif isinstance(case.body, list):
        case.body = scales(case.body)
    elif isinstance(case.body, dict) and (path == "/v1/adapters" or path.endswith("lora_adapter")):
        mend_adapter(case.body)
    elif isinstance(case.body, dict):
        for mend in (mend_voice, mend_tools, mend_answer, mend_chat):
            mend(case.body)


@schemathesis.check
def events(ctx, response, case):
    """Each event of a stream is what the description says, and the stream ends as it should."""
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return None
    validator = VALIDATORS.setdefault(case.operation.path, event_validator(case.operation.schema.raw_schema, case.operation.path))
    blocks = response.content.decode("utf-8").split("\n\n")
    assert blocks.pop() == "", "the stream ends within an event"
    data = []
    for block in blocks:
        name, _, rest = block.rpartition("\n")
        if not block.startswith(":"):
            data.append(rest.removeprefix("data: "))
            assert not name or name == "event: " + json.loads(data[-1])["type"], block
    last = data[-1] if blocks[-1].startswith("event: ") else data.pop()
    assert last == "[DONE]" or json.loads(last).get("type") in ENDS or "error" in json.loads(last), last
    for payload in data:
        wrong = problem(validator, json.loads(payload))
        assert wrong is None, f"{payload}: {wrong}"
    return None


@schemathesis.check
def named(ctx, response, case):
    """A 400 for a JSON object names the member that is wrong."""
    if response.status_code == 400 and isinstance(case.body, dict) and case.method == "POST" and case.meta.generation.mode.is_negative:
        error = json.loads(response.content)["error"]
        assert error.get("param") or "'" in error["message"] or "JSON" in error["message"] or "body" in error["message"], error
    return None


@schemathesis.hook
def after_call(context, case, response):
    mode = case.meta.generation.mode.value if case.meta else "none"
    COUNTS[f"{mode} {case.method} {case.operation.path} {response.status_code}"] += 1


@atexit.register
def write_counts():
    with open(os.environ["CHORUS_RANDOM_COUNTS"], "w") as f:
        json.dump(COUNTS, f)
