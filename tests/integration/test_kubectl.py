"""`kubectl remora`, called as kubectl calls it, against an API server over HTTP/2 and TLS: what it shows,
what it changes, and what it says where a right, a resource or a server is missing."""

import json
import os
import stat
import subprocess
import threading
import time

import pytest
from fake_api_server import FakeApiServer
from remora import COMMAND_WAIT_S, binary, wait_for

# As `remora inject` writes it.
INJECTED = json.dumps({
    "version": "0.1.0", "agents": [{"name": "agent", "ports": [{"port": 8000}]}],
    "interception": {"mode": "transparent", "inboundPort": 15006, "outboundPort": 15001},
    "outbound": {"proxyPort": 15002, "gatewayPort": 15100}, "pod": {"healthPort": 15020},
    "processNamespaceShared": True, "restartPolicy": "Always"})


class UserRights:
    """A user who may do everything but what is named."""

    def __init__(self):
        self.refused = set()  # (method, part of the path)

    def allow(self, method, path):
        return not any(method == verb and part in path for verb, part in self.refused)


@pytest.fixture
def api(tmp_path):
    fake = FakeApiServer(tmp_path).start()
    fake.rights = UserRights()
    fake.put("pods", pod("a"), pod("b", namespace="other"), pod("plain", injected=None))
    fake.put("healingpolicies", {"metadata": {"name": "agents", "namespace": "default"},
                                 "spec": {"selector": {"matchLabels": {"app": "agent"}}}})
    fake.put("incidents", {
        "metadata": {"name": "i1", "namespace": "default"},
        "spec": {"pod": {"name": "a", "uid": fake.get("pods", "default", "a")["metadata"]["uid"]},
                 "fault": "crash_loop", "policy": "agents", "summary": "ends with 3",
                 "detectedAt": "2026-01-01T00:00:10Z"},
        "status": {"phase": "Resolved", "endedAt": "2026-01-01T00:00:30Z",
                   "steps": [{"name": "wait", "state": "verified",
                              "startedAt": "2026-01-01T00:00:10Z"}]}})
    yield fake
    fake.stop()


@pytest.fixture
def plugin(tmp_path, api):
    """Runs the plugin by the name by which kubectl finds it."""
    name = tmp_path / "kubectl-remora"
    name.symlink_to(binary())

    def run(*words, **environment):
        return subprocess.run([name, *words], capture_output=True, text=True,
                              timeout=COMMAND_WAIT_S, stdin=subprocess.DEVNULL,
                              env=os.environ | {"KUBECONFIG": str(api.kubeconfig)} | environment)
    return run


