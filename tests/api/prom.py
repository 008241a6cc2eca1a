"""/metrics as Prometheus reads it: the form of each line, and rules that promtool does not have."""
import re

from prometheus_client.parser import text_string_to_metric_families

LINE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"')
ENDS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


def unescape(value):
    return re.sub(r'\\(["\\n])', lambda m: {"n": "\n"}.get(m[1], m[1]), value)


def labels_of(text):
    """'a="b",c="d"' -> {"a": "b", "c": "d"}"""
    return {name: unescape(value) for name, value in LABEL.findall(text or "")}


def histogram_problems(name, series):
    """`series` of one family {name: {labels text: value}} -> what is wrong with the buckets."""
    buckets = [(labels_of(k)["le"], v) for k, v in series.get(name + "_bucket", {}).items()]
    bounds, counts = [float(le) for le, _ in buckets], [v for _, v in buckets]
    if bounds != sorted(set(bounds)) or bounds[-1:] != [float("inf")]:
        return f"{name}: bounds {bounds}"
    if counts != sorted(counts) or counts[-1] != series[name + "_count"][""]:
        return f"{name}: {counts} of {series[name + '_count']}"
    return None


def family_problems(name, kind, help_text, series):
    problems = []
    if not help_text.strip():
        problems.append(f"{name}: no help")
    if (kind == "counter") != name.endswith("_total"):
        problems.append(f"{name}: a {kind}")
    if re.search(r"_(ms|millis\w*|us|ns|kb|mb|kib|mib|percent)(_|$)", name) or re.search(r"[A-Z]", name):
        problems.append(f"{name}: no base unit, or capitals")
    if ":" in name and not name.startswith("vllm:"):
        problems.append(f"{name}: colons are for rules")
    if kind == "histogram":
        problems.append(histogram_problems(name, series))
    if kind == "counter" and any(v < 0 or v != v for v in series.get(name, {}).values()):
        problems.append(f"{name}: negative")
    return [p for p in problems if p]


def parse(text):
    """-> {name: {labels text: value}}, after every line and family was looked at."""
    assert text.endswith("\n") and "\r" not in text
    series, families, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, current, help_text = line.split(" ", 3)
            assert current not in families, f"{current} twice"
            families[current] = [help_text, None, {}]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and kind in ("counter", "gauge", "histogram", "summary") and families[name][1] is None, line
            families[name][1] = kind
        else:
            m = LINE.fullmatch(line)
            assert m, line
            kind = families[current][1]
            assert m[1] == current if kind in ("counter", "gauge") else m[1] in [current + e for e in ENDS[kind]], f"{line} among those of {current}"
            labels = m[2] or ""
            assert len(LABEL.findall(labels)) == len(labels_of(labels)), line
            assert labels not in series.setdefault(m[1], {}), line
            series[m[1]][labels] = families[current][2].setdefault(m[1], {})[labels] = float(m[3])
    problems = [p for name, (help_text, kind, own) in families.items() for p in family_problems(name, kind, help_text, own)]
    assert not problems, problems
    theirs = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    ours = {(name, tuple(sorted(labels_of(k).items()))): v for name, own in series.items() for k, v in own.items()}
    assert theirs == ours
    return series


def scrape(s):
    status, headers, body = s.request("GET", "/metrics")
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(body.decode())


def grown(before, after, name, labels=""):
    return after[name].get(labels, 0) - before.get(name, {}).get(labels, 0)
