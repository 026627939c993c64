"""What is redirected where, and what the sidecar learns about it."""

import socket
import threading

import pytest
from netns import WAIT_S, Pod, as_user, peer

POD = {"v4": Pod.POD4, "v6": f"[{Pod.POD6}]"}
OUT = {"v4": Pod.OUT4, "v6": f"[{Pod.OUT6}]"}
FAR = {"v4": Pod.FAR4, "v6": f"[{Pod.FAR6}]"}
LOOPBACK = {"v4": "127.0.0.1", "v6": "[::1]"}
both_families = pytest.mark.parametrize("family", ["v4", "v6"])


def direct(port):
    return [{"port": str(port), "original": "none"}]


def captured(port, original):
    return [{"port": str(port), "original": original}]


@both_families
def test_without_rules_nothing_is_redirected(world, family):
    assert world.outside.ask(f"{POD[family]}:8080") == direct(8080)
    assert world.pod.ask(f"{FAR[family]}:80") == direct(80)


@both_families
def test_callers_reach_the_sidecar_which_learns_whom_they_called(world, family):
    world.pod.intercept()
    for port in (8080, 9090, 5432):  # nobody listens on the last: the sidecar decides
        to = f"{POD[family]}:{port}"
        assert world.outside.ask(to) == captured(15006, to)


@both_families
def test_calls_reach_the_sidecar_which_learns_where_they_go(world, family):
    world.pod.intercept()
    for to in (f"{FAR[family]}:80", f"{FAR[family]}:443", f"{OUT[family]}:5000"):
        assert world.pod.ask(to) == captured(15001, to)


@both_families
def test_the_sidecars_marked_connections_go_out(world, family):
    world.pod.intercept()
    assert world.pod.ask(f"{FAR[family]}:80", own=True) == direct(80)


@both_families
def test_agent_and_sidecar_share_a_uid_and_only_the_mark_tells_them_apart(world, family):
    world.pod.intercept()
    both = as_user(1000)
    to = f"{FAR[family]}:80"
    assert world.pod.ask(to, prefix=both) == captured(15001, to)
    assert world.pod.ask(to, own=True, prefix=both) == direct(80)


@both_families
def test_the_pod_talks_to_itself_undisturbed(world, family):
    world.pod.intercept()
    for host in (LOOPBACK[family], POD[family]):
        assert world.pod.ask(f"{host}:8080") == direct(8080)
        assert world.pod.ask(f"{host}:8080", own=True) == direct(8080)


@both_families
def test_the_kubelet_reaches_the_health_port(world, family):
    world.pod.intercept()
    assert world.outside.ask(f"{POD[family]}:15020") == direct(15020)
    world.pod.intercept("--health-port", 9090)
    assert world.outside.ask(f"{POD[family]}:9090") == direct(9090)
    assert world.outside.ask(f"{POD[family]}:15020") == captured(15006, f"{POD[family]}:15020")


@both_families
def test_a_sidecar_passes_on_both_ways_and_never_meets_itself(family):
    made = Pod()
    try:
        made.pod.serve("serve", 8080)
        made.outside.serve("serve", 80)
        made.pod.serve("relay", 15006, 15001, prefix=as_user(1000))
        made.pod.intercept()
        to = f"{POD[family]}:8080"
        assert made.outside.ask(to) == captured(15006, to) + direct(8080)
        to = f"{FAR[family]}:80"
        assert made.pod.ask(to, prefix=as_user(1000)) == captured(15001, to) + direct(80)
    finally:
        made.close()


@both_families
def test_what_listens_on_loopback_only_stays_out_of_reach(family):
    """A sidecar that passes callers on to where they wanted to go opens nothing that was closed."""
    made = Pod()
    try:
        made.pod.serve("relay", 15006, 15001)
        made.pod.intercept()
        kind = socket.AF_INET if family == "v4" else socket.AF_INET6
        with made.pod.socket(kind) as private:
            private.bind((LOOPBACK[family].strip("[]"), 9229))
            private.listen()
            done = made.outside.run(peer(), "ask", f"{POD[family]}:9229")
            assert "Connection refused" in done.stdout
    finally:
        made.close()


