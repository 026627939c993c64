"""Fixtures of the Docker tests: one engine for the session, one network with the model server in it,
and a table of what every fault took."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import tempfile

import engine as engine_module
import images
import pytest
from engine import Engine, wait_for

SOURCE = images.SOURCE
MODEL_PORT = 9000
READY_WAIT_S = 60

_times = []


def pytest_addoption(parser):
    parser.addoption("--write-results", action="store_true",
                     help="write the table of faults to tests/docker/RESULTS.md")


def pytest_configure(config):
    if os.geteuid() != 0:
        raise pytest.UsageError("a Docker Engine needs root")
    for program in (engine_module.DOCKER, engine_module.COMPOSE, "dockerd", "debootstrap"):
        if subprocess.run(["which", program], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise pytest.UsageError(f"{program} is missing: run ./dev docker test")
    if not image_tar().exists():
        raise pytest.UsageError(f"no image at {image_tar()}: run ./dev image")
    images.base_tar()  # needs the network, which the next line leaves
    engine_module.enter_namespaces()


def image_tar():
    return pathlib.Path(os.environ.get("REMORA_IMAGE_TAR") or SOURCE / "build/images/remora.tar")


@pytest.fixture(scope="session")
def engine():
    # A short path: a Unix socket's has at most 107 bytes.
    directory = tempfile.mkdtemp(prefix="remora-docker-")
    docker = Engine(directory)
    try:
        yield docker.start()
    finally:
        docker.stop()


@pytest.fixture(scope="session")
def remora_image(engine):
    return images.load_remora(engine, image_tar())


@pytest.fixture(scope="session")
def demo_images(engine, remora_image):
    images.make_all(engine, remora_image)


@pytest.fixture(scope="session")
def network(engine, demo_images):
    """A network in which the name `model` is the model server."""
    engine.run("network", "create", "demo")
    engine.run("run", "--detach", "--name", "model", "--network", "demo", images.AGENT,
               "python3", "model_server.py", "--host", "0.0.0.0", "--port", MODEL_PORT)
    wait_for(lambda: "listening" in engine.logs("model"), "the model server", READY_WAIT_S)
    return "demo"


@pytest.fixture
def note():
    """note(fault, with what, seconds or text, remark): a row of the table at the end."""
    def add(fault, setup, took, remark=""):
        _times.append((fault, setup, f"{took:.2f} s" if isinstance(took, float) else took, remark))
    return add


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its containers wrote."""
    outcome = yield
    report = outcome.get_result()
    docker = getattr(item, "funcargs", {}).get("engine")
    if report.when == "call" and report.failed and docker:
        for name in docker.run("ps", "--all", "--format", "{{.Names}}").split():
            report.sections.append((f"container {name}", docker.logs(name)[-4000:]))


RESULTS = """# Faults in Docker

Written by `./dev docker test --write-results` on {date} ({cpus} cores, Linux {kernel}, dockerd {docker}).
Beside Remora the same agent with Docker alone: `restart: always`, a health check each second, all else at
its defaults. Callers send 20 turns a second; hang windows are 3 s.

"""


def write_results(lines):
    docker = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=True)
    head = RESULTS.format(date=datetime.date.today().isoformat(), cpus=os.cpu_count(),
                          kernel=platform.release(), docker=docker.stdout.split()[2].rstrip(","))
    path = pathlib.Path(__file__).parent / "RESULTS.md"
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter, config):
    if not _times:
        return
    lines = ["| fault | with | the agent answers again after | callers |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _times]
    terminalreporter.section("what each fault took")
    for line in lines:
        terminalreporter.write_line(line)
    if config.getoption("--write-results"):
        write_results(lines)
    out = SOURCE / "build/docker"
    out.mkdir(parents=True, exist_ok=True)
    (out / "times.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "times.json").write_text(json.dumps(_times, indent=1) + "\n", encoding="utf-8")
