"""Faults found and healed: each with its kind, its evidence and its times."""

import os
import signal
import sqlite3
import time

import pytest
from remora import is_alive, wait_for

QUICK = {"hangWindow": "2s", "sampleInterval": "100ms"}
TIMES = ("began", "detected", "decided", "acted", "ready", "closed")


def assert_healed(incident, step="restart"):
    """Complete, in order, and the parts add up."""
    assert incident["status"] == "closed"
    assert incident["closed_reason"] == "recovered"
    times = [incident[f"{name}_at_unix_ns"] for name in TIMES]
    assert times == sorted(times) and times[0] > 0, dict(zip(TIMES, times))
    parts = sum(incident[f"{part}_s"] for part in ("detect", "decide", "act", "ready"))
    assert abs(parts - incident["mttr_s"]) < 0.001
    assert incident["evidence"] and incident["summary"]
    assert incident["steps"][-1]["action"] == step
    assert incident["steps"][-1]["outcome"] == "ready"


def evidence(incident, kind=None):
    return " | ".join(i["text"] for i in incident["evidence"] if kind in (None, i["kind"]))


# --- crash -----------------------------------------------------------------------------------------
def test_killed_agent_is_back_and_the_incident_says_so(remora):
    remora.start_ready()
    pid = remora.agent_pid()
    os.kill(pid, signal.SIGKILL)
    incident = remora.wait_incident("crash")
    assert_healed(incident)
    assert incident["detect_s"] < 0.5, "a death is seen at once"
    assert "signal 9" in incident["summary"] + evidence(incident)
    assert "agent starts" in incident["log_tail"]
    assert remora.get("/ok").json()["pid"] != pid


def test_exit_code_is_evidence(remora):
    remora.start_ready()
    remora.ask_later("GET", "/crash?code=42&id=c")
    incident = remora.wait_incident("crash")
    assert "42" in incident["summary"] + evidence(incident)
    assert any("/crash" in request for request in incident["requests_in_flight"])
    assert not any("id=c" in request for request in incident["requests_in_flight"]), "no queries"


def test_incident_is_shown_by_the_command_line(remora):
    remora.start_ready()
    os.kill(remora.agent_pid(), signal.SIGKILL)
    incident = remora.wait_incident("crash")
    assert remora.cli_json("incident", "show", "latest") == incident
    assert remora.cli_json("incident", "show", incident["id"]) == incident


def test_what_a_dead_agent_leaves_behind_is_ended_before_the_next_starts(remora):
    remora.start_ready()
    children = remora.get("/spawn").json()["children"]
    os.kill(remora.agent_pid(), signal.SIGKILL)
    assert_healed(remora.wait_incident("crash"))
    assert not any(is_alive(pid) for pid in children)


def test_agent_that_fails_twice_at_its_start_comes_up_at_the_third(remora):
    remora.start(["--exit-at-start", 3, "--exit-starts", 2],
                 config={"healing": {"backoff": {"step": "100ms"}}})
    assert remora.get("/ok").status == 200
    assert len(remora.journal("start")) == 3


def test_back_off_grows_between_restarts(remora):
    remora.launch(["--exit-at-start", 3], config={"healing": {
        "backoff": {"base": "100ms", "step": "300ms", "max": "5s"},
        "budget": {"restartsMax": 4}, "ladders": [{"fault": "crash", "steps": ["restart"]}]}})
    assert remora.wait(30) == 3
    starts = [entry["at"] for entry in remora.journal("start")]
    assert len(starts) == 5, "the first start and four restarts"
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:])]
    assert gaps[1] < gaps[2] < gaps[3], gaps
    assert gaps[3] >= 1.2, gaps


def test_budget_ends_a_crash_loop_with_an_alert(remora):
    alert = os.path.join(remora.directory, "alert.json")
    remora.launch(["--exit-at-start", 7], config={"healing": {
        "backoff": {"step": "10ms", "max": "10ms"}, "budget": {"restartsMax": 3},
        "alert": {"exec": ["/bin/sh", "-c", f"cat >> {alert}"]}}})
    assert remora.wait(30) == 7
    assert len(remora.journal("start")) == 4
    last = remora.incidents()[-1]
    assert (last["status"], last["closed_reason"]) == ("closed", "gave_up")
    with open(alert, encoding="utf-8") as file:
        assert last["id"] in file.read()


