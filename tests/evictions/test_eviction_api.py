"""The operator as a responder of the Eviction API, on an API server with the gate on, under the rights of the
manifests alone. The test takes the part of the evictionrequest-controller, within what the API server lets it
write: responders first, then their turns in the order of their priorities. So far nothing that can be had runs
that controller (Kubernetes 1.37.2 has the API and no controller)."""

import json
import pathlib
import time

import pytest
from api_server import ApiServer
from link_peers import GrpcSidecar, messages
from remora import Remora, binary, free_port, wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
OURS, KUBERNETES = "remora.dev/snapshot", "imperative-eviction.k8s.io/evictor"
FIRST = "tests.remora.dev/first"
EVICTION = "eviction.lifecycle.k8s.io"
TOLD_S = 60


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        server.kubectl("apply", f"--kustomize={REPOSITORY}/k8s/manifests/overlays/eviction-requests")
        server.apply({"apiVersion": "v1", "kind": "ServiceAccount",
                      "metadata": {"name": "default", "namespace": "default"}},
                     {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                      "metadata": {"name": "state", "namespace": "default"},
                      "spec": {"accessModes": ["ReadWriteOnce"],
                               "resources": {"requests": {"storage": "1Gi"}}}})
        yield server


class Operator(Remora):
    """With the token of its ServiceAccount, and a webhook that the API server calls."""

    def __init__(self, directory, api):
        super().__init__(directory)
        self.link = f"127.0.0.1:{free_port()}"
        self._webhook = free_port()
        self._be_called_by(api)
        self._kubeconfig = api.kubeconfig(
            "operator", {"token": api.token("remora-operator", "remora-system")})

    def _be_called_by(self, api):
        """By URL: no Service leads anywhere here."""
        configuration = api.get("mutatingwebhookconfiguration", "remora-webhook")
        for index, one in enumerate(configuration["webhooks"]):
            path = one["clientConfig"]["service"]["path"]
            api.kubectl("patch", "mutatingwebhookconfiguration", "remora-webhook", "--type=json",
                        "--patch", json.dumps([{
                            "op": "replace", "path": f"/webhooks/{index}/clientConfig",
                            "value": {"url": f"https://127.0.0.1:{self._webhook}{path}"}}]))

    def command(self, *options):
        return [binary(), "operator", f"--kubeconfig={self._kubeconfig}", "--namespace=remora-system",
                "--image=remora:test", f"--listen=127.0.0.1:{self._webhook}",
                "--url-host=127.0.0.1", "--metrics-listen=127.0.0.1:0", "--heal",
                f"--link-listen={self.link}", f"--link-address={self.link}",
                "--eviction-requests", *options]


@pytest.fixture(scope="module")
def operator(api, tmp_path_factory):
    one = Operator(tmp_path_factory.mktemp("operator"), api)
    one.launch()
    one.wait_log("leading", wait_s=TOLD_S)
    one.wait_log("listening", listener="link")
    yield one
    print(one.log_text())  # pytest shows it of a test that failed
    one.clean_up()


def make_injected(api, name, annotations, **spec):
    """A pod that the operator's webhook was asked about."""
    wanted = {"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": name, "namespace": "default", "labels": {"remora.dev/inject": "true"},
        "annotations": annotations},
        "spec": {"nodeName": "n1", "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
                 "containers": [{"name": "agent", "image": "agent:1",
                                 "ports": [{"containerPort": 8000}]}], **spec}}

    def injected():
        api.kubectl("delete", "pod", name, "--ignore-not-found", "--force")
        api.apply(wanted)
        made = api.get("pod", name)
        return made if "remora.dev/injected" in made["metadata"]["annotations"] else None

    return wait_for(injected, "a pod that the webhook was asked about", TOLD_S)


