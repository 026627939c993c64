#!/usr/bin/env python3
"""Measures how long an admission takes in the operator itself: ./dev bench admission.

The operator runs against the integration tests' API server and is asked as a real one asks: reviews of
a pod over TLS and HTTP/1.1, at a fixed rate. Its floor is nginx, which returns the very bytes that the
operator answered with and reads nothing. What an API server adds is measured on a cluster
(tests/cluster/RESULTS.md). Writes RESULTS-admission.md beside this file.
Exit codes: 0 measured, 1 a measurement or a request failed.
"""

import argparse
import datetime
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile

import measure
import peers
import ports
import report

HERE = pathlib.Path(__file__).resolve().parent
INTEGRATION = HERE.parent / "tests" / "integration"
PATH = "/mutate/label?timeout=5s"
CONNECTIONS = 8  # kept alive; over HTTP/1.1 an API server has one for each review under way
RATES = (100, 1000)  # per second; the aim is set for the first
AIM_MS = 5.0
WARM_UP_REQUESTS = 500
LOAD_SLACK_S = 60


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def asked(url, body, rate, seconds, directory):
    """Milliseconds of each of rate × seconds reviews. h2load sends by the clock, not when answered."""
    log = pathlib.Path(directory) / "h2load.log"
    log.unlink(missing_ok=True)
    count = max(int(rate * seconds), CONNECTIONS)
    done = subprocess.run(
        measure.on_core(peers.LOAD_CORE, [
            "h2load", "--h1", "-n", str(count), "-c", str(CONNECTIONS),
            f"--rps={rate / CONNECTIONS:g}", f"--log-file={log}", "-d", str(body),
            "-H", "content-type: application/json", url]),
        capture_output=True, text=True, timeout=seconds + LOAD_SLACK_S, check=False)
    rows = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    good = [int(row[2]) / 1000 for row in rows if row[1] == "200"]
    if len(good) != count:
        raise measure.MeasureError(f"{len(good)} of {count} reviews of {url} answered with 200: {done.stdout}"
                                   f"{done.stderr}")
    return sorted(good)


class Floor:
    """nginx with the operator's own certificate and answer."""

    def __init__(self, directory, identity, answer):
        self.port = ports.free_ports(1)[0]
        root = pathlib.Path(directory)
        (root / "answer").write_text(answer)
        (root / "tls.crt").write_text(identity["tls.crt"])
        (root / "tls.key").write_text(identity["tls.key"])
        # A POST gets no file by itself: nginx takes it as the page of its own error.
        (root / "nginx.conf").write_text(f"""\
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ }}
http {{
  access_log off; keepalive_requests 10000000; client_body_buffer_size 64k;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{
    listen 127.0.0.1:{self.port} ssl;
    ssl_certificate {root}/tls.crt; ssl_certificate_key {root}/tls.key;
    location / {{ root {root}; error_page 405 =200 /answer; default_type application/json; }}
  }}
}}
""")
        self.process = subprocess.Popen(measure.on_core(
            peers.PROXY_CORE, ["nginx", "-c", str(root / "nginx.conf"), "-p", str(root)]))


def measure_one(url, body, pids, rate, seconds, directory):
    before = measure.cpu_ns(pids)
    took = asked(url, body, rate, seconds, directory)
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99),
            "p99.9": percentile(took, 0.999), "max": took[-1],
            "cpu_us": (measure.cpu_ns(pids) - before) / 1000 / len(took)}


def rounds_of(subjects, options, directory):
    """{(name, rate): [one measurement per round]}; the order rotates."""
    found = {}
    for number in range(options.rounds):
        turn = number % len(subjects)
        for name, url, pids in subjects[turn:] + subjects[:turn]:
            for rate in RATES:
                print(f"round {number + 1} of {options.rounds}: {name}, {rate} a second",
                      file=sys.stderr)
                found.setdefault((name, rate), []).append(measure_one(
                    url, f"{directory}/review.json", pids, rate, options.seconds, directory))
    return found


