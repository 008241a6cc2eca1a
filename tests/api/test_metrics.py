"""/metrics: every family of the API's list, in the form that Prometheus wants, with values that are what happened."""
import json
import os
import re
import shutil
import subprocess
import threading
import time

import pytest

from conftest import DEMO, ROOT, VOICES, figure, start_real
from live_folder import wait_for
from prom import grown, labels_of, parse, scrape

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "Tell me a long story about a lantern and the sea, please."}]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A real server of this file alone, so that its counters are."""
    s = start_real(tmp_path_factory.mktemp("counted"), "--model", str(DEMO), "--adapters", str(DEMO / "adapters"), "--kv-pages", "400")
    yield s
    assert s.stop() == 0


def settled(s):
    """A scrape after which nothing goes on: an answer's end is counted when its connection is done with."""
    s.wait_metric("chorus_requests_running", 0)
    s.wait_metric("chorus_connections", 1)
    return scrape(s)


def outcome(route, what):
    return f'route="{route}",outcome="{what}"'


def test_families(counted):
    """What the API promises is there before the first request, as zeros where nothing happened."""
    m = scrape(counted)
    for name in ("chorus_requests_waiting", "chorus_requests_running", "chorus_tokens_in_total", "chorus_tokens_out_total", "chorus_tokens_cached_total",
                 "chorus_prefix_hits_total", "chorus_kv_pages", "chorus_kv_pages_used", "chorus_kv_pages_cached", "chorus_preemptions_total",
                 "chorus_first_token_seconds_count", "chorus_request_seconds_count", "chorus_inter_token_seconds_count", "chorus_step_seconds_count",
                 "chorus_step_rows_count", "chorus_step_adapters_count", "chorus_connections", "chorus_adapters_draining", "process_start_time_seconds",
                 "process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "vllm:num_requests_waiting"):
        assert list(m[name]) == [""], name
    routes = {labels_of(k)["route"] for k in m["chorus_requests_total"]}
    described = {re.sub(r"\{\w+\}", "", p) for p in json.loads((ROOT / "server/openapi.json").read_text())["paths"]}
    assert described <= routes | {p.rstrip("/") for p in routes} and "other" in routes, described - routes
    assert {labels_of(k)["outcome"] for k in m["chorus_requests_total"]} == {"ok", "client_error", "server_error", "busy", "cancelled"}
    assert {labels_of(k)["tier"]: v for k, v in m["chorus_adapters"].items()} == {"disk": 0, "host": len(VOICES), "device": 0}
    assert {labels_of(k)["adapter"] for k in m["chorus_adapter_tier"]} == set(VOICES)
    info = labels_of(next(iter(m["chorus_build_info"])))
    assert info["backend"] == "cpu" and info["model"] == DEMO.name and info["version"] == counted.get("/version")[1]["version"]


def test_promtool(counted):
    """Prometheus' own linter has nothing to say but that gateways' names have colons."""
    tool = shutil.which("promtool")
    if not tool:
        pytest.skip("promtool is not here (Debian package prometheus); the rules of prom.py are what was checked")
    counted.post(CHAT, {"messages": ASK, "model": "marketing", "max_tokens": 4})
    done = subprocess.run([tool, "check", "metrics"], input=counted.request("GET", "/metrics")[2], capture_output=True)
    said = [line for line in (done.stdout + done.stderr).decode().splitlines() if not line.endswith("metric names should not contain ':'")]
    assert said == [] and done.returncode in (0, 3), said


def ask(s, **fields):
    status, answer = s.post(CHAT, {"messages": ASK, "temperature": 0, "ignore_eos": True, **fields})
    assert status == 200, answer
    return answer["usage"]


def test_values_are_what_happened(counted):
    before, begin = settled(counted), time.time()
    usages = [ask(counted, model="wood-elf", max_tokens=9), ask(counted, model="wood-elf", max_tokens=7), ask(counted, max_tokens=5)]
    status, payloads = counted.stream(CHAT, {"messages": ASK, "max_tokens": 6, "ignore_eos": True, "stream_options": {"include_usage": True}})
    assert status == 200
    usages.append(json.loads(payloads[-2])["usage"])
    adapted = usages[:2]
    assert counted.post(CHAT, {"messages": ASK, "model": "nobody"})[0] == 404
    assert counted.post(CHAT, {"messages": "no list"})[0] == 400
    assert counted.request("GET", "/nowhere")[0] == 404
    after, seconds = settled(counted), time.time() - begin
    g = lambda name, labels="": grown(before, after, name, labels)

    assert g("chorus_requests_total", outcome(CHAT, "ok")) == 4 and g("chorus_requests_total", outcome(CHAT, "client_error")) == 2
    assert g("chorus_requests_total", outcome("other", "client_error")) == 1
    assert sum(grown(before, after, "chorus_requests_total", k) for k in after["chorus_requests_total"] if CHAT not in k and "other" not in k and "/metrics" not in k) == 0
    prompt, cached = sum(u["prompt_tokens"] for u in usages), [u["prompt_tokens_details"]["cached_tokens"] for u in usages]
    made = [u["completion_tokens"] for u in usages]
    assert made == [9, 7, 5, 6] and cached[0] == 0 and cached[1] > 0
    assert (g("chorus_tokens_in_total"), g("chorus_tokens_cached_total"), g("chorus_tokens_out_total")) == (prompt, sum(cached), sum(made))
    assert g("chorus_prefix_hits_total") == sum(c > 0 for c in cached) >= 2
    assert g("chorus_engine_requests_accepted_total") == g("chorus_engine_requests_done_total") == 4
    # Each answer's last token is not computed further, so it is no row.
    steps = g("chorus_step_seconds_count")
    assert g("chorus_step_rows_sum") == prompt - sum(cached) + sum(made) - 4 and g("chorus_step_rows_count") == g("chorus_step_adapters_count") == steps
    assert g("chorus_step_adapters_bucket", 'le="0"') == sum(made[2:]) and g("chorus_step_adapters_sum") == sum(made[:2]) and steps == sum(made)
    assert g("chorus_first_token_seconds_count") == g("chorus_request_seconds_count") == 4
    assert g("chorus_inter_token_seconds_count") == sum(made) - 4
    first, whole, gaps, busy = (g(f"chorus_{n}_seconds_sum") for n in ("first_token", "request", "inter_token", "step"))
    assert 0 < first < whole < seconds and 0 < gaps < whole and 0 < busy < whole
    assert after["chorus_kv_pages_used"][""] == after["chorus_requests_running"][""] == after["chorus_requests_waiting"][""] == 0
    assert after["chorus_kv_pages"][""] == 400 and after["chorus_kv_pages_cached"][""] > 0

    v = 'adapter="wood-elf"'
    assert g("chorus_adapter_requests_total", v) == 2 == g("chorus_adapter_hits_total", v) + g("chorus_adapter_misses_total", v)
    assert g("chorus_adapter_tokens_in_total", v) == sum(u["prompt_tokens"] for u in adapted) and g("chorus_adapter_tokens_out_total", v) == sum(made[:2])
    assert g("chorus_adapter_queue_seconds_count", v) == g("chorus_adapter_first_token_seconds_count", v) == 2
    assert 0 < g("chorus_adapter_queue_seconds_sum", v) < g("chorus_adapter_first_token_seconds_sum", v) < first
    assert after["chorus_adapter_load_seconds_count"][v] == 1 and 0 < after["chorus_adapter_load_seconds_sum"][v] < 10
    assert after["chorus_adapter_tier"][v + ',tier="device"'] == 1 and [k for k in after["chorus_adapter_tier"] if v in k] == [v + ',tier="device"']
    assert 'adapter="villain"' not in after["chorus_adapter_requests_total"] and after["chorus_adapter_evictions_total"][v] == after["chorus_adapter_disk_reads_total"][v] == 0


def test_process(counted):
    m, pid = scrape(counted), counted.process.pid
    started = os.stat(f"/proc/{pid}").st_mtime
    assert abs(m["process_start_time_seconds"][""] - started) < 60 and m["process_start_time_seconds"][""] <= time.time()
    rss = int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1]) * 1024
    assert 0.7 < m["process_resident_memory_bytes"][""] / rss < 1.4 and m["process_virtual_memory_bytes"][""] > rss
    wait_for(lambda: scrape(counted)["process_open_fds"][""] == counted.descriptors() + 1)  # its own connection's
    ticks = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]
    assert 0 <= sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") - m["process_cpu_seconds_total"][""] < 60 and m["process_max_fds"][""] >= 1024


