"""What the tests of healing share: `remora operator --heal` against a FakeApiServer, and the objects that it
looks at."""

import pathlib
import time

import pytest
from fake_api_server import FakeApiServer
from operator_program import Operator
from remora import binary, wait_for

# A lease that nobody gives back is taken after 15 s.
TAKEN_OVER_WAIT_S = 40
HEALED_WAIT_S = 20


class Healer(Operator):
    """link_port: where it hears sidecars; None: nowhere."""

    link_port = None

    def command(self, *options):
        link = ["--link-listen", f"127.0.0.1:{self.link_port}"] if self.link_port else []
        return [binary(), "operator", "--heal", "--kubeconfig", self.api.kubeconfig,
                "--namespace", "remora-system", "--image", "remora:test",
                "--tls-dir", self.directory, "--listen", "127.0.0.1:0",
                "--metrics-listen", "127.0.0.1:0", *link, *map(str, options)]

    def use_certificate(self, key, certificate):
        """One that is its own authority, as cert-manager mounts it."""
        for name, source in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", certificate)):
            (pathlib.Path(self.directory) / name).write_bytes(source.read_bytes())

    def lead(self, *options):
        self.launch(*options)
        self.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
        if self.link_port:
            self.wait_log("listening", listener="link")
        return self

    @property
    def identity(self):
        return self.wait_log("leading")["identity"]


@pytest.fixture
def api(tmp_path):
    fake = FakeApiServer(tmp_path).start()
    fake.put("namespaces", {"metadata": {"name": "default"}})
    for name in ("n1", "n2", "n3"):
        set_node(fake, name, True)
    fake.put("healingpolicies", policy())
    yield fake
    fake.stop()


@pytest.fixture
def make_healer(tmp_path, api):
    made = []

    def make(name="operator"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Healer(directory, api))
        made[-1].use_certificate(api.key, api.certificate)
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


@pytest.fixture
def remora(make_healer):
    return make_healer()


def policy(generation=1, **spec):
    """generation: as the API server counts it, one more with each change of the specification."""
    return {"metadata": {"name": "agents", "namespace": "default", "generation": generation},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "stableAfter": "1s"} | spec}


def set_node(api, name, ready):
    api.put("nodes", {"metadata": {"name": name}, "status": {"conditions": [
        {"type": "Ready", "status": "True" if ready else "Unknown",
         "message": "Kubelet stopped posting node status.",
         "lastTransitionTime": stamp()}]}})


def stamp(ago_s=0):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_s))


def pod(name, node="n1", ready=True, owner="rs", **status):
    state = {"running": {"startedAt": stamp()}}
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": "agent"},
                         "creationTimestamp": stamp(),
                         "ownerReferences": [{"kind": "ReplicaSet", "name": owner,
                                              "uid": "o", "controller": True}]},
            "spec": {"nodeName": node},
            "status": {"phase": "Running",
                       "conditions": [{"type": "Ready", "status": str(ready),
                                       "lastTransitionTime": stamp()}],
                       "containerStatuses": [{"name": "agent", "ready": ready,
                                              "restartCount": 0, "state": state}]} | status}


def crash_looping(name, reason="Error", **named):
    return pod(name, ready=False, containerStatuses=[
        {"name": "agent", "ready": False, "restartCount": 7,
         "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"exitCode": 3, "reason": reason, "finishedAt": stamp()}}}],
        **named)


def out_of_memory(name, **named):
    """Killed before, and running again on the same limit."""
    sick = crash_looping(name, reason="OOMKilled", **named)
    sick["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": stamp()}}
    return sick


def incidents(api):
    return api.all("incidents")


def only_incident(api, phase):
    """Once there is exactly one, in that phase."""
    wait_for(lambda: [each.get("status", {}).get("phase") for each in incidents(api)] == [phase],
             f"one Incident that is {phase}", HEALED_WAIT_S)
    return incidents(api)[0]


def steps(incident):
    return [(step["name"], step["state"]) for step in incident.get("status", {}).get("steps", [])]


def reasons(api):
    return [event["reason"] for event in api.all("events") if event["reason"] != "RemoraMissing"]


def lose_node_of(api, *names, claims=()):
    """n1 is gone, and with it the readiness of these pods."""
    for name in names:
        lost = pod(name, ready=False)
        lost["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": each}} for each in claims]
        api.put("pods", lost)
    set_node(api, "n1", False)
