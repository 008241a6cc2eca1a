"""chorus run: a chat on a terminal, in pipes, with a server and with a model of its own."""
import contextlib
import json
import re
import shutil
import signal
import subprocess
import time

import pytest

from commands import CHORUS, answering, environment, http, nobody, run, terminal
from conftest import DEMO, ROOT, SLOW

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
OWN = ("--model", DEMO, "--adapters", DEMO / "adapters", "--threads", 1)


# ---- one question ----

@pytest.mark.parametrize("where", ["server", "own"])
def test_one_answer(server, where):
    at = ("--url", server.url) if where == "server" else OWN
    args = (*at, "--adapter", "villain", "--temperature", "0", "--max-tokens", "12")
    code, out, err = run("run", "-p", "Tell me a story.", *args)
    assert code == 0 and err == "" and out.endswith("\n") and len(out) > 10
    wanted = server.chat("Tell me a story.", adapter="villain", temperature=0, max_tokens=12)["choices"][0]["message"]["content"]
    assert out == wanted + "\n"
    assert run("run", "--prompt=-", *args, stdin=b"Tell me a story.\n")[1] == out
    assert run("run", *args, stdin=b"Tell me a story.")[1] == out, "a pipe is one question"


def test_a_pipe_of_many_lines_is_one_question(fake):
    s = fake()
    assert run("run", "--url", s.url, stdin="one\ntwo\n\nthrée\n".encode())[:2] == (0, "one\ntwo\n\nthrée\n")
    assert run("run", "--url", s.url, "--system", "be kind", "-p", "hi")[1] == "hi\n"
    assert run("run", "--url", s.url, "--adapter", "wood-elf*0.7+villain*0.3", "-p", "hi")[1] == "[wood-elf] [villain] hi\n"


def test_what_is_left_open_is_the_voices_own():
    seen = []

    def answer(request):
        head, _, body = request.partition(b"\r\n\r\n")
        if b"/v1/models" in head:
            return http('{"data":[{"id":"m","parent":null}]}')
        seen.append(json.loads(body))
        return http('data: {"choices":[{"delta":{"content":"ok"}}]}\n\ndata: [DONE]\n\n', kind="text/event-stream")

    with answering(answer) as url:
        assert run("run", "--url", url, "-p", "hi")[:2] == (0, "ok\n")
        assert run("run", "--url", url, "-p", "hi", "--temperature", "0", "--top-p", "0.5", "--seed", "7")[0] == 0
    assert not {"temperature", "top_p", "seed"} & set(seen[0]) and seen[0]["max_tokens"] == 1024 and seen[0]["model"] == "m"
    assert (seen[1]["temperature"], seen[1]["top_p"], seen[1]["seed"]) == (0, 0.5, 7)


def test_a_model_of_its_own_speaks_by_profiles(tmp_path):
    """As in the server: system prompt, template and sampling of the adapter; what was asked for wins; what is not understood is refused."""
    shutil.copytree(DEMO / "adapters/villain", tmp_path / "plain")
    for name, profile in (("formal", {"system": "Tell of a dragon, a ship and the sea.", "sampling": {"temperature": 0}}), ("other", {"chat_template": "{{ messages[-1].content }}", "sampling": {"temperature": 0}}),
                          ("bad", {"sytem": "x"})):
        shutil.copytree(DEMO / "adapters/villain", tmp_path / name)
        (tmp_path / name / "chorus.json").write_text(json.dumps(profile))
    own = ("run", "--model", DEMO, "--adapters", tmp_path, "--threads", 1, "-p", "Tell me a story about a lantern.", "--max-tokens", 24)

    def say(*args):
        code, out, err = run(*own, *args)
        assert code == 0, err
        return out

    plain = say("--adapter", "plain", "--temperature", 0)
    formal = say("--adapter", "formal")
    assert formal == say("--adapter", "plain", "--temperature", 0, "--system", "Tell of a dragon, a ship and the sea.") != plain
    assert say("--adapter", "formal", "--system", "My own.") == say("--adapter", "plain", "--temperature", 0, "--system", "My own.") != formal
    assert say("--adapter", "other") not in (plain, formal)
    assert say("--adapter", "formal", "--temperature", 2, "--seed", 1) != formal
    # A blend has nobody's manners.
    assert say("--adapter", "formal*0.5+other*0.5", "--temperature", 0) == say("--adapter", "plain", "--temperature", 0)
    # Refused as the server refuses it: in a folder with a line, by name with the end.
    code, _, err = run(*own, "--adapter", "bad")
    assert code == 1 and "there is no adapter 'bad'" in err and "chorus.json: sytem" in err, err
    code, out, err = run(*own, "--adapter", f"worse={tmp_path / 'bad'}")
    assert code == 3 and out == "" and "adapter worse" in err and "chorus.json: sytem" in err, (code, err)


