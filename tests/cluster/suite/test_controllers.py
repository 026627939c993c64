"""Injected pods of a StatefulSet, a Job and a CronJob."""

import concurrent.futures
import datetime
import json
import time

import agents
import patients
import pytest
import results as rows
from kube import claim, container, is_ready, pod, status_of
from load import Load

ENDS_S = 10
MINUTE_S = 60
MOVED_S = 120
STATE_CLAIM, SNAPSHOT_CLAIM = "state", "snapshots"
HEALED_S = 120
# Serves nobody any more after a while, and lives on; when it is started again it ends its work.
HANGS_ONCE = """
if [ -e /state/tried ]; then sleep 3; exit 0; fi
touch /state/tried; mkdir -p /tmp/www; echo ok >/tmp/www/index.html
httpd -f -p 8080 -h /tmp/www & sleep 8; kill $!; exec sleep 100000
"""
# A job's agent asks the model, tells what it got, and ends with a code.
ASK_MODEL = """
import sys, urllib.request
print(urllib.request.urlopen("http://model:9000/healthz", timeout=20).read().decode(), flush=True)
sys.exit(int(sys.argv[1]))
"""


def stateful_set(name, image, annotations):
    """The langgraph patient, with claims of its own for state and snapshots."""
    service, template = patients.patient(name, image, patients.LANGGRAPH, annotations=annotations)
    del template["spec"]["volumes"]
    template["metadata"].pop("name")
    return [service, {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
            "serviceName": name, "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
            "volumeClaimTemplates": [
                {"metadata": each["metadata"], "spec": each["spec"]}
                for each in (claim(STATE_CLAIM), claim(SNAPSHOT_CLAIM))]}}]


def snapshots(kube, name):
    text = patients.remora(kube, name, "snapshot", "list", f"--store={patients.STORE}",
                           "--json").stdout
    found = json.loads(text)
    return {each["id"] for each in (found["snapshots"] if isinstance(found, dict) else found)}


def move(kube, load, name):
    """Deletes the pod; when, and the one that has taken its place. Its node takes none meanwhile."""
    old = kube.get("pod", name)["metadata"]["uid"]
    began_at = time.time()
    kube.delete("pod", name)
    kube.wait("pod", name, "is Ready elsewhere", lambda seen: seen and is_ready(
        seen) and seen["metadata"]["uid"] != old, MOVED_S)
    load.wait_steady(time.time())
    return began_at, kube.get("pod", name)


@pytest.fixture(scope="module")
def stage(shared_kube, inject_into, agent_image, python_image):
    """A model, a caller, and a CronJob, whose minute passes during the other tests."""
    shared_kube.apply(*agents.model(agent_image), agents.caller(python_image))
    shared_kube.wait_ready("model")
    inject_into(shared_kube, {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}, "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": job("cron", python_image, 0)["spec"]}}})
    shared_kube.wait_ready("caller")
    return shared_kube


def test_a_stateful_set_moves_to_another_node_with_its_conversation_and_snapshots(
        stage, everywhere, nodes, inject_into, agent_image, results):
    kube = stage
    inject_into(kube, *stateful_set("agent", agent_image, {"remora.dev/snapshot-volume": SNAPSHOT_CLAIM}))
    kube.apply(*stateful_set("alone", agent_image, {}))
    for name in ("agent-0", "alone-0"):
        kube.wait_ready(name)
    for name in ("agent", "alone"):
        agents.wait_reachable(kube, f"http://{name}/healthz")
    for host in ("agent", "alone"):
        assert agents.chat(kube, "thread", "one two", "first", host=host)["turn"] == 1
    patients.remora(kube, "agent-0", "snapshot", "take", f"--store={patients.STORE}")
    kept = snapshots(kube, "agent-0")
    assert kept
    homes = {name: kube.get("pod", name)["spec"]["nodeName"] for name in ("agent-0", "alone-0")}
    seen = {}
    # One after the other: each has a node of its own to leave.
    for name, host in (("agent-0", "agent"), ("alone-0", "alone")):
        everywhere.kubectl("cordon", homes[name])
        try:
            with Load(kube, host) as load:
                began_at, moved = move(kube, load, name)
            seen[host] = load.seen(began_at)
        finally:
            everywhere.kubectl("uncordon", homes[name])
        assert moved["spec"]["nodeName"] != homes[name]
        again = agents.chat(kube, "thread", "one two", "first", host=host)
        assert again["replayed"] and again["turn"] == 1
        assert agents.chat(kube, "thread", "three", "second", host=host)["turn"] == 2
    assert kept <= snapshots(kube, "agent-0"), "snapshots did not move with the pod"
    results.append(rows.Row("pod deleted, moved to another node with its claim",
                            remora=seen["agent"], alone=seen["alone"],
                            remarks="one replica: nobody is there between the two pods"))
    assert seen["agent"].lost == 0, seen["agent"]


