"""Sidecars and the operator over the link, as a cluster runs them: pods are injected by the webhook, the token is
the kubelet's, the operator has the rights of its manifests and no other."""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import time

import agents
import patients
import pytest
from kube import container, is_ready, pod, service, status_of
from operators import NAME, SECRET
from test_certificate import expiries, new_identity
from test_healing import healer, incidents, leader, policy, steps_of, wait_led  # noqa: F401
from workloads import USER, web

STATE = "/state"
AGENT = "mkdir -p /tmp/www && echo well >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
LINK_PORT = 9444
TOLD_S, HEALED_S = 60, 90
# The kubelet looks at a pod's volumes about once a minute, and a sidecar calls again after a minute at most.
CARRIED_S = 200
OTLP_PORT = 4318
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def agent(image, name="agent", script=AGENT, **annotations):
    """An injected pod with state of its own; label app: agent."""
    return web(image, name, labels={"app": "agent", "remora.dev/inject": "true"}, script=script,
               securityContext={"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
               annotations={"remora.dev/state-dir": STATE, **{
                   f"remora.dev/{key.replace('_', '-')}": text
                   for key, text in annotations.items()}})


def sidecar_log(kube, name, event):
    lines = kube.kubectl("logs", name, "--container=remora", check=False).stdout.splitlines()
    seen = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in seen if line.get("event") == event]


def wait_connected(kube, *names, count=1, seconds=TOLD_S):
    for name in names:
        kube.wait_for(f"{name}'s sidecar is connected",
                      lambda name=name: sidecar_log(kube, name, "operator_connected"),
                      lambda seen: len(seen) >= count, seconds)


def kill_agent(kube, name="agent"):
    kube.run(name, "sh", "-c", "kill -9 $(pidof httpd)", container="web", check=False)


def healings(kube):
    """What sidecars have told, over all Incidents."""
    return [told for incident in incidents(kube)
            for told in incident.get("status", {}).get("sidecar", [])]


def wait_healed(kube, count, seconds=HEALED_S):
    return kube.wait_for(f"{count} healings are told", lambda: healings(kube), lambda told: (
        len(told) == count and all(each["outcome"] == "recovered" for each in told)), seconds)


def reasons(kube):
    return sorted(event["reason"] for event in kube.list("events")
                  if event["reason"].startswith("Remora"))


