"""A cluster gives back what it took from the machine that it ran on, also when it was never
finished. Each test starts a cluster of its own beside the one that the suite runs on."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import cluster as cluster_tool
import layout
import pytest
import steps

NAME = "residue"
UP_S, DOWN_S = 180, 60
SETTINGS = ("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
            "kernel/keys/root_maxbytes", "vm/overcommit_memory", "vm/panic_on_oom",
            "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet")


def machine_now():
    """What a cluster could leave. Other programs of this machine may come and go meanwhile, so links,
    routes and mounts count only if they bear a cluster's names. ./dev cluster itself runs outside
    of the cluster's network, in which the suite runs."""
    outside = ["nsenter", f"--target={os.environ['REMORA_TEST_OUTSIDE_PID']}", "--net", "--"]
    return {
        "network": [line for what in ("address", "link", "route")
                    for line in steps.run([*outside, "ip", "-oneline", what]).stdout.splitlines()
                    if re.search(r"\b10\.(250|244)\.|cable-|: (nodes|pods):", line)],
        "mounts": [line for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                   if f"/run/{NAME}/" in line],
        "settings": [steps.run([*outside, "cat", f"/proc/sys/{each}"]).stdout for each in SETTINGS],
        "groups": sorted(map(str, pathlib.Path("/sys/fs/cgroup").glob(f"*/cluster-{NAME}-*"))),
        "processes": processes(),
    }


def processes():
    """Those that name a file of that cluster."""
    found = []
    for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue  # It has ended.
        if f"/run/{NAME}/".encode() in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def command(*words):
    return [sys.executable, "-B", str(layout.HERE / "cluster.py"), *words]


@pytest.fixture
def environment(own_cluster):
    """own_cluster only because this needs what that needs: root, on this machine."""
    environment = {**os.environ, "REMORA_CLUSTER": NAME}
    yield environment
    subprocess.run(command("down"), env=environment, timeout=DOWN_S, check=False)


def wait_as_before(before):
    # The kernel takes dead namespaces apart a little after their last process has ended.
    steps.wait_until("the machine is as it was", 20, lambda: machine_now() == before)
    assert not layout.from_environment({**os.environ, "REMORA_CLUSTER": NAME}).run.exists()


def test_a_cluster_leaves_nothing_behind(environment):
    before = machine_now()
    steps.run(command("up", "--nodes", "1"), env=environment, seconds=UP_S)
    during = machine_now()
    assert during["processes"] and during["groups"]
    for untouched in ("network", "mounts", "settings"):
        assert during[untouched] == before[untouched], f"{untouched} of the machine changed"
    steps.run(command("down"), env=environment, seconds=DOWN_S)
    wait_as_before(before)


def test_a_cluster_whose_start_was_killed_leaves_nothing_behind(environment):
    before = machine_now()
    where = layout.from_environment(environment)
    starting = subprocess.Popen(command("up", "--nodes", "1"), env=environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    node = cluster_tool.Cluster(where, None)
    try:
        steps.wait_until("the node's kubelet is started", UP_S, lambda: (
            where.logs / "n1-kubelet.log").exists())
    finally:
        starting.send_signal(signal.SIGKILL)
        starting.wait(10)
    assert node.is_up()
    steps.run(command("down"), env=environment, seconds=DOWN_S)
    wait_as_before(before)
