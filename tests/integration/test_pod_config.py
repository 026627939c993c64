"""A pod's annotations and ConfigMap change while it runs, as the kubelet writes them."""

import json

import pytest

from http1 import ask
from pod import PodSidecar
from remora import free_port, run_cli, wait_for


@pytest.fixture
def pod(tmp_path, request):
    one = PodSidecar(tmp_path / "pod")
    yield one
    log = one.log_text()
    one.clean_up()
    request.node.add_report_section("call", "sidecar's log", log)


def status_text(pod):
    done = run_cli("status", "--admin", pod.socket())
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def metric(pod, name, labels=""):
    lines = pod.ask_admin("/metrics").splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}{labels} ")).split()[-1])


def start(pod):
    pod.run_agent()
    pod.start()
    assert pod.get("/ok").status == 200, pod.log_text()
    return pod


def test_changed_annotation_is_in_force_without_a_restart(pod):
    pod.annotate(hang_window="12s", hold_wait="9s")
    start(pod)
    pid = pod.process.pid
    pod.annotate(hang_window="34s")
    pod.wait_log("reloaded")
    assert pod.in_force()["detection"]["hangWindow"] == "34s"
    assert pod.in_force()["inbound"]["hold"]["wait"] == "1m", "one that is gone has its default"
    assert pod.process.pid == pid and pod.process.poll() is None
    assert pod.get("/ok").status == 200
    assert len(pod.journal("start")) == 1, "the agent was left alone"
    assert "reloaded" in status_text(pod)


def test_settings_of_a_policy_are_below_the_config_map_and_above_the_defaults(pod):
    pod.configure("detection: {hangWindow: 10s}")
    pod.annotate(hang_window="45s", hold_wait="9s", drain_delay="0s", policy=json.dumps(
        {"name": "agents", "generation": 1,
         "settings": ["hang-window", "hold-wait", "drain-delay"]}))
    start(pod)
    assert pod.in_force()["detection"]["hangWindow"] == "10s"
    assert pod.in_force()["inbound"]["hold"]["wait"] == "9s"
    assert pod.in_force()["inbound"]["timeouts"]["drainDelay"] == "0s", "a pod's default is 5s"


@pytest.mark.parametrize("bad, named", [({"hang_windw": "1s"}, "remora.dev/hang-window"),
                                        ({"hang_window": "soon"}, "remora.dev/hang-window"),
                                        ({"hang_window.nobody": "1s"}, "nobody")])
def test_bad_annotation_leaves_the_last_good_one_and_says_so(pod, bad, named):
    pod.annotate(hang_window="12s")
    start(pod)
    pod.annotate(**bad)
    refused = pod.wait_log("reload_refused")
    assert named in refused["reason"]
    assert pod.in_force()["detection"]["hangWindow"] == "12s"
    assert metric(pod, "remora_config_last_reload_good") == 0
    assert "the last good one" in status_text(pod) and named in status_text(pod)
    pod.annotate(hang_window="13s")
    pod.wait_log("reloaded")
    assert metric(pod, "remora_config_last_reload_good") == 1
    assert "refused" not in status_text(pod)


def test_going_back_to_what_is_in_force_ends_the_complaint(pod):
    pod.annotate(hang_window="12s")
    start(pod)
    pod.annotate(hang_window="soon")
    pod.wait_log("reload_refused")
    pod.annotate(hang_window="12s")
    wait_for(lambda: metric(pod, "remora_config_last_reload_good") == 1, "the end of it")


def test_somebody_elses_annotation_reloads_nothing(pod):
    pod.annotate(hang_window="12s", log_level="debug")
    start(pod)
    with open(f"{pod.info.path}/annotations", encoding="utf-8") as file:
        ours = file.read()
    pod.info.publish({"annotations": ours + 'example.com/mine="1"\n'})
    pod.wait_log("nothing_to_reload")
    assert metric(pod, "remora_config_reloads_total", '{outcome="applied"}') == 0


def test_changed_config_map_is_in_force_and_a_bad_one_is_not(pod):
    pod.configure("detection: {hangWindow: 12s}\n")
    pod.annotate(restarts_max="5")
    start(pod)
    pod.configure("detection: {hangWindow: 34s}\n")
    pod.wait_log("reloaded")
    assert pod.in_force()["detection"]["hangWindow"] == "34s"
    pod.configure("detection: {hangWindw: 1s}\n")
    assert "hangWindw" in pod.wait_log("reload_refused")["reason"]
    assert pod.in_force()["detection"]["hangWindow"] == "34s"
    pod.annotate(hang_window="56s")
    pod.wait_log("reload_refused", count=2)
    assert pod.in_force()["detection"]["hangWindow"] == "34s", "all or nothing"


def test_what_a_running_sidecar_cant_take_is_named(pod):
    pod.annotate()
    start(pod)
    pod.annotate(app_port=str(pod.app_port + 1), hang_window="7s")
    line = pod.wait_log("reloaded_in_part")
    assert line["keys"] == "agent.appPort"
    assert pod.get("/ok").status == 200, "the port from the start is served on"
    assert "from the next start on only: agent.appPort" in status_text(pod)


def test_sidecar_that_is_started_again_beside_a_bad_annotation_uses_the_last_good_one(pod):
    pod.annotate(hang_window="12s")
    start(pod)
    pod.annotate(hang_window="soon")
    pod.wait_log("reload_refused")
    pod.process.kill()
    pod.wait()
    pod.start()
    assert pod.get("/ok").status == 200
    assert pod.in_force()["detection"]["hangWindow"] == "12s"
    assert "remora.dev/hang-window" in pod.log("reload_refused")[0]["reason"]
    pod.annotate(hang_window="13s")
    pod.wait_log("reloaded")


def test_last_good_one_of_another_pod_is_not_taken(pod):
    pod.annotate(hang_window="12s")
    start(pod)
    pod.stop()
    pod.annotate(hang_window="soon")
    pod.launch(env={"REMORA_POD_UID": "uid-2"})
    assert pod.wait() == 2
    assert "remora.dev/hang-window" in pod.log_text()


def test_each_port_of_each_agent_has_an_entrance(pod):
    """Explicit mode: nobody can say which port a caller meant but by the port it calls."""
    second = PodSidecar(pod.directory + "-second")
    second.agents[0]["name"] += "-second"
    entrances = [free_port() for _ in range(2)]
    pod.inbound_port = entrances[0]
    for agent, entrance in zip(pod.agents + second.agents, entrances):
        agent["ports"][0]["inboundPort"] = entrance
    pod.agents += second.agents
    pod.annotate()
    pod.run_agent()
    runtime = pod.run_agent("--port", second.app_port, "--journal", second.journal_path,
                            name=second.agents[0]["name"])
    pod.launch()
    pod.wait_log("agent_up", count=2)
    for entrance, journal in zip(entrances, (pod, second)):
        assert ask(entrance, "GET", "/ok").status == 200
        assert len(journal.journal(path="/ok")) == 1, "of the other agent"
    assert str(entrances[1]) in status_text(pod)
    del runtime
