"""Thousands of injected pods against a real API server: pods that no kubelet runs, made through the webhook.
Only with -m scale; what it measures goes to RESULTS-scale.md."""

import json
import statistics
import time

import audit as audits
import pytest
from admissions import Proxy
from bulk import Bulk, crash_looping
from kube import Kube
from operators import ASKS
from processes import OperatorProcess
from test_healing import healer, wait_led  # noqa: F401
from test_healing_ladder import policy

NAMESPACES, SAMPLES, IDLE_S = 10, 5, 60
SEEN_S, LED_S = 180, 120
# Bounds, with room for a busy machine; what is measured is published.
KIB_A_POD_MAX, CALLS_A_POD_MAX, FIRST_ACTION_S_MAX, COLD_S_MAX = 32, 0.5, 5, 60
TITLE = "Injected pods in 10 namespaces, one operator that heals"
MEANING = """\
Pods without a kubelet, made through the webhook and written Ready. *Memory a pod*: resident, of the replica that
heals, with them less without. *Calls*: to the API server, of both replicas together (watches count once): a pod while
all are made, and in a minute in which nothing happens. *First action*: from the status that shows the fault to its
Incident, and to the pod's end by eviction; the median of five. *Cold cache*: all replicas ended at once with a sick
pod there; from the start of the process that then heals to its lead, to the Incident, and what the lists in between took.
"""
ROWS = {}


@pytest.fixture(scope="module")
def table(report_table):
    yield ROWS
    report_table(TITLE, ROWS, MEANING)


@pytest.fixture
def spaces(everywhere, request):
    names = [f"scale-{request.node.callspec.params['count']}-{index}" for index in range(NAMESPACES)]
    for name in names:
        everywhere.kubectl("create", "namespace", name)
        Kube(name).apply(policy(budgets={"minHealthyPercent": 0}, ladders=[
            {"fault": "crash_loop", "steps": ["reschedule"]}]))
    yield names
    for name in names:
        everywhere.delete("namespace", name)
    for name in names:
        everywhere.wait_gone("namespace", name, SEEN_S)


def process_of(healer, own_cluster, name):
    return OperatorProcess(own_cluster, healer.kube.get("pod", name))


def counted(spaces):
    return sum(Kube(name).get("healingpolicy", "all").get("status", {}).get("pods", 0)
               for name in spaces)


@pytest.mark.scale
@pytest.mark.parametrize("count", [1000, 5000])
def test_this_many_injected_pods(count, healer, own_cluster, audit, everywhere, spaces, table):
    healer.wait_ready()
    name = wait_led(healer)
    process = process_of(healer, own_cluster, name)
    empty_kib, calls_before = process.memory_kib(), healer.total("remora_operator_api_requests")
    with Proxy() as proxy:
        bulks = [Bulk(proxy, space) for space in spaces]
        began = time.monotonic()
        for bulk in bulks:
            bulk.make_pods([f"p{index}" for index in range(count // NAMESPACES)],
                           {"app": "agent", **ASKS})
        made_s = time.monotonic() - began
        everywhere.wait_for("all are counted", lambda: counted(spaces), lambda seen: seen == count,
                            SEEN_S)
        assert healer.total("remora_operator_uninjected_pods") == 0
        made_calls = healer.total("remora_operator_api_requests") - calls_before
        full_kib, most_kib = process.memory_kib(), process.memory_kib("VmHWM")
        at = audits.now()
        time.sleep(IDLE_S)  # What nothing costs.
        idle = len(audit.requests(at))
        actions = [bulk.first_action("p0") for bulk in bulks[:SAMPLES]]
        assert wait_led(healer) == name, "all of it is of one process"
        cold = restarted_cold(healer, bulks[-1], proxy)
    opened, gone = (statistics.median(each) for each in zip(*actions))
    a_pod = (full_kib - empty_kib) / count
    table[f"{count} pods"] = {
        "made a second": f"{count / made_s:.0f}", "memory a pod KiB": f"{a_pod:.1f}",
        "memory MiB": f"{full_kib / 1024:.0f} (most {most_kib / 1024:.0f})",
        "calls a pod": f"{made_calls / count:.3f}", "calls a minute at rest": str(idle),
        "first action s": f"{opened:.2f}, gone {gone:.2f}",
        "cold cache s": "leads {leads:.2f}, acts {acts:.2f}, lists {lists:.2f}".format(**cold)}
    assert a_pod < KIB_A_POD_MAX
    assert made_calls / count < CALLS_A_POD_MAX
    assert opened < FIRST_ACTION_S_MAX
    assert cold["acts"] < COLD_S_MAX


def restarted_cold(healer, bulk, proxy):
    """Seconds from the process's first line."""
    with healer.away():
        connection = proxy.connection()
        bulk.set_status(connection, "p1", crash_looping())
        connection.close()
    name = wait_led(healer)
    healer.kube.wait_for("its Incident", lambda: events_of(healer, name), lambda seen: (
        "incident_opened" in seen), LED_S)
    at = events_of(healer, name)
    since = lambda event: (at[event] - at["first"]).total_seconds()  # noqa: E731
    return {"leads": since("leading"), "acts": since("incident_opened"),
            "lists": since("incident_opened") - since("leading")}


def events_of(healer, name):
    """When each was first logged."""
    at = {}
    for line in healer.kube.logs(name, "operator").splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            moment = audits.moment(said["time"])
            at.setdefault("first", moment)
            at.setdefault(said["event"], moment)
    return at
