"""`remora inject` on manifests as people keep them. What comes out is read by another YAML parser."""

import json
import subprocess
import textwrap
import urllib.request

import pytest
import yaml
from remora import binary, free_port, wait_for

COMMAND_WAIT_S = 30

DEPLOYMENT = """\
# A shop's agent. Comments and odd spacing of what is not injected must survive.
apiVersion: v1
kind: Service
metadata: {name: planner}   # kept
spec:
  ports: [{port:  80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: planner
  namespace: shop
spec:
  replicas: 2
  selector: {matchLabels: {app: planner}}
  template:
    metadata:
      labels: {app: planner}
      annotations:
        remora.dev/hang-window: "1m"
        remora.dev/state-dir: /data
        remora.dev/exclude-outbound-ports: "5432"
    spec:
      securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}
      terminationGracePeriodSeconds: 45
      initContainers:
        - name: migrate
          image: shop/planner:1.10
          command: [sh, -c, "set -e\\npython migrate.py\\n"]
      containers:
        - name: planner
          image: shop/planner:1.10
          ports: [{name: http, containerPort: 8000}]
          env: [{name: MODE, value: "yes"}]
          livenessProbe: {httpGet: {path: /live, port: http}, periodSeconds: 5}
          readinessProbe: {exec: {command: [test, -e, /tmp/ready]}}
          volumeMounts: [{name: data, mountPath: /data}]
          resources: {limits: {memory: 1Gi}}
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: planner}
        - name: secret
          secret: {secretName: keys, defaultMode: 0400}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: planner}
spec: {minAvailable: 1, selector: {matchLabels: {app: planner}}}
"""

TWO_AGENTS = """\
apiVersion: v1
kind: Pod
metadata:
  name: pair
  annotations:
    remora.dev/containers: planner, tools
    remora.dev/hang-window.tools: 5m
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 1000}
  containers:
    - name: planner
      image: a:1
      ports: [{name: http, containerPort: 8000}]
      readinessProbe: {httpGet: {path: /ready, port: http}}
    - name: tools
      image: b:1
      ports: [{name: grpc, containerPort: 9000}]
      readinessProbe: {grpc: {port: 9000}}
    - name: exporter
      image: c:1
      ports: [{name: metrics, containerPort: 9100}]
      readinessProbe: {tcpSocket: {port: metrics}}
"""

JOBS = """\
apiVersion: batch/v1
kind: Job
metadata: {name: index}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: index, image: a:1}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: nightly, image: a:1}]
"""


def inject(manifest, *options):
    return subprocess.run([binary(), "inject", "-f", "-", *options], input=manifest,
                          capture_output=True, text=True, timeout=COMMAND_WAIT_S, check=False)


def injected(manifest, *options):
    done = inject(manifest, *options)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def named(items, name):
    found = [item for item in items if item["name"] == name]
    assert len(found) == 1, f"{name}: {items}"
    return found[0]


def record_of(pod):
    return json.loads(pod["metadata"]["annotations"]["remora.dev/injected"])


