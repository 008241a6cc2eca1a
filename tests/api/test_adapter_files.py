"""Adapters' files that change or go while the server reads them, and adapters that the device has no room for."""
import itertools
import json
import os
import random
import shutil
import struct
import threading
import time

import pytest

from conftest import DEMO, ROOT, SLOW, VOICES, Server, start_real

ADAPTERS = DEMO / "adapters"
GREEDY = {"messages": [{"role": "user", "content": "Tell me a story about a lantern."}], "max_tokens": 12, "temperature": 0}
EMULATED = ROOT / "build/emu/tests/gpu/lost_server"


def words(s, name):
    status, answer = s.post("/v1/chat/completions", {**GREEDY, "adapter": name})
    return status, answer["choices"][0]["message"]["content"] if status == 200 else answer["error"]


def other_bytes(path):
    """The file with the sign of every second value of every B turned: it binds as well and says something else."""
    raw = path.read_bytes()
    n, = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8:8 + n]), bytearray(raw[8 + n:])
    for name, t in header.items():
        if ".lora_B." in name:
            begin, end = t["data_offsets"]
            width = {"BF16": 2, "F16": 2, "F32": 4}[t["dtype"]]
            for i in range(begin + width - 1, end, 2 * width):
                data[i] ^= 0x80
    return raw[:8 + n] + bytes(data)


@pytest.fixture
def reader(tmp_path):
    """A server that keeps nothing in host memory: whoever asks for an adapter has it read from its files."""
    (tmp_path / "root").mkdir()
    s = start_real(tmp_path, "--model", str(DEMO), "--adapter-root", str(tmp_path / "root"), "--adapter-memory", "1", "--adapter-slots", "1",
                   "--kv-pages", "200", "--prefix-cache", "false")  # fmt: skip
    s.root = tmp_path / "root"
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text() and "internal check failed" not in s.log_text()


def write_in_place(file, data):
    with open(file, "r+b") as f:
        for at in range(0, len(data), 65536):
            f.write(data[at:at + 65536])
        f.truncate()


def rename_over(file, data):
    fresh = file.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, file)


