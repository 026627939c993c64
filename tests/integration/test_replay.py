"""Callers lose nothing: what is sent again when the agent dies, what is not, and who is told."""

import os
import signal
import time

import pytest
from remora import Later, wait_for

KEY = {"Idempotency-Key": "k-1"}


def die_when_delivered(remora, **request):
    """Kills the agent once it has that request."""
    remora.wait_journal(**request)
    os.kill(remora.agent_pid(), signal.SIGKILL)


def test_get_in_flight_at_a_crash_is_answered_once_by_the_reborn_agent(remora):
    remora.start_ready()
    pid = remora.agent_pid()
    reply = remora.get("/crash?times=1&id=g")
    assert reply.status == 200
    assert reply.json()["pid"] != pid
    assert len(remora.journal(id="g")) == 2


def test_post_without_a_key_is_told_outcome_unknown_and_not_sent_again(remora):
    remora.start_ready()
    reply = remora.post("/crash?times=1&id=p", body=b"pay")
    assert (reply.status, reply.problem) == (502, "outcome-unknown")
    assert reply.header("content-type") == "application/problem+json"
    assert reply.json()["status"] == 502
    remora.wait_incident("crash")
    assert remora.get("/ok").status == 200
    assert len(remora.journal(id="p")) == 1


def test_post_with_a_key_is_sent_again_with_body_and_key(remora):
    remora.start_ready()
    reply = remora.post("/crash?times=1&id=k", KEY, b"pay once")
    assert reply.status == 200
    assert [entry["key"] for entry in remora.journal(id="k")] == ["k-1", "k-1"]


def test_post_declared_idempotent_is_sent_again(remora):
    remora.start_ready(config={"inbound": {"idempotent": [
        {"method": "POST", "pathPrefix": "/crash"}]}})
    assert remora.post("/crash?times=1&id=d", body=b"search").status == 200
    assert len(remora.journal(id="d")) == 2


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_put_and_delete_are_not_assumed_safe(remora, method):
    remora.start_ready()
    with remora.connect() as caller:
        reply = caller.ask(method, "/crash?times=1&id=u")
    assert (reply.status, reply.problem) == (502, "outcome-unknown")
    assert len(remora.journal(id="u")) == 1


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_safe_methods_are_sent_again(remora, method):
    remora.start_ready()
    with remora.connect() as caller:
        assert caller.ask(method, "/crash?times=1&id=s").status == 200
    assert len(remora.journal(id="s")) == 2


def test_body_too_large_to_keep_is_not_sent_again(remora):
    remora.start_ready(config={"inbound": {"hold": {"replayBodyBytesMax": "1KiB"}}})
    reply = remora.post("/crash?times=1&id=b", KEY, b"x" * 4096)
    assert (reply.status, reply.problem) == (502, "outcome-unknown")
    assert len(remora.journal(id="b")) == 1


def test_kept_body_is_sent_again_whole(remora):
    remora.start_ready()
    body = os.urandom(100_000)
    later = remora.ask_later("POST", "/slow?s=1.5&id=w", KEY, body)
    die_when_delivered(remora, id="w")
    assert later.result().status == 200
    assert len(remora.journal(id="w")) == 2


def test_request_that_kills_the_agent_each_time_is_given_up(remora):
    remora.start_ready(config={"inbound": {"hold": {"replaysMax": 2}},
                               "healing": {"backoff": {"step": "10ms", "max": "10ms"}}})
    reply = remora.get("/crash?id=poison", wait_s=60)
    assert (reply.status, reply.problem) == (502, "replays-exhausted")
    assert len(remora.journal(id="poison")) == 3, "once and two repetitions"
    assert remora.get("/ok").status == 200


def test_no_replays_when_they_are_turned_off(remora):
    remora.start_ready(config={"inbound": {"hold": {"replaysMax": 0}}})
    assert remora.get("/crash?times=1&id=z").status == 502
    assert len(remora.journal(id="z")) == 1


def test_new_requests_wait_for_the_reborn_agent(remora):
    remora.start_ready(["--start-delay", 1.5])
    pid = remora.agent_pid()
    os.kill(pid, signal.SIGKILL)
    remora.wait_log("agent_exited")
    began = time.monotonic()
    later = [remora.ask_later("POST", f"/echo?id=new{n}", body=b"new") for n in range(10)]
    for reply in (one.result() for one in later):
        assert reply.status == 200
        assert reply.json()["pid"] != pid
    assert time.monotonic() - began > 1
    assert all(len(remora.journal(id=f"new{n}")) == 1 for n in range(10))


def test_request_waits_at_most_its_limit(remora):
    remora.start(["--start-delay", 30], config={"inbound": {"hold": {"wait": "1s"}}})
    began = time.monotonic()
    reply = remora.get("/ok")
    assert (reply.status, reply.problem) == (503, "agent-unavailable")
    assert 0.9 < time.monotonic() - began < 3
    assert int(reply.header("retry-after")) >= 1


def test_answer_that_broke_off_is_not_sent_again(remora):
    remora.start_ready()
    reply = remora.get("/crash-in-reply?id=half")
    assert not reply.complete
    remora.wait_incident("crash")
    assert len(remora.journal(id="half")) == 1


def test_callers_keep_their_connection_while_the_agent_is_reborn(remora):
    remora.start_ready()
    with remora.connect() as caller:
        before = caller.ask("GET", "/ok").json()["pid"]
        os.kill(before, signal.SIGKILL)
        assert caller.ask("GET", "/ok").json()["pid"] != before


def test_hang_repeats_what_is_safe_and_tells_the_rest(remora):
    remora.start_ready(config={"detection": {"hangWindow": "1s", "sampleInterval": "100ms"}})
    agent = remora.agent_pid()
    os.kill(agent, signal.SIGSTOP)
    get = remora.ask_later("GET", "/ok?id=get", wait_s=60)
    post = remora.ask_later("POST", "/echo?id=post", wait_s=60)
    # Asked to end, it is continued, and may still answer before it goes.
    assert get.result().status == 200
    assert remora.wait_incident("hang")["closed_reason"] == "recovered"
    assert remora.agent_pid() != agent
    assert post.result().status in (200, 502)
    assert len(remora.journal(id="post")) <= 1


def test_no_answer_is_lost_in_ten_kills_under_load(remora):
    """Every request has a key; each gets exactly one 200."""
    remora.start_ready(config={"healing": {
        "backoff": {"base": "0s", "step": "10ms", "max": "10ms"}, "budget": {"restartsMax": 100}}})
    stop = []

    def caller(worker):
        answers = []
        with remora.connect(wait_s=60) as connection:
            while not stop:
                number = len(answers)
                reply = connection.ask("POST", f"/echo?id={worker}-{number}",
                                       {"Idempotency-Key": f"{worker}-{number}"}, b"work")
                answers.append(reply and reply.status)
        return answers

    workers = [Later(lambda worker=worker: caller(worker)) for worker in range(4)]
    for count in range(1, 11):
        pid = wait_for(lambda: len(remora.journal("listening")) >= count and remora.agent_pid(),
                       "the next agent")
        served = len(remora.journal(pid=pid))
        wait_for(lambda: len(remora.journal(pid=pid)) > served + 5, "its work")
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(remora.journal("listening")) >= 11, "the last agent")
    stop.append(True)
    answers = [answer for worker in workers for answer in worker.result()]
    assert len(answers) > 50
    assert set(answers) == {200}
