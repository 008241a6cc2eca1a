"""What is generated of the option table, as shells and manual readers take it."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from conftest import BUILD

CHORUS = str(BUILD / "chorus")


def chorus(*args, **more):
    return subprocess.run([CHORUS, *args], capture_output=True, text=True, timeout=30, **more)


def needs(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


def bash(script, words, cwd):
    """What bash offers at the last of `words`, split as readline splits them."""
    split = [w for word in words for w in re.split(r"(=)", word) if w] + ([""] if words[-1] == "" else [])
    if words[-1] == "":
        split = [w for w in split if w] + [""]
    quoted = " ".join("'" + w.replace("'", "'\\''") + "'" for w in split)
    code = f'. "{script}"; COMP_WORDS=({quoted}); COMP_CWORD={len(split) - 1}; _chorus; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, cwd=cwd, timeout=30)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return [line for line in done.stdout.split("\n") if line]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = chorus("completion", shell)
        assert done.returncode == 0 and done.stderr == ""
        (folder / f"chorus.{shell}").write_text(done.stdout)
    files = folder / "files"
    files.mkdir()
    (files / "a b.conf").write_text("")
    (files / "models x").mkdir()
    (files / "model-y").mkdir()
    return folder


def commands():
    return re.findall(r"^  (\w+)  ", chorus("--help").stdout, re.M)


CASES = [
    (["chorus", "ser"], {"serve"}),
    (["chorus", "serve", "--backe"], {"--backend"}),
    (["chorus", "serve", "--log"], {"--log-level", "--log-format"}),
    (["chorus", "serve", "--backend", ""], {"auto", "cpu", "cuda"}),
    (["chorus", "serve", "--backend", "c"], {"cpu", "cuda"}),
    (["chorus", "serve", "--backend=c"], {"cpu", "cuda"}),
    (["chorus", "serve", "--no-pre"], {"--no-prefix-cache"}),
    (["chorus", "serve", "--port", ""], set()),
    (["chorus", "serve", "--model", "mod"], {"models x", "model-y"}),
    (["chorus", "serve", "--model=mod"], {"models x", "model-y"}),
    (["chorus", "serve", "--adapter", "elf=mod"], {"models x", "model-y"}),
    (["chorus", "serve", "--adapter=elf=mod"], {"models x", "model-y"}),
    (["chorus", "serve", "--config", "a"], {"a b.conf"}),
    (["chorus", "inspect", "mod"], {"models x", "model-y"}),
    (["chorus", "completion", ""], {"bash", "zsh", "fish"}),
    (["chorus", "completion", "z"], {"zsh"}),
    (["chorus", "man", "chorus.c"], {"chorus.conf.5"}),
    (["chorus", "help", "bench"], {"bench"}),
    (["chorus", "nonsense", ""], set()),
]


@pytest.mark.parametrize("words,want", CASES, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_bash(scripts, words, want):
    needs("bash")
    got = bash(scripts / "chorus.bash", words, scripts / "files")
    if "--log" in words:
        assert want <= set(got) and all(g.startswith("--log") for g in got)
    else:
        assert set(got) == want


def test_bash_offers_all(scripts):
    """Every command, and of each every option that its help lists."""
    needs("bash")
    files = scripts / "files"
    assert set(commands()) | {"help", "--help", "--version"} == set(bash(scripts / "chorus.bash", ["chorus", ""], files))
    for command in commands():
        helped = set(re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", chorus(command, "--help").stdout, re.M))
        offered = {o for o in bash(scripts / "chorus.bash", ["chorus", command, "--"], files) if not o.startswith("--no-")}
        assert helped and offered == {f"--{name}" for name in helped}


def fish(scripts, line):
    done = subprocess.run(["fish", "--no-config", "-c", f"source {scripts}/chorus.fish; complete -C '{line}'"],
                          capture_output=True, text=True, cwd=scripts / "files", timeout=30)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return {row.split("\t")[0] for row in done.stdout.split("\n") if row}


def test_fish(scripts):
    needs("fish")
    assert set(commands()) <= fish(scripts, "chorus ")
    assert fish(scripts, "chorus serve --backe") == {"--backend"}
    assert fish(scripts, "chorus serve --backend c") == {"cpu", "cuda"}
    assert fish(scripts, "chorus serve --no-pre") == {"--no-prefix-cache"}
    assert fish(scripts, "chorus serve --model mod") == {"models x/", "model-y/"}
    assert fish(scripts, "chorus serve --config a") == {"a b.conf"}
    assert fish(scripts, "chorus completion ") == {"bash", "zsh", "fish"}
    assert fish(scripts, "chorus serve --jso") == set()


def zsh(scripts, line):
    """The line after pressing tab behind it, as zsh's editor has it then."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(scripts / "files")
        os.execvpe("zsh", ["zsh", "-f", "-i"], {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "HOME": str(scripts), "LC_ALL": "C.UTF-8"})
    heard = b""

    def hear(what):
        nonlocal heard
        end = time.monotonic() + 20
        while not re.search(what, heard, re.S):
            assert time.monotonic() < end, (what, heard)
            if select.select([terminal], [], [], 1)[0]:
                heard += os.read(terminal, 65536)

    def say(text):
        os.write(terminal, text.encode())

    try:
        say("unsetopt prompt_sp; autoload -Uz compinit; compinit -u -D; stty rows 500 cols 200\n")
        say(f"source {scripts}/chorus.zsh\n")
        say('show() { print -r -- "GOT<$BUFFER>"; BUFFER=; zle accept-line }; zle -N show; bindkey "^X" show; print RE""ADY\n')
        hear(rb"READY")
        say(line + "\t\x18")
        hear(rb"GOT<[^$][^>]*>")
        return re.search(rb"GOT<([^$][^>]*)>", heard)[1].decode().rstrip()
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("typed,becomes", [
    ("chorus ser", "chorus serve"),
    ("chorus serve --backe", "chorus serve --backend="),
    ("chorus serve --backend cu", "chorus serve --backend cuda"),
    ("chorus serve --model=model-", "chorus serve --model=model-y/"),
    ("chorus serve --config a", "chorus serve --config a\\ b.conf"),
    ("chorus serve --no-pre", "chorus serve --no-prefix-cache"),
    ("chorus completion f", "chorus completion fish"),
    ("chorus tokenize --js", "chorus tokenize --jsonl"),
])
def test_zsh(scripts, typed, becomes):
    needs("zsh")
    assert zsh(scripts, typed) == becomes


