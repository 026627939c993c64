"""What the cluster's scripts compute before anything is started: addresses, command lines, mounts,
configurations, objects."""

import ipaddress
import itertools
import json
import pathlib
import re
import tomllib

import cgroups
import cluster
import control
import layout
import node
import programs
import pytest
import steps

WHERE = layout.Layout(pathlib.Path("/home/someone/.cache/remora/cluster"))
NODES = layout.nodes(3)
SPLIT = [cgroups.Hierarchy("cpu,cpuacct", "cpu,cpuacct"), cgroups.Hierarchy("memory", "memory"),
         cgroups.Hierarchy("systemd", "none,name=systemd")]


def test_nodes_have_addresses_of_their_own_that_never_overlap():
    every = layout.nodes(layout.NODES_MAX)
    link = ipaddress.ip_network(f"{layout.CONTROL_ADDRESS}/{layout.NODE_PREFIX_BITS}", strict=False)
    addresses = {ipaddress.ip_address(one.address) for one in every}
    assert len(addresses) == layout.NODES_MAX
    assert all(address in link for address in addresses)
    assert ipaddress.ip_address(layout.CONTROL_ADDRESS) not in addresses
    ranges = [ipaddress.ip_network(one.pods) for one in every]
    assert all(one.subnet_of(ipaddress.ip_network(layout.PODS_ALL)) for one in ranges)
    for one, other in itertools.combinations([*ranges, link, ipaddress.ip_network(layout.SERVICES)],
                                             2):
        assert not one.overlaps(other)
    for address in (layout.API_SERVICE, layout.DNS_SERVICE):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(layout.SERVICES)
    assert all(len(one.cable) <= 15 for one in every), "IFNAMSIZ"


@pytest.mark.parametrize("count", [0, -1, layout.NODES_MAX + 1])
def test_an_impossible_number_of_nodes_is_refused(count):
    with pytest.raises(ValueError, match=str(count)):
        layout.nodes(count)


@pytest.mark.parametrize("name", ["", "Remora", "a b", "../x", "a" * 17])
def test_a_bad_name_for_a_cluster_is_refused(name):
    with pytest.raises(ValueError, match="REMORA_CLUSTER"):
        layout.Layout(WHERE.cache, name)


def test_a_path_too_long_for_sockets_is_refused():
    with pytest.raises(ValueError, match="XDG_CACHE_HOME"):
        layout.Layout(pathlib.Path("/" + "d" * 80))


def test_hierarchies_are_read_from_mountinfo():
    text = """\
24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 24 0:33 / /mnt/elsewhere rw - cgroup cgroup rw,pids
"""
    assert cgroups.hierarchies(text) == SPLIT


def test_a_nodes_boot_script_is_valid_shell_and_mounts_every_hierarchy(tmp_path):
    lines = [*node.boot_script(WHERE, NODES[0], SPLIT), *node.network_script(NODES[0], NODES)]
    for script in (lines, control.boot_script(WHERE), control.network_script(NODES), node.cable_script(NODES[0])):
        steps.run(["sh", "-n"], input_text="\n".join(script))
    text = "\n".join(lines)
    assert "mount -t cgroup -o cpu,cpuacct cgroup /sys/fs/cgroup/cpu,cpuacct" in text
    assert "ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct" in text
    assert "mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd" in text
    assert "ln -s systemd" not in text
    # To the others' pods, not to its own, which are on its bridge.
    assert [other.pods in text for other in NODES] == [False, True, True]


def test_kubelet_settings_of_the_machine_are_covered():
    text = "\n".join(node.boot_script(WHERE, NODES[0], SPLIT))
    assert len(re.findall(r"mount --bind /run/settings/\S+ /proc/sys/(?:kernel|vm)/", text)) == 6


