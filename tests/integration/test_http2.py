"""HTTP/2 with prior knowledge, from curl, nghttp and frame by frame (python3-h2)."""

import json
import shutil
import signal
import socket
import subprocess
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from remora import Later, wait_for

WAIT_S = 15


class Http2Caller:
    """One HTTP/2 connection under the test's control."""

    def __init__(self, port, auto_window=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8",
                                           validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.auto_window = auto_window
        self.events = []
        self.closed = False
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, method, path, headers=(), end=True):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [
            (":method", method), (":path", path), (":scheme", "http"), (":authority", "agent"),
            *headers], end_stream=end)
        self.flush()
        return stream

    def pump(self):
        """Reads once and takes the events."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and self.auto_window:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        try:
            self.flush()
        except OSError:  # it has closed its side; what it said before is still to be read
            pass

    def wait(self, kind, stream=None, wait_s=WAIT_S):
        """The first such event (of that stream); None when the connection ends before."""
        deadline = time.monotonic() + wait_s
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
            if self.closed:
                return None
            assert time.monotonic() < deadline, f"waited {wait_s} s for {kind.__name__}"
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.pump()

    def reply(self, stream, wait_s=WAIT_S):
        """(status, headers, body) of a finished stream."""
        self.wait(h2.events.StreamEnded, stream, wait_s)
        mine = [e for e in self.events if getattr(e, "stream_id", None) == stream]
        head = next(e for e in mine if isinstance(e, h2.events.ResponseReceived))
        headers = dict(head.headers)
        body = b"".join(e.data for e in mine if isinstance(e, h2.events.DataReceived))
        return int(headers[":status"]), headers, body


def test_curl_with_prior_knowledge(remora):
    remora.start_ready()
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}",
         "-d", "a body", f"http://127.0.0.1:{remora.port}/echo"],
        capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    body, last = done.stdout.rsplit("\n", 1)
    assert last == "2 200"
    assert json.loads(body)["body"] == "a body"


@pytest.mark.skipif(not shutil.which("nghttp"), reason="needs nghttp2-client")
def test_nghttp_with_many_streams(remora):
    remora.start_ready()
    url = f"http://127.0.0.1:{remora.port}/ok"
    done = subprocess.run(["nghttp", "-nsa", "-m", "50", url], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0, done.stderr
    assert len(remora.journal(path="/ok")) == 51


def test_streams_of_one_connection_do_not_wait_for_each_other(remora):
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        slow = caller.begin("GET", "/slow?s=3&id=slow")
        quick = caller.begin("GET", "/ok")
        began = time.monotonic()
        assert caller.reply(quick)[0] == 200
        assert time.monotonic() - began < 2
        assert json.loads(caller.reply(slow)[2])["id"] == "slow"


def test_stalled_stream_does_not_stop_the_others(remora):
    """Nobody reads stream A's megabyte; B is answered all the same."""
    remora.start_ready()
    with Http2Caller(remora.port, auto_window=False) as caller:
        # Room on the connection, none on the stream.
        caller.h2.increment_flow_control_window(4 << 20)
        caller.flush()
        caller.begin("GET", "/huge?bytes=1048576")
        caller.wait(h2.events.DataReceived)
        status, _, body = caller.reply(caller.begin("GET", "/ok"))
        assert status == 200 and json.loads(body)["path"] == "/ok"


def test_large_body_both_ways(remora):
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        status, _, body = caller.reply(caller.begin("GET", "/huge?bytes=3000000"), 30)
        assert status == 200 and len(body) == 3_000_000
        stream = caller.begin("POST", "/digest", [("content-length", "600000")], end=False)
        left = 600_000
        while left > 0:
            window = caller.h2.local_flow_control_window(stream)
            size = min(left, window, caller.h2.max_outbound_frame_size)
            if size == 0:
                caller.pump()
                continue
            left -= size
            caller.h2.send_data(stream, b"b" * size, end_stream=left == 0)
            caller.flush()
        assert json.loads(caller.reply(stream)[2])["bytes"] == 600_000


def test_cancelled_stream_is_cancelled_upstream_too(remora):
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        stream = caller.begin("GET", "/endless")
        caller.wait(h2.events.DataReceived, stream)
        caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        caller.flush()
        remora.wait_journal(event="endless-ended", count=1)
        assert caller.reply(caller.begin("GET", "/ok"))[0] == 200


def test_open_and_reset_flood_ends_with_goaway_and_harms_nobody(remora):
    remora.start_ready()
    before = remora.rss_bytes()
    with remora.connect() as other, Http2Caller(remora.port) as caller:
        caller.wait(h2.events.RemoteSettingsChanged)
        sender = Later(lambda: flood(caller))
        goaway = caller.wait(h2.events.ConnectionTerminated, wait_s=20)
        assert goaway is None or goaway.error_code in (
            h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, h2.errors.ErrorCodes.INTERNAL_ERROR)
        assert sender.result() < 20_000, "the flood was taken to its end"
        assert other.ask("GET", "/ok").status == 200
    assert remora.rss_bytes() - before < 32 << 20


