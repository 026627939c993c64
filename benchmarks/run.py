#!/usr/bin/env python3
"""Measures Remora beside nginx, HAProxy, Envoy, nghttpx and a bare relay: ./dev bench.

Prints one table and, in the full form, writes RESULTS.md beside this file. Everything stays on
127.0.0.1. Exit codes: 0 measured, 1 a measurement or a request failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import measure
import peers
import ports
import report

HERE = os.path.dirname(os.path.abspath(__file__))
IDLE_SETTLE_SECONDS = 5
RATE = 1000


class Settings:
    """How long each measurement takes. The quick form is for a look, not for publishing."""

    def __init__(self, quick, rounds):
        self.rounds = rounds or (3 if quick else 7)
        self.closed_requests = 8_000 if quick else 40_000
        self.single_requests = 1_000 if quick else 6_000
        self.h2_requests = 8_000 if quick else 40_000
        self.open_seconds = 1.5 if quick else 5.0


def microseconds(result):
    return result["cpu_ns"] / result["requests"] / 1000


class Run:
    """All peers serving side by side, measured in turn."""

    def __init__(self, tools, settings, peer_list, directory):
        self.tools = tools
        self.settings = settings
        self.directory = directory
        self.samples = report.Samples()
        self.processes = []
        self.backend_port = ports.free_ports(1)[0]
        backend = subprocess.Popen(
            measure.on_core(peers.LOAD_CORE, [tools.backend, "--port", str(self.backend_port)]))
        self.processes.append(backend)
        self.peers = peer_list
        self.instances = []

    def site(self, name):
        directory = os.path.join(self.directory, name.replace(" ", "-"))
        os.makedirs(directory, exist_ok=True)
        port, port_h2, agent_port = ports.free_ports(3)
        return peers.Site(directory, port, port_h2, self.backend_port, agent_port)

    def serve_all(self):
        for peer in self.peers:
            instance = measure.Instance(peer, self.site(peer.name))
            self.processes.append(instance.process)
            self.instances.append(instance)
            instance.wait_until_serving()

    def measure_memory(self):
        # Idle, not just started: whoever gives back what its start needed has done so by then.
        time.sleep(IDLE_SETTLE_SECONDS)
        for instance in self.instances:
            self.samples.add(instance.peer.name, "pss_idle_mb",
                             measure.pss_bytes(instance.pids()) / 1e6)

    def measure_round(self, number):
        direct = self.tools.open(self.backend_port, [], 32, RATE, self.settings.open_seconds)
        for key in ("p50", "p99", "p999"):
            self.samples.add("direct", f"{key}_ms", direct[f"{key}_ns"] / 1e6)
        turn = number % len(self.instances)
        for instance in self.instances[turn:] + self.instances[:turn]:
            print(f"round {number + 1} of {self.settings.rounds}: {instance.peer.name}",
                  file=sys.stderr)
            self.measure_one(instance, direct)

    def measure_one(self, instance, direct):
        name, port, pids = instance.peer.name, instance.site.port, instance.pids()
        add = self.samples.add
        for connections in (32, 256, 1):
            requests = (self.settings.single_requests if connections == 1
                        else self.settings.closed_requests)
            result = self.tools.closed(port, pids, connections, requests)
            self.samples.add_errors(name, result["errors"])
            add(name, f"cpu_us_{connections}", microseconds(result))
            add(name, f"rps_{connections}", result["requests"] / result["seconds"])
        result = self.tools.open(port, pids, 32, RATE, self.settings.open_seconds)
        self.samples.add_errors(name, result["errors"])
        add(name, "cpu_us_1000rps", microseconds(result))
        for key in ("p50", "p99", "p999"):
            add(name, f"added_{key}_ms", (result[f"{key}_ns"] - direct[f"{key}_ns"]) / 1e6)
        add(name, "start_ms", self.tools.start_ms(instance.peer, self.site(name + "-start")))
        if instance.peer.speaks_h2 and measure.has_h2load():
            self.measure_h2(instance, pids)

    def measure_h2(self, instance, pids):
        site = instance.site
        port = site.port_h2 if instance.peer.own_h2_port else site.port
        measure.h2(port, pids, self.settings.h2_requests // 10)  # warm-up
        result = measure.h2(port, pids, self.settings.h2_requests)
        self.samples.add_errors(instance.peer.name, result["errors"])
        self.samples.add(instance.peer.name, "h2_cpu_us", microseconds(result))
        self.samples.add(instance.peer.name, "h2_rps", result["requests_per_second"])


def choose_peers(args, tools):
    wanted = [peers.Relay(tools.relay),
              peers.Remora(os.path.join(args.build, "remora"), tools.backend),
              peers.Nginx(), peers.HAProxy(), peers.Envoy(args.envoy), peers.Nghttpx()]
    if args.only:
        names = {name.strip().lower() for name in args.only.split(",")}
        wanted = [peer for peer in wanted if peer.name.lower() in names]
    chosen = [peer for peer in wanted if peer.is_available()]
    missing = [peer.name for peer in wanted if peer not in chosen]
    return chosen, missing


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="build directory with remora and bench_*")
    parser.add_argument("--envoy", help="path of the envoy program")
    parser.add_argument("--quick", action="store_true", help="short; leaves RESULTS.md alone")
    parser.add_argument("--rounds", type=int, help="instead of 7, or 3 with --quick")
    parser.add_argument("--only", help="comma-separated peers; leaves RESULTS.md alone")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    return args


def publish(run, settings, missing):
    names = [peer.name for peer in run.peers]
    h2_names = [name for name in names if run.samples.of(name, "h2_cpu_us")]
    print(report.as_screen(run.samples, names, h2_names))
    for name in missing:
        print(f"not measured, not installed: {name}")
    return names, h2_names


def write_results(run, settings, names, h2_names, missing):
    versions = {peer.name: peer.version() for peer in run.peers if not peer.is_floor}
    text = report.as_document(
        run.samples, names, h2_names, versions,
        {"rounds": settings.rounds, "closed": settings.closed_requests, "rate": RATE,
         "seconds": settings.open_seconds}, os.path.dirname(HERE))
    if missing:
        text += "\nNot measured in this run, not installed: " + ", ".join(missing) + ".\n"
    with open(os.path.join(HERE, "RESULTS.md"), "w", encoding="utf-8") as target:
        target.write(text)
    print("wrote benchmarks/RESULTS.md")


def main():
    args = parse_arguments()
    if len(os.sched_getaffinity(0)) < 2:
        print("the benchmark needs two cores", file=sys.stderr)
        return 1
    tools = measure.Tools(args.build)
    settings = Settings(args.quick, args.rounds)
    chosen, missing = choose_peers(args, tools)
    with tempfile.TemporaryDirectory(prefix="remora-bench-") as directory:
        run = Run(tools, settings, chosen, directory)
        try:
            run.serve_all()
            run.measure_memory()
            for number in range(settings.rounds):
                run.measure_round(number)
        except (measure.MeasureError, OSError, subprocess.SubprocessError) as error:
            print(f"cannot measure: {error}", file=sys.stderr)
            return 1
        finally:
            ports.stop_all(run.processes)
    names, h2_names = publish(run, settings, missing)
    if not (args.quick or args.only or report.SUBJECT in missing):
        write_results(run, settings, names, h2_names, missing)
    return 1 if any(run.samples.errors.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
