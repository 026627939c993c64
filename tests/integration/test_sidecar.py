"""`remora sidecar` beside an agent that somebody else starts: found, held, healed, let go."""

import http.client
import json
import os
import signal
import sqlite3
import time

import pytest

from remora import Later, Remora, binary, is_alive, run_cli, wait_for
from runtime import Runtime

QUICK = {"hangWindow": "2s", "sampleInterval": "250ms"}


class Sidecar(Remora):
    def __init__(self, directory):
        super().__init__(directory)
        self.agent_name = f"agent-{os.path.basename(self.directory)}-{os.getpid()}"
        self.runtime = None
        self.health_port = None

    def command(self, config=None, options=(), store=True, state=True):
        words = [binary(), "sidecar", "--agent", self.agent_name, "--listen", "127.0.0.1:0",
                 "--app-port", str(self.app_port), "--health-listen", "127.0.0.1:0"]
        if config is not None:
            self.write_config(config)
            words += ["-c", self.config_path]
        if state:
            os.makedirs(self.state, exist_ok=True)
            words += ["--state", self.state]
        if store:
            words += ["--store", self.store]
        return [*words, *map(str, options)]

    def run_agent(self, *words, **options):
        env = {"REMORA_STATE_DIR": self.state}
        self.runtime = Runtime(self.agent_command(*words), self.agent_name, env=env, **options)
        return self.runtime

    def start(self, *arguments, **named):
        super().start(*arguments, **named)
        line = self.wait_log("listening", listener="health")
        self.health_port = int(line["address"].rsplit(":", 1)[1])
        return self

    def ask_health(self, path, wait_s=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=wait_s)
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read().decode()
        connection.close()
        return reply.status, body

    def clean_up(self):
        super().clean_up()
        if self.runtime:
            self.runtime.clean_up()


@pytest.fixture
def sidecar(tmp_path, request):
    one = Sidecar(tmp_path)
    yield one
    log = one.log_text()
    one.clean_up()
    request.node.add_report_section("call", "sidecar's log", log)


def start_ready(sidecar, **named):
    sidecar.run_agent()
    sidecar.start(**named)
    assert sidecar.get("/ok").status == 200, sidecar.log_text()
    return sidecar


def assert_leaves_within_a_second(sidecar):
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait() == 0
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("first", ["agent", "sidecar"])
def test_agent_is_found_whoever_starts_first(sidecar, first):
    if first == "agent":
        sidecar.run_agent()
        sidecar.start()
    else:
        sidecar.start()
        sidecar.run_agent()
    assert sidecar.get("/ok").status == 200
    assert sidecar.log("agent_started")[0]["pid"] == sidecar.agent_pid()
    assert len(sidecar.journal("start")) == 1


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_crash_is_seen_with_its_signal_and_the_request_is_sent_again(sidecar, signo):
    start_ready(sidecar)
    held = sidecar.ask_later("GET", "/slow?s=1&id=held", wait_s=40)
    sidecar.wait_journal(id="held")
    os.kill(sidecar.agent_pid(), signo)
    assert held.result().status == 200
    incident = sidecar.wait_incident("crash")
    assert incident["closed_reason"] == "recovered"
    assert sidecar.log("agent_exited")[0]["signal"] == signo
    assert len(sidecar.journal("start")) == 2


def test_exit_code_of_somebody_elses_child_is_known(sidecar):
    start_ready(sidecar)
    sidecar.ask_later("POST", "/crash?how=exit&code=3")
    sidecar.wait_incident("crash")
    assert sidecar.log("agent_exited")[0]["exit_code"] == 3


def test_hang_is_ended_by_signal_and_the_runtime_starts_the_next(sidecar):
    start_ready(sidecar, config={"detection": QUICK})
    pid = sidecar.agent_pid()
    later = sidecar.ask_later("GET", "/hang?id=h", wait_s=60)
    incident = sidecar.wait_incident("hang")
    assert incident["closed_reason"] == "recovered"
    assert not is_alive(pid)
    assert len(sidecar.runtime.codes) == 1
    del later  # a GET: sent again, hangs again


def test_back_off_of_the_runtime_is_waited_for(sidecar):
    start_ready(sidecar, config={"healing": {"stepTimeout": "5s"}})
    sidecar.runtime.backoff_s = 7.0
    os.kill(sidecar.agent_pid(), signal.SIGKILL)
    sidecar.wait_log("agent_awaited")
    told = run_cli("status", "--store", sidecar.store, "--json")
    awaited = json.loads(told.stdout)["agents"][0]["waits_for"]
    assert "back-off after 1 ends in a row: 0 s" in awaited
    assert "back-off" in sidecar.ask_health("/readyz")[1]
    incident = sidecar.wait_incident("crash", wait_s=40)
    assert incident["closed_reason"] == "recovered"
    assert len(incident["steps"]) == 1, "the runtime's time was taken for the agent's"


