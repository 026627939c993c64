"""A server of the Model Context Protocol (the Python SDK's, streamable HTTP) behind Remora: killed in
the middle of a session, and healed."""

import concurrent.futures
import json

import agents
import patients
import results as rows
from kube import container, pod
from load import Seen

SESSION_S = 120


def run_client(kube, host):
    done = kube.run("client", "python3", "-c", patients.program("mcp_client.py"),
                    f"http://{host}/mcp", seconds=SESSION_S, check=False)
    seen = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            seen |= json.loads(line)
    assert "again" in seen, f"{done.stdout}\n{done.stderr[-3000:]}"
    return seen


def test_a_session_whose_server_dies_ends_and_the_next_one_works(
        kube, inject, mcp_image, results):
    server = lambda name: patients.patient(name, mcp_image, [  # noqa: E731
        "python3", "-c", patients.program("mcp_server.py"), str(agents.AGENT_PORT)])
    kube.apply(pod("client", container("main", mcp_image, ["sleep", "100000"])))
    inject(*server("tools"))
    kube.apply(*patients.without_annotations(server("alone")))
    for name in ("client", "tools", "alone"):
        kube.wait_ready(name)
    with concurrent.futures.ThreadPoolExecutor() as both:
        alone = both.submit(run_client, kube, "alone")
        seen = run_client(kube, "tools")
        alone = alone.result()
    assert seen["words"] == seen["again"] == 3
    assert set(seen["tools"]) == {"count_words", "die"}
    assert seen["outcome"] != "no error"
    incident = patients.closed_incident(kube, "tools", "crash")
    assert incident["closed_reason"] == "recovered"
    assert any("POST /mcp" in each for each in incident["requests_in_flight"]), incident
    row = rows.of_incident("MCP server dies in a tool call", incident, seen["fault_at"])
    row.remora, row.alone = (Seen(each["at"] - each["fault_at"], 1, 1, each["tries"] - 1, ())
                             for each in (seen, alone))
    # The answer had begun (an event stream), so it is cut off; the SDK waits for its own limit then.
    row.remarks = (f"one session: the call that kills the server fails after {seen['told_s']:.1f} s "
                   f"(alone: {alone['told_s']:.1f} s), then new sessions until one works")
    results.append(row)
