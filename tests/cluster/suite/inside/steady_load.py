"""Runs in the caller's pod: steady callers of one agent, each request recorded as a line of JSON.

Regulars have a conversation and a connection each and speak one request at a time. Newcomers come at a
steady pace, whether or not the earlier ones were answered, each with a connection and a conversation of
its own. Every request has an Idempotency-Key and is sent once: nothing is sent again from here. A line
of standard input is one request more, its path (that is how faults are made); the end of standard input
is the end, after as many seconds for the last answers as the line `leave SECONDS` allows.
"""

import http.client
import json
import os
import select
import sys
import threading
import time
import uuid

LEAVE_S = 25
NEWCOMERS_MAX = 256

wish = json.loads(sys.argv[1])
stopping = threading.Event()
printing = threading.Lock()
in_flight = {}
# Of those: whose connection nobody has taken or refused yet.
connecting = set()


def tell(**fields):
    with printing:
        print(json.dumps(fields), flush=True)


def closed_by_peer(connection):
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])


class Caller:
    def __init__(self, name):
        self.name = f"{name}-{uuid.uuid4().hex[:8]}"
        self.turn, self.turns_unknown = 0, 0
        self.connection = http.client.HTTPConnection(wish["host"], wish["port"],
                                                     timeout=wish["answer_s"])

    def record(self):
        in_flight[self.name] = began = time.time()
        problem, refused = self.speak()
        in_flight.pop(self.name, None)
        tell(began=began, ended=time.time(), problem=problem, refused=refused)

    def speak(self):
        """What was wrong, or None; and whether nobody took the request at all."""
        body = json.dumps({"thread_id": self.name, "message": "how many words is this"})
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        if closed_by_peer(self.connection):
            self.connection.close()
        try:
            if self.connection.sock is None:
                connecting.add(self.name)
                try:
                    self.connection.connect()
                finally:
                    connecting.discard(self.name)
        except OSError as error:
            self.connection.close()
            return f"connect: {error!r}", True
        try:
            self.connection.request("POST", wish["path"], body, headers)
            response = self.connection.getresponse()
            return self.judge(response.status, response.read()), False
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.connection.close()
            self.turns_unknown += 1
            return repr(error), False

    def judge(self, status, text):
        if status != 200:
            self.turns_unknown += 1
            return f"{status} {text[:200].decode(errors='replace')}"
        if not wish["counts_turns"]:
            return None
        turn, last = json.loads(text)["turn"], self.turn
        unknown, self.turn, self.turns_unknown = self.turns_unknown, turn, 0
        if last < turn <= last + 1 + unknown:
            return None
        return f"turn {turn} after {last}"


def ask_once(path):
    tell(asked=path, at=time.time())
    connection = http.client.HTTPConnection(wish["host"], wish["port"], timeout=wish["answer_s"])
    try:
        connection.request("POST", path, b"{}")
        response = connection.getresponse()
        tell(answered=path, at=time.time(), status=response.status,
             body=response.read()[:500].decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        tell(answered=path, at=time.time(), status=0, body=repr(error))


def regular(number):
    caller = Caller(f"regular-{number}")
    next_at = time.monotonic() + number / wish["rate"]
    while not stopping.wait(max(0.0, next_at - time.monotonic())):
        caller.record()
        # After an outage go on at the same pace instead of making up for what was missed.
        next_at = max(next_at + wish["regulars"] / wish["rate"], time.monotonic())


def newcomers():
    def one():
        caller = Caller("newcomer")
        caller.record()
        caller.connection.close()

    while not stopping.wait(1 / wish["rate"]):
        if len(in_flight) < NEWCOMERS_MAX:
            threading.Thread(target=one, daemon=True).start()


for number in range(wish["regulars"]):
    threading.Thread(target=regular, args=(number,), daemon=True).start()
threading.Thread(target=newcomers, daemon=True).start()
leave_s = LEAVE_S
for line in sys.stdin:
    if line.startswith("leave "):
        leave_s = float(line.split()[1])
        continue
    threading.Thread(target=ask_once, args=(line.strip(),), daemon=True).start()
stopping.set()
leave_at = time.monotonic() + leave_s
while in_flight and time.monotonic() < leave_at:
    time.sleep(0.05)
for name, began in list(in_flight.items()):
    tell(began=began, ended=time.time(), refused=False,
         problem="neither taken nor refused" if name in connecting else "no answer yet")
os._exit(0)
