"""The cluster itself: what the other tests stand on; and what becomes of pods when a node is lost, cut off,
or about to be emptied."""

import json
import re
import time

import pytest
from kube import claim, container, deployment, is_ready, pod, status_of
from operators import ASKS, events_of, is_injected
from test_healing import healer, incidents, steps_of  # noqa: F401

# Native sidecars are on by default since this one.
MINOR_MIN = 29


@pytest.mark.short
def test_every_node_is_ready_and_new_enough(everywhere, nodes):
    ready = set()
    for node in everywhere.list("nodes"):
        version = node["status"]["nodeInfo"]["kubeletVersion"]
        assert int(re.match(r"v1\.(\d+)\.", version).group(1)) >= MINOR_MIN, version
        ready.add(node["metadata"]["name"])
    assert set(nodes) <= ready
    server = json.loads(everywhere.kubectl("version", "--output=json").stdout)["serverVersion"]
    assert int(re.match(r"\d+", server["minor"]).group(0)) >= MINOR_MIN


@pytest.mark.short
def test_a_native_sidecar_runs_on_each_node(kube, nodes, tools_image):
    """It starts before the main container, which waits for its startup probe, counts on while that
    works, and doesn't keep the pod from ending."""
    counting = ('trap "exit 0" TERM; sleep 2; n=0; '
                'while :; do n=$((n+1)); echo $n >/shared/n; sleep 0.1 & wait $!; done')
    reading = 'a=$(cat /shared/n) && sleep 1 && b=$(cat /shared/n) && echo $a $b'
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    for node in nodes:
        kube.apply(pod(
            node, container("main", tools_image, ["sh", "-c", reading], volumeMounts=mounts),
            initContainers=[container(
                "side", tools_image, ["sh", "-c", counting], restartPolicy="Always",
                startupProbe={"exec": {"command": ["test", "-s", "/shared/n"]}, "periodSeconds": 1},
                volumeMounts=mounts)],
            node=node, restartPolicy="Never", volumes=[{"name": "shared", "emptyDir": {}}]))
    for node in nodes:
        done = kube.wait_done(node)
        assert done["status"]["phase"] == "Succeeded"
        assert done["spec"]["nodeName"] == node
        before, after = map(int, kube.logs(node, "main").split())
        assert after > before > 0
        side = status_of(done, "side")["state"]["terminated"]
        assert side["exitCode"] == 0, "the kubelet ended it with SIGTERM, after main"
        main = status_of(done, "main")["state"]["terminated"]
        assert side["startedAt"] < main["startedAt"] <= main["finishedAt"] <= side["finishedAt"]


def test_a_container_beyond_its_memory_is_oom_killed(kube, tools_image):
    greedy = "sleep 1; exec dd if=/dev/zero of=/dev/null bs=200M count=5"
    kube.apply(pod("greedy", container("greedy", tools_image, ["sh", "-c", greedy], resources={
        "limits": {"memory": "32Mi"}}), restartPolicy="OnFailure"))
    seen = kube.wait("pod", "greedy", "was killed", lambda found: status_of(
        found, "greedy").get("restartCount", 0) > 0)
    ended = status_of(seen, "greedy")["lastState"]["terminated"]
    assert ended["reason"] == "OOMKilled"
    assert ended["exitCode"] == 137


# --- pods of nodes that are lost, cut off, or about to be emptied ------------------------------------

LOST_S, MOVED_S, BACK_S, ASKED_S = 45, 120, 90, 30
# Beyond what Kubernetes waits on its own: whatever happens earlier is Remora's doing.
LEFT_ALONE_S = 3600
STATE, STORE = "/var/lib/agent", "/var/lib/remora"
# Counts on from where its state says.
COUNTING = (f"n=$(cat {STATE}/n 2>/dev/null || echo 0); trap 'exit 0' TERM; "
            f"while :; do n=$((n+1)); echo $n >{STATE}/new; mv {STATE}/new {STATE}/n; "
            "sleep 0.2 & wait $!; done")


