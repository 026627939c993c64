"""Sidecar and operator, both real, over the link: what a pod heals by itself becomes an Incident and
Events, also after the operator was away; and what is asked of an agent in its AgentSnapshot is done
once. Pods have no right on the API: a token says which pod a sidecar may speak for."""

import os
import secrets
import time

import pytest
from fake_api_server import FakeApiServer
from link_peers import GrpcSidecar, messages, rush
from operator_program import Operator
from pod import PodSidecar
from remora import binary, free_port, wait_for

KEPT_WAIT_S = 40
TAKEN_OVER_WAIT_S = 40


class LinkOperator(Operator):
    def __init__(self, directory, api):
        super().__init__(directory, api)
        self.link_port = free_port()

    def command(self, *options):
        return [binary(), "operator", "--heal", "--kubeconfig", self.api.kubeconfig,
                "--namespace", "remora-system", "--image", "remora:test",
                "--tls-dir", self.directory, "--listen", "127.0.0.1:0",
                "--metrics-listen", "127.0.0.1:0",
                "--link-listen", f"127.0.0.1:{self.link_port}", *map(str, options)]

    def lead(self):
        self.launch()
        self.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
        self.wait_log("listening", listener="link")
        return self


@pytest.fixture
def api(tmp_path):
    fake = FakeApiServer(tmp_path).start()
    fake.put("namespaces", {"metadata": {"name": "default"}})
    fake.put("nodes", {"metadata": {"name": "n1"}, "status": {"conditions": [
        {"type": "Ready", "status": "True"}]}})
    put_pod(fake, "a")
    fake.sidecars["token-a"] = ("default", "a", "uid-a")
    yield fake
    fake.stop()


def put_pod(api, name, ready=True):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    api.put("pods", {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}",
                     "labels": {"app": "agent"}, "creationTimestamp": stamp},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running",
                   "conditions": [{"type": "Ready", "status": str(ready),
                                   "lastTransitionTime": stamp}]}})


