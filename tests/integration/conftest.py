"""Fixtures of the integration tests. Each test has a directory, a store and a Remora of its own;
whatever it started is ended by pid, also when it fails."""

import os
import pathlib
import socket
import threading
import types

import pytest
from remora import Remora, binary


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than about ten seconds")
    config.addinivalue_line("markers", "root: needs root (mounts, cgroups, other users)")
    for path in pathlib.Path(__file__).parent.glob("test_*.py"):
        feature = path.stem.removeprefix("test_")
        config.addinivalue_line("markers", f"{feature}: the tests of {path.name}")
    if not os.access(binary(), os.X_OK):
        raise pytest.UsageError(f"no program at {binary()}: build it or set REMORA_BINARY")


def pytest_collection_modifyitems(items):
    for item in items:
        # The feature that a file is about is also a mark: pytest -m replay.
        feature = item.path.stem.removeprefix("test_")
        item.add_marker(getattr(pytest.mark, feature))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def make_remora(tmp_path):
    made = []

    def make(name="remora"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Remora(directory))
        return made[-1]

    yield make
    for remora in made:
        remora.clean_up()


@pytest.fixture
def remora(make_remora):
    return make_remora()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows Remora's last log lines."""
    outcome = yield
    report = outcome.get_result()
    subject = getattr(item, "funcargs", {}).get("remora")
    if report.when == "call" and report.failed and subject and subject.process:
        report.sections.append(("remora's log", subject.log_text()))


@pytest.fixture
def silent_server():
    """A TCP server that takes connections and bytes and never answers: a dead dependency."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def accept():
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield types.SimpleNamespace(port=listener.getsockname()[1], taken=taken)
    # shutdown wakes the accept that close alone would leave sleeping.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for stream in taken:
        stream.close()
