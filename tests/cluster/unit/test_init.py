"""init.py as an ordinary process: it starts, restarts, stops and reports."""

import json
import os
import signal
import socket
import subprocess
import sys

import init
import layout
import machine
import pytest
import steps


class Box(machine.Machine):
    """A machine without namespaces."""

    def start(self, with_cgroups=False):
        self.folder.mkdir(parents=True)
        self.where.logs.mkdir(parents=True)
        self.process = subprocess.Popen([sys.executable, "-B", layout.HERE / "init.py",
                                         self.socket_path])
        steps.wait_until("init answers", 10, self.pid)


@pytest.fixture
def box(tmp_path):
    made = Box(layout.Layout(tmp_path), "box")
    made.start()
    yield made
    for service in made.ask(do="list").values():
        if service["pid"]:
            os.kill(service["pid"], signal.SIGKILL)
    made.kill()
    made.process.wait(10)


def pid_of(box, name):
    return box.ask(do="list")[name]["pid"]


def test_who_listens_is_known_by_its_process_id(box):
    assert box.pid() == box.process.pid


def test_a_service_that_ends_is_started_again_and_its_output_kept(box):
    box.start_service("greet", ["sh", "-c", "echo hello $WHO; exec sleep 1000"], WHO="world")
    first = pid_of(box, "greet")
    log = box.where.logs / "box-greet.log"
    steps.wait_until("it has written", 10, lambda: log.read_text() == "hello world\n")
    os.kill(first, signal.SIGKILL)
    steps.wait_until("a second one runs", 10, lambda: pid_of(box, "greet") not in (0, first))
    assert box.ask(do="list")["greet"]["starts"] == 2
    steps.wait_until("it has written too", 10, lambda: log.read_text() == "hello world\n" * 2)


def test_a_stopped_service_stays_down_until_it_is_started(box):
    box.start_service("sleep", ["sleep", "1000"])
    first = pid_of(box, "sleep")
    box.stop_service("sleep")
    assert pid_of(box, "sleep") == 0
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    # Another service's end, and with it a round of init's loop well after the delay, changes nothing.
    box.start_service("brief", ["true"])
    steps.wait_until("the other was restarted", 10, lambda: box.ask(do="list")["brief"]["starts"] > 1)
    assert pid_of(box, "sleep") == 0
    box.start_service("sleep", ["sleep", "1000"])
    assert pid_of(box, "sleep") not in (0, first)


def test_a_program_is_looked_for_in_the_services_own_path(box, tmp_path):
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    box.start_service("ours", ["only-here"], PATH=f"{tmp_path}:/usr/bin:/bin")
    assert pid_of(box, "ours") != 0


def test_a_program_that_is_not_there_is_said_in_its_log(box):
    box.start_service("ghost", ["/no/such/program"])
    assert pid_of(box, "ghost") == 0
    assert "/no/such/program" in (box.where.logs / "box-ghost.log").read_text()


@pytest.mark.parametrize("request_text", [
    "", "\n", "[]\n", "{}\n", '{"do": "dance"}\n', '{"do": "stop", "name": "nobody"}\n',
    '{"do": "start"}\n', "x" * (init.REQUEST_BYTES_MAX + 1), "\xff\n"])
def test_nonsense_is_answered_with_an_error_and_survived(box, request_text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(box.socket_path))
        connection.sendall(request_text.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.recv(65536))
    assert answer["error"]
    assert box.ask(do="list") == {}


def test_a_machine_that_is_off_says_so(tmp_path):
    off = machine.Machine(layout.Layout(tmp_path), "off")
    assert off.pid() == 0
    with pytest.raises(steps.Failure, match="off is off"):
        off.ask(do="list")
    off.kill()
