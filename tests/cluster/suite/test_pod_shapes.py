"""Pods of the shapes that sidecars are known to break: init containers that call out, levels of Pod
Security, probes of every kind, a long grace period, another webhook's changes."""

import json
import time

import certs
import webhooks
from kube import container, is_ready, pod, service, status_of
from operators import ASKS, is_injected, metrics_of
from workloads import PORT, RESTRICTED, USER, caller, wait_fetched, web

HEALTH_PORT = 15020
USERS = {"runAsUser": USER, "runAsGroup": USER}
# The sidecar is gone this soon after the agent.
LEAVES_S = 1
CHANGED_S = 40


def test_init_containers_and_the_agent_reach_the_network_from_their_first_moment(
        kube, operator, tools_image):
    """One request each, and no second try: a container whose request fails ends the pod's run."""
    kube.apply(service("web", 80, PORT), web(tools_image, labels={}))
    kube.wait_ready("web")
    kube.apply(caller(tools_image))
    kube.wait_ready("caller")
    wait_fetched(kube, "http://web/")
    ask = "wget -qO- -T 5 http://web/ || exit 1"
    once = container("app", tools_image, ["sh", "-c", f"{ask}; exec sleep 1000"],
                     securityContext=RESTRICTED)
    for shape in range(5):
        name = f"asks-{shape}"
        kube.apply(pod(name, once, labels={"app": name, **ASKS}, securityContext=USERS,
                       initContainers=[container(f"init-{index}", tools_image, ["sh", "-c", ask],
                                                 securityContext=RESTRICTED) for index in range(2)]))
    for shape in range(5):
        seen = kube.wait_ready(f"asks-{shape}")
        assert is_injected(seen)
        for each in ("remora", "init-0", "init-1", "app"):
            assert status_of(seen, each)["restartCount"] == 0, each
        assert kube.logs(f"asks-{shape}", "init-1") == kube.logs(f"asks-{shape}", "app") == "web\n"


def test_a_restricted_namespace_runs_the_explicit_mode(kube, everywhere, operator, tools_image):
    everywhere.kubectl("label", "namespace", kube.namespace,
                       "pod-security.kubernetes.io/enforce=restricted")
    asks = web(tools_image, securityContext={**USERS, "seccompProfile": {"type": "RuntimeDefault"}})
    said = kube.kubectl("create", "--filename=-", stdin=json.dumps(asks)).stderr
    assert "Warning: remora: interception is explicit" in said
    kube.apply(service("web", 80, "remora-inbound"), pod(
        "caller", container("main", tools_image, ["sleep", "1000"], securityContext=RESTRICTED),
        securityContext=USERS))
    seen = kube.wait_ready("web")
    assert is_injected(seen)
    assert [each["name"] for each in seen["spec"]["initContainers"]] == ["remora"]
    kube.wait_ready("caller")
    assert wait_fetched(kube, "http://web/") == "web\n"
    # Through the proxy on the loopback address, as a program that honours HTTP_PROXY goes out.
    # By a longer name, because the pod's host name is its own.
    assert wait_fetched(kube, f"http://web.{kube.namespace}.svc/", of="web") == "web\n"
    ways = metrics_of(kube, "web", HEALTH_PORT)
    for name in ("remora_http_requests_total", "remora_outbound_connections_total"):
        assert sum(value for key, value in ways.items() if key.startswith(name)) > 0, name

    insists = web(tools_image, "insists", annotations={"remora.dev/interception": "transparent"})
    refused = kube.kubectl("create", "--filename=-", stdin=json.dumps(insists), check=False)
    assert refused.returncode != 0
    assert "remora.dev/interception" in refused.stderr and "write explicit" in refused.stderr


# --- probes ---------------------------------------------------------------------------------------

