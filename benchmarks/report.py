"""From samples to the published table: medians, where Remora is behind, and in how many rounds."""

import dataclasses
import datetime
import os
import platform
import statistics
import subprocess

SUBJECT = "Remora"


@dataclasses.dataclass(frozen=True)
class Column:
    """One measured quantity; less is better unless `more_is_better`."""

    key: str
    title: str  # in the table, where the column before it gives the context
    name: str  # in a sentence
    digits: int
    more_is_better: bool = False
    # The best result that is asked of Remora: that of these peers, or a number.
    rivals: tuple = ()
    aim: float | None = None


COLUMNS = (
    Column("cpu_us_32", "CPU µs/req, 32 conn", "CPU µs per request at 32 connections",
            1, rivals=("nginx",)),
    Column("cpu_us_256", "256 conn", "CPU µs per request at 256 connections", 1, rivals=("nginx",)),
    Column("cpu_us_1", "1 conn", "CPU µs per request at 1 connection", 1, rivals=("nginx",)),
    Column("rps_32", "req/s, 32 conn", "requests per second at 32 connections",
            0, more_is_better=True, rivals=("nginx", "HAProxy")),
    Column("added_p50_ms", "added p50 ms", "added p50, ms", 3, rivals=("nginx", "HAProxy")),
    Column("added_p99_ms", "p99", "added p99, ms", 3, rivals=("nginx", "HAProxy")),
    Column("added_p999_ms", "p99.9", "added p99.9, ms", 3, rivals=("nginx", "HAProxy")),
    Column("cpu_us_1000rps", "CPU µs/req, 1000 req/s", "CPU µs per request at 1000 per second",
            1, rivals=("nginx",)),
    Column("pss_idle_mb", "idle PSS MB", "idle PSS, MB", 1, aim=4.0),
    Column("start_ms", "start ms", "start, ms", 1, aim=10.0),
)
H2_COLUMNS = (
    Column("h2_cpu_us", "CPU µs/req", "HTTP/2 CPU µs per request",
            1, rivals=("HAProxy", "nghttpx")),
    Column("h2_rps", "req/s", "HTTP/2 requests per second",
            0, more_is_better=True, rivals=("HAProxy", "nghttpx")),
)


class Samples:
    """values[peer][column key] = one number per round."""

    def __init__(self):
        self.values = {}
        self.errors = {}

    def add(self, peer, key, value):
        self.values.setdefault(peer, {}).setdefault(key, []).append(value)

    def add_errors(self, peer, count):
        self.errors[peer] = self.errors.get(peer, 0) + count

    def of(self, peer, key):
        return self.values.get(peer, {}).get(key, [])

    def median(self, peer, key):
        values = self.of(peer, key)
        return statistics.median(values) if values else None


def cell(samples, peer, column):
    value = samples.median(peer, column.key)
    return "–" if value is None else f"{value:.{column.digits}f}"


def table(samples, names, columns):
    """Rows of text, the first one the titles."""
    rows = [["", *(column.title for column in columns)]]
    for name in names:
        rows.append([name, *(cell(samples, name, column) for column in columns)])
    return rows


def as_terminal(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def as_markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines)


def rounds_behind(samples, rival, column):
    """In how many rounds the rival was better, of how many. The two of a round are minutes apart at
    most, so this says more than two medians do on a machine whose speed drifts."""
    pairs = list(zip(samples.of(SUBJECT, column.key), samples.of(rival, column.key)))
    if column.more_is_better:
        return sum(mine < theirs for mine, theirs in pairs), len(pairs)
    return sum(mine > theirs for mine, theirs in pairs), len(pairs)


def is_behind(mine, theirs, column):
    return mine < theirs if column.more_is_better else mine > theirs


