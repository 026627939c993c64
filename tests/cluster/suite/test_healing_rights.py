"""Each right of the roles for healing and for the link is taken away in turn, from the operator's own service
account on a real cluster: the operator then meets the API server's refusal, and its log (or the Incident,
for a step) has the rule that is missing. What it never misses has no place in a manifest."""

import json

import pytest
import rights
from operators import NAME
from test_healing import healer, wait_led  # noqa: F401
from test_healing_ladder import FOREVER, READY, policy, wait_ready
from test_healing_ladder import agents as scripted
from workloads import web

MISSED_S, CRASHED_S = 90, 60
CRASHES = "sleep 1; exit 3"


def ladder(fault, *steps, **spec):
    """A pod that crashes may be not ready for long enough first: that alone moves none."""
    ladders = {"unready": ["alert"], fault: [*steps, "alert"]}
    return policy(**{"stepTimeout": "10s", "stableAfter": "1s", "ladders": [
        {"fault": kind, "steps": each} for kind, each in ladders.items()],
                     "budgets": {"minHealthyPercent": 0}, **spec})


# --- what makes the operator use a right -------------------------------------------------------------
def nothing(healer, kube, tools_image):
    """Its start alone."""


def a_crash_loop(healer, kube, tools_image):
    kube.apply(ladder("crash_loop", "reschedule"), scripted(tools_image, 1, CRASHES))


def a_protected_crash_loop(healer, kube, tools_image):
    kube.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "all"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "agent"}}}})
    a_crash_loop(healer, kube, tools_image)


def a_pod_that_is_not_ready(healer, kube, tools_image):
    kube.apply(ladder("unready", "wait"), scripted(tools_image, 1, FOREVER, readinessProbe=READY))


def a_drain(healer, kube, tools_image):
    kube.apply(policy(drain={"minAvailable": "1"}))


def a_drain_that_is_kept(healer, kube, tools_image):
    a_drain(healer, kube, tools_image)


def it_is_changed(healer, kube, tools_image):
    kube.apply(policy(drain={"minAvailable": "2"}))


def it_is_taken_back(healer, kube, tools_image):
    kube.apply(policy())


def too_little_memory(healer, kube, tools_image):
    greedy = f"sleep 3; dd if=/dev/zero of=/dev/null bs=48M count=1 && {FOREVER}"
    # Resized while it runs, between two kills and the kubelet's back-off.
    kube.apply(ladder("out_of_memory", "resize", stepTimeout="90s",
                      memory={"factorPercent": 300, "bytesMax": "128MiB"}),
               scripted(tools_image, 1, greedy, resources={
                   "limits": {"memory": "32Mi"}, "requests": {"memory": "32Mi"}}))


def a_deployment_that_works(healer, kube, tools_image):
    kube.apply(scripted(tools_image, 1, FOREVER, strategy={"type": "Recreate"}))
    wait_ready(kube, 1)


def its_bad_revision(healer, kube, tools_image):
    kube.apply(ladder("crash_loop", "roll_back"),
               scripted(tools_image, 1, CRASHES, strategy={"type": "Recreate"}))


def stateful(image, script):
    made = scripted(image, 1, script)
    made["kind"] = "StatefulSet"
    made["spec"].pop("strategy", None)
    made["spec"]["serviceName"] = "agent"
    return made


def a_stateful_set_that_works(healer, kube, tools_image):
    kube.apply(stateful(tools_image, FOREVER))
    wait_ready(kube, 1)


def its_bad_update(healer, kube, tools_image):
    kube.apply(ladder("crash_loop", "roll_back"), stateful(tools_image, CRASHES))


def an_incident_of_long_ago(healer, kube, tools_image):
    long_ago = "2020-01-01T00:00:00Z"
    kube.apply(policy(), {
        "apiVersion": "remora.dev/v1alpha1", "kind": "Incident", "metadata": {"name": "old"},
        "spec": {"pod": {"name": "nobody", "uid": "none"}, "fault": "unready",
                 "detectedAt": long_ago}})
    kube.kubectl("patch", "incident", "old", "--subresource=status", "--type=merge", "--patch",
                 json.dumps({"status": {"phase": "Resolved", "endedAt": long_ago}}), check=False)


def a_sidecar_that_reports(healer, kube, tools_image):
    kube.apply(web(tools_image))


