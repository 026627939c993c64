"""HTTP/1.1 as callers and agents really speak it: the field cases of framing, early answers, limits
and connections that close at the wrong moment."""

import hashlib
import socket
import time

import pytest
from http1 import Connection
from remora import wait_for

CHUNKED_HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def test_both_length_headers_are_refused_and_nothing_reaches_the_agent(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED_HELLO +
                    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = caller.reply()
        assert reply.status == 400
        assert caller.reply() is None, "the connection must be closed"
    assert remora.journal(path="/echo") == []
    assert remora.journal(path="/smuggled") == []


@pytest.mark.parametrize("fields", [
    b"Content-Length: \r\n", b"Content-Length: 0,\r\n", b"Content-Length: +5\r\n",
    b"Content-Length: 5, 6\r\n", b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\t\r\n",
    b"Content-Length: -1\r\n", b"Content-Length: 0x5\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Content-Length : 5\r\n", b" Content-Length: 5\r\n",
])
def test_malformed_length_is_refused_and_nothing_reaches_the_agent(remora, fields):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"POST /echo HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\nhello")
        assert caller.reply().status == 400
        assert caller.is_closed_within(5)
    assert remora.journal(path="/echo") == []


@pytest.mark.parametrize("raw", [
    b"GET /ok HTTP/1.1\r\n\r\n",  # no Host (RFC 9112 section 3.2)
    b"GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /ok HTTP/1.1\r\nHost: a\r\nX-Nul: a\0b\r\n\r\n",
    b"GET /ok HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
    b"GET /ok HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /ok HTTP/9.9\r\nHost: a\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"ffffffffffffffff1\r\n",
])
def test_malformed_request_is_refused(remora, raw):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(raw)
        reply = caller.reply()
        assert reply.status in (400, 505), reply
        assert caller.is_closed_within(5)
    assert remora.get("/ok").status == 200


