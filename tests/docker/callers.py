"""Callers of the agent: a steady stream of turns on a few conversations, each recorded with its times.

Every turn has an Idempotency-Key and is sent once; nothing is sent again from here. What was
answered must still be there at the end, once: `lost_or_doubled` asks the agent.
"""

import dataclasses
import http.client
import json
import select
import threading
import time
import uuid

REPLY_WAIT_S = 60
RATE_PER_S = 20
WORKERS = 4
RECORDS_KEPT_MAX = 1 << 16


@dataclasses.dataclass(frozen=True)
class Record:
    """One request: when it began and ended (monotonic), and what was wrong with it."""

    began_at: float
    ended_at: float
    problem: str | None


def ask(host, port, method, path, body=None, headers=None, wait_s=REPLY_WAIT_S):
    """(status, text) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=wait_s)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def answers(host, port):
    """Whether the agent says that it is well."""
    try:
        return ask(host, port, "GET", "/healthz", wait_s=2)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def closed_by_peer(connection):
    """An idle connection that can be read from has come to its end."""
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])


class Callers:
    def __init__(self, host, port):
        self.host, self._port = host, port
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._records = []
        self._answered = {}  # turns of each conversation that were answered
        self._unsure = {}  # how many requests of it have failed since
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True)
                         for number in range(WORKERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(REPLY_WAIT_S + 5)
            assert not thread.is_alive(), "a caller waits for ever"

    def records(self):
        with self._lock:
            return list(self._records)

    def failures(self):
        return [record.problem for record in self.records() if record.problem]

    def healed_at(self, since):
        """The end of the first good request that began after this moment, or None."""
        good = [r.ended_at for r in self.records() if r.began_at > since and not r.problem]
        return min(good, default=None)

    def silent_for(self):
        """Seconds since the last answer or failure."""
        return time.monotonic() - self.records()[-1].ended_at

    def cut_off(self):
        """Failures of requests that had been sent; one that found nobody listening is none."""
        nobody = ("ConnectionRefusedError", "OSError")
        return [problem for problem in self.failures() if not problem.startswith(nobody)]

    def failed_in_flight(self, moment):
        """Failures of requests that had begun by then."""
        return [r.problem for r in self.records() if r.began_at < moment and r.problem]

    def lost_or_doubled(self):
        """Conversations in which the agent remembers less than it answered, or more than that and what
        failed since: of a request without an answer nobody knows whether it was done."""
        wrong = []
        for name, turns in self._answered.items():
            status, text = ask(self.host, self._port, "GET", f"/threads/{name}")
            kept = json.loads(text)["turns"] if status == 200 else text
            if kept not in range(turns, turns + self._unsure.get(name, 0) + 1):
                wrong.append(f"{name}: answered {turns}, kept {kept}")
        return wrong

    def _work(self, number):
        connection = http.client.HTTPConnection(self.host, self._port, timeout=REPLY_WAIT_S)
        name = f"caller-{number}-{uuid.uuid4().hex[:8]}"
        period = WORKERS / RATE_PER_S
        next_at = time.monotonic() + period * number / WORKERS
        while not self._stopping.wait(max(0.0, next_at - time.monotonic())):
            self._speak(connection, name)
            next_at = max(next_at + period, time.monotonic())
        connection.close()

    def _speak(self, connection, name):
        body = json.dumps({"thread_id": name, "message": "how many words is this"})
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        began_at = time.monotonic()
        turn, problem = None, None
        try:
            if closed_by_peer(connection):
                connection.close()  # opened again by the next line, as every HTTP client does
            connection.request("POST", "/chat", body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status == 200:
                turn = json.loads(text)["turn"]
            else:
                problem = f"{response.status} {text[:120].decode(errors='replace')}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()  # opened again by the next request
            problem = f"{type(error).__name__}: {error}"
        with self._lock:
            if turn is not None:
                self._answered[name] = turn
            self._unsure[name] = self._unsure.get(name, 0) + 1 if problem else 0
            if len(self._records) < RECORDS_KEPT_MAX:
                self._records.append(Record(began_at, time.monotonic(), problem))
