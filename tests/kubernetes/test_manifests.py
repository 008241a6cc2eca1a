"""config/kubernetes: every object against its kind's schema, and what the objects say of each other and of the program."""
import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "config/kubernetes"
CORE = json.loads((HERE / "core.json").read_text())
EXTENSIONS = json.loads((HERE / "extensions.json").read_text())
GROUPS = {"apps/v1": "io.k8s.api.apps.v1.", "v1": "io.k8s.api.core.v1."}


def objects():
    return [(path.relative_to(FOLDER), o) for path in sorted(FOLDER.rglob("*.yaml")) for o in yaml.safe_load_all(path.read_text())]


def validator(o):
    schemas, name = (CORE, GROUPS[o["apiVersion"]] + o["kind"]) if o["apiVersion"] in GROUPS else (EXTENSIONS, f"{o['apiVersion']} {o['kind']}")
    assert name in schemas["$defs"], f"no schema of {name}"
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/" + name.replace("~", "~0").replace("/", "~1").replace(" ", "%20"),
              "$defs": schemas["$defs"]}
    return jsonschema.Draft202012Validator(schema)


def problems(o):
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator(o).iter_errors(o)]


def one(kind):
    (found,) = [o for _, o in objects() if o["kind"] == kind]
    return found


def test_against_the_schemas():
    seen = objects()
    assert [(str(path), problems(o)) for path, o in seen if problems(o)] == []
    assert {o["kind"] for _, o in seen} >= {"Deployment", "Service", "PodMonitor", "InferencePool", "InferenceObjective", "HTTPRoute"}


@pytest.mark.parametrize("kind,change", [
    ("Deployment", lambda o: o["spec"]["template"]["spec"].update(containerz=[])),
    ("Deployment", lambda o: o["spec"]["template"]["spec"]["containers"][0]["ports"][0].update(containerPort="8000")),
    ("Deployment", lambda o: o["spec"]["template"]["spec"]["containers"][0]["startupProbe"].update(periodSecond=5)),
    ("Deployment", lambda o: o["spec"].pop("selector")),
    ("Service", lambda o: o["spec"]["ports"][0].pop("port")),
    ("PersistentVolumeClaim", lambda o: o["spec"].update(accessModes="ReadWriteOnce")),
    ("InferencePool", lambda o: o["spec"].update(selector={"app": "chorus"})),
    ("InferencePool", lambda o: o["spec"].update(targetPortNumber=8000)),
    ("InferencePool", lambda o: o["spec"]["endpointPickerRef"].pop("port")),
    ("InferenceObjective", lambda o: o["spec"].pop("poolRef")),
    ("HTTPRoute", lambda o: o["spec"]["rules"][0]["timeouts"].update(request="600")),
    ("PodMonitor", lambda o: o["spec"]["podMetricsEndpoints"][0].update(interval="15 s")),
])
def test_schemas_see_mistakes(kind, change):
    o = [o for _, o in objects() if o["kind"] == kind][0]
    assert problems(o) == []
    change(o)
    assert problems(o) != []


def test_kustomizations_name_every_file():
    for path in FOLDER.rglob("kustomization.yaml"):
        k = yaml.safe_load(path.read_text())
        files = {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert {r for r in k["resources"] if r != ".."} == files and all((path.parent / r).exists() for r in k["resources"])


def test_objects_meet():
    """Selectors find the pod, ports are the container's, references lead to objects that are there."""
    pod = one("Deployment")["spec"]["template"]
    labels, (container,) = pod["metadata"]["labels"], pod["spec"]["containers"]
    (port,) = container["ports"]
    pool, route, monitor, service = (one(k)["spec"] for k in ("InferencePool", "HTTPRoute", "PodMonitor", "Service"))
    for selector in (one("Deployment")["spec"]["selector"]["matchLabels"], service["selector"], pool["selector"]["matchLabels"], monitor["selector"]["matchLabels"]):
        assert selector and selector.items() <= labels.items()
    assert service["ports"][0]["targetPort"] == port["name"] == monitor["podMetricsEndpoints"][0]["port"] and pool["targetPorts"] == [{"number": port["containerPort"]}]
    assert f"--port={port['containerPort']}" in container["args"] and monitor["jobLabel"] in labels
    assert route["rules"][0]["backendRefs"][0]["name"] == one("InferencePool")["metadata"]["name"] == one("InferenceObjective")["spec"]["poolRef"]["name"]
    claims = {o["metadata"]["name"] for _, o in objects() if o["kind"] == "PersistentVolumeClaim"}
    assert {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v} == claims
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert set(mounts) == {v["name"] for v in pod["spec"]["volumes"]}
    for option in ("model", "adapters", "state-dir"):
        (path,) = [a.split("=", 1)[1] for a in container["args"] if a.startswith(f"--{option}=")]
        assert any(path == m or path.startswith(m + "/") for m in mounts.values()), option
    image = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"][0]
    assert image["name"] == container["image"] and image["newTag"] in (ROOT / "server/version.h").read_text()


def test_the_pod_is_not_trusted():
    pod = one("Deployment")["spec"]["template"]["spec"]
    (c,) = pod["containers"]
    s = {**pod["securityContext"], **c["securityContext"]}
    assert s["runAsNonRoot"] and s["runAsUser"] > 0 and s["readOnlyRootFilesystem"] and not s["allowPrivilegeEscalation"] and s["capabilities"] == {"drop": ["ALL"]}
    assert s["seccompProfile"] == {"type": "RuntimeDefault"} and not pod["automountServiceAccountToken"]
    assert c["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_program_takes_it():
    """The options are its options, probes and scrapes its routes, and answers may end before it is killed."""
    pod = one("Deployment")["spec"]["template"]["spec"]
    (c,) = pod["containers"]
    chorus = ROOT / "build/chorus"
    done = subprocess.run([chorus, *c["args"], "--print-config"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = dict(re.findall(r"^([\w-]+) *= *(.*?)$", done.stdout, re.M))
    assert shown["port"].split()[0] == "8000" and shown["host"].split()[0] == "0.0.0.0"
    routes = json.loads((ROOT / "server/openapi.json").read_text())["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert c[probe]["httpGet"]["path"] == "/health" in routes and c[probe]["httpGet"]["port"] == "http"
    assert one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["path"] == "/metrics" in routes
    drain = int(shown["drain-timeout"].split()[0]) / 1000
    assert c["lifecycle"]["preStop"]["sleep"]["seconds"] + drain < pod["terminationGracePeriodSeconds"]
    assert pod["enableServiceLinks"] is False  # else the Service's name gives the pod variables that are read as options
