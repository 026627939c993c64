"""`remora hold`: the first process of shared namespaces."""

import os
import signal
import subprocess

import pytest
from remora import WAIT_S, binary, wait_for


RT_SIGTIMEDWAIT = ("128", "137")  # x86_64, aarch64


def waits_for_signals(pid):
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        return file.read().split()[0] in RT_SIGTIMEDWAIT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stays_until_it_is_told_to_end(number):
    process = subprocess.Popen([binary(), "hold"], stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: waits_for_signals(process.pid), "it to wait for signals")
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.root
def test_it_collects_orphans():
    """As the first process of a process namespace; the orphan's parent ends at once."""
    script = f"(sleep 0.05 &) ; exec {binary()} hold"
    process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script],
                               stdin=subprocess.DEVNULL)
    try:
        def children(pid):
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                return file.read().split()

        holder = wait_for(lambda: children(process.pid), "the first process")[0]
        wait_for(lambda: os.readlink(f"/proc/{holder}/exe").endswith("remora"), "remora hold")
        wait_for(lambda: not children(holder), "the orphan to be collected")
    finally:
        process.kill()
        process.wait()