def test_damaged_state_is_back_before_the_next_instance_reads_it(sidecar):
    """It is started at once; so it stands still until its state is whole again."""
    start_ready(sidecar)
    path = os.path.join(sidecar.state, "memory.sqlite")
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO facts (text) VALUES (?)", [("x" * 500,)] * 200)
    database.close()
    sidecar.cli_json("snapshot", "take")
    pid = sidecar.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    os.truncate(path, 0)
    os.kill(pid, signal.SIGKILL)
    incident = sidecar.wait_incident("state_damaged")
    assert incident["closed_reason"] == "recovered"
    assert sidecar.get("/ok").status == 200
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM facts").fetchone()[0] == 200
    database.close()
    restored = sidecar.log("snapshot_restored")[0]["time"]
    second = sidecar.log("agent_started")[1]["time"]
    assert restored < second
    assert len(sidecar.journal("start")) == 2, "an instance began before its state was whole"


def test_killed_sidecar_leaves_the_agent_alone(sidecar):
    start_ready(sidecar)
    pid = sidecar.agent_pid()
    sidecar.process.kill()
    sidecar.process.wait()
    assert is_alive(pid)
    sidecar.start()
    assert sidecar.get("/ok").status == 200
    assert sidecar.agent_pid() == pid
    assert sidecar.runtime.codes == []


def test_agent_that_is_held_goes_on_when_the_sidecar_is_killed(sidecar):
    start_ready(sidecar, config={"healing": {"backoff": {"base": "30s"}}})
    os.kill(sidecar.agent_pid(), signal.SIGKILL)
    pid = sidecar.runtime.wait_started(count=2)
    stopped = lambda: open(f"/proc/{pid}/stat", encoding="latin-1").read().rsplit(")", 1)[1].split()[0]
    wait_for(lambda: stopped() == "T", "the second instance to be held")
    sidecar.process.kill()
    sidecar.process.wait()
    wait_for(lambda: len(sidecar.journal("start")) == 2, "the held agent to go on")


def test_crash_loop_is_given_up_loudly_and_served_again_when_it_ends(sidecar):
    start_ready(sidecar, config={"healing": {"budget": {"restartsMax": 2, "window": "10m"}}})
    for count in (1, 2, 3):
        wait_for(lambda: len(sidecar.journal("start")) == count, f"start {count}")
        sidecar.wait_log("agent_up", count=count)
        os.kill(sidecar.agent_pid(), signal.SIGKILL)
        sidecar.wait_log("agent_exited", count=count)
    wait_for(lambda: [i for i in sidecar.incidents() if i["closed_reason"] == "gave_up"], "the end")
    assert sidecar.process.poll() is None, "a sidecar outlives what it gave up"
    sidecar.wait_log("agent_up", count=4)
    assert sidecar.get("/ok").status == 200
    assert sidecar.ask_health(f"/probe/{sidecar.agent_name}/liveness")[0] == 200


def test_end_with_0_is_no_end_where_the_runtime_starts_it_again(sidecar):
    start_ready(sidecar)
    sidecar.ask_later("POST", "/crash?how=exit&code=0")
    incident = sidecar.wait_incident("crash")
    assert incident["closed_reason"] == "recovered"
    assert sidecar.get("/ok").status == 200


# --- what the kubelet asks -------------------------------------------------------------------------
def test_kubelet_gets_true_answers(sidecar):
    sidecar.start(config={"readinessProbe": {"httpGet": {"path": "/ok"}, "periodSeconds": 1}})
    probe = f"/probe/{sidecar.agent_name}"
    wait_for(lambda: sidecar.ask_health("/started")[0] == 200, "leave to start")
    assert sidecar.ask_health("/healthz")[0] == 200
    assert sidecar.ask_health("/readyz")[0] == 503
    assert sidecar.ask_health(f"{probe}/startup")[0] == 503
    assert sidecar.ask_health(f"{probe}/liveness")[0] == 200
    sidecar.run_agent()
    wait_for(lambda: sidecar.ask_health("/readyz")[0] == 200, "readiness")
    assert sidecar.ask_health(f"{probe}/startup")[0] == 200
    assert sidecar.ask_health(f"{probe}/readiness")[0] == 200
    assert sidecar.ask_health("/probe/nobody/readiness")[0] == 404
    assert sidecar.ask_health(f"{probe}/mood")[0] == 404
    assert "remora_agent_up" in sidecar.ask_health("/metrics")[1]
    status, body = sidecar.ask_health("/drained")
    assert (status, body) == (409, "the pod is not being ended\n")


