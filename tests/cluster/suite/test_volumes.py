"""Claims keep their data when the pod goes, and follow it to another node."""

import pytest
from kube import claim, container, pod

VOLUME = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
MOUNT = [{"name": "data", "mountPath": "/data"}]


def one_shot(name, image, script, **more):
    return pod(name, container("main", image, ["sh", "-c", script], volumeMounts=MOUNT),
               restartPolicy="Never", volumes=VOLUME, **more)


@pytest.mark.short
def test_a_claim_outlives_its_pod_and_moves_to_another_node(kube, nodes, tools_image):
    kube.apply(claim("data"), one_shot("writer", tools_image, "echo kept >/data/file; sync",
                                       node=nodes[0]))
    assert kube.wait_done("writer")["status"]["phase"] == "Succeeded"
    assert kube.get("pvc", "data")["status"]["phase"] == "Bound"
    kube.delete("pod", "writer")
    kube.wait_gone("pod", "writer")

    kube.apply(one_shot("reader", tools_image, "cat /data/file", node=nodes[1]))
    assert kube.wait_done("reader")["status"]["phase"] == "Succeeded"
    assert kube.logs("reader", "main") == "kept\n"


def test_a_claim_is_writable_for_a_user_of_the_pods_group(kube, tools_image):
    kube.apply(claim("data"), one_shot(
        "writer", tools_image, "id -u; touch /data/file && stat -c %g /data/file",
        securityContext={"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 4321}))
    assert kube.wait_done("writer")["status"]["phase"] == "Succeeded"
    assert kube.logs("writer", "main").split() == ["1234", "4321"]
