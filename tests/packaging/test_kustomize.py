"""The manifests as kustomize puts them together."""

import subprocess

import pytest
import yaml
from tooling import REPOSITORY, kubectl

OVERLAYS = REPOSITORY / "k8s/manifests/overlays"
pytestmark = pytest.mark.skipif(not kubectl(), reason="needs kubectl")


def built(folder):
    done = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def named(objects):
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def arguments(objects):
    deployment = named(objects)["Deployment", "remora-operator"]
    return deployment["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("overlay", sorted(path.name for path in OVERLAYS.iterdir()))
def test_every_overlay_can_be_built(overlay):
    assert ("Deployment", "remora-operator") in named(built(OVERLAYS / overlay))


def test_components_can_be_combined(tmp_path):
    """The order doesn't matter, and each does its part."""
    parts = ["healing", "eviction-requests", "fail-closed", "cert-manager", "network-policy", "monitoring"]
    for order in (parts, parts[::-1]):
        # kustomize takes no absolute paths.
        up = "../" * len(tmp_path.parts[1:]) + str(REPOSITORY)[1:]
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({
            "resources": [f"{up}/k8s/manifests/install"],
            "components": [f"{up}/k8s/manifests/{part}" for part in order]}))
        objects = built(tmp_path)
        assert {"--heal", "--eviction-requests", "--tls-dir=/etc/remora/tls"} <= set(arguments(objects))
        found = named(objects)
        assert len(found["MutatingWebhookConfiguration", "remora-webhook"]["webhooks"]) == 4
        for kind in ("NetworkPolicy", "ServiceMonitor", "PodMonitor", "PrometheusRule",
                     "Certificate", "CustomResourceDefinition", "ConfigMap"):
            assert any(key[0] == kind for key in found), kind


def test_dashboards_are_config_maps_that_grafana_finds():
    maps = [each for each in built(OVERLAYS / "full") if each["kind"] == "ConfigMap"]
    assert {each["metadata"]["name"] for each in maps} == {
        "remora-dashboard-agents", "remora-dashboard-operator"}
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
