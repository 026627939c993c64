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

ALONE = "alone"
SAME_WITHOUT_REMORA = {"Remora, explicit": "one empty sidecar",
                       "Remora, transparent": "an empty step and sidecar"}
MEANING = """\
The kubelet starts one init container each time that it looks at the pod's containers, and it looks once a
second. So whatever is in an init container, native sidecars included, the agent waits for that look: half a
second on average for the first one, a whole second for each that follows. *By the kubelet* is what empty
containers in the places of Remora's add, *by Remora* the rest: its program's start, and the hook that lets
the agent begin only when its state has been checked. Writing the rules in the sidecar itself would save one
look and keep root and NET_ADMIN in the pod for all of its life; a container beside the agents instead of a
native sidecar would wait for no look, and would keep Jobs from ending, leave init containers without a
network and end before the agents."""

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
        ALONE: lambda name: kube.apply(pod(name, agent(tools_image))),
        "one empty sidecar": lambda name: kube.apply(
            pod(name, agent(tools_image), initContainers=empty_steps(tools_image, 1))),
        "Remora, explicit": lambda name: inject(
            pod(name, agent(tools_image), annotations={"remora.dev/interception": "explicit"})),
        "an empty step and sidecar": lambda name: kube.apply(
            pod(name, agent(tools_image), initContainers=empty_steps(tools_image, 2))),
        "Remora, transparent": lambda name: inject(pod(name, agent(tools_image))),
        "an empty container with a hook, no sidecar": lambda name: kube.apply(
            pod(name, container("beside", tools_image, IDLE, lifecycle={
                "postStart": {"exec": {"command": ["true"]}}}), agent(tools_image))),
    }
    seconds = {kind: [] for kind in kinds}
    for turn in range(ROUNDS):
        for number, (kind, make) in enumerate(kinds.items()):
            name = f"pod-{turn}-{number}"
            make(name)
            seconds[kind].append(seconds_to_begin(kube, name))
            kube.delete("pod", name)
    report_table(f"From scheduled to the agent's first line, {ROUNDS} pods each, in turns",
                 {kind: row(kind, seconds) for kind in kinds}, MEANING)
    for own, same in SAME_WITHOUT_REMORA.items():
        assert statistics.median(seconds[own]) - statistics.median(seconds[same]) < ADDED_S_MAX


def row(kind, seconds):
    median = {each: statistics.median(all_) for each, all_ in seconds.items()}
    cells = {"median s": f"{median[kind]:.2f}", "least s": f"{min(seconds[kind]):.2f}",
             "most s": f"{max(seconds[kind]):.2f}", "added s": f"{median[kind] - median[ALONE]:.2f}"}
    if same := SAME_WITHOUT_REMORA.get(kind):
        cells |= {"by the kubelet s": f"{median[same] - median[ALONE]:.2f}",
                  "by Remora s": f"{median[kind] - median[same]:.2f}"}
    return cells


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
