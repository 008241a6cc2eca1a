"""A headless Chromium, driven by the WebDriver protocol that chromedriver speaks: nothing to install beside those two.

`BROWSER` is None where they are not here (Debian: chromium, chromium-driver).
"""
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

CHROME = next((p for p in map(shutil.which, ("chromium", "google-chrome", "chromium-browser")) if p), None)
DRIVER = shutil.which("chromedriver")
BROWSER = CHROME and DRIVER
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Right": "\ue014", "Down": "\ue015", "Space": " ",
        "Shift": "\ue008", "End": "\ue010", "Backspace": "\ue003"}


class Browser:
    def __init__(self, hosts=()):
        """hosts: names that resolve to 127.0.0.1 in this browser."""
        self.profile = tempfile.mkdtemp(prefix="chorus-browser-")
        env = {**os.environ, "HOME": self.profile, "XDG_CONFIG_HOME": self.profile, "XDG_CACHE_HOME": self.profile}
        self.process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True)
        self.session = None
        try:
            self.port = self.read_port()
            self.session = self.start(hosts)
        except BaseException:
            self.close()
            raise

    def read_port(self):
        for line in self.process.stdout:
            if "started successfully on port" in line:
                return int(line.strip().rstrip(".").rsplit(" ", 1)[1])
        raise RuntimeError("chromedriver did not start")

    def start(self, hosts):
        rules = ",".join(f"MAP {h} 127.0.0.1" for h in hosts)
        args = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--mute-audio",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={self.profile}/data"]
        if os.getuid() == 0:
            args.append("--no-sandbox")
        if rules:
            args.append(f"--host-resolver-rules={rules}")
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"binary": CHROME, "args": args},
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}, "timeouts": {"script": 30000, "pageLoad": 60000}}
        return self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def send(self, method, path, body=None):
        data = None if method in ("GET", "DELETE") else json.dumps(body or {}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise RuntimeError(json.load(e)["value"]["message"].split("\n")[0]) from None

    def do(self, method, path, body=None):
        return self.send(method, f"/session/{self.session}{path}", body)

    def close(self):
        if self.session:
            try:
                self.send("DELETE", f"/session/{self.session}")
            except (OSError, RuntimeError):
                pass
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    # ---- the page ----

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def reload(self):
        self.do("POST", "/refresh")

    def script(self, text, *args):
        return self.do("POST", "/execute/sync", {"script": text, "args": list(args)})

    def later(self, text, *args):
        """A script that ends by calling `done`."""
        return self.do("POST", "/execute/async", {"script": "const done = arguments[arguments.length - 1];" + text, "args": list(args)})

    def cdp(self, command, **params):
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def wait(self, text, timeout=30, *args):
        """Until a JavaScript expression is true; its value."""
        end = time.monotonic() + timeout
        while True:
            value = self.script(f"return ({text})", *args)
            if value:
                return value
            assert time.monotonic() < end, f"never true: {text}"
            time.sleep(0.02)

    def find(self, selector):
        return self.do("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.do("POST", f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.do("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def choose(self, selector, value):
        """In a select, as a user's choice."""
        self.script("const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change', {bubbles: true}))",
                    selector, value)

    def slide(self, selector, value):
        self.script("const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input', {bubbles: true}))",
                    selector, value)

    def text(self, selector):
        return self.script("return document.querySelector(arguments[0]).innerText", selector)

    def press(self, *keys):
        """Keys of the keyboard, to whatever has the focus. "Shift+Tab" holds one."""
        actions = []
        for key in keys:
            held, _, last = key.rpartition("+")
            downs = [KEYS[k] for k in held.split("+") if k] + [KEYS.get(last, last)]
            actions += [{"type": "keyDown", "value": k} for k in downs] + [{"type": "keyUp", "value": k} for k in reversed(downs)]
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    # ---- what it looks like ----

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)

    def media(self, **features):
        """prefers_color_scheme="dark", prefers_reduced_motion="reduce"."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": k.replace("_", "-"), "value": v} for k, v in features.items()])

    def shoot(self, path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(base64.b64decode(self.do("GET", "/screenshot")))

    # ---- what it did ----

    def console(self):
        """Errors, warnings and broken policies since the last call."""
        return [f"{e['level']}: {e['message']}" for e in self.do("POST", "/se/log", {"type": "browser"}) if e["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """URLs asked for since the last call."""
        urls = []
        for entry in self.do("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls
