"""The binary as a user runs it: commands, their terminals, and servers that are not what they should be."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from conftest import BUILD, ROOT, SLOW

CHORUS = str(BUILD / "chorus")


def environment(**more):
    """Without settings of whoever runs the tests."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("CHORUS_") and not k.startswith("XDG_")}
    return {**env, "HOME": "/nonexistent", "CHORUS_CONFIG": "none", **more}


def run(*args, stdin=b"", timeout=60, **env):
    """-> (exit code, stdout, stderr) as text."""
    done = subprocess.run([CHORUS, *map(str, args)], cwd=ROOT, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(**env), timeout=timeout * SLOW)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, *args, columns=80, rows=24, **env):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen([CHORUS, *map(str, args)], cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, env=environment(**env),
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = b""

    def read(self, seconds=0.1):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                return False
            self.seen += piece
            return piece != b""
        return True

    def until(self, pattern, timeout=30):
        """Reads until the pattern (a regular expression) was seen behind what was taken before; takes all up to its end."""
        end = time.monotonic() + timeout * SLOW
        while True:
            m = re.search(pattern.encode(), self.seen, re.S)
            if m:
                taken, self.seen = self.seen[:m.end()], self.seen[m.end():]
                return taken.decode(errors="replace").replace("\r\n", "\n")
            open_ = self.read()
            assert open_ and time.monotonic() < end, (pattern, self.seen[-2000:])

    def send(self, text):
        os.write(self.master, text.encode())

    def interrupt(self):
        self.send("\x03")

    @contextlib.contextmanager
    def slowed(self):
        """The command runs a tenth of the time: what takes it milliseconds can be interrupted."""
        stop = threading.Event()

        def work():
            while not stop.is_set():
                self.process.send_signal(signal.SIGSTOP)
                stop.wait(0.02)
                self.process.send_signal(signal.SIGCONT)
                stop.wait(0.002)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    def end(self, timeout=30):
        """Waits for the command; -> its exit code. What it still wrote is in `seen`."""
        end = time.monotonic() + timeout * SLOW
        while self.process.poll() is None:
            self.read(0.05)
            assert time.monotonic() < end, self.seen[-2000:]
        while self.read(0.05) and select.select([self.master], [], [], 0)[0]:
            pass
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)


@contextlib.contextmanager
def terminal(*args, **kw):
    t = Terminal(*args, **kw)
    try:
        yield t
    finally:
        t.close()


@contextlib.contextmanager
def answering(answer, family=socket.AF_INET, address=("127.0.0.1", 0)):
    """Something that answers each connection with fixed bytes (or what a function makes of the request); -> its URL."""
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    done = threading.Event()

    def serve():
        while not done.is_set():
            if not select.select([listener], [], [], 0.05)[0]:
                continue
            c, _ = listener.accept()
            with c, contextlib.suppress(OSError):
                c.settimeout(5)
                request = c.recv(65536)
                c.sendall(answer(request) if callable(answer) else answer)
                c.shutdown(socket.SHUT_WR)
                while c.recv(65536):
                    pass

    t = threading.Thread(target=serve)
    t.start()
    try:
        name = listener.getsockname()
        yield f"unix:{name}" if family == socket.AF_UNIX else f"http://127.0.0.1:{name[1]}"
    finally:
        done.set()
        t.join()
        listener.close()


def http(body, status="200 OK", kind="application/json"):
    data = body if isinstance(body, bytes) else body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def nobody():
    """A URL where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"
