"""A namespace of a cluster, seen through kubectl, as a test wants it: objects are dicts, every wait
has a limit and tells what it saw last."""

import json
import subprocess
import time

POLL_S = 0.3
CALL_S = 60
READY_S = 90
# For pods that have nothing to finish.
GRACE_S = 2


class Kube:
    def __init__(self, namespace=None):
        self.namespace = namespace

    def kubectl(self, *words, stdin=None, check=True, seconds=CALL_S):
        place = [f"--namespace={self.namespace}"] if self.namespace else []
        done = subprocess.run(["kubectl", *place, *map(str, words)], input=stdin, text=True,
                              capture_output=True, timeout=seconds, check=False)
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(map(str, words))}: {done.stderr}"
        return done

    def apply(self, *objects):
        whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--filename=-", stdin=whole)

    def get(self, kind, name):
        """The object, or None."""
        done = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def list(self, kind, selector=""):
        return json.loads(self.kubectl("get", kind, f"--selector={selector}",
                                       "--output=json").stdout)["items"]

    def wait(self, kind, name, what, holds, seconds=READY_S):
        """Until holds(object) is true; the object. holds gets None for one that isn't there."""
        return self.wait_for(f"{kind}/{name}: {what}", lambda: self.get(kind, name), holds, seconds)

    def wait_for(self, what, look, holds=bool, seconds=READY_S):
        deadline = time.monotonic() + seconds
        while True:
            seen = look()
            if holds(seen):
                return seen
            if time.monotonic() >= deadline:
                raise AssertionError(f"waited {seconds} s in vain: {what}; last seen: "
                                     f"{json.dumps(seen, default=str)[-3000:]}")
            time.sleep(POLL_S)

    def wait_ready(self, name, seconds=READY_S):
        return self.wait("pod", name, "is Ready", is_ready, seconds)

    def wait_done(self, name, seconds=READY_S):
        return self.wait("pod", name, "has ended", lambda pod: pod and pod["status"].get(
            "phase") in ("Succeeded", "Failed"), seconds)

    def wait_gone(self, kind, name, seconds=READY_S):
        self.wait(kind, name, "is gone", lambda seen: seen is None, seconds)

    def delete(self, kind, name, *words):
        self.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false", *words)

    def logs(self, pod, container):
        return self.kubectl("logs", pod, f"--container={container}").stdout

    def run(self, pod, *argv, container=None, check=True, seconds=CALL_S):
        """Runs a program in a container of a pod."""
        which = [f"--container={container}"] if container else []
        return self.kubectl("exec", pod, *which, "--", *argv, check=check, seconds=seconds)

    def story(self):
        """For the report of a failed test."""
        return "\n".join(self.kubectl("get", *words, check=False).stdout for words in (
            ("pods", "--output=wide"), ("events", "--sort-by=.lastTimestamp")))


def is_ready(thing):
    """A pod or a node."""
    return any(condition["type"] == "Ready" and condition["status"] == "True"
               for condition in (thing or {}).get("status", {}).get("conditions", []))


def status_of(pod, container):
    status = pod["status"]
    for each in status.get("containerStatuses", []) + status.get("initContainerStatuses", []):
        if each["name"] == container:
            return each
    return {}


def container(name, image, command, **more):
    return {"name": name, "image": image, "command": command, **more}


def pod(name, *containers, labels=None, annotations=None, node=None, **spec):
    """node: the name of the node that it must run on."""
    spec = {"terminationGracePeriodSeconds": GRACE_S, "containers": list(containers), **spec}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {"app": name},
                         "annotations": annotations or {}}, "spec": spec}


def service(name, port, target, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}],
                     **spec}}


def claim(name, storage_class=None, mode="ReadWriteOnce"):
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": spec}


def deployment(name, replicas, template):
    """template: a pod as pod() makes it."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": template["metadata"]["labels"]},
        "template": {"metadata": {"labels": template["metadata"]["labels"],
                                  "annotations": template["metadata"]["annotations"]},
                     "spec": template["spec"]}}}