def test_outcomes(fake):
    s = fake(step_us=2000, seats=1, line=1)
    asks = lambda text, **fields: s.post(CHAT, {"messages": [{"role": "user", "content": text}], **fields})
    assert asks("@fail now")[0] == 500
    with s.connect() as c:
        body = json.dumps({"messages": [{"role": "user", "content": "@long"}], "max_tokens": 3000, "stream": True}).encode()
        c.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.wait_metric("chorus_requests_running", 1)
        waits = threading.Thread(target=asks, args=("in line",))
        waits.start()
        s.wait_metric("chorus_requests_waiting", 1)
        assert asks("one too many")[0] == 429
    waits.join()
    s.wait_metric("chorus_requests_running", 0)
    m = scrape(s)["chorus_requests_total"]
    assert {what: m[outcome(CHAT, what)] for what in ("ok", "busy", "server_error", "cancelled", "client_error")} == \
        {"ok": 1, "busy": 1, "server_error": 1, "cancelled": 1, "client_error": 0}


def test_first_token_is_told_while_the_answer_runs(fake):
    s = fake(step_us=2000)
    t = threading.Thread(target=s.post, args=(CHAT, {"messages": [{"role": "user", "content": "@long"}], "max_tokens": 400}))
    t.start()
    s.wait_metric("chorus_first_token_seconds_count", 1)
    assert scrape(s)["chorus_request_seconds_count"][""] == 0
    t.join()
    s.wait_metric("chorus_request_seconds_count", 1)


