"""What operators, scrapers and the kubelet see: the admin socket, the loopback port, SIGHUP."""

import http.client
import json
import os
import re
import signal

import pytest

from remora import UnixConnection, run_cli, wait_for

QUICK_PROBE = {"tcpSocket": {}, "periodSeconds": 1}


def ask_admin(remora, method, path):
    """(status, body) from the admin socket."""
    connection = UnixConnection(os.path.join(remora.store, "admin.sock"))
    connection.request(method, path)
    reply = connection.getresponse()
    body = reply.read().decode()
    connection.close()
    return reply.status, body


def metric(text, name, **labels):
    """The value of the first sample with these labels; None when there is none."""
    for line in text.splitlines():
        found = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
        if not found or found.group(1) != name:
            continue
        if labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found.group(2) or "")).items():
            return float(found.group(3))
    return None


def metrics(remora):
    status, text = ask_admin(remora, "GET", "/metrics")
    assert status == 200
    return text


def test_metrics_tell_of_a_crash_and_its_healing(remora):
    remora.start_ready()
    remora.post("/write?name=a", body=b"abc")
    remora.cli_json("snapshot", "take")
    before = metrics(remora)
    assert metric(before, "remora_agent_restarts_total") == 0
    assert metric(before, "remora_faults_total", kind="crash") == 0
    assert metric(before, "remora_snapshots_kept") == 1
    assert metric(before, "remora_snapshot_stored_bytes") > 0
    served = metric(before, "remora_http_requests_total", listener="inbound", code_class="2xx")
    os.kill(remora.agent_pid(), signal.SIGKILL)
    remora.wait_incident("crash")
    assert remora.get("/ok").status == 200
    after = metrics(remora)
    assert metric(after, "remora_agent_restarts_total") == 1
    assert metric(after, "remora_faults_total", kind="crash") == 1
    assert metric(after, "remora_healing_duration_seconds_count", phase="total") == 1
    assert metric(after, "remora_agent_up") == 1
    assert metric(after, "remora_agent_ready") == 1
    assert metric(after, "remora_incident_open") == 0
    assert metric(after, "remora_http_requests_total",
                  listener="inbound", code_class="2xx") == served + 1
    assert metric(after, "remora_http_request_duration_seconds_count",
                  listener="inbound", code_class="2xx") == served + 1


def test_readyz_follows_the_agent_and_healthz_does_not(remora):
    remora.start_ready(config={"readinessProbe": QUICK_PROBE,
                               "healing": {"backoff": {"base": "5s"}}})
    wait_for(lambda: ask_admin(remora, "GET", "/readyz")[0] == 200, "ready")
    os.kill(remora.agent_pid(), signal.SIGKILL)
    remora.wait_log("agent_down")
    status, body = ask_admin(remora, "GET", "/readyz")
    assert status == 503
    assert json.loads(body)["reasons"]
    assert ask_admin(remora, "GET", "/healthz")[0] == 200
    remora.wait_log("agent_up", count=2)
    wait_for(lambda: ask_admin(remora, "GET", "/readyz")[0] == 200, "ready again")


def test_status_shows_the_agent_and_the_last_incident(remora):
    remora.start_ready()
    os.kill(remora.agent_pid(), signal.SIGKILL)
    remora.wait_incident("crash")
    status = json.loads(ask_admin(remora, "GET", "/status")[1])
    assert status["agents"][0]["last_incident"]["fault"] == "crash"
    done = run_cli("status", "--admin", os.path.join(remora.store, "admin.sock"))
    assert done.returncode == 0
    assert "crash" in done.stdout
    assert str(remora.agent_pid()) in done.stdout


def test_drain_lets_requests_finish_and_takes_no_new_ones(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "20s"}}})
    slow = remora.ask_later("GET", "/slow?s=2&id=slow", wait_s=40)
    remora.wait_journal(id="slow")
    assert ask_admin(remora, "POST", "/drain")[0] == 202
    status, body = ask_admin(remora, "GET", "/readyz")
    assert status == 503
    assert json.loads(body)["reasons"][0] == "draining"
    assert slow.result().status == 200
    assert remora.wait() == 0


def test_config_shows_what_is_in_force_without_secrets(remora):
    remora.start_ready(config={"agent": {"env": {"TOKEN": "hush-hush"}},
                               "detection": {"hangWindow": "12s"}})
    status, body = ask_admin(remora, "GET", "/config?format=json")
    assert status == 200
    config = json.loads(body)
    assert config["detection"]["hangWindow"] == "12s"
    assert config["agent"]["appPort"] == remora.app_port
    assert "hush-hush" not in body
    assert "hush-hush" not in remora.log_text()


def test_sighup_takes_a_good_configuration_and_keeps_it_when_the_next_is_bad(remora):
    remora.start_ready(config={"detection": {"hangWindow": "12s"}})
    remora.write_config({"detection": {"hangWindow": "34s"}})
    remora.signal(signal.SIGHUP)
    remora.wait_log("reloaded")
    assert "34s" in ask_admin(remora, "GET", "/config")[1]
    remora.write_config("detection:\n  hangWindw: 1s\n")
    remora.signal(signal.SIGHUP)
    refused = remora.wait_log("reload_refused")
    assert "hangWindw" in json.dumps(refused)
    assert "34s" in ask_admin(remora, "GET", "/config")[1]
    assert remora.get("/ok").status == 200
    text = metrics(remora)
    assert metric(text, "remora_config_reloads_total", outcome="applied") == 1
    assert metric(text, "remora_config_reloads_total", outcome="refused") == 1


@pytest.mark.parametrize("path", ["/status", "/config", "/incidents"])
def test_loopback_port_has_nothing_that_is_private(remora, path):
    remora.start_ready(options=[], config={"admin": {"listen": "127.0.0.1:0"}})
    line = remora.wait_log("listening", listener="admin")
    host, port = line["address"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", "/healthz")
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 200
    connection.request("GET", path)
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 404
    connection.close()