def test_containerds_configuration_is_toml_and_has_what_was_given():
    parsed = tomllib.loads(node.containerd_config(WHERE, NODES[1], "/cni", "/runc", "pause:1"))
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "pause:1"
    assert cri["cni"] == {"bin_dir": "/cni", "conf_dir": f"{WHERE.machine('n2')}/cni"}
    assert cri["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/runc"


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_nodes_together_promise_less_memory_than_there_is(count):
    machine = 24 << 30
    offered = machine - node.reserved_bytes(machine, count)
    assert 0 < offered <= node.NODE_MEMORY_BYTES_MAX
    assert offered * count < machine


def test_kubelet_and_proxy_agree_with_the_layout():
    kubelet = node.kubelet_config(WHERE, NODES[2], 24 << 30, 3)
    assert kubelet["clusterDNS"] == [layout.DNS_SERVICE]
    assert kubelet["address"] == NODES[2].address
    # The API server waits longer for a lease than the node takes to renew it.
    assert kubelet["nodeLeaseDurationSeconds"] < control.NODE_GRACE_S
    assert node.proxy_config(WHERE, NODES[2])["hostnameOverride"] == "n3"


def test_command_lines_name_files_that_are_made():
    import certs
    made = {f"{name}.{end}" for name in ("ca", "front-proxy-ca",
                                         *(one.name for one in certs.certificates(NODES)))
            for end in ("crt", "key")} | {"accounts.key", "accounts.pub"}
    users = {one.name for one in certs.certificates(NODES) if one.use == certs.CLIENT}
    lines = [*control.api_server(WHERE), *control.controller_manager(WHERE),
             *control.scheduler(WHERE), *(word for one in NODES for word in node.kubelet(WHERE, one))]
    text = " ".join(map(str, lines))
    named = set(re.findall(rf"{WHERE.pki}/(\S+)", text))
    assert named and named <= made
    configured = set(re.findall(rf"{WHERE.run}/(\S+)\.kubeconfig", text))
    assert configured and configured <= users
    flags = [word.partition("=")[0] for word in control.api_server(WHERE)]
    assert len(flags) == len(set(flags))


def test_first_objects_are_distinct_and_disks_are_where_they_belong():
    items = control.objects(WHERE, NODES)["items"]
    json.dumps(items)
    names = [(item["kind"], item["metadata"]["name"]) for item in items]
    assert len(names) == len(set(names))
    disks = [item for item in items if item["kind"] == "PersistentVolume"]
    assert len(disks) == layout.STANDARD_DISKS + layout.LOCAL_DISKS_PER_NODE * len(NODES)
    paths = [item["spec"]["local"]["path"] for item in disks]
    assert len(set(paths)) == len(paths)
    defaults = [item["metadata"]["name"] for item in items if item["kind"] == "StorageClass" and
                item["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] ==
                "true"]
    assert defaults == ["standard"]


def test_the_machines_own_mirror_is_found_among_apts_sources():
    lines = ("http://one.test/debian-security/ main Debian\nhttp://two.test/x/ extra Debian\n"
             "http://three.test/ main Other\nhttp://four.test/debian/ main Debian\n")
    assert programs.mirror_among(lines) == "http://four.test/debian/"
    with pytest.raises(steps.Failure, match="Debian"):
        programs.mirror_among("http://three.test/ main Other\n")


@pytest.mark.parametrize("said, minor", [
    ("go version go1.24.4 linux/amd64", 24), ("go version go1.26rc1 linux/amd64", 26),
    ("go version devel +abc", 0), ("", 0)])
def test_gos_version_is_read(said, minor):
    assert programs.go_minor(said) == minor


def test_the_staging_modules_have_the_version_of_kubernetes():
    text = (programs.SOURCES / "go.mod").read_text()
    version = programs.kubernetes_version(text)
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", text, re.MULTILINE)
    assert len(replaced) > 25
    assert {(name == other, "v1" + tag.removeprefix("v0")) for name, other, tag in replaced} == {
        (True, version)}


def test_programs_are_kept_under_a_name_that_changes_with_their_sources():
    assert programs.key("a", "b") != programs.key("ab") != programs.key("a", "c")
    names = {text.partition("\n")[0] for text in programs.source_texts()}
    assert {"go.mod", "go.sum", "kubernetes/main.go", "coredns/main.go"} <= names


def test_cached_keeps_nothing_of_a_failed_attempt(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise steps.Failure("no network")

    with pytest.raises(steps.Failure):
        programs.cached(tmp_path / "kept", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    made = programs.cached(tmp_path / "kept", lambda folder: (folder / "whole").write_text("x"))
    assert (made / "whole").read_text() == "x"
    assert programs.cached(tmp_path / "kept", fail) == made


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with steps.locked(tmp_path / "locks/one"):
        with pytest.raises(steps.Failure, match="another"):
            with steps.locked(tmp_path / "locks/one", wait=False):
                pass
    with steps.locked(tmp_path / "locks/one", wait=False):
        pass


def test_what_follows_test_is_pytests():
    options = cluster.parse(["test", "-k", "sidecar", "--exitfirst"])
    assert (options.verb, options.words) == ("test", ["-k", "sidecar", "--exitfirst"])
    options = cluster.parse(["shell", "kubectl", "get", "--raw", "/readyz"])
    assert options.command == ["kubectl", "get", "--raw", "/readyz"]


def test_what_a_cluster_lacks_is_named_until_it_is_there(tmp_path):
    where = layout.Layout(tmp_path)
    lacks = cluster.missing(where)
    at = programs.places(where)
    assert {str(at.built), str(at.debian)} <= set(lacks)
    at.built.mkdir()
    assert str(at.built) not in cluster.missing(where)