def test_drain_hook_holds_the_agents_end_back_until_its_requests_are_done(sidecar):
    start_ready(sidecar, config={"inbound": {"timeouts": {"drain": "20s", "drainDelay": "1s"}}})
    pid = sidecar.agent_pid()
    slow = sidecar.ask_later("GET", "/slow?s=4&id=slow", wait_s=40)
    sidecar.wait_journal(id="slow")
    # The kubelet runs the hooks of all containers at the same time.
    hook = Later(lambda: sidecar.ask_health("/drained", wait_s=40))
    done = run_cli("drain", "--store", sidecar.store)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: sidecar.ask_health("/readyz")[0] == 503, "readiness to go")
    served = sidecar.get("/ok")
    assert served.status == 200, "served until nobody is sent here any more"
    assert served.header("connection") == "close", "and asked to go elsewhere"
    assert not hook.done
    assert slow.result().status == 200
    assert hook.result() == (200, "drained\n")
    assert is_alive(pid), "the sidecar must not end what the kubelet ends"
    sidecar.runtime.stop()
    sidecar.wait_log("supervisor_finished")
    assert sidecar.process.poll() is None, "one that leaves early would be started again"
    assert_leaves_within_a_second(sidecar)
    assert [s["reason"] for s in sidecar.snapshots()][-1] == "final"


def test_a_pod_that_ends_is_ready_until_its_delay_is_over(sidecar):
    """Its deletion has told the Services; those that have no other pod come back to a Ready one."""
    start_ready(sidecar, config={"inbound": {"timeouts": {"drain": "20s", "drainDelay": "2s"}}})
    slow = sidecar.ask_later("GET", "/slow?s=5&id=slow", wait_s=40)
    sidecar.wait_journal(id="slow")
    assert run_cli("drain", "--pod-ends", "--store", sidecar.store).returncode == 0
    began = time.monotonic()
    assert sidecar.get("/ok").header("connection") == "close"
    assert sidecar.ask_health("/readyz")[0] == 200
    wait_for(lambda: sidecar.ask_health("/readyz")[0] == 503, "readiness to go")
    assert time.monotonic() - began > 1
    assert slow.result().status == 200


def refused(sidecar):
    try:
        sidecar.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("told, least_s, most_s", [(True, 1.9, 4), (False, 4.9, 8)])
def test_a_pod_to_which_callers_still_come_stays_to_refuse_them(sidecar, told, least_s, most_s):
    """With the network of a pod that is gone, a caller would wait for as long as its kernel tries."""
    start_ready(sidecar, config={"inbound": {"timeouts": {"drain": "20s", "drainDelay": "1s"}}})
    hook = Later(lambda: sidecar.ask_health("/drained", wait_s=40))
    assert run_cli("drain", "--pod-ends", "--store", sidecar.store).returncode == 0
    while not refused(sidecar):
        pass
    began = time.monotonic()
    if told:
        assert sidecar.ask_health("/readyz")[0] == 503
    assert hook.result() == (200, "drained\n")
    assert least_s < time.monotonic() - began < most_s
    assert refused(sidecar)


def test_a_pod_to_which_nobody_comes_any_more_goes_at_once(sidecar):
    start_ready(sidecar, config={"inbound": {"timeouts": {"drain": "20s", "drainDelay": "3s"}}})
    hook = Later(lambda: sidecar.ask_health("/drained", wait_s=40))
    assert run_cli("drain", "--pod-ends", "--store", sidecar.store).returncode == 0
    assert hook.result() == (200, "drained\n")
    assert sidecar.log("refusing_callers") == []


def test_sigterm_without_a_hook_ends_the_agent_too(sidecar):
    """docker stop: there is nobody else who would end it in time."""
    start_ready(sidecar)
    slow = sidecar.ask_later("GET", "/slow?s=2&id=slow", wait_s=40)
    sidecar.wait_journal(id="slow")
    sidecar.runtime.backoff_s = 60
    sidecar.signal(signal.SIGTERM)
    assert slow.result().status == 200
    assert sidecar.wait() == 0
    assert sidecar.runtime.codes[0] in (0, -signal.SIGTERM)


def test_agent_that_ended_first_does_not_keep_the_sidecar(sidecar):
    start_ready(sidecar)
    sidecar.runtime.stop()
    sidecar.wait_log("agent_exited")
    assert_leaves_within_a_second(sidecar)


def test_agent_that_never_came_does_not_keep_the_sidecar(sidecar):
    sidecar.start()
    sidecar.wait_log("agent_awaited")
    assert_leaves_within_a_second(sidecar)


def test_agent_that_is_being_restarted_does_not_keep_the_sidecar(sidecar):
    """A pod is deleted: its agent ends by SIGTERM, and then the sidecar gets one."""
    start_ready(sidecar)
    sidecar.runtime.stop()
    sidecar.wait_log("agent_awaited")
    assert_leaves_within_a_second(sidecar)


def test_status_names_the_agent(sidecar):
    start_ready(sidecar)
    done = run_cli("status", "--store", sidecar.store, "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert [agent["name"] for agent in status["agents"]] == [sidecar.agent_name]


def test_pod_without_the_injections_mark_is_one_line(sidecar, tmp_path):
    info = tmp_path / "pod"
    info.mkdir()
    (info / "annotations").write_text('remora.dev/inject="true"\n', encoding="utf-8")
    done = run_cli("sidecar", "--pod-info", info)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "remora.dev/injected" in done.stderr
