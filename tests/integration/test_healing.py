"""`remora operator --heal` against an API server over HTTP/2: what is seen becomes Incidents, steps are
taken once and by the leader only, whatever happens to the server, the watches and the process."""

import signal
import time

import pytest
from fake_api_server import FakeApiServer
from fake_rbac import HEALING, Rights
from operator_program import Caller, Operator
from operator_program import pod as asking_pod
from remora import binary, is_alive, wait_for

LEASES = "/apis/coordination.k8s.io/v1/namespaces/remora-system/leases/remora-operator"
# A lease that nobody gives back is taken after 15 s.
TAKEN_OVER_WAIT_S = 40
HEALED_WAIT_S = 20


class Healer(Operator):
    def command(self, *options):
        return [binary(), "operator", "--heal", "--kubeconfig", self.api.kubeconfig,
                "--namespace", "remora-system", "--image", "remora:test",
                "--tls-dir", self.directory, "--listen", "127.0.0.1:0",
                "--metrics-listen", "127.0.0.1:0", *map(str, options)]

    def lead(self):
        self.launch()
        self.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
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
        (directory / "tls.crt").write_bytes(api.certificate.read_bytes())
        (directory / "tls.key").write_bytes(api.key.read_bytes())
        made.append(Healer(directory, api))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


@pytest.fixture
def remora(make_healer):
    return make_healer()


def policy(**spec):
    return {"metadata": {"name": "agents", "namespace": "default", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "stableAfter": "1s"} | spec}


def set_node(api, name, ready):
    api.put("nodes", {"metadata": {"name": name}, "status": {"conditions": [
        {"type": "Ready", "status": "True" if ready else "Unknown",
         "message": "Kubelet stopped posting node status.",
         "lastTransitionTime": stamp()}]}})


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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


def crash_looping(name, **named):
    return pod(name, ready=False, containerStatuses=[
        {"name": "agent", "ready": False, "restartCount": 7,
         "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": stamp()}}}],
        **named)


def incidents(api):
    return api.all("incidents")


def only_incident(api, phase):
    """Once there is exactly one, in that phase."""
    wait_for(lambda: [each.get("status", {}).get("phase") for each in incidents(api)] == [phase],
             f"one Incident that is {phase}", HEALED_WAIT_S)
    return incidents(api)[0]


def steps(incident):
    return [(step["name"], step["state"]) for step in incident["status"].get("steps", [])]


def reasons(api):
    return [event["reason"] for event in api.all("events") if event["reason"] != "RemoraMissing"]


def lose_node_of(api, *names):
    """n1 is gone, and with it the readiness of these pods."""
    for name in names:
        api.put("pods", pod(name, ready=False))
    set_node(api, "n1", False)


# --- from fault to end -----------------------------------------------------------------------------
def test_pod_of_a_lost_node_is_rescheduled_and_its_replacement_ends_the_incident(remora, api):
    api.put("pods", pod("a"))
    remora.lead()
    lose_node_of(api, "a")
    incident = only_incident(api, "Healing")
    assert incident["spec"]["fault"] == "node_unready"
    assert incident["spec"]["pod"]["node"] == "n1"
    assert incident["spec"]["policy"] == "agents"
    wait_for(lambda: steps(incidents(api)[0]) == [("reschedule", "done")], "the step",
             HEALED_WAIT_S)
    assert api.get("pods", "default", "a") is None
    api.put("pods", pod("b", node="n2"))
    incident = only_incident(api, "Resolved")
    assert steps(incident) == [("reschedule", "verified")]
    assert "pod b on n2" in incident["status"]["steps"][0]["message"]
    wait_for(lambda: sorted(reasons(api)) == ["RemoraFault", "RemoraReschedule",
                                              "RemoraRescheduled", "RemoraResolved"], "the Events")
    assert remora.metric('remora_operator_heal_evictions_total{outcome="evicted"}') == 1
    wait_for(lambda: api.get("healingpolicies", "default", "agents")["status"]["pods"] == 1,
             "the policy's status")


def test_everything_goes_over_one_connection(remora, api):
    api.put("pods", crash_looping("a"))
    remora.lead()
    only_incident(api, "Healing")
    assert api.connections == 1
    assert len([request for request in api.requests if request[0] == "WATCH"]) == 5, "of policies one for admissions"


