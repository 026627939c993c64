"""The operator as a responder of Kubernetes' Eviction API (KEP-4563), against an API server; the test
takes the part of the evictionrequest-controller, which calls the responders in turn."""

import time

import pytest
from fake_rbac import EVICTIONS, HEALING, INSTALL, LINK, Rights
from link_peers import GrpcSidecar, messages
from remora import wait_for
from test_link import (KEPT_WAIT_S, api, heal_api, make_healer, make_operator,  # noqa: F401
                       remora)

OURS, KUBERNETES = "remora.dev/snapshot", "imperative-eviction.k8s.io/evictor"


@pytest.fixture
def sidecar(tmp_path, api, remora):  # noqa: F811
    """Of pod a, which keeps snapshots; the operator leads."""
    api.put("persistentvolumeclaims", {"metadata": {"name": "state", "namespace": "default"}})
    api.rights = Rights(INSTALL, HEALING, LINK, EVICTIONS)
    remora.lead("--eviction-requests")
    pb = messages(tmp_path)
    with GrpcSidecar(pb, remora.link_port, api.certificate, "token-a") as one:
        one.pb = pb
        one.say(hello=pb.Hello(version="1", agents=[
            pb.AgentInfo(container="agent", claim="state", epoch=1)]))
        assert one.hear().HasField("welcome")
        wait_for(lambda: api.get("agentsnapshots", "default", "state.agent"), "its AgentSnapshot",
                 KEPT_WAIT_S)
        yield one


def put_eviction(api, state, pod="a", name="e"):  # noqa: F811
    api.put("evictions", {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"target": {"pod": {"name": pod, "uid": f"uid-{pod}"}}},
        "status": {"targetResponders": [{"name": OURS, "priority": 20000, "state": state},
                                        {"name": KUBERNETES, "priority": 100, "state": "Inactive"}],
                   "responders": [{"name": OURS, "startTime": "2026-01-01T00:00:00Z"}
                                  if state == "Active" else {"name": OURS},
                                  {"name": KUBERNETES}]}})


def entries(api, name="e"):  # noqa: F811
    status = api.get("evictions", "default", name)["status"]
    return {each["name"]: each for each in status["responders"]}


def begin_turn(api, name="e"):  # noqa: F811
    """Our turn begins now: by the times of an Eviction the operator sees how long it has waited."""
    thing = api.get("evictions", "default", name)
    thing["status"]["targetResponders"][0]["state"] = "Active"
    thing["status"]["responders"][0]["startTime"] = now()
    api.put("evictions", thing)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_a_snapshot_is_taken_in_its_turn_and_then_it_is_the_next_ones(api, sidecar):  # noqa: F811
    put_eviction(api, "Inactive")
    put_eviction(api, "Inactive", pod="stranger", name="other")
    begin_turn(api, "other")
    # Nobody is connected for that pod: nobody is waited for, and nobody asked.
    wait_for(lambda: "completionTime" in entries(api, "other")[OURS], "its end", KEPT_WAIT_S)
    assert "no agent of this pod" in entries(api, "other")[OURS]["message"]
    snapshot = api.get("agentsnapshots", "default", "state.agent")
    assert "request" not in snapshot["spec"]
    assert entries(api)[OURS].keys() == {"name"}

    begin_turn(api)
    asked = sidecar.hear_of("command")
    uid = api.get("evictions", "default", "e")["metadata"]["uid"]
    assert (asked.action, asked.id) == ("Snapshot", f"eviction-{uid}")
    wait_for(lambda: "heartbeatTime" in entries(api)[OURS], "a heartbeat", KEPT_WAIT_S)
    assert "completionTime" not in entries(api)[OURS]
    sidecar.say(outcome=sidecar.pb.Outcome(id=asked.id, container="agent", done=True,
                                           snapshot="00000001-aa"))
    wait_for(lambda: "completionTime" in entries(api)[OURS], "its end", KEPT_WAIT_S)
    # Nobody is evicted by us, and the others' entries are theirs.
    assert entries(api)[KUBERNETES] == {"name": KUBERNETES}
    assert api.get("pods", "default", "a")
    rights = Rights(EVICTIONS).granted
    wait_for(lambda: rights <= api.rights.used, "all rights used", KEPT_WAIT_S)
    assert [request for request in api.requests if request[2] == 403] == []


def test_one_that_was_begun_long_ago_is_not_held_up(api, sidecar):  # noqa: F811
    put_eviction(api, "Active")  # since January
    wait_for(lambda: "completionTime" in entries(api)[OURS], "its end", KEPT_WAIT_S)
    assert entries(api)[OURS]["message"] == "gave up waiting for the last snapshot"
