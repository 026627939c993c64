"""One container: Remora starts the agent as its child. Each fault beside the same with Docker alone,
which has `restart: always` and a health check and is otherwise at its defaults."""

import json
import time
import uuid

import faults
import images
import pytest
from agents import HEAL_WAIT_S, NEVER_S, Agent, count, healed_after, warm
from callers import Callers, answers
from engine import wait_for

AGENT = ("python3", "plain_agent.py", "--port", "8000", "--model-url", "http://model:9000/v1")
# As the demo: short windows, so that there is something to see.
CONFIG = {
    "inbound": {"listen": "0.0.0.0:8080"},
    "agent": {"appPort": 8000, "stateDir": "/var/lib/agent"},
    "detection": {"hangWindow": "3s", "sampleInterval": "200ms"},
    "healing": {"stableAfter": "5s"},
    "snapshots": {"store": "/var/lib/remora", "interval": "30s"},
}
WITH, ALONE = "Remora in the container", "Docker alone"
PORT = 8080
HEALTH = f"""python3 -c 'import urllib.request as r
r.urlopen("http://127.0.0.1:{PORT}/healthz", timeout=1)'"""


@pytest.fixture
def start(engine, network):
    started = []

    def run(*options, image, command):
        name = f"agent-{uuid.uuid4().hex[:6]}"
        started.append(name)
        # Without a published port: Docker's own relay would stand between the callers and Remora.
        engine.run("run", "--detach", "--name", name, "--network", network, "--restart", "always",
                   *options, image, *command)
        return Agent(engine, name, engine.address(name), PORT).wait_until_ready()

    yield run
    engine.remove(*started)


@pytest.fixture
def with_remora(start, tmp_path):
    """The hardest form: read-only root, no capability, nothing writable but the two volumes."""
    path = tmp_path / "remora.yaml"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    path.chmod(0o644)
    return start("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                 "--volume", "/var/lib/agent", "--volume", "/var/lib/remora",
                 "--volume", f"{path}:/etc/remora.yaml:ro",
                 image=images.SINGLE, command=("-c", "/etc/remora.yaml", "--", *AGENT))


@pytest.fixture
def alone(start):
    return start("--volume", "/var/lib/agent", "--env", "REMORA_STATE_DIR=/var/lib/agent",
                 "--health-cmd", HEALTH, "--health-interval", "1s", "--health-retries", "2",
                 image=images.AGENT,
                 command=(*AGENT[:2], "--host", "0.0.0.0", "--port", str(PORT), *AGENT[4:]))


# --- crash -----------------------------------------------------------------------------------------
def test_a_killed_agent_is_started_again_and_no_caller_notices(with_remora, engine, note):
    agent = with_remora
    started_at = engine.started_at(agent.name)
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        agent.kill(agent.pid())
        took = healed_after(callers, time.monotonic())
        incident = agent.closed_incident("crash")
    assert callers.failures() == []
    assert callers.lost_or_doubled() == []
    assert engine.started_at(agent.name) == started_at, "the container lives on"
    assert incident["steps"][-1]["outcome"] == "ready"
    note("crash", WITH, took, count(callers))


def test_docker_alone_starts_a_killed_agent_again_but_callers_fail(alone, engine, note):
    with Callers(alone.host, PORT) as callers:
        warm(callers)
        engine.kill_first_process(alone.name)
        took = healed_after(callers, time.monotonic())
    assert alone.restarts() == 1
    assert callers.failures() != []
    note("crash", ALONE, took, count(callers))


# --- hang ------------------------------------------------------------------------------------------
def test_a_hanging_agent_is_found_and_restarted(with_remora, note):
    agent = with_remora
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        answer = agent.ask_for_fault("hang")
        injected_at = time.monotonic()
        incident = agent.closed_incident("hang")
        took = healed_after(callers, injected_at)
        wait_for(lambda: answer, "the answer to the request that caused it", HEAL_WAIT_S)
    assert answer[0][0] == 502 and "outcome-unknown" in answer[0][1]
    assert callers.failures() == []
    assert callers.lost_or_doubled() == []
    assert incident["summary"]
    note("hang", WITH, took, count(callers))


