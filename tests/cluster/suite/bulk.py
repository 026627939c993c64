"""Pods by the thousand that no kubelet runs: to the API server and the operator they are pods like any other,
whose status the test writes. Several writers at once, through `kubectl proxy`."""

import contextlib
import http.client
import json
import threading
import time

from kube import container

WRITERS = 8
POLL_S = 0.02
ACTION_S = 60
MERGE = "application/merge-patch+json"
INCIDENTS = "/apis/remora.dev/v1alpha1/namespaces/{}/incidents?limit=500"
SINCE = "2026-01-01T00:00:00Z"


def healthy():
    return _status(True, {"running": {"startedAt": SINCE}}, {}, 0)


def crash_looping():
    return _status(False, {"waiting": {"reason": "CrashLoopBackOff"}}, {
        "terminated": {"exitCode": 1, "reason": "Error", "finishedAt": SINCE}}, 5)


def _status(ready, state, last, restarts):
    return {"phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": SINCE}],
            "containerStatuses": [{"name": "agent", "ready": ready, "restartCount": restarts,
                                   "image": "none", "imageID": "none", "state": state,
                                   "lastState": last}]}


class Bulk:
    """One namespace."""

    def __init__(self, proxy, namespace):
        self._proxy, self._namespace = proxy, namespace
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._lock = threading.Lock()
        self.done = 0  # writes of label() that were answered well

    def call(self, connection, method, path, body=None, content_type="application/json", gone_is_fine=False):
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Content-Type": content_type})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 404 and gone_is_fine:
            return None
        assert answer.status in (200, 201), f"{method} {path}: {answer.status} {text[:300]}"
        return json.loads(text)

    def _each(self, names, one):
        """one(connection, name) for each, by several writers."""
        problems = []

        def write(own):
            connection = self._proxy.connection()
            try:
                for name in own:
                    one(connection, name)
            except (OSError, http.client.HTTPException, ValueError, AssertionError) as problem:
                problems.append(problem)
            finally:
                connection.close()
        writers = [threading.Thread(target=write, args=(names[index::WRITERS],))
                   for index in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert not problems, problems[:3]

    def make_pods(self, names, labels):
        """All Ready. Their owner is a ConfigMap, which makes no other in their place."""
        connection = self._proxy.connection()
        owner = self.call(connection, "POST", f"/api/v1/namespaces/{self._namespace}/configmaps",
                          {"metadata": {"name": "owner"}})
        connection.close()

        def make(connection, name):
            made = {"metadata": {"name": name, "labels": labels, "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": True,
                 "uid": owner["metadata"]["uid"]}]},
                    "spec": {"schedulerName": "nobody", "automountServiceAccountToken": False,
                             "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
                             "containers": [container("agent", "none", ["none"])]}}
            self.call(connection, "POST", self._pods, made)
            self.set_status(connection, name, healthy())
        self._each(names, make)

    def set_status(self, connection, name, status):
        self.call(connection, "PATCH", f"{self._pods}/{name}/status", {"status": status}, MERGE)

    def label(self, names, rounds, key, value=None):
        """As many changes of each as rounds."""
        def change(connection, name):
            for count in range(rounds):
                labels = {key: value or str(count)}
                changed = self.call(connection, "PATCH", f"{self._pods}/{name}",
                                    {"metadata": {"labels": labels}}, MERGE, gone_is_fine=True)
                with self._lock:
                    self.done += changed is not None
        self._each(names, change)

    @contextlib.contextmanager
    def in_background(self, what):
        problems = []

        def run():
            try:
                what()
            except AssertionError as problem:
                problems.append(problem)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield self
        finally:
            thread.join()
        assert not problems, problems

    def first_action(self, name):
        """Makes a pod ill; seconds until there is an Incident of it, and until the pod is taken away."""
        connection = self._proxy.connection()
        began = time.monotonic()
        self.set_status(connection, name, crash_looping())

        def until(what, holds):
            while not holds():
                assert time.monotonic() - began < ACTION_S, f"{what} within {ACTION_S} s"
                time.sleep(POLL_S)
            return time.monotonic() - began
        path = INCIDENTS.format(self._namespace)
        try:
            opened_s = until("an Incident", lambda: name in [
                each["spec"]["pod"]["name"]
                for each in self.call(connection, "GET", path)["items"]])
            gone_s = until("an eviction", lambda: self.call(
                connection, "GET", f"{self._pods}/{name}", gone_is_fine=True) is None)
        finally:
            connection.close()
        return opened_s, gone_s
