"""The steps of the cluster's ladder on a real one, beside what Kubernetes does alone at its defaults; and what
must not be healed."""

import json
import time

import results
from kube import container, deployment, is_ready, pod, service, status_of
from operators import ASKS
from test_healing import healer, incidents, steps_of  # noqa: F401
from workloads import web

HEALED_S, SEEN_S = 120, 60
# So long is Kubernetes alone watched before "never" is believed.
ALONE_S = 60
# Longer than stableAfter.
IN_SERVICE_S = 3
DEPENDENCY_AWAY_S = 120
REPLICAS = 10
FOREVER = "exec sleep 100000"
READY = {"exec": {"command": ["test", "-e", "/tmp/well"]}, "periodSeconds": 1, "failureThreshold": 1}
CRASHES = "sleep 1; exit 3"
# Without it such a pod is Ready while it sleeps.
OUTLIVED = {"exec": {"command": ["true"]}, "initialDelaySeconds": 3, "periodSeconds": 1}


def policy(**spec):
    return {"apiVersion": "remora.dev/v1alpha1", "kind": "HealingPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "stepTimeout": "20s",
                     "stableAfter": "2s", **spec}}


def agents(image, replicas, script, name="agent", strategy=None, **more):
    made = deployment(name, replicas, pod(name, container(name, image, ["sh", "-c", script], **more)))
    if strategy:
        made["spec"]["strategy"] = strategy
    return made


def pods(kube, name="agent"):
    return [each for each in kube.list("pods", f"app={name}")
            if "deletionTimestamp" not in each["metadata"]]


def wait_ready(kube, count, name="agent", seconds=HEALED_S):
    return kube.wait_for(f"{count} Ready pods of {name}", lambda: pods(kube, name), lambda seen: (
        len(seen) == count and all(is_ready(each) for each in seen)), seconds)


def restarts(kube, name="agent"):
    return sum(status_of(each, name).get("restartCount", 0) for each in pods(kube, name))


def all_resolved(seen):
    return seen and all(each["status"].get("phase") == "Resolved" for each in seen)


def ready_for_s(one):
    """How long a pod has been Ready without a break."""
    since = next(each["lastTransitionTime"] for each in one["status"]["conditions"]
                 if each["type"] == "Ready")
    return time.time() - results.moment(since).timestamp()


def watch_alone(began, healed_s, is_well):
    """Kubernetes alone hasn't healed it for so much longer than Remora needed."""
    while time.monotonic() - began < healed_s + ALONE_S:
        assert not is_well()
        time.sleep(1)


def never_alone(fault, healed_s, ended, remarks):
    return results.Recovery(fault, f"{healed_s:.0f} s", f"not within {healed_s + ALONE_S:.0f} s",
                            results.split_of(ended), remarks)


def rolled_back(kube, make, count, recoveries, fault, remarks):
    """make(name, script): a workload of so many pods. That of the policy and one of Kubernetes alone get a revision
    whose pods crash; the Incidents, ended."""
    both = ("agent", "alone")
    kube.apply(policy(ladders=[{"fault": "crash_loop", "steps": ["roll_back", "alert"]}]),
               *(make(name, FOREVER) for name in both))
    for name in both:
        wait_ready(kube, count, name)
    kube.wait_for("in service for stableAfter: what the revision must have been", lambda: pods(kube),
                  lambda seen: all(ready_for_s(each) >= IN_SERVICE_S for each in seen))
    began = time.monotonic()
    kube.apply(*(make(name, CRASHES) for name in both))
    kube.wait_for("pods of the bad revision crash", lambda: restarts(kube), bool)
    wait_ready(kube, count)
    healed_s = time.monotonic() - began
    ended = kube.wait_for("the incidents' end", lambda: incidents(kube), all_resolved)
    watch_alone(began, healed_s, lambda: all(is_ready(each) for each in pods(kube, "alone")))
    recoveries.append(never_alone(fault, healed_s, ended, remarks))
    return ended


def test_a_rollout_that_crash_loops_is_rolled_back(healer, kube, tools_image, recoveries):
    def deployed(name, script):
        return agents(tools_image, 3, script, name, {"type": "Recreate"}, readinessProbe=OUTLIVED)
    rolled_back(kube, deployed, 3, recoveries, "a rollout whose pods crash",
                "back to the revision before")
    found = kube.get("deployment", "agent")["metadata"]["annotations"]
    assert "Remora rolled back" in found["kubernetes.io/change-cause"]