@pytest.fixture
def plugin(kube, remora_binary, tmp_path):
    """kubectl remora WORDS in the test's namespace; its output."""
    (tmp_path / "kubectl-remora").symlink_to(pathlib.Path(remora_binary).resolve())
    path = f"{tmp_path}:{os.environ['PATH']}"

    def run(*words, seconds=HEALED_S):
        done = subprocess.run(["kubectl", "remora", words[0], f"--namespace={kube.namespace}",
                               *words[1:]], env={**os.environ, "PATH": path}, text=True,
                              capture_output=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout
    return run


# --- reports ---------------------------------------------------------------------------------------

def test_an_injected_pod_has_the_link_and_its_crash_is_one_incident_with_evidence(
        healer, kube, tools_image, report_table):
    kube.apply(policy(), agent(tools_image))
    made = kube.wait_ready("agent")
    link = json.loads(made["metadata"]["annotations"]["remora.dev/injected"])["link"]
    assert link["address"] == f"remora-webhook.remora-system.svc:{LINK_PORT}"
    assert "BEGIN CERTIFICATE" in link["trustedPem"]
    sources = next(each for each in made["spec"]["volumes"]
                   if each["name"] == "remora-link")["projected"]["sources"]
    assert [each["serviceAccountToken"]["audience"] for each in sources
            if "serviceAccountToken" in each] == ["remora.dev/link"]
    wait_connected(kube, "agent")
    killed_at = time.monotonic()
    kill_agent(kube)
    told, = wait_healed(kube, 1)
    told_s = time.monotonic() - killed_at
    incident, = incidents(kube)
    assert incident["spec"]["fault"] == "crash" and incident["spec"]["container"] == "web"
    assert incident["spec"]["pod"]["uid"] == made["metadata"]["uid"]
    assert incident["spec"]["pod"]["node"] == made["spec"]["nodeName"]
    assert told["evidence"] and [step["action"] for step in told["steps"]] == ["restart"]
    parts = sum(told.get(f"{part}Milliseconds", 0) for part in ("detect", "decide", "act", "ready"))
    assert abs(parts - told["recoveryMilliseconds"]) <= 4 and parts > 0
    kube.wait_for("its end", lambda: incidents(kube), lambda seen: (
        [each.get("status", {}).get("phase") for each in seen] == ["Resolved"]))
    kube.wait_for("the Events", lambda: reasons(kube),
                  lambda seen: seen == ["RemoraFoundFault", "RemoraHealed"])
    report_table("A crash that the pod heals, told over the link", {
        "recovery, by the sidecar": f"{told['recoveryMilliseconds']} ms",
        "in the Incident after": f"{told_s:.1f} s"})


def test_a_sidecar_that_gave_up_climbs_the_clusters_ladder(healer, kube, tools_image):
    kube.apply(policy(ladders=[{"fault": "gave_up", "steps": ["alert"]}]),
               agent(tools_image, ladders="[{fault: crash, steps: [give_up]}]"))
    kube.wait_ready("agent")
    wait_connected(kube, "agent")
    kill_agent(kube)
    incident, = kube.wait_for("the step of the cluster", lambda: incidents(kube), lambda seen: any(
        each.get("status", {}).get("steps") for each in seen), HEALED_S)
    assert steps_of(incident) == ["alert:done"]
    assert [each["outcome"] for each in incident["status"]["sidecar"]] == ["gave_up"]
    assert {"RemoraGaveUp", "RemoraAlert"} <= set(reasons(kube))


def test_what_happens_while_the_operator_is_away_is_healed_at_once_and_told_once(
        healer, kube, tools_image, report_table):
    kube.apply(policy(), agent(tools_image))
    kube.wait_ready("agent")
    wait_connected(kube, "agent")
    healer.kube.kubectl("scale", f"deployment/{NAME}", "--replicas=0")
    try:
        healer.kube.wait_for("no replica is left", healer.pods, lambda pods: not pods)
        for count in (1, 2):
            kill_agent(kube)
            kube.wait("pod", "agent", "was started again", lambda made: status_of(made, "web").get(
                "restartCount") == count and is_ready(made), HEALED_S)
        assert incidents(kube) == []
    finally:
        healer.kube.kubectl("scale", f"deployment/{NAME}", "--replicas=2")
        healer.wait_ready()
    back_at = time.monotonic()
    wait_healed(kube, 2, TOLD_S + HEALED_S)
    told_s = time.monotonic() - back_at
    # Told again after the next change of leader, it is the same.
    before = wait_led(healer)
    healer.kube.delete("pod", before)
    wait_led(healer, not_by=before)
    wait_connected(kube, "agent", count=3, seconds=TOLD_S + HEALED_S)
    kill_agent(kube)
    wait_healed(kube, 3)
    assert len({told["id"] for told in healings(kube)}) == 3
    assert len([reason for reason in reasons(kube) if reason == "RemoraFoundFault"]) == 3
    report_table("Two crashes while the operator is away", {
        "both told after its return": f"{told_s:.1f} s"})


def test_reports_reach_the_leader_through_two_changes_of_it(healer, kube, tools_image,
                                                            report_table):
    kube.apply(policy(), agent(tools_image))
    kube.wait_ready("agent")
    waits = []
    for number in (1, 2):
        before = wait_led(healer)
        healer.kube.delete("pod", before)
        wait_led(healer, not_by=before)
        changed_at = time.monotonic()
        kill_agent(kube)
        wait_healed(kube, number)
        waits.append(f"{time.monotonic() - changed_at:.1f} s")
        healer.wait_ready()
    report_table("A crash right after a change of leader", {"told after": ", ".join(waits)})


# --- requests --------------------------------------------------------------------------------------

def test_requests_through_kubectl_remora_are_carried_out_once(healer, kube, plugin, tools_image):
    kube.apply(policy(), agent(tools_image))
    kube.wait_ready("agent")
    wait_connected(kube, "agent")
    kube.run("agent", "sh", "-c", f"echo before >{STATE}/notes", container="web")
    assert "Done" in plugin("snapshot", "agent")
    stored = kube.wait("agentsnapshot", "agent.web", "has it", lambda seen: seen["status"].get(
        "latest"))["status"]
    kube.run("agent", "sh", "-c", f"echo after >{STATE}/notes", container="web")
    assert "Done" in plugin("restore", "agent", f"--snapshot={stored['latest']}")
    kube.wait_ready("agent")
    notes = kube.run("agent", "cat", f"{STATE}/notes", container="web").stdout
    assert notes.strip() == "before"
    ran = status_of(kube.get("pod", "agent"), "web")["restartCount"]
    assert "Done" in plugin("restart", "agent")
    kube.wait("pod", "agent", "was restarted", lambda made: status_of(made, "web").get(
        "restartCount") == ran + 1 and is_ready(made))
    # As if the operator had ended before it could write the outcome down.
    request = kube.get("agentsnapshot", "agent.web")["status"]["request"]
    assert request["action"] == "Restart" and request["state"] == "Done"
    sent = {key: request[key] for key in ("id", "action", "startedAt")} | {"state": "Sent"}
    before = wait_led(healer)
    kube.kubectl("patch", "agentsnapshot", "agent.web", "--subresource=status", "--type=merge",
                 "--patch", json.dumps({"status": {"request": {**dict.fromkeys(request), **sent}}}))
    healer.kube.delete("pod", before)
    wait_led(healer, not_by=before)
    kube.wait("agentsnapshot", "agent.web", "is answered again", lambda seen: (
        seen["status"]["request"]["state"] == "Done"), HEALED_S)
    assert status_of(kube.get("pod", "agent"), "web")["restartCount"] == ran + 1
    kube.kubectl("patch", "agentsnapshot", "agent.web", "--type=merge", "--patch", json.dumps(
        {"spec": {"request": {"id": "drain-1", "action": "Drain", "snapshot": None}}}))
    kube.wait("agentsnapshot", "agent.web", "drained", lambda seen: seen["status"]["request"] | {
        "startedAt": "", "endedAt": "", "message": ""} == {
            "id": "drain-1", "action": "Drain", "state": "Done", "startedAt": "", "endedAt": "",
            "message": ""}, HEALED_S)


def test_a_catalogue_goes_with_its_claim(healer, kube, tools_image):
    kube.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "store"},
                "spec": {"accessModes": ["ReadWriteOnce"],
                         "resources": {"requests": {"storage": "64Mi"}}}},
               policy(), agent(tools_image, snapshot_claim="store"))
    kube.wait_ready("agent")
    kube.wait("agentsnapshot", "store.web", "is there", bool, TOLD_S)
    kube.delete("pod", "agent", "--now")
    kube.wait_gone("pod", "agent")
    assert kube.get("agentsnapshot", "store.web"), "the snapshots are there still"
    kube.delete("pvc", "store")
    kube.wait_gone("agentsnapshot", "store.web")


