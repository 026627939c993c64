"""Pods that go while callers are at work. The workload is the worst one: it dies at SIGTERM in the
middle of whatever it does, and half of the requests must not be sent twice."""

import pytest
from kube import claim, container, deployment, pod, service
from callers import Load
from operators import ASKS, is_injected
from workloads import RESTRICTED, USER

PORT = 8080
ROLLOUT_S, DRAIN_S = 180, 180
GRACE_S = 40
# Longer than a new pod takes to be Ready, on a busy machine too.
ONLY_POD_DELAY_S = 40
STATE = "/var/lib/agent"

# Answers after 10 ms, and counts its answers in a file of its state; while an old pod still serves, the
# new one may count in the same file.
SERVE = """
import fcntl, http.server, os, signal, threading, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
state, lock = os.environ.get("STATE"), threading.Lock()

def count():
    if not state:
        return 0
    with lock, open(state + "/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            number = int(open(state + "/count").read())
        except FileNotFoundError:
            number = 0
        with open(state + "/count.new", "w") as new:
            new.write(str(number + 1))
        os.rename(state + "/count.new", state + "/count")
        return number + 1

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/healthz":
            return self.answer("well")
        time.sleep(0.01)
        self.answer(f"{os.uname().nodename} {count()}")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *_):
        pass
    def handle(self):
        self.connection.setsockopt(6, 1, 1)
        super().handle()

http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def worst(image, name, asks, state=None, annotations=None, **spec):
    """state: the claim in which it counts."""
    mounts = [{"name": "state", "mountPath": STATE}] if state else []
    volumes = [{"name": "state", "persistentVolumeClaim": {"claimName": state}}] if state else []
    return pod(name, container(
        "agent", image, ["python3", "-c", SERVE], securityContext=RESTRICTED,
        env=[{"name": "STATE", "value": STATE if state else ""}],
        ports=[{"containerPort": PORT, "name": "http"}], volumeMounts=mounts,
        readinessProbe={"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}),
        labels={"app": name, **(ASKS if asks else {})}, annotations=annotations, volumes=volumes,
        securityContext={"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        **{"terminationGracePeriodSeconds": GRACE_S, **spec})


def wait_rolled_out(kube, name):
    kube.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={ROLLOUT_S}s",
                 seconds=ROLLOUT_S + 10)


def pods_of(kube, name):
    return [each for each in kube.list("pods", f"app={name}")
            if "deletionTimestamp" not in each["metadata"]]


def under_load(kube, image, name, what, **spec):
    """What the callers of Service name saw while what() was done."""
    with Load(kube, image, name, name=f"load-{name}", **spec) as load:
        what()
        load.wait_answered(200)
    kube.delete("pod", f"load-{name}")
    return load


def test_a_rolling_update_under_load_loses_no_request(kube, operator, python_image, report_table):
    rows, failures = {}, {}
    for name in ("alone", "remora"):
        kube.apply(service(name, 80, PORT), deployment(name, 3, worst(
            python_image, name, asks=name == "remora")))
        wait_rolled_out(kube, name)
        before = {each["metadata"]["uid"] for each in pods_of(kube, name)}

        def update():
            kube.kubectl("rollout", "restart", f"deployment/{name}")
            wait_rolled_out(kube, name)
            kube.wait_for("the old pods are gone", lambda: {
                each["metadata"]["uid"] for each in kube.list("pods", f"app={name}")} & before,
                lambda left: not left)

        load = under_load(kube, python_image, name, update)
        assert all(is_injected(each) == (name == "remora") for each in pods_of(kube, name))
        rows[name], failures[name] = load.row(), load.result["failures"]
        kube.delete("deployment", name)
    report_table("Rolling update of three pods under load, Kubernetes alone and with Remora", rows)
    assert failures["remora"] == []


@pytest.fixture
def emptied(everywhere, nodes):
    """The node that is to be drained."""
    yield nodes[0]
    everywhere.kubectl("uncordon", nodes[0])


def near(node):
    """Affinity: there as long as it takes pods."""
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100, "preference": {"matchExpressions": [{
            "key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}}]}}


def drain(everywhere, node):
    """The whole node, the operator's replica included."""
    everywhere.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
                       f"--timeout={DRAIN_S}s", seconds=DRAIN_S + 10)


def nodes_of(kube, name):
    return {each["spec"]["nodeName"] for each in pods_of(kube, name)}


@pytest.fixture
def drained(kube, everywhere, operator, nodes, emptied, python_image):
    """drained(objects, look) empties the node under load, once without Remora and once with it. objects
    (name): a Deployment near the node, and what belongs to it; look(pods): more for its row.
    {name: (load, row)}"""
    def run(objects, look=lambda there: {}):
        seen = {}
        for name in ("alone", "remora"):
            kube.apply(service(name, 80, PORT), *objects(name))
            wait_rolled_out(kube, name)
            assert nodes_of(kube, name) == {emptied}

            def empty():
                drain(everywhere, emptied)
                wait_rolled_out(kube, name)

            load = under_load(kube, python_image, name, empty,
                              nodeSelector={"kubernetes.io/hostname": nodes[1]})
            there = pods_of(kube, name)
            assert nodes_of(kube, name) == {nodes[1]}
            assert all(is_injected(each) == (name == "remora") for each in there)
            seen[name] = load, {**load.row(), **look(there)}
            everywhere.kubectl("uncordon", emptied)
            kube.delete("deployment", name)
            kube.wait_for("its pods are gone", lambda: kube.list("pods", f"app={name}"),
                          lambda left: not left)
            operator.wait_ready()
        return seen
    return run


def rows_of(seen):
    return {name: row for name, (_, row) in seen.items()}


def test_a_drain_of_the_node_under_load_loses_no_request(drained, emptied, python_image,
                                                         report_table):
    """Two pods, both on the node, and a budget that lets one go at a time."""
    seen = drained(lambda name: [deployment(name, 2, worst(
        python_image, name, asks=name == "remora", affinity=near(emptied))), {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}}])
    report_table("Drain of the node with both pods under load, Kubernetes alone and with Remora",
                 rows_of(seen))
    assert seen["remora"][0].result["failures"] == []


def test_an_only_pod_comes_up_on_the_other_node_with_its_state(kube, drained, emptied, python_image,
                                                               report_table):
    """Its claim can be mounted anywhere. It serves until the new one is Ready, because it is told to
    take longer than that, and every answer is counted in the state."""
    def only_pod(name):
        return [claim(name), deployment(name, 1, worst(
            python_image, name, asks=name == "remora", state=name, affinity=near(emptied),
            terminationGracePeriodSeconds=ONLY_POD_DELAY_S + GRACE_S,
            annotations={"remora.dev/drain-delay": f"{ONLY_POD_DELAY_S}s"}))]

    def counted(there):
        return {"counted": kube.run(there[0]["metadata"]["name"], "cat", f"{STATE}/count",
                                    container="agent").stdout}

    seen = drained(only_pod, counted)
    report_table("Drain of the node with an only pod and its claim, Kubernetes alone and with Remora",
                 rows_of(seen))
    load, row = seen["remora"]
    assert int(row["counted"]) >= load.result["answered"] > 0, "what was counted is forgotten"
    assert load.result["failures"] == []
