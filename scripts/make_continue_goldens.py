#!/usr/bin/env python3
"""Captures what transformers makes of continue_final_message: tests/jinja/continue_final.json.gz, for
test_continue_final.py.

Needs transformers and jinja2. For each template of tests/jinja/templates and each conversation: the text that generation goes on
behind, or null where transformers refuses.
"""
import gzip
import json
import sys
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/jinja"))
from continue_final import TEMPLATES, source_of  # noqa: E402

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
USER = {"role": "user", "content": "Tell me a story."}
SYSTEM = {"role": "system", "content": "Be brief."}

FINALS = {
    "word": "Once upon",
    "space behind": "Once upon a ",
    "spaces around": "  \n Once upon a time\n\n \t",
    "odd spaces": "\u00a0\u2003Once\u00a0",
    "line break behind": "1. one\n",
    "special text": "so <|im_end|> [/INST] </s>",
    "thought": "<think>\nhm\n</think>\n\nOnce",
    "open thought": "<think>\nhm, well",
    "the user's own words": "Tell me a story.",
    "one letter": "a",
    "many bytes": "\u00fcber \U0001f600 \u4e2d\u6587",
    "empty": "",
    "only space": " \n",
    "mark in the text": "CHORUS_CONTINUES_HERE and CHORUS_CONTINUES_HERE on",
    "json": "{\"a\": [1, 2",
}


def conversations():
    for name, text in FINALS.items():
        final = {"role": "assistant", "content": text}
        yield name, [USER, final]
        yield f"{name}, later", [SYSTEM, USER, {"role": "assistant", "content": "Once. "}, {"role": "user", "content": "More?"}, final]
    yield "a thought beside", [USER, {"role": "assistant", "content": "Once", "reasoning_content": "hm", "thinking": "hm"}]
    yield "parts", [USER, {"role": "assistant", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two "}]}]
    yield "nothing", [USER, {"role": "assistant", "content": None}]


def capture(template, messages):
    try:
        texts, _ = render_jinja_template([json.loads(json.dumps(messages))], chat_template=template, continue_final_message=True, **TOKENS)
        return texts[0]
    except Exception:  # transformers, jinja2 and the template itself refuse in many ways
        return None


def main():
    cases = [{"template": path.name, "name": name, "messages": messages, "text": capture(source_of(path.name), messages)}
             for path in sorted(TEMPLATES.glob("*.jinja")) for name, messages in conversations()]
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    text = json.dumps({"versions": versions, "tokens": TOKENS, "cases": cases})
    (ROOT / "tests/jinja/continue_final.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(cases)} cases, {sum(c['text'] is not None for c in cases)} texts")


if __name__ == "__main__":
    main()
