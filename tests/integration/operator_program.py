"""`remora operator` under test, and the API server's side of the webhook: TLS that believes only the
caBundle, one AdmissionReview a call."""

import base64
import http.client
import json
import os
import socket
import ssl
import urllib.request

from remora import Remora, binary, wait_for

SERVER_NAME = "remora-webhook.remora-system.svc"
ANSWER_WAIT_S = 5


def pod(name="agent", namespace="default", **changes):
    """A pod that asks for Remora."""
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}",
                         "resourceVersion": "5", "labels": {"remora.dev/inject": "true"}},
            "spec": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000,
                                         "runAsNonRoot": True},
                     "containers": [{"name": "agent", "image": "agent:1",
                                     "ports": [{"containerPort": 8000}]}]},
            "status": {"phase": "Running"}} | changes


def review(thing, namespace="default"):
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                       "request": {"uid": "review-1", "namespace": namespace,
                                   "kind": {"group": "", "version": "v1", "kind": "Pod"},
                                   "operation": "CREATE", "object": thing}}).encode()


class Caller:
    """One connection of an API server. trusted: the caBundle as PEM."""

    def __init__(self, port, trusted, server_name=SERVER_NAME):
        context = ssl.create_default_context(cadata=trusted)
        raw = socket.create_connection(("127.0.0.1", port), ANSWER_WAIT_S)
        # As Go does it; else head and body, two writes here, meet Nagle and delayed acknowledgement.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.stream = context.wrap_socket(raw, server_hostname=server_name)
        except BaseException:
            raw.close()
            raise
        self._http = http.client.HTTPConnection(server_name, timeout=ANSWER_WAIT_S)
        self._http.sock = self.stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.close()

    def certificate(self):
        return self.stream.getpeercert(binary_form=True)

    def ask(self, method, path, body=None):
        """Status and text of the answer."""
        self._http.request(method, path, body, {"content-type": "application/json"})
        answer = self._http.getresponse()
        text = answer.read().decode()
        self.will_close = answer.will_close
        return answer.status, text

    def admit(self, thing, path="/mutate/label", namespace="default"):
        """The response of the review, the patch decoded."""
        status, text = self.ask("POST", path + "?timeout=5s", review(thing, namespace))
        assert status == 200, text
        response = json.loads(text)["response"]
        assert response["uid"] == "review-1"
        if "patch" in response:
            response["patch"] = json.loads(base64.b64decode(response["patch"]))
        return response


class Operator(Remora):
    """One replica, against a FakeKubernetes."""

    def __init__(self, directory, api):
        super().__init__(directory)
        self.api = api
        self.metrics_port = None

    def command(self, *options):
        return [binary(), "operator", "--api-server", self.api.url, "--namespace", "remora-system",
                "--image", "remora:test", "--listen", "127.0.0.1:0",
                "--metrics-listen", "127.0.0.1:0", *map(str, options)]

    def launch(self, *options, **named):
        super().launch(*options, **named)
        line = self.wait_log("listening", listener="metrics")
        self.metrics_port = int(line["address"].rsplit(":", 1)[1])
        return self

    def start(self, *options, **named):
        """Starts and waits until the API server could call."""
        self.launch(*options, **named)
        wait_for(lambda: self.plain("/readyz")[0] == 200, "readiness")
        line = self.wait_log("listening", listener="webhook")
        self.port = int(line["address"].rsplit(":", 1)[1])
        return self

    def plain(self, path):
        """Status and text from the port for metrics and health."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}",
                                        timeout=ANSWER_WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name):
        lines = self.plain("/metrics")[1].splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines
                     if line.rsplit(" ", 1)[0] == name), None)

    def caller(self, index=0, **named):
        """As an API server that has the caBundle of that webhook as it is now."""
        return Caller(self.port, self.api.bundles()[index], **named)


def tls_directory(path, identity):
    """Files as cert-manager's Secret is mounted. identity: texts by their Secret keys."""
    os.makedirs(path, exist_ok=True)
    for key in ("tls.crt", "tls.key"):
        with open(os.path.join(path, key), "w", encoding="ascii") as file:
            file.write(identity[key])
    return str(path)
