"""Puts images/ on the path; where the build under test is."""

import os
import pathlib
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "images"))


@pytest.fixture(scope="session")
def source():
    return SOURCE


@pytest.fixture(scope="session")
def build_dir():
    return os.environ.get("REMORA_BUILD") or str(SOURCE / "build/dev")