def cut_and_mend(file, data):
    os.truncate(file, len(data) // 3)
    time.sleep(0.003)
    write_in_place(file, data)


def unlink_and_write(file, data):
    file.unlink()
    time.sleep(0.003)
    file.write_bytes(data)


@pytest.mark.parametrize("change", [write_in_place, rename_over, cut_and_mend, unlink_and_write])
def test_files_that_change_while_they_are_read(reader, change):
    """ADP-2: what is added and what is said is of the old bytes, of the new ones or an error; a mixture would be a third text."""
    s, file = reader, reader.root / "shifty/adapter_model.safetensors"
    shutil.copytree(ADAPTERS / "villain", s.root / "shifty")
    shutil.copytree(ADAPTERS / "summary", s.root / "guest")
    sides = [file.read_bytes(), other_bytes(file)]
    texts, hashes = [], []
    for data in sides:
        file.write_bytes(data)
        status, made = s.post("/v1/adapters", {"name": "shifty", "path": "shifty"})
        assert status == 200, made
        hashes.append(made["sha256"])
        texts.append(words(s, "shifty")[1])
    assert len(set(texts)) == 2 and len(set(hashes)) == 2
    assert s.post("/v1/adapters", {"name": "guest", "path": "guest"})[0] == 200
    stop, rng, rounds = threading.Event(), random.Random(3), 0

    def write():
        for n in itertools.count():
            if stop.is_set():
                return
            change(file, sides[n % 2])
            time.sleep(0.09 if n % 5 == 4 else rng.random() * 0.02)  # now and then a reader comes through

    writer = threading.Thread(target=write)
    writer.start()
    seen = {"added": 0, "not added": 0, "said": 0, "not said": 0}
    serves = hashes[1]  # whose bytes the name stands for
    end = time.monotonic() + SLOW
    must = lambda: seen["added"] and seen["said"] and seen["not said"]
    try:
        while time.monotonic() < end or (not must() and time.monotonic() < end + 20 * SLOW):
            rounds += 1
            if rounds % 3 == 0:
                status, made = s.post("/v1/adapters", {"name": "shifty", "path": "shifty"})
                assert status == 200 and made["sha256"] in hashes or made["error"]["code"] in ("conflict", "adapter_invalid"), made
                serves = made["sha256"] if status == 200 else serves
                seen["added" if status == 200 else "not added"] += 1
            status, said = words(s, "shifty")
            assert status == 200 and said == texts[hashes.index(serves)] or status in (404, 409) and said["param"] == "adapter", (status, said)
            seen["said" if status == 200 else "not said"] += 1
            assert words(s, "guest")[0] == 200  # takes the only slot: the next one reads again
    finally:
        stop.set()
        writer.join()
    for side in (0, 1):
        file.write_bytes(sides[side])
        assert s.post("/v1/adapters", {"name": "shifty", "path": "shifty"})[1]["sha256"] == hashes[side]
        assert words(s, "shifty") == (200, texts[side])
    print(f"figure: ADP-2, {change.__name__}: {seen['added']} added and {seen['not added']} refused, {seen['said']} answers and {seen['not said']} errors, none mixed")
    assert must(), seen


def test_files_that_are_gone_when_they_are_wanted_again(reader):
    """Whoever asks named a good adapter: the answer says what is wrong with it, the log too, and it speaks again when its files are back."""
    s = reader
    for name in ("villain", "summary"):
        shutil.copytree(ADAPTERS / name, s.root / name)
        assert s.post("/v1/adapters", {"name": name, "path": name})[0] == 200
    text = words(s, "villain")[1]
    file = s.root / "villain/adapter_model.safetensors"
    good = file.read_bytes()
    for spoil, code in ((lambda: shutil.move(s.root / "villain", s.root / "away"), "adapter_not_found"), (lambda: file.unlink(), "conflict"),
                        (lambda: file.write_bytes(good[:1000]), "conflict"), (lambda: file.write_bytes(other_bytes(file)), "conflict")):
        assert words(s, "summary")[0] == 200
        spoil()
        for stream in (False, True):
            status, _, answer = s.request("POST", "/v1/chat/completions", {**GREEDY, "adapter": "villain", "stream": stream})
            error = json.loads(answer)["error"]
            assert status == {"adapter_not_found": 404, "conflict": 409}[code] and error["code"] == code and error["param"] == "adapter", answer
            assert "'villain'" in error["message"]
        if (s.root / "away").exists():
            shutil.move(s.root / "away", s.root / "villain")
        file.write_bytes(good)
        assert words(s, "villain") == (200, text)
    told = [line for line in s.log_text().split("\n") if " error " in line and "cannot be read again" in line]
    assert len(told) == 8 and all("adapter=villain" in line for line in told)


@pytest.mark.skipif(not EMULATED.exists(), reason="there is no CUDA toolkit here")
def test_what_the_device_has_no_room_for_is_507(tmp_path):
    """ADP-6 and GPU-4 on the emulated card: one adapter that is larger than the arena, and two that are so together."""
    port_file = tmp_path / "port"

    def port_of(server):
        for _ in range(600 * SLOW):
            if port_file.exists() and port_file.read_text():
                return int(port_file.read_text())
            assert server.process.poll() is None, server.log_text()
            time.sleep(0.05)

    few = ["--quant", "none", "--ctx", "128", "--max-seqs", "4", "--step-rows", "8", "--adapter-slots", "4", "--lora-arena", "800000"]
    s = Server([EMULATED, tmp_path / "never", "--model", DEMO, "--backend", "cuda", *few, "--adapter-root", ADAPTERS, "--port", "0",
                "--port-file", port_file, "--state-dir", "none"], port_of, tmp_path / "log")  # fmt: skip
    try:
        fit, large = [], []
        for name, path in [("twin", "image-prompt"), *zip(VOICES, VOICES)]:
            status, head, text = s.request("POST", "/v1/adapters", {"name": name, "path": path}, timeout=60)
            (fit if status == 200 else large).append(name)
            if status != 200:
                error = json.loads(text)["error"]
                assert status == 507 and error["code"] == "no_room" and f"'{name}'" in error["message"] and head["x-should-retry"] == "false", text
        assert fit == ["twin", "image-prompt"] and len(large) == 4, (fit, large)
        body = {"prompt": [5], "max_tokens": 1}
        status, answer = s.post("/v1/completions", {**body, "adapter": [{"name": n, "weight": 0.5} for n in fit]})
        assert status == 507 and answer["error"]["code"] == "no_room" and answer["error"]["param"] == "adapter", answer
        for name in fit:
            assert s.post("/v1/completions", {**body, "adapter": name}, timeout=60)[0] == 200
    finally:
        assert s.stop() == 0
