"""The end of a pod that still has something to do: a request that takes long, an agent that goes on
calling out."""

import concurrent.futures
import json
import time

import agents
import patients
import pytest

SLOW_S, SHORT_GRACE_S = 8, 10
CALLS_OUT = 20


@pytest.fixture
def caller(kube, python_image):
    kube.apply(agents.caller(python_image))
    kube.wait_ready("caller")


def said(lines, key):
    return [each for each in map(json.loads, (line for line in lines if line.startswith("{")))
            if key in each]


def test_a_request_that_runs_at_sigterm_is_finished_once_within_a_short_grace(
        kube, caller, inject, python_image):
    inject(*patients.scripted("agent", python_image, grace_s=SHORT_GRACE_S))
    patients.wait_served(kube, "agent")
    with patients.Followed(kube, "agent") as output, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(agents.call, kube, f"http://agent/slow?{SLOW_S}", {})
        output.wait("the request has come", lambda lines: said(lines, "asked"))
        kube.delete("pod", "agent")
        assert slow.result()["status"] == 200, slow.result()
        kube.wait_gone("pod", "agent", 2 * SHORT_GRACE_S)
        assert len(said(output.lines, "asked")) == 1, "it was sent a second time"


def test_an_agent_may_call_out_for_as_long_as_it_ends_and_is_asked_nothing_new(
        kube, caller, inject, python_image):
    kube.apply(*patients.without_annotations(patients.scripted("tool", python_image)))
    wish = {"call": "http://tool/healthz", "seconds": CALLS_OUT}
    inject(*patients.scripted("agent", python_image, env={"AT_SIGTERM": json.dumps(wish)}))
    patients.wait_served(kube, "tool", "agent")
    address = kube.get("pod", "agent")["status"]["podIP"]
    with patients.Followed(kube, "agent") as output:
        kube.delete("pod", "agent")
        output.wait("SIGTERM", lambda lines: said(lines, "after_sigterm"))
        told_at = time.time()
        # Straight to the pod: its Service sends nobody there any more.
        answer = agents.try_call(kube, f"http://{address}:{agents.AGENT_PORT}/chat", {})
        assert answer is None or answer["status"] == 503, answer
        output.wait("all calls are made", lambda lines: len(
            said(lines, "after_sigterm")) == CALLS_OUT)
        kube.wait_gone("pod", "agent")
    outcomes = [each["after_sigterm"] for each in said(output.lines, "after_sigterm")]
    assert outcomes == [200] * CALLS_OUT, outcomes
    late = [each for each in said(output.lines, "asked") if each["at"] > told_at]
    assert late == [], "asked after it was told to end"