def table_of(found):
    keys = ("p50", "p99", "p99.9", "max")
    rows = [["", "a second", *(f"{key} ms" for key in keys), "CPU µs a review"]]
    for (name, rate), rounds in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        rows.append([name, str(rate), *(f"{middle[key]:.2f}" for key in keys),
                     f"{middle['cpu_us']:.0f}"])
    return rows


def document(rows, found, options, sizes):
    at_aim = statistics.median(each["p99"] for each in found[("operator", RATES[0])])
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return f"""# What an admission takes in the operator

`./dev bench admission` makes this file anew. Reviews of one pod ({sizes[0]} bytes, answered with a patch,
{sizes[1]} bytes in all) over TLS and HTTP/1.1, {CONNECTIONS} connections, sent by the clock, {options.seconds:g} s at each rate.
The operator on core 0, the load on core 1; medians of {options.rounds} rounds, in an order that rotates. nginx
returns the same bytes and reads nothing: the floor. What an API server adds is in
[tests/cluster/RESULTS.md](../tests/cluster/RESULTS.md).

{today}, revision {report.revision(str(HERE.parent))}, {report.processor()}, {os.cpu_count()} cores.

{report.as_markdown(rows)}

The aim, p99 under {AIM_MS:g} ms at {RATES[0]} pods a second: {"reached" if at_aim < AIM_MS else "not reached"}, {at_aim:.2f} ms.
"""


def run(options, directory):
    sys.path.insert(0, str(INTEGRATION))
    os.environ["REMORA_BINARY"] = os.path.join(options.build, "remora")
    # pylint: disable=import-outside-toplevel # they look for the binary when they are read
    import fake_kubernetes
    import operator_program

    api = fake_kubernetes.FakeKubernetes().start()
    operator = operator_program.Operator(pathlib.Path(directory), api)
    processes = []
    try:
        operator.start()
        subprocess.run(["taskset", "-acp", str(peers.PROXY_CORE), str(operator.process.pid)],
                       check=True, stdout=subprocess.DEVNULL)
        body = operator_program.review(operator_program.pod())
        pathlib.Path(directory, "review.json").write_bytes(body)
        with operator.caller() as caller:
            status, answer = caller.ask("POST", PATH, body)
        if status != 200 or "patch" not in answer:
            raise measure.MeasureError(f"the review was answered with {status}: {answer}")
        floor = Floor(directory, api.secret(), answer)
        processes.append(floor.process)
        operator_program.wait_for(lambda: is_open(floor.port), "nginx")
        subjects = [("operator", f"https://127.0.0.1:{operator.port}{PATH}", [operator.process.pid]),
                    ("nginx (floor)", f"https://127.0.0.1:{floor.port}/answer", [floor.process.pid])]
        for _, url, _ in subjects:
            asked(url, f"{directory}/review.json", 1000, WARM_UP_REQUESTS / 1000, directory)
        return rounds_of(subjects, options, directory), (len(body), len(answer))
    finally:
        ports.stop_all(processes)
        operator.clean_up()
        api.stop()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="build directory with remora")
    parser.add_argument("--quick", action="store_true", help="short; leaves the results alone")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.rounds, options.seconds = (1, 3) if options.quick else (5, 20)
    with tempfile.TemporaryDirectory(prefix="remora-bench-") as directory:
        try:
            found, sizes = run(options, directory)
        except (measure.MeasureError, OSError, subprocess.SubprocessError) as error:
            print(f"cannot measure: {error}", file=sys.stderr)
            return 1
    rows = table_of(found)
    print(report.as_terminal(rows))
    if not options.quick:
        target = HERE / "RESULTS-admission.md"
        target.write_text(document(rows, found, options, sizes), encoding="utf-8")
        print("wrote benchmarks/RESULTS-admission.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