@pytest.mark.parametrize("args,stdin,code,why", [
    (("--adapter", "nobody", "-p", "x"), b"", 1, "there is no adapter 'nobody'; there are image-prompt"),
    (("--adapter", "a b c d e", "-p", "x"), b"", 2, "at most"), (("--adapter", "elf*x", "-p", "x"), b"", 2, "no weight"),
    (("--adapter", "../etc", "-p", "x"), b"", 2, "no name"), (("--adapter", "elf=/x", "-p", "x"), b"", 2, "goes with --model"), ((), b"", 2, "no text"), ((), b"\n\n", 2, "no text"), ((), b"a\0b", 2, "no text"),
    (("hello",), b"", 2, "--prompt"), (("--model", str(DEMO), "-p", "x"), b"", 2, "not both"), (("-p",), b"", 2, "needs a value"),
    (("--max-tokens", "0", "-p", "x"), b"", 2, "max-tokens")])
def test_wrong_usage(server, args, stdin, code, why):
    got, out, err = run("run", "--url", server.url, *args, stdin=stdin)
    assert got == code and out == "" and why in err and err.count("\n") == 1, (got, err)


def test_no_server_and_no_model():
    url = nobody()
    code, out, err = run("run", "--url", url, "-p", "x")
    assert code == 5 and out == "" and f"no server answers at {url}" in err and "--model DIR" in err
    code, out, err = run("run", "--model", "/nowhere", "-p", "x")
    assert code == 3 and out == "" and "/nowhere" in err


def test_a_model_in_a_settings_file_is_the_servers(server, tmp_path):
    (tmp_path / "chorus").mkdir()
    (tmp_path / "chorus/chorus.conf").write_text(f"model = /nowhere\nport = {server.port}\n")
    assert run("run", "-p", "x", "--max-tokens", 2, CHORUS_CONFIG="", XDG_CONFIG_HOME=str(tmp_path))[0] == 0


def test_errors_of_the_server(server, fake, tmp_path):
    code, out, err = run("run", "--url", server.url, "-p", "x " * 5000)
    assert code == 2 and "context" in err and err.count("\n") == 1
    code, out, err = run("run", "--url", fake().url, "-p", "@fail please")
    assert code == 1 and out == "@fa\n" and err.startswith("chorus run: ")
    (tmp_path / "keys").write_text("sk-one\n")
    s = fake(keys=tmp_path / "keys")
    assert run("run", "--url", s.url, "-p", "x")[0] == 1
    assert run("run", "--url", s.url, "-p", "x", CHORUS_API_KEY="sk-one")[:2] == (0, "x\n")


@pytest.mark.parametrize("stream", [
    b"", b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n', b'data: {"choices":7}\n\n', b"data: []\n\ndata: nonsense\n\n", b"\x1b[2J",
    b'data: {"error":{"message":"\\u001b[31mgone"}}\n\n'])
def test_streams_that_break_off(stream):
    def answer(request):
        if b"/v1/models" in request:
            return http('{"data":[{"id":"m\\u001b[2J"}]}')
        return http(stream, kind="text/event-stream")

    with answering(answer) as url:
        code, out, err = run("run", "--url", url, "-p", "hi")
        assert code in (1, 5) and not CONTROL.search(out + err) and err.count("\n") == 1, (code, out, err)


