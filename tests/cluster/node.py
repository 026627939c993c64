"""What runs on a node and what it needs there. Pure: scripts, command lines and configurations are
computed here, cluster.py carries them out."""

import layout

MIB = 1 << 20
# Of the machine's memory each node offers this much, so that nodes together don't promise it twice.
NODE_MEMORY_BYTES_MAX = 6 << 30
# Settings of the whole machine that a kubelet wants to change. It gets a file of its own in the place
# of each, so the machine keeps its values.
KUBELET_SETTINGS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory",
                    "vm/panic_on_oom", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def boot_script(where, node, hierarchies):
    """The mounts of a node. It shares the machine's files, but has its own /run, /var/log, /var/lib
    and control groups, so nothing that Kubernetes writes there is left behind."""
    folder = where.state(node.name)
    lines = [f"hostname {node.name}",
             f"mkdir -p {folder}/lib {folder}/log",
             f"mount --bind {folder}/lib /var/lib",
             f"mount --bind {folder}/log /var/log",
             "mount -t tmpfs -o mode=0755 tmpfs /run",
             "mkdir -p /run/lock /run/settings /var/lib/kubelet",
             # The machine's own hierarchies must not be found under the node's.
             "umount --recursive /sys",
             "mount -t sysfs sysfs /sys",
             "mount -t tmpfs -o mode=0755 tmpfs /sys/fs/cgroup"]
    for hierarchy in hierarchies:
        place = f"/sys/fs/cgroup/{hierarchy.folder}"
        lines += [f"mkdir {place}", f"mount -t cgroup -o {hierarchy.options} cgroup {place}"]
        # Programs look for each controller by its name; several may share a hierarchy.
        lines += [f"ln -s {hierarchy.folder} /sys/fs/cgroup/{controller}"
                  for controller in hierarchy.options.split(",")
                  if controller != hierarchy.folder and controller.isalnum()
                  and controller != "none"]
    for setting in KUBELET_SETTINGS:
        stand_in = "/run/settings/" + setting.replace("/", ".")
        lines.append(f"if [ -e /proc/sys/{setting} ]; then cat /proc/sys/{setting} >{stand_in}; "
                     f"mount --bind {stand_in} /proc/sys/{setting}; fi")
    # Mounts that the kubelet makes must reach the containers that ask for propagation.
    return [*lines, "mount --make-rshared /"]


def cable_script(node):
    """Run in the control machine's network: the node's link to the bridge, whose other end the
    caller has put into the node as eth0."""
    return [f"ip link set {node.cable} master {layout.BRIDGE} up"]


def network_script(node, nodes):
    lines = ["ip link set lo up",
             f"ip address add {node.address}/{layout.NODE_PREFIX_BITS} dev eth0",
             "ip link set eth0 up",
             f"ip route add default via {layout.CONTROL_ADDRESS}"]
    lines += [f"ip route add {other.pods} via {other.address}" for other in nodes if other != node]
    # Without the second, a pod that reaches itself by its Service gets answers that nobody rewrites.
    return [*lines, "echo 1 >/proc/sys/net/ipv4/ip_forward",
            "if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then "
            "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; fi"]


def pod_network(node):
    """For the CNI plugins: a bridge on each node; the nodes' routes do the rest, without masquerade."""
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "pods", "isGateway": True, "isDefaultGateway": True,
         "hairpinMode": True, "ipMasq": False,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pods}]]}},
        {"type": "portmap", "capabilities": {"portMappings": True}}]}


def containerd_config(where, node, plugins, runc, pause_image):
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # Lowering a score needs CAP_SYS_RESOURCE, which root in a container may lack.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{where.machine(node.name)}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"""


def reserved_bytes(machine_bytes, node_count):
    """What a node must not offer: it sees all the memory of the machine."""
    share = min(NODE_MEMORY_BYTES_MAX, machine_bytes // (node_count + 1))
    return machine_bytes - share


def kubelet_config(where, node, memory_bytes, node_count):
    reserved = reserved_bytes(memory_bytes, node_count) // MIB
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": f"{where.pki}/ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{where.pki}/{node.name}-serving.crt",
        "tlsPrivateKeyFile": f"{where.pki}/{node.name}-serving.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs", "featureGates": {layout.FEATURE_GATE: True},
        "failCgroupV1": False, "failSwapOn": False, "oomScoreAdj": 0,
        "clusterDomain": layout.DOMAIN, "clusterDNS": [layout.DNS_SERVICE],
        "resolvConf": str(where.machine(node.name) / "resolv.conf"),
        "systemReserved": {"memory": f"{reserved}Mi"},
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%",
                         "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        # Images are loaded by hand and never pulled: none may be collected.
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        # Quick to notice, to match control.NODE_GRACE_S.
        "nodeStatusUpdateFrequency": "4s", "nodeStatusReportFrequency": "20s",
        "nodeLeaseDurationSeconds": 12, "syncFrequency": "10s",
    }


def proxy_config(where, node):
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "bindAddress": node.address, "hostnameOverride": node.name,
        "healthzBindAddress": f"{node.address}:10256", "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": layout.PODS_ALL, "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(where.kubeconfig("proxy"))},
        # These sizes are read-only outside the machine's first network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
                      "tcpCloseWaitTimeout": "0s"},
    }


def containerd(where, node):
    return ["containerd", "--config", where.machine(node.name) / "containerd.toml"]


def kubelet(where, node):
    return ["kubelet", f"--config={where.machine(node.name) / 'kubelet.json'}",
            f"--kubeconfig={where.kubeconfig(node.name)}", f"--hostname-override={node.name}",
            f"--node-ip={node.address}"]


def proxy(where, node):
    return ["kube-proxy", f"--config={where.machine(node.name) / 'proxy.json'}"]