# --- hang ------------------------------------------------------------------------------------------
def test_agent_without_progress_is_a_hang(remora):
    remora.start_ready(config={"detection": QUICK})
    pid = remora.agent_pid()
    later = remora.ask_later("GET", "/hang?id=h", wait_s=60)
    incident = remora.wait_incident("hang")
    assert_healed(incident)
    assert 1.9 < incident["detect_s"] < 5
    assert "/hang" in evidence(incident) + " ".join(incident["requests_in_flight"])
    assert not is_alive(pid)
    del later  # a GET: sent again, hangs again


def test_busy_agent_is_not_a_hang(remora):
    remora.start_ready(config={"detection": QUICK})
    assert remora.get("/busy?s=5").status == 200
    # On a machine that is short of CPU that is said, and nobody is restarted for it.
    assert [i for i in remora.incidents() if i["fault"] != "overload"] == []
    assert len(remora.journal("start")) == 1


def test_idle_agent_is_not_a_hang(remora):
    remora.start_ready(config={"detection": QUICK})
    time.sleep(5)  # the case: nothing happens for longer than the window
    assert remora.incidents() == []
    assert len(remora.journal("start")) == 1


def test_slow_request_within_the_window_is_not_a_hang(remora):
    remora.start_ready(config={"detection": QUICK | {"hangWindow": "6s"}})
    assert remora.get("/slow?s=3").status == 200
    assert remora.incidents() == []


def test_stopped_agent_is_a_hang(remora):
    """SIGSTOP: nothing of it runs, requests pile up."""
    remora.start_ready(config={"detection": QUICK})
    os.kill(remora.agent_pid(), signal.SIGSTOP)
    later = remora.ask_later("GET", "/ok", wait_s=60)
    assert_healed(remora.wait_incident("hang"))
    assert later.result().status == 200


def test_agent_that_ignores_sigterm_is_killed_when_it_hangs(remora):
    remora.start_ready(["--ignore-sigterm"], config={"detection": QUICK})
    remora.ask_later("POST", "/hang", wait_s=60)
    assert_healed(remora.wait_incident("hang"))


# --- deadlock --------------------------------------------------------------------------------------
def test_deadlock_names_its_threads_and_locks(remora):
    """Found long before the hang window, from the wait-for graph alone."""
    remora.start_ready(config={"detection": QUICK | {"hangWindow": "60s"}})
    later = remora.ask_later("POST", "/deadlock", wait_s=60)
    incident = remora.wait_incident("deadlock")
    assert_healed(incident)
    for name in ("tool-writer", "memory-writer"):
        assert name in evidence(incident)
    assert "0x" in evidence(incident), "the locks' addresses"
    reply = later.result()
    assert (reply.status, reply.problem) == (502, "outcome-unknown")


def test_deadlock_detection_can_be_turned_off(remora):
    remora.start_ready(config={"detection": QUICK | {"deadlock": False}})
    remora.ask_later("POST", "/deadlock", wait_s=60)
    assert_healed(remora.wait_incident("hang"))
    assert remora.incidents("deadlock") == []


# --- probes ----------------------------------------------------------------------------------------
def touch(path):
    with open(path, "w", encoding="utf-8"):
        pass


def sick_file(remora):
    return os.path.join(remora.directory, "sick")


def test_failing_liveness_probe_heals_as_a_hang(remora):
    """The probe's file goes away with the restart, as a sick agent's trouble does."""
    sick = sick_file(remora)
    remora.start_ready(["--sick-file", sick], config={
        "detection": QUICK,
        "livenessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 1,
                          "failureThreshold": 2}})
    pid = remora.agent_pid()
    touch(sick)
    opened = wait_for(lambda: remora.incidents("hang"), "the hang")[0]
    os.unlink(sick)
    assert "503" in evidence(opened) + opened["summary"]
    assert_healed(remora.wait_incident("hang"))
    assert not is_alive(pid)