def test_docker_alone_never_notices_a_hang(alone, engine, note):
    with Callers(alone.host, PORT) as callers:
        warm(callers)
        alone.ask_for_fault("hang")
        # Until each caller is caught in it.
        wait_for(lambda: callers.silent_for() > 2, "silence", HEAL_WAIT_S)
        wait_for(lambda: callers.silent_for() > NEVER_S, "the end of our patience", NEVER_S + 10)
        health = engine.state(alone.name)["Health"]["Status"]
        assert alone.restarts() == 0
        engine.remove(alone.name)  # lets the callers go
    note("hang", ALONE, f"never (watched {NEVER_S} s; its health check says {health})", "all wait")


# --- deadlock --------------------------------------------------------------------------------------
def test_a_deadlock_is_named_and_healed(with_remora, note):
    faults.deadlock_is_named_and_healed(with_remora, note, WITH)


def test_docker_alone_never_notices_a_deadlock(alone, engine, note):
    answer = alone.ask_for_fault("deadlock")
    began_at = time.monotonic()
    wait_for(lambda: time.monotonic() - began_at > NEVER_S, "the end of our patience", NEVER_S + 10)
    assert answer == [], "the request that caused it is still waiting"
    assert alone.restarts() == 0
    note(faults.DEADLOCK, ALONE, f"never (watched {NEVER_S} s)", "who needs a lock waits")
    engine.remove(alone.name)  # lets the request go


# --- damaged state ---------------------------------------------------------------------------------
def test_damaged_state_is_restored_from_the_volume(with_remora, note):
    agent = with_remora
    with Callers(agent.host, PORT) as callers:
        warm(callers)
    assert callers.lost_or_doubled() == []
    agent.cli("snapshot", "take")
    pid = agent.pid()
    agent.damage_state(pid)
    agent.kill(pid)
    incident = agent.closed_incident("state_damaged")
    agent.wait_until_ready()
    assert incident["steps"][-1]["action"] == "restore_then_restart"
    assert callers.lost_or_doubled() == [], "everything that was answered before the snapshot"
    note("state damaged", WITH, float(incident["mttr_s"]), "nothing lost")


def test_docker_alone_serves_no_state_after_damage(alone, engine, note):
    with Callers(alone.host, PORT) as callers:
        warm(callers)
    alone.damage_state(1)
    engine.kill_first_process(alone.name)
    wait_for(lambda: alone.restarts() >= 3, "a crash loop", HEAL_WAIT_S)
    assert not answers(alone.host, PORT)
    note("state damaged", ALONE, "never: a crash loop", "all fail, all state lost")


# --- the end ---------------------------------------------------------------------------------------
def stop_under_load(engine, agent, callers):
    """(when docker stop began, seconds that it took)."""
    warm(callers)
    began_at = time.monotonic()
    engine.run("stop", agent.name)
    took = time.monotonic() - began_at
    callers.stop()
    return began_at, took


def test_docker_stop_drains(with_remora, engine, note):
    agent = with_remora
    with Callers(agent.host, PORT) as callers:
        began_at, took = stop_under_load(engine, agent, callers)
    # Later ones find nobody: that is what stopping means here.
    assert callers.failed_in_flight(began_at) == []
    assert engine.state(agent.name)["ExitCode"] == 0
    assert took < 10, "Docker kills after ten seconds"
    engine.run("start", agent.name)
    callers.host = agent.host = engine.address(agent.name)
    agent.wait_until_ready()
    assert callers.lost_or_doubled() == []
    note("docker stop under load", WITH, f"ended within {took:.1f} s", "those in flight all answered")


def test_docker_alone_needs_the_axe(alone, engine, note):
    with Callers(alone.host, PORT) as callers:
        _, took = stop_under_load(engine, alone, callers)
    # A first process without a handler of SIGTERM does not end by it.
    assert engine.state(alone.name)["ExitCode"] == 137
    note("docker stop under load", ALONE, f"killed after {took:.1f} s",
         f"{len(callers.cut_off())} cut off")


# --- Remora itself ---------------------------------------------------------------------------------
def test_a_killed_remora_comes_back_with_its_agent_and_its_state(with_remora, engine, note):
    agent = with_remora
    with Callers(agent.host, PORT) as callers:
        warm(callers)
        engine.kill_first_process(agent.name)
        took = healed_after(callers, time.monotonic())
    assert agent.restarts() == 1
    assert callers.lost_or_doubled() == []
    note("Remora killed", WITH, took, count(callers))
