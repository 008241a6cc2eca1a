"""Behind Kubernetes' inference gateway or llm-d: what their endpoint picker asks of a model server, with the picker's own rules for
what it reads (the model-server protocol of the Gateway API's inference extension)."""
import json
import threading
import time

import pytest

from conftest import DEMO, VOICES, start_real
from live_folder import names, wait_for
from prom import labels_of, scrape

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "@long: tell me a story about a lantern."}]  # the fake engine says it until max_tokens
GAUGES = {"queue": "vllm:num_requests_waiting", "running": "vllm:num_requests_running", "kv": "vllm:kv_cache_usage_perc"}


class Picker:
    """What the picker knows of one server after a scrape. Of several series of vllm:lora_requests_info the one with the largest value (a
    time) counts; names stand between commas, white space around them does not. `old`: releases that pass over a series without any name."""

    def __init__(self, s, old=False):
        m = scrape(s)
        for field, name in GAUGES.items():
            assert list(m[name]) == [""], name
            setattr(self, field, m[name][""])
        (cache,) = m["vllm:cache_config_info"]
        self.block_size, self.blocks = (int(labels_of(cache)[k]) for k in ("block_size", "num_gpu_blocks"))
        assert set(labels_of(cache)) == {"block_size", "num_gpu_blocks"} and m["vllm:cache_config_info"][cache] == 1
        self.series = [(when, labels_of(text)) for text, when in m["vllm:lora_requests_info"].items()]
        some = [x for x in self.series if not old or x[1]["running_lora_adapters"] or x[1]["waiting_lora_adapters"]]
        self.when, labels = max(some, key=lambda x: x[0], default=(0, None))
        split = lambda text: {name.strip() for name in text.split(",") if name.strip()}
        self.active = split(labels["running_lora_adapters"]) if labels else set()
        self.waiting = split(labels["waiting_lora_adapters"]) if labels else set()
        self.slots = int(labels["max_lora"]) if labels else 0
        assert labels is None or set(labels) == {"max_lora", "running_lora_adapters", "waiting_lora_adapters"}

    def affinity(self, model):
        """The picker's LoRA score: there already, room for one more, in line for it, full."""
        if model in self.active:
            return 1.0
        if len(self.active) + len(self.waiting) < self.slots:
            return 0.8
        return 0.6 if model in self.waiting else 0.0


def until(s, what):
    """The first scrape of which something holds: the next one may tell of something else."""
    seen = []
    wait_for(lambda: seen.append(Picker(s)) or what(seen[-1]))
    return seen[-1]


@pytest.fixture(scope="module")
def server_of_one_slot(tmp_path_factory):
    s = start_real(tmp_path_factory.mktemp("slot"), "--model", str(DEMO), "--adapters", str(DEMO / "adapters"), "--kv-pages", "400", "--adapter-slots", "1")
    yield s
    assert s.stop() == 0