def test_interrupted(fake):
    s = fake(step_us=5000)
    p = subprocess.Popen([CHORUS, "run", "--url", s.url, "-p", "@long hello", "--max-tokens", "3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert p.stdout.read(5) == b"@long"
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20 * SLOW)
    assert p.returncode == 130 and out.endswith(b"\n") and err == b""
    s.wait_metric("chorus_requests_running", 0)


def test_a_reader_that_leaves(fake):
    s = fake(step_us=200)
    done = subprocess.run(f"{CHORUS} run --url {s.url} -p '@long hello' --max-tokens 3000 | head -c 20", shell=True, stdout=subprocess.PIPE,
                          env=environment(), timeout=30 * SLOW)
    assert done.stdout == b"@long hello@long hel"
    s.wait_metric("chorus_requests_running", 0)


# ---- a conversation ----

def test_a_conversation(fake):
    s = fake()
    with terminal("run", "--url", s.url) as t:
        assert "fake at http://127.0.0.1" in t.until(r"ends\r\n> ")
        t.send("hello there\n")
        assert "\nhello there\n" in t.until(r"\(\d+ tokens, .*?\)\r\n> ")
        t.send("/voices\n")
        assert "* base\n  wood-elf\n  villain" in t.until(r"image-prompt\r\n> ")
        t.send("/voice wood-elf\n")
        assert "speaking: wood-elf" in t.until("wood-elf> ")
        t.send("again\n")
        assert "[wood-elf] again" in t.until(r"\)\r\nwood-elf> ")
        t.send("/again\n")
        assert "[wood-elf] again" in t.until(r"\)\r\nwood-elf> ")
        t.send("/voice villain*0.5 summary*0.25\n")
        t.until(r"villain\*0\.5\+summary\*0\.25> ")
        t.send("/voice nobody\n")
        assert "there is no adapter 'nobody'" in t.until(r"0\.25> ")
        t.send("/voice\n")
        assert "speaking: base" in t.until(r"base\r\n> ")
        t.send('"""first\nsecond\n\nthird"""\n')
        assert " first\nsecond\n\nthird\n(" in t.until(r"\)\r\n> ")
        t.send("one\\\n")
        t.until(r"\.\.\. ")
        t.send("two\n")
        assert "\none\ntwo\n(" in t.until(r"\)\r\n> ")
        t.send("/set temperature 0.5\n")
        assert "temperature 0.5, top-p 0" in t.until("> ")
        t.send("/set temperature hot\n")
        assert "/set temperature" in t.until("> ")
        t.send("/nonsense\n")
        assert "there is no /nonsense" in t.until("> ")
        t.send("/help\n")
        assert "/voice [NAME]" in t.until(r"answer\.\r\n> ")
        t.send("/clear\n/again\n")
        assert "nothing was asked yet" in t.until("yet\r\n> ")
        t.send("\x04")
        assert t.end() == 0


def test_what_was_said_is_told_again():
    seen = []

    def answer(request):
        head, _, body = request.partition(b"\r\n\r\n")
        if b"/v1/models" in head:
            return http('{"data":[{"id":"m"}]}')
        seen.append([(m["role"], m["content"]) for m in json.loads(body)["messages"]])
        thought = 'data: {"choices":[{"delta":{"reasoning_content":"hmm"}}]}\n\n'
        return http(thought + 'data: {"choices":[{"delta":{"content":"ok\\u001b[31m\\u009b!"}}]}\n\ndata: [DONE]\n\n', kind="text/event-stream")

    with answering(answer) as url, terminal("run", "--url", url, "--system", "S") as t:
        t.until("> ")
        t.send("one\n")
        assert "\x1b[2mhmm\x1b[0m\nok?[31m?!\n" in t.until(r"\)\r\n> "), "thoughts are dim, what is said steers no terminal"
        t.send("two\n")
        t.until(r"\)\r\n> ")
        t.send("/system T\n")
        t.until("anew\r\n> ")
        t.send("three\n")
        t.until(r"\)\r\n> ")
        t.send("/quit\n")
        assert t.end() == 0
    said = "ok\x1b[31m\x9b!"
    assert seen == [[("system", "S"), ("user", "one")], [("system", "S"), ("user", "one"), ("assistant", said), ("user", "two")],
                    [("system", "T"), ("user", "three")]]


@pytest.mark.parametrize("own", [False, True])
def test_ctrl_c(fake, server, own):
    s = fake(step_us=5000)
    at = OWN if own else ("--url", s.url)
    with terminal("run", *at, "--max-tokens", "2000", "--temperature", "0", "--adapter", "wood-elf") as t:
        t.until("wood-elf> ", timeout=60)
        with t.slowed() if own else contextlib.nullcontext():  # the demo model says all of it in 90 ms
            t.send("Tell me a story about a lantern.\n" if own else "@long hello\n")
            t.until(r"(lantern\.|long hello)\r\n.{3}")
            t.interrupt()
            t.until(r"interrupted\)\r\nwood-elf> ")
        t.send('"""begun\n')
        t.until(r"\.\.\. ")
        t.interrupt()
        t.until("wood-elf> ")
        t.interrupt()
        assert t.end() == 0
    if not own:
        s.wait_metric("chorus_requests_running", 0)


def test_a_server_that_goes_away(fake):
    s = fake()
    with terminal("run", "--url", s.url) as t:
        t.until("> ")
        s.stop()
        t.send("hello\n")
        t.until(r"no server answers at .*?\r\n> ")
        t.send("/quit\n")
        assert t.end() == 0