def test_labels_are_escaped(fake):
    """A model's name is a directory's, which may be anything."""
    for name in ('a"b', "a\\b", "a\nb", "\\n", "größe 1/2 {x=\"y\"}", "\\"):
        s = fake(served=name)
        assert labels_of(next(iter(scrape(s)["chorus_build_info"])))["model"] == name
    s = fake(served=b"bad \xff\xfe utf-8".decode("utf-8", "surrogateescape"))
    assert labels_of(next(iter(scrape(s)["chorus_build_info"])))["model"] == "bad \ufffd\ufffd utf-8"


def test_while_loading(fake):
    """There is no engine yet; what is told is well-formed and the scrape goes through."""
    s = fake(load_ms=1500, wait_ready=False)
    m = scrape(s)
    assert "process_start_time_seconds" in m and "vllm:num_requests_waiting" not in m
    assert labels_of(next(iter(m["chorus_build_info"])))["backend"] == ""
    wait_for(lambda: s.request("GET", "/health")[0] == 200)
    assert "vllm:num_requests_waiting" in scrape(s)


def test_a_thousand_adapters(tmp_path):
    """One series for each adapter's tier, the counters of those that somebody asked for; a scrape stays quick."""
    n, asked = 1000, figure(40, 1000)
    for i in range(n):
        shutil.copytree(DEMO / "adapters/villain", tmp_path / f"many/a{i:04d}", copy_function=os.link)
    s = start_real(tmp_path, "--model", str(DEMO), "--adapters", str(tmp_path / "many"), "--adapter-slots", "8")
    try:
        wait_for(lambda: len(scrape(s)["chorus_adapter_tier"]) == n)
        for i in range(asked):
            assert s.post(CHAT, {"messages": ASK, "model": f"a{i:04d}", "max_tokens": 1})[0] == 200
        m = settled(s)
        assert {len(v) for k, v in m.items() if k.startswith("chorus_adapter_") and "adapter=" in next(iter(v), "") and k not in ("chorus_adapter_tier",)} == {asked}
        assert {labels_of(k)["tier"]: v for k, v in m["chorus_adapters"].items()}["device"] == 8
        assert sum(m["chorus_adapter_evictions_total"].values()) == asked - 8
        begin = time.monotonic()
        text = s.request("GET", "/metrics")[2].decode()
        ms = 1000 * (time.monotonic() - begin)
        series = sum(not line.startswith("#") for line in text.splitlines())
        print(f"figure: /metrics of {n} adapters, {asked} of them asked for: {series} series, {len(text) / 1e3:.0f} kB in {ms:.0f} ms")
        assert series < 300 + n + 14 * asked
    finally:
        assert s.stop() == 0
