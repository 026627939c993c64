"""Sidecar and operator, both real, over the link: what a pod heals by itself becomes an Incident and
Events, also after the operator was away; and what is asked of an agent in its AgentSnapshot is done
once. Pods have no right on the API: a token says which pod a sidecar may speak for."""

import json
import os
import secrets
import time

import pytest
from fake_api_server import identity
from healing import api as heal_api
from healing import make_healer, policy, reasons  # noqa: F401
from healing import pod as pod_object
from link_peers import GrpcSidecar, messages, rush
from pod import PodSidecar, Volume
from remora import free_port, wait_for

KEPT_WAIT_S = 40


@pytest.fixture
def api(heal_api):
    """With pod a, and no policy."""
    heal_api.remove("healingpolicies", "default", "agents")
    put_pod(heal_api, "a")
    heal_api.sidecars["token-a"] = ("default", "a", "uid-a")
    return heal_api


def put_pod(api, name, ready=True, **annotations):
    thing = pod_object(name, ready=ready)
    thing["metadata"] |= {"uid": f"uid-{name}", "ownerReferences": [], "annotations": {
        f"remora.dev/{key.replace('_', '-')}": text for key, text in annotations.items()}}
    thing["spec"]["initContainers"] = [{"name": "remora"}]
    api.put("pods", thing)


@pytest.fixture
def make_operator(make_healer):
    def make(name="operator"):
        made = make_healer(name)
        made.link_port = free_port()
        return made

    return make


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
    one.authorities = Volume(directory / "authorities")
    one.token = directory / "token"
    one.token.write_text("token-a\n")
    one.annotate(app_port=str(one.app_port))
    yield one
    request.node.add_report_section("call", "sidecar's log", one.log_text())
    one.clean_up()


def start(pod):
    if not pod.runtimes:
        pod.run_agent()
    pod.launch([f"--operator-token={pod.token}",
                f"--operator-ca={os.path.join(pod.authorities.path, 'ca.crt')}"],
               env={"REMORA_POD_UID": "uid-a"})
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
    wait_for(lambda: sorted(reasons(api)) == ["RemoraFoundFault", "RemoraHealed"], "the Events")
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
    api.put("healingpolicies", policy())
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


def test_the_clusters_ladder_restores_an_agent_whose_sidecar_gave_up(remora, api, pod):
    """Through its sidecar, once, and the Incident tells which snapshot it was."""
    api.put("healingpolicies", policy(stableAfter="1s", ladders=[
        {"fault": "gave_up", "steps": ["restore", "alert"]}]))
    pod.configure("healing:\n  ladders:\n    - {fault: crash, steps: [give_up]}\n")
    pod.annotate(app_port=str(pod.app_port), config_map="c")
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod), "the agent's catalogue", KEPT_WAIT_S)
    notes = os.path.join(pod.state, "notes")
    with open(notes, "w", encoding="ascii") as file:
        file.write("before")
    taken = ask(api, pod, "r1", "Snapshot")
    with open(notes, "w", encoding="ascii") as file:
        file.write("after")
    put_pod(api, "a", ready=False)
    os.kill(pod.agent_pid(), 9)

    def steps():
        return [step for incident in api.all("incidents")
                for step in incident.get("status", {}).get("steps", [])]

    wait_for(lambda: [step["state"] for step in steps()] == ["done"], "the restore", KEPT_WAIT_S)
    step, = steps()
    assert step["name"] == "restore" and taken["snapshot"] in step["message"], step
    with open(notes, encoding="ascii") as file:
        assert file.read() == "before"
    assert len(pod.journal("start")) == 3, "after the crash, and for the restore"
    put_pod(api, "a")
    wait_for(lambda: [one["status"]["phase"] for one in api.all("incidents")] == ["Resolved"],
             "the Incident's end", KEPT_WAIT_S)
    assert [step["state"] for step in steps()] == ["verified"]
    wait_for(lambda: {"RemoraGaveUp", "RemoraRestore", "RemoraRestored", "RemoraResolved"} <=
             set(reasons(api)), "its Events")
    assert remora.metric('remora_operator_heal_requests_total{action="Restore"}') == 1
    assert [request for request in api.requests if request[2] == 403] == []


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


