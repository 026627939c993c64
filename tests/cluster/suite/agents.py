"""The demo's LangGraph agent, its model and a caller, as pods."""

import json

from kube import claim, container, pod, service

AGENT_PORT, MODEL_PORT = 8000, 9000
STATE = "/var/lib/agent"
USER = 65532
CALL_S = 30
# The drain takes some of it.
GRACE_S = 40

# Runs in the caller's pod: one request; status, headers and body as JSON.
CALL = """
import json, sys, urllib.error, urllib.request
wish = json.loads(sys.argv[1])
body = json.dumps(wish["body"]).encode() if wish["body"] is not None else None
request = urllib.request.Request(wish["url"], body, wish["headers"], method=wish["method"])
try:
    answer = urllib.request.urlopen(request, timeout=wish["seconds"])
except urllib.error.HTTPError as error:
    answer = error
headers = {name.lower(): value for name, value in answer.headers.items()}
print(json.dumps({"status": answer.status, "headers": headers, "body": answer.read().decode()}))
"""


def model(image):
    return [service("model", MODEL_PORT, MODEL_PORT), pod("model", container(
        "model", image, ["python3", "model_server.py", "--host=0.0.0.0", f"--port={MODEL_PORT}"],
        readinessProbe={"tcpSocket": {"port": MODEL_PORT}, "periodSeconds": 1}))]


def agent_pod(image, name="agent", **more):
    """Keeps its state in claim `state`."""
    return pod(name, container(
        "agent", image, ["python3", "langgraph_agent.py", "--host=0.0.0.0", f"--port={AGENT_PORT}",
                         f"--model-url=http://model:{MODEL_PORT}/v1"],
        env=[{"name": "REMORA_STATE_DIR", "value": STATE},
             {"name": "PYTHONUNBUFFERED", "value": "1"}],
        ports=[{"containerPort": AGENT_PORT, "name": "http"}],
        readinessProbe={"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
        volumeMounts=[{"name": "state", "mountPath": STATE}]),
        labels={"app": "agent"},
        securityContext={"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        volumes=[{"name": "state", "persistentVolumeClaim": {"claimName": "state"}}],
        terminationGracePeriodSeconds=GRACE_S, **more)


def agent_with_state(image, **more):
    return [claim("state"), service("agent", 80, AGENT_PORT), agent_pod(image, **more)]


def caller(image):
    return pod("caller", container("main", image, ["sleep", "100000"]))


def try_call(kube, url, body=None, headers=None):
    """One request from the caller's pod; its answer, or None when there was none."""
    wish = {"url": url, "method": "GET" if body is None else "POST", "body": body,
            "headers": {"Content-Type": "application/json", **(headers or {})},
            "seconds": CALL_S - 5}
    done = kube.run("caller", "python3", "-c", CALL, json.dumps(wish), check=False, seconds=CALL_S)
    if done.returncode != 0:
        return None
    answer = json.loads(done.stdout)
    if answer["headers"].get("content-type", "").startswith("application/json"):
        answer["body"] = json.loads(answer["body"])
    return answer


def call(kube, url, body=None, headers=None):
    answer = try_call(kube, url, body, headers)
    assert answer is not None, f"no answer from {url}"
    return answer


def wait_reachable(kube, url="http://agent/healthz"):
    """A node learns a little later than the API server that a pod is Ready."""
    return kube.wait_for(f"{url} answers", lambda: try_call(kube, url),
                         lambda answer: answer and answer["status"] == 200)


def chat(kube, thread, message, key, host="agent"):
    """One turn of a conversation; what the agent answers."""
    answer = call(kube, f"http://{host}/chat", {"thread_id": thread, "message": message},
                  {"Idempotency-Key": key})
    assert answer["status"] == 200, answer
    return answer["body"]
