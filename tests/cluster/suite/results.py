"""What the tests measured: tables, printed at the end and, if asked for, written to
tests/cluster/RESULTS.md, those of thousands of pods to RESULTS-scale.md."""

import dataclasses
import datetime
import os
import pathlib
import platform

_FOLDER = pathlib.Path(__file__).resolve().parent.parent
FILES = {False: _FOLDER / "RESULTS.md", True: _FOLDER / "RESULTS-scale.md"}
HEAD = ("fault", "Remora: found as", "found s", "acted s", "ready s", "callers without an answer s",
        "lost / refused / sent", "Kubernetes alone: callers without an answer s",
        "lost / refused / sent", "remarks")
EXPLAINED = """\
# On a cluster, with Remora and with Kubernetes alone

`./dev cluster test {options}` wrote this on {date}: {machine}, {nodes} nodes of Kubernetes
{version} on that one machine.
"""
FAULTS_EXPLAINED = """\
Each agent is called by {regulars} regular callers with a connection each, {rate:g} requests a second, and
by {rate:g} newcomers a second with a new connection each; every request has an Idempotency-Key and is
sent once. *found*, *acted*
and *ready* are counted from the fault and come from the sidecar's incident: the fault was certain, the
agent was started again (by the kubelet, with its back-off), it was ready. *Callers without an answer*
is the longest time between two good answers to anybody. *Lost*: taken, and not answered well, or not even
refused (sent to a pod whose network is gone: the caller waits until it gives up); *refused*: nobody took
the connection, so the caller may try again safely. The column for Kubernetes is the same pod
without Remora, with an `httpGet` liveness probe at its defaults (each 10 s, three failures), at the same
moment or right after. Requests that cause the fault are not counted.
"""


RECOVERIES_TITLE = "Healed by the operator, or rightly left alone; and Kubernetes alone"
RECOVERIES_EXPLAINED = """\
From the fault until all pods are Ready again and the Incident is over, in whole seconds as Kubernetes' times
are; *detect*, *decide*, *act* and *ready* are its parts, of the Incident that took longest
(`remora_operator_recovery_duration_seconds` has the same). *Kubernetes alone* is the same workload without a
policy, at Kubernetes' defaults, made ill at the same moment. Tests end a watch that saw no end; then the cell
says how long they watched.
"""


@dataclasses.dataclass
class Recovery:
    fault: str
    remora: str
    alone: str
    split: str = ""
    remarks: str = ""


def recoveries_table(rows):
    """Of report_table."""
    return RECOVERIES_TITLE, {each.fault: {
        "Remora": each.remora, "detect / decide / act / ready s": each.split,
        "Kubernetes alone": each.alone, "remarks": each.remarks} for each in rows}, (
            RECOVERIES_EXPLAINED)


def split_of(incidents):
    """The parts of the recovery that took longest, of Incidents that are over; as k8s/healing/recovery.cc."""
    longest = max(incidents, key=lambda each: each["status"].get("recoverySeconds", 0))
    spec, status = longest["spec"], longest["status"]
    detected, ended = moment(spec["detectedAt"]), moment(status["endedAt"])
    began = min(moment(spec.get("beganAt") or spec["detectedAt"]), detected)
    if took := status.get("recoverySeconds"):
        ended = max(detected, min(ended, began + datetime.timedelta(seconds=int(took))))
    at = [min(max(moment(step["startedAt"]), detected), ended) for step in status.get("steps", [])]
    moments = [began, detected, at[0] if at else ended, at[-1] if at else ended, ended]
    return " / ".join(f"{(b - a).total_seconds():.0f}" for a, b in zip(moments, moments[1:]))


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclasses.dataclass
class Row:
    fault: str
    found_as: str = ""
    found_s: float | None = None
    acted_s: float | None = None
    ready_s: float | None = None
    remora: object = None  # load.Seen
    alone: object = None
    alone_never: bool = False  # nothing had healed it when the watch ended
    remarks: str = ""

    def cells(self):
        return (self.fault, self.found_as, _seconds(self.found_s), _seconds(self.acted_s),
                _seconds(self.ready_s), _silence(self.remora, False), _counts(self.remora),
                _silence(self.alone, self.alone_never), _counts(self.alone), self.remarks)


def _seconds(value):
    return "" if value is None else f"{value:.2f}"


def _silence(seen, never):
    if seen is None:
        return ""
    return f"not healed within {seen.silent_s:.0f}" if never else f"{seen.silent_s:.1f}"


def _counts(seen):
    return "" if seen is None else f"{seen.lost} / {seen.refused} / {seen.sent}"


def of_incident(fault, incident, fault_at, **more):
    """A row from the sidecar's record of a fault that was made at fault_at."""
    since = lambda key: incident[key] / 1e9 - fault_at if incident.get(key) else None  # noqa: E731
    return Row(fault, incident["fault"], since("detected_at_unix_ns"), since("acted_at_unix_ns"),
               since("ready_at_unix_ns"), **more)


def _table(head, rows):
    return "\n".join("| " + " | ".join(line) + " |" for line in (
        head, tuple("---" for _ in head), *rows))


def table_of_faults(rows):
    return _table(HEAD, (row.cells() for row in rows))


def table_of_cells(rows):
    """{row: text or {column: text}}"""
    named = {name: cells if isinstance(cells, dict) else {"": cells} for name, cells in rows.items()}
    columns = list(dict.fromkeys(column for cells in named.values() for column in cells))
    return _table(("", *columns), ((name, *(cells.get(column, "") for column in columns))
                                   for name, cells in named.items()))


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{os.cpu_count()} cores (load average {os.getloadavg()[2]:.1f}), {memory:.0f} GiB, "
            f"Linux {platform.release()}")


def write(file, rows, tables, **facts):
    """rows: of faults; tables: (title, rows of table_of_cells, what it means)."""
    options = "-m scale --write-results" if file == FILES[True] else "--write-results"
    parts = [EXPLAINED.format(date=datetime.date.today().isoformat(), machine=machine(),
                              options=options, **facts)]
    if rows:
        parts.append(f"## Faults\n\n{FAULTS_EXPLAINED.format(**facts)}\n{table_of_faults(rows)}\n")
    for title, cells, meaning in tables:
        before = f"{meaning}\n\n" if meaning else ""
        parts.append(f"## {title}\n\n{before}{table_of_cells(cells)}\n")
    file.write_text("\n".join(parts))
