"""Many at once on the demo model: nothing lost, nothing mixed up, health stays quick."""
import concurrent.futures
import json
import random
import threading
import time

from conftest import SLOW, VOICES, joined

CHAT = "/v1/chat/completions"
SUBJECTS = ["a lantern", "the old mill", "a fox", "two brothers", "the last ship", "a clockmaker", "the frozen lake", "a letter"]


def ask(i):
    """Request i: its own voice, subject and seed."""
    voice = (VOICES + [None])[i % (len(VOICES) + 1)]
    return {"adapter": voice, "seed": 1000 + i, "max_tokens": 24 + i % 16, "ignore_eos": True,
            "messages": [{"role": "user", "content": f"Tell me a story about {SUBJECTS[i % len(SUBJECTS)]}."}]}


def streamed(server, i):
    status, payloads = server.stream(CHAT, ask(i), timeout=60)
    assert status == 200 and payloads[-1] == "[DONE]"
    adapters = json.loads(payloads[0])["adapter"]
    assert [a["name"] for a in adapters] == [v for v in [ask(i)["adapter"]] if v]
    return joined(payloads)


def test_64_streams_over_5_voices(server):
    count = 64
    alone = [streamed(server, i) for i in range(count)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        company = list(pool.map(lambda i: streamed(server, i), range(count)))
    took = time.monotonic() - begin
    lost = sum(not text for text in company)
    mixed = sum(a != b for a, b in zip(alone, company))
    tokens = sum(ask(i)["max_tokens"] for i in range(count))
    print(f"figure: {count} streams over {len(VOICES)} voices and the base: {lost} lost, {mixed} mixed up, {tokens / took:.0f} tok/s in total")
    assert lost == 0 and mixed == 0
    assert len(set(alone)) == count
    assert server.metric("chorus_requests_running") == server.metric("chorus_requests_waiting") == 0
    assert server.metric("chorus_kv_pages_used") == 0
    assert sum(a["users"] for a in server.get("/v1/adapters")[1]["data"]) == 0


def test_whole_equals_stream_in_a_crowd(server):
    """Streams, whole answers and clients that leave, all at random and at once."""
    rng = random.Random(7)
    kinds = [rng.choice(["stream", "whole", "leave"]) for _ in range(96)]
    alone = {}

    def one(i):
        body = ask(i % 32)
        if kinds[i] == "leave":
            with server.connect() as c:
                data = json.dumps({**body, "stream": True}).encode()
                c.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                c.recv(rng.randint(1, 2000))
            return None
        return streamed(server, i % 32) if kinds[i] == "stream" else server.post(CHAT, body)[1]["choices"][0]["message"]["content"]

    for i in range(32):
        alone[i] = streamed(server, i)
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for i, text in enumerate(pool.map(one, range(len(kinds)))):
            assert text is None or text == alone[i % 32], (i, kinds[i])
    server.wait_metric("chorus_requests_running", 0)
    assert server.metric("chorus_kv_pages_used") == 0


def test_health_stays_quick_under_load(fake):
    s = fake(step_us=1000, seqs=64, queue=256)
    stop = threading.Event()
    times = []

    def watch():
        while not stop.is_set():
            begin = time.monotonic()
            assert s.request("GET", "/health")[0] == 200
            times.append(time.monotonic() - begin)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    text = "the quick brown fox jumps over the lazy dog"
    with concurrent.futures.ThreadPoolExecutor(96) as pool:
        body = {"messages": [{"role": "user", "content": text}], "stream": True}
        answers = list(pool.map(lambda i: joined(s.stream(CHAT, body)[1]), range(400)))
    stop.set()
    watcher.join()
    assert answers == [text] * 400
    times.sort()
    print(f"figure: /health beside 96 clients: p50 {times[len(times) // 2] * 1000:.1f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.1f} ms "
          "(with the clients on the same two cores)")
    assert times[len(times) // 2] < 0.1 * SLOW


def test_memory_of_many_requests(fake):
    """A tenth aborted, a tenth malformed: after the first third the server does not grow."""
    s = fake(step_us=0)
    rng = random.Random(3)

    def one(i):
        kind = rng.random()
        if kind < 0.1:
            with s.connect() as c:
                data = json.dumps({"messages": [{"role": "user", "content": "@long"}], "stream": True}).encode()
                c.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                c.recv(500)
        elif kind < 0.2:
            assert s.request("POST", CHAT, b"{" * 50)[0] == 400
        else:
            assert s.chat("hello", stream=False, adapter="villain")["choices"][0]["message"]["content"] == "[villain] hello"

    def many(n):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(n)))
        s.wait_metric("chorus_requests_running", 0)
        s.wait_metric("chorus_connections", 1)
        return s.rss_anon()

    many(1000)
    before, descriptors = many(500), s.descriptors()
    after = many(2500)
    print(f"figure: 2,500 more requests: memory {(after - before) / 1024:+.0f} KiB, descriptors {s.descriptors() - descriptors:+d}")
    assert s.descriptors() <= descriptors + 1
    if SLOW == 1:
        assert after - before < 2 << 20
