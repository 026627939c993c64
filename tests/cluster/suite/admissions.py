"""Pods that are tried out at a steady rate: the API server does everything but keep them (dry run), so
each of them passes the webhook as a real one does."""

import base64
import http.client
import json
import re
import socket
import subprocess
import threading
import time

import certs
from kube import container, pod
from operators import ASKS, is_injected

CALL_S = 15
METRIC = "apiserver_admission_webhook_admission_duration_seconds"


class Proxy:
    """`kubectl proxy`: whatever the cluster wants of its callers, it has."""

    def __enter__(self):
        self._process = subprocess.Popen(["kubectl", "proxy", "--port=0"], text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = self._process.stdout.readline()
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", said).group(1))
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_S)

    def text(self, path):
        connection = self.connection()
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


FLOOR_NAME, FLOOR_PORT, ANSWER_PORT = "floor.remora.dev", 9453, 9454
FLOOR_CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;
events {{}}
http {{
  access_log off; keepalive_requests 1000000; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;
    location / {{ proxy_pass http://127.0.0.1:{answer_port}; }}
  }}
  server {{
    listen 127.0.0.1:{answer_port}; default_type application/json;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""


class Floor:
    """A webhook of its own for the same pods, beside the API server: nginx, which takes the whole review and
    answers with the same few bytes each time. What it takes, any webhook takes on this machine. Its answers are of
    no use, so the API server goes on without them."""

    def __init__(self, everywhere, folder):
        self._everywhere, self._folder = everywhere, folder

    def __enter__(self):
        certs.make_authority(self._folder, "ca")
        certs.make_certificate(self._folder, certs.Certificate(
            "tls", "/CN=floor", certs.SERVER, ("IP:127.0.0.1",)))
        config = self._folder / "nginx.conf"
        config.write_text(FLOOR_CONFIG.format(
            folder=self._folder, port=FLOOR_PORT, answer_port=ANSWER_PORT, answer=json.dumps(
                {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                 "response": {"uid": "nobody", "allowed": True}})))
        self._process = subprocess.Popen(["nginx", "-c", config])
        self._everywhere.wait_for("nginx listens", self._listens, bool)
        self._everywhere.apply({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "floor"}, "webhooks": [{
                "name": FLOOR_NAME, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Ignore", "objectSelector": {"matchLabels": ASKS},
                "clientConfig": {
                    "url": f"https://127.0.0.1:{FLOOR_PORT}/",
                    "caBundle": base64.b64encode((self._folder / "ca.crt").read_bytes()).decode()},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                           "resources": ["pods"]}]}]})
        return self

    def __exit__(self, *_):
        self._everywhere.delete("mutatingwebhookconfiguration", "floor")
        self._process.terminate()
        self._process.wait(CALL_S)

    @staticmethod
    def _listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", FLOOR_PORT)) == 0


class Admissions:
    """In `with`: so many pods a second are tried out in a namespace."""

    def __init__(self, proxy, namespace, per_second, threads=8):
        self._proxy, self._interval = proxy, threads / per_second
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        tried = pod("tried", container("main", "tried:1", ["true"], ports=[{"containerPort": 8000}]),
                    labels=ASKS, securityContext={"runAsUser": 1000, "runAsGroup": 1000})
        self._body = json.dumps(tried)
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.seconds, self.failures = [], []
        self._threads = [threading.Thread(target=self._run, args=(index,), daemon=True)
                         for index in range(threads)]

    def __enter__(self):
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(CALL_S + 5)
        self.lasted_s = time.monotonic() - self._began

    def _run(self, index):
        connection = self._proxy.connection()
        due = time.monotonic() + self._interval * index / len(self._threads)
        while not self._end.wait(max(0, due - time.monotonic())):
            due += self._interval
            at = time.monotonic()
            try:
                connection.request("POST", self._path, self._body,
                                   {"Content-Type": "application/json"})
                answer = connection.getresponse()
                made = json.loads(answer.read())
                problem = None if answer.status == 201 else made.get("message")
                if problem is None and not is_injected(made):
                    problem = "created without Remora"
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                self.seconds.append(time.monotonic() - at)
                if problem:
                    self.failures.append((round(at - self._began, 2), problem))
        connection.close()


def webhook_latency(proxy, webhook):
    """The API server's own measurement of one webhook: {upper bound in seconds: count below}."""
    found = re.findall(rf'^{METRIC}_bucket{{([^}}]*)}} (\S+)$', proxy.text("/metrics"), re.MULTILINE)
    buckets = {}
    for labels, value in found:
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named["name"] == webhook and named["operation"] == "CREATE":
            bound = float(named["le"])
            buckets[bound] = buckets.get(bound, 0) + float(value)
    return buckets
