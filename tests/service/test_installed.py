"""The package on a machine that boots (machine.py): installed, started, upgraded, removed; systemd does with it what the unit says."""
import json
import os
import re
import shutil
import subprocess
import threading
import time

import pytest

from machine import ROOT, Machine, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
BUILD = ROOT / os.environ.get("CHORUS_BUILD", "build")
OLD, NEW = "0.0.9", "0.1.0~test"
FILES = "find / -xdev -not -path '/outside/*' -not -path '/var/log/*' -not -path '/var/cache/apt/*' -not -path '/var/lib/apt/*' | sort"
APT = "apt-get -o Acquire::Languages=none -qq -y --no-install-recommends"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("machine")
    m = Machine(tmp)
    for version in (OLD, NEW):
        subprocess.run([ROOT / "scripts/make-deb.sh", BUILD, m.shared], check=True, cwd=ROOT, env=dict(os.environ, DEB_VERSION=version, LINTIAN="no", DEB_COMPRESSION="none"), stdout=subprocess.DEVNULL)
    m.before = m(FILES).splitlines()
    m.users = m("cut -d: -f1 /etc/passwd /etc/group | sort")
    m.old, m.new = (next(m.shared.glob(f"chorus_{v}_*.deb")).name for v in (OLD, NEW))
    yield m
    print(m.run("journalctl -u chorus --no-pager | tail -60", check=False)[1])
    m.end()


def health(m):
    return m.wait("curl -sf http://127.0.0.1:8080/health")