@pytest.fixture
def make_operator(tmp_path, api):
    made = []

    def make(name="operator"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        for file, source in (("tls.crt", api.certificate), ("tls.key", api.key),
                             ("ca.crt", api.certificate)):
            (directory / file).write_bytes(source.read_bytes())
        made.append(LinkOperator(directory, api))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


@pytest.fixture
def remora(make_operator):
    return make_operator()


@pytest.fixture
def pod(tmp_path, api, remora, request):
    """The sidecar of pod a, and its agent."""
    directory = tmp_path / "pod-a"
    directory.mkdir()
    one = PodSidecar(directory)
    # As a container may be called.
    one.agents[0]["name"] = f"agent-{os.getpid()}-{secrets.token_hex(3)}"
    one.injected = {"link": {"address": f"127.0.0.1:{remora.link_port}",
                             "trustedPem": api.certificate.read_text()}}
    one.token = directory / "token"
    one.token.write_text("token-a\n")
    one.annotate(app_port=str(one.app_port))
    yield one
    request.node.add_report_section("call", "sidecar's log", one.log_text())
    one.clean_up()


def start(pod):
    if not pod.runtimes:
        pod.run_agent()
    pod.launch([f"--operator-token={pod.token}"], env={"REMORA_POD_UID": "uid-a"})
    pod.wait_log("agent_up")
    pod.port = pod.inbound_port
    return pod


def start_connected(pod, remora):
    remora.lead()
    start(pod)
    pod.wait_log("operator_connected", wait_s=KEPT_WAIT_S)
    return pod


def crash(pod, count=1):
    os.kill(pod.agent_pid(), 9)
    pod.wait_incident("crash", count=count)


def healed(api, count=1):
    """The Incidents, once so many say that the agent has recovered."""
    def all_told():
        told = [one for incident in api.all("incidents")
                for one in incident.get("status", {}).get("sidecar", [])]
        return len(told) == count and all(one["outcome"] == "recovered" for one in told)

    wait_for(all_told, f"{count} healings in Incidents", KEPT_WAIT_S)
    return api.all("incidents")


def reasons(api):
    return sorted(event["reason"] for event in api.all("events")
                  if event["reason"] != "RemoraMissing")


def agent_snapshot(api, pod):
    return api.get("agentsnapshots", "default", f"a.{pod.agents[0]['name']}")


def ask(api, pod, request_id, action, wait_s=KEPT_WAIT_S, **details):
    """As kubectl patch; the request's status once it is over."""
    thing = agent_snapshot(api, pod)
    thing["spec"]["request"] = {"id": request_id, "action": action} | details
    api.put("agentsnapshots", thing)

    def status():
        return agent_snapshot(api, pod).get("status", {}).get("request", {})

    wait_for(lambda: status().get("id") == request_id and status()["state"] != "Sent",
             f"the end of {action}", wait_s)
    return status()


# --- reports ---------------------------------------------------------------------------------------
def test_crash_that_the_pod_heals_is_one_incident_with_its_times_and_events(remora, api, pod):
    start_connected(pod, remora)
    crash(pod)
    incident, = healed(api)
    assert incident["spec"]["fault"] == "crash"
    assert incident["spec"]["pod"]["uid"] == "uid-a"
    assert incident["spec"]["container"] == pod.agents[0]["name"]
    wait_for(lambda: api.all("incidents")[0]["status"]["phase"] == "Resolved", "its end")
    told = api.all("incidents")[0]["status"]["sidecar"][0]
    assert told["recoveryMilliseconds"] > 0
    parts = sum(told.get(f"{part}Milliseconds", 0) for part in ("detect", "decide", "act", "ready"))
    assert abs(parts - told["recoveryMilliseconds"]) <= 4
    assert [step["action"] for step in told["steps"]] == ["restart"]
    assert "signal 9" in told["summary"]
    wait_for(lambda: reasons(api) == ["RemoraFoundFault", "RemoraHealed"], "the Events")
    event = next(each for each in api.all("events") if each["reason"] == "RemoraHealed")
    assert event["involvedObject"]["uid"] == "uid-a"
    assert event["related"]["name"] == incident["metadata"]["name"]
    assert [request for request in api.requests if request[2] == 403] == []


def test_what_happened_while_the_operator_was_away_is_told_once(make_operator, remora, api, pod):
    start(pod)
    crash(pod)
    crash(pod, count=2)
    assert pod.wait_log("operator_not_reached")
    remora.lead()
    healed(api, count=2)
    wait_for(lambda: len(reasons(api)) == 4, "the Events")
    made = [request for request in api.writes() if request[1].endswith("/incidents")]
    # Neither a new operator nor a new sidecar makes it happen again.
    remora.stop()
    second = make_operator("second")
    second.link_port = remora.link_port
    second.lead()
    pod.wait_log("operator_connected", count=2, wait_s=KEPT_WAIT_S)
    pod.stop()
    start(pod)
    pod.wait_log("operator_connected", wait_s=KEPT_WAIT_S)
    crash(pod, count=3)
    healed(api, count=3)
    again = [request for request in api.writes() if request[1].endswith("/incidents")]
    assert len(again) == len(made) + 1
    assert len(reasons(api)) <= 6


def test_sidecar_that_gave_up_is_the_clusters_to_heal(remora, api, pod):
    api.put("healingpolicies", {"metadata": {"name": "agents", "namespace": "default",
                                             "generation": 1},
                                "spec": {"selector": {"matchLabels": {"app": "agent"}}}})
    pod.configure("healing:\n  ladders:\n    - {fault: crash, steps: [give_up]}\n")
    pod.annotate(app_port=str(pod.app_port), config_map="c")
    start_connected(pod, remora)
    put_pod(api, "a", ready=False)
    os.kill(pod.agent_pid(), 9)

    def steps():
        return [step["name"] for incident in api.all("incidents")
                for step in incident.get("status", {}).get("steps", [])]

    # Without a controller nobody would make the pod again: the next step is to tell people.
    wait_for(lambda: steps() == ["reschedule", "alert"], "the cluster's ladder", KEPT_WAIT_S)
    # An Event is written after what it tells of.
    wait_for(lambda: {"RemoraGaveUp", "RemoraAlert"} <= set(reasons(api)), "its Events")


# --- requests --------------------------------------------------------------------------------------
def test_snapshot_and_restore_on_request(remora, api, pod):
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod) and agent_snapshot(api, pod).get("status", {}).get(
        "connected"), "the agent's catalogue", KEPT_WAIT_S)
    assert agent_snapshot(api, pod)["metadata"]["ownerReferences"][0]["uid"] == "uid-a"
    notes = os.path.join(pod.state, "notes")
    with open(notes, "w", encoding="ascii") as file:
        file.write("before")
    taken = ask(api, pod, "r1", "Snapshot")
    assert taken["state"] == "Done", taken
    wait_for(lambda: agent_snapshot(api, pod)["status"].get("latest") == taken["snapshot"],
             "the catalogue")
    stored, = agent_snapshot(api, pod)["status"]["snapshots"]
    assert stored["intact"] and stored["files"] >= 1 and stored["reason"] == "requested"
    with open(notes, "w", encoding="ascii") as file:
        file.write("after")
    before = pod.agent_pid()
    restored = ask(api, pod, "r2", "Restore", snapshot=taken["snapshot"])
    assert restored["state"] == "Done", restored
    assert restored["snapshot"] == taken["snapshot"]
    with open(notes, encoding="ascii") as file:
        assert file.read() == "before"
    assert pod.agent_pid() != before
    wrong = ask(api, pod, "r3", "Restore", snapshot="99999999-00000000")
    assert wrong["state"] == "Failed" and "99999999" in wrong["message"]
    wait_for(lambda: pod.get("/ok").status == 200, "the agent, as it was")
    assert [request for request in api.requests if request[2] == 403] == []


