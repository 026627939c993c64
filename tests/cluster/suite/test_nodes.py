"""The cluster itself: what the other tests stand on."""

import json
import re

import pytest
from kube import container, pod, status_of

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
