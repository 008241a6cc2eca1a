#!/usr/bin/env python3
"""Runs the steps of a Dockerfile's target where there is no Docker engine, and then what it makes.   docker_check.py [--target cpu]

Each stage is a layer over a debootstrap'd tree (build/docker/base; as root, with overlayfs): COPY keeps to .dockerignore, RUN runs in
a chroot. Then the image's user starts its entry point and command on a network of its own, and the health check has to end with 0.
"""
import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("CHORUS_DOCKER", ROOT / "build/docker"))
MIRROR = os.environ.get("CHORUS_MIRROR", "http://deb.debian.org/debian")
DEBIAN = {"debian:bookworm-slim": "bookworm"}


def instructions(text):
    """-> [(keyword, rest)], comments out and continued lines joined."""
    lines, joined = [l for l in text.split("\n") if not l.lstrip().startswith("#")], []
    for line in lines:
        if joined and joined[-1].endswith("\\"):
            joined[-1] = joined[-1][:-1] + " " + line.strip()
        else:
            joined.append(line.strip())
    return [tuple(l.split(None, 1)) for l in joined if l]


class Stage:
    def __init__(self, base, name, args):
        self.base, self.name, self.args = base, name, dict(args)
        self.steps, self.env, self.dir, self.user = [], {}, "/", None
        self.entry, self.command, self.health, self.ports, self.volumes = [], [], None, [], []


def fill(text, values):
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: values.get(m.group(1) or m.group(2), m.group(0)), text)


def parse(text):
    stages, globals_ = [], {}
    for word, rest in instructions(text):
        word = word.upper()
        s = stages[-1] if stages else None
        if word == "ARG":
            name, _, value = rest.partition("=")
            (s.args if s else globals_).setdefault(name, value.strip('"'))
        elif word == "FROM":
            m = re.fullmatch(r"(\S+)(?:\s+AS\s+(\S+))?", rest, re.I)
            stages.append(Stage(fill(m.group(1), globals_), m.group(2) or str(len(stages)), {}))
        elif word == "ENV":
            s.env.update(p.split("=", 1) for p in shlex.split(fill(rest, {**s.args, **s.env})))
        elif word in ("COPY", "RUN", "WORKDIR", "USER"):
            s.steps.append((word, rest))
            s.user = rest if word == "USER" else s.user
        elif word in ("ENTRYPOINT", "CMD", "VOLUME"):
            setattr(s, {"ENTRYPOINT": "entry", "CMD": "command", "VOLUME": "volumes"}[word], json.loads(rest))
        elif word == "HEALTHCHECK":
            s.health = json.loads(rest[rest.index("CMD") + 3:])
        elif word == "EXPOSE":
            s.ports.append(int(rest))
        elif word != "STOPSIGNAL":
            raise SystemExit(f"docker-check: {word} is not known here")
    return stages


def ignored(path, rules):
    """.dockerignore: a rule holds for a path or a folder above it."""
    parts = path.split("/")
    heads = ["/".join(parts[:i + 1]) for i in range(len(parts))]
    return any(fnmatch.fnmatch(h, r) or (r.startswith("**/") and fnmatch.fnmatch(h.split("/")[-1], r[3:])) for r in rules for h in heads)


def context():
    """The files that a build would be sent: those of the repository, less .dockerignore."""
    rules = [l.strip() for l in (ROOT / ".dockerignore").read_text().split("\n") if l.strip() and not l.startswith("#")]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [f for f in listed.stdout.split("\n") if f and not ignored(f, rules) and (ROOT / f).is_file()]


def base_tree(image):
    suite = DEBIAN.get(image)
    if not suite:
        raise SystemExit(f"docker-check: {image} cannot be had without an engine, only {', '.join(DEBIAN)}")
    tree = WORK / "base"
    if not (tree / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        print(f"docker-check: debootstrap {suite} stands for {image}", flush=True)
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(tree), MIRROR], check=True, stdout=subprocess.DEVNULL)
        (tree / "complete").touch()
    return tree


