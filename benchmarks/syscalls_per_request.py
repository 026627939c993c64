#!/usr/bin/env python3
"""Counts the proxy's system calls per request and fails when they exceed the limit.

85% of what a proxied request costs is spent in the kernel, so this number guards the data path
better than any timing on a shared machine. Method: 32 keep-alive connections in a closed loop;
strace counts every call of every thread of the proxy (not of the agent, its child) while a fixed
number of requests passes; the quotient is compared with the limit. Start-up, the opening of
connections to the agent and the first allocations are over before counting starts.

The same count is taken of the bare byte relay, whose cost is known (2 reads, 2 writes and a share
of a wait): if that is not what strace sees, the measurement itself is broken and the test says so.

Exit codes: 0 within the limit, 1 above it, 2 could not measure.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import ports

CONNECTIONS = 32
REQUESTS = 15_000
RELAY_REQUESTS = 6_000
WARMUP_REQUESTS = 2_000
SYSCALLS_PER_REQUEST_MAX = 4.2
# What the relay must show for the count to be believed.
RELAY_RANGE = (3.9, 4.3)
READY_SECONDS_MAX = 20
STRACE_SECONDS_MAX = 60


class CannotMeasure(Exception):
    """Something around the measurement failed; the message says what."""


def wait_until(condition, seconds_max, what):
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what}: not within {seconds_max} s")
        time.sleep(0.02)


def run_load(load, port, requests):
    done = subprocess.run(
        [load, "run", "--port", str(port), "--connections", str(CONNECTIONS),
         "--requests", str(requests)],
        capture_output=True, text=True, timeout=STRACE_SECONDS_MAX, check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"load on port {port}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    if result["errors"]:
        raise CannotMeasure(f"{result['errors']} of {requests} requests on port {port} failed")


def attach(pid, report):
    """Starts strace and returns it once it has stopped and resumed every thread."""
    with open(report + ".messages", "w", encoding="utf-8") as messages:
        tracer = subprocess.Popen(["strace", "-c", "-f", "-p", str(pid), "-o", report],
                                  stderr=messages)
    threads = len(os.listdir(f"/proc/{pid}/task"))

    def attached():
        if tracer.poll() is not None:
            with open(report + ".messages", encoding="utf-8") as text:
                raise CannotMeasure(f"strace: {text.read().strip()}")
        traced = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as status:
                traced += "TracerPid:\t0\n" not in status.read()
        return traced >= threads

    wait_until(attached, READY_SECONDS_MAX, "strace attaching")
    return tracer


def calls_in(report):
    """Calls by name, from the summary of strace -c."""
    calls = {}
    with open(report, encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] = calls.get(words[-1], 0) + int(words[3])
    if not calls:
        raise CannotMeasure(f"no calls in {report}")
    return calls


def count(name, pid, port, load, directory, requests=REQUESTS):
    run_load(load, port, WARMUP_REQUESTS)
    report = os.path.join(directory, name)
    tracer = attach(pid, report)
    try:
        run_load(load, port, requests)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=READY_SECONDS_MAX)
    calls = calls_in(report)
    per_request = sum(calls.values()) / requests
    print(f"{name}: {per_request:.2f} system calls per request")
    for call, times in sorted(calls.items(), key=lambda item: -item[1])[:8]:
        print(f"  {times / requests:6.3f}  {call}")
    return per_request


def start(command, port, processes):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    processes.append(process)

    def serving():
        if process.poll() is not None:
            raise CannotMeasure(f"{command[0]} ended with exit code {process.returncode}")
        return ports.answers_200(port)

    wait_until(serving, READY_SECONDS_MAX, f"{command[0]} serving on port {port}")
    return process


def measure(args, directory, processes):
    agent_port, proxy_port, backend_port, relay_port = ports.free_ports(4)
    start([args.backend, "--port", str(backend_port)], backend_port, processes)
    relay = start([args.relay, "--port", str(relay_port), "--backend", str(backend_port)],
                  relay_port, processes)
    relay_calls = count("relay", relay.pid, relay_port, args.load, directory, RELAY_REQUESTS)
    if not RELAY_RANGE[0] <= relay_calls <= RELAY_RANGE[1]:
        raise CannotMeasure(f"the bare relay counts {relay_calls:.2f}, which can't be")
    remora = start([args.remora, "run", "--listen", f"127.0.0.1:{proxy_port}",
                    "--app-port", str(agent_port), "--",
                    args.backend, "--port", str(agent_port)], proxy_port, processes)
    return count("remora", remora.pid, proxy_port, args.load, directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for program in ("remora", "backend", "relay", "load"):
        parser.add_argument(f"--{program}", required=True, help="path of the program")
    args = parser.parse_args()
    processes = []
    try:
        with tempfile.TemporaryDirectory(prefix="remora-syscalls-") as directory:
            per_request = measure(args, directory, processes)
    except (CannotMeasure, OSError, subprocess.SubprocessError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 2
    finally:
        ports.stop_all(processes)
    if per_request > SYSCALLS_PER_REQUEST_MAX:
        print(f"above the limit of {SYSCALLS_PER_REQUEST_MAX} per request", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
