"""A mutating webhook of the tests' own, in the namespace of a test: Python behind a Service, with a patch
that is fixed when it starts."""

import base64
import json

import certs
from kube import container, pod, service

WEBHOOK = """
import base64, http.server, json, os, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        patch = json.loads(os.environ["PATCH"])
        if os.environ["ONCE_FOR"] in json.dumps(request["object"]):
            patch = []
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


def run(kube, image, folder, patch, node=None, once_for="no such text"):
    """Starts it; its authority. Objects with the text once_for in them are left as they are."""
    certs.make_authority(folder, "ca")
    certs.make_certificate(folder, certs.Certificate(
        "hook", "/CN=hook", certs.SERVER, (f"DNS:hook.{kube.namespace}.svc",)))
    kube.kubectl("create", "secret", "tls", "hook", f"--cert={folder}/hook.crt",
                 f"--key={folder}/hook.key")
    kube.apply(service("hook", 443, 8443), pod(
        "hook", container("hook", image, ["python3", "-c", WEBHOOK], volumeMounts=[
            {"name": "tls", "mountPath": "/tls"}], readinessProbe={
                "httpGet": {"scheme": "HTTPS", "path": "/", "port": 8443}, "periodSeconds": 1},
            env=[{"name": "PATCH", "value": json.dumps(patch)},
                 {"name": "ONCE_FOR", "value": once_for}]),
        node=node, volumes=[{"name": "tls", "secret": {"secretName": "hook"}}]))
    kube.wait_ready("hook")
    return (folder / "ca.crt").read_bytes()


def configuration(namespace, authority, labels, name=None, policy="Fail"):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name or namespace},
        "webhooks": [{
            "name": "pods.remora.test", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": policy, "timeoutSeconds": 5,
            "clientConfig": {"caBundle": base64.b64encode(authority).decode(), "service": {
                "name": "hook", "namespace": namespace, "port": 443, "path": "/"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                       "resources": ["pods"]}],
            "objectSelector": {"matchLabels": labels},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}
