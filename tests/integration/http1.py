"""HTTP/1.1 by hand: what goes over the wire is exactly what the test says."""

import json
import socket
import struct
import time

REPLY_WAIT_S = 15
PIECE_BYTES = 64 * 1024


class Reply:
    def __init__(self, status, headers, body, trailers, complete):
        self.status = status
        self.headers = headers  # (lower-case name, value)
        self.body = body
        self.trailers = trailers
        self.complete = complete  # False: cut off before its end

    def header(self, name):
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        """The name of the problem that Remora reports; None when it reports none."""
        if self.header("content-type") != "application/problem+json":
            return None
        return self.json()["type"].rsplit("/", 1)[-1]

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r} complete={self.complete}>"


class Connection:
    """A caller's connection. Every read has a deadline."""

    def __init__(self, port, wait_s=REPLY_WAIT_S, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(wait_s)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes as a killed process does: with RST. A plain close may be a half-close."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method, target, headers=(), body=b""):
        """Sends a well-formed request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: agent"]
        lines += [f"{name}: {value}" for name, value in dict(headers).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def ask(self, method, target, headers=(), body=b""):
        self.request(method, target, headers, body)
        return self.reply(method)

    # --- reading ---------------------------------------------------------------------------------
    def fill(self):
        """Reads once more; False at the end of the stream (or a reset)."""
        try:
            data = self.socket.recv(PIECE_BYTES)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def until(self, mark):
        """Everything up to and with mark; None when the stream ends before."""
        while mark not in self._buffer:
            if not self.fill():
                return None
        end = self._buffer.index(mark) + len(mark)
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return data

    def exactly(self, count):
        """count bytes, or fewer when the stream ends before."""
        while len(self._buffer) < count and self.fill():
            pass
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def rest(self):
        while self.fill():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def head(self):
        """(status, headers) of the next reply; None when the connection ends instead."""
        raw = self.until(b"\r\n\r\n")
        if raw is None:
            return None
        lines = raw.decode("latin-1").split("\r\n")
        headers = [tuple(line.split(":", 1)) for line in lines[1:] if line]
        return int(lines[0].split(" ")[1]), [(k.lower(), v.strip()) for k, v in headers]

    def reply(self, method="GET"):
        """The next final reply; None when the connection ends before its head."""
        while True:
            head = self.head()
            if head is None:
                return None
            status, headers = head
            if status >= 200 or status == 101:
                break
        fields = dict(headers)
        if method == "HEAD" or status in (101, 204, 304):
            return Reply(status, headers, b"", [], True)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked(status, headers)
        if "content-length" in fields:
            length = int(fields["content-length"])
            body = self.exactly(length)
            return Reply(status, headers, body, [], len(body) == length)
        return Reply(status, headers, self.rest(), [], True)

    def chunk(self):
        """The next chunk's bytes; b"" for the last; None when cut off."""
        size_line = self.until(b"\r\n")
        if size_line is None:
            return None
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return b""
        data = self.exactly(size + 2)
        return data[:-2] if len(data) == size + 2 else None

    def _chunked(self, status, headers):
        body, trailers = b"", []
        while True:
            piece = self.chunk()
            if piece is None:
                return Reply(status, headers, body, trailers, False)
            if piece == b"":
                break
            body += piece
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return Reply(status, headers, body, trailers, False)
            if line == b"\r\n":
                return Reply(status, headers, body, trailers, True)
            trailers.append(line.decode("latin-1").strip())

    def is_closed_within(self, wait_s):
        """True when the peer ends the stream within wait_s; what comes before is dropped."""
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.fill():
                    return True
            except socket.timeout:
                return False
        return False


def ask(port, method, target, headers=(), body=b"", wait_s=REPLY_WAIT_S):
    """One request on a connection of its own."""
    with Connection(port, wait_s) as connection:
        return connection.ask(method, target, headers, body)