# --- whom the sidecars believe ---------------------------------------------------------------------

def replace_authority(healer, folder):
    identity = new_identity(folder)
    before = expiries(healer)
    healer.kube.kubectl("patch", "secret", SECRET, "--type=merge",
                        f"--patch={json.dumps({'data': identity})}")
    healer.kube.wait_for("every replica serves the new one", lambda: expiries(healer), lambda now: (
        now.keys() == before.keys() and all(now[name] != before[name] for name in now)))
    return base64.b64decode(identity["ca.crt"]).decode().strip()


def test_the_authority_is_replaced_under_a_live_link(healer, kube, tools_image, tmp_path):
    kube.apply(policy(), agent(tools_image))
    kube.wait_ready("agent")
    wait_connected(kube, "agent")
    authority = replace_authority(healer, tmp_path)
    kube.wait("configmap", "remora-link-ca", "has the new authority", lambda seen: seen and (
        authority in seen["data"]["ca.crt"]))
    # The call that is open goes on; the next one believes the new certificate.
    kill_agent(kube)
    wait_healed(kube, 1)
    calls = len(sidecar_log(kube, "agent", "operator_connected"))
    before = wait_led(healer)
    healer.kube.delete("pod", before)
    wait_connected(kube, "agent", count=calls + 1, seconds=HEALED_S)
    kill_agent(kube)
    wait_healed(kube, 2)
    lost = sidecar_log(kube, "agent", "operator_not_reached")
    assert not any("certificate" in line["reason"] for line in lost), lost


