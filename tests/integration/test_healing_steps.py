"""The steps of healing's ladder against an API server: each is written down, done once and verified, and
needs the rights that it has and no other."""

import http.server
import json
import pathlib
import signal
import threading

import pytest
from fake_rbac import HEALING, Rights
from healing import (HEALED_WAIT_S, api, crash_looping, incidents,  # noqa: F401
                     lose_node_of, make_healer, only_incident, out_of_memory, pod, policy, reasons,
                     remora, stamp, steps)
from remora import wait_for

MEBIBYTE = 2**20


def put_deployment(api, revision):
    api.put("deployments", {
        "metadata": {"name": "agent", "namespace": "default", "uid": "deployment", "generation": 1,
                     "annotations": {"deployment.kubernetes.io/revision": str(revision)}},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template(revision)}})


def template(revision):
    return {"metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "agent", "image": f"agent:{revision}"}]}}


def put_revision(api, revision, age_s, ready):
    made = template(revision)
    made["metadata"]["labels"]["pod-template-hash"] = str(revision)
    api.put("replicasets", {
        "metadata": {"name": f"agent-{revision}", "namespace": "default",
                     "creationTimestamp": stamp(age_s),
                     "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                     "ownerReferences": [{"kind": "Deployment", "name": "agent", "uid": "deployment",
                                          "controller": True}]},
        "spec": {"replicas": 1, "template": made}, "status": {"readyReplicas": int(ready)}})


def of_revision(revision, thing):
    thing["metadata"]["labels"]["pod-template-hash"] = str(revision)
    thing["metadata"]["ownerReferences"][0]["name"] = f"agent-{revision}"
    return thing


def bad_rollout(api):
    """A new revision whose pod crash-loops, beside one that serves."""
    put_deployment(api, 2)
    put_revision(api, 1, 3600, True)
    put_revision(api, 2, 60, False)
    api.put("healingpolicies", policy(ladders=[{"fault": "crash_loop", "steps": ["roll_back"]}]))
    api.put("pods", of_revision(1, pod("old", node="n2")),
            of_revision(2, crash_looping("new", node="n2")))


def test_revision_that_crash_loops_is_rolled_back_and_its_pods_replacement_ends_the_incident(
        remora, api):
    bad_rollout(api)
    remora.lead()
    wait_for(lambda: incidents(api) and steps(incidents(api)[0]) == [("roll_back", "done")],
             "the rollback", HEALED_WAIT_S)
    deployment = api.get("deployments", "default", "agent")
    assert deployment["spec"]["template"] == template(1)
    annotations = deployment["metadata"]["annotations"]
    assert annotations["remora.dev/rolled-back"] == "agent-2>agent-1"
    assert "crash_loop of pod new" in annotations["kubernetes.io/change-cause"]
    assert incidents(api)[0]["status"]["workload"] == "Deployment/agent"
    # What the Deployment's controller does then.
    api.remove("pods", "default", "new")
    incident = only_incident(api, "Resolved")
    assert steps(incident) == [("roll_back", "verified")]
    assert {"RemoraRollBack", "RemoraRolledBack"} <= set(reasons(api))
    assert remora.metric("remora_operator_heal_rollbacks_total") == 1


def test_operator_killed_after_the_rollback_was_asked_for_does_not_roll_back_twice(make_healer, api):
    """Killed between the answer and the Incident's next state: the Deployment itself remembers."""
    bad_rollout(api)
    first = make_healer("first")
    first.lead()
    wait_for(lambda: api.get("deployments", "default", "agent")["spec"]["template"] == template(1),
             "the rollback", HEALED_WAIT_S)
    first.process.kill()
    first.process.wait(10)
    incident = incidents(api)[0]
    incident["status"]["steps"][0].update(state="intended", endedAt=None)
    api.put("incidents", incident)
    before = len(api.requests)
    second = make_healer("second")
    second.lead()
    wait_for(lambda: steps(incidents(api)[0]) == [("roll_back", "done")], "the step", HEALED_WAIT_S)
    assert [each for each in api.writes(before) if each[1].endswith("/deployments/agent")] == []


