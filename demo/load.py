"""Steady load on the agent's conversations, and the check that no reply is wrong.

Each worker keeps one connection and a few conversations of its own and speaks to them in turn, one
request at a time; so it knows which turn number each reply must carry. A reply with another number
means that state was lost or that a request took effect twice. Nothing is ever sent a second time
from here: every request is tried once, and whatever isn't a right answer is counted as failed.
"""

import dataclasses
import http.client
import json
import threading
import time
import uuid

REPLY_TIMEOUT_S = 60
FAILURES_KEPT_MAX = 20
LATENCIES_KEPT_MAX = 1 << 16


@dataclasses.dataclass
class Conversation:
    """One thread of the agent, spoken to by one worker only."""

    name: str
    turn: int = 0  # the last turn that was answered
    # Set while a fault is looked at: the next answer that comes from another process than
    # watched_pid is the first one after healing.
    watched_pid: int = 0
    floor: int = 0  # turns that must have survived
    turn_before: int = 0
    turn_after: int | None = None  # turns that were still there at that first answer


@dataclasses.dataclass
class Totals:
    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    answered_from_state: int = 0  # second deliveries that the agent knew by their key
    lost_turns: int = 0


class Load:
    def __init__(self, port, rate, workers, conversations_each):
        self._port = port
        self._period = workers / rate
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.totals = Totals()
        self.failures = []  # texts, the first FAILURES_KEPT_MAX
        self.latencies = []
        self.agent_pid = 0
        self.in_flight = 0
        self._plans = [
            [Conversation(f"conversation-{w}-{c}") for c in range(conversations_each)]
            for w in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._work, args=(number, plan), daemon=True)
            for number, plan in enumerate(self._plans)
        ]

    @property
    def conversations(self):
        return [conversation for plan in self._plans for conversation in plan]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Lets each worker finish its request."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(REPLY_TIMEOUT_S)

    def turns(self):
        """Turns that were answered, by conversation."""
        with self._lock:
            return {c.name: c.turn for c in self.conversations}

    def watch(self, agent_pid, floors=None):
        """From now on, what does the first answer from another process than agent_pid say?

        floors: turns by conversation that must have survived; default: all that were answered.
        """
        with self._lock:
            for conversation in self.conversations:
                conversation.watched_pid = agent_pid
                conversation.turn_before = conversation.turn
                conversation.turn_after = None
                conversation.floor = -1 if floors is None else floors[conversation.name]

    def watched(self):
        """(turns before, turns after) of all conversations; None while some are not answered."""
        with self._lock:
            after = [c.turn_after for c in self.conversations]
            if None in after:
                return None
            return sum(c.turn_before for c in self.conversations), sum(after)

    def snapshot_totals(self):
        with self._lock:
            return dataclasses.replace(self.totals)

    def _work(self, number, plan):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REPLY_TIMEOUT_S)
        next_at = time.monotonic() + self._period * number / len(self._plans)
        turn = 0
        while not self._stopping.wait(max(0.0, next_at - time.monotonic())):
            self._speak(connection, plan[turn % len(plan)])
            turn += 1
            # After an outage go on at the same pace instead of making up for what was missed.
            next_at = max(next_at + self._period, time.monotonic())
        connection.close()

    def _speak(self, connection, conversation):
        message = f"message {conversation.turn + 1} to {conversation.name}"
        body = json.dumps({"thread_id": conversation.name, "message": message})
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        with self._lock:
            self.totals.sent += 1
            self.in_flight += 1
        began_at = time.monotonic()
        try:
            connection.request("POST", "/chat", body, headers)
            response = connection.getresponse()
            text = response.read()
            problem = self._check(conversation, response.status, text)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            connection.close()  # opened again by the next request
            problem = f"{conversation.name}: {type(error).__name__}: {error}"
        with self._lock:
            self.in_flight -= 1
            if problem:
                self.totals.failed += 1
                self.failures = (self.failures + [problem])[:FAILURES_KEPT_MAX]
            else:
                self.totals.succeeded += 1
                if len(self.latencies) < LATENCIES_KEPT_MAX:
                    self.latencies.append(time.monotonic() - began_at)

    def _check(self, conversation, status, text):
        """What is wrong with a reply; None when nothing is."""
        if status != 200:
            return f"{conversation.name}: {status} {text[:200].decode(errors='replace')}"
        reply = json.loads(text)
        turn, wanted = reply["turn"], conversation.turn + 1
        with self._lock:
            self.agent_pid = reply["pid"]
            self.totals.answered_from_state += reply["replayed"]
            first_after = conversation.watched_pid not in (0, reply["pid"])
            if first_after:
                conversation.watched_pid = 0
                conversation.turn_after = turn - 1
            elif conversation.watched_pid != 0:
                conversation.turn_before = turn  # the ill agent still answers, and these count too
            conversation.turn = turn
            if turn == wanted:
                return None
            if first_after and 0 <= conversation.floor < turn < wanted:
                self.totals.lost_turns += wanted - turn
                return None
        return f"{conversation.name}: turn {turn} instead of {wanted}"