@contextlib.contextmanager
def link_cut(healer, nodes, own):
    """Nobody reaches the operator's port for sidecars."""
    rules = ["nft add table inet unlinked",
             "nft 'add chain inet unlinked ways { type filter hook forward priority -300; }'",
             f"nft add rule inet unlinked ways tcp dport {LINK_PORT} reject with tcp reset"]
    for name in nodes:
        own.machine(name).script(rules)
    try:
        # Calls that are open keep their connection in the kernel; these end with their replica.
        for name in healer.ready_pods():
            healer.kube.delete("pod", name)
        healer.wait_ready()
        yield
    finally:
        for name in nodes:
            own.machine(name).script(["nft delete table inet unlinked"])


def test_a_sidecar_that_was_away_during_the_whole_change_of_authority_comes_back(
        healer, own_cluster, kube, nodes, tools_image, tmp_path, report_table):
    """Neither the annotation nor the link has told it of the new one; the pod stays the same."""
    kube.apply(policy(), agent(tools_image))
    uid = kube.wait_ready("agent")["metadata"]["uid"]
    wait_connected(kube, "agent")
    with link_cut(healer, nodes, own_cluster):
        kube.wait_for("the sidecar is cut off",
                      lambda: sidecar_log(kube, "agent", "operator_not_reached"))
        for name in ("second", "third"):
            (tmp_path / name).mkdir()
            authority = replace_authority(healer, tmp_path / name)
        # A new process knows the newest authority only.
        for name in healer.ready_pods():
            healer.kube.delete("pod", name)
        healer.wait_ready()
        kube.wait("configmap", "remora-link-ca", "has the newest authority only", lambda seen: (
            seen["data"]["ca.crt"].strip() == authority), HEALED_S)
        kill_agent(kube)
        calls = len(sidecar_log(kube, "agent", "operator_connected"))
    back_at = time.monotonic()
    wait_connected(kube, "agent", count=calls + 1, seconds=CARRIED_S)
    wait_healed(kube, 1)
    assert kube.get("pod", "agent")["metadata"]["uid"] == uid
    assert status_of(kube.get("pod", "agent"), "remora")["restartCount"] == 0
    report_table("The authority was replaced twice while a sidecar could not call", {
        "it is connected again after": f"{time.monotonic() - back_at:.0f} s"})


# --- a policy's settings ---------------------------------------------------------------------------

def test_changed_settings_of_a_policy_reach_running_pods_or_are_counted(healer, kube, tools_image):
    kube.apply(policy(sidecar={"detection": {"hangWindow": "45s"}}), agent(tools_image))
    kube.wait_ready("agent")
    wait_connected(kube, "agent")

    def outdated():
        return kube.get("healingpolicy", "all").get("status", {}).get("outdatedPods")

    def told():
        return [(line["generation"], line["problem"])
                for line in sidecar_log(kube, "agent", "policy_settings")]

    kube.wait_for("it has what it was made with", told, lambda seen: seen[-1:] == [(1, "")])
    kube.wait_for("nobody is behind", outdated, lambda count: count == 0)
    kube.apply(policy(sidecar={"detection": {"hangWindow": "55s"}}))
    kube.wait_for("it has the new ones", told, lambda seen: seen[-1:] == [(2, "")], TOLD_S)
    kube.wait_for("nobody is behind", outdated, lambda count: count == 0)
    assert sidecar_log(kube, "agent", "reloaded")
    # The memory of the sidecar is given to it when its pod is made.
    kube.apply(policy(sidecar={"detection": {"hangWindow": "55s"}},
                      injection={"memoryLimit": "300Mi"}))
    kube.wait_for("the pod is counted", outdated, lambda count: count == 1, TOLD_S)


