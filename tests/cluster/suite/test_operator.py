"""The operator in the cluster: pods are created plainly, and what the webhook adds to them, or can't."""

import contextlib
import json
import time

import pytest
from kube import container, deployment, is_ready, pod, service, status_of
from operators import (ASKS, CREATED_S, FOUND_S, LABEL, MANIFESTS, NAMESPACE, RECORD, events_of,
                       is_injected, metrics_of)
from workloads import PORT, caller, wait_fetched, web

HEALTH_PORT = 15020


def ready_of(kube, name, replicas):
    """The pods of a Deployment once so many are Ready."""
    return kube.wait_for(
        f"{replicas} Ready pods of {name}",
        lambda: [each for each in kube.list("pods", f"app={name}") if is_ready(each)],
        lambda pods: len(pods) == replicas)


@pytest.mark.short
def test_the_webhook_adds_remora_to_the_pods_of_a_deployment_that_asks(kube, operator, tools_image):
    before = operator.asked()
    kube.apply(service("web", 80, PORT), caller(tools_image), deployment("web", 2, web(
        tools_image, annotations={"remora.dev/hang-window": "45s"})))
    pods = ready_of(kube, "web", 2)
    for each in pods:
        assert is_injected(each)
        assert [one["name"] for one in each["spec"]["initContainers"]] == [
            "remora-intercept", "remora"]
        for name in ("remora", "web"):
            assert status_of(each, name)["restartCount"] == 0
    kube.wait_ready("caller")
    wait_fetched(kube, "http://web/")
    through = [metrics_of(kube, each["metadata"]["name"], HEALTH_PORT) for each in pods]
    assert any(value > 0 for metrics in through for name, value in metrics.items()
               if name.startswith("remora_http_requests_total"))
    after = operator.asked()
    assert after["injected"] - before["injected"] == 2
    assert all(after[other] == before[other] for other in ("skipped", "refused"))


def test_the_webhook_is_never_asked_about_other_pods(kube, everywhere, operator, tools_image):
    everywhere.kubectl("label", "namespace", kube.namespace, f"{LABEL}=enabled")
    before = operator.asked()
    kube.apply(deployment("declines", 2, web(tools_image, "declines", labels={LABEL: "false"})))
    everywhere.kubectl("label", "namespace", kube.namespace, f"{LABEL}-")
    kube.apply(deployment("silent", 2, web(tools_image, "silent", labels={})))
    for name in ("declines", "silent"):
        assert not any(is_injected(each) for each in ready_of(kube, name, 2))
    assert operator.asked() == before


def test_pods_of_a_namespace_that_asks_are_asked_about_by_one_webhook(kube, everywhere, operator,
                                                            tools_image):
    everywhere.kubectl("label", "namespace", kube.namespace, f"{LABEL}=enabled")
    before = operator.asked()
    kube.apply(web(tools_image, "silent", labels={}), web(tools_image, "asks"))
    for name in ("silent", "asks"):
        assert is_injected(kube.wait_ready(name))
    after = operator.asked()
    assert after["injected"] - before["injected"] == 2
    # Neither by way of the other webhook, nor once more because the API server itself had something to
    # add to the new containers (the account's token).
    assert after["unchanged"] == before["unchanged"]


def sidecar_images(kube, count):
    """By the names of the pods, once so many are Ready."""
    return {each["metadata"]["name"]: each["spec"]["initContainers"][1]["image"]
            for each in ready_of(kube, "web", count)}


