"""Dashboards and alerting rules against what the program really exports: every metric and every label
that they name must be there."""

import glob
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from fake_kubernetes import FakeKubernetes
from fake_rbac import MANIFESTS
from healing import HEALED_WAIT_S, api, crash_looping, make_healer  # noqa: F401
from operator_program import Operator
from remora import run_cli, wait_for
from test_admin import metrics as metrics_of

MONITORING = os.path.join(MANIFESTS, "monitoring")
METRIC = re.compile(r"\b(?:remora|process)_[a-z_]+\b")
SELECTED = re.compile(r"\b((?:remora|process)_[a-z_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")
IN_ANNOTATION = re.compile(r"\$labels\.([a-z_]+)")
# Of the target and the histogram, not of ours.
FROM_PROMETHEUS = {"namespace", "pod", "instance", "job", "container", "le"}
# What a dashboard makes of its variables.
VARIABLE = re.compile(r"\$__rate_interval|\$\{?[a-z_]+\}?")


def exported(text):
    """{name: labels} of a scrape; a histogram by the names of its series."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        name, labels = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? \S+", line).groups()
        found.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', labels or ""))
    return found


@pytest.fixture
def metrics(remora, api, make_healer, tmp_path):  # noqa: F811
    """What an agent's Remora, an operator with its own certificate and one that heals export, a policy
    and an Incident with it."""
    found = {}
    remora.start_ready()
    texts = [metrics_of(remora)]
    kubernetes = FakeKubernetes().start()
    (tmp_path / "webhook").mkdir()
    operator = Operator(tmp_path / "webhook", kubernetes)
    try:
        texts.append(operator.start().plain("/metrics")[1])
    finally:
        operator.clean_up()
        kubernetes.stop()
    api.put("pods", crash_looping("a"))
    healer = make_healer().lead()
    wait_for(lambda: api.all("incidents"), "an Incident", HEALED_WAIT_S)
    wait_for(lambda: "remora_operator_heal_steps_left{" in healer.plain("/metrics")[1],
             "the policy's budget", HEALED_WAIT_S)
    texts.append(healer.plain("/metrics")[1])
    for text in texts:
        for name, labels in exported(text).items():
            found.setdefault(name, set()).update(labels)
    return found


def rules():
    with open(os.path.join(MONITORING, "rules.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)["spec"]


def dashboards():
    for path in sorted(glob.glob(os.path.join(MONITORING, "dashboards", "*.json"))):
        with open(path, encoding="utf-8") as file:
            yield os.path.basename(path), json.load(file)


def check(where, expression, legend, metrics):  # noqa: F811
    names = set(METRIC.findall(expression))
    assert names, f"{where}: {expression} is about nothing of ours"
    for name in names:
        assert name in metrics, f"{where}: there is no metric {name}"
    for name, selector in SELECTED.findall(expression):
        for label in re.findall(r"([a-z_]+)\s*[=!]~?", selector):
            known = metrics[name] | FROM_PROMETHEUS
            assert label in known, f"{where}: {name} has no label {label}"
    together = FROM_PROMETHEUS.union(*(metrics[name] for name in names))
    used = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
    for label in used | set(legend):
        assert label in together, f"{where}: no metric in {expression} has a label {label}"


def test_dashboards_show_what_is_exported(metrics):
    seen = set()
    for name, board in dashboards():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in board["panels"]:
            for target in panel["targets"]:
                check(f"{name}, {panel['title']}", target["expr"],
                      LEGEND.findall(target["legendFormat"]), metrics)
                seen |= set(METRIC.findall(target["expr"]))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((.*), ([a-z]+)\)",
                                             variable["query"]["query"]).groups()
                check(f"{name}, {variable['name']}", metric, [label], metrics)
    # What happened to faults is what they are for.
    for must in ("remora_faults_total", "remora_operator_faults_total",
                 "remora_operator_heal_steps_left", "remora_operator_work_queue_depth"):
        assert must in seen


def test_alerts_are_about_what_is_exported(metrics):
    for group in rules()["groups"]:
        for rule in group["rules"]:
            words = " ".join(rule["annotations"].values())
            check(rule["alert"], rule["expr"], IN_ANNOTATION.findall(words), metrics)
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_prometheus_itself_reads_rules_and_metrics(tmp_path, remora):
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules()))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, board in dashboards():
        for panel in board["panels"]:
            for number, target in enumerate(panel["targets"]):
                expression = VARIABLE.sub("5m", target["expr"]) if "[" in target["expr"] else \
                    VARIABLE.sub("x", target["expr"])
                path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [
                    {"record": f"a:b{number}", "expr": expression}]}]}))
                done = subprocess.run(["promtool", "check", "rules", path], capture_output=True,
                                      text=True)
                assert done.returncode == 0, f"{name}, {panel['title']}: {done.stderr}"
    remora.start_ready()
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics_of(remora),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_monitors_name_ports_that_pods_have(tmp_path):
    with open(os.path.join(MONITORING, "monitors.yaml"), encoding="utf-8") as file:
        objects = {each["kind"]: each for each in yaml.safe_load_all(file)}
    with open(os.path.join(MANIFESTS, "install/install.yaml"), encoding="utf-8") as file:
        operator = next(each for each in yaml.safe_load_all(file) if each["kind"] == "Deployment")
    ports = [port["name"] for port in
             operator["spec"]["template"]["spec"]["containers"][0]["ports"]]
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in ports
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "agent", "image": "a"}]}}))
    injected = yaml.safe_load(run_cli("inject", "-f", manifest).stdout)
    sidecar = next(each for each in injected["spec"]["initContainers"] if each["name"] == "remora")
    endpoint = objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]
    assert endpoint["port"] in [port["name"] for port in sidecar["ports"]]
