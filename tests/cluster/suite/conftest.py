"""Fixtures of the cluster suite. It runs on whatever cluster KUBECONFIG points to; tests that switch
nodes off need the one of ./dev cluster and are skipped elsewhere."""

import functools
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import audit as audit_module  # noqa: E402
import cluster as cluster_tool  # noqa: E402
import images  # noqa: E402
import layout  # noqa: E402
import load  # noqa: E402
import results as results_module  # noqa: E402
import steps  # noqa: E402
from kube import Kube, is_ready  # noqa: E402
from operators import Operator  # noqa: E402


RESULTS = pytest.StashKey()
RECOVERIES = pytest.StashKey()
SCALE = "scale"


def pytest_addoption(parser):
    parser.addoption("--write-results", action="store_true",
                     help="write what was measured to tests/cluster/RESULTS.md")


def pytest_configure(config):
    config.addinivalue_line("markers", "short: one test of each kind, for a run of about a minute")
    config.addinivalue_line("markers", f"{SCALE}: thousands of pods; only with -m {SCALE}")


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m") != SCALE:
        for item in items:
            if item.get_closest_marker(SCALE):
                item.add_marker(pytest.mark.skip(reason=f"thousands of pods: only with -m {SCALE}"))


@pytest.fixture(scope="session")
def own_cluster_or_none():
    if not os.environ.get("REMORA_TEST_CLUSTER"):
        return None
    return cluster_tool.opened(steps.Stopwatch())


@pytest.fixture
def own_cluster(own_cluster_or_none):
    if own_cluster_or_none is None:
        pytest.skip("switches nodes off: only on the cluster of ./dev cluster")
    return own_cluster_or_none


def image_for_tests(own, variable, recipe, public=None):
    """The image that the variable names; on our own cluster what the recipe makes; elsewhere a public
    one, where there is one that will do."""
    if name := os.environ.get(variable):
        return name
    if own is not None:
        return own.load_recipe(recipe())
    if public is None:
        pytest.skip(f"{variable} names no image; tests/cluster/README.md says what must be in it")
    return public


@pytest.fixture(scope="session")
def tools_image(own_cluster_or_none):
    """A shell, wget, nc, httpd: busybox."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_TOOLS_IMAGE", lambda: images.TOOLS,
                           "busybox:1.37")


@pytest.fixture(scope="session")
def python_image(own_cluster_or_none):
    """Python 3.11 with its standard library."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_PYTHON_IMAGE", lambda: images.PYTHON,
                           "python:3.11-slim")


@pytest.fixture(scope="session")
def agent_image(own_cluster_or_none):
    """The demo's LangGraph agent and its model server under /srv/agent."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_AGENT_IMAGE", images.agent)


@pytest.fixture(scope="session")
def locking_agent_image(own_cluster_or_none):
    """tests/agents/locking_agent.cc as its entry point."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_LOCKING_AGENT_IMAGE",
                           images.locking_agent)


@pytest.fixture(scope="session")
def mcp_image(own_cluster_or_none):
    """Python with the SDK of the Model Context Protocol."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_MCP_IMAGE", images.mcp_server)


@pytest.fixture(scope="session")
def otlp_image(own_cluster_or_none):
    """Python with opentelemetry-proto."""
    return image_for_tests(own_cluster_or_none, "REMORA_TEST_OTLP_IMAGE", images.otlp_receiver)


@pytest.fixture(scope="session")
def remora_image(own_cluster_or_none):
    """The product's image: REMORA_IMAGE, or the archive that ./dev image leaves."""
    if name := os.environ.get("REMORA_IMAGE"):
        return name
    if own_cluster_or_none is None:
        pytest.skip("REMORA_IMAGE doesn't name the image to test")
    archive = pathlib.Path(os.environ.get("REMORA_ARCHIVE", images.PRODUCT_ARCHIVE))
    if not archive.exists():
        pytest.skip(f"no image at {archive}: ./dev image makes it")
    own_cluster_or_none.load_image(archive)
    return images.reference_in(archive)


@pytest.fixture(scope="session")
def remora_binary():
    """For `remora inject`."""
    binary = os.environ.get("REMORA_BINARY", layout.REPOSITORY / "build/release/remora")
    if not os.access(binary, os.X_OK):
        pytest.skip(f"no program at {binary}: ./dev build makes it")
    return str(binary)