def test_a_stateful_set_whose_rollout_crash_loops_is_rolled_back(healer, kube, tools_image, recoveries):
    """Kubernetes waits for the bad pod to be Ready, also when the template is mended by hand: the
    pod has to be deleted, too."""
    def stateful(name, script):
        return agents(tools_image, 2, script, name, readinessProbe=OUTLIVED) | {"kind": "StatefulSet"}
    ended = rolled_back(kube, stateful, 2, recoveries, "a StatefulSet's rollout whose pods crash",
                        "back to the revision before; the pod that waits is deleted")
    assert {step for each in ended for step in steps_of(each)} >= {"roll_back:verified"}


def test_an_agent_killed_for_want_of_memory_gets_more_in_place(healer, kube, tools_image, recoveries):
    greedy = f"sleep 3; dd if=/dev/zero of=/dev/null bs=48M count=1 && {FOREVER}"
    limits = {"resources": {"limits": {"memory": "32Mi"}, "requests": {"memory": "32Mi"}}}
    kube.apply(policy(stepTimeout="90s", stableAfter="5s", memory={"factorPercent": 300,
                                                                     "bytesMax": "128MiB"},
                      ladders=[{"fault": "out_of_memory", "steps": ["resize", "alert"]}]),
               agents(tools_image, 1, greedy, **limits),
               agents(tools_image, 1, greedy, "alone", **limits))
    began = time.monotonic()
    ended = kube.wait_for("the incident's end", lambda: incidents(kube), all_resolved, HEALED_S)
    healed_s = time.monotonic() - began
    assert steps_of(ended[0]) == ["resize:verified"]
    assert ended[0]["spec"]["fault"] == "out_of_memory"
    well = wait_ready(kube, 1)[0]
    assert status_of(well, "agent")["resources"]["limits"]["memory"] == "96Mi"
    assert well["metadata"]["uid"] == ended[0]["spec"]["pod"]["uid"], "the same pod"
    killed = restarts(kube, "alone")
    assert killed > 1
    recoveries.append(results.Recovery(
        "an agent that needs more memory than its limit", f"{healed_s:.0f} s",
        f"killed {killed} times within {healed_s:.0f} s", results.split_of(ended),
        "limit raised in place, the pod stays"))


def set_well(kube, name, well):
    kube.run(name, *(["touch", "/tmp/well"] if well else ["rm", "-f", "/tmp/well"]))


def test_sixty_percent_sick_at_once_and_then_flapping_are_not_healed_one_by_one(
        healer, kube, tools_image, recoveries):
    kube.apply(policy(stepTimeout="10s", budgets={"minHealthyPercent": 50, "coolDown": "60s"},
                      ladders=[{"fault": "unready", "steps": ["reschedule"]}]),
               agents(tools_image, REPLICAS, f"touch /tmp/well; {FOREVER}", readinessProbe=READY))
    before = {each["metadata"]["uid"] for each in wait_ready(kube, REPLICAS)}
    sick = [each["metadata"]["name"] for each in pods(kube)[:6]]
    for name in sick:
        set_well(kube, name, False)
    held = kube.wait_for("six held incidents", lambda: incidents(kube), lambda seen: len(
        seen) == 6 and all(each["status"].get("phase") == "Held" for each in seen), SEEN_S)
    assert all("too many" in each["status"]["hold"] for each in held)
    for well in (True, False) * 3:
        set_well(kube, sick[0], well)
        set_well(kube, sick[1], well)
        time.sleep(3)  # The flapping itself.
    assert {each["metadata"]["uid"] for each in pods(kube)} == before
    well_at = time.monotonic()
    for name in sick:
        set_well(kube, name, True)
    wait_ready(kube, REPLICAS)
    ready_s = time.monotonic() - well_at
    ended = kube.wait_for("the incidents' end", lambda: incidents(kube), all_resolved)
    assert {each["metadata"]["uid"] for each in pods(kube)} == before, "nobody was taken away"
    assert not any(steps_of(each) for each in ended)
    recoveries.append(results.Recovery(
        f"6 of {REPLICAS} replicas not ready at once, then flapping", f"held, {ready_s:.0f} s after its end",
        "", remarks="nobody is taken away, for more are sick than minHealthyPercent allows"))


