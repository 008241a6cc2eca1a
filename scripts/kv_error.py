#!/usr/bin/env python3
"""What --kv-cache-type int8 costs in quality: chorus serve with bf16 writes texts, each voice some, and gives the log-probability of
every token of them; chorus serve with int8 does the latter too. Printed: the difference's mean, 99th percentile and largest, both
mean log-probabilities, and how often the likeliest token is the same. On the CPU, "bf16" is float32.

    kv_error.py --bin build/chorus --model models/storyteller --adapters models/storyteller/adapters --backend cpu
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

PROMPTS = ("Once upon a time there was a small dragon", "Tom had a red ball and", "In the dark forest lived", "The old king was sad because")


class Server:
    def __init__(self, args, kv):
        self.folder = tempfile.TemporaryDirectory()
        port_file = os.path.join(self.folder.name, "port")
        command = [args.bin, "serve", "--model", args.model, "--backend", args.backend, "--kv-cache-type", kv, "--port", "0",
                   "--port-file", port_file, "--state-dir", "none", "--log-level", "error", "--ctx", "1024", "--max-seqs", "8",
                   "--prefix-cache", "false"]  # fmt: skip
        command += [word for d in args.adapters for word in ("--adapters", d)] + args.serve_args.split()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.time() + 180
        while not (os.path.exists(port_file) and open(port_file, encoding="utf-8").read().strip()):
            if self.process.poll() is not None or time.time() > end:
                sys.exit("kv_error: the server did not start: " + " ".join(command))
            time.sleep(0.1)
        self.url = "http://127.0.0.1:" + open(port_file, encoding="utf-8").read().strip()

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=600))

    def score(self, texts):
        """Of every token but each text's first: its log-probability, and the likeliest token."""
        rows = []
        for model, text in texts:
            body = {"model": model, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
            found = self.ask("/v1/completions", body)["choices"][0]["logprobs"]
            for own, top in zip(found["token_logprobs"], found["top_logprobs"]):
                if own is not None and top:
                    rows.append((own, max(top, key=top.get)))
        return rows

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="build/chorus")
    p.add_argument("--model", default="models/storyteller")
    p.add_argument("--adapters", action="append", default=[], metavar="DIR")
    p.add_argument("--backend", default="auto")
    p.add_argument("--tokens", type=int, default=400, help="of each text")
    p.add_argument("--serve-args", default="", help="more options of chorus serve, separated by spaces")
    args = p.parse_args()
    server = Server(args, "bf16")
    texts = []
    for model in [m["id"] for m in server.ask("/v1/models")["data"]]:
        for seed, prompt in enumerate(PROMPTS):
            body = {"model": model, "prompt": prompt, "max_tokens": args.tokens, "temperature": 0.8, "seed": seed, "ignore_eos": True}
            texts.append((model, prompt + server.ask("/v1/completions", body)["choices"][0]["text"]))
    want = server.score(texts)
    server.close()
    server = Server(args, "int8")
    got = server.score(texts)
    server.close()
    off = sorted(abs(a[0] - b[0]) for a, b in zip(want, got))
    count = len(want)
    if count == 0 or len(got) != count or not all(map(math.isfinite, off)):
        sys.exit("kv_error: the two do not tell of the same tokens")
    print(f"{count} tokens of {len(texts)} texts: log-probabilities off by {sum(off) / count:.5f} on average, p99 {off[count * 99 // 100]:.5f}, "
          f"at most {off[-1]:.4f}; mean {sum(a[0] for a in want) / count:.6f} bf16, {sum(b[0] for b in got) / count:.6f} int8; "
          f"likeliest token the same {sum(a[1] == b[1] for a, b in zip(want, got)) / count:.5f}")  # fmt: skip


if __name__ == "__main__":
    main()