def policy(**spec):
    return {"apiVersion": "remora.dev/v1alpha1", "kind": "HealingPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "stableAfter": "1s", **spec}}


def counter(image, prefers, annotations=None, script=COUNTING, **more):
    """A pod that asks for Remora, keeps a number, and would rather run on one node."""
    patient = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": LEFT_ALONE_S} for key in ("unreachable", "not-ready")]
    term = {"weight": 10, "preference": {"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [prefers]}]}}
    return pod("agent", container("agent", image, ["sh", "-c", script], **more),
               labels={"app": "agent", **ASKS},
               annotations={"remora.dev/state-dir": STATE, "remora.dev/snapshot-interval": "1s",
                            **(annotations or {})},
               securityContext={"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
               tolerations=patient, affinity={"nodeAffinity": {
                   "preferredDuringSchedulingIgnoredDuringExecution": [term]}})


def counters(image, replicas, prefers, **more):
    return deployment("agent", replicas, counter(image, prefers, **more))


def live(kube):
    return [each for each in kube.list("pods", "app=agent")
            if "deletionTimestamp" not in each["metadata"]]


def wait_live(kube, what, holds=lambda one: True, seconds=MOVED_S):
    """The only pod that is not leaving, once it is Ready."""
    return kube.wait_for(what, lambda: live(kube), lambda seen: (
        len(seen) == 1 and is_ready(seen[0]) and holds(seen[0])), seconds)[0]


def counted(kube, name):
    return int(kube.run(name, "cat", f"{STATE}/n", container="agent").stdout)


def snapshots(kube, name):
    """Of the store, oldest first."""
    done = kube.run(name, "/usr/local/bin/remora", "snapshot", "list", f"--store={STORE}", "--json",
                    container="remora")
    return json.loads(done.stdout)["snapshots"]


def agent_snapshot(kube, name="state.agent"):
    return (kube.get("agentsnapshot", name) or {}).get("status", {})


def identity(healer, kube):
    """The Lease of the namespace's only agent with a claim."""
    found = [each["spec"] for each in healer.kube.list("leases")
             if each["metadata"]["name"].startswith(f"agent-{kube.namespace}-")]
    assert len(found) <= 1, found
    return found[0] if found else {}


def move_operator_away(healer, everywhere, node):
    """A webhook that is called on a node that has just been cut off doesn't answer, and a pod that is
    made in that moment is made without Remora (failurePolicy Ignore): another story than these."""
    everywhere.kubectl("cordon", node)
    try:
        for each in healer.pods():
            if each["spec"].get("nodeName") == node:
                healer.kube.delete("pod", each["metadata"]["name"])
        healer.kube.wait_for("both replicas elsewhere", healer.pods, lambda seen: sum(
            is_ready(each) and each["spec"].get("nodeName") != node for each in seen) == 2
            and len(seen) == 2)
        healer.wait_ready()
    finally:
        everywhere.kubectl("uncordon", node)


def lost_incident(kube):
    return [each for each in incidents(kube) if each["spec"]["fault"] == "node_unready"]


def first_owner(healer, kube, everywhere, tools_image, home):
    """A pod on that node with snapshots on a volume that any node can use; its store has had no other owner."""
    move_operator_away(healer, everywhere, home)
    kube.apply(claim("state", mode="ReadWriteMany"), policy(),
               counters(tools_image, 1, home, annotations={"remora.dev/snapshot-claim": "state"}))
    first = wait_live(kube, "a pod", lambda one: one["spec"]["nodeName"] == home)
    kube.wait_for("snapshots of the first", lambda: agent_snapshot(kube), lambda seen: (
        seen.get("count", 0) >= 2 and seen.get("epoch") == 1), ASKED_S)
    return first


def test_a_pod_of_a_lost_node_is_fenced_and_its_successor_goes_on_from_a_shared_volume(
        healer, own_cluster, kube, everywhere, nodes, tools_image, report_table):
    """At once: nothing has to be detached. Its identity is fenced before it is moved."""
    home, other = nodes[1], nodes[0]
    first = first_owner(healer, kube, everywhere, tools_image, home)
    held = healer.kube.wait_for("its Lease", lambda: identity(healer, kube), bool, ASKED_S)
    assert held["holderIdentity"] == f"{first['metadata']['name']}_{first['metadata']['uid']}"
    assert held["leaseTransitions"] == 1
    before = counted(kube, first["metadata"]["name"])
    own_cluster.kill_node(home)
    lost_at = time.monotonic()
    try:
        everywhere.wait("node", home, "is not Ready", lambda node: not is_ready(node), LOST_S)
        noticed_s = time.monotonic() - lost_at
        second = wait_live(kube, "a pod elsewhere", lambda one: one["spec"]["nodeName"] == other)
        healed_s = time.monotonic() - lost_at
        name = second["metadata"]["name"]
        assert is_injected(second)
        assert counted(kube, name) >= before - 20, "it did not go on from a snapshot"
        assert "snapshot_restored" in kube.logs(name, "remora")
        taken = healer.kube.wait_for("the Lease of the second", lambda: identity(healer, kube),
                                     lambda lease: lease["holderIdentity"].startswith(name), ASKED_S)
        assert taken["leaseTransitions"] == 2
        seen = kube.wait_for("snapshots of the second", lambda: snapshots(kube, name), lambda all_: sum(
            each["epoch"] == 2 for each in all_) >= 2)
    finally:
        own_cluster.restart_node(home)
        everywhere.wait("node", home, "is Ready again", is_ready, BACK_S)
    assert {each["epoch"] for each in seen} <= {1, 2}
    found = kube.wait_for("its incident's end", lambda: lost_incident(kube), lambda all_of_them: (
        len(all_of_them) == 1 and all_of_them[0]["status"].get("phase") == "Resolved"))[0]
    assert steps_of(found) == ["reschedule:verified"]
    evidence = "\n".join(found["status"]["evidence"])
    assert "its identity is fenced first: Lease agent-" in evidence and "at epoch 2" in evidence
    assert "volume claim state (ReadWriteMany): a pod on another node can use it at once" in evidence
    report_table("A pod of a lost node, its snapshots on a shared volume", {
        "Kubernetes notices": f"{noticed_s:.0f} s",
        "its successor is Ready, with its state": f"{healed_s:.0f} s"})


def runs_on(cluster, node, one):
    """What the node's own runtime says of a pod's agent; the API server can't know."""
    container_id = status_of(one, "agent")["containerID"].removeprefix("containerd://")
    tasks = cluster.tasks(node)
    return any(container_id in line and "RUNNING" in line for line in tasks.splitlines())


def test_a_pod_that_is_cut_off_publishes_nothing_beside_its_successor(
        healer, own_cluster, kube, everywhere, nodes, tools_image):
    """It runs on, and its volume is the one that its successor has by now: only the store's epoch
    keeps the two apart."""
    home, other = nodes[1], nodes[0]
    first = first_owner(healer, kube, everywhere, tools_image, home)
    own_cluster.cut_node(home)
    try:
        second = wait_live(kube, "a pod elsewhere", lambda one: one["spec"]["nodeName"] == other)
        name = second["metadata"]["name"]

        def of_epoch(number):
            return {each["id"] for each in snapshots(kube, name) if each["epoch"] == number}
        begun = kube.wait_for("a snapshot of the second", lambda: of_epoch(2), bool, ASKED_S)
        left = of_epoch(1)
        assert runs_on(own_cluster, home, first), "nothing was there to publish"
        kube.wait_for("more of the second", lambda: of_epoch(2) - begun, lambda new: len(new) >= 5)
        assert runs_on(own_cluster, home, first)
        assert of_epoch(1) <= left, "the first went on publishing"
    finally:
        own_cluster.join_node(home)
        everywhere.wait("node", home, "is Ready again", is_ready, BACK_S)
    kube.wait_for("the first is ended", lambda: kube.get("pod", first["metadata"]["name"]),
                  lambda found: found is None, BACK_S)
    assert live(kube)[0]["metadata"]["uid"] == second["metadata"]["uid"], "the second stays"


def attachment(volume, node):
    """As a CSI driver's attacher makes one; the cluster has no driver."""
    return {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
            "metadata": {"name": f"csi-{volume}"},
            "spec": {"attacher": "tests.remora.dev", "nodeName": node,
                     "source": {"persistentVolumeName": volume}}}


def test_the_detach_of_a_volume_from_a_lost_node_is_awaited_and_said(
        healer, own_cluster, kube, everywhere, nodes, tools_image):
    """A StatefulSet's pod with a volume that one node may have: until a person says that the node
    is off, nothing takes either from it."""
    home = nodes[1]
    move_operator_away(healer, everywhere, home)
    template = counter(tools_image, home, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    made = deployment("agent", 1, template)
    made["kind"] = "StatefulSet"
    made["spec"]["volumeClaimTemplates"] = [claim("data")]
    kube.apply(policy(), made)
    first = wait_live(kube, "a pod", lambda one: one["spec"]["nodeName"] == home)
    volume = kube.get("pvc", "data-agent-0")["spec"]["volumeName"]
    everywhere.apply(attachment(volume, home))
    own_cluster.kill_node(home)
    try:
        waits = f"waits for the detach of volume claim data-agent-0 from {home}"
        kube.wait_for("the wait is in the Incident", lambda: lost_incident(kube), lambda seen: (
            seen and seen[0]["status"].get("hold") == waits), MOVED_S)
        assert kube.get("pod", "agent-0")["metadata"]["uid"] == first["metadata"]["uid"]
        everywhere.delete("volumeattachment", f"csi-{volume}")
        kube.wait_for("the wait is over", lambda: lost_incident(kube)[0]["status"],
                      lambda status: not status.get("hold"), ASKED_S)
        assert kube.get("pod", "agent-0")["metadata"]["uid"] == first["metadata"]["uid"], \
            "deleted by force"
        everywhere.kubectl("taint", "node", home,
                           "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
        wait_live(kube, "the StatefulSet's next pod", lambda one: (
            one["metadata"]["uid"] != first["metadata"]["uid"]))
        kube.wait_for("its incident's end", lambda: lost_incident(kube), lambda seen: (
            seen[0]["status"].get("phase") == "Resolved"))
    finally:
        everywhere.delete("volumeattachment", f"csi-{volume}")
        everywhere.kubectl("taint", "node", home, "node.kubernetes.io/out-of-service-", check=False)
        own_cluster.restart_node(home)
        everywhere.wait("node", home, "is Ready again", is_ready, BACK_S)


def test_a_cordoned_nodes_agents_take_a_snapshot_once(healer, kube, everywhere, nodes, tools_image):
    home = nodes[1]
    kube.apply(claim("state", mode="ReadWriteMany"), policy(), counters(
        tools_image, 1, home, annotations={"remora.dev/snapshot-claim": "state",
                                           "remora.dev/snapshot-interval": "1h"}))
    first = wait_live(kube, "a pod", lambda one: one["spec"]["nodeName"] == home)
    kube.wait_for("its sidecar is heard", lambda: agent_snapshot(kube),
                  lambda seen: seen.get("connected"), ASKED_S)
    assert agent_snapshot(kube).get("count", 0) == 0
    everywhere.kubectl("cordon", home)
    try:
        asked = kube.wait_for("a snapshot", lambda: agent_snapshot(kube), lambda seen: seen.get(
            "request", {}).get("state") == "Done", ASKED_S)
        assert asked["request"]["id"].startswith(f"cordon-{home}-")
        assert asked["request"]["action"] == "Snapshot"
        kube.wait_for("it is in the catalogue", lambda: agent_snapshot(kube),
                      lambda seen: seen.get("count") == 1, ASKED_S)
        told = kube.wait_for("an Event", lambda: events_of(kube, "RemoraSnapshotBeforeMove"))
        assert "it is cordoned" in told[first["metadata"]["name"]]
        time.sleep(12)  # Two more looks.
        assert agent_snapshot(kube)["request"]["id"] == asked["request"]["id"], "asked twice"
        everywhere.kubectl("uncordon", home)
        time.sleep(2)  # Cordons are told apart by the second.
        everywhere.kubectl("cordon", home)
        kube.wait_for("another request", lambda: agent_snapshot(kube), lambda seen: seen[
            "request"]["id"] != asked["request"]["id"], ASKED_S)
    finally:
        everywhere.kubectl("uncordon", home)


def test_the_next_pod_keeps_away_from_the_node_that_the_last_was_taken_from(
        healer, kube, nodes, tools_image):
    """Though it would rather go there, and the node is well."""
    home, other = nodes[1], nodes[0]
    kube.apply(policy(stepTimeout="10s", ladders=[{"fault": "unready", "steps": ["reschedule"]}]),
               counters(tools_image, 1, home, script="touch /tmp/well; exec sleep 100000",
                        readinessProbe={"exec": {"command": ["test", "-e", "/tmp/well"]},
                                        "periodSeconds": 1, "failureThreshold": 1}))
    first = wait_live(kube, "a pod", lambda one: one["spec"]["nodeName"] == home)
    own = first["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert len(own) == 1 and "remora.dev/avoids-nodes" not in first["metadata"]["annotations"]
    kube.run(first["metadata"]["name"], "rm", "/tmp/well", container="agent")
    second = wait_live(kube, "another pod", lambda one: (
        one["metadata"]["uid"] != first["metadata"]["uid"]))
    terms = second["spec"]["affinity"]["nodeAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"]
    assert terms[0] == own[0] and len(terms) == 2
    assert terms[1]["preference"]["matchFields"][0] == {
        "key": "metadata.name", "operator": "NotIn", "values": [home]}
    assert second["spec"]["nodeName"] == other
    said = second["metadata"]["annotations"]["remora.dev/avoids-nodes"]
    assert said.startswith(f"{home} until ")
    avoided = kube.get("healingpolicy", "all")["status"]["avoidedNodes"]
    assert [(each["node"], each["workload"]) for each in avoided] == [(home, "Deployment/agent")]
    assert avoided[0]["until"] in said and avoided[0]["incident"] in said
