"""One measurement each: load, start-up, memory. All numbers of one peer, none of judgement."""

import json
import os
import re
import shutil
import subprocess
import time

import peers
import ports

LOAD_SECONDS_MAX = 180
SERVE_SECONDS_MAX = 30
SETTLE_SECONDS = 1.0
H2_CONNECTIONS = 8
H2_STREAMS = 32


class MeasureError(Exception):
    """A measurement failed; the message says which and why."""


def on_core(core, command):
    return ["taskset", "-c", str(core), *command]


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_SECONDS_MAX,
                          check=False)
    if done.returncode != 0:
        raise MeasureError(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def descendants(pid):
    """This process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


def pss_bytes(pids):
    """Memory in use, pages shared with other processes counted by share."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.M).group(1)) * 1024
    return total


def cpu_ns(pids):
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="utf-8") as schedstat:
                total += int(schedstat.read().split()[0])
    return total


class Instance:
    """A peer that serves now."""

    def __init__(self, peer, site):
        self.peer = peer
        self.site = site
        self.log_path = os.path.join(site.directory, "output.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                on_core(peers.PROXY_CORE, peer.command(site)), cwd=site.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_serving(self):
        deadline = time.monotonic() + SERVE_SECONDS_MAX
        while not ports.answers_200(self.site.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log_path, encoding="utf-8", errors="replace") as log:
                    raise MeasureError(f"{self.peer.name} does not serve: {log.read()[-2000:]}")
            time.sleep(0.05)

    def pids(self):
        pid = self.process.pid
        return descendants(pid) if self.peer.counts_children else [pid]


class Tools:
    """The load programs of one build directory."""

    def __init__(self, build):
        self.load = os.path.join(build, "benchmarks", "bench_load")
        self.backend = os.path.join(build, "benchmarks", "bench_backend")
        self.relay = os.path.join(build, "benchmarks", "bench_relay")

    def closed(self, port, pids, connections, requests):
        """As fast as replies come."""
        return self._run(port, pids, ["--connections", str(connections), "--requests",
                                      str(requests), "--warmup", str(max(requests // 10, 1))])

    def open(self, port, pids, connections, rate, seconds):
        """At a fixed rate, latency counted from when each request was due."""
        return self._run(port, pids, ["--connections", str(connections), "--rate", str(rate),
                                      "--requests", str(int(rate * seconds)),
                                      "--warmup", str(connections * 8)])

    def _run(self, port, pids, arguments):
        command = [self.load, "run", "--port", str(port), *arguments]
        for pid in pids:
            command += ["--cpu-pid", str(pid)]
        return run_json(on_core(peers.LOAD_CORE, command))

    def start_ms(self, peer, site):
        command = [self.load, "start", "--port", str(site.port), "--cpu", str(peers.PROXY_CORE),
                   "--", *peer.command(site)]
        return run_json(command)["start_ms"]


def has_h2load():
    return shutil.which("h2load") is not None


def h2(port, pids, requests):
    """HTTP/2 with prior knowledge from the caller; CPU and throughput over the whole run."""
    before = cpu_ns(pids)
    done = subprocess.run(
        on_core(peers.LOAD_CORE, ["h2load", "-n", str(requests), "-c", str(H2_CONNECTIONS), "-m",
                                  str(H2_STREAMS), f"http://127.0.0.1:{port}/"]),
        capture_output=True, text=True, timeout=LOAD_SECONDS_MAX, check=False)
    after = cpu_ns(pids)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    if done.returncode != 0 or not rate or not succeeded:
        raise MeasureError(f"h2load on port {port}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return {"requests": requests, "errors": requests - int(succeeded.group(1)),
            "requests_per_second": float(rate.group(1)), "cpu_ns": after - before}
