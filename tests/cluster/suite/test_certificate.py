"""The webhook's certificate changes hands while pods are being created, and its bundle is wiped."""

import base64
import json
import re
import time

import certs
import pytest
from admissions import FLOOR_NAME, Admissions, Floor, Proxy, webhook_latency
from operators import METRICS_PORT, SECRET, SERVER_NAME, metrics_of

# Of the issue: a certificate that was replaced is served within this time, without a restart.
SERVED_S = 60
# One look is 10 s.
WRITTEN_AGAIN_S = 20
# Of a hundred, on a machine that has much else to do.
KEPT_PER_S_MIN = 80
# What 99 of 100 admissions are to take at most. Both histograms have a bucket for it.
AIM_S = 0.005
EXPIRY = "remora_operator_certificate_expiry_timestamp_seconds"
WEBHOOK_BY_LABEL = "label.remora.dev"


@pytest.fixture
def proxy():
    with Proxy() as running:
        yield running


def new_identity(folder):
    """An authority and a certificate of it that the operator has never seen, as in its Secret."""
    certs.make_authority(folder, "ca")
    certs.make_certificate(folder, certs.Certificate(
        "tls", f"/CN={SERVER_NAME}", certs.SERVER, (f"DNS:{SERVER_NAME}",)))
    return {name: base64.b64encode((folder / name).read_bytes()).decode()
            for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")}


def expiries(operator):
    """{replica: when the certificate that it serves ends}"""
    return {name: metrics_of(operator.kube, name, METRICS_PORT)[EXPIRY]
            for name in operator.ready_pods()}


def restarts(operator):
    return {each["metadata"]["name"]: each["status"]["containerStatuses"][0]["restartCount"]
            for each in operator.pods()}


def test_a_replaced_certificate_is_served_without_a_restart_or_a_failed_admission(
        kube, operator, proxy, tmp_path, report_table):
    before, ran = expiries(operator), restarts(operator)
    identity = new_identity(tmp_path)
    with Admissions(proxy, kube.namespace, per_second=40) as load:
        kube.wait_for("the first pods", lambda: len(load.seconds), lambda count: count >= 100)
        began = time.monotonic()
        operator.kube.kubectl("patch", "secret", SECRET, "--type=merge",
                              f"--patch={json.dumps({'data': identity})}")
        operator.kube.wait_for(
            "every replica serves the new one", lambda: expiries(operator),
            lambda now: now.keys() == before.keys() and all(
                now[name] != before[name] for name in now), SERVED_S)
        took = time.monotonic() - began
        more = len(load.seconds) + 200
        kube.wait_for("further pods", lambda: len(load.seconds), lambda count: count >= more)
    report_table("Certificate and authority replaced under load", {
        "served by every replica after": f"{took:.1f} s",
        "pods tried out meanwhile": f"{len(load.seconds)}, failed {len(load.failures)}"})
    assert load.failures == []
    assert restarts(operator) == ran
    authority = base64.b64decode(identity["ca.crt"]).decode().strip()
    for bundle in operator.bundles():
        assert authority in base64.b64decode(bundle).decode()


def test_a_wiped_bundle_is_written_again(operator, report_table):
    good = operator.bundles()
    wipe = [{"op": "replace", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": ""}
            for index in range(len(good))]
    operator.everywhere.kubectl("patch", "mutatingwebhookconfiguration", "remora-webhook",
                                "--type=json", f"--patch={json.dumps(wipe)}")
    assert not any(operator.bundles())
    began = time.monotonic()
    operator.everywhere.wait_for("the bundles are back", operator.bundles, all, WRITTEN_AGAIN_S)
    report_table("caBundle wiped", {"written again after": f"{time.monotonic() - began:.1f} s"})
    assert set(operator.bundles()) == set(good)
    operator.everywhere.wait_for("pods are injected again", operator.answers)


@pytest.fixture
def floor(own_cluster_or_none, everywhere, tmp_path):
    """Where the tests run in the API server's own network."""
    if own_cluster_or_none is None:
        yield None
        return
    with Floor(everywhere, tmp_path) as running:
        yield running


def test_admissions_at_a_hundred_pods_a_second(kube, operator, proxy, floor, report_table):
    """The aim is 5 ms for 99 of 100 (a quiet machine, the release build): reported, beside what a webhook
    takes that does nothing. What is asserted is that the rate is kept, that each pod is injected, and that it is
    asked about once."""
    webhooks = [WEBHOOK_BY_LABEL, FLOOR_NAME] if floor else [WEBHOOK_BY_LABEL]
    before = {name: webhook_latency(proxy, name) for name in webhooks}
    with Admissions(proxy, kube.namespace, per_second=100, threads=16) as load:
        kube.wait_for("two thousand pods", lambda: len(load.seconds), lambda count: count >= 2000,
                      seconds=90)
    seen = {name: {bound: count - before[name].get(bound, 0)
                   for bound, count in sorted(webhook_latency(proxy, name).items())}
            for name in webhooks}
    total = seen[WEBHOOK_BY_LABEL][float("inf")]
    calls = sorted(load.seconds)
    report_table(f"Admission of {len(calls)} pods, {len(calls) / load.lasted_s:.0f} a second", {
        "the webhook, as the API server saw it": _quantiles(seen[WEBHOOK_BY_LABEL]),
        **({"a webhook that does nothing (nginx), as it saw it": _quantiles(seen[FLOOR_NAME])}
           if floor else {}),
        "the operator, from a whole review to its answer": _quantiles(_own_counts(operator)),
        "a creation, all that the API server does": {
            "p50": f"{calls[len(calls) // 2] * 1000:.1f} ms",
            "p99": f"{calls[len(calls) * 99 // 100] * 1000:.1f} ms"}},
        f"Tried out (dry run) through `kubectl proxy`; {total / len(calls):.2f} questions a pod, "
        f"{len(load.failures)} failures. All rows but the last are read from histograms.")
    assert load.failures == []
    assert total == len(calls), "the API server asked more than once about a pod"
    assert len(calls) / load.lasted_s > KEPT_PER_S_MIN


def _quantiles(counts):
    """counts: {upper bound in seconds: how many took no longer}"""
    total = counts[float("inf")]
    within = {f"p{share * 100:g}": f"≤ {1000 * min(b for b, n in counts.items() if n >= share * total):g} ms"
              for share in (0.5, 0.99)}
    return {**within, f"within {AIM_S * 1000:g} ms": f"{100 * counts[AIM_S] / total:.2f}%"}


def _own_counts(operator):
    """What the replicas measured since they began."""
    found = {}
    pattern = re.compile(r'remora_operator_admission_duration_seconds_bucket\{le="([^"]+)"\}')
    for replica in operator.metrics():
        for key, value in replica.items():
            if match := pattern.fullmatch(key):
                bound = float(match.group(1))
                found[bound] = found.get(bound, 0) + value
    return found
