"""Whose an agent's identity is: the operator against an API server, with sidecars that say what they
publish under. Before a lost node's pod is moved its Lease is fenced; whoever comes back is told; and a
node that is about to be emptied has its agents asked for a snapshot."""

import pytest
from fake_rbac import LINK, Rights
from link_peers import GrpcSidecar, messages
from remora import wait_for
from test_link import (KEPT_WAIT_S, api, heal_api, make_healer, make_operator, put_pod,  # noqa: F401
                       remora)

LEASES = "/apis/coordination.k8s.io/v1/namespaces/remora-system/leases/agent-default-state-agent-"
EVICTION = "/api/v1/namespaces/default/pods/a/eviction"


@pytest.fixture(scope="module")
def pb(tmp_path_factory):
    return messages(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def call(pb, api, remora):  # noqa: F811
    """call(pod, epoch): its sidecar is there, and publishes under epoch into the store of claim state."""
    calls = []
    api.put("persistentvolumeclaims", {"metadata": {"name": "state", "namespace": "default"}})

    def begin(pod, epoch):
        api.sidecars[f"token-{pod}"] = ("default", pod, f"uid-{pod}")
        one = GrpcSidecar(pb, remora.link_port, api.certificate, f"token-{pod}")
        calls.append(one.__enter__())
        one.say(hello=pb.Hello(version="1", agents=[
            pb.AgentInfo(container="agent", claim="state", epoch=epoch)]))
        assert one.hear().HasField("welcome")
        return one

    yield begin
    for one in calls:
        one.__exit__()


@pytest.fixture
def policy(api):  # noqa: F811
    api.put("healingpolicies", {"metadata": {"name": "agents", "namespace": "default", "generation": 1},
                                "spec": {"selector": {"matchLabels": {"app": "agent"}}}})


def own_pod(api, name, ready=True):  # noqa: F811
    """One that its owner would make again."""
    put_pod(api, name, ready)
    thing = api.get("pods", "default", name)
    thing["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "agent-7c9d8f", "uid": "o", "controller": True}]
    api.put("pods", thing)


def set_node(api, name, ready=True, **spec):  # noqa: F811
    api.put("nodes", {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [
        {"type": "Ready", "status": "True" if ready else "Unknown",
         "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})


def lease(api):  # noqa: F811
    found = [each["spec"] for each in api.all("leases")
             if each["metadata"]["name"].startswith("agent-default-state-agent-")]
    assert len(found) <= 1
    return found[0] if found else {}


def wait_lease(api, holder, epoch):  # noqa: F811
    wait_for(lambda: (lease(api).get("holderIdentity"), lease(api).get("leaseTransitions")) == (
        holder, epoch), f"a Lease of {holder} at {epoch}", KEPT_WAIT_S)


def agent_snapshot(api):  # noqa: F811
    return api.get("agentsnapshots", "default", "state.agent")


def test_identity_is_fenced_before_the_pod_is_moved_and_the_old_one_is_told(
        remora, api, call, policy):  # noqa: F811
    own_pod(api, "a")
    for name in ("n2", "n3"):
        set_node(api, name)
    remora.lead()
    first = call("a", 1)
    wait_lease(api, "a_uid-a", 1)
    wait_for(lambda: (agent_snapshot(api) or {}).get("status", {}).get("epoch") == 1,
             "the epoch in its AgentSnapshot", KEPT_WAIT_S)
    own_pod(api, "a", ready=False)
    set_node(api, "n1", ready=False)
    wait_for(lambda: api.get("pods", "default", "a") is None, "the eviction", KEPT_WAIT_S)
    assert lease(api)["holderIdentity"] == "fenced:a_uid-a"
    assert lease(api)["leaseTransitions"] == 2
    asked = [(method, path) for method, path, _ in api.requests]
    fenced_at = max(i for i, (method, path) in enumerate(asked)
                    if method == "PUT" and path.startswith(LEASES))
    assert fenced_at < asked.index(("POST", EVICTION))
    # It is heard still: only its kubelet was silent.
    told = first.hear_of("lease")
    assert (told.container, told.epoch) == ("agent", 2)
    incident, = api.all("incidents")
    assert any("its identity is fenced first: Lease agent-default-state-agent-" in line
               for line in incident["status"]["evidence"]), incident
    put_pod(api, "b")
    call("b", 2)
    wait_lease(api, "b_uid-b", 2)
    # Back from the dead, and begun anew: it knows no better.
    put_pod(api, "a")
    for epoch in (1, 2):
        told = call("a", epoch).hear_of("lease")
        assert told.epoch == 2 and "b" in told.holder
    wait_lease(api, "b_uid-b", 2)


def test_agents_of_a_cordoned_node_are_asked_once_and_every_right_is_used(
        remora, api, call, policy):  # noqa: F811
    put_pod(api, "a")
    remora.lead()
    first = call("a", 1)
    wait_for(lambda: agent_snapshot(api), "its AgentSnapshot", KEPT_WAIT_S)
    set_node(api, "n1", unschedulable=True)
    asked = first.hear_of("command")
    assert asked.action == "Snapshot" and asked.id.startswith("cordon-n1-")
    assert agent_snapshot(api)["spec"]["request"]["id"] == asked.id
    told = [each for each in api.all("events") if each["reason"] == "RemoraSnapshotBeforeMove"]
    assert len(told) == 1 and "it is cordoned" in told[0]["message"]
    wait_lease(api, "a_uid-a", 1)
    # A higher epoch of the same pod: its container began anew.
    second = call("a", 2)
    wait_lease(api, "a_uid-a", 2)
    for one in (first, second):
        one.__exit__()
    wait_for(lambda: agent_snapshot(api)["status"].get("connected") is False, "its being gone",
             KEPT_WAIT_S)
    api.remove("agentsnapshots", "default", "state.agent")
    wait_for(lambda: not lease(api), "the Lease goes with its agent", KEPT_WAIT_S)
    rights = Rights(LINK).granted
    wait_for(lambda: rights <= api.rights.used, "all rights used", KEPT_WAIT_S)
    assert [request for request in api.requests if request[2] == 403] == []
