"""images/compose.yaml as it stands: Remora beside the agent, in a container of its own. Docker's
restart policy starts the agent; Remora finds, holds, heals and drains it."""

import json
import time

import faults
import images
import pytest
from agents import HEAL_WAIT_S, Agent, count, healed_after, warm
from callers import Callers, ask
from engine import wait_for

WITH = "Remora beside it (Compose)"
PORT = 18080
FILE = images.SOURCE / "images/compose.yaml"


@pytest.fixture
def compose(engine, demo_images, remora_image):
    environment = {"REMORA_IMAGE": remora_image, "AGENT_IMAGE": images.AGENT, "PORT": str(PORT)}

    def run(*words):
        return engine.compose("--file", FILE, "--project-name", "demo", *words, env=environment)

    try:
        run("up", "--detach", "--no-build")
        yield run
    finally:
        run("down", "--volumes", "--timeout", "1")


@pytest.fixture
def agent(compose, engine):
    name, remora = (compose("ps", "--quiet", service) for service in ("agent", "remora"))
    return Agent(engine, name, "127.0.0.1", PORT, remora, "/var/lib/remora/store").wait_until_ready()


# --- how it is wired -------------------------------------------------------------------------------
def test_the_agent_is_reached_through_remora_and_reaches_its_model(agent):
    body = json.dumps({"thread_id": "t", "message": "how many words"})
    status, text = ask(agent.host, PORT, "POST", "/chat", body)
    assert status == 200 and json.loads(text)["reply"]


def test_only_remora_is_reachable_from_other_containers(agent, engine):
    address = engine.address(engine.run("ps", "--quiet", "--filter", "name=demo_pod"))
    with pytest.raises(ConnectionRefusedError):
        ask(address, 8000, "GET", "/healthz")
    assert ask(address, 8080, "GET", "/healthz")[0] == 200


def test_remora_sees_into_the_agent_without_a_capability(agent):
    status = json.dumps(agent.cli("status"))
    assert "degraded" not in status


def test_orphans_of_the_agent_are_collected(agent):
    """They would fill the process table: their parent is the namespace's first process."""
    agent.exec("sh", "-c", "(sleep 0.2 &) ; exit 0")

    def zombies():
        listing = agent.exec("python3", "-c", """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        stat = open(f"/proc/{pid}/stat").read().rsplit(")", 1)
    except OSError:
        continue
    if stat[1].split()[0] == "Z": print(stat[0])
""")
        return [line for line in listing.splitlines() if "sleep" in line]

    time.sleep(0.3)  # the orphan's own life
    wait_for(lambda: not zombies(), "the orphan's collection", HEAL_WAIT_S)


# --- faults ----------------------------------------------------------------------------------------
def test_a_killed_agent_is_started_again_and_no_caller_notices(agent, engine, note):
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        engine.kill_first_process(agent.name)
        took = healed_after(callers, time.monotonic())
        agent.closed_incident("crash")
    assert callers.failures() == []
    assert callers.lost_or_doubled() == []
    assert agent.restarts() == 1
    note("crash", WITH, took, count(callers))


def test_a_hanging_agent_is_ended_by_a_signal_and_started_by_docker(agent, note):
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        answer = agent.ask_for_fault("hang")
        injected_at = time.monotonic()
        agent.closed_incident("hang")
        took = healed_after(callers, injected_at)
        wait_for(lambda: answer, "the answer to the request that caused it", HEAL_WAIT_S)
    assert answer[0][0] == 502 and "outcome-unknown" in answer[0][1]
    assert callers.failures() == []
    assert callers.lost_or_doubled() == []
    assert agent.restarts() == 1
    note("hang", WITH, took, count(callers))


def test_a_deadlock_is_named_and_healed(agent, note):
    faults.deadlock_is_named_and_healed(agent, note, WITH)


def test_damaged_state_is_restored_before_the_agent_runs_again(agent, engine, note):
    with Callers(agent.host, PORT) as callers:
        warm(callers)
    assert callers.lost_or_doubled() == []
    agent.cli("snapshot", "take")
    agent.damage_state(agent.pid())
    engine.kill_first_process(agent.name)
    incident = agent.closed_incident("state_damaged")
    agent.wait_until_ready()
    assert incident["steps"][-1]["action"] == "restore_then_restart"
    assert callers.lost_or_doubled() == [], "everything that was answered before the snapshot"
    assert agent.restarts() <= 2, "the damaged state was never served, so it was no crash loop"
    note("state damaged", WITH, float(incident["mttr_s"]), "nothing lost")


def test_a_killed_remora_comes_back_and_leaves_the_agent_untouched(agent, engine, note):
    pid = agent.pid()
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        engine.kill_first_process(agent.remora)
        took = healed_after(callers, time.monotonic())
    assert agent.restarts() == 0 and agent.pid() == pid
    assert callers.lost_or_doubled() == []
    note("Remora killed", WITH, took, count(callers))


# --- the end ---------------------------------------------------------------------------------------
def test_compose_stop_drains(agent, compose, engine, note):
    # Not through the published port: Docker's relay takes connections that nobody serves.
    with Callers(engine.address(engine.run("ps", "--quiet", "--filter", "name=demo_pod")),
                 8080) as callers:
        warm(callers)
        began_at = time.monotonic()
        compose("stop")
        took = time.monotonic() - began_at
    # Later ones find nobody: that is what stopping means here.
    assert callers.failed_in_flight(began_at) == []
    assert engine.state(agent.remora)["ExitCode"] == 0
    compose("start")
    agent.wait_until_ready()
    callers.host = engine.address(engine.run("ps", "--quiet", "--filter", "name=demo_pod"))
    assert callers.lost_or_doubled() == []
    note("docker-compose stop under load", WITH, f"ended within {took:.1f} s", "those in flight all answered")
