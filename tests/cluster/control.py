"""What runs on the control machine, and the objects that a new cluster begins with. Pure: command
lines and objects are computed here, cluster.py carries them out."""

import layout

# A node counts as lost after this long without a word, and its pods leave it after this much more.
# Kubernetes' own 40 s and 300 s would make each test of a lost node take six minutes.
NODE_GRACE_S = 14
EVICT_AFTER_S = 5
# Whose requests the API server's audit log keeps, each as one line of JSON.
AUDITED = "system:serviceaccount:remora-system:remora-operator"


def etcd(where):
    return ["etcd", "--name=etcd", f"--data-dir={where.state('control') / 'etcd'}",
            f"--listen-client-urls={layout.ETCD_URL}", f"--advertise-client-urls={layout.ETCD_URL}",
            f"--listen-peer-urls={layout.ETCD_PEER_URL}",
            f"--initial-advertise-peer-urls={layout.ETCD_PEER_URL}",
            f"--initial-cluster=etcd={layout.ETCD_PEER_URL}",
            # The data is gone with the cluster anyway.
            "--unsafe-no-fsync"]


def audit_policy():
    """Who asked for what, and when: the operator's requests, without their bodies."""
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{"level": "Metadata", "users": [AUDITED]}, {"level": "None"}]}


def audit_policy_file(where):
    return where.machine("control") / "audit.json"


def api_server(where):
    pki = where.pki
    return [
        "kube-apiserver", f"--etcd-servers={layout.ETCD_URL}",
        f"--advertise-address={layout.CONTROL_ADDRESS}", f"--secure-port={layout.API_PORT}",
        f"--service-cluster-ip-range={layout.SERVICES}",
        f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt", "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true", f"--feature-gates={layout.FEATURE_GATE}=true",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-to-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        # No kube-proxy runs here, so Services (webhooks too) are dialled by their endpoints, which
        # this machine has routes to.
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={audit_policy_file(where)}",
        f"--audit-log-path={where.audit_log}",
        f"--service-account-issuer=https://kubernetes.default.svc.{layout.DOMAIN}",
        f"--service-account-key-file={pki}/accounts.pub",
        f"--service-account-signing-key-file={pki}/accounts.key",
        f"--default-not-ready-toleration-seconds={EVICT_AFTER_S}",
        f"--default-unreachable-toleration-seconds={EVICT_AFTER_S}",
    ]


def controller_manager(where):
    pki, user = where.pki, where.kubeconfig("controller-manager")
    return [
        "kube-controller-manager", f"--kubeconfig={user}", f"--authentication-kubeconfig={user}",
        f"--authorization-kubeconfig={user}", "--bind-address=127.0.0.1", "--leader-elect=false",
        "--use-service-account-credentials=true", f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/accounts.key",
        f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key",
        # Each node's range of pod addresses is fixed (layout.py), so nobody hands them out.
        "--allocate-node-cidrs=false", f"--cluster-cidr={layout.PODS_ALL}",
        "--node-monitor-period=2s", f"--node-monitor-grace-period={NODE_GRACE_S}s",
    ]


def scheduler(where):
    user = where.kubeconfig("scheduler")
    return ["kube-scheduler", f"--kubeconfig={user}", f"--authentication-kubeconfig={user}",
            f"--authorization-kubeconfig={user}", "--bind-address=127.0.0.1",
            "--leader-elect=false"]


def corefile(where):
    return "\n".join([
        ".:53 {",
        f"  bind {layout.CONTROL_ADDRESS}",
        "  errors",
        "  ready 127.0.0.1:8181",
        f"  kubernetes {layout.DOMAIN} in-addr.arpa ip6.arpa {{",
        f"    kubeconfig {where.kubeconfig('dns')}",
        "    pods insecure",
        "    ttl 5",
        "  }",
        "  cache 5",
        "}", ""])


def dns(where):
    return ["coredns", "-conf", where.machine("control") / "Corefile"]


def boot_script(where):
    return [f"mkdir -p {where.state_root}",
            f"mount -t tmpfs -o mode=0755 tmpfs {where.state_root}",
            f"mkdir {where.state('control')}"]


def network_script(nodes):
    """The control machine's network, before any node is there."""
    lines = ["ip link set lo up",
             f"ip link add {layout.BRIDGE} type bridge",
             f"ip address add {layout.CONTROL_ADDRESS}/{layout.NODE_PREFIX_BITS} "
             f"dev {layout.BRIDGE}",
             f"ip link set {layout.BRIDGE} up",
             "echo 1 >/proc/sys/net/ipv4/ip_forward"]
    # The way from the API server to webhooks, and from the tests to pods.
    lines += [f"ip route add {node.pods} via {node.address} dev {layout.BRIDGE}" for node in nodes]
    return lines


# --- the first objects ---------------------------------------------------------------------------

def objects(where, nodes):
    made = [*dns_objects(), *storage_classes()]
    made += [disk(where, "standard", index) for index in range(STANDARD)]
    for node in nodes:
        made += [disk(where, "local", index, node) for index in range(LOCAL)]
    return {"apiVersion": "v1", "kind": "List", "items": made}


STANDARD, LOCAL = layout.STANDARD_DISKS, layout.LOCAL_DISKS_PER_NODE


def dns_objects():
    """CoreDNS runs beside the API server, so a lost node doesn't take names away; pods reach it by
    the usual Service, whose endpoint is written down here instead of selected."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "remora:dns"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"},
             {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": role["name"]}, "rules": [
             {"apiGroups": [""], "resources": ["services", "pods", "namespaces", "endpoints"],
              "verbs": ["list", "watch"]},
             {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
              "verbs": ["list", "watch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": role["name"]}, "roleRef": role,
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                       "name": "remora:dns"}]},
        {"apiVersion": "v1", "kind": "Service",
         "metadata": {"name": "kube-dns", "namespace": "kube-system"},
         "spec": {"clusterIP": layout.DNS_SERVICE, "ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
         "metadata": {"name": "kube-dns", "namespace": "kube-system",
                      "labels": {"kubernetes.io/service-name": "kube-dns"}},
         "addressType": "IPv4", "ports": ports,
         "endpoints": [{"addresses": [layout.CONTROL_ADDRESS], "conditions": {"ready": True}}]},
    ]


def storage_classes():
    """standard: a disk that any node can mount, like a cloud's; local: one that stays on its node."""
    return [{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
             "metadata": {"name": name, "annotations": {
                 "storageclass.kubernetes.io/is-default-class": default}},
             "provisioner": "kubernetes.io/no-provisioner",
             "volumeBindingMode": "WaitForFirstConsumer"}
            for name, default in (("standard", "true"), ("local", "false"))]


def disk_name(kind, index, node=None):
    return f"{kind}-{node.name}-{index}" if node else f"{kind}-{index}"


def disk(where, kind, index, node=None):
    """All nodes see the files of the machine that they run on, so a folder there is a disk that can
    move, and that several may use at once. A `local` volume, unlike hostPath, gets its group set to the pod's fsGroup."""
    name = disk_name(kind, index, node)
    modes = ["ReadWriteOnce", *([] if node else ["ReadWriteMany"])]
    wanted = ({"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]} if node else
              {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]})
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": modes,
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": kind,
        "local": {"path": str(where.disks / name)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}}}}
