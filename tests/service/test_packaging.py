"""Units, make install, the package and the Dockerfile, as far as any machine can look at them. test_installed.py has the rest."""
import importlib.util
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("CHORUS_BUILD", "build")
UNITS = ROOT / "config/systemd"
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")


def run(*command, **kw):
    env = dict(os.environ, **kw.pop("env", {}))
    return subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, env=env, timeout=300, **kw)


def install(tmp, what="install", **env):
    done = run("scripts/install.sh", what, BUILD, env={"DESTDIR": str(tmp), "DEMO": "no", **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(tmp):
    return sorted("/" + str(p.relative_to(tmp)) for p in tmp.rglob("*") if p.is_file())


# ---- units ----

@needs_systemd
def test_exposure():
    done = run("systemd-analyze", "security", "--offline=true", UNITS / "chorus.service")
    exposure = float(re.search(r"exposure level for chorus.service: ([\d.]+)", done.stdout).group(1))
    print(f"figure: systemd-analyze security: {exposure} of at most 3.0")
    assert exposure <= 3.0
    assert "char-nvidia" in (UNITS / "chorus.service").read_text()


@needs_systemd
@pytest.mark.parametrize("unit", ["chorus.service", "chorus.socket", "user/chorus.service"])
def test_units_verify(tmp_path, unit):
    """Every line is known; paths are made to exist here."""
    user = unit.startswith("user/")
    for name in ("chorus.service", "chorus.socket"):
        source = UNITS / ("user" if user else "") / name
        if source.exists():
            (tmp_path / name).write_text(source.read_text().replace("/usr/bin/chorus", str(BUILD / "chorus")))
    done = run("systemd-analyze", "verify", *(["--user"] if user else []), "--man=no", tmp_path / Path(unit).name, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("no user manager can be asked here")
    assert done.stderr.strip() == "" and done.returncode == 0, done.stderr


def test_units_and_server_agree():
    """Exit codes, the state's folders and the drain time are those of the server."""
    unit = (UNITS / "chorus.service").read_text()
    codes = dict(re.findall(r"(CMD_EXIT_\w+) = (\d)", (ROOT / "server/cmd.h").read_text()))
    assert f"RestartForceExitStatus={codes['CMD_EXIT_DEVICE_LOST']}\n" in unit and f"RestartPreventExitStatus={codes['CMD_EXIT_USAGE']}\n" in unit
    drain_s = int(re.search(r"#drain-timeout = (\d+)", (ROOT / "config/chorus.conf").read_text()).group(1)) / 1000
    assert drain_s + 10 <= int(re.search(r"TimeoutStopSec=(\d+)\n", unit).group(1))


# ---- make install ----

def test_install_and_uninstall(tmp_path):
    install(tmp_path)
    listed = install(tmp_path, "list").split()
    assert files(tmp_path) == sorted(listed)
    binary = tmp_path / "usr/local/bin/chorus"
    assert stat.S_IMODE(binary.stat().st_mode) == 0o755 and str(ROOT).encode() not in binary.read_bytes()
    assert run(binary, "--version").stdout.startswith("chorus ")
    unit = (tmp_path / "usr/local/lib/systemd/system/chorus.service").read_text()
    assert "ExecStart=/usr/local/bin/chorus serve --config /etc/chorus/chorus.conf\n" in unit and "/usr/bin/chorus" not in unit
    install(tmp_path, "uninstall")
    assert files(tmp_path) == []


def test_other_folders(tmp_path):
    where = {"PREFIX": "/opt/c", "SYSCONFDIR": "/opt/etc", "LOCALSTATEDIR": "/opt/var"}
    install(tmp_path, **where)
    made = files(tmp_path)
    assert all(f.startswith("/opt/") for f in made), made
    for f in made:
        if "systemd" in f or f.endswith(".conf"):
            text = "\n".join(l for l in (tmp_path / f.lstrip("/")).read_text().split("\n") if not l.startswith("#"))
            assert not re.search(r"(?<![\w/])/(usr|etc|var)/", text), f
    install(tmp_path, "uninstall", **where)
    assert files(tmp_path) == []


def test_edited_settings_stay(tmp_path):
    """DESTDIR is for packages and writes always; an administrator's install does not overwrite what was edited."""
    where = {"DESTDIR": "", "PREFIX": str(tmp_path / "p"), "SYSCONFDIR": str(tmp_path / "e"), "LOCALSTATEDIR": str(tmp_path / "v")}
    install(tmp_path, **where)
    conf = tmp_path / "e/chorus/chorus.conf"
    conf.write_text(conf.read_text() + "port = 9\n")
    assert "was edited and stays" in install(tmp_path, **where)
    assert conf.read_text().endswith("port = 9\n") and not (tmp_path / "e/chorus/chorus.conf.dist").read_text().endswith("port = 9\n")
    install(tmp_path, "uninstall", **where)
    assert files(tmp_path) == ["/e/chorus/chorus.conf"]


def test_installed_settings_are_read(tmp_path):
    """The service's settings, with the demo model in force, are what the loader takes."""
    install(tmp_path, DEMO="yes", PREFIX="/usr")
    conf = tmp_path / "etc/chorus/chorus.conf"
    shown = run(BUILD / "chorus", "serve", "--config", conf, "--print-config")
    assert shown.returncode == 0, shown.stderr
    live = [l.split("#")[0].strip() for l in shown.stdout.split("\n") if l and not l.startswith(("#", "["))]
    assert "model = /usr/share/chorus/models/storyteller" in live
    assert [l for l in live if l.startswith("adapters = ")] == ["adapters = /usr/share/chorus/models/storyteller/adapters", "adapters = /var/lib/chorus/adapters"]
    assert (tmp_path / "usr/share/chorus/models/storyteller/model.safetensors").exists()


def test_manual_and_completions_are_sound(tmp_path):
    install(tmp_path)
    share = tmp_path / "usr/local/share"
    assert run("bash", "-n", share / "bash-completion/completions/chorus").returncode == 0
    for page in ("man1/chorus.1", "man5/chorus.conf.5"):
        assert (share / "man" / page).read_text().count(".TH ") == 1


# ---- the package ----

@pytest.mark.skipif(not (shutil.which("dpkg-deb") and shutil.which("dpkg-shlibdeps")), reason="dpkg-dev is not here")
def test_deb(tmp_path):
    made = []
    for name in ("a", "b"):
        done = run("scripts/make-deb.sh", BUILD, tmp_path / name, env={"DEMO": "no", "DEB_COMPRESSION": "gzip", "SOURCE_DATE_EPOCH": "1700000000",
                                                                       "LINTIAN": "yes" if name == "a" else "no"})
        assert done.returncode == 0, done.stdout + done.stderr
        made.append(next((tmp_path / name).glob("*.deb")))
    print("figure: " + done.stdout.split("\n")[0])
    assert made[0].read_bytes() == made[1].read_bytes()  # the same sources, the same package
    field = lambda f: run("dpkg-deb", "-f", made[0], f).stdout.strip()
    for library in ("libc6", "libuv1", "libmicrohttpd12", "libcjson1", "libpcre2-8-0", "libutf8proc2", "adduser"):
        assert re.search(rf"(^|, ){re.escape(library)}( |,|$)", field("Depends")), field("Depends")
    control = tmp_path / "control"
    run("dpkg-deb", "-e", made[0], control)
    assert (control / "conffiles").read_text() == "/etc/chorus/chorus.conf\n"
    for script in ("postinst", "prerm", "postrm"):
        assert os.access(control / script, os.X_OK) and run("sh", "-n", control / script).returncode == 0
        if shutil.which("shellcheck"):
            assert run("shellcheck", control / script).stdout == ""
    listing = run("dpkg-deb", "-c", made[0]).stdout
    assert all(l.split()[1] == "root/root" for l in listing.splitlines()) and "/usr/local" not in listing
    if not shutil.which("lintian"):
        print("figure: lintian is not here, the package was not checked")


# ---- the image ----

def docker_check():
    spec = importlib.util.spec_from_file_location("docker_check", ROOT / "scripts/docker_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("asked,wanted", [
    ({"smi": ""}, {"sm_90"}), ({"smi": "8.9\n12.0\n7.5\n8.9\n"}, {"sm_89", "sm_120"}), ({"smi": "NVIDIA-SMI has failed 1.2\n"}, {"sm_90"}), ({"CUDA_ARCHS": "80 86 89 90 120", "CUDA_PTX": "80"}, {"sm_80", "sm_86", "sm_89", "sm_90", "sm_120", "compute_80"}),
    ({"CUDA_PTX80": "1"}, {"compute_80"})])
def test_kernels_are_compiled_for_what_was_asked(tmp_path, asked, wanted):
    """By default for the cards that are here; a release's kernels hold code for each card and PTX for later ones. As make would run nvcc, which need not be here."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '%s' '{asked.get('smi', '')}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    asked = [f"{k}={v}" for k, v in asked.items() if k != "smi"]
    done = run("make", "-n", "CUDA=nvcc", "NVCC=/nowhere/bin/nvcc", f"BUILD={tmp_path}/build", *asked, "card-objects", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("/nowhere/bin/nvcc")]
    assert len(lines) >= 10, done.stderr
    assert all(set(re.findall(r"code=(\w+)", line)) == wanted for line in lines), lines[0]


def test_dockerfile():
    check = docker_check()
    stages = {s.name: s for s in check.parse((ROOT / "Dockerfile").read_text())}
    assert list(stages) == ["build-cpu", "build-cuda", "cpu", "cuda"]  # the last is what `docker build` makes
    sent = check.context()
    assert not [f for f in sent if f.startswith(("tests/", "build/", ".git/", ".ci/"))] and "Makefile" in sent
    # Another list of cards in a later make would compile the kernels again, for those alone.
    makes = [part for word, rest in stages["build-cuda"].steps if word == "RUN" for part in rest.split("&&") if part.strip().startswith("make ")]
    assert makes and all('CUDA_ARCHS="${CUDA_ARCHS}" CUDA_PTX="${CUDA_PTX}"' in m for m in makes), makes
    cpu, cuda = stages["cpu"], stages["cuda"]
    assert cuda.base.startswith("nvidia/cuda:") and "-runtime-" in cuda.base and cpu.base == "debian:bookworm-slim"
    for s in (cpu, cuda):
        assert s.user == "10001:10001" and s.entry == ["/usr/bin/chorus"] and s.command == ["serve"] and s.health == ["/usr/bin/chorus", "health"]
        assert s.ports == [8080] and s.volumes == ["/state"]
        copied = [w for word, rest in s.steps if word == "COPY" and "--from" not in rest for w in rest.split() if not w.startswith("--")][0::2]
        assert copied and all(any(f == c or f.startswith(c + "/") for f in sent) for c in copied), copied
    # The two differ in the card's parts alone.
    own = lambda s: [step for step in s.steps if "build-" not in step[1]]
    assert own(cpu) == own(cuda) and cpu.env.items() <= cuda.env.items()
    named = set(re.findall(r"CHORUS_(\w+)", (ROOT / "Dockerfile").read_text().partition("FROM")[2]))
    options = run(BUILD / "chorus", "serve", "--help").stdout
    assert all("--" + n.lower().replace("_", "-") in options for n in named), named


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not here")
def test_dockerfile_hadolint():
    done = run("hadolint", "Dockerfile")
    assert done.returncode == 0, done.stdout