@pytest.fixture
def pod(api, operator):
    del operator
    made = make_injected(api, "a", {"remora.dev/snapshot-claim": "state",
                                    "remora.dev/state-dir": "/state"})
    api.set_status("pod", "a", {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True"}]})
    return made


def audience_of(pod):
    return next(source["serviceAccountToken"]["audience"]
                for volume in pod["spec"]["volumes"] if "projected" in volume
                for source in volume["projected"]["sources"]
                if "audience" in source.get("serviceAccountToken", {}))


@pytest.fixture
def sidecar(api, operator, pod, tmp_path):
    """Debian's gRPC with the token that the kubelet would have mounted."""
    record = json.loads(pod["metadata"]["annotations"]["remora.dev/injected"])
    trusted = tmp_path / "ca.crt"
    trusted.write_text(record["link"]["trustedPem"])
    token = api.token("default", "default", f"--audience={audience_of(pod)}",
                      "--bound-object-kind=Pod", "--bound-object-name=a",
                      f"--bound-object-uid={pod['metadata']['uid']}")
    pb = messages(tmp_path)
    with GrpcSidecar(pb, operator.link.rsplit(":", 1)[1], trusted, token) as one:
        one.pb = pb
        one.say(hello=pb.Hello(version="1", agents=[
            pb.AgentInfo(container="agent", claim="state", epoch=1)]))
        assert one.hear().HasField("welcome")
        wait_for(lambda: api.get("agentsnapshot", "state.agent"), "its AgentSnapshot", TOLD_S)
        yield one


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def begin(api, pod):
    """As the controller begins: who is to be called, an entry for each to write into, and the first one's turn."""
    responders = [{"name": FIRST, "priority": 30000}, *pod["spec"]["evictionResponders"],
                  {"name": KUBERNETES, "priority": 100}]
    api.apply({"apiVersion": "lifecycle.k8s.io/v1alpha1", "kind": "Eviction",
               "metadata": {"name": "e", "namespace": "default"},
               "spec": {"target": {"pod": {"name": "a", "uid": pod["metadata"]["uid"]}}}})
    api.set_status(EVICTION, "e", {
        "targetResponders": [{**each, "state": "Active" if each["name"] == FIRST else "Inactive"}
                             for each in responders],
        "responders": [{"name": each["name"]} | (
            {"startTime": now()} if each["name"] == FIRST else {}) for each in responders]})


def pass_on(api):
    """The first one has completed; the next one's turn begins."""
    status = eviction(api)
    status["responders"][0]["completionTime"] = now()
    api.set_status(EVICTION, "e", status)
    status["targetResponders"][0]["state"] = "Completed"
    status["targetResponders"][1]["state"] = "Active"
    status["responders"][1]["startTime"] = now()
    api.set_status(EVICTION, "e", status)


def eviction(api):
    return api.get(EVICTION, "e")["status"]


def entries(api):
    return {each["name"]: each for each in eviction(api)["responders"]}


def test_a_snapshot_is_taken_in_our_turn_by_what_the_api_server_accepts(api, operator, pod, sidecar):
    assert [each["name"] for each in pod["spec"]["evictionResponders"]] == [OURS]
    begin(api, pod)
    assert entries(api)[OURS] == {"name": OURS}
    pass_on(api)
    asked = sidecar.hear_of("command")
    assert asked.action == "Snapshot"
    begun = wait_for(lambda: entries(api)[OURS].get("heartbeatTime") and entries(api)[OURS],
                     "a heartbeat", TOLD_S)
    assert "completionTime" not in begun
    sidecar.say(outcome=sidecar.pb.Outcome(id=asked.id, container="agent", done=True,
                                           snapshot="00000001-aa"))
    ended = wait_for(lambda: entries(api)[OURS].get("completionTime") and entries(api)[OURS],
                     "its end", TOLD_S)
    assert ended["startTime"] == begun["startTime"], "the controller's own field stays"
    assert ended["heartbeatTime"] == begun["heartbeatTime"]
    assert entries(api)[KUBERNETES] == {"name": KUBERNETES}
    assert api.get("pod", "a"), "nobody is evicted by us"
    assert "eviction_not_written" not in operator.log_text()


# --- what else this version has --------------------------------------------------------------------

def test_a_pod_that_never_restarts_keeps_the_restart_rule_of_its_agent(api, operator):
    """By itself from 1.35 on. The API server drops the fields of gates that are off."""
    del operator
    made = make_injected(api, "job", {"remora.dev/state-dir": "/state"}, restartPolicy="Never")
    agent, = made["spec"]["containers"]
    assert agent["restartPolicy"] == "Never"
    assert agent["restartPolicyRules"] == [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [144]}}]
