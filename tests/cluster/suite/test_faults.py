"""Faults of an agent under steady load, each with Remora and with Kubernetes alone: found as what it
is, healed in place, no request lost. What was measured is in the table at the end."""

import concurrent.futures
import re
import time

import agents
import patients
import pytest
import results as rows
from load import Load

HANG_WINDOW_S = 3
# The agent needs some 120 MiB.
MEMORY_LIMIT = "224Mi"
SLOW_ALONE = ("hang", "deadlock", "state")


class Stage:
    """For each fault a pod with Remora and one without (`NAME-alone`), all called from one pod."""

    def __init__(self, kube):
        self.kube = kube
        self._pool = concurrent.futures.ThreadPoolExecutor(len(SLOW_ALONE))
        self._alone = {}

    def load(self, host, fault):
        if fault == "deadlock":
            return Load(self.kube, host, path="/work", counts_turns=False)
        # A conversation goes back to its snapshot with the state.
        return Load(self.kube, host, counts_turns=fault != "state")

    def begin_alone(self, fault, inflict, heals=True):
        """Kubernetes alone, in the background: what heals in half a minute or not at all."""
        self._alone[fault] = self._pool.submit(self.alone, fault, inflict, heals)

    def alone(self, fault, inflict, heals=True):
        """What callers see of a fault with Kubernetes alone."""
        host = f"{fault}-alone"
        restarts = patients.restarts(self.kube, host)
        with self.load(host, fault) as load:
            fault_at = inflict(load, host)
            if heals:
                self.kube.wait_for(f"{host} was started again",
                                   lambda: patients.restarts(self.kube, host) > restarts,
                                   seconds=patients.HEAL_S)
                load.wait_steady(time.time(), patients.HEAL_S)
            else:
                load.wait_for("a good while has passed",
                              lambda: time.time() - fault_at > patients.NEVER_S,
                              2 * patients.NEVER_S)
                load.stop(leave_s=1)
        return load.seen(fault_at)

    def alone_seen(self, fault, inflict):
        if fault in self._alone:
            return self._alone[fault].result(3 * patients.HEAL_S)
        return self.alone(fault, inflict)

    def remora(self, fault, found_as, inflict):
        """A row of the table, and the incident."""
        with self.load(fault, fault) as load:
            fault_at = inflict(load, fault)
            incident = patients.closed_incident(self.kube, fault, found_as)
            load.wait_steady(time.time())
        return rows.of_incident(fault, incident, fault_at, remora=load.seen(fault_at)), incident

    def close(self):
        self._pool.shutdown(cancel_futures=True)


def ask_for(path):
    return lambda load, _: load.ask(path)


def damage(stage):
    def inflict(load, host):
        done_at, pid = patients.damage_state(stage.kube, host)
        return load.ask("/fault/exit") if pid == 1 else done_at
    return inflict


@pytest.fixture(scope="module")
def stage(shared_kube, inject_into, agent_image, locking_agent_image, python_image):
    def make(fault, suffix=""):
        name = fault + suffix
        if fault == "deadlock":
            return patients.patient(name, locking_agent_image,
                                    ["/locking_agent", str(agents.AGENT_PORT)])
        return patients.patient(
            name, agent_image, patients.LANGGRAPH,
            annotations={"remora.dev/hang-window": f"{HANG_WINDOW_S}s"} if fault == "hang" else {},
            limits={"memory": MEMORY_LIMIT} if fault == "memory" else None)

    faults = ("crash", "hang", "deadlock", "memory", "state")
    shared_kube.apply(*agents.model(agent_image), agents.caller(python_image))
    inject_into(shared_kube, *(each for fault in faults for each in make(fault)))
    shared_kube.apply(*(each for fault in faults
                        for each in patients.without_annotations(make(fault, "-alone"))))
    names = [fault + suffix for fault in faults for suffix in ("", "-alone")]
    for name in ("model", "caller", *names):
        shared_kube.wait_ready(name)
    for name in names:
        agents.wait_reachable(shared_kube, f"http://{name}/healthz")
    whole = Stage(shared_kube)
    whole.begin_alone("hang", ask_for("/fault/hang"))
    whole.begin_alone("deadlock", ask_for("/fault/deadlock"), heals=False)
    whole.begin_alone("state", damage(whole), heals=False)
    yield whole
    whole.close()