def test_body_of_a_refused_request_is_never_taken_for_a_request(remora):
    remora.start_ready(config={"inbound": {"limits": {"requestBodyBytesMax": "100KiB"}}})
    trap = b"GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"
    with remora.connect() as caller:
        body = trap * (200 * 1024 // len(trap))
        caller.request("POST", "/echo", body=body)
        assert caller.reply().status == 413
        try:
            caller.request("GET", "/ok")
            after = caller.reply()
        except OSError:
            after = None  # closed: as good an answer
        assert after is None or after.json()["path"] == "/ok"
    assert remora.journal(path="/trap") == []
    assert remora.journal(path="/echo") == []


def test_expect_100_continue_gets_the_agents_401_at_once(remora):
    remora.start_ready()
    with remora.connect(wait_s=5) as caller:
        caller.send(b"POST /expect HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
                    b"Expect: 100-continue\r\n\r\n")
        began = time.monotonic()
        assert caller.reply().status == 401
        assert time.monotonic() - began < 1


def test_expect_100_continue_is_passed_on_and_the_body_follows(remora):
    remora.start_ready()
    with remora.connect(wait_s=5) as caller:
        caller.send(b"POST /continue HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
                    b"Expect: 100-continue\r\n\r\n")
        status, _ = caller.head()
        assert status == 100
        caller.send(b"0123456789")
        assert caller.reply().json() == {"bytes": 10}


def test_reply_with_trailers_leaves_the_connection_usable(remora):
    remora.start_ready()
    with remora.connect() as caller:
        reply = caller.ask("GET", "/trailers")
        assert reply.body == b"hello world"
        assert reply.trailers in (["X-Sum: 42"], ["x-sum: 42"])
        assert caller.ask("GET", "/ok").status == 200


def test_request_with_trailers_arrives_intact(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                    b"Trailer: X-Sum\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\n\r\n")
        reply = caller.reply()
        assert reply.json()["body"] == "hello!"
        assert [trailer.lower() for trailer in reply.json()["trailers"]] == ["x-sum: 7"]
        assert caller.ask("GET", "/ok").status == 200


def test_agents_early_413_reaches_a_caller_that_still_sends_28_mb(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"POST /early?code=413 HTTP/1.1\r\nHost: a\r\n"
                    b"Content-Length: %d\r\n\r\n" % (28 << 20))
        try:
            for _ in range(28 * 16):
                caller.send(b"x" * 65536)
        except OSError:
            pass  # the proxy may stop reading; its answer must still be there
        reply = caller.reply()
        assert reply is not None, "the connection was reset before the answer"
        assert reply.status == 413
        assert reply.body == b"too much"


def test_header_block_above_the_limit_gets_431_and_close(remora):
    remora.start_ready()
    with remora.connect() as caller:
        try:
            caller.send(b"GET /ok HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 80_000 + b"\r\n\r\n")
        except OSError:
            pass
        assert caller.reply().status == 431
        assert caller.is_closed_within(5)
    assert len(remora.journal(path="/ok")) == 1, "only the first request of the test"


def test_idle_connection_closed_by_the_agent_never_fails_a_request(remora):
    """The agent closes after 300 ms; requests come just then."""
    remora.start_ready(["--idle-close", 0.3])
    with remora.connect() as caller:
        for _ in range(12):
            time.sleep(0.3)  # not a race hidden but the race sought
            assert caller.ask("GET", "/ok").status == 200


def test_post_on_a_connection_that_the_agent_just_closed_is_sent_once_or_told(remora):
    remora.start_ready(["--idle-close", 0.3])
    answers = []
    with remora.connect() as caller:
        for number in range(12):
            time.sleep(0.3)
            reply = caller.ask("POST", f"/echo?id={number}", body=b"once")
            answers.append((number, reply.status, reply.problem))
    for number, status, problem in answers:
        delivered = len(remora.journal(path="/echo", id=str(number)))
        assert status == 200 or (status, problem) == (502, "outcome-unknown"), answers
        assert delivered == 1 if status == 200 else delivered <= 1, answers


@pytest.mark.parametrize("kind", ["status", "no-status", "both-lengths", "two-lengths", "nul"])
def test_reply_that_breaks_http_becomes_502(remora, kind):
    remora.start_ready()
    reply = remora.get(f"/bad?kind={kind}")
    assert (reply.status, reply.problem) == (502, "upstream-protocol")
    assert remora.get("/ok").status == 200


@pytest.mark.parametrize("kind", ["bad-chunk", "short"])
def test_reply_that_breaks_off_is_visibly_incomplete(remora, kind):
    remora.start_ready()
    reply = remora.get(f"/bad?kind={kind}")
    assert reply is None or reply.status == 502 or not reply.complete
    assert remora.get("/ok").status == 200


def test_pipelined_requests_are_answered_in_order(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"".join(b"GET /ok?n=%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
        paths = [caller.reply().json()["path"] for _ in range(20)]
    assert paths == [f"/ok?n={n}" for n in range(20)]


def test_request_arriving_byte_by_byte_is_understood(remora):
    remora.start_ready()
    with remora.connect() as caller:
        for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc":
            caller.send(bytes([byte]))
        assert caller.reply().json()["body"] == "abc"


def test_head_and_no_content_have_no_body_and_keep_the_connection(remora):
    remora.start_ready()
    with remora.connect() as caller:
        reply = caller.ask("HEAD", "/head")
        assert (reply.status, reply.header("content-length")) == (200, "1000")
        assert caller.ask("GET", "/no-content").status == 204
        assert caller.ask("GET", "/ok").status == 200


def test_http_1_0_caller_gets_its_answer_and_the_end(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.send(b"GET /trailers HTTP/1.0\r\n\r\n")
        status, headers = caller.head()
        assert status == 200
        assert "transfer-encoding" not in dict(headers)
        assert caller.rest() == b"hello world"


def test_connection_close_is_kept(remora):
    remora.start_ready()
    with remora.connect() as caller:
        reply = caller.ask("GET", "/ok", {"Connection": "close"})
        assert reply.header("connection") == "close"
        assert caller.is_closed_within(5)


def test_hop_by_hop_fields_stay_on_their_hop(remora):
    remora.start_ready()
    with remora.connect() as caller:
        seen = dict(caller.ask("GET", "/echo", {
            "Connection": "keep-alive, X-Mine", "X-Mine": "1", "Keep-Alive": "timeout=5",
            "Proxy-Authorization": "secret", "X-Other": "2"}).json()["headers"])
    assert seen["x-other"] == "2"
    assert not {"x-mine", "keep-alive"} & set(seen)


def test_caller_that_shuts_its_write_side_still_gets_the_reply(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.request("GET", "/slow?s=1&id=half")
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.reply().json()["id"] == "half"


def test_large_body_streams_through_without_being_held(remora):
    remora.start_ready()
    piece, pieces = b"0123456789abcdef" * 4096, 1600  # 100 MiB
    before = remora.rss_bytes()
    with remora.connect(wait_s=60) as caller:
        caller.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
                    % (len(piece) * pieces))
        digest = hashlib.sha256()
        for _ in range(pieces):
            caller.send(piece)
            digest.update(piece)
        answer = caller.reply().json()
    assert answer == {"bytes": len(piece) * pieces, "sha256": digest.hexdigest()}
    assert remora.rss_bytes() - before < 16 << 20


def test_slow_reader_stops_the_agent_instead_of_filling_memory(remora):
    remora.start_ready()
    before = remora.rss_bytes()
    with remora.connect(receive_buffer=4096) as caller:
        caller.request("GET", "/endless")
        assert caller.head()[0] == 200
        until = time.monotonic() + 3
        while time.monotonic() < until:
            caller.exactly(1024)
            time.sleep(0.05)
        assert remora.rss_bytes() - before < 8 << 20
    ended = remora.wait_journal(event="endless-ended")
    assert ended["sent"] < 64 << 20


def test_slow_head_gets_408(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"headers": "500ms"}}})
    with remora.connect() as caller:
        caller.send(b"GET /ok HTTP/1.1\r\nHost: a\r\n")
        assert caller.reply().status == 408
        assert caller.is_closed_within(5)


def test_slow_body_gets_408(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"headers": "500ms"}}})
    with remora.connect() as caller:
        caller.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert caller.reply().status == 408
        assert caller.is_closed_within(5)


