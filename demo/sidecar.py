"""`remora run` as the demo uses it: started, listened to through its log, and asked by its own
command line."""

import dataclasses
import json
import os
import signal
import subprocess
import threading
import time

START_WAIT_S = 20
STOP_WAIT_S = 10
COMMAND_WAIT_S = 20
REQUEST_LINES_KEPT_MAX = 1 << 16


class SidecarError(Exception):
    """Remora did not do what was asked; the text says what it said."""


@dataclasses.dataclass
class RequestLine:
    """What the access log says about one request."""

    at: float  # seconds since the epoch, when it ended
    path: str
    status: int
    held_s: float
    replays: int


class Sidecar:
    def __init__(self, remora, directory, config, app_port, agent_command):
        self._remora = remora
        self.state_dir = os.path.join(directory, "state")
        self.store_dir = os.path.join(directory, "store")
        self.log_path = os.path.join(directory, "remora.log")
        os.makedirs(self.state_dir)
        self._listening = threading.Event()
        self.port = 0
        self.request_lines = []
        self._process = subprocess.Popen(
            [remora, "run", "-c", config, "--app-port", str(app_port), "--state", self.state_dir]
            + ["--store", self.store_dir, "--", *agent_command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo, which ends this one
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait_until_listening(self):
        """The port for callers. SidecarError when Remora ends or stays silent."""
        deadline = time.monotonic() + START_WAIT_S
        while not self._listening.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SidecarError(f"remora run did not begin to listen: {self.last_lines()}")
        return self.port

    def stop(self):
        """SIGTERM, then SIGKILL; the agent goes with it either way."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        self._reader.join(5)
        return code

    def incidents(self):
        return self._json("incident", "list")

    def take_snapshot(self):
        self._json("snapshot", "take")

    def snapshots(self):
        return self._json("snapshot", "list")

    def last_lines(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return " / ".join(line.strip()[:300] for line in log.readlines()[-3:])
        except OSError as error:
            return str(error)

    def _json(self, *words):
        command = [self._remora, *words, "--store", self.store_dir, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_WAIT_S)
        if done.returncode != 0:
            raise SidecarError(f"{' '.join(command)}: {done.stderr.strip()}")
        return json.loads(done.stdout or "null")

    def _read_log(self):
        with open(self.log_path, "w", encoding="utf-8") as log:
            for raw in self._process.stderr:
                text = raw.decode(errors="replace")
                log.write(text)
                log.flush()
                self._take_line(text)

    def _take_line(self, text):
        try:
            line = json.loads(text)
        except ValueError:
            return
        if not isinstance(line, dict):
            return
        if line.get("event") == "listening" and line.get("listener") == "inbound":
            self.port = int(line["address"].rsplit(":", 1)[1])
            self._listening.set()
        elif line.get("event") == "request" and len(self.request_lines) < REQUEST_LINES_KEPT_MAX:
            self.request_lines.append(
                RequestLine(
                    time.time(), line["path"], line["status"], line["held_s"], line["replays"]
                )
            )