def job_of(made):
    """A Job of one try, whose pods are like this one."""
    name = made["metadata"].pop("name")
    template = {key: made[key] for key in ("metadata", "spec")}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "backoffLimit": 0, "template": template}}


def job(name, image, code):
    return job_of(pod(name, container("agent", image, ["python3", "-c", ASK_MODEL, str(code)]),
                      restartPolicy="Never"))


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def condition_of(found, kind):
    return next((each for each in found["status"].get("conditions", [])
                 if each["type"] == kind and each["status"] == "True"), None)


def assert_ended(kube, name, kind, code):
    """The Job ended as its agent did, soon after it, with the agent's code kept; how soon."""
    found = kube.wait("job", name, f"is {kind}", lambda seen: seen and condition_of(seen, kind))
    ended = kube.list("pods", f"batch.kubernetes.io/job-name={found['metadata']['name']}")
    assert len(ended) == 1
    agent = status_of(ended[0], "agent")["state"]["terminated"]
    assert agent["exitCode"] == code
    assert kube.logs(ended[0]["metadata"]["name"], "agent").count('"status": "ok"') == 1
    took = moment(condition_of(found, kind)["lastTransitionTime"]) - moment(agent["finishedAt"])
    assert took <= ENDS_S, f"{took} s after its agent"
    return took


@pytest.mark.short
def test_a_job_ends_as_its_agent_does_with_the_code_kept(stage, inject_into, python_image, results):
    inject_into(stage, job("good", python_image, 0), job("bad", python_image, 3))
    with concurrent.futures.ThreadPoolExecutor() as both:
        good = both.submit(assert_ended, stage, "good", "Complete", 0)
        bad = both.submit(assert_ended, stage, "bad", "Failed", 3)
        times = good.result(), bad.result()
    results.append(rows.Row("Job: its agent exits with 0; with 3", remarks=(
        f"Complete {times[0]:.0f} s, Failed {times[1]:.0f} s after the agent's end, codes kept")))


def hanging_job(name, image, **annotations):
    return job_of(pod(name, container(
        "agent", image, ["sh", "-c", HANGS_ONCE], ports=[{"containerPort": 8080, "name": "http"}],
        livenessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        volumeMounts=[{"name": "state", "mountPath": "/state"}]), restartPolicy="Never",
        volumes=[{"name": "state", "emptyDir": {}}], annotations=annotations,
        securityContext={"runAsUser": agents.USER, "runAsGroup": agents.USER,
                         "fsGroup": agents.USER}))


def test_a_hung_agent_of_a_job_is_started_again_in_a_pod_that_never_restarts(
        stage, own_cluster_or_none, inject_into, tools_image, results):
    """By a container restart rule (KEP-5307), for the exit code of Remora's signal alone."""
    inject_into(stage, hanging_job("hangs", tools_image, **{
        "remora.dev/restart-rules": "on", "remora.dev/state-dir": "/state"}))
    made, = stage.wait_for("its pod", lambda: stage.list("pods", "app=hangs"), bool)
    if "restartPolicyRules" not in made["spec"]["containers"][0]:
        assert own_cluster_or_none is None, "its gate is on"
        pytest.skip("the feature gate ContainerRestartRules of this cluster is off")
    stage.apply(hanging_job("hangs-alone", tools_image))
    began = time.monotonic()
    stage.wait("job", "hangs", "is Complete", lambda seen: condition_of(seen, "Complete"), HEALED_S)
    took_s = time.monotonic() - began
    ended, = stage.list("pods", "app=hangs")
    assert ended["metadata"]["uid"] == made["metadata"]["uid"]
    agent = status_of(ended, "agent")
    assert agent["restartCount"] == 1 and agent["state"]["terminated"]["exitCode"] == 0
    ends = [line.get("signal") for line in patients.log(stage, ended["metadata"]["name"])
            if line["event"] == "agent_exited"]
    assert ends == [16, 0], "by the restart signal, and then by itself"
    stage.wait("job", "hangs-alone", "has Failed", lambda seen: condition_of(seen, "Failed"), HEALED_S)
    results.append(rows.Row("Job with restartPolicy Never: its agent hangs once", remarks=(
        f"restarted in its pod, Complete after {took_s:.0f} s; Kubernetes alone kills it, and the "
        "Job has Failed")))


def test_a_cron_job_completes_each_time(stage):
    made = stage.wait_for("the minute has come", lambda: [
        each for each in stage.list("jobs") if each["metadata"]["name"].startswith("cron-")],
        bool, MINUTE_S + 20)
    assert_ended(stage, made[0]["metadata"]["name"], "Complete", 0)
    stage.wait("cronjob", "cron", "noted the success",
               lambda seen: seen["status"].get("lastSuccessfulTime"))