def pod(name, namespace="default", injected=INJECTED, **annotations):
    marks = {f"remora.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    if injected:
        marks["remora.dev/injected"] = injected
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"app": "agent"},
                         "annotations": marks},
            "spec": {"nodeName": "n1", "containers": [{"name": "agent", "image": "agent:1",
                                     "ports": [{"containerPort": 8000}]}],
                     "initContainers": [{"name": "remora", "image": "remora:0.1.0",
                                         "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "agent", "ready": True, "restartCount": 2,
                 "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}}


def good(done):
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- what it shows ---------------------------------------------------------------------------------
def test_status_has_a_line_for_each_pod_with_its_last_fault_and_policy(plugin):
    lines = good(plugin("status")).splitlines()
    assert lines[0].split() == ["POD", "AGENTS", "STATE", "RESTARTS", "POLICY", "HOLD", "LAST",
                                "FAULT"]
    assert lines[1].split()[:7] == ["a", "1/1", "Running", "2", "agents", "-", "crash_loop"]
    assert len(lines) == 2


def test_status_of_all_namespaces_and_of_another_one(plugin):
    everywhere = json.loads(good(plugin("status", "-A", "-o", "json")))
    assert [(each["namespace"], each["pod"]) for each in everywhere["pods"]] == [
        ("default", "a"), ("other", "b")]
    other = json.loads(good(plugin("status", "-n", "other", "-o", "json")))
    assert [each["policy"] for each in other["pods"]] == [""]


def test_incidents_are_listed_and_shown_step_by_step(plugin):
    assert "crash_loop   Resolved   wait verified   20.0 s" in good(plugin("incidents"))
    shown = good(plugin("incidents", "show", "i1"))
    assert "MTTR        20.0 s: detect 0.0 s, decide 0.0 s, act 0.0 s, ready 20.0 s" in shown
    assert json.loads(good(plugin("incidents", "show", "i1", "-o", "json")))["spec"]["fault"] == \
        "crash_loop"


def test_explain_says_who_gave_each_value(plugin, api):
    api.put("configmaps", {"metadata": {"name": "settings", "namespace": "default"},
                           "data": {"remora.yaml": "inbound: {timeouts: {drain: 50s}}\n"}})
    api.put("pods", pod("a", hang_window="50s", config_map="settings"))
    explained = json.loads(good(plugin("explain", "a", "-o", "json")))
    assert explained["problems"] == []
    settings = explained["settings"]
    found = {each["name"]: (each["value"], each["from"]) for each in settings["agent agent"]}
    assert found["detection.hangWindow"] == ("50s", "annotation remora.dev/hang-window")
    assert found["inbound.timeouts.drain"] == ("50s", "ConfigMap settings, line 1")
    assert found["healing.backoff.max"][1] == "default"
    text = good(plugin("explain", "a"))
    assert "is an agent that listens on 8000" in text
    assert "healing.backoff.max" not in text


def test_explain_says_what_the_sidecar_refuses(plugin, api):
    api.put("configmaps", {"metadata": {"name": "settings", "namespace": "default"},
                           "data": {"remora.yaml": "snapshots: {interval: 5m}\n"}})
    api.put("pods", pod("a", config_map="settings"))
    done = plugin("explain", "a")
    assert done.returncode == 3
    assert "! ConfigMap settings:1:13: snapshots.interval" in done.stdout


def test_the_same_commands_are_under_remora_kubectl(api):
    done = subprocess.run([binary(), "kubectl", "status", "--kubeconfig", str(api.kubeconfig)],
                          capture_output=True, text=True, timeout=COMMAND_WAIT_S)
    assert "Running" in good(done)


# --- what it changes -------------------------------------------------------------------------------
def test_pause_holds_a_pod_or_a_policy_back_and_unpause_lets_go(plugin, api):
    good(plugin("pause", "a"))
    assert api.get("pods", "default", "a")["metadata"]["annotations"]["remora.dev/pause"] == "true"
    assert "pod paused" in good(plugin("status"))
    good(plugin("unpause", "a"))
    assert "remora.dev/pause" not in api.get("pods", "default", "a")["metadata"]["annotations"]
    good(plugin("pause", "--policy", "agents"))
    assert api.get("healingpolicies", "default", "agents")["spec"]["paused"] is True
    good(plugin("unpause", "--policy", "agents"))
    assert api.get("healingpolicies", "default", "agents")["spec"]["paused"] is False


def test_drain_evicts_and_ends_when_the_pod_is_gone(plugin, api):
    assert "gone" in good(plugin("drain", "a"))
    assert api.get("pods", "default", "a") is None
    assert [request[:2] for request in api.writes()] == [
        ("POST", "/api/v1/namespaces/default/pods/a/eviction")]


def test_drain_waits_for_the_disruption_budget(plugin, api):
    api.protected.add("a")
    threading.Timer(1.5, api.protected.clear).start()
    began = time.monotonic()
    good(plugin("drain", "a"))
    assert time.monotonic() - began > 1
    assert len(api.writes()) >= 2


def test_drain_says_that_the_budget_forbids_it(plugin, api):
    api.protected.add("a")
    done = plugin("drain", "a", "--timeout", "0")
    assert done.returncode == 3
    assert "disruption budget" in done.stdout
    assert api.get("pods", "default", "a")


def agent_snapshot(**status):
    return {"metadata": {"name": "a.agent", "namespace": "default"},
            "spec": {"container": "agent"},
            "status": {"pod": {"name": "a", "uid": "u"}, "connected": True, "count": 2,
                       "latest": "00000002-b", "snapshots": [
                           {"id": "00000001-a", "takenAt": "2026-01-01T00:00:00Z",
                            "reason": "interval", "bytes": 20480, "files": 3, "intact": True},
                           {"id": "00000002-b", "takenAt": "2026-01-01T00:01:00Z",
                            "reason": "interval", "bytes": 100, "files": 1, "intact": False,
                            "problem": "torn"}]} | status}


def answer_requests(api, state, message):
    """As the operator does, once there is one."""
    def answer():
        wait_for(lambda: api.get("agentsnapshots", "default", "a.agent")["spec"].get("request"),
                 "a request")
        thing = api.get("agentsnapshots", "default", "a.agent")
        request = thing["spec"]["request"]
        thing["status"]["request"] = {"id": request["id"], "action": request["action"],
                                      "state": state, "message": message}
        api.put("agentsnapshots", thing)
    threading.Thread(target=answer, daemon=True).start()


def test_snapshots_are_listed_with_what_is_wrong_with_them(plugin, api):
    assert good(plugin("snapshots")) == "no snapshots\n"
    api.put("agentsnapshots", agent_snapshot())
    lines = good(plugin("snapshots", "a")).splitlines()
    assert lines[1].split()[:3] == ["a", "agent", "00000001-a"]
    assert "20 KiB" in lines[1] and lines[1].endswith("yes")
    assert lines[2].endswith("no: torn")
    assert good(plugin("snapshots", "b")) == "no snapshots\n"


def test_restore_asks_the_agent_and_waits_for_its_answer(plugin, api):
    api.put("agentsnapshots", agent_snapshot())
    answer_requests(api, "Done", "ready again")
    assert "Restore: Done: ready again" in good(plugin("restore", "a", "--snapshot", "00000001-a"))
    request = api.get("agentsnapshots", "default", "a.agent")["spec"]["request"]
    assert (request["action"], request["snapshot"]) == ("Restore", "00000001-a")


def test_an_agent_that_cant_restore_says_why(plugin, api):
    api.put("agentsnapshots", agent_snapshot())
    answer_requests(api, "Failed", "it is being healed")
    done = plugin("restore", "a")
    assert done.returncode == 1
    assert "it is being healed" in done.stdout
    assert "snapshot" not in api.get("agentsnapshots", "default", "a.agent")["spec"]["request"]


@pytest.mark.parametrize("words, code, part", [
    (("restore", "b"), 2, "no agent of pod b is known"),
    (("restore", "a", "--agent", "other"), 2, "other"),
    (("restore", "a", "--snapshot", "00000002-b"), 2, "no intact snapshot"),
    (("snapshot", "a", "--timeout", "0"), 3, "not answered yet"),
])
def test_what_cant_be_asked_of_an_agent_is_told(plugin, api, words, code, part):
    api.put("agentsnapshots", agent_snapshot())
    done = plugin(*words)
    assert done.returncode == code
    assert part in done.stderr + done.stdout


# --- what is missing -------------------------------------------------------------------------------
@pytest.mark.parametrize("words, right, named", [
    (("status",), ("GET", "/pods"), "list pods"),
    (("incidents",), ("GET", "/incidents"), "list incidents"),
    (("incidents", "show", "i1"), ("GET", "/incidents"), "get incidents"),
    (("explain", "a"), ("GET", "/pods/a"), "get pods"),
    (("pause", "a"), ("PATCH", "/pods"), "patch pods"),
    (("pause", "--policy", "agents"), ("PATCH", "/healingpolicies"), "patch healingpolicies"),
    (("drain", "a"), ("POST", "/eviction"), "create pods/eviction"),
    (("snapshots",), ("GET", "/agentsnapshots"), "list agentsnapshots"),
])
def test_a_right_that_is_missing_is_named(plugin, api, words, right, named):
    api.rights.refused.add(right)
    done = plugin(*words)
    assert done.returncode == 1
    for word in named.split():
        assert word in done.stderr, done.stderr


def test_status_goes_without_what_the_user_may_not_see(plugin, api):
    api.rights.refused.add(("GET", "/incidents"))
    done = plugin("status")
    assert done.returncode == 0
    assert "incidents are not shown" in done.stderr
    assert "Running" in done.stdout


@pytest.mark.parametrize("words, part", [
    ((), "subcommand"),
    (("pause",), "POD or --policy"),
    (("pause", "a", "--policy", "agents"), "excludes"),
    (("status", "-n", "../x"), "no name of Kubernetes"),
    (("status", "-o", "yaml"), "json"),
])
def test_a_wrong_command_line_is_told(plugin, words, part):
    done = plugin(*words)
    assert done.returncode == 2
    assert part in done.stderr + done.stdout


def test_what_is_not_there_is_told(plugin, api):
    assert "not found" in plugin("explain", "nobody").stderr
    done = plugin("explain", "plain")
    assert done.returncode == 2
    assert "remora.dev/inject" in done.stderr
    done = plugin("status", KUBECONFIG="/nowhere/config")
    assert done.returncode == 1
    assert "/nowhere/config" in done.stderr
    api.stop()
    done = plugin("status")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def test_credentials_come_from_an_exec_plugin_and_names_are_resolved(plugin, api, tmp_path):
    """As the kubeconfigs of hosted clusters have it. The server's certificate has no name, so what is
    seen is that the name was resolved and the certificate checked."""
    program = tmp_path / "credentials"
    program.write_text('#!/bin/sh\necho run >>"$0.runs"\n'
                       'echo \'{"kind": "ExecCredential", "status": {"token": "secret-token"}}\'\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    config = json.loads(api.kubeconfig.read_text())
    config["users"][0]["user"] = {"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}
    config["clusters"][0]["cluster"]["server"] = f"https://localhost:{api.port}"
    config["clusters"][0]["cluster"]["tls-server-name"] = "127.0.0.1"
    api.kubeconfig.write_text(json.dumps(config))
    assert "Running" in good(plugin("status"))
    assert wait_for(lambda: api.tokens[-1:] == ["Bearer secret-token"], "the token")
    assert (tmp_path / "credentials.runs").read_text() == "run\n"
    program.write_text("#!/bin/sh\nexit 7\n")
    done = plugin("status")
    assert done.returncode == 2
    assert "exit code 7" in done.stderr
