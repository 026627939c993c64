"""Remora's demo: a real agent under steady load is killed, hung, deadlocked and has its state
damaged; each fault is found and healed while you watch. Standard library; ./dev demo starts it.

Every figure is measured in this run: times come from the incident records, counts from the load's
own books and from Remora's access log. Exit code 0 only when everything held.
"""

import argparse
import dataclasses
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from load import Load
from screen import Screen, table
from sidecar import Sidecar, SidecarError

HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS = 6
CONVERSATIONS_EACH = 2
RATE_PER_S = 20
WARM_UP_TURNS = 40
CALM_S = 2.5  # load between two faults
UNSAVED_S = 2.0  # load between the last snapshot and the damage
HEAL_WAIT_S = 25
READY_WAIT_S = 30
POLL_S = 0.1
EVIDENCE_SHOWN_MAX = 8
PAGE_BYTES = 4096


@dataclasses.dataclass
class Trial:
    """One fault: what was done to the agent, and what came of it."""

    title: str
    wanted: str  # the fault's kind in the incident
    injected_at: float = 0
    healed_at: float = 0
    incident: dict = dataclasses.field(default_factory=dict)
    before: int = 0
    after: int = 0
    trigger: str = ""  # how the request that caused the fault was answered; "" when none did
    problems: list = dataclasses.field(default_factory=list)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def unix_s(nanoseconds):
    return nanoseconds / 1e9


