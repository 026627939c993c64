"""A machine: namespaces of its own with init.py as PID 1. The control machine and each node is one.

Its identity is the listening end of its socket: as long as init lives, SO_PEERCRED tells its process
id, and a pidfd opened from that can't hit another process. Nothing about a machine is remembered
anywhere else, so `down` works after any crash of whatever called `up`.

A node is started inside the control machine's PID and mount namespaces: it finds its disk there, and
when the control machine ends, the kernel ends every node with it.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys

import cgroups
import layout
import steps

START_WAIT_S = 10
END_WAIT_S = 20
ANSWER_WAIT_S = 10
ANSWER_BYTES_MAX = 1 << 20
# Joins the cgroups named as its arguments up to --, then becomes what follows.
JOIN_AND_EXEC = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'


class Machine:
    def __init__(self, where, name, inside=None):
        """inside: the machine in whose PID and mount namespaces this one is started."""
        self.where, self.name, self.inside = where, name, inside
        self.folder = where.machine(name)
        self.cgroup = where.cgroup(name)
        self.socket_path = self.folder / "init.sock"

    # --- life ---------------------------------------------------------------------------------

    def start(self, with_cgroups):
        if self.pid():
            raise steps.Failure(f"{self.name} is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.where.logs.mkdir(parents=True, exist_ok=True)
        self.socket_path.unlink(missing_ok=True)
        argv = self._launch_argv(cgroups.make(self.cgroup) if with_cgroups else [])
        with open(self.where.logs / f"{self.name}-init.log", "ab") as log:
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             start_new_session=True, cwd="/")
        steps.wait_until(f"init of {self.name} answers (see {log.name})", START_WAIT_S, self.pid)

    def _launch_argv(self, joined):
        enter = []
        if self.inside:
            enter = ["nsenter", f"--target={self.inside.pid()}", "--pid", "--mount", "--"]
        return ["sh", "-euc", JOIN_AND_EXEC, "sh", *joined, "--", *enter,
                "unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork",
                "--kill-child", "--mount-proc", "--propagation=private", "--",
                sys.executable, "-B", str(layout.HERE / "init.py"), str(self.socket_path)]

    def kill(self):
        """A power cut: whatever runs on the machine is dead when this returns."""
        pid = self.pid()
        if not pid:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.pid() != pid:  # It ended between the two, and the number was given away.
                return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if not ended.poll(END_WAIT_S * 1000):
                raise steps.Failure(f"{self.name} (pid {pid}) is alive {END_WAIT_S} s after SIGKILL")
        finally:
            os.close(handle)

    def forget(self):
        """After kill: gives back what outlives the processes."""
        cgroups.remove(self.cgroup)
        self.socket_path.unlink(missing_ok=True)

    # --- talking to init ----------------------------------------------------------------------

    def _connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_WAIT_S)
        try:
            connection.connect(str(self.socket_path))
        except OSError:
            connection.close()
            return None
        return connection

    def pid(self):
        """Init's process id as seen from here; 0 when the machine is off."""
        connection = self._connect()
        if not connection:
            return 0
        with connection:
            size = struct.calcsize("3i")
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            # init answers nothing to an empty request but an error, which nobody reads.
            return struct.unpack("3i", peer)[0]

    def ask(self, **request):
        connection = self._connect()
        if not connection:
            raise steps.Failure(f"{self.name} is off")
        with connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            text = b""
            while more := connection.recv(65536):
                text += more
                if len(text) > ANSWER_BYTES_MAX:
                    raise steps.Failure(f"{self.name} answers more than {ANSWER_BYTES_MAX} bytes")
        answer = json.loads(text)
        if "error" in answer:
            raise steps.Failure(f"{self.name} refuses {request}: {answer['error']}")
        return answer["services"]

    def start_service(self, name, argv, **environment):
        self.ask(do="start", name=name, argv=[str(word) for word in argv],
                 log=str(self.where.logs / f"{self.name}-{name}.log"), environment=environment)

    def stop_service(self, name):
        """Ends one service with SIGKILL and keeps it down."""
        self.ask(do="stop", name=name)

    # --- doing something on it ----------------------------------------------------------------

    def enter_argv(self, argv, only_network=False):
        pid = self.pid()
        if not pid:
            raise steps.Failure(f"{self.name} is off")
        spaces = ["--net"] if only_network else ["--mount", "--uts", "--ipc", "--net", "--pid",
                                                 "--cgroup"]
        return ["nsenter", f"--target={pid}", *spaces, "--", *(str(word) for word in argv)]

    def run(self, argv, only_network=False, **more):
        return steps.run(self.enter_argv(argv, only_network), **more)

    def script(self, lines, **more):
        return self.run(["sh", "-eu"], input_text="\n".join(lines) + "\n", **more)
