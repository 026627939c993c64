"""What happens to the operator itself while it heals: killed in the middle of a step, stopped past its lease,
cut off from the API server, flooded with events. Beside it the same workload without a policy."""

import contextlib
import json
import time

import audit as audits
import pytest
import results
from admissions import Proxy
from bulk import Bulk
from kube import container, deployment, is_ready, pod, status_of
from operators import METRICS_PORT, metrics_of
from processes import OperatorProcess
from test_healing import agents, healer, incidents, steps_of, wait_led  # noqa: F401
from test_healing_ladder import FOREVER, READY, pods, restarts, set_well, wait_ready
from test_healing_ladder import agents as scripted
from test_healing_ladder import policy

HEALED_S, ENFORCED_S, ENDED_S, BURST_S = 120, 60, 60, 300
# After a fault that nobody may answer with a step: so long is watched that nobody does.
WATCHED_S = 45
AWAY_S = 30
# The pods' own start is no storm to cool down after.
RESCHEDULES = {"ladders": [{"fault": kind, "steps": ["reschedule"]} for kind in (
    "unready", "crash_loop")], "budgets": {"minHealthyPercent": 50, "coolDown": "0s"}}


def process_of(healer, own_cluster, name):
    return OperatorProcess(own_cluster, healer.kube.get("pod", name))


def wait_resolved(kube, count=1, seconds=HEALED_S):
    return kube.wait_for("the incidents' end", lambda: incidents(kube), lambda seen: len(
        seen) == count and all(each["status"].get("phase") == "Resolved" for each in seen), seconds)


# --- killed in the middle of a step ------------------------------------------------------------------
# What the API server is made to refuse meanwhile (CEL: what it lets pass), and a request that shows that it does.
# Both leave the step written down as intended: before the first it is not done, before the second it is.
MOMENTS = {
    "before the step is done": {
        "resources": {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"],
                      "operations": ["CREATE"]},
        "passes": "false"},
    "after it is done and before that is written down": {
        "resources": {"apiGroups": ["remora.dev"], "apiVersions": ["*"],
                      "resources": ["incidents/status"], "operations": ["UPDATE"]},
        "passes": "!has(object.status.steps) || object.status.steps.all(s, s.state == 'intended')"},
}


@contextlib.contextmanager
def refused(everywhere, kube, moment, pod_name):
    """The API server refuses these of the namespace, by a ValidatingAdmissionPolicy."""
    name = f"held-back-{kube.namespace}"
    everywhere.apply(
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
         "metadata": {"name": name},
         "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [
             moment["resources"]]}, "validations": [
                 {"expression": moment["passes"], "message": "held back by a test"}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1",
         "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
         "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {
             "namespaceSelector": {"matchLabels": {
                 "kubernetes.io/metadata.name": kube.namespace}}}}})
    try:
        everywhere.wait_for("the API server refuses", lambda: _is_refused(kube, moment, pod_name),
                            bool, ENFORCED_S)
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            everywhere.delete(kind, name)


def _is_refused(kube, moment, pod_name):
    """Tried without effect, at this pod."""
    if moment["resources"]["resources"] == ["pods/eviction"]:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod_name},
                    "deleteOptions": {"dryRun": ["All"]}}
        path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod_name}/eviction"
        done = kube.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction),
                            check=False)
    else:
        steps = [{"name": "wait", "state": "done", "startedAt": "2026-01-01T00:00:00Z"}]
        done = kube.kubectl("patch", "incident", "probe", "--subresource=status", "--type=merge",
                            "--dry-run=server", "--patch",
                            json.dumps({"status": {"steps": steps}}), check=False)
    return "held back by a test" in done.stderr


