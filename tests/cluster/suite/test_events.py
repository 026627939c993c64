"""What Remora found and did, told at the pod itself: by its own service account, where that may."""

import agents
import patients
import pytest

TOLD = {"remora.dev/events": "true"}
FIRST, THEN = "RemoraFoundFault", "RemoraHealed"
COMPONENT = "remora-sidecar"


@pytest.fixture
def ill(kube, inject, python_image):
    """ill(): an agent dies, and is up again; the incident."""
    def run():
        kube.apply(agents.caller(python_image))
        inject(*patients.scripted("ill", python_image, annotations=TOLD))
        patients.wait_served(kube, "ill")
        agents.try_call(kube, "http://ill/fault/loop?0", {})
        incident = patients.closed_incident(kube, "ill", "crash")
        assert incident["closed_reason"] == "recovered", incident
        return incident
    return run


def told(kube):
    """Remora's Events of the pod, in their order."""
    return sorted((event for event in kube.list("events")
                   if event["source"].get("component") == COMPONENT),
                  key=lambda event: (event["firstTimestamp"], event["reason"] != FIRST))


def test_a_fault_and_its_healing_are_events_of_the_pod(kube, ill):
    kube.kubectl("create", "role", "remora-events", "--verb=create", "--resource=events")
    kube.kubectl("create", "rolebinding", "remora-events", "--role=remora-events",
                 f"--serviceaccount={kube.namespace}:default")
    ill()
    events = kube.wait_for("both are there", lambda: told(kube), lambda seen: len(seen) >= 2)
    assert [(each["reason"], each["type"]) for each in events] == [
        (FIRST, "Warning"), (THEN, "Normal")], events
    uid = kube.get("pod", "ill")["metadata"]["uid"]
    for each in events:
        assert each["involvedObject"]["uid"] == uid
        assert each["involvedObject"]["fieldPath"] == "spec.containers{agent}"
        assert "container agent: crash: " in each["message"]
    described = kube.kubectl("describe", "pod", "ill").stdout
    assert FIRST in described and THEN in described and COMPONENT in described


def test_an_account_that_may_not_tell_is_said_once_and_hinders_no_healing(kube, ill):
    ill()
    forbidden = [line for line in patients.log(kube, "ill") if line.get("event") == "events_forbidden"]
    assert len(forbidden) == 1 and "events" in forbidden[0]["reason"], forbidden
    assert told(kube) == []
