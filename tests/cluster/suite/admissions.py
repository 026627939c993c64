"""Pods that are tried out at a steady rate: the API server does everything but keep them (dry run), so
each of them passes the webhook as a real one does."""

import http.client
import json
import re
import subprocess
import threading
import time

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