def flood(caller):
    """20,000 HEADERS and RST_STREAM pairs, as fast as they are taken; how many went out."""
    raw = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    raw.initiate_connection()
    raw.data_to_send()
    block = raw.encoder.encode([(":method", "GET"), (":path", "/ok"), (":scheme", "http"),
                                (":authority", "a")], huffman=False)
    stream, sent = 1, 0
    try:
        while sent < 20_000:
            number = stream.to_bytes(4, "big")
            frames = len(block).to_bytes(3, "big") + b"\x01\x05" + number + block
            frames += b"\x00\x00\x04\x03\x00" + number + (8).to_bytes(4, "big")
            caller.socket.sendall(frames)
            stream, sent = stream + 2, sent + 1
    except OSError:
        pass
    return sent


def test_endless_continuation_is_cut_off(remora):
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        caller.wait(h2.events.RemoteSettingsChanged)
        frame_head = b"\x00\x00\x01\x01\x01" + (1).to_bytes(4, "big") + b"\x82"
        caller.socket.sendall(frame_head)
        with pytest.raises(OSError):
            for _ in range(2_000_000):
                caller.socket.sendall(b"\x00\x00\x00\x09\x00" + (1).to_bytes(4, "big"))
    assert remora.get("/ok").status == 200


def test_problem_is_told_over_http2_too(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"request": "500ms"}}})
    with Http2Caller(remora.port) as caller:
        status, headers, body = caller.reply(caller.begin("GET", "/slow?s=5"))
    assert status == 504
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["type"].endswith("/deadline-exceeded")


def test_grpc_timeout_gives_grpc_status_4(remora):
    remora.start_ready(config={"agent": {"appProtocol": "http1"}})
    with Http2Caller(remora.port) as caller:
        began = time.monotonic()
        status, headers, _ = caller.reply(caller.begin("POST", "/slow?s=5", [
            ("content-type", "application/grpc"), ("grpc-timeout", "200m"), ("te", "trailers")]))
        assert status == 200
        assert headers.get("grpc-status") == "4"
        assert time.monotonic() - began < 2


def test_drain_ends_http2_connections_with_goaway(remora):
    """By nghttp, because python3-h2 takes nothing more once it has seen a GOAWAY."""
    remora.start_ready()
    caller = subprocess.Popen(
        [shutil.which("nghttp"), "-v", f"http://127.0.0.1:{remora.port}/slow?s=1&id=last"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    remora.wait_journal(id="last")
    remora.signal(15)
    shown, _ = caller.communicate(timeout=WAIT_S)
    goaway, reply = shown.index("recv GOAWAY frame"), shown.index(":status: 200")
    assert goaway < reply, shown
    assert remora.wait() == 0

# --- WebSocket over HTTP/2 (RFC 8441) -------------------------------------------------------------
PING_FRAME = b"\x81\x84\x00\x00\x00\x00ping"


def open_websocket(caller, path="/websocket"):
    caller.wait(h2.events.RemoteSettingsChanged)
    code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
    assert caller.h2.remote_settings.get(code) == 1, "extended CONNECT is not announced"
    return caller.begin("CONNECT", path, [(":protocol", "websocket"),
                                          ("sec-websocket-version", "13")], end=False)


def received(caller, stream, size):
    """The stream's first bytes, once so many have come."""
    while True:
        data = b"".join(event.data for event in caller.events
                        if isinstance(event, h2.events.DataReceived) and event.stream_id == stream)
        if len(data) >= size:
            return data
        assert not caller.closed, f"closed after {len(data)} bytes"
        caller.socket.settimeout(WAIT_S)
        caller.pump()


def test_websocket_over_http2_reaches_an_agent_that_speaks_http1(remora):
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        stream = open_websocket(caller)
        headers = dict(caller.wait(h2.events.ResponseReceived, stream).headers)
        assert headers[":status"] == "200"
        assert "sec-websocket-accept" not in headers and "upgrade" not in headers
        for turn in range(1, 4):
            caller.h2.send_data(stream, PING_FRAME)
            caller.flush()
            assert received(caller, stream, turn * len(PING_FRAME)) == turn * PING_FRAME
        # Other requests of the connection go on beside it.
        assert caller.reply(caller.begin("GET", "/ok"))[0] == 200
        caller.h2.end_stream(stream)
        caller.flush()
        caller.wait(h2.events.StreamEnded, stream)


def test_websocket_over_http2_is_closed_when_the_drain_time_ends(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "1s"}}})
    with Http2Caller(remora.port) as caller:
        stream = open_websocket(caller)
        caller.wait(h2.events.ResponseReceived, stream)
        remora.signal(signal.SIGTERM)
        # Byte by byte: python3-h2 takes nothing more once it has seen a GOAWAY.
        caller.socket.settimeout(WAIT_S)
        rest = b"".join(iter(lambda: caller.socket.recv(65536), b""))
    close = b"\x88\x02\x03\xe9"  # Close, 1001
    ended_data = len(close).to_bytes(3, "big") + b"\x00\x01" + stream.to_bytes(4, "big")
    assert ended_data + close in rest, rest
    assert remora.wait() == 0


@pytest.mark.parametrize("path, status", [("/status?code=403", 403), ("/ok", 502)])
def test_agent_that_opens_no_websocket_opens_none_over_http2(remora, path, status):
    """A plain 200 would look like an open WebSocket to the caller."""
    remora.start_ready()
    with Http2Caller(remora.port) as caller:
        stream = open_websocket(caller, path)
        headers = dict(caller.wait(h2.events.ResponseReceived, stream).headers)
        assert int(headers[":status"]) == status
        assert caller.reply(caller.begin("GET", "/ok"))[0] == 200