def a_policy(healer, kube, tools_image):
    kube.apply(policy())


# By resource and verb: before the right is gone, and without it. Those of `nothing` need a process that begins.
USES = {
    ("pods/eviction", "create"): (nothing, a_crash_loop),
    ("pods", "delete"): (nothing, a_protected_crash_loop),
    ("events", "list"): (nothing, a_pod_that_is_not_ready),
    ("poddisruptionbudgets", "create"): (nothing, a_drain),
    ("poddisruptionbudgets", "patch"): (a_drain_that_is_kept, it_is_changed),
    ("poddisruptionbudgets", "delete"): (a_drain_that_is_kept, it_is_taken_back),
    ("pods/resize", "patch"): (nothing, too_little_memory),
    ("deployments", "get"): (a_deployment_that_works, its_bad_revision),
    ("deployments", "patch"): (a_deployment_that_works, its_bad_revision),
    ("replicasets", "get"): (a_deployment_that_works, its_bad_revision),
    ("replicasets", "list"): (a_deployment_that_works, its_bad_revision),
    ("statefulsets", "get"): (a_stateful_set_that_works, its_bad_update),
    ("statefulsets", "patch"): (a_stateful_set_that_works, its_bad_update),
    ("controllerrevisions", "list"): (a_stateful_set_that_works, its_bad_update),
    ("healingpolicies/status", "patch"): (nothing, a_policy),
    ("incidents", "create"): (nothing, a_crash_loop),
    ("incidents", "delete"): (nothing, an_incident_of_long_ago),
    ("incidents/status", "patch"): (nothing, a_crash_loop),
    ("tokenreviews", "create"): (nothing, a_sidecar_that_reports),
    ("configmaps", "create"): (nothing, a_sidecar_that_reports),
    ("configmaps", "patch"): (nothing, a_sidecar_that_reports),
    ("agentsnapshots", "create"): (nothing, a_sidecar_that_reports),
    ("agentsnapshots/status", "patch"): (nothing, a_sidecar_that_reports),
}


# Not tried here: they need a node that is lost or emptied. The two roles' rights on Leases overlap.
UNTRIED = {("persistentvolumeclaims", "get"), ("volumeattachments", "list"),
           ("agentsnapshots", "patch"),
           *(("leases", verb) for verb in ("create", "get", "update", "delete"))}
TRIED = [each for each in rights.all_of_them() if (each.resource, each.verb) not in UNTRIED]


def test_every_right_is_tried_or_needed_at_the_start():
    named = {(each.resource, each.verb) for each in TRIED}
    assert USES.keys() <= named
    assert {verb for _, verb in named - USES.keys()} <= {"list", "watch"}


@pytest.fixture(scope="module")
def whole(healer):
    healer.wait_ready()
    return healer


@pytest.mark.parametrize("right", TRIED, ids=lambda right: right.id)
def test_without_this_right_the_operator_names_the_rule(right, whole, everywhere, kube, tools_image):
    before, then = USES.get((right.resource, right.verb), (nothing, nothing))
    before(whole, kube, tools_image)
    if before is a_drain_that_is_kept:
        kube.wait("pdb", "remora-all", "is kept", bool)
    wait_led(whole)
    with rights.without(everywhere, right):
        if then is nothing:
            begin_anew(whole)
        said = right.named_in(told(whole, kube))
        then(whole, kube, tools_image)
        kube.wait_for(f"the rule is named: {right.id}", lambda: right.named_in(told(whole, kube)),
                      lambda count: count > (0 if then is nothing else said), MISSED_S)
    whole.wait_ready()


def begin_anew(healer):
    """New processes, whose logs are empty."""
    healer.kube.kubectl("delete", "pods", "--wait=false",
                        f"--selector=app.kubernetes.io/name={NAME}")


def told(healer, kube):
    """What the operator has said: its logs, and the steps of the Incidents of this namespace."""
    logs = [healer.kube.kubectl("logs", each["metadata"]["name"], "--container=operator",
                                check=False).stdout
            for each in healer.pods() if "deletionTimestamp" not in each["metadata"]]
    steps = [step.get("message", "") for each in kube.list("incidents.remora.dev")
             for step in each.get("status", {}).get("steps", [])]
    return "\n".join([*logs, *steps])
