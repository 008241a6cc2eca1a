"""The two sides of every comparison: Python's jinja2 set up as transformers does for chat templates, and `chorus render`."""
import json
import os
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[2]
CHORUS = os.environ.get("CHORUS", str(ROOT / "build/chorus"))


class GenerationBlock(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}: the body, called like the body of a call block."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class GuardedNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        given = dict(*args, **kwargs)
        for name in given:
            GuardedNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name, value):
        GuardedNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore")


class GuardedDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class Raised(jinja2.exceptions.TemplateError):
    """raise_exception of a template."""


def environment():
    def raise_exception(message):
        raise Raised(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    env.globals["dict"] = GuardedDict()
    env.globals["namespace"] = GuardedNamespace
    return env


ENV = environment()


def reference(template, variables):
    """("ok", text) or ("raises", message); the message only where the template chose it."""
    try:
        return "ok", ENV.from_string(template).render(**json.loads(json.dumps(variables)))
    except Raised as e:
        return "raises", str(e)
    except Exception:  # whatever Python raises, we must refuse too
        return "raises", None


_FILE = tempfile.NamedTemporaryFile(suffix=".jinja")


def chorus(template, variables):
    """("ok", text) or ("raises", message)."""
    with open(_FILE.name, "wb") as f:
        f.write(template.encode())
    done = subprocess.run([CHORUS, "render", "--template", _FILE.name], input=json.dumps(variables).encode(), capture_output=True, timeout=60, close_fds=False)
    if done.returncode == 0:
        return "ok", done.stdout.decode()
    assert done.returncode in (1, 3, 4), f"exit {done.returncode}: {done.stderr.decode()}"
    message = done.stderr.decode()
    assert message.startswith("chorus render: ") and message.count("\n") >= 1
    return "raises", message.removeprefix("chorus render: ").rstrip("\n")


def check(template, variables):
    want = reference(template, variables)
    got = chorus(template, variables)
    shown = f"template  {template!r}\nvariables {variables!r}\nwant {want!r}\ngot  {got!r}"
    assert want[0] == got[0], shown
    if want[0] == "ok" and " at 0x" in want[1]:
        return  # a Python object printed with its address
    if want[0] == "ok" or want[1] is not None:
        assert want[1] == got[1], shown