def test_the_catalogue_of_a_claims_snapshots_is_the_claims(remora, api, pod):
    """Kubernetes then takes it away with the claim."""
    api.put("persistentvolumeclaims", {"metadata": {"name": "data", "namespace": "default",
                                                    "uid": "uid-data"}})
    pod.injected["link"]["claim"] = "data"
    pod.annotate(app_port=str(pod.app_port))
    start_connected(pod, remora)

    def catalogue():
        return api.get("agentsnapshots", "default", f"data.{pod.agents[0]['name']}")

    wait_for(catalogue, "the agent's catalogue", KEPT_WAIT_S)
    owner, = catalogue()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("PersistentVolumeClaim", "data",
                                                            "uid-data")
    # Gone with its claim, and the sidecar is there still: it is made anew for the next one.
    api.put("persistentvolumeclaims", {"metadata": {"name": "data", "namespace": "default",
                                                    "uid": "uid-data-2"}})
    api.remove("agentsnapshots", "default", f"data.{pod.agents[0]['name']}")
    wait_for(catalogue, "the next claim's catalogue", KEPT_WAIT_S)
    assert catalogue()["metadata"]["ownerReferences"][0]["uid"] == "uid-data-2"
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


@pytest.mark.parametrize(("restart_policy", "code"), [
    ("Always", 0), ("OnFailure", -9), ("Never", -16)])
def test_a_restart_is_no_success_where_that_would_be_final(remora, api, pod, restart_policy, code):
    """This agent ends with 0 at a SIGTERM, which is the end of a Job's pod."""
    pod.injected["restartPolicy"] = restart_policy
    pod.annotate(app_port=str(pod.app_port))
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod), "the agent's catalogue", KEPT_WAIT_S)
    assert ask(api, pod, "r1", "Restart")["state"] == "Done"
    assert pod.runtimes[0].codes == [code]


def test_drain_on_request(remora, api, pod):
    start_connected(pod, remora)
    wait_for(lambda: agent_snapshot(api, pod), "the agent's catalogue", KEPT_WAIT_S)
    done = ask(api, pod, "r1", "Drain")
    assert done["state"] == "Done", done


# --- whom the sidecar believes ---------------------------------------------------------------------
def authorities(api):
    """What the operator keeps for the pods of the namespace."""
    kept = api.get("configmaps", "default", "remora-link-ca")
    return kept["data"]["ca.crt"] if kept else None


def test_a_sidecar_that_was_away_during_a_change_of_authority_comes_back(
        make_operator, remora, api, pod, tmp_path):
    start_connected(pod, remora)
    wait_for(lambda: authorities(api) == api.certificate.read_text(), "the authorities", KEPT_WAIT_S)
    remora.stop()
    pod.wait_log("operator_not_reached")
    (tmp_path / "other").mkdir()
    key, certificate = identity(tmp_path / "other")
    second = make_operator("second")
    second.link_port = remora.link_port
    second.use_certificate(key, certificate)
    second.lead()
    wait_for(lambda: authorities(api) == certificate.read_text(), "the new authorities", KEPT_WAIT_S)
    wait_for(lambda: any("certificate" in line["reason"] for line in pod.log("operator_not_reached")),
             "the sidecar's refusal", KEPT_WAIT_S)
    assert len(pod.log("operator_connected")) == 1
    # As the kubelet does.
    pod.authorities.publish({"ca.crt": authorities(api)})
    pod.wait_log("operator_connected", count=2, wait_s=KEPT_WAIT_S)