def test_container_that_ran_out_of_memory_gets_more_in_place(remora, api):
    api.put("healingpolicies", policy(
        memory={"factorPercent": 200, "bytesMax": "128MiB"},
        ladders=[{"fault": "out_of_memory", "steps": ["resize", "alert"]}]))
    sick = out_of_memory("a")
    sick["spec"]["containers"] = [{"name": "agent", "resources": {
        "limits": {"memory": "48Mi"}, "requests": {"memory": "48Mi"}}}]
    api.put("pods", sick)
    remora.lead()
    wait_for(lambda: incidents(api) and steps(incidents(api)[0]) == [("resize", "done")], "the step",
             HEALED_WAIT_S)
    resources = api.get("pods", "default", "a")["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"memory": "96Mi"}, "requests": {"memory": "96Mi"}}
    step = incidents(api)[0]["status"]["steps"][0]
    assert step["target"] == str(96 * MEBIBYTE)
    assert "limit of its template" in step["message"]
    well = pod("a")
    well["spec"] = api.get("pods", "default", "a")["spec"]
    api.put("pods", well)
    assert steps(only_incident(api, "Resolved")) == [("resize", "verified")]


def test_volume_that_can_not_be_attached_is_a_fault_of_its_own_and_moves_nothing(remora, api):
    waits = pod("a", ready=False, phase="Pending", containerStatuses=[
        {"name": "agent", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}])
    waits["metadata"]["creationTimestamp"] = stamp(60)
    api.put("pods", waits)
    api.put("events", {"metadata": {"name": "a.1", "namespace": "default"}, "type": "Warning",
                       "reason": "FailedAttachVolume", "lastTimestamp": stamp(),
                       "message": 'Multi-Attach error for volume "pv-1"'})
    remora.lead()
    incident = only_incident(api, "Healing")
    assert incident["spec"]["fault"] == "volume_error"
    assert "Multi-Attach" in incident["spec"]["summary"]
    assert "out-of-service" in incident["spec"]["summary"]
    assert steps(incident) == [("wait", "done")]


def test_budget_of_the_fleet_holds_across_namespaces(remora, api):
    for namespace in ("default", "other"):
        thing = policy(budgets={"minHealthyPercent": 0, "stepsMax": 10})
        thing["metadata"]["namespace"] = namespace
        api.put("healingpolicies", thing)
        for name in ("a", "b"):
            sick = pod(name, ready=False)
            sick["metadata"]["namespace"] = namespace
            api.put("pods", sick)
    api.put("namespaces", {"metadata": {"name": "other"}})
    remora.lead("--fleet-steps-max", 2)
    lose_node_of(api)
    wait_for(lambda: len(incidents(api)) == 4 and all(
        each.get("status", {}).get("phase") in ("Held", "Healing") for each in incidents(api)),
        "four Incidents", HEALED_WAIT_S)
    wait_for(lambda: len([each for each in incidents(api) if "of the fleet" in each["status"].get(
        "hold", "")]) == 2, "two are held", HEALED_WAIT_S)
    evictions = lambda: [each for each in api.writes()  # noqa: E731
                         if each[1].endswith("/eviction") and each[2] == 201]
    wait_for(lambda: len(evictions()) >= 2, "two evictions", HEALED_WAIT_S)
    looks = remora.metric("remora_operator_heal_looks_total")
    wait_for(lambda: remora.metric("remora_operator_heal_looks_total") >= looks + 4, "more looks",
             HEALED_WAIT_S)
    assert len(evictions()) == 2


def test_policy_keeps_a_disruption_budget_that_never_protects_pods_that_are_not_ready(remora, api):
    api.put("healingpolicies", policy(drain={"minAvailable": "50%"}))
    remora.lead()
    wait_for(lambda: api.get("poddisruptionbudgets", "default", "remora-agents"), "it is made",
             HEALED_WAIT_S)
    budget = api.get("poddisruptionbudgets", "default", "remora-agents")
    assert budget["spec"] == {"minAvailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow",
                              "selector": {"matchLabels": {"app": "agent"}}}
    assert budget["metadata"]["ownerReferences"][0]["kind"] == "HealingPolicy"
    wait_for(lambda: api.get("healingpolicies", "default", "agents").get("status", {}).get(
        "disruptionBudget") == "remora-agents", "the status", HEALED_WAIT_S)
    api.put("healingpolicies", policy() | {"status": {"disruptionBudget": "remora-agents"}})
    wait_for(lambda: api.get("poddisruptionbudgets", "default", "remora-agents") is None, "its end",
             HEALED_WAIT_S)


def test_a_disruption_budget_that_could_not_be_deleted_is_not_forgotten(make_healer, remora, api):
    budget = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/remora-agents"
    api.put("healingpolicies", policy(drain={"minAvailable": "50%"}))
    remora.lead()

    def kept():
        return api.get("healingpolicies", "default", "agents").get("status", {}).get(
            "disruptionBudget")

    wait_for(lambda: kept() == "remora-agents", "the status", HEALED_WAIT_S)
    api.refusals[budget] = 500
    old = api.get("healingpolicies", "default", "agents")
    api.put("healingpolicies", policy(stepTimeout="77s") | {"status": old["status"]})

    def refused():
        return [each for each in api.requests if each == ("DELETE", budget, 500)]

    wait_for(lambda: len(refused()) >= 2, "two vain deletions", HEALED_WAIT_S)
    assert kept() == "remora-agents"
    # Nor by the next process.
    remora.stop()
    make_healer("second").lead()
    before = len(refused())
    wait_for(lambda: len(refused()) > before, "another vain deletion", HEALED_WAIT_S)
    del api.refusals[budget]
    wait_for(lambda: api.get("poddisruptionbudgets", "default", "remora-agents") is None, "its end",
             HEALED_WAIT_S)
    wait_for(lambda: kept() is None, "the status", HEALED_WAIT_S)


def test_healing_uses_every_right_that_it_has_and_no_other(make_healer, api):
    bad_rollout(api)
    api.put("healingpolicies", policy(
        incidentRetention="1m", drain={"minAvailable": "1"}, memory={"bytesMax": "128MiB"},
        budgets={"minHealthyPercent": 0},
        ladders=[{"fault": "crash_loop", "steps": ["roll_back"]},
                 {"fault": "out_of_memory", "steps": ["resize"]}]))
    old = {"pod": {"name": "x", "uid": "u"}, "fault": "unready", "policy": "agents",
           "detectedAt": "2020-01-01T00:00:00Z"}
    api.put("incidents", {"metadata": {"name": "old", "namespace": "default"}, "spec": old,
                          "status": {"phase": "Resolved", "endedAt": "2020-01-01T00:00:00Z"}})
    sick = out_of_memory("oom", node="n2")
    sick["spec"]["containers"] = [{"name": "agent", "resources": {"limits": {"memory": "48Mi"}}}]
    set_member = crash_looping("set-0", node="n2")
    set_member["metadata"]["labels"]["controller-revision-hash"] = "set-b"
    set_member["metadata"]["ownerReferences"][0] |= {"kind": "StatefulSet", "name": "set"}
    api.put("statefulsets", {"metadata": {"name": "set", "namespace": "default", "uid": "set",
                                          "generation": 1, "annotations": {"a": "b"}},
                             "spec": {"template": template(2)},
                             "status": {"updateRevision": "set-b"}})
    for number, name, age_s in ((1, "set-a", 3600), (2, "set-b", 60)):
        api.put("controllerrevisions", {
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": stamp(age_s),
                         "ownerReferences": [{"uid": "set", "controller": True}]},
            "revision": number, "data": {"spec": {"template": template(number)}}})
    api.put("pods", sick, set_member, pod("a"))
    waits = pod("waits", node="n2", ready=False, phase="Pending", containerStatuses=[])
    waits["metadata"]["creationTimestamp"] = stamp(60)
    api.put("pods", waits)
    api.protected.add("a")
    make_healer().lead()
    api.put("persistentvolumeclaims", {
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "pv-1"}})
    lose_node_of(api, "a", claims=["data"])
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    wait_for(lambda: api.get("incidents", "default", "old") is None, "the old Incident's end")
    wait_for(lambda: api.get("poddisruptionbudgets", "default", "remora-agents"), "the budget")
    api.put("healingpolicies", policy() | {"status": {"disruptionBudget": "remora-agents"}})
    healing = Rights(HEALING).granted
    wait_for(lambda: healing <= api.rights.used, "all rights used", HEALED_WAIT_S)
    assert [request for request in api.requests if request[2] == 403] == []