def test_failing_readiness_probe_holds_requests_and_restarts_nobody(remora):
    sick = sick_file(remora)
    remora.start_ready(["--sick-file", sick], config={
        "readinessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 1,
                           "failureThreshold": 1}})
    touch(sick)
    before = len(remora.journal(path="/health"))
    wait_for(lambda: len(remora.journal(path="/health")) >= before + 2, "two more probes")
    later = remora.ask_later("GET", "/ok?id=held")
    time.sleep(1)  # the case: it does not get through
    assert not later.done and remora.journal(id="held") == []
    os.unlink(sick)
    assert later.result().status == 200
    assert len(remora.journal("start")) == 1
    assert remora.incidents() == []


def test_startup_probe_holds_the_others_back(remora):
    sick = sick_file(remora)
    touch(sick)
    remora.start(["--sick-file", sick], config={
        "startupProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 1,
                         "failureThreshold": 30},
        "livenessProbe": {"exec": {"command": ["/bin/false"]}, "periodSeconds": 1,
                          "failureThreshold": 1000}})
    later = remora.ask_later("GET", "/ok?id=early")
    remora.wait_journal(path="/health", count=2)
    assert not later.done and remora.journal(id="early") == []
    os.unlink(sick)
    assert later.result().status == 200


@pytest.mark.parametrize("probe,healthy", [
    ({"tcpSocket": {}}, True), ({"tcpSocket": {"port": 1}}, False),
    ({"exec": {"command": ["/bin/true"]}}, True), ({"exec": {"command": ["/bin/false"]}}, False),
    ({"httpGet": {"path": "/status?code=399"}}, True),
    ({"httpGet": {"path": "/status?code=400"}}, False),
])
def test_readiness_by_each_kind_of_probe(remora, probe, healthy):
    remora.start(config={"readinessProbe": probe | {"periodSeconds": 1, "failureThreshold": 1},
                         "inbound": {"hold": {"wait": "3s"}}})
    reply = remora.get("/ok")
    assert (reply.status, reply.problem) == (
        (200, None) if healthy else (503, "agent-unavailable"))


# --- not the agent's fault -------------------------------------------------------------------------
def test_waiting_for_a_dead_dependency_restarts_nobody(remora, silent_server):
    remora.start_ready(config={"detection": QUICK})
    port = silent_server.port
    later = remora.ask_later("GET", f"/call?port={port}&id=dep", wait_s=60)
    incident = wait_for(lambda: remora.incidents("dependency"), "the dependency fault")[0]
    assert str(port) in incident["summary"] + evidence(incident)
    assert [step["action"] for step in incident["steps"]] == ["none"]
    for stream in silent_server.taken:
        stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert later.result().status == 200
    closed = remora.wait_incident("dependency")
    assert closed["closed_reason"] == "recovered"
    assert len(remora.journal("start")) == 1
    assert [i["fault"] for i in remora.incidents()] == ["dependency"]


