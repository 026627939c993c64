"""Each kind of exclusion: what it names goes by, what it doesn't name is still captured."""

import socket

import pytest
from netns import Pod, as_user

POD = {"v4": Pod.POD4, "v6": f"[{Pod.POD6}]"}
OUT = {"v4": Pod.OUT4, "v6": f"[{Pod.OUT6}]"}
FAR = {"v4": Pod.FAR4, "v6": f"[{Pod.FAR6}]"}
both_families = pytest.mark.parametrize("family", ["v4", "v6"])


def port_of(answer):
    assert len(answer) == 1, answer
    return int(answer[0]["port"])


@both_families
def test_inbound_port(world, family):
    world.pod.intercept("--exclude-inbound-port", 8080)
    assert port_of(world.outside.ask(f"{POD[family]}:8080")) == 8080
    assert port_of(world.outside.ask(f"{POD[family]}:9090")) == 15006


@both_families
def test_range_of_inbound_ports(world, family):
    world.pod.intercept("--exclude-inbound-port", "8000-8080,1234")
    assert port_of(world.outside.ask(f"{POD[family]}:8080")) == 8080
    for beside in (7999, 8081, 1233, 1235, 9090):
        assert port_of(world.outside.ask(f"{POD[family]}:{beside}")) == 15006


@both_families
def test_outbound_port(world, family):
    world.pod.intercept("--exclude-outbound-port", 443, "--exclude-outbound-port", "5000-5005")
    for excluded in (443, 5000, 5005):
        assert port_of(world.pod.ask(f"{FAR[family]}:{excluded}")) == excluded
    for other in (80, 444, 4999, 5006):
        assert port_of(world.pod.ask(f"{FAR[family]}:{other}")) == 15001


@pytest.mark.parametrize("family,network", [
    ("v4", "192.0.2.10"), ("v4", "192.0.2.0/24"), ("v4", "192.0.2.8/29"), ("v4", "192.0.0.0/9"),
    ("v6", "2001:db8::10"), ("v6", "2001:db8::/32"), ("v6", "2001:db8::/121"), ("v6", "2000::/3")])
def test_outbound_address(world, family, network):
    world.pod.intercept("--exclude-outbound-address", network)
    assert port_of(world.pod.ask(f"{FAR[family]}:80")) == 80
    assert port_of(world.pod.ask(f"{OUT[family]}:80")) == 15001
    other = {"v4": "v6", "v6": "v4"}[family]
    assert port_of(world.pod.ask(f"{FAR[other]}:80")) == 15001


@pytest.mark.parametrize("network,beside", [("192.0.2.0/29", "v4"), ("2001:db8::/124", "v6")])
def test_a_network_beside_the_address_is_no_reason(world, network, beside):
    """192.0.2.10 isn't in the first, 2001:db8::10 not in the second."""
    world.pod.intercept("--exclude-outbound-address", network)
    assert port_of(world.pod.ask(f"{FAR[beside]}:80")) == 15001


@pytest.mark.parametrize("network,excluded,captured", [("0.0.0.0/0", "v4", "v6"),
                                                       ("::/0", "v6", "v4")])
def test_a_whole_family(world, network, excluded, captured):
    world.pod.intercept("--exclude-outbound-address", network)
    assert port_of(world.pod.ask(f"{FAR[excluded]}:80")) == 80
    assert port_of(world.pod.ask(f"{FAR[captured]}:80")) == 15001


@both_families
def test_uid(world, family):
    world.pod.intercept("--exclude-uid", "2000,2001")
    to = f"{FAR[family]}:80"
    for uid in (2000, 2001):
        assert port_of(world.pod.ask(to, prefix=as_user(uid, 3000))) == 80
    assert port_of(world.pod.ask(to, prefix=as_user(2002, 2000))) == 15001
    assert port_of(world.pod.ask(to)) == 15001


@both_families
def test_gid(world, family):
    world.pod.intercept("--exclude-gid", 3000)
    to = f"{FAR[family]}:80"
    assert port_of(world.pod.ask(to, prefix=as_user(2000, 3000))) == 80
    assert port_of(world.pod.ask(to, prefix=as_user(3000, 2000))) == 15001


@both_families
def test_a_sidecar_with_a_uid_of_its_own(world, family):
    """Then the mark that an agent could imitate is worth nothing."""
    world.pod.intercept("--sidecar-uid", 1337)
    to = f"{FAR[family]}:80"
    assert port_of(world.pod.ask(to, prefix=as_user(1337))) == 80
    assert port_of(world.pod.ask(to, prefix=as_user(1000))) == 15001
    assert port_of(world.pod.ask(to, own=True, prefix=as_user(1000))) == 15001


def test_link_local_addresses_go_by(world):
    """The sidecar would not learn on which interface they are."""
    world.pod.intercept()
    shown = world.outside.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope",
                              "link").stdout
    address = shown.split("inet6 ")[1].split("/")[0]
    with world.pod.socket(socket.AF_INET6) as client:
        index = world.pod.inside(lambda: socket.if_nametoindex("eth0"))
        client.connect((address, 80, 0, index))
        assert client.recv(200).startswith(b"port=80 original=none")


def test_all_kinds_together(world):
    world.pod.intercept(
        "--exclude-inbound-port", "9090", "--exclude-outbound-port", "443",
        "--exclude-outbound-address", "198.51.100.0/24,2001:db8::/32", "--exclude-uid", 2000,
        "--exclude-gid", 3000)
    assert port_of(world.outside.ask(f"{POD['v4']}:8080")) == 15006
    assert port_of(world.outside.ask(f"{POD['v4']}:9090")) == 9090
    assert port_of(world.pod.ask(f"{FAR['v4']}:80")) == 15001
    assert port_of(world.pod.ask(f"{FAR['v6']}:80")) == 80
    assert port_of(world.pod.ask(f"{FAR['v4']}:443")) == 443


def test_the_largest_number_of_exclusions(world):
    ports = ",".join(str(20_000 + 2 * i) for i in range(64))
    addresses = ",".join([f"198.51.100.{i}" for i in range(127)] + ["192.0.2.8/30"])
    owners = ",".join(str(2000 + i) for i in range(32))
    world.pod.intercept("--exclude-inbound-port", ports, "--exclude-outbound-port", ports,
                        "--exclude-outbound-address", addresses, "--exclude-uid", owners,
                        "--exclude-gid", owners)
    assert port_of(world.pod.ask(f"{FAR['v4']}:80")) == 80  # the last exclusion of all
    assert port_of(world.pod.ask(f"{FAR['v6']}:80")) == 15001
    assert len(world.pod.rule_handles("outbound")) == 4 + 32 + 32 + 1 + 64 + 1 + 128 + 1
