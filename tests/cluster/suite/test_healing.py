"""`remora operator --heal` as a cluster runs it: its custom resources in a real API server, its steps
under its own account, two replicas of which one heals."""

import json
import time

import pytest
from kube import container, deployment, is_ready, pod
from operators import NAME

# Of a policy whose other fields are as the schema says.
STEP_TIMEOUT_S = 10
# Beyond what Kubernetes waits on its own: whatever happens earlier is Remora's doing.
LEFT_ALONE_S = 3600
LOST_S, HEALED_S, BACK_S = 45, 90, 90
# A replica that is gone without a word is followed by the other after 15 s.
LED_S = 60


def policy(**spec):
    return {"apiVersion": "remora.dev/v1alpha1", "kind": "HealingPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "stepTimeout": f"{STEP_TIMEOUT_S}s",
                     **spec}}


def agents(image, replicas):
    """Spread over the nodes; Kubernetes alone would leave them on a lost one."""
    patient = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": LEFT_ALONE_S} for key in ("unreachable", "not-ready")]
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
              "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
              "labelSelector": {"matchLabels": {"app": "agent"}}}
    return deployment("agent", replicas, pod("agent", container(
        "agent", image, ["sleep", "100000"]), tolerations=patient,
        topologySpreadConstraints=[spread]))


def incidents(kube):
    """A new one has no status for a moment."""
    return [{"status": {}, **each} for each in kube.list("incidents.remora.dev")]


def steps_of(incident):
    return [f"{step['name']}:{step['state']}" for step in incident["status"].get("steps", [])]


@pytest.fixture(scope="module")
def healer(operator):
    """The installation, which heals for the tests of this file."""
    operator.install_healing()
    yield operator
    operator.remove_healing()


def leader(healer):
    """The pod that heals, or None."""
    lease = healer.kube.get("lease", NAME) or {"spec": {}}
    holder = lease["spec"].get("holderIdentity", "").partition("_")[0]
    return holder if holder in healer.ready_pods() else None


def wait_led(healer, not_by=None):
    return healer.kube.wait_for("a replica heals", lambda: leader(healer),
                                lambda name: name not in (None, not_by), LED_S)


WRONG = {
    "x: 1": "unknown field",
    "stepTimeout: 1s": "must be from 10s to 1h",
    "stepTimeout: soon": "must be of type duration",
    "budgets: {minHealthyPercent: 101}": "less than or equal to 100",
    "budgets: {window: 48h}": "must be from 10s to 24h",
    "ladders: [{fault: nope, steps: [wait]}]": "supported values",
    "ladders: [{fault: unready, steps: []}]": "should have at least 1 items",
    "memory: {factorPercent: 150}": "spec.memory.bytesmax: required",
    "drain: {minAvailable: some}": "minavailable is a number of pods",
    'selector: {matchExpressions: [{key: "", operator: Exists}]}': "should be at least 1 chars long",
    "selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}": "have none",
}


@pytest.mark.parametrize("line", WRONG)
def test_the_api_server_refuses_a_wrong_policy_and_says_why(line, healer, kube):
    selector = "" if line.startswith("selector") else "  selector: {}\n"
    refused = kube.kubectl("create", "--filename=-", check=False, stdin=(
        "apiVersion: remora.dev/v1alpha1\nkind: HealingPolicy\nmetadata: {name: wrong}\n"
        f"spec:\n{selector}  {line}\n"))
    assert refused.returncode != 0
    assert WRONG[line] in refused.stderr.lower()


def test_the_api_server_completes_a_policy_and_keeps_what_happened(healer, kube, tools_image):
    kube.apply(policy())
    spec = kube.get("healingpolicy", "all")["spec"]
    assert spec["budgets"] == {"minHealthyPercent": 50, "stepsMax": 5, "window": "10m",
                               "coolDown": "60s"}
    kube.apply(pod("agent", container("agent", tools_image, ["false"])))
    found = kube.wait_for("an incident", lambda: incidents(kube))[0]
    changed = kube.kubectl("patch", "incident", found["metadata"]["name"], "--type=merge", "--patch",
                           json.dumps({"spec": {"summary": "nothing"}}), check=False)
    assert changed.returncode != 0 and "what happened does not change" in changed.stderr


def test_pods_of_a_lost_node_are_made_again_elsewhere_within_the_rules(
        healer, own_cluster, kube, everywhere, nodes, tools_image, report_table):
    """The replica that heals may be lost with the node; the other one follows it."""
    lost, other = nodes[1], nodes[0]
    # 10 s are not enough for two new pods on a busy machine.
    kube.apply(policy(stepTimeout="60s"), agents(tools_image, 4))
    kube.wait_for("four Ready pods", lambda: kube.list("pods", "app=agent"), lambda pods: (
        len(pods) == 4 and all(is_ready(each) for each in pods)))
    gone = {each["metadata"]["uid"] for each in kube.list("pods", "app=agent")
            if each["spec"]["nodeName"] == lost}
    assert len(gone) == 2
    own_cluster.kill_node(lost)
    lost_at = time.monotonic()
    try:
        everywhere.wait("node", lost, "is not Ready", lambda node: not is_ready(node), LOST_S)
        noticed_s = time.monotonic() - lost_at
        kube.wait_for("four Ready pods on the node that is left", lambda: [
            each for each in kube.list("pods", "app=agent")
            if is_ready(each) and each["spec"]["nodeName"] == other], lambda pods: len(pods) == 4,
            HEALED_S)
        healed_s = time.monotonic() - lost_at
        ended = kube.wait_for("the incidents' end", lambda: incidents(kube), lambda seen: all(
            each["status"].get("phase") == "Resolved" for each in seen))
    finally:
        own_cluster.restart_node(lost)
        everywhere.wait("node", lost, "is Ready again", is_ready, BACK_S)
    assert {each["spec"]["pod"]["uid"] for each in ended} == gone
    assert {each["spec"]["fault"] for each in ended} == {"node_unready"}
    assert [steps_of(each) for each in ended] == [["reschedule:verified"]] * 2
    report_table("Pods of a node that is lost, healed from outside", {
        "Kubernetes notices": f"{noticed_s:.0f} s", "all Ready elsewhere": f"{healed_s:.0f} s"})


def test_the_other_replica_heals_when_the_one_that_did_is_deleted(healer, report_table):
    healer.wait_ready()
    before = wait_led(healer)
    healer.kube.delete("pod", before)
    began_at = time.monotonic()
    wait_led(healer, not_by=before)
    report_table("The replica that heals is deleted",
                 {"another heals": f"{time.monotonic() - began_at:.1f} s"})
