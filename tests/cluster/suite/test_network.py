"""Pods, Services and names across nodes; the API server's way to a webhook."""

import base64
import json

import certs
import pytest
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


WEBHOOK = """
import base64, http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        patch = [{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]
        body = json.dumps({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
                "uid": request["uid"], "allowed": True, "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(patch).encode()).decode()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def webhook_configuration(namespace, authority):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "pods.remora.test", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "timeoutSeconds": 5,
            "clientConfig": {"caBundle": base64.b64encode(authority).decode(), "service": {
                "name": "hook", "namespace": namespace, "port": 443, "path": "/"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                       "resources": ["pods"]}],
            "objectSelector": {"matchLabels": {"hooked": "yes"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}


@pytest.mark.short
def test_the_api_server_calls_a_webhook_by_its_service(kube, everywhere, nodes, python_image,
                                                       tools_image, tmp_path):
    certs.make_authority(tmp_path, "ca")
    certs.make_certificate(tmp_path, certs.Certificate(
        "hook", "/CN=hook", certs.SERVER, (f"DNS:hook.{kube.namespace}.svc",)))
    kube.kubectl("create", "secret", "tls", "hook", f"--cert={tmp_path}/hook.crt",
                 f"--key={tmp_path}/hook.key")
    kube.apply(service("hook", 443, 8443), pod(
        "hook", container("hook", python_image, ["python3", "-c", WEBHOOK], volumeMounts=[
            {"name": "tls", "mountPath": "/tls"}], readinessProbe={
                "httpGet": {"scheme": "HTTPS", "path": "/", "port": 8443}, "periodSeconds": 1}),
        node=nodes[1], volumes=[{"name": "tls", "secret": {"secretName": "hook"}}]))
    kube.wait_ready("hook")
    everywhere.apply(webhook_configuration(kube.namespace, (tmp_path / "ca.crt").read_bytes()))
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