# --- memory ----------------------------------------------------------------------------------------
@pytest.fixture
def memory_cgroup(request):
    """A memory cgroup of 128 MB: (directory, words that put a command into it)."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                        ("/sys/fs/cgroup", "memory.max")):
        path = f"{root}/remora-test-{os.getpid()}"
        try:
            os.mkdir(path)
        except OSError:
            continue
        if os.path.exists(f"{path}/{limit}"):
            break
        os.rmdir(path)
    else:
        pytest.skip("no writable memory cgroup")
    with open(f"{path}/{limit}", "w", encoding="ascii") as file:
        file.write(str(128 << 20))
    yield ["/bin/sh", "-c", f'echo $$ > {path}/cgroup.procs && exec "$@"', "sh"]
    wait_for(lambda: remove_cgroup(path), "the cgroup's end", 10)


def remove_cgroup(path):
    try:
        os.rmdir(path)
        return True
    except OSError:
        return False


@pytest.mark.root
def test_agent_killed_for_memory_is_resource_exhaustion(memory_cgroup, remora):
    command = [*memory_cgroup, *remora.agent_command()]
    remora.start(command=command)
    assert remora.get("/ok").status == 200
    remora.ask_later("POST", "/leak?mb=400")
    incident = remora.wait_incident("resource_exhaustion")
    assert_healed(incident)
    assert "memory" in (incident["summary"] + evidence(incident)).lower()
    remora.clean_up()  # before the cgroup goes


# --- output ----------------------------------------------------------------------------------------
def test_flood_of_output_neither_blocks_the_agent_nor_fills_memory(remora):
    remora.start_ready()
    before = remora.rss_bytes()
    assert remora.get("/flood?lines=300000&bytes=200", wait_s=60).status == 200
    assert remora.rss_bytes() - before < 32 << 20
    assert remora.get("/ok").status == 200


# --- state -----------------------------------------------------------------------------------------
def make_database(remora, rows):
    database = sqlite3.connect(os.path.join(remora.state, "memory.sqlite"))
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO facts (text) VALUES (?)", [("x" * 500,)] * rows)
    database.close()


def count_rows(remora):
    database = sqlite3.connect(os.path.join(remora.state, "memory.sqlite"))
    try:
        return database.execute("SELECT count(*) FROM facts").fetchone()[0]
    finally:
        database.close()


def overwrite_middle(path):
    with open(path, "r+b") as file:
        for offset in range(0, os.path.getsize(path), 8192):
            file.seek(offset)
            file.write(os.urandom(4096))


@pytest.mark.parametrize("how", ["overwritten", "emptied", "removed", "directory-gone"])
def test_damaged_state_is_restored_before_the_agent_starts(remora, how):
    remora.start_ready()
    make_database(remora, 200)
    remora.cli_json("snapshot", "take")
    make_database(remora, 5)  # after the snapshot: lost by design
    path = os.path.join(remora.state, "memory.sqlite")
    os.kill(remora.agent_pid(), signal.SIGSTOP)
    if how == "overwritten":
        overwrite_middle(path)
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "removed":
        os.unlink(path)
    else:
        os.rename(remora.state, remora.state + ".moved")
    os.kill(remora.agent_pid(), signal.SIGKILL)
    incident = remora.wait_incident("state_damaged")
    assert_healed(incident, "restore_then_restart")
    assert count_rows(remora) == 200
    assert remora.get("/ok").status == 200


def test_damaged_state_is_set_aside_not_deleted(remora):
    remora.start_ready()
    make_database(remora, 200)
    remora.cli_json("snapshot", "take")
    os.kill(remora.agent_pid(), signal.SIGSTOP)
    overwrite_middle(os.path.join(remora.state, "memory.sqlite"))
    os.kill(remora.agent_pid(), signal.SIGKILL)
    remora.wait_incident("state_damaged")
    kept = [name for name in os.listdir(remora.directory) if "remora-damaged" in name]
    assert len(kept) == 1
    assert "memory.sqlite" in os.listdir(os.path.join(remora.directory, kept[0]))


def test_state_lost_while_remora_was_down_is_restored_at_start(remora):
    remora.start_ready()
    make_database(remora, 50)
    remora.cli_json("snapshot", "take")
    assert remora.stop() == 0
    os.unlink(os.path.join(remora.state, "memory.sqlite"))
    remora.start_ready()
    assert count_rows(remora) == 50


def test_intact_state_is_left_as_it_is(remora):
    remora.start_ready()
    make_database(remora, 50)
    remora.cli_json("snapshot", "take")
    make_database(remora, 7)
    os.kill(remora.agent_pid(), signal.SIGKILL)
    assert_healed(remora.wait_incident("crash"))
    assert count_rows(remora) == 57
    assert remora.incidents("state_damaged") == []


def test_third_crash_in_a_row_goes_back_to_the_snapshot(remora):
    """A ladder of the configuration's own: restart, then restore."""
    remora.start_ready(config={"healing": {
        "backoff": {"step": "10ms", "max": "10ms"},
        "ladders": [{"fault": "crash", "steps": ["restart", "restore"]}]}})
    make_database(remora, 50)
    remora.cli_json("snapshot", "take")
    make_database(remora, 7)
    for count in (1, 2):
        os.kill(remora.agent_pid(), signal.SIGKILL)
        incident = remora.wait_incident("crash", count=count)
    assert_healed(incident, "restore_then_restart")
    assert count_rows(remora) == 50
