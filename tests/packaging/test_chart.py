"""The Helm chart: it is lint-clean, refuses values that it doesn't know, and makes the objects that the
plain manifests and their overlays are."""

import copy
import json
import subprocess

import pytest
import yaml
from tooling import REPOSITORY, helm
from test_kustomize import OVERLAYS, arguments, built, named

CHART = REPOSITORY / "k8s/chart"
NAMESPACE = "remora-system"
PLAIN = REPOSITORY / "k8s/manifests/install"
ALL_OFF = ["healing.enabled=false", "networkPolicy.enabled=false"]
pytestmark = pytest.mark.skipif(not helm(), reason="needs helm: ./dev packaging")


def run_helm(*words):
    return subprocess.run([helm(), *words], capture_output=True, text=True)


def sets(values):
    return [word for value in values for word in ("--set", value)]


def rendered(*values, namespace=NAMESPACE, more=()):
    done = run_helm("template", "remora", CHART, "--namespace", namespace, *sets(values), *more)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def substance(objects):
    """Without what only Helm adds, and what only kustomize or the plain manifest can."""
    found = {}
    for key, thing in named(copy.deepcopy(objects)).items():
        metadata = thing["metadata"]
        labels = {name: value for name, value in metadata.get("labels", {}).items()
                  if name not in ("helm.sh/chart", "app.kubernetes.io/instance",
                                  "app.kubernetes.io/managed-by", "app.kubernetes.io/version")}
        metadata["labels"] = labels
        annotations = metadata.get("annotations") or {}
        annotations.pop("helm.sh/resource-policy", None)
        metadata["annotations"] = annotations
        if thing["kind"] == "Deployment":
            args = thing["spec"]["template"]["spec"]["containers"][0]["args"]
            args[1:] = sorted(args[1:])
        if thing["kind"] != "Namespace":
            found[key] = thing
    return found


# --- the same objects ------------------------------------------------------------------------------
@pytest.mark.parametrize("overlay, values", [
    (PLAIN, ALL_OFF),
    (OVERLAYS / "healing", ["networkPolicy.enabled=false"]),
    (OVERLAYS / "fail-closed", [*ALL_OFF, "failClosed.enabled=true"]),
    (OVERLAYS / "cert-manager", [*ALL_OFF, "certManager.enabled=true"]),
    (OVERLAYS / "eviction-requests", ["networkPolicy.enabled=false",
                                      "evictionRequests.enabled=true"]),
    (OVERLAYS / "full", ["serviceMonitor.enabled=true", "prometheusRule.enabled=true",
                         "dashboards.enabled=true"]),
], ids=lambda value: getattr(value, "name", ""))
def test_chart_makes_what_the_manifests_are(overlay, values):
    ours, theirs = substance(rendered(*values)), substance(built(overlay))
    assert sorted(ours) == sorted(theirs)
    for key, thing in theirs.items():
        assert ours[key] == thing, key


def test_nothing_is_left_of_the_manifests_namespace():
    objects = rendered("failClosed.enabled=true", "certManager.enabled=true",
                       "serviceMonitor.enabled=true", namespace="elsewhere")
    assert "remora-system" not in json.dumps(objects)
    hooks = named(objects)["MutatingWebhookConfiguration", "remora-webhook"]["webhooks"]
    assert all(hook["clientConfig"]["service"]["namespace"] == "elsewhere" for hook in hooks)
    assert all("elsewhere" in json.dumps(hook["namespaceSelector"]) for hook in hooks)


def test_values_reach_their_places():
    digest = "sha256:" + "0" * 64
    objects = named(rendered(
        "image.repository=registry.example/remora", f"image.digest={digest}",
        "image.pullPolicy=Always", "imagePullSecrets[0].name=key", "sidecarImage=other:1",
        "replicas=3", "extraArgs[0]=--certificate-days=30", "nodeSelector.disk=fast",
        "priorityClassName=system-cluster-critical", "podLabels.team=a", "podAnnotations.b=c",
        "serviceAccountAnnotations.d=e", "podDisruptionBudget.enabled=false",
        "resources.limits.memory=1Gi", "crds.install=false"))
    spec = objects["Deployment", "remora-operator"]["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert spec["replicas"] == 3
    assert container["image"] == f"registry.example/remora@{digest}"
    assert container["imagePullPolicy"] == "Always"
    assert container["args"] == ["operator", "--image=other:1", "--heal", "--link-listen=:9444",
                                 "--certificate-days=30"]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert pod["imagePullSecrets"] == [{"name": "key"}]
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["priorityClassName"] == "system-cluster-critical"
    metadata = spec["template"]["metadata"]
    assert metadata["labels"] == {"app.kubernetes.io/name": "remora-operator", "team": "a"}
    assert metadata["annotations"] == {"b": "c"}
    assert objects["ServiceAccount", "remora-operator"]["metadata"]["annotations"] == {"d": "e"}
    assert not any(kind in ("PodDisruptionBudget", "CustomResourceDefinition")
                   for kind, _ in objects)


def test_a_pod_label_of_the_user_cant_take_the_selectors_place():
    objects = named(rendered("podLabels.app\\.kubernetes\\.io/name=mine"))
    spec = objects["Deployment", "remora-operator"]["spec"]
    assert spec["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "remora-operator"


def test_custom_resources_are_upgraded_and_survive_the_release():
    objects = named(rendered())
    crds = [thing for (kind, _), thing in objects.items() if kind == "CustomResourceDefinition"]
    assert crds
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)
    assert "--heal" in arguments(list(objects.values()))


# --- the chart itself ------------------------------------------------------------------------------
def test_lint_is_clean():
    everything = ["evictionRequests.enabled=true", "failClosed.enabled=true", "certManager.enabled=true",
                  "serviceMonitor.enabled=true", "prometheusRule.enabled=true",
                  "dashboards.enabled=true"]
    for values in ([], everything, ALL_OFF):
        done = run_helm("lint", "--strict", CHART, *sets(values))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("value, part", [
    ("replica=3", "replica"),
    ("replicas=0", "replicas"),
    ("replicas=two", "replicas"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("image.digest=sha1:00", "digest"),
    ("extraArgs[0]=heal", "extraArgs"),
    ("healing.enable=true", "enable"),
])
def test_values_that_nobody_knows_are_refused(value, part):
    done = run_helm("template", "remora", CHART, "--set", value)
    assert done.returncode != 0
    assert part in done.stderr


def test_package_is_whole(tmp_path):
    """Links of the source tree are files in it."""
    done = run_helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("remora-*.tgz")
    done = run_helm("template", "remora", package, "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    packaged = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert named(packaged) == named(rendered())


def test_version_is_the_programs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (REPOSITORY / "CMakeLists.txt").read_text()
    assert f"project(remora VERSION {chart['appVersion']} " in project
    assert f"image: remora:{chart['appVersion']}\n" in (PLAIN / "install.yaml").read_text()