@both_families
def test_whoever_calls_a_capture_port_itself_is_known_by_it(world, family):
    """Passing such a connection on would be a loop: its destination is the sidecar."""
    world.pod.intercept()
    assert world.outside.ask(f"{POD[family]}:15006") == direct(15006)
    assert world.outside.ask(f"{POD[family]}:15001") == captured(15006, f"{POD[family]}:15001")
    assert world.pod.ask(f"{LOOPBACK[family]}:15001") == direct(15001)


@both_families
def test_dns_goes_by(world, family):
    """Over TCP here; over UDP below."""
    world.pod.intercept()
    assert world.pod.ask(f"{FAR[family]}:53") == direct(53)


def echo_datagrams(server):
    def body():
        while True:
            try:
                payload, peer = server.recvfrom(100)
            except OSError:
                return
            if payload == b"end":
                return
            server.sendto(payload, peer)

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@both_families
def test_udp_is_untouched_in_both_directions(world, family):
    world.pod.intercept()
    kind = socket.AF_INET if family == "v4" else socket.AF_INET6
    for server_space, client_space, host in ((world.outside, world.pod, FAR[family]),
                                             (world.pod, world.outside, POD[family])):
        host = host.strip("[]")
        # 443 as in QUIC, which is not intercepted either.
        for port in (53, 443):
            with server_space.socket(kind, socket.SOCK_DGRAM) as server, \
                    client_space.socket(kind, socket.SOCK_DGRAM) as client:
                server.bind((host, port))
                thread = echo_datagrams(server)
                client.sendto(b"question", (host, port))
                payload, sender = client.recvfrom(100)
                assert (payload, sender[0], sender[1]) == (b"question", host, port)
                client.sendto(b"end", (host, port))
                thread.join()


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_connections_older_than_the_rules_go_on(world, direction):
    server_space, client_space, host = (
        (world.pod, world.outside, Pod.POD4) if direction == "inbound"
        else (world.outside, world.pod, Pod.FAR4))
    with server_space.socket() as listener, client_space.socket() as client:
        listener.bind((host, 7000))
        listener.listen()
        client.connect((host, 7000))
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(WAIT_S)
            client.sendall(b"before")
            assert accepted.recv(100) == b"before"
            world.pod.intercept()
            client.sendall(b"after")
            assert accepted.recv(100) == b"after"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"
    port = {"inbound": 15006, "outbound": 15001}[direction]
    assert client_space.ask(f"{host}:7000") == captured(port, f"{host}:7000")


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_captured_connections_go_on_when_the_rules_change(world, direction):
    port = {"inbound": 15016, "outbound": 15011}[direction]
    world.pod.intercept("--inbound-port", 15016, "--outbound-port", 15011)
    client_space, host = ((world.outside, Pod.POD4) if direction == "inbound"
                          else (world.pod, Pod.FAR4))
    with world.pod.socket() as sidecar, client_space.socket() as client:
        sidecar.bind(("0.0.0.0", port))
        sidecar.listen()
        client.connect((host, 80))
        accepted, _ = sidecar.accept()
        with accepted:
            accepted.settimeout(WAIT_S)
            world.pod.intercept()
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"


def test_only_one_direction_if_asked(world):
    world.pod.intercept("--no-outbound")
    assert world.pod.ask(f"{Pod.FAR4}:80") == direct(80)
    assert world.outside.ask(f"{Pod.POD4}:8080") == captured(15006, f"{Pod.POD4}:8080")
    world.pod.intercept("--no-inbound")
    assert world.pod.ask(f"{Pod.FAR4}:80") == captured(15001, f"{Pod.FAR4}:80")
    assert world.outside.ask(f"{Pod.POD4}:8080") == direct(8080)