# Serves HTTP, HTTPS and gRPC health; each is well as long as a file of its name is there, and the bare
# port is open as long as `tcp` is. Of gRPC only what grpc.health.v1.Health/Check needs: frames of
# HTTP/2, one answer for whatever is asked.
PROBED = r"""
import http.server, os, socket, socketserver, ssl, threading, time
def well(name):
    return os.path.exists("/tmp/well/" + name)
def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
def field(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
class Grpc(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.read(24)
        self.wfile.write(frame(4, 0, 0))
        while len(head := self.rfile.read(9)) == 9:
            payload = self.rfile.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == 4 and not flags & 1:
                self.wfile.write(frame(4, 1, 0))
            if kind in (0, 1) and flags & 1:
                status = 1 if well("grpc") else 2
                self.wfile.write(
                    frame(1, 4, stream, b"\x88" + field(b"content-type", b"application/grpc"))
                    + frame(0, 0, stream, bytes([0, 0, 0, 0, 2, 8, status]))
                    + frame(1, 5, stream, field(b"grpc-status", b"0")))
class GrpcServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        if self.path == "/healthz" and self.headers.get("X-Ask") != "yes":
            return self.send_error(400)
        self.send_response(200 if well(name) else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
os.makedirs("/tmp/well", exist_ok=True)
for name in ("http", "https", "tcp", "grpc", "exec"):
    open("/tmp/well/" + name, "w")
plain = http.server.ThreadingHTTPServer(("", 8080), Handler)
secure = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
for server in (plain, secure, GrpcServer(("", 8082), Grpc)):
    threading.Thread(target=server.serve_forever, daemon=True).start()
bare = None
while True:
    if well("tcp") and bare is None:
        bare = socket.create_server(("", 8081))
        bare.setblocking(False)
    if not well("tcp") and bare is not None:
        bare.close()
        bare = None
    if bare is not None:
        try:
            bare.accept()[0].close()
        except BlockingIOError:
            pass
    time.sleep(0.02)
"""
PORTS = [{"containerPort": 8080, "name": "http"}, {"containerPort": 8443, "name": "tls"},
         {"containerPort": 8081, "name": "bare"}, {"containerPort": 8082, "name": "grpc"}]
