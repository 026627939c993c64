"""Runs as an agent: answers /healthz and /chat, and can be told to fail.

Where $REMORA_STATE_DIR/fail-starts holds a number, so many starts end with code 3 at once. POST
/fault/loop?N writes that number and ends the process; POST /slow?S answers after S seconds; POST
/call?URL asks there first. At SIGTERM it does what $AT_SIGTERM says: see at_sigterm().
"""

import http.server
import json
import os
import signal
import sys
import threading
import time
import urllib.request

STATE = os.environ["REMORA_STATE_DIR"]
FAIL_STARTS = os.path.join(STATE, "fail-starts")
STARTED_AT = time.time()
FAILURE_CODE = 3


def fail_if_told():
    try:
        with open(FAIL_STARTS, encoding="utf-8") as file:
            left = int(file.read())
    except (OSError, ValueError):
        return
    if left > 0:
        with open(FAIL_STARTS, "w", encoding="utf-8") as file:
            file.write(str(left - 1))
        print("cannot open the model, giving up", file=sys.stderr, flush=True)
        sys.exit(FAILURE_CODE)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, **fields):
        body = json.dumps({"pid": os.getpid(), "started_at": STARTED_AT, **fields}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(status="ok")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, number = self.path.partition("?")
        print(json.dumps({"asked": self.path, "at": time.time()}), flush=True)
        if path == "/fault/loop":
            with open(FAIL_STARTS, "w", encoding="utf-8") as file:
                file.write(number)
            os._exit(FAILURE_CODE)
        if path == "/slow":
            time.sleep(float(number))
        if path == "/call":
            with urllib.request.urlopen(number, data=b"{}", timeout=60) as answer:
                answer.read()
        self.reply(path=self.path)


def at_sigterm(wish):
    """{"call": URL, "seconds": N}: calls out every second for so long, prints each outcome, ends."""
    for _ in range(wish.get("seconds", 0)):
        try:
            with urllib.request.urlopen(wish["call"], timeout=5) as answer:
                outcome = answer.status
        except OSError as error:
            outcome = repr(error)
        print(json.dumps({"after_sigterm": outcome, "at": time.time()}), flush=True)
        time.sleep(1)
    os._exit(0)


fail_if_told()
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
server.daemon_threads = True
wish = json.loads(os.environ.get("AT_SIGTERM", "{}"))
signal.signal(signal.SIGTERM,
              lambda *_: threading.Thread(target=at_sigterm, args=(wish,), daemon=True).start())
server.serve_forever(poll_interval=0.1)