def test_the_sidecars_version_follows_a_partitioned_rollout(own_cluster, kube, operator, tools_image):
    """A pod that is made anew in the middle of a rollout gets what its own revision names, not what
    the installation or the other half has."""
    del own_cluster  # whose nodes know the image by both names
    old, new = operator.image, operator.image.removeprefix("docker.io/library/")
    assert old != new

    def half_rolled_out(image):
        made = deployment("web", 4, web(tools_image, annotations={"remora.dev/image": image}))
        made["kind"] = "StatefulSet"
        made["spec"] |= {"podManagementPolicy": "Parallel", "updateStrategy": {
            "type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
        return made
    kube.apply(half_rolled_out(old))
    assert set(sidecar_images(kube, 4).values()) == {old}
    kube.apply(half_rolled_out(new))
    wanted = {"web-0": old, "web-1": old, "web-2": new, "web-3": new}
    kube.wait_for("half of the pods are new", lambda: sidecar_images(kube, 4),
                  lambda images: images == wanted)
    before = {name: kube.get("pod", name)["metadata"]["uid"] for name in wanted}
    for name in ("web-0", "web-3"):
        kube.kubectl("delete", "pod", name, "--wait=false")
    kube.wait_for("two pods made anew", lambda: [
        name for name in before if (kube.get("pod", name) or {"metadata": {"uid": before[name]}})[
            "metadata"]["uid"] != before[name]], lambda names: names == ["web-0", "web-3"])
    assert sidecar_images(kube, 4) == wanted


def test_a_wrong_annotation_is_answered_at_creation_with_its_name_and_the_mend(kube, operator,
                                                                               tools_image):
    wrong = web(tools_image, annotations={"remora.dev/hang-windw": "45s"})
    refused = kube.kubectl("create", "--filename=-", stdin=json.dumps(wrong), check=False)
    assert refused.returncode != 0
    assert "remora.dev/hang-windw" in refused.stderr
    assert "did you mean remora.dev/hang-window" in refused.stderr
    assert kube.get("pod", "web") is None


# --- while the webhook can't be asked -------------------------------------------------------------

@contextlib.contextmanager
def no_replica(operator, own, nodes):
    del own, nodes
    with operator.away():
        yield


@contextlib.contextmanager
def packets_dropped(operator, own, nodes):
    """Whoever calls the webhook gets no answer, not even a refusal."""
    if own is None:
        pytest.skip("drops packets on the nodes: only on the cluster of ./dev cluster")
    rules = ["nft add table inet lost",
             "nft 'add chain inet lost ways { type filter hook forward priority -300; }'",
             "nft add rule inet lost ways tcp dport 9443 drop"]
    for name in nodes:
        own.machine(name).script(rules)
    try:
        yield
    finally:
        for name in nodes:
            own.machine(name).script(["nft delete table inet lost"])
        operator.wait_ready()


def created_in(kube, thing):
    """Seconds that the creation took."""
    began = time.monotonic()
    kube.kubectl("create", "--filename=-", stdin=json.dumps(thing))
    return time.monotonic() - began


@pytest.mark.parametrize("lose", [no_replica, packets_dropped])
def test_pods_are_created_while_the_webhook_is_down_and_told_of_later(
        lose, kube, everywhere, operator, own_cluster_or_none, nodes, tools_image, report_table):
    system = pod("tried-by-remora-tests", container("main", tools_image, ["true"]), labels=ASKS)
    system["metadata"]["namespace"] = "kube-system"
    assert operator.total("remora_operator_uninjected_pods") == 0
    before = {each["metadata"]["uid"] for each in operator.pods()}
    with lose(operator, own_cluster_or_none, nodes):
        took = {"of the system": created_in(everywhere, system),
                "not labelled": created_in(kube, web(tools_image, "silent", labels={})),
                "labelled": created_in(kube, web(tools_image, "missed"))}
        everywhere.delete("pod", system["metadata"]["name"], "--namespace=kube-system", "--now")
        if lose is packets_dropped:
            operator.kube.delete("pod", operator.ready_pods()[0])
        else:
            operator.kube.kubectl("scale", "deployment/remora-operator", "--replicas=1")
        began = time.monotonic()
        operator.kube.wait_for("the operator's own pod is created", lambda: {
            each["metadata"]["uid"] for each in operator.pods()} - before)
        took["the operator's own"] = time.monotonic() - began
    report_table(f"Pods created while the webhook is down ({lose.__name__}), seconds",
                 {kind: f"{seconds:.2f}" for kind, seconds in took.items()})
    assert max(took.values()) < CREATED_S, took
    for name in ("silent", "missed"):
        assert not is_injected(kube.wait_ready(name))

    told = kube.wait_for("an Event of the pod that was missed",
                         lambda: events_of(kube, "RemoraMissing"), bool, FOUND_S)
    assert list(told) == ["missed"]
    assert "Delete the pod" in told["missed"]
    operator.kube.wait_for("a replica counts one", lambda: operator.metrics(), lambda replicas: any(
        each["remora_operator_uninjected_pods"] == 1 for each in replicas), FOUND_S)
    kube.delete("pod", "missed")
    kube.wait_gone("pod", "missed")
    kube.apply(web(tools_image, "missed"))
    assert is_injected(kube.wait_ready("missed"))
    operator.kube.wait_for("nothing is missed any more", lambda: operator.total(
        "remora_operator_uninjected_pods"), lambda count: count == 0, FOUND_S)


def test_a_namespace_that_would_rather_have_no_pod_than_one_without(kube, everywhere, operator,
                                                                    tools_image):
    whole = everywhere.kubectl("kustomize", MANIFESTS / "overlays/fail-closed").stdout
    everywhere.kubectl("apply", "--filename=-", stdin=operator.with_image(whole))
    everywhere.kubectl("label", "namespace", kube.namespace, "remora.dev/failure-policy=fail")
    lenient = f"{kube.namespace}-lenient"
    everywhere.kubectl("create", "namespace", lenient)
    try:
        operator.wait_ready()
        assert len(operator.bundles()) == 4
        with operator.away():
            refused = everywhere.kubectl(
                "create", f"--namespace={kube.namespace}", "--dry-run=server", "--filename=-",
                stdin=json.dumps(web(tools_image)), check=False)
            assert refused.returncode != 0 and "failed calling webhook" in refused.stderr
            silent = web(tools_image, "silent", labels={})
            assert created_in(kube, silent) < CREATED_S
            everywhere.kubectl("create", f"--namespace={lenient}", "--dry-run=server",
                               "--filename=-", stdin=json.dumps(web(tools_image)))
        kube.apply(web(tools_image))
        assert is_injected(kube.wait_ready("web"))
    finally:
        everywhere.delete("namespace", lenient)
        operator.install()
    assert len(operator.bundles()) == 2 and all(operator.bundles())


# --- pods that are left alone ----------------------------------------------------------------------

def created(kube, thing, *words):
    """The pod that a creation would leave, and what the API server had to say to its creator."""
    done = kube.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", *words,
                        stdin=json.dumps(thing))
    return json.loads(done.stdout), done.stderr


def test_a_pod_of_the_nodes_network_is_admitted_unchanged_with_a_warning(kube, operator,
                                                                         tools_image):
    made, said = created(kube, web(tools_image, hostNetwork=True))
    assert not is_injected(made) and "initContainers" not in made["spec"]
    assert RECORD not in made["metadata"].get("annotations", {})
    assert "Warning: remora: " in said and "hostNetwork" in said


@pytest.mark.parametrize("namespace", ["kube-system", NAMESPACE])
def test_pods_of_the_system_are_left_alone_whatever_their_labels(namespace, everywhere, operator,
                                                                 tools_image):
    before = operator.asked()
    made, said = created(everywhere, web(tools_image), f"--namespace={namespace}")
    assert not is_injected(made) and "remora" not in said
    assert operator.asked() == before


def test_a_pod_whose_annotations_are_full_is_admitted_unchanged_with_a_warning(kube, operator,
                                                                               tools_image):
    full = {"example.com/notes": "n" * (262144 - 100)}
    made, said = created(kube, web(tools_image, annotations=full))
    assert not is_injected(made) and made["metadata"]["annotations"] == full
    assert "Warning: remora: " in said and "262144" in said
    # Room for the record, and it is added.
    made, said = created(kube, web(tools_image, annotations={"example.com/notes": "n" * 240_000}))
    assert is_injected(made)
