"""What the sidecar does when an agent can't be healed, and what becomes of the agent when the sidecar
itself is killed."""

import time

import agents
import patients
import pytest
import results as rows
from kube import status_of
from load import Load

# Finds Remora's process in the pod's process namespace and kills it.
KILL_SIDECAR = """
import os, signal, time
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        if file.read().startswith(b"/usr/local/bin/remora\\0sidecar\\0"):
            print(time.time(), flush=True)
            os.kill(int(pid), signal.SIGKILL)
"""
# The kubelet starts a container again at once, then after 10 s, 20 s, 40 s …
LOOP_STARTS = 2
LOOP_S = 90
WINDOW_S = 3
# A request that the sidecar takes while it is being killed.
HANDS_S = 0.3


@pytest.fixture
def caller(kube, python_image):
    kube.apply(agents.caller(python_image))
    kube.wait_ready("caller")


def test_a_crash_loop_is_given_up_loudly_and_served_again_when_it_ends(
        kube, caller, inject, python_image, results):
    inject(*patients.scripted("loop", python_image, annotations={
        "remora.dev/restarts-max": str(LOOP_STARTS)}))
    kube.apply(*patients.without_annotations(patients.scripted("loop-alone", python_image)))
    patients.wait_served(kube, "loop", "loop-alone")
    with Load(kube, "loop", counts_turns=False) as load, \
            Load(kube, "loop-alone", counts_turns=False) as alone:
        path = f"/fault/loop?{LOOP_STARTS}"
        fault_at, alone_at = load.ask(path), alone.ask(path)
        awaited = kube.wait_for("the back-off is shown", lambda: patients.status(kube, "loop"),
                                lambda seen: "back-off" in str(seen), LOOP_S)
        incident = patients.closed_incident(kube, "loop", "crash")
        served_while_down = patients.status(kube, "loop")
        kube.wait("pod", "loop", "was started again", lambda pod: status_of(
            pod, "agent")["restartCount"] == LOOP_STARTS + 1, LOOP_S)
        load.wait_steady(time.time(), LOOP_S)
        alone.wait_steady(time.time(), LOOP_S)
    assert incident["closed_reason"] == "gave_up", incident
    assert "budget is spent" in incident["steps"][-1]["reason"], incident
    alerts = [line for line in patients.log(kube, "loop") if line.get("event") == "alert"]
    assert [line["incident"] for line in alerts] == [incident["id"]], alerts
    assert awaited and served_while_down
    assert patients.restarts(kube, "loop", "remora") == 0, "a sidecar outlives what it gave up"
    # Ready again by itself: nobody has to reset anything.
    assert kube.wait_ready("loop")
    row = rows.of_incident("crash loop", incident, fault_at, remora=load.seen(fault_at),
                           alone=alone.seen(alone_at))
    row.remarks = (f"{LOOP_STARTS + 1} starts, the kubelet's back-off between them; given up and "
                   "alerted after the second; requests are held for 60 s at most")
    results.append(row)


def test_a_killed_sidecar_leaves_the_agent_alone_and_loses_what_it_held_only(
        kube, caller, inject, agent_image, results):
    kube.apply(*agents.model(agent_image))
    kube.wait_ready("model")
    inject(*patients.patient("agent", agent_image, patients.LANGGRAPH))
    patients.wait_served(kube, "agent")
    before = kube.get("pod", "agent")
    pid = patients.agent_pid(kube, "agent")
    with Load(kube, "agent") as load:
        killed = kube.run("agent", "python3", "-c", KILL_SIDECAR, container="agent")
        fault_at = float(killed.stdout)
        kube.wait("pod", "agent", "has its sidecar again", lambda pod: status_of(
            pod, "remora")["restartCount"] == 1 and status_of(pod, "remora")["ready"])
        load.wait_steady(time.time())
    after = kube.get("pod", "agent")
    assert status_of(after, "agent")["state"] == status_of(before, "agent")["state"]
    assert status_of(after, "agent")["restartCount"] == 0
    assert patients.agent_pid(kube, "agent") == pid
    seen = load.seen(fault_at)
    later = [each for each in load.requests() if each["problem"] and not each["refused"]
             and each["began"] > fault_at + HANDS_S]
    assert later == [], "lost although the sidecar never had them"
    results.append(rows.Row("sidecar killed", remora=seen, remarks="the agent runs on, untouched"))


@pytest.mark.short
def test_nobody_is_refused_by_a_service_of_unready_pods(kube, caller, inject, agent_image, results):
    """A pod without its container is never Ready, and Kubernetes takes it out of its Services. One that
    publishes it all the same leaves it to Remora to hold newcomers, too."""
    kube.apply(*agents.model(agent_image))
    kube.wait_ready("model")
    objects = patients.patient("agent", agent_image, patients.LANGGRAPH)
    objects[0]["spec"]["publishNotReadyAddresses"] = True
    inject(*objects)
    patients.wait_served(kube, "agent")
    with Load(kube, "agent") as load:
        fault_at = load.ask("/fault/exit")
        incident = patients.closed_incident(kube, "agent", "crash")
        load.wait_steady(time.time())
    seen = load.seen(fault_at)
    row = rows.of_incident("crash, Service with publishNotReadyAddresses", incident, fault_at,
                           remora=seen)
    results.append(row)
    assert (seen.lost, seen.refused) == (0, 0), seen


def test_an_agent_that_awaits_a_slow_tool_is_not_taken_for_hung(kube, caller, inject, python_image):
    """Its call is seen, although the runtime's seccomp profile keeps its descriptors from us."""
    kube.apply(*patients.without_annotations(patients.scripted("tool", python_image)))
    inject(*patients.scripted("agent", python_image,
                   annotations={"remora.dev/hang-window": f"{WINDOW_S}s"}))
    patients.wait_served(kube, "tool", "agent")
    answer = agents.call(kube, f"http://agent/call?http://tool/slow?{4 * WINDOW_S}", {})
    assert answer["status"] == 200, answer
    assert patients.restarts(kube, "agent") == 0
    kinds = {each["fault"] for each in patients.incidents(kube, "agent")}
    assert kinds <= {"dependency"}, kinds
    degraded = [each for incident in patients.incidents(kube, "agent")
                for each in incident["evidence"] if each["kind"] == "degraded"]
    assert degraded == []