# Whether an agent is well depends on its database, as people write such checks.
HEALTH = """mkdir -p /tmp/www/cgi-bin
cat >/tmp/www/cgi-bin/healthz <<'END'
#!/bin/sh
wget -q -T 20 -O /dev/null http://database:8080/ && status=200 || status=503
printf "HTTP/1.0 $status so\\r\\nContent-Type: text/plain\\r\\n\\r\\n$status"
END
chmod +x /tmp/www/cgi-bin/healthz
exec httpd -f -p 8080 -h /tmp/www"""
# While there is a file it takes whoever calls, and answers nobody.
DATABASE = """
import os, socket, threading, time

def serve(caller):
    while os.path.exists("/tmp/silent"):
        time.sleep(0.2)
    with caller:
        try:
            caller.recv(4096)
            caller.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
        except OSError:
            pass

listener = socket.create_server(("", 8080), backlog=1024)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def dependent(image, name, replicas, **labels):
    """Liveness and readiness at Kubernetes' defaults but for how often readiness is asked."""
    one = web(image, name, labels=labels, script=HEALTH)
    check = {"httpGet": {"path": "/cgi-bin/healthz", "port": "http"}}
    one["spec"]["containers"][0] |= {"name": name, "livenessProbe": check,
                                     "readinessProbe": {**check, "periodSeconds": 5}}
    return deployment(name, replicas, one)


def test_a_shared_dependency_that_is_away_restarts_and_moves_nobody(
        healer, kube, tools_image, python_image, recoveries):
    """The database takes calls and answers none for two minutes."""
    kube.apply(service("database", 8080, 8080), pod("database", container(
        "database", python_image, ["python3", "-c", DATABASE])))
    kube.wait_ready("database")
    kube.apply(policy(ladders=[{"fault": "unready", "steps": ["reschedule"]}]),
               dependent(tools_image, "agent", REPLICAS, **ASKS),
               dependent(tools_image, "alone", REPLICAS // 2))
    before = {each["metadata"]["uid"] for each in wait_ready(kube, REPLICAS)}
    wait_ready(kube, REPLICAS // 2, "alone")
    ran = restarts(kube), restarts(kube, "alone")
    kube.run("database", "touch", "/tmp/silent")
    away_until = time.monotonic() + DEPENDENCY_AWAY_S
    kube.wait_for("nobody is Ready", lambda: pods(kube), lambda seen: not any(
        is_ready(each) for each in seen))
    while time.monotonic() < away_until:
        assert {each["metadata"]["uid"] for each in pods(kube)} == before
        assert restarts(kube) == ran[0]
        time.sleep(2)
    found = {each["spec"]["fault"] for each in incidents(kube)}
    kube.run("database", "rm", "/tmp/silent")
    back_at = time.monotonic()
    wait_ready(kube, REPLICAS)
    ready_s = time.monotonic() - back_at
    killed = restarts(kube, "alone") - ran[1]
    wait_ready(kube, REPLICAS // 2, "alone")
    alone_s = time.monotonic() - back_at
    assert {each["metadata"]["uid"] for each in pods(kube)} == before
    assert restarts(kube) == ran[0]
    assert "dependency" in found, found
    assert killed > 0, "the check is one that restarts agents"
    recoveries.append(results.Recovery(
        f"a shared dependency away for {DEPENDENCY_AWAY_S} s",
        f"0 restarts of {REPLICAS}; all Ready {ready_s:.0f} s after it",
        f"{killed} restarts of {REPLICAS // 2}; {alone_s:.0f} s",
        remarks="liveness asks the dependency; found as dependency"))


def test_crash_looping_pods_do_not_keep_a_node_from_being_drained(healer, kube, tools_image):
    """The policy's own PodDisruptionBudget wants as many as there are."""
    kube.apply(policy(drain={"minAvailable": "3"}, paused=True),
               agents(tools_image, 3, "sleep 1; exit 1", readinessProbe=READY))
    kube.wait("pdb", "remora-all", "is kept", lambda found: found and found["spec"][
        "unhealthyPodEvictionPolicy"] == "AlwaysAllow")
    sick = kube.wait_for("three crashed pods", lambda: pods(kube), lambda seen: len(
        seen) == 3 and all(status_of(each, "agent").get("restartCount", 0) for each in seen))
    for each in sick:
        name = each["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"name": name, "namespace": kube.namespace}}
        kube.kubectl("create", "--filename=-", "--raw",
                     f"/api/v1/namespaces/{kube.namespace}/pods/{name}/eviction",
                     stdin=json.dumps(eviction))
    kube.wait_for("all were made anew", lambda: pods(kube), lambda seen: len(seen) == 3 and not (
        {each["metadata"]["uid"] for each in seen} & {each["metadata"]["uid"] for each in sick}))