def test_deployment_gets_the_sidecar_and_keeps_everything_else():
    service, deployment, budget = injected(DEPLOYMENT)
    before = list(yaml.safe_load_all(DEPLOYMENT))
    assert (service, budget) == (before[0], before[2])
    spec, old = deployment["spec"]["template"]["spec"], before[1]["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["remora-intercept", "remora", "migrate"]
    assert spec["initContainers"][2] == old["initContainers"][0]
    agent, was = spec["containers"][0], old["containers"][0]
    assert agent["livenessProbe"] == {
        "httpGet": {"path": "/probe/planner/liveness", "port": 15020}, "periodSeconds": 5}
    for key in ("readinessProbe", "volumeMounts", "resources", "image", "ports"):
        assert agent[key] == was[key], key
    assert agent["env"] == was["env"] + [{"name": "REMORA_AGENT", "value": "planner"},
                                         {"name": "REMORA_STATE_DIR", "value": "/data"}]
    assert spec["terminationGracePeriodSeconds"] == 45
    assert named(spec["volumes"], "secret") == old["volumes"][1]
    sidecar = spec["initContainers"][1]
    assert named(sidecar["volumeMounts"], "data") == {"name": "data", "mountPath": "/data"}
    assert sidecar["securityContext"]["runAsUser"] == 1000
    assert record_of(deployment["spec"]["template"])["agents"][0]["livenessProbe"]["httpGet"] == {
        "path": "/live", "port": 8000, "scheme": "HTTP"}


def test_documents_without_a_pod_come_out_byte_for_byte():
    text = inject(DEPLOYMENT).stdout
    head, tail = DEPLOYMENT.split("apiVersion: apps/v1")[0], DEPLOYMENT[DEPLOYMENT.rindex("---"):]
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize("manifest", [DEPLOYMENT, TWO_AGENTS, JOBS])
def test_injecting_twice_changes_nothing(manifest):
    once = inject(manifest)
    assert once.returncode == 0, once.stderr
    assert inject(once.stdout).stdout == once.stdout
    assert "is injected already; nothing to do" in inject(once.stdout, "--explain").stdout


def test_the_rules_step_is_a_command_line_that_remora_takes():
    deployment = injected(DEPLOYMENT)[1]
    step = named(deployment["spec"]["template"]["spec"]["initContainers"], "remora-intercept")
    rules = subprocess.run([binary(), *step["args"], "--dry-run"], capture_output=True, text=True,
                           timeout=COMMAND_WAIT_S, check=False)
    assert rules.returncode == 0, rules.stderr
    assert "15006" in rules.stdout and "5432" in rules.stdout


def healthz(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_the_sidecar_starts_with_what_the_injection_wrote(tmp_path):
    health, inbound, outbound, proxy = (free_port() for _ in range(4))
    pod, = injected(TWO_AGENTS.replace("  annotations:\n", (
        f'  annotations:\n    remora.dev/health-port: "{health}"\n'
        f'    remora.dev/inbound-port: "{inbound}"\n    remora.dev/outbound-port: "{outbound}"\n'
        f'    remora.dev/outbound-proxy-port: "{proxy}"\n'), 1))
    # As the kubelet writes it; for ASCII, JSON's quoting is Go's.
    (tmp_path / "annotations").write_text("".join(
        f"{key}={json.dumps(value)}\n" for key, value in pod["metadata"]["annotations"].items()))
    arguments = named(pod["spec"]["initContainers"], "remora")["args"]
    arguments = [str(tmp_path) if word == "/etc/remora/pod" else word for word in arguments]
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(
            [binary(), *arguments, "--store", str(tmp_path / "store"),
             "--admin", str(tmp_path / "admin.sock")], stderr=log) as sidecar:
        try:
            wait_for(lambda: sidecar.poll() is not None or healthz(health), "the health port")
            assert sidecar.poll() is None, (tmp_path / "log").read_text()
        finally:
            sidecar.kill()


def test_a_pod_with_two_agents_and_one_bystander():
    pod, = injected(TWO_AGENTS)
    containers = pod["spec"]["containers"]
    for name in ("planner", "tools"):
        container = named(containers, name)
        assert container["readinessProbe"]["httpGet"]["path"] == f"/probe/{name}/readiness"
        assert named(container["env"], "REMORA_AGENT")["value"] == name
    assert named(containers, "exporter") == yaml.safe_load(TWO_AGENTS)["spec"]["containers"][2]
    record = record_of(pod)
    assert [agent["name"] for agent in record["agents"]] == ["planner", "tools"]
    assert record["interception"]["excludeInboundPorts"] == ["9100"]


def test_jobs_and_cron_jobs_are_injected_and_told_what_never_costs():
    job, cron = injected(JOBS)
    for template in (job["spec"]["template"], cron["spec"]["jobTemplate"]["spec"]["template"]):
        assert named(template["spec"]["initContainers"], "remora")["restartPolicy"] == "Always"
    explained = inject(JOBS, "--explain").stdout
    assert "document 1 (Job index)" in explained and "document 2 (CronJob nightly)" in explained
    assert explained.count("restartPolicy is Never") == 1


def test_explain_says_what_is_set_and_what_is_lost():
    text = inject(DEPLOYMENT, "--explain").stdout
    assert "apiVersion" not in text
    for words in ("livenessProbe asks Remora", "readinessProbe stays with the kubelet",
                  "as user 1000 and group 1000", "as root with NET_ADMIN",
                  "snapshots and incidents are lost with the pod"):
        assert words in text, words


def test_problems_name_document_annotation_and_mend_and_nothing_is_printed():
    broken = TWO_AGENTS.replace("remora.dev/hang-window.tools: 5m", textwrap.indent(
        'remora.dev/hang-windw: "5m"\nremora.dev/log-level: loud', "    ").strip())
    done = inject(DEPLOYMENT + "---\n" + broken)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert all("document 4 (Pod pair): annotation remora.dev/" in line for line in lines)
    assert "did you mean remora.dev/hang-window?" in done.stderr
    assert '"loud" is not a choice; write debug, info, warn, error or off' in done.stderr


def test_restricted_namespaces_get_explicit_interception():
    pod, = injected(TWO_AGENTS, "--pod-security", "restricted")
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["remora"]
    assert pod["spec"]["initContainers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    planner = named(pod["spec"]["containers"], "planner")
    assert named(planner["env"], "HTTP_PROXY")["value"] == "http://127.0.0.1:15002"


def test_old_clusters_and_wrong_command_lines_are_refused(tmp_path):
    old = inject(TWO_AGENTS, "--kubernetes-version", "v1.28.9")
    assert old.returncode == 1 and "native sidecar" in old.stderr
    missing = subprocess.run([binary(), "inject", "-f", str(tmp_path / "none.yaml")],
                             capture_output=True, text=True, timeout=COMMAND_WAIT_S, check=False)
    assert missing.returncode == 2 and "none.yaml" in missing.stderr
    assert inject(TWO_AGENTS, "--pod-security", "lax").returncode == 2
    nothing = subprocess.run([binary(), "inject"], capture_output=True, text=True,
                             timeout=COMMAND_WAIT_S, check=False)
    assert nothing.returncode == 2


def test_host_network_and_system_namespaces_stay_as_they_are_with_a_warning():
    for change in (("spec:\n", "spec:\n  hostNetwork: true\n"),
                   ("  name: pair\n", "  name: pair\n  namespace: kube-system\n")):
        manifest = TWO_AGENTS.replace(*change, 1)
        done = inject(manifest)
        assert done.returncode == 0
        assert done.stdout == manifest
        assert "warning: Remora is not added to this pod" in done.stderr
