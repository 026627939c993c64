"""What Remora adds to a pod's start: from the scheduler's decision to the agent's first line.

Kubernetes itself takes its time for every init container, native sidecars included: the kubelet goes on
to the next one when it next looks at its containers, which it does once a second. So there is a third
kind of pod: as many init containers as the injection adds, that do nothing."""

import statistics
from datetime import datetime

import kube as kubes
import pytest
from kube import container, pod, status_of

ROUNDS = 6
# Far more than it takes: the table has the times.
ADDED_S_MAX = 3.0

IDLE = ["sleep", "3600"]


def agent(image):
    return container("agent", image, ["sh", "-c", "echo began; exec sleep 3600"],
                     securityContext={"runAsUser": 1000, "runAsGroup": 1000},
                     ports=[{"containerPort": 8000}])


def moment(text):
    """RFC 3339 with as many digits as there are."""
    whole, fraction = text.rstrip("Z").split(".")
    return datetime.fromisoformat(whole).timestamp() + float("0." + fraction)


def seconds_to_begin(kube, name):
    line = kube.wait_for(f"{name}: first line", lambda: kube.kubectl(
        "logs", name, "--container=agent", "--timestamps", check=False).stdout, lambda text: "began" in text)
    scheduled = [event["eventTime"] for event in kube.list("events") if event["reason"] == "Scheduled"
                 and event["involvedObject"]["name"] == name and event["eventTime"]]
    return moment(line.split()[0]) - moment(scheduled[0])


def empty_steps(image, count):
    """A native sidecar without a hook or probe, and (count 2) a step before it."""
    steps = [container("step", image, ["true"]),
             container("beside", image, IDLE, restartPolicy="Always")]
    return steps[2 - count:]


def test_what_the_sidecar_adds_to_a_pods_start(kube, inject, tools_image, report_table):
    kinds = {
        "alone": lambda name: kube.apply(pod(name, agent(tools_image))),
        "one empty sidecar": lambda name: kube.apply(
            pod(name, agent(tools_image), initContainers=empty_steps(tools_image, 1))),
        "Remora, explicit": lambda name: inject(
            pod(name, agent(tools_image), annotations={"remora.dev/interception": "explicit"})),
        "an empty step and sidecar": lambda name: kube.apply(
            pod(name, agent(tools_image), initContainers=empty_steps(tools_image, 2))),
        "Remora, transparent": lambda name: inject(pod(name, agent(tools_image))),
    }
    seconds = {kind: [] for kind in kinds}
    for turn in range(ROUNDS):
        for number, (kind, make) in enumerate(kinds.items()):
            name = f"pod-{turn}-{number}"
            make(name)
            seconds[kind].append(seconds_to_begin(kube, name))
            kube.delete("pod", name)
    report_table(f"From scheduled to the agent's first line, {ROUNDS} pods each", {
        kind: {"median s": f"{statistics.median(all_):.2f}", "least s": f"{min(all_):.2f}",
               "most s": f"{max(all_):.2f}"} for kind, all_ in seconds.items()})
    for own, same in (("Remora, explicit", "one empty sidecar"),
                      ("Remora, transparent", "an empty step and sidecar")):
        assert statistics.median(seconds[own]) - statistics.median(seconds[same]) < ADDED_S_MAX


def hooks_failed(kube, name):
    return [event for event in kube.list("events") if event["reason"] == "FailedPostStartHook"
            and event["involvedObject"]["name"] == name]


@pytest.mark.parametrize("config", ["detection: {hangWindw: 1s}", "snapshots: {store: /proc/nowhere}"],
                         ids=["bad configuration", "no store"])
def test_an_agent_does_not_begin_beside_a_sidecar_that_cannot(kube, inject, tools_image, config):
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "remora"},
                "data": {"remora.yaml": config}})
    inject(pod("held", agent(tools_image), annotations={"remora.dev/interception": "explicit",
                                                        "remora.dev/config-map": "remora"}))
    kube.wait("pod", "held", "the sidecar has failed twice",
              lambda seen: seen and status_of(seen, "remora").get("restartCount", 0) >= 2)
    held = kube.get("pod", "held")
    assert "running" not in status_of(held, "agent").get("state", {}), status_of(held, "agent")
    assert not status_of(held, "agent").get("containerID")
    # Mended, it begins: the ConfigMap is read by the next start of the sidecar.
    kube.kubectl("patch", "configmap", "remora", "--type=merge",
                 "--patch", '{"data": {"remora.yaml": ""}}')
    kube.wait("pod", "held", "the agent runs", lambda seen: "running" in status_of(
        seen or {"status": {}}, "agent").get("state", {}), seconds=kubes.READY_S * 2)