PROBES = {
    "http": {"httpGet": {"path": "/healthz", "port": "http",
                         "httpHeaders": [{"name": "X-Ask", "value": "yes"}]}},
    "https": {"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}},
    "tcp": {"tcpSocket": {"port": "bare"}},
    "grpc": {"grpc": {"port": 8082}},
    "exec": {"exec": {"command": ["test", "-e", "/tmp/well/exec"]}},
}


def probed(image, kind, second):
    """Two agents; the second is probed by exec and stays well."""
    probe = {**PROBES[kind], "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 2}
    mounts = [{"name": "tls", "mountPath": "/tls"}]
    return pod(
        kind, container("agent", image, ["python3", "-c", PROBED], ports=PORTS,
                        readinessProbe=probe, volumeMounts=mounts, securityContext=RESTRICTED),
        container("second", second, ["sh", "-c", "touch /tmp/there; exec sleep 100000"],
                  readinessProbe={"exec": {"command": ["test", "-e", "/tmp/there"]},
                                  "periodSeconds": 1}, securityContext=RESTRICTED),
        labels={"app": kind, **ASKS}, securityContext={**USERS, "fsGroup": USER},
        volumes=[{"name": "tls", "secret": {"secretName": "probed"}}])


def test_probes_of_every_kind_tell_the_agents_own_state_through_the_sidecar(
        kube, operator, python_image, tools_image, tmp_path):
    certs.make_authority(tmp_path, "ca")
    certs.make_certificate(tmp_path, certs.Certificate("tls", "/CN=probed", certs.SERVER))
    kube.kubectl("create", "secret", "tls", "probed", f"--cert={tmp_path}/tls.crt",
                 f"--key={tmp_path}/tls.key")
    kube.apply(*(probed(python_image, kind, tools_image) for kind in PROBES))
    for kind in PROBES:
        seen = kube.wait_ready(kind)
        agent = next(each for each in seen["spec"]["containers"] if each["name"] == "agent")
        asks_remora = agent["readinessProbe"].get("httpGet", {}).get("port") == HEALTH_PORT
        assert asks_remora == (kind != "exec"), "only the container can run its command"
    for kind in PROBES:
        kube.run(kind, "rm", f"/tmp/well/{kind}", container="agent")
    for kind in PROBES:
        seen = kube.wait("pod", kind, "is told to be unwell", lambda one: not status_of(
            one, "agent")["ready"], CHANGED_S)
        assert status_of(seen, "second")["ready"], "the other container's state is its own"
        assert not is_ready(seen)
    for kind in PROBES:
        kube.run(kind, "touch", f"/tmp/well/{kind}", container="agent")
    for kind in PROBES:
        seen = kube.wait_ready(kind, CHANGED_S)
        assert all(status_of(seen, each)["restartCount"] == 0 for each in (
            "agent", "second", "remora"))


# --- beside another webhook -----------------------------------------------------------------------

def test_what_another_webhook_adds_later_meets_one_injection_only(kube, everywhere, operator,
                                                                  python_image, tools_image, tmp_path):
    """Asked behind Remora's (their names decide), it adds a container that listens: Remora's is asked
    again, leaves what is there as it is, and leaves the new port alone."""
    late = container("late", tools_image, ["sleep", "100000"],
                     ports=[{"containerPort": 9999}], securityContext=RESTRICTED)
    authority = webhooks.run(kube, python_image, tmp_path, [
        {"op": "add", "path": "/spec/containers/-", "value": late}], once_for='"late"')
    name = f"zz-{kube.namespace}"
    everywhere.apply(webhooks.configuration(kube.namespace, authority, ASKS, name))
    try:
        def tried():
            done = kube.kubectl("create", "--dry-run=server", "--output=json", "--filename=-",
                                stdin=json.dumps(web(tools_image)), check=False)
            return json.loads(done.stdout) if done.stdout else None

        kube.wait_for("the other webhook has its say", tried, lambda made: made and any(
            each["name"] == "late" for each in made["spec"]["containers"]), seconds=30)
        kube.apply(web(tools_image))
        seen = kube.wait_ready("web")
    finally:
        everywhere.delete("mutatingwebhookconfiguration", name)
    names = [each["name"] for each in seen["spec"]["initContainers"]]
    assert names == ["remora-intercept", "remora"]
    assert [each["name"] for each in seen["spec"]["containers"]] == ["web", "late"]
    rules = seen["spec"]["initContainers"][0]["args"]
    assert any("exclude-inbound-port" in word and "9999" in word for word in rules), rules
    volumes = [each["name"] for each in seen["spec"]["volumes"]]
    assert len(volumes) == len(set(volumes))


# --- the end of a pod ------------------------------------------------------------------------------

def test_a_pod_with_a_long_grace_period_is_gone_when_its_agent_is(kube, operator, python_image,
                                                                  report_table):
    """The agent takes 3 s to end. A sidecar that stayed would hold the pod for 300 s."""
    slow = "import signal, sys, time\n" \
           "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), sys.exit(0)))\n" \
           "while True: time.sleep(1)"
    kube.apply(pod("slow", container("agent", python_image, ["python3", "-c", slow],
                                     securityContext=RESTRICTED),
                   labels={"app": "slow", **ASKS}, annotations={"remora.dev/drain-delay": "0s"},
                   securityContext=USERS, terminationGracePeriodSeconds=300))
    assert is_injected(kube.wait_ready("slow"))
    # So that what the kubelet said last can be read.
    kube.kubectl("patch", "pod", "slow", "--type=merge",
                 '--patch={"metadata": {"finalizers": ["remora.test/read"]}}')
    began = time.monotonic()
    kube.delete("pod", "slow")
    try:
        seen = kube.wait("pod", "slow", "both have ended", lambda one: all(
            "terminated" in status_of(one, each).get("state", {}) for each in ("agent", "remora")))
        took = time.monotonic() - began
    finally:
        kube.kubectl("patch", "pod", "slow", "--type=merge",
                     '--patch={"metadata": {"finalizers": null}}')
    ends = {each: status_of(seen, each)["state"]["terminated"] for each in ("agent", "remora")}
    report_table("Deleted pod, 300 s of grace, an agent that takes 3 s to end", {
        "both ended after": f"{took:.1f} s", "agent": ends["agent"]["finishedAt"],
        "remora": ends["remora"]["finishedAt"]})
    assert ends["agent"]["exitCode"] == ends["remora"]["exitCode"] == 0
    assert seconds_of(ends["remora"]["finishedAt"]) - seconds_of(
        ends["agent"]["finishedAt"]) <= LEAVES_S + 1, "the kubelet tells whole seconds"
    assert took < 20


def seconds_of(text):
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