class Stream:
    """An answer that runs until it is left."""

    def __init__(self, s, model, tokens=1800):
        self.s = s.connect()
        body = json.dumps({"model": model, "messages": ASK, "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
        self.s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body)

    def leave(self):
        self.s.close()


def test_affinity_while_it_runs_and_while_it_waits(server_of_one_slot):
    s = server_of_one_slot
    idle = Picker(s)
    assert (idle.queue, idle.running, idle.kv, idle.slots) == (0, 0, 0, 1) and (idle.block_size, idle.blocks) == (16, 400)
    assert len(idle.series) == 1 and abs(time.time() - idle.when) < 3600 and {idle.affinity(v) for v in VOICES} == {0.8}
    runs, waits = Stream(s, "villain"), None
    try:
        busy = until(s, lambda p: p.affinity("villain") == 1.0 and p.running == 1)
        assert busy.active == {"villain"} and 0 < busy.kv <= 1 and busy.when >= idle.when
        assert busy.affinity("wood-elf") == 0.0 and busy.affinity(DEMO.name) == 0.0  # its only slot is taken
        waits = Stream(s, "wood-elf")
        both = until(s, lambda p: p.affinity("wood-elf") == 0.6 and p.queue == 1)  # they take turns in the slot
        assert both.active == {"villain"} and both.waiting == {"wood-elf"} and both.affinity("villain") == 1.0
        runs.leave()
        wait_for(lambda: Picker(s).affinity("wood-elf") == 1.0)
        assert Picker(s).active == {"wood-elf"} and Picker(s, old=True).active == {"wood-elf"}
    finally:
        runs.leave()
        waits and waits.leave()
    s.wait_metric("chorus_requests_running", 0)
    after = Picker(s)
    assert after.active == after.waiting == set() and after.kv == 0 and after.when >= both.when and len(after.series) == 1
    assert Picker(s, old=True).slots == 0  # it keeps what it knew


def test_time_tells_the_newest(server_of_one_slot):
    """The value is when the names changed, not when they were asked for: a picker that merges scrapes takes the later one."""
    first = Picker(server_of_one_slot).when
    wait_for(lambda: time.time() > first + 1)  # its unit is a second
    assert Picker(server_of_one_slot).when == first
    runs = Stream(server_of_one_slot, "villain")
    try:
        wait_for(lambda: Picker(server_of_one_slot).active == {"villain"})
        assert first < Picker(server_of_one_slot).when <= time.time()
    finally:
        runs.leave()
    server_of_one_slot.wait_metric("chorus_requests_running", 0)


def test_what_waits(fake):
    """Those in line in the server, before the engine, count as much."""
    s = fake(step_us=2000, seats=1, line=16)
    streams = [Stream(s, "villain")]
    s.wait_metric("chorus_requests_running", 1)
    streams += [Stream(s, v) for v in ("villain", "summary", "summary")]
    p = until(s, lambda p: p.queue == 3)
    assert p.active == {"villain"} and p.waiting == {"villain", "summary"} and p.running == 1
    for stream in streams:
        stream.leave()
    s.wait_metric("chorus_requests_waiting", 0)


def test_names_are_those_of_requests(server_of_one_slot):
    """What is told as running is what /v1/models lists and what a request says in `model`; the base is none of them."""
    s = server_of_one_slot
    ids = {m["id"]: m for m in s.get("/v1/models")[1]["data"]}
    assert set(VOICES) < set(ids) and all(ids[v]["parent"] == DEMO.name for v in VOICES)
    for name in (f"{DEMO.name}:villain", "villain"):
        stream = Stream(s, name)
        wait_for(lambda: Picker(s).active == {"villain"})
        stream.leave()
        s.wait_metric("chorus_requests_running", 0)
    stream = Stream(s, DEMO.name)
    wait_for(lambda: Picker(s).running == 1)
    assert Picker(s).active == Picker(s).waiting == set()
    stream.leave()
    s.wait_metric("chorus_requests_running", 0)


def test_adapters_by_the_gateways_sidecar(tmp_path):
    """The sidecar that reconciles adapters lists, loads and unloads by vLLM's endpoints."""
    s = start_real(tmp_path, "--model", str(DEMO), "--adapter-root", str(DEMO / "adapters"))
    try:
        assert names(s) == []
        body = {"lora_name": "elf", "lora_path": str(DEMO / "adapters/wood-elf")}
        assert s.request("POST", "/v1/load_lora_adapter", body)[0] == 200
        listed = [m for m in s.get("/v1/models")[1]["data"] if m.get("parent")]
        assert [m["id"] for m in listed] == ["elf"]
        assert s.post(CHAT, {"model": "elf", "messages": ASK, "max_tokens": 2})[0] == 200
        assert s.request("POST", "/v1/unload_lora_adapter", {"lora_name": "elf"})[0] == 200
        assert [m["id"] for m in s.get("/v1/models")[1]["data"] if m.get("parent")] == [] and Picker(s).active == set()
        assert s.post(CHAT, {"model": "elf", "messages": ASK})[0] == 404
    finally:
        assert s.stop() == 0


def test_probes(fake):
    """Readiness is /health: 503 while the model loads and while it drains, asked by an address as kubelet and picker ask."""
    s = fake(load_ms=700, wait_ready=False, host="0.0.0.0", step_us=2000, drain_ms=20000)
    probe = lambda path="/health": s.request("GET", path, headers={"Host": f"10.1.2.3:{s.port}", "User-Agent": "kube-probe/1.33"})
    assert (probe()[0], json.loads(probe()[2])["status"]) == (503, "loading")
    wait_for(lambda: probe()[0] == 200)
    assert probe("/metrics")[0] == 200
    stream = Stream(s, "villain")
    s.wait_metric("chorus_requests_running", 1)
    s.process.terminate()
    wait_for(lambda: "stopping" in s.log_text())
    try:
        status, _, text = probe()
        assert (status, json.loads(text)["status"]) == (503, "draining")
    except (ConnectionError, AssertionError) as e:  # it listens no more: not ready either
        assert not isinstance(e, AssertionError) or "503" in str(e) or "[]" in str(e), e
    stream.leave()
    wait_for(lambda: s.process.poll() is not None)
    assert s.process.returncode == 0
