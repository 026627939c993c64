"""The real binary under test: started with port zero, followed through its log, ended by pid."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from http1 import Connection, ask

AGENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "agents")
HOSTILE_AGENT = os.path.join(AGENTS, "hostile_agent.py")
WAIT_S = 20
COMMAND_WAIT_S = 30
POLL_S = 0.02
# Below the kernel's ephemeral range, so that no outgoing connection takes it in between.
FREE_PORTS = range(20_000, 30_000)


def binary():
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.environ.get("REMORA_BINARY") or os.path.join(here, "../../build/dev/remora")
    return os.path.abspath(path)


def free_port():
    for _ in range(1000):
        port = random.choice(FREE_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def wait_for(condition, what, wait_s=WAIT_S):
    """The condition's first true value; fails with what was waited for."""
    deadline = time.monotonic() + wait_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {wait_s} s for {what}"
        time.sleep(POLL_S)
    return value


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def run_cli(*words, wait_s=COMMAND_WAIT_S, **options):
    """One finished command of the binary."""
    return subprocess.run([binary(), *map(str, words)], capture_output=True, text=True,
                          timeout=wait_s, stdin=subprocess.DEVNULL, **options)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Remora:
    """One `remora run`. Made by the fixture of the same name, which also ends it."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.state = os.path.join(self.directory, "state")
        self.store = os.path.join(self.directory, "store")
        self.config_path = os.path.join(self.directory, "remora.yaml")
        self.journal_path = os.path.join(self.directory, "journal")
        self.app_port = free_port()
        self.port = None
        self.process = None
        self._lines = []
        self._raw = []
        self._changed = threading.Condition()
        self._reader = None

    # --- start -----------------------------------------------------------------------------------
    def write_config(self, config):
        """config: a mapping (JSON is YAML), or the file's text."""
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(text)

    def agent_command(self, *words):
        return [sys.executable, HOSTILE_AGENT, "--port", str(self.app_port),
                "--journal", self.journal_path, *map(str, words)]

    def command(self, agent=(), config=None, options=(), command=None, store=True, state=True):
        words = [binary(), "run", "--listen", "127.0.0.1:0", "--app-port", str(self.app_port)]
        if config is not None:
            self.write_config(config)
            words += ["-c", self.config_path]
        if state:
            os.makedirs(self.state, exist_ok=True)
            words += ["--state", self.state]
        if store:
            words += ["--store", self.store]
        return [*words, *map(str, options), "--", *(command or self.agent_command(*agent))]

    def launch(self, *arguments, wrap=(), env=None, **named):
        """Starts without waiting for anything. wrap: words before the binary."""
        self._lines, self._raw = [], []
        self.process = subprocess.Popen(
            [*wrap, *self.command(*arguments, **named)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.directory,
            start_new_session=True, env=os.environ | (env or {}))
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        return self

    def start(self, *arguments, **named):
        """Starts and waits until callers can connect."""
        self.launch(*arguments, **named)
        line = self.wait_log("listening", listener="inbound")
        self.port = int(line["address"].rsplit(":", 1)[1])
        return self

    def start_ready(self, *arguments, **named):
        """Starts and waits for a first answer of the agent."""
        self.start(*arguments, **named)
        reply = self.get("/ok")
        assert reply.status == 200, f"{reply}\n{self.log_text()}"
        return self

    # --- end -------------------------------------------------------------------------------------
    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, wait_s=WAIT_S):
        """The exit code."""
        code = self.process.wait(wait_s)
        self._reader.join(5)
        return code

    def stop(self, wait_s=WAIT_S):
        self.signal(signal.SIGTERM)
        return self.wait(wait_s)

    def clean_up(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._reader:
            self._reader.join(5)

    # --- its log ---------------------------------------------------------------------------------
    def _read(self, process):
        for raw in process.stderr:
            text = raw.decode(errors="replace")
            try:
                line = json.loads(text)
            except ValueError:
                line = {}
            with self._changed:
                self._raw.append(text)
                self._lines.append(line if isinstance(line, dict) else {})
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def log(self, event=None, **fields):
        """The log lines with these fields so far."""
        with self._changed:
            lines = list(self._lines)
        wanted = fields | ({"event": event} if event else {})
        return [line for line in lines if all(line.get(k) == v for k, v in wanted.items())]

    def wait_log(self, event, count=1, wait_s=WAIT_S, **fields):
        """The count-th such line, as soon as it is there."""
        deadline = time.monotonic() + wait_s
        while len(found := self.log(event, **fields)) < count:
            left = deadline - time.monotonic()
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert left > 0 and not ended, (
                f"no log line {event} {fields} (number {count}); "
                f"exit code {self.process.poll()}\n{self.log_text()}")
            with self._changed:
                self._changed.wait(min(left, 0.05))
        return found[count - 1]

    def log_text(self):
        with self._changed:
            return "".join(self._raw[-60:])

    # --- callers ---------------------------------------------------------------------------------
    def get(self, target, headers=(), **options):
        return ask(self.port, "GET", target, headers, **options)

    def post(self, target, headers=(), body=b"", **options):
        return ask(self.port, "POST", target, headers, body, **options)

    def connect(self, **options):
        return Connection(self.port, **options)

    def ask_later(self, *arguments, **named):
        """A request in a thread of its own."""
        return Later(lambda: ask(self.port, *arguments, **named))

    # --- what happened ---------------------------------------------------------------------------
    def journal(self, event="request", **fields):
        """What reached the agent."""
        try:
            with open(self.journal_path, encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
        except FileNotFoundError:
            return []
        wanted = fields | {"event": event}
        return [line for line in lines if all(line.get(k) == v for k, v in wanted.items())]

    def wait_journal(self, count=1, **fields):
        return wait_for(lambda: len(found := self.journal(**fields)) >= count and found,
                        f"{fields} in the agent's journal")[-1]

    def agent_pid(self):
        return self.journal("start")[-1]["pid"]

    def cli_json(self, *words):
        done = run_cli(*words, "--store", self.store, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def incidents(self, fault=None):
        found = self.cli_json("incident", "list")
        return [incident for incident in found if fault in (None, incident["fault"])]

    def wait_incident(self, fault, status="closed", count=1, wait_s=WAIT_S):
        """The count-th incident of that kind, once it has that status."""
        def found():
            matching = [i for i in self.incidents(fault) if i["status"] == status]
            return matching[count - 1] if len(matching) >= count else None
        return wait_for(found, f"incident {fault} {status}; there are: "
                        f"{[(i['fault'], i['status']) for i in self.incidents()]}", wait_s)

    def snapshots(self):
        listing = self.cli_json("snapshot", "list")
        return listing["snapshots"] if isinstance(listing, dict) else listing

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="latin-1") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Later:
    """A call that runs in a thread; result() waits for what it gives."""

    def __init__(self, call):
        self._call = call
        self._value = self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._call()
        except BaseException as error:  # handed over to the test
            self._error = error

    @property
    def done(self):
        return not self._thread.is_alive()

    def result(self, wait_s=60):
        self._thread.join(wait_s)
        assert self.done, f"no answer within {wait_s} s"
        if self._error:
            raise self._error
        return self._value