@pytest.fixture(scope="session")
def inject_into(remora_binary, remora_image):
    """Applies objects to a namespace after `remora inject` has added Remora to their pods."""
    def apply(kube, *objects):
        whole = "\n---\n".join(json.dumps(each) for each in objects)
        done = subprocess.run([remora_binary, "inject", "--filename=-", f"--image={remora_image}",
                               f"--namespace={kube.namespace}"], input=whole, text=True,
                              capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        kube.kubectl("apply", "--filename=-", stdin=done.stdout)
    return apply


@pytest.fixture
def inject(kube, inject_into):
    return functools.partial(inject_into, kube)


@pytest.fixture(scope="session")
def operator(everywhere, remora_image):
    """Installed from the manifests for the rest of the run; it touches no pod that doesn't ask."""
    installed = Operator(remora_image)
    installed.install()
    yield installed
    installed.remove()


@pytest.fixture
def audit(own_cluster):
    """What the operator has asked of the API server."""
    return audit_module.Audit(own_cluster.where.audit_log)


@pytest.fixture(scope="session")
def everywhere():
    """The cluster as a whole, no namespace."""
    return Kube()


@pytest.fixture(scope="session")
def nodes(everywhere):
    """The names of the nodes that take pods, all Ready."""
    names = [node["metadata"]["name"] for node in everywhere.list("nodes")
             if is_ready(node) and not any(taint["effect"] == "NoSchedule"
                                           for taint in node["spec"].get("taints", []))]
    assert len(names) >= 2, f"the suite needs two nodes that take pods, found {names}"
    return names


@pytest.fixture(scope="session", autouse=True)
def disks_given_back(own_cluster_or_none, everywhere):
    """An earlier run's claims are gone, but their disks stay theirs until somebody wipes them."""
    if own_cluster_or_none is not None:
        for disk in everywhere.list("pv"):
            if disk["status"]["phase"] == "Released":
                _wipe(own_cluster_or_none, everywhere, disk["metadata"]["name"])


def _wipe(own, everywhere, name):
    folder = own.where.disks / name
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    everywhere.kubectl("patch", "pv", name, "--type=json",
                       '--patch=[{"op": "remove", "path": "/spec/claimRef"}]')


def _namespace(everywhere, title):
    stem = re.sub(r"[^a-z0-9]+", "-", title.removeprefix("test_").lower()).strip("-")
    name = f"{stem[:40].strip('-')}-{secrets.token_hex(3)}"
    everywhere.kubectl("create", "namespace", name)
    inside = Kube(name)
    inside.wait("serviceaccount", "default", "is there", bool)
    yield inside
    everywhere.delete("namespace", name)


@pytest.fixture
def kube(request, everywhere):
    """A namespace of the test's own, gone with the test."""
    yield from _namespace(everywhere, request.node.name)


@pytest.fixture(scope="module")
def shared_kube(request, everywhere):
    """One for all tests of a file."""
    yield from _namespace(everywhere, request.module.__name__)


@pytest.fixture(scope="session")
def results(request):
    """What is measured about faults: rows of results.py, shown at the end."""
    return request.config.stash.setdefault(RESULTS, [])


@pytest.fixture(scope="session")
def recoveries(request):
    """What the operator healed, or rightly left alone: rows of results.Recovery, shown at the end."""
    return request.config.stash.setdefault(RECOVERIES, [])


TABLES = []


@pytest.fixture(scope="session")
def report_table():
    """report_table(title, {row: text or {column: text}}, what it means): at the end of the run."""
    return lambda title, rows, meaning="": TABLES.append((title, rows, meaning))


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(RESULTS, [])
    if rows:
        terminalreporter.section("faults, with Remora and with Kubernetes alone")
        terminalreporter.write_line(results_module.table_of_faults(rows))
    recoveries = config.stash.get(RECOVERIES, [])
    if recoveries:
        TABLES.insert(0, results_module.recoveries_table(recoveries))
    for title, cells, _ in TABLES:
        terminalreporter.section(title)
        terminalreporter.write_line(results_module.table_of_cells(cells))
    if config.getoption("--write-results"):
        everywhere = Kube()
        version = json.loads(everywhere.kubectl("version", "--output=json").stdout)
        results_module.write(results_module.FILES[config.getoption("-m") == SCALE], rows, TABLES,
                             nodes=len(everywhere.list("nodes")),
                             version=version["serverVersion"]["gitVersion"],
                             regulars=load.REGULARS, rate=load.RATE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows its pods and events."""
    outcome = yield
    report = outcome.get_result()
    arguments = getattr(item, "funcargs", {})
    inside = arguments.get("kube") or arguments.get("shared_kube")
    if report.when == "call" and report.failed and inside:
        report.sections.append((f"namespace {inside.namespace}", inside.story()))
