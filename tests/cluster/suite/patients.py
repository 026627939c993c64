"""Agents that are made ill on purpose, as pods: each once for Remora and once for Kubernetes alone."""

import json
import pathlib
import subprocess
import threading

import agents
import layout
from kube import container, pod, service, status_of

INSIDE = pathlib.Path(__file__).resolve().parent / "inside"
REMORA = "/usr/local/bin/remora"
STORE = "/var/lib/remora"
HEAL_S = 90
# So long is Kubernetes alone watched before "never" is believed.
NEVER_S = 45
FOLLOWED_END_S = 10

DAMAGE = (layout.REPOSITORY / "tests/agents/damage_state.py").read_text()


def program(name):
    return (INSIDE / name).read_text()


def patient(name, image, command, annotations=None, limits=None, env=None,
            grace_s=agents.GRACE_S, **more):
    """A pod that serves on AGENT_PORT and answers /healthz, with its Service; its state outlives its
    containers. Kubernetes' probes as people write them."""
    check = {"httpGet": {"path": "/healthz", "port": "http"}}
    return [service(name, 80, agents.AGENT_PORT), pod(
        name, container("agent", image, command,
                        env=[{"name": "REMORA_STATE_DIR", "value": agents.STATE},
                             {"name": "PYTHONUNBUFFERED", "value": "1"},
                             *({"name": key, "value": value}
                               for key, value in (env or {}).items())],
                        ports=[{"containerPort": agents.AGENT_PORT, "name": "http"}],
                        startupProbe={**check, "periodSeconds": 1, "failureThreshold": 120},
                        readinessProbe={**check, "periodSeconds": 1}, livenessProbe=check,
                        resources={"limits": limits} if limits else {},
                        volumeMounts=[{"name": "state", "mountPath": agents.STATE}]),
        annotations={"remora.dev/state-dir": agents.STATE, **(annotations or {})},
        securityContext={"runAsUser": agents.USER, "runAsGroup": agents.USER,
                         "fsGroup": agents.USER},
        volumes=[{"name": "state", "emptyDir": {}}],
        terminationGracePeriodSeconds=grace_s, **more)]


LANGGRAPH = ["python3", "langgraph_agent.py", "--host=0.0.0.0", f"--port={agents.AGENT_PORT}",
             f"--model-url=http://model:{agents.MODEL_PORT}/v1"]


def scripted(name, image, **more):
    """One of inside/starts_badly.py; image: Python."""
    return patient(name, image, ["python3", "-c", program("starts_badly.py"),
                                 str(agents.AGENT_PORT)], **more)


def without_annotations(objects):
    """The same for Kubernetes alone."""
    for each in objects:
        each["metadata"].pop("annotations", None)
    return objects


def remora(kube, name, *words, check=True):
    """Remora's command line, in the sidecar's container."""
    return kube.run(name, REMORA, *words, container="remora", check=check)


def incidents(kube, name):
    done = remora(kube, name, "incident", "list", f"--store={STORE}", "--json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []


def closed_incident(kube, name, fault, seconds=HEAL_S):
    """The first one of this kind that has ended."""
    ended = lambda found: [each for each in found  # noqa: E731
                           if each["fault"] == fault and each["status"] == "closed"]
    return ended(kube.wait_for(f"an incident {fault} of {name} is closed",
                               lambda: incidents(kube, name), ended, seconds))[0]


def status(kube, name):
    """Exit code 3: it is not ready."""
    return json.loads(remora(kube, name, "status", "--json", check=False).stdout)


def log(kube, name, container_name="remora"):
    """The sidecar's log: a dict a line."""
    lines = kube.logs(name, container_name).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def restarts(kube, name, container_name="agent"):
    return status_of(kube.get("pod", name), container_name).get("restartCount", 0)


def agent_pid(kube, host):
    return agents.call(kube, f"http://{host}/healthz")["body"]["pid"]


def damage_state(kube, name):
    """When it was done; what runs is dead after it, but for a process 1."""
    pid = agent_pid(kube, name)
    done = kube.run(name, "python3", "-c", DAMAGE, str(pid), agents.STATE, "kill",
                    container="agent", check=False)
    assert done.returncode in (0, 137), done.stderr
    return float(done.stdout), pid


def wait_served(kube, *names):
    for name in names:
        kube.wait_ready(name)
        agents.wait_reachable(kube, f"http://{name}/healthz")


class Followed:
    """A container's output while it comes, also of a pod that is being deleted. A context."""

    def __init__(self, kube, name, container_name="agent"):
        self._words = ["kubectl", f"--namespace={kube.namespace}", "logs", "--follow", name,
                       f"--container={container_name}"]
        self._kube = kube
        self.lines = []

    def __enter__(self):
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(FOLLOWED_END_S)
        self._reader.join(FOLLOWED_END_S)

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def wait(self, what, holds, seconds=HEAL_S):
        return self._kube.wait_for(what, lambda: list(self.lines), holds, seconds)

    def wait_end(self, seconds=HEAL_S):
        self._process.wait(seconds)
        self._reader.join(FOLLOWED_END_S)
