"""Steps of the cluster's ladder that a pod's own sidecar carries out: restart and restore, in the pod that there
is. Beside each the same pod without Remora."""

import time

from kube import is_ready, status_of
from test_healing import healer, incidents, policy, steps_of  # noqa: F401
from test_healing_ladder import never_alone, watch_alone
from test_link import STATE, agent, plugin, reasons, wait_connected  # noqa: F401
from workloads import USER, web

HEALED_S = 120
# Not as process 1, which nobody in its container could kill.
SERVE = "echo well >/tmp/www/index.html && httpd -f -p 8080 -h /tmp/www; exit $?"
# Its readiness is a page of its own, and goes with it.
FRESH = f"mkdir -p /tmp/www && {SERVE}"
# What it finds broken in its state it can't live with.
CAREFUL = f"! grep -qs broken {STATE}/notes || exit 3; {FRESH}"


def alone(image, script):
    made = web(image, "alone", labels={"app": "alone"}, script=script, volumes=[
        {"name": "state", "emptyDir": {}}], securityContext={"runAsUser": USER, "runAsGroup": USER,
                                                              "fsGroup": USER})
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "state", "mountPath": STATE}]
    return made


def sicken(kube, script):
    for name in ("agent", "alone"):
        kube.run(name, "sh", "-c", script, container="web", check=False)
    return time.monotonic()


def healed(kube, began, recoveries, fault, remarks):
    """The Incident, resolved, and the pod as ready as before; the other one, which isn't."""
    ended, = kube.wait_for("the incident's end", lambda: incidents(kube), lambda seen: seen and all(
        each.get("status", {}).get("phase") == "Resolved" for each in seen), HEALED_S)
    healed_s = time.monotonic() - began
    assert is_ready(kube.get("pod", "agent"))
    watch_alone(began, healed_s, lambda: is_ready(kube.get("pod", "alone")))
    recoveries.append(never_alone(fault, healed_s, [ended], remarks))
    return ended


def test_an_agent_that_lives_and_is_not_ready_is_restarted_in_its_pod(
        healer, kube, tools_image, recoveries):
    kube.apply(policy(stepTimeout="20s", stableAfter="2s",
                      ladders=[{"fault": "unready", "steps": ["restart", "alert"]}]),
               agent(tools_image, script=FRESH), alone(tools_image, FRESH))
    made = kube.wait_ready("agent")
    kube.wait_ready("alone")
    wait_connected(kube, "agent")
    began = sicken(kube, "rm /tmp/www/index.html")
    ended = healed(kube, began, recoveries, "an agent that lives and is never ready again",
                   "restarted in its pod, after stepTimeout (20 s)")
    assert (ended["spec"]["fault"], steps_of(ended)) == ("unready", ["restart:verified"])
    now = kube.get("pod", "agent")
    assert now["metadata"]["uid"] == made["metadata"]["uid"]
    assert status_of(now, "web")["restartCount"] == 1
    assert {"RemoraRestart", "RemoraRestarted", "RemoraResolved"} <= set(reasons(kube))


def test_an_agent_whose_sidecar_gave_up_on_it_is_restored_in_its_pod(
        healer, kube, tools_image, plugin, recoveries):
    kube.apply(policy(stepTimeout="60s", stableAfter="2s",
                      ladders=[{"fault": "gave_up", "steps": ["restore", "alert"]},
                               {"fault": "crash_loop", "steps": ["restore", "alert"]}]),
               agent(tools_image, script=CAREFUL, ladders="[{fault: crash, steps: [give_up]}]"),
               alone(tools_image, CAREFUL))
    made = kube.wait_ready("agent")
    kube.wait_ready("alone")
    wait_connected(kube, "agent")
    kube.run("agent", "sh", "-c", f"echo good >{STATE}/notes", container="web")
    assert "Done" in plugin("snapshot", "agent")
    began = sicken(kube, f"echo broken >{STATE}/notes; kill -9 $(pidof httpd)")
    ended = healed(kube, began, recoveries, "an agent that its broken state keeps from starting",
                   "the newest snapshot put back in its pod, once its own sidecar had given up")
    assert steps_of(ended) == ["restore:verified"], ended
    assert "snapshot 0" in ended["status"]["steps"][0]["message"]
    assert kube.get("pod", "agent")["metadata"]["uid"] == made["metadata"]["uid"]
    assert kube.run("agent", "cat", f"{STATE}/notes", container="web").stdout.strip() == "good"
