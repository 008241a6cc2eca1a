"""config/grafana and config/prometheus: what they ask for is what /metrics has, in a form that Grafana and Prometheus take."""
import json
import re
import shutil
import subprocess

import pytest
import yaml

from conftest import ROOT
from prom import labels_of, scrape

DASHBOARD = json.loads((ROOT / "config/grafana/chorus.json").read_text())
RULES = yaml.safe_load((ROOT / "config/prometheus/chorus.rules.yaml").read_text())
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them
NAME = re.compile(r"\b((?:chorus|process|vllm)[:_]\w+)(?:\{([^}]*)\})?(\[)?")


def panels():
    return [p for p in DASHBOARD["panels"] if p["type"] != "row"]


def expressions():
    return [(p["title"], t["expr"]) for p in panels() for t in p["targets"]] + [(r["alert"], r["expr"]) for g in RULES["groups"] for r in g["rules"]]


@pytest.fixture(scope="module")
def metrics(server):
    server.chat("hello", model="villain", max_tokens=3)
    users = {"chorus_adapter_users": {'adapter="villain"': 1}}  # only while somebody holds one
    return {**scrape(server), **users}


def problems(expr, metrics):
    """What an expression asks that is not there, and rates of what is no counter."""
    found = NAME.findall(expr)
    bad = [] if found or expr.startswith("up{") else ["asks for nothing"]
    known = set(TARGET_LABELS)
    for name, matchers, _ in found:
        if not metrics.get(name):
            bad.append(f"{name} is not in /metrics")
            continue
        labels = set().union(*(labels_of(k) for k in metrics[name]))
        known |= labels
        bad += [f"{name} has no {k}" for k in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers) if k not in labels | TARGET_LABELS]
    bad += [f"rate of {name}" for name in re.findall(r"(?:rate|increase)\((\w+)", expr) if not re.search(r"_(total|bucket|sum|count)$", name)]
    bad += [f"{name} without rate" for name, _, window in found if name.endswith(("_total", "_bucket", "_sum", "_count")) and not window]
    bad += [f"by {k}" for group in re.findall(r"by \(([^)]*)\)", expr) for k in re.split(r",\s*", group) if k not in known]
    bad += ["quantile of no buckets by le" for q in re.findall(r"histogram_quantile\((.*)", expr) if "_bucket" not in q or "le)" not in q.split("(rate")[0] + ")"]
    return bad


def test_what_is_asked_is_there(metrics):
    assert [(title, problems(expr, metrics)) for title, expr in expressions() if problems(expr, metrics)] == []
    asked = {name for _, expr in expressions() for name, _, _ in NAME.findall(expr)}
    own = {re.sub(r"_(bucket|sum|count)$", "", k) for k in metrics if k.startswith("chorus_")} - {"chorus_build_info"}
    shown = {re.sub(r"_(bucket|sum|count)$", "", k) for k in asked}
    assert own - shown <= {"chorus_engine_requests_done_total", "chorus_adapter_requests_total", "chorus_adapter_tokens_in_total"}, own - shown


@pytest.mark.parametrize("expr", ['rate(chorus_tokens_total{job="x"}[1m])', 'chorus_requests_total{job="x"}', "rate(chorus_requests_running[5m])",
                                  'sum by (voice) (rate(chorus_adapter_hits_total{adapter="x"}[1m]))', 'rate(chorus_requests_total{status="ok"}[1m])',
                                  "histogram_quantile(0.5, sum (rate(chorus_step_seconds_bucket[5m])))"])
def test_mistakes_are_seen(metrics, expr):
    assert problems(expr, metrics)


def test_shape():
    d = DASHBOARD
    assert d["title"] and re.fullmatch(r"[\w-]{1,40}", d["uid"]) and d["schemaVersion"] >= 30 and "id" not in d and "__inputs" not in d
    ids = [p["id"] for p in d["panels"]]
    assert len(ids) == len(set(ids)) and len({p["title"] for p in d["panels"]}) == len(ids)
    cells = set()
    for p in d["panels"]:
        g = p["gridPos"]
        own = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24 and not cells & own, p["title"]
        cells |= own
    variables = {v["name"] for v in d["templating"]["list"]}
    assert d["templating"]["list"][0] == {**d["templating"]["list"][0], "name": "datasource", "type": "datasource", "query": "prometheus"}
    for p in panels():
        assert p["datasource"] == {"type": "prometheus", "uid": "${datasource}"} and p["fieldConfig"]["defaults"]["unit"]
        assert [t["refId"] for t in p["targets"]] == [chr(65 + i) for i in range(len(p["targets"]))] and p["targets"]
        for t in p["targets"]:
            assert set(re.findall(r"\$(\w+)", t["expr"])) <= variables | {"__rate_interval"}, t["expr"]
            assert "$job" in t["expr"] and "$instance" in t["expr"]


def test_rules_shape():
    for rule in (r for g in RULES["groups"] for r in g["rules"]):
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"} and rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"Chorus[A-Za-z]+", rule["alert"]) and rule["annotations"]["summary"] and 'job="chorus"' in rule["expr"]


SERIES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'up{{job="chorus",instance="a"}}', values: '0x30'}}
      - {{series: 'chorus_requests_total{{job="chorus",instance="a",route="/v1/chat/completions",outcome="server_error"}}', values: '0+6x30'}}
      - {{series: 'chorus_requests_total{{job="chorus",instance="a",route="/v1/chat/completions",outcome="ok"}}', values: '0+54x30'}}
      - {{series: 'chorus_requests_running{{job="chorus",instance="a"}}', values: '3x30'}}
      - {{series: 'chorus_step_seconds_count{{job="chorus",instance="a"}}', values: '0+600x10 6000x20'}}
      - {{series: 'chorus_requests_running{{job="chorus",instance="b"}}', values: '3x30'}}
      - {{series: 'chorus_step_seconds_count{{job="chorus",instance="b"}}', values: '0+600x30'}}
    alert_rule_test:
      - {{eval_time: 1m, alertname: ChorusDown}}
      - eval_time: 5m
        alertname: ChorusDown
        exp_alerts: [{{exp_labels: {{severity: critical, job: chorus, instance: a}}, exp_annotations: {{summary: "a is not scraped: the server is down, or asks for a key"}}}}]
      - eval_time: 20m
        alertname: ChorusFails
        exp_alerts: [{{exp_labels: {{severity: critical, instance: a}}, exp_annotations: {{summary: "10% of the requests to a fail"}}}}]
      - eval_time: 20m
        alertname: ChorusStalled
        exp_alerts: [{{exp_labels: {{severity: critical, job: chorus, instance: a}}, exp_annotations: {{summary: "a has requests in its batch and makes no steps"}}}}]
      - {{eval_time: 20m, alertname: ChorusRefuses}}
"""


def test_prometheus_reads_them(tmp_path):
    """The rules as they are, some of them seen to fire, and each panel's expression as a recording rule."""
    tool = shutil.which("promtool")
    if not tool:
        pytest.skip("promtool is not here (Debian package prometheus): expressions are looked at by name and label only")
    rules = ROOT / "config/prometheus/chorus.rules.yaml"
    records = [{"record": f"panel:{i}", "expr": re.sub(r"\$\w+", lambda m: "5m" if "interval" in m[0] else "x", t["expr"])}
               for i, t in enumerate(t for p in panels() for t in p["targets"])]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    (tmp_path / "test.yaml").write_text(SERIES.format(rules=rules))
    for command in (["check", "rules", str(rules), str(tmp_path / "panels.yaml")], ["test", "rules", str(tmp_path / "test.yaml")]):
        done = subprocess.run([tool, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
