"""An agent that misbehaves on request: the integration tests' upstream. Standard library, raw
sockets, one thread for each connection.

The path of a request picks the behaviour (HttpConnection's methods named do_*), its query the
parameters. Each request that arrives is written to the journal (a file of JSON lines) before
anything else happens, so that a test can count deliveries: what was sent twice, what never came.

    hostile_agent.py --port N --journal FILE [--mode http|banner|echo|half-close] [...]
"""

import argparse
import base64
import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

HEAD_BYTES_MAX = 1 << 20
PIECE_BYTES = 64 * 1024
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FOR_EVER_S = 3600
PR_SET_NAME = 15


class Journal:
    """Appended to with one write each, so that lines survive the death that may follow."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR)
        self._path = path

    def write(self, **fields):
        line = json.dumps({"pid": os.getpid(), "at": time.time()} | fields) + "\n"
        os.write(self._fd, line.encode())

    def count(self, **fields):
        with open(self._path, encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines]
        return sum(all(entry.get(k) == v for k, v in fields.items()) for entry in entries)


class Request:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ")
        self.headers = [tuple(line.split(":", 1)) for line in lines[1:] if line]
        self.headers = [(name.lower(), value.strip()) for name, value in self.headers]
        parts = urllib.parse.urlsplit(self.target)
        self.path = parts.path
        self.query = dict(urllib.parse.parse_qsl(parts.query))

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)

    def number(self, name, default):
        return type(default)(self.query.get(name, default))


class HttpConnection:
    def __init__(self, stream, agent):
        self._socket = stream
        self._agent = agent
        self._buffer = b""

    def serve(self):
        while True:
            self._socket.settimeout(self._agent.options.idle_close or None)
            try:
                head = self._read_head()
            except socket.timeout:
                return
            if head is None:
                return
            self._socket.settimeout(None)
            request = Request(head)
            number = self._agent.count_request()
            self._agent.journal.write(
                event="request", method=request.method, target=request.target, path=request.path,
                id=request.query.get("id"), key=request.header("idempotency-key"), number=number)
            name = "do_" + request.path.strip("/").split("/")[0].replace("-", "_")
            if getattr(self, name, self.do_missing)(request) == "close":
                return
            if request.header("connection") == "close":
                return

    # --- reading ---------------------------------------------------------------------------------
    def _fill(self):
        data = self._socket.recv(PIECE_BYTES)
        self._buffer += data
        return len(data)

    def _read_head(self):
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEAD_BYTES_MAX or self._fill() == 0:
                return None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    def _take(self, count):
        while len(self._buffer) < count:
            if self._fill() == 0:
                raise ConnectionError("the body was cut off")
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _line(self):
        while b"\r\n" not in self._buffer:
            if self._fill() == 0:
                raise ConnectionError("the body was cut off")
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _pieces(self, request):
        """The request's body, piece by piece; trailers are kept in request.trailers."""
        request.trailers = []
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(self._line().split(b";")[0], 16):
                yield self._take(size)
                self._take(2)
            while line := self._line():
                request.trailers.append(line.decode("latin-1"))
            return
        left = int(request.header("content-length") or 0)
        while left > 0:
            piece = self._take(min(left, PIECE_BYTES))
            left -= len(piece)
            yield piece

    # --- writing ---------------------------------------------------------------------------------
    def _send(self, data):
        self._socket.sendall(data)

    def _reply(self, body, status="200 OK", headers=()):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self._send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def _chunk(self, data):
        self._send(b"%x\r\n%s\r\n" % (len(data), data))

    def _drain(self, request):
        return sum(len(piece) for piece in self._pieces(request))

    # --- well-behaved ----------------------------------------------------------------------------
    def do_missing(self, request):
        self._drain(request)
        self._reply({"error": "no such behaviour"}, "404 Not Found")

    def do_ok(self, request):
        self._drain(request)
        self._reply({"pid": os.getpid(), "path": request.target})

    def do_echo(self, request):
        body = b"".join(self._pieces(request))
        self._reply({
            "method": request.method, "target": request.target, "headers": request.headers,
            "body": body.decode("latin-1"), "trailers": request.trailers, "pid": os.getpid()})

    def do_digest(self, request):
        """Length and hash of the body, however large."""
        digest, length = hashlib.sha256(), 0
        for piece in self._pieces(request):
            digest.update(piece)
            length += len(piece)
        self._reply({"bytes": length, "sha256": digest.hexdigest()})

    def do_health(self, request):
        """200, or 503 while the file named by --sick-file is there."""
        self._drain(request)
        sick = self._agent.options.sick_file
        if sick and os.path.exists(sick):
            self._reply({"status": "sick"}, "503 Service Unavailable")
        else:
            self._reply({"status": "ok"})

    def do_env(self, request):
        self._drain(request)
        self._reply({k: v for k, v in os.environ.items() if k.startswith(("REMORA", "TEST_"))})

    def do_status(self, request):
        self._drain(request)
        self._reply(b"" if request.number("empty", 0) else b"x",
                    f"{request.number('code', 200)} As Asked")

    def do_no_content(self, request):
        self._drain(request)
        self._send(b"HTTP/1.1 204 No Content\r\n\r\n")

    def do_head(self, request):
        self._drain(request)
        self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")

    def do_write(self, request):
        """Writes the body to a file of the state directory."""
        body = b"".join(self._pieces(request))
        path = os.path.join(os.environ["REMORA_STATE_DIR"], request.query["name"])
        with open(path, "wb") as file:
            file.write(body)
        self._reply({"bytes": len(body)})

    # --- dying -----------------------------------------------------------------------------------
    def do_crash(self, request):
        """Dies by SIGKILL, or ?code=N; ?times=N: only on the first N deliveries of ?id."""
        self._drain(request)
        times = request.number("times", 1 << 30)
        if self._agent.journal.count(event="request", id=request.query.get("id")) > times:
            self._reply({"pid": os.getpid(), "id": request.query.get("id")})
            return
        if request.number("s", 0.0):
            time.sleep(request.number("s", 0.0))
        if "code" in request.query:
            os._exit(int(request.query["code"]))
        os.kill(os.getpid(), signal.SIGKILL)

    def do_crash_in_reply(self, request):
        """Dies with half of the reply sent."""
        self._drain(request)
        self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    def do_close(self, request):
        """Closes without an answer and lives on."""
        self._drain(request)
        return "close"

    def do_spawn(self, request):
        """Starts children: one in the group, one in a session of its own."""
        self._drain(request)
        child = [sys.executable, "-c", f"import time; time.sleep({FOR_EVER_S})"]
        near = subprocess.Popen(child)
        far = subprocess.Popen(child, start_new_session=True)
        self._reply({"children": [near.pid, far.pid]})

    # --- standing still --------------------------------------------------------------------------
    def do_slow(self, request):
        self._drain(request)
        time.sleep(request.number("s", 1.0))
        self._reply({"pid": os.getpid(), "id": request.query.get("id")})

    def do_hang(self, request):
        self._drain(request)
        time.sleep(FOR_EVER_S)

    def do_busy(self, request):
        """Uses the CPU for ?s seconds."""
        self._drain(request)
        until = time.monotonic() + request.number("s", 1.0)
        while time.monotonic() < until:
            pass
        self._reply({"pid": os.getpid()})

    def do_deadlock(self, request):
        self._drain(request)
        deadlock(("tool-writer", "memory-writer"))

    def do_call(self, request):
        """Asks the server at ?port and awaits its answer: a dependency."""
        self._drain(request)
        with socket.create_connection(("127.0.0.1", request.number("port", 0))) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: dependency\r\n\r\n")
            answer = peer.recv(PIECE_BYTES)
        self._reply({"answer": answer.decode("latin-1")})

    def do_leak(self, request):
        """Takes ?mb of memory and touches it."""
        self._drain(request)
        hoard = []
        for _ in range(request.number("mb", 1)):
            hoard.append(b"x" * (1 << 20))
        self._reply({"mb": len(hoard)})

    def do_flood(self, request):
        """Prints ?lines lines of ?bytes each."""
        self._drain(request)
        line = b"y" * request.number("bytes", 100) + b"\n"
        for _ in range(request.number("lines", 1000)):
            os.write(1, line)
        self._reply({"pid": os.getpid()})

    # --- bad HTTP --------------------------------------------------------------------------------
    def do_early(self, request):
        """Answers ?code after the head, reads nothing, and closes."""
        self._reply(b"too much", f"{request.number('code', 413)} Early", ["Connection: close"])
        self._socket.shutdown(socket.SHUT_WR)
        time.sleep(request.number("s", 0.5))
        return "close"

    def do_expect(self, request):
        """401 without asking for the body."""
        self._reply(b"who are you", "401 Unauthorized", ["Connection: close"])
        return "close"

    def do_continue(self, request):
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._reply({"bytes": self._drain(request)})

    def do_trailers(self, request):
        self._drain(request)
        self._send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        self._chunk(b"hello ")
        self._chunk(b"world")
        self._send(b"0\r\nX-Sum: 42\r\n\r\n")

    BAD_REPLIES = {
        "status": b"HTTP/1.1 abc What\r\n\r\n",
        "no-status": b"hello there, this is no HTTP\r\n\r\n",
        "both-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"
                        b"\r\n3\r\nabc\r\n0\r\n\r\n",
        "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        "nul": b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n",
        "short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    }

    def do_bad(self, request):
        self._drain(request)
        self._send(self.BAD_REPLIES[request.query["kind"]])
        return "close"

    # --- streams ---------------------------------------------------------------------------------
    def do_drip(self, request):
        """?n bytes, one each ?s seconds."""
        self._drain(request)
        count = request.number("n", 5)
        self._send(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
        for number in range(count):
            time.sleep(request.number("s", 0.05))
            self._send(b"%d" % (number % 10))

    def do_huge(self, request):
        self._drain(request)
        left = request.number("bytes", 1 << 20)
        self._send(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
        piece = bytes(range(256)) * (PIECE_BYTES // 256)
        while left > 0:
            self._send(piece[:left])
            left -= len(piece)

    def do_endless(self, request):
        self._drain(request)
        self._send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while True:
                self._chunk(b"z" * PIECE_BYTES)
                sent += PIECE_BYTES
        finally:
            self._agent.journal.write(event="endless-ended", sent=sent)

    def do_sse(self, request):
        """?n events, ?s seconds apart, ?quiet seconds of silence before the last."""
        self._drain(request)
        self._send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                   b"Transfer-Encoding: chunked\r\n\r\n")
        count = request.number("n", 3)
        for number in range(count):
            if number > 0:
                last = number == count - 1
                time.sleep(request.number("quiet", 0.0) if last and "quiet" in request.query
                           else request.number("s", 0.1))
            self._chunk(f"id: {number}\ndata: {time.time()}\n\n".encode())
        self._send(b"0\r\n\r\n")

    def do_websocket(self, request):
        """Upgrades, then echoes bytes as they come (the frames are the test's affair)."""
        key = request.header("sec-websocket-key") or ""
        accept = base64.b64encode(hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()).decode()
        self._send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").encode())
        self._send(self._buffer)
        while data := self._socket.recv(PIECE_BYTES):
            self._send(data)
        return "close"


def deadlock(names):
    """Two threads on two pthread mutexes in opposite order; waits for them for ever."""
    libc = ctypes.CDLL(None)
    mutexes = [(ctypes.c_uint64 * 10)() for _ in names]
    both_hold_one = threading.Barrier(len(names))

    def lock_in_order(name, mine):
        libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        libc.pthread_mutex_lock(mutexes[mine])
        both_hold_one.wait()
        libc.pthread_mutex_lock(mutexes[1 - mine])

    threads = [threading.Thread(target=lock_in_order, args=(name, n), daemon=True)
               for n, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Agent:
    def __init__(self, options):
        self.options = options
        self.journal = Journal(options.journal)
        self._requests = 0
        self._lock = threading.Lock()

    def count_request(self):
        with self._lock:
            self._requests += 1
            return self._requests

    def run(self):
        listener = socket.create_server(("127.0.0.1", self.options.port), backlog=128)
        self.journal.write(event="listening")
        while True:
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        modes = {"http": lambda s: HttpConnection(s, self).serve(), "banner": self._banner,
                 "echo": self._echo, "half-close": self._half_close}
        with stream:
            try:
                modes[self.options.mode](stream)
            except ConnectionError as error:
                self.journal.write(event="connection-lost", error=str(error))

    def _banner(self, stream):
        """Speaks first, as SMTP and MySQL do, then echoes."""
        stream.sendall(b"220 agent ready\r\n")
        self._echo(stream)

    def _echo(self, stream):
        while data := stream.recv(PIECE_BYTES):
            stream.sendall(data)
        self.journal.write(event="end-of-input")

    def _half_close(self, stream):
        """Reads to the end, then answers."""
        received = b""
        while data := stream.recv(PIECE_BYTES):
            received += data
        self.journal.write(event="end-of-input")
        time.sleep(self.options.delay)
        stream.sendall(b"got %d bytes" % len(received))


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--mode", default="http")
    parser.add_argument("--idle-close", type=float, default=0, help="seconds; 0: never")
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--start-delay", type=float, default=0)
    parser.add_argument("--exit-at-start", type=int, help="code")
    parser.add_argument("--exit-starts", type=int, default=1 << 30, help="only the first so many")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--term-delay", type=float, default=0, help="seconds from SIGTERM to end")
    parser.add_argument("--sick-file")
    return parser.parse_args()


def main():
    options = parse_options()
    agent = Agent(options)
    agent.journal.write(event="start")
    print("agent starts", flush=True)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        def on_sigterm(*_):
            agent.journal.write(event="sigterm")
            time.sleep(options.term_delay)
            os._exit(0)
        signal.signal(signal.SIGTERM, on_sigterm)
    if options.exit_at_start is not None:
        if agent.journal.count(event="start") <= options.exit_starts:
            print("cannot open the model, giving up", file=sys.stderr, flush=True)
            os._exit(options.exit_at_start)
    time.sleep(options.start_delay)
    agent.run()


if __name__ == "__main__":
    main()
