"""A Debian machine that boots: systemd as process 1 of namespaces of its own, on a debootstrap'd tree under a layer that is thrown away.

Needs root, debootstrap (once, with the network) and a kernel with overlayfs. No network but loopback inside.
"""
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(os.environ.get("CHORUS_CHROOT", ROOT / "build/chroot"))
MIRROR = os.environ.get("CHORUS_MIRROR", "http://deb.debian.org/debian")
# Beside minbase: what a server has anyway. What the package needs is fetched, not installed: apt does that in the test.
INCLUDE = "systemd systemd-sysv curl procps"
NEEDED = "adduser libmicrohttpd12 libcjson1 libuv1 libpcre2-8-0 libutf8proc2 libstdc++6"

BOOT = r"""
set -e
mount --make-rprivate /
mkdir -p $T/layer && mount -t tmpfs -o size=2g tmpfs $T/layer && mkdir $T/layer/up $T/layer/work $T/layer/root
R=$T/layer/root
mount -t overlay overlay -o lowerdir=$BASE,upperdir=$T/layer/up,workdir=$T/layer/work $R
mkdir -p $R/outside && mount --bind $T/shared $R/outside
mount -t proc proc $R/proc
mount -t sysfs sysfs $R/sys
for d in run tmp; do mount -t tmpfs tmpfs $R/$d; done
mount -t tmpfs -o mode=755 tmpfs $R/dev
for d in null zero full random urandom tty; do touch $R/dev/$d; mount --bind /dev/$d $R/dev/$d; done
mkdir $R/dev/pts $R/dev/shm; mount -t devpts -o newinstance,ptmxmode=0666 devpts $R/dev/pts; mount -t tmpfs tmpfs $R/dev/shm
ln -s /proc/self/fd $R/dev/fd; ln -s pts/ptmx $R/dev/ptmx
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} $R/dev/${n#*:}; done
if mount -t cgroup2 cgroup2 $R/sys/fs/cgroup && grep -q memory $R/sys/fs/cgroup/cgroup.controllers; then :; else
    umount $R/sys/fs/cgroup 2>/dev/null || true
    mount -t tmpfs tmpfs $R/sys/fs/cgroup
    mkdir $R/sys/fs/cgroup/systemd $R/sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup $R/sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 $R/sys/fs/cgroup/unified || true
    for c in memory pids devices cpu; do mkdir $R/sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup $R/sys/fs/cgroup/$c || true; done
fi
ip link set lo up 2>/dev/null || true
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb chroot $R /lib/systemd/systemd --log-target=journal
"""


def why_not():
    """A reason that no machine can be had, or None."""
    if os.environ.get("CHORUS_DEB_TEST") != "1":
        return "make deb-test boots the package on a machine of its own"
    if os.geteuid() != 0:
        return "root is needed to boot a machine"
    if not (BASE / "etc/debian_version").exists() and not shutil.which("debootstrap"):
        return "debootstrap is not here"
    return None


def make_base():
    if (BASE / "complete").exists():
        return
    shutil.rmtree(BASE, ignore_errors=True)
    BASE.mkdir(parents=True)
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(BASE), MIRROR], check=True, stdout=subprocess.DEVNULL)
    shutil.copy("/etc/resolv.conf", BASE / "etc/resolv.conf")
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    subprocess.run(["chroot", str(BASE), "sh", "-c", f"apt-get update && {apt} {INCLUDE} && {apt} --download-only {NEEDED}"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for unit in ("systemd-networkd", "systemd-resolved", "systemd-timesyncd"):
        (BASE / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
    (BASE / "complete").touch()


class Machine:
    def __init__(self, tmp):
        make_base()
        self.shared = tmp / "shared"
        self.shared.mkdir()
        self.log = open(tmp / "boot.log", "wb")
        env = dict(os.environ, T=str(tmp), BASE=str(BASE))
        self.process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", "--net", "sh", "-c", BOOT],
                                        env=env, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True)
        self.wait("test -S /run/systemd/private && systemctl is-system-running", 60)

    def pid(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, command, check=True, timeout=120):
        """A shell command inside -> (exit code, output)."""
        pid = self.pid()
        if not pid:
            assert self.process.poll() is None, Path(self.log.name).read_text()
            return 1, ""
        done = subprocess.run(["nsenter", "-t", pid, "-m", "-p", "-u", "-i", "-C", "-n", "-r", "-w", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                               "TERM=dumb", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "sh", "-c", command],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        text = done.stdout.decode(errors="replace").strip()
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{text}"
        return done.returncode, text

    def __call__(self, command, **kw):
        return self.run(command, **kw)[1]

    def wait(self, command, timeout=20):
        """Until a command succeeds; its output."""
        end = time.monotonic() + timeout
        while True:
            code, text = self.run(command, check=False)
            if code == 0:
                return text
            assert time.monotonic() < end, f"{command}: {code}\n{text}\n{self.run('journalctl -n 40 --no-pager', check=False)[1]}"
            time.sleep(0.1)

    def property(self, name, unit="chorus"):
        return self(f"systemctl show {unit} -p {name} --value")

    def end(self):
        self.process.kill()  # process 1 goes with it, and so does everything inside
        self.process.wait()
        self.log.close()
