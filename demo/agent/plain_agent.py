"""The demo's agent without PyPI: the surface of langgraph_agent.py from the standard library alone.

State: one SQLite database (WAL) under $REMORA_STATE_DIR. A turn is one transaction that writes its
number, its reply and its Idempotency-Key together, so the same key again finds the reply and has no
second effect. A turn that was interrupted left nothing behind and is simply run.

HTTP: POST /chat {"thread_id", "message"}, GET /healthz, GET /threads/ID, GET /events (SSE), and
for the demo POST /fault/{hang,deadlock,exit}.
"""

import argparse
import http.client
import json
import os
import queue
import socket
import sqlite3
import sys
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import faults

MODEL = "scripted-1"
BODY_BYTES_MAX = 1 << 20
MODEL_TIMEOUT_S = 10
KEEP_ALIVE_S = 300
SUBSCRIBER_EVENTS_MAX = 256
BUSY_TIMEOUT_S = 5
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count_words",
            "description": "Counts the words of a text.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
    }
]
SCHEMA = """
CREATE TABLE IF NOT EXISTS turns (
  thread_id TEXT NOT NULL, turn INTEGER NOT NULL, key TEXT NOT NULL, message TEXT NOT NULL,
  reply TEXT NOT NULL, PRIMARY KEY (thread_id, turn), UNIQUE (thread_id, key));
"""


class Model:
    """The model's client. One connection for each thread, made anew when it has gone stale."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._path = parts.path.rstrip("/") + "/chat/completions"
        self._local = threading.local()

    def complete(self, messages):
        body = json.dumps({"model": MODEL, "messages": messages, "tools": TOOLS})
        for attempt in (1, 2):
            try:
                return self._post(body)["choices"][0]["message"]
            except (http.client.HTTPException, ConnectionError):
                self._local.connection = None
                if attempt == 2:
                    raise

    def _post(self, body):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(*self._address, timeout=MODEL_TIMEOUT_S)
            self._local.connection = connection
        connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"the model answered {response.status}: {answer}")
        return answer


class Agent:
    """Runs turns, one at a time: the lock stands for the one writer that SQLite allows."""

    def __init__(self, state_dir, model_url):
        os.makedirs(state_dir, exist_ok=True)
        self._database = sqlite3.connect(
            os.path.join(state_dir, "conversations.sqlite"),
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_S,
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)
        self._model = Model(model_url)
        self.lock = threading.Lock()

    def chat(self, thread_id, message, key):
        with self.lock:
            row = self._database.execute(
                "SELECT turn, reply FROM turns WHERE thread_id = ? AND key = ?", (thread_id, key)
            ).fetchone()
            if row:
                return {"thread_id": thread_id, "replayed": True, "turn": row[0], "reply": row[1]}
            turn = self._turns(thread_id) + 1
            reply = self._answer(message, turn)
            with self._database:
                self._database.execute(
                    "INSERT INTO turns VALUES (?, ?, ?, ?, ?)",
                    (thread_id, turn, key, message, reply),
                )
            return {"thread_id": thread_id, "replayed": False, "turn": turn, "reply": reply}

    def history(self, thread_id):
        with self.lock:
            turns = self._turns(thread_id)
        return {"thread_id": thread_id, "turns": turns, "messages": 4 * turns}

    def _turns(self, thread_id):
        query = "SELECT coalesce(max(turn), 0) FROM turns WHERE thread_id = ?"
        return self._database.execute(query, (thread_id,)).fetchone()[0]

    def _answer(self, message, turn):
        """The model's answer, after the tool calls that it asks for."""
        messages = [{"role": "user", "content": message}]
        answer = self._model.complete(messages)
        messages.append(answer)
        for call in answer.get("tool_calls") or []:
            words = len(json.loads(call["function"]["arguments"])["text"].split())
            text = f"{words} words in turn {turn}"
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        if len(messages) > 2:
            answer = self._model.complete(messages)
        return answer["content"]


class Subscribers:
    """Those who listen to /events. A slow one loses events, not memory."""

    def __init__(self):
        self._queues = set()
        self._lock = threading.Lock()

    def publish(self, event):
        with self._lock:
            for waiting in self._queues:
                if not waiting.full():
                    waiting.put_nowait(event)

    def add(self):
        waiting = queue.Queue(SUBSCRIBER_EVENTS_MAX)
        with self._lock:
            self._queues.add(waiting)
        return waiting

    def remove(self, waiting):
        with self._lock:
            self._queues.discard(waiting)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    timeout = KEEP_ALIVE_S

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/healthz":
            self._send(200, {"status": "ok", "agent": "standard library", "pid": os.getpid()})
        elif self.path == "/events":
            self._send_events()
        elif self.path.startswith("/threads/"):
            thread_id = urllib.parse.unquote(self.path.removeprefix("/threads/"))
            self._send(200, self.server.agent.history(thread_id))
        else:
            self._send(404, {"error": f"nothing at {self.path}"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            self._send(413, {"error": f"more than {BODY_BYTES_MAX} bytes"})
            return
        body = self.rfile.read(length)
        if self.path == "/chat":
            self._chat(body)
        elif self.path.startswith("/fault/"):
            self._fault(self.path.removeprefix("/fault/"))
        else:
            self._send(404, {"error": f"nothing at {self.path}"})

    def _chat(self, body):
        try:
            wanted = json.loads(body)
            thread_id, message = str(wanted["thread_id"]), str(wanted["message"])
        except (ValueError, KeyError, TypeError):
            self._send(400, {"error": "wanted: thread_id and message"})
            return
        key = self.headers.get("Idempotency-Key") or uuid.uuid4().hex
        reply = self.server.agent.chat(thread_id, message, key)
        self.server.subscribers.publish({"thread_id": thread_id, "turn": reply["turn"]})
        self._send(200, reply | {"pid": os.getpid()})

    def _fault(self, kind):
        if kind == "hang":
            with self.server.agent.lock:  # with it every other turn stands still too
                faults.hang()
        elif kind == "deadlock":
            faults.MutexDeadlock().wait_for_ever()
        elif kind == "exit":
            faults.leave()
        self._send(404, {"error": f"no fault named {kind}"})

    def _send(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _send_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        waiting = self.server.subscribers.add()
        try:
            self._send_chunk(b": here\n\n")
            while True:
                self._send_chunk(f"event: turn\ndata: {json.dumps(waiting.get())}\n\n".encode())
        finally:
            self.server.subscribers.remove(waiting)

    def _send_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, agent):
        super().__init__(address, Handler)
        self.agent = agent
        self.subscribers = Subscribers()

    def handle_error(self, request, client_address):
        """A caller that went away is its own affair; anything else is worth a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, socket.timeout)):
            print(f"agent: {error!r}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container of its own")
    parser.add_argument("--model-url", required=True, help="for example http://127.0.0.1:9000/v1")
    arguments = parser.parse_args()
    agent = Agent(os.environ["REMORA_STATE_DIR"], arguments.model_url)
    server = Server((arguments.host, arguments.port), agent)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
