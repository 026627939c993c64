"""Nodes that are emptied and nodes that are lost."""

import pytest
from kube import container, deployment, is_ready, pod

SERVE = "mkdir -p /tmp/www && exec httpd -f -p 8080 -h /tmp/www"
# NODE_GRACE_S and EVICT_AFTER_S of control.py, and as much again for a busy machine.
LOST_S, REPLACED_S, BACK_S = 45, 90, 90


def spread_deployment(image, replicas):
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
              "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}
    return deployment("web", replicas, pod("web", container(
        "web", image, ["sh", "-c", SERVE], readinessProbe={
            "tcpSocket": {"port": 8080}, "periodSeconds": 1}), topologySpreadConstraints=[spread]))


def budget(min_available):
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": "web"}}}}


def ready_by_node(kube):
    """How many pods of the deployment are Ready on each node; those on their way out don't count."""
    count = {}
    for each in kube.list("pods", "app=web"):
        if is_ready(each) and "deletionTimestamp" not in each["metadata"]:
            node = each["spec"]["nodeName"]
            count[node] = count.get(node, 0) + 1
    return count


def wait_spread(kube, nodes):
    kube.wait_for("a pod on each of the two nodes", lambda: ready_by_node(kube),
                  lambda count: all(count.get(node) for node in nodes))


def test_a_drain_waits_for_the_disruption_budget(kube, everywhere, nodes, tools_image):
    emptied, other = nodes[0], nodes[1]
    kube.apply(spread_deployment(tools_image, 2), budget(2))
    wait_spread(kube, [emptied, other])
    drain = ("drain", emptied, "--pod-selector=app=web", "--timeout=6s")
    try:
        held = everywhere.kubectl(*drain, check=False)
        assert held.returncode != 0 and "disruption budget" in held.stderr
        assert ready_by_node(kube).get(emptied) == 1

        kube.apply(budget(1))
        kube.wait("pdb", "web", "allows one", lambda pdb: pdb["status"]["disruptionsAllowed"] == 1)
        everywhere.kubectl(*drain[:-1], "--timeout=60s", seconds=90)
        kube.wait_for("both pods on the other node", lambda: ready_by_node(kube),
                      lambda count: count == {other: 2})
    finally:
        everywhere.kubectl("uncordon", emptied)


def power_cut(cluster, name):
    cluster.kill_node(name)
    return lambda: cluster.restart_node(name)


def network_cut(cluster, name):
    cluster.cut_node(name)
    return lambda: cluster.join_node(name)


def kubelet_stopped(cluster, name):
    cluster.machine(name).stop_service("kubelet")
    return lambda: cluster.start_node_service(name, "kubelet")


@pytest.mark.parametrize("lose", [power_cut, network_cut, kubelet_stopped])
def test_pods_of_a_lost_node_come_up_elsewhere(lose, own_cluster, kube, everywhere, nodes,
                                               tools_image):
    lost, other = nodes[1], nodes[0]
    kube.apply(spread_deployment(tools_image, 2))
    wait_spread(kube, [lost, other])
    mend = lose(own_cluster, lost)
    try:
        everywhere.wait("node", lost, "is not Ready", lambda node: not is_ready(node), LOST_S)
        kube.wait_for("two Ready pods on the node that is left", lambda: ready_by_node(kube),
                      lambda count: count.get(other) == 2, REPLACED_S)
    finally:
        mend()
        everywhere.wait("node", lost, "is Ready again", is_ready, BACK_S)
    # It takes pods again.
    kube.kubectl("delete", "pods", "--selector=app=web", "--wait=false")
    wait_spread(kube, [lost, other])
