"""PID 1 of a machine: init.py SOCKET. Starts services, starts them again when they end, reaps every
orphan. Killing it ends whatever runs on the machine, as cutting the power would.

It knows nothing of Kubernetes; it is told what to run over its socket, one JSON object a connection:
  {"do": "start", "name": …, "argv": […], "log": PATH, "environment": {…}}
  {"do": "stop", "name": …}      SIGKILL, and not started again until the next "start"
  {"do": "list"}
and answers with one JSON object: {"services": {NAME: {"pid": …, "starts": …}}} or {"error": …}.
Whoever connects learns this process's id in its own PID namespace from SO_PEERCRED, so nobody
needs a file with a process id that may mean something else by now.
"""

import dataclasses
import json
import os
import select
import shutil
import signal
import socket
import sys
import time

RESTART_DELAY_S = 1.0
REQUEST_BYTES_MAX = 65536
REQUEST_WAIT_S = 5.0
PENDING_CONNECTIONS_MAX = 16


@dataclasses.dataclass
class Service:
    name: str
    argv: list
    log: str
    environment: dict
    pid: int = 0
    starts: int = 0
    wanted: bool = True
    start_at: float = 0.0


class Init:
    def __init__(self, path):
        self.services = {}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(PENDING_CONNECTIONS_MAX)
        # A signal must wake the poll below: its handler does nothing, this pipe does.
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def loop(self):
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._milliseconds_to_next_start()))
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
            self._reap()
            self._start_due()
            if self.listener.fileno() in ready:
                self._serve_one()

    def _due(self):
        return [service for service in self.services.values() if service.wanted and not service.pid]

    def _milliseconds_to_next_start(self):
        waits = [service.start_at - time.monotonic() for service in self._due()]
        return max(0, int(min(waits) * 1000) + 1) if waits else None

    def _start_due(self):
        now = time.monotonic()
        for service in self._due():
            if service.start_at <= now:
                self._spawn(service)

    def _spawn(self, service):
        log = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            environment = {**os.environ, **service.environment}
            # posix_spawnp would search init's own PATH, not the service's.
            program = shutil.which(service.argv[0], path=environment.get("PATH"))
            service.pid = os.posix_spawn(
                program or service.argv[0], service.argv, environment,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                              (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
                # Python ignores SIGPIPE; what it starts must not inherit that.
                setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
            service.starts += 1
        except OSError as error:
            os.write(log, f"init: cannot start {service.argv[0]}: {error}\n".encode())
            service.start_at = time.monotonic() + RESTART_DELAY_S
        finally:
            os.close(log)

    def _reap(self):
        # Bounded by the number of children that have ended.
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    service.pid = 0
                    service.start_at = time.monotonic() + RESTART_DELAY_S

    def _serve_one(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(REQUEST_WAIT_S)
            try:
                answer = self._answer(json.loads(read_line(connection)))
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                pass  # The caller has gone; what it asked for is done.

    def _answer(self, request):
        what = request["do"]
        if what == "start":
            self._start(request)
        elif what == "stop":
            self._stop(self.services[request["name"]])
        elif what != "list":
            raise ValueError(f"unknown request {what}")
        return {"services": {service.name: {"pid": service.pid, "starts": service.starts}
                             for service in self.services.values()}}

    def _start(self, request):
        service = self.services.get(request["name"])
        if service is None:
            service = Service(request["name"], request["argv"], request["log"],
                              request.get("environment", {}))
            self.services[service.name] = service
        service.wanted, service.start_at = True, 0.0
        if not service.pid:
            self._spawn(service)

    def _stop(self, service):
        service.wanted = False
        if service.pid:
            os.kill(service.pid, signal.SIGKILL)
            os.waitpid(service.pid, 0)
            service.pid = 0


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            raise ValueError("the request ended before its line did")
        line += more
        if len(line) > REQUEST_BYTES_MAX:
            raise ValueError(f"a request has at most {REQUEST_BYTES_MAX} bytes")
    return line


if __name__ == "__main__":
    Init(sys.argv[1]).loop()
