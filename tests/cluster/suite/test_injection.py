"""A pod that `remora inject` has added Remora to: it comes up, its callers go through the sidecar,
and an agent that dies is back with its conversation."""

import re
from datetime import datetime

import agents
import pytest
from kube import status_of

HEALTH_PORT = 15020
HEAL_S = 60


def metrics(kube, pod="agent"):
    """The sidecar's metrics: {name with labels: value}."""
    address = kube.get("pod", pod)["status"]["podIP"]
    answer = agents.call(kube, f"http://{address}:{HEALTH_PORT}/metrics")
    assert answer["status"] == 200, answer
    lines = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", answer["body"], re.MULTILINE)
    return {name: float(value) for name, value in lines}


def total(seen, name, *labels):
    return sum(value for key, value in seen.items()
               if re.match(rf"{name}(\{{|$)", key) and all(label in key for label in labels))


@pytest.fixture
def injected(kube, inject, agent_image, python_image):
    """The model and a caller as they are, and the agent with Remora beside it."""
    kube.apply(*agents.model(agent_image), agents.caller(python_image))
    inject(*agents.agent_with_state(agent_image))
    for name in ("model", "caller", "agent"):
        kube.wait_ready(name)
    agents.wait_reachable(kube)
    return kube.get("pod", "agent")


def started(pod, container):
    return datetime.fromisoformat(status_of(pod, container)["state"]["running"]["startedAt"])


def test_the_sidecar_is_up_before_the_agent(injected):
    remora, agent = status_of(injected, "remora"), status_of(injected, "agent")
    assert remora["ready"] and agent["ready"]
    assert remora["restartCount"] == agent["restartCount"] == 0
    assert started(injected, "remora") <= started(injected, "agent")


@pytest.mark.short
def test_requests_of_callers_go_through_the_sidecar(kube, injected):
    before = total(metrics(kube), "remora_http_requests_total")
    for turn in range(1, 4):
        answer = agents.chat(kube, "thread", "one two three", f"key-{turn}")
        assert answer["turn"] == turn and f"3 words in turn {turn}" in answer["reply"]
    after = total(metrics(kube), "remora_http_requests_total")
    assert after - before >= 3, f"{before} requests before, {after} after three turns"


def test_a_killed_agent_comes_back_and_the_conversation_goes_on(kube, injected):
    assert agents.chat(kube, "thread", "one two", "first")["turn"] == 1
    agents.try_call(kube, "http://agent/fault/exit", {})
    kube.wait("pod", "agent", "was started again and is Ready", lambda pod: status_of(
        pod, "agent").get("restartCount") == 1 and status_of(pod, "agent")["ready"], HEAL_S)
    agents.wait_reachable(kube)
    assert status_of(kube.get("pod", "agent"), "remora")["restartCount"] == 0
    again = agents.chat(kube, "thread", "one two", "first")
    assert again["replayed"] and again["turn"] == 1
    assert agents.chat(kube, "thread", "three", "second")["turn"] == 2
    assert total(metrics(kube), "remora_faults_total") >= 1


def test_calls_of_the_agent_go_through_the_sidecar(kube, injected):
    before = total(metrics(kube), "remora_outbound_connections_total", 'way="captured"')
    assert agents.chat(kube, "thread", "one two", "first")["turn"] == 1
    assert total(metrics(kube), "remora_outbound_connections_total", 'way="captured"') > before


def test_a_deleted_pod_with_nothing_in_flight_does_not_wait_for_its_grace_period(kube, injected):
    kube.delete("pod", "agent")
    kube.wait_gone("pod", "agent", seconds=agents.GRACE_S / 2)