def probe_incident():
    """Of nobody: it is over."""
    return {"apiVersion": "remora.dev/v1alpha1", "kind": "Incident", "metadata": {"name": "probe"},
            "spec": {"pod": {"name": "nobody", "uid": "none"}, "fault": "unready",
                     "detectedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize("when", MOMENTS)
def test_an_operator_that_is_killed_takes_no_step_twice(
        when, healer, own_cluster, audit, everywhere, kube, tools_image, recoveries):
    healer.wait_ready()
    kube.apply(policy(stepTimeout="30s", **RESCHEDULES), probe_incident(),
               *(scripted(tools_image, 3, f"touch /tmp/well; {FOREVER}", name, readinessProbe=READY)
                 for name in ("agent", "alone")))
    before = {name: wait_ready(kube, 3, name) for name in ("agent", "alone")}
    kube.wait_for("the probe is over", lambda: incidents(kube), lambda seen: all(
        each.get("status", {}).get("endedAt") for each in seen))
    with refused(everywhere, kube, MOMENTS[when], before["alone"][1]["metadata"]["name"]):
        began, began_at = time.monotonic(), audits.now()
        for name in before:
            set_well(kube, before[name][0]["metadata"]["name"], False)
        kube.wait_for("the step is written down", lambda: own_incidents(kube), lambda seen: [
            steps_of(each) for each in seen] == [["reschedule:intended"]], HEALED_S)
        done = len(audit.evictions(kube.namespace, began_at))
        if when.startswith("after"):
            kube.wait_for("the step is done", lambda: audit.evictions(kube.namespace, began_at))
        else:
            assert done == 0
        name = wait_led(healer)
        process_of(healer, own_cluster, name).kill()
    ended = kube.wait_for("the incident's end", lambda: own_incidents(kube), lambda seen: seen and all(
        each["status"].get("phase") == "Resolved" for each in seen), HEALED_S)
    healed_s = time.monotonic() - began
    wait_ready(kube, 3)
    assert [steps_of(each) for each in ended] == [["reschedule:verified"]]
    taken = audit.evictions(kube.namespace, began_at)
    assert [each.name for each in taken] == [before["agent"][0]["metadata"]["name"]]
    left = {each["metadata"]["uid"] for each in before["agent"]} & {
        each["metadata"]["uid"] for each in pods(kube)}
    assert len(left) == 2, "one pod was made anew"
    alone = kube.get("pod", before["alone"][0]["metadata"]["name"])
    assert not is_ready(alone)
    recoveries.append(results.Recovery(
        f"agent not ready, and the operator is killed {when}", f"{healed_s:.0f} s",
        f"not within {healed_s:.0f} s", results.split_of(ended),
        "one step, taken once; a lease that nobody gives back runs for 15 s"))


def own_incidents(kube):
    return [each for each in incidents(kube) if each["metadata"]["name"] != "probe"]


# --- stopped past its lease --------------------------------------------------------------------------
def test_a_leader_that_was_stopped_past_its_lease_writes_nothing_and_ends(
        healer, own_cluster, audit, kube, tools_image, report_table):
    """Whether it would have anything to do is seen to: both watch the same pod, which only a pause of its
    policy keeps where it is until both are stopped."""
    healer.wait_ready()
    kube.apply(policy(stepTimeout="10s", paused=True, **RESCHEDULES),
               scripted(tools_image, 2, f"touch /tmp/well; {FOREVER}", readinessProbe=READY))
    sick = wait_ready(kube, 2)[0]["metadata"]["name"]
    set_well(kube, sick, False)
    kube.wait_for("an incident that is held", lambda: incidents(kube), lambda seen: [
        each["status"].get("hold") for each in seen] == ["the policy is paused"], HEALED_S)
    first = wait_led(healer)
    ran = runs_of(healer, first)["restartCount"]
    stopped_at, began = audits.now(), time.monotonic()
    with process_of(healer, own_cluster, first).stopped():
        second = wait_led(healer, not_by=first)
        led_s = time.monotonic() - began
        other = process_of(healer, own_cluster, second)
        other.signal("STOP")
        kube.apply(policy(stepTimeout="10s", **RESCHEDULES))
    try:
        ended = healer.kube.wait_for("it has ended and runs again", lambda: runs_of(healer, first),
                                     lambda run: run["restartCount"] > ran and "running" in run[
                                         "state"], ENDED_S)
    finally:
        other.signal("CONT")
    assert ended["lastState"]["terminated"]["exitCode"] == 1
    said = healer.kube.kubectl("logs", "--previous", first, "--container=operator").stdout
    assert '"event":"leadership_lost"' in said
    wait_resolved(kube)
    again_at = audits.moment(ended["state"]["running"]["startedAt"])
    written = [each for each in audit.requests(stopped_at) if each.replica == first
               and each.is_leaders_write and each.at < again_at]
    assert written == []
    assert len(audit.evictions(kube.namespace, stopped_at)) == 1
    report_table("The replica that heals is stopped (SIGSTOP) for longer than its lease", {
        "another heals": f"{led_s:.1f} s", "written by the one that was stopped": "nothing",
        "its exit code": "1"})


def runs_of(healer, name):
    return status_of(healer.kube.get("pod", name), "operator")


# --- without the API server --------------------------------------------------------------------------
def test_an_api_server_that_is_away_is_no_fault_of_any_pod(
        healer, own_cluster, audit, kube, everywhere, nodes, tools_image, recoveries):
    """All nodes fall silent at once, for the API server: none of their pods is touched, then or afterwards."""
    healer.wait_ready()
    alone = deployment("alone", 4, pod("alone", container("alone", tools_image, ["sleep", "100000"])))
    kube.apply(policy(), agents(tools_image, 4), alone)
    before = {name: {each["metadata"]["uid"] for each in wait_ready(kube, 4, name)}
              for name in ("agent", "alone")}
    wait_led(healer)
    began_at = audits.now()
    own_cluster.stop_api_server()
    try:
        time.sleep(AWAY_S)  # The fault itself.
    finally:
        own_cluster.start_api_server()
    back = time.monotonic()
    wait_led(healer)
    led_s = time.monotonic() - back
    for name in nodes:
        everywhere.wait("node", name, "is Ready", is_ready)
    while time.monotonic() - back < WATCHED_S:
        assert {each["metadata"]["uid"] for each in pods(kube)} == before["agent"]
        time.sleep(1)
    assert restarts(kube) == 0
    assert audit.evictions(kube.namespace, began_at) == []
    for each in incidents(kube):
        assert not {"reschedule", "reprovision"} & {
            step["name"] for step in each["status"].get("steps", [])}, each
    left = len(before["alone"] & {each["metadata"]["uid"] for each in pods(kube, "alone")})
    recoveries.append(results.Recovery(
        f"API server away for {AWAY_S} s", "0 of 4 pods touched", f"{4 - left} of 4 pods made anew",
        remarks=f"a replica heals {led_s:.0f} s after the API server answers"))


# --- a burst -----------------------------------------------------------------------------------------
BURST_PODS, BURST_ROUNDS = 500, 20
FIRST_ACTION_S, DRAINED_S, GROWN_KIB_MAX = 20, 15, 64 << 10
QUEUE = "remora_operator_work_queue_depth"


def test_ten_thousand_events_in_a_burst(healer, own_cluster, kube, report_table):
    """As fast as the API server takes writes. In their midst a pod falls ill."""
    healer.wait_ready()
    kube.apply(policy(**{**RESCHEDULES, "budgets": {"minHealthyPercent": 0}}))
    with Proxy() as proxy:
        bulk = Bulk(proxy, kube.namespace)
        bulk.make_pods([f"p{index}" for index in range(BURST_PODS)], {"app": "agent"})
        wait_counted(kube, BURST_PODS)
        name = wait_led(healer)
        process = process_of(healer, own_cluster, name)
        quiet_s, _ = bulk.first_action("p0")
        before_kib = process.memory_kib()
        began = time.monotonic()
        names = [f"p{index}" for index in range(1, BURST_PODS)]
        with bulk.in_background(lambda: bulk.label(names, BURST_ROUNDS + 1, "burst")) as burst:
            kube.wait_for("half of it", lambda: burst.done, lambda count: count >= BURST_PODS * (
                BURST_ROUNDS // 2), BURST_S)
            busy_s, _ = bulk.first_action("p1")
        took_s, sent = time.monotonic() - began, burst.done
        # The last change of each pod is one that the policy's status shows.
        bulk.label(names[:100], 1, "app", "other")
        drain_began = time.monotonic()
        wait_counted(kube, len(names) - 100)
        drained_s = time.monotonic() - drain_began
        grown_kib = process.memory_kib("VmHWM") - before_kib
    metrics = metrics_of(healer.kube, name, METRICS_PORT)
    report_table(f"{sent} events of {BURST_PODS} pods, {sent / took_s:.0f} a second", {
        "first action after a fault, in the burst": f"{busy_s:.2f} s",
        "at rest": f"{quiet_s:.2f} s",
        "all is looked at, after the last one": f"{drained_s:.1f} s",
        "memory of the operator at most": f"{before_kib / 1024:.0f} MiB, and "
                                          f"{grown_kib / 1024:.1f} MiB more in the burst"})
    assert sent >= 10_000
    assert busy_s < FIRST_ACTION_S and drained_s < DRAINED_S
    assert grown_kib < GROWN_KIB_MAX
    assert metrics[QUEUE] <= 1


def wait_counted(kube, count):
    kube.wait("healingpolicy", "all", f"{count} pods are counted", lambda found: found.get(
        "status", {}).get("pods") == count, HEALED_S)