# --- traces ----------------------------------------------------------------------------------------

def received(kube):
    return agents.call(kube, f"http://collector:{OTLP_PORT}/spans")["body"]


def kill_under_a_request(kube):
    """One that is part of a trace is under way when the agent dies."""
    pid = patients.agent_pid(kube, "agent")
    wish = {"url": "http://agent/slow?30", "method": "POST", "body": {}, "seconds": 60,
            "headers": {"traceparent": f"00-{TRACE}-{SPAN}-01"}}
    words = ["kubectl", f"--namespace={kube.namespace}", "exec", "caller", "--", "python3", "-c",
             agents.CALL, json.dumps(wish)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as request:
        try:
            kube.wait_for("the agent has the request", lambda: kube.logs("agent", "agent"),
                          lambda text: "/slow?30" in text)
            kube.run("agent", "kill", "-9", pid, container="agent", check=False)
        finally:
            request.kill()


def test_traces_of_pod_and_operator_reach_a_collector_without_environment(
        healer, kube, python_image, otlp_image):
    receiver = pod("collector", container(
        "collector", otlp_image, ["python3", "-c", patients.program("otlp_receiver.py"), str(OTLP_PORT)],
        readinessProbe={"tcpSocket": {"port": OTLP_PORT}, "periodSeconds": 1}))
    kube.apply(service("collector", OTLP_PORT, OTLP_PORT), receiver, agents.caller(python_image))
    kube.wait_ready("collector")
    url = f"http://collector.{kube.namespace}:{OTLP_PORT}"
    arguments = healer.kube.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["args"]
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-",
              "value": f"--otlp-endpoint={url}"}]
    healer.kube.kubectl("patch", "deployment", NAME, "--type=json", "--patch", json.dumps(patch))
    try:
        healer.wait_ready()
        wait_led(healer)
        serves, slow = patients.scripted("agent", python_image)
        slow["metadata"]["labels"]["remora.dev/inject"] = "true"
        kube.apply(policy(sidecar={"telemetry": {"otlpEndpoint": url}}), serves, slow)
        kube.wait_ready("caller")
        patients.wait_served(kube, "agent")
        wait_connected(kube, "agent", seconds=HEALED_S)
        kill_under_a_request(kube)
        wait_healed(kube, 1)
        spans = kube.wait_for("both traces", lambda: received(kube), lambda seen: len(
            [span for span in seen["spans"] if span["name"] == "heal"]) == 2, HEALED_S)
    finally:
        healer.kube.kubectl("patch", "deployment", NAME, "--type=json", "--patch", json.dumps(
            [{"op": "replace", "path": "/spec/template/spec/containers/0/args",
              "value": arguments}]))
        healer.wait_ready()
    assert spans["refused"] == []
    roots = {span["resource"]["service.name"]: span for span in spans["spans"]
             if span["name"] == "heal"}
    sidecars, operators = roots["remora"], roots["remora-operator"]
    assert sidecars["resource"]["k8s.pod.name"] == "agent"
    assert sidecars["attributes"]["remora.fault"] == "crash"
    assert [TRACE, SPAN] in sidecars["links"], "the request that was under way"
    assert [sidecars["trace"], sidecars["span"]] in operators["links"]
    assert operators["attributes"]["k8s.pod.name"] == "agent"
    parts = {span["name"] for span in spans["spans"] if span["parent"] == sidecars["span"]}
    assert parts == {"detect", "decide", "act", "ready"}