class Demo:
    def __init__(self, arguments, screen, directory):
        self._arguments = arguments
        self._screen = screen
        self._directory = directory
        self._model = None
        self.sidecar = None
        self.load = None
        self.trials = []
        self._seen_incidents = set()
        self._status_stop = threading.Event()

    # --- start and end ---------------------------------------------------------------------------
    def start(self):
        self._model = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "agent", "model_server.py")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        model_port = json.loads(self._model.stdout.readline())["port"]
        name = "langgraph_agent.py" if self._has_langgraph() else "plain_agent.py"
        command = [self._arguments.python, os.path.join(HERE, "agent", name)]
        app_port = free_port()
        command += ["--port", str(app_port), "--model-url", f"http://127.0.0.1:{model_port}/v1"]
        config = os.path.join(HERE, "remora.yaml")
        self.sidecar = Sidecar(self._arguments.remora, self._directory, config, app_port, command)
        port = self.sidecar.wait_until_listening()
        health = self._get("/healthz", READY_WAIT_S)
        self._screen.event(
            "● up", f"agent ({health['agent']}), pid {health['pid']}, behind 127.0.0.1:{port}"
        )
        self.load = Load(port, RATE_PER_S, WORKERS, CONVERSATIONS_EACH)
        self.load.start()
        self._screen.event(
            "● load",
            f"{RATE_PER_S} requests/s on {WORKERS} connections, "
            f"{WORKERS * CONVERSATIONS_EACH} conversations, each request with an Idempotency-Key",
        )
        threading.Thread(target=self._show_status, daemon=True).start()

    def _has_langgraph(self):
        probe = [self._arguments.python, "-c", "import langgraph, openai, starlette, uvicorn"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
            return True
        self._screen.event("● note", "LangGraph is not installed: the standard-library agent runs")
        return False

    def stop(self):
        """Ends everything that was started, whatever state it is in."""
        self._status_stop.set()
        if self.load:
            self.load.stop()
        if self.sidecar:
            self.sidecar.stop()
        if self._model:
            self._model.terminate()
            try:
                self._model.wait(5)
            except subprocess.TimeoutExpired:
                self._model.kill()
                self._model.wait()

    # --- the story -------------------------------------------------------------------------------
    def run(self):
        self._wait(lambda: sum(self.load.turns().values()) >= WARM_UP_TURNS, READY_WAIT_S, "load")
        self._trial(Trial("The agent is killed", "crash"), self._kill)
        self._trial(Trial("A handler blocks for ever", "hang"), lambda t: self._ask("hang", t))
        self._trial(
            Trial("Two threads wait for each other", "deadlock"),
            lambda t: self._ask("deadlock", t),
        )
        self._trial(Trial("The database is damaged", "state_damaged"), self._damage)
        time.sleep(CALM_S)

    def _trial(self, trial, inject):
        time.sleep(CALM_S)
        self.trials.append(trial)
        self._screen.heading(f"{len(self.trials)}  {trial.title}")
        self._seen_incidents = {incident["id"] for incident in self.sidecar.incidents()}
        inject(trial)
        try:
            trial.incident = self._follow(trial)
            self._wait(self.load.watched, HEAL_WAIT_S, "an answer in every conversation")
        except SidecarError as error:
            trial.problems.append(str(error))
            self._screen.event("✗ not healed", str(error), "red")
            return
        trial.healed_at = time.time()
        trial.before, trial.after = self.load.watched()
        self._judge(trial)

    def _kill(self, trial):
        pid = self.load.agent_pid
        self.load.watch(pid)
        trial.injected_at = time.time()
        os.kill(pid, signal.SIGKILL)
        self._screen.event("⚡ done to it", f"SIGKILL to pid {pid}", "yellow")

    def _ask(self, kind, trial):
        """The agent itself falls ill on request; the request gets caught in it."""
        self.load.watch(self.load.agent_pid)
        trial.injected_at = time.time()
        threading.Thread(target=self._post_fault, args=(kind, trial), daemon=True).start()
        self._screen.event("⚡ done to it", f"POST /fault/{kind} (without a key)", "yellow")

    def _post_fault(self, kind, trial):
        connection = http.client.HTTPConnection("127.0.0.1", self.sidecar.port, timeout=60)
        try:
            connection.request("POST", f"/fault/{kind}")
            response = connection.getresponse()
            problem = json.loads(response.read()).get("type", "").rsplit("/", 1)[-1]
            trial.trigger = f"{response.status} {problem}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            trial.trigger = f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def _damage(self, trial):
        floors = self.load.turns()
        self.sidecar.take_snapshot()
        self._screen.event("● snapshot", f"taken on demand at {sum(floors.values())} turns")
        time.sleep(UNSAVED_S)
        pid = self.load.agent_pid
        os.kill(pid, signal.SIGSTOP)  # so that it dies of this, not answers from a damaged file
        self.load.watch(pid, floors)
        damaged = self._overwrite_database()
        trial.injected_at = time.time()
        os.kill(pid, signal.SIGKILL)
        self._screen.event(
            "⚡ done to it", f"{damaged} pages of the database overwritten, SIGKILL", "yellow"
        )

    def _overwrite_database(self):
        """Noise over every second page of the database, and its log cut to nothing."""
        path = os.path.join(self.sidecar.state_dir, "conversations.sqlite")
        with open(path + "-wal", "r+b") as log:
            log.truncate(0)
        pages = 0
        with open(path, "r+b") as database:
            for offset in range(0, os.path.getsize(path), 2 * PAGE_BYTES):
                database.seek(offset)
                database.write(os.urandom(PAGE_BYTES))
                pages += 1
        return pages

    # --- watching --------------------------------------------------------------------------------
    def _follow(self, trial):
        """Shows the incident as it unfolds; returns it closed."""
        deadline = time.monotonic() + HEAL_WAIT_S
        shown = set()
        while time.monotonic() < deadline:
            for incident in self.sidecar.incidents():
                if incident["id"] in self._seen_incidents:
                    continue
                self._show(incident, trial, shown)
                if incident["fault"] == trial.wanted and incident["status"] == "closed":
                    return incident
            time.sleep(POLL_S)
        raise SidecarError(f"no {trial.wanted} found and healed within {HEAL_WAIT_S} s")

    def _show(self, incident, trial, shown):
        def once(key, show):
            if (incident["id"], key) not in shown:
                shown.add((incident["id"], key))
                show()

        once("found", lambda: self._show_found(incident, trial))
        for number, step in enumerate(incident["steps"]):
            if step["intent_at_unix_ns"]:
                at = unix_s(step["intent_at_unix_ns"])
                once(f"step {number}", lambda: self._screen.event(
                    "● decided", f"{step['action'].replace('_', ' ')}: {step['reason']}", at=at))
            if step["acted_at_unix_ns"]:
                at = unix_s(step["acted_at_unix_ns"])
                once(f"act {number}", lambda: self._screen.event("● acted", "started again", at=at))
        if incident["status"] == "closed":
            once("closed", lambda: self._show_closed(incident))

    def _show_found(self, incident, trial):
        at = unix_s(incident["detected_at_unix_ns"])
        text = f"{incident['fault']}, {max(0, at - trial.injected_at):.3f} s after: "
        self._screen.event("● found", text + incident["summary"], "red", at=at)
        evidence = incident["evidence"]
        for item in evidence[:EVIDENCE_SHOWN_MAX]:
            self._screen.detail(item["kind"], item["text"])
        if len(evidence) > EVIDENCE_SHOWN_MAX:
            self._screen.detail("…", f"{len(evidence) - EVIDENCE_SHOWN_MAX} more facts on record")
        if incident["requests_in_flight"]:
            self._screen.detail("in flight", ", ".join(incident["requests_in_flight"][:3]))

    def _show_closed(self, incident):
        at = unix_s(incident["closed_at_unix_ns"])
        if incident["closed_reason"] == "recovered":
            self._screen.event("✔ healed", f"ready {incident['mttr_s']:.3f} s after its first sign",
                               "green", at=at)
        else:
            reason = incident["closed_reason"].replace("_", " ")
            self._screen.event("● closed", f"{incident['fault']}: {reason}", at=at)

    def _judge(self, trial):
        incident = trial.incident
        if incident["closed_reason"] != "recovered":
            trial.problems.append(f"{trial.wanted} was closed as {incident['closed_reason']}")
        if trial.wanted == "deadlock":
            self._judge_deadlock(trial)
        if trial.wanted == "state_damaged":
            lost = trial.before - trial.after
            self._screen.event(
                "✔ state",
                f"back at the last snapshot: {trial.after} of {trial.before} turns; the {lost} "
                f"turns of the {UNSAVED_S:.0f} s since it are lost, as they must be",
                "green",
            )
        elif trial.after == trial.before:
            self._screen.event("✔ state", f"all {trial.after} turns are there", "green")
        else:
            trial.problems.append(f"{trial.before} turns before, {trial.after} after")
            self._screen.event("✗ state", trial.problems[-1], "red")

    def _judge_deadlock(self, trial):
        text = " ".join(item["text"] for item in trial.incident["evidence"])
        for thread in ("ledger-writer", "index-writer"):
            if thread not in text:
                trial.problems.append(f"the evidence does not name the thread {thread}")

    def _show_status(self):
        while not self._status_stop.wait(0.1):
            totals = self.load.totals
            self._screen.status(
                f"  {totals.sent} sent · {totals.succeeded} answered · {totals.failed} failed · "
                f"{self.load.in_flight} in flight"
            )

    def _get(self, path, limit_s):
        connection = http.client.HTTPConnection("127.0.0.1", self.sidecar.port, timeout=limit_s)
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status != 200:
            raise SidecarError(f"GET {path}: {response.status} {text[:200]!r}")
        return json.loads(text)

    def _wait(self, condition, limit_s, what):
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise SidecarError(f"waited {limit_s} s for {what}")
            time.sleep(0.05)


# --- the end: figures and verdict ------------------------------------------------------------------
def seconds(value):
    return "–" if value is None else f"{value:.3f}"


def fault_table(demo):
    rows = [["fault", "found as", "detect s", "decide s", "act s", "ready s", "MTTR s", "held",
             "repeated", "turns"]]
    for trial in demo.trials:
        incident = trial.incident
        lines = [
            line for line in demo.sidecar.request_lines
            if trial.injected_at <= line.at <= trial.healed_at and line.path == "/chat"
        ]
        rows.append(
            [trial.title, incident.get("fault", "–")]
            + [seconds(incident.get(f"{part}_s"))
               for part in ("detect", "decide", "act", "ready", "mttr")]
            + [str(sum(line.held_s > 0 for line in lines)),
               str(sum(line.replays > 0 for line in lines)),
               f"{trial.before} → {trial.after}"]
        )
    return table(rows)


def verdict(demo):
    """(what must hold, whether it does, detail)."""
    totals = demo.load.totals
    healed = [trial for trial in demo.trials if trial.incident and not trial.problems]
    problems = [f"{trial.title}: {text}" for trial in demo.trials for text in trial.problems]
    wrong = [text for text in demo.load.failures if " instead of " in text]
    triggers = {trial.trigger for trial in demo.trials if trial.wanted in ("hang", "deadlock")}
    return [
        ("every request was answered right", totals.failed == 0 and totals.sent > 0,
         "; ".join(demo.load.failures[:3])),
        ("four faults of the right kind were found and healed", len(healed) == 4,
         "; ".join(problems) or f"only {len(healed)} were"),
        ("no request took effect twice, no answered turn was lost but after the snapshot",
         not wrong, "; ".join(wrong[:3])),
        ("the two requests that can't be repeated were told so (502 outcome-unknown)",
         triggers == {"502 outcome-unknown"}, ", ".join(sorted(triggers)) or "no answer"),
    ]


def show_result(screen, demo):
    screen.heading("Result")
    totals = demo.load.totals
    repeated = sum(line.replays > 0 for line in demo.sidecar.request_lines if line.path == "/chat")
    screen.line(
        f"  requests: {totals.sent} sent, {totals.succeeded} succeeded, {totals.failed} failed, "
        f"{repeated} repeated by Remora,"
    )
    screen.line(
        f"            {totals.answered_from_state} of those known to the agent by their key and "
        "not run again"
    )
    ordered = sorted(demo.load.latencies) or [0]
    screen.line(
        f"            median {ordered[len(ordered) // 2] * 1000:.0f} ms, "
        f"slowest {ordered[-1]:.2f} s (it waited for the agent's rebirth)"
    )
    screen.line()
    for number, text in enumerate(fault_table(demo)):
        screen.line(text, *(["bold"] if number == 0 else []))
    screen.line()
    held = True
    for name, holds, detail in verdict(demo):
        held = held and holds
        mark, colour = ("✔", "green") if holds else ("✗", "red")
        screen.line(f"  {mark} {name}", colour)
        if not holds:
            screen.line(f"    {detail}", "red")
    return held


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--remora", default=os.path.join(HERE, "..", "build/release/remora"))
    parser.add_argument("--python", default=sys.executable, help="the agent's interpreter")
    parser.add_argument("--keep", action="store_true", help="keep state, store and log")
    arguments = parser.parse_args()
    arguments.remora = os.path.abspath(arguments.remora)
    if not os.access(arguments.remora, os.X_OK):
        parser.error(f"no program at {arguments.remora}: run ./dev build first")
    return arguments


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, interrupted)
    screen = Screen()
    directory = tempfile.mkdtemp(prefix="remora-demo-")
    demo = Demo(arguments, screen, directory)
    held, code = False, 1
    screen.line("Remora heals an agent before your eyes", "bold")
    screen.line("Short windows for the show: a hang is called one after 3 s (by default 30 s).")
    screen.line()
    try:
        demo.start()
        demo.run()
    except SidecarError as error:
        screen.event("✗ ended", str(error), "red")
    except KeyboardInterrupt:
        code = 130
    finally:
        demo.stop()
        screen.close()
    if code != 130 and demo.load:
        held = show_result(screen, demo)
        code = 0 if held else 1
    if arguments.keep or (not held and code != 130):
        screen.line(f"  state, store and log are kept in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