def verdicts(samples, columns):
    """(behind, ahead): one sentence for each aim."""
    behind, ahead = [], []
    for column in columns:
        mine = samples.median(SUBJECT, column.key)
        if mine is None:
            continue
        text = f"{column.name}: {mine:.{column.digits}f}"
        if column.aim is not None:
            (behind if mine > column.aim else ahead).append(f"{text}; the aim is {column.aim:g}")
        for rival in column.rivals:
            theirs = samples.median(rival, column.key)
            if theirs is None:
                continue
            worse, rounds = rounds_behind(samples, rival, column)
            sentence = (f"{text}; {rival} {theirs:.{column.digits}f} "
                        f"(behind in {worse} of {rounds} rounds)")
            (behind if is_behind(mine, theirs, column) else ahead).append(sentence)
    return behind, ahead


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def distribution():
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def revision(repository):
    done = subprocess.run(["git", "-C", repository, "rev-parse", "--short", "HEAD"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


METHOD = """\
`./dev bench` makes this file anew. One run on one machine: each proxy with one worker on core 0,
the load and the backend together on core 1, all of them on loopback, access logs off, connections
to the backend kept alive, a 64-byte reply. Every number is the median of {rounds} rounds; each
round measures every proxy once, in an order that rotates, so that a machine that speeds up or slows
down favours nobody. Remora runs without a configuration file: default filters, probes and process
readings are on, and the backend is the agent that it supervises.

- CPU: time on a core of all threads and processes of the proxy (`/proc/PID/task/*/schedstat`)
  divided by requests; {closed} requests in a closed loop after a warm-up. Remora's child, the
  agent, is not the proxy and is left out.
- Latency: {rate} requests per second for {seconds:g} s over 32 connections, counted from the moment
  at which each request was due, whatever became of those before it. Added: minus the same
  percentile of the same load without a proxy in the same round.
- req/s: throughput of that closed loop. Core 1 is busy too, so fast proxies are held back by the
  load.
- Memory: proportional set size of all the proxy's processes, after the first request, before load.
- Start: from fork and exec to the first 200; for Remora that includes the start of the agent.
- The bare relay copies bytes and understands nothing: the floor for a proxy in user space.
"""


def as_document(samples, names, h2_names, versions, settings, repository):
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    behind, ahead = verdicts(samples, COLUMNS + H2_COLUMNS)
    parts = ["# What a request costs, beside others\n", METHOD.format(**settings),
             f"{today}, revision {revision(repository)}, {processor()}, {os.cpu_count()} cores, "
             f"Linux {platform.release()}, {distribution()}. "
             + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n",
             "## HTTP/1.1\n", as_markdown(table(samples, names, COLUMNS)) + "\n",
             direct_line(samples) + "\n"]
    if h2_names:
        parts += ["## HTTP/2 from the caller, HTTP/1.1 to the agent\n",
                  "8 connections with 32 streams each (h2load).\n",
                  as_markdown(table(samples, h2_names, H2_COLUMNS)) + "\n"]
    parts += ["## Where Remora is behind\n", bullets(behind, "Nowhere in this run."),
              "## Where it is level or ahead\n", bullets(ahead, "Nowhere in this run.")]
    failed = failures(samples)
    if failed:
        parts += ["## Failed requests\n", bullets(failed, "")]
    return "\n".join(parts)


def direct_line(samples):
    values = [samples.median("direct", key) for key in ("p50_ms", "p99_ms", "p999_ms")]
    if any(value is None for value in values):
        return ""
    return ("Without a proxy the same load sees p50 {:.3f}, p99 {:.3f} and p99.9 {:.3f} ms."
            .format(*values))


def failures(samples):
    return [f"{name}: {count}" for name, count in samples.errors.items() if count]


def bullets(lines, when_empty):
    return "\n".join(f"- {line}" for line in lines) + "\n" if lines else when_empty + "\n"


def as_screen(samples, names, h2_names):
    parts = ["", as_terminal(table(samples, names, COLUMNS)), "", direct_line(samples)]
    if h2_names:
        parts += ["", "HTTP/2 from the caller, HTTP/1.1 to the agent:", "",
                  as_terminal(table(samples, h2_names, H2_COLUMNS))]
    behind, ahead = verdicts(samples, COLUMNS + H2_COLUMNS)
    parts += ["", "Behind:", *(f"  {line}" for line in behind or ["nowhere in this run"]),
              "Level or ahead:", *(f"  {line}" for line in ahead or ["nowhere in this run"])]
    parts += [f"FAILED REQUESTS {line}" for line in failures(samples)]
    return "\n".join(parts)
