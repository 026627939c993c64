"""Pods, Services and names across nodes; the API server's way to a webhook."""

import json

import pytest
import webhooks
from kube import container, pod, service

PAGE = "mkdir -p /tmp/www && hostname >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"


def web(name, image, node, **more):
    return pod(name, container("web", image, ["sh", "-c", PAGE], readinessProbe={
        "httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}), node=node, **more)


@pytest.mark.short
def test_a_service_reaches_pods_on_every_node_from_every_node(kube, nodes, tools_image):
    labels = {"app": "web"}
    names = [f"web-{node}" for node in nodes]
    kube.apply(service("web", 80, 8080),
               *(web(name, tools_image, node, labels=labels) for name, node in zip(names, nodes)))
    for name in names:
        kube.wait_ready(name)
    # By name, so that cluster DNS is part of it.
    ask = "for i in $(seq 20); do wget -qO- -T 5 http://web/ || echo failed; done | sort -u"
    for name in names:
        # A node learns a little later than the API server that a pod is Ready.
        kube.wait_for(f"{name} is answered by all and nobody else",
                      lambda: kube.run(name, "sh", "-c", ask).stdout.split(),
                      lambda answered: answered == sorted(names), seconds=30)


def test_a_pod_reaches_itself_by_its_service(kube, nodes, tools_image):
    kube.apply(service("web", 80, 8080), web("alone", tools_image, nodes[0], labels={"app": "web"}))
    kube.wait_ready("alone")
    kube.wait_for("its own answer",
                  lambda: kube.run("alone", "wget", "-qO-", "-T", "5", "http://web/", check=False).stdout,
                  lambda said: said == "alone\n", seconds=30)


def test_names_of_services_resolve_in_full_and_unknown_ones_do_not(kube, tools_image):
    kube.apply(service("named", 80, 8080),
               pod("asker", container("main", tools_image, ["sleep", "1000"])))
    kube.wait_ready("asker")
    address = kube.get("service", "named")["spec"]["clusterIP"]
    for name in ("named", f"named.{kube.namespace}.svc.cluster.local"):
        assert address in kube.wait_for(
            f"{name} resolves", lambda: kube.run("asker", "nslookup", name, check=False).stdout,
            lambda said: address in said, seconds=15)
    assert kube.run("asker", "nslookup", "no-such-name.default.svc.cluster.local.",
                    check=False).returncode != 0


def test_a_pod_reaches_the_api_server_as_its_service_account(kube, python_image):
    # The default account may do nothing, so it must be known and refused: 403, not 401.
    script = """
import os, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
request = urllib.request.Request(
    "https://kubernetes.default.svc/api/v1/namespaces/default/pods",
    headers={"Authorization": "Bearer " + open(folder + "token").read()})
try:
    urllib.request.urlopen(request, context=context, timeout=10)
except urllib.error.HTTPError as error:
    print(error.code)
"""
    kube.apply(pod("caller", container("main", python_image, ["python3", "-c", script]),
                   restartPolicy="Never"))
    assert kube.wait_done("caller")["status"]["phase"] == "Succeeded"
    assert kube.logs("caller", "main") == "403\n"


@pytest.mark.short
def test_the_api_server_calls_a_webhook_by_its_service(kube, everywhere, nodes, python_image,
                                                       tools_image, tmp_path):
    authority = webhooks.run(kube, python_image, tmp_path, [
        {"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}], node=nodes[1])
    everywhere.apply(webhooks.configuration(kube.namespace, authority, {"hooked": "yes"}))
    try:
        def annotations():
            """Of a pod that is only tried out. The API server learns of a webhook a little late."""
            tried = pod("tried", container("main", tools_image, ["true"]), labels={"hooked": "yes"})
            done = kube.kubectl("create", "--dry-run=server", "--output=json", "--filename=-",
                                stdin=json.dumps(tried), check=False)
            assert done.returncode == 0 or "failed calling webhook" in done.stderr, done.stderr
            return json.loads(done.stdout)["metadata"].get("annotations") if done.stdout else None

        assert kube.wait_for("the webhook has its say", annotations, seconds=30) == {"seen": "yes"}
        kube.delete("pod", "hook", "--now")
        kube.wait_gone("pod", "hook")
        refused = kube.kubectl("run", "refused", f"--image={tools_image}", "--labels=hooked=yes",
                               check=False)
        assert refused.returncode != 0 and "failed calling webhook" in refused.stderr
    finally:
        everywhere.delete("mutatingwebhookconfiguration", kube.namespace)
