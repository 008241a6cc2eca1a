"""Chat templates in the manner of the big families, and those of real tokenizers where they are at hand, over whole conversations."""
import itertools
import json
import os
from pathlib import Path

import pytest

from jinja_reference import ROOT, check

HERE = Path(__file__).parent
# Directories that hold a tokenizer_config.json each; not part of the project.
REAL = Path(os.environ.get("CHORUS_TOKENIZERS", "/tmp/tok/tokenizers"))

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place, now or later.\nWith <b>details</b>.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "City, e.g. \"Zürich\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "array", "items": {"type": "integer"}, "description": "which days", "default": [1, 2]},
                "limit": {"type": ["number", "null"], "minimum": 0.0, "maximum": 1e3, "default": 1.0},
                "options": {
                    "type": "object",
                    "properties": {"deep": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "boolean"}}}}, "any": {}},
                    "required": ["deep"],
                },
                "variant": {"oneOf": [{"type": "string", "description": "a", "default": "x"}, {"type": "number"}]},
                "items": {"type": "array"},
            },
            "required": ["location", "options"],
        },
        "return": {"type": "object", "description": "what comes back"},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "the time", "parameters": {"type": "object", "properties": {}}}}

SYSTEM = {"role": "system", "content": "  Be brief. /no_think\n"}
USER = {"role": "user", "content": " What's the weather in Zürich? <|im_end|> [INST] 😀 \n"}
ANSWER = {"role": "assistant", "content": "<think>\nhm, well\n</think>\n\nIt is fine.\n"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"location": "Zürich \"x\" </tool_call>", "days": [1, 2.0, None, True], "options": {"deep": []}}}}],
}
TWO_CALLS = dict(CALL, content="let me see", tool_calls=CALL["tool_calls"] + [{"id": "123456789", "type": "function", "function": {"name": "clock", "arguments": {}}}])
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "{\"temp\": 21.5}"}
RESULT2 = {"role": "tool", "tool_call_id": "123456789", "name": "clock", "content": "12:00 <|eot_id|>"}
PARTS = {"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "at this"}]}
AGAIN = {"role": "user", "content": "And tomorrow?"}

CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, AGAIN],
    "system_turns": [SYSTEM, USER, ANSWER, AGAIN, ANSWER],
    "call": [USER, CALL],
    "call_result": [SYSTEM, USER, CALL, RESULT],
    "call_answer": [USER, CALL, RESULT, ANSWER, AGAIN],
    "two_calls": [USER, TWO_CALLS, RESULT, RESULT2, ANSWER],
    "parts": [PARTS],
    "thinking": [USER, dict(ANSWER, content="Fine.", reasoning_content="let me think", thinking="let me think"), AGAIN],
    "wrong_order": [ANSWER, USER],
    "null_content": [USER, dict(CALL, content=None), RESULT],
    "developer": [dict(SYSTEM, role="developer"), USER],
    "named": [dict(USER, name="ann")],
    "empty": [],
}
EXTRA = {
    "plain": {},
    "thinking_off": {"enable_thinking": False},
    "thinking_on": {"enable_thinking": True, "thinking": True},
    "documents": {"documents": [{"title": "T", "text": "doc one"}, {"title": "U", "text": "doc two"}], "controls": {"citations": True, "length": "short"}},
    "kwargs": {"reasoning_effort": "high", "thinking_effort": "odd", "tools_in_user_message": False, "builtin_tools": ["search", "code_interpreter", "get_weather"]},
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def sources():
    for path in sorted((HERE / "templates").glob("*.jinja")):
        yield path.stem, path.read_text()
    for path in sorted(REAL.glob("*/tokenizer_config.json")):
        template = json.loads(path.read_text()).get("chat_template")
        if template:
            yield f"real-{path.parent.name}", template
    for path in sorted(ROOT.glob("models/*/chat_template.jinja")):
        yield f"bundled-{path.parent.name}", path.read_text()


@pytest.mark.parametrize("name,template", [pytest.param(n, t, id=n) for n, t in sources()])
def test_conversations(name, template):
    """Every conversation, with and without tools, with and without a generation prompt, and under a few settings."""
    count = 0
    for (talk, messages), tools, prompt in itertools.product(CONVERSATIONS.items(), (None, [WEATHER, CLOCK]), (False, True)):
        variables = dict(TOKENS, messages=messages, add_generation_prompt=prompt, fixed_date=True)
        if tools:
            variables["tools"] = tools
        check(template, variables)
        count += 1
    for extra in EXTRA.values():
        check(template, dict(TOKENS, messages=CONVERSATIONS["call_answer"], tools=[WEATHER], add_generation_prompt=True, fixed_date=True, **extra))
        check(template, dict(TOKENS, messages=CONVERSATIONS["system"], add_generation_prompt=True, fixed_date=True, **extra))
        count += 2
    print(f"figure: jinja {name}: {count} conversations")
