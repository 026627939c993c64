"""`remora operator` as a cluster runs it: from the manifests, two replicas, called by its Service."""

import contextlib
import json
import re

import layout
from kube import Kube, container, is_ready, pod, service

NAMESPACE, NAME, WEBHOOK = "remora-system", "remora-operator", "remora-webhook"
SECRET = "remora-webhook-certificate"
SERVER_NAME = f"{WEBHOOK}.{NAMESPACE}.svc"
LABEL, RECORD = "remora.dev/inject", "remora.dev/injected"
ASKS = {LABEL: "true"}
MANIFESTS = layout.REPOSITORY / "k8s/manifests"
# What the manifests call the image, for the operator and for the sidecars.
IMAGE_IN_MANIFEST = re.compile(r"\bremora:\d+\.\d+\.\d+\b")
METRICS_PORT = 8080
READY_S, GONE_S = 90, 60
# A round of the reconciler is 60 s.
FOUND_S = 90
# As the webhook's timeoutSeconds, and the rest for a busy machine.
CREATED_S = 8


class Operator:
    """The installation, seen by who administers the cluster."""

    def __init__(self, image):
        self.image = image
        self.kube = Kube(NAMESPACE)
        self.everywhere = Kube()

    # --- install ------------------------------------------------------------------------------

    def install(self):
        text = self.with_image((MANIFESTS / "install/install.yaml").read_text())
        self.everywhere.kubectl("apply", "--filename=-", stdin=text)
        self.wait_ready()

    def install_healing(self):
        """Injection and healing."""
        text = self.everywhere.kubectl("kustomize", MANIFESTS / "overlays/healing").stdout
        self.everywhere.kubectl("apply", "--filename=-", stdin=self.with_image(text))
        self.wait_ready()

    def remove_healing(self):
        self.everywhere.kubectl("delete", "--ignore-not-found", *(
            f"--filename={MANIFESTS / 'healing' / name}" for name in ("rbac.yaml", "link.yaml")))
        self.everywhere.kubectl("delete", "--ignore-not-found", f"--kustomize={MANIFESTS / 'crds'}")
        self.install()

    def with_image(self, manifest):
        text, count = IMAGE_IN_MANIFEST.subn(self.image, manifest)
        assert count == 2, "the image is named for the operator and for the sidecars"
        return text

    def remove(self):
        text = (MANIFESTS / "install/install.yaml").read_text()
        self.everywhere.kubectl("delete", "--filename=-", "--ignore-not-found", "--wait=false",
                                stdin=text)
        self.everywhere.wait_gone("namespace", NAMESPACE, GONE_S)

    def wait_ready(self):
        self.kube.kubectl("rollout", "status", f"deployment/{NAME}", f"--timeout={READY_S}s",
                          seconds=READY_S + 10)
        self.everywhere.wait_for("every webhook has a caBundle", self.bundles, all)
        # The rest of the way: endpoints, the API server's own copy of the configuration.
        self.everywhere.wait_for("the API server asks the webhook", self.answers)

    @contextlib.contextmanager
    def away(self):
        """No replica, as after a fault that takes them all."""
        self.kube.kubectl("scale", f"deployment/{NAME}", "--replicas=0")
        try:
            self.everywhere.wait_for("no replica is left", self.pods, lambda pods: not pods)
            yield
        finally:
            self.kube.kubectl("scale", f"deployment/{NAME}", "--replicas=2")
            self.wait_ready()

    # --- what can be seen ---------------------------------------------------------------------

    def answers(self):
        """Whether a pod that is only tried out in namespace default is injected."""
        tried = pod("tried", container("main", "tried", ["true"]), labels=ASKS)
        done = self.everywhere.kubectl("create", "--namespace=default", "--dry-run=server",
                                       "--output=json", "--filename=-", stdin=json.dumps(tried),
                                       check=False)
        return done.returncode == 0 and is_injected(json.loads(done.stdout))

    def configuration(self):
        return self.everywhere.get("mutatingwebhookconfiguration", WEBHOOK)

    def bundles(self):
        return [hook["clientConfig"].get("caBundle", "")
                for hook in self.configuration()["webhooks"]]

    def pods(self):
        return self.kube.list("pods", f"app.kubernetes.io/name={NAME}")

    def ready_pods(self):
        return [each["metadata"]["name"] for each in self.pods()
                if is_ready(each) and "deletionTimestamp" not in each["metadata"]]

    def metrics(self):
        """One {name with labels: value} for each replica that is Ready."""
        return [metrics_of(self.kube, name, METRICS_PORT) for name in self.ready_pods()]

    def total(self, name):
        """Of all replicas."""
        return sum(replica.get(name, 0) for replica in self.metrics())

    def asked(self):
        """How many pods the API server has asked about, by the answer."""
        seen = self.metrics()
        return {result: sum(replica.get(
            f'remora_operator_admissions_total{{result="{result}"}}', 0) for replica in seen)
            for result in ("injected", "unchanged", "skipped", "refused")}

    def logs(self):
        return "\n".join(self.kube.logs(name, "operator") for name in self.ready_pods())


def metrics_of(kube, name, port):
    """Through the API server, which every cluster lets its administrators do."""
    text = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{kube.namespace}/pods/{name}:{port}"
                                        "/proxy/metrics").stdout
    return {key: float(value) for key, value in re.findall(
        r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def is_injected(thing):
    return (RECORD in thing["metadata"].get("annotations", {})
            and any(each["name"] == "remora" for each in thing["spec"].get("initContainers", [])))


def events_of(kube, reason):
    """{pod: message}"""
    return {event["involvedObject"]["name"]: event["message"] for event in kube.list("events")
            if event["reason"] == reason}