def assert_nothing_lost(row):
    """Refused are newcomers while the pod is not Ready, as a pod without its container always is:
    test_nobody_is_refused_by_a_service_of_unready_pods."""
    assert row.remora.lost == 0, row.remora


def test_a_crash_is_healed_and_no_request_is_lost(stage, results):
    row, incident = stage.remora("crash", "crash", ask_for("/fault/exit"))
    row.alone = stage.alone_seen("crash", ask_for("/fault/exit"))
    results.append(row)
    assert incident["closed_reason"] == "recovered" and "70" in incident["summary"], incident
    assert patients.restarts(stage.kube, "crash") == 1
    assert patients.restarts(stage.kube, "crash", "remora") == 0
    assert_nothing_lost(row)


def test_a_hang_is_found_in_its_window_and_no_request_is_lost(stage, results):
    row, incident = stage.remora("hang", "hang", ask_for("/fault/hang"))
    row.remarks = f"hang window {HANG_WINDOW_S} s (default 30 s)"
    row.alone = stage.alone_seen("hang", ask_for("/fault/hang"))
    results.append(row)
    assert incident["closed_reason"] == "recovered"
    assert any("POST /fault/hang" in each for each in incident["requests_in_flight"]), incident
    assert row.found_s >= HANG_WINDOW_S, "found before the window was over"
    assert_nothing_lost(row)


def test_a_deadlock_in_cpp_is_found_with_its_threads_and_locks(stage, results):
    row, incident = stage.remora("deadlock", "deadlock", ask_for("/fault/deadlock"))
    row.alone = stage.alone_seen("deadlock", ask_for("/fault/deadlock"))
    row.alone_never = True
    row.remarks = "C++; its liveness endpoint goes on answering"
    results.append(row)
    text = "\n".join(each["text"] for each in incident["evidence"] if each["kind"] == "lock")
    waits = re.findall(r"thread \d+ \((\S+)\) waits for mutex (0x[0-9a-f]+) in locking_agent\S+ "
                       r"held by thread \d+ \((\S+)\)", text)
    assert {(waiter, owner) for waiter, _, owner in waits} == {
        ("ledger-writer", "index-writer"), ("index-writer", "ledger-writer")}, text
    assert len({lock for _, lock, _ in waits}) == 2, text
    assert incident["closed_reason"] == "recovered"
    assert patients.restarts(stage.kube, "deadlock-alone") == 0, "Kubernetes alone healed it?"
    assert_nothing_lost(row)


def test_an_agent_that_the_kernel_kills_for_memory_is_told_from_a_crash(stage, results):
    row, incident = stage.remora("memory", "resource_exhaustion", ask_for("/fault/memory"))
    row.alone = stage.alone_seen("memory", ask_for("/fault/memory"))
    results.append(row)
    ended = patients.status_of(stage.kube.get("pod", "memory"), "agent")["lastState"]["terminated"]
    assert ended["reason"] == "OOMKilled", ended
    assert incident["closed_reason"] == "recovered"
    assert "memory" in incident["summary"], incident
    assert_nothing_lost(row)


def test_damaged_state_is_restored_before_the_agent_starts(stage, results):
    kube = stage.kube
    assert agents.chat(kube, "kept", "one two", "first", host="state")["turn"] == 1
    patients.remora(kube, "state", "snapshot", "take", f"--store={patients.STORE}")
    row, incident = stage.remora("state", "state_damaged", damage(stage))
    row.alone = stage.alone_seen("state", damage(stage))
    row.alone_never = True
    row.remarks = "back to the last snapshot; alone: fails at each start"
    results.append(row)
    assert incident["closed_reason"] == "recovered"
    assert [step["action"] for step in incident["steps"]] == ["restore_then_restart"]
    again = agents.chat(kube, "kept", "one two", "first", host="state")
    assert again["replayed"] and again["turn"] == 1
    assert agents.chat(kube, "kept", "three", "second", host="state")["turn"] == 2
    lines = [line["event"] for line in patients.log(kube, "state") if "event" in line]
    assert lines.index("snapshot_restored") < len(lines) - 1 - lines[::-1].index("agent_started")
    assert patients.restarts(kube, "state") == 1, "an instance began before its state was whole"
