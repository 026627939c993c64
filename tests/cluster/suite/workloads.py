"""Small workloads that ask for Remora, for tests that are about the pod and not about the agent."""

from kube import container, pod
from operators import ASKS

PORT = 8080
USER = 65532
PAGE = f"mkdir -p /tmp/www && hostname >/tmp/www/index.html && exec httpd -f -p {PORT} -h /tmp/www"
# What every level of Pod Security lets pass.
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
              "seccompProfile": {"type": "RuntimeDefault"}, "runAsNonRoot": True}


def web(image, name="web", labels=None, annotations=None, script=PAGE, **spec):
    """A pod that serves its host name, and asks for Remora unless labels say otherwise."""
    return pod(name, container(
        "web", image, ["sh", "-c", script], ports=[{"containerPort": PORT, "name": "http"}],
        securityContext=RESTRICTED,
        readinessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}),
        labels={"app": name, **(ASKS if labels is None else labels)}, annotations=annotations,
        **{"securityContext": {"runAsUser": USER, "runAsGroup": USER}, **spec})


def caller(image, name="caller", **spec):
    return pod(name, container("main", image, ["sleep", "100000"]), **spec)


def fetch(kube, url, of="caller"):
    """What wget got, or nothing."""
    return kube.run(of, "wget", "-qO-", "-T", "5", url, check=False).stdout


def wait_fetched(kube, url, seconds=30, of="caller"):
    """A node learns a little later than the API server that a pod is Ready."""
    return kube.wait_for(f"{url} answers", lambda: fetch(kube, url, of), bool, seconds)