def test_install_starts(machine):
    out = machine(f"{APT} install /outside/{machine.old}", timeout=300)
    assert "error" not in out.lower() and "warn" not in out.lower(), out
    health(machine)
    assert machine.property("ActiveState") == "active" and machine("systemctl is-enabled chorus") == "enabled"
    machine.wait("systemctl show chorus -p StatusText --value | grep -x 'serving storyteller on 127.0.0.1:8080, 5 adapters, 0 running'")
    body = json.dumps({"adapter": "wood-elf", "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 20})
    answer = json.loads(machine(f"curl -sf http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"))
    assert answer["usage"]["completion_tokens"] == 20 and answer["adapter"][0]["name"] == "wood-elf"


def test_the_units_are_right(machine):
    _, out = machine.run("systemd-analyze verify chorus.service chorus.socket", check=False)
    assert not [l for l in out.splitlines() if "man " not in l], out  # this machine has no man
    exposure = float(re.search(r"exposure level for chorus.service: ([\d.]+)", machine("systemd-analyze security chorus.service")).group(1))
    print(f"figure: systemd-analyze security: {exposure} of at most 3.0")
    assert exposure <= 3.0


def test_the_sandbox_holds(machine):
    pid = machine.property("MainPID")
    status = dict(l.split(":\t", 1) for l in machine(f"cat /proc/{pid}/status").splitlines() if ":\t" in l)
    uid = machine("id -u chorus")
    assert status["Uid"].split() == [uid] * 4 and uid != "0"
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    inside = f"nsenter -t {pid} -m -r setpriv --reuid chorus --regid chorus --init-groups sh -c"
    for path, writable in (("/usr", False), ("/etc/chorus", False), ("/var/lib", False), ("/var/lib/chorus", True), ("/var/cache/chorus", True), ("/tmp", True)):
        assert (machine.run(f"{inside} 'touch {path}/x 2>/dev/null && rm {path}/x'", check=False)[0] == 0) == writable, path
    mounts = machine(f"cat /proc/{pid}/mountinfo")
    root = next(l for l in mounts.splitlines() if l.split()[4] == "/")
    assert "ro" in root.split()[5].split(","), root  # ProtectSystem=strict


def test_adapters_are_put_into_their_folder(machine):
    """A member of the group copies one in; its name works without a restart."""
    machine("useradd -m -G chorus anna && cp -r /usr/share/chorus/models/storyteller/adapters/villain /home/anna/mine")
    machine("setpriv --reuid anna --regid anna --init-groups cp -r /home/anna/mine /var/lib/chorus/adapters/mine")
    machine.wait("curl -sf http://127.0.0.1:8080/v1/adapters | grep -q '\"name\":\"mine\"'")
    machine("rm -r /var/lib/chorus/adapters/mine && userdel -r anna 2>/dev/null")
    machine.wait("! curl -sf http://127.0.0.1:8080/v1/adapters | grep -q '\"name\":\"mine\"'")


def test_reload_keeps_the_process(machine):
    pid = machine.property("MainPID")
    machine("systemctl reload chorus")
    health(machine)
    assert machine.property("MainPID") == pid and machine.property("ActiveState") == "active"


def test_stop_under_load(machine):
    """systemctl stop lets a running answer finish; the unit ends well and is not started again."""
    body = json.dumps({"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 1500, "ignore_eos": True, "stream": True})
    machine("systemctl start chorus")
    health(machine)
    got = []
    t = threading.Thread(target=lambda: got.append(machine.run(f"curl -sN http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'")))
    t.start()
    machine.wait("curl -sf http://127.0.0.1:8080/metrics | grep -x 'chorus_requests_running 1'")
    begin = time.monotonic()
    machine("systemctl stop chorus")
    t.join()
    print(f"figure: systemctl stop under load: {time.monotonic() - begin:.1f} s, the answer has {got[0][1].count('data:')} events")
    assert got[0][0] == 0 and got[0][1].endswith("data: [DONE]")
    assert machine.property("Result") == "success" and machine.property("ActiveState") == "inactive" and machine.property("ExecMainStatus") == "0"
    machine("systemctl start chorus")
    health(machine)


def drop_in(machine, text):
    machine(f"mkdir -p /run/systemd/system/chorus.service.d && printf '[Service]\\n{text}\\n' >/run/systemd/system/chorus.service.d/test.conf && systemctl daemon-reload")


@pytest.fixture
def plain_after(machine):
    yield
    machine("rm -rf /run/systemd/system/chorus.service.d && systemctl daemon-reload && systemctl reset-failed chorus; systemctl restart chorus")
    health(machine)


def test_killed_is_restarted(machine, plain_after):
    drop_in(machine, "RestartSec=100ms")
    machine("systemctl start chorus")
    health(machine)
    pid = machine.property("MainPID")
    machine("systemctl kill -s KILL chorus")
    machine.wait(f"test $(systemctl show chorus -p NRestarts --value) -ge 1 && curl -sf http://127.0.0.1:8080/health")
    assert machine.property("MainPID") != pid


@pytest.mark.parametrize("code,restarts", [(6, True), (3, True), (2, False)])
def test_exit_codes(machine, plain_after, code, restarts):
    """Lost device, a file that is not there yet: started again; a wrong setting: not."""
    machine(f"printf '#!/bin/sh\\ntest -e /run/ended || {{ touch /run/ended; exit {code}; }}\\nexec /usr/bin/chorus serve --config /etc/chorus/chorus.conf\\n' "
            ">/run/once && chmod 755 /run/once && rm -f /run/ended && mkdir -p /run/x")
    machine("chmod 1777 /run")
    drop_in(machine, "RestartSec=100ms\\nExecStart=\\nExecStart=/run/once\\nProtectSystem=no\\nReadWritePaths=/run")
    machine.run("systemctl restart chorus", check=False)
    if restarts:
        machine.wait("test $(systemctl show chorus -p NRestarts --value) = 1 && curl -sf http://127.0.0.1:8080/health")
    else:
        machine.wait("test -e /run/ended")
        time.sleep(1)  # ten times RestartSec
        assert machine.property("ActiveState") in ("inactive", "failed") and machine.property("NRestarts") == "0"


def test_wrong_setting_is_not_tried_again(machine, plain_after):
    drop_in(machine, "RestartSec=100ms\\nEnvironment=CHORUS_PORT=many")
    code, out = machine.run("systemctl restart chorus", check=False)
    assert code != 0
    time.sleep(1)
    assert machine.property("ActiveState") == "failed" and machine.property("NRestarts") == "0" and machine.property("ExecMainStatus") == "2"
    assert "CHORUS_PORT" in machine("journalctl -u chorus -n 5 --no-pager -o cat")


def test_watchdog_ends_a_hung_server(machine, plain_after):
    drop_in(machine, "WatchdogSec=2\\nRestartSec=100ms")
    machine("systemctl restart chorus")
    health(machine)
    time.sleep(5)  # more than twice the watchdog's time: it is fed
    pid = machine.property("MainPID")
    assert machine.property("NRestarts") == "0"
    machine(f"kill -STOP {pid}")
    begin = time.monotonic()
    machine.wait("test $(systemctl show chorus -p NRestarts --value) = 1 && curl -sf http://127.0.0.1:8080/health")
    print(f"figure: a stopped process was replaced after {time.monotonic() - begin:.1f} s (WatchdogSec=2)")
    assert machine.property("MainPID") != pid and "watchdog" in machine("journalctl -u chorus --no-pager -o cat | grep -i watchdog | tail -1").lower()


def test_socket_activation(machine):
    """The first client starts the service, over TCP and over the Unix socket; the port stays open while it restarts."""
    machine("systemctl disable -q --now chorus && systemctl enable -q --now chorus.socket")
    assert machine.property("ActiveState") == "inactive"
    assert "storyteller" in machine("curl -sf --retry 20 --retry-delay 1 --unix-socket /run/chorus.sock http://localhost/v1/models")
    assert machine("stat -c '%U:%G %a' /run/chorus.sock") == "root:chorus 660"
    machine("curl -sf http://127.0.0.1:8080/health")
    machine.wait("systemctl show chorus -p StatusText --value | grep '^serving storyteller on 127.0.0.1:8080'")
    machine("systemctl stop -q chorus 2>/dev/null; curl -sf --retry 20 --retry-delay 1 http://127.0.0.1:8080/v1/models")
    machine("systemctl disable -q --now chorus.socket; systemctl stop chorus; systemctl enable -q --now chorus")
    health(machine)


def test_a_users_own_service(machine):
    """The unit for one user, under that user's manager, with settings of the user's own."""
    machine("systemctl stop chorus; useradd -m -u 1234 berta && install -d -m 700 -o berta -g berta /run/user/1234")
    machine("install -d -o berta -g berta /home/berta/.config /home/berta/.config/chorus && "
            "printf 'model = /usr/share/chorus/models/storyteller\\nport = 8181\\n' >/home/berta/.config/chorus/chorus.conf")
    # What user@.service does, without logind.
    machine("printf '[Service]\\nType=notify\\nUser=berta\\nDelegate=yes\\nEnvironment=HOME=/home/berta XDG_RUNTIME_DIR=/run/user/1234\\n"
            "ExecStart=/lib/systemd/systemd --user\\n' >/run/systemd/system/berta.service && systemctl daemon-reload && systemctl start berta")
    user = "setpriv --reuid berta --regid berta --init-groups env HOME=/home/berta XDG_RUNTIME_DIR=/run/user/1234 systemctl --user"
    machine(f"{user} enable -q --now chorus")
    machine.wait("curl -sf http://127.0.0.1:8181/health")
    machine.wait(f"{user} show chorus -p StatusText --value | grep '^serving storyteller on 127.0.0.1:8181'")
    machine(f"{user} stop chorus; systemctl stop berta; rm -r /run/systemd/system/berta.service /run/user/1234; userdel -r berta 2>/dev/null; systemctl start chorus")
    health(machine)


def test_upgrade_keeps_an_edited_conf(machine):
    machine("printf '\\n# mine\\nmax-seqs = 7\\n' >>/etc/chorus/chorus.conf && cp /etc/chorus/chorus.conf /root/edited && touch /var/lib/chorus/kept && systemctl restart chorus")
    pid = machine.property("MainPID")
    out = machine(f"{APT} install /outside/{machine.new}", timeout=300)
    assert "error" not in out.lower(), out
    machine("cmp /etc/chorus/chorus.conf /root/edited && test -e /var/lib/chorus/kept")
    assert machine("dpkg-query -W -f '${Version}' chorus") == NEW
    health(machine)
    assert machine.property("MainPID") != pid  # the new binary runs
    assert machine("curl -sf http://127.0.0.1:8080/v1/models | grep -c storyteller") == "1"


def test_upgrade_leaves_disabled_disabled(machine):
    machine("systemctl disable -q --now chorus")
    machine(f"{APT} install --reinstall /outside/{machine.new}", timeout=300)
    assert machine.run("systemctl is-enabled chorus", check=False)[1] == "disabled" and machine.property("ActiveState") == "inactive"
    machine("systemctl enable -q --now chorus")
    health(machine)


def test_remove_keeps_settings_and_purge_leaves_nothing(machine):
    machine(f"{APT} remove chorus", timeout=300)
    assert machine.run("test -e /usr/bin/chorus", check=False)[0] != 0
    machine("cmp /etc/chorus/chorus.conf /root/edited && test -e /var/lib/chorus/kept")
    assert machine.run("pgrep -x chorus", check=False)[0] != 0
    machine(f"{APT} install /outside/{machine.new}", timeout=300)
    machine("cmp /etc/chorus/chorus.conf /root/edited")
    health(machine)
    machine(f"rm /root/edited; {APT} purge chorus", timeout=300)
    # apt's own dependencies stay until autoremove, as with any package.
    machine(f"{APT} autoremove --purge", timeout=300)
    left = sorted(set(machine(FILES).splitlines()) - set(machine.before))
    left = [f for f in left if not re.match(r"/(run|tmp|dev|proc|sys)/|/var/lib/(dpkg|systemd|private)|/var/cache/(debconf|ldconfig|private)|/etc/.*-$|/etc/systemd/system/(timers|sockets)", f)]
    assert left == [], left
    assert machine.run("find / -xdev -not -path '/outside*' -not -path '/var/log/*' -not -path '/proc/*' -iname '*chorus*' | grep .", check=False)[1] == ""
    assert machine("cut -d: -f1 /etc/passwd /etc/group | sort") == machine.users
