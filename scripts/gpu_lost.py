#!/usr/bin/env python3
"""A card fails for good under running streams: every one ends with an error event, a new request is refused, and the process exits
with its own code within five seconds. Python's standard library only.

gpu_lost.py PROGRAM MODEL [SERVE-OPTIONS...]    PROGRAM is tests/gpu/lost_server
"""
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

STREAMS = 6
EXIT_DEVICE_LOST = 6
SECONDS = 5.0


def stream(port, out):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    model = out["models"][out["index"] % len(out["models"])]
    body = {"model": model["id"], "prompt": "Once upon a time", "max_tokens": model["max_model_len"] - 64, "stream": True, "ignore_eos": True}
    try:
        c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        out["status"] = r.status
        out["lines"] = []
        for raw in r:
            line = raw.decode().strip()
            if line:
                out["lines"].append(line)
                out["begun"].set()
    except (OSError, http.client.HTTPException) as e:
        out["broken"] = repr(e)
    out["ended"] = time.monotonic()


def main():
    program, model, options = sys.argv[1], sys.argv[2], sys.argv[3:]
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        trigger, port_file = os.path.join(folder, "lost"), os.path.join(folder, "port")
        command = [program, trigger, "--model", model, "--adapters", os.path.join(model, "adapters"), "--backend", "cuda", "--port", "0",
                   "--port-file", port_file, "--ctx", "2048", "--state-dir", "none", *options]
        with open(os.path.join(folder, "log"), "w+b") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
            began = time.monotonic()
            while not (os.path.exists(port_file) and os.path.getsize(port_file)):
                if server.poll() is not None or time.monotonic() - began > 90:
                    log.seek(0)
                    sys.exit(f"gpu_lost: no server (exit {server.poll()}): {log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.02)
            with open(port_file, encoding="utf-8") as f:
                port = int(f.read())
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            c.request("GET", "/v1/models")
            models = json.load(c.getresponse())["data"]
            outs = [{"index": i, "models": models, "begun": threading.Event()} for i in range(STREAMS)]
            threads = [threading.Thread(target=stream, args=(port, o)) for o in outs]
            for t in threads:
                t.start()
            if not all([o["begun"].wait(60) for o in outs]):
                bad.append("the streams did not begin")
            lost = time.monotonic()
            with open(trigger, "w", encoding="utf-8"):
                pass
            try:
                code = server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                code = None
            took = time.monotonic() - lost
            for t in threads:
                t.join(10)
            log.seek(0)
            text = log.read().decode(errors="replace")
        if code != EXIT_DEVICE_LOST:
            bad.append(f"exit code {code} instead of {EXIT_DEVICE_LOST}")
        if took > SECONDS:
            bad.append(f"the process ended after {took:.2f} s")
        latest = 0.0
        for o in outs:
            lines = o.get("lines") or [""]
            last = next((line for line in reversed(lines) if line != "data: [DONE]"), "")
            if o.get("status") != 200 or "broken" in o or '"error"' not in last:
                bad.append(f"stream {o['index']}: status {o.get('status')}, {o.get('broken', '')}, its last line is {last[:200]!r}")
            latest = max(latest, o.get("ended", time.monotonic()) - lost)
        print(f"figure: {STREAMS} streams over {len(models)} voices ended after {latest * 1000:.0f} ms, the process after {took * 1000:.0f} ms, exit code {code}")
        if bad:
            print("\n".join(bad))
            print(text[-3000:])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