def test_an_authority_that_was_taken_away_is_believed_no_more(make_operator, remora, api, pod,
                                                              tmp_path):
    """What was injected, or told, is older than what the kubelet has brought since."""
    (tmp_path / "other").mkdir()
    _, certificate = identity(tmp_path / "other")
    pod.authorities.publish({"ca.crt": certificate.read_text()})
    remora.lead()
    start(pod)
    assert "certificate" in pod.wait_log("operator_not_reached", wait_s=KEPT_WAIT_S)["reason"]
    pod.authorities.publish({"ca.crt": api.certificate.read_text()})
    pod.wait_log("operator_connected", wait_s=KEPT_WAIT_S)


def test_authorities_of_others_in_the_config_map_are_put_right(make_operator, remora, api):
    api.put("configmaps", {"metadata": {"name": "remora-link-ca", "namespace": "default"},
                           "data": {"ca.crt": "of somebody else"}})
    remora.lead()
    wait_for(lambda: authorities(api) == api.certificate.read_text(), "the authorities", KEPT_WAIT_S)
    assert api.get("configmaps", "remora-system", "remora-link-ca") is None


# --- a policy's settings ---------------------------------------------------------------------------
def hang_window(pod):
    return pod.in_force()["detection"]["hangWindow"]


def set_policy(api, generation, **sidecar):
    api.put("healingpolicies", policy(generation, sidecar=sidecar))


def outdated(api):
    return api.get("healingpolicies", "default", "agents").get("status", {}).get("outdatedPods")


def settings_in_force(pod):
    return [(line["generation"], line["problem"]) for line in pod.log("policy_settings")]


def test_a_policys_changed_settings_reach_a_running_pod(remora, api, pod):
    made_with = json.dumps({"name": "agents", "generation": 1, "settings": ["hang-window"]})
    put_pod(api, "a", hang_window="45s", policy=made_with)
    pod.annotate(app_port=str(pod.app_port), hang_window="45s", policy=made_with)
    set_policy(api, 1, detection={"hangWindow": "45s"})
    start_connected(pod, remora)
    wait_for(lambda: settings_in_force(pod) == [(1, "")], "what was there already")
    wait_for(lambda: outdated(api) == 0, "nobody is behind")
    set_policy(api, 2, detection={"hangWindow": "55s"}, healing={"stableAfter": "70s"})
    wait_for(lambda: settings_in_force(pod)[-1:] == [(2, "")], "the new settings")
    pod.wait_log("reloaded")
    assert hang_window(pod) == "55s"
    wait_for(lambda: outdated(api) == 0, "nobody is behind")
    # Also after the sidecar's container was restarted, before the operator says so again.
    remora.stop()
    pod.stop()
    start(pod)
    assert hang_window(pod) == "55s"
    # What the pod says itself wins.
    pod.annotate(app_port=str(pod.app_port), hang_window="10s")
    pod.wait_log("reloaded")
    assert hang_window(pod) == "10s"


def test_a_policy_that_goes_takes_its_settings_with_it(remora, api, pod):
    set_policy(api, 1, detection={"hangWindow": "45s"})
    start_connected(pod, remora)
    wait_for(lambda: settings_in_force(pod) == [(1, "")], "the settings")
    assert hang_window(pod) == "45s"
    api.remove("healingpolicies", "default", "agents")
    wait_for(lambda: settings_in_force(pod)[-1:] == [(0, "")], "their end")
    assert hang_window(pod) == "30s"


def test_settings_that_a_running_pod_cannot_take_are_told_and_counted(remora, api, pod):
    set_policy(api, 1, snapshots={"keepLast": 3})
    start_connected(pod, remora)
    wait_for(lambda: settings_in_force(pod), "the answer")
    assert "snapshots.keepLast" in settings_in_force(pod)[-1][1]
    wait_for(lambda: outdated(api) == 1, "the pod is counted", KEPT_WAIT_S)
    assert "snapshots.keepLast" in remora.wait_log("settings_not_in_force")["reason"]
    # The last good ones stay.
    assert pod.get("/ok").status == 200


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
        assert peer.hear().settings.policy == "", "no policy selects it"
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
