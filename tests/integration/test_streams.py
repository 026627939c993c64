"""Server-sent events, WebSockets and opaque TCP: streams whose silence is nobody's fault."""

import os
import signal
import socket
import time

import pytest
from remora import Later

# A masked text frame "ping" from a caller and the same unmasked from a server.
FRAME = b"\x81\x84\x00\x00\x00\x00ping"
# RFC 6455 section 5.5.1: FIN and opcode 8, two bytes of payload, the code.
CLOSE_GOING_AWAY = b"\x88\x02\x03\xe9"
EVENT_LATENCY_MAX_S = 0.05


def open_websocket(remora):
    caller = remora.connect()
    caller.send(b"GET /websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    reply = caller.reply()
    assert reply.status == 101
    assert reply.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert reply.header("upgrade").lower() == "websocket"
    return caller


def test_each_event_is_relayed_as_it_comes(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.request("GET", "/sse?n=10&s=0.1")
        assert dict(caller.head()[1])["content-type"] == "text/event-stream"
        latencies = []
        for _ in range(10):
            event = caller.chunk()
            sent_at = float(event.decode().split("data: ")[1])
            latencies.append(time.time() - sent_at)
        assert caller.chunk() == b""
    assert sorted(latencies)[len(latencies) // 2] < EVENT_LATENCY_MAX_S, latencies


def test_quiet_stream_is_neither_cut_nor_called_a_hang(remora):
    """The field's 90 s of silence, scaled: several times the hang window and the idle time."""
    remora.start_ready(config={
        "detection": {"hangWindow": "1s", "sampleInterval": "100ms"},
        "inbound": {"timeouts": {"idle": "1s", "request": "1s"}}})
    pid = remora.agent_pid()
    with remora.connect() as caller:
        caller.request("GET", "/sse?n=2&quiet=5")
        caller.head()
        assert caller.chunk() and caller.chunk(), "an event is missing"
        assert caller.chunk() == b""
    assert remora.agent_pid() == pid
    assert remora.incidents() == []


def test_caller_that_leaves_a_stream_ends_it_at_the_agent(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.request("GET", "/endless")
        assert caller.head()[0] == 200
    remora.wait_journal(event="endless-ended")


def test_websocket_carries_both_directions(remora):
    remora.start_ready()
    with open_websocket(remora) as caller:
        for _ in range(3):
            caller.send(FRAME)
            assert caller.exactly(len(FRAME)) == FRAME
        blob = os.urandom(1 << 20)
        caller.send(blob)
        assert caller.exactly(len(blob)) == blob


def test_quiet_websocket_is_not_called_a_hang(remora):
    remora.start_ready(config={"detection": {"hangWindow": "1s", "sampleInterval": "100ms"},
                               "inbound": {"timeouts": {"request": "1s"}}})
    with open_websocket(remora) as caller:
        assert not caller.is_closed_within(4)
        caller.socket.settimeout(10)
        caller.send(FRAME)
        assert caller.exactly(len(FRAME)) == FRAME
    assert remora.incidents() == []


def test_websocket_outlives_sigterm_until_its_caller_closes(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "20s"}}})
    with open_websocket(remora) as caller:
        remora.signal(signal.SIGTERM)
        remora.wait_log("stop_requested")
        assert not caller.is_closed_within(1)
        caller.socket.settimeout(10)
        caller.send(FRAME)
        assert caller.exactly(len(FRAME)) == FRAME
        assert remora.process.poll() is None
    assert remora.wait() == 0


def test_websocket_is_closed_when_the_drain_time_ends(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "1s"}}})
    with open_websocket(remora) as caller:
        remora.signal(signal.SIGTERM)
        assert caller.rest() == CLOSE_GOING_AWAY
    assert remora.wait() == 0


def test_websocket_in_the_middle_of_a_frame_is_cut_off_at_the_end_of_the_drain(remora):
    """A Close frame inside another frame would be taken for its payload."""
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "1s"}}})
    with open_websocket(remora) as caller:
        caller.send(FRAME[:-2])
        assert caller.exactly(len(FRAME) - 2) == FRAME[:-2]
        remora.signal(signal.SIGTERM)
        assert caller.rest() == b""
    assert remora.wait() == 0


def test_event_stream_ends_properly_at_the_end_of_the_drain(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"drain": "1s"}}})
    with remora.connect() as caller:
        caller.send(b"GET /sse?n=1000&s=0.2 HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"data:")
        remora.signal(signal.SIGTERM)
        assert caller.rest().endswith(b"0\r\n\r\n")
    assert remora.wait() == 0


def test_websocket_refused_by_the_agent_is_refused_to_the_caller(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"GET /status?code=403 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert caller.reply().status == 403


# --- opaque TCP ------------------------------------------------------------------------------------
TCP = {"inbound": {"protocol": "tcp"}}


def test_tcp_bytes_are_relayed_unchanged(remora):
    remora.start(["--mode", "echo"], config=TCP)
    with remora.connect() as caller:
        blob = os.urandom(3 << 20)
        sender = Later(lambda: caller.send(blob))
        assert caller.exactly(len(blob)) == blob
        sender.result()


def test_tcp_half_close_reaches_the_agent_and_its_late_reply_the_caller(remora):
    remora.start(["--mode", "half-close", "--delay", 1.5], config=TCP)
    with remora.connect() as caller:
        caller.send(b"x" * 1000)
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.rest() == b"got 1000 bytes"
    remora.wait_journal(event="end-of-input")


@pytest.mark.parametrize("protocol,limit_s", [("tcp", 0.5), ("auto", 3.0)])
def test_agent_that_speaks_first_is_heard(remora, protocol, limit_s):
    """Declared opaque: at once. To be detected: after the bounded wait, not ten seconds."""
    remora.start(["--mode", "banner"],
                 config={"inbound": {"protocol": protocol, "timeouts": {"detect": "1s"}}})
    remora.wait_journal(event="listening")
    # The first caller may have to wait for the agent's port to be seen.
    with remora.connect() as first:
        assert first.until(b"\r\n") == b"220 agent ready\r\n"
    with remora.connect() as caller:
        began = time.monotonic()
        assert caller.until(b"\r\n") == b"220 agent ready\r\n"
        assert time.monotonic() - began < limit_s
        caller.send(b"EHLO me\r\n")
        assert caller.until(b"\r\n") == b"EHLO me\r\n"


def test_unknown_protocol_is_detected_and_relayed(remora):
    remora.start(["--mode", "echo"])
    with remora.connect() as caller:
        caller.send(b"\x00\x01\x02binary\xff")
        assert caller.exactly(10) == b"\x00\x01\x02binary\xff"


def test_first_bytes_in_pieces_arrive_unchanged(remora):
    """A TLS hello in pieces, through a proxy that does not know TLS."""
    hello = b"\x16\x03\x01\x07\x00\x01\x00\x06\xfc\x03\x03" + os.urandom(1781)
    remora.start(["--mode", "echo"])
    with remora.connect() as caller:
        for start, end in ((0, 5), (5, 517), (517, 1400), (1400, len(hello))):
            caller.send(hello[start:end])
            time.sleep(0.1)  # the case: pieces far apart
        assert caller.exactly(len(hello)) == hello
