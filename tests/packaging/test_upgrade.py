"""The chart on a real API server, from an older release to this one and back to nothing. On a cluster of its
own, for it installs and removes the operator: ./dev cluster shell pytest tests/packaging/test_upgrade.py"""

import json
import os
import shutil
import subprocess

import pytest
import yaml
from test_chart import CHART, NAMESPACE
from tooling import helm, kubectl

WEBHOOK = "mutatingwebhookconfiguration/remora-webhook"
pytestmark = pytest.mark.skipif(not (helm() and os.environ.get("KUBECONFIG")),
                                reason="needs helm, and KUBECONFIG of a cluster to spoil")


def run(*words, given=None):
    done = subprocess.run(words, capture_output=True, text=True, input=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def get(*words):
    return json.loads(run(kubectl(), "get", *words, "--output=json"))


def custom_resources():
    return {each["metadata"]["name"]: each for each in get("crd")["items"]
            if each["spec"]["group"] == "remora.dev"}


def fields_of_a_policy():
    crd = custom_resources()["healingpolicies.remora.dev"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]["properties"]


@pytest.fixture
def older_chart(tmp_path):
    """From before AgentSnapshots and one field of the policies."""
    older = tmp_path / "remora"
    shutil.copytree(CHART, older)
    path = older / "manifests/crds/crds.yaml"
    crds = [each for each in yaml.safe_load_all(path.read_text())
            if not each["metadata"]["name"].startswith("agentsnapshots")]
    for each in crds:
        if each["metadata"]["name"].startswith("healingpolicies"):
            schema = each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            del schema["properties"]["spec"]["properties"]["stableAfter"]
    path.write_text(yaml.safe_dump_all(crds))
    yield older
    subprocess.run([helm(), "uninstall", "remora", "--namespace", NAMESPACE], capture_output=True)
    subprocess.run([kubectl(), "delete", "crd", "--selector=app.kubernetes.io/name=remora"],
                   capture_output=True)
    subprocess.run([kubectl(), "delete", "namespace", NAMESPACE, "--wait=false"],
                   capture_output=True)


def test_upgrade_brings_new_fields_and_keeps_what_is_there(older_chart):
    run(helm(), "install", "remora", older_chart, "--namespace", NAMESPACE, "--create-namespace")
    assert "stableAfter" not in fields_of_a_policy()
    run(kubectl(), "apply", "--filename=-", given=json.dumps({
        "apiVersion": "remora.dev/v1alpha1", "kind": "HealingPolicy",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}}}))
    # What the operator fills in is its own.
    run(kubectl(), "patch", WEBHOOK, "--type=json", "--patch", json.dumps([
        {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "Q0E="}]))
    run(helm(), "upgrade", "remora", CHART, "--namespace", NAMESPACE, "--set", "replicas=3")
    assert "stableAfter" in fields_of_a_policy()
    assert "agentsnapshots.remora.dev" in custom_resources()
    assert get(WEBHOOK)["webhooks"][0]["clientConfig"]["caBundle"] == "Q0E="
    assert get("deployment/remora-operator", "--namespace", NAMESPACE)["spec"]["replicas"] == 3
    assert get("healingpolicy/kept")["spec"]["stableAfter"]
    run(helm(), "rollback", "remora", "1", "--namespace", NAMESPACE)
    assert get("healingpolicy/kept")
    run(helm(), "uninstall", "remora", "--namespace", NAMESPACE)
    assert "healingpolicies.remora.dev" in custom_resources()
    assert get("healingpolicy/kept")
    run(helm(), "install", "remora", CHART, "--namespace", NAMESPACE)