def test_idle_connection_is_closed_after_its_time(remora):
    remora.start_ready(config={"inbound": {"timeouts": {"idle": "1s"}}})
    with remora.connect() as caller:
        assert caller.ask("GET", "/ok").status == 200
        assert not caller.is_closed_within(0.5)
        assert caller.is_closed_within(5)


@pytest.mark.parametrize("by", ["configuration", "caller"])
def test_deadline_gives_504(remora, by):
    config = {"inbound": {"timeouts": {"request": "500ms"}}} if by == "configuration" else None
    remora.start_ready(config=config)
    headers = {"X-Request-Timeout": "0.5"} if by == "caller" else {}
    began = time.monotonic()
    reply = remora.get("/slow?s=10", headers)
    assert (reply.status, reply.problem) == (504, "deadline-exceeded")
    assert 0.4 < time.monotonic() - began < 3


def test_requests_above_the_limit_get_503_with_retry_after(remora):
    remora.start_ready(config={"inbound": {"limits": {"requestsInFlightMax": 2}}})
    held = [remora.ask_later("GET", f"/slow?s=2&id=h{n}") for n in range(2)]
    for number in range(2):
        remora.wait_journal(id=f"h{number}")
    reply = remora.get("/ok")
    assert (reply.status, reply.problem) == (503, "overloaded")
    assert int(reply.header("retry-after")) >= 1
    assert [later.result().status for later in held] == [200, 200]
    assert remora.get("/ok").status == 200


def test_connections_above_the_limit_wait_until_one_closes(remora):
    remora.start_ready(config={"inbound": {"limits": {"connectionsMax": 2}}})
    with remora.connect() as one, remora.connect() as two:
        assert one.ask("GET", "/ok").status == two.ask("GET", "/ok").status == 200
        with Connection(remora.port) as three:
            three.request("GET", "/ok?third=1")
            assert not three.is_closed_within(0.5)
            assert not [r for r in remora.journal(path="/ok") if "third" in r["target"]]
            two.close()
            three.socket.settimeout(15)
            assert three.reply().status == 200


def test_body_dripping_from_the_agent_arrives_as_it_comes(remora):
    remora.start_ready()
    with remora.connect() as caller:
        caller.request("GET", "/drip?n=4&s=0.3")
        assert caller.head()[0] == 200
        times = []
        for _ in range(4):
            assert len(caller.exactly(1)) == 1
            times.append(time.monotonic())
    assert all(later - earlier > 0.1 for earlier, later in zip(times, times[1:])), times


def test_agent_that_closes_without_an_answer(remora):
    remora.start_ready()
    reply = remora.post("/close?id=p")
    assert (reply.status, reply.problem) == (502, "outcome-unknown")
    assert len(remora.journal(id="p")) == 1


def test_caller_that_goes_away_frees_the_request(remora):
    remora.start_ready(config={"inbound": {"limits": {"requestsInFlightMax": 1}}})
    caller = remora.connect()
    caller.request("GET", "/slow?s=30&id=gone")
    remora.wait_journal(id="gone")
    caller.reset()
    wait_for(lambda: remora.get("/ok").status == 200, "room for another request", 5)