def test_unready_pod_whose_disruption_budget_forbids_evictions_is_deleted(remora, api):
    api.put("pods", pod("a"))
    api.protected.add("a")
    remora.lead()
    lose_node_of(api, "a")
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    wait_for(lambda: steps(incidents(api)[0]) == [("reschedule", "done")], "the step")
    assert "disruption budget" in incidents(api)[0]["status"]["steps"][0]["message"]


def test_throttled_write_is_made_when_the_server_says_so(remora, api):
    remora.lead()
    api.throttles["/apis/remora.dev/v1alpha1/namespaces/default/incidents"] = 2
    api.put("pods", crash_looping("a"))
    only_incident(api, "Healing")
    refused = [request for request in api.writes() if request[2] == 429]
    assert len(refused) == 2


def test_healing_uses_every_right_that_it_has_and_no_other(make_healer, api):
    api.put("healingpolicies", policy(incidentRetention="1m"))
    api.put("pods", pod("a"))
    api.protected.add("a")
    old = {"pod": {"name": "x", "uid": "u"}, "fault": "unready", "policy": "agents",
           "detectedAt": "2020-01-01T00:00:00Z"}
    api.put("incidents", {"metadata": {"name": "old", "namespace": "default"}, "spec": old,
                          "status": {"phase": "Resolved", "endedAt": "2020-01-01T00:00:00Z"}})
    make_healer().lead()
    lose_node_of(api, "a")
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    wait_for(lambda: api.get("incidents", "default", "old") is None, "the old Incident's end")
    healing = Rights(HEALING).granted
    wait_for(lambda: healing <= api.rights.used, "all rights used", HEALED_WAIT_S)
    assert [request for request in api.requests if request[2] == 403] == []


# --- the watch -------------------------------------------------------------------------------------
def test_versions_that_are_gone_mean_a_new_list_and_nothing_is_missed(remora, api):
    remora.lead()
    api.put("pods", crash_looping("a"))
    first = only_incident(api, "Healing")
    api.forget()
    api.put("pods", pod("a"))
    incident = only_incident(api, "Resolved")
    assert incident["metadata"]["name"] == first["metadata"]["name"]
    lists = [request for request in api.requests if request[:2] == ("GET", "/api/v1/pods")]
    assert len(lists) >= 2


def test_ten_thousand_events_in_a_burst(remora, api):
    remora.lead()
    names = [f"p{index}" for index in range(1000)]
    began = time.monotonic()
    with api.lock:
        for _ in range(10):
            for name in names:
                api.store.put("pods", pod(name))
        api.store.put("pods", crash_looping("sick"))
    only_incident(api, "Healing")
    seconds = time.monotonic() - began
    with open(f"/proc/{remora.process.pid}/status", encoding="ascii") as file:
        resident = next(line.split()[1] for line in file if line.startswith("VmRSS"))
    print(f"\n10,001 events of 1,001 pods: first act after {seconds:.1f} s, "
          f"{int(resident) // 1024} MiB resident")
    wait_for(lambda: api.get("healingpolicies", "default", "agents").get("status", {}).get(
        "pods") == 1001, "all pods counted", HEALED_WAIT_S)
    assert remora.metric("remora_operator_heal_looks_total") < 500


# --- the lead --------------------------------------------------------------------------------------
def test_leader_stopped_past_its_lease_writes_nothing_and_ends(make_healer, api):
    first, second = make_healer("first"), make_healer("second")
    first.lead()
    api.put("pods", pod("a"))
    second.launch()
    first.process.send_signal(signal.SIGSTOP)
    second.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
    lease = api.get("leases", "remora-system", "remora-operator")
    assert lease["spec"]["holderIdentity"] == second.identity
    assert lease["spec"]["leaseTransitions"] == 1
    # Work that both can see; only the new leader may do it.
    second.process.send_signal(signal.SIGSTOP)
    lose_node_of(api, "a")
    before = len(api.requests)
    first.process.send_signal(signal.SIGCONT)
    first.wait_log("leadership_lost")
    assert first.process.wait(30) == 1
    assert api.writes(before) == []
    second.process.send_signal(signal.SIGCONT)