# --- alerts ----------------------------------------------------------------------------------------
@pytest.fixture
def receiver():
    """Hears alerts; answers with each status of `answers` once, then 200."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = server.answers.pop(0) if server.answers else 200
            server.heard.append((self.path, self.headers.get("authorization"), status, body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.heard = [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_people_are_told_by_alertmanager_and_webhook_and_the_token_is_not_logged(
        remora, api, receiver, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret-token\n")
    api.put("healingpolicies", policy(alerts={"labels": {"team": "shop"}},
                                      ladders=[{"fault": "crash_loop", "steps": ["alert"]}]))
    api.put("pods", crash_looping("a"))
    receiver.answers = [503, 503]
    remora.lead("--alertmanager", receiver.url, "--alert-webhook", receiver.url + "/hook/x",
                "--alert-token-file", token)
    only_incident(api, "Alerted")
    good = lambda: [each for each in receiver.heard if each[2] == 200]  # noqa: E731
    wait_for(lambda: {each[0] for each in good()} == {"/api/v2/alerts", "/hook/x"}, "both are told",
             HEALED_WAIT_S)
    assert {each[1] for each in receiver.heard} == {"Bearer s3cret-token"}
    alert = next(each[3][0] for each in good() if each[0] == "/api/v2/alerts")
    assert alert["labels"]["team"] == "shop"
    assert alert["labels"]["fault"] == "crash_loop"
    assert next(each[3] for each in good() if each[0] == "/hook/x")["event"] == "alert"
    api.put("pods", pod("a"))
    only_incident(api, "Resolved")
    wait_for(lambda: any(each[0] == "/hook/x" and each[3]["event"] == "resolved"
                         for each in good()), "the end is told", HEALED_WAIT_S)
    assert "s3cret" not in remora.log_text()
    assert "/hook/x" not in remora.log_text()


def test_receiver_that_is_away_holds_no_healing_up(remora, api):
    api.put("pods", pod("a"))
    api.put("pods", crash_looping("b", node="n2"))
    api.put("healingpolicies", policy(budgets={"minHealthyPercent": 0},
                                      ladders=[{"fault": "crash_loop", "steps": ["alert"]}]))
    remora.lead("--alert-webhook", "http://127.0.0.1:1/")
    remora.wait_log("alert_delayed", receiver="webhook")
    lose_node_of(api, "a")
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)


# --- the lead --------------------------------------------------------------------------------------
def test_leader_whose_webhook_never_served_gives_the_lease_back(make_healer, api):
    healer = make_healer()
    pathlib.Path(healer.directory, "tls.key").unlink()
    healer.lead()
    assert healer.plain("/readyz")[0] == 503
    healer.process.send_signal(signal.SIGTERM)
    assert healer.process.wait(30) == 0
    lease = api.get("leases", "remora-system", "remora-operator")
    assert not lease["spec"].get("holderIdentity")