@pytest.mark.parametrize("page,title", [("chorus.1", "CHORUS(1)"), ("chorus.conf.5", "CHORUS.CONF(5)")])
def test_manual(tmp_path, page, title):
    done = chorus("man", page)
    assert done.returncode == 0
    source = tmp_path / page
    source.write_text(done.stdout)
    if not shutil.which("mandoc") and not shutil.which("man"):
        pytest.skip("neither mandoc nor man is installed")
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-Tlint", source], capture_output=True, text=True)
        assert lint.stdout == "" and lint.returncode == 0, lint.stdout
        text = subprocess.run(["mandoc", "-Tascii", source], capture_output=True, text=True).stdout
        text = re.sub(r".\x08", "", text)
        assert title in text
        for command in ("serve", "bench") if page == "chorus.1" else ():
            for name in re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", chorus(command, "--help").stdout, re.M):
                assert re.search(rf"^ +--(\[no-\])?{name}\b", text, re.M), name
        if page == "chorus.conf.5":
            for name in re.findall(r"^#([a-z0-9-]+) =", open("config/chorus.conf").read(), re.M):
                assert re.search(rf"^ +{name} = ", text, re.M), name
    if shutil.which("man"):
        warned = subprocess.run(["man", "--warnings", "-l", source], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        assert warned.returncode == 0 and warned.stderr == "", warned.stderr


def test_wrong_usage_is_told():
    for args, says in [((), "usage: chorus COMMAND"), (("serv",), 'unknown command "serv"; is serve meant?'), (("completion", "csh"), "bash, zsh or fish"),
                       (("man", "chorus.9"), "chorus.1 and chorus.conf.5"), (("serve", "--prot", "1"), "is --port meant?"), (("inspect",), "one PATH"),
                       (("tokenize",), "--model DIR is needed"), (("render", "x"), "standard input")]:
        done = chorus(*args)
        assert done.returncode == 2 and says in done.stderr and done.stdout == "", (args, done)
