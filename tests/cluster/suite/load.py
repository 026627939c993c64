"""Steady callers in the cluster (inside/steady_load.py), and what they saw of a fault."""

import dataclasses
import json
import os
import pathlib
import subprocess
import threading
import time

# kubectl's WebSockets lose a connection that is busy for minutes (a ping that comes too late).
ENVIRONMENT = {**os.environ, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
PROGRAM = pathlib.Path(__file__).resolve().parent / "inside/steady_load.py"
# The same rate for those that come back and for new ones.
REGULARS, RATE = 3, 3.0
# Longer than anything heals.
ANSWER_S = 120
WARM_UP_GOOD = 4 * REGULARS
STEADY_S = 30
STOP_S = 45
POLL_S = 0.05
# Longer than two good answers are ever apart.
SILENCE_S = 3


@dataclasses.dataclass(frozen=True)
class Seen:
    """silent_s: the longest time from one good answer to the next, the fault in between."""

    silent_s: float
    sent: int
    lost: int  # taken by somebody, and no good answer; or not even refused
    refused: int  # nobody took the connection: the caller knows that nothing was done
    problems: tuple

    def __str__(self):
        return f"{self.silent_s:.1f} s, {self.lost} lost and {self.refused} refused of {self.sent}"


class Load:
    """A context; leaving it ends the callers. Times are the caller's clock, seconds since the epoch."""

    def __init__(self, kube, host, port=80, path="/chat", counts_turns=True, caller="caller"):
        self._kube, self._caller = kube, caller
        self._wish = {"host": host, "port": port, "path": path, "counts_turns": counts_turns,
                      "regulars": REGULARS, "rate": RATE, "answer_s": ANSWER_S}
        self._lock = threading.Lock()
        self._requests, self._asked, self._answers = [], [], []

    def __enter__(self):
        self._process = subprocess.Popen(
            ["kubectl", f"--namespace={self._kube.namespace}", "exec", "--stdin", self._caller, "--",
             "python3", "-u", "-c", PROGRAM.read_text(), json.dumps(self._wish)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for("the first good answers", lambda: len(self._good()) >= WARM_UP_GOOD)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, leave_s=None):
        """leave_s: how long the last requests may take."""
        if not self._process.stdin.closed:
            if leave_s is not None:
                self._process.stdin.write(f"leave {leave_s}\n")
            self._process.stdin.close()
        self._process.wait(timeout=STOP_S)
        self._reader.join(STOP_S)

    def _read(self):
        for line in self._process.stdout:
            record = json.loads(line)
            kind = (self._requests if "began" in record
                    else self._asked if "asked" in record else self._answers)
            with self._lock:
                kind.append(record)

    def requests(self):
        with self._lock:
            return list(self._requests)

    def _good(self):
        return [each for each in self.requests() if not each["problem"]]

    def wait_for(self, what, holds, seconds=STEADY_S):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, (
                f"waited {seconds} s in vain: {what}; last: {self.requests()[-5:]}")
            time.sleep(POLL_S)

    def ask(self, path):
        """One POST more, without a key; when it was sent."""
        count = len(self._asked)
        self._process.stdin.write(path + "\n")
        self._process.stdin.flush()
        self.wait_for(f"{path} is asked", lambda: len(self._asked) > count)
        return self._asked[count]["at"]

    def answer(self, path):
        """To what was asked: {status, body, at}, or None so far."""
        with self._lock:
            return next((each for each in self._answers if each["answered"] == path), None)

    def wait_steady(self, since, seconds=STEADY_S):
        """Good answers again to requests that began after this moment."""
        self.wait_for("good answers again", lambda: sum(
            each["began"] >= since for each in self._good()) >= WARM_UP_GOOD, seconds)

    def seen(self, fault_at):
        """To be asked when the callers have stopped."""
        requests = self.requests()
        ends = sorted(each["ended"] for each in requests if not each["problem"])
        last = max(each["ended"] for each in requests)
        before = max((end for end in ends if end <= fault_at), default=fault_at)
        moments = [before, *(end for end in ends if end > fault_at)]
        # Callers that were still waiting when they were stopped.
        if moments[-1] < last - SILENCE_S:
            moments.append(last)
        silent = max((b - a for a, b in zip(moments, moments[1:])), default=0.0)
        since = [each for each in requests if each["ended"] >= fault_at]
        bad = sorted((each for each in since if each["problem"]), key=lambda one: one["refused"])
        refused = sum(each["refused"] for each in bad)
        return Seen(silent, len(since), len(bad) - refused, refused,
                    tuple(each["problem"] for each in bad[:10]))