def test_request_is_carried_out_once_whoever_restarts(make_operator, remora, api, pod):
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod), "the agent's catalogue", KEPT_WAIT_S)
    ask(api, pod, "r1", "Restart")
    remora.stop()
    # As if the operator had ended before it could write the outcome down.
    thing = agent_snapshot(api, pod)
    thing["status"]["request"] = {"id": "r1", "action": "Restart", "state": "Sent"}
    api.put("agentsnapshots", thing)
    pod.process.kill()
    pod.wait()
    start(pod)
    starts = len(pod.journal("start"))
    second = make_operator("second")
    second.link_port = remora.link_port
    second.lead()
    wait_for(lambda: agent_snapshot(api, pod)["status"]["request"]["state"] == "Done",
             "its outcome, told again", KEPT_WAIT_S)
    assert len(pod.journal("start")) == starts


def test_drain_on_request(remora, api, pod):
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod), "the agent's catalogue", KEPT_WAIT_S)
    done = ask(api, pod, "r1", "Drain")
    assert done["state"] == "Done", done


# --- whose word it is ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pb(tmp_path_factory):
    return messages(tmp_path_factory.mktemp("schema"))


def report(pb, container="agent", number=1):
    return pb.IncidentReport(container=container, id=f"20260101T00000{number}.000Z-hang-3fa91c",
                             fault="hang", summary="no progress for 30 s", outcome="recovered",
                             began_at_unix_ns=time.time_ns() - 7_000_000_000,
                             detected_at_unix_ns=time.time_ns() - 7_000_000_000,
                             closed_at_unix_ns=time.time_ns())


def test_grpcs_own_client_speaks_for_the_pod_of_its_token_and_no_other(remora, api, pb):
    put_pod(api, "b")
    api.sidecars["token-b"] = ("default", "b", "uid-b")
    remora.lead()
    with GrpcSidecar(pb, remora.link_port, api.certificate, "token-b") as peer:
        peer.say(hello=pb.Hello(version="1", agents=[pb.AgentInfo(container="agent")]))
        assert "BEGIN CERTIFICATE" in peer.hear().welcome.trusted_pem
        peer.say(incident=report(pb))
        word = peer.hear().acknowledgement
        assert word.id == report(pb).id and word.outcome == "recovered"
        incident, = api.all("incidents")
        assert incident["spec"]["pod"]["name"] == "b"
        peer.say(incident=report(pb, container="somebody-else", number=2))
        assert peer.refusal()[0] == "INVALID_ARGUMENT"
    assert len(api.all("incidents")) == 1


@pytest.mark.parametrize("token", [None, "stranger"])
def test_who_shows_no_token_of_a_pod_is_refused(remora, api, pb, token):
    remora.lead()
    with GrpcSidecar(pb, remora.link_port, api.certificate, token) as peer:
        code, words = peer.refusal()
    assert code == "UNAUTHENTICATED" and "token" in words
    assert remora.metric('remora_operator_link_calls_total{result="refused"}') == 1


def test_replica_that_does_not_lead_sends_sidecars_on(make_operator, remora, api, pb):
    remora.lead()
    second = make_operator("second").launch()
    second.wait_log("listening", listener="link")
    with GrpcSidecar(pb, second.link_port, api.certificate, "token-a") as peer:
        code, words = peer.refusal()
    assert code == "UNAVAILABLE" and "lead" in words


@pytest.mark.slow
def test_a_thousand_sidecars_that_come_back_at_once(remora, api, pod, pb):
    """All are heard, few tokens are asked about at a time, and a pod's report is not held up."""
    count = 1000
    for number in range(count):
        api.sidecars[f"token-{number}"] = ("other", f"p{number}", f"uid-{number}")
    start_connected(pod, remora)
    hello = pb.SidecarMessage(hello=pb.Hello(agents=[])).SerializeToString()
    began = time.monotonic()
    welcome = rush(count, remora.link_port, api.certificate, hello, 120)
    seconds = time.monotonic() - began
    print(f"\n{count} sidecars at once: {welcome} welcome within {seconds:.1f} s, "
          f"{remora.rss_bytes() >> 20} MiB resident")
    assert welcome == count
    crash(pod)
    healed(api)
    assert remora.rss_bytes() < 256 << 20
