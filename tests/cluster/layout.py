"""Names, addresses and places of the test cluster. Pure values: nothing here touches the machine.

A cluster is one control machine and N nodes. Each is a set of Linux namespaces with an init of its
own (machine.py). The control machine's network namespace holds the bridge that the nodes hang on,
so the network of the machine that runs all this stays as it is, and addresses of two clusters never
meet. REMORA_CLUSTER names a cluster; several may run at once.
"""

import dataclasses
import os
import pathlib
import re

NODES_DEFAULT = 2
NODES_MAX = 20
# A path of a Unix socket has at most 107 bytes (unix(7)).
SOCKET_PATH_BYTES_MAX = 107

BRIDGE = "nodes"
CONTROL_ADDRESS = "10.250.0.1"
NODE_PREFIX_BITS = 24
PODS_ALL = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
API_URL = f"https://{CONTROL_ADDRESS}:{API_PORT}"
ETCD_URL = "http://127.0.0.1:2379"
ETCD_PEER_URL = "http://127.0.0.1:2380"

# Alpha in this version; on by default from 1.35 on.
FEATURE_GATE = "ContainerRestartRules"

# Each test that has a claim uses one up.
STANDARD_DISKS = 64
LOCAL_DISKS_PER_NODE = 8

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def cache_dir(environ=os.environ):
    home = environ.get("XDG_CACHE_HOME") or pathlib.Path(environ.get("HOME", "/root")) / ".cache"
    return pathlib.Path(home) / "remora" / "cluster"


@dataclasses.dataclass(frozen=True)
class Node:
    index: int

    @property
    def name(self):
        return f"n{self.index}"

    @property
    def address(self):
        return f"10.250.0.{10 + self.index}"

    @property
    def pods(self):
        return f"10.244.{self.index}.0/24"

    @property
    def cable(self):
        """The bridge's end of the node's only link."""
        return f"cable-{self.name}"


def nodes(count):
    if not 1 <= count <= NODES_MAX:
        raise ValueError(f"{count} nodes: from 1 to {NODES_MAX} can be had")
    return [Node(index) for index in range(1, count + 1)]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where one cluster keeps what. Everything under run is gone after `down`."""

    cache: pathlib.Path
    name: str = "remora"

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", self.name):
            raise ValueError(f"REMORA_CLUSTER={self.name}: at most 16 of a-z, 0-9 and -")
        longest = self.machine(nodes(NODES_MAX)[-1].name) / "init.sock"
        if len(os.fsencode(longest)) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"{self.cache} is too long a path: set XDG_CACHE_HOME to a shorter one")

    @property
    def run(self):
        return self.cache / "run" / self.name

    @property
    def pki(self):
        return self.run / "pki"

    @property
    def logs(self):
        return self.run / "logs"

    @property
    def audit_log(self):
        return self.logs / "audit.log"

    @property
    def disks(self):
        return self.run / "disks"

    @property
    def images(self):
        return self.cache / "images"

    def machine(self, name):
        return self.run / "machines" / name

    def state(self, name):
        """A machine's own disk: it outlives a power cut, but not the cluster. In memory, and seen
        by the cluster's machines only; deleting it file by file would take longer than starting."""
        return self.state_root / name

    @property
    def state_root(self):
        return self.run / "state"

    def kubeconfig(self, user="admin"):
        return self.run / f"{user}.kubeconfig"

    def cgroup(self, machine_name):
        return f"cluster-{self.name}-{machine_name}"


def from_environment(environ=os.environ):
    return Layout(cache_dir(environ), environ.get("REMORA_CLUSTER", "remora"))
