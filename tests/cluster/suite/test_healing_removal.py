"""The custom resources and their operator come and go: an older schema is replaced with objects stored, and
everything is deleted at once."""

import json
import pathlib
import time

from kube import container, pod
from operators import ASKS, MANIFESTS, NAMESPACE
from test_healing import healer, incidents, wait_led  # noqa: F401
from test_healing_ladder import FOREVER, READY, policy
from test_healing_ladder import agents as scripted
from workloads import web

# The schema as it was first: v1alpha1 without rollback, memory, alerts, drain, sidecar and AgentSnapshot.
FIRST = pathlib.Path(__file__).resolve().parent / "inside/crds_first.yaml"
GONE_S, HEALED_S, SEEN_S = 90, 90, 60
KINDS = ("healingpolicies", "incidents", "agentsnapshots")
OLD_POLICY = {
    "selector": {"matchLabels": {"app": "agent"},
                 "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
    "paused": False, "dryRun": False, "stepTimeout": "10s", "stableAfter": "2s",
    "incidentRetention": "48h", "ladders": [{"fault": "unready", "steps": ["reschedule", "alert"]}],
    "budgets": {"minHealthyPercent": 40, "stepsMax": 7, "window": "20m", "coolDown": "90s"}}
LONG_AGO = "2026-01-01T00:00:00Z"
OLD_INCIDENT = {"pod": {"name": "agent-x", "uid": "uid-x", "node": "n1", "owner": "ReplicaSet/agent"},
                "fault": "crash_loop", "summary": "ends with code 3", "policy": "all",
                "detectedAt": LONG_AGO}
OLD_STATUS = {"phase": "Alerted", "evidence": ["ends with code 3"], "steps": [
    {"name": "wait", "state": "failed", "startedAt": LONG_AGO, "endedAt": LONG_AGO, "message": "no"},
    {"name": "alert", "state": "done", "startedAt": LONG_AGO, "message": "ends with code 3"}]}


def of(name, kind, spec):
    return {"apiVersion": "remora.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def is_part_of(old, new):
    """All of the old is in the new, which may have more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and is_part_of(value, new[key])
                                             for key, value in old.items())
    return old == new


def test_objects_of_the_first_schema_outlive_its_upgrade(healer, kube, everywhere, tools_image,
                                                         report_table):
    """The operator goes on running: while its kinds are gone, and when they are back with the old schema."""
    everywhere.kubectl("delete", f"--kustomize={MANIFESTS}/crds")
    everywhere.kubectl("create", f"--filename={FIRST}")
    everywhere.kubectl("wait", "crd", "--for=condition=Established", "incidents.remora.dev",
                       "healingpolicies.remora.dev")
    with healer.away():
        kube.apply(of("all", "HealingPolicy", OLD_POLICY), of("old", "Incident", OLD_INCIDENT))
        kube.kubectl("patch", "incident", "old", "--subresource=status", "--type=merge",
                     "--patch", json.dumps({"status": OLD_STATUS}))
        stored = {kind: kube.list(f"{kind}.remora.dev") for kind in KINDS[:2]}
        began = time.monotonic()
        everywhere.kubectl("apply", f"--kustomize={MANIFESTS}/crds")
        everywhere.kubectl("wait", "crd", "--for=condition=Established", *(
            f"{kind}.remora.dev" for kind in KINDS))
        upgraded_s = time.monotonic() - began
        for kind, before in stored.items():
            after = kube.list(f"{kind}.remora.dev")
            assert [is_part_of(each["spec"], other["spec"]) and is_part_of(
                each.get("status", {}), other.get("status", {}))
                for each, other in zip(before, after, strict=True)] == [True], (before, after)
    began = time.monotonic()
    kube.wait("healingpolicy", "all", "is observed", lambda found: found.get("status", {}).get(
        "observedGeneration"), HEALED_S)
    observed_s = time.monotonic() - began
    kube.wait("incident", "old", "is over", lambda found: found["status"].get("phase") == "Resolved",
              HEALED_S)
    # A field of the new schema, in an object of the old one, and healing by it.
    kube.kubectl("patch", "healingpolicy", "all", "--type=merge", "--patch",
                 json.dumps({"spec": {"drain": {"minAvailable": "0"}}}))
    kube.wait("pdb", "remora-all", "is kept", bool, SEEN_S)
    spec = kube.get("healingpolicy", "all")["spec"]
    assert is_part_of(OLD_POLICY, spec) and spec["rollback"] == {"within": "1h"}
    for kind in KINDS:
        crd = everywhere.get("crd", f"{kind}.remora.dev")
        assert crd["status"]["storedVersions"] == ["v1alpha1"]
    report_table("CRDs upgraded from the first schema, with objects stored", {
        "all kinds established": f"{upgraded_s:.1f} s",
        "an old policy is observed, after the operator's start": f"{observed_s:.1f} s",
        "objects lost": "0"})


def test_a_namespace_its_operator_and_its_kinds_deleted_together_all_go(
        healer, kube, everywhere, tools_image, report_table):
    """With an Incident that is open and the sidecar of a pod connected: nothing waits for the operator."""
    healer.wait_ready()
    kube.apply(policy(stepTimeout="10s", drain={"minAvailable": "1"},
                      ladders=[{"fault": "unready", "steps": ["wait", "alert"]}]),
               scripted(tools_image, 2, FOREVER, readinessProbe=READY), web(tools_image))
    kube.wait_ready("web")
    kube.wait_for("an open Incident of each", lambda: incidents(kube), lambda seen: len(seen) == 2,
                  SEEN_S)
    kube.wait_for("an AgentSnapshot", lambda: kube.list("agentsnapshots.remora.dev"), bool, SEEN_S)
    kube.wait("pdb", "remora-all", "is kept", bool)
    for kind in KINDS:
        assert not any(each["metadata"].get("finalizers") for each in kube.list(f"{kind}.remora.dev"))
    began = time.monotonic()
    try:
        everywhere.kubectl("delete", "namespace", kube.namespace, NAMESPACE, "--wait=false")
        everywhere.kubectl("delete", f"--kustomize={MANIFESTS}/crds", "--wait=false")
        for name in (kube.namespace, NAMESPACE):
            everywhere.wait_gone("namespace", name, GONE_S)
        for kind in KINDS:
            everywhere.wait_gone("crd", f"{kind}.remora.dev", GONE_S)
        gone_s = time.monotonic() - began
        # The webhook's configuration is left, and keeps no pod from being made.
        assert everywhere.get("mutatingwebhookconfiguration", "remora-webhook")
        alone = pod("after", container("main", tools_image, ["true"]), labels=ASKS)
        everywhere.kubectl("create", "--namespace=default", "--dry-run=server", "--filename=-",
                           stdin=json.dumps(alone))
    finally:
        everywhere.wait_gone("namespace", NAMESPACE, GONE_S)
        healer.install()
        healer.install_healing()
        wait_led(healer)
    report_table("Namespace, operator and CRDs deleted together", {"all gone": f"{gone_s:.1f} s"})
