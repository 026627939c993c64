"""Fixtures of the tests in network namespaces."""

import os
import shutil

import netns
import pytest

PROGRAMS = ("ip", "nft", "nsenter", "setpriv", "unshare")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than about ten seconds")
    config.addinivalue_line("markers", "root: needs root (network namespaces)")
    for path in (netns.remora(), netns.peer()):
        if not os.access(path, os.X_OK):
            raise pytest.UsageError(f"no program at {path}: build it first")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise pytest.UsageError(f"not installed: {', '.join(missing)}")


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.root)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def namespace():
    made = netns.Namespace()
    yield made
    made.close()


@pytest.fixture
def world():
    """A pod and its outside, with an agent, a sidecar's ports, and servers out there."""
    made = netns.Pod()
    made.pod.serve("serve", 8080, 9090, 15001, 15006, 15020)
    made.outside.serve("serve", 53, 80, 443, 5000, 5005)
    yield made
    made.close()
