"""`remora operator --heal` against an API server over HTTP/2: what is seen becomes Incidents, steps are
taken once and by the leader only, whatever happens to the server, the watches and the process."""

import signal
import time

from healing import (HEALED_WAIT_S, TAKEN_OVER_WAIT_S, api, crash_looping, incidents,  # noqa: F401
                     lose_node_of, make_healer, only_incident, pod, policy, reasons, remora, steps)
from operator_program import Caller
from operator_program import pod as asking_pod
from remora import is_alive, wait_for

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
    watched = [request[1] for request in api.requests if request[0] == "WATCH"]
    assert len(watched) == len(set(watched)) == 4, "each kind once"


def test_unready_pod_whose_disruption_budget_forbids_evictions_is_deleted(remora, api):
    api.put("pods", pod("a"))
    api.protected.add("a")
    remora.lead()
    lose_node_of(api, "a")
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    wait_for(lambda: steps(incidents(api)[0]) == [("reschedule", "done")], "the step")
    assert "disruption budget" in incidents(api)[0]["status"]["steps"][0]["message"]


def test_eviction_that_conflicts_is_looked_at_again_and_is_not_taken_for_a_pod_that_is_gone(remora, api):
    api.put("pods", pod("a"))
    path = "/api/v1/namespaces/default/pods/a/eviction"
    api.refusals[path] = 409
    remora.lead()
    lose_node_of(api, "a")
    wait_for(lambda: len([each for each in api.requests if each[1:] == (path, 409)]) >= 2,
             "the eviction is tried again", HEALED_WAIT_S)
    assert steps(incidents(api)[0]) == [("reschedule", "intended")]
    del api.refusals[path]
    wait_for(lambda: api.get("pods", "default", "a") is None, "the pod's end", HEALED_WAIT_S)
    wait_for(lambda: steps(incidents(api)[0]) == [("reschedule", "done")], "the step")


def test_throttled_write_is_made_when_the_server_says_so(remora, api):
    remora.lead()
    api.throttles["/apis/remora.dev/v1alpha1/namespaces/default/incidents"] = 2
    api.put("pods", crash_looping("a"))
    only_incident(api, "Healing")
    refused = [request for request in api.writes() if request[2] == 429]
    assert len(refused) == 2


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

    api.put("healingpolicies", policy(2, sidecar={"detection": {"hangWindow": "50s"}}))
    wait_for(lambda: admitted(remora, api)[0].get("hang-window") == "50s", "the new settings")

    # What the schema of an older cluster let through.
    api.put("healingpolicies", policy(3, sidecar={"detection": {"hangWindow": "soon"}}))
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