class Runner:
    def __init__(self, stages):
        self.stages = {s.name: s for s in stages}
        self.made = {}
        self.files = context()
        self.layers = WORK / "layers"
        self.layers.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(self.layers)], check=True)

    def tree(self, stage):
        if stage.name in self.made:
            return self.made[stage.name]
        lower = self.tree(self.stages[stage.base]) if stage.base in self.stages else base_tree(stage.base)
        place = self.layers / stage.name
        for d in ("up", "work", "root"):
            (place / d).mkdir(parents=True)
        root = place / "root"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={place / 'up'},workdir={place / 'work'}", str(root)], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
        subprocess.run(["mount", "--bind", "/dev", str(root / "dev")], check=True)
        for word, rest in stage.steps:
            print(f"docker-check: {stage.name}: {word} {rest[:100]}", flush=True)
            getattr(self, word.lower())(stage, root, rest)
        self.made[stage.name] = root
        return root

    def workdir(self, stage, root, rest):
        stage.dir = rest
        (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def user(self, stage, root, rest):
        stage.user = rest

    def run(self, stage, root, rest):
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **stage.args, **stage.env}
        # ccache, where the machine has it, is not the image's.
        done = subprocess.run(["chroot", str(root), "/bin/sh", "-c", f"cd {shlex.quote(stage.dir)} && {rest}"], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"docker-check: {stage.name}: RUN ended with {done.returncode}\n{done.stdout[-3000:]}")

    def copy(self, stage, root, rest):
        words = shlex.split(rest)
        flags = dict(w[2:].split("=", 1) for w in words if w.startswith("--"))
        *sources, to = [w for w in words if not w.startswith("--")]
        target = root / str(Path(stage.dir) / to).lstrip("/")
        for source in sources:
            if "from" in flags:
                pairs = self.pairs(self.tree(self.stages[flags["from"]]), source.lstrip("/"), None)
            else:
                pairs = self.pairs(ROOT, source, self.files)
            if not pairs:
                raise SystemExit(f"docker-check: COPY {source}: nothing of that name (see .dockerignore)")
            for file, rel in pairs:
                place = target / (rel or file.name) if rel or to.endswith("/") or target.is_dir() else target
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
                if "chown" in flags:
                    uid, gid = map(int, flags["chown"].split(":"))
                    for p in (place, *place.parents):
                        if p == target.parent:
                            break
                        os.chown(p, uid, gid)

    @staticmethod
    def pairs(top, source, files):
        """[(file, its path below a copied folder, "" for a single file)]"""
        source = "" if source == "." else source.rstrip("/")
        if files is None:
            here = top / source
            found = [here] if here.is_file() else [p for p in here.rglob("*") if p.is_file()]
            return [(p, "" if p == here else str(p.relative_to(here))) for p in found]
        if source in files:
            return [(top / source, "")]
        return [(top / f, f[len(source):].lstrip("/")) for f in files if not source or f.startswith(source + "/")]


SERVE = r"""
import json, os, subprocess, sys, time, urllib.request
root, uid, gid, env, start, health, where = json.loads(sys.argv[1])
subprocess.run(["ip", "link", "set", "lo", "up"], check=False) if os.path.exists("/sbin/ip") or os.path.exists("/usr/sbin/ip") else None
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))  # SIOCSIFFLAGS: up
inside = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
def command(args):
    return ["chroot", root, "/usr/bin/env", "-i", *[f"{k}={v}" for k, v in env.items()], "/usr/bin/" + inside[0], *inside[1:], "sh", "-c", f"cd {where} && exec \"$@\"", "sh", *args]
p = subprocess.Popen(command(start), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
end = time.monotonic() + 120
while subprocess.run(command(health), capture_output=True).returncode:
    if p.poll() is not None or time.monotonic() > end:
        p.kill()
        sys.exit("docker-check: not healthy\n" + p.stdout.read())
    time.sleep(0.2)
body = json.dumps({"adapter": "wood-elf", "max_tokens": 12, "messages": [{"role": "user", "content": "Tell me a story."}]}).encode()
answer = json.load(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions", body, {"Content-Type": "application/json"})))
status = dict(l.split(":\t", 1) for l in open(f"/proc/{p.pid}/status") if ":\t" in l)
p.terminate()
code = p.wait(30)
after = subprocess.run(command(health), capture_output=True).returncode
print(f"docker-check: serves as uid {status['Uid'].split()[0]}, {answer['usage']['completion_tokens']} tokens by {answer['adapter'][0]['name']}; "
      f"ends with {code} at SIGTERM; the health check then ends with {after}")
sys.exit(0 if code == 0 and after != 0 and status["Uid"].split()[0] == str(uid) != "0" else 1)
"""


def serve(stage, root):
    """What `docker run` and the health check would do."""
    uid, gid = (int(x) for x in stage.user.split(":"))
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **stage.env}
    spec = json.dumps([str(root), uid, gid, env, stage.entry + stage.command, stage.health, stage.dir])
    return subprocess.run(["unshare", "--net", sys.executable, "-c", SERVE, spec]).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("docker-check: root is needed for the chroots")
    if not args.inside:
        return subprocess.run(["unshare", "--mount", sys.executable, __file__, "--inside", "--target", args.target]).returncode
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    if shutil.which("hadolint"):
        subprocess.run(["hadolint", str(ROOT / "Dockerfile")], check=True)
    stages = parse((ROOT / "Dockerfile").read_text())
    runner = Runner(stages)
    stage = runner.stages[args.target]
    begin = time.monotonic()
    root = runner.tree(stage)
    size = sum(f.stat().st_size for f in root.parent.joinpath("up").rglob("*") if f.is_file() and not f.is_symlink())
    print(f"docker-check: {args.target}: {len(runner.files)} files sent, {size >> 20} MiB over the base, {time.monotonic() - begin:.0f} s")
    return serve(stage, root)


if __name__ == "__main__":
    sys.exit(main())