def test_leader_that_ends_gives_the_lease_back(make_healer, api):
    first, second = make_healer("first"), make_healer("second")
    first.lead()
    second.launch()
    began = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    second.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
    assert time.monotonic() - began < 10
    assert first.process.wait(30) == 0


def test_api_server_away_for_thirty_seconds(make_healer, api):
    """Nothing is done meanwhile, and afterwards what is needed, by a leader that is one."""
    api.put("pods", pod("a"))
    first, second = make_healer("first"), make_healer("second")
    first.lead()
    second.launch()
    wait_for(lambda: second.plain("/readyz")[0] == 200, "readiness")
    before = len(api.requests)
    api.stop()
    away = time.monotonic()
    lose_node_of(api, "a")
    assert first.process.wait(30) == 1, "a leader that can't renew has lost"
    assert is_alive(second.process.pid)
    time.sleep(max(0, away + 30 - time.monotonic()))
    assert len(api.requests) == before
    api.start()
    second.wait_log("leading", wait_s=TAKEN_OVER_WAIT_S)
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    evictions = [request for request in api.writes(before) if request[1].endswith("/eviction")]
    assert len(evictions) == 1


def test_operator_killed_between_intention_and_step_does_it_once(make_healer, api):
    api.put("pods", pod("a"))
    first = make_healer("first")
    first.lead()
    path = "/api/v1/namespaces/default/pods/a/eviction"
    api.refusals[path] = 500
    lose_node_of(api, "a")
    incident = only_incident(api, "Held")
    assert steps(incident) == [("reschedule", "intended")]
    first.process.kill()
    first.process.wait(10)
    del api.refusals[path]
    second = make_healer("second")
    second.lead()
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    api.put("pods", pod("b", node="n2"))
    only_incident(api, "Resolved")
    done = [request for request in api.requests if request[1] == path and request[2] == 201]
    assert len(done) == 1
    assert steps(incidents(api)[0]) == [("reschedule", "verified")]


def admitted(operator, api, **annotations):
    """The annotations that the webhook adds to a pod with these."""
    thing = asking_pod()
    thing["metadata"]["labels"]["app"] = "agent"
    thing["metadata"]["annotations"] = {f"remora.dev/{name.replace('_', '-')}": value
                                        for name, value in annotations.items()}
    with Caller(operator.port, api.certificate.read_text(), "127.0.0.1") as caller:
        response = caller.admit(thing)
    prefix = "/metadata/annotations/remora.dev~1"
    added = {step["path"].removeprefix(prefix): step["value"] for step in response["patch"]
             if step["path"].startswith(prefix)}
    added.pop("injected")
    return added, response.get("warnings", [])


def test_settings_of_a_policy_reach_pods_made_from_then_on(remora, api):
    api.put("healingpolicies", policy(sidecar={"detection": {"hangWindow": "45s"},
                                               "snapshots": {"keepLast": 5}}))
    remora.start()
    added, _ = admitted(remora, api, hang_window="10s")
    assert added == {"snapshot-keep-last": "5",
                     "policy": '{"name":"agents","generation":1,"settings":["snapshot-keep-last"]}'}

    api.put("healingpolicies", policy(sidecar={"detection": {"hangWindow": "50s"}}))
    wait_for(lambda: admitted(remora, api)[0].get("hang-window") == "50s", "the new settings")

    # What the schema of an older cluster let through.
    api.put("healingpolicies", policy(sidecar={"detection": {"hangWindow": "soon"}}))
    remora.wait_log("policy_settings_refused", policy="agents")
    added, warnings = admitted(remora, api)
    assert added == {}
    assert any("spec.sidecar.detection.hangWindow" in warning for warning in warnings)


def test_ready_only_once_the_policies_are_known(remora, api):
    api.refusals["/apis/remora.dev/v1alpha1/healingpolicies"] = 403
    remora.launch()
    wait_for(lambda: "HealingPolicies" in remora.plain("/readyz")[1], "the reason")
    assert remora.plain("/readyz")[0] == 503
    api.refusals.clear()
    wait_for(lambda: remora.plain("/readyz")[0] == 200, "readiness", HEALED_WAIT_S)
